#include "store/wire.h"

#include <errno.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"

/* As in store/store.h. */
#define ETAG_BYTES 128

/* The end of the year 9999: what lies behind it cannot be written as a time. */
#define TIME_MAX_USEC SEC(253402300799)

const char *const wire_environment[] = {
        /* the credential chain */
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_PROFILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONFIG_FILE",
        "HOME",
        "PATH", /* where a credential_process without a slash is looked for */
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        /* where */
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL_STS",
        /* certificates and proxies, as curl and the AWS tools name them */
        "AWS_CA_BUNDLE",
        "SSL_CERT_FILE",
        "http_proxy",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
        NULL,
};

/* clang-format off */
static const JsonField open_fields[] = {
        JSON_ROW("url", JSON_KIND_STRING, JSON_REQUIRED, WireOpen, url),
        JSON_ROW("region", JSON_KIND_STRING, JSON_OMIT_EMPTY, WireOpen, region),
        JSON_ROW("endpoint", JSON_KIND_STRING, JSON_OMIT_EMPTY, WireOpen, endpoint),
        JSON_ROW("ca_file", JSON_KIND_STRING, JSON_OMIT_EMPTY, WireOpen, ca_file),
        JSON_ROW("identity_tag", JSON_KIND_STRING, JSON_OMIT_EMPTY, WireOpen, identity_tag),
        JSON_ROW("path_style", JSON_KIND_BOOL, JSON_OMIT_EMPTY, WireOpen, path_style),
        JSON_ROW("virtual_host", JSON_KIND_BOOL, JSON_OMIT_EMPTY, WireOpen, virtual_host),
        JSON_ROW("dualstack", JSON_KIND_BOOL, JSON_OMIT_EMPTY, WireOpen, dualstack),
        JSON_ROW("fips", JSON_KIND_BOOL, JSON_OMIT_EMPTY, WireOpen, fips),
        JSON_ROW_MAX("environment", JSON_KIND_STRV, JSON_OMIT_EMPTY | JSON_SECRET, WireOpen, environment, ELEMENTS(wire_environment)),
        JSON_END,
};
const JsonTable wire_open_table = { open_fields, sizeof(WireOpen) };

static const JsonField ask_fields[] = {
        JSON_ROW_MAX("key", JSON_KIND_STRING, JSON_REQUIRED, WireAsk, key, LIMIT_KEY_NAME_BYTES),
        JSON_ROW_MAX("etag", JSON_KIND_STRING, JSON_OMIT_EMPTY, WireAsk, etag, ETAG_BYTES),
        JSON_ROW_MAX("start_after", JSON_KIND_STRING, JSON_OMIT_EMPTY, WireAsk, start_after, LIMIT_KEY_NAME_BYTES),
        JSON_ROW_MAX("condition", JSON_KIND_U64, JSON_OMIT_EMPTY, WireAsk, condition, STORE_IF_MATCHES),
        JSON_ROW("number", JSON_KIND_U64, JSON_OMIT_EMPTY, WireAsk, number),
        JSON_ROW("has_map", JSON_KIND_BOOL, JSON_OMIT_EMPTY, WireAsk, has_map),
        JSON_ROW("has_progress", JSON_KIND_BOOL, JSON_OMIT_EMPTY, WireAsk, has_progress),
        JSON_END,
};
const JsonTable wire_ask_table = { ask_fields, sizeof(WireAsk) };

static const JsonField cancel_fields[] = {
        JSON_ROW("number", JSON_KIND_U64, JSON_REQUIRED, WireCancel, number),
        JSON_END,
};
const JsonTable wire_cancel_table = { cancel_fields, sizeof(WireCancel) };

static const JsonField answer_fields[] = {
        JSON_ROW_MAX("answer", JSON_KIND_U64, JSON_REQUIRED, WireAnswer, answer, STORE_REFUSED),
        JSON_ROW_MAX("etag", JSON_KIND_STRING, JSON_OMIT_EMPTY, WireAnswer, etag, ETAG_BYTES),
        JSON_ROW("has_age", JSON_KIND_BOOL, JSON_OMIT_EMPTY, WireAnswer, has_age),
        JSON_ROW_MAX("age_usec", JSON_KIND_U64, JSON_OMIT_EMPTY, WireAnswer, age_usec, TIME_MAX_USEC),
        JSON_ROW_MAX("date_usec", JSON_KIND_U64, JSON_OMIT_EMPTY, WireAnswer, date_usec, TIME_MAX_USEC),
        JSON_ROW("size", JSON_KIND_U64, JSON_OMIT_EMPTY, WireAnswer, size),
        JSON_ROW("more", JSON_KIND_BOOL, JSON_OMIT_EMPTY, WireAnswer, more),
        JSON_END,
};
const JsonTable wire_answer_table = { answer_fields, sizeof(WireAnswer) };

static const JsonField entry_fields[] = {
        { .name = "key", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(StoreEntry, key), .min = 1, .max = LIMIT_KEY_NAME_BYTES },
        { .name = "etag", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(StoreEntry, etag), .min = 1, .max = ETAG_BYTES },
        JSON_ROW("size", JSON_KIND_U64, 0, StoreEntry, size),
        JSON_END,
};
static const JsonTable entry_table = { entry_fields, sizeof(StoreEntry) };

static const JsonField list_fields[] = {
        JSON_ROW_TABLE("entries", JSON_KIND_ARRAY, 0, WireList, entries, LIMIT_LIST_KEYS, &entry_table),
        JSON_END,
};
const JsonTable wire_list_table = { list_fields, sizeof(WireList) };
/* clang-format on */

void wire_open_done(WireOpen *open) {
        for (char **v = open->environment; v && *v; v++)
                explicit_bzero(*v, strlen(*v));
        json_table_done(&wire_open_table, open);
}

static bool is_wanted(const char *variable) {
        for (const char *const *name = wire_environment; *name; name++) {
                size_t n = strlen(*name);

                if (strncmp(variable, *name, n) == 0 && variable[n] == '=')
                        return variable[n + 1] != 0;
        }
        return false;
}

int wire_open_take_environment(WireOpen *open, char *const *variables) {
        for (char *const *v = variables; v && *v; v++) {
                size_t size = strlen(*v);
                int r;

                if (!is_wanted(*v))
                        continue;
                if (size > LIMIT_STRING_BYTES)
                        return -E2BIG;
                if (!str_is_utf8(*v, size, false))
                        return -EINVAL;
                r = strv_add(&open->environment, ELEMENTS(wire_environment), *v);
                if (r < 0)
                        return r;
        }
        return 0;
}
