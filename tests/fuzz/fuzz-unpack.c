/*
 * Archives, into a folder in memory. Whatever they are: nothing comes to stand outside of it,
 * nothing in it is anything but folders, files and links, no mode is SUID, what is told of entries
 * and bytes is true, and a refusal has clean words.
 */

#include "bundle/bundle.h"

#include <locale.h>
#include <string.h>

#include "base/file.h"
#include "base/str.h"
#include "tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_ENTRIES 500
#define MAX_BYTES   (UINT64_C(4) << 20)

static void must(bool holds) {
        if (!holds)
                abort();
}

static int check_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        (void) type;
        (void) ftw;
        must(S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) || S_ISLNK(st->st_mode));
        must(S_ISLNK(st->st_mode) || (st->st_mode & 07000) == 0);
        must(!S_ISREG(st->st_mode) || (uint64_t) st->st_size <= MAX_BYTES);
        must(str_is_utf8(path, strlen(path), true));
        return 0;
}

/* A link that can be followed ends inside. */
static int check_link(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        _cleanup_free_ char *end = NULL;

        (void) ftw;
        (void) st;
        if (type != FTW_SL)
                return 0;
        end = realpath(path, NULL);
        must(!end || (str_has_prefix(end, "/dev/shm/tendril-fuzz-") ||
                      str_has_prefix(end, "/tmp/tendril-fuzz-")));
        must(!end || strstr(end, "/in/") || str_has_suffix(end, "/in"));
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        TaskUnpack how = { .max_entries = MAX_ENTRIES, .max_bytes = MAX_BYTES, .threads = 2 };
        _cleanup_close_ int fd = file_memfd("archive", data, size);
        _cleanup_(error_freep) Error *e = NULL;
        _cleanup_(tree_done) Tree tree = tree_new();
        TaskUnpacked done = { 0 };
        int r;

        (void) setlocale(LC_CTYPE, "C.UTF-8");
        must(fd >= 0);
        r = bundle_unpack(fd, tree.fd, &how, &done, &e);
        must(nftw(tree.path, check_one, 64, FTW_PHYS) == 0);
        if (r < 0) {
                must(e && error_code(e) == r &&
                     str_is_utf8(error_text(e), strlen(error_text(e)), true));
                return 0;
        }
        must(!e && done.entries > 0 && done.format);
        must(str_equal(done.format, "jar") || done.bytes <= MAX_BYTES);
        must(nftw(tree.path, check_link, 64, FTW_PHYS) == 0);
        json_table_done(&task_unpacked_table, &done);
        return 0;
}
