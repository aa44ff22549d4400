#include "net/map.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"

#define SIZE (3 * TRANSFER_RANGE_BYTES + 5)

static Map filled(void) {
        Map map;

        assert_int_equal(map_begin("abc-2", SIZE, &map), 0);
        map.got[0] = (uint32_t) TRANSFER_RANGE_BYTES;
        map.got[1] = 4711;
        map.got[3] = 5;
        return map;
}

static void assert_same(const Map *a, const Map *b) {
        assert_string_equal(a->etag, b->etag);
        assert_int_equal(a->size, b->size);
        assert_int_equal(a->n_ranges, b->n_ranges);
        for (size_t i = 0; i < a->n_ranges; i++)
                assert_int_equal(a->got[i], b->got[i]);
}

static void test_begin(void **state) {
        char etag[MAP_ETAG_BYTES + 2];
        Map map;

        (void) state;
        assert_int_equal(map_begin("e", 0, &map), 0);
        assert_int_equal(map.n_ranges, 0);
        assert_true(map_is_whole(&map));
        assert_int_equal(map_begin("e", 1, &map), 0);
        assert_int_equal(map.n_ranges, 1);
        assert_int_equal(map_range_bytes(&map, 0), 1);
        assert_false(map_is_whole(&map));
        assert_int_equal(map_begin("e", TRANSFER_RANGE_BYTES, &map), 0);
        assert_int_equal(map.n_ranges, 1);
        assert_int_equal(map_begin("e", LIMIT_BUNDLE_BYTES, &map), 0);
        assert_int_equal(map.n_ranges, MAP_RANGES_MAX);
        assert_int_equal(map_begin("e", LIMIT_BUNDLE_BYTES + 1, &map), -EFBIG);
        assert_int_equal(map_begin("", 1, &map), -EINVAL);
        assert_int_equal(map_begin("a b", 1, &map), -EINVAL);
        memset(etag, 'e', sizeof(etag));
        etag[MAP_ETAG_BYTES + 1] = 0;
        assert_int_equal(map_begin(etag, 1, &map), -EINVAL);
        etag[MAP_ETAG_BYTES] = 0;
        assert_int_equal(map_begin(etag, 1, &map), 0);
}

static void test_sums(void **state) {
        Map map = filled();

        (void) state;
        assert_int_equal(map.n_ranges, 4);
        assert_int_equal(map_range_bytes(&map, 3), 5);
        assert_int_equal(map_have(&map), TRANSFER_RANGE_BYTES + 4711 + 5);
        assert_false(map_is_whole(&map));
        map.got[1] = map.got[2] = (uint32_t) TRANSFER_RANGE_BYTES;
        assert_true(map_is_whole(&map));
        map_clip(&map, 2 * TRANSFER_RANGE_BYTES + 9);
        assert_int_equal(map.got[1], TRANSFER_RANGE_BYTES);
        assert_int_equal(map.got[2], 9);
        assert_int_equal(map.got[3], 0);
}

static void test_bytes(void **state) {
        uint8_t bytes[MAP_BYTES_MAX];
        Map map = filled(), again;
        size_t size = map_encode(&map, bytes);

        (void) state;
        assert_int_equal(size, MAP_HEAD_BYTES + 4 * MAP_RECORD_BYTES);
        assert_int_equal(map_decode(bytes, size, &again), 0);
        assert_same(&map, &again);
        assert_int_equal(map_decode(bytes, 0, &again), -EBADMSG);
        assert_int_equal(map_decode(bytes, MAP_HEAD_BYTES - 1, &again), -EBADMSG);
}

/* Each flipped bit of the head takes all of it, of a record only that range. */
static void test_torn(void **state) {
        uint8_t bytes[MAP_BYTES_MAX];
        Map map = filled(), again;
        size_t size = map_encode(&map, bytes), range;

        (void) state;
        for (size_t bit = 0; bit < 8 * size; bit++) {
                bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
                if (bit / 8 < MAP_HEAD_BYTES)
                        assert_int_equal(map_decode(bytes, size, &again), -EBADMSG);
                else {
                        range = (bit / 8 - MAP_HEAD_BYTES) / MAP_RECORD_BYTES;
                        assert_int_equal(map_decode(bytes, size, &again), 0);
                        assert_int_equal(again.got[range], 0);
                        again.got[range] = map.got[range];
                        assert_same(&map, &again);
                }
                bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
        }
}

static void test_short(void **state) {
        uint8_t bytes[MAP_BYTES_MAX];
        Map map = filled(), again;
        size_t size = map_encode(&map, bytes);

        (void) state;
        assert_int_equal(map_decode(bytes, size - 1, &again), 0);
        assert_int_equal(again.got[3], 0);
        assert_int_equal(again.got[1], 4711);
        assert_int_equal(map_decode(bytes, MAP_HEAD_BYTES, &again), 0);
        assert_int_equal(map_have(&again), 0);
}

/* Records of an object before, or of another range, are none of this one's. */
static void test_foreign_records(void **state) {
        uint8_t bytes[MAP_BYTES_MAX], other_bytes[MAP_BYTES_MAX];
        Map map = filled(), other, again;
        size_t size = map_encode(&map, bytes);

        (void) state;
        assert_int_equal(map_begin("abc-3", SIZE, &other), 0);
        (void) map_encode(&other, other_bytes);
        memcpy(bytes, other_bytes, MAP_HEAD_BYTES);
        assert_int_equal(map_decode(bytes, size, &again), 0);
        assert_int_equal(map_have(&again), 0);

        (void) map_encode(&map, bytes);
        memcpy(bytes + MAP_HEAD_BYTES + 2 * MAP_RECORD_BYTES, bytes + MAP_HEAD_BYTES,
               MAP_RECORD_BYTES);
        assert_int_equal(map_decode(bytes, size, &again), 0);
        assert_int_equal(again.got[2], 0);
}

static void test_file(void **state) {
        _cleanup_close_ int fd = file_memfd("map", "", 0);
        Map map = filled(), again;
        struct stat st;

        (void) state;
        assert_true(fd >= 0);
        assert_int_equal(map_load(fd, &again), -EBADMSG);
        assert_int_equal(map_store(fd, &map), 0);
        assert_int_equal(map_load(fd, &again), 0);
        assert_same(&map, &again);

        map.got[2] = 99;
        map.got[1] = 4712;
        assert_int_equal(map_store_range(fd, &map, 2), 0);
        assert_int_equal(map_load(fd, &again), 0);
        assert_int_equal(again.got[2], 99);
        assert_int_equal(again.got[1], 4711);

        assert_int_equal(map_begin("x", 1, &map), 0);
        assert_int_equal(map_store(fd, &map), 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size, MAP_HEAD_BYTES + MAP_RECORD_BYTES);
        assert_int_equal(map_load(fd, &again), 0);
        assert_same(&map, &again);
        assert_int_equal(map_load(-1, &again), -EBADF);
        assert_int_equal(map_store(-1, &map), -EBADF);
        assert_int_equal(map_store_range(-1, &map, 0), -EBADF);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_begin), cmocka_unit_test(test_sums),
                cmocka_unit_test(test_bytes), cmocka_unit_test(test_torn),
                cmocka_unit_test(test_short), cmocka_unit_test(test_foreign_records),
                cmocka_unit_test(test_file),
        };

        return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
