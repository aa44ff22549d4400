#pragma once

/*
 * What of an object is in a file already: the second file of a fetch (net/transfer.h). Private to
 * agent/net/.
 *
 * A head (ETag, size) and a record of fixed size for each range: how many of its bytes are there,
 * from its beginning on. Each has a checksum; a record's covers the head too, so that none outlives
 * it. A torn head is no map; a torn record is a range of which nothing is known. Records are
 * written in place, after the bytes that they tell of.
 *
 * The file may be anything: it was written by an earlier run that a power cut ended, or by nobody.
 */

#include <stdbool.h>

#include "agent/limits.h"
#include "net/transfer.h"

#define MAP_RANGES_MAX   (LIMIT_BUNDLE_BYTES / TRANSFER_RANGE_BYTES)
#define MAP_ETAG_BYTES   128
#define MAP_HEAD_BYTES   160
#define MAP_RECORD_BYTES 8
#define MAP_BYTES_MAX    (MAP_HEAD_BYTES + MAP_RANGES_MAX * MAP_RECORD_BYTES)

typedef struct Map {
        char etag[MAP_ETAG_BYTES + 1]; /* "": no object yet */
        uint64_t size;
        size_t n_ranges;
        uint32_t got[MAP_RANGES_MAX]; /* bytes of each range */
} Map;

/* A new one, of which nothing is there. -EINVAL: not an ETag; -EFBIG: larger than
 * LIMIT_BUNDLE_BYTES. */
int map_begin(const char *etag, uint64_t size, Map *ret);

uint32_t map_range_bytes(const Map *map, size_t range); /* of the whole range */
uint64_t map_have(const Map *map);                      /* sum of got */
bool map_is_whole(const Map *map);

/* -EBADMSG: not a map. */
int map_decode(const void *data, size_t size, Map *ret);
size_t map_encode(const Map *map, uint8_t ret[MAP_BYTES_MAX]); /* how many bytes */

/* Of a file. Load: 0, -EBADMSG (no map, or a torn one), others of reading. */
int map_load(int fd, Map *ret);
int map_store(int fd, const Map *map);                     /* in place of what is there */
int map_store_range(int fd, const Map *map, size_t range); /* only this record */

/* Bytes that the object's file is too short for are not there, whatever the map says. */
void map_clip(Map *map, uint64_t file_bytes);
