#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "reader.h"

/*
 * Two readers, one behind the other: the first takes the compression off, the second reads the tar.
 * So the first can be read to its end when the tar has ended, which is where checksums are.
 */

/* Only what the library does itself: some of its filters start programs. */
static int stream_formats(Archive *archive) {
        if (archive_read_support_format_raw(archive) != ARCHIVE_OK ||
            archive_read_support_filter_gzip(archive) != ARCHIVE_OK ||
            archive_read_support_filter_bzip2(archive) != ARCHIVE_OK ||
            archive_read_support_filter_xz(archive) != ARCHIVE_OK ||
            archive_read_support_filter_zstd(archive) != ARCHIVE_OK)
                return ARCHIVE_FAILED;
        return ARCHIVE_OK;
}

static int stream_open(Unpack *unpack, Error **reterr) {
        ArchiveEntry *entry;
        int r;

        r = reader_open(unpack, stream_formats, &unpack->stream, reterr);
        if (r < 0)
                return r;
        r = reader_next(unpack->stream, &entry, reterr);
        if (r < 0)
                return r;
        if (r == 0)
                return error_set(reterr, -EBADMSG, "the archive is empty");
        /* Its own reading of the file counts as one. */
        if (archive_filter_count(unpack->stream) > 2)
                return error_set(reterr, -EBADMSG, "the archive is compressed more than once");
        return 0;
}

/* The tar's reader asks for more. */
static la_ssize_t stream_on_read(Archive *archive, void *userdata, const void **ret) {
        Unpack *unpack = userdata;
        int64_t offset;
        size_t size;
        int r;

        r = archive_read_data_block(unpack->stream, ret, &size, &offset);
        if (r == ARCHIVE_EOF)
                return 0;
        if (r == ARCHIVE_OK)
                return (la_ssize_t) size;
        archive_set_error(archive, archive_errno(unpack->stream), "%s",
                          archive_error_string(unpack->stream));
        return -1;
}

/* To the end, for its checksum. Behind a tar are only zeros. */
static int stream_drain(Unpack *unpack, Archive *tar, Error **reterr) {
        uint64_t bytes = (uint64_t) archive_filter_bytes(tar, 0);
        const void *data;
        int64_t offset;
        size_t size;
        int r;

        while ((r = archive_read_data_block(unpack->stream, &data, &size, &offset)) == ARCHIVE_OK) {
                const char *p = data;

                bytes += size;
                if (size > 0 && (p[0] != '\0' || memcmp(p, p + 1, size - 1) != 0))
                        return error_set(reterr, -EBADMSG,
                                         "the archive has something behind its end");
                r = entry_check_ratio("the archive", bytes,
                                      (uint64_t) archive_filter_bytes(unpack->stream, -1), reterr);
                if (r < 0)
                        return r;
        }
        if (r != ARCHIVE_EOF)
                return reader_fault(unpack->stream, NULL, "it is damaged", reterr);
        return 0;
}

static int tar_open(Unpack *unpack, Archive **ret, Error **reterr) {
        _cleanup_(reader_freep) Archive *archive = NULL;
        int r;

        r = stream_open(unpack, reterr);
        if (r < 0)
                return r;
        archive = archive_read_new();
        if (!archive)
                return -ENOMEM;
        if (archive_read_support_format_tar(archive) != ARCHIVE_OK ||
            archive_read_open(archive, unpack, NULL, stream_on_read, NULL) != ARCHIVE_OK)
                return reader_fault(archive, NULL, "neither a zip nor a tar archive", reterr);
        *ret = TAKE_PTR(archive);
        return 0;
}

static int tar_extract_entry(const Unpack *unpack, Archive *archive, Writer *writer,
                             const Entry *entry, Error **reterr) {
        _cleanup_free_ char *shown = NULL;
        int r;

        switch (entry->type) {
        case ENTRY_FOLDER:  /* made when something is in it, or last */
        case ENTRY_SYMLINK: /* made last */
                return 0;
        case ENTRY_HARDLINK:
                return writer_make_hardlink(writer, entry, reterr);
        case ENTRY_FILE:
                shown = entry_quote(entry->path);
                r = writer_check_space(unpack->dir_fd, shown ? shown : "an entry", entry->size, 1,
                                       reterr);
                if (r < 0)
                        return r;
                return unpack_file(unpack, archive, writer, entry, NULL, reterr);
        }
        return -EINVAL;
}

static int tar_take_entry(Unpack *unpack, Archive *archive, Writer *writer, ArchiveEntry *header,
                          Error **reterr) {
        EntryClaim claim = reader_claim(header);
        const Entry *entry = NULL;
        int r;

        r = entry_set_add(&unpack->set, &claim, &entry, reterr);
        if (r < 0 || !entry)
                return r;
        return tar_extract_entry(unpack, archive, writer, entry, reterr);
}

int unpack_tar(Unpack *unpack, TaskUnpacked *ret, Error **reterr) {
        _cleanup_(reader_freep) Archive *archive = NULL;
        _cleanup_(writer_done) Writer writer;
        ArchiveEntry *header;
        int r;

        writer_init(&writer, unpack->dir_fd, &unpack->set);
        r = tar_open(unpack, &archive, reterr);
        if (r < 0)
                return r;
        while ((r = reader_next(archive, &header, reterr)) > 0) {
                r = tar_take_entry(unpack, archive, &writer, header, reterr);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        if (unpack->set.n_claims == 0)
                return error_set(reterr, -EBADMSG, "the tar archive has no entries");
        r = stream_drain(unpack, archive, reterr);
        if (r < 0)
                return r;
        r = entry_set_check_links(&unpack->set, reterr);
        if (r < 0)
                return r;
        r = unpack_finish(unpack, reterr);
        if (r < 0)
                return r;

        *ret = (TaskUnpacked){
                .entries = unpack->set.n_claims,
                .bytes = unpack->set.bytes,
                .format = strdup("tar"),
        };
        return ret->format ? 0 : -ENOMEM;
}
