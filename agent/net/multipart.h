#pragma once

/*
 * What a multipart upload is made of, beside its requests. Pure. Private to agent/net/.
 *
 * Source: AmazonS3 API reference, CompleteMultipartUpload and ListMultipartUploads; user guide,
 * "Checking object integrity" (what an ETag is).
 */

#include <stdbool.h>

#include "base/buf.h"
#include "base/time.h"

#define MULTIPART_MD5_SIZE 33 /* hexadecimal, and a NUL */

/* The list of parts that completes it, appended. -EFBIG, -ENOMEM. */
int multipart_list(char *const *etags, size_t n, Buf *ret);

/* What S3 calls the whole, unless it is encrypted with a key of KMS: the MD5 of its parts' MD5s,
 * and their number. The caller frees. NULL: not known, as not all of these are MD5s. */
char *multipart_etag(char *const *etags, size_t n);

/* An MD5 from the form of Content-MD5 to that of an ETag. False: it is none, and ret is "". */
bool multipart_md5(const char *base64, char ret[MULTIPART_MD5_SIZE]);

/* Was it begun longer ago than age? Of what cannot be read: no. "2026-08-01T12:00:00.000Z", as S3
 * writes it, with or without thousandths. */
bool multipart_is_old(const char *initiated, usec_t now, usec_t age);
