#pragma once

/*
 * What an archive holds, as the unpacker may believe it: one Entry a path, checked, and an EntrySet
 * of all of them, which knows what may not stand beside what. Nothing here touches a disk or an
 * archive.
 *
 * Life: entry_set_init() → entry_set_add() for each entry in the archive's order →
 * entry_set_check_links() → entry_set_done().
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "base/error.h"
#include "bundle/task.h"

typedef enum EntryType {
        ENTRY_FILE,
        ENTRY_FOLDER,
        ENTRY_SYMLINK,
        ENTRY_HARDLINK,
} EntryType;

typedef struct Entry {
        char *path;   /* plain components below the folder, no slash at either end; owned */
        char *target; /* of a symbolic link: as written; of a hard link: a path like the one above;
                         owned */
        struct Entry *folder; /* that it stands in; NULL: the root. Borrowed from the set */
        EntryType type;
        bool implied;          /* a folder that no entry of its own asked for (yet) */
        bool executable;       /* files */
        uint64_t size;         /* files */
        struct timespec mtime; /* tv_nsec is UTIME_OMIT where the archive says nothing */
        atomic_bool made;      /* folders: it is on disk (writer.h) */
} Entry;

/* What an archive says of one entry, before anybody believed it. All borrowed. */
typedef struct EntryClaim {
        const char *name;     /* NULL: not convertible to UTF-8 */
        const char *symlink;  /* target, where mode says link */
        const char *hardlink; /* target, or NULL */
        mode_t mode;          /* type and permissions */
        int64_t size;
        struct timespec mtime;
        bool encrypted;
} EntryClaim;

typedef struct EntrySet {
        Entry **entries; /* in order; a folder always stands before what is in it */
        size_t n_entries;
        size_t n_allocated;
        size_t n_claims; /* entries that the archive has, without implied folders */
        void *tree;      /* by path */
        Entry *last_folder;
        uint64_t bytes; /* of files */
        uint64_t max_entries;
        uint64_t max_bytes;
} EntrySet;

void entry_set_init(EntrySet *set, const TaskUnpack *limits);
void entry_set_done(EntrySet *set);

/*
 * Believes an entry and adds it and the folders above it, or refuses it with a sentence that begins
 * with its name. *ret (may be NULL) is borrowed from the set; NULL for the folder itself ("./"),
 * which needs nothing. -EBADMSG, -EFBIG, -ENOMEM.
 */
int entry_set_add(EntrySet *set, const EntryClaim *claim, const Entry **ret, Error **reterr);

/* NULL: nothing of that path. */
const Entry *entry_set_find(const EntrySet *set, const char *path);

/* Follows each symbolic link through all others: none may come out above the folder, or turn for
 * ever. -EBADMSG. */
int entry_set_check_links(const EntrySet *set, Error **reterr);

/* -EFBIG where so many bytes out of so many bytes in are a bomb. name: what to blame. */
int entry_check_ratio(const char *name, uint64_t bytes_out, uint64_t bytes_in, Error **reterr);

/* A name that others wrote, fit for a sentence: printable, shortened. Valid until the end of the
 * scope: the caller frees. */
char *entry_quote(const char *name);
