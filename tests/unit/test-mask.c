#include "../../agent/service/mask.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static char *str(const char *text) {
        return (char *) (uintptr_t) text;
}

static void check(char *const *values, const char *line, bool is_cut, const char *expected) {
        Mask *mask = mask_new(values);
        _cleanup_free_ char *shown = mask ? mask_line(mask, line, is_cut) : NULL;

        assert_non_null(shown);
        assert_string_equal(shown, expected);
        assert_null(mask_free(mask));
}

static void test_each_occurrence(void **state) {
        char *values[] = { str("hunter2"),    str("abc"),
                           str("hunter2222"), str("-----BEGIN KEY\nMIIBVAIBADAN\r\nQ==\n"),
                           str(""),           NULL };

        (void) state;
        check(values, "", false, "");
        check(values, "no secret at all, abc", false, "no secret at all, abc");
        check(values, "hunter2", false, "***");
        check(values, "a=hunter2 b=hunter2hunter2;", false, "a=*** b=******;");
        check(values, "longest first: hunter2222!", false, "longest first: ***!");
        check(values, "> MIIBVAIBADAN <", false, "> *** <");
        check(values, "-----BEGIN KEY", false, "***");
        check(values, "Q== is too short to be one", false, "Q== is too short to be one");
        check(values, "hunter", false, "hunter");
        check(values, "hunhunter2", false, "hun***");
}

/* The rest of it is in what was dropped. */
static void test_at_the_cut(void **state) {
        char *values[] = { str("hunter2"), NULL };

        (void) state;
        check(values, "password hunt", true, "password ***");
        check(values, "password hunt", false, "password hunt");
        check(values, "hunt password", true, "hunt password");
}

static void test_printable(void **state) {
        char *values[] = { str("se\033cret"), NULL };

        (void) state;
        check(NULL, "\033[31mred\a", false, "?[31mred?");
        check(values, "x se\033cret \033", false, "x *** ?");
        check(values, "\xff\xfe", false, "??");
}

static void test_long_line(void **state) {
        char line[LIMIT_LINE_BYTES + 1];
        char *values[] = { str("aaaa"), NULL };
        Mask *mask = mask_new(values);

        (void) state;
        memset(line, 'a', LIMIT_LINE_BYTES);
        line[LIMIT_LINE_BYTES] = '\0';
        _cleanup_free_ char *shown = mask_line(mask, line, true);
        assert_non_null(shown);
        assert_null(strchr(shown, 'a'));
        (void) mask_free(mask);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_each_occurrence),
                cmocka_unit_test(test_at_the_cut),
                cmocka_unit_test(test_printable),
                cmocka_unit_test(test_long_line),
        };

        return cmocka_run_group_tests_name("mask", tests, NULL, NULL);
}
