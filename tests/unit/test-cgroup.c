/* Groups of the kernel in which this runs; where it lets us make none, only that is said. */

#include "loop/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/str.h"
#include "loop.h"

#define INSTANCE "test-cgroup"

/* A process in the group; it ends by a signal only. */
static pid_t sleeper_in(int cgroup_fd) {
        pid_t pid;
        int ready[2];
        char byte;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                int fd = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);

                if (fd < 0 || write(fd, "0", 1) != 1 || write(ready[1], "x", 1) != 1)
                        _exit(1);
                for (;;)
                        (void) pause();
        }
        (void) close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        (void) close(ready[0]);
        return pid;
}

static int make_or_skip(const char *name) {
        _cleanup_(error_freep) Error *err = NULL;
        int fd = -EBADF, r;

        r = cgroup_make(INSTANCE, name, &fd, &err);
        if (r < 0)
                fail_msg("%s", error_text(err));
        if (r == CGROUP_NONE) {
                print_message("no writable cgroup2 here: skipped\n");
                skip();
        }
        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        return fd;
}

static void wait_empty(int fd) {
        for (int i = 0; i < 5000 && !cgroup_is_empty(fd); i++)
                (void) usleep(1000);
        assert_true(cgroup_is_empty(fd));
}

static int remove_all(void **state) {
        (void) state;
        return cgroup_remove(INSTANCE, NULL);
}

static void test_names(void **state) {
        static const char *const bad[] = {
                "a/b", "..", ".", ".hidden", "a b", "a\n", "caf\xc3\xa9"
        };
        char longest[300];
        int fd = -EBADF;

        (void) state;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                assert_int_equal(cgroup_make(INSTANCE, bad[i], &fd, NULL), -EINVAL);
                assert_int_equal(cgroup_make(bad[i][0] == 'a' ? bad[i] : "a/b", "x", &fd, NULL),
                                 -EINVAL);
                assert_int_equal(cgroup_remove(INSTANCE, bad[i]), -EINVAL);
        }
        memset(longest, 'a', sizeof(longest));
        longest[sizeof(longest) - 1] = 0;
        assert_int_equal(cgroup_make(INSTANCE, longest, &fd, NULL), -EINVAL);
        assert_int_equal(cgroup_make(longest, "x", &fd, NULL), -EINVAL);
        assert_int_equal(fd, -EBADF);

        /* What is not there is removed. */
        assert_int_equal(cgroup_remove(INSTANCE, "never-made"), 0);
        assert_int_equal(cgroup_remove("never-made", NULL), 0);
}

static void test_life(void **state) {
        _cleanup_close_ int fd = make_or_skip("one"), again = make_or_skip("one"),
                            base = make_or_skip("");
        struct stat a, b;
        pid_t pids[4] = { 0 }, one, two;
        int status;

        (void) state;
        assert_int_equal(fstat(fd, &a), 0);
        assert_int_equal(fstat(again, &b), 0);
        assert_int_equal(a.st_ino, b.st_ino);
        assert_true(cgroup_is_empty(fd));
        assert_int_equal(cgroup_count(fd), 0);
        assert_int_equal(cgroup_pids(fd, pids, 4), 0);

        one = sleeper_in(fd);
        two = sleeper_in(fd);
        assert_false(cgroup_is_empty(fd));
        assert_false(cgroup_is_empty(base));
        assert_int_equal(cgroup_count(fd), 2);
        assert_int_equal(cgroup_count(base), 2);
        assert_int_equal(cgroup_pids(fd, pids, 4), 2);
        assert_int_equal(pids[0] + pids[1], one + two);
        assert_int_equal(pids[2], 0);
        /* The number there are, whatever the room. */
        pids[1] = 0;
        assert_int_equal(cgroup_pids(fd, pids, 1), 2);
        assert_int_equal(pids[1], 0);
        assert_int_equal(cgroup_remove(INSTANCE, "one"), -EBUSY);

        assert_int_equal(cgroup_signal(fd, SIGTERM), 0);
        assert_int_equal(waitpid(one, &status, 0), one);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
        assert_int_equal(waitpid(two, &status, 0), two);
        wait_empty(fd);
        assert_int_equal(cgroup_remove(INSTANCE, "one"), 0);

        /* Held, but gone: empty, and nothing to do. */
        assert_true(cgroup_is_empty(fd));
        assert_int_equal(cgroup_count(fd), 0);
        assert_int_equal(cgroup_kill(fd), 0);
        assert_int_equal(cgroup_signal(fd, SIGTERM), 0);
}

/* Groups that a program made in its own are counted, killed and removed with it. */
static void test_nested(void **state) {
        _cleanup_close_ int fd = make_or_skip("two"), inner = -EBADF, deeper = -EBADF;
        pid_t pids[3] = { 0 }, ended;

        (void) state;
        assert_int_equal(mkdirat(fd, "inner", 0755), 0);
        inner = openat(fd, "inner", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(mkdirat(inner, "deeper", 0755), 0);
        deeper = openat(inner, "deeper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        pids[0] = sleeper_in(fd);
        pids[1] = sleeper_in(inner);
        pids[2] = sleeper_in(deeper);
        assert_int_equal(cgroup_count(fd), 3);
        assert_int_equal(cgroup_count(inner), 2);

        assert_int_equal(cgroup_kill(fd), 0);
        for (size_t i = 0; i < 3; i++) {
                int status = 0;

                ended = waitpid(pids[i], &status, 0);
                assert_int_equal(ended, pids[i]);
                assert_int_equal(WTERMSIG(status), SIGKILL);
        }
        wait_empty(fd);
        assert_int_equal(cgroup_remove(INSTANCE, "two"), 0);
        assert_int_equal(faccessat(inner, "cgroup.procs", F_OK, 0), -1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_life),
                cmocka_unit_test(test_nested),
        };

        return cmocka_run_group_tests_name("cgroup", tests, NULL, remove_all);
}
