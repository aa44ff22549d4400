#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "deploy/stage.h"
#include "loop/log.h"

/*
 * retention: what no version on this host needs any more is removed, one folder at a time, by
 * tendril-tree. Kept are the current version, the one to go back to, what an attempt works on, and
 * so many more as configured, the newest first.
 */

#define FOLDERS_MAX 4096

typedef struct Found {
        char *name;
        uint64_t number;
} Found;

static bool is_named(const Pipeline *p, const char *folder) {
        const State *s = p->state;
        const VersionState *all[] = { &s->current, &s->previous, &s->replaced, &s->attempt.target };

        for (size_t i = 0; i < ELEMENTS(all); i++)
                if (str_equal(all[i]->folder, folder))
                        return true;
        return false;
}

static uint64_t number_of(const char *name) {
        const char *dash = strrchr(name, '-');
        uint64_t n = 0;

        return dash && str_to_u64(dash + 1, &n) == 0 ? n : 0;
}

static int newest_first(const void *a, const void *b) {
        uint64_t x = number_of(*(char *const *) a), y = number_of(*(char *const *) b);

        return x < y ? 1 : x > y ? -1 : 0;
}

/* The first version folder that is one too many, or NULL. The caller frees. */
static char *surplus_version(Pipeline *p) {
        _cleanup_(strv_freep) char **names = NULL;
        uint64_t kept = 0;

        if (file_list_at(p->versions_fd, FOLDERS_MAX, &names) < 0 || !names)
                return NULL;
        qsort(names, strv_count(names), sizeof(char *), newest_first);
        for (char **n = names; *n; n++) {
                _cleanup_close_ int fd = -EBADF;

                if (is_named(p, *n))
                        continue;
                /* A folder that was never finished is of no use to anybody. */
                fd = file_open_dir_at(p->versions_fd, *n);
                if (fd >= 0 && file_exists_at(fd, "plan.json") &&
                    kept < p->config->retention.versions && p->config->retention.bytes == 0) {
                        kept++;
                        continue;
                }
                return strdup(*n);
        }
        return NULL;
}

/* Bundles are kept with the versions that are named; partial ones of no attempt, too, are removed.
 */
static void remove_bundles(Pipeline *p) {
        const State *s = p->state;
        const char *keep[] = { s->current.sha256, s->previous.sha256, s->attempt.bundle.sha256,
                               s->attempt.target.sha256 };
        _cleanup_(strv_freep) char **bundles = NULL, **parts = NULL;

        (void) file_list_at(p->bundles_fd, FOLDERS_MAX, &bundles);
        for (char **b = bundles; b && *b; b++) {
                bool kept = false;

                for (size_t i = 0; i < ELEMENTS(keep); i++)
                        kept = kept || str_equal(keep[i], *b);
                if (!kept)
                        (void) file_remove_at(p->bundles_fd, *b, false);
        }
        if (s->attempt.id)
                return;
        (void) file_list_at(p->incoming_fd, FOLDERS_MAX, &parts);
        for (char **n = parts; n && *n; n++) {
                /* A download that was cut off is continued by the next attempt at the same digest.
                 */
                if (s->desired.target.sha256 && str_has_prefix(*n, s->desired.target.sha256) &&
                    p->watch.not_before_usec > 0)
                        continue;
                (void) file_remove_at(p->incoming_fd, *n, false);
        }
}

static void on_removed(void *userdata, int r, Error *err) {
        Pipeline *p = userdata;

        p->cleaner = NULL;
        if (r < 0) {
                log_warning("remove an old version: %s, ignoring", error_text(err));
                return;
        }
        retention_run(p);
}

void retention_run(Pipeline *p) {
        _cleanup_free_ char *name = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        char *args[2] = { NULL, NULL };

        if (p->cleaner || p->deploy)
                return;
        remove_bundles(p);
        name = surplus_version(p);
        if (!name)
                return;
        args[0] = name;
        if (tree_run(p->spec.loop, p->spec.tree_fd, "remove", args, p->versions_fd, SEC(600),
                     on_removed, p, &p->cleaner, &err) < 0)
                log_warning("remove versions/%s: %s, ignoring", name, error_text(err));
}
