#pragma once

/*
 * What server.c (sockets, buffers, times) and method.c (what each method is and who may call it)
 * share, and what tests of the server set.
 */

#include <sys/types.h>

#include "control/server.h"
#include "message.h"

typedef enum ControlRights {
        CONTROL_RIGHTS_NONE,
        CONTROL_RIGHTS_READ,   /* group tendril */
        CONTROL_RIGHTS_CHANGE, /* root and the agent's own user */
} ControlRights;

/* The limits of one server: those of agent/limits.h unless a test sets others before the first
 * client comes. */
typedef struct ControlBounds {
        unsigned n_clients;
        unsigned n_clients_per_uid; /* so many places are kept free for those who may change */
        size_t request_bytes;
        size_t reply_bytes;
        size_t buffer_bytes;
        usec_t idle_usec;
        usec_t stall_usec;
        uid_t own_uid;
        gid_t reader_gid; /* (gid_t) -1: there is no such group */
} ControlBounds;

ControlBounds *control_server_bounds(ControlServer *server);
unsigned control_server_n_clients(const ControlServer *server);

/* One call under way. It is over after the last reply, and its pointer void. */
struct ControlCall {
        struct ControlClientConnection *connection;
        bool oneway; /* replies are dropped */
        bool more;
};

/* Carries a call out: answers it, or leaves it to the agent, which answers later. */
void method_run(const ControlOps *ops, ControlRights rights, ControlCall *call,
                const CallMessage *message);

/* The last reply of a call, an error with parameters of its own. */
void control_error(ControlCall *call, const char *error, const ErrorParameters *parameters);
