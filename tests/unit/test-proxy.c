/* The text of nginx's configuration, and the real nginx with it between small applications and
 * clients with kept-alive connections. */

#include "service/proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/str.h"
#include "folder.h"
#include "loop.h"
#include "service/listener.h"

#define NGINX     "/usr/sbin/nginx"
#define N_CLIENTS 4
#define N_TURNS   50
#define CONNS_MAX 256
#define SLOW_MSEC 150

/* -------- a small application: answers with its letter -------- */

typedef struct Conn {
        int fd;
        char in[8192];
        size_t n;
        bool web_socket;
        usec_t answer_usec; /* of a slow request */
} Conn;

static void answer(const Conn *conn, const char *body) {
        (void) dprintf(conn->fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body),
                       body);
}

/* One request at the front, or false: not whole yet. */
static bool serve_one(Conn *conn, char letter) {
        const char *length = strcasestr(conn->in, "\r\nContent-Length: ");
        char *end = strstr(conn->in, "\r\n\r\n"), body[8300];
        size_t size;

        if (!end || conn->answer_usec > 0)
                return false;
        size = (size_t) (end + 4 - conn->in) +
               (length && length < end ? strtoul(length + 18, NULL, 10) : 0);
        if (conn->n < size)
                return false;
        (void) snprintf(body, sizeof(body), "%c", letter);
        if (strcasestr(conn->in, "\r\nUpgrade: websocket")) {
                conn->web_socket = true;
                (void) dprintf(conn->fd, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: "
                                         "websocket\r\nConnection: Upgrade\r\n\r\n");
        } else if (str_has_prefix(conn->in, "GET /slow"))
                conn->answer_usec = clock_read(NULL, CLOCK_MONOTONIC) + MSEC(SLOW_MSEC);
        else {
                if (str_has_prefix(conn->in, "GET /headers"))
                        (void) snprintf(body, sizeof(body), "%.*s", (int) (end - conn->in),
                                        conn->in);
                answer(conn, body);
        }
        conn->n -= size;
        memmove(conn->in, conn->in + size, conn->n + 1);
        return true;
}

static void serve_input(Conn *conn, char letter) {
        ssize_t n = read(conn->fd, conn->in + conn->n, sizeof(conn->in) - 1 - conn->n);

        if (n <= 0) {
                (void) close(conn->fd);
                *conn = (Conn){ .fd = -1 };
                return;
        }
        conn->n += (size_t) n;
        conn->in[conn->n] = '\0';
        if (conn->web_socket) {
                (void) dprintf(conn->fd, "%c%s", letter, conn->in);
                conn->n = 0;
                return;
        }
        while (serve_one(conn, letter))
                ;
}

static void serve_slow(Conn *conn, char letter) {
        if (conn->answer_usec == 0 || clock_read(NULL, CLOCK_MONOTONIC) < conn->answer_usec)
                return;
        conn->answer_usec = 0;
        answer(conn, (const char[]){ letter, '\0' });
}

static _Noreturn void serve(int listen_fd, char letter) {
        static Conn conns[CONNS_MAX];
        struct pollfd polls[CONNS_MAX + 1];

        for (size_t i = 0; i < CONNS_MAX; i++)
                conns[i].fd = -1;
        for (;;) {
                for (size_t i = 0; i < CONNS_MAX; i++)
                        polls[i] = (struct pollfd){ .fd = conns[i].fd, .events = POLLIN };
                polls[CONNS_MAX] = (struct pollfd){ .fd = listen_fd, .events = POLLIN };
                (void) poll(polls, CONNS_MAX + 1, 20);
                for (size_t i = 0; i < CONNS_MAX; i++) {
                        if (conns[i].fd >= 0 && polls[i].revents)
                                serve_input(&conns[i], letter);
                        serve_slow(&conns[i], letter);
                }
                if (!polls[CONNS_MAX].revents)
                        continue;
                for (size_t i = 0; i < CONNS_MAX; i++)
                        if (conns[i].fd < 0) {
                                conns[i].fd = accept(listen_fd, NULL, NULL);
                                break;
                        }
        }
}

static int listen_on(uint16_t *port) {
        struct sockaddr_in a = { .sin_family = AF_INET,
                                 .sin_port = htons(*port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(a);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_return_code(bind(fd, (struct sockaddr *) &a, sizeof(a)), errno);
        assert_return_code(listen(fd, 128), errno);
        assert_return_code(getsockname(fd, (struct sockaddr *) &a, &size), errno);
        *port = ntohs(a.sin_port);
        return fd;
}

/* -------- a client -------- */

static int dial(uint16_t port) {
        struct sockaddr_in a = { .sin_family = AF_INET,
                                 .sin_port = htons(port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
        const struct timeval patience = { .tv_sec = 10 };

        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        if (connect(fd, (struct sockaddr *) &a, sizeof(a)) == 0)
                return fd;
        (void) close(fd);
        return -1;
}

/* The status of the next answer, and its body; -1: the connection broke. */
static int receive(int fd, char *ret_body, size_t size) {
        char in[16384];
        size_t n = 0;

        for (;;) {
                ssize_t m = recv(fd, in + n, sizeof(in) - 1 - n, 0);
                if (m <= 0)
                        return -1;
                n += (size_t) m;
                in[n] = '\0';
                const char *end = strstr(in, "\r\n\r\n"),
                           *length = strcasestr(in, "\r\nContent-Length: ");
                if (!end)
                        continue;
                size_t body = length && length < end ? strtoul(length + 18, NULL, 10) : 0;
                if (n < (size_t) (end + 4 - in) + body)
                        continue;
                (void) snprintf(ret_body, size, "%.*s", (int) body, end + 4);
                return (int) strtoul(in + 9, NULL, 10);
        }
}

static int ask(int fd, const char *request, char *ret_body, size_t size) {
        if (send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t) strlen(request))
                return -1;
        return receive(fd, ret_body, size);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: shop.example:81\r\n\r\n"
#define POST      "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"

/* nginx closes a connection after a thousand requests, and says so in the last answer; this is
 * before that. */
#define REQUESTS_MAX 900

/* Over kept-alive connections, until told to end; its exit code is how many requests failed. */
static _Noreturn void load(uint16_t port, int end_fd) {
        int n_bad = 0, n = 0, fd = dial(port);
        char body[64];

        for (char byte; read(end_fd, &byte, 1) < 0; n++) {
                if (n % REQUESTS_MAX == REQUESTS_MAX - 1) {
                        (void) close(fd);
                        fd = dial(port);
                }
                int status = ask(fd, n % 3 ? GET("/") : POST, body, sizeof(body));
                if (status == 200 && (str_equal(body, "a") || str_equal(body, "b")))
                        continue;
                n_bad++;
                (void) close(fd);
                fd = dial(port);
        }
        _exit(n < 10 ? 100 : MIN(n_bad, 99));
}

/* -------- everything together -------- */

typedef struct Fixture {
        Folder folder;
        char slot_dir[64], run_dir[64], log_dir[64], conf[64];
        char http_path[64], server_path[96];
        const char *http_includes[2], *server_includes[2];
        int slot_fd;
        uint16_t port, fixed_port, slot_ports[2];
        pid_t applications[2], nginx;
        ProxyConfig config;
} Fixture;

static uint16_t free_port(void) {
        uint16_t port = 0;

        (void) close(listen_on(&port));
        return port;
}

static const char *make_dir(const Fixture *f, const char *name, char ret[64]) {
        (void) snprintf(ret, 64, "%s/%s", f->folder.path, name);
        assert_return_code(mkdir(ret, 0755), errno);
        return ret;
}

static int setup(void **state) {
        Fixture *f = calloc(1, sizeof(*f));

        f->folder = folder_new();
        assert_return_code(fchmod(f->folder.fd, 0755), errno);
        f->port = free_port();
        f->fixed_port = free_port();
        for (int i = 0; i < 2; i++) {
                int fd = listen_on(&f->slot_ports[i]);
                f->applications[i] = fork();
                if (f->applications[i] == 0)
                        serve(fd, i == 0 ? 'a' : 'b');
                (void) close(fd);
        }
        f->config = (ProxyConfig){
                .port = f->port,
                .fixed_port = f->fixed_port,
                .slot_port_a = f->slot_ports[0],
                .slot_port_b = f->slot_ports[1],
                .slot_dir = make_dir(f, "slot of", f->slot_dir),
                .run_dir = make_dir(f, "run", f->run_dir),
                .log_dir = make_dir(f, "log", f->log_dir),
                .user = geteuid() == 0 ? "nobody nogroup" : NULL,
                .http_includes = f->http_includes,
                .server_includes = f->server_includes,
        };
        f->slot_fd = open(f->slot_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        (void) snprintf(f->conf, sizeof(f->conf), "%s/nginx.conf", f->folder.path);
        *state = f;
        return 0;
}

static void end_process(pid_t pid, int signal) {
        int status;

        if (pid <= 0)
                return;
        (void) kill(pid, signal);
        (void) waitpid(pid, &status, 0);
}

static int teardown(void **state) {
        Fixture *f = *state;

        end_process(f->nginx, SIGTERM);
        for (int i = 0; i < 2; i++)
                end_process(f->applications[i], SIGKILL);
        (void) close(f->slot_fd);
        folder_done(&f->folder);
        free(f);
        return 0;
}

static void put_text(const Fixture *f, const char *name, const char *text) {
        assert_int_equal(file_write_at(f->folder.fd, name, text, strlen(text), 0644, FILE_REPLACE),
                         0);
}

static void include_http(Fixture *f, const char *text) {
        put_text(f, "http.conf", text);
        (void) snprintf(f->http_path, sizeof(f->http_path), "%s/http.conf", f->folder.path);
        f->http_includes[0] = f->http_path;
}

static void include_server(Fixture *f, const char *name, const char *format) {
        char text[1024];

        (void) snprintf(text, sizeof(text), "%s", format);
        for (char *at = strstr(text, "FIXED"); at; at = strstr(text, "FIXED")) {
                char number[6];
                (void) snprintf(number, sizeof(number), "%05u", f->fixed_port);
                memcpy(at, number, 5);
        }
        put_text(f, name, text);
        (void) snprintf(f->server_path, sizeof(f->server_path), "%s/%s", f->folder.path, name);
        f->server_includes[0] = f->server_path;
}

static void write_conf(const Fixture *f) {
        _cleanup_(buf_done) Buf text = BUF_INIT(65536);
        _cleanup_(error_freep) Error *err = NULL;

        if (proxy_render(&f->config, &text, &err) < 0)
                fail_msg("%s", error_text(err));
        put_text(f, "nginx.conf", buf_str(&text));
}

static void start_nginx(Fixture *f) {
        if (access(NGINX, X_OK) < 0)
                skip();
        write_conf(f);
        f->nginx = fork();
        if (f->nginx == 0) {
                (void) execl("/bin/sh", "sh", "-c", proxy_command(NGINX, f->conf, f->run_dir),
                             NULL);
                _exit(127);
        }
        for (unsigned i = 0; i < 5000; i++) {
                int fd = dial(f->port);
                if (fd >= 0) {
                        (void) close(fd);
                        return;
                }
                assert_int_equal(waitpid(f->nginx, NULL, WNOHANG), 0);
                (void) usleep(1000);
        }
        fail_msg("nginx did not begin");
}

static char served(int fd, const char *request) {
        char body[64] = "";

        return ask(fd, request, body, sizeof(body)) == 200 ? body[0] : '?';
}

/* Turns the slot many times; each first request behind a turn, over connections that are kept
 * alive, gets the new one. */
static void turn_under_load(Fixture *f, const char *request) {
        pid_t clients[N_CLIENTS];
        int pair[2], status, fd;

        assert_return_code(pipe2(pair, O_CLOEXEC | O_NONBLOCK), errno);
        for (int i = 0; i < N_CLIENTS; i++) {
                clients[i] = fork();
                if (clients[i] == 0) {
                        (void) close(pair[1]);
                        load(f->port, pair[0]);
                }
        }
        fd = dial(f->port);
        for (int i = 0; i < N_TURNS; i++) {
                Slot slot = i % 2 ? SLOT_A : SLOT_B;

                assert_int_equal(slot_turn(f->slot_fd, slot), 0);
                assert_int_equal(served(fd, request), (char) slot);
                for (int j = 0; j < 6; j++)
                        assert_int_equal(served(fd, j % 2 ? POST : request), (char) slot);
        }
        (void) close(fd);
        (void) close(pair[1]);
        for (int i = 0; i < N_CLIENTS; i++) {
                assert_int_equal(waitpid(clients[i], &status, 0), clients[i]);
                assert_int_equal(status, 0);
        }
        (void) close(pair[0]);
}

static void test_turn(void **state) {
        Fixture *f = *state;

        start_nginx(f);
        turn_under_load(f, GET("/"));

        /* The old one counts as drained within seconds: nginx lets go of connections that it kept.
         */
        assert_int_equal(slot_turn(f->slot_fd, SLOT_B), 0);
        usec_t end = clock_read(NULL, CLOCK_MONOTONIC) + SEC(10);
        while (listener_connections(f->slot_ports[0]) > 0) {
                assert_true(clock_read(NULL, CLOCK_MONOTONIC) < end);
                (void) usleep(20000);
        }
}

/* A bundle that lets nginx remember what it looked up, on both levels: the turn is immediate all
 * the same. Its other settings stand. */
static void test_turn_with_a_bundles_cache(void **state) {
        Fixture *f = *state;

        include_http(f,
                     "open_file_cache max=100 inactive=60s;\nopen_file_cache_valid "
                     "60s;\nopen_file_cache_errors on;\n"
                     "client_max_body_size 20m;\nkeepalive_timeout 30s;\nsendfile on;\ngzip on;\n"
                     "map $http_upgrade $connection_upgrade { default \"upgrade\"; '' ''; }\n");
        include_server(f, "cache.conf",
                       "open_file_cache max=10 inactive=60s;\nopen_file_cache_valid "
                       "60s;\nopen_file_cache_errors on;\n"
                       "client_max_body_size 10m;\nlocation /static { return 204; }\n");
        start_nginx(f);
        turn_under_load(f, GET("/"));
        int fd = dial(f->port);
        char body[64];
        assert_int_equal(ask(fd, GET("/static"), body, sizeof(body)), 204);
        (void) close(fd);
}

/* Elastic Beanstalk's usual override: a location of the bundle that names the fixed port. */
static void test_turn_behind_the_fixed_port(void **state) {
        Fixture *f = *state;

        include_http(f, "open_file_cache max=100 inactive=60s;\nopen_file_cache_valid "
                        "60s;\nopen_file_cache_errors on;\n");
        include_server(f, "00_application.conf",
                       "location / {\n    proxy_pass http://127.0.0.1:FIXED;\n    "
                       "proxy_http_version 1.1;\n"
                       "    proxy_set_header Connection $connection_upgrade;\n    proxy_set_header "
                       "Upgrade $http_upgrade;\n"
                       "    proxy_set_header Host $host;\n    proxy_set_header X-Forwarded-For "
                       "$proxy_add_x_forwarded_for;\n}\n");
        start_nginx(f);
        turn_under_load(f, GET("/"));
        int fd = dial(f->port);
        char body[4096];
        assert_int_equal(ask(fd, GET("/headers"), body, sizeof(body)), 200);
        assert_non_null(strstr(body, "\r\nHost: shop.example\r\n"));
        assert_non_null(strstr(body, "\r\nX-Forwarded-For: 127.0.0.1"));
        (void) close(fd);
}

/* What is under way ends where it began. */
static void test_slow_and_web_sockets(void **state) {
        Fixture *f = *state;
        char text[256];

        start_nginx(f);
        int slow = dial(f->port), ws = dial(f->port), next = dial(f->port);
        assert_int_equal(send(slow, GET("/slow"), strlen(GET("/slow")), 0), strlen(GET("/slow")));
        assert_int_equal(ask(ws,
                             "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: "
                             "Upgrade\r\n\r\n",
                             text, sizeof(text)),
                         101);
        /* The slow request is at the application once it has a connection there. */
        for (unsigned i = 0; i < 5000 && listener_connections(f->slot_ports[0]) < 2; i++)
                (void) usleep(1000);
        assert_int_equal(slot_turn(f->slot_fd, SLOT_B), 0);
        assert_int_equal(served(next, GET("/")), 'b');
        assert_int_equal(send(ws, "ping", 4, 0), 4);
        assert_int_equal(recv(ws, text, sizeof(text), 0), 5);
        assert_memory_equal(text, "aping", 5);
        assert_int_equal(receive(slow, text, sizeof(text)), 200);
        assert_string_equal(text, "a");
        (void) close(slow);
        (void) close(ws);
        (void) close(next);
}

static void check_header(const char *headers, const char *line, bool there) {
        char whole[256];

        (void) snprintf(whole, sizeof(whole), "\r\n%s", line);
        if (!strcasestr(headers, whole) == there)
                fail_msg("'%s' %s there:\n%s", line, there ? "is not" : "is", headers);
}

static void test_headers(void **state) {
        Fixture *f = *state;
        char headers[4096];

        f->config.max_body_bytes = 4;
        start_nginx(f);
        int fd = dial(f->port);
        assert_int_equal(ask(fd, GET("/headers"), headers, sizeof(headers)), 200);
        check_header(headers, "Host: shop.example", true);
        check_header(headers, "X-Real-IP: 127.0.0.1", true);
        check_header(headers, "X-Forwarded-For: 127.0.0.1", true);
        check_header(headers, "X-Forwarded-Proto: http", true);
        check_header(headers, "Connection:", false);
        check_header(headers, "Upgrade:", false);
        assert_int_equal(ask(fd,
                             "GET /headers HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: "
                             "https\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n",
                             headers, sizeof(headers)),
                         200);
        check_header(headers, "X-Forwarded-Proto: https", true);
        check_header(headers, "X-Forwarded-For: 9.9.9.9, 127.0.0.1", true);
        assert_int_equal(ask(fd, POST, headers, sizeof(headers)), 413);
        (void) close(fd);
}

/* -------- nginx -t -------- */

typedef struct Tested {
        int n, r;
        char words[512];
} Tested;

static void on_tested(void *userdata, int r, Error *err) {
        Tested *t = userdata;

        t->n++;
        t->r = r;
        (void) snprintf(t->words, sizeof(t->words), "%s", err ? error_text(err) : "");
}

static Tested check_conf(const Fixture *f) {
        sd_event *loop = loop_new();
        ProxyTest *test = NULL;
        Tested tested = { 0 };

        write_conf(f);
        assert_int_equal(
                proxy_test(loop, NGINX, f->conf, f->run_dir, on_tested, &tested, &test, NULL), 0);
        loop_until(loop, &tested.n, 1);
        (void) sd_event_unref(loop);
        return tested;
}

static void test_test(void **state) {
        Fixture *f = *state;
        ProxyTest *test = NULL;
        Tested tested;

        if (access(NGINX, X_OK) < 0)
                skip();
        tested = check_conf(f);
        if (tested.r != 0)
                fail_msg("%s", tested.words);
        include_server(f, "bad.conf", "nonsense on;\n");
        tested = check_conf(f);
        assert_int_equal(tested.r, -EINVAL);
        assert_true(str_has_prefix(
                tested.words,
                "nginx refuses the configuration: unknown directive \"nonsense\" in /"));
        assert_non_null(strstr(tested.words, "bad.conf:1"));

        sd_event *loop = loop_new();
        assert_int_equal(
                proxy_test(loop, NGINX, f->conf, f->run_dir, on_tested, &tested, &test, NULL), 0);
        assert_null(proxy_test_cancel(test));
        assert_int_equal(proxy_test(loop, "/no/such/nginx", f->conf, f->run_dir, on_tested, &tested,
                                    &test, NULL),
                         -ENOENT);
        (void) sd_event_unref(loop);
}

/* -------- the text alone -------- */

static ProxyConfig plain_config(void) {
        return (ProxyConfig){ .port = 80,
                              .fixed_port = 5000,
                              .slot_port_a = 5001,
                              .slot_port_b = 5002,
                              .slot_dir = "/s",
                              .run_dir = "/r",
                              .log_dir = "/l",
                              .user = "nginx" };
}

static int render(const ProxyConfig *config, char ret[16384]) {
        _cleanup_(buf_done) Buf text = BUF_INIT(16384);
        int r = proxy_render(config, &text, NULL);

        (void) snprintf(ret, 16384, "%s", buf_str(&text));
        return r;
}

static void test_text(void **state) {
        ProxyConfig config = plain_config();
        char text[16384], again[16384];

        (void) state;
        assert_int_equal(render(&config, text), 0);
        assert_int_equal(render(&config, again), 0);
        assert_string_equal(text, again);
        for (const char *const *s =
                     (const char *const[]){ "listen 80 default_server;", "listen 127.0.0.1:5000;",
                                            "\nuser nginx;", "server 127.0.0.1:5001;",
                                            "if (-e \"/s/b\")", "pid \"/r/nginx.pid\";",
                                            "access_log \"/l/access.log\" main;", NULL };
             *s; s++)
                if (!strstr(text, *s))
                        fail_msg("no %s in\n%s", *s, text);

        config.fixed_port = 0;
        config.user = NULL;
        assert_int_equal(render(&config, text), 0);
        assert_null(strstr(text, "127.0.0.1:5000"));
        assert_null(strstr(text, "\nuser "));

        const char *const includes[] = {
                "/c/.platform/nginx/conf.d/elasticbeanstalk/00_application.conf", NULL
        };
        config.server_includes = includes;
        assert_int_equal(render(&config, text), 0);
        assert_null(strstr(text, "location /"));
        assert_non_null(strstr(
                text,
                "include \"/c/.platform/nginx/conf.d/elasticbeanstalk/00_application.conf\";"));
}

static void test_values_stay_in_their_place(void **state) {
        static const char *const bad[] = { "relative", "/a\"; user root; \"",
                                           "/a\\",     "/a$uri",
                                           "/a\nb",    "/a*",
                                           "/a[b]",    "/a?",
                                           "",         "/a\x7f",
                                           NULL };
        char text[16384];

        (void) state;
        for (const char *const *p = bad; *p; p++) {
                const char *const list[] = { "/good", *p, NULL };
                ProxyConfig configs[5];

                for (size_t i = 0; i < ELEMENTS(configs); i++)
                        configs[i] = plain_config();
                configs[0].slot_dir = *p;
                configs[1].run_dir = *p;
                configs[2].log_dir = *p;
                configs[3].http_includes = list;
                configs[4].server_includes = list;
                for (size_t i = 0; i < ELEMENTS(configs); i++) {
                        assert_int_equal(render(&configs[i], text), -EINVAL);
                        assert_string_equal(text, "");
                }
        }
        ProxyConfig config = plain_config();
        static const char *const users[] = {
                "root; load_module x", "", "-x", "a b c", "a ", " a", "a;", "a;b", NULL
        };
        for (const char *const *u = users; *u; u++) {
                config.user = *u;
                assert_int_equal(render(&config, text), -EINVAL);
        }
        config = plain_config();
        config.slot_port_b = 0;
        assert_int_equal(render(&config, text), -EINVAL);
        config = plain_config();
        config.slot_dir = "/with blank;{}#'";
        assert_int_equal(render(&config, text), 0);
}

static void test_small_buffer(void **state) {
        ProxyConfig config = plain_config();

        (void) state;
        for (size_t max = 0; max < 2500; max += 97) {
                _cleanup_(buf_done) Buf text = BUF_INIT(max);
                assert_int_equal(proxy_render(&config, &text, NULL), -EFBIG);
        }
}

static void test_command(void **state) {
        _cleanup_free_ char *command = proxy_command("/usr/sbin/nginx", "/it's/n.conf", "/r");

        (void) state;
        assert_string_equal(command, "exec '/usr/sbin/nginx' '-c' '/it'\\''s/n.conf' '-p' '/r' "
                                     "'-e' '/r/start.log' '-g' 'daemon off;'");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_text),
                cmocka_unit_test(test_values_stay_in_their_place),
                cmocka_unit_test(test_small_buffer),
                cmocka_unit_test(test_command),
                cmocka_unit_test_setup_teardown(test_test, setup, teardown),
                cmocka_unit_test_setup_teardown(test_turn, setup, teardown),
                cmocka_unit_test_setup_teardown(test_turn_with_a_bundles_cache, setup, teardown),
                cmocka_unit_test_setup_teardown(test_turn_behind_the_fixed_port, setup, teardown),
                cmocka_unit_test_setup_teardown(test_slow_and_web_sockets, setup, teardown),
                cmocka_unit_test_setup_teardown(test_headers, setup, teardown),
        };

        return cmocka_run_group_tests_name("proxy", tests, loop_block_signals, NULL);
}
