#pragma once

/*
 * Landlock: a process gives up, for itself and all that it starts, what it names nothing of.
 * Everything that the running kernel's version can forbid is forbidden, files, TCP ports, abstract
 * sockets and signals of others, but what is allowed before landlock_enforce().
 *
 *   1. landlock_begin(): LANDLOCK_NONE where the kernel has none
 *   2. landlock_allow() for each folder or file
 *   3. landlock_enforce(): for ever
 *
 * The process must have no-new-privs by then. A sanitizer does what it likes at its end: callers
 * leave Landlock out where SANITIZED is 1.
 *
 * Source: landlock(7), Documentation/userspace-api/landlock.rst (versions and what each adds).
 */

#include <linux/landlock.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
        __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Newer than the headers this may be built with: from version 3. */
#define LANDLOCK_TRUNCATE (UINT64_C(1) << 14)

/* To list and read. */
#define LANDLOCK_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

#define LANDLOCK_NONE 1

/* may_connect: TCP connections to anywhere stay possible; binding never is. *ret_fd is the
 * caller's. 0, LANDLOCK_NONE, negative with words. */
int landlock_begin(bool may_connect, int *ret_fd, Error **reterr);

/* What is at fd (O_PATH suffices), and below it where it is a folder; rights of this kernel's
 * version only count, others are dropped. A file takes no rights of folders. */
int landlock_allow(int ruleset_fd, int fd, uint64_t rights, Error **reterr);

int landlock_enforce(int ruleset_fd, Error **reterr);
