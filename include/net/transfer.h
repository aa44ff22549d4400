#pragma once

/*
 * Large objects: fetched by parallel ranges, sent in parallel parts. Memory is bounded whatever the
 * size: bytes go between the socket and the file without being kept.
 *
 * fetch: one request of 1 MiB shows ETag and size (and is all that a small object takes); then
 * TRANSFER_PARALLEL at a time, each for one range of TRANSFER_RANGE_BYTES, or for several that
 * follow each other where much is left. Each is a GET with Range and If-Match of that
 * ETag: an object that is replaced meanwhile is STORE_REFUSED, also where the server
 * ignores the condition. Bytes of elsewhere than asked are refused. The map file (may be -EBADF:
 * none) remembers ETag, size and how much of each range is there, so that a call with the same two
 * files goes on where an earlier one was cut, in another process and after a reboot too; of a range
 * that was not whole at most the last second is fetched twice. A map whose head is torn, or of
 * another ETag or size, is begun anew (and the file truncated); a torn record is a range of which
 * nothing is there. It is a hint like all that tendril-net says: the digest is computed later by a
 * program that did not fetch. Nothing is synced. A range that is cut is continued where it stopped;
 * tries are counted for each range by itself, and begin anew with every 256 KiB that come. At most
 * LIMIT_BUNDLE_BYTES; room for all of it is taken before the second request.
 *
 * upload: up to TRANSFER_SINGLE_BYTES by one PUT, else a multipart upload, parts of
 * max(8 MiB, size / 9,000), TRANSFER_PARALLEL at a time, each with Content-MD5 and its SHA-256
 * signed (both from one reading); completed with If-None-Match: * where asked; aborted when it
 * fails or is cancelled. Before an upload the same key's unfinished uploads of an earlier, killed
 * run that are older than a day are aborted, if they may be listed. Where the answer to the last
 * request is lost the object is looked at: with the ETag that ours must have it is done, else
 * broken. A server that overwrites in spite of the condition (Ceph RGW 16, when it completes) is
 * not noticed here.
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
        const char *if_match; /* fetch: of this one only; upload: in place of this one. NULL: any */
        bool if_absent;       /* upload */
        StoreProgress progress; /* may be NULL */
        TransferDone done;
        void *userdata; /* of both */
} TransferSpec;

int transfer_fetch(S3 *s3, const TransferSpec *spec, Transfer **ret, Error **reterr);
int transfer_upload(S3 *s3, const TransferSpec *spec, Transfer **ret, Error **reterr);

/* done() does not come. An upload is aborted in the background as far as the process lives. Takes
 * NULL, returns NULL. */
Transfer *transfer_cancel(Transfer *transfer);
