#include "net/s3header.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macro.h"

static void test_dates(void **state) {
        static const struct {
                const char *text;
                uint64_t sec;
        } rows[] = {
                { "Thu, 01 Jan 1970 00:00:00 GMT", 0 },
                { "Sun, 06 Nov 1994 08:49:37 GMT", 784111777 },
                { "Thu, 29 Feb 2024 23:59:59 GMT", 1709251199 },
                { "Fri, 31 Dec 9999 23:59:59 GMT", UINT64_C(253402300799) },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                usec_t usec = 1;

                assert_int_equal(s3_date_parse(rows[i].text, &usec), 0);
                assert_true(usec == SEC(rows[i].sec));
        }
}

static void test_what_is_no_date(void **state) {
        static const char *const bad[] = {
                "",
                "Sun",
                "Sunday, 06-Nov-94 08:49:37 GMT",
                "Sun Nov  6 08:49:37 1994",
                "Mon, 06 Nov 1994 08:49:37 GMT", /* it was a Sunday */
                "Sun, 6 Nov 1994 08:49:37 GMT",
                "Sun, 06 Nov 1994 08:49:37 UTC",
                "Sun, 06 Nov 1994 08:49:37 GMT ",
                " Sun, 06 Nov 1994 08:49:37 GMT",
                "Sun, 06 nov 1994 08:49:37 GMT",
                "sun, 06 Nov 1994 08:49:37 GMT",
                "Sun, 31 Feb 2027 08:49:37 GMT",
                "Sun, 00 Nov 1994 08:49:37 GMT",
                "Sun, 06 Nov 1994 24:49:37 GMT",
                "Sun, 06 Nov 1994 08:60:37 GMT",
                "Sun, 06 Nov 1994 08:49:60 GMT",
                "Sun, 06 Nov 1994 08-49-37 GMT",
                "Sun, +6 Nov 1994 08:49:37 GMT",
                "Wed, 31 Dec 1969 23:59:59 GMT",
                "Sun, 06 Nov -994 08:49:37 GMT",
        };
        usec_t usec = 7;

        (void) state;
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                if (s3_date_parse(bad[i], &usec) != -EINVAL)
                        fail_msg("taken: %s", bad[i]);
        assert_int_equal(s3_date_parse(NULL, &usec), -EINVAL);
        assert_int_equal(usec, 7);
}

static void test_etags(void **state) {
        static const char *const rows[][2] = {
                { "\"abc\"", "abc" },
                { "abc", "abc" },
                { "W/\"abc\"", "abc" },
                { "\"d41d8cd98f00b204e9800998ecf8427e-12\"",
                  "d41d8cd98f00b204e9800998ecf8427e-12" },
                { "W/abc", "W/abc" },
        };
        static const char *const bad[] = { "",         "\"\"", "\"",   "\"abc", "abc\"",   "a\"b",
                                           "\"a\"b\"", "a b",  "a\tb", "\x7f",  "\xc3\xa4" };
        char text[140];

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_free_ char *etag = NULL;

                assert_int_equal(s3_etag_parse(rows[i][0], &etag), 0);
                assert_string_equal(etag, rows[i][1]);
        }
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                char *etag = NULL;

                if (s3_etag_parse(bad[i], &etag) != -EINVAL)
                        fail_msg("taken: %s", bad[i]);
        }
        memset(text, 'x', sizeof(text));
        text[128] = '\0';
        assert_true(s3_etag_is_bare(text, 128));
        assert_false(s3_etag_is_bare(text, 129));
        assert_false(s3_etag_is_bare(text, 0));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_dates),
                cmocka_unit_test(test_what_is_no_date),
                cmocka_unit_test(test_etags),
        };

        return cmocka_run_group_tests_name("s3header", tests, NULL, NULL);
}
