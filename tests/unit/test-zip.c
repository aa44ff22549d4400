/* The look at a zip's directory. What it refuses is for the most part in test-hostile.c. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../agent/bundle/zip.h"
#include "archives.h"

static void make_three(Buf *ret) {
        Zip zip;

        zip_begin(&zip);
        zip_add(&zip, &(ZipSpec){ .name = "b/file", .data = "content" });
        zip_add(&zip, &(ZipSpec){ .name = "a", .data = "x" });
        zip_add(&zip, &(ZipSpec){ .name = "c", .data = "longer content" });
        zip_end(&zip, 0, ret);
}

static void test_read(void **state) {
        _cleanup_(buf_done) Buf archive = BUF_INIT(4096);
        _cleanup_(zip_directory_done) ZipDirectory directory = { 0 };

        (void) state;
        make_three(&archive);
        assert_int_equal(zip_directory_read(archive.data, archive.size, 3, &directory, NULL), 0);
        assert_int_equal(directory.n_items, 3);
        assert_int_equal(directory.shift, 0);
        assert_int_equal(directory.items[0].offset, 0);
        assert_int_equal(directory.items[0].bytes_in, 7);
        assert_int_equal(directory.items[0].bytes_out, 7);
        assert_int_equal(directory.items[0].checksum, test_crc32("content", 7));
        assert_memory_equal(directory.items[0].name, "b/file", 6);
        assert_memory_equal(directory.items[2].record, "PK\001\002", 4);
        assert_true(zip_directory_has(&directory, "a", false));
        assert_true(zip_directory_has(&directory, "b/", true));
        assert_false(zip_directory_has(&directory, "b/", false));
        assert_false(zip_directory_has(&directory, "b/filex", true));
        assert_false(zip_directory_has(&directory, "d", false));
}

static void test_in_front(void **state) {
        _cleanup_(buf_done) Buf plain = BUF_INIT(4096), archive = BUF_INIT(4096);
        _cleanup_(zip_directory_done) ZipDirectory directory = { 0 };

        (void) state;
        make_three(&plain);
        put_bytes(&archive, "#!/bin/sh\n", 10);
        put_bytes(&archive, plain.data, plain.size);
        assert_int_equal(zip_directory_read(archive.data, archive.size, 3, &directory, NULL), 0);
        assert_int_equal(directory.shift, 10);
        assert_int_equal(directory.items[0].offset, 10);
}

static void test_too_many(void **state) {
        _cleanup_(buf_done) Buf archive = BUF_INIT(4096);
        ZipDirectory directory = { 0 };

        (void) state;
        make_three(&archive);
        assert_int_equal(zip_directory_read(archive.data, archive.size, 2, &directory, NULL),
                         -EFBIG);
        assert_null(directory.items);
}

/* Cut at each byte, and with each byte changed: an answer, and never an item that leads out of the
 * file. */
static void test_each_byte(void **state) {
        _cleanup_(buf_done) Buf archive = BUF_INIT(4096);

        (void) state;
        make_three(&archive);
        for (size_t size = 0; size < archive.size; size++) {
                _cleanup_free_ void *copy = calloc(1, size + 1);
                ZipDirectory directory = { 0 };

                memcpy(copy, archive.data, size);
                assert_int_equal(zip_directory_read(copy, size, 10, &directory, NULL), -EBADMSG);
        }
        for (size_t at = 0; at < archive.size; at++) {
                for (unsigned bits = 1; bits < 256; bits = bits * 2 + 1) {
                        ZipDirectory directory = { 0 };
                        int r;

                        archive.data[at] = (char) (archive.data[at] ^ (int) bits);
                        r = zip_directory_read(archive.data, archive.size, 10, &directory, NULL);
                        assert_true(r == 0 || r == -EBADMSG || r == -EFBIG);
                        for (size_t i = 0; i < directory.n_items; i++)
                                assert_true(directory.items[i].offset + 30 +
                                                    directory.items[i].bytes_in <=
                                            archive.size);
                        zip_directory_done(&directory);
                        archive.data[at] = (char) (archive.data[at] ^ (int) bits);
                }
        }
}

/* A directory of some of the records in the place of the first: it is one. */
static void test_made_end(void **state) {
        _cleanup_(buf_done) Buf archive = BUF_INIT(4096), part = BUF_INIT(4096);
        _cleanup_(zip_directory_done) ZipDirectory directory = { 0 };
        struct archive *reader = archive_read_new();
        uint8_t end[ZIP_MADE_END_BYTES];
        struct archive_entry *entry;

        (void) state;
        make_three(&archive);
        assert_int_equal(zip_directory_read(archive.data, archive.size, 3, &directory, NULL), 0);
        put_bytes(&part, archive.data, directory.begin);
        put_bytes(&part, directory.items[1].record, directory.items[1].record_size);
        zip_directory_make_end(&directory, directory.items[1].record_size, end);
        put_bytes(&part, end, sizeof(end));

        assert_int_equal(archive_read_support_format_zip_seekable(reader), ARCHIVE_OK);
        assert_int_equal(archive_read_open_memory(reader, part.data, part.size), ARCHIVE_OK);
        assert_int_equal(archive_read_next_header(reader, &entry), ARCHIVE_OK);
        assert_string_equal(archive_entry_pathname(entry), "a");
        assert_int_equal(archive_read_next_header(reader, &entry), ARCHIVE_EOF);
        archive_read_free(reader);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_read),     cmocka_unit_test(test_in_front),
                cmocka_unit_test(test_too_many), cmocka_unit_test(test_each_byte),
                cmocka_unit_test(test_made_end),
        };

        return cmocka_run_group_tests_name("zip", tests, NULL, NULL);
}
