#pragma once

/*
 * What became of one deploy: a JSON file each in /var/lib/tendril/deploys/ID.json (at most
 * LIMIT_RECORDS, oldest removed), and its log, /var/log/tendril/deploys/ID.log (at most
 * LIMIT_DEPLOY_LOG_BYTES). Records are written at each change of stage, so that one that was cut
 * off by a crash is there too, with the outcome "running".
 */

#include "base/error.h"
#include "base/json.h"
#include "base/time.h"
#include "service/hook.h"

typedef enum DeployKind {
        DEPLOY_ASSIGNED,       /* the environment wants it */
        DEPLOY_ROLLBACK_ASKED, /* `tendril rollback` */
        DEPLOY_BUNDLE,         /* `tendril deploy --bundle` */
        DEPLOY_SETTINGS,       /* same version, other settings */
        DEPLOY_RESTART,        /* `tendril restart`: the same version again, side by side */
        _DEPLOY_KIND_MAX,
} DeployKind;
extern const char
        *const deploy_kind_names[]; /* "assigned", "rollback", "bundle", "settings", "restart" */

typedef enum DeployOutcome {
        OUTCOME_RUNNING,     /* also of one that a crash cut off and nobody has taken up yet */
        OUTCOME_DONE,        /* its gate answered: the version is the current one */
        OUTCOME_FAILED,      /* before the switch: what ran went on running */
        OUTCOME_ROLLED_BACK, /* after it: what ran before runs again */
        OUTCOME_RETRY,       /* a hook asked to try again later, or it was cut off before it changed
                                anything */
        _DEPLOY_OUTCOME_MAX,
} DeployOutcome;
extern const char
        *const deploy_outcome_names[]; /* "running", "done", "failed", "rolled-back", "retry" */

/* One stage that has ended, in the order of their ends. */
typedef struct StageRecord {
        char *name;       /* as deploy_stage_name() */
        uint64_t took_ms; /* of BOOTTIME */
} StageRecord;

/* A sentence for people: what was decided and why, what a hook said. */
typedef struct EventRecord {
        char *time; /* RFC 3339 */
        char *text; /* printable; secrets masked */
} EventRecord;

/* The whole of it. Strings and arrays are the struct's: json_table_done() frees them. Times of day
 * are RFC 3339 in UTC, for people. */
typedef struct DeployRecord {
        uint64_t format;   /* FORMAT_DOCUMENT */
        char *id;          /* YYYYMMDDTHHMMSSZ-8hex */
        int kind;          /* DeployKind */
        char *application; /* label; NULL: a bundle by hand on a fresh host */
        char *label;       /* of the version */
        char *sha256;      /* of its bundle; NULL until it is known */
        uint64_t revision; /* of the assignment; 0: nobody assigned it */
        char *previous;    /* label that ran before, or NULL */
        char *started;     /* time */
        char *ended;       /* time; NULL while it runs */
        uint64_t took_ms;  /* since it began, or was taken up after a restart; BOOTTIME */
        int outcome;       /* DeployOutcome */
        char *stage;       /* the one that runs, or in which it failed */
        char *error;       /* sentence, or NULL */
        char *overlap;     /* "web", "all", "none" */
        char *overlap_why; /* sentence: why it is that */
        uint64_t gap_ms;   /* how long nobody answered, where there was no overlap */
        JsonArray stages;  /* StageRecord */
        JsonArray hooks;   /* HookRecord */
        JsonArray events;  /* EventRecord, at most 200 */
} DeployRecord;
extern const JsonTable deploy_record_table;

/* Durable when it returns. dir_fd: deploys/. Removes the oldest beyond LIMIT_RECORDS. */
int record_write(int dir_fd, const DeployRecord *record, Error **reterr);

/* -ENOENT, -EBADMSG. */
int record_read(int dir_fd, const char *id, DeployRecord *ret, Error **reterr);

/* Ids, newest first; the caller frees the list. */
int record_list(int dir_fd, char ***ret);

/* Adds an event with the present time; beyond the maximum it is dropped. */
void record_event(DeployRecord *record, usec_t realtime, const char *format, ...) _printf_(3, 4);

/* The log of a deploy: opened (appending) and written a line at a time, cut at its maximum with a
 * sentence. */
int record_log_open(const char *log_dir, const char *id);
void record_log_line(int fd, usec_t realtime, const char *source, const char *line);
