#pragma once

/*
 * The command line of one verb: a table of its options, read in one way for all verbs, and the same
 * table is its --help.
 *
 *   1. fill an ArgCommand; each option names the variable that it sets (options that are not given
 * leave it alone)
 *   2. args_parse(); what it returns tells whether to go on
 *   3. use the words, which stand in argv as they were
 *
 * Options and words may be mixed; `--name VALUE`, `--name=VALUE`; `--` ends the options. Every verb
 * also knows --help (-h), --root DIR and
 * --socket PATH: the last two are put into the environment (TENDRIL_ROOT, TENDRIL_SOCKET), where
 * ctl_open() and children find them. What is wrong is told on stderr in one sentence, with the
 * nearest name where something was mistyped.
 */

#include <stdbool.h>
#include <stdio.h>

#include "base/macro.h"

#define ARGS_ENV_ROOT   "TENDRIL_ROOT"
#define ARGS_ENV_SOCKET "TENDRIL_SOCKET"

typedef enum ArgKind {
        ARG_FLAG,  /* bool: becomes true */
        ARG_TEXT,  /* const char *: borrowed from argv; the last one given counts */
        ARG_SPAN,  /* usec_t, in time_parse_span()'s words */
        ARG_COUNT, /* uint64_t */
        ARG_LIST, /* char **: one copy for each time it is given; the caller frees with strv_free(),
                     on failure too */
} ArgKind;

typedef struct ArgOption {
        const char *name; /* without the dashes; NULL ends the table */
        ArgKind kind;
        void *at;          /* the variable */
        const char *value; /* what to call its value in --help: "FILE"; NULL for flags */
        const char *help;  /* one line */
} ArgOption;

typedef struct ArgCommand {
        const char *name;         /* the verb, "deploy"; NULL: `tendril` itself */
        const char *words;        /* what may stand beside the options, "[DEPLOY]"; NULL: nothing */
        const char *help;         /* what the verb does: whole lines, each ended by a newline */
        const ArgOption *options; /* NULL: none of its own */
        size_t min_words;
        size_t max_words;
} ArgCommand;

typedef enum ArgsAnswer {
        ARGS_HELP = 1, /* --help was asked for and printed: end with EXIT_CODE_OK */
} ArgsAnswer;

/* argv[0] is the verb. *ret_words: NULL-terminated, inside argv (which is put in another order). 0;
 * ARGS_HELP; -EINVAL: the line is wrong and it was told: end with EXIT_CODE_USAGE; -ENOMEM, told.
 */
int args_parse(const ArgCommand *command, int argc, char **argv, char ***ret_words);

/* The same for what stands before the verb: stops at the first word. *ret_n is how many of argv
 * were read (with argv[0]). */
int args_parse_leading(const ArgCommand *command, int argc, char **argv, int *ret_n);

/* The usage line, the help and the options. */
void args_print_help(const ArgCommand *command, FILE *to);

/* "tendril VERB: words" on stderr with a hint at --help. Returns EXIT_CODE_USAGE. verb NULL:
 * `tendril` itself. */
int args_usage(const char *verb, const char *format, ...) _printf_(2, 3);

/* Which of the n names was probably meant, or NULL where none is near. */
const char *args_nearest(const char *word, const char *const *names, size_t n);
