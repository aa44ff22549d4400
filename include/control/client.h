#pragma once

/*
 * The command's side of the control socket: blocking, one call after the other, with a time limit.
 */

#include "base/error.h"
#include "control/proto.h"

typedef struct ControlClient ControlClient;

/* -ENOENT, -ECONNREFUSED: nobody listens there, with words that say what to do. */
int control_client_new(const char *path, ControlClient **ret, Error **reterr);

/* method without the interface ("Status"). parameters NULL: none. 0 with *ret filled; -EPERM
 * refused, -EBUSY, -ETIMEDOUT, -EREMOTEIO: the agent's own sentence in *reterr. */
int control_client_call(ControlClient *client, const char *method, const JsonTable *ask_table,
                        const void *ask, const JsonTable *reply_table, void *ret,
                        usec_t timeout_usec, Error **reterr);

/* A call with "more": on_reply for each; stops when it returns other than 0, or at the last one. */
int control_client_more(ControlClient *client, const char *method, const JsonTable *ask_table,
                        const void *ask, const JsonTable *reply_table,
                        int (*on_reply)(void *userdata, void *reply), void *userdata,
                        Error **reterr);

ControlClient *control_client_free(ControlClient *client);
DEFINE_CLEANUP(ControlClient, control_client_free);
