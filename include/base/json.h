#pragma once

/*
 * JSON by tables. A JsonTable describes a plain struct: one row a member, with its key, kind, place
 * and bounds. The same table decodes, encodes, and frees what decoding allocated, so a document has
 * one description and no second one. JSON values themselves (jansson's json_t, here Json) do not
 * leave base/, cloud/ and control/proto.c, except opaquely: JSON_ANY members.
 *
 * Life of a decoded struct: all zero → json_decode() → json_table_done(). Strings are never shared.
 *
 * Decoding refuses duplicate keys, wrong kinds, values out of bounds, strings with NUL or invalid
 * UTF-8, and trailing rubbish. Unknown keys are ignored, except with JSON_STRICT. Errors name the
 * key by its path: "policy.batch_size: 0 is below 1". From YAML they begin with "file:line: "
 * (base/yaml.h).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

typedef struct json_t Json; /* opaque outside base/ and control/proto.c */
typedef struct JsonTable JsonTable;

typedef enum JsonKind {
        JSON_KIND_STRING, /* char *, owned; min/max: length in bytes (max 0: LIMIT_STRING_BYTES) */
        JSON_KIND_LABEL,  /* char *, owned; str_is_label() */
        JSON_KIND_SHA256, /* char *, owned; 64 lower-case hexadecimal digits */
        JSON_KIND_BOOL,   /* bool */
        JSON_KIND_U64,    /* uint64_t; min/max (max 0: none) */
        JSON_KIND_SPAN, /* usec_t; a number of seconds or a string of time_parse_span(); written as
                           seconds; min/max in usec; above 35 years whole seconds */
        JSON_KIND_ENUM, /* int; index into names[] */
        JSON_KIND_STRV, /* char **, owned, NULL-terminated; array of strings; max: how many
                           (required) */
        JSON_KIND_MAP, /* JsonMap, owned; object of scalars, kept as strings (null: "") in the order
                          of the text; max: how many (required); values up to
                          LIMIT_SETTING_VALUE_BYTES */
        JSON_KIND_OBJECT, /* struct embedded at the offset, described by table */
        JSON_KIND_ARRAY,  /* JsonArray, owned; array of objects described by table; max: how many
                             (required) */
        JSON_KIND_ANY,    /* Json *, owned reference; whatever stands there */
} JsonKind;

typedef enum JsonFlags {
        JSON_REQUIRED =
                1 << 0, /* missing or null is an error; without it the member keeps its zero */
        JSON_SECRET = 1 << 1, /* the value never appears in an error text */
        JSON_OMIT_EMPTY =
                1 << 2, /* not written when zero, NULL or empty (else null/0/false is written) */
} JsonFlags;

typedef struct JsonField {
        const char *name;
        JsonKind kind;
        unsigned flags; /* JsonFlags */
        size_t offset;
        uint64_t min, max;
        const char *const *names; /* JSON_KIND_ENUM: NULL-terminated */
        const JsonTable *table;   /* JSON_KIND_OBJECT, JSON_KIND_ARRAY */
} JsonField;

/* Rows without the members that most rows do not have: FIELD("name", kind, flags, Type, member) in
 * the tables of documents. The last row of a table is JSON_END. */
#define JSON_ROW(text, row_kind, row_flags, type, member)                                          \
        {                                                                                          \
                .name = (text), .kind = (row_kind), .flags = (row_flags),                          \
                .offset = offsetof(type, member)                                                   \
        }
#define JSON_ROW_MAX(text, row_kind, row_flags, type, member, most)                                \
        {                                                                                          \
                .name = (text), .kind = (row_kind), .flags = (row_flags),                          \
                .offset = offsetof(type, member), .max = (most)                                    \
        }
#define JSON_ROW_TABLE(text, row_kind, row_flags, type, member, most, row_table)                   \
        {                                                                                          \
                .name = (text), .kind = (row_kind), .flags = (row_flags),                          \
                .offset = offsetof(type, member), .max = (most), .table = (row_table)              \
        }
#define JSON_END                                                                                   \
        { .name = NULL }

struct JsonTable {
        const JsonField *fields; /* ends with a row whose name is NULL */
        size_t size;             /* sizeof the struct */
};

typedef struct JsonArray {
        void *items; /* n structs of table->size, one behind the other */
        size_t n;
} JsonArray;

typedef struct JsonPair {
        char *name;
        char *value;
} JsonPair;

typedef struct JsonMap {
        JsonPair *pairs;
        size_t n;
} JsonMap;

#undef JSON_STRICT /* jansson has a macro of this name; the value is the same, whichever header    \
                      comes first */

typedef enum JsonMode {
        JSON_LENIENT = 0, /* unknown keys are ignored: documents of others */
        JSON_STRICT =
                2, /* unknown keys are errors that name what is allowed: configuration, requests */
} JsonMode;

/* Text → struct. *ret must be all zero; on failure it is all zero again. -EBADMSG, -ENOMEM,
 * -ERANGE. */
int json_decode(const char *text, size_t size, const JsonTable *table, JsonMode mode, void *ret,
                Error **reterr);

/* The same from a value. */
int json_decode_value(const Json *value, const JsonTable *table, JsonMode mode, void *ret,
                      Error **reterr);

/* Where a value stands in its document: a member of up->value (key), an element of it (key NULL,
 * index), or the root (up NULL). Values without parts (true, false, null) may be shared: only the
 * place says which one is meant. */
typedef struct JsonPlace {
        const struct JsonPlace *up;
        const char *key;
        size_t index;
        const Json *value; /* NULL: a required member that is not there; its line is that of up */
} JsonPlace;

/* Like json_decode_value(), for callers with positions: line_of() gives the line of a place (0:
 * unknown) and may set *name, which is the name given here, to another file's (several files merged
 * into one value). */
typedef unsigned (*JsonLineOf)(void *userdata, const JsonPlace *place, const char **name);
int json_decode_lines(const Json *value, const JsonTable *table, JsonMode mode, const char *name,
                      JsonLineOf line_of, void *userdata, void *ret, Error **reterr);

/* Struct → text, appended; compact, keys in the order of the table. What was never given and what
 * its row would refuse (0 where min is 1, an empty object that is not required) is written as null,
 * so that json_decode() always takes it. On failure ret is as it was: -ENOMEM, -EFBIG; -EINVAL for
 * a string that is not UTF-8 or an index outside names[], -ERANGE for a number above INT64_MAX:
 * both are the caller's mistakes. */
int json_encode(const JsonTable *table, const void *object, Buf *ret);

/* Struct → value; the caller owns the reference. NULL: no memory, more than LIMIT_REPLY_BYTES of
 * text, or what json_encode() refuses. */
Json *json_encode_value(const JsonTable *table, const void *object);

/* Frees what decoding allocated and zeroes the struct. */
void json_table_done(const JsonTable *table, void *object);

/* A deep copy of a struct. *ret must be all zero, and is again on failure: -ENOMEM. */
int json_table_copy(const JsonTable *table, const void *object, void *ret);

/* Maps. json_map_get: NULL where the name is not there. json_map_set: copies, replaces an existing
 * name. */
const char *json_map_get(const JsonMap *map, const char *name);
int json_map_set(JsonMap *map, size_t max, const char *name,
                 const char *value); /* 0, -E2BIG, -ENOMEM */
void json_map_done(JsonMap *map);

/* Appends a zeroed element to an array and returns it; NULL: no memory, or max reached. The pointer
 * is valid until the next call. */
void *json_array_add(JsonArray *array, const JsonTable *table, size_t max);

/* Values for those who only hand them on. json_parse refuses like json_decode. */
int json_parse(const char *text, size_t size, Json **ret, Error **reterr);
int json_print(const Json *value, bool pretty, Buf *ret);
Json *json_free(Json *value); /* drops the reference; takes NULL */
DEFINE_CLEANUP(Json, json_free);
