#include "base/backoff.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_waits_double_up_to_the_ceiling(void **state) {
        Backoff backoff = { .base_usec = SEC(1), .max_usec = SEC(10) };
        static const usec_t full[] = { SEC(1), SEC(2), SEC(4), SEC(8), SEC(10), SEC(10) };
        size_t i;

        (void) state;
        for (i = 0; i < sizeof(full) / sizeof(full[0]); i++)
                assert_true(backoff_next(&backoff, 0) == full[i] / 2);

        backoff_reset(&backoff);
        for (i = 0; i < sizeof(full) / sizeof(full[0]); i++) {
                usec_t wait = backoff_next(&backoff, UINT32_MAX);

                assert_true(wait <= full[i] && wait > full[i] - 2);
        }
}

static void test_chance_spreads_evenly(void **state) {
        (void) state;
        assert_true(backoff_next(&(Backoff){ SEC(8), SEC(8), 0 }, UINT32_MAX / 2 + 1) == SEC(6));
}

static void test_extremes_do_not_overflow(void **state) {
        Backoff large = { .base_usec = SEC(1), .max_usec = USEC_INFINITY };
        Backoff none = { .base_usec = 0, .max_usec = SEC(1), .n = 1000000000 };
        Backoff low = { .base_usec = SEC(9), .max_usec = SEC(1) };
        usec_t wait, last = 0;
        int i;

        (void) state;
        for (i = 0; i < 200; i++) {
                wait = backoff_next(&large, 7);
                assert_true(wait >= last);
                last = wait;
        }
        assert_true(last >= USEC_INFINITY / 2);
        assert_true(backoff_next(&none, 7) == 0);
        assert_true(backoff_next(&low, UINT32_MAX) <= SEC(1));
}

static void test_rate_limit(void **state) {
        RateLimit limit = { .interval_usec = SEC(10), .burst = 3 };

        (void) state;
        assert_true(ratelimit_pass(&limit, SEC(100)));
        assert_true(ratelimit_pass(&limit, SEC(101)));
        assert_true(ratelimit_pass(&limit, SEC(109)));
        assert_false(ratelimit_pass(&limit, SEC(109)));
        assert_false(ratelimit_pass(&limit, SEC(110) - 1));
        assert_true(ratelimit_pass(&limit, SEC(110)));
        assert_true(ratelimit_pass(&limit, SEC(110)));
        assert_true(ratelimit_pass(&limit, SEC(110)));
        assert_false(ratelimit_pass(&limit, SEC(119)));
}

static void test_rate_limit_from_time_zero_and_back(void **state) {
        RateLimit limit = { .interval_usec = SEC(10), .burst = 1 },
                  none = { .interval_usec = SEC(1) };

        (void) state;
        assert_true(ratelimit_pass(&limit, 0));
        assert_false(ratelimit_pass(&limit, 1));
        assert_true(ratelimit_pass(&limit, SEC(50)));
        assert_true(ratelimit_pass(&limit, SEC(5)));
        assert_false(ratelimit_pass(&none, SEC(5)));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_waits_double_up_to_the_ceiling),
                cmocka_unit_test(test_chance_spreads_evenly),
                cmocka_unit_test(test_extremes_do_not_overflow),
                cmocka_unit_test(test_rate_limit),
                cmocka_unit_test(test_rate_limit_from_time_zero_and_back),
        };

        return cmocka_run_group_tests_name("backoff", tests, NULL, NULL);
}
