#include "service/hook.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "folder.h"
#include "loop.h"
#include "loop/cgroup.h"

typedef struct Fixture {
        sd_event *loop;
        Folder folder;
        char vendor[64], etc[64], version[64];
        HookDir dirs[3];
        HookPhase phase;
        char instance[32];
        HookRun *run;

        char names[2048];  /* of the hooks in the order of their ends: "host/1=ok;" */
        char lines[65536]; /* "host/1: line\n" */
        HookRecord record; /* the last one, taken */
        bool cancel_on_line, cancel_on_hook;
        int n_lines, n_done, r;
        char last[64], words[1024];
} Fixture;

static void append(char *to, size_t size, const char *a, const char *b, const char *c,
                   const char *d) {
        size_t n = strlen(to);

        (void) snprintf(to + n, size - n, "%s%s%s%s", a, b, c, d);
}

static void on_line(void *userdata, const char *hook, const char *line) {
        Fixture *f = userdata;

        append(f->lines, sizeof(f->lines), hook, ": ", line, "\n");
        f->n_lines++;
        if (f->cancel_on_line)
                f->run = hooks_cancel(f->run);
}

static void on_hook(void *userdata, HookRecord *record) {
        Fixture *f = userdata;

        append(f->names, sizeof(f->names), record->name, "=", record->result, ";");
        json_table_done(&hook_record_table, &f->record);
        f->record = *record;
        *record = (HookRecord){ 0 };
        if (f->cancel_on_hook)
                f->run = hooks_cancel(f->run);
}

static void on_done(void *userdata, int r, const char *last, Error *err) {
        Fixture *f = userdata;

        f->run = NULL;
        f->n_done++;
        f->r = r;
        (void) snprintf(f->last, sizeof(f->last), "%s", last ? last : "-");
        (void) snprintf(f->words, sizeof(f->words), "%s", err ? error_text(err) : "");
}

static char *env[] = { (char *) (uintptr_t) "PATH=/usr/bin:/bin",
                       (char *) (uintptr_t) "TOKEN=s3cr3t-value",
                       (char *) (uintptr_t) "TENDRIL_HOOK=forged", NULL };
static char *secrets[] = { (char *) (uintptr_t) "s3cr3t-value", NULL };

static int setup(void **state) {
        static unsigned n;
        Fixture *f = calloc(1, sizeof(*f));

        f->loop = loop_new();
        f->folder = folder_new();
        (void) snprintf(f->vendor, sizeof(f->vendor), "%s/vendor", f->folder.path);
        (void) snprintf(f->etc, sizeof(f->etc), "%s/etc", f->folder.path);
        (void) snprintf(f->version, sizeof(f->version), "%s/version", f->folder.path);
        (void) snprintf(f->instance, sizeof(f->instance), "test-hook-%d-%u", (int) getpid(), n++);
        f->dirs[0].path = f->vendor;
        f->dirs[1].path = f->etc;
        f->dirs[2] = (HookDir){ f->version, true };
        f->phase = (HookPhase){ .phase = "predeploy",
                                .dirs = f->dirs,
                                .n_dirs = 3,
                                .env = env,
                                .secrets = secrets,
                                .cwd = f->folder.path,
                                .instance = f->instance,
                                .timeout_usec = SEC(20),
                                .kill_usec = SEC(5),
                                .on_line = on_line,
                                .on_hook = on_hook,
                                .on_done = on_done,
                                .userdata = f };
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        f->run = hooks_cancel(f->run);
        json_table_done(&hook_record_table, &f->record);
        f->loop = sd_event_unref(f->loop);
        folder_done(&f->folder);
        for (unsigned i = 0; cgroup_remove(f->instance, "") < 0; i++) {
                assert_true(i < 5000);
                (void) usleep(1000);
        }
        free(f);
        return 0;
}

static void put(const char *dir, const char *name, mode_t mode, const char *script) {
        char text[4096];

        (void) mkdir(dir, 0755);
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        (void) snprintf(text, sizeof(text), "#!/bin/sh\n%s\n", script);
        assert_int_equal(file_write_at(fd, name, text, strlen(text), mode, FILE_REPLACE), 0);
        (void) close(fd);
}

static int run(Fixture *f) {
        _cleanup_(error_freep) Error *err = NULL;

        f->names[0] = f->lines[0] = '\0';
        if (hooks_run(f->loop, &f->phase, &f->run, &err) < 0)
                fail_msg("%s", error_text(err));
        loop_until(f->loop, &f->n_done, f->n_done + 1);
        return f->r;
}

static void test_order(void **state) {
        Fixture *f = *state;

        put(f->vendor, "10-first", 0755, "echo vendor");
        put(f->vendor, "30-vendor", 0755, "echo vendor");
        put(f->etc, "30-vendor", 0755, "echo replaced");
        put(f->etc, "20-etc", 0755, "");
        put(f->etc, "40-off", 0644, "echo wrong");
        put(f->vendor, "50-masked", 0755, "echo wrong");
        char path[128];
        (void) snprintf(path, sizeof(path), "%s/50-masked", f->etc);
        assert_return_code(symlink("/dev/null", path), errno);
        put(f->etc, ".hidden", 0755, "echo wrong");
        put(f->version, "05-early", 0755, "");
        put(f->version, "B", 0755, "");
        put(f->version, "a", 0755, "");
        (void) snprintf(path, sizeof(path), "%s/folder", f->version);
        assert_return_code(mkdir(path, 0755), errno);
        assert_int_equal(run(f), 0);
        assert_string_equal(f->names, "10-first=ok;20-etc=ok;30-vendor=ok;05-early=ok;B=ok;a=ok;");
        assert_string_equal(f->lines, "host/10-first: vendor\nhost/30-vendor: replaced\n");
        assert_string_equal(f->last, "version/a");
}

static void test_none(void **state) {
        Fixture *f = *state;
        _cleanup_(error_freep) Error *err = NULL;

        assert_int_equal(hooks_run(f->loop, &f->phase, &f->run, &err), 0);
        assert_int_equal(f->n_done, 0); /* from the loop only */
        loop_until(f->loop, &f->n_done, 1);
        assert_int_equal(f->r, 0);
        assert_string_equal(f->last, "-");
        assert_string_equal(f->names, "");
}

static void test_what_it_gets(void **state) {
        Fixture *f = *state;
        char expected[256];

        put(f->version, "1", 0755,
            "pwd; echo $TENDRIL_HOOK; env | grep -c ^TENDRIL_HOOK; echo \"tendril: for you\"; echo "
            "to stderr >&2; "
            "if read x; then echo input; fi; exit 0");
        assert_int_equal(run(f), 0);
        (void) snprintf(expected, sizeof(expected),
                        "version/1: %s\nversion/1: version/1\nversion/1: 1\nversion/1: tendril: "
                        "for you\nversion/1: to stderr\n",
                        f->folder.path);
        assert_string_equal(f->lines, expected);
        assert_string_equal(f->record.phase, "predeploy");
        assert_string_equal(f->record.origin, "version");
        assert_int_equal(strv_count(f->record.messages), 1);
        assert_string_equal(f->record.messages[0], "for you");
        assert_int_equal(strlen(f->record.started), 20);

        Buf text = BUF_INIT(65536);
        HookRecord again = { 0 };
        assert_int_equal(json_encode(&hook_record_table, &f->record, &text), 0);
        assert_int_equal(
                json_decode(text.data, text.size, &hook_record_table, JSON_STRICT, &again, NULL),
                0);
        assert_string_equal(again.tail[4], "to stderr");
        json_table_done(&hook_record_table, &again);
        buf_done(&text);
}

static void test_secrets_are_masked(void **state) {
        Fixture *f = *state;

        put(f->version, "1", 0755,
            "echo \"x${TOKEN}y $TOKEN\"; echo \"tendril: $TOKEN\"; printf '\\033[2J%s' \"$TOKEN\"; "
            "exit 4");
        assert_int_equal(run(f), -ECANCELED);
        assert_string_equal(f->lines,
                            "version/1: x***y ***\nversion/1: tendril: ***\nversion/1: ?[2J***\n");
        assert_string_equal(f->record.messages[0], "***");
        assert_string_equal(f->words, "predeploy: version/1: exit 4; its last line: ?[2J***");
}

static void test_answers(void **state) {
        static const struct {
                const char *script;
                int r;
                const char *result;
        } cases[] = {
                { "exit 75", HOOK_RETRY, "1=ok;2=exit 75;" },
                { "exit 194", HOOK_REBOOT, "1=ok;2=exit 194;" },
                { "exit 1", -ECANCELED, "1=ok;2=exit 1;" },
                { "kill -9 $$", -ECANCELED, "1=ok;2=signal 9 (Killed);" },
        };
        Fixture *f = *state;

        put(f->version, "1", 0755, "");
        put(f->version, "3", 0755, "echo never");
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                put(f->version, "2", 0755, cases[i].script);
                assert_int_equal(run(f), cases[i].r);
                assert_string_equal(f->names, cases[i].result);
                assert_string_equal(f->last, "version/2");
                assert_string_equal(f->lines, "");
        }
}

static void test_behind(void **state) {
        static const struct {
                const char *behind, *names;
        } cases[] = {
                { "host/1", "2=ok;1=ok;2=ok;" },  { "host/2", "1=ok;2=ok;" },
                { "version/1", "2=ok;" },         { "version/2", "" },
                { "host/15", "2=ok;1=ok;2=ok;" }, /* gone meanwhile */
                { "host/9", "1=ok;2=ok;" },       { NULL, "1=ok;2=ok;1=ok;2=ok;" },
        };
        Fixture *f = *state;

        for (int i = 0; i < 2; i++) {
                put(i ? f->version : f->etc, "1", 0755, "");
                put(i ? f->version : f->etc, "2", 0755, "");
        }
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                f->phase.behind = cases[i].behind;
                assert_int_equal(run(f), 0);
                assert_string_equal(f->names, cases[i].names);
        }
}

static void test_time_out(void **state) {
        Fixture *f = *state;

        put(f->version, "1", 0755, "trap '' TERM; echo begun; sleep 1000; sleep 1000");
        f->phase.timeout_usec = MSEC(200);
        f->phase.kill_usec = MSEC(50);
        assert_int_equal(run(f), -ETIMEDOUT);
        assert_true(str_has_prefix(f->record.result, "time out after"));
        assert_non_null(strstr(f->words, "version/1"));
}

/* A daemon that holds the output open: of a version it lives on, of the host it does not; neither
 * holds up the deploy. */
static void test_survivors(void **state) {
        Fixture *f = *state;
        char path[128];
        int pids[2];

        for (int i = 0; i < 2; i++) {
                char script[256];
                (void) snprintf(path, sizeof(path), "%s/pid%d", f->folder.path, i);
                (void) snprintf(script, sizeof(script), "sleep 1005 & echo $! >%s", path);
                put(i ? f->version : f->etc, "1", 0755, script);
        }
        assert_int_equal(run(f), 0);
        assert_string_equal(f->names, "1=ok;1=ok;");
        assert_true(f->record.survivors);
        for (int i = 0; i < 2; i++) {
                (void) snprintf(path, sizeof(path), "%s/pid%d", f->folder.path, i);
                FILE *file = fopen(path, "re");
                assert_int_equal(fscanf(file, "%d", &pids[i]), 1);
                (void) fclose(file);
        }
        assert_true(pid_goes(pids[0]));
        assert_false(pid_is_gone(pids[1]));
        assert_return_code(kill(pids[1], SIGKILL), errno);
        assert_true(pid_goes(pids[1]));
}

static void test_tail_is_bounded(void **state) {
        Fixture *f = *state;

        put(f->version, "1", 0755,
            "i=0; while [ $i -lt 200 ]; do echo $i; echo tendril: m$i; i=$((i+1)); done");
        assert_int_equal(run(f), 0);
        assert_int_equal(f->n_lines, 400);
        assert_int_equal(strv_count(f->record.tail), LIMIT_HOOK_TAIL_LINES);
        assert_string_equal(f->record.tail[LIMIT_HOOK_TAIL_LINES - 1], "tendril: m199");
        assert_int_equal(strv_count(f->record.messages), LIMIT_HOOK_TAIL_LINES);
        assert_string_equal(f->record.messages[0], "m136");
}

static void test_cannot_start(void **state) {
        Fixture *f = *state;

        put(f->version, "1", 0644, "echo of a version it is run all the same");
        assert_int_equal(run(f), -EACCES);
        assert_non_null(strstr(f->words, "version/1"));
        (void) unlinkat(f->folder.fd, "version/1", 0);

        put(f->version, "2", 0755, "");
        int fd = openat(f->folder.fd, "version/2", O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_int_equal(write(fd, "echo no shebang\n", 16), 16);
        (void) close(fd);
        assert_int_equal(run(f), -ENOEXEC);
        assert_non_null(strstr(f->words, "neither a program nor begins with '#!'"));
        assert_string_equal(f->names, "2=is neither a program nor begins with '#!';");

        f->phase.cwd = "/no/such";
        assert_int_equal(run(f), -ENOENT);
        assert_non_null(strstr(f->words, "/no/such"));
}

static void test_too_many(void **state) {
        Fixture *f = *state;
        char name[16];

        for (int i = 0; i <= LIMIT_HOOKS; i++) {
                (void) snprintf(name, sizeof(name), "%d", i);
                put(f->version, name, 0755, "");
        }
        assert_int_equal(hooks_run(f->loop, &f->phase, &f->run, NULL), -E2BIG);
        assert_null(f->run);
}

static void test_cancel(void **state) {
        Fixture *f = *state;

        put(f->version, "1", 0755, "echo one; echo two; exec sleep 1000");
        f->cancel_on_line = true;
        assert_int_equal(hooks_run(f->loop, &f->phase, &f->run, NULL), 0);
        loop_until(f->loop, &f->n_lines, 1);
        f->cancel_on_line = false;
        f->cancel_on_hook = true;
        put(f->version, "1", 0755, "exit 3");
        put(f->version, "0", 0755, "");
        assert_int_equal(hooks_run(f->loop, &f->phase, &f->run, NULL), 0);
        while (f->run)
                assert_true(sd_event_run(f->loop, UINT64_MAX) >= 0);
        f->cancel_on_hook = false;
        assert_int_equal(hooks_run(f->loop, &f->phase, &f->run, NULL), 0);
        f->run = hooks_cancel(f->run); /* before it began */
        assert_int_equal(f->n_done, 0);
}

static void test_wrapper(void **state) {
        Fixture *f = *state;
        char *wrapper[] = { (char *) (uintptr_t) "env", (char *) (uintptr_t) "WRAPPED=yes", NULL };

        put(f->version, "1", 0755, "echo $WRAPPED");
        f->phase.wrapper = wrapper;
        f->phase.wrapper_fd = open("/usr/bin/env", O_PATH | O_CLOEXEC);
        assert_int_equal(run(f), 0);
        assert_string_equal(f->lines, "version/1: yes\n");
        (void) close(f->phase.wrapper_fd);
}

static void test_command(void **state) {
        Fixture *f = *state;
        uid_t uid = geteuid() == 0 ? 65001 : geteuid();
        char expected[64];

        assert_int_equal(hooks_run_command(f->loop, &f->phase, "build",
                                           "echo $TENDRIL_HOOK; id -u; exit 5", uid,
                                           geteuid() == 0 ? 65001 : getegid(), &f->run, NULL),
                         0);
        loop_until(f->loop, &f->n_done, 1);
        (void) snprintf(expected, sizeof(expected),
                        "version/build: version/build\nversion/build: %u\n", uid);
        assert_string_equal(f->lines, expected);
        assert_int_equal(f->r, -ECANCELED);
        assert_string_equal(f->names, "build=exit 5;");
}

int main(void) {
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_order),           TEST(test_none),
                TEST(test_what_it_gets),    TEST(test_secrets_are_masked),
                TEST(test_answers),         TEST(test_behind),
                TEST(test_time_out),        TEST(test_survivors),
                TEST(test_tail_is_bounded), TEST(test_cannot_start),
                TEST(test_too_many),        TEST(test_cancel),
                TEST(test_wrapper),         TEST(test_command),
        };

        return cmocka_run_group_tests_name("hook", tests, loop_block_signals, NULL);
}
