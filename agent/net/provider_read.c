#include "net/provider.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

#define KEY_MAX_BYTES   1024
#define TOKEN_MAX_BYTES 16384

int provider_read_token(const char *path, char **ret, Error **reterr) {
        _cleanup_secret_buf_ Buf text = BUF_INIT(TOKEN_MAX_BYTES);
        int r;

        r = secret_read_file(path, &text);
        if (r < 0)
                return error_set(reterr, r, "read %s: %s", path, strerror(-r));
        while (text.size > 0 && strchr("\r\n", text.data[text.size - 1]))
                text.data[--text.size] = 0;
        for (size_t i = 0; i < text.size; i++)
                if (text.data[i] < ' ' || text.data[i] > '~')
                        return error_set(reterr, -EBADMSG,
                                         "%s holds more than one line of plain text: no token",
                                         path);
        if (text.size == 0)
                return error_set(reterr, -EBADMSG, "%s is empty", path);

        *ret = strdup(text.data);
        return *ret ? 0 : error_set(reterr, -ENOMEM, "read %s: out of memory", path);
}

/* ---- answers ---- */

static int two_digits(const char *at) {
        if (!isdigit((unsigned char) at[0]) || !isdigit((unsigned char) at[1]))
                return -EINVAL;
        return (at[0] - '0') * 10 + at[1] - '0';
}

/* "02:30" or "0230" behind its sign, to the end of the text, as a span. */
static int read_offset(const char *at, usec_t *ret) {
        int hours, minutes;

        hours = two_digits(at);
        if (hours < 0)
                return hours;
        at += at[2] == ':' ? 3 : 2;
        minutes = two_digits(at);
        if (minutes < 0 || at[2] != 0 || hours > 23 || minutes > 59)
                return -EINVAL;
        *ret = SEC((usec_t) hours * 3600 + (usec_t) minutes * 60);
        return 0;
}

int provider_read_time(const char *text, usec_t *ret) {
        char whole[TIME_RFC3339_SIZE];
        usec_t usec, offset = 0;
        const char *at;

        if (strnlen(text, 19) < 19)
                return -EINVAL;
        (void) snprintf(whole, sizeof(whole), "%.19sZ", text);
        if (time_parse(whole, &usec) < 0)
                return -EINVAL;

        at = text + 19;
        if (*at == '.' && isdigit((unsigned char) at[1]))
                for (at++; isdigit((unsigned char) *at); at++)
                        ;
        if (*at == '+' || *at == '-') {
                if (read_offset(at + 1, &offset) < 0)
                        return -EINVAL;
        } else if (*at != 0 && !str_equal(at, "Z") && !str_equal(at, "z"))
                return -EINVAL;

        if (*at == '+' && usec < offset)
                return -EINVAL;
        *ret = *at == '+' ? usec - offset : usec + offset;
        return 0;
}

typedef struct Document {
        uint64_t version;
        char *code;
        char *key_id;
        char *secret;
        char *token;
        char *session_token;
        char *expiration;
} Document;

/* clang-format off */
static const JsonField document_fields[] = {
        JSON_ROW("Version",     JSON_KIND_U64,    0, Document, version),
        JSON_ROW("Code",        JSON_KIND_STRING, JSON_SECRET, Document, code),
        JSON_ROW_MAX("AccessKeyId",     JSON_KIND_STRING, JSON_SECRET, Document, key_id,        KEY_MAX_BYTES),
        JSON_ROW_MAX("SecretAccessKey", JSON_KIND_STRING, JSON_SECRET, Document, secret,        KEY_MAX_BYTES),
        JSON_ROW_MAX("Token",           JSON_KIND_STRING, JSON_SECRET, Document, token,         TOKEN_MAX_BYTES),
        JSON_ROW_MAX("SessionToken",    JSON_KIND_STRING, JSON_SECRET, Document, session_token, TOKEN_MAX_BYTES),
        JSON_ROW_MAX("Expiration",      JSON_KIND_STRING, JSON_SECRET, Document, expiration,    64),
        JSON_END,
};
static const JsonTable document_table = { document_fields, sizeof(Document) };
/* clang-format on */

static void document_done(Document *d) {
        d->key_id = secret_free(d->key_id);
        d->secret = secret_free(d->secret);
        d->token = secret_free(d->token);
        d->session_token = secret_free(d->session_token);
        json_table_done(&document_table, d);
}

static bool is_plain(const char *text) {
        for (; *text; text++)
                if (*text <= ' ' || *text > '~')
                        return false;
        return true;
}

int provider_check(const Credentials *c, Error **reterr) {
        if (str_is_empty(c->access_key_id) || str_is_empty(c->secret))
                return error_set(reterr, -EBADMSG, "there is no %s in it",
                                 str_is_empty(c->access_key_id) ? "access key id"
                                                                : "secret access key");
        if (!is_plain(c->access_key_id) || !is_plain(c->secret) ||
            (c->token && !is_plain(c->token)))
                return error_set(reterr, -EBADMSG,
                                 "a key or token has blanks or other characters that none has");
        return 0;
}

/* The words may not quote what they are about, but a code of the service is for the person. */
static int say_code(const char *code, Error **reterr) {
        if (!str_is_label(code))
                code = "something that is no code";
        return error_set(reterr, -EAGAIN, "there are none now: it says %s%s", code,
                         str_equal(code, "AssumeRoleUnauthorizedAccess")
                                 ? ": the role's trust policy does not allow ec2.amazonaws.com, or "
                                   "the role was made a moment ago"
                                 : "");
}

int provider_read_json(const char *text, size_t size, Credentials *ret, Error **reterr) {
        _cleanup_(document_done) Document d = { 0 };
        Credentials c = { .ends_usec = USEC_INFINITY };
        int r;

        r = json_decode(text, size, &document_table, JSON_LENIENT, &d, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "not the JSON of credentials");
        if (d.code && !str_equal(d.code, "Success"))
                return say_code(d.code, reterr);
        if (d.version > 1)
                return error_set(reterr, -EBADMSG, "Version is %llu, and only 1 is known",
                                 (unsigned long long) d.version);

        c.access_key_id = d.key_id;
        c.secret = d.secret;
        c.token = d.session_token ?: d.token;
        if (str_is_empty(c.token))
                c.token = NULL;
        r = provider_check(&c, reterr);
        if (r < 0)
                return r;
        if (!str_is_empty(d.expiration) && provider_read_time(d.expiration, &c.ends_usec) < 0)
                return error_set(reterr, -EBADMSG, "their Expiration is no time");

        if (c.token && c.token == d.session_token)
                d.session_token = NULL;
        else if (c.token)
                d.token = NULL;
        d.key_id = d.secret = NULL;
        *ret = c;
        return 0;
}

/* ---- URLs ---- */

static bool is_port(const char *text) {
        uint64_t port;

        return *text == 0 ||
               (*text == ':' && str_to_u64(text + 1, &port) == 0 && port > 0 && port <= 65535);
}

/* The host of a URL, in its brackets; -EINVAL where another reader might see another one. */
static int read_host(const char *url, char **ret) {
        const char *begin = strstr(url, "://") + 3;
        size_t size = strcspn(begin, "/?#\\"), host;
        _cleanup_free_ char *authority = strndup(begin, size);

        if (!authority)
                return -ENOMEM;
        if (begin[size] == '\\' || strpbrk(authority, "@% \t"))
                return -EINVAL;
        host = authority[0] == '[' ? strcspn(authority, "]") + 1 : strcspn(authority, ":");
        if (host > size || host == 0 || !is_port(authority + host))
                return -EINVAL;
        authority[host] = 0;
        *ret = TAKE_PTR(authority);
        return 0;
}

/* "[::1]", without its brackets, as an address. */
static bool read_ipv6(const char *host, struct in6_addr *ret) {
        char text[64];
        size_t size = strlen(host);

        if (host[0] != '[' || size < 3 || size - 2 >= sizeof(text))
                return false;
        (void) snprintf(text, sizeof(text), "%.*s", (int) size - 2, host + 1);
        return inet_pton(AF_INET6, text, ret) == 1;
}

static bool is_allowed(const char *host, bool *ret_loopback) {
        struct in6_addr six, eks;
        struct in_addr four;

        *ret_loopback = false;
        if (inet_pton(AF_INET, host, &four) == 1) {
                *ret_loopback = ntohl(four.s_addr) >> 24 == 127;
                return *ret_loopback || str_equal(host, "169.254.170.2") ||
                       str_equal(host, "169.254.170.23");
        }
        if (read_ipv6(host, &six)) {
                *ret_loopback = IN6_IS_ADDR_LOOPBACK(&six);
                return *ret_loopback || (inet_pton(AF_INET6, "fd00:ec2::23", &eks) == 1 &&
                                         memcmp(&six, &eks, sizeof(six)) == 0);
        }
        *ret_loopback = strcasecmp(host, "localhost") == 0;
        return *ret_loopback;
}

int provider_check_url(const char *url, char **ret_host, bool *ret_loopback, Error **reterr) {
        bool secure = strncasecmp(url, "https://", 8) == 0;
        _cleanup_free_ char *host = NULL;
        int r;

        if (!secure && strncasecmp(url, "http://", 7) != 0)
                return error_set(reterr, -EPERM, "it is neither http:// nor https://");
        r = read_host(url, &host);
        if (r < 0)
                return error_set(reterr, r == -ENOMEM ? r : -EPERM, "%s",
                                 r == -ENOMEM ? "out of memory" : "it names no plain host");
        if (!is_allowed(host, ret_loopback) && !secure)
                return error_set(reterr, -EPERM,
                                 "credentials are asked for by plain http only of this host, "
                                 "169.254.170.2, 169.254.170.23 and [fd00:ec2::23], not of %s",
                                 host);
        if (secure)
                *ret_loopback = false;
        *ret_host = TAKE_PTR(host);
        return 0;
}
