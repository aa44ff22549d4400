#pragma once

/*
 * The values of an answer's headers that are read by hand. Pure. Private to agent/net/.
 *
 * Source: RFC 9110, 5.6.7 (dates; of the three forms only that which servers must send) and 8.8.3
 * (ETags).
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/time.h"

/* "Sun, 06 Nov 1994 08:49:37 GMT", exactly, a day that exists on its own day of the week. 0,
 * -EINVAL. */
int s3_date_parse(const char *text, usec_t *ret);

/* Quoted or bare, with or without "W/" → bare; the caller frees. 0, -EINVAL (empty, more than 128
 * bytes, characters that no ETag has), -ENOMEM. */
int s3_etag_parse(const char *text, char **ret);

/* What may stand in a condition: s3_etag_parse() would give it as it is. */
bool s3_etag_is_bare(const char *text, size_t size);
