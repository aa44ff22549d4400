/* The server of tendril-net, asked over a channel within one process; servers and the metadata
 * service are scripts. */

#include "net/server.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "base/file.h"
#include "base/str.h"
#include "loop.h"
#include "net/check.h"
#include "net/imds.h"
#include "script-server.h"

#define CREDENTIALS "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=hush-hush"
#define NO_IMDS     "AWS_EC2_METADATA_DISABLED=true"

typedef struct Fixture {
        sd_event *loop;
        CallPeer *peer;
        NetServer *net;
        unsigned n_confined;
        bool confined_open;
        int confine_r;
} Fixture;

typedef struct Outcome {
        int n_done, r;
        WireAnswer answer;
        char region[64], instance[64];
        char body[4096];
        char words[1024];
} Outcome;

/* One at a time: where the hook leaves what it saw. */
static Fixture **current(void) {
        static Fixture *f;

        return &f;
}

static int on_confine(const WireOpen *open, Error **reterr) {
        Fixture *f = *current();

        f->n_confined++;
        f->confined_open = open != NULL;
        return f->confine_r < 0 ? error_set(reterr, f->confine_r, "no way") : 0;
}

static void setup_pair(Fixture *f) {
        int fds[2];

        *f = (Fixture){ .loop = loop_new() };
        *current() = f;
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
                         0);
        assert_int_equal(call_peer_new(f->loop, fds[0], NULL, NULL, &f->peer), 0);
        assert_int_equal(net_server_new(f->loop, fds[1], on_confine, &f->net, NULL), 0);
}

static void teardown_pair(Fixture *f) {
        f->peer = call_peer_free(f->peer);
        f->net = net_server_free(f->net);
        f->loop = sd_event_unref(f->loop);
}

static void on_done(void *userdata, int r, CallReply *reply, Error *err) {
        NetIdentity identity = { 0 };
        Outcome *o = userdata;
        ssize_t n;

        o->n_done++;
        o->r = r;
        (void) snprintf(o->words, sizeof(o->words), "%s", err ? error_text(err) : "");
        if (r < 0)
                return;
        (void) json_decode_value(reply->answer, &wire_answer_table, JSON_LENIENT, &o->answer, NULL);
        json_table_done(&wire_answer_table, &(WireAnswer){ .etag = TAKE_PTR(o->answer.etag) });
        if (json_decode_value(reply->answer, &net_identity_table, JSON_LENIENT, &identity, NULL) ==
            0) {
                (void) snprintf(o->region, sizeof(o->region), "%s", identity.region ?: "");
                (void) snprintf(o->instance, sizeof(o->instance), "%s", identity.instance ?: "");
        }
        json_table_done(&net_identity_table, &identity);
        if (reply->n_fds > 0) {
                n = pread(reply->fds[0], o->body, sizeof(o->body) - 1, 0);
                o->body[MAX(n, 0)] = 0;
        }
}

static void ask_table(Fixture *f, const char *method, const JsonTable *table, const void *p,
                      Outcome *o) {
        *o = (Outcome){ 0 };
        assert_true(call_send(f->peer, method, table, p, NULL, 0, SEC(25), on_done, o) > 0);
}

static void ask(Fixture *f, const char *method, const JsonTable *table, const void *p, Outcome *o) {
        ask_table(f, method, table, p, o);
        loop_until(f->loop, &o->n_done, 1);
}

static int get(Fixture *f, Outcome *o) {
        char key[] = "a/b";

        ask(f, WIRE_GET, &wire_ask_table, &(WireAsk){ .key = key }, o);
        return o->r;
}

static int open_with(Fixture *f, const char *url, const char *endpoint, const char *const *env,
                     Outcome *o) {
        WireOpen open = { .url = strdup(url), .endpoint = endpoint ? strdup(endpoint) : NULL };

        for (; env && *env; env++)
                assert_int_equal(strv_add(&open.environment, 16, *env), 0);
        ask(f, WIRE_OPEN, &wire_open_table, &open, o);
        wire_open_done(&open);
        return o->r;
}

static const char *const plain[] = { CREDENTIALS, NO_IMDS, "AWS_REGION=eu-test-1", NULL };

static void test_unknown_and_unopened(_unused_ void **state) {
        static const char *const methods[] = { WIRE_GET,   WIRE_PUT,    WIRE_LIST,   WIRE_DELETE,
                                               WIRE_FETCH, WIRE_STATUS, NET_IDENTITY };
        Fixture f;
        Outcome o;

        setup_pair(&f);
        ask(&f, "fetch", NULL, NULL, &o);
        assert_int_equal(o.r, -EOPNOTSUPP);
        assert_non_null(strstr(o.words, "'fetch'"));
        for (size_t i = 0; i < ELEMENTS(methods); i++) {
                ask(&f, methods[i], NULL, NULL, &o);
                assert_int_equal(o.r, -ENOTCONN);
                assert_non_null(strstr(o.words, WIRE_OPEN));
        }
        teardown_pair(&f);
}

static void test_open_refused(_unused_ void **state) {
        static const char *const no_file[] = { "AWS_CA_BUNDLE=/nowhere/ca.pem", NO_IMDS,
                                               "AWS_REGION=eu-test-1", NULL };
        static const char *const no_url[] = { "AWS_EC2_METADATA_SERVICE_ENDPOINT=ftp://x", NULL };
        static const char *const no_region[] = { "AWS_REGION=not a region", NO_IMDS, NULL };
        Fixture f;
        Outcome o;

        setup_pair(&f);
        assert_int_equal(open_with(&f, "file:///x", NULL, plain, &o), -EINVAL);
        assert_int_equal(open_with(&f, "s3://UPPER_CASE!/x", NULL, plain, &o), -EINVAL);
        assert_int_equal(open_with(&f, "s3://bucket", NULL, no_file, &o), -ENOENT);
        assert_non_null(strstr(o.words, "/nowhere/ca.pem"));
        assert_int_equal(open_with(&f, "s3://bucket", "gopher://x", plain, &o), -EINVAL);
        assert_int_equal(open_with(&f, "s3://bucket", NULL, no_url, &o), -EINVAL);
        assert_int_equal(open_with(&f, "s3://bucket", NULL, no_region, &o), -EINVAL);
        ask(&f, WIRE_OPEN, NULL, NULL, &o);
        assert_int_equal(o.r, -EBADMSG);

        /* After all that it can be opened, once. */
        assert_int_equal(open_with(&f, "s3://bucket/x", NULL, plain, &o), 0);
        assert_int_equal(open_with(&f, "s3://bucket/x", NULL, plain, &o), -EALREADY);
        teardown_pair(&f);
}

static void test_confined_once(_unused_ void **state) {
        Fixture f;
        Outcome o;

        setup_pair(&f);
        assert_int_equal(open_with(&f, "s3://bucket", NULL, plain, &o), 0);
        assert_int_equal(f.n_confined, 1);
        assert_true(f.confined_open);
        ask(&f, "x", NULL, NULL, &o);
        assert_int_equal(f.n_confined, 1);
        teardown_pair(&f);

        setup_pair(&f);
        ask(&f, NET_CHECK, NULL, NULL, &o);
        assert_int_equal(f.n_confined, 1);
        assert_false(f.confined_open);
        teardown_pair(&f);

        /* Without its confinement it does nothing. */
        setup_pair(&f);
        f.confine_r = -EPERM;
        ask_table(&f, WIRE_STATUS, NULL, NULL, &o);
        while (sd_event_get_state(f.loop) != SD_EVENT_FINISHED)
                assert_true(sd_event_run(f.loop, UINT64_MAX) >= 0);
        teardown_pair(&f);
}

static void test_status(_unused_ void **state) {
        Fixture f;
        Outcome o;

        setup_pair(&f);
        assert_int_equal(open_with(&f, "s3://bucket/x", NULL, plain, &o), 0);
        ask(&f, WIRE_STATUS, NULL, NULL, &o);
        assert_int_equal(o.r, 0);
        assert_non_null(strstr(o.body, "\"credentials\":{"));
        assert_non_null(strstr(o.body, "\"source\":\"environment\""));
        assert_non_null(strstr(o.body, "\"region\":\"eu-test-1\""));
        assert_null(strstr(o.body, "hush"));
        assert_null(strstr(o.body, "AKIDEXAMPLE"));
        teardown_pair(&f);
}

/* A bucket that answers each get. */
static const ScriptAnswer bucket[] = {
        { .method = "GET",
          .path = "/bucket/x/a/b",
          .headers = "ETag: \"e1\"\r\n",
          .body = "hello" },
};

static void test_get(_unused_ void **state) {
        ScriptServer *server = script_server_new(bucket, ELEMENTS(bucket));
        Fixture f;
        Outcome o;

        setup_pair(&f);
        assert_int_equal(open_with(&f, "s3://bucket/x", script_server_url(server), plain, &o), 0);
        assert_int_equal(get(&f, &o), 0);
        assert_string_equal(o.body, "hello");
        assert_non_null(strstr(script_server_request(server, 0), "/eu-test-1/s3/aws4_request"));
        teardown_pair(&f);
        server = script_server_free(server);
}

/* The region is the instance's: calls wait for it, and go on in their order. */
static const ScriptAnswer instance[] = {
        { .method = "PUT", .path = "/latest/api/token", .body = "T" },
        { .path = "/latest/dynamic/instance-identity/document",
          .body = "{\"instanceId\":\"i-0123456789abcdef0\",\"region\":\"ap-test-9\","
                  "\"accountId\":\"123456789012\"}" },
};

static void test_region_of_the_instance(_unused_ void **state) {
        ScriptServer *server = script_server_new(bucket, ELEMENTS(bucket)),
                     *imds = script_server_new(instance, ELEMENTS(instance));
        _cleanup_free_ char *where =
                str_format("AWS_EC2_METADATA_SERVICE_ENDPOINT=%s", script_server_url(imds));
        const char *const env[] = { CREDENTIALS, where, NULL };
        char key[] = "a/b";
        Outcome many[5], o;
        Fixture f;

        setup_pair(&f);
        assert_int_equal(open_with(&f, "s3://bucket/x", script_server_url(server), env, &o), 0);
        assert_int_equal(script_server_n_requests(imds), 0);
        for (size_t i = 0; i < ELEMENTS(many); i++)
                ask_table(&f, i == 2 ? WIRE_STATUS : WIRE_GET, &wire_ask_table,
                          &(WireAsk){ .key = key }, &many[i]);
        for (size_t i = 0; i < ELEMENTS(many); i++) {
                loop_until(f.loop, &many[i].n_done, 1);
                assert_int_equal(many[i].r, 0);
        }
        assert_string_equal(many[0].body, "hello");
        assert_non_null(strstr(many[2].body, "\"region\":\"ap-test-9\""));
        assert_non_null(strstr(script_server_request(server, 0), "/ap-test-9/s3/aws4_request"));

        ask(&f, NET_IDENTITY, NULL, NULL, &o);
        assert_int_equal(o.r, 0);
        assert_string_equal(o.region, "ap-test-9");
        assert_string_equal(o.instance, "i-0123456789abcdef0");
        teardown_pair(&f);
        imds = script_server_free(imds);
        server = script_server_free(server);
}

/* Where nobody says which region, an endpoint is asked with one that most take; else it is a
 * question to people, and asked again with the next call. */
static void test_no_region(_unused_ void **state) {
        static const char *const env[] = { CREDENTIALS, NO_IMDS, NULL };
        ScriptServer *server = script_server_new(bucket, ELEMENTS(bucket));
        Fixture f;
        Outcome o;

        setup_pair(&f);
        assert_int_equal(open_with(&f, "s3://bucket/x", script_server_url(server), env, &o), 0);
        assert_int_equal(get(&f, &o), 0);
        assert_non_null(strstr(script_server_request(server, 0), "/us-east-1/s3/aws4_request"));
        teardown_pair(&f);

        setup_pair(&f);
        assert_int_equal(open_with(&f, "s3://bucket/x", NULL, env, &o), 0);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(get(&f, &o), -EOPNOTSUPP);
                assert_non_null(strstr(o.words, "AWS_REGION"));
        }
        ask(&f, NET_IDENTITY, NULL, NULL, &o);
        assert_int_equal(o.r, -EOPNOTSUPP);
        assert_non_null(strstr(o.words, "AWS_EC2_METADATA_DISABLED"));
        /* Status tells of it. */
        ask(&f, WIRE_STATUS, NULL, NULL, &o);
        assert_int_equal(o.r, 0);
        assert_non_null(strstr(o.body, "AWS_REGION"));
        assert_non_null(strstr(o.body, "\"source\":\"environment\""));
        teardown_pair(&f);
        server = script_server_free(server);
}

/* Freed with everything under way. */
static void test_free_under_way(_unused_ void **state) {
        static const ScriptAnswer silence[] = { { .how = SCRIPT_HANG } };
        ScriptServer *server = script_server_new(silence, ELEMENTS(silence));
        _cleanup_free_ char *where =
                str_format("AWS_EC2_METADATA_SERVICE_ENDPOINT=%s", script_server_url(server));
        const char *const env[] = { CREDENTIALS, where, NULL };
        char key[] = "a/b";
        Outcome many[4], o;
        Fixture f;

        for (int i = 0; i < 2; i++) {
                setup_pair(&f);
                assert_int_equal(open_with(&f, "s3://bucket/x", script_server_url(server),
                                           i == 0 ? env : plain, &o),
                                 0);
                ask_table(&f, WIRE_GET, &wire_ask_table, &(WireAsk){ .key = key }, &many[0]);
                ask_table(&f, WIRE_STATUS, NULL, NULL, &many[1]);
                ask_table(&f, NET_IDENTITY, NULL, NULL, &many[2]);
                ask_table(&f, WIRE_LIST, &wire_ask_table, &(WireAsk){ .key = key }, &many[3]);
                while (script_server_n_requests(server) == 0)
                        assert_true(sd_event_run(f.loop, MSEC(5)) >= 0);
                teardown_pair(&f);
        }
        server = script_server_free(server);
}

/* An http endpoint is asked by way of http_proxy, in lower case only; no_proxy excepts it. */
static void test_proxy(_unused_ void **state) {
        static const ScriptAnswer answers[] = { { .headers = "ETag: \"e1\"\r\n",
                                                  .body = "proxy" } };
        ScriptServer *server = script_server_new(bucket, ELEMENTS(bucket)),
                     *proxy = script_server_new(answers, ELEMENTS(answers));
        _cleanup_free_ char *lower = str_format("http_proxy=%s", script_server_url(proxy)),
                            *upper = str_format("HTTP_PROXY=%s", script_server_url(proxy)),
                            *all = str_format("ALL_PROXY=%s", script_server_url(proxy));
        const char *const variables[][2] = {
                { lower, NULL }, { upper, NULL }, { all, NULL }, { lower, "NO_PROXY=127.0.0.1" }
        };
        static const char *const bodies[] = { "proxy", "hello", "proxy", "hello" };
        Fixture f;
        Outcome o;

        for (size_t i = 0; i < ELEMENTS(bodies); i++) {
                const char *const env[] = { CREDENTIALS,     NO_IMDS,         "AWS_REGION=r-1",
                                            variables[i][0], variables[i][1], NULL };

                setup_pair(&f);
                assert_int_equal(open_with(&f, "s3://bucket/x", script_server_url(server), env, &o),
                                 0);
                assert_int_equal(get(&f, &o), 0);
                assert_string_equal(o.body, bodies[i]);
                teardown_pair(&f);
        }
        proxy = script_server_free(proxy);
        server = script_server_free(server);
}

static void test_check(_unused_ void **state) {
        static const ScriptAnswer answers[] = { { .path = "/health", .status = 503 } };
        ScriptServer *server = script_server_new(answers, ELEMENTS(answers));
        char path[] = "/health";
        const NetCheck p = { .port = server->port, .path = path, .timeout_usec = SEC(5) };
        Fixture f;
        Outcome o;

        setup_pair(&f);
        ask(&f, NET_CHECK, &net_check_table, &p, &o);
        assert_int_equal(o.r, 0);
        teardown_pair(&f);
        server = script_server_free(server);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_unknown_and_unopened),
                cmocka_unit_test(test_open_refused),
                cmocka_unit_test(test_confined_once),
                cmocka_unit_test(test_status),
                cmocka_unit_test(test_get),
                cmocka_unit_test(test_region_of_the_instance),
                cmocka_unit_test(test_no_region),
                cmocka_unit_test(test_free_under_way),
                cmocka_unit_test(test_proxy),
                cmocka_unit_test(test_check),
        };

        return cmocka_run_group_tests_name("server-net", tests, loop_block_signals, NULL);
}
