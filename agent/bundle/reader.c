#include "reader.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "checksum.h"

void reader_freep(Archive **archive) {
        (void) archive_read_free(*archive);
}

/* What the library says, without what it ends lines with. */
static char *words_of(Archive *archive) {
        const char *words = archive_error_string(archive);
        size_t size = words ? strlen(words) : 0;

        while (size > 0 && words[size - 1] == '\n')
                size--;
        return str_printable(words ? words : "", size);
}

int reader_fault(Archive *archive, const char *name, const char *what, Error **reterr) {
        _cleanup_free_ char *shown = name ? entry_quote(name) : NULL, *why = words_of(archive);

        return error_set(reterr, archive_errno(archive) == ENOMEM ? -ENOMEM : -EBADMSG,
                         "%s: %s%s%s", shown ? shown : "the archive", what,
                         str_is_empty(why) ? "" : ": ", why ? why : "");
}

int reader_open(const Unpack *unpack, int (*formats)(Archive *archive), Archive **ret,
                Error **reterr) {
        _cleanup_(reader_freep) Archive *archive = archive_read_new();

        if (!archive)
                return -ENOMEM;
        if (formats(archive) != ARCHIVE_OK ||
            archive_read_open_memory(archive, unpack->data, unpack->size) != ARCHIVE_OK)
                return reader_fault(archive, NULL, "it cannot be read", reterr);
        *ret = TAKE_PTR(archive);
        return 0;
}

int reader_next(Archive *archive, ArchiveEntry **ret, Error **reterr) {
        int r = archive_read_next_header(archive, ret);

        if (r == ARCHIVE_EOF)
                return 0;
        if (r == ARCHIVE_OK)
                return 1;
        return reader_fault(archive, r == ARCHIVE_WARN ? archive_entry_pathname(*ret) : NULL,
                            "it is damaged or not honest", reterr);
}

const char *reader_name(ArchiveEntry *entry) {
        const char *name = archive_entry_pathname(entry);

        return name ? name : archive_entry_pathname_utf8(entry);
}

EntryClaim reader_claim(ArchiveEntry *entry) {
        return (EntryClaim){
                .name = reader_name(entry),
                .symlink = archive_entry_symlink(entry),
                .hardlink = archive_entry_hardlink(entry),
                .mode = archive_entry_mode(entry),
                .size = archive_entry_size(entry),
                .mtime = { .tv_sec = archive_entry_mtime(entry),
                           .tv_nsec = archive_entry_mtime_is_set(entry)
                                              ? archive_entry_mtime_nsec(entry)
                                              : UTIME_OMIT },
                .encrypted = archive_entry_is_encrypted(entry),
        };
}

static int refuse_data(const Entry *entry, const char *how, Error **reterr) {
        _cleanup_free_ char *shown = entry_quote(entry->path);

        return error_set(reterr, -EBADMSG, "%s: its data is %s", shown ? shown : "an entry", how);
}

/* A tar says only as it goes what comes out of it. */
static int check_block(const Unpack *unpack, const Entry *entry, uint64_t end, Error **reterr) {
        if (!unpack->stream)
                return 0;
        return entry_check_ratio(entry->path, unpack->set.bytes - entry->size + end,
                                 (uint64_t) archive_filter_bytes(unpack->stream, -1), reterr);
}

/* What came out of one entry. */
typedef struct Extracted {
        uint64_t end;      /* behind its last byte */
        uint32_t checksum; /* CRC-32, where it is asked for */
} Extracted;

/* The data of the entry at which the archive stands, into a new file. */
static int extract_data(const Unpack *unpack, Archive *archive, const Entry *entry, int fd,
                        Extracted *ret, Error **reterr) {
        const void *data;
        int64_t offset;
        size_t size;
        int r;

        for (;; ret->end = (uint64_t) offset + size) {
                r = archive_read_data_block(archive, &data, &size, &offset);
                if (r == ARCHIVE_EOF)
                        return 0;
                if (r != ARCHIVE_OK)
                        return reader_fault(archive, entry->path, "its data is damaged", reterr);
                if (offset < 0 || (uint64_t) offset > entry->size ||
                    size > entry->size - (uint64_t) offset)
                        return refuse_data(entry, "longer than the archive says", reterr);
                r = writer_put(fd, entry, data, size, (uint64_t) offset, reterr);
                if (r < 0)
                        return r;
                if (unpack->own_checksums)
                        ret->checksum = checksum_update(ret->checksum, data, size);
                r = check_block(unpack, entry, (uint64_t) offset + size, reterr);
                if (r < 0)
                        return r;
        }
}

int unpack_file(const Unpack *unpack, Archive *archive, Writer *writer, const Entry *entry,
                const ZipItem *item, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        Extracted out = { 0 };
        int r;

        r = writer_open_file(writer, entry, &fd, reterr);
        if (r < 0)
                return r;
        r = extract_data(unpack, archive, entry, fd, &out, reterr);
        if (r < 0)
                return r;
        /* A tar may have holes, and end in one. */
        if (out.end < entry->size && item)
                return refuse_data(entry, "shorter than the archive says", reterr);
        if (item && unpack->own_checksums && out.checksum != item->checksum)
                return refuse_data(entry, "damaged: it does not match its checksum (CRC-32)",
                                   reterr);
        return writer_end_file(fd, entry, out.end < entry->size, reterr);
}

static int make_folder(Writer *writer, Entry *entry, Error **reterr) {
        return writer_make_folder(writer, entry, reterr);
}

static int make_symlink(Writer *writer, Entry *entry, Error **reterr) {
        return writer_make_symlink(writer, entry, reterr);
}

static int set_folder_time(Writer *writer, Entry *entry, Error **reterr) {
        return writer_set_folder_time(writer, entry, reterr);
}

int unpack_finish(const Unpack *unpack, Error **reterr) {
        const struct {
                EntryType type;
                int (*act)(Writer *writer, Entry *entry, Error **reterr);
        } rows[] = {
                { ENTRY_FOLDER, make_folder },     /* those that nothing is in */
                { ENTRY_SYMLINK, make_symlink },   /* after them nothing else is made */
                { ENTRY_FOLDER, set_folder_time }, /* making something in it would change it */
        };
        _cleanup_(writer_done) Writer writer;
        int r;

        writer_init(&writer, unpack->dir_fd, &unpack->set);
        for (size_t k = 0; k < ELEMENTS(rows); k++) {
                for (size_t i = 0; i < unpack->set.n_entries; i++) {
                        if (unpack->set.entries[i]->type != rows[k].type)
                                continue;
                        r = rows[k].act(&writer, unpack->set.entries[i], reterr);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}
