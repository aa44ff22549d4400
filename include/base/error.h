#pragma once

/*
 * How a function says what went wrong.
 *
 * Three outcomes, three signs. r < 0: broken; r is a negative errno chosen for what the caller can
 * do about it (-EAGAIN try again, -EBADMSG the other side sent rubbish, -ENOSPC, -EPERM, ...), and
 * *reterr, where the function has one, says it in words. r == 0: done. r > 0: an answer from the
 * module's own enum.
 *
 * An Error is a code and a sentence. Wrapping puts the outer words in front, so that the text reads
 * from the outside in: "fetch: version v42: write bundle: No space left on device".
 *
 * Every function here accepts reterr == NULL (the caller does not want words). Under memory
 * shortage the sentence may be lost, never the code: error_text() then gives strerror of the code.
 */

#include "base/macro.h"

typedef struct Error Error;

/* Makes *reterr a new error. Returns code, so that failing is one statement. *reterr must be NULL
 * before. */
int error_set(Error **reterr, int code, const char *format, ...) _printf_(3, 4);

/* Puts "words: " in front of what *reterr says (or makes it from strerror(-code) where it is NULL),
 * and sets its code. Returns code. */
int error_wrap(Error **reterr, int code, const char *format, ...) _printf_(3, 4);

/* Hands an error on: *reterr takes *from, which becomes NULL. Returns the code. */
int error_take(Error **reterr, Error **from);

/* The sentence; valid as long as the error. "unknown error" for NULL. */
const char *error_text(const Error *error);

/* The negative errno; 0 for NULL. */
int error_code(const Error *error);

/* Takes NULL. Returns NULL. */
Error *error_free(Error *error);
DEFINE_CLEANUP(Error, error_free);
