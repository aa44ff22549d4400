#include "zip.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "entry.h"

#define END_BYTES       22
#define END64_BYTES     56
#define LOCATOR64_BYTES 20
#define CENTRAL_BYTES   46
#define LOCAL_BYTES     30
#define EXTRA_ZIP64     0x0001
#define FLAG_ENCRYPTED  0x0041 /* the old way, and the strong one */

/* libarchive looks for the end record in so much of the file's end, and takes the last one that it
 * sees. */
#define END_WINDOW_BYTES 16384

static uint16_t u16(const uint8_t *p) {
        return (uint16_t) (p[0] | p[1] << 8);
}

static uint32_t u32(const uint8_t *p) {
        return (uint32_t) u16(p) | (uint32_t) u16(p + 2) << 16;
}

static uint64_t u64(const uint8_t *p) {
        return (uint64_t) u32(p) | (uint64_t) u32(p + 4) << 32;
}

static int broken(Error **reterr, const char *why) {
        return error_set(reterr, -EBADMSG, "the zip archive is damaged or not honest: %s", why);
}

static int broken_item(Error **reterr, const ZipItem *item, const char *why) {
        _cleanup_free_ char *name = strndup(item->name, item->name_size), *shown = NULL;

        shown = name ? entry_quote(name) : NULL;
        return error_set(reterr, -EBADMSG, "%s: %s", shown ? shown : "an entry", why);
}

/* What the end record (or its 64-bit form) says. */
typedef struct End {
        uint64_t n_entries;
        uint64_t begin; /* of the directory, as written */
        uint64_t bytes; /* of the directory */
        uint64_t at;    /* where the directory must end */
        bool wide;
} End;

static int find_end(const uint8_t *data, size_t size, size_t *ret, Error **reterr) {
        size_t lowest = size > END_WINDOW_BYTES ? size - END_WINDOW_BYTES : 0;

        if (size < END_BYTES)
                return broken(reterr, "it ends before its directory");
        for (size_t at = size - END_BYTES + 1; at-- > lowest;) {
                if (memcmp(data + at, "PK\005\006", 4) != 0)
                        continue;
                if (at + END_BYTES + u16(data + at + 20) != size)
                        return broken(reterr, "there are bytes behind its end, or a second end");
                *ret = at;
                return 0;
        }
        return broken(reterr, "its end is missing (cut off?)");
}

static int read_end64(const uint8_t *data, size_t locator, End *end, Error **reterr) {
        uint64_t at = u64(data + locator + 8);

        if (at > locator || locator - at < END64_BYTES || memcmp(data + at, "PK\006\006", 4) != 0)
                return broken(reterr, "its zip64 end is not where it says");
        if (u64(data + at + 4) != locator - at - 12)
                return broken(reterr, "its zip64 end has a wrong size");
        if (u64(data + at + 24) != u64(data + at + 32))
                return broken(reterr, "it is one part of several");
        *end = (End){
                .n_entries = u64(data + at + 32),
                .bytes = u64(data + at + 40),
                .begin = u64(data + at + 48),
                .at = at,
                .wide = true,
        };
        return 0;
}

static int read_end(const uint8_t *data, size_t size, End *ret, Error **reterr) {
        size_t at = 0;
        int r;

        r = find_end(data, size, &at, reterr);
        if (r < 0)
                return r;
        if (u16(data + at + 4) != 0 || u16(data + at + 6) != 0 ||
            u16(data + at + 8) != u16(data + at + 10))
                return broken(reterr, "it is one part of several");
        if (at >= LOCATOR64_BYTES && memcmp(data + at - LOCATOR64_BYTES, "PK\006\007", 4) == 0)
                return read_end64(data, at - LOCATOR64_BYTES, ret, reterr);
        *ret = (End){
                .n_entries = u16(data + at + 10),
                .bytes = u32(data + at + 12),
                .begin = u32(data + at + 16),
                .at = at,
        };
        return 0;
}

/* The 64-bit values of an entry stand in an extra field, only those whose 32-bit form is all ones,
 * in this order. */
static bool read_wide(const uint8_t *extra, size_t size, uint64_t *const values[3]) {
        for (size_t at = 0; at + 4 <= size;) {
                size_t tag = u16(extra + at), n = u16(extra + at + 2);
                const uint8_t *p = extra + at + 4;

                at += 4 + n;
                if (at > size)
                        return false;
                if (tag != EXTRA_ZIP64)
                        continue;
                for (size_t i = 0; i < 3; i++) {
                        if (*values[i] != UINT32_MAX)
                                continue;
                        if (n < 8)
                                return false;
                        *values[i] = u64(p);
                        p += 8;
                        n -= 8;
                }
                return true;
        }
        return true;
}

/* One record of the directory; *at moves behind it. */
static int read_central(const ZipDirectory *directory, uint64_t *at, uint64_t end, ZipItem *ret,
                        Error **reterr) {
        const uint8_t *p = directory->data + *at;
        size_t name_size, extra_size, size;

        if (end - *at < CENTRAL_BYTES || memcmp(p, "PK\001\002", 4) != 0)
                return broken(reterr, "its directory has fewer entries than it says");
        name_size = u16(p + 28);
        extra_size = u16(p + 30);
        size = CENTRAL_BYTES + name_size + extra_size + u16(p + 32);
        if (end - *at < size)
                return broken(reterr, "an entry of its directory leads out of the directory");

        *ret = (ZipItem){
                .offset = u32(p + 42),
                .bytes_in = u32(p + 20),
                .bytes_out = u32(p + 24),
                .record = p,
                .record_size = size,
                .name = (const char *) p + CENTRAL_BYTES,
                .name_size = name_size,
                .checksum = u32(p + 16),
                .method = u16(p + 10),
                .flags = u16(p + 8),
        };
        if (!read_wide(p + CENTRAL_BYTES + name_size, extra_size,
                       (uint64_t *const[3]){ &ret->bytes_out, &ret->bytes_in, &ret->offset }))
                return broken_item(reterr, ret, "its extra fields are damaged");
        if (memchr(ret->name, '\0', name_size))
                return broken_item(reterr, ret, "the name has a NUL in it");
        if (u16(p + 34) != 0)
                return broken_item(reterr, ret, "it is in another part of the archive");
        *at += size;
        return 0;
}

/* The local header says the same as the directory, and the data ends before limit. */
static int check_local(const ZipDirectory *directory, const ZipItem *item, uint64_t limit,
                       Error **reterr) {
        const uint8_t *p;
        uint64_t room;

        if (item->offset > limit || limit - item->offset < LOCAL_BYTES)
                return broken_item(reterr, item, "it overlaps another entry or the directory");
        p = directory->data + item->offset;
        room = limit - item->offset - LOCAL_BYTES;
        if (memcmp(p, "PK\003\004", 4) != 0)
                return broken_item(reterr, item, "it is not where the directory says");
        if (u16(p + 26) != item->name_size || room < item->name_size ||
            memcmp(p + LOCAL_BYTES, item->name, item->name_size) != 0)
                return broken_item(reterr, item,
                                   "it has another name in its own header than in the directory");
        if (u16(p + 8) != item->method || ((u16(p + 6) ^ item->flags) & FLAG_ENCRYPTED))
                return broken_item(reterr, item,
                                   "its own header says something else than the directory");
        room -= item->name_size;
        if (room < u16(p + 28) || room - u16(p + 28) < item->bytes_in)
                return broken_item(reterr, item, "it overlaps another entry or the directory");
        return 0;
}

static int compare_items(const void *a, const void *b) {
        const ZipItem *x = a, *y = b;

        return (x->offset > y->offset) - (x->offset < y->offset);
}

static int check_items(ZipDirectory *directory, Error **reterr) {
        int r;

        qsort(directory->items, directory->n_items, sizeof(ZipItem), compare_items);
        for (size_t i = 0; i < directory->n_items; i++) {
                bool last = i + 1 == directory->n_items;
                uint64_t next = last ? directory->begin : directory->items[i + 1].offset;

                r = check_local(directory, &directory->items[i], MIN(next, directory->begin),
                                reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_items(ZipDirectory *directory, const End *end, Error **reterr) {
        uint64_t at = directory->begin;
        int r;

        /* So many do not fit: asked before memory is given for them. */
        if (end->n_entries > end->bytes / CENTRAL_BYTES)
                return broken(reterr, "its directory has fewer entries than it says");
        directory->items = calloc(MAX(end->n_entries, UINT64_C(1)), sizeof(ZipItem));
        if (!directory->items)
                return -ENOMEM;

        for (; directory->n_items < end->n_entries; directory->n_items++) {
                ZipItem *item = &directory->items[directory->n_items];

                r = read_central(directory, &at, end->at, item, reterr);
                if (r < 0)
                        return r;
                if (item->offset > UINT64_MAX / 2)
                        return broken_item(reterr, item, "it is not where the directory says");
                item->offset += directory->shift;
        }
        if (at != end->at)
                return broken(reterr, "its directory has more entries than it says");
        return 0;
}

static int read_directory(ZipDirectory *directory, uint64_t max_entries, Error **reterr) {
        End end = { 0 };
        int r;

        r = read_end(directory->data, directory->size, &end, reterr);
        if (r < 0)
                return r;
        if (end.n_entries > max_entries)
                return error_set(
                        reterr, -EFBIG,
                        "the zip archive has %llu entries: more than the %llu that are allowed",
                        (unsigned long long) end.n_entries, (unsigned long long) max_entries);
        if (end.bytes > end.at || end.begin > end.at - end.bytes)
                return broken(reterr, "its directory is not where it says");
        directory->begin = end.at - end.bytes;
        directory->shift = directory->begin - end.begin;
        if (end.wide && directory->shift > 0)
                return broken(reterr, "its directory is not where it says");

        r = read_items(directory, &end, reterr);
        if (r < 0)
                return r;
        return check_items(directory, reterr);
}

int zip_directory_read(const void *data, size_t size, uint64_t max_entries, ZipDirectory *ret,
                       Error **reterr) {
        int r;

        *ret = (ZipDirectory){ .data = data, .size = size };
        r = read_directory(ret, max_entries, reterr);
        if (r < 0)
                zip_directory_done(ret);
        return r;
}

void zip_directory_done(ZipDirectory *directory) {
        free(directory->items);
        *directory = (ZipDirectory){ 0 };
}

bool zip_directory_has(const ZipDirectory *directory, const char *name, bool prefix) {
        size_t size = strlen(name);

        for (size_t i = 0; i < directory->n_items; i++) {
                const ZipItem *item = &directory->items[i];

                if ((prefix ? item->name_size >= size : item->name_size == size) &&
                    memcmp(item->name, name, size) == 0)
                        return true;
        }
        return false;
}

static void put32(uint8_t *p, uint64_t value) {
        for (unsigned i = 0; i < 4; i++)
                p[i] = (uint8_t) (value >> 8 * i);
}

void zip_directory_make_end(const ZipDirectory *directory, size_t bytes,
                            uint8_t ret[ZIP_MADE_END_BYTES]) {
        uint8_t *end = ret + ZIP_MADE_END_BYTES - END_BYTES;

        /* Room between the last record and the end, where a locator of zip64 would be looked for:
         * else the comment of that record could be one. */
        memset(ret, 0, ZIP_MADE_END_BYTES);
        put32(ret, 0x06064b50); /* "PK", 6, 6 */
        put32(end, 0x06054b50); /* "PK", 5, 6 */
        put32(end + 12, bytes + (size_t) (end - ret));
        put32(end + 16, directory->begin - directory->shift);
}
