/* What holds for all archives: the folder, the limits, the disk. */

#include <errno.h>
#include <locale.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "unpacking.h"

static void test_not_empty(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(buf_done) Buf archive = BUF_INIT(4096);
        _cleanup_(error_freep) Error *error = NULL;
        TaskUnpacked done = { 0 };

        (void) state;
        assert_int_equal(file_write_at(folder.fd, "a", "mine", 4, 0644, 0), 0);
        zip_one(&archive, &(ZipSpec){ .name = "a", .data = "theirs" });
        assert_int_equal(unpack(&archive, folder.fd, (TaskUnpack){ 0 }, &done, &error), -ENOTEMPTY);
        assert_non_null(strstr(error_text(error), "not empty"));
        check_file(folder.fd, "a", "mine", 0644);
}

static void test_limits(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(buf_done) Buf archive = BUF_INIT(4096);
        _cleanup_(error_freep) Error *error = NULL;
        TaskUnpacked done = { 0 };

        (void) state;
        zip_one(&archive, &(ZipSpec){ .name = "d/a", .data = "12345" });
        assert_int_equal(unpack(&archive, folder.fd, (TaskUnpack){ .max_bytes = 4 }, &done, &error),
                         -EFBIG);
        error = error_free(error);
        assert_int_equal(
                unpack(&archive, folder.fd, (TaskUnpack){ .max_entries = 1 }, &done, &error),
                -EFBIG);
        assert_int_equal(unpack(&archive, folder.fd,
                                (TaskUnpack){ .max_bytes = 5, .max_entries = 2 }, &done, NULL),
                         0);
        json_table_done(&task_unpacked_table, &done);
}

/* ---- a full disk ---- */

static void make_two_mib(Buf *ret, int format) {
        struct archive *writer = tar_begin(ret, ARCHIVE_FILTER_NONE, format);
        _cleanup_free_ char *data = calloc(1, 1 << 20);

        tar_add(writer, &(TarSpec){ .name = "a", .data = data, .size = 1 << 20 });
        tar_add(writer, &(TarSpec){ .name = "b", .data = data, .size = 1 << 20 });
        tar_end(writer);
}

static void make_many(Buf *ret) {
        char name[16];
        Zip zip;

        zip_begin(&zip);
        for (int i = 0; i < 40; i++) {
                (void) snprintf(name, sizeof(name), "f%d", i);
                zip_add(&zip, &(ZipSpec){ .name = name, .data = "x" });
        }
        zip_end(&zip, 0, ret);
}

/* What is told, in a child that has a small file system of its own; 77 where it may not mount one.
 */
static int on_small_disk(const Buf *archive, const char *word, bool untouched) {
        _cleanup_(error_freep) Error *error = NULL;
        TaskUnpacked done = { 0 };
        int fd;

        if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) < 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("small", "/tmp", "tmpfs", 0, "size=1536k,nr_inodes=20") < 0)
                return 77;
        fd = open("/tmp", O_RDONLY | O_DIRECTORY);
        if (unpack(archive, fd, (TaskUnpack){ 0 }, &done, &error) != -ENOSPC)
                return 1;
        if (!strstr(error_text(error), word) || !strstr(error_text(error), "missing"))
                return 2;
        if (untouched && (file_exists_at(fd, "a") || file_exists_at(fd, "f0")))
                return 3;
        return 0;
}

static void check_small_disk(const Buf *archive, const char *word, bool untouched) {
        int status;
        pid_t pid;

        pid = fork();
        if (pid == 0)
                _exit(on_small_disk(archive, word, untouched));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
                skip();
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_zip_no_space(void **state) {
        _cleanup_(buf_done) Buf archive = BUF_INIT(ARCHIVES_MAX_BYTES);

        (void) state;
        make_two_mib(&archive, ARCHIVE_FORMAT_ZIP);
        check_small_disk(&archive, "MiB", true);
}

static void test_zip_no_inodes(void **state) {
        _cleanup_(buf_done) Buf archive = BUF_INIT(ARCHIVES_MAX_BYTES);

        (void) state;
        make_many(&archive);
        check_small_disk(&archive, "inodes", true);
}

static void test_tar_no_space(void **state) {
        _cleanup_(buf_done) Buf archive = BUF_INIT(ARCHIVES_MAX_BYTES);

        (void) state;
        make_two_mib(&archive, 0);
        check_small_disk(&archive, "\"b\" needs", false);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_not_empty),    cmocka_unit_test(test_limits),
                cmocka_unit_test(test_zip_no_space), cmocka_unit_test(test_zip_no_inodes),
                cmocka_unit_test(test_tar_no_space),
        };

        (void) setlocale(LC_CTYPE, "C.UTF-8");
        return cmocka_run_group_tests_name("unpack", tests, NULL, NULL);
}
