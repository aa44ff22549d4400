#include "../../agent/service/treemount.c"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>

#include <cmocka.h>

/* The whole program runs in a mount namespace of its own; where it cannot have one, only links are
 * tested. */
static bool have_mounts(void) {
        return geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
               mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) == 0;
}

typedef struct Place {
        char root[64]; /* a tmpfs of its own, so that propagation can be set for it alone */
        char path[96]; /* what is turned */
        int app[3];
        bool mounts;
} Place;

static void put_version(Place *p, int i) {
        char path[128];

        (void) snprintf(path, sizeof(path), "%s/v%d", p->root, i);
        assert_return_code(mkdir(path, 0755), errno);
        p->app[i] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int fd = openat(p->app[i], "version", O_WRONLY | O_CREAT, 0644);
        assert_int_equal(dprintf(fd, "%d", i), 1);
        (void) close(fd);
}

static int setup(void **state) {
        Place *p = calloc(1, sizeof(*p));

        p->mounts = have_mounts();
        (void) snprintf(p->root, sizeof(p->root), "%s", "/tmp/test-treemount-XXXXXX");
        assert_non_null(mkdtemp(p->root));
        if (p->mounts)
                assert_return_code(mount("tmpfs", p->root, "tmpfs", 0, NULL), errno);
        for (int i = 0; i < 3; i++)
                put_version(p, i);
        (void) snprintf(p->path, sizeof(p->path), "%s/var/app/current", p->root);
        *state = p;
        return 0;
}

static int teardown(void **state) {
        Place *p = *state;
        char command[128];

        for (int i = 0; i < 3; i++)
                (void) close(p->app[i]);
        if (p->mounts)
                (void) umount2(p->root, MNT_DETACH);
        else {
                for (int i = 0; i < 3; i++) {
                        (void) snprintf(command, sizeof(command), "%s/v%d/version", p->root, i);
                        (void) unlink(command);
                        *strrchr(command, '/') = '\0';
                        (void) rmdir(command);
                }
                (void) unlink(p->path);
                for (char *end = strrchr(p->path, '/'); end && rmdir(p->path) + 1 >= 0;
                     end = strrchr(p->path, '/')) {
                        *end = '\0';
                        if (strlen(p->path) <= strlen(p->root))
                                break;
                }
        }
        (void) rmdir(p->root);
        free(p);
        return 0;
}

/* The version that the path shows; -1: none. */
static int shown(const Place *p) {
        char path[128], c = 0;

        (void) snprintf(path, sizeof(path), "%s/version", p->path);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || read(fd, &c, 1) != 1)
                c = '0' - 1;
        if (fd >= 0)
                (void) close(fd);
        return c - '0';
}

static void mount_version(const Place *p, int i, TreeMountWay way) {
        _cleanup_(error_freep) Error *err = NULL;
        int r = treemount_mount(p->app[i], p->path, NULL, way, &err);

        if (r != 0)
                fail_msg("mount %d: %d %s", i, r, error_text(err));
        assert_int_equal(shown(p), i);
        assert_int_equal(stack_depth(p->path), 1);
}

/* A process that looks all the time. Its exit code is how often it saw no version (at most 100). */
static pid_t start_watcher(const Place *p, int *ret_fd) {
        int pair[2], n = 0;
        char byte;

        assert_return_code(pipe2(pair, O_CLOEXEC | O_NONBLOCK), errno);
        pid_t pid = fork();
        if (pid > 0) {
                (void) close(pair[0]);
                *ret_fd = pair[1];
                return pid;
        }
        (void) close(pair[1]);
        while (read(pair[0], &byte, 1) < 0)
                for (unsigned i = 0; i < 100; i++)
                        n += shown(p) < 0;
        _exit(MIN(n, 100));
}

static int end_watcher(pid_t pid, int fd) {
        int status;

        (void) close(fd);
        (void) waitpid(pid, &status, 0);
        return WEXITSTATUS(status);
}

static int turn_under_watch(const Place *p, TreeMountWay way, int first) {
        int fd;

        mount_version(p, 0, way);
        pid_t pid = start_watcher(p, &fd);
        for (int i = 0; i < 300; i++)
                mount_version(p, (i + first) % 3, way);
        return end_watcher(pid, fd);
}

static void need_mounts(const Place *p) {
        if (!p->mounts)
                skip();
}

static void test_beneath_is_never_empty(void **state) {
        need_mounts(*state);
        assert_int_equal(turn_under_watch(*state, TREE_MOUNT_BENEATH, 1), 0);
}

static void test_tuck_is_never_empty(void **state) {
        const Place *p = *state;

        need_mounts(p);
        assert_return_code(mount(NULL, p->root, NULL, MS_SHARED, NULL), errno);
        assert_int_equal(turn_under_watch(p, TREE_MOUNT_TUCK, 1), 0);
}

/* Not shared: it must not stack, and may be empty for a moment. */
static void test_tuck_without_sharing(void **state) {
        const Place *p = *state;

        need_mounts(p);
        for (int i = 0; i < 9; i++)
                mount_version(p, i % 3, TREE_MOUNT_TUCK);
}

static void test_gap(void **state) {
        need_mounts(*state);
        for (int i = 0; i < 9; i++)
                mount_version(*state, i % 3, TREE_MOUNT_GAP);
}

static void test_again_changes_nothing(void **state) {
        const Place *p = *state;
        struct stat before, after;

        need_mounts(p);
        mount_version(p, 1, TREE_MOUNT_BENEATH);
        int fd = open(p->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_return_code(fstat(fd, &before), errno);
        mount_version(p, 1, TREE_MOUNT_BENEATH);
        assert_return_code(stat(p->path, &after), errno);
        assert_int_equal(before.st_ino, after.st_ino);
        (void) close(fd);
}

/* A run that ended between the two steps left the new one below the old one; others may stack more.
 */
static void test_leftover_stack(void **state) {
        const Place *p = *state;

        need_mounts(p);
        mount_version(p, 0, TREE_MOUNT_BENEATH);
        for (int i = 0; i < 5; i++) {
                int fd = clone_folder(p->app[2]), at = open(p->path, O_PATH | O_CLOEXEC);
                assert_int_equal(put_mount(fd, at, 0), 0);
                (void) close(fd);
                (void) close(at);
        }
        assert_int_equal(stack_depth(p->path), 6);
        mount_version(p, 1, TREE_MOUNT_BENEATH);
}

static void test_unmount(void **state) {
        const Place *p = *state;

        need_mounts(p);
        assert_int_equal(treemount_unmount(p->path, NULL, NULL), 0); /* not even there */
        mount_version(p, 0, TREE_MOUNT_BENEATH);
        for (int i = 0; i < 2; i++)
                assert_int_equal(treemount_unmount(p->path, NULL, NULL), 0);
        assert_int_equal(stack_depth(p->path), 0);
        assert_int_equal(shown(p), -1);
}

/* From a namespace of its own into that of another process, as a hardened main does. */
static void test_other_namespace(void **state) {
        const Place *p = *state;
        char ns[64];
        int status;

        need_mounts(p);
        (void) snprintf(ns, sizeof(ns), "/proc/%d/ns/mnt", getpid());
        pid_t pid = fork();
        if (pid == 0) {
                if (unshare(CLONE_NEWNS) < 0 ||
                    mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0)
                        _exit(1);
                char path[128];
                (void) snprintf(path, sizeof(path), "%s/v2", p->root);
                int app = open(path, O_RDONLY | O_DIRECTORY); /* of this namespace */
                if (treemount_mount(app, p->path, ns, TREE_MOUNT_BENEATH, NULL) != 0)
                        _exit(2);
                _exit(stack_depth(p->path) == 0 ? 0 : 3); /* back where it was, and not there */
        }
        (void) waitpid(pid, &status, 0);
        assert_int_equal(status, 0);
        assert_int_equal(shown(p), 2);
        assert_int_equal(treemount_unmount(p->path, ns, NULL), 0);
}

static void test_link(void **state) {
        const Place *p = *state;
        char real[PATH_MAX];
        struct stat st;

        assert_int_equal(resolve_path(p->path, true, real, NULL), 0);
        assert_return_code(mkdir(p->path, 0755), errno);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(link_here(p->app[i], real, NULL), TREE_WAS_LINK);
                assert_int_equal(shown(p), i);
        }
        assert_return_code(lstat(p->path, &st), errno);
        assert_true(S_ISLNK(st.st_mode));
        if (p->mounts) /* a later start that may mount */
                mount_version(p, 1, TREE_MOUNT_BENEATH);
        assert_int_equal(treemount_unmount(p->path, NULL, NULL), 0);
}

static void test_link_does_not_replace_files(void **state) {
        const Place *p = *state;
        _cleanup_(error_freep) Error *err = NULL;
        char real[PATH_MAX], file[PATH_MAX + 8];

        assert_int_equal(resolve_path(p->path, true, real, NULL), 0);
        assert_return_code(mkdir(p->path, 0755), errno);
        (void) snprintf(file, sizeof(file), "%s/f", real);
        (void) close(open(file, O_CREAT | O_WRONLY, 0600));
        assert_true(link_here(p->app[0], real, &err) < 0);
        assert_return_code(access(file, F_OK), errno);
        (void) unlink(file);
}

static void test_paths(void **state) {
        const Place *p = *state;

        for (const char *const *n =
                     (const char *const[]){ "relative", "/", "/tmp/..", "/tmp/.", "/tmp/", NULL };
             *n; n++)
                assert_int_equal(treemount_mount(p->app[0], *n, NULL, TREE_MOUNT_BENEATH, NULL),
                                 -EINVAL);
}

static void test_unescape(void **state) {
        char text[] = "/a\\040b\\134\\011c";

        (void) state;
        unescape(text);
        assert_string_equal(text, "/a b\\\tc");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_beneath_is_never_empty, setup, teardown),
                cmocka_unit_test_setup_teardown(test_tuck_is_never_empty, setup, teardown),
                cmocka_unit_test_setup_teardown(test_tuck_without_sharing, setup, teardown),
                cmocka_unit_test_setup_teardown(test_gap, setup, teardown),
                cmocka_unit_test_setup_teardown(test_again_changes_nothing, setup, teardown),
                cmocka_unit_test_setup_teardown(test_leftover_stack, setup, teardown),
                cmocka_unit_test_setup_teardown(test_unmount, setup, teardown),
                cmocka_unit_test_setup_teardown(test_other_namespace, setup, teardown),
                cmocka_unit_test_setup_teardown(test_link, setup, teardown),
                cmocka_unit_test_setup_teardown(test_link_does_not_replace_files, setup, teardown),
                cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
                cmocka_unit_test(test_unescape),
        };

        return cmocka_run_group_tests_name("treemount", tests, NULL, NULL);
}
