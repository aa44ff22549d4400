#include "net/s3call.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/limits.h"
#include "base/backoff.h"
#include "base/digest.h"
#include "base/str.h"
#include "net/s3header.h"
#include "net/s3state.h"
#include "net/s3words.h"
#include "net/secret.h"

/* An answer that took longer says too little of the time now. */
#define CLOCK_USEC SEC(5)

/* A small document: what a person waits for who asks for `status`. */
#define STALL_USEC SEC(10)
#define TOTAL_USEC SEC(30)

#define MAX_HEADERS 32
#define MAX_QUERY   16
#define URL_BYTES   ((size_t) 16 * 1024)

struct S3Call {
        S3 *s3;
        S3Call *next, *previous;
        S3Request request; /* its strings, lists and body belong to the call */
        char *name;        /* "GET s3://bucket/prefix/key" */
        char *key;         /* with the store's prefix; NULL: the bucket */
        HttpFile body_file, answer_file;
        bool is_running; /* it had its turn */
        RetryState retry;
        unsigned n_tries;
        usec_t signed_usec;   /* the clock that the try was signed with */
        char *signed_region;  /* and the region */
        CredentialWait *wait; /* at most one of these three is there */
        HttpTransfer *transfer;
        sd_event_source *timer; /* off while one of the others is */
};

/* What is read out of one answer. */
typedef struct Reading {
        S3Answer answer;
        XmlError error;
        char *etag;
        const char *region; /* that it names, or NULL; within the reply or the error */
        RetryClass why;
} Reading;

static void reading_done(Reading *reading) {
        xml_error_done(&reading->error);
        free(reading->etag);
}

/* ---- life of calls ---- */

static void call_link(S3Call *c) {
        S3Call **at = &c->s3->calls;

        for (; *at; at = &(*at)->next)
                c->previous = *at;
        *at = c;
}

/* The oldest that waits gets its turn, by its timer: nothing is called from here. */
static void s3_start_next(S3 *s3) {
        S3Call *c = s3->calls;

        while (c && c->is_running)
                c = c->next;
        if (!c || s3->n_running >= LIMIT_S3_CALLS)
                return;
        c->is_running = true;
        s3->n_running++;
        (void) sd_event_source_set_time(c->timer, 0);
        (void) sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

static void call_unlink(S3Call *c) {
        S3 *s3 = TAKE_PTR(c->s3);

        if (!s3)
                return;
        if (c->previous)
                c->previous->next = c->next;
        else
                s3->calls = c->next;
        if (c->next)
                c->next->previous = c->previous;
        c->next = c->previous = NULL;
        if (c->is_running)
                s3->n_running--;
        s3_start_next(s3);
}

static void free_list(char *const *list) {
        union {
                char *const *in;
                char **out;
        } both = { .in = list };

        (void) strv_free(both.out);
}

static void call_stop(S3Call *c) {
        c->wait = credentials_cancel(c->wait);
        c->transfer = http_cancel(c->transfer);
        c->timer = sd_event_source_disable_unref(c->timer);
}

static S3Call *call_free(S3Call *c) {
        if (!c)
                return NULL;
        call_stop(c);
        call_unlink(c);
        s3_free_const(c->request.method);
        s3_free_const(c->request.etag);
        s3_free_const(c->request.body);
        s3_free_const(c->request.payload);
        free_list(c->request.query);
        free_list(c->request.headers);
        free(c->name);
        free(c->key);
        free(c->signed_region);
        free(c);
        return NULL;
}
DEFINE_CLEANUP(S3Call, call_free);

S3Call *s3_cancel(S3Call *call) {
        return call_free(call);
}

/* ---- the end of a call ---- */

/* done() may free all there is: the call stands alone before it. */
static void call_end(S3Call *call, int r, const S3Answer *answer, Error *err) {
        static const S3Answer nothing = { 0 };
        _cleanup_(call_freep) S3Call *c = call;

        if (r < 0 && err)
                s3_note_failure(c->s3, err);
        call_stop(c);
        call_unlink(c);
        c->request.on_done(c->request.userdata, r, answer ?: &nothing, err);
}

/* words are of an inner error, or NULL. */
static void call_fail(S3Call *c, int r, const S3Answer *answer, const Error *inner) {
        _cleanup_(error_freep) Error *err = NULL;

        if (inner)
                (void) error_set(&err, r, "%s: %s", c->name, error_text(inner));
        else
                (void) error_set(&err, r, "%s: %s", c->name, strerror(-r));
        call_end(c, r, answer, err);
}

/* ---- reading an answer ---- */

static char *region_named(const Reading *reading) {
        if (reading->region && reading->region[0])
                return strdup(reading->region);
        return s3_region_of_host(reading->error.endpoint);
}

static bool call_follow(S3Call *c, const Reading *reading) {
        _cleanup_free_ char *region = region_named(reading);

        /* Another call may have learned it meanwhile. */
        if (!str_equal(c->signed_region, c->s3->endpoint.region))
                return true;
        return region && !str_equal(region, c->signed_region) && s3_move_to(c->s3, region);
}

/* ---- reading an answer ---- */

static usec_t date_header(const HttpReply *reply, const char *name) {
        usec_t usec;

        return s3_date_parse(http_reply_header(reply, name), &usec) < 0 ? 0 : usec;
}

/* 304 and 2xx are none, 404 without a code may be one. */
static void read_error(Reading *reading, const HttpReply *reply) {
        if (reply->status < 300 || reply->body.size == 0)
                return;
        if (xml_read_error(reply->body.data, reply->body.size, &reading->error, NULL) == 0)
                reading->answer.error = &reading->error;
}

static void read_answer(S3Call *c, int r, HttpReply *reply, Reading *ret) {
        const char *etag;
        int64_t skew_usec = 0;

        if (reply) {
                ret->answer.reply = reply;
                ret->answer.date_usec = date_header(reply, "date");
                ret->answer.modified_usec = date_header(reply, "last-modified");
                etag = http_reply_header(reply, "etag");
                if (etag && s3_etag_parse(etag, &ret->etag) == 0)
                        ret->answer.etag = ret->etag;
                read_error(ret, reply);
                ret->region = http_reply_header(reply, "x-amz-bucket-region");
                if (str_is_empty(ret->region))
                        ret->region = ret->error.region;
        }
        if (ret->answer.date_usec > 0)
                skew_usec = s3_clock_difference(ret->answer.date_usec, c->signed_usec);
        ret->why = retry_classify(r, reply ? reply->status : 0, ret->error.code, skew_usec);

        /* A HEAD of the wrong region is a bare 400. */
        if (ret->why == RETRY_NEVER && reply && reply->status == 400 && !ret->answer.error &&
            ret->region && !str_equal(ret->region, c->signed_region))
                ret->why = RETRY_REGION;
}

/* ---- may it be sent again ---- */

/* Did that answer or loss leave everything as it was? */
static bool had_no_effect(int r, const Reading *reading) {
        switch (reading->why) {
        case RETRY_SKEW:
        case RETRY_CREDENTIALS:
        case RETRY_REGION:
                return true;
        case RETRY_TIMEOUT:
                return r == -ECONNREFUSED || r == -EHOSTUNREACH;
        case RETRY_THROTTLE: /* of S3 itself: who stands between knows less */
                return reading->answer.error;
        case RETRY_TRANSIENT: /* S3 waited for the rest of the request in vain */
                return str_equal(reading->error.code, "RequestTimeout");
        case RETRY_NEVER:
        case _RETRY_CLASS_MAX:
        default:
                return false;
        }
}

/* What must be otherwise the next time; false: it cannot be. */
static bool call_correct(S3Call *c, const Reading *reading) {
        S3 *s3 = c->s3;

        switch (reading->why) {
        case RETRY_SKEW:
                if (reading->answer.date_usec == 0)
                        return false;
                s3->applied_usec = s3->skew_usec;
                return true;
        case RETRY_CREDENTIALS:
                credentials_refused(s3->chain);
                return true;
        case RETRY_REGION:
                return call_follow(c, reading);
        case RETRY_TRANSIENT:
        case RETRY_TIMEOUT:
        case RETRY_THROTTLE:
                return true;
        case RETRY_NEVER:
        case _RETRY_CLASS_MAX:
        default:
                return false;
        }
}

static bool call_again(S3Call *c, int r, const Reading *reading) {
        S3 *s3 = c->s3;
        usec_t delay_usec;

        if (reading->why == RETRY_THROTTLE)
                s3->n_throttled++;
        if (c->request.once && !had_no_effect(r, reading))
                return false;
        if (!retry_decide(&c->retry, &s3->quota, reading->why, backoff_chance(), &delay_usec) ||
            !call_correct(c, reading))
                return false;
        s3->n_retries++;
        if (c->request.on_again)
                c->request.on_again(c->request.userdata);
        if (sd_event_source_set_time_relative(c->timer, delay_usec) < 0)
                return false;
        return sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT) >= 0;
}

/* ---- what an answer means ---- */

static bool is_read(const S3Call *c) {
        return str_equal(c->request.method, "GET") || str_equal(c->request.method, "HEAD");
}

/* Of an exchange that was lost. */
static void call_lost(S3Call *c, int r, const Error *err) {
        /* The write may have been done all the same: its answer was too long. */
        if (r == -EFBIG && !is_read(c))
                r = -EBADMSG;
        call_fail(c, r, NULL, err);
}

static void call_refused(S3Call *c, const Reading *reading) {
        const HttpReply *reply = reading->answer.reply;
        _cleanup_(error_freep) Error *err = NULL;
        S3Failure failure = {
                .status = reply->status,
                .error = reading->answer.error,
                .method = c->request.method,
                .bucket = c->s3->at.bucket,
                .region = c->signed_region,
                .answered_region =
                        reading->region && str_is_label(reading->region) ? reading->region : NULL,
                .on_bucket = !c->request.key,
                .is_conditional = c->request.etag,
                .skew_usec = c->s3->skew_usec,
                .n_tried = c->n_tries,
        };
        int r;

        r = s3_explain(&failure, &err);
        call_fail(c, r, &reading->answer, err);
}

/* A PUT by ETag that was accepted shows which form the server takes; Ceph RGW 16 ignores the
 * condition of others. */
static void s3_learn_etag_form(S3 *s3, const S3Call *c) {
        if (s3->etag_form == ETAG_UNKNOWN && c->request.etag && str_equal(c->request.method, "PUT"))
                s3->etag_form = c->request.bare_etag ? ETAG_BARE : ETAG_QUOTED;
}

static void call_answered(S3Call *c, const Reading *reading) {
        const HttpReply *reply = reading->answer.reply;
        unsigned status;

        assert(reply);
        status = reply->status;
        if (reading->why == RETRY_NEVER)
                retry_succeeded(&c->retry, &c->s3->quota);
        if ((status >= 200 && status < 300) || status == 304) {
                if (reply->body.size > c->request.max_bytes) {
                        call_fail(c, is_read(c) ? -EFBIG : -EBADMSG, NULL, NULL);
                        return;
                }
                s3_learn_etag_form(c->s3, c);
                call_end(c, 0, &reading->answer, NULL);
        } else if (status == 404 && !str_equal(reading->error.code, "NoSuchBucket"))
                call_end(c, S3_ABSENT, &reading->answer, NULL);
        else if (status == 409 || status == 412)
                call_end(c, S3_REFUSED, &reading->answer, NULL);
        else
                call_refused(c, reading);
}

static void call_on_http(void *userdata, int r, HttpReply *reply, Error *err) {
        _cleanup_(reading_done) Reading reading = { 0 };
        S3Call *c = userdata;

        c->transfer = NULL;
        read_answer(c, r, reply, &reading);
        /* Date was written when the answer began: of one that took long it tells nothing. */
        if (reading.why == RETRY_SKEW || (reply && reply->took_usec < CLOCK_USEC))
                s3_note_clock(c->s3, reading.answer.date_usec);
        if (reading.why != RETRY_NEVER && call_again(c, r, &reading))
                return;
        if (r < 0)
                call_lost(c, r, err);
        else
                call_answered(c, &reading);
}

/* ---- one try ---- */

static void call_on_bytes(void *userdata, uint64_t n_bytes) {
        S3Call *c = userdata;

        c->request.on_bytes(c->request.userdata, n_bytes);
}

static int make_path(const S3Call *c, Buf *ret) {
        int r;

        r = buf_printf(ret, "%s/", c->s3->endpoint.path);
        if (r == 0 && c->key)
                r = sign_encode(c->key, true, ret);
        return r;
}

/* "prefix=a b" → "prefix=a%20b"; "uploads" → "uploads=". */
static int encode_pair(const char *pair, char ***query) {
        _cleanup_(buf_done) Buf text = BUF_INIT(URL_BYTES);
        size_t n = strcspn(pair, "=");
        _cleanup_free_ char *name = strndup(pair, n);
        int r;

        r = name ? sign_encode(name, false, &text) : -ENOMEM;
        if (r == 0)
                r = buf_append_str(&text, "=");
        if (r == 0 && pair[n] == '=')
                r = sign_encode(pair + n + 1, false, &text);
        return r < 0 ? r : strv_add(query, MAX_QUERY, buf_str(&text));
}

static int make_query(const S3Call *c, char ***ret) {
        int r = 0;

        for (char *const *pair = c->request.query; r == 0 && pair && *pair; pair++)
                r = encode_pair(*pair, ret);
        return r;
}

/* Reads of every server take the quoted form; of writes only what was learned is known. */
static bool wants_bare(const S3Call *c) {
        return c->request.bare_etag || (c->s3->etag_form == ETAG_BARE && !is_read(c));
}

static int make_headers(const S3Call *c, char ***ret) {
        _cleanup_free_ char *match = NULL;
        int r = 0;

        if (c->request.headers) {
                *ret = strv_copy(c->request.headers);
                r = *ret ? 0 : -ENOMEM;
        }
        if (r == 0 && c->request.etag) {
                match = wants_bare(c) ? str_format("If-Match: %s", c->request.etag)
                                      : str_format("If-Match: \"%s\"", c->request.etag);
                r = match ? strv_add(ret, MAX_HEADERS, match) : -ENOMEM;
        }
        if (r == 0 && c->request.if_absent)
                r = strv_add(ret, MAX_HEADERS, "If-None-Match: *");
        return r;
}

/* Of a part of a file, hexadecimal. */
static int digest_part(const HttpFile *file, char ret[DIGEST_SHA256_HEX_SIZE]) {
        _cleanup_(digest_freep) Digest *digest = digest_new();
        uint64_t n_done = 0;
        char block[16 * 1024];

        if (!digest)
                return -ENOMEM;
        while (n_done < file->bytes) {
                size_t want = (size_t) MIN(file->bytes - n_done, (uint64_t) sizeof(block));
                ssize_t n = pread(file->fd, block, want, (off_t) (file->offset + n_done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                digest_update(digest, block, (size_t) n);
                n_done += (uint64_t) n;
        }
        digest_final_hex(digest, ret);
        return 0;
}

static int make_payload(const S3Call *c, char ret[DIGEST_SHA256_HEX_SIZE]) {
        const char *known = c->request.payload;

        if (!known && c->request.body_file && str_has_prefix(c->s3->endpoint.base, "https://"))
                known = SIGN_UNSIGNED_PAYLOAD;
        if (known)
                return snprintf(ret, DIGEST_SHA256_HEX_SIZE, "%s", known) < 0 ? -EINVAL : 0;
        if (c->request.body_file)
                return digest_part(c->request.body_file, ret);
        digest_bytes(c->request.body ?: "", c->request.body_bytes, ret);
        return 0;
}

/* What is encoded and signed once, and sent as it is. */
typedef struct Try {
        Buf path;
        char **query;
        char **headers;
        char payload[DIGEST_SHA256_HEX_SIZE];
        Buf url;
} Try;

static void try_done(Try *t) {
        buf_done(&t->path);
        buf_done(&t->url);
        t->query = strv_free(t->query);
        t->headers = secret_strv_free(t->headers);
}

static int try_make(S3Call *c, Try *t) {
        int r;

        buf_init(&t->path, URL_BYTES);
        buf_init(&t->url, 2 * URL_BYTES);
        r = make_path(c, &t->path);
        if (r == 0)
                r = make_query(c, &t->query);
        if (r == 0)
                r = make_headers(c, &t->headers);
        if (r == 0)
                r = make_payload(c, t->payload);
        if (r == 0)
                r = buf_printf(&t->url, "%s%s%s", c->s3->endpoint.base, buf_str(&t->path),
                               t->query ? "?" : "");
        if (r == 0 && t->query)
                r = sign_join_query(t->query, &t->url);
        return r;
}

static int try_sign(S3Call *c, Try *t, const Credentials *credentials, Error **reterr) {
        S3 *s3 = c->s3;
        SignRequest request = {
                .method = c->request.method,
                .host = s3->endpoint.host,
                .path = buf_str(&t->path),
                .query = t->query,
                .headers = t->headers,
                .payload = t->payload,
                .region = s3->endpoint.region,
                .service = "s3",
                .credentials = credentials,
        };

        c->signed_usec = clock_read(s3->clock, CLOCK_REALTIME) + (usec_t) s3->applied_usec;
        request.now_usec = c->signed_usec;
        free(c->signed_region);
        c->signed_region = strdup(s3->endpoint.region);
        if (!c->signed_region)
                return -ENOMEM;
        return sign_headers(s3->signer, &request, &t->headers, reterr);
}

static int try_send(S3Call *c, const Try *t, Error **reterr) {
        const S3Request *q = &c->request;
        HttpRequest request = {
                .method = q->method,
                .url = buf_str(&t->url),
                .headers = t->headers,
                .body = q->body,
                .body_bytes = q->body_bytes,
                .body_file = q->body_file,
                .answer_file = q->answer_file,
                .on_bytes = q->on_bytes,
                .fresh = q->once && !is_read(c),
                .stall_usec = q->stall_usec ?: STALL_USEC,
                .total_usec = q->total_usec ?: TOTAL_USEC,
                .max_bytes = MAX(q->max_bytes, (size_t) LIMIT_XML_ERROR_BYTES),
                .on_done = call_on_http,
                .userdata = c,
        };

        if (q->on_bytes)
                request.on_bytes = call_on_bytes;
        c->s3->n_requests++;
        c->n_tries++;
        return http_send(c->s3->http, &request, &c->transfer, reterr);
}

static void call_on_credentials(void *userdata, int r, const Credentials *credentials, Error *err) {
        _cleanup_(error_freep) Error *own = NULL;
        _cleanup_(try_done) Try t = { 0 };
        S3Call *c = userdata;

        c->wait = NULL;
        if (r < 0) {
                call_fail(c, r, NULL, err);
                return;
        }
        r = try_make(c, &t);
        if (r == 0)
                r = try_sign(c, &t, credentials, &own);
        if (r == 0)
                r = try_send(c, &t, &own);
        if (r < 0)
                call_fail(c, r, NULL, own);
}

static int call_try(S3Call *c) {
        return credentials_get(c->s3->chain, call_on_credentials, c, &c->wait);
}

static int call_on_timer(_unused_ sd_event_source *s, _unused_ uint64_t now, void *userdata) {
        S3Call *c = userdata;
        int r;

        r = call_try(c);
        if (r < 0)
                call_fail(c, r, NULL, NULL);
        return 0;
}

/* ---- the beginning of a call ---- */

static int dup_list(char *const *list, char *const **ret) {
        if (!list)
                return 0;
        *ret = strv_copy(list);
        return *ret ? 0 : -ENOMEM;
}

/* What is borrowed becomes the call's; pointers into the caller's structs go first. */
static int dup_request(const S3Request *request, S3Call *c) {
        S3Request *q = &c->request;
        char *body = NULL;
        int r;

        *q = *request;
        q->method = q->etag = q->payload = NULL;
        q->query = q->headers = NULL;
        q->body = NULL;
        if (request->body_file) {
                c->body_file = *request->body_file;
                q->body_file = &c->body_file;
        }
        if (request->answer_file) {
                c->answer_file = *request->answer_file;
                q->answer_file = &c->answer_file;
        }
        if (request->body) {
                body = calloc(1, request->body_bytes + 1);
                if (!body)
                        return -ENOMEM;
                memcpy(body, request->body, request->body_bytes);
                q->body = body;
        }
        r = s3_dup_string(request->method, &q->method);
        if (r == 0)
                r = s3_dup_string(request->etag, &q->etag);
        if (r == 0)
                r = s3_dup_string(request->payload, &q->payload);
        if (r == 0)
                r = dup_list(request->query, &q->query);
        if (r == 0)
                r = dup_list(request->headers, &q->headers);
        return r;
}

static int call_set_key(S3Call *c, const char *key) {
        const S3Location *at = &c->s3->at;

        if (!key) {
                c->name = str_format("%s %s", c->request.method, c->s3->url);
                return c->name ? 0 : -ENOMEM;
        }
        c->key = str_format("%s%s%s", at->prefix, at->prefix[0] ? "/" : "", key);
        c->name =
                c->key ? str_format("%s s3://%s/%s", c->request.method, at->bucket, c->key) : NULL;
        c->request.key = c->key;
        return c->name ? 0 : -ENOMEM;
}

static int call_new(S3 *s3, const S3Request *request, S3Call **ret) {
        _cleanup_(call_freep) S3Call *c = calloc(1, sizeof(S3Call));
        int r;

        if (!c)
                return -ENOMEM;
        r = dup_request(request, c);
        if (r < 0)
                return r;
        c->s3 = s3;
        call_link(c);
        r = call_set_key(c, request->key);
        if (r == 0)
                r = sd_event_add_time(s3->loop, &c->timer, CLOCK_MONOTONIC, 0, MSEC(1),
                                      call_on_timer, c);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        if (c->key && strlen(c->key) > LIMIT_KEY_NAME_BYTES)
                return -ENAMETOOLONG;
        *ret = TAKE_PTR(c);
        return 0;
}

int s3_send(S3 *s3, const S3Request *request, S3Call **ret, Error **reterr) {
        _cleanup_(call_freep) S3Call *c = NULL;
        int r;

        assert(request->on_done);
        r = call_new(s3, request, &c);
        if (r == 0 && s3->n_running < LIMIT_S3_CALLS) {
                c->is_running = true;
                s3->n_running++;
                r = call_try(c);
        }
        if (r < 0)
                return error_wrap(reterr, r, "%s %s/%s", request->method, s3->url,
                                  request->key ?: "");
        if (ret)
                *ret = c;
        (void) TAKE_PTR(c);
        return 0;
}
