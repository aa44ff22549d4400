#pragma once

/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), for tendril's own state files: it finds torn and
 * flipped bytes, and proves nothing against a person. crc32c(0, "123456789", 9) is 0xe3069283. */

#include <stddef.h>
#include <stdint.h>

/* Continues crc (0 to begin with) over size bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);
