#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "../../agent/control/versions.h"
#include "base/str.h"

#define UTC(text) usec_of(text)

static usec_t usec_of(const char *text) {
        usec_t usec;

        assert_int_equal(time_parse(text, &usec), 0);
        return usec;
}

static char used[] = "prod", error[] = "unreadable";

/* Newest first, as they are read. */
static VersionRow rows[] = {
        { .label = (char[]){ "6" }, .created = (char[]){ "2026-06-01T00:00:00Z" } },
        { .label = (char[]){ "5" }, .created = (char[]){ "2026-05-01T00:00:00Z" } },
        { .label = (char[]){ "4" }, .created = (char[]){ "2026-04-01T00:00:00Z" }, .used = used },
        { .label = (char[]){ "3" }, .created = (char[]){ "2026-03-01T00:00:00Z" } },
        { .label = (char[]){ "2" }, .created = (char[]){ "2026-02-01T00:00:00Z" }, .error = error },
        { .label = (char[]){ "1" }, .created = NULL },
};

static void check(uint64_t keep, usec_t before, const char *expected) {
        const VersionRows all = { .rows = { rows, ELEMENTS(rows) } };
        const VersionRow *chosen[ELEMENTS(rows)];
        _cleanup_(buf_done) Buf labels = BUF_INIT(32);
        size_t n = version_rows_choose(&all, keep, before, chosen);

        for (size_t i = 0; i < n; i++)
                assert_int_equal(buf_append_str(&labels, chosen[i]->label), 0);
        assert_string_equal(buf_str(&labels), expected);
}

static void test_by_count(void **state) {
        (void) state;
        check(UINT64_MAX, 0, "");
        check(0, 0, "6531");
        check(1, 0, "531");
        check(2, 0, "31");
        check(4, 0, "1");
        check(100, 0, "");
}

/* One without a time is of no age. */
static void test_by_age(void **state) {
        (void) state;
        check(UINT64_MAX, UTC("2026-05-15T00:00:00Z"), "53");
        check(UINT64_MAX, UTC("2026-05-01T00:00:00Z"), "3");
        check(UINT64_MAX, UTC("2020-01-01T00:00:00Z"), "");
}

static void test_by_both(void **state) {
        (void) state;
        check(4, UTC("2026-05-15T00:00:00Z"), "531");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_by_count),
                cmocka_unit_test(test_by_age),
                cmocka_unit_test(test_by_both),
        };

        return cmocka_run_group_tests_name("versions", tests, NULL, NULL);
}
