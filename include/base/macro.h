#pragma once

/*
 * The handful of macros that every file may use: ownership markers, hand-over, array sizes.
 *
 * A local that owns something is declared with one of the _cleanup_ markers and an empty value, and
 * is handed over with TAKE_PTR or TAKE_FD and nothing else. DEFINE_CLEANUP makes the marker
 * function for a type whose x_free() returns NULL.
 */

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

#define _cleanup_(fn)            __attribute__((cleanup(fn)))
#define _printf_(fmt_at, arg_at) __attribute__((format(printf, fmt_at, arg_at)))
#define _unused_                 __attribute__((unused))
#define _warn_unused_            __attribute__((warn_unused_result))
#define _noreturn_               __attribute__((noreturn))

/* The value of the pointer; the variable is NULL afterwards. */
#define TAKE_PTR(p)                                                                                \
        ({                                                                                         \
                __typeof__(p) *_take_at = &(p);                                                    \
                __typeof__(p) _taken = *_take_at;                                                  \
                *_take_at = NULL;                                                                  \
                _taken;                                                                            \
        })

/* The value of the descriptor; the variable is -EBADF afterwards. */
#define TAKE_FD(fd)                                                                                \
        ({                                                                                         \
                int *_take_at = &(fd);                                                             \
                int _taken = *_take_at;                                                            \
                *_take_at = -9;                                                                    \
                _taken;                                                                            \
        })

/* DEFINE_CLEANUP(Store, store_free) gives store_freep() for _cleanup_(store_freep) Store *s = NULL.
 */
#define DEFINE_CLEANUP(type, fn)                                                                   \
        static inline void fn##p(type **p) {                                                       \
                if (*p)                                                                            \
                        (void) fn(*p);                                                             \
        }                                                                                          \
        struct _cleanup_needs_a_semicolon

static inline void freep(void *p) {
        free(*(void **) p);
}

static inline void closep(const int *fd) {
        if (*fd >= 0)
                (void) close(*fd);
}

#define _cleanup_free_  _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
