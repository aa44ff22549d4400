#pragma once

/*
 * Which instance this is, asked of tendril-net until it is known. Private to agent.c.
 *
 * Life: identify_new() begins to ask → identify_wait() → on_known() once, perhaps much later →
 * identify_free().
 */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "loop/link.h"
#include "net/imds.h"

typedef struct Identify Identify;

/* on_known may be NULL. link is borrowed, and greeted. */
int identify_new(sd_event *loop, Link *link, void (*on_known)(void *userdata), void *userdata,
                 Identify **ret);

/* Runs the loop until the first answer or failure, at most for timeout_usec. */
int identify_wait(Identify *identify, usec_t timeout_usec);

/* NULL: not known yet, and identify_error() says why. Borrowed. */
const NetIdentity *identify_known(const Identify *identify);
const char *identify_error(const Identify *identify);

Identify *identify_free(Identify *identify);
DEFINE_CLEANUP(Identify, identify_free);
