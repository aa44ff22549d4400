#pragma once

/*
 * tendril-net's whole work: answers the calls of its channel until that closes: store/wire.h
 * (behind WIRE_OPEN), net/check.h, and NET_IDENTITY.
 *
 * A second WIRE_OPEN is refused: another store means another process. The answers' descriptors are
 * sealed memory files.
 *
 * The region to sign for: the one of WIRE_OPEN, else AWS_REGION, else AWS_DEFAULT_REGION, else the
 * instance's, which is asked for before the first call of the store (calls wait for it); else
 * us-east-1, but only at an endpoint that was given.
 */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/json.h"
#include "store/wire.h"

/* {} → NetIdentity (net/imds.h). Needs WIRE_OPEN before it; fails with IMDS's words. */
#define NET_IDENTITY "identity"

typedef struct NetServer NetServer;

/* Called once, before anything is done for the first request: with what it opens, or NULL where it
 * opens none. Negative ends the server with these words. */
typedef int (*NetConfine)(const WireOpen *open, Error **reterr);

/* fd is consumed. confine may be NULL. */
int net_server_new(sd_event *loop, int fd, NetConfine confine, NetServer **ret, Error **reterr);
NetServer *net_server_free(NetServer *server);
DEFINE_CLEANUP(NetServer, net_server_free);
