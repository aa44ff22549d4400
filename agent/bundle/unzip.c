#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "agent/limits.h"
#include "base/str.h"
#include "checksum.h"
#include "reader.h"

#define JAR_NAME       "application.jar"
#define MANIFEST_NAME  "META-INF/MANIFEST.MF"
#define MANIFEST_BYTES 65536

#define THREADS_MAX 8
/* Fewer entries than this for each are not worth a thread. */
#define THREAD_ENTRIES 32
/* Pieces for each thread: fine enough to come out even, coarse enough that neighbours of one folder
 * stay together. */
#define THREAD_PIECES 32
/* What making a file costs, in bytes that could be inflated and written instead. */
#define FILE_COST_BYTES 16384

static int zip_formats(Archive *archive) {
        return archive_read_support_format_zip_seekable(archive);
}

/* For readers of which only the data is wanted: names and sizes were checked by another. */
static int zip_formats_unchecked(Archive *archive) {
        if (zip_formats(archive) != ARCHIVE_OK)
                return ARCHIVE_FAILED;
        return archive_read_set_format_option(archive, "zip", "ignorecrc32", "1");
}

/* Is the zip a program of its own, to be kept whole? */
static int zip_is_jar(const Unpack *unpack, Error **reterr) {
        _cleanup_(reader_freep) Archive *archive = NULL;
        _cleanup_free_ char *text = NULL;
        ArchiveEntry *entry;
        la_ssize_t size;
        int r;

        if (!zip_directory_has(&unpack->directory, MANIFEST_NAME, false) ||
            zip_directory_has(&unpack->directory, "Procfile", false) ||
            zip_directory_has(&unpack->directory, "WEB-INF/", true))
                return false;

        r = reader_open(unpack, zip_formats, &archive, reterr);
        if (r < 0)
                return r;
        text = calloc(1, MANIFEST_BYTES + 2);
        if (!text)
                return -ENOMEM;
        text[0] = '\n';

        while ((r = reader_next(archive, &entry, reterr)) > 0) {
                if (!str_equal(reader_name(entry), MANIFEST_NAME))
                        continue;
                size = archive_read_data(archive, text + 1, MANIFEST_BYTES);
                if (size < 0)
                        return reader_fault(archive, MANIFEST_NAME, "its data is damaged", reterr);
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
        _cleanup_(reader_freep) Archive *archive = NULL;
        ArchiveEntry *entry;
        size_t n = 0;
        int r;

        r = reader_open(unpack, zip_formats, &archive, reterr);
        if (r < 0)
                return r;
        while ((r = reader_next(archive, &entry, reterr)) > 0) {
                EntryClaim claim = reader_claim(entry);

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

/* The dearest first, so that what is left for the end is small. The caller frees. */
static int make_pieces(const ZipDirectory *directory, unsigned n_threads, Piece **ret,
                       size_t *ret_n) {
        size_t max = (size_t) n_threads * THREAD_PIECES;

        /* Two neighbours together cost more than a share, so at most two pieces come of each. */
        *ret = calloc(2 * max + 2, sizeof(**ret));
        if (!*ret)
                return -ENOMEM;
        *ret_n = cut_pieces(directory, *ret, max);
        qsort(*ret, *ret_n, sizeof(**ret), compare_pieces);
        return 0;
}

/*
 * What is read for one piece: the bundle up to its directory, and behind that a directory of its
 * own, with the records of the piece's files. libarchive reads every header that a directory names,
 * so each is read for one piece only.
 */
typedef struct Part {
        const Unpack *unpack;
        Buf directory; /* and its end record */
        uint64_t at;
} Part;

#define PART_DIRECTORY_BYTES (UINT64_C(256) << 20)

static bool is_file(const Unpack *unpack, size_t i) {
        return unpack->by_item[i] && unpack->by_item[i]->type == ENTRY_FILE;
}

static uint64_t part_size(const Part *part) {
        return part->unpack->directory.begin + part->directory.size;
}

static la_ssize_t part_on_read(Archive *archive _unused_, void *userdata, const void **ret) {
        Part *part = userdata;
        uint64_t begin = part->unpack->directory.begin, at = part->at;

        part->at = at < begin ? begin : part_size(part);
        *ret = at < begin ? (const char *) part->unpack->data + at
                          : part->directory.data + (at - begin);
        return (la_ssize_t) (part->at - at);
}

static la_int64_t part_on_skip(Archive *archive _unused_, void *userdata, la_int64_t request) {
        Part *part = userdata;
        uint64_t n = MIN((uint64_t) request, part_size(part) - part->at);

        part->at += n;
        return (la_int64_t) n;
}

static la_int64_t part_on_seek(Archive *archive _unused_, void *userdata, la_int64_t offset,
                               int whence) {
        Part *part = userdata;
        uint64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? part->at : part_size(part);
        uint64_t to = from + (uint64_t) offset;

        if (to > part_size(part))
                return ARCHIVE_FATAL;
        part->at = to;
        return (la_int64_t) to;
}

static int part_fill(Part *part, const Piece *piece) {
        const ZipDirectory *directory = &part->unpack->directory;
        uint8_t end[ZIP_MADE_END_BYTES];
        size_t size;
        int r;

        for (size_t i = piece->begin; i < piece->end; i++) {
                const ZipItem *item = &directory->items[i];

                if (!is_file(part->unpack, i))
                        continue;
                r = buf_append(&part->directory, item->record, item->record_size);
                if (r < 0)
                        return r;
        }
        size = part->directory.size;
        zip_directory_make_end(directory, size, end);
        return buf_append(&part->directory, end, sizeof(end));
}

/* part must live as long as the reader. */
static int part_open(Part *part, const Piece *piece, Archive **ret, Error **reterr) {
        _cleanup_(reader_freep) Archive *archive = archive_read_new();
        int r;

        if (!archive)
                return -ENOMEM;
        r = part_fill(part, piece);
        if (r < 0)
                return r;
        if ((part->unpack->own_checksums ? zip_formats_unchecked : zip_formats)(archive) !=
                    ARCHIVE_OK ||
            archive_read_set_read_callback(archive, part_on_read) != ARCHIVE_OK ||
            archive_read_set_skip_callback(archive, part_on_skip) != ARCHIVE_OK ||
            archive_read_set_seek_callback(archive, part_on_seek) != ARCHIVE_OK ||
            archive_read_set_callback_data(archive, part) != ARCHIVE_OK ||
            archive_read_open1(archive) != ARCHIVE_OK)
                return reader_fault(archive, NULL, "it cannot be read", reterr);
        *ret = TAKE_PTR(archive);
        return 0;
}

static void part_done(Part *part) {
        buf_done(&part->directory);
}

/* What all threads share: each takes the next piece until none is left, or one thread fails. */
typedef struct Queue {
        const Unpack *unpack;
        Piece *pieces;
        size_t n_pieces;
        atomic_size_t next;
        atomic_bool stop;
} Queue;

typedef struct Worker {
        Queue *queue;
        Writer writer;
        pthread_t thread;
        int r;
        Error *error;
} Worker;

/* Unmapping the bundle takes a while: each thread does it for what it has read, instead of one for
 * all in the end. */
static void let_go(const Unpack *unpack, const Piece *piece) {
        const uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE);
        const ZipItem *items = unpack->directory.items;
        uint64_t begin = (items[piece->begin].offset + page - 1) / page * page;
        uint64_t end = piece->end < unpack->directory.n_items ? items[piece->end].offset
                                                              : unpack->directory.begin;

        end = end / page * page;
        if (begin < end)
                (void) madvise((char *) (uintptr_t) unpack->data + begin, end - begin,
                               MADV_DONTNEED);
}

static int worker_extract(Worker *worker, const Piece *piece) {
        const Unpack *unpack = worker->queue->unpack;
        _cleanup_(part_done)
                Part part = { .unpack = unpack, .directory = BUF_INIT(PART_DIRECTORY_BYTES) };
        _cleanup_(reader_freep) Archive *archive = NULL;
        ArchiveEntry *header;
        int r;

        r = part_open(&part, piece, &archive, &worker->error);
        if (r < 0)
                return r;
        for (size_t i = piece->begin; i < piece->end && !atomic_load(&worker->queue->stop); i++) {
                if (!is_file(unpack, i))
                        continue;
                r = reader_next(archive, &header, &worker->error);
                if (r < 0)
                        return r;
                if (r == 0)
                        return error_set(&worker->error, -EBADMSG,
                                         "the archive changed while it was read");
                r = unpack_file(unpack, archive, &worker->writer, unpack->by_item[i],
                                &unpack->directory.items[i], &worker->error);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void *worker_run(void *userdata) {
        Worker *worker = userdata;
        Queue *queue = worker->queue;

        writer_init(&worker->writer, queue->unpack->dir_fd, &queue->unpack->set);
        while (worker->r == 0 && !atomic_load(&queue->stop)) {
                size_t i = atomic_fetch_add(&queue->next, 1);

                if (i >= queue->n_pieces)
                        break;
                worker->r = worker_extract(worker, &queue->pieces[i]);
                let_go(queue->unpack, &queue->pieces[i]);
        }
        if (worker->r < 0)
                atomic_store(&queue->stop, true);
        writer_done(&worker->writer);
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

/* The first failure, of the thread that comes first; the words of the others go. */
static int workers_end(Worker *workers, unsigned n, Error **reterr) {
        int r = 0;

        for (unsigned t = 0; t < n; t++) {
                if (r == 0 && workers[t].r < 0) {
                        r = workers[t].r;
                        if (workers[t].error)
                                r = error_take(reterr, &workers[t].error);
                }
                error_free(workers[t].error);
        }
        return r;
}

/* The second pass. The calling thread is the first worker; without the others it does all. */
static int zip_extract(Unpack *unpack, Error **reterr) {
        unsigned n = count_threads(unpack), n_started = 1;
        Worker workers[THREADS_MAX] = { 0 };
        _cleanup_free_ Piece *pieces = NULL;
        Queue queue = { .unpack = unpack };
        int r;

        unpack->own_checksums = checksum_is_available();
        r = make_pieces(&unpack->directory, n, &pieces, &queue.n_pieces);
        if (r < 0)
                return r;
        queue.pieces = pieces;
        for (unsigned t = 0; t < n; t++)
                workers[t].queue = &queue;
        for (; n_started < n; n_started++)
                if (pthread_create(&workers[n_started].thread, NULL, worker_run,
                                   &workers[n_started]) != 0)
                        break;
        (void) worker_run(&workers[0]);

        for (unsigned t = 1; t < n_started; t++)
                (void) pthread_join(workers[t].thread, NULL);
        return workers_end(workers, n_started, reterr);
}

int unpack_zip(Unpack *unpack, TaskUnpacked *ret, Error **reterr) {
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
        if (!unpack->by_item)
                return -ENOMEM;
        r = zip_scan(unpack, reterr);
        if (r < 0)
                return r;
        r = zip_check_space(unpack, reterr);
        if (r < 0)
                return r;
        r = zip_extract(unpack, reterr);
        if (r < 0)
                return r;
        r = unpack_finish(unpack, reterr);
        if (r < 0)
                return r;

        *ret = (TaskUnpacked){
                .entries = unpack->directory.n_items,
                .bytes = unpack->set.bytes,
                .format = strdup("zip"),
        };
        return ret->format ? 0 : -ENOMEM;
}
