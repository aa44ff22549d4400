/* Sockets in a folder of their own, with this process at both ends. */

#include "loop/unixsock.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/str.h"
#include "loop.h"

typedef struct Place {
        char folder[64];
        char path[512];
} Place;

static void place_begin(Place *p) {
        (void) snprintf(p->folder, sizeof(p->folder), "/tmp/test-unixsock.XXXXXX");
        assert_non_null(mkdtemp(p->folder));
        (void) snprintf(p->path, sizeof(p->path), "%s/socket", p->folder);
}

static void place_end(Place *p) {
        assert_int_equal(unixsock_remove(p->path), 0);
        assert_int_equal(unixsock_remove(p->path), 0);
        /* Nothing else was left there. */
        assert_int_equal(rmdir(p->folder), 0);
}

static int listen_at(const char *path, mode_t mode, gid_t gid) {
        _cleanup_(error_freep) Error *err = NULL;
        int fd = -EBADF;

        if (unixsock_listen(path, mode, gid, &fd, &err) < 0)
                fail_msg("%s", error_text(err));
        return fd;
}

static void test_talk(void **state) {
        _cleanup_close_ int server = -EBADF, client = -EBADF, accepted = -EBADF;
        char word[8] = "";
        struct stat st;
        UnixPeer peer;
        Place p;

        (void) state;
        place_begin(&p);
        server = listen_at(p.path, 0640, (gid_t) -1);
        assert_int_equal(stat(p.path, &st), 0);
        assert_true(S_ISSOCK(st.st_mode));
        assert_int_equal(st.st_mode & 07777, 0640);
        assert_int_equal(unixsock_accept(server), -EAGAIN);

        assert_int_equal(unixsock_connect(p.path, &client, NULL), 0);
        accepted = unixsock_accept(server);
        assert_true(accepted >= 0);
        assert_true(fcntl(accepted, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(accepted, F_GETFD) & FD_CLOEXEC);
        assert_false(fcntl(client, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(client, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(write(client, "word", 4), 4);
        assert_int_equal(read(accepted, word, sizeof(word)), 4);
        assert_string_equal(word, "word");

        assert_int_equal(unixsock_peer(accepted, &peer), 0);
        assert_int_equal(peer.pid, getpid());
        assert_int_equal(peer.uid, geteuid());
        assert_int_equal(peer.gid, getegid());
        place_end(&p);
}

static void test_who_may_be_replaced(void **state) {
        _cleanup_(error_freep) Error *err = NULL;
        int server, other = -EBADF, client = -EBADF;
        Place p;

        (void) state;
        place_begin(&p);
        assert_int_equal(unixsock_connect(p.path, &client, NULL), -ENOENT);

        /* One that lives is left alone. */
        server = listen_at(p.path, 0600, (gid_t) -1);
        assert_int_equal(unixsock_listen(p.path, 0600, (gid_t) -1, &other, &err), -EADDRINUSE);
        assert_non_null(strstr(error_text(err), p.path));
        assert_int_equal(other, -EBADF);
        err = error_free(err);

        /* One whose process died is replaced. */
        (void) close(server);
        assert_int_equal(unixsock_connect(p.path, &client, NULL), -ECONNREFUSED);
        server = listen_at(p.path, 0600, (gid_t) -1);
        assert_int_equal(unixsock_connect(p.path, &client, NULL), 0);
        (void) close(client);
        (void) close(server);

        /* Anything else is not ours to remove. */
        assert_int_equal(unlink(p.path), 0);
        (void) close(open(p.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        assert_int_equal(unixsock_listen(p.path, 0600, (gid_t) -1, &other, &err), -EEXIST);
        assert_int_equal(unlink(p.path), 0);
        assert_int_equal(symlink("elsewhere", p.path), 0);
        assert_int_equal(unixsock_listen(p.path, 0600, (gid_t) -1, &other, NULL), -EEXIST);
        assert_int_equal(unlink(p.path), 0);
        err = error_free(err);

        assert_int_equal(unixsock_listen("/no/such/folder/socket", 0600, (gid_t) -1, &other, &err),
                         -ENOENT);
        assert_int_equal(unixsock_listen("/tmp/", 0600, (gid_t) -1, &other, NULL), -EINVAL);
        place_end(&p);
}

/* 400 bytes of folders: far beyond sun_path. */
static void test_long_path(void **state) {
        _cleanup_close_ int server = -EBADF, client = -EBADF;
        char word[101];
        Place p;

        (void) state;
        place_begin(&p);
        memset(word, 'd', 100);
        word[100] = 0;
        (void) snprintf(p.path, sizeof(p.path), "%s", p.folder);
        for (int i = 0; i < 4; i++) {
                (void) snprintf(p.path + strlen(p.path), sizeof(p.path) - strlen(p.path), "/%s",
                                word);
                assert_int_equal(mkdir(p.path, 0700), 0);
        }
        (void) snprintf(p.path + strlen(p.path), sizeof(p.path) - strlen(p.path), "/socket");
        server = listen_at(p.path, 0600, (gid_t) -1);
        assert_int_equal(unixsock_connect(p.path, &client, NULL), 0);
        assert_int_equal(unixsock_remove(p.path), 0);
        for (int i = 0; i < 4; i++) {
                *strrchr(p.path, '/') = 0;
                assert_int_equal(rmdir(p.path), 0);
        }
        (void) snprintf(p.path, sizeof(p.path), "%s/socket", p.folder);
        place_end(&p);
}

static void test_group_of_socket(void **state) {
        _cleanup_close_ int server = -EBADF;
        struct stat st;
        Place p;

        (void) state;
        if (geteuid() != 0) {
                print_message("not root: skipped\n");
                skip();
        }
        place_begin(&p);
        server = listen_at(p.path, 0660, 64321);
        assert_int_equal(stat(p.path, &st), 0);
        assert_int_equal(st.st_gid, 64321);
        assert_int_equal(st.st_mode & 07777, 0660);
        place_end(&p);
}

/* A client of another user with more groups than the first try has room for. */
static void test_peer_groups(void **state) {
        _cleanup_close_ int server = -EBADF, accepted = -EBADF;
        UnixPeer peer;
        Place p;
        pid_t pid;
        int status, done[2];

        (void) state;
        if (geteuid() != 0) {
                print_message("not root: skipped\n");
                skip();
        }
        place_begin(&p);
        assert_int_equal(chmod(p.folder, 0711), 0);
        server = listen_at(p.path, 0666, (gid_t) -1);
        assert_int_equal(pipe2(done, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                gid_t groups[100];
                int fd = -EBADF;
                char byte;

                for (size_t i = 0; i < ELEMENTS(groups); i++)
                        groups[i] = (gid_t) (70000 + i);
                if (setgroups(ELEMENTS(groups), groups) < 0 || setresgid(64322, 64322, 64322) < 0 ||
                    setresuid(64321, 64321, 64321) < 0)
                        _exit(1);
                if (unixsock_connect(p.path, &fd, NULL) < 0)
                        _exit(2);
                (void) close(done[1]);
                _exit(read(done[0], &byte, 1) == 0 ? 0 : 3);
        }
        (void) close(done[0]);
        for (accepted = -EAGAIN; accepted == -EAGAIN;)
                accepted = unixsock_accept(server);
        assert_true(accepted >= 0);
        assert_int_equal(unixsock_peer(accepted, &peer), 0);
        assert_int_equal(peer.pid, pid);
        assert_int_equal(peer.uid, 64321);
        assert_int_equal(peer.gid, 64322);
        assert_true(unixsock_peer_in_group(accepted, 64322));
        assert_true(unixsock_peer_in_group(accepted, 70000));
        assert_true(unixsock_peer_in_group(accepted, 70099));
        assert_false(unixsock_peer_in_group(accepted, 70100));
        assert_false(unixsock_peer_in_group(accepted, 0));
        (void) close(done[1]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        /* The kernel's word stays when the client is gone. */
        assert_true(unixsock_peer_in_group(accepted, 70050));
        place_end(&p);
}

static void test_not_a_socket(void **state) {
        _cleanup_close_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        UnixPeer peer;

        (void) state;
        assert_int_equal(unixsock_peer(null, &peer), -ENOTSOCK);
        assert_false(unixsock_peer_in_group(null, 0));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_talk),        cmocka_unit_test(test_who_may_be_replaced),
                cmocka_unit_test(test_long_path),   cmocka_unit_test(test_group_of_socket),
                cmocka_unit_test(test_peer_groups), cmocka_unit_test(test_not_a_socket),
        };

        return cmocka_run_group_tests_name("unixsock", tests, NULL, NULL);
}
