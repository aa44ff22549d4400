#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "agent/contract.h"
#include "agent/helpers.h"
#include "answers.h"
#include "base/file.h"
#include "base/str.h"
#include "control/server.h"
#include "deploy/deploy.h"
#include "host/config.h"
#include "host/identity.h"
#include "host/paths.h"
#include "loop/log.h"
#include "service/tree.h"
#include "store/file.h"

/* How long a stop waits for a stage that should not be left. */
#define STOP_USEC SEC(30)

/* How often a store that could not be opened is tried again. */
#define STORE_AGAIN_USEC SEC(5)

struct Agent {
        sd_event *loop;
        char *const *env;
        Paths paths;
        int lock_fd;
        Config *config;
        char *host;
        bool view;
        Helpers *helpers;
        Store *store;
        Answers *answers;
        Pipeline *pipeline;
        ControlServer *control;
        sd_event_source *stop_timer;
        sd_event_source *store_timer;
        bool stopping;
};

/* One agent a root: the lock is held as long as the process lives. */
static int lock_root(Agent *a, Error **reterr) {
        _cleanup_close_ int dir_fd = file_mkdirs_at(AT_FDCWD, a->paths.run, 0755);

        if (dir_fd < 0)
                return error_set(reterr, dir_fd, "make %s: %s", a->paths.run, strerror(-dir_fd));
        a->lock_fd = openat(dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (a->lock_fd < 0)
                return error_set(reterr, -errno, "open %s/lock: %s", a->paths.run, strerror(errno));
        if (flock(a->lock_fd, LOCK_EX | LOCK_NB) < 0)
                return error_set(reterr, -EALREADY,
                                 "another agent runs with this root: it holds %s/lock",
                                 a->paths.run);
        return 0;
}

#define PROBE_WAITS 1000 /* no answer yet */
#define PROBE_TRIES 3

static void on_probed(void *userdata, int r, Error *err) {
        int *answer = userdata;

        *answer = r;
        if (r < 0)
                log_warning("probe for views: %s", error_text(err));
}

/* Asked before anything else runs on the loop. That the helper died is no answer: without views an
 * application that was started in one would not find its files. */
static int probe_view(Agent *a, Error **reterr) {
        char *none[] = { NULL };
        int answer = -1, r = 0;

        for (int i = 0; i < PROBE_TRIES && r >= 0 && answer < 0; i++) {
                TreeTask *task = NULL;

                answer = PROBE_WAITS;
                r = tree_run(a->loop, helpers_tree_fd(a->helpers), "probe", none, -EBADF, SEC(10),
                             on_probed, &answer, &task, reterr);
                while (r >= 0 && answer == PROBE_WAITS)
                        r = sd_event_run(a->loop, UINT64_MAX);
        }
        a->view = answer == 0;
        if (r >= 0 && answer < 0)
                return error_set(reterr, answer, "probe for views: tendril-tree does not end well");
        return r < 0 ? error_wrap(reterr, r, "probe for views") : 0;
}

static int open_store(Agent *a, const Config *config, Store **ret, Error **reterr) {
        *ret = NULL;
        if (!config->store.url)
                return 0;
        return store_file_new(a->loop, config->store.url, NULL, ret, reterr);
}

static void try_store_later(Agent *a);

static int on_try_store(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        Agent *a = userdata;
        _cleanup_(error_freep) Error *err = NULL;

        if (a->store)
                return 0;
        if (open_store(a, a->config, &a->store, &err) < 0) {
                pipeline_store_failed(a->pipeline, error_text(err));
                try_store_later(a);
                return 0;
        }
        helpers_set_config(a->helpers, a->config, store_is_local(a->store));
        pipeline_set_config(a->pipeline, a->config, a->store);
        return 0;
}

static void try_store_later(Agent *a) {
        a->store_timer = sd_event_source_disable_unref(a->store_timer);
        (void) sd_event_add_time_relative(a->loop, &a->store_timer, CLOCK_BOOTTIME,
                                          STORE_AGAIN_USEC, 0, on_try_store, a);
}

/* A store that cannot be opened now stops nothing: what runs goes on, what is on this disk is
 * started. */
static void begin_store(Agent *a) {
        if (a->store || !a->config->store.url)
                return;
        pipeline_store_failed(a->pipeline, "it cannot be opened");
        (void) on_try_store(NULL, 0, a);
}

static void on_change(void *userdata) {
        Agent *a = userdata;
        PipelineStatus s;

        if (!a->pipeline)
                return;
        pipeline_status(a->pipeline, &s);
        (void) sd_notifyf(0, "STATUS=%s%s%s, waiting %s",
                          s.record ? deploy_stage_name(s.stage) : s.health,
                          s.state->current.label ? ", serving " : "",
                          s.state->current.label ? s.state->current.label : "", s.waiting);
        if (a->answers)
                answers_changed(a->answers);
        if (a->stopping && pipeline_may_stop(a->pipeline))
                (void) sd_event_exit(a->loop, 0);
}

static void on_reboot(void *userdata _unused_) {
        log_notice(
                "a hook asked for a reboot: reboot this host; the deploy goes on at the next boot");
}

static int reload_for_answers(void *userdata, char **ret_text, Error **reterr) {
        return agent_reload(userdata, ret_text, reterr);
}

static int start_pipeline(Agent *a, Error **reterr) {
        const PipelineSpec spec = { .loop = a->loop,
                                    .paths = &a->paths,
                                    .config = a->config,
                                    .store = a->store,
                                    .host = a->host,
                                    .tree_fd = helpers_tree_fd(a->helpers),
                                    .view = a->view,
                                    .helpers = helpers_deploy(a->helpers),
                                    .on_change = on_change,
                                    .on_reboot = on_reboot,
                                    .userdata = a };

        return pipeline_new(&spec, &a->pipeline, reterr);
}

static int start_control(Agent *a, Error **reterr) {
        const AnswersSpec spec = { .loop = a->loop,
                                   .pipeline = a->pipeline,
                                   .host = a->host,
                                   .paths = &a->paths,
                                   .warnings = helpers_warnings(a->helpers),
                                   .reload = reload_for_answers,
                                   .userdata = a };
        ControlOps ops;
        int r;

        r = answers_new(&spec, &a->answers);
        if (r < 0)
                return error_set(reterr, r, "start: out of memory");
        answers_set_config(a->answers, a->config, a->config->store.url);
        ops = answers_ops(a->answers);
        return control_server_new(a->loop, a->paths.socket, &ops, &a->control, reterr);
}

int agent_new(sd_event *loop, const AgentOptions *options, Agent **ret, Error **reterr) {
        _cleanup_(agent_freep) Agent *a = calloc(1, sizeof(Agent));
        int r;

        if (!a)
                return error_set(reterr, -ENOMEM, "start: out of memory");
        a->loop = loop;
        a->env = options->env;
        a->lock_fd = -EBADF;
        r = paths_init(options->root, &a->paths, reterr);
        if (r >= 0)
                r = lock_root(a, reterr);
        if (r >= 0)
                r = config_load(&a->paths, a->env, &a->config, reterr);
        if (r >= 0)
                r = identity_host(a->config, &a->host, reterr);
        if (r >= 0)
                r = helpers_new(loop, a->config, options->libexec, &a->helpers, reterr);
        if (r >= 0)
                r = probe_view(a, reterr);
        if (r < 0)
                return r;
        (void) open_store(a, a->config, &a->store, NULL); /* begin_store() says what is wrong */
        helpers_set_config(a->helpers, a->config, a->store && store_is_local(a->store));
        r = start_pipeline(a, reterr);
        if (r >= 0)
                r = start_control(a, reterr);
        if (r < 0)
                return r;
        begin_store(a);
        *ret = TAKE_PTR(a);
        return 0;
}

/* What a running agent cannot change: its name among others, its host's id. */
static int check_fixed(Agent *a, const Config *config, Error **reterr) {
        _cleanup_free_ char *host = NULL;
        int r;

        if (!str_equal(config->instance, a->config->instance))
                return error_set(reterr, -EINVAL,
                                 "instance cannot change while the agent runs: start it again");
        r = identity_host(config, &host, reterr);
        if (r < 0)
                return r;
        if (!str_equal(host, a->host))
                return error_set(reterr, -EINVAL,
                                 "host cannot change while the agent runs: start it again");
        return 0;
}

/* A deploy has calls under way to its store, and a lane in its environment. */
static int check_busy(Agent *a, const Config *config, bool same_store, Error **reterr) {
        PipelineStatus s;

        pipeline_status(a->pipeline, &s);
        if (!s.record || (same_store && str_equal(config->environment, a->config->environment)))
                return 0;
        return error_set(
                reterr, -EBUSY,
                "store and environment cannot change while deploy %s runs: reload again behind it",
                s.record->id);
}

int agent_reload(Agent *a, char **ret_text, Error **reterr) {
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(store_freep) Store *store = NULL;
        LogFields fields = { .message_id = LOG_ID_CONFIG_REFUSED };
        bool same;
        int r;

        (void) sd_notify(0, "RELOADING=1");
        r = config_load(&a->paths, a->env, &config, reterr);
        if (r >= 0)
                r = check_fixed(a, config, reterr);
        same = r >= 0 && str_equal(config->store.url, a->config->store.url);
        if (r >= 0)
                r = check_busy(a, config, same, reterr);
        if (r >= 0 && !same)
                r = open_store(a, config, &store, reterr);
        (void) sd_notify(0, "READY=1");
        if (r < 0) {
                log_fields(LOG_ERR, &fields,
                           "the new configuration is refused, the old one stays: %s",
                           reterr && *reterr ? error_text(*reterr) : strerror(-r));
                return r;
        }
        helpers_set_config(a->helpers, config,
                           same ? a->store && store_is_local(a->store)
                                : store && store_is_local(store));
        answers_set_config(a->answers, config, config->store.url);
        pipeline_set_config(a->pipeline, config, same ? a->store : store);
        (void) config_free(a->config);
        a->config = TAKE_PTR(config);
        if (!same) {
                (void) store_free(a->store);
                a->store = TAKE_PTR(store);
        }
        log_notice("the configuration was read again and is in use");
        *ret_text = strdup("the configuration was read again and is in use");
        return *ret_text ? 0 : -ENOMEM;
}

static int on_stop_timeout(sd_event_source *source _unused_, uint64_t usec _unused_,
                           void *userdata) {
        Agent *a = userdata;

        return sd_event_exit(a->loop, 0);
}

void agent_stop(Agent *a) {
        (void) sd_notify(0, "STOPPING=1");
        a->stopping = true;
        if (pipeline_may_stop(a->pipeline)) {
                (void) sd_event_exit(a->loop, 0);
                return;
        }
        log_notice("stopping when the switch that runs is over");
        (void) sd_event_add_time_relative(a->loop, &a->stop_timer, CLOCK_BOOTTIME, STOP_USEC, 0,
                                          on_stop_timeout, a);
}

Agent *agent_free(Agent *a) {
        if (!a)
                return NULL;
        a->stop_timer = sd_event_source_disable_unref(a->stop_timer);
        a->store_timer = sd_event_source_disable_unref(a->store_timer);
        a->control = control_server_free(a->control);
        a->answers = answers_free(a->answers);
        a->pipeline = pipeline_free(a->pipeline);
        a->store = store_free(a->store);
        a->helpers = helpers_free(a->helpers);
        a->config = config_free(a->config);
        free(a->host);
        paths_done(&a->paths);
        closep(&a->lock_fd);
        free(a);
        return NULL;
}
