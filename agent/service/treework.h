#pragma once

/*
 * What tendril-tree does, as functions, so that tests can call them; private to agent/service and
 * agent/programs/tree.c. libc and base/error only. Nothing here trusts a name twice: an entry is
 * opened once (O_PATH, not following links, not crossing mounts), looked at and changed through
 * that descriptor.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

#define TREE_SCRATCH          "/var/app" /* what the view puts its folders in */
#define TREE_VIEW_FOLDERS_MAX 16
#define TREE_VIEW_GROUPS_MAX  64

/* treework.c: `own`, `give`, `remove` (service/tree.h). Folders are borrowed. Notes for the
 * operator go to stderr. */
int treework_own(int version_fd, Error **reterr);
int treework_give(int app_fd, uid_t uid, gid_t gid, Error **reterr);
int treework_remove(int dir_fd, const char *name, Error **reterr);

/* How a folder is put under one that is mounted already, best first; a kernel that cannot do one is
 * asked the next. */
typedef enum TreeMountWay {
        TREE_MOUNT_BENEATH = 1, /* MOVE_MOUNT_BENEATH, Linux 6.5 */
        TREE_MOUNT_TUCK, /* by propagation from a peer of the mount above, where that is shared */
        TREE_MOUNT_GAP, /* the old one off, the new one on: a few microseconds of an empty folder */
} TreeMountWay;

/* treemount.c: `mount`, `unmount`. ns: path of the mount namespace to do it in ("/proc/1/ns/mnt"),
 * NULL: here. first: the way to begin with. 0, 1 (TREE_WAS_LINK), negative errno. */
int treemount_mount(int app_fd, const char *path, const char *ns, TreeMountWay first,
                    Error **reterr);
int treemount_unmount(const char *path, const char *ns, Error **reterr);

/* One folder of the view: NAME below /var/app shows what dir is. */
typedef struct TreeFolder {
        const char *name;
        const char *dir;
} TreeFolder;

typedef struct TreeView {
        TreeFolder folders[TREE_VIEW_FOLDERS_MAX];
        size_t n_folders;
        bool plain;
        bool set_user;
        uid_t uid;
        gid_t gid;
        gid_t groups[TREE_VIEW_GROUPS_MAX];
        size_t n_groups;
        int wait_fd;     /* -1: none */
        const char *cwd; /* NULL: the folder named current */
        char **argv;
} TreeView;

typedef enum TreeViewAnswer {
        TREE_VIEW_NONE = 1, /* no namespace can be had */
        TREE_VIEW_ORPHAN,   /* the wait ended without a byte */
} TreeViewAnswer;

/* treeview.c: [options] -- ARGV...; false: wrong. Points into argv, whose strings are cut. */
bool treeview_parse(int argc, char **argv, TreeView *ret);

/* `view`: becomes argv, or returns an answer or a negative errno. */
int treeview_run(const TreeView *view, Error **reterr);

/* The mounts of a view alone, in the namespace of the caller, which must be one of its own. */
int treeview_enter(const TreeView *view, Error **reterr);

/* `probe`: 0 or TREE_VIEW_NONE. Changes the caller's namespace. */
int treeview_probe(void);
