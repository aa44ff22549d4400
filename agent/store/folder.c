#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/crc.h"
#include "base/file.h"
#include "base/str.h"
#include "store/key.h"

#define LOCK_NAME ".lock"
#define TEMP_NAME ".tmp-writes"

/* What is hashed of a document that is no document of ours but a bundle: telling such apart is the
 * inode's and the time's work. */
#define LARGE_HASH_BYTES 4096

/* Entries of one folder: more than this is no store of ours, and each costs memory while it is
 * sorted. */
#define MAX_FOLDER_ENTRIES 100000

/* Levels of folders that a key can have. */
#define MAX_DEPTH (LIMIT_KEY_NAME_BYTES / 2)

/* The umask decides who shares a store. */
#define FOLDER_MODE 0777
#define FILE_MODE   0666

static void closedirp(DIR **dir) {
        if (*dir)
                (void) closedir(*dir);
}

/* ---- reaching a name ---- */

static int make_folder(int dir_fd, const char *name) {
        if (mkdirat(dir_fd, name, FOLDER_MODE) < 0)
                return errno == EEXIST ? 0 : -errno;
        return fsync(dir_fd) < 0 ? -errno : 0;
}

static int open_folder(int dir_fd, const char *name, bool create) {
        int fd, r;

        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 || errno != ENOENT || !create)
                return fd >= 0 ? fd : -errno;
        r = make_folder(dir_fd, name);
        if (r < 0)
                return r;
        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd >= 0 ? fd : -errno;
}

/* The folder in which the last component of key stands; *ret_name points into key. */
static int open_parent(int root_fd, const char *key, bool create, int *ret_fd,
                       const char **ret_name) {
        _cleanup_close_ int fd = -EBADF;
        char name[NAME_MAX + 1];

        fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return -errno;
        for (;;) {
                size_t n = strcspn(key, "/");
                int next;

                if (n > NAME_MAX)
                        return -ENAMETOOLONG;
                if (key[n] == '\0')
                        break;
                memcpy(name, key, n);
                name[n] = '\0';
                next = open_folder(fd, name, create);
                if (next < 0)
                        return next;
                (void) close(fd);
                fd = next;
                key += n + 1;
        }
        *ret_fd = TAKE_FD(fd);
        *ret_name = key;
        return 0;
}

static int open_regular(int dir_fd, const char *name, int *ret_fd) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        /* O_NONBLOCK: a FIFO that somebody put there must not hold us up. */
        fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT || errno == ELOOP || errno == ENXIO ? STORE_ABSENT : -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return STORE_ABSENT;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int folder_open(int root_fd, const char *key, int *ret_fd) {
        _cleanup_close_ int dir_fd = -EBADF;
        const char *name;
        int r;

        r = open_parent(root_fd, key, false, &dir_fd, &name);
        if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -ENAMETOOLONG)
                return STORE_ABSENT;
        if (r < 0)
                return r;
        return open_regular(dir_fd, name, ret_fd);
}

/* ---- ETags ---- */

/* FNV-1a beside CRC-32C: two unlike sums, so that no content that anybody writes by accident has
 * both of another. */
static uint64_t fnv1a(uint64_t hash, const unsigned char *data, size_t size) {
        for (size_t i = 0; i < size; i++)
                hash = (hash ^ data[i]) * UINT64_C(0x100000001b3);
        return hash;
}

static int hash_content(int fd, uint64_t size, uint32_t *ret_crc, uint64_t *ret_fnv) {
        unsigned char block[8192];
        uint64_t limit = size <= LIMIT_DOCUMENT_BYTES ? size : LARGE_HASH_BYTES;
        uint64_t fnv = UINT64_C(0xcbf29ce484222325), at = 0;
        uint32_t crc = 0;

        while (at < limit) {
                ssize_t n = pread(fd, block, MIN(sizeof(block), limit - at), (off_t) at);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                crc = crc32c(crc, block, (size_t) n);
                fnv = fnv1a(fnv, block, (size_t) n);
                at += (uint64_t) n;
        }
        *ret_crc = crc;
        *ret_fnv = fnv;
        return 0;
}

int folder_etag(int fd, char ret[FOLDER_ETAG_SIZE], uint64_t *ret_size) {
        struct stat st;
        uint32_t crc = 0;
        uint64_t fnv = 0, changed_nsec;
        int r;

        if (fstat(fd, &st) < 0)
                return -errno;
        r = hash_content(fd, (uint64_t) st.st_size, &crc, &fnv);
        if (r < 0)
                return r;
        changed_nsec = (uint64_t) st.st_mtim.tv_sec * 1000000000U + (uint64_t) st.st_mtim.tv_nsec;
        (void) snprintf(ret, FOLDER_ETAG_SIZE,
                        "%08" PRIx32 "%016" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64, crc, fnv,
                        (uint64_t) st.st_size, (uint64_t) st.st_ino, changed_nsec);
        if (ret_size)
                *ret_size = (uint64_t) st.st_size;
        return 0;
}

int folder_check(int root_fd, const char *key, StoreCondition condition, const char *etag) {
        _cleanup_close_ int fd = -EBADF;
        char there[FOLDER_ETAG_SIZE];
        int r;

        if (condition == STORE_ALWAYS)
                return 0;
        r = folder_open(root_fd, key, &fd);
        if (r < 0)
                return r;
        if (condition == STORE_IF_ABSENT)
                return r == STORE_ABSENT ? 0 : STORE_REFUSED;
        if (r == STORE_ABSENT)
                return STORE_REFUSED;
        r = folder_etag(fd, there, NULL);
        if (r < 0)
                return r;
        return str_equal(there, etag) ? 0 : STORE_REFUSED;
}

/* ---- locks and temporaries ---- */

/* True where the open file is still the one at this name. */
static bool is_at(int dir_fd, const char *name, int fd) {
        struct stat a, b;

        return fstat(fd, &a) == 0 && fstatat(dir_fd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
               a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int folder_lock(int root_fd, int *ret_fd) {
        _cleanup_close_ int fd = -EBADF;

        fd = openat(root_fd, LOCK_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
                fd = openat(root_fd, LOCK_NAME,
                            O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, FILE_MODE);
        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK || errno == EINTR ? -EAGAIN : -errno;
        /* Somebody removed it and made another one: the lock of a file that nobody else finds
         * excludes nobody. */
        if (!is_at(root_fd, LOCK_NAME, fd))
                return -EAGAIN;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int temp_try(int dir_fd, const char *name, int *ret_fd) {
        _cleanup_close_ int fd = -EBADF;

        fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
        if (fd < 0)
                return -errno;
        /* A sweeper may have come between the two calls. */
        if (flock(fd, LOCK_EX | LOCK_NB) < 0 || !is_at(dir_fd, name, fd))
                return -EAGAIN;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int folder_temp_new(int root_fd, int *ret_fd, char name[32]) {
        _cleanup_close_ int dir_fd = -EBADF;
        int r = -EAGAIN;

        dir_fd = open_folder(root_fd, TEMP_NAME, true);
        if (dir_fd < 0)
                return dir_fd;
        for (unsigned tries = 0; tries < 16 && (r == -EAGAIN || r == -EEXIST); tries++) {
                _cleanup_free_ char *random = str_random_hex(8);

                if (!random)
                        return -ENOMEM;
                (void) snprintf(name, 32, "%s", random);
                r = temp_try(dir_fd, name, ret_fd);
        }
        return r;
}

void folder_temp_remove(int root_fd, const char *name) {
        _cleanup_close_ int dir_fd = open_folder(root_fd, TEMP_NAME, false);

        if (dir_fd >= 0)
                (void) unlinkat(dir_fd, name, 0);
}

static bool sweep_one(int dir_fd, const char *name) {
        _cleanup_close_ int fd = -EBADF;

        fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || !is_at(dir_fd, name, fd))
                return false;
        return unlinkat(dir_fd, name, 0) == 0;
}

/* NULL: as errno says. */
static DIR *open_dir_stream(int dir_fd) {
        _cleanup_close_ int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir;

        if (fd < 0)
                return NULL;
        dir = fdopendir(fd);
        if (dir)
                (void) TAKE_FD(fd);
        return dir;
}

int folder_sweep(int root_fd) {
        _cleanup_close_ int dir_fd = -EBADF;
        _cleanup_(closedirp) DIR *dir = NULL;
        const struct dirent *entry;
        int n = 0;

        dir_fd = open_folder(root_fd, TEMP_NAME, false);
        if (dir_fd < 0)
                return dir_fd == -ENOENT ? 0 : dir_fd;
        dir = open_dir_stream(dir_fd);
        if (!dir)
                return -errno;
        for (entry = readdir(dir); entry; entry = readdir(dir))
                if (entry->d_name[0] != '.' && sweep_one(dir_fd, entry->d_name))
                        n++;
        return n;
}

/* ---- writing and removing ---- */

int folder_commit(int root_fd, const char *name, const char *key) {
        _cleanup_close_ int temp_fd = -EBADF, dir_fd = -EBADF;
        const char *last;
        int r;

        temp_fd = open_folder(root_fd, TEMP_NAME, false);
        if (temp_fd < 0)
                return temp_fd;
        r = open_parent(root_fd, key, true, &dir_fd, &last);
        if (r < 0)
                return r;
        if (renameat(temp_fd, name, dir_fd, last) < 0)
                return -errno;
        /* It is in its place now; whether it will be there after a power cut is not known. */
        return fsync(dir_fd) < 0 ? -EIO : 0;
}

/* Folders that became empty, from the inside out, until one is not. Writers make theirs under the
 * same lock. */
static void remove_empty_parents(int root_fd, const char *key) {
        char path[LIMIT_KEY_NAME_BYTES + 1];

        (void) snprintf(path, sizeof(path), "%s", key);
        for (char *slash = strrchr(path, '/'); slash; slash = strrchr(path, '/')) {
                _cleanup_close_ int dir_fd = -EBADF;
                const char *last = path;

                *slash = '\0';
                if (open_parent(root_fd, path, false, &dir_fd, &last) < 0 ||
                    unlinkat(dir_fd, last, AT_REMOVEDIR) < 0)
                        return;
        }
}

int folder_remove(int root_fd, const char *key) {
        _cleanup_close_ int dir_fd = -EBADF;
        const char *last = key;
        int r;

        r = open_parent(root_fd, key, false, &dir_fd, &last);
        if (r == -ENOENT || r == -ENOTDIR || r == -ENAMETOOLONG)
                return STORE_ABSENT;
        if (r < 0)
                return r;
        if (unlinkat(dir_fd, last, 0) < 0)
                return errno == ENOENT || errno == EISDIR ? STORE_ABSENT : -errno;
        if (fsync(dir_fd) < 0)
                return -EIO;
        remove_empty_parents(root_fd, key);
        return 0;
}

static ssize_t copy_by_hand(int in_fd, uint64_t in_offset, int out_fd, uint64_t out_offset,
                            size_t size) {
        char block[65536];
        size_t done = 0;

        while (done < size) {
                ssize_t n = pread(in_fd, block, MIN(sizeof(block), size - done),
                                  (off_t) (in_offset + done));
                ssize_t put = 0;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                while (put < n) {
                        ssize_t k = pwrite(out_fd, block + put, (size_t) (n - put),
                                           (off_t) (out_offset + done + (uint64_t) put));

                        if (k < 0 && errno != EINTR)
                                return -errno;
                        put += MAX(k, 0);
                }
                done += (size_t) n;
        }
        return (ssize_t) done;
}

ssize_t folder_copy(int in_fd, uint64_t in_offset, int out_fd, uint64_t out_offset, size_t size) {
        loff_t from = (loff_t) in_offset, to = (loff_t) out_offset;
        ssize_t n;

        n = copy_file_range(in_fd, &from, out_fd, &to, size, 0);
        if (n > 0)
                return n;
        /* Not between these two, not by this kernel, or a file of a kind that only looks empty to
         * it: the plain way decides. */
        if (n < 0 && (errno == ENOSPC || errno == EIO || errno == EDQUOT))
                return -errno;
        return copy_by_hand(in_fd, in_offset, out_fd, out_offset, size);
}

/* ---- listing ---- */

typedef struct Listing {
        const char *prefix;
        const char *start_after; /* "" for all */
        size_t max;
        size_t allocated;
        FolderList *ret;
} Listing;

/* Names of one folder in the byte order that their keys have: a folder sorts as if it ended with a
 * slash. */
typedef struct NameList {
        char **names;
        size_t n;
} NameList;

static void name_list_done(NameList *list) {
        for (size_t i = 0; i < list->n; i++)
                free(list->names[i]);
        free(list->names);
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static int name_list_add(NameList *list, const char *name, bool is_folder) {
        char **grown;

        if (list->n >= MAX_FOLDER_ENTRIES)
                return -EFBIG;
        if ((list->n & (list->n - 1)) == 0) {
                grown = reallocarray(list->names, list->n ? list->n * 2 : 1, sizeof(char *));
                if (!grown)
                        return -ENOMEM;
                list->names = grown;
        }
        list->names[list->n] = str_format("%s%s", name, is_folder ? "/" : "");
        if (!list->names[list->n])
                return -ENOMEM;
        list->n++;
        return 0;
}

static bool is_folder(int dir_fd, const struct dirent *entry) {
        struct stat st;

        if (entry->d_type != DT_UNKNOWN)
                return entry->d_type == DT_DIR;
        return fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int name_list_read(int dir_fd, NameList *ret) {
        _cleanup_(closedirp) DIR *dir = NULL;
        int r;

        dir = open_dir_stream(dir_fd);
        if (!dir)
                return -errno;
        for (;;) {
                const struct dirent *entry;

                errno = 0;
                entry = readdir(dir);
                if (!entry && errno != 0)
                        return -errno;
                if (!entry)
                        break;
                /* What is no component of a key (also ours: the lock, temporaries) is not of the
                 * store. */
                if (!key_is_valid(entry->d_name))
                        continue;
                r = name_list_add(ret, entry->d_name, is_folder(dir_fd, entry));
                if (r < 0)
                        return r;
        }
        if (ret->n > 1)
                qsort(ret->names, ret->n, sizeof(char *), compare_names);
        return 0;
}

/* Can a key that begins with `begin` (a folder with its slash, or a whole key) be one that is asked
 * for? */
static bool may_match(const Listing *listing, const char *begin, bool whole) {
        size_t n = strlen(begin), m = strlen(listing->prefix);

        if (strncmp(begin, listing->prefix, whole ? m : MIN(n, m)) != 0)
                return false;
        if (whole)
                return strcmp(begin, listing->start_after) > 0;
        return strcmp(begin, listing->start_after) > 0 ||
               strncmp(begin, listing->start_after, n) == 0;
}

static int listing_add(Listing *listing, int dir_fd, const char *name, const char *key) {
        FolderList *ret = listing->ret;
        _cleanup_close_ int fd = -EBADF;
        char etag[FOLDER_ETAG_SIZE];
        StoreEntry *entry;
        int r;

        r = open_regular(dir_fd, name, &fd);
        if (r == STORE_ABSENT)
                return 0;
        if (r < 0)
                return r;
        if (ret->n == listing->max) {
                ret->more = true;
                return 0;
        }
        if (ret->n == listing->allocated) {
                size_t n = MIN(MAX(listing->allocated * 2, 16U), listing->max);
                StoreEntry *grown = reallocarray(ret->entries, n, sizeof(StoreEntry));

                if (!grown)
                        return -ENOMEM;
                ret->entries = grown;
                listing->allocated = n;
        }
        entry = &ret->entries[ret->n];
        *entry = (StoreEntry){ 0 };
        r = folder_etag(fd, etag, &entry->size);
        if (r < 0)
                return r;
        ret->n++;
        entry->key = strdup(key);
        entry->etag = strdup(etag);
        return entry->key && entry->etag ? 0 : -ENOMEM;
}

static int list_folder(Listing *listing, int dir_fd, const char *path, unsigned depth);

static int list_name(Listing *listing, int dir_fd, const char *path, char *name, unsigned depth) {
        _cleanup_free_ char *key = str_format("%s%s", path, name);
        bool folder = str_has_suffix(name, "/");
        _cleanup_close_ int fd = -EBADF;

        if (!key)
                return -ENOMEM;
        if (strlen(key) > LIMIT_KEY_NAME_BYTES || !may_match(listing, key, !folder))
                return 0;
        if (!folder)
                return listing_add(listing, dir_fd, name, key);
        name[strlen(name) - 1] = '\0';
        fd = open_folder(dir_fd, name, false);
        if (fd < 0) /* gone meanwhile */
                return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
        return list_folder(listing, fd, key, depth + 1);
}

static int list_folder(Listing *listing, int dir_fd, const char *path, unsigned depth) {
        _cleanup_(name_list_done) NameList names = { 0 };
        int r;

        if (depth > MAX_DEPTH)
                return -ELOOP;
        r = name_list_read(dir_fd, &names);
        if (r < 0)
                return r;
        for (size_t i = 0; i < names.n && !listing->ret->more; i++) {
                r = list_name(listing, dir_fd, path, names.names[i], depth);
                if (r < 0)
                        return r;
        }
        return 0;
}

int folder_list(int root_fd, const char *prefix, const char *start_after, size_t max,
                FolderList *ret) {
        Listing listing = {
                .prefix = prefix,
                .start_after = start_after ? start_after : "",
                .max = max,
                .ret = ret,
        };
        int r;

        r = list_folder(&listing, root_fd, "", 0);
        if (r < 0)
                folder_list_done(ret);
        return r;
}

void folder_list_done(FolderList *list) {
        for (size_t i = 0; i < list->n; i++) {
                free(list->entries[i].key);
                free(list->entries[i].etag);
        }
        free(list->entries);
        *list = (FolderList){ 0 };
}
