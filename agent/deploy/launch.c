#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "deploy/stage.h"
#include "loop/log.h"

/* The processes of a version: started in its slot with its own environment, taken on again after a
 * restart, stopped. */

int version_open(Pipeline *p, const VersionState *v, const char *sub) {
        _cleanup_close_ int fd = -EBADF;
        int sub_fd;

        if (!v->folder)
                return -ENOENT;
        fd = file_open_dir_at(p->versions_fd, v->folder);
        if (fd < 0 || !sub)
                return TAKE_FD(fd);
        sub_fd = file_open_dir_at(fd, sub);
        return sub_fd;
}

char *version_path(const Pipeline *p, const VersionState *v, const char *sub) {
        return v->folder ? str_format("%s/%s/%s", p->spec.paths->versions, v->folder, sub) : NULL;
}

int version_plan(Pipeline *p, const VersionState *v, Plan *ret, Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_PLAN_BYTES);
        _cleanup_close_ int fd = version_open(p, v, NULL);
        int r;

        r = fd < 0 ? fd : file_read_at(fd, "plan.json", &text);
        if (r < 0)
                return error_set(reterr, r, "read the plan of version %s: %s", v->label,
                                 strerror(-r));
        r = json_decode(buf_str(&text), text.size, &plan_table, JSON_LENIENT, ret, reterr);
        if (r >= 0) {
                r = plan_check(ret, reterr);
                if (r < 0)
                        json_table_done(&plan_table, ret);
        }
        return r < 0 ? error_wrap(reterr, r, "plan of version %s", v->label) : 0;
}

/* The application's user; as an unprivileged agent, that user itself. */
int launch_user(Pipeline *p, uid_t *ret_uid, gid_t *ret_gid, Error **reterr) {
        const char *name = p->config->app.user;
        const struct passwd *pw;

        if (geteuid() != 0) {
                *ret_uid = geteuid();
                *ret_gid = getegid();
                return 0;
        }
        errno = 0;
        pw = getpwnam(name);
        if (!pw)
                return error_set(
                        reterr, -ESRCH,
                        "there is no user '%s' (application.user): make it, e.g. useradd -r %s",
                        name, name);
        *ret_uid = pw->pw_uid;
        *ret_gid = pw->pw_gid;
        return 0;
}

char **launch_env(const VersionState *v, const char *home, char *const *extra, Error **reterr) {
        const EnvironmentSpec spec = {
                .home = home, .port = v->port, .properties = &v->properties, .extra = extra
        };
        char **env = environment_build(&spec);

        if (!env)
                (void) error_set(reterr, -ENOMEM, "environment: out of memory");
        return env;
}

const char *launch_web(const Plan *plan) {
        const PlanProcess *processes = plan->processes.items;

        return plan->processes.n > 0 ? processes[0].name : NULL;
}

typedef struct Prepared {
        ServiceSpec spec;
        char **env;
        char *app;
} Prepared;

static void prepared_done(Prepared *x) {
        x->env = strv_free(x->env);
        free(x->app);
        x->app = NULL;
}

static int prepare_spec(Pipeline *p, const VersionState *v, Prepared *ret, Error **reterr) {
        uid_t uid;
        gid_t gid;
        int r;

        r = launch_user(p, &uid, &gid, reterr);
        if (r < 0)
                return r;
        ret->app = version_path(p, v, "app");
        ret->env = launch_env(v, p->spec.view ? PATH_APP "/current" : p->spec.paths->current, NULL,
                              reterr);
        if (!ret->app || !ret->env)
                return error_set(reterr, -ENOMEM, "start %s: out of memory", v->label);
        ret->spec = (ServiceSpec){ .slot = slot_from_name(v->slot),
                                   .env = ret->env,
                                   .app_dir = ret->app,
                                   .uid = uid,
                                   .gid = gid,
                                   .view = p->spec.view,
                                   .stop_usec = p->config->app.stop_usec };
        return 0;
}

static bool is_wanted(LaunchWhich which, size_t i) {
        return which == LAUNCH_ALL || (which == LAUNCH_WEB) == (i == 0);
}

int launch_start(Pipeline *p, const VersionState *v, const Plan *plan, LaunchWhich which,
                 Error **reterr) {
        _cleanup_(prepared_done) Prepared x = { 0 };
        const PlanProcess *processes = plan->processes.items;
        int r;

        r = prepare_spec(p, v, &x, reterr);
        for (size_t i = 0; i < plan->processes.n && r >= 0; i++) {
                if (!is_wanted(which, i) ||
                    services_find(p->services, x.spec.slot, processes[i].name, NULL))
                        continue;
                x.spec.name = processes[i].name;
                x.spec.command = processes[i].command;
                r = services_start(p->services, &x.spec, reterr);
                if (r < 0)
                        return error_wrap(reterr, r, "start %s of %s", processes[i].name, v->label);
        }
        return r < 0 ? r : 0;
}

static const ServiceRecord *record_of(const State *s, const char *slot, const char *name) {
        const ServiceRecord *records = s->services.items;

        for (size_t i = 0; i < s->services.n; i++)
                if (str_equal(records[i].slot, slot) && str_equal(records[i].name, name))
                        return &records[i];
        return NULL;
}

bool launch_is_alive(const ServiceRecord *record) {
        uint64_t start;
        char boot[37];

        return record && process_boot_id(boot) == 0 && str_equal(boot, record->boot_id) &&
               process_start_time((pid_t) record->pid, &start) == 0 && start == record->start_time;
}

/* name NULL: all. only_alive: what does not run is left so. */
static int adopt(Pipeline *p, const VersionState *v, const char *name, bool only_alive,
                 Error **reterr) {
        _cleanup_(prepared_done) Prepared x = { 0 };
        const PlanProcess *processes;
        Plan plan = { 0 };
        int r;

        r = version_plan(p, v, &plan, reterr);
        if (r < 0)
                return r;
        processes = plan.processes.items;
        r = prepare_spec(p, v, &x, reterr);
        for (size_t i = 0; i < plan.processes.n && r >= 0; i++) {
                const ServiceRecord *record = record_of(p->state, v->slot, processes[i].name);
                bool adopted = false;

                if ((name && !str_equal(name, processes[i].name)) ||
                    (only_alive && !launch_is_alive(record)))
                        continue;
                x.spec.name = processes[i].name;
                x.spec.command = processes[i].command;
                r = record ? services_adopt(p->services, &x.spec, record, &adopted, reterr)
                           : services_start(p->services, &x.spec, reterr);
                if (r >= 0)
                        log_info("%s of version %s (slot %s) %s", processes[i].name, v->label,
                                 v->slot,
                                 adopted ? "goes on running and is watched again" : "is started");
        }
        json_table_done(&plan_table, &plan);
        return r < 0 ? error_wrap(reterr, r, "version %s", v->label) : 0;
}

int launch_adopt(Pipeline *p, const VersionState *v, Error **reterr) {
        return adopt(p, v, NULL, false, reterr);
}

int launch_adopt_alive(Pipeline *p, const VersionState *v, Error **reterr) {
        return adopt(p, v, NULL, true, reterr);
}

int launch_adopt_one(Pipeline *p, const VersionState *v, const char *name, Error **reterr) {
        return adopt(p, v, name, false, reterr);
}

static bool is_of(const ServiceStatus *s, Slot slot, LaunchWhich which, const char *web) {
        if (s->slot != slot)
                return false;
        return which == LAUNCH_ALL || (which == LAUNCH_WEB) == str_equal(s->name, web);
}

void launch_stop(Pipeline *p, Slot slot, LaunchWhich which, const char *web) {
        _cleanup_(strv_freep) char **names = NULL;
        ServiceStatus s;

        for (size_t i = 0; services_get(p->services, i, &s); i++)
                if (is_of(&s, slot, which, web))
                        (void) strv_add(&names, LIMIT_PROCESSES, s.name);
        for (char **n = names; n && *n; n++)
                (void) services_stop(p->services, slot, *n);
}

size_t launch_count(Pipeline *p, Slot slot, LaunchWhich which, const char *web) {
        ServiceStatus s;
        size_t n = 0;

        for (size_t i = 0; services_get(p->services, i, &s); i++)
                n += is_of(&s, slot, which, web);
        return n;
}

int launch_effective(Pipeline *p, Effective *ret, Error **reterr) {
        return effective_make(p->config, &p->state->desired.settings, ret, reterr);
}
