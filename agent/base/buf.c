#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BUF_FIRST_BYTES 64

void buf_init(Buf *buf, size_t max_bytes) {
        *buf = (Buf) BUF_INIT(max_bytes);
}

void buf_done(Buf *buf) {
        free(buf->data);
        *buf = (Buf) BUF_INIT(buf->max_bytes);
}

void buf_clear(Buf *buf) {
        buf->size = 0;
        if (buf->data)
                buf->data[0] = 0;
}

/* Doubles, so that n appends copy O(n) bytes, but never beyond what the maximum and the NUL need.
 */
static int buf_grow(Buf *buf, size_t size) {
        size_t need, want;
        char *data;

        if (buf->size > buf->max_bytes || size > buf->max_bytes - buf->size)
                return -EFBIG;
        if (buf->size + size >= SIZE_MAX / 2)
                return -ENOMEM;

        need = buf->size + size + 1;
        if (need <= buf->allocated)
                return 0;

        want = MAX(MAX(need, buf->allocated * 2), BUF_FIRST_BYTES);
        if (buf->max_bytes < want - 1)
                want = buf->max_bytes + 1;

        data = realloc(buf->data, want);
        if (!data)
                return -ENOMEM;

        data[buf->size] = 0;
        buf->data = data;
        buf->allocated = want;
        return 0;
}

int buf_append(Buf *buf, const void *data, size_t size) {
        int r;

        r = buf_grow(buf, size);
        if (r < 0)
                return r;

        if (size > 0)
                memcpy(buf->data + buf->size, data, size);
        buf_commit(buf, size);
        return 0;
}

int buf_append_str(Buf *buf, const char *text) {
        return buf_append(buf, text, strlen(text));
}

int buf_printf(Buf *buf, const char *format, ...) {
        va_list ap;
        int r;

        va_start(ap, format);
        r = buf_vprintf(buf, format, ap);
        va_end(ap);
        return r;
}

int buf_vprintf(Buf *buf, const char *format, va_list ap) {
        va_list measured;
        int n, r;

        va_copy(measured, ap);
        n = vsnprintf(NULL, 0, format, measured);
        va_end(measured);
        if (n < 0)
                return -EINVAL;

        r = buf_grow(buf, (size_t) n);
        if (r < 0)
                return r;

        (void) vsnprintf(buf->data + buf->size, (size_t) n + 1, format, ap);
        buf_commit(buf, (size_t) n);
        return 0;
}

void *buf_reserve(Buf *buf, size_t size) {
        if (buf_grow(buf, size) < 0)
                return NULL;
        return buf->data + buf->size;
}

void buf_commit(Buf *buf, size_t size) {
        assert(buf->data);
        assert(size < buf->allocated - buf->size);

        buf->size += size;
        buf->data[buf->size] = 0;
}

void buf_consume(Buf *buf, size_t size) {
        assert(size <= buf->size);

        if (size == 0)
                return;
        memmove(buf->data, buf->data + size, buf->size - size + 1);
        buf->size -= size;
}

char *buf_steal(Buf *buf) {
        char *data = TAKE_PTR(buf->data);

        buf->size = 0;
        buf->allocated = 0;
        return data ?: calloc(1, 1);
}

const char *buf_str(const Buf *buf) {
        return buf->data ?: "";
}
