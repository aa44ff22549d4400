#pragma once

/*
 * The check of the state on disk, offline: is each invariant true that the agent relies on? Used by
 * `tendril fsck` (main need not run; with --repair it must not). Nothing is changed without repair.
 *
 * Checked: state.json and its predecessor (checksum, format, fields); the folder of each version
 * that the state names (there, root's, 0700 above, app/ and control/, plan readable); slot file and
 * `current` name the version that the state serves; no stranger in versions/ and incoming/;
 * records readable; modes and owners of tendril's own folders; no left-over temporaries.
 */

#include <stdbool.h>

#include "base/error.h"
#include "host/paths.h"

typedef struct FsckFinding {
        const char *what; /* a sentence: what is wrong */
        const char *mend; /* what repair does about it, or NULL: a person must */
        bool mended;
} FsckFinding;

typedef void (*FsckTell)(void *userdata, const FsckFinding *finding);

/* The number of findings that are left (not mended), or negative errno where it could not look. */
int fsck_run(const Paths *paths, bool repair, FsckTell tell, void *userdata, Error **reterr);
