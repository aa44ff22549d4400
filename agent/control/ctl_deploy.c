#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "base/str.h"
#include "base/time.h"
#include "control/ctl.h"

/* The longest deploy that is waited for when nothing else was said. */
#define DEPLOY_WAIT_USEC SEC(3600)

/* How often progress is looked at. */
#define SLICE_USEC MSEC(500)

/* An answer may come later than what was asked for. */
#define GRACE_USEC SEC(30)

/* What waiting for a deploy shows meanwhile. */
typedef struct Progress {
        Ctl *ctl;
        const char *deploy;
        bool follow; /* its log, line by line; else one line that is drawn again */
        uint64_t offset;
        bool drawn;
} Progress;

static void progress_clear(Progress *p) {
        if (p->drawn)
                (void) fputs("\r\033[K", stdout);
        p->drawn = false;
}

static void progress_draw(Progress *p, const ControlDeploy *d, usec_t took_usec) {
        char took[32], percent[16] = "";

        time_format_span(took_usec / SEC(1) * SEC(1), took);
        if (str_equal(d->stage, "fetch"))
                (void) snprintf(percent, sizeof(percent), " %u %%", (unsigned) d->percent);
        progress_clear(p);
        (void) printf("%s%s: ", ctl_color(p->ctl, CTL_DIM), p->deploy);
        ctl_print_text(d->stage ?: "?");
        (void) printf("%s, %s%s", percent, took, ctl_color(p->ctl, CTL_PLAIN));
        (void) fflush(stdout);
        p->drawn = true;
}

/* One look between two waits. 0, or an exit code. */
static int progress_look(Progress *p, usec_t took_usec) {
        ControlStatus status = { 0 };
        bool more;
        int r;

        if (p->follow)
                return ctl_print_log(p->ctl, p->deploy, &p->offset, &more);

        r = ctl_call(p->ctl, "Status", NULL, NULL, &control_status_table, &status, 0);
        if (r == 0 && str_equal(status.deploy.id, p->deploy))
                progress_draw(p, &status.deploy, took_usec);
        json_table_done(&control_status_table, &status);
        return r;
}

/* Asks in slices where something is shown meanwhile. 0 with *ret filled (the caller's), or an exit
 * code. */
static int wait_in_slices(Progress *p, usec_t timeout_usec, ControlWait *ret) {
        usec_t begin = clock_read(NULL, CLOCK_MONOTONIC), took = 0;
        bool shows = p->follow || (p->ctl->terminal && !p->ctl->json);
        int r;

        for (;;) {
                usec_t left = timeout_usec - took;
                char id[128];
                ControlWaitAsk ask = { .deploy = id,
                                       .timeout_usec = shows ? MIN(left, SLICE_USEC) : left };

                (void) snprintf(id, sizeof(id), "%s", p->deploy);
                r = ctl_call(p->ctl, "Wait", &control_wait_ask_table, &ask, &control_wait_table,
                             ret, ask.timeout_usec + GRACE_USEC);
                took = clock_read(NULL, CLOCK_MONOTONIC) - begin;
                if (r != 0 || !shows || !str_equal(ret->result, "timeout") || took >= timeout_usec)
                        return r;
                json_table_done(&control_wait_table, ret);
                r = progress_look(p, took);
                if (r != 0)
                        return r;
        }
}

static void print_result(Ctl *ctl, const ControlWait *wait) {
        bool good = ctl_result_code(wait->result, false) == EXIT_CODE_OK;

        (void) fputs(ctl_color(ctl, good ? CTL_GOOD : CTL_BAD), stdout);
        ctl_print_text(wait->text ?: wait->result ?: "?");
        (void) printf("%s\n", ctl_color(ctl, CTL_PLAIN));
}

int ctl_wait_deploy(Ctl *ctl, const char *deploy, usec_t timeout_usec, bool follow) {
        Progress progress = { .ctl = ctl, .deploy = deploy, .follow = follow && !ctl->json };
        ControlWait wait = { 0 };
        bool more = true;
        int r;

        assert(ctl);
        assert(deploy);

        r = wait_in_slices(&progress, timeout_usec, &wait);
        progress_clear(&progress);
        if (r != 0)
                return r;
        for (uint64_t before = UINT64_MAX; progress.follow && more && before != progress.offset;) {
                before = progress.offset;
                if (ctl_print_log(ctl, deploy, &progress.offset, &more) != 0)
                        break;
        }

        r = ctl_result_code(wait.result, false);
        if (ctl->json)
                (void) ctl_print_json(ctl, &control_wait_table, &wait);
        else
                print_result(ctl, &wait);
        json_table_done(&control_wait_table, &wait);
        return r;
}

typedef struct StartOptions {
        bool json;
        bool wait;
        bool watch;
        usec_t timeout_usec;
} StartOptions;

/* Starts a deploy, says so, and waits where that was asked for. */
static int start_deploy(Ctl *ctl, const char *method, const JsonTable *table, const void *ask,
                        const StartOptions *options) {
        bool waits = options->wait || options->watch;
        ControlStarted started = { 0 };
        int r;

        r = ctl_call(ctl, method, table, ask, &control_started_table, &started, 0);
        if (r != 0)
                return r;

        if (ctl->json && !(waits && started.deploy))
                r = ctl_print_json(ctl, &control_started_table, &started);
        else if (!ctl->json) {
                ctl_print_text(started.text ?: "done");
                (void) putchar('\n');
                (void) fflush(stdout);
        }
        if (r == 0 && waits && started.deploy)
                r = ctl_wait_deploy(ctl, started.deploy, options->timeout_usec, options->watch);
        json_table_done(&control_started_table, &started);
        return r;
}

static int check_timeout(const char *verb, usec_t timeout_usec) {
        if (timeout_usec > 0 && timeout_usec <= SEC(24 * 3600))
                return 0;
        return args_usage(verb, "--timeout: more than 0 and at most 24 hours");
}

/* The agent opens the file itself: it needs the whole path. The caller frees *ret. */
static int resolve_bundle(const char *verb, const char *bundle, char **ret) {
        if (!bundle)
                return 0;
        *ret = realpath(bundle, NULL);
        if (*ret)
                return 0;
        (void) fprintf(stderr, "tendril %s: bundle %s: %s\n", verb, bundle, strerror(errno));
        return EXIT_CODE_FAILED;
}

static int check_deploy(const char *verb, const char *bundle, const char *version, bool retry,
                        bool resume) {
        if ((bundle ? 1 : 0) + retry + resume != 1)
                return args_usage(verb, "say one of --bundle FILE, --retry, --resume");
        if (version && !bundle)
                return args_usage(verb, "--version names what --bundle brings");
        if (version && !str_is_label(version))
                return args_usage(
                        verb,
                        "--version: \"%.100s\" is no label (letters, digits, '.', '_', '-', "
                        "at most 100, the first one a letter or digit)",
                        version);
        return 0;
}

int ctl_run_deploy(int argc, char **argv) {
        _cleanup_(ctl_done) Ctl ctl = { 0 };
        _cleanup_free_ char *path = NULL, *label = NULL;
        StartOptions start = { .timeout_usec = DEPLOY_WAIT_USEC };
        const char *bundle = NULL, *version = NULL;
        bool retry = false, resume = false;
        char **words;
        const ArgOption options[] = {
                { "bundle", ARG_TEXT, &bundle, "FILE", "Deploy this file and hold the host on it" },
                { "version", ARG_TEXT, &version, "V",
                  "What to call it (default: the file's name)" },
                { "retry", ARG_FLAG, &retry, NULL,
                  "Lift the quarantine of what is desired; try again" },
                { "resume", ARG_FLAG, &resume, NULL, "End the hold: follow assignments again" },
                { "wait", ARG_FLAG, &start.wait, NULL,
                  "Wait for the end, with progress on a terminal" },
                { "watch", ARG_FLAG, &start.watch, NULL, "The same, and show the log as it grows" },
                { "timeout", ARG_SPAN, &start.timeout_usec, "SPAN",
                  "Wait no longer (30s, 5m; default 1h)" },
                { "json", ARG_FLAG, &start.json, NULL, "One JSON object" },
                { 0 },
        };
        const ArgCommand command = {
                .name = argv[0],
                .help = "Deploys by hand. The usual way is `tendril assign`, which every host of "
                        "the\n"
                        "environment follows by itself. A bundle that is deployed by hand holds "
                        "this host:\n"
                        "assignments wait until `tendril deploy --resume`.\n\n"
                        "Exit code 0: started, or with --wait done; 1: it failed or was rolled "
                        "back;\n"
                        "3: not allowed; 4: another deploy is under way; 6: the time ran out.\n",
                .options = options,
        };
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r == ARGS_HELP ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        r = check_deploy(argv[0], bundle, version, retry, resume);
        if (r == 0)
                r = check_timeout(argv[0], start.timeout_usec);
        if (r == 0)
                r = resolve_bundle(argv[0], bundle, &path);
        if (r == 0)
                r = ctl_init(&ctl, argv[0], start.json);
        if (r != 0)
                return r;

        label = version ? strdup(version) : NULL;
        return start_deploy(&ctl, "Deploy", &control_deploy_ask_table,
                            &(ControlDeployAsk){ path, label, retry, resume }, &start);
}

int ctl_run_rollback(int argc, char **argv) {
        _cleanup_(ctl_done) Ctl ctl = { 0 };
        StartOptions start = { .timeout_usec = DEPLOY_WAIT_USEC };
        char **words;
        const ArgOption options[] = {
                { "wait", ARG_FLAG, &start.wait, NULL,
                  "Wait for the end, with progress on a terminal" },
                { "watch", ARG_FLAG, &start.watch, NULL, "The same, and show the log as it grows" },
                { "timeout", ARG_SPAN, &start.timeout_usec, "SPAN",
                  "Wait no longer (30s, 5m; default 1h)" },
                { "json", ARG_FLAG, &start.json, NULL, "One JSON object" },
                { 0 },
        };
        const ArgCommand command = {
                .name = argv[0],
                .help = "Goes back to the version that ran before, which is still on disk (no "
                        "network is\n"
                        "needed), and quarantines the present one: it is not tried again until a "
                        "new\n"
                        "assignment or `tendril deploy --retry`.\n\n"
                        "Exit code 0: started, or with --wait done; 1: it failed; 3: not allowed; "
                        "4: a\n"
                        "deploy is under way; 6: the time ran out.\n",
                .options = options,
        };
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r == ARGS_HELP ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        r = check_timeout(argv[0], start.timeout_usec);
        if (r == 0)
                r = ctl_init(&ctl, argv[0], start.json);
        if (r != 0)
                return r;
        return start_deploy(&ctl, "Rollback", NULL, NULL, &start);
}

/* A call whose answer is a sentence. */
static int call_for_text(Ctl *ctl, const char *method, const JsonTable *table, const void *ask) {
        ControlText text = { 0 };
        int r;

        r = ctl_call(ctl, method, table, ask, &control_text_table, &text, 0);
        if (r != 0)
                return r;
        if (ctl->json)
                r = ctl_print_json(ctl, &control_text_table, &text);
        else {
                ctl_print_text(text.text ?: "done");
                (void) putchar('\n');
        }
        json_table_done(&control_text_table, &text);
        return r;
}

int ctl_run_restart(int argc, char **argv) {
        _cleanup_(ctl_done) Ctl ctl = { 0 };
        bool json = false;
        char **words;
        const ArgOption options[] = {
                { "json", ARG_FLAG, &json, NULL, "One JSON object" },
                { 0 },
        };
        const ArgCommand command = {
                .name = argv[0],
                .words = "[PROCESS]",
                .help = "Restarts one process of the application (a name of its Procfile, such as "
                        "web), or\n"
                        "all of them. The version stays the same.\n",
                .options = options,
                .max_words = 1,
        };
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r == ARGS_HELP ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        r = ctl_init(&ctl, argv[0], json);
        if (r != 0)
                return r;
        return call_for_text(&ctl, "Restart", &control_restart_ask_table,
                             &(ControlRestartAsk){ .process = words[0] });
}

int ctl_run_reload(int argc, char **argv) {
        _cleanup_(ctl_done) Ctl ctl = { 0 };
        bool json = false;
        char **words;
        const ArgOption options[] = {
                { "json", ARG_FLAG, &json, NULL, "One JSON object" },
                { 0 },
        };
        const ArgCommand command = {
                .name = argv[0],
                .help = "Has the agent read tendril.yaml and its drop-ins again. A configuration "
                        "that is\n"
                        "wrong is refused whole, with file and line, and the old one stays.\n",
                .options = options,
        };
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r == ARGS_HELP ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        r = ctl_init(&ctl, argv[0], json);
        if (r != 0)
                return r;
        return call_for_text(&ctl, "Reload", NULL, NULL);
}
