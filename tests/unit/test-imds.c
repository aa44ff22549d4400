/* The instance metadata service's client against a scripted service. */

#include "../../agent/net/imds.c"

#include "loop.h"
#include "script-server.h"

#define TOKEN_PUT "PUT /latest/api/token "

typedef struct Answer {
        int n_done, r;
        char text[512], error[1024];
        size_t size;
        Imds **free_imds; /* ... from within done() */
} Answer;

static void on_answer(void *userdata, int r, const char *text, size_t size, Error *err) {
        Answer *a = userdata;

        a->n_done++;
        a->r = r;
        a->size = size;
        (void) snprintf(a->text, sizeof(a->text), "%s", text ?: "");
        (void) snprintf(a->error, sizeof(a->error), "%s", err ? error_text(err) : "");
        assert_true((r < 0) == (err != NULL));
        if (a->free_imds)
                *a->free_imds = imds_free(*a->free_imds);
}

typedef struct World {
        sd_event *loop;
        HttpClient *http;
        ScriptServer *server;
        Imds *imds;
} World;

static World world_new(const ScriptAnswer *script, size_t n) {
        World w = { .loop = loop_new(), .server = script_server_new(script, n) };

        assert_int_equal(http_client_new(w.loop, &w.http, NULL), 0);
        assert_int_equal(
                imds_new(w.loop, w.http, script_server_url(w.server), false, &w.imds, NULL), 0);
        w.imds->request_usec = SEC(5);
        w.imds->pause.base_usec = MSEC(2);
        return w;
}

static void world_done(World *w) {
        w->imds = imds_free(w->imds);
        w->http = http_client_free(w->http);
        w->server = script_server_free(w->server);
        w->loop = sd_event_unref(w->loop);
}

static Answer get(World *w, const char *path) {
        Answer a = { 0 };

        assert_int_equal(imds_get(w->imds, path, on_answer, &a, NULL), 0);
        assert_int_equal(a.n_done, 0);
        loop_until(w->loop, &a.n_done, 1);
        return a;
}

#define TOKEN(value)                                                                               \
        {                                                                                          \
                .method = "PUT", .path = "/latest/api/token",                                      \
                .needs = "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", .body = (value)        \
        }
#define WITH(value) "\r\nX-aws-ec2-metadata-token: " value "\r\n"

static void test_token_then_texts(_unused_ void **state) {
        static const ScriptAnswer script[] = {
                TOKEN("TOKEN=="),
                { .method = "GET",
                  .path = "/latest/meta-data/instance-id",
                  .needs = WITH("TOKEN=="),
                  .body = "i-0123" },
                { .method = "GET", .path = "/latest/empty", .needs = WITH("TOKEN=="), .body = "" },
                { .method = "GET",
                  .path = "/latest/binary",
                  .needs = WITH("TOKEN=="),
                  .body = "a\0b",
                  .body_bytes = 3 },
        };
        _cleanup_(world_done) World w = world_new(script, ELEMENTS(script));
        Answer a;

        a = get(&w, "/latest/meta-data/instance-id");
        assert_int_equal(a.r, 0);
        assert_string_equal(a.text, "i-0123");
        a = get(&w, "/latest/empty");
        assert_int_equal(a.r, 0);
        assert_string_equal(a.text, "");
        a = get(&w, "/latest/binary");
        assert_int_equal(a.size, 3);
        a = get(&w, "/latest/not/there");
        assert_int_equal(a.r, IMDS_ABSENT);

        assert_int_equal(script_server_n_of(w.server, TOKEN_PUT), 1);
        assert_int_equal(script_server_n_connections(w.server), 1);
        assert_int_equal(script_server_n_requests(w.server), 5);
}

/* Many at once: one connection, one after the other, in their order. */
static void test_queue(_unused_ void **state) {
        static const ScriptAnswer script[] = {
                TOKEN("T1"),
                { .path = "/latest/a", .body = "a", .delay_msec = 5 },
                { .path = "/latest/b", .body = "b" },
                { .path = "/latest/c", .body = "c" },
        };
        _cleanup_(world_done) World w = world_new(script, ELEMENTS(script));
        Answer a = { 0 }, b = { 0 }, c = { 0 };
        ImdsCall *first, *second;

        assert_int_equal(imds_get(w.imds, "/latest/a", on_answer, &a, NULL), 0);
        assert_int_equal(imds_get(w.imds, "/latest/b", on_answer, &b, &second), 0);
        assert_int_equal(imds_get(w.imds, "/latest/c", on_answer, &c, NULL), 0);
        assert_null(imds_cancel(second));
        loop_until(w.loop, &c.n_done, 1);
        assert_string_equal(a.text, "a");
        assert_string_equal(c.text, "c");
        assert_int_equal(b.n_done, 0);
        assert_int_equal(script_server_n_connections(w.server), 1);
        assert_true(str_has_prefix(script_server_request(w.server, 1), "GET /latest/a "));
        assert_true(str_has_prefix(script_server_request(w.server, 2), "GET /latest/c "));

        /* The one under way is cancelled: the next goes on. */
        a = (Answer){ 0 };
        assert_int_equal(imds_get(w.imds, "/latest/a", on_answer, &a, &first), 0);
        assert_int_equal(imds_get(w.imds, "/latest/b", on_answer, &b, NULL), 0);
        while (script_server_n_of(w.server, "GET /latest/a ") < 2)
                assert_true(sd_event_run(w.loop, MSEC(1)) >= 0);
        assert_null(imds_cancel(first));
        loop_until(w.loop, &b.n_done, 1);
        assert_string_equal(b.text, "b");
        assert_int_equal(a.n_done, 0);
}

static void test_refused_token_is_renewed_once(_unused_ void **state) {
        static const ScriptAnswer script[] = {
                { .method = "PUT", .path = "/latest/api/token", .body = "T1", .times = 1 },
                { .method = "PUT", .path = "/latest/api/token", .body = "T2" },
                { .path = "/latest/a", .needs = WITH("T1"), .body = "a", .times = 1 },
                { .path = "/latest/a", .needs = WITH("T1"), .status = 401 },
                { .path = "/latest/a", .needs = WITH("T2"), .body = "again" },
                { .path = "/latest/never", .status = 401 },
        };
        _cleanup_(world_done) World w = world_new(script, ELEMENTS(script));
        Answer a;

        assert_string_equal(get(&w, "/latest/a").text, "a");
        assert_string_equal(get(&w, "/latest/a").text, "again");
        assert_int_equal(script_server_n_of(w.server, TOKEN_PUT), 2);

        a = get(&w, "/latest/never");
        assert_int_equal(a.r, -EACCES);
        assert_non_null(strstr(a.error, "answered 401 to a token that it had just given"));
        assert_int_equal(script_server_n_of(w.server, TOKEN_PUT), 3);
        assert_int_equal(script_server_n_of(w.server, "GET /latest/never "), 2);
}

static void test_token_is_renewed_before_its_end(_unused_ void **state) {
        static const ScriptAnswer script[] = {
                TOKEN("T1"),
                { .path = "/latest/a", .body = "a" },
        };
        _cleanup_(world_done) World w = world_new(script, ELEMENTS(script));

        (void) get(&w, "/latest/a");
        assert_true(w.imds->token_ends > now() + SEC(21000));
        assert_true(w.imds->token_ends < now() + SEC(21600));
        w.imds->token_ends = now();
        (void) get(&w, "/latest/a");
        assert_int_equal(script_server_n_of(w.server, TOKEN_PUT), 2);
}

static void test_failures_are_tried_again(_unused_ void **state) {
        static const ScriptAnswer script[] = {
                { .method = "PUT", .path = "/latest/api/token", .status = 503, .times = 2 },
                TOKEN("T1"),
                { .path = "/latest/a", .how = SCRIPT_CLOSE, .times = 1 },
                { .path = "/latest/a", .status = 500, .times = 1 },
                { .path = "/latest/a", .body = "a" },
                { .path = "/latest/busy", .status = 429 },
                { .path = "/latest/cut", .how = SCRIPT_CUT, .body = "abc", .cut_bytes = 1 },
                { .path = "/latest/odd", .status = 302 },
        };
        _cleanup_(world_done) World w = world_new(script, ELEMENTS(script));
        Answer a;

        assert_string_equal(get(&w, "/latest/a").text, "a");
        assert_int_equal(script_server_n_of(w.server, TOKEN_PUT), 3);

        a = get(&w, "/latest/busy");
        assert_int_equal(a.r, -EAGAIN);
        assert_non_null(strstr(a.error, "/latest/busy"));
        assert_non_null(strstr(a.error, "429 3 times"));
        assert_int_equal(script_server_n_of(w.server, "GET /latest/busy "), 3);

        a = get(&w, "/latest/cut");
        assert_true(a.r < 0);
        assert_non_null(strstr(a.error, "/latest/cut"));
        a = get(&w, "/latest/odd");
        assert_int_equal(a.r, -EBADMSG);
        assert_int_equal(script_server_n_of(w.server, "GET /latest/odd "), 1);
}

static void test_switched_off(_unused_ void **state) {
        static const ScriptAnswer off[] = { { .status = 403 } };
        static const ScriptAnswer part[] = { TOKEN("T1"), { .status = 403 } };
        static const ScriptAnswer other[] = { { .status = 405 } };
        static const ScriptAnswer odd[] = { { .method = "PUT", .body = "two\r\nlines" } };
        static const ScriptAnswer none[] = { { .method = "PUT", .body = "" } };
        _cleanup_(world_done) World w = world_new(off, ELEMENTS(off));
        Answer a;

        a = get(&w, "/latest/a");
        assert_int_equal(a.r, -EACCES);
        assert_non_null(strstr(a.error, "--http-endpoint enabled"));
        assert_int_equal(script_server_n_requests(w.server), 1);

        script_server_set(w.server, other, ELEMENTS(other));
        a = get(&w, "/latest/a");
        assert_int_equal(a.r, -EBADMSG);
        assert_non_null(strstr(a.error, "answered 405"));

        script_server_set(w.server, odd, ELEMENTS(odd));
        assert_int_equal(get(&w, "/latest/a").r, -EBADMSG);
        script_server_set(w.server, none, ELEMENTS(none));
        assert_int_equal(get(&w, "/latest/a").r, -EBADMSG);

        script_server_set(w.server, part, ELEMENTS(part));
        a = get(&w, "/latest/a");
        assert_int_equal(a.r, -EACCES);
        assert_true(str_has_prefix(a.error, "/latest/a: "));
        assert_null(strstr(a.error, "T1"));
}

/* The answer to the PUT is lost on the way, a plain GET is answered. */
static void test_hop_limit(_unused_ void **state) {
        static const ScriptAnswer script[] = {
                { .method = "PUT", .how = SCRIPT_HANG },
                { .method = "GET", .path = "/latest/meta-data/", .status = 401 },
        };
        static const ScriptAnswer well[] = { TOKEN("T1"), { .path = "/latest/a", .body = "a" } };
        _cleanup_(world_done) World w = world_new(script, ELEMENTS(script));
        Answer a;

        w.imds->request_usec = MSEC(250);
        a = get(&w, "/latest/a");
        assert_int_equal(a.r, -ETIMEDOUT);
        assert_non_null(strstr(a.error, "hop limit"));
        assert_non_null(strstr(a.error, "answered with 401"));
        assert_non_null(strstr(a.error, "--http-put-response-hop-limit 2"));
        assert_int_equal(script_server_n_of(w.server, TOKEN_PUT), 3);

        /* For a moment all others get the same words at once, then it is asked again. */
        a = get(&w, "/latest/b");
        assert_int_equal(a.r, -ETIMEDOUT);
        assert_non_null(strstr(a.error, "hop limit"));
        assert_int_equal(script_server_n_of(w.server, TOKEN_PUT), 3);
        w.imds->absent_ends = 0;
        w.imds->request_usec = SEC(5);
        script_server_set(w.server, well, ELEMENTS(well));
        assert_string_equal(get(&w, "/latest/a").text, "a");
}

static void test_nobody_there(_unused_ void **state) {
        static const ScriptAnswer silent[] = { { .how = SCRIPT_HANG } };
        _cleanup_(world_done) World w = world_new(silent, ELEMENTS(silent));
        Answer a;

        w.imds->request_usec = MSEC(60);
        a = get(&w, "/latest/a");
        assert_int_equal(a.r, -EHOSTUNREACH);
        assert_non_null(strstr(a.error, "no instance metadata service answers at http://127"));

        /* Nobody listens. */
        w.imds->absent_ends = 0;
        w.imds->request_usec = SEC(5);
        free(w.imds->base);
        w.imds->base = strdup("http://127.0.0.1:1");
        a = get(&w, "/latest/a");
        assert_int_equal(a.r, -EHOSTUNREACH);
        assert_non_null(strstr(a.error, "this is no EC2 instance"));
}

static void test_disabled(_unused_ void **state) {
        _cleanup_(world_done) World w = world_new(NULL, 0);
        Answer a;

        w.imds->disabled = true;
        a = get(&w, "/latest/a");
        assert_int_equal(a.r, -EOPNOTSUPP);
        assert_non_null(strstr(a.error, "AWS_EC2_METADATA_DISABLED"));
        assert_int_equal(script_server_n_requests(w.server), 0);
}

static void test_too_long(_unused_ void **state) {
        static char big[IMDS_MAX_BYTES + 1];
        ScriptAnswer script[] = {
                TOKEN("T1"),
                { .path = "/latest/most", .body = big, .body_bytes = IMDS_MAX_BYTES },
                { .path = "/latest/more", .body = big, .body_bytes = IMDS_MAX_BYTES + 1 }
        };
        _cleanup_(world_done) World w = world_new(script, ELEMENTS(script));

        assert_int_equal(get(&w, "/latest/most").size, IMDS_MAX_BYTES);
        assert_int_equal(get(&w, "/latest/more").r, -EFBIG);
        assert_int_equal(script_server_n_of(w.server, "GET /latest/more "), 1);
}

static void test_freed_at_any_time(_unused_ void **state) {
        static const ScriptAnswer script[] = { TOKEN("T1"), { .body = "x" } };
        _cleanup_(world_done) World w = world_new(script, ELEMENTS(script));
        Answer a = { .free_imds = &w.imds }, other = { 0 };

        assert_int_equal(imds_get(w.imds, "/latest/a", on_answer, &a, NULL), 0);
        assert_int_equal(imds_get(w.imds, "/latest/b", on_answer, &other, NULL), 0);
        loop_until(w.loop, &a.n_done, 1);
        assert_null(w.imds);
        assert_string_equal(a.text, "x");
        assert_true(sd_event_run(w.loop, MSEC(5)) >= 0);
        assert_int_equal(other.n_done, 0);

        assert_int_equal(
                imds_new(w.loop, w.http, script_server_url(w.server), false, &w.imds, NULL), 0);
        assert_int_equal(imds_get(w.imds, "/latest/b", on_answer, &other, NULL), 0);
        assert_true(sd_event_run(w.loop, MSEC(5)) >= 0);
        w.imds = imds_free(w.imds);
        assert_int_equal(other.n_done, 0);
        assert_null(imds_free(NULL));
        assert_null(imds_cancel(NULL));
}

static void test_endpoints(_unused_ void **state) {
        static const struct {
                const char *given, *base;
        } cases[] = {
                { NULL, "http://169.254.169.254" },
                { "http://169.254.169.254", "http://169.254.169.254" },
                { "http://[fd00:ec2::254]/", "http://[fd00:ec2::254]" },
                { "http://localhost:1338", "http://localhost:1338" },
                { "https://169.254.169.254", NULL },
                { "169.254.169.254", NULL },
                { "http://", NULL },
                { "http://host/latest", NULL },
                { "http://host?x", NULL },
                { "http://user@host", NULL },
        };
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *http = NULL;

        assert_int_equal(http_client_new(loop, &http, NULL), 0);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_(error_freep) Error *err = NULL;
                _cleanup_(imds_freep) Imds *imds = NULL;
                int r = imds_new(loop, http, cases[i].given, false, &imds, &err);

                assert_int_equal(r, cases[i].base ? 0 : -EINVAL);
                if (r == 0)
                        assert_string_equal(imds->base, cases[i].base);
                else
                        assert_non_null(
                                strstr(error_text(err), "AWS_EC2_METADATA_SERVICE_ENDPOINT"));
        }
}

/* The environment's proxy is for others: with one set for all URLs the service is asked directly.
 */
static void test_never_by_a_proxy(_unused_ void **state) {
        static const ScriptAnswer script[] = { TOKEN("T1"), { .path = "/latest/a", .body = "a" } };
        _cleanup_(world_done) World w = world_new(script, ELEMENTS(script));

        assert_int_equal(
                http_client_set_proxy(w.http, &(HttpProxy){ .http = "http://127.0.0.1:1" }), 0);
        assert_string_equal(get(&w, "/latest/a").text, "a");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_token_then_texts),
                cmocka_unit_test(test_queue),
                cmocka_unit_test(test_refused_token_is_renewed_once),
                cmocka_unit_test(test_token_is_renewed_before_its_end),
                cmocka_unit_test(test_failures_are_tried_again),
                cmocka_unit_test(test_switched_off),
                cmocka_unit_test(test_hop_limit),
                cmocka_unit_test(test_nobody_there),
                cmocka_unit_test(test_disabled),
                cmocka_unit_test(test_too_long),
                cmocka_unit_test(test_freed_at_any_time),
                cmocka_unit_test(test_endpoints),
                cmocka_unit_test(test_never_by_a_proxy),
        };

        return cmocka_run_group_tests_name("imds", tests, loop_block_signals, NULL);
}
