#include "base/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_set_keeps_code_and_sentence(void **state) {
        _cleanup_(error_freep) Error *e = NULL;

        (void) state;
        assert_int_equal(error_set(&e, -ENOSPC, "write %s: %d bytes", "a", 7), -ENOSPC);
        assert_int_equal(error_code(e), -ENOSPC);
        assert_string_equal(error_text(e), "write a: 7 bytes");
}

static void test_wrap_puts_outer_words_in_front(void **state) {
        _cleanup_(error_freep) Error *e = NULL;

        (void) state;
        error_set(&e, -ENOSPC, "No space");
        assert_int_equal(error_wrap(&e, -EIO, "version %s", "v42"), -EIO);
        assert_int_equal(error_wrap(&e, -EIO, "fetch"), -EIO);
        assert_int_equal(error_code(e), -EIO);
        assert_string_equal(error_text(e), "fetch: version v42: No space");
}

static void test_wrap_of_nothing_takes_words_of_the_code(void **state) {
        _cleanup_(error_freep) Error *e = NULL;

        (void) state;
        assert_int_equal(error_wrap(&e, -ENOENT, "open x"), -ENOENT);
        assert_string_equal(error_text(e), "open x: No such file or directory");
}

static void test_wrap_may_use_the_text_it_replaces(void **state) {
        _cleanup_(error_freep) Error *e = NULL;

        (void) state;
        error_set(&e, -EIO, "inner");
        error_wrap(&e, -EIO, "outer (%s)", error_text(e));
        assert_string_equal(error_text(e), "outer (inner): inner");
}

static void test_take_hands_over(void **state) {
        _cleanup_(error_freep) Error *to = NULL, *from = NULL;

        (void) state;
        error_set(&from, -EPERM, "no");
        assert_int_equal(error_take(&to, &from), -EPERM);
        assert_null(from);
        assert_string_equal(error_text(to), "no");
}

static void test_nobody_wants_words(void **state) {
        Error *from = NULL;

        (void) state;
        assert_int_equal(error_set(NULL, -EIO, "x"), -EIO);
        assert_int_equal(error_wrap(NULL, -EIO, "x"), -EIO);
        error_set(&from, -EPERM, "no");
        assert_int_equal(error_take(NULL, &from), -EPERM);
        assert_null(from);
        assert_int_equal(error_take(NULL, &from), 0);
}

static void test_null_is_an_unknown_error(void **state) {
        (void) state;
        assert_string_equal(error_text(NULL), "unknown error");
        assert_int_equal(error_code(NULL), 0);
        assert_null(error_free(NULL));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_set_keeps_code_and_sentence),
                cmocka_unit_test(test_wrap_puts_outer_words_in_front),
                cmocka_unit_test(test_wrap_of_nothing_takes_words_of_the_code),
                cmocka_unit_test(test_wrap_may_use_the_text_it_replaces),
                cmocka_unit_test(test_take_hands_over),
                cmocka_unit_test(test_nobody_wants_words),
                cmocka_unit_test(test_null_is_an_unknown_error),
        };

        return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
