#pragma once

/*
 * Growing waits after failures, and a limit on how often something may happen. Both are plain
 * values that the caller embeds, and pure: time and chance are given.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/time.h"

typedef struct Backoff {
        usec_t base_usec; /* the first wait */
        usec_t max_usec;  /* the ceiling */
        unsigned n;       /* failures in a row */
} Backoff;

/* The next wait: base * 2^n capped at max, then spread over [0.5, 1.0] of that by random (any 32
 * bits). Counts the failure. */
usec_t backoff_next(Backoff *backoff, uint32_t random);

/* 32 random bits from the kernel, for spreading waits and choosing lanes; 0 where there are none
 * yet. */
uint32_t backoff_chance(void);

/* After a success. */
void backoff_reset(Backoff *backoff);

/* At most `burst` events in any `interval_usec` (counted from the first of a burst). */
typedef struct RateLimit {
        usec_t interval_usec;
        unsigned burst;
        usec_t begin_usec;
        unsigned n;
} RateLimit;

/* True: it may happen, and is counted. False: too often. */
bool ratelimit_pass(RateLimit *limit, usec_t now);
