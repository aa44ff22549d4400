#pragma once

/*
 * Credentials of AWS: where they come from, and for how long they are good.
 *
 * The chain, first that has any: environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
 * AWS_SESSION_TOKEN) → web identity (AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, an unsigned call
 * of STS) → the shared file's profile, its keys or its credential_process (only where AWS_PROFILE,
 * AWS_SHARED_CREDENTIALS_FILE or AWS_CONFIG_FILE is set, or HOME has them) → container endpoint
 * (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, _FULL_URI) → IMDS. A source that is configured and fails
 * is told, and is not passed over in silence for a weaker one: only a source that is not configured
 * at all is.
 *
 * Refresh: from 15 minutes before their end in the background with jitter, and what still is valid
 * is used meanwhile; from 10 minutes before the end callers wait for it, at most for one try's
 * deadline, and still get the old ones if it fails, until those end. What a source itself hands out
 * expired is used on, and asked for again after 10 minutes and a random part of 10 more ("static
 * stability": IMDS can make none now, or the own clock is wrong). After a failure nobody asks again
 * for a pause that grows to 30 s; who asks meanwhile gets the last failure.
 *
 * Secrets are in no Error, no log, no explanation. All memory that held one is wiped.
 *
 * Life: credentials_new() → credentials_get() any number of times → credentials_free() (pending
 * ones are dropped without done()).
 *
 * Source: botocore's credentials.py and utils.py for the chain, deadlines and refresh; EC2 user
 * guide, "Retrieve security credentials from instance metadata"; ECS "task IAM role".
 */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/json.h"
#include "base/time.h"
#include "loop/http.h"
#include "net/imds.h"

typedef struct Credentials {
        char *access_key_id;
        char *secret;
        char *token;      /* NULL: none */
        usec_t ends_usec; /* REALTIME, by the server's clock; USEC_INFINITY: they do not end */
} Credentials;

void credentials_done(Credentials *credentials); /* wipes */

typedef struct CredentialChain CredentialChain;
typedef struct CredentialWait CredentialWait;

typedef struct CredentialSpec {
        sd_event *loop;
        HttpClient *http;   /* borrowed */
        Imds *imds;         /* borrowed */
        const Clock *clock; /* borrowed; NULL: the real ones */
        char *const
                *environment; /* "NAME=value", copied; only the variables that are named above */
        const char *region;   /* of STS; may be NULL: AWS_REGION, else IMDS is not asked for it:
                                 us-east-1 */
} CredentialSpec;

int credentials_new(const CredentialSpec *spec, CredentialChain **ret, Error **reterr);
CredentialChain *credentials_free(CredentialChain *chain);
DEFINE_CLEANUP(CredentialChain, credentials_free);

/* r: 0 with credentials, borrowed during the callback; -ENOKEY: no source has any, in words that
 * say what was tried; others from the source that failed. err is borrowed. */
typedef void (*CredentialDone)(void *userdata, int r, const Credentials *credentials, Error *err);

/* done() comes exactly once, from the loop, never from within the call, unless it is cancelled; the
 * wait is void from then on. */
int credentials_get(CredentialChain *chain, CredentialDone done, void *userdata,
                    CredentialWait **ret);
CredentialWait *credentials_cancel(CredentialWait *wait); /* takes NULL, returns NULL */

/* A server said that they are expired or unknown: they are asked for again at the next get, at most
 * once in 10 s. skew_usec (server minus own clock) is what later comparisons with their end use. */
void credentials_refused(CredentialChain *chain);
void credentials_set_skew(CredentialChain *chain, int64_t skew_usec);

/* What `tendril explain credentials` shows. All strings are the struct's; NULL where unknown. */
typedef struct CredentialStatus {
        char *source;    /* "environment", "web identity", "profile NAME", "credential_process",
                            "container", "instance role NAME" */
        char *key_id;    /* the access key's id, last four characters only: "****ABCD" */
        char *ends;      /* RFC 3339, or NULL: they do not end, or there are none */
        char *refreshed; /* RFC 3339: when they were last obtained */
        char *error;     /* the last failure, in words */
        char *failed;    /* RFC 3339: when that was */
        char **tried;    /* a sentence for each source: what was looked for, what was found */
} CredentialStatus;
extern const JsonTable credential_status_table;
int credentials_status(const CredentialChain *chain, CredentialStatus *ret);
