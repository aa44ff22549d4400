#pragma once

/*
 * An HTTP server on loopback that answers by a script: a list of ScriptAnswer, of which the first
 * that fits a request and is not used up is given. What fits none gets 404 and counts in
 * script_server_n_unknown(). It runs in threads of the test's own process, one a connection, and
 * keeps connections open.
 *
 *      static const ScriptAnswer script[] = {
 *              { .method = "PUT", .path = "/latest/api/token", .body = "T1", .times = 1 },
 *              { .path = "/slow", .delay_msec = 50, .status = 503, .headers = "Retry-After: 1\r\n"
 * }, { .path = "/dir/" "*", .needs = "x-token: T1", .body = "hello" }, { .path = "/hang", .how =
 * SCRIPT_HANG },
 *      };
 *      ScriptServer *server = script_server_new(script, ELEMENTS(script));
 *      ... script_server_url(server) is "http://127.0.0.1:PORT" ...
 *      server = script_server_free(server);
 *
 * Tests include this first or after loop.h; SIGPIPE needs no care.
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/macro.h"
#include "base/str.h"

#define SCRIPT_REQUESTS      512         /* how many are remembered */
#define SCRIPT_REQUEST_BYTES (64 * 1024) /* of a head; a body may be as large as the next */
#define SCRIPT_BODY_BYTES    (32 * 1024 * 1024)
#define SCRIPT_ANSWERS       64

typedef enum ScriptHow {
        SCRIPT_ANSWER, /* status, headers, body */
        SCRIPT_HANG,   /* takes the request and says nothing until the client leaves */
        SCRIPT_STALL,  /* says the head and cut_bytes of the body, then nothing */
        SCRIPT_CUT,    /* the same, then closes: cut_bytes 0 is a head without its body */
        SCRIPT_CLOSE,  /* takes the request, closes without a byte */
        SCRIPT_RESET,  /* the same with a reset */
        SCRIPT_RAW,    /* the body is the whole answer, head included; closes */
} ScriptHow;

typedef struct ScriptServer ScriptServer;

/* Makes an answer by itself, in a connection's thread: appends the whole of it, head included, to
 * answer. request is NUL-terminated after its head; body is what follows. */
typedef void (*ScriptMake)(void *userdata, const char *request, const char *body, size_t body_bytes,
                           Buf *answer);

typedef struct ScriptAnswer {
        const char *method; /* NULL: any */
        const char
                *path; /* with the query, as sent; at its end '*': any that begin so; NULL: any */
        const char
                *needs; /* must stand in the request somewhere, case counts; NULL: nothing must */
        const char *lacks; /* must not; NULL */
        unsigned times;    /* given so many times, then passed over; 0: always */
        unsigned delay_msec;
        ScriptHow how;
        unsigned status;     /* 0: 200 */
        const char *headers; /* "Name: value\r\n" each; Content-Length comes by itself */
        const char *body;
        size_t body_bytes; /* 0: the length of the string */
        size_t cut_bytes;
        bool close;      /* the connection is closed after it, as "Connection: close" says */
        ScriptMake make; /* in place of all that */
        void *userdata;
} ScriptAnswer;

struct ScriptServer {
        int fd;
        unsigned port;
        char url[64];
        pthread_t thread;
        pthread_mutex_t lock; /* of all below */
        ScriptAnswer answers[SCRIPT_ANSWERS];
        unsigned n_given[SCRIPT_ANSWERS];
        size_t n_answers;
        char *requests[SCRIPT_REQUESTS]; /* head and body */
        size_t n_requests, n_unknown, n_connections, n_open;
};

typedef struct ScriptConnection {
        ScriptServer *server;
        int fd;
} ScriptConnection;

static inline bool script_send(int fd, const void *data, size_t size) {
        const char *at = data;
        ssize_t n;

        while (size > 0) {
                n = send(fd, at, size, MSG_NOSIGNAL);
                if (n <= 0)
                        return false;
                at += n;
                size -= (size_t) n;
        }
        return true;
}

static inline void script_wait_for_end(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        char bytes[512];

        while (poll(&p, 1, 20000) > 0 && recv(fd, bytes, sizeof(bytes), 0) > 0)
                ;
}

static inline bool script_fits(const ScriptAnswer *answer, const char *method, const char *path,
                               const char *request, size_t size) {
        size_t n = answer->path ? strlen(answer->path) : 0;

        if (answer->method && !str_equal(answer->method, method))
                return false;
        if (n > 0 && answer->path[n - 1] == '*' ? strncmp(answer->path, path, n - 1) != 0
                                                : answer->path && !str_equal(answer->path, path))
                return false;
        if (answer->needs && !memmem(request, size, answer->needs, strlen(answer->needs)))
                return false;
        return !answer->lacks || !memmem(request, size, answer->lacks, strlen(answer->lacks));
}

/* The answer to a request, which is remembered. */
static inline ScriptAnswer script_choose(ScriptServer *server, const Buf *request,
                                         const char *method, const char *path) {
        ScriptAnswer answer = { .status = 404, .body = "not in the script" };
        size_t i;

        (void) pthread_mutex_lock(&server->lock);
        if (server->n_requests < SCRIPT_REQUESTS)
                server->requests[server->n_requests] = strndup(request->data, request->size);
        server->n_requests++;
        for (i = 0; i < server->n_answers; i++)
                if ((server->answers[i].times == 0 ||
                     server->n_given[i] < server->answers[i].times) &&
                    script_fits(&server->answers[i], method, path, request->data, request->size))
                        break;
        if (i < server->n_answers) {
                server->n_given[i]++;
                answer = server->answers[i];
        } else
                server->n_unknown++;
        (void) pthread_mutex_unlock(&server->lock);
        return answer;
}

/* Head and body of a plain answer. */
static inline bool script_say(int fd, const ScriptAnswer *answer, bool no_body) {
        size_t size = answer->body_bytes ? answer->body_bytes
                      : answer->body     ? strlen(answer->body)
                                         : 0;
        size_t sent = answer->how == SCRIPT_ANSWER ? size : MIN(size, answer->cut_bytes);
        unsigned status = answer->status ? answer->status : 200;
        char head[512];
        int n;

        n = snprintf(head, sizeof(head), "HTTP/1.1 %u Scripted\r\n%s", status,
                     answer->close ? "Connection: close\r\n" : "");
        if (!script_send(fd, head, (size_t) n))
                return false;
        if (answer->headers && !script_send(fd, answer->headers, strlen(answer->headers)))
                return false;
        if (status != 304 && status != 204) {
                n = snprintf(head, sizeof(head), "Content-Length: %zu\r\n", size);
                if (!script_send(fd, head, (size_t) n))
                        return false;
        }
        return script_send(fd, "\r\n", 2) && (no_body || script_send(fd, answer->body, sent));
}

/* A whole request, into a buffer that was empty; *body is where its body begins. False: the end. */
static inline bool script_read(int fd, Buf *request, size_t *body) {
        char bytes[65536];
        const char *end = NULL, *length;
        size_t body_bytes = 0;
        ssize_t n;

        while (!end || request->size < *body + body_bytes) {
                n = recv(fd, bytes, sizeof(bytes), 0);
                if (n <= 0 || buf_append(request, bytes, (size_t) n) < 0)
                        return false;
                if (end)
                        continue;
                end = strstr(request->data, "\r\n\r\n");
                if (!end)
                        continue;
                *body = (size_t) (end - request->data) + 4;
                length = strcasestr(request->data, "\r\ncontent-length:");
                if (length && length < end)
                        (void) sscanf(length + 17, "%zu", &body_bytes);
                if (strcasestr(request->data, "\r\nExpect: 100-continue"))
                        (void) script_send(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        }
        return true;
}

static inline bool script_make(int fd, const ScriptAnswer *answer, Buf *request, size_t body) {
        _cleanup_(buf_done) Buf text = BUF_INIT(SCRIPT_BODY_BYTES);
        char *head = strndup(request->data, body);
        bool kept;

        answer->make(answer->userdata, head, request->data + body, request->size - body, &text);
        free(head);
        kept = script_send(fd, text.data, text.size);
        return kept && text.size > 0 && !answer->close;
}

/* True: the connection may be used again. */
static inline bool script_answer(ScriptServer *server, int fd, Buf *request, size_t body) {
        char method[16] = "", path[8192] = "";
        ScriptAnswer answer;

        if (sscanf(request->data, "%15s %8191s", method, path) != 2)
                return false;
        answer = script_choose(server, request, method, path);
        if (answer.delay_msec > 0) {
                struct pollfd p = { .fd = fd, .events = POLLRDHUP };

                (void) poll(&p, 1, (int) answer.delay_msec);
        }
        if (answer.make)
                return script_make(fd, &answer, request, body);

        switch (answer.how) {
        case SCRIPT_ANSWER:
                return script_say(fd, &answer, str_equal(method, "HEAD")) && !answer.close;
        case SCRIPT_STALL:
                (void) script_say(fd, &answer, false);
                script_wait_for_end(fd);
                return false;
        case SCRIPT_HANG:
                script_wait_for_end(fd);
                return false;
        case SCRIPT_CUT:
                (void) script_say(fd, &answer, false);
                return false;
        case SCRIPT_RESET: {
                struct linger now = { .l_onoff = 1, .l_linger = 0 };

                (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
                return false;
        }
        case SCRIPT_RAW:
                (void) script_send(fd, answer.body,
                                   answer.body_bytes ? answer.body_bytes : strlen(answer.body));
                return false;
        case SCRIPT_CLOSE:
        default:
                return false;
        }
}

static inline void *script_serve_connection(void *userdata) {
        ScriptConnection *c = userdata;
        ScriptServer *server = c->server;
        bool more;

        do {
                _cleanup_(buf_done) Buf request =
                        BUF_INIT(SCRIPT_REQUEST_BYTES + SCRIPT_BODY_BYTES);
                size_t body = 0;

                more = script_read(c->fd, &request, &body) &&
                       script_answer(server, c->fd, &request, body);
        } while (more);
        (void) close(c->fd);
        free(c);
        (void) pthread_mutex_lock(&server->lock);
        server->n_open--;
        (void) pthread_mutex_unlock(&server->lock);
        return NULL;
}

static inline void *script_serve(void *userdata) {
        ScriptServer *server = userdata;
        pthread_attr_t detached;
        pthread_t thread;
        int fd;

        (void) pthread_attr_init(&detached);
        (void) pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        while ((fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                ScriptConnection *c = calloc(1, sizeof(ScriptConnection));

                if (!c)
                        abort();
                *c = (ScriptConnection){ server, fd };
                (void) pthread_mutex_lock(&server->lock);
                server->n_open++;
                server->n_connections++;
                (void) pthread_mutex_unlock(&server->lock);
                if (pthread_create(&thread, &detached, script_serve_connection, c) != 0)
                        abort();
        }
        (void) pthread_attr_destroy(&detached);
        return NULL;
}

/* Another script from now on, counted anew; what was asked so far stays. The texts must stay. */
static inline void script_server_set(ScriptServer *server, const ScriptAnswer *answers, size_t n) {
        if (n > SCRIPT_ANSWERS)
                abort();
        (void) pthread_mutex_lock(&server->lock);
        if (n > 0)
                memcpy(server->answers, answers, n * sizeof(ScriptAnswer));
        memset(server->n_given, 0, sizeof(server->n_given));
        server->n_answers = n;
        (void) pthread_mutex_unlock(&server->lock);
}

static inline ScriptServer *script_server_new(const ScriptAnswer *answers, size_t n) {
        struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(address);
        ScriptServer *server = calloc(1, sizeof(ScriptServer));

        if (!server || pthread_mutex_init(&server->lock, NULL) != 0)
                abort();
        server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (server->fd < 0 || bind(server->fd, (struct sockaddr *) &address, size) < 0 ||
            listen(server->fd, 64) < 0 ||
            getsockname(server->fd, (struct sockaddr *) &address, &size) < 0)
                abort();
        server->port = ntohs(address.sin_port);
        (void) snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%u", server->port);
        script_server_set(server, answers, n);
        if (pthread_create(&server->thread, NULL, script_serve, server) != 0)
                abort();
        return server;
}

static inline const char *script_server_url(const ScriptServer *server) {
        return server->url;
}

static inline size_t script_server_count(ScriptServer *server, const size_t *which) {
        size_t n;

        (void) pthread_mutex_lock(&server->lock);
        n = *which;
        (void) pthread_mutex_unlock(&server->lock);
        return n;
}

static inline size_t script_server_n_requests(ScriptServer *server) {
        return script_server_count(server, &server->n_requests);
}

static inline size_t script_server_n_connections(ScriptServer *server) {
        return script_server_count(server, &server->n_connections);
}

static inline size_t script_server_n_unknown(ScriptServer *server) {
        return script_server_count(server, &server->n_unknown);
}

/* How many of the requests so far begin with this ("PUT /latest/api/token"). */
static inline size_t script_server_n_of(ScriptServer *server, const char *beginning) {
        size_t n = 0;

        (void) pthread_mutex_lock(&server->lock);
        for (size_t i = 0; i < MIN(server->n_requests, (size_t) SCRIPT_REQUESTS); i++)
                n += server->requests[i] && str_has_prefix(server->requests[i], beginning);
        (void) pthread_mutex_unlock(&server->lock);
        return n;
}

/* The i-th request as it came (a body with NUL ends there), or "". Valid until the server's end. */
static inline const char *script_server_request(ScriptServer *server, size_t i) {
        const char *text = NULL;

        (void) pthread_mutex_lock(&server->lock);
        if (i < SCRIPT_REQUESTS)
                text = server->requests[i];
        (void) pthread_mutex_unlock(&server->lock);
        return text ? text : "";
}

/* Ends it; clients must have gone by now, or go within 5 s: close the HttpClient first. */
static inline ScriptServer *script_server_free(ScriptServer *server) {
        if (!server)
                return NULL;
        (void) shutdown(server->fd, SHUT_RDWR);
        (void) pthread_join(server->thread, NULL);
        (void) close(server->fd);
        for (int i = 0; i < 5000 && script_server_count(server, &server->n_open) > 0; i++)
                (void) usleep(1000);
        if (script_server_count(server, &server->n_open) > 0)
                abort();
        for (size_t i = 0; i < SCRIPT_REQUESTS; i++)
                free(server->requests[i]);
        (void) pthread_mutex_destroy(&server->lock);
        free(server);
        return NULL;
}
DEFINE_CLEANUP(ScriptServer, script_server_free);
