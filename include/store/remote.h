#pragma once

/*
 * A store that another program reaches: the five calls over a link to tendril-net. Nothing of what
 * comes back is trusted beyond its bounds: keys are checked, bodies bounded and read from memory
 * files only, lists sorted and limited; else -EBADMSG.
 *
 * Deadlines: small calls 60 s, fetch and large puts one hour. A helper that dies under a call ends
 * it with -ECONNRESET: a conditional write is unknown then, and store_put_document() reads back.
 * Progress is looked at every 200 ms, more often at first. A fetch or large put that is cancelled
 * is told to the helper before anything else, so that the same files can be handed out again.
 */

#include "loop/link.h"
#include "store/store.h"

/* link is borrowed: it outlives the store; its greeting is WIRE_OPEN with this url. */
int store_remote_new(sd_event *loop, Link *link, const char *url, Store **ret, Error **reterr);

/* "s3://..." is a remote store's URL. */
bool store_url_is_remote(const char *url);
