#include "fake-agent.h"

#include <signal.h>

#include "control/client.h"

/* A server in a process of its own that sends some bytes for each connection, whatever was asked.
 */
typedef struct Liar {
        const char *bytes;
        size_t size;
        bool one_by_one;
        bool silent; /* keeps the connection and says nothing */
} Liar;

typedef struct LiarSetup {
        char dir[64];
        char *path;
        pid_t pid;
} LiarSetup;

static void run_liar(int listen_fd, const Liar *liar) {
        char buf[4096];

        for (;;) {
                struct pollfd p = { .fd = listen_fd, .events = POLLIN };
                int fd;

                (void) poll(&p, 1, -1);
                fd = accept(listen_fd, NULL, NULL);
                if (fd < 0)
                        continue;
                if (recv(fd, buf, sizeof(buf), 0) < 0)
                        _exit(1);
                if (liar->silent)
                        continue;
                for (size_t i = 0; liar->one_by_one && i < liar->size; i++)
                        (void) send(fd, liar->bytes + i, 1, MSG_NOSIGNAL);
                for (size_t i = 0; !liar->one_by_one && i < liar->size;) {
                        ssize_t n = send(fd, liar->bytes + i, liar->size - i, MSG_NOSIGNAL);

                        if (n < 0)
                                break;
                        i += (size_t) n;
                }
                (void) close(fd);
        }
}

static void liar_start(LiarSetup *setup, const Liar *liar) {
        int fd = -1;

        *setup = (LiarSetup){ .dir = "/tmp/test-client-XXXXXX" };
        assert_non_null(mkdtemp(setup->dir));
        setup->path = str_format("%s/control.sock", setup->dir);
        assert_int_equal(unixsock_listen(setup->path, 0666, (gid_t) -1, &fd, NULL), 0);
        setup->pid = fork();
        assert_true(setup->pid >= 0);
        if (setup->pid == 0)
                run_liar(fd, liar);
        (void) close(fd);
}

static void liar_stop(LiarSetup *setup) {
        (void) kill(setup->pid, SIGKILL);
        (void) waitpid(setup->pid, NULL, 0);
        (void) unlink(setup->path);
        assert_int_equal(rmdir(setup->dir), 0);
        free(setup->path);
}

/* What a call gives when these bytes come back. words: what the sentence must hold, or NULL. */
static void assert_answer(const Liar *liar, int expected, const char *words) {
        _cleanup_(control_client_freep) ControlClient *client = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        ControlText text = { 0 };
        LiarSetup s;

        liar_start(&s, liar);
        assert_int_equal(control_client_new(s.path, &client, NULL), 0);
        assert_int_equal(control_client_call(client, "Reload", NULL, NULL, &control_text_table,
                                             &text, liar->silent ? MSEC(30) : SEC(10), &err),
                         expected);
        if (words && !strstr(error_text(err), words))
                fail_msg("no \"%s\" in: %s", words, error_text(err));
        if (expected == 0)
                assert_string_equal(text.text, "x");
        json_table_done(&control_text_table, &text);
        liar_stop(&s);
}

#define BYTES(text)                                                                                \
        &(Liar) {                                                                                  \
                .bytes = text, .size = sizeof(text)                                                \
        }

static void test_answers(_unused_ void **state) {
        assert_answer(BYTES("{\"parameters\":{\"text\":\"x\"}}"), 0, NULL);
        assert_answer(BYTES("{\"parameters\":{\"text\":\"x\",\"new\":1},\"also\":2}"), 0, NULL);
        assert_answer(&(Liar){ .bytes = "{\"parameters\":{\"text\":\"x\"}}",
                               .size = sizeof("{\"parameters\":{\"text\":\"x\"}}"),
                               .one_by_one = true },
                      0, NULL);
        assert_answer(
                BYTES("{\"error\":\"io.tendril.Agent.Refused\",\"parameters\":{\"text\":\"no\"}}"),
                -EPERM, "no");
        assert_answer(
                BYTES("{\"error\":\"io.tendril.Agent.Busy\",\"parameters\":{\"text\":\"later\"}}"),
                -EBUSY, "later");
        assert_answer(
                BYTES("{\"error\":\"io.tendril.Agent.Failed\",\"parameters\":{\"text\":\"ouch\"}}"),
                -EREMOTEIO, "ouch");
        assert_answer(BYTES("{\"error\":\"org.varlink.service.InvalidParameter\",\"parameters\":"
                            "{\"parameter\":\"p\"}}"),
                      -EREMOTEIO, "InvalidParameter (p)");
        assert_answer(BYTES("{\"error\":\"a.b.C\"}"), -EREMOTEIO, "a.b.C");
        assert_answer(BYTES("{\"error\":\"a.b.C\",\"parameters\":7}"), -EREMOTEIO, "a.b.C");
}

static void test_lies(_unused_ void **state) {
        _cleanup_free_ char *huge = calloc(1, 2 * LIMIT_REPLY_BYTES);

        assert_non_null(huge);
        assert_answer(BYTES(""), -EBADMSG, "answer");
        assert_answer(BYTES("{"), -EBADMSG, "answer");
        assert_answer(BYTES("{}"), -EBADMSG, "empty");
        assert_answer(BYTES("{\"parameters\":[]}"), -EBADMSG, "answer");
        assert_answer(BYTES("{\"parameters\":{\"text\":7}}"), -EBADMSG, "text");
        assert_answer(&(Liar){ .bytes = "{\"para", .size = 6 }, -ECONNRESET, "not known");
        assert_answer(&(Liar){ .bytes = "", .size = 0 }, -ECONNRESET, "not known");
        assert_answer(&(Liar){ .silent = true }, -ETIMEDOUT, "in time");
        memset(huge, 'x', 2 * LIMIT_REPLY_BYTES);
        assert_answer(&(Liar){ .bytes = huge, .size = 2 * LIMIT_REPLY_BYTES }, -EBADMSG,
                      "too large");
}

static void test_nobody(_unused_ void **state) {
        _cleanup_(error_freep) Error *err = NULL;
        ControlClient *client = NULL;
        LiarSetup s;

        assert_int_equal(control_client_new("/tmp/no/such/socket", &client, &err), -ENOENT);
        assert_non_null(strstr(error_text(err), "/tmp/no/such/socket"));
        err = error_free(err);

        liar_start(&s, &(Liar){ .silent = true });
        (void) kill(s.pid, SIGKILL);
        (void) waitpid(s.pid, NULL, 0);
        assert_int_equal(control_client_new(s.path, &client, &err), -ECONNREFUSED);
        assert_non_null(strstr(error_text(err), "nobody listens"));
        (void) unlink(s.path);
        (void) rmdir(s.dir);
        free(s.path);
}

/* Every method, through both sides. */
static void test_methods(_unused_ void **state) {
        _cleanup_(control_client_freep) ControlClient *client = NULL;
        ControlStatus status = { 0 };
        ControlHealth health = { 0 };
        ControlExplain explain = { 0 };
        ControlHistory history = { 0 };
        ControlLogs logs = { 0 };
        ControlStarted started = { 0 };
        ControlText text = { 0 };
        ControlWait wait = { 0 };
        char now[] = "now", web[] = "web", bundle[] = "/b.zip";
        Setup s;

#define CALL_OK(method, ...)                                                                       \
        assert_int_equal(control_client_call(client, method, __VA_ARGS__, SEC(10), NULL), 0)
        start(&s, NULL);
        assert_int_equal(control_client_new(s.path, &client, NULL), 0);
        CALL_OK("Status", NULL, NULL, &control_status_table, &status);
        assert_string_equal(status.current.label, "v1");
        assert_int_equal(((ControlProcess *) status.processes.items)[0].pid, 42);
        CALL_OK("Health", NULL, NULL, &control_health_table, &health);
        assert_true(health.healthy);
        CALL_OK("Explain", NULL, NULL, &control_explain_table, &explain);
        assert_non_null(strstr(explain.sentences[0], "clients 1"));
        CALL_OK("History", &control_history_ask_table, &(ControlHistoryAsk){ 2 },
                &control_history_table, &history);
        assert_string_equal(((DeployRecord *) history.deploys.items)[0].id, "d1");
        CALL_OK("Logs", &control_logs_ask_table, &(ControlLogsAsk){ NULL, 7 }, &control_logs_table,
                &logs);
        assert_int_equal(logs.offset, 12);
        CALL_OK("Deploy", &control_deploy_ask_table, &(ControlDeployAsk){ .bundle = bundle },
                &control_started_table, &started);
        assert_string_equal(started.deploy, "d2");
        json_table_done(&control_started_table, &started);
        CALL_OK("Rollback", NULL, NULL, &control_started_table, &started);
        assert_null(started.deploy);
        CALL_OK("Restart", &control_restart_ask_table, &(ControlRestartAsk){ web },
                &control_text_table, &text);
        json_table_done(&control_text_table, &text);
        CALL_OK("Reload", NULL, NULL, &control_text_table, &text);
        assert_string_equal(text.text, "reloaded");
        CALL_OK("Wait", &control_wait_ask_table,
                &(ControlWaitAsk){ .deploy = now, .timeout_usec = MSEC(1500) }, &control_wait_table,
                &wait);
        assert_string_equal(wait.result, "failed");

        json_table_done(&control_status_table, &status);
        json_table_done(&control_health_table, &health);
        json_table_done(&control_explain_table, &explain);
        json_table_done(&control_history_table, &history);
        json_table_done(&control_logs_table, &logs);
        json_table_done(&control_started_table, &started);
        json_table_done(&control_text_table, &text);
        json_table_done(&control_wait_table, &wait);
        client = control_client_free(client);
        stop(&s);
}

/* A call that ran out of time leaves nothing behind that the next would take for its answer. */
static void test_after_timeout(_unused_ void **state) {
        _cleanup_(control_client_freep) ControlClient *client = NULL;
        ControlHealth health = { 0 };
        ControlWait wait = { 0 };
        char later[] = "later";
        Setup s;

        start(&s, NULL);
        assert_int_equal(control_client_new(s.path, &client, NULL), 0);
        assert_int_equal(control_client_call(client, "Wait", &control_wait_ask_table,
                                             &(ControlWaitAsk){ .deploy = later },
                                             &control_wait_table, &wait, MSEC(20), NULL),
                         -ETIMEDOUT);
        assert_int_equal(control_client_call(client, "Health", NULL, NULL, &control_health_table,
                                             &health, SEC(10), NULL),
                         0);
        assert_string_equal(health.health, "ok");
        json_table_done(&control_health_table, &health);
        client = control_client_free(client);
        stop(&s);
}

typedef struct Seen {
        unsigned n;
        unsigned stop_after;
        const Setup *setup;
} Seen;

static int on_status(void *userdata, void *reply) {
        const ControlStatus *status = reply;
        Seen *seen = userdata;
        int fd;

        assert_string_equal(status->host, "h1");
        if (++seen->n == seen->stop_after)
                return 77;
        fd = raw_connect(seen->setup);
        raw_call(fd, seen->n < 3 ? CALL_WITH("Restart", "{\"process\":\"change\"}")
                                 : CALL_WITH("Restart", "{\"process\":\"end\"}"));
        assert_reply_has(fd, "done");
        (void) close(fd);
        return 0;
}

static void test_more(_unused_ void **state) {
        _cleanup_(control_client_freep) ControlClient *client = NULL;
        ControlHealth health = { 0 };
        Seen seen = { 0 };
        Setup s;

        start(&s, NULL);
        seen.setup = &s;
        assert_int_equal(control_client_new(s.path, &client, NULL), 0);
        /* To its end: three changes and the last one. */
        assert_int_equal(control_client_more(client, "Monitor", NULL, NULL, &control_status_table,
                                             on_status, &seen, NULL),
                         0);
        assert_int_equal(seen.n, 4);
        /* Broken off: the next call is answered all the same. */
        seen = (Seen){ .setup = &s, .stop_after = 2 };
        assert_int_equal(control_client_more(client, "Monitor", NULL, NULL, &control_status_table,
                                             on_status, &seen, NULL),
                         77);
        assert_int_equal(control_client_call(client, "Health", NULL, NULL, &control_health_table,
                                             &health, SEC(10), NULL),
                         0);
        json_table_done(&control_health_table, &health);
        client = control_client_free(client);
        stop(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_answers), cmocka_unit_test(test_lies),
                cmocka_unit_test(test_nobody),  cmocka_unit_test(test_methods),
                cmocka_unit_test(test_more),    cmocka_unit_test(test_after_timeout),
        };

        return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
