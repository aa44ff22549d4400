#include "deploy/deploy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "deploy/phase.h"
#include "deploy/stage.h"
#include "loop/log.h"

typedef struct Stage {
        const char *name;
        const Step *steps;
        DeployStage on_success;
        DeployStage on_failure;
        usec_t timeout_usec; /* 0: the steps have their own */
        bool makes_ready;    /* only to bring the target to this disk */
} Stage;

/* clang-format off */
static const Stage stages[_DEPLOY_STAGE_MAX] = {
        /*                     name        steps           on success       on failure       time-out    makes ready */
        [DEPLOY_DESIRED]  = { "desired",  NULL,           DEPLOY_LEASE,    DEPLOY_DESIRED,  0,          false },
        [DEPLOY_LEASE]    = { "lease",    lease_steps,    DEPLOY_FETCH,    DEPLOY_RELEASE,  0,          false }, /* a lost reply may be a grant */
        [DEPLOY_FETCH]    = { "fetch",    fetch_steps,    DEPLOY_VERIFY,   DEPLOY_RELEASE,  SEC(3600),  true  },
        [DEPLOY_VERIFY]   = { "verify",   verify_steps,   DEPLOY_EXTRACT,  DEPLOY_RELEASE,  SEC(600),   true  },
        [DEPLOY_EXTRACT]  = { "extract",  extract_steps,  DEPLOY_PREPARE,  DEPLOY_RELEASE,  SEC(1800),  true  },
        [DEPLOY_PREPARE]  = { "prepare",  prepare_steps,  DEPLOY_SWITCH,   DEPLOY_RELEASE,  0,          true  }, /* each hook has its own */
        [DEPLOY_SWITCH]   = { "switch",   switch_steps,   DEPLOY_GATE,     DEPLOY_ROLLBACK, 0,          false },
        [DEPLOY_GATE]     = { "gate",     gate_steps,     DEPLOY_RELEASE,  DEPLOY_ROLLBACK, 0,          false },
        [DEPLOY_ROLLBACK] = { "rollback", rollback_steps, DEPLOY_RELEASE,  DEPLOY_RELEASE,  SEC(300),   false },
        [DEPLOY_RELEASE]  = { "release",  release_steps,  DEPLOY_DESIRED,  DEPLOY_DESIRED,  SEC(300),   false },
};
/* clang-format on */

const char *deploy_stage_name(DeployStage stage) {
        return stage >= 0 && stage < _DEPLOY_STAGE_MAX ? stages[stage].name : "";
}

DeployStage deploy_stage_from_name(const char *name) {
        for (int i = 0; i < _DEPLOY_STAGE_MAX; i++)
                if (str_equal(stages[i].name, name))
                        return (DeployStage) i;
        return _DEPLOY_STAGE_INVALID;
}

DeployStage deploy_next(DeployStage stage, bool success) {
        return success ? stages[stage].on_success : stages[stage].on_failure;
}

usec_t pipeline_now(const Pipeline *p) {
        return clock_read(p->spec.clock, CLOCK_BOOTTIME);
}

usec_t pipeline_realtime(const Pipeline *p) {
        return clock_read(p->spec.clock, CLOCK_REALTIME);
}

int pipeline_timer(Pipeline *p, sd_event_source **source, usec_t in_usec,
                   sd_event_time_handler_t handler, void *userdata) {
        *source = sd_event_source_disable_unref(*source);
        return sd_event_add_time_relative(p->spec.loop, source, CLOCK_BOOTTIME, in_usec, MSEC(1),
                                          handler, userdata);
}

void pipeline_changed(Pipeline *p) {
        if (p->spec.on_change)
                p->spec.on_change(p->spec.userdata);
}

int pipeline_save(Pipeline *p, Error **reterr) {
        return state_save(p->state_fd, p->state, reterr);
}

static LogFields log_of(const Deploy *d) {
        return (LogFields){ .deploy_id = d->record.id,
                            .stage = stages[d->stage].name,
                            .version = d->record.label };
}

static void _printf_(4, 0)
        event(Deploy *d, int priority, const char *message_id, const char *format, va_list ap) {
        LogFields fields = log_of(d);
        usec_t now = pipeline_realtime(d->p);
        char *text = NULL;

        if (vasprintf(&text, format, ap) < 0)
                return;
        fields.message_id = message_id;
        record_event(&d->record, now, "%s", text);
        record_log_line(d->log_fd, now, stages[d->stage].name, text);
        log_fields(priority, &fields, "%s", text);
        free(text);
}

void deploy_event(Deploy *d, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        event(d, LOG_INFO, NULL, format, ap);
        va_end(ap);
}

void deploy_tell(Deploy *d, int priority, const char *message_id, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        event(d, priority, message_id, format, ap);
        va_end(ap);
}

/* Ends whatever the present step has under way. */
static void step_clear(Deploy *d) {
        d->call = store_cancel(d->call);
        d->tree = tree_cancel(d->tree);
        d->hooks = hooks_cancel(d->hooks);
        d->task = d->p->spec.helpers.cancel(d->task);
        d->proxy_test = proxy_test_cancel(d->proxy_test);
        d->timer = sd_event_source_disable_unref(d->timer);
        d->copy = sd_event_source_disable_unref(d->copy);
        d->until = NULL;
}

void deploy_on_tree(void *userdata, int r, Error *err) {
        Deploy *d = userdata;
        Error *own = NULL;

        d->tree = NULL;
        if (r < 0)
                (void) error_set(&own, r, "%s", error_text(err));
        deploy_step_ended(d, r < 0 ? r : 0, own);
}

/* Begins steps until one has to wait, or the table ends. */
static void steps_run(Deploy *d) {
        for (;;) {
                _cleanup_(error_freep) Error *err = NULL;
                int r;

                if (!d->step->name) {
                        deploy_stage_ended(d, 0, NULL);
                        return;
                }
                r = d->step->begin(d, &err);
                if (r == 0)
                        return;
                if (r < 0) {
                        deploy_stage_ended(d, r, TAKE_PTR(err));
                        return;
                }
                step_clear(d);
                d->step++;
        }
}

void deploy_step_ended(Deploy *d, int r, Error *err) {
        step_clear(d);
        if (r < 0) {
                deploy_stage_ended(d, r, err);
                return;
        }
        (void) error_free(err);
        d->step = d->again ? stages[d->stage].steps : d->step + 1;
        d->again = false;
        steps_run(d);
}

static int on_wait_timeout(sd_event_source *source _unused_, uint64_t usec _unused_,
                           void *userdata) {
        Deploy *d = userdata;
        Error *err = NULL;
        char span[32];

        time_format_span(d->deadline_usec, span);
        (void) error_set(&err, -ETIMEDOUT, "%s after %s", d->wait_what, span);
        deploy_step_ended(d, -ETIMEDOUT, err);
        return 0;
}

int deploy_wait(Deploy *d, bool (*until)(Deploy *d), usec_t most_usec, const char *what,
                Error **reterr) {
        int r;

        if (until(d))
                return STEP_DONE;
        d->until = until;
        d->wait_what = what;
        d->deadline_usec = most_usec;
        r = pipeline_timer(d->p, &d->timer, most_usec, on_wait_timeout, d);
        return r < 0 ? error_set(reterr, r, "wait: %s", strerror(-r)) : 0;
}

void deploy_on_service(Deploy *d) {
        if (d->until && d->until(d))
                deploy_step_ended(d, 0, NULL);
}

static int on_stage_timeout(sd_event_source *source _unused_, uint64_t usec _unused_,
                            void *userdata) {
        Deploy *d = userdata;
        Error *err = NULL;
        char span[32];

        time_format_span(stages[d->stage].timeout_usec, span);
        (void) error_set(&err, -ETIMEDOUT, "'%s' had not ended after %s (step %s)",
                         stages[d->stage].name, span,
                         d->step && d->step->name ? d->step->name : "-");
        step_clear(d);
        deploy_stage_ended(d, -ETIMEDOUT, err);
        return 0;
}

/* What may go well the next time although nobody changed anything. */
static bool is_passing(DeployStage stage, int r) {
        if (stage == DEPLOY_LEASE || stage == DEPLOY_FETCH)
                return r != -EKEYREJECTED;
        if (stage >= DEPLOY_SWITCH)
                return false;
        return r == -ENOSPC || r == -ENOMEM || r == -EIO || r == -ECONNRESET || r == -EAGAIN ||
               r == -EMFILE || r == -ENFILE;
}

/* The first failure of an attempt is the one that is told; later ones on the way back are events.
 */
static void note_failure(Deploy *d, int r, const Error *err) {
        AttemptState *a = &d->p->state->attempt;
        const char *words = err ? error_text(err) : strerror(-r);

        if (a->failed) {
                deploy_event(d, "%s failed: %s", stages[d->stage].name, words);
                return;
        }
        deploy_tell(d, LOG_ERR, LOG_ID_DEPLOY_FAILED, "deploy of %s failed in %s: %s",
                    d->record.label, stages[d->stage].name, words);
        a->failed = true;
        d->failed_in = d->stage;
        free(a->error);
        a->error = str_format("%s: %s", stages[d->stage].name, words);
        free(d->record.error);
        d->record.error = strdup(words);
        if (!d->retry)
                d->retry = is_passing(d->stage, r);
}

static void record_stage(Deploy *d, DeployStage next) {
        static const JsonField fields[] = {
                JSON_ROW("name", JSON_KIND_STRING, 0, StageRecord, name),
                JSON_END,
        };
        static const JsonTable table = { fields, sizeof(StageRecord) };
        _cleanup_(error_freep) Error *err = NULL;
        usec_t now = pipeline_now(d->p);
        StageRecord *s;

        s = json_array_add(&d->record.stages, &table, 64);
        if (s) {
                s->name = strdup(stages[d->stage].name);
                s->took_ms = (now - d->stage_usec) / 1000;
                if (!s->name)
                        d->record.stages.n--;
        }
        d->stage_usec = now;
        if (!d->p->state->attempt.failed || !d->record.stage) {
                free(d->record.stage);
                d->record.stage = strdup(stages[next].name);
        }
        if (record_write(d->p->records_fd, &d->record, &err) < 0)
                log_warning("%s, ignoring: history will lack it", error_text(err));
}

static DeployOutcome outcome_of(const Deploy *d) {
        const AttemptState *a = &d->p->state->attempt;

        /* What may pass is tried again, but not for ever: a store may be silent for days, a full
         * disk or a hook that asks for it is somebody's to look at. */
        if (!a->failed)
                return OUTCOME_DONE;
        if (d->retry && (d->failed_in <= DEPLOY_FETCH || d->p->watch.retry.n < LIMIT_HOOK_RETRIES))
                return OUTCOME_RETRY;
        return a->turned || (a->decided && a->overlap == OVERLAP_NONE) ? OUTCOME_ROLLED_BACK
                                                                       : OUTCOME_FAILED;
}

/* An attempt that failed for good is not tried again on its own. */
static void quarantine_target(Deploy *d) {
        AttemptState *a = &d->p->state->attempt;

        if ((a->kind != DEPLOY_ASSIGNED && a->kind != DEPLOY_SETTINGS) || !a->target.sha256)
                return;
        if (quarantine_add(d->p->state, a->target.revision, a->target.label, a->target.sha256,
                           a->error, pipeline_realtime(d->p)) < 0)
                return;
        deploy_tell(d, LOG_WARNING, LOG_ID_QUARANTINED,
                    "version %s (revision %llu) is quarantined: not tried again until a new assign "
                    "or `tendril deploy --retry`",
                    a->target.label, (unsigned long long) a->target.revision);
}

static int on_again(sd_event_source *source _unused_, void *userdata) {
        Pipeline *p = userdata;

        p->deploy = deploy_free(p->deploy);
        p->again = sd_event_source_disable_unref(p->again);
        watch_soon(p);
        retention_run(p);
        pipeline_changed(p);
        return 0;
}

/* The attempt is over: its outcome goes into the record, the state forgets it; the object is freed
 * from the loop. */
static void deploy_finish(Deploy *d) {
        _cleanup_(error_freep) Error *err = NULL;
        Pipeline *p = d->p;
        char now[TIME_RFC3339_SIZE], span[32];

        d->record.outcome = outcome_of(d);
        time_format(pipeline_realtime(p), now);
        free(d->record.ended);
        d->record.ended = strdup(now);
        d->record.took_ms = (pipeline_now(p) - d->began_usec) / 1000;
        time_format_span(pipeline_now(p) - d->began_usec, span);

        if (d->record.outcome == OUTCOME_DONE) {
                deploy_tell(d, LOG_NOTICE, LOG_ID_DEPLOY_DONE, "version %s is served",
                            d->record.label);
                watch_failed(p, false, 0);
        } else {
                if (d->record.outcome != OUTCOME_RETRY)
                        quarantine_target(d);
                watch_failed(p, d->record.outcome == OUTCOME_RETRY,
                             d->hook_retry ? p->config->hooks.retry_usec : 0);
        }
        deploy_event(d, "deploy %s: %s after %s", d->record.id,
                     deploy_outcome_names[d->record.outcome], span);
        if (record_write(p->records_fd, &d->record, &err) < 0)
                log_warning("%s, ignoring: history will lack it", error_text(err));

        {
                AttemptState none = { 0 };
                State with = { .attempt = p->state->attempt };

                p->state->attempt = none;
                json_table_done(&state_table, &with);
        }
        err = error_free(err);
        if (pipeline_save(p, &err) < 0)
                log_error("%s; the end of deploy %s is not on disk: it will be looked at again "
                          "after a restart",
                          error_text(err), d->record.id);
        (void) sd_event_add_defer(p->spec.loop, &p->again, on_again, p);
        pipeline_changed(p);
}

static DeployStage stage_behind(Deploy *d, bool success) {
        DeployStage next = deploy_next(d->stage, success);

        if (!success)
                return next;
        if (d->stage == DEPLOY_LEASE && d->resume_at > DEPLOY_LEASE)
                next = d->resume_at;
        while (d->ready && stages[next].makes_ready)
                next = stages[next].on_success;
        return next;
}

/* Puts the coming stage on disk. Without that nothing new may begin; what leads back to safety goes
 * on. */
static int commit_stage(Deploy *d, DeployStage next, Error **reterr) {
        AttemptState *a = &d->p->state->attempt;
        char *name = strdup(stages[next].name);
        int r;

        if (!name)
                return error_set(reterr, -ENOMEM, "out of memory");
        free(a->stage);
        a->stage = name;
        r = pipeline_save(d->p, reterr);
        return r < 0 && next != DEPLOY_ROLLBACK && next != DEPLOY_RELEASE ? r : 0;
}

static void stage_begin(Deploy *d) {
        const Stage *s = &stages[d->stage];

        d->stage_timer = sd_event_source_disable_unref(d->stage_timer);
        if (s->timeout_usec > 0)
                (void) pipeline_timer(d->p, &d->stage_timer, s->timeout_usec, on_stage_timeout, d);
        d->step = s->steps;
        pipeline_changed(d->p);
        steps_run(d);
}

void deploy_stage_ended(Deploy *d, int r, Error *err) {
        _cleanup_(error_freep) Error *own = err, *save = NULL;
        DeployStage next;
        int k;

        step_clear(d);
        if (r < 0 && d->stage == DEPLOY_LEASE)
                lease_drop(d->p);
        if (r < 0)
                note_failure(d, r, own);
        next = stage_behind(d, r >= 0);
        if (next == DEPLOY_DESIRED) {
                record_stage(d, next);
                deploy_finish(d);
                return;
        }
        k = commit_stage(d, next, &save);
        if (k < 0) {
                note_failure(d, k, save);
                next = deploy_next(d->stage, false);
        }
        log_debug("deploy %s: %s -> %s: %s", d->record.id, stages[d->stage].name, stages[next].name,
                  r < 0 ? error_text(own) : "done");
        record_stage(d, next);
        d->stage = next;
        stage_begin(d);
}

static Deploy *deploy_new(Pipeline *p) {
        Deploy *d = calloc(1, sizeof(Deploy));

        if (!d)
                return NULL;
        d->p = p;
        d->log_fd = d->bundle_fd = d->copy_fd = -EBADF;
        d->began_usec = d->stage_usec = pipeline_now(p);
        d->record.format = FORMAT_DOCUMENT;
        return d;
}

Deploy *deploy_free(Deploy *d) {
        if (!d)
                return NULL;
        step_clear(d);
        d->stage_timer = sd_event_source_disable_unref(d->stage_timer);
        closep(&d->log_fd);
        closep(&d->bundle_fd);
        closep(&d->copy_fd);
        if (d->has_plan)
                json_table_done(&plan_table, &d->plan);
        if (d->has_effective)
                effective_done(&d->effective);
        json_table_done(&deploy_record_table, &d->record);
        free(d->proxy_text);
        free(d->last_check);
        free(d->old_web);
        free(d);
        return NULL;
}

/* The record of an attempt, from what the state says of it. */
static int record_init(Deploy *d, Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        const State *s = d->p->state;
        char now[TIME_RFC3339_SIZE];

        time_format(pipeline_realtime(d->p), now);
        d->record.id = strdup(a->id);
        d->record.kind = (int) a->kind;
        d->record.application = a->target.application ? strdup(a->target.application) : NULL;
        d->record.label = strdup(a->target.label);
        d->record.sha256 = a->target.sha256 ? strdup(a->target.sha256) : NULL;
        d->record.revision = a->target.revision;
        d->record.previous = s->current.label ? strdup(s->current.label) : NULL;
        d->record.started = strdup(now);
        if (!d->record.id || !d->record.label || !d->record.started)
                return error_set(reterr, -ENOMEM, "begin deploy: out of memory");
        return 0;
}

/* Ids sort by time also within a second: the microseconds stand in front of the chance. */
static void make_id(usec_t realtime, char ret[32]) {
        uint32_t within = (uint32_t) (realtime % SEC(1));

        time_make_id(realtime, within << 12 | (backoff_chance() & 0xfff), ret);
}

int deploy_begin(Pipeline *p, DeployKind kind, VersionState *target, BundleRef *bundle,
                 const char *path, Error **reterr) {
        AttemptState *a = &p->state->attempt;
        char id[32];
        Deploy *d;
        int r;

        if (p->deploy)
                return error_set(reterr, -EBUSY,
                                 "deploy %s runs; `tendril wait --deploy %s` waits for its end",
                                 p->deploy->record.id, p->deploy->record.id);
        make_id(pipeline_realtime(p), id);
        d = deploy_new(p);
        if (!d)
                return error_set(reterr, -ENOMEM, "begin deploy: out of memory");
        a->id = strdup(id);
        a->kind = kind;
        version_state_move(&a->target, target);
        a->bundle = *bundle;
        memset(bundle, 0, sizeof(*bundle));
        a->path = path ? strdup(path) : NULL;
        d->ready = kind == DEPLOY_ROLLBACK_ASKED || kind == DEPLOY_RESTART;
        r = !a->id || (path && !a->path) ? error_set(reterr, -ENOMEM, "begin deploy: out of memory")
                                         : record_init(d, reterr);
        if (r >= 0)
                r = commit_stage(d, DEPLOY_LEASE, reterr);
        if (r < 0) {
                State with = { .attempt = *a };

                memset(a, 0, sizeof(*a));
                json_table_done(&state_table, &with);
                d = deploy_free(d);
                return r;
        }
        d->log_fd = record_log_open(p->spec.paths->log, id);
        d->stage = DEPLOY_LEASE;
        p->deploy = d;
        deploy_tell(d, LOG_NOTICE, LOG_ID_DEPLOY_STARTED, "deploy of version %s begins (%s)",
                    d->record.label, deploy_kind_names[kind]);
        record_stage(d, DEPLOY_LEASE);
        stage_begin(d);
        return 0;
}

/* Where a stage that was cut off is taken up again: what changed nothing that is served goes
 * through the lease first. */
static DeployStage resume_stage(const AttemptState *a) {
        DeployStage stage = deploy_stage_from_name(a->stage);

        if (stage == _DEPLOY_STAGE_INVALID || stage == DEPLOY_DESIRED)
                return DEPLOY_LEASE;
        if (stage == DEPLOY_SWITCH && a->turned)
                return DEPLOY_SWITCH;
        return stage > DEPLOY_SWITCH ? stage : DEPLOY_LEASE;
}

int deploy_resume(Pipeline *p, Error **reterr) {
        AttemptState *a = &p->state->attempt;
        DeployRecord old = { 0 };
        Deploy *d;
        int r;

        d = deploy_new(p);
        if (!d)
                return error_set(reterr, -ENOMEM, "resume deploy: out of memory");
        if (record_read(p->records_fd, a->id, &old, NULL) == 0)
                d->record = old;
        else {
                r = record_init(d, reterr);
                if (r < 0) {
                        d = deploy_free(d);
                        return r;
                }
        }
        d->log_fd = record_log_open(p->spec.paths->log, a->id);
        d->ready = a->kind == DEPLOY_ROLLBACK_ASKED || a->kind == DEPLOY_RESTART;
        d->stage = resume_stage(a);
        d->resume_at = deploy_stage_from_name(a->stage);
        if (d->resume_at == _DEPLOY_STAGE_INVALID)
                d->resume_at = DEPLOY_LEASE;
        if (d->resume_at == DEPLOY_VERIFY)
                d->resume_at = DEPLOY_FETCH; /* opens what is to be verified */
        p->deploy = d;
        if (phase_awaits_boot(a)) {
                d->reboot = true;
                d->stage = d->resume_at;
                deploy_event(d, "the agent was started again, and the host not: the deploy waits "
                                "for the reboot that a hook asked for");
                if (p->spec.on_reboot)
                        p->spec.on_reboot(p->spec.userdata);
                return 0;
        }
        deploy_event(d, "the agent was started again; the deploy goes on at '%s'",
                     a->stage ? a->stage : "lease");
        stage_begin(d);
        return 0;
}
