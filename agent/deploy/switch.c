#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "base/file.h"
#include "base/str.h"
#include "deploy/stage.h"
#include "loop/log.h"
#include "service/listener.h"
#include "settings/overlap.h"

/*
 * switch: the new version is started in the other slot beside the old one, and once it has answered
 * well from its own listener, `current` and then the slot file are turned: that one moment. Where
 * two cannot run, the old one is stopped first, and the turn comes before the start. The state
 * names both before they are turned, and a resume repeats both.
 */

#define TICK_USEC      MSEC(50)
#define PROXY_PIDS_MAX 256

static bool is_none(const Deploy *d) {
        return d->p->state->attempt.overlap == OVERLAP_NONE;
}

/* Turned already, beside a version that went on running: what is left is to repeat the turn. */
static bool is_behind(const Deploy *d) {
        return d->p->state->attempt.turned && !is_none(d);
}

static uint64_t memory_available(void) {
        _cleanup_(buf_done) Buf text = BUF_INIT(64 * 1024);
        const char *at;
        unsigned long long kb = 0;

        if (file_read_at(AT_FDCWD, "/proc/meminfo", &text) < 0)
                return 0;
        at = strstr(buf_str(&text), "MemAvailable:");
        if (at)
                (void) sscanf(at, "MemAvailable: %llu kB", &kb);
        return (uint64_t) kb * 1024;
}

static int place(Deploy *d, Error **reterr) {
        AttemptState *a = &d->p->state->attempt;
        const State *s = d->p->state;
        Slot slot = s->current.label ? slot_other(slot_from_name(s->current.slot)) : SLOT_A;

        free(a->target.slot);
        a->target.slot = strdup(slot_name(slot));
        if (!a->target.slot)
                return error_set(reterr, -ENOMEM, "switch: out of memory");
        if (!a->target.insists)
                a->target.port = slot == SLOT_A ? d->p->config->app.slot_port_a
                                                : d->p->config->app.slot_port_b;
        return 0;
}

static int decide(Deploy *d, Error **reterr) {
        AttemptState *a = &d->p->state->attempt;
        State *s = d->p->state;
        OverlapDecision decision = { 0 };
        OverlapInput input = {
                .wanted = d->effective.overlap,
                .runs = s->current.label != NULL,
                .plan = &d->plan,
                .properties = &a->target.properties,
                .user_port = d->effective.insisted_port,
                .fixed_port = d->p->config->app.port,
                .insisted = a->target.insists || d->fell_back,
                .view = d->p->spec.view,
                .available_bytes = memory_available(),
                .peak_bytes = s->current.label ? services_peak(d->p->services,
                                                               slot_from_name(s->current.slot))
                                               : 0,
        };

        overlap_decide(&input, &decision);
        a->overlap = (uint64_t) decision.mode;
        a->target.insists = decision.port > 0 || d->fell_back;
        if (decision.port > 0)
                a->target.port = decision.port;
        else if (d->fell_back)
                a->target.port = d->p->config->app.port;
        free(d->record.overlap);
        free(d->record.overlap_why);
        d->record.overlap = strdup(overlap_names[decision.mode]);
        d->record.overlap_why = strdup(decision.why);
        deploy_event(d, "overlap '%s': %s", overlap_names[decision.mode], decision.why);
        return place(d, reterr);
}

static int step_decide(Deploy *d, Error **reterr) {
        AttemptState *a = &d->p->state->attempt;
        int r;

        if (!d->has_plan) {
                r = version_plan(d->p, &a->target, &d->plan, reterr);
                if (r < 0)
                        return r;
                d->has_plan = true;
        }
        r = probe_effective(d, reterr);
        if (r < 0)
                return r;
        if (a->turned)
                return STEP_DONE;
        if (!lease_may_act(d->p))
                return error_set(reterr, -ESTALE,
                                 "the lease has run out: nothing is switched without it");
        r = decide(d, reterr);
        if (r < 0)
                return r;
        a->decided = true;
        r = pipeline_save(d->p, reterr);
        return r < 0 ? r : STEP_DONE;
}

static bool old_is_gone(Deploy *d) {
        return launch_count(d->p, slot_from_name(d->p->state->current.slot), LAUNCH_ALL, NULL) == 0;
}

static int step_stop_old(Deploy *d, Error **reterr) {
        const State *s = d->p->state;

        if (!is_none(d) || !s->current.label || s->attempt.turned)
                return STEP_DONE;
        deploy_event(d, "version %s is stopped before its successor starts", s->current.label);
        d->gap_began_usec = pipeline_now(d->p);
        launch_stop(d->p, slot_from_name(s->current.slot), LAUNCH_ALL, NULL);
        return deploy_wait(d, old_is_gone, d->p->config->app.stop_usec + SEC(10),
                           "the old version had not ended", reterr);
}

static int on_port_tick(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        Deploy *d = userdata;

        if (listener_check((uint16_t) d->p->config->app.port, NULL, 0) != LISTENER_OTHER) {
                deploy_step_ended(d, 0, NULL);
                return 0;
        }
        if (pipeline_now(d->p) > d->deadline_usec) {
                Error *err = NULL;

                (void) error_set(
                        &err, -EADDRINUSE,
                        "port %llu, on which the application insists, is taken by another process",
                        (unsigned long long) d->p->config->app.port);
                deploy_step_ended(d, -EADDRINUSE, err);
                return 0;
        }
        (void) pipeline_timer(d->p, &d->timer, TICK_USEC, on_port_tick, d);
        return 0;
}

/* The proxy gives up the application's usual port before a version starts that insists on it. */
static int step_give_up_port(Deploy *d, Error **reterr) {
        State *s = d->p->state;
        const AttemptState *a = &s->attempt;
        bool changed;
        int r;

        if (!a->target.insists || a->target.port != d->p->config->app.port || !s->fixed_port)
                return STEP_DONE;
        s->fixed_port = false;
        r = pipeline_save(d->p, reterr);
        if (r >= 0)
                r = front_use(d->p, s->current.label ? &s->current : &a->target, false, &changed,
                              reterr);
        if (r < 0)
                return r;
        deploy_event(d, "the proxy gives up port %llu, on which this version insists%s",
                     (unsigned long long) d->p->config->app.port, changed ? " (reloaded)" : "");
        d->deadline_usec = pipeline_now(d->p) + SEC(10);
        return pipeline_timer(d->p, &d->timer, 0, on_port_tick, d);
}

static int turned(Deploy *d, Error **reterr) {
        AttemptState *a = &d->p->state->attempt;
        char now[TIME_RFC3339_SIZE];

        if (!a->turned && !lease_may_act(d->p))
                return error_set(reterr, -ESTALE, "the lease ran out before the switch");
        a->turned = true;
        time_format(pipeline_realtime(d->p), now);
        free(a->target.since);
        a->target.since = strdup(now);
        return pipeline_save(d->p, reterr);
}

static int turn_current(Deploy *d, Error **reterr) {
        _cleanup_close_ int fd = version_open(d->p, &d->p->state->attempt.target, "app");
        char *args[] = { d->p->spec.paths->current, NULL };

        if (fd < 0)
                return error_set(reterr, fd, "open the new version's app folder: %s",
                                 strerror(-fd));
        return tree_run(d->p->spec.loop, d->p->spec.tree_fd, "mount", args, fd, SEC(30),
                        deploy_on_tree, d, &d->tree, reterr);
}

static int turn_slot(Deploy *d, Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        int r;

        r = slot_turn(d->p->slot_fd, slot_from_name(a->target.slot));
        if (r < 0)
                return error_set(reterr, r, "turn the slot to %s: %s", a->target.slot,
                                 strerror(-r));
        deploy_tell(d, LOG_NOTICE, LOG_ID_SWITCHED, "switched: version %s is served from slot %s",
                    a->target.label, a->target.slot);
        pipeline_changed(d->p);
        return STEP_DONE;
}

static int step_turned_first(Deploy *d, Error **reterr) {
        int r = is_none(d) ? turned(d, reterr) : 0;

        return r < 0 ? r : STEP_DONE;
}

static int step_current_first(Deploy *d, Error **reterr) {
        return is_none(d) ? turn_current(d, reterr) : STEP_DONE;
}

static int step_slot_first(Deploy *d, Error **reterr) {
        return is_none(d) ? turn_slot(d, reterr) : STEP_DONE;
}

static int step_start(Deploy *d, Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        int r;

        if (is_behind(d))
                return STEP_DONE;
        r = launch_start(d->p, &a->target, &d->plan,
                         a->overlap == OVERLAP_WEB ? LAUNCH_WEB : LAUNCH_ALL, reterr);
        return r < 0 ? r : STEP_DONE;
}

static bool new_is_gone(Deploy *d) {
        return launch_count(d->p, slot_from_name(d->p->state->attempt.target.slot), LAUNCH_ALL,
                            NULL) == 0;
}

static bool begin_again(Deploy *d) {
        if (!new_is_gone(d))
                return false;
        d->again = true;
        return true;
}

/* A first start that found the usual port taken by the proxy, or by the old version: the
 * application insists on it. */
static bool may_fall_back(const Deploy *d) {
        const State *s = d->p->state;
        ServiceStatus web;

        if (d->fell_back || s->attempt.target.insists || (!s->fixed_port && !s->current.insists))
                return false;
        return services_find(d->p->services, slot_from_name(s->attempt.target.slot),
                             launch_web(&d->plan), &web) &&
               web.n_restarts > 0 && str_has_prefix(web.last_exit, "exit ");
}

static int fall_back(Deploy *d, Error **reterr) {
        d->fell_back = true;
        deploy_event(d,
                     "%s ended before it listened on port %llu while port %llu was taken: it is "
                     "started again alone, with that port",
                     launch_web(&d->plan), (unsigned long long) d->p->state->attempt.target.port,
                     (unsigned long long) d->p->config->app.port);
        launch_stop(d->p, slot_from_name(d->p->state->attempt.target.slot), LAUNCH_ALL, NULL);
        return deploy_wait(d, begin_again, d->p->config->app.stop_usec + SEC(10),
                           "the new version had not ended", reterr);
}

static void on_probe(Deploy *d, int r, Error *err);

static int on_ask_tick(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        Deploy *d = userdata;
        Error *err = NULL;
        int r;

        d->timer = sd_event_source_disable_unref(d->timer);
        r = probe_ask(d, &d->p->state->attempt.target, on_probe, &err);
        if (r < 0)
                deploy_step_ended(d, r, err);
        return 0;
}

static void on_probe(Deploy *d, int r, Error *err) {
        Error *own = NULL;

        (void) err;
        if (r == 0) {
                if (d->gap_began_usec > 0) {
                        d->record.gap_ms = (pipeline_now(d->p) - d->gap_began_usec) / 1000;
                        deploy_event(d, "nobody answered for %llu ms",
                                     (unsigned long long) d->record.gap_ms);
                        d->gap_began_usec = 0;
                }
                deploy_step_ended(d, 0, NULL);
                return;
        }
        if (may_fall_back(d))
                r = fall_back(d, &own);
        else if (pipeline_now(d->p) > d->deadline_usec) {
                char span[32];

                time_format_span(d->p->config->app.start_usec, span);
                r = error_set(&own, -ETIMEDOUT, "no good answer within %s: %s", span,
                              d->last_check ? d->last_check : "-");
        } else
                r = pipeline_timer(d->p, &d->timer, TICK_USEC, on_ask_tick, d);
        if (r != 0)
                deploy_step_ended(d, r < 0 ? r : 0, own);
}

/* Clients come only after a good answer. An application without a proxied process has nobody to
 * ask. */
static int step_answer(Deploy *d, Error **reterr) {
        int r;

        if (is_behind(d) || d->plan.processes.n == 0)
                return STEP_DONE;
        d->deadline_usec = pipeline_now(d->p) + d->p->config->app.start_usec;
        r = pipeline_timer(d->p, &d->timer, MSEC(10), on_ask_tick, d);
        return r < 0 ? error_set(reterr, r, "check: %s", strerror(-r)) : 0;
}

static bool old_others_are_gone(Deploy *d) {
        Slot slot = slot_from_name(d->p->state->current.slot);

        return launch_count(d->p, slot, LAUNCH_OTHERS, d->old_web) == 0;
}

static int step_others_stop(Deploy *d, Error **reterr) {
        const State *s = d->p->state;
        Plan running = { 0 };
        int r;

        if (s->attempt.overlap != OVERLAP_WEB || !s->current.label || is_behind(d))
                return STEP_DONE;
        r = version_plan(d->p, &s->current, &running, reterr);
        if (r < 0)
                return r;
        free(d->old_web);
        d->old_web = strdup(launch_web(&running) ? launch_web(&running) : "");
        json_table_done(&plan_table, &running);
        if (!d->old_web)
                return error_set(reterr, -ENOMEM, "switch: out of memory");
        launch_stop(d->p, slot_from_name(s->current.slot), LAUNCH_OTHERS, d->old_web);
        return deploy_wait(d, old_others_are_gone, d->p->config->app.stop_usec + SEC(10),
                           "the old version's other processes had not ended", reterr);
}

static int step_others_start(Deploy *d, Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        int r;

        if (a->overlap != OVERLAP_WEB)
                return STEP_DONE;
        r = launch_start(d->p, &a->target, &d->plan, LAUNCH_OTHERS, reterr);
        return r < 0 ? r : STEP_DONE;
}

/* The usual port is answered by the proxy once a version was seen on its slot port, and while
 * nobody else needs it. */
static int step_proxy(Deploy *d, Error **reterr) {
        State *s = d->p->state;
        const AttemptState *a = &s->attempt;
        bool old_has_it = s->current.label && s->current.insists && !is_none(d);
        bool changed;
        int r;

        if (d->plan.processes.n > 0 && !a->target.insists && !old_has_it)
                s->fixed_port = true;
        r = front_use(d->p, &a->target, s->fixed_port, &changed, reterr);
        if (r < 0)
                return r;
        if (changed)
                deploy_event(d, "the proxy's configuration has changed and is in use");
        return STEP_DONE;
}

/* Its own processes listen where clients ask. */
static bool proxy_listens(Deploy *d) {
        pid_t pids[PROXY_PIDS_MAX];
        size_t n = services_pids(d->p->services, SLOT_NONE, NULL, pids, PROXY_PIDS_MAX);

        return listener_check((uint16_t) d->p->config->proxy.port, pids, MIN(n, PROXY_PIDS_MAX)) ==
               0;
}

static int on_proxy_tick(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        Deploy *d = userdata;
        Error *err = NULL;
        int r = 0;

        if (!proxy_listens(d)) {
                if (pipeline_now(d->p) < d->deadline_usec) {
                        (void) pipeline_timer(d->p, &d->timer, TICK_USEC, on_proxy_tick, d);
                        return 0;
                }
                r = error_set(
                        &err, -ETIMEDOUT,
                        "the proxy does not listen on port %llu; its output is in %s/proxy.log",
                        (unsigned long long) d->p->config->proxy.port, d->p->spec.paths->log);
        }
        deploy_step_ended(d, r, err);
        return 0;
}

/* A version that no client can reach is not served: a proxy that was just started takes its time.
 */
static int step_proxy_listens(Deploy *d, Error **reterr) {
        int r;

        if (d->p->config->proxy.kind == PROXY_NONE || proxy_listens(d))
                return STEP_DONE;
        d->deadline_usec = pipeline_now(d->p) + d->p->config->app.start_usec;
        r = pipeline_timer(d->p, &d->timer, TICK_USEC, on_proxy_tick, d);
        return r < 0 ? error_set(reterr, r, "wait for the proxy: %s", strerror(-r)) : 0;
}

static int step_turned(Deploy *d, Error **reterr) {
        int r = is_none(d) ? 0 : turned(d, reterr);

        return r < 0 ? r : STEP_DONE;
}

static int step_current(Deploy *d, Error **reterr) {
        return is_none(d) ? STEP_DONE : turn_current(d, reterr);
}

static int step_slot(Deploy *d, Error **reterr) {
        return is_none(d) ? STEP_DONE : turn_slot(d, reterr);
}

const Step switch_steps[] = {
        { "decide", step_decide },
        { "stop old", step_stop_old },
        { "give up port", step_give_up_port },
        { "turned first", step_turned_first },
        { "current first", step_current_first },
        { "slot first", step_slot_first },
        { "start", step_start },
        { "answer", step_answer },
        { "others stop", step_others_stop },
        { "others start", step_others_start },
        { "proxy", step_proxy },
        { "proxy listens", step_proxy_listens },
        { "turned", step_turned },
        { "current", step_current },
        { "slot", step_slot },
        { 0 },
};
