#pragma once

/*
 * Where everything stands, below one root folder ("/" on a real host). All are absolute and end
 * without a slash.
 */

#include "base/error.h"

typedef struct Paths {
        char *root;         /* "" for "/" */
        char *config;       /* /etc/tendril/tendril.yaml */
        char *config_dir;   /* /etc/tendril/tendril.d */
        char *host_hooks;   /* /etc/tendril/hooks */
        char *vendor_hooks; /* /usr/lib/tendril/hooks */
        char *state;        /* /var/lib/tendril */
        char *versions;     /* /var/lib/tendril/versions */
        char *slot;         /* /var/lib/tendril/slot */
        char *app;          /* /var/app */
        char *current;      /* /var/app/current */
        char *staging;      /* /var/app/staging */
        char *run;          /* /run/tendril */
        char *socket;       /* /run/tendril/control.sock */
        char *log;          /* /var/log/tendril */
} Paths;

/* root: absolute, or "/" or NULL. -EINVAL: not absolute; -ENOMEM. */
int paths_init(const char *root, Paths *ret, Error **reterr);
void paths_done(Paths *paths);
