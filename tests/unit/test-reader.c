/* libarchive with our words. */

#include <errno.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../agent/bundle/reader.h"
#include "archives.h"
#include "base/str.h"

static int formats(Archive *archive) {
        if (archive_read_support_format_tar(archive) != ARCHIVE_OK)
                return ARCHIVE_FAILED;
        return archive_read_support_format_zip_seekable(archive);
}

static int no_formats(Archive *archive) {
        (void) archive;
        return ARCHIVE_OK;
}

static void test_claims(void **state) {
        _cleanup_(buf_done) Buf bytes = BUF_INIT(1 << 20);
        struct archive *writer = tar_begin(&bytes, ARCHIVE_FILTER_NONE, 0);
        _cleanup_(reader_freep) Archive *archive = NULL;
        ArchiveEntry *entry;
        Unpack unpack = { 0 };
        EntryClaim claim;

        (void) state;
        tar_add(writer, &(TarSpec){ .name = "file", .data = "content", .mode = S_IFREG | 0755 });
        tar_add(writer, &(TarSpec){ .name = "soft", .symlink = "file", .mode = S_IFLNK | 0777 });
        tar_add(writer, &(TarSpec){ .name = "hard", .hardlink = "file" });
        tar_end(writer);
        unpack.data = bytes.data;
        unpack.size = bytes.size;

        assert_int_equal(reader_open(&unpack, formats, &archive, NULL), 0);
        assert_int_equal(reader_next(archive, &entry, NULL), 1);
        claim = reader_claim(entry);
        assert_string_equal(claim.name, "file");
        assert_int_equal(claim.mode, S_IFREG | 0755);
        assert_int_equal(claim.size, 7);
        assert_int_equal(claim.mtime.tv_sec, 1700000000);
        assert_null(claim.symlink);
        assert_null(claim.hardlink);
        assert_false(claim.encrypted);
        assert_int_equal(reader_next(archive, &entry, NULL), 1);
        assert_string_equal(reader_claim(entry).symlink, "file");
        assert_int_equal(reader_next(archive, &entry, NULL), 1);
        assert_string_equal(reader_claim(entry).hardlink, "file");
        assert_int_equal(reader_next(archive, &entry, NULL), 0);
}

/* What libarchive only warns of is refused, with the name. */
static void test_warning(void **state) {
        _cleanup_(buf_done) Buf bytes = BUF_INIT(4096);
        _cleanup_(reader_freep) Archive *archive = NULL;
        _cleanup_(error_freep) Error *error = NULL;
        ArchiveEntry *entry;
        Unpack unpack = { 0 };

        (void) state;
        zip_one(&bytes, &(ZipSpec){ .name = "torn", .data = "content", .central_out_lie = 1 });
        unpack.data = bytes.data;
        unpack.size = bytes.size;
        assert_int_equal(reader_open(&unpack, formats, &archive, NULL), 0);
        assert_int_equal(reader_next(archive, &entry, &error), -EBADMSG);
        assert_true(str_has_prefix(error_text(error), "\"torn\": it is damaged or not honest: "));
}

static void test_words(void **state) {
        _cleanup_(reader_freep) Archive *archive = archive_read_new();
        _cleanup_(error_freep) Error *error = NULL;

        (void) state;
        archive_set_error(archive, EINVAL, "with a line\033 end\n");
        assert_int_equal(reader_fault(archive, NULL, "it broke", &error), -EBADMSG);
        assert_string_equal(error_text(error), "the archive: it broke: with a line? end");
        error = error_free(error);
        archive_set_error(archive, ENOMEM, "no memory");
        assert_int_equal(reader_fault(archive, "a", "it broke", &error), -ENOMEM);
        assert_string_equal(error_text(error), "\"a\": it broke: no memory");
}

static void test_no_format(void **state) {
        Unpack unpack = { .data = "text", .size = 4 };
        _cleanup_(reader_freep) Archive *archive = NULL;
        _cleanup_(error_freep) Error *error = NULL;

        (void) state;
        assert_int_equal(reader_open(&unpack, no_formats, &archive, &error), -EBADMSG);
        assert_null(archive);
        assert_non_null(error);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_claims),
                cmocka_unit_test(test_warning),
                cmocka_unit_test(test_words),
                cmocka_unit_test(test_no_format),
        };

        (void) setlocale(LC_CTYPE, "C.UTF-8");
        return cmocka_run_group_tests_name("reader", tests, NULL, NULL);
}
