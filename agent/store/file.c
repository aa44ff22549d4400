#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/backoff.h"
#include "base/file.h"
#include "base/str.h"
#include "folder.h"
#include "store/backend.h"

#define URL_PREFIX "file://"

/* How long a call tries for the lock: writers hold it for two syncs, so this means a stopped or
 * broken one. */
#define LOCK_TIMEOUT_USEC SEC(10)

/* One slice of a long copy: a few milliseconds, so that whatever else the loop does goes on. */
#define SLICE_BYTES (4U * 1024 * 1024)

/* Documents of which the age is known: head, desired and the lanes of one rollout; the one not read
 * for longest goes first. */
#define MAX_AGES 256

/* Since when this process has seen a document unchanged. By hashes, so that the table has its whole
 * size from the start; two that collide look younger than they are, which delays and does no harm.
 */
typedef struct Age {
        uint64_t key;
        uint64_t etag;
        usec_t since_usec;
        usec_t read_usec;
} Age;

typedef struct FileStore {
        sd_event *loop;
        const Clock *clock;
        char *url;
        int root_fd;
        Age ages[MAX_AGES];
} FileStore;

typedef struct FileCall FileCall;

/* A call goes on in steps, each one dispatch of the loop, until one of them ends it. */
struct FileCall {
        FileStore *store;
        StoreCall *call;
        const StoreRequest *request;
        const char *verb; /* for words */
        void (*step)(FileCall *c);
        sd_event_source *step_source;
        int in_fd;   /* the document that is read, or the body */
        int temp_fd; /* the temporary that is written; open as long as it is ours */
        char temp_name[32];
        uint64_t at; /* how far the copy is */
        uint64_t size;
        char etag[FOLDER_ETAG_SIZE];
        Backoff backoff;      /* between tries for the lock */
        usec_t deadline_usec; /* for the lock, BOOTTIME; 0: not tried yet */
};

/* ---- ages ---- */

/* FNV-1a, 64 bits. */
static uint64_t hash(const char *text) {
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        for (; *text; text++)
                h = (h ^ (uint8_t) *text) * UINT64_C(0x100000001b3);
        return h;
}

/* The key's own, else the one that was not read for longest (never used ones first). */
static Age *age_slot(FileStore *store, uint64_t key) {
        Age *oldest = store->ages;

        for (size_t i = 0; i < MAX_AGES; i++) {
                Age *age = &store->ages[i];

                if (age->key == key)
                        return age;
                if (age->read_usec < oldest->read_usec)
                        oldest = age;
        }
        *oldest = (Age){ .key = key };
        return oldest;
}

/* Notes that the document has this ETag now, and returns since when. */
static usec_t age_of(FileStore *store, const char *key, const char *etag) {
        usec_t now = clock_read(store->clock, CLOCK_BOOTTIME);
        Age *age = age_slot(store, hash(key));
        uint64_t seen = hash(etag);

        if (age->etag != seen) {
                age->etag = seen;
                age->since_usec = now;
        }
        age->read_usec = now;
        return now - MIN(now, age->since_usec);
}

/* ---- life of a call ---- */

/* Closes what is open and removes the temporary; the store must be there still. */
static void call_release(FileCall *c) {
        if (c->temp_fd >= 0)
                folder_temp_remove(c->store->root_fd, c->temp_name);
        closep(&c->temp_fd);
        c->temp_fd = -EBADF;
        closep(&c->in_fd);
        c->in_fd = -EBADF;
        c->step_source = sd_event_source_disable_unref(c->step_source);
}

static FileCall *call_free(FileCall *c) {
        if (!c)
                return NULL;
        call_release(c);
        free(c);
        return NULL;
}
DEFINE_CLEANUP(FileCall, call_free);

static void call_end(FileCall *c, int r, const StoreReply *reply) {
        StoreCall *call = c->call;

        /* done() may free the store: nothing of it is used behind this. */
        call_release(c);
        store_call_end(call, r, reply, NULL);
        free(c);
}

/* What a person can do about it. */
static const char *advice(int r) {
        switch (-r) {
        case EACCES:
        case EPERM:
                return "; this user may not: look at the owner and mode of the folder";
        case EROFS:
                return "; it is mounted read-only";
        case ENOSPC:
        case EDQUOT:
                return "; make room there and try again";
        case ENOTDIR:
        case EISDIR:
        case EEXIST:
                return "; a document stands where a folder is needed, or the other way round";
        case ENAMETOOLONG:
                return "; a component of its name is longer than this file system takes";
        case EIO:
                return "; look at the disk; what was written may be there or not";
        case ETIMEDOUT:
                return "; another process has held the store's .lock for 10 s: find it (fuser, "
                       "lslocks) and end it";
        case ESTALE:
                return "; it became shorter while it was copied";
        case ERANGE:
                return "; what is there already is longer than the object: empty it";
        case EFBIG:
                return "; it is larger than any document of ours: somebody else put it there";
        default:
                return "";
        }
}

static void call_fail(FileCall *c, int r) {
        _cleanup_(error_freep) Error *err = NULL;
        StoreCall *call = c->call;

        (void) error_set(&err, r, "%s %s in %s: %s%s", c->verb, c->request->key, c->store->url,
                         strerror(-r), advice(r));
        call_release(c);
        store_call_end(call, r, NULL, TAKE_PTR(err));
        free(c);
}

static int call_on_step(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        FileCall *c = userdata;

        c->step(c);
        return 0;
}

/* The next step comes from the loop, after usec. */
static int call_arm(FileCall *c, void (*step)(FileCall *c), usec_t usec) {
        int r;

        c->step = step;
        if (!c->step_source) {
                r = sd_event_add_time_relative(c->store->loop, &c->step_source, CLOCK_MONOTONIC,
                                               usec, 1, call_on_step, c);
                if (r >= 0)
                        (void) sd_event_source_set_description(c->step_source, "file-store-step");
                return r < 0 ? r : 0;
        }
        r = sd_event_source_set_time_relative(c->step_source, usec);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->step_source, SD_EVENT_ONESHOT);
        return r < 0 ? r : 0;
}

static void call_arm_or_fail(FileCall *c, void (*step)(FileCall *c), usec_t usec) {
        int r = call_arm(c, step, usec);

        if (r < 0)
                call_fail(c, r);
}

static int call_begin(void *self, StoreCall *call, const StoreRequest *request, const char *verb,
                      void (*step)(FileCall *c)) {
        _cleanup_(call_freep) FileCall *c = NULL;
        int r;

        c = calloc(1, sizeof(FileCall));
        if (!c)
                return -ENOMEM;
        c->store = self;
        c->call = call;
        c->request = request;
        c->verb = verb;
        c->in_fd = c->temp_fd = -EBADF;
        c->backoff = (Backoff){ .base_usec = MSEC(2), .max_usec = MSEC(50) };
        r = call_arm(c, step, 0);
        if (r < 0)
                return r;
        store_call_set_data(call, TAKE_PTR(c));
        return 0;
}

/* ---- get ---- */

static int read_document(FileCall *c, Buf *body) {
        uint64_t size;
        int r;

        r = folder_open(c->store->root_fd, c->request->key, &c->in_fd);
        if (r != 0)
                return r;
        r = folder_etag(c->in_fd, c->etag, &size);
        if (r < 0)
                return r;
        if (c->request->etag && str_equal(c->request->etag, c->etag))
                return STORE_UNCHANGED;
        return size > LIMIT_DOCUMENT_BYTES ? -EFBIG : file_read_fd(c->in_fd, body);
}

static void get_step(FileCall *c) {
        _cleanup_(buf_done) Buf body = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        StoreReply reply = { .age_usec = USEC_INFINITY };
        int r;

        r = read_document(c, &body);
        if (r < 0) {
                call_fail(c, r);
                return;
        }
        if (r != STORE_ABSENT) {
                reply.etag = c->etag;
                reply.age_usec = age_of(c->store, c->request->key, c->etag);
        }
        if (r == 0) {
                reply.body = buf_str(&body);
                reply.body_size = body.size;
        }
        call_end(c, r, &reply);
}

static int file_get(void *self, StoreCall *call, const StoreRequest *request) {
        return call_begin(self, call, request, "read", get_step);
}

/* ---- what needs the lock: put and delete ---- */

/* 0: the lock is held. -EAGAIN: the step was armed again. Other errors: the call has ended. */
static int lock_or_retry(FileCall *c, int *ret_fd) {
        usec_t now = clock_read(c->store->clock, CLOCK_BOOTTIME);
        uint32_t random = 0;
        int r;

        r = folder_lock(c->store->root_fd, ret_fd);
        if (r == 0)
                return 0;
        if (r != -EAGAIN) {
                call_fail(c, r);
                return r;
        }
        if (c->deadline_usec == 0)
                c->deadline_usec = now + LOCK_TIMEOUT_USEC;
        if (now >= c->deadline_usec) {
                call_fail(c, -ETIMEDOUT);
                return -ETIMEDOUT;
        }
        if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
                random = (uint32_t) now;
        call_arm_or_fail(c, c->step, backoff_next(&c->backoff, random));
        return -EAGAIN;
}

static int put_commit_locked(FileCall *c) {
        const StoreRequest *q = c->request;
        int r;

        r = folder_check(c->store->root_fd, q->key, q->condition, q->etag);
        if (r != 0)
                return r;
        r = folder_etag(c->temp_fd, c->etag, NULL);
        if (r < 0)
                return r;
        r = folder_commit(c->store->root_fd, c->temp_name, q->key);
        if (r < 0)
                return r;
        /* The name is gone, and with it what call_release() would remove. */
        closep(&c->temp_fd);
        c->temp_fd = -EBADF;
        return 0;
}

static void put_commit_step(FileCall *c) {
        _cleanup_close_ int lock_fd = -EBADF;
        StoreReply reply = { .age_usec = USEC_INFINITY };
        int r;

        if (lock_or_retry(c, &lock_fd) != 0)
                return;
        r = put_commit_locked(c);
        closep(&lock_fd);
        lock_fd = -EBADF;
        if (r < 0) {
                call_fail(c, r);
                return;
        }
        if (r == 0) {
                reply.etag = c->etag;
                reply.age_usec = age_of(c->store, c->request->key, c->etag);
        }
        call_end(c, r, &reply);
}

static void put_sync_step(FileCall *c) {
        if (fsync(c->temp_fd) < 0) {
                call_fail(c, -errno);
                return;
        }
        c->step = put_commit_step;
        put_commit_step(c);
}

/* One slice from in_fd to out_fd. True: the copy is complete. The call may be gone when it returns
 * false. */
static bool copy_slice(FileCall *c, int out_fd, void (*again)(FileCall *c)) {
        StoreProgress progress = c->request->progress;
        void *userdata = c->request->userdata;
        uint64_t at, size;
        ssize_t n;
        int r;

        if (c->at >= c->size)
                return true;
        n = folder_copy(c->in_fd, c->at, out_fd, c->at, (size_t) MIN(SLICE_BYTES, c->size - c->at));
        if (n <= 0) {
                /* It was longer when the call began. */
                call_fail(c, n < 0 ? (int) n : -ESTALE);
                return false;
        }
        c->at += (uint64_t) n;
        at = c->at;
        size = c->size;
        r = call_arm(c, again, 0);
        if (r < 0) {
                call_fail(c, r);
                return false;
        }
        /* Last, because it may cancel the call. */
        if (progress)
                progress(userdata, at, size);
        return false;
}

static void put_copy_step(FileCall *c) {
        if (copy_slice(c, c->temp_fd, put_copy_step))
                put_sync_step(c);
}

static int put_open(FileCall *c) {
        const StoreRequest *q = c->request;
        struct stat st;
        int r;

        r = folder_check(c->store->root_fd, q->key, q->condition, q->etag);
        if (r != 0)
                return r;
        r = folder_temp_new(c->store->root_fd, &c->temp_fd, c->temp_name);
        if (r < 0)
                return r;
        if (q->body)
                return file_write_all(c->temp_fd, q->body, q->body_size);
        if (fstat(q->fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        c->size = (uint64_t) st.st_size;
        c->in_fd = fcntl(q->fd, F_DUPFD_CLOEXEC, 3);
        return c->in_fd < 0 ? -errno : 0;
}

/* What cannot be written is seen before it is copied; whether it may be is decided under the lock
 * again. */
static void put_step(FileCall *c) {
        int r = put_open(c);

        if (r < 0)
                call_fail(c, r);
        else if (r > 0)
                call_end(c, r, NULL);
        else if (c->request->body)
                put_sync_step(c);
        else
                put_copy_step(c);
}

static int file_put(void *self, StoreCall *call, const StoreRequest *request) {
        return call_begin(self, call, request, "write", put_step);
}

static void delete_step(FileCall *c) {
        const StoreRequest *q = c->request;
        _cleanup_close_ int lock_fd = -EBADF, fd = -EBADF;
        int r;

        if (lock_or_retry(c, &lock_fd) != 0)
                return;
        r = folder_open(c->store->root_fd, q->key, &fd);
        if (r == 0)
                r = folder_check(c->store->root_fd, q->key, q->condition, q->etag);
        if (r == 0)
                r = folder_remove(c->store->root_fd, q->key);
        closep(&lock_fd);
        lock_fd = -EBADF;
        if (r < 0)
                call_fail(c, r);
        else
                call_end(c, r, NULL);
}

static int file_delete(void *self, StoreCall *call, const StoreRequest *request) {
        return call_begin(self, call, request, "delete", delete_step);
}

/* ---- list ---- */

static void list_step(FileCall *c) {
        _cleanup_(folder_list_done) FolderList list = { 0 };
        StoreReply reply = { .age_usec = USEC_INFINITY };
        int r;

        r = folder_list(c->store->root_fd, c->request->key, c->request->start_after,
                        LIMIT_LIST_KEYS, &list);
        if (r < 0) {
                call_fail(c, r);
                return;
        }
        reply.entries = list.entries;
        reply.n_entries = list.n;
        reply.more = list.more;
        call_end(c, 0, &reply);
}

static int file_list(void *self, StoreCall *call, const StoreRequest *request) {
        return call_begin(self, call, request, "list", list_step);
}

/* ---- fetch ---- */

static void fetch_copy_step(FileCall *c) {
        StoreReply reply = { .age_usec = USEC_INFINITY, .etag = c->etag, .size = c->size };

        if (copy_slice(c, c->request->fd, fetch_copy_step))
                call_end(c, 0, &reply);
}

static int fetch_open(FileCall *c) {
        const StoreRequest *q = c->request;
        struct stat st;
        int r;

        r = folder_open(c->store->root_fd, q->key, &c->in_fd);
        if (r != 0)
                return r;
        r = folder_etag(c->in_fd, c->etag, &c->size);
        if (r < 0)
                return r;
        if (q->etag && !str_equal(q->etag, c->etag))
                return STORE_REFUSED;
        if (fstat(q->fd, &st) < 0)
                return -errno;
        if ((uint64_t) st.st_size > c->size)
                return -ERANGE;
        c->at = (uint64_t) st.st_size;
        return 0;
}

static void fetch_step(FileCall *c) {
        StoreReply reply = { .age_usec = USEC_INFINITY };
        int r = fetch_open(c);

        if (r < 0) {
                call_fail(c, r);
        } else if (r > 0) {
                reply.etag = r == STORE_REFUSED ? c->etag : NULL;
                call_end(c, r, &reply);
        } else
                fetch_copy_step(c);
}

static int file_fetch(void *self, StoreCall *call, const StoreRequest *request) {
        return call_begin(self, call, request, "fetch", fetch_step);
}

/* ---- the store ---- */

static void file_cancel(_unused_ void *self, StoreCall *call) {
        (void) call_free(store_call_data(call));
}

static void *file_free(void *self) {
        FileStore *store = self;

        if (!store)
                return NULL;
        free(store->url);
        closep(&store->root_fd);
        (void) sd_event_unref(store->loop);
        free(store);
        return NULL;
}

static void file_freep(FileStore **store) {
        (void) file_free(*store);
}

static const StoreBackend file_backend = {
        .get = file_get,
        .put = file_put,
        .list = file_list,
        .delete = file_delete,
        .fetch = file_fetch,
        .cancel = file_cancel,
        .free = file_free,
        .is_local = true,
};

static int open_root(const char *url, int *ret_fd, Error **reterr) {
        const char *path = url + strlen(URL_PREFIX);
        int fd;

        if (!str_has_prefix(url, URL_PREFIX "/"))
                return error_set(
                        reterr, -EINVAL,
                        "store %s: not of the form file:///path (three slashes, an absolute path)",
                        url);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
                return error_set(
                        reterr, -ENOENT,
                        "store %s: there is no such folder; `tendril init --store %s` makes it",
                        url, url);
        if (fd < 0)
                return error_set(reterr, -errno, "store %s: open the folder: %s", url,
                                 strerror(errno));
        *ret_fd = fd;
        return 0;
}

int store_file_new(sd_event *loop, const char *url, const Clock *clock, Store **ret,
                   Error **reterr) {
        _cleanup_(file_freep) FileStore *store = NULL;
        int r;

        store = calloc(1, sizeof(FileStore));
        if (!store)
                return -ENOMEM;
        store->root_fd = -EBADF;
        store->loop = sd_event_ref(loop);
        store->clock = clock;
        r = open_root(url, &store->root_fd, reterr);
        if (r < 0)
                return r;
        store->url = strdup(url);
        if (!store->url)
                return -ENOMEM;
        r = store_new(&file_backend, store, url, ret);
        if (r < 0)
                return r;
        /* What writers that died have left; a reader of the store may not, and need not. */
        (void) folder_sweep(store->root_fd);
        (void) TAKE_PTR(store);
        return 0;
}
