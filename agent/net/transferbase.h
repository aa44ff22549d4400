#pragma once

/*
 * What fetch (transfer.c) and upload (upload.c) share: one's life and its end, and progress, which
 * is told from the loop once in a while, since whoever is told may cancel. Private to agent/net/.
 */

#include "net/s3call.h"
#include "net/transfer.h"

/* A stalled range is a failed one; all of it may take as long as the slowest useful network needs.
 */
#define TRANSFER_STALL_USEC SEC(30)
#define TRANSFER_TOTAL_USEC SEC(3600)

typedef struct TransferKind {
        /* How many bytes are done, of how many; false: not known yet. */
        bool (*count)(Transfer *t, uint64_t *ret_done, uint64_t *ret_size);
        void (*look)(Transfer *t); /* once a second; NULL: nothing to do */
        void (*stop)(Transfer *t); /* drops what is under way, and all that is its own */
} TransferKind;

/* The first member of a Fetch, or Upload, which is one piece of memory. */
struct Transfer {
        const TransferKind *kind;
        S3 *s3;
        TransferSpec spec; /* key and if_match are its own */
        char *key, *if_match;
        sd_event_source *timer;
        unsigned n_looks;
        uint64_t n_told;
        bool *gone; /* set when it is freed */
};

int transfer_init(Transfer *t, const TransferKind *kind, S3 *s3, const TransferSpec *spec);

/* Frees it, and calls done(). etag may be its own. err is consumed. */
void transfer_end(Transfer *t, int r, const char *etag, uint64_t size, Error *err);
Transfer *transfer_free(Transfer *t); /* takes NULL and what transfer_init() has not seen */
DEFINE_CLEANUP(Transfer, transfer_free);

/* "bytes 0-99/1234", exactly. 0, -EINVAL (another form; an end before the beginning, or beyond the
 * total). end is that of the last byte. */
int transfer_parse_range(const char *text, uint64_t *ret_begin, uint64_t *ret_end,
                         uint64_t *ret_total);
