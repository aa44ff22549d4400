#include "deploy/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/crc.h"
#include "base/file.h"
#include "base/str.h"

#define STATE_FILE          "state.json"
#define STATE_PREVIOUS_FILE "state.json.previous"
#define CHECKSUM_PREFIX     "crc32c:"

/* clang-format off */
static const JsonField version_state_fields[] = {
        JSON_ROW("application", JSON_KIND_LABEL, 0, VersionState, application),
        JSON_ROW("label", JSON_KIND_LABEL, 0, VersionState, label),
        JSON_ROW("sha256", JSON_KIND_SHA256, 0, VersionState, sha256),
        JSON_ROW("folder", JSON_KIND_LABEL, 0, VersionState, folder),
        JSON_ROW("revision", JSON_KIND_U64, 0, VersionState, revision),
        JSON_ROW("slot", JSON_KIND_LABEL, 0, VersionState, slot),
        JSON_ROW_MAX("port", JSON_KIND_U64, 0, VersionState, port, 65535),
        JSON_ROW("insists", JSON_KIND_BOOL, 0, VersionState, insists),
        JSON_ROW("since", JSON_KIND_STRING, 0, VersionState, since),
        JSON_ROW_MAX("properties", JSON_KIND_MAP, 0, VersionState, properties, LIMIT_SETTINGS),
        JSON_ROW("proxy", JSON_KIND_LABEL, 0, VersionState, proxy),
        JSON_END,
};
const JsonTable version_state_table = { version_state_fields, sizeof(VersionState) };

static const JsonField quarantine_fields[] = {
        JSON_ROW("revision", JSON_KIND_U64, 0, QuarantineState, revision),
        JSON_ROW("label", JSON_KIND_LABEL, JSON_REQUIRED, QuarantineState, label),
        JSON_ROW("sha256", JSON_KIND_SHA256, JSON_REQUIRED, QuarantineState, sha256),
        JSON_ROW_MAX("why", JSON_KIND_STRING, 0, QuarantineState, why, LIMIT_STRING_BYTES),
        JSON_ROW("since", JSON_KIND_STRING, 0, QuarantineState, since),
        JSON_END,
};
static const JsonTable quarantine_table = { quarantine_fields, sizeof(QuarantineState) };

static const JsonField bundle_fields[] = {
        JSON_ROW_MAX("key", JSON_KIND_STRING, 0, BundleRef, key, LIMIT_KEY_NAME_BYTES),
        JSON_ROW("size", JSON_KIND_U64, 0, BundleRef, size),
        JSON_ROW("sha256", JSON_KIND_SHA256, 0, BundleRef, sha256),
        JSON_END,
};
static const JsonTable bundle_table = { bundle_fields, sizeof(BundleRef) };

static const JsonField attempt_fields[] = {
        JSON_ROW("id", JSON_KIND_LABEL, 0, AttemptState, id),
        JSON_ROW_MAX("kind", JSON_KIND_U64, 0, AttemptState, kind, 16),
        JSON_ROW("stage", JSON_KIND_LABEL, 0, AttemptState, stage),
        JSON_ROW_TABLE("target", JSON_KIND_OBJECT, 0, AttemptState, target, 0, &version_state_table),
        JSON_ROW_TABLE("bundle", JSON_KIND_OBJECT, 0, AttemptState, bundle, 0, &bundle_table),
        JSON_ROW("path", JSON_KIND_STRING, 0, AttemptState, path),
        JSON_ROW("behind", JSON_KIND_STRING, 0, AttemptState, behind),
        JSON_ROW("boot", JSON_KIND_STRING, 0, AttemptState, boot),
        JSON_ROW_MAX("overlap", JSON_KIND_U64, 0, AttemptState, overlap, 2),
        JSON_ROW("decided", JSON_KIND_BOOL, 0, AttemptState, decided),
        JSON_ROW("turned", JSON_KIND_BOOL, 0, AttemptState, turned),
        JSON_ROW("answered", JSON_KIND_BOOL, 0, AttemptState, answered),
        JSON_ROW("failed", JSON_KIND_BOOL, 0, AttemptState, failed),
        JSON_ROW_MAX("error", JSON_KIND_STRING, 0, AttemptState, error, 4 * LIMIT_STRING_BYTES),
        JSON_END,
};
static const JsonTable attempt_table = { attempt_fields, sizeof(AttemptState) };

static const JsonField state_fields[] = {
        JSON_ROW("format", JSON_KIND_U64, JSON_REQUIRED, State, format),
        JSON_ROW("host", JSON_KIND_LABEL, 0, State, host),
        JSON_ROW("revision", JSON_KIND_U64, 0, State, revision),
        JSON_ROW_TABLE("desired", JSON_KIND_OBJECT, 0, State, desired, 0, &desired_document_table),
        JSON_ROW_TABLE("current", JSON_KIND_OBJECT, 0, State, current, 0, &version_state_table),
        JSON_ROW_TABLE("previous", JSON_KIND_OBJECT, 0, State, previous, 0, &version_state_table),
        JSON_ROW_TABLE("replaced", JSON_KIND_OBJECT, 0, State, replaced, 0, &version_state_table),
        JSON_ROW_TABLE("attempt", JSON_KIND_OBJECT, 0, State, attempt, 0, &attempt_table),
        JSON_ROW_TABLE("services", JSON_KIND_ARRAY, 0, State, services, 4 * LIMIT_PROCESSES, &service_record_table),
        JSON_ROW_TABLE("quarantine", JSON_KIND_ARRAY, 0, State, quarantine, LIMIT_QUARANTINE, &quarantine_table),
        JSON_ROW("hold", JSON_KIND_BOOL, 0, State, hold),
        JSON_ROW("fixed_port", JSON_KIND_BOOL, 0, State, fixed_port),
        JSON_ROW("counter", JSON_KIND_U64, 0, State, counter),
        JSON_ROW("lane_nonce", JSON_KIND_LABEL, 0, State, lane_nonce),
        JSON_ROW("lane_generation", JSON_KIND_LABEL, 0, State, lane_generation),
        JSON_ROW("lane", JSON_KIND_U64, 0, State, lane),
        JSON_END,
};
const JsonTable state_table = { state_fields, sizeof(State) };
/* clang-format on */

/* The file: the state beside its checksum. */
typedef struct Wrapped {
        char *checksum;
        Json *state;
} Wrapped;

static const JsonField wrapped_fields[] = {
        JSON_ROW_MAX("checksum", JSON_KIND_STRING, JSON_REQUIRED, Wrapped, checksum, 64),
        JSON_ROW("state", JSON_KIND_ANY, JSON_REQUIRED, Wrapped, state),
        JSON_END,
};
static const JsonTable wrapped_table = { wrapped_fields, sizeof(Wrapped) };

State *state_new(void) {
        State *state = calloc(1, sizeof(State));

        if (state)
                state->format = FORMAT_STATE;
        return state;
}

State *state_free(State *state) {
        if (!state)
                return NULL;
        json_table_done(&state_table, state);
        free(state);
        return NULL;
}

static int checksum_of(const Json *state, char ret[32]) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_STATE_BYTES);
        int r;

        r = json_print(state, false, &text);
        if (r < 0)
                return r;
        (void) snprintf(ret, 32, CHECKSUM_PREFIX "%08x", crc32c(0, text.data, text.size));
        return 0;
}

int state_parse(const char *name, const char *text, size_t size, State **ret, Error **reterr) {
        _cleanup_(state_freep) State *state = NULL;
        Wrapped wrapped = { 0 };
        char checksum[32];
        int r;

        r = json_decode(text, size, &wrapped_table, JSON_STRICT, &wrapped, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "%s", name);
        r = checksum_of(wrapped.state, checksum);
        if (r >= 0 && !str_equal(checksum, wrapped.checksum))
                r = error_set(reterr, -EBADMSG, "%s: the checksum is %s and should be %s", name,
                              checksum, wrapped.checksum);
        if (r >= 0) {
                state = calloc(1, sizeof(State));
                r = state ? json_decode_value(wrapped.state, &state_table, JSON_LENIENT, state,
                                              reterr)
                          : -ENOMEM;
        }
        json_table_done(&wrapped_table, &wrapped);
        if (r < 0)
                return error_wrap(reterr, r, "%s", name);
        if (state->format > FORMAT_STATE)
                return error_set(reterr, -EPROTONOSUPPORT,
                                 "%s: format %llu was written by a newer tendril; this one knows "
                                 "%d. Install that one again",
                                 name, (unsigned long long) state->format, FORMAT_STATE);
        *ret = TAKE_PTR(state);
        return 0;
}

static int load_file(int dir_fd, const char *name, State **ret, Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_STATE_BYTES);
        int r;

        r = file_read_at(dir_fd, name, &text);
        if (r == -ENOENT)
                return STATE_NONE;
        if (r < 0)
                return error_wrap(reterr, r, "read %s", name);
        return state_parse(name, buf_str(&text), text.size, ret, reterr);
}

int state_load(int dir_fd, State **ret, Error **reterr) {
        _cleanup_(error_freep) Error *second = NULL, *first = NULL;
        int r, previous;

        r = load_file(dir_fd, STATE_FILE, ret, &first);
        if (r == 0 || r == -EPROTONOSUPPORT || r == -ENOMEM)
                return r < 0 ? error_take(reterr, &first) : 0;

        /* A file that is gone while its predecessor is there was lost, not never written:
         * file_write_at() links before it renames. */
        previous = load_file(dir_fd, STATE_PREVIOUS_FILE, ret, &second);
        if (previous == 0) {
                if (r == STATE_NONE)
                        (void) error_set(&first, -ENOENT, "%s is missing", STATE_FILE);
                (void) error_take(reterr, &first);
                return STATE_PREVIOUS;
        }
        if (r == STATE_NONE && previous == STATE_NONE) {
                *ret = state_new();
                return *ret ? STATE_NONE : error_set(reterr, -ENOMEM, "out of memory");
        }
        if (previous == -EPROTONOSUPPORT || previous == -ENOMEM)
                return error_take(reterr, &second);
        if (r == STATE_NONE)
                return error_take(reterr, &second);
        return error_set(reterr, -EBADMSG, "%s; and %s", error_text(first),
                         previous < 0 ? error_text(second) : STATE_PREVIOUS_FILE " is not there");
}

/* jansson may drop a byte of a string for which it had no memory, and say nothing. So what it made
 * of the state is compared with the state before a checksum vouches for it. */
static int check_value(const Json *value, const State *state, Error **reterr) {
        _cleanup_(buf_done) Buf meant = BUF_INIT(LIMIT_STATE_BYTES),
                                made = BUF_INIT(LIMIT_STATE_BYTES);
        State again = { 0 };
        int r;

        r = json_encode(&state_table, state, &meant);
        if (r >= 0)
                r = json_decode_value(value, &state_table, JSON_LENIENT, &again, NULL);
        if (r >= 0)
                r = json_encode(&state_table, &again, &made);
        json_table_done(&state_table, &again);
        if (r < 0 || meant.size != made.size ||
            memcmp(buf_str(&meant), buf_str(&made), meant.size) != 0)
                return error_set(reterr, r < 0 && r != -EBADMSG ? r : -ENOMEM,
                                 "write state: out of memory");
        return 0;
}

int state_save(int dir_fd, const State *state, Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_STATE_BYTES);
        char checksum[32];
        Wrapped wrapped = { .checksum = checksum };
        int r;

        wrapped.state = json_encode_value(&state_table, state);
        if (!wrapped.state)
                return error_set(reterr, -ENOMEM, "write state: out of memory");
        r = check_value(wrapped.state, state, reterr);
        if (r >= 0)
                r = checksum_of(wrapped.state, checksum);
        if (r >= 0)
                r = json_encode(&wrapped_table, &wrapped, &text);
        if (r >= 0)
                r = buf_append_str(&text, "\n");
        wrapped.state = json_free(wrapped.state);
        if (r >= 0)
                r = file_write_at(dir_fd, STATE_FILE, text.data, text.size, 0600,
                                  FILE_REPLACE | FILE_SYNC | FILE_KEEP_PREVIOUS);
        if (r < 0)
                return error_wrap(reterr, r, "write %s", STATE_FILE);
        return 0;
}

void version_state_move(VersionState *to, VersionState *from) {
        if (to == from)
                return;
        json_table_done(&version_state_table, to);
        *to = *from;
        memset(from, 0, sizeof(*from));
}

int version_state_copy(VersionState *to, const VersionState *from) {
        VersionState copy = { 0 };
        int r;

        r = json_table_copy(&version_state_table, from, &copy);
        if (r < 0)
                return r;
        version_state_move(to, &copy);
        return 0;
}

static QuarantineState *quarantine_at(const State *state, size_t i) {
        return (QuarantineState *) state->quarantine.items + i;
}

const QuarantineState *quarantine_find(const State *state, uint64_t revision, const char *sha256) {
        for (size_t i = 0; i < state->quarantine.n; i++) {
                const QuarantineState *q = quarantine_at(state, i);

                if (q->revision == revision && str_equal(q->sha256, sha256))
                        return q;
        }
        return NULL;
}

static void quarantine_remove_at(State *state, size_t i) {
        json_table_done(&quarantine_table, quarantine_at(state, i));
        memmove(quarantine_at(state, i), quarantine_at(state, i + 1),
                (state->quarantine.n - i - 1) * sizeof(QuarantineState));
        state->quarantine.n--;
}

void quarantine_lift(State *state, uint64_t revision, const char *sha256) {
        for (size_t i = state->quarantine.n; i > 0; i--) {
                const QuarantineState *q = quarantine_at(state, i - 1);

                if (q->revision == revision && str_equal(q->sha256, sha256))
                        quarantine_remove_at(state, i - 1);
        }
}

int quarantine_add(State *state, uint64_t revision, const char *label, const char *sha256,
                   const char *why, usec_t realtime) {
        char since[TIME_RFC3339_SIZE];
        QuarantineState made = { .revision = revision }, *q;

        time_format(realtime, since);
        made.label = strdup(label);
        made.sha256 = strdup(sha256);
        made.why = str_format("%.*s", LIMIT_STRING_BYTES - 1, why ? why : "");
        made.since = strdup(since);
        if (!made.label || !made.sha256 || !made.why || !made.since)
                goto no_memory;

        quarantine_lift(state, revision, sha256);
        while (state->quarantine.n >= LIMIT_QUARANTINE)
                quarantine_remove_at(state, 0);
        q = json_array_add(&state->quarantine, &quarantine_table, LIMIT_QUARANTINE);
        if (!q)
                goto no_memory;
        *q = made;
        return 0;

no_memory:
        json_table_done(&quarantine_table, &made);
        return -ENOMEM;
}
