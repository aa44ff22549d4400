/* Tars as people make them. What is refused is in test-hostile.c. */

#include <errno.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "unpacking.h"

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

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_tar_filters),
                cmocka_unit_test(test_tar_long_names),
                cmocka_unit_test(test_tar_sparse),
        };

        (void) setlocale(LC_CTYPE, "C.UTF-8");
        return cmocka_run_group_tests_name("untar", tests, NULL, NULL);
}
