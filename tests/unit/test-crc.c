#include "base/crc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* RFC 3720 appendix B.4. */
static void test_vectors(void **state) {
        uint8_t bytes[32] = { 0 };
        size_t i;

        (void) state;
        assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
        assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa);
        memset(bytes, 0xff, 32);
        assert_int_equal(crc32c(0, bytes, 32), 0x62a8ab43);
        for (i = 0; i < 32; i++)
                bytes[i] = (uint8_t) i;
        assert_int_equal(crc32c(0, bytes, 32), 0x46dd794e);
        for (i = 0; i < 32; i++)
                bytes[i] = (uint8_t) (31 - i);
        assert_int_equal(crc32c(0, bytes, 32), 0x113fdb5c);
}

static void test_in_pieces(void **state) {
        static const char digits[] = "123456789";
        size_t i;

        (void) state;
        assert_int_equal(crc32c(0, "", 0), 0);
        for (i = 0; i <= 9; i++)
                assert_int_equal(crc32c(crc32c(0, digits, i), &digits[i], 9 - i), 0xe3069283);
}

static void test_every_flipped_bit_is_found(void **state) {
        uint8_t bytes[64];
        uint32_t whole;
        size_t i;

        (void) state;
        memset(bytes, 'x', sizeof(bytes));
        whole = crc32c(0, bytes, sizeof(bytes));
        for (i = 0; i < sizeof(bytes) * 8; i++) {
                bytes[i / 8] ^= (uint8_t) (1U << i % 8);
                assert_int_not_equal(crc32c(0, bytes, sizeof(bytes)), whole);
                bytes[i / 8] ^= (uint8_t) (1U << i % 8);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_vectors),
                cmocka_unit_test(test_in_pieces),
                cmocka_unit_test(test_every_flipped_bit_is_found),
        };

        return cmocka_run_group_tests_name("crc", tests, NULL, NULL);
}
