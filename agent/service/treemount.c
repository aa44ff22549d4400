#include "treework.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/str.h"
#include "service/tree.h"

/* From linux/mount.h, which older C libraries cannot include beside sys/mount.h. */
#define TREE_OPEN_CLONE   1U
#define TREE_MOVE_F_EMPTY 0x00000004U
#define TREE_MOVE_T_EMPTY 0x00000040U
#define TREE_MOVE_BENEATH 0x00000200U

/* Mounts at one path, one over the other, that are taken off at once: left by others or by a crash.
 */
#define STACK_MAX 64

/* A mount of the folder that is nowhere yet; it may be put into any mount namespace that we are in
 * by then. */
static int clone_folder(int dir_fd) {
        long fd = syscall(SYS_open_tree, dir_fd, "",
                          TREE_OPEN_CLONE | O_CLOEXEC | (unsigned) AT_EMPTY_PATH);

        return fd < 0 ? -errno : (int) fd;
}

static int put_mount(int mount_fd, int at_fd, unsigned flags) {
        return syscall(SYS_move_mount, mount_fd, "", at_fd, "",
                       TREE_MOVE_F_EMPTY | TREE_MOVE_T_EMPTY | flags) < 0
                       ? -errno
                       : 0;
}

/* Goes to the namespace, keeps the own one in *ret_back (or -1 where there was nothing to do). Not
 * being allowed to is fine: then it is done here. */
static int enter_ns(const char *ns, int *ret_back) {
        _cleanup_close_ int fd = -EBADF, own = -EBADF;
        struct stat a, b;

        *ret_back = -EBADF;
        if (!ns)
                return 0;
        fd = open(ns, O_RDONLY | O_CLOEXEC);
        own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
        if (fd < 0 || own < 0 || fstat(fd, &a) < 0 || fstat(own, &b) < 0)
                return 0;
        if ((a.st_dev == b.st_dev && a.st_ino == b.st_ino) || setns(fd, CLONE_NEWNS) < 0)
                return 0;
        *ret_back = TAKE_FD(own);
        return 0;
}

static int leave_ns(int *back) {
        if (*back < 0)
                return 0;
        int r = setns(*back, CLONE_NEWNS) < 0 ? -errno : 0;
        (void) close(TAKE_FD(*back));
        return r;
}

static void make_parents(char *path) {
        for (char *p = path + 1; *p; p++)
                if (*p == '/') {
                        *p = '\0';
                        (void) mkdir(path, 0755);
                        *p = '/';
                }
        (void) mkdir(path, 0755);
}

/* The parent's real path and the last name, so that it can be found in mountinfo. */
static int resolve_path(const char *path, bool make, char ret[PATH_MAX], Error **reterr) {
        char parent[PATH_MAX], real[PATH_MAX];
        const char *name = strrchr(path, '/');

        if (path[0] != '/' || name[1] == '\0' || strlen(path) >= PATH_MAX ||
            str_equal(name, "/..") || str_equal(name, "/."))
                return error_set(reterr, -EINVAL, "'%s' is no absolute path of a folder", path);

        (void) snprintf(parent, sizeof(parent), "%.*s", (int) MAX(name - path, 1), path);
        if (make)
                make_parents(parent);
        if (!realpath(parent, real))
                return error_set(reterr, -errno, "%s: %s", parent, strerror(errno));
        if (snprintf(ret, PATH_MAX, "%s%s", real[1] ? real : "", name) >= PATH_MAX)
                return error_set(reterr, -ENAMETOOLONG, "%s: the path is too long", path);
        return 0;
}

/* proc(5): blank, tab, newline and backslash stand as \ooo. */
static void unescape(char *text) {
        char *to = text;

        for (const char *p = text; *p; to++) {
                if (p[0] == '\\' && p[1] && p[2] && p[3]) {
                        *to = (char) ((p[1] - '0') * 64 + (p[2] - '0') * 8 + (p[3] - '0'));
                        p += 4;
                } else
                        *to = *p++;
        }
        *to = '\0';
}

/* The mount point of a line of mountinfo (its fifth field), in place; NULL: not a line of it. */
static char *mountinfo_point(char *line) {
        char *save = NULL, *field = NULL;

        for (unsigned i = 0; i < 5; i++)
                field = strtok_r(i == 0 ? line : NULL, " ", &save);
        if (field)
                unescape(field);
        return field;
}

/* How many mounts are at the path, one over the other. */
static int stack_depth(const char *path) {
        _cleanup_free_ char *line = NULL;
        size_t size = 0;
        int n = 0;

        FILE *f = fopen("/proc/self/mountinfo", "re");
        if (!f)
                return -errno;
        while (getline(&line, &size, f) >= 0) {
                const char *point = mountinfo_point(line);
                if (point && str_equal(point, path))
                        n++;
        }
        (void) fclose(f);
        return n;
}

/* Takes the topmost ones off until n are left. */
static int stack_cut(const char *path, int n, Error **reterr) {
        for (unsigned i = 0; i < STACK_MAX; i++) {
                int depth = stack_depth(path);

                if (depth <= n)
                        return depth < 0
                                       ? error_set(reterr, depth, "mountinfo: %s", strerror(-depth))
                                       : 0;
                if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
                        return error_set(reterr, -errno, "unmount %s: %s", path, strerror(errno));
        }
        return error_set(reterr, -EBUSY, "unmount %s: there is always one more", path);
}

/* Whether what is mounted in the mount of this folder shows in its peers (proc(5): the fields
 * before the dash). */
static bool is_shared(int dir_fd) {
        _cleanup_free_ char *line = NULL;
        char path[64];
        size_t size = 0;
        int id = -1, at;
        bool shared = false;

        (void) snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", dir_fd);
        FILE *f = fopen(path, "re");
        while (f && getline(&line, &size, f) >= 0)
                (void) sscanf(line, "mnt_id: %d", &id);
        if (f)
                (void) fclose(f);

        f = fopen("/proc/self/mountinfo", "re");
        while (f && getline(&line, &size, f) >= 0) {
                const char *dash = strstr(line, " - "), *found = strstr(line, " shared:");
                if (sscanf(line, "%d", &at) == 1 && at == id)
                        shared = found && dash && found < dash;
        }
        if (f)
                (void) fclose(f);
        return shared;
}

/* Beneath what is mounted at the path, through a peer of the mount above it: in a namespace that
 * ends with us, the folder above is bound a second time, still a peer, and without what is mounted
 * in it; what is mounted there comes to the path under what stands on it. Nothing is changed where
 * the mount above is not shared: -EINVAL. */
static int tuck_mount(int mount_fd, const char *path) {
        _cleanup_close_ int home = -EBADF, parent = -EBADF, peer = -EBADF, at = -EBADF;
        char above[PATH_MAX];
        const char *name = strrchr(path, '/') + 1;
        int before = stack_depth(path);
        int r;

        (void) snprintf(above, sizeof(above), "%.*s", (int) MAX(name - 1 - path, 1), path);
        parent = open(above, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (parent < 0 || !is_shared(parent))
                return -EINVAL;
        (void) close(TAKE_FD(parent));
        home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
        if (home < 0 || unshare(CLONE_NEWNS) < 0)
                return -errno;
        parent = open(above, O_PATH | O_DIRECTORY | O_CLOEXEC); /* of this namespace */
        peer = parent < 0 ? -errno : clone_folder(parent);
        r = peer < 0 ? peer : 0;
        if (r == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                r = -errno;
        if (r == 0)
                r = put_mount(peer, parent, 0);
        if (r == 0) {
                at = openat(peer, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                r = at < 0 ? -errno : put_mount(mount_fd, at, 0);
        }
        if (setns(home, CLONE_NEWNS) < 0)
                return -errno;
        if (r == 0 && stack_depth(path) != before + 1)
                return -EINVAL;
        return r;
}

/* The new one under the one that stands there, then that one off: the path shows the one, then the
 * other. */
static int turn_mount(int mount_fd, int at_fd, const char *path, TreeMountWay first,
                      Error **reterr) {
        int r = -EINVAL;

        if (first <= TREE_MOUNT_BENEATH)
                r = put_mount(mount_fd, at_fd, TREE_MOVE_BENEATH);
        if (r < 0 && first <= TREE_MOUNT_TUCK)
                r = tuck_mount(mount_fd, path);
        if (r >= 0)
                return stack_cut(path, 1, reterr);

        r = stack_cut(path, 0, reterr);
        if (r < 0)
                return r;
        _cleanup_close_ int below = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        r = below < 0 ? -errno : put_mount(mount_fd, below, 0);
        return r < 0 ? error_set(reterr, r, "mount at %s: %s", path, strerror(-r)) : 0;
}

static bool is_same(int a_fd, int b_fd) {
        struct stat a, b;

        return fstat(a_fd, &a) == 0 && fstat(b_fd, &b) == 0 && a.st_dev == b.st_dev &&
               a.st_ino == b.st_ino;
}

/* A folder at the path to mount on; a link of a time without mounts is replaced. */
static int make_point(const char *path, Error **reterr) {
        struct stat st;

        if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && unlink(path) < 0)
                return error_set(reterr, -errno, "remove the link %s: %s", path, strerror(errno));
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
                return error_set(reterr, -errno, "make %s: %s", path, strerror(errno));
        return 0;
}

static int mount_here(int app_fd, int mount_fd, const char *path, TreeMountWay first,
                      Error **reterr) {
        _cleanup_close_ int at = -EBADF;
        int depth, r;

        r = make_point(path, reterr);
        if (r < 0)
                return r;
        depth = stack_depth(path);
        if (depth < 0)
                return error_set(reterr, depth, "mountinfo: %s", strerror(-depth));
        r = depth > 1 ? stack_cut(path, 1, reterr) : 0;
        if (r < 0)
                return r;

        at = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (at < 0)
                return error_set(reterr, -errno, "open %s: %s", path, strerror(errno));
        if (depth > 0 && is_same(at, app_fd))
                return 0;
        if (depth > 0)
                return turn_mount(mount_fd, at, path, first, reterr);
        r = put_mount(mount_fd, at, 0);
        return r < 0 ? error_set(reterr, r, "mount at %s: %s", path, strerror(-r)) : 0;
}

/*
 * A link leads through the folders above, which are root's alone. Once the files are the
 * application's (prepare has ended) it may pass through both, and list neither.
 */
static int open_way(int app_fd, Error **reterr) {
        static const char *const above[] = { "..", "../.." };
        struct stat app, st;

        if (geteuid() != 0 || fstat(app_fd, &app) < 0 || app.st_uid == 0)
                return 0;
        for (size_t i = 0; i < ELEMENTS(above); i++) {
                _cleanup_close_ int fd =
                        openat(app_fd, above[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

                if (fd < 0 || fstat(fd, &st) < 0 ||
                    (st.st_uid == 0 && fchmod(fd, (st.st_mode & 07777) | 0011) < 0))
                        return error_set(reterr, -errno, "open the way to the version: %s",
                                         strerror(errno));
        }
        return 0;
}

/* Where mounting is not possible. What the link replaces may be an empty folder. */
static int link_here(int app_fd, const char *path, Error **reterr) {
        char target[PATH_MAX], temporary[PATH_MAX], fd_name[32];
        int r;

        (void) snprintf(fd_name, sizeof(fd_name), "/proc/self/fd/%d", app_fd);
        ssize_t n = readlink(fd_name, target, sizeof(target) - 1);
        if (n < 0)
                return error_set(reterr, -errno, "%s: %s", fd_name, strerror(errno));
        target[n] = '\0';
        if (snprintf(temporary, sizeof(temporary), "%s.new", path) >= (int) sizeof(temporary))
                return error_set(reterr, -ENAMETOOLONG, "%s: the path is too long", path);

        r = open_way(app_fd, reterr);
        if (r < 0)
                return r;
        (void) unlink(temporary);
        if (symlink(target, temporary) < 0)
                return error_set(reterr, -errno, "make the link %s: %s", temporary,
                                 strerror(errno));
        (void) rmdir(path);
        if (rename(temporary, path) < 0) {
                r = -errno;
                (void) unlink(temporary);
                return error_set(reterr, r, "turn the link %s: %s", path, strerror(-r));
        }
        return TREE_WAS_LINK;
}

int treemount_mount(int app_fd, const char *path, const char *ns, TreeMountWay first,
                    Error **reterr) {
        _cleanup_close_ int mount_fd = -EBADF, back = -EBADF;
        char real[PATH_MAX];
        int r;

        /* In the namespace in which the descriptor was opened; mounts of another one cannot be
         * bound. */
        mount_fd = clone_folder(app_fd);
        if (mount_fd < 0 && mount_fd != -EPERM && mount_fd != -ENOSYS)
                return error_set(reterr, mount_fd, "bind the folder: %s", strerror(-mount_fd));

        if (mount_fd >= 0)
                (void) enter_ns(ns, &back);
        r = resolve_path(path, true, real, reterr);
        if (r >= 0 && mount_fd >= 0)
                r = mount_here(app_fd, mount_fd, real, first, reterr);
        else if (r >= 0)
                r = link_here(app_fd, real, reterr);
        int left = leave_ns(&back);
        return r < 0 || left == 0 ? r : error_set(reterr, left, "return: %s", strerror(-left));
}

static int unmount_here(const char *path, Error **reterr) {
        struct stat st;
        int r;

        r = stack_depth(path);
        if (r > 0)
                r = stack_cut(path, 0, reterr);
        if (r < 0)
                return r;
        if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && unlink(path) < 0)
                return error_set(reterr, -errno, "remove the link %s: %s", path, strerror(errno));
        return 0;
}

int treemount_unmount(const char *path, const char *ns, Error **reterr) {
        _cleanup_close_ int back = -EBADF;
        char real[PATH_MAX];
        int r;

        (void) enter_ns(ns, &back);
        r = resolve_path(path, false, real, NULL);
        if (r >= 0)
                r = unmount_here(real, reterr);
        else if (r == -ENOENT)
                r = 0; /* nor is there anything mounted */
        else
                (void) error_set(reterr, r, "%s: %s", path, strerror(-r));
        int left = leave_ns(&back);
        return r < 0 || left == 0 ? r : error_set(reterr, left, "return: %s", strerror(-left));
}
