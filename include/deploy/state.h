#pragma once

/*
 * What survives a restart, a crash and a power cut: /var/lib/tendril/state.json. Replaced
 * atomically and durably, with a checksum; its predecessor stays beside it as state.json.previous.
 *
 *     {"checksum": "crc32c:xxxxxxxx", "state": {...}}     the checksum is over the state as compact
 * JSON with sorted keys
 *
 * A damaged file is never acted on: the predecessor is taken, with words; where both are damaged
 * the agent starts from what is provable (nothing), keeps what runs running, and says so.
 *
 * Life: state_load() or state_new() → changes of members → state_save() after each → state_free().
 */

#include "base/error.h"
#include "base/json.h"
#include "base/time.h"
#include "service/service.h"
#include "store/document.h"

typedef enum StateAnswer {
        STATE_NONE = 1, /* there is no state: a fresh host */
        STATE_PREVIOUS, /* the file was damaged, its predecessor was taken; *reterr says what was
                           wrong */
} StateAnswer;

/* One version on this host. label NULL: none. Strings are the struct's; moved and copied whole by
 * the functions below. */
typedef struct VersionState {
        char *application; /* label */
        char *label;       /* as published */
        char *sha256;      /* of its bundle: bundles/SHA256, where it is kept */
        char *folder; /* in versions/: digest's first 16 digits, '-', number; NULL: not made yet */
        uint64_t revision;  /* of the assignment that brought it; 0: by hand */
        char *slot;         /* "a", "b" or NULL: not started yet */
        uint64_t port;      /* on which its proxied process listens; 0: none */
        bool insists;       /* it listens where it wants, not where PORT says */
        char *since;        /* RFC 3339: served since */
        JsonMap properties; /* environment properties */
        char *proxy;        /* folder of the proxy's includes (proxy/NAME), or NULL */
} VersionState;

/* What failed for good: this digest in this revision is not tried again on its own. */
typedef struct QuarantineState {
        uint64_t revision; /* 0: by hand */
        char *label;
        char *sha256; /* NULL: it failed before the digest was known */
        char *why;    /* sentence */
        char *since;  /* RFC 3339 */
} QuarantineState;

/* The attempt that is under way. id NULL: none. */
typedef struct AttemptState {
        char *id;      /* as the record's */
        uint64_t kind; /* DeployKind (deploy/record.h) */
        char *stage;   /* name of the stage that was begun */
        VersionState target;
        BundleRef bundle; /* key NULL: a local file, at path */
        char *path;       /* of a local file, absolute */
        char *behind;     /* hook behind which to go on after a reboot ("prebuild:version/10-x"), or
                             NULL */
        char *boot; /* the boot in which that reboot was asked for: boot id and start of PID 1 */
        uint64_t overlap; /* Overlap, once decided */
        bool decided;     /* it is */
        bool turned;   /* `current` and the slot file are the target's, or are being turned to it */
        bool answered; /* the gate has answered yes: the target is the current version */
        bool failed;   /* on the way back */
        char *error;   /* why, a sentence */
} AttemptState;

/* All of it. Members may be changed at will; nothing of it counts before state_save(). */
typedef struct State {
        uint64_t format;         /* FORMAT_STATE */
        char *host;              /* id of the host that wrote it */
        uint64_t revision;       /* the highest that was seen and accepted */
        DesiredDocument desired; /* that one; revision 0: none */
        VersionState current;    /* whose gate has answered; label NULL: nothing is deployed */
        VersionState previous;   /* where a rollback goes; kept on disk as long as it stands here */
        VersionState replaced;   /* by a restart of the same version: its processes until they have
                                    ended */
        AttemptState attempt;
        JsonArray services;   /* ServiceRecord: processes that run or are to run, with pid and start
                                 time, so that another main takes them on */
        JsonArray quarantine; /* QuarantineState, at most LIMIT_QUARANTINE, oldest dropped */
        bool hold;            /* a bundle by hand runs: assignments wait */
        bool fixed_port;      /* the proxy answers the application's usual port */
        uint64_t counter;     /* for names of folders */
        char *lane_nonce;     /* of the lane that this host holds, or NULL */
        char *lane_generation; /* the folder that the lane stands in */
        uint64_t lane;         /* its number */
} State;

extern const JsonTable state_table, version_state_table;

State *state_new(void); /* NULL: no memory */

/* dir_fd: /var/lib/tendril. 0, StateAnswer (STATE_NONE gives an empty state); -EBADMSG: both are
 * damaged; -EPROTONOSUPPORT: written by a newer build. */
int state_load(int dir_fd, State **ret, Error **reterr);

/* Durable when it returns. On failure, in words, the file is the old one or the new one, whole:
 * -ENOMEM (also where jansson dropped bytes), -ENOSPC, -EIO. */
int state_save(int dir_fd, const State *state, Error **reterr);

/* For those who only look: the text of a file → state. name for words. */
int state_parse(const char *name, const char *text, size_t size, State **ret, Error **reterr);

State *state_free(State *state);
DEFINE_CLEANUP(State, state_free);

/* Moves: *to is freed, takes what *from has, and *from is empty. */
void version_state_move(VersionState *to, VersionState *from);

/* *to is freed and becomes a copy. -ENOMEM: *to is as it was. */
int version_state_copy(VersionState *to, const VersionState *from);

/* Quarantine: is this digest, in this revision, not to be tried? NULL: it may. Adding one that is
 * there replaces it. */
const QuarantineState *quarantine_find(const State *state, uint64_t revision, const char *sha256);
int quarantine_add(State *state, uint64_t revision, const char *label, const char *sha256,
                   const char *why, usec_t realtime);
void quarantine_lift(State *state, uint64_t revision, const char *sha256);
