#include "fake-agent.h"

static void test_calls(_unused_ void **state) {
        Setup s;
        int fd;

        start(&s, NULL);
        fd = raw_connect(&s);
        raw_call(fd, CALL("Health"));
        assert_reply(fd, HEALTH_REPLY);
        raw_call(fd, "{\"method\":\"io.tendril.Agent.Health\",\"parameters\":null}");
        assert_reply(fd, HEALTH_REPLY);
        raw_call(fd, CALL_WITH("Health", "{}"));
        assert_reply(fd, HEALTH_REPLY);
        raw_call(fd, CALL_WITH("Deploy", "{\"bundle\":\"/b.zip\",\"version\":\"v9\"}"));
        assert_reply(fd, "{\"parameters\":{\"deploy\":\"d2\",\"text\":\"v9\"}}");
        raw_call(fd, CALL("Rollback"));
        assert_reply(
                fd, "{\"parameters\":{\"deploy\":null,\"text\":\"there is no previous version\"}}");
        raw_call(fd, CALL_WITH("Logs", "{\"offset\":3}"));
        assert_reply(fd, "{\"parameters\":{\"deploy\":null,\"text\":\"line\\n\",\"offset\":8,"
                         "\"more\":false}}");
        raw_call(fd, CALL_WITH("Wait", "{\"deploy\":\"now\"}"));
        assert_reply(fd, "{\"parameters\":{\"result\":\"failed\",\"text\":null}}");
        raw_call(fd, CALL_MORE("Health"));
        assert_reply(fd, HEALTH_REPLY);
        (void) close(fd);
        stop(&s);
}

/* What is no call at all ends the connection, without an answer, and nothing else. */
static void test_rubbish(_unused_ void **state) {
        static const char *const texts[] = {
                "",
                "{",
                "[]",
                "null",
                "\"x\"",
                "{}",
                "{\"method\":1}",
                "{\"method\":\"\"}",
                "{\"method\":\"a.B\",\"method\":\"a.C\"}",
                "{\"method\":\"a.B\",\"extra\":1}",
                "{\"method\":\"a.B\",\"more\":true,\"oneway\":true}",
                "{\"method\":\"a.B\",\"more\":1}",
                "{\"method\":\"a.B\"} x",
                "{\"method\":\"a.\xff\"}",
                "\xef\xbb\xbf{\"method\":\"a.B\"}",
                "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        };
        Setup s;
        int fd;

        start(&s, NULL);
        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                fd = raw_connect(&s);
                raw_call(fd, CALL("Health"));
                assert_reply(fd, HEALTH_REPLY);
                raw_call(fd, texts[i]);
                assert_end(fd);
                (void) close(fd);
        }
        fd = raw_connect(&s);
        raw_call(fd, CALL("Health"));
        assert_reply(fd, HEALTH_REPLY);
        (void) close(fd);
        stop(&s);
}

/* Nesting that a recursive reader would die of. */
static void test_deep(_unused_ void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_REQUEST_BYTES);
        Setup s;
        int fd;

        start(&s, NULL);
        fd = raw_connect(&s);
        assert_int_equal(
                buf_append_str(&text, "{\"method\":\"io.tendril.Agent.Health\",\"parameters\":"),
                0);
        for (int i = 0; i < 30000; i++)
                assert_int_equal(buf_append_str(&text, "["), 0);
        raw_call(fd, buf_str(&text));
        assert_end(fd);
        (void) close(fd);
        stop(&s);
}

static void test_bytes_one_by_one(_unused_ void **state) {
        static const char text[] = CALL("Health");
        Setup s;
        int fd;

        start(&s, NULL);
        fd = raw_connect(&s);
        for (size_t i = 0; i < sizeof(text); i++)
                raw_send(fd, text + i, 1);
        assert_reply(fd, HEALTH_REPLY);
        (void) close(fd);
        stop(&s);
}

/* Many calls in one write: answered in their order, also when one of them waits. */
static void test_order(_unused_ void **state) {
        static const char texts[] =
                CALL("Health") "\0" CALL_WITH("Wait", "{\"deploy\":\"later\"}") "\0" CALL(
                        "Rollback") "\0" CALL_ONEWAY("Health") "\0" CALL("Nothing") "\0" CALL("Heal"
                                                                                              "th");
        Setup s;
        int fd, other;

        start(&s, NULL);
        fd = raw_connect(&s);
        raw_send(fd, texts, sizeof(texts));
        assert_reply(fd, HEALTH_REPLY);

        other = raw_connect(&s);
        raw_call(other, CALL("Explain"));
        assert_reply_has(other, "waiting 1");
        raw_call(other, CALL("Reload"));
        assert_reply_has(other, "reloaded");

        assert_reply(fd, "{\"parameters\":{\"result\":\"done\",\"text\":null}}");
        assert_reply_has(fd, "no previous version");
        assert_reply_has(fd, "MethodNotFound");
        assert_reply(fd, HEALTH_REPLY);
        (void) close(fd);
        (void) close(other);
        stop(&s);
}

/* Hundreds of calls in one write, far more than are carried out in a row. */
static void test_many_in_one_write(_unused_ void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_REQUEST_BYTES);
        Setup s;
        int fd;

        start(&s, NULL);
        fd = raw_connect(&s);
        for (int i = 0; i < 500; i++)
                assert_int_equal(buf_append(&text, CALL("Health"), sizeof(CALL("Health"))), 0);
        raw_send(fd, text.data, text.size);
        for (int i = 0; i < 500; i++)
                assert_reply(fd, HEALTH_REPLY);
        (void) close(fd);
        stop(&s);
}

static void test_oversized(_unused_ void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(4 * LIMIT_REQUEST_BYTES);
        Setup s;
        int fd;

        start(&s, NULL);
        /* The largest that is taken: with its NUL exactly the limit. */
        fd = raw_connect(&s);
        assert_int_equal(buf_append_str(&text, CALL("Health")), 0);
        while (text.size < LIMIT_REQUEST_BYTES - 1)
                assert_int_equal(buf_append_str(&text, " "), 0);
        raw_call(fd, buf_str(&text));
        assert_reply(fd, HEALTH_REPLY);
        /* One byte more. */
        assert_int_equal(buf_append_str(&text, " "), 0);
        (void) send(fd, text.data, text.size + 1, MSG_NOSIGNAL);
        assert_end(fd);
        (void) close(fd);
        stop(&s);
}

/* One who shuts its writing side down still gets its answers, a later one too. */
static void test_half_closed(_unused_ void **state) {
        static const char texts[] = CALL("Health") "\0" CALL_WITH("Wait", "{\"deploy\":\"later\"}");
        Setup s;
        int fd, other;

        start(&s, NULL);
        fd = raw_connect(&s);
        other = raw_connect(&s);
        raw_send(fd, texts, sizeof(texts));
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        assert_reply(fd, HEALTH_REPLY);
        raw_call(other, CALL("Reload"));
        assert_reply_has(other, "reloaded");
        assert_reply_has(fd, "done");
        assert_end(fd);
        (void) close(fd);
        (void) close(other);
        stop(&s);
}

/* A oneway call is carried out although its client left at once. */
static void test_oneway_and_leave(_unused_ void **state) {
        Setup s;
        int fd, other;

        start(&s, NULL);
        fd = raw_connect(&s);
        raw_call(fd, CALL_ONEWAY("Reload"));
        raw_call(fd, CALL_ONEWAY("Reload"));
        (void) close(fd);
        other = raw_connect(&s);
        await(other, "clients 1, reloads 2");
        (void) close(other);
        stop(&s);
}

static void test_leaves_while_waiting(_unused_ void **state) {
        Setup s;
        int fd, other;

        start(&s, NULL);
        fd = raw_connect(&s);
        other = raw_connect(&s);
        raw_call(fd, CALL_WITH("Wait", "{\"deploy\":\"later\"}"));
        await(other, "waiting 1");
        (void) close(fd);
        await(other, "gone 1, waiting 0, clients 1");
        (void) close(other);
        stop(&s);
}

static void test_monitor(_unused_ void **state) {
        Setup s;
        int fd, other;

        start(&s, NULL);
        fd = raw_connect(&s);
        other = raw_connect(&s);
        raw_call(fd, CALL_MORE("Monitor"));
        assert_reply_has(fd, "\"continues\":true");
        raw_call(other, CALL_WITH("Restart", "{\"process\":\"change\"}"));
        assert_reply_has(other, "done");
        assert_reply_has(fd, "\"continues\":true");
        raw_call(other, CALL_WITH("Restart", "{\"process\":\"end\"}"));
        assert_reply_has(other, "done");
        assert_reply_has(fd, "\"warnings\":[\"unsigned: true\"]}}");
        raw_call(fd, CALL("Health"));
        assert_reply(fd, HEALTH_REPLY);
        raw_call(fd, CALL_MORE("Monitor"));
        assert_reply_has(fd, "\"continues\":true");
        (void) close(fd);
        await(other, "gone 1, waiting 0, clients 1, reloads 0, monitor 0");
        (void) close(other);
        stop(&s);
}

/* One who does not read what it asked for is let go when its buffer is full. */
static void test_flood(_unused_ void **state) {
        Setup s;
        int fd, other;

        start(&s, NULL);
        fd = raw_connect(&s);
        other = raw_connect(&s);
        raw_call(fd, CALL_MORE("Monitor"));
        await(other, "monitor 1");
        raw_call(other, CALL_WITH("Restart", "{\"process\":\"flood\"}"));
        assert_reply_has(other, "done");
        await(other, "gone 1, waiting 0, clients 1, reloads 0, monitor 0");
        (void) close(fd);
        (void) close(other);
        stop(&s);
}

static void short_times(ControlBounds *bounds) {
        bounds->idle_usec = MSEC(50);
        bounds->stall_usec = MSEC(20);
}

/* Idle, in the middle of a call, and not reading: all are let go, and a waiting one is not. */
static void test_silent_clients(_unused_ void **state) {
        Setup s;
        int idle, half, unread, waiting;
        _cleanup_(buf_done) Buf text = BUF_INIT(1024 * 1024);

        start(&s, short_times);
        waiting = raw_connect(&s);
        raw_call(waiting, CALL_WITH("Wait", "{\"deploy\":\"later\"}"));
        idle = raw_connect(&s);
        half = raw_connect(&s);
        raw_send(half, "{\"meth", 7);
        unread = raw_connect(&s);
        for (int i = 0; i < 400; i++)
                assert_int_equal(buf_append(&text, CALL("Status"), sizeof(CALL("Status"))), 0);
        for (int i = 0; i < 50; i++)
                (void) send(unread, text.data, text.size, MSG_NOSIGNAL | MSG_DONTWAIT);

        assert_end(idle);
        assert_end(half);
        (void) close(idle);
        (void) close(half);
        for (bool known = false; !known;) {
                int other = raw_connect(&s);
                _cleanup_(buf_done) Buf buf = BUF_INIT(LIMIT_REPLY_BYTES);

                raw_call(other, CALL("Explain"));
                known = strstr(raw_receive(other, &buf), "waiting 1, clients 2") != NULL;
                (void) close(other);
        }
        (void) close(unread);
        (void) close(waiting);
        stop(&s);
}

static void few_places(ControlBounds *bounds) {
        bounds->n_clients = 6;
        bounds->n_clients_per_uid = 4;
}

static void test_too_many_clients(_unused_ void **state) {
        int fds[4], fd;
        Setup s;

        start(&s, few_places);
        for (size_t i = 0; i < ELEMENTS(fds); i++) {
                fds[i] = raw_connect(&s);
                raw_call(fds[i], CALL("Health"));
                assert_reply(fds[i], HEALTH_REPLY);
        }
        fd = raw_connect(&s);
        assert_reply_has(fd, "\"io.tendril.Agent.Busy\",\"parameters\":{\"text\":\"too many");
        assert_end(fd);
        (void) close(fd);

        (void) close(fds[0]);
        await(fds[1], "clients 3");
        fd = raw_connect(&s);
        raw_call(fd, CALL("Health"));
        assert_reply(fd, HEALTH_REPLY);
        (void) close(fd);
        for (size_t i = 1; i < ELEMENTS(fds); i++)
                (void) close(fds[i]);
        stop(&s);
}

/* The socket: for all to connect to, taken over from one who died, refused to a second agent. */
static void test_socket(_unused_ void **state) {
        _cleanup_(error_freep) Error *err = NULL;
        ControlServer *server = NULL;
        const ControlOps ops = { .status = fake_status };
        sd_event *loop = NULL;
        struct stat st;
        Setup s;

        start(&s, NULL);
        assert_int_equal(stat(s.path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0666);
        assert_int_equal(sd_event_new(&loop), 0);
        assert_int_equal(control_server_new(loop, s.path, &ops, &server, &err), -EADDRINUSE);
        assert_non_null(strstr(error_text(err), s.path));
        sd_event_unref(loop);
        stop(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_calls),
                cmocka_unit_test(test_rubbish),
                cmocka_unit_test(test_deep),
                cmocka_unit_test(test_bytes_one_by_one),
                cmocka_unit_test(test_order),
                cmocka_unit_test(test_many_in_one_write),
                cmocka_unit_test(test_oversized),
                cmocka_unit_test(test_half_closed),
                cmocka_unit_test(test_oneway_and_leave),
                cmocka_unit_test(test_leaves_while_waiting),
                cmocka_unit_test(test_monitor),
                cmocka_unit_test(test_flood),
                cmocka_unit_test(test_silent_clients),
                cmocka_unit_test(test_too_many_clients),
                cmocka_unit_test(test_socket),
        };

        return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
