#include "base/yaml.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/str.h"
#include "base/time.h"

/* Parses and compares with compact JSON. */
static void check(const char *text, const char *expected) {
        _cleanup_(yaml_freep) YamlDoc *doc = NULL;
        _cleanup_(error_freep) Error *e = NULL;
        _cleanup_(buf_done) Buf json = BUF_INIT(65536);

        if (yaml_parse(text, strlen(text), "f", &doc, &e) < 0)
                fail_msg("%s: %s", text, error_text(e));
        assert_int_equal(json_print(yaml_root(doc), false, &json), 0);
        assert_string_equal(buf_str(&json), expected);
}

static void check_refused(const char *text, int code, const char *words) {
        _cleanup_(yaml_freep) YamlDoc *doc = NULL;
        _cleanup_(error_freep) Error *e = NULL;

        assert_int_equal(yaml_parse(text, strlen(text), "f", &doc, &e), code);
        assert_null(doc);
        if (!strstr(error_text(e), words))
                fail_msg("\"%s\" is not in \"%s\"", words, error_text(e));
        assert_int_equal(yaml_parse(text, strlen(text), "f", &doc, NULL), code);
}

static void test_nothing_is_an_empty_object(void **state) {
        (void) state;
        check("", "{}");
        check("# only a comment\n", "{}");
        check("---\n", "{}");
        check("--- ~\n...\n", "{}");
        check("\xef\xbb\xbf"
              "a: 1\n",
              "{\"a\":1}");
}

static void test_structure(void **state) {
        (void) state;
        check("a:\n  b: [1, x, {c: d}]\n  e:\n  - f\n  - - g\n",
              "{\"a\":{\"b\":[1,\"x\",{\"c\":\"d\"}],\"e\":[\"f\",[\"g\"]]}}");
        check("- 1\n- 2\n", "[1,2]");
        check("text\n", "\"text\"");
        check("a: |\n  x\n  y\nb: >-\n  x\n  y\n", "{\"a\":\"x\\ny\\n\",\"b\":\"x y\"}");
        check("{}", "{}");
        check("a: {}\nb: []\n", "{\"a\":{},\"b\":[]}");
        check("? a\n: b\n", "{\"a\":\"b\"}");
}

static void test_types_of_plain_scalars(void **state) {
        static const char *const rows[][2] = {
                { "~", "null" },
                { "null", "null" },
                { "Null", "null" },
                { "NULL", "null" },
                { "", "null" },
                { "nULL", "\"nULL\"" },
                { "yes", "true" },
                { "Yes", "true" },
                { "on", "true" },
                { "TRUE", "true" },
                { "no", "false" },
                { "Off", "false" },
                { "false", "false" },
                { "yEs", "\"yEs\"" },
                { "y", "\"y\"" },
                { "n", "\"n\"" },
                { "0", "0" },
                { "-0", "0" },
                { "+12", "12" },
                { "-12", "-12" },
                { "1_000", "1000" },
                { "010", "8" },
                { "0o10", "8" },
                { "0x1F", "31" },
                { "0xff_ff", "65535" },
                { "0b101", "5" },
                { "-0x10", "-16" },
                { "08", "\"08\"" },
                { "0x", "\"0x\"" },
                { "0o", "\"0o\"" },
                { "0b2", "\"0b2\"" },
                { "0xg", "\"0xg\"" },
                { "_1", "\"_1\"" },
                { "1a", "\"1a\"" },
                { "--1", "\"--1\"" },
                { "-", "[null]" },
                { "1:30", "90" },
                { "1:00:01", "3601" },
                { "1:60", "\"1:60\"" },
                { "1:", "{\"1\":null}" },
                { "0:30", "\"0:30\"" },
                { "8080:80", "\"8080:80\"" },
                { "1:5", "65" },
                { "9223372036854775807", "9223372036854775807" },
                { "-9223372036854775808", "-9223372036854775808" },
                { "1.5", "1.5" },
                { "-.5", "-0.5" },
                { "1.", "1.0" },
                { ".", "\".\"" },
                { "1_0.5", "10.5" },
                { "1.0e+3", "1000.0" },
                { "1.0e3", "\"1.0e3\"" },
                { "1e3", "\"1e3\"" },
                { "1.2.3", "\"1.2.3\"" },
                { "1.0e+", "\"1.0e+\"" },
                { "1:30.5", "90.5" },
                { "v1.5", "\"v1.5\"" },
                { "1:2.x", "\"1:2.x\"" },
                { "2001-12-14", "\"2001-12-14\"" },
                { "=", "\"=\"" },
                { "a b", "\"a b\"" },
                { "1 2", "\"1 2\"" },
                { "'1'", "\"1\"" },
                { "\"yes\"", "\"yes\"" },
                { "''", "\"\"" },
                { "\"\\x41\\u00e4\"", "\"A\xc3\xa4\"" },
        };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_free_ char *text = str_format("k:\n  %s\n", rows[i][0]);
                _cleanup_free_ char *expected = str_format("{\"k\":%s}", rows[i][1]);

                check(text, expected);
        }
}

static void test_tags(void **state) {
        (void) state;
        check("a: !!str 1\nb: !!int \"0x10\"\nc: ! yes\nd: !!float 1\ne: !!bool on\nf: !!null ''\n",
              "{\"a\":\"1\",\"b\":16,\"c\":\"yes\",\"d\":1,\"e\":true,\"f\":null}");
        check("!!map {a: !!seq [1]}", "{\"a\":[1]}");
        check_refused("a: !!int x\n", -EBADMSG,
                      "f:1: the tag tag:yaml.org,2002:int does not fit here");
        check_refused("a: 1\nb: !Ref x\n", -EBADMSG, "f:2: the tag !Ref does not fit here");
        check_refused("a: !!binary aGk=\n", -EBADMSG, "f:1: the tag");
        check_refused("a: !!set {x}\n", -EBADMSG, "f:1: the tag");
        check_refused("a: !!str [x]\n", -EBADMSG, "f:1: the tag");
        check_refused("!x a: 1\n", -EBADMSG, "a key with an anchor or a tag");
}

static void test_keys(void **state) {
        (void) state;
        check("1: a\nyes: b\n~: c\n01_x: d\n",
              "{\"1\":\"a\",\"yes\":\"b\",\"~\":\"c\",\"01_x\":\"d\"}");
        check_refused("a: 1\nb: 2\n\"a\": 3\n", -EBADMSG, "f:3: duplicate key \"a\"");
        check_refused("? [a]\n: 1\n", -EBADMSG, "f:1: a key must be a scalar");
        check_refused("? {a: b}\n: 1\n", -EBADMSG, "f:1: a key must be a scalar");
        check_refused("a: &x y\n*x : 1\n", -EBADMSG, "f:2: a key must be a scalar");
        check_refused("&x a: 1\n", -EBADMSG, "f:1: a key with an anchor");
        check_refused("\"a\\0b\": 1\n", -EBADMSG, "f:1: contains a NUL");
        check_refused("a: \"a\\0b\"\n", -EBADMSG, "f:1: contains a NUL");
}

static void test_anchors(void **state) {
        (void) state;
        check("a: &x 1\nb: *x\nc: [*x, *x]\n", "{\"a\":1,\"b\":1,\"c\":[1,1]}");
        check("a: &x [yes]\nb: *x\nc: &x 2\nd: *x\n",
              "{\"a\":[true],\"b\":[true],\"c\":2,\"d\":2}");
        check_refused("a: 1\nb: *none\n", -EBADMSG,
                      "f:2: the alias *none has no complete anchor before it");
        check_refused("a: &x [*x]\n", -EBADMSG,
                      "f:1: the alias *x has no complete anchor before it");
        check_refused("&x a: *x\n", -EBADMSG, "f:1: ");
}

static void test_merge_keys(void **state) {
        (void) state;
        check("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n",
              "{\"a\":{\"x\":1,\"y\":2},\"b\":{\"y\":3,\"x\":1}}");
        check("b:\n  <<: [{x: 1}, {x: 2, y: 3}]\n", "{\"b\":{\"x\":1,\"y\":3}}");
        check("b: {<<: {x: 1}}\n", "{\"b\":{\"x\":1}}");
        check("b: {'<<': 1}\n", "{\"b\":{\"<<\":1}}");
        check_refused("a: 1\nb: {<<: 1}\n", -EBADMSG, "f:2: a merge key (<<) takes maps only");
        check_refused("b: {<<: [1]}\n", -EBADMSG, "takes maps only");
        check_refused("b: {<<: {a: 1}, <<: {b: 1}}\n", -EBADMSG, "duplicate key \"<<\"");
}

static void test_numbers_nobody_can_count(void **state) {
        (void) state;
        check_refused("a: 1\nb: 9223372036854775808\n", -ERANGE, "f:2: a number that is too large");
        check_refused("a: -9223372036854775809\n", -ERANGE, "f:1: a number that is too large");
        check_refused("a: 1.0e+999\n", -ERANGE, "f:1: a number that is too large");
        check_refused("a: .inf\n", -ERANGE, "f:1: .inf is a number without a value");
        check_refused("a: .NaN\n", -ERANGE, "without a value");
        check("a: '9223372036854775808'\n", "{\"a\":\"9223372036854775808\"}");
}

static void test_syntax_errors_have_lines(void **state) {
        (void) state;
        check_refused("a: 1\nb: [1\nc: 2\n", -EBADMSG, "f:3: ");
        check_refused("a: 1\n\tb: 2\n", -EBADMSG, "f:2: ");
        check_refused("a: 'x\n", -EBADMSG, "f:");
        check_refused("a: 1\n---\nb: 2\n", -EBADMSG, "f:2: a second document");
        check_refused("a: 1\nb: \"\xff\"\n", -EBADMSG, "f:2: ");
        check_refused("a: 1\nb: \x01\n", -EBADMSG, "f:2: control characters are not allowed");
        check_refused("a: b: c\n", -EBADMSG, "f:1: ");
        check_refused("%YAML 3.0\n---\na: 1\n", -EBADMSG, "f:1: ");
        check_refused("a: \"\\ud800\"\n", -EBADMSG, "f:1: ");
}

/* n times "[", or nested block maps. */
static void check_depth(unsigned n, bool accepted) {
        _cleanup_(buf_done) Buf text = BUF_INIT(10000);
        _cleanup_(yaml_freep) YamlDoc *doc = NULL;
        _cleanup_(error_freep) Error *e = NULL;
        unsigned i;
        int r;

        for (i = 0; i < n; i++)
                buf_append_str(&text, "[");
        for (i = 0; i < n; i++)
                buf_append_str(&text, "]");
        r = yaml_parse(buf_str(&text), text.size, "f", &doc, &e);
        assert_int_equal(r, accepted ? 0 : -EBADMSG);
        if (!accepted)
                assert_string_equal(error_text(e), "f:1: nested deeper than 32 levels");
}

static void test_depth(void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(10000);
        unsigned i;

        (void) state;
        check_depth(LIMIT_YAML_DEPTH, true);
        check_depth(LIMIT_YAML_DEPTH + 1, false);
        check_depth(1000, false);

        /* Aliases of aliases are as deep as what they stand for. */
        buf_append_str(&text, "a0: &a0 [1]\n");
        for (i = 1; i <= LIMIT_YAML_DEPTH; i++)
                buf_printf(&text, "a%u: &a%u [*a%u]\n", i, i, i - 1);
        check_refused(buf_str(&text), -EBADMSG, "nested deeper than 32 levels");
}

static void test_aliases_that_explode(void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(2000000);
        unsigned i;

        (void) state;
        buf_append_str(&text, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for (i = 1; i < 10; i++)
                buf_printf(&text, "a%u: &a%u [*a%u,*a%u,*a%u,*a%u,*a%u,*a%u,*a%u,*a%u,*a%u,*a%u]\n",
                           i, i, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1,
                           i - 1);
        check_refused(buf_str(&text), -EFBIG, "more than 100000 values, aliases expanded");

        buf_clear(&text);
        buf_append_str(&text, "a: &a {k: 1}\n");
        for (i = 1; i < 40; i++)
                buf_printf(&text, "m%u: &a {<<: *a, k%u: [*a, *a]}\n", i, i);
        check_refused(buf_str(&text), -EFBIG, "more than 100000 values");

        buf_clear(&text);
        for (i = 0; i <= 1000; i++)
                buf_printf(&text, "- &x%u 1\n", i);
        check_refused(buf_str(&text), -EFBIG, "f:1001: more than 1000 anchors");

        buf_clear(&text);
        for (i = 0; i <= LIMIT_YAML_VALUES; i++)
                buf_append_str(&text, "- 1\n");
        check_refused(buf_str(&text), -EFBIG, "more than 100000 values");
}

typedef struct Item {
        char *name;
        bool on;
} Item;

typedef struct Config {
        bool on;
        uint64_t number;
        usec_t wait;
        Item item;
        JsonArray items;
        JsonMap map;
        char **list;
        Json *any;
} Config;

/* clang-format off */
static const JsonField item_fields[] = {
        { "name", JSON_KIND_LABEL, JSON_REQUIRED, offsetof(Item, name), 0, 0, NULL, NULL },
        { "on",   JSON_KIND_BOOL,  0,             offsetof(Item, on),   0, 0, NULL, NULL },
        { 0 },
};
static const JsonTable item_table = { item_fields, sizeof(Item) };

static const JsonField config_fields[] = {
        { "on",     JSON_KIND_BOOL,   0, offsetof(Config, on),     0, 0,       NULL, NULL },
        { "number", JSON_KIND_U64,    0, offsetof(Config, number), 1, 9,       NULL, NULL },
        { "wait",   JSON_KIND_SPAN,   0, offsetof(Config, wait),   0, SEC(60), NULL, NULL },
        { "item",   JSON_KIND_OBJECT, 0, offsetof(Config, item),   0, 0,       NULL, &item_table },
        { "items",  JSON_KIND_ARRAY,  0, offsetof(Config, items),  0, 9,       NULL, &item_table },
        { "map",    JSON_KIND_MAP,    0, offsetof(Config, map),    0, 9,       NULL, NULL },
        { "list",   JSON_KIND_STRV,   0, offsetof(Config, list),   0, 9,       NULL, NULL },
        { "any",    JSON_KIND_ANY,    0, offsetof(Config, any),    0, 0,       NULL, NULL },
        { 0 },
};
static const JsonTable config_table = { config_fields, sizeof(Config) };
/* clang-format on */

static void test_decode(void **state) {
        static const char text[] = "on: yes\nnumber: 0x7\nwait: 1m\nitem:\n  name: a\n  on: off\n"
                                   "items:\n- name: b\n  on: on\nmap: {A: 1, B: yes, C: , D: "
                                   "1.10}\nlist: [x, 'y']\nany: {k: [~]}\n";
        Config config = { 0 };
        const Item *items;

        (void) state;
        assert_int_equal(
                yaml_decode(text, strlen(text), "f", &config_table, JSON_STRICT, &config, NULL), 0);
        items = config.items.items;
        assert_true(config.on && config.number == 7 && config.wait == SEC(60));
        assert_string_equal(config.item.name, "a");
        assert_true(!config.item.on && items[0].on);
        assert_string_equal(json_map_get(&config.map, "B"), "true");
        assert_string_equal(json_map_get(&config.map, "C"), "");
        assert_string_equal(json_map_get(&config.map, "D"), "1.1");
        assert_non_null(config.any);
        json_table_done(&config_table, &config);
}

static void test_errors_name_the_right_line(void **state) {
        static const char *const rows[][2] = {
                { "number: 1\non: 5\n", "f:2: on: must be true or false, not a number" },
                { "on: yes\n\nnumber: yes\n",
                  "f:3: number: must be a whole number, not a boolean" },
                { "on: yes\nitem:\n  on: on\n  name:\n    yes\n",
                  "f:5: item.name: must be a string, not a boolean (write it in quotes)" },
                { "on: yes\nnumber:\n  no\n",
                  "f:3: number: must be a whole number, not a boolean" },
                { "on: no\nitem: yes\n", "f:2: item: must be an object, not a boolean" },
                { "on: no\nlist:\n- a\n- no\n",
                  "f:4: list[1]: must be a string, not a boolean (write it in quotes)" },
                { "list:\n- a\n- \n", "f:3: list[1]: must be a string, not null" },
                { "items:\n- name: a\n- on: no\n", "f:3: items[1].name: is missing" },
                { "on: no\n\nitem:\n  on: no\n", "f:3: item.name: is missing" },
                { "on: no\nlist:\n  a: b\n",
                  "f:2: list: must be an array of strings, not an object" },
                { "on: no\nnumbr: 1\n", "f:2: numbr: unknown key; did you mean \"number\"?" },
                { "on: no\nitem:\n  name: a\n  onn: no\n",
                  "f:4: item.onn: unknown key; did you mean \"on\"?" },
                { "on: no\nfoo:\n  bar: 1\n", "f:2: foo: unknown key; allowed: on, " },
                { "map:\n  A: [1]\n", "f:2: map.A: must be a string" },
                { "wait: 61\n", "f:1: wait: 1 min 1 s is above 1 min" },
                { "- a\n", "f:1: must be an object, not an array" },
                { "any: &b\n  name: a\n  on: 7\nitem:\n  <<: *b\n",
                  "f:3: item.on: must be true or false" },
                { "any: &b\n  name: yes\nitem:\n  <<: *b\n",
                  "f:2: item.name: must be a string, not a boolean" },
                { "any: &b 7\n\non: *b\n", "f:3: on: must be true or false" },
        };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(error_freep) Error *e = NULL;
                Config config = { 0 }, zero = { 0 };

                assert_true(yaml_decode(rows[i][0], strlen(rows[i][0]), "f", &config_table,
                                        JSON_STRICT, &config, &e) < 0);
                if (!str_has_prefix(error_text(e), rows[i][1]))
                        fail_msg("\"%s\" does not begin with \"%s\"", error_text(e), rows[i][1]);
                assert_memory_equal(&config, &zero, sizeof(config));
        }
}

static void test_lines(void **state) {
        static const char text[] = "number: 1\n\nlist:\n- a\non: yes\n";
        _cleanup_(yaml_freep) YamlDoc *doc = NULL;

        (void) state;
        assert_int_equal(yaml_parse(text, strlen(text), "f", &doc, NULL), 0);
        assert_int_equal(yaml_line(doc, yaml_root(doc)), 1);
        assert_int_equal(yaml_line_at(doc, yaml_root(doc), "list", 0), 3);
        assert_int_equal(yaml_line_at(doc, yaml_root(doc), "on", 0), 5);
        assert_int_equal(yaml_line_at(doc, yaml_root(doc), "off", 0), 0);
        assert_int_equal(yaml_line(doc, NULL), 0);
        assert_null(yaml_doc_free(NULL));
}

static void test_any_outlives_the_document(void **state) {
        static const char text[] = "any: {k: [1, yes]}\n";
        _cleanup_(buf_done) Buf json = BUF_INIT(1000);
        Config config = { 0 };

        (void) state;
        assert_int_equal(
                yaml_decode(text, strlen(text), "f", &config_table, JSON_STRICT, &config, NULL), 0);
        assert_int_equal(json_print(config.any, false, &json), 0);
        assert_string_equal(buf_str(&json), "{\"k\":[1,true]}");
        json_table_done(&config_table, &config);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nothing_is_an_empty_object),
                cmocka_unit_test(test_structure),
                cmocka_unit_test(test_types_of_plain_scalars),
                cmocka_unit_test(test_tags),
                cmocka_unit_test(test_keys),
                cmocka_unit_test(test_anchors),
                cmocka_unit_test(test_merge_keys),
                cmocka_unit_test(test_numbers_nobody_can_count),
                cmocka_unit_test(test_syntax_errors_have_lines),
                cmocka_unit_test(test_depth),
                cmocka_unit_test(test_aliases_that_explode),
                cmocka_unit_test(test_decode),
                cmocka_unit_test(test_errors_name_the_right_line),
                cmocka_unit_test(test_lines),
                cmocka_unit_test(test_any_outlives_the_document),
        };

        return cmocka_run_group_tests_name("yaml", tests, NULL, NULL);
}
