#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/str.h"
#include "deploy/stage.h"
#include "loop/log.h"
#include "service/listener.h"
#include "store/key.h"

/*
 * release: what the old version still has under way ends, it is stopped, the outcome is written,
 * and the lane is let go. Nothing here changes what is served; a store that does not answer is not
 * waited for longer than STORE_USEC: the lane runs out by itself.
 */

#define STORE_USEC SEC(20)
#define TICK_USEC  MSEC(200)

/* The version that the new one has taken the place of, while its processes run; NULL: none. */
static const VersionState *old_of(Deploy *d) {
        const State *s = d->p->state;
        const VersionState *in[] = { &s->replaced, &s->previous };

        if (!s->attempt.answered)
                return NULL;
        for (size_t i = 0; i < ELEMENTS(in); i++) {
                Slot slot = slot_from_name(in[i]->slot);

                if (in[i]->label && slot != SLOT_NONE && slot != slot_from_name(s->current.slot) &&
                    launch_count(d->p, slot, LAUNCH_ALL, NULL) > 0)
                        return in[i];
        }
        return NULL;
}

static int on_drain_tick(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        Deploy *d = userdata;
        const VersionState *old = old_of(d);
        int n = old ? listener_connections((uint16_t) old->port) : 0;

        if (n > 0 && pipeline_now(d->p) < d->deadline_usec) {
                (void) pipeline_timer(d->p, &d->timer, TICK_USEC, on_drain_tick, d);
                return 0;
        }
        if (n > 0)
                deploy_event(d,
                             "%d connections to the old version were still open when its time to "
                             "drain was over",
                             n);
        deploy_step_ended(d, 0, NULL);
        return 0;
}

static int step_drain(Deploy *d, Error **reterr) {
        const VersionState *old = old_of(d);
        int r;

        if (!old || old->port == 0)
                return STEP_DONE;
        d->deadline_usec = pipeline_now(d->p) + d->p->config->app.drain_usec;
        r = pipeline_timer(d->p, &d->timer, 0, on_drain_tick, d);
        return r < 0 ? error_set(reterr, r, "drain: %s", strerror(-r)) : 0;
}

static bool old_is_gone(Deploy *d) {
        return old_of(d) == NULL;
}

static int step_stop(Deploy *d, Error **reterr) {
        const VersionState *old = old_of(d);

        if (!old)
                return STEP_DONE;
        deploy_event(d, "version %s is stopped", old->label);
        launch_stop(d->p, slot_from_name(old->slot), LAUNCH_ALL, NULL);
        return deploy_wait(d, old_is_gone, d->p->config->app.stop_usec + SEC(10),
                           "the old version had not ended", reterr);
}

/* The usual port is free now if the old version held it. */
static int step_port(Deploy *d, Error **reterr) {
        State *s = d->p->state;
        bool changed;
        int r;

        if (!s->attempt.answered || s->current.insists || s->fixed_port || s->current.port == 0)
                return STEP_DONE;
        s->fixed_port = true;
        r = front_use(d->p, &s->current, true, &changed, reterr);
        if (r >= 0 && changed)
                deploy_event(d, "the proxy answers port %llu again (reloaded)",
                             (unsigned long long) d->p->config->app.port);
        return r < 0 ? r : STEP_DONE;
}

static int step_unstage(Deploy *d, Error **reterr) {
        char *args[] = { d->p->spec.paths->staging, NULL };

        if (!d->p->state->attempt.failed)
                return STEP_DONE;
        return tree_run(d->p->spec.loop, d->p->spec.tree_fd, "unmount", args, -EBADF, SEC(30),
                        deploy_on_tree, d, &d->tree, reterr);
}

static int on_store_late(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        Deploy *d = userdata;

        deploy_event(d, "the store has not answered in time; the lane runs out by itself");
        lease_drop(d->p);
        deploy_step_ended(d, 0, NULL);
        return 0;
}

/* Whatever the answer: the deploy is over, and the store is told again with the next host document.
 */
static void on_written(void *userdata, int r, const StoreReply *reply _unused_, Error *err) {
        Deploy *d = userdata;

        d->call = NULL;
        if (r < 0)
                log_warning("write the outcome of deploy %s to the store: %s, ignoring",
                            d->record.id, error_text(err));
        deploy_step_ended(d, 0, NULL);
}

static int write_result(Deploy *d, const char *generation, Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        _cleanup_free_ char *nonce = document_nonce(), *key = NULL, *host = strdup(d->p->spec.host);
        const ResultDocument doc = { .format = FORMAT_DOCUMENT,
                                     .revision = a->target.revision,
                                     .nonce = nonce,
                                     .host = host,
                                     .sha256 = a->target.sha256,
                                     .deploy = d->record.id,
                                     .done = a->answered,
                                     .error = a->error };
        StoreBody body = { 0 };
        int r;

        key = key_result(d->p->config->environment, generation, d->p->spec.host);
        if (!nonce || !key || !host)
                return error_set(reterr, -ENOMEM, "release: out of memory");
        r = json_encode(&result_document_table, &doc, &text);
        if (r < 0)
                return error_set(reterr, r, "release: %s", strerror(-r));
        body = (StoreBody){ .body = text.data, .size = text.size, .fd = -EBADF };
        r = pipeline_timer(d->p, &d->timer, STORE_USEC, on_store_late, d);
        if (r >= 0)
                r = store_put(d->p->store, key, &body, STORE_ALWAYS, NULL, on_written, d, &d->call);
        return r < 0 ? error_set(reterr, r, "release: %s", strerror(-r)) : 0;
}

static int step_result(Deploy *d, Error **reterr) {
        const char *generation = d->p->state->lane_generation;
        Error *err = NULL;
        int r;

        (void) reterr;
        if (!d->p->store || !generation || !d->p->config->environment || d->retry)
                return STEP_DONE;
        r = write_result(d, generation, &err);
        if (r < 0)
                log_warning("%s, ignoring", error_text(err));
        (void) error_free(err);
        return r < 0 ? STEP_DONE : 0;
}

static void on_released(void *userdata, int r, Error *err) {
        Deploy *d = userdata;

        if (r < 0)
                log_warning("let the lane go: %s, ignoring: it runs out by itself",
                            error_text(err));
        deploy_step_ended(d, 0, NULL);
}

static int step_lane(Deploy *d, Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        LaneWrite how = d->retry      ? LANE_WRITE_GIVE_BACK
                        : a->answered ? LANE_WRITE_DONE
                                      : LANE_WRITE_FAILED;
        int r;

        if (!d->p->store)
                return STEP_DONE;
        r = pipeline_timer(d->p, &d->timer, STORE_USEC, on_store_late, d);
        if (r < 0)
                return error_set(reterr, r, "release: %s", strerror(-r));
        return lease_release(d, how, on_released, reterr);
}

/* What the state no longer needs to know. */
static int step_forget(Deploy *d, Error **reterr _unused_) {
        json_table_done(&version_state_table, &d->p->state->replaced);
        return STEP_DONE;
}

const Step release_steps[] = {
        { "drain", step_drain },   { "stop", step_stop },
        { "port", step_port },     { "unstage", step_unstage },
        { "result", step_result }, { "lane", step_lane },
        { "forget", step_forget }, { 0 },
};
