#include "../../agent/control/message.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/str.h"

static int parse_call(const char *text, CallMessage *ret) {
        return call_message_parse(text, strlen(text), ret, NULL);
}

static void test_call_parse(_unused_ void **state) {
        CallMessage m = { 0 };

        assert_int_equal(parse_call("{\"method\":\"a.B\"}", &m), 0);
        assert_string_equal(m.method, "a.B");
        assert_null(m.parameters);
        assert_false(m.more || m.oneway || m.upgrade);
        call_message_done(&m);

        assert_int_equal(parse_call("{\"method\":\"a.B\",\"parameters\":{\"x\":1},\"more\":true,"
                                    "\"upgrade\":true,\"oneway\":false}",
                                    &m),
                         0);
        assert_non_null(m.parameters);
        assert_true(m.more && m.upgrade && !m.oneway);
        call_message_done(&m);
        assert_null(m.method);
}

static void test_call_refused(_unused_ void **state) {
        static const char *const texts[] = {
                "",
                "nonsense",
                "[]",
                "{}",
                "{\"method\":null}",
                "{\"method\":7}",
                "{\"method\":\"\"}",
                "{\"method\":\"a.B\",\"fds\":1}",
                "{\"method\":\"a.B\",\"more\":\"yes\"}",
                "{\"method\":\"a.B\",\"more\":true,\"oneway\":true}",
                "{\"method\":\"a.B\",\"method\":\"a.C\"}",
                "{\"method\":\"a\\u0000.B\"}",
                "{\"method\":\"a.B\"}{}",
        };
        char long_method[400];

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                CallMessage m = { 0 };

                if (parse_call(texts[i], &m) >= 0)
                        fail_msg("taken: %s", texts[i]);
                assert_null(m.method);
        }

        (void) snprintf(long_method, sizeof(long_method), "{\"method\":\"a.%0300d\"}", 0);
        assert_true(parse_call(long_method, &(CallMessage){ 0 }) < 0);
}

/* What was sent is in the text as it was, with one NUL at its end. */
static void assert_printed(const Buf *buf, const char *expected) {
        assert_int_equal(buf->size, strlen(expected) + 1);
        assert_string_equal(buf_str(buf), expected);
}

static void test_print(_unused_ void **state) {
        _cleanup_(buf_done) Buf buf = BUF_INIT(1000);

        assert_int_equal(call_message_print("Status", NULL, NULL, false, &buf), 0);
        assert_printed(&buf, "{\"method\":\"io.tendril.Agent.Status\"}");
        buf_clear(&buf);
        assert_int_equal(call_message_print("History", &control_history_ask_table,
                                            &(ControlHistoryAsk){ 3 }, true, &buf),
                         0);
        assert_printed(&buf, "{\"method\":\"io.tendril.Agent.History\",\"parameters\":{\"limit\":3}"
                             ",\"more\":true}");
        buf_clear(&buf);
        assert_int_equal(reply_message_print(NULL, NULL, false, &buf), 0);
        assert_printed(&buf, "{}");
        buf_clear(&buf);
        assert_int_equal(reply_message_print(NULL, NULL, true, &buf), 0);
        assert_printed(&buf, "{\"continues\":true}");
        buf_clear(&buf);
        assert_int_equal(error_message_print("a.E", &(ErrorParameters){ .text = "\"\n" }, &buf), 0);
        assert_printed(&buf, "{\"error\":\"a.E\",\"parameters\":{\"text\":\"\\\"\\n\"}}");
        buf_clear(&buf);
        assert_int_equal(error_message_print("a.E", NULL, &buf), 0);
        assert_printed(&buf, "{\"error\":\"a.E\"}");
}

/* A message that does not fit leaves what was there before as it was. */
static void test_print_full(_unused_ void **state) {
        char text[] = "0123456789012345678901234567890123456789";

        for (size_t max = 3; max < 70; max++) {
                _cleanup_(buf_done) Buf buf = BUF_INIT(max);
                int r;

                assert_int_equal(buf_append_str(&buf, "abc"), 0);
                r = reply_message_print(&control_text_table, &(ControlText){ text }, true, &buf);
                if (r < 0) {
                        assert_int_equal(r, -EFBIG);
                        assert_string_equal(buf_str(&buf), "abc");
                        assert_int_equal(buf.size, 3);
                } else
                        assert_int_equal(buf.data[buf.size - 1], '\0');
        }
}

static void test_reply_parse(_unused_ void **state) {
        static const char text[] = "{\"parameters\":{\"text\":\"x\"},\"continues\":true,\"new\":1}";
        ReplyMessage m = { 0 };

        /* A newer agent may say more. */
        assert_int_equal(reply_message_parse(text, strlen(text), &m, NULL), 0);
        assert_true(m.continues);
        assert_null(m.error);
        reply_message_done(&m);
        assert_int_equal(reply_message_parse("{\"error\":\"a.B\"}", 15, &m, NULL), 0);
        assert_string_equal(m.error, "a.B");
        reply_message_done(&m);
        assert_true(reply_message_parse("7", 1, &m, NULL) < 0);
}

static int decode(const char *text, const JsonTable *table, void *ret, char **ret_parameter) {
        _cleanup_(json_freep) Json *value = NULL;

        assert_int_equal(json_parse(text, strlen(text), &value, NULL), 0);
        return parameters_decode(value, table, ret, ret_parameter);
}

static void test_parameters(_unused_ void **state) {
        static const char *const bad[][2] = {
                { "{\"nothing\":1}", "nothing" },  { "{\"bundle\":1}", "bundle" },
                { "{\"bundle\":\"\"}", "bundle" }, { "{\"version\":\"a b\"}", "version" },
                { "{\"retry\":0}", "retry" },      { "[1]", "parameters" },
        };
        ControlDeployAsk ask = { 0 };
        char *parameter = NULL;

        assert_int_equal(parameters_decode(NULL, &control_deploy_ask_table, &ask, &parameter), 0);
        assert_int_equal(parameters_decode(NULL, NULL, NULL, &parameter), 0);
        assert_int_equal(decode("{}", NULL, NULL, &parameter), 0);
        assert_int_equal(decode("{\"bundle\":null,\"retry\":true}", &control_deploy_ask_table, &ask,
                                &parameter),
                         0);
        assert_true(ask.retry);
        json_table_done(&control_deploy_ask_table, &ask);

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                assert_int_equal(decode(bad[i][0], &control_deploy_ask_table, &ask, &parameter),
                                 -EBADMSG);
                assert_string_equal(parameter, bad[i][1]);
                assert_null(ask.bundle);
                free(parameter);
                parameter = NULL;
        }

        /* What is required is missed also where there are no parameters at all. */
        assert_int_equal(parameters_decode(NULL, &service_interface_table, &(ServiceInterface){ 0 },
                                           &parameter),
                         -EBADMSG);
        assert_string_equal(parameter, "interface");
        free(parameter);
}

/* Every value of a status comes through encoding and decoding. */
static void test_status_round_trip(_unused_ void **state) {
        static const char text[] =
                "{\"agent\":\"0.1.0\",\"host\":\"h\",\"environment\":\"e\",\"application\":\"a\","
                "\"desired\":{\"label\":\"v2\",\"sha256\":\"s\",\"revision\":2,\"slot\":null,"
                "\"since\":null},"
                "\"current\":{\"label\":\"v1\",\"sha256\":\"t\",\"revision\":1,\"slot\":\"a\","
                "\"since\":\"2026-01-01T00:00:00Z\"},"
                "\"previous\":null,"
                "\"deploy\":{\"id\":\"d\",\"kind\":\"assigned\",\"label\":\"v2\",\"stage\":"
                "\"fetch\","
                "\"since\":\"x\",\"percent\":40},"
                "\"hold\":true,\"health\":\"failing\",\"cause\":\"c\",\"store\":\"file:///s\","
                "\"store_ok\":true,\"store_error\":null,\"store_since\":\"y\",\"waiting\":\"w\","
                "\"processes\":[{\"name\":\"web\",\"slot\":\"a\",\"state\":\"up\",\"pid\":7,"
                "\"restarts\":1,\"last_exit\":\"exit 1\"}],"
                "\"quarantine\":[{\"revision\":1,\"label\":\"v0\",\"sha256\":\"u\",\"why\":\"z\","
                "\"since\":\"t\"}],"
                "\"warnings\":[\"one\",\"two\"]}";
        _cleanup_(buf_done) Buf buf = BUF_INIT(LIMIT_REPLY_BYTES);
        ControlStatus status = { 0 };

        assert_int_equal(
                json_decode(text, strlen(text), &control_status_table, JSON_STRICT, &status, NULL),
                0);
        assert_int_equal(status.processes.n, 1);
        assert_int_equal(status.deploy.percent, 40);
        assert_int_equal(json_encode(&control_status_table, &status, &buf), 0);
        assert_string_equal(buf_str(&buf), text);
        json_table_done(&control_status_table, &status);
}

static void test_store_round_trip(_unused_ void **state) {
        static const char text[] =
                "{\"url\":\"s3://b/p\",\"remote\":true,"
                "\"credentials\":{\"source\":\"environment\",\"key_id\":\"****ABCD\",\"ends\":"
                "\"x\","
                "\"refreshed\":\"y\",\"error\":\"e\",\"failed\":\"f\",\"tried\":[\"one\",\"two\"]},"
                "\"store\":{\"endpoint\":\"https://h\",\"region\":\"r\",\"etag_form\":\"bare\","
                "\"clock\":\"c\",\"n_requests\":3,\"n_retries\":2,\"n_throttled\":1,"
                "\"error\":\"d\",\"failed\":\"g\"}}";
        _cleanup_(buf_done) Buf buf = BUF_INIT(LIMIT_REPLY_BYTES);
        ControlStore store = { 0 };

        assert_int_equal(
                json_decode(text, strlen(text), &control_store_table, JSON_STRICT, &store, NULL),
                0);
        assert_string_equal(store.credentials.tried[1], "two");
        assert_int_equal(store.store.n_retries, 2);
        assert_int_equal(json_encode(&control_store_table, &store, &buf), 0);
        assert_string_equal(buf_str(&buf), text);
        json_table_done(&control_store_table, &store);

        /* A folder has neither: null, and back. */
        buf_clear(&buf);
        store.url = strdup("file:///s");
        assert_int_equal(json_encode(&control_store_table, &store, &buf), 0);
        json_table_done(&control_store_table, &store);
        assert_int_equal(json_decode(buf_str(&buf), buf.size, &control_store_table, JSON_STRICT,
                                     &store, NULL),
                         0);
        assert_string_equal(store.url, "file:///s");
        assert_null(store.credentials.source);
        json_table_done(&control_store_table, &store);
}

static void assert_type_described(const char *type, const JsonTable *table) {
        _cleanup_free_ char *head = str_format("type %s (", type);
        const char *line = strstr(control_description, head), *end;
        _cleanup_free_ char *text = NULL;

        if (!line)
                fail_msg("no type %s in the description", type);
        end = strstr(line, "\n\n");
        text = strndup(line, (size_t) (end - line));
        for (const JsonField *f = table->fields; f->name; f++) {
                _cleanup_free_ char *name = str_format("%s: ", f->name);

                if (!strstr(text, name))
                        fail_msg("%s: no %s in: %s", type, f->name, text);
        }
}

static void assert_described(const char *method, const JsonTable *table) {
        _cleanup_free_ char *head = str_format("method %s(", method);
        const char *line = strstr(control_description, head), *end;
        _cleanup_free_ char *text = NULL;

        if (!line)
                fail_msg("no %s in the description", method);
        end = strstr(line, "\n\n");
        text = strndup(line, (size_t) (end - line));
        for (const JsonField *f = table->fields; f->name; f++) {
                _cleanup_free_ char *inner = str_format(" %s: ", f->name);
                _cleanup_free_ char *first = str_format("(%s: ", f->name);

                if (!strstr(text, inner) && !strstr(text, first))
                        fail_msg("%s: no %s in: %s", method, f->name, text);
        }
}

/* The description says what the tables do. */
static void test_description(_unused_ void **state) {
        assert_described("Status", &control_status_table);
        assert_described("Monitor", &control_status_table);
        assert_described("Health", &control_health_table);
        assert_described("Explain", &control_explain_table);
        assert_described("Store", &control_store_table);
        assert_type_described("Credentials", &credential_status_table);
        assert_type_described("Bucket", &s3_status_table);
        assert_described("History", &control_history_ask_table);
        assert_described("History", &control_history_table);
        assert_described("Logs", &control_logs_ask_table);
        assert_described("Logs", &control_logs_table);
        assert_described("Deploy", &control_deploy_ask_table);
        assert_described("Deploy", &control_started_table);
        assert_described("Rollback", &control_started_table);
        assert_described("Restart", &control_restart_ask_table);
        assert_described("Restart", &control_text_table);
        assert_described("Reload", &control_text_table);
        assert_described("Wait", &control_wait_ask_table);
        assert_described("Wait", &control_wait_table);
        for (const JsonField *f = deploy_record_table.fields; f->name; f++)
                assert_non_null(strstr(control_description, f->name));
        for (const JsonField *f = hook_record_table.fields; f->name; f++)
                assert_non_null(strstr(control_description, f->name));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_call_parse),
                cmocka_unit_test(test_call_refused),
                cmocka_unit_test(test_print),
                cmocka_unit_test(test_print_full),
                cmocka_unit_test(test_reply_parse),
                cmocka_unit_test(test_parameters),
                cmocka_unit_test(test_status_round_trip),
                cmocka_unit_test(test_store_round_trip),
                cmocka_unit_test(test_description),
        };

        return cmocka_run_group_tests_name("proto", tests, NULL, NULL);
}
