/* Packets between two processes: both ends in one loop, or a forked helper that blocks. */

#include "loop/call.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "agent/limits.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/str.h"
#include "loop.h"

typedef struct Thing {
        char *text;
        uint64_t number;
} Thing;

static const JsonField thing_fields[] = {
        { .name = "text",
          .kind = JSON_KIND_STRING,
          .offset = offsetof(Thing, text),
          .max = LIMIT_PACKET_BYTES },
        { .name = "number", .kind = JSON_KIND_U64, .offset = offsetof(Thing, number) },
        { 0 },
};
static const JsonTable thing_table = { thing_fields, sizeof(Thing) };

/* What became of the calls of a test. */
typedef struct Ends {
        int n_done, n_ok, n_closed, last_r;
        uint64_t last_number;
        char text[256];
        int fd;
        CallPeer *peer;
        bool free_peer, free_when_closed, send_again;
} Ends;

static void on_done(void *userdata, int r, CallReply *reply, Error *err) {
        _cleanup_(error_freep) Error *decode_err = NULL;
        Ends *e = userdata;
        Thing thing = { 0 };

        e->n_done++;
        e->last_r = r;
        assert_non_null(reply);
        if (r < 0) {
                assert_null(reply->answer);
                assert_non_null(err);
                (void) snprintf(e->text, sizeof(e->text), "%s", error_text(err));
        } else {
                e->n_ok++;
                assert_null(err);
                if (json_decode_value(reply->answer, &thing_table, JSON_STRICT, &thing,
                                      &decode_err) < 0)
                        fail_msg("%s", error_text(decode_err));
                e->last_number = thing.number;
                (void) snprintf(e->text, sizeof(e->text), "%s", thing.text ?: "");
                json_table_done(&thing_table, &thing);
                if (reply->n_fds > 0)
                        e->fd = TAKE_FD(reply->fds[0]);
        }
        if (e->send_again) {
                e->send_again = false;
                assert_int_equal(call_send(e->peer, "again", NULL, NULL, NULL, 0, 0, on_done, e),
                                 -ECONNRESET);
        }
        if (e->free_peer)
                e->peer = call_peer_free(e->peer);
}

static void on_closed(void *userdata) {
        Ends *e = userdata;

        e->n_closed++;
        if (e->free_when_closed)
                e->peer = call_peer_free(e->peer);
}

/* A peer whose other end is ours: what the helper would do the test does. */
static int peer_new(sd_event *loop, Ends *e) {
        int fds[2];

        *e = (Ends){ .fd = -EBADF };
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(call_peer_new(loop, fds[0], on_closed, e, &e->peer), 0);
        return fds[1];
}

static int send_thing(Ends *e, const char *method, uint64_t number, usec_t timeout) {
        Thing thing = { .number = number };

        return call_send(e->peer, method, &thing_table, &thing, NULL, 0, timeout, on_done, e);
}

static void turn(sd_event *loop, int n) {
        while (n-- > 0)
                assert_true(sd_event_run(loop, 0) >= 0);
}

/* ---- a helper that blocks, as tendril-bundle does ---- */

static void serve_one(int fd, CallRequest *request) {
        char content[64] = "", answer_text[128];
        _cleanup_close_ int memfd = -EBADF;
        Thing ask = { 0 }, answer = { 0 };
        ssize_t n;

        if (json_decode_value(request->parameters, &thing_table, JSON_STRICT, &ask, NULL) < 0)
                _exit(1);
        if (str_equal(request->method, "echo")) {
                answer = (Thing){ .text = ask.text, .number = ask.number + 1 };
                if (call_answer(fd, request->id, &thing_table, &answer, NULL, 0) < 0)
                        _exit(2);
        } else if (str_equal(request->method, "read")) {
                /* Reads the descriptor that came along, answers with one of its own. */
                if (request->n_fds != 2 || !(fcntl(request->fds[0], F_GETFD) & FD_CLOEXEC))
                        _exit(3);
                n = pread(request->fds[1], content, sizeof(content) - 1, 0);
                (void) snprintf(answer_text, sizeof(answer_text), "%zd:%s", n, content);
                answer.text = answer_text;
                memfd = file_memfd("answer", "from the helper", 15);
                if (call_answer(fd, request->id, &thing_table, &answer, &memfd, 1) < 0)
                        _exit(4);
        } else if (str_equal(request->method, "fail")) {
                if (call_fail(fd, request->id, -ENOSPC, "write: \xff no \"room\"\n") < 0)
                        _exit(5);
        } else if (str_equal(request->method, "plain")) {
                if (call_answer(fd, request->id, NULL, NULL, NULL, 0) < 0)
                        _exit(6);
        } else if (str_equal(request->method, "die"))
                _exit(9);
        json_table_done(&thing_table, &ask);
}

static pid_t helper_new(sd_event *loop, Ends *e) {
        int fd = peer_new(loop, e), r;
        CallRequest request;
        pid_t pid;

        pid = fork();
        assert_true(pid >= 0);
        if (pid > 0) {
                (void) close(fd);
                return pid;
        }

        /* Ours must see the end of the channel: no copy of the other end stays open here. */
        for (int i = 3; i < 64; i++)
                if (i != fd)
                        (void) close(i);
        while ((r = call_receive(fd, &request)) >= 0) {
                serve_one(fd, &request);
                call_request_done(&request);
        }
        _exit(r == -ENODATA ? 0 : 20);
}

static void assert_helper_ends(pid_t pid, int want) {
        int status = 0;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), want);
}

static void test_round_trip(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        char word[] = "caf\xc3\xa9 \"quoted\"\n", content[32] = "";
        Thing thing = { .text = word, .number = 41 };
        int files[2], n_open;
        Ends e;
        pid_t pid = helper_new(loop, &e);

        (void) state;
        assert_true(call_send(e.peer, "echo", &thing_table, &thing, NULL, 0, SEC(10), on_done, &e) >
                    0);
        assert_int_equal(e.n_done, 0);
        loop_until(loop, &e.n_done, 1);
        assert_int_equal(e.last_r, 0);
        assert_int_equal(e.last_number, 42);
        assert_string_equal(e.text, word);

        /* Descriptors both ways; the caller's are its own still. */
        files[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        files[1] = file_memfd("question", "to the helper", 13);
        assert_true(call_send(e.peer, "read", NULL, NULL, files, 2, SEC(10), on_done, &e) > 0);
        loop_until(loop, &e.n_done, 2);
        assert_int_equal(e.last_r, 0);
        assert_string_equal(e.text, "13:to the helper");
        assert_true(e.fd >= 0);
        assert_true(fcntl(e.fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(pread(e.fd, content, sizeof(content) - 1, 0), 15);
        assert_string_equal(content, "from the helper");
        assert_true(fcntl(files[0], F_GETFD) >= 0 && fcntl(files[1], F_GETFD) >= 0);
        n_open = dup(0);
        (void) close(n_open);
        (void) close(e.fd);
        e.fd = -EBADF;

        /* Descriptors that the callback does not take are closed. */
        for (int i = 0; i < 20; i++) {
                assert_true(call_send(e.peer, "read", NULL, NULL, files, 2, SEC(10), on_done, &e) >
                            0);
                loop_until(loop, &e.n_done, 3 + i);
                closep(&e.fd);
        }
        assert_true(dup(0) <= n_open);
        (void) close(n_open);
        (void) close(files[0]);
        (void) close(files[1]);

        assert_true(call_send(e.peer, "plain", NULL, NULL, NULL, 0, SEC(10), on_done, &e) > 0);
        loop_until(loop, &e.n_done, 23);
        assert_int_equal(e.last_r, 0);

        /* It ends when we close. */
        e.peer = call_peer_free(e.peer);
        assert_helper_ends(pid, 0);
        assert_int_equal(e.n_closed, 0);
}

static void test_error(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        Ends e;
        pid_t pid = helper_new(loop, &e);

        (void) state;
        assert_true(call_send(e.peer, "fail", NULL, NULL, NULL, 0, SEC(10), on_done, &e) > 0);
        loop_until(loop, &e.n_done, 1);
        assert_int_equal(e.last_r, -ENOSPC);
        assert_string_equal(e.text, "fail: write: ? no \"room\"?");
        e.peer = call_peer_free(e.peer);
        assert_helper_ends(pid, 0);
}

/* The helper dies: what it had answered before counts, the rest is unknown, each call ends once. */
static void test_helper_dies(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        Ends e;
        pid_t pid = helper_new(loop, &e);

        (void) state;
        e.send_again = false;
        assert_true(send_thing(&e, "echo", 1, 0) > 0);
        assert_true(send_thing(&e, "die", 0, 0) > 0);
        assert_true(send_thing(&e, "echo", 2, 0) > 0);
        assert_true(send_thing(&e, "echo", 3, 0) > 0);
        loop_until(loop, &e.n_closed, 1);
        assert_int_equal(e.n_done, 4);
        assert_int_equal(e.n_ok, 1);
        assert_int_equal(e.last_number, 2);
        assert_int_equal(e.last_r, -ECONNRESET);
        assert_non_null(strstr(e.text, "echo: "));
        assert_int_equal(send_thing(&e, "echo", 4, 0), -ECONNRESET);
        call_cancel(e.peer, 1);
        e.peer = call_peer_free(e.peer);
        assert_helper_ends(pid, 9);

        /* Sending from the callback that tells it, and freeing in on_closed. */
        pid = helper_new(loop, &e);
        e.send_again = true;
        e.free_when_closed = true;
        assert_true(send_thing(&e, "die", 0, 0) > 0);
        loop_until(loop, &e.n_closed, 1);
        assert_int_equal(e.n_done, 1);
        assert_null(e.peer);
        assert_helper_ends(pid, 9);
}

static void test_timeout(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        CallRequest request;
        Ends e;
        int fd = peer_new(loop, &e);

        (void) state;
        assert_true(send_thing(&e, "slow", 1, MSEC(20)) > 0);
        loop_until(loop, &e.n_done, 1);
        assert_int_equal(e.last_r, -ETIMEDOUT);
        assert_string_equal(e.text, "slow: no answer within 20 ms");

        /* The late answer is nobody's; the connection lives. */
        assert_int_equal(call_receive(fd, &request), 0);
        assert_int_equal(call_answer(fd, request.id, NULL, NULL, NULL, 0), 0);
        call_request_done(&request);
        turn(loop, 3);
        assert_int_equal(e.n_done, 1);
        assert_int_equal(e.n_closed, 0);

        assert_true(send_thing(&e, "quick", 1, SEC(10)) > 0);
        turn(loop, 2);
        assert_int_equal(call_receive(fd, &request), 0);
        assert_string_equal(request.method, "quick");
        assert_int_equal(call_answer(fd, request.id, NULL, NULL, NULL, 0), 0);
        call_request_done(&request);
        loop_until(loop, &e.n_ok, 1);
        e.peer = call_peer_free(e.peer);
        (void) close(fd);
}

static void test_cancel(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        CallRequest request;
        int one, two, stray;
        Ends e;
        int fd = peer_new(loop, &e);

        (void) state;
        /* Before it was sent: it never is. */
        one = send_thing(&e, "one", 1, SEC(10));
        two = send_thing(&e, "two", 2, SEC(10));
        assert_true(one > 0 && two > 0 && one != two);
        call_cancel(e.peer, one);
        call_cancel(e.peer, one);
        call_cancel(e.peer, 12345);
        call_cancel(e.peer, -1);
        turn(loop, 3);
        assert_int_equal(call_receive(fd, &request), 0);
        assert_string_equal(request.method, "two");
        assert_int_equal(request.id, two);

        /* Afterwards: the answer, and what is in it, is dropped. */
        call_cancel(e.peer, two);
        stray = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_int_equal(call_answer(fd, request.id, NULL, NULL, &stray, 1), 0);
        (void) close(stray);
        call_request_done(&request);
        turn(loop, 3);
        assert_int_equal(e.n_done, 0);
        assert_int_equal(dup(0), stray);
        (void) close(stray);

        /* Freeing with calls under way tells nobody. */
        assert_true(send_thing(&e, "three", 1, SEC(10)) > 0);
        e.peer = call_peer_free(e.peer);
        turn(loop, 1);
        assert_int_equal(e.n_done, 0);
        assert_int_equal(call_receive(fd, &request), -ENODATA);
        (void) close(fd);
}

/* More than the kernel queues: all arrive, in order; more than is allowed: refused. */
static void test_full_queue(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_free_ char *big = calloc(1, 40001);
        Thing thing = { .text = big };
        CallRequest request;
        Ends e;
        int fd = peer_new(loop, &e), file = open("/dev/null", O_RDONLY | O_CLOEXEC);

        (void) state;
        memset(big, 'x', 40000);
        for (int i = 0; i < LIMIT_CALLS; i++)
                assert_int_equal(call_send(e.peer, "big", &thing_table, &thing, &file, i % 2,
                                           SEC(10), on_done, &e),
                                 i + 1);
        assert_int_equal(call_send(e.peer, "big", NULL, NULL, NULL, 0, SEC(10), on_done, &e),
                         -ENOBUFS);
        (void) close(file);

        turn(loop, 5);
        for (uint64_t i = 0; i < LIMIT_CALLS; i++) {
                assert_int_equal(call_receive(fd, &request), 0);
                assert_int_equal(request.id, i + 1);
                assert_int_equal(request.n_fds, i % 2);
                assert_int_equal(call_answer(fd, request.id, NULL, NULL, NULL, 0), 0);
                call_request_done(&request);
                turn(loop, 2);
        }
        loop_until(loop, &e.n_ok, LIMIT_CALLS);
        assert_int_equal(e.n_done, LIMIT_CALLS);
        e.peer = call_peer_free(e.peer);
        (void) close(fd);
}

static void test_oversized(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_free_ char *big = calloc(1, LIMIT_PACKET_BYTES);
        Thing thing = { .text = big };
        Ends e;
        int fd = peer_new(loop, &e);

        (void) state;
        memset(big, 'x', LIMIT_PACKET_BYTES - 1);
        assert_int_equal(call_send(e.peer, "big", &thing_table, &thing, NULL, 0, 0, on_done, &e),
                         -E2BIG);
        assert_int_equal(call_answer(fd, 1, &thing_table, &thing, NULL, 0), -EMSGSIZE);
        /* Escaping counts: what fits as text may not as JSON. */
        memset(big, '"', LIMIT_PACKET_BYTES / 2);
        big[LIMIT_PACKET_BYTES / 2] = 0;
        assert_int_equal(call_send(e.peer, "big", &thing_table, &thing, NULL, 0, 0, on_done, &e),
                         -E2BIG);
        turn(loop, 2);
        assert_int_equal(e.n_done, 0);
        e.peer = call_peer_free(e.peer);
        (void) close(fd);
}

/* What a helper that was taken over might send: the connection ends, the calls too, nothing leaks.
 */
static void test_rubbish(void **state) {
        static const char *const packets[] = {
                "",
                "{}",
                "rubbish",
                "[1]",
                "{\"id\":0,\"answer\":{}}",
                "{\"id\":-1,\"answer\":{}}",
                "{\"id\":\"1\",\"answer\":{}}",
                "{\"id\":1,\"id\":1,\"answer\":{}}",
                "{\"id\":1}",
                "{\"id\":1,\"answer\":null}",
                "{\"id\":1,\"answer\":{},\"error\":{\"code\":\"EIO\"}}",
                "{\"id\":1,\"answer\":{}} x",
                "{\"id\":1,\"method\":\"call-me\"}",
                "{\"id\":1,\"answer\":\xff}",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(packets) + 2; i++) {
                _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
                _cleanup_free_ char *big = calloc(1, 2 * LIMIT_PACKET_BYTES);
                Ends e;
                int fd = peer_new(loop, &e);

                assert_true(send_thing(&e, "ask", 1, 0) > 0);
                turn(loop, 2);
                if (i < ELEMENTS(packets))
                        assert_true(send(fd, packets[i], strlen(packets[i]), 0) >= 0);
                else if (i == ELEMENTS(packets)) {
                        memset(big, ' ', (size_t) 2 * LIMIT_PACKET_BYTES);
                        memcpy(big, "{\"id\":1,\"answer\":{}}", 20);
                        assert_true(send(fd, big, LIMIT_PACKET_BYTES + 1, 0) > 0);
                } else {
                        /* Five descriptors. */
                        union {
                                struct cmsghdr header;
                                char room[CMSG_SPACE(5 * sizeof(int))];
                        } control = { .header = { .cmsg_len = CMSG_LEN(5 * sizeof(int)),
                                                  .cmsg_level = SOL_SOCKET,
                                                  .cmsg_type = SCM_RIGHTS } };
                        struct iovec data = { big, 20 };
                        struct msghdr message = { .msg_iov = &data,
                                                  .msg_iovlen = 1,
                                                  .msg_control = &control,
                                                  .msg_controllen = sizeof(control) };
                        int five[5] = { fd, fd, fd, fd, fd };

                        memcpy(big, "{\"id\":1,\"answer\":{}}", 20);
                        memcpy(CMSG_DATA(&control.header), five, sizeof(five));
                        assert_true(sendmsg(fd, &message, 0) > 0);
                }
                loop_until(loop, &e.n_closed, 1);
                assert_int_equal(e.n_done, 1);
                assert_int_equal(e.n_ok, 0);
                assert_int_equal(e.last_r, i == 0 ? -ECONNRESET : -EBADMSG);
                e.peer = call_peer_free(e.peer);
                (void) close(fd);
        }
}

/* Errors whose words or name are odd end one call, not the connection. */
static void test_odd_errors(void **state) {
        static const struct {
                const char *error;
                int r;
        } odd[] = {
                { "{\"code\":\"EPERM\"}", -EPERM },
                { "{\"code\":\"EAGAIN\",\"text\":\"later\"}", -EAGAIN },
                { "{\"code\":\"NO_SUCH\",\"text\":\"x\"}", -EIO },
                { "{\"code\":\"\"}", -EIO },
                { "{\"text\":\"x\"}", -EBADMSG },
                { "\"broken\"", -EBADMSG },
        };
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        char packet[256];
        Ends e;
        int fd = peer_new(loop, &e);

        (void) state;
        for (size_t i = 0; i < ELEMENTS(odd); i++) {
                assert_int_equal(send_thing(&e, "ask", 1, 0), i + 1);
                (void) snprintf(packet, sizeof(packet), "{\"id\":%zu,\"error\":%s}", i + 1,
                                odd[i].error);
                assert_true(send(fd, packet, strlen(packet), 0) > 0);
                loop_until(loop, &e.n_done, (int) i + 1);
                assert_int_equal(e.last_r, odd[i].r);
        }
        assert_int_equal(e.n_closed, 0);
        e.peer = call_peer_free(e.peer);
        (void) close(fd);
}

static void test_free_in_callback(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        CallRequest request;
        Ends e;
        int fd = peer_new(loop, &e);

        (void) state;
        e.free_peer = true;
        assert_true(send_thing(&e, "one", 1, 0) > 0);
        assert_true(send_thing(&e, "two", 1, 0) > 0);
        turn(loop, 2);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(call_receive(fd, &request), 0);
                assert_int_equal(call_answer(fd, request.id, NULL, NULL, NULL, 0), 0);
                call_request_done(&request);
        }
        loop_until(loop, &e.n_done, 1);
        turn(loop, 2);
        assert_int_equal(e.n_done, 1);
        assert_null(e.peer);
        (void) close(fd);

        /* When the time runs out, and when the other side goes. */
        fd = peer_new(loop, &e);
        e.free_peer = true;
        assert_true(send_thing(&e, "one", 1, MSEC(5)) > 0);
        assert_true(send_thing(&e, "two", 1, 0) > 0);
        loop_until(loop, &e.n_done, 1);
        assert_null(e.peer);
        (void) close(fd);

        fd = peer_new(loop, &e);
        e.free_peer = true;
        assert_true(send_thing(&e, "one", 1, 0) > 0);
        assert_true(send_thing(&e, "two", 1, 0) > 0);
        (void) close(fd);
        loop_until(loop, &e.n_done, 1);
        turn(loop, 2);
        assert_int_equal(e.n_done, 1);
        assert_int_equal(e.n_closed, 0);
}

/* ---- the loop's way to serve ---- */

typedef struct Served {
        int n, n_later;
        CallServer *server;
        CallRequest later;
} Served;

static void on_request(void *userdata, CallRequest *request) {
        Served *s = userdata;

        s->n++;
        if (str_equal(request->method, "later")) {
                s->later = *request;
                *request = (CallRequest){ 0 };
                s->n_later++;
                return;
        }
        assert_int_equal(call_answer(call_server_fd(s->server), request->id, NULL, NULL, NULL, 0),
                         0);
}

static void test_server(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        Served s = { 0 };
        int fds[2], code = 77;
        Ends e = { .fd = -EBADF };
        int file = open("/dev/null", O_RDONLY | O_CLOEXEC);

        (void) state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(call_peer_new(loop, fds[0], on_closed, &e, &e.peer), 0);
        assert_int_equal(call_server_new(loop, fds[1], on_request, &s, &s.server), 0);

        assert_true(call_send(e.peer, "later", NULL, NULL, &file, 1, 0, on_done, &e) > 0);
        assert_true(send_thing(&e, "now", 1, 0) > 0);
        loop_until(loop, &e.n_done, 1);
        assert_int_equal(s.n, 2);
        assert_int_equal(s.later.id, 1);
        assert_int_equal(s.later.n_fds, 1);
        assert_non_null(s.later.parameters);
        assert_int_equal(call_fail(call_server_fd(s.server), s.later.id, -EBUSY, "not today"), 0);
        call_request_done(&s.later);
        loop_until(loop, &e.n_done, 2);
        assert_int_equal(e.last_r, -EBUSY);
        (void) close(file);

        /* The end of the connection ends the loop. */
        e.peer = call_peer_free(e.peer);
        assert_int_equal(sd_event_loop(loop), 0);
        assert_true(sd_event_get_exit_code(loop, &code) < 0 || code == 0);
        s.server = call_server_free(s.server);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_error),
                cmocka_unit_test(test_helper_dies), cmocka_unit_test(test_timeout),
                cmocka_unit_test(test_cancel),      cmocka_unit_test(test_full_queue),
                cmocka_unit_test(test_oversized),   cmocka_unit_test(test_rubbish),
                cmocka_unit_test(test_odd_errors),  cmocka_unit_test(test_free_in_callback),
                cmocka_unit_test(test_server),
        };

        return cmocka_run_group_tests_name("call", tests, loop_block_signals, NULL);
}
