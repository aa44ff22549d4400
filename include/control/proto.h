#pragma once

/*
 * The words on the control socket: Varlink (varlink.org; NUL-terminated JSON objects over a stream
 * socket), one interface, io.tendril.Agent. One struct and one table for the parameters and for the
 * reply of each method; the same tables describe what the server encodes and what the client
 * decodes, and the interface description that introspection gives is made from CONTROL_DESCRIPTION.
 *
 * Reading is for root, main's own user and group `tendril`; what changes something is for root and
 * main's own user. Readers of the group see no output of hooks and no values of secrets.
 */

#include "agent/contract.h"
#include "base/json.h"
#include "base/time.h"
#include "deploy/record.h"
#include "net/credentials.h"
#include "net/s3.h"

typedef struct ControlVersion {
        char *label; /* NULL: none */
        char *sha256;
        uint64_t revision;
        char *slot;
        char *since;
} ControlVersion;

typedef struct ControlProcess {
        char *name;
        char *slot;
        char *state; /* "up", "waiting", "stopping" */
        uint64_t pid;
        uint64_t restarts;
        char *last_exit;
} ControlProcess;

typedef struct ControlQuarantine {
        uint64_t revision;
        char *label;
        char *sha256;
        char *why;
        char *since;
} ControlQuarantine;

typedef struct ControlDeploy {
        char *id; /* NULL: none runs */
        char *kind;
        char *label;
        char *stage;
        char *since;
        uint64_t percent; /* of the fetch; 0..100 */
} ControlDeploy;

/* Status, and each message of Monitor. */
typedef struct ControlStatus {
        char *agent; /* version of tendrild */
        char *host;
        char *environment;
        char *application;
        ControlVersion desired;
        ControlVersion current;
        ControlVersion previous;
        ControlDeploy deploy;
        bool hold;    /* a bundle was deployed by hand: assignments wait for `deploy --resume` */
        char *health; /* "ok", "failing", "unknown", "nothing deployed" */
        char *cause;  /* sentence, or NULL */
        char *store;  /* url */
        bool store_ok;
        char *store_error; /* sentence, or NULL */
        char *store_since;
        char *waiting;        /* what the agent waits for, a sentence */
        JsonArray processes;  /* ControlProcess */
        JsonArray quarantine; /* ControlQuarantine */
        char **warnings;      /* confinement that is lost, unsigned: true, ... */
} ControlStatus;

typedef struct ControlHealth {
        bool healthy;
        char *health;
        char *cause;
        uint64_t status; /* HTTP, 0: no answer */
        uint64_t took_ms;
} ControlHealth;

typedef struct ControlExplain {
        char **sentences;
} ControlExplain;

/* How the store is reached. For a store in a folder the last two are empty. */
typedef struct ControlStore {
        char *url; /* NULL: none is configured */
        bool remote;
        CredentialStatus credentials;
        S3Status store;
} ControlStore;

typedef struct ControlHistoryAsk {
        uint64_t limit; /* 0: all */
} ControlHistoryAsk;

typedef struct ControlHistory {
        JsonArray deploys; /* DeployRecord, newest first; hooks' tail empty for readers who may not
                              see it */
} ControlHistory;

typedef struct ControlDeployAsk {
        char *bundle;  /* absolute path of a file: deploy it and hold; */
        char *version; /* label to call it, or NULL: the file's name */
        bool retry;    /* lift the quarantine of what is desired and try again */
        bool resume;   /* end the hold */
} ControlDeployAsk;

typedef struct ControlStarted {
        char *deploy; /* id, or NULL: nothing to do */
        char *text;   /* sentence */
} ControlStarted;

typedef struct ControlRestartAsk {
        char *process; /* NULL: all */
} ControlRestartAsk;

typedef struct ControlText {
        char *text;
} ControlText;

typedef struct ControlWaitAsk {
        char *deploy; /* id: until it has ended; or */
        bool healthy; /* until what is desired runs and is well */
        usec_t timeout_usec;
} ControlWaitAsk;

typedef struct ControlWait {
        char *result; /* "done", "failed", "rolled-back", "retry", "healthy", "timeout" */
        char *text;
} ControlWait;

typedef struct ControlLogsAsk {
        char *deploy;    /* id or NULL: the newest */
        uint64_t offset; /* bytes to skip, to go on where the last reply ended */
} ControlLogsAsk;

typedef struct ControlLogs {
        char *deploy;
        char *text;      /* at most 1 MiB a reply */
        uint64_t offset; /* behind the text */
        bool more;       /* there is more now, or the deploy still runs */
} ControlLogs;

extern const JsonTable control_status_table, control_health_table, control_explain_table,
        control_store_table, control_history_ask_table, control_history_table,
        control_deploy_ask_table, control_started_table, control_restart_ask_table,
        control_text_table, control_wait_ask_table, control_wait_table, control_logs_ask_table,
        control_logs_table;

/* Errors of the interface: io.tendril.Agent.Refused{text}, .Failed{text}, .NothingToDo{text}; the
 * others are org.varlink.service's. */
#define CONTROL_ERROR_FAILED  CONTROL_INTERFACE ".Failed"
#define CONTROL_ERROR_REFUSED CONTROL_INTERFACE ".Refused"
#define CONTROL_ERROR_BUSY    CONTROL_INTERFACE ".Busy"

/* The interface in Varlink's own language, as GetInterfaceDescription gives it. */
extern const char control_description[];
