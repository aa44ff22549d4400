#pragma once

/*
 * Root's long work on files and mounts, done by `tendril-tree`, so that main's loop never blocks.
 * It links libc alone, parses nothing, and takes folders as descriptor 3. As an unprivileged user
 * it does what is possible and says what was not.
 *
 * Verbs:
 *
 * - own UID GID (descriptor 3: folder of a version with tree/ in it, that the bundle helper has
 *   written). Takes the tree over: refuses what is no folder, regular file or link, any file with
 *   more than one name, and more levels than an archive may have; drops set-user-id bits and access
 *   lists; everything becomes root's (UID and GID say whose it was). Makes control/, root's copy
 *   (0700) of .platform, .ebextensions, Procfile, Buildfile, cron.yaml, env.yaml; hooks are made
 *   executable; a link that leads out of .platform or .ebextensions is left out with a note.
 *   Renames tree to app (0700); syncfs. Begins again from any half-done state.
 *
 * - give UID GID (descriptor 3: app/). Everything in it becomes the application user's, app/ 0755;
 *   syncfs. Links are not followed, mounts not crossed; a file with more than one name becomes a
 *   file of its own first, so that versions never share one that an application can write.
 *
 * - sync (descriptor 3): syncfs.
 *
 * - remove NAME (descriptor 3: the folder above). Removes NAME and all below, however deep; being
 *   gone is fine; a mount point in it is an error.
 *
 * - mount PATH (descriptor 3: app/). PATH becomes a bind mount of it in the mount namespace of PID
 *   1. It shows the old or the new one at any moment; never more than one is mounted there
 *   afterwards. Where mounting is not possible: a symbolic link, turned by rename; exit 10.
 *
 * - unmount PATH undoes that.
 *
 * - view [options] -- ARGV... starts ARGV with the environment of the call in a view of its own
 *   (service/slot.h). Options, each with its value behind "=":
 *
 *   - --current=DIR, --staging=DIR: what /var/app/current and /var/app/staging are for it
 *   - --venv=NAME=DIR: one more folder of /var/app; repeatable
 *   - --user=UID:GID[:GID...]: who it is afterwards; without it who it was
 *   - --wait=FD: first waits for one byte there; at its end without one exits 0 (main died before
 *     it had written the pid down)
 *   - --cwd=PATH: in the view; without it /var/app/current
 *   - --plain: no namespace (unprivileged, or not wanted); without a cwd it starts in the folder of
 *     --current
 *
 *   No namespace although one is wanted: exit 11, before anything started.
 *
 * - probe: exit 0: a view with mounts is possible here; 10: not.
 *
 * Exit 0: done; lines on stderr are notes. 1: failed, one sentence on stderr. 2: usage.
 */

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/time.h"
#include "loop/child.h"

#define TREE_EXIT_LINK    10
#define TREE_EXIT_NO_VIEW 11

typedef struct TreeTask TreeTask;

/* r: 0, TREE_WAS_LINK, or negative errno with the program's own sentence. */
typedef enum TreeAnswer {
        TREE_WAS_LINK = 1, /* mount: a symbolic link it is; probe: no view possible */
} TreeAnswer;
typedef void (*TreeDone)(void *userdata, int r, Error *err);

/* Runs `tendril-tree VERB ARGS...` with dir_fd (or < 0) as descriptor 3. program_fd:
 * helper_open("tendril-tree"). Everything is copied or duplicated. */
int tree_run(sd_event *loop, int program_fd, const char *verb, char *const *args, int dir_fd,
             usec_t timeout_usec, TreeDone done, void *userdata, TreeTask **ret, Error **reterr);

/* Kills it; done() is not called. Takes NULL. A task is over, and its pointer void, when done() is
 * called. */
TreeTask *tree_cancel(TreeTask *task);
