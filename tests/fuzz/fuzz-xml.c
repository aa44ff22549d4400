/*
 * XML as a server answers it: every reader takes every text.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/limits.h"
#include "net/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_list(const char *text, size_t size) {
        Error *err = NULL;
        XmlList list = { 0 };
        int r;

        r = xml_read_list(text, size, &list, &err);
        if (r == 0)
                for (size_t i = 0; i < list.n_entries; i++)
                        if (!list.entries[i].key || !list.entries[i].etag)
                                abort();
        if (r < 0 && (!err || list.entries))
                abort();
        if (list.n_entries > LIMIT_LIST_KEYS)
                abort();
        xml_list_done(&list);
        (void) error_free(err);
}

static void try_error(const char *text, size_t size) {
        Error *err = NULL;
        XmlError error = { 0 };
        int r;

        r = xml_read_error(text, size, &error, &err);
        if (r == 0 ? !error.code : !err || error.code)
                abort();
        xml_error_done(&error);
        (void) error_free(err);
}

static void try_values(const char *text, size_t size) {
        static const char *const names[] = { "UploadId", "AccessKeyId", "Code" };
        char *values[ELEMENTS(names)];

        (void) xml_read_values(text, size, names, ELEMENTS(names), values, NULL);
        for (size_t i = 0; i < ELEMENTS(names); i++)
                free(values[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *text = calloc(1, size + 1);

        if (!text)
                return 0;
        memcpy(text, data, size);
        try_list(text, size);
        try_error(text, size);
        try_values(text, size);
        (void) xml_is_error(text, size);
        free(text);
        return 0;
}
