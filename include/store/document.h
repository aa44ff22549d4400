#pragma once

/*
 * The documents of the store, one struct and one table each. Every document carries `format`
 * (FORMAT_DOCUMENT; unknown fields are ignored within a format, a newer format is refused with
 * words: document_decode()), and, where it is written conditionally, a `nonce`: fresh random for
 * each attempt to write, so that a lost reply can be told from a lost race by reading back.
 *
 * VersionDocument and DesiredDocument are payloads of DSSE envelopes (bundle/task.h); the others
 * choose only between what a signed document names, and are plain JSON.
 */

#include "base/error.h"
#include "base/json.h"

/* DSSE payload types of the two signed documents. */
#define DOCUMENT_TYPE_VERSION "application/vnd.tendril.version+json"
#define DOCUMENT_TYPE_DESIRED "application/vnd.tendril.desired+json"

/* store.json: written once by `tendril init`. */
typedef struct StoreDocument {
        uint64_t format; /* FORMAT_DOCUMENT, as in all */
        char *id; /* label; stands in every desired document and in the configuration of each host
                   */
        char *created; /* RFC 3339 */
} StoreDocument;

/* Where a version's bundle is, and what it must be. */
typedef struct BundleRef {
        char *key;     /* of the store */
        uint64_t size; /* bytes, at most LIMIT_BUNDLE_BYTES */
        char *sha256;  /* 64 digits; checked by a process that did not fetch it */
} BundleRef;

/* applications/<app>/versions/<label>/version.json: signed to publish; written once */
typedef struct VersionDocument {
        uint64_t format;
        char *application; /* label */
        char *label;       /* of the version; the document's own place names both again */
        BundleRef bundle;
        char *created; /* RFC 3339, for people */
} VersionDocument;

/* A version by name and by content: a label alone decides nothing. */
typedef struct VersionRef {
        char *label;  /* NULL: none (base of a first assignment) */
        char *sha256; /* of the bundle */
} VersionRef;

/* One option setting, in Elastic Beanstalk's words. */
typedef struct SettingDocument {
        char *ns;     /* written "namespace" */
        char *option; /* name within it */
        char *value;  /* at most LIMIT_SETTING_VALUE_BYTES */
} SettingDocument;

/* environments/<env>/desired.json: signed to assign; what the environment is to run */
typedef struct DesiredDocument {
        uint64_t format;
        char *store;       /* id of store.json: one that was copied elsewhere is refused */
        char *environment; /* likewise one that was moved */
        char *application; /* of target and base */
        uint64_t revision; /* from 1, grows by one with each assignment */
        char *nonce;
        VersionRef target;  /* where to go */
        VersionRef base;    /* where a rollout that failed goes back to */
        JsonArray settings; /* SettingDocument, at most LIMIT_SETTINGS */
        char *created;
} DesiredDocument;

/* Is anybody to begin? Not signed: it chooses only between what desired.json names. */
typedef enum HeadStatus {
        HEAD_RUN,     /* whoever has a lane may */
        HEAD_PAUSED,  /* nobody, until it runs again */
        HEAD_ABORTED, /* nobody any more in this generation */
        HEAD_DONE,    /* every host has */
        _HEAD_STATUS_MAX,
} HeadStatus;

/* Which of the two versions. */
typedef enum HeadFollow {
        HEAD_TARGET,
        HEAD_BASE, /* the rollout goes back */
} HeadFollow;

/* environments/<env>/rollout.json: the one document that every host polls */
typedef struct HeadDocument {
        uint64_t format;
        uint64_t revision; /* of the desired document that it speaks of */
        char *nonce;
        char *generation; /* id; the folder of lanes and results */
        int status;       /* HeadStatus */
        int follow;       /* HeadFollow */
        uint64_t lanes;   /* K, at least 1 */
        uint64_t hosts;   /* N, as last counted; 0: unknown */
} HeadDocument;

typedef enum LaneState {
        LANE_HELD,     /* by its holder, as long as it renews */
        LANE_RELEASED, /* free: a tombstone, never deleted */
        LANE_LEFT,     /* free: its holder was shut down */
        _LANE_STATE_MAX,
} LaneState;

/* environments/<env>/g/<generation>/lane/<k>.json: lease and counters */
typedef struct LaneDocument {
        uint64_t format;
        uint64_t revision;
        char *nonce;
        uint64_t epoch; /* grows with each holder */
        int state;      /* LaneState */
        char *holder;   /* host id */
        char *step;     /* stage of the holder's deploy */
        uint64_t done, failed,
                lost; /* hosts that went through it: well, badly, never heard of again */
} LaneDocument;

/* environments/<env>/g/<generation>/host/<id>.json: what became of this host */
typedef struct ResultDocument {
        uint64_t format;
        uint64_t revision;
        char *nonce;
        char *host;   /* id */
        char *sha256; /* of the version that was tried */
        char *deploy; /* id */
        bool done;    /* false: failed */
        char *error;  /* sentence, where it failed */
} ResultDocument;

/* environments/<env>/hosts/<id>.json */
typedef struct HostDocument {
        uint64_t format;
        char *host;        /* id */
        char *agent;       /* TENDRIL_VERSION */
        char *version;     /* label served, or NULL */
        char *sha256;      /* of it */
        uint64_t revision; /* the highest that it has accepted */
        char *stage;       /* of the deploy that runs; "desired": at rest */
        char *health;      /* "ok", "failing", "unknown" */
        char *cause;       /* sentence or NULL */
        char *changed;     /* RFC 3339: since when it is so */
} HostDocument;

extern const JsonTable store_document_table, version_document_table, desired_document_table,
        head_document_table, lane_document_table, result_document_table, host_document_table,
        setting_document_table;

/* Text → struct, with the format checked. name stands in the words. -EBADMSG; -EPROTONOSUPPORT: a
 * newer format. */
int document_decode(const char *name, const char *text, size_t size, const JsonTable *table,
                    void *ret, Error **reterr);

/* A fresh nonce, 32 hexadecimal digits; the caller frees. NULL: no memory. */
char *document_nonce(void);
