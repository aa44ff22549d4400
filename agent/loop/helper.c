#include "loop/helper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/contract.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/str.h"
#include "loop/cgroup.h"

/* systemd's range for users that exist only while something runs (UIDS-GIDS in its documentation).
 */
#define FREE_UID_FIRST 61184
#define FREE_UID_COUNT (65519 - FREE_UID_FIRST + 1)

#define STATUS_BYTES (64 * 1024)
#define PASSWD_BYTES (16 * 1024)

/* What is kept of a helper's outputs: enough for the end of a sanitizer's or an assertion's report.
 */
#define OUTPUT_BYTES 4096

#define CLOSE_KILL_USEC     SEC(2)
#define EMPTY_POLLS         200
#define EMPTY_FIRST_USEC    MSEC(1)
#define EMPTY_MAX_USEC      MSEC(500)
#define TIMER_ACCURACY_USEC MSEC(1)

struct Helper {
        char *instance;
        char *group; /* name of its cgroup */
        int cgroup_fd;
        sd_event *loop;
        Child *child;
        CallPeer *peer;
        int peer_fd; /* the peer's, to shut it down; void once peer_closed */
        bool peer_closed;
        bool contained; /* all that it starts ends with it */
        bool ended;     /* its first process */
        bool told;
        ChildExit how;
        Buf output;
        sd_event_source *timer; /* to kill it, and later to see its cgroup empty */
        usec_t wait_usec;

        void (*on_end)(Helper *helper, const ChildExit *how, void *userdata);
        void *userdata;
};

/* ---- users ---- */

static int lookup_user(const char *name, uid_t uid, HelperUser *ret) {
        _cleanup_free_ char *room = calloc(1, PASSWD_BYTES);
        struct passwd entry, *found = NULL;
        int r;

        if (!room)
                return -ENOMEM;
        r = name ? getpwnam_r(name, &entry, room, PASSWD_BYTES, &found)
                 : getpwuid_r(uid, &entry, room, PASSWD_BYTES, &found);
        /* A database that does not answer is like one without that user: both lead to a free
         * number. */
        if (r != 0 || !found)
                return -ENOENT;

        *ret = (HelperUser){ .uid = found->pw_uid, .gid = found->pw_gid };
        return 0;
}

/* The four user ids of a process, from "Uid:\treal\teffective\tsaved\tfile". */
static void mark_used(int proc_fd, const char *pid, bool used[FREE_UID_COUNT]) {
        _cleanup_(buf_done) Buf text = BUF_INIT(STATUS_BYTES);
        unsigned uids[4] = { 0 };
        const char *at;
        char path[300];

        (void) snprintf(path, sizeof(path), "%s/status", pid);
        if (file_read_at(proc_fd, path, &text) < 0)
                return;
        at = strstr(buf_str(&text), "\nUid:");
        if (!at || sscanf(at, "\nUid: %u %u %u %u", &uids[0], &uids[1], &uids[2], &uids[3]) != 4)
                return;
        for (size_t i = 0; i < ELEMENTS(uids); i++)
                if (uids[i] >= FREE_UID_FIRST && uids[i] < FREE_UID_FIRST + FREE_UID_COUNT)
                        used[uids[i] - FREE_UID_FIRST] = true;
}

static int scan_users(bool used[FREE_UID_COUNT]) {
        const struct dirent *entry;
        uint64_t pid;
        DIR *proc;

        proc = opendir("/proc");
        if (!proc)
                return -errno;
        while ((entry = readdir(proc)) != NULL)
                if (str_to_u64(entry->d_name, &pid) >= 0)
                        mark_used(dirfd(proc), entry->d_name, used);
        (void) closedir(proc);
        return 0;
}

int helper_user(const char *name, unsigned reserve, HelperUser *ret) {
        bool used[FREE_UID_COUNT] = { 0 };
        HelperUser other;
        unsigned first;
        int r;

        *ret = (HelperUser){ 0 };
        if (geteuid() != 0)
                return 0;
        if (lookup_user(name, 0, ret) >= 0)
                return ret->uid > 0 ? 0 : -EPERM;

        r = scan_users(used);
        if (r < 0)
                return r;

        /* Agents beside each other begin at different places; within one, reserve keeps helpers
         * apart. */
        first = (unsigned) getpid() % FREE_UID_COUNT;
        for (unsigned i = 0; i < FREE_UID_COUNT; i++) {
                unsigned at = (first + i) % FREE_UID_COUNT;
                uid_t uid = FREE_UID_FIRST + at;

                if (used[at] || lookup_user(NULL, uid, &other) >= 0)
                        continue;
                if (reserve-- == 0) {
                        *ret = (HelperUser){ .uid = uid, .gid = uid };
                        return 0;
                }
        }
        return -EUSERS;
}

/* ---- programs ---- */

static int open_in(const char *folder, const char *name) {
        _cleanup_free_ char *path = str_format("%s/%s", folder, name);
        int fd;

        if (!path)
                return -ENOMEM;
        fd = open(path, O_PATH | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* The folder of our own executable. */
static int own_folder(char ret[PATH_MAX]) {
        char *slash;
        ssize_t n;

        n = readlink("/proc/self/exe", ret, PATH_MAX - 1);
        if (n < 0)
                return -errno;
        ret[n] = 0;
        slash = strrchr(ret, '/');
        if (!slash)
                return -ENOENT;
        *slash = 0;
        return 0;
}

int helper_open(const char *name, const char *libexec_dir, int *ret_fd, Error **reterr) {
        char own[PATH_MAX];
        const char *folders[] = {
                libexec_dir,
                PATH_LIBEXEC,
                own_folder(own) >= 0 ? own : NULL,
        };

        for (size_t i = 0; i < ELEMENTS(folders); i++) {
                int fd = folders[i] ? open_in(folders[i], name) : -ENOENT;

                if (fd >= 0) {
                        *ret_fd = fd;
                        return 0;
                }
                if (fd != -ENOENT && fd != -ENOTDIR)
                        return error_wrap(reterr, fd, "open program %s/%s", folders[i], name);
        }
        return error_set(reterr, -ENOENT,
                         "program %s is missing: it is not in %s%s%s or %s; install the package "
                         "again",
                         name, libexec_dir ?: "", libexec_dir ? ", " : "", PATH_LIBEXEC,
                         folders[2] ?: "the folder of this program");
}

/* ---- the end ---- */

static int on_timer(sd_event_source *s, usec_t now, void *userdata);

static void arm_timer(Helper *h, usec_t usec) {
        h->timer = sd_event_source_disable_unref(h->timer);
        if (sd_event_add_time_relative(h->loop, &h->timer, CLOCK_MONOTONIC, usec,
                                       TIMER_ACCURACY_USEC, on_timer, h) < 0 &&
            h->child)
                child_kill(h->child);
}

/* All of it has ended when its first process has, nobody is left in its cgroup, and what it had
 * said was heard. May free the helper. */
static void check_end(Helper *h) {
        if (!h->ended || h->told)
                return;
        if (h->cgroup_fd >= 0 && !cgroup_is_empty(h->cgroup_fd)) {
                (void) cgroup_kill(h->cgroup_fd);
                arm_timer(h, h->wait_usec);
                h->wait_usec = MIN(h->wait_usec * 2, EMPTY_MAX_USEC);
                return;
        }
        if (!h->peer_closed)
                return;

        h->timer = sd_event_source_disable_unref(h->timer);
        h->told = true;
        if (h->on_end)
                h->on_end(h, &h->how, h->userdata);
}

static int on_timer(_unused_ sd_event_source *s, _unused_ usec_t now, void *userdata) {
        Helper *h = userdata;

        if (!h->ended)
                child_kill(h->child);
        else
                check_end(h);
        return 0;
}

static void on_child_exit(_unused_ Child *child, const ChildExit *how, void *userdata) {
        Helper *h = userdata;

        h->how = *how;
        h->ended = true;
        /* A last answer may still lie in the socket: it is read up to its end, which this makes
         * sure comes. */
        if (!h->peer_closed)
                (void) shutdown(h->peer_fd, SHUT_RDWR);
        check_end(h);
}

static void on_peer_closed(void *userdata) {
        Helper *h = userdata;

        h->peer_closed = true;
        if (h->ended)
                check_end(h);
        else
                arm_timer(h, CLOSE_KILL_USEC);
}

static void on_child_line(_unused_ Child *child, const char *line, void *userdata) {
        Helper *h = userdata;
        size_t size = MIN(strlen(line), (size_t) OUTPUT_BYTES / 2);
        const char *end;

        /* The oldest lines make room. */
        while (h->output.size > 0 && h->output.size + size + 1 > OUTPUT_BYTES) {
                end = memchr(h->output.data, '\n', h->output.size);
                buf_consume(&h->output, end ? (size_t) (end - h->output.data) + 1 : h->output.size);
        }
        (void) buf_append(&h->output, line, size);
        (void) buf_append(&h->output, "\n", 1);
}

/* ---- the beginning ---- */

static int spawn(Helper *h, const HelperSpec *spec, int call_fd, unsigned flags, Error **reterr) {
        const char *level = getenv("TENDRIL_LOG_LEVEL");
        _cleanup_free_ char *name = strdup(spec->name);
        _cleanup_free_ char *log_env = str_format("TENDRIL_LOG_LEVEL=%s", level ?: "info");
        char lang_env[] = "LANG=C.UTF-8";
        char *const argv[] = { name, NULL };
        char *const env[] = { lang_env, log_env, NULL };
        ChildSpec child = {
                .name = spec->name,
                .program_fd = spec->program_fd,
                .argv = argv,
                .env = env,
                .uid = spec->user.uid,
                .gid = spec->user.gid,
                .pass_fds = &call_fd,
                .n_pass_fds = 1,
                .cgroup_fd = h->cgroup_fd,
                .flags = flags | CHILD_PDEATHSIG | CHILD_NO_NEW_PRIVS,
                .timeout_usec = spec->timeout_usec,
                .on_line = on_child_line,
                .on_exit = on_child_exit,
                .userdata = h,
        };

        if (!name || !log_env)
                return -ENOMEM;
        return child_spawn(h->loop, &child, &h->child, reterr);
}

/* In a cgroup of its own, else in a pid namespace, else (unprivileged) as it is. */
static int spawn_contained(Helper *h, const HelperSpec *spec, int call_fd, Error **reterr) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        if (h->cgroup_fd >= 0) {
                h->contained = true;
                return spawn(h, spec, call_fd, spec->flags, reterr);
        }

        r = spawn(h, spec, call_fd, spec->flags | CHILD_NEW_PID, &err);
        h->contained = r >= 0;
        if (r == -EPERM && !(spec->flags & CHILD_NEW_PID))
                return spawn(h, spec, call_fd, spec->flags, reterr);
        return r < 0 ? error_take(reterr, &err) : 0;
}

static int make_group(Helper *h, const HelperSpec *spec, Error **reterr) {
        _cleanup_free_ char *digits = str_random_hex(4);
        int r;

        h->instance = strdup(spec->instance ?: "");
        h->group = digits ? str_format("%s-%s", spec->name, digits) : NULL;
        if (!h->instance || !h->group)
                return -ENOMEM;

        r = cgroup_make(h->instance, h->group, &h->cgroup_fd, reterr);
        return r < 0 ? r : 0;
}

int helper_start(sd_event *loop, const HelperSpec *spec, Helper **ret, Error **reterr) {
        _cleanup_(helper_freep) Helper *h = NULL;
        _cleanup_close_ int call_fd = -EBADF;
        int fds[2], r;

        h = calloc(1, sizeof(Helper));
        if (!h)
                return error_wrap(reterr, -ENOMEM, "start %s", spec->name);
        *h = (Helper){ .cgroup_fd = -EBADF,
                       .loop = sd_event_ref(loop),
                       .peer_closed = true,
                       .output = BUF_INIT(OUTPUT_BYTES),
                       .wait_usec = EMPTY_FIRST_USEC,
                       .on_end = spec->on_end,
                       .userdata = spec->userdata };
        r = make_group(h, spec, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "start %s", spec->name);

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
                return error_wrap(reterr, -errno, "start %s: make its channel", spec->name);
        h->peer_fd = fds[0];
        call_fd = fds[1];
        r = call_peer_new(loop, fds[0], on_peer_closed, h, &h->peer);
        if (r < 0)
                return error_wrap(reterr, r, "start %s: watch its channel", spec->name);

        h->peer_closed = false;
        r = spawn_contained(h, spec, call_fd, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(h);
        return 0;
}

CallPeer *helper_peer(Helper *h) {
        return h->peer;
}

bool helper_is_contained(const Helper *h) {
        return h->contained;
}

const char *helper_output(const Helper *h) {
        return buf_str(&h->output);
}

void helper_close(Helper *h) {
        h->peer = call_peer_free(h->peer);
        if (h->peer_closed)
                return;

        h->peer_closed = true;
        arm_timer(h, h->ended ? 0 : CLOSE_KILL_USEC);
}

/* Those that were killed are gone within moments, unless they wait for a disk; only then does an
 * empty group stay behind. */
static void remove_group(Helper *h) {
        (void) cgroup_kill(h->cgroup_fd);
        for (unsigned i = 0; i < EMPTY_POLLS && !cgroup_is_empty(h->cgroup_fd); i++)
                (void) poll(NULL, 0, 1);
        (void) cgroup_remove(h->instance, h->group);
        closep(&h->cgroup_fd);
}

Helper *helper_free(Helper *h) {
        if (!h)
                return NULL;

        h->timer = sd_event_source_disable_unref(h->timer);
        h->peer = call_peer_free(h->peer);
        h->child = child_free(h->child);
        if (h->cgroup_fd >= 0)
                remove_group(h);
        buf_done(&h->output);
        h->loop = sd_event_unref(h->loop);
        free(h->instance);
        free(h->group);
        free(h);
        return NULL;
}
