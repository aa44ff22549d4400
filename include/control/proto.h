#pragma once

/*
 * The words on the control socket: Varlink (varlink.org; NUL-terminated JSON objects over a stream
 * socket), one interface, io.tendril.Agent. One struct and one table for the parameters and for the
 * reply of each method; the same tables describe what the server encodes and what the client
 * decodes, and the interface description that introspection gives is made from CONTROL_DESCRIPTION.
 *
 * Reading is for root, main's own user and group `tendril`; what changes something is for root and
 * main's own user. Readers of the group see no output of hooks and no values of secrets.
 *
 * Strings and arrays are each struct's own: json_table_done() with its table frees them. Times of
 * day are RFC 3339 in UTC, for people; a NULL string is one that there is nothing to say in. Fields
 * may be added: clients ignore those that they do not know.
 *
 * Source: varlink.org (Ideals, Interface Definition, Method Call, Service).
 */

#include "agent/contract.h"
#include "base/json.h"
#include "base/time.h"
#include "deploy/record.h"
#include "net/credentials.h"
#include "net/s3.h"

/* A version on this host, or the one that is wanted. */
typedef struct ControlVersion {
        char *label;       /* NULL: none */
        char *sha256;      /* of its bundle */
        uint64_t revision; /* of the assignment; 0: deployed by hand */
        char *slot;        /* "a" or "b"; NULL: it does not run */
        char *since;       /* served, or wanted, since */
} ControlVersion;

/* One process of the application, or the proxy. */
typedef struct ControlProcess {
        char *name;        /* of the Procfile; "proxy" */
        char *slot;        /* NULL: of none, as the proxy */
        char *state;       /* "up", "waiting", "stopping" */
        uint64_t pid;      /* 0: none runs now */
        uint64_t restarts; /* by itself, since it was started for this version */
        char *last_exit;   /* how it ended last, in words; NULL: never */
} ControlProcess;

/* What failed here for good, and waits for a new assignment or `deploy --retry`. */
typedef struct ControlQuarantine {
        uint64_t revision;
        char *label;
        char *sha256;
        char *why;   /* sentence */
        char *since; /* it is quarantined since */
} ControlQuarantine;

/* The attempt that is under way. */
typedef struct ControlDeploy {
        char *id;         /* NULL: none runs */
        char *kind;       /* deploy_kind_names */
        char *label;      /* of the version that it brings */
        char *stage;      /* the one that runs */
        char *since;      /* it began */
        uint64_t percent; /* of the fetch; 0..100 */
} ControlDeploy;

/* Status, and each message of Monitor. */
typedef struct ControlStatus {
        char *agent;             /* version of tendrild */
        char *host;              /* id */
        char *environment;       /* NULL: not told yet */
        char *application;       /* of what runs, else of what is wanted */
        ControlVersion desired;  /* by the newest assignment that was accepted */
        ControlVersion current;  /* what is served */
        ControlVersion previous; /* where `rollback` goes */
        ControlDeploy deploy;
        bool hold;     /* a bundle was deployed by hand: assignments wait for `deploy --resume` */
        char *health;  /* "ok", "failing", "unknown", "nothing deployed" */
        char *cause;   /* sentence, or NULL */
        char *store;   /* url */
        bool store_ok; /* it answered when it was asked last */
        char *store_error;    /* sentence, or NULL; also why an assignment is refused */
        char *store_since;    /* it answers, or does not, since */
        char *waiting;        /* what the agent waits for, a sentence */
        JsonArray processes;  /* ControlProcess */
        JsonArray quarantine; /* ControlQuarantine */
        char **warnings;      /* confinement that is lost, unsigned: true, ... */
} ControlStatus;

/* One check, made now. */
typedef struct ControlHealth {
        bool healthy;    /* the processes are up, and the answer was a good one */
        char *health;    /* as in status */
        char *cause;     /* sentence; NULL where it is healthy */
        uint64_t status; /* HTTP, 0: no answer */
        uint64_t took_ms;
} ControlHealth;

/* Why the host is as it is. */
typedef struct ControlExplain {
        char **sentences; /* NULL-terminated, in the order to read them */
} ControlExplain;

/* How the store is reached. For a store in a folder the last two are empty. */
typedef struct ControlStore {
        char *url; /* NULL: none is configured */
        bool remote;
        CredentialStatus credentials;
        S3Status store;
} ControlStore;

/* Deploys, newest first; at most LIMIT_RECORDS are kept. */
typedef struct ControlHistoryAsk {
        uint64_t limit; /* 0: all */
} ControlHistoryAsk;

typedef struct ControlHistory {
        JsonArray deploys; /* DeployRecord, newest first; hooks' tail empty for readers who may not
                              see it */
} ControlHistory;

/* Exactly one of bundle, retry, resume. */
typedef struct ControlDeployAsk {
        char *bundle;  /* absolute path of a file: deploy it and hold; */
        char *version; /* label to call it, or NULL: the file's name */
        bool retry;    /* lift the quarantine of what is desired and try again */
        bool resume;   /* end the hold */
} ControlDeployAsk;

/* What a change began. */
typedef struct ControlStarted {
        char *deploy; /* id, or NULL: nothing to do */
        char *text;   /* sentence */
} ControlStarted;

/* One process is stopped and started again; all of them are a deploy of the same version. */
typedef struct ControlRestartAsk {
        char *process; /* its name in status; NULL: all */
} ControlRestartAsk;

/* A change that is done when it is answered. */
typedef struct ControlText {
        char *text; /* sentence */
} ControlText;

/* Exactly one of deploy and healthy. Answered when it is so, or the time has run out. */
typedef struct ControlWaitAsk {
        char *deploy;        /* id: until it has ended; or */
        bool healthy;        /* until what is desired runs and is well */
        usec_t timeout_usec; /* 0: 10 minutes */
} ControlWaitAsk;

typedef struct ControlWait {
        char *result; /* "done", "failed", "rolled-back", "retry", "healthy", "timeout" */
        char *text;   /* sentence */
} ControlWait;

/* What the stages and hooks of one deploy wrote, in pieces. Needs the right to change, as it is
 * output of hooks. */
typedef struct ControlLogsAsk {
        char *deploy;    /* id or NULL: the newest */
        uint64_t offset; /* bytes to skip, to go on where the last reply ended */
} ControlLogsAsk;

typedef struct ControlLogs {
        char *deploy;    /* id of the one that was meant */
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
