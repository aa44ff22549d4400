#pragma once

/*
 * The store in a bucket, as its requests share it: where it is, what was learned of the server, the
 * quota of retries. Private to s3state.c (its life, and what it learns) and s3call.c (the
 * requests).
 */

#include "net/endpoint.h"
#include "net/retry.h"
#include "net/s3call.h"
#include "net/sign.h"

typedef enum EtagForm {
        ETAG_UNKNOWN,
        ETAG_QUOTED,
        ETAG_BARE,
} EtagForm;

struct S3 {
        sd_event *loop;
        HttpClient *http;
        CredentialChain *chain;
        const Clock *clock;
        char *url;
        S3Location at;
        EndpointSpec spec; /* its strings belong to the S3 */
        Endpoint endpoint;
        Signer *signer;
        RetryQuota quota;
        EtagForm etag_form;
        int64_t skew_usec;    /* the server's clock minus ours, whole seconds */
        int64_t applied_usec; /* to signatures */
        uint64_t n_requests, n_retries, n_throttled;
        char *error;
        usec_t failed_usec;
        S3Call *calls; /* oldest first */
        unsigned n_running;
};

/* Of an answer's Date; 0: it had none. */
void s3_note_clock(S3 *s3, usec_t date_usec);

/* The server's clock minus another, in whole seconds: a Date has no more. */
int64_t s3_clock_difference(usec_t server_usec, usec_t own_usec);

/* Signs for where the bucket is from now on; false: that is no region, or cannot be. Never into
 * another partition: neither the credentials nor the trust reach there. */
bool s3_move_to(S3 *s3, const char *region);

/* "bucket.s3.eu-west-1.amazonaws.com", "s3-eu-west-1.amazonaws.com" → the last label that is a
 * region; the caller frees. NULL: none. */
char *s3_region_of_host(const char *host);

/* For status: what failed last. */
void s3_note_failure(S3 *s3, const Error *err);

/* Strings that belong to a struct that otherwise borrows them. */
int s3_dup_string(const char *text, const char **ret);
void s3_free_const(const void *p);
