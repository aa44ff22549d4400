#include "base/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/str.h"
#include "base/time.h"

#define SHA "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

typedef struct Part {
        char *name;
        uint64_t n;
} Part;

typedef struct Inner {
        bool on;
        usec_t wait;
        int color;
} Inner;

typedef struct All {
        char *string;
        char *label;
        char *sha256;
        bool boolean;
        uint64_t number;
        usec_t span;
        int choice;
        char **list;
        JsonMap map;
        Inner inner;
        JsonArray parts;
        Json *any;
} All;

/* clang-format off */
static const char *const colors[] = { "none", "red", "green", NULL };

static const JsonField part_fields[] = {
        { "name", JSON_KIND_LABEL, JSON_REQUIRED, offsetof(Part, name), 0, 0, NULL, NULL },
        { "n",    JSON_KIND_U64,   0,             offsetof(Part, n),    1, 9, NULL, NULL },
        { 0 },
};
static const JsonTable part_table = { part_fields, sizeof(Part) };

static const JsonField inner_fields[] = {
        { "on",    JSON_KIND_BOOL, 0, offsetof(Inner, on),    0,         0,       NULL,   NULL },
        { "wait",  JSON_KIND_SPAN, 0, offsetof(Inner, wait),  MSEC(100), SEC(60), NULL,   NULL },
        { "color", JSON_KIND_ENUM, 0, offsetof(Inner, color), 0,         0,       colors, NULL },
        { 0 },
};
static const JsonTable inner_table = { inner_fields, sizeof(Inner) };

static const JsonField all_fields[] = {
        { "string",  JSON_KIND_STRING, 0, offsetof(All, string),  2, 8, NULL,   NULL },
        { "label",   JSON_KIND_LABEL,  0, offsetof(All, label),   0, 0, NULL,   NULL },
        { "sha256",  JSON_KIND_SHA256, 0, offsetof(All, sha256),  0, 0, NULL,   NULL },
        { "boolean", JSON_KIND_BOOL,   0, offsetof(All, boolean), 0, 0, NULL,   NULL },
        { "number",  JSON_KIND_U64,    0, offsetof(All, number),  1, 9, NULL,   NULL },
        { "span",    JSON_KIND_SPAN,   0, offsetof(All, span),    0, 0, NULL,   NULL },
        { "choice",  JSON_KIND_ENUM,   0, offsetof(All, choice),  0, 0, colors, NULL },
        { "list",    JSON_KIND_STRV,   0, offsetof(All, list),    0, 3, NULL,   NULL },
        { "map",     JSON_KIND_MAP,    0, offsetof(All, map),     0, 6, NULL,   NULL },
        { "inner",   JSON_KIND_OBJECT, 0, offsetof(All, inner),   0, 0, NULL,   &inner_table },
        { "parts",   JSON_KIND_ARRAY,  0, offsetof(All, parts),   0, 3, NULL,   &part_table },
        { "any",     JSON_KIND_ANY,    0, offsetof(All, any),     0, 0, NULL,   NULL },
        { 0 },
};
static const JsonTable all_table = { all_fields, sizeof(All) };

static const JsonField short_fields[] = {
        { "id",     JSON_KIND_U64,    JSON_REQUIRED | JSON_OMIT_EMPTY, offsetof(All, number), 0, 0, NULL,   NULL },
        { "text",   JSON_KIND_STRING, JSON_OMIT_EMPTY,                 offsetof(All, string), 0, 0, NULL,   NULL },
        { "secret", JSON_KIND_LABEL,  JSON_OMIT_EMPTY | JSON_SECRET,   offsetof(All, label),  0, 0, NULL,   NULL },
        { "choice", JSON_KIND_ENUM,   JSON_OMIT_EMPTY | JSON_SECRET,   offsetof(All, choice), 0, 0, colors, NULL },
        { "list",   JSON_KIND_STRV,   JSON_OMIT_EMPTY,                 offsetof(All, list),   0, 9, NULL,   NULL },
        { "map",    JSON_KIND_MAP,    JSON_OMIT_EMPTY,                 offsetof(All, map),    0, 9, NULL,   NULL },
        { "inner",  JSON_KIND_OBJECT, JSON_OMIT_EMPTY,                 offsetof(All, inner),  0, 0, NULL,   &inner_table },
        { "parts",  JSON_KIND_ARRAY,  JSON_OMIT_EMPTY,                 offsetof(All, parts),  0, 9, NULL,   &part_table },
        { "any",    JSON_KIND_ANY,    JSON_OMIT_EMPTY,                 offsetof(All, any),    0, 0, NULL,   NULL },
        { 0 },
};
static const JsonTable short_table = { short_fields, sizeof(All) };
/* clang-format on */

static const char whole[] =
        "{\"string\":\"a\\\"\\u0001\\n\xc3\xa4\",\"label\":\"v1\",\"sha256\":\"" SHA "\","
        "\"boolean\":true,\"number\":7,\"span\":1.5,\"choice\":\"red\",\"list\":[\"x\",\"\"],"
        "\"map\":{\"z\":\"1\",\"a\":\"\"},\"inner\":{\"on\":true,\"wait\":2,\"color\":\"green\"},"
        "\"parts\":[{\"name\":\"p\",\"n\":null},{\"name\":\"q\",\"n\":9}],\"any\":{\"k\":[1,2.5,"
        "null,false]}}";

static bool is_zero(const All *all) {
        static const All zero;

        return memcmp(all, &zero, sizeof(All)) == 0;
}

static void check_refused(const JsonTable *table, const char *text, int code, const char *words) {
        _cleanup_(error_freep) Error *e = NULL;
        All all = { 0 };

        assert_int_equal(json_decode(text, strlen(text), table, JSON_STRICT, &all, &e), code);
        assert_string_equal(error_text(e), words);
        assert_int_equal(error_code(e), code);
        assert_true(is_zero(&all));
        assert_int_equal(json_decode(text, strlen(text), table, JSON_STRICT, &all, NULL), code);
}

static void check_encoded(const JsonTable *table, const All *all, const char *expected) {
        _cleanup_(buf_done) Buf text = BUF_INIT(4096);

        assert_int_equal(json_encode(table, all, &text), 0);
        assert_string_equal(buf_str(&text), expected);
}

/* Decodes, and checks that encoding gives the text; the caller frees. */
static All check_decoded(const JsonTable *table, const char *text, const char *expected) {
        _cleanup_(error_freep) Error *e = NULL;
        All all = { 0 };

        if (json_decode(text, strlen(text), table, JSON_STRICT, &all, &e) < 0)
                fail_msg("%s", error_text(e));
        check_encoded(table, &all, expected);
        return all;
}

static void test_every_kind_there_and_back(void **state) {
        All all = check_decoded(&all_table, whole, whole);
        const Part *parts = all.parts.items;

        (void) state;
        assert_string_equal(all.string, "a\"\x01\n\xc3\xa4");
        assert_true(all.boolean && all.number == 7 && all.span == MSEC(1500) && all.choice == 1);
        assert_int_equal(strv_count(all.list), 2);
        assert_string_equal(all.map.pairs[0].name, "z");
        assert_true(all.inner.on && all.inner.wait == SEC(2) && all.inner.color == 2);
        assert_int_equal(all.parts.n, 2);
        assert_true(parts[0].n == 0 && parts[1].n == 9);
        assert_non_null(all.any);

        json_table_done(&all_table, &all);
        assert_true(is_zero(&all));
        json_table_done(&all_table, &all);
}

static void test_nothing_there_and_back(void **state) {
        static const char nulls[] =
                "{\"string\":null,\"label\":null,\"sha256\":null,\"boolean\":false,\"number\":null,"
                "\"span\":0,\"choice\":\"none\",\"list\":null,\"map\":{},\"inner\":null,\"parts\":["
                "],"
                "\"any\":null}";
        All a = check_decoded(&all_table, "{}", nulls), b = check_decoded(&all_table, nulls, nulls);

        (void) state;
        assert_true(is_zero(&a));
        json_table_done(&all_table, &b);
}

static void test_empty_members_are_omitted(void **state) {
        All a = check_decoded(&short_table, "{\"id\":0}", "{\"id\":0}");
        All b = check_decoded(
                &short_table,
                "{\"id\":0,\"text\":\"\",\"list\":[],\"map\":{},\"parts\":[],\"choice\":\"none\","
                "\"inner\":{\"on\":false},\"any\":null}",
                "{\"id\":0}");

        (void) state;
        json_table_done(&short_table, &a);
        json_table_done(&short_table, &b);
}

static void test_empty_is_not_missing(void **state) {
        All all = check_decoded(&short_table, "{\"id\":1,\"any\":[]}", "{\"id\":1,\"any\":[]}");

        (void) state;
        json_table_done(&short_table, &all);
}

static void test_missing_and_unknown(void **state) {
        static const char allowed[] =
                "allowed: string, label, sha256, boolean, number, span, choice, list, "
                "map, inner, parts, any";
        _cleanup_free_ char *words =
                str_format("nummber: unknown key; did you mean \"number\"?; %s", allowed);
        _cleanup_free_ char *far = str_format("zzz: unknown key; %s", allowed);

        (void) state;
        check_refused(&short_table, "{}", -EBADMSG, "id: is missing");
        check_refused(&short_table, "{\"id\":null}", -EBADMSG, "id: is missing");
        check_refused(&all_table, "{\"parts\":[{\"name\":\"a\"},{\"n\":1}]}", -EBADMSG,
                      "parts[1].name: is missing");
        check_refused(&all_table, "{\"nummber\":1}", -EBADMSG, words);
        check_refused(&all_table, "{\"zzz\":1}", -EBADMSG, far);
        check_refused(&all_table, "{\"inner\":{\"Wait\":1}}", -EBADMSG,
                      "inner.Wait: unknown key; did you mean \"wait\"?; allowed: on, wait, color");
        check_refused(&all_table, "{\"inner\":{\"a\\u001b[31m\":1}}", -EBADMSG,
                      "inner.a?[31m: unknown key; allowed: on, wait, color");
}

static void test_lenient_ignores_the_unknown(void **state) {
        static const char text[] = "{\"zzz\":{\"a\":[1]},\"number\":3}";
        All all = { 0 };

        (void) state;
        assert_int_equal(json_decode(text, strlen(text), &all_table, JSON_LENIENT, &all, NULL), 0);
        assert_true(all.number == 3);
}

static void test_wrong_kinds(void **state) {
        static const char *const rows[][2] = {
                { "[]", "must be an object, not an array" },
                { "7", "must be an object, not a number" },
                { "{\"string\":1}", "string: must be a string, not a number (write it in quotes)" },
                { "{\"string\":true}",
                  "string: must be a string, not a boolean (write it in quotes)" },
                { "{\"label\":{}}", "label: must be a string, not an object" },
                { "{\"sha256\":[]}", "sha256: must be a string, not an array" },
                { "{\"boolean\":1}", "boolean: must be true or false, not a number" },
                { "{\"number\":\"1\"}", "number: must be a whole number, not a string" },
                { "{\"number\":1.0}", "number: must be a whole number, not a fraction" },
                { "{\"span\":false}", "span: must be a span of time, not a boolean" },
                { "{\"choice\":1}", "choice: must be a string, not a number (write it in quotes)" },
                { "{\"list\":\"a\"}", "list: must be an array of strings, not a string" },
                { "{\"list\":[\"a\",1]}",
                  "list[1]: must be a string, not a number (write it in quotes)" },
                { "{\"list\":[null]}", "list[0]: must be a string, not null" },
                { "{\"map\":[]}", "map: must be an object, not an array" },
                { "{\"map\":{\"k\":[]}}",
                  "map.k: must be a string, a number or a boolean, not an array" },
                { "{\"inner\":[]}", "inner: must be an object, not an array" },
                { "{\"inner\":{\"on\":\"yes\"}}", "inner.on: must be true or false, not a string" },
                { "{\"parts\":{}}", "parts: must be an array of objects, not an object" },
                { "{\"parts\":[1]}", "parts[0]: must be an object, not a number" },
                { "{\"parts\":[null]}", "parts[0]: must be an object, not null" },
        };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(rows); i++)
                check_refused(&all_table, rows[i][0], -EBADMSG, rows[i][1]);
}

static void test_bounds(void **state) {
        static const char *const rows[][2] = {
                { "{\"number\":0}", "number: 0 is below 1" },
                { "{\"number\":-5}", "number: -5 is below 1" },
                { "{\"number\":10}", "number: 10 is above 9" },
                { "{\"parts\":[{\"name\":\"a\",\"n\":10}]}", "parts[0].n: 10 is above 9" },
                { "{\"string\":\"a\"}", "string: 1 bytes are less than 2" },
                { "{\"string\":\"123456789\"}", "string: 9 bytes are more than 8" },
                { "{\"inner\":{\"wait\":0.0999}}", "inner.wait: 99 ms is below 100 ms" },
                { "{\"inner\":{\"wait\":\"61s\"}}", "inner.wait: 1 min 1 s is above 1 min" },
                { "{\"span\":-1}", "span: is not a span of time that can be counted" },
                { "{\"span\":-0.5}", "span: is not a span of time that can be counted" },
                { "{\"span\":1e300}", "span: is not a span of time that can be counted" },
                { "{\"span\":9223372036854775807}",
                  "span: is not a span of time that can be counted" },
                { "{\"list\":[\"1\",\"2\",\"3\",\"4\"]}", "list: 4 entries are more than 3" },
                { "{\"parts\":[{},{},{},{}]}", "parts: 4 entries are more than 3" },
                { "{\"map\":{\"1\":1,\"2\":1,\"3\":1,\"4\":1,\"5\":1,\"6\":1,\"7\":1}}",
                  "map: 7 entries are more than 6" },
        };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(rows); i++)
                check_refused(&all_table, rows[i][0], -ERANGE, rows[i][1]);
}

static void test_forms(void **state) {
        (void) state;
        check_refused(&all_table, "{\"label\":\"a b\"}", -EBADMSG,
                      "label: \"a b\" is not a name (1 to 100 of A-Z a-z 0-9 . _ -, beginning with "
                      "a letter or a "
                      "digit)");
        check_refused(&all_table, "{\"sha256\":\"abc\"}", -EBADMSG,
                      "sha256: \"abc\" is not a SHA-256 (64 of 0-9 a-f)");
        check_refused(&all_table, "{\"choice\":\"rad\"}", -EBADMSG,
                      "choice: \"rad\" is none of: none, red, green; did you mean \"red\"?");
        check_refused(&all_table, "{\"choice\":\"\\u001b\"}", -EBADMSG,
                      "choice: \"?\" is none of: none, red, green");
        check_refused(&all_table, "{\"span\":\"soon\"}", -EBADMSG,
                      "span: is not a span of time (seconds, or \"250ms\", \"5s\", \"10m\", "
                      "\"2h\", \"1d\")");
}

static void test_secrets_stay_out_of_errors(void **state) {
        static const char *const texts[] = {
                "{\"id\":1,\"secret\":\"hunter 2\"}",   "{\"id\":1,\"choice\":\"hunter 2\"}",
                "{\"id\":1,\"secret\":\"hunter 2\" x}", "{\"id\":1,\"secret\":\"hunter 2",
                "{\"id\":1,\"secret\":hunter}",         "{\"id\":1,\"secret\":[\"hunter\"]}",
        };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(texts); i++) {
                _cleanup_(error_freep) Error *e = NULL;
                All all = { 0 };

                assert_int_equal(json_decode(texts[i], strlen(texts[i]), &short_table, JSON_STRICT,
                                             &all, &e),
                                 -EBADMSG);
                assert_null(strstr(error_text(e), "hunter"));
        }
}

static void test_text_that_is_no_json(void **state) {
        static const struct {
                const char *text;
                int code;
                const char *words;
        } rows[] = {
                { "", -EBADMSG, "line 1" },
                { "{", -EBADMSG, "line 1, column 1: string or '}' expected" },
                { "{}x", -EBADMSG, "end of file expected" },
                { "{} {}", -EBADMSG, "end of file expected" },
                { "{\n\"number\":1,\n\"number\":2}", -EBADMSG, "line 3" },
                { "{\"number\":1,\"number\":2}", -EBADMSG,
                  "duplicate object key near '\"number\"'" },
                { "{\"any\":{\"a\":1,\"a\":2}}", -EBADMSG, "duplicate object key" },
                { "{\"string\":\"a\\u0000b\"}", -EBADMSG, "\\u0000 is not allowed" },
                { "{\"a\\u0000\":1}", -EBADMSG, "line 1" },
                { "{\"string\":\"\xff\"}", -EBADMSG, "unable to decode byte 0xff" },
                { "{\"string\":\"\xed\xa0\x80\"}", -EBADMSG, "unable to decode byte" },
                { "{\"string\":\"\\ud800\"}", -EBADMSG, "line 1" },
                { "{\"number\":9223372036854775808}", -ERANGE, "too big integer" },
                { "{\"number\":-9223372036854775809}", -ERANGE, "too big negative integer" },
                { "{\"number\":1e999}", -ERANGE, "real number overflow" },
                { "{\"number\":NaN}", -EBADMSG, "line 1" },
                { "{'number':1}", -EBADMSG, "line 1" },
                { "{\"number\":01}", -EBADMSG, "line 1" },
                { "\xef\xbb\xbf{}", -EBADMSG, "line 1" },
        };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(error_freep) Error *e = NULL;
                All all = { 0 };

                assert_int_equal(json_decode(rows[i].text, strlen(rows[i].text), &all_table,
                                             JSON_LENIENT, &all, &e),
                                 rows[i].code);
                if (!strstr(error_text(e), rows[i].words))
                        fail_msg("\"%s\" is not in \"%s\"", rows[i].words, error_text(e));
                assert_true(is_zero(&all));
        }
        assert_int_equal(json_decode("{}\0", 3, &all_table, JSON_LENIENT, &(All){ 0 }, NULL),
                         -EBADMSG);
}

static void test_depth(void **state) {
        static const char quoted[] = "[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[\"]";
        char text[2 * (LIMIT_JSON_DEPTH + 1) + 1];
        _cleanup_(error_freep) Error *e = NULL;
        Json *value = NULL;

        (void) state;
        memset(text, '[', LIMIT_JSON_DEPTH);
        memset(text + LIMIT_JSON_DEPTH, ']', LIMIT_JSON_DEPTH);
        assert_int_equal(json_parse(text, 2 * LIMIT_JSON_DEPTH, &value, NULL), 0);
        json_free(value);

        memset(text, '[', LIMIT_JSON_DEPTH + 1);
        memset(text + LIMIT_JSON_DEPTH + 1, ']', LIMIT_JSON_DEPTH + 1);
        assert_int_equal(json_parse(text, 2 * (LIMIT_JSON_DEPTH + 1), &value, &e), -EBADMSG);
        assert_string_equal(error_text(e), "nested deeper than 32 levels");
        assert_int_equal(json_parse(quoted, strlen(quoted), &value, NULL), 0);
        json_free(value);
}

static void test_spans(void **state) {
        static const struct {
                const char *text, *written;
                usec_t usec;
        } rows[] = {
                { "{\"span\":0}", "0", 0 },
                { "{\"span\":30}", "30", SEC(30) },
                { "{\"span\":0.1}", "0.1", MSEC(100) },
                { "{\"span\":0.000001}", "0.000001", 1 },
                { "{\"span\":\"250ms\"}", "0.25", MSEC(250) },
                { "{\"span\":\"1d\"}", "86400", SEC(86400) },
                { "{\"span\":1e3}", "1000", SEC(1000) },
                { "{\"span\":1125899906.842623}", "1125899906.842623", (UINT64_C(1) << 50) - 1 },
                { "{\"span\":\"1125899907.5\"}", "1125899907", SEC(UINT64_C(1125899907)) },
                { "{\"span\":18446744073709}", "18446744073709", SEC(UINT64_C(18446744073709)) },
        };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(buf_done) Buf text = BUF_INIT(4096);
                All all = { 0 }, again = { 0 };
                _cleanup_free_ char *written = str_format("\"span\":%s,", rows[i].written);

                assert_int_equal(json_decode(rows[i].text, strlen(rows[i].text), &all_table,
                                             JSON_STRICT, &all, NULL),
                                 0);
                assert_true(all.span == rows[i].usec);
                assert_int_equal(json_encode(&all_table, &all, &text), 0);
                assert_non_null(strstr(buf_str(&text), written));
                assert_int_equal(
                        json_decode(text.data, text.size, &all_table, JSON_STRICT, &again, NULL),
                        0);
                assert_true(again.span == all.span);
        }
}

static void test_scalars_of_a_map(void **state) {
        static const char text[] =
                "{\"map\":{\"i\":-7,\"r\":0.1,\"big\":1e300,\"t\":true,\"f\":false,\"n\":null}}";
        All all = { 0 };

        (void) state;
        assert_int_equal(json_decode(text, strlen(text), &all_table, JSON_STRICT, &all, NULL), 0);
        assert_string_equal(json_map_get(&all.map, "i"), "-7");
        assert_string_equal(json_map_get(&all.map, "r"), "0.1");
        assert_string_equal(json_map_get(&all.map, "big"), "1e+300");
        assert_string_equal(json_map_get(&all.map, "t"), "true");
        assert_string_equal(json_map_get(&all.map, "f"), "false");
        assert_string_equal(json_map_get(&all.map, "n"), "");
        assert_null(json_map_get(&all.map, "x"));
        json_table_done(&all_table, &all);
}

static void test_map_set(void **state) {
        JsonMap map = { 0 };

        (void) state;
        assert_int_equal(json_map_set(&map, 2, "a", "1"), 0);
        assert_int_equal(json_map_set(&map, 2, "b", "2"), 0);
        assert_int_equal(json_map_set(&map, 2, "c", "3"), -E2BIG);
        assert_int_equal(json_map_set(&map, 2, "a", "4"), 0);
        assert_int_equal(json_map_set(&map, 2, "b", json_map_get(&map, "a")), 0);
        assert_string_equal(json_map_get(&map, "b"), "4");
        assert_int_equal(map.n, 2);
        json_map_done(&map);
        assert_null(map.pairs);
        json_map_done(&map);
}

static void test_array_add(void **state) {
        All all = check_decoded(&short_table, "{\"id\":1,\"parts\":[{\"name\":\"a\"}]}",
                                "{\"id\":1,\"parts\":[{\"name\":\"a\",\"n\":null}]}");
        Part *part;

        (void) state;
        part = json_array_add(&all.parts, &part_table, 2);
        assert_non_null(part);
        assert_null(part->name);
        part->name = strdup("b");
        assert_null(json_array_add(&all.parts, &part_table, 2));
        check_encoded(
                &short_table, &all,
                "{\"id\":1,\"parts\":[{\"name\":\"a\",\"n\":null},{\"name\":\"b\",\"n\":null}]}");
        json_table_done(&short_table, &all);
}

static void test_copy_is_deep(void **state) {
        All all = check_decoded(&all_table, whole, whole), copy = { 0 };

        (void) state;
        assert_int_equal(json_table_copy(&all_table, &all, &copy), 0);
        assert_ptr_not_equal(copy.string, all.string);
        assert_ptr_not_equal(copy.map.pairs[0].value, all.map.pairs[0].value);
        json_table_done(&all_table, &all);
        check_encoded(&all_table, &copy, whole);
        json_table_done(&all_table, &copy);
}

static void test_encode_refuses_what_no_one_could_read(void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(1000), small = BUF_INIT(100);
        char invalid[] = "\xff";
        All all = { .string = invalid };

        (void) state;
        buf_append_str(&text, "x");
        assert_int_equal(json_encode(&all_table, &all, &text), -EINVAL);
        assert_null(json_encode_value(&all_table, &all));
        all = (All){ .number = UINT64_MAX };
        assert_int_equal(json_encode(&all_table, &all, &text), -ERANGE);
        all = (All){ .choice = 3 };
        assert_int_equal(json_encode(&all_table, &all, &text), -EINVAL);
        all = (All){ .choice = -1 };
        assert_int_equal(json_encode(&all_table, &all, &text), -EINVAL);
        all = (All){ .choice = 1 };
        assert_int_equal(json_encode(&all_table, &all, &small), -EFBIG);
        assert_int_equal(small.size, 0);
        assert_string_equal(buf_str(&text), "x");
}

static void test_values(void **state) {
        _cleanup_(json_freep) Json *value = NULL, *scalar = NULL;
        _cleanup_(buf_done) Buf compact = BUF_INIT(4096), pretty = BUF_INIT(4096),
                                small = BUF_INIT(3);
        All all = check_decoded(&all_table, whole, whole), again = { 0 };

        (void) state;
        value = json_encode_value(&all_table, &all);
        assert_non_null(value);
        assert_int_equal(json_decode_value(value, &all_table, JSON_STRICT, &again, NULL), 0);
        check_encoded(&all_table, &again, whole);
        assert_int_equal(json_print(value, false, &compact), 0);
        assert_string_equal(buf_str(&compact), whole);
        assert_int_equal(json_print(value, true, &pretty), 0);
        assert_non_null(strstr(buf_str(&pretty), "{\n  \"string\": "));
        assert_int_equal(json_print(value, false, &small), -EFBIG);

        assert_int_equal(json_parse(" \"x\" ", 5, &scalar, NULL), 0);
        assert_int_equal(json_print(scalar, false, &small), 0);
        assert_string_equal(buf_str(&small), "\"x\"");
        assert_null(json_free(NULL));
        json_table_done(&all_table, &all);
        json_table_done(&all_table, &again);
}

static unsigned line_of(void *userdata, const JsonPlace *place, const char **name) {
        if (place->up && place->key && str_equal(place->key, "b"))
                *name = "other";
        return place->value ? *(unsigned *) userdata : 0;
}

static void test_positions(void **state) {
        static const struct {
                const char *text, *words;
        } rows[] = {
                { "{\"number\":0}", "file:7: number: 0 is below 1" },
                { "{\"b\":0}", "other:7: b: unknown key; " },
                { "{\"parts\":[{}]}", "file: parts[0].name: is missing" },
                { "[]", "file:7: must be an object" },
        };
        unsigned line = 7;
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(error_freep) Error *e = NULL;
                _cleanup_(json_freep) Json *value = NULL;
                All all = { 0 };

                assert_int_equal(json_parse(rows[i].text, strlen(rows[i].text), &value, NULL), 0);
                assert_true(json_decode_lines(value, &all_table, JSON_STRICT, "file", line_of,
                                              &line, &all, &e) < 0);
                assert_true(str_has_prefix(error_text(e), rows[i].words));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_kind_there_and_back),
                cmocka_unit_test(test_nothing_there_and_back),
                cmocka_unit_test(test_empty_members_are_omitted),
                cmocka_unit_test(test_empty_is_not_missing),
                cmocka_unit_test(test_missing_and_unknown),
                cmocka_unit_test(test_lenient_ignores_the_unknown),
                cmocka_unit_test(test_wrong_kinds),
                cmocka_unit_test(test_bounds),
                cmocka_unit_test(test_forms),
                cmocka_unit_test(test_secrets_stay_out_of_errors),
                cmocka_unit_test(test_text_that_is_no_json),
                cmocka_unit_test(test_depth),
                cmocka_unit_test(test_spans),
                cmocka_unit_test(test_scalars_of_a_map),
                cmocka_unit_test(test_map_set),
                cmocka_unit_test(test_array_add),
                cmocka_unit_test(test_copy_is_deep),
                cmocka_unit_test(test_encode_refuses_what_no_one_could_read),
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_positions),
        };

        return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
