#include "bundle/bundle.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "reader.h"

/* "#!": a jar that is also a script, with the zip behind. */
static bool is_zip(const Unpack *unpack) {
        const char *p = unpack->data;

        return unpack->size >= 4 && (memcmp(p, "PK\003\004", 4) == 0 ||
                                     memcmp(p, "PK\005\006", 4) == 0 || memcmp(p, "#!", 2) == 0);
}

static void unpack_done(Unpack *unpack) {
        if (unpack->stream)
                reader_freep(&unpack->stream);
        if (unpack->data)
                (void) munmap((void *) (uintptr_t) unpack->data, unpack->size);
        entry_set_done(&unpack->set);
        zip_directory_done(&unpack->directory);
        free(unpack->by_item);
}

static int map_bundle(Unpack *unpack, int fd, Error **reterr) {
        struct stat st;
        void *data;

        if (fstat(fd, &st) < 0)
                return error_set(reterr, -errno, "stat the bundle: %s", strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(reterr, -EINVAL, "the bundle is not a regular file");
        if (st.st_size == 0)
                return error_set(reterr, -EBADMSG, "the bundle is empty");
        if ((uint64_t) st.st_size > LIMIT_BUNDLE_BYTES)
                return error_set(reterr, -EFBIG,
                                 "the bundle has %lld bytes: more than the %llu that are allowed",
                                 (long long) st.st_size, (unsigned long long) LIMIT_BUNDLE_BYTES);

        data = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
                return error_set(reterr, -errno, "map the bundle: %s", strerror(errno));
        unpack->data = data;
        unpack->size = (size_t) st.st_size;
        return 0;
}

int bundle_unpack(int fd, int dir_fd, const TaskUnpack *how, TaskUnpacked *ret, Error **reterr) {
        _cleanup_(unpack_done) Unpack unpack = { .dir_fd = dir_fd, .how = how };
        mode_t mask;
        int r;

        assert(how && ret);

        entry_set_init(&unpack.set, how);
        r = map_bundle(&unpack, fd, reterr);
        if (r < 0)
                return r;
        r = writer_check_empty(dir_fd, reterr);
        if (r < 0)
                return r;

        /* Modes are made as they are meant, whatever the caller's mask is. */
        mask = umask(0022);
        r = is_zip(&unpack) ? unpack_zip(&unpack, ret, reterr) : unpack_tar(&unpack, ret, reterr);
        (void) umask(mask);
        if (r == -ENOMEM)
                return error_wrap(reterr, r, "not enough memory to unpack");
        if (r < 0)
                return r;
        if (syncfs(dir_fd) < 0)
                return error_set(reterr, -errno, "sync the unpacked folder: %s", strerror(errno));
        return 0;
}
