/*
 * Values of headers: dates and ETags.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "net/s3header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *text = calloc(1, size + 1), *etag = NULL, *again = NULL;
        usec_t usec;

        if (!text)
                return 0;
        memcpy(text, data, size);
        if (s3_date_parse(text, &usec) == 0 && strlen(text) != 29)
                abort();
        if (s3_etag_parse(text, &etag) == 0) {
                if (!s3_etag_is_bare(etag, strlen(etag)))
                        abort();
                /* What was made bare stays what it is. */
                if (s3_etag_parse(etag, &again) != 0 || strcmp(etag, again) != 0)
                        abort();
        }
        free(again);
        free(etag);
        free(text);
        return 0;
}
