#include "base/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"

#define SHA_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SHA_ABC   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

/* RFC 8032 section 7.1, tests 1 to 3, the keys as openssl writes them. */
static const char private_2[] = "-----BEGIN PRIVATE KEY-----\n"
                                "MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n"
                                "-----END PRIVATE KEY-----\n";
static const char public_2[] = "-----BEGIN PUBLIC KEY-----\n"
                               "MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n"
                               "-----END PUBLIC KEY-----\n";
static const uint8_t signature_2[64] = {
        0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8, 0x72, 0x0e, 0x82, 0x0b, 0x5f,
        0x64, 0x25, 0x40, 0xa2, 0xb2, 0x7b, 0x54, 0x16, 0x50, 0x3f, 0x8f, 0xb3, 0x76,
        0x22, 0x23, 0xeb, 0xdb, 0x69, 0xda, 0x08, 0x5a, 0xc1, 0xe4, 0x3e, 0x15, 0x99,
        0x6e, 0x45, 0x8f, 0x36, 0x13, 0xd0, 0xf1, 0x1d, 0x8c, 0x38, 0x7b, 0x2e, 0xae,
        0xb4, 0x30, 0x2a, 0xee, 0xb0, 0x0d, 0x29, 0x16, 0x12, 0xbb, 0x0c, 0x00,
};

/* NIST P-256, made with openssl: a key, but not one of ours. */
static const char public_p256[] =
        "-----BEGIN PUBLIC KEY-----\n"
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7Nps0gVuosi9DH7NUOOU10zasZLA\n"
        "jy53T1IIvl+AY0GKkstq9K5vBgX3d4a1eWk+lcqxqMwUxrpRNkOWme3BEw==\n"
        "-----END PUBLIC KEY-----\n";

static void test_sha256(void **state) {
        char hex[DIGEST_SHA256_HEX_SIZE];
        _cleanup_(digest_freep) Digest *d = digest_new();

        (void) state;
        digest_bytes("", 0, hex);
        assert_string_equal(hex, SHA_EMPTY);
        digest_bytes("abc", 3, hex);
        assert_string_equal(hex, SHA_ABC);

        digest_update(d, "a", 1);
        digest_update(d, "", 0);
        digest_update(d, "bc", 2);
        digest_final_hex(d, hex);
        assert_string_equal(hex, SHA_ABC);
        assert_null(digest_free(NULL));
}

static void test_of_a_file_from_its_beginning(void **state) {
        char hex[DIGEST_SHA256_HEX_SIZE], expected[DIGEST_SHA256_HEX_SIZE];
        _cleanup_free_ char *data = calloc(1, 600000);
        _cleanup_close_ int fd = file_memfd("t", "abc", 3),
                            large_fd = file_memfd("t", data, 600000);
        uint64_t size;

        (void) state;
        assert_int_equal(lseek(fd, 2, SEEK_SET), 2);
        assert_int_equal(digest_fd(fd, hex, &size), 0);
        assert_string_equal(hex, SHA_ABC);
        assert_int_equal(size, 3);

        assert_int_equal(digest_fd(large_fd, hex, &size), 0);
        digest_bytes(data, 600000, expected);
        assert_string_equal(hex, expected);
        assert_int_equal(size, 600000);
        assert_int_equal(digest_fd(-1, hex, &size), -EBADF);
}

/* With a second thread: sizes around where it begins and where its chunks end; an error in it. */
static void test_of_large_files(void **state) {
        static const size_t sizes[] = { (8U << 20) - 1, 8U << 20, (8U << 20) + 1, (9U << 20) + 17 };
        _cleanup_free_ char *data = calloc(1, 10U << 20);
        _cleanup_close_ int write_only = open("/tmp", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
        char hex[DIGEST_SHA256_HEX_SIZE], expected[DIGEST_SHA256_HEX_SIZE];
        uint64_t size;

        (void) state;
        for (size_t i = 0; i < 10U << 20; i++)
                data[i] = (char) (i * 2654435761U >> 13);
        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                _cleanup_close_ int fd = file_memfd("t", data, sizes[i]);

                assert_int_equal(digest_fd(fd, hex, &size), 0);
                digest_bytes(data, sizes[i], expected);
                assert_string_equal(hex, expected);
                assert_int_equal(size, sizes[i]);
        }
        assert_int_equal(ftruncate(write_only, 16 << 20), 0);
        assert_int_equal(digest_fd(write_only, hex, &size), -EBADF);
}

static void test_known_signature(void **state) {
        uint8_t signature[64];

        (void) state;
        assert_int_equal(digest_sign(private_2, "\x72", 1, signature, NULL), 0);
        assert_memory_equal(signature, signature_2, 64);
        assert_int_equal(digest_verify(public_2, "\x72", 1, signature_2, 64, NULL), 0);
}

static void test_a_new_pair_signs_and_verifies(void **state) {
        _cleanup_(buf_done) Buf private_pem = BUF_INIT(1024), public_pem = BUF_INIT(1024);
        _cleanup_(buf_done) Buf other_private = BUF_INIT(1024), other_public = BUF_INIT(1024);
        uint8_t signature[64];

        (void) state;
        assert_int_equal(digest_keygen(&private_pem, &public_pem, NULL), 0);
        assert_int_equal(digest_keygen(&other_private, &other_public, NULL), 0);
        assert_non_null(strstr(buf_str(&private_pem), "-----BEGIN PRIVATE KEY-----"));
        assert_non_null(strstr(buf_str(&public_pem), "-----BEGIN PUBLIC KEY-----"));
        assert_int_equal(digest_sign(buf_str(&private_pem), "", 0, signature, NULL), 0);
        assert_int_equal(digest_verify(buf_str(&public_pem), "", 0, signature, 64, NULL), 0);
        assert_int_equal(digest_verify(buf_str(&other_public), "", 0, signature, 64, NULL),
                         -EKEYREJECTED);
}

static void test_every_flipped_bit_is_refused(void **state) {
        uint8_t signature[64];
        size_t i;

        (void) state;
        for (i = 0; i < 512; i++) {
                memcpy(signature, signature_2, 64);
                signature[i / 8] ^= (uint8_t) (1U << i % 8);
                assert_int_equal(digest_verify(public_2, "\x72", 1, signature, 64, NULL),
                                 -EKEYREJECTED);
        }
        assert_int_equal(digest_verify(public_2, "\x73", 1, signature_2, 64, NULL), -EKEYREJECTED);
        assert_int_equal(digest_verify(public_2, "\x72", 1, signature_2, 63, NULL), -EKEYREJECTED);
        assert_int_equal(digest_verify(public_2, "\x72", 1, signature_2, 0, NULL), -EKEYREJECTED);
}

static void test_wrong_keys_have_words(void **state) {
        static const char *const keys[] = {
                "", "rubbish", private_2, public_p256,
                "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
        };
        uint8_t signature[64];
        size_t i;

        (void) state;
        for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
                _cleanup_(error_freep) Error *e = NULL;

                assert_int_equal(digest_verify(keys[i], "\x72", 1, signature_2, 64, &e), -EINVAL);
                assert_non_null(strstr(error_text(e), "not an Ed25519 public key"));
        }
        assert_int_equal(digest_sign(public_2, "x", 1, signature, NULL), -EINVAL);
        assert_int_equal(digest_sign("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
                                     "MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=\n"
                                     "-----END ENCRYPTED PRIVATE KEY-----\n",
                                     "x", 1, signature, NULL),
                         -EINVAL);
}

static void test_keygen_that_does_not_fit_adds_nothing(void **state) {
        _cleanup_(buf_done) Buf private_pem = BUF_INIT(1024), public_pem = BUF_INIT(10);

        (void) state;
        buf_append_str(&private_pem, "x");
        assert_int_equal(digest_keygen(&private_pem, &public_pem, NULL), -EFBIG);
        assert_int_equal(private_pem.size, 1);
        assert_int_equal(public_pem.size, 0);
}

/* RFC 4648 section 10. */
static void test_base64(void **state) {
        static const char *const texts[] = { "",         "Zg==",     "Zm8=",    "Zm9v",
                                             "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };
        size_t i;

        (void) state;
        for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
                _cleanup_(buf_done) Buf text = BUF_INIT(100), data = BUF_INIT(100);

                assert_int_equal(digest_base64_encode("foobar", i, &text), 0);
                assert_string_equal(buf_str(&text), texts[i]);
                assert_int_equal(digest_base64_decode(texts[i], strlen(texts[i]), &data), 0);
                assert_int_equal(data.size, i);
                assert_memory_equal(buf_str(&data), "foobar", i);
        }
}

static void test_base64_of_all_bytes(void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(400), data = BUF_INIT(256), small = BUF_INIT(255);
        uint8_t bytes[256];
        size_t i;

        (void) state;
        for (i = 0; i < 256; i++)
                bytes[i] = (uint8_t) i;
        assert_int_equal(digest_base64_encode(bytes, 256, &text), 0);
        assert_int_equal(digest_base64_decode(text.data, text.size, &data), 0);
        assert_memory_equal(data.data, bytes, 256);
        assert_int_equal(digest_base64_decode(text.data, text.size, &small), -EFBIG);
        assert_int_equal(small.size, 0);
        assert_int_equal(digest_base64_encode(bytes, 256, &small), -EFBIG);
}

static void test_base64_is_strict(void **state) {
        static const char *const texts[] = { "Z",    "Zg",       "Zg=",    "Z===",   "====",
                                             "Zh==", "Zm9=",     "Zm9v\n", "Zm 9",   "Zm9-",
                                             "Zm9_", "Zg==Zg==", "=Zg=",   "Zm9\xff" };
        size_t i;

        (void) state;
        for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
                _cleanup_(buf_done) Buf data = BUF_INIT(100);

                buf_append_str(&data, "x");
                assert_int_equal(digest_base64_decode(texts[i], strlen(texts[i]), &data), -EBADMSG);
                assert_string_equal(buf_str(&data), "x");
        }
        assert_int_equal(digest_base64_decode("Zm\0v", 4, &(Buf) BUF_INIT(9)), -EBADMSG);
}

static void test_raw_and_hex(void **state) {
        uint8_t bytes[DIGEST_SHA256_BYTES];
        char hex[DIGEST_SHA256_HEX_SIZE];

        (void) state;
        digest_raw("abc", 3, bytes);
        digest_hex(bytes, sizeof(bytes), hex);
        assert_string_equal(hex, SHA_ABC);
        digest_hex((const uint8_t[]){ 0x00, 0x0f, 0xf0, 0xff }, 4, hex);
        assert_string_equal(hex, "000ff0ff");
        digest_hex(bytes, 0, hex);
        assert_string_equal(hex, "");
}

/* RFC 4231, cases 2 and 6; nothing of nothing. */
static void test_hmac(void **state) {
        static const struct {
                const char *key, *data, *expected;
        } cases[] = {
                { "Jefe", "what do ya want for nothing?",
                  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
                { NULL, "Test Using Larger Than Block-Size Key - Hash Key First",
                  "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
                { "", "", "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad" },
        };
        char long_key[132] = "", hex[DIGEST_SHA256_HEX_SIZE];
        uint8_t bytes[DIGEST_SHA256_BYTES];

        (void) state;
        memset(long_key, 0xaa, 131);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const char *key = cases[i].key ?: long_key, *data = cases[i].data;

                assert_int_equal(digest_hmac(key, strlen(key), data, strlen(data), bytes), 0);
                digest_hex(bytes, sizeof(bytes), hex);
                assert_string_equal(hex, cases[i].expected);
        }
        assert_int_equal(digest_hmac("k", SIZE_MAX, "d", 1, bytes), -EIO);
}

static void test_md5(void **state) {
        _cleanup_(digest_freep) Digest *nothing = digest_new_md5(), *abc = digest_new_md5();
        char text[DIGEST_MD5_BASE64_SIZE];

        (void) state;
        if (!nothing || !abc)
                skip(); /* a libcrypto without it */
        digest_final_md5(nothing, text);
        assert_string_equal(text, "1B2M2Y8AsgTpgAmY7PhCfg==");
        digest_update(abc, "a", 1);
        digest_update(abc, "bc", 2);
        digest_final_md5(abc, text);
        assert_string_equal(text, "kAFQmDzST7DWlj99KOF/cg==");
}

/* One is not taken for the other: no digest equals "". */
static void test_md5_is_not_sha256(void **state) {
        _cleanup_(digest_freep) Digest *sha256 = digest_new(), *md5 = digest_new_md5();
        char hex[DIGEST_SHA256_HEX_SIZE], text[DIGEST_MD5_BASE64_SIZE];

        (void) state;
        if (!md5)
                skip(); /* a libcrypto without it */
        digest_final_md5(sha256, text);
        assert_string_equal(text, "");
        digest_final_hex(md5, hex);
        assert_string_equal(hex, "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_sha256),
                cmocka_unit_test(test_of_a_file_from_its_beginning),
                cmocka_unit_test(test_of_large_files),
                cmocka_unit_test(test_known_signature),
                cmocka_unit_test(test_a_new_pair_signs_and_verifies),
                cmocka_unit_test(test_every_flipped_bit_is_refused),
                cmocka_unit_test(test_wrong_keys_have_words),
                cmocka_unit_test(test_keygen_that_does_not_fit_adds_nothing),
                cmocka_unit_test(test_base64),
                cmocka_unit_test(test_base64_of_all_bytes),
                cmocka_unit_test(test_base64_is_strict),
                cmocka_unit_test(test_raw_and_hex),
                cmocka_unit_test(test_hmac),
                cmocka_unit_test(test_md5),
                cmocka_unit_test(test_md5_is_not_sha256),
        };

        return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
