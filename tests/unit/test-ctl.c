#include "fake-agent.h"

#include <pty.h>

#include "agent/contract.h"
#include "control/ctl.h"

/* What one run of a verb said and gave. */
typedef struct Run {
        int code;
        char *out;
        char *err;
} Run;

static void run_done(Run *run) {
        free(run->out);
        free(run->err);
        *run = (Run){ 0 };
}

typedef int (*VerbRun)(int argc, char **argv);

static VerbRun verb_of(const char *name) {
        for (const CtlVerb *v = ctl_verbs; v->name; v++)
                if (str_equal(v->name, name))
                        return v->run;
        fail_msg("no verb %s", name);
        return NULL;
}

static int run_line(const char *line) {
        _cleanup_free_ char *copy = strdup(line);
        char *argv[32], *save = NULL;
        int argc = 0;

        for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
                argv[argc++] = w;
        argv[argc] = NULL;
        return verb_of(argv[0])(argc, argv);
}

static void run_verb(const char *line, Run *ret) {
        FILE *old_out = stdout, *old_err = stderr;
        size_t n_out, n_err;

        *ret = (Run){ 0 };
        stdout = open_memstream(&ret->out, &n_out);
        stderr = open_memstream(&ret->err, &n_err);
        ret->code = run_line(line);
        (void) fclose(stdout);
        (void) fclose(stderr);
        stdout = old_out;
        stderr = old_err;
}

/* The code, and words of what is said; on success nothing on stderr, on failure one sentence there.
 */
static void assert_run(const char *line, int code, const char *words) {
        _cleanup_(run_done) Run run = { 0 };
        bool told = code == EXIT_CODE_OK || run.out;

        run_verb(line, &run);
        if (run.code != code)
                fail_msg("%s: exit %d, not %d; out: %s err: %s", line, run.code, code, run.out,
                         run.err);
        told = strstr(run.out, words) || strstr(run.err, words);
        if (!told)
                fail_msg("%s: no \"%s\"; out: %s err: %s", line, words, run.out, run.err);
        if (code == EXIT_CODE_OK)
                assert_string_equal(run.err, "");
        if (run.err[0])
                assert_ptr_equal(strchr(run.err, '\n'), run.err + strlen(run.err) - 1);
        assert_null(strchr(run.out, '\033'));
}

static void agent_start(Setup *s) {
        start(s, NULL);
        assert_int_equal(setenv(ARGS_ENV_SOCKET, s->path, true), 0);
}

static void agent_stop(Setup *s) {
        assert_int_equal(unsetenv(ARGS_ENV_SOCKET), 0);
        stop(s);
}

static void test_reading(_unused_ void **state) {
        Setup s;

        agent_start(&s);
        assert_run("status", EXIT_CODE_OK, "host h1, no environment yet (tendrild 0.1.0)\n");
        assert_run("status", EXIT_CODE_OK, "  running   v1 (revision 7)\n");
        assert_run("status", EXIT_CODE_OK,
                   "PROCESS  SLOT  STATE  PID  RESTARTS  LAST EXIT\n"
                   "web      -     -      42   0         -\n");
        assert_run("status", EXIT_CODE_OK, "Warnings:\n  unsigned: true\n");
        assert_run("status --json", EXIT_CODE_OK, "{\"agent\":\"0.1.0\",\"host\":\"h1\",");
        assert_run("health", EXIT_CODE_OK, "ok, HTTP 200 in ");
        assert_run("health --json", EXIT_CODE_OK, "{\"healthy\":true,");
        assert_run("explain", EXIT_CODE_OK, "gone 0, waiting 0, clients 1");
        assert_run("explain --json", EXIT_CODE_OK, "{\"sentences\":[");
        assert_run("version", EXIT_CODE_OK, "tendril " TENDRIL_VERSION "\ntendrild 0.1.0\n");
        agent_stop(&s);
}

static void test_history(_unused_ void **state) {
        Setup s;

        agent_start(&s);
        assert_run("history", EXIT_CODE_OK,
                   "DEPLOY  KIND      VERSION  TOOK  OUTCOME  CAUSE\n"
                   "d1      assigned  with     -     running  -\n");
        assert_run("history --json", EXIT_CODE_OK, "{\"deploys\":[{\"format\":1,\"id\":\"d1\",");
        assert_run("history d1", EXIT_CODE_OK, "hook      prebuild 10-x (host): ok in ");
        assert_run("history d1", EXIT_CODE_OK, "password=hunter2");
        assert_run("history d1 --json", EXIT_CODE_OK, "{\"format\":1,\"id\":\"d1\",");
        assert_run("history d9", EXIT_CODE_FAILED, "no deploy d9 is kept here");
        assert_run("history --limit 99", EXIT_CODE_FAILED, "read the records: ?[31mboom");
        assert_run("logs", EXIT_CODE_OK, "line\n");
        assert_run("logs d2 --follow", EXIT_CODE_OK, "line\n");
        assert_run("logs --json", EXIT_CODE_OK,
                   "{\"deploy\":null,\"text\":\"line\\n\",\"offset\":5,\"more\":false}\n");
        assert_run("logs ../x", EXIT_CODE_USAGE, "is no id of a deploy");
        agent_stop(&s);
}

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

static void test_waiting(_unused_ void **state) {
        Setup s;

        agent_start(&s);
        assert_run("wait", EXIT_CODE_USAGE, "say what to wait for");
        assert_run("wait --healthy --deploy d1", EXIT_CODE_USAGE, "say what to wait for");
        assert_run("wait --deploy a/b", EXIT_CODE_USAGE, "is no id of a deploy");
        assert_run("wait --healthy --timeout 2d", EXIT_CODE_USAGE, "at most 24 hours");
        assert_run("wait --healthy", EXIT_CODE_OK, "v1 is well\n");
        assert_run("wait --healthy --json", EXIT_CODE_OK,
                   "{\"result\":\"healthy\",\"text\":\"v1 is well\"}\n");
        assert_run("wait --deploy now", EXIT_CODE_FAILED, "failed\n");
        assert_run("wait --deploy none", EXIT_CODE_FAILED, "no deploy none");
        /* Two slices of time run out: without a terminal there are none, and the agent's word is
         * the end. */
        assert_run("deploy --retry --wait --timeout 1ms", EXIT_CODE_TIMEOUT, "timeout");
        agent_stop(&s);

        agent_start(&s);
        assert_run("deploy --retry --watch", EXIT_CODE_FAILED, "retry\nline\nthe gate failed\n");
        agent_stop(&s);
        assert_int_equal(ctl_result_code("retry", false), EXIT_CODE_FAILED);
        assert_int_equal(ctl_result_code("failed", true), EXIT_CODE_UNHEALTHY);
}

/* A change is told by another connection; the end of the Monitor ends the verb. */
static void test_watching(_unused_ void **state) {
        int fd, status = -1;
        pid_t pid;
        Setup s;

        agent_start(&s);
        fd = raw_connect(&s);
        (void) fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                _cleanup_(run_done) Run run = { 0 };

                run_verb("status --watch", &run);
                _exit(run.code == 0 && strstr(run.out, "Z running v1, desired nothing, health ok\n")
                              ? 0
                              : 1);
        }
        await(fd, "monitor 1");
        raw_call(fd, CALL_WITH("Restart", "{\"process\":\"end\"}"));
        assert_reply_has(fd, "done");
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        (void) close(fd);
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

static void test_nobody(_unused_ void **state) {
        static const char *const verbs[] = { "status",
                                             "status --watch",
                                             "health",
                                             "explain",
                                             "history",
                                             "logs",
                                             "deploy --retry",
                                             "rollback",
                                             "restart",
                                             "reload",
                                             "wait --healthy --timeout 50ms" };

        assert_int_equal(setenv(ARGS_ENV_ROOT, "/tmp/no-such-root", true), 0);
        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                assert_run(verbs[i], EXIT_CODE_UNREACHABLE,
                           "no agent at /tmp/no-such-root/run/tendril/control.sock");
        assert_run("version --json", EXIT_CODE_OK, "\"tendrild\":null}\n");
        assert_int_equal(unsetenv(ARGS_ENV_ROOT), 0);
        assert_run("status --root no/such/folder", EXIT_CODE_USAGE,
                   "--root no/such/folder: No such file");
        assert_int_equal(unsetenv(ARGS_ENV_ROOT), 0);
}

static void test_help(_unused_ void **state) {
        for (const CtlVerb *v = ctl_verbs; v->name; v++) {
                _cleanup_free_ char *line = str_format("%s --help", v->name);
                _cleanup_free_ char *usage = str_format("Usage: tendril %s ", v->name);

                assert_run(line, EXIT_CODE_OK, usage);
        }
}

static void test_config(_unused_ void **state) {
        char file[] = "/tmp/test-ctl-XXXXXX.yaml";
        _cleanup_free_ char *check = NULL;
        int fd = mkstemps(file, 5);

        assert_true(fd >= 0);
        check = str_format("config check %s", file);
        assert_int_equal(setenv(ARGS_ENV_ROOT, "/tmp/no-such-root", true), 0);
        assert_run("config", EXIT_CODE_OK, "gate.path");
        assert_run("config show --json", EXIT_CODE_OK, "{\"values\":[{\"name\":\"");
        assert_run("config check", EXIT_CODE_OK, "is good.\n");
        assert_run("config shwo", EXIT_CODE_USAGE, "neither show nor check");
        assert_run("config show x", EXIT_CODE_USAGE, "unexpected argument \"x\"");
        assert_run("config check /no/such/file", EXIT_CODE_FAILED, "/no/such/file: No such file");
        assert_run(check, EXIT_CODE_OK, "is good.\n");
        assert_int_equal(write(fd, "gate:\n  pth: /\n", 15), 15);
        assert_run(check, EXIT_CODE_FAILED, "yaml:2: ");
        (void) close(fd);
        (void) unlink(file);
        assert_int_equal(unsetenv(ARGS_ENV_ROOT), 0);
}

static void test_fsck(_unused_ void **state) {
        Setup s;

        /* A running agent would write what is being mended. */
        agent_start(&s);
        assert_run("fsck --repair", EXIT_CODE_REFUSED, "the agent runs; end it before --repair");
        agent_stop(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reading),  cmocka_unit_test(test_history),
                cmocka_unit_test(test_changing), cmocka_unit_test(test_waiting),
                cmocka_unit_test(test_watching), cmocka_unit_test(test_terminal),
                cmocka_unit_test(test_nobody),   cmocka_unit_test(test_help),
                cmocka_unit_test(test_config),   cmocka_unit_test(test_fsck),
        };

        return cmocka_run_group_tests_name("ctl", tests, NULL, NULL);
}
