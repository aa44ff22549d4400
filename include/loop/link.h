#pragma once

/*
 * A helper that is there when it is asked: started with the first call, greeted, started again
 * with backoff after it died, ended when nothing was asked of it for a while.
 *
 *   1. link_new()
 *   2. link_call() any number of times; each done() comes exactly once, from the loop, unless
 *      cancelled
 *   3. link_free(): kills it; no done() comes
 *
 * The greeting is one call that each new process gets before any other (which store, which
 * settings); without an answer to it the others end with its error, or with how the process ended
 * and its last words. A call that was under way when the helper died ends with -ECONNRESET: what it
 * had done is unknown.
 */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "loop/call.h"
#include "loop/helper.h"

typedef struct Link Link;
typedef struct LinkCall LinkCall;

typedef struct LinkSpec {
        const char *name; /* "tendril-net"; string literal */
        int program_fd;   /* borrowed as long as the link */
        HelperUser user;
        const char *instance; /* copied */
        unsigned flags;       /* of the child */
        usec_t idle_usec;     /* ended after so long without a call; 0: never */
        const char *greeting; /* method; NULL: none. String literal */
        const JsonTable *greeting_table;
        const void *greeting_parameters; /* borrowed until link_free() or link_regreet() */
} LinkSpec;

int link_new(sd_event *loop, const LinkSpec *spec, Link **ret);
Link *link_free(Link *link);
DEFINE_CLEANUP(Link, link_free);

/* As call_send(); parameters are copied before it returns, fds are duplicated. timeout_usec counts
 * from here on, whatever it waits for. */
int link_call(Link *link, const char *method, const JsonTable *table, const void *parameters,
              const int *fds, size_t n_fds, usec_t timeout_usec, CallDone done, void *userdata,
              LinkCall **ret);

/* done() will not come. Takes NULL. Returns NULL. */
LinkCall *link_cancel(LinkCall *call);

/* Another greeting (or none: method NULL) from now on: the process is ended, all calls end with
 * -ECONNRESET, from the loop, the next call starts a new one. */
void link_regreet(Link *link, const char *method, const JsonTable *table, const void *parameters);

/* Another idle_usec from the next call on. */
void link_set_idle(Link *link, usec_t idle_usec);

/* Kills the process with all that it holds: what it was given it can no longer write. Calls under
 * way end with -ECONNRESET, from the loop; those that were not sent yet go to the next process,
 * which they or the next call start. */
void link_restart(Link *link);
