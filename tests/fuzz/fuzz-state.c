/*
 * state.json and what stands in it: whatever the bytes are, an error with words and nothing left
 * over, or a state that survives being written and read again.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/limits.h"
#include "deploy/record.h"
#include "deploy/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const JsonTable *table, void *object, void *again) {
        Buf one = BUF_INIT(2 * LIMIT_STATE_BYTES), two = BUF_INIT(2 * LIMIT_STATE_BYTES);

        if (json_encode(table, object, &one) == 0) {
                if (json_decode(one.data, one.size, table, JSON_LENIENT, again, NULL) < 0)
                        abort();
                if (json_encode(table, again, &two) < 0 || one.size != two.size ||
                    memcmp(one.data, two.data, one.size) != 0)
                        abort();
        }
        buf_done(&one);
        buf_done(&two);
}

/* The checksum keeps most input out; behind it stands a decoder that must hold by itself. */
static void decode_state(const char *text, size_t size) {
        State state = { 0 }, again = { 0 };

        if (json_decode(text, size, &state_table, JSON_LENIENT, &state, NULL) == 0)
                round_trip(&state_table, &state, &again);
        json_table_done(&state_table, &state);
        json_table_done(&state_table, &again);
}

static void decode_record(const char *text, size_t size) {
        DeployRecord record = { 0 }, again = { 0 };

        if (json_decode(text, size, &deploy_record_table, JSON_LENIENT, &record, NULL) == 0)
                round_trip(&deploy_record_table, &record, &again);
        json_table_done(&deploy_record_table, &record);
        json_table_done(&deploy_record_table, &again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Error *err = NULL;
        State *state = NULL;
        char *text = calloc(1, size + 1);

        if (!text)
                return 0;
        memcpy(text, data, size);
        if (state_parse("state.json", text, size, &state, &err) < 0 && (state || !err))
                abort();
        (void) state_free(state);
        (void) error_free(err);
        decode_state(text, size);
        decode_record(text, size);
        free(text);
        return 0;
}
