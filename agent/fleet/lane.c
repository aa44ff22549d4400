#include "fleet/lane.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "agent/contract.h"
#include "base/str.h"

/* JSON numbers of others are exact up to here. */
#define EPOCH_MAX ((UINT64_C(1) << 53) - 1)

/* ---- what we have seen ---- */

void lane_seen_read(LaneSeen *seen, bool same, usec_t now) {
        assert(seen);

        if (seen->n == 0 || !same || now < seen->last_usec || now - seen->last_usec > LANE_GAP_USEC)
                *seen = (LaneSeen){ .first_usec = now };

        seen->last_usec = now;
        seen->n++;
}

void lane_seen_failed(LaneSeen *seen) {
        assert(seen);

        *seen = (LaneSeen){ 0 };
}

static usec_t seen_spread(const LaneSeen *seen) {
        return seen->n < 2 ? 0 : seen->last_usec - seen->first_usec;
}

/* ---- deciding ---- */

static usec_t missing(usec_t wanted, usec_t is) {
        return is < wanted ? wanted - is : 0;
}

usec_t lane_wait_usec(const LaneDocument *doc, const LaneSeen *seen, usec_t age_usec) {
        usec_t spread, age;

        assert(seen);

        if (!doc || doc->state != LANE_HELD)
                return 0;

        /* Without a clock of the store's our own reads must cover the whole time. */
        spread = seen_spread(seen);
        age = age_usec == USEC_INFINITY ? spread : age_usec;
        return MAX(missing(LANE_TTL_USEC + LANE_MARGIN_USEC, age),
                   missing(LANE_READS_USEC, spread));
}

LaneDecision lane_decide(const LaneDocument *doc, const LaneSeen *seen, usec_t age_usec,
                         const char *self, const char *nonce) {
        assert(seen);
        assert(self);

        if (!doc)
                return LANE_TAKE_ABSENT;
        if (doc->state != LANE_HELD)
                return LANE_TAKE_FREE;
        if (str_equal(doc->holder, self) && lane_same_holding(doc->nonce, nonce))
                return LANE_MINE;
        return lane_wait_usec(doc, seen, age_usec) == 0 ? LANE_TAKE_OVER : LANE_WAIT;
}

/* ---- the holder's own clock ---- */

bool lane_may_act(usec_t write_usec, usec_t now) {
        return write_usec > 0 && now >= write_usec && now - write_usec < LANE_ACT_USEC;
}

usec_t lane_renew_at(usec_t write_usec) {
        return write_usec + LANE_RENEW_USEC;
}

bool lane_renew_due(usec_t write_usec, usec_t now) {
        return now >= lane_renew_at(write_usec);
}

/* ---- writing ---- */

bool lane_same_holding(const char *nonce, const char *other) {
        return nonce && other && strnlen(nonce, LANE_HOLD_DIGITS) == LANE_HOLD_DIGITS &&
               strncmp(nonce, other, LANE_HOLD_DIGITS) == 0;
}

/* A holding's first digits, and the rest of a fresh nonce. */
static char *nonce_of_holding(const char *holding, const char *fresh) {
        return str_format("%.*s%s", LANE_HOLD_DIGITS, holding,
                          strnlen(fresh, LANE_HOLD_DIGITS) == LANE_HOLD_DIGITS
                                  ? fresh + LANE_HOLD_DIGITS
                                  : fresh);
}

static int next_strings(const LaneDocument *doc, const LaneChange *change, LaneDocument *ret) {
        if (change->write == LANE_WRITE_TAKE)
                ret->nonce = strdup(change->fresh);
        else
                ret->nonce = nonce_of_holding(doc->nonce, change->fresh);

        ret->holder = strdup(change->self);
        ret->step = change->step ? strdup(change->step) : NULL;
        return ret->nonce && ret->holder && (ret->step || !change->step) ? 0 : -ENOMEM;
}

static void next_counters(const LaneDocument *doc, const LaneChange *change, LaneDocument *ret) {
        bool take = change->write == LANE_WRITE_TAKE;

        if (doc) {
                ret->epoch = doc->epoch;
                ret->done = doc->done;
                ret->failed = doc->failed;
                ret->lost = doc->lost;
        }
        ret->epoch += take ? 1 : 0;
        ret->lost += take && change->decision == LANE_TAKE_OVER ? 1 : 0;
        ret->done += change->write == LANE_WRITE_DONE ? 1 : 0;
        ret->failed += change->write == LANE_WRITE_FAILED ? 1 : 0;
}

static LaneState next_state(LaneWrite write) {
        switch (write) {
        case LANE_WRITE_TAKE:
        case LANE_WRITE_RENEW:
                return LANE_HELD;
        case LANE_WRITE_DONE:
        case LANE_WRITE_FAILED:
        case LANE_WRITE_GIVE_BACK:
                return LANE_RELEASED;
        case LANE_WRITE_LEAVE:
                return LANE_LEFT;
        default:
                return LANE_RELEASED;
        }
}

int lane_next(const LaneDocument *doc, const LaneChange *change, LaneDocument *ret) {
        int r;

        assert(change);
        assert(change->self);
        assert(change->fresh);
        assert(doc || (change->write == LANE_WRITE_TAKE && change->decision == LANE_TAKE_ABSENT));

        if (change->write != LANE_WRITE_TAKE &&
            (doc->state != LANE_HELD || !str_equal(doc->holder, change->self) || !doc->nonce))
                return -ESTALE;
        if (change->write == LANE_WRITE_TAKE && doc && doc->epoch >= EPOCH_MAX)
                return -EOVERFLOW;

        ret->format = FORMAT_DOCUMENT;
        ret->revision = change->revision;
        ret->state = next_state(change->write);
        next_counters(doc, change, ret);
        r = next_strings(doc, change, ret);
        if (r < 0)
                json_table_done(&lane_document_table, ret);
        return r;
}
