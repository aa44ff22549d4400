/*
 * Archives that want something else than to be unpacked. Each is refused, with words that name what
 * is wrong, and nothing of it is outside the folder afterwards.
 */

#include <errno.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "archives.h"
#include "base/file.h"
#include "base/str.h"
#include "bundle/bundle.h"
#include "folder.h"

#define MIB (UINT64_C(1) << 20)

typedef void (*Maker)(Buf *ret);

/* ---- names, in a zip ---- */

static void zip_absolute(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "/tmp/tendril-hostile-absolute", .data = "x" });
}

static void zip_dot_dot(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "../outside-new", .data = "x" });
}

static void zip_dot_dot_inside(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a/../../outside-new", .data = "x" });
}

static void zip_dot_dot_folder(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a/..", .mode = S_IFDIR | 0755 });
}

static void zip_dot_dot_behind_dot(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "./../outside-new", .data = "x" });
}

static void zip_backslash(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "..\\outside-new", .data = "x" });
}

static void zip_backslash_dos(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "..\\outside-new", .data = "x", .dos = 1 });
}

static void zip_drive(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "C:\\boot/x", .data = "x" });
}

static void zip_not_utf8(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "caf\xe9.txt", .data = "x" });
}

static void zip_not_utf8_flagged(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "caf\xe9.txt", .data = "x", .flags = 0x800 });
}

static void zip_overlong_utf8(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "\xc0\xae\xc0\xae/outside-new", .data = "x" });
}

static void zip_newline(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a\nb", .data = "x" });
}

static void zip_escape_sequence(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "\033[2Jgone", .data = "x" });
}

static void zip_nul(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "good.txt\0.sh", .name_size = 12, .data = "x" });
}

static void zip_empty_name(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "", .data = "x" });
}

static void zip_dot(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = ".", .data = "x" });
}

static void zip_dot_component(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a/./b", .data = "x" });
}

static void zip_double_slash(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a//b", .data = "x" });
}

static void zip_huge_name(Buf *ret) {
        char name[1200];

        for (size_t i = 0; i < sizeof(name); i++)
                name[i] = i % 100 == 99 ? '/' : 'n';
        zip_one(ret, &(ZipSpec){ .name = name, .name_size = sizeof(name) - 1, .data = "x" });
}

static void zip_huge_component(Buf *ret) {
        char name[300];

        memset(name, 'n', sizeof(name));
        zip_one(ret, &(ZipSpec){ .name = name, .name_size = sizeof(name), .data = "x" });
}

static void zip_deep(Buf *ret) {
        char name[200];

        for (size_t i = 0; i < sizeof(name); i++)
                name[i] = i % 2 ? '/' : 'd';
        zip_one(ret, &(ZipSpec){ .name = name, .name_size = sizeof(name) - 1, .data = "x" });
}

/* ---- what stands beside what ---- */

static void zip_two(Buf *ret, const ZipSpec *a, const ZipSpec *b) {
        Zip zip;

        zip_begin(&zip);
        zip_add(&zip, a);
        zip_add(&zip, b);
        zip_end(&zip, 0, ret);
}

static void zip_duplicate(Buf *ret) {
        zip_two(ret, &(ZipSpec){ .name = "app/a.txt", .data = "one" },
                &(ZipSpec){ .name = "app/a.txt", .data = "two" });
}

static void zip_duplicate_dotted(Buf *ret) {
        zip_two(ret, &(ZipSpec){ .name = "a.txt", .data = "one" },
                &(ZipSpec){ .name = "./a.txt", .data = "two" });
}

static void zip_file_as_folder(Buf *ret) {
        zip_two(ret, &(ZipSpec){ .name = "a", .data = "file" },
                &(ZipSpec){ .name = "a/b", .data = "x" });
}

static void zip_folder_as_file(Buf *ret) {
        zip_two(ret, &(ZipSpec){ .name = "a/b", .data = "x" },
                &(ZipSpec){ .name = "a", .data = "file" });
}

static void zip_write_through_link(Buf *ret) {
        zip_two(ret, &(ZipSpec){ .name = "door", .data = "..", .mode = S_IFLNK | 0777 },
                &(ZipSpec){ .name = "door/outside-new", .data = "x" });
}

static void zip_write_through_own_link(Buf *ret) {
        zip_two(ret, &(ZipSpec){ .name = "door", .data = "room", .mode = S_IFLNK | 0777 },
                &(ZipSpec){ .name = "door/x", .data = "x" });
}

static void zip_link_in_place_of_folder(Buf *ret) {
        zip_two(ret, &(ZipSpec){ .name = "door/x", .data = "x" },
                &(ZipSpec){ .name = "door", .data = "..", .mode = S_IFLNK | 0777 });
}

static void zip_link(Buf *ret, const char *name, const char *target) {
        zip_one(ret, &(ZipSpec){ .name = name, .data = target, .mode = S_IFLNK | 0777 });
}

static void zip_link_absolute(Buf *ret) {
        zip_link(ret, "passwd", "/etc/passwd");
}

static void zip_link_out(Buf *ret) {
        zip_link(ret, "a/b/link", "../../../outside");
}

static void zip_link_out_and_in(Buf *ret) {
        zip_link(ret, "link", "../in/x");
}

static void zip_link_empty(Buf *ret) {
        zip_link(ret, "link", "");
}

/* Each alone stays inside, read word by word; together they come out. */
static void zip_link_chain(Buf *ret) {
        zip_two(ret, &(ZipSpec){ .name = "a/b/c/top", .data = "../../..", .mode = S_IFLNK | 0777 },
                &(ZipSpec){ .name = "a/b/c/out", .data = "top/../..", .mode = S_IFLNK | 0777 });
}

static void zip_link_circle(Buf *ret) {
        zip_two(ret, &(ZipSpec){ .name = "a", .data = "b", .mode = S_IFLNK | 0777 },
                &(ZipSpec){ .name = "b", .data = "a", .mode = S_IFLNK | 0777 });
}

static void zip_setuid(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "su", .data = "x", .mode = S_IFREG | S_ISUID | 0755 });
}

static void zip_setgid(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "sg", .data = "x", .mode = S_IFREG | S_ISGID | 0755 });
}

static void zip_device(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "null", .mode = S_IFCHR | 0666 });
}

static void zip_socket(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "sock", .mode = S_IFSOCK | 0666 });
}

/* ---- too much ---- */

static void zip_too_many(Buf *ret) {
        Zip zip;
        char name[16];

        zip_begin(&zip);
        for (int i = 0; i < 101; i++) {
                (void) snprintf(name, sizeof(name), "f%d", i);
                zip_add(&zip, &(ZipSpec){ .name = name, .data = "x" });
        }
        zip_end(&zip, 0, ret);
}

/* Few entries, each with many folders of its own. */
static void zip_too_many_folders(Buf *ret) {
        Zip zip;
        char name[64];

        zip_begin(&zip);
        for (int i = 0; i < 10; i++) {
                (void) snprintf(name, sizeof(name), "a%d/b/c/d/e/f/g/h/i/j/k/l/f", i);
                zip_add(&zip, &(ZipSpec){ .name = name, .data = "x" });
        }
        zip_end(&zip, 0, ret);
}

static void zip_too_large(Buf *ret) {
        char data[2000] = { 0 };

        zip_two(ret, &(ZipSpec){ .name = "a", .data = data, .size = sizeof(data) },
                &(ZipSpec){ .name = "b", .data = data, .size = sizeof(data) });
}

/* A small file that says it is one of 6 GiB: the limit on all bytes, not the disk, must stop it. */
static void zip_too_large_by_word(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a", .data = "x", .bytes_out_lie = 0xc0000000 });
}

static void bomb(Buf *ret, int filter, int format) {
        struct archive *archive = tar_begin(ret, filter, format);
        char *zeros = calloc(1, 80 * MIB);

        tar_add(archive, &(TarSpec){ .name = "zeros", .data = zeros, .size = 80 * MIB });
        tar_end(archive);
        free(zeros);
}

static void zip_bomb(Buf *ret) {
        bomb(ret, ARCHIVE_FILTER_NONE, ARCHIVE_FORMAT_ZIP);
}

static void tar_bomb(Buf *ret) {
        bomb(ret, ARCHIVE_FILTER_GZIP, 0);
}

/* ---- lies ---- */

static void zip_crc(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a", .data = "content", .crc_xor = 1 });
}

static void zip_longer(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a", .data = "content", .bytes_out_lie = -3 });
}

static void zip_shorter(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a", .data = "content", .bytes_out_lie = 3 });
}

static void zip_sizes_differ(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a", .data = "content", .central_out_lie = -3 });
}

/* One raw deflate block, stored: seven bytes of content, where five or twenty are told. */
static void zip_deflate(Buf *ret, int64_t lie) {
        static const char block[] = "\x01\x07\x00\xf8\xff"
                                    "content";
        uint32_t crc = test_crc32("content", 7);

        zip_one(ret, &(ZipSpec){ .name = "a",
                                 .data = block,
                                 .size = sizeof(block) - 1,
                                 .method = 8,
                                 .crc_xor = crc,
                                 .bytes_out_lie = 7 - (int64_t) (sizeof(block) - 1) + lie });
}

static void zip_deflate_longer(Buf *ret) {
        zip_deflate(ret, -2);
}

static void zip_deflate_shorter(Buf *ret) {
        zip_deflate(ret, 13);
}

static void zip_deflate_garbage(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a", .data = "\xff\xff\xff\xff garbage", .method = 8 });
}

static void zip_method_unknown(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a", .data = "x", .method = 77 });
}

static void zip_methods_differ(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a", .data = "x", .local_method = 8 });
}

static void zip_encrypted(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "secret", .data = "0123456789abcdef", .flags = 1 });
}

static void zip_encrypted_half(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "secret", .data = "0123456789abcdef", .local_flags = 1 });
}

static void zip_names_differ(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "good.txt", .local_name = "evil.txt", .data = "x" });
}

static void zip_shared_header(Buf *ret) {
        zip_two(ret, &(ZipSpec){ .name = "a", .data = "x" },
                &(ZipSpec){ .name = "a", .data = "x", .share_previous = 1 });
}

static void zip_overlap(Buf *ret) {
        zip_two(ret,
                &(ZipSpec){
                        .name = "a", .data = "content", .bytes_in_lie = 20, .bytes_out_lie = 20 },
                &(ZipSpec){ .name = "b", .data = "content of b" });
}

static void zip_overlap_directory(Buf *ret) {
        zip_one(ret,
                &(ZipSpec){
                        .name = "a", .data = "content", .bytes_in_lie = 20, .bytes_out_lie = 20 });
}

static void zip_offset_beside(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a", .data = "content", .offset_lie = 1 });
}

static void zip_offset_beyond(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a", .data = "content", .offset_lie = 0x7fffffff });
}

/* Both beyond the file: each has room before the next one. */
static void zip_offsets_beyond(Buf *ret) {
        zip_two(ret, &(ZipSpec){ .name = "a", .data = "content", .offset_lie = 0x40000000 },
                &(ZipSpec){ .name = "b", .data = "content", .offset_lie = 0x50000000 });
}

static void zip_count_more(Buf *ret) {
        Zip zip;

        zip_begin(&zip);
        zip_add(&zip, &(ZipSpec){ .name = "a", .data = "x" });
        zip_end(&zip, 1, ret);
}

static void zip_count_fewer(Buf *ret) {
        Zip zip;

        zip_begin(&zip);
        zip_add(&zip, &(ZipSpec){ .name = "a", .data = "x" });
        zip_add(&zip, &(ZipSpec){ .name = "hidden", .data = "x" });
        zip_end(&zip, -1, ret);
}

static void zip_cut(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a", .data = "a content of some length, to be cut" });
        ret->size -= 30;
}

static void zip_cut_in_front(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a", .data = "a content of some length, to be cut" });
        memmove(ret->data + 4, ret->data + 20, ret->size - 20);
        ret->size -= 16;
}

static void zip_bytes_behind(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a", .data = "x" });
        put_bytes(ret, "trailing", 8);
}

static void zip_empty(Buf *ret) {
        Zip zip;

        zip_begin(&zip);
        zip_end(&zip, 0, ret);
}

/* The 64-bit size of an entry: eight exbibytes, and a negative one. */
static void zip64_size(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a",
                                 .data = "x",
                                 .bytes_out_lie = 0xfffffffe,
                                 .extra = "\x01\x00\x08\x00\xff\xff\xff\xff\xff\xff\xff\x7f",
                                 .extra_size = 12 });
}

static void zip64_size_negative(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a",
                                 .data = "x",
                                 .bytes_out_lie = 0xfffffffe,
                                 .extra = "\x01\x00\x08\x00\xff\xff\xff\xff\xff\xff\xff\xff",
                                 .extra_size = 12 });
}

static void zip64_extra_short(Buf *ret) {
        zip_one(ret, &(ZipSpec){ .name = "a",
                                 .data = "x",
                                 .bytes_out_lie = 0xfffffffe,
                                 .extra = "\x01\x00\x04\x00\xff\xff\xff\xff",
                                 .extra_size = 8 });
}

/* A locator in front of the end that points to nothing. */
static void zip64_locator(Buf *ret) {
        Buf zip = BUF_INIT(4096);

        zip_one(&zip, &(ZipSpec){ .name = "a", .data = "x" });
        put_bytes(ret, zip.data, zip.size - 22);
        put_bytes(ret, "PK\006\007\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f\x01\0\0\0", 20);
        put_bytes(ret, zip.data + zip.size - 22, 22);
        buf_done(&zip);
}

/* ---- tar ---- */

static void tar_absolute(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "/tmp/tendril-hostile-absolute", .data = "x" });
}

static void tar_dot_dot(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "a/../../outside-new", .data = "x" });
}

static void tar_control(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "a\tb", .data = "x" });
}

static void tar_not_utf8(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "caf\xe9", .data = "x" });
}

static void tar_two(Buf *ret, const TarSpec *a, const TarSpec *b) {
        struct archive *archive = tar_begin(ret, ARCHIVE_FILTER_NONE, 0);

        tar_add(archive, a);
        tar_add(archive, b);
        tar_end(archive);
}

static void tar_duplicate(Buf *ret) {
        tar_two(ret, &(TarSpec){ .name = "a", .data = "one" },
                &(TarSpec){ .name = "a", .data = "two" });
}

static void tar_write_through_link(Buf *ret) {
        tar_two(ret, &(TarSpec){ .name = "door", .symlink = "..", .mode = S_IFLNK | 0777 },
                &(TarSpec){ .name = "door/outside-new", .data = "x" });
}

static void tar_overwrite_link(Buf *ret) {
        tar_two(ret, &(TarSpec){ .name = "door", .symlink = "../outside", .mode = S_IFLNK | 0777 },
                &(TarSpec){ .name = "door", .data = "x" });
}

static void tar_link_out(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "link", .symlink = "../outside", .mode = S_IFLNK | 0777 });
}

static void tar_hard_link_out(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "link", .hardlink = "../outside" });
}

static void tar_hard_link_absolute(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "link", .hardlink = "/etc/passwd" });
}

static void tar_hard_link_to_nothing(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "link", .hardlink = "later" });
}

static void tar_hard_link_to_link(Buf *ret) {
        tar_two(ret, &(TarSpec){ .name = "door", .symlink = "x", .mode = S_IFLNK | 0777 },
                &(TarSpec){ .name = "link", .hardlink = "door" });
}

static void tar_hard_link_to_itself(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "link", .hardlink = "link" });
}

static void tar_device(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "null", .mode = S_IFCHR | 0666 });
}

static void tar_block_device(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "sda", .mode = S_IFBLK | 0666 });
}

static void tar_fifo(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "pipe", .mode = S_IFIFO | 0666 });
}

static void tar_setuid(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "su", .data = "x", .mode = S_IFREG | S_ISUID | 0755 });
}

static void tar_setuid_hard_link(Buf *ret) {
        tar_two(ret, &(TarSpec){ .name = "su", .data = "x" },
                &(TarSpec){ .name = "link", .hardlink = "su", .mode = S_IFREG | S_ISUID | 0755 });
}

static void tar_cut(Buf *ret) {
        char data[4000] = { 0 };

        tar_one(ret, &(TarSpec){ .name = "a", .data = data, .size = sizeof(data) });
        ret->size = 2000;
}

static void tar_gz_cut(Buf *ret) {
        struct archive *archive = tar_begin(ret, ARCHIVE_FILTER_GZIP, 0);

        tar_add(archive, &(TarSpec){ .name = "a", .data = "some content" });
        tar_end(archive);
        ret->size -= 20;
}

static void tar_gz_flipped(Buf *ret) {
        struct archive *archive = tar_begin(ret, ARCHIVE_FILTER_XZ, 0);

        tar_add(archive, &(TarSpec){ .name = "a", .data = "some content" });
        tar_end(archive);
        ret->data[ret->size / 2] ^= 0x55;
}

static void tar_checksum(Buf *ret) {
        tar_one(ret, &(TarSpec){ .name = "a", .data = "x" });
        ret->data[0] = 'b';
}

static void tar_gz_twice(Buf *ret) {
        Buf inner = BUF_INIT(1 << 20);
        struct archive *archive = tar_begin(&inner, ARCHIVE_FILTER_GZIP, 0);

        tar_add(archive, &(TarSpec){ .name = "a", .data = "x" });
        tar_end(archive);
        archive = tar_begin(ret, ARCHIVE_FILTER_GZIP, ARCHIVE_FORMAT_RAW);
        tar_add(archive, &(TarSpec){ .name = "data", .data = inner.data, .size = inner.size });
        tar_end(archive);
        buf_done(&inner);
}

static void tar_empty(Buf *ret) {
        tar_end(tar_begin(ret, ARCHIVE_FILTER_NONE, 0));
}

/* ---- neither ---- */

static void not_an_archive(Buf *ret) {
        for (int i = 0; i < 200; i++)
                put_bytes(ret, "just some text\n", 15);
}

static void other_format(Buf *ret) {
        struct archive *archive = tar_begin(ret, ARCHIVE_FILTER_NONE, ARCHIVE_FORMAT_CPIO_POSIX);

        tar_add(archive, &(TarSpec){ .name = "a", .data = "x" });
        tar_end(archive);
}

static void nothing(Buf *ret) {
        (void) ret;
}

/* clang-format off */
static const struct Case {
        const char *name;
        Maker make;
        int code;
        const char *words[2]; /* that the sentence has */
} cases[] = {
        { "zip: absolute path",            zip_absolute,            -EBADMSG, { "\"/tmp/tendril-hostile-absolute\"", "absolute" } },
        { "zip: ..",                       zip_dot_dot,             -EBADMSG, { "\"../outside-new\"", "\"..\"" } },
        { "zip: .. inside",                zip_dot_dot_inside,      -EBADMSG, { "a/../../outside-new", "\"..\"" } },
        { "zip: .. as a folder",           zip_dot_dot_folder,      -EBADMSG, { "a/..", "leads out" } },
        { "zip: .. behind ./",             zip_dot_dot_behind_dot,  -EBADMSG, { "./../outside-new", "leads out" } },
        { "zip: backslash",                zip_backslash,           -EBADMSG, { "outside-new", "leads out" } },
        { "zip: backslash from MS-DOS",    zip_backslash_dos,       -EBADMSG, { "outside-new", "leads out" } },
        { "zip: drive letter",             zip_drive,               -EBADMSG, { "boot/x", "backslash" } },
        { "zip: not UTF-8",                zip_not_utf8,            -EBADMSG, { "caf?.txt", "UTF-8" } },
        { "zip: not UTF-8 but says so",    zip_not_utf8_flagged,    -EBADMSG, { "UTF-8" } },
        { "zip: overlong UTF-8",           zip_overlong_utf8,       -EBADMSG, { "outside-new", "UTF-8" } },
        { "zip: newline in a name",        zip_newline,             -EBADMSG, { "a?b", "control" } },
        { "zip: terminal codes in a name", zip_escape_sequence,     -EBADMSG, { "?[2Jgone", "control" } },
        { "zip: NUL in a name",            zip_nul,                 -EBADMSG, { "good.txt", "NUL" } },
        { "zip: empty name",               zip_empty_name,          -EBADMSG, { "empty" } },
        { "zip: .",                        zip_dot,                 -EBADMSG, { "\".\"" } },
        { "zip: . inside",                 zip_dot_component,       -EBADMSG, { "a/./b", "\".\"" } },
        { "zip: two slashes",              zip_double_slash,        -EBADMSG, { "a//b", "empty component" } },
        { "zip: huge name",                zip_huge_name,           -EBADMSG, { "nnn/...", "1024" } },
        { "zip: huge component",           zip_huge_component,      -EBADMSG, { "nnn...", "255" } },
        { "zip: deep",                     zip_deep,                -EBADMSG, { "d/d/d", "64 folders deep" } },
        { "zip: duplicate",                zip_duplicate,           -EBADMSG, { "app/a.txt", "two entries" } },
        { "zip: duplicate behind ./",      zip_duplicate_dotted,    -EBADMSG, { "./a.txt", "two entries" } },
        { "zip: file as folder",           zip_file_as_folder,      -EBADMSG, { "\"a/b\"", "a file" } },
        { "zip: folder as file",           zip_folder_as_file,      -EBADMSG, { "\"a\"", "a folder" } },
        { "zip: write through a link",     zip_write_through_link,  -EBADMSG, { "door/outside-new", "symbolic link" } },
        { "zip: write through own link",   zip_write_through_own_link, -EBADMSG, { "door/x", "symbolic link" } },
        { "zip: link in place of a folder", zip_link_in_place_of_folder, -EBADMSG, { "\"door\"", "a folder" } },
        { "zip: absolute link",            zip_link_absolute,       -EBADMSG, { "passwd", "absolute" } },
        { "zip: link out",                 zip_link_out,            -EBADMSG, { "a/b/link", "leaves the folder" } },
        { "zip: link out and in again",    zip_link_out_and_in,     -EBADMSG, { "link", "leaves the folder" } },
        { "zip: link to nothing",          zip_link_empty,          -EBADMSG, { "link", "to nothing" } },
        { "zip: links out together",       zip_link_chain,          -EBADMSG, { "a/b/c/out", "leaves the folder" } },
        { "zip: links in a circle",        zip_link_circle,         -EBADMSG, { "circle" } },
        { "zip: SUID",                     zip_setuid,              -EBADMSG, { "su", "SUID" } },
        { "zip: SGID",                     zip_setgid,              -EBADMSG, { "sg", "SGID" } },
        { "zip: device",                   zip_device,              -EBADMSG, { "null", "device" } },
        { "zip: socket",                   zip_socket,              -EBADMSG, { "sock", "socket" } },
        { "zip: too many entries",         zip_too_many,            -EFBIG,   { "101 entries", "100" } },
        { "zip: too many folders",         zip_too_many_folders,    -EFBIG,   { "entries", "100" } },
        { "zip: too large",                zip_too_large,           -EFBIG,   { "\"b\"", "3000 bytes" } },
        { "zip: too large, it says",       zip_too_large_by_word,   -EFBIG,   { "\"a\"", "bytes that are allowed" } },
        { "zip: bomb",                     zip_bomb,                -EFBIG,   { "200 fold" } },
        { "zip: wrong checksum",           zip_crc,                 -EBADMSG, { "\"a\"", "CRC" } },
        { "zip: longer than it says",      zip_longer,              -EBADMSG, { "\"a\"", "longer" } },
        { "zip: shorter than it says",     zip_shorter,             -EBADMSG, { "\"a\"", "size" } },
        { "zip: sizes differ",             zip_sizes_differ,        -EBADMSG, { "\"a\"", "size" } },
        { "zip: inflates to more",         zip_deflate_longer,      -EBADMSG, { "\"a\"" } },
        { "zip: inflates to less",         zip_deflate_shorter,     -EBADMSG, { "\"a\"", "size" } },
        { "zip: does not inflate",         zip_deflate_garbage,     -EBADMSG, { "\"a\"", "damaged" } },
        { "zip: unknown method",           zip_method_unknown,      -EBADMSG, { "\"a\"", "method" } },
        { "zip: methods differ",           zip_methods_differ,      -EBADMSG, { "\"a\"", "its own header" } },
        { "zip: encrypted",                zip_encrypted,           -EBADMSG, { "secret", "encrypted" } },
        { "zip: encrypted, half",          zip_encrypted_half,      -EBADMSG, { "secret", "its own header" } },
        { "zip: names differ",             zip_names_differ,        -EBADMSG, { "good.txt", "another name" } },
        { "zip: shared header",            zip_shared_header,       -EBADMSG, { "\"a\"", "overlaps" } },
        { "zip: overlapping entries",      zip_overlap,             -EBADMSG, { "\"a\"", "overlaps" } },
        { "zip: overlaps the directory",   zip_overlap_directory,   -EBADMSG, { "\"a\"", "overlaps" } },
        { "zip: offset beside",            zip_offset_beside,       -EBADMSG, { "\"a\"", "not where" } },
        { "zip: offset beyond",            zip_offset_beyond,       -EBADMSG, { "\"a\"", "overlaps" } },
        { "zip: offsets beyond",           zip_offsets_beyond,      -EBADMSG, { "\"a\"", "overlaps" } },
        { "zip: counts more",              zip_count_more,          -EBADMSG, { "fewer entries" } },
        { "zip: counts fewer",             zip_count_fewer,         -EBADMSG, { "more entries" } },
        { "zip: cut off",                  zip_cut,                 -EBADMSG, { "cut off" } },
        { "zip: cut in front",             zip_cut_in_front,        -EBADMSG, { "not where" } },
        { "zip: bytes behind",             zip_bytes_behind,        -EBADMSG, { "behind its end" } },
        { "zip: no entries",               zip_empty,               -EBADMSG, { "no entries" } },
        { "zip64: size",                   zip64_size,              -EFBIG,   { "\"a\"", "bytes that are allowed" } },
        { "zip64: negative size",          zip64_size_negative,     -EBADMSG, { "" } },
        { "zip64: short extra field",      zip64_extra_short,       -EBADMSG, { "\"a\"", "extra" } },
        { "zip64: end beyond the file",    zip64_locator,           -EBADMSG, { "zip64" } },
        { "tar: absolute path",            tar_absolute,            -EBADMSG, { "/tmp/tendril-hostile-absolute", "absolute" } },
        { "tar: ..",                       tar_dot_dot,             -EBADMSG, { "a/../../outside-new", "\"..\"" } },
        { "tar: control character",        tar_control,             -EBADMSG, { "a?b", "control" } },
        { "tar: not UTF-8",                tar_not_utf8,            -EBADMSG, { "caf?", "UTF-8" } },
        { "tar: duplicate",                tar_duplicate,           -EBADMSG, { "\"a\"", "two entries" } },
        { "tar: write through a link",     tar_write_through_link,  -EBADMSG, { "door/outside-new", "symbolic link" } },
        { "tar: overwrite a link",         tar_overwrite_link,      -EBADMSG, { "door", "two entries" } },
        { "tar: link out",                 tar_link_out,            -EBADMSG, { "link", "leaves the folder" } },
        { "tar: hard link out",            tar_hard_link_out,       -EBADMSG, { "link", "hard link" } },
        { "tar: absolute hard link",       tar_hard_link_absolute,  -EBADMSG, { "/etc/passwd", "hard link" } },
        { "tar: hard link to nothing",     tar_hard_link_to_nothing, -EBADMSG, { "link", "earlier file" } },
        { "tar: hard link to a link",      tar_hard_link_to_link,   -EBADMSG, { "link", "earlier file" } },
        { "tar: hard link to itself",      tar_hard_link_to_itself, -EBADMSG, { "link", "earlier file" } },
        { "tar: device",                   tar_device,              -EBADMSG, { "null", "device" } },
        { "tar: block device",             tar_block_device,        -EBADMSG, { "sda", "device" } },
        { "tar: FIFO",                     tar_fifo,                -EBADMSG, { "pipe", "FIFO" } },
        { "tar: SUID",                     tar_setuid,              -EBADMSG, { "su", "SUID" } },
        { "tar: SUID by hard link",        tar_setuid_hard_link,    -EBADMSG, { "link", "SUID" } },
        { "tar: cut off",                  tar_cut,                 -EBADMSG, { "\"a\"", "damaged" } },
        { "tar.gz: cut off",               tar_gz_cut,              -EBADMSG, { "" } },
        { "tar.xz: flipped",               tar_gz_flipped,          -EBADMSG, { "" } },
        { "tar: wrong checksum",           tar_checksum,            -EBADMSG, { "" } },
        { "tar.gz: bomb",                  tar_bomb,                -EFBIG,   { "zeros", "200 fold" } },
        { "tar.gz.gz",                     tar_gz_twice,            -EBADMSG, { "more than once" } },
        { "tar: no entries",               tar_empty,               -EBADMSG, { "" } },
        { "text",                          not_an_archive,          -EBADMSG, { "archive" } },
        { "cpio",                          other_format,            -EBADMSG, { "archive" } },
        { "nothing",                       nothing,                 -EBADMSG, { "empty" } },
};
/* clang-format on */

/* ---- the run ---- */

#define OUTSIDE "must not change"

/* Beside "in" there is "outside", as it was, and nothing else. */
static void check_outside(int base_fd) {
        _cleanup_(buf_done) Buf text = BUF_INIT(4096);
        struct stat st;

        assert_int_equal(fstat(base_fd, &st), 0);
        assert_int_equal(st.st_nlink, 3); /* ".", the entry above, "in/.." */
        assert_int_equal(file_read_at(base_fd, "outside", &text), 0);
        assert_string_equal(buf_str(&text), OUTSIDE);
        assert_int_equal(fstatat(base_fd, "outside", &st, 0), 0);
        assert_int_equal(st.st_nlink, 1);
        assert_false(file_exists_at(base_fd, "outside-new"));
        assert_false(file_exists_at(AT_FDCWD, "/tmp/tendril-hostile-absolute"));
}

/* All that is wrong is told, not only the first. */
static bool complain(const struct Case *test, const char *what, int r, const Error *error) {
        print_error("%s: expected %d, \"%s\"; it is %d: %s\n", test->name, test->code, what, r,
                    error_text(error));
        return true;
}

static bool run_case(const struct Case *test, int base_fd) {
        _cleanup_(buf_done) Buf archive = BUF_INIT(ARCHIVES_MAX_BYTES);
        TaskUnpack how = { .max_entries = 100, .threads = 2 };
        _cleanup_(error_freep) Error *error = NULL;
        _cleanup_close_ int fd = -EBADF, in_fd = -EBADF;
        TaskUnpacked done = { 0 };
        bool bad = false;
        int r;

        if (test->make == zip_too_large)
                how.max_bytes = 3000;
        if (test->make == zip_too_large_by_word)
                how.max_bytes = UINT64_C(1) << 30;
        test->make(&archive);
        fd = file_memfd("archive", archive.data, archive.size);
        assert_true(fd >= 0);
        in_fd = file_mkdirs_at(base_fd, "in", 0755);
        assert_true(in_fd >= 0);

        r = bundle_unpack(fd, in_fd, &how, &done, &error);
        if (r != test->code)
                bad = complain(test, "a wrong code", r, error);
        for (size_t i = 0; i < ELEMENTS(test->words); i++)
                if (test->words[i] && !strstr(error_text(error), test->words[i]))
                        bad = complain(test, test->words[i], r, error);
        if (error_code(error) != r ||
            !str_is_utf8(error_text(error), strlen(error_text(error)), true))
                bad = complain(test, "a clean sentence", r, error);
        check_outside(base_fd);
        return bad;
}

static void test_each(void **state) {
        unsigned n_bad = 0;

        (void) state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_(folder_done) Folder base = folder_new();

                assert_int_equal(
                        file_write_at(base.fd, "outside", OUTSIDE, strlen(OUTSIDE), 0644, 0), 0);
                n_bad += run_case(&cases[i], base.fd);
        }
        print_message("%zu archives refused\n", ELEMENTS(cases));
        assert_int_equal(n_bad, 0);
        assert_true(ELEMENTS(cases) >= 40);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_each),
        };

        (void) setlocale(LC_CTYPE, "C.UTF-8");
        return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
