#pragma once

/*
 * What an answer of S3 that is a failure means for people: which permission, which setting, which
 * clock. Pure. Private to agent/net/.
 *
 * Source: AmazonS3 API reference, "Error responses"; user guide, "Troubleshoot access denied".
 */

#include "net/xml.h"

typedef struct S3Failure {
        unsigned status;
        const XmlError *error; /* NULL: there was no error document */
        const char *method;
        const char *bucket;
        const char *region;          /* that was signed for */
        const char *answered_region; /* that the server names, or NULL */
        bool on_bucket;              /* the bucket itself was asked, not an object */
        bool is_conditional;
        int64_t skew_usec; /* the server's clock minus that which signed */
        unsigned n_tried;
} S3Failure;

/* A negative errno as of s3_send(), with words that begin with the status. */
int s3_explain(const S3Failure *failure, Error **reterr);
