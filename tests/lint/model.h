#pragma once

/*
 * What the static analysers are told of functions in other files, included before every file that they read (not before
 * agent/base/error.c and str.c, which define them): that failing returns the code it was given, that errno is positive
 * where it is asked for, which texts are empty. Else what cannot be is analysed too.
 */

#include <errno.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/str.h"

#define error_set(reterr, code, ...)  ((void) (error_set)(reterr, code, __VA_ARGS__), (code))
#define error_wrap(reterr, code, ...) ((void) (error_wrap)(reterr, code, __VA_ARGS__), (code))

static inline int *model_errno(void) {
        int *at = __errno_location();

        if (*at <= 0)
                __builtin_unreachable();
        return at;
}
#undef errno
#define errno (*model_errno())

static inline bool model_is_empty(const char *text) {
        return !text || *text == '\0';
}
#define str_is_empty(text) model_is_empty(text)
