#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "deploy/stage.h"
#include "loop/log.h"
#include "store/document.h"
#include "store/key.h"

/*
 * lease: a lane of the environment is taken before anything on the host changes, renewed while the
 * deploy runs, and let go at its end. What is written is decided in fleet/lane.c; here it is read,
 * written by compare-and-swap, and put on disk before it is written, so that a restarted agent
 * knows its own lane again.
 */

/* A person's command at the host (rollback, restart, a local bundle) goes on without a lane when
 * the store is silent for so long. */
#define ASKED_USEC       SEC(10)
#define RENEW_AGAIN_USEC SEC(5)

static void begin_read(Deploy *d);

static void clear_call(Lease *l) {
        l->call = store_cancel(l->call);
        l->timer = sd_event_source_disable_unref(l->timer);
        json_table_done(&lane_document_table, &l->pending);
}

void lease_drop(Pipeline *p) {
        Lease *l = &p->lease;

        clear_call(l);
        json_table_done(&lane_document_table, &l->document);
        free(l->key);
        free(l->etag);
        memset(l, 0, sizeof(*l));
}

bool lease_may_act(Pipeline *p) {
        const AttemptState *a = &p->state->attempt;

        if (!p->store || !p->lease.key)
                return true; /* there is no fleet to take turns with, or a person said so */
        if (a->kind != DEPLOY_ASSIGNED && a->kind != DEPLOY_SETTINGS && !p->lease.held)
                return true;
        return p->lease.held && lane_may_act(p->lease.write_usec, pipeline_now(p));
}

/* The lane's document goes out; done() tells. The nonce of a holding is on disk before it is in the
 * store. */
static int write_lane(Pipeline *p, LaneWrite how, LaneDecision decision, StoreDone done,
                      void *userdata, Error **reterr) {
        Lease *l = &p->lease;
        _cleanup_free_ char *fresh = document_nonce();
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        const LaneChange change = { .write = how,
                                    .decision = decision,
                                    .self = p->spec.host,
                                    .fresh = fresh,
                                    .step = p->state->attempt.stage,
                                    /* a bundle deployed by hand has none of its own */
                                    .revision = p->state->attempt.target.revision
                                                        ?: p->watch.head.revision };
        bool absent = how == LANE_WRITE_TAKE && decision == LANE_TAKE_ABSENT;
        int r;

        json_table_done(&lane_document_table, &l->pending);
        r = fresh ? lane_next(l->has_document ? &l->document : NULL, &change, &l->pending)
                  : -ENOMEM;
        if (r >= 0)
                r = json_encode(&lane_document_table, &l->pending, &text);
        if (r < 0)
                return error_set(reterr, r, "lane %u: %s", l->lane, strerror(-r));
        if (how == LANE_WRITE_TAKE) {
                free(p->state->lane_nonce);
                p->state->lane_nonce = strdup(l->pending.nonce);
                p->state->lane = l->lane;
                r = p->state->lane_nonce ? pipeline_save(p, reterr) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        l->how = how;
        l->pending_usec = pipeline_now(p);
        r = store_put_document(p->store, l->key, text.data, text.size, l->pending.nonce,
                               absent ? STORE_IF_ABSENT : STORE_IF_MATCHES, absent ? NULL : l->etag,
                               done, userdata, &l->call);
        return r < 0 ? error_set(reterr, r, "write lane %u: %s", l->lane, strerror(-r)) : 0;
}

/* A good write: what was pending stands there. */
static int wrote(Lease *l, const StoreReply *reply) {
        json_table_done(&lane_document_table, &l->document);
        l->document = l->pending;
        memset(&l->pending, 0, sizeof(l->pending));
        l->has_document = true;
        free(l->etag);
        l->etag = strdup(reply->etag);
        l->write_usec = l->pending_usec;
        return l->etag ? 0 : -ENOMEM;
}

/* ---- renewal ---- */

static void arm_renewal(Pipeline *p, usec_t in);

static void on_renewed(void *userdata, int r, const StoreReply *reply, Error *err) {
        Pipeline *p = userdata;
        Lease *l = &p->lease;

        l->call = NULL;
        if (r == 0 && wrote(l, reply) == 0) {
                arm_renewal(p, LANE_RENEW_USEC);
                return;
        }
        if (r == STORE_REFUSED) {
                l->held = false;
                log_warning("lane %u was taken over by another host: nothing irreversible is begun "
                            "any more",
                            l->lane);
                return;
        }
        log_warning("renew lane %u: %s; trying again", l->lane,
                    r < 0 ? error_text(err) : strerror(ENOMEM));
        arm_renewal(p, RENEW_AGAIN_USEC);
}

static int on_renew(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        Pipeline *p = userdata;
        _cleanup_(error_freep) Error *err = NULL;

        if (p->lease.call || write_lane(p, LANE_WRITE_RENEW, LANE_MINE, on_renewed, p, &err) < 0)
                arm_renewal(p, RENEW_AGAIN_USEC);
        return 0;
}

static void arm_renewal(Pipeline *p, usec_t in) {
        (void) pipeline_timer(p, &p->lease.timer, in, on_renew, p);
}

/* ---- taking ---- */

static void go_without(Deploy *d, const char *why) {
        deploy_event(d, "no lane: %s; going on, because a person asked for it", why);
        lease_drop(d->p);
        deploy_step_ended(d, 0, NULL);
}

static int on_again(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        Deploy *d = userdata;
        Lease *l = &d->p->lease;

        if (l->deadline_usec > 0 && pipeline_now(d->p) > l->deadline_usec) {
                go_without(d, "none was free in time");
                return 0;
        }
        begin_read(d);
        return 0;
}

static void try_later(Deploy *d) {
        usec_t poll = d->p->config->poll_usec;

        (void) pipeline_timer(d->p, &d->p->lease.timer,
                              poll / 2 + backoff_chance() % (poll / 2 + 1), on_again, d);
}

static void on_taken(void *userdata, int r, const StoreReply *reply, Error *err) {
        Deploy *d = userdata;
        Lease *l = &d->p->lease;

        l->call = NULL;
        if (r == 0 && wrote(l, reply) == 0) {
                l->held = true;
                arm_renewal(d->p, LANE_RENEW_USEC);
                deploy_step_ended(d, 0, NULL);
                return;
        }
        if (r < 0)
                log_warning("take lane %u: %s; trying again", l->lane, error_text(err));
        try_later(d);
}

static int note_lane(Pipeline *p, int r, const StoreReply *reply, Error **reterr) {
        Lease *l = &p->lease;
        bool same = l->etag && r == 0 && str_equal(l->etag, reply->etag);

        json_table_done(&lane_document_table, &l->document);
        l->has_document = false;
        if (r == STORE_ABSENT) {
                lane_seen_failed(&l->seen);
                return 0;
        }
        lane_seen_read(&l->seen, same, pipeline_now(p));
        free(l->etag);
        l->etag = strdup(reply->etag);
        l->age_usec = reply->age_usec;
        r = l->etag ? document_decode(l->key, reply->body, reply->body_size, &lane_document_table,
                                      &l->document, reterr)
                    : -ENOMEM;
        l->has_document = r >= 0;
        return r;
}

static void on_read(void *userdata, int r, const StoreReply *reply, Error *err) {
        Deploy *d = userdata;
        Lease *l = &d->p->lease;
        _cleanup_(error_freep) Error *own = NULL;
        LaneDecision decision;

        l->call = NULL;
        if (r < 0) {
                lane_seen_failed(&l->seen);
                if (l->deadline_usec > 0)
                        go_without(d, error_text(err));
                else
                        try_later(d);
                return;
        }
        r = note_lane(d->p, r, reply, &own);
        if (r < 0) {
                log_warning("%s; nothing is taken while it is so", error_text(own));
                try_later(d);
                return;
        }
        decision = lane_decide(l->has_document ? &l->document : NULL, &l->seen, l->age_usec,
                               d->p->spec.host, d->p->state->lane_nonce);
        if (decision == LANE_WAIT) {
                pipeline_changed(d->p);
                try_later(d);
                return;
        }
        r = write_lane(d->p, decision == LANE_MINE ? LANE_WRITE_RENEW : LANE_WRITE_TAKE, decision,
                       on_taken, d, &own);
        if (r < 0) {
                log_warning("%s; trying again", error_text(own));
                try_later(d);
        }
}

/* A waiting host tries a random lane each time; with one lane that is that one, and its reads count
 * together. */
static void begin_read(Deploy *d) {
        Pipeline *p = d->p;
        Lease *l = &p->lease;
        unsigned lane = p->watch.has_head && p->watch.head.lanes > 1
                                ? backoff_chance() % (unsigned) p->watch.head.lanes
                                : 0;
        int r;

        if (lane != l->lane || !l->key) {
                free(l->key);
                l->key = key_lane(p->config->environment, p->state->lane_generation, lane);
                l->lane = lane;
                lane_seen_failed(&l->seen);
        }
        r = l->key ? store_get(p->store, l->key, NULL, on_read, d, &l->call) : -ENOMEM;
        if (r < 0)
                try_later(d);
}

static int step_lane(Deploy *d, Error **reterr) {
        Pipeline *p = d->p;
        const AttemptState *a = &p->state->attempt;
        const char *generation =
                p->watch.has_head ? p->watch.head.generation : p->state->lane_generation;
        bool asked = a->kind != DEPLOY_ASSIGNED && a->kind != DEPLOY_SETTINGS;
        char *copy;

        lease_drop(p);
        if (!p->store || !generation || !p->config->environment)
                return STEP_DONE;
        copy = strdup(generation);
        if (!copy)
                return error_set(reterr, -ENOMEM, "lease: out of memory");
        free(p->state->lane_generation);
        p->state->lane_generation = copy;
        if (asked)
                p->lease.deadline_usec = pipeline_now(p) + ASKED_USEC;
        begin_read(d);
        return 0;
}

const Step lease_steps[] = {
        { "lane", step_lane },
        { 0 },
};

/* ---- letting go ---- */

static void ended(Pipeline *p, int r, Error *err) {
        Lease *l = &p->lease;
        void (*released)(void *, int, Error *) = l->released;
        void *userdata = l->userdata;

        lease_drop(p);
        free(p->state->lane_nonce);
        free(p->state->lane_generation);
        p->state->lane_nonce = p->state->lane_generation = NULL;
        released(userdata, r, err);
}

static void on_let_go(void *userdata, int r, const StoreReply *reply _unused_, Error *err) {
        Pipeline *p = userdata;

        p->lease.call = NULL;
        ended(p, r < 0 ? r : 0, err);
}

/* After a restart the lane is ours only if what stands there says so. */
static void on_read_again(void *userdata, int r, const StoreReply *reply, Error *err) {
        Pipeline *p = userdata;
        Lease *l = &p->lease;
        _cleanup_(error_freep) Error *own = NULL;
        int k = r;

        l->call = NULL;
        if (k >= 0)
                k = note_lane(p, r, reply, &own);
        if (k >= 0 && l->has_document &&
            lane_decide(&l->document, &l->seen, l->age_usec, p->spec.host, p->state->lane_nonce) ==
                    LANE_MINE) {
                k = write_lane(p, l->how, LANE_MINE, on_let_go, p, &own);
                if (k >= 0)
                        return;
        }
        ended(p, k < 0 ? k : 0, own ? own : err);
}

int lease_release(Deploy *d, LaneWrite how, void (*done)(void *userdata, int r, Error *err),
                  Error **reterr) {
        Pipeline *p = d->p;
        Lease *l = &p->lease;
        int r;

        if (!p->store || !p->state->lane_generation || !p->state->lane_nonce ||
            !p->config->environment)
                return STEP_DONE;
        clear_call(l);
        l->released = done;
        l->userdata = d;
        if (l->held)
                return write_lane(p, how, LANE_MINE, on_let_go, p, reterr);
        if (!l->key)
                l->key = key_lane(p->config->environment, p->state->lane_generation,
                                  (unsigned) p->state->lane);
        l->how = how;
        r = l->key ? store_get(p->store, l->key, NULL, on_read_again, p, &l->call) : -ENOMEM;
        return r < 0 ? error_set(reterr, r, "lease: %s", strerror(-r)) : 0;
}
