#pragma once

/*
 * Which host this is, and whether what stands in the state folder is this host's.
 *
 * The id: `host` of the configuration, else the instance's id ("i-0abc...", told by the instance
 * metadata service, see net/imds.h), else the host's name. It must be a label.
 *
 * The instance that made the state is remembered in identity.json. On another one (a clone of a
 * disk, an image that was made of a running host) that state is set aside: it would name a lease,
 * a hold and records of somebody else. Bundles and unpacked versions stay, as they are found by
 * digest and verified again.
 */

#include <stdbool.h>

#include "base/error.h"
#include "host/config.h"

#define IDENTITY_FILE  "identity.json"
#define IDENTITY_ASIDE "aside"

/* instance NULL: not known, or not asked for. The caller frees *ret. -EINVAL: neither can be an id;
 * says what to configure. */
int identity_host(const Config *config, const char *instance, char **ret, Error **reterr);

/* Is the instance metadata service asked which instance this is? Also where host and environment
 * are configured: a clone has the configuration of what it was made of. */
bool identity_is_asked(const Config *config);

/* The instance that made the state below this folder; NULL where none is named. The caller frees
 * *ret. Damaged: as if none were named. */
int identity_read(int state_fd, char **ret);

typedef enum IdentityAnswer {
        IDENTITY_SET_ASIDE = 1,
} IdentityAnswer;

/*
 * Settles whose the state is, before anything of it is read: 0, it is this instance's (which is
 * written down where it was nobody's); IDENTITY_SET_ASIDE, it was another's and now stands in
 * IDENTITY_ASIDE/<instance>-<random>, *ret_other names it and is the caller's.
 */
int identity_settle(int state_fd, const char *instance, char **ret_other, Error **reterr);
