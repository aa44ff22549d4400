#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "bundle/bundle.h"

/* Of "abc": FIPS 180-4's own example. */
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static int verify(const char *sha256, uint64_t size, TaskVerified *ret, Error **reterr) {
        _cleanup_close_ int fd = file_memfd("bundle", "abc", 3);
        char expected[65] = "";
        TaskVerify how = { .size = size };

        if (sha256) {
                memcpy(expected, sha256, sizeof(expected));
                how.sha256 = expected;
        }
        assert_true(fd >= 0);
        /* Wherever the descriptor stands. */
        assert_int_equal(lseek(fd, 2, SEEK_SET), 2);
        return bundle_verify(fd, &how, ret, reterr);
}

static void test_only_compute(void **state) {
        TaskVerified done = { 0 };

        (void) state;
        assert_int_equal(verify(NULL, 0, &done, NULL), 0);
        assert_string_equal(done.sha256, ABC);
        assert_int_equal(done.size, 3);
        json_table_done(&task_verified_table, &done);
}

static void test_expected(void **state) {
        TaskVerified done = { 0 };

        (void) state;
        assert_int_equal(verify(ABC, 3, &done, NULL), 0);
        assert_string_equal(done.sha256, ABC);
        json_table_done(&task_verified_table, &done);
}

static void test_other(void **state) {
        static const char other[] =
                "aa7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        _cleanup_(error_freep) Error *error = NULL;
        TaskVerified done = { 0 };

        (void) state;
        assert_int_equal(verify(other, 3, &done, &error), -EBADMSG);
        assert_non_null(strstr(error_text(error), ABC));
        assert_non_null(strstr(error_text(error), other));
        assert_null(done.sha256);
        error = error_free(error);
        assert_int_equal(verify(ABC, 4, &done, &error), -EBADMSG);
        assert_non_null(strstr(error_text(error), "3 bytes"));
        assert_null(done.sha256);
}

static void test_unreadable(void **state) {
        _cleanup_(error_freep) Error *error = NULL;
        TaskVerified done = { 0 };

        (void) state;
        assert_int_equal(bundle_verify(-EBADF, &(TaskVerify){ 0 }, &done, &error), -EBADF);
        assert_non_null(strstr(error_text(error), "read the bundle"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_only_compute),
                cmocka_unit_test(test_expected),
                cmocka_unit_test(test_other),
                cmocka_unit_test(test_unreadable),
        };

        return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
