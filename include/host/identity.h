#pragma once

/*
 * Which host this is. For now: the configured id, else the host's name; must be a label. Later: the
 * instance id from IMDS.
 */

#include "base/error.h"
#include "host/config.h"

/* The caller frees *ret. -EINVAL: the host's name cannot be an id; says what to configure. */
int identity_host(const Config *config, char **ret, Error **reterr);
