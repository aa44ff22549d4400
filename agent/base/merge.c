#include "base/merge.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "base/yaml.h"

#define PATH_BYTES   (LIMIT_YAML_DEPTH * (LIMIT_STRING_BYTES + 16))
#define NAMES_MAX    1024
#define VARIABLE_MAX 256

/* Where the value at a path was written. */
typedef struct Source {
        char *path;
        const char *name; /* one of merge->names; NULL: default */
        unsigned line;    /* 0: unknown, or nothing that has lines */
} Source;

struct Merge {
        const JsonTable *table;
        json_t *root;
        char **names;
        Source *sources;
        size_t n_sources;
        size_t n_allocated;
};

/* One text while it is laid over the others. */
typedef struct Layer {
        Merge *merge;
        const YamlDoc *doc; /* NULL: without lines */
        const char *name;
        Buf path;
} Layer;

/* ---- sources ---- */

static Source *source_find(const Merge *merge, const char *path) {
        size_t i;

        for (i = 0; i < merge->n_sources; i++)
                if (str_equal(merge->sources[i].path, path))
                        return merge->sources + i;
        return NULL;
}

static Source *source_add(Merge *merge, const char *path) {
        size_t n = merge->n_allocated > 0 ? 2 * merge->n_allocated : 64;
        Source *grown;

        if (merge->n_sources == merge->n_allocated) {
                grown = realloc(merge->sources, n * sizeof(Source));
                if (!grown)
                        return NULL;
                merge->sources = grown;
                merge->n_allocated = n;
        }

        grown = merge->sources + merge->n_sources;
        *grown = (Source){ .path = strdup(path) };
        if (!grown->path)
                return NULL;
        merge->n_sources++;
        return grown;
}

static int source_set(Layer *layer, unsigned line) {
        const char *path = buf_str(&layer->path);
        Source *source;

        source = source_find(layer->merge, path) ?: source_add(layer->merge, path);
        if (!source)
                return -ENOMEM;

        source->name = layer->name;
        source->line = layer->name ? line : 0;
        return 0;
}

/* A value that is replaced takes what was known of its parts with it. */
static void source_forget_below(Merge *merge, const char *path) {
        size_t i, kept = 0, n = strlen(path);
        Source *source;

        for (i = 0; i < merge->n_sources; i++) {
                source = merge->sources + i;
                if (strncmp(source->path, path, n) == 0 &&
                    (source->path[n] == '.' || source->path[n] == '['))
                        free(source->path);
                else
                        merge->sources[kept++] = *source;
        }
        merge->n_sources = kept;
}

/* ---- laying over ---- */

static int path_push(Buf *path, const char *key, size_t index) {
        if (!key)
                return buf_printf(path, "[%zu]", index);
        return buf_printf(path, "%s%s", path->size > 0 ? "." : "", key);
}

static void path_cut(Buf *path, size_t size) {
        path->size = size;
        if (path->data)
                path->data[size] = '\0';
}

static unsigned layer_line(const Layer *layer, const json_t *parent, const char *key,
                           size_t index) {
        return layer->doc ? yaml_line_at(layer->doc, parent, key, index) : 0;
}

static int record_parts(Layer *layer, json_t *value);

static int record(Layer *layer, const json_t *parent, const char *key, size_t index,
                  json_t *value) {
        size_t size = layer->path.size;
        int r;

        r = path_push(&layer->path, key, index);
        if (r >= 0)
                r = source_set(layer, layer_line(layer, parent, key, index));
        if (r >= 0)
                r = record_parts(layer, value);
        path_cut(&layer->path, size);
        return r;
}

/* What a value is made of: elements of a list, members of an element. */
static int record_parts(Layer *layer, json_t *value) {
        const char *key;
        json_t *part;
        size_t i;
        int r = 0;

        json_array_foreach(value, i, part) {
                r = record(layer, value, NULL, i, part);
                if (r < 0)
                        return r;
        }
        json_object_foreach(value, key, part) {
                r = record(layer, value, key, 0, part);
                if (r < 0)
                        return r;
        }
        return r;
}

static const JsonField *find_field(const JsonTable *table, const char *key) {
        const JsonField *field;

        for (field = table ? table->fields : NULL; field && field->name; field++)
                if (str_equal(field->name, key))
                        return field;
        return NULL;
}

static int lay_object(Layer *layer, json_t *onto, json_t *from, const JsonTable *table);

/* The path is that of the member. */
static int lay_member(Layer *layer, json_t *onto, json_t *from, const char *key, json_t *value,
                      const JsonField *field) {
        json_t *below = json_object_get(onto, key);
        int r;

        r = source_set(layer, layer_line(layer, from, key, 0));
        if (r < 0)
                return r;

        if (json_is_object(value)) {
                if (!json_is_object(below)) {
                        below = json_object();
                        if (!below || json_object_set_new(onto, key, below) < 0)
                                return -ENOMEM;
                }
                return lay_object(layer, below, value, field ? field->table : NULL);
        }

        source_forget_below(layer->merge, buf_str(&layer->path));
        if (json_object_set_new(onto, key, json_deep_copy(value)) < 0)
                return -ENOMEM;
        return record_parts(layer, value);
}

/* table NULL: free names. */
static int lay_object(Layer *layer, json_t *onto, json_t *from, const JsonTable *table) {
        size_t size = layer->path.size;
        const char *key;
        json_t *value;
        int r;

        json_object_foreach(from, key, value) {
                if (table && json_is_null(value))
                        continue;
                r = path_push(&layer->path, key, 0);
                if (r >= 0)
                        r = lay_member(layer, onto, from, key, value, find_field(table, key));
                path_cut(&layer->path, size);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Remembers a name for as long as the merge; NULL with an error, or where there is none. */
static int keep_name(Merge *merge, const char *name, const char **ret) {
        int r;

        *ret = NULL;
        if (!name)
                return 0;

        r = strv_add(&merge->names, NAMES_MAX, name);
        if (r >= 0)
                *ret = merge->names[strv_count(merge->names) - 1];
        return r;
}

static int lay(Merge *merge, const YamlDoc *doc, const char *name, json_t *from, Error **reterr) {
        Layer layer = { .merge = merge, .doc = doc, .path = BUF_INIT(PATH_BYTES) };
        int r;

        r = keep_name(merge, name, &layer.name);
        if (r >= 0)
                r = lay_object(&layer, merge->root, from, merge->table);
        buf_done(&layer.path);
        return r < 0 ? error_wrap(reterr, r, "%s", name ?: "default") : 0;
}

Merge *merge_new(const JsonTable *table) {
        _cleanup_(merge_freep) Merge *merge = calloc(1, sizeof(Merge));

        if (!merge)
                return NULL;
        merge->table = table;
        merge->root = json_object();
        return merge->root ? TAKE_PTR(merge) : NULL;
}

static json_t *unconst(const Json *value) {
        return (json_t *) (uintptr_t) value;
}

int merge_yaml(Merge *merge, const char *text, size_t size, const char *name, Error **reterr) {
        _cleanup_(yaml_freep) YamlDoc *doc = NULL;
        void *scratch;
        int r;

        r = yaml_parse(text, size, name ?: "default", &doc, reterr);
        if (r < 0)
                return r;

        scratch = calloc(1, merge->table->size);
        if (!scratch)
                return error_set(reterr, -ENOMEM, "%s: out of memory", name ?: "default");
        r = yaml_decode_doc(doc, name ?: "default", merge->table, JSON_STRICT, scratch, reterr);
        json_table_done(merge->table, scratch);
        free(scratch);
        if (r < 0)
                return r;

        return lay(merge, doc, name, unconst(yaml_root(doc)), reterr);
}

/* ---- environment ---- */

/* The value of a kind that a text means; where it means none, the text, about which decoding has
 * the words. */
static json_t *text_value(JsonKind kind, const char *text) {
        static const char *const yes[] = { "true", "yes", "on", "1", NULL };
        static const char *const no[] = { "false", "no", "off", "0", NULL };
        uint64_t n;
        size_t i;

        if (kind == JSON_KIND_U64 && str_to_u64(text, &n) >= 0 && n <= INT64_MAX)
                return json_integer((json_int_t) n);
        for (i = 0; kind == JSON_KIND_BOOL && yes[i]; i++)
                if (str_equal(text, yes[i]) || str_equal(text, no[i]))
                        return json_boolean(str_equal(text, yes[i]));
        return json_string(text);
}

static bool is_single(JsonKind kind) {
        return kind == JSON_KIND_STRING || kind == JSON_KIND_LABEL || kind == JSON_KIND_SHA256 ||
               kind == JSON_KIND_BOOL || kind == JSON_KIND_U64 || kind == JSON_KIND_SPAN ||
               kind == JSON_KIND_ENUM;
}

static const char *find_variable(char *const *env, const char *name) {
        size_t n = strlen(name);

        for (; env && *env; env++)
                if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
                        return *env + n + 1;
        return NULL;
}

static int variable_push(Buf *name, const char *key) {
        size_t i;
        int r;

        r = buf_append_str(name, key);
        for (i = name->size - strlen(key); r >= 0 && i < name->size; i++)
                if (name->data[i] >= 'a' && name->data[i] <= 'z')
                        name->data[i] = (char) (name->data[i] - 'a' + 'A');
        return r;
}

/* Variables are laid over one at a time, each as if a file said it: root is an object that holds
 * level, in which the value stands while that is done. */
static int read_variable(Merge *merge, const JsonField *field, const char *name, const char *text,
                         json_t *root, json_t *level, Error **reterr) {
        int r;

        if (!str_is_utf8(text, strlen(text), false))
                return error_set(reterr, -EBADMSG, "%s: not valid UTF-8", name);
        if (json_object_set_new(level, field->name, text_value(field->kind, text)) < 0)
                return error_set(reterr, -ENOMEM, "%s: out of memory", name);
        r = lay(merge, NULL, name, root, reterr);
        (void) json_object_del(level, field->name);
        return r;
}

static int read_variables(Merge *merge, char *const *env, const JsonTable *table, Buf *name,
                          json_t *root, json_t *level, Error **reterr);

static int read_level(Merge *merge, char *const *env, const JsonField *field, Buf *name,
                      json_t *root, json_t *level, Error **reterr) {
        json_t *below = json_object();
        int r;

        if (json_object_set_new(level, field->name, below) < 0 || buf_append_str(name, "_") < 0)
                r = error_set(reterr, -ENOMEM, "%s: out of memory", buf_str(name));
        else
                r = read_variables(merge, env, field->table, name, root, below, reterr);
        (void) json_object_del(level, field->name);
        return r;
}

static int read_variables(Merge *merge, char *const *env, const JsonTable *table, Buf *name,
                          json_t *root, json_t *level, Error **reterr) {
        size_t size = name->size;
        const JsonField *field;
        const char *text;
        int r = 0;

        for (field = table->fields; r >= 0 && field->name; field++) {
                if (variable_push(name, field->name) < 0)
                        return error_set(reterr, -ENOMEM, "%s: out of memory", field->name);

                text = find_variable(env, buf_str(name));
                if (field->kind == JSON_KIND_OBJECT)
                        r = read_level(merge, env, field, name, root, level, reterr);
                else if (is_single(field->kind) && !str_is_empty(text))
                        r = read_variable(merge, field, buf_str(name), text, root, level, reterr);
                path_cut(name, size);
        }
        return r;
}

int merge_environment(Merge *merge, char *const *env, const char *prefix, Error **reterr) {
        _cleanup_(buf_done) Buf name = BUF_INIT(VARIABLE_MAX);
        json_t *root = json_object();
        int r;

        if (!root || buf_append_str(&name, prefix) < 0)
                r = error_set(reterr, -ENOMEM, "environment: out of memory");
        else
                r = read_variables(merge, env, merge->table, &name, root, root, reterr);
        json_decref(root);
        return r;
}

/* ---- use ---- */

static int place_path(Buf *path, const JsonPlace *place) {
        int r;

        if (!place->up)
                return 0;
        r = place_path(path, place->up);
        return r < 0 ? r : path_push(path, place->key, place->index);
}

/* What is missing stands nowhere: then it is the place of the object around it. */
static unsigned line_of(void *userdata, const JsonPlace *place, const char **name) {
        _cleanup_(buf_done) Buf path = BUF_INIT(PATH_BYTES);
        const Merge *merge = userdata;
        const Source *source = NULL;

        for (; place->up && !source; place = place->up) {
                buf_clear(&path);
                if (place_path(&path, place) >= 0)
                        source = source_find(merge, buf_str(&path));
        }
        if (!source)
                return 0;

        *name = source->name ?: "default";
        return source->line;
}

int merge_decode(const Merge *merge, void *ret, Error **reterr) {
        return json_decode_lines(merge->root, merge->table, JSON_STRICT, NULL, line_of,
                                 (void *) (uintptr_t) merge, ret, reterr);
}

int merge_sources(const Merge *merge, JsonMap *ret) {
        _cleanup_(json_map_done) JsonMap map = { 0 };
        const Source *source;
        size_t i;

        map.pairs = calloc(merge->n_sources + 1, sizeof(JsonPair));
        if (!map.pairs)
                return -ENOMEM;

        for (i = 0; i < merge->n_sources; i++) {
                source = merge->sources + i;
                map.pairs[i].name = strdup(source->path);
                map.pairs[i].value = source->line > 0
                                             ? str_format("%s:%u", source->name, source->line)
                                             : strdup(source->name ?: "default");
                map.n = i + 1;
                if (!map.pairs[i].name || !map.pairs[i].value)
                        return -ENOMEM;
        }

        *ret = map;
        map = (JsonMap){ 0 };
        return 0;
}

Merge *merge_free(Merge *merge) {
        size_t i;

        if (!merge)
                return NULL;

        for (i = 0; i < merge->n_sources; i++)
                free(merge->sources[i].path);
        free(merge->sources);
        (void) strv_free(merge->names);
        json_decref(merge->root);
        free(merge);
        return NULL;
}
