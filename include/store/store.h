#pragma once

/*
 * The store: five calls on named documents, the only thing that hosts share. Two implementations
 * with one test suite: files below a folder (store/file.h, the embedded default) and S3 (in
 * tendril-net, asked by store/remote.h).
 *
 * All calls are asynchronous: done() comes exactly once, from the loop, never from within the call,
 * unless it is cancelled. Keys are valid by key_is_valid(). Bodies of get and put are at most
 * LIMIT_DOCUMENT_BYTES, larger ones go by descriptor.
 *
 * Conditional writes: none, absent, matches(etag). "Refused" means that the condition did not hold.
 * A write whose reply was lost, or that was refused although it may have been our own, is
 * *unknown*; store_put_document() reads back and compares the nonce, so that its callers see only
 * written, refused or broken.
 *
 * ETags are opaque, at most 128 bytes, equal only for equal content. delete is for pruning by
 * people, never for coordination.
 *
 * Life: an implementation's constructor → calls → store_free() (cancels all; done() is not called).
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/time.h"

typedef struct Store Store;
typedef struct StoreCall StoreCall;

typedef enum StoreAnswer {
        STORE_UNCHANGED = 1, /* get: the document still has that ETag */
        STORE_ABSENT,        /* get, fetch, delete: there is no such key */
        STORE_REFUSED,       /* put, delete: the condition does not hold */
} StoreAnswer;

typedef enum StoreCondition {
        STORE_ALWAYS,
        STORE_IF_ABSENT,
        STORE_IF_MATCHES,
} StoreCondition;

typedef struct StoreEntry {
        char *key;
        char *etag;
        uint64_t size;
} StoreEntry;

/* What came back; borrowed during the callback. */
typedef struct StoreReply {
        const char *etag; /* get, put, fetch: of the document now */
        const char *body; /* get */
        size_t body_size;
        usec_t age_usec; /* get: since its last change, by the store's clock; USEC_INFINITY: unknown
                            yet */
        usec_t date_usec;          /* the store's clock, REALTIME; 0: it has none of its own */
        uint64_t size;             /* fetch: of the whole object */
        const StoreEntry *entries; /* list: in byte order of the keys, at most LIMIT_LIST_KEYS */
        size_t n_entries;
        bool more; /* list: there are more behind the last one */
} StoreReply;

/* r: 0, StoreAnswer, or negative errno with words. */
typedef void (*StoreDone)(void *userdata, int r, const StoreReply *reply, Error *err);

int store_get(Store *store, const char *key, const char *if_none_match, StoreDone done,
              void *userdata, StoreCall **ret);

/* Tells how much of a long transfer is there. May cancel the call. */
typedef void (*StoreProgress)(void *userdata, uint64_t n_bytes, uint64_t size);

/* Body from memory (copied), or from a descriptor of a regular file (duplicated; read from its
 * beginning, whole) where body is NULL. */
typedef struct StoreBody {
        const void *body;
        size_t size;
        int fd;
        StoreProgress
                progress; /* of a body from a descriptor; may be NULL; has the userdata of done() */
} StoreBody;
int store_put(Store *store, const char *key, const StoreBody *body, StoreCondition condition,
              const char *etag, StoreDone done, void *userdata, StoreCall **ret);

/* Keys that begin with prefix and are behind start_after (NULL: all). */
int store_list(Store *store, const char *prefix, const char *start_after, StoreDone done,
               void *userdata, StoreCall **ret);

/* etag NULL: unconditional. */
int store_delete(Store *store, const char *key, const char *etag, StoreDone done, void *userdata,
                 StoreCall **ret);

/* Writes the object to fd, each byte at its own offset, so that a partial file is continued. What
 * is there already is known by map_fd, a second file that belongs to this one and that only fetch
 * reads and writes (both empty, or as an earlier fetch left them). Without one (-EBADF) everything
 * is fetched. A store of files needs no map: it goes on at the end of fd. if_match NULL: whatever
 * is there. STORE_REFUSED: the object is another one now; begin anew with empty files. progress may
 * be NULL. The descriptors are duplicated. */
typedef struct StoreFetch {
        const char *if_match;
        int fd;
        int map_fd;
        StoreProgress progress;
} StoreFetch;
int store_fetch(Store *store, const char *key, const StoreFetch *fetch, StoreDone done,
                void *userdata, StoreCall **ret);

/* What was handed to fetch nobody can write any more through what the store was given: another
 * process that serves it has been killed with all its children when this returns or soon after;
 * calls under way end with -ECONNRESET. For a store in this process nothing happens. */
void store_disown(Store *store);

/* done() will not come any more; a write may have happened all the same. Takes NULL. Returns NULL.
 * A call is over, and its pointer void, when done() is called. */
StoreCall *store_cancel(StoreCall *call);

Store *store_free(Store *store);
DEFINE_CLEANUP(Store, store_free);

/* "file:///srv/store", for words. */
const char *store_url(const Store *store);

/* True: an unsigned document is acted on by default (file:). */
bool store_is_local(const Store *store);

/*
 * A conditional write of a document that carries `nonce` somewhere in its text. Unknown outcomes
 * (time-out, lost reply, a refusal that may be our own write) are resolved by reading back: 0 with
 * the etag where our nonce stands there; where what stands there shows that nothing arrived, it is
 * written again, at most twice, and then is broken; else STORE_REFUSED with the body and etag that
 * stand there now. Negative: broken, nothing is known.
 */
int store_put_document(Store *store, const char *key, const char *text, size_t size,
                       const char *nonce, StoreCondition condition, const char *etag,
                       StoreDone done, void *userdata, StoreCall **ret);

/*
 * Does this store honour conditions? Creates a scratch key twice (the second must be refused),
 * replaces it with the right and the wrong ETag, and removes it. r: 0, or -EOPNOTSUPP with a
 * sentence that tells which step it failed: nothing may be coordinated there.
 */
int store_self_test(Store *store, StoreDone done, void *userdata, StoreCall **ret);
