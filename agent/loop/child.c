#include "loop/child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "agent/limits.h"
#include "base/str.h"
#include "loop/cgroup.h"

/* More than any program here is given. */
#define MAX_PASS_FDS 16

/* Folders of one PATH. */
#define MAX_PATHS 128

/* Between clone and the program's first instruction: file systems over a network may be slow, but
 * end. */
#define EXEC_SECONDS 10

/* A killed process that does not go (it waits for a disk) is not waited for longer than this: it
 * stays a zombie. */
#define REAP_MSEC 2000

#define KILL_DEFAULT_USEC   SEC(5)
#define TIMER_ACCURACY_USEC MSEC(5)
#define READ_BYTES          ((size_t) 16 * 1024)
#define READS_PER_EVENT     4

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

typedef enum ChildState {
        CHILD_RUNNING,
        CHILD_TERMED, /* asked to end; the timer now is the one of the KILL */
        CHILD_KILLED,
        CHILD_ENDED, /* a zombie, or reaped */
} ChildState;

struct Child {
        char *name;
        pid_t pid;
        int pidfd;
        int cgroup_fd; /* borrowed; -EBADF: none */
        unsigned flags;
        ChildState state;
        bool timed_out;
        usec_t started_usec, kill_usec;

        int output_fd; /* read end; -EBADF: output goes elsewhere, or has ended */
        char line[LIMIT_LINE_BYTES + 1];
        size_t n_line;
        bool skipping; /* the rest of a line that was cut */

        sd_event *loop;
        sd_event_source *end_source, *output_source, *timer;

        void (*on_line)(Child *child, const char *line, void *userdata);
        void (*on_exit)(Child *child, const ChildExit *how, void *userdata);
        void *userdata;

        unsigned n_busy; /* callbacks under way: the memory lives until they return */
        bool freed;
};

/* ---- between clone and exec: the child's side. Only async-signal-safe calls, no memory, no locks.
 * ---- */

typedef enum Step {
        STEP_CGROUP,
        STEP_NET,
        STEP_FDS,
        STEP_CWD,
        STEP_USER,
        STEP_PRIVILEGES,
        STEP_EXEC,
        _STEP_MAX,
} Step;

static const char *const step_words[_STEP_MAX] = {
        [STEP_CGROUP] = "enter its cgroup",
        [STEP_NET] = "make a network namespace",
        [STEP_FDS] = "arrange its descriptors",
        [STEP_CWD] = "enter its working folder",
        [STEP_USER] = "become its user",
        [STEP_PRIVILEGES] = "give up privileges",
        [STEP_EXEC] = "execute",
};

/* What the child writes where it cannot go on, and (code 0) right before the exec. */
typedef struct Failure {
        Step step;
        int code; /* negative errno */
} Failure;

/* All that the child needs, made before it exists. */
typedef struct Launch {
        const ChildSpec *spec;
        char **paths; /* to try in this order, unless by descriptor */
        char *const *env;
        int status_fds[2];
        int output_fds[2];
        int null_fd;
        bool change_user;
        int fd_limit;
} Launch;

/* Descriptors moved out of the way of 0, 1, 2, 3, ... */
typedef struct Lifted {
        int status, program, cwd, cgroup, in, out;
        int pass[MAX_PASS_FDS];
} Lifted;

static void tell(int status_fd, Step step, int code) {
        const Failure failure = { .step = step, .code = code };
        ssize_t n;

        n = write(status_fd, &failure, sizeof(failure));
        (void) n;
}

static _noreturn_ void give_up(int status_fd, Step step, int code) {
        tell(status_fd, step, code);
        _exit(127);
}

static int lift(int fd, int above, int *ret) {
        if (fd < 0) {
                *ret = -EBADF;
                return 0;
        }
        *ret = fcntl(fd, F_DUPFD_CLOEXEC, above);
        return *ret < 0 ? -errno : 0;
}

static int lift_all(const Launch *l, int above, Lifted *ret) {
        const ChildSpec *s = l->spec;
        int out = s->output_fd > 0        ? s->output_fd
                  : l->output_fds[1] >= 0 ? l->output_fds[1]
                                          : l->null_fd;
        int r;

        r = lift(s->program_fd > 0 ? s->program_fd : -EBADF, above, &ret->program);
        if (r >= 0)
                r = lift(s->cwd_fd > 0 ? s->cwd_fd : -EBADF, above, &ret->cwd);
        if (r >= 0)
                r = lift(s->cgroup_fd > 0 ? s->cgroup_fd : -EBADF, above, &ret->cgroup);
        if (r >= 0)
                r = lift(s->stdin_fd > 0 ? s->stdin_fd : l->null_fd, above, &ret->in);
        if (r >= 0)
                r = lift(out, above, &ret->out);
        for (size_t i = 0; r >= 0 && i < s->n_pass_fds; i++)
                r = lift(s->pass_fds[i], above, &ret->pass[i]);
        return r;
}

/* Puts everything in its place; whatever else is open ends with the exec. */
static int place_fds(const Launch *l, int above, const Lifted *lifted) {
        if (dup2(lifted->in, 0) < 0 || dup2(lifted->out, 1) < 0 || dup2(lifted->out, 2) < 0)
                return -errno;
        for (size_t i = 0; i < l->spec->n_pass_fds; i++)
                if (dup2(lifted->pass[i], 3 + (int) i) < 0)
                        return -errno;

        if (close_range((unsigned) above, ~0U, CLOSE_RANGE_CLOEXEC) >= 0)
                return 0;
        for (int fd = above; fd < l->fd_limit; fd++)
                (void) fcntl(fd, F_SETFD, FD_CLOEXEC);
        return 0;
}

static int join_cgroup(int cgroup_fd) {
        ssize_t n;
        int fd;

        fd = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        n = write(fd, "0", 1);
        return n < 0 ? -errno : 0;
}

/* The raw system calls: glibc's wrappers would ask every thread of this process, of which the child
 * has none. */
static int become_user(const ChildSpec *s) {
        if (syscall(SYS_setgroups, s->n_groups, s->groups) < 0)
                return -errno;
        if (syscall(SYS_setresgid, s->gid, s->gid, s->gid) < 0)
                return -errno;
        if (syscall(SYS_setresuid, s->uid, s->uid, s->uid) < 0)
                return -errno;
        return 0;
}

static int limit_privileges(const ChildSpec *s, int status_fd) {
        struct pollfd alive = { .fd = status_fd };

        if ((s->flags & CHILD_NO_NEW_PRIVS) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        if (!(s->flags & CHILD_PDEATHSIG))
                return 0;

        /* Changing the user cleared it, so it is set after. The parent may have died before: then
         * nobody reads the status pipe any more. (In a pid namespace getppid() is always 0.) */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
                return -errno;
        if (poll(&alive, 1, 0) > 0 && (alive.revents & POLLERR))
                return -EOWNERDEAD;
        return 0;
}

/* By the kernel's own call: the C library keeps two signals for itself, and whoever started us may
 * have had them ignored. All zero is the default action on every architecture. */
static void reset_signals(void) {
        static const unsigned long normal[8] = { 0 };

        for (int i = 1; i < _NSIG; i++)
                (void) syscall(SYS_rt_sigaction, i, normal, NULL, _NSIG / 8);
}

/* As execvp(): a folder that lacks the program, or has one that may not be executed, is passed
 * over. */
static int exec_program(const Launch *l, const Lifted *lifted) {
        const ChildSpec *s = l->spec;
        int code = -ENOENT;

        if (lifted->program >= 0) {
                (void) execveat(lifted->program, "", s->argv, l->env, AT_EMPTY_PATH);
                return -errno;
        }

        for (char **path = l->paths; *path; path++) {
                (void) execve(*path, s->argv, l->env);
                if (errno == EACCES)
                        code = -EACCES;
                else if (errno != ENOENT && errno != ENOTDIR)
                        return -errno;
        }
        return code;
}

static _noreturn_ void run_child(const Launch *l) {
        const ChildSpec *s = l->spec;
        int above = 3 + (int) s->n_pass_fds, status = l->status_fds[1], r;
        Lifted lifted;
        sigset_t none;

        (void) close(l->status_fds[0]);
        r = lift(status, above, &lifted.status);
        if (r < 0)
                give_up(status, STEP_FDS, r);
        status = lifted.status;

        (void) setsid();
        reset_signals();
        r = lift_all(l, above, &lifted);
        if (r < 0)
                give_up(status, STEP_FDS, r);

        r = lifted.cgroup >= 0 ? join_cgroup(lifted.cgroup) : 0;
        if (r < 0)
                give_up(status, STEP_CGROUP, r);
        if ((s->flags & CHILD_NEW_NET) && unshare(CLONE_NEWNET) < 0 && errno != EPERM)
                give_up(status, STEP_NET, -errno);

        r = place_fds(l, above, &lifted);
        if (r < 0)
                give_up(status, STEP_FDS, r);

        /* As who we still are: who gave the descriptor decided that the program may start there. */
        if ((lifted.cwd >= 0 ? fchdir(lifted.cwd) : chdir("/")) < 0)
                give_up(status, STEP_CWD, -errno);
        (void) umask(s->umask ? s->umask : 022);

        r = l->change_user ? become_user(s) : 0;
        if (r < 0)
                give_up(status, STEP_USER, r);
        r = limit_privileges(s, status);
        if (r < 0)
                give_up(status, STEP_PRIVILEGES, r);

        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        tell(status, STEP_EXEC, 0);
        give_up(status, STEP_EXEC, exec_program(l, &lifted));
}

/* ---- the parent's side of starting ---- */

static void launch_done(Launch *l) {
        closep(&l->status_fds[0]);
        closep(&l->status_fds[1]);
        closep(&l->output_fds[0]);
        closep(&l->output_fds[1]);
        closep(&l->null_fd);
        (void) strv_free(l->paths);
}

static const char *env_value(char *const *env, const char *prefix) {
        for (; env && *env; env++)
                if (str_has_prefix(*env, prefix))
                        return *env + strlen(prefix);
        return NULL;
}

static int launch_paths(Launch *l) {
        const char *program = l->spec->argv[0];
        _cleanup_free_ char *folders = NULL;
        char *rest = NULL;
        int r;

        if (strchr(program, '/'))
                return strv_add(&l->paths, MAX_PATHS, program);

        folders = strdup(env_value(l->env, "PATH=") ?: DEFAULT_PATH);
        if (!folders)
                return -ENOMEM;
        for (char *folder = strtok_r(folders, ":", &rest); folder;
             folder = strtok_r(NULL, ":", &rest)) {
                _cleanup_free_ char *path = str_format("%s/%s", folder, program);

                if (!path)
                        return -ENOMEM;
                r = strv_add(&l->paths, MAX_PATHS, path);
                if (r < 0)
                        return r;
        }

        /* An empty PATH: nowhere to look, which the child reports as ENOENT. */
        return l->paths ? 0 : strv_add(&l->paths, MAX_PATHS, "");
}

static int launch_prepare(Launch *l, const ChildSpec *spec) {
        static char *const no_env[] = { NULL };
        struct rlimit limit;

        *l = (Launch){ .spec = spec,
                       .env = spec->env ?: no_env,
                       .status_fds = { -EBADF, -EBADF },
                       .output_fds = { -EBADF, -EBADF },
                       .null_fd = -EBADF,
                       .fd_limit = 1024 };
        if (spec->n_pass_fds > MAX_PASS_FDS)
                return -E2BIG;

        l->change_user = spec->uid > 0 && (spec->uid != geteuid() || spec->gid != getegid());
        if (getrlimit(RLIMIT_NOFILE, &limit) >= 0 && limit.rlim_cur < 65536)
                l->fd_limit = (int) limit.rlim_cur;

        if (pipe2(l->status_fds, O_CLOEXEC) < 0)
                return -errno;
        if (spec->on_line && spec->output_fd <= 0 && pipe2(l->output_fds, O_CLOEXEC) < 0)
                return -errno;
        l->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (l->null_fd < 0)
                return -errno;
        return spec->program_fd > 0 ? 0 : launch_paths(l);
}

/* fork() that also gives a descriptor of the child. It enters its cgroup itself: a kernel that was
 * once told to kill all of a group (cgroup.kill) kills whatever is cloned right into it later, too
 * (seen on 6.18). */
static pid_t clone_child(const Launch *l, int *ret_pidfd) {
        unsigned long flags = CLONE_PIDFD | SIGCHLD;

        if (l->spec->flags & CHILD_NEW_PID)
                flags |= CLONE_NEWPID;
        return (pid_t) syscall(SYS_clone, flags, NULL, ret_pidfd, NULL, NULL);
}

/* 0: the program has begun; 1: *ret says why not; negative errno. */
static int await_exec(int status_fd, Failure *ret) {
        usec_t end = clock_read(NULL, CLOCK_MONOTONIC) + SEC(EXEC_SECONDS), now;
        struct pollfd ready = { .fd = status_fd, .events = POLLIN };
        Failure said = { 0 };
        ssize_t n;
        int r;

        for (;;) {
                now = clock_read(NULL, CLOCK_MONOTONIC);
                r = poll(&ready, 1, now < end ? (int) ((end - now) / 1000) + 1 : 0);
                if (r == 0)
                        return -ETIMEDOUT;
                if (r < 0 && errno != EINTR)
                        return -errno;
                if (r < 0)
                        continue;

                n = read(status_fd, &said, sizeof(said));
                if (n < 0)
                        return -errno;
                /* The end: of the pipe by the exec, or of the child by somebody's KILL. */
                if (n == 0)
                        return said.step == STEP_EXEC ? 0 : -ECHILD;
                if (n != sizeof(said) || said.step >= _STEP_MAX)
                        return -EBADMSG;
                if (said.code < 0) {
                        *ret = said;
                        return 1;
                }
        }
}

/* True when it is gone. */
static bool reap(pid_t pid, int pidfd) {
        struct pollfd ended = { .fd = pidfd, .events = POLLIN };

        if (poll(&ended, 1, REAP_MSEC) <= 0)
                return false;
        return waitpid(pid, NULL, WNOHANG) == pid;
}

static void kill_and_reap(pid_t pid, int pidfd) {
        (void) syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        (void) reap(pid, pidfd);
}

/* Clones, and waits until the program has begun. */
static int launch(Launch *l, pid_t *ret_pid, int *ret_pidfd, Error **reterr) {
        const char *name = l->spec->name ?: l->spec->argv[0];
        Failure failure = { 0 };
        sigset_t all, saved;
        int pidfd = -EBADF, code, r;
        pid_t pid;

        /* Blocked, so that no handler of ours ever runs in the child. */
        (void) sigfillset(&all);
        (void) sigprocmask(SIG_SETMASK, &all, &saved);
        pid = clone_child(l, &pidfd);
        if (pid == 0)
                run_child(l);
        code = errno;
        (void) sigprocmask(SIG_SETMASK, &saved, NULL);
        if (pid < 0)
                return error_set(reterr, -code, "start %s: make a process%s: %s", name,
                                 l->spec->flags & CHILD_NEW_PID ? " in a pid namespace" : "",
                                 strerror(code));

        closep(&l->status_fds[1]);
        l->status_fds[1] = -EBADF;
        r = await_exec(l->status_fds[0], &failure);
        if (r == 0) {
                *ret_pid = pid;
                *ret_pidfd = pidfd;
                return 0;
        }

        kill_and_reap(pid, pidfd);
        closep(&pidfd);
        if (r == -ECHILD)
                return error_set(reterr, r, "start %s: it was killed before its program began",
                                 name);
        if (r == -ETIMEDOUT)
                return error_set(reterr, r, "start %s: its program has not begun within %d s", name,
                                 EXEC_SECONDS);
        if (r < 0)
                return error_wrap(reterr, r, "start %s: wait for its program to begin", name);
        return error_set(reterr, failure.code, "start %s: %s%s%s: %s%s", name,
                         step_words[failure.step], failure.step == STEP_EXEC ? " " : "",
                         failure.step == STEP_EXEC ? l->spec->argv[0] : "", strerror(-failure.code),
                         failure.step == STEP_EXEC && failure.code == -ENOENT
                                 ? " (the program, or the interpreter that it names)"
                                 : "");
}

/* ---- callbacks, during which the owner may free the child ---- */

static void child_enter(Child *c) {
        c->n_busy++;
}

/* False: it was freed meanwhile and must not be touched any more. */
static bool child_leave(Child *c) {
        bool freed = c->freed;

        c->n_busy--;
        if (freed && c->n_busy == 0)
                free(c);
        return !freed;
}

/* ---- output ---- */

static void emit_line(Child *c) {
        c->line[c->n_line] = 0;
        c->n_line = 0;
        c->on_line(c, c->line, c->userdata);
}

/* The caller holds the child by child_enter(). */
static void feed_lines(Child *c, const char *data, size_t size) {
        for (size_t i = 0; i < size && !c->freed; i++) {
                if (data[i] == '\n') {
                        if (!c->skipping)
                                emit_line(c);
                        c->skipping = false;
                } else if (c->skipping)
                        continue;
                else {
                        c->line[c->n_line++] = data[i] ? data[i] : '?';
                        /* Cut: told at once, so that the part that is kept is not late. */
                        if (c->n_line == LIMIT_LINE_BYTES) {
                                c->skipping = true;
                                emit_line(c);
                        }
                }
        }
}

static void close_output(Child *c) {
        c->output_source = sd_event_source_disable_unref(c->output_source);
        closep(&c->output_fd);
        c->output_fd = -EBADF;
}

/* Reads at most max bytes. The caller holds the child. */
static void read_output(Child *c, size_t max) {
        char data[READ_BYTES];
        ssize_t n;

        while (max > 0 && !c->freed && c->output_fd >= 0) {
                n = read(c->output_fd, data, MIN(max, sizeof(data)));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return;
                if (n <= 0) {
                        close_output(c);
                        return;
                }
                max -= (size_t) n;
                feed_lines(c, data, (size_t) n);
        }
}

static int on_output(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t events,
                     void *userdata) {
        Child *c = userdata;

        child_enter(c);
        read_output(c, READS_PER_EVENT * READ_BYTES);
        (void) child_leave(c);
        return 0;
}

/* What was written until now, and no more: whoever else holds the pipe may write for ever. */
static void finish_output(Child *c) {
        int size = 0;

        if (c->output_fd >= 0 && ioctl(c->output_fd, FIONREAD, &size) >= 0 && size > 0)
                read_output(c, (size_t) size);
        if (c->freed)
                return;
        close_output(c);
        if (c->n_line > 0)
                emit_line(c);
}

/* ---- signals ---- */

static bool has_survivors(const Child *c) {
        return (c->cgroup_fd > 0 && cgroup_count(c->cgroup_fd) > 0) ||
               process_group_has_others(c->pid);
}

/* The pid is ours until it is reaped, also as the group's number. */
static void signal_all(const Child *c, int signal) {
        bool left_group = c->state != CHILD_ENDED && getpgid(c->pid) != c->pid;

        if (c->cgroup_fd > 0 && signal == SIGKILL)
                (void) cgroup_kill(c->cgroup_fd);
        else if (c->cgroup_fd > 0)
                (void) cgroup_signal(c->cgroup_fd, signal);

        if (c->cgroup_fd <= 0 || signal == SIGKILL)
                (void) kill(-c->pid, signal);
        if (left_group || signal == SIGKILL)
                (void) syscall(SYS_pidfd_send_signal, c->pidfd, signal, NULL, 0);
}

static int on_timer(sd_event_source *s, usec_t now, void *userdata);

static void arm_timer(Child *c, usec_t usec) {
        c->timer = sd_event_source_disable_unref(c->timer);
        /* Without memory for the timer there is no patience either. */
        if (sd_event_add_time_relative(c->loop, &c->timer, CLOCK_MONOTONIC, usec,
                                       TIMER_ACCURACY_USEC, on_timer, c) < 0)
                child_kill(c);
}

void child_stop(Child *c) {
        if (c->state != CHILD_RUNNING)
                return;

        c->state = CHILD_TERMED;
        signal_all(c, SIGTERM);
        arm_timer(c, c->kill_usec);
}

void child_kill(Child *c) {
        if (c->state == CHILD_ENDED)
                return;

        c->state = CHILD_KILLED;
        c->timer = sd_event_source_disable_unref(c->timer);
        signal_all(c, SIGKILL);
}

static int on_timer(_unused_ sd_event_source *s, _unused_ usec_t now, void *userdata) {
        Child *c = userdata;

        if (c->state == CHILD_RUNNING) {
                c->timed_out = true;
                child_stop(c);
        } else
                child_kill(c);
        return 0;
}

/* ---- the end ---- */

static int on_end(_unused_ sd_event_source *s, const siginfo_t *info, void *userdata) {
        Child *c = userdata;
        bool exited = info->si_code == CLD_EXITED;
        ChildExit how = {
                .code = exited ? info->si_status : -1,
                .signal = exited ? 0 : info->si_status,
                .timed_out = c->timed_out,
                .took_usec = clock_read(NULL, CLOCK_MONOTONIC) - c->started_usec,
        };

        c->state = CHILD_ENDED;
        c->timer = sd_event_source_disable_unref(c->timer);
        if (c->flags & CHILD_KEEP_SURVIVORS)
                how.survivors = has_survivors(c);
        else
                signal_all(c, SIGKILL);

        child_enter(c);
        finish_output(c);
        if (!c->freed && c->on_exit)
                c->on_exit(c, &how, c->userdata);
        (void) child_leave(c);
        return 0;
}

static int watch(Child *c, usec_t timeout_usec) {
        int r;

        r = sd_event_add_child_pidfd(c->loop, &c->end_source, c->pidfd, WEXITED, on_end, c);
        if (r < 0)
                return r;
        if (c->output_fd >= 0) {
                if (fcntl(c->output_fd, F_SETFL, O_NONBLOCK) < 0)
                        return -errno;
                r = sd_event_add_io(c->loop, &c->output_source, c->output_fd, EPOLLIN, on_output,
                                    c);
                if (r < 0)
                        return r;
        }
        if (timeout_usec > 0)
                return sd_event_add_time_relative(c->loop, &c->timer, CLOCK_MONOTONIC, timeout_usec,
                                                  TIMER_ACCURACY_USEC, on_timer, c);
        return 0;
}

static Child *child_new(sd_event *loop, const ChildSpec *spec) {
        Child *c;

        c = calloc(1, sizeof(Child));
        if (!c)
                return NULL;

        *c = (Child){ .pidfd = -EBADF,
                      .output_fd = -EBADF,
                      .cgroup_fd = spec->cgroup_fd > 0 ? spec->cgroup_fd : -EBADF,
                      .flags = spec->flags,
                      .kill_usec = spec->kill_usec > 0 ? spec->kill_usec : KILL_DEFAULT_USEC,
                      .state = CHILD_ENDED,
                      .loop = sd_event_ref(loop),
                      .name = strdup(spec->name ?: spec->argv[0]),
                      .on_line = spec->on_line,
                      .on_exit = spec->on_exit,
                      .userdata = spec->userdata };
        return c->name ? c : child_free(c);
}

int child_spawn(sd_event *loop, const ChildSpec *spec, Child **ret, Error **reterr) {
        _cleanup_(child_freep) Child *c = NULL;
        _cleanup_(launch_done) Launch l;
        int r;

        assert(loop && spec && spec->argv && spec->argv[0]);

        r = launch_prepare(&l, spec);
        if (r < 0)
                return error_wrap(reterr, r, "start %s: prepare", spec->name ?: spec->argv[0]);
        c = child_new(loop, spec);
        if (!c)
                return error_wrap(reterr, -ENOMEM, "start %s", spec->name ?: spec->argv[0]);

        c->started_usec = clock_read(NULL, CLOCK_MONOTONIC);
        r = launch(&l, &c->pid, &c->pidfd, reterr);
        if (r < 0)
                return r;

        c->state = CHILD_RUNNING;
        c->output_fd = TAKE_FD(l.output_fds[0]);
        r = watch(c, spec->timeout_usec);
        if (r < 0) {
                /* Nobody would ever hear of its end: not even an application lives on like that. */
                c->flags &= ~(unsigned) CHILD_DETACHED;
                return error_wrap(reterr, r, "start %s: watch it (SIGCHLD must be blocked)",
                                  c->name);
        }

        *ret = TAKE_PTR(c);
        return 0;
}

pid_t child_pid(const Child *c) {
        return c->pid;
}

const char *child_name(const Child *c) {
        return c->name;
}

Child *child_free(Child *c) {
        if (!c)
                return NULL;

        c->timer = sd_event_source_disable_unref(c->timer);
        close_output(c);
        c->end_source = sd_event_source_disable_unref(c->end_source);
        if (c->state != CHILD_ENDED && !(c->flags & CHILD_DETACHED)) {
                child_kill(c);
                (void) reap(c->pid, c->pidfd);
        }
        closep(&c->pidfd);
        c->loop = sd_event_unref(c->loop);
        free(c->name);

        c->freed = true;
        if (c->n_busy == 0)
                free(c);
        return NULL;
}

void child_exit_text(const ChildExit *how, char ret[96]) {
        const char *words;
        char span[32];

        if (how->timed_out) {
                time_format_span(how->took_usec, span);
                (void) snprintf(ret, 96, "time out after %s", span);
        } else if (how->signal > 0) {
                words = sigdescr_np(how->signal);
                (void) snprintf(ret, 96, "signal %d (%s)", how->signal, words ?: "unknown");
        } else
                (void) snprintf(ret, 96, "exit %d", how->code);
}
