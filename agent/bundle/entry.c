#include "entry.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <search.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"

#define RATIO_FREE_BYTES (UINT64_C(64) << 20)
#define NAME_SHOWN_BYTES 200
#define LINKS_FOLLOWED   40 /* as the kernel does */
#define LINK_STEPS       4000000

char *entry_quote(const char *name) {
        _cleanup_free_ char *clean = NULL;
        size_t size = strlen(name);

        clean = str_printable(name, MIN(size, (size_t) NAME_SHOWN_BYTES));
        if (!clean)
                return NULL;
        return str_format("\"%s%s\"", clean, size > NAME_SHOWN_BYTES ? "..." : "");
}

/* Every refusal begins with the name of the entry. */
static int refuse(Error **reterr, int code, const char *name, const char *why) {
        _cleanup_free_ char *shown = entry_quote(name);

        return error_set(reterr, code, "%s: %s", shown ? shown : "an entry", why);
}

void entry_set_init(EntrySet *set, const TaskUnpack *limits) {
        *set = (EntrySet){
                .max_entries = limits && limits->max_entries > 0 ? limits->max_entries
                                                                 : LIMIT_ARCHIVE_ENTRIES,
                .max_bytes = limits && limits->max_bytes > 0 ? limits->max_bytes
                                                             : LIMIT_ARCHIVE_TOTAL_BYTES,
        };
}

static void tree_forget(void *node _unused_) {
}

void entry_set_done(EntrySet *set) {
        tdestroy(set->tree, tree_forget);
        for (size_t i = 0; i < set->n_entries; i++) {
                free(set->entries[i]->path);
                free(set->entries[i]->target);
                free(set->entries[i]);
        }
        free(set->entries);
        *set = (EntrySet){ 0 };
}

static int compare_paths(const void *a, const void *b) {
        return strcmp(((const Entry *) a)->path, ((const Entry *) b)->path);
}

/* The tree wants a char * that it never writes to. */
static Entry *find(const EntrySet *set, const char *path) {
        union {
                const char *from;
                char *to;
        } key = { .from = path };
        Entry wanted = { .path = key.to };
        void *node;

        node = tfind(&wanted, &set->tree, compare_paths);
        return node ? *(Entry **) node : NULL;
}

const Entry *entry_set_find(const EntrySet *set, const char *path) {
        return find(set, path);
}

static int grow(EntrySet *set) {
        size_t n = MAX(set->n_allocated * 2, (size_t) 64);
        Entry **entries;

        if (set->n_entries < set->n_allocated)
                return 0;
        entries = realloc(set->entries, n * sizeof(*entries));
        if (!entries)
                return -ENOMEM;
        set->entries = entries;
        set->n_allocated = n;
        return 0;
}

static int insert(EntrySet *set, const char *path, size_t size, EntryType type, Entry **ret) {
        Entry *entry;

        if (grow(set) < 0)
                return -ENOMEM;
        entry = calloc(1, sizeof(*entry));
        if (!entry)
                return -ENOMEM;
        entry->path = strndup(path, size);
        entry->type = type;
        entry->mtime.tv_nsec = UTIME_OMIT;
        if (!entry->path || !tsearch(entry, &set->tree, compare_paths)) {
                free(entry->path);
                free(entry);
                return -ENOMEM;
        }
        set->entries[set->n_entries++] = entry;
        *ret = entry;
        return 0;
}

static int check_count(const EntrySet *set, const char *name, Error **reterr) {
        _cleanup_free_ char *why = NULL;

        if (set->n_entries < set->max_entries)
                return 0;
        why = str_format(
                "the archive has more than the %llu entries (folders included) that are allowed",
                (unsigned long long) set->max_entries);
        return refuse(reterr, -EFBIG, name, why ? why : "too many entries");
}

/* One component: NULL, or what is wrong with it. */
static const char *component_fault(const char *component, size_t size) {
        if (size == 0)
                return "the name has an empty component (two slashes in a row)";
        if (size == 1 && component[0] == '.')
                return "the name has a component \".\"";
        if (size == 2 && memcmp(component, "..", 2) == 0)
                return "the name has a component \"..\", which leads out of the folder";
        if (size > 255)
                return "a component of the name is longer than 255 bytes";
        return NULL;
}

/* What is wrong with a name as a whole: NULL, or why. What is left to check are its components. */
static const char *name_fault(const char *name) {
        if (name[0] == '\0')
                return "the name is empty";
        if (name[0] == '/')
                return "the name is absolute: entries must be relative to the archive's root";
        if (strlen(name) > LIMIT_ARCHIVE_NAME_BYTES)
                return "the name is longer than 1024 bytes";
        if (!str_is_utf8(name, strlen(name), false))
                return "the name is not valid UTF-8";
        if (!str_is_utf8(name, strlen(name), true))
                return "the name has control characters";
        if (strchr(name, '\\'))
                return "the name has a backslash: folders are separated by \"/\"";
        return NULL;
}

/*
 * The path in a name: without "./" in front, without one "/" behind where it is a folder's.
 * *ret_size 0: the root itself.
 */
static int clean_name(const char *name, bool is_folder, const char **ret, size_t *ret_size,
                      Error **reterr) {
        const char *path = name, *fault;
        size_t size, depth = 0;

        fault = name_fault(name);
        if (fault)
                return refuse(reterr, -EBADMSG, name, fault);

        while (str_has_prefix(path, "./"))
                path += 2;
        size = strlen(path);
        if (is_folder && size > 0 && path[size - 1] == '/')
                size--;
        if (is_folder && (size == 0 || (size == 1 && path[0] == '.'))) {
                *ret_size = 0;
                return 0;
        }

        for (size_t at = 0; at <= size;) {
                const char *slash = memchr(path + at, '/', size - at);
                size_t n = slash ? (size_t) (slash - path) - at : size - at;

                fault = component_fault(path + at, n);
                if (!fault && ++depth > LIMIT_ARCHIVE_DEPTH)
                        fault = "the name is more than 64 folders deep";
                if (fault)
                        return refuse(reterr, -EBADMSG, name, fault);
                at += n + 1;
        }

        *ret = path;
        *ret_size = size;
        return 0;
}

static const char *type_noun(const Entry *entry) {
        switch (entry->type) {
        case ENTRY_FILE:
                return "a file";
        case ENTRY_FOLDER:
                return "a folder";
        case ENTRY_SYMLINK:
                return "a symbolic link";
        case ENTRY_HARDLINK:
                return "a hard link";
        }
        return "an entry";
}

/* The folder path[0..size) below above is there or is added; what is there must be a folder. */
static int add_folder(EntrySet *set, const char *name, const char *path, size_t size, Entry **above,
                      Error **reterr) {
        _cleanup_free_ char *folder = NULL, *why = NULL;
        Entry *entry;
        int r;

        folder = strndup(path, size);
        if (!folder)
                return -ENOMEM;

        entry = find(set, folder);
        if (entry && entry->type != ENTRY_FOLDER) {
                why = str_format("it would stand below \"%s\", which is %s", folder,
                                 type_noun(entry));
                return refuse(reterr, -EBADMSG, name, why ? why : "what is above it is no folder");
        }
        if (!entry) {
                r = check_count(set, name, reterr);
                if (r < 0)
                        return r;
                r = insert(set, folder, size, ENTRY_FOLDER, &entry);
                if (r < 0)
                        return r;
                entry->implied = true;
                entry->folder = *above;
        }
        *above = entry;
        return 0;
}

/* The folder that a path stands in, which is there afterwards; *ret stays NULL where it is the
 * root. */
static int add_parents(EntrySet *set, const char *name, const char *path, size_t size, Entry **ret,
                       Error **reterr) {
        const char *last = memrchr(path, '/', size);
        int r;

        if (!last)
                return 0;
        /* Archives go folder by folder: most often the last one is the one. */
        if (set->last_folder && strlen(set->last_folder->path) == (size_t) (last - path) &&
            memcmp(set->last_folder->path, path, (size_t) (last - path)) == 0) {
                *ret = set->last_folder;
                return 0;
        }

        for (const char *at = path; at <= last; at++) {
                if (*at != '/')
                        continue;
                r = add_folder(set, name, path, (size_t) (at - path), ret, reterr);
                if (r < 0)
                        return r;
        }
        set->last_folder = *ret;
        return 0;
}

static int claim_type(const EntryClaim *claim, EntryType *ret, Error **reterr) {
        const char *fault = NULL;

        if (claim->hardlink)
                *ret = ENTRY_HARDLINK;
        else if (S_ISREG(claim->mode))
                *ret = ENTRY_FILE;
        else if (S_ISDIR(claim->mode))
                *ret = ENTRY_FOLDER;
        else if (S_ISLNK(claim->mode))
                *ret = ENTRY_SYMLINK;
        else if (S_ISCHR(claim->mode) || S_ISBLK(claim->mode))
                fault = "it is a device";
        else if (S_ISFIFO(claim->mode))
                fault = "it is a FIFO (a named pipe)";
        else if (S_ISSOCK(claim->mode))
                fault = "it is a socket";
        else
                fault = "it is neither a file nor a folder nor a link";

        /* SGID on a folder only hands on a group, and no mode of a folder is kept. */
        if (!fault && (claim->mode & S_ISUID))
                fault = "it is SUID: a bundle may not bring rights of other users";
        if (!fault && (claim->mode & S_ISGID) && !S_ISDIR(claim->mode))
                fault = "it is SGID: a bundle may not bring rights of other groups";
        if (!fault && claim->encrypted)
                fault = "it is encrypted";
        if (!fault && claim->size < 0)
                fault = "its size is negative";
        return fault ? refuse(reterr, -EBADMSG, claim->name, fault) : 0;
}

static const char *symlink_fault(const char *target) {
        if (str_is_empty(target))
                return "it is a symbolic link to nothing";
        if (target[0] == '/')
                return "it is a symbolic link that leaves the folder (its target is absolute)";
        if (strlen(target) > LIMIT_ARCHIVE_NAME_BYTES)
                return "it is a symbolic link whose target is longer than 1024 bytes";
        if (!str_is_utf8(target, strlen(target), true))
                return "it is a symbolic link whose target is not clean UTF-8";
        return NULL;
}

static int claim_target(EntrySet *set, const EntryClaim *claim, Entry *entry, Error **reterr) {
        const Entry *other;
        const char *path = NULL, *fault;
        size_t size = 0;
        int r;

        if (entry->type == ENTRY_SYMLINK) {
                fault = symlink_fault(claim->symlink);
                if (fault)
                        return refuse(reterr, -EBADMSG, claim->name, fault);
                entry->target = strdup(claim->symlink);
                return entry->target ? 0 : -ENOMEM;
        }

        r = clean_name(claim->hardlink, false, &path, &size, reterr);
        if (r == -EBADMSG)
                return error_wrap(reterr, r, "\"%s\": it is a hard link that leaves the folder",
                                  entry->path);
        other = find(set, path);
        if (other == entry || !other ||
            (other->type != ENTRY_FILE && other->type != ENTRY_HARDLINK))
                return refuse(reterr, -EBADMSG, claim->name,
                              "it is a hard link to something that is not an earlier file of the "
                              "archive");
        entry->target = strndup(path, size);
        return entry->target ? 0 : -ENOMEM;
}

/* Elastic Beanstalk runs hooks whatever their mode says: it grants the bit itself. */
static bool is_hook(const char *path) {
        return str_has_prefix(path, ".platform/hooks/") ||
               str_has_prefix(path, ".platform/confighooks/");
}

static int claim_file(EntrySet *set, const EntryClaim *claim, Entry *entry, Error **reterr) {
        _cleanup_free_ char *why = NULL;
        uint64_t size = (uint64_t) claim->size;

        entry->executable = (claim->mode & S_IXUSR) || is_hook(entry->path);
        if (entry->type == ENTRY_HARDLINK)
                return claim_target(set, claim, entry, reterr);
        if (size > set->max_bytes - set->bytes) {
                why = str_format(
                        "with it the archive has more than the %llu bytes that are allowed",
                        (unsigned long long) set->max_bytes);
                return refuse(reterr, -EFBIG, claim->name, why ? why : "too many bytes");
        }
        entry->size = size;
        set->bytes += size;
        return 0;
}

/* There is something of this path already: only a folder that was implied may be named now. */
static int add_again(const EntryClaim *claim, EntryType type, Entry *before, Error **reterr) {
        _cleanup_free_ char *why = NULL;

        if (before->implied && type == ENTRY_FOLDER) {
                before->implied = false;
                before->mtime = claim->mtime;
                return 0;
        }
        if (before->type == type)
                return refuse(reterr, -EBADMSG, claim->name,
                              "the archive has two entries of this name");
        why = str_format("the archive has two entries of this name: before, it was %s",
                         type_noun(before));
        return refuse(reterr, -EBADMSG, claim->name, why ? why : "two entries of this name");
}

static int add_new(EntrySet *set, const EntryClaim *claim, EntryType type, const char *path,
                   Entry **ret, Error **reterr) {
        Entry *entry;
        int r;

        r = check_count(set, claim->name, reterr);
        if (r < 0)
                return r;
        r = insert(set, path, strlen(path), type, &entry);
        if (r < 0)
                return r;
        entry->mtime = claim->mtime;
        *ret = entry;

        switch (type) {
        case ENTRY_FOLDER:
                set->last_folder = entry;
                return 0;
        case ENTRY_SYMLINK:
                return claim_target(set, claim, entry, reterr);
        case ENTRY_FILE:
        case ENTRY_HARDLINK:
                return claim_file(set, claim, entry, reterr);
        }
        return -EINVAL;
}

int entry_set_add(EntrySet *set, const EntryClaim *claim, const Entry **ret, Error **reterr) {
        _cleanup_free_ char *plain = NULL;
        const char *path = NULL;
        Entry *entry = NULL, *folder = NULL;
        EntryType type = ENTRY_FILE;
        size_t size = 0;
        int r;

        assert(set && claim);

        set->n_claims++;
        if (ret)
                *ret = NULL;
        if (!claim->name)
                return error_set(reterr, -EBADMSG, "entry %zu: the name is not valid UTF-8",
                                 set->n_claims);
        r = claim_type(claim, &type, reterr);
        if (r < 0)
                return r;
        r = clean_name(claim->name, type == ENTRY_FOLDER, &path, &size, reterr);
        if (r < 0 || size == 0)
                return r;
        r = add_parents(set, claim->name, path, size, &folder, reterr);
        if (r < 0)
                return r;

        plain = strndup(path, size);
        if (!plain)
                return -ENOMEM;
        entry = find(set, plain);
        r = entry ? add_again(claim, type, entry, reterr)
                  : add_new(set, claim, type, plain, &entry, reterr);
        if (r < 0)
                return r;
        entry->folder = folder;
        if (ret)
                *ret = entry;
        return 0;
}

/* Where a link leads, step by step. */
typedef struct Walk {
        const EntrySet *set;
        const Entry *link; /* whose walk it is */
        char at[PATH_MAX]; /* "" is the folder itself */
        size_t size;
        unsigned n_followed;
        size_t *steps_left; /* for all links of the archive together: they can be made to take for
                               ever */
} Walk;

static int walk_up(Walk *walk, Error **reterr) {
        char *slash;

        if (walk->size == 0)
                return refuse(reterr, -EBADMSG, walk->link->path,
                              "it is a symbolic link that leaves the folder");
        slash = memrchr(walk->at, '/', walk->size);
        walk->size = slash ? (size_t) (slash - walk->at) : 0;
        walk->at[walk->size] = '\0';
        return 0;
}

static int walk_down(Walk *walk, const char *component, size_t n, Error **reterr) {
        if (walk->size + n + 2 > sizeof(walk->at))
                return refuse(reterr, -EBADMSG, walk->link->path,
                              "it is a symbolic link to a path that is too long");
        if (walk->size > 0)
                walk->at[walk->size++] = '/';
        memcpy(walk->at + walk->size, component, n);
        walk->size += n;
        walk->at[walk->size] = '\0';
        return 0;
}

static int walk_along(Walk *walk, const char *path, Error **reterr);

static int walk_component(Walk *walk, const char *component, size_t n, Error **reterr) {
        const Entry *entry;
        int r;

        if (n == 0 || (n == 1 && component[0] == '.'))
                return 0;
        if (n == 2 && memcmp(component, "..", 2) == 0)
                return walk_up(walk, reterr);
        r = walk_down(walk, component, n, reterr);
        if (r < 0)
                return r;

        entry = find(walk->set, walk->at);
        if (!entry || entry->type != ENTRY_SYMLINK)
                return 0;
        if (++walk->n_followed > LINKS_FOLLOWED)
                return refuse(reterr, -EBADMSG, walk->link->path,
                              "it is a symbolic link that leads round in a circle");
        r = walk_up(walk, reterr);
        if (r < 0)
                return r;
        return walk_along(walk, entry->target, reterr);
}

/* As deep as links are followed: walk_component() comes back here for each. */
static int walk_along(Walk *walk, const char *path, Error **reterr) {
        int r;

        for (const char *at = path; *at != '\0';) {
                size_t n = strcspn(at, "/");

                if ((*walk->steps_left)-- == 0)
                        return refuse(reterr, -EFBIG, walk->link->path,
                                      "the archive's symbolic links are too many and too tangled");
                r = walk_component(walk, at, n, reterr);
                if (r < 0)
                        return r;
                at += n + (at[n] == '/');
        }
        return 0;
}

int entry_set_check_links(const EntrySet *set, Error **reterr) {
        size_t steps_left = LINK_STEPS;
        int r;

        for (size_t i = 0; i < set->n_entries; i++) {
                const Entry *link = set->entries[i];
                Walk walk = { .set = set, .link = link, .steps_left = &steps_left };
                const char *slash;

                if (link->type != ENTRY_SYMLINK)
                        continue;
                slash = strrchr(link->path, '/');
                r = slash ? walk_down(&walk, link->path, (size_t) (slash - link->path), reterr) : 0;
                if (r < 0)
                        return r;
                r = walk_along(&walk, link->target, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

int entry_check_ratio(const char *name, uint64_t bytes_out, uint64_t bytes_in, Error **reterr) {
        _cleanup_free_ char *why = NULL;

        if (bytes_out <= RATIO_FREE_BYTES || bytes_out / LIMIT_ARCHIVE_RATIO <= bytes_in)
                return 0;
        why = str_format("%llu bytes come out of %llu: more than the %d fold that is allowed",
                         (unsigned long long) bytes_out, (unsigned long long) bytes_in,
                         LIMIT_ARCHIVE_RATIO);
        return refuse(reterr, -EFBIG, name, why ? why : "the compression ratio is too high");
}
