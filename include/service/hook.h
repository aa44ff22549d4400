#pragma once

/*
 * Runs the hooks of one phase, one after the other, and tells what became of each. The protocol
 * that hook authors see is hooks/README.md.
 *
 * Order: host's hooks (vendor folder, then /etc, a name in /etc replaces the same name), then the
 * version's, each lexicographic by bytes. A hook of the host that leaves processes behind has them
 * killed; those of a version's hook are kept and reported. Each runs in a cgroup of its own where
 * there are cgroups.
 */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/json.h"
#include "base/time.h"
#include "loop/child.h"

typedef enum HookAnswer {
        HOOK_RETRY = 1, /* one exited with 75 */
        HOOK_REBOOT,    /* one exited with 194: HookRecord name says behind which to go on */
} HookAnswer;

/* What became of one hook; kept in the record of the deploy. */
typedef struct HookRecord {
        char *phase;
        char *name;
        char *origin;  /* "host" or "version" */
        char *started; /* RFC 3339 */
        uint64_t took_ms;
        char *result;    /* "ok", "exit 3", "signal 9 (Killed)", "time out after 30 s", ... */
        char **messages; /* its lines behind "tendril: " */
        char **tail;     /* last LIMIT_HOOK_TAIL_LINES lines of output, printable, secrets masked */
        bool survivors;
} HookRecord;
extern const JsonTable hook_record_table;

typedef struct HookDir {
        const char *path; /* absolute */
        bool version;     /* false: the host's */
} HookDir;

typedef struct HookPhase {
        const char *phase;   /* "prebuild", "predeploy", "postdeploy" */
        const HookDir *dirs; /* in the order to run: vendor, host, version. A folder that is missing
                                is empty. */
        size_t n_dirs;
        const char *behind;   /* go on behind this one ("host/10-x" or "version/10-x"), or NULL */
        char *const *env;     /* whole environment; TENDRIL_HOOK is added */
        char *const *secrets; /* values that are masked in what is kept of the output, or NULL */
        const char *cwd;      /* absolute */
        char *const *wrapper; /* argv put before the hook's (tendril-tree view ... --), or NULL; it
                                 enters the folder and becomes the user in place of us */
        int wrapper_fd;       /* its program where wrapper is given */
        const char *instance; /* cgroups */
        usec_t timeout_usec;  /* of each */
        usec_t kill_usec;
        /* Each line as it comes (for the log of the deploy), and each end. Borrowed. */
        void (*on_line)(void *userdata, const char *hook, const char *line);
        void (*on_hook)(void *userdata, HookRecord *record); /* may take members by stealing them */
        /* r: 0 all done, HookAnswer, or negative errno with words naming the hook. Once. The run is
         * over then and its pointer void. */
        void (*on_done)(void *userdata, int r, const char *last, Error *err);
        void *userdata;
} HookPhase;

typedef struct HookRun HookRun;

/* Everything but the callbacks is copied. on_done() comes from the loop also where there is no hook
 * at all. */
int hooks_run(sd_event *loop, const HookPhase *phase, HookRun **ret, Error **reterr);

/* Kills what runs; on_done() is not called. Takes NULL. */
HookRun *hooks_cancel(HookRun *run);

/* One command line instead of hooks (Buildfile), with the same care: phase->dirs is not used. */
int hooks_run_command(sd_event *loop, const HookPhase *phase, const char *name, const char *command,
                      uid_t uid, gid_t gid, HookRun **ret, Error **reterr);
