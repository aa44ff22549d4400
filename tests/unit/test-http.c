/* A server of a few lines on loopback that does each thing a server can do wrong. */

#include "loop/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/str.h"
#include "loop.h"

/* ---- the server: one thread a connection ---- */

typedef struct Server {
        int fd;
        unsigned port;
        pthread_t thread;
        atomic_int n_open; /* connections that are served now */
        atomic_int n_accepted;
} Server;

typedef struct Connection {
        Server *server;
        int fd;
} Connection;

static void say(int fd, const char *text) {
        (void) send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* Until the client has gone. */
static void wait_for_end(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        char byte;

        while (poll(&p, 1, 20000) > 0 && recv(fd, &byte, 1, 0) > 0)
                ;
}

static void say_big(int fd, bool chunked) {
        char block[8192];

        memset(block, 'b', sizeof(block));
        say(fd, chunked ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                        : "HTTP/1.1 200 OK\r\nContent-Length: 2097152\r\n\r\n");
        for (int i = 0; i < 256; i++) {
                if (chunked)
                        say(fd, "2000\r\n");
                if (send(fd, block, sizeof(block), MSG_NOSIGNAL) < 0)
                        return;
                if (chunked)
                        say(fd, "\r\n");
        }
        if (chunked)
                say(fd, "0\r\n\r\n");
}

static void say_headers(int fd, int n) {
        char line[64];

        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
        for (int i = 0; i < n; i++) {
                (void) snprintf(line, sizeof(line), "X-%d: v\r\n", i);
                say(fd, line);
        }
        say(fd, "\r\n");
}

/* The whole request as the body of the answer. */
static void say_echo(int fd, const char *request, size_t size) {
        char head[128];

        (void) snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
        say(fd, head);
        (void) send(fd, request, size, MSG_NOSIGNAL);
}

/* What some paths answer, word for word. */
static const struct {
        const char *path;
        const char *answer;
} fixed[] = {
        { "/ok", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"first\"\r\nx-empty:\r\netag: "
                 "\"last\"\r\n\r\nhello" },
        { "/503", "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n" },
        { "/redirect", "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n" },
        { "/interim", "HTTP/1.1 103 Early\r\nX-Early: 1\r\n\r\nHTTP/1.1 200 OK\r\nX-Late: "
                      "1\r\nContent-Length: 2\r\n\r\nok" },
        { "/torn", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart" },
        { "/until-close", "HTTP/1.0 200 OK\r\n\r\nall of it" },
        { "/rubbish", "This is no HTTP at all\r\n\r\n" },
        { "/half-head", "HTTP/1.1 200 OK\r\nContent-" },
        { "/close", "" },
};

/* True: the connection may be used again. */
static bool answer(int fd, const char *request, size_t size) {
        char method[16], path[256];

        if (sscanf(request, "%15s %255s", method, path) != 2)
                return false;
        for (size_t i = 0; i < ELEMENTS(fixed); i++)
                if (str_equal(path, fixed[i].path)) {
                        say(fd, fixed[i].answer);
                        return i < 4;
                }
        if (str_equal(path, "/slow"))
                wait_for_end(fd);
        else if (str_equal(path, "/stall")) {
                say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
                wait_for_end(fd);
        } else if (str_equal(path, "/big") || str_equal(path, "/big-chunked"))
                say_big(fd, str_equal(path, "/big-chunked"));
        else if (str_equal(path, "/headers"))
                say_headers(fd, 500);
        else if (str_equal(method, "HEAD"))
                say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        else
                say_echo(fd, request, size);
        return true;
}

/* One whole request; 0: the end. */
static size_t read_request(int fd, char *to, size_t room) {
        size_t size = 0, body = 0;
        const char *end, *length;
        ssize_t n;

        for (;;) {
                n = recv(fd, to + size, room - 1 - size, 0);
                if (n <= 0)
                        return 0;
                size += (size_t) n;
                to[size] = 0;
                end = strstr(to, "\r\n\r\n");
                if (!end)
                        continue;
                length = strcasestr(to, "content-length:");
                if (length)
                        (void) sscanf(length + 15, "%zu", &body);
                if (size >= (size_t) (end - to) + 4 + body)
                        return size;
        }
}

static void *serve_connection(void *userdata) {
        Connection *c = userdata;
        Server *s = c->server;
        char request[65536];
        size_t size;

        do
                size = read_request(c->fd, request, sizeof(request));
        while (size > 0 && answer(c->fd, request, size));
        (void) close(c->fd);
        free(c);
        atomic_fetch_sub(&s->n_open, 1);
        return NULL;
}

static void *serve(void *userdata) {
        Server *s = userdata;
        pthread_attr_t detached;
        pthread_t thread;
        int fd;

        (void) pthread_attr_init(&detached);
        (void) pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        while ((fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                Connection *c = calloc(1, sizeof(Connection));

                if (!c)
                        break;
                *c = (Connection){ s, fd };
                atomic_fetch_add(&s->n_open, 1);
                atomic_fetch_add(&s->n_accepted, 1);
                if (pthread_create(&thread, &detached, serve_connection, c) != 0)
                        break;
        }
        (void) pthread_attr_destroy(&detached);
        return NULL;
}

static int server_begin(void **state) {
        struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(address);
        Server *s = calloc(1, sizeof(Server));

        if (!s || loop_block_signals(NULL) < 0)
                return -1;
        s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (s->fd < 0 || bind(s->fd, (struct sockaddr *) &address, size) < 0 ||
            listen(s->fd, 64) < 0 || getsockname(s->fd, (struct sockaddr *) &address, &size) < 0)
                return -1;
        s->port = ntohs(address.sin_port);
        *state = s;
        return pthread_create(&s->thread, NULL, serve, s);
}

static int server_end(void **state) {
        Server *s = *state;

        (void) shutdown(s->fd, SHUT_RDWR);
        (void) pthread_join(s->thread, NULL);
        (void) close(s->fd);
        for (int i = 0; i < 5000 && atomic_load(&s->n_open) > 0; i++)
                (void) usleep(1000);
        if (atomic_load(&s->n_open) > 0)
                return -1;
        free(s);
        return 0;
}

/* ---- the client's side ---- */

typedef struct Answers {
        HttpClient *client;
        int n_done, n_ok, last_r;
        unsigned status;
        usec_t took_usec;
        size_t body_bytes;
        char body[4096], etag[64], text[256];
        bool early, late;
        bool free_client;
        HttpTransfer *cancel; /* another one, to be cancelled by this one's end */
} Answers;

static void on_done(void *userdata, int r, HttpReply *reply, Error *err) {
        Answers *a = userdata;

        a->n_done++;
        a->last_r = r;
        if (r < 0) {
                assert_null(reply);
                assert_non_null(err);
                (void) snprintf(a->text, sizeof(a->text), "%s", error_text(err));
        } else {
                assert_null(err);
                a->n_ok++;
                a->status = reply->status;
                a->took_usec = reply->took_usec;
                a->body_bytes = reply->body.size;
                (void) snprintf(a->body, sizeof(a->body), "%s", buf_str(&reply->body));
                (void) snprintf(a->etag, sizeof(a->etag), "%s",
                                http_reply_header(reply, "ETAG") ?: "none");
                a->early = http_reply_header(reply, "X-Early") != NULL;
                a->late = http_reply_header(reply, "x-late") != NULL;
        }
        if (a->cancel) {
                HttpTransfer *other = a->cancel;

                a->cancel = NULL;
                assert_null(http_cancel(other));
        }
        if (a->free_client)
                a->client = http_client_free(a->client);
}

static HttpClient *client_new(sd_event *loop) {
        _cleanup_(error_freep) Error *err = NULL;
        HttpClient *client = NULL;

        if (http_client_new(loop, &client, &err) < 0)
                fail_msg("%s", error_text(err));
        return client;
}

static void send_one(HttpClient *client, unsigned port, const char *path, HttpRequest request,
                     Answers *a, HttpTransfer **ret) {
        _cleanup_(error_freep) Error *err = NULL;
        char url[512];

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", port, path);
        request.url = url;
        request.method = request.method ?: "GET";
        request.on_done = on_done;
        request.userdata = a;
        request.max_bytes = request.max_bytes ?: 4000;
        if (http_send(client, &request, ret, &err) < 0)
                fail_msg("%s", error_text(err));
        /* Whatever lay on the stack is gone. */
        memset(url, 0x55, sizeof(url));
}

/* One request from beginning to end. */
static Answers get(sd_event *loop, HttpClient *client, const Server *s, const char *path,
                   HttpRequest request) {
        Answers a = { 0 };

        send_one(client, s->port, path, request, &a, NULL);
        assert_int_equal(a.n_done, 0);
        loop_until(loop, &a.n_done, 1);
        return a;
}

#define PLAIN                                                                                      \
        (HttpRequest) {                                                                            \
                .loopback_only = true                                                              \
        }

static void test_answers(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        const Server *s = *state;
        Answers a;

        a = get(loop, client, s, "/ok", PLAIN);
        assert_int_equal(a.last_r, 0);
        assert_int_equal(a.status, 200);
        assert_string_equal(a.body, "hello");
        assert_string_equal(a.etag, "\"last\"");
        assert_true(a.took_usec > 0 && a.took_usec < SEC(20));

        a = get(loop, client, s, "/503", PLAIN);
        assert_int_equal(a.last_r, 0);
        assert_int_equal(a.status, 503);
        assert_string_equal(a.etag, "none");

        /* A redirect is an answer. */
        a = get(loop, client, s, "/redirect", PLAIN);
        assert_int_equal(a.status, 302);
        assert_int_equal(a.body_bytes, 0);

        /* Headers of an interim answer are not the answer's. */
        a = get(loop, client, s, "/interim", PLAIN);
        assert_int_equal(a.status, 200);
        assert_string_equal(a.body, "ok");
        assert_false(a.early);
        assert_true(a.late);

        a = get(loop, client, s, "/until-close", PLAIN);
        assert_int_equal(a.last_r, 0);
        assert_string_equal(a.body, "all of it");

        a = get(loop, client, s, "/x", (HttpRequest){ .method = "HEAD" });
        assert_int_equal(a.last_r, 0);
        assert_int_equal(a.status, 200);
        assert_int_equal(a.body_bytes, 0);
}

static void test_what_is_sent(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        char host[] = "Host: app.example", kind[] = "Content-Type: text/plain";
        char *const headers[] = { host, kind, NULL };
        const Server *s = *state;
        char body[] = "body\0with nul";
        Answers a;

        a = get(loop, client, s, "/a/../b/./c?d=%2F", PLAIN);
        assert_true(str_has_prefix(a.body, "GET /a/../b/./c?d=%2F HTTP/1.1\r\n"));
        assert_non_null(strstr(a.body, "\r\nUser-Agent: tendril/"));
        assert_null(strcasestr(a.body, "\r\nAccept"));

        a = get(loop, client, s, "/x",
                (HttpRequest){ .method = "PUT",
                               .headers = headers,
                               .body = body,
                               .body_bytes = sizeof(body) });
        assert_true(str_has_prefix(a.body, "PUT /x HTTP/1.1\r\n"));
        assert_non_null(strstr(a.body, "\r\nHost: app.example\r\n"));
        assert_non_null(strstr(a.body, "\r\nContent-Type: text/plain\r\n"));
        assert_non_null(strstr(a.body, "\r\nContent-Length: 14\r\n"));
        assert_null(strcasestr(a.body, "\r\nExpect"));
        assert_true(str_has_suffix(a.body, "\r\n\r\nbody"));

        a = get(loop, client, s, "/x", (HttpRequest){ .method = "POST" });
        assert_true(str_has_prefix(a.body, "POST /x HTTP/1.1\r\n"));
        assert_non_null(strstr(a.body, "\r\nContent-Length: 0\r\n"));
        assert_null(strcasestr(a.body, "\r\nContent-Type"));

        a = get(loop, client, s, "/x", (HttpRequest){ .method = "DELETE" });
        assert_true(str_has_prefix(a.body, "DELETE /x HTTP/1.1\r\n"));
}

static void test_slow(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        usec_t begin = clock_read(NULL, CLOCK_MONOTONIC), took;
        Answers a;

        a = get(loop, client, *state, "/slow",
                (HttpRequest){ .loopback_only = true, .total_usec = MSEC(80) });
        assert_int_equal(a.last_r, -ETIMEDOUT);
        took = clock_read(NULL, CLOCK_MONOTONIC) - begin;
        assert_true(took >= MSEC(75) && took < SEC(5));

        /* It begins to answer and stops: long before the whole time is over. */
        begin = clock_read(NULL, CLOCK_MONOTONIC);
        a = get(loop, client, *state, "/stall",
                (HttpRequest){
                        .loopback_only = true, .stall_usec = SEC(1), .total_usec = SEC(25) });
        assert_int_equal(a.last_r, -ETIMEDOUT);
        took = clock_read(NULL, CLOCK_MONOTONIC) - begin;
        assert_true(took >= MSEC(500) && took < SEC(10));
}

static void test_too_large(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        Answers a;

        a = get(loop, client, *state, "/big", (HttpRequest){ .max_bytes = 100000 });
        assert_int_equal(a.last_r, -EFBIG);
        assert_non_null(strstr(a.text, "larger"));
        a = get(loop, client, *state, "/big-chunked", (HttpRequest){ .max_bytes = 2097151 });
        assert_int_equal(a.last_r, -EFBIG);
        a = get(loop, client, *state, "/big-chunked", (HttpRequest){ .max_bytes = 2097152 });
        assert_int_equal(a.last_r, 0);
        assert_int_equal(a.body_bytes, 2097152);
        a = get(loop, client, *state, "/ok", (HttpRequest){ .max_bytes = 4 });
        assert_int_equal(a.last_r, -EFBIG);
        a = get(loop, client, *state, "/ok", (HttpRequest){ .max_bytes = 5 });
        assert_int_equal(a.last_r, 0);
        a = get(loop, client, *state, "/headers", PLAIN);
        assert_int_equal(a.last_r, -EFBIG);
}

static void test_broken_servers(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(address);
        Answers a = { 0 };
        int fd;

        assert_int_equal(get(loop, client, *state, "/close", PLAIN).last_r, -ECONNRESET);
        assert_int_equal(get(loop, client, *state, "/torn", PLAIN).last_r, -EBADMSG);
        assert_int_equal(get(loop, client, *state, "/rubbish", PLAIN).last_r, -EBADMSG);
        assert_int_equal(get(loop, client, *state, "/half-head", PLAIN).last_r, -ECONNRESET);

        /* A port that is bound, so that nobody else can listen there, and refuses. */
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, size), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &size), 0);
        send_one(client, ntohs(address.sin_port), "/ok", PLAIN, &a, NULL);
        loop_until(loop, &a.n_done, 1);
        assert_int_equal(a.last_r, -ECONNREFUSED);
        assert_true(a.text[0]);
        (void) close(fd);
}

/* What is not sent at all. */
static void test_refused_requests(void **state) {
        static const struct {
                const char *method, *url, *only_host;
                int r;
        } rows[] = {
                { "GET", "ftp://127.0.0.1/", NULL, -EINVAL },
                { "GET", "file:///etc/passwd", NULL, -EINVAL },
                { "GET", "http://", NULL, -EINVAL },
                { "GET", "http://user@127.0.0.1/", NULL, -EINVAL },
                { "GET", "http://127.0.0.1:1@other.example/", "127.0.0.1", -EINVAL },
                { "GET", "http://127.0.0.1/a\r\nX: y", NULL, -EINVAL },
                { "GET", "http://127.0.0.1.other.example/", "127.0.0.1", -EPERM },
                { "GET", "http://127.0.0.2/", "127.0.0.1", -EPERM },
                { "TRACE", "http://127.0.0.1/", NULL, -EINVAL },
                { "GET / HTTP/1.1\r\nX:", "http://127.0.0.1/", NULL, -EINVAL },
        };
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        char bad_header[] = "X: a\r\nY: b";
        char *const headers[] = { bad_header, NULL };
        Answers a = { 0 };
        const Server *s = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(error_freep) Error *err = NULL;
                HttpRequest request = { .method = rows[i].method,
                                        .url = rows[i].url,
                                        .only_host = rows[i].only_host,
                                        .on_done = on_done,
                                        .userdata = &a };

                assert_int_equal(http_send(client, &request, NULL, &err), rows[i].r);
                assert_true(str_has_prefix(error_text(err), "ask "));
        }
        assert_int_equal(http_send(client,
                                   &(HttpRequest){ .method = "GET",
                                                   .url = "http://127.0.0.1/",
                                                   .headers = headers,
                                                   .on_done = on_done,
                                                   .userdata = &a },
                                   NULL, NULL),
                         -EINVAL);
        assert_int_equal(a.n_done, 0);

        /* An address of elsewhere, or a name of one, is not connected to. (TEST-NET-1 of RFC 5737.)
         */
        assert_int_equal(http_send(client,
                                   &(HttpRequest){ .method = "GET",
                                                   .url = "http://192.0.2.1/",
                                                   .loopback_only = true,
                                                   .on_done = on_done,
                                                   .userdata = &a },
                                   NULL, NULL),
                         0);
        loop_until(loop, &a.n_done, 1);
        assert_int_equal(a.last_r, -EPERM);

        /* A proxy of the environment is not asked for this host. */
        assert_int_equal(setenv("http_proxy", "http://192.0.2.1:9", 1), 0);
        assert_int_equal(get(loop, client, s, "/ok", PLAIN).last_r, 0);
        assert_int_equal(unsetenv("http_proxy"), 0);
}

static void test_connections(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        Server *s = *state;
        int before = atomic_load(&s->n_accepted);

        /* Kept for the next one, but not for checks of this host. */
        for (int i = 0; i < 5; i++)
                assert_int_equal(get(loop, client, s, "/ok", (HttpRequest){ 0 }).last_r, 0);
        assert_int_equal(atomic_load(&s->n_accepted), before + 1);
        for (int i = 0; i < 5; i++)
                assert_int_equal(get(loop, client, s, "/ok", PLAIN).last_r, 0);
        assert_int_equal(atomic_load(&s->n_accepted), before + 6);
}

static void test_cancel(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        const Server *s = *state;
        HttpTransfer *slow = NULL, *other = NULL;
        Answers a = { 0 }, b = { 0 };

        /* At once; under way; from another one's end. */
        send_one(client, s->port, "/slow", PLAIN, &a, &slow);
        assert_null(http_cancel(slow));
        send_one(client, s->port, "/slow", PLAIN, &a, &slow);
        for (int i = 0; i < 5; i++)
                assert_true(sd_event_run(loop, 5000) >= 0);
        assert_null(http_cancel(slow));
        assert_null(http_cancel(NULL));

        send_one(client, s->port, "/slow", PLAIN, &a, &other);
        b.cancel = other;
        send_one(client, s->port, "/ok", PLAIN, &b, NULL);
        loop_until(loop, &b.n_done, 1);
        assert_int_equal(b.last_r, 0);
        assert_int_equal(a.n_done, 0);
}

/* Freed with requests under way, from outside and from within. */
static void test_free_client(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        const Server *s = *state;
        Answers a = { 0 };

        a.client = client_new(loop);
        for (int i = 0; i < 5; i++)
                send_one(a.client, s->port, i % 2 ? "/slow" : "/big", PLAIN, &a, NULL);
        for (int i = 0; i < 3; i++)
                assert_true(sd_event_run(loop, 2000) >= 0);
        a.client = http_client_free(a.client);

        a = (Answers){ .free_client = true };
        a.client = client_new(loop);
        for (int i = 0; i < 5; i++)
                send_one(a.client, s->port, "/ok", PLAIN, &a, NULL);
        loop_until(loop, &a.n_done, 1);
        assert_null(a.client);
        for (int i = 0; i < 3; i++)
                assert_true(sd_event_run(loop, 2000) >= 0);
        assert_int_equal(a.n_done, 1);

        /* Never used, and used when the loop is over. */
        a.client = client_new(loop);
        a.free_client = false;
        send_one(a.client, s->port, "/slow", PLAIN, &a, NULL);
        assert_int_equal(sd_event_exit(loop, 0), 0);
        while (sd_event_get_state(loop) != SD_EVENT_FINISHED)
                assert_true(sd_event_run(loop, 0) >= 0);
        a.client = http_client_free(a.client);
}

/* 400, 20 at a time, most of them going wrong in one way or another: every one ends, once. */
typedef struct Storm {
        HttpClient *client;
        unsigned port;
        int n_sent, n_done, n_running, n_ok, n_most;
} Storm;

static void storm_go(Storm *storm);

static void storm_on_done(void *userdata, int r, HttpReply *reply, Error *err) {
        Storm *storm = userdata;

        assert_true((r < 0) == (err != NULL));
        if (r == 0 && reply->status == 200)
                storm->n_ok++;
        storm->n_done++;
        storm->n_running--;
        storm_go(storm);
}

static void storm_go(Storm *storm) {
        static const char *const paths[] = {
                "ok",      "close", "slow", "torn",        "big",
                "rubbish", "503",   "echo", "until-close", "half-head"
        };

        while (storm->n_running < 20 && storm->n_sent < 400) {
                char url[128];
                HttpRequest request = { .method = "GET",
                                        .url = url,
                                        .only_host = storm->n_sent % 3 ? "127.0.0.1" : NULL,
                                        .loopback_only = storm->n_sent % 2,
                                        .total_usec = MSEC(150),
                                        .max_bytes = 100000,
                                        .on_done = storm_on_done,
                                        .userdata = storm };

                (void) snprintf(url, sizeof(url), "http://%s:%u/%s",
                                storm->n_sent % 3 ? "127.0.0.1" : "localhost", storm->port,
                                paths[(size_t) storm->n_sent % ELEMENTS(paths)]);
                assert_int_equal(http_send(storm->client, &request, NULL, NULL), 0);
                storm->n_sent++;
                storm->n_running++;
                storm->n_most = MAX(storm->n_most, storm->n_running);
        }
}

static void test_storm(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        const Server *s = *state;
        Storm storm = { .client = client, .port = s->port };

        storm_go(&storm);
        loop_until(loop, &storm.n_done, 400);
        assert_int_equal(storm.n_running, 0);
        assert_int_equal(storm.n_most, 20);
        /* ok, echo and until-close answer 200; on a busy machine one of them may be late. */
        assert_true(storm.n_ok > 60 && storm.n_ok <= 120);
        for (int i = 0; i < 5; i++)
                assert_true(sd_event_run(loop, 1000) >= 0);
        assert_int_equal(storm.n_done, 400);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_answers),        cmocka_unit_test(test_what_is_sent),
                cmocka_unit_test(test_slow),           cmocka_unit_test(test_too_large),
                cmocka_unit_test(test_broken_servers), cmocka_unit_test(test_refused_requests),
                cmocka_unit_test(test_connections),    cmocka_unit_test(test_cancel),
                cmocka_unit_test(test_free_client),    cmocka_unit_test(test_storm),
        };

        return cmocka_run_group_tests_name("http", tests, server_begin, server_end);
}
