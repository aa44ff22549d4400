#include "store/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "store/wire.h"

typedef struct Served Served;

struct StoreServer {
        int answer_fd;
        Store *store;
        Served *calls;
        size_t n_calls;
};

/* One call under way. */
struct Served {
        StoreServer *server;
        Served *next;
        uint64_t id;
        uint64_t number;
        int progress_fd;
        bool is_list;
        StoreCall *call;
};

/* ---- life of calls ---- */

static Served *served_new(StoreServer *s, uint64_t id) {
        Served *c = calloc(1, sizeof(Served));

        if (!c)
                return NULL;
        c->server = s;
        c->id = id;
        c->progress_fd = -EBADF;
        c->next = s->calls;
        s->calls = c;
        s->n_calls++;
        return c;
}

static Served *served_free(Served *c) {
        Served **at = &c->server->calls;

        while (*at && *at != c)
                at = &(*at)->next;
        if (*at)
                *at = c->next;
        c->server->n_calls--;
        c->call = store_cancel(c->call);
        closep(&c->progress_fd);
        free(c);
        return NULL;
}
DEFINE_CLEANUP(Served, served_free);

/* ---- answers ---- */

static int sealed_file(const char *name, const void *data, size_t size) {
        _cleanup_close_ int fd = file_memfd(name, data, size);

        if (fd < 0)
                return fd;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* The table only reads what JsonArray points to. */
static void *not_const(const void *p) {
        union {
                const void *in;
                void *out;
        } both = { .in = p };

        return both.out;
}

static int list_file(const StoreReply *reply) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_XML_LIST_BYTES);
        const WireList list = { .entries = { .items = not_const(reply->entries),
                                             .n = reply->n_entries } };
        int r;

        r = json_encode(&wire_list_table, &list, &text);
        return r < 0 ? r : sealed_file("list", text.data, text.size);
}

static int answer_call(const Served *c, int r, const StoreReply *reply) {
        const WireAnswer answer = {
                .answer = (uint64_t) r,
                .etag = not_const(reply->etag),
                .has_age = reply->age_usec != USEC_INFINITY,
                .age_usec = reply->age_usec != USEC_INFINITY ? reply->age_usec : 0,
                .date_usec = reply->date_usec,
                .size = reply->size,
                .more = reply->more,
        };
        _cleanup_close_ int fd = -EBADF;
        bool has_file = r == 0 && (c->is_list || reply->body);

        if (has_file) {
                fd = c->is_list ? list_file(reply)
                                : sealed_file("body", reply->body, reply->body_size);
                if (fd < 0)
                        return fd;
        }
        return call_answer(c->server->answer_fd, c->id, &wire_answer_table, &answer, &fd,
                           has_file ? 1 : 0);
}

static void on_done(void *userdata, int r, const StoreReply *reply, Error *err) {
        Served *c = userdata;
        const char *words = err ? error_text(err) : NULL;

        c->call = NULL;
        if (r >= 0) {
                r = answer_call(c, r, reply);
                words = "the answer cannot be handed over";
        }
        if (r < 0)
                (void) call_fail(c->server->answer_fd, c->id, r, words ?: strerror(-r));
        (void) served_free(c);
}

static void on_progress(void *userdata, uint64_t n_bytes, uint64_t size) {
        const Served *c = userdata;
        const WireProgress progress = { .n_bytes = n_bytes, .size = size };

        /* Whoever looks at it sees less, nothing worse. */
        (void) !pwrite(c->progress_fd, &progress, sizeof(progress), 0);
}

/* ---- the calls ---- */

static int begin_get(Served *c, const WireAsk *ask, _unused_ CallRequest *request) {
        return store_get(c->server->store, ask->key, ask->etag, on_done, c, &c->call);
}

static int begin_list(Served *c, const WireAsk *ask, _unused_ CallRequest *request) {
        c->is_list = true;
        return store_list(c->server->store, ask->key, ask->start_after, on_done, c, &c->call);
}

static int begin_delete(Served *c, const WireAsk *ask, _unused_ CallRequest *request) {
        return store_delete(c->server->store, ask->key, ask->etag, on_done, c, &c->call);
}

static void take_progress(Served *c, const WireAsk *ask, CallRequest *request) {
        if (ask->has_progress)
                c->progress_fd = TAKE_FD(request->fds[request->n_fds - 1]);
}

/* What is no larger than a document is one, unless somebody watches it. */
static int begin_put(Served *c, const WireAsk *ask, CallRequest *request) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        StoreBody body = { .fd = request->fds[0] };
        struct stat st;
        int r;

        if (fstat(body.fd, &st) < 0)
                return -errno;
        if (!ask->has_progress && st.st_size <= LIMIT_DOCUMENT_BYTES) {
                r = file_read_fd(body.fd, &text);
                if (r < 0)
                        return r;
                body.body = buf_str(&text);
                body.size = text.size;
        }
        take_progress(c, ask, request);
        body.progress = c->progress_fd >= 0 ? on_progress : NULL;
        return store_put(c->server->store, ask->key, &body, (StoreCondition) ask->condition,
                         ask->etag, on_done, c, &c->call);
}

static int begin_fetch(Served *c, const WireAsk *ask, CallRequest *request) {
        StoreFetch fetch = {
                .if_match = ask->etag,
                .fd = request->fds[0],
                .map_fd = ask->has_map ? request->fds[1] : -EBADF,
        };

        take_progress(c, ask, request);
        fetch.progress = c->progress_fd >= 0 ? on_progress : NULL;
        return store_fetch(c->server->store, ask->key, &fetch, on_done, c, &c->call);
}

typedef struct Method {
        const char *name;
        bool has_file; /* the first descriptor; others as the question says */
        int (*begin)(Served *c, const WireAsk *ask, CallRequest *request);
} Method;

static const Method methods[] = {
        { WIRE_GET, false, begin_get },    { WIRE_PUT, true, begin_put },
        { WIRE_LIST, false, begin_list },  { WIRE_DELETE, false, begin_delete },
        { WIRE_FETCH, true, begin_fetch }, { WIRE_CANCEL, false, NULL },
};

static const Method *find_method(const char *name) {
        for (size_t i = 0; i < ELEMENTS(methods); i++)
                if (str_equal(methods[i].name, name))
                        return &methods[i];
        return NULL;
}

static int cancel(StoreServer *s, const CallRequest *request, Error **reterr) {
        WireCancel p = { 0 };
        Served *next;
        int r;

        r = json_decode_value(request->parameters, &wire_cancel_table, JSON_STRICT, &p, reterr);
        if (r < 0)
                return r;
        for (Served *c = s->calls; c; c = next) {
                next = c->next;
                if (p.number > 0 && c->number == p.number)
                        (void) served_free(c);
        }
        return call_answer(s->answer_fd, request->id, NULL, NULL, NULL, 0);
}

static int begin(StoreServer *s, const Method *method, const WireAsk *ask, CallRequest *request,
                 Error **reterr) {
        _cleanup_(served_freep) Served *c = NULL;
        size_t n_fds = (size_t) method->has_file + ask->has_map + ask->has_progress;
        int r;

        if (request->n_fds != n_fds || (n_fds > 0 && !method->has_file))
                return error_set(reterr, -EINVAL, "%s came with %zu descriptors in place of %zu",
                                 method->name, request->n_fds, n_fds);
        if (s->n_calls >= LIMIT_S3_CALLS)
                return error_set(reterr, -EBUSY, "%d calls of the store are under way",
                                 LIMIT_S3_CALLS);
        c = served_new(s, request->id);
        if (!c)
                return error_set(reterr, -ENOMEM, "out of memory");
        c->number = ask->number;
        r = method->begin(c, ask, request);
        if (r < 0)
                return error_set(reterr, r, "%s in %s: %s", ask->key, store_url(s->store),
                                 strerror(-r));
        (void) TAKE_PTR(c);
        return 0;
}

int store_server_begin(StoreServer *s, CallRequest *request, Error **reterr) {
        const Method *method = find_method(request->method);
        WireAsk ask = { 0 };
        int r;

        if (!method)
                return error_set(reterr, -EOPNOTSUPP, "there is no '%s'", request->method);
        if (!method->begin)
                return cancel(s, request, reterr);
        r = json_decode_value(request->parameters, &wire_ask_table, JSON_STRICT, &ask, reterr);
        if (r >= 0)
                r = begin(s, method, &ask, request, reterr);
        json_table_done(&wire_ask_table, &ask);
        return r;
}

bool store_server_knows(const char *method) {
        return find_method(method) != NULL;
}

/* ---- life ---- */

int store_server_new(int answer_fd, Store *store, StoreServer **ret) {
        StoreServer *s = calloc(1, sizeof(StoreServer));

        if (!s)
                return -ENOMEM;
        s->answer_fd = answer_fd;
        s->store = store;
        *ret = s;
        return 0;
}

StoreServer *store_server_free(StoreServer *s) {
        if (!s)
                return NULL;
        while (s->calls)
                (void) served_free(s->calls);
        free(s);
        return NULL;
}
