#pragma once

/* Takes the values of secrets out of lines of output. Private to agent/service. */

#include <stdbool.h>
#include <stddef.h>

typedef struct Mask Mask;

/*
 * values may be NULL. Values shorter than 4 bytes are not masked (they would be found everywhere);
 * one of several lines is masked line by line. Copied. NULL: no memory.
 */
Mask *mask_new(char *const *values);

/*
 * The line for people: every secret in it replaced by "***", then what a terminal could obey by
 * "?". With is_cut the line was longer, and a secret that may begin at its end is masked too. The
 * caller frees; NULL: no memory.
 */
char *mask_line(const Mask *mask, const char *line, bool is_cut);

Mask *mask_free(Mask *mask);
