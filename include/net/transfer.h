#pragma once

/*
 * Large objects: fetched by parallel ranges, sent in parallel parts. Memory is bounded whatever the
 * size: bytes go between the socket and the file without being kept.
 *
 * fetch: ranges of TRANSFER_RANGE_BYTES, TRANSFER_PARALLEL at a time, each a GET with Range and
 * If-Match of the first answer's ETag: an object that is replaced meanwhile is STORE_REFUSED. The
 * map file (may be -EBADF: none) remembers ETag, size and which ranges are whole, so that a call
 * with the same two files goes on where an earlier one was cut, in another process and after a
 * reboot too. A map that is torn, or of another ETag or size, is begun anew (and the file
 * truncated). It is a hint like all that tendril-net says: the digest is computed later by a
 * program that did not fetch. A range that is cut is continued where it stopped; s3_send()'s
 * retries are each range's own. Where S3 returns a checksum of the whole object
 * (x-amz-checksum-sha256, type FULL_OBJECT), it is told in the reply.
 *
 * upload: up to TRANSFER_SINGLE_BYTES by one PUT, else a multipart upload, parts of
 * max(8 MiB, size / 9,000), TRANSFER_PARALLEL at a time, each with Content-MD5 (a digest that all
 * servers check); completed with If-None-Match: * where asked; aborted when it fails or is
 * cancelled. Before an upload the same key's unfinished uploads of an earlier, killed run that are
 * older than a day are aborted.
 *
 * Limits: 16 MiB above idle for 512 MB objects, on either way.
 */

#include "net/s3.h"

#define TRANSFER_RANGE_BYTES  (UINT64_C(8) * 1024 * 1024)
#define TRANSFER_SINGLE_BYTES (UINT64_C(16) * 1024 * 1024)
#define TRANSFER_PARALLEL     8

typedef struct Transfer Transfer;

/* r as of store calls: 0, STORE_ABSENT, STORE_REFUSED, negative with words. etag and size: of the
 * object; borrowed. */
typedef void (*TransferDone)(void *userdata, int r, const char *etag, uint64_t size, Error *err);

typedef struct TransferSpec {
        const char *key;
        int fd;     /* written (fetch) or read (upload) at offsets; borrowed until the end */
        int map_fd; /* fetch; -EBADF: none */
        const char *if_match;   /* fetch; NULL: whatever is there */
        bool if_absent;         /* upload */
        StoreProgress progress; /* may be NULL */
        TransferDone done;
        void *userdata; /* of both */
} TransferSpec;

int transfer_fetch(S3 *s3, const TransferSpec *spec, Transfer **ret, Error **reterr);
int transfer_upload(S3 *s3, const TransferSpec *spec, Transfer **ret, Error **reterr);

/* done() does not come. An upload is aborted in the background as far as the process lives. Takes
 * NULL, returns NULL. */
Transfer *transfer_cancel(Transfer *transfer);
