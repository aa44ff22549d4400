/* What an archive may hold, without an archive: names, what stands beside what, links. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../agent/bundle/entry.h"
#include "base/macro.h"

static EntrySet *set_new(void) {
        EntrySet *set = calloc(1, sizeof(*set));

        assert_non_null(set);
        entry_set_init(set, NULL);
        return set;
}

static void set_free(EntrySet **set) {
        entry_set_done(*set);
        free(*set);
}

static int add(EntrySet *set, const char *name, mode_t mode, const char *target, int64_t size,
               Error **reterr) {
        EntryClaim claim = { .name = name, .mode = mode, .size = size };

        if (S_ISLNK(mode))
                claim.symlink = target;
        else
                claim.hardlink = target;
        return entry_set_add(set, &claim, NULL, reterr);
}

static int add_file(EntrySet *set, const char *name) {
        return add(set, name, S_IFREG | 0644, NULL, 1, NULL);
}

static void test_names(void **state) {
        const struct {
                const char *name, *path; /* path NULL: refused */
        } rows[] = {
                { "a", "a" },
                { "a/b.c", "a/b.c" },
                { "./a", "a" },
                { "././a", "a" },
                { "...", "..." },
                { "..a/b..", "..a/b.." },
                { " a ", " a " },
                { "-rf", "-rf" },
                { "caf\xc3\xa9", "caf\xc3\xa9" },
                { "a/", NULL },
                { "/a", NULL },
                { "./", NULL },
                { "./..", NULL },
                { "a/..", NULL },
                { "../a", NULL },
                { "a/../b", NULL },
                { "a//b", NULL },
                { ".//a", NULL },
                { "a/.", NULL },
                { "a\\b", NULL },
                { "a\x7f", NULL },
                { "a\xc2\x85", NULL },    /* next line, of C1 */
                { "\xed\xa0\x80", NULL }, /* half of a surrogate */
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(set_free) EntrySet *set = set_new();
                int r = add_file(set, rows[i].name);

                if (r != (rows[i].path ? 0 : -EBADMSG))
                        fail_msg("\"%s\": %d", rows[i].name, r);
                if (rows[i].path)
                        assert_non_null(entry_set_find(set, rows[i].path));
        }
}

static void test_root(void **state) {
        _cleanup_(set_free) EntrySet *set = set_new();
        const Entry *entry = NULL;

        (void) state;
        assert_int_equal(add(set, "./", S_IFDIR | 0755, NULL, 0, NULL), 0);
        assert_int_equal(add(set, ".", S_IFDIR | 0755, NULL, 0, NULL), 0);
        assert_int_equal(
                entry_set_add(set, &(EntryClaim){ .name = "./", .mode = S_IFDIR }, &entry, NULL),
                0);
        assert_null(entry);
        assert_int_equal(set->n_entries, 0);
        assert_int_equal(set->n_claims, 3);
        assert_int_equal(add_file(set, "."), -EBADMSG);
}

/* Folders that nobody named stand before what is in them, and may be named afterwards, once. */
static void test_implied(void **state) {
        _cleanup_(set_free) EntrySet *set = set_new();
        const char *order[] = { "a", "a/b", "a/b/c", "a/d" };

        (void) state;
        assert_int_equal(add_file(set, "a/b/c"), 0);
        assert_int_equal(add_file(set, "a/d"), 0);
        assert_int_equal(set->n_entries, ELEMENTS(order));
        for (size_t i = 0; i < ELEMENTS(order); i++)
                assert_string_equal(set->entries[i]->path, order[i]);
        assert_true(entry_set_find(set, "a/b")->implied);
        assert_int_equal(add(set, "a/b/", S_IFDIR | 0755, NULL, 0, NULL), 0);
        assert_false(entry_set_find(set, "a/b")->implied);
        assert_int_equal(add(set, "a/b/", S_IFDIR | 0755, NULL, 0, NULL), -EBADMSG);
        assert_int_equal(add_file(set, "a/b"), -EBADMSG);
        assert_int_equal(add_file(set, "a/d/e"), -EBADMSG);
}

/* One that begins like the folder before is not in it. */
static void test_like_the_last_folder(void **state) {
        _cleanup_(set_free) EntrySet *set = set_new();

        (void) state;
        assert_int_equal(add_file(set, "lib/a"), 0);
        assert_int_equal(add_file(set, "libx/a"), 0);
        assert_int_equal(add_file(set, "li/a"), 0);
        assert_non_null(entry_set_find(set, "libx"));
        assert_non_null(entry_set_find(set, "li"));
        assert_int_equal(set->n_entries, 6);
}

static void test_modes(void **state) {
        _cleanup_(set_free) EntrySet *set = set_new();

        (void) state;
        assert_int_equal(add(set, "x", S_IFREG | 0700, NULL, 0, NULL), 0);
        assert_int_equal(add(set, "y", S_IFREG | 0677, NULL, 0, NULL), 0);
        assert_int_equal(add(set, ".platform/hooks/prebuild/z", S_IFREG | 0600, NULL, 0, NULL), 0);
        assert_int_equal(add(set, ".platform/hooksx/z", S_IFREG | 0600, NULL, 0, NULL), 0);
        assert_int_equal(add(set, "sticky", S_IFDIR | 01777, NULL, 0, NULL), 0);
        assert_int_equal(add(set, "group", S_IFDIR | 02775, NULL, 0, NULL), 0);
        assert_true(entry_set_find(set, "x")->executable);
        assert_false(entry_set_find(set, "y")->executable);
        assert_true(entry_set_find(set, ".platform/hooks/prebuild/z")->executable);
        assert_false(entry_set_find(set, ".platform/hooksx/z")->executable);
        assert_int_equal(add(set, "u", S_IFREG | 04755, NULL, 0, NULL), -EBADMSG);
        assert_int_equal(add(set, "v", S_IFREG | 02755, NULL, 0, NULL), -EBADMSG);
        assert_int_equal(add(set, "w", S_IFDIR | 04755, NULL, 0, NULL), -EBADMSG);
        assert_int_equal(add(set, "n", 0, NULL, 0, NULL), -EBADMSG);
        assert_int_equal(add(set, "s", S_IFREG, NULL, -1, NULL), -EBADMSG);
}

static void test_links(void **state) {
        const struct {
                const char *path, *target;
                int code;
        } rows[] = {
                { "a", "b", 0 },
                { "a", ".", 0 },
                { "a/b", "..", 0 },
                { "a", "..", -EBADMSG },
                { "a/b", "../..", -EBADMSG },
                { "a/b", "../c/../d", 0 },
                { "a/b", "x//y/./z", 0 },
                { "a/b", "../../in/x", -EBADMSG },
                { "a", "a", -EBADMSG },
                { "a/b", "../a/b/c", -EBADMSG },
                { "a", "b/../../c", -EBADMSG },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(set_free) EntrySet *set = set_new();
                int r;

                assert_int_equal(add(set, rows[i].path, S_IFLNK | 0777, rows[i].target, 0, NULL),
                                 0);
                r = entry_set_check_links(set, NULL);
                if (r != rows[i].code)
                        fail_msg("%s -> %s: %d", rows[i].path, rows[i].target, r);
        }
}

/* Links through links: each of them as the kernel would go, whatever came first. */
static void test_links_through_links(void **state) {
        _cleanup_(set_free) EntrySet *good = set_new(), *bad = set_new();
        _cleanup_(error_freep) Error *error = NULL;

        (void) state;
        assert_int_equal(add(good, "up", S_IFLNK, "a/b/c", 0, NULL), 0);
        assert_int_equal(add_file(good, "a/b/c/file"), 0);
        assert_int_equal(add(good, "x", S_IFLNK, "up/../../..", 0, NULL), 0);
        assert_int_equal(entry_set_check_links(good, NULL), 0);

        assert_int_equal(add(bad, "x", S_IFLNK, "a/b/top/../y", 0, NULL), 0);
        assert_int_equal(add(bad, "a/b/top", S_IFLNK, "../..", 0, NULL), 0);
        assert_int_equal(entry_set_check_links(bad, &error), -EBADMSG);
        assert_non_null(strstr(error_text(error), "\"x\""));
}

/* Links that double at each step take no more time than is given to all of them. */
static void test_links_take_time(void **state) {
        _cleanup_(set_free) EntrySet *set = set_new();
        char name[16], target[512] = "";

        (void) state;
        for (int i = 0; i < 100; i++)
                memcpy(target + 4 * i, "a/..", 4), target[4 * i + 4] = '/';
        target[400] = '\0';
        for (int i = 0; i < 50000; i++) {
                (void) snprintf(name, sizeof(name), "l%d", i);
                assert_int_equal(add(set, name, S_IFLNK, target, 0, NULL), 0);
        }
        assert_int_equal(entry_set_check_links(set, NULL), -EFBIG);
}

static void test_hard_links(void **state) {
        _cleanup_(set_free) EntrySet *set = set_new();

        (void) state;
        assert_int_equal(add_file(set, "a/file"), 0);
        assert_int_equal(add(set, "one", S_IFREG, "a/file", 0, NULL), 0);
        assert_int_equal(add(set, "two", S_IFREG, "./one", 0, NULL), 0);
        assert_string_equal(entry_set_find(set, "two")->target, "one");
        assert_int_equal(add(set, "three", S_IFREG, "a", 0, NULL), -EBADMSG);
        assert_int_equal(add(set, "four", S_IFREG, "", 0, NULL), -EBADMSG);
        assert_int_equal(add(set, "five", S_IFREG, "a/../a/file", 0, NULL), -EBADMSG);
}

static void test_totals(void **state) {
        _cleanup_(set_free) EntrySet *set = set_new();

        (void) state;
        entry_set_init(set, &(TaskUnpack){ .max_bytes = 10, .max_entries = 3 });
        assert_int_equal(add(set, "a", S_IFREG, NULL, 10, NULL), 0);
        assert_int_equal(add(set, "b", S_IFREG, NULL, 1, NULL), -EFBIG);
        assert_int_equal(add(set, "c/d", S_IFREG, NULL, 0, NULL), -EFBIG);
        assert_int_equal(set->bytes, 10);
        entry_set_done(set);
        entry_set_init(set, &(TaskUnpack){ .max_bytes = UINT64_MAX });
        assert_int_equal(add(set, "a", S_IFREG, NULL, INT64_MAX, NULL), 0);
        assert_int_equal(add(set, "b", S_IFREG, NULL, INT64_MAX, NULL), 0);
        assert_int_equal(add(set, "c", S_IFREG, NULL, INT64_MAX, NULL), -EFBIG);
}

static void test_ratio(void **state) {
        const uint64_t mib = UINT64_C(1) << 20;

        (void) state;
        assert_int_equal(entry_check_ratio("x", 64 * mib, 1, NULL), 0);
        assert_int_equal(entry_check_ratio("x", 64 * mib + 1, 1, NULL), -EFBIG);
        assert_int_equal(entry_check_ratio("x", 200 * mib, mib, NULL), 0);
        assert_int_equal(entry_check_ratio("x", 201 * mib, mib, NULL), -EFBIG);
        assert_int_equal(entry_check_ratio("x", UINT64_MAX, UINT64_MAX / 100, NULL), 0);
}

static void test_quote(void **state) {
        _cleanup_free_ char *plain = entry_quote("a b"), *wild = entry_quote("a\nb\033"),
                            *cut = NULL;
        char name[400];

        (void) state;
        memset(name, 'n', sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';
        cut = entry_quote(name);
        assert_string_equal(plain, "\"a b\"");
        assert_string_equal(wild, "\"a?b?\"");
        assert_int_equal(strlen(cut), 205);
        assert_non_null(strstr(cut, "n...\""));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_root),
                cmocka_unit_test(test_implied),
                cmocka_unit_test(test_like_the_last_folder),
                cmocka_unit_test(test_modes),
                cmocka_unit_test(test_links),
                cmocka_unit_test(test_links_through_links),
                cmocka_unit_test(test_links_take_time),
                cmocka_unit_test(test_hard_links),
                cmocka_unit_test(test_totals),
                cmocka_unit_test(test_ratio),
                cmocka_unit_test(test_quote),
        };

        return cmocka_run_group_tests_name("entry", tests, NULL, NULL);
}
