#pragma once

/*
 * Where everything stands, below one root folder ("/" on a real host; --root moves it, so that many
 * agents run side by side). All are absolute and end without a slash. Nothing is made here: whoever
 * owns a folder makes it, with the mode that agent/contract.h and fsck know.
 *
 * Life: paths_init() on a struct that is all zero → read-only → paths_done(), which frees every
 * string and may be called on a struct that paths_init() refused.
 */

#include "base/error.h"

typedef struct Paths {
        char *root;         /* "" for "/" */
        char *config;       /* /etc/tendril/tendril.yaml: may be missing */
        char *config_dir;   /* /etc/tendril/tendril.d: its drop-ins */
        char *host_hooks;   /* /etc/tendril/hooks: below it a folder a phase */
        char *vendor_hooks; /* /usr/lib/tendril/hooks: likewise, the package's */
        char *state;        /* /var/lib/tendril: state.json and the folders below */
        char *versions;     /* /var/lib/tendril/versions: a folder an unpacked version */
        char *slot;         /* /var/lib/tendril/slot: the file that the proxy looks up */
        char *app;          /* /var/app: Elastic Beanstalk's name */
        char *current;      /* /var/app/current: what is served, a mount or a link */
        char *staging;      /* /var/app/staging: what is being prepared, likewise */
        char *run;          /* /run/tendril: the lock of this root, the socket */
        char *socket;       /* /run/tendril/control.sock: Varlink */
        char *log;          /* /var/log/tendril: of processes; deploys/ of deploys */
} Paths;

/* root: absolute, or "/" or NULL (both: the real one); slashes at its end are dropped. 0; -EINVAL:
 * not absolute, in words; -ENOMEM. */
int paths_init(const char *root, Paths *ret, Error **reterr);
void paths_done(Paths *paths);
