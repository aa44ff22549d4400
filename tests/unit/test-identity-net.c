/* Which host this is, by the instance metadata service: texts, and the order of asking. */

#include "net/identity.h"

#include "base/str.h"
#include "loop.h"
#include "script-server.h"

static const char document[] =
        "{\"accountId\": \"123456789012\", \"architecture\": \"x86_64\", \"availabilityZone\": "
        "\"eu-west-1a\", \"billingProducts\": null, \"imageId\": \"ami-0abc\", \"instanceId\": "
        "\"i-0123456789abcdef0\", \"region\": \"eu-west-1\", \"version\": \"2017-09-30\"}";

static void test_document(_unused_ void **state) {
        static const char odd[] = "{\"instanceId\": \"i-0/../x\", \"region\": \"eu-west-1\"}";
        static const char *const bad[] = { "", "no", "[]", "{\"instanceId\": 7}" };
        NetIdentity id = { 0 };

        assert_int_equal(identity_read_document(document, strlen(document), &id, NULL), 0);
        assert_string_equal(id.instance, "i-0123456789abcdef0");
        assert_string_equal(id.account, "123456789012");
        assert_string_equal(id.image, "ami-0abc");
        assert_string_equal(id.region, "eu-west-1");
        assert_string_equal(id.zone, "eu-west-1a");
        assert_null(id.partition);
        json_table_done(&net_identity_table, &id);

        assert_int_equal(identity_read_document(odd, strlen(odd), &id, NULL), 0);
        assert_null(id.instance);
        assert_string_equal(id.region, "eu-west-1");
        json_table_done(&net_identity_table, &id);

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                _cleanup_(error_freep) Error *err = NULL;

                assert_int_equal(identity_read_document(bad[i], strlen(bad[i]), &id, &err),
                                 -EBADMSG);
                assert_non_null(strstr(error_text(err), "identity document"));
                assert_null(id.region);
        }
}

static void test_user_data(_unused_ void **state) {
        static const struct {
                const char *text, *environment;
        } cases[] = {
                { "tendril.environment: web", "web" },
                { "#!/bin/sh\n# tendril.environment: web-1 \r\nyum -y update\n", "web-1" },
                { "#cloud-config\n#tendril.environment:web\n", "web" },
                { "  ## \ttendril.environment:\tweb\t\n", "web" },
                { "tendril.environment: not a label\ntendril.environment: web", "web" },
                { "tendril.environment: first\ntendril.environment: second\n", "first" },
                { "tendril.environment:\nweb\n", NULL },
                { "x tendril.environment: web\n", NULL },
                { "tendril.environment = web\n", NULL },
                { "tendril.environment: ../web\n", NULL },
                { "tendril.environment:", NULL },
                { "", NULL },
                { "\n\n\n", NULL },
        };
        _cleanup_(buf_done) Buf far = BUF_INIT(32768);
        static const char with_nul[] = "tendril.environment: a\0b\n";

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *got =
                        identity_read_user_data(cases[i].text, strlen(cases[i].text));

                if (!str_equal(got, cases[i].environment))
                        fail_msg("%s: %s, not %s", cases[i].text, got ?: "none",
                                 cases[i].environment ?: "none");
        }
        assert_null(identity_read_user_data(with_nul, sizeof(with_nul) - 1));

        /* Binary data goes before it; beyond 16 KiB nothing is looked at. */
        for (int i = 0; i < 16384 - 20; i++)
                assert_int_equal(buf_append(&far, i % 100 == 99 ? "\n" : "\xff", 1), 0);
        assert_int_equal(buf_append_str(&far, "\ntendril.environment: web\n"), 0);
        assert_null(identity_read_user_data(far.data, far.size));
}

typedef struct Answer {
        int n_done, r;
        NetIdentity identity;
        char error[512];
} Answer;

static void on_identity(void *userdata, int r, const NetIdentity *identity, Error *err) {
        Answer *a = userdata;

        a->n_done++;
        a->r = r;
        if (r == 0)
                assert_int_equal(json_table_copy(&net_identity_table, identity, &a->identity), 0);
        else
                (void) snprintf(a->error, sizeof(a->error), "%s", error_text(err));
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
        return w;
}

static void world_done(World *w) {
        w->imds = imds_free(w->imds);
        w->http = http_client_free(w->http);
        w->server = script_server_free(w->server);
        w->loop = sd_event_unref(w->loop);
}

static Answer ask(World *w, const char *tag) {
        Answer a = { 0 };

        assert_int_equal(imds_identity(w->imds, tag, on_identity, &a, NULL), 0);
        assert_int_equal(a.n_done, 0);
        loop_until(w->loop, &a.n_done, 1);
        return a;
}

#define TOKEN                                                                                      \
        { .method = "PUT", .path = "/latest/api/token", .body = "T1" }

static void test_all_of_it(_unused_ void **state) {
        static const ScriptAnswer script[] = {
                TOKEN,
                { .path = "/latest/dynamic/instance-identity/document", .body = document },
                { .path = "/latest/meta-data/services/partition", .body = "aws" },
                { .path = "/latest/meta-data/services/domain", .body = "amazonaws.com\n" },
                { .path = "/latest/meta-data/tags/instance/tendril:environment", .body = "web" },
                { .path = "/latest/user-data", .body = "# tendril.environment: other\n" },
        };
        _cleanup_(world_done) World w = world_new(script, ELEMENTS(script));
        Answer a;

        a = ask(&w, "tendril:environment");
        assert_int_equal(a.r, 0);
        assert_string_equal(a.identity.instance, "i-0123456789abcdef0");
        assert_string_equal(a.identity.region, "eu-west-1");
        assert_string_equal(a.identity.partition, "aws");
        assert_string_equal(a.identity.domain, "amazonaws.com");
        assert_string_equal(a.identity.environment, "web");
        assert_string_equal(a.identity.user_data_environment, "other");
        json_table_done(&net_identity_table, &a.identity);
        assert_int_equal(script_server_n_requests(w.server), 6);
        assert_int_equal(script_server_n_connections(w.server), 1);
        assert_int_equal(script_server_n_unknown(w.server), 0);

        /* No tag wanted: not asked for. */
        a = ask(&w, NULL);
        assert_null(a.identity.environment);
        json_table_done(&net_identity_table, &a.identity);
        assert_int_equal(script_server_n_requests(w.server), 10);
}

/* Tags and user data are off; a service without the document has the parts of it. */
static void test_parts(_unused_ void **state) {
        static const ScriptAnswer script[] = {
                TOKEN,
                { .path = "/latest/meta-data/instance-id", .body = "i-7" },
                { .path = "/latest/meta-data/placement/region", .body = "cn-north-1" },
                { .path = "/latest/meta-data/services/domain", .body = "amazonaws.com.cn" },
        };
        _cleanup_(world_done) World w = world_new(script, ELEMENTS(script));
        Answer a = ask(&w, "tendril:environment");

        assert_int_equal(a.r, 0);
        assert_string_equal(a.identity.instance, "i-7");
        assert_string_equal(a.identity.region, "cn-north-1");
        assert_string_equal(a.identity.domain, "amazonaws.com.cn");
        assert_null(a.identity.zone);
        assert_null(a.identity.environment);
        assert_null(a.identity.user_data_environment);
        json_table_done(&net_identity_table, &a.identity);
}

/* A failure in the middle is one of all: half an identity would be another host's. */
static void test_failure(_unused_ void **state) {
        static const ScriptAnswer script[] = {
                TOKEN,
                { .path = "/latest/dynamic/instance-identity/document", .body = document },
                { .path = "/latest/meta-data/tags/instance/t", .status = 403 },
        };
        static const ScriptAnswer torn[] = {
                TOKEN,
                { .path = "/latest/dynamic/instance-identity/document", .body = "{\"instanceId\"" },
        };
        _cleanup_(world_done) World w = world_new(script, ELEMENTS(script));
        Answer a = ask(&w, "t");

        assert_int_equal(a.r, -EACCES);
        assert_non_null(strstr(a.error, "/tags/instance/t: "));

        script_server_set(w.server, torn, ELEMENTS(torn));
        a = ask(&w, NULL);
        assert_int_equal(a.r, -EBADMSG);
        assert_non_null(strstr(a.error, "identity document"));
}

static void test_tags_that_cannot_be(_unused_ void **state) {
        static const char *const bad[] = { "", ".", "..", "a b", "a/b", "a?b", "a#b", "%41", "\n" };
        _cleanup_(world_done) World w = world_new(NULL, 0);
        Answer a = { 0 };
        char longest[130];

        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(imds_identity(w.imds, bad[i], on_identity, &a, NULL), -EINVAL);
        memset(longest, 'a', 129);
        longest[129] = 0;
        assert_int_equal(imds_identity(w.imds, longest, on_identity, &a, NULL), -EINVAL);
        assert_int_equal(script_server_n_requests(w.server), 0);
}

static void test_cancelled(_unused_ void **state) {
        static const ScriptAnswer script[] = { TOKEN, { .status = 404 } };
        _cleanup_(world_done) World w = world_new(script, ELEMENTS(script));
        IdentityCall *call = NULL;
        Answer a = { 0 };

        assert_int_equal(imds_identity(w.imds, NULL, on_identity, &a, &call), 0);
        while (script_server_n_requests(w.server) < 3)
                assert_true(sd_event_run(w.loop, MSEC(1)) >= 0);
        assert_null(imds_identity_cancel(call));
        assert_true(sd_event_run(w.loop, MSEC(5)) >= 0);
        assert_int_equal(a.n_done, 0);
        assert_null(imds_identity_cancel(NULL));
}

/* What goes to main is read there by the same table. */
static void test_table(_unused_ void **state) {
        NetIdentity id = { 0 }, back = { 0 };
        _cleanup_(buf_done) Buf text = BUF_INIT(4096);

        assert_int_equal(identity_read_document(document, strlen(document), &id, NULL), 0);
        assert_int_equal(json_encode(&net_identity_table, &id, &text), 0);
        assert_null(strstr(text.data, "partition"));
        assert_int_equal(
                json_decode(text.data, text.size, &net_identity_table, JSON_STRICT, &back, NULL),
                0);
        assert_string_equal(back.zone, "eu-west-1a");
        json_table_done(&net_identity_table, &id);
        json_table_done(&net_identity_table, &back);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_document),  cmocka_unit_test(test_user_data),
                cmocka_unit_test(test_all_of_it), cmocka_unit_test(test_parts),
                cmocka_unit_test(test_failure),   cmocka_unit_test(test_tags_that_cannot_be),
                cmocka_unit_test(test_cancelled), cmocka_unit_test(test_table),
        };

        return cmocka_run_group_tests_name("identity-net", tests, loop_block_signals, NULL);
}
