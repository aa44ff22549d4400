/* When credentials are asked for again: every row of the decision, by a clock of its own. */

#include "net/refresh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NOW       SEC(1800000000)
#define BOOT      SEC(1000)
#define MIN_OF(n) SEC(60 * (n))

/* Obtained at NOW and BOOT, without a random part. */
static Refresh obtained(usec_t lasts_usec, uint32_t random) {
        Refresh r = { 0 };

        refresh_obtained(&r, lasts_usec == USEC_INFINITY ? USEC_INFINITY : NOW + lasts_usec, NOW,
                         BOOT, random);
        return r;
}

/* So long after that. */
static int decide(const Refresh *r, usec_t later_usec) {
        return (int) refresh_decide(r, NOW + later_usec, BOOT + later_usec);
}

static void test_nothing_yet(void **state) {
        Refresh r = { 0 };
        usec_t last = 0;

        (void) state;
        assert_int_equal(decide(&r, 0), REFRESH_WAIT);
        assert_false(refresh_is_usable(&r, NOW));

        /* After a failure there is a pause, which grows to half a minute and no more. */
        for (int i = 0; i < 12; i++) {
                refresh_failed(&r, BOOT, UINT32_MAX);
                assert_int_equal(decide(&r, 0), REFRESH_KEEP);
                assert_true(r.not_before_usec >= last && r.not_before_usec <= BOOT + SEC(30));
                last = r.not_before_usec;
        }
        assert_true(last > BOOT + SEC(25));
        assert_int_equal(decide(&r, SEC(30)), REFRESH_WAIT);
}

static void test_without_end(void **state) {
        Refresh r = obtained(USEC_INFINITY, 7);

        (void) state;
        assert_int_equal(decide(&r, 0), REFRESH_KEEP);
        assert_int_equal(decide(&r, MIN_OF(60 * 24 * 365)), REFRESH_KEEP);
        assert_true(refresh_is_usable(&r, NOW + MIN_OF(60 * 24 * 365)));
}

static void test_early_and_late(void **state) {
        Refresh r = obtained(MIN_OF(60), 0);

        (void) state;
        assert_int_equal(decide(&r, 0), REFRESH_KEEP);
        assert_int_equal(decide(&r, MIN_OF(45) - 1), REFRESH_KEEP);
        assert_int_equal(decide(&r, MIN_OF(45)), REFRESH_BEHIND);
        assert_int_equal(decide(&r, MIN_OF(50) - 1), REFRESH_BEHIND);
        assert_int_equal(decide(&r, MIN_OF(50)), REFRESH_WAIT);
        assert_int_equal(decide(&r, MIN_OF(60)), REFRESH_WAIT);
        assert_true(refresh_is_usable(&r, NOW + MIN_OF(60) - 1));
        assert_false(refresh_is_usable(&r, NOW + MIN_OF(60)));

        /* Chance spreads a fleet that began together over three minutes. */
        r = obtained(MIN_OF(60), UINT32_MAX);
        assert_int_equal(decide(&r, MIN_OF(48) - SEC(1)), REFRESH_KEEP);
        assert_int_equal(decide(&r, MIN_OF(48)), REFRESH_BEHIND);
        r = obtained(MIN_OF(60), UINT32_MAX / 2);
        assert_int_equal(decide(&r, MIN_OF(46) + SEC(29)), REFRESH_KEEP);
        assert_int_equal(decide(&r, MIN_OF(46) + SEC(31)), REFRESH_BEHIND);
}

/* An outage: those that are valid are used on, asked for again after pauses. */
static void test_outage(void **state) {
        Refresh r = obtained(MIN_OF(60), 0);

        (void) state;
        refresh_failed(&r, BOOT + MIN_OF(52), UINT32_MAX);
        assert_int_equal(decide(&r, MIN_OF(52)), REFRESH_KEEP);
        assert_true(refresh_is_usable(&r, NOW + MIN_OF(52)));
        assert_int_equal(decide(&r, MIN_OF(52) + SEC(1)), REFRESH_WAIT);
}

/* Between ten and five minutes before the end IMDS may hand out the same again. */
static void test_nothing_newer(void **state) {
        Refresh r = obtained(MIN_OF(9), 0);

        (void) state;
        assert_int_equal(decide(&r, SEC(29)), REFRESH_KEEP);
        assert_int_equal(decide(&r, SEC(30)), REFRESH_WAIT);
        r = obtained(MIN_OF(9), UINT32_MAX);
        assert_int_equal(decide(&r, SEC(59)), REFRESH_KEEP);
        assert_int_equal(decide(&r, SEC(60)), REFRESH_WAIT);
}

static void test_handed_out_expired(void **state) {
        Refresh r = obtained(0, 0);

        (void) state;
        assert_true(refresh_is_usable(&r, NOW));
        assert_true(refresh_is_usable(&r, NOW + MIN_OF(600)));
        assert_int_equal(decide(&r, MIN_OF(10) - 1), REFRESH_KEEP);
        assert_int_equal(decide(&r, MIN_OF(10)), REFRESH_WAIT);
        r = obtained(0, UINT32_MAX);
        assert_int_equal(decide(&r, MIN_OF(20) - SEC(1)), REFRESH_KEEP);
        assert_int_equal(decide(&r, MIN_OF(20)), REFRESH_WAIT);

        /* A server's refusal does not wait so long. */
        r = obtained(0, 0);
        r.refused = true;
        assert_int_equal(decide(&r, SEC(1)), REFRESH_WAIT);

        /* Good ones again. */
        refresh_obtained(&r, NOW + MIN_OF(60), NOW, BOOT, 0);
        assert_false(refresh_is_usable(&r, NOW + MIN_OF(60)));
}

static void test_refused(void **state) {
        Refresh r = obtained(MIN_OF(60), 0);

        (void) state;
        r.refused = true;
        assert_int_equal(decide(&r, SEC(5)), REFRESH_WAIT);
        refresh_began(&r, BOOT + SEC(5));
        refresh_obtained(&r, NOW + MIN_OF(60), NOW, BOOT + SEC(5), 0);
        assert_int_equal(decide(&r, SEC(5)), REFRESH_KEEP);

        /* Again and again: once in ten seconds. */
        r.refused = true;
        assert_int_equal(decide(&r, SEC(6)), REFRESH_KEEP);
        assert_int_equal(decide(&r, SEC(15) - 1), REFRESH_KEEP);
        assert_int_equal(decide(&r, SEC(15)), REFRESH_WAIT);

        /* Those without an end, too; and a failure does not end it. */
        r = obtained(USEC_INFINITY, 0);
        r.refused = true;
        refresh_began(&r, BOOT);
        refresh_failed(&r, BOOT, 0);
        assert_int_equal(decide(&r, SEC(9)), REFRESH_KEEP);
        assert_int_equal(decide(&r, SEC(10)), REFRESH_WAIT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nothing_yet),    cmocka_unit_test(test_without_end),
                cmocka_unit_test(test_early_and_late), cmocka_unit_test(test_outage),
                cmocka_unit_test(test_nothing_newer),  cmocka_unit_test(test_handed_out_expired),
                cmocka_unit_test(test_refused),
        };

        return cmocka_run_group_tests_name("refresh", tests, NULL, NULL);
}
