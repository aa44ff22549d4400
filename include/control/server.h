#pragma once

/*
 * The control socket's server: takes calls, checks who asks and what, hands each to one function of
 * the agent, and writes the answer. It holds no state of the agent. A client that is slow, silent,
 * lies or leaves harms nobody: limits on clients, sizes and times (agent/limits.h), and one buffer
 * a client.
 *
 * A handler either fills its reply and returns 0, or returns a negative errno with words (-EPERM,
 * -EINVAL → Refused, -EBUSY → Busy, others → Failed), or returns CONTROL_LATER and answers by
 * control_reply() or control_fail(), any time until on_gone was called for that call.
 */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "control/proto.h"

typedef struct ControlServer ControlServer;
typedef struct ControlCall ControlCall; /* one call under way */

typedef enum ControlAnswer {
        CONTROL_LATER = 1,
} ControlAnswer;

/* What the agent offers. parameters and reply are structs of the method's tables; reply is zero
 * before and freed by the server. */
typedef struct ControlOps {
        int (*status)(void *userdata, ControlStatus *ret);
        int (*health)(void *userdata,
                      ControlCall *call); /* asks the application: CONTROL_LATER, always */
        int (*explain)(void *userdata, ControlExplain *ret);
        int (*store)(void *userdata,
                     ControlCall *call); /* asks tendril-net: CONTROL_LATER, always */
        int (*history)(void *userdata, const ControlHistoryAsk *ask, bool with_output,
                       ControlHistory *ret, Error **reterr);
        int (*logs)(void *userdata, const ControlLogsAsk *ask, ControlLogs *ret, Error **reterr);
        int (*deploy)(void *userdata, const ControlDeployAsk *ask, ControlStarted *ret,
                      Error **reterr);
        int (*rollback)(void *userdata, ControlStarted *ret, Error **reterr);
        int (*restart)(void *userdata, const ControlRestartAsk *ask, ControlText *ret,
                       Error **reterr);
        int (*reload)(void *userdata, ControlText *ret, Error **reterr);
        int (*wait)(void *userdata, const ControlWaitAsk *ask,
                    ControlCall *call);                     /* CONTROL_LATER, always */
        int (*monitor)(void *userdata, ControlCall *call);  /* "more": one ControlStatus now and
                                                               after each change; CONTROL_LATER */
        void (*on_gone)(void *userdata, ControlCall *call); /* a later call's client has left */
        void *userdata;
} ControlOps;

/* Listens at path (mode 0666: who may do what is decided by who asks). ops is copied. */
int control_server_new(sd_event *loop, const char *path, const ControlOps *ops, ControlServer **ret,
                       Error **reterr);

/* Answers of a later call. With more (a Monitor): the call goes on; without it is over and its
 * pointer void. */
int control_reply(ControlCall *call, const JsonTable *table, const void *reply, bool more);
void control_fail(ControlCall *call, const char *error, const char *text);

/* Ends all connections; on_gone is not called. Takes NULL. */
ControlServer *control_server_free(ControlServer *server);
DEFINE_CLEANUP(ControlServer, control_server_free);
