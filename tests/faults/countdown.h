#pragma once

/*
 * The n-th allocation fails, then the n-th system call: n = 1, 2, ... until a run of the case needs
 * fewer. Linked with -Wl,--wrap, so that it is the agent's own calls that fail, and jansson's
 * allocations.
 *
 * A case does one thing: begin() puts everything as it was before (nothing fails there), run() does
 * it, end() looks at what is left (nothing fails there either) and calls countdown_bad() where that
 * is not right.
 */

#include <stdbool.h>

#include "base/error.h"

typedef enum CaseFlags {
        CASE_NO_WORDS = 1 << 0, /* it has no Error */
        CASE_ANY_CODE = 1 << 1, /* no memory may show as another code too: another process or
                                   library was asked */
        CASE_NO_CALLS = 1 << 2, /* makes no system call that could fail */
} CaseFlags;

typedef struct Case {
        const char *name;
        void (*begin)(void);
        int (*run)(Error **reterr);
        void (*end)(int r);
        unsigned flags;
} Case;

extern const Case cases[]; /* of the program; ends with a row without a name */

void countdown_bad(const char *format, ...) _printf_(1, 2);

/* Between these nothing fails: the test's own work within run(). */
void countdown_pause(void);
void countdown_resume(void);

/* True where it was one of jansson's allocations: its reader (2.14) then loses a byte of a string
 * without a word, so that nothing can be said of what was read. */
bool countdown_is_jansson(void);
