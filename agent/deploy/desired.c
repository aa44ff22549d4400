#include "deploy/desired.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/str.h"
#include "deploy/stage.h"
#include "loop/log.h"
#include "store/key.h"

/*
 * desired: the resting stage. One document is polled, the head, by its ETag; the desired document
 * is read when the head names a new revision, at the start, and every five minutes. It is opened by
 * tendril-bundle (signature first), checked here, and kept in the state, so that what this host is
 * to run is known without the store.
 */

#define DESIRED_EVERY_USEC SEC(300)
#define REPORT_EVERY_USEC  SEC(300)
#define FIRST_POLL_USEC    MSEC(200)
#define REFUSED_POLLS      10 /* so many polls later a refused document is opened again */

static void poll_head(Pipeline *p);
static void read_desired(Pipeline *p);
static void act(Pipeline *p);

/* ---- the decisions ---- */

static bool runs_ref(const VersionState *v, const VersionRef *ref, uint64_t revision) {
        return v->label && str_equal(v->sha256, ref->sha256) && v->revision == revision;
}

DesiredDecision desired_decide(const State *state, const HeadDocument *head,
                               const VersionRef **ret_ref) {
        const DesiredDocument *d = &state->desired;
        bool ours = head && head->revision == d->revision;
        const VersionRef *ref = ours && head->follow == HEAD_BASE ? &d->base : &d->target;

        if (d->revision == 0 || !ref->label)
                return DESIRED_NONE;
        if (runs_ref(&state->current, ref, d->revision))
                return DESIRED_NOTHING;
        if (state->hold)
                return DESIRED_HELD;
        if (quarantine_find(state, d->revision, ref->sha256))
                return DESIRED_QUARANTINED;
        if (ours && (head->status == HEAD_PAUSED ||
                     (head->status == HEAD_ABORTED && head->follow == HEAD_TARGET)))
                return DESIRED_PAUSED;
        *ret_ref = ref;
        return DESIRED_DEPLOY;
}

int desired_accept(const State *state, const DesiredDocument *doc, const char *store_id,
                   const char *environment, uint64_t min_revision, Error **reterr) {
        unsigned long long revision = doc->revision;

        if (!str_equal(doc->environment, environment))
                return error_set(
                        reterr, -EKEYREJECTED,
                        "the assignment is for environment %s and not for %s: it was moved here",
                        doc->environment, environment);
        if (store_id && !str_equal(doc->store, store_id))
                return error_set(
                        reterr, -EKEYREJECTED,
                        "the assignment is for store %s and not for %s: it was copied here",
                        doc->store, store_id);
        if (doc->revision < state->revision)
                return error_set(reterr, -ESTALE,
                                 "the assignment has revision %llu, and this host has seen %llu: "
                                 "it is an old one that was put back",
                                 revision, (unsigned long long) state->revision);
        if (doc->revision < min_revision)
                return error_set(reterr, -ESTALE,
                                 "the assignment has revision %llu, and min_revision here is %llu",
                                 revision, (unsigned long long) min_revision);
        if (!doc->target.label || !doc->target.sha256)
                return error_set(reterr, -EBADMSG, "the assignment names no target");
        return 0;
}

/* ---- the store's state, for people ---- */

static void store_said(Pipeline *p, bool ok, const char *words) {
        Watch *w = &p->watch;
        LogFields fields = { .message_id = LOG_ID_STORE_SILENT };

        if (ok && w->ok)
                return;
        if (ok) {
                if (w->error)
                        log_notice("the store answers again");
                w->since_usec = pipeline_realtime(p);
        } else if (w->ok || !w->error || !str_equal(w->error, words)) {
                log_fields(LOG_WARNING, &fields, "the store: %s; what runs goes on running", words);
                if (w->ok || !w->error)
                        w->since_usec = pipeline_realtime(p);
        }
        w->ok = ok;
        free(w->error);
        w->error = ok ? NULL : str_format("%s", words);
        pipeline_changed(p);
}

static void refuse(Pipeline *p, const char *words) {
        Watch *w = &p->watch;
        LogFields fields = { .message_id = LOG_ID_REFUSED };

        w->refused_usec = pipeline_now(p);
        if (words && !str_equal(w->refused, words))
                log_fields(LOG_ERR, &fields, "refused: %s; what runs goes on running", words);
        free(w->refused);
        w->refused = words ? str_format("%s", words) : NULL;
        pipeline_changed(p);
}

/* ---- when to look next ---- */

static int on_poll(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        poll_head(userdata);
        return 0;
}

/* Every N/10 s, at least as configured and at most a minute, a fifth up or down; after failures
 * longer and longer. */
static void poll_later(Pipeline *p) {
        Watch *w = &p->watch;
        usec_t base = MAX(p->config->poll_usec,
                          w->has_head ? MIN(w->head.hosts * MSEC(100), SEC(60)) : 0);
        usec_t in = base - base / 5 + backoff_chance() % (base * 2 / 5 + 1);

        services_rotate(p->services);
        if (!w->ok && w->error)
                in = MAX(in, backoff_next(&w->backoff, backoff_chance()));
        else
                backoff_reset(&w->backoff);
        (void) pipeline_timer(p, &w->timer, in, on_poll, p);
}

static void broken(Pipeline *p, const char *what, int r, const Error *err) {
        _cleanup_free_ char *words =
                str_format("%s: %s", what, err ? error_text(err) : strerror(-r));

        store_said(p, false, words ? words : what);
        poll_later(p);
}

void watch_forget(Pipeline *p) {
        free(p->watch.desired_etag);
        p->watch.desired_etag = NULL;
        p->watch.desired_usec = 0;
}

/* ---- this host's document ---- */

static void on_reported(void *userdata, int r, const StoreReply *reply _unused_, Error *err) {
        Pipeline *p = userdata;

        p->watch.call = NULL;
        if (r < 0)
                log_debug("write the host document: %s", error_text(err));
        act(p);
}

static char *report_text(Pipeline *p) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        const State *s = p->state;
        char changed[TIME_RFC3339_SIZE];
        PipelineStatus status;
        HostDocument doc = { .format = FORMAT_DOCUMENT,
                             .version = s->current.label,
                             .sha256 = s->current.sha256,
                             .revision = s->current.revision };
        const char *const texts[] = { p->spec.host, TENDRIL_VERSION,
                                      deploy_stage_name(p->deploy ? p->deploy->stage
                                                                  : DEPLOY_DESIRED) };

        pipeline_status(p, &status);
        time_format(pipeline_realtime(p), changed);
        doc.host = strdup(texts[0]);
        doc.agent = strdup(texts[1]);
        doc.stage = strdup(texts[2]);
        doc.health = strdup(status.health);
        doc.cause = status.cause ? strdup(status.cause) : NULL;
        if (doc.host && doc.agent && doc.stage && doc.health &&
            json_encode(&host_document_table, &doc, &text) < 0)
                buf_clear(&text);
        free(doc.host);
        free(doc.agent);
        free(doc.stage);
        free(doc.health);
        free(doc.cause);
        return text.size > 0 ? buf_steal(&text) : NULL;
}

/* Written when it differs, and every five minutes. True: under way. */
static bool report(Pipeline *p) {
        Watch *w = &p->watch;
        _cleanup_free_ char *text = report_text(p), *key = NULL;
        usec_t now = pipeline_now(p);
        StoreBody body = { .fd = -EBADF };

        if (!text || (str_equal(text, w->reported) && now - w->report_usec < REPORT_EVERY_USEC))
                return false;
        key = key_host(p->config->environment, p->spec.host);
        if (!key)
                return false;
        body.body = text;
        body.size = strlen(text);
        if (store_put(p->store, key, &body, STORE_ALWAYS, NULL, on_reported, p, &w->call) < 0)
                return false;
        free(w->reported);
        w->reported = TAKE_PTR(text);
        w->report_usec = now;
        return true;
}

/* ---- acting ---- */

static int begin_assigned(Pipeline *p, const VersionRef *ref, const VersionDocument *version,
                          Error **reterr) {
        const State *s = p->state;
        VersionState target = { .revision = s->desired.revision };
        BundleRef bundle = { .size = version->bundle.size };
        bool same = str_equal(s->current.sha256, ref->sha256);
        int r;

        target.application = strdup(version->application);
        target.label = strdup(ref->label);
        target.sha256 = strdup(ref->sha256);
        bundle.key = strdup(version->bundle.key);
        bundle.sha256 = strdup(ref->sha256);
        if (!target.application || !target.label || !target.sha256 || !bundle.key || !bundle.sha256)
                r = error_set(reterr, -ENOMEM, "begin deploy: out of memory");
        else
                r = deploy_begin(p, same ? DEPLOY_SETTINGS : DEPLOY_ASSIGNED, &target, &bundle,
                                 NULL, reterr);
        json_table_done(&version_state_table, &target);
        free(bundle.key);
        free(bundle.sha256);
        return r;
}

/* The version document is signed by itself, and must name what the assignment names. */
static int check_version(Pipeline *p, const VersionRef *ref, const VersionDocument *v,
                         Error **reterr) {
        if (!str_equal(v->label, ref->label) ||
            !str_equal(v->application, p->state->desired.application))
                return error_set(reterr, -EKEYREJECTED,
                                 "the document of version %s is that of %s of %s: it was moved",
                                 ref->label, v->label, v->application);
        if (!str_equal(v->bundle.sha256, ref->sha256))
                return error_set(reterr, -EKEYREJECTED,
                                 "version %s has digest %.12s…, and %.12s… was assigned: it was "
                                 "replaced after the assignment",
                                 ref->label, v->bundle.sha256, ref->sha256);
        if (!key_is_valid(v->bundle.key) || v->bundle.size > LIMIT_BUNDLE_BYTES)
                return error_set(reterr, -EBADMSG,
                                 "the document of version %s names a bundle that cannot be",
                                 ref->label);
        return 0;
}

static void on_version_opened(void *userdata, int r, const HelperResult *result, Error *err) {
        Pipeline *p = userdata;
        const VersionRef *ref = NULL;
        VersionDocument version = { 0 };
        _cleanup_(error_freep) Error *own = NULL;

        p->watch.task = NULL;
        if (r < 0)
                (void) error_set(&own, r, "version document: %s", error_text(err));
        else if (p->deploy || desired_decide(p->state, p->watch.has_head ? &p->watch.head : NULL,
                                             &ref) != DESIRED_DEPLOY)
                r = 0;
        else {
                r = document_decode("version.json", result->text, result->text_size,
                                    &version_document_table, &version, &own);
                if (r >= 0)
                        r = check_version(p, ref, &version, &own);
                if (r >= 0)
                        r = begin_assigned(p, ref, &version, &own);
        }
        json_table_done(&version_document_table, &version);
        if (r < 0)
                refuse(p, error_text(own));
        poll_later(p);
}

static void on_version(void *userdata, int r, const StoreReply *reply, Error *err) {
        Pipeline *p = userdata;
        const DeployHelpers *h = &p->spec.helpers;

        p->watch.call = NULL;
        if (r < 0) {
                broken(p, "read the version document", r, err);
                return;
        }
        if (r == STORE_ABSENT) {
                refuse(p, "the assigned version is not published: publish it again, or assign "
                          "another one");
                poll_later(p);
                return;
        }
        r = h->open(h->userdata, reply->body, reply->body_size, DOCUMENT_TYPE_VERSION, "publish",
                    reply->date_usec, on_version_opened, p, &p->watch.task);
        if (r < 0)
                broken(p, "open the version document", r, NULL);
}

static void read_version(Pipeline *p, const VersionRef *ref) {
        _cleanup_free_ char *key = key_version(p->state->desired.application, ref->label);
        int r;

        r = key ? store_get(p->store, key, NULL, on_version, p, &p->watch.call) : -ENOMEM;
        if (r < 0)
                broken(p, "read the version document", r, NULL);
}

/* The end of a look: is there something to do? */
static void act(Pipeline *p) {
        Watch *w = &p->watch;
        const VersionRef *ref = NULL;

        if (report(p))
                return;
        if (!p->deploy && pipeline_now(p) >= w->not_before_usec && !w->refused &&
            desired_decide(p->state, w->has_head ? &w->head : NULL, &ref) == DESIRED_DEPLOY) {
                read_version(p, ref);
                return;
        }
        poll_later(p);
}

/* ---- the desired document ---- */

static int take_desired(Pipeline *p, const char *text, size_t size, Error **reterr) {
        State *s = p->state;
        DesiredDocument doc = { 0 };
        bool news;
        int r;

        r = document_decode("desired.json", text, size, &desired_document_table, &doc, reterr);
        if (r >= 0)
                r = desired_accept(s, &doc, p->config->store.id, p->config->environment,
                                   p->config->min_revision, reterr);
        if (r < 0) {
                json_table_done(&desired_document_table, &doc);
                return r;
        }
        news = doc.revision != s->desired.revision;
        json_table_done(&desired_document_table, &s->desired);
        s->desired = doc;
        s->revision = doc.revision;
        if (news) {
                p->watch.not_before_usec = 0;
                backoff_reset(&p->watch.retry);
                log_notice("revision %llu is assigned: version %s",
                           (unsigned long long) doc.revision, doc.target.label);
        }
        return pipeline_save(p, reterr);
}

static void on_desired_opened(void *userdata, int r, const HelperResult *result, Error *err) {
        Pipeline *p = userdata;
        _cleanup_(error_freep) Error *own = NULL;

        p->watch.task = NULL;
        if (r < 0)
                (void) error_set(&own, r, "desired.json: %s", error_text(err));
        else
                r = take_desired(p, result->text, result->text_size, &own);
        refuse(p, r < 0 ? error_text(own) : NULL);
        if (r >= 0 && p->deploy && p->deploy->stage == DEPLOY_LEASE &&
            p->deploy->record.revision < p->state->desired.revision &&
            p->state->attempt.kind == DEPLOY_ASSIGNED) {
                Error *why = NULL;

                p->deploy->retry = true;
                (void) error_set(&why, -ESTALE, "revision %llu was assigned meanwhile",
                                 (unsigned long long) p->state->desired.revision);
                deploy_stage_ended(p->deploy, -ESTALE, why);
        }
        act(p);
}

static void on_desired(void *userdata, int r, const StoreReply *reply, Error *err) {
        Pipeline *p = userdata;
        Watch *w = &p->watch;
        const DeployHelpers *h = &p->spec.helpers;

        w->call = NULL;
        if (r < 0) {
                broken(p, "read desired.json", r, err);
                return;
        }
        if (r == STORE_ABSENT && p->state->desired.revision > 0) {
                broken(p, "the assignment", -ENOENT, NULL);
                return;
        }
        store_said(p, true, NULL);
        w->desired_usec = pipeline_now(p);
        if (r == STORE_ABSENT || r == STORE_UNCHANGED) {
                act(p);
                return;
        }
        free(w->desired_etag);
        w->desired_etag = strdup(reply->etag);
        r = h->open(h->userdata, reply->body, reply->body_size, DOCUMENT_TYPE_DESIRED, "assign",
                    reply->date_usec, on_desired_opened, p, &w->task);
        if (r < 0) {
                watch_forget(p); /* read, and not opened */
                broken(p, "open desired.json", r, NULL);
        }
}

static void read_desired(Pipeline *p) {
        _cleanup_free_ char *key = key_desired(p->config->environment);
        int r;

        r = key ? store_get(p->store, key, p->watch.desired_etag, on_desired, p, &p->watch.call)
                : -ENOMEM;
        if (r < 0)
                broken(p, "read desired.json", r, NULL);
}

/* ---- the head ---- */

static int take_head(Pipeline *p, const StoreReply *reply, Error **reterr) {
        Watch *w = &p->watch;
        HeadDocument head = { 0 };
        int r;

        r = document_decode("rollout.json", reply->body, reply->body_size, &head_document_table,
                            &head, reterr);
        if (r < 0)
                return r;
        json_table_done(&head_document_table, &w->head);
        w->head = head;
        w->has_head = true;
        free(w->head_etag);
        w->head_etag = strdup(reply->etag);
        return 0;
}

static void on_head(void *userdata, int r, const StoreReply *reply, Error *err) {
        Pipeline *p = userdata;
        Watch *w = &p->watch;
        _cleanup_(error_freep) Error *own = NULL;
        usec_t now = pipeline_now(p);

        w->call = NULL;
        if (r < 0) {
                broken(p, "read the head", r, err);
                return;
        }
        if (r == STORE_ABSENT && p->state->desired.revision > 0 && w->has_head) {
                (void) error_set(&own, -ENOENT,
                                 "it is not there any more; `tendril assign` writes it again");
                broken(p, "the environment's head (rollout.json)", -ENOENT, own);
                return;
        }
        if (r == 0) {
                r = take_head(p, reply, &own);
                if (r < 0) {
                        broken(p, "read the head", r, own);
                        return;
                }
        }
        if (r != STORE_ABSENT)
                store_said(p, true, NULL);
        /* What was refused may have passed: a helper that died, a version that was not published.
         */
        if (w->refused && now - w->refused_usec >= REFUSED_POLLS * p->config->poll_usec) {
                watch_forget(p);
        }
        if ((w->has_head && w->head.revision != p->state->desired.revision) ||
            w->desired_usec == 0 || now - w->desired_usec > DESIRED_EVERY_USEC || w->refused)
                read_desired(p);
        else
                act(p);
}

static void on_tested(void *userdata, int r, const StoreReply *reply _unused_, Error *err) {
        Pipeline *p = userdata;

        p->watch.call = NULL;
        if (r < 0) {
                broken(p, "the store's self-test", r, err);
                return;
        }
        p->watch.tested = true;
        poll_head(p);
}

static void poll_head(Pipeline *p) {
        Watch *w = &p->watch;
        _cleanup_free_ char *key = NULL;
        int r;

        if (!p->store || !p->config->environment || w->call || w->task)
                return;
        if (!w->tested) {
                r = store_self_test(p->store, on_tested, p, &w->call);
                if (r < 0)
                        broken(p, "the store's self-test", r, NULL);
                return;
        }
        key = key_head(p->config->environment);
        r = key ? store_get(p->store, key, w->head_etag, on_head, p, &w->call) : -ENOMEM;
        if (r < 0)
                broken(p, "read the head", r, NULL);
}

/* ---- life ---- */

void watch_start(Pipeline *p) {
        p->watch.backoff = (Backoff){ .base_usec = SEC(1), .max_usec = SEC(60) };
        p->watch.retry = (Backoff){ .base_usec = SEC(5), .max_usec = SEC(600) };
        p->watch.since_usec = pipeline_realtime(p);
        if (p->store && p->config->environment)
                (void) pipeline_timer(p, &p->watch.timer, backoff_chance() % FIRST_POLL_USEC,
                                      on_poll, p);
}

void watch_soon(Pipeline *p) {
        if (p->store && p->config->environment && !p->watch.call && !p->watch.task)
                (void) pipeline_timer(p, &p->watch.timer, 0, on_poll, p);
}

/* A failure that may pass is tried again, later and later, and not for ever. */
void watch_failed(Pipeline *p, bool retry, usec_t least) {
        Watch *w = &p->watch;

        if (!retry) {
                backoff_reset(&w->retry);
                w->not_before_usec = 0;
                return;
        }
        w->not_before_usec =
                pipeline_now(p) + MAX(backoff_next(&w->retry, backoff_chance()), least);
}

void pipeline_store_failed(Pipeline *p, const char *words) {
        store_said(p, false, words);
}

void watch_stop(Pipeline *p) {
        Watch *w = &p->watch;

        w->call = store_cancel(w->call);
        w->task = p->spec.helpers.cancel(w->task);
        w->timer = sd_event_source_disable_unref(w->timer);
}

void watch_done(Watch *w) {
        json_table_done(&head_document_table, &w->head);
        free(w->head_etag);
        free(w->desired_etag);
        free(w->reported);
        free(w->error);
        free(w->refused);
        memset(w, 0, sizeof(*w));
}
