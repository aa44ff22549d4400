#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "deploy/stage.h"
#include "loop/log.h"

/*
 * rollback: back to the version that ran before, without network: the slot first (where the old one
 * still runs, that is all that clients see), then `current`, then the processes. Each step looks at
 * what is so, and may be begun again.
 */

static const VersionState *old_of(Deploy *d) {
        const State *s = d->p->state;

        return s->current.label ? &s->current : NULL;
}

static int step_slot(Deploy *d, Error **reterr) {
        const VersionState *old = old_of(d);
        int r;

        if (!d->p->state->attempt.turned || !old)
                return STEP_DONE;
        r = slot_turn(d->p->slot_fd, slot_from_name(old->slot));
        if (r < 0)
                return error_set(reterr, r, "turn the slot back to %s: %s", old->slot,
                                 strerror(-r));
        deploy_tell(d, LOG_WARNING, LOG_ID_ROLLED_BACK,
                    "turned back: version %s is served from slot %s", old->label, old->slot);
        return STEP_DONE;
}

/* `current` is put right even where the rest fails: a failure here is told and goes on. */
static void on_current(void *userdata, int r, Error *err) {
        Deploy *d = userdata;

        d->tree = NULL;
        if (r < 0)
                deploy_event(d, "%s; going on with the way back", error_text(err));
        deploy_step_ended(d, 0, NULL);
}

static int step_current(Deploy *d, Error **reterr) {
        const VersionState *old = old_of(d);
        _cleanup_close_ int fd = old ? version_open(d->p, old, "app") : -EBADF;
        char *args[] = { d->p->spec.paths->current, NULL };

        if (!d->p->state->attempt.turned)
                return STEP_DONE;
        return tree_run(d->p->spec.loop, d->p->spec.tree_fd, fd >= 0 ? "mount" : "unmount", args,
                        fd, SEC(30), on_current, d, &d->tree, reterr);
}

static bool new_is_gone(Deploy *d) {
        return launch_count(d->p, slot_from_name(d->p->state->attempt.target.slot), LAUNCH_ALL,
                            NULL) == 0;
}

static int step_stop_new(Deploy *d, Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;

        if (slot_from_name(a->target.slot) == SLOT_NONE)
                return STEP_DONE;
        launch_stop(d->p, slot_from_name(a->target.slot), LAUNCH_ALL, NULL);
        return deploy_wait(d, new_is_gone, d->p->config->app.stop_usec + SEC(10),
                           "the new version had not ended", reterr);
}

static int step_proxy(Deploy *d, Error **reterr) {
        const VersionState *old = old_of(d);
        Error *err = NULL;
        bool changed;
        int r;

        (void) reterr;
        if (!old)
                return STEP_DONE;
        r = front_use(d->p, old, d->p->state->fixed_port, &changed, &err);
        if (r < 0)
                deploy_event(d, "%s; going on with the way back", error_text(err));
        else if (changed)
                deploy_event(d, "the proxy's configuration is the old version's again");
        (void) error_free(err);
        return STEP_DONE;
}

static int step_start_old(Deploy *d, Error **reterr) {
        const VersionState *old = old_of(d);
        Plan plan = { 0 };
        int r;

        if (!old)
                return STEP_DONE;
        r = version_plan(d->p, old, &plan, reterr);
        if (r >= 0)
                r = launch_start(d->p, old, &plan, LAUNCH_ALL, reterr);
        d->has_effective = d->has_effective && (effective_done(&d->effective), false);
        json_table_done(&plan_table, &plan);
        return r < 0 ? r : STEP_DONE;
}

static void on_probe(Deploy *d, int r, Error *err);

static int on_tick(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        Deploy *d = userdata;
        Error *err = NULL;
        int r;

        d->timer = sd_event_source_disable_unref(d->timer);
        r = probe_ask(d, old_of(d), on_probe, &err);
        if (r < 0)
                deploy_step_ended(d, r, err);
        return 0;
}

static void on_probe(Deploy *d, int r, Error *err) {
        const VersionState *old = old_of(d);
        const char *label = old ? old->label : "-";
        Error *own = NULL;
        int k = 0;

        (void) err;
        if (r == 0) {
                deploy_event(d, "version %s answers well again", label);
                deploy_step_ended(d, 0, NULL);
                return;
        }
        if (pipeline_now(d->p) > d->deadline_usec)
                k = error_set(&own, -ETIMEDOUT,
                              "version %s, to which this host went back, does not answer well: %s",
                              label, d->last_check ? d->last_check : "-");
        else
                k = pipeline_timer(d->p, &d->timer, MSEC(200), on_tick, d);
        if (k < 0)
                deploy_step_ended(d, k, own);
}

/* Going back is done when the old one answers; that it does not is told as such, and changes
 * nothing more. */
static int step_answer(Deploy *d, Error **reterr) {
        const VersionState *old = old_of(d);
        int r;

        if (!old || launch_count(d->p, slot_from_name(old->slot), LAUNCH_ALL, NULL) == 0)
                return STEP_DONE;
        d->deadline_usec = pipeline_now(d->p) + d->p->config->app.start_usec;
        r = pipeline_timer(d->p, &d->timer, 0, on_tick, d);
        return r < 0 ? error_set(reterr, r, "check: %s", strerror(-r)) : 0;
}

const Step rollback_steps[] = {
        { "slot", step_slot },
        { "current", step_current },
        { "proxy", step_proxy },
        { "stop new", step_stop_new },
        { "start old", step_start_old },
        { "answer", step_answer },
        { 0 },
};
