/*
 * Envelopes: what opens without keys holds a payload that, signed anew, opens with the key, and
 * nothing opens that was not signed by it.
 */

#include "bundle/bundle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/limits.h"
#include "base/digest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TYPE "application/vnd.example+json"

static void must(bool holds) {
        if (!holds)
                abort();
}

static int open_with(const char *text, size_t size, const char *public_pem, Buf *ret) {
        _cleanup_free_ char *pem = public_pem ? strdup(public_pem) : NULL;
        TaskKey key = { .id = (char[]){ "k1" }, .purpose = (char[]){ "assign" }, .pem = pem };
        TaskOpen how = {
                .type = (char[]){ TYPE },
                .purpose = (char[]){ "assign" },
                .now = (char[]){ "2026-08-01T12:00:00Z" },
                .unsigned_allowed = true,
        };
        _cleanup_(error_freep) Error *e = NULL;
        TaskOpened opened = { 0 };
        int r;

        if (pem)
                how.keys = (JsonArray){ .items = &key, .n = 1 };
        r = bundle_open(text, size, &how, ret, &opened, &e);
        must(r == 0 ? !e : e && ret->size == 0 && !opened.key_id);
        free(opened.key_id);
        return r;
}

static void check_signed(const Buf *payload, const char *text, size_t size) {
        _cleanup_(buf_done) Buf private_pem = BUF_INIT(LIMIT_KEY_BYTES),
                                public_pem = BUF_INIT(LIMIT_KEY_BYTES);
        _cleanup_(buf_done) Buf again = BUF_INIT(LIMIT_DOCUMENT_BYTES),
                                envelope = BUF_INIT(1 << 20);
        TaskSign how = { .type = (char[]){ TYPE }, .key_id = (char[]){ "k1" } };
        int r;

        must(digest_keygen(&private_pem, &public_pem, NULL) == 0);
        must(open_with(text, size, public_pem.data, &again) < 0);
        how.private_pem = private_pem.data;
        r = bundle_sign(buf_str(payload), payload->size, text, size, &how, &envelope, NULL);
        if (r == -E2BIG)
                return;
        must(r == 0 && open_with(buf_str(&envelope), envelope.size, public_pem.data, &again) == 0);
        must(again.size == payload->size &&
             memcmp(buf_str(&again), buf_str(payload), again.size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(buf_done) Buf payload = BUF_INIT(LIMIT_DOCUMENT_BYTES);

        if (open_with((const char *) data, size, NULL, &payload) == 0)
                check_signed(&payload, (const char *) data, size);
        return 0;
}
