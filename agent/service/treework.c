#include "treework.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "agent/limits.h"
#include "base/str.h"

/* Levels: what an archive may have and a little; and what a build may make of it (a descriptor
 * each). */
#define DEPTH_OWN  (LIMIT_ARCHIVE_DEPTH + 8)
#define DEPTH_WALK 256

/* Rounds of removing: each takes DEPTH_WALK levels off what is deeper. */
#define REMOVE_ROUNDS 4096

#define COPY_NAME ".tendril-give" /* a file that is being given a name of its own */

typedef struct Walk Walk;

/* One entry; fd is its O_PATH descriptor. */
typedef struct Entry {
        int dir_fd;
        const char *name;
        int fd;
        struct stat st;
} Entry;

typedef enum WalkAnswer {
        WALK_SKIP = 1, /* do not go into this folder */
} WalkAnswer;

struct Walk {
        unsigned depth_max;
        bool skip_mounts; /* else a mount point is an error */
        int (*on_entry)(Walk *walk, const Entry *entry, Error **reterr);
        int (*on_leave)(Walk *walk, int dir_fd, const char *name,
                        Error **reterr); /* NULL: nothing */
        int (*on_too_deep)(Walk *walk, const Entry *entry, Error **reterr);
        void *userdata;

        unsigned depth; /* of open folders; entries of the root have 1 */
        struct {
                DIR *dir;
                char name[NAME_MAX + 1];
        } frames[DEPTH_WALK];
};

static Walk *walk_free(Walk *walk) {
        if (!walk)
                return NULL;
        while (walk->depth > 0)
                (void) closedir(walk->frames[--walk->depth].dir);
        free(walk);
        return NULL;
}
DEFINE_CLEANUP(Walk, walk_free);

/* "a/b/name", relative to the root of the walk, for words. */
static int walk_error(const Walk *walk, int code, const char *name, const char *words,
                      Error **reterr) {
        char path[512] = "";
        size_t n = 0;

        for (unsigned i = 1; i < walk->depth && n < sizeof(path) / 2; i++)
                n += (size_t) snprintf(path + n, sizeof(path) - n, "%s/", walk->frames[i].name);

        _cleanup_free_ char *shown = str_printable(path, strlen(path));
        _cleanup_free_ char *shown_name = str_printable(name, strlen(name));
        return error_set(reterr, code, "%s%s: %s", shown ?: "", shown_name ?: "?", words);
}

/* Opens what name is, not what it leads to, and not across a mount: -EXDEV. Kernels before 5.6 and
 * filters that do not know openat2() get openat(), which does not see mounts. */
static int open_entry(int dir_fd, const char *name) {
        const struct open_how how = {
                .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
        };
        long fd = syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));

        if (fd < 0 && (errno == ENOSYS || errno == EPERM))
                fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : (int) fd;
}

static int walk_push(Walk *walk, int fd, const char *name) {
        _cleanup_close_ int dir_fd = -EBADF;

        dir_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                return -errno;

        DIR *dir = fdopendir(dir_fd);
        if (!dir)
                return -errno;
        (void) TAKE_FD(dir_fd);
        walk->frames[walk->depth].dir = dir;
        (void) snprintf(walk->frames[walk->depth].name, NAME_MAX + 1, "%s", name);
        walk->depth++;
        return 0;
}

static int walk_pop(Walk *walk, Error **reterr) {
        walk->depth--;
        (void) closedir(walk->frames[walk->depth].dir);
        if (!walk->on_leave || walk->depth == 0)
                return 0;
        return walk->on_leave(walk, dirfd(walk->frames[walk->depth - 1].dir),
                              walk->frames[walk->depth].name, reterr);
}

static int walk_one(Walk *walk, int dir_fd, const char *name, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = open_entry(dir_fd, name);
        if (fd == -ENOENT)
                return 0;
        if (fd == -EXDEV && walk->skip_mounts)
                return 0;
        if (fd == -EXDEV)
                return walk_error(walk, fd, name,
                                  "another file system is mounted there; unmount it", reterr);
        if (fd < 0)
                return walk_error(walk, fd, name, strerror(-fd), reterr);

        Entry entry = { .dir_fd = dir_fd, .name = name, .fd = fd };
        if (fstat(fd, &entry.st) < 0)
                return walk_error(walk, -errno, name, strerror(errno), reterr);

        bool is_dir = S_ISDIR(entry.st.st_mode);
        if (is_dir && walk->depth >= walk->depth_max)
                return walk->on_too_deep ? walk->on_too_deep(walk, &entry, reterr)
                                         : walk_error(walk, -ELOOP, name,
                                                      "too many folders in folders", reterr);

        r = walk->on_entry(walk, &entry, reterr);
        if (r != 0)
                return r < 0 ? r : 0;
        if (!is_dir)
                return 0;
        r = walk_push(walk, fd, name);
        if (r < 0)
                return walk_error(walk, r, name, strerror(-r), reterr);
        return 0;
}

/* Every entry below root_fd, folders before what is in them. */
static int walk_run(Walk *walk, int root_fd, Error **reterr) {
        int r;

        r = walk_push(walk, root_fd, "");
        if (r < 0)
                return error_set(reterr, r, "open the folder: %s", strerror(-r));

        while (walk->depth > 0) {
                DIR *dir = walk->frames[walk->depth - 1].dir;

                errno = 0;
                const struct dirent *e = readdir(dir);
                if (!e && errno != 0)
                        return walk_error(walk, -errno, ".", strerror(errno), reterr);
                if (!e)
                        r = walk_pop(walk, reterr);
                else if (str_equal(e->d_name, ".") || str_equal(e->d_name, ".."))
                        r = 0;
                else
                        r = walk_one(walk, dirfd(dir), e->d_name, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Changes through an O_PATH descriptor, which fchmod() and the like refuse. */
static const char *fd_path(int fd, char ret[32]) {
        (void) snprintf(ret, 32, "/proc/self/fd/%d", fd);
        return ret;
}

static int fd_chmod(int fd, mode_t mode) {
        char path[32];

        return chmod(fd_path(fd, path), mode) < 0 ? -errno : 0;
}

/* As another user than root there is nobody else to give a file to. */
static int fd_chown(int fd, const struct stat *st, uid_t uid, gid_t gid) {
        if (geteuid() != 0 || (st->st_uid == uid && st->st_gid == gid))
                return 0;
        return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* Access lists would let in others than the mode shows. Most files have none, many file systems
 * know none. */
static void fd_drop_acl(int fd, bool is_dir) {
        char path[32];

        (void) removexattr(fd_path(fd, path), "system.posix_acl_access");
        if (is_dir)
                (void) removexattr(path, "system.posix_acl_default");
}

/* -------- own -------- */

static bool walk_is_below(const Walk *walk, const char *first, const char *second) {
        return walk->depth > 2 && str_equal(walk->frames[1].name, first) &&
               str_equal(walk->frames[2].name, second);
}

/* Elastic Beanstalk makes hooks executable, whatever the archive says. */
static bool walk_is_hook(const Walk *walk) {
        return walk_is_below(walk, ".platform", "hooks") ||
               walk_is_below(walk, ".platform", "confighooks");
}

static int own_fd(int fd, const struct stat *st, mode_t mode) {
        bool was_root = st->st_uid == 0;
        int r;

        r = fd_chown(fd, st, 0, 0);
        if (r < 0)
                return r;
        if (S_ISLNK(st->st_mode))
                return 0;
        /* Behind the change of owner: from then on nobody else can set bits. */
        fd_drop_acl(fd, S_ISDIR(st->st_mode));
        return was_root && (st->st_mode & 07777) == mode ? 0 : fd_chmod(fd, mode);
}

static int own_entry(Walk *walk, const Entry *entry, Error **reterr) {
        const struct stat *st = &entry->st;
        mode_t mode = st->st_mode & 0777;
        int r;

        if (!S_ISDIR(st->st_mode) && !S_ISREG(st->st_mode) && !S_ISLNK(st->st_mode))
                return walk_error(walk, -EPERM, entry->name,
                                  "is no folder, file or link; versions may hold nothing else",
                                  reterr);
        if (!S_ISDIR(st->st_mode) && st->st_nlink != 1)
                return walk_error(walk, -EMLINK, entry->name,
                                  "has more than one name; one of them may be outside", reterr);
        if (S_ISDIR(st->st_mode))
                mode |= 0700;
        else if (S_ISREG(st->st_mode) && walk_is_hook(walk))
                mode |= 0111;

        r = own_fd(entry->fd, st, mode);
        if (r < 0)
                return walk_error(walk, r, entry->name, strerror(-r), reterr);
        return 0;
}

static int own_tree(int tree_fd, Error **reterr) {
        _cleanup_(walk_freep) Walk *walk = calloc(1, sizeof(*walk));
        struct stat st;
        int r;

        if (!walk)
                return -ENOMEM;
        if (fstat(tree_fd, &st) < 0)
                return error_set(reterr, -errno, "tree: %s", strerror(errno));
        r = own_fd(tree_fd, &st, 0700);
        if (r < 0)
                return error_set(reterr, r, "tree: %s", strerror(-r));

        walk->depth_max = DEPTH_OWN;
        walk->on_entry = own_entry;
        return walk_run(walk, tree_fd, reterr);
}

/* What root reads or runs of a bundle. */
static const char *const control_names[] = {
        ".platform", ".ebextensions", "Procfile", "Buildfile", "cron.yaml", "env.yaml",
};

typedef struct Copy {
        int dir_fds[DEPTH_OWN + 1]; /* by depth: where its entries go */
} Copy;

static void copy_done(Copy *copy) {
        for (size_t i = 0; i < ELEMENTS(copy->dir_fds); i++)
                closep(&copy->dir_fds[i]);
}

static int copy_bytes(int from_fd, int to_fd) {
        char block[65536];

        for (;;) {
                ssize_t n = copy_file_range(from_fd, NULL, to_fd, NULL, 1 << 30, 0);
                if (n == 0)
                        break;
                if (n < 0 && errno == ENOSPC)
                        return -errno;
                if (n < 0)
                        break;
        }
        /* What copy_file_range() could not do (other file systems, kernels that answer 0): both
         * stand where it stopped. */
        for (;;) {
                ssize_t n = read(from_fd, block, sizeof(block));
                if (n == 0)
                        return 0;
                if (n < 0)
                        return -errno;
                for (ssize_t at = 0; at < n;) {
                        ssize_t m = write(to_fd, block + at, (size_t) (n - at));
                        if (m < 0)
                                return -errno;
                        at += m;
                }
        }
}

/* Opens a regular file that was looked at through O_PATH for reading: the same inode, or nothing.
 */
static int open_seen(int fd) {
        char path[32];
        int opened = open(fd_path(fd, path), O_RDONLY | O_NONBLOCK | O_CLOEXEC);

        return opened < 0 ? -errno : opened;
}

static int copy_file(const Entry *entry, int to_dir_fd, mode_t mode) {
        _cleanup_close_ int from = -EBADF, to = -EBADF;

        from = open_seen(entry->fd);
        if (from < 0)
                return from;
        to = openat(to_dir_fd, entry->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    mode);
        if (to < 0)
                return -errno;
        return copy_bytes(from, to);
}

/* Whether a link n_above folders below one of the names above stays in that, through whatever other
 * links there are: all its ".." come first, so they go over real folders, and there are not more of
 * them than folders. */
static bool link_stays(const char *target, unsigned n_above) {
        bool named = false;
        unsigned up = 0;

        if (target[0] == '/' || target[0] == '\0')
                return false;
        while (*target) {
                size_t n = strcspn(target, "/");
                bool is_up = n == 2 && target[0] == '.' && target[1] == '.';

                if (is_up && (named || ++up > n_above))
                        return false;
                if (n > 0 && !is_up && !(n == 1 && target[0] == '.'))
                        named = true;
                target += n;
                target += strspn(target, "/");
        }
        return true;
}

static int copy_link(Walk *walk, const Entry *entry, int to_dir_fd) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(entry->fd, "", target, sizeof(target) - 1);

        if (n < 0)
                return -errno;
        target[n] = '\0';
        if (walk->depth >= 2 && link_stays(target, walk->depth - 2))
                return symlinkat(target, to_dir_fd, entry->name) < 0 ? -errno : 0;

        _cleanup_(error_freep) Error *note = NULL;
        (void) walk_error(walk, -EXDEV, entry->name,
                          "is a link that leads out of what is kept for root; it was left out",
                          &note);
        (void) fprintf(stderr, "note: control: %s\n", error_text(note));
        return 0;
}

static int copy_folder(Copy *copy, const Entry *entry, unsigned depth) {
        if (mkdirat(copy->dir_fds[depth - 1], entry->name, 0700) < 0)
                return -errno;
        copy->dir_fds[depth] = openat(copy->dir_fds[depth - 1], entry->name,
                                      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return copy->dir_fds[depth] < 0 ? -errno : 0;
}

static bool control_wants(const char *name) {
        for (size_t i = 0; i < ELEMENTS(control_names); i++)
                if (str_equal(control_names[i], name))
                        return true;
        return false;
}

static int copy_entry(Walk *walk, const Entry *entry, Error **reterr) {
        Copy *copy = walk->userdata;
        int to = copy->dir_fds[walk->depth - 1];
        int r;

        if (walk->depth == 1 && !control_wants(entry->name))
                return WALK_SKIP;
        if (S_ISDIR(entry->st.st_mode))
                r = copy_folder(copy, entry, walk->depth);
        else if (S_ISLNK(entry->st.st_mode))
                r = copy_link(walk, entry, to);
        else
                r = copy_file(entry, to, (entry->st.st_mode & 0111) ? 0700 : 0600);
        if (r < 0)
                return walk_error(walk, r, entry->name, strerror(-r), reterr);
        return 0;
}

static int copy_leave(Walk *walk, int dir_fd, const char *name, Error **reterr) {
        Copy *copy = walk->userdata;

        (void) dir_fd;
        (void) name;
        (void) reterr;
        (void) close(TAKE_FD(copy->dir_fds[walk->depth]));
        return 0;
}

/* control.tmp/, complete but not yet durable. */
static int control_make(int version_fd, int tree_fd, Error **reterr) {
        _cleanup_(walk_freep) Walk *walk = calloc(1, sizeof(*walk));
        _cleanup_(copy_done) Copy copy;
        int r;

        for (size_t i = 0; i < ELEMENTS(copy.dir_fds); i++)
                copy.dir_fds[i] = -EBADF;
        if (!walk)
                return -ENOMEM;
        if (mkdirat(version_fd, "control.tmp", 0700) < 0)
                return error_set(reterr, -errno, "make control.tmp: %s", strerror(errno));
        copy.dir_fds[0] =
                openat(version_fd, "control.tmp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (copy.dir_fds[0] < 0)
                return error_set(reterr, -errno, "open control.tmp: %s", strerror(errno));

        walk->depth_max = DEPTH_OWN;
        walk->on_entry = copy_entry;
        walk->on_leave = copy_leave;
        walk->userdata = &copy;
        r = walk_run(walk, tree_fd, reterr);
        return r < 0 ? error_wrap(reterr, r, "copy to control") : 0;
}

static int sync_fd(int fd, Error **reterr) {
        return syncfs(fd) < 0 ? error_set(reterr, -errno, "sync: %s", strerror(errno)) : 0;
}

static int rename_in(int dir_fd, const char *from, const char *to, Error **reterr) {
        return renameat(dir_fd, from, dir_fd, to) < 0
                       ? error_set(reterr, -errno, "rename %s to %s: %s", from, to, strerror(errno))
                       : 0;
}

static bool is_there(int dir_fd, const char *name) {
        struct stat st;

        return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* An earlier run came to its end, or nearly: tree → app is the last rename. */
static int own_finished(int version_fd, Error **reterr) {
        if (is_there(version_fd, "tree"))
                return error_set(
                        reterr, -EEXIST,
                        "both tree and app are there: remove the version and extract it again");
        if (!is_there(version_fd, "control"))
                return error_set(
                        reterr, -ENOENT,
                        "app is there without control: remove the version and extract it again");
        return sync_fd(version_fd, reterr);
}

int treework_own(int version_fd, Error **reterr) {
        _cleanup_close_ int tree_fd = -EBADF;
        int r;

        if (is_there(version_fd, "app"))
                return own_finished(version_fd, reterr);

        tree_fd = openat(version_fd, "tree", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (tree_fd < 0)
                return error_set(reterr, -errno, "open tree: %s", strerror(errno));
        r = own_tree(tree_fd, reterr);
        if (r < 0)
                return r;

        /* While tree is there nobody came after us: what there is of control is ours to make again.
         */
        r = treework_remove(version_fd, "control.tmp", reterr);
        if (r >= 0)
                r = treework_remove(version_fd, "control", reterr);
        if (r >= 0)
                r = control_make(version_fd, tree_fd, reterr);
        /* The names come after the bytes: what is called app and control is whole, also after a
         * power cut. */
        if (r >= 0)
                r = sync_fd(version_fd, reterr);
        if (r >= 0)
                r = rename_in(version_fd, "control.tmp", "control", reterr);
        if (r >= 0)
                r = rename_in(version_fd, "tree", "app", reterr);
        return r < 0 ? r : sync_fd(version_fd, reterr);
}

/* -------- give -------- */

typedef struct Give {
        uid_t uid;
        gid_t gid;
} Give;

/* A file with several names (a build that linked from a store of packages) may be shared with what
 * is not ours: it becomes a file of its own, which the application may then have. */
static int give_copy(const Give *give, const Entry *entry) {
        _cleanup_close_ int from = -EBADF, to = -EBADF;
        const struct timespec times[2] = { entry->st.st_atim, entry->st.st_mtim };
        int r;

        from = open_seen(entry->fd);
        if (from < 0)
                return from;
        if (unlinkat(entry->dir_fd, COPY_NAME, 0) < 0 && errno != ENOENT)
                return -errno;
        to = openat(entry->dir_fd, COPY_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    0600);
        if (to < 0)
                return -errno;
        r = copy_bytes(from, to);
        if (r < 0)
                return r;
        if (fchown(to, give->uid, give->gid) < 0 || fchmod(to, entry->st.st_mode & 0777) < 0 ||
            futimens(to, times) < 0 ||
            renameat(entry->dir_fd, COPY_NAME, entry->dir_fd, entry->name) < 0)
                return -errno;
        return 0;
}

static int give_entry(Walk *walk, const Entry *entry, Error **reterr) {
        const Give *give = walk->userdata;
        const struct stat *st = &entry->st;
        bool is_own = st->st_uid == give->uid && st->st_gid == give->gid;
        int r = 0;

        if (str_equal(entry->name, COPY_NAME)) /* of a run that was cut off */
                r = unlinkat(entry->dir_fd, entry->name, 0) < 0 ? -errno : 0;
        else if (geteuid() != 0 || is_own)
                r = 0;
        else if (S_ISDIR(st->st_mode) || (S_ISREG(st->st_mode) && st->st_nlink == 1) ||
                 (S_ISLNK(st->st_mode) && st->st_nlink == 1))
                r = fd_chown(entry->fd, st, give->uid, give->gid);
        else if (S_ISREG(st->st_mode))
                r = give_copy(give, entry);
        if (r < 0)
                return walk_error(walk, r, entry->name, strerror(-r), reterr);
        return 0;
}

int treework_give(int app_fd, uid_t uid, gid_t gid, Error **reterr) {
        _cleanup_(walk_freep) Walk *walk = calloc(1, sizeof(*walk));
        Give give = { .uid = uid, .gid = gid };
        int r;

        if (!walk)
                return -ENOMEM;
        walk->depth_max = DEPTH_WALK;
        walk->skip_mounts = true;
        walk->on_entry = give_entry;
        walk->userdata = &give;
        r = walk_run(walk, app_fd, reterr);
        if (r < 0)
                return r;

        /* The door last. */
        if (geteuid() == 0 && fchown(app_fd, uid, gid) < 0)
                return error_set(reterr, -errno, "give the folder itself: %s", strerror(errno));
        if (fchmod(app_fd, 0755) < 0)
                return error_set(reterr, -errno, "open the folder itself: %s", strerror(errno));
        return sync_fd(app_fd, reterr);
}

/* -------- remove -------- */

typedef struct Remove {
        int top_fd;
        uint64_t n_gone;
        unsigned n_moved;
} Remove;

static int remove_entry(Walk *walk, const Entry *entry, Error **reterr) {
        Remove *remove = walk->userdata;
        mode_t mode = entry->st.st_mode & 07777;

        if (S_ISDIR(entry->st.st_mode)) {
                /* Without root a folder must be writable for its owner before it can be emptied. */
                if (geteuid() != 0 && (mode & 0700) != 0700)
                        (void) fd_chmod(entry->fd, mode | 0700);
                return 0;
        }
        if (unlinkat(entry->dir_fd, entry->name, 0) < 0 && errno != ENOENT)
                return walk_error(walk, -errno, entry->name, strerror(errno), reterr);
        remove->n_gone++;
        return 0;
}

static int remove_leave(Walk *walk, int dir_fd, const char *name, Error **reterr) {
        Remove *remove = walk->userdata;

        if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0)
                remove->n_gone++;
        else if (errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST)
                return walk_error(walk, -errno, name, strerror(errno), reterr);
        return 0; /* not empty: the next round */
}

/* What lies deeper than there are descriptors for is moved up, and taken in a later round. */
static int remove_deep(Walk *walk, const Entry *entry, Error **reterr) {
        Remove *remove = walk->userdata;
        char name[48];

        for (unsigned tries = 0; tries < 1000; tries++) {
                (void) snprintf(name, sizeof(name), ".tendril-deep-%u", remove->n_moved++);
                if (renameat(entry->dir_fd, entry->name, remove->top_fd, name) == 0) {
                        remove->n_gone++;
                        return 0;
                }
                if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
                        break;
        }
        return walk_error(walk, -errno, entry->name, strerror(errno), reterr);
}

static int remove_round(Remove *remove, Error **reterr) {
        _cleanup_(walk_freep) Walk *walk = calloc(1, sizeof(*walk));

        if (!walk)
                return -ENOMEM;
        walk->depth_max = DEPTH_WALK;
        walk->on_entry = remove_entry;
        walk->on_leave = remove_leave;
        walk->on_too_deep = remove_deep;
        walk->userdata = remove;
        remove->n_gone = 0;
        return walk_run(walk, remove->top_fd, reterr);
}

static int remove_folder(int dir_fd, const char *name, int top_fd, Error **reterr) {
        Remove remove = { .top_fd = top_fd };
        int r;

        for (unsigned i = 0; i < REMOVE_ROUNDS; i++) {
                r = remove_round(&remove, reterr);
                if (r < 0)
                        return error_wrap(reterr, r, "remove %s", name);
                if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
                        return 0;
                if ((errno != ENOTEMPTY && errno != EEXIST) || remove.n_gone == 0)
                        break;
        }
        return error_set(reterr, -errno, "remove %s: %s", name, strerror(errno));
}

int treework_remove(int dir_fd, const char *name, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        if (str_is_empty(name) || strchr(name, '/') || str_equal(name, ".") ||
            str_equal(name, ".."))
                return error_set(reterr, -EINVAL, "remove: '%s' is not one name", name ?: "");

        fd = open_entry(dir_fd, name);
        if (fd == -ENOENT)
                return 0;
        if (fd < 0)
                return error_set(reterr, fd, "remove %s: %s", name,
                                 fd == -EXDEV ? "another file system is mounted there"
                                              : strerror(-fd));
        if (fstat(fd, &st) < 0)
                return error_set(reterr, -errno, "remove %s: %s", name, strerror(errno));
        if (S_ISDIR(st.st_mode)) {
                if (geteuid() != 0 && (st.st_mode & 0700) != 0700)
                        (void) fd_chmod(fd, 0700);
                return remove_folder(dir_fd, name, fd, reterr);
        }
        return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT
                       ? error_set(reterr, -errno, "remove %s: %s", name, strerror(errno))
                       : 0;
}
