#pragma once

/*
 * The pipeline: brings this host to the version that its environment wants. One table of stages
 * (stages[] in deploy.c), one function that changes the stage (deploy_stage_ended()), which puts
 * the next one on disk before it begins it.
 *
 *     desired → lease → fetch → verify → extract → prepare → switch → gate → release → desired
 *                 └──────┴────────┴─────────┴──────────┴── failure: release ┘     │
 *                                                              switch, gate: failure: rollback →
 * release
 *
 * `desired` is the resting stage: it polls the head. Everything from `lease` on is one Deploy, one
 * attempt, which owns all that belongs to it. A restart resumes at the stage that is on disk.
 *
 * The pipeline asks nobody by name: helpers, store and services are given to it.
 */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/time.h"
#include "deploy/record.h"
#include "deploy/state.h"
#include "host/config.h"
#include "host/paths.h"
#include "service/service.h"
#include "store/store.h"

typedef enum DeployStage {
        DEPLOY_DESIRED,
        DEPLOY_LEASE,
        DEPLOY_FETCH,
        DEPLOY_VERIFY,
        DEPLOY_EXTRACT,
        DEPLOY_PREPARE,
        DEPLOY_SWITCH,
        DEPLOY_GATE,
        DEPLOY_ROLLBACK,
        DEPLOY_RELEASE,
        _DEPLOY_STAGE_MAX,
        _DEPLOY_STAGE_INVALID = -22,
} DeployStage;

const char *deploy_stage_name(DeployStage stage);
DeployStage deploy_stage_from_name(const char *name); /* _DEPLOY_STAGE_INVALID */

/* The table's decision, pure: what comes after a stage that ended so. */
DeployStage deploy_next(DeployStage stage, bool success);

/* What the pipeline needs of helpers; agent.c fills it. Each call ends with done() exactly once,
 * from the loop, when the helper that did it can do no more (bundle tasks: it and all its children
 * have ended), unless cancelled. */
typedef struct HelperResult {
        const char *text; /* open: payload; plan: the plan */
        size_t text_size;
        const char *sha256; /* verify */
        uint64_t size;
        unsigned status; /* check: HTTP status */
        usec_t took_usec;
} HelperResult;

typedef struct HelperTask HelperTask;
typedef void (*HelperDone)(void *userdata, int r, const HelperResult *result, Error *err);

typedef struct DeployHelpers {
        /* tendril-bundle. sha256 NULL: only compute. fds are duplicated. */
        int (*verify)(void *userdata, int fd, const char *sha256, uint64_t size, HelperDone done,
                      void *done_userdata, HelperTask **ret);
        int (*open)(void *userdata, const char *envelope, size_t size, const char *type,
                    const char *purpose, usec_t store_date, HelperDone done, void *done_userdata,
                    HelperTask **ret);
        int (*unpack)(void *userdata, int fd, int dir_fd, HelperDone done, void *done_userdata,
                      HelperTask **ret);
        int (*plan)(void *userdata, int dir_fd, HelperDone done, void *done_userdata,
                    HelperTask **ret);
        /* tendril-net */
        int (*check)(void *userdata, uint16_t port, const char *path, usec_t timeout,
                     HelperDone done, void *done_userdata, HelperTask **ret);
        HelperTask *(*cancel)(HelperTask *task); /* takes NULL, returns NULL */
        /* Whose folder an archive is unpacked into. */
        uid_t bundle_uid;
        gid_t bundle_gid;
        void *userdata;
} DeployHelpers;

typedef struct Pipeline Pipeline;

typedef struct PipelineSpec {
        sd_event *loop;
        const Paths *paths;
        const Config *config; /* borrowed; pipeline_set_config() swaps it */
        Store *store;         /* NULL: none configured: only local bundles */
        const char *host;
        int tree_fd; /* program tendril-tree */
        bool view;   /* application views are possible here */
        DeployHelpers helpers;
        const Clock *clock;
        void (*on_change)(void *userdata); /* something that status shows has changed */
        void (*on_reboot)(
                void *userdata); /* a hook asked for a reboot; the deploy waits for the next boot */
        void *userdata;
} PipelineSpec;

/* Loads the state (made beside it where there is none), opens the folders, and starts or takes on
 * what shall run: current version first, before the store is asked; then resumes what was under
 * way. */
int pipeline_new(const PipelineSpec *spec, Pipeline **ret, Error **reterr);

/* A reload. The new one is borrowed; store may be the same. */
void pipeline_set_config(Pipeline *pipeline, const Config *config, Store *store);

/* The configured store cannot even be opened: told as its silence is, until pipeline_set_config()
 * brings one. */
void pipeline_store_failed(Pipeline *pipeline, const char *words);

/* The host's id, learned late; only while nothing was asked of a store. Borrowed as in
 * PipelineSpec, and the old one is not used any more when this returns. */
void pipeline_set_host(Pipeline *pipeline, const char *host);

/* Commands. 0 with *ret_id (borrowed, may be NULL), -EBUSY: a deploy runs; -EINVAL, -ENOENT with
 * words. */
int pipeline_deploy_bundle(Pipeline *pipeline, const char *path, const char *label,
                           const char **ret_id, Error **reterr);
int pipeline_rollback(Pipeline *pipeline, const char **ret_id, Error **reterr);
int pipeline_retry(Pipeline *pipeline, const char **ret_text, Error **reterr);
int pipeline_resume(Pipeline *pipeline, const char **ret_text, Error **reterr);
/* process NULL or the proxied one: the same version once more, side by side (a deploy); another
 * one: stopped and started in its place. */
int pipeline_restart(Pipeline *pipeline, const char *process, const char **ret_id, Error **reterr);

/* Asks the application now; done() once, from the loop. status 0: no answer, words say why. -EBUSY,
 * -ENOENT. */
int pipeline_check(Pipeline *pipeline,
                   void (*done)(void *userdata, unsigned status, usec_t took, const char *words),
                   void *userdata, Error **reterr);
bool pipeline_status_is_good(Pipeline *pipeline, unsigned status);

/* What is so now; borrowed, valid until the loop goes on. */
typedef struct PipelineStatus {
        const State *state;
        DeployStage stage;
        const DeployRecord *record; /* of the deploy that runs, or NULL */
        unsigned percent;
        bool store_ok;
        const char *store_error; /* or NULL */
        usec_t store_since;      /* REALTIME */
        const char *refused;     /* why the desired document is not acted on, or NULL */
        const char *waiting;     /* sentence */
        const Services *services;
        const char *health;   /* "ok", "failing", "unknown", "nothing deployed" */
        const char *cause;    /* or NULL */
        unsigned last_status; /* of the last check */
        usec_t last_took_usec;
} PipelineStatus;
void pipeline_status(Pipeline *pipeline, PipelineStatus *ret);

/* Descriptors of the folders for readers: deploys/ (records). */
int pipeline_records_fd(Pipeline *pipeline);

/* True where stopping now loses nothing: no stage is in the middle of what must be ended first. */
bool pipeline_may_stop(const Pipeline *pipeline);

/* Ends: cancels what is under way (it is resumed at the next start); the application goes on. Takes
 * NULL. */
Pipeline *pipeline_free(Pipeline *pipeline);
DEFINE_CLEANUP(Pipeline, pipeline_free);
