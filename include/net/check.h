#pragma once

/*
 * What may be asked of `tendril-net` about the application: one HTTP request, its status and how
 * long it took.
 *
 * method "check": NetCheck → NetChecked. An answer of any status is success (the caller decides
 * what is good); no answer within the time, a refused connection, a torn answer are failures with
 * words (-ECONNREFUSED, -ETIMEDOUT, -EBADMSG). Only loopback addresses are asked; redirects are not
 * followed; the body is read to its end (bounded) and dropped.
 */

#include <systemd/sd-event.h>

#include "base/json.h"
#include "base/time.h"
#include "loop/call.h"

#define NET_CHECK "check"

typedef struct NetCheck {
        uint64_t port;       /* 1..65535 on 127.0.0.1 */
        char *path;          /* begins with '/' */
        char *host;          /* Host header, or NULL */
        usec_t timeout_usec; /* whole request */
} NetCheck;

typedef struct NetChecked {
        uint64_t status; /* 100..599 */
        usec_t took_usec;
} NetChecked;

extern const JsonTable net_check_table, net_checked_table;

/* Serves calls on a channel until it closes: `tendril-net`'s whole work for now. fd is consumed. */
typedef struct NetServer NetServer;
int net_server_new(sd_event *loop, int fd, NetServer **ret, Error **reterr);
NetServer *net_server_free(NetServer *server);
DEFINE_CLEANUP(NetServer, net_server_free);
