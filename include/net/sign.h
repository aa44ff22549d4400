#pragma once

/*
 * Signature Version 4, by header and by presigned query, and the percent-encoding that it signs.
 * libcurl's own signer is not used: its versions in the field differ in what they encode, and none
 * can correct a clock.
 *
 * What is signed is exactly what must be sent: the path and the query are encoded once, here, and
 * go into the URL as they are.
 *
 * Pure but for the memory of one derived key (per secret, day, region, service), which is wiped
 * when another takes its place and at the end.
 *
 * Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html, for
 * S3 docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html and
 * sigv4-query-string-auth.html.
 */

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/time.h"
#include "net/credentials.h"

/* In place of the digest of a body that is not hashed before it is sent (TLS or a digest of the
 * document guards it). */
#define SIGN_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"

/* SHA-256 of nothing. */
#define SIGN_EMPTY_PAYLOAD "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* Longest validity of a presigned URL. */
#define SIGN_PRESIGN_MAX_USEC SEC(7 * 24 * 3600)

typedef struct Signer Signer;
Signer *signer_new(void); /* NULL: no memory */
Signer *signer_free(Signer *signer);
DEFINE_CLEANUP(Signer, signer_free);

/* Everything is borrowed. Refused as headers are host, the signer's own, those that curl may add,
 * change or drop (accept, user-agent, expect, content-length, ...), and one without a value, which
 * curl does not send. */
typedef struct SignRequest {
        const char *method;
        const char *host; /* as it is sent: "bucket.s3.eu-west-1.amazonaws.com", "127.0.0.1:7480" */
        const char *path; /* encoded by sign_encode(), begins with '/' */
        char *const *query;   /* encoded "name=value" each, in any order; NULL: none */
        char *const *headers; /* "Name: value", those that are to be signed; NULL: none */
        const char *payload;  /* hexadecimal SHA-256 of the body, or SIGN_UNSIGNED_PAYLOAD */
        const char *region;
        const char *service; /* "s3", "sts", "logs", ...; other paths than S3's are normalised and
                                encoded a second time for the signature, as the rules want */
        const Credentials *credentials;
        usec_t now_usec; /* REALTIME, by the server's clock (skew corrected) */
} SignRequest;

/* Appends to *headers what the request needs beside its own: x-amz-date, x-amz-content-sha256 (s3),
 * x-amz-security-token (with a token), Authorization. *headers may be request->headers. -ENOMEM;
 * -E2BIG; -EINVAL with words: a header that cannot be sent or is not to be signed, a path that is
 * not encoded or does not begin with '/', a region that is no name. */
int sign_headers(Signer *signer, const SignRequest *request, char ***headers, Error **reterr);

/* The query of a presigned URL ("X-Amz-Algorithm=...&...&X-Amz-Signature=..."), the request's own
 * query included, appended to ret. valid_usec: 1 s to SIGN_PRESIGN_MAX_USEC. request->headers are
 * those that whoever uses the URL must send. S3's body is never covered, whatever payload says. */
int sign_query(Signer *signer, const SignRequest *request, usec_t valid_usec, Buf *ret,
               Error **reterr);

/* Appends text with all but A-Za-z0-9-_.~ as %XX; keep_slash: '/' stays too (paths). */
int sign_encode(const char *text, bool keep_slash, Buf *ret);

/* Appends the query as it must be sent: sorted by name, then value, joined by '&'. */
int sign_join_query(char *const *query, Buf *ret);
