#pragma once

/*
 * One lane: the lease of a place to be out of service in, with the counters of its holders. Pure
 * decisions over what was read from the store; who calls reads, writes by compare-and-swap on the
 * ETag, and keeps the clocks. The number of lanes does not matter here.
 *
 * The rule that makes it safe: no host's wall clock is compared with another's. The holder counts
 * on its own BOOTTIME from the START of its last good write and stops at LANE_ACT_USEC; the others
 * take over when the document has not changed for LANE_TTL_USEC + LANE_MARGIN_USEC by the store's
 * clock. The former is shorter, and both run from the same write, so that only the rates of two
 * clocks matter.
 *
 * The rule that keeps an outage of the store from looking like the death of all holders: a waiter
 * must itself have read the same ETag twice, LANE_READS_USEC apart, with no failed read between.
 * Whoever lives renews in that time.
 *
 * Life of a holding: lane_decide() says take → lane_next(…, LANE_WRITE_TAKE) → written → each
 * LANE_RENEW_USEC lane_next(…, LANE_WRITE_RENEW) → lane_next(…, LANE_WRITE_DONE, _FAILED,
 * _GIVE_BACK or _LEAVE). A lane is never deleted: its epoch must go on growing.
 */

#include <stdbool.h>

#include "base/error.h"
#include "base/time.h"
#include "store/document.h"

/* clang-format off */
#define LANE_TTL_USEC    SEC(60)
#define LANE_MARGIN_USEC SEC(10)
#define LANE_RENEW_USEC  SEC(20)
#define LANE_ACT_USEC    SEC(45)
#define LANE_READS_USEC  SEC(25)
#define LANE_GAP_USEC    SEC(90) /* reads further apart are not one run: the slowest poll is 60 s */
#define LANE_OLD_USEC    SEC(50) /* a lane unchanged for this long is read again at the next poll */
/* clang-format on */

/* Our own reads of one lane in a row. All zero: none. */
typedef struct LaneSeen {
        usec_t first_usec; /* BOOTTIME: the first that gave the present ETag */
        usec_t last_usec;  /* BOOTTIME: the last */
        unsigned n;
} LaneSeen;

/* After a good read; same: its ETag is that of the read before (a read of an absent lane ends the
 * run: lane_seen_failed()). */
void lane_seen_read(LaneSeen *seen, bool same, usec_t now);

/* After a read that failed, or was never answered. */
void lane_seen_failed(LaneSeen *seen);

typedef enum LaneDecision {
        LANE_TAKE_ABSENT = 1, /* write it if absent */
        LANE_TAKE_FREE,       /* released or left: write it if it still has this ETag */
        LANE_TAKE_OVER,       /* its holder is lost: the same */
        LANE_WAIT,            /* somebody holds it */
        LANE_MINE,            /* this host holds it, by the same holding as its nonce says */
} LaneDecision;

/*
 * doc: what stands there, or NULL: absent. age_usec: since its last change by the store's clock, at
 * the last read; USEC_INFINITY: unknown, then the spread of our own reads counts instead. self:
 * this host's id. nonce: of any write of the holding that this host believes to have, or NULL. The
 * same id with another nonce is another (a clone, or a life whose state is lost).
 */
LaneDecision lane_decide(const LaneDocument *doc, const LaneSeen *seen, usec_t age_usec,
                         const char *self, const char *nonce);

/* How much longer this lane cannot be taken over, as far as can be known now; 0: it may be tried.
 * For words and timers. */
usec_t lane_wait_usec(const LaneDocument *doc, const LaneSeen *seen, usec_t age_usec);

/* The holder's own rule: may it begin something that cannot be undone? write_usec: BOOTTIME at the
 * START of its last good write; 0: it never wrote. */
bool lane_may_act(usec_t write_usec, usec_t now);

/* When the next renewal is due, BOOTTIME; and whether it is. */
usec_t lane_renew_at(usec_t write_usec);
bool lane_renew_due(usec_t write_usec, usec_t now);

/* True: both nonces are of one holding. Each write has a nonce of its own, whose first
 * LANE_HOLD_DIGITS digits stay the same from take to release; so a host that remembers the nonce of
 * its take knows its lane again, and every attempt to write can still be told from every other. */
bool lane_same_holding(const char *nonce, const char *other);
#define LANE_HOLD_DIGITS 16

typedef enum LaneWrite {
        LANE_WRITE_TAKE, /* after LANE_TAKE_ABSENT, _FREE, _OVER */
        LANE_WRITE_RENEW,
        LANE_WRITE_DONE,      /* released, one more host done */
        LANE_WRITE_FAILED,    /* released, one more host failed */
        LANE_WRITE_GIVE_BACK, /* released, nothing counted */
        LANE_WRITE_LEAVE,     /* this host goes away */
} LaneWrite;

typedef struct LaneChange {
        LaneWrite write;
        LaneDecision decision; /* LANE_WRITE_TAKE only: which of the three */
        const char *self;
        const char *fresh; /* document_nonce(): 32 digits, never used before, a repeated attempt
                              included */
        const char *step;  /* stage of the deploy, or NULL */
        uint64_t revision;
} LaneChange;

/*
 * Fills the document to write (*ret all zero before; json_table_done(&lane_document_table)). doc:
 * what stands there now, NULL only with LANE_TAKE_ABSENT. Taking makes the epoch grow by one,
 * everything else keeps it. A take-over counts one lost host. -ESTALE: not LANE_WRITE_TAKE, and
 * what stands there is not held by self; -EOVERFLOW: its epoch cannot grow; -ENOMEM.
 */
int lane_next(const LaneDocument *doc, const LaneChange *change, LaneDocument *ret);
