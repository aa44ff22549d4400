#pragma once

/*
 * Where credentials come from, one row a source. Private to credentials.c and its sources.
 *
 * A ProviderTry is one try of one source: all that may be under way for it hangs from it, so that
 * one function cancels any of them.
 *
 *   1. provider_try_new()
 *   2. providers[i]->begin(): PROVIDER_HAS or PROVIDER_NONE at once, a failure at once, or 0: then
 *      done() comes once, from the loop
 *   3. what it found stands in try->found, what it looked for in try->words
 *   4. provider_try_free(), also from done()
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/time.h"
#include "loop/child.h"
#include "loop/http.h"
#include "net/credentials.h"
#include "net/imds.h"
#include "net/secret.h"

/* Answers of begin() and done(). */
#define PROVIDER_HAS  1
#define PROVIDER_NONE 2 /* not configured here: the next source may be asked */

/* The longest that is read of a token's file, an answer, an output. */
#define PROVIDER_BYTES ((size_t) 64 * 1024)

#define PROVIDER_TRIES 3U

typedef struct ProviderTry ProviderTry;

/* What all sources share; borrowed by tries. */
typedef struct ProviderSpec {
        sd_event *loop;
        HttpClient *http;
        Imds *imds;
        char **environment; /* "NAME=value" */
        const char *region;
        usec_t retry_usec; /* between tries of a request */
} ProviderSpec;

typedef struct Provider {
        const char *name; /* "environment" */
        int (*begin)(ProviderTry *attempt, Error **reterr);
} Provider;

extern const Provider provider_environment, provider_web, provider_profile, provider_container,
        provider_role;

/* r: PROVIDER_HAS, PROVIDER_NONE, or negative with words. May free the try. */
typedef void (*ProviderDone)(ProviderTry *attempt, int r, Error *err);

struct ProviderTry {
        const ProviderSpec *spec;
        ProviderDone done;
        void *userdata;

        Credentials found;
        char *source; /* "instance role web" */
        char *words;  /* what was looked for and found; a sentence without its end */

        /* What is under way. */
        HttpTransfer *transfer;
        ImdsCall *imds_call;
        Child *child;
        sd_event_source *timer, *output;
        int output_fd;
        Buf text; /* of a child */
        bool too_long;
        char *name; /* of the role or the program, for words */
        unsigned n_tried;
        int (*send)(ProviderTry *attempt, Error **reterr); /* sends the request, once more */
        int (*take)(ProviderTry *attempt, const HttpReply *reply, Error **reterr); /* r of done() */
};

/* NULL: no memory. */
ProviderTry *provider_try_new(const ProviderSpec *spec, ProviderDone done, void *userdata);
ProviderTry *provider_try_free(ProviderTry *attempt);
DEFINE_CLEANUP(ProviderTry, provider_try_free);

/* ---- for the sources ---- */

/* The value of a variable; NULL where it is not set or empty. Borrowed. */
const char *provider_env(const ProviderTry *attempt, const char *name);

/* Sets try->words. Returns answer, or -ENOMEM. */
int provider_say(ProviderTry *attempt, int answer, const char *format, ...) _printf_(3, 4);

/* Sets try->source. Returns 0 or -ENOMEM. */
int provider_name(ProviderTry *attempt, const char *format, ...) _printf_(2, 3);

/* Sends by attempt->send, again after failures of the way and of the server, PROVIDER_TRIES times;
 * any other answer goes to attempt->take, whose r ends the try. */
int provider_request(ProviderTry *attempt, Error **reterr);

/* on_done of such a request. */
void provider_on_reply(void *userdata, int r, HttpReply *reply, Error *err);

/* A file that must be read each time anew: a token, one line, without the line break at its end.
 * *ret is wiped by secret_free(). Links are followed: mounted secrets are made of them. */
int provider_read_token(const char *path, char **ret, Error **reterr);

/* Where the two ask that ask by HTTP themselves; the caller frees *ret. */
int provider_container_url(const ProviderTry *attempt, char **ret);
int provider_sts_url(const ProviderTry *attempt, char **ret, Error **reterr);

/* ---- reading, pure ---- */

/* {"AccessKeyId", "SecretAccessKey", "Token" or "SessionToken", "Expiration"}, of IMDS, of a
 * container's endpoint, of credential_process. Code other than "Success": -EAGAIN with it. */
int provider_read_json(const char *text, size_t size, Credentials *ret, Error **reterr);

/* "2026-08-01T12:00:00Z", also with a fraction, with an offset in place of Z. 0, -EINVAL. */
int provider_read_time(const char *text, usec_t *ret);

/* Are they of characters that keys are made of? Otherwise they would be sent as other than they
 * are. -EBADMSG in words. */
int provider_check(const Credentials *credentials, Error **reterr);

/* May this URL be asked for credentials: https, or http of this host, of the link's own addresses?
 * *ret_host: the host, in its brackets; *ret_loopback: it is a name of this host. -EPERM. */
int provider_check_url(const char *url, char **ret_host, bool *ret_loopback, Error **reterr);
