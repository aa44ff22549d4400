#include "loop/cgroup.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/str.h"

/* Of /proc/self/mountinfo on hosts with thousands of mounts; of cgroup.procs with 100,000
 * processes. */
#define MOUNTINFO_BYTES (4 * 1024 * 1024)
#define PROCS_BYTES     (1024 * 1024)

/* Groups in groups that are looked through: programs that make their own make one or two levels. */
#define MAX_DEPTH 8

/* Kernels before 5.14: rounds of killing all, until nobody is left who could fork. */
#define KILL_ROUNDS 32

/* mountinfo writes blank, tab, line feed and backslash as three octal digits (proc(5)). */
static void unescape(char *text) {
        char *to = text;

        for (const char *at = text; *at; to++)
                if (at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] && at[3]) {
                        *to = (char) ((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0'));
                        at += 4;
                } else
                        *to = *at++;
        *to = 0;
}

/* One line of mountinfo: "id parent dev root mountpoint options... - type source options". True for
 * a cgroup2, with its root and mount point, which point into the line. */
static bool parse_mount(char *line, char **ret_root, char **ret_point) {
        char *words = strstr(line, " - "), *rest = NULL, *word = NULL;

        if (!words || !str_has_prefix(words + 3, "cgroup2 "))
                return false;

        *words = 0;
        for (unsigned i = 0; i < 5; i++) {
                word = strtok_r(i == 0 ? line : NULL, " ", &rest);
                if (!word)
                        return false;
                if (i == 3)
                        *ret_root = word;
        }

        unescape(*ret_root);
        unescape(word);
        *ret_point = word;
        return true;
}

/* This process's group, from the line "0::/path" of /proc/self/cgroup. */
static int read_own_group(Buf *text, char **ret) {
        char *at, *end;
        int r;

        r = file_read_at(AT_FDCWD, "/proc/self/cgroup", text);
        if (r < 0)
                return r;

        at = text->data;
        while (at && !str_has_prefix(at, "0::/")) {
                at = strchr(at, '\n');
                at = at ? at + 1 : NULL;
        }
        if (!at)
                return -ENOENT;

        end = strchr(at, '\n');
        if (end)
                *end = 0;
        *ret = at + 3;
        return 0;
}

/* Where our own group is seen: the mount shows the hierarchy from its root on, which in a container
 * is not "/". */
static int open_own_group(int *ret_fd) {
        _cleanup_(buf_done) Buf mounts = BUF_INIT(MOUNTINFO_BYTES), groups = BUF_INIT(64 * 1024);
        char *group = NULL, *rest = NULL;
        int r;

        r = read_own_group(&groups, &group);
        if (r < 0)
                return r;

        r = file_read_at(AT_FDCWD, "/proc/self/mountinfo", &mounts);
        if (r < 0)
                return r;
        if (!mounts.data)
                return -ENOENT;

        for (char *line = strtok_r(mounts.data, "\n", &rest); line;
             line = strtok_r(NULL, "\n", &rest)) {
                char *root = NULL, *point = NULL, path[PATH_MAX];
                size_t skip;
                int fd;

                if (!parse_mount(line, &root, &point))
                        continue;

                skip = str_equal(root, "/") ? 0 : strlen(root);
                if (strncmp(group, root, skip) != 0 || (group[skip] != '/' && group[skip] != 0))
                        continue;
                if (snprintf(path, sizeof(path), "%s%s", point, group + skip) >= (int) sizeof(path))
                        continue;

                fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (fd >= 0) {
                        *ret_fd = fd;
                        return 0;
                }
        }

        return -ENOENT;
}

static bool name_is_valid(const char *name) {
        for (const char *at = name; *at; at++)
                if (!isascii(*at) || (!isalnum(*at) && !strchr(".-_", *at)))
                        return false;
        return *name && *name != '.' && strlen(name) < NAME_MAX;
}

static int base_name(const char *instance, char ret[NAME_MAX + 1]) {
        int n;

        n = snprintf(ret, NAME_MAX + 1, "tendril-%s", instance ?: "");
        return n <= NAME_MAX && name_is_valid(ret) ? 0 : -EINVAL;
}

/* A group in which we may put processes: made by us, or already there. */
static int make_in(int parent_fd, const char *name, int *ret_fd) {
        int fd;

        if (mkdirat(parent_fd, name, 0755) < 0 && errno != EEXIST)
                return -errno;

        fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        *ret_fd = fd;
        return 0;
}

/* The kernel lets a process move only to a group below one whose cgroup.procs may be written; an
 * unprivileged process may see groups without being allowed that. */
static int open_base(const char *instance, int *ret_fd) {
        _cleanup_close_ int own_fd = -EBADF;
        char base[NAME_MAX + 1];
        int r;

        r = base_name(instance, base);
        if (r < 0)
                return r;

        r = open_own_group(&own_fd);
        if (r < 0)
                return r;
        if (faccessat(own_fd, "cgroup.procs", W_OK, AT_EACCESS) < 0)
                return -errno;
        return make_in(own_fd, base, ret_fd);
}

/* ENOSPC, EAGAIN: there are as many groups as there may be. */
static bool means_none(int r) {
        return r == -ENOENT || r == -EACCES || r == -EPERM || r == -EROFS || r == -ENOSYS ||
               r == -ENOSPC || r == -EAGAIN;
}

int cgroup_make(const char *instance, const char *name, int *ret_fd, Error **reterr) {
        _cleanup_close_ int base_fd = -EBADF, fd = -EBADF;
        int r;

        if (!str_is_empty(name) && !name_is_valid(name))
                return error_set(reterr, -EINVAL, "make cgroup: \"%s\" is no name of a cgroup",
                                 name);

        r = open_base(instance, &base_fd);
        if (r >= 0 && !str_is_empty(name))
                r = make_in(base_fd, name, &fd);
        if (means_none(r))
                return CGROUP_NONE;
        if (r < 0)
                return error_wrap(reterr, r, "make cgroup tendril-%s/%s", instance ?: "",
                                  name ?: "");

        *ret_fd = fd >= 0 ? TAKE_FD(fd) : TAKE_FD(base_fd);
        return 0;
}

/* ---- who is in it ---- */

typedef int (*PidDo)(void *userdata, pid_t pid);

static int each_pid_here(int fd, PidDo todo, void *userdata) {
        _cleanup_(buf_done) Buf text = BUF_INIT(PROCS_BYTES);
        char *rest = NULL;
        uint64_t pid;
        int r;

        r = file_read_at(fd, "cgroup.procs", &text);
        /* ENODEV: the group was removed while we hold it; EOPNOTSUPP: a threaded one, whose
         * processes its parent lists. */
        if (r == -ENODEV || r == -ENOENT || r == -EOPNOTSUPP)
                return 0;
        if (r < 0)
                return r;
        if (!text.data)
                return 0;

        for (char *line = strtok_r(text.data, "\n", &rest); line;
             line = strtok_r(NULL, "\n", &rest)) {
                /* 0: a process of another pid namespace, which has no number here. */
                if (str_to_u64(line, &pid) < 0 || pid > INT32_MAX)
                        return -EBADMSG;
                r = todo(userdata, (pid_t) pid);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void dir_closep(DIR **dir) {
        if (*dir)
                (void) closedir(*dir);
}

/* Calls below() for each group directly in this one. */
static int each_group(int fd,
                      int (*below)(int parent_fd, const char *name, unsigned depth, void *userdata),
                      unsigned depth, void *userdata) {
        _cleanup_(dir_closep) DIR *dir = NULL;
        _cleanup_close_ int own_fd = -EBADF;
        int r;

        if (depth >= MAX_DEPTH)
                return -ELOOP;

        /* A descriptor of its own: reading moves the position, which copies made by dup() would
         * share. */
        own_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (own_fd < 0)
                return errno == ENOENT || errno == ENODEV ? 0 : -errno;
        dir = fdopendir(own_fd);
        if (!dir)
                return -errno;
        (void) TAKE_FD(own_fd);

        for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
                if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                        continue;
                r = below(fd, entry->d_name, depth + 1, userdata);
                if (r < 0)
                        return r;
        }
        return 0;
}

typedef struct Walk {
        PidDo todo;
        void *userdata;
} Walk;

static int walk_here(int fd, unsigned depth, Walk *walk);

static int walk_below(int parent_fd, const char *name, unsigned depth, void *userdata) {
        _cleanup_close_ int fd = -EBADF;

        fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        return walk_here(fd, depth, userdata);
}

static int walk_here(int fd, unsigned depth, Walk *walk) {
        int r;

        r = each_pid_here(fd, walk->todo, walk->userdata);
        if (r < 0)
                return r;
        return each_group(fd, walk_below, depth, walk);
}

static int each_pid(int fd, PidDo todo, void *userdata) {
        Walk walk = { .todo = todo, .userdata = userdata };

        return walk_here(fd, 0, &walk);
}

static int count_one(void *userdata, pid_t pid) {
        int *n = userdata;

        (void) pid;
        (*n)++;
        return 0;
}

int cgroup_count(int cgroup_fd) {
        int n = 0, r;

        r = each_pid(cgroup_fd, count_one, &n);
        return r < 0 ? r : n;
}

typedef struct Pids {
        pid_t *pids;
        size_t n, max;
} Pids;

static int keep_one(void *userdata, pid_t pid) {
        Pids *to = userdata;

        if (to->n < to->max)
                to->pids[to->n] = pid;
        to->n++;
        return 0;
}

int cgroup_pids(int cgroup_fd, pid_t *ret, size_t max) {
        Pids to = { .pids = ret, .max = max };
        int r;

        r = each_pid(cgroup_fd, keep_one, &to);
        return r < 0 ? r : (int) to.n;
}

/* ---- signals ---- */

typedef struct Signal {
        int number;
        int n_sent;
} Signal;

static int signal_one(void *userdata, pid_t pid) {
        Signal *s = userdata;

        /* Never 0 (everybody of our process group), never ourselves. */
        if (pid <= 1 || pid == getpid())
                return 0;
        if (kill(pid, s->number) == 0)
                s->n_sent++;
        else if (errno != ESRCH)
                return -errno;
        return 0;
}

int cgroup_signal(int cgroup_fd, int signal) {
        Signal s = { .number = signal };

        return each_pid(cgroup_fd, signal_one, &s);
}

static int kill_by_file(int cgroup_fd) {
        _cleanup_close_ int fd = -EBADF;

        fd = openat(cgroup_fd, "cgroup.kill", O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return file_write_all(fd, "1", 1);
}

int cgroup_kill(int cgroup_fd) {
        int r;

        r = kill_by_file(cgroup_fd);
        if (r >= 0 || r == -ENODEV)
                return 0;

        /* Who was killed may have forked just before: its child is met in the next round. */
        for (unsigned i = 0; i < KILL_ROUNDS; i++) {
                Signal s = { .number = SIGKILL };

                r = each_pid(cgroup_fd, signal_one, &s);
                if (r < 0)
                        return r;
                if (s.n_sent == 0 || cgroup_is_empty(cgroup_fd))
                        break;
        }
        return 0;
}

bool cgroup_is_empty(int cgroup_fd) {
        _cleanup_(buf_done) Buf text = BUF_INIT(4096);
        int r;

        r = file_read_at(cgroup_fd, "cgroup.events", &text);
        if (r == -ENODEV || r == -ENOENT)
                return true;
        return r >= 0 && strstr(buf_str(&text), "populated 0") != NULL;
}

/* ---- the end ---- */

static int remove_below(int parent_fd, const char *name, unsigned depth, void *userdata) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;

        r = each_group(fd, remove_below, depth, userdata);
        if (r < 0)
                return r;
        if (unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                return -errno;
        return 0;
}

int cgroup_remove(const char *instance, const char *name) {
        _cleanup_close_ int own_fd = -EBADF, base_fd = -EBADF;
        char base[NAME_MAX + 1];
        int r;

        r = base_name(instance, base);
        if (r < 0)
                return r;
        if (!str_is_empty(name) && !name_is_valid(name))
                return -EINVAL;
        if (open_own_group(&own_fd) < 0)
                return 0;
        if (str_is_empty(name))
                return remove_below(own_fd, base, 0, NULL);

        base_fd = openat(own_fd, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (base_fd < 0)
                return errno == ENOENT ? 0 : -errno;
        return remove_below(base_fd, name, 0, NULL);
}
