/* The tables that both sides of the call channel read and write with. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "bundle/task.h"

typedef union Any {
        TaskVerify verify;
        TaskVerified verified;
        TaskOpen open;
        TaskOpened opened;
        TaskSign sign;
        TaskKeys keys;
        TaskUnpack unpack;
        TaskUnpacked unpacked;
        TaskPlan plan;
} Any;

#define SHA256 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

/* What is read is written again as it was. */
static void check_same(const JsonTable *table, const char *text) {
        _cleanup_(buf_done) Buf again = BUF_INIT(65536);
        _cleanup_(error_freep) Error *error = NULL;
        Any any = { 0 };
        int r;

        r = json_decode(text, strlen(text), table, JSON_STRICT, &any, &error);
        if (r != 0)
                fail_msg("%s: %d: %s", text, r, error_text(error));
        assert_int_equal(json_encode(table, &any, &again), 0);
        assert_string_equal(buf_str(&again), text);
        json_table_done(table, &any);
}

static void check_refused(const JsonTable *table, const char *text, const char *words) {
        _cleanup_(error_freep) Error *error = NULL;
        Any any = { 0 };

        assert_true(json_decode(text, strlen(text), table, JSON_STRICT, &any, &error) < 0);
        if (!strstr(error_text(error), words))
                fail_msg("\"%s\" is not in: %s", words, error_text(error));
}

static void test_same(void **state) {
        (void) state;

        check_same(&task_verify_table, "{\"sha256\":\"" SHA256 "\",\"size\":3}");
        check_same(&task_verified_table, "{\"sha256\":\"" SHA256 "\",\"size\":3}");
        check_same(
                &task_open_table,
                "{\"type\":\"t\",\"purpose\":\"assign\",\"now\":\"2026-08-01T12:00:00Z\",\"keys\":["
                "{\"id\":\"k1\",\"purpose\":\"assign\",\"ends\":\"2027-08-01T12:00:00Z\",\"pem\":"
                "\"a\\nb\\n\"},"
                "{\"id\":\"k2\",\"purpose\":\"publish\",\"pem\":\"c\"}],\"unsigned_allowed\":"
                "true}");
        check_same(&task_opened_table, "{\"key_id\":\"k1\"}");
        check_same(&task_opened_table, "{}");
        check_same(&task_sign_table,
                   "{\"type\":\"t\",\"key_id\":\"k1\",\"private_pem\":\"x\",\"replace\":false}");
        check_same(&task_keys_table, "{\"private_pem\":\"x\",\"public_pem\":\"y\"}");
        check_same(&task_unpack_table, "{\"max_entries\":1,\"max_bytes\":2,\"threads\":3}");
        check_same(&task_unpacked_table, "{\"entries\":1,\"bytes\":2,\"format\":\"zip\"}");
        check_same(&task_plan_table, "{\"default_command\":\"java -jar application.jar\"}");
        check_same(&task_plan_table, "{}");
}

static void test_refused(void **state) {
        _cleanup_(buf_done) Buf keys = BUF_INIT(65536);

        (void) state;
        check_refused(&task_verify_table, "{\"sha256\":\"abc\"}", "sha256");
        check_refused(&task_verified_table, "{\"size\":3}", "sha256");
        check_refused(&task_open_table, "{\"type\":\"t\",\"purpose\":\"assign\"}", "now");
        check_refused(&task_open_table,
                      "{\"type\":\"t\",\"purpose\":\"p\",\"now\":\"x\",\"keys\":[{\"id\":\"../"
                      "k\",\"purpose\":\"p\",\"pem\":\"x\"}]}",
                      "keys[0].id");
        check_refused(&task_unpack_table, "{\"thread\":1}", "thread");
        check_refused(&task_unpack_table, "{\"threads\":-1}", "threads");

        assert_int_equal(
                buf_append_str(&keys, "{\"type\":\"t\",\"purpose\":\"p\",\"now\":\"x\",\"keys\":["),
                0);
        for (int i = 0; i <= LIMIT_KEYS; i++)
                assert_int_equal(buf_printf(&keys,
                                            "%s{\"id\":\"k%d\",\"purpose\":\"p\",\"pem\":\"x\"}",
                                            i ? "," : "", i),
                                 0);
        assert_int_equal(buf_append_str(&keys, "]}"), 0);
        check_refused(&task_open_table, buf_str(&keys), "keys");
}

/* A private key does not come back in the words of an error. */
static void test_secret(void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(65536);
        _cleanup_(error_freep) Error *error = NULL;
        TaskSign sign = { 0 };

        (void) state;
        assert_int_equal(buf_append_str(&text, "{\"type\":\"t\",\"private_pem\":\""), 0);
        for (int i = 0; i <= LIMIT_KEY_BYTES / 6; i++)
                assert_int_equal(buf_append_str(&text, "SECRET"), 0);
        assert_int_equal(buf_append_str(&text, "\"}"), 0);
        assert_true(json_decode(buf_str(&text), text.size, &task_sign_table, JSON_STRICT, &sign,
                                &error) < 0);
        assert_non_null(strstr(error_text(error), "private_pem"));
        assert_null(strstr(error_text(error), "SECRET"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_same),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_secret),
        };

        return cmocka_run_group_tests_name("task", tests, NULL, NULL);
}
