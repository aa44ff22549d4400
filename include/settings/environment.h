#pragma once

/*
 * What the settings of an environment mean for one host: the environment properties of the
 * application, the options that change how it is deployed, and the environment of every process and
 * hook. Pure functions over the settings of a desired document (SettingDocument in a JsonArray) and
 * the configuration; where a setting is given twice the later one counts.
 *
 * Options that are known here but belong to others (load balancer, batches, scaling) are kept and
 * not acted on. An unknown option of a known namespace is told, for it is most likely a slip of the
 * pen; other namespaces are nobody's business here. A known option with a wrong value is an error:
 * it names namespace, option, value and what is allowed.
 *
 * Source of the names: Elastic Beanstalk's general option namespaces; "tendril:deploy" is tendril's
 * own.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/time.h"
#include "host/config.h"

#define SETTINGS_NS_PROPERTIES "aws:elasticbeanstalk:application:environment"
#define SETTINGS_NS_DEPLOY     "tendril:deploy"

/* The configuration with the environment's options laid over it. Life: all zero → effective_make()
 * → effective_done(). */
typedef struct Effective {
        char *gate_path;   /* HealthCheckPath, else "Application Healthcheck URL", else gate.path */
        char *gate_status; /* MatcherHTTPCode, else gate.status */
        uint64_t gate_consecutive; /* tendril:deploy GateConsecutive, else gate.consecutive */
        usec_t gate_interval_usec;
        usec_t gate_check_usec;
        usec_t gate_timeout_usec; /* tendril:deploy GateTimeout, else gate.timeout */
        int overlap;              /* Overlap: tendril:deploy Overlap, else application.overlap */
        uint64_t insisted_port; /* a PORT among the properties: the application is to listen there;
                                   0: there is none */
        usec_t command_usec; /* of one hook or command: aws:elasticbeanstalk:command Timeout, else
                                hooks.timeout */
        char **warnings;     /* sentences for the operator, or NULL */
} Effective;

/*
 * The environment properties: the configuration's application.environment with the settings of
 * SETTINGS_NS_PROPERTIES over them; an empty value is a property too. *ret must be all zero, the
 * caller ends it with json_map_done(). -EINVAL: a name that no shell takes ([A-Za-z_][A-Za-z0-9_]*)
 * or a value with a NUL; -E2BIG; -ENOMEM.
 */
int environment_properties(const Config *config, const JsonArray *settings, JsonMap *ret,
                           Error **reterr);

/* *ret must be all zero. -EINVAL with words, -ENOMEM; *ret is all zero then. */
int effective_make(const Config *config, const JsonArray *settings, Effective *ret, Error **reterr);
void effective_done(Effective *effective);

/* What a process is given beside the properties. Members may be NULL (0 for the port): left out. */
typedef struct EnvironmentSpec {
        const char *home; /* HOME */
        const char *path; /* PATH; NULL: ENVIRONMENT_PATH */
        uint64_t port;    /* PORT, unless it stands among the properties */
        const JsonMap *properties;
        char *const *extra; /* "NAME=value", NULL-terminated: the deploy's own facts, which win over
                               everything */
} EnvironmentSpec;

#define ENVIRONMENT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define ENVIRONMENT_LANG "C.UTF-8"

/* The whole environment of a process, each name once, NULL-terminated; nothing of this process's
 * own environment is in it. Properties win over HOME, PATH, LANG and PORT. The caller frees it with
 * strv_free(). NULL: no memory. */
char **environment_build(const EnvironmentSpec *spec);

/* The values that must not be shown: those of properties whose name says so
 * (config_name_is_secret()), longest first, so that one that is part of another is masked after it.
 * Values under ENVIRONMENT_SECRET_BYTES are left out: masking "1" or "yes" would hide ordinary
 * output and no secret. The caller frees it with strv_free(). NULL: no memory. */
char **environment_secrets(const JsonMap *properties);

#define ENVIRONMENT_SECRET_BYTES 4
