#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "deploy/phase.h"
#include "deploy/stage.h"

/*
 * gate: the new version is served; is it kept? First its postdeploy hooks, then N consecutive good
 * checks within a time, all of its processes up and none started again meanwhile. Then it is the
 * current version; until then going back is turning the slot.
 */

static int step_plan(Deploy *d, Error **reterr) {
        int r;

        if (!d->has_plan) {
                r = version_plan(d->p, &d->p->state->attempt.target, &d->plan, reterr);
                if (r < 0)
                        return r;
                d->has_plan = true;
        }
        r = probe_effective(d, reterr);
        return r < 0 ? r : STEP_DONE;
}

static int step_postdeploy(Deploy *d, Error **reterr) {
        return phase_run(d, "postdeploy", d->plan.postdeploy, false, reterr);
}

static unsigned count_restarts(Deploy *d) {
        Slot slot = slot_from_name(d->p->state->attempt.target.slot);
        unsigned n = 0;
        ServiceStatus s;

        for (size_t i = 0; services_get(d->p->services, i, &s); i++)
                if (s.slot == slot)
                        n += s.n_restarts;
        return n;
}

static void on_probe(Deploy *d, int r, Error *err);

static int on_tick(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        Deploy *d = userdata;
        Error *err = NULL;
        int r;

        d->timer = sd_event_source_disable_unref(d->timer);
        r = probe_ask(d, &d->p->state->attempt.target, on_probe, &err);
        if (r < 0)
                deploy_step_ended(d, r, err);
        return 0;
}

static int verdict_bad(Deploy *d, Error **reterr) {
        char span[32];

        time_format_span(d->effective.gate_timeout_usec, span);
        return error_set(reterr, -ETIMEDOUT,
                         "not %llu good checks in a row within %s; the last bad one: %s",
                         (unsigned long long) d->effective.gate_consecutive, span,
                         d->last_check ? d->last_check : "-");
}

/* A start in between is a bad check too, even if every answer was good. */
static bool is_steady(Deploy *d) {
        unsigned n = count_restarts(d);

        if (n == d->n_restarts)
                return true;
        d->n_restarts = n;
        free(d->last_check);
        d->last_check = strdup("a process ended by itself and was started again");
        return false;
}

static void on_probe(Deploy *d, int r, Error *err) {
        Error *own = NULL;
        int k;

        (void) err;
        d->n_good = r == 0 && is_steady(d) ? d->n_good + 1 : 0;
        if (d->n_good >= d->effective.gate_consecutive) {
                deploy_event(d, "%u good checks in a row", d->n_good);
                deploy_step_ended(d, 0, NULL);
                return;
        }
        if (pipeline_now(d->p) >= d->deadline_usec)
                k = verdict_bad(d, &own);
        else
                k = pipeline_timer(d->p, &d->timer, d->effective.gate_interval_usec, on_tick, d);
        if (k < 0)
                deploy_step_ended(d, k, own);
}

static int step_check(Deploy *d, Error **reterr) {
        int r;

        if (d->plan.processes.n == 0)
                return STEP_DONE;
        d->n_good = 0;
        d->n_restarts = count_restarts(d);
        d->deadline_usec = pipeline_now(d->p) + d->effective.gate_timeout_usec;
        r = pipeline_timer(d->p, &d->timer, 0, on_tick, d);
        return r < 0 ? error_set(reterr, r, "check: %s", strerror(-r)) : 0;
}

/* The gate has answered: the state says so in one write. A restart brings up the same version; it
 * does not become its own predecessor. */
static int step_answered(Deploy *d, Error **reterr) {
        State *s = d->p->state;
        VersionState target = { 0 };
        int r;

        if (s->attempt.answered)
                return STEP_DONE;
        r = version_state_copy(&target, &s->attempt.target);
        if (r < 0)
                return error_set(reterr, r, "gate: %s", strerror(-r));
        s->attempt.answered = true;
        if (!str_equal(s->current.folder, target.folder))
                version_state_move(&s->previous, &s->current);
        else
                version_state_move(&s->replaced, &s->current);
        version_state_move(&s->current, &target);
        if (s->attempt.kind == DEPLOY_BUNDLE)
                s->hold = true;
        r = pipeline_save(d->p, reterr);
        return r < 0 ? r : STEP_DONE;
}

const Step gate_steps[] = {
        { "plan", step_plan },
        { "postdeploy", step_postdeploy },
        { "check", step_check },
        { "answered", step_answered },
        { 0 },
};
