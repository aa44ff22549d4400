#include "base/buf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_append_grows_and_stays_a_string(void **state) {
        _cleanup_(buf_done) Buf buf = BUF_INIT(1000);
        int i;

        (void) state;
        assert_string_equal(buf_str(&buf), "");
        for (i = 0; i < 100; i++)
                assert_int_equal(buf_append_str(&buf, "0123456789"), 0);
        assert_int_equal(buf.size, 1000);
        assert_int_equal(strlen(buf_str(&buf)), 1000);
        assert_int_equal(buf_append(&buf, "", 0), 0);
}

static void test_beyond_the_maximum_changes_nothing(void **state) {
        _cleanup_(buf_done) Buf buf = BUF_INIT(5);

        (void) state;
        assert_int_equal(buf_append(&buf, "abc", 3), 0);
        assert_int_equal(buf_append(&buf, "def", 3), -EFBIG);
        assert_int_equal(buf_printf(&buf, "%d", 123), -EFBIG);
        assert_null(buf_reserve(&buf, 3));
        assert_int_equal(buf_append(&buf, "x", SIZE_MAX), -EFBIG);
        assert_string_equal(buf_str(&buf), "abc");
        assert_int_equal(buf_append(&buf, "de", 2), 0);
        assert_string_equal(buf_str(&buf), "abcde");
        assert_int_equal(buf.allocated <= 6, 1);
}

static void test_a_maximum_of_nothing_and_of_everything(void **state) {
        _cleanup_(buf_done) Buf none = BUF_INIT(0), all = BUF_INIT(SIZE_MAX);

        (void) state;
        assert_int_equal(buf_append(&none, "x", 1), -EFBIG);
        assert_int_equal(buf_append(&none, "", 0), 0);
        assert_int_equal(buf_append(&all, "x", 1), 0);
        assert_int_equal(buf_append(&all, "x", SIZE_MAX - 1), -ENOMEM);
        assert_string_equal(buf_str(&all), "x");
}

static void test_printf_appends(void **state) {
        _cleanup_(buf_done) Buf buf = BUF_INIT(4096);
        int i;

        (void) state;
        for (i = 0; i < 100; i++)
                assert_int_equal(buf_printf(&buf, "%d,", i), 0);
        assert_memory_equal(buf_str(&buf), "0,1,2,3,", 8);
        assert_int_equal(buf.size, 10 * 2 + 90 * 3);
}

static void test_reserve_and_commit(void **state) {
        _cleanup_(buf_done) Buf buf = BUF_INIT(100);
        char *to;

        (void) state;
        assert_int_equal(buf_append_str(&buf, "a"), 0);
        to = buf_reserve(&buf, 99);
        assert_non_null(to);
        memset(to, 'b', 99);
        buf_commit(&buf, 2);
        assert_string_equal(buf_str(&buf), "abb");
}

static void test_consume_removes_from_the_front(void **state) {
        _cleanup_(buf_done) Buf buf = BUF_INIT(100);

        (void) state;
        buf_consume(&buf, 0);
        buf_append_str(&buf, "hello world");
        buf_consume(&buf, 6);
        assert_string_equal(buf_str(&buf), "world");
        buf_consume(&buf, 5);
        assert_string_equal(buf_str(&buf), "");
        assert_int_equal(buf.size, 0);
}

static void test_clear_keeps_memory_and_steal_gives_it(void **state) {
        _cleanup_(buf_done) Buf buf = BUF_INIT(100);
        _cleanup_free_ char *text = NULL, *empty = NULL;

        (void) state;
        buf_append_str(&buf, "abc");
        buf_clear(&buf);
        assert_non_null(buf.data);
        assert_string_equal(buf_str(&buf), "");
        buf_append_str(&buf, "de");
        text = buf_steal(&buf);
        assert_string_equal(text, "de");
        assert_null(buf.data);
        empty = buf_steal(&buf);
        assert_string_equal(empty, "");
        assert_int_equal(buf_append_str(&buf, "again"), 0);
}

static void test_done_can_be_used_again(void **state) {
        Buf buf;

        (void) state;
        buf_init(&buf, 3);
        buf_append_str(&buf, "abc");
        buf_done(&buf);
        assert_int_equal(buf_append_str(&buf, "abcd"), -EFBIG);
        assert_int_equal(buf_append_str(&buf, "xyz"), 0);
        buf_done(&buf);
        buf_done(&buf);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_append_grows_and_stays_a_string),
                cmocka_unit_test(test_beyond_the_maximum_changes_nothing),
                cmocka_unit_test(test_a_maximum_of_nothing_and_of_everything),
                cmocka_unit_test(test_printf_appends),
                cmocka_unit_test(test_reserve_and_commit),
                cmocka_unit_test(test_consume_removes_from_the_front),
                cmocka_unit_test(test_clear_keeps_memory_and_steal_gives_it),
                cmocka_unit_test(test_done_can_be_used_again),
        };

        return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
