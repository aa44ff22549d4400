#include "deploy/phase.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "loop/log.h"

/* The context of a hook as a JSON file: what stands in the environment, and what does not fit
 * there. */
typedef struct HookContext {
        char *deploy, *phase, *application, *environment, *version, *sha256, *previous, *host,
                *app_dir;
        uint64_t revision;
        JsonMap properties;
} HookContext;

static const JsonField context_fields[] = {
        JSON_ROW("deploy", JSON_KIND_STRING, 0, HookContext, deploy),
        JSON_ROW("phase", JSON_KIND_STRING, 0, HookContext, phase),
        JSON_ROW("application", JSON_KIND_STRING, 0, HookContext, application),
        JSON_ROW("environment", JSON_KIND_STRING, 0, HookContext, environment),
        JSON_ROW("version", JSON_KIND_STRING, 0, HookContext, version),
        JSON_ROW("sha256", JSON_KIND_STRING, 0, HookContext, sha256),
        JSON_ROW("previous", JSON_KIND_STRING, 0, HookContext, previous),
        JSON_ROW("host", JSON_KIND_STRING, 0, HookContext, host),
        JSON_ROW("app_dir", JSON_KIND_STRING, 0, HookContext, app_dir),
        JSON_ROW("revision", JSON_KIND_U64, 0, HookContext, revision),
        JSON_ROW_MAX("properties", JSON_KIND_MAP, 0, HookContext, properties, LIMIT_SETTINGS),
        JSON_END,
};
static const JsonTable context_table = { context_fields, sizeof(HookContext) };

/* What a hook sees as its application's folder. */
static const char *app_dir(const Deploy *d, bool staging) {
        const Paths *paths = d->p->spec.paths;

        if (d->p->spec.view)
                return staging ? PATH_APP "/staging" : PATH_APP "/current";
        return staging ? paths->staging : paths->current;
}

static char *borrow(const char *text) {
        union {
                const char *in;
                char *out;
        } u = { .in = text }; /* encoding only reads; the struct has char * for decoding */

        return u.out;
}

static int write_context(Deploy *d, const char *phase, bool staging, char **ret_path,
                         Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_RECORD_BYTES);
        _cleanup_close_ int dir_fd = -EBADF;
        _cleanup_free_ char *path = NULL;
        HookContext c = {
                .deploy = d->record.id,
                .phase = borrow(phase),
                .application = a->target.application,
                .environment = d->p->config->environment,
                .version = a->target.label,
                .sha256 = a->target.sha256,
                .previous = d->record.previous,
                .host = borrow(d->p->spec.host),
                .app_dir = borrow(app_dir(d, staging)),
                .revision = a->target.revision,
                .properties = a->target.properties,
        };
        int r;

        path = str_format("%s/hook-context.json", d->p->spec.paths->run);
        if (!path)
                return error_set(reterr, -ENOMEM, "hooks: out of memory");
        dir_fd = file_open_dir_at(AT_FDCWD, d->p->spec.paths->run);
        r = dir_fd < 0 ? dir_fd : json_encode(&context_table, &c, &text);
        if (r >= 0)
                r = file_write_at(dir_fd, "hook-context.json", text.data, text.size, 0600,
                                  FILE_REPLACE);
        if (r < 0)
                return error_wrap(reterr, r, "write %s", path);
        *ret_path = TAKE_PTR(path);
        return 0;
}

static int hook_env(Deploy *d, const char *phase, bool staging, const char *context, char ***ret,
                    Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        _cleanup_(strv_freep) char **extra = NULL;
        const struct {
                const char *name, *value;
        } facts[] = {
                { HOOK_ENV_LEADER, "true" },
                { HOOK_ENV_DEPLOY_ID, d->record.id },
                { HOOK_ENV_PHASE, phase },
                { HOOK_ENV_APPLICATION, a->target.application },
                { HOOK_ENV_ENVIRONMENT, d->p->config->environment },
                { HOOK_ENV_VERSION, a->target.label },
                { HOOK_ENV_DIGEST, a->target.sha256 },
                { HOOK_ENV_PREVIOUS, d->record.previous },
                { HOOK_ENV_HOST, d->p->spec.host },
                { HOOK_ENV_APP_DIR, app_dir(d, staging) },
                { HOOK_ENV_CONTEXT, context },
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTS(facts) && r >= 0; i++) {
                _cleanup_free_ char *pair =
                        str_format("%s=%s", facts[i].name, facts[i].value ? facts[i].value : "");

                r = pair ? strv_add(&extra, ELEMENTS(facts), pair) : -ENOMEM;
        }
        if (r < 0)
                return error_set(reterr, r, "environment of the hooks: %s", strerror(-r));
        *ret = launch_env(&a->target, "/root", extra, reterr);
        return *ret ? 0 : -ENOMEM;
}

static void on_line(void *userdata, const char *hook, const char *line) {
        Deploy *d = userdata;

        record_log_line(d->log_fd, pipeline_realtime(d->p), hook, line);
}

static void on_hook(void *userdata, HookRecord *hook) {
        Deploy *d = userdata;
        LogFields fields = { .deploy_id = d->record.id,
                             .stage = deploy_stage_name(d->stage),
                             .version = d->record.label,
                             .hook = hook->name };
        HookRecord *kept;

        for (char **m = hook->messages; m && *m; m++)
                deploy_event(d, "%s %s/%s: %s", hook->phase, hook->origin, hook->name, *m);
        if (!str_equal(hook->result, "ok"))
                fields.message_id = LOG_ID_HOOK_FAILED;
        log_fields(str_equal(hook->result, "ok") ? LOG_INFO : LOG_WARNING, &fields,
                   "hook %s %s/%s: %s after %llu ms%s", hook->phase, hook->origin, hook->name,
                   hook->result, (unsigned long long) hook->took_ms,
                   hook->survivors ? "; it left processes behind, which go on" : "");
        kept = json_array_add(&d->record.hooks, &hook_record_table, LIMIT_HOOKS);
        if (!kept)
                return;
        *kept = *hook;
        memset(hook, 0, sizeof(*hook));
}

/* Which boot this is: a container keeps the kernel's boot id over a restart, but not the start of
 * its PID 1. */
static char *boot_name(void) {
        uint64_t start = 0;
        char id[37];

        if (process_boot_id(id) < 0)
                return NULL;
        (void) process_start_time(1, &start);
        return str_format("%s-%llu", id, (unsigned long long) start);
}

bool phase_awaits_boot(const AttemptState *attempt) {
        _cleanup_free_ char *now = attempt->boot ? boot_name() : NULL;

        return now && str_equal(now, attempt->boot);
}

static int ask_reboot(Deploy *d, const char *phase, const char *last, Error **reterr) {
        AttemptState *a = &d->p->state->attempt;
        int r;

        free(a->behind);
        free(a->boot);
        a->behind = str_format("%s:%s", phase, last);
        a->boot = boot_name();
        if (!a->behind || !a->boot)
                return error_set(reterr, -ENOMEM, "hooks: out of memory");
        r = pipeline_save(d->p, reterr);
        if (r < 0)
                return r;
        d->reboot = true;
        deploy_event(d, "hook %s asked for a reboot; the deploy goes on behind it at the next boot",
                     last);
        if (d->p->spec.on_reboot)
                d->p->spec.on_reboot(d->p->spec.userdata);
        return 0;
}

static void on_phase(void *userdata, int r, const char *last, Error *err) {
        Deploy *d = userdata;
        const char *phase = d->step->name;
        Error *own = NULL;

        d->hooks = NULL;
        if (r == HOOK_REBOOT) {
                r = ask_reboot(d, phase, last, &own);
                if (r == 0)
                        return; /* waits: the next start of the agent in another boot goes on */
        } else if (r == HOOK_RETRY) {
                d->retry = d->hook_retry = true;
                r = error_set(&own, -EAGAIN, "hook %s asks to try again later (exit %d)", last,
                              HOOK_EXIT_RETRY);
        } else if (r < 0)
                (void) error_set(&own, r, "%s", error_text(err));
        deploy_step_ended(d, r, own);
}

/* After a reboot: phases before the one that asked for it are over; in that one, what stands behind
 * its hook is left. */
static const char *phase_behind(const AttemptState *a, const char *phase, bool *ret_over) {
        static const char *const order[] = { "prebuild", "predeploy", "postdeploy" };
        size_t asked = ELEMENTS(order), mine = ELEMENTS(order);

        *ret_over = false;
        if (!a->behind)
                return NULL;
        for (size_t i = 0; i < ELEMENTS(order); i++) {
                size_t n = strlen(order[i]);

                if (strncmp(a->behind, order[i], n) == 0 && a->behind[n] == ':')
                        asked = i;
                if (str_equal(order[i], phase))
                        mine = i;
        }
        *ret_over = mine < asked;
        return mine == asked ? strchr(a->behind, ':') + 1 : NULL;
}

/* In a folder of its own (--root), hooks see the application where it always is: through a view. */
static int wrapper_of(Deploy *d, bool staging, char ***ret, Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        _cleanup_(strv_freep) char **argv = NULL;
        _cleanup_free_ char *target = version_path(d->p, &a->target, "app"), *current = NULL,
                            *one = NULL, *two = NULL;
        const VersionState *cur =
                staging && d->p->state->current.label ? &d->p->state->current : NULL;
        int r = 0;

        if (!d->p->spec.view || d->p->spec.paths->root[0] == 0)
                return 0;
        current = cur ? version_path(d->p, cur, "app") : NULL;
        if (!target || (cur && !current))
                return error_set(reterr, -ENOMEM, "hooks: out of memory");
        one = str_format("--%s=%s", staging ? "staging" : "current", target);
        two = current ? str_format("--current=%s", current) : NULL;
        const char *const parts[] = { "tendril-tree",
                                      "view",
                                      one,
                                      two ? two : "--user=0:0",
                                      staging ? "--cwd=" PATH_APP "/staging"
                                              : "--cwd=" PATH_APP "/current",
                                      "--" };
        for (size_t i = 0; i < ELEMENTS(parts) && r >= 0; i++)
                r = strv_add(&argv, 16, parts[i]);
        if (r < 0)
                return error_set(reterr, r, "hooks: %s", strerror(-r));
        *ret = TAKE_PTR(argv);
        return 0;
}

static HookPhase phase_common(Deploy *d) {
        const ConfigHooks *c = &d->p->config->hooks;

        return (HookPhase){ .instance = d->p->config->instance,
                            .timeout_usec = c->timeout_usec,
                            .kill_usec = c->kill_usec,
                            .wrapper_fd = d->p->spec.tree_fd,
                            .on_line = on_line,
                            .on_hook = on_hook,
                            .userdata = d };
}

static const char *plain_cwd(const Deploy *d, char *const *wrapper, bool staging) {
        const Paths *paths = d->p->spec.paths;

        return wrapper ? "/" : staging ? paths->staging : paths->current;
}

int phase_run(Deploy *d, const char *phase, char *const *names _unused_, bool staging,
              Error **reterr) {
        const AttemptState *a = &d->p->state->attempt;
        const Paths *paths = d->p->spec.paths;
        _cleanup_free_ char *control = version_path(d->p, &a->target, "control"), *context = NULL;
        _cleanup_free_ char *vendor = str_format("%s/%s", paths->vendor_hooks, phase);
        _cleanup_free_ char *host = str_format("%s/%s", paths->host_hooks, phase), *version = NULL;
        _cleanup_(strv_freep) char **env = NULL, **wrapper = NULL, **secrets = NULL;
        HookPhase run = phase_common(d);
        bool over;
        int r;

        run.phase = phase;
        run.behind = phase_behind(a, phase, &over);
        if (over)
                return STEP_DONE;
        version = control ? str_format("%s/.platform/hooks/%s", control, phase) : NULL;
        if (!version || !vendor || !host)
                return error_set(reterr, -ENOMEM, "hooks: out of memory");
        r = write_context(d, phase, staging, &context, reterr);
        if (r >= 0)
                r = hook_env(d, phase, staging, context, &env, reterr);
        if (r >= 0)
                r = wrapper_of(d, staging, &wrapper, reterr);
        if (r < 0)
                return r;
        secrets = environment_secrets(&a->target.properties);

        const HookDir dirs[] = { { vendor, false }, { host, false }, { version, true } };
        run.dirs = dirs;
        run.n_dirs = ELEMENTS(dirs);
        run.env = env;
        run.secrets = secrets;
        run.wrapper = wrapper;
        run.cwd = plain_cwd(d, wrapper, staging);
        run.on_done = on_phase;
        return hooks_run(d->p->spec.loop, &run, &d->hooks, reterr);
}

int phase_command(Deploy *d, const PlanProcess *process, HookRun **ret, Error **reterr,
                  void (*on_done)(void *userdata, int r, const char *last, Error *err)) {
        const AttemptState *a = &d->p->state->attempt;
        _cleanup_(strv_freep) char **env = NULL, **wrapper = NULL, **secrets = NULL;
        HookPhase run = phase_common(d);
        int r;

        r = hook_env(d, "build", true, "", &env, reterr);
        if (r >= 0)
                r = wrapper_of(d, true, &wrapper, reterr);
        if (r < 0)
                return r;
        secrets = environment_secrets(&a->target.properties);
        run.phase = "build";
        run.env = env;
        run.secrets = secrets;
        run.wrapper = wrapper;
        run.cwd = plain_cwd(d, wrapper, true);
        run.on_done = on_done;
        return hooks_run_command(d->p->spec.loop, &run, process->name, process->command, 0, 0, ret,
                                 reterr);
}
