#pragma once

/*
 * Small questions about strings, and lists of strings (NULL-terminated char **).
 *
 * Lists are built with strv_add(), which refuses to grow beyond the given maximum.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/macro.h"

bool str_equal(const char *a, const char *b); /* both NULL: equal */
bool str_is_empty(const char *text);          /* NULL counts */
bool str_has_prefix(const char *text, const char *prefix);
bool str_has_suffix(const char *text, const char *suffix);

/* [A-Za-z0-9][A-Za-z0-9._-]{0,99}: application, environment, version label, host id, key id. */
bool str_is_label(const char *text);

/* 64 lower-case hexadecimal digits. */
bool str_is_sha256(const char *text);

/* Valid UTF-8 without NUL; with no_control also without C0, DEL and C1 control characters. */
bool str_is_utf8(const char *text, size_t size, bool no_control);

/* Copies text, replacing what a terminal could obey (control characters, invalid UTF-8) by '?'.
 * NULL: no memory. */
char *str_printable(const char *text, size_t size);

/* printf into a new string that the caller frees; NULL: no memory. */
char *str_format(const char *format, ...) _printf_(1, 2);

/* Whole-string numbers: 0, -EINVAL (not a number), -ERANGE. No sign, blanks, or base prefix is
 * accepted. */
int str_to_u64(const char *text, uint64_t *ret);

/* n random bytes from the kernel as 2n hexadecimal digits; the caller frees. NULL: no memory. */
char *str_random_hex(size_t n_bytes);

/* A list of strings. */
size_t strv_count(char *const *list);
bool strv_contains(char *const *list, const char *text);
int strv_add(char ***list, size_t max, const char *text); /* copies; 0, -E2BIG, -ENOMEM */
char **strv_copy(char *const *list);                      /* NULL: no memory (or list NULL) */
char **strv_free(char **list);                            /* takes NULL, returns NULL */
DEFINE_CLEANUP(char *, strv_free);
