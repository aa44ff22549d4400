#include "../../agent/service/applog.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "folder.h"

static Folder folder_at(const char *pattern) {
        Folder folder = { .fd = -EBADF };

        (void) snprintf(folder.path, sizeof(folder.path), "%s", pattern);
        assert_non_null(mkdtemp(folder.path));
        folder.fd = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return folder;
}

static void write_lines(int fd, unsigned from, unsigned to) {
        for (unsigned i = from; i < to; i++)
                assert_true(dprintf(fd, "line %06u\n", i) > 0);
}

static void read_all(int dir_fd, const char *name, Buf *ret) {
        int r = file_read_at(dir_fd, name, ret);

        assert_true(r >= 0 || r == -ENOENT);
}

/* Both parts together are what was written, in order, to the last line. */
static void check_parts(int dir_fd, unsigned from_at_most, unsigned to) {
        _cleanup_(buf_done) Buf text = BUF_INIT(1 << 20);
        unsigned n, want;

        read_all(dir_fd, "web.log.1", &text);
        read_all(dir_fd, "web.log", &text);
        const char *p = strchr(buf_str(&text), '\n'); /* the first line may be cut */
        assert_non_null(p);
        for (p++, want = UINT32_MAX; *p; p += 12) {
                assert_int_equal(sscanf(p, "line %6u\n", &n), 1);
                if (want == UINT32_MAX)
                        assert_true(n <= from_at_most);
                else
                        assert_int_equal(n, want);
                want = n + 1;
        }
        assert_int_equal(want, to);
}

static void rotate_in(const char *pattern) {
        Folder folder = folder_at(pattern);
        struct stat st;

        assert_int_equal(applog_rotate(folder.fd, "web", 8192), 0); /* not there */
        int fd = applog_open(folder.fd, "web");
        assert_true(fd >= 0);
        write_lines(fd, 0, 100);
        assert_int_equal(applog_rotate(folder.fd, "web", 8192), 0); /* small enough */
        assert_int_equal(fstatat(folder.fd, "web.log.1", &st, 0), -1);

        write_lines(fd, 100, 5000);
        assert_int_equal(applog_rotate(folder.fd, "web", 8192), 0);
        assert_return_code(fstatat(folder.fd, "web.log", &st, 0), errno);
        assert_true(st.st_size <= 8192);
        assert_int_equal(st.st_mode, S_IFREG | 0640);
        check_parts(folder.fd, 4400, 5000);

        write_lines(fd, 5000, 6000); /* by the same descriptor */
        check_parts(folder.fd, 4400, 6000);
        assert_int_equal(applog_rotate(folder.fd, "web", 8192), 0);
        check_parts(folder.fd, 5500, 6000);
        (void) close(fd);
        folder_done(&folder);
}

static void test_rotate(void **state) {
        (void) state;
        rotate_in("/tmp/test-applog-XXXXXX");
}

/* A file system that cannot take a range out. */
static void test_rotate_in_memory(void **state) {
        (void) state;
        if (access("/dev/shm", W_OK) < 0)
                skip();
        rotate_in("/dev/shm/test-applog-XXXXXX");
}

/* Under a writer who does not stop: nothing is lost where ranges can be taken out. */
static void test_rotate_under_a_writer(void **state) {
        Folder folder = folder_at("/tmp/test-applog-XXXXXX");
        int status;

        (void) state;
        int fd = applog_open(folder.fd, "web");
        write_lines(fd, 0, 10);
        if (fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096) < 0 && errno == EOPNOTSUPP) {
                (void) close(fd);
                folder_done(&folder);
                skip();
        }
        pid_t pid = fork();
        if (pid == 0) {
                write_lines(fd, 10, 30000);
                _exit(0);
        }
        unsigned n_rotated = 0;
        while (waitpid(pid, &status, WNOHANG) == 0) {
                assert_int_equal(applog_rotate(folder.fd, "web", 65536), 0);
                n_rotated++;
        }
        assert_true(n_rotated > 0);
        check_parts(folder.fd, 29500, 30000);
        (void) close(fd);
        folder_done(&folder);
}

static void test_no_links(void **state) {
        Folder folder = folder_at("/tmp/test-applog-XXXXXX");

        (void) state;
        assert_return_code(symlinkat("/etc/passwd", folder.fd, "web.log"), errno);
        assert_int_equal(applog_open(folder.fd, "web"), -ELOOP);
        assert_int_equal(applog_rotate(folder.fd, "web", 0), -ELOOP);
        folder_done(&folder);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rotate),
                cmocka_unit_test(test_rotate_in_memory),
                cmocka_unit_test(test_rotate_under_a_writer),
                cmocka_unit_test(test_no_links),
        };

        return cmocka_run_group_tests_name("applog", tests, NULL, NULL);
}
