#pragma once

/*
 * The other side of store/remote.h: calls of store/wire.h, from a channel, answered by any store.
 * WIRE_OPEN and WIRE_STATUS are not its: whoever makes the store answers them.
 *
 * What it answers with by descriptor are sealed memory files.
 */

#include "base/error.h"
#include "loop/call.h"
#include "store/store.h"

typedef struct StoreServer StoreServer;

/* answer_fd is that of the channel (call_server_fd()). Both are borrowed, and outlive this. */
int store_server_new(int answer_fd, Store *store, StoreServer **ret);

/* Is this one of the methods that store_server_begin() answers? */
bool store_server_knows(const char *method);

/* 0: it is begun, and will be answered, or was already. Negative: it is not, and the caller answers
 * with that; -EBUSY: LIMIT_S3_CALLS are under way. Calls are answered in any order. May take what
 * the request holds. */
int store_server_begin(StoreServer *server, CallRequest *request, Error **reterr);

/* Cancels what is under way; it is not answered. Takes NULL, returns NULL. */
StoreServer *store_server_free(StoreServer *server);
DEFINE_CLEANUP(StoreServer, store_server_free);
