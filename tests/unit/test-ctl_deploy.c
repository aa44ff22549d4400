#include "ctl-run.h"

#include <pty.h>

static void test_changing(_unused_ void **state) {
        Setup s;

        agent_start(&s);
        assert_run("deploy --retry", EXIT_CODE_OK, "retry\n");
        assert_run("deploy --resume --json", EXIT_CODE_OK,
                   "{\"deploy\":\"d2\",\"text\":\"resume\"}\n");
        assert_run("deploy --bundle /proc/self/exe --version v9", EXIT_CODE_OK, "v9\n");
        assert_run("deploy --bundle /no/such/file", EXIT_CODE_FAILED, "No such file");
        assert_run("deploy", EXIT_CODE_USAGE, "say one of");
        assert_run("deploy --retry --resume", EXIT_CODE_USAGE, "say one of");
        assert_run("deploy --retry --version v1", EXIT_CODE_USAGE, "--version names");
        assert_run("deploy --bundle /proc/self/exe --version a/b", EXIT_CODE_USAGE, "is no label");
        assert_run("deploy --retry --timeout 0", EXIT_CODE_USAGE, "--timeout");
        assert_run("rollback", EXIT_CODE_OK, "there is no previous version\n");
        assert_run("rollback --wait", EXIT_CODE_OK, "there is no previous version\n");
        assert_run("restart web", EXIT_CODE_OK, "done\n");
        assert_run("restart a b", EXIT_CODE_USAGE, "unexpected argument \"b\"");
        assert_run("reload", EXIT_CODE_OK, "reloaded\n");
        assert_run("reload --json", EXIT_CODE_OK, "{\"text\":\"reloaded\"}\n");
        agent_stop(&s);
}

/* On a terminal: colour, and progress in one line that is drawn again. */
static void test_terminal(_unused_ void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(64 * 1024);
        int master = -1, status = -1;
        pid_t pid;
        Setup s;

        agent_start(&s);
        assert_int_equal(unsetenv("NO_COLOR"), 0);
        (void) fflush(NULL);
        pid = forkpty(&master, NULL, NULL, NULL);
        assert_true(pid >= 0);
        if (pid == 0) {
                int code = run_line("deploy --retry --wait");

                (void) fflush(NULL);
                _exit(code);
        }
        for (;;) {
                char *to = buf_reserve(&text, 1024);
                ssize_t n = to ? read(master, to, 1024) : 0;

                if (n <= 0)
                        break;
                buf_commit(&text, (size_t) n);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(WEXITSTATUS(status), EXIT_CODE_FAILED);
        assert_non_null(strstr(buf_str(&text), "d2: fetch 40 %, "));
        assert_non_null(strstr(buf_str(&text), "\r\033[K"));
        assert_non_null(strstr(buf_str(&text), "\033[31mthe gate failed\033[0m"));
        (void) close(master);
        agent_stop(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_changing),
                cmocka_unit_test(test_terminal),
        };

        return cmocka_run_group_tests_name("ctl_deploy", tests, NULL, NULL);
}
