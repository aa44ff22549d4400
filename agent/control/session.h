#pragma once

/*
 * What the store commands share: a loop, the store, the trusted keys, and the calls of both the
 * store and `tendril-bundle` made to look like ordinary functions (each runs the loop until its
 * answer is there). Private to agent/control/.
 *
 *   1. session_start() reads the common options; from here on words and tasks work
 *   2. session_open() finds and opens the store and tells why not
 *   3. session_get(), ..., in any order
 *   4. session_done()
 *
 * Functions that return an exit code (agent/contract.h) have told the failure on stderr; those with
 * a reterr have not.
 */

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "bundle/task.h"
#include "control/args.h"
#include "control/storecmd.h"
#include "host/config.h"
#include "loop/link.h"
#include "store/document.h"
#include "store/store.h"
#include "store/wire.h"

typedef struct Session {
        const char *verb;
        bool json;
        bool progress; /* stderr is a terminal */
        sd_event *loop;
        Store *store;     /* NULL where the command needs none */
        Config *config;   /* tendril.yaml, where it says which store is meant; else NULL */
        Link *link;       /* to the command's own tendril-net, where the store is remote */
        int net_fd;       /* its program; valid where open.url is there */
        WireOpen open;    /* its greeting */
        char *store_id;   /* what the configuration says that it must be, or NULL */
        JsonArray keys;   /* TaskKey: trusted; of the configuration, and of --trusted-key with the
                             purpose "": any */
        bool unsigned_ok; /* with no keys: documents without a signature count (file:, or the
                             configuration's word) */
} Session;

/* Options that the commands have in common; each command puts those that it has into its table. */
typedef struct SessionOptions {
        const char *store;    /* --store URL */
        char **trusted_keys;  /* --trusted-key ID=FILE */
        bool unsigned_ok;     /* --unsigned */
        const char *key_file; /* --key FILE */
        const char *key_id;   /* --key-id ID */
        bool json;
} SessionOptions;

#define SESSION_OPTION_STORE(o)                                                                    \
        {                                                                                          \
                "store", ARG_TEXT, &(o)->store, "URL",                                             \
                        "The store, file:///path or s3://bucket/prefix (or " STORECMD_ENV_STORE    \
                        ")"                                                                        \
        }
#define SESSION_OPTION_TRUSTED(o)                                                                  \
        { "trusted-key", ARG_LIST, &(o)->trusted_keys, "ID=FILE",                                  \
          "A public key that may sign what is read (again for more)" },                            \
        {                                                                                          \
                "unsigned", ARG_FLAG, &(o)->unsigned_ok, NULL,                                     \
                        "Believe documents without a signature, in a store in S3 too"              \
        }
#define SESSION_OPTION_KEY(o)                                                                      \
        { "key", ARG_TEXT, &(o)->key_file, "FILE", "Private key (PEM) to sign with" }
#define SESSION_OPTION_KEY_ID(o)                                                                   \
        { "key-id", ARG_TEXT, &(o)->key_id, "ID", "Its id in trusted_keys of the hosts" }
#define SESSION_OPTION_JSON(o)                                                                     \
        { "json", ARG_FLAG, &(o)->json, NULL, "For programs: one JSON object" }
#define SESSION_OPTION_END                                                                         \
        { NULL, ARG_FLAG, NULL, NULL, NULL }

/* 0, or an exit code. */
int session_start(Session *s, const char *verb, const SessionOptions *options);
int session_open(Session *s, const SessionOptions *options);
void session_done(Session *s);

/* The second half of session_open() for "s3://...", and the end of what it began. */
int session_open_remote(Session *s, const Config *config, const char *url, Error **reterr);
void session_close_remote(Session *s);
void session_options_done(SessionOptions *options);

/* Which store is meant: *ret is the caller's. May fill what the configuration says into s. 0, or an
 * exit code. */
int storecmd_store_url(Session *s, const char *option, char **ret);

/* ---- words ---- */

/* "tendril VERB: FORMAT[: words of err]" on stderr. Returns code. */
int session_fail(const Session *s, int code, const Error *err, const char *format, ...)
        _printf_(4, 5);

/* The same with the exit code that belongs to the errno. */
int session_broken(const Session *s, int r, const Error *err, const char *format, ...)
        _printf_(4, 5);

/* Label or told: 0, or EXIT_CODE_USAGE. what: "--app". */
int session_check_label(const Session *s, const char *what, const char *label);

/* Says so on stderr where keys are trusted and nothing will be signed: hosts with the same keys
 * would refuse it. */
void session_note_unsigned(const Session *s, const SessionOptions *options);

/* A line on a terminal that the next one, or nothing (NULL), replaces. */
void session_progress(const Session *s, const char *format, ...) _printf_(2, 3);

/* ---- the store ---- */

typedef struct SessionDocument {
        Buf body;
        char *etag;
} SessionDocument;
void session_document_done(SessionDocument *document);

/* 0, STORE_ABSENT, negative. */
int session_get(Session *s, const char *key, SessionDocument *ret, Error **reterr);

/* 0, STORE_REFUSED (ret, if not NULL, is what stands there), negative. nonce NULL: the text itself
 * is unlike any other. */
int session_put(Session *s, const char *key, const Buf *text, const char *nonce,
                StoreCondition condition, const char *etag, SessionDocument *ret, Error **reterr);

/* 0, STORE_REFUSED, negative. Tells progress. */
int session_put_file(Session *s, const char *key, int fd, StoreCondition condition,
                     const char *etag, Error **reterr);

/* Into fd; *ret_etag is the caller's. 0, STORE_ABSENT, negative. */
int session_fetch(Session *s, const char *key, int fd, char **ret_etag, Error **reterr);

/* 0, StoreAnswer, negative. */
int session_delete(Session *s, const char *key, const char *etag, Error **reterr);

/* One page; keys are copied. */
typedef struct SessionPage {
        char **keys;
        bool more;
} SessionPage;
void session_page_done(SessionPage *page);
int session_list(Session *s, const char *prefix, const char *start_after, SessionPage *ret,
                 Error **reterr);

/* store_self_test(). */
int session_self_test(Session *s, Error **reterr);

/* ---- tendril-bundle ---- */

/* One run of the helper. Tables, answer and ret_body (what comes as a descriptor) may be NULL. */
typedef struct SessionTask {
        const char *method;
        const JsonTable *ask_table;
        const void *ask;
        const int *fds;
        size_t n_fds;
        const JsonTable *answer_table;
        void *answer;
        Buf *body;
} SessionTask;
int session_task(Session *s, const SessionTask *task, Error **reterr);

/* Envelope → document, with the trusted keys of that purpose ("publish", "assign"); without any
 * keys an unsigned one counts where s->unsigned_ok. name stands in the words. *ret must be all
 * zero. ret_key_id may be NULL. */
int session_open_envelope(Session *s, const char *name, const Buf *envelope, const char *type,
                          const JsonTable *table, void *ret, char **ret_key_id, Error **reterr);

/* The payload of an envelope, whoever signed it; for signing it again. */
int session_open_payload(Session *s, const Buf *envelope, const char *type, Buf *ret,
                         Error **reterr);

/* Payload → envelope, signed with the key of the options (unsigned where there is none). previous
 * (or NULL): an envelope whose signatures are kept, or not with replace. */
int session_sign(Session *s, const SessionOptions *options, const char *type, const Buf *payload,
                 const Buf *previous, bool replace, Buf *ret, Error **reterr);

/* Makes an empty folder of ours the helper's, where it runs as another user. */
int session_own_for_helper(int dir_fd);

/* Digest and size of an open file. */
int session_verify(Session *s, int fd, TaskVerified *ret, Error **reterr);

/* ---- documents ---- */

/* version.json of a label. 0, STORE_ABSENT, negative (-EKEYREJECTED: no signature that counts).
 * document_etag may be NULL. */
int session_read_version(Session *s, const char *application, const char *label,
                         VersionDocument *ret, char **ret_etag, Error **reterr);

/* desired.json and the head of an environment, likewise. */
int session_read_desired(Session *s, const char *environment, DesiredDocument *ret, char **ret_etag,
                         Error **reterr);
int session_read_head(Session *s, const char *environment, HeadDocument *ret, char **ret_etag,
                      Error **reterr);

/* Id of the store, from store.json; the caller frees. Negative also where it is not there, or not
 * the one of the configuration. */
int session_read_store_id(Session *s, char **ret, Error **reterr);

/* Names of all environments, a NULL-terminated list that the caller frees. */
int session_environments(Session *s, char ***ret, Error **reterr);

/* The time now as documents have it. */
void session_now(char ret[TIME_RFC3339_SIZE]);
