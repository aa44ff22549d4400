#include "base/yaml.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <yaml.h>

#include "agent/limits.h"
#include "base/str.h"

/* Aliases are looked up one by one; no document of a person has so many. */
#define ANCHORS_MAX 1000

/* A plain scalar that is longer is no number that anybody wrote. */
#define REAL_MAX_BYTES 512

#define TAG_PREFIX "tag:yaml.org,2002:"

/* Where something stands, by a hash of what it is: a value, or a member of a value. Two things with
 * one 64-bit hash would exchange their lines in an error text, and nothing else. */
typedef struct LineRow {
        uint64_t id; /* 0: free */
        unsigned line;
} LineRow;

struct YamlDoc {
        json_t *root;
        LineRow *rows;
        size_t n_rows;
        size_t n_slots; /* a power of two, at least a third of them free */
};

typedef struct Anchor {
        char *name;
        json_t *value;
        size_t n_values; /* with all that it holds, aliases expanded */
        unsigned height; /* levels below and with it; 0: a scalar */
} Anchor;

/* An object or array that is not complete yet. */
typedef struct Level {
        json_t *value;
        json_t *merges; /* array of what stood behind "<<" */
        char *key;      /* read, its value is still to come */
        char *anchor;
        unsigned key_line;
        unsigned height;
        size_t n_values;
        bool key_is_merge;
} Level;

typedef struct Reader {
        yaml_parser_t parser;
        const char *name;
        Error **reterr;
        YamlDoc *doc;
        Level levels[LIMIT_YAML_DEPTH];
        unsigned n_levels;
        Anchor *anchors;
        size_t n_anchors;
        size_t n_values;
        unsigned n_documents;
        bool ended;
} Reader;

/* What an event brings: a value with its weight, owned. */
typedef struct Node {
        json_t *value;
        unsigned line;
        unsigned height;
        size_t n_values;
} Node;

/* --- lines --- */

static uint64_t mix(uint64_t x) {
        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        return x ^ x >> 31;
}

static uint64_t value_id(const json_t *value) {
        return mix((uintptr_t) value) | 1;
}

static uint64_t place_id(const json_t *parent, const char *key, size_t index) {
        uint64_t id = mix((uintptr_t) parent);

        if (!key)
                return mix(id + index + 1) | 1;
        for (; *key; key++)
                id = (id ^ (unsigned char) *key) * UINT64_C(0x100000001b3);
        return mix(id) | 1;
}

static LineRow *line_slot(LineRow *rows, size_t n_slots, uint64_t id) {
        size_t i = (size_t) (id >> 1) & (n_slots - 1);

        while (rows[i].id != 0 && rows[i].id != id)
                i = (i + 1) & (n_slots - 1);
        return rows + i;
}

static int lines_grow(YamlDoc *doc) {
        size_t i, n_slots = doc->n_slots > 0 ? doc->n_slots * 2 : 64;
        LineRow *rows;

        if (doc->n_rows < doc->n_slots / 3 * 2)
                return 0;

        rows = calloc(n_slots, sizeof(LineRow));
        if (!rows)
                return -ENOMEM;

        for (i = 0; i < doc->n_slots; i++)
                if (doc->rows[i].id != 0)
                        *line_slot(rows, n_slots, doc->rows[i].id) = doc->rows[i];
        free(doc->rows);
        doc->rows = rows;
        doc->n_slots = n_slots;
        return 0;
}

static int line_record(YamlDoc *doc, uint64_t id, unsigned line) {
        LineRow *row;

        if (lines_grow(doc) < 0)
                return -ENOMEM;

        row = line_slot(doc->rows, doc->n_slots, id);
        doc->n_rows += row->id == 0;
        *row = (LineRow){ .id = id, .line = line };
        return 0;
}

static unsigned line_find(const YamlDoc *doc, uint64_t id) {
        return doc->n_slots > 0 ? line_slot(doc->rows, doc->n_slots, id)->line : 0;
}

/* --- errors --- */

static int _printf_(4, 5)
        refuse(const Reader *p, unsigned line, int code, const char *format, ...) {
        _cleanup_(buf_done) Buf words = BUF_INIT(1024);
        _cleanup_free_ char *printable = NULL;
        va_list ap;

        va_start(ap, format);
        (void) buf_vprintf(&words, format, ap);
        va_end(ap);

        printable = str_printable(buf_str(&words), words.size);
        return error_set(p->reterr, code, "%s:%u: %s", p->name, line, printable ?: "not accepted");
}

static int refuse_memory(const Reader *p) {
        return error_set(p->reterr, -ENOMEM, "%s: out of memory", p->name);
}

/* What libyaml says; of bytes that are no text it gives the offset only. */
static int refuse_syntax(const Reader *p, const char *text) {
        unsigned line = (unsigned) p->parser.problem_mark.line + 1;
        const char *context = p->parser.context;
        size_t i;

        if (p->parser.error == YAML_MEMORY_ERROR)
                return refuse_memory(p);

        if (p->parser.error == YAML_READER_ERROR)
                for (line = 1, i = 0; i < p->parser.problem_offset; i++)
                        line += text[i] == '\n';
        return refuse(p, line, -EBADMSG, "%s%s%s%s", p->parser.problem ?: "not YAML",
                      context ? " (" : "", context ?: "", context ? ")" : "");
}

/* --- scalars --- */

static bool is_word(const char *text, const char *const *words) {
        for (; *words; words++)
                if (str_equal(*words, text))
                        return true;
        return false;
}

/* y and n alone are booleans in the specification and strings in every reader that people know. */
static const char *const null_words[] = { "", "~", "null", "Null", "NULL", NULL };
static const char *const true_words[] = { "yes",  "Yes", "YES", "true", "True",
                                          "TRUE", "on",  "On",  "ON",   NULL };
static const char *const false_words[] = { "no",    "No",  "NO",  "false", "False",
                                           "FALSE", "off", "Off", "OFF",   NULL };
static const char *const unreal_words[] = { ".inf",  ".Inf",  ".INF",  "+.inf", "+.Inf",
                                            "+.INF", "-.inf", "-.Inf", "-.INF", ".nan",
                                            ".NaN",  ".NAN",  NULL };

static unsigned digit_value(char c) {
        if (c >= '0' && c <= '9')
                return (unsigned) (c - '0');
        if (c >= 'a' && c <= 'f')
                return (unsigned) (c - 'a') + 10;
        if (c >= 'A' && c <= 'F')
                return (unsigned) (c - 'A') + 10;
        return 99;
}

/* Digits of one base with `_` between them, to the end or to a colon; false: none, or something
 * else among them. */
static bool read_digits(const char **text, unsigned base, uint64_t *n, bool *too_large) {
        const char *p = *text;
        bool any = false;

        for (; *p && *p != ':'; p++) {
                if (*p == '_')
                        continue;
                if (digit_value(*p) >= base)
                        return false;
                any = true;
                if (__builtin_mul_overflow(*n, base, n) ||
                    __builtin_add_overflow(*n, digit_value(*p), n))
                        *too_large = true;
        }
        *text = p;
        return any;
}

/* The ":59" parts of a number to base 60, each of one or two digits. */
static bool read_sixties(const char **text, uint64_t *n, bool *too_large) {
        const char *p = *text;
        uint64_t part;
        size_t k;

        while (*p == ':') {
                for (part = 0, k = 0, p++; k < 2 && *p >= '0' && *p <= '9'; k++, p++)
                        part = part * 10 + (uint64_t) (*p - '0');
                if (k == 0 || part > 59)
                        return false;
                if (__builtin_mul_overflow(*n, 60U, n) || __builtin_add_overflow(*n, part, n))
                        *too_large = true;
        }
        *text = p;
        return true;
}

/* 0, -EINVAL (no integer), -ERANGE (one beyond 64 bits with a sign). */
static int parse_integer(const char *text, json_int_t *ret) {
        bool negative = *text == '-', too_large = false;
        unsigned base = 10;
        uint64_t n = 0;

        text += *text == '-' || *text == '+';
        if (*text < '0' || *text > '9')
                return -EINVAL;

        if (text[0] == '0' && text[1]) {
                base = text[1] == 'x' ? 16 : text[1] == 'b' ? 2 : 8;
                text += text[1] == 'x' || text[1] == 'b' || text[1] == 'o' ? 2 : 1;
        }
        if (!read_digits(&text, base, &n, &too_large))
                return -EINVAL;
        if (base == 10 && !read_sixties(&text, &n, &too_large))
                return -EINVAL;
        if (*text)
                return -EINVAL;
        if (too_large || n > (uint64_t) INT64_MAX + negative)
                return -ERANGE;

        *ret = negative ? (json_int_t) (0 - n) : (json_int_t) n;
        return 0;
}

/* digits "." digits, either of which may be missing but not both; then an exponent, which has a
 * sign. Copies what strtod() can read. */
static bool read_decimal(const char *text, char to[REAL_MAX_BYTES]) {
        size_t n_digits = 0, n = 0;
        const char *p;
        bool point = false;

        if (strlen(text) >= REAL_MAX_BYTES)
                return false;

        for (p = text; *p && *p != 'e' && *p != 'E'; p++) {
                if (*p == '.' && !point)
                        point = true;
                else if (*p >= '0' && *p <= '9')
                        n_digits++;
                else if (*p == '_' && p > text)
                        continue;
                else
                        return false;
                to[n++] = *p;
        }
        to[n] = 0;
        if (!point || n_digits == 0)
                return false;
        if (!*p)
                return true;
        if ((p[1] != '+' && p[1] != '-') || !p[2] || strspn(p + 2, "0123456789") != strlen(p + 2))
                return false;
        memcpy(to + n, p, strlen(p) + 1);
        return true;
}

/* 0, -EINVAL (no fraction), -ERANGE (beyond what a double holds). */
static int parse_real(const char *text, double *ret) {
        const char *start = text + (*text == '-' || *text == '+'), *point;
        bool too_large = false;
        char clean[REAL_MAX_BYTES];
        uint64_t sixties = 0;
        double real;

        if (strchr(start, ':')) {
                point = start;
                if (*start < '0' || *start > '9' ||
                    !read_digits(&point, 10, &sixties, &too_large) ||
                    !read_sixties(&point, &sixties, &too_large) || *point != '.' ||
                    strspn(point + 1, "0123456789_") != strlen(point + 1))
                        return -EINVAL;
                start = point;
        }

        /* "12:30." has no digit behind its point, which read_decimal() wants somewhere. */
        if (sixties > 0 && !start[1])
                real = 0;
        else if (read_decimal(start, clean))
                real = strtod(clean, NULL);
        else
                return -EINVAL;

        real += (double) sixties;
        if (too_large || !isfinite(real))
                return -ERANGE;

        *ret = *text == '-' ? -real : real;
        return 0;
}

/* The type that YAML 1.1 gives to a plain scalar. *ret stays NULL where memory is short. */
static int resolve_plain(const Reader *p, const char *text, unsigned line, json_t **ret) {
        json_int_t integer;
        double real;
        int r;

        if (is_word(text, null_words)) {
                *ret = json_null();
                return 0;
        }
        if (is_word(text, true_words) || is_word(text, false_words)) {
                *ret = json_boolean(is_word(text, true_words));
                return 0;
        }
        if (is_word(text, unreal_words))
                return refuse(p, line, -ERANGE,
                              "%s is a number without a value (write it in quotes if it is text)",
                              text);

        r = parse_integer(text, &integer);
        if (r >= 0)
                *ret = json_integer(integer);
        if (r == -EINVAL) {
                r = parse_real(text, &real);
                if (r >= 0)
                        *ret = json_real(real);
        }
        if (r == -ERANGE)
                return refuse(
                        p, line, r,
                        "a number that is too large to count (write it in quotes if it is text)");
        if (r == -EINVAL)
                *ret = json_string(text);
        return 0;
}

static bool is_tag(const char *tag, const char *name) {
        return str_has_prefix(tag, TAG_PREFIX) && str_equal(tag + strlen(TAG_PREFIX), name);
}

/* A tag demands a type: what the text is must then be that. */
static bool fits_tag(const char *tag, const json_t *value) {
        if (is_tag(tag, "int"))
                return json_is_integer(value);
        if (is_tag(tag, "float"))
                return json_is_number(value);
        if (is_tag(tag, "bool"))
                return json_is_boolean(value);
        return is_tag(tag, "null") && json_is_null(value);
}

/* The text of a scalar, inside the event; NULL after an error. */
static const char *scalar_text(const Reader *p, const yaml_event_t *event, unsigned line) {
        const char *text = (const char *) event->data.scalar.value;

        if (strlen(text) == event->data.scalar.length)
                return text;

        (void) refuse(p, line, -EBADMSG, "contains a NUL character");
        return NULL;
}

static int scalar_value(const Reader *p, const yaml_event_t *event, unsigned line, json_t **ret) {
        const char *tag = (const char *) event->data.scalar.tag;
        bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        const char *text = scalar_text(p, event, line);
        int r;

        if (!text)
                return -EBADMSG;

        if (tag ? is_tag(tag, "str") || str_equal(tag, "!") : !plain) {
                *ret = json_string(text);
                return *ret ? 0 : refuse_memory(p);
        }

        r = resolve_plain(p, text, line, ret);
        if (r < 0)
                return r;
        if (!*ret)
                return refuse_memory(p);
        if (tag && !fits_tag(tag, *ret))
                return refuse(p, line, -EBADMSG, "the tag %s does not fit here", tag);
        return 0;
}

/* --- building --- */

static int anchor_add(Reader *p, const char *name, const Node *node) {
        _cleanup_free_ char *copy = NULL;
        Anchor *grown;

        if (!name)
                return 0;
        if (p->n_anchors >= ANCHORS_MAX)
                return refuse(p, node->line, -EFBIG, "more than %d anchors", ANCHORS_MAX);

        copy = strdup(name);
        grown = copy ? realloc(p->anchors, (p->n_anchors + 1) * sizeof(Anchor)) : NULL;
        if (!grown)
                return refuse_memory(p);

        p->anchors = grown;
        p->anchors[p->n_anchors++] = (Anchor){
                .name = TAKE_PTR(copy),
                .value = json_incref(node->value),
                .n_values = node->n_values,
                .height = node->height,
        };
        return 0;
}

/* The last one of a name counts. An anchor is known only once its value is complete: no value
 * contains itself. */
static const Anchor *anchor_find(const Reader *p, const char *name) {
        size_t i;

        for (i = p->n_anchors; i > 0; i--)
                if (str_equal(p->anchors[i - 1].name, name))
                        return p->anchors + i - 1;
        return NULL;
}

static int merge_remember(Reader *p, Level *level, const Node *node) {
        size_t i;
        bool fits = json_is_object(node->value) || json_is_array(node->value);
        int r;

        for (i = 0; i < json_array_size(node->value); i++)
                fits = fits && json_is_object(json_array_get(node->value, i));
        if (!fits)
                return refuse(p, node->line, -EBADMSG, "a merge key (<<) takes maps only");

        level->merges = json_array();
        if (!level->merges)
                return refuse_memory(p);
        r = json_is_array(node->value) ? json_array_extend(level->merges, node->value)
                                       : json_array_append(level->merges, node->value);
        return r < 0 ? refuse_memory(p) : 0;
}

static int attach_member(Reader *p, Level *level, const Node *node) {
        unsigned line = node->height > 0 ? level->key_line : node->line;

        if (json_object_get(level->value, level->key))
                return refuse(p, level->key_line, -EBADMSG, "duplicate key \"%.100s\"", level->key);
        if (json_object_set_nocheck(level->value, level->key, node->value) < 0 ||
            line_record(p->doc, place_id(level->value, level->key, 0), line) < 0)
                return refuse_memory(p);
        return 0;
}

static int attach_element(Reader *p, Level *level, const Node *node) {
        if (json_array_append(level->value, node->value) < 0 ||
            line_record(p->doc, place_id(level->value, NULL, json_array_size(level->value) - 1),
                        node->line) < 0)
                return refuse_memory(p);
        return 0;
}

/* Puts a complete value where it belongs: into the container around it, or as the root. */
static int attach(Reader *p, const Node *node) {
        Level *level;
        int r;

        if (p->n_levels == 0) {
                p->doc->root = json_incref(node->value);
                return 0;
        }

        level = p->levels + p->n_levels - 1;
        level->n_values += node->n_values;
        level->height = MAX(level->height, node->height + 1);
        if (json_is_array(level->value))
                return attach_element(p, level, node);
        if (!level->key)
                return refuse(p, node->line, -EBADMSG, "a key must be a scalar");

        r = level->key_is_merge ? merge_remember(p, level, node) : attach_member(p, level, node);
        freep(&level->key);
        level->key = NULL;
        return r;
}

/* Counts new values, aliases with all that they stand for. */
static int count_values(Reader *p, size_t n, unsigned line) {
        p->n_values += n;
        if (p->n_values > LIMIT_YAML_VALUES)
                return refuse(p, line, -EFBIG, "more than %d values, aliases expanded",
                              LIMIT_YAML_VALUES);
        return 0;
}

static int take_key(Reader *p, Level *level, const yaml_event_t *event, unsigned line) {
        const char *tag = (const char *) event->data.scalar.tag;
        const char *text = scalar_text(p, event, line);

        if (!text)
                return -EBADMSG;
        if (event->data.scalar.anchor || (tag && !is_tag(tag, "str")))
                return refuse(p, line, -EBADMSG, "a key with an anchor or a tag");

        level->key_is_merge = str_equal(text, "<<") && !tag &&
                              event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        if (level->key_is_merge && level->merges)
                return refuse(p, line, -EBADMSG, "duplicate key \"<<\"");

        level->key_line = line;
        level->key = strdup(text);
        return level->key ? 0 : refuse_memory(p);
}

static int on_scalar(Reader *p, const yaml_event_t *event, unsigned line) {
        _cleanup_(json_freep) json_t *value = NULL;
        Node node = { .line = line, .n_values = 1 };
        Level *level = p->n_levels > 0 ? p->levels + p->n_levels - 1 : NULL;
        int r;

        if (level && json_is_object(level->value) && !level->key)
                return take_key(p, level, event, line);

        r = count_values(p, 1, line);
        if (r >= 0)
                r = scalar_value(p, event, line, &value);
        if (r < 0)
                return r;

        node.value = value;
        if ((json_is_string(value) || json_is_number(value)) &&
            line_record(p->doc, value_id(value), line) < 0)
                return refuse_memory(p);
        r = anchor_add(p, (const char *) event->data.scalar.anchor, &node);
        return r < 0 ? r : attach(p, &node);
}

static int on_alias(Reader *p, const yaml_event_t *event, unsigned line) {
        const Anchor *anchor = anchor_find(p, (const char *) event->data.alias.anchor);
        int r;

        if (!anchor)
                return refuse(p, line, -EBADMSG,
                              "the alias *%.100s has no complete anchor before it",
                              (const char *) event->data.alias.anchor);
        if (p->n_levels + anchor->height > LIMIT_YAML_DEPTH)
                return refuse(p, line, -EBADMSG, "nested deeper than %d levels", LIMIT_YAML_DEPTH);

        r = count_values(p, anchor->n_values, line);
        if (r < 0)
                return r;
        return attach(p, &(Node){ anchor->value, line, anchor->height, anchor->n_values });
}

static int on_begin(Reader *p, bool is_map, const char *tag, const char *anchor, unsigned line) {
        Level *level;
        int r;

        if (tag && !is_tag(tag, is_map ? "map" : "seq") && !str_equal(tag, "!"))
                return refuse(p, line, -EBADMSG, "the tag %.100s does not fit here", tag);
        if (p->n_levels > 0 && json_is_object(p->levels[p->n_levels - 1].value) &&
            !p->levels[p->n_levels - 1].key)
                return refuse(p, line, -EBADMSG, "a key must be a scalar");
        if (p->n_levels >= LIMIT_YAML_DEPTH)
                return refuse(p, line, -EBADMSG, "nested deeper than %d levels", LIMIT_YAML_DEPTH);
        r = count_values(p, 1, line);
        if (r < 0)
                return r;

        level = p->levels + p->n_levels++;
        *level = (Level){
                .value = is_map ? json_object() : json_array(),
                .anchor = anchor ? strdup(anchor) : NULL,
                .height = 1,
                .n_values = 1,
        };
        if (!level->value || (anchor && !level->anchor) ||
            line_record(p->doc, value_id(level->value), line) < 0)
                return refuse_memory(p);
        return 0;
}

static void level_done(Level *level) {
        json_decref(level->value);
        json_decref(level->merges);
        free(level->key);
        free(level->anchor);
}

/* A map's own keys win over merged ones, an earlier merged map over a later one. */
static int merge_apply(Reader *p, Level *level) {
        const char *key;
        json_t *source, *value;
        unsigned line;
        size_t i;

        json_array_foreach(level->merges, i, source) json_object_foreach(source, key, value) {
                if (json_object_get(level->value, key))
                        continue;
                line = line_find(p->doc, place_id(source, key, 0));
                if (json_object_set_nocheck(level->value, key, value) < 0 ||
                    line_record(p->doc, place_id(level->value, key, 0), line) < 0)
                        return refuse_memory(p);
        }
        return 0;
}

static int on_end(Reader *p) {
        _cleanup_(level_done) Level level = p->levels[--p->n_levels];
        Node node;
        int r;

        node = (Node){
                .value = level.value,
                .line = line_find(p->doc, value_id(level.value)),
                .height = level.height,
                .n_values = level.n_values,
        };
        r = merge_apply(p, &level);
        if (r >= 0)
                r = anchor_add(p, level.anchor, &node);
        return r < 0 ? r : attach(p, &node);
}

static int on_event(Reader *p, const yaml_event_t *event) {
        unsigned line = (unsigned) event->start_mark.line + 1;

        switch (event->type) {
        case YAML_SCALAR_EVENT:
                return on_scalar(p, event, line);
        case YAML_ALIAS_EVENT:
                return on_alias(p, event, line);
        case YAML_SEQUENCE_START_EVENT:
                return on_begin(p, false, (const char *) event->data.sequence_start.tag,
                                (const char *) event->data.sequence_start.anchor, line);
        case YAML_MAPPING_START_EVENT:
                return on_begin(p, true, (const char *) event->data.mapping_start.tag,
                                (const char *) event->data.mapping_start.anchor, line);
        case YAML_SEQUENCE_END_EVENT:
        case YAML_MAPPING_END_EVENT:
                return on_end(p);
        case YAML_DOCUMENT_START_EVENT:
                if (p->n_documents++ > 0)
                        return refuse(p, line, -EBADMSG, "a second document (---)");
                return 0;
        case YAML_STREAM_END_EVENT:
                p->ended = true;
                return 0;
        case YAML_NO_EVENT:
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT:
        default:
                return 0;
        }
}

static int read_events(Reader *p, const char *text) {
        yaml_event_t event;
        int r;

        while (!p->ended) {
                if (!yaml_parser_parse(&p->parser, &event))
                        return refuse_syntax(p, text);
                r = on_event(p, &event);
                yaml_event_delete(&event);
                if (r < 0)
                        return r;
        }

        /* Nothing but comments, or a document without anything in it. */
        if (!p->doc->root || json_is_null(p->doc->root)) {
                p->doc->root = json_object();
                if (!p->doc->root || line_record(p->doc, value_id(p->doc->root), 1) < 0)
                        return refuse_memory(p);
        }
        return 0;
}

static void reader_done(Reader *p) {
        size_t i;

        for (i = 0; i < p->n_levels; i++)
                level_done(p->levels + i);
        for (i = 0; i < p->n_anchors; i++) {
                free(p->anchors[i].name);
                json_decref(p->anchors[i].value);
        }
        free(p->anchors);
        yaml_parser_delete(&p->parser);
}

int yaml_parse(const char *text, size_t size, const char *name, YamlDoc **ret, Error **reterr) {
        _cleanup_(yaml_freep) YamlDoc *doc = calloc(1, sizeof(YamlDoc));
        Reader p = { .name = name, .reterr = reterr, .doc = doc };
        int r;

        if (!doc || !yaml_parser_initialize(&p.parser))
                return refuse_memory(&p);

        yaml_parser_set_input_string(&p.parser, (const unsigned char *) text, size);
        yaml_parser_set_encoding(&p.parser, YAML_UTF8_ENCODING);
        r = read_events(&p, text);
        reader_done(&p);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(doc);
        return 0;
}

/* --- use --- */

const Json *yaml_root(const YamlDoc *doc) {
        return doc->root;
}

unsigned yaml_line(const YamlDoc *doc, const Json *value) {
        return line_find(doc, value_id(value));
}

unsigned yaml_line_at(const YamlDoc *doc, const Json *parent, const char *key, size_t index) {
        return line_find(doc, place_id(parent, key, index));
}

/* What is missing stands nowhere: then the line is that of the object around it. */
static unsigned line_of(void *userdata, const JsonPlace *place, const char **name) {
        const YamlDoc *doc = userdata;
        unsigned line = 0;

        (void) name;
        for (; place && line == 0; place = place->up) {
                if (place->up)
                        line = yaml_line_at(doc, place->up->value, place->key, place->index);
                if (line == 0 && place->value)
                        line = yaml_line(doc, place->value);
        }
        return line;
}

int yaml_decode_doc(const YamlDoc *doc, const char *name, const JsonTable *table, JsonMode mode,
                    void *ret, Error **reterr) {
        return json_decode_lines(doc->root, table, mode, name, line_of, (void *) (uintptr_t) doc,
                                 ret, reterr);
}

int yaml_decode(const char *text, size_t size, const char *name, const JsonTable *table,
                JsonMode mode, void *ret, Error **reterr) {
        _cleanup_(yaml_freep) YamlDoc *doc = NULL;
        int r;

        r = yaml_parse(text, size, name, &doc, reterr);
        if (r < 0)
                return r;
        return yaml_decode_doc(doc, name, table, mode, ret, reterr);
}

YamlDoc *yaml_doc_free(YamlDoc *doc) {
        if (!doc)
                return NULL;

        json_decref(doc->root);
        free(doc->rows);
        free(doc);
        return NULL;
}
