#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "base/str.h"
#include "base/time.h"
#include "control/ctl.h"

/* What is said of a wait beside the agent's own time. */
#define WAIT_DEFAULT_USEC SEC(600)
#define WAIT_GRACE_USEC   SEC(30)

/* The agent asks the application: its own time limit is the nearer one. */
#define HEALTH_USEC SEC(120)

/* It asks its tendril-net, which may have to be started. */
#define STORE_USEC SEC(60)

static CtlColor health_color(const char *health) {
        if (str_equal(health, "ok"))
                return CTL_GOOD;
        return str_equal(health, "failing") ? CTL_BAD : CTL_WARN;
}

/* "  name      text"; nothing where there is no text. */
static void print_line(const Ctl *ctl, const char *name, const char *text, CtlColor color) {
        if (str_is_empty(text))
                return;
        (void) printf("  %s%-10s%s", ctl_color(ctl, CTL_DIM), name, ctl_color(ctl, CTL_PLAIN));
        (void) fputs(color == CTL_PLAIN ? "" : ctl_color(ctl, color), stdout);
        ctl_print_text(text);
        (void) printf("%s\n", color == CTL_PLAIN ? "" : ctl_color(ctl, CTL_PLAIN));
}

/* "v42 (revision 7, slot a) since ..."; the caller frees. NULL where there is none. */
static char *describe_version(const ControlVersion *v) {
        _cleanup_free_ char *revision = NULL;

        if (str_is_empty(v->label))
                return NULL;
        if (v->revision > 0)
                revision = str_format("revision %llu", (unsigned long long) v->revision);
        return str_format("%s%s%s%s%s%s%s%s%s", v->label, revision || v->slot ? " (" : "",
                          revision ?: "", revision && v->slot ? ", " : "", v->slot ? "slot " : "",
                          v->slot ?: "", revision || v->slot ? ")" : "", v->since ? ", since " : "",
                          v->since ?: "");
}

static char *describe_deploy(const ControlDeploy *d) {
        _cleanup_free_ char *percent = NULL;

        if (str_is_empty(d->id))
                return NULL;
        if (str_equal(d->stage, "fetch"))
                percent = str_format(" %u %%", (unsigned) d->percent);
        return str_format("%s: %s, %s%s, since %s", d->id, d->label ?: "?", d->stage ?: "?",
                          percent ?: "", d->since ?: "?");
}

static char *describe_store(const ControlStatus *s) {
        if (str_is_empty(s->store))
                return NULL;
        return str_format("%s, %s%s%s%s%s", s->store, s->store_ok ? "answers" : "does not answer",
                          s->store_since ? " since " : "", s->store_since ?: "",
                          s->store_error ? ": " : "", s->store_error ?: "");
}

static void print_versions(const Ctl *ctl, const ControlStatus *s) {
        _cleanup_free_ char *current = describe_version(&s->current);
        _cleanup_free_ char *desired = describe_version(&s->desired);
        _cleanup_free_ char *previous = describe_version(&s->previous);
        _cleanup_free_ char *deploy = describe_deploy(&s->deploy);
        _cleanup_free_ char *store = describe_store(s);

        print_line(ctl, "running", current ?: "nothing", current ? CTL_BOLD : CTL_WARN);
        print_line(ctl, "desired", desired, CTL_PLAIN);
        print_line(ctl, "previous", previous, CTL_PLAIN);
        print_line(ctl, "deploy", deploy, CTL_PLAIN);
        print_line(ctl, "health", s->health, health_color(s->health));
        print_line(ctl, "cause", s->cause, CTL_PLAIN);
        print_line(ctl, "store", store, s->store_ok ? CTL_PLAIN : CTL_WARN);
        print_line(ctl, "waiting", s->waiting, CTL_PLAIN);
        if (s->hold)
                print_line(ctl, "hold",
                           "a bundle was deployed by hand; assignments wait for `tendril deploy "
                           "--resume`",
                           CTL_WARN);
}

static void print_processes(const Ctl *ctl, const ControlStatus *s) {
        static const char *const heads[] = { "PROCESS", "SLOT",     "STATE",
                                             "PID",     "RESTARTS", "LAST EXIT" };
        _cleanup_(strv_freep) char **cells = NULL;
        const ControlProcess *p = s->processes.items;

        for (size_t i = 0; i < s->processes.n; i++) {
                char pid[24], restarts[24];

                (void) snprintf(pid, sizeof(pid), "%llu", (unsigned long long) p[i].pid);
                (void) snprintf(restarts, sizeof(restarts), "%llu",
                                (unsigned long long) p[i].restarts);
                if (ctl_table_add(&cells, p[i].name, p[i].slot, p[i].state,
                                  p[i].pid > 0 ? pid : NULL, restarts, p[i].last_exit, CTL_END) < 0)
                        return;
        }
        if (cells)
                (void) putchar('\n');
        ctl_print_table(ctl, heads, ELEMENTS(heads), cells);
}

static void print_troubles(const Ctl *ctl, const ControlStatus *s) {
        const ControlQuarantine *q = s->quarantine.items;

        if (s->quarantine.n > 0)
                (void) printf("\nQuarantined (tried again by a new assignment or `tendril deploy "
                              "--retry`):\n");
        for (size_t i = 0; i < s->quarantine.n; i++) {
                _cleanup_free_ char *text = str_format(
                        "  %s (revision %llu, since %s): %s\n", q[i].label ?: "?",
                        (unsigned long long) q[i].revision, q[i].since ?: "?", q[i].why ?: "?");

                ctl_print_text(text);
        }

        if (s->warnings && s->warnings[0])
                (void) printf("\n%sWarnings:%s\n", ctl_color(ctl, CTL_WARN),
                              ctl_color(ctl, CTL_PLAIN));
        for (char *const *w = s->warnings; w && *w; w++) {
                (void) fputs("  ", stdout);
                ctl_print_text(*w);
                (void) putchar('\n');
        }
}

static void print_status(const Ctl *ctl, const ControlStatus *s) {
        _cleanup_free_ char *head = str_format(
                "host %s%s%s%s%s (tendrild %s)\n", s->host ?: "?",
                s->environment ? " in environment " : ", no environment yet", s->environment ?: "",
                s->application ? " of application " : "", s->application ?: "", s->agent ?: "?");

        ctl_print_text(head);
        print_versions(ctl, s);
        print_processes(ctl, s);
        print_troubles(ctl, s);
        (void) fflush(stdout);
}

/* What --watch prints for programs' logs: one line a change. */
static void print_change(const ControlStatus *s) {
        char now[TIME_RFC3339_SIZE];
        _cleanup_free_ char *text = NULL;

        time_format(clock_read(NULL, CLOCK_REALTIME), now);
        text = str_format("%s running %s, desired %s, health %s%s%s%s%s%s%s\n", now,
                          s->current.label ?: "nothing", s->desired.label ?: "nothing",
                          s->health ?: "unknown", s->deploy.id ? ", deploy " : "",
                          s->deploy.id ?: "", s->deploy.id ? " in " : "",
                          s->deploy.id ? s->deploy.stage ?: "?" : "", s->cause ? ": " : "",
                          s->cause ?: "");
        ctl_print_text(text);
        (void) fflush(stdout);
}

static int on_change(void *userdata, void *reply) {
        const Ctl *ctl = userdata;

        if (ctl->json)
                return ctl_print_json(ctl, &control_status_table, reply) == EXIT_CODE_OK ? 0 : -EIO;
        if (ctl->terminal) {
                (void) fputs("\033[H\033[J", stdout);
                print_status(ctl, reply);
        } else
                print_change(reply);
        return ferror(stdout) ? -EPIPE : 0;
}

static int watch_status(Ctl *ctl) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = ctl_connect(ctl);
        if (r != 0)
                return r;
        r = control_client_more(ctl->client, "Monitor", NULL, NULL, &control_status_table,
                                on_change, ctl, &err);
        if (r == -EPIPE && !err)
                return EXIT_CODE_FAILED;
        return r < 0 ? ctl_fail(ctl->verb, r, err) : EXIT_CODE_OK;
}

static int show_status(Ctl *ctl) {
        ControlStatus status = { 0 };
        int r;

        r = ctl_call(ctl, "Status", NULL, NULL, &control_status_table, &status, 0);
        if (r != 0)
                return r;
        if (ctl->json)
                r = ctl_print_json(ctl, &control_status_table, &status);
        else
                print_status(ctl, &status);
        json_table_done(&control_status_table, &status);
        return r;
}

int ctl_run_status(int argc, char **argv) {
        _cleanup_(ctl_done) Ctl ctl = { 0 };
        bool json = false, watch = false;
        char **words;
        const ArgOption options[] = {
                { "json", ARG_FLAG, &json, NULL, "One JSON object (with --watch one a line)" },
                { "watch", ARG_FLAG, &watch, NULL, "Again after each change, until interrupted" },
                { 0 },
        };
        const ArgCommand command = {
                .name = argv[0],
                .help = "How this host is: what runs, what is desired, the deploy under way, the\n"
                        "application's processes, the store, and what is in the way.\n",
                .options = options,
        };
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r == ARGS_HELP ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        r = ctl_init(&ctl, argv[0], json);
        if (r != 0)
                return r;
        return watch ? watch_status(&ctl) : show_status(&ctl);
}

static void print_health(const Ctl *ctl, const ControlHealth *h) {
        char took[32];
        _cleanup_free_ char *answer = NULL;

        time_format_span(MSEC(h->took_ms), took);
        answer = h->status > 0
                         ? str_format(", HTTP %llu in %s", (unsigned long long) h->status, took)
                         : NULL;
        (void) fputs(ctl_color(ctl, health_color(h->health)), stdout);
        ctl_print_text(h->health ?: "unknown");
        (void) printf("%s%s", ctl_color(ctl, CTL_PLAIN), answer ?: "");
        if (h->cause) {
                (void) fputs(": ", stdout);
                ctl_print_text(h->cause);
        }
        (void) putchar('\n');
}

int ctl_run_health(int argc, char **argv) {
        _cleanup_(ctl_done) Ctl ctl = { 0 };
        ControlHealth health = { 0 };
        bool json = false;
        char **words;
        const ArgOption options[] = {
                { "json", ARG_FLAG, &json, NULL, "One JSON object" },
                { 0 },
        };
        const ArgCommand command = {
                .name = argv[0],
                .help = "Whether the application answers well, by the agent's last check. Exit "
                        "code 0\n"
                        "when it does, 7 when not.\n",
                .options = options,
        };
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r == ARGS_HELP ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        r = ctl_init(&ctl, argv[0], json);
        if (r == 0)
                r = ctl_call(&ctl, "Health", NULL, NULL, &control_health_table, &health,
                             HEALTH_USEC);
        if (r != 0)
                return r;

        if (json)
                r = ctl_print_json(&ctl, &control_health_table, &health);
        else
                print_health(&ctl, &health);
        if (r == 0 && !health.healthy)
                r = EXIT_CODE_UNHEALTHY;
        json_table_done(&control_health_table, &health);
        return r;
}

static int explain_host(Ctl *ctl) {
        ControlExplain explain = { 0 };
        int r;

        r = ctl_call(ctl, "Explain", NULL, NULL, &control_explain_table, &explain, 0);
        if (r != 0)
                return r;
        if (ctl->json)
                r = ctl_print_json(ctl, &control_explain_table, &explain);
        for (char *const *s = explain.sentences; !ctl->json && s && *s; s++) {
                ctl_print_text(*s);
                (void) putchar('\n');
        }
        json_table_done(&control_explain_table, &explain);
        return r;
}

/* A line made of a format; nothing where there is no memory. */
static void _printf_(1, 2) say(const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        ctl_print_text(text);
        (void) putchar('\n');
}

/* "12 min" until then; the caller frees. NULL: it is no time, or past. */
static char *time_left(const char *text) {
        usec_t now = clock_read(NULL, CLOCK_REALTIME), then;
        char span[32];

        if (!text || time_parse(text, &then) < 0 || then <= now)
                return NULL;
        time_format_span((then - now) / SEC(1) * SEC(1), span);
        return strdup(span);
}

static void say_end(const CredentialStatus *c) {
        _cleanup_free_ char *left = time_left(c->ends);

        if (!c->ends)
                say("They do not end.");
        else if (left)
                say("They end at %s, in %s; new ones are asked for from 15 minutes before that.",
                    c->ends, left);
        else
                say("They ended at %s; they are used on until there are others.", c->ends);
}

static void say_credentials(const CredentialStatus *c) {
        if (c->source && c->key_id) {
                say("The credentials come from: %s (access key %s).", c->source, c->key_id);
                say_end(c);
                if (c->refreshed)
                        say("They were obtained at %s.", c->refreshed);
        } else if (c->source)
                say("Credentials are expected from: %s, and there are none yet.", c->source);
        else
                say("There are no credentials%s.", c->error ? "" : ": none were needed so far");
        if (c->error)
                say("What failed last%s%s: %s", c->failed ? ", at " : "", c->failed ?: "",
                    c->error);
        if (c->tried && c->tried[0])
                say("Looked for, in this order:");
        for (char *const *t = c->tried; t && *t; t++)
                say("  %s", *t);
}

static void say_bucket(const ControlStore *store) {
        const S3Status *s = &store->store;

        say("The store is %s, asked at %s, region %s.", store->url ?: "?",
            s->endpoint ?: "an endpoint that is not known yet", s->region ?: "unknown");
        if (s->clock)
                say("Clocks: %s; requests are signed by the server's.", s->clock);
        if (str_equal(s->etag_form, "unknown"))
                say("No conditional write was made yet, so that the form of its ETags is unknown.");
        else if (s->etag_form)
                say("It takes ETags in conditions %s.", s->etag_form);
        say("Requests: %llu, of which repeated %llu, throttled %llu.",
            (unsigned long long) s->n_requests, (unsigned long long) s->n_retries,
            (unsigned long long) s->n_throttled);
        if (s->error)
                say("The last request that failed%s%s: %s", s->failed ? ", at " : "",
                    s->failed ?: "", s->error);
}

static void say_store(const ControlStore *store) {
        if (!store->url)
                say("No store is configured: set store.url in " PATH_CONFIG ".");
        else if (!store->remote)
                say("The store %s is a folder of this host: it needs no credentials.", store->url);
        else {
                say_credentials(&store->credentials);
                say_bucket(store);
        }
}

static int explain_credentials(Ctl *ctl) {
        ControlStore store = { 0 };
        int r;

        r = ctl_call(ctl, "Store", NULL, NULL, &control_store_table, &store, STORE_USEC);
        if (r != 0)
                return r;
        if (ctl->json)
                r = ctl_print_json(ctl, &control_store_table, &store);
        else
                say_store(&store);
        json_table_done(&control_store_table, &store);
        return r;
}

int ctl_run_explain(int argc, char **argv) {
        _cleanup_(ctl_done) Ctl ctl = { 0 };
        bool json = false;
        char **words;
        const ArgOption options[] = {
                { "json", ARG_FLAG, &json, NULL, "One JSON object" },
                { 0 },
        };
        const ArgCommand command = {
                .name = argv[0],
                .words = "[credentials]",
                .help = "Why the host is as it is: what it runs and why, what it waits for, what "
                        "failed\n"
                        "and what to do about it. With `credentials`: where those for the store "
                        "come from,\n"
                        "when they end, what failed, and how the store is reached.\n",
                .options = options,
                .max_words = 1,
        };
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r == ARGS_HELP ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        if (words[0] && !str_equal(words[0], "credentials"))
                return args_usage(argv[0], "\"%.100s\": say `credentials`, or nothing", words[0]);
        r = ctl_init(&ctl, argv[0], json);
        if (r != 0)
                return r;
        return words[0] ? explain_credentials(&ctl) : explain_host(&ctl);
}

int ctl_result_code(const char *result, bool healthy) {
        if (str_equal(result, "done") || str_equal(result, "healthy"))
                return EXIT_CODE_OK;
        if (str_equal(result, "timeout"))
                return EXIT_CODE_TIMEOUT;
        return healthy ? EXIT_CODE_UNHEALTHY : EXIT_CODE_FAILED;
}

static int wait_and_tell(Ctl *ctl, const ControlWaitAsk *ask) {
        ControlWait wait = { 0 };
        int r;

        r = ctl_call(ctl, "Wait", &control_wait_ask_table, ask, &control_wait_table, &wait,
                     ask->timeout_usec + WAIT_GRACE_USEC);
        if (r != 0)
                return r;

        r = ctl_result_code(wait.result, ask->healthy);
        if (ctl->json)
                (void) ctl_print_json(ctl, &control_wait_table, &wait);
        else {
                ctl_print_text(wait.text ?: wait.result ?: "?");
                (void) putchar('\n');
        }
        json_table_done(&control_wait_table, &wait);
        return r;
}

int ctl_run_wait(int argc, char **argv) {
        _cleanup_(ctl_done) Ctl ctl = { 0 };
        bool json = false, healthy = false;
        const char *deploy = NULL;
        usec_t timeout_usec = WAIT_DEFAULT_USEC;
        char **words;
        const ArgOption options[] = {
                { "healthy", ARG_FLAG, &healthy, NULL, "Until what is desired runs and is well" },
                { "deploy", ARG_TEXT, &deploy, "ID", "Until this deploy has ended" },
                { "timeout", ARG_SPAN, &timeout_usec, "SPAN",
                  "Give up after this time (30s, 5m; default 10m)" },
                { "json", ARG_FLAG, &json, NULL, "One JSON object" },
                { 0 },
        };
        const ArgCommand command = {
                .name = argv[0],
                .help = "Waits, also for an agent that is not there yet, and tells how it "
                        "ended.\nExit code 0: done, or well; 1: the deploy "
                        "failed or\n"
                        "was rolled back; 6: the time ran out; 7: the host will not be well by "
                        "waiting.\n",
                .options = options,
        };
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r == ARGS_HELP ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        if (healthy == (deploy != NULL))
                return args_usage(argv[0], "say what to wait for: --healthy or --deploy ID");
        if (deploy && !str_is_label(deploy))
                return args_usage(argv[0], "\"%.100s\" is no id of a deploy", deploy);
        if (timeout_usec == 0 || timeout_usec > SEC(24 * 3600))
                return args_usage(argv[0], "--timeout: more than 0 and at most 24 hours");
        r = ctl_init(&ctl, argv[0], json);
        if (r == 0)
                r = ctl_connect_within(&ctl, &timeout_usec);
        if (r != 0)
                return r;
        if (deploy && !json)
                return ctl_wait_deploy(&ctl, deploy, timeout_usec, false);
        return wait_and_tell(&ctl, &(ControlWaitAsk){ .deploy = (char *) (uintptr_t) deploy,
                                                      .healthy = healthy,
                                                      .timeout_usec = timeout_usec });
}
