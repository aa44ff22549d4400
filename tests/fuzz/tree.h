#pragma once

/* A folder in memory for one fuzz input, and what is in it. */

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macro.h"

typedef struct Tree {
        char path[40];
        int fd;
} Tree;

static inline int tree_remove_one(const char *path, const struct stat *st, int type,
                                  struct FTW *ftw) {
        (void) st;
        (void) type;
        (void) ftw;
        return remove(path);
}

/* /dev/shm is memory where it is there at all. The folder "in" is the one to work in. */
static inline Tree tree_new(void) {
        Tree tree = { .path = "/dev/shm/tendril-fuzz-XXXXXX" };
        int fd;

        if (!mkdtemp(tree.path)) {
                (void) snprintf(tree.path, sizeof(tree.path), "/tmp/tendril-fuzz-XXXXXX");
                if (!mkdtemp(tree.path))
                        abort();
        }
        fd = open(tree.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || mkdirat(fd, "in", 0755) < 0)
                abort();
        tree.fd = openat(fd, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (tree.fd < 0)
                abort();
        (void) close(fd);
        return tree;
}

static inline void tree_done(Tree *tree) {
        struct stat st;

        /* Nothing came to stand beside "in". */
        if (stat(tree->path, &st) < 0 || st.st_nlink != 3)
                abort();
        closep(&tree->fd);
        if (nftw(tree->path, tree_remove_one, 64, FTW_DEPTH | FTW_PHYS) < 0)
                abort();
}
