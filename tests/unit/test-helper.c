/* Helpers are this very program, started again by descriptor under another name. */

#include "loop/helper.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/str.h"
#include "loop.h"
#include "loop/cgroup.h"

#define HELPER_NAME "tendril-test"
#define INSTANCE    "test-helper"

typedef struct Words {
        char *text;
} Words;

static const JsonField words_fields[] = {
        { .name = "text", .kind = JSON_KIND_STRING, .offset = offsetof(Words, text), .max = 8192 },
        { 0 },
};
static const JsonTable words_table = { words_fields, sizeof(Words) };

/* ---- the helper ---- */

/* Everything that it was given, as one text. */
static void describe(Buf *to, char **env) {
        for (; *env; env++)
                (void) buf_printf(to, "%s;", *env);
        (void) buf_printf(to, "uid=%u gid=%u;", getuid(), getgid());
        (void) buf_printf(to, "nnp=%d;", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
        for (int fd = 0; fd < 100; fd++)
                if (fcntl(fd, F_GETFD) >= 0)
                        (void) buf_printf(to, "fd%d;", fd);
}

/* A child that leaves session and group, ignores TERM, and holds the channel and the outputs open.
 */
static pid_t leave_behind(void) {
        pid_t pid = fork();

        if (pid == 0) {
                (void) setsid();
                (void) signal(SIGTERM, SIG_IGN);
                for (;;)
                        (void) pause();
        }
        return pid;
}

static void serve_one(CallRequest *request, char **env) {
        _cleanup_(buf_done) Buf text = BUF_INIT(8192);
        Words answer = { 0 };

        if (str_equal(request->method, "describe"))
                describe(&text, env);
        else if (str_equal(request->method, "leave"))
                (void) buf_printf(&text, "%d", (int) leave_behind());
        else if (str_equal(request->method, "crash")) {
                for (int i = 0; i < 1000; i++)
                        (void) dprintf(2, "line %d\n", i);
                (void) dprintf(1, "panic: no more");
                _exit(3);
        } else if (str_equal(request->method, "hang")) {
                (void) signal(SIGTERM, SIG_IGN);
                for (;;)
                        (void) pause();
        }
        answer.text = buf_steal(&text);
        /* One that answers and ends at once: the answer must not be lost. */
        if (call_answer(3, request->id, &words_table, &answer, NULL, 0) < 0)
                _exit(4);
        if (str_equal(request->method, "last"))
                _exit(0);
        free(answer.text);
}

static int helper_main(char **env) {
        CallRequest request;
        int r;

        while ((r = call_receive(3, &request)) >= 0) {
                serve_one(&request, env);
                call_request_done(&request);
        }
        return r == -ENODATA ? 0 : 5;
}

/* ---- the tests ---- */

typedef struct Ends {
        int n_ends, n_done, last_r, done_at_end;
        char text[8192];
        ChildExit how;
        Helper *helper;
        bool free_at_end, free_when_done;
} Ends;

static void on_end(Helper *helper, const ChildExit *how, void *userdata) {
        Ends *e = userdata;

        assert_ptr_equal(helper, e->helper);
        e->n_ends++;
        e->how = *how;
        e->done_at_end = e->n_done;
        if (e->free_at_end)
                e->helper = helper_free(e->helper);
}

static void on_done(void *userdata, int r, CallReply *reply, Error *err) {
        Ends *e = userdata;
        Words words = { 0 };

        (void) err;
        e->n_done++;
        e->last_r = r;
        e->text[0] = 0;
        if (r >= 0 &&
            json_decode_value(reply->answer, &words_table, JSON_STRICT, &words, NULL) >= 0)
                (void) snprintf(e->text, sizeof(e->text), "%s", words.text ?: "");
        json_table_done(&words_table, &words);
        if (e->free_when_done)
                e->helper = helper_free(e->helper);
}

static void start(sd_event *loop, Ends *e, usec_t timeout, unsigned flags) {
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_close_ int program = open("/proc/self/exe", O_PATH | O_CLOEXEC);
        HelperSpec spec = { .name = HELPER_NAME,
                            .program_fd = program,
                            .instance = INSTANCE,
                            .flags = flags,
                            .timeout_usec = timeout,
                            .on_end = on_end,
                            .userdata = e };

        *e = (Ends){ 0 };
        assert_int_equal(helper_user("no-such-user-of-tests", 0, &spec.user), 0);
        if (helper_start(loop, &spec, &e->helper, &err) < 0)
                fail_msg("%s", error_text(err));
        assert_non_null(helper_peer(e->helper));
}

static void ask(Ends *e, const char *method) {
        assert_true(call_send(helper_peer(e->helper), method, NULL, NULL, NULL, 0, SEC(20), on_done,
                              e) > 0);
}

/* No group of a helper is left. */
static void assert_no_groups(void) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        if (cgroup_make(INSTANCE, NULL, &fd, NULL) != 0)
                return;
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_nlink, 2);
}

static void test_what_it_gets(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        char want[256];
        HelperUser user = { 0 };
        unsigned uid = 0, gid = 0;
        const char *at;
        Ends e;

        (void) state;
        assert_int_equal(setenv("SECRET_OF_OURS", "x", 1), 0);
        assert_int_equal(unsetenv("TENDRIL_LOG_LEVEL"), 0);
        start(loop, &e, 0, CHILD_NEW_NET);
        ask(&e, "describe");
        loop_until(loop, &e.n_done, 1);
        assert_int_equal(e.last_r, 0);
        at = strstr(e.text, "uid=");
        assert_non_null(at);
        assert_int_equal(sscanf(at, "uid=%u gid=%u", &uid, &gid), 2);
        (void) snprintf(want, sizeof(want),
                        "LANG=C.UTF-8;TENDRIL_LOG_LEVEL=info;uid=%u gid=%u;nnp=1;fd0;fd1;fd2;fd3;",
                        uid, gid);
        assert_string_equal(e.text, want);
        if (geteuid() == 0) {
                assert_true(uid >= 61184 && uid <= 65519);
                assert_int_equal(gid, uid);
                /* While it runs its number is taken. */
                assert_int_equal(helper_user("no-such-user-of-tests", 0, &user), 0);
                assert_int_not_equal(user.uid, uid);
        } else
                assert_int_equal(uid, geteuid());

        /* It ends when the channel is closed. */
        helper_close(e.helper);
        assert_null(helper_peer(e.helper));
        helper_close(e.helper);
        loop_until(loop, &e.n_ends, 1);
        assert_int_equal(e.how.code, 0);
        assert_string_equal(helper_output(e.helper), "");
        e.helper = helper_free(e.helper);
        assert_no_groups();
}

/* It dies in the middle of a call: the call ends first, then the helper, with its last words. */
static void test_crash(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        Ends e;

        (void) state;
        start(loop, &e, 0, 0);
        ask(&e, "crash");
        loop_until(loop, &e.n_ends, 1);
        assert_int_equal(e.done_at_end, 1);
        assert_int_equal(e.last_r, -ECONNRESET);
        assert_int_equal(e.how.code, 3);
        assert_true(str_has_suffix(helper_output(e.helper), "line 999\npanic: no more\n"));
        assert_true(strlen(helper_output(e.helper)) <= 4096);
        assert_true(str_has_prefix(helper_output(e.helper), "line "));
        e.helper = helper_free(e.helper);
        assert_no_groups();
}

/* It answers and is gone at once. */
static void test_last_answer(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        Ends e;

        (void) state;
        for (int i = 0; i < 10; i++) {
                start(loop, &e, 0, 0);
                e.free_at_end = true;
                ask(&e, "last");
                loop_until(loop, &e.n_ends, 1);
                assert_int_equal(e.done_at_end, 1);
                assert_int_equal(e.last_r, 0);
                assert_int_equal(e.how.code, 0);
                assert_null(e.helper);
        }
        assert_no_groups();
}

/* What it started and left behind goes with it, before on_end() comes. */
static void test_contained(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        int pid = 0;
        Ends e;

        (void) state;
        start(loop, &e, 0, 0);
        if (!helper_is_contained(e.helper)) {
                print_message("neither cgroups nor pid namespaces here: skipped\n");
                e.helper = helper_free(e.helper);
                loop = sd_event_unref(loop);
                skip();
        }
        ask(&e, "leave");
        loop_until(loop, &e.n_done, 1);
        assert_int_equal(sscanf(e.text, "%d", &pid), 1);
        assert_true(pid > 0);
        /* In a pid namespace the number is not one of ours. */
        if (pid > 2)
                assert_false(pid_is_gone(pid));
        helper_close(e.helper);
        loop_until(loop, &e.n_ends, 1);
        if (pid > 2)
                assert_true(pid_is_gone(pid));
        e.helper = helper_free(e.helper);
        assert_no_groups();
}

static void test_hang(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        Ends e;

        (void) state;
        /* It does not end at the end of the channel: killed after two seconds. */
        start(loop, &e, 0, 0);
        ask(&e, "hang");
        for (int i = 0; i < 3; i++)
                assert_true(sd_event_run(loop, 1000) >= 0);
        helper_close(e.helper);
        loop_until(loop, &e.n_ends, 1);
        assert_int_equal(e.how.signal, SIGKILL);
        assert_int_equal(e.n_done, 0);
        e.helper = helper_free(e.helper);

        /* Freed in the middle of it: gone at once, nobody is told. */
        start(loop, &e, 0, 0);
        ask(&e, "hang");
        for (int i = 0; i < 3; i++)
                assert_true(sd_event_run(loop, 1000) >= 0);
        e.helper = helper_free(e.helper);
        assert_int_equal(e.n_ends, 0);
        assert_int_equal(e.n_done, 0);

        /* Its whole time runs out; it does not handle TERM. */
        start(loop, &e, MSEC(50), 0);
        ask(&e, "describe");
        loop_until(loop, &e.n_ends, 1);
        assert_true(e.how.timed_out);
        e.helper = helper_free(e.helper);
        assert_no_groups();
}

static void test_free_when_done(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        Ends e;

        (void) state;
        start(loop, &e, 0, 0);
        e.free_when_done = true;
        ask(&e, "describe");
        ask(&e, "describe");
        loop_until(loop, &e.n_done, 1);
        assert_null(e.helper);
        for (int i = 0; i < 3; i++)
                assert_true(sd_event_run(loop, 0) >= 0);
        assert_int_equal(e.n_done, 1);
        assert_int_equal(e.n_ends, 0);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_no_groups();
}

static void test_users(void **state) {
        HelperUser a, b, c;

        (void) state;
        assert_int_equal(helper_user("no-such-user-of-tests", 0, &a), 0);
        assert_int_equal(helper_user("no-such-user-of-tests", 1, &b), 0);
        assert_int_equal(helper_user("no-such-user-of-tests", 2, &c), 0);
        if (geteuid() != 0) {
                assert_int_equal(a.uid, 0);
                assert_int_equal(a.gid, 0);
                print_message("not root: free numbers are skipped\n");
                return;
        }
        assert_true(a.uid >= 61184 && a.uid <= 65519);
        assert_true(a.uid != b.uid && b.uid != c.uid && a.uid != c.uid);
        assert_int_equal(helper_user("no-such-user-of-tests", 5000, &a), -EUSERS);

        /* One of the system's database; never root. */
        assert_int_equal(helper_user("nobody", 0, &a), 0);
        assert_int_equal(a.uid, 65534);
        assert_int_equal(helper_user("root", 0, &a), -EPERM);
}

static void test_open(void **state) {
        _cleanup_(error_freep) Error *err = NULL;
        char folder[] = "/tmp/test-helper.XXXXXX", path[64], own[4096];
        _cleanup_close_ int fd = -EBADF, beside = -EBADF;
        struct stat st, mine;
        ssize_t n;

        (void) state;
        assert_non_null(mkdtemp(folder));
        (void) snprintf(path, sizeof(path), "%s/program", folder);
        (void) close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0755));

        assert_int_equal(helper_open("program", folder, &fd, NULL), 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(helper_open("program-that-is-missing", folder, &beside, &err), -ENOENT);
        assert_non_null(strstr(error_text(err), folder));
        assert_non_null(strstr(error_text(err), "/usr/libexec/tendril"));

        /* Beside this program. */
        n = readlink("/proc/self/exe", own, sizeof(own) - 1);
        assert_true(n > 0);
        own[n] = 0;
        assert_int_equal(helper_open(strrchr(own, '/') + 1, NULL, &beside, NULL), 0);
        assert_int_equal(fstat(beside, &st), 0);
        assert_int_equal(stat(own, &mine), 0);
        assert_int_equal(st.st_ino, mine.st_ino);

        assert_int_equal(unlink(path), 0);
        assert_int_equal(rmdir(folder), 0);
}

static int remove_groups(void **state) {
        (void) state;
        return cgroup_remove(INSTANCE, NULL);
}

int main(int argc, char **argv, char **env) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_what_it_gets), cmocka_unit_test(test_crash),
                cmocka_unit_test(test_last_answer),  cmocka_unit_test(test_contained),
                cmocka_unit_test(test_hang),         cmocka_unit_test(test_free_when_done),
                cmocka_unit_test(test_users),        cmocka_unit_test(test_open),
        };

        if (argc == 1 && str_equal(argv[0], HELPER_NAME))
                return helper_main(env);
        return cmocka_run_group_tests_name("helper", tests, loop_block_signals, remove_groups);
}
