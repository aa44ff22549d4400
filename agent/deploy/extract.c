#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "deploy/stage.h"
#include "loop/log.h"

/*
 * extract: tendril-bundle unpacks the verified bundle into tree/ of a new version folder, and makes
 * the plan of it; when each of these runs has ended with all its children, tendril-tree takes the
 * tree over: app/ for the application, control/ for root.
 */

/* The bundle again, after a restart: only what was verified stands in bundles/. */
static int step_bundle(Deploy *d, Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;

        if (d->bundle_fd >= 0)
                return STEP_DONE;
        d->bundle_fd =
                openat(d->p->bundles_fd, a->bundle.sha256, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (d->bundle_fd < 0)
                return error_set(reterr, -errno, "open bundles/%s: %s", a->bundle.sha256,
                                 strerror(errno));
        return STEP_DONE;
}

/* A folder is never used twice: what an earlier attempt left is removed by retention, and so is
 * what a state that was set aside has named. */
static int choose_folder(Deploy *d) {
        AttemptState *a = &d->p->state->attempt;

        do {
                free(a->target.folder);
                a->target.folder = str_format("%.16s-%llu", a->bundle.sha256,
                                              (unsigned long long) ++d->p->state->counter);
        } while (a->target.folder && file_exists_at(d->p->versions_fd, a->target.folder));
        return a->target.folder ? 0 : -ENOMEM;
}

/* The name is on disk before the folder. */
static int step_folder(Deploy *d, Error **reterr) {
        AttemptState *a = &d->p->state->attempt;
        const DeployHelpers *h = &d->p->spec.helpers;
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = choose_folder(d);
        if (r < 0)
                return error_set(reterr, r, "extract: out of memory");
        r = pipeline_save(d->p, reterr);
        if (r < 0)
                return r;
        path = str_format("%s/tree", a->target.folder);
        if (!path)
                return error_set(reterr, -ENOMEM, "extract: out of memory");
        fd = file_mkdirs_at(d->p->versions_fd, path, 0700);
        if (fd < 0)
                return error_set(reterr, fd, "make versions/%s: %s", path, strerror(-fd));
        if (h->bundle_uid != 0 && fchown(fd, h->bundle_uid, h->bundle_gid) < 0)
                return error_set(reterr, -errno, "give versions/%s to tendril-bundle: %s", path,
                                 strerror(errno));
        return STEP_DONE;
}

static void on_unpacked(void *userdata, int r, const HelperResult *result _unused_, Error *err) {
        Deploy *d = userdata;
        Error *own = NULL;

        d->task = NULL;
        if (r < 0)
                (void) error_set(&own, r, "%s", error_text(err));
        deploy_step_ended(d, r, own);
}

static int step_unpack(Deploy *d, Error **reterr) {
        const DeployHelpers *h = &d->p->spec.helpers;
        _cleanup_close_ int fd = version_open(d->p, &d->p->state->attempt.target, "tree");
        int r;

        if (fd < 0)
                return error_set(reterr, fd, "open the new version's folder: %s", strerror(-fd));
        r = h->unpack(h->userdata, d->bundle_fd, fd, on_unpacked, d, &d->task);
        return r < 0 ? error_set(reterr, r, "start tendril-bundle: %s", strerror(-r)) : 0;
}

/* The plan is decoded here, by tables and bounds, before it is kept: a plan that main cannot read
 * later is of no use. */
static int take_plan(Deploy *d, const HelperResult *result, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (d->has_plan)
                json_table_done(&plan_table, &d->plan);
        r = json_decode(result->text, result->text_size, &plan_table, JSON_LENIENT, &d->plan,
                        reterr);
        d->has_plan = r >= 0;
        if (r >= 0)
                r = plan_check(&d->plan, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "plan");
        for (char **w = d->plan.warnings; w && *w; w++)
                deploy_event(d, "%s", *w);
        for (char **f = d->plan.folders; f && *f; f++)
                deploy_event(d, "%s is there; this tendril does not act on it yet", *f);
        fd = version_open(d->p, &d->p->state->attempt.target, NULL);
        if (fd < 0)
                return error_set(reterr, fd, "open the new version's folder: %s", strerror(-fd));
        r = file_write_at(fd, "plan.json", result->text, result->text_size, 0600,
                          FILE_REPLACE | FILE_SYNC);
        return r < 0 ? error_wrap(reterr, r, "write plan.json") : 0;
}

static void on_planned(void *userdata, int r, const HelperResult *result, Error *err) {
        Deploy *d = userdata;
        Error *own = NULL;

        d->task = NULL;
        if (r < 0)
                (void) error_set(&own, r, "%s", error_text(err));
        else
                r = take_plan(d, result, &own);
        deploy_step_ended(d, r, own);
}

static int step_plan(Deploy *d, Error **reterr) {
        const DeployHelpers *h = &d->p->spec.helpers;
        _cleanup_close_ int fd = version_open(d->p, &d->p->state->attempt.target, "tree");
        int r;

        if (fd < 0)
                return error_set(reterr, fd, "open the new version's folder: %s", strerror(-fd));
        r = h->plan(h->userdata, fd, on_planned, d, &d->task);
        return r < 0 ? error_set(reterr, r, "start tendril-bundle: %s", strerror(-r)) : 0;
}

static int step_own(Deploy *d, Error **reterr) {
        const DeployHelpers *h = &d->p->spec.helpers;
        _cleanup_close_ int fd = version_open(d->p, &d->p->state->attempt.target, NULL);
        char uid[16], gid[16];
        char *args[] = { uid, gid, NULL };

        if (fd < 0)
                return error_set(reterr, fd, "open the new version's folder: %s", strerror(-fd));
        (void) snprintf(uid, sizeof(uid), "%u", h->bundle_uid);
        (void) snprintf(gid, sizeof(gid), "%u", h->bundle_gid);
        return tree_run(d->p->spec.loop, d->p->spec.tree_fd, "own", args, fd, SEC(1800),
                        deploy_on_tree, d, &d->tree, reterr);
}

const Step extract_steps[] = {
        { "bundle", step_bundle }, { "folder", step_folder }, { "unpack", step_unpack },
        { "plan", step_plan },     { "own", step_own },       { 0 },
};
