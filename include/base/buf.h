#pragma once

/*
 * A growing run of bytes with a maximum. There is no buffer without one: appending beyond it is
 * -EFBIG and changes nothing. The bytes are always followed by a NUL that does not count, so that
 * text can be read as a string.
 *
 * Life: BUF_INIT(max) or buf_init(), any number of appends, buf_done() (also on a buffer that
 * failed).
 */

#include <stdarg.h>
#include <stdint.h>

#include "base/macro.h"

typedef struct Buf {
        char *data; /* NULL while empty and never filled; else NUL-terminated */
        size_t size;
        size_t allocated;
        size_t max_bytes;
} Buf;

#define BUF_INIT(max)                                                                              \
        { .max_bytes = (max) }

void buf_init(Buf *buf, size_t max_bytes);
void buf_done(Buf *buf);

/* Empties it and keeps the memory. */
void buf_clear(Buf *buf);

/* 0, -EFBIG beyond the maximum, -ENOMEM. On failure the buffer is as it was. */
int buf_append(Buf *buf, const void *data, size_t size);
int buf_append_str(Buf *buf, const char *text);
int buf_printf(Buf *buf, const char *format, ...) _printf_(2, 3);
int buf_vprintf(Buf *buf, const char *format, va_list ap) _printf_(2, 0);

/* Makes room for size more bytes and returns where they go; buf_commit() counts what was written
 * there. NULL: beyond the maximum or no memory. */
void *buf_reserve(Buf *buf, size_t size);
void buf_commit(Buf *buf, size_t size);

/* Removes the first size bytes. */
void buf_consume(Buf *buf, size_t size);

/* The bytes as a string that the caller frees; the buffer is empty afterwards. Never NULL but for
 * -ENOMEM. */
char *buf_steal(Buf *buf);

/* The content as a string, "" where empty; valid until the next change. */
const char *buf_str(const Buf *buf);
