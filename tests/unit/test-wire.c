#include "store/wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/str.h"

static char *const nothing[] = { NULL };

static void encode(const JsonTable *table, const void *object, Buf *ret) {
        buf_init(ret, LIMIT_PACKET_BYTES);
        assert_int_equal(json_encode(table, object, ret), 0);
}

static void test_environment(_unused_ void **state) {
        char key[] = "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", token[] = "AWS_SESSION_TOKEN=a=b",
             empty[] = "AWS_PROFILE=", other[] = "SECRET_B=x", longer[] = "AWS_REGIONS=x",
             proxy[] = "https_proxy=http://p:1", loud[] = "HTTP_PROXY=http://evil:1",
             none[] = "AWS_REGION";
        char *const variables[] = { key, token, empty, other, longer, proxy, loud, none, NULL };
        WireOpen open = { 0 };

        assert_int_equal(wire_open_take_environment(&open, variables), 0);
        assert_int_equal(strv_count(open.environment), 3);
        assert_string_equal(open.environment[0], key);
        assert_string_equal(open.environment[1], token);
        assert_string_equal(open.environment[2], proxy);
        wire_open_done(&open);
        assert_null(open.environment);
        assert_int_equal(wire_open_take_environment(&open, nothing), 0);
        assert_null(open.environment);
}

/* What could not be handed over is refused here, not by whoever reads it. */
static void test_environment_refused(_unused_ void **state) {
        char wrong[] = "HOME=/\xff", huge[LIMIT_STRING_BYTES + 2] = "AWS_SESSION_TOKEN=";
        char *const one[] = { wrong, NULL }, *const two[] = { huge, NULL };
        WireOpen open = { 0 };

        memset(huge + strlen(huge), 'x', sizeof(huge) - strlen(huge) - 1);
        assert_int_equal(wire_open_take_environment(&open, one), -EINVAL);
        assert_int_equal(wire_open_take_environment(&open, two), -E2BIG);
        huge[LIMIT_STRING_BYTES] = 0;
        assert_int_equal(wire_open_take_environment(&open, two), 0);
        wire_open_done(&open);
}

/* All names have room, in one packet. */
static void test_open_round_trip(_unused_ void **state) {
        WireOpen open = { .url = strdup("s3://bucket/prefix"),
                          .region = strdup("eu-west-1"),
                          .path_style = true,
                          .fips = true },
                 back = { 0 };
        _cleanup_(buf_done) Buf text = { 0 };

        for (size_t i = 0; wire_environment[i]; i++) {
                _cleanup_free_ char *v = str_format("%s=%01000d", wire_environment[i], 7);
                char *const one[] = { v, NULL };

                assert_int_equal(wire_open_take_environment(&open, one), 0);
        }
        encode(&wire_open_table, &open, &text);
        assert_int_equal(
                json_decode(text.data, text.size, &wire_open_table, JSON_STRICT, &back, NULL), 0);
        assert_true(wire_open_equal(&open, &back));
        back.dualstack = true;
        assert_false(wire_open_equal(&open, &back));
        wire_open_done(&open);
        wire_open_done(&back);
}

/* Values of secrets are in no sentence. */
static void test_open_keeps_secrets(_unused_ void **state) {
        static const char text[] = "{\"url\":\"s3://b\",\"environment\":[\"AWS_SECRET=hush\",7]}";
        _cleanup_(error_freep) Error *err = NULL;
        WireOpen open = { 0 };

        assert_true(json_decode(text, sizeof(text) - 1, &wire_open_table, JSON_STRICT, &open,
                                &err) < 0);
        assert_null(strstr(error_text(err), "hush"));
        assert_int_equal(json_decode("{}", 2, &wire_open_table, JSON_STRICT, &open, NULL),
                         -EBADMSG);
}

static void test_answer_round_trip(_unused_ void **state) {
        char etag[] = "abc", key[] = "a/\"b\\", entry_etag[] = "e";
        const WireAnswer answer = { .answer = STORE_UNCHANGED,
                                    .etag = etag,
                                    .has_age = true,
                                    .age_usec = 1234567,
                                    .date_usec = SEC(1800000000) + 1,
                                    .size = UINT64_C(1) << 40,
                                    .more = true };
        StoreEntry entry = { .key = key, .etag = entry_etag, .size = 9 };
        const WireList list = { .entries = { .items = &entry, .n = 1 } };
        _cleanup_(buf_done) Buf text = { 0 }, list_text = { 0 };
        WireAnswer back = { 0 };
        WireList list_back = { 0 };

        encode(&wire_answer_table, &answer, &text);
        assert_int_equal(
                json_decode(text.data, text.size, &wire_answer_table, JSON_STRICT, &back, NULL), 0);
        assert_int_equal(back.answer, STORE_UNCHANGED);
        assert_string_equal(back.etag, "abc");
        assert_true(back.has_age && back.more);
        assert_int_equal(back.age_usec, answer.age_usec);
        assert_int_equal(back.date_usec, answer.date_usec);
        assert_int_equal(back.size, answer.size);
        json_table_done(&wire_answer_table, &back);

        encode(&wire_list_table, &list, &list_text);
        assert_int_equal(json_decode(list_text.data, list_text.size, &wire_list_table, JSON_STRICT,
                                     &list_back, NULL),
                         0);
        assert_int_equal(list_back.entries.n, 1);
        assert_string_equal(((StoreEntry *) list_back.entries.items)->key, key);
        assert_int_equal(((StoreEntry *) list_back.entries.items)->size, 9);
        json_table_done(&wire_list_table, &list_back);
}

/* The longest page has room in the file that it travels in. */
static void test_longest_list(_unused_ void **state) {
        StoreEntry *entries = calloc(LIMIT_LIST_KEYS, sizeof(StoreEntry));
        WireList list = { .entries = { .items = entries, .n = LIMIT_LIST_KEYS } }, back = { 0 };
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_XML_LIST_BYTES);

        assert_non_null(entries);
        for (size_t i = 0; i < LIMIT_LIST_KEYS; i++) {
                entries[i].key = calloc(1, LIMIT_KEY_NAME_BYTES + 1);
                memset(entries[i].key, '"', LIMIT_KEY_NAME_BYTES);
                entries[i].etag = calloc(1, 129);
                memset(entries[i].etag, '\\', 128);
                entries[i].size = INT64_MAX;
        }
        assert_int_equal(json_encode(&wire_list_table, &list, &text), 0);
        assert_int_equal(
                json_decode(text.data, text.size, &wire_list_table, JSON_STRICT, &back, NULL), 0);
        json_table_done(&wire_list_table, &back);
        json_table_done(&wire_list_table, &list);
}

static void test_fill(_unused_ void **state) {
        char one[] = "AWS_ENDPOINT_URL=http://127.0.0.1:1", two[] = "AWS_REGION=x-y-1";
        char *const variables[] = { one, two, NULL };
        WireOpen open = { 0 }, none = { 0 };

        assert_int_equal(wire_open_fill(&open, NULL, "s3://b/p", variables), 0);
        assert_string_equal(open.url, "s3://b/p");
        assert_string_equal(open.endpoint, "http://127.0.0.1:1");
        assert_int_equal(strv_count(open.environment), 1);
        assert_null(open.region);
        assert_false(wire_open_equal(&open, &none));
        wire_open_done(&open);
        assert_true(wire_open_equal(&open, &none));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_environment),
                cmocka_unit_test(test_environment_refused),
                cmocka_unit_test(test_open_round_trip),
                cmocka_unit_test(test_open_keeps_secrets),
                cmocka_unit_test(test_answer_round_trip),
                cmocka_unit_test(test_longest_list),
                cmocka_unit_test(test_fill),
        };

        return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
