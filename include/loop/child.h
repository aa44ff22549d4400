#pragma once

/*
 * One way to run anything. A Child is a process that this process started with fork and exec;
 * nothing is inherited but what its ChildSpec says: descriptors, environment, working folder, user.
 *
 *   1. fill a ChildSpec (zero means the default of each member)
 *   2. child_spawn(); from then on the Child is the caller's, and must outlive nothing
 *   3. on_line() is called for each line of output, then on_exit() once, from the loop, never from
 * within child_spawn()
 *   4. child_free(), from on_exit() or any time before: kills what is left of it and reaps
 *
 * The program gets its own session and process group, default signal dispositions and an empty
 * mask, stdin from /dev/null, and its output as lines to on_line(), bounded: a longer line is cut
 * at LIMIT_LINE_BYTES and the rest dropped. A process that daemonised and holds the output open
 * does not delay on_exit(): that comes when the process itself has ended and what it had written
 * until then was read.
 *
 * Time out: SIGTERM to the whole group (or cgroup), after kill_usec SIGKILL. child_stop() is the
 * same at once.
 *
 * SIGCHLD must be blocked in this process (main() and tests do it before the loop runs), SIGPIPE
 * ignored or blocked.
 *
 * Where a cgroup is given (loop/cgroup.h), the process starts inside it and "all of it" means the
 * cgroup, else the process group.
 */

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/time.h"

typedef struct Child Child;

typedef enum ChildFlags {
        CHILD_PDEATHSIG =
                1
                << 0, /* it gets SIGKILL when this process dies (set after the user was changed) */
        CHILD_KEEP_SURVIVORS =
                1 << 1, /* what it leaves behind lives on; on_exit() says whether there is any */
        CHILD_NO_NEW_PRIVS = 1 << 2,
        CHILD_NEW_NET =
                1 << 3, /* an empty network namespace; ignored without the right to make one */
        CHILD_NEW_PID =
                1 << 4, /* a pid namespace of its own: all of it dies with its first process, which
                         * ignores TERM unless it handles it; needs root, else -EPERM */
        CHILD_DETACHED = 1 << 5, /* child_free() and the end of this process leave it alone
                                  * (applications); a zombie of it stays until this process ends */
} ChildFlags;

/* How it ended. */
typedef struct ChildExit {
        int code;         /* exit status 0..255, or -1 where a signal ended it */
        int signal;       /* that signal, or 0 */
        bool timed_out;   /* its time had run out */
        bool survivors;   /* processes that it started are left (CHILD_KEEP_SURVIVORS) */
        usec_t took_usec; /* MONOTONIC, from spawn to end */
} ChildExit;

typedef struct ChildSpec {
        const char *name; /* for words and, for helpers, PR_SET_NAME */
        int program_fd; /* > 0: executed by execveat (no script: its interpreter could not open it);
                           else argv[0] is searched in env's PATH if it has no slash */
        char *const *argv;
        char *const *env; /* the whole environment; NULL: empty */
        int cwd_fd;       /* > 0: folder to start in; else "/" */
        uid_t uid;        /* with gid; 0: stay what we are */
        gid_t gid;
        const gid_t *groups; /* supplementary groups; NULL: none (when the user is changed) */
        size_t n_groups;
        int stdin_fd;  /* > 0: duplicated to 0; else /dev/null. The caller keeps its own copy. */
        int output_fd; /* > 0: both outputs go there (applications' log) and on_line is not used.
                          The caller keeps its own copy. */
        const int *pass_fds; /* become 3, 4, ... in this order; the caller keeps its own copies */
        size_t n_pass_fds;
        int cgroup_fd;  /* > 0: folder of the cgroup to start in (loop/cgroup.h); borrowed until the
                           child is freed */
        mode_t umask;   /* 0: 022 */
        unsigned flags; /* ChildFlags */
        usec_t timeout_usec; /* 0: none */
        usec_t kill_usec;    /* between TERM and KILL; 0: 5 s */

        /* Without on_line and output_fd output goes to /dev/null. A NUL in a line becomes '?'. Both
         * may free the child. */
        void (*on_line)(Child *child, const char *line, void *userdata);
        void (*on_exit)(Child *child, const ChildExit *how, void *userdata);
        void *userdata;
} ChildSpec;

/* -ENOENT: no such program, -EACCES: not executable, -E2BIG, -ENOMEM, ...: the child's own exec
 * error is waited for and returned, so a Child that exists has begun its program. */
int child_spawn(sd_event *loop, const ChildSpec *spec, Child **ret, Error **reterr);

pid_t child_pid(const Child *child);
const char *child_name(const Child *child);

/* TERM now, KILL after the spec's kill_usec; on_exit() tells the end. Again: nothing. */
void child_stop(Child *child);

/* KILL now. */
void child_kill(Child *child);

/* Closes the line reader and its timer, kills (unless CHILD_DETACHED) and reaps; on_exit() is not
 * called any more. Takes NULL, returns NULL. */
Child *child_free(Child *child);
DEFINE_CLEANUP(Child, child_free);

/* "exit 3", "signal 9 (Killed)", "time out after 30 s", for sentences. ret has room for 96 bytes.
 */
void child_exit_text(const ChildExit *how, char ret[96]);

/* The start time of a process in clock ticks since boot (field 22 of /proc/PID/stat): with the pid
 * and the boot id it names one process for ever. 0 on success, -ESRCH. */
int process_start_time(pid_t pid, uint64_t *ret);

/* True when a process group has processes beside the leader of that number; zombies do not count.
 */
bool process_group_has_others(pid_t group);

/* The kernel's boot id, 36 characters. */
int process_boot_id(char ret[37]);
