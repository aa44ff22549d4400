#include "fake-agent.h"

#include <grp.h>

#include "control/client.h"

#define OTHER_GID 61002
#define OTHER_UID 61003

static void test_introspection(_unused_ void **state) {
        Setup s;
        int fd;

        start(&s, NULL);
        fd = raw_connect(&s);
        raw_call(fd, "{\"method\":\"org.varlink.service.GetInfo\"}");
        assert_reply_has(fd, "\"interfaces\":[\"org.varlink.service\",\"io.tendril.Agent\"]");
        raw_call(fd, "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":"
                     "{\"interface\":\"io.tendril.Agent\"}}");
        assert_reply_has(fd, "interface io.tendril.Agent\\n");
        raw_call(fd, "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":"
                     "{\"interface\":\"org.varlink.service\"}}");
        assert_reply_has(fd, "interface org.varlink.service\\n");
        raw_call(fd, "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":"
                     "{\"interface\":\"no.such\"}}");
        assert_reply(fd, "{\"error\":\"org.varlink.service.InterfaceNotFound\",\"parameters\":"
                         "{\"interface\":\"no.such\"}}");
        raw_call(fd, "{\"method\":\"org.varlink.service.GetInterfaceDescription\"}");
        assert_reply(fd, "{\"error\":\"org.varlink.service.InvalidParameter\",\"parameters\":"
                         "{\"parameter\":\"interface\"}}");
        (void) close(fd);
        stop(&s);
}

static void test_errors(_unused_ void **state) {
        static const char *const pairs[][2] = {
                { "{\"method\":\"no.such.Thing\"}",
                  "InterfaceNotFound\",\"parameters\":{\"interface\":\"no.such\"}" },
                { "{\"method\":\"nodots\"}",
                  "InterfaceNotFound\",\"parameters\":{\"interface\":\"nodots\"}" },
                { CALL("Nothing"),
                  "MethodNotFound\",\"parameters\":{\"method\":\"io.tendril.Agent.Nothing\"}" },
                { "{\"method\":\"org.varlink.service.Nothing\"}", "MethodNotFound" },
                { "{\"method\":\"io.tendril.Agent.Health\",\"upgrade\":true}",
                  "MethodNotImplemented" },
                { CALL("Monitor"), "\"org.varlink.service.ExpectedMore\"" },
                { CALL_WITH("Health", "{\"x\":1}"),
                  "InvalidParameter\",\"parameters\":{\"parameter\":\"x\"}" },
                { CALL_WITH("Health", "[]"), "InvalidParameter" },
                { CALL_WITH("Store", "{\"x\":1}"), "{\"parameter\":\"x\"}" },
                { CALL_WITH("History", "{\"limit\":\"a\"}"),
                  "InvalidParameter\",\"parameters\":{\"parameter\":\"limit\"}" },
                { CALL_WITH("History", "{\"limit\":-1}"), "{\"parameter\":\"limit\"}" },
                { CALL_WITH("History", "{\"limit\":99}"),
                  "\"io.tendril.Agent.Failed\",\"parameters\":{\"text\":\"read the records: "
                  "?[31mboom\"}" },
                { CALL("Deploy"), "{\"parameter\":\"parameters\"}" },
                { CALL_WITH("Deploy", "{\"bundle\":\"b.zip\"}"), "{\"parameter\":\"bundle\"}" },
                { CALL_WITH("Deploy", "{\"bundle\":\"/b\",\"version\":\"../x\"}"),
                  "{\"parameter\":\"version\"}" },
                { CALL_WITH("Deploy", "{\"retry\":true,\"resume\":true}"),
                  "{\"parameter\":\"parameters\"}" },
                { CALL_WITH("Deploy", "{\"retry\":true,\"version\":\"v1\"}"),
                  "{\"parameter\":\"version\"}" },
                { CALL_WITH("Deploy", "{\"bundle\":\"/busy\"}"),
                  "\"io.tendril.Agent.Busy\",\"parameters\":{\"text\":\"another" },
                { CALL_WITH("Deploy", "{\"bundle\":\"/refuse\"}"),
                  "\"io.tendril.Agent.Refused\",\"parameters\":{\"text\":\"no such label\"}" },
                { CALL_WITH("Deploy", "{\"bundle\":\"/silent\"}"),
                  "\"io.tendril.Agent.Failed\",\"parameters\":{\"text\":\"No space left on "
                  "device\"}" },
                { CALL_WITH("Logs", "{\"deploy\":\"../../etc/passwd\"}"),
                  "{\"parameter\":\"deploy\"}" },
                { CALL_WITH("Logs", "{\"deploy\":\"huge\"}"),
                  "Failed\",\"parameters\":{\"text\":\"the answer is too large" },
                { CALL("Wait"), "{\"parameter\":\"parameters\"}" },
                { CALL_WITH("Wait", "{\"healthy\":true,\"timeout\":86401}"),
                  "{\"parameter\":\"timeout\"}" },
                { CALL_WITH("Wait", "{\"deploy\":\"none\"}"),
                  "\"io.tendril.Agent.Failed\",\"parameters\":{\"text\":\"no deploy none\"}" },
        };
        Setup s;
        int fd;

        start(&s, NULL);
        fd = raw_connect(&s);
        for (size_t i = 0; i < ELEMENTS(pairs); i++) {
                raw_call(fd, pairs[i][0]);
                assert_reply_has(fd, pairs[i][1]);
        }
        raw_call(fd, CALL("Health"));
        assert_reply(fd, HEALTH_REPLY);
        raw_call(fd, CALL("Store"));
        assert_reply_has(fd, "{\"parameters\":{\"url\":\"s3://bucket/p\",\"remote\":true,");
        (void) close(fd);
        stop(&s);
}

static void few_places(ControlBounds *bounds) {
        bounds->n_clients = 6;
        bounds->n_clients_per_uid = 4;
}

/* Runs as another user; its exit code is the number of the check that failed. */
static int as_user(const Setup *s, gid_t primary, gid_t other, int (*run)(const Setup *s)) {
        int status = -1;
        pid_t pid;

        (void) fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (setgroups(1, &other) < 0 || setgid(primary) < 0 || setuid(OTHER_UID) < 0)
                        _exit(99);
                _exit(run(s));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

static int run_stranger(const Setup *s) {
        _cleanup_(control_client_freep) ControlClient *client = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        ControlHealth health = { 0 };

        if (control_client_new(s->path, &client, NULL) < 0)
                return 1;
        if (control_client_call(client, "Health", NULL, NULL, &control_health_table, &health,
                                SEC(10), &err) != -EPERM)
                return 2;
        return strstr(error_text(err), "group tendril") ? 0 : 3;
}

static int run_reader(const Setup *s) {
        _cleanup_(control_client_freep) ControlClient *client = NULL;
        ControlStatus status = { 0 };
        ControlHistory history = { 0 };
        ControlStarted started = { 0 };
        ControlStore store = { 0 };
        ControlLogs logs = { 0 };
        ControlText text = { 0 };
        const DeployRecord *record;
        const HookRecord *hook;
        bool hidden;

        if (control_client_new(s->path, &client, NULL) < 0)
                return 1;
        if (control_client_call(client, "Status", NULL, NULL, &control_status_table, &status,
                                SEC(10), NULL) < 0)
                return 2;
        json_table_done(&control_status_table, &status);
        if (control_client_call(client, "History", NULL, NULL, &control_history_table, &history,
                                SEC(10), NULL) < 0)
                return 3;
        record = history.deploys.items;
        hook = history.deploys.n == 1 ? record->hooks.items : NULL;
        hidden = hook && str_equal(record->label, "without") && strv_count(hook->tail) == 0;
        json_table_done(&control_history_table, &history);
        if (!hidden)
                return 4;
        if (control_client_call(client, "Logs", &control_logs_ask_table, &(ControlLogsAsk){ 0 },
                                &control_logs_table, &logs, SEC(10), NULL) != -EPERM)
                return 5;
        if (control_client_call(client, "Deploy", &control_deploy_ask_table,
                                &(ControlDeployAsk){ .retry = true }, &control_started_table,
                                &started, SEC(10), NULL) != -EPERM)
                return 6;
        if (control_client_call(client, "Rollback", NULL, NULL, &control_started_table, &started,
                                SEC(10), NULL) != -EPERM)
                return 7;
        if (control_client_call(client, "Reload", NULL, NULL, &control_text_table, &text, SEC(10),
                                NULL) != -EPERM)
                return 8;
        if (control_client_call(client, "Restart", &control_restart_ask_table,
                                &(ControlRestartAsk){ 0 }, &control_text_table, &text, SEC(10),
                                NULL) != -EPERM)
                return 9;
        if (control_client_call(client, "Store", NULL, NULL, &control_store_table, &store, SEC(10),
                                NULL) < 0)
                return 10;
        json_table_done(&control_store_table, &store);
        return 0;
}

/* Takes all it can get: the places of those who may change are not among them. */
static int run_greedy_reader(const Setup *s) {
        ControlClient *clients[8] = { NULL };
        int n = 0;

        for (size_t i = 0; i < ELEMENTS(clients); i++) {
                ControlHealth health = { 0 };

                if (control_client_new(s->path, &clients[i], NULL) < 0)
                        return 90;
                n += control_client_call(clients[i], "Health", NULL, NULL, &control_health_table,
                                         &health, SEC(10), NULL) == 0;
                json_table_done(&control_health_table, &health);
        }
        return n;
}

static void test_permissions(_unused_ void **state) {
        Setup s;
        int fd;

        if (geteuid() != 0) {
                print_message("SKIP: becoming another user needs root\n");
                skip();
        }
        start(&s, few_places);
        assert_int_equal(as_user(&s, OTHER_GID, OTHER_GID, run_stranger), 0);
        assert_int_equal(as_user(&s, READER_GID, OTHER_GID, run_reader), 0);
        assert_int_equal(as_user(&s, OTHER_GID, READER_GID, run_reader), 0);
        assert_int_equal(as_user(&s, OTHER_GID, READER_GID, run_greedy_reader), 2);

        fd = raw_connect(&s);
        raw_call(fd, CALL("History"));
        assert_reply_has(fd, "hunter2");
        (void) close(fd);
        stop(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_introspection),
                cmocka_unit_test(test_errors),
                cmocka_unit_test(test_permissions),
        };

        return cmocka_run_group_tests_name("method", tests, NULL, NULL);
}
