#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "../../agent/store/folder.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"

/* A store's folder of its own for each test. */
typedef struct Place {
        char path[64];
        int fd;
} Place;

static int remove_entry(const char *path, _unused_ const struct stat *st, _unused_ int type,
                        _unused_ struct FTW *ftw) {
        return remove(path);
}

static int setup(void **state) {
        Place *p = calloc(1, sizeof(Place));

        (void) snprintf(p->path, sizeof(p->path), "/tmp/test-folder.XXXXXX");
        if (!mkdtemp(p->path))
                return -1;
        p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        *state = p;
        return p->fd < 0 ? -1 : 0;
}

static int teardown(void **state) {
        Place *p = *state;

        close(p->fd);
        (void) nftw(p->path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        free(p);
        return 0;
}

/* Writes without looking; the ETag that it has then. */
static void put(const Place *p, const char *key, const char *text,
                char ret_etag[FOLDER_ETAG_SIZE]) {
        _cleanup_close_ int fd = -EBADF;
        char name[32];

        assert_int_equal(folder_temp_new(p->fd, &fd, name), 0);
        assert_int_equal(file_write_all(fd, text, strlen(text)), 0);
        assert_int_equal(folder_etag(fd, ret_etag, NULL), 0);
        assert_int_equal(folder_commit(p->fd, name, key), 0);
}

static void test_etag_goes_with_the_document(void **state) {
        const Place *p = *state;
        char written[FOLDER_ETAG_SIZE], read[FOLDER_ETAG_SIZE];
        _cleanup_close_ int fd = -EBADF;
        uint64_t size;

        /* Made of the temporary, and the same once it is in its place. */
        put(p, "a/b/c", "text", written);
        assert_int_equal(folder_open(p->fd, "a/b/c", &fd), 0);
        assert_int_equal(folder_etag(fd, read, &size), 0);
        assert_string_equal(written, read);
        assert_int_equal(size, 4);
        assert_true(strlen(read) < FOLDER_ETAG_SIZE - 1);
}

/* The content counts even where inode, size and time are the same. */
static void test_etag_covers_content(void **state) {
        _cleanup_close_ int fd = memfd_create("x", MFD_CLOEXEC);
        const struct timespec then[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
        char first[FOLDER_ETAG_SIZE], second[FOLDER_ETAG_SIZE];

        (void) state;
        assert_int_equal(ftruncate(fd, LIMIT_DOCUMENT_BYTES), 0);
        assert_int_equal(futimens(fd, then), 0);
        assert_int_equal(folder_etag(fd, first, NULL), 0);
        assert_int_equal(pwrite(fd, "x", 1, LIMIT_DOCUMENT_BYTES - 1), 1);
        assert_int_equal(futimens(fd, then), 0);
        assert_int_equal(folder_etag(fd, second, NULL), 0);
        assert_string_not_equal(first, second);
        assert_string_equal(strchr(first, '-'), strchr(second, '-'));
}

static void test_check(void **state) {
        const Place *p = *state;
        char etag[FOLDER_ETAG_SIZE];

        assert_int_equal(folder_check(p->fd, "a", STORE_ALWAYS, NULL), 0);
        assert_int_equal(folder_check(p->fd, "a", STORE_IF_ABSENT, NULL), 0);
        assert_int_equal(folder_check(p->fd, "a", STORE_IF_MATCHES, "x"), STORE_REFUSED);
        put(p, "a", "1", etag);
        assert_int_equal(folder_check(p->fd, "a", STORE_ALWAYS, NULL), 0);
        assert_int_equal(folder_check(p->fd, "a", STORE_IF_ABSENT, NULL), STORE_REFUSED);
        assert_int_equal(folder_check(p->fd, "a", STORE_IF_MATCHES, etag), 0);
        put(p, "a", "2", etag);
        assert_int_equal(folder_check(p->fd, "a", STORE_IF_MATCHES, "x"), STORE_REFUSED);
        assert_int_equal(folder_check(p->fd, "a", STORE_IF_MATCHES, etag), 0);
}

static void test_lock_excludes(void **state) {
        const Place *p = *state;
        int first = -EBADF, second = -EBADF;

        assert_int_equal(folder_lock(p->fd, &first), 0);
        assert_int_equal(folder_lock(p->fd, &second), -EAGAIN);
        close(first);
        assert_int_equal(folder_lock(p->fd, &second), 0);
        close(second);
}

static void test_sweep_leaves_the_living(void **state) {
        const Place *p = *state;
        char mine[32], dead[32];
        int fd = -EBADF, gone = -EBADF;

        assert_int_equal(folder_sweep(p->fd), 0);
        assert_int_equal(folder_temp_new(p->fd, &fd, mine), 0);
        assert_int_equal(folder_temp_new(p->fd, &gone, dead), 0);
        assert_string_not_equal(mine, dead);
        close(gone);
        assert_int_equal(folder_sweep(p->fd), 1);
        assert_int_equal(folder_sweep(p->fd), 0);
        assert_int_equal(folder_commit(p->fd, dead, "a"), -ENOENT);
        assert_int_equal(folder_commit(p->fd, mine, "a"), 0);
        close(fd);
        assert_int_equal(folder_sweep(p->fd), 0);
}

static void test_remove_stops_at_what_is_left(void **state) {
        const Place *p = *state;
        char etag[FOLDER_ETAG_SIZE];
        int fd;

        put(p, "a/b/c/d", "1", etag);
        put(p, "a/e", "2", etag);
        assert_int_equal(folder_remove(p->fd, "a/b/c/x"), STORE_ABSENT);
        assert_int_equal(folder_remove(p->fd, "a/b/c"), STORE_ABSENT);
        assert_int_equal(folder_remove(p->fd, "a/b/c/d"), 0);
        assert_int_equal(faccessat(p->fd, "a/b", F_OK, 0), -1);
        assert_int_equal(folder_open(p->fd, "a/e", &fd), 0);
        close(fd);
        assert_int_equal(folder_remove(p->fd, "a/e"), 0);
        assert_int_equal(faccessat(p->fd, "a", F_OK, 0), -1);
}

static void test_links_lead_nowhere(void **state) {
        const Place *p = *state;
        char etag[FOLDER_ETAG_SIZE], name[32];
        _cleanup_close_ int temp = -EBADF;
        FolderList list = { 0 };
        int fd = -EBADF;

        put(p, "real/a", "1", etag);
        assert_int_equal(symlinkat("real", p->fd, "link"), 0);
        assert_int_equal(symlinkat("a", p->fd, "real/b"), 0);
        assert_int_equal(folder_open(p->fd, "link/a", &fd), STORE_ABSENT);
        assert_int_equal(folder_open(p->fd, "real/b", &fd), STORE_ABSENT);
        assert_int_equal(folder_temp_new(p->fd, &temp, name), 0);
        assert_true(folder_commit(p->fd, name, "link/c") < 0);
        folder_temp_remove(p->fd, name);
        assert_int_equal(folder_list(p->fd, "", NULL, 100, &list), 0);
        assert_int_equal(list.n, 1);
        assert_string_equal(list.entries[0].key, "real/a");
        folder_list_done(&list);
}

static void test_list_pages(void **state) {
        const Place *p = *state;
        static const char *const keys[] = { "a-b", "a/x", "a/y/z", "a0" };
        char etag[FOLDER_ETAG_SIZE];

        for (size_t i = 0; i < ELEMENTS(keys); i++)
                put(p, keys[i], "1", etag);
        /* Every page size, begun behind every key, gives the same sequence. */
        for (size_t max = 1; max <= ELEMENTS(keys); max++)
                for (size_t at = 0; at <= ELEMENTS(keys); at++) {
                        FolderList list = { 0 };

                        assert_int_equal(
                                folder_list(p->fd, "a", at ? keys[at - 1] : NULL, max, &list), 0);
                        assert_int_equal(list.n, MIN(max, ELEMENTS(keys) - at));
                        assert_int_equal(list.more, at + list.n < ELEMENTS(keys));
                        for (size_t i = 0; i < list.n; i++)
                                assert_string_equal(list.entries[i].key, keys[at + i]);
                        folder_list_done(&list);
                }
}

static void test_copy(void **state) {
        _cleanup_close_ int in = memfd_create("in", MFD_CLOEXEC),
                            out = memfd_create("out", MFD_CLOEXEC);
        char text[8] = "";

        (void) state;
        assert_int_equal(file_write_all(in, "0123456789", 10), 0);
        assert_int_equal(folder_copy(in, 4, out, 2, 100), 6);
        assert_int_equal(folder_copy(in, 10, out, 8, 100), 0);
        assert_int_equal(lseek(out, 0, SEEK_END), 8);
        assert_int_equal(pread(out, text, 6, 2), 6);
        assert_string_equal(text, "456789");
}

int main(void) {
#define ON_PLACE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = {
                ON_PLACE(test_etag_goes_with_the_document),
                cmocka_unit_test(test_etag_covers_content),
                ON_PLACE(test_check),
                ON_PLACE(test_lock_excludes),
                ON_PLACE(test_sweep_leaves_the_living),
                ON_PLACE(test_remove_stops_at_what_is_left),
                ON_PLACE(test_links_lead_nowhere),
                ON_PLACE(test_list_pages),
                cmocka_unit_test(test_copy),
        };

        return cmocka_run_group_tests_name("folder", tests, NULL, NULL);
}
