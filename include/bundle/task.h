#pragma once

/*
 * What may be asked of `tendril-bundle`: one method a run, over the call channel (loop/call.h). It
 * is the only program that reads what publishers wrote. It has no network, a user of its own, and
 * can write only below the folder that it is given.
 *
 * method      descriptors in          descriptors out   parameters → answer
 * verify      bundle                                    TaskVerify → TaskVerified
 * open        envelope                payload           TaskOpen → TaskOpened
 * sign        payload [, envelope]    envelope          TaskSign → {}
 * keygen                                                {} → TaskKeys
 * unpack      bundle, empty folder                      TaskUnpack → TaskUnpacked
 * plan        folder                  plan (JSON)       TaskPlan → {}
 *
 * Failures carry the helper's own sentence: -EBADMSG the input is not what it should be (hostile,
 * torn, other digest), -EKEYREJECTED no valid signature, -EFBIG over a limit, -ENOSPC, -ENOMEM.
 */

#include "base/json.h"

#define TASK_VERIFY "verify" /* a bundle's digest, by a process that did not fetch it */
#define TASK_OPEN   "open"   /* a DSSE envelope: signatures first, then the payload as it was */
#define TASK_SIGN   "sign"   /* payload → envelope */
#define TASK_KEYGEN "keygen" /* an Ed25519 pair */
#define TASK_UNPACK "unpack" /* an archive → a folder, synced before it answers */
#define TASK_PLAN   "plan"   /* what the unpacked bundle wants done: settings/plan.h */

/* Parameters and answers. Strings and arrays are each struct's own: json_table_done() frees them. A
 * private key is wiped by whoever made or decoded it. */

typedef struct TaskVerify {
        char *sha256;  /* expected, or NULL: only compute */
        uint64_t size; /* expected, where sha256 is given */
} TaskVerify;

/* What it has, whether or not something was expected. */
typedef struct TaskVerified {
        char *sha256;  /* 64 digits */
        uint64_t size; /* bytes */
} TaskVerified;

/* One trusted key. */
typedef struct TaskKey {
        char *id;      /* label */
        char *purpose; /* "publish" or "assign" */
        char *ends;    /* RFC 3339 or NULL: for ever */
        char *pem;     /* public key */
} TaskKey;

/* A payload comes out only where a signature counts: of a key of that purpose that has not ended.
 */
typedef struct TaskOpen {
        char *type;    /* DOCUMENT_TYPE_... (store/document.h) that the envelope must have */
        char *purpose; /* that the key must have */
        char *now;     /* RFC 3339, by the store's clock where it has one: decides whether a key has
                          ended */
        JsonArray keys;        /* TaskKey */
        bool unsigned_allowed; /* only looked at where there are no keys: configured keys bind */
} TaskOpen;

typedef struct TaskOpened {
        char *key_id; /* of the signature that counted, NULL where none was asked for */
} TaskOpened;

/* Signs with one key. The signatures of an envelope that is given as the second descriptor stay
 * beside it, for rotation. */
typedef struct TaskSign {
        char *type;        /* DOCUMENT_TYPE_... */
        char *key_id;      /* NULL with private_pem NULL: an envelope without signatures */
        char *private_pem; /* PKCS #8, without a password */
        bool replace;      /* an envelope was given: drop its signatures instead of adding one */
} TaskSign;

/* As `openssl genpkey -algorithm ED25519` and `openssl pkey -pubout` write them. */
typedef struct TaskKeys {
        char *private_pem;
        char *public_pem;
} TaskKeys;

/* The folder is empty and the helper's own. Main gives no limits of its own. */
typedef struct TaskUnpack {
        uint64_t max_entries; /* 0: LIMIT_ARCHIVE_ENTRIES */
        uint64_t max_bytes;   /* 0: LIMIT_ARCHIVE_TOTAL_BYTES */
        uint64_t threads;     /* 0: as many as there are processors, at most 8 */
} TaskUnpack;

typedef struct TaskUnpacked {
        uint64_t entries; /* files, folders and links */
        uint64_t bytes;   /* of regular files */
        char *format;     /* "zip", "jar" (kept whole as application.jar), "tar" */
} TaskUnpacked;

/* Reads Procfile, hooks and the like of an unpacked folder; changes nothing there. */
typedef struct TaskPlan {
        char *default_command; /* for a jar: the command of web, or NULL: java -jar application.jar
                                */
} TaskPlan;

extern const JsonTable task_verify_table, task_verified_table, task_open_table, task_opened_table,
        task_sign_table, task_keys_table, task_unpack_table, task_unpacked_table, task_plan_table,
        task_key_table;
