#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../agent/bundle/checksum.h"
#include "archives.h"

#define BYTES 1200

static void fill(uint8_t *data, size_t size) {
        uint32_t x = 1;

        for (size_t i = 0; i < size; i++) {
                x = x * 1664525 + 1013904223;
                data[i] = (uint8_t) (x >> 24);
        }
}

static void test_known(void **state) {
        (void) state;

        assert_int_equal(checksum_update(0, "", 0), 0);
        assert_int_equal(checksum_update(0, "123456789", 9), 0xcbf43926);
}

/* Each length and each alignment, against the plain definition. */
static void test_lengths(void **state) {
        uint8_t data[BYTES];

        (void) state;
        fill(data, sizeof(data));
        for (size_t at = 0; at < 17; at++)
                for (size_t size = 0; at + size <= sizeof(data); size += size < 300 ? 1 : 97)
                        assert_int_equal(checksum_update(0, data + at, size),
                                         test_crc32(data + at, size));
}

/* In pieces it is the same as at once. */
static void test_pieces(void **state) {
        uint8_t data[BYTES];
        uint32_t whole;

        (void) state;
        fill(data, sizeof(data));
        whole = test_crc32(data, sizeof(data));
        for (size_t at = 0; at <= sizeof(data); at += 7)
                assert_int_equal(
                        checksum_update(checksum_update(0, data, at), data + at, sizeof(data) - at),
                        whole);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_known),
                cmocka_unit_test(test_lengths),
                cmocka_unit_test(test_pieces),
        };

        if (!checksum_is_available()) {
                print_message("this processor has no instructions for it\n");
                return 77;
        }
        return cmocka_run_group_tests_name("checksum", tests, NULL, NULL);
}
