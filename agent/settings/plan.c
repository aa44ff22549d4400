#include "settings/plan.h"

#include "agent/contract.h"
#include "agent/limits.h"

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
