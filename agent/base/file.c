#include "base/file.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/str.h"

#define TEMPORARY_PREFIX ".tmp-"
#define TEMPORARY_DIGITS 8
#define TEMPORARY_TRIES  16
#define PREVIOUS_SUFFIX  ".previous"
#define READ_CHUNK_BYTES ((size_t) 16 * 1024)

/* The folder in which a file is or comes to be; only where names are changed is it opened at all.
 */
typedef struct Place {
        int dir_fd;
        const char *name;
} Place;

static void place_done(Place *place) {
        closep(&place->dir_fd);
}

/* Splits "a/b/name" and opens "a/b" (or dir_fd itself, which may be AT_FDCWD or an O_PATH
 * descriptor). */
static int place_open(int dir_fd, const char *path, bool sync, Place *ret) {
        _cleanup_free_ char *parent = NULL;
        const char *slash = strrchr(path, '/');
        const char *name = slash ? slash + 1 : path;
        int fd;

        if (!*name || str_equal(name, ".") || str_equal(name, ".."))
                return -EINVAL;

        if (slash) {
                parent = strndup(path, (size_t) (slash - path) + 1);
                if (!parent)
                        return -ENOMEM;
        }

        /* Syncing a folder needs the right to read it; changing names in it does not. */
        fd = openat(dir_fd, parent ?: ".", (sync ? O_RDONLY : O_PATH) | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        *ret = (Place){ .dir_fd = fd, .name = name };
        return 0;
}

/* One byte more than the buffer may hold decides between the end of the file and -EFBIG. */
static int read_rest(int fd, Buf *ret) {
        size_t begin = ret->size, room;
        char probe = 0, *to;
        ssize_t n;

        for (;;) {
                room = MIN(ret->max_bytes - ret->size, READ_CHUNK_BYTES);
                to = room > 0 ? buf_reserve(ret, room) : &probe;
                if (!to)
                        return -ENOMEM;

                n = pread(fd, to, MAX(room, (size_t) 1), (off_t) (ret->size - begin));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return 0;
                if (room == 0)
                        return -EFBIG;
                buf_commit(ret, (size_t) n);
        }
}

int file_read_fd(int fd, Buf *ret) {
        size_t begin = ret->size;
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISREG(st.st_mode) &&
            st.st_size > (off_t) MIN(ret->max_bytes - begin, (size_t) SSIZE_MAX))
                return -EFBIG;

        r = read_rest(fd, ret);
        if (r < 0 && ret->data) {
                ret->size = begin;
                ret->data[begin] = 0;
        }
        return r;
}

int file_read_at(int dir_fd, const char *name, Buf *ret) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        /* O_NONBLOCK: a FIFO in the place of the file must not hold us. */
        fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return errno == ENXIO ? -EINVAL : -errno; /* ENXIO: a socket */
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;

        return file_read_fd(fd, ret);
}

int file_write_all(int fd, const void *data, size_t size) {
        const char *p = data;
        ssize_t n;

        while (size > 0) {
                n = write(fd, p, size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -EIO;
                p += n;
                size -= (size_t) n;
        }
        return 0;
}

static char *temporary_name(const char *name) {
        _cleanup_free_ char *digits = str_random_hex(TEMPORARY_DIGITS / 2);

        return digits ? str_format(TEMPORARY_PREFIX "%s.%s", name, digits) : NULL;
}

static int temporary_fill(int fd, const void *data, size_t size, mode_t mode, FileFlags flags) {
        int r;

        r = file_write_all(fd, data, size);
        if (r < 0)
                return r;
        if (fchmod(fd, mode) < 0) /* not open()'s mode: that is cut by the umask */
                return -errno;
        if ((flags & FILE_SYNC) && fsync(fd) < 0)
                return -errno;
        return 0;
}

static int temporary_make(const Place *place, char **ret_name, int *ret_fd) {
        unsigned i;

        for (i = 0; i < TEMPORARY_TRIES; i++) {
                _cleanup_free_ char *name = temporary_name(place->name);
                int fd;

                if (!name)
                        return -ENOMEM;

                fd = openat(place->dir_fd, name,
                            O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
                if (fd >= 0) {
                        *ret_name = TAKE_PTR(name);
                        *ret_fd = fd;
                        return 0;
                }
                if (errno != EEXIST)
                        return -errno;
        }
        return -EEXIST;
}

/* Gives what stands at the place the second name NAME.previous, in place of an older one. */
static int keep_previous(const Place *place) {
        _cleanup_free_ char *previous = NULL, *temporary = NULL;
        int r = 0;

        previous = str_format("%s" PREVIOUS_SUFFIX, place->name);
        temporary = previous ? temporary_name(previous) : NULL;
        if (!temporary)
                return -ENOMEM;

        if (linkat(place->dir_fd, place->name, place->dir_fd, temporary, 0) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (renameat(place->dir_fd, temporary, place->dir_fd, previous) < 0)
                r = -errno;

        /* rename() of two names of one file does nothing and leaves both. */
        (void) unlinkat(place->dir_fd, temporary, 0);
        return r;
}

static int put_absent(const Place *place, const char *temporary) {
        if (renameat2(place->dir_fd, temporary, place->dir_fd, place->name, RENAME_NOREPLACE) >= 0)
                return 0;
        if (errno != EINVAL && errno != ENOSYS)
                return -errno;

        /* A file system without RENAME_NOREPLACE: link() refuses an existing name just as
         * atomically. */
        if (linkat(place->dir_fd, temporary, place->dir_fd, place->name, 0) < 0)
                return -errno;
        (void) unlinkat(place->dir_fd, temporary, 0);
        return 0;
}

static int put_replace(const Place *place, const char *temporary, FileFlags flags) {
        int r;

        if (flags & FILE_KEEP_PREVIOUS) {
                r = keep_previous(place);
                if (r < 0)
                        return r;
        }
        if (renameat(place->dir_fd, temporary, place->dir_fd, place->name) < 0)
                return -errno;
        return 0;
}

int file_write_at(int dir_fd, const char *name, const void *data, size_t size, mode_t mode,
                  FileFlags flags) {
        _cleanup_(place_done) Place place = { .dir_fd = -EBADF };
        _cleanup_free_ char *temporary = NULL;
        int fd = -EBADF, r;

        r = place_open(dir_fd, name, flags & FILE_SYNC, &place);
        if (r < 0)
                return r;
        r = temporary_make(&place, &temporary, &fd);
        if (r < 0)
                return r;

        r = temporary_fill(fd, data, size, mode, flags);
        if (close(fd) < 0 && r >= 0)
                r = -errno;
        if (r >= 0)
                r = flags & FILE_REPLACE ? put_replace(&place, temporary, flags)
                                         : put_absent(&place, temporary);
        if (r < 0) {
                (void) unlinkat(place.dir_fd, temporary, 0);
                return r;
        }

        if ((flags & FILE_SYNC) && fsync(place.dir_fd) < 0)
                return -errno;
        return 0;
}

/* A new folder has the mode that was asked for, whatever the umask; one that is there keeps its
 * own. */
static int enter_or_make(int dir_fd, const char *name, mode_t mode, int open_flags) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        fd = openat(dir_fd, name, open_flags);
        if (fd >= 0)
                return TAKE_FD(fd);
        if (errno != ENOENT)
                return -errno;

        if (mkdirat(dir_fd, name, mode) < 0) {
                if (errno != EEXIST)
                        return -errno;
                fd = openat(dir_fd, name, open_flags); /* another one was faster */
                return fd < 0 ? -errno : TAKE_FD(fd);
        }

        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if ((st.st_mode & 0777) != (mode & 0777) && fchmod(fd, (st.st_mode & 07000) | mode) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int file_mkdirs_at(int dir_fd, const char *path, mode_t mode) {
        _cleanup_close_ int fd = -EBADF;
        char name[NAME_MAX + 1];
        size_t n;
        bool last;
        int next;

        if (!*path)
                return -ENOENT;

        fd = openat(dir_fd, *path == '/' ? "/" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        for (path += strspn(path, "/"); *path; path += n + strspn(path + n, "/")) {
                n = strcspn(path, "/");
                if (n > NAME_MAX)
                        return -ENAMETOOLONG;
                memcpy(name, path, n);
                name[n] = 0;

                /* Folders on the way need no right but to be passed, and may be links (/var/run).
                 */
                last = path[n + strspn(path + n, "/")] == 0;
                next = enter_or_make(fd, name, mode,
                                     O_DIRECTORY | O_CLOEXEC |
                                             (last ? O_RDONLY | O_NOFOLLOW : O_PATH));
                if (next < 0)
                        return next;
                close(fd);
                fd = next;
        }
        return TAKE_FD(fd);
}

int file_open_dir_at(int dir_fd, const char *name) {
        int fd;

        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : fd;
}

int file_remove_at(int dir_fd, const char *name, bool sync) {
        _cleanup_(place_done) Place place = { .dir_fd = -EBADF };
        int r;

        if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
                return -errno;
        if (!sync)
                return 0;

        /* Also where nothing was there: an earlier removal may have crashed before it was durable.
         */
        r = place_open(dir_fd, name, true, &place);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        return fsync(place.dir_fd) < 0 ? -errno : 0;
}

/* ".tmp-" something "." 8 digits: a name of another program with our prefix is not ours to remove.
 */
static bool is_temporary(const char *name) {
        size_t n = strlen(name);

        return str_has_prefix(name, TEMPORARY_PREFIX) &&
               n > strlen(TEMPORARY_PREFIX) + 1 + TEMPORARY_DIGITS &&
               name[n - TEMPORARY_DIGITS - 1] == '.' &&
               strspn(name + n - TEMPORARY_DIGITS, "0123456789abcdef") == TEMPORARY_DIGITS;
}

static void dir_closep(DIR **dir) {
        if (*dir)
                (void) closedir(*dir);
}

int file_sweep_at(int dir_fd) {
        _cleanup_(dir_closep) DIR *dir = NULL;
        struct dirent *entry;
        int fd, n = 0;

        fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        dir = fdopendir(fd);
        if (!dir) {
                int r = -errno;

                close(fd);
                return r;
        }

        for (;;) {
                errno = 0;
                entry = readdir(dir);
                if (!entry)
                        return errno ? -errno : n;
                if (!is_temporary(entry->d_name) || entry->d_type == DT_DIR)
                        continue;
                if (unlinkat(fd, entry->d_name, 0) >= 0)
                        n++;
                else if (errno != ENOENT && errno != EISDIR)
                        return -errno;
        }
}

bool file_exists_at(int dir_fd, const char *name) {
        struct stat st;

        return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0;
}

int file_memfd(const char *name, const void *data, size_t size) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;

        r = file_write_all(fd, data, size);
        if (r < 0)
                return r;
        if (lseek(fd, 0, SEEK_SET) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int file_list_at(int dir_fd, size_t max, char ***ret) {
        _cleanup_(strv_freep) char **names = NULL;
        int fd, r = 0;
        DIR *dir;

        fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir) {
                r = -errno;
                closep(&fd);
                return r;
        }
        for (const struct dirent *e = readdir(dir); e && r >= 0; e = readdir(dir))
                if (!str_equal(e->d_name, ".") && !str_equal(e->d_name, ".."))
                        r = strv_add(&names, max, e->d_name);
        (void) closedir(dir);
        if (r >= 0)
                *ret = TAKE_PTR(names);
        return r;
}
