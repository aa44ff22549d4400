#include "answers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "store/remote.h"
#include "store/wire.h"

#define STORE_USEC      SEC(30)
#define WAITERS_MAX     LIMIT_CLIENTS
#define LOG_SLICE_BYTES (1024 * 1024)

/* A call that is answered later: a Wait, a Monitor, or a Health whose check is under way. */
typedef struct Waiter {
        Answers *answers;
        ControlCall *call; /* NULL: free */
        enum { WAIT_END, WAIT_HEALTHY, WAIT_MONITOR, WAIT_CHECK, WAIT_STORE } kind;
        char *deploy;
        sd_event_source *timer;
} Waiter;

struct Answers {
        AnswersSpec spec;
        char *host;
        const Config *config;
        const char *store_url;
        Waiter waiters[WAITERS_MAX];
        sd_event_source *changed;
        LinkCall *store_call; /* how the store is reached, asked for all who wait for it */
};

/* ---- copying into replies; what memory does not hold is left out ---- */

static char *copy(const char *text) {
        return text ? strdup(text) : NULL;
}

static void copy_version(ControlVersion *to, const VersionState *from) {
        to->label = copy(from->label);
        to->sha256 = copy(from->sha256);
        to->slot = copy(from->slot);
        to->since = copy(from->since);
        to->revision = from->revision;
}

/* ---- Status ---- */

static const JsonTable *array_table(const char *member) {
        for (const JsonField *f = control_status_table.fields; f->name; f++)
                if (str_equal(f->name, member))
                        return f->table;
        return NULL;
}

static void add_processes(ControlStatus *ret, const Services *services, Slot current) {
        static const char *const names[] = { "up", "waiting", "stopping", "stopped" };
        ServiceStatus s;

        (void) current;
        for (size_t i = 0; services_get(services, i, &s); i++) {
                ControlProcess *p = json_array_add(&ret->processes, array_table("processes"),
                                                   4 * LIMIT_PROCESSES);

                if (!p)
                        return;
                p->name = copy(s.name);
                p->slot = copy(slot_name(s.slot));
                p->state = copy(names[s.state]);
                p->pid = (uint64_t) s.pid;
                p->restarts = s.n_restarts;
                p->last_exit = copy(s.last_exit);
        }
}

static void add_quarantine(ControlStatus *ret, const State *state) {
        const QuarantineState *items = state->quarantine.items;

        for (size_t i = 0; i < state->quarantine.n; i++) {
                ControlQuarantine *q = json_array_add(&ret->quarantine, array_table("quarantine"),
                                                      LIMIT_QUARANTINE);

                if (!q)
                        return;
                q->revision = items[i].revision;
                q->label = copy(items[i].label);
                q->sha256 = copy(items[i].sha256);
                q->why = copy(items[i].why);
                q->since = copy(items[i].since);
        }
}

static void copy_deploy(ControlStatus *ret, const PipelineStatus *s) {
        if (!s->record)
                return;
        ret->deploy.id = copy(s->record->id);
        ret->deploy.kind = copy(deploy_kind_names[s->record->kind]);
        ret->deploy.label = copy(s->record->label);
        ret->deploy.stage = copy(deploy_stage_name(s->stage));
        ret->deploy.since = copy(s->record->started);
        ret->deploy.percent = s->percent;
}

static int on_status(void *userdata, ControlStatus *ret) {
        Answers *a = userdata;
        PipelineStatus s;
        char since[TIME_RFC3339_SIZE];

        pipeline_status(a->spec.pipeline, &s);
        time_format(s.store_since, since);
        ret->agent = copy(TENDRIL_VERSION);
        ret->host = copy(a->host);
        ret->environment = copy(a->config->environment);
        ret->application = copy(s.state->current.application ? s.state->current.application
                                                             : s.state->desired.application);
        ret->desired.label = copy(s.state->desired.target.label);
        ret->desired.sha256 = copy(s.state->desired.target.sha256);
        ret->desired.revision = s.state->desired.revision;
        ret->desired.since = copy(s.state->desired.created);
        copy_version(&ret->current, &s.state->current);
        copy_version(&ret->previous, &s.state->previous);
        copy_deploy(ret, &s);
        ret->hold = s.state->hold;
        ret->health = copy(s.health);
        ret->cause = copy(s.cause);
        ret->store = copy(a->store_url);
        ret->store_ok = s.store_ok;
        ret->store_error = copy(s.refused ? s.refused : s.store_error);
        ret->store_since = copy(since);
        ret->waiting = copy(s.waiting);
        add_processes(ret, s.services, slot_from_name(s.state->current.slot));
        add_quarantine(ret, s.state);
        for (char *const *w = helpers_warnings(a->spec.helpers); w && *w; w++)
                (void) strv_add(&ret->warnings, 32, *w);
        if (a->config->store.unsigned_ok)
                (void) strv_add(&ret->warnings, 32,
                                "store.unsigned is set: whoever can write to the store decides "
                                "what runs here");
        return 0;
}

/* ---- those who wait ---- */

static void waiter_done(Waiter *w) {
        w->timer = sd_event_source_disable_unref(w->timer);
        free(w->deploy);
        memset(w, 0, sizeof(*w));
}

static Waiter *waiter_new(Answers *a, ControlCall *call) {
        for (size_t i = 0; i < WAITERS_MAX; i++)
                if (!a->waiters[i].call) {
                        a->waiters[i].answers = a;
                        a->waiters[i].call = call;
                        return &a->waiters[i];
                }
        return NULL;
}

static void on_gone(void *userdata, ControlCall *call) {
        Answers *a = userdata;

        for (size_t i = 0; i < WAITERS_MAX; i++)
                if (a->waiters[i].call == call)
                        waiter_done(&a->waiters[i]);
}

static void answer_wait(Waiter *w, const char *result, const char *text) {
        ControlWait reply = { .result = copy(result), .text = copy(text) };
        ControlCall *call = w->call;

        waiter_done(w);
        (void) control_reply(call, &control_wait_table, &reply, false);
        json_table_done(&control_wait_table, &reply);
}

/* True: it was answered. */
static bool check_end(Waiter *w) {
        DeployRecord record = { 0 };
        _cleanup_free_ char *text = NULL;
        int r;

        r = record_read(pipeline_records_fd(w->answers->spec.pipeline), w->deploy, &record, NULL);
        if (r < 0 || record.outcome == OUTCOME_RUNNING) {
                json_table_done(&deploy_record_table, &record);
                return false;
        }
        text = record.error ? strdup(record.error)
                            : str_format("version %s is served", record.label);
        answer_wait(w, deploy_outcome_names[record.outcome], text);
        json_table_done(&deploy_record_table, &record);
        return true;
}

static bool check_healthy(Waiter *w) {
        _cleanup_free_ char *text = NULL;
        PipelineStatus s;

        pipeline_status(w->answers->spec.pipeline, &s);
        if (s.record || !str_equal(s.health, "ok") || s.refused)
                return false;
        if (!s.state->hold && (s.state->desired.revision == 0 ||
                               s.state->current.revision != s.state->desired.revision ||
                               !str_equal(s.state->current.sha256, s.state->desired.target.sha256)))
                return false;
        text = str_format("version %s is served and well", s.state->current.label);
        answer_wait(w, "healthy", text);
        return true;
}

static void send_status(Waiter *w) {
        ControlStatus status = { 0 };

        (void) on_status(w->answers, &status);
        (void) control_reply(w->call, &control_status_table, &status, true);
        json_table_done(&control_status_table, &status);
}

static void look(Waiter *w) {
        switch (w->kind) {
        case WAIT_END:
                (void) check_end(w);
                break;
        case WAIT_HEALTHY:
                (void) check_healthy(w);
                break;
        case WAIT_MONITOR:
                send_status(w);
                break;
        case WAIT_CHECK:
        case WAIT_STORE:
                break;
        }
}

static int on_changed(sd_event_source *source _unused_, void *userdata) {
        Answers *a = userdata;

        a->changed = sd_event_source_disable_unref(a->changed);
        for (size_t i = 0; i < WAITERS_MAX; i++)
                if (a->waiters[i].call)
                        look(&a->waiters[i]);
        return 0;
}

void answers_changed(Answers *a) {
        if (!a->changed)
                (void) sd_event_add_defer(a->spec.loop, &a->changed, on_changed, a);
}

static int on_wait_timeout(sd_event_source *source _unused_, uint64_t usec _unused_,
                           void *userdata) {
        Waiter *w = userdata;
        PipelineStatus s;
        _cleanup_free_ char *text = NULL;

        pipeline_status(w->answers->spec.pipeline, &s);
        text = str_format("the time ran out; the agent waits %s", s.waiting);
        answer_wait(w, "timeout", text);
        return 0;
}

static int on_wait(void *userdata, const ControlWaitAsk *ask, ControlCall *call) {
        Answers *a = userdata;
        Waiter *w = waiter_new(a, call);

        if (!w) {
                control_fail(call, CONTROL_ERROR_BUSY, "too many clients wait already");
                return CONTROL_LATER;
        }
        w->kind = ask->healthy ? WAIT_HEALTHY : WAIT_END;
        w->deploy = copy(ask->deploy);
        if (!ask->healthy && (!w->deploy || !str_is_label(w->deploy))) {
                waiter_done(w);
                control_fail(call, CONTROL_ERROR_REFUSED,
                             "say what to wait for: --healthy, or --deploy ID");
                return CONTROL_LATER;
        }
        if (ask->timeout_usec > 0)
                (void) sd_event_add_time_relative(a->spec.loop, &w->timer, CLOCK_BOOTTIME,
                                                  ask->timeout_usec, 0, on_wait_timeout, w);
        answers_changed(a);
        return CONTROL_LATER;
}

static int on_monitor(void *userdata, ControlCall *call) {
        Answers *a = userdata;
        Waiter *w = waiter_new(a, call);

        if (!w) {
                control_fail(call, CONTROL_ERROR_BUSY, "too many clients watch already");
                return CONTROL_LATER;
        }
        w->kind = WAIT_MONITOR;
        answers_changed(a);
        return CONTROL_LATER;
}

/* ---- Health: asked of the application now ---- */

static void answer_health(Answers *a, ControlCall *call, unsigned status, usec_t took,
                          const char *words) {
        ControlHealth reply = { .status = status, .took_ms = took / 1000 };
        PipelineStatus s;
        bool good;

        pipeline_status(a->spec.pipeline, &s);
        good = status > 0 && pipeline_status_is_good(a->spec.pipeline, status);
        reply.healthy = str_equal(s.health, "ok") && (good || s.state->current.port == 0);
        reply.health = copy(reply.healthy               ? "ok"
                            : str_equal(s.health, "ok") ? "failing"
                                                        : s.health);
        if (!reply.healthy)
                reply.cause = s.cause ? copy(s.cause)
                              : words ? copy(words)
                                      : str_format("the application answers %u", status);
        (void) control_reply(call, &control_health_table, &reply, false);
        json_table_done(&control_health_table, &reply);
}

static void on_health_checked(void *userdata, unsigned status, usec_t took, const char *words) {
        Answers *a = userdata;

        for (size_t i = 0; i < WAITERS_MAX; i++) {
                Waiter *w = &a->waiters[i];
                ControlCall *call = w->call;

                if (!call || w->kind != WAIT_CHECK)
                        continue;
                waiter_done(w);
                answer_health(a, call, status, took, words);
        }
}

static int on_health(void *userdata, ControlCall *call) {
        Answers *a = userdata;
        _cleanup_(error_freep) Error *err = NULL;
        Waiter *w;
        int r;

        r = pipeline_check(a->spec.pipeline, on_health_checked, a, &err);
        if (r < 0 && r != -EBUSY) {
                answer_health(a, call, 0, 0, error_text(err));
                return CONTROL_LATER;
        }
        w = waiter_new(a, call);
        if (w)
                w->kind = WAIT_CHECK;
        else
                control_fail(call, CONTROL_ERROR_BUSY, "too many clients wait already");
        return CONTROL_LATER;
}

/* ---- Store: how it is reached, asked of tendril-net ---- */

static int read_store(CallReply *reply, ControlStore *ret, Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        int r;

        r = reply->n_fds < 1 ? -EBADMSG : file_read_fd(reply->fds[0], &text);
        if (r < 0)
                return error_set(reterr, r, "tendril-net's answer: %s", strerror(-r));
        return json_decode(buf_str(&text), text.size, &control_store_table, JSON_LENIENT, ret,
                           reterr);
}

static void on_store_told(void *userdata, int r, CallReply *reply, Error *err) {
        Answers *a = userdata;
        _cleanup_(error_freep) Error *own = NULL;
        ControlStore store = { 0 };

        a->store_call = NULL;
        if (r >= 0)
                r = read_store(reply, &store, &own);
        free(store.url);
        store.url = copy(a->store_url);
        store.remote = true;
        for (size_t i = 0; i < WAITERS_MAX; i++) {
                ControlCall *call = a->waiters[i].call;

                if (!call || a->waiters[i].kind != WAIT_STORE)
                        continue;
                waiter_done(&a->waiters[i]);
                if (r < 0)
                        control_fail(call, CONTROL_ERROR_FAILED, error_text(own ?: err));
                else
                        (void) control_reply(call, &control_store_table, &store, false);
        }
        json_table_done(&control_store_table, &store);
}

static int on_store(void *userdata, ControlCall *call) {
        Answers *a = userdata;
        ControlStore local = { .url = copy(a->store_url) };
        Waiter *w;
        int r = 0;

        local.remote = a->store_url && store_url_is_remote(a->store_url);
        if (!local.remote)
                (void) control_reply(call, &control_store_table, &local, false);
        free(local.url);
        if (!local.remote)
                return CONTROL_LATER;
        if (!a->store_call)
                r = link_call(helpers_net(a->spec.helpers), WIRE_STATUS, NULL, NULL, NULL, 0,
                              STORE_USEC, on_store_told, a, &a->store_call);
        w = r < 0 ? NULL : waiter_new(a, call);
        if (w)
                w->kind = WAIT_STORE;
        else
                control_fail(call, CONTROL_ERROR_BUSY,
                             r < 0 ? strerror(-r) : "too many clients wait already");
        return CONTROL_LATER;
}

/* ---- Explain ---- */

static void say(ControlExplain *ret, char *text) {
        if (text)
                (void) strv_add(&ret->sentences, 64, text);
        free(text);
}

static void explain_last(Answers *a, ControlExplain *ret) {
        _cleanup_(strv_freep) char **ids = NULL;
        DeployRecord r = { 0 };

        if (record_list(pipeline_records_fd(a->spec.pipeline), &ids) < 0 || !ids || !ids[0] ||
            record_read(pipeline_records_fd(a->spec.pipeline), ids[0], &r, NULL) < 0)
                return;
        switch (r.outcome) {
        case OUTCOME_DONE:
                say(ret, str_format("The last deploy, %s of version %s, ended well at %s.", r.id,
                                    r.label, r.ended));
                break;
        case OUTCOME_RUNNING:
                say(ret, str_format("Deploy %s of version %s runs since %s, now in %s.", r.id,
                                    r.label, r.started, r.stage));
                break;
        case OUTCOME_FAILED:
        case OUTCOME_ROLLED_BACK:
        case OUTCOME_RETRY:
        case _DEPLOY_OUTCOME_MAX:
        default:
                say(ret,
                    str_format("The last deploy, %s of version %s, failed in %s at %s: %s.", r.id,
                               r.label, r.stage, r.ended ? r.ended : "-", r.error ? r.error : "-"));
                if (r.outcome == OUTCOME_ROLLED_BACK && r.previous)
                        say(ret,
                            str_format("This host went back to version %s by itself.", r.previous));
                if (r.outcome == OUTCOME_FAILED && r.previous)
                        say(ret, str_format("Version %s was never touched and went on running.",
                                            r.previous));
                say(ret,
                    str_format("`tendril logs %s` shows what its hooks and stages wrote.", r.id));
        }
        json_table_done(&deploy_record_table, &r);
}

static void explain_quarantine(const PipelineStatus *s, ControlExplain *ret) {
        const QuarantineState *q = quarantine_find(s->state, s->state->desired.revision,
                                                   s->state->desired.target.sha256);

        if (q)
                say(ret, str_format("Version %s (revision %llu) is quarantined here since %s; a "
                                    "new `tendril assign` or "
                                    "`tendril deploy --retry` tries again.",
                                    q->label, (unsigned long long) q->revision, q->since));
}

static int on_explain(void *userdata, ControlExplain *ret) {
        Answers *a = userdata;
        PipelineStatus s;

        pipeline_status(a->spec.pipeline, &s);
        if (s.state->current.label)
                say(ret, str_format("Version %s runs in slot %s since %s; its health: %s%s%s.",
                                    s.state->current.label, s.state->current.slot,
                                    s.state->current.since, s.health, s.cause ? ": " : "",
                                    s.cause ? s.cause : ""));
        else
                say(ret, strdup("Nothing is deployed on this host."));
        if (s.state->desired.revision > 0)
                say(ret, str_format("Environment %s wants version %s (revision %llu).",
                                    s.state->desired.environment, s.state->desired.target.label,
                                    (unsigned long long) s.state->desired.revision));
        if (s.refused)
                say(ret, str_format("The assignment in the store is refused: %s.", s.refused));
        if (!s.store_ok && s.store_error) {
                char since[TIME_RFC3339_SIZE];

                time_format(s.store_since, since);
                say(ret,
                    str_format("The store does not answer since %s: %s. What runs goes on running.",
                               since, s.store_error));
        }
        explain_last(a, ret);
        explain_quarantine(&s, ret);
        say(ret, str_format("The agent waits %s.", s.waiting));
        return 0;
}

/* ---- History and logs ---- */

static void hide_output(DeployRecord *record) {
        HookRecord *hooks = record->hooks.items;

        for (size_t i = 0; i < record->hooks.n; i++)
                hooks[i].tail = strv_free(hooks[i].tail);
}

static int on_history(void *userdata, const ControlHistoryAsk *ask, bool with_output,
                      ControlHistory *ret, Error **reterr) {
        Answers *a = userdata;
        _cleanup_(strv_freep) char **ids = NULL;
        int fd = pipeline_records_fd(a->spec.pipeline);
        int r;

        r = record_list(fd, &ids);
        if (r < 0)
                return error_set(reterr, r, "list the deploys: %s", strerror(-r));
        for (size_t i = 0; ids && ids[i] && (ask->limit == 0 || i < ask->limit); i++) {
                DeployRecord record = { 0 }, *kept;

                if (record_read(fd, ids[i], &record, NULL) < 0)
                        continue; /* `fsck` tells of a record that cannot be read */
                if (!with_output)
                        hide_output(&record);
                kept = json_array_add(&ret->deploys, &deploy_record_table, LIMIT_RECORDS);
                if (kept)
                        *kept = record;
                else
                        json_table_done(&deploy_record_table, &record);
        }
        return 0;
}

static int newest(Answers *a, char **ret, Error **reterr) {
        _cleanup_(strv_freep) char **ids = NULL;
        int r;

        r = record_list(pipeline_records_fd(a->spec.pipeline), &ids);
        if (r < 0 || !ids || !ids[0])
                return error_set(reterr, -ENOENT, "there was no deploy on this host yet");
        *ret = strdup(ids[0]);
        return *ret ? 0 : -ENOMEM;
}

static int read_slice(int fd, uint64_t offset, Buf *ret) {
        char *to = buf_reserve(ret, LOG_SLICE_BYTES);
        ssize_t n;

        if (!to)
                return -ENOMEM;
        n = pread(fd, to, LOG_SLICE_BYTES, (off_t) offset);
        if (n < 0)
                return -errno;
        buf_commit(ret, (size_t) n);
        return 0;
}

/* Line by line, so that a line feed stays one. */
static char *printable_lines(const char *text, size_t size) {
        _cleanup_(buf_done) Buf out = BUF_INIT(4 * LOG_SLICE_BYTES);

        while (size > 0) {
                const char *end = memchr(text, '\n', size);
                size_t n = end ? (size_t) (end - text) : size;
                _cleanup_free_ char *line = str_printable(text, n);

                if (!line || buf_append_str(&out, line) < 0 ||
                    (end && buf_append_str(&out, "\n") < 0))
                        return NULL;
                text += n + (end != NULL);
                size -= n + (end != NULL);
        }
        return buf_steal(&out);
}

static int on_logs(void *userdata, const ControlLogsAsk *ask, ControlLogs *ret, Error **reterr) {
        Answers *a = userdata;
        _cleanup_(buf_done) Buf text = BUF_INIT(LOG_SLICE_BYTES + 1);
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *path = NULL;
        PipelineStatus s;
        struct stat st;
        int r;

        ret->deploy = copy(ask->deploy);
        if (!ret->deploy) {
                r = newest(a, &ret->deploy, reterr);
                if (r < 0)
                        return r;
        }
        if (!str_is_label(ret->deploy))
                return error_set(reterr, -EINVAL,
                                 "'%s' is no id of a deploy; `tendril history` lists them",
                                 ret->deploy);
        path = str_format("%s/deploys/%s.log", a->spec.paths->log, ret->deploy);
        fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
        if (fd < 0 || fstat(fd, &st) < 0)
                return error_set(
                        reterr, -ENOENT,
                        "there is no log of a deploy %s here; `tendril history` lists them",
                        ret->deploy);
        r = read_slice(fd, ask->offset, &text);
        if (r < 0)
                return error_set(reterr, r, "read %s: %s", path, strerror(-r));
        ret->offset = ask->offset + text.size;
        ret->text = printable_lines(buf_str(&text), text.size);
        pipeline_status(a->spec.pipeline, &s);
        ret->more = ret->offset < (uint64_t) st.st_size ||
                    (s.record && str_equal(s.record->id, ret->deploy));
        return ret->text ? 0 : -ENOMEM;
}

/* ---- what changes something ---- */

static int on_deploy(void *userdata, const ControlDeployAsk *ask, ControlStarted *ret,
                     Error **reterr) {
        Answers *a = userdata;
        const char *id = NULL, *text = NULL;
        int r;

        if ((ask->bundle != NULL) + ask->retry + ask->resume != 1)
                return error_set(reterr, -EINVAL, "say one of: a bundle, retry, resume");
        if (ask->bundle)
                r = pipeline_deploy_bundle(a->spec.pipeline, ask->bundle, ask->version, &id,
                                           reterr);
        else if (ask->retry)
                r = pipeline_retry(a->spec.pipeline, &text, reterr);
        else
                r = pipeline_resume(a->spec.pipeline, &text, reterr);
        if (r < 0)
                return r;
        ret->deploy = copy(id);
        ret->text = text ? copy(text)
                         : str_format("deploy %s has begun; this host is held on that bundle until "
                                      "`tendril deploy --resume`",
                                      id);
        return 0;
}

static int on_rollback(void *userdata, ControlStarted *ret, Error **reterr) {
        Answers *a = userdata;
        const char *id = NULL;
        int r;

        r = pipeline_rollback(a->spec.pipeline, &id, reterr);
        if (r < 0)
                return r;
        ret->deploy = copy(id);
        ret->text = str_format(
                "deploy %s goes back to the previous version; the present one is quarantined", id);
        return 0;
}

static int on_restart(void *userdata, const ControlRestartAsk *ask, ControlText *ret,
                      Error **reterr) {
        Answers *a = userdata;
        const char *id = NULL;
        int r;

        r = pipeline_restart(a->spec.pipeline, ask->process, &id, reterr);
        if (r < 0)
                return r;
        ret->text = id ? str_format("deploy %s starts the same version once more, side by side", id)
                       : str_format("%s is stopped and started again", ask->process);
        return 0;
}

static int on_reload(void *userdata, ControlText *ret, Error **reterr) {
        Answers *a = userdata;

        return a->spec.reload(a->spec.userdata, &ret->text, reterr);
}

/* ---- life ---- */

ControlOps answers_ops(Answers *a) {
        return (ControlOps){ .status = on_status,
                             .health = on_health,
                             .explain = on_explain,
                             .store = on_store,
                             .history = on_history,
                             .logs = on_logs,
                             .deploy = on_deploy,
                             .rollback = on_rollback,
                             .restart = on_restart,
                             .reload = on_reload,
                             .wait = on_wait,
                             .monitor = on_monitor,
                             .on_gone = on_gone,
                             .userdata = a };
}

int answers_new(const AnswersSpec *spec, Answers **ret) {
        _cleanup_(answers_freep) Answers *a = calloc(1, sizeof(Answers));

        if (!a || answers_set_host(a, spec->host) < 0)
                return -ENOMEM;
        a->spec = *spec;
        a->spec.host = NULL;
        *ret = TAKE_PTR(a);
        return 0;
}

int answers_set_host(Answers *a, const char *host) {
        char *copied = strdup(host);

        if (!copied)
                return -ENOMEM;
        free(a->host);
        a->host = copied;
        return 0;
}

void answers_set_config(Answers *a, const Config *config, const char *store_url_) {
        a->config = config;
        a->store_url = store_url_;
}

Answers *answers_free(Answers *a) {
        if (!a)
                return NULL;
        a->changed = sd_event_source_disable_unref(a->changed);
        a->store_call = link_cancel(a->store_call);
        for (size_t i = 0; i < WAITERS_MAX; i++)
                if (a->waiters[i].call)
                        waiter_done(&a->waiters[i]);
        free(a->host);
        free(a);
        return NULL;
}
