#include <assert.h>
#include <errno.h>
#include <string.h>

#include "agent/limits.h"
#include "base/digest.h"
#include "base/str.h"
#include "base/time.h"
#include "bundle/bundle.h"

/* DSSE, protocol.md and envelope.md of secure-systems-lab/dsse. */

#define SIGNATURE_BYTES 64
#define BASE64_BYTES(n) (((n) + 2) / 3 * 4)
#define TYPE_BYTES      256
/* Payload and type once more, and the numbers between them. */
#define SIGNED_BYTES (LIMIT_DOCUMENT_BYTES + TYPE_BYTES + 64)
/* An envelope: the payload in base64 and its signatures. */
#define ENVELOPE_BYTES                                                                             \
        (BASE64_BYTES(LIMIT_DOCUMENT_BYTES) + LIMIT_SIGNATURES * 512 + TYPE_BYTES + 256)
/* Why no signature counted: a sentence for each is more than a person reads. */
#define REASONS_BYTES 1024

typedef struct Signature {
        char *key_id;
        char *sig; /* base64 */
} Signature;

typedef struct Envelope {
        char *type;
        char *payload; /* base64 */
        JsonArray signatures;
} Envelope;

/* clang-format off */
static const JsonField signature_fields[] = {
        { .name = "keyid", .kind = JSON_KIND_STRING, .flags = JSON_OMIT_EMPTY, .offset = offsetof(Signature, key_id), .max = 256 },
        { .name = "sig", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(Signature, sig), .max = 256 },
        {},
};
static const JsonTable signature_table = { signature_fields, sizeof(Signature) };

static const JsonField envelope_fields[] = {
        { .name = "payloadType", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(Envelope, type), .min = 1, .max = TYPE_BYTES },
        { .name = "payload", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(Envelope, payload), .max = BASE64_BYTES(LIMIT_DOCUMENT_BYTES) },
        { .name = "signatures", .kind = JSON_KIND_ARRAY, .offset = offsetof(Envelope, signatures), .max = LIMIT_SIGNATURES, .table = &signature_table },
        {},
};
static const JsonTable envelope_table = { envelope_fields, sizeof(Envelope) };
/* clang-format on */

static void envelope_done(Envelope *envelope) {
        json_table_done(&envelope_table, envelope);
}

/* The pre-authentication encoding: what a signature is made over. */
static int encode_signed(const char *type, const Buf *payload, Buf *ret) {
        int r;

        r = buf_printf(ret, "DSSEv1 %zu %s %zu ", strlen(type), type, payload->size);
        if (r < 0)
                return r;
        return buf_append(ret, buf_str(payload), payload->size);
}

static int envelope_read(const char *text, size_t size, const char *type, Envelope *ret,
                         Buf *ret_payload, Error **reterr) {
        int r;

        if (size > ENVELOPE_BYTES)
                return error_set(reterr, -EFBIG, "the envelope is longer than %d bytes",
                                 ENVELOPE_BYTES);
        r = json_decode(text, size, &envelope_table, JSON_LENIENT, ret, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "not an envelope");
        if (!str_equal(ret->type, type)) {
                _cleanup_free_ char *shown = str_printable(ret->type, strlen(ret->type));

                return error_set(reterr, -EBADMSG, "the envelope holds a \"%s\", expected a \"%s\"",
                                 shown ? shown : "?", type);
        }
        r = digest_base64_decode(ret->payload, strlen(ret->payload), ret_payload);
        if (r < 0)
                return error_set(reterr, r, "the envelope's payload is not base64");
        return 0;
}

static const TaskKey *find_key(const JsonArray *keys, const char *id) {
        const TaskKey *items = keys->items;

        for (size_t i = 0; i < keys->n; i++)
                if (str_equal(items[i].id, id))
                        return &items[i];
        return NULL;
}

/* True where the key's time is over; an end that cannot be read is over too. */
static bool has_ended(const TaskKey *key, usec_t now) {
        usec_t ends;

        if (!key->ends)
                return false;
        return time_parse(key->ends, &ends) < 0 || now >= ends;
}

/* NULL: the signature is the key's; else why it is not. */
static const char *signature_fault(const Signature *signature, const TaskKey *key,
                                   const Buf *signed_bytes) {
        _cleanup_(buf_done) Buf raw = BUF_INIT(256);
        int r;

        if (digest_base64_decode(signature->sig, strlen(signature->sig), &raw) < 0 ||
            raw.size != SIGNATURE_BYTES)
                return "the signature is not one of Ed25519";
        r = digest_verify(key->pem, buf_str(signed_bytes), signed_bytes->size,
                          (const uint8_t *) raw.data, raw.size, NULL);
        if (r == -EINVAL)
                return "the trusted key is not a public Ed25519 key in PEM";
        return r < 0 ? "the signature is not of these bytes: they or it were altered" : NULL;
}

/* Why this one does not count, or NULL. */
static const char *judge(const Signature *signature, const TaskOpen *how, usec_t now,
                         const Buf *signed_bytes) {
        const TaskKey *key;

        if (str_is_empty(signature->key_id))
                return "the signature names no key";
        key = find_key(&how->keys, signature->key_id);
        if (!key)
                return "the key is not among the trusted keys";
        if (!str_equal(key->purpose, how->purpose))
                return "the key is trusted for another purpose";
        if (has_ended(key, now))
                return "the key has ended";
        return signature_fault(signature, key, signed_bytes);
}

static int check_signatures(const Envelope *envelope, const TaskOpen *how, usec_t now,
                            const Buf *signed_bytes, char **ret_key_id, Error **reterr) {
        _cleanup_(buf_done) Buf reasons = BUF_INIT(REASONS_BYTES);
        const Signature *signatures = envelope->signatures.items;

        if (envelope->signatures.n == 0)
                return error_set(reterr, -EKEYREJECTED,
                                 "it is unsigned, but trusted_keys are configured: sign it with a "
                                 "key for \"%s\"",
                                 how->purpose);
        for (size_t i = 0; i < envelope->signatures.n; i++) {
                const char *fault = judge(&signatures[i], how, now, signed_bytes);
                const char *id = signatures[i].key_id ? signatures[i].key_id : "";
                _cleanup_free_ char *shown = NULL;

                if (!fault) {
                        *ret_key_id = strdup(id);
                        return *ret_key_id ? 0 : -ENOMEM;
                }
                shown = str_printable(id, strnlen(id, 100));
                (void) buf_printf(&reasons, "%skey \"%s\": %s", i > 0 ? "; " : "",
                                  shown ? shown : "?", fault);
        }
        return error_set(reterr, -EKEYREJECTED, "no signature for \"%s\" counts: %s", how->purpose,
                         buf_str(&reasons));
}

int bundle_open(const char *text, size_t size, const TaskOpen *how, Buf *ret,
                TaskOpened *ret_opened, Error **reterr) {
        _cleanup_(envelope_done) Envelope envelope = { 0 };
        _cleanup_(buf_done) Buf payload = BUF_INIT(LIMIT_DOCUMENT_BYTES),
                                bytes = BUF_INIT(SIGNED_BYTES);
        _cleanup_free_ char *key_id = NULL;
        usec_t now;
        int r;

        assert(how && ret && ret_opened);

        if (time_parse(how->now, &now) < 0)
                return error_set(reterr, -EINVAL, "now: \"%s\" is not a time", how->now);
        r = envelope_read(text, size, how->type, &envelope, &payload, reterr);
        if (r < 0)
                return r;

        if (how->keys.n > 0) {
                r = encode_signed(how->type, &payload, &bytes);
                if (r < 0)
                        return r;
                r = check_signatures(&envelope, how, now, &bytes, &key_id, reterr);
                if (r < 0)
                        return r;
        } else if (!how->unsigned_allowed)
                return error_set(reterr, -EKEYREJECTED,
                                 "no trusted_keys are configured, so no signature can be checked: "
                                 "configure trusted_keys, or say \"unsigned: true\" (a command: "
                                 "--unsigned) to take unsigned documents");

        r = buf_append(ret, buf_str(&payload), payload.size);
        if (r < 0)
                return r;
        *ret_opened = (TaskOpened){ .key_id = TAKE_PTR(key_id) };
        return 0;
}

/* Takes over the signatures of an earlier envelope of the same payload, but for those of one key.
 */
static int keep_signatures(const Envelope *previous, const char *without_key_id,
                           Envelope *envelope) {
        const Signature *signatures = previous->signatures.items;

        for (size_t i = 0; i < previous->signatures.n; i++) {
                Signature *kept;

                if (without_key_id && str_equal(signatures[i].key_id, without_key_id))
                        continue;
                kept = json_array_add(&envelope->signatures, &signature_table, LIMIT_SIGNATURES);
                if (!kept)
                        return -ENOMEM;
                kept->key_id = strdup(signatures[i].key_id ? signatures[i].key_id : "");
                kept->sig = strdup(signatures[i].sig);
                if (!kept->key_id || !kept->sig)
                        return -ENOMEM;
        }
        return 0;
}

static int add_previous(const char *text, size_t size, const TaskSign *how, const Buf *payload,
                        Envelope *envelope, Error **reterr) {
        _cleanup_(buf_done) Buf previous_payload = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        _cleanup_(envelope_done) Envelope previous = { 0 };
        int r;

        r = envelope_read(text, size, how->type, &previous, &previous_payload, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "the envelope whose signatures are to be kept");
        if (previous_payload.size != payload->size ||
            memcmp(buf_str(&previous_payload), buf_str(payload), payload->size) != 0)
                return error_set(
                        reterr, -EBADMSG,
                        "the envelope whose signatures are to be kept holds another payload");
        return keep_signatures(&previous, how->key_id, envelope);
}

static int add_signature(const TaskSign *how, const Buf *payload, Envelope *envelope,
                         Error **reterr) {
        _cleanup_(buf_done) Buf bytes = BUF_INIT(SIGNED_BYTES), encoded = BUF_INIT(256);
        uint8_t raw[SIGNATURE_BYTES];
        Signature *signature;
        int r;

        if (envelope->signatures.n >= LIMIT_SIGNATURES)
                return error_set(reterr, -E2BIG,
                                 "the envelope has %d signatures already: replace them",
                                 LIMIT_SIGNATURES);
        r = encode_signed(how->type, payload, &bytes);
        if (r < 0)
                return r;
        r = digest_sign(how->private_pem, buf_str(&bytes), bytes.size, raw, reterr);
        if (r < 0)
                return r;
        r = digest_base64_encode(raw, sizeof(raw), &encoded);
        if (r < 0)
                return r;

        signature = json_array_add(&envelope->signatures, &signature_table, LIMIT_SIGNATURES);
        if (!signature)
                return -ENOMEM;
        signature->key_id = strdup(how->key_id);
        signature->sig = buf_steal(&encoded);
        return signature->key_id && signature->sig ? 0 : -ENOMEM;
}

int bundle_sign(const char *payload, size_t size, const char *previous, size_t previous_size,
                const TaskSign *how, Buf *ret, Error **reterr) {
        _cleanup_(buf_done) Buf bytes = BUF_INIT(LIMIT_DOCUMENT_BYTES),
                                encoded = BUF_INIT(BASE64_BYTES(LIMIT_DOCUMENT_BYTES));
        _cleanup_(envelope_done) Envelope envelope = { 0 };
        int r;

        assert(how && ret);

        if (!how->key_id != !how->private_pem)
                return error_set(reterr, -EINVAL, "key_id and private_pem belong together");
        r = buf_append(&bytes, payload, size);
        if (r < 0)
                return error_set(reterr, r, "the payload is longer than %d bytes",
                                 LIMIT_DOCUMENT_BYTES);
        if (previous && !how->replace) {
                r = add_previous(previous, previous_size, how, &bytes, &envelope, reterr);
                if (r < 0)
                        return r;
        }
        if (how->key_id) {
                r = add_signature(how, &bytes, &envelope, reterr);
                if (r < 0)
                        return r;
        }

        r = digest_base64_encode(buf_str(&bytes), bytes.size, &encoded);
        if (r < 0)
                return r;
        envelope.type = strdup(how->type);
        envelope.payload = buf_steal(&encoded);
        if (!envelope.type || !envelope.payload)
                return -ENOMEM;
        return json_encode(&envelope_table, &envelope, ret);
}
