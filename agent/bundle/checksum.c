#include "checksum.h"

#include <string.h>

#define POLYNOMIAL UINT32_C(0xedb88320)

/* For what is left when the wide steps are done. */
static uint32_t update_bytes(uint32_t crc, const uint8_t *p, size_t size) {
        for (; size > 0; p++, size--) {
                crc ^= *p;
                for (int bit = 0; bit < 8; bit++)
                        crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        }
        return crc;
}

#if defined(__x86_64__)

#include <immintrin.h>

#define FOLD_BYTES 64

#define CARRYLESS __attribute__((target("pclmul,sse4.1")))

bool checksum_is_available(void) {
        return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

static CARRYLESS __m128i load(const uint8_t *p) {
        return _mm_loadu_si128((const __m128i *) (const void *) p);
}

/* What x comes to so many bits further on, as the constants say, with what stands there. */
static CARRYLESS __m128i fold(__m128i x, __m128i constants, __m128i next) {
        __m128i low = _mm_clmulepi64_si128(x, constants, 0x00);
        __m128i high = _mm_clmulepi64_si128(x, constants, 0x11);

        return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* From 128 bits to the 32 of the checksum: once more by multiplication, then by Barrett's
 * reduction. */
static CARRYLESS uint32_t reduce(__m128i x, __m128i by_16) {
        const __m128i by_8 = _mm_set_epi64x(0, 0x0163cd6124);
        const __m128i barrett = _mm_set_epi64x(0x01f7011641, 0x01db710641);
        const __m128i low_words = _mm_setr_epi32(-1, 0, -1, 0);
        __m128i y;

        y = _mm_clmulepi64_si128(x, by_16, 0x10);
        x = _mm_xor_si128(_mm_srli_si128(x, 8), y);
        y = _mm_srli_si128(x, 4);
        x = _mm_clmulepi64_si128(_mm_and_si128(x, low_words), by_8, 0x00);
        x = _mm_xor_si128(x, y);

        y = _mm_clmulepi64_si128(_mm_and_si128(x, low_words), barrett, 0x10);
        y = _mm_clmulepi64_si128(_mm_and_si128(y, low_words), barrett, 0x00);
        return (uint32_t) _mm_extract_epi32(_mm_xor_si128(x, y), 1);
}

/*
 * Four lanes of 128 bits, then one. size is a multiple of 16 and at least 64.
 * Source: V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
 * Instruction", Intel, 2009; its constants for this polynomial.
 */
static CARRYLESS uint32_t update_wide(uint32_t crc, const uint8_t *p, size_t size) {
        const __m128i by_64 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
        const __m128i by_16 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
        __m128i lanes[4];

        for (size_t i = 0; i < 4; i++)
                lanes[i] = load(p + 16 * i);
        lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128((int) crc));

        for (p += FOLD_BYTES, size -= FOLD_BYTES; size >= FOLD_BYTES;
             p += FOLD_BYTES, size -= FOLD_BYTES)
                for (size_t i = 0; i < 4; i++)
                        lanes[i] = fold(lanes[i], by_64, load(p + 16 * i));
        for (size_t i = 1; i < 4; i++)
                lanes[0] = fold(lanes[0], by_16, lanes[i]);
        for (; size >= 16; p += 16, size -= 16)
                lanes[0] = fold(lanes[0], by_16, load(p));
        return reduce(lanes[0], by_16);
}

uint32_t checksum_update(uint32_t crc, const void *data, size_t size) {
        const uint8_t *p = data;

        crc = ~crc;
        if (size >= FOLD_BYTES) {
                crc = update_wide(crc, p, size & ~(size_t) 15);
                p += size & ~(size_t) 15;
                size &= 15;
        }
        return ~update_bytes(crc, p, size);
}

#elif defined(__aarch64__)

#include <sys/auxv.h>

#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif

bool checksum_is_available(void) {
        return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}

static uint32_t step(uint32_t crc, uint64_t word) {
        __asm__(".arch_extension crc\n\tcrc32x %w0, %w0, %x1" : "+r"(crc) : "r"(word));
        return crc;
}

uint32_t checksum_update(uint32_t crc, const void *data, size_t size) {
        const uint8_t *p = data;

        crc = ~crc;
        for (; size >= sizeof(uint64_t); p += sizeof(uint64_t), size -= sizeof(uint64_t)) {
                uint64_t word;

                memcpy(&word, p, sizeof(word));
                crc = step(crc, word);
        }
        return ~update_bytes(crc, p, size);
}

#else

bool checksum_is_available(void) {
        return false;
}

uint32_t checksum_update(uint32_t crc, const void *data, size_t size) {
        return ~update_bytes(~crc, data, size);
}

#endif
