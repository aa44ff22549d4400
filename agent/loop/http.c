#include "loop/http.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "loop/httptransfer.h"

#define TIMER_ACCURACY_USEC MSEC(1)

/* Connections that are kept for the next request: those of a large transfer, and a few beside it.
 */
#define KEPT_CONNECTIONS 16L

/* ---- begin and cancel ---- */

/* Takes it out of its client: libcurl will not touch it any more. */
static void transfer_unlink(HttpTransfer *t) {
        HttpTransfer **at = &t->client->transfers;

        assert(!t->client->telling);
        while (*at && *at != t)
                at = &(*at)->next;
        assert(*at == t);
        *at = t->next;
        if (t->easy)
                (void) curl_multi_remove_handle(t->client->multi, t->easy);
}

/* Of a URL what may be told: queries hold signatures and tokens, and before "@" stands a password.
 */
static char *url_shown(const char *url) {
        size_t length = strcspn(url, "?#");

        if (memchr(url, '@', length))
                return strdup("a URL with \"@\"");
        return str_printable(url, length);
}

static int transfer_begin(HttpClient *client, const HttpRequest *request, HttpTransfer **ret,
                          Error **reterr) {
        _cleanup_(http_transfer_freep) HttpTransfer *t = NULL;
        CURLMcode code;
        int r;

        if (!client->multi)
                return -ENOMEM;
        r = http_transfer_new(client, request, &t, reterr);
        if (r < 0)
                return r;
        code = curl_multi_add_handle(client->multi, t->easy);
        if (code != CURLM_OK)
                return error_set(reterr, -ENOMEM, "%s", curl_multi_strerror(code));

        t->next = client->transfers;
        client->transfers = t;
        *ret = TAKE_PTR(t);
        return 0;
}

int http_send(HttpClient *client, const HttpRequest *request, HttpTransfer **ret, Error **reterr) {
        _cleanup_free_ char *shown = NULL;
        HttpTransfer *t = NULL;
        int r;

        assert(request->on_done);
        assert(!client->telling);
        r = transfer_begin(client, request, &t, reterr);
        if (r < 0) {
                shown = url_shown(request->url);
                return error_wrap(reterr, r, "ask %s", shown ?: "a URL");
        }
        if (ret)
                *ret = t;
        return 0;
}

HttpTransfer *http_cancel(HttpTransfer *t) {
        if (!t)
                return NULL;

        transfer_unlink(t);
        return http_transfer_free(t);
}

/* ---- the end of a transfer ---- */

/* Tells its owner. It has been taken out of the client before, which on_done() may free. */
static void transfer_end(HttpTransfer *transfer, CURLcode code) {
        _cleanup_(http_transfer_freep) HttpTransfer *t = transfer;
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        t->reply.took_usec = clock_read(NULL, CLOCK_MONOTONIC) - t->started_usec;
        r = http_transfer_judge(t, code, &err);
        curl_easy_cleanup(TAKE_PTR(t->easy));
        t->on_done(t->userdata, r, r < 0 ? NULL : &t->reply, err);
}

static void transfer_lose(HttpTransfer *transfer, CURLMcode code) {
        _cleanup_(http_transfer_freep) HttpTransfer *t = transfer;
        _cleanup_(error_freep) Error *err = NULL;

        transfer_unlink(t);
        (void) error_set(&err, -EIO, "%s", curl_multi_strerror(code));
        t->on_done(t->userdata, -EIO, NULL, err);
}

/* ---- libcurl and the loop ---- */

static int make_multi(HttpClient *client);

/* The first that has no libcurl behind it any more. */
static HttpTransfer *lost_transfer(const HttpClient *client) {
        HttpTransfer *t = client->transfers;

        while (t && t->easy)
                t = t->next;
        return t;
}

/* After an error of its own libcurl says nothing about its transfers any more: all end, and it
 * begins anew. Their ends may cancel each other, and send new ones. The caller holds the client. */
static void client_reset(HttpClient *client, CURLMcode code) {
        HttpTransfer *t;

        for (t = client->transfers; t; t = t->next) {
                (void) curl_multi_remove_handle(client->multi, t->easy);
                curl_easy_cleanup(TAKE_PTR(t->easy));
        }
        (void) curl_multi_cleanup(client->multi);
        client->multi = NULL;
        (void) make_multi(client);

        while (!client->freed && (t = lost_transfer(client)) != NULL)
                transfer_lose(t, code);
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
        int what = (events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                   (events & EPOLLOUT ? CURL_CSELECT_OUT : 0);

        /* 0: it looks itself. An error alone it would report without saying which. */
        client_act(userdata, fd, events & (EPOLLERR | EPOLLHUP) ? 0 : what);
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

        if (!client->timer || sd_event_get_state(client->loop) == SD_EVENT_FINISHED)
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

        if (sd_event_get_state(client->loop) == SD_EVENT_FINISHED)
                return 0;
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

/* CURLMOPT_QUICK_EXIT, which 7.88 does not know and newer ones need beside CURLOPT_QUICK_EXIT: the
 * library that is here may be newer than the header. */
#define MULTI_QUICK_EXIT ((CURLMoption) (CURLOPTTYPE_LONG + 21))

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
        (void) curl_multi_setopt(multi, MULTI_QUICK_EXIT, 1L);
        client->multi = multi;
        return 0;
}

/* The library that is here, which need not be the one that was built with. */
static int check_library(Error **reterr) {
        const curl_version_info_data *is = curl_version_info(CURLVERSION_NOW);

        if (is->version_num < HTTP_OLDEST_CURL)
                return error_set(reterr, -EOPNOTSUPP,
                                 "libcurl %s is here, and at least 7.88 is needed: update it",
                                 is->version);
        if (!(is->features & CURL_VERSION_SSL))
                return error_set(reterr, -EOPNOTSUPP,
                                 "libcurl %s here has no TLS: install one that has", is->version);
        return 0;
}

int http_client_new(sd_event *loop, HttpClient **ret, Error **reterr) {
        _cleanup_(http_client_freep) HttpClient *client = NULL;
        int r;

        r = check_library(reterr);
        if (r < 0)
                return error_wrap(reterr, r, "start libcurl");

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

        assert(!client->telling);
        while (client->transfers)
                (void) http_cancel(client->transfers);
        if (client->multi)
                (void) curl_multi_cleanup(client->multi);
        client->multi = NULL;
        client->timer = sd_event_source_disable_unref(client->timer);
        client->loop = sd_event_unref(client->loop);
        curl_global_cleanup();
        http_proxy_server_done(&client->http);
        http_proxy_server_done(&client->https);
        free(TAKE_PTR(client->no_proxy));
        free(TAKE_PTR(client->ca_file));

        client->freed = true;
        if (client->n_busy == 0)
                free(client);
        return NULL;
}
