#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "deploy/stage.h"
#include "loop/log.h"

/*
 * The pipeline as an object: its folders, its start (what runs is taken on, what was cut off is
 * resumed), commands, status, and end.
 */

/* ---- services ---- */

/* While services are taken on after a restart, those whose turn has not come yet stay written down.
 */
static int keep_others(Pipeline *p, JsonArray *records) {
        const ServiceRecord *old = p->state->services.items;

        for (size_t i = 0; i < p->state->services.n; i++) {
                ServiceRecord *kept;

                if (services_find(p->services, slot_from_name(old[i].slot), old[i].name, NULL))
                        continue;
                kept = json_array_add(records, &service_record_table, 4 * LIMIT_PROCESSES);
                if (!kept || json_table_copy(&service_record_table, &old[i], kept) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int on_records(void *userdata) {
        Pipeline *p = userdata;
        _cleanup_(error_freep) Error *err = NULL;
        JsonArray records = { 0 };
        State with = { 0 };
        int r;

        if (!p->services)
                return 0;
        r = services_records(p->services, &records);
        if (r >= 0 && (p->adopting || p->adopt_failed < 0))
                r = keep_others(p, &records);
        with.services = r < 0 ? records : p->state->services;
        if (r >= 0)
                p->state->services = records;
        json_table_done(&state_table, &with);
        if (r >= 0)
                r = pipeline_save(p, &err);
        if (r < 0)
                log_error("write down which processes run: %s",
                          err ? error_text(err) : strerror(-r));
        /* At the start an application that runs unrecorded is better than none: a full disk must
         * not keep it down. */
        return p->adopting ? 0 : r;
}

static void start_again(Pipeline *p, const ServiceStatus *status) {
        _cleanup_(error_freep) Error *err = NULL;

        if (status->state != SERVICE_STOPPED || !str_equal(p->stopping, status->name))
                return;
        free(p->stopping);
        p->stopping = NULL;
        if (p->deploy)
                return;
        if (launch_adopt_one(p, &p->state->current, status->name, &err) < 0)
                log_error("start %s again: %s", status->name, error_text(err));
}

static void on_service(void *userdata, const ServiceStatus *status) {
        Pipeline *p = userdata;
        LogFields fields = { .message_id = LOG_ID_PROCESS_FAILED,
                             .version = p->state->current.label };

        if (status->state == SERVICE_WAITING)
                log_fields(LOG_WARNING, &fields,
                           "%s%s%s ended by itself (%s, %u times); it is started again",
                           status->name, status->slot == SLOT_NONE ? "" : " in slot ",
                           slot_name(status->slot), status->last_exit, status->n_restarts);
        start_again(p, status);
        if (p->deploy)
                deploy_on_service(p->deploy);
        pipeline_changed(p);
}

/* ---- folders ---- */

static int open_folders(Pipeline *p, Error **reterr) {
        const struct {
                const char *name;
                mode_t mode;
                int *fd;
        } folders[] = {
                { "versions", 0700, &p->versions_fd }, { "incoming", 0700, &p->incoming_fd },
                { "bundles", 0700, &p->bundles_fd },   { "slot", 0755, &p->slot_fd },
                { "deploys", 0700, &p->records_fd },   { "proxy", 0755, &p->proxy_fd },
        };
        const Paths *paths = p->spec.paths;
        const char *const others[] = { paths->run, paths->log, paths->app };

        p->state_fd = file_mkdirs_at(AT_FDCWD, paths->state, 0755);
        if (p->state_fd < 0)
                return error_set(reterr, p->state_fd, "make %s: %s", paths->state,
                                 strerror(-p->state_fd));
        if (fchmod(p->state_fd, 0711) < 0)
                return error_set(reterr, -errno, "set the mode of %s: %s", paths->state,
                                 strerror(errno));
        for (size_t i = 0; i < ELEMENTS(folders); i++) {
                *folders[i].fd = file_mkdirs_at(p->state_fd, folders[i].name, folders[i].mode);
                if (*folders[i].fd < 0)
                        return error_set(reterr, *folders[i].fd, "make %s/%s: %s", paths->state,
                                         folders[i].name, strerror(-*folders[i].fd));
                (void) fchmod(*folders[i].fd, folders[i].mode);
                (void) file_sweep_at(*folders[i].fd);
        }
        (void) file_sweep_at(p->state_fd);
        for (size_t i = 0; i < ELEMENTS(others); i++) {
                _cleanup_close_ int fd = file_mkdirs_at(AT_FDCWD, others[i], 0755);

                if (fd < 0)
                        return error_set(reterr, fd, "make %s: %s", others[i], strerror(-fd));
        }
        return 0;
}

static int load_state(Pipeline *p, Error **reterr) {
        LogFields fields = { .message_id = LOG_ID_STATE_DAMAGED };
        Error *err = NULL;
        int r;

        r = state_load(p->state_fd, &p->state, &err);
        if (r == STATE_PREVIOUS)
                log_fields(LOG_ERR, &fields, "%s; going on with its predecessor", error_text(err));
        if (r == -EBADMSG) {
                /* Both are damaged: nothing can be proved about what is on this disk; what runs
                 * goes on, unwatched. */
                log_fields(LOG_ERR, &fields,
                           "%s; beginning from nothing, and leaving alone what runs",
                           error_text(err));
                (void) renameat(p->state_fd, "state.json", p->state_fd, "state.json.damaged");
                (void) renameat(p->state_fd, "state.json.previous", p->state_fd,
                                "state.json.previous.damaged");
                err = error_free(err);
                p->state = state_new();
                r = p->state ? 0 : -ENOMEM;
        }
        if (r < 0)
                return err ? error_take(reterr, &err)
                           : error_set(reterr, r, "load the state: %s", strerror(-r));
        err = error_free(err);
        if (!str_equal(p->state->host, p->spec.host)) {
                free(p->state->host);
                p->state->host = strdup(p->spec.host);
                if (!p->state->host)
                        return error_set(reterr, -ENOMEM, "load the state: out of memory");
        }
        if (pipeline_save(p, &err) < 0)
                log_error("%s; going on with what is known", error_text(err));
        (void) error_free(err);
        return 0;
}

/* ---- start: what runs is taken on ---- */

static void tell(Pipeline *p, const char *what, int r, Error **err) {
        if (r < 0)
                log_error("%s: %s", what, *err ? error_text(*err) : strerror(-r));
        if (r < 0 && p->adopt_failed == 0)
                p->adopt_failed = r;
        *err = error_free(*err);
}

/* Which of an attempt's two versions shall run whole, and of which only what still does is watched
 * (until the stage at hand stops it). */
static void adopt_versions(Pipeline *p) {
        const State *s = p->state;
        const AttemptState *a = &s->attempt;
        DeployStage stage = a->id ? deploy_stage_from_name(a->stage) : DEPLOY_DESIRED;
        bool old_may_rest = a->id && (a->turned || stage == DEPLOY_ROLLBACK) && !a->answered;
        Error *err = NULL;

        if (s->current.label && s->current.slot) {
                if (old_may_rest)
                        tell(p, "take on the old version", launch_adopt_alive(p, &s->current, &err),
                             &err);
                else
                        tell(p, "start the current version", launch_adopt(p, &s->current, &err),
                             &err);
        }
        if (a->id && a->turned && !a->answered && stage <= DEPLOY_GATE)
                tell(p, "start the new version", launch_adopt(p, &a->target, &err), &err);
        else if (a->id && !a->answered && a->target.slot)
                tell(p, "take on the new version", launch_adopt_alive(p, &a->target, &err), &err);
        if (a->answered && s->previous.label && s->previous.slot &&
            !str_equal(s->previous.slot, s->current.slot))
                tell(p, "take on the old version", launch_adopt_alive(p, &s->previous, &err), &err);
        if (s->replaced.label && s->replaced.slot)
                tell(p, "take on the replaced processes", launch_adopt_alive(p, &s->replaced, &err),
                     &err);
}

/* What was cut off goes on, and the store is looked at: only when nothing of the start is under way
 * any more. */
static void begin_work(Pipeline *p) {
        _cleanup_(error_freep) Error *err = NULL;

        if (!p->state->attempt.id)
                retention_run(p);
        else if (deploy_resume(p, &err) < 0)
                log_error("go on with deploy %s: %s", p->state->attempt.id, error_text(err));
        watch_start(p);
}

static void on_mounted(void *userdata, int r, Error *err) {
        Pipeline *p = userdata;

        p->mounter = NULL;
        if (r < 0)
                log_warning("put %s in place: %s", p->spec.paths->current, error_text(err));
        begin_work(p);
}

/* `current` and the slot file are what the state says, whatever a crash or reboot left. */
static void turn_to_state(Pipeline *p) {
        const State *s = p->state;
        const VersionState *v = s->attempt.turned && !s->attempt.failed && s->attempt.target.folder
                                        ? &s->attempt.target
                                        : &s->current;
        _cleanup_close_ int fd = v->folder ? version_open(p, v, "app") : -EBADF;
        char *args[] = { p->spec.paths->current, NULL };
        Error *err = NULL;

        if (fd < 0 || !v->slot)
                return;
        tell(p, "turn the slot", slot_turn(p->slot_fd, slot_from_name(v->slot)), &err);
        tell(p, "put `current` in place",
             tree_run(p->spec.loop, p->spec.tree_fd, "mount", args, fd, SEC(30), on_mounted, p,
                      &p->mounter, &err),
             &err);
}

static void on_stray_ended(void *userdata _unused_) {
}

/* What a crash left running that nobody will ask for: not of the version or attempt in the state.
 */
static void end_strays(Pipeline *p, const JsonArray *records) {
        const ServiceRecord *r = records->items;

        for (size_t i = 0; i < records->n; i++) {
                if (!launch_is_alive(&r[i]) ||
                    services_find(p->services, slot_from_name(r[i].slot), r[i].name, NULL))
                        continue;
                log_info("end %s (pid %llu), which belongs to nothing any more", r[i].name,
                         (unsigned long long) r[i].pid);
                (void) services_end_record(p->services, &r[i], p->config->app.stop_usec,
                                           on_stray_ended, NULL);
        }
}

/* What runs is left as it is where it could not be taken on. Where the cause may pass, the start
 * fails, and the next one finds all of it. */
static int take_on(Pipeline *p, Error **reterr) {
        Error *err = NULL;
        int r;

        p->adopting = true;
        turn_to_state(p);
        tell(p, "start the proxy", front_adopt(p, &err), &err);
        adopt_versions(p);
        p->adopting = false;
        r = p->adopt_failed;
        if (r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -EAGAIN)
                return error_set(reterr, r, "what runs cannot be taken on: %s", strerror(-r));
        if (r >= 0)
                end_strays(p, &p->state->services);
        (void) on_records(p); /* it has said what is wrong */
        return 0;
}

int pipeline_new(const PipelineSpec *spec, Pipeline **ret, Error **reterr) {
        _cleanup_(pipeline_freep) Pipeline *p = calloc(1, sizeof(Pipeline));
        ServicesConfig services;
        int r;

        if (!p)
                return error_set(reterr, -ENOMEM, "start: out of memory");
        p->spec = *spec;
        p->config = spec->config;
        p->store = spec->store;
        p->state_fd = p->versions_fd = p->incoming_fd = p->bundles_fd = p->slot_fd = p->records_fd =
                p->proxy_fd = -EBADF;
        r = open_folders(p, reterr);
        if (r >= 0)
                r = load_state(p, reterr);
        if (r < 0)
                return r;
        services = (ServicesConfig){ .instance = p->config->instance,
                                     .log_dir = spec->paths->log,
                                     .tree_fd = spec->tree_fd,
                                     .log_bytes = p->config->app.log_bytes,
                                     .clock = spec->clock,
                                     .on_records = on_records,
                                     .on_event = on_service,
                                     .userdata = p };
        r = services_new(spec->loop, &services, &p->services, reterr);
        if (r < 0)
                return r;
        r = take_on(p, reterr);
        if (r < 0)
                return r;
        if (!p->mounter)
                begin_work(p);
        *ret = TAKE_PTR(p);
        return 0;
}

Pipeline *pipeline_free(Pipeline *p) {
        if (!p)
                return NULL;
        watch_stop(p);
        lease_drop(p);
        p->spec.helpers.cancel(p->check);
        p->again = sd_event_source_disable_unref(p->again);
        p->cleaner = tree_cancel(p->cleaner);
        p->mounter = tree_cancel(p->mounter);
        p->deploy = deploy_free(p->deploy);
        p->services = services_free(p->services);
        p->state = state_free(p->state);
        watch_done(&p->watch);
        free(p->stopping);
        free(p->cause);
        closep(&p->state_fd);
        closep(&p->versions_fd);
        closep(&p->incoming_fd);
        closep(&p->bundles_fd);
        closep(&p->slot_fd);
        closep(&p->records_fd);
        closep(&p->proxy_fd);
        free(p);
        return NULL;
}

/* ---- commands ---- */

void pipeline_set_host(Pipeline *p, const char *host) {
        p->spec.host = host;
}

void pipeline_set_config(Pipeline *p, const Config *config, Store *store) {
        bool other = store != p->store || !str_equal(config->environment, p->config->environment);

        if (other) {
                watch_stop(p);
                watch_done(&p->watch);
        }
        p->config = config;
        p->store = store;
        if (other) {
                watch_start(p);
                return;
        }
        watch_forget(p); /* other keys may make of it what the old ones did not */
        watch_soon(p);
}

static int busy(Pipeline *p, Error **reterr) {
        return error_set(
                reterr, -EBUSY, "deploy %s runs (%s); `tendril wait --deploy %s` waits for its end",
                p->deploy->record.id, deploy_stage_name(p->deploy->stage), p->deploy->record.id);
}

int pipeline_deploy_bundle(Pipeline *p, const char *path, const char *label, const char **ret_id,
                           Error **reterr) {
        const char *slash = strrchr(path, '/');
        VersionState target = { 0 };
        BundleRef bundle = { 0 };
        int r;

        if (p->deploy)
                return busy(p, reterr);
        if (path[0] != '/')
                return error_set(reterr, -EINVAL,
                                 "the path of the bundle must be absolute, and '%s' is not", path);
        target.label = strdup(label ? label : slash + 1);
        if (!target.label || !str_is_label(target.label))
                r = error_set(reterr, -EINVAL,
                              "'%s' cannot be a version's label: give one with --version",
                              slash + 1);
        else
                r = deploy_begin(p, DEPLOY_BUNDLE, &target, &bundle, path, reterr);
        json_table_done(&version_state_table, &target);
        if (r >= 0)
                *ret_id = p->deploy->record.id;
        return r;
}

static int begin_copy(Pipeline *p, const VersionState *from, DeployKind kind, const char **ret_id,
                      Error **reterr) {
        VersionState target = { 0 };
        BundleRef bundle = { 0 };
        int r;

        r = version_state_copy(&target, from);
        if (r < 0)
                return error_set(reterr, r, "begin deploy: %s", strerror(-r));
        r = deploy_begin(p, kind, &target, &bundle, NULL, reterr);
        json_table_done(&version_state_table, &target);
        if (r >= 0)
                *ret_id = p->deploy->record.id;
        return r;
}

int pipeline_rollback(Pipeline *p, const char **ret_id, Error **reterr) {
        State *s = p->state;

        if (p->deploy)
                return busy(p, reterr);
        if (!s->previous.label)
                return error_set(reterr, -ENOENT, "there is no version to go back to on this host");
        if (s->current.label && s->current.sha256 &&
            quarantine_add(s, s->desired.revision, s->current.label, s->current.sha256,
                           "a person rolled it back", pipeline_realtime(p)) < 0)
                return error_set(reterr, -ENOMEM, "rollback: out of memory");
        return begin_copy(p, &s->previous, DEPLOY_ROLLBACK_ASKED, ret_id, reterr);
}

int pipeline_retry(Pipeline *p, const char **ret_text, Error **reterr) {
        State *s = p->state;
        const VersionRef *target = &s->desired.target;

        if (p->deploy)
                return busy(p, reterr);
        if (s->desired.revision == 0 || !target->sha256)
                return error_set(
                        reterr, -ENOENT,
                        "nothing is assigned to this environment: `tendril assign` does that");
        if (!quarantine_find(s, s->desired.revision, target->sha256) &&
            p->watch.not_before_usec == 0) {
                *ret_text = "the desired version is not quarantined; nothing to do";
                return 0;
        }
        quarantine_lift(s, s->desired.revision, target->sha256);
        p->watch.not_before_usec = 0;
        backoff_reset(&p->watch.retry);
        *ret_text = "the desired version is tried again";
        watch_soon(p);
        return pipeline_save(p, reterr);
}

int pipeline_resume(Pipeline *p, const char **ret_text, Error **reterr) {
        if (!p->state->hold) {
                *ret_text = "this host is not held; nothing to do";
                return 0;
        }
        p->state->hold = false;
        *ret_text = "the hold is ended: the desired version is deployed";
        watch_soon(p);
        return pipeline_save(p, reterr);
}

int pipeline_restart(Pipeline *p, const char *process, const char **ret_id, Error **reterr) {
        const State *s = p->state;
        ServiceStatus status;
        Plan plan = { 0 };
        bool is_web;
        int r;

        if (p->deploy)
                return busy(p, reterr);
        if (!s->current.label)
                return error_set(reterr, -ENOENT, "no version runs on this host");
        if (!process)
                return begin_copy(p, &s->current, DEPLOY_RESTART, ret_id, reterr);
        r = version_plan(p, &s->current, &plan, reterr);
        if (r < 0)
                return r;
        is_web = str_equal(launch_web(&plan), process);
        json_table_done(&plan_table, &plan);
        if (is_web)
                return begin_copy(p, &s->current, DEPLOY_RESTART, ret_id, reterr);
        if (!services_find(p->services, slot_from_name(s->current.slot), process, &status))
                return error_set(reterr, -ENOENT, "version %s has no process '%s'",
                                 s->current.label, process);
        free(p->stopping);
        p->stopping = strdup(process);
        return services_stop(p->services, slot_from_name(s->current.slot), process);
}

/* ---- a person asks how it is ---- */

static void on_checked(void *userdata, int r, const HelperResult *result, Error *err) {
        Pipeline *p = userdata;
        void (*done)(void *, unsigned, usec_t, const char *) = p->check_done;

        p->check = NULL;
        p->check_done = NULL;
        p->last_status = r < 0 ? 0 : result->status;
        p->last_took_usec = r < 0 ? 0 : result->took_usec;
        done(p->check_userdata, p->last_status, p->last_took_usec, r < 0 ? error_text(err) : NULL);
}

int pipeline_check(Pipeline *p,
                   void (*done)(void *userdata, unsigned status, usec_t took, const char *words),
                   void *userdata, Error **reterr) {
        const DeployHelpers *h = &p->spec.helpers;
        Effective effective = { 0 };
        int r;

        if (p->check)
                return error_set(reterr, -EBUSY, "a check is under way");
        if (!p->state->current.label || p->state->current.port == 0)
                return error_set(reterr, -ENOENT, "no version with a web process runs");
        r = launch_effective(p, &effective, reterr);
        if (r < 0)
                return r;
        p->check_done = done;
        p->check_userdata = userdata;
        r = h->check(h->userdata, (uint16_t) p->state->current.port, effective.gate_path,
                     effective.gate_check_usec, on_checked, p, &p->check);
        effective_done(&effective);
        return r < 0 ? error_set(reterr, r, "start tendril-net: %s", strerror(-r)) : 0;
}

bool pipeline_status_is_good(Pipeline *p, unsigned status) {
        Effective effective = { 0 };
        bool good;

        if (launch_effective(p, &effective, NULL) < 0)
                return false;
        good = config_status_matches(effective.gate_status, status);
        effective_done(&effective);
        return good;
}

/* ---- status ---- */

static const char *waiting_for(Pipeline *p) {
        const State *s = p->state;
        const VersionRef *ref = NULL;

        if (p->deploy)
                return p->deploy->reboot                  ? "for the reboot that a hook asked for"
                       : p->deploy->stage == DEPLOY_LEASE ? "for a free lane"
                                                          : "for the deploy that runs";
        if (!p->config->environment)
                return "to be told its environment (tendril.yaml: environment)";
        if (!p->store)
                return "to be told its store (tendril.yaml: store.url)";
        if (p->watch.refused)
                return "for an assignment that it may act on";
        switch (desired_decide(s, p->watch.has_head ? &p->watch.head : NULL, &ref)) {
        case DESIRED_NOTHING:
                return "for a new assignment";
        case DESIRED_HELD:
                return "for `tendril deploy --resume`: a bundle was deployed by hand";
        case DESIRED_PAUSED:
                return "for the rollout to be resumed";
        case DESIRED_QUARANTINED:
                return "for a new assignment or `tendril deploy --retry`: what is desired failed "
                       "here";
        case DESIRED_NONE:
                return "for a first assignment";
        case DESIRED_DEPLOY:
                break;
        }
        return "for the next try of the desired version";
}

static const char *health_of(Pipeline *p) {
        const State *s = p->state;
        ServiceStatus status;

        free(p->cause);
        p->cause = NULL;
        if (!s->current.label)
                return "nothing deployed";
        for (size_t i = 0; services_get(p->services, i, &status); i++) {
                bool mine =
                        status.slot == slot_from_name(s->current.slot) || status.slot == SLOT_NONE;

                if (!mine || (status.state != SERVICE_WAITING && status.n_restarts == 0))
                        continue;
                if (status.state == SERVICE_WAITING) {
                        p->cause = str_format("%s is not up: it ended by itself %u times (%s)",
                                              status.name, status.n_restarts, status.last_exit);
                        return "failing";
                }
        }
        return "ok";
}

void pipeline_status(Pipeline *p, PipelineStatus *ret) {
        const Deploy *d = p->deploy;
        uint64_t size = d ? p->state->attempt.bundle.size : 0;

        *ret = (PipelineStatus){
                .state = p->state,
                .stage = d ? d->stage : DEPLOY_DESIRED,
                .record = d ? &d->record : NULL,
                .percent = size > 0 ? (unsigned) (MIN(d->n_fetched, size) * 100 / size) : 0,
                .store_ok = p->watch.ok,
                .store_error = p->watch.error,
                .store_since = p->watch.since_usec,
                .refused = p->watch.refused,
                .waiting = waiting_for(p),
                .services = p->services,
                .health = health_of(p),
                .last_status = p->last_status,
                .last_took_usec = p->last_took_usec,
        };
        ret->cause = p->cause;
}

int pipeline_records_fd(Pipeline *p) {
        return p->records_fd;
}

bool pipeline_may_stop(const Pipeline *p) {
        return !p->deploy || p->deploy->stage != DEPLOY_SWITCH;
}
