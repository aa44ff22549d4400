/* Real programs: what they get, what comes out of them, and how they end. */

#include "loop/child.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "agent/limits.h"
#include "base/buf.h"
#include "base/str.h"
#include "loop.h"
#include "loop/cgroup.h"

#define INSTANCE "test-child"
#define NOBODY   64321

typedef struct Heard {
        Buf text; /* lines, each with '\n' */
        int n_lines, n_exits;
        size_t longest;
        ChildExit how;
        Child *child;
        const char *stop_at; /* at this line: child_stop() */
        const char *free_at; /* at this line, or "exit": child_free() */
} Heard;

static void on_line(Child *child, const char *line, void *userdata) {
        Heard *h = userdata;

        h->n_lines++;
        h->longest = MAX(h->longest, strlen(line));
        assert_true(buf_printf(&h->text, "%s\n", line) >= 0);
        if (h->stop_at && str_equal(line, h->stop_at))
                child_stop(child);
        if (h->free_at && str_equal(line, h->free_at))
                h->child = child_free(child);
}

static void on_exit_of(Child *child, const ChildExit *how, void *userdata) {
        Heard *h = userdata;

        h->n_exits++;
        h->how = *how;
        if (h->free_at && str_equal(h->free_at, "exit"))
                h->child = child_free(child);
}

/* Runs argv with what `with` says and waits for the end. The child is freed. */
static void run_spec(sd_event *loop, ChildSpec with, Heard *h) {
        _cleanup_(error_freep) Error *err = NULL;

        with.on_line = with.output_fd > 0 ? NULL : on_line;
        with.on_exit = on_exit_of;
        with.userdata = h;
        if (child_spawn(loop, &with, &h->child, &err) < 0)
                fail_msg("%s", error_text(err));
        assert_int_equal(h->n_lines, 0);
        assert_int_equal(h->n_exits, 0);
        loop_until(loop, &h->n_exits, 1);
        h->child = child_free(h->child);
}

#define SH(script)                                                                                 \
        (char *const[]) {                                                                          \
                (char[]){ "sh" }, (char[]){ "-c" }, (char[]){ script }, NULL                       \
        }

#define HEARD                                                                                      \
        (Heard) {                                                                                  \
                .text = BUF_INIT(1 << 20)                                                          \
        }

static void test_exit_codes(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        static const int codes[] = { 0, 3, 75, 194, 255 };
        char text[96];

        (void) state;
        for (size_t i = 0; i < ELEMENTS(codes); i++) {
                char script[32];
                char *const argv[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" }, script, NULL };
                Heard h = HEARD;

                (void) snprintf(script, sizeof(script), "exit %d", codes[i]);
                run_spec(loop, (ChildSpec){ .argv = argv }, &h);
                assert_int_equal(h.how.code, codes[i]);
                assert_int_equal(h.how.signal, 0);
                assert_false(h.how.timed_out);
                assert_int_equal(h.n_exits, 1);
                buf_done(&h.text);
        }

        child_exit_text(&(ChildExit){ .code = 3 }, text);
        assert_string_equal(text, "exit 3");
        child_exit_text(&(ChildExit){ .code = -1, .signal = 9 }, text);
        assert_string_equal(text, "signal 9 (Killed)");
        child_exit_text(&(ChildExit){ .code = -1, .timed_out = true, .took_usec = SEC(30) }, text);
        assert_string_equal(text, "time out after 30 s");
}

static void test_signal(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        Heard h = HEARD;

        (void) state;
        run_spec(loop, (ChildSpec){ .argv = SH("kill -SEGV $$") }, &h);
        assert_int_equal(h.how.code, -1);
        assert_int_equal(h.how.signal, SIGSEGV);
        buf_done(&h.text);
}

/* What exec itself says comes back, with words, and nothing of the child is left. */
static void test_exec_fails(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        char folder[] = "/tmp/test-child.XXXXXX", path[64];
        _cleanup_(error_freep) Error *err = NULL;
        Child *child = NULL;
        int fd;

        (void) state;
        assert_non_null(mkdtemp(folder));
        (void) snprintf(path, sizeof(path), "%s/program", folder);

        assert_int_equal(child_spawn(loop,
                                     &(ChildSpec){ .name = "missing",
                                                   .argv = (char *const[]){ path, NULL } },
                                     &child, &err),
                         -ENOENT);
        assert_non_null(strstr(error_text(err), "missing"));
        assert_non_null(strstr(error_text(err), path));
        assert_null(child);

        fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, "#!/bin/sh\n", 10), 10);
        (void) close(fd);
        assert_int_equal(child_spawn(loop, &(ChildSpec){ .argv = (char *const[]){ path, NULL } },
                                     &child, NULL),
                         -EACCES);

        assert_int_equal(chmod(path, 0755), 0);
        fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_int_equal(write(fd, "\177ELF rubbish", 12), 12);
        (void) close(fd);
        assert_int_equal(child_spawn(loop, &(ChildSpec){ .argv = (char *const[]){ path, NULL } },
                                     &child, NULL),
                         -ENOEXEC);

        fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_int_equal(write(fd, "#!/no/such/interpreter\n", 23), 23);
        (void) close(fd);
        assert_int_equal(child_spawn(loop, &(ChildSpec){ .argv = (char *const[]){ path, NULL } },
                                     &child, NULL),
                         -ENOENT);

        /* Searched, and not found. */
        assert_int_equal(
                child_spawn(loop,
                            &(ChildSpec){ .argv = (char *const[]){ (char[]){ "no-such-program" },
                                                                   NULL } },
                            &child, NULL),
                -ENOENT);
        assert_int_equal(
                child_spawn(loop,
                            &(ChildSpec){ .argv = SH("exit 0"),
                                          .env = (char *const[]){ (char[]){ "PATH=" }, NULL } },
                            &child, NULL),
                -ENOENT);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);

        assert_int_equal(unlink(path), 0);
        assert_int_equal(rmdir(folder), 0);
}

static void test_lines(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        Heard h = HEARD;

        (void) state;
        run_spec(loop,
                 (ChildSpec){ .argv = SH("echo one; echo; echo two >&2; printf 'a\\0b\\nlast'") },
                 &h);
        assert_string_equal(h.text.data, "one\n\ntwo\na?b\nlast\n");
        buf_done(&h.text);

        /* 10,000 bytes: cut, the rest dropped, the next line whole. */
        h = HEARD;
        run_spec(
                loop,
                (ChildSpec){ .argv = SH("head -c 10000 /dev/zero | tr '\\0' x; echo; echo after") },
                &h);
        assert_int_equal(h.n_lines, 2);
        assert_int_equal(h.longest, LIMIT_LINE_BYTES);
        assert_true(str_has_suffix(h.text.data, "x\nafter\n"));
        buf_done(&h.text);

        /* More than a pipe holds at once, and all of it although the process ends right behind. */
        h = HEARD;
        run_spec(
                loop,
                (ChildSpec){
                        .argv = SH(
                                "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done") },
                &h);
        assert_int_equal(h.n_lines, 20000);
        assert_true(str_has_suffix(h.text.data, "line 19999\n"));
        buf_done(&h.text);
}

static void test_stop_and_kill(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        Heard h = HEARD;

        (void) state;
        /* Ends by TERM. */
        h.stop_at = "ready";
        run_spec(loop, (ChildSpec){ .argv = SH("echo ready; exec sleep 100") }, &h);
        assert_int_equal(h.how.signal, SIGTERM);
        assert_false(h.how.timed_out);
        buf_done(&h.text);

        /* Ignores TERM. */
        h = HEARD;
        h.stop_at = "ready";
        run_spec(loop,
                 (ChildSpec){ .argv = SH("trap '' TERM; echo ready; while :; do sleep 100; done"),
                              .kill_usec = MSEC(50) },
                 &h);
        assert_int_equal(h.how.signal, SIGKILL);
        buf_done(&h.text);

        /* Handles TERM: says its last words, which are heard. */
        h = HEARD;
        h.stop_at = "ready";
        run_spec(loop,
                 (ChildSpec){ .argv = SH("trap 'echo bye; exit 7' TERM; echo ready; while :; do "
                                         "sleep 0.01; done") },
                 &h);
        assert_int_equal(h.how.code, 7);
        /* The shell may tell of its sleep, which got the TERM too. */
        assert_true(str_has_suffix(h.text.data, "bye\n"));
        buf_done(&h.text);

        /* Time out. */
        h = HEARD;
        run_spec(loop,
                 (ChildSpec){ .argv = SH("trap '' TERM; while :; do sleep 100; done"),
                              .timeout_usec = MSEC(50),
                              .kill_usec = MSEC(50) },
                 &h);
        assert_int_equal(h.how.signal, SIGKILL);
        assert_true(h.how.timed_out);
        assert_true(h.how.took_usec >= MSEC(100) && h.how.took_usec < SEC(10));
        buf_done(&h.text);

        /* Stopped: TERM waits for ever, KILL does not. */
        h = HEARD;
        run_spec(loop,
                 (ChildSpec){ .argv = SH("kill -STOP $$"),
                              .timeout_usec = MSEC(50),
                              .kill_usec = MSEC(50) },
                 &h);
        assert_int_equal(h.how.signal, SIGKILL);
        buf_done(&h.text);
}

/* The number behind "pid " in what it said. */
static pid_t said_pid(const Heard *h) {
        const char *at = strstr(h->text.data ?: "", "pid ");
        int pid = 0;

        assert_non_null(at);
        assert_int_equal(sscanf(at, "pid %d", &pid), 1);
        assert_true(pid > 1);
        return pid;
}

/* A process that stays behind and holds the output does not delay the end; what becomes of it is
 * the flag's. */
static void test_survivors(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        Heard h = HEARD;
        int pid;

        (void) state;
        run_spec(
                loop,
                (ChildSpec){ .argv = SH("sleep 100 & echo pid $!"), .flags = CHILD_KEEP_SURVIVORS },
                &h);
        assert_int_equal(h.how.code, 0);
        assert_true(h.how.took_usec < SEC(10));
        assert_true(h.how.survivors);
        pid = said_pid(&h);
        assert_false(pid_is_gone(pid));
        assert_int_equal(kill(pid, SIGKILL), 0);
        buf_done(&h.text);

        h = HEARD;
        run_spec(loop, (ChildSpec){ .argv = SH("sleep 100 & echo pid $!") }, &h);
        pid = said_pid(&h);
        assert_false(h.how.survivors);
        assert_true(pid_goes(pid));
        buf_done(&h.text);

        h = HEARD;
        run_spec(loop, (ChildSpec){ .argv = SH("true & wait"), .flags = CHILD_KEEP_SURVIVORS }, &h);
        assert_false(h.how.survivors);
        buf_done(&h.text);

        /* One that writes for ever: only what was there at the end is read. */
        h = HEARD;
        run_spec(loop,
                 (ChildSpec){ .argv = SH("yes & echo pid $!"), .flags = CHILD_KEEP_SURVIVORS }, &h);
        pid = said_pid(&h);
        (void) kill(pid, SIGKILL);
        assert_true(h.text.size < 1 << 20);
        buf_done(&h.text);
}

/* Daemonised into a session of its own: only the cgroup still knows it. */
static void test_cgroup(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_close_ int cgroup = -EBADF;
        Heard h = HEARD;
        int pid, r;

        (void) state;
        r = cgroup_make(INSTANCE, "one", &cgroup, NULL);
        assert_true(r >= 0);
        if (r == CGROUP_NONE) {
                print_message("no writable cgroup2 here: skipped\n");
                loop = sd_event_unref(loop);
                skip();
        }

        run_spec(loop, (ChildSpec){ .argv = SH("cat /proc/self/cgroup"), .cgroup_fd = cgroup }, &h);
        assert_non_null(strstr(h.text.data, "tendril-" INSTANCE "/one"));
        buf_done(&h.text);

        h = HEARD;
        run_spec(loop,
                 (ChildSpec){ .argv = SH("setsid sleep 100 & echo pid $!"),
                              .cgroup_fd = cgroup,
                              .flags = CHILD_KEEP_SURVIVORS },
                 &h);
        pid = said_pid(&h);
        assert_true(h.how.survivors);
        assert_int_equal(cgroup_count(cgroup), 1);
        assert_false(pid_is_gone(pid));
        buf_done(&h.text);

        /* The next one in the same group, without the flag: its end is everybody's. */
        h = HEARD;
        run_spec(loop, (ChildSpec){ .argv = SH("true"), .cgroup_fd = cgroup }, &h);
        assert_true(pid_goes(pid));
        buf_done(&h.text);

        h = HEARD;
        run_spec(loop,
                 (ChildSpec){ .argv = SH("trap '' TERM; setsid sh -c \"trap '' TERM; while :; do "
                                         "sleep 100; done\" & while :; do sleep 100; done"),
                              .cgroup_fd = cgroup,
                              .timeout_usec = MSEC(50),
                              .kill_usec = MSEC(50) },
                 &h);
        assert_true(h.how.timed_out);
        assert_int_equal(h.how.signal, SIGKILL);
        for (int i = 0; i < 5000 && !cgroup_is_empty(cgroup); i++)
                (void) usleep(1000);
        assert_true(cgroup_is_empty(cgroup));
        buf_done(&h.text);

        assert_int_equal(cgroup_remove(INSTANCE, "one"), 0);
        assert_int_equal(cgroup_remove(INSTANCE, NULL), 0);
}

static void test_environment_and_folder(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_close_ int cwd = open("/usr/bin", O_PATH | O_DIRECTORY | O_CLOEXEC);
        char one[] = "ONE=1", two[] = "TWO=a b";
        char *const env[] = { one, two, NULL };
        Heard h = HEARD;

        (void) state;
        assert_int_equal(setenv("SECRET_OF_OURS", "x", 1), 0);
        run_spec(loop,
                 (ChildSpec){ .argv = (char *const[]){ (char[]){ "env" }, NULL }, .env = env }, &h);
        assert_string_equal(h.text.data, "ONE=1\nTWO=a b\n");
        buf_done(&h.text);

        h = HEARD;
        run_spec(loop, (ChildSpec){ .argv = (char *const[]){ (char[]){ "/usr/bin/env" }, NULL } },
                 &h);
        assert_int_equal(h.n_lines, 0);

        h = HEARD;
        run_spec(loop, (ChildSpec){ .argv = SH("pwd -P; umask"), .cwd_fd = cwd, .umask = 027 }, &h);
        assert_string_equal(h.text.data, "/usr/bin\n0027\n");
        buf_done(&h.text);

        h = HEARD;
        run_spec(loop, (ChildSpec){ .argv = SH("pwd -P; umask; read x; echo \"[$x]\"") }, &h);
        assert_string_equal(h.text.data, "/\n0022\n[]\n");
        buf_done(&h.text);
}

/* Its own session and group, no ignored or blocked signals, whatever ours are. */
static void test_signals_are_fresh(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        void (*before)(int) = signal(SIGUSR1, SIG_IGN);
        Heard h = HEARD;

        (void) state;
        run_spec(loop, (ChildSpec){ .argv = SH("exec grep -E 'Sig(Blk|Ign)' /proc/self/status") },
                 &h);
        assert_string_equal(h.text.data, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
        buf_done(&h.text);
        (void) signal(SIGUSR1, before);

        h = HEARD;
        run_spec(loop,
                 (ChildSpec){ .argv = SH("read p c s pp g sid rest < /proc/$$/stat; test $$ = $g "
                                         "&& test $$ = $sid && echo own") },
                 &h);
        assert_string_equal(h.text.data, "own\n");
        buf_done(&h.text);
}

static void test_descriptors(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_close_ int a = open("/etc/hostname", O_RDONLY), b = open("/etc/passwd", O_RDONLY);
        int in[2], kept = dup(a);
        /* One twice, and one whose number is the place of another. */
        int pass[] = { b, a, b, 3 };
        Heard h = HEARD;

        (void) state;
        assert_true(a >= 0 && b >= 0);
        assert_int_equal(pipe(in), 0);
        assert_int_equal(write(in[1], "hello\n", 6), 6);
        pass[3] = in[0];

        run_spec(loop,
                 (ChildSpec){ .argv = SH("for f in 0 1 2 3 4 5 6 7 8; do test ! -e /proc/$$/fd/$f "
                                         "|| echo $f; done; "
                                         "for f in 3 4 5; do readlink /proc/$$/fd/$f; done; read "
                                         "x; echo $x"),
                              .stdin_fd = in[0],
                              .pass_fds = pass,
                              .n_pass_fds = 4 },
                 &h);
        assert_string_equal(
                h.text.data,
                "0\n1\n2\n3\n4\n5\n6\n/etc/passwd\n/etc/hostname\n/etc/passwd\nhello\n");
        buf_done(&h.text);
        /* Ours are as they were. */
        assert_true(fcntl(a, F_GETFD) >= 0 && fcntl(in[0], F_GETFD) >= 0);

        /* Nothing at all beside 0, 1, 2 (and the folder that ls itself reads). */
        h = HEARD;
        run_spec(loop,
                 (ChildSpec){ .argv = (char *const[]){ (char[]){ "ls" },
                                                       (char[]){ "/proc/self/fd" }, NULL } },
                 &h);
        assert_string_equal(h.text.data, "0\n1\n2\n3\n");
        buf_done(&h.text);
        (void) close(kept);
        (void) close(in[0]);
        (void) close(in[1]);
}

static void test_output_to_file(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        char path[] = "/tmp/test-child.XXXXXX", text[32] = "";
        _cleanup_close_ int fd = mkstemp(path);
        Heard h = HEARD;

        (void) state;
        assert_true(fd >= 0);
        run_spec(loop, (ChildSpec){ .argv = SH("echo out; echo err >&2"), .output_fd = fd }, &h);
        assert_int_equal(pread(fd, text, sizeof(text) - 1, 0), 8);
        assert_string_equal(text, "out\nerr\n");
        assert_int_equal(unlink(path), 0);
}

static void test_user(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        const gid_t groups[] = { 70001, 70002 };
        Heard h = HEARD;

        (void) state;
        if (geteuid() != 0) {
                run_spec(loop,
                         (ChildSpec){ .argv = SH("echo pid $(id -u)"),
                                      .uid = geteuid(),
                                      .gid = getegid() },
                         &h);
                assert_int_equal(said_pid(&h), geteuid());
                buf_done(&h.text);
                print_message("not root: changing the user is skipped\n");
                return;
        }

        run_spec(loop,
                 (ChildSpec){ .argv = SH("id -u; id -ru; id -g; id -G; grep -E 'NoNewPrivs|CapEff' "
                                         "/proc/$$/status"),
                              .uid = NOBODY,
                              .gid = NOBODY + 1,
                              .groups = groups,
                              .n_groups = 2,
                              .flags = CHILD_NO_NEW_PRIVS | CHILD_PDEATHSIG },
                 &h);
        assert_string_equal(h.text.data, "64321\n64321\n64322\n64322 70001 "
                                         "70002\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n");
        buf_done(&h.text);

        /* Not even the groups that this process has. */
        h = HEARD;
        run_spec(loop, (ChildSpec){ .argv = SH("id -G"), .uid = NOBODY, .gid = NOBODY }, &h);
        assert_string_equal(h.text.data, "64321\n");
        buf_done(&h.text);
}

static void test_program_by_descriptor(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_close_ int program = open("/bin/echo", O_PATH | O_CLOEXEC);
        Heard h = HEARD;

        (void) state;
        run_spec(loop,
                 (ChildSpec){
                         .program_fd = program,
                         .argv = (char *const[]){ (char[]){ "named" }, (char[]){ "word" }, NULL } },
                 &h);
        assert_string_equal(h.text.data, "word\n");
        buf_done(&h.text);
}

/* Process 1 of a namespace ignores TERM unless it handles it; and all of it ends with it. */
static void test_pid_namespace(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        ChildSpec spec = { .argv = SH("echo $$; setsid sleep 100 & exec sleep 100"),
                           .flags = CHILD_NEW_PID | CHILD_NEW_NET,
                           .timeout_usec = MSEC(100),
                           .kill_usec = MSEC(50) };
        Heard h = HEARD;
        Child *child = NULL;
        pid_t pid;
        int r;

        (void) state;
        if (geteuid() != 0) {
                assert_int_equal(child_spawn(loop, &spec, &child, NULL), -EPERM);
                print_message("not root: pid namespaces are skipped\n");
                return;
        }

        run_spec(loop, spec, &h);
        assert_string_equal(h.text.data, "1\n");
        assert_int_equal(h.how.signal, SIGKILL);
        assert_true(h.how.timed_out);
        buf_done(&h.text);

        /* It is seen from here by another number, and KILL from child_free() reaches it. */
        h = HEARD;
        spec.on_line = on_line;
        spec.on_exit = on_exit_of;
        spec.userdata = &h;
        spec.timeout_usec = 0;
        r = child_spawn(loop, &spec, &child, NULL);
        assert_int_equal(r, 0);
        pid = child_pid(child);
        assert_true(pid > 1 && !pid_is_gone(pid));
        child = child_free(child);
        assert_true(pid_is_gone(pid));
        assert_int_equal(h.n_exits, 0);
        buf_done(&h.text);
}

static void test_no_network(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        Heard h = HEARD;

        (void) state;
        run_spec(loop,
                 (ChildSpec){ .argv = SH("ls /sys/class/net >/dev/null; tail -n +3 "
                                         "/proc/self/net/dev | cut -d: -f1"),
                              .flags = CHILD_NEW_NET },
                 &h);
        assert_int_equal(h.how.code, 0);
        if (geteuid() == 0)
                assert_int_equal(h.n_lines, 1);
        buf_done(&h.text);
}

/* Freeing ends it, whenever that is. */
static void test_free_early(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        static const char *const when[] = { "second", "exit" };
        Heard h = HEARD;
        ChildSpec spec = { .argv = SH("echo first; echo second; echo third; sleep 100"),
                           .on_line = on_line,
                           .on_exit = on_exit_of,
                           .userdata = &h };
        pid_t pid;

        (void) state;
        /* Before anything came. */
        assert_int_equal(child_spawn(loop, &spec, &h.child, NULL), 0);
        pid = child_pid(h.child);
        h.child = child_free(h.child);
        assert_true(pid_is_gone(pid));

        /* In a callback. */
        for (size_t i = 0; i < ELEMENTS(when); i++) {
                buf_clear(&h.text);
                h = (Heard){ .text = h.text, .free_at = when[i] };
                spec.timeout_usec = MSEC(100);
                assert_int_equal(child_spawn(loop, &spec, &h.child, NULL), 0);
                pid = child_pid(h.child);
                loop_until(loop, i == 0 ? &h.n_lines : &h.n_exits, i == 0 ? 2 : 1);
                assert_null(h.child);
                assert_true(pid_goes(pid));
                assert_string_equal(h.text.data,
                                    i == 0 ? "first\nsecond\n" : "first\nsecond\nthird\n");
        }
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
        buf_done(&h.text);
}

static void test_detached(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        ChildSpec spec = { .argv = SH("exec sleep 100"), .flags = CHILD_DETACHED };
        Child *child = NULL;
        pid_t pid;

        (void) state;
        assert_int_equal(child_spawn(loop, &spec, &child, NULL), 0);
        pid = child_pid(child);
        child = child_free(child);
        assert_false(pid_is_gone(pid));
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* A process that dies takes its child along, also one of another user and in a namespace of its
 * own. */
static void test_dies_with_parent(void **state) {
        static const unsigned flags[] = { CHILD_PDEATHSIG, CHILD_PDEATHSIG | CHILD_NEW_PID };

        (void) state;
        for (size_t i = 0; i < (geteuid() == 0 ? ELEMENTS(flags) : 1); i++) {
                int fds[2];
                pid_t middle, pid = 0;

                assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
                middle = fork();
                if (middle == 0) {
                        sd_event *loop = NULL;
                        Child *child = NULL;
                        ChildSpec spec = { .argv = SH("exec sleep 100"),
                                           .uid = geteuid() == 0 ? NOBODY : 0,
                                           .gid = geteuid() == 0 ? NOBODY : 0,
                                           .flags = flags[i] };

                        if (sd_event_new(&loop) < 0 || child_spawn(loop, &spec, &child, NULL) < 0)
                                _exit(1);
                        pid = child_pid(child);
                        if (write(fds[1], &pid, sizeof(pid)) != sizeof(pid))
                                _exit(1);
                        (void) kill(getpid(), SIGKILL);
                }
                (void) close(fds[1]);
                assert_int_equal(read(fds[0], &pid, sizeof(pid)), sizeof(pid));
                (void) close(fds[0]);
                assert_int_equal(waitpid(middle, NULL, 0), middle);
                assert_true(pid_goes(pid));
        }
}

/* Fifty at once, all ends told. */
static void test_many(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        Heard h[50];
        int n;

        (void) state;
        for (size_t i = 0; i < ELEMENTS(h); i++) {
                h[i] = HEARD;
                h[i].free_at = "exit";
                assert_int_equal(child_spawn(loop,
                                             &(ChildSpec){ .argv = SH("echo a; echo b"),
                                                           .on_line = on_line,
                                                           .on_exit = on_exit_of,
                                                           .userdata = &h[i] },
                                             &h[i].child, NULL),
                                 0);
        }
        for (size_t i = 0; i < ELEMENTS(h); i++) {
                loop_until(loop, &h[i].n_exits, 1);
                assert_string_equal(h[i].text.data, "a\nb\n");
                buf_done(&h[i].text);
        }
        for (n = 0; n < 5 && sd_event_run(loop, 0) > 0; n++)
                ;
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_exit_codes),
                cmocka_unit_test(test_signal),
                cmocka_unit_test(test_exec_fails),
                cmocka_unit_test(test_lines),
                cmocka_unit_test(test_stop_and_kill),
                cmocka_unit_test(test_survivors),
                cmocka_unit_test(test_cgroup),
                cmocka_unit_test(test_environment_and_folder),
                cmocka_unit_test(test_signals_are_fresh),
                cmocka_unit_test(test_descriptors),
                cmocka_unit_test(test_output_to_file),
                cmocka_unit_test(test_user),
                cmocka_unit_test(test_program_by_descriptor),
                cmocka_unit_test(test_pid_namespace),
                cmocka_unit_test(test_no_network),
                cmocka_unit_test(test_free_early),
                cmocka_unit_test(test_detached),
                cmocka_unit_test(test_dies_with_parent),
                cmocka_unit_test(test_many),
        };

        return cmocka_run_group_tests_name("child", tests, loop_block_signals, NULL);
}
