#include "net/retry.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/macro.h"

static void test_losses(void **state) {
        (void) state;
        assert_int_equal(retry_classify(-ETIMEDOUT, 0, NULL, 0), RETRY_TIMEOUT);
        assert_int_equal(retry_classify(-ECONNREFUSED, 0, NULL, 0), RETRY_TIMEOUT);
        assert_int_equal(retry_classify(-EHOSTUNREACH, 0, NULL, 0), RETRY_TIMEOUT);
        assert_int_equal(retry_classify(-ECONNRESET, 0, NULL, 0), RETRY_TRANSIENT);
        assert_int_equal(retry_classify(-EBADMSG, 0, NULL, 0), RETRY_TRANSIENT);
        assert_int_equal(retry_classify(-EKEYREJECTED, 0, NULL, 0), RETRY_NEVER);
        assert_int_equal(retry_classify(-EFBIG, 0, NULL, 0), RETRY_NEVER);
        assert_int_equal(retry_classify(-EINVAL, 0, NULL, 0), RETRY_NEVER);
}

static void test_answers(void **state) {
        static const struct {
                unsigned status;
                const char *code;
                int64_t skew_sec;
                RetryClass why;
        } rows[] = {
                { 200, NULL, 0, RETRY_NEVER },
                { 206, NULL, 100000, RETRY_NEVER },
                { 304, NULL, 0, RETRY_NEVER },
                { 404, "NoSuchKey", 0, RETRY_NEVER },
                { 409, "ConditionalRequestConflict", 0, RETRY_NEVER },
                { 412, "PreconditionFailed", 0, RETRY_NEVER },
                { 501, "NotImplemented", 0, RETRY_NEVER },
                { 400, NULL, 0, RETRY_NEVER },
                { 500, "InternalError", 0, RETRY_TRANSIENT },
                { 500, NULL, 0, RETRY_TRANSIENT },
                { 502, NULL, 0, RETRY_TRANSIENT },
                { 504, NULL, 0, RETRY_TRANSIENT },
                { 400, "RequestTimeout", 0, RETRY_TRANSIENT },
                { 503, "SlowDown", 0, RETRY_THROTTLE },
                { 503, NULL, 0, RETRY_THROTTLE },
                { 429, NULL, 0, RETRY_THROTTLE },
                { 400, "ThrottlingException", 0, RETRY_THROTTLE },
                { 403, "RequestLimitExceeded", 0, RETRY_THROTTLE },
                { 403, "RequestTimeTooSkewed", 0, RETRY_SKEW },
                { 403, "SignatureDoesNotMatch", 0, RETRY_NEVER },
                { 403, "SignatureDoesNotMatch", 239, RETRY_NEVER },
                { 403, "SignatureDoesNotMatch", 241, RETRY_SKEW },
                { 403, "SignatureDoesNotMatch", -241, RETRY_SKEW },
                { 403, NULL, 0, RETRY_NEVER },
                { 403, NULL, -1000, RETRY_SKEW },
                { 403, "AccessDenied", 0, RETRY_NEVER },
                { 400, "ExpiredToken", 0, RETRY_CREDENTIALS },
                { 403, "InvalidAccessKeyId", 0, RETRY_CREDENTIALS },
                { 301, "PermanentRedirect", 0, RETRY_REGION },
                { 307, NULL, 0, RETRY_REGION },
                { 400, "AuthorizationHeaderMalformed", 0, RETRY_REGION },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                if (retry_classify(0, rows[i].status, rows[i].code,
                                   rows[i].skew_sec * (int64_t) SEC(1)) != rows[i].why)
                        fail_msg("row %zu: %u %s", i, rows[i].status, rows[i].code ?: "");
}

static void test_attempts_and_delays(void **state) {
        RetryQuota quota = { RETRY_TOKENS };
        RetryState s = { 0 };
        usec_t delay;

        (void) state;
        assert_true(retry_decide(&s, &quota, RETRY_TRANSIENT, UINT32_MAX, &delay));
        assert_in_range(delay, SEC(1) - 1, SEC(1));
        assert_true(retry_decide(&s, &quota, RETRY_THROTTLE, UINT32_MAX, &delay));
        assert_in_range(delay, SEC(2) - 1, SEC(2));
        assert_int_equal(quota.tokens, RETRY_TOKENS - 10);
        assert_false(retry_decide(&s, &quota, RETRY_TRANSIENT, 0, &delay));
        /* What it did not send it did not pay. */
        assert_int_equal(quota.tokens, RETRY_TOKENS - 10);

        s = (RetryState){ 0 };
        assert_true(retry_decide(&s, &quota, RETRY_TIMEOUT, 0, &delay));
        assert_int_equal(delay, 0);
        assert_int_equal(quota.tokens, RETRY_TOKENS - 20);
}

/* Of many hosts each waits another time. */
static void test_delays_are_spread(void **state) {
        unsigned n_early = 0;

        (void) state;
        for (uint32_t i = 0; i < 1000; i++) {
                RetryQuota quota = { RETRY_TOKENS };
                RetryState s = { 0 };
                usec_t delay;

                assert_true(
                        retry_decide(&s, &quota, RETRY_THROTTLE, i * (UINT32_MAX / 1000), &delay));
                assert_true(delay <= SEC(1));
                n_early += delay < MSEC(100);
        }
        assert_in_range(n_early, 90, 110);
}

static void test_corrections_are_made_once_and_cost_nothing(void **state) {
        static const RetryClass whys[] = { RETRY_SKEW, RETRY_CREDENTIALS, RETRY_REGION };
        RetryQuota quota = { 0 };
        RetryState s = { 0 };
        usec_t delay = 1;

        (void) state;
        for (size_t i = 0; i < ELEMENTS(whys); i++) {
                assert_true(retry_decide(&s, &quota, whys[i], UINT32_MAX, &delay));
                assert_int_equal(delay, 0);
                assert_false(retry_decide(&s, &quota, whys[i], UINT32_MAX, &delay));
        }
        assert_int_equal(s.n_tried, 0);
        assert_false(retry_decide(&s, &quota, RETRY_NEVER, 0, &delay));
}

/* A server that is down is soon asked once each time, and three times again when it is back. */
static void test_quota(void **state) {
        RetryQuota quota = { RETRY_TOKENS };
        unsigned n_retries = 0;
        usec_t delay;

        (void) state;
        for (unsigned i = 0; i < 1000; i++) {
                RetryState s = { 0 };

                while (retry_decide(&s, &quota, RETRY_TRANSIENT, 0, &delay))
                        n_retries++;
        }
        assert_int_equal(n_retries, RETRY_TOKENS / 5);
        assert_int_equal(quota.tokens, 0);
        for (unsigned i = 0; i < 10; i++)
                retry_succeeded(&(RetryState){ 0 }, &quota);
        assert_int_equal(quota.tokens, 10);
        {
                RetryState s = { 0 };

                assert_true(retry_decide(&s, &quota, RETRY_TRANSIENT, 0, &delay));
                assert_true(retry_decide(&s, &quota, RETRY_TRANSIENT, 0, &delay));
                retry_succeeded(&s, &quota);
        }
        assert_int_equal(quota.tokens, 10);
        for (unsigned i = 0; i < 2 * RETRY_TOKENS; i++)
                retry_succeeded(&(RetryState){ 0 }, &quota);
        assert_int_equal(quota.tokens, RETRY_TOKENS);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_losses),
                cmocka_unit_test(test_answers),
                cmocka_unit_test(test_attempts_and_delays),
                cmocka_unit_test(test_delays_are_spread),
                cmocka_unit_test(test_corrections_are_made_once_and_cost_nothing),
                cmocka_unit_test(test_quota),
        };

        return cmocka_run_group_tests_name("retry", tests, NULL, NULL);
}
