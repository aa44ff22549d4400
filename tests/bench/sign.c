/*
 * What one signature of a typical request to S3 costs: the range of an object, pinned by its ETag,
 * with a role's token, 1.2 kB of headers in all, the key derived before. The median of many rounds.
 *
 * Prints the figure's line: NAME <tab> value <tab> unit <tab> ratio <tab> against what. The ratio
 * is of the limit to the value: 1 or more is within.
 */

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "net/sign.h"

#define LIMIT_US    25.0
#define ROUNDS      41
#define PER_ROUND   500
#define TOKEN_BYTES 1000

/* Microseconds of the processor's time: what else runs is not the signer's. */
static double sign_round(Signer *signer, const SignRequest *request) {
        usec_t began = clock_read(NULL, CLOCK_PROCESS_CPUTIME_ID);

        for (int i = 0; i < PER_ROUND; i++) {
                _cleanup_(strv_freep) char **headers = NULL;

                if (sign_headers(signer, request, &headers, NULL) < 0)
                        errx(1, "it was not signed");
        }
        return (double) (clock_read(NULL, CLOCK_PROCESS_CPUTIME_ID) - began) / PER_ROUND;
}

static int compare(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;

        return (x > y) - (x < y);
}

static double median(Signer *signer, const SignRequest *request) {
        double rounds[ROUNDS];

        (void) sign_round(signer, request);
        for (size_t i = 0; i < ROUNDS; i++)
                rounds[i] = sign_round(signer, request);
        qsort(rounds, ROUNDS, sizeof(double), compare);
        return rounds[ROUNDS / 2];
}

int main(void) {
        _cleanup_(signer_freep) Signer *signer = signer_new();
        char id[] = "ASIAIOSFODNN7EXAMPLE", secret[] = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        char token[TOKEN_BYTES + 1] = "";
        char range[] = "Range: bytes=8388608-16777215";
        char match[] = "If-Match: \"d41d8cd98f00b204e9800998ecf8427e-64\"";
        char *headers[] = { range, match, NULL };
        Credentials credentials = { id, secret, token, USEC_INFINITY };
        SignRequest request = {
                .method = "GET",
                .host = "a-bucket-of-acme.s3.eu-west-1.amazonaws.com",
                .path = "/shop/applications/shop/versions/v2026.11.24-1/bundle.zip",
                .headers = headers,
                .payload = SIGN_EMPTY_PAYLOAD,
                .region = "eu-west-1",
                .service = "s3",
                .credentials = &credentials,
                .now_usec = SEC(1790000000),
        };
        double us;

        memset(token, 'T', TOKEN_BYTES);
        us = median(signer, &request);
        (void) printf("sign_us\t%.1f\tus\t%.2f\t%.0f us a signature of S3 with a token (at least "
                      "1)\n",
                      us, LIMIT_US / us, LIMIT_US);
        return 0;
}
