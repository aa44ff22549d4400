#include "net/refresh.h"

/* After an answer that brought nothing newer. IMDS has the next ones five minutes before the end of
 * the last at the latest, so between ten and five minutes it may repeat itself. */
#define AGAIN_USEC SEC(30)

/* Those that ended were handed out: the service cannot make any. */
#define STABLE_USEC SEC(10 * 60)

#define PAUSE_USEC     SEC(1)
#define PAUSE_MAX_USEC SEC(30)

static usec_t left_usec(const Refresh *r, usec_t now_usec) {
        if (r->ends_usec == USEC_INFINITY)
                return USEC_INFINITY;
        return r->ends_usec > now_usec ? r->ends_usec - now_usec : 0;
}

/* A part of span: random / 2^32. */
static usec_t part_of(usec_t span, uint32_t random) {
        return (usec_t) (((unsigned __int128) span * random) >> 32);
}

RefreshAnswer refresh_decide(const Refresh *r, usec_t now_usec, usec_t boot_usec) {
        usec_t left = left_usec(r, now_usec);

        if (!r->have)
                return boot_usec < r->not_before_usec ? REFRESH_KEEP : REFRESH_WAIT;
        if (r->refused && boot_usec >= r->refused_not_before_usec)
                return REFRESH_WAIT;
        if (left > r->early_usec || boot_usec < r->not_before_usec)
                return REFRESH_KEEP;
        return left > REFRESH_LATE_USEC ? REFRESH_BEHIND : REFRESH_WAIT;
}

bool refresh_is_usable(const Refresh *r, usec_t now_usec) {
        return r->have && (r->given_expired || left_usec(r, now_usec) > 0);
}

void refresh_began(Refresh *r, usec_t boot_usec) {
        if (r->refused)
                r->refused_not_before_usec = boot_usec + REFRESH_REFUSED_USEC;
}

void refresh_obtained(Refresh *r, usec_t ends_usec, usec_t now_usec, usec_t boot_usec,
                      uint32_t random) {
        usec_t left;

        r->have = true;
        r->refused = false;
        r->ends_usec = ends_usec;
        r->early_usec = REFRESH_EARLY_USEC - part_of(REFRESH_SPREAD_USEC, random);
        r->pause = (Backoff){ .base_usec = PAUSE_USEC, .max_usec = PAUSE_MAX_USEC };

        left = left_usec(r, now_usec);
        r->given_expired = left == 0;
        r->not_before_usec = boot_usec;
        if (r->given_expired)
                r->not_before_usec += STABLE_USEC + part_of(STABLE_USEC, random);
        else if (left <= REFRESH_EARLY_USEC)
                r->not_before_usec += AGAIN_USEC + part_of(AGAIN_USEC, random);
}

void refresh_failed(Refresh *r, usec_t boot_usec, uint32_t random) {
        if (r->pause.base_usec == 0)
                r->pause = (Backoff){ .base_usec = PAUSE_USEC, .max_usec = PAUSE_MAX_USEC };
        r->not_before_usec = boot_usec + backoff_next(&r->pause, random);
}
