#pragma once

/*
 * Root's long work on files and mounts, done by `tendril-tree`, so that main's loop never blocks.
 * It links libc alone, parses nothing, and takes folders as descriptors. As an unprivileged user it
 * does what is possible and says what was not.
 *
 *   tendril-tree own UID GID    fd 3: folder of a version with tree/ in it, that the bundle helper
 * has written. Takes the tree over: refuses what is no folder, regular file or link, and any file
 * with more than one name; drops set-user-id bits; everything becomes root's; makes control/ (a
 * copy, root's, 0700, of .platform, .ebextensions, Procfile, Buildfile, cron.yaml, env.yaml);
 * renames tree → app (0700); syncfs. Begins again from any half-done state. tendril-tree give UID
 * GID   fd 3: app/. Everything in it becomes the application user's, app/ 0755; syncfs. Links are
 * not followed. tendril-tree sync           fd 3: syncfs. tendril-tree remove NAME    fd 3: the
 * folder above. Removes NAME and all below; being gone is fine. tendril-tree mount PATH     fd 3:
 * app/. PATH becomes a bind mount of it in the mount namespace of PID 1 (what was mounted there is
 *                               detached after the new one stands, so that PATH always shows one or
 * the other); where mounting is not possible, a symbolic link, turned by rename. Exit 10: it was a
 * link. tendril-tree unmount PATH   undoes that. tendril-tree view [options] -- ARGV... Starts ARGV
 * with the environment of the call in a view of its own (service/slot.h):
 *                               --current=DIR --staging=DIR  what /var/app/current (and staging) is
 * for it: a folder
 *                               --venv=NAME=DIR    one more folder of /var/app, repeatable
 *                               --user=UID:GID[:GID...]  who it is afterwards
 *                               --wait=FD          first waits for one byte on FD; at its end
 * without one: exits 0 (main died before it wrote the pid down)
 *                               --cwd=PATH         in the view
 *                               --plain            no namespace (unprivileged, or not wanted)
 *                               No namespace although wanted: exit 11 before anything started.
 *   tendril-tree probe          exit 0: a view with mounts is possible here; 10: not.
 *
 * Exit 0: done. 1: failed, one sentence on stderr. 2: usage.
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
