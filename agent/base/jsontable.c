/*
 * The other half of the tables: from a struct to text, and what else a struct with a table can do.
 * Reading is json.c.
 */

#include "base/json.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "base/time.h"

/* What json_encode_value() can make: the largest text that anybody here speaks. */
#define VALUE_TEXT_BYTES LIMIT_REPLY_BYTES

/* --- writing --- */

static int write_object(Buf *to, const JsonTable *table, const void *object);

static int write_string(Buf *to, const char *text) {
        static const char escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt";
        size_t n, size = strlen(text);
        const char *e;
        int r;

        if (!str_is_utf8(text, size, false))
                return -EINVAL;

        r = buf_append(to, "\"", 1);
        for (; r >= 0 && *text; text += n) {
                for (n = 0; (unsigned char) text[n] >= 0x20 && text[n] != '"' && text[n] != '\\';)
                        n++;
                r = buf_append(to, text, n);
                if (r < 0 || !text[n])
                        continue;

                for (e = escapes; *e && *e != text[n]; e += 2)
                        ;
                r = *e ? buf_printf(to, "\\%c", e[1])
                       : buf_printf(to, "\\u%04x", (unsigned) text[n]);
                n++;
        }
        return r < 0 ? r : buf_append(to, "\"", 1);
}

static int write_text(Buf *to, const char *text) {
        return text ? write_string(to, text) : buf_append_str(to, "null");
}

static int write_u64(Buf *to, uint64_t n) {
        if (n > INT64_MAX)
                return -ERANGE;
        return buf_printf(to, "%llu", (unsigned long long) n);
}

static int write_span(Buf *to, usec_t usec) {
        int r, n_digits = 6;
        usec_t fraction = usec % SEC(1);

        r = write_u64(to, usec / SEC(1));
        if (r < 0 || fraction == 0)
                return r;

        for (; fraction % 10 == 0; n_digits--)
                fraction /= 10;
        return buf_printf(to, ".%0*llu", n_digits, (unsigned long long) fraction);
}

static int write_strv(Buf *to, char *const *list) {
        size_t i;
        int r;

        if (!list)
                return buf_append_str(to, "null");

        r = buf_append(to, "[", 1);
        for (i = 0; r >= 0 && list[i]; i++) {
                r = i > 0 ? buf_append(to, ",", 1) : 0;
                if (r >= 0)
                        r = write_string(to, list[i]);
        }
        return r < 0 ? r : buf_append(to, "]", 1);
}

static int write_map(Buf *to, const JsonMap *map) {
        size_t i;
        int r;

        r = buf_append(to, "{", 1);
        for (i = 0; r >= 0 && i < map->n; i++) {
                r = i > 0 ? buf_append(to, ",", 1) : 0;
                if (r >= 0)
                        r = write_string(to, map->pairs[i].name);
                if (r >= 0)
                        r = buf_append(to, ":", 1);
                if (r >= 0)
                        r = write_string(to, map->pairs[i].value);
        }
        return r < 0 ? r : buf_append(to, "}", 1);
}

static int write_array(Buf *to, const JsonArray *array, const JsonTable *table) {
        size_t i;
        int r;

        r = buf_append(to, "[", 1);
        for (i = 0; r >= 0 && i < array->n; i++) {
                r = i > 0 ? buf_append(to, ",", 1) : 0;
                if (r >= 0)
                        r = write_object(to, table, (const char *) array->items + i * table->size);
        }
        return r < 0 ? r : buf_append(to, "]", 1);
}

static bool is_empty_object(const JsonTable *table, const void *object);

static bool is_empty(const JsonField *field, const void *member) {
        const char *text;

        switch (field->kind) {
        case JSON_KIND_STRING:
        case JSON_KIND_LABEL:
        case JSON_KIND_SHA256:
                text = *(char *const *) member;
                return !text || !*text;
        case JSON_KIND_BOOL:
                return !*(const bool *) member;
        case JSON_KIND_U64:
        case JSON_KIND_SPAN:
                return *(const uint64_t *) member == 0;
        case JSON_KIND_ENUM:
                return *(const int *) member == 0;
        case JSON_KIND_STRV:
                return strv_count(*(char **const *) member) == 0;
        case JSON_KIND_MAP:
                return ((const JsonMap *) member)->n == 0;
        case JSON_KIND_OBJECT:
                return is_empty_object(field->table, member);
        case JSON_KIND_ARRAY:
                return ((const JsonArray *) member)->n == 0;
        case JSON_KIND_ANY:
                return !*(Json *const *) member;
        default:
                return true;
        }
}

static bool is_empty_object(const JsonTable *table, const void *object) {
        const JsonField *field;

        for (field = table->fields; field->name; field++)
                if (!is_empty(field, (const char *) object + field->offset))
                        return false;
        return true;
}

/* A zero that the bounds of its row would refuse was never given: null reads back as that, 0 would
 * not. */
static bool is_absent(const JsonField *field, const void *member) {
        if (field->flags & JSON_REQUIRED)
                return false;
        if (field->kind == JSON_KIND_OBJECT)
                return is_empty(field, member);
        return field->min > 0 && is_empty(field, member);
}

static int write_field(Buf *to, const JsonField *field, const void *member) {
        const char *name;
        size_t i, n;

        if (is_absent(field, member))
                return buf_append_str(to, "null");

        switch (field->kind) {
        case JSON_KIND_STRING:
        case JSON_KIND_LABEL:
        case JSON_KIND_SHA256:
                return write_text(to, *(char *const *) member);
        case JSON_KIND_BOOL:
                return buf_append_str(to, *(const bool *) member ? "true" : "false");
        case JSON_KIND_U64:
                return write_u64(to, *(const uint64_t *) member);
        case JSON_KIND_SPAN:
                return write_span(to, *(const usec_t *) member);
        case JSON_KIND_ENUM:
                n = (size_t) * (const int *) member;
                for (i = 0, name = field->names[0]; name && i < n; i++)
                        name = field->names[i + 1];
                return name ? write_string(to, name) : -EINVAL;
        case JSON_KIND_STRV:
                return write_strv(to, *(char **const *) member);
        case JSON_KIND_MAP:
                return write_map(to, member);
        case JSON_KIND_OBJECT:
                return write_object(to, field->table, member);
        case JSON_KIND_ARRAY:
                return write_array(to, member, field->table);
        case JSON_KIND_ANY:
                if (!*(Json *const *) member)
                        return buf_append_str(to, "null");
                return json_print(*(Json *const *) member, false, to);
        default:
                return -EINVAL;
        }
}

static int write_object(Buf *to, const JsonTable *table, const void *object) {
        const JsonField *field;
        const char *separator = "";
        int r;

        r = buf_append(to, "{", 1);
        for (field = table->fields; r >= 0 && field->name; field++) {
                const char *member = (const char *) object + field->offset;

                if ((field->flags & (JSON_OMIT_EMPTY | JSON_REQUIRED)) == JSON_OMIT_EMPTY &&
                    is_empty(field, member))
                        continue;

                r = buf_printf(to, "%s\"%s\":", separator, field->name);
                if (r >= 0)
                        r = write_field(to, field, member);
                separator = ",";
        }
        return r < 0 ? r : buf_append(to, "}", 1);
}

int json_encode(const JsonTable *table, const void *object, Buf *ret) {
        size_t begin = ret->size;
        int r;

        r = write_object(ret, table, object);
        if (r < 0 && ret->data) {
                ret->size = begin;
                ret->data[begin] = 0;
        }
        return r;
}

Json *json_encode_value(const JsonTable *table, const void *object) {
        _cleanup_(buf_done) Buf text = BUF_INIT(VALUE_TEXT_BYTES);

        if (json_encode(table, object, &text) < 0)
                return NULL;
        return json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES, NULL);
}

/* --- life of a struct --- */

static void array_done(JsonArray *array, const JsonTable *table) {
        size_t i;

        for (i = 0; i < array->n; i++)
                json_table_done(table, (char *) array->items + i * table->size);
        free(array->items);
}

static void field_done(const JsonField *field, void *member) {
        switch (field->kind) {
        case JSON_KIND_STRING:
        case JSON_KIND_LABEL:
        case JSON_KIND_SHA256:
                free(*(char **) member);
                break;
        case JSON_KIND_STRV:
                strv_free(*(char ***) member);
                break;
        case JSON_KIND_MAP:
                json_map_done(member);
                break;
        case JSON_KIND_OBJECT:
                json_table_done(field->table, member);
                break;
        case JSON_KIND_ARRAY:
                array_done(member, field->table);
                break;
        case JSON_KIND_ANY:
                json_decref(*(Json **) member);
                break;
        case JSON_KIND_BOOL:
        case JSON_KIND_U64:
        case JSON_KIND_SPAN:
        case JSON_KIND_ENUM:
        default:
                break;
        }
}

void json_table_done(const JsonTable *table, void *object) {
        const JsonField *field;

        for (field = table->fields; field->name; field++)
                field_done(field, (char *) object + field->offset);
        memset(object, 0, table->size);
}

static int copy_text(const char *from, char **to) {
        *to = from ? strdup(from) : NULL;
        return from && !*to ? -ENOMEM : 0;
}

static int copy_map(const JsonMap *from, JsonMap *to) {
        size_t i;
        int r;

        if (from->n == 0)
                return 0;
        to->pairs = calloc(from->n, sizeof(JsonPair));
        if (!to->pairs)
                return -ENOMEM;

        for (i = 0; i < from->n; i++) {
                to->n++;
                r = copy_text(from->pairs[i].name, &to->pairs[i].name);
                if (r >= 0)
                        r = copy_text(from->pairs[i].value, &to->pairs[i].value);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int copy_array(const JsonArray *from, const JsonTable *table, JsonArray *to) {
        size_t i;
        int r;

        if (from->n == 0)
                return 0;
        to->items = calloc(from->n, table->size);
        if (!to->items)
                return -ENOMEM;

        for (i = 0; i < from->n; i++) {
                r = json_table_copy(table, (const char *) from->items + i * table->size,
                                    (char *) to->items + i * table->size);
                if (r < 0)
                        return r;
                to->n++;
        }
        return 0;
}

static int copy_field(const JsonField *field, const void *from, void *to) {
        char **list;

        switch (field->kind) {
        case JSON_KIND_STRING:
        case JSON_KIND_LABEL:
        case JSON_KIND_SHA256:
                return copy_text(*(char *const *) from, to);
        case JSON_KIND_BOOL:
                *(bool *) to = *(const bool *) from;
                return 0;
        case JSON_KIND_U64:
        case JSON_KIND_SPAN:
                *(uint64_t *) to = *(const uint64_t *) from;
                return 0;
        case JSON_KIND_ENUM:
                *(int *) to = *(const int *) from;
                return 0;
        case JSON_KIND_STRV:
                list = *(char **const *) from;
                *(char ***) to = strv_copy(list);
                return list && !*(char ***) to ? -ENOMEM : 0;
        case JSON_KIND_MAP:
                return copy_map(from, to);
        case JSON_KIND_OBJECT:
                return json_table_copy(field->table, from, to);
        case JSON_KIND_ARRAY:
                return copy_array(from, field->table, to);
        case JSON_KIND_ANY:
                /* Nobody changes a value that was decoded, so a reference is as good as a copy. */
                *(Json **) to = json_incref(*(Json *const *) from);
                return 0;
        default:
                return -EINVAL;
        }
}

int json_table_copy(const JsonTable *table, const void *object, void *ret) {
        const JsonField *field;
        int r;

        for (field = table->fields; field->name; field++) {
                r = copy_field(field, (const char *) object + field->offset,
                               (char *) ret + field->offset);
                if (r < 0) {
                        json_table_done(table, ret);
                        return r;
                }
        }
        return 0;
}

static JsonPair *map_find(const JsonMap *map, const char *name) {
        size_t i;

        for (i = 0; i < map->n; i++)
                if (str_equal(map->pairs[i].name, name))
                        return map->pairs + i;
        return NULL;
}

const char *json_map_get(const JsonMap *map, const char *name) {
        const JsonPair *pair = map_find(map, name);

        return pair ? pair->value : NULL;
}

int json_map_set(JsonMap *map, size_t max, const char *name, const char *value) {
        _cleanup_free_ char *new_name = NULL, *new_value = strdup(value);
        JsonPair *pair = map_find(map, name), *grown;

        if (!new_value)
                return -ENOMEM;

        if (pair) {
                free(pair->value);
                pair->value = TAKE_PTR(new_value);
                return 0;
        }
        if (map->n >= max)
                return -E2BIG;

        new_name = strdup(name);
        grown = new_name ? realloc(map->pairs, (map->n + 1) * sizeof(JsonPair)) : NULL;
        if (!grown)
                return -ENOMEM;

        map->pairs = grown;
        map->pairs[map->n++] = (JsonPair){ TAKE_PTR(new_name), TAKE_PTR(new_value) };
        return 0;
}

void json_map_done(JsonMap *map) {
        size_t i;

        for (i = 0; i < map->n; i++) {
                free(map->pairs[i].name);
                free(map->pairs[i].value);
        }
        free(map->pairs);
        *map = (JsonMap){ 0 };
}

void *json_array_add(JsonArray *array, const JsonTable *table, size_t max) {
        char *items;

        if (array->n >= max)
                return NULL;

        items = realloc(array->items, (array->n + 1) * table->size);
        if (!items)
                return NULL;

        array->items = items;
        return memset(items + array->n++ * table->size, 0, table->size);
}
