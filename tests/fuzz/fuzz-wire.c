/*
 * The answers of a helper that lies, into a remote store: every call ends once, and what it ends
 * with is within the bounds of store/store.h, or a failure with words.
 *
 * An input: a byte that says which call, one that says which descriptors, the answer's JSON up to a
 * NUL, and what the descriptor holds.
 */

#include "../../agent/store/remote.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
        if (!holds)
                abort();
}

/* ---- a link that keeps the one call ---- */

typedef struct FakeLink {
        CallDone done;
        void *userdata;
        int progress_fd;
} FakeLink;

static FakeLink *fake(void) {
        static FakeLink link;

        return &link;
}

int link_call(_unused_ Link *link, const char *method, _unused_ const JsonTable *table,
              _unused_ const void *parameters, const int *fds, size_t n_fds,
              _unused_ usec_t timeout_usec, CallDone done, void *userdata, LinkCall **ret) {
        if (str_equal(method, WIRE_CANCEL))
                return 0;
        *fake() = (FakeLink){ .done = done,
                              .userdata = userdata,
                              .progress_fd = n_fds > 1 ? fds[n_fds - 1] : -1 };
        *ret = (LinkCall *) (void *) fake();
        return 0;
}

LinkCall *link_cancel(_unused_ LinkCall *call) {
        return NULL;
}

void link_restart(_unused_ Link *link) {
}

/* ---- who asks ---- */

typedef struct Asked {
        unsigned which;
        unsigned n_done;
        uint64_t n_bytes;
} Asked;

enum { GET, GET_ETAG, PUT, LIST, LIST_AFTER, DELETE, FETCH, N_CALLS };

static void check_list(const StoreReply *reply, bool after) {
        const char *previous = after ? "a/b" : NULL;

        must(reply->n_entries <= LIMIT_LIST_KEYS);
        must(!reply->more || reply->n_entries > 0);
        for (size_t i = 0; i < reply->n_entries; i++) {
                const StoreEntry *e = &reply->entries[i];

                must(key_is_valid(e->key) && str_has_prefix(e->key, "a/"));
                must(e->etag[0] && strlen(e->etag) <= 128);
                must(!previous || strcmp(previous, e->key) < 0);
                previous = e->key;
        }
}

static void on_asked(void *userdata, int r, const StoreReply *reply, Error *err) {
        Asked *a = userdata;

        a->n_done++;
        must(r <= STORE_REFUSED);
        must((r < 0) == (err != NULL));
        must(r >= 0 || strstr(error_text(err), "s3://b/p"));
        must(!reply->etag || (reply->etag[0] && strlen(reply->etag) <= 128));
        must(r != STORE_UNCHANGED || (a->which == GET_ETAG && reply->etag));
        must(reply->body_size <= LIMIT_DOCUMENT_BYTES);
        must(r != 0 || a->which > GET_ETAG || (reply->body && reply->etag));
        must(r != 0 || (a->which != PUT && a->which != FETCH) || reply->etag);
        must(r <= 0 || (!reply->body && reply->n_entries == 0));
        if (a->which == LIST || a->which == LIST_AFTER) {
                must(r <= 0);
                check_list(reply, a->which == LIST_AFTER);
        }
}

static void on_bytes(void *userdata, uint64_t n_bytes, uint64_t size) {
        Asked *a = userdata;

        must(n_bytes > a->n_bytes && n_bytes <= size);
        a->n_bytes = n_bytes;
}

static int begin(Store *store, Asked *a, int fd) {
        const StoreBody body = { .body = "x", .size = 1 };
        const StoreFetch fetch = { .fd = fd, .map_fd = -EBADF, .progress = on_bytes };

        switch (a->which) {
        case GET:
        case GET_ETAG:
                return store_get(store, "a/b", a->which == GET ? NULL : "e", on_asked, a, NULL);
        case PUT:
                return store_put(store, "a/b", &body, STORE_ALWAYS, NULL, on_asked, a, NULL);
        case LIST:
        case LIST_AFTER:
                return store_list(store, "a/", a->which == LIST ? NULL : "a/b", on_asked, a, NULL);
        case DELETE:
                return store_delete(store, "a/b", NULL, on_asked, a, NULL);
        case FETCH:
        default:
                return store_fetch(store, "a/b", &fetch, on_asked, a, NULL);
        }
}

/* ---- the answer ---- */

static int file_of(unsigned kind, const uint8_t *data, size_t size) {
        static const char *const paths[] = { "/proc/self/status", "/", "/dev/zero" };

        return kind < ELEMENTS(paths) ? open(paths[kind], O_RDONLY | O_CLOEXEC)
                                      : file_memfd("fuzz", data, size);
}

static void answer(const uint8_t *text, size_t text_size, const uint8_t *rest, size_t rest_size,
                   unsigned files) {
        CallReply reply = { .n_fds = files & 3 };
        Json *value = NULL;

        for (size_t i = 0; i < reply.n_fds; i++)
                reply.fds[i] = file_of((files >> 2) & 7, rest, rest_size);
        if (fake()->progress_fd >= 0)
                (void) !pwrite(fake()->progress_fd, rest, MIN(rest_size, (size_t) 20), 0);
        if (json_parse((const char *) text, text_size, &value, NULL) >= 0) {
                reply.answer = value;
                fake()->done(fake()->userdata, 0, &reply, NULL);
        } else {
                _cleanup_(error_freep) Error *err = NULL;

                (void) error_set(&err, -EACCES, "store.get: %.*s", (int) MIN(text_size, 99U),
                                 (const char *) text);
                fake()->done(fake()->userdata, -EACCES, &reply, err);
        }
        (void) json_free(value);
        for (size_t i = 0; i < reply.n_fds; i++)
                closep(&reply.fds[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(sd_event_unrefp) sd_event *loop = NULL;
        _cleanup_close_ int fd = -EBADF;
        _cleanup_(store_freep) Store *store = NULL;
        const uint8_t *text = data + 2, *end;
        Asked a = { 0 };

        if (size < 2)
                return 0;
        end = memchr(text, 0, size - 2);
        end = end ?: data + size;
        a.which = data[0] % N_CALLS;
        must(sd_event_new(&loop) >= 0);
        must(store_remote_new(loop, NULL, "s3://b/p", &store, NULL) == 0);
        fd = file_memfd("fetched", "", 0);
        must(fd >= 0 && begin(store, &a, fd) == 0);
        answer(text, (size_t) (end - text), end + (end < data + size),
               (size_t) (data + size - end) - (end < data + size), data[1]);
        must(a.n_done == 1);
        return 0;
}
