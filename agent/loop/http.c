#include "loop/http.h"

#include <arpa/inet.h>
#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "agent/contract.h"
#include "base/str.h"

#define CONNECT_DEFAULT_USEC SEC(5)
#define TOTAL_DEFAULT_USEC   SEC(60)
#define TIMER_ACCURACY_USEC  MSEC(1)

/* Of an answer; S3 sends about fifteen. */
#define MAX_HEADERS 128

/* Connections that are kept for the next request, and for how long: servers close idle ones after
 * about a minute, and a PUT on a closed one is a PUT whose outcome nobody knows. */
#define KEPT_CONNECTIONS 8L
#define KEPT_SECONDS     30L

#define USER_AGENT "tendril/" TENDRIL_VERSION

struct HttpTransfer {
        HttpClient *client;
        HttpTransfer *next;
        CURL *easy;
        struct curl_slist *headers;
        Buf body; /* of the request */
        HttpReply reply;
        int r; /* why we stopped it; 0: we did not */
        bool loopback_only;
        bool head_ended; /* the empty line behind the headers has come */
        usec_t started_usec, stall_usec;
        usec_t moved_usec; /* when the last byte went by */
        curl_off_t n_moved;
        HttpDone on_done;
        void *userdata;
        char words[CURL_ERROR_SIZE];
};

struct HttpClient {
        sd_event *loop;
        CURLM *multi;
        sd_event_source *timer;
        HttpTransfer *transfers;

        unsigned n_busy; /* callbacks under way: the memory lives until they return */
        bool freed;
};

/* ---- one transfer ---- */

static HttpTransfer *transfer_free(HttpTransfer *t) {
        if (!t)
                return NULL;

        if (t->easy)
                curl_easy_cleanup(t->easy);
        curl_slist_free_all(t->headers);
        buf_done(&t->body);
        buf_done(&t->reply.body);
        (void) strv_free(t->reply.headers);
        free(t);
        return NULL;
}
DEFINE_CLEANUP(HttpTransfer, transfer_free);

/* Takes it out of its client: libcurl will not touch it any more. */
static void transfer_unlink(HttpTransfer *t) {
        HttpTransfer **at = &t->client->transfers;

        while (*at && *at != t)
                at = &(*at)->next;
        assert(*at == t);
        *at = t->next;
        (void) curl_multi_remove_handle(t->client->multi, t->easy);
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata) {
        HttpTransfer *t = userdata;

        t->r = buf_append(&t->reply.body, data, size * n);
        return t->r < 0 ? CURL_WRITEFUNC_ERROR : size * n;
}

/* One line at a time, with its line end; an interim answer (100) is followed by another head. */
static size_t on_header(char *data, size_t size, size_t n, void *userdata) {
        HttpTransfer *t = userdata;
        size_t length = size * n;
        _cleanup_free_ char *line = NULL;

        while (length > 0 && strchr("\r\n", data[length - 1]))
                length--;
        if (length >= 5 && memcmp(data, "HTTP/", 5) == 0) {
                t->head_ended = false;
                t->reply.headers = strv_free(t->reply.headers);
                return size * n;
        }
        if (length == 0) {
                t->head_ended = true;
                return size * n;
        }

        line = strndup(data, length);
        t->r = line ? strv_add(&t->reply.headers, MAX_HEADERS, line) : -ENOMEM;
        if (t->r == -E2BIG)
                t->r = -EFBIG;
        return t->r < 0 ? CURL_WRITEFUNC_ERROR : size * n;
}

/* libcurl's own measure is a mean over five seconds, which tells late that nothing comes; but it
 * makes libcurl look here once a second. */
static int on_progress(void *userdata, _unused_ curl_off_t dl_total, curl_off_t dl,
                       _unused_ curl_off_t ul_total, curl_off_t ul) {
        usec_t now = clock_read(NULL, CLOCK_MONOTONIC);
        HttpTransfer *t = userdata;

        if (dl + ul != t->n_moved) {
                t->n_moved = dl + ul;
                t->moved_usec = now;
        }
        if (now - t->moved_usec < t->stall_usec)
                return 0;
        t->r = -ETIMEDOUT;
        return 1;
}

static bool address_is_loopback(const struct curl_sockaddr *a) {
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;

        if (a->family == AF_INET) {
                memcpy(&v4, &a->addr, sizeof(v4));
                return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
        }
        if (a->family == AF_INET6) {
                memcpy(&v6, (const char *) a + offsetof(struct curl_sockaddr, addr), sizeof(v6));
                return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
        }
        return false;
}

static curl_socket_t on_open_socket(void *userdata, _unused_ curlsocktype purpose,
                                    struct curl_sockaddr *address) {
        HttpTransfer *t = userdata;

        if (t->loopback_only && !address_is_loopback(address)) {
                t->r = -EPERM;
                return CURL_SOCKET_BAD;
        }
        return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* ---- asking ---- */

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

static int add_header(HttpTransfer *t, const char *line) {
        struct curl_slist *list;

        list = curl_slist_append(t->headers, line);
        if (!list)
                return -ENOMEM;
        t->headers = list;
        return 0;
}

/* Lines without a value switch off what libcurl would add by itself. */
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

static long as_msec(usec_t usec, usec_t otherwise) {
        usec_t msec = ((usec > 0 ? usec : otherwise) + 999) / 1000;

        return (long) MIN(msec, (usec_t) INT32_MAX);
}

/* The method decides whether libcurl sends a body and waits for one. */
static CURLcode set_method(HttpTransfer *t, const HttpRequest *request) {
        CURLcode code;

        if (str_equal(request->method, "HEAD"))
                return curl_easy_setopt(t->easy, CURLOPT_NOBODY, 1L);

        if (request->body || str_equal(request->method, "PUT") ||
            str_equal(request->method, "POST")) {
                code = curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, buf_str(&t->body));
                if (code == CURLE_OK)
                        code = curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                                                (curl_off_t) t->body.size);
                if (code != CURLE_OK)
                        return code;
        }
        return curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, request->method);
}

#define SET(option, value)                                                                         \
        do {                                                                                       \
                CURLcode _code = curl_easy_setopt(t->easy, (option), (value));                     \
                if (_code != CURLE_OK)                                                             \
                        return _code;                                                              \
        } while (0)

/* Every option of every request. A failure is lack of memory, or a libcurl without what is needed.
 */
static CURLcode set_options(HttpTransfer *t, const HttpRequest *request) {
        SET(CURLOPT_PRIVATE, t);
        SET(CURLOPT_ERRORBUFFER, t->words);
        SET(CURLOPT_NOSIGNAL, 1L);

        SET(CURLOPT_URL, request->url);
        SET(CURLOPT_PATH_AS_IS, 1L);
        SET(CURLOPT_HTTPHEADER, t->headers);
        SET(CURLOPT_USERAGENT, USER_AGENT);

        SET(CURLOPT_PROTOCOLS_STR, "http,https");
        SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
        SET(CURLOPT_FOLLOWLOCATION, 0L);
        SET(CURLOPT_SSL_VERIFYPEER, 1L);
        SET(CURLOPT_SSL_VERIFYHOST, 2L);

        SET(CURLOPT_CONNECTTIMEOUT_MS, as_msec(request->connect_usec, CONNECT_DEFAULT_USEC));
        SET(CURLOPT_TIMEOUT_MS, as_msec(request->total_usec, TOTAL_DEFAULT_USEC));
        SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
        SET(CURLOPT_LOW_SPEED_TIME, (as_msec(t->stall_usec, 0) + 999) / 1000);
        SET(CURLOPT_NOPROGRESS, 0L);
        SET(CURLOPT_XFERINFOFUNCTION, on_progress);
        SET(CURLOPT_XFERINFODATA, t);
        SET(CURLOPT_TCP_KEEPALIVE, 1L);
        SET(CURLOPT_MAXAGE_CONN, KEPT_SECONDS);

        SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
        SET(CURLOPT_OPENSOCKETDATA, t);
        if (request->loopback_only) {
                SET(CURLOPT_PROXY, "");
                SET(CURLOPT_FRESH_CONNECT, 1L);
                SET(CURLOPT_FORBID_REUSE, 1L);
        }

        SET(CURLOPT_HEADERFUNCTION, on_header);
        SET(CURLOPT_HEADERDATA, t);
        SET(CURLOPT_WRITEFUNCTION, on_body);
        SET(CURLOPT_WRITEDATA, t);
        return set_method(t, request);
}

static bool method_is_known(const char *method) {
        static const char *const known[] = { "GET", "HEAD", "PUT", "POST", "DELETE" };

        for (size_t i = 0; i < ELEMENTS(known); i++)
                if (str_equal(method, known[i]))
                        return true;
        return false;
}

static int transfer_new(HttpClient *client, const HttpRequest *request, HttpTransfer **ret,
                        Error **reterr) {
        _cleanup_(transfer_freep) HttpTransfer *t = NULL;
        CURLcode code;
        int r;

        t = calloc(1, sizeof(HttpTransfer));
        if (!t)
                return -ENOMEM;
        *t = (HttpTransfer){ .client = client,
                             .body = BUF_INIT(request->body_bytes),
                             .reply.body = BUF_INIT(request->max_bytes),
                             .loopback_only = request->loopback_only,
                             .started_usec = clock_read(NULL, CLOCK_MONOTONIC),
                             .on_done = request->on_done,
                             .userdata = request->userdata };

        t->moved_usec = t->started_usec;
        t->stall_usec = request->stall_usec ?: request->total_usec;
        t->stall_usec = t->stall_usec ?: TOTAL_DEFAULT_USEC;
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

int http_send(HttpClient *client, const HttpRequest *request, HttpTransfer **ret, Error **reterr) {
        _cleanup_(transfer_freep) HttpTransfer *t = NULL;
        CURLMcode code;
        int r;

        assert(request->on_done);
        if (!client->multi)
                return error_wrap(reterr, -ENOMEM, "ask %s", request->url);
        if (!method_is_known(request->method))
                return error_set(reterr, -EINVAL, "ask %s: no method \"%s\"", request->url,
                                 request->method);

        r = check_url(request, reterr);
        if (r >= 0)
                r = transfer_new(client, request, &t, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "ask %s", request->url);

        code = curl_multi_add_handle(client->multi, t->easy);
        if (code != CURLM_OK)
                return error_set(reterr, -ENOMEM, "ask %s: %s", request->url,
                                 curl_multi_strerror(code));

        t->next = client->transfers;
        client->transfers = t;
        if (ret)
                *ret = t;
        (void) TAKE_PTR(t);
        return 0;
}

HttpTransfer *http_cancel(HttpTransfer *t) {
        if (!t)
                return NULL;

        transfer_unlink(t);
        return transfer_free(t);
}

/* ---- the end of a transfer ---- */

static int code_to_errno(const HttpTransfer *t, CURLcode code) {
        long os_errno = 0;

        switch ((int) code) {
        case CURLE_COULDNT_CONNECT:
                (void) curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os_errno);
                return os_errno > 0 ? -(int) os_errno : -ECONNREFUSED;
        case CURLE_OPERATION_TIMEDOUT:
                return -ETIMEDOUT;
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
                return -EHOSTUNREACH;
        case CURLE_GOT_NOTHING:
        case CURLE_SEND_ERROR:
        case CURLE_RECV_ERROR:
                return -ECONNRESET;
        case CURLE_PEER_FAILED_VERIFICATION:
                return -EKEYREJECTED;
        case CURLE_OUT_OF_MEMORY:
                return -ENOMEM;
        default:
                return -EBADMSG;
        }
}

static void transfer_fail(const HttpTransfer *t, int r, const char *words) {
        _cleanup_(error_freep) Error *err = NULL;

        (void) error_set(&err, r, "%s", words);
        t->on_done(t->userdata, r, NULL, err);
}

/* Where it was stopped here. */
static const char *stop_words(int r) {
        switch (r) {
        case -ETIMEDOUT:
                return "nothing came for too long";
        case -EFBIG:
                return "the answer is larger than is allowed";
        case -EPERM:
                return "the address is not of this host, and only such are asked";
        default:
                return strerror(-r);
        }
}

/* Why it failed; 0: it did not. */
static int judge(HttpTransfer *t, CURLcode code, const char **ret_words) {
        long status = 0;
        int r;

        if (t->r < 0) {
                *ret_words = stop_words(t->r);
                return t->r;
        }
        if (code != CURLE_OK) {
                r = code_to_errno(t, code);
                *ret_words = t->words[0] ? t->words : curl_easy_strerror(code);
                return r;
        }

        /* libcurl is content with a status line and a closed connection. */
        if (!t->head_ended) {
                *ret_words = "the connection was closed within the head of the answer";
                return -ECONNRESET;
        }
        (void) curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status < 100 || status > 599) {
                *ret_words = "the answer has no status of HTTP";
                return -EBADMSG;
        }
        t->reply.status = (unsigned) status;
        return 0;
}

/* Tells its owner. It has been taken out of the client before, which on_done() may free. */
static void transfer_end(HttpTransfer *transfer, CURLcode code) {
        _cleanup_(transfer_freep) HttpTransfer *t = transfer;
        const char *words = "";
        int r;

        t->reply.took_usec = clock_read(NULL, CLOCK_MONOTONIC) - t->started_usec;
        r = judge(t, code, &words);
        curl_easy_cleanup(TAKE_PTR(t->easy));
        if (r < 0)
                transfer_fail(t, r, words);
        else
                t->on_done(t->userdata, 0, &t->reply, NULL);
}

/* ---- libcurl and the loop ---- */

static int make_multi(HttpClient *client);

/* After an error of its own libcurl says nothing about its transfers any more: all end, and it
 * begins anew. The caller holds the client. */
static void client_reset(HttpClient *client, CURLMcode code) {
        HttpTransfer *t, *lost = client->transfers;

        for (t = lost; t; t = t->next) {
                (void) curl_multi_remove_handle(client->multi, t->easy);
                curl_easy_cleanup(TAKE_PTR(t->easy));
        }
        client->transfers = NULL;
        (void) curl_multi_cleanup(client->multi);
        client->multi = NULL;
        (void) make_multi(client);

        while (lost) {
                t = lost;
                lost = t->next;
                if (!client->freed)
                        transfer_fail(t, -EIO, curl_multi_strerror(code));
                (void) transfer_free(t);
        }
}

/* Each message, at each event: one that was left would wait for an event that may not come. */
static void drain(HttpClient *client) {
        const CURLMsg *message;
        HttpTransfer *t;
        CURLcode code;
        int n_left;

        while (!client->freed && client->multi &&
               (message = curl_multi_info_read(client->multi, &n_left)) != NULL) {
                if (message->msg != CURLMSG_DONE)
                        continue;

                code = message->data.result;
                t = NULL;
                (void) curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &t);
                assert(t);
                transfer_unlink(t);
                transfer_end(t, code);
        }
}

static void client_act(HttpClient *client, curl_socket_t fd, int events) {
        CURLMcode code;
        int n_running;

        client->n_busy++;
        code = curl_multi_socket_action(client->multi, fd, events, &n_running);
        if (code != CURLM_OK)
                client_reset(client, code);
        else
                drain(client);
        client->n_busy--;
        if (client->freed && client->n_busy == 0)
                free(client);
}

static int on_io(_unused_ sd_event_source *s, int fd, uint32_t events, void *userdata) {
        client_act(userdata, fd,
                   (events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
                           (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                           (events & EPOLLERR ? CURL_CSELECT_ERR : 0));
        return 0;
}

static int on_timer(_unused_ sd_event_source *s, _unused_ usec_t now, void *userdata) {
        client_act(userdata, CURL_SOCKET_TIMEOUT, 0);
        return 0;
}

/* Tells when it wants to be called; never called back from here (curl_multi_socket_action(3)
 * forbids it). */
static int curl_on_timer(_unused_ CURLM *multi, long timeout_ms, void *userdata) {
        HttpClient *client = userdata;

        if (!client->timer)
                return 0;
        if (timeout_ms < 0)
                return sd_event_source_set_enabled(client->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
        if (sd_event_source_set_time_relative(client->timer, MSEC((usec_t) timeout_ms)) < 0)
                return -1;
        return sd_event_source_set_enabled(client->timer, SD_EVENT_ONESHOT) < 0 ? -1 : 0;
}

static int curl_on_socket(_unused_ CURL *easy, curl_socket_t fd, int what, void *userdata,
                          void *socket_data) {
        HttpClient *client = userdata;
        sd_event_source *source = socket_data;
        uint32_t events =
                (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);

        if (what == CURL_POLL_REMOVE) {
                /* Taken from epoll at once: libcurl closes the descriptor next, and its number
                 * comes again. */
                (void) sd_event_source_disable_unref(source);
                (void) curl_multi_assign(client->multi, fd, NULL);
                return 0;
        }

        if (source)
                return sd_event_source_set_io_events(source, events) < 0 ? -1 : 0;
        if (sd_event_add_io(client->loop, &source, fd, events, on_io, client) < 0)
                return -1;
        if (curl_multi_assign(client->multi, fd, source) != CURLM_OK) {
                (void) sd_event_source_disable_unref(source);
                return -1;
        }
        return 0;
}

static int make_multi(HttpClient *client) {
        CURLM *multi;

        multi = curl_multi_init();
        if (!multi)
                return -ENOMEM;

        (void) curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, curl_on_socket);
        (void) curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client);
        (void) curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, curl_on_timer);
        (void) curl_multi_setopt(multi, CURLMOPT_TIMERDATA, client);
        (void) curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, KEPT_CONNECTIONS);
        client->multi = multi;
        return 0;
}

int http_client_new(sd_event *loop, HttpClient **ret, Error **reterr) {
        _cleanup_(http_client_freep) HttpClient *client = NULL;
        int r;

        /* Counted by libcurl: each client undoes its own. */
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return error_set(reterr, -ENOMEM, "start libcurl: it cannot be initialised");
        client = calloc(1, sizeof(HttpClient));
        if (!client) {
                curl_global_cleanup();
                return error_wrap(reterr, -ENOMEM, "start libcurl");
        }

        client->loop = sd_event_ref(loop);
        r = make_multi(client);
        if (r >= 0)
                r = sd_event_add_time_relative(loop, &client->timer, CLOCK_MONOTONIC, 0,
                                               TIMER_ACCURACY_USEC, on_timer, client);
        if (r >= 0)
                r = sd_event_source_set_enabled(client->timer, SD_EVENT_OFF);
        if (r < 0)
                return error_wrap(reterr, r, "start libcurl");

        *ret = TAKE_PTR(client);
        return 0;
}

const char *http_reply_header(const HttpReply *reply, const char *name) {
        size_t length = strlen(name);
        const char *found = NULL;

        for (char **h = reply->headers; h && *h; h++)
                if (strncasecmp(*h, name, length) == 0 && (*h)[length] == ':')
                        found = *h + length + 1;
        return found ? found + strspn(found, " \t") : NULL;
}

/* First the transfers, then what holds their connections (which calls back to let its sockets go),
 * then our sources. */
HttpClient *http_client_free(HttpClient *client) {
        if (!client)
                return NULL;

        while (client->transfers)
                (void) http_cancel(client->transfers);
        if (client->multi)
                (void) curl_multi_cleanup(client->multi);
        client->multi = NULL;
        client->timer = sd_event_source_disable_unref(client->timer);
        client->loop = sd_event_unref(client->loop);
        curl_global_cleanup();

        client->freed = true;
        if (client->n_busy == 0)
                free(client);
        return NULL;
}
