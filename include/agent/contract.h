#pragma once

/*
 * What others rely on: exit codes, names in the environment of hooks, where things stand. A change
 * here is a change for everybody who wrote a hook, a unit or a script.
 */

/* Exit codes of `tendril` (documented in tendril(1)). */
typedef enum ExitCode {
        EXIT_CODE_OK = 0,
        EXIT_CODE_FAILED = 1,   /* it was tried and did not work; the sentence on stderr says why */
        EXIT_CODE_USAGE = 2,    /* the command line is wrong; nothing was tried */
        EXIT_CODE_REFUSED = 3,  /* not allowed: rights, signature, policy, a label that exists with
                                   other content */
        EXIT_CODE_CONFLICT = 4, /* somebody else changed it meanwhile; look and repeat */
        EXIT_CODE_UNREACHABLE = 5, /* no agent at the socket, or no store */
        EXIT_CODE_TIMEOUT = 6,     /* `wait`: the time ran out */
        EXIT_CODE_UNHEALTHY = 7,   /* `wait --healthy`, `health`: the host is not well */
        EXIT_CODE_DAMAGED = 8,     /* `fsck`: something is wrong on disk */
} ExitCode;

/* Exit codes of hooks (hooks/README.md, tendril-hooks(7)). */
#define HOOK_EXIT_RETRY  75  /* try the deploy again later */
#define HOOK_EXIT_REBOOT 194 /* reboot, and go on behind this hook */

/* Environment of hooks beside the environment properties; Elastic Beanstalk's names first. */
#define HOOK_ENV_HOME        "HOME"                     /* of the user that it runs as */
#define HOOK_ENV_PATH        "PATH"                     /* the system's usual folders */
#define HOOK_ENV_PORT        "PORT"                     /* where the new version will listen */
#define HOOK_ENV_LEADER      "EB_IS_COMMAND_LEADER"     /* "true": each host leads for itself */
#define HOOK_ENV_DEPLOY_ID   "TENDRIL_DEPLOY_ID"        /* as `tendril history` shows it */
#define HOOK_ENV_PHASE       "TENDRIL_PHASE"            /* prebuild, predeploy, postdeploy */
#define HOOK_ENV_HOOK        "TENDRIL_HOOK"             /* "version/10-x", "host/10-x" */
#define HOOK_ENV_APPLICATION "TENDRIL_APPLICATION"      /* label */
#define HOOK_ENV_ENVIRONMENT "TENDRIL_ENVIRONMENT"      /* label */
#define HOOK_ENV_VERSION     "TENDRIL_VERSION"          /* label of the version that is deployed */
#define HOOK_ENV_DIGEST      "TENDRIL_DIGEST"           /* its bundle's SHA-256, 64 digits */
#define HOOK_ENV_PREVIOUS    "TENDRIL_PREVIOUS_VERSION" /* label that runs now; unset: none */
#define HOOK_ENV_HOST        "TENDRIL_HOST"             /* id of this host */
#define HOOK_ENV_APP_DIR     "TENDRIL_APP_DIR"          /* the new version's files */
#define HOOK_ENV_CONTEXT     "TENDRIL_CONTEXT"          /* path of the JSON file with all of it */

/* Lines that a hook may print to be shown to the operator as events: "tendril: WORDS". */
#define HOOK_MESSAGE_PREFIX "tendril: "

/* Paths, below --root where one is given (design: host/paths.h). */
#define PATH_CONFIG         "/etc/tendril/tendril.yaml" /* root's word to this host */
#define PATH_CONFIG_DIR     "/etc/tendril/tendril.d"    /* drop-ins, in name order */
#define PATH_HOST_HOOKS     "/etc/tendril/hooks"        /* PHASE/NN-name: the host's own hooks */
#define PATH_VENDOR_HOOKS   "/usr/lib/tendril/hooks"    /* those that the package ships */
#define PATH_STATE          "/var/lib/tendril"          /* 0711; what must survive a reboot */
#define PATH_APP            "/var/app"         /* current and staging, as in Elastic Beanstalk */
#define PATH_RUN            "/run/tendril"     /* gone after a reboot */
#define PATH_LOG            "/var/log/tendril" /* one file a deploy, one a process */
#define PATH_LIBEXEC        "/usr/libexec/tendril" /* the helper programs */
#define NAME_CONTROL_SOCKET "control.sock"         /* in PATH_RUN */

/* The group that may ask (not change); root may do both. */
#define GROUP_CONTROL "tendril"

/* The varlink interface of the control socket. */
#define CONTROL_INTERFACE "io.tendril.Agent"

/* Formats that this build reads and writes. A newer one is never guessed at. */
#define FORMAT_DOCUMENT 1 /* documents of the store, records of deploys */
#define FORMAT_STATE    1 /* state.json */

/* Of all programs together; the Makefile reads it here. */
#define TENDRIL_VERSION "0.1.0"
