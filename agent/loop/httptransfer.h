#pragma once

/*
 * What the three files of loop/http.h share: http.c has the client and its loop, httprequest.c
 * makes a transfer of a request (what may be sent, and every option), httptransfer.c is what
 * libcurl calls while it is under way, and what its end means.
 */

#include <curl/curl.h>

#include "loop/http.h"

/* CURLOPT_PROTOCOLS_STR, CURLOPT_QUICK_EXIT, CIDR in no_proxy, and the oldest that is tested with.
 * A newer header gives nothing that an older library lacks: only options of this version are set.
 */
#define HTTP_OLDEST_CURL 0x075800
#if LIBCURL_VERSION_NUM < HTTP_OLDEST_CURL
#error "libcurl 7.88 or newer is needed"
#endif

/* A write of a large answer to its file, a read of a large body, and libcurl's own buffer of each:
 * each transfer has two of them at most. */
#define HTTP_FILE_BUFFER_BYTES ((size_t) 256 * 1024)

typedef struct HttpProxyServer {
        char *url;             /* without its user; NULL: none */
        char *user, *password; /* never part of a text of libcurl's */
} HttpProxyServer;

struct HttpClient {
        sd_event *loop;
        CURLM *multi;
        sd_event_source *timer;
        HttpTransfer *transfers;

        HttpProxyServer http, https;
        char *no_proxy, *ca_file;

        unsigned n_busy; /* callbacks under way: the memory lives until they return */
        bool freed;
        bool telling; /* within on_bytes(), where libcurl must not be called */
};

struct HttpTransfer {
        HttpClient *client;
        HttpTransfer *next;
        CURL *easy;
        struct curl_slist *headers;
        Buf body;           /* of the request */
        HttpFile body_file; /* fd -EBADF: none */
        HttpFile answer_file;
        uint64_t n_read, n_told; /* of body_file; told is the most that was read, ever */
        HttpReply reply;
        int r;             /* why we stopped it; 0: we did not */
        const char *doing; /* what failed with r; NULL: stop_words() knows */
        bool loopback_only;
        bool head_ended; /* the empty line behind the headers has come */
        bool to_file;
        char *held; /* of an answer, not yet in answer_file */
        size_t n_held;
        usec_t started_usec, stall_usec;
        usec_t moved_usec; /* when the last byte went by */
        curl_off_t n_moved;
        void (*on_bytes)(void *userdata, uint64_t n_bytes);
        HttpDone on_done;
        void *userdata;
        char words[CURL_ERROR_SIZE];
};

/* httprequest.c */
int http_transfer_new(HttpClient *client, const HttpRequest *request, HttpTransfer **ret,
                      Error **reterr);
void http_proxy_server_done(HttpProxyServer *server);

/* httptransfer.c */
CURLcode http_transfer_set_callbacks(HttpTransfer *t);

/* Why it failed, in words; 0: it did not, and the reply is whole. */
int http_transfer_judge(HttpTransfer *t, CURLcode code, Error **reterr);

HttpTransfer *http_transfer_free(HttpTransfer *t);
DEFINE_CLEANUP(HttpTransfer, http_transfer_free);

/* In a function that returns a CURLcode. */
#define SET(easy, option, value)                                                                   \
        do {                                                                                       \
                CURLcode _code = curl_easy_setopt((easy), (option), (value));                      \
                if (_code != CURLE_OK)                                                             \
                        return _code;                                                              \
        } while (0)
