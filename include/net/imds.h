#pragma once

/*
 * The instance metadata service, version 2 only: a session token first, then GETs with it. One
 * request at a time over one kept connection (the service throttles, and its packets share a budget
 * with DNS and NTP); the others queue. Never by a proxy. Answers are at most IMDS_MAX_BYTES.
 *
 * The token is asked for with 6 hours, again when it is about to end or a GET answers 401 (once). A
 * PUT of a token that is never answered while the address is reachable is explained as a hop limit.
 * A request has 1 s and is tried twice more after a failure; an answer of the service (403, 404) is
 * never tried again.
 *
 * Source: EC2 user guide, "Use the Instance Metadata Service" and "How IMDSv2 works".
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/json.h"
#include "base/time.h"
#include "loop/http.h"

#define IMDS_ENDPOINT  "http://169.254.169.254"
#define IMDS_MAX_BYTES ((size_t) 64 * 1024)
#define IMDS_ABSENT    1

typedef struct Imds Imds;
typedef struct ImdsCall ImdsCall;

/* endpoint NULL: IMDS_ENDPOINT; else "http://host[:port]" (AWS_EC2_METADATA_SERVICE_ENDPOINT).
 * disabled (AWS_EC2_METADATA_DISABLED): every get ends with -EOPNOTSUPP and the words for it. */
int imds_new(sd_event *loop, HttpClient *http, const char *endpoint, bool disabled, Imds **ret,
             Error **reterr);
Imds *imds_free(Imds *imds); /* drops what is under way, without done() */
DEFINE_CLEANUP(Imds, imds_free);

/* r: 0 with the text (NUL-terminated, may hold NULs before that), IMDS_ABSENT (404), negative with
 * words: -EHOSTUNREACH or -ETIMEDOUT no such service here (no EC2 instance, or the hop limit),
 * -EACCES 403 it is switched off, -EAGAIN it is overloaded, -EBADMSG. Text and err are borrowed. */
typedef void (*ImdsDone)(void *userdata, int r, const char *text, size_t size, Error *err);

/* path begins with "/latest/". done() comes once, from the loop, unless cancelled; the
 * call is void from then on. */
int imds_get(Imds *imds, const char *path, ImdsDone done, void *userdata, ImdsCall **ret);
ImdsCall *imds_cancel(ImdsCall *call); /* takes NULL, returns NULL */

/* Which host this is: what the identity document, the tags and the user data say. Strings are the
 * struct's; NULL where the service has none. */
typedef struct NetIdentity {
        char *instance; /* "i-0abc..." */
        char *account;
        char *image;
        char *region;
        char *zone;
        char *partition;   /* "aws", "aws-cn", "aws-us-gov" */
        char *domain;      /* "amazonaws.com", "amazonaws.com.cn" */
        char *environment; /* of the instance tag; see net_identity_ask */
        char *user_data_environment;
} NetIdentity;
extern const JsonTable net_identity_table;

/* Collects it. tag: the key of the instance tag that names the environment ("tendril:environment"),
 * or NULL. Tags are off by default: 404 is no failure. User data is looked through for a line
 * "tendril.environment: NAME" (a leading '#' is allowed), in its first 16 KiB. Values that are no
 * labels are dropped. -EINVAL at once: no key that the service can offer (blanks, '/', too long).
 * done() as above. */
typedef void (*IdentityDone)(void *userdata, int r, const NetIdentity *identity, Error *err);
typedef struct IdentityCall IdentityCall;
int imds_identity(Imds *imds, const char *tag, IdentityDone done, void *userdata,
                  IdentityCall **ret);
IdentityCall *imds_identity_cancel(IdentityCall *call); /* takes NULL, returns NULL */
