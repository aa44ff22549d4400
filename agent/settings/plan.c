#include "settings/plan.h"

#include <errno.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/str.h"

/* Warnings and names are for people: a screenful of each is enough. */
#define LIMIT_WARNINGS 64
#define LIMIT_FOLDERS  16

static const char *const kind_names[] = {
        [PLAN_PROCFILE] = "procfile", [PLAN_JAR] = "jar",      [PLAN_WAR] = "war",
        [PLAN_STATIC] = "static",     [_PLAN_KIND_MAX] = NULL,
};

/* clang-format off */
static const JsonField process_fields[] = {
        { .name = "name", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(PlanProcess, name), .min = 1, .max = 64 },
        { .name = "command", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(PlanProcess, command), .min = 1, .max = LIMIT_COMMAND_BYTES },
        {},
};
static const JsonField plan_fields[] = {
        { .name = "format", .kind = JSON_KIND_U64, .flags = JSON_REQUIRED, .offset = offsetof(Plan, format), .min = 1 },
        { .name = "kind", .kind = JSON_KIND_ENUM, .flags = JSON_REQUIRED, .offset = offsetof(Plan, kind), .names = kind_names },
        { .name = "processes", .kind = JSON_KIND_ARRAY, .offset = offsetof(Plan, processes), .max = LIMIT_PROCESSES, .table = &plan_process_table },
        { .name = "build", .kind = JSON_KIND_ARRAY, .offset = offsetof(Plan, build), .max = LIMIT_PROCESSES, .table = &plan_process_table },
        { .name = "prebuild", .kind = JSON_KIND_STRV, .offset = offsetof(Plan, prebuild), .max = LIMIT_HOOKS },
        { .name = "predeploy", .kind = JSON_KIND_STRV, .offset = offsetof(Plan, predeploy), .max = LIMIT_HOOKS },
        { .name = "postdeploy", .kind = JSON_KIND_STRV, .offset = offsetof(Plan, postdeploy), .max = LIMIT_HOOKS },
        { .name = "proxy_http", .kind = JSON_KIND_STRV, .offset = offsetof(Plan, proxy_http), .max = LIMIT_HOOKS },
        { .name = "proxy_server", .kind = JSON_KIND_STRV, .offset = offsetof(Plan, proxy_server), .max = LIMIT_HOOKS },
        { .name = "proxy_main", .kind = JSON_KIND_STRING, .flags = JSON_OMIT_EMPTY, .offset = offsetof(Plan, proxy_main), .min = 1 },
        { .name = "folders", .kind = JSON_KIND_STRV, .offset = offsetof(Plan, folders), .max = LIMIT_FOLDERS },
        { .name = "warnings", .kind = JSON_KIND_STRV, .offset = offsetof(Plan, warnings), .max = LIMIT_WARNINGS },
        {},
};
/* clang-format on */

const JsonTable plan_process_table = { process_fields, sizeof(PlanProcess) };
const JsonTable plan_table = { plan_fields, sizeof(Plan) };

#define NAME_BYTES 64

static bool is_plain_path(const char *path, const char *prefix) {
        if (!str_has_prefix(path, prefix) || !str_is_utf8(path, strlen(path), true))
                return false;
        for (const char *at = path; *at;) {
                size_t n = strcspn(at, "/");

                if (n == 0 || (n == 1 && at[0] == '.') || (n == 2 && at[0] == '.' && at[1] == '.'))
                        return false;
                at += n;
                if (*at == '/' && !*++at)
                        return false;
        }
        return true;
}

static int check_paths(char *const *paths, const char *prefix, Error **reterr) {
        for (char *const *p = paths; p && *p; p++)
                if (!is_plain_path(*p, prefix))
                        return error_set(reterr, -EBADMSG,
                                         "the plan names '%.100s', which is no path below %s", *p,
                                         prefix);
        return 0;
}

static bool is_name(const char *name) {
        size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");

        return n > 0 && n <= NAME_BYTES && !name[n];
}

static int check_processes(const JsonArray *processes, Error **reterr) {
        const PlanProcess *p = processes->items;

        for (size_t i = 0; i < processes->n; i++) {
                if (!is_name(p[i].name))
                        return error_set(reterr, -EBADMSG,
                                         "the plan has a process whose name cannot be: '%.100s'",
                                         p[i].name);
                if (str_is_empty(p[i].command))
                        return error_set(reterr, -EBADMSG, "the plan has no command for '%s'",
                                         p[i].name);
                for (size_t k = 0; k < i; k++)
                        if (str_equal(p[i].name, p[k].name))
                                return error_set(reterr, -EBADMSG,
                                                 "the plan has two processes '%s'", p[i].name);
        }
        return 0;
}

int plan_check(const Plan *plan, Error **reterr) {
        const struct {
                char *const *paths;
                const char *prefix;
        } lists[] = {
                { plan->prebuild, ".platform/hooks/prebuild/" },
                { plan->predeploy, ".platform/hooks/predeploy/" },
                { plan->postdeploy, ".platform/hooks/postdeploy/" },
                { plan->proxy_http, ".platform/nginx/conf.d/" },
                { plan->proxy_server, ".platform/nginx/conf.d/elasticbeanstalk/" },
        };
        int r;

        r = check_processes(&plan->processes, reterr);
        if (r >= 0)
                r = check_processes(&plan->build, reterr);
        for (size_t i = 0; i < ELEMENTS(lists) && r >= 0; i++)
                r = check_paths(lists[i].paths, lists[i].prefix, reterr);
        if (r >= 0 && plan->proxy_main && !is_plain_path(plan->proxy_main, ".platform/nginx/"))
                r = error_set(reterr, -EBADMSG, "the plan names '%.100s' as nginx.conf",
                              plan->proxy_main);
        return r;
}
