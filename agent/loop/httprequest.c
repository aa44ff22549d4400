#include "loop/httptransfer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>

#include "agent/contract.h"
#include "base/str.h"

#define CONNECT_DEFAULT_USEC SEC(5)
#define TOTAL_DEFAULT_USEC   SEC(60)

/* How long an unused connection may be used again: for the next poll still. Servers close theirs
 * earlier or later; a GET on a closed one is sent again, and a write that must not be asks for a
 * fresh one. */
#define KEPT_SECONDS 55L

/* Probes on a silent connection: Nitro instances forget one after 350 s. */
#define KEEPALIVE_SECONDS 60L

#define USER_AGENT "tendril/" TENDRIL_VERSION

/* ---- what may be sent ---- */

static bool text_is_plain(const char *text) {
        for (; *text; text++)
                if ((unsigned char) *text < ' ' || *text == 0x7f)
                        return false;
        return true;
}

/* The URL as libcurl itself reads it: what looks like a host in a text may be a user's name before
 * "@". */
static int check_url(const HttpRequest *request, Error **reterr) {
        CURLU *url = curl_url();
        char *host = NULL, *user = NULL, *scheme = NULL;
        CURLUcode code;
        int r = 0;

        if (!url)
                return -ENOMEM;
        code = curl_url_set(url, CURLUPART_URL, request->url, CURLU_PATH_AS_IS);
        if (code == CURLUE_OK)
                code = curl_url_get(url, CURLUPART_HOST, &host, 0);
        if (code == CURLUE_OK)
                code = curl_url_get(url, CURLUPART_SCHEME, &scheme, 0);

        if (code != CURLUE_OK || !text_is_plain(request->url))
                r = error_set(reterr, -EINVAL, "not a URL that may be asked: %s",
                              code != CURLUE_OK ? curl_url_strerror(code)
                                                : "it has control characters");
        else if (!str_equal(scheme, "http") && !str_equal(scheme, "https"))
                r = error_set(reterr, -EINVAL, "neither http nor https");
        else if (curl_url_get(url, CURLUPART_USER, &user, 0) == CURLUE_OK)
                r = error_set(reterr, -EINVAL, "not a URL that may be asked: it names a user");
        else if (request->only_host && strcasecmp(host, request->only_host) != 0)
                r = error_set(reterr, -EPERM, "the URL names the host %s, and only %s is allowed",
                              host, request->only_host);

        curl_free(scheme);
        curl_free(user);
        curl_free(host);
        curl_url_cleanup(url);
        return r;
}

static bool method_is_known(const char *method) {
        static const char *const known[] = { "GET", "HEAD", "PUT", "POST", "DELETE" };

        for (size_t i = 0; i < ELEMENTS(known); i++)
                if (str_equal(method, known[i]))
                        return true;
        return false;
}

static bool file_is_possible(const HttpFile *file) {
        return !file || (file->fd >= 0 && file->offset <= INT64_MAX &&
                         file->bytes <= INT64_MAX - file->offset);
}

static int check_request(const HttpRequest *request, Error **reterr) {
        if (!method_is_known(request->method))
                return error_set(reterr, -EINVAL, "no method \"%s\"", request->method);
        if (request->body && request->body_file)
                return error_set(reterr, -EINVAL, "two bodies");
        if (!file_is_possible(request->body_file) || !file_is_possible(request->answer_file))
                return error_set(reterr, -EINVAL, "no such place in a file");
        return check_url(request, reterr);
}

/* ---- headers and body ---- */

static int add_header(HttpTransfer *t, const char *line) {
        struct curl_slist *list;

        list = curl_slist_append(t->headers, line);
        if (!list)
                return -ENOMEM;
        t->headers = list;
        return 0;
}

/* Lines without a value switch off what libcurl would add by itself; Expect is one that it would
 * wait for a second. */
static int make_headers(HttpTransfer *t, char *const *headers) {
        static const char *const unwanted[] = { "Accept", "Expect", "Content-Type" };
        int r;

        for (size_t i = 0; i < ELEMENTS(unwanted); i++) {
                size_t length = strlen(unwanted[i]);
                _cleanup_free_ char *line = str_format("%s:", unwanted[i]);
                bool given = false;

                for (char *const *h = headers; h && *h; h++)
                        given = given || strncasecmp(*h, line ?: "", length + 1) == 0;
                if (!line)
                        return -ENOMEM;
                r = given ? 0 : add_header(t, line);
                if (r < 0)
                        return r;
        }

        for (; headers && *headers; headers++) {
                if (!strchr(*headers, ':') || !text_is_plain(*headers))
                        return -EINVAL;
                r = add_header(t, *headers);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The method decides whether libcurl sends a body and waits for one. */
static CURLcode set_method(const HttpTransfer *t, const HttpRequest *request) {
        if (str_equal(request->method, "HEAD")) {
                SET(t->easy, CURLOPT_NOBODY, 1L);
                return CURLE_OK;
        }

        if (request->body_file) {
                SET(t->easy, CURLOPT_UPLOAD, 1L);
                SET(t->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t) t->body_file.bytes);
                SET(t->easy, CURLOPT_UPLOAD_BUFFERSIZE, (long) HTTP_FILE_BUFFER_BYTES);
        } else if (request->body || str_equal(request->method, "PUT") ||
                   str_equal(request->method, "POST")) {
                SET(t->easy, CURLOPT_POSTFIELDS, buf_str(&t->body));
                SET(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) t->body.size);
        }
        if (request->answer_file)
                SET(t->easy, CURLOPT_BUFFERSIZE, (long) HTTP_FILE_BUFFER_BYTES);
        SET(t->easy, CURLOPT_CUSTOMREQUEST, request->method);
        return CURLE_OK;
}

/* ---- options ---- */

static long as_msec(usec_t usec, usec_t otherwise) {
        usec_t msec = ((usec > 0 ? usec : otherwise) + 999) / 1000;

        return (long) MIN(msec, (usec_t) INT32_MAX);
}

static CURLcode set_limits(const HttpTransfer *t, const HttpRequest *request) {
        SET(t->easy, CURLOPT_CONNECTTIMEOUT_MS,
            as_msec(request->connect_usec, CONNECT_DEFAULT_USEC));
        SET(t->easy, CURLOPT_TIMEOUT_MS, as_msec(request->total_usec, TOTAL_DEFAULT_USEC));
        SET(t->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        SET(t->easy, CURLOPT_LOW_SPEED_TIME, (as_msec(t->stall_usec, 0) + 999) / 1000);
        SET(t->easy, CURLOPT_NOSIGNAL, 1L);
        /* A name server that does not answer would hold the whole loop when a request that waits
         * for it ends, until the system's resolver gives up. With this its thread is left to
         * itself. */
        SET(t->easy, CURLOPT_QUICK_EXIT, 1L);
        return CURLE_OK;
}

static CURLcode set_connection(const HttpTransfer *t, const HttpRequest *request) {
        long alone = request->fresh || request->loopback_only;

        SET(t->easy, CURLOPT_TCP_NODELAY, 1L);
        SET(t->easy, CURLOPT_TCP_KEEPALIVE, 1L);
        SET(t->easy, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_SECONDS);
        SET(t->easy, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_SECONDS);
        SET(t->easy, CURLOPT_MAXAGE_CONN, KEPT_SECONDS);
        SET(t->easy, CURLOPT_FRESH_CONNECT, alone);
        SET(t->easy, CURLOPT_FORBID_REUSE, alone);
        return CURLE_OK;
}

static CURLcode set_tls(const HttpTransfer *t) {
        const char *ca_file = t->client->ca_file;

        SET(t->easy, CURLOPT_SSL_VERIFYPEER, 1L);
        SET(t->easy, CURLOPT_SSL_VERIFYHOST, 2L);
        if (!ca_file)
                return CURLE_OK;
        SET(t->easy, CURLOPT_CAINFO, ca_file);
        SET(t->easy, CURLOPT_CAPATH, NULL); /* else the system's folder counts as well */
        return CURLE_OK;
}

/* By a proxy or not. Always said, because libcurl looks at the environment where nothing is. */
static CURLcode set_route(const HttpTransfer *t, const HttpRequest *request) {
        const HttpClient *c = t->client;
        const HttpProxyServer *proxy =
                strncasecmp(request->url, "https:", 6) == 0 ? &c->https : &c->http;

        SET(t->easy, CURLOPT_NOPROXY, c->no_proxy ?: "");
        if (request->direct || request->loopback_only || !proxy->url) {
                SET(t->easy, CURLOPT_PROXY, "");
                return CURLE_OK;
        }

        SET(t->easy, CURLOPT_PROXY, proxy->url);
        SET(t->easy, CURLOPT_PROXYUSERNAME, proxy->user);
        SET(t->easy, CURLOPT_PROXYPASSWORD, proxy->password);
        SET(t->easy, CURLOPT_HEADEROPT, (long) CURLHEADER_SEPARATE);
        SET(t->easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
        if (c->ca_file && str_has_prefix(proxy->url, "https:")) {
                SET(t->easy, CURLOPT_PROXY_CAINFO, c->ca_file);
                SET(t->easy, CURLOPT_PROXY_CAPATH, NULL);
        }
        return CURLE_OK;
}

/* Every option of every request. A failure is lack of memory, or a libcurl without what is needed.
 */
static CURLcode set_options(HttpTransfer *t, const HttpRequest *request) {
        CURLcode code;

        SET(t->easy, CURLOPT_URL, request->url);
        SET(t->easy, CURLOPT_PATH_AS_IS, 1L);
        SET(t->easy, CURLOPT_HTTPHEADER, t->headers);
        SET(t->easy, CURLOPT_USERAGENT, USER_AGENT);
        SET(t->easy, CURLOPT_PROTOCOLS_STR, "http,https");
        SET(t->easy, CURLOPT_FOLLOWLOCATION, 0L);
        /* Ranges of one object come by connections of their own, each with its window and from
         * another machine of S3's; HTTP/2 would put them into one. S3 does not speak it anyway. */
        SET(t->easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);

        code = set_limits(t, request);
        if (code == CURLE_OK)
                code = set_connection(t, request);
        if (code == CURLE_OK)
                code = set_tls(t);
        if (code == CURLE_OK)
                code = set_route(t, request);
        if (code == CURLE_OK)
                code = set_method(t, request);
        return code == CURLE_OK ? http_transfer_set_callbacks(t) : code;
}

static const HttpFile no_file = { .fd = -EBADF };

static void transfer_init(HttpTransfer *t, HttpClient *client, const HttpRequest *request) {
        *t = (HttpTransfer){ .client = client,
                             .body = BUF_INIT(request->body_bytes),
                             .body_file = request->body_file ? *request->body_file : no_file,
                             .answer_file = request->answer_file ? *request->answer_file : no_file,
                             .reply.body = BUF_INIT(request->max_bytes),
                             .loopback_only = request->loopback_only,
                             .started_usec = clock_read(NULL, CLOCK_MONOTONIC),
                             .on_bytes = request->on_bytes,
                             .on_done = request->on_done,
                             .userdata = request->userdata };
        /* Its answer has a length and no body. */
        if (str_equal(request->method, "HEAD"))
                t->answer_file = no_file;
        t->moved_usec = t->started_usec;
        t->stall_usec = request->stall_usec ?: request->total_usec;
        t->stall_usec = t->stall_usec ?: TOTAL_DEFAULT_USEC;
}

static int transfer_make(HttpClient *client, const HttpRequest *request, HttpTransfer **ret,
                         Error **reterr) {
        _cleanup_(http_transfer_freep) HttpTransfer *t = calloc(1, sizeof(HttpTransfer));
        CURLcode code;
        int r;

        if (!t)
                return -ENOMEM;
        transfer_init(t, client, request);
        if (request->body) {
                r = buf_append(&t->body, request->body, request->body_bytes);
                if (r < 0)
                        return r;
        }
        r = make_headers(t, request->headers);
        if (r < 0)
                return error_wrap(reterr, r, "headers");

        t->easy = curl_easy_init();
        if (!t->easy)
                return -ENOMEM;
        code = set_options(t, request);
        if (code != CURLE_OK)
                return error_set(reterr, code == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EOPNOTSUPP,
                                 "set up libcurl: %s", curl_easy_strerror(code));

        *ret = TAKE_PTR(t);
        return 0;
}

int http_transfer_new(HttpClient *client, const HttpRequest *request, HttpTransfer **ret,
                      Error **reterr) {
        int r = check_request(request, reterr);

        return r < 0 ? r : transfer_make(client, request, ret, reterr);
}

/* ---- proxies and certificates ---- */

static char *secret_free(char *secret) {
        if (secret)
                explicit_bzero(secret, strlen(secret));
        free(secret);
        return NULL;
}

void http_proxy_server_done(HttpProxyServer *server) {
        free(server->url);
        free(server->user);
        server->password = secret_free(server->password);
        *server = (HttpProxyServer){ 0 };
}

/* A part of the URL as a string of ours; absent: NULL. */
static int take_part(CURLU *url, CURLUPart part, char **ret) {
        char *got = NULL;
        CURLUcode code;

        code = curl_url_get(url, part, &got, CURLU_URLDECODE);
        if (code != CURLUE_OK)
                return code == CURLUE_OUT_OF_MEMORY ? -ENOMEM : 0;
        *ret = strdup(got);
        explicit_bzero(got, strlen(got));
        curl_free(got);
        return *ret ? 0 : -ENOMEM;
}

/* User and password are set apart: libcurl shows the URL of a proxy in its texts. */
static int split_proxy(CURLU *url, const char *text, HttpProxyServer *ret) {
        _cleanup_free_ char *scheme = NULL;
        char *shown = NULL;
        int r;

        if (!text_is_plain(text) ||
            curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
                return -EINVAL;
        r = take_part(url, CURLUPART_SCHEME, &scheme);
        if (r < 0)
                return r;
        if (!str_equal(scheme, "http") && !str_equal(scheme, "https"))
                return -EINVAL;
        r = take_part(url, CURLUPART_USER, &ret->user);
        if (r >= 0)
                r = take_part(url, CURLUPART_PASSWORD, &ret->password);
        if (r < 0)
                return r;

        (void) curl_url_set(url, CURLUPART_USER, NULL, 0);
        (void) curl_url_set(url, CURLUPART_PASSWORD, NULL, 0);
        if (curl_url_get(url, CURLUPART_URL, &shown, 0) != CURLUE_OK)
                return -ENOMEM;
        ret->url = strdup(shown);
        curl_free(shown);
        return ret->url ? 0 : -ENOMEM;
}

/* NULL and "" are none; without a scheme it is http, as curl has it. */
static int parse_proxy(const char *text, HttpProxyServer *ret) {
        char *whole;
        CURLU *url;
        int r;

        if (str_is_empty(text))
                return 0;
        whole = str_format("%s%s", strstr(text, "://") ? "" : "http://", text);
        url = curl_url();
        r = whole && url ? split_proxy(url, whole, ret) : -ENOMEM;
        curl_url_cleanup(url);
        (void) secret_free(whole);
        return r;
}

int http_client_set_proxy(HttpClient *client, const HttpProxy *proxy) {
        static const HttpProxy none = { 0 };
        HttpProxyServer http = { 0 }, https = { 0 };
        char *no_proxy = NULL;
        int r;

        proxy = proxy ?: &none;
        r = parse_proxy(proxy->http, &http);
        if (r >= 0)
                r = parse_proxy(proxy->https, &https);
        if (r >= 0 && proxy->no_proxy) {
                no_proxy = strdup(proxy->no_proxy);
                r = no_proxy ? 0 : -ENOMEM;
        }
        if (r < 0) {
                http_proxy_server_done(&http);
                http_proxy_server_done(&https);
                return r;
        }

        http_proxy_server_done(&client->http);
        http_proxy_server_done(&client->https);
        free(client->no_proxy);
        client->http = http;
        client->https = https;
        client->no_proxy = no_proxy;
        return 0;
}

int http_client_set_ca_file(HttpClient *client, const char *path) {
        _cleanup_close_ int fd = -EBADF;
        char *copy = NULL;

        if (path) {
                fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
                if (fd < 0)
                        return -errno;
                copy = strdup(path);
                if (!copy)
                        return -ENOMEM;
        }
        free(client->ca_file);
        client->ca_file = copy;
        return 0;
}
