#include "base/digest.h"

#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <string.h>

#define SIGNATURE_BYTES 64

struct Digest {
        EVP_MD_CTX *context;
        bool failed;
};

/* All that libcrypto hands out here, freed by scope. */
static void contextp(EVP_MD_CTX **context) {
        EVP_MD_CTX_free(*context);
}

static void keyp(EVP_PKEY **key) {
        EVP_PKEY_free(*key);
}

static void key_contextp(EVP_PKEY_CTX **context) {
        EVP_PKEY_CTX_free(*context);
}

static void biop(BIO **bio) {
        BIO_free_all(*bio);
}

void digest_hex(const uint8_t *bytes, size_t n, char *ret) {
        static const char digits[] = "0123456789abcdef";
        size_t i;

        for (i = 0; i < n; i++) {
                ret[2 * i] = digits[bytes[i] >> 4];
                ret[2 * i + 1] = digits[bytes[i] & 15];
        }
        ret[2 * n] = 0;
}

static Digest *digest_begin(const EVP_MD *kind) {
        _cleanup_(digest_freep) Digest *d = calloc(1, sizeof(Digest));

        if (!d)
                return NULL;

        d->context = EVP_MD_CTX_new();
        if (!d->context || EVP_DigestInit_ex(d->context, kind, NULL) != 1) {
                ERR_clear_error();
                return NULL;
        }
        return TAKE_PTR(d);
}

Digest *digest_new(void) {
        return digest_begin(EVP_sha256());
}

Digest *digest_new_md5(void) {
        return digest_begin(EVP_md5());
}

void digest_update(Digest *digest, const void *data, size_t size) {
        if (EVP_DigestUpdate(digest->context, data, size) != 1)
                digest->failed = true;
}

void digest_final_hex(Digest *digest, char ret[DIGEST_SHA256_HEX_SIZE]) {
        uint8_t bytes[SHA256_DIGEST_LENGTH];
        unsigned n = 0;

        if (digest->failed || EVP_DigestFinal_ex(digest->context, bytes, &n) != 1 ||
            n != sizeof(bytes)) {
                ret[0] = 0; /* equals no digest */
                return;
        }
        digest_hex(bytes, sizeof(bytes), ret);
}

void digest_final_md5(Digest *digest, char ret[DIGEST_MD5_BASE64_SIZE]) {
        uint8_t bytes[EVP_MAX_MD_SIZE];
        unsigned n = 0;

        ret[0] = 0; /* equals no digest */
        if (!digest->failed && EVP_DigestFinal_ex(digest->context, bytes, &n) == 1 && n == 16)
                (void) EVP_EncodeBlock((unsigned char *) ret, bytes, (int) n);
}

Digest *digest_free(Digest *digest) {
        if (!digest)
                return NULL;

        EVP_MD_CTX_free(digest->context);
        free(digest);
        return NULL;
}

void digest_bytes(const void *data, size_t size, char ret[DIGEST_SHA256_HEX_SIZE]) {
        uint8_t bytes[SHA256_DIGEST_LENGTH];

        (void) SHA256(data, size, bytes);
        digest_hex(bytes, sizeof(bytes), ret);
}

void digest_raw(const void *data, size_t size, uint8_t ret[DIGEST_SHA256_BYTES]) {
        (void) SHA256(data, size, ret);
}

int digest_hmac(const void *key, size_t key_size, const void *data, size_t size,
                uint8_t ret[DIGEST_SHA256_BYTES]) {
        unsigned n = 0;

        if (key_size > INT_MAX || !HMAC(EVP_sha256(), key, (int) key_size, data, size, ret, &n) ||
            n != DIGEST_SHA256_BYTES) {
                ERR_clear_error();
                return -EIO;
        }
        return 0;
}

/* What a memory BIO holds, appended; wiped, as it may be a private key. */
static int append_bio(BIO *bio, Buf *ret) {
        char *data = NULL;
        long n;
        int r;

        n = BIO_get_mem_data(bio, &data);
        r = n > 0 ? buf_append(ret, data, (size_t) n) : -EIO;
        if (n > 0)
                OPENSSL_cleanse(data, (size_t) n);
        return r;
}

static int generate(EVP_PKEY **ret) {
        _cleanup_(key_contextp) EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, NULL);

        if (!context || EVP_PKEY_keygen_init(context) != 1 || EVP_PKEY_keygen(context, ret) != 1)
                return -EIO;
        return 0;
}

int digest_keygen(Buf *ret_private_pem, Buf *ret_public_pem, Error **reterr) {
        _cleanup_(biop) BIO *private_bio = BIO_new(BIO_s_mem()), *public_bio = BIO_new(BIO_s_mem());
        _cleanup_(keyp) EVP_PKEY *key = NULL;
        size_t begin = ret_private_pem->size;
        int r;

        if (!private_bio || !public_bio)
                return error_set(reterr, -ENOMEM, "make a key: out of memory");

        if (generate(&key) < 0 ||
            PEM_write_bio_PKCS8PrivateKey(private_bio, key, NULL, NULL, 0, NULL, NULL) != 1 ||
            PEM_write_bio_PUBKEY(public_bio, key) != 1) {
                ERR_clear_error();
                return error_set(reterr, -EIO, "make a key: libcrypto cannot make an Ed25519 key");
        }

        r = append_bio(private_bio, ret_private_pem);
        if (r >= 0)
                r = append_bio(public_bio, ret_public_pem);
        if (r >= 0)
                return 0;

        if (ret_private_pem->data) {
                OPENSSL_cleanse(ret_private_pem->data + begin, ret_private_pem->size - begin);
                ret_private_pem->size = begin;
        }
        return error_set(reterr, r, "make a key: %s", strerror(-r));
}

/* A key with a password is none that can be used: never ask on the terminal. */
static int no_password(char *buffer, int size, int writing, void *userdata) {
        (void) buffer;
        (void) size;
        (void) writing;
        (void) userdata;
        return -1;
}

typedef EVP_PKEY *(*PemRead)(BIO *bio, EVP_PKEY **key, pem_password_cb *password, void *userdata);

static int read_key(const char *pem, PemRead read, EVP_PKEY **ret) {
        _cleanup_(biop) BIO *bio = NULL;
        _cleanup_(keyp) EVP_PKEY *key = NULL;

        bio = BIO_new_mem_buf(pem, -1);
        if (!bio)
                return -ENOMEM;

        key = read(bio, NULL, no_password, NULL);
        ERR_clear_error();
        if (!key || EVP_PKEY_base_id(key) != EVP_PKEY_ED25519)
                return -EINVAL;

        *ret = TAKE_PTR(key);
        return 0;
}

int digest_sign(const char *private_pem, const void *message, size_t size, uint8_t ret[64],
                Error **reterr) {
        _cleanup_(contextp) EVP_MD_CTX *context = EVP_MD_CTX_new();
        _cleanup_(keyp) EVP_PKEY *key = NULL;
        size_t n = SIGNATURE_BYTES;
        int r;

        r = context ? read_key(private_pem, PEM_read_bio_PrivateKey, &key) : -ENOMEM;
        if (r == -ENOMEM)
                return error_set(reterr, r, "sign: out of memory");
        if (r < 0)
                return error_set(reterr, r,
                                 "sign: not an Ed25519 private key in PEM without a password (make "
                                 "one with: openssl genpkey -algorithm ED25519)");

        if (EVP_DigestSignInit(context, NULL, NULL, NULL, key) != 1 ||
            EVP_DigestSign(context, ret, &n, message, size) != 1 || n != SIGNATURE_BYTES) {
                ERR_clear_error();
                return error_set(reterr, -EIO, "sign: libcrypto failed");
        }
        return 0;
}

int digest_verify(const char *public_pem, const void *message, size_t size,
                  const uint8_t *signature, size_t signature_size, Error **reterr) {
        _cleanup_(contextp) EVP_MD_CTX *context = EVP_MD_CTX_new();
        _cleanup_(keyp) EVP_PKEY *key = NULL;
        int r;

        r = context ? read_key(public_pem, PEM_read_bio_PUBKEY, &key) : -ENOMEM;
        if (r == -ENOMEM)
                return error_set(reterr, r, "check a signature: out of memory");
        if (r < 0)
                return error_set(reterr, r,
                                 "check a signature: not an Ed25519 public key in PEM (write it "
                                 "with: openssl pkey -pubout)");

        if (EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) != 1) {
                ERR_clear_error();
                return error_set(reterr, -EIO, "check a signature: libcrypto failed");
        }

        r = signature_size == SIGNATURE_BYTES
                    ? EVP_DigestVerify(context, signature, signature_size, message, size)
                    : 0;
        ERR_clear_error();
        if (r != 1)
                return error_set(reterr, -EKEYREJECTED, "the signature is not one of this key");
        return 0;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int digest_base64_encode(const void *data, size_t size, Buf *ret) {
        const uint8_t *p = data;
        size_t i, n, need;
        uint32_t bits;
        char *q;

        if (size > SIZE_MAX / 4)
                return -EFBIG;
        need = (size + 2) / 3 * 4;
        if (need > ret->max_bytes - ret->size)
                return -EFBIG;
        q = buf_reserve(ret, need);
        if (!q)
                return -ENOMEM;

        for (i = 0; i < size; i += 3, q += 4) {
                n = MIN(size - i, (size_t) 3);
                bits = (uint32_t) p[i] << 16;
                bits |= n > 1 ? (uint32_t) p[i + 1] << 8 : 0;
                bits |= n > 2 ? (uint32_t) p[i + 2] : 0;
                q[0] = alphabet[bits >> 18];
                q[1] = alphabet[bits >> 12 & 63];
                q[2] = n > 1 ? alphabet[bits >> 6 & 63] : '=';
                q[3] = n > 2 ? alphabet[bits & 63] : '=';
        }
        buf_commit(ret, need);
        return 0;
}

/* The 6 bits of a character, or more than 63. */
static uint32_t base64_value(char c) {
        const char *at = c ? strchr(alphabet, c) : NULL;

        return at ? (uint32_t) (at - alphabet) : 64;
}

/* One group of four characters, of which n_padding at the end are '='; what they leave unused must
 * be 0, else one run of bytes would have several texts. */
static int decode_group(const char *text, size_t n_padding, uint8_t ret[3]) {
        uint32_t value, bits = 0;
        size_t i;

        for (i = 0; i < 4; i++) {
                value = i < 4 - n_padding ? base64_value(text[i]) : 0;
                if (value > 63)
                        return -EBADMSG;
                bits = bits << 6 | value;
        }
        if (bits & ((UINT32_C(1) << (8 * n_padding)) - 1))
                return -EBADMSG;

        ret[0] = (uint8_t) (bits >> 16);
        ret[1] = (uint8_t) (bits >> 8);
        ret[2] = (uint8_t) bits;
        return 0;
}

int digest_base64_decode(const char *text, size_t size, Buf *ret) {
        size_t i, n, n_padding = 0, begin = ret->size;
        uint8_t bytes[3];
        int r = 0;

        if (size % 4 != 0)
                return -EBADMSG;
        if (size > 0)
                n_padding = text[size - 1] != '=' ? 0 : text[size - 2] != '=' ? 1 : 2;

        for (i = 0; r >= 0 && i < size; i += 4) {
                n = i + 4 == size ? n_padding : 0;
                r = decode_group(text + i, n, bytes);
                if (r >= 0)
                        r = buf_append(ret, bytes, 3 - n);
        }
        if (r < 0 && ret->data) {
                ret->size = begin;
                ret->data[begin] = 0;
        }
        return r;
}
