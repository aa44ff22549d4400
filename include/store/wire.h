#pragma once

/*
 * How the store is asked for over a call channel (loop/call.h): store/remote.h asks, tendril-net
 * answers (net/server.h). Bodies, bundles and lists travel by descriptor, never in the packet.
 *
 * "store.open" is the greeting: which store, and the environment that its credentials come from. It
 * travels in a packet, so that no secret stands in a process's environment or arguments.
 */

#include "base/json.h"
#include "host/config.h"
#include "store/store.h"

#define WIRE_OPEN "store.open" /* WireOpen → {} */
#define WIRE_GET  "store.get"  /* WireAsk{key, etag} → WireAnswer, fd 0: body (r 0) */
#define WIRE_PUT                                                                                   \
        "store.put" /* WireAsk{key, condition, etag, has_progress} + fd 0: body, [fd 1: progress]  \
                       → WireAnswer */
#define WIRE_LIST                                                                                  \
        "store.list" /* WireAsk{key: prefix, start_after} → WireAnswer, fd 0: WireList as JSON */
#define WIRE_DELETE "store.delete" /* WireAsk{key, etag} → WireAnswer */
#define WIRE_FETCH                                                                                 \
        "store.fetch" /* WireAsk{key, etag, has_map, has_progress} + fd 0: file, [map], [progress] \
                         → WireAnswer */
#define WIRE_CANCEL                                                                                  \
        "store.cancel" /* WireCancel → {}: the call of that number is dropped, and its descriptors \
                          are let go; unknown ones are ignored */
#define WIRE_STATUS                                                                                \
        "store.status" /* {} → {}, fd 0: JSON, {credentials: CredentialStatus, store: S3Status} */

/* Variables that go into WireOpen where the asking process has them: AWS_* of the credential chain,
 * AWS_REGION, AWS_DEFAULT_REGION, HOME, proxies, certificates. A NULL-terminated list. */
extern const char *const wire_environment[];

typedef struct WireOpen {
        char *url;
        char *region; /* NULL: environment, IMDS */
        char *endpoint;
        char *ca_file;
        char *identity_tag;
        bool path_style, virtual_host, dualstack, fips;
        char **environment; /* "NAME=value"; wiped when freed by wire_open_done() */
} WireOpen;
extern const JsonTable wire_open_table;
void wire_open_done(WireOpen *open);

/* Fills environment from a process's own, by the list above; an empty variable counts as none.
 * -ENOMEM; -E2BIG: one of them is longer than LIMIT_STRING_BYTES; -EINVAL: one is not UTF-8. */
int wire_open_take_environment(WireOpen *open, char *const *variables);

/* The greeting for the store of a configuration, or of url where that is another one (then only the
 * environment counts: AWS_ENDPOINT_URL_S3, else AWS_ENDPOINT_URL). config may be NULL. *ret must be
 * all zero. -ENOMEM. */
int wire_open_fill(WireOpen *ret, const Config *config, const char *url, char *const *environment);

bool wire_open_equal(const WireOpen *a, const WireOpen *b);

typedef struct WireAsk {
        char *key;
        char *etag;
        char *start_after;
        uint64_t condition; /* StoreCondition */
        uint64_t number;    /* by which WIRE_CANCEL knows it; 0: it will not be cancelled */
        bool has_map, has_progress;
} WireAsk;
extern const JsonTable wire_ask_table;

typedef struct WireCancel {
        uint64_t number;
} WireCancel;
extern const JsonTable wire_cancel_table;

/* The progress descriptor is a memory file of this struct, which the helper overwrites. */
typedef struct WireProgress {
        uint64_t n_bytes;
        uint64_t size;
} WireProgress;

typedef struct WireAnswer {
        uint64_t answer; /* 0 or StoreAnswer; what is broken is an error of the call */
        char *etag;
        bool has_age;
        usec_t age_usec;
        usec_t date_usec;
        uint64_t size;
        bool more;
} WireAnswer;
extern const JsonTable wire_answer_table;

typedef struct WireList {
        JsonArray entries; /* StoreEntry */
} WireList;
extern const JsonTable wire_list_table;
