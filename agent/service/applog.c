#include "applog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/str.h"

int applog_open(int dir_fd, const char *name) {
        _cleanup_free_ char *file = str_format("%s.log", name);
        int fd;

        if (!file)
                return -ENOMEM;
        fd = openat(dir_fd, file, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0640);
        return fd < 0 ? -errno : fd;
}

/* From one offset to another, or to the end. */
static int copy_part(int from_fd, uint64_t from, uint64_t to, int to_fd) {
        char block[65536];
        int r;

        while (from < to) {
                ssize_t n = pread(from_fd, block, MIN(sizeof(block), to - from), (off_t) from);
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return 0;
                r = file_write_all(to_fd, block, (size_t) n);
                if (r < 0)
                        return r;
                from += (uint64_t) n;
        }
        return 0;
}

static int keep_older(int dir_fd, const char *name, int fd, uint64_t from, uint64_t to,
                      int *ret_fd) {
        _cleanup_free_ char *older = str_format("%s.log.1", name),
                            *tmp = str_format(".tmp-%s.log.1", name);
        _cleanup_close_ int out = -EBADF;
        int r;

        if (!older || !tmp)
                return -ENOMEM;
        (void) unlinkat(dir_fd, tmp, 0);
        out = openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
        if (out < 0)
                return -errno;
        r = copy_part(fd, from, to, out);
        if (r >= 0 && renameat(dir_fd, tmp, dir_fd, older) < 0)
                r = -errno;
        if (r < 0) {
                (void) unlinkat(dir_fd, tmp, 0);
                return r;
        }
        *ret_fd = TAKE_FD(out);
        return 0;
}

int applog_rotate(int dir_fd, const char *name, uint64_t max_bytes) {
        _cleanup_free_ char *file = str_format("%s.log", name);
        _cleanup_close_ int fd = -EBADF, older = -EBADF;
        struct stat st;
        int r;

        if (!file)
                return -ENOMEM;
        fd = openat(dir_fd, file, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        if ((uint64_t) st.st_size <= max_bytes)
                return 0;

        /* Whole blocks, and never all: a range that reaches the end is refused. */
        uint64_t block = (uint64_t) MAX(st.st_blksize, 512);
        uint64_t cut = ((uint64_t) st.st_size - 1) / block * block;
        r = keep_older(dir_fd, name, fd, cut > max_bytes ? cut - max_bytes : 0, cut, &older);
        if (r < 0)
                return r;
        if (cut > 0 && fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, (off_t) cut) == 0)
                return 0;

        /* Bounded: who writes faster than we read is not waited for. */
        r = copy_part(fd, cut, cut + max_bytes + block, older);
        if (r < 0)
                return r;
        return ftruncate(fd, 0) < 0 ? -errno : 0;
}
