#include "loop/httptransfer.h"

#include <dlfcn.h>

#include "http-server.h"

/* ---- a libcurl that is too old, or fails ---- */

static int (*real_socket_action)(CURLM *, curl_socket_t, int, int *);
static curl_version_info_data *(*real_version_info)(CURLversion);
static bool action_fails;
static unsigned version_num, features_missing;

CURLMcode curl_multi_socket_action(CURLM *multi, curl_socket_t fd, int events, int *n_running) {
        if (action_fails) {
                action_fails = false;
                return CURLM_INTERNAL_ERROR;
        }
        return (CURLMcode) real_socket_action(multi, fd, events, n_running);
}

curl_version_info_data *curl_version_info(CURLversion age) {
        static curl_version_info_data changed;

        changed = *real_version_info(age);
        changed.version_num = version_num ?: changed.version_num;
        changed.features &= (int) ~features_missing;
        return &changed;
}

static void test_libraries(void **state) {
        static const struct {
                unsigned version_num, features_missing;
                int r;
                const char *words;
        } rows[] = {
                { 0, 0, 0, NULL },
                { 0x075800, 0, 0, NULL },
                { 0x081600, 0, 0, NULL },
                { 0x0757ff, 0, -EOPNOTSUPP, "7.88" },
                { 0, CURL_VERSION_SSL, -EOPNOTSUPP, "TLS" },
        };
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(http_client_freep) HttpClient *client = NULL;
                _cleanup_(error_freep) Error *err = NULL;

                version_num = rows[i].version_num;
                features_missing = rows[i].features_missing;
                assert_int_equal(http_client_new(loop, &client, &err), rows[i].r);
                if (rows[i].words)
                        assert_non_null(strstr(error_text(err), rows[i].words));
        }
        version_num = features_missing = 0;
}

/* All that was under way ends, whatever their ends do, and the next one works. */
static void test_failing_library(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        const Server *s = *state;
        HttpClient *client = client_new(loop);
        Answers all = { 0 }, first = { 0 }, ending = { 0 };

        for (int i = 0; i < 3; i++)
                send_one(client, s->port, "/slow", (HttpRequest){ 0 }, &all, NULL);
        send_one(client, s->port, "/slow", (HttpRequest){ 0 }, &first, &ending.cancel);
        send_one(client, s->port, "/slow", (HttpRequest){ 0 }, &ending, NULL);
        for (int i = 0; i < 5; i++)
                assert_true(sd_event_run(loop, 1000) >= 0);
        action_fails = true;
        send_one(client, s->port, "/ok", (HttpRequest){ 0 }, &all, NULL);
        loop_until(loop, &all.n_done, 4);
        assert_int_equal(all.last_r, -EIO);
        assert_int_equal(all.n_ok, 0);
        assert_int_equal(ending.n_done, 1);
        assert_int_equal(first.n_done, 0);
        assert_int_equal(get(loop, client, s, "/ok", (HttpRequest){ 0 }).last_r, 0);

        /* Freed by the first end: the others are not told. */
        all = (Answers){ .client = client, .free_client = true };
        for (int i = 0; i < 4; i++)
                send_one(client, s->port, "/slow", (HttpRequest){ 0 }, &all, NULL);
        action_fails = true;
        loop_until(loop, &all.n_done, 1);
        assert_null(all.client);
        for (int i = 0; i < 3; i++)
                assert_true(sd_event_run(loop, 1000) >= 0);
        assert_int_equal(all.n_done, 1);
}

static int begin(void **state) {
        *(void **) &real_socket_action = dlsym(RTLD_NEXT, "curl_multi_socket_action");
        *(void **) &real_version_info = dlsym(RTLD_NEXT, "curl_version_info");
        return real_socket_action && real_version_info ? server_begin(state) : -1;
}

/* ---- requests ---- */

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
                cmocka_unit_test(test_libraries),      cmocka_unit_test(test_failing_library),
        };

        return cmocka_run_group_tests_name("http", tests, begin, server_end);
}
