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
        NetServer *net;
        int r;
        bool done;
        NetChecked answer;
        char words[512];
} Fixture;

static void setup_pair(Fixture *f) {
        int fds[2];

        memset(f, 0, sizeof(*f));
        assert_true(sd_event_new(&f->loop) >= 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
                         0);
        assert_int_equal(call_peer_new(f->loop, fds[0], NULL, NULL, &f->peer), 0);
        assert_int_equal(net_server_new(f->loop, fds[1], &f->net, NULL), 0);
}

static void teardown_pair(Fixture *f) {
        f->peer = call_peer_free(f->peer);
        f->net = net_server_free(f->net);
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

static int ask(Fixture *f, const char *method, uint16_t port, const char *path, const char *host,
               usec_t timeout) {
        NetCheck p = { .port = port, .timeout_usec = timeout };

        p.path = strdup(path);
        p.host = host ? strdup(host) : NULL;
        f->done = false;
        assert_true(call_send(f->peer, method, &net_check_table, &p, NULL, 0, SEC(20), on_done, f) >
                    0);
        json_table_done(&net_check_table, &p);
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
        assert_int_equal(ask(&f, NET_CHECK, s.port, "/health?x=1", "shop.example", SEC(5)), 0);
        assert_int_equal(f.answer.status, 200);
        assert_non_null(strstr(s.asked, "GET /health?x=1 HTTP/1.1"));
        assert_non_null(strstr(s.asked, "Host: shop.example"));
        assert_int_equal(ask(&f, NET_CHECK, s.port, "/", NULL, SEC(5)), 0);
        assert_int_equal(f.answer.status, 503);
        /* A redirect is a status like others: nobody is asked there. */
        assert_int_equal(ask(&f, NET_CHECK, s.port, "/", NULL, SEC(5)), 0);
        assert_int_equal(f.answer.status, 302);
        assert_int_equal(ask(&f, NET_CHECK, s.port, "/", NULL, SEC(5)), -ECONNRESET);
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
        assert_int_equal(ask(&f, NET_CHECK, s.port, "/", NULL, SEC(5)), -EBADMSG);
        assert_true(ask(&f, NET_CHECK, s.port, "no-slash", NULL, SEC(5)) < 0);
        assert_non_null(strstr(f.words, "'/'"));
        assert_true(ask(&f, NET_CHECK, s.port, "/@evil.example:80/", NULL, SEC(5)) < 0);
        assert_true(ask(&f, "fetch", s.port, "/", NULL, SEC(5)) < 0);
        assert_non_null(strstr(f.words, "fetch"));
        port = s.port;
        server_stop(&s);
        assert_int_equal(ask(&f, NET_CHECK, port, "/", NULL, SEC(5)), -ECONNREFUSED);
        teardown_pair(&f);
}

static void test_silence_ends(void **state _unused_) {
        struct sockaddr_in at = { .sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(at);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        Fixture f;

        /* It listens, and never accepts: the connection stands, and nothing comes. */
        assert_int_equal(bind(fd, (struct sockaddr *) &at, sizeof(at)), 0);
        assert_int_equal(listen(fd, 8), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &at, &size), 0);
        setup_pair(&f);
        assert_int_equal(ask(&f, NET_CHECK, ntohs(at.sin_port), "/", NULL, MSEC(200)), -ETIMEDOUT);
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
