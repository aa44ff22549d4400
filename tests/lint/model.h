#pragma once

/*
 * What the static analysers are told of functions in other files, included before every file that they read (not before
 * agent/base/error.c, which defines them): that failing returns the code it was given. Else each caller of a function that
 * failed is also analysed as if that had said 0.
 */

#include "base/error.h"

#define error_set(reterr, code, ...)  ((void) (error_set)(reterr, code, __VA_ARGS__), (code))
#define error_wrap(reterr, code, ...) ((void) (error_wrap)(reterr, code, __VA_ARGS__), (code))
