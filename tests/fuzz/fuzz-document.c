/*
 * Documents of the store, as they come from whoever can write there: desired, version, head, lane,
 * result, host.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/limits.h"
#include "deploy/desired.h"
#include "fleet/lane.h"
#include "store/document.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef union Any {
        StoreDocument store;
        VersionDocument version;
        DesiredDocument desired;
        HeadDocument head;
        LaneDocument lane;
        ResultDocument result;
        HostDocument host;
} Any;

static void decide(const JsonTable *table, const Any *doc) {
        if (table == &desired_document_table) {
                State state = { .desired = doc->desired };
                const VersionRef *ref = NULL;

                (void) desired_accept(&state, &doc->desired, "s", "e", 1, NULL);
                (void) desired_decide(&state, NULL, &ref);
        } else if (table == &lane_document_table) {
                const LaneSeen seen = { .first_usec = 1, .last_usec = SEC(100), .n = 3 };

                (void) lane_decide(&doc->lane, &seen, SEC(100), "self", NULL);
        }
}

static void try_table(const JsonTable *table, const char *text, size_t size) {
        Error *err = NULL;
        Any doc, zero;
        Buf out = BUF_INIT(4 * LIMIT_DOCUMENT_BYTES);
        int r;

        memset(&doc, 0, sizeof(doc));
        memset(&zero, 0, sizeof(zero));
        r = document_decode("document", text, size, table, &doc, &err);
        if (r < 0 && (!err || memcmp(&doc, &zero, table->size) != 0))
                abort();
        if (r == 0) {
                decide(table, &doc);
                if (json_encode(table, &doc, &out) < 0)
                        abort();
        }
        json_table_done(table, &doc);
        (void) error_free(err);
        buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const JsonTable *const tables[] = {
                &store_document_table, &version_document_table, &desired_document_table,
                &head_document_table,  &lane_document_table,    &result_document_table,
                &host_document_table,
        };
        char *text = calloc(1, size + 1);

        if (!text)
                return 0;
        memcpy(text, data, size);
        for (size_t i = 0; i < ELEMENTS(tables); i++)
                try_table(tables[i], text, size);
        free(text);
        return 0;
}
