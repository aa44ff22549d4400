#include "base/json.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "base/time.h"

/* A double has 53 bits. Above this (35 years) reading and multiplying could be half a microsecond
 * wrong: whole seconds remain. */
#define SPAN_EXACT_USEC (UINT64_C(1) << 50)

#define SUGGEST_MAX_BYTES 64
#define SUGGEST_DISTANCE  2

typedef struct Decoder {
        JsonMode mode;
        const char *name;
        JsonLineOf line_of;
        void *userdata;
        Error **reterr;
} Decoder;

/* --- words of errors --- */

static void path_append(Buf *path, const JsonPlace *place) {
        _cleanup_free_ char *key = NULL;

        if (!place->up)
                return;

        path_append(path, place->up);
        if (!place->key) {
                (void) buf_printf(path, "[%zu]", place->index);
                return;
        }

        key = str_printable(place->key, strnlen(place->key, 128));
        (void) buf_printf(path, "%s%s", path->size > 0 ? "." : "", key ?: "?");
}

static char *position_text(const Decoder *d, const JsonPlace *place) {
        const char *name = d->name;
        unsigned line;

        line = d->line_of ? d->line_of(d->userdata, place, &name) : 0;
        if (!name)
                return strdup("");
        return line > 0 ? str_format("%s:%u: ", name, line) : str_format("%s: ", name);
}

static int _printf_(4, 5)
        refuse(const Decoder *d, const JsonPlace *place, int code, const char *format, ...) {
        _cleanup_(buf_done) Buf path = BUF_INIT(1024), words = BUF_INIT(8192);
        _cleanup_free_ char *position = NULL;
        va_list ap;

        if (!d->reterr)
                return code;

        position = position_text(d, place);
        path_append(&path, place);
        va_start(ap, format);
        if (buf_vprintf(&words, format, ap) < 0)
                (void) buf_append_str(&words, "not accepted");
        va_end(ap);

        return error_set(d->reterr, code, "%s%s%s%s", position ?: "", buf_str(&path),
                         path.size > 0 ? ": " : "", buf_str(&words));
}

static const char *kind_text(const Json *value) {
        switch (json_typeof(value)) {
        case JSON_OBJECT:
                return "an object";
        case JSON_ARRAY:
                return "an array";
        case JSON_STRING:
                return "a string";
        case JSON_INTEGER:
        case JSON_REAL:
                return "a number";
        case JSON_TRUE:
        case JSON_FALSE:
                return "a boolean";
        case JSON_NULL:
                return "null";
        default:
                return "something else";
        }
}

static int refuse_kind(const Decoder *d, const JsonPlace *place, const char *wanted) {
        bool quote = strcmp(wanted, "a string") == 0 &&
                     (json_is_number(place->value) || json_is_boolean(place->value));

        return refuse(d, place, -EBADMSG, "must be %s, not %s%s", wanted, kind_text(place->value),
                      quote ? " (write it in quotes)" : "");
}

/* The value for an error text, in quotes and without what a terminal could obey; the caller frees.
 */
static char *quote(const JsonField *field, const char *text) {
        _cleanup_free_ char *printable = NULL;

        if (field->flags & JSON_SECRET)
                return strdup("the value");

        printable = str_printable(text, strnlen(text, 128));
        return printable ? str_format("\"%s\"", printable) : NULL;
}

/* Levenshtein's distance, with one row of the matrix. */
static unsigned edit_distance(const char *a, const char *b) {
        unsigned row[SUGGEST_MAX_BYTES + 1], corner, above;
        size_t i, j, n = strlen(a), k = strlen(b);

        if (n > SUGGEST_MAX_BYTES || k > SUGGEST_MAX_BYTES)
                return UINT_MAX;

        for (j = 0; j <= k; j++)
                row[j] = (unsigned) j;
        for (i = 1; i <= n; i++) {
                corner = row[0];
                row[0] = (unsigned) i;
                for (j = 1; j <= k; j++) {
                        above = row[j];
                        row[j] = MIN(MIN(row[j], row[j - 1]) + 1, corner + (a[i - 1] != b[j - 1]));
                        corner = above;
                }
        }
        return row[k];
}

typedef struct Suggestion {
        const char *wrong;
        const char *best;
        unsigned distance;
        Buf all;
} Suggestion;

#define SUGGESTION_INIT(text)                                                                      \
        { .wrong = (text), .distance = SUGGEST_DISTANCE + 1, .all = BUF_INIT(4096) }

static void suggestion_add(Suggestion *s, const char *name) {
        unsigned distance = edit_distance(s->wrong, name);

        (void) buf_printf(&s->all, "%s%s", s->all.size > 0 ? ", " : "", name);
        if (distance < s->distance && distance < strlen(name)) {
                s->distance = distance;
                s->best = name;
        }
}

static int refuse_unknown(const Decoder *d, const JsonPlace *place, const JsonTable *table) {
        Suggestion s = SUGGESTION_INIT(place->key);
        const JsonField *field;
        int r;

        for (field = table->fields; field->name; field++)
                suggestion_add(&s, field->name);

        r = refuse(d, place, -EBADMSG, "unknown key%s%s%s; allowed: %s",
                   s.best ? "; did you mean \"" : "", s.best ?: "", s.best ? "\"?" : "",
                   buf_str(&s.all));
        buf_done(&s.all);
        return r;
}

static int refuse_name(const Decoder *d, const JsonPlace *place, const JsonField *field,
                       const char *text) {
        _cleanup_free_ char *quoted = quote(field, text);
        Suggestion s = SUGGESTION_INIT(text);
        size_t i;
        int r;

        for (i = 0; field->names[i]; i++)
                suggestion_add(&s, field->names[i]);
        if (field->flags & JSON_SECRET)
                s.best = NULL;

        r = refuse(d, place, -EBADMSG, "%s is none of: %s%s%s%s", quoted ?: "the value",
                   buf_str(&s.all), s.best ? "; did you mean \"" : "", s.best ?: "",
                   s.best ? "\"?" : "");
        buf_done(&s.all);
        return r;
}

/* --- reading --- */

static int decode_object(const Decoder *d, const JsonPlace *place, const JsonTable *table,
                         void *object);

/* A string without NUL, borrowed from the value. */
static int take_text(const Decoder *d, const JsonPlace *place, size_t max, const char **ret) {
        const char *text;

        if (!json_is_string(place->value))
                return refuse_kind(d, place, "a string");

        text = json_string_value(place->value);
        if (strlen(text) != json_string_length(place->value))
                return refuse(d, place, -EBADMSG, "contains a NUL character");
        if (strlen(text) > max)
                return refuse(d, place, -ERANGE, "%zu bytes are more than %zu", strlen(text), max);

        *ret = text;
        return 0;
}

static int decode_string(const Decoder *d, const JsonPlace *place, const JsonField *field,
                         char **member) {
        const char *text;
        int r;

        r = take_text(d, place, field->max > 0 ? field->max : LIMIT_STRING_BYTES, &text);
        if (r < 0)
                return r;
        if (strlen(text) < field->min)
                return refuse(d, place, -ERANGE, "%zu bytes are less than %llu", strlen(text),
                              (unsigned long long) field->min);

        *member = strdup(text);
        return *member ? 0 : -ENOMEM;
}

static int decode_formed(const Decoder *d, const JsonPlace *place, const JsonField *field,
                         char **member) {
        bool is_label = field->kind == JSON_KIND_LABEL;
        _cleanup_free_ char *quoted = NULL;
        const char *text;
        int r;

        r = take_text(d, place, LIMIT_STRING_BYTES, &text);
        if (r < 0)
                return r;

        if (!(is_label ? str_is_label(text) : str_is_sha256(text))) {
                quoted = quote(field, text);
                return refuse(d, place, -EBADMSG, "%s is not %s", quoted ?: "the value",
                              is_label ? "a name (1 to 100 of A-Z a-z 0-9 . _ -, beginning with a "
                                         "letter or a digit)"
                                       : "a SHA-256 (64 of 0-9 a-f)");
        }

        *member = strdup(text);
        return *member ? 0 : -ENOMEM;
}

static int decode_u64(const Decoder *d, const JsonPlace *place, const JsonField *field,
                      uint64_t *member) {
        long long n;
        bool hide = field->flags & JSON_SECRET;

        if (!json_is_integer(place->value))
                return refuse(d, place, -EBADMSG, "must be a whole number, not %s",
                              json_is_real(place->value) ? "a fraction" : kind_text(place->value));

        n = json_integer_value(place->value);
        if (n < 0 || (uint64_t) n < field->min)
                return hide ? refuse(d, place, -ERANGE, "is below %llu",
                                     (unsigned long long) field->min)
                            : refuse(d, place, -ERANGE, "%lld is below %llu", n,
                                     (unsigned long long) field->min);
        if (field->max > 0 && (uint64_t) n > field->max)
                return hide ? refuse(d, place, -ERANGE, "is above %llu",
                                     (unsigned long long) field->max)
                            : refuse(d, place, -ERANGE, "%lld is above %llu", n,
                                     (unsigned long long) field->max);

        *member = (uint64_t) n;
        return 0;
}

/* 0, -EINVAL (no span), -ERANGE. Rounded so that writing and reading again gives the same. */
static int take_span(const Json *value, usec_t *ret) {
        double seconds;
        usec_t usec;
        int r;

        if (json_is_string(value)) {
                r = time_parse_span(json_string_value(value), &usec);
                if (r < 0)
                        return r;
        } else if (json_is_integer(value)) {
                if (json_integer_value(value) < 0 ||
                    __builtin_mul_overflow((uint64_t) json_integer_value(value), SEC(1), &usec))
                        return -ERANGE;
        } else if (json_is_real(value)) {
                seconds = json_real_value(value);
                if (!(seconds >= 0 && seconds < 1e13))
                        return -ERANGE;
                usec = (usec_t) (seconds * 1e6 + 0.5);
        } else {
                return -EINVAL;
        }

        *ret = usec < SPAN_EXACT_USEC ? usec : usec - usec % SEC(1);
        return 0;
}

static int decode_span(const Decoder *d, const JsonPlace *place, const JsonField *field,
                       usec_t *member) {
        char is[32], bound[32];
        usec_t usec;
        int r;

        if (!json_is_string(place->value) && !json_is_number(place->value))
                return refuse_kind(d, place, "a span of time");

        r = take_span(place->value, &usec);
        if (r == -ERANGE)
                return refuse(d, place, r, "is not a span of time that can be counted");
        if (r < 0)
                return refuse(d, place, -EBADMSG,
                              "is not a span of time (seconds, or \"250ms\", \"5s\", \"10m\", "
                              "\"2h\", \"1d\")");

        time_format_span(usec, is);
        if (usec < field->min) {
                time_format_span(field->min, bound);
                return refuse(d, place, -ERANGE, "%s is below %s", is, bound);
        }
        if (field->max > 0 && usec > field->max) {
                time_format_span(field->max, bound);
                return refuse(d, place, -ERANGE, "%s is above %s", is, bound);
        }

        *member = usec;
        return 0;
}

static int decode_enum(const Decoder *d, const JsonPlace *place, const JsonField *field,
                       int *member) {
        const char *text;
        int i, r;

        r = take_text(d, place, LIMIT_STRING_BYTES, &text);
        if (r < 0)
                return r;

        for (i = 0; field->names[i]; i++)
                if (str_equal(field->names[i], text)) {
                        *member = i;
                        return 0;
                }
        return refuse_name(d, place, field, text);
}

/* Between min and max elements of an array or an object. */
static int check_count(const Decoder *d, const JsonPlace *place, const JsonField *field, size_t n) {
        if (n < field->min)
                return refuse(d, place, -ERANGE, "%zu entries are less than %llu", n,
                              (unsigned long long) field->min);
        if (n > field->max)
                return refuse(d, place, -ERANGE, "%zu entries are more than %llu", n,
                              (unsigned long long) field->max);
        return 0;
}

static int decode_strv(const Decoder *d, const JsonPlace *place, const JsonField *field,
                       char ***member) {
        size_t i, n = json_array_size(place->value);
        const char *text;
        int r;

        if (!json_is_array(place->value))
                return refuse_kind(d, place, "an array of strings");
        r = check_count(d, place, field, n);
        if (r < 0)
                return r;

        *member = calloc(n + 1, sizeof(char *));
        if (!*member)
                return -ENOMEM;

        for (i = 0; i < n; i++) {
                JsonPlace at = { place, NULL, i, json_array_get(place->value, i) };

                r = take_text(d, &at, LIMIT_STRING_BYTES, &text);
                if (r < 0)
                        return r;
                (*member)[i] = strdup(text);
                if (!(*member)[i])
                        return -ENOMEM;
        }
        return 0;
}

/* The fewest digits that read back as the same double. */
static char *real_text(double real) {
        char text[32];
        int precision;

        for (precision = 15; precision <= 17; precision++) {
                (void) snprintf(text, sizeof(text), "%.*g", precision, real);
                if (!(strtod(text, NULL) < real || strtod(text, NULL) > real))
                        break;
        }
        return strdup(text);
}

static int scalar_text(const Decoder *d, const JsonPlace *place, char **ret) {
        const char *text = "";
        int r;

        if (json_is_integer(place->value)) {
                *ret = str_format("%lld", (long long) json_integer_value(place->value));
                return *ret ? 0 : -ENOMEM;
        }
        if (json_is_real(place->value)) {
                *ret = real_text(json_real_value(place->value));
                return *ret ? 0 : -ENOMEM;
        }

        if (json_is_boolean(place->value)) {
                text = json_is_true(place->value) ? "true" : "false";
        } else if (!json_is_null(place->value)) {
                if (!json_is_string(place->value))
                        return refuse_kind(d, place, "a string, a number or a boolean");
                r = take_text(d, place, LIMIT_SETTING_VALUE_BYTES, &text);
                if (r < 0)
                        return r;
        }
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

static int decode_map(const Decoder *d, const JsonPlace *place, const JsonField *field,
                      JsonMap *member) {
        const char *key;
        json_t *value;
        int r;

        if (!json_is_object(place->value))
                return refuse_kind(d, place, "an object");
        r = check_count(d, place, field, json_object_size(place->value));
        if (r < 0 || json_object_size(place->value) == 0)
                return r;

        member->pairs = calloc(json_object_size(place->value), sizeof(JsonPair));
        if (!member->pairs)
                return -ENOMEM;

        json_object_foreach((json_t *) (uintptr_t) place->value, key, value) {
                JsonPlace at = { place, key, 0, value };
                JsonPair *pair = member->pairs + member->n;

                if (strlen(key) > LIMIT_STRING_BYTES)
                        return refuse(d, &at, -ERANGE, "a name of %zu bytes is longer than %d",
                                      strlen(key), LIMIT_STRING_BYTES);
                pair->name = strdup(key);
                if (!pair->name)
                        return -ENOMEM;
                member->n++;
                r = scalar_text(d, &at, &pair->value);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int decode_array(const Decoder *d, const JsonPlace *place, const JsonField *field,
                        JsonArray *member) {
        size_t i, n = json_array_size(place->value);
        int r;

        if (!json_is_array(place->value))
                return refuse_kind(d, place, "an array of objects");
        r = check_count(d, place, field, n);
        if (r < 0 || n == 0)
                return r;

        member->items = calloc(n, field->table->size);
        if (!member->items)
                return -ENOMEM;
        member->n = n;

        for (i = 0; i < n; i++) {
                JsonPlace at = { place, NULL, i, json_array_get(place->value, i) };

                r = decode_object(d, &at, field->table,
                                  (char *) member->items + i * field->table->size);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int decode_bool(const Decoder *d, const JsonPlace *place, bool *member) {
        if (!json_is_boolean(place->value))
                return refuse_kind(d, place, "true or false");

        *member = json_is_true(place->value);
        return 0;
}

static int decode_field(const Decoder *d, const JsonPlace *place, const JsonField *field,
                        void *member) {
        switch (field->kind) {
        case JSON_KIND_STRING:
                return decode_string(d, place, field, member);
        case JSON_KIND_LABEL:
        case JSON_KIND_SHA256:
                return decode_formed(d, place, field, member);
        case JSON_KIND_BOOL:
                return decode_bool(d, place, member);
        case JSON_KIND_U64:
                return decode_u64(d, place, field, member);
        case JSON_KIND_SPAN:
                return decode_span(d, place, field, member);
        case JSON_KIND_ENUM:
                return decode_enum(d, place, field, member);
        case JSON_KIND_STRV:
                return decode_strv(d, place, field, member);
        case JSON_KIND_MAP:
                return decode_map(d, place, field, member);
        case JSON_KIND_OBJECT:
                return decode_object(d, place, field->table, member);
        case JSON_KIND_ARRAY:
                return decode_array(d, place, field, member);
        case JSON_KIND_ANY:
                *(Json **) member = json_incref((json_t *) (uintptr_t) place->value);
                return 0;
        default:
                return -EINVAL;
        }
}

static int check_unknown(const Decoder *d, const JsonPlace *place, const JsonTable *table) {
        const JsonField *field;
        const char *key;
        json_t *value;

        json_object_foreach((json_t *) (uintptr_t) place->value, key, value) {
                for (field = table->fields; field->name; field++)
                        if (str_equal(field->name, key))
                                break;
                if (!field->name)
                        return refuse_unknown(d, &(JsonPlace){ place, key, 0, value }, table);
        }
        return 0;
}

static int decode_object(const Decoder *d, const JsonPlace *place, const JsonTable *table,
                         void *object) {
        const JsonField *field;
        int r;

        if (!json_is_object(place->value))
                return refuse_kind(d, place, "an object");
        if (d->mode == JSON_STRICT) {
                r = check_unknown(d, place, table);
                if (r < 0)
                        return r;
        }

        for (field = table->fields; field->name; field++) {
                JsonPlace at = { place, field->name, 0,
                                 json_object_get(place->value, field->name) };

                if (!at.value || json_is_null(at.value)) {
                        if (field->flags & JSON_REQUIRED)
                                return refuse(d, &at, -EBADMSG, "is missing");
                        continue;
                }
                r = decode_field(d, &at, field, (char *) object + field->offset);
                if (r < 0)
                        return r;
        }
        return 0;
}

int json_decode_lines(const Json *value, const JsonTable *table, JsonMode mode, const char *name,
                      JsonLineOf line_of, void *userdata, void *ret, Error **reterr) {
        Decoder d = { mode, name, line_of, userdata, reterr };
        int r;

        r = decode_object(&d, &(JsonPlace){ .value = value }, table, ret);
        if (r == -ENOMEM)
                (void) error_set(reterr, r, "%s%sout of memory", name ?: "", name ? ": " : "");
        if (r < 0)
                json_table_done(table, ret);
        return r;
}

int json_decode_value(const Json *value, const JsonTable *table, JsonMode mode, void *ret,
                      Error **reterr) {
        return json_decode_lines(value, table, mode, NULL, NULL, NULL, ret, reterr);
}

int json_decode(const char *text, size_t size, const JsonTable *table, JsonMode mode, void *ret,
                Error **reterr) {
        _cleanup_(json_freep) Json *value = NULL;
        int r;

        r = json_parse(text, size, &value, reterr);
        if (r < 0)
                return r;
        return json_decode_value(value, table, mode, ret, reterr);
}

/* --- values --- */

/* Counts brackets before the parser sees them: it would follow two thousand levels down. */
static bool is_too_deep(const char *text, size_t size) {
        bool in_string = false;
        unsigned depth = 0;
        size_t i;

        for (i = 0; i < size; i++) {
                if (in_string) {
                        if (text[i] == '\\')
                                i++;
                        else if (text[i] == '"')
                                in_string = false;
                } else if (text[i] == '"') {
                        in_string = true;
                } else if (text[i] == '[' || text[i] == '{') {
                        if (++depth > LIMIT_JSON_DEPTH)
                                return true;
                } else if ((text[i] == ']' || text[i] == '}') && depth > 0) {
                        depth--;
                }
        }
        return false;
}

/* The library's sentence without its excerpt: what stands near the error may be a secret. A
 * duplicate key is none. */
static int refuse_text(const json_error_t *e, Error **reterr) {
        _cleanup_free_ char *words = NULL;
        const char *near = strstr(e->text, " near ");
        size_t n = strlen(e->text);

        /* Where it finds no memory while it reads a token, it says nothing at all. */
        if (json_error_code(e) == json_error_out_of_memory || !*e->text)
                return error_set(reterr, -ENOMEM, "out of memory");
        if (near && json_error_code(e) != json_error_duplicate_key)
                n = (size_t) (near - e->text);

        words = str_printable(e->text, n);
        return error_set(reterr,
                         json_error_code(e) == json_error_numeric_overflow ? -ERANGE : -EBADMSG,
                         "line %d, column %d: %s", e->line, e->column, words ?: "not JSON");
}

int json_parse(const char *text, size_t size, Json **ret, Error **reterr) {
        json_error_t e = { 0 };
        json_t *value;

        if (is_too_deep(text, size))
                return error_set(reterr, -EBADMSG, "nested deeper than %d levels",
                                 LIMIT_JSON_DEPTH);

        value = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
        if (!value)
                return refuse_text(&e, reterr);

        *ret = value;
        return 0;
}

int json_print(const Json *value, bool pretty, Buf *ret) {
        size_t flags = JSON_ENCODE_ANY | (pretty ? JSON_INDENT(2) : JSON_COMPACT), n;
        void *to;

        n = json_dumpb(value, NULL, 0, flags);
        if (n == 0)
                return -ENOMEM;
        if (n > ret->max_bytes - ret->size)
                return -EFBIG;

        to = buf_reserve(ret, n);
        if (!to || json_dumpb(value, to, n, flags) != n)
                return -ENOMEM;
        buf_commit(ret, n);
        return 0;
}

Json *json_free(Json *value) {
        json_decref(value);
        return NULL;
}
