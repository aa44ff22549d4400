#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/str.h"
#include "deploy/phase.h"
#include "deploy/stage.h"

/*
 * prepare: Elastic Beanstalk's order on the unpacked version, as root, in the staging folder that
 * nobody else can reach: prebuild hooks, Buildfile, the proxy's configuration staged and tested,
 * predeploy hooks; then the application's user is given its files. Nothing that is served changes
 * here.
 */

static int step_plan(Deploy *d, Error **reterr) {
        AttemptState *a = &d->p->state->attempt;
        int r;

        if (!d->has_plan) {
                r = version_plan(d->p, &a->target, &d->plan, reterr);
                if (r < 0)
                        return r;
                d->has_plan = true;
        }
        if (d->plan.kind == PLAN_WAR && d->plan.processes.n == 0)
                return error_set(reterr, -EOPNOTSUPP,
                                 "the bundle is a WAR and has no Procfile: add one whose web "
                                 "process serves it on $PORT");
        return STEP_DONE;
}

/* The properties are taken with the version: what runs keeps them until the next deploy. */
static int step_properties(Deploy *d, Error **reterr) {
        AttemptState *a = &d->p->state->attempt;
        JsonMap made = { 0 };
        int r;

        r = environment_properties(d->p->config, &d->p->state->desired.settings, &made, reterr);
        if (r < 0)
                return r;
        json_map_done(&a->target.properties);
        a->target.properties = made;
        r = pipeline_save(d->p, reterr);
        return r < 0 ? r : STEP_DONE;
}

static int step_staging(Deploy *d, Error **reterr) {
        _cleanup_close_ int fd = version_open(d->p, &d->p->state->attempt.target, "app");
        char *args[] = { d->p->spec.paths->staging, NULL };

        if (fd < 0)
                return error_set(reterr, fd, "open the new version's app folder: %s",
                                 strerror(-fd));
        return tree_run(d->p->spec.loop, d->p->spec.tree_fd, "mount", args, fd, SEC(30),
                        deploy_on_tree, d, &d->tree, reterr);
}

static int step_prebuild(Deploy *d, Error **reterr) {
        return phase_run(d, "prebuild", d->plan.prebuild, true, reterr);
}

static int build_from(Deploy *d, size_t i, Error **reterr);

/* The index of the Buildfile's line under way is the number of "build" records of this attempt. */
static size_t n_built(const Deploy *d) {
        const HookRecord *hooks = d->record.hooks.items;
        size_t n = 0;

        for (size_t i = 0; i < d->record.hooks.n; i++)
                n += str_equal(hooks[i].phase, "build") && str_equal(hooks[i].result, "ok");
        return n;
}

static void on_built(void *userdata, int r, const char *last, Error *err) {
        Deploy *d = userdata;
        Error *own = NULL;

        d->hooks = NULL;
        if (r > 0)
                r = error_set(&own, -EREMOTEIO,
                              "Buildfile: %s ended with an exit code that only hooks may use",
                              last);
        else if (r < 0)
                (void) error_set(&own, r, "Buildfile: %s", error_text(err));
        else
                r = build_from(d, n_built(d), &own);
        if (r != 0)
                deploy_step_ended(d, r == STEP_DONE ? 0 : r, own);
}

static int build_from(Deploy *d, size_t i, Error **reterr) {
        const PlanProcess *lines = d->plan.build.items;

        if (i >= d->plan.build.n)
                return STEP_DONE;
        return phase_command(d, &lines[i], &d->hooks, reterr, on_built);
}

static int step_build(Deploy *d, Error **reterr) {
        bool over = d->p->state->attempt.behind &&
                    str_has_prefix(d->p->state->attempt.behind, "predeploy:");

        return over ? STEP_DONE : build_from(d, n_built(d), reterr);
}

static void on_proxy_tested(void *userdata, int r, Error *err) {
        Deploy *d = userdata;
        Error *own = NULL;

        d->proxy_test = NULL;
        if (r < 0)
                (void) error_set(&own, r, "the proxy's configuration with this version's texts: %s",
                                 error_text(err));
        deploy_step_ended(d, r, own);
}

static int step_proxy(Deploy *d, Error **reterr) {
        const Paths *paths = d->p->spec.paths;
        _cleanup_free_ char *conf = NULL;
        int r;

        if (d->p->config->proxy.kind == PROXY_NONE)
                return STEP_DONE;
        r = front_stage(d, reterr);
        if (r < 0)
                return r;
        if (!d->proxy_text)
                return STEP_DONE;
        conf = str_format("%s/proxy/nginx.conf.new", paths->state);
        if (!conf)
                return error_set(reterr, -ENOMEM, "proxy: out of memory");
        r = file_write_at(d->p->proxy_fd, "nginx.conf.new", d->proxy_text, strlen(d->proxy_text),
                          0644, FILE_REPLACE | FILE_SYNC);
        if (r < 0)
                return error_wrap(reterr, r, "write %s", conf);
        return proxy_test(d->p->spec.loop, d->p->config->proxy.program, conf, paths->run,
                          on_proxy_tested, d, &d->proxy_test, reterr);
}

static int step_predeploy(Deploy *d, Error **reterr) {
        return phase_run(d, "predeploy", d->plan.predeploy, true, reterr);
}

static int step_give(Deploy *d, Error **reterr) {
        _cleanup_close_ int fd = version_open(d->p, &d->p->state->attempt.target, "app");
        char uid[16], gid[16];
        char *args[] = { uid, gid, NULL };
        uid_t u;
        gid_t g;
        int r;

        if (fd < 0)
                return error_set(reterr, fd, "open the new version's app folder: %s",
                                 strerror(-fd));
        r = launch_user(d->p, &u, &g, reterr);
        if (r < 0)
                return r;
        (void) snprintf(uid, sizeof(uid), "%u", u);
        (void) snprintf(gid, sizeof(gid), "%u", g);
        return tree_run(d->p->spec.loop, d->p->spec.tree_fd, "give", args, fd, SEC(600),
                        deploy_on_tree, d, &d->tree, reterr);
}

static int step_unstage(Deploy *d, Error **reterr) {
        char *args[] = { d->p->spec.paths->staging, NULL };

        return tree_run(d->p->spec.loop, d->p->spec.tree_fd, "unmount", args, -EBADF, SEC(30),
                        deploy_on_tree, d, &d->tree, reterr);
}

const Step prepare_steps[] = {
        { "plan", step_plan },           { "properties", step_properties },
        { "staging", step_staging },     { "prebuild", step_prebuild },
        { "build", step_build },         { "proxy", step_proxy },
        { "predeploy", step_predeploy }, { "give", step_give },
        { "unstage", step_unstage },     { 0 },
};
