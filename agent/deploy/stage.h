#pragma once

/*
 * What the files of deploy/ share among themselves: the pipeline and one deploy from within, and
 * how a stage is written.
 *
 * A stage is a table of steps. A step's begin() does its work and returns STEP_DONE, or starts
 * something asynchronous and returns 0, which later calls deploy_step_ended(), or fails with words.
 * Whatever a step started hangs from the Deploy (call, tree, hooks, task, timer, ...), at most one
 * of each; deploy_step_ended() and the stage's time-out end all of it. Every step may be begun
 * twice: after a crash the stage starts at its first step again.
 */

#include "base/backoff.h"
#include "deploy/deploy.h"
#include "deploy/desired.h"
#include "fleet/lane.h"
#include "service/hook.h"
#include "service/proxy.h"
#include "service/tree.h"
#include "settings/environment.h"
#include "settings/plan.h"

typedef struct Deploy Deploy;

typedef enum StepAnswer {
        STEP_DONE = 1,
} StepAnswer;

typedef struct Step {
        const char *name;
        int (*begin)(Deploy *d, Error **reterr);
} Step;

/* How asking a version ends: 0 good, 1 not yet (words in d->last_check), negative: it will not come
 * any more. */
typedef void (*ProbeDone)(Deploy *d, int r, Error *err);

/* One attempt. */
struct Deploy {
        Pipeline *p;
        DeployStage stage;
        const Step *step;  /* of the stage's table; ends with a row without a name */
        usec_t began_usec; /* BOOTTIME */
        usec_t stage_usec; /* BOOTTIME: when the stage began */
        DeployRecord record;
        int log_fd;
        bool ready; /* the target stands prepared on this disk: nothing to fetch or prepare */
        DeployStage resume_at; /* behind the lease; DEPLOY_DESIRED: the beginning */
        bool retry;            /* a hook asked for it, or the cause will pass */
        bool hook_retry;       /* a hook did */
        DeployStage failed_in;
        bool reboot; /* a hook asked for it */

        /* under way in the present step */
        StoreCall *call;
        TreeTask *tree;
        HookRun *hooks;
        HelperTask *task;
        ProxyTest *proxy_test;
        sd_event_source *timer; /* of the step */
        sd_event_source *copy;  /* slices of a local bundle */

        bool (*until)(Deploy *d); /* asked again at each event of a service; true ends the step */

        sd_event_source *stage_timer;

        int bundle_fd; /* what was fetched, read-only from verify on */
        int copy_fd;
        uint64_t n_fetched;
        bool disowned;      /* the store was told to give up what it was handed */
        bool fetched_whole; /* in one go, by this attempt: nothing of it is from before a crash */
        Plan plan;
        bool has_plan;
        Effective effective; /* of the target */
        bool has_effective;
        char *proxy_text; /* the configuration for the target, where it differs from the one in use
                           */

        /* switch and gate */
        unsigned n_good;       /* checks in a row */
        unsigned n_restarts;   /* of the target's services when the gate began */
        usec_t gap_began_usec; /* BOOTTIME: when the old one stopped answering; 0: it did not */
        usec_t deadline_usec;  /* BOOTTIME: of the step */
        ProbeDone probe_done;
        const char *wait_what;
        char *last_check;      /* words of the last bad check */
        usec_t elsewhere_usec; /* BOOTTIME: since when it listens on another port than it was told;
                                  0: it does not */
        bool fell_back;        /* the overlap was given up once */
        bool again;            /* the end of this step begins the stage's first one */
        char *old_web;         /* name of the old version's proxied process */
};

/* What watches the store while nothing runs, and between. */
typedef struct Watch {
        sd_event_source *timer;
        StoreCall *call;
        HelperTask *task;
        char *head_etag;
        char *desired_etag;
        char *envelope; /* the desired document that is being opened */
        size_t envelope_size;
        HeadDocument head;
        bool has_head;
        Backoff backoff;
        usec_t desired_usec; /* BOOTTIME of the last look at desired itself; 0: never */
        usec_t report_usec;  /* BOOTTIME of the last host document */
        char *reported;      /* its text without times: written again when it differs */
        bool ok;
        bool tested;            /* the store's self-test has passed */
        char *error;            /* sentence, while not ok */
        usec_t since_usec;      /* REALTIME */
        char *refused;          /* why the desired document is not acted on */
        usec_t refused_usec;    /* BOOTTIME: when that was found */
        usec_t not_before_usec; /* BOOTTIME: a failed attempt is not repeated earlier */
        Backoff retry;
} Watch;

/* The lane that is held, or is being taken. */
typedef struct Lease {
        StoreCall *call;
        sd_event_source *timer;
        unsigned lane;
        char *key;
        LaneDocument document; /* as it stands there, as far as is known */
        bool has_document;
        char *etag;
        LaneSeen seen;
        usec_t age_usec;      /* by the store's clock, at the last read */
        usec_t write_usec;    /* BOOTTIME: start of the last good write */
        usec_t pending_usec;  /* of the one under way */
        LaneDocument pending; /* what it writes */
        LaneWrite how;        /* of the one under way */
        bool held;
        usec_t deadline_usec; /* BOOTTIME: after which a person's command goes on without a lane; 0:
                                 none */
        void (*released)(void *userdata, int r, Error *err);
        void *userdata;
} Lease;

struct Pipeline {
        PipelineSpec spec;
        const Config *config;
        Store *store;
        State *state;
        Services *services;
        Deploy *deploy; /* the one that runs, or NULL */
        Watch watch;
        Lease lease;

        int state_fd; /* /var/lib/tendril */
        int versions_fd, incoming_fd, bundles_fd, slot_fd, records_fd, proxy_fd;

        sd_event_source *again; /* deferred: what ended is freed, the next thing begins */
        TreeTask *cleaner;      /* removes one folder at a time */
        TreeTask *mounter;      /* `current` at start */
        bool adopting;     /* services are being taken on: their records are written at the end */
        int adopt_failed;  /* the first failure of that, or 0 */
        HelperTask *check; /* asked by a person */
        void (*check_done)(void *userdata, unsigned status, usec_t took, const char *words);
        void *check_userdata;
        char *stopping; /* process that is to be started again when it has ended (`restart NAME`) */
        unsigned last_status; /* of the last check, 0: no answer */
        usec_t last_took_usec;
        char *cause;
};

/* The stages' steps. */
extern const Step lease_steps[], fetch_steps[], verify_steps[], extract_steps[], prepare_steps[],
        switch_steps[], gate_steps[], rollback_steps[], release_steps[];

/* The step has ended: r < 0 ends the stage with err (consumed). */
void deploy_step_ended(Deploy *d, int r, Error *err);

/* The stage has ended: the only function that changes d->stage. err is consumed. */
void deploy_stage_ended(Deploy *d, int r, Error *err);

/* Words for the operator: in the record, its log, the journal. */
void deploy_event(Deploy *d, const char *format, ...) _printf_(2, 3);
void deploy_tell(Deploy *d, int priority, const char *message_id, const char *format, ...)
        _printf_(4, 5);

/* Puts the state on disk. */
int pipeline_save(Pipeline *p, Error **reterr);
void pipeline_changed(Pipeline *p);

/* Times. */
usec_t pipeline_now(const Pipeline *p); /* BOOTTIME */
usec_t pipeline_realtime(const Pipeline *p);

/* A one-shot timer on BOOTTIME, replacing *source; freed by sd_event_source_disable_unref. */
int pipeline_timer(Pipeline *p, sd_event_source **source, usec_t in_usec,
                   sd_event_time_handler_t handler, void *userdata);

/* The step waits until the predicate is true (asked at once and at each event of a service), at
 * most so long: then -ETIMEDOUT with the words "<what> after <span>". Returns what begin() returns.
 */
int deploy_wait(Deploy *d, bool (*until)(Deploy *d), usec_t most_usec, const char *what,
                Error **reterr);

/* A service of the application or the proxy has changed. */
void deploy_on_service(Deploy *d);

/* Asks the target (or, on the way back, the version that ran before): up, the listener its own, the
 * answer good. done() ends it, later. */
int probe_ask(Deploy *d, const VersionState *v, ProbeDone done, Error **reterr);
int probe_effective(Deploy *d, Error **reterr);

/* Done callbacks that end the step with what came back. */
void deploy_on_tree(void *userdata, int r, Error *err);

/* Begins an attempt. target and bundle are taken (emptied). */
int deploy_begin(Pipeline *p, DeployKind kind, VersionState *target, BundleRef *bundle,
                 const char *path, Error **reterr);
int deploy_resume(Pipeline *p, Error **reterr);
Deploy *deploy_free(Deploy *d);

/* target's folder: versions/NAME (O_DIRECTORY), or one of its "app", "control". Negative errno. */
int version_open(Pipeline *p, const VersionState *v, const char *sub);
char *version_path(const Pipeline *p, const VersionState *v,
                   const char *sub); /* absolute; the caller frees */
int version_plan(Pipeline *p, const VersionState *v, Plan *ret, Error **reterr);

/* The processes of a version (launch.c). */
typedef enum LaunchWhich {
        LAUNCH_ALL,
        LAUNCH_WEB,
        LAUNCH_OTHERS,
} LaunchWhich;
int launch_start(Pipeline *p, const VersionState *v, const Plan *plan, LaunchWhich which,
                 Error **reterr);
void launch_stop(Pipeline *p, Slot slot, LaunchWhich which, const char *web);
size_t launch_count(Pipeline *p, Slot slot, LaunchWhich which, const char *web); /* in any state */
const char *launch_web(const Plan *plan); /* name of the proxied process, or NULL */
int launch_adopt(Pipeline *p, const VersionState *v,
                 Error **reterr); /* what runs is taken on, the rest started */
int launch_adopt_alive(Pipeline *p, const VersionState *v, Error **reterr); /* only what runs */
bool launch_is_alive(
        const ServiceRecord *record); /* the process that it names still runs; NULL: no */
int launch_adopt_one(Pipeline *p, const VersionState *v, const char *name, Error **reterr);
char **launch_env(const VersionState *v, const char *home, char *const *extra,
                  Error **reterr); /* whole environment; NULL: failed */
int launch_user(Pipeline *p, uid_t *ret_uid, gid_t *ret_gid, Error **reterr);
int launch_effective(Pipeline *p, Effective *ret, Error **reterr);

/* The proxy (front.c). Its text is made for a version and the slot it is in; the other slot is the
 * current version's. */
int front_stage(Deploy *d, Error **reterr); /* keeps the target's includes; d->proxy_text: what is
                                               to be tested, NULL: as installed */
int front_render(Pipeline *p, const VersionState *v, bool fixed_port, char **ret, Error **reterr);
int front_use(Pipeline *p, const VersionState *v, bool fixed_port, bool *ret_changed,
              Error **reterr);                /* installs where it differs; starts or reloads */
int front_adopt(Pipeline *p, Error **reterr); /* at start: the proxy runs again */

/* desired.c */
void watch_start(Pipeline *p);
void watch_stop(Pipeline *p);
void watch_forget(Pipeline *p); /* the desired document is read and opened again at the next look */
void watch_soon(Pipeline *p);   /* look again at once */
void watch_failed(Pipeline *p, bool retry,
                  usec_t least); /* an attempt has ended; retry: again, not before so long */
void watch_done(Watch *w);

/* lease.c */
void lease_drop(Pipeline *p);    /* forgets timers and calls; the lane runs out by itself */
bool lease_may_act(Pipeline *p); /* true without a store */
int lease_release(Deploy *d, LaneWrite how, void (*done)(void *userdata, int r, Error *err),
                  Error **reterr); /* 0: done() comes; STEP_DONE: none is held */

/* retention.c */
void retention_run(Pipeline *p);
