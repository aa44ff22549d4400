/* Map files: whatever the bytes are, refused, or a map within its bounds that is the same when it
 * is written and read again. */

#include "net/map.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
        if (!holds)
                abort();
}

static void check(const Map *map) {
        must(map->etag[0] && strlen(map->etag) <= MAP_ETAG_BYTES);
        must(map->size <= LIMIT_BUNDLE_BYTES && map->n_ranges <= MAP_RANGES_MAX);
        must(map->n_ranges == (map->size + TRANSFER_RANGE_BYTES - 1) / TRANSFER_RANGE_BYTES);
        for (size_t i = 0; i < map->n_ranges; i++)
                must(map->got[i] <= map_range_bytes(map, i));
        must(map_have(map) <= map->size && map_is_whole(map) == (map_have(map) == map->size));
}

static void check_again(const Map *map) {
        uint8_t bytes[MAP_BYTES_MAX], again_bytes[MAP_BYTES_MAX];
        size_t size = map_encode(map, bytes);
        Map again;

        must(map_decode(bytes, size, &again) == 0);
        must(map_encode(&again, again_bytes) == size);
        must(memcmp(bytes, again_bytes, size) == 0);
        map_clip(&again, map->size / 2);
        check(&again);
        must(map_have(&again) <= map->size / 2);
}

/* The checksums keep most input out: the same bytes as fields get behind them. */
static void check_fields(const uint8_t *data, size_t size) {
        char etag[MAP_ETAG_BYTES + 2] = { 0 };
        uint64_t bytes;
        Map map;

        if (size < sizeof(bytes))
                return;
        memcpy(&bytes, data, sizeof(bytes));
        memcpy(etag, data + sizeof(bytes), MIN(size - sizeof(bytes), sizeof(etag) - 1));
        if (map_begin(etag, bytes, &map) < 0)
                return;
        for (size_t i = 0; i < map.n_ranges; i++)
                map.got[i] = data[i % size] * (map_range_bytes(&map, i) / 255);
        check(&map);
        check_again(&map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Map map;

        if (map_decode(data, size, &map) == 0) {
                check(&map);
                check_again(&map);
        }
        check_fields(data, size);
        return 0;
}
