#pragma once

/*
 * The folder of the file store, as plain functions that do one thing at once: open, name the
 * content, write beside, put in place, remove, list. Nothing here waits or knows the loop;
 * store/file.c cuts the calls into such steps.
 *
 * Below ROOT: the documents at their keys, ".lock", and ".tmp-writes/" with what is being written.
 * A temporary is locked (flock) as long as its writer lives, so that whoever finds one that is not
 * may remove it. Every name is reached component by component without following a link.
 *
 * All return 0 or a negative errno, and StoreAnswers where they say so.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "store/store.h"

/* Room for an ETag and its NUL. */
#define FOLDER_ETAG_SIZE 96

/* Opens a document for reading. STORE_ABSENT where there is none (or a folder, or anything that is
 * not a regular file). */
int folder_open(int root_fd, const char *key, int *ret_fd);

/* The ETag and size of an open document: inode, time of change, size, and a hash of the content up
 * to LIMIT_DOCUMENT_BYTES (of a larger one: of its first page). ret_size may be NULL. */
int folder_etag(int fd, char ret[FOLDER_ETAG_SIZE], uint64_t *ret_size);

/* Does the condition hold now? 0, STORE_REFUSED. Only an answer for good while the lock is held. */
int folder_check(int root_fd, const char *key, StoreCondition condition, const char *etag);

/* The lock of all writers: held as long as *ret_fd is open. -EAGAIN: somebody else has it. */
int folder_lock(int root_fd, int *ret_fd);

/* A new temporary, empty, locked. name has room for 32 bytes. */
int folder_temp_new(int root_fd, int *ret_fd, char name[32]);
void folder_temp_remove(int root_fd, const char *name);

/* Removes temporaries whose writers are gone. Returns how many. */
int folder_sweep(int root_fd);

/* Puts the synced temporary in the place of key, makes missing folders, durably. The lock must be
 * held. */
int folder_commit(int root_fd, const char *name, const char *key);

/* Removes a document and the folders that it leaves empty, durably. STORE_ABSENT. The lock must be
 * held. */
int folder_remove(int root_fd, const char *key);

/* Copies up to size bytes from one offset to another; the number that were copied, 0 at the end. */
ssize_t folder_copy(int in_fd, uint64_t in_offset, int out_fd, uint64_t out_offset, size_t size);

/* One page of documents (at most max) whose keys begin with prefix and are behind start_after, in
 * byte order. */
typedef struct FolderList {
        StoreEntry *entries;
        size_t n;
        bool more;
} FolderList;
int folder_list(int root_fd, const char *prefix, const char *start_after, size_t max,
                FolderList *ret);
void folder_list_done(FolderList *list);
