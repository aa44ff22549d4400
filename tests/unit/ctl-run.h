#pragma once

/*
 * Runs a verb of `tendril` in this process, against a fake agent or none, and looks at what it says
 * and gives.
 */

#include "fake-agent.h"

#include "agent/contract.h"
#include "control/ctl.h"

/* What one run of a verb said and gave. */
typedef struct Run {
        int code;
        char *out;
        char *err;
} Run;

static inline void run_done(Run *run) {
        free(run->out);
        free(run->err);
        *run = (Run){ 0 };
}

typedef int (*VerbRun)(int argc, char **argv);

static inline VerbRun verb_of(const char *name) {
        for (const CtlVerb *v = ctl_verbs; v->name; v++)
                if (str_equal(v->name, name))
                        return v->run;
        fail_msg("no verb %s", name);
        return NULL;
}

static inline int run_line(const char *line) {
        _cleanup_free_ char *copy = strdup(line);
        char *argv[32], *save = NULL;
        int argc = 0;

        for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
                argv[argc++] = w;
        argv[argc] = NULL;
        return verb_of(argv[0])(argc, argv);
}

static inline void run_verb(const char *line, Run *ret) {
        FILE *old_out = stdout, *old_err = stderr;
        size_t n_out, n_err;

        *ret = (Run){ 0 };
        stdout = open_memstream(&ret->out, &n_out);
        stderr = open_memstream(&ret->err, &n_err);
        ret->code = run_line(line);
        (void) fclose(stdout);
        (void) fclose(stderr);
        stdout = old_out;
        stderr = old_err;
}

/* The code, and words of what is said; on success nothing on stderr, on failure one sentence there.
 */
static inline void assert_run(const char *line, int code, const char *words) {
        _cleanup_(run_done) Run run = { 0 };
        bool told = code == EXIT_CODE_OK || run.out;

        run_verb(line, &run);
        if (run.code != code)
                fail_msg("%s: exit %d, not %d; out: %s err: %s", line, run.code, code, run.out,
                         run.err);
        told = strstr(run.out, words) || strstr(run.err, words);
        if (!told)
                fail_msg("%s: no \"%s\"; out: %s err: %s", line, words, run.out, run.err);
        if (code == EXIT_CODE_OK)
                assert_string_equal(run.err, "");
        if (run.err[0])
                assert_ptr_equal(strchr(run.err, '\n'), run.err + strlen(run.err) - 1);
        assert_null(strchr(run.out, '\033'));
}

static inline void agent_start(Setup *s) {
        start(s, NULL);
        assert_int_equal(setenv(ARGS_ENV_SOCKET, s->path, true), 0);
}

static inline void agent_stop(Setup *s) {
        assert_int_equal(unsetenv(ARGS_ENV_SOCKET), 0);
        stop(s);
}
