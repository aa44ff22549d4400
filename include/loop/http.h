#pragma once

/*
 * HTTP requests on the loop. The only module that knows libcurl.
 *
 * A request is asked and answered as a whole: its body and its answer lie in memory, both bounded.
 * Every request ends, at the latest after its total time. Never followed: redirects (a status like
 * others). Never switched off: the verification of a server's certificate. Nothing is tried again
 * here; that is the caller's policy.
 *
 *   1. http_client_new()
 *   2. http_send() any number of times; from the loop, each calls on_done() exactly once, unless
 * cancelled
 *   3. http_client_free(), also from on_done(): what is under way is dropped without on_done()
 *
 * The process must ignore or block SIGPIPE. Threads: libcurl resolves names in one of its own;
 * numeric addresses need none.
 *
 * Source: curl_multi_socket_action(3).
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/time.h"

typedef struct HttpClient HttpClient;
typedef struct HttpTransfer
        HttpTransfer; /* one request under way; void once on_done() was called */

/* What came back. Borrowed during on_done(); the body may be taken with buf_steal(). */
typedef struct HttpReply {
        unsigned status;  /* 100..599 */
        char **headers;   /* "Name: value", as sent, of the final answer */
        Buf body;         /* empty for HEAD */
        usec_t took_usec; /* MONOTONIC, from http_send() to the last byte */
} HttpReply;

/* r: 0 with reply, whatever its status; or negative errno with words and without reply:
 * -ECONNREFUSED nobody listens, -ETIMEDOUT, -ECONNRESET closed without (the whole of) a head,
 * -EBADMSG torn or no HTTP, -EFBIG more bytes than allowed, -EHOSTUNREACH no such host or no way to
 * it, -EKEYREJECTED the certificate is not the server's. */
typedef void (*HttpDone)(void *userdata, int r, HttpReply *reply, Error *err);

typedef struct HttpRequest {
        const char *method;    /* "GET", "HEAD", "PUT", "POST", "DELETE" */
        const char *url;       /* http or https; sent as it is (no dot segments removed) */
        const char *only_host; /* the URL must name this very host; NULL: any. Guards against URLs
                                  put together from input */
        char *const *headers;  /* "Name: value", or NULL. "Host: x" replaces the URL's */
        const void *body;      /* copied; NULL: none */
        size_t body_bytes;
        bool loopback_only; /* connects to 127.0.0.0/8 and ::1 only, never by a proxy, and each time
                               anew */
        usec_t connect_usec; /* until connected; 0: 5 s */
        usec_t stall_usec; /* longest time without a byte (looked at once a second), waiting for the
                              first included; 0: as total_usec */
        usec_t total_usec; /* all of it; 0: 60 s */
        size_t max_bytes;  /* of the answer's body; 0: none may come */
        HttpDone on_done;
        void *userdata;
} HttpRequest;

int http_client_new(sd_event *loop, HttpClient **ret, Error **reterr);

/* Begins. Everything is copied. ret may be NULL where nobody will cancel. -EINVAL: not a request
 * that may be sent (URL, method, header); -EPERM: not the host that the URL had to name. Never
 * calls on_done() before it returns. */
int http_send(HttpClient *client, const HttpRequest *request, HttpTransfer **ret, Error **reterr);

/* Drops it; on_done() is not called. Takes NULL. Returns NULL. */
HttpTransfer *http_cancel(HttpTransfer *transfer);

/* The value of a header of the answer (the last of that name), or NULL. Borrowed. Names are
 * compared without case. */
const char *http_reply_header(const HttpReply *reply, const char *name);

/* Takes NULL. Returns NULL. */
HttpClient *http_client_free(HttpClient *client);
DEFINE_CLEANUP(HttpClient, http_client_free);
