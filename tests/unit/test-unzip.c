/* Zips and jars as people make them. What is refused is in test-hostile.c. */

#include <errno.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "unpacking.h"

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

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_zip),
                cmocka_unit_test(test_zip_threads),
                cmocka_unit_test(test_zip_threads_fail),
                cmocka_unit_test(test_jar),
        };

        (void) setlocale(LC_CTYPE, "C.UTF-8");
        return cmocka_run_group_tests_name("unzip", tests, NULL, NULL);
}
