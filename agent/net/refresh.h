#pragma once

/*
 * When credentials are asked for again, as a decision. Pure: times and chance are given. Private to
 * credentials.c.
 *
 * now_usec is REALTIME by the server's clock, what ends; boot_usec is BOOTTIME, what waits.
 */

#include <stdbool.h>

#include "base/backoff.h"
#include "base/time.h"

#define REFRESH_EARLY_USEC   SEC(15 * 60) /* behind the callers' back from here on ... */
#define REFRESH_LATE_USEC    SEC(10 * 60) /* ... and with callers waiting from here on */
#define REFRESH_SPREAD_USEC  SEC(3 * 60)  /* chance takes up to this off the early one */
#define REFRESH_REFUSED_USEC SEC(10) /* least time between two that a server's refusal begins */

/* Begin as {}; all of it belongs to the functions here. */
typedef struct Refresh {
        bool have;
        bool given_expired; /* the source itself handed them out so */
        bool refused;
        usec_t ends_usec;
        usec_t early_usec;
        usec_t not_before_usec; /* BOOTTIME, after a failure or where asking brought nothing newer
                                 */
        usec_t refused_not_before_usec; /* BOOTTIME */
        Backoff pause;
} Refresh;

typedef enum RefreshAnswer {
        REFRESH_KEEP,   /* what there is, credentials or a failure, is the answer */
        REFRESH_BEHIND, /* ask, and answer with what there is */
        REFRESH_WAIT,   /* ask, and answer when that has ended */
} RefreshAnswer;
RefreshAnswer refresh_decide(const Refresh *refresh, usec_t now_usec, usec_t boot_usec);

/* May they be handed out? Those that ended may not, unless their source says that they are the
 * newest that there are. */
bool refresh_is_usable(const Refresh *refresh, usec_t now_usec);

/* A source is being asked; it gave some; it failed. */
void refresh_began(Refresh *refresh, usec_t boot_usec);
void refresh_obtained(Refresh *refresh, usec_t ends_usec, usec_t now_usec, usec_t boot_usec,
                      uint32_t random);
void refresh_failed(Refresh *refresh, usec_t boot_usec, uint32_t random);
