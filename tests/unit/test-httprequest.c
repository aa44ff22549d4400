/* By which way a request goes, whom it trusts, and what it tells of itself. */

#include "loop/httptransfer.h"

#include <dlfcn.h>
#include <netdb.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "folder.h"
#include "http-server.h"

/* ---- names: one host whose name server is silent ---- */

static int (*real_getaddrinfo)(const char *, const char *, const struct addrinfo *,
                               struct addrinfo **);
static atomic_bool names_answer;
static atomic_int n_asking, n_asked;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret) {
        if (!node || !str_equal(node, "silent.example"))
                return real_getaddrinfo(node, service, hints, ret);

        atomic_fetch_add(&n_asking, 1);
        for (int i = 0; i < 10000 && !atomic_load(&names_answer); i++)
                (void) usleep(1000);
        atomic_fetch_sub(&n_asking, 1);
        atomic_fetch_add(&n_asked, 1);
        return EAI_AGAIN;
}

/* The loop is not held by a thread that waits for a name: not by the end of the request, nor by its
 * cancelling, nor by the end of all. */
static void test_silent_name_server(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        HttpClient *client = client_new(loop);
        usec_t begin = clock_read(NULL, CLOCK_MONOTONIC);
        HttpRequest request = { .method = "GET",
                                .url = "http://silent.example/",
                                .connect_usec = MSEC(100),
                                .on_done = on_done };
        HttpTransfer *transfer = NULL;
        Answers a = { 0 };

        (void) state;
        request.userdata = &a;
        assert_int_equal(http_send(client, &request, NULL, NULL), 0);
        loop_until(loop, &a.n_done, 1);
        assert_int_equal(a.last_r, -ETIMEDOUT);

        request.connect_usec = 0;
        assert_int_equal(http_send(client, &request, &transfer, NULL), 0);
        for (int i = 0; i < 10; i++)
                assert_true(sd_event_run(loop, 1000) >= 0);
        assert_null(http_cancel(transfer));
        assert_int_equal(http_send(client, &request, NULL, NULL), 0);
        for (int i = 0; i < 10; i++)
                assert_true(sd_event_run(loop, 1000) >= 0);
        assert_true(atomic_load(&n_asking) > 0);
        client = http_client_free(client);
        assert_true(clock_read(NULL, CLOCK_MONOTONIC) - begin < SEC(5));
        assert_int_equal(a.n_done, 1);

        atomic_store(&names_answer, true);
        for (int i = 0; i < 5000 && atomic_load(&n_asking) > 0; i++)
                (void) usleep(1000);
        assert_int_equal(atomic_load(&n_asking), 0);
        assert_true(atomic_load(&n_asked) > 0);
}

/* ---- proxies ---- */

/* The first line as the server saw it. */
static void assert_asked(sd_event *loop, HttpClient *client, const Server *s, HttpRequest request,
                         bool by_proxy) {
        char line[128];
        Answers a;

        (void) snprintf(line, sizeof(line),
                        by_proxy ? "GET http://127.0.0.1:%u/x HTTP/1.1\r\n" : "GET /x HTTP/1.1\r\n",
                        s->port);
        a = get(loop, client, s, "/x", request);
        assert_int_equal(a.last_r, 0);
        if (!str_has_prefix(a.body, line))
                fail_msg("not \"%s\" but \"%s\"", line, a.body);
}

static void test_proxy(void **state) {
        static const char *const except[] = { "127.0.0.1", "other.example,127.0.0.0/8", "*" };
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        const Server *s = *state;
        char url[64];

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u", s->port);
        assert_asked(loop, client, s, (HttpRequest){ 0 }, false);

        assert_int_equal(http_client_set_proxy(client, &(HttpProxy){ .http = url }), 0);
        assert_asked(loop, client, s, (HttpRequest){ 0 }, true);
        assert_asked(loop, client, s, (HttpRequest){ .direct = true }, false);
        assert_asked(loop, client, s, (HttpRequest){ .loopback_only = true }, false);

        for (size_t i = 0; i < ELEMENTS(except); i++) {
                HttpProxy proxy = { .http = url, .no_proxy = except[i] };

                assert_int_equal(http_client_set_proxy(client, &proxy), 0);
                assert_asked(loop, client, s, (HttpRequest){ 0 }, false);
        }
        assert_int_equal(
                http_client_set_proxy(
                        client, &(HttpProxy){ .http = url + 7, .no_proxy = "127.0.0.2,.0.0.1" }),
                0);
        assert_asked(loop, client, s, (HttpRequest){ 0 }, true);

        assert_int_equal(http_client_set_proxy(client, &(HttpProxy){ .https = url }), 0);
        assert_asked(loop, client, s, (HttpRequest){ 0 }, false);
        assert_int_equal(http_client_set_proxy(client, NULL), 0);
        assert_asked(loop, client, s, (HttpRequest){ 0 }, false);
}

/* Neither its proxies nor its exceptions. */
static void test_environment_is_not_read(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        const Server *s = *state;
        char url[64];

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u", s->port);
        assert_int_equal(setenv("http_proxy", url, 1), 0);
        assert_int_equal(setenv("all_proxy", url, 1), 0);
        assert_asked(loop, client, s, (HttpRequest){ 0 }, false);
        assert_int_equal(setenv("no_proxy", "*", 1), 0);
        assert_int_equal(http_client_set_proxy(client, &(HttpProxy){ .http = url }), 0);
        assert_asked(loop, client, s, (HttpRequest){ 0 }, true);
        assert_int_equal(unsetenv("http_proxy"), 0);
        assert_int_equal(unsetenv("all_proxy"), 0);
        assert_int_equal(unsetenv("no_proxy"), 0);
}

/* To https a proxy gives a tunnel: it learns the host and its own password, no header of ours. */
static void test_proxy_of_https(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        char secret[] = "Authorization: hidden";
        char *const headers[] = { secret, NULL };
        Server *s = *state;
        Answers a = { 0 };
        char url[128];

        (void) snprintf(url, sizeof(url), "http://us%%65r:p%%40ss@127.0.0.1:%u/", s->port);
        assert_int_equal(http_client_set_proxy(client, &(HttpProxy){ .https = url }), 0);
        assert_int_equal(http_send(client,
                                   &(HttpRequest){ .method = "GET",
                                                   .url = "https://bucket.example/key",
                                                   .headers = headers,
                                                   .on_done = on_done,
                                                   .userdata = &a },
                                   NULL, NULL),
                         0);
        loop_until(loop, &a.n_done, 1);
        assert_true(a.last_r == -ECONNRESET || a.last_r == -ECONNREFUSED);
        assert_non_null(strstr(a.text, "407"));
        assert_null(strstr(a.text, "p@ss"));

        (void) pthread_mutex_lock(&s->lock);
        assert_true(str_has_prefix(s->connect, "CONNECT bucket.example:443 HTTP/1.1\r\n"));
        assert_non_null(strstr(s->connect, "\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n"));
        assert_null(strstr(s->connect, "hidden"));
        (void) pthread_mutex_unlock(&s->lock);
}

static void test_impossible_proxies(void **state) {
        static const char *const urls[] = { "socks5://127.0.0.1:9", "ftp://127.0.0.1", "http://",
                                            "http://a b:9",         "http://[:9",      "a:b:c:d",
                                            "http://u:p@h\r\nX: y" };
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        const Server *s = *state;
        char url[64];
        Answers a;

        (void) snprintf(url, sizeof(url), "127.0.0.1:%u", s->port);
        assert_int_equal(http_client_set_proxy(client, &(HttpProxy){ .http = url }), 0);
        for (size_t i = 0; i < ELEMENTS(urls); i++) {
                assert_int_equal(http_client_set_proxy(client, &(HttpProxy){ .https = urls[i] }),
                                 -EINVAL);
                assert_int_equal(http_client_set_proxy(client, &(HttpProxy){ .http = urls[i] }),
                                 -EINVAL);
        }
        assert_asked(loop, client, s, (HttpRequest){ 0 }, true);
        assert_int_equal(http_client_set_proxy(client, &(HttpProxy){ .http = "", .https = "" }), 0);
        assert_asked(loop, client, s, (HttpRequest){ 0 }, false);

        /* One that nobody is: its words do not show the password. */
        assert_int_equal(http_client_set_proxy(
                                 client, &(HttpProxy){ .http = "http://user:p%40ss@127.0.0.1:1",
                                                       .no_proxy = "" }),
                         0);
        a = get(loop, client, s, "/x", (HttpRequest){ 0 });
        assert_int_equal(a.last_r, -ECONNREFUSED);
        assert_null(strstr(a.text, "ss@"));
}

/* ---- certificates ---- */

/* A process that ends with the test. */
typedef struct TlsServer {
        pid_t pid;
        unsigned port;
} TlsServer;

static int run_openssl(const Folder *folder, char *const *argv, int output_fd, pid_t *ret) {
        pid_t pid = fork();
        int status;

        if (pid < 0)
                return -errno;
        if (pid == 0) {
                int null = open("/dev/null", O_RDWR | O_CLOEXEC);

                if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && fchdir(folder->fd) == 0 && null >= 0 &&
                    dup2(null, 0) == 0 && dup2(output_fd >= 0 ? output_fd : null, 1) == 1 &&
                    dup2(null, 2) == 2)
                        (void) execvp("openssl", argv);
                _exit(127);
        }
        if (ret) {
                *ret = pid;
                return 0;
        }
        if (waitpid(pid, &status, 0) != pid)
                return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOEXEC;
}

/* NAME.pem, with its key, for 127.0.0.1 alone. */
static int make_certificate(const Folder *folder, const char *name) {
        char file[32], subject[] = "/CN=127.0.0.1";
        char *argv[] = { (char[]){ "openssl" },
                         (char[]){ "req" },
                         (char[]){ "-x509" },
                         (char[]){ "-newkey" },
                         (char[]){ "ec" },
                         (char[]){ "-pkeyopt" },
                         (char[]){ "ec_paramgen_curve:P-256" },
                         (char[]){ "-nodes" },
                         (char[]){ "-keyout" },
                         file,
                         (char[]){ "-out" },
                         file,
                         (char[]){ "-days" },
                         (char[]){ "2" },
                         (char[]){ "-subj" },
                         subject,
                         (char[]){ "-addext" },
                         (char[]){ "subjectAltName=IP:127.0.0.1" },
                         NULL };

        (void) snprintf(file, sizeof(file), "%s.pem", name);
        return run_openssl(folder, argv, -1, NULL);
}

static int tls_server_begin(const Folder *folder, TlsServer *ret) {
        char *argv[] = { (char[]){ "openssl" }, (char[]){ "s_server" },
                         (char[]){ "-accept" }, (char[]){ "127.0.0.1:0" },
                         (char[]){ "-www" },    (char[]){ "-cert" },
                         (char[]){ "own.pem" }, (char[]){ "-key" },
                         (char[]){ "own.pem" }, NULL };
        char said[1024] = { 0 };
        size_t size = 0;
        const char *at;
        int fds[2], r;
        ssize_t n;

        if (pipe(fds) < 0)
                return -errno;
        r = run_openssl(folder, argv, fds[1], &ret->pid);
        (void) close(fds[1]);
        while (r >= 0 && !strstr(said, "ACCEPT 127.0.0.1:")) {
                n = read(fds[0], said + size, sizeof(said) - 1 - size);
                if (n <= 0)
                        r = -ENOEXEC;
                else
                        size += (size_t) n;
        }
        at = strstr(said, "ACCEPT 127.0.0.1:");
        (void) close(fds[0]);
        return at && sscanf(at, "ACCEPT 127.0.0.1:%u", &ret->port) == 1 ? 0 : -ENOEXEC;
}

static void tls_server_end(TlsServer *server) {
        if (server->pid <= 0)
                return;
        (void) kill(server->pid, SIGKILL);
        (void) waitpid(server->pid, NULL, 0);
}

static Answers get_tls(sd_event *loop, HttpClient *client, const char *host, unsigned port) {
        char url[128];
        Answers a = { 0 };

        (void) snprintf(url, sizeof(url), "https://%s:%u/", host, port);
        assert_int_equal(http_send(client,
                                   &(HttpRequest){ .method = "GET",
                                                   .url = url,
                                                   .max_bytes = 100000,
                                                   .on_done = on_done,
                                                   .userdata = &a },
                                   NULL, NULL),
                         0);
        loop_until(loop, &a.n_done, 1);
        return a;
}

static void check_certificates(const Folder *folder, unsigned port) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        char own[64], other[64];
        Answers a;

        (void) snprintf(own, sizeof(own), "%s/own.pem", folder->path);
        (void) snprintf(other, sizeof(other), "%s/other.pem", folder->path);

        a = get_tls(loop, client, "127.0.0.1", port);
        assert_int_equal(a.last_r, -EKEYREJECTED);
        assert_true(str_has_prefix(a.text, "the server's certificate is not accepted: "));

        assert_int_equal(http_client_set_ca_file(client, own), 0);
        a = get_tls(loop, client, "127.0.0.1", port);
        assert_int_equal(a.last_r, 0);
        assert_int_equal(a.status, 200);

        /* The right certificate of somebody else. */
        a = get_tls(loop, client, "localhost", port);
        assert_int_equal(a.last_r, -EKEYREJECTED);

        /* Neither is a connection used on that was opened with another trust. */
        assert_int_equal(http_client_set_ca_file(client, other), 0);
        assert_int_equal(get_tls(loop, client, "127.0.0.1", port).last_r, -EKEYREJECTED);
        assert_int_equal(http_client_set_ca_file(client, "/nowhere/at.all"), -ENOENT);
        assert_int_equal(http_client_set_ca_file(client, own), 0);
        assert_int_equal(get_tls(loop, client, "127.0.0.1", port).last_r, 0);
        assert_int_equal(http_client_set_ca_file(client, NULL), 0);
        assert_int_equal(get_tls(loop, client, "127.0.0.1", port).last_r, -EKEYREJECTED);

        /* A file without certificates. */
        assert_int_equal(http_client_set_ca_file(client, "/dev/null"), 0);
        a = get_tls(loop, client, "127.0.0.1", port);
        assert_int_equal(a.last_r, -EKEYREJECTED);
        assert_true(a.text[0]);
}

static void test_certificates(void **state) {
        Folder folder = folder_new();
        TlsServer server = { 0 };

        (void) state;
        if (make_certificate(&folder, "own") < 0 || make_certificate(&folder, "other") < 0 ||
            tls_server_begin(&folder, &server) < 0) {
                tls_server_end(&server);
                folder_done(&folder);
                print_message(
                        "SKIP: no program openssl, that a server with TLS would be made of\n");
                skip();
        }
        check_certificates(&folder, server.port);
        tls_server_end(&server);
        folder_done(&folder);
}

/* ---- words ---- */

/* Queries hold signatures and tokens, and a user in a URL has a password. */
static void test_errors_hold_no_secret(void **state) {
        static const char *const urls[] = {
                "http://127.0.0.2/key?X-Amz-Signature=hidden",
                "http://user:hidden@127.0.0.1/",
                "http://:hidden@127.0.0.1/",
                "ftp://127.0.0.1/?hidden",
                "http://127.0.0.1/key#hidden",
                "http:// user:hidden@127.0.0.1/",
                "http://127.0.0.1/\n?hidden",
        };
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);

        (void) state;
        for (size_t i = 0; i < ELEMENTS(urls); i++) {
                _cleanup_(error_freep) Error *err = NULL;
                HttpRequest request = { .method = i == 4 ? "TRACE" : "GET",
                                        .url = urls[i],
                                        .only_host = "127.0.0.1",
                                        .on_done = on_done };

                assert_true(http_send(client, &request, NULL, &err) < 0);
                assert_true(str_has_prefix(error_text(err), "ask "));
                assert_null(strstr(error_text(err), "hidden"));
                assert_null(strchr(error_text(err), '\n'));
        }
}

static int begin(void **state) {
        *(void **) &real_getaddrinfo = dlsym(RTLD_NEXT, "getaddrinfo");
        return real_getaddrinfo ? server_begin(state) : -1;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_silent_name_server),
                cmocka_unit_test(test_proxy),
                cmocka_unit_test(test_environment_is_not_read),
                cmocka_unit_test(test_proxy_of_https),
                cmocka_unit_test(test_impossible_proxies),
                cmocka_unit_test(test_certificates),
                cmocka_unit_test(test_errors_hold_no_secret),
        };

        return cmocka_run_group_tests_name("httprequest", tests, begin, server_end);
}
