#include "base/backoff.h"

#include <sys/random.h>

#include <limits.h>

/* base * 2^n, stopping at the ceiling before it can overflow. */
static usec_t doubled(const Backoff *backoff) {
        usec_t wait = backoff->base_usec;
        unsigned i;

        for (i = 0; i < backoff->n && wait > 0 && wait < backoff->max_usec; i++)
                wait = wait > backoff->max_usec / 2 ? backoff->max_usec : wait * 2;
        return wait < backoff->max_usec ? wait : backoff->max_usec;
}

usec_t backoff_next(Backoff *backoff, uint32_t random) {
        usec_t wait = doubled(backoff), half = wait - wait / 2;

        if (backoff->n < UINT_MAX)
                backoff->n++;

        /* wait/2 * random/2^32 in two parts, so that no product is larger than 64 bits. */
        return half + ((wait / 2) >> 32) * random + (((wait / 2) & UINT32_MAX) * random >> 32);
}

void backoff_reset(Backoff *backoff) {
        backoff->n = 0;
}

bool ratelimit_pass(RateLimit *limit, usec_t now) {
        /* A clock that went back begins a new interval: else nothing would pass until it has caught
         * up. */
        if (limit->n == 0 || now < limit->begin_usec ||
            now - limit->begin_usec >= limit->interval_usec) {
                limit->begin_usec = now;
                limit->n = 0;
        }
        if (limit->n >= limit->burst)
                return false;

        limit->n++;
        return true;
}

uint32_t backoff_chance(void) {
        uint32_t n;

        return getrandom(&n, sizeof(n), GRND_NONBLOCK) == (ssize_t) sizeof(n) ? n : 0;
}
