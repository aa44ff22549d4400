/*
 * What the instance metadata service, a container's endpoint and a credential_process answer:
 * credentials, times, the identity document, user data; and URLs that credentials may be asked by.
 * What is accepted can be sent as a header as it is; what is refused left nothing behind.
 */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "net/identity.h"
#include "net/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
        if (!holds)
                abort();
}

static void check_plain(const char *text) {
        for (; *text; text++)
                must(*text > ' ' && *text <= '~');
}

static void read_credentials(const char *text, size_t size) {
        _cleanup_(error_freep) Error *err = NULL;
        Credentials c = { 0 };
        int r;

        r = provider_read_json(text, size, &c, &err);
        if (r < 0) {
                must(!c.access_key_id && !c.secret && !c.token);
                must(error_code(err) == r);
                return;
        }
        must(!str_is_empty(c.access_key_id) && !str_is_empty(c.secret));
        check_plain(c.access_key_id);
        check_plain(c.secret);
        check_plain(c.token ?: "");
        must(c.ends_usec > 0);
        credentials_done(&c);
}

static void check_label(const char *text) {
        must(!text || str_is_label(text));
}

static void read_identity(const char *text, size_t size) {
        _cleanup_free_ char *environment = identity_read_user_data(text, size);
        NetIdentity id = { 0 };

        check_label(environment);
        if (identity_read_document(text, size, &id, NULL) < 0) {
                must(!id.instance && !id.region);
                return;
        }
        check_label(id.instance);
        check_label(id.account);
        check_label(id.image);
        check_label(id.region);
        check_label(id.zone);
        json_table_done(&net_identity_table, &id);
}

/* A host by plain http is one of a few, whatever stands around it. */
static void read_url(const char *text) {
        _cleanup_free_ char *host = NULL;
        bool loopback = false;

        if (provider_check_url(text, &host, &loopback, NULL) < 0) {
                must(!host);
                return;
        }
        must(host && strlen(host) < strlen(text) && host[strcspn(host, "/?#@\\% ")] == 0);
        if (text[4] != 's' && text[4] != 'S')
                must(loopback || str_has_prefix(host, "169.254.170.2") || host[0] == '[');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = calloc(1, size + 1);
        usec_t usec = 0;

        if (!text)
                return 0;
        if (size > 0)
                memcpy(text, data, size);
        read_credentials(text, size);
        read_identity(text, size);
        read_url(text);
        if (provider_read_time(text, &usec) == 0)
                must(usec < UINT64_C(1) << 60);
        return 0;
}
