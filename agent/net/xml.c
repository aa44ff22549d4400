#include "net/xml.h"

#include <errno.h>
#include <expat.h>
#include <string.h>

#include "agent/limits.h"
#include "base/buf.h"
#include "base/str.h"

/* "ListBucketResult/Contents/Key", and the longest text that is wanted: a session token. */
#define PATH_BYTES 512
#define TEXT_BYTES ((size_t) 16 * 1024)

typedef struct Reader Reader;

/* What one kind of answer does with an element: path is from below the root, NULL-terminated text
 * its own. 0, or negative with words in reader->err. */
typedef int (*OnElement)(Reader *reader, const char *path, const char *text);

struct Reader {
        XML_Parser parser;
        OnElement on_begin; /* text is NULL; may be NULL */
        OnElement on_end;
        void *userdata;
        char root[64];
        Buf path; /* below the root, "a/b" */
        Buf text; /* since the last tag */
        unsigned depth;
        bool is_cut; /* the text is longer than what was kept */
        bool only_root;
        int r; /* why it was stopped */
        Error *err;
};

/* ---- expat ---- */

static void reader_stop(Reader *reader, int r) {
        if (reader->r == 0)
                reader->r = r;
        (void) XML_StopParser(reader->parser, XML_FALSE);
}

static void reader_refuse(Reader *reader, const char *words) {
        if (reader->r == 0)
                reader_stop(reader, error_set(&reader->err, -EBADMSG, "%s", words));
}

static void on_text(void *userdata, const XML_Char *text, int size) {
        Reader *reader = userdata;

        if (reader->r < 0 || reader->is_cut || size <= 0)
                return;
        reader->is_cut = buf_append(&reader->text, text, (size_t) size) < 0;
}

static void begin_text(Reader *reader) {
        buf_clear(&reader->text);
        reader->is_cut = false;
}

static int push_name(Reader *reader, const char *name) {
        if (reader->depth == 0) {
                size_t size = strlen(name);

                if (size >= sizeof(reader->root))
                        return -EBADMSG;
                memcpy(reader->root, name, size + 1);
                return 0;
        }
        return buf_printf(&reader->path, "%s%s", reader->depth > 1 ? "/" : "", name);
}

static void pop_name(Reader *reader) {
        const char *slash;

        if (reader->path.size == 0)
                return;
        slash = strrchr(reader->path.data, '/');
        reader->path.size = slash ? (size_t) (slash - reader->path.data) : 0;
        reader->path.data[reader->path.size] = '\0';
}

static void on_begin(void *userdata, const XML_Char *name, _unused_ const XML_Char **attributes) {
        Reader *reader = userdata;
        int r = 0;

        if (reader->r < 0)
                return;
        if (reader->depth >= LIMIT_XML_DEPTH) {
                reader_refuse(reader, "its elements are nested too deep");
                return;
        }
        if (push_name(reader, name) < 0) {
                reader_refuse(reader, "the names of its elements are too long");
                return;
        }
        reader->depth++;
        begin_text(reader);
        if (reader->only_root)
                reader_stop(reader, -ECANCELED);
        else if (reader->on_begin)
                r = reader->on_begin(reader, buf_str(&reader->path), NULL);
        if (r < 0)
                reader_stop(reader, r);
}

static void on_end(void *userdata, _unused_ const XML_Char *name) {
        Reader *reader = userdata;
        int r = 0;

        if (reader->r < 0)
                return;
        if (reader->depth > 1)
                r = reader->on_end(reader, buf_str(&reader->path), buf_str(&reader->text));
        if (r < 0)
                reader_stop(reader, r);
        pop_name(reader);
        reader->depth--;
        begin_text(reader);
}

/* Entities are declared there, which expand to as much as they like. */
static void on_doctype(void *userdata, _unused_ const XML_Char *name,
                       _unused_ const XML_Char *system_id, _unused_ const XML_Char *public_id,
                       _unused_ int has_internal) {
        reader_refuse(userdata, "it has a document type declaration");
}

static int judge(Reader *reader, enum XML_Status status, Error **reterr) {
        if (reader->r < 0 && reader->err)
                return error_take(reterr, &reader->err);
        if (reader->r < 0)
                return reader->r;
        if (status == XML_STATUS_OK)
                return 0;
        if (XML_GetErrorCode(reader->parser) == XML_ERROR_NO_MEMORY)
                return -ENOMEM;
        return error_set(reterr, -EBADMSG, "it is no XML: %s in line %lu",
                         XML_ErrorString(XML_GetErrorCode(reader->parser)),
                         (unsigned long) XML_GetCurrentLineNumber(reader->parser));
}

static int reader_run(Reader *reader, const char *text, size_t size, Error **reterr) {
        int r;

        /* White space that keeps a connection open may stand even before the declaration. */
        for (; size > 0 && strchr(" \t\r\n", *text) && *text; text++)
                size--;
        if (size > LIMIT_XML_LIST_BYTES)
                return error_set(reterr, -EBADMSG, "it has more than %d bytes",
                                 LIMIT_XML_LIST_BYTES);
        reader->parser = XML_ParserCreate(NULL);
        if (!reader->parser)
                return -ENOMEM;
        buf_init(&reader->path, PATH_BYTES);
        /* All of it at once, so that what it held is in one place, and can be wiped there. */
        buf_init(&reader->text, TEXT_BYTES);
        if (!buf_reserve(&reader->text, TEXT_BYTES)) {
                XML_ParserFree(reader->parser);
                return -ENOMEM;
        }
        XML_SetUserData(reader->parser, reader);
        XML_SetElementHandler(reader->parser, on_begin, on_end);
        XML_SetCharacterDataHandler(reader->parser, on_text);
        XML_SetStartDoctypeDeclHandler(reader->parser, on_doctype);
        r = judge(reader, XML_Parse(reader->parser, text, (int) size, 1), reterr);

        XML_ParserFree(reader->parser);
        explicit_bzero(reader->text.data, TEXT_BYTES);
        buf_done(&reader->text);
        buf_done(&reader->path);
        reader->err = error_free(reader->err);
        return r;
}

/* The first of its name counts. */
static int keep_first(const Reader *reader, const char *text, char **at) {
        if (*at || reader->is_cut)
                return 0;
        *at = strdup(text);
        return *at ? 0 : -ENOMEM;
}

/* ---- errors ---- */

static int error_on_root(Reader *reader, const char *path, _unused_ const char *text) {
        static const char *const roots[] = { "Error", "ErrorResponse", "Response" };

        if (path[0] != '\0' || reader->depth > 1)
                return 0;
        for (size_t i = 0; i < ELEMENTS(roots); i++)
                if (str_equal(reader->root, roots[i]))
                        return 0;
        return error_set(&reader->err, -EBADMSG, "it is no error document");
}

static char **error_member(XmlError *error, const char *name) {
        if (str_equal(name, "Code"))
                return &error->code;
        if (str_equal(name, "Message"))
                return &error->message;
        if (str_equal(name, "Region"))
                return &error->region;
        if (str_equal(name, "Endpoint"))
                return &error->endpoint;
        if (str_equal(name, "Bucket") || str_equal(name, "BucketName"))
                return &error->bucket;
        return NULL;
}

/* "Code", "Error/Code" and "Errors/Error/Code" are the same thing, of S3, STS and EC2. */
static int error_on_end(Reader *reader, const char *path, const char *text) {
        const char *slash = strrchr(path, '/');
        char **at;

        if (slash && !str_has_prefix(path, "Error"))
                return 0;
        at = error_member(reader->userdata, slash ? slash + 1 : path);
        return at ? keep_first(reader, text, at) : 0;
}

void xml_error_done(XmlError *error) {
        free(error->code);
        free(error->message);
        free(error->region);
        free(error->endpoint);
        free(error->bucket);
        *error = (XmlError){ 0 };
}

int xml_read_error(const char *text, size_t size, XmlError *ret, Error **reterr) {
        XmlError error = { 0 };
        Reader reader = { .on_begin = error_on_root, .on_end = error_on_end, .userdata = &error };
        int r;

        r = reader_run(&reader, text, size, reterr);
        if (r == 0 && !error.code)
                r = error_set(reterr, -EBADMSG, "it is an error document without a code");
        if (r < 0) {
                xml_error_done(&error);
                return error_wrap(reterr, r, "read the server's answer");
        }
        *ret = error;
        return 0;
}

bool xml_is_error(const char *text, size_t size) {
        Reader reader = { .on_end = NULL, .only_root = true };

        return reader_run(&reader, text, size, NULL) == -ECANCELED &&
               str_equal(reader.root, "Error");
}

/* ---- lists ---- */

typedef struct ListReader {
        XmlList list;
        bool is_encoded;
} ListReader;

static int list_on_begin(Reader *reader, const char *path, _unused_ const char *text) {
        ListReader *lr = reader->userdata;

        if (path[0] == '\0' && !str_equal(reader->root, "ListBucketResult"))
                return error_set(&reader->err, -EBADMSG, "it is no list of a bucket");
        if (!str_equal(path, "Contents"))
                return 0;
        if (lr->list.n_entries >= LIMIT_LIST_KEYS)
                return error_set(&reader->err, -EBADMSG, "it has more than %d keys",
                                 LIMIT_LIST_KEYS);
        if (!lr->list.entries)
                lr->list.entries = calloc(LIMIT_LIST_KEYS, sizeof(StoreEntry));
        if (!lr->list.entries)
                return -ENOMEM;
        lr->list.n_entries++;
        return 0;
}

static int list_take_etag(const Reader *reader, const char *text, StoreEntry *entry) {
        size_t size = strlen(text);

        if (entry->etag || reader->is_cut)
                return 0;
        if (size >= 2 && text[0] == '"' && text[size - 1] == '"') {
                text++;
                size -= 2;
        }
        entry->etag = strndup(text, size);
        return entry->etag ? 0 : -ENOMEM;
}

static int list_take_size(Reader *reader, const char *text, StoreEntry *entry) {
        if (reader->is_cut || str_to_u64(text, &entry->size) < 0)
                return error_set(&reader->err, -EBADMSG, "a size in it is no number");
        return 0;
}

/* A key that was cut would be another one. */
static int list_take_key(Reader *reader, const char *text, StoreEntry *entry) {
        if (reader->is_cut)
                return error_set(&reader->err, -EBADMSG, "a key in it is too long");
        return keep_first(reader, text, &entry->key);
}

static int entry_on_end(Reader *reader, const char *name, const char *text, StoreEntry *entry) {
        if (str_equal(name, "Key"))
                return list_take_key(reader, text, entry);
        if (str_equal(name, "ETag"))
                return list_take_etag(reader, text, entry);
        if (str_equal(name, "Size"))
                return list_take_size(reader, text, entry);
        return 0;
}

static int list_on_end(Reader *reader, const char *path, const char *text) {
        static const char contents[] = "Contents/";
        ListReader *lr = reader->userdata;

        if (str_has_prefix(path, contents) && lr->list.n_entries > 0)
                return entry_on_end(reader, path + strlen(contents), text,
                                    &lr->list.entries[lr->list.n_entries - 1]);
        if (str_equal(path, "IsTruncated"))
                lr->list.truncated = str_equal(text, "true");
        else if (str_equal(path, "EncodingType"))
                lr->is_encoded = str_equal(text, "url");
        else if (str_equal(path, "NextContinuationToken"))
                return keep_first(reader, text, &lr->list.next_token);
        return 0;
}

static int hex_value(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c = (char) (c | 0x20);
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place; false: it is not encoded so, or holds a NUL. */
static bool undo_encoding(char *text) {
        char *to = text;

        for (const char *p = text; *p; p++) {
                int high, low;

                if (*p != '%') {
                        *to++ = *p == '+' ? ' ' : *p;
                        continue;
                }
                high = hex_value(p[1]);
                low = high < 0 ? -1 : hex_value(p[2]);
                if (low < 0 || high * 16 + low == 0)
                        return false;
                *to++ = (char) (high * 16 + low);
                p += 2;
        }
        *to = '\0';
        return true;
}

/* What cannot be known before the end: EncodingType may come behind the keys. */
static int list_finish(ListReader *lr, Error **reterr) {
        for (size_t i = 0; i < lr->list.n_entries; i++) {
                StoreEntry *entry = &lr->list.entries[i];

                if (!entry->key)
                        return error_set(reterr, -EBADMSG, "an entry of it has no key");
                if (lr->is_encoded && !undo_encoding(entry->key))
                        return error_set(reterr, -EBADMSG, "a key in it is encoded wrongly");
                if (!entry->etag)
                        entry->etag = strdup("");
                if (!entry->etag)
                        return -ENOMEM;
        }
        return 0;
}

void xml_list_done(XmlList *list) {
        for (size_t i = 0; i < list->n_entries; i++) {
                free(list->entries[i].key);
                free(list->entries[i].etag);
        }
        free(list->entries);
        free(list->next_token);
        *list = (XmlList){ 0 };
}

int xml_read_list(const char *text, size_t size, XmlList *ret, Error **reterr) {
        ListReader lr = { 0 };
        Reader reader = { .on_begin = list_on_begin, .on_end = list_on_end, .userdata = &lr };
        int r;

        r = reader_run(&reader, text, size, reterr);
        if (r == 0)
                r = list_finish(&lr, reterr);
        if (r < 0) {
                xml_list_done(&lr.list);
                return error_wrap(reterr, r, "read the server's list");
        }
        *ret = lr.list;
        return 0;
}

/* ---- single values ---- */

typedef struct ValueReader {
        const char *const *names;
        size_t n;
        char **values;
} ValueReader;

static int values_on_end(Reader *reader, const char *path, const char *text) {
        const ValueReader *vr = reader->userdata;
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

        for (size_t i = 0; i < vr->n; i++)
                if (str_equal(name, vr->names[i]))
                        return keep_first(reader, text, &vr->values[i]);
        return 0;
}

static void values_done(char **values, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (values[i])
                        explicit_bzero(values[i], strlen(values[i]));
                free(values[i]);
                values[i] = NULL;
        }
}

int xml_read_values(const char *text, size_t size, const char *const *names, size_t n,
                    char **values, Error **reterr) {
        ValueReader vr = { .names = names, .n = n, .values = values };
        Reader reader = { .on_end = values_on_end, .userdata = &vr };
        int r;

        for (size_t i = 0; i < n; i++)
                values[i] = NULL;
        r = reader_run(&reader, text, size, reterr);
        if (r < 0) {
                values_done(values, n);
                return error_wrap(reterr, r, "read the server's answer");
        }
        return 0;
}
