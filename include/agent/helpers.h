#pragma once

/*
 * The helpers of the agent, and how the pipeline asks them: `tendril-bundle`, one run a task, and
 * `tendril-net`, one process while it is needed. The functions of DeployHelpers (deploy/deploy.h)
 * made of helper processes and calls.
 *
 * A bundle task is done when its answer is there AND the helper has ended with all its children:
 * what it made can then be changed by nobody. A helper that dies before it answered makes the task
 * fail with -ECONNRESET and the helper's last words.
 *
 * Life: helpers_new() → helpers_deploy() for the pipeline → helpers_free() after the pipeline.
 */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "deploy/deploy.h"
#include "host/config.h"
#include "loop/link.h"

typedef struct Helpers Helpers;

/* env: the environment of this process, which credentials may stand in; borrowed, as config is.
 * libexec: folder to look in first, or NULL. */
int helpers_new(sd_event *loop, const Config *config, char *const *env, const char *libexec,
                Helpers **ret, Error **reterr);

/* Which keys count, whether unsigned documents do (on file: by default), and which store
 * tendril-net is told of; after a reload the new configuration. Calls of another store that were
 * under way end with -ECONNRESET. */
int helpers_set_config(Helpers *helpers, const Config *config);

/* The link to tendril-net, greeted with the store of the configuration. */
Link *helpers_net(Helpers *helpers);

DeployHelpers helpers_deploy(Helpers *helpers);
int helpers_tree_fd(const Helpers *helpers);

/* Sentences about confinement that is lost here, and what else a person should know at a start;
 * NULL-terminated, borrowed. */
char *const *helpers_warnings(const Helpers *helpers);

/* Logs a warning and adds it to those. */
int helpers_warn(Helpers *helpers, const char *text);

Helpers *helpers_free(Helpers *helpers);
DEFINE_CLEANUP(Helpers, helpers_free);
