#pragma once

/*
 * tendril.yaml: what this host is told by root. Made of the file, its drop-ins in name order (later
 * ones replace single values; lists are replaced whole), and the environment (TENDRIL_<PATH>, e.g.
 * TENDRIL_STORE_URL for store.url), in this order of growing weight. Strict: an unknown key, a
 * wrong type or a value out of range is an error with file, line, key and what is allowed. A host
 * without a file has an empty configuration and waits to be told.
 *
 * A Config is read-only. Reload builds a new one beside the old and swaps the pointer, or refuses
 * it whole.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/time.h"
#include "host/paths.h"

typedef enum Overlap {
        OVERLAP_WEB, /* the proxied process runs in both slots for a moment; all others stop before
                        their successors start */
        OVERLAP_ALL,
        OVERLAP_NONE, /* stop, switch, start */
        _OVERLAP_MAX,
} Overlap;
extern const char *const overlap_names[];

/* What stands in front of the application and turns from one version to the next. */
typedef enum ProxyKind {
        PROXY_NGINX, /* ours, with a configuration of its own */
        PROXY_NONE,  /* nobody: clients ask the ports of the slots */
        _PROXY_KIND_MAX,
} ProxyKind;

/* Whose signature counts. The documents of the store are signed with the private half. */
typedef struct ConfigKey {
        char *id;    /* as the signature names it */
        int purpose; /* 0 publish, 1 assign */
        char *pem;   /* public key, or */
        char *file;  /* its path */
        char *ends;  /* RFC 3339 or NULL */
} ConfigKey;

/* Where this host's id, and its environment, come from where the configuration does not say. */
typedef enum IdentitySource {
        IDENTITY_AUTO, /* a store in S3: the instance metadata service, and where that does not
                          answer the host's name; a folder: the host's name */
        IDENTITY_IMDS, /* the service, however long it takes; nothing is deployed before */
        IDENTITY_NAME, /* the host's name */
        _IDENTITY_SOURCE_MAX,
} IdentitySource;

typedef struct ConfigIdentity {
        int source; /* IdentitySource */
        char *tag;  /* key of the instance tag that names the environment: "tendril:environment" */
} ConfigIdentity;

typedef struct ConfigStore {
        char *url;      /* "file:///FOLDER" or "s3://BUCKET/PREFIX" */
        char *region;   /* of the bucket; NULL: the environment's or the instance's */
        char *endpoint; /* "https://HOST[:PORT]" in place of the region's, or NULL */
        char *ca_file;  /* certificates that the server is checked with, or NULL: the system's */
        bool path_style, virtual_host; /* where the bucket's name stands; neither: as fits */
        bool dualstack, fips;
        char *id;         /* of store.json; a desired document of another store is refused */
        bool unsigned_ok; /* written "unsigned" */
} ConfigStore;

/* The application: its user, ports, and how long it may take for what. */
typedef struct ConfigApp {
        char *user;           /* "webapp" */
        uint64_t port;        /* the usual one: 5000 */
        uint64_t slot_port_a; /* where the version of slot a listens (PORT): 61001 */
        uint64_t slot_port_b; /* likewise: 61002 */
        int overlap;          /* Overlap */
        usec_t start_usec;    /* for a new version to listen and answer: 60 s */
        usec_t stop_usec;     /* TERM → KILL: 20 s */
        usec_t drain_usec;    /* for old requests to end: 30 s */
        uint64_t log_bytes;   /* of the log of one process, before it is rotated: 10 MiB */
        JsonMap environment;  /* environment properties of this host; assigned ones win */
} ConfigApp;

/* The health check that ends a deploy. */
typedef struct ConfigGate {
        char *path;           /* "/" */
        char *status;         /* "200-399": ranges and numbers, comma separated */
        uint64_t consecutive; /* 3 */
        usec_t interval_usec; /* 1 s */
        usec_t check_usec;    /* of one check: 5 s */
        usec_t timeout_usec;  /* of the gate: 300 s */
} ConfigGate;

/* Read where proxy.kind is not none. */
typedef struct ConfigProxy {
        int kind;                /* ProxyKind */
        uint64_t port;           /* 80 */
        char *program;           /* /usr/sbin/nginx */
        char *user;              /* of its workers; NULL: www-data or nginx, whichever there is */
        uint64_t max_body_bytes; /* of a request; 0: as nginx has it */
} ConfigProxy;

/* How long hooks may take, of the host and of versions alike. */
typedef struct ConfigHooks {
        usec_t timeout_usec; /* of each: 600 s */
        usec_t kill_usec;    /* TERM → KILL: 10 s */
        usec_t retry_usec;   /* before a deploy that asked for it is tried again: 60 s */
} ConfigHooks;

/* What stays on disk. The version that runs and the one to go back to always do. */
typedef struct ConfigRetention {
        uint64_t versions; /* on disk, beside the running one: 3 */
        uint64_t bytes;    /* of all of them; 0: no limit */
} ConfigRetention;

/* All of it. Strings, arrays and maps are the struct's own. */
typedef struct Config {
        char *environment; /* NULL: not told yet */
        char *host;        /* id; NULL: as identity says */
        char *instance;    /* name of this agent among others on one machine: "main" */
        ConfigIdentity identity;
        ConfigStore store;
        JsonArray trusted_keys; /* ConfigKey */
        uint64_t min_revision;  /* a host that has seen none refuses lower ones: 0 */
        usec_t poll_usec;       /* at least: 5 s */
        ConfigApp app;
        ConfigGate gate;
        ConfigProxy proxy;
        ConfigHooks hooks;
        ConfigRetention retention;
        JsonMap sources; /* where each value came from, by path; for config_visit() */
} Config;

extern const JsonTable config_table;

/* env: the process's environment (TENDRIL_...), or NULL for none. -EBADMSG with file and line;
 * others from the system. */
int config_load(const Paths *paths, char *const *env, Config **ret, Error **reterr);

/* The same from one text, without drop-ins and environment; name stands in the words. */
int config_parse(const char *text, size_t size, const char *name, Config **ret, Error **reterr);
Config *config_free(Config *config);
DEFINE_CLEANUP(Config, config_free);

/* Calls for each value in the order of the table: its path ("gate.path"), the value as text
 * (secrets as "***"), and where it came from ("default",
 * "/etc/tendril/tendril.yaml:12", "TENDRIL_GATE_PATH"). Returns what the callback returned if
 * negative. */
typedef int (*ConfigVisit)(void *userdata, const char *path, const char *value, const char *source);
int config_visit(const Config *config, ConfigVisit visit, void *userdata);

/* The environment of this host where the configuration names none: told by somebody else (an
 * instance tag, user data). source is for people, as in config_source(). -ENOMEM. */
int config_set_environment(Config *config, const char *environment, const char *source);

/* Where the value at this path was written ("/etc/tendril/tendril.yaml:12"), "default" where it was
 * not. Borrowed. */
const char *config_source(const Config *config, const char *path);

/* True where the name of an environment property says that its value is not to be shown: it
 * contains PASSWORD, SECRET, TOKEN, KEY or CREDENTIAL, in any case. */
bool config_name_is_secret(const char *name);

/* [A-Za-z_][A-Za-z0-9_]*: what a shell takes as the name of a variable. */
bool config_name_is_valid(const char *name);

/* True where status is in "200-399,404". config_status_valid() says whether such a text is well
 * formed. */
bool config_status_matches(const char *ranges, unsigned status);
bool config_status_valid(const char *ranges);
