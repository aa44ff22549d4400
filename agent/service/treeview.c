#include "treework.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/str.h"

/* Room for folders and links only; the application's files are bound into it. */
#define SCRATCH_OPTIONS "mode=0755,size=16m"

/* -------- the command line -------- */

static bool parse_number(const char *text, uint32_t *ret) {
        uint64_t n;

        if (str_to_u64(text, &n) < 0 || n > INT32_MAX)
                return false;
        *ret = (uint32_t) n;
        return true;
}

static bool add_folder(TreeView *view, const char *name, const char *dir) {
        if (view->n_folders >= TREE_VIEW_FOLDERS_MAX || name[0] == '\0' || name[0] == '.' ||
            strchr(name, '/') || dir[0] != '/')
                return false;
        view->folders[view->n_folders++] = (TreeFolder){ name, dir };
        return true;
}

static bool set_current(TreeView *view, char *value) {
        return add_folder(view, "current", value);
}

static bool set_staging(TreeView *view, char *value) {
        return add_folder(view, "staging", value);
}

/* NAME=DIR */
static bool set_venv(TreeView *view, char *value) {
        char *dir = strchr(value, '=');

        if (!dir)
                return false;
        *dir = '\0';
        return add_folder(view, value, dir + 1);
}

/* UID:GID[:GID...] */
static bool set_user(TreeView *view, char *value) {
        char *save = NULL;
        const char *uid = strtok_r(value, ":", &save), *gid = strtok_r(NULL, ":", &save);

        if (!uid || !gid || !parse_number(uid, &view->uid) || !parse_number(gid, &view->gid))
                return false;
        for (const char *p = strtok_r(NULL, ":", &save); p; p = strtok_r(NULL, ":", &save))
                if (view->n_groups >= TREE_VIEW_GROUPS_MAX ||
                    !parse_number(p, &view->groups[view->n_groups++]))
                        return false;
        view->set_user = true;
        return true;
}

static bool set_wait(TreeView *view, char *value) {
        uint32_t fd;

        if (!parse_number(value, &fd))
                return false;
        view->wait_fd = (int) fd;
        return true;
}

static bool set_cwd(TreeView *view, char *value) {
        view->cwd = value;
        return value[0] == '/';
}

static bool set_plain(TreeView *view, char *value) {
        view->plain = true;
        return value[0] == '\0';
}

static const struct {
        const char *name;
        bool (*set)(TreeView *view, char *value);
} options[] = {
        { "--current=", set_current }, { "--staging=", set_staging }, { "--venv=", set_venv },
        { "--user=", set_user },       { "--wait=", set_wait },       { "--cwd=", set_cwd },
        { "--plain", set_plain },
};

static bool parse_option(TreeView *view, char *arg) {
        for (size_t i = 0; i < ELEMENTS(options); i++)
                if (str_has_prefix(arg, options[i].name))
                        return options[i].set(view, arg + strlen(options[i].name));
        return false;
}

bool treeview_parse(int argc, char **argv, TreeView *ret) {
        int i = 0;

        *ret = (TreeView){ .wait_fd = -EBADF };
        for (; i < argc && !str_equal(argv[i], "--"); i++)
                if (!parse_option(ret, argv[i]))
                        return false;
        ret->argv = argv + i + 1;
        return i + 1 < argc;
}

/* -------- the view -------- */

static int fail(const char *what, Error **reterr) {
        return error_set(reterr, -errno, "view: %s: %s", what, strerror(errno));
}

static int bind_fd(int fd, const char *path) {
        char source[32];

        (void) snprintf(source, sizeof(source), "/proc/self/fd/%d", fd);
        return mount(source, path, NULL, MS_BIND | MS_REC, NULL) < 0 ? -errno : 0;
}

/* One entry of the real /var in the tmpfs that hides it: folders and files bound, links made again,
 * other things left out. */
static int carry_entry(int var_fd, const char *name) {
        _cleanup_close_ int fd = -EBADF, made = -EBADF;
        char path[PATH_MAX], target[PATH_MAX];
        struct stat st;

        (void) snprintf(path, sizeof(path), "/var/%s", name);
        fd = openat(var_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (S_ISLNK(st.st_mode)) {
                ssize_t n = readlinkat(fd, "", target, sizeof(target) - 1);
                if (n < 0)
                        return -errno;
                target[n] = '\0';
                return symlink(target, path) < 0 ? -errno : 0;
        }
        if (S_ISDIR(st.st_mode)) {
                if (mkdir(path, 0755) < 0)
                        return -errno;
                return bind_fd(fd, path);
        }
        if (!S_ISREG(st.st_mode))
                return 0;
        made = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        return made < 0 ? -errno : bind_fd(fd, path);
}

static int carry_all(DIR *var, Error **reterr) {
        int r;

        for (;;) {
                errno = 0;
                const struct dirent *e = readdir(var);
                if (!e)
                        return errno ? fail("read /var", reterr) : 0;
                if (str_equal(e->d_name, ".") || str_equal(e->d_name, ".."))
                        continue;
                r = carry_entry(dirfd(var), e->d_name);
                if (r < 0)
                        return error_set(reterr, r, "view: bind /var/%s: %s", e->d_name,
                                         strerror(-r));
        }
}

/* A /var like the real one, with an empty app in it. Nothing is made on disk. */
static int scratch_var(Error **reterr) {
        int r;

        DIR *var = opendir("/var");
        if (!var)
                return fail("open /var", reterr);
        if (mount("tmpfs", "/var", "tmpfs", MS_NODEV, SCRATCH_OPTIONS) < 0)
                r = fail("tmpfs at /var", reterr);
        else
                r = carry_all(var, reterr);
        (void) closedir(var);
        if (r < 0)
                return r;
        return mkdir(TREE_SCRATCH, 0755) < 0 ? fail("make " TREE_SCRATCH, reterr) : 0;
}

static int scratch_app(Error **reterr) {
        struct stat st;

        if (stat(TREE_SCRATCH, &st) < 0)
                return scratch_var(reterr);
        if (mount("tmpfs", TREE_SCRATCH, "tmpfs", MS_NODEV, SCRATCH_OPTIONS) < 0)
                return fail("tmpfs at " TREE_SCRATCH, reterr);
        return 0;
}

static int open_folders(const TreeView *view, int fds[TREE_VIEW_FOLDERS_MAX], Error **reterr) {
        for (size_t i = 0; i < view->n_folders; i++) {
                fds[i] = open(view->folders[i].dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (fds[i] < 0)
                        return fail(view->folders[i].dir, reterr);
        }
        return 0;
}

static int bind_folders(const TreeView *view, const int fds[TREE_VIEW_FOLDERS_MAX],
                        Error **reterr) {
        char path[PATH_MAX];
        int r;

        for (size_t i = 0; i < view->n_folders; i++) {
                (void) snprintf(path, sizeof(path), TREE_SCRATCH "/%s", view->folders[i].name);
                if (mkdir(path, 0755) < 0)
                        return fail(path, reterr);
                r = bind_fd(fds[i], path);
                if (r < 0)
                        return error_set(reterr, r, "view: bind %s: %s", path, strerror(-r));
        }
        return 0;
}

int treeview_enter(const TreeView *view, Error **reterr) {
        int fds[TREE_VIEW_FOLDERS_MAX];
        int r;

        for (size_t i = 0; i < TREE_VIEW_FOLDERS_MAX; i++)
                fds[i] = -EBADF;
        /* What is mounted on the host later is seen here (file systems of an operator), nothing of
         * ours is seen there. */
        if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
                return fail("make all mounts slaves", reterr);
        /* The folders may lie below what is hidden next. */
        r = open_folders(view, fds, reterr);
        if (r >= 0)
                r = scratch_app(reterr);
        if (r >= 0)
                r = bind_folders(view, fds, reterr);
        for (size_t i = 0; i < TREE_VIEW_FOLDERS_MAX; i++)
                closep(&fds[i]);
        return r;
}

/* A byte: we are known and may begin. */
static int wait_byte(int fd) {
        char byte;

        if (fd < 0)
                return 0;
        for (;;) {
                ssize_t n = read(fd, &byte, 1);
                if (n < 0 && errno == EINTR)
                        continue;
                (void) close(fd);
                return n == 1 ? 0 : TREE_VIEW_ORPHAN;
        }
}

/* As root still: in the plain case the folder may lie below one that the user cannot enter. */
static int go_to(const TreeView *view, Error **reterr) {
        const char *path = view->cwd;

        for (size_t i = 0; !path && i < view->n_folders; i++)
                if (str_equal(view->folders[i].name, "current"))
                        path = view->plain ? view->folders[i].dir : TREE_SCRATCH "/current";
        if (chdir(path ?: "/") < 0)
                return fail(path ?: "/", reterr);
        return 0;
}

/* No-new-privileges is not set: applications may use sudo. */
static int become_user(const TreeView *view, Error **reterr) {
        if (!view->set_user || (geteuid() != 0 && view->uid == geteuid()))
                return 0;
        if (setgroups(view->n_groups, view->groups) < 0)
                return fail("set the groups", reterr);
        if (setresgid(view->gid, view->gid, view->gid) < 0)
                return fail("set the group", reterr);
        if (setresuid(view->uid, view->uid, view->uid) < 0)
                return fail("set the user", reterr);
        return 0;
}

int treeview_run(const TreeView *view, Error **reterr) {
        int r;

        r = wait_byte(view->wait_fd);
        if (r != 0)
                return r;
        if (!view->plain) {
                if (unshare(CLONE_NEWNS) < 0)
                        return errno == EPERM || errno == ENOSYS
                                       ? TREE_VIEW_NONE
                                       : fail("a mount namespace", reterr);
                r = treeview_enter(view, reterr);
                if (r < 0)
                        return r == -EPERM ? TREE_VIEW_NONE : r;
        }
        r = go_to(view, reterr);
        if (r >= 0)
                r = become_user(view, reterr);
        if (r < 0)
                return r;

        /* Nothing of the agent's goes on; kernels before 5.9 do not know the call, and there all is
         * O_CLOEXEC already. */
        (void) syscall(SYS_close_range, 3U, ~0U, 0U);
        (void) execvp(view->argv[0], view->argv);
        return fail(view->argv[0], reterr);
}

int treeview_probe(void) {
        TreeView view = { .wait_fd = -1 };

        if (unshare(CLONE_NEWNS) < 0 || treeview_enter(&view, NULL) < 0)
                return TREE_VIEW_NONE;
        return 0;
}
