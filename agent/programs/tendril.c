/*
 * tendril: the command of people and scripts. Its life: read what stands before the verb, find the
 * verb, hand it the rest. What the verbs are and do stands in control/ctl.h (this host) and
 * control/storecmd.h (the store).
 */

#include <locale.h>
#include <stdint.h>
#include <stdio.h>

#include "agent/contract.h"
#include "base/str.h"
#include "control/args.h"
#include "control/ctl.h"
#include "control/storecmd.h"

#define VERBS_MAX 64

typedef int (*VerbRun)(int argc, char **argv);

static void print_help(const ArgCommand *command) {
        args_print_help(command, stdout);
        (void) printf("\nOn this host:\n");
        for (const CtlVerb *v = ctl_verbs; v->name; v++)
                (void) printf("  %-10s  %s\n", v->name, v->help);
        (void) printf("\nOn the store, also from a laptop or CI:\n");
        for (const StoreCommand *c = store_commands; c->name; c++)
                (void) printf("  %-10s  %s\n", c->name, c->help);
        (void) printf("\n`tendril VERB --help` tells more about each; the manual is tendril(1).\n");
}

static VerbRun find_verb(const char *name) {
        for (const CtlVerb *v = ctl_verbs; v->name; v++)
                if (str_equal(v->name, name))
                        return v->run;
        for (const StoreCommand *c = store_commands; c->name; c++)
                if (str_equal(c->name, name))
                        return c->run;
        return NULL;
}

static int refuse_verb(const char *name) {
        const char *names[VERBS_MAX], *nearest;
        size_t n = 0;

        for (const CtlVerb *v = ctl_verbs; v->name && n < VERBS_MAX; v++)
                names[n++] = v->name;
        for (const StoreCommand *c = store_commands; c->name && n < VERBS_MAX; c++)
                names[n++] = c->name;

        nearest = args_nearest(name, names, n);
        if (nearest)
                return args_usage(NULL, "unknown verb \"%s\"; did you mean %s?", name, nearest);
        return args_usage(NULL, "unknown verb \"%.100s\"", name);
}

/* `tendril help VERB` is `tendril VERB --help`. */
static int help_of(const char *name) {
        VerbRun run = find_verb(name);
        char *argv[] = { (char *) (uintptr_t) name, (char[]){ "--help" }, NULL };

        return run ? run(2, argv) : refuse_verb(name);
}

int main(int argc, char **argv) {
        bool version = false;
        const ArgOption options[] = {
                { "version", ARG_FLAG, &version, NULL, "Print the version of this command" },
                { 0 },
        };
        const ArgCommand command = {
                .words = "VERB [...]",
                .help = "Asks and steers the tendril agent of this host, and publishes and "
                        "assigns\n"
                        "versions in a store.\n",
                .options = options,
        };
        VerbRun run;
        int n, r;

        (void) setlocale(LC_CTYPE, "C.UTF-8");
        r = args_parse_leading(&command, argc, argv, &n);
        if (r < 0)
                return EXIT_CODE_USAGE;
        if (version)
                return printf("tendril %s\n", TENDRIL_VERSION) > 0 ? EXIT_CODE_OK
                                                                   : EXIT_CODE_FAILED;
        if (r == ARGS_HELP || (n < argc && str_equal(argv[n], "help") && n + 1 == argc)) {
                print_help(&command);
                return EXIT_CODE_OK;
        }
        if (n >= argc)
                return args_usage(NULL, "say what to do");
        if (str_equal(argv[n], "help"))
                return help_of(argv[n + 1]);

        run = find_verb(argv[n]);
        return run ? run(argc - n, argv + n) : refuse_verb(argv[n]);
}
