#pragma once

/*
 * The store in an S3 bucket: store/store.h on HTTP, in tendril-net. The same suite of tests as the
 * file store.
 *
 * Conditions: If-None-Match: *, If-Match. ETags are kept without their quotes; whether the server
 * wants them quoted (S3) or bare (Ceph RGW 16) is learned: where a quoted one is refused though a
 * HEAD shows that it is right, the write is repeated bare, and from then on all are.
 * 412 and 409 are STORE_REFUSED; 404 of a write with If-Match too (its object is gone). A write is
 * tried again only before it can have had an effect, or where it is unconditional; a conditional
 * one whose reply was lost ends with the error of the loss (store_put_document() reads back).
 * The age of a document is Date minus Last-Modified of the same answer, both the server's.
 *
 * A get of more than LIMIT_DOCUMENT_BYTES is -EFBIG. fetch and large puts: net/transfer.h.
 *
 * 301, 307 and 400 with another region are followed by signing for that region, once, and
 * remembered. 403 names the permission that is likely missing (without ListBucket a missing key
 * answers 403 too).
 */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/json.h"
#include "net/credentials.h"
#include "net/endpoint.h"
#include "store/store.h"

typedef struct S3 S3;

typedef struct S3Spec {
        sd_event *loop;
        HttpClient *http; /* borrowed, as all here */
        CredentialChain *chain;
        const Clock *clock;    /* NULL: the real ones */
        const char *url;       /* "s3://bucket/prefix"; copied */
        EndpointSpec endpoint; /* copied */
} S3Spec;

int s3_new(const S3Spec *spec, S3 **ret, Error **reterr);
S3 *s3_free(S3 *s3);
DEFINE_CLEANUP(S3, s3_free);

/* The store; it consumes s3 on success. s3 stays usable for s3_status() as long as the store is. */
int store_s3_new(S3 *s3, Store **ret, Error **reterr);

/* For status and `explain`. Strings are the struct's. */
typedef struct S3Status {
        char *endpoint; /* "https://bucket.s3.eu-west-1.amazonaws.com" */
        char *region;
        char *etag_form;   /* "quoted", "bare", "unknown" (no conditional write yet) */
        int64_t skew_usec; /* server's clock minus own; 0 where none was seen. Not in the table */
        char *clock; /* "this host's clock is 20 min ahead of the server's"; NULL: it is not */
        uint64_t n_requests, n_retries, n_throttled;
        char *error;  /* last failure in words, or NULL */
        char *failed; /* RFC 3339: when */
} S3Status;
extern const JsonTable s3_status_table;
int s3_status(const S3 *s3, S3Status *ret);
