#pragma once

/*
 * YAML 1.1 into the same values as JSON, by libyaml, with the line of each value. One document a
 * text. Plain scalars are typed by YAML 1.1's rules (yes/no/on/off are booleans, y and n alone are
 * not; 0o and 0x and 010 and 1:30 and numbers with `_` are numbers; ~ is null); a quoted scalar is
 * always a string. Anchors and aliases work, with a limit on what they expand to; tags other than
 * the core ones, merge keys with anything but maps, duplicate keys, keys that are not scalars or
 * have an anchor, and more than LIMIT_YAML_DEPTH levels are errors.
 *
 * Source: yaml.org/spec/1.1, yaml.org/type.
 */

#include "base/json.h"

typedef struct YamlDoc YamlDoc;

/* name stands in error texts ("name:line: ..."). An empty text is an empty object.
 * -EBADMSG, -ERANGE (a number beyond 64 bits), -EFBIG (more than LIMIT_YAML_VALUES values),
 * -ENOMEM. */
int yaml_parse(const char *text, size_t size, const char *name, YamlDoc **ret, Error **reterr);

/* The root value; borrowed, valid as long as the document. */
const Json *yaml_root(const YamlDoc *doc);

/* Line (from 1) on which a value of this document stands; 0 for a value that is not of it. */
unsigned yaml_line(const YamlDoc *doc, const Json *value);

/* The same for a place: the member key of the object parent, or where key is NULL its element
 * index. Unlike yaml_line() this knows true, false and null too, and for an object or an array that
 * is a member it is the line of its key. */
unsigned yaml_line_at(const YamlDoc *doc, const Json *parent, const char *key, size_t index);

/* Text → struct in one step, errors with "name:line: key: ...". */
int yaml_decode(const char *text, size_t size, const char *name, const JsonTable *table,
                JsonMode mode, void *ret, Error **reterr);

/* The same from a parsed document. */
int yaml_decode_doc(const YamlDoc *doc, const char *name, const JsonTable *table, JsonMode mode,
                    void *ret, Error **reterr);

/* Takes NULL, returns NULL. Not yaml_free(): libyaml calls a function of that name, and would find
 * ours. */
YamlDoc *yaml_doc_free(YamlDoc *doc);

static inline void yaml_freep(YamlDoc **doc) {
        (void) yaml_doc_free(*doc);
}
