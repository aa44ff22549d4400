#pragma once

/*
 * One request to the bucket, with all that it takes: credentials, signature, deadlines, retries,
 * clock, region. Private to agent/net/: the store's five calls (s3.c) and transfers (transfer.c)
 * are made of these. At most LIMIT_S3_CALLS are under way at once; the others wait for their turn.
 */

#include "loop/http.h"
#include "net/retry.h"
#include "net/s3.h"
#include "net/xml.h"

typedef struct S3Call S3Call;

/* r: 0 with an answer of 2xx or 304; S3_* below with the answer; negative with words: -EACCES 403
 * and credentials, -ENOENT no such bucket, -EINVAL what the server refuses for good, -ERANGE 416,
 * -EAGAIN it asks for patience (503), -EREMOTEIO 500 and the like, -EFBIG more bytes than allowed,
 * -EOPNOTSUPP 501, -EDQUOT, and those of http_send(). Everything is borrowed. */
typedef struct S3Answer {
        HttpReply *reply;      /* NULL where r < 0 and there was none */
        const XmlError *error; /* the error document, or NULL */
        const char *etag;      /* without quotes, or NULL */
        usec_t date_usec;      /* of its Date; 0: none */
        usec_t modified_usec;  /* of its Last-Modified; 0: none */
} S3Answer;
#define S3_ABSENT  1 /* 404, but not of the bucket */
#define S3_REFUSED 2 /* 409, 412 */
typedef void (*S3Done)(void *userdata, int r, const S3Answer *answer, Error *err);

typedef struct S3Request {
        const char *method;
        const char *key;      /* below the store's prefix; NULL: the bucket itself */
        char *const *query;   /* "name=value", not encoded yet; values after the first '=' */
        char *const *headers; /* beside those of signing */
        const char *etag;     /* If-Match, in the form that the server wants; NULL: none */
        bool bare_etag;       /* bare, to see whether that is the form */
        bool if_absent;       /* If-None-Match: * */
        const void *body;     /* copied */
        size_t body_bytes;
        const HttpFile *body_file; /* in place of body; its descriptor is borrowed until the end */
        const char *
                payload; /* digest of body_file's bytes, NULL: unsigned (over TLS) or hashed here */
        const HttpFile *answer_file; /* where a body of status 200 or 206 goes */
        size_t max_bytes;            /* of an answer in memory */
        bool once; /* not tried again once its bytes may have reached the server, but
                      for an answer that says that it had no effect */
        usec_t stall_usec, total_usec; /* 0: defaults of a small document */
        void (*on_bytes)(void *userdata,
                         uint64_t n_bytes); /* may be NULL: more bytes came or went, in this try */
        void (*on_again)(void *userdata); /* may be NULL: a try failed, and another one begins from
                                             the start; may not cancel */
        S3Done on_done;
        void *userdata;
} S3Request;

/* done() comes once, from the loop, never from within. -ENAMETOOLONG: key and prefix are more than
 * S3 takes. */
int s3_send(S3 *s3, const S3Request *request, S3Call **ret, Error **reterr);
S3Call *s3_cancel(S3Call *call); /* takes NULL, returns NULL */

/* True: no conditional write has shown yet which form of ETag the server wants. */
bool s3_etag_is_unknown(const S3 *s3);

/* For transfers: what they need of the store. */
sd_event *s3_loop(S3 *s3);
const char *s3_url(const S3 *s3);
const char *s3_prefix(const S3 *s3); /* of the store in the bucket: "" or "a/b" */
