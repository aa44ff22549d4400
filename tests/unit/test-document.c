#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/str.h"
#include "store/document.h"

#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

#define DESIRED(rest)                                                                              \
        "{\"format\":1,\"store\":\"s1\",\"environment\":\"prod\",\"application\":\"shop\","        \
        "\"revision\":7,\"nonce\":\"n\"," rest "}"

static int decode(const char *text, const JsonTable *table, void *ret, Error **reterr) {
        return document_decode("doc", text, strlen(text), table, ret, reterr);
}

/* Decodes, encodes, and decodes again: the texts of both encodings must be one. */
static void round_trip(const char *text, const JsonTable *table) {
        _cleanup_free_ void *first = calloc(1, table->size), *second = calloc(1, table->size);
        _cleanup_(buf_done) Buf a = BUF_INIT(LIMIT_DOCUMENT_BYTES),
                                b = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = decode(text, table, first, &err);
        if (r < 0)
                fail_msg("%s", error_text(err));
        assert_int_equal(json_encode(table, first, &a), 0);
        assert_int_equal(decode(buf_str(&a), table, second, &err), 0);
        assert_int_equal(json_encode(table, second, &b), 0);
        assert_string_equal(buf_str(&a), buf_str(&b));
        json_table_done(table, first);
        json_table_done(table, second);
}

static void test_round_trips(void **state) {
        (void) state;
        round_trip(
                "{\"format\":1,\"id\":\"0123456789abcdef\",\"created\":\"2026-08-01T12:00:00Z\"}",
                &store_document_table);
        round_trip("{\"format\":1,\"application\":\"shop\",\"label\":\"1.0\",\"bundle\":{\"key\":"
                   "\"a/b\",\"size\":5,"
                   "\"sha256\":\"" SHA_A "\"},\"created\":\"2026-08-01T12:00:00Z\"}",
                   &version_document_table);
        round_trip(DESIRED("\"target\":{\"label\":\"1.0\",\"sha256\":\"" SHA_A
                           "\"},\"base\":{\"label\":\"0.9\","
                           "\"sha256\":\"" SHA_B
                           "\"},\"settings\":[{\"namespace\":\"aws:x\",\"option\":\"O\","
                           "\"value\":\"\"}]"),
                   &desired_document_table);
        round_trip(DESIRED("\"target\":{\"label\":\"1.0\",\"sha256\":\"" SHA_A "\"}"),
                   &desired_document_table);
        round_trip("{\"format\":1,\"revision\":7,\"nonce\":\"n\",\"generation\":\"g\",\"status\":"
                   "\"paused\","
                   "\"follow\":\"base\",\"lanes\":3,\"hosts\":40}",
                   &head_document_table);
        round_trip("{\"format\":1,\"revision\":7,\"nonce\":\"n\",\"epoch\":2,\"state\":\"left\","
                   "\"holder\":\"h\","
                   "\"step\":\"gate\",\"done\":1,\"failed\":0,\"lost\":2}",
                   &lane_document_table);
        round_trip("{\"format\":1,\"revision\":7,\"nonce\":\"n\",\"host\":\"h\",\"sha256\":\"" SHA_A
                   "\",\"deploy\":\"20260801T120000Z-00000001\",\"done\":false,\"error\":\"gate: "
                   "500\"}",
                   &result_document_table);
        round_trip("{\"format\":1,\"host\":\"h\",\"agent\":\"0.1.0\",\"version\":null,\"sha256\":"
                   "null,\"revision\":0,"
                   "\"stage\":\"idle\",\"health\":\"ok\",\"cause\":null,\"changed\":\"2026-08-"
                   "01T12:00:00Z\"}",
                   &host_document_table);
}

static void test_values(void **state) {
        DesiredDocument d = { 0 };
        HeadDocument h = { 0 };

        (void) state;
        assert_int_equal(
                decode(DESIRED("\"future\":[1],\"target\":{\"label\":\"1.0\",\"sha256\":\"" SHA_A
                               "\"},"
                               "\"settings\":[{\"namespace\":\"n\",\"option\":\"o\",\"value\":"
                               "\"v\"}]"),
                       &desired_document_table, &d, NULL),
                0);
        assert_int_equal(d.revision, 7);
        assert_string_equal(d.target.label, "1.0");
        assert_null(d.base.label);
        assert_int_equal(d.settings.n, 1);
        assert_string_equal(((SettingDocument *) d.settings.items)[0].ns, "n");
        json_table_done(&desired_document_table, &d);

        assert_int_equal(decode("{\"format\":1,\"revision\":7,\"nonce\":\"n\",\"generation\":\"g\","
                                "\"status\":\"aborted\",\"follow\":\"base\",\"lanes\":1}",
                                &head_document_table, &h, NULL),
                         0);
        assert_int_equal(h.status, HEAD_ABORTED);
        assert_int_equal(h.follow, HEAD_BASE);
        json_table_done(&head_document_table, &h);
}

static void refused(const char *text, const JsonTable *table, int expected, const char *words) {
        _cleanup_free_ void *object = calloc(1, table->size);
        _cleanup_(error_freep) Error *err = NULL;

        assert_int_equal(decode(text, table, object, &err), expected);
        if (!str_has_prefix(error_text(err), "doc: ") || !strstr(error_text(err), words))
                fail_msg("\"%s\" does not say \"%s\"", error_text(err), words);
}

static void test_refused(void **state) {
        (void) state;
        refused("{", &head_document_table, -EBADMSG, "");
        refused("{}", &head_document_table, -EBADMSG, "format");
        refused("{\"format\":0}", &head_document_table, -EBADMSG, "format");
        refused("{\"format\":\"1\"}", &head_document_table, -EBADMSG, "format");
        /* A newer format is said to be that, whatever else has become of it. */
        refused("{\"format\":2,\"revision\":\"x\"}", &head_document_table, -EPROTONOSUPPORT,
                "upgrade");
        refused("{\"format\":1,\"revision\":1,\"nonce\":\"n\",\"generation\":\"g\",\"status\":"
                "\"odd\","
                "\"follow\":\"base\",\"lanes\":1}",
                &head_document_table, -EBADMSG, "status");
        refused(DESIRED("\"target\":{\"label\":\"1.0\"}"), &desired_document_table, -EBADMSG,
                "target.sha256");
        refused(DESIRED("\"target\":null"), &desired_document_table, -EBADMSG, "target");
        refused("{\"format\":1,\"id\":\"../x\"}", &store_document_table, -EBADMSG, "id");
}

static void test_numbers(void **state) {
        (void) state;
        refused("{\"format\":1,\"revision\":0,\"nonce\":\"n\",\"generation\":\"g\",\"status\":"
                "\"run\","
                "\"follow\":\"base\",\"lanes\":1}",
                &head_document_table, -EBADMSG, "revision");
        refused("{\"format\":1,\"revision\":1,\"nonce\":\"n\",\"generation\":\"g\",\"status\":"
                "\"run\","
                "\"follow\":\"base\",\"lanes\":0}",
                &head_document_table, -EBADMSG, "lanes");
        refused("{\"format\":1,\"revision\":1,\"nonce\":\"\",\"generation\":\"g\",\"status\":"
                "\"run\","
                "\"follow\":\"base\",\"lanes\":1}",
                &head_document_table, -EBADMSG, "nonce");
        refused("{\"format\":1,\"application\":\"a\",\"label\":\"1\",\"bundle\":{\"key\":\"k\","
                "\"size\":"
                "99999999999999,\"sha256\":\"" SHA_A "\"}}",
                &version_document_table, -EBADMSG, "bundle.size");
}

/* The value of a setting is never in a sentence: it may be a password. */
static void test_secrets(void **state) {
        _cleanup_(error_freep) Error *err = NULL;
        DesiredDocument d = { 0 };

        (void) state;
        assert_int_equal(
                decode(DESIRED("\"target\":{\"label\":\"1\",\"sha256\":\"" SHA_A
                               "\"},\"settings\":[{"
                               "\"namespace\":\"n\",\"option\":\"o\",\"value\":12345678}]"),
                       &desired_document_table, &d, &err),
                -EBADMSG);
        assert_null(strstr(error_text(err), "12345678"));
}

/* Every prefix and every single altered byte: refused or read, never worse. */
static void test_torn(void **state) {
        static const char text[] =
                DESIRED("\"target\":{\"label\":\"1.0\",\"sha256\":\"" SHA_A
                        "\"},\"settings\":[{\"namespace\":\"n\",\"option\":\"o\","
                        "\"value\":\"v\"}]");
        char torn[sizeof(text)];

        (void) state;
        for (size_t i = 0; i < sizeof(text) - 1; i++) {
                DesiredDocument d = { 0 };

                assert_true(document_decode("doc", text, i, &desired_document_table, &d, NULL) < 0);
                memcpy(torn, text, sizeof(text));
                torn[i] ^= 0x15;
                if (document_decode("doc", torn, sizeof(text) - 1, &desired_document_table, &d,
                                    NULL) == 0)
                        json_table_done(&desired_document_table, &d);
        }
}

static void test_nonce(void **state) {
        _cleanup_free_ char *a = document_nonce(), *b = document_nonce();

        (void) state;
        assert_int_equal(strlen(a), 32);
        assert_int_equal(strspn(a, "0123456789abcdef"), 32);
        assert_string_not_equal(a, b);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trips), cmocka_unit_test(test_values),
                cmocka_unit_test(test_refused),     cmocka_unit_test(test_numbers),
                cmocka_unit_test(test_secrets),     cmocka_unit_test(test_torn),
                cmocka_unit_test(test_nonce),
        };

        return cmocka_run_group_tests_name("document", tests, NULL, NULL);
}
