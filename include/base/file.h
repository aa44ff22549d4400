#pragma once

/*
 * Files, always relative to a held directory descriptor (AT_FDCWD works too), always O_CLOEXEC,
 * never following a link in the last component.
 *
 * file_write_at() is the only way in which tendril puts small files on disk. With FILE_REPLACE it
 * writes a temporary beside the target (".tmp-" + name + "." + 8 hex digits), and renames it; with
 * FILE_SYNC the file is synced before the rename and the directory after it, so that after a power
 * cut either the old or the new content is there, whole. Left-over temporaries of a crash are
 * recognisable by their prefix: file_sweep_at().
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/macro.h"

typedef enum FileFlags {
        FILE_REPLACE =
                1 << 0, /* atomically put in place of what is there; without it: -EEXIST if there */
        FILE_SYNC = 1 << 1, /* durable when the call returns */
        FILE_KEEP_PREVIOUS =
                1 << 2, /* the old content stays as NAME.previous (hard link, then rename) */
} FileFlags;

/* The whole file appended to ret. -ENOENT, -EFBIG (larger than the buffer's maximum), -ELOOP (a
 * link), -EINVAL (not a regular file), other errno of the system. */
int file_read_at(int dir_fd, const char *name, Buf *ret);
int file_read_fd(int fd, Buf *ret); /* from offset 0, whatever the position */

int file_write_at(int dir_fd, const char *name, const void *data, size_t size, mode_t mode,
                  FileFlags flags);

/* Every byte or an error; repeats short writes and EINTR. */
int file_write_all(int fd, const void *data, size_t size);

/* Creates what is missing of a relative or absolute path and returns a descriptor of the last
 * folder (O_DIRECTORY|O_RDONLY), or a negative errno. Folders that exist keep their mode. */
int file_mkdirs_at(int dir_fd, const char *path, mode_t mode);

/* Opens an existing folder, not following a link in the last component. */
int file_open_dir_at(int dir_fd, const char *name);

/* Removes a file; not being there is fine. With sync the folder is synced afterwards. */
int file_remove_at(int dir_fd, const char *name, bool sync);

/* Removes temporaries that file_write_at() left in a crash. Returns how many, or a negative errno.
 */
int file_sweep_at(int dir_fd);

bool file_exists_at(int dir_fd, const char *name);

/* The names in a folder, in no order, without "." and ".."; at most max of them (-E2BIG). An empty
 * folder is *ret NULL. The caller frees the list. */
int file_list_at(int dir_fd, size_t max, char ***ret);

/* A sealed-able memory file with this content, positioned at 0; the caller closes it. Negative
 * errno. */
int file_memfd(const char *name, const void *data, size_t size);
