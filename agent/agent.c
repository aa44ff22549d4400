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
#include "identify.h"
#include "loop/log.h"
#include "service/tree.h"
#include "store/file.h"
#include "store/remote.h"

/* How long a stop waits for a stage that should not be left. */
#define STOP_USEC SEC(30)

/* How long a start waits to learn which instance this is. The application waits as long. */
#define IDENTITY_USEC SEC(10)

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
        Identify *identify; /* NULL: not asked for */
        bool withheld;      /* whose the state is is not known, or it is another's: nothing is asked
                               of the store */
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

/* ---- which host this is ---- */

static void begin_store(Agent *a);
static void withhold(Agent *a);

/* What the configuration leaves open, others may say: the instance's tag, then its user data. */
static int complete_config(Agent *a, Config *config, Error **reterr) {
        const NetIdentity *known = identify_known(a->identify);
        const char *environment = NULL;
        int r = 0;

        if (known && !config->environment) {
                environment = known->environment ?: known->user_data_environment;
                if (environment)
                        r = config_set_environment(config, environment,
                                                   known->environment ? "instance tag"
                                                                      : "user data");
        }
        return r < 0 ? error_set(reterr, r, "this host's environment: out of memory") : 0;
}

static int settle(Agent *a, const char *instance, Error **reterr) {
        _cleanup_close_ int state_fd = file_mkdirs_at(AT_FDCWD, a->paths.state, 0755);
        _cleanup_free_ char *other = NULL, *text = NULL;
        int r;

        if (state_fd < 0)
                return error_set(reterr, state_fd, "make %s: %s", a->paths.state,
                                 strerror(-state_fd));
        r = identity_settle(state_fd, instance, &other, reterr);
        if (r != IDENTITY_SET_ASIDE)
                return r;
        text = str_format("the state in %s was made by instance %s, and this is %s: it was set "
                          "aside, in %s/" IDENTITY_ASIDE "; this host begins anew",
                          a->paths.state, other, instance, a->paths.state);
        return text ? helpers_warn(a->helpers, text)
                    : error_set(reterr, -ENOMEM, "start: out of memory");
}

static int on_withhold(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        withhold(userdata);
        return 0;
}

/* From now on nothing is asked of the store, nor written there in another's name. A deploy that
 * runs ends first; the application stays as it is. */
static void withhold(Agent *a) {
        PipelineStatus s;

        a->withheld = true;
        pipeline_status(a->pipeline, &s);
        a->store_timer = sd_event_source_disable_unref(a->store_timer);
        if (s.record) {
                (void) sd_event_add_time_relative(a->loop, &a->store_timer, CLOCK_BOOTTIME, SEC(1),
                                                  0, on_withhold, a);
                return;
        }
        pipeline_set_config(a->pipeline, a->config, NULL);
        a->store = store_free(a->store);
        pipeline_store_failed(a->pipeline,
                              "the state on this disk was made by another instance: start the "
                              "agent again, which sets it aside");
}

/* Late: the pipeline runs already, with a state that was somebody's. */
static void on_identified(void *userdata) {
        Agent *a = userdata;
        const NetIdentity *known = identify_known(a->identify);
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_free_ char *owner = NULL, *host = NULL;
        _cleanup_close_ int state_fd = -EBADF;
        int r;

        if (!a->pipeline)
                return;
        state_fd = file_open_dir_at(AT_FDCWD, a->paths.state);
        r = state_fd < 0 ? state_fd : identity_read(state_fd, &owner);
        if (r >= 0 && owner && !str_equal(owner, known->instance)) {
                log_error(
                        "the state in %s was made by instance %s, and this is %s: start the agent "
                        "again, which sets it aside",
                        a->paths.state, owner, known->instance);
                withhold(a);
                return;
        }
        if (r >= 0)
                r = settle(a, known->instance, &err);
        if (r >= 0 && a->withheld)
                r = identity_host(a->config, known->instance, &host, &err);
        if (r >= 0)
                r = complete_config(a, a->config, &err);
        if (r < 0) {
                log_error("which instance this is: %s", err ? error_text(err) : strerror(-r));
                return;
        }
        if (host) {
                (void) answers_set_host(a->answers, host);
                pipeline_set_host(a->pipeline, host);
                free(a->host);
                a->host = TAKE_PTR(host);
        }
        a->withheld = false;
        pipeline_set_config(a->pipeline, a->config, a->store);
        begin_store(a);
}

/* Before anything of the state is read. What does not answer in time is asked on beside the work:
 * `auto` goes by the host's name then, `imds` asks nothing of the store before it knows. */
static int learn_identity(Agent *a, Error **reterr) {
        const NetIdentity *known;
        int r;

        if (identity_is_asked(a->config)) {
                r = identify_new(a->loop, helpers_net(a->helpers), on_identified, a, &a->identify);
                if (r >= 0 && identify_wait(a->identify, IDENTITY_USEC) < 0)
                        log_warning("the instance metadata service has not answered in time");
                if (r < 0)
                        return error_set(reterr, r, "ask which instance this is: %s", strerror(-r));
        }
        known = identify_known(a->identify);
        a->withheld = a->identify && !known && a->config->identity.source == IDENTITY_IMDS;
        r = known ? settle(a, known->instance, reterr) : 0;
        if (r >= 0)
                r = identity_host(a->config, known ? known->instance : NULL, &a->host, reterr);
        return r < 0 ? r : complete_config(a, a->config, reterr);
}

/* ---- the store ---- */

static int open_store(Agent *a, const Config *config, Store **ret, Error **reterr) {
        *ret = NULL;
        if (!config->store.url)
                return 0;
        if (a->withheld)
                return error_set(reterr, -EAGAIN, "which instance this is is not known: %s",
                                 identify_error(a->identify));
        if (store_url_is_remote(config->store.url))
                return store_remote_new(a->loop, helpers_net(a->helpers), config->store.url, ret,
                                        reterr);
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
                                   .helpers = a->helpers,
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
                r = helpers_new(loop, a->config, a->env, options->libexec, &a->helpers, reterr);
        if (r >= 0)
                r = probe_view(a, reterr);
        if (r >= 0 && helpers_set_config(a->helpers, a->config) < 0)
                r = error_set(reterr, -ENOMEM, "start: out of memory");
        if (r >= 0)
                r = learn_identity(a, reterr);
        if (r < 0)
                return r;
        (void) open_store(a, a->config, &a->store, NULL); /* begin_store() says what is wrong */
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
        const NetIdentity *known = identify_known(a->identify);
        _cleanup_free_ char *host = NULL;
        int r;

        if (!str_equal(config->instance, a->config->instance))
                return error_set(reterr, -EINVAL,
                                 "instance cannot change while the agent runs: start it again");
        r = a->withheld || (a->identify && !identify_known(a->identify))
                    ? 0
                    : identity_host(config, known ? known->instance : NULL, &host, reterr);
        if (r < 0)
                return r;
        if (host && !str_equal(host, a->host))
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
                r = complete_config(a, config, reterr);
        if (r >= 0)
                r = check_fixed(a, config, reterr);
        same = r >= 0 && str_equal(config->store.url, a->config->store.url);
        if (r >= 0)
                r = check_busy(a, config, same, reterr);
        if (r >= 0 && !same)
                r = open_store(a, config, &store, reterr);
        if (r >= 0 && helpers_set_config(a->helpers, config) < 0)
                r = error_set(reterr, -ENOMEM, "reload: out of memory");
        (void) sd_notify(0, "READY=1");
        if (r < 0) {
                log_fields(LOG_ERR, &fields,
                           "the new configuration is refused, the old one stays: %s",
                           reterr && *reterr ? error_text(*reterr) : strerror(-r));
                return r;
        }
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
        a->identify = identify_free(a->identify);
        a->helpers = helpers_free(a->helpers);
        a->config = config_free(a->config);
        free(a->host);
        paths_done(&a->paths);
        closep(&a->lock_fd);
        free(a);
        return NULL;
}
