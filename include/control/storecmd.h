#pragma once

/*
 * The verbs of `tendril` that speak of the store, also from a laptop or CI: init, publish, assign,
 * versions, sign. They need no agent. What a verb found or did goes to stdout, as sentences and
 * tables for people or, with --json, one JSON object; what went wrong is one sentence on stderr;
 * progress goes to stderr where that is a terminal.
 *
 * The store is --store URL, else TENDRIL_STORE in the environment, else store.url of tendril.yaml,
 * which then also says which keys are trusted. On `file:` the calls are made in this process;
 * digests, signatures and keys are `tendril-bundle`'s, one run a task.
 *
 * Each run() gives an ExitCode (agent/contract.h): REFUSED for a label that exists with other
 * content, a signature or right that is missing; CONFLICT where somebody else wrote meanwhile;
 * UNREACHABLE where there is no store.
 */

#define STORECMD_ENV_STORE "TENDRIL_STORE"

typedef struct StoreCommand {
        const char *name;                  /* NULL ends the table */
        const char *usage;                 /* what may stand behind it */
        const char *help;                  /* one line */
        int (*run)(int argc, char **argv); /* argv[0] is the verb */
} StoreCommand;

extern const StoreCommand store_commands[];

int storecmd_init(int argc, char **argv);
int storecmd_publish(int argc, char **argv);
int storecmd_assign(int argc, char **argv);
int storecmd_versions(int argc, char **argv);
int storecmd_sign(int argc, char **argv);

/* "APPLICATION/VERSION" of --store-version into its two labels, which the caller frees. -EINVAL:
 * not of that form. */
int storecmd_split_version(const char *text, char **ret_application, char **ret_label);
