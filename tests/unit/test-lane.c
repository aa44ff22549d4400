#include "fleet/lane.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"

#define NONCE_A "aaaaaaaaaaaaaaaa0000000000000001"
#define NONCE_B "bbbbbbbbbbbbbbbb0000000000000002"
#define FRESH   "cccccccccccccccc0000000000000003"

static char holder_a[] = "host-a";
static char nonce_a[] = NONCE_A;
static char step_gate[] = "gate";

static LaneDocument held_by_a(void) {
        return (LaneDocument){
                .format = 1,
                .revision = 7,
                .nonce = nonce_a,
                .epoch = 4,
                .state = LANE_HELD,
                .holder = holder_a,
                .step = step_gate,
                .done = 2,
                .failed = 1,
                .lost = 1,
        };
}

static LaneSeen seen(usec_t spread_usec, unsigned n) {
        return (LaneSeen){ .first_usec = SEC(1000), .last_usec = SEC(1000) + spread_usec, .n = n };
}

/* ---- deciding ---- */

static void absent_and_free_lanes_are_taken(void **state) {
        LaneDocument doc = held_by_a();
        LaneSeen none = { 0 };

        (void) state;
        assert_int_equal(lane_decide(NULL, &none, USEC_INFINITY, "host-b", NULL), LANE_TAKE_ABSENT);

        doc.state = LANE_RELEASED;
        assert_int_equal(lane_decide(&doc, &none, 0, "host-b", NULL), LANE_TAKE_FREE);
        doc.state = LANE_LEFT;
        assert_int_equal(lane_decide(&doc, &none, 0, "host-b", NULL), LANE_TAKE_FREE);
        /* Not even its last holder needs to wait. */
        assert_int_equal(lane_decide(&doc, &none, 0, "host-a", NONCE_A), LANE_TAKE_FREE);
}

static void take_over_needs_age_and_two_reads(void **state) {
        static const struct {
                usec_t age;
                usec_t spread;
                unsigned n;
                LaneDecision decision;
        } rows[] = {
                { 0, 0, 1, LANE_WAIT },
                { SEC(69), SEC(40), 5, LANE_WAIT },
                { SEC(70) - 1, SEC(25), 2, LANE_WAIT },
                { SEC(70), SEC(25) - 1, 2, LANE_WAIT },
                { SEC(70), SEC(25), 2, LANE_TAKE_OVER },
                { SEC(100000), 0, 1, LANE_WAIT },       /* one read is never enough */
                { SEC(100000), SEC(30), 1, LANE_WAIT }, /* whatever a spread says of one read */
                { SEC(100000), 0, 0, LANE_WAIT },
                { SEC(100000), SEC(26), 2, LANE_TAKE_OVER },
                { USEC_INFINITY, SEC(69), 9, LANE_WAIT }, /* a store without a clock */
                { USEC_INFINITY, SEC(70), 9, LANE_TAKE_OVER },
        };
        LaneDocument doc = held_by_a();
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(rows); i++) {
                LaneSeen s = seen(rows[i].spread, rows[i].n);

                assert_int_equal(lane_decide(&doc, &s, rows[i].age, "host-b", NULL),
                                 rows[i].decision);
        }
}

/* A lane is known again by its holding, not by the host's name alone: a clone has the same name. */
static void mine_is_decided_by_the_holding(void **state) {
        LaneDocument doc = held_by_a();
        LaneSeen s = seen(0, 1);

        (void) state;
        assert_int_equal(lane_decide(&doc, &s, 0, "host-a", NONCE_A), LANE_MINE);
        assert_int_equal(lane_decide(&doc, &s, 0, "host-a", "aaaaaaaaaaaaaaaaffffffffffffffff"),
                         LANE_MINE);
        assert_int_equal(lane_decide(&doc, &s, 0, "host-a", NONCE_B), LANE_WAIT);
        assert_int_equal(lane_decide(&doc, &s, 0, "host-a", NULL), LANE_WAIT);
        assert_int_equal(lane_decide(&doc, &s, 0, "host-a", ""), LANE_WAIT);
        assert_int_equal(lane_decide(&doc, &s, 0, "host-b", NONCE_A), LANE_WAIT);

        doc.nonce = NULL;
        assert_int_equal(lane_decide(&doc, &s, 0, "host-a", NULL), LANE_WAIT);
}

/* A refused write may have been our own, whose reply was lost: reading back finds our nonce. */
static void own_write_with_a_lost_reply_is_mine(void **state) {
        LaneChange take = { LANE_WRITE_TAKE, LANE_TAKE_ABSENT, "host-b", FRESH, "fetch", 7 };
        LaneDocument written = { 0 };
        LaneSeen s = { 0 };

        (void) state;
        assert_int_equal(lane_next(NULL, &take, &written), 0);
        lane_seen_read(&s, false, SEC(5));
        assert_int_equal(lane_decide(&written, &s, 0, "host-b", FRESH), LANE_MINE);
        json_table_done(&lane_document_table, &written);
}

/* ---- an outage of the store takes nothing over ---- */

static void an_outage_takes_nothing_over(void **state) {
        LaneDocument doc = held_by_a();
        LaneSeen s = { 0 };

        (void) state;
        lane_seen_read(&s, false, SEC(100));
        lane_seen_failed(&s); /* the store is away for ten minutes: nobody could renew */
        lane_seen_read(&s, true, SEC(700));
        assert_int_equal(lane_decide(&doc, &s, SEC(600), "host-b", NULL), LANE_WAIT);

        /* The holder lives: it renews within 20 s of the return, and the ETag is another. */
        lane_seen_read(&s, false, SEC(726));
        assert_int_equal(lane_decide(&doc, &s, SEC(6), "host-b", NULL), LANE_WAIT);

        /* The holder is dead: now the second read decides. */
        lane_seen_read(&s, true, SEC(752));
        assert_int_equal(lane_decide(&doc, &s, SEC(632), "host-b", NULL), LANE_TAKE_OVER);
}

/* A waiter that was suspended, or whose loop stood still, has seen nothing in between. */
static void a_gap_between_reads_begins_anew(void **state) {
        LaneDocument doc = held_by_a();
        LaneSeen s = { 0 };

        (void) state;
        lane_seen_read(&s, false, SEC(100));
        lane_seen_read(&s, true, SEC(100) + LANE_GAP_USEC + 1);
        assert_int_equal(s.n, 1);
        assert_int_equal(lane_decide(&doc, &s, SEC(5000), "host-b", NULL), LANE_WAIT);

        /* Time that goes back is no spread either. */
        lane_seen_read(&s, true, SEC(50));
        assert_int_equal(s.n, 1);
        lane_seen_read(&s, true, SEC(50) + LANE_READS_USEC);
        assert_int_equal(s.n, 2);
        assert_int_equal(lane_decide(&doc, &s, SEC(5000), "host-b", NULL), LANE_TAKE_OVER);
}

static void waiting_tells_how_long(void **state) {
        LaneDocument doc = held_by_a();
        LaneSeen s = seen(SEC(10), 3);

        (void) state;
        assert_int_equal(lane_wait_usec(&doc, &s, SEC(30)), SEC(40));
        assert_int_equal(lane_wait_usec(&doc, &s, SEC(65)), SEC(15));
        assert_int_equal(lane_wait_usec(&doc, &s, USEC_INFINITY), SEC(60));
        assert_int_equal(lane_wait_usec(NULL, &s, 0), 0);
        doc.state = LANE_LEFT;
        assert_int_equal(lane_wait_usec(&doc, &s, 0), 0);
}

/* ---- the holder's own rule ---- */

static void holder_stops_before_it_can_be_taken_over(void **state) {
        (void) state;
        assert_false(lane_may_act(0, SEC(10)));
        assert_true(lane_may_act(SEC(100), SEC(100)));
        assert_true(lane_may_act(SEC(100), SEC(145) - 1));
        assert_false(lane_may_act(SEC(100), SEC(145)));
        assert_false(lane_may_act(SEC(100), SEC(99)));
        assert_false(lane_may_act(SEC(100), USEC_INFINITY));

        assert_false(lane_renew_due(SEC(100), SEC(120) - 1));
        assert_true(lane_renew_due(SEC(100), SEC(120)));
        assert_int_equal(lane_renew_at(SEC(100)), SEC(120));
        assert_true(LANE_ACT_USEC < LANE_TTL_USEC && LANE_RENEW_USEC < LANE_READS_USEC);
}

/*
 * All interleavings of a holder that dies or stands still, with clocks of different rates (5 %):
 * whenever the waiter takes over, the holder has stopped.
 */
static void never_two_act_at_once(void **state) {
        usec_t write_took, poll, phase, now;
        int rate;

        (void) state;
        for (rate = 95; rate <= 105; rate += 5)
                for (write_took = 0; write_took <= SEC(10); write_took += SEC(5))
                        for (poll = SEC(5); poll <= SEC(60); poll += SEC(11))
                                for (phase = 0; phase < poll; phase += SEC(1)) {
                                        LaneDocument doc = held_by_a();
                                        LaneSeen s = { 0 };

                                        /* The write was begun at 1000 s and landed write_took
                                         * later. */
                                        for (now = SEC(1000) + write_took + phase;; now += poll) {
                                                lane_seen_read(&s, true, now);
                                                if (lane_decide(&doc, &s,
                                                                now - SEC(1000) - write_took,
                                                                "host-b", NULL) == LANE_TAKE_OVER)
                                                        break;
                                                assert_true(now < SEC(1400));
                                        }
                                        assert_false(lane_may_act(
                                                SEC(1000), SEC(1000) + (now - SEC(1000)) *
                                                                               (usec_t) rate /
                                                                               100));
                                }
}

/* ---- writing ---- */

static void taking_makes_the_epoch_grow(void **state) {
        LaneChange take = { LANE_WRITE_TAKE, LANE_TAKE_ABSENT, "host-b", FRESH, "fetch", 9 };
        LaneDocument doc = held_by_a(), next = { 0 };

        (void) state;
        assert_int_equal(lane_next(NULL, &take, &next), 0);
        assert_int_equal(next.epoch, 1);
        assert_int_equal(next.lost, 0);
        assert_int_equal(next.format, 1);
        assert_int_equal(next.revision, 9);
        assert_int_equal(next.state, LANE_HELD);
        assert_string_equal(next.holder, "host-b");
        assert_string_equal(next.nonce, FRESH);
        assert_string_equal(next.step, "fetch");
        json_table_done(&lane_document_table, &next);

        doc.state = LANE_RELEASED;
        take.decision = LANE_TAKE_FREE;
        assert_int_equal(lane_next(&doc, &take, &next), 0);
        assert_int_equal(next.epoch, 5);
        assert_int_equal(next.lost, 1);
        assert_int_equal(next.done, 2);
        json_table_done(&lane_document_table, &next);

        /* A take-over is counted, and not as a failure. */
        doc.state = LANE_HELD;
        take.decision = LANE_TAKE_OVER;
        assert_int_equal(lane_next(&doc, &take, &next), 0);
        assert_int_equal(next.epoch, 5);
        assert_int_equal(next.lost, 2);
        assert_int_equal(next.failed, 1);
        json_table_done(&lane_document_table, &next);
}

static void every_write_has_its_own_nonce_of_one_holding(void **state) {
        LaneChange renew = { LANE_WRITE_RENEW, 0, "host-a", FRESH, NULL, 7 };
        LaneDocument doc = held_by_a(), next = { 0 };

        (void) state;
        assert_int_equal(lane_next(&doc, &renew, &next), 0);
        assert_string_equal(next.nonce, "aaaaaaaaaaaaaaaa0000000000000003");
        assert_true(lane_same_holding(next.nonce, NONCE_A));
        assert_false(lane_same_holding(next.nonce, FRESH));
        assert_false(lane_same_holding(NULL, NULL));
        assert_false(lane_same_holding("short", "short"));
        assert_int_equal(next.epoch, 4);
        assert_int_equal(next.state, LANE_HELD);
        assert_int_equal(next.done + next.failed + next.lost, 4);
        assert_null(next.step);
        json_table_done(&lane_document_table, &next);
}

/* Releasing leaves a tombstone: the epoch of a lane never begins again. */
static void releasing_counts_and_keeps_the_epoch(void **state) {
        static const struct {
                LaneWrite write;
                LaneState state;
                uint64_t done, failed;
        } rows[] = {
                { LANE_WRITE_DONE, LANE_RELEASED, 3, 1 },
                { LANE_WRITE_FAILED, LANE_RELEASED, 2, 2 },
                { LANE_WRITE_GIVE_BACK, LANE_RELEASED, 2, 1 },
                { LANE_WRITE_LEAVE, LANE_LEFT, 2, 1 },
        };
        LaneDocument doc = held_by_a(), next = { 0 };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(rows); i++) {
                LaneChange change = { rows[i].write, 0, "host-a", FRESH, "release", 7 };

                assert_int_equal(lane_next(&doc, &change, &next), 0);
                assert_int_equal(next.epoch, 4);
                assert_int_equal(next.state, rows[i].state);
                assert_int_equal(next.done, rows[i].done);
                assert_int_equal(next.failed, rows[i].failed);
                assert_int_equal(next.lost, 1);
                json_table_done(&lane_document_table, &next);
        }
}

/* A holder that was taken over, or that has released, writes nothing. */
static void only_the_holder_writes_on(void **state) {
        LaneChange renew = { LANE_WRITE_RENEW, 0, "host-b", FRESH, NULL, 7 };
        LaneChange take = { LANE_WRITE_TAKE, LANE_TAKE_FREE, "host-b", FRESH, NULL, 7 };
        LaneDocument doc = held_by_a(), next = { 0 };

        (void) state;
        assert_int_equal(lane_next(&doc, &renew, &next), -ESTALE);
        renew.self = "host-a";
        doc.state = LANE_RELEASED;
        assert_int_equal(lane_next(&doc, &renew, &next), -ESTALE);

        doc.epoch = (UINT64_C(1) << 53) - 1;
        assert_int_equal(lane_next(&doc, &take, &next), -EOVERFLOW);
        assert_null(next.nonce);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(absent_and_free_lanes_are_taken),
                cmocka_unit_test(take_over_needs_age_and_two_reads),
                cmocka_unit_test(mine_is_decided_by_the_holding),
                cmocka_unit_test(own_write_with_a_lost_reply_is_mine),
                cmocka_unit_test(an_outage_takes_nothing_over),
                cmocka_unit_test(a_gap_between_reads_begins_anew),
                cmocka_unit_test(waiting_tells_how_long),
                cmocka_unit_test(holder_stops_before_it_can_be_taken_over),
                cmocka_unit_test(never_two_act_at_once),
                cmocka_unit_test(taking_makes_the_epoch_grow),
                cmocka_unit_test(every_write_has_its_own_nonce_of_one_holding),
                cmocka_unit_test(releasing_counts_and_keeps_the_epoch),
                cmocka_unit_test(only_the_holder_writes_on),
        };

        return cmocka_run_group_tests_name("lane", tests, NULL, NULL);
}
