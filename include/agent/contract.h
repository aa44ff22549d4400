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
#define HOOK_ENV_HOME        "HOME"
#define HOOK_ENV_PATH        "PATH"
#define HOOK_ENV_PORT        "PORT"
#define HOOK_ENV_LEADER      "EB_IS_COMMAND_LEADER"
#define HOOK_ENV_DEPLOY_ID   "TENDRIL_DEPLOY_ID"
#define HOOK_ENV_PHASE       "TENDRIL_PHASE"
#define HOOK_ENV_HOOK        "TENDRIL_HOOK"
#define HOOK_ENV_APPLICATION "TENDRIL_APPLICATION"
#define HOOK_ENV_ENVIRONMENT "TENDRIL_ENVIRONMENT"
#define HOOK_ENV_VERSION     "TENDRIL_VERSION"
#define HOOK_ENV_DIGEST      "TENDRIL_DIGEST"
#define HOOK_ENV_PREVIOUS    "TENDRIL_PREVIOUS_VERSION"
#define HOOK_ENV_HOST        "TENDRIL_HOST"
#define HOOK_ENV_APP_DIR     "TENDRIL_APP_DIR"
#define HOOK_ENV_CONTEXT     "TENDRIL_CONTEXT" /* path of the JSON file with all of it */

/* Lines that a hook may print to be shown to the operator as events: "tendril: WORDS". */
#define HOOK_MESSAGE_PREFIX "tendril: "

/* Paths, below --root where one is given (design: host/paths.h). */
#define PATH_CONFIG         "/etc/tendril/tendril.yaml"
#define PATH_CONFIG_DIR     "/etc/tendril/tendril.d"
#define PATH_HOST_HOOKS     "/etc/tendril/hooks"
#define PATH_VENDOR_HOOKS   "/usr/lib/tendril/hooks"
#define PATH_STATE          "/var/lib/tendril"
#define PATH_APP            "/var/app"
#define PATH_RUN            "/run/tendril"
#define PATH_LOG            "/var/log/tendril"
#define PATH_LIBEXEC        "/usr/libexec/tendril"
#define NAME_CONTROL_SOCKET "control.sock"

/* The group that may ask (not change); root may do both. */
#define GROUP_CONTROL "tendril"

/* The varlink interface of the control socket. */
#define CONTROL_INTERFACE "io.tendril.Agent"

/* Formats that this build reads and writes. A newer one is never guessed at. */
#define FORMAT_DOCUMENT 1
#define FORMAT_STATE    1

#define TENDRIL_VERSION "0.1.0"
