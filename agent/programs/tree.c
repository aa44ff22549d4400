/*
 * tendril-tree: root's long work on files and mounts (service/tree.h). Its life: read the command
 * line, do one thing, say in one sentence what was not possible, end. Links libc alone.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "service/tree.h"
#include "service/treework.h"

#define DIR_FD  3
#define HOST_NS "/proc/1/ns/mnt"

static int usage(void) {
        (void) fputs(
                "usage: tendril-tree own UID GID | give UID GID | sync | remove NAME |\n"
                "                    mount PATH | unmount PATH | view [options] -- ARGV... | "
                "probe\n"
                "A folder is given as descriptor 3. It is started by tendrild, not by people.\n",
                stderr);
        return 2;
}

/* How many arguments stand behind the verb; -1: any. */
static const struct {
        const char *name;
        int n_args;
} verbs[] = {
        { "own", 2 },   { "give", 2 },    { "sync", 0 },  { "remove", 1 },
        { "mount", 1 }, { "unmount", 1 }, { "view", -1 }, { "probe", 0 },
};

static bool verb_is_known(const char *verb, int n_args) {
        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                if (str_equal(verbs[i].name, verb))
                        return verbs[i].n_args < 0 || verbs[i].n_args == n_args;
        return false;
}

static int run_files(char **argv, Error **reterr) {
        uint64_t uid, gid;

        if (str_equal(argv[1], "sync"))
                return syncfs(DIR_FD) < 0 ? error_set(reterr, -errno, "%s", strerror(errno)) : 0;
        if (str_equal(argv[1], "remove"))
                return treework_remove(DIR_FD, argv[2], reterr);
        if (str_to_u64(argv[2], &uid) < 0 || str_to_u64(argv[3], &gid) < 0 || uid > INT32_MAX ||
            gid > INT32_MAX)
                return error_set(reterr, -EINVAL, "'%s %s' is no user and group", argv[2], argv[3]);
        if (str_equal(argv[1], "own"))
                return treework_own(DIR_FD, reterr);
        return treework_give(DIR_FD, (uid_t) uid, (gid_t) gid, reterr);
}

/* Exit code, or negative errno. */
static int run_view(int argc, char **argv, Error **reterr) {
        TreeView view;
        int r;

        if (!treeview_parse(argc - 2, argv + 2, &view))
                return usage();
        r = treeview_run(&view, reterr);
        if (r == TREE_VIEW_NONE)
                return TREE_EXIT_NO_VIEW;
        return r == TREE_VIEW_ORPHAN ? 0 : r;
}

int main(int argc, char **argv) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        if (argc < 2 || !verb_is_known(argv[1], argc - 2))
                return usage();
        if (str_equal(argv[1], "view"))
                r = run_view(argc, argv, &err);
        else if (str_equal(argv[1], "probe"))
                r = treeview_probe() == 0 ? 0 : TREE_EXIT_LINK;
        else if (str_equal(argv[1], "mount"))
                r = treemount_mount(DIR_FD, argv[2], HOST_NS, TREE_MOUNT_BENEATH, &err);
        else if (str_equal(argv[1], "unmount"))
                r = treemount_unmount(argv[2], HOST_NS, &err);
        else
                r = run_files(argv, &err);
        if (r < 0) {
                (void) fprintf(stderr, "%s: %s\n", argv[1], err ? error_text(err) : strerror(-r));
                return 1;
        }
        return r == TREE_WAS_LINK ? TREE_EXIT_LINK : r;
}
