#pragma once

/*
 * A helper program of the agent: started with a call channel as descriptor 3, its own user, and
 * nothing else. It is a Child and a CallPeer in one, with the way it is found, named, confined and
 * ended.
 *
 * Programs stand in /usr/libexec/tendril/, or beside this process's own executable (build tree):
 * helper_open(). They are executed by descriptor, so that they run from any folder.
 *
 * A helper has ended "with all its children" when its cgroup is empty or, without cgroups, its pid
 * namespace is gone; on_end() comes only then. As an unprivileged user there is neither: its
 * process group is killed, and helper_is_contained() is false.
 */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "loop/call.h"
#include "loop/child.h"

typedef struct Helper Helper;

/* Which user a helper gets. */
typedef struct HelperUser {
        uid_t uid; /* 0: the user of this process (unprivileged agent) */
        gid_t gid;
} HelperUser;

/* The user `name` from the system's database, with its own group; where it is missing and we are
 * root, a free uid from 61184-65519 that is not in use by any process (reserve: how many are
 * skipped, so that two helpers never share one). As another user: {0, 0}. */
int helper_user(const char *name, unsigned reserve, HelperUser *ret);

/* Descriptor (O_PATH|O_CLOEXEC) of the program `name`. libexec_dir may be NULL. -ENOENT with the
 * places that were looked at. */
int helper_open(const char *name, const char *libexec_dir, int *ret_fd, Error **reterr);

typedef struct HelperSpec {
        const char *name; /* "tendril-bundle" */
        int program_fd;   /* borrowed */
        HelperUser user;
        const char *instance; /* for the cgroup's name */
        unsigned flags;       /* CHILD_NEW_NET, ... */
        usec_t timeout_usec;  /* whole life; 0: none */
        /* All of it has ended; exit may be inspected. The helper is still the caller's to free. */
        void (*on_end)(Helper *helper, const ChildExit *how, void *userdata);
        void *userdata;
} HelperSpec;

int helper_start(sd_event *loop, const HelperSpec *spec, Helper **ret, Error **reterr);

/* To send calls. If it dies they end with -ECONNRESET, before on_end() comes. */
CallPeer *helper_peer(Helper *helper);

/* True when all that it starts ends with it (cgroup or pid namespace); false: only its process
 * group does. */
bool helper_is_contained(const Helper *helper);

/* Last lines that it wrote to its outputs, for words after a crash; "" where none. */
const char *helper_output(const Helper *helper);

/* Closes the channel (a helper ends at EOF), kills after 2 s. helper_peer() is NULL from then on,
 * the done() of calls under way do not come. on_end() tells the end, from the loop. */
void helper_close(Helper *helper);

/* Kills all of it now. on_end() is not called any more. */
Helper *helper_free(Helper *helper);
DEFINE_CLEANUP(Helper, helper_free);
