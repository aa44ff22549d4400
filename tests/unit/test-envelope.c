#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/digest.h"
#include "base/str.h"
#include "bundle/bundle.h"

#define TYPE    "application/vnd.example.one+json"
#define OTHER   "application/vnd.example.two+json"
#define PAYLOAD "{\"revision\":7}"
#define NOW     "2026-08-01T12:00:00Z"

typedef struct Keys {
        Buf private_pem[3], public_pem[3];
} Keys;

static Keys *keys_of(void **state) {
        return *state;
}

static int keys_new(void **state) {
        Keys *keys = calloc(1, sizeof(*keys));

        for (size_t i = 0; i < ELEMENTS(keys->private_pem); i++) {
                buf_init(&keys->private_pem[i], LIMIT_KEY_BYTES);
                buf_init(&keys->public_pem[i], LIMIT_KEY_BYTES);
                if (digest_keygen(&keys->private_pem[i], &keys->public_pem[i], NULL) < 0)
                        return -1;
        }
        *state = keys;
        return 0;
}

static int keys_free(void **state) {
        Keys *keys = *state;

        for (size_t i = 0; i < ELEMENTS(keys->private_pem); i++) {
                buf_done(&keys->private_pem[i]);
                buf_done(&keys->public_pem[i]);
        }
        free(keys);
        return 0;
}

/* Signs with key i under the name id; previous may be NULL. */
static int sign(const Keys *keys, size_t i, const char *id, const Buf *previous, bool replace,
                Buf *ret, Error **reterr) {
        _cleanup_free_ char *key_id = strdup(id), *type = strdup(TYPE);
        TaskSign how = { .type = type,
                         .key_id = key_id,
                         .private_pem = keys->private_pem[i].data,
                         .replace = replace };

        return bundle_sign(PAYLOAD, strlen(PAYLOAD), previous ? buf_str(previous) : NULL,
                           previous ? previous->size : 0, &how, ret, reterr);
}

/* One trusted key. Fields that are NULL take what fits. */
typedef struct Trust {
        const char *id, *purpose, *ends;
        size_t key;
        bool none, unsigned_allowed;
        const char *type;
} Trust;

static int open_with(const Keys *keys, const Buf *envelope, const Trust *trust, Buf *ret,
                     char **ret_id, Error **reterr) {
        TaskOpened opened = { 0 };
        TaskOpen how = { 0 };
        TaskKey *key;
        int r;

        how.type = strdup(trust->type ? trust->type : TYPE);
        how.purpose = strdup("assign");
        how.now = strdup(NOW);
        how.unsigned_allowed = trust->unsigned_allowed;
        if (!trust->none) {
                key = json_array_add(&how.keys, &task_key_table, LIMIT_KEYS);
                key->id = strdup(trust->id ? trust->id : "k1");
                key->purpose = strdup(trust->purpose ? trust->purpose : "assign");
                key->ends = trust->ends ? strdup(trust->ends) : NULL;
                key->pem = strdup(keys->public_pem[trust->key].data);
        }
        r = bundle_open(buf_str(envelope), envelope->size, &how, ret, &opened, reterr);
        *ret_id = opened.key_id;
        json_table_done(&task_open_table, &how);
        return r;
}

static void check_opens(const Keys *keys, const Buf *envelope, const Trust *trust, const char *id) {
        _cleanup_(buf_done) Buf payload = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        _cleanup_(error_freep) Error *error = NULL;
        _cleanup_free_ char *found = NULL;
        int r;

        r = open_with(keys, envelope, trust, &payload, &found, &error);
        if (r != 0)
                fail_msg("%d: %s", r, error_text(error));
        assert_string_equal(buf_str(&payload), PAYLOAD);
        if (id)
                assert_string_equal(found, id);
        else
                assert_null(found);
}

static void check_refused(const Keys *keys, const Buf *envelope, const Trust *trust, int code,
                          const char *words) {
        _cleanup_(buf_done) Buf payload = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        _cleanup_(error_freep) Error *error = NULL;
        _cleanup_free_ char *found = NULL;

        assert_int_equal(open_with(keys, envelope, trust, &payload, &found, &error), code);
        if (!strstr(error_text(error), words))
                fail_msg("\"%s\" is not in: %s", words, error_text(error));
        assert_int_equal(payload.size, 0);
        assert_null(found);
}

static void test_round(void **state) {
        _cleanup_(buf_done) Buf envelope = BUF_INIT(1 << 20);
        const Keys *keys = keys_of(state);

        assert_int_equal(sign(keys, 0, "k1", NULL, false, &envelope, NULL), 0);
        check_opens(keys, &envelope, &(Trust){ 0 }, "k1");
        check_opens(keys, &envelope, &(Trust){ .unsigned_allowed = true }, "k1");
        check_opens(keys, &envelope, &(Trust){ .ends = "2026-08-01T12:00:01Z" }, "k1");
        /* Without keys nothing can be checked; the signature is not looked at. */
        check_opens(keys, &envelope, &(Trust){ .none = true, .unsigned_allowed = true }, NULL);
}

static void test_refused(void **state) {
        _cleanup_(buf_done) Buf envelope = BUF_INIT(1 << 20);
        const Keys *keys = keys_of(state);

        assert_int_equal(sign(keys, 0, "k1", NULL, false, &envelope, NULL), 0);
        check_refused(keys, &envelope, &(Trust){ .none = true }, -EKEYREJECTED,
                      "configure trusted_keys");
        check_refused(keys, &envelope, &(Trust){ .id = "k2" }, -EKEYREJECTED,
                      "not among the trusted");
        check_refused(keys, &envelope, &(Trust){ .purpose = "publish" }, -EKEYREJECTED,
                      "another purpose");
        check_refused(keys, &envelope, &(Trust){ .ends = NOW }, -EKEYREJECTED, "has ended");
        check_refused(keys, &envelope, &(Trust){ .ends = "never" }, -EKEYREJECTED, "has ended");
        check_refused(keys, &envelope, &(Trust){ .key = 1 }, -EKEYREJECTED, "altered");
        check_refused(keys, &envelope, &(Trust){ .type = OTHER }, -EBADMSG, "expected a");
}

static void test_unsigned(void **state) {
        _cleanup_(buf_done) Buf envelope = BUF_INIT(1 << 20);
        TaskSign how = { .type = (char[]){ TYPE } };
        const Keys *keys = keys_of(state);

        assert_int_equal(bundle_sign(PAYLOAD, strlen(PAYLOAD), NULL, 0, &how, &envelope, NULL), 0);
        check_opens(keys, &envelope, &(Trust){ .none = true, .unsigned_allowed = true }, NULL);
        check_refused(keys, &envelope, &(Trust){ .none = true }, -EKEYREJECTED,
                      "configure trusted_keys");
        check_refused(keys, &envelope, &(Trust){ .unsigned_allowed = true }, -EKEYREJECTED,
                      "unsigned");
}

/* Each single byte of a signed envelope: changed, it does not open as something else. */
static void test_each_byte(void **state) {
        _cleanup_(buf_done) Buf envelope = BUF_INIT(1 << 20);
        const Keys *keys = keys_of(state);

        assert_int_equal(sign(keys, 0, "k1", NULL, false, &envelope, NULL), 0);
        for (size_t i = 0; i < envelope.size; i++) {
                _cleanup_(buf_done) Buf payload = BUF_INIT(LIMIT_DOCUMENT_BYTES);
                _cleanup_free_ char *found = NULL;
                char before = envelope.data[i];
                int r;

                envelope.data[i] = (char) (before ^ 1);
                r = open_with(keys, &envelope, &(Trust){ 0 }, &payload, &found, NULL);
                if (r == 0 && !str_equal(buf_str(&payload), PAYLOAD))
                        fail_msg("byte %zu: it opens with another payload", i);
                assert_true(r == 0 || r == -EKEYREJECTED || r == -EBADMSG);
                envelope.data[i] = before;
        }
}

/* Add, sign again, remove. */
static void test_rotation(void **state) {
        _cleanup_(buf_done) Buf one = BUF_INIT(1 << 20), both = BUF_INIT(1 << 20),
                                again = BUF_INIT(1 << 20), new_only = BUF_INIT(1 << 20);
        const Keys *keys = keys_of(state);

        assert_int_equal(sign(keys, 0, "k1", NULL, false, &one, NULL), 0);
        assert_int_equal(sign(keys, 1, "k2", &one, false, &both, NULL), 0);
        check_opens(keys, &both, &(Trust){ .id = "k1", .key = 0 }, "k1");
        check_opens(keys, &both, &(Trust){ .id = "k2", .key = 1 }, "k2");

        /* The same id once more: its old signature goes. */
        assert_int_equal(sign(keys, 2, "k1", &both, false, &again, NULL), 0);
        check_refused(keys, &again, &(Trust){ .id = "k1", .key = 0 }, -EKEYREJECTED, "altered");
        check_opens(keys, &again, &(Trust){ .id = "k1", .key = 2 }, "k1");
        check_opens(keys, &again, &(Trust){ .id = "k2", .key = 1 }, "k2");

        assert_int_equal(sign(keys, 1, "k2", &both, true, &new_only, NULL), 0);
        check_refused(keys, &new_only, &(Trust){ .id = "k1", .key = 0 }, -EKEYREJECTED,
                      "not among the trusted");
        check_opens(keys, &new_only, &(Trust){ .id = "k2", .key = 1 }, "k2");
}

static void test_sign_refuses(void **state) {
        _cleanup_(buf_done) Buf one = BUF_INIT(1 << 20), other = BUF_INIT(1 << 20),
                                many = BUF_INIT(1 << 20);
        _cleanup_(error_freep) Error *error = NULL;
        TaskSign how = { .type = (char[]){ TYPE }, .key_id = (char[]){ "k1" } };
        const Keys *keys = keys_of(state);

        assert_int_equal(bundle_sign("x", 1, NULL, 0, &how, &one, NULL), -EINVAL);
        how.private_pem = (char[]){ "not a key" };
        assert_int_equal(bundle_sign("x", 1, NULL, 0, &how, &one, NULL), -EINVAL);
        how.private_pem = keys->private_pem[0].data;
        assert_int_equal(bundle_sign("another", 7, NULL, 0, &how, &other, NULL), 0);
        assert_int_equal(sign(keys, 0, "k2", &other, false, &one, &error), -EBADMSG);
        assert_non_null(strstr(error_text(error), "another payload"));
        error = error_free(error);

        assert_int_equal(sign(keys, 0, "key-0", NULL, false, &many, NULL), 0);
        for (int i = 1; i <= LIMIT_SIGNATURES; i++) {
                _cleanup_(buf_done) Buf next = BUF_INIT(1 << 20);
                char id[16];
                int r;

                (void) snprintf(id, sizeof(id), "key-%d", i);
                r = sign(keys, 0, id, &many, false, &next, &error);
                if (i == LIMIT_SIGNATURES) {
                        assert_int_equal(r, -E2BIG);
                        break;
                }
                assert_int_equal(r, 0);
                buf_clear(&many);
                assert_int_equal(buf_append(&many, next.data, next.size), 0);
        }
}

static void check_text(const Keys *keys, const char *text, const char *words) {
        Buf envelope = BUF_INIT(1 << 20);

        assert_int_equal(buf_append_str(&envelope, text), 0);
        check_refused(keys, &envelope, &(Trust){ .none = true, .unsigned_allowed = true }, -EBADMSG,
                      words);
        buf_done(&envelope);
}

static void test_not_an_envelope(void **state) {
        const Keys *keys = keys_of(state);

        check_text(keys, "", "not an envelope");
        check_text(keys, PAYLOAD, "payload");
        check_text(keys, "{\"payloadType\":\"" TYPE "\",\"payload\":\"!!\",\"signatures\":[]}",
                   "base64");
        check_text(keys, "{\"payloadType\":\"other\",\"payload\":\"\",\"signatures\":[]}",
                   "\"other\"");
        check_text(keys, "{\"payloadType\":\"" TYPE "\",\"payload\":\"\",\"payload\":\"e30=\"}",
                   "not an envelope");
}

/* The encoding that is signed, against the protocol's own example of it. */
static void test_pre_authentication(void **state) {
        static const char bytes[] = "DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        _cleanup_(buf_done) Buf envelope = BUF_INIT(1 << 20), raw = BUF_INIT(64);
        TaskSign how = { .type = (char[]){ "http://example.com/HelloWorld" },
                         .key_id = (char[]){ "k1" } };
        const Keys *keys = keys_of(state);
        const char *sig;

        how.private_pem = keys->private_pem[0].data;
        assert_int_equal(bundle_sign("hello world", 11, NULL, 0, &how, &envelope, NULL), 0);
        assert_non_null(strstr(buf_str(&envelope), "\"aGVsbG8gd29ybGQ=\""));
        sig = strstr(buf_str(&envelope), "\"sig\":\"");
        assert_non_null(sig);
        sig += 7;
        assert_int_equal(digest_base64_decode(sig, strcspn(sig, "\""), &raw), 0);
        assert_int_equal(digest_verify(keys->public_pem[0].data, bytes, strlen(bytes),
                                       (const uint8_t *) raw.data, raw.size, NULL),
                         0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round),           cmocka_unit_test(test_refused),
                cmocka_unit_test(test_unsigned),        cmocka_unit_test(test_each_byte),
                cmocka_unit_test(test_rotation),        cmocka_unit_test(test_sign_refuses),
                cmocka_unit_test(test_not_an_envelope), cmocka_unit_test(test_pre_authentication),
        };

        return cmocka_run_group_tests_name("envelope", tests, keys_new, keys_free);
}
