#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/str.h"

typedef struct Folder {
        char path[64];
        int fd;
} Folder;

static int setup(void **state) {
        Folder *f = calloc(1, sizeof(Folder));

        assert_non_null(f);
        (void) snprintf(f->path, sizeof(f->path), "%s", "/tmp/test-file-XXXXXX");
        assert_non_null(mkdtemp(f->path));
        f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->fd >= 0);
        *state = f;
        return 0;
}

/* Empties a folder and all below it. */
static void empty(int fd) {
        DIR *dir = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        struct dirent *entry;
        int below;

        assert_non_null(dir);
        while ((entry = readdir(dir))) {
                if (str_equal(entry->d_name, ".") || str_equal(entry->d_name, ".."))
                        continue;
                if (unlinkat(fd, entry->d_name, 0) >= 0)
                        continue;
                below = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                assert_true(below >= 0);
                empty(below);
                close(below);
                assert_int_equal(unlinkat(fd, entry->d_name, AT_REMOVEDIR), 0);
        }
        closedir(dir);
}

static int teardown(void **state) {
        Folder *f = *state;

        empty(f->fd);
        close(f->fd);
        assert_int_equal(rmdir(f->path), 0);
        free(f);
        return 0;
}

static size_t count_entries(int fd) {
        DIR *dir = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        size_t n = 0;

        while (readdir(dir))
                n++;
        closedir(dir);
        return n - 2;
}

static void check_content(int fd, const char *name, const char *expected) {
        _cleanup_(buf_done) Buf text = BUF_INIT(4096);

        assert_int_equal(file_read_at(fd, name, &text), 0);
        assert_string_equal(buf_str(&text), expected);
}

static void test_write_and_read(void **state) {
        const Folder *f = *state;
        struct stat st;

        assert_int_equal(file_write_at(f->fd, "a", "one", 3, 0644, 0), 0);
        check_content(f->fd, "a", "one");
        assert_int_equal(fstatat(f->fd, "a", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0644);
        assert_int_equal(count_entries(f->fd), 1);
}

static void test_the_umask_does_not_matter(void **state) {
        const Folder *f = *state;
        mode_t before = umask(077);
        struct stat st;
        int fd;

        assert_int_equal(file_write_at(f->fd, "a", "", 0, 0666, 0), 0);
        fd = file_mkdirs_at(f->fd, "x/y", 0755);
        umask(before);
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(fstatat(f->fd, "a", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0666);
        assert_int_equal(fstatat(f->fd, "x", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0755);
        assert_int_equal(fstatat(f->fd, "x/y", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0755);
}

static void test_without_replace_an_existing_one_stays(void **state) {
        const Folder *f = *state;

        assert_int_equal(file_write_at(f->fd, "a", "one", 3, 0600, FILE_SYNC), 0);
        assert_int_equal(file_write_at(f->fd, "a", "two", 3, 0600, FILE_SYNC), -EEXIST);
        check_content(f->fd, "a", "one");
        assert_int_equal(count_entries(f->fd), 1);
}

static void test_replace_and_keep_previous(void **state) {
        const Folder *f = *state;
        const FileFlags keep = FILE_REPLACE | FILE_SYNC | FILE_KEEP_PREVIOUS;

        assert_int_equal(file_write_at(f->fd, "a", "one", 3, 0600, keep), 0);
        assert_false(file_exists_at(f->fd, "a.previous"));
        assert_int_equal(file_write_at(f->fd, "a", "two", 3, 0600, keep), 0);
        assert_int_equal(file_write_at(f->fd, "a", "three", 5, 0600, keep), 0);
        check_content(f->fd, "a", "three");
        check_content(f->fd, "a.previous", "two");

        assert_int_equal(file_write_at(f->fd, "a", "four", 4, 0600, FILE_REPLACE), 0);
        check_content(f->fd, "a", "four");
        check_content(f->fd, "a.previous", "two");
        assert_int_equal(count_entries(f->fd), 2);
}

static void test_previous_that_is_the_same_file_already(void **state) {
        const Folder *f = *state;

        /* What a crash between the two renames leaves. */
        assert_int_equal(file_write_at(f->fd, "a", "one", 3, 0600, 0), 0);
        assert_int_equal(linkat(f->fd, "a", f->fd, "a.previous", 0), 0);
        assert_int_equal(
                file_write_at(f->fd, "a", "two", 3, 0600, FILE_REPLACE | FILE_KEEP_PREVIOUS), 0);
        check_content(f->fd, "a", "two");
        check_content(f->fd, "a.previous", "one");
        assert_int_equal(count_entries(f->fd), 2);
}

static void test_write_replaces_a_link_and_does_not_follow_it(void **state) {
        const Folder *f = *state;

        assert_int_equal(file_write_at(f->fd, "target", "t", 1, 0600, 0), 0);
        assert_int_equal(symlinkat("target", f->fd, "link"), 0);
        assert_int_equal(file_write_at(f->fd, "link", "x", 1, 0600, 0), -EEXIST);
        assert_int_equal(file_write_at(f->fd, "link", "x", 1, 0600, FILE_REPLACE), 0);
        check_content(f->fd, "target", "t");
        check_content(f->fd, "link", "x");
}

static void test_write_below_a_folder(void **state) {
        const Folder *f = *state;

        assert_int_equal(file_write_at(f->fd, "d/a", "x", 1, 0600, FILE_SYNC), -ENOENT);
        assert_int_equal(mkdirat(f->fd, "d", 0700), 0);
        assert_int_equal(file_write_at(f->fd, "d/a", "x", 1, 0600, FILE_SYNC), 0);
        check_content(f->fd, "d/a", "x");
        assert_int_equal(file_remove_at(f->fd, "d/a", true), 0);
        assert_int_equal(unlinkat(f->fd, "d", AT_REMOVEDIR), 0);
}

static void test_write_refuses_what_is_no_name(void **state) {
        static const char *const names[] = { "", ".", "..", "a/", "d/..", "/" };
        const Folder *f = *state;
        size_t i;

        for (i = 0; i < ELEMENTS(names); i++)
                assert_int_equal(file_write_at(f->fd, names[i], "x", 1, 0600, FILE_REPLACE),
                                 -EINVAL);
        assert_int_equal(mkdirat(f->fd, "d", 0700), 0);
        assert_int_equal(file_write_at(f->fd, "d", "x", 1, 0600, FILE_REPLACE), -EISDIR);
        assert_int_equal(file_write_at(f->fd, "d", "x", 1, 0600, 0), -EEXIST);
        assert_int_equal(count_entries(f->fd), 1);
}

static void test_read_refuses_what_is_no_file(void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(100);
        const Folder *f = *state;

        assert_int_equal(file_read_at(f->fd, "a", &text), -ENOENT);
        assert_int_equal(mkdirat(f->fd, "d", 0700), 0);
        assert_int_equal(file_read_at(f->fd, "d", &text), -EINVAL);
        assert_int_equal(mkfifoat(f->fd, "fifo", 0600), 0);
        assert_int_equal(file_read_at(f->fd, "fifo", &text), -EINVAL);
        assert_int_equal(symlinkat("d", f->fd, "link"), 0);
        assert_int_equal(file_read_at(f->fd, "link", &text), -ELOOP);
        assert_int_equal(text.size, 0);
}

static void test_read_respects_the_maximum(void **state) {
        _cleanup_(buf_done) Buf exact = BUF_INIT(12), small = BUF_INIT(11);
        const Folder *f = *state;

        assert_int_equal(file_write_at(f->fd, "a", "0123456789", 10, 0600, 0), 0);
        buf_append_str(&exact, "x:");
        assert_int_equal(file_read_at(f->fd, "a", &exact), 0);
        assert_string_equal(buf_str(&exact), "x:0123456789");
        buf_append_str(&small, "x:");
        assert_int_equal(file_read_at(f->fd, "a", &small), -EFBIG);
        assert_string_equal(buf_str(&small), "x:");
}

static void test_read_of_a_file_that_does_not_know_its_size(void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(65536), small = BUF_INIT(10);

        (void) state;
        assert_int_equal(file_read_at(AT_FDCWD, "/proc/self/status", &text), 0);
        assert_true(text.size > 100);
        assert_int_equal(file_read_at(AT_FDCWD, "/proc/self/status", &small), -EFBIG);
        assert_int_equal(small.size, 0);
}

static void test_large_content(void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(1000000);
        _cleanup_free_ char *data = calloc(1, 1000000);
        const Folder *f = *state;
        size_t i;

        for (i = 0; i < 1000000; i++)
                data[i] = (char) ('a' + i % 23);
        assert_int_equal(file_write_at(f->fd, "a", data, 1000000, 0600, 0), 0);
        assert_int_equal(file_read_at(f->fd, "a", &text), 0);
        assert_int_equal(text.size, 1000000);
        assert_memory_equal(text.data, data, 1000000);
}

static void test_mkdirs(void **state) {
        const Folder *f = *state;
        _cleanup_free_ char *absolute = str_format("%s/p//q/", f->path);
        int fd;

        fd = file_mkdirs_at(f->fd, "a/b/c", 0711);
        assert_true(fd >= 0);
        assert_int_equal(file_write_at(fd, "x", "x", 1, 0600, 0), 0);
        close(fd);
        check_content(f->fd, "a/b/c/x", "x");

        fd = file_mkdirs_at(f->fd, absolute, 0700);
        assert_true(fd >= 0);
        close(fd);
        assert_true(file_exists_at(f->fd, "p/q"));

        fd = file_mkdirs_at(f->fd, ".", 0700);
        assert_true(fd >= 0);
        close(fd);
        fd = file_mkdirs_at(AT_FDCWD, "/", 0700);
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(file_mkdirs_at(f->fd, "", 0700), -ENOENT);
}

static void test_mkdirs_keeps_modes_and_follows_links_only_on_the_way(void **state) {
        const Folder *f = *state;
        struct stat st;
        int fd;

        assert_int_equal(mkdirat(f->fd, "real", 0700), 0);
        assert_int_equal(symlinkat("real", f->fd, "link"), 0);
        fd = file_mkdirs_at(f->fd, "link/below", 0755);
        assert_true(fd >= 0);
        close(fd);
        assert_true(file_exists_at(f->fd, "real/below"));
        assert_int_equal(fstatat(f->fd, "real", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
        assert_true(file_mkdirs_at(f->fd, "link", 0755) < 0);

        assert_int_equal(file_write_at(f->fd, "file", "", 0, 0600, 0), 0);
        assert_int_equal(file_mkdirs_at(f->fd, "file/x", 0755), -ENOTDIR);
        assert_int_equal(file_mkdirs_at(f->fd, "file", 0755), -ENOTDIR);
}

static void test_open_dir(void **state) {
        const Folder *f = *state;
        int fd;

        assert_int_equal(file_open_dir_at(f->fd, "d"), -ENOENT);
        assert_int_equal(mkdirat(f->fd, "d", 0700), 0);
        assert_int_equal(symlinkat("d", f->fd, "link"), 0);
        fd = file_open_dir_at(f->fd, "d");
        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        close(fd);
        assert_true(file_open_dir_at(f->fd, "link") < 0);
}

static void test_remove(void **state) {
        const Folder *f = *state;

        assert_int_equal(file_write_at(f->fd, "a", "", 0, 0600, 0), 0);
        assert_true(file_exists_at(f->fd, "a"));
        assert_int_equal(file_remove_at(f->fd, "a", true), 0);
        assert_false(file_exists_at(f->fd, "a"));
        assert_int_equal(file_remove_at(f->fd, "a", true), 0);
        assert_int_equal(file_remove_at(f->fd, "none/a", true), 0);
        assert_int_equal(mkdirat(f->fd, "d", 0700), 0);
        assert_int_equal(file_remove_at(f->fd, "d", false), -EISDIR);
}

static void test_exists_sees_a_dangling_link(void **state) {
        const Folder *f = *state;

        assert_int_equal(symlinkat("nowhere", f->fd, "link"), 0);
        assert_true(file_exists_at(f->fd, "link"));
}

static void test_sweep_takes_temporaries_only(void **state) {
        static const char *const keep[] = {
                "a", ".tmp-", ".tmp-a", ".tmp-a.1234567", ".tmp-a.1234567g", ".tmp-.12345678"
        };
        const Folder *f = *state;
        size_t i;

        for (i = 0; i < ELEMENTS(keep); i++)
                assert_int_equal(file_write_at(f->fd, keep[i], "", 0, 0600, 0), 0);
        assert_int_equal(file_write_at(f->fd, ".tmp-a.12345678", "", 0, 0600, 0), 0);
        assert_int_equal(file_write_at(f->fd, ".tmp-a.previous.0abcdef9", "", 0, 0600, 0), 0);
        assert_int_equal(mkdirat(f->fd, ".tmp-d.12345678", 0700), 0);

        assert_int_equal(file_sweep_at(f->fd), 2);
        assert_int_equal(file_sweep_at(f->fd), 0);
        assert_int_equal(count_entries(f->fd), ELEMENTS(keep) + 1);
        assert_int_equal(file_sweep_at(-1), -EBADF);
}

static void test_one_winner_of_many_writers(void **state) {
        const Folder *f = *state;
        int i, status, n_won = 0;
        pid_t pids[8];

        for (i = 0; i < 8; i++) {
                pids[i] = fork();
                if (pids[i] == 0) {
                        char c = (char) ('0' + i);
                        int r = file_write_at(f->fd, "one", &c, 1, 0600, 0);

                        _exit(r == 0 ? 0 : r == -EEXIST ? 1 : 2);
                }
        }
        for (i = 0; i < 8; i++) {
                assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
                n_won += WEXITSTATUS(status) == 0;
        }
        assert_int_equal(n_won, 1);
        assert_int_equal(count_entries(f->fd), 1);
}

static void test_failure_leaves_nothing(void **state) {
        const Folder *f = *state;
        char name[251] = { 0 };

        memset(name, 'n', sizeof(name) - 1);
        assert_int_equal(file_write_at(f->fd, name, "x", 1, 0600, FILE_REPLACE), -ENAMETOOLONG);
        assert_int_equal(count_entries(f->fd), 0);
}

static void test_memfd(void **state) {
        _cleanup_close_ int fd = file_memfd("test", "hello", 5);
        _cleanup_(buf_done) Buf text = BUF_INIT(100);

        (void) state;
        assert_true(fd >= 0);
        assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
        assert_int_equal(lseek(fd, 3, SEEK_SET), 3);
        assert_int_equal(file_read_fd(fd, &text), 0);
        assert_string_equal(buf_str(&text), "hello");
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK), 0);
        assert_int_equal(file_write_all(fd, "x", 1), -EPERM);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_write_and_read),
                TEST(test_the_umask_does_not_matter),
                TEST(test_without_replace_an_existing_one_stays),
                TEST(test_replace_and_keep_previous),
                TEST(test_previous_that_is_the_same_file_already),
                TEST(test_write_replaces_a_link_and_does_not_follow_it),
                TEST(test_write_below_a_folder),
                TEST(test_write_refuses_what_is_no_name),
                TEST(test_read_refuses_what_is_no_file),
                TEST(test_read_respects_the_maximum),
                TEST(test_read_of_a_file_that_does_not_know_its_size),
                TEST(test_large_content),
                TEST(test_mkdirs),
                TEST(test_mkdirs_keeps_modes_and_follows_links_only_on_the_way),
                TEST(test_open_dir),
                TEST(test_remove),
                TEST(test_exists_sees_a_dangling_link),
                TEST(test_sweep_takes_temporaries_only),
                TEST(test_one_winner_of_many_writers),
                TEST(test_failure_leaves_nothing),
                TEST(test_memfd),
        };

        return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
