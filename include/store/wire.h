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

/* The greeting. Strings are the struct's; NULL where nothing was said. What it means is
 * host/config.h's ConfigStore. */
typedef struct WireOpen {
        char *url;          /* "s3://bucket/prefix" */
        char *region;       /* NULL: environment, IMDS */
        char *endpoint;     /* "https://host[:port]" in place of the region's */
        char *ca_file;      /* absolute path; opened by the helper, as its own user */
        char *identity_tag; /* key of the instance tag that names the environment */
        bool path_style, virtual_host, dualstack, fips; /* of net/endpoint.h's EndpointSpec */
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

/* The same greeting: a process that had the one need not be told the other. */
bool wire_open_equal(const WireOpen *a, const WireOpen *b);

/* Parameters of the five calls; each uses those members that its line above names. */
typedef struct WireAsk {
        char *key;          /* or prefix; checked again by whoever serves it */
        char *etag;         /* get: If-None-Match; put and delete: the condition; fetch: If-Match */
        char *start_after;  /* list: keys behind this one; NULL: from the first */
        uint64_t condition; /* StoreCondition */
        uint64_t number;    /* by which WIRE_CANCEL knows it; 0: it will not be cancelled */
        bool has_map, has_progress; /* which of the optional descriptors are there */
} WireAsk;
extern const JsonTable wire_ask_table;

typedef struct WireCancel {
        uint64_t number; /* WireAsk's */
} WireCancel;
extern const JsonTable wire_cancel_table;

/* The progress descriptor is a memory file of this struct, which the helper overwrites. */
typedef struct WireProgress {
        uint64_t n_bytes; /* so far; never falls */
        uint64_t size;    /* of all; 0: not known yet */
} WireProgress;

/* StoreReply (store/store.h) as it travels. What a helper says is believed only within the bounds
 * of store/remote.h. */
typedef struct WireAnswer {
        uint64_t answer;  /* 0 or StoreAnswer; what is broken is an error of the call */
        char *etag;       /* at most 128 bytes; NULL: none */
        bool has_age;     /* false: USEC_INFINITY, unknown */
        usec_t age_usec;  /* since the last change, by the store's clock */
        usec_t date_usec; /* the store's clock, REALTIME; 0: it has none */
        uint64_t size;    /* fetch: of the whole object, bytes */
        bool more;        /* list: there are keys behind the last one */
} WireAnswer;
extern const JsonTable wire_answer_table;

/* One page of a list, as JSON in a memory file: 1,000 keys do not fit in a packet. */
typedef struct WireList {
        JsonArray entries; /* StoreEntry, at most LIMIT_LIST_KEYS, in byte order of the keys */
} WireList;
extern const JsonTable wire_list_table;
