#include "store/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/backoff.h"
#include "base/file.h"
#include "base/str.h"
#include "store/backend.h"
#include "store/key.h"
#include "store/wire.h"

#define URL_PREFIX "s3://"

/* The helper's own deadlines, with its retries, are shorter. */
#define SMALL_USEC SEC(60)
#define LARGE_USEC SEC(3600)

/* Progress is looked at this often; sooner at first, as small transfers are over soon. */
#define LOOK_FIRST_USEC MSEC(2)
#define LOOK_MAX_USEC   MSEC(200)

typedef struct Remote {
        sd_event *loop;
        Link *link;
        char *url;
        uint64_t last_number;
} Remote;

typedef struct RemoteCall RemoteCall;

typedef struct Method {
        const char *name;
        const char *verb; /* for words */
        bool has_etag;    /* a successful answer has one */
        bool may_be[STORE_REFUSED + 1];
        /* The same comes with a file, from which it ends the call. */
        void (*end)(RemoteCall *c, int fd, StoreReply *reply);
} Method;

struct RemoteCall {
        Remote *remote;
        const Method *method;
        StoreCall *call;
        const StoreRequest *request;
        LinkCall *link_call;
        uint64_t number; /* > 0: the helper holds descriptors of ours until it is told */

        /* Where somebody asked for it. */
        int progress_fd;
        uint64_t n_seen;
        usec_t look_usec;
        sd_event_source *look;
        bool *gone; /* set when the call is freed by its own progress */
};

static RemoteCall *call_free(RemoteCall *c) {
        if (!c)
                return NULL;
        if (c->gone)
                *c->gone = true;
        c->link_call = link_cancel(c->link_call);
        c->look = sd_event_source_disable_unref(c->look);
        closep(&c->progress_fd);
        free(c);
        return NULL;
}
DEFINE_CLEANUP(RemoteCall, call_free);

/* ---- what comes back ---- */

static int bad(Error **reterr, const char *what) {
        return error_set(reterr, -EBADMSG, "tendril-net answered what cannot be: %s", what);
}

/* Only memory files are read: a pipe, or a file that another process serves, could keep us waiting.
 * Read once: whoever sent it may still change it. */
static int read_file(int fd, Buf *ret, Error **reterr) {
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || fcntl(fd, F_GET_SEALS) < 0)
                return bad(reterr, "a descriptor that is no memory file");
        r = file_read_fd(fd, ret);
        if (r == -EFBIG)
                return bad(reterr, "more bytes than may be");
        if (r == -ENOMEM)
                return error_set(reterr, r, "read the answer: out of memory");
        return r < 0 ? bad(reterr, "a file that cannot be read") : 0;
}

static bool etag_is_valid(const char *etag) {
        return !str_is_empty(etag) && str_is_utf8(etag, strlen(etag), true);
}

static int check_entries(const StoreRequest *request, const StoreEntry *entries, size_t n,
                         Error **reterr) {
        const char *previous = request->start_after;

        for (size_t i = 0; i < n; i++) {
                const char *key = entries[i].key;

                if (!key_is_valid(key) || !etag_is_valid(entries[i].etag))
                        return bad(reterr, "a list with names that are no keys");
                if (!str_has_prefix(key, request->key))
                        return bad(reterr, "a list with keys that were not asked for");
                if (previous && strcmp(previous, key) >= 0)
                        return bad(reterr, "a list that is not in order");
                previous = key;
        }
        return 0;
}

static int check_answer(const RemoteCall *c, const WireAnswer *answer, size_t n_fds,
                        Error **reterr) {
        const Method *m = c->method;

        if (answer->answer > STORE_REFUSED || !m->may_be[answer->answer] ||
            (answer->answer == STORE_UNCHANGED && !c->request->etag))
                return bad(reterr, "an answer that does not belong to the question");
        if (answer->answer == 0 && m->has_etag && !answer->etag)
                return bad(reterr, "no ETag");
        if (answer->etag && !etag_is_valid(answer->etag))
                return bad(reterr, "an ETag that is none");
        if (n_fds != (answer->answer == 0 && m->end ? 1 : 0))
                return bad(reterr, "other descriptors than belong to it");
        return 0;
}

static void fill_reply(const RemoteCall *c, const WireAnswer *answer, StoreReply *ret) {
        *ret = (StoreReply){
                .etag = answer->etag,
                .age_usec = answer->has_age ? answer->age_usec : USEC_INFINITY,
                .date_usec = answer->date_usec,
                .size = answer->size,
                .more = answer->more,
        };
        /* Some servers do not repeat it. */
        if (answer->answer == STORE_UNCHANGED && !ret->etag)
                ret->etag = c->request->etag;
}

/* The call ends. err is consumed. */
static void end_call(RemoteCall *c, int r, const StoreReply *reply, Error *err) {
        StoreCall *call = c->call;

        c->link_call = NULL;
        (void) call_free(c);
        store_call_end(call, r, reply, err);
}

/* The sentence says what was done with which key, once. */
static void end_failed(RemoteCall *c, int r, const Error *said) {
        const char *text = said ? error_text(said) : strerror(-r);
        size_t n = strlen(c->method->name);
        Error *err = NULL;

        if (strncmp(text, c->method->name, n) == 0 && str_has_prefix(text + n, ": "))
                text += n + 2;
        if (strstr(text, c->remote->url))
                (void) error_set(&err, r, "%s", text);
        else
                (void) error_set(&err, r, "%s %s in %s: %s", c->method->verb, c->request->key,
                                 c->remote->url, text);
        end_call(c, r, NULL, err);
}

static void end_with_body(RemoteCall *c, int fd, StoreReply *reply) {
        _cleanup_(buf_done) Buf body = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = read_file(fd, &body, &err);
        if (r < 0) {
                end_failed(c, r, err);
                return;
        }
        reply->body = buf_str(&body);
        reply->body_size = body.size;
        end_call(c, 0, reply, NULL);
}

static int read_list(const RemoteCall *c, int fd, bool more, WireList *ret, Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_XML_LIST_BYTES);
        _cleanup_(error_freep) Error *why = NULL;
        int r;

        r = read_file(fd, &text, reterr);
        if (r < 0)
                return r;
        r = json_decode(buf_str(&text), text.size, &wire_list_table, JSON_LENIENT, ret, &why);
        if (r == -ENOMEM)
                return error_set(reterr, r, "read the list: out of memory");
        if (r < 0)
                return bad(reterr, error_text(why));
        /* Whoever reads on from the last one would read for ever. */
        if (more && ret->entries.n == 0)
                return bad(reterr, "an empty page with more behind it");
        return check_entries(c->request, ret->entries.items, ret->entries.n, reterr);
}

static void end_with_list(RemoteCall *c, int fd, StoreReply *reply) {
        _cleanup_(error_freep) Error *err = NULL;
        WireList list = { 0 };
        int r;

        r = read_list(c, fd, reply->more, &list, &err);
        if (r >= 0) {
                reply->entries = list.entries.items;
                reply->n_entries = list.entries.n;
                end_call(c, 0, reply, NULL);
        } else
                end_failed(c, r, err);
        json_table_done(&wire_list_table, &list);
}

/* ---- progress ---- */

/* False: the call is gone, its progress has cancelled it. */
static bool tell_progress(RemoteCall *c) {
        WireProgress seen = { 0 };
        bool gone = false;

        /* The helper can write it, and cut it, at any time. */
        if (pread(c->progress_fd, &seen, sizeof(seen), 0) != sizeof(seen) ||
            seen.n_bytes <= c->n_seen || seen.n_bytes > seen.size)
                return true;
        c->n_seen = seen.n_bytes;
        c->gone = &gone;
        c->request->progress(c->request->userdata, seen.n_bytes, seen.size);
        if (!gone)
                c->gone = NULL;
        return !gone;
}

static int on_look(_unused_ sd_event_source *s, _unused_ usec_t now, void *userdata) {
        RemoteCall *c = userdata;

        if (!tell_progress(c))
                return 0;
        c->look_usec = MIN(c->look_usec * 2, LOOK_MAX_USEC);
        (void) sd_event_source_set_time_relative(c->look, c->look_usec);
        (void) sd_event_source_set_enabled(c->look, SD_EVENT_ONESHOT);
        return 0;
}

static int watch_progress(RemoteCall *c) {
        const WireProgress none = { 0 };
        int r;

        c->progress_fd = file_memfd("progress", &none, sizeof(none));
        if (c->progress_fd < 0)
                return c->progress_fd;
        c->look_usec = LOOK_FIRST_USEC;
        r = sd_event_add_time_relative(c->remote->loop, &c->look, CLOCK_MONOTONIC, c->look_usec,
                                       MSEC(1), on_look, c);
        return r < 0 ? r : 0;
}

/* ---- answers ---- */

static void end_answered(RemoteCall *c, const WireAnswer *answer, int fd) {
        StoreReply reply;

        fill_reply(c, answer, &reply);
        if (answer->answer == 0 && c->method->end)
                c->method->end(c, fd, &reply);
        else
                end_call(c, (int) answer->answer, &reply, NULL);
}

static void on_reply(void *userdata, int r, CallReply *reply, Error *said) {
        _cleanup_(error_freep) Error *err = NULL, *why = NULL;
        RemoteCall *c = userdata;
        WireAnswer answer = { 0 };

        c->link_call = NULL;
        if (r < 0) {
                end_failed(c, r, said);
                return;
        }
        r = json_decode_value(reply->answer, &wire_answer_table, JSON_LENIENT, &answer, &why);
        if (r < 0 && r != -ENOMEM)
                r = bad(&err, error_text(why));
        if (r >= 0)
                r = check_answer(c, &answer, reply->n_fds, &err);
        if (r < 0)
                end_failed(c, r, err);
        else if (c->progress_fd < 0 || tell_progress(c))
                end_answered(c, &answer, reply->n_fds > 0 ? reply->fds[0] : -EBADF);
        json_table_done(&wire_answer_table, &answer);
}

/* ---- questions ---- */

typedef struct Question {
        WireAsk ask;
        int fds[CALL_MAX_FDS];
        size_t n_fds;
        usec_t timeout_usec;
} Question;

static char *not_const(const char *text) {
        union {
                const char *in;
                char *out;
        } both = { .in = text };

        return both.out;
}

static RemoteCall *call_new(Remote *remote, const Method *method, StoreCall *call,
                            const StoreRequest *request) {
        RemoteCall *c = calloc(1, sizeof(RemoteCall));

        if (!c)
                return NULL;
        *c = (RemoteCall){ .remote = remote,
                           .method = method,
                           .call = call,
                           .request = request,
                           .progress_fd = -EBADF };
        return c;
}

static int ask(RemoteCall *c, Question *q) {
        int r;

        q->ask.key = not_const(c->request->key);
        q->ask.etag = not_const(c->request->etag);
        q->ask.number = c->number;
        r = link_call(c->remote->link, c->method->name, &wire_ask_table, &q->ask, q->fds, q->n_fds,
                      q->timeout_usec, on_reply, c, &c->link_call);
        if (r < 0)
                return r;
        store_call_set_data(c->call, c);
        return 0;
}

static int ask_small(void *self, StoreCall *call, const StoreRequest *request,
                     const Method *method) {
        _cleanup_(call_freep) RemoteCall *c = call_new(self, method, call, request);
        Question q = { .ask = { .start_after = not_const(request->start_after) },
                       .timeout_usec = SMALL_USEC };
        int r;

        if (!c)
                return -ENOMEM;
        r = ask(c, &q);
        if (r < 0)
                return r;
        (void) TAKE_PTR(c);
        return 0;
}

/* With descriptors of ours that the helper is to write or read for long. */
static int ask_large(RemoteCall *c, Question *q) {
        int r = 0;

        c->number = ++c->remote->last_number;
        q->timeout_usec = LARGE_USEC;
        if (c->request->progress)
                r = watch_progress(c);
        if (r < 0)
                return r;
        if (c->progress_fd >= 0) {
                q->ask.has_progress = true;
                q->fds[q->n_fds++] = c->progress_fd;
        }
        return ask(c, q);
}

static const Method method_get = {
        WIRE_GET,      "read",
        true,          { [0] = true, [STORE_UNCHANGED] = true, [STORE_ABSENT] = true },
        end_with_body,
};

static int remote_get(void *self, StoreCall *call, const StoreRequest *request) {
        return ask_small(self, call, request, &method_get);
}

static const Method method_list = { WIRE_LIST, "list", false, { [0] = true }, end_with_list };

static int remote_list(void *self, StoreCall *call, const StoreRequest *request) {
        return ask_small(self, call, request, &method_list);
}

static const Method method_delete = {
        WIRE_DELETE, "delete", false, { [0] = true, [STORE_ABSENT] = true, [STORE_REFUSED] = true },
        NULL,
};

static int remote_delete(void *self, StoreCall *call, const StoreRequest *request) {
        return ask_small(self, call, request, &method_delete);
}

static const Method method_put = {
        WIRE_PUT, "write", true, { [0] = true, [STORE_REFUSED] = true }, NULL,
};

static int remote_put(void *self, StoreCall *call, const StoreRequest *request) {
        _cleanup_(call_freep) RemoteCall *c = call_new(self, &method_put, call, request);
        _cleanup_close_ int body_fd = -EBADF;
        Question q = { .ask = { .condition = request->condition },
                       .fds = { request->fd },
                       .n_fds = 1,
                       .timeout_usec = SMALL_USEC };
        int r;

        if (!c)
                return -ENOMEM;
        if (request->body) {
                body_fd = file_memfd("body", request->body, request->body_size);
                if (body_fd < 0)
                        return body_fd;
                q.fds[0] = body_fd;
        }
        r = request->body ? ask(c, &q) : ask_large(c, &q);
        if (r < 0)
                return r;
        (void) TAKE_PTR(c);
        return 0;
}

static const Method method_fetch = {
        WIRE_FETCH, "fetch", true, { [0] = true, [STORE_ABSENT] = true, [STORE_REFUSED] = true },
        NULL,
};

static int remote_fetch(void *self, StoreCall *call, const StoreRequest *request) {
        _cleanup_(call_freep) RemoteCall *c = call_new(self, &method_fetch, call, request);
        Question q = { .ask = { .has_map = request->map_fd >= 0 },
                       .fds = { request->fd },
                       .n_fds = 1 };
        int r;

        if (!c)
                return -ENOMEM;
        if (q.ask.has_map)
                q.fds[q.n_fds++] = request->map_fd;
        r = ask_large(c, &q);
        if (r < 0)
                return r;
        (void) TAKE_PTR(c);
        return 0;
}

/* ---- the store ---- */

static void on_cancelled(_unused_ void *userdata, _unused_ int r, _unused_ CallReply *reply,
                         _unused_ Error *err) {
}

/* What it was handed for long it must let go of, before it is handed the same again: calls keep
 * their order. One that cannot be told is ended. */
static void remote_cancel(void *self, StoreCall *call) {
        RemoteCall *c = store_call_data(call);
        WireCancel what = { .number = c->number };
        Remote *remote = self;

        (void) call_free(c);
        if (what.number > 0 && link_call(remote->link, WIRE_CANCEL, &wire_cancel_table, &what, NULL,
                                         0, SMALL_USEC, on_cancelled, NULL, NULL) < 0)
                link_restart(remote->link);
}

static void remote_disown(void *self) {
        const Remote *remote = self;

        link_restart(remote->link);
}

static void *remote_free(void *self) {
        Remote *remote = self;

        if (!remote)
                return NULL;
        free(remote->url);
        (void) sd_event_unref(remote->loop);
        free(remote);
        return NULL;
}

static void remote_freep(Remote **remote) {
        (void) remote_free(*remote);
}

static const StoreBackend remote_backend = {
        .get = remote_get,
        .put = remote_put,
        .list = remote_list,
        .delete = remote_delete,
        .fetch = remote_fetch,
        .cancel = remote_cancel,
        .disown = remote_disown,
        .free = remote_free,
};

bool store_url_is_remote(const char *url) {
        return str_has_prefix(url, URL_PREFIX);
}

int store_remote_new(sd_event *loop, Link *link, const char *url, Store **ret, Error **reterr) {
        _cleanup_(remote_freep) Remote *remote = calloc(1, sizeof(Remote));
        int r;

        if (!remote)
                return error_set(reterr, -ENOMEM, "open the store: out of memory");
        remote->loop = sd_event_ref(loop);
        remote->link = link;
        /* One store may follow another over the same link: their numbers differ. */
        remote->last_number = (uint64_t) backoff_chance() << 24;
        remote->url = strdup(url);
        r = remote->url ? store_new(&remote_backend, remote, url, ret) : -ENOMEM;
        if (r < 0)
                return error_set(reterr, r, "open the store: %s", strerror(-r));
        (void) TAKE_PTR(remote);
        return 0;
}
