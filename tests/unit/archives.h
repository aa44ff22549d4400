#pragma once

/*
 * Archives for tests, good ones and others: zips byte by byte, where each field can lie; tars
 * through libarchive's writer, which writes whatever it is told.
 */

#include <archive.h>
#include <archive_entry.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"

#define ARCHIVES_MAX_BYTES (UINT64_C(256) << 20)

/* What one entry of a zip says; zero fields are filled in truthfully. */
typedef struct ZipSpec {
        const char *name;
        size_t name_size;       /* for names with a NUL */
        const char *local_name; /* in the local header, where another */
        const char *data;
        size_t size;
        unsigned mode;
        unsigned flags, local_flags; /* general purpose bits; local_flags where another */
        unsigned method, local_method;
        uint32_t crc_xor;
        int64_t bytes_in_lie;    /* added to the compressed size, in both headers */
        int64_t bytes_out_lie;   /* the same for the size of the content */
        int64_t central_out_lie; /* only in the directory */
        int64_t offset_lie;      /* the directory points so much beside */
        const char *extra;       /* of the directory's header */
        size_t extra_size;
        int dos;            /* made by MS-DOS: no mode */
        int share_previous; /* no local header of its own: that of the entry before */
} ZipSpec;

typedef struct Zip {
        Buf out, central;
        unsigned n;
        uint32_t previous;
} Zip;

static inline uint32_t test_crc32(const void *data, size_t size) {
        const uint8_t *p = data;
        uint32_t crc = UINT32_MAX;

        for (size_t i = 0; i < size; i++) {
                crc ^= p[i];
                for (int bit = 0; bit < 8; bit++)
                        crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xedb88320) : 0);
        }
        return ~crc;
}

static inline void put(Buf *buf, unsigned bytes, uint64_t value) {
        uint8_t p[8];

        for (unsigned i = 0; i < bytes; i++)
                p[i] = (uint8_t) (value >> 8 * i);
        if (buf_append(buf, p, bytes) < 0)
                abort();
}

static inline void put_bytes(Buf *buf, const void *data, size_t size) {
        if (size > 0 && buf_append(buf, data, size) < 0)
                abort();
}

static inline void zip_begin(Zip *zip) {
        *zip = (Zip){ .out = BUF_INIT(ARCHIVES_MAX_BYTES),
                      .central = BUF_INIT(ARCHIVES_MAX_BYTES) };
}

static inline void zip_add(Zip *zip, const ZipSpec *spec) {
        size_t name_size = spec->name_size ? spec->name_size : strlen(spec->name);
        const char *local = spec->local_name ? spec->local_name : spec->name;
        size_t local_size = spec->local_name ? strlen(local) : name_size;
        size_t size = spec->size ? spec->size : spec->data ? strlen(spec->data) : 0;
        uint32_t crc =
                test_crc32(spec->data ? spec->data : "", spec->method ? 0 : size) ^ spec->crc_xor;
        unsigned mode = spec->mode ? spec->mode : S_IFREG | 0644, system = spec->dos ? 0 : 3;
        uint64_t in = (uint64_t) ((int64_t) size + spec->bytes_in_lie);
        uint64_t out = (uint64_t) ((int64_t) size + spec->bytes_out_lie);

        if (!spec->share_previous) {
                zip->previous = (uint32_t) zip->out.size;
                put(&zip->out, 4, 0x04034b50);
                put(&zip->out, 2, 20);
                put(&zip->out, 2, spec->local_flags ? spec->local_flags : spec->flags);
                put(&zip->out, 2, spec->local_method ? spec->local_method : spec->method);
                put(&zip->out, 4, 0x58210000);
                put(&zip->out, 4, crc);
                put(&zip->out, 4, in);
                put(&zip->out, 4, out);
                put(&zip->out, 2, local_size);
                put(&zip->out, 2, 0);
                put_bytes(&zip->out, local, local_size);
                put_bytes(&zip->out, spec->data, size);
        }

        put(&zip->central, 4, 0x02014b50);
        put(&zip->central, 2, system << 8 | 20);
        put(&zip->central, 2, 20);
        put(&zip->central, 2, spec->flags);
        put(&zip->central, 2, spec->method);
        put(&zip->central, 4, 0x58210000);
        put(&zip->central, 4, crc);
        put(&zip->central, 4, in);
        put(&zip->central, 4, (uint64_t) ((int64_t) out + spec->central_out_lie));
        put(&zip->central, 2, name_size);
        put(&zip->central, 2, spec->extra_size);
        put(&zip->central, 2, 0);
        put(&zip->central, 2, 0);
        put(&zip->central, 2, 0);
        put(&zip->central, 4, system == 3 ? (uint64_t) mode << 16 : 0);
        put(&zip->central, 4, (uint64_t) ((int64_t) zip->previous + spec->offset_lie));
        put_bytes(&zip->central, spec->name, name_size);
        put_bytes(&zip->central, spec->extra, spec->extra_size);
        zip->n++;
}

/* n_lie: what the end says beside the true number. The archive is in ret afterwards. */
static inline void zip_end(Zip *zip, int n_lie, Buf *ret) {
        size_t begin = zip->out.size;
        unsigned n = zip->n + (unsigned) n_lie;

        put_bytes(&zip->out, zip->central.data, zip->central.size);
        put(&zip->out, 4, 0x06054b50);
        put(&zip->out, 4, 0);
        put(&zip->out, 2, n);
        put(&zip->out, 2, n);
        put(&zip->out, 4, zip->central.size);
        put(&zip->out, 4, begin);
        put(&zip->out, 2, 0);
        put_bytes(ret, zip->out.data, zip->out.size);
        buf_done(&zip->out);
        buf_done(&zip->central);
}

/* A zip of one entry. */
static inline void zip_one(Buf *ret, const ZipSpec *spec) {
        Zip zip;

        zip_begin(&zip);
        zip_add(&zip, spec);
        zip_end(&zip, 0, ret);
}

/* ---- tar ---- */

typedef struct TarSpec {
        const char *name;
        const char *data;
        const char *symlink, *hardlink;
        unsigned mode;
        size_t size;
} TarSpec;

static inline la_ssize_t tar_on_write(struct archive *archive, void *userdata, const void *data,
                                      size_t size) {
        (void) archive;
        put_bytes(userdata, data, size);
        return (la_ssize_t) size;
}

/* filter: ARCHIVE_FILTER_NONE, _GZIP, ...; format: 0 for ustar, or a format code
 * (ARCHIVE_FORMAT_ZIP makes a deflated zip). */
static inline struct archive *tar_begin(Buf *ret, int filter, int format) {
        struct archive *archive = archive_write_new();

        if (archive_write_add_filter(archive, filter) != ARCHIVE_OK ||
            archive_write_set_format(archive, format ? format : ARCHIVE_FORMAT_TAR_USTAR) !=
                    ARCHIVE_OK ||
            archive_write_set_bytes_in_last_block(archive, 1) != ARCHIVE_OK ||
            archive_write_open(archive, ret, NULL, tar_on_write, NULL) != ARCHIVE_OK)
                abort();
        return archive;
}

static inline void tar_add(struct archive *archive, const TarSpec *spec) {
        struct archive_entry *entry = archive_entry_new();
        size_t size = spec->size ? spec->size : spec->data ? strlen(spec->data) : 0;

        archive_entry_copy_pathname(entry, spec->name);
        archive_entry_set_mode(entry, spec->mode ? spec->mode : S_IFREG | 0644);
        archive_entry_set_mtime(entry, 1700000000, 0);
        archive_entry_set_size(entry, (la_int64_t) size);
        if (spec->symlink)
                archive_entry_copy_symlink(entry, spec->symlink);
        if (spec->hardlink)
                archive_entry_copy_hardlink(entry, spec->hardlink);
        if (archive_write_header(archive, entry) < ARCHIVE_WARN)
                abort();
        if (spec->data && archive_write_data(archive, spec->data, size) < 0)
                abort();
        archive_entry_free(entry);
}

static inline void tar_end(struct archive *archive) {
        if (archive_write_close(archive) != ARCHIVE_OK)
                abort();
        archive_write_free(archive);
}

static inline void tar_one(Buf *ret, const TarSpec *spec) {
        struct archive *archive = tar_begin(ret, ARCHIVE_FILTER_NONE, 0);

        tar_add(archive, spec);
        tar_end(archive);
}
