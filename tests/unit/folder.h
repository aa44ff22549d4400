#pragma once

/* A folder of a test's own below /tmp, gone afterwards. */

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/macro.h"

typedef struct Folder {
        char path[32];
        int fd;
} Folder;

static inline int folder_remove_one(const char *path, const struct stat *st, int type,
                                    struct FTW *ftw) {
        (void) st;
        (void) type;
        (void) ftw;
        return remove(path);
}

static inline Folder folder_new(void) {
        Folder folder = { .path = "/tmp/tendril-test-XXXXXX" };

        if (!mkdtemp(folder.path))
                abort();
        folder.fd = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder.fd < 0)
                abort();
        return folder;
}

static inline void folder_done(Folder *folder) {
        closep(&folder->fd);
        if (nftw(folder->path, folder_remove_one, 32, FTW_DEPTH | FTW_PHYS) < 0)
                abort();
}
