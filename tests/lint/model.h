#pragma once

/*
 * What the static analysers are told of functions in other files, included before every file that
 * they read (not before agent/base/error.c and str.c, which define them): that failing returns the
 * code it was given, and which texts are empty. Else what cannot be is analysed too.
 */

#include <stdbool.h>

#include "base/error.h"
#include "base/str.h"

#define error_set(reterr, code, ...)  ((void) (error_set) (reterr, code, __VA_ARGS__), (code))
#define error_wrap(reterr, code, ...) ((void) (error_wrap) (reterr, code, __VA_ARGS__), (code))

static inline bool model_is_empty(const char *text) {
        return !text || *text == '\0';
}
#define str_is_empty(text) model_is_empty(text)
