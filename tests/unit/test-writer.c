/* What puts entries on disk, given sets that were believed: it goes through no link all the same.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../agent/bundle/writer.h"
#include "base/file.h"
#include "folder.h"

typedef struct Fixture {
        EntrySet set;
        Folder folder;
        Writer writer;
} Fixture;

static void fixture_init(Fixture *f) {
        entry_set_init(&f->set, NULL);
        f->folder = folder_new();
        writer_init(&f->writer, f->folder.fd, &f->set);
}

static void fixture_done(Fixture *f) {
        writer_done(&f->writer);
        folder_done(&f->folder);
        entry_set_done(&f->set);
}

static Entry *add(Fixture *f, const char *name, mode_t mode, const char *target) {
        EntryClaim claim = { .name = name, .mode = mode, .mtime = { .tv_sec = 1700000000 } };
        const Entry *entry = NULL;

        if (S_ISLNK(mode))
                claim.symlink = target;
        else
                claim.hardlink = target;
        assert_int_equal(entry_set_add(&f->set, &claim, &entry, NULL), 0);
        return f->set.entries[f->set.n_entries - 1];
}

static int make_file(Fixture *f, const Entry *entry, const char *text, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = writer_open_file(&f->writer, entry, &fd, reterr);
        if (r < 0)
                return r;
        assert_int_equal(writer_put(fd, entry, text, strlen(text), 0, reterr), 0);
        return writer_end_file(fd, entry, false, reterr);
}

static void test_make(void **state) {
        _cleanup_(fixture_done) Fixture f;
        struct stat st;

        (void) state;
        fixture_init(&f);
        assert_int_equal(writer_check_empty(f.folder.fd, NULL), 0);
        assert_int_equal(writer_make_folder(&f.writer, add(&f, "a", S_IFDIR, NULL), NULL), 0);
        assert_int_equal(writer_make_folder(&f.writer, add(&f, "a/b", S_IFDIR, NULL), NULL), 0);
        assert_int_equal(make_file(&f, add(&f, "a/b/file", S_IFREG, NULL), "text", NULL), 0);
        assert_int_equal(make_file(&f, add(&f, "run", S_IFREG | 0700, NULL), "text", NULL), 0);
        assert_int_equal(
                writer_make_hardlink(&f.writer, add(&f, "a/hard", S_IFREG, "a/b/file"), NULL), 0);
        assert_int_equal(writer_make_symlink(&f.writer, add(&f, "a/soft", S_IFLNK, "b"), NULL), 0);
        assert_int_equal(writer_set_folder_time(&f.writer, entry_set_find(&f.set, "a"), NULL), 0);
        assert_int_equal(fstatat(f.folder.fd, "a/b/file", &st, 0), 0);
        assert_int_equal(st.st_nlink, 2);
        assert_int_equal(st.st_mtime, 1700000000);
        assert_int_equal(fstatat(f.folder.fd, "run", &st, 0), 0);
        assert_int_equal(st.st_mode & 0111, 0111);
        assert_int_equal(fstatat(f.folder.fd, "a", &st, 0), 0);
        assert_int_equal(st.st_mtime, 1700000000);
        assert_int_equal(fstatat(f.folder.fd, "a/soft/file", &st, 0), 0);
}

/* Somebody put links where folders and files are to be. */
static void test_links_in_the_way(void **state) {
        _cleanup_(fixture_done) Fixture f;
        _cleanup_(folder_done) Folder outside = folder_new();
        _cleanup_(error_freep) Error *error = NULL;

        (void) state;
        fixture_init(&f);
        assert_int_equal(symlinkat(outside.path, f.folder.fd, "door"), 0);
        assert_int_equal(symlinkat("/tmp/tendril-writer-new", f.folder.fd, "window"), 0);
        assert_int_equal(symlinkat(".", f.folder.fd, "inside"), 0);

        assert_int_equal(make_file(&f, add(&f, "door/file", S_IFREG, NULL), "x", &error), -ELOOP);
        assert_non_null(strstr(error_text(error), "\"door/file\""));
        assert_int_equal(make_file(&f, add(&f, "window", S_IFREG, NULL), "x", NULL), -EEXIST);
        assert_int_equal(make_file(&f, add(&f, "inside/file", S_IFREG, NULL), "x", NULL), -ELOOP);
        assert_true(writer_make_folder(&f.writer, add(&f, "door/folder", S_IFDIR, NULL), NULL) < 0);
        assert_true(writer_make_symlink(&f.writer, add(&f, "door/link", S_IFLNK, "x"), NULL) < 0);
        assert_false(file_exists_at(outside.fd, "file"));
        assert_false(file_exists_at(outside.fd, "folder"));
        assert_false(file_exists_at(outside.fd, "link"));
        assert_false(file_exists_at(AT_FDCWD, "/tmp/tendril-writer-new"));
}

static void test_errors(void **state) {
        _cleanup_(fixture_done) Fixture f;
        _cleanup_(error_freep) Error *error = NULL;
        const Entry *file;

        (void) state;
        fixture_init(&f);
        file = add(&f, "a/file", S_IFREG, NULL);
        assert_int_equal(make_file(&f, file, "x", NULL), 0);
        assert_int_equal(make_file(&f, file, "x", &error), -EEXIST);
        error = error_free(error);
        assert_int_equal(writer_check_empty(f.folder.fd, &error), -ENOTEMPTY);
        error = error_free(error);
        assert_int_equal(writer_put(-EBADF, file, "x", 1, 0, &error), -EBADF);
        assert_non_null(strstr(error_text(error), "write \"a/file\""));
        error = error_free(error);
        assert_int_equal(writer_check_space(f.folder.fd, "the archive", UINT64_MAX / 2, 1, &error),
                         -ENOSPC);
        assert_non_null(strstr(error_text(error), "the archive needs"));
        assert_int_equal(writer_check_space(f.folder.fd, "x", 1, 1, NULL), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_make),
                cmocka_unit_test(test_links_in_the_way),
                cmocka_unit_test(test_errors),
        };

        return cmocka_run_group_tests_name("writer", tests, NULL, NULL);
}
