#pragma once

/*
 * Unpacking, as unzip.c and untar.c share it: one bundle on its way into a folder, and readers of
 * it, which are libarchive's with our words. Only these two and reader.c know libarchive.
 *
 * Life: bundle_unpack() fills an Unpack, calls unpack_zip() or unpack_tar(), and frees it with all
 * that they put there.
 */

#include "bundle/bundle.h"
#include "entry.h"
#include "writer.h"
#include "zip.h"

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
        bool own_checksums; /* the workers check the data instead of libarchive, which is slower at
                               it */
        /* tar */
        Archive *stream; /* takes the compression off: its content is the tar */
} Unpack;

/* ---- readers ---- */

/* A reader over the whole bundle; formats says what it may take it for. */
int reader_open(const Unpack *unpack, int (*formats)(Archive *archive), Archive **ret,
                Error **reterr);

void reader_freep(Archive **archive);

/* 1: an entry, 0: the end. A warning is a refusal: it means that the archive says two things at
 * once. */
int reader_next(Archive *archive, ArchiveEntry **ret, Error **reterr);

/* UTF-8, or NULL where it is none. */
const char *reader_name(ArchiveEntry *entry);

EntryClaim reader_claim(ArchiveEntry *entry);

/* Words for what libarchive says has gone wrong; name (or NULL) is the entry's. -EBADMSG or
 * -ENOMEM. */
int reader_fault(Archive *archive, const char *name, const char *what, Error **reterr);

/* ---- what both do with an entry ---- */

/* The data of the entry at which the reader stands, into a new file, checked. item: its place in a
 * zip; NULL: in a tar. */
int unpack_file(const Unpack *unpack, Archive *archive, Writer *writer, const Entry *entry,
                const ZipItem *item, Error **reterr);

/* What comes last: folders that are empty, then symbolic links, as nothing can be written through
 * them any more, then the times of folders. */
int unpack_finish(const Unpack *unpack, Error **reterr);

/* ---- the two ways ---- */

int unpack_zip(Unpack *unpack, TaskUnpacked *ret, Error **reterr);
int unpack_tar(Unpack *unpack, TaskUnpacked *ret, Error **reterr);
