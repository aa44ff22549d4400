#include "bundle/bundle.h"

#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/str.h"
#include "entry.h"
#include "writer.h"
#include "zip.h"

#define JAR_NAME       "application.jar"
#define MANIFEST_NAME  "META-INF/MANIFEST.MF"
#define MANIFEST_BYTES 65536

#define THREADS_MAX 8
/* Fewer entries than this for each are not worth a thread. */
#define THREAD_ENTRIES 32
/* Pieces for each thread: fine enough to come out even, coarse enough that neighbours of one folder
 * stay together. */
#define THREAD_PIECES 16
/* What making a file costs, in bytes that could be inflated and written instead. */
#define FILE_COST_BYTES 16384

typedef struct archive Archive;
typedef struct archive_entry ArchiveEntry;

/* The bundle mapped into memory: all threads read it at once, without an offset that they would
 * share. */
typedef struct Unpack {
        const void *data;
        size_t size;
        int dir_fd;
        const TaskUnpack *how;
        EntrySet set;
        /* zip */
        ZipDirectory directory;
        const Entry **by_item; /* for each item of the directory; NULL: nothing to do */
        uint8_t *owners;       /* for each item: the thread that writes it */
        /* tar */
        Archive *stream; /* takes the compression off: its content is the tar */
} Unpack;

static void archive_freep(Archive **archive) {
        (void) archive_read_free(*archive);
}

/* What the library says, without what it ends lines with. */
static char *archive_words(Archive *archive) {
        const char *words = archive_error_string(archive);
        size_t size = words ? strlen(words) : 0;

        while (size > 0 && words[size - 1] == '\n')
                size--;
        return str_printable(words ? words : "", size);
}

static int archive_fault(Archive *archive, const char *name, const char *what, Error **reterr) {
        _cleanup_free_ char *shown = name ? entry_quote(name) : NULL, *why = archive_words(archive);

        return error_set(reterr, archive_errno(archive) == ENOMEM ? -ENOMEM : -EBADMSG,
                         "%s: %s%s%s", shown ? shown : "the archive", what,
                         str_is_empty(why) ? "" : ": ", why ? why : "");
}

static int archive_open(const Unpack *unpack, int (*formats)(Archive *archive), Archive **ret,
                        Error **reterr) {
        _cleanup_(archive_freep) Archive *archive = archive_read_new();

        if (!archive)
                return -ENOMEM;
        if (formats(archive) != ARCHIVE_OK ||
            archive_read_open_memory(archive, unpack->data, unpack->size) != ARCHIVE_OK)
                return archive_fault(archive, NULL, "it cannot be read", reterr);
        *ret = TAKE_PTR(archive);
        return 0;
}

/* 1: an entry, 0: the end. A warning is a refusal: it means that the archive says two things at
 * once. */
static int archive_next(Archive *archive, ArchiveEntry **ret, Error **reterr) {
        int r = archive_read_next_header(archive, ret);

        if (r == ARCHIVE_EOF)
                return 0;
        if (r == ARCHIVE_OK)
                return 1;
        return archive_fault(archive, r == ARCHIVE_WARN ? archive_entry_pathname(*ret) : NULL,
                             "it is damaged or not honest", reterr);
}

static const char *archive_name(ArchiveEntry *entry) {
        const char *name = archive_entry_pathname(entry);

        return name ? name : archive_entry_pathname_utf8(entry);
}

static EntryClaim claim_of(ArchiveEntry *entry) {
        return (EntryClaim){
                .name = archive_name(entry),
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

        return error_set(reterr, -EBADMSG, "%s: its data is %s than the archive says",
                         shown ? shown : "an entry", how);
}

/* A tar says only as it goes what comes out of it. */
static int check_block(const Unpack *unpack, const Entry *entry, uint64_t end, Error **reterr) {
        if (!unpack->stream)
                return 0;
        return entry_check_ratio(entry->path, unpack->set.bytes - entry->size + end,
                                 (uint64_t) archive_filter_bytes(unpack->stream, -1), reterr);
}

/* The data of the entry at which the archive stands, into a new file. */
static int extract_data(const Unpack *unpack, Archive *archive, const Entry *entry, int fd,
                        uint64_t *ret_end, Error **reterr) {
        const void *data;
        int64_t offset;
        size_t size;
        int r;

        for (*ret_end = 0;; *ret_end = (uint64_t) offset + size) {
                r = archive_read_data_block(archive, &data, &size, &offset);
                if (r == ARCHIVE_EOF)
                        return 0;
                if (r != ARCHIVE_OK)
                        return archive_fault(archive, entry->path, "its data is damaged", reterr);
                if (offset < 0 || (uint64_t) offset > entry->size ||
                    size > entry->size - (uint64_t) offset)
                        return refuse_data(entry, "longer", reterr);
                r = writer_put(fd, entry, data, size, (uint64_t) offset, reterr);
                if (r < 0)
                        return r;
                r = check_block(unpack, entry, (uint64_t) offset + size, reterr);
                if (r < 0)
                        return r;
        }
}

static int extract_file(const Unpack *unpack, Archive *archive, Writer *writer, const Entry *entry,
                        Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        uint64_t end = 0;
        int r;

        r = writer_open_file(writer, entry, &fd, reterr);
        if (r < 0)
                return r;
        r = extract_data(unpack, archive, entry, fd, &end, reterr);
        if (r < 0)
                return r;
        /* A tar may have holes, and end in one. */
        if (end < entry->size && !unpack->stream)
                return refuse_data(entry, "shorter", reterr);
        return writer_end_file(fd, entry, end < entry->size, reterr);
}

/* What is done last, when nothing can be written through it any more. */
static int finish(const Unpack *unpack, Error **reterr) {
        _cleanup_(writer_done) Writer writer;
        int r;

        writer_init(&writer, unpack->dir_fd, &unpack->set);
        for (size_t i = 0; i < unpack->set.n_entries; i++) {
                if (unpack->set.entries[i]->type != ENTRY_SYMLINK)
                        continue;
                r = writer_make_symlink(&writer, unpack->set.entries[i], reterr);
                if (r < 0)
                        return r;
        }
        for (size_t i = unpack->set.n_entries; i-- > 0;) {
                if (unpack->set.entries[i]->type != ENTRY_FOLDER)
                        continue;
                r = writer_set_folder_time(&writer, unpack->set.entries[i], reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* ---- zip ---- */

static int zip_formats(Archive *archive) {
        return archive_read_support_format_zip_seekable(archive);
}

/* Is the zip a program of its own, to be kept whole? */
static int zip_is_jar(const Unpack *unpack, Error **reterr) {
        _cleanup_(archive_freep) Archive *archive = NULL;
        _cleanup_free_ char *text = NULL;
        ArchiveEntry *entry;
        la_ssize_t size;
        int r;

        if (!zip_directory_has(&unpack->directory, MANIFEST_NAME, false) ||
            zip_directory_has(&unpack->directory, "Procfile", false) ||
            zip_directory_has(&unpack->directory, "WEB-INF/", true))
                return false;

        r = archive_open(unpack, zip_formats, &archive, reterr);
        if (r < 0)
                return r;
        text = calloc(1, MANIFEST_BYTES + 2);
        if (!text)
                return -ENOMEM;
        text[0] = '\n';

        while ((r = archive_next(archive, &entry, reterr)) > 0) {
                if (!str_equal(archive_name(entry), MANIFEST_NAME))
                        continue;
                size = archive_read_data(archive, text + 1, MANIFEST_BYTES);
                if (size < 0)
                        return archive_fault(archive, MANIFEST_NAME, "its data is damaged", reterr);
                return strcasestr(text, "\nMain-Class:") != NULL;
        }
        return r;
}

static int zip_keep_jar(const Unpack *unpack, TaskUnpacked *ret, Error **reterr) {
        Entry jar = {
                .path = (char[]){ JAR_NAME },
                .size = unpack->size,
                .mtime = { .tv_nsec = UTIME_OMIT },
        };
        _cleanup_(writer_done) Writer writer;
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = writer_check_space(unpack->dir_fd, "the jar", unpack->size, 1, reterr);
        if (r < 0)
                return r;
        writer_init(&writer, unpack->dir_fd, &unpack->set);
        r = writer_open_file(&writer, &jar, &fd, reterr);
        if (r < 0)
                return r;
        r = writer_put(fd, &jar, unpack->data, unpack->size, 0, reterr);
        if (r < 0)
                return r;

        *ret = (TaskUnpacked){ .entries = 1, .bytes = unpack->size, .format = strdup("jar") };
        return ret->format ? 0 : -ENOMEM;
}

/* The first pass: all headers, nothing written. */
static int zip_scan(Unpack *unpack, Error **reterr) {
        _cleanup_(archive_freep) Archive *archive = NULL;
        ArchiveEntry *entry;
        size_t n = 0;
        int r;

        r = archive_open(unpack, zip_formats, &archive, reterr);
        if (r < 0)
                return r;
        while ((r = archive_next(archive, &entry, reterr)) > 0) {
                EntryClaim claim = claim_of(entry);

                if (n == unpack->directory.n_items)
                        break;
                r = entry_set_add(&unpack->set, &claim, &unpack->by_item[n++], reterr);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        if (r > 0 || n != unpack->directory.n_items)
                return error_set(reterr, -EBADMSG,
                                 "the zip archive is damaged or not honest: two readings of its "
                                 "directory differ");
        r = entry_check_ratio("the archive", unpack->set.bytes, unpack->size, reterr);
        if (r < 0)
                return r;
        return entry_set_check_links(&unpack->set, reterr);
}

static int zip_check_space(const Unpack *unpack, Error **reterr) {
        uint64_t bytes = 0;

        /* Each file fills its last block, each folder has one. */
        for (size_t i = 0; i < unpack->set.n_entries; i++)
                bytes += (unpack->set.entries[i]->size | 4095) + 1;
        return writer_check_space(unpack->dir_fd, "the archive", bytes, unpack->set.n_entries,
                                  reterr);
}

static int zip_make_folders(const Unpack *unpack, Error **reterr) {
        _cleanup_(writer_done) Writer writer;
        int r;

        writer_init(&writer, unpack->dir_fd, &unpack->set);
        for (size_t i = 0; i < unpack->set.n_entries; i++) {
                if (unpack->set.entries[i]->type != ENTRY_FOLDER)
                        continue;
                r = writer_make_folder(&writer, unpack->set.entries[i], reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Neighbours in the archive that one thread writes. */
typedef struct Piece {
        size_t begin, end;
        uint64_t cost;
} Piece;

static uint64_t item_cost(const ZipItem *item) {
        uint64_t inflate = item->method == 0 ? 0 : 2 * item->bytes_in;

        return FILE_COST_BYTES + MIN(item->bytes_out, LIMIT_ARCHIVE_TOTAL_BYTES) + inflate;
}

static int compare_pieces(const void *a, const void *b) {
        const Piece *x = a, *y = b;

        return (x->cost < y->cost) - (x->cost > y->cost);
}

static size_t cut_pieces(const ZipDirectory *directory, Piece *pieces, size_t max) {
        uint64_t total = 0, share;
        size_t n = 0;

        for (size_t i = 0; i < directory->n_items; i++)
                total += item_cost(&directory->items[i]);
        share = total / max + 1;

        for (size_t i = 0; i < directory->n_items; i++) {
                if (n == 0 || pieces[n - 1].cost + item_cost(&directory->items[i]) > share)
                        pieces[n++] = (Piece){ .begin = i };
                pieces[n - 1].cost += item_cost(&directory->items[i]);
                pieces[n - 1].end = i + 1;
        }
        return n;
}

/* The dearest piece first, each to the thread that has least to do. */
static int zip_share_out(Unpack *unpack, unsigned n_threads) {
        uint64_t load[THREADS_MAX] = { 0 };
        _cleanup_free_ Piece *pieces = NULL;
        size_t n;

        /* Two neighbours together cost more than a share, so at most two pieces come of each. */
        pieces = calloc(2 * n_threads * THREAD_PIECES + 2, sizeof(*pieces));
        if (!pieces)
                return -ENOMEM;
        n = cut_pieces(&unpack->directory, pieces, n_threads * THREAD_PIECES);
        qsort(pieces, n, sizeof(*pieces), compare_pieces);

        for (size_t i = 0; i < n; i++) {
                unsigned least = 0;

                for (unsigned t = 1; t < n_threads; t++)
                        if (load[t] < load[least])
                                least = t;
                load[least] += pieces[i].cost;
                memset(unpack->owners + pieces[i].begin, (int) least,
                       pieces[i].end - pieces[i].begin);
        }
        return 0;
}

typedef struct Worker {
        const Unpack *unpack;
        unsigned number;
        size_t last; /* behind its last item */
        atomic_bool *stop;
        pthread_t thread;
        int r;
        Error *error;
} Worker;

static int worker_extract(Worker *worker, Archive *archive, Writer *writer) {
        const Unpack *unpack = worker->unpack;
        ArchiveEntry *header;
        int r;

        for (size_t i = 0; i < worker->last && !atomic_load(worker->stop); i++) {
                const Entry *entry = unpack->by_item[i];

                r = archive_next(archive, &header, &worker->error);
                if (r < 0)
                        return r;
                if (r == 0)
                        return error_set(&worker->error, -EBADMSG,
                                         "the archive changed while it was read");
                if (unpack->owners[i] != worker->number || !entry || entry->type != ENTRY_FILE)
                        continue;
                r = extract_file(unpack, archive, writer, entry, &worker->error);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void *worker_run(void *userdata) {
        Worker *worker = userdata;
        _cleanup_(archive_freep) Archive *archive = NULL;
        _cleanup_(writer_done) Writer writer;

        writer_init(&writer, worker->unpack->dir_fd, &worker->unpack->set);
        worker->r = archive_open(worker->unpack, zip_formats, &archive, &worker->error);
        if (worker->r >= 0)
                worker->r = worker_extract(worker, archive, &writer);
        if (worker->r < 0)
                atomic_store(worker->stop, true);
        return NULL;
}

static unsigned count_threads(const Unpack *unpack) {
        uint64_t n = unpack->how->threads;
        cpu_set_t cpus;

        if (n == 0 && sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
                n = (uint64_t) CPU_COUNT(&cpus);
        n = MIN(n, unpack->directory.n_items / THREAD_ENTRIES);
        return (unsigned) MAX(UINT64_C(1), MIN(n, (uint64_t) THREADS_MAX));
}

/* The second pass. The calling thread is the first worker. */
static int zip_extract(Unpack *unpack, Error **reterr) {
        atomic_bool stop = false;
        unsigned n = count_threads(unpack), n_started = 1;
        Worker workers[THREADS_MAX] = { 0 };
        int r;

        r = zip_share_out(unpack, n);
        if (r < 0)
                return r;
        for (unsigned t = 0; t < n; t++) {
                workers[t] = (Worker){ .unpack = unpack, .number = t, .stop = &stop };
                for (size_t i = 0; i < unpack->directory.n_items; i++)
                        if (unpack->owners[i] == t)
                                workers[t].last = i + 1;
        }

        for (; n_started < n; n_started++) {
                r = pthread_create(&workers[n_started].thread, NULL, worker_run,
                                   &workers[n_started]);
                if (r != 0)
                        break;
        }
        if (r != 0) {
                atomic_store(&stop, true);
                r = error_set(reterr, -r, "start a thread: %s", strerror(r));
        } else
                (void) worker_run(&workers[0]);

        for (unsigned t = 1; t < n_started; t++)
                (void) pthread_join(workers[t].thread, NULL);
        for (unsigned t = 0; t < n_started; t++) {
                if (r == 0 && workers[t].r < 0) {
                        r = workers[t].r;
                        if (workers[t].error)
                                r = error_take(reterr, &workers[t].error);
                }
                error_free(workers[t].error);
        }
        return r;
}

static int unpack_zip(Unpack *unpack, TaskUnpacked *ret, Error **reterr) {
        int r;

        r = zip_directory_read(unpack->data, unpack->size, unpack->set.max_entries,
                               &unpack->directory, reterr);
        if (r < 0)
                return r;
        if (unpack->directory.n_items == 0)
                return error_set(reterr, -EBADMSG, "the zip archive has no entries");
        r = zip_is_jar(unpack, reterr);
        if (r != 0)
                return r < 0 ? r : zip_keep_jar(unpack, ret, reterr);

        unpack->by_item = calloc(unpack->directory.n_items, sizeof(*unpack->by_item));
        unpack->owners = calloc(unpack->directory.n_items, sizeof(*unpack->owners));
        if (!unpack->by_item || !unpack->owners)
                return -ENOMEM;
        r = zip_scan(unpack, reterr);
        if (r < 0)
                return r;
        r = zip_check_space(unpack, reterr);
        if (r < 0)
                return r;
        r = zip_make_folders(unpack, reterr);
        if (r < 0)
                return r;
        r = zip_extract(unpack, reterr);
        if (r < 0)
                return r;
        r = finish(unpack, reterr);
        if (r < 0)
                return r;

        *ret = (TaskUnpacked){
                .entries = unpack->directory.n_items,
                .bytes = unpack->set.bytes,
                .format = strdup("zip"),
        };
        return ret->format ? 0 : -ENOMEM;
}

/*
 * ---- tar ----
 *
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

        r = archive_open(unpack, stream_formats, &unpack->stream, reterr);
        if (r < 0)
                return r;
        r = archive_next(unpack->stream, &entry, reterr);
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
                return archive_fault(unpack->stream, NULL, "it is damaged", reterr);
        return 0;
}

static int tar_open(Unpack *unpack, Archive **ret, Error **reterr) {
        _cleanup_(archive_freep) Archive *archive = NULL;
        int r;

        r = stream_open(unpack, reterr);
        if (r < 0)
                return r;
        archive = archive_read_new();
        if (!archive)
                return -ENOMEM;
        if (archive_read_support_format_tar(archive) != ARCHIVE_OK ||
            archive_read_open(archive, unpack, NULL, stream_on_read, NULL) != ARCHIVE_OK)
                return archive_fault(archive, NULL, "neither a zip nor a tar archive", reterr);
        *ret = TAKE_PTR(archive);
        return 0;
}

static int tar_extract_entry(const Unpack *unpack, Archive *archive, Writer *writer,
                             const Entry *entry, Error **reterr) {
        _cleanup_free_ char *shown = NULL;
        int r;

        switch (entry->type) {
        case ENTRY_FOLDER:  /* made with all that were added */
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
                return extract_file(unpack, archive, writer, entry, reterr);
        }
        return -EINVAL;
}

/* The folders that came with an entry: those from n_before on. */
static int tar_make_folders(const Unpack *unpack, Writer *writer, size_t n_before, Error **reterr) {
        int r;

        for (size_t i = n_before; i < unpack->set.n_entries; i++) {
                if (unpack->set.entries[i]->type != ENTRY_FOLDER)
                        continue;
                r = writer_make_folder(writer, unpack->set.entries[i], reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int tar_take_entry(Unpack *unpack, Archive *archive, Writer *writer, ArchiveEntry *header,
                          Error **reterr) {
        EntryClaim claim = claim_of(header);
        size_t n_before = unpack->set.n_entries;
        const Entry *entry = NULL;
        int r;

        r = entry_set_add(&unpack->set, &claim, &entry, reterr);
        if (r < 0 || !entry)
                return r;
        r = tar_make_folders(unpack, writer, n_before, reterr);
        if (r < 0)
                return r;
        return tar_extract_entry(unpack, archive, writer, entry, reterr);
}

static int unpack_tar(Unpack *unpack, TaskUnpacked *ret, Error **reterr) {
        _cleanup_(archive_freep) Archive *archive = NULL;
        _cleanup_(writer_done) Writer writer;
        ArchiveEntry *header;
        int r;

        writer_init(&writer, unpack->dir_fd, &unpack->set);
        r = tar_open(unpack, &archive, reterr);
        if (r < 0)
                return r;
        while ((r = archive_next(archive, &header, reterr)) > 0) {
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
        r = finish(unpack, reterr);
        if (r < 0)
                return r;

        *ret = (TaskUnpacked){
                .entries = unpack->set.n_claims,
                .bytes = unpack->set.bytes,
                .format = strdup("tar"),
        };
        return ret->format ? 0 : -ENOMEM;
}

/* ---- both ---- */

/* "#!": a jar that is also a script, with the zip behind. */
static bool is_zip(const Unpack *unpack) {
        const char *p = unpack->data;

        return unpack->size >= 4 && (memcmp(p, "PK\003\004", 4) == 0 ||
                                     memcmp(p, "PK\005\006", 4) == 0 || memcmp(p, "#!", 2) == 0);
}

static void unpack_done(Unpack *unpack) {
        if (unpack->stream)
                archive_freep(&unpack->stream);
        if (unpack->data)
                (void) munmap((void *) (uintptr_t) unpack->data, unpack->size);
        entry_set_done(&unpack->set);
        zip_directory_done(&unpack->directory);
        free(unpack->by_item);
        free(unpack->owners);
}

static int map_bundle(Unpack *unpack, int fd, Error **reterr) {
        struct stat st;
        void *data;

        if (fstat(fd, &st) < 0)
                return error_set(reterr, -errno, "stat the bundle: %s", strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(reterr, -EINVAL, "the bundle is not a regular file");
        if (st.st_size == 0)
                return error_set(reterr, -EBADMSG, "the bundle is empty");
        if ((uint64_t) st.st_size > LIMIT_BUNDLE_BYTES)
                return error_set(reterr, -EFBIG,
                                 "the bundle has %lld bytes: more than the %llu that are allowed",
                                 (long long) st.st_size, (unsigned long long) LIMIT_BUNDLE_BYTES);

        data = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
                return error_set(reterr, -errno, "map the bundle: %s", strerror(errno));
        unpack->data = data;
        unpack->size = (size_t) st.st_size;
        return 0;
}

int bundle_unpack(int fd, int dir_fd, const TaskUnpack *how, TaskUnpacked *ret, Error **reterr) {
        _cleanup_(unpack_done) Unpack unpack = { .dir_fd = dir_fd, .how = how };
        mode_t mask;
        int r;

        assert(how && ret);

        entry_set_init(&unpack.set, how);
        r = map_bundle(&unpack, fd, reterr);
        if (r < 0)
                return r;

        /* Modes are made as they are meant, whatever the caller's mask is. */
        mask = umask(0022);
        r = is_zip(&unpack) ? unpack_zip(&unpack, ret, reterr) : unpack_tar(&unpack, ret, reterr);
        (void) umask(mask);
        if (r == -ENOMEM)
                return error_wrap(reterr, r, "not enough memory to unpack");
        if (r < 0)
                return r;
        if (syncfs(dir_fd) < 0)
                return error_set(reterr, -errno, "sync the unpacked folder: %s", strerror(errno));
        return 0;
}
