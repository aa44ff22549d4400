#include "net/sign.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/str.h"
#include "net/secret.h"

#define ALGORITHM      "AWS4-HMAC-SHA256"
#define HEADERS_MAX    64
#define QUERY_MAX      128
#define TEXT_MAX_BYTES ((size_t) 128 * 1024)
#define SCOPE_SIZE     256
#define DATE_SIZE      17 /* "20260801T120000Z" and a NUL */
#define DAY_BYTES      8
#define SIGNATURE_SIZE (2 * DIGEST_SHA256_BYTES + 1)
#define OWN_HEADERS    3

/* The key of one day, region and service, derived from one secret. */
struct Signer {
        char *secret;
        char scope[SCOPE_SIZE];
        uint8_t key[DIGEST_SHA256_BYTES];
};

Signer *signer_new(void) {
        return calloc(1, sizeof(Signer));
}

static void forget(Signer *s) {
        s->secret = secret_free(s->secret);
        explicit_bzero(s, sizeof(*s));
}

Signer *signer_free(Signer *signer) {
        if (!signer)
                return NULL;

        forget(signer);
        free(signer);
        return NULL;
}

static void secret_listp(char ***list) {
        *list = secret_strv_free(*list);
}

/* ---- paths and queries ---- */

static bool is_alnum(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Bytes at the front that stay as they are. */
static size_t plain_run(const char *text, bool keep_slash) {
        size_t n = 0;

        while (is_alnum(text[n]) || (text[n] && strchr("-_.~", text[n])) ||
               (keep_slash && text[n] == '/'))
                n++;
        return n;
}

int sign_encode(const char *text, bool keep_slash, Buf *ret) {
        static const char digits[] = "0123456789ABCDEF";

        for (;; text++) {
                size_t n = plain_run(text, keep_slash);
                int r = buf_append(ret, text, n);

                text += n;
                if (r < 0 || !*text)
                        return r;
                r = buf_append(
                        ret,
                        (char[]){ '%', digits[(uint8_t) *text >> 4], digits[(uint8_t) *text & 15] },
                        3);
                if (r < 0)
                        return r;
        }
}

/* By name, then by value. Not by the whole text: "a=1" is before "a-b=1", although '-' is less than
 * '='. */
static int compare_pairs(const void *a, const void *b) {
        const char *x = *(char *const *) a, *y = *(char *const *) b;
        size_t n = strcspn(x, "="), m = strcspn(y, "=");
        int order = memcmp(x, y, MIN(n, m));

        if (order == 0 && n != m)
                return n < m ? -1 : 1;
        return order != 0 ? order : strcmp(x + n, y + m);
}

/* The room is made at once: a token of a presigned query is to leave no copies. */
static int join_sorted(char **pairs, Buf *ret) {
        size_t need = 0;
        int r;

        for (char **p = pairs; *p; p++)
                need += strlen(*p) + strlen("&=");
        r = buf_reserve(ret, need) ? 0 : -ENOMEM;

        qsort(pairs, strv_count(pairs), sizeof(char *), compare_pairs);
        for (char **p = pairs; *p && r >= 0; p++)
                r = buf_printf(ret, "%s%s%s", p == pairs ? "" : "&", *p,
                               strchr(*p, '=') ? "" : "=");
        return r;
}

int sign_join_query(char *const *query, Buf *ret) {
        _cleanup_(strv_freep) char **pairs = NULL;

        if (!query || !*query)
                return 0;
        pairs = strv_copy(query);
        return pairs ? join_sorted(pairs, ret) : -ENOMEM;
}

/* The path without the last segment of what is there already. */
static void drop_segment(Buf *path) {
        while (path->size > 0 && path->data[path->size - 1] != '/')
                path->size--;
        path->size -= path->size > 0;
        path->data[path->size] = '\0';
}

/* RFC 3986 section 5.2.4, and "//" is "/": what servers other than S3's make of a path before they
 * look at it. */
static int normalise(const char *path, Buf *ret) {
        const char *last = strrchr(path, '/') + 1, *segment = path;
        int r = 0;

        while (*segment && r >= 0) {
                size_t n = strcspn(++segment, "/");

                if (n == 2 && memcmp(segment, "..", 2) == 0) {
                        if (ret->size > 0)
                                drop_segment(ret);
                } else if (n > 0 && !(n == 1 && *segment == '.'))
                        r = buf_printf(ret, "/%.*s", (int) n, segment);
                segment += n;
        }
        if (r >= 0 && (ret->size == 0 || !*last))
                r = buf_append(ret, "/", 1);
        return r;
}

static bool is_s3(const SignRequest *q) {
        return str_equal(q->service, "s3");
}

static int canonical_path(const SignRequest *q, Buf *ret) {
        _cleanup_(buf_done) Buf path = BUF_INIT(TEXT_MAX_BYTES);
        int r;

        if (is_s3(q))
                return buf_append_str(ret, q->path);
        r = normalise(q->path, &path);
        return r < 0 ? r : sign_encode(buf_str(&path), true, ret);
}

/* ---- headers ---- */

/* What is signed of one: its name in lower case, its value without needless blanks. */
typedef struct SignedHeader {
        char *name;
        char *value;
} SignedHeader;

typedef struct SignedHeaders {
        SignedHeader items[HEADERS_MAX];
        size_t n;
} SignedHeaders;

static void header_done(SignedHeader *header) {
        free(header->name);
        header->value = secret_free(header->value);
}

static void headers_done(SignedHeaders *headers) {
        for (size_t i = 0; i < headers->n; i++)
                header_done(&headers->items[i]);
}

/* The signer's own, and those that curl adds, changes or leaves out by itself: signed, they are a
 * wrong signature sooner or later. */
static bool is_reserved(const char *name) {
        static const char *const names[] = {
                "host",       "authorization", "x-amz-date",      "x-amz-content-sha256",
                "accept",     "user-agent",    "accept-encoding", "x-amz-security-token",
                "connection", "expect",        "content-length",  "transfer-encoding",
        };

        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (str_equal(name, names[i]))
                        return true;
        return false;
}

static bool is_blank(char c) {
        return c == ' ' || c == '\t';
}

/* Blanks at the ends go, runs of them become one space. NULL: no memory. */
static char *fold(const char *value) {
        char *copy = calloc(1, strlen(value) + 1), *at = copy;

        for (; copy && *value; value++)
                if (!is_blank(*value))
                        *at++ = *value;
                else if (at != copy && value[1] && !is_blank(value[1]))
                        *at++ = ' ';
        return copy;
}

/* NULL: no memory. */
static char *lower(const char *name, size_t n) {
        char *copy = strndup(name, n);

        for (char *c = copy; c && *c; c++)
                if (*c >= 'A' && *c <= 'Z')
                        *c = (char) (*c - 'A' + 'a');
        return copy;
}

/* One name's values are one header to whoever checks. */
static int join_value(SignedHeader *header, const SignedHeader *more) {
        char *joined = str_format("%s,%s", header->value, more->value);

        if (!joined)
                return -ENOMEM;
        header->value = secret_free(header->value);
        header->value = joined;
        return 0;
}

static int headers_add(SignedHeaders *headers, const char *name, size_t n, const char *value) {
        _cleanup_(header_done) SignedHeader new = { lower(name, n), fold(value) };

        if (!new.name || !new.value)
                return -ENOMEM;
        for (size_t i = 0; i < headers->n; i++)
                if (str_equal(headers->items[i].name, new.name))
                        return join_value(&headers->items[i], &new);
        if (headers->n == HEADERS_MAX)
                return -E2BIG;
        headers->items[headers->n++] = new;
        new = (SignedHeader){ 0 };
        return 0;
}

/* "Name: value", as it can be sent: a line break would begin a header of somebody else's, and curl
 * leaves out one without a value. The name's bytes; 0: it is none. */
static size_t header_name(const char *line) {
        const char *colon = strchr(line, ':');
        size_t n = 0;

        while (is_alnum(line[n]) || (line[n] && strchr("!#$%&'*+-.^_`|~", line[n])))
                n++;
        if (!colon || line + n != colon || colon[1 + strspn(colon + 1, " \t")] == '\0')
                return 0;
        for (const char *c = colon + 1; *c; c++)
                if (((uint8_t) *c < ' ' && *c != '\t') || *c == 0x7f)
                        return 0;
        return n;
}

static int headers_add_given(SignedHeaders *headers, char *const *lines, Error **reterr) {
        for (char *const *line = lines; line && *line; line++) {
                size_t n = header_name(*line);
                _cleanup_free_ char *name = lower(*line, n);
                int r;

                if (n == 0)
                        return error_set(reterr, -EINVAL,
                                         "sign: a header is not of the form \"Name: value\"");
                if (!name)
                        return error_set(reterr, -ENOMEM, "sign: out of memory");
                if (is_reserved(name))
                        return error_set(reterr, -EINVAL,
                                         "sign: the header %s is not to be signed by callers",
                                         name);
                r = headers_add(headers, *line, n, *line + n + 1);
                if (r < 0)
                        return error_set(reterr, r, "sign: %s: %s", name, strerror(-r));
        }
        return 0;
}

static int compare_headers(const void *a, const void *b) {
        return strcmp(((const SignedHeader *) a)->name, ((const SignedHeader *) b)->name);
}

/* The host's, the request's, and the signer's own, in their order. */
static int headers_collect(SignedHeaders *headers, const SignRequest *q, char *const *own,
                           Error **reterr) {
        int r;

        r = headers_add_given(headers, q->headers, reterr);
        if (r < 0)
                return r;

        r = headers_add(headers, "host", strlen("host"), q->host);
        for (; own && *own && r >= 0; own++) {
                size_t n = strcspn(*own, ":");

                r = headers_add(headers, *own, n, *own + n + 1);
        }
        if (r < 0)
                return error_set(reterr, r, "sign: %s", strerror(-r));
        qsort(headers->items, headers->n, sizeof(SignedHeader), compare_headers);
        return 0;
}

static int append_names(const SignedHeaders *headers, Buf *ret) {
        int r = 0;

        for (size_t i = 0; i < headers->n && r >= 0; i++)
                r = buf_printf(ret, "%s%s", i > 0 ? ";" : "", headers->items[i].name);
        return r;
}

/* ---- the signature ---- */

/* When and for what: what a signature is bound to. */
typedef struct Scope {
        char date[DATE_SIZE];
        char text[SCOPE_SIZE]; /* "20260801/eu-west-1/s3/aws4_request" */
} Scope;

/* check() saw that it fits. */
static void scope_init(const SignRequest *q, Scope *ret) {
        char readable[TIME_RFC3339_SIZE];
        size_t n = 0;

        time_format(q->now_usec, readable);
        for (const char *c = readable; *c && n < DATE_SIZE - 1; c++)
                if (*c != '-' && *c != ':')
                        ret->date[n++] = *c;
        ret->date[n] = '\0';
        (void) snprintf(ret->text, sizeof(ret->text), "%.*s/%s/%s/aws4_request", DAY_BYTES,
                        ret->date, q->region, q->service);
}

static int derive(const SignRequest *q, const Scope *scope, uint8_t ret[DIGEST_SHA256_BYTES]) {
        const char *const steps[] = { q->region, q->service, "aws4_request" };
        size_t size = strlen(q->credentials->secret) + sizeof("AWS4");
        _cleanup_secret_ char *first = calloc(1, size);
        int r;

        if (!first)
                return -ENOMEM;
        (void) snprintf(first, size, "AWS4%s", q->credentials->secret);
        r = digest_hmac(first, size - 1, scope->date, DAY_BYTES, ret);
        for (size_t i = 0; i < ELEMENTS(steps) && r >= 0; i++) {
                uint8_t key[DIGEST_SHA256_BYTES];

                memcpy(key, ret, sizeof(key));
                r = digest_hmac(key, sizeof(key), steps[i], strlen(steps[i]), ret);
                explicit_bzero(key, sizeof(key));
        }
        return r;
}

/* Derived once for a day. */
static int take_key(Signer *s, const SignRequest *q, const Scope *scope) {
        int r;

        if (s->secret && str_equal(s->scope, scope->text) &&
            str_equal(s->secret, q->credentials->secret))
                return 0;

        forget(s);
        r = derive(q, scope, s->key);
        if (r < 0)
                return r;
        s->secret = strdup(q->credentials->secret);
        if (!s->secret)
                return -ENOMEM;
        memcpy(s->scope, scope->text, sizeof(s->scope));
        return 0;
}

static void feed(Digest *digest, const char *text, const char *end) {
        digest_update(digest, text, strlen(text));
        digest_update(digest, end, strlen(end));
}

/* Of the canonical request, which is never in one piece: it holds the token. */
static int digest_request(const SignRequest *q, const char *query, const char *payload,
                          const SignedHeaders *headers, char ret[DIGEST_SHA256_HEX_SIZE]) {
        _cleanup_(digest_freep) Digest *digest = digest_new();
        _cleanup_(buf_done) Buf path = BUF_INIT(3 * TEXT_MAX_BYTES);
        int r;

        if (!digest)
                return -ENOMEM;
        r = canonical_path(q, &path);
        if (r < 0)
                return r;

        feed(digest, q->method, "\n");
        feed(digest, buf_str(&path), "\n");
        feed(digest, query, "\n");
        for (size_t i = 0; i < headers->n; i++) {
                feed(digest, headers->items[i].name, ":");
                feed(digest, headers->items[i].value, "\n");
        }
        for (size_t i = 0; i < headers->n; i++)
                feed(digest, i > 0 ? ";" : "\n", headers->items[i].name);
        feed(digest, "\n", payload);
        digest_final_hex(digest, ret);
        return *ret ? 0 : -EIO;
}

static int compute(Signer *s, const SignRequest *q, const Scope *scope, const char *query,
                   const char *payload, const SignedHeaders *headers, char ret[SIGNATURE_SIZE]) {
        _cleanup_(buf_done) Buf text = BUF_INIT(1024);
        char digest[DIGEST_SHA256_HEX_SIZE];
        uint8_t signature[DIGEST_SHA256_BYTES];
        int r;

        r = digest_request(q, query, payload, headers, digest);
        if (r >= 0)
                r = buf_printf(&text, ALGORITHM "\n%s\n%s\n%s", scope->date, scope->text, digest);
        if (r >= 0)
                r = take_key(s, q, scope);
        if (r >= 0)
                r = digest_hmac(s->key, sizeof(s->key), text.data, text.size, signature);
        if (r >= 0)
                digest_hex(signature, sizeof(signature), ret);
        return r;
}

/* Names without '/', else two scopes could look the same. */
static int check(const SignRequest *q, Error **reterr) {
        if (q->path[0] != '/')
                return error_set(reterr, -EINVAL, "sign: a path begins with '/', and '%s' does not",
                                 q->path);
        for (const char *c = q->path; *c; c++)
                if ((uint8_t) *c <= ' ' || (uint8_t) *c >= 0x7f || strchr("?#", *c))
                        return error_set(reterr, -EINVAL, "sign: a path is not encoded");
        if (!*q->host || strpbrk(q->host, " \t\r\n"))
                return error_set(reterr, -EINVAL,
                                 "sign: the host's name is empty, or has a blank or line break");
        if (!str_is_label(q->region) || !str_is_label(q->service))
                return error_set(reterr, -EINVAL,
                                 "sign: '%s' is not the name of a region or service",
                                 str_is_label(q->service) ? q->region : q->service);
        return 0;
}

/* ---- by header ---- */

/* In a place of just its size: printing into growing ones would leave copies of the token. */
static int add_line(char **list, const char *name, const char *value) {
        size_t size = strlen(name) + strlen(": ") + strlen(value) + 1;
        char *line = calloc(1, size);

        if (!line)
                return -ENOMEM;
        (void) snprintf(line, size, "%s: %s", name, value);
        list[strv_count(list)] = line;
        return 0;
}

/* What the signature itself needs beside the request's own headers. */
static int own_headers(const SignRequest *q, const Scope *scope, char **list) {
        int r;

        r = add_line(list, "x-amz-date", scope->date);
        if (r >= 0 && is_s3(q))
                r = add_line(list, "x-amz-content-sha256", q->payload);
        if (r >= 0 && !str_is_empty(q->credentials->token))
                r = add_line(list, "x-amz-security-token", q->credentials->token);
        return r;
}

static int authorization(Signer *s, const SignRequest *q, const Scope *scope,
                         const SignedHeaders *headers, Buf *ret) {
        _cleanup_(buf_done) Buf query = BUF_INIT(TEXT_MAX_BYTES);
        char signature[SIGNATURE_SIZE];
        int r;

        r = sign_join_query(q->query, &query);
        if (r >= 0)
                r = compute(s, q, scope, buf_str(&query), q->payload, headers, signature);
        if (r >= 0)
                r = buf_printf(ret, "Authorization: " ALGORITHM " Credential=%s/%s, SignedHeaders=",
                               q->credentials->access_key_id, scope->text);
        if (r >= 0)
                r = append_names(headers, ret);
        return r < 0 ? r : buf_printf(ret, ", Signature=%s", signature);
}

/* Only at the end, as request->headers may be the same list. */
static int append_lines(char ***headers, char *const *own, const char *line) {
        int r = 0;

        for (; *own && r >= 0; own++)
                r = strv_add(headers, HEADERS_MAX, *own);
        return r < 0 ? r : strv_add(headers, HEADERS_MAX, line);
}

int sign_headers(Signer *signer, const SignRequest *request, char ***headers, Error **reterr) {
        _cleanup_(headers_done) SignedHeaders all = { 0 };
        _cleanup_(secret_listp) char **own = calloc(OWN_HEADERS + 1, sizeof(char *));
        _cleanup_(buf_done) Buf line = BUF_INIT(TEXT_MAX_BYTES);
        Scope scope;
        int r;

        r = check(request, reterr);
        if (r < 0)
                return r;
        scope_init(request, &scope);
        r = own ? own_headers(request, &scope, own) : -ENOMEM;
        if (r < 0)
                return error_set(reterr, r, "sign: %s", strerror(-r));
        r = headers_collect(&all, request, own, reterr);
        if (r < 0)
                return r;

        r = authorization(signer, request, &scope, &all, &line);
        if (r >= 0)
                r = append_lines(headers, own, buf_str(&line));
        return r < 0 ? error_set(reterr, r, "sign: %s", strerror(-r)) : 0;
}

/* ---- by query ---- */

static int add_pair(char ***list, const char *name, const char *value) {
        _cleanup_secret_buf_ Buf pair = BUF_INIT(TEXT_MAX_BYTES);
        int r;

        r = buf_reserve(&pair, strlen(name) + 1 + 3 * strlen(value)) ? 0 : -ENOMEM;
        if (r >= 0)
                r = buf_printf(&pair, "%s=", name);
        if (r >= 0)
                r = sign_encode(value, false, &pair);
        return r < 0 ? r : strv_add(list, QUERY_MAX, buf_str(&pair));
}

static int own_query(const SignRequest *q, const Scope *scope, const SignedHeaders *headers,
                     usec_t valid_usec, char ***ret) {
        _cleanup_(buf_done) Buf names = BUF_INIT(TEXT_MAX_BYTES);
        _cleanup_free_ char *credential = NULL, *expires = NULL;
        int r;

        credential = str_format("%s/%s", q->credentials->access_key_id, scope->text);
        expires = str_format("%llu", (unsigned long long) (valid_usec / SEC(1)));
        r = credential && expires ? append_names(headers, &names) : -ENOMEM;
        if (r >= 0)
                r = add_pair(ret, "X-Amz-Algorithm", ALGORITHM);
        if (r >= 0)
                r = add_pair(ret, "X-Amz-Credential", credential);
        if (r >= 0)
                r = add_pair(ret, "X-Amz-Date", scope->date);
        if (r >= 0)
                r = add_pair(ret, "X-Amz-Expires", expires);
        if (r >= 0 && !str_is_empty(q->credentials->token))
                r = add_pair(ret, "X-Amz-Security-Token", q->credentials->token);
        return r < 0 ? r : add_pair(ret, "X-Amz-SignedHeaders", buf_str(&names));
}

/* Everything that the signature covers, sorted. */
static int whole_query(const SignRequest *q, const Scope *scope, const SignedHeaders *headers,
                       usec_t valid_usec, Buf *ret) {
        _cleanup_(secret_listp) char **pairs = NULL;
        int r = 0;

        if (q->query) {
                pairs = strv_copy(q->query);
                r = pairs ? 0 : -ENOMEM;
        }
        if (r >= 0)
                r = own_query(q, scope, headers, valid_usec, &pairs);
        return r < 0 ? r : join_sorted(pairs, ret);
}

int sign_query(Signer *signer, const SignRequest *request, usec_t valid_usec, Buf *ret,
               Error **reterr) {
        /* Nobody knows yet what body S3 will be sent. */
        const char *payload = is_s3(request) ? SIGN_UNSIGNED_PAYLOAD : request->payload;
        _cleanup_(headers_done) SignedHeaders all = { 0 };
        _cleanup_secret_buf_ Buf query = BUF_INIT(TEXT_MAX_BYTES);
        char signature[SIGNATURE_SIZE];
        Scope scope;
        int r;

        r = check(request, reterr);
        if (r >= 0 && (valid_usec < SEC(1) || valid_usec > SIGN_PRESIGN_MAX_USEC))
                r = error_set(reterr, -EINVAL, "sign: a presigned URL is valid for 1 s to 7 days");
        if (r >= 0)
                r = headers_collect(&all, request, NULL, reterr);
        if (r < 0)
                return r;

        scope_init(request, &scope);
        r = whole_query(request, &scope, &all, valid_usec, &query);
        if (r >= 0)
                r = compute(signer, request, &scope, buf_str(&query), payload, &all, signature);
        if (r >= 0)
                r = buf_printf(ret, "%s&X-Amz-Signature=%s", buf_str(&query), signature);
        return r < 0 ? error_set(reterr, r, "sign: %s", strerror(-r)) : 0;
}
