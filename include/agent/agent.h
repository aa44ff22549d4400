#pragma once

/*
 * Main: owns the loop's components and wires them: configuration, store, helpers, pipeline, control
 * socket. It decides nothing itself.
 *
 * Life: agent_new() → sd_event_loop() → agent_free(). The application goes on running.
 */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/macro.h"

typedef struct Agent Agent;

typedef struct AgentOptions {
        const char *root;    /* --root, or NULL */
        const char *libexec; /* where helpers are looked for first, or NULL */
        char *const *env;    /* of the process: TENDRIL_... overrides */
} AgentOptions;

/* Starts everything in the order of the layers; each failure has its words. -EALREADY: another
 * agent runs with the same root. */
int agent_new(sd_event *loop, const AgentOptions *options, Agent **ret, Error **reterr);

/* Reads the configuration again and uses it, or refuses it whole. *ret_text: a sentence, the caller
 * frees. */
int agent_reload(Agent *agent, char **ret_text, Error **reterr);

/* Ends the loop as soon as the running stage may be left (at most 30 s). */
void agent_stop(Agent *agent);

Agent *agent_free(Agent *agent);
DEFINE_CLEANUP(Agent, agent_free);
