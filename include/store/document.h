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
        uint64_t format;
        char *id; /* label; stands in every desired document and in the configuration of each host
                   */
        char *created; /* RFC 3339 */
} StoreDocument;

typedef struct BundleRef {
        char *key;
        uint64_t size;
        char *sha256;
} BundleRef;

/* applications/<app>/versions/<label>/version.json */
typedef struct VersionDocument {
        uint64_t format;
        char *application;
        char *label;
        BundleRef bundle;
        char *created;
} VersionDocument;

typedef struct VersionRef {
        char *label; /* NULL: none (base of a first assignment) */
        char *sha256;
} VersionRef;

typedef struct SettingDocument {
        char *ns; /* written "namespace" */
        char *option;
        char *value;
} SettingDocument;

/* environments/<env>/desired.json */
typedef struct DesiredDocument {
        uint64_t format;
        char *store;
        char *environment;
        char *application;
        uint64_t revision; /* from 1, grows by one with each assignment */
        char *nonce;
        VersionRef target;
        VersionRef base;
        JsonArray settings; /* SettingDocument */
        char *created;
} DesiredDocument;

typedef enum HeadStatus {
        HEAD_RUN,
        HEAD_PAUSED,
        HEAD_ABORTED,
        HEAD_DONE,
        _HEAD_STATUS_MAX,
} HeadStatus;

typedef enum HeadFollow {
        HEAD_TARGET,
        HEAD_BASE,
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
        LANE_HELD,
        LANE_RELEASED,
        LANE_LEFT,
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
        uint64_t done, failed, lost;
} LaneDocument;

/* environments/<env>/g/<generation>/host/<id>.json: what became of this host */
typedef struct ResultDocument {
        uint64_t format;
        uint64_t revision;
        char *nonce;
        char *host;
        char *sha256;
        char *deploy; /* id */
        bool done;    /* false: failed */
        char *error;  /* sentence, where it failed */
} ResultDocument;

/* environments/<env>/hosts/<id>.json */
typedef struct HostDocument {
        uint64_t format;
        char *host;
        char *agent;   /* TENDRIL_VERSION */
        char *version; /* label served, or NULL */
        char *sha256;
        uint64_t revision;
        char *stage;
        char *health;  /* "ok", "failing", "unknown" */
        char *cause;   /* sentence or NULL */
        char *changed; /* RFC 3339: since when it is so */
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
