#pragma once

/*
 * The plan: what one version asks of a host, as bounded data. `tendril-bundle plan` makes it from
 * the text that publishers wrote; main reads only this. One JSON object, at most LIMIT_PLAN_BYTES,
 * in plan.json of the version's folder, beside app/ and control/.
 *
 * All paths are relative to the version's folder, in plain components (no "..", no leading slash).
 * Life: PLAN_TABLE decodes and frees it.
 */

#include "base/json.h"

typedef enum PlanKind {
        PLAN_PROCFILE, /* Procfile says what runs */
        PLAN_JAR,      /* one executable jar: application.jar */
        PLAN_WAR,      /* WEB-INF at the root: needs a servlet container */
        PLAN_STATIC,   /* nothing to run */
        _PLAN_KIND_MAX,
} PlanKind;

/* One line of Procfile or Buildfile: name and command as written, for /bin/sh -c. */
typedef struct PlanProcess {
        char *name;
        char *command;
} PlanProcess;

typedef struct Plan {
        uint64_t format;
        int kind;            /* PlanKind */
        JsonArray processes; /* PlanProcess; the first is the proxied one, named "web" */
        JsonArray build;     /* PlanProcess, from Buildfile; in the order of the file */
        char **prebuild;     /* .platform/hooks/prebuild/..., lexicographic */
        char **predeploy;
        char **postdeploy;
        char **proxy_http;   /* .platform/nginx/conf.d/X.conf: go into http{} */
        char **proxy_server; /* .platform/nginx/conf.d/elasticbeanstalk/X.conf: go into server{} */
        char *proxy_main;    /* .platform/nginx/nginx.conf or NULL */
        char **folders;  /* top-level folders and files of .ebextensions, cron.yaml, env.yaml that
                            are there but not acted on */
        char **warnings; /* sentences for the operator */
} Plan;

extern const JsonTable plan_table;
extern const JsonTable plan_process_table;

/*
 * Is this a plan that root may act on? Whoever made it read what publishers wrote, and may have
 * been taken over by it; so what root will use as a name or a path is looked at again: names of
 * processes are [A-Za-z0-9_-]{1,64} and differ, commands are not empty, hooks and texts of the
 * proxy stand below .platform/ in plain components. -EBADMSG names what is wrong.
 */
int plan_check(const Plan *plan, Error **reterr);
