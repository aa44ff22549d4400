#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "control/storecmd.h"
#include "host/config.h"
#include "store/file.h"
#include "store/remote.h"

/* ---- words ---- */

_printf_(3, 0) static void tell(const Session *s, const Error *err, const char *format,
                                va_list ap) {
        _cleanup_(buf_done) Buf text = BUF_INIT(16384);
        _cleanup_free_ char *printable = NULL;

        session_progress(s, NULL);
        (void) buf_vprintf(&text, format, ap);
        if (err)
                (void) buf_printf(&text, "%s%s", text.size > 0 ? ": " : "", error_text(err));
        printable = str_printable(buf_str(&text), text.size);
        (void) fflush(stdout);
        (void) fprintf(stderr, "tendril %s: %s\n", s->verb, printable ?: "no memory");
}

int session_fail(const Session *s, int code, const Error *err, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        tell(s, err, format, ap);
        va_end(ap);
        return code;
}

static int exit_code_of(int r) {
        switch (-r) {
        case EPERM:
        case EACCES:
        case EROFS:
        case EKEYREJECTED:
                return EXIT_CODE_REFUSED;
        case ECONNREFUSED:
        case ETIMEDOUT:
        case EHOSTUNREACH:
        case ENETUNREACH:
                return EXIT_CODE_UNREACHABLE;
        default:
                return EXIT_CODE_FAILED;
        }
}

int session_broken(const Session *s, int r, const Error *err, const char *format, ...) {
        _cleanup_(error_freep) Error *own = NULL;
        va_list ap;

        if (!err)
                (void) error_set(&own, r, "%s", strerror(-r));
        va_start(ap, format);
        tell(s, err ?: own, format, ap);
        va_end(ap);
        return exit_code_of(r);
}

int session_check_label(const Session *s, const char *what, const char *label) {
        if (!label)
                return session_fail(s, EXIT_CODE_USAGE, NULL,
                                    "%s is missing (see tendril %s --help)", what, s->verb);
        if (!str_is_label(label))
                return session_fail(
                        s, EXIT_CODE_USAGE, NULL,
                        "%s %.120s: a label is a letter or digit, then up to 99 letters, digits, "
                        "'.', '_' or '-'",
                        what, label);
        return 0;
}

void session_note_unsigned(const Session *s, const SessionOptions *options) {
        if (s->keys.n > 0 && !options->key_file)
                (void) session_fail(s, 0, NULL,
                                    "note: this is not signed (--key, --key-id), and hosts that "
                                    "trust keys refuse it");
}

void session_progress(const Session *s, const char *format, ...) {
        va_list ap;

        if (!s->progress)
                return;
        (void) fputs("\r\033[K", stderr);
        if (format) {
                va_start(ap, format);
                (void) vfprintf(stderr, format, ap);
                va_end(ap);
        }
        (void) fflush(stderr);
}

void session_now(char ret[TIME_RFC3339_SIZE]) {
        time_format(clock_read(NULL, CLOCK_REALTIME), ret);
}

/* ---- which store, which keys ---- */

static int add_key(JsonArray *keys, const char *id, const char *purpose, const char *ends,
                   const char *pem) {
        TaskKey *key = json_array_add(keys, &task_key_table, LIMIT_KEYS);

        if (!key)
                return -ENOMEM;
        key->id = strdup(id);
        key->purpose = strdup(purpose);
        key->ends = ends ? strdup(ends) : NULL;
        key->pem = strdup(pem);
        return key->id && key->purpose && key->pem && (!ends || key->ends) ? 0 : -ENOMEM;
}

static int read_pem(const char *path, Buf *ret, Error **reterr) {
        int r = file_read_at(AT_FDCWD, path, ret);

        if (r == -EFBIG)
                return error_set(reterr, r, "%s: longer than any key", path);
        if (r == -ELOOP)
                return error_set(reterr, r, "%s: a link; name the file itself", path);
        return r < 0 ? error_set(reterr, r, "read the key %s: %s", path, strerror(-r)) : 0;
}

/* One of the command line is trusted for whatever is read with it. */
static int add_trusted_option(Session *s, const char *text) {
        _cleanup_(buf_done) Buf pem = BUF_INIT(LIMIT_KEY_BYTES);
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_free_ char *id = NULL;
        const char *equal = strchr(text, '=');
        int r;

        id = strndup(text, equal ? (size_t) (equal - text) : 0);
        if (!id || !str_is_label(id))
                return session_fail(s, EXIT_CODE_USAGE, NULL,
                                    "--trusted-key %.200s: not of the form ID=FILE", text);
        r = read_pem(equal + 1, &pem, &err);
        if (r == 0)
                r = add_key(&s->keys, id, "", NULL, buf_str(&pem));
        return r < 0 ? session_broken(s, r, err, "--trusted-key %s", id) : 0;
}

static int add_config_key(Session *s, const ConfigKey *key, Error **reterr) {
        _cleanup_(buf_done) Buf pem = BUF_INIT(LIMIT_KEY_BYTES);
        int r = 0;

        if (!key->pem)
                r = read_pem(key->file ?: "", &pem, reterr);
        if (r == 0)
                r = add_key(&s->keys, key->id, key->purpose == 0 ? "publish" : "assign", key->ends,
                            key->pem ?: buf_str(&pem));
        return r;
}

static int take_config(Session *s, const Config *config, Error **reterr) {
        const ConfigKey *keys = config->trusted_keys.items;
        int r;

        if (config->store.id) {
                s->store_id = strdup(config->store.id);
                if (!s->store_id)
                        return -ENOMEM;
        }
        s->unsigned_ok = config->store.unsigned_ok;
        for (size_t i = 0; i < config->trusted_keys.n; i++) {
                r = add_config_key(s, &keys[i], reterr);
                if (r < 0)
                        return error_wrap(reterr, r, "trusted_keys: %s", keys[i].id);
        }
        return 0;
}

static int load_config(Session *s, char **ret_url, Error **reterr) {
        _cleanup_(paths_done) Paths paths = { 0 };
        const char *url;
        int r;

        r = paths_init(getenv(ARGS_ENV_ROOT), &paths, reterr);
        if (r < 0)
                return r;
        r = config_load(&paths, environ, &s->config, reterr);
        if (r < 0)
                return r;
        url = s->config->store.url;
        r = take_config(s, s->config, reterr);
        if (r < 0 || !url)
                return r;
        *ret_url = strdup(url);
        return *ret_url ? 0 : -ENOMEM;
}

int storecmd_store_url(Session *s, const char *option, char **ret) {
        _cleanup_(error_freep) Error *err = NULL;
        const char *text = option ?: getenv(STORECMD_ENV_STORE);
        int r = 0;

        if (!str_is_empty(text)) {
                *ret = strdup(text);
                r = *ret ? 0 : -ENOMEM;
        } else
                r = load_config(s, ret, &err);
        if (r < 0)
                return session_broken(s, r, err, "find the store");
        if (!*ret)
                return session_fail(s, EXIT_CODE_USAGE, NULL,
                                    "which store? Say --store file:///path or s3://bucket/prefix, "
                                    "or set " STORECMD_ENV_STORE ", or store.url in " PATH_CONFIG);
        return 0;
}

int session_start(Session *s, const char *verb, const SessionOptions *options) {
        sigset_t chld;

        *s = (Session){ .verb = verb,
                        .json = options->json,
                        .progress = isatty(STDERR_FILENO) == 1 };
        if (!options->key_file != !options->key_id)
                return session_fail(s, EXIT_CODE_USAGE, NULL, "--key and --key-id belong together");
        if (options->key_id && !str_is_label(options->key_id))
                return session_check_label(s, "--key-id", options->key_id);
        /* Ends of helpers come to the loop, and only there. */
        (void) sigemptyset(&chld);
        (void) sigaddset(&chld, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &chld, NULL);
        if (sd_event_new(&s->loop) < 0)
                return session_broken(s, -ENOMEM, NULL, "start");
        for (char *const *text = options->trusted_keys; text && *text; text++) {
                int r = add_trusted_option(s, *text);

                if (r != 0)
                        return r;
        }
        return 0;
}

int session_open(Session *s, const SessionOptions *options) {
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_free_ char *url = NULL;
        int r;

        r = storecmd_store_url(s, options->store, &url);
        if (r != 0)
                return r;
        if (!str_has_prefix(url, "file:") && !store_url_is_remote(url))
                return session_fail(s, EXIT_CODE_USAGE, NULL,
                                    "store %.200s: neither file:///path nor s3://bucket/prefix",
                                    url);
        r = store_url_is_remote(url) ? session_open_remote(s, s->config, url, &err)
                                     : store_file_new(s->loop, url, NULL, &s->store, &err);
        if (r == -EINVAL)
                return session_fail(s, EXIT_CODE_USAGE, err, "%s", "");
        if (r < 0)
                return session_fail(s, r == -EACCES ? EXIT_CODE_REFUSED : EXIT_CODE_UNREACHABLE,
                                    err, "%s", "");
        s->unsigned_ok = s->unsigned_ok || options->unsigned_ok || store_is_local(s->store);
        return 0;
}

void session_done(Session *s) {
        TaskKey *keys = s->keys.items;

        session_progress(s, NULL);
        s->store = store_free(s->store);
        session_close_remote(s);
        s->config = config_free(s->config);
        s->loop = sd_event_unref(s->loop);
        for (size_t i = 0; i < s->keys.n; i++)
                json_table_done(&task_key_table, &keys[i]);
        free(keys);
        free(s->store_id);
        *s = (Session){ 0 };
}

void session_options_done(SessionOptions *options) {
        options->trusted_keys = strv_free(options->trusted_keys);
}

/* ---- calls of the store, waited for ---- */

/* Where an answer is put until the loop has it. */
typedef struct Wait {
        Session *session;
        const char *what; /* for progress, or NULL */
        bool is_done;
        int r;
        Error *err;
        SessionDocument *document;
        char **etag;
        SessionPage *page;
} Wait;

static int copy_reply(Wait *w, const StoreReply *reply) {
        int r = 0;

        if (w->document && reply->body)
                r = buf_append(&w->document->body, reply->body, reply->body_size);
        if (r == 0 && w->etag && reply->etag) {
                free(*w->etag);
                *w->etag = strdup(reply->etag);
                r = *w->etag ? 0 : -ENOMEM;
        }
        for (size_t i = 0; r == 0 && w->page && i < reply->n_entries; i++)
                r = strv_add(&w->page->keys, LIMIT_LIST_KEYS, reply->entries[i].key);
        if (w->page)
                w->page->more = reply->more;
        return r;
}

static void wait_on_done(void *userdata, int r, const StoreReply *reply, Error *err) {
        Wait *w = userdata;

        w->is_done = true;
        w->r = r;
        if (r < 0)
                (void) error_set(&w->err, r, "%s", err ? error_text(err) : strerror(-r));
        else if (copy_reply(w, reply) < 0)
                w->r = -ENOMEM;
}

static void wait_on_progress(void *userdata, uint64_t n_bytes, uint64_t size) {
        const Wait *w = userdata;

        session_progress(w->session, "%s %" PRIu64 " %%", w->what,
                         size ? n_bytes * 100 / size : 100);
}

/* r: what starting the call gave. */
static int wait_for(Wait *w, int r, const char *key, Error **reterr) {
        if (r < 0)
                return error_set(reterr, r, "%s: %s", key, strerror(-r));
        while (!w->is_done) {
                r = sd_event_run(w->session->loop, UINT64_MAX);
                if (r < 0)
                        return error_set(reterr, r, "wait for the store: %s", strerror(-r));
        }
        session_progress(w->session, NULL);
        if (w->r < 0 && !w->err)
                return error_set(reterr, w->r, "%s: %s", key, strerror(-w->r));
        if (w->r < 0)
                return error_take(reterr, &w->err);
        return w->r;
}

void session_document_done(SessionDocument *document) {
        buf_done(&document->body);
        free(document->etag);
        document->etag = NULL;
}

void session_page_done(SessionPage *page) {
        page->keys = strv_free(page->keys);
}

int session_get(Session *s, const char *key, SessionDocument *ret, Error **reterr) {
        Wait w = { .session = s, .document = ret, .etag = &ret->etag };

        *ret = (SessionDocument){ .body = BUF_INIT(LIMIT_DOCUMENT_BYTES) };
        return wait_for(&w, store_get(s->store, key, NULL, wait_on_done, &w, NULL), key, reterr);
}

int session_put(Session *s, const char *key, const Buf *text, const char *nonce,
                StoreCondition condition, const char *etag, SessionDocument *ret, Error **reterr) {
        Wait w = { .session = s, .document = ret, .etag = ret ? &ret->etag : NULL };
        int r;

        if (ret)
                *ret = (SessionDocument){ .body = BUF_INIT(LIMIT_DOCUMENT_BYTES) };
        if (text->size > LIMIT_DOCUMENT_BYTES)
                return error_set(reterr, -EFBIG,
                                 "%s would have %zu bytes, and a document has at most %d: use "
                                 "fewer or shorter "
                                 "settings",
                                 key, text->size, LIMIT_DOCUMENT_BYTES);
        r = store_put_document(s->store, key, buf_str(text), text->size, nonce ?: buf_str(text),
                               condition, etag, wait_on_done, &w, NULL);
        return wait_for(&w, r, key, reterr);
}

int session_put_file(Session *s, const char *key, int fd, StoreCondition condition,
                     const char *etag, Error **reterr) {
        Wait w = { .session = s, .what = "upload" };
        StoreBody body = { .fd = fd, .progress = wait_on_progress };

        return wait_for(&w,
                        store_put(s->store, key, &body, condition, etag, wait_on_done, &w, NULL),
                        key, reterr);
}

int session_fetch(Session *s, const char *key, int fd, char **ret_etag, Error **reterr) {
        Wait w = { .session = s, .what = "fetch", .etag = ret_etag };
        int r;

        r = store_fetch(s->store, key,
                        &(StoreFetch){ .fd = fd, .map_fd = -EBADF, .progress = wait_on_progress },
                        wait_on_done, &w, NULL);
        return wait_for(&w, r, key, reterr);
}

int session_delete(Session *s, const char *key, const char *etag, Error **reterr) {
        Wait w = { .session = s };

        return wait_for(&w, store_delete(s->store, key, etag, wait_on_done, &w, NULL), key, reterr);
}

int session_list(Session *s, const char *prefix, const char *start_after, SessionPage *ret,
                 Error **reterr) {
        Wait w = { .session = s, .page = ret };

        *ret = (SessionPage){ 0 };
        return wait_for(&w, store_list(s->store, prefix, start_after, wait_on_done, &w, NULL),
                        prefix, reterr);
}

int session_self_test(Session *s, Error **reterr) {
        Wait w = { .session = s };

        return wait_for(&w, store_self_test(s->store, wait_on_done, &w, NULL), "self-test", reterr);
}
