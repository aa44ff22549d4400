#pragma once

/*
 * A server of a few lines on loopback that does each thing a server can do wrong, and the client's
 * side of a request.
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/str.h"
#include "loop.h"
#include "loop/http.h"

/* ---- the server: one thread a connection ---- */

typedef struct Server {
        int fd;
        unsigned port;
        pthread_t thread;
        atomic_int n_open; /* connections that are served now */
        atomic_int n_accepted;
        atomic_int n_once; /* requests for /once */
        pthread_mutex_t lock;
        char connect[4096]; /* the last CONNECT, under lock */
} Server;

/* As far as it is kept: the head, and the beginning of the body. */
typedef struct Request {
        char method[16], path[256];
        size_t size, head_bytes;
        uint64_t n_body;
        bool right; /* the body is the object's, from X-Offset on */
        char text[65536];
} Request;

typedef struct Connection {
        Server *server;
        int fd;
} Connection;

static inline void say(int fd, const char *text) {
        (void) send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* Until the client has gone. */
static inline void wait_for_end(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        char byte;

        while (poll(&p, 1, 20000) > 0 && recv(fd, &byte, 1, 0) > 0)
                ;
}

/* What lies under /object. */
#define OBJECT_BYTES (UINT64_C(3) * 1024 * 1024 + 123)

static inline char object_byte(uint64_t at) {
        return (char) (at * 31 + (at >> 8) * 7 + (at >> 16));
}

static inline uint64_t header_number(const char *request, const char *name, uint64_t otherwise) {
        const char *at = strcasestr(request, name);
        unsigned long long n;

        return at && sscanf(at + strlen(name), "%llu", &n) == 1 ? n : otherwise;
}

/* Bytes of the object. */
static inline void say_range(int fd, uint64_t from, uint64_t bytes, bool chunked) {
        char block[16384];

        while (bytes > 0) {
                size_t n = MIN(bytes, sizeof(block));

                for (size_t i = 0; i < n; i++)
                        block[i] = object_byte(from + i);
                if (chunked) {
                        char line[32];

                        (void) snprintf(line, sizeof(line), "%zx\r\n", n);
                        say(fd, line);
                }
                if (send(fd, block, n, MSG_NOSIGNAL) != (ssize_t) n)
                        return;
                if (chunked)
                        say(fd, "\r\n");
                from += n;
                bytes -= n;
        }
}

/* False: the connection is at its end. */
static inline bool say_object(int fd, const char *request, const char *how) {
        bool deaf = strstr(how, "deaf") != NULL, chunked = strstr(how, "chunked") != NULL;
        uint64_t from = deaf ? 0 : header_number(request, "range: bytes=", 0);
        const char *range = deaf ? NULL : strcasestr(request, "range: bytes=");
        uint64_t last = range ? header_number(range, "-", 0) : OBJECT_BYTES - 1;
        uint64_t bytes = last - from + 1;
        char head[256], length[64];

        (void) snprintf(length, sizeof(length), "Content-Length: %llu", (unsigned long long) bytes);
        (void) snprintf(head, sizeof(head), "HTTP/1.1 %s\r\n%s\r\n\r\n",
                        range ? "206 Partial Content" : "200 OK",
                        chunked ? "Transfer-Encoding: chunked" : length);
        say(fd, head);

        if (strstr(how, "cut") || strstr(how, "hang"))
                bytes = bytes / 2;
        say_range(fd, from, bytes, chunked);
        if (strstr(how, "hang"))
                wait_for_end(fd);
        else if (chunked)
                say(fd, "0\r\n\r\n");
        return !strstr(how, "cut") && !strstr(how, "hang");
}

static inline void say_big(int fd, bool chunked) {
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

static inline void say_headers(int fd, int n) {
        char line[64];

        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
        for (int i = 0; i < n; i++) {
                (void) snprintf(line, sizeof(line), "X-%d: v\r\n", i);
                say(fd, line);
        }
        say(fd, "\r\n");
}

/* The whole request as the body of the answer. */
static inline void say_echo(int fd, const char *request, size_t size) {
        char head[128];

        (void) snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
        say(fd, head);
        (void) send(fd, request, size, MSG_NOSIGNAL);
}

/* What some paths answer, word for word. */
static const struct {
        const char *path;
        const char *answer;
        bool kept; /* the connection */
} fixed[] = {
        { "/ok",
          "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"first\"\r\nx-empty:\r\netag: "
          "\"last\"\r\n\r\nhello",
          true },
        { "/503", "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", true },
        { "/404", "HTTP/1.1 404 No\r\nContent-Length: 6\r\n\r\nabsent", true },
        { "/304", "HTTP/1.1 304 Same\r\nContent-Length: 1000\r\n\r\n", true },
        { "/redirect", "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n", true },
        { "/interim",
          "HTTP/1.1 103 Early\r\nX-Early: 1\r\n\r\nHTTP/1.1 200 OK\r\nX-Late: "
          "1\r\nContent-Length: 2\r\n\r\nok",
          true },
        { "/torn", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart", false },
        { "/until-close", "HTTP/1.0 200 OK\r\n\r\nall of it", false },
        { "/rubbish", "This is no HTTP at all\r\n\r\n", false },
        { "/half-head", "HTTP/1.1 200 OK\r\nContent-", false },
        { "/close", "", false },
};

/* Of bodies: what came, and whether it is right. */
static inline void say_sink(int fd, const Request *q) {
        char body[64], head[128];

        (void) snprintf(body, sizeof(body), "%s %llu %s", q->method, (unsigned long long) q->n_body,
                        q->right ? "right" : "wrong");
        (void) snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
                        strlen(body), body);
        say(fd, head);
}

/* A proxy that lets nobody through, and remembers who came. */
static inline void say_proxy(Server *s, int fd, const Request *q) {
        (void) pthread_mutex_lock(&s->lock);
        (void) snprintf(s->connect, sizeof(s->connect), "%.*s", (int) q->head_bytes, q->text);
        (void) pthread_mutex_unlock(&s->lock);
        say(fd, "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"p\"\r\nX-Proxy: "
                "1\r\nContent-Length: 0\r\n\r\n");
}

static inline bool answer_writes(Server *s, int fd, const Request *q) {
        if (str_equal(q->method, "CONNECT"))
                say_proxy(s, fd, q);
        else if (str_equal(q->path, "/once")) {
                atomic_fetch_add(&s->n_once, 1);
                return false;
        } else if (str_equal(q->path, "/early")) {
                say(fd, "HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\ndenied");
                wait_for_end(fd);
                return false;
        } else
                say_sink(fd, q);
        return true;
}

/* True: the connection may be used again. */
static inline bool answer(Server *s, int fd, const Request *q) {
        static const char *const writes[] = { "/once", "/early", "/sink" };

        for (size_t i = 0; i < ELEMENTS(fixed); i++)
                if (str_equal(q->path, fixed[i].path)) {
                        say(fd, fixed[i].answer);
                        return fixed[i].kept;
                }
        for (size_t i = 0; i < ELEMENTS(writes); i++)
                if (str_equal(q->path, writes[i]) || str_equal(q->method, "CONNECT"))
                        return answer_writes(s, fd, q);
        if (str_has_prefix(q->path, "/object"))
                return say_object(fd, q->text, q->path);
        if (str_equal(q->path, "/slow"))
                wait_for_end(fd);
        else if (str_equal(q->path, "/stall")) {
                say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
                wait_for_end(fd);
        } else if (str_equal(q->path, "/big") || str_equal(q->path, "/big-chunked"))
                say_big(fd, str_equal(q->path, "/big-chunked"));
        else if (str_equal(q->path, "/headers"))
                say_headers(fd, 500);
        else if (str_equal(q->method, "HEAD"))
                say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        else
                say_echo(fd, q->text, q->size);
        return true;
}

static inline bool read_head(int fd, Request *q) {
        const char *end;
        ssize_t n;

        q->size = 0;
        do {
                n = recv(fd, q->text + q->size, sizeof(q->text) - 1 - q->size, 0);
                if (n <= 0)
                        return false;
                q->size += (size_t) n;
                q->text[q->size] = 0;
                end = strstr(q->text, "\r\n\r\n");
        } while (!end);
        q->head_bytes = (size_t) (end - q->text) + 4;
        return sscanf(q->text, "%15s %255s", q->method, q->path) == 2;
}

static inline void check_body(Request *q, uint64_t offset, const char *data, size_t size) {
        for (size_t i = 0; i < size; i++)
                q->right = q->right && data[i] == object_byte(offset + q->n_body + i);
        q->n_body += size;
}

/* Kept where there is room, else only looked at. */
static inline bool read_body(int fd, Request *q) {
        uint64_t offset = header_number(q->text, "x-offset: ", 0);
        uint64_t bytes = header_number(q->text, "content-length: ", 0);
        char block[65536];

        q->n_body = 0;
        q->right = true;
        check_body(q, offset, q->text + q->head_bytes, q->size - q->head_bytes);
        while (q->n_body < bytes) {
                bool room = bytes - q->n_body < sizeof(q->text) - q->size;
                char *to = room ? q->text + q->size : block;
                ssize_t n = recv(fd, to, MIN(bytes - q->n_body, sizeof(block)), 0);

                if (n <= 0)
                        return false;
                check_body(q, offset, to, (size_t) n);
                if (room) {
                        q->size += (size_t) n;
                        q->text[q->size] = 0;
                }
        }
        return true;
}

/* One whole request; false: the end. */
static inline bool read_request(int fd, Request *q) {
        return read_head(fd, q) && (str_equal(q->path, "/early") || read_body(fd, q));
}

static inline void *serve_connection(void *userdata) {
        Connection *c = userdata;
        Server *s = c->server;
        Request *q = calloc(1, sizeof(Request));

        while (q && read_request(c->fd, q) && answer(s, c->fd, q))
                ;
        free(q);
        (void) close(c->fd);
        free(c);
        atomic_fetch_sub(&s->n_open, 1);
        return NULL;
}

static inline void *serve(void *userdata) {
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

static inline int server_begin(void **state) {
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
        (void) pthread_mutex_init(&s->lock, NULL);
        *state = s;
        return pthread_create(&s->thread, NULL, serve, s);
}

static inline int server_end(void **state) {
        Server *s = *state;

        (void) shutdown(s->fd, SHUT_RDWR);
        (void) pthread_join(s->thread, NULL);
        (void) close(s->fd);
        for (int i = 0; i < 5000 && atomic_load(&s->n_open) > 0; i++)
                (void) usleep(1000);
        if (atomic_load(&s->n_open) > 0)
                return -1;
        (void) pthread_mutex_destroy(&s->lock);
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
        uint64_t n_file, n_told; /* of the reply; of on_bytes() */
        char body[4096], etag[64], text[256];
        bool early, late;
        bool free_client;
        HttpTransfer *cancel; /* another one, to be cancelled by this one's end */
} Answers;

static inline void on_done(void *userdata, int r, HttpReply *reply, Error *err) {
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
                a->n_file = reply->n_file;
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

static inline void on_bytes(void *userdata, uint64_t n_bytes) {
        Answers *a = userdata;

        assert_true(n_bytes > 0);
        a->n_told += n_bytes;
}

static inline HttpClient *client_new(sd_event *loop) {
        _cleanup_(error_freep) Error *err = NULL;
        HttpClient *client = NULL;

        if (http_client_new(loop, &client, &err) < 0)
                fail_msg("%s", error_text(err));
        return client;
}

static inline void send_one(HttpClient *client, unsigned port, const char *path,
                            HttpRequest request, Answers *a, HttpTransfer **ret) {
        _cleanup_(error_freep) Error *err = NULL;
        char url[512];

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", port, path);
        request.url = url;
        request.method = request.method ?: "GET";
        request.on_done = on_done;
        request.on_bytes = on_bytes;
        request.userdata = a;
        request.max_bytes = request.max_bytes ?: 4000;
        if (http_send(client, &request, ret, &err) < 0)
                fail_msg("%s", error_text(err));
        /* Whatever lay on the stack is gone. */
        memset(url, 0x55, sizeof(url));
}

/* One request from beginning to end. */
static inline Answers get(sd_event *loop, HttpClient *client, const Server *s, const char *path,
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
