#include "service/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void test_names(void **state) {
        (void) state;
        assert_int_equal(slot_other(SLOT_A), SLOT_B);
        assert_int_equal(slot_other(SLOT_B), SLOT_A);
        assert_int_equal(slot_other(SLOT_NONE), SLOT_NONE);
        assert_string_equal(slot_name(SLOT_A), "a");
        assert_string_equal(slot_name(SLOT_B), "b");
        assert_string_equal(slot_name(SLOT_NONE), "");
        assert_int_equal(slot_from_name("a"), SLOT_A);
        assert_int_equal(slot_from_name("b"), SLOT_B);
        assert_int_equal(slot_from_name(""), SLOT_NONE);
        assert_int_equal(slot_from_name("ab"), SLOT_NONE);
        assert_int_equal(slot_from_name(NULL), SLOT_NONE);
}

static void test_turn(void **state) {
        char dir[] = "/tmp/test-slot-XXXXXX";
        struct stat st;

        (void) state;
        assert_non_null(mkdtemp(dir));
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(slot_read(fd), SLOT_A);
        static const Slot turns[] = { SLOT_A, SLOT_B, SLOT_B, SLOT_A, SLOT_A, SLOT_B };
        for (size_t i = 0; i < ELEMENTS(turns); i++) {
                assert_int_equal(slot_turn(fd, turns[i]), 0);
                assert_int_equal(slot_read(fd), turns[i]);
        }
        assert_int_equal(slot_turn(fd, SLOT_NONE), -EINVAL);
        assert_int_equal(slot_read(fd), SLOT_B);
        /* Looked up by the proxy's user. */
        assert_return_code(fstatat(fd, "b", &st, AT_SYMLINK_NOFOLLOW), errno);
        assert_int_equal(st.st_mode, S_IFREG | 0644);
        assert_int_equal(slot_turn(fd, SLOT_A), 0);
        assert_return_code(rmdir(dir), errno);
        assert_int_equal(slot_turn(fd, SLOT_B), -ENOENT);
        (void) close(fd);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_turn),
        };

        return cmocka_run_group_tests_name("slot", tests, NULL, NULL);
}
