#include "store/document.h"

#include <errno.h>
#include <inttypes.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/str.h"

/* What no fleet reaches, so that a number of a document never overflows what is computed from it.
 */
enum {
        MAX_LANES = 10000,
        MAX_HOSTS = 1000000,
        MAX_NONCE_BYTES = 64,
        MAX_NAME_BYTES = 1024,
        TIME_BYTES = 20,
};

/* Revisions, epochs and counters: JSON numbers of others are exact up to 2^53. */
#define MAX_COUNT ((UINT64_C(1) << 53) - 1)

static const char *const head_status_names[] = { "run", "paused", "aborted", "done", NULL };
static const char *const head_follow_names[] = { "target", "base", NULL };
static const char *const lane_state_names[] = { "held", "released", "left", NULL };

/* clang-format off */
#define FIELD(type, name, kind, flags, ...) \
        { #name, kind, flags, offsetof(type, name), __VA_ARGS__ }
#define ROW(type, name, kind, flags) FIELD(type, name, kind, flags, 0, 0, NULL, NULL)
#define END { NULL, JSON_KIND_STRING, 0, 0, 0, 0, NULL, NULL }
#define FORMAT(type) FIELD(type, format, JSON_KIND_U64, JSON_REQUIRED, 1, MAX_COUNT, NULL, NULL)
#define COUNT(type, name, flags) FIELD(type, name, JSON_KIND_U64, flags, 0, MAX_COUNT, NULL, NULL)
#define REVISION(type) FIELD(type, revision, JSON_KIND_U64, JSON_REQUIRED, 1, MAX_COUNT, NULL, NULL)
#define NONCE(type) FIELD(type, nonce, JSON_KIND_STRING, JSON_REQUIRED, 1, MAX_NONCE_BYTES, NULL, NULL)
#define TIME(type, name) FIELD(type, name, JSON_KIND_STRING, 0, TIME_BYTES, TIME_BYTES, NULL, NULL)

static const JsonField store_fields[] = {
        FORMAT(StoreDocument),
        ROW(StoreDocument, id, JSON_KIND_LABEL, JSON_REQUIRED),
        TIME(StoreDocument, created),
        END
};

static const JsonField bundle_ref_fields[] = {
        FIELD(BundleRef, key, JSON_KIND_STRING, JSON_REQUIRED, 1, LIMIT_KEY_NAME_BYTES, NULL, NULL),
        FIELD(BundleRef, size, JSON_KIND_U64, JSON_REQUIRED, 1, LIMIT_BUNDLE_BYTES, NULL, NULL),
        ROW(BundleRef, sha256, JSON_KIND_SHA256, JSON_REQUIRED),
        END
};
static const JsonTable bundle_ref_table = { bundle_ref_fields, sizeof(BundleRef) };

static const JsonField version_fields[] = {
        FORMAT(VersionDocument),
        ROW(VersionDocument, application, JSON_KIND_LABEL, JSON_REQUIRED),
        ROW(VersionDocument, label, JSON_KIND_LABEL, JSON_REQUIRED),
        FIELD(VersionDocument, bundle, JSON_KIND_OBJECT, JSON_REQUIRED, 0, 0, NULL, &bundle_ref_table),
        TIME(VersionDocument, created),
        END
};

static const JsonField target_ref_fields[] = {
        ROW(VersionRef, label, JSON_KIND_LABEL, JSON_REQUIRED),
        ROW(VersionRef, sha256, JSON_KIND_SHA256, JSON_REQUIRED),
        END
};
static const JsonTable target_ref_table = { target_ref_fields, sizeof(VersionRef) };

static const JsonField base_ref_fields[] = {
        ROW(VersionRef, label, JSON_KIND_LABEL, 0),
        ROW(VersionRef, sha256, JSON_KIND_SHA256, 0),
        END
};
static const JsonTable base_ref_table = { base_ref_fields, sizeof(VersionRef) };

static const JsonField setting_fields[] = {
        { "namespace", JSON_KIND_STRING, JSON_REQUIRED, offsetof(SettingDocument, ns), 1, MAX_NAME_BYTES, NULL, NULL },
        FIELD(SettingDocument, option, JSON_KIND_STRING, JSON_REQUIRED, 1, MAX_NAME_BYTES, NULL, NULL),
        FIELD(SettingDocument, value, JSON_KIND_STRING, JSON_REQUIRED | JSON_SECRET, 0, LIMIT_SETTING_VALUE_BYTES, NULL, NULL),
        END
};

static const JsonField desired_fields[] = {
        FORMAT(DesiredDocument),
        ROW(DesiredDocument, store, JSON_KIND_LABEL, JSON_REQUIRED),
        ROW(DesiredDocument, environment, JSON_KIND_LABEL, JSON_REQUIRED),
        ROW(DesiredDocument, application, JSON_KIND_LABEL, JSON_REQUIRED),
        REVISION(DesiredDocument),
        NONCE(DesiredDocument),
        FIELD(DesiredDocument, target, JSON_KIND_OBJECT, JSON_REQUIRED, 0, 0, NULL, &target_ref_table),
        FIELD(DesiredDocument, base, JSON_KIND_OBJECT, 0, 0, 0, NULL, &base_ref_table),
        FIELD(DesiredDocument, settings, JSON_KIND_ARRAY, 0, 0, LIMIT_SETTINGS, NULL, &setting_document_table),
        TIME(DesiredDocument, created),
        END
};

static const JsonField head_fields[] = {
        FORMAT(HeadDocument),
        REVISION(HeadDocument),
        NONCE(HeadDocument),
        ROW(HeadDocument, generation, JSON_KIND_LABEL, JSON_REQUIRED),
        FIELD(HeadDocument, status, JSON_KIND_ENUM, JSON_REQUIRED, 0, 0, head_status_names, NULL),
        FIELD(HeadDocument, follow, JSON_KIND_ENUM, JSON_REQUIRED, 0, 0, head_follow_names, NULL),
        FIELD(HeadDocument, lanes, JSON_KIND_U64, JSON_REQUIRED, 1, MAX_LANES, NULL, NULL),
        FIELD(HeadDocument, hosts, JSON_KIND_U64, 0, 0, MAX_HOSTS, NULL, NULL),
        END
};

static const JsonField lane_fields[] = {
        FORMAT(LaneDocument),
        REVISION(LaneDocument),
        NONCE(LaneDocument),
        COUNT(LaneDocument, epoch, JSON_REQUIRED),
        FIELD(LaneDocument, state, JSON_KIND_ENUM, JSON_REQUIRED, 0, 0, lane_state_names, NULL),
        ROW(LaneDocument, holder, JSON_KIND_LABEL, 0),
        ROW(LaneDocument, step, JSON_KIND_STRING, 0),
        COUNT(LaneDocument, done, 0),
        COUNT(LaneDocument, failed, 0),
        COUNT(LaneDocument, lost, 0),
        END
};

static const JsonField result_fields[] = {
        FORMAT(ResultDocument),
        REVISION(ResultDocument),
        NONCE(ResultDocument),
        ROW(ResultDocument, host, JSON_KIND_LABEL, JSON_REQUIRED),
        ROW(ResultDocument, sha256, JSON_KIND_SHA256, JSON_REQUIRED),
        ROW(ResultDocument, deploy, JSON_KIND_LABEL, 0),
        ROW(ResultDocument, done, JSON_KIND_BOOL, JSON_REQUIRED),
        ROW(ResultDocument, error, JSON_KIND_STRING, 0),
        END
};

static const JsonField host_fields[] = {
        FORMAT(HostDocument),
        ROW(HostDocument, host, JSON_KIND_LABEL, JSON_REQUIRED),
        ROW(HostDocument, agent, JSON_KIND_STRING, 0),
        ROW(HostDocument, version, JSON_KIND_LABEL, 0),
        ROW(HostDocument, sha256, JSON_KIND_SHA256, 0),
        COUNT(HostDocument, revision, 0),
        ROW(HostDocument, stage, JSON_KIND_STRING, 0),
        ROW(HostDocument, health, JSON_KIND_STRING, 0),
        ROW(HostDocument, cause, JSON_KIND_STRING, 0),
        TIME(HostDocument, changed),
        END
};

/* All documents begin with this member. */
typedef struct FormatDocument {
        uint64_t format;
} FormatDocument;

static const JsonField format_fields[] = { FORMAT(FormatDocument), END };
static const JsonTable format_table = { format_fields, sizeof(FormatDocument) };

const JsonTable store_document_table = { store_fields, sizeof(StoreDocument) };
const JsonTable version_document_table = { version_fields, sizeof(VersionDocument) };
const JsonTable desired_document_table = { desired_fields, sizeof(DesiredDocument) };
const JsonTable head_document_table = { head_fields, sizeof(HeadDocument) };
const JsonTable lane_document_table = { lane_fields, sizeof(LaneDocument) };
const JsonTable result_document_table = { result_fields, sizeof(ResultDocument) };
const JsonTable host_document_table = { host_fields, sizeof(HostDocument) };
const JsonTable setting_document_table = { setting_fields, sizeof(SettingDocument) };
/* clang-format on */

/* A number out of bounds is as bad a message as any other. */
static int decode_wrap(Error **reterr, int r, const char *name) {
        return error_wrap(reterr, r == -ERANGE ? -EBADMSG : r, "%s", name);
}

int document_decode(const char *name, const char *text, size_t size, const JsonTable *table,
                    void *ret, Error **reterr) {
        FormatDocument head = { 0 };
        int r;

        /* The format first and alone: what else a newer one says may not fit our table. */
        r = json_decode(text, size, &format_table, JSON_LENIENT, &head, reterr);
        if (r < 0)
                return decode_wrap(reterr, r, name);
        if (head.format > FORMAT_DOCUMENT)
                return error_set(reterr, -EPROTONOSUPPORT,
                                 "%s: its format %" PRIu64
                                 " is newer than this build reads (%d): upgrade tendril",
                                 name, head.format, FORMAT_DOCUMENT);
        r = json_decode(text, size, table, JSON_LENIENT, ret, reterr);
        if (r < 0)
                return decode_wrap(reterr, r, name);
        return 0;
}

char *document_nonce(void) {
        return str_random_hex(16);
}
