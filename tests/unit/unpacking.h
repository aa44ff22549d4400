#pragma once

/* Unpacking for tests: an archive in memory into a folder, and looks at what came of it. Include
 * cmocka.h first. */

#include "archives.h"
#include "base/file.h"
#include "bundle/bundle.h"
#include "folder.h"

/* What tar_add() gives to each entry. */
#define TIME 1700000000

static inline int unpack(const Buf *archive, int dir_fd, TaskUnpack how, TaskUnpacked *ret,
                         Error **reterr) {
        _cleanup_close_ int fd = file_memfd("archive", archive->data, archive->size);

        assert_true(fd >= 0);
        return bundle_unpack(fd, dir_fd, &how, ret, reterr);
}

/* It works, and this is what came of it. */
static inline void unpack_well(const Buf *archive, int dir_fd, const char *format, uint64_t entries,
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

static inline void check_file(int dir_fd, const char *path, const char *content, mode_t mode) {
        _cleanup_(buf_done) Buf text = BUF_INIT(1 << 20);
        struct stat st;

        assert_int_equal(file_read_at(dir_fd, path, &text), 0);
        assert_string_equal(buf_str(&text), content);
        assert_int_equal(fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(st.st_mode, S_IFREG | mode);
}

static inline void check_folder(int dir_fd, const char *path) {
        struct stat st;

        assert_int_equal(fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(st.st_mode, S_IFDIR | 0755);
}

static inline void check_link(int dir_fd, const char *path, const char *target) {
        char found[256] = "";

        assert_true(readlinkat(dir_fd, path, found, sizeof(found) - 1) > 0);
        assert_string_equal(found, target);
}

static inline time_t time_of(int dir_fd, const char *path) {
        struct stat st;

        assert_int_equal(fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
        return st.st_mtime;
}
