#pragma once

/*
 * The central directory of a zip, as far as libarchive does not look at it: libarchive takes names
 * from the local headers, drops entries that share one, and cuts names at a NUL, so that two
 * readers of one zip can see two different archives. This check only refuses; what is unpacked is
 * what libarchive reads.
 *
 * What holds afterwards: the directory fills the file up to its end record; each entry has a local
 * header of its own with the same name and method; entries do not overlap each other or the
 * directory; no name has a NUL.
 *
 * Source: PKWARE APPNOTE.TXT 4.3 and 4.5.3 (zip64).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct ZipItem {
        uint64_t offset; /* of the local header, in the file */
        uint64_t bytes_in;
        uint64_t bytes_out;    /* as the directory says */
        const uint8_t *record; /* its record in the directory; borrowed from the file's bytes, as
                                  the name */
        size_t record_size;
        const char *name; /* no NUL behind */
        size_t name_size;
        uint32_t checksum; /* CRC-32 of what comes out */
        uint16_t method;
        uint16_t flags;
} ZipItem;

/* In the order of their places in the file, which is libarchive's order. */
typedef struct ZipDirectory {
        ZipItem *items;
        size_t n_items;
        const uint8_t *data; /* the whole file; the caller keeps it */
        uint64_t size;
        uint64_t begin; /* of the directory */
        uint64_t shift; /* what stands in front of the archive (a script): all offsets are too small
                           by so much */
} ZipDirectory;

/* -EBADMSG, -EFBIG with more than max_entries, -ENOMEM. */
int zip_directory_read(const void *data, size_t size, uint64_t max_entries, ZipDirectory *ret,
                       Error **reterr);
void zip_directory_done(ZipDirectory *directory);

/* True where an entry has this name, or (prefix) one that begins so. */
bool zip_directory_has(const ZipDirectory *directory, const char *name, bool prefix);

/*
 * The end record of another directory, of so many bytes, that would stand in the place of this one:
 * records of this one keep their meaning in it. How many entries it has is left at 0, which
 * libarchive does not read. Good for files below 4 GiB.
 */
#define ZIP_MADE_END_BYTES 46
void zip_directory_make_end(const ZipDirectory *directory, size_t bytes,
                            uint8_t ret[ZIP_MADE_END_BYTES]);
