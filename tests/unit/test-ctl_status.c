#include "ctl-run.h"

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

/* What a person sees of one way to reach the store, and what not. */
static void assert_credentials(const char *const *words, const char *absent) {
        _cleanup_(run_done) Run run = { 0 };

        run_verb("explain credentials", &run);
        assert_int_equal(run.code, EXIT_CODE_OK);
        for (; *words; words++)
                if (!strstr(run.out, *words))
                        fail_msg("no \"%s\" in: %s", *words, run.out);
        if (absent && strstr(run.out, absent))
                fail_msg("\"%s\" in: %s", absent, run.out);
        assert_null(strchr(run.out, '\033'));
        assert_run("reload", EXIT_CODE_OK, "reloaded");
}

static void test_credentials(_unused_ void **state) {
        static const char *const good[] = {
                "The credentials come from: instance role shop (access key ****ABCD).\n",
                "They end at 2099-01-01T00:00:00Z, in ",
                "They were obtained at 2020-01-01T00:00:00Z.\n",
                "Looked for, in this order:\n  environment: not set\n  IMDS: no answer\n",
                "The store is s3://bucket/p, asked at https://bucket.s3.eu-west-1.amazonaws.com",
                ".amazonaws.com, region eu-west-1.\n",
                "this host's clock is 20 min ahead of the server's",
                "It takes ETags in conditions bare.\n",
                "Requests: 7, of which repeated 2, throttled 1.\n",
                NULL,
        };
        static const char *const folder[] = { "The store file:///srv/store is a folder",
                                              "it needs no credentials.\n", NULL };
        static const char *const none[] = {
                "There are no credentials.\nWhat failed last, at 2020-01-01T00:00:00Z: IMDS: ?no",
                "asked at an endpoint that is not known yet, region unknown.\n",
                "the form of its ETags is unknown",
                "The last request that failed, at 2020-01-01T00:00:00Z: IMDS: ?no answer\n",
                NULL,
        };
        static const char *const ended[] = { "They ended at 2020-01-01T00:00:00Z; they are used on",
                                             "What failed last: IMDS", NULL };
        static const char *const nothing[] = { "No store is configured: set store.url", NULL };
        Setup s;

        agent_start(&s);
        assert_run("explain --json credentials", EXIT_CODE_OK,
                   "{\"url\":\"s3://bucket/p\",\"remote\":true,\"credentials\":{\"source\":"
                   "\"instance role shop\",\"key_id\":\"****ABCD\",");
        assert_run("explain secrets", EXIT_CODE_USAGE,
                   "\"secrets\": say `credentials`, or nothing");
        assert_credentials(good, "What failed");
        assert_credentials(folder, "credentials come");
        assert_credentials(none, "They ");
        assert_credentials(ended, "obtained");
        assert_credentials(nothing, "s3:");
        assert_run("explain credentials", EXIT_CODE_FAILED, "tendril-net does not start");
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

/* Begun before the agent: the wait is also for the agent to come. */
static void test_waiting_for_the_agent(_unused_ void **state) {
        _cleanup_free_ char *link_path = str_format("/tmp/test-ctl_status-%d", (int) getpid());
        _cleanup_free_ char *socket = str_format("%s/control.sock", link_path);
        int status = -1;
        pid_t pid;
        Setup s;

        (void) fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                _cleanup_(run_done) Run run = { 0 };

                (void) setenv(ARGS_ENV_SOCKET, socket, true);
                run_verb("wait --healthy --timeout 20s", &run);
                _exit(run.code);
        }
        start(&s, NULL);
        assert_int_equal(symlink(s.dir, link_path), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(unlink(link_path), 0);
        assert_int_equal(status, 0);
        stop(&s);
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

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reading),  cmocka_unit_test(test_credentials),
                cmocka_unit_test(test_waiting),  cmocka_unit_test(test_waiting_for_the_agent),
                cmocka_unit_test(test_watching),
        };

        return cmocka_run_group_tests_name("ctl_status", tests, NULL, NULL);
}
