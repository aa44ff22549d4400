#include "bundle/task.h"

#include "agent/limits.h"

/* "2026-08-01T12:00:00Z" */
#define TIME_BYTES 20

/* clang-format off */
static const JsonField verify_fields[] = {
        { .name = "sha256", .kind = JSON_KIND_SHA256, .flags = JSON_OMIT_EMPTY, .offset = offsetof(TaskVerify, sha256) },
        { .name = "size", .kind = JSON_KIND_U64, .offset = offsetof(TaskVerify, size) },
        {},
};
static const JsonField verified_fields[] = {
        { .name = "sha256", .kind = JSON_KIND_SHA256, .flags = JSON_REQUIRED, .offset = offsetof(TaskVerified, sha256) },
        { .name = "size", .kind = JSON_KIND_U64, .flags = JSON_REQUIRED, .offset = offsetof(TaskVerified, size) },
        {},
};
static const JsonField key_fields[] = {
        { .name = "id", .kind = JSON_KIND_LABEL, .flags = JSON_REQUIRED, .offset = offsetof(TaskKey, id) },
        { .name = "purpose", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(TaskKey, purpose), .min = 1, .max = 32 },
        { .name = "ends", .kind = JSON_KIND_STRING, .flags = JSON_OMIT_EMPTY, .offset = offsetof(TaskKey, ends), .min = 1, .max = TIME_BYTES },
        { .name = "pem", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(TaskKey, pem), .min = 1, .max = LIMIT_KEY_BYTES },
        {},
};
static const JsonField open_fields[] = {
        { .name = "type", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(TaskOpen, type), .min = 1, .max = 256 },
        { .name = "purpose", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(TaskOpen, purpose), .min = 1, .max = 32 },
        { .name = "now", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(TaskOpen, now), .min = 1, .max = TIME_BYTES },
        { .name = "keys", .kind = JSON_KIND_ARRAY, .offset = offsetof(TaskOpen, keys), .max = LIMIT_KEYS, .table = &task_key_table },
        { .name = "unsigned_allowed", .kind = JSON_KIND_BOOL, .offset = offsetof(TaskOpen, unsigned_allowed) },
        {},
};
static const JsonField opened_fields[] = {
        { .name = "key_id", .kind = JSON_KIND_LABEL, .flags = JSON_OMIT_EMPTY, .offset = offsetof(TaskOpened, key_id) },
        {},
};
static const JsonField sign_fields[] = {
        { .name = "type", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(TaskSign, type), .min = 1, .max = 256 },
        { .name = "key_id", .kind = JSON_KIND_LABEL, .flags = JSON_OMIT_EMPTY, .offset = offsetof(TaskSign, key_id) },
        { .name = "private_pem", .kind = JSON_KIND_STRING, .flags = JSON_OMIT_EMPTY | JSON_SECRET, .offset = offsetof(TaskSign, private_pem), .min = 1, .max = LIMIT_KEY_BYTES },
        { .name = "replace", .kind = JSON_KIND_BOOL, .offset = offsetof(TaskSign, replace) },
        {},
};
static const JsonField keys_fields[] = {
        { .name = "private_pem", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED | JSON_SECRET, .offset = offsetof(TaskKeys, private_pem), .min = 1, .max = LIMIT_KEY_BYTES },
        { .name = "public_pem", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(TaskKeys, public_pem), .min = 1, .max = LIMIT_KEY_BYTES },
        {},
};
static const JsonField unpack_fields[] = {
        { .name = "max_entries", .kind = JSON_KIND_U64, .offset = offsetof(TaskUnpack, max_entries) },
        { .name = "max_bytes", .kind = JSON_KIND_U64, .offset = offsetof(TaskUnpack, max_bytes) },
        { .name = "threads", .kind = JSON_KIND_U64, .offset = offsetof(TaskUnpack, threads) },
        {},
};
static const JsonField unpacked_fields[] = {
        { .name = "entries", .kind = JSON_KIND_U64, .flags = JSON_REQUIRED, .offset = offsetof(TaskUnpacked, entries) },
        { .name = "bytes", .kind = JSON_KIND_U64, .flags = JSON_REQUIRED, .offset = offsetof(TaskUnpacked, bytes) },
        { .name = "format", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(TaskUnpacked, format), .min = 1, .max = 16 },
        {},
};
static const JsonField plan_fields[] = {
        { .name = "default_command", .kind = JSON_KIND_STRING, .flags = JSON_OMIT_EMPTY, .offset = offsetof(TaskPlan, default_command), .min = 1, .max = LIMIT_COMMAND_BYTES },
        {},
};
/* clang-format on */

const JsonTable task_verify_table = { verify_fields, sizeof(TaskVerify) };
const JsonTable task_verified_table = { verified_fields, sizeof(TaskVerified) };
const JsonTable task_key_table = { key_fields, sizeof(TaskKey) };
const JsonTable task_open_table = { open_fields, sizeof(TaskOpen) };
const JsonTable task_opened_table = { opened_fields, sizeof(TaskOpened) };
const JsonTable task_sign_table = { sign_fields, sizeof(TaskSign) };
const JsonTable task_keys_table = { keys_fields, sizeof(TaskKeys) };
const JsonTable task_unpack_table = { unpack_fields, sizeof(TaskUnpack) };
const JsonTable task_unpacked_table = { unpacked_fields, sizeof(TaskUnpacked) };
const JsonTable task_plan_table = { plan_fields, sizeof(TaskPlan) };
