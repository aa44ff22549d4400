#include "net/map.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/crc.h"

/*
 * The head, little-endian: 8 bytes magic, 8 size, 4 bytes of a range, 4 length of the ETag, 128
 * ETag (zeros behind it), 4 zeros, 4 checksum. A record: 4 bytes that are there, 4 checksum.
 */
#define AT_SIZE     8
#define AT_RANGE    16
#define AT_LENGTH   20
#define AT_ETAG     24
#define AT_CHECKSUM (MAP_HEAD_BYTES - 4)

static const uint8_t magic[AT_SIZE] = { 't', 'n', 'd', 'l', 'm', 'a', 'p', '1' };

static void put_u32(uint8_t *to, uint32_t value) {
        value = htole32(value);
        memcpy(to, &value, sizeof(value));
}

static void put_u64(uint8_t *to, uint64_t value) {
        value = htole64(value);
        memcpy(to, &value, sizeof(value));
}

static uint32_t get_u32(const uint8_t *from) {
        uint32_t value;

        memcpy(&value, from, sizeof(value));
        return le32toh(value);
}

static uint64_t get_u64(const uint8_t *from) {
        uint64_t value;

        memcpy(&value, from, sizeof(value));
        return le64toh(value);
}

static bool etag_is_possible(const char *etag, size_t length) {
        if (length == 0 || length > MAP_ETAG_BYTES)
                return false;
        for (size_t i = 0; i < length; i++)
                if ((unsigned char) etag[i] <= ' ' || (unsigned char) etag[i] >= 0x7f)
                        return false;
        return true;
}

int map_begin(const char *etag, uint64_t size, Map *ret) {
        if (!etag_is_possible(etag, strlen(etag)))
                return -EINVAL;
        if (size > LIMIT_BUNDLE_BYTES)
                return -EFBIG;

        *ret = (Map){
                .size = size,
                .n_ranges = (size_t) ((size + TRANSFER_RANGE_BYTES - 1) / TRANSFER_RANGE_BYTES),
        };
        memcpy(ret->etag, etag, strlen(etag));
        return 0;
}

uint32_t map_range_bytes(const Map *map, size_t range) {
        return (uint32_t) MIN(TRANSFER_RANGE_BYTES, map->size - range * TRANSFER_RANGE_BYTES);
}

uint64_t map_have(const Map *map) {
        uint64_t have = 0;

        for (size_t i = 0; i < map->n_ranges; i++)
                have += map->got[i];
        return have;
}

bool map_is_whole(const Map *map) {
        return map_have(map) == map->size;
}

/* ---- bytes ---- */

static uint32_t encode_head(const Map *map, uint8_t ret[MAP_HEAD_BYTES]) {
        uint32_t checksum;

        memset(ret, 0, MAP_HEAD_BYTES);
        memcpy(ret, magic, sizeof(magic));
        put_u64(ret + AT_SIZE, map->size);
        put_u32(ret + AT_RANGE, (uint32_t) TRANSFER_RANGE_BYTES);
        put_u32(ret + AT_LENGTH, (uint32_t) strlen(map->etag));
        for (size_t i = 0; map->etag[i]; i++)
                ret[AT_ETAG + i] = (uint8_t) map->etag[i];
        checksum = crc32c(0, ret, AT_CHECKSUM);
        put_u32(ret + AT_CHECKSUM, checksum);
        return checksum;
}

/* Of a record: its head and its place count too. */
static uint32_t record_checksum(uint32_t head, size_t range, uint32_t got) {
        uint8_t place[8];

        put_u32(place, (uint32_t) range);
        put_u32(place + 4, got);
        return crc32c(head, place, sizeof(place));
}

static void encode_record(const Map *map, uint32_t head, size_t range, uint8_t *ret) {
        put_u32(ret, map->got[range]);
        put_u32(ret + 4, record_checksum(head, range, map->got[range]));
}

size_t map_encode(const Map *map, uint8_t ret[MAP_BYTES_MAX]) {
        uint32_t head = encode_head(map, ret);

        for (size_t i = 0; i < map->n_ranges; i++)
                encode_record(map, head, i, ret + MAP_HEAD_BYTES + i * MAP_RECORD_BYTES);
        return MAP_HEAD_BYTES + map->n_ranges * MAP_RECORD_BYTES;
}

static int decode_head(const uint8_t *head, Map *ret) {
        char etag[MAP_ETAG_BYTES + 1] = { 0 };
        uint8_t again[MAP_HEAD_BYTES];
        uint32_t length;

        if (memcmp(head, magic, sizeof(magic)) != 0 ||
            get_u32(head + AT_RANGE) != (uint32_t) TRANSFER_RANGE_BYTES)
                return -EBADMSG;
        length = get_u32(head + AT_LENGTH);
        if (length > MAP_ETAG_BYTES)
                return -EBADMSG;
        memcpy(etag, head + AT_ETAG, length);
        if (map_begin(etag, get_u64(head + AT_SIZE), ret) < 0)
                return -EBADMSG;
        /* Not a bit of it may be otherwise. */
        (void) encode_head(ret, again);
        return memcmp(head, again, MAP_HEAD_BYTES) == 0 ? 0 : -EBADMSG;
}

int map_decode(const void *data, size_t size, Map *ret) {
        const uint8_t *bytes = data, *record;
        uint32_t got, head;
        Map map;
        int r;

        if (size < MAP_HEAD_BYTES)
                return -EBADMSG;
        r = decode_head(bytes, &map);
        if (r < 0)
                return r;

        head = get_u32(bytes + AT_CHECKSUM);
        for (size_t i = 0; i < map.n_ranges; i++) {
                if (size - MAP_HEAD_BYTES < (i + 1) * MAP_RECORD_BYTES)
                        break;
                record = bytes + MAP_HEAD_BYTES + i * MAP_RECORD_BYTES;
                got = get_u32(record);
                if (got <= map_range_bytes(&map, i) &&
                    get_u32(record + 4) == record_checksum(head, i, got))
                        map.got[i] = got;
        }
        *ret = map;
        return 0;
}

/* ---- the file ---- */

static int write_at(int fd, const uint8_t *data, size_t size, uint64_t at) {
        while (size > 0) {
                ssize_t n = pwrite(fd, data, size, (off_t) at);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data += n;
                size -= (size_t) n;
                at += (uint64_t) n;
        }
        return 0;
}

int map_load(int fd, Map *ret) {
        uint8_t bytes[MAP_BYTES_MAX];
        size_t size = 0;
        ssize_t n;

        while (size < sizeof(bytes)) {
                n = pread(fd, bytes + size, sizeof(bytes) - size, (off_t) size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += (size_t) n;
        }
        return map_decode(bytes, size, ret);
}

int map_store(int fd, const Map *map) {
        uint8_t bytes[MAP_BYTES_MAX];
        size_t size = map_encode(map, bytes);

        if (ftruncate(fd, 0) < 0)
                return -errno;
        return write_at(fd, bytes, size, 0);
}

int map_store_range(int fd, const Map *map, size_t range) {
        uint8_t head[MAP_HEAD_BYTES], record[MAP_RECORD_BYTES];

        encode_record(map, encode_head(map, head), range, record);
        return write_at(fd, record, sizeof(record), MAP_HEAD_BYTES + range * MAP_RECORD_BYTES);
}

void map_clip(Map *map, uint64_t file_bytes) {
        for (size_t i = 0; i < map->n_ranges; i++) {
                uint64_t begin = i * TRANSFER_RANGE_BYTES;
                uint64_t left = file_bytes > begin ? file_bytes - begin : 0;

                map->got[i] = (uint32_t) MIN((uint64_t) map->got[i], left);
        }
}
