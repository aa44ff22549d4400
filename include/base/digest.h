#pragma once

/*
 * What libcrypto does for tendril: SHA-256, Ed25519, base64. digest.c alone knows libcrypto;
 * linked by the helpers only, never by main (ARCHITECTURE.md, programs).
 *
 * Keys are PEM: private "-----BEGIN PRIVATE KEY-----" (PKCS #8) and public "-----BEGIN PUBLIC
 * KEY-----" (SubjectPublicKeyInfo), as `openssl genpkey -algorithm ED25519` and `openssl pkey
 * -pubout` write them.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

#define DIGEST_SHA256_HEX_SIZE 65 /* 64 digits and a NUL */

typedef struct Digest Digest;

Digest *digest_new(void); /* NULL: no memory */
void digest_update(Digest *digest, const void *data, size_t size);
void digest_final_hex(Digest *digest, char ret[DIGEST_SHA256_HEX_SIZE]);
Digest *digest_free(Digest *digest);
DEFINE_CLEANUP(Digest, digest_free);

/* MD5, for the Content-MD5 of S3 only, which every server there checks: it finds damage, and proves
 * nothing against a person. NULL: no memory, or a libcrypto that has none (FIPS). */
Digest *digest_new_md5(void);
#define DIGEST_MD5_BASE64_SIZE 25 /* 24 characters and a NUL */
void digest_final_md5(Digest *digest, char ret[DIGEST_MD5_BASE64_SIZE]);

#define DIGEST_SHA256_BYTES 32
void digest_raw(const void *data, size_t size, uint8_t ret[DIGEST_SHA256_BYTES]);

/* HMAC-SHA-256 (RFC 2104). -EIO: libcrypto failed. */
int digest_hmac(const void *key, size_t key_size, const void *data, size_t size,
                uint8_t ret[DIGEST_SHA256_BYTES]);

/* size bytes as 2 * size lower-case hexadecimal digits and a NUL. */
void digest_hex(const uint8_t *bytes, size_t size, char *ret);

/* SHA-256 of a whole file, also in a second thread that reads ahead, from offset 0 to its end;
 * *ret_size is the number of bytes read. Negative errno. */
int digest_fd(int fd, char ret[DIGEST_SHA256_HEX_SIZE], uint64_t *ret_size);
void digest_bytes(const void *data, size_t size, char ret[DIGEST_SHA256_HEX_SIZE]);

/* A new Ed25519 key pair as PEM, appended. */
int digest_keygen(Buf *ret_private_pem, Buf *ret_public_pem, Error **reterr);

/* The 64-byte signature of the message. -EINVAL: not an Ed25519 private key in PEM. */
int digest_sign(const char *private_pem, const void *message, size_t size, uint8_t ret[64],
                Error **reterr);

/* 0: the signature is the key's; -EKEYREJECTED: it is not; -EINVAL: not an Ed25519 public key in
 * PEM. */
int digest_verify(const char *public_pem, const void *message, size_t size,
                  const uint8_t *signature, size_t signature_size, Error **reterr);

/* RFC 4648 standard alphabet with padding, no line breaks. Decoding is strict: -EBADMSG for
 * anything else. */
int digest_base64_encode(const void *data, size_t size, Buf *ret);
int digest_base64_decode(const char *text, size_t size, Buf *ret);
