#include "service/hook.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/str.h"
#include "loop/cgroup.h"
#include "mask.h"

/* Words of a wrapper and of a hook's own command line. */
#define ARGV_MAX 64
#define ENV_MAX  (LIMIT_SETTINGS + 64)

typedef struct Hook {
        char *path;
        char *name;
        bool version;
} Hook;

struct HookRun {
        sd_event *loop;
        sd_event_source *next; /* starts the next hook, or tells the end */

        char *phase, *cwd, *instance;
        char **env, **wrapper;
        int wrapper_fd; /* our own; -EBADF: none */
        usec_t timeout_usec, kill_usec;
        Mask *mask;
        char *command; /* instead of hooks */
        uid_t uid;     /* of the command */
        gid_t gid;

        Hook *hooks;
        size_t n_hooks, at;

        Child *child;
        int cgroup_fd;
        char cgroup_name[64];
        HookRecord record; /* of the one that runs, or ran last */
        size_t n_tail, n_messages;
        char *label; /* "version/10-x" */

        void (*on_line)(void *userdata, const char *hook, const char *line);
        void (*on_hook)(void *userdata, HookRecord *record);
        void (*on_done)(void *userdata, int r, const char *last, Error *err);
        void *userdata;

        int result;
        Error *error;
        bool over; /* the next thing is on_done() */
};

static const JsonField hook_record_fields[] = {
        /* clang-format off */
        { "phase",     JSON_KIND_STRING, JSON_REQUIRED,   offsetof(HookRecord, phase),     0, 32,   NULL, NULL },
        { "name",      JSON_KIND_STRING, JSON_REQUIRED,   offsetof(HookRecord, name),      0, 255,  NULL, NULL },
        { "origin",    JSON_KIND_STRING, JSON_REQUIRED,   offsetof(HookRecord, origin),    0, 16,   NULL, NULL },
        { "started",   JSON_KIND_STRING, 0,               offsetof(HookRecord, started),   0, 32,   NULL, NULL },
        { "took_ms",   JSON_KIND_U64,    0,               offsetof(HookRecord, took_ms),   0, 0,    NULL, NULL },
        { "result",    JSON_KIND_STRING, 0,               offsetof(HookRecord, result),    0, 1024, NULL, NULL },
        { "messages",  JSON_KIND_STRV,   JSON_OMIT_EMPTY, offsetof(HookRecord, messages),  0, LIMIT_HOOK_TAIL_LINES, NULL, NULL },
        { "tail",      JSON_KIND_STRV,   JSON_OMIT_EMPTY, offsetof(HookRecord, tail),      0, LIMIT_HOOK_TAIL_LINES, NULL, NULL },
        { "survivors", JSON_KIND_BOOL,   JSON_OMIT_EMPTY, offsetof(HookRecord, survivors), 0, 0,    NULL, NULL },
        { 0 },
        /* clang-format on */
};
const JsonTable hook_record_table = { hook_record_fields, sizeof(HookRecord) };

/* -------- which hooks there are -------- */

static const char *hook_origin(const Hook *hook) {
        return hook->version ? "version" : "host";
}

static void hook_done(Hook *hook) {
        free(hook->path);
        free(hook->name);
        *hook = (Hook){ 0 };
}

static int hook_order(const void *a, const void *b) {
        const Hook *x = a, *y = b;

        if (x->version != y->version)
                return x->version ? 1 : -1;
        return strcmp(x->name, y->name);
}

static Hook *find_hook(HookRun *run, const char *name, bool version) {
        for (size_t i = 0; i < run->n_hooks; i++)
                if (run->hooks[i].version == version && str_equal(run->hooks[i].name, name))
                        return &run->hooks[i];
        return NULL;
}

static void drop_hook(HookRun *run, Hook *hook) {
        hook_done(hook);
        *hook = run->hooks[--run->n_hooks];
}

/* A later folder replaces a name of an earlier one; what cannot be run there takes it away. */
static int add_hook(HookRun *run, const HookDir *dir, const char *name, bool can_run,
                    Error **reterr) {
        Hook *old = find_hook(run, name, dir->version);
        _cleanup_free_ char *path = str_format("%s/%s", dir->path, name);

        if (old)
                drop_hook(run, old);
        if (!can_run)
                return 0;
        if (run->n_hooks >= LIMIT_HOOKS)
                return error_set(reterr, -E2BIG, "%s: more than %d hooks", run->phase, LIMIT_HOOKS);

        Hook *hook = &run->hooks[run->n_hooks];
        *hook = (Hook){ .path = TAKE_PTR(path), .name = strdup(name), .version = dir->version };
        if (!hook->path || !hook->name) {
                hook_done(hook);
                return -ENOMEM;
        }
        run->n_hooks++;
        return 0;
}

static int read_dir(HookRun *run, const HookDir *dir, DIR *stream, Error **reterr) {
        struct stat st;
        int r;

        for (;;) {
                errno = 0;
                const struct dirent *e = readdir(stream);
                if (!e)
                        return errno == 0 ? 0
                                          : error_set(reterr, -errno, "%s: %s", dir->path,
                                                      strerror(errno));
                if (e->d_name[0] == '.')
                        continue;
                /* On the host a link to /dev/null, or a file that may not be executed, switches a
                 * hook off. */
                bool is_file =
                        fstatat(dirfd(stream), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode);
                bool can_run = is_file && (dir->version || (st.st_mode & 0111));
                r = add_hook(run, dir, e->d_name, can_run, reterr);
                if (r < 0)
                        return r;
        }
}

static int add_dir(HookRun *run, const HookDir *dir, Error **reterr) {
        int r;

        DIR *stream = opendir(dir->path);
        if (!stream)
                return errno == ENOENT
                               ? 0
                               : error_set(reterr, -errno, "%s: %s", dir->path, strerror(errno));
        r = read_dir(run, dir, stream, reterr);
        (void) closedir(stream);
        return r;
}

/* The first behind "origin/name", in the order in which they run, whether that one is still there
 * or not. */
static size_t find_behind(const HookRun *run, const char *behind) {
        _cleanup_free_ char *name = NULL;
        Hook last = { .version = behind && str_has_prefix(behind, "version/") };
        size_t i = 0;

        const char *slash = behind ? strchr(behind, '/') : NULL;
        if (!slash)
                return 0;
        last.name = name = strdup(slash + 1);
        while (name && i < run->n_hooks && hook_order(&run->hooks[i], &last) <= 0)
                i++;
        return i;
}

static int find_hooks(HookRun *run, const HookPhase *phase, Error **reterr) {
        int r;

        run->hooks = calloc(LIMIT_HOOKS, sizeof(Hook));
        if (!run->hooks)
                return -ENOMEM;
        for (size_t i = 0; i < phase->n_dirs; i++) {
                r = add_dir(run, &phase->dirs[i], reterr);
                if (r < 0)
                        return r;
        }
        qsort(run->hooks, run->n_hooks, sizeof(Hook), hook_order);
        run->at = find_behind(run, phase->behind);
        return 0;
}

/* -------- the life of a run -------- */

static void forget_process(HookRun *run) {
        run->child = child_free(run->child);
        closep(&run->cgroup_fd);
        run->cgroup_fd = -EBADF;
        /* Survivors keep theirs. */
        if (run->cgroup_name[0])
                (void) cgroup_remove(run->instance, run->cgroup_name);
        run->cgroup_name[0] = '\0';
}

HookRun *hooks_cancel(HookRun *run) {
        if (!run)
                return NULL;
        if (run->child)
                child_kill(run->child);
        forget_process(run);
        run->next = sd_event_source_disable_unref(run->next);
        (void) sd_event_unref(run->loop);
        for (size_t i = 0; i < run->n_hooks; i++)
                hook_done(&run->hooks[i]);
        free(run->hooks);
        free(run->phase);
        free(run->cwd);
        free(run->instance);
        free(run->command);
        free(run->label);
        run->env = strv_free(run->env);
        run->wrapper = strv_free(run->wrapper);
        closep(&run->wrapper_fd);
        run->mask = mask_free(run->mask);
        json_table_done(&hook_record_table, &run->record);
        run->error = error_free(run->error);
        free(run);
        return NULL;
}
DEFINE_CLEANUP(HookRun, hooks_cancel);

static void run_go_on(HookRun *run) {
        (void) sd_event_source_set_enabled(run->next, SD_EVENT_ONESHOT);
}

static void run_end(HookRun *run, int result) {
        run->result = result;
        run->over = true;
        run_go_on(run);
}

/* -------- output -------- */

/* The oldest goes when there are too many; lists are NULL-terminated. */
static void add_bounded(char ***list, size_t *n, const char *line) {
        if (*n >= LIMIT_HOOK_TAIL_LINES) {
                free((*list)[0]);
                memmove(*list, *list + 1, *n * sizeof(char *));
                (*n)--;
        }
        if (strv_add(list, LIMIT_HOOK_TAIL_LINES, line) >= 0)
                (*n)++;
}

static void run_on_line(Child *child, const char *line, void *userdata) {
        HookRun *run = userdata;
        _cleanup_free_ char *shown =
                mask_line(run->mask, line, strlen(line) >= LIMIT_LINE_BYTES - 1);

        (void) child;
        if (!shown)
                return;
        add_bounded(&run->record.tail, &run->n_tail, shown);
        if (str_has_prefix(shown, HOOK_MESSAGE_PREFIX))
                add_bounded(&run->record.messages, &run->n_messages,
                            shown + strlen(HOOK_MESSAGE_PREFIX));
        if (run->on_line)
                run->on_line(run->userdata, run->label, shown);
}

/* -------- one hook -------- */

static int record_begin(HookRun *run, const Hook *hook) {
        char now[TIME_RFC3339_SIZE];

        time_format(clock_read(NULL, CLOCK_REALTIME), now);
        json_table_done(&hook_record_table, &run->record);
        run->n_tail = run->n_messages = 0;
        free(run->label);
        run->label = str_format("%s/%s", hook_origin(hook), hook->name);
        run->record = (HookRecord){
                .phase = strdup(run->phase),
                .name = strdup(hook->name),
                .origin = strdup(hook_origin(hook)),
                .started = strdup(now),
        };
        return run->label && run->record.phase && run->record.name && run->record.origin &&
                               run->record.started
                       ? 0
                       : -ENOMEM;
}

/* The answer of the whole run to the way in which one hook ended; 0: go on. */
static int judge(HookRun *run, const ChildExit *how) {
        if (!how->timed_out && how->code == 0)
                return 0;
        if (!how->timed_out && how->code == HOOK_EXIT_RETRY)
                return HOOK_RETRY;
        if (!how->timed_out && how->code == HOOK_EXIT_REBOOT)
                return HOOK_REBOOT;
        const char *last = run->n_tail > 0 ? run->record.tail[run->n_tail - 1] : NULL;
        return error_set(&run->error, how->timed_out ? -ETIMEDOUT : -ECANCELED, "%s: %s: %s%s%s",
                         run->phase, run->label, run->record.result ?: "failed",
                         last ? "; its last line: " : "", last ?: "");
}

/* Tells of the hook, and goes on in a new turn of the loop: whoever is told may cancel the run. */
static void hook_ended(HookRun *run, int r) {
        forget_process(run);
        run->at++;
        if (r != 0)
                run_end(run, r);
        else
                run_go_on(run);
        if (run->on_hook)
                run->on_hook(run->userdata, &run->record);
}

static void run_on_exit(Child *child, const ChildExit *how, void *userdata) {
        HookRun *run = userdata;
        char text[96];

        (void) child;
        child_exit_text(how, text);
        if (how->code == 0 && !how->timed_out)
                (void) snprintf(text, sizeof(text), "ok");
        run->record.result = strdup(text);
        run->record.took_ms = how->took_usec / 1000;
        run->record.survivors = how->survivors;
        hook_ended(run, judge(run, how));
}

static int make_argv(const HookRun *run, const Hook *hook, char ***ret) {
        int r = 0;

        for (char *const *w = run->wrapper; r >= 0 && w && *w; w++)
                r = strv_add(ret, ARGV_MAX, *w);
        if (!run->command)
                return r < 0 ? r : strv_add(ret, ARGV_MAX, hook->path);
        if (r >= 0)
                r = strv_add(ret, ARGV_MAX, "/bin/sh");
        if (r >= 0)
                r = strv_add(ret, ARGV_MAX, "-c");
        return r < 0 ? r : strv_add(ret, ARGV_MAX, run->command);
}

static int make_env(const HookRun *run, char ***ret) {
        _cleanup_free_ char *own = str_format(HOOK_ENV_HOOK "=%s", run->label);
        int r = own ? 0 : -ENOMEM;

        for (char *const *e = run->env; r >= 0 && e && *e; e++)
                if (!str_has_prefix(*e, HOOK_ENV_HOOK "="))
                        r = strv_add(ret, ENV_MAX, *e);
        return r < 0 ? r : strv_add(ret, ENV_MAX, own);
}

/* A group of its own, named so that the survivors of an earlier hook are not in it. */
static int enter_cgroup(HookRun *run, Error **reterr) {
        _cleanup_free_ char *tag = str_random_hex(4);
        int r;

        if (!run->instance)
                return 0;
        (void) snprintf(run->cgroup_name, sizeof(run->cgroup_name), "hook-%.24s-%zu-%s", run->phase,
                        run->at, tag ?: "0");
        r = cgroup_make(run->instance, run->cgroup_name, &run->cgroup_fd, reterr);
        if (r == CGROUP_NONE)
                run->cgroup_name[0] = '\0';
        return r < 0 ? r : 0;
}

static int spawn_hook(HookRun *run, const Hook *hook, Error **reterr) {
        _cleanup_(strv_freep) char **argv = NULL, **env = NULL;
        _cleanup_close_ int cwd_fd = -EBADF;
        int r;

        r = make_argv(run, hook, &argv);
        if (r >= 0)
                r = make_env(run, &env);
        if (r >= 0)
                r = enter_cgroup(run, reterr);
        if (r < 0)
                return r;

        /* In a view the folder is the wrapper's to enter, and may not be there outside. */
        cwd_fd = open(run->cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (cwd_fd < 0 && !run->wrapper)
                return error_set(reterr, -errno, "enter %s: %s", run->cwd, strerror(errno));
        return child_spawn(run->loop,
                           &(ChildSpec){ .name = run->label,
                                         .program_fd = run->wrapper_fd > 0 ? run->wrapper_fd : 0,
                                         .argv = argv,
                                         .env = env,
                                         .cwd_fd = cwd_fd > 0 ? cwd_fd : 0,
                                         .uid = run->wrapper ? 0 : run->uid,
                                         .gid = run->wrapper ? 0 : run->gid,
                                         .cgroup_fd = run->cgroup_fd > 0 ? run->cgroup_fd : 0,
                                         .flags = hook->version ? CHILD_KEEP_SURVIVORS : 0,
                                         .timeout_usec = run->timeout_usec,
                                         .kill_usec = run->kill_usec,
                                         .on_line = run_on_line,
                                         .on_exit = run_on_exit,
                                         .userdata = run },
                           &run->child, reterr);
}

static void start_hook(HookRun *run) {
        const Hook *hook = &run->hooks[run->at];
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = record_begin(run, hook);
        if (r >= 0)
                r = spawn_hook(run, hook, &err);
        if (r >= 0)
                return;
        const char *words = err ? error_text(err) : strerror(-r);
        if (r == -ENOEXEC)
                words = "is neither a program nor begins with '#!'";
        run->record.result = strdup(words);
        hook_ended(run, error_set(&run->error, r, "%s: %s: %s", run->phase,
                                  run->label ?: hook->name, words));
}

/* The run is over before it is told. */
static void tell_done(HookRun *run) {
        void (*on_done)(void *userdata, int r, const char *last, Error *err) = run->on_done;
        _cleanup_(error_freep) Error *err = TAKE_PTR(run->error);
        _cleanup_free_ char *last = TAKE_PTR(run->label);
        void *userdata = run->userdata;
        int r = run->result;

        (void) hooks_cancel(run);
        on_done(userdata, r, last, err);
}

static int run_on_next(sd_event_source *source, void *userdata) {
        HookRun *run = userdata;

        (void) source;
        if (run->over || run->at >= run->n_hooks)
                tell_done(run);
        else
                start_hook(run);
        return 0;
}

/* -------- beginning -------- */

static int copy_phase(HookRun *run, const HookPhase *phase) {
        run->phase = strdup(phase->phase);
        run->cwd = strdup(phase->cwd);
        run->instance = phase->instance ? strdup(phase->instance) : NULL;
        run->env = phase->env ? strv_copy(phase->env) : NULL;
        run->wrapper = phase->wrapper ? strv_copy(phase->wrapper) : NULL;
        run->mask = mask_new(phase->secrets);
        if (!run->phase || !run->cwd || !run->mask || (phase->instance && !run->instance) ||
            (phase->env && !run->env) || (phase->wrapper && !run->wrapper))
                return -ENOMEM;
        if (phase->wrapper && phase->wrapper_fd > 0) {
                run->wrapper_fd = fcntl(phase->wrapper_fd, F_DUPFD_CLOEXEC, 3);
                if (run->wrapper_fd < 0)
                        return -errno;
        }
        run->timeout_usec = phase->timeout_usec;
        run->kill_usec = phase->kill_usec;
        run->on_line = phase->on_line;
        run->on_hook = phase->on_hook;
        run->on_done = phase->on_done;
        run->userdata = phase->userdata;
        return 0;
}

static int run_new(sd_event *loop, const HookPhase *phase, HookRun **ret, Error **reterr) {
        _cleanup_(hooks_cancelp) HookRun *run = calloc(1, sizeof(*run));
        int r;

        assert(loop && phase && phase->phase && phase->cwd && phase->on_done);

        if (!run)
                return -ENOMEM;
        run->wrapper_fd = run->cgroup_fd = -EBADF;
        run->loop = sd_event_ref(loop);
        r = copy_phase(run, phase);
        if (r >= 0)
                r = sd_event_add_defer(loop, &run->next, run_on_next, run);
        if (r < 0)
                return error_set(reterr, r, "%s: %s", phase->phase, strerror(-r));
        *ret = TAKE_PTR(run);
        return 0;
}

int hooks_run(sd_event *loop, const HookPhase *phase, HookRun **ret, Error **reterr) {
        _cleanup_(hooks_cancelp) HookRun *run = NULL;
        int r;

        r = run_new(loop, phase, &run, reterr);
        if (r >= 0)
                r = find_hooks(run, phase, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(run);
        return 0;
}

int hooks_run_command(sd_event *loop, const HookPhase *phase, const char *name, const char *command,
                      uid_t uid, gid_t gid, HookRun **ret, Error **reterr) {
        _cleanup_(hooks_cancelp) HookRun *run = NULL;
        int r;

        assert(name && command);

        r = run_new(loop, phase, &run, reterr);
        if (r < 0)
                return r;
        run->hooks = calloc(1, sizeof(Hook));
        run->command = strdup(command);
        if (!run->hooks || !run->command)
                return -ENOMEM;
        run->hooks[0] = (Hook){ .path = strdup("/bin/sh"), .name = strdup(name), .version = true };
        run->n_hooks = 1;
        run->uid = uid;
        run->gid = gid;
        if (!run->hooks[0].path || !run->hooks[0].name)
                return -ENOMEM;
        *ret = TAKE_PTR(run);
        return 0;
}
