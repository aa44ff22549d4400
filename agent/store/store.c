#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "store/backend.h"
#include "store/document.h"
#include "store/key.h"

/* How often a document is written whose reply was lost, while it is certain that it did not arrive
 * first. */
#define PUT_TRIES 3

/* The longest ETag that anybody may answer with. */
#define ETAG_BYTES 128

typedef struct Sequence Sequence;

struct Store {
        const StoreBackend *backend;
        void *self;
        char *url;
        StoreCall *calls;
};

struct StoreCall {
        Store *store;
        StoreCall *next;
        StoreCall *previous;
        StoreRequest request; /* its strings and its body belong to the call */
        StoreDone done;
        void *userdata;
        void *data;         /* the implementation's */
        Sequence *sequence; /* of a call that is made of others; NULL: an ordinary one */
        StoreCall *outer;   /* of a call that is part of such a one */
};

/* A call that is made of several: what it must remember between them. */
struct Sequence {
        StoreCall *inner; /* the part that is under way */
        unsigned step;
        char *nonce;
        char *etag;
        int r; /* what the outer call ends with, when it is known before the last step */
        Error *err;
};

typedef int (*Start)(void *self, StoreCall *call, const StoreRequest *request);

/* What goes into a call; all borrowed. */
typedef struct CallSpec {
        const char *key;
        const char *etag;
        const char *start_after;
        StoreCondition condition;
        const StoreBody *body;
        const StoreFetch *fetch;
        StoreProgress progress;
        StoreDone done;
        void *userdata;
} CallSpec;

/* ---- life of calls ---- */

static Sequence *sequence_free(Sequence *sequence) {
        if (!sequence)
                return NULL;
        free(sequence->nonce);
        free(sequence->etag);
        (void) error_free(sequence->err);
        free(sequence);
        return NULL;
}
DEFINE_CLEANUP(Sequence, sequence_free);

static void call_link(StoreCall *call) {
        call->next = call->store->calls;
        if (call->next)
                call->next->previous = call;
        call->store->calls = call;
}

/* Takes it off the list of its store; parts of other calls are on none. */
static void call_delist(StoreCall *call) {
        if (call->previous)
                call->previous->next = call->next;
        else if (call->store->calls == call)
                call->store->calls = call->next;
        if (call->next)
                call->next->previous = call->previous;
        call->next = call->previous = NULL;
}

/* The call is no longer one of its store's: nothing reaches it any more but its holder. */
static void call_unlink(StoreCall *call) {
        if (call->store)
                call_delist(call);
        call->store = NULL;
        if (call->outer)
                call->outer->sequence->inner = NULL;
        call->outer = NULL;
}

static const void *free_const(const void *p) {
        union {
                const void *in;
                void *out;
        } both = { .in = p };

        free(both.out);
        return NULL;
}

static StoreCall *call_free(StoreCall *call) {
        if (!call)
                return NULL;
        call_unlink(call);
        (void) free_const(call->request.key);
        (void) free_const(call->request.etag);
        (void) free_const(call->request.start_after);
        (void) free_const(call->request.body);
        closep(&call->request.fd);
        closep(&call->request.map_fd);
        (void) sequence_free(call->sequence);
        free(call);
        return NULL;
}
DEFINE_CLEANUP(StoreCall, call_free);

static int dup_string(const char *text, const char **ret) {
        if (!text)
                return 0;
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

static int dup_fd(int fd, int *ret) {
        *ret = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return *ret < 0 ? -errno : 0;
}

static int dup_body(const StoreBody *body, StoreRequest *request) {
        char *copy;

        if (!body->body)
                return dup_fd(body->fd, &request->fd);
        copy = calloc(1, body->size + 1);
        if (!copy)
                return -ENOMEM;
        memcpy(copy, body->body, body->size);
        request->body = copy;
        request->body_size = body->size;
        return 0;
}

static int dup_request(const CallSpec *spec, StoreRequest *request) {
        int r;

        request->condition = spec->condition;
        request->progress = spec->progress;
        request->userdata = spec->userdata;
        r = dup_string(spec->key, &request->key);
        if (r == 0)
                r = dup_string(spec->etag, &request->etag);
        if (r == 0)
                r = dup_string(spec->start_after, &request->start_after);
        if (r == 0 && spec->body)
                r = dup_body(spec->body, request);
        if (r == 0 && spec->fetch)
                r = dup_fd(spec->fetch->fd, &request->fd);
        if (r == 0 && spec->fetch && spec->fetch->map_fd >= 0)
                r = dup_fd(spec->fetch->map_fd, &request->map_fd);
        return r;
}

static int call_new(Store *store, const CallSpec *spec, StoreCall **ret) {
        _cleanup_(call_freep) StoreCall *call = NULL;
        int r;

        call = calloc(1, sizeof(StoreCall));
        if (!call)
                return -ENOMEM;
        call->store = store;
        call->done = spec->done;
        call->userdata = spec->userdata;
        call->request.fd = call->request.map_fd = -EBADF;
        r = dup_request(spec, &call->request);
        if (r < 0)
                return r;
        call_link(call);
        *ret = TAKE_PTR(call);
        return 0;
}

static int call_start(Store *store, Start start, const CallSpec *spec, StoreCall **ret) {
        _cleanup_(call_freep) StoreCall *call = NULL;
        int r;

        r = call_new(store, spec, &call);
        if (r < 0)
                return r;
        r = start(store->self, call, &call->request);
        if (r < 0)
                return r;
        if (ret)
                *ret = call;
        (void) TAKE_PTR(call);
        return 0;
}

StoreCall *store_cancel(StoreCall *call) {
        if (!call)
                return NULL;
        if (!call->sequence)
                call->store->backend->cancel(call->store->self, call);
        else if (call->sequence->inner)
                (void) store_cancel(call->sequence->inner);
        return call_free(call);
}

void store_call_set_data(StoreCall *call, void *data) {
        call->data = data;
}

void *store_call_data(StoreCall *call) {
        return call->data;
}

void store_call_end(StoreCall *call, int r, const StoreReply *reply, Error *err) {
        static const StoreReply nothing = { .age_usec = USEC_INFINITY };
        _cleanup_(error_freep) Error *owned = err;

        /* done() may free the store: from here on the call stands alone. */
        call_unlink(call);
        call->done(call->userdata, r, reply ? reply : &nothing, owned);
        (void) call_free(call);
}

/* ---- the store ---- */

int store_new(const StoreBackend *backend, void *self, const char *url, Store **ret) {
        _cleanup_free_ Store *store = NULL;

        store = calloc(1, sizeof(Store));
        if (!store)
                return -ENOMEM;
        store->url = strdup(url);
        if (!store->url)
                return -ENOMEM;
        store->backend = backend;
        store->self = self;
        *ret = TAKE_PTR(store);
        return 0;
}

Store *store_free(Store *store) {
        if (!store)
                return NULL;
        while (store->calls) {
                StoreCall *call = store->calls;

                store->calls = call->next;
                if (store->calls)
                        store->calls->previous = NULL;
                call->next = NULL;
                (void) store_cancel(call);
        }
        (void) store->backend->free(store->self);
        free(store->url);
        free(store);
        return NULL;
}

const char *store_url(const Store *store) {
        return store->url;
}

bool store_is_local(const Store *store) {
        return store->backend->is_local;
}

/* ---- the five calls ---- */

static bool etag_is_valid(const char *etag) {
        return !str_is_empty(etag) && strlen(etag) <= ETAG_BYTES;
}

/* A prefix need not end where a component ends. */
static bool prefix_is_valid(const char *prefix) {
        size_t size = strlen(prefix);

        return size <= LIMIT_KEY_NAME_BYTES && prefix[0] != '/' && !strstr(prefix, "//") &&
               str_is_utf8(prefix, size, true);
}

int store_get(Store *store, const char *key, const char *if_none_match, StoreDone done,
              void *userdata, StoreCall **ret) {
        CallSpec spec = { .key = key, .etag = if_none_match, .done = done, .userdata = userdata };

        if (!key_is_valid(key) || (if_none_match && !etag_is_valid(if_none_match)))
                return -EINVAL;
        return call_start(store, store->backend->get, &spec, ret);
}

static int put_check(const char *key, const StoreBody *body, StoreCondition condition,
                     const char *etag) {
        if (!key_is_valid(key) || (!body->body && body->fd < 0))
                return -EINVAL;
        if (condition == STORE_IF_MATCHES && !etag_is_valid(etag))
                return -EINVAL;
        if (body->body && body->size > LIMIT_DOCUMENT_BYTES)
                return -EFBIG;
        return 0;
}

int store_put(Store *store, const char *key, const StoreBody *body, StoreCondition condition,
              const char *etag, StoreDone done, void *userdata, StoreCall **ret) {
        CallSpec spec = {
                .key = key,
                .etag = condition == STORE_IF_MATCHES ? etag : NULL,
                .condition = condition,
                .body = body,
                .progress = body->progress,
                .done = done,
                .userdata = userdata,
        };
        int r;

        r = put_check(key, body, condition, etag);
        if (r < 0)
                return r;
        return call_start(store, store->backend->put, &spec, ret);
}

int store_list(Store *store, const char *prefix, const char *start_after, StoreDone done,
               void *userdata, StoreCall **ret) {
        CallSpec spec = {
                .key = prefix,
                .start_after = start_after,
                .done = done,
                .userdata = userdata,
        };

        if (!prefix_is_valid(prefix) || (start_after && strlen(start_after) > LIMIT_KEY_NAME_BYTES))
                return -EINVAL;
        return call_start(store, store->backend->list, &spec, ret);
}

int store_delete(Store *store, const char *key, const char *etag, StoreDone done, void *userdata,
                 StoreCall **ret) {
        CallSpec spec = {
                .key = key,
                .etag = etag,
                .condition = etag ? STORE_IF_MATCHES : STORE_ALWAYS,
                .done = done,
                .userdata = userdata,
        };

        if (!key_is_valid(key) || (etag && !etag_is_valid(etag)))
                return -EINVAL;
        return call_start(store, store->backend->delete, &spec, ret);
}

int store_fetch(Store *store, const char *key, const StoreFetch *fetch, StoreDone done,
                void *userdata, StoreCall **ret) {
        CallSpec spec = {
                .key = key,
                .etag = fetch->if_match,
                .fetch = fetch,
                .progress = fetch->progress,
                .done = done,
                .userdata = userdata,
        };

        if (!key_is_valid(key) || fetch->fd < 0 ||
            (fetch->if_match && !etag_is_valid(fetch->if_match)))
                return -EINVAL;
        return call_start(store, store->backend->fetch, &spec, ret);
}

void store_disown(Store *store) {
        if (store->backend->disown)
                store->backend->disown(store->self);
}

/* ---- calls made of calls ---- */

static int sequence_new(Store *store, const CallSpec *spec, const char *nonce, StoreCall **ret) {
        _cleanup_(sequence_freep) Sequence *sequence = NULL;
        int r;

        sequence = calloc(1, sizeof(Sequence));
        if (!sequence)
                return -ENOMEM;
        sequence->nonce = strdup(nonce);
        if (!sequence->nonce)
                return -ENOMEM;
        r = call_new(store, spec, ret);
        if (r < 0)
                return r;
        (*ret)->sequence = TAKE_PTR(sequence);
        return 0;
}

/* The part that was just begun belongs to the call: cancelling the one cancels the other. */
static int sequence_adopt(StoreCall *call, int r, StoreCall *inner) {
        if (r < 0)
                return r;
        call_delist(inner);
        call->sequence->inner = inner;
        inner->outer = call;
        return 0;
}

static void sequence_end(StoreCall *call, int r, const StoreReply *reply) {
        Error *err = TAKE_PTR(call->sequence->err);

        if (r < 0 && !err)
                (void) error_set(&err, r, "%s: %s", call->request.key, strerror(-r));
        store_call_end(call, r, reply, err);
}

static void sequence_remember(StoreCall *call, int r, const Error *err) {
        Sequence *s = call->sequence;

        s->r = r;
        s->err = error_free(s->err);
        if (err)
                (void) error_set(&s->err, r, "%s", error_text(err));
}

/*
 * May the write have happened although it was answered like this? Unknown unless the error says
 * that it cannot: a local store loses no replies, it only may not be sure that what it wrote is
 * durable.
 */
static bool outcome_is_unknown(const Store *store, int r) {
        static const int never_written[] = {
                EACCES, EPERM,   EROFS,      ENOSPC,  EDQUOT,       ENOMEM,       EINVAL,
                EFBIG,  E2BIG,   ENOENT,     ENOTDIR, EISDIR,       ELOOP,        EMFILE,
                ENFILE, ENOBUFS, EOPNOTSUPP, EBADF,   ENAMETOOLONG, EKEYREJECTED,
        };

        if (r == STORE_REFUSED)
                return true;
        if (store->backend->is_local)
                return r == -EIO;
        for (size_t i = 0; i < ELEMENTS(never_written); i++)
                if (r == -never_written[i])
                        return false;
        return r < 0;
}

static int put_document_try(StoreCall *call);

/* Nothing has changed there: the condition of the write that nobody answered still holds. To write
 * once more is safe, as is the first one that arrives late: one of the two is refused, and the
 * nonce stands there. */
static bool has_not_arrived(const StoreCall *call, int r, const StoreReply *reply) {
        const StoreRequest *q = &call->request;

        if (call->sequence->r >= 0)
                return false;
        if (q->condition == STORE_IF_ABSENT)
                return r == STORE_ABSENT;
        return q->condition == STORE_IF_MATCHES && r == 0 && str_equal(reply->etag, q->etag);
}

static void put_document_on_read(void *userdata, int r, const StoreReply *reply,
                                 _unused_ Error *err) {
        StoreCall *call = userdata;
        Sequence *s = call->sequence;
        StoreReply seen = *reply;

        if (r < 0) {
                /* Nothing is known: the first error says why, unless there was none. */
                if (s->r >= 0)
                        sequence_remember(call, r, err);
                sequence_end(call, s->r, NULL);
                return;
        }
        if (r == 0 && memmem(seen.body, seen.body_size, s->nonce, strlen(s->nonce))) {
                seen.body = NULL;
                seen.body_size = 0;
                s->err = error_free(s->err);
                sequence_end(call, 0, &seen);
                return;
        }
        if (has_not_arrived(call, r, reply)) {
                if (s->step >= PUT_TRIES || put_document_try(call) < 0)
                        sequence_end(call, s->r, NULL);
                return;
        }
        s->err = error_free(s->err);
        sequence_end(call, STORE_REFUSED, r == 0 ? &seen : NULL);
}

static void put_document_on_written(void *userdata, int r, const StoreReply *reply, Error *err) {
        StoreCall *call = userdata, *inner = NULL;

        if (r == 0 || !outcome_is_unknown(call->store, r)) {
                sequence_remember(call, r, err);
                sequence_end(call, r, reply);
                return;
        }
        sequence_remember(call, r, err);
        r = store_get(call->store, call->request.key, NULL, put_document_on_read, call, &inner);
        r = sequence_adopt(call, r, inner);
        if (r < 0)
                sequence_end(call, call->sequence->r < 0 ? call->sequence->r : r, NULL);
}

static int put_document_try(StoreCall *call) {
        const StoreRequest *q = &call->request;
        const StoreBody body = { .body = q->body, .size = q->body_size, .fd = -EBADF };
        StoreCall *inner = NULL;
        int r;

        call->sequence->step++;
        r = store_put(call->store, q->key, &body, q->condition, q->etag, put_document_on_written,
                      call, &inner);
        return sequence_adopt(call, r, inner);
}

int store_put_document(Store *store, const char *key, const char *text, size_t size,
                       const char *nonce, StoreCondition condition, const char *etag,
                       StoreDone done, void *userdata, StoreCall **ret) {
        _cleanup_(call_freep) StoreCall *call = NULL;
        const StoreBody body = { .body = text, .size = size, .fd = -EBADF };
        const CallSpec spec = { .key = key,
                                .etag = condition == STORE_IF_MATCHES ? etag : NULL,
                                .condition = condition,
                                .body = &body,
                                .done = done,
                                .userdata = userdata };
        int r;

        /* A nonce that does not stand in the text could never be found again. */
        if (str_is_empty(nonce) || !memmem(text, size, nonce, strlen(nonce)))
                return -EINVAL;
        r = put_check(key, &body, condition, etag);
        if (r < 0)
                return r;
        r = sequence_new(store, &spec, nonce, &call);
        if (r < 0)
                return r;
        r = put_document_try(call);
        if (r < 0)
                return r;
        if (ret)
                *ret = call;
        (void) TAKE_PTR(call);
        return 0;
}

/* ---- self-test ---- */

/* What each write must be answered with; a row's ETag is that of the first write. */
typedef struct SelfTestStep {
        StoreCondition condition;
        int expected;
        const char *words;
} SelfTestStep;

/* clang-format off */
static const SelfTestStep self_test_steps[] = {
        { STORE_IF_ABSENT,  0,             "it refused to create a document that was not there" },
        { STORE_IF_ABSENT,  STORE_REFUSED, "it created the same document twice" },
        { STORE_IF_MATCHES, 0,             "it refused to replace a document by its right ETag" },
        { STORE_IF_MATCHES, STORE_REFUSED, "it replaced a document by an ETag that was no longer right" },
};
/* clang-format on */

static int self_test_next(StoreCall *call);

static void self_test_on_deleted(void *userdata, _unused_ int r, _unused_ const StoreReply *reply,
                                 _unused_ Error *err) {
        StoreCall *call = userdata;

        sequence_end(call, call->sequence->r, NULL);
}

static int self_test_tidy(StoreCall *call) {
        StoreCall *inner = NULL;
        int r;

        r = store_delete(call->store, call->request.key, NULL, self_test_on_deleted, call, &inner);
        return sequence_adopt(call, r, inner);
}

static void self_test_on_written(void *userdata, int r, const StoreReply *reply, Error *err) {
        StoreCall *call = userdata;
        Sequence *s = call->sequence;
        const SelfTestStep *step = &self_test_steps[s->step];

        if (r < 0)
                sequence_remember(call, r, err);
        else if (r != step->expected)
                s->r = error_set(&s->err, -EOPNOTSUPP,
                                 "%s does not honour conditional writes: %s; nothing can be "
                                 "coordinated there",
                                 call->store->url, step->words);
        else if (s->step == 0) {
                s->etag = strdup(reply->etag ? reply->etag : "");
                if (!s->etag)
                        s->r = -ENOMEM;
        }
        s->step++;
        r = s->r < 0 || s->step == ELEMENTS(self_test_steps) ? self_test_tidy(call)
                                                             : self_test_next(call);
        if (r < 0)
                sequence_end(call, s->r < 0 ? s->r : r, NULL);
}

static int self_test_next(StoreCall *call) {
        const SelfTestStep *step = &self_test_steps[call->sequence->step];
        char text[128];
        StoreBody body = { .body = text, .fd = -EBADF };
        StoreCall *inner = NULL;
        int r;

        /* Another content each time, so that an ETag of the content changes as well. */
        body.size = (size_t) snprintf(text, sizeof(text), "{\"step\":%u,\"nonce\":\"%s\"}\n",
                                      call->sequence->step, call->sequence->nonce);
        r = store_put(call->store, call->request.key, &body, step->condition, call->sequence->etag,
                      self_test_on_written, call, &inner);
        return sequence_adopt(call, r, inner);
}

int store_self_test(Store *store, StoreDone done, void *userdata, StoreCall **ret) {
        _cleanup_(call_freep) StoreCall *call = NULL;
        _cleanup_free_ char *nonce = NULL, *key = NULL;
        CallSpec spec = { .done = done, .userdata = userdata };
        int r;

        nonce = document_nonce();
        if (!nonce)
                return -ENOMEM;
        key = str_format("selftest/%s.json", nonce);
        if (!key)
                return -ENOMEM;
        spec.key = key;
        r = sequence_new(store, &spec, nonce, &call);
        if (r < 0)
                return r;
        r = self_test_next(call);
        if (r < 0)
                return r;
        if (ret)
                *ret = call;
        (void) TAKE_PTR(call);
        return 0;
}
