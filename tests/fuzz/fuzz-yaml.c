/*
 * YAML text into a struct with a member of every kind, from there to JSON and back: what was
 * accepted once is written in a form that is accepted again and written the same. Every refusal has
 * words that begin with the name.
 */

#include "base/yaml.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Aliases make more text of little; what is larger is not compared. */
#define TEXT_MAX_BYTES ((size_t) 1 << 20)

typedef struct Node {
        char *name;
        bool on;
        JsonArray nodes;
} Node;

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
        Node node;
        JsonArray nodes;
        Json *any;
} All;

/* clang-format off */
static const char *const colors[] = { "none", "red", "green", NULL };

static const JsonTable node_table;
static const JsonField node_fields[] = {
        { "name",  JSON_KIND_STRING, JSON_REQUIRED,   offsetof(Node, name),  0, 0, NULL, NULL },
        { "on",    JSON_KIND_BOOL,   0,               offsetof(Node, on),    0, 0, NULL, NULL },
        { "nodes", JSON_KIND_ARRAY,  JSON_OMIT_EMPTY, offsetof(Node, nodes), 0, 3, NULL, &node_table },
        { 0 },
};
static const JsonTable node_table = { node_fields, sizeof(Node) };

static const JsonField all_fields[] = {
        { "string",  JSON_KIND_STRING, 0, offsetof(All, string),  0, 0, NULL,   NULL },
        { "label",   JSON_KIND_LABEL,  0, offsetof(All, label),   0, 0, NULL,   NULL },
        { "sha256",  JSON_KIND_SHA256, 0, offsetof(All, sha256),  0, 0, NULL,   NULL },
        { "boolean", JSON_KIND_BOOL,   0, offsetof(All, boolean), 0, 0, NULL,   NULL },
        { "number",  JSON_KIND_U64,    0, offsetof(All, number),  0, 0, NULL,   NULL },
        { "span",    JSON_KIND_SPAN,   0, offsetof(All, span),    0, 0, NULL,   NULL },
        { "choice",  JSON_KIND_ENUM,   0, offsetof(All, choice),  0, 0, colors, NULL },
        { "list",    JSON_KIND_STRV,   0, offsetof(All, list),    0, 9, NULL,   NULL },
        { "map",     JSON_KIND_MAP,    0, offsetof(All, map),     0, 9, NULL,   NULL },
        { "node",    JSON_KIND_OBJECT, 0, offsetof(All, node),    0, 0, NULL,   &node_table },
        { "nodes",   JSON_KIND_ARRAY,  0, offsetof(All, nodes),   0, 3, NULL,   &node_table },
        { "any",     JSON_KIND_ANY,    0, offsetof(All, any),     0, 0, NULL,   NULL },
        { 0 },
};
static const JsonTable all_table = { all_fields, sizeof(All) };
/* clang-format on */

static void must(bool holds) {
        if (!holds)
                abort();
}

static void check_again(const All *all) {
        _cleanup_(buf_done) Buf first = BUF_INIT(TEXT_MAX_BYTES), second = BUF_INIT(TEXT_MAX_BYTES);
        All again = { 0 };

        if (json_encode(&all_table, all, &first) < 0)
                return;

        must(json_decode(first.data, first.size, &all_table, JSON_STRICT, &again, NULL) == 0);
        must(json_encode(&all_table, &again, &second) == 0);
        json_table_done(&all_table, &again);
        must(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(yaml_freep) YamlDoc *doc = NULL;
        _cleanup_(error_freep) Error *e = NULL, *strict = NULL;
        static const All zero;
        All all = { 0 };

        if (yaml_parse((const char *) data, size, "f", &doc, &e) < 0) {
                must(!doc && str_has_prefix(error_text(e), "f:"));
                return 0;
        }

        must(yaml_line(doc, yaml_root(doc)) > 0 ||
             json_decode_value(yaml_root(doc), &all_table, JSON_LENIENT, &all, NULL) < 0);
        json_table_done(&all_table, &all);

        if (yaml_decode_doc(doc, "f", &all_table, JSON_STRICT, &all, &strict) < 0)
                must(str_has_prefix(error_text(strict), "f:") &&
                     memcmp(&all, &zero, sizeof(all)) == 0);
        else
                check_again(&all);
        json_table_done(&all_table, &all);
        return 0;
}
