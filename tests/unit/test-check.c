#include "net/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/str.h"

/* A server on loopback that answers each connection with the next of its answers; NULL: closes
 * without one. */
typedef struct Server {
        int fd;
        uint16_t port;
        const char *const *answers;
        char asked[4096];
        pthread_t thread;
} Server;

static void *serve(void *userdata) {
        Server *s = userdata;

        for (const char *const *a = s->answers;; a++) {
                int c = accept(s->fd, NULL, NULL);
                ssize_t n;

                if (c < 0)
                        return NULL;
                n = recv(c, s->asked, sizeof(s->asked) - 1, 0);
                s->asked[n > 0 ? n : 0] = 0;
                if (*a)
                        (void) send(c, *a, strlen(*a), MSG_NOSIGNAL);
                (void) close(c);
                if (!*a)
                        a--;
        }
}

static void server_start(Server *s, const char *const *answers) {
        struct sockaddr_in at = { .sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(at);

        s->answers = answers;
        s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(s->fd >= 0);
        assert_int_equal(bind(s->fd, (struct sockaddr *) &at, sizeof(at)), 0);
        assert_int_equal(listen(s->fd, 8), 0);
        assert_int_equal(getsockname(s->fd, (struct sockaddr *) &at, &size), 0);
        s->port = ntohs(at.sin_port);
        assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(Server *s) {
        (void) shutdown(s->fd, SHUT_RDWR);
        (void) pthread_join(s->thread, NULL);
        (void) close(s->fd);
}

typedef struct Fixture {
        sd_event *loop;
        CallPeer *peer;
        CallServer *calls;
        HttpClient *http;
        Checks *checks;
        int r;
        bool done;
        NetChecked answer;
        char words[512];
} Fixture;

static void on_request(void *userdata, CallRequest *request) {
        _cleanup_(error_freep) Error *err = NULL;
        Fixture *f = userdata;
        int r;

        assert_string_equal(request->method, NET_CHECK);
        r = checks_begin(f->checks, request, &err);
        if (r < 0)
                (void) call_fail(call_server_fd(f->calls), request->id, r, error_text(err));
}

static void setup_pair(Fixture *f) {
        int fds[2];

        memset(f, 0, sizeof(*f));
        assert_true(sd_event_new(&f->loop) >= 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
                         0);
        assert_int_equal(call_peer_new(f->loop, fds[0], NULL, NULL, &f->peer), 0);
        assert_int_equal(call_server_new(f->loop, fds[1], on_request, f, &f->calls), 0);
        assert_int_equal(http_client_new(f->loop, &f->http, NULL), 0);
        assert_int_equal(checks_new(call_server_fd(f->calls), f->http, &f->checks), 0);
}

static void teardown_pair(Fixture *f) {
        f->peer = call_peer_free(f->peer);
        f->checks = checks_free(f->checks);
        f->http = http_client_free(f->http);
        f->calls = call_server_free(f->calls);
        f->loop = sd_event_unref(f->loop);
}

static void on_done(void *userdata, int r, CallReply *reply, Error *err) {
        Fixture *f = userdata;

        f->done = true;
        f->r = r;
        f->words[0] = 0;
        if (r < 0)
                (void) snprintf(f->words, sizeof(f->words), "%s", error_text(err));
        else
                assert_int_equal(json_decode_value(reply->answer, &net_checked_table, JSON_LENIENT,
                                                   &f->answer, NULL),
                                 0);
}

static void begin(Fixture *f, uint16_t port, const char *path, const char *host, usec_t timeout,
                  CallDone done, void *userdata) {
        NetCheck p = { .port = port, .timeout_usec = timeout };

        p.path = strdup(path);
        p.host = host ? strdup(host) : NULL;
        assert_true(call_send(f->peer, NET_CHECK, &net_check_table, &p, NULL, 0, SEC(20), done,
                              userdata) > 0);
        json_table_done(&net_check_table, &p);
}

static int ask(Fixture *f, uint16_t port, const char *path, const char *host, usec_t timeout) {
        f->done = false;
        begin(f, port, path, host, timeout, on_done, f);
        while (!f->done)
                assert_true(sd_event_run(f->loop, UINT64_MAX) >= 0);
        return f->r;
}

static void test_statuses(void **state _unused_) {
        static const char *const answers[] = {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                "HTTP/1.1 503 Ill\r\nContent-Length: 0\r\n\r\n",
                "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n",
                NULL,
        };
        Server s;
        Fixture f;

        server_start(&s, answers);
        setup_pair(&f);
        assert_int_equal(ask(&f, s.port, "/health?x=1", "shop.example", SEC(5)), 0);
        assert_int_equal(f.answer.status, 200);
        assert_non_null(strstr(s.asked, "GET /health?x=1 HTTP/1.1"));
        assert_non_null(strstr(s.asked, "Host: shop.example"));
        assert_int_equal(ask(&f, s.port, "/", NULL, SEC(5)), 0);
        assert_int_equal(f.answer.status, 503);
        /* A redirect is a status like others: nobody is asked there. */
        assert_int_equal(ask(&f, s.port, "/", NULL, SEC(5)), 0);
        assert_int_equal(f.answer.status, 302);
        assert_int_equal(ask(&f, s.port, "/", NULL, SEC(5)), -ECONNRESET);
        teardown_pair(&f);
        server_stop(&s);
}

static void test_nobody_and_nonsense(void **state _unused_) {
        static const char *const answers[] = { "220 this is no HTTP\r\n", NULL };
        Server s;
        Fixture f;
        uint16_t port;

        server_start(&s, answers);
        setup_pair(&f);
        assert_int_equal(ask(&f, s.port, "/", NULL, SEC(5)), -EBADMSG);
        assert_true(ask(&f, s.port, "no-slash", NULL, SEC(5)) < 0);
        assert_non_null(strstr(f.words, "'/'"));
        assert_true(ask(&f, s.port, "/@evil.example:80/", NULL, SEC(5)) < 0);
        port = s.port;
        server_stop(&s);
        assert_int_equal(ask(&f, port, "/", NULL, SEC(5)), -ECONNREFUSED);
        teardown_pair(&f);
}

static void on_many(void *userdata, int r, _unused_ CallReply *reply, _unused_ Error *err) {
        *(int *) userdata = r;
}

static void test_silence_ends(void **state _unused_) {
        struct sockaddr_in at = { .sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(at);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), many[34] = { 0 };
        unsigned n_busy = 0;
        Fixture f;

        /* It listens, and never accepts: the connection stands, and nothing comes. */
        assert_int_equal(bind(fd, (struct sockaddr *) &at, sizeof(at)), 0);
        assert_int_equal(listen(fd, 8), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &at, &size), 0);
        setup_pair(&f);
        assert_int_equal(ask(&f, ntohs(at.sin_port), "/", NULL, MSEC(200)), -ETIMEDOUT);
        for (size_t i = 0; i < ELEMENTS(many); i++)
                begin(&f, ntohs(at.sin_port), "/", NULL, SEC(10), on_many, &many[i]);
        /* Those that are too many end at once; the others are dropped, unanswered. */
        while (many[ELEMENTS(many) - 1] == 0)
                assert_true(sd_event_run(f.loop, UINT64_MAX) >= 0);
        for (size_t i = 0; i < ELEMENTS(many); i++)
                n_busy += many[i] == -EBUSY;
        assert_int_equal(n_busy, 2);
        teardown_pair(&f);
        (void) close(fd);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_statuses),
                cmocka_unit_test(test_nobody_and_nonsense),
                cmocka_unit_test(test_silence_ends),
        };

        (void) signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
