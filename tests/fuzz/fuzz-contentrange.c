/* The value of Content-Range: refused, or bytes in their order within the object, which are read
 * the same when they are written again. */

#include "net/transferbase.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
        if (!holds)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = calloc(1, size + 1), *again = NULL;
        uint64_t begin, end, total, b, e, t;

        if (!text)
                return 0;
        memcpy(text, data, size);
        if (transfer_parse_range(text, &begin, &end, &total) < 0)
                return 0;
        must(begin <= end && end < total);
        again = str_format("bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, begin, end, total);
        must(transfer_parse_range(again, &b, &e, &t) == 0);
        must(b == begin && e == end && t == total);
        return 0;
}
