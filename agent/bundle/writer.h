#pragma once

/*
 * Puts checked entries (entry.h) into a folder that was empty. Nothing is opened through a link,
 * nothing that is there is opened at all: each file is made, or it is an error. Folders are made
 * when something needs them, by whichever thread comes first; their entries remember it. A Writer
 * remembers the last folder it wrote in, so each thread has one of its own.
 *
 * Life: writer_init() → any calls, symbolic links after all else → writer_done().
 */

#include "base/error.h"
#include "entry.h"

typedef struct Writer {
        int root_fd;         /* the caller's */
        int parent_fd;       /* the folder of the last entry, or -EBADF */
        const Entry *parent; /* its entry; NULL: the root */
        const EntrySet *set;
} Writer;

void writer_init(Writer *writer, int root_fd, const EntrySet *set);
void writer_done(Writer *writer);

/* Does nothing where it is made already. */
int writer_make_folder(Writer *writer, Entry *entry, Error **reterr);

/* -ENOTEMPTY where something is in the folder to unpack into. */
int writer_check_empty(int root_fd, Error **reterr);

/* A new empty file, opened for writing; the caller closes it. */
int writer_open_file(Writer *writer, const Entry *entry, int *ret_fd, Error **reterr);

/* Bytes at a place; words name the entry. */
int writer_put(int fd, const Entry *entry, const void *data, size_t size, uint64_t offset,
               Error **reterr);

/* Its length where it ends in a hole, and its time. */
int writer_end_file(int fd, const Entry *entry, bool sparse_end, Error **reterr);

int writer_make_symlink(Writer *writer, const Entry *entry, Error **reterr);
int writer_make_hardlink(Writer *writer, const Entry *entry, Error **reterr);

/* After all that is in it. */
int writer_set_folder_time(Writer *writer, const Entry *entry, Error **reterr);

/* -ENOSPC with what is missing, where so many bytes in so many new files and folders do not fit.
 * what begins the sentence. */
int writer_check_space(int root_fd, const char *what, uint64_t bytes, uint64_t n_inodes,
                       Error **reterr);
