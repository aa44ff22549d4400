#pragma once

/*
 * HTTP requests on the loop. The only module that knows libcurl.
 *
 * A request is asked and answered as a whole: its body and its answer lie in memory, both bounded,
 * or are bytes of a file at an offset, which pass through without being kept.
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
        unsigned status; /* 100..599 */
        char **headers;  /* "Name: value", as sent, of the final answer */
        Buf body;        /* empty for HEAD, and where the answer went to answer_file */
        uint64_t n_file; /* bytes that went to answer_file; on a failure on_done() has no reply, see
                            on_bytes */
        usec_t took_usec; /* MONOTONIC, from http_send() to the last byte */
} HttpReply;

/* r: 0 with reply, whatever its status; or negative errno with words and without reply:
 * -ECONNREFUSED nobody listens, -ETIMEDOUT, -ECONNRESET closed without (the whole of) a head,
 * -EBADMSG torn or no HTTP, -EFBIG more bytes than allowed, -EHOSTUNREACH no such host or no way to
 * it, -EKEYREJECTED the certificate is not the server's, -ENODATA body_file is shorter than it was
 * said to be; others are of reading or writing a file. */
typedef void (*HttpDone)(void *userdata, int r, HttpReply *reply, Error *err);

/* Bytes of a file, by pread and pwrite. The descriptor is borrowed until the end of the request. */
typedef struct HttpFile {
        int fd;
        uint64_t offset;
        uint64_t bytes; /* of a body: exactly so many; of an answer: at most */
} HttpFile;

/* Proxies, as curl's environment variables have them; each may be NULL. Copied. */
typedef struct HttpProxy {
        const char *http;     /* for http:// URLs: "http://[user:password@]host:port" */
        const char *https;    /* for https:// URLs */
        const char *no_proxy; /* "host,.domain,10.0.0.1": never by a proxy; "*": none at all */
} HttpProxy;

/* on_bytes(): so many more of body_file were taken to be sent, or so many more came and are in
 * answer_file, without gaps from its offset on. What it told of an answer holds after a failure as
 * well: the rest may be asked for, except after -EFBIG. It may not call this module.
 *
 * fresh: libcurl repeats a request by itself where a connection that was used before is closed
 * without an answer, though the server may have acted on it. A conditional write that was repeated
 * fails by its own success; on a fresh connection it is sent once. */
typedef struct HttpRequest {
        const char *method;    /* "GET", "HEAD", "PUT", "POST", "DELETE" */
        const char *url;       /* http or https; sent as it is (no dot segments removed) */
        const char *only_host; /* the URL must name this very host; NULL: any. Guards against URLs
                                  put together from input */
        char *const *headers;  /* "Name: value", or NULL. "Host: x" replaces the URL's */
        const void *body;      /* copied; NULL: none */
        size_t body_bytes;
        const HttpFile *body_file; /* in place of body. May be sent twice where the server asks for
                                      it; the struct is copied */
        const HttpFile *answer_file; /* a body of status 200 or 206 goes there; others, up to
                                        max_bytes, into memory */
        void (*on_bytes)(void *userdata, uint64_t n_bytes); /* see above; NULL: nobody asks */
        bool direct;                                        /* never by a proxy */
        bool fresh;         /* by a connection of its own, used for nothing before and after */
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

/* For all requests from now on; NULL: none. The environment is not looked at: what it says goes
 * through here. -EINVAL: not an http or https proxy; all is as it was. */
int http_client_set_proxy(HttpClient *client, const HttpProxy *proxy);

/* A file of certificates (PEM) that servers are checked with, in place of the system's. NULL: the
 * system's. Negative errno: it cannot be opened. Read again at times, so it must stay. */
int http_client_set_ca_file(HttpClient *client, const char *path);

/* Begins. Everything is copied. Errors show the URL without its query. ret may be NULL where nobody
 * will cancel. -EINVAL: not a request that may be sent (URL, method, header); -EPERM: not the host
 * that the URL had to name. Never calls on_done() before it returns. */
int http_send(HttpClient *client, const HttpRequest *request, HttpTransfer **ret, Error **reterr);

/* Drops it; on_done() is not called. Takes NULL. Returns NULL. */
HttpTransfer *http_cancel(HttpTransfer *transfer);

/* The value of a header of the answer (the last of that name), or NULL. Borrowed. Names are
 * compared without case. */
const char *http_reply_header(const HttpReply *reply, const char *name);

/* Takes NULL. Returns NULL. */
HttpClient *http_client_free(HttpClient *client);
DEFINE_CLEANUP(HttpClient, http_client_free);
