#pragma once

/*
 * The embedded store: documents are files below a folder, in the process that asks. Many processes
 * and users may share one folder. A conditional write holds an exclusive lock on ROOT/.lock while
 * it compares and renames; the lock is never waited for: where it is taken the call tries again
 * from the loop, for at most 10 s (-ETIMEDOUT).
 *
 * Writes are durable when they are answered (file and folder synced). The age of a document is how
 * long this process has seen the same ETag, on BOOTTIME; there is no clock of the store (date_usec
 * 0). The ETag of a document of at most LIMIT_DOCUMENT_BYTES covers its content.
 *
 * fetch copies in slices from the loop, so that a large bundle does not hold up anything else.
 */

#include "store/store.h"

/* url: "file:///path". The folder must exist (`tendril init` makes it). -EINVAL: not such a URL;
 * -ENOENT. */
int store_file_new(sd_event *loop, const char *url, const Clock *clock, Store **ret,
                   Error **reterr);
