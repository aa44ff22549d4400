#include "base/time.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static usec_t fixed_now(void *userdata, clockid_t which) {
        assert_int_equal(which, CLOCK_BOOTTIME);
        return *(usec_t *) userdata;
}

static void test_clock_is_replaceable(void **state) {
        usec_t now = SEC(42);
        Clock clock = { fixed_now, &now };

        (void) state;
        assert_true(clock_read(&clock, CLOCK_BOOTTIME) == SEC(42));
        assert_true(clock_read(NULL, CLOCK_MONOTONIC) > 0);
        assert_true(clock_read(NULL, CLOCK_REALTIME) > SEC(UINT64_C(1500000000)));
}

static void test_format_and_parse(void **state) {
        static const struct {
                usec_t usec;
                const char *text;
        } rows[] = {
                { 0, "1970-01-01T00:00:00Z" },
                { SEC(UINT64_C(1785585600)), "2026-08-01T12:00:00Z" },
                { SEC(UINT64_C(951782400)), "2000-02-29T00:00:00Z" },
                { SEC(UINT64_C(253402300799)), "9999-12-31T23:59:59Z" },
        };
        char text[TIME_RFC3339_SIZE];
        usec_t usec;
        size_t i;

        (void) state;
        for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                time_format(rows[i].usec + 999999, text);
                assert_string_equal(text, rows[i].text);
                assert_int_equal(time_parse(rows[i].text, &usec), 0);
                assert_true(usec == rows[i].usec);
        }
        time_format(USEC_INFINITY, text);
        assert_string_equal(text, "9999-12-31T23:59:59Z");
}

static void test_parse_refuses(void **state) {
        static const char *const texts[] = {
                "",
                "2026-08-01",
                "2026-08-01T12:00:00",
                "2026-08-01T12:00:00z",
                "2026-08-01 12:00:00Z",
                "2026-08-01T12:00:00Z ",
                " 2026-08-01T12:00:00Z",
                "2026-8-01T12:00:00Z",
                "2026-02-29T00:00:00Z",
                "2026-13-01T00:00:00Z",
                "2026-00-01T00:00:00Z",
                "2026-01-00T00:00:00Z",
                "2026-01-32T00:00:00Z",
                "2026-01-01T24:00:00Z",
                "2026-01-01T00:60:00Z",
                "2026-01-01T00:00:60Z",
                "1969-12-31T23:59:59Z",
                "2026-01-01T00:00:0xZ",
                "2026-01-01T00:00:00+00:00",
                "-026-01-01T00:00:00Z",
        };
        usec_t usec = 7;
        size_t i;

        (void) state;
        for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
                assert_int_equal(time_parse(texts[i], &usec), -EINVAL);
        assert_int_equal(time_parse(NULL, &usec), -EINVAL);
        assert_true(usec == 7);
}

static void test_parse_span(void **state) {
        static const struct {
                const char *text;
                usec_t usec;
        } rows[] = {
                { "0", 0 },
                { "250ms", MSEC(250) },
                { "5s", SEC(5) },
                { "10m", SEC(600) },
                { "2h", SEC(7200) },
                { "1d", SEC(86400) },
                { "30", SEC(30) },
                { "0.5", MSEC(500) },
                { "1.5h", SEC(5400) },
                { "0.000001", 1 },
                { "0.0000019", 1 },
                { "0.1ms", 100 },
                { "18446744073709", SEC(UINT64_C(18446744073709)) },
        };
        usec_t usec;
        size_t i;

        (void) state;
        for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                assert_int_equal(time_parse_span(rows[i].text, &usec), 0);
                assert_true(usec == rows[i].usec);
        }
}

static void test_parse_span_refuses(void **state) {
        static const char *const wrong[] = { "",    "s",   "-1",  "+1",    " 1",   "1 ",
                                             "1 s", "1us", "1w",  "1S",    ".5",   "5.s",
                                             "5.",  "1e3", "0x1", "1.5.5", "1h30m" };
        static const char *const large[] = { "18446744073710", "99999999999999999999999",
                                             "213503983d", "18446744073709.551615" };
        usec_t usec = 7;
        size_t i;

        (void) state;
        for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
                assert_int_equal(time_parse_span(wrong[i], &usec), -EINVAL);
        for (i = 0; i < sizeof(large) / sizeof(large[0]); i++)
                assert_int_equal(time_parse_span(large[i], &usec), -ERANGE);
        assert_true(usec == 7);
}

static void test_format_span(void **state) {
        static const struct {
                usec_t usec;
                const char *text;
        } rows[] = {
                { 0, "0 ms" },
                { MSEC(850) + 999, "850 ms" },
                { SEC(12) + MSEC(999), "12 s" },
                { SEC(60), "1 min" },
                { SEC(200), "3 min 20 s" },
                { SEC(7500), "2 h 5 min" },
                { SEC(7200) + SEC(59), "2 h" },
                { SEC(4 * 86400 + 3 * 3600), "4 d 3 h" },
                { USEC_INFINITY - 1, "213503982 d 8 h" },
                { USEC_INFINITY, "for ever" },
        };
        char text[32];
        size_t i;

        (void) state;
        for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                time_format_span(rows[i].usec, text);
                assert_string_equal(text, rows[i].text);
        }
}

static void test_make_id(void **state) {
        char text[32];

        (void) state;
        time_make_id(SEC(UINT64_C(1785585600)), 0xab, text);
        assert_string_equal(text, "20260801T120000Z-000000ab");
        time_make_id(USEC_INFINITY, UINT32_MAX, text);
        assert_string_equal(text, "99991231T235959Z-ffffffff");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_clock_is_replaceable),
                cmocka_unit_test(test_format_and_parse),
                cmocka_unit_test(test_parse_refuses),
                cmocka_unit_test(test_parse_span),
                cmocka_unit_test(test_parse_span_refuses),
                cmocka_unit_test(test_format_span),
                cmocka_unit_test(test_make_id),
        };

        return cmocka_run_group_tests_name("time", tests, NULL, NULL);
}
