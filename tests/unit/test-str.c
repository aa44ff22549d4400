#include "base/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_equal_prefix_suffix(void **state) {
        (void) state;
        assert_true(str_equal(NULL, NULL));
        assert_false(str_equal(NULL, ""));
        assert_true(str_equal("a", "a"));
        assert_true(str_is_empty(NULL) && str_is_empty("") && !str_is_empty("a"));
        assert_true(str_has_prefix("abc", "ab") && str_has_prefix("abc", ""));
        assert_false(str_has_prefix("a", "ab"));
        assert_true(str_has_suffix("abc", "bc") && str_has_suffix("abc", ""));
        assert_false(str_has_suffix("c", "bc"));
}

static void test_labels(void **state) {
        char text[102];

        (void) state;
        assert_true(str_is_label("a") && str_is_label("0") && str_is_label("v1.2-rc_3"));
        assert_false(str_is_label(NULL) || str_is_label("") || str_is_label(".a"));
        assert_false(str_is_label("-a") || str_is_label("_a") || str_is_label("a/b"));
        assert_false(str_is_label("a b") || str_is_label("\xc3\xa4") || str_is_label("a\n"));

        memset(text, 'a', sizeof(text));
        text[100] = 0;
        assert_true(str_is_label(text));
        text[100] = 'a';
        text[101] = 0;
        assert_false(str_is_label(text));
}

static void test_sha256(void **state) {
        char text[66] = { 0 };

        (void) state;
        memset(text, 'f', 64);
        assert_true(str_is_sha256(text));
        text[63] = 'F';
        assert_false(str_is_sha256(text));
        text[63] = 0;
        assert_false(str_is_sha256(text));
        memset(text, '0', 65);
        assert_false(str_is_sha256(text) || str_is_sha256(NULL));
}

static void test_utf8(void **state) {
        static const char *const valid[] = {
                "",
                "abc",
                "\xc2\x80",
                "\xdf\xbf",
                "\xe0\xa0\x80",
                "\xed\x9f\xbf",
                "\xee\x80\x80",
                "\xf0\x90\x80\x80",
                "\xf4\x8f\xbf\xbf",
                "\n\x7f",
        };
        static const char *const invalid[] = {
                "\x80",
                "\xc0\x80",
                "\xc1\xbf",
                "\xc2",
                "\xc2\x41",
                "\xe0\x80\x80",
                "\xe0\x9f\xbf",
                "\xed\xa0\x80",
                "\xed\xbf\xbf",
                "\xe2\x82",
                "\xf0\x80\x80\x80",
                "\xf4\x90\x80\x80",
                "\xf5\x80\x80\x80",
                "\xff",
                "a\xfe",
        };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(valid); i++)
                assert_true(str_is_utf8(valid[i], strlen(valid[i]), false));
        for (i = 0; i < ELEMENTS(invalid); i++)
                assert_false(str_is_utf8(invalid[i], strlen(invalid[i]), false));
        assert_false(str_is_utf8("a\0b", 3, false));
}

static void test_utf8_without_controls(void **state) {
        static const char *const controls[] = { "\n",   "\t",       "\x1b[31m",
                                                "\x7f", "\xc2\x80", "\xc2\x9f" };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(controls); i++)
                assert_false(str_is_utf8(controls[i], strlen(controls[i]), true));
        assert_true(str_is_utf8("\xc2\xa0 \xe2\x82\xac", 6, true));
}

static void check_printable(const char *text, size_t size, const char *expected) {
        _cleanup_free_ char *printable = str_printable(text, size);

        assert_non_null(printable);
        assert_string_equal(printable, expected);
}

static void test_printable(void **state) {
        (void) state;
        check_printable("", 0, "");
        check_printable("a\x1b[1mb\n", 7, "a?[1mb?");
        check_printable("a\0b", 3, "a?b");
        check_printable("\xe2\x82\xac\xff\xe2\x82", 6, "\xe2\x82\xac???");
        check_printable("\xc2\x9b"
                        "1m",
                        4, "?1m");
}

static void test_to_u64(void **state) {
        uint64_t n = 1;

        (void) state;
        assert_int_equal(str_to_u64("0", &n), 0);
        assert_true(n == 0);
        assert_int_equal(str_to_u64("18446744073709551615", &n), 0);
        assert_true(n == UINT64_MAX);
        assert_int_equal(str_to_u64("18446744073709551616", &n), -ERANGE);
        assert_int_equal(str_to_u64("99999999999999999999999", &n), -ERANGE);
        assert_int_equal(str_to_u64("99999999999999999999999x", &n), -EINVAL);
        assert_int_equal(str_to_u64("", &n), -EINVAL);
        assert_int_equal(str_to_u64(NULL, &n), -EINVAL);
        assert_int_equal(str_to_u64("-1", &n), -EINVAL);
        assert_int_equal(str_to_u64("+1", &n), -EINVAL);
        assert_int_equal(str_to_u64(" 1", &n), -EINVAL);
        assert_int_equal(str_to_u64("0x1", &n), -EINVAL);
        assert_true(n == UINT64_MAX);
}

static void test_random_hex(void **state) {
        _cleanup_free_ char *a = str_random_hex(40), *b = str_random_hex(40),
                            *none = str_random_hex(0);

        (void) state;
        assert_int_equal(strlen(a), 80);
        assert_int_equal(strspn(a, "0123456789abcdef"), 80);
        assert_string_not_equal(a, b);
        assert_string_equal(none, "");
}

static void test_lists(void **state) {
        _cleanup_(strv_freep) char **list = NULL, **copy = NULL;

        (void) state;
        assert_int_equal(strv_count(NULL), 0);
        assert_false(strv_contains(NULL, "a"));
        assert_null(strv_copy(NULL));
        assert_int_equal(strv_add(&list, 2, "a"), 0);
        assert_int_equal(strv_add(&list, 2, "b"), 0);
        assert_int_equal(strv_add(&list, 2, "c"), -E2BIG);
        assert_int_equal(strv_count(list), 2);
        assert_true(strv_contains(list, "b") && !strv_contains(list, "c"));

        copy = strv_copy(list);
        assert_int_equal(strv_count(copy), 2);
        assert_string_equal(copy[1], "b");
        assert_ptr_not_equal(copy[1], list[1]);
        assert_null(strv_free(NULL));
}

static void test_format(void **state) {
        _cleanup_free_ char *text = str_format("%s-%03d", "a", 7);

        (void) state;
        assert_string_equal(text, "a-007");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_equal_prefix_suffix),
                cmocka_unit_test(test_labels),
                cmocka_unit_test(test_sha256),
                cmocka_unit_test(test_utf8),
                cmocka_unit_test(test_utf8_without_controls),
                cmocka_unit_test(test_printable),
                cmocka_unit_test(test_to_u64),
                cmocka_unit_test(test_random_hex),
                cmocka_unit_test(test_lists),
                cmocka_unit_test(test_format),
        };

        return cmocka_run_group_tests_name("str", tests, NULL, NULL);
}
