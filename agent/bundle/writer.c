#include "writer.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "base/str.h"

/* Modes of everything that is made; the caller's umask lets them be (0022). */
#define MODE_FOLDER     0755
#define MODE_FILE       0644
#define MODE_EXECUTABLE 0755

void writer_init(Writer *writer, int root_fd, const EntrySet *set) {
        *writer = (Writer){ .root_fd = root_fd, .parent_fd = -EBADF, .set = set };
}

void writer_done(Writer *writer) {
        closep(&writer->parent_fd);
        writer->parent_fd = -EBADF;
        writer->parent = NULL;
}

static DIR *dir_close(DIR *dir) {
        (void) closedir(dir);
        return NULL;
}
DEFINE_CLEANUP(DIR, dir_close);

static int failed(Error **reterr, int code, const char *what, const Entry *entry) {
        _cleanup_free_ char *shown = entry_quote(entry->path);

        return error_set(reterr, code, "%s %s: %s", what, shown ? shown : "an entry",
                         strerror(-code));
}

static const char *last_component(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

/* One folder after the other, for kernels and sandboxes without openat2. */
static int walk_folders(int root_fd, const char *path) {
        _cleanup_free_ char *copy = strdup(path);
        _cleanup_close_ int fd = -EBADF;
        char *rest = copy, *component;

        if (!copy)
                return -ENOMEM;
        while ((component = strsep(&rest, "/"))) {
                int next = openat(fd >= 0 ? fd : root_fd, component,
                                  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

                if (next < 0)
                        return -errno;
                closep(&fd);
                fd = next;
        }
        return TAKE_FD(fd);
}

/* Below the root and through no link, in one step. -EOPNOTSUPP: kernels and sandboxes without it.
 */
static int open_beneath(int root_fd, const char *path, int flags, mode_t mode) {
        struct open_how how = {
                .flags = (uint64_t) (unsigned) (flags | O_NOFOLLOW | O_CLOEXEC),
                .mode = mode,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        };
        long fd;

        fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
        if (fd >= 0)
                return (int) fd;
        return errno == ENOSYS || errno == EPERM ? -EOPNOTSUPP : -errno;
}

static int open_folder(int root_fd, const char *path) {
        int fd = open_beneath(root_fd, path, O_RDONLY | O_DIRECTORY, 0);

        return fd == -EOPNOTSUPP ? walk_folders(root_fd, path) : fd;
}

/* The folder that an entry stands in, made where it is not; borrowed from the writer. */
static int parent_of(Writer *writer, const Entry *entry, Error **reterr) {
        int fd, r;

        if (!entry->folder)
                return writer->root_fd;
        if (writer->parent == entry->folder)
                return writer->parent_fd;

        r = writer_make_folder(writer, entry->folder, reterr);
        if (r < 0)
                return r;
        fd = open_folder(writer->root_fd, entry->folder->path);
        if (fd < 0)
                return failed(reterr, fd, "open the folder of", entry);
        closep(&writer->parent_fd);
        writer->parent_fd = fd;
        writer->parent = entry->folder;
        return fd;
}

/* As deep as folders are, LIMIT_ARCHIVE_DEPTH: parent_of() comes back here for the one above. */
int writer_make_folder(Writer *writer, Entry *entry, Error **reterr) {
        int fd;

        if (atomic_load(&entry->made))
                return 0;
        fd = parent_of(writer, entry, reterr);
        if (fd < 0)
                return fd;
        /* It was empty before: what is there, another thread made just now. */
        if (mkdirat(fd, last_component(entry->path), MODE_FOLDER) < 0 && errno != EEXIST)
                return failed(reterr, -errno, "make folder", entry);
        atomic_store(&entry->made, true);
        return 0;
}

int writer_check_empty(int root_fd, Error **reterr) {
        _cleanup_(dir_closep) DIR *dir = NULL;
        const struct dirent *entry;
        int fd;

        fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        dir = fd >= 0 ? fdopendir(fd) : NULL;
        if (!dir) {
                closep(&fd);
                return error_set(reterr, -errno, "open the folder to unpack into: %s",
                                 strerror(errno));
        }
        for (;;) {
                errno = 0;
                /* cppcheck-suppress readdirCalled ; the folder is this function's own */
                entry = readdir(dir);
                if (!entry)
                        break;
                if (!str_equal(entry->d_name, ".") && !str_equal(entry->d_name, ".."))
                        return error_set(reterr, -ENOTEMPTY,
                                         "the folder to unpack into is not empty");
        }
        return errno == 0 ? 0
                          : error_set(reterr, -errno, "read the folder to unpack into: %s",
                                      strerror(errno));
}

int writer_open_file(Writer *writer, const Entry *entry, int *ret_fd, Error **reterr) {
        const int flags = O_WRONLY | O_CREAT | O_EXCL;
        mode_t mode = entry->executable ? MODE_EXECUTABLE : MODE_FILE;
        int fd, parent_fd, r;

        r = entry->folder ? writer_make_folder(writer, entry->folder, reterr) : 0;
        if (r < 0)
                return r;
        fd = open_beneath(writer->root_fd, entry->path, flags, mode);
        if (fd == -EOPNOTSUPP) {
                parent_fd = parent_of(writer, entry, reterr);
                if (parent_fd < 0)
                        return parent_fd;
                fd = openat(parent_fd, last_component(entry->path), flags | O_NOFOLLOW | O_CLOEXEC,
                            mode);
                if (fd < 0)
                        fd = -errno;
        }
        if (fd < 0)
                return failed(reterr, fd, "make file", entry);
        *ret_fd = fd;
        return 0;
}

int writer_put(int fd, const Entry *entry, const void *data, size_t size, uint64_t offset,
               Error **reterr) {
        const char *p = data;

        while (size > 0) {
                ssize_t n = pwrite(fd, p, size, (off_t) offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return failed(reterr, -errno, "write", entry);
                p += n;
                size -= (size_t) n;
                offset += (uint64_t) n;
        }
        return 0;
}

int writer_end_file(int fd, const Entry *entry, bool sparse_end, Error **reterr) {
        struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, entry->mtime };

        if (sparse_end && ftruncate(fd, (off_t) entry->size) < 0)
                return failed(reterr, -errno, "set the size of", entry);
        if (entry->mtime.tv_nsec != UTIME_OMIT && futimens(fd, times) < 0)
                return failed(reterr, -errno, "set the time of", entry);
        return 0;
}

int writer_make_symlink(Writer *writer, const Entry *entry, Error **reterr) {
        int fd = parent_of(writer, entry, reterr);

        if (fd < 0)
                return fd;
        if (symlinkat(entry->target, fd, last_component(entry->path)) < 0)
                return failed(reterr, -errno, "make symbolic link", entry);
        return 0;
}

int writer_make_hardlink(Writer *writer, const Entry *entry, Error **reterr) {
        const Entry *target = entry_set_find(writer->set, entry->target);
        _cleanup_(writer_done) Writer other;
        int from_fd, to_fd;

        assert(target);

        writer_init(&other, writer->root_fd, writer->set);
        from_fd = parent_of(&other, target, reterr);
        if (from_fd < 0)
                return from_fd;
        to_fd = parent_of(writer, entry, reterr);
        if (to_fd < 0)
                return to_fd;

        if (linkat(from_fd, last_component(target->path), to_fd, last_component(entry->path), 0) <
            0)
                return failed(reterr, -errno, "make hard link", entry);
        return 0;
}

int writer_set_folder_time(Writer *writer, const Entry *entry, Error **reterr) {
        struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, entry->mtime };
        int fd;

        if (entry->mtime.tv_nsec == UTIME_OMIT)
                return 0;
        fd = parent_of(writer, entry, reterr);
        if (fd < 0)
                return fd;
        if (utimensat(fd, last_component(entry->path), times, AT_SYMLINK_NOFOLLOW) < 0)
                return failed(reterr, -errno, "set the time of", entry);
        return 0;
}

int writer_check_space(int root_fd, const char *what, uint64_t bytes, uint64_t n_inodes,
                       Error **reterr) {
        struct statvfs fs;
        uint64_t free_bytes, missing;

        if (fstatvfs(root_fd, &fs) < 0)
                return error_set(reterr, -errno, "ask for free space: %s", strerror(errno));

        free_bytes = (uint64_t) fs.f_bavail * fs.f_frsize;
        missing = bytes > free_bytes ? bytes - free_bytes : 0;
        if (missing > 0)
                return error_set(reterr, -ENOSPC,
                                 "%s needs %llu MiB, the file system has %llu MiB free: %llu MiB "
                                 "are missing",
                                 what, (unsigned long long) (bytes >> 20) + 1,
                                 (unsigned long long) (free_bytes >> 20),
                                 (unsigned long long) (missing >> 20) + 1);
        /* No inodes at all: a file system that makes them as they are needed. */
        missing = fs.f_files > 0 && n_inodes > fs.f_favail ? n_inodes - fs.f_favail : 0;
        if (missing > 0)
                return error_set(
                        reterr, -ENOSPC,
                        "%s needs %llu inodes, the file system has %llu free: %llu are missing",
                        what, (unsigned long long) n_inodes, (unsigned long long) fs.f_favail,
                        (unsigned long long) missing);
        return 0;
}
