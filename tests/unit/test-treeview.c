#include "../../agent/service/treeview.c"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>

#include <cmocka.h>

#define OTHER 65001 /* a user that nobody has */

/* A version below a folder that only root can enter, as versions/ is. */
typedef struct Place {
        char root[64];
        char app[128], venv[128];
} Place;

static void put(const char *dir, const char *name, const char *text) {
        char path[256];

        (void) snprintf(path, sizeof(path), "%s/%s", dir, name);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t) strlen(text));
        (void) close(fd);
}

static int setup(void **state) {
        Place *p = calloc(1, sizeof(*p));

        (void) snprintf(p->root, sizeof(p->root), "%s", "/tmp/test-treeview-XXXXXX"); /* 0700 */
        assert_non_null(mkdtemp(p->root));
        (void) snprintf(p->app, sizeof(p->app), "%s/app", p->root);
        (void) snprintf(p->venv, sizeof(p->venv), "%s/venv", p->root);
        assert_return_code(mkdir(p->app, 0755), errno);
        assert_return_code(mkdir(p->venv, 0755), errno);
        put(p->app, "version", "v1");
        put(p->venv, "python", "py");
        *state = p;
        return 0;
}

static int teardown(void **state) {
        Place *p = *state;
        char path[256];

        (void) snprintf(path, sizeof(path), "%s/version", p->app);
        (void) unlink(path);
        (void) snprintf(path, sizeof(path), "%s/python", p->venv);
        (void) unlink(path);
        (void) rmdir(p->app);
        (void) rmdir(p->venv);
        assert_return_code(rmdir(p->root), errno);
        free(p);
        return 0;
}

static TreeView view_of(const Place *p, char **argv) {
        TreeView view = { .wait_fd = -1, .argv = argv };

        view.folders[view.n_folders++] = (TreeFolder){ "current", p->app };
        view.folders[view.n_folders++] = (TreeFolder){ "venv", p->venv };
        return view;
}

/* A child that becomes the view; what it writes, and how it ended (100 + answer where it did not
 * become anything). */
static int run(const TreeView *view, void (*before)(void), char *ret, size_t size) {
        int pair[2], status;
        size_t n = 0;

        assert_return_code(pipe2(pair, O_CLOEXEC), errno);
        pid_t pid = fork();
        if (pid == 0) {
                (void) dup2(pair[1], 1);
                if (before)
                        before();
                _cleanup_(error_freep) Error *err = NULL;
                int r = treeview_run(view, &err);
                if (r < 0)
                        (void) dprintf(1, "%s", error_text(err));
                _exit(r < 0 ? 99 : 100 + r);
        }
        (void) close(pair[1]);
        for (ssize_t m = 1; m > 0 && n < size - 1; n += (size_t) MAX(m, 0))
                m = read(pair[0], ret + n, size - 1 - n);
        ret[n] = '\0';
        (void) close(pair[0]);
        (void) waitpid(pid, &status, 0);
        return WEXITSTATUS(status);
}

static void need_root(void) {
        if (geteuid() != 0)
                skip();
        pid_t pid = fork();
        int status;
        if (pid == 0)
                _exit(treeview_probe());
        (void) waitpid(pid, &status, 0);
        if (status != 0)
                skip();
}

static char *sh[] = { NULL, NULL, NULL, NULL };

static char **shell(const char *script) {
        sh[0] = (char *) (uintptr_t) "/bin/sh";
        sh[1] = (char *) (uintptr_t) "-c";
        sh[2] = (char *) (uintptr_t) script;
        return sh;
}

static void check(const TreeView *view, void (*before)(void), int code, const char *output) {
        char text[2048];
        int r = run(view, before, text, sizeof(text));

        if (r != code || !str_equal(text, output))
                fail_msg("exit %d, '%s' and not %d, '%s'", r, text, code, output);
}

static void test_its_own_version(void **state) {
        const Place *p = *state;

        need_root();
        bool was_there = access("/var/app", F_OK) == 0;
        TreeView view = view_of(p, shell("pwd; cat version /var/app/current/version "
                                         "/var/app/venv/python; ls /var/app"));
        check(&view, NULL, 0, "/var/app/current\nv1v1pycurrent\nvenv\n");
        assert_int_equal(access("/var/app", F_OK) == 0, was_there);
}

/* Its files are reached by a user who cannot enter the folder above them; no more groups than it
 * was given. */
static void test_as_a_user(void **state) {
        const Place *p = *state;

        need_root();
        TreeView view = view_of(p, shell("id -u; id -g; id -G; cat /var/app/current/version"));
        view.set_user = true;
        view.uid = view.gid = OTHER;
        check(&view, NULL, 0, "65001\n65001\n65001\nv1");
}

/* In a namespace of the test's own, in which /var/app is there already, with another version in it.
 */
static void have_var_app(void) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0 ||
            mount("tmpfs", "/var", "tmpfs", 0, NULL) < 0 || mkdir("/var/app", 0755) < 0 ||
            mkdir("/var/app/current", 0755) < 0 || mkdir("/var/app/else", 0755) < 0 ||
            mkdir("/var/mark", 0755) < 0)
                _exit(98);
}

static void test_var_app_is_there(void **state) {
        const Place *p = *state;

        need_root();
        TreeView view = view_of(p, shell("cat /var/app/current/version; ls /var/app /var"));
        check(&view, have_var_app, 0, "v1/var:\napp\nmark\n\n/var/app:\ncurrent\nvenv\n");
}

/* The rest of /var is as it was: mounts in it, links, files; and the agent's own folders may lie in
 * it. */
static void have_full_var(void) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0 ||
            mount("tmpfs", "/var", "tmpfs", 0, NULL) < 0 || mkdir("/var/lib", 0755) < 0 ||
            mount("tmpfs", "/var/lib", "tmpfs", 0, NULL) < 0 || mkdir("/var/lib/app", 0755) < 0 ||
            symlink("/run", "/var/run") < 0)
                _exit(98);
        put("/var", "file", "text");
        put("/var/lib/app", "version", "below");
}

static void test_the_rest_of_var(void **state) {
        (void) state;
        need_root();
        TreeView view = { .wait_fd = -1,
                          .argv = shell("cat /var/file /var/app/current/version "
                                        "/var/lib/app/version; readlink /var/run; "
                                        "echo x >/var/lib/w && cat /var/lib/w") };
        view.folders[view.n_folders++] = (TreeFolder){ "current", "/var/lib/app" };
        check(&view, have_full_var, 0, "textbelowbelow/run\nx\n");
}

static void test_nothing_is_inherited(void **state) {
        need_root();
        int fd = open("/", O_RDONLY); /* not close-on-exec */
        TreeView view = view_of(*state, shell("ls /proc/self/fd | tr '\\n' ' '"));
        check(&view, NULL, 0, "0 1 2 3 ");
        (void) close(fd);
}

static void become_other(void) {
        if (setgid(OTHER) < 0 || setuid(OTHER) < 0)
                _exit(98);
}

static void test_no_right_to_a_view(void **state) {
        if (geteuid() != 0)
                skip();
        TreeView view = view_of(*state, shell("echo started"));
        check(&view, become_other, 100 + TREE_VIEW_NONE, "");
}

static void test_plain(void **state) {
        const Place *p = *state;
        char expected[160];

        TreeView view = view_of(p, shell("pwd; cat version; id -u"));
        view.plain = true;
        if (geteuid() == 0) {
                view.set_user = true;
                view.uid = view.gid = OTHER;
        }
        (void) snprintf(expected, sizeof(expected), "%s\nv1%u\n", p->app,
                        geteuid() == 0 ? OTHER : geteuid());
        if (geteuid() != 0)
                check(&view, NULL, 0, expected);
        else {
                /* Who cannot enter the folders above works in it all the same. */
                view.argv = shell("cat version; id -u");
                check(&view, NULL, 0, "v165001\n");
        }
        view.argv = shell("pwd");
        view.cwd = "/usr";
        check(&view, NULL, 0, "/usr\n");
        view.cwd = "/no/such";
        check(&view, NULL, 99, "view: /no/such: No such file or directory");
}

static void test_wait(void **state) {
        TreeView view = view_of(*state, shell("echo begun"));
        int pair[2];

        view.plain = true;
        assert_return_code(pipe(pair), errno);
        view.wait_fd = pair[0];
        assert_int_equal(write(pair[1], "", 1), 1);
        check(&view, NULL, 0, "begun\n");
        (void) fcntl(pair[0], F_SETFD, FD_CLOEXEC);
        (void) close(pair[1]);
        check(&view, NULL, 100 + TREE_VIEW_ORPHAN, "");
        (void) close(pair[0]);
}

static bool parse(const char *line, TreeView *ret) {
        static char text[512];
        static char *argv[32];
        char *save = NULL;
        int argc = 0;

        (void) snprintf(text, sizeof(text), "%s", line);
        for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
                argv[argc++] = word;
        argv[argc] = NULL;
        return treeview_parse(argc, argv, ret);
}

static void test_parse(void **state) {
        TreeView v;

        (void) state;
        assert_true(parse("--current=/a --staging=/b --venv=lib=/c=d --user=1:2:3:4 --wait=5 "
                          "--cwd=/x -- sh -c x",
                          &v));
        assert_int_equal(v.n_folders, 3);
        assert_string_equal(v.folders[2].name, "lib");
        assert_string_equal(v.folders[2].dir, "/c=d");
        assert_true(v.set_user && v.uid == 1 && v.gid == 2 && v.n_groups == 2 && v.groups[1] == 4);
        assert_int_equal(v.wait_fd, 5);
        assert_string_equal(v.argv[0], "sh");
        assert_true(parse("--plain -- x", &v));
        assert_true(v.plain && v.wait_fd < 0 && !v.set_user);

        for (const char *const *n =
                     (const char *const[]){
                             "", "--", "sh", "-- ", "--current=a -- x", "--venv=../x=/y -- x",
                             "--venv=a/b=/y -- x", "--venv=.x=/y -- x", "--venv=x -- x",
                             "--user=1 -- x", "--user=a:b -- x", "--user=1:-1 -- x",
                             "--user=1:4294967295 -- x", "--wait=x -- x", "--cwd=x -- x",
                             "--plainly -- x", "--nonsense -- x", "x -- x", NULL };
             *n; n++)
                if (parse(*n, &v))
                        fail_msg("'%s' was accepted", *n);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_its_own_version, setup, teardown),
                cmocka_unit_test_setup_teardown(test_as_a_user, setup, teardown),
                cmocka_unit_test_setup_teardown(test_var_app_is_there, setup, teardown),
                cmocka_unit_test_setup_teardown(test_the_rest_of_var, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nothing_is_inherited, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_right_to_a_view, setup, teardown),
                cmocka_unit_test_setup_teardown(test_plain, setup, teardown),
                cmocka_unit_test_setup_teardown(test_wait, setup, teardown),
                cmocka_unit_test(test_parse),
        };

        return cmocka_run_group_tests_name("treeview", tests, NULL, NULL);
}
