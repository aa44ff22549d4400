#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "base/str.h"
#include "base/time.h"
#include "control/ctl.h"

/* Deploys that are shown when nothing else is said. */
#define HISTORY_LIMIT 10

/* How often a log that grows is looked at. */
#define FOLLOW_MS 300

static const char *outcome_name(const DeployRecord *d) {
        return d->outcome >= 0 && d->outcome < _DEPLOY_OUTCOME_MAX
                       ? deploy_outcome_names[d->outcome]
                       : "?";
}

static const char *kind_name(const DeployRecord *d) {
        return d->kind >= 0 && d->kind < _DEPLOY_KIND_MAX ? deploy_kind_names[d->kind] : "?";
}

static void print_list(const Ctl *ctl, const ControlHistory *history) {
        static const char *const heads[] = {
                "DEPLOY", "KIND", "VERSION", "TOOK", "OUTCOME", "CAUSE"
        };
        _cleanup_(strv_freep) char **cells = NULL;
        const DeployRecord *d = history->deploys.items;

        if (history->deploys.n == 0)
                (void) printf("Nothing was deployed here yet.\n");
        for (size_t i = 0; i < history->deploys.n; i++) {
                _cleanup_free_ char *cause = NULL;
                char took[32] = "-";

                if (d[i].ended)
                        time_format_span(MSEC(d[i].took_ms), took);
                cause = d[i].error ? str_format("%s: %s", d[i].stage ?: "?", d[i].error) : NULL;
                if (ctl_table_add(&cells, d[i].id, kind_name(&d[i]), d[i].label, took,
                                  outcome_name(&d[i]), cause, CTL_END) < 0)
                        return;
        }
        ctl_print_table(ctl, heads, ELEMENTS(heads), cells);
}

static void print_field(const char *name, const char *text) {
        if (str_is_empty(text))
                return;
        (void) printf("  %-10s", name);
        ctl_print_text(text);
        (void) putchar('\n');
}

static void print_hooks(const DeployRecord *d) {
        const HookRecord *h = d->hooks.items;

        for (size_t i = 0; i < d->hooks.n; i++) {
                char took[32];
                _cleanup_free_ char *text = NULL;

                time_format_span(MSEC(h[i].took_ms), took);
                text = str_format("%s %s (%s): %s in %s%s", h[i].phase ?: "?", h[i].name ?: "?",
                                  h[i].origin ?: "?", h[i].result ?: "?", took,
                                  h[i].survivors ? ", processes of it go on" : "");
                print_field("hook", text);
                for (char *const *m = h[i].messages; m && *m; m++)
                        print_field("", *m);
                for (char *const *line = h[i].tail; line && *line; line++)
                        print_field("  |", *line);
        }
}

static void print_one(const DeployRecord *d) {
        const StageRecord *stages = d->stages.items;
        const EventRecord *events = d->events.items;
        _cleanup_free_ char *head = str_format("%s: %s %s, %s\n", d->id, kind_name(d),
                                               d->label ?: "?", outcome_name(d));

        ctl_print_text(head);
        print_field("error", d->error);
        print_field("stage", d->error || !d->ended ? d->stage : NULL);
        print_field("started", d->started);
        print_field("ended", d->ended);
        print_field("sha256", d->sha256);
        print_field("previous", d->previous);
        print_field("overlap", d->overlap);
        print_field("", d->overlap_why);
        for (size_t i = 0; i < d->stages.n; i++) {
                char took[32];
                _cleanup_free_ char *text = NULL;

                time_format_span(MSEC(stages[i].took_ms), took);
                text = str_format("%s %s", stages[i].name, took);
                print_field(i == 0 ? "stages" : "", text);
        }
        print_hooks(d);
        for (size_t i = 0; i < d->events.n; i++)
                print_field(events[i].time, events[i].text);
}

static int show_one(const Ctl *ctl, const ControlHistory *history, const char *id) {
        const DeployRecord *d = history->deploys.items;

        for (size_t i = 0; i < history->deploys.n; i++) {
                if (!str_equal(d[i].id, id))
                        continue;
                if (ctl->json)
                        return ctl_print_json(ctl, &deploy_record_table, &d[i]);
                print_one(&d[i]);
                return EXIT_CODE_OK;
        }
        (void) fprintf(stderr,
                       "tendril %s: no deploy %s is kept here; `tendril history` lists them\n",
                       ctl->verb, id);
        return EXIT_CODE_FAILED;
}

int ctl_run_history(int argc, char **argv) {
        _cleanup_(ctl_done) Ctl ctl = { 0 };
        ControlHistory history = { 0 };
        ControlHistoryAsk ask = { .limit = HISTORY_LIMIT };
        bool json = false, all = false;
        char **words;
        const ArgOption options[] = {
                { "limit", ARG_COUNT, &ask.limit, "N", "At most so many (default 10)" },
                { "all", ARG_FLAG, &all, NULL, "All that are kept" },
                { "json", ARG_FLAG, &json, NULL, "One JSON object" },
                { 0 },
        };
        const ArgCommand command = {
                .name = argv[0],
                .words = "[DEPLOY]",
                .help = "Deploys of this host, newest first; or one of them with its stages, hooks "
                        "and\n"
                        "events. The output of hooks is for root.\n",
                .options = options,
                .max_words = 1,
        };
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r == ARGS_HELP ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        if (words[0] || all)
                ask.limit = 0;
        r = ctl_init(&ctl, argv[0], json);
        if (r == 0)
                r = ctl_call(&ctl, "History", &control_history_ask_table, &ask,
                             &control_history_table, &history, 0);
        if (r != 0)
                return r;

        if (words[0])
                r = show_one(&ctl, &history, words[0]);
        else if (json)
                r = ctl_print_json(&ctl, &control_history_table, &history);
        else
                print_list(&ctl, &history);
        json_table_done(&control_history_table, &history);
        return r;
}

int ctl_print_log(Ctl *ctl, const char *deploy, uint64_t *offset, bool *ret_more) {
        _cleanup_free_ char *id = deploy ? strdup(deploy) : NULL;
        ControlLogsAsk ask = { .deploy = id, .offset = *offset };
        ControlLogs logs = { 0 };
        int r;

        r = ctl_call(ctl, "Logs", &control_logs_ask_table, &ask, &control_logs_table, &logs, 0);
        if (r != 0)
                return r;
        if (!ctl->json)
                ctl_print_text(logs.text);
        else if (!str_is_empty(logs.text))
                r = ctl_print_json(ctl, &control_logs_table, &logs);
        (void) fflush(stdout);
        *offset = logs.offset;
        *ret_more = logs.more;
        json_table_done(&control_logs_table, &logs);
        return r;
}

int ctl_run_logs(int argc, char **argv) {
        _cleanup_(ctl_done) Ctl ctl = { 0 };
        bool json = false, follow = false, more = true;
        uint64_t offset = 0;
        char **words;
        const ArgOption options[] = {
                { "follow", ARG_FLAG, &follow, NULL, "Go on until the deploy has ended" },
                { "json", ARG_FLAG, &json, NULL,
                  "JSON objects with the text and its offset, one a line" },
                { 0 },
        };
        const ArgCommand command = {
                .name = argv[0],
                .words = "[DEPLOY]",
                .help = "The log of a deploy, with all that its hooks printed; without an id that "
                        "of the\n"
                        "newest. For root. The application's own output is in its log files.\n",
                .options = options,
                .max_words = 1,
        };
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r == ARGS_HELP ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        if (words[0] && !str_is_label(words[0]))
                return args_usage(argv[0], "\"%.100s\" is no id of a deploy", words[0]);
        r = ctl_init(&ctl, argv[0], json);
        while (r == 0 && more) {
                uint64_t before = offset;

                r = ctl_print_log(&ctl, words[0], &offset, &more);
                if (r != 0 || offset != before)
                        continue;
                if (!follow)
                        break;
                (void) poll(NULL, 0, FOLLOW_MS);
        }
        return r;
}
