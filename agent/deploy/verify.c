#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/str.h"
#include "deploy/stage.h"

/*
 * verify: a process that wrote none of it (tendril-bundle) computes the digest of the file that
 * nobody can write any more, and compares it with the one that the signed documents name. Then the
 * file moves to bundles/, under its digest.
 */

#define SEAL_USEC      SEC(10)
#define SEAL_KILL_USEC SEC(5) /* before the end of SEAL_USEC */
#define SEAL_TICK_USEC MSEC(5)

/* Nobody else may hold it open for writing: a read lease is granted only then (fcntl(2),
 * F_SETLEASE). On file systems without leases the root-only folder above it has to do. */
static bool is_sealed(Deploy *d) {
        if (fcntl(d->bundle_fd, F_SETLEASE, F_RDLCK) < 0)
                return errno != EAGAIN;
        (void) fcntl(d->bundle_fd, F_SETLEASE, F_UNLCK);
        return true;
}

/* Whoever fetched it closes it a moment later; who keeps it open for longer means no good. */
static int on_seal_tick(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        Deploy *d = userdata;
        Error *err = NULL;
        int r = 0;

        if (!is_sealed(d)) {
                usec_t now = pipeline_now(d->p);

                if (now < d->deadline_usec) {
                        if (!d->disowned && now + SEAL_KILL_USEC > d->deadline_usec) {
                                d->disowned = true;
                                store_disown(d->p->store);
                        }
                        (void) pipeline_timer(d->p, &d->timer, SEAL_TICK_USEC, on_seal_tick, d);
                        return 0;
                }
                r = error_set(&err, -EKEYREJECTED,
                              "somebody keeps the fetched bundle open for writing: it is not used");
        }
        deploy_step_ended(d, r, err);
        return 0;
}

static int step_sealed(Deploy *d, Error **reterr) {
        int r;

        if (is_sealed(d))
                return STEP_DONE;
        d->disowned = !d->p->store;
        d->deadline_usec = pipeline_now(d->p) + SEAL_USEC;
        r = pipeline_timer(d->p, &d->timer, SEAL_TICK_USEC, on_seal_tick, d);
        return r < 0 ? error_set(reterr, r, "verify: %s", strerror(-r)) : 0;
}

static int keep(Deploy *d, const char *sha256, Error **reterr) {
        AttemptState *a = &d->p->state->attempt;
        _cleanup_free_ char *name = NULL;
        int r;

        /* It becomes a name, and whoever computed it has read the bundle. */
        if (!str_is_sha256(sha256) || (a->bundle.sha256 && !str_equal(sha256, a->bundle.sha256)))
                return error_set(
                        reterr, -EBADMSG,
                        "tendril-bundle answered with another digest than it was asked for");
        name = str_format("%s.part", a->bundle.sha256 ? a->bundle.sha256 : a->id);
        if (!name)
                return error_set(reterr, -ENOMEM, "verify: out of memory");
        if (!a->bundle.sha256) {
                a->bundle.sha256 = strdup(sha256);
                a->target.sha256 = strdup(sha256);
                d->record.sha256 = strdup(sha256);
                if (!a->bundle.sha256 || !a->target.sha256 || !d->record.sha256)
                        return error_set(reterr, -ENOMEM, "verify: out of memory");
        }
        if (!file_exists_at(d->p->incoming_fd, name))
                return 0; /* it came from bundles/ */
        if (renameat(d->p->incoming_fd, name, d->p->bundles_fd, sha256) < 0)
                return error_set(reterr, -errno, "move the bundle to bundles/%s: %s", sha256,
                                 strerror(errno));
        r = fsync(d->p->bundles_fd) < 0 ? -errno : 0;
        if (r < 0)
                return error_set(reterr, r, "sync bundles/: %s", strerror(-r));
        return 0;
}

/* What does not verify is of no use to any later attempt. */
static void discard(Deploy *d) {
        const AttemptState *a = &d->p->state->attempt;
        const char *id = a->bundle.sha256 ?: a->id;
        _cleanup_free_ char *name = str_format("%s.part", id), *map = str_format("%s.map", id);

        if (name)
                (void) file_remove_at(d->p->incoming_fd, name, true);
        if (map)
                (void) file_remove_at(d->p->incoming_fd, map, true);
        if (a->bundle.sha256)
                (void) file_remove_at(d->p->bundles_fd, a->bundle.sha256, true);
}

static void on_verified(void *userdata, int r, const HelperResult *result, Error *err) {
        Deploy *d = userdata;
        Error *own = NULL;
        bool wrong = r == -EBADMSG;

        d->task = NULL;
        if (r == 0) {
                deploy_event(d, "the digest is %.12s…, as it should be (%llu bytes)",
                             result->sha256, (unsigned long long) result->size);
                r = keep(d, result->sha256, &own);
        } else {
                /* What an earlier attempt left, or a power cut, need not be the store's fault. */
                if (wrong && !d->fetched_whole && !d->p->state->attempt.path)
                        r = error_set(&own, -EAGAIN,
                                      "%s; some of it is from an earlier attempt, so all of it is "
                                      "fetched anew",
                                      error_text(err));
                else
                        (void) error_set(&own, r, "%s", error_text(err));
                if (wrong)
                        discard(d);
        }
        deploy_step_ended(d, r, own);
}

static int step_verify(Deploy *d, Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        const DeployHelpers *h = &d->p->spec.helpers;
        int r;

        r = h->verify(h->userdata, d->bundle_fd, a->bundle.sha256, a->bundle.size, on_verified, d,
                      &d->task);
        return r < 0 ? error_set(reterr, r, "start tendril-bundle: %s", strerror(-r)) : 0;
}

const Step verify_steps[] = {
        { "sealed", step_sealed },
        { "verify", step_verify },
        { 0 },
};
