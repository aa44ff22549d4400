#include "../../agent/service/session.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/macro.h"

/* A session of a leader and two more, one of them in a process group of its own; it is there when
 * this returns. */
static pid_t start_session(int *ret_fd) {
        int pair[2];
        char byte;

        assert_return_code(pipe(pair), errno);
        pid_t pid = fork();
        if (pid == 0) {
                (void) setsid();
                for (int i = 0; i < 2; i++)
                        if (fork() == 0) {
                                if (i == 0)
                                        (void) setpgid(0, 0);
                                (void) !write(pair[1], "", 1);
                                (void) pause();
                                _exit(0);
                        }
                (void) !write(pair[1], "", 1);
                (void) pause();
                _exit(0);
        }
        (void) close(pair[1]);
        for (int i = 0; i < 3; i++)
                assert_int_equal(read(pair[0], &byte, 1), 1);
        *ret_fd = pair[0];
        return pid;
}

static void test_members(void **state) {
        pid_t pids[8];
        int fd;
        char byte;

        (void) state;
        pid_t leader = start_session(&fd);
        assert_int_equal(session_pids(leader, pids, 8), 3);
        assert_int_equal(session_pids(leader, pids, 1), 3);
        assert_int_equal(session_pids(leader, NULL, 0), 3);
        assert_true(session_is_led(leader));
        assert_true(session_peak(&leader, 1) > 100 * 1024);
        assert_int_equal(session_peak(&(pid_t){ 999999999 }, 1), 0);

        /* Led by a zombie, then by none. */
        assert_return_code(kill(leader, SIGKILL), errno);
        assert_int_equal(waitid(P_PID, (id_t) leader, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
        assert_int_equal(session_pids(leader, pids, 8), 2);
        assert_false(session_is_led(leader));
        assert_int_equal(waitpid(leader, NULL, 0), leader);
        assert_int_equal(session_pids(leader, pids, 8), 2);
        assert_false(session_is_led(leader));

        assert_int_equal(session_signal(leader, SIGKILL), 2);
        assert_int_equal(read(fd, &byte, 1), 0); /* all have ended */
        (void) close(fd);
}

static void test_others(void **state) {
        pid_t pids[1024];
        size_t n = session_pids(getsid(0), pids, ELEMENTS(pids));
        bool found = false;

        (void) state;
        for (size_t i = 0; i < MIN(n, ELEMENTS(pids)); i++)
                found = found || pids[i] == getpid();
        assert_true(found);
        assert_int_equal(session_pids(999999999, pids, 8), 0);
        assert_int_equal(session_signal(999999999, SIGKILL), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_members),
                cmocka_unit_test(test_others),
        };

        return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
