/* Archives as people make them. What is refused is in test-hostile.c. */

#include <errno.h>
#include <locale.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "archives.h"
#include "base/file.h"
#include "base/str.h"
#include "bundle/bundle.h"
#include "folder.h"

#define TIME 1700000000

static int unpack(const Buf *archive, int dir_fd, TaskUnpack how, TaskUnpacked *ret,
                  Error **reterr) {
        _cleanup_close_ int fd = file_memfd("archive", archive->data, archive->size);

        assert_true(fd >= 0);
        return bundle_unpack(fd, dir_fd, &how, ret, reterr);
}

/* It works, and this is what came of it. */
static void unpack_well(const Buf *archive, int dir_fd, const char *format, uint64_t entries,
                        uint64_t bytes) {
        _cleanup_(error_freep) Error *error = NULL;
        TaskUnpacked done = { 0 };
        int r;

        r = unpack(archive, dir_fd, (TaskUnpack){ .threads = 4 }, &done, &error);
        if (r != 0)
                fail_msg("%d: %s", r, error_text(error));
        assert_string_equal(done.format, format);
        assert_int_equal(done.entries, entries);
        assert_int_equal(done.bytes, bytes);
        json_table_done(&task_unpacked_table, &done);
}

static void check_file(int dir_fd, const char *path, const char *content, mode_t mode) {
        _cleanup_(buf_done) Buf text = BUF_INIT(1 << 20);
        struct stat st;

        assert_int_equal(file_read_at(dir_fd, path, &text), 0);
        assert_string_equal(buf_str(&text), content);
        assert_int_equal(fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(st.st_mode, S_IFREG | mode);
}

static void check_folder(int dir_fd, const char *path) {
        struct stat st;

        assert_int_equal(fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(st.st_mode, S_IFDIR | 0755);
}

static void check_link(int dir_fd, const char *path, const char *target) {
        char found[256] = "";

        assert_true(readlinkat(dir_fd, path, found, sizeof(found) - 1) > 0);
        assert_string_equal(found, target);
}

static time_t time_of(int dir_fd, const char *path) {
        struct stat st;

        assert_int_equal(fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
        return st.st_mtime;
}

static void test_zip(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(buf_done) Buf archive = BUF_INIT(ARCHIVES_MAX_BYTES);
        mode_t mask = umask(0077);
        Zip zip;

        (void) state;
        zip_begin(&zip);
        zip_add(&zip, &(ZipSpec){ .name = "Procfile", .data = "web: ./run\n" });
        zip_add(&zip, &(ZipSpec){ .name = "lib/", .mode = S_IFDIR | 02700 });
        zip_add(&zip, &(ZipSpec){ .name = "lib/deep/er/code.py",
                                  .data = "pass\n",
                                  .mode = S_IFREG | 0600 });
        zip_add(&zip, &(ZipSpec){ .name = "run", .data = "#!/bin/sh\n", .mode = S_IFREG | 0700 });
        zip_add(&zip, &(ZipSpec){ .name = "./dotted", .data = "x" });
        zip_add(&zip, &(ZipSpec){ .name = "empty" });
        zip_add(&zip,
                &(ZipSpec){ .name = ".platform/hooks/prebuild/01.sh", .data = "#!/bin/sh\n" });
        zip_add(&zip, &(ZipSpec){ .name = ".platform/confighooks/predeploy/02.sh",
                                  .data = "#!/bin/sh\n" });
        zip_add(&zip, &(ZipSpec){ .name = ".platform/nginx/nginx.conf", .data = "http {}\n" });
        zip_add(&zip, &(ZipSpec){ .name = "caf\xc3\xa9.txt", .data = "latte", .flags = 0x800 });
        zip_add(&zip, &(ZipSpec){ .name = "th\xc3\xa9.txt", .data = "oolong" });
        zip_add(&zip, &(ZipSpec){ .name = "dos.txt", .data = "x", .dos = 1 });
        zip_add(&zip, &(ZipSpec){ .name = "lib/link", .data = "../run", .mode = S_IFLNK | 0777 });
        zip_add(&zip,
                &(ZipSpec){ .name = "lib/chain", .data = "deep/../link", .mode = S_IFLNK | 0777 });
        zip_add(&zip,
                &(ZipSpec){ .name = "lib/dangling", .data = "later/made", .mode = S_IFLNK | 0777 });
        zip_end(&zip, 0, &archive);

        unpack_well(&archive, folder.fd, "zip", 15, 67);
        (void) umask(mask);
        check_file(folder.fd, "Procfile", "web: ./run\n", 0644);
        check_folder(folder.fd, "lib");
        check_folder(folder.fd, "lib/deep/er");
        check_file(folder.fd, "lib/deep/er/code.py", "pass\n", 0644);
        check_file(folder.fd, "run", "#!/bin/sh\n", 0755);
        check_file(folder.fd, "dotted", "x", 0644);
        check_file(folder.fd, "empty", "", 0644);
        check_file(folder.fd, ".platform/hooks/prebuild/01.sh", "#!/bin/sh\n", 0755);
        check_file(folder.fd, ".platform/confighooks/predeploy/02.sh", "#!/bin/sh\n", 0755);
        check_file(folder.fd, ".platform/nginx/nginx.conf", "http {}\n", 0644);
        check_file(folder.fd, "caf\xc3\xa9.txt", "latte", 0644);
        check_file(folder.fd, "th\xc3\xa9.txt", "oolong", 0644);
        check_file(folder.fd, "dos.txt", "x", 0644);
        check_link(folder.fd, "lib/link", "../run");
        check_link(folder.fd, "lib/chain", "deep/../link");
        check_link(folder.fd, "lib/dangling", "later/made");
        /* 2024-01-01, by MS-DOS */
        assert_true(time_of(folder.fd, "run") > 1704000000 &&
                    time_of(folder.fd, "run") < 1704200000);
        assert_int_equal(time_of(folder.fd, "run"), time_of(folder.fd, "lib"));
}

/* All threads together make each file once, and the right one. */
static void test_zip_threads(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(buf_done) Buf archive = BUF_INIT(ARCHIVES_MAX_BYTES);
        struct archive *writer = tar_begin(&archive, ARCHIVE_FILTER_NONE, ARCHIVE_FORMAT_ZIP);
        _cleanup_free_ char *data = calloc(1, 20000);
        uint64_t bytes = 0;
        char name[64];

        (void) state;
        for (size_t i = 0; i < 500; i++) {
                size_t size = (i * 7919) % 19000;

                memset(data, 'a' + (int) (i % 26), size);
                (void) snprintf(name, sizeof(name), "d%zu/e%zu/f%zu", i % 7, i / 50, i);
                tar_add(writer, &(TarSpec){ .name = name, .data = data, .size = size });
                bytes += size;
        }
        tar_end(writer);

        unpack_well(&archive, folder.fd, "zip", 500, bytes);
        for (size_t i = 0; i < 500; i++) {
                size_t size = (i * 7919) % 19000;

                memset(data, 'a' + (int) (i % 26), size);
                data[size] = '\0';
                (void) snprintf(name, sizeof(name), "d%zu/e%zu/f%zu", i % 7, i / 50, i);
                check_file(folder.fd, name, data, 0644);
        }
}

/* One bad entry among many: all threads stop, and the one at fault is named. */
static void test_zip_threads_fail(void **state) {
        (void) state;

        for (int bad = 0; bad < 200; bad += 37) {
                _cleanup_(folder_done) Folder folder = folder_new();
                _cleanup_(buf_done) Buf archive = BUF_INIT(ARCHIVES_MAX_BYTES);
                _cleanup_(error_freep) Error *error = NULL;
                TaskUnpacked done = { 0 };
                char name[16];
                Zip zip;

                zip_begin(&zip);
                for (int i = 0; i < 200; i++) {
                        (void) snprintf(name, sizeof(name), "f%d", i);
                        zip_add(&zip,
                                &(ZipSpec){ .name = name, .data = "content", .crc_xor = i == bad });
                }
                zip_end(&zip, 0, &archive);
                (void) snprintf(name, sizeof(name), "\"f%d\"", bad);
                assert_int_equal(
                        unpack(&archive, folder.fd, (TaskUnpack){ .threads = 3 }, &done, &error),
                        -EBADMSG);
                assert_non_null(strstr(error_text(error), name));
                assert_null(done.format);
        }
}

static void make_jar(Buf *ret, const char *manifest, const char *beside, const char *in_front,
                     const char *again) {
        Buf plain = BUF_INIT(1 << 20);
        Zip zip;

        zip_begin(&zip);
        zip_add(&zip, &(ZipSpec){ .name = "META-INF/MANIFEST.MF", .data = manifest });
        zip_add(&zip, &(ZipSpec){ .name = "Main.class", .data = "\xca\xfe\xba\xbe" });
        zip_add(&zip, &(ZipSpec){ .name = "META-INF/LICENSE", .data = "one" });
        zip_add(&zip, &(ZipSpec){ .name = again, .data = "two" });
        if (beside)
                zip_add(&zip, &(ZipSpec){ .name = beside, .data = "web: x\n" });
        zip_end(&zip, 0, &plain);
        put_bytes(ret, in_front, strlen(in_front));
        put_bytes(ret, plain.data, plain.size);
        buf_done(&plain);
}

#define MANIFEST "Manifest-Version: 1.0\r\nMain-Class: Main\r\n"

static void check_jar(const char *manifest, const char *beside, const char *in_front, bool kept) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(buf_done) Buf archive = BUF_INIT(1 << 20), copy = BUF_INIT(1 << 20);

        /* Jars made of jars have names twice, and nobody minds. */
        make_jar(&archive, manifest, beside, in_front,
                 kept ? "META-INF/LICENSE" : "META-INF/NOTICE");
        if (!kept) {
                unpack_well(&archive, folder.fd, "zip", beside ? 5 : 4,
                            strlen(manifest) + 10 + (beside ? 7 : 0));
                check_file(folder.fd, "META-INF/MANIFEST.MF", manifest, 0644);
                return;
        }
        unpack_well(&archive, folder.fd, "jar", 1, archive.size);
        assert_int_equal(file_read_at(folder.fd, "application.jar", &copy), 0);
        assert_int_equal(copy.size, archive.size);
        assert_memory_equal(copy.data, archive.data, copy.size);
        assert_false(file_exists_at(folder.fd, "META-INF"));
}

static void test_jar(void **state) {
        (void) state;

        check_jar(MANIFEST, NULL, "", true);
        check_jar("main-class: Main\n", NULL, "", true);
        check_jar(MANIFEST, NULL, "#!/bin/sh\nexec java -jar \"$0\"\n", true);
        check_jar(MANIFEST, "Procfile", "", false);
        check_jar(MANIFEST, "WEB-INF/web.xml", "", false);
        check_jar("Manifest-Version: 1.0\n", NULL, "", false);
        check_jar("X-Main-Class: no\n", NULL, "", false);
}

static void test_tar_filters(void **state) {
        const int filters[] = { ARCHIVE_FILTER_NONE, ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_BZIP2,
                                ARCHIVE_FILTER_XZ, ARCHIVE_FILTER_ZSTD };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(filters); i++) {
                _cleanup_(folder_done) Folder folder = folder_new();
                _cleanup_(buf_done) Buf archive = BUF_INIT(ARCHIVES_MAX_BYTES);
                struct archive *writer =
                        tar_begin(&archive, filters[i], ARCHIVE_FORMAT_TAR_PAX_RESTRICTED);
                struct stat a, b;

                tar_add(writer, &(TarSpec){ .name = "./", .mode = S_IFDIR | 0700 });
                tar_add(writer, &(TarSpec){ .name = "./bin/", .mode = S_IFDIR | 0700 });
                tar_add(writer, &(TarSpec){ .name = "./bin/run",
                                            .data = "#!/bin/sh\n",
                                            .mode = S_IFREG | 0711 });
                tar_add(writer, &(TarSpec){ .name = "./th\xc3\xa9/file", .data = "x" });
                tar_add(writer, &(TarSpec){ .name = "./bin/link",
                                            .symlink = "run",
                                            .mode = S_IFLNK | 0777 });
                tar_add(writer, &(TarSpec){ .name = "./other/hard",
                                            .hardlink = "./bin/run",
                                            .mode = S_IFREG | 0711 });
                tar_end(writer);

                unpack_well(&archive, folder.fd, "tar", 6, 11);
                check_file(folder.fd, "bin/run", "#!/bin/sh\n", 0755);
                check_file(folder.fd, "th\xc3\xa9/file", "x", 0644);
                check_link(folder.fd, "bin/link", "run");
                assert_int_equal(fstatat(folder.fd, "bin/run", &a, 0), 0);
                assert_int_equal(fstatat(folder.fd, "other/hard", &b, 0), 0);
                assert_int_equal(a.st_ino, b.st_ino);
                assert_int_equal(a.st_mtime, TIME);
                assert_int_equal(time_of(folder.fd, "bin"), TIME);
        }
}

static void test_tar_long_names(void **state) {
        const int formats[] = { ARCHIVE_FORMAT_TAR_GNUTAR, ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE };
        char name[301];

        (void) state;
        for (size_t i = 0; i < sizeof(name) - 1; i++)
                name[i] = i % 60 == 59 ? '/' : 'n';
        name[299] = 'n';
        name[300] = '\0';
        for (size_t i = 0; i < ELEMENTS(formats); i++) {
                _cleanup_(folder_done) Folder folder = folder_new();
                _cleanup_(buf_done) Buf archive = BUF_INIT(ARCHIVES_MAX_BYTES);
                struct archive *writer = tar_begin(&archive, ARCHIVE_FILTER_NONE, formats[i]);

                tar_add(writer, &(TarSpec){ .name = name, .data = "x" });
                tar_end(writer);
                unpack_well(&archive, folder.fd, "tar", 1, 1);
                check_file(folder.fd, name, "x", 0644);
        }
}

/* A file that begins with data and ends in a hole. */
static void test_tar_sparse(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(buf_done) Buf archive = BUF_INIT(ARCHIVES_MAX_BYTES);
        struct archive *writer =
                tar_begin(&archive, ARCHIVE_FILTER_NONE, ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE);
        struct archive_entry *entry = archive_entry_new();
        struct stat st;

        (void) state;
        archive_entry_copy_pathname(entry, "sparse");
        archive_entry_set_mode(entry, S_IFREG | 0644);
        archive_entry_set_size(entry, 1 << 20);
        archive_entry_sparse_add_entry(entry, 4096, 7);
        assert_int_equal(archive_write_header(writer, entry), ARCHIVE_OK);
        assert_true(archive_write_data(writer, (const char[8192]){ [4096] = 'c' }, 8192) >= 0);
        archive_entry_free(entry);
        tar_end(writer);

        unpack_well(&archive, folder.fd, "tar", 1, 1 << 20);
        assert_int_equal(fstatat(folder.fd, "sparse", &st, 0), 0);
        assert_int_equal(st.st_size, 1 << 20);
        assert_true(st.st_blocks < 2048);
}

static void test_not_empty(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(buf_done) Buf archive = BUF_INIT(4096);
        _cleanup_(error_freep) Error *error = NULL;
        TaskUnpacked done = { 0 };

        (void) state;
        assert_int_equal(file_write_at(folder.fd, "a", "mine", 4, 0644, 0), 0);
        zip_one(&archive, &(ZipSpec){ .name = "a", .data = "theirs" });
        assert_int_equal(unpack(&archive, folder.fd, (TaskUnpack){ 0 }, &done, &error), -EEXIST);
        assert_non_null(strstr(error_text(error), "\"a\""));
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
                cmocka_unit_test(test_zip),
                cmocka_unit_test(test_zip_threads),
                cmocka_unit_test(test_zip_threads_fail),
                cmocka_unit_test(test_jar),
                cmocka_unit_test(test_tar_filters),
                cmocka_unit_test(test_tar_long_names),
                cmocka_unit_test(test_tar_sparse),
                cmocka_unit_test(test_not_empty),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_zip_no_space),
                cmocka_unit_test(test_zip_no_inodes),
                cmocka_unit_test(test_tar_no_space),
        };

        (void) setlocale(LC_CTYPE, "C.UTF-8");
        return cmocka_run_group_tests_name("unpack", tests, NULL, NULL);
}
