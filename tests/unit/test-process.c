/* What names a process for ever: its number, its start and the boot. */

#include "loop/child.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/str.h"
#include "loop.h"

static pid_t sleeper(const char *name) {
        pid_t pid = fork();

        if (pid == 0) {
                (void) prctl(PR_SET_NAME, name);
                for (;;)
                        (void) pause();
        }
        assert_true(pid > 0);
        (void) setpgid(pid, pid);
        return pid;
}

static void end(pid_t pid) {
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Ticks since boot, as /proc/uptime counts them. */
static uint64_t uptime_ticks(void) {
        double seconds = 0;
        FILE *f = fopen("/proc/uptime", "re");

        assert_non_null(f);
        assert_int_equal(fscanf(f, "%lf", &seconds), 1);
        (void) fclose(f);
        return (uint64_t) (seconds * (double) sysconf(_SC_CLK_TCK));
}

static void test_start_time(void **state) {
        uint64_t mine = 0, again = 0, other = 0, now = uptime_ticks();
        pid_t pid;

        (void) state;
        assert_int_equal(process_start_time(getpid(), &mine), 0);
        assert_int_equal(process_start_time(getpid(), &again), 0);
        assert_int_equal(mine, again);
        assert_true(mine > 0 && mine <= now + 2);
        assert_true(mine + 100 * (uint64_t) sysconf(_SC_CLK_TCK) > now);

        /* A name that looks like the fields behind it. */
        pid = sleeper("a) R 1 2 (b) 3");
        assert_int_equal(process_start_time(pid, &other), 0);
        assert_true(other >= mine && other <= uptime_ticks() + 2);
        end(pid);
        assert_int_equal(process_start_time(pid, &other), -ESRCH);
}

/* A zombie still has its start time: nobody else can have its number. */
static void test_zombie(void **state) {
        uint64_t start = 0;
        siginfo_t info;
        pid_t pid = fork();

        (void) state;
        if (pid == 0)
                _exit(0);
        assert_int_equal(waitid(P_PID, (id_t) pid, &info, WEXITED | WNOWAIT), 0);
        assert_int_equal(process_start_time(pid, &start), 0);
        assert_true(start > 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(process_start_time(pid, &start), -ESRCH);
}

static void test_boot_id(void **state) {
        char one[37], two[37];

        (void) state;
        assert_int_equal(process_boot_id(one), 0);
        assert_int_equal(process_boot_id(two), 0);
        assert_string_equal(one, two);
        assert_int_equal(strlen(one), 36);
        assert_int_equal(strspn(one, "0123456789abcdef-"), 36);
}

static void test_group(void **state) {
        pid_t leader = sleeper("leader"), other = sleeper("other");

        (void) state;
        assert_false(process_group_has_others(leader));
        assert_int_equal(setpgid(other, leader), 0);
        assert_true(process_group_has_others(leader));
        assert_false(process_group_has_others(other));

        /* Dead and not reaped is dead. */
        assert_int_equal(kill(other, SIGKILL), 0);
        assert_true(pid_goes(other));
        assert_false(process_group_has_others(leader));
        assert_int_equal(waitpid(other, NULL, 0), other);
        end(leader);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_start_time),
                cmocka_unit_test(test_zombie),
                cmocka_unit_test(test_boot_id),
                cmocka_unit_test(test_group),
        };

        return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
