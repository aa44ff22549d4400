/*
 * JSON text into a struct with a member of every kind, and back: what was accepted once is written
 * in a form that is accepted again and written the same.
 */

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/time.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Node {
        char *name;
        uint64_t n;
        JsonArray nodes;
} Node;

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
        Inner required;
        JsonArray nodes;
        Json *any;
} All;

/* clang-format off */
static const char *const colors[] = { "none", "red", "green", NULL };

static const JsonTable node_table;
static const JsonField node_fields[] = {
        { "name",  JSON_KIND_STRING, JSON_REQUIRED,   offsetof(Node, name),  0, 0, NULL, NULL },
        { "n",     JSON_KIND_U64,    0,               offsetof(Node, n),     1, 9, NULL, NULL },
        { "nodes", JSON_KIND_ARRAY,  JSON_OMIT_EMPTY, offsetof(Node, nodes), 0, 8, NULL, &node_table },
        { 0 },
};
static const JsonTable node_table = { node_fields, sizeof(Node) };

static const JsonField inner_fields[] = {
        { "on",    JSON_KIND_BOOL, 0, offsetof(Inner, on),    0,         0,       NULL,   NULL },
        { "wait",  JSON_KIND_SPAN, 0, offsetof(Inner, wait),  MSEC(100), SEC(60), NULL,   NULL },
        { "color", JSON_KIND_ENUM, 0, offsetof(Inner, color), 0,         0,       colors, NULL },
        { 0 },
};
static const JsonTable inner_table = { inner_fields, sizeof(Inner) };

static const JsonField all_fields[] = {
        { "string",   JSON_KIND_STRING, 0,               offsetof(All, string),   2, 0, NULL,   NULL },
        { "label",    JSON_KIND_LABEL,  JSON_SECRET,     offsetof(All, label),    0, 0, NULL,   NULL },
        { "sha256",   JSON_KIND_SHA256, 0,               offsetof(All, sha256),   0, 0, NULL,   NULL },
        { "boolean",  JSON_KIND_BOOL,   JSON_OMIT_EMPTY, offsetof(All, boolean),  0, 0, NULL,   NULL },
        { "number",   JSON_KIND_U64,    0,               offsetof(All, number),   0, 0, NULL,   NULL },
        { "span",     JSON_KIND_SPAN,   0,               offsetof(All, span),     0, 0, NULL,   NULL },
        { "choice",   JSON_KIND_ENUM,   0,               offsetof(All, choice),   0, 0, colors, NULL },
        { "list",     JSON_KIND_STRV,   0,               offsetof(All, list),     0, 9, NULL,   NULL },
        { "map",      JSON_KIND_MAP,    0,               offsetof(All, map),      0, 9, NULL,   NULL },
        { "inner",    JSON_KIND_OBJECT, 0,               offsetof(All, inner),    0, 0, NULL,   &inner_table },
        { "required", JSON_KIND_OBJECT, JSON_REQUIRED,   offsetof(All, required), 0, 0, NULL,   &inner_table },
        { "nodes",    JSON_KIND_ARRAY,  0,               offsetof(All, nodes),    0, 8, NULL,   &node_table },
        { "any",      JSON_KIND_ANY,    0,               offsetof(All, any),      0, 0, NULL,   NULL },
        { 0 },
};
static const JsonTable all_table = { all_fields, sizeof(All) };
/* clang-format on */

static void must(bool holds) {
        if (!holds)
                abort();
}

static bool is_zero(const All *all) {
        static const All zero;

        return memcmp(all, &zero, sizeof(All)) == 0;
}

static void check_again(const All *all, size_t size) {
        _cleanup_(buf_done) Buf first = BUF_INIT(size * 8 + 4096),
                                second = BUF_INIT(size * 8 + 4096);
        All again = { 0 }, copy = { 0 };

        must(json_encode(&all_table, all, &first) == 0);
        must(json_decode(first.data, first.size, &all_table, JSON_STRICT, &again, NULL) == 0);
        must(json_table_copy(&all_table, &again, &copy) == 0);
        json_table_done(&all_table, &again);
        must(json_encode(&all_table, &copy, &second) == 0);
        json_table_done(&all_table, &copy);
        must(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
}

static void check_value(const char *text, size_t size) {
        _cleanup_(json_freep) Json *value = NULL, *again = NULL;
        _cleanup_(buf_done) Buf first = BUF_INIT(size * 32 + 64), second = BUF_INIT(size * 32 + 64);

        if (json_parse(text, size, &value, NULL) < 0)
                return;

        must(json_print(value, true, &first) == 0);
        must(json_parse(first.data, first.size, &again, NULL) == 0);
        must(json_print(again, true, &second) == 0);
        must(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *text = (const char *) data;
        JsonMode mode;

        for (mode = JSON_LENIENT;; mode = JSON_STRICT) {
                _cleanup_(error_freep) Error *e = NULL;
                All all = { 0 };

                if (json_decode(text, size, &all_table, mode, &all, &e) < 0) {
                        must(is_zero(&all) && e && *error_text(e));
                } else {
                        check_again(&all, size);
                        json_table_done(&all_table, &all);
                        must(is_zero(&all));
                }
                if (mode == JSON_STRICT)
                        break;
        }

        check_value(text, size);
        return 0;
}
