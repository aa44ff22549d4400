#pragma once

/*
 * Memory that held a secret is wiped before it is freed. Private to what deals with credentials.
 */

#include "base/buf.h"
#include "base/macro.h"

/* A string; takes NULL, returns NULL. */
char *secret_free(char *secret);
static inline void secret_freep(char **p) {
        (void) secret_free(*p);
}

/* A buffer whose place was reserved at once: growing leaves copies behind. */
void secret_buf_done(Buf *buf);

/* A list of strings; takes NULL, returns NULL. */
char **secret_strv_free(char **list);

#define _cleanup_secret_     _cleanup_(secret_freep)
#define _cleanup_secret_buf_ _cleanup_(secret_buf_done)

/* The whole of a regular file into an empty buffer, at once. Links are followed: mounted secrets
 * are made of them. -EFBIG, -EINVAL (no regular file), errno of the system. */
int secret_read_file(const char *path, Buf *ret);
