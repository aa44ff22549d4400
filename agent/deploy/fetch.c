#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "deploy/stage.h"

/*
 * fetch: the bundle comes to incoming/, root's own 0600 file, which is continued where an earlier
 * attempt was cut off. What is in bundles/ already (verified once, and to be verified again) is not
 * fetched.
 */

#define SLICE_BYTES (4 * 1024 * 1024)

/* The partial file: named by the digest that is wanted, or by the deploy where none is known; a
 * store's map of it beside it. */
static char *part_name(const Deploy *d) {
        const AttemptState *a = &d->p->state->attempt;

        return str_format("%s.part", a->bundle.sha256 ? a->bundle.sha256 : a->id);
}

static int step_kept(Deploy *d, Error **reterr _unused_) {
        const AttemptState *a = &d->p->state->attempt;

        if (!a->bundle.sha256)
                return STEP_DONE;
        d->bundle_fd =
                openat(d->p->bundles_fd, a->bundle.sha256, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (d->bundle_fd >= 0)
                deploy_event(d, "the bundle is on this disk already; nothing is fetched");
        return STEP_DONE;
}

/* Unpacked it will need more; that is compared before unpacking, when it is known. */
static int step_space(Deploy *d, Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        struct statvfs vfs;
        struct stat st = { 0 };
        uint64_t size = a->bundle.size, free_bytes;

        if (d->bundle_fd >= 0)
                return STEP_DONE;
        if (a->path) {
                if (stat(a->path, &st) < 0)
                        return error_set(reterr, -errno, "open %s: %s", a->path, strerror(errno));
                size = (uint64_t) st.st_size;
        }
        if (size > LIMIT_BUNDLE_BYTES)
                return error_set(
                        reterr, -EFBIG, "the bundle has %llu bytes, more than the maximum of %llu",
                        (unsigned long long) size, (unsigned long long) LIMIT_BUNDLE_BYTES);
        if (fstatvfs(d->p->incoming_fd, &vfs) < 0)
                return STEP_DONE;
        free_bytes = (uint64_t) vfs.f_bavail * vfs.f_frsize;
        if (free_bytes < size)
                return error_set(reterr, -ENOSPC,
                                 "the bundle has %llu bytes and %s has room for %llu: free at "
                                 "least %llu bytes more",
                                 (unsigned long long) size, d->p->spec.paths->state,
                                 (unsigned long long) free_bytes,
                                 (unsigned long long) (size - free_bytes));
        return STEP_DONE;
}

/* Opens a file of incoming/, made where it is not there. */
static int open_incoming(Deploy *d, const char *name, int flags, Error **reterr) {
        struct stat st;
        int fd, r = 0;

        if (!name)
                return error_set(reterr, -ENOMEM, "fetch: out of memory");
        fd = openat(d->p->incoming_fd, name, flags | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0 || fstat(fd, &st) < 0)
                r = -errno;
        else if (!S_ISREG(st.st_mode))
                r = -EINVAL;
        if (r == 0)
                return fd;
        closep(&fd);
        return error_set(reterr, r, "open incoming/%s: %s", name, strerror(-r));
}

/* Only to write: who fetches need not read. *ret_size is what an earlier attempt left. */
static int open_part(Deploy *d, uint64_t *ret_size, Error **reterr) {
        _cleanup_free_ char *name = part_name(d);
        struct stat st;
        int fd;

        fd = open_incoming(d, name, O_WRONLY, reterr);
        if (fd < 0)
                return fd;
        *ret_size = fstat(fd, &st) == 0 ? (uint64_t) st.st_size : 0;
        return fd;
}

/* From here on nobody can write it any more but through a descriptor that was opened before; main
 * keeps none. It is not synced: what a power cut takes of it the digest misses, and then it is
 * fetched anew. */
static int seal(Deploy *d, Error **reterr) {
        _cleanup_free_ char *name = part_name(d);

        if (!name)
                return error_set(reterr, -ENOMEM, "fetch: out of memory");
        closep(&d->copy_fd);
        d->copy_fd = -EBADF;
        d->bundle_fd = openat(d->p->incoming_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (d->bundle_fd < 0)
                return error_set(reterr, -errno, "open incoming/%s: %s", name, strerror(errno));
        return 0;
}

static void fetched(Deploy *d) {
        Error *err = NULL;
        int r;

        r = seal(d, &err);
        deploy_step_ended(d, r, err);
}

static void on_progress(void *userdata, uint64_t n_bytes, uint64_t size _unused_) {
        Deploy *d = userdata;

        d->n_fetched = n_bytes;
}

static void on_fetched(void *userdata, int r, const StoreReply *reply _unused_, Error *err) {
        Deploy *d = userdata;
        const AttemptState *a = &d->p->state->attempt;
        Error *own = NULL;

        d->call = NULL;
        if (r == 0) {
                fetched(d);
                return;
        }
        if (r == STORE_ABSENT)
                r = error_set(&own, -ENOENT, "%s has no object %s: publish the version again",
                              store_url(d->p->store), a->bundle.key);
        else if (r > 0)
                r = error_set(&own, -EAGAIN, "%s was replaced while it was fetched", a->bundle.key);
        else
                (void) error_set(&own, r, "%s", error_text(err));
        deploy_step_ended(d, r, own);
}

static int on_slice(sd_event_source *source _unused_, void *userdata) {
        Deploy *d = userdata;
        Error *err = NULL;
        ssize_t n;

        n = copy_file_range(d->bundle_fd, NULL, d->copy_fd, NULL, SLICE_BYTES, 0);
        if (n < 0 && errno == EINTR)
                return 0;
        if (n < 0) {
                int r = error_set(&err, -errno, "copy %s: %s", d->p->state->attempt.path,
                                  strerror(errno));

                deploy_step_ended(d, r, err);
                return 0;
        }
        d->n_fetched += (uint64_t) n;
        if (n == 0 || d->n_fetched > LIMIT_BUNDLE_BYTES) {
                closep(&d->bundle_fd);
                d->bundle_fd = -EBADF;
                fetched(d);
        }
        return 0;
}

/* A bundle that a person has put on this host: copied in slices, from its beginning. */
static int fetch_local(Deploy *d, Error **reterr) {
        const char *path = d->p->state->attempt.path;
        struct stat st;
        int r;

        if (ftruncate(d->copy_fd, 0) < 0)
                return error_set(reterr, -errno, "truncate the copy of %s: %s", path,
                                 strerror(errno));
        d->n_fetched = 0;
        d->bundle_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (d->bundle_fd < 0)
                return error_set(reterr, -errno, "open %s: %s", path, strerror(errno));
        if (fstat(d->bundle_fd, &st) < 0 || !S_ISREG(st.st_mode))
                return error_set(reterr, -EINVAL, "%s is no regular file", path);
        r = sd_event_add_defer(d->p->spec.loop, &d->copy, on_slice, d);
        if (r >= 0)
                r = sd_event_source_set_enabled(d->copy, SD_EVENT_ON);
        return r < 0 ? error_set(reterr, r, "copy %s: %s", path, strerror(-r)) : 0;
}

/* The map remembers which parts are there, where the store fetches more than one at a time. */
static int fetch_store(Deploy *d, uint64_t have, Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        _cleanup_free_ char *name = str_format("%s.map", a->bundle.sha256 ?: a->id);
        _cleanup_close_ int map_fd = open_incoming(d, name, O_RDWR, reterr);
        StoreFetch fetch = { .fd = d->copy_fd, .map_fd = map_fd, .progress = on_progress };

        if (map_fd < 0)
                return map_fd;
        /* More than it should have is the rest of something else. */
        if (have > a->bundle.size) {
                have = 0;
                if (ftruncate(d->copy_fd, 0) < 0 || ftruncate(map_fd, 0) < 0)
                        return error_set(reterr, -errno, "truncate the partial bundle: %s",
                                         strerror(errno));
        }
        d->fetched_whole = have == 0;
        if (have > 0)
                deploy_event(d, "fetching goes on where it was cut off");
        return store_fetch(d->p->store, a->bundle.key, &fetch, on_fetched, d, &d->call);
}

static int step_fetch(Deploy *d, Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        uint64_t have = 0;

        if (d->bundle_fd >= 0)
                return STEP_DONE;
        d->copy_fd = open_part(d, &have, reterr);
        if (d->copy_fd < 0)
                return d->copy_fd;
        if (a->path)
                return fetch_local(d, reterr);
        if (!d->p->store)
                return error_set(reterr, -ENOENT,
                                 "no store is configured: set store.url in tendril.yaml");
        return fetch_store(d, have, reterr);
}

const Step fetch_steps[] = {
        { "kept", step_kept },
        { "space", step_space },
        { "fetch", step_fetch },
        { 0 },
};
