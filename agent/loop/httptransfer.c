#include "loop/httptransfer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/str.h"

/* Of an answer; S3 sends about fifteen. */
#define MAX_HEADERS 128

HttpTransfer *http_transfer_free(HttpTransfer *t) {
        if (!t)
                return NULL;

        if (t->easy)
                curl_easy_cleanup(t->easy);
        /* Tokens and signatures went in these. */
        for (struct curl_slist *l = t->headers; l; l = l->next)
                explicit_bzero(l->data, strlen(l->data));
        curl_slist_free_all(t->headers);
        free(t->held);
        if (t->body.data)
                explicit_bzero(t->body.data, t->body.allocated);
        buf_done(&t->body);
        buf_done(&t->reply.body);
        (void) strv_free(t->reply.headers);
        free(t);
        return NULL;
}

/* ---- bytes of files ---- */

static void tell_bytes(HttpTransfer *t, uint64_t n) {
        if (!t->on_bytes || n == 0)
                return;
        t->client->telling = true;
        t->on_bytes(t->userdata, n);
        t->client->telling = false;
}

static int stopped(HttpTransfer *t, int r, const char *doing) {
        t->r = r;
        t->doing = doing;
        return r;
}

static int write_held(HttpTransfer *t) {
        for (size_t done = 0; done < t->n_held;) {
                ssize_t n = pwrite(t->answer_file.fd, t->held + done, t->n_held - done,
                                   (off_t) (t->answer_file.offset + t->reply.n_file));

                if (n < 0 && errno == EINTR)
                        continue;
                /* EFBIG is the file system's here, and no fault of the answer. */
                if (n <= 0)
                        return stopped(t, n == 0 || errno == EFBIG ? -ENOSPC : -errno,
                                       "write the answer to its file");
                done += (size_t) n;
                t->reply.n_file += (uint64_t) n;
                tell_bytes(t, (uint64_t) n);
        }
        t->n_held = 0;
        return 0;
}

/* libcurl hands over 16 KiB at a time. Ranges of one file that are written in turns in such pieces
 * cost ext4 five times as much as in pieces of this size that lie on multiples of it. */
static int write_file(HttpTransfer *t, const char *data, size_t size) {
        uint64_t begun = t->reply.n_file + t->n_held;

        if (size > t->answer_file.bytes - begun)
                return stopped(t, -EFBIG, NULL);
        t->held = t->held ?: calloc(1, HTTP_FILE_BUFFER_BYTES);
        if (!t->held)
                return stopped(t, -ENOMEM, NULL);

        while (size > 0) {
                size_t at = (size_t) ((t->answer_file.offset + t->reply.n_file) %
                                      HTTP_FILE_BUFFER_BYTES);
                size_t n = MIN(size, HTTP_FILE_BUFFER_BYTES - at - t->n_held);

                memcpy(t->held + t->n_held, data, n);
                t->n_held += n;
                data += n;
                size -= n;
                if (at + t->n_held == HTTP_FILE_BUFFER_BYTES && write_held(t) < 0)
                        return t->r;
        }
        return 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata) {
        HttpTransfer *t = userdata;

        if (t->to_file)
                (void) write_file(t, data, size * n);
        else
                t->r = buf_append(&t->reply.body, data, size * n);
        return t->r < 0 ? CURL_WRITEFUNC_ERROR : size * n;
}

static size_t on_read(char *to, size_t size, size_t n, void *userdata) {
        HttpTransfer *t = userdata;
        uint64_t left = t->body_file.bytes - t->n_read;
        size_t room = (size_t) MIN(left, (uint64_t) (size * n));
        ssize_t got;

        if (room == 0)
                return 0;
        do
                got = pread(t->body_file.fd, to, room, (off_t) (t->body_file.offset + t->n_read));
        while (got < 0 && errno == EINTR);
        if (got <= 0) {
                (void) stopped(t, got < 0 ? -errno : -ENODATA, "read the file that is sent");
                return CURL_READFUNC_ABORT;
        }

        t->n_read += (uint64_t) got;
        if (t->n_read > t->n_told) {
                tell_bytes(t, t->n_read - t->n_told);
                t->n_told = t->n_read;
        }
        return (size_t) got;
}

/* To send it again: on a connection that was dead, or where the server wants another form. */
static int on_seek(void *userdata, curl_off_t offset, int origin) {
        HttpTransfer *t = userdata;

        if (origin != SEEK_SET || offset < 0 || (uint64_t) offset > t->body_file.bytes)
                return CURL_SEEKFUNC_FAIL;
        t->n_read = (uint64_t) offset;
        return CURL_SEEKFUNC_OK;
}

/* ---- the head ---- */

/* Before the first byte of the body: where it goes, and whether it fits. A server that ignores
 * Range is seen here, not after bytes of elsewhere have been written. */
static int begin_body(HttpTransfer *t) {
        const char *length = http_reply_header(&t->reply, "Content-Length");
        uint64_t bytes = 0;
        long status = 0;

        t->head_ended = true;
        (void) curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        t->to_file = t->answer_file.fd >= 0 && (status == 200 || status == 206);
        if (t->to_file && length && str_to_u64(length, &bytes) == 0 && bytes > t->answer_file.bytes)
                return stopped(t, -EFBIG, NULL);
        return 0;
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
        if (length == 0)
                return begin_body(t) < 0 ? CURL_WRITEFUNC_ERROR : size * n;

        line = strndup(data, length);
        t->r = line ? strv_add(&t->reply.headers, MAX_HEADERS, line) : -ENOMEM;
        if (t->r == -E2BIG)
                t->r = -EFBIG;
        return t->r < 0 ? CURL_WRITEFUNC_ERROR : size * n;
}

/* ---- progress and sockets ---- */

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

CURLcode http_transfer_set_callbacks(HttpTransfer *t) {
        SET(t->easy, CURLOPT_PRIVATE, t);
        SET(t->easy, CURLOPT_ERRORBUFFER, t->words);
        SET(t->easy, CURLOPT_NOPROGRESS, 0L);
        SET(t->easy, CURLOPT_XFERINFOFUNCTION, on_progress);
        SET(t->easy, CURLOPT_XFERINFODATA, t);
        SET(t->easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
        SET(t->easy, CURLOPT_OPENSOCKETDATA, t);
        SET(t->easy, CURLOPT_HEADERFUNCTION, on_header);
        SET(t->easy, CURLOPT_HEADERDATA, t);
        SET(t->easy, CURLOPT_WRITEFUNCTION, on_body);
        SET(t->easy, CURLOPT_WRITEDATA, t);
        SET(t->easy, CURLOPT_READFUNCTION, on_read);
        SET(t->easy, CURLOPT_READDATA, t);
        SET(t->easy, CURLOPT_SEEKFUNCTION, on_seek);
        SET(t->easy, CURLOPT_SEEKDATA, t);
        return CURLE_OK;
}

/* ---- the end ---- */

/* One word for each thing that a caller can do; the text has the rest. */
static int connect_errno(const HttpTransfer *t) {
        long os_errno = 0;

        (void) curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os_errno);
        switch (os_errno) {
        case ETIMEDOUT:
        case ECONNRESET:
        case EHOSTUNREACH:
                return -(int) os_errno;
        case ENETUNREACH:
        case ENETDOWN:
        case EADDRNOTAVAIL:
        case EACCES:
        case EPERM:
                return -EHOSTUNREACH;
        default:
                return -ECONNREFUSED;
        }
}

static int code_to_errno(const HttpTransfer *t, CURLcode code) {
        switch ((int) code) {
        case CURLE_COULDNT_CONNECT:
                return connect_errno(t);
        case CURLE_OPERATION_TIMEDOUT:
                return -ETIMEDOUT;
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
                return -EHOSTUNREACH;
        case CURLE_GOT_NOTHING:
        case CURLE_SEND_ERROR:
        case CURLE_RECV_ERROR:
        case CURLE_SSL_CONNECT_ERROR:
                return -ECONNRESET;
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_ISSUER_ERROR:
                return -EKEYREJECTED;
        case CURLE_OUT_OF_MEMORY:
                return -ENOMEM;
        default:
                return -EBADMSG;
        }
}

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

/* Where it was stopped here. */
static int judge_stop(const HttpTransfer *t, Error **reterr) {
        if (t->doing)
                return error_set(reterr, t->r, "%s: %s", t->doing,
                                 t->r == -ENODATA ? "it is shorter than it was said to be"
                                                  : strerror(-t->r));
        return error_set(reterr, t->r, "%s", stop_words(t->r));
}

static int judge_code(const HttpTransfer *t, CURLcode code, Error **reterr) {
        const char *words = t->words[0] ? t->words : curl_easy_strerror(code);
        int r = code_to_errno(t, code);

        if ((int) code == CURLE_SSL_CACERT_BADFILE)
                return error_set(reterr, r, "the certificates to check the server with: %s", words);
        if (r == -EKEYREJECTED)
                return error_set(reterr, r, "the server's certificate is not accepted: %s", words);
        return error_set(reterr, r, "%s", words);
}

int http_transfer_judge(HttpTransfer *t, CURLcode code, Error **reterr) {
        long status = 0;

        /* What came before a failure is kept as well, unless it was too much. */
        if (t->n_held > 0 && t->r != -EFBIG && !t->doing)
                (void) write_held(t);
        if (t->r < 0)
                return judge_stop(t, reterr);
        if (code != CURLE_OK)
                return judge_code(t, code, reterr);

        /* libcurl is content with a status line and a closed connection. */
        if (!t->head_ended)
                return error_set(reterr, -ECONNRESET,
                                 "the connection was closed within the head of the answer");
        (void) curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status < 100 || status > 599)
                return error_set(reterr, -EBADMSG, "the answer has no status of HTTP");
        t->reply.status = (unsigned) status;
        return 0;
}
