#pragma once

/*
 * The verbs of `tendril` that speak of this host. Each is a function with its own argv and gives an
 * exit code (agent/contract.h); what it says goes to stdout, as sentences and tables for people or,
 * with --json, one JSON object a line; what went wrong is one sentence on stderr.
 *
 * The rest of this header is what the verbs share: a Ctl is where the agent is and how to speak to
 * the caller.
 *
 *   1. ctl_init() resolves paths (TENDRIL_ROOT, TENDRIL_SOCKET) and looks whether there is a
 * terminal; it does not connect
 *   2. ctl_call(), any number of times; connects by itself
 *   3. ctl_done()
 */

#include <stdbool.h>

#include "control/args.h"
#include "control/client.h"
#include "host/paths.h"

typedef struct CtlVerb {
        const char *name; /* NULL ends the table */
        const char *help; /* one line */
        int (*run)(int argc, char **argv);
} CtlVerb;
extern const CtlVerb ctl_verbs[];

typedef struct Ctl {
        const char *verb;
        bool json;
        bool terminal; /* stdout is one */
        bool color;    /* it is, and NO_COLOR is not set */
        Paths paths;
        char *socket;
        ControlClient *client; /* NULL until the first call */
} Ctl;

/* 0, or an exit code after telling why. */
int ctl_init(Ctl *ctl, const char *verb, bool json);
void ctl_done(Ctl *ctl);

/* A call of the agent. 0, or an exit code after telling why. timeout_usec 0: what any answer that
 * is not waited for may take. */
int ctl_call(Ctl *ctl, const char *method, const JsonTable *ask_table, const void *ask,
             const JsonTable *reply_table, void *reply, usec_t timeout_usec);
int ctl_connect(Ctl *ctl);

/* The same, but an agent that is not there yet is waited for, at most *left_usec; what is left of
 * that comes back. */
int ctl_connect_within(Ctl *ctl, usec_t *left_usec);

/* Tells the sentence; the exit code that belongs to the errno. err NULL: strerror. */
int ctl_fail(const char *verb, int r, const Error *err);

/* One line of JSON. EXIT_CODE_OK, or told. */
int ctl_print_json(const Ctl *ctl, const JsonTable *table, const void *object);

/* Text of others as a terminal may see it (newlines and tabs stay), to stdout. */
void ctl_print_text(const char *text);

typedef enum CtlColor {
        CTL_PLAIN,
        CTL_GOOD,
        CTL_BAD,
        CTL_WARN,
        CTL_DIM,
        CTL_BOLD,
} CtlColor;

/* The escape sequence, or "" where there is no colour. CTL_PLAIN ends the others. */
const char *ctl_color(const Ctl *ctl, CtlColor color);

/* A table with these heads; cells: row by row, NULL-terminated, a multiple of n_columns. Prints
 * nothing where there are none. */
void ctl_print_table(const Ctl *ctl, const char *const *heads, size_t n_columns,
                     char *const *cells);

/* Adds cells (NULL is "-"); the last argument is CTL_END. Returns as strv_add(). */
#define CTL_END ((const char *) -1)
int ctl_table_add(char ***cells, ...);

/* Waits for the end of a deploy, with progress on a terminal, or its log as it grows (follow);
 * tells the end. The exit code. */
int ctl_wait_deploy(Ctl *ctl, const char *deploy, usec_t timeout_usec, bool follow);

/* The exit code of a ControlWait's result. */
int ctl_result_code(const char *result, bool healthy);

/* Prints the log of a deploy (NULL: the newest) from *offset on; until it has ended with follow. */
int ctl_print_log(Ctl *ctl, const char *deploy, uint64_t *offset, bool *ret_more);

int ctl_run_status(int argc, char **argv);
int ctl_run_health(int argc, char **argv);
int ctl_run_explain(int argc, char **argv);
int ctl_run_wait(int argc, char **argv);
int ctl_run_history(int argc, char **argv);
int ctl_run_logs(int argc, char **argv);
int ctl_run_deploy(int argc, char **argv);
int ctl_run_rollback(int argc, char **argv);
int ctl_run_restart(int argc, char **argv);
int ctl_run_reload(int argc, char **argv);
int ctl_run_config(int argc, char **argv);
int ctl_run_fsck(int argc, char **argv);
int ctl_run_version(int argc, char **argv);
