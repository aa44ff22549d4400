#include "../../agent/service/treework.c"

#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#define OTHER 65001 /* a user that nobody has */

typedef struct Place {
        char path[64];
        int fd;
} Place;

/* In memory where that can be: what is tested syncs whole file systems. */
static const char *base_dir(void) {
        return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

static int setup(void **state) {
        Place *p = calloc(1, sizeof(*p));

        (void) snprintf(p->path, sizeof(p->path), "%s/test-treework-XXXXXX", base_dir());
        assert_non_null(mkdtemp(p->path));
        p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(p->fd >= 0);
        *state = p;
        return 0;
}

static int teardown(void **state) {
        Place *p = *state;

        assert_int_equal(treework_remove(AT_FDCWD, p->path + 1, NULL), -EINVAL);
        int tmp = open(base_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(treework_remove(tmp, strrchr(p->path, '/') + 1, NULL), 0);
        (void) close(tmp);
        (void) close(p->fd);
        free(p);
        return 0;
}

/* What is said about links that were left out is not looked at. */
static int own(int fd, Error **reterr) {
        int kept = dup(2), null = open("/dev/null", O_WRONLY | O_CLOEXEC);

        assert_true(kept >= 0 && null >= 0 && dup2(null, 2) == 2);
        int r = treework_own(fd, reterr);
        assert_int_equal(dup2(kept, 2), 2);
        (void) close(kept);
        (void) close(null);
        return r;
}

static void put_dir(const Place *p, const char *path, mode_t mode) {
        assert_return_code(mkdirat(p->fd, path, 0700), errno);
        assert_return_code(fchmodat(p->fd, path, mode, 0), errno);
}

static void put_file(const Place *p, const char *path, mode_t mode, const char *text) {
        int fd = openat(p->fd, path, O_WRONLY | O_CREAT | O_EXCL, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t) strlen(text));
        assert_return_code(fchmod(fd, mode), errno);
        (void) close(fd);
}

static void put_link(const Place *p, const char *path, const char *target) {
        assert_return_code(symlinkat(target, p->fd, path), errno);
}

static struct stat look(const Place *p, const char *path) {
        struct stat st = { 0 };

        (void) fstatat(p->fd, path, &st, AT_SYMLINK_NOFOLLOW);
        return st; /* st_mode 0: not there */
}

static void give_to(const Place *p, const char *path, uid_t uid) {
        if (geteuid() == 0)
                assert_return_code(fchownat(p->fd, path, uid, uid, AT_SYMLINK_NOFOLLOW), errno);
}

/* As a bundle: what the helper wrote, as its user. */
static void put_bundle(const Place *p) {
        put_dir(p, "tree", 0755);
        put_dir(p, "tree/.platform", 0755);
        put_dir(p, "tree/.platform/hooks", 0755);
        put_dir(p, "tree/.platform/hooks/prebuild", 0755);
        put_file(p, "tree/.platform/hooks/prebuild/01", 0644, "#!/bin/sh\n");
        put_link(p, "tree/.platform/hooks/prebuild/02", "01");
        put_link(p, "tree/.platform/hooks/prebuild/03", "../../../web.js");
        put_link(p, "tree/.platform/hooks/prebuild/04", "/etc/passwd");
        put_file(p, "tree/Procfile", 0666, "web: node web.js\n");
        put_file(p, "tree/web.js", 04755, "// suid\n");
        put_dir(p, "tree/lib", 0500);
        put_link(p, "tree/lib-link", "lib");
        for (const char *const *n =
                     (const char *const[]){ "tree", "tree/.platform", "tree/Procfile",
                                            "tree/web.js", "tree/lib", "tree/lib-link",
                                            "tree/.platform/hooks/prebuild/01", NULL };
             *n; n++)
                give_to(p, *n, OTHER);
        if (geteuid() == 0)
                assert_return_code(fchmodat(p->fd, "tree/web.js", 06755, 0), errno);
}

static void check_owned(const Place *p) {
        assert_int_equal(look(p, "tree").st_mode, 0);
        assert_int_equal(look(p, "control.tmp").st_mode, 0);
        assert_int_equal(look(p, "app").st_mode, S_IFDIR | 0700);
        assert_int_equal(look(p, "app/web.js").st_mode, S_IFREG | 0755);
        assert_int_equal(look(p, "app/lib").st_mode, S_IFDIR | 0700);
        assert_int_equal(look(p, "app/.platform/hooks/prebuild/01").st_mode, S_IFREG | 0755);
        assert_int_equal(look(p, "control").st_mode, S_IFDIR | 0700);
        assert_int_equal(look(p, "control/Procfile").st_mode, S_IFREG | 0600);
        assert_int_equal(look(p, "control/.platform/hooks/prebuild/01").st_mode, S_IFREG | 0700);
        assert_true(S_ISLNK(look(p, "control/.platform/hooks/prebuild/02").st_mode));
        assert_int_equal(look(p, "control/.platform/hooks/prebuild/03").st_mode, 0);
        assert_int_equal(look(p, "control/.platform/hooks/prebuild/04").st_mode, 0);
        assert_int_equal(look(p, "control/web.js").st_mode, 0);
        for (const char *const *n =
                     (const char *const[]){ "app", "app/web.js", "app/lib", "app/lib-link",
                                            "app/.platform", "control/Procfile", NULL };
             *n; n++)
                assert_int_equal(look(p, *n).st_uid, geteuid());
        assert_true(look(p, "app/Procfile").st_ino != look(p, "control/Procfile").st_ino);
}

static void test_own(void **state) {
        const Place *p = *state;
        _cleanup_(error_freep) Error *err = NULL;

        put_bundle(p);
        assert_int_equal(own(p->fd, &err), 0);
        check_owned(p);
}

static void test_own_again_from_any_half(void **state) {
        const Place *p = *state;

        put_bundle(p);
        put_dir(p, "control.tmp", 0700);
        put_file(p, "control.tmp/Procfile", 0600, "torn");
        put_dir(p, "control", 0700);
        put_dir(p, "control/.platform", 0700);
        put_file(p, "control/web.js", 0600, "of another time");
        assert_int_equal(own(p->fd, NULL), 0);
        check_owned(p);

        assert_int_equal(own(p->fd, NULL), 0);
        check_owned(p);
}

static void test_own_refuses_mixtures(void **state) {
        const Place *p = *state;
        _cleanup_(error_freep) Error *none = NULL, *both = NULL, *half = NULL;

        assert_int_equal(own(p->fd, &none), -ENOENT);
        put_dir(p, "app", 0700);
        assert_int_equal(own(p->fd, &half), -ENOENT);
        put_dir(p, "control", 0700);
        put_dir(p, "tree", 0700);
        assert_int_equal(own(p->fd, &both), -EEXIST);
        assert_non_null(strstr(error_text(both), "both tree and app"));
}

static void refused(const Place *p, const char *name, const char *words) {
        _cleanup_(error_freep) Error *err = NULL;

        assert_true(own(p->fd, &err) < 0);
        if (!strstr(error_text(err), name) || !strstr(error_text(err), words))
                fail_msg("'%s' should name %s and say '%s'", error_text(err), name, words);
        assert_int_equal(look(p, "app").st_mode, 0);
        assert_return_code(unlinkat(p->fd, "tree/d/x", 0), errno);
}

static void test_own_refuses_what_is_no_file(void **state) {
        const Place *p = *state;

        put_dir(p, "tree", 0755);
        put_dir(p, "tree/d", 0755);
        put_file(p, "outside", 0644, "");
        assert_return_code(mkfifoat(p->fd, "tree/d/x", 0600), errno);
        refused(p, "d/x", "no folder, file or link");
        assert_return_code(mknodat(p->fd, "tree/d/x", S_IFSOCK | 0600, 0), errno);
        refused(p, "d/x", "no folder, file or link");
        assert_return_code(linkat(p->fd, "outside", p->fd, "tree/d/x", 0), errno);
        refused(p, "d/x", "more than one name");
        if (geteuid() == 0) {
                assert_return_code(mknodat(p->fd, "tree/d/x", S_IFCHR | 0600, 0x103), errno);
                refused(p, "d/x", "no folder, file or link");
        }
        assert_int_equal(own(p->fd, NULL), 0);
}

static void test_own_refuses_a_link_for_tree(void **state) {
        const Place *p = *state;

        put_dir(p, "else", 0755);
        put_link(p, "tree", "else");
        assert_true(own(p->fd, NULL) < 0);
        assert_int_equal(look(p, "else").st_mode, S_IFDIR | 0755);
}

static void make_deep(int fd, const char *first, unsigned depth) {
        int at = fd;

        for (unsigned i = 0; i < depth; i++) {
                const char *name = i == 0 ? first : "d";
                assert_return_code(mkdirat(at, name, 0755), errno);
                int next = openat(at, name, O_RDONLY | O_DIRECTORY);
                assert_true(next >= 0);
                if (at != fd)
                        (void) close(at);
                at = next;
        }
        (void) close(at);
}

static void test_own_refuses_depth(void **state) {
        const Place *p = *state;
        _cleanup_(error_freep) Error *err = NULL;

        make_deep(p->fd, "tree", DEPTH_OWN + 2);
        assert_int_equal(own(p->fd, &err), -ELOOP);
}

static void test_own_follows_no_swap(void **state) {
        const Place *p = *state;
        pid_t pid;

        put_dir(p, "victim", 0750);
        put_file(p, "victim/Procfile", 0604, "secret");
        give_to(p, "victim", OTHER);
        give_to(p, "victim/Procfile", OTHER);
        put_dir(p, "tree", 0755);
        put_dir(p, "tree/.platform", 0755);
        put_link(p, "tree/l", "../victim");
        put_link(p, "tree/Procfile", "../victim/Procfile");
        put_file(p, "tree/f", 0644, "mine");

        /* Who lingers and turns folders and files into links, again and again. */
        pid = fork();
        (void) (pid == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL));
        if (pid == 0)
                for (;;) {
                        (void) renameat2(p->fd, "tree/.platform", p->fd, "tree/l", RENAME_EXCHANGE);
                        (void) renameat2(p->fd, "tree/Procfile", p->fd, "tree/f", RENAME_EXCHANGE);
                        (void) renameat2(p->fd, "app/.platform", p->fd, "app/l", RENAME_EXCHANGE);
                        (void) renameat2(p->fd, "app/Procfile", p->fd, "app/f", RENAME_EXCHANGE);
                }
        for (unsigned i = 0; i < 100; i++) {
                (void) own(p->fd, NULL);
                struct stat in_control = look(p, "control/.platform/Procfile");
                assert_int_equal(in_control.st_mode, 0);
                (void) renameat(p->fd, "app", p->fd, "tree");
        }
        (void) kill(pid, SIGKILL);
        (void) waitpid(pid, NULL, 0);

        assert_int_equal(look(p, "victim").st_mode, S_IFDIR | 0750);
        assert_int_equal(look(p, "victim/Procfile").st_mode, S_IFREG | 0604);
        if (geteuid() == 0) {
                assert_int_equal(look(p, "victim").st_uid, OTHER);
                assert_int_equal(look(p, "victim/Procfile").st_uid, OTHER);
        }
}

static void test_link_stays(void **state) {
        static const struct {
                const char *target;
                unsigned n_above;
                bool stays;
        } cases[] = {
                { "x", 0, true },         { "a/b", 0, true },    { "./x", 1, true },
                { "../x", 1, true },      { "../x", 0, false },  { "../../x", 1, false },
                { "/x", 5, false },       { "", 5, false },      { "a/../x", 5, false },
                { "..", 1, true },        { "../..", 1, false }, { ".././../x", 2, true },
                { "..//../x", 1, false }, { "...", 0, true },    { "..x", 0, true },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(cases); i++)
                if (link_stays(cases[i].target, cases[i].n_above) != cases[i].stays)
                        fail_msg("'%s' below %u", cases[i].target, cases[i].n_above);
}

static void test_give(void **state) {
        const Place *p = *state;
        _cleanup_(error_freep) Error *err = NULL;
        uid_t uid = geteuid() == 0 ? OTHER : geteuid();

        put_dir(p, "app", 0700);
        put_dir(p, "app/d", 0700);
        put_file(p, "app/d/f", 0750, "program");
        put_file(p, "app/.tendril-give", 0600, "left over");
        put_file(p, "outside", 0640, "shared");
        put_file(p, "pointed", 0640, "at");
        put_link(p, "app/link", "../pointed");
        assert_return_code(linkat(p->fd, "outside", p->fd, "app/d/hard", 0), errno);
        int app = openat(p->fd, "app", O_RDONLY | O_DIRECTORY);
        for (unsigned i = 0; i < 2; i++)
                assert_int_equal(treework_give(app, uid, uid, &err), 0);
        (void) close(app);

        assert_int_equal(look(p, "app").st_mode, S_IFDIR | 0755);
        assert_int_equal(look(p, "app/d/f").st_mode, S_IFREG | 0750);
        assert_int_equal(look(p, "app/.tendril-give").st_mode, 0);
        for (const char *const *n = (const char *const[]){ "app", "app/d", "app/d/f", "app/link",
                                                           "app/d/hard", NULL };
             *n; n++)
                assert_int_equal(look(p, *n).st_uid, uid);
        assert_int_equal(look(p, "outside").st_uid, geteuid());
        assert_int_equal(look(p, "pointed").st_uid, geteuid());
        if (geteuid() == 0) {
                assert_int_equal(look(p, "app/d/hard").st_nlink, 1);
                assert_int_equal(look(p, "app/d/hard").st_size, 6);
                assert_int_equal(look(p, "app/d/hard").st_mode, S_IFREG | 0640);
        }
}

static void test_remove(void **state) {
        const Place *p = *state;

        put_dir(p, "v", 0755);
        put_dir(p, "v/a", 0);
        put_file(p, "v/f", 0, "x");
        put_file(p, "kept", 0600, "x");
        put_link(p, "v/link", "../kept");
        put_link(p, "top-link", "kept");
        assert_int_equal(treework_remove(p->fd, "v", NULL), 0);
        assert_int_equal(treework_remove(p->fd, "v", NULL), 0);
        assert_int_equal(treework_remove(p->fd, "top-link", NULL), 0);
        assert_int_equal(look(p, "v").st_mode, 0);
        assert_int_equal(look(p, "top-link").st_mode, 0);
        assert_int_equal(look(p, "kept").st_mode, S_IFREG | 0600);
        for (const char *const *n = (const char *const[]){ "", ".", "..", "a/b", "/", NULL }; *n;
             n++)
                assert_int_equal(treework_remove(p->fd, *n, NULL), -EINVAL);
}

static void test_remove_what_is_deeper_than_descriptors(void **state) {
        const Place *p = *state;
        _cleanup_(error_freep) Error *err = NULL;

        put_dir(p, "v", 0755);
        int v = openat(p->fd, "v", O_RDONLY | O_DIRECTORY);
        make_deep(v, "x", 3000);
        make_deep(v, "y", 700);
        (void) close(v);
        assert_int_equal(treework_remove(p->fd, "v", &err), 0);
        assert_int_equal(look(p, "v").st_mode, 0);
}

/* In a mount namespace of its own, that ends with a child. */
static void test_mounts_are_not_crossed(void **state) {
        const Place *p = *state;
        char target[128];
        int status;

        if (geteuid() != 0)
                skip();
        put_dir(p, "other", 0755);
        put_file(p, "other/precious", 0600, "x");
        put_dir(p, "app", 0755);
        put_dir(p, "app/m", 0755);
        (void) snprintf(target, sizeof(target), "/proc/self/fd/%d/app/m", p->fd);
        pid_t pid = fork();
        if (pid == 0) {
                char source[128];
                (void) snprintf(source, sizeof(source), "/proc/self/fd/%d/other", p->fd);
                if (unshare(CLONE_NEWNS) < 0 ||
                    mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0 || chdir(p->path) < 0 ||
                    mount("other", "app/m", NULL, MS_BIND, NULL) < 0)
                        _exit(77);
                int dir = open(".", O_RDONLY | O_DIRECTORY),
                    app = open("app", O_RDONLY | O_DIRECTORY);
                if (treework_give(app, OTHER, OTHER, NULL) != 0)
                        _exit(1);
                _exit(treework_remove(dir, "app", NULL) == -EXDEV ? 0 : 2);
        }
        (void) waitpid(pid, &status, 0);
        if (WEXITSTATUS(status) == 77)
                skip();
        assert_int_equal(status, 0);
        assert_int_equal(look(p, "other/precious").st_uid, 0);
        assert_int_equal(look(p, "app").st_uid, OTHER);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_own, setup, teardown),
                cmocka_unit_test_setup_teardown(test_own_again_from_any_half, setup, teardown),
                cmocka_unit_test_setup_teardown(test_own_refuses_mixtures, setup, teardown),
                cmocka_unit_test_setup_teardown(test_own_refuses_what_is_no_file, setup, teardown),
                cmocka_unit_test_setup_teardown(test_own_refuses_a_link_for_tree, setup, teardown),
                cmocka_unit_test_setup_teardown(test_own_refuses_depth, setup, teardown),
                cmocka_unit_test_setup_teardown(test_own_follows_no_swap, setup, teardown),
                cmocka_unit_test(test_link_stays),
                cmocka_unit_test_setup_teardown(test_give, setup, teardown),
                cmocka_unit_test_setup_teardown(test_remove, setup, teardown),
                cmocka_unit_test_setup_teardown(test_remove_what_is_deeper_than_descriptors, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_mounts_are_not_crossed, setup, teardown),
        };

        return cmocka_run_group_tests_name("treework", tests, NULL, NULL);
}
