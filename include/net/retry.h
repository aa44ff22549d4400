#pragma once

/*
 * When a request is sent again: the standard mode of the AWS SDKs, as a decision. Pure; the random
 * number and the time are the caller's.
 *
 * At most RETRY_ATTEMPTS tries; a quota that failures drain (5, of time-outs 10 of 500 tokens) and
 * successes fill again, so that a server that is down is not asked three times by everybody; a
 * delay of rand(0,1) × min(2^i, 20) s. Throttling (SlowDown, 503, ...) waits at least 1 s × rand,
 * and its own quota is the same. A stampede of many hosts is spread by the same randomness.
 *
 * Source: botocore retries/standard.py and quota.py; SDK reference guide, "Retry behavior".
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/time.h"

#define RETRY_ATTEMPTS 3

typedef enum RetryClass {
        RETRY_NEVER,     /* an answer: success, or a failure that stays one */
        RETRY_TRANSIENT, /* 500 502 504, RequestTimeout, a cut connection */
        RETRY_TIMEOUT,   /* no answer in time, no connection */
        RETRY_THROTTLE,  /* SlowDown, 503, Throttling..., RequestLimitExceeded, ... */
        RETRY_SKEW, /* RequestTimeTooSkewed, or a signature refused while the clocks differ: correct
                       the clock, at once, once */
        RETRY_CREDENTIALS, /* ExpiredToken, InvalidToken, ...: fresh credentials, at once, once */
        RETRY_REGION,      /* 301, 307, 400 with another region: once */
        _RETRY_CLASS_MAX,
} RetryClass;

/* r: of http_send()'s end; status and code of the answer where r is 0 (code may be NULL).
 * skew_usec: how far the answer's Date is from the clock that signed. */
RetryClass retry_classify(int r, unsigned status, const char *code, int64_t skew_usec);

typedef struct RetryQuota {
        unsigned tokens; /* of RETRY_TOKENS */
} RetryQuota;
#define RETRY_TOKENS 500

/* One request's memory; zero to begin with. */
typedef struct RetryState {
        unsigned n_tried; /* tries that failed so far */
        unsigned n_spent; /* tokens */
        bool skew_done, credentials_done, region_done;
} RetryState;

/* After a failed try: true, with the delay, where it is sent again. random: any 32 bits. */
bool retry_decide(RetryState *state, RetryQuota *quota, RetryClass why, uint32_t random,
                  usec_t *ret_delay_usec);

/* After a success: what it spent comes back, one at least. */
void retry_succeeded(RetryState *state, RetryQuota *quota);
