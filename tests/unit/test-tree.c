/* tree_run() with the real program: this very file, executed again under its name. */

#include "service/tree.h"

int tree_program(int argc, char **argv);
#define main tree_program
#include "../../agent/programs/tree.c"
#undef main

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

typedef struct Run {
        sd_event *loop;
        int program_fd;
        char dir[64];
        int dir_fd;
        bool over;
        int r;
        char words[512];
} Run;

static int setup(void **state) {
        Run *run = calloc(1, sizeof(*run));

        assert_return_code(sd_event_new(&run->loop), errno);
        run->program_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
        (void) snprintf(run->dir, sizeof(run->dir), "%s", "/tmp/test-tree-XXXXXX");
        assert_non_null(mkdtemp(run->dir));
        run->dir_fd = open(run->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        *state = run;
        return 0;
}

static int teardown(void **state) {
        Run *run = *state;

        int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(treework_remove(tmp, strrchr(run->dir, '/') + 1, NULL), 0);
        (void) close(tmp);
        (void) close(run->dir_fd);
        (void) close(run->program_fd);
        run->loop = sd_event_unref(run->loop);
        free(run);
        return 0;
}

static void on_done(void *userdata, int r, Error *err) {
        Run *run = userdata;

        run->r = r;
        (void) snprintf(run->words, sizeof(run->words), "%s", err ? error_text(err) : "");
        run->over = true;
}

static void loop_until_over(Run *run) {
        for (run->over = false; !run->over;)
                assert_true(sd_event_run(run->loop, UINT64_MAX) >= 0);
}

static int do_run(Run *run, const char *verb, const char *a, const char *b, int dir_fd,
                  usec_t timeout_usec) {
        char *args[] = { (char *) (uintptr_t) a, (char *) (uintptr_t) (a ? b : NULL), NULL };
        TreeTask *task = NULL;

        run->r = -1;
        assert_int_equal(tree_run(run->loop, run->program_fd, verb, args, dir_fd, timeout_usec,
                                  on_done, run, &task, NULL),
                         0);
        loop_until_over(run);
        return run->r;
}

static void test_own_give_remove(void **state) {
        Run *run = *state;
        struct stat st;

        assert_return_code(mkdirat(run->dir_fd, "tree", 0755), errno);
        int fd = openat(run->dir_fd, "tree/Procfile", O_CREAT | O_WRONLY, 0644);
        assert_true(fd >= 0);
        (void) close(fd);
        assert_int_equal(do_run(run, "own", "0", "0", run->dir_fd, SEC(30)), 0);
        assert_return_code(fstatat(run->dir_fd, "control/Procfile", &st, 0), errno);

        char id[16];
        (void) snprintf(id, sizeof(id), "%u", geteuid() == 0 ? 65001 : geteuid());
        fd = openat(run->dir_fd, "app", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(do_run(run, "give", id, id, fd, SEC(30)), 0);
        assert_return_code(fstat(fd, &st), errno);
        assert_int_equal(st.st_mode, S_IFDIR | 0755);
        assert_int_equal(do_run(run, "sync", NULL, NULL, fd, SEC(30)), 0);
        (void) close(fd);

        assert_int_equal(do_run(run, "remove", "app", NULL, run->dir_fd, SEC(30)), 0);
        assert_int_equal(fstatat(run->dir_fd, "app", &st, 0), -1);
}

static void test_words(void **state) {
        Run *run = *state;

        assert_int_equal(do_run(run, "own", "0", "0", run->dir_fd, SEC(30)), -EIO);
        assert_string_equal(run->words, "own: open tree: No such file or directory");
        assert_int_equal(do_run(run, "remove", "a/b", NULL, run->dir_fd, SEC(30)), -EIO);
        assert_string_equal(run->words, "remove: remove: 'a/b' is not one name");
        assert_int_equal(do_run(run, "give", "x", "0", run->dir_fd, SEC(30)), -EIO);
        assert_non_null(strstr(run->words, "no user and group"));
        assert_int_equal(do_run(run, "nonsense", NULL, NULL, -1, SEC(30)), -EIO);
        assert_non_null(strstr(run->words, "exit 2"));
}

static void test_probe(void **state) {
        Run *run = *state;
        int r = do_run(run, "probe", NULL, NULL, -1, SEC(30));

        if (geteuid() != 0)
                assert_int_equal(r, TREE_WAS_LINK);
        else
                assert_in_range(r, 0, TREE_WAS_LINK);
}

/* One that does not end: it waits for a byte that nobody sends. */
static void test_time_out(void **state) {
        Run *run = *state;
        int pair[2];

        assert_return_code(pipe2(pair, O_CLOEXEC), errno);
        char *args[] = { (char *) (uintptr_t) "--plain", (char *) (uintptr_t) "--wait=3",
                         (char *) (uintptr_t) "--", (char *) (uintptr_t) "/bin/true", NULL };
        TreeTask *task = NULL;
        assert_int_equal(tree_run(run->loop, run->program_fd, "view", args, pair[0], MSEC(50),
                                  on_done, run, &task, NULL),
                         0);
        loop_until_over(run);
        assert_int_equal(run->r, -ETIMEDOUT);
        assert_non_null(strstr(run->words, "view: time out"));

        assert_int_equal(tree_run(run->loop, run->program_fd, "view", args, pair[0], 0, on_done,
                                  run, &task, NULL),
                         0);
        assert_null(tree_cancel(task));
        (void) close(pair[0]);
        (void) close(pair[1]);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_own_give_remove, setup, teardown),
                cmocka_unit_test_setup_teardown(test_words, setup, teardown),
                cmocka_unit_test_setup_teardown(test_probe, setup, teardown),
                cmocka_unit_test_setup_teardown(test_time_out, setup, teardown),
        };
        sigset_t set;

        if (str_equal(argv[0], "tendril-tree"))
                return tree_program(argc, argv);
        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
