#include "net/imds.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "base/str.h"

#define TOKEN_SECONDS   "21600" /* the longest that the service allows */
#define TOKEN_USEC      SEC(21600)
#define TOKEN_EARLY     SEC(300) /* asked for again so long before its end */
#define TOKEN_MAX_BYTES 1024
#define TOKEN_HEADER    "X-aws-ec2-metadata-token: "

#define REQUEST_USEC SEC(1)
#define TRIES        3U

/* Who asks right after it was found absent gets the same answer: a start asks ten things, and each
 * would wait for seconds. */
#define ABSENT_USEC SEC(5)

/* What the request under way asks for. */
typedef enum Asking {
        ASKING_TOKEN,
        ASKING_PROBE, /* is anything there at all? */
        ASKING_TEXT,
} Asking;

struct ImdsCall {
        Imds *imds;
        ImdsCall *next;
        char *path;
        ImdsDone done;
        void *userdata;
        bool renewed; /* the token was refused once */
};

struct Imds {
        sd_event *loop;
        HttpClient *http;
        char *base; /* "http://169.254.169.254" */
        bool disabled;

        char *token;
        usec_t token_ends; /* BOOTTIME: it ends while the host sleeps, too */

        ImdsCall *calls; /* the first is the one that is asked */
        HttpTransfer *transfer;
        Asking asking;
        unsigned n_tried; /* failures of what is asked now */
        Backoff pause;
        sd_event_source *wake;

        Error *absent; /* why, and until when nobody asks again (BOOTTIME) */
        usec_t absent_ends;

        usec_t request_usec;
};

static void forget_token(Imds *imds) {
        if (imds->token)
                explicit_bzero(imds->token, strlen(imds->token));
        free(imds->token);
        imds->token = NULL;
}

static usec_t now(void) {
        return clock_read(NULL, CLOCK_BOOTTIME);
}

/* The next step comes from the loop, after so long. */
static void wake_after(Imds *imds, usec_t delay_usec) {
        (void) sd_event_source_set_time_relative(imds->wake, delay_usec);
        (void) sd_event_source_set_enabled(imds->wake, SD_EVENT_ONESHOT);
}

static ImdsCall *call_free(ImdsCall *call) {
        free(call->path);
        free(call);
        return NULL;
}

/* Ends the first call. Nothing may be touched afterwards: done() may free it all. */
static void finish(Imds *imds, int r, const char *text, size_t size, Error *err) {
        ImdsCall *call = imds->calls;
        ImdsDone done = call->done;
        void *userdata = call->userdata;

        imds->calls = call->next;
        imds->n_tried = 0;
        backoff_reset(&imds->pause);
        (void) call_free(call);
        if (imds->calls)
                wake_after(imds, 0);
        done(userdata, r, text, size, err);
}

static void fail(Imds *imds, int r, Error **err) {
        _cleanup_(error_freep) Error *own = TAKE_PTR(*err);

        finish(imds, r, NULL, 0, own);
}

/* ---- what an answer means, in words ---- */

static int say_refused(const char *what, Error **reterr) {
        return error_set(
                reterr, -EACCES,
                "%s: the instance metadata service answered 403: it is switched off for "
                "this instance, or something on the way forbids it. Switch it on with `aws "
                "ec2 modify-instance-metadata-options --instance-id ID --http-endpoint "
                "enabled`",
                what);
}

static int say_hop_limit(unsigned status, Error **reterr) {
        return error_set(
                reterr, -ETIMEDOUT,
                "the instance metadata service is there (a plain GET was answered with %u), but "
                "its "
                "answer to the request for a token never came: the hop limit is too small for a "
                "container or a forwarding host. Raise it with `aws ec2 "
                "modify-instance-metadata-options --instance-id ID --http-put-response-hop-limit "
                "2`",
                status);
}

static int say_absent(const Imds *imds, const Error *why, Error **reterr) {
        return error_set(
                reterr, -EHOSTUNREACH,
                "no instance metadata service answers at %s (%s): this is no EC2 instance, "
                "or a rule of this host blocks the way",
                imds->base, error_text(why));
}

static int say_status(const char *what, unsigned status, Error **reterr) {
        if (status == 429 || status >= 500)
                return error_set(reterr, -EAGAIN,
                                 "%s: the instance metadata service answered %u %u times: it is "
                                 "overloaded, or something on this instance asks it too often",
                                 what, status, TRIES);
        return error_set(reterr, -EBADMSG, "%s: the instance metadata service answered %u", what,
                         status);
}

/* ---- requests ---- */

static void step(Imds *imds);
static void on_reply(void *userdata, int r, HttpReply *reply, Error *err);

static int send_request(Imds *imds, Asking asking, const char *method, const char *path,
                        char *header, Error **reterr) {
        _cleanup_free_ char *url = str_format("%s%s", imds->base, path);
        char *headers[] = { header, NULL };
        HttpRequest request = { .method = method,
                                .url = url,
                                .headers = headers,
                                .direct = true,
                                .connect_usec = imds->request_usec,
                                .total_usec = imds->request_usec,
                                .max_bytes = IMDS_MAX_BYTES,
                                .on_done = on_reply,
                                .userdata = imds };

        if (!url)
                return error_set(reterr, -ENOMEM, "instance metadata: out of memory");
        imds->asking = asking;
        return http_send(imds->http, &request, &imds->transfer, reterr);
}

static int ask_token(Imds *imds, Error **reterr) {
        char header[] = "X-aws-ec2-metadata-token-ttl-seconds: " TOKEN_SECONDS;

        forget_token(imds);
        return send_request(imds, ASKING_TOKEN, "PUT", "/latest/api/token", header, reterr);
}

static int ask_text(Imds *imds, Error **reterr) {
        char header[sizeof(TOKEN_HEADER) + TOKEN_MAX_BYTES];
        int r;

        (void) snprintf(header, sizeof(header), TOKEN_HEADER "%s", imds->token);
        r = send_request(imds, ASKING_TEXT, "GET", imds->calls->path, header, reterr);
        explicit_bzero(header, sizeof(header));
        return r;
}

static void step(Imds *imds) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        if (!imds->calls || imds->transfer)
                return;
        if (imds->disabled) {
                r = error_set(&err, -EOPNOTSUPP,
                              "the instance metadata service is not asked, as "
                              "AWS_EC2_METADATA_DISABLED says");
                fail(imds, r, &err);
                return;
        }
        if (imds->absent && now() < imds->absent_ends) {
                r = error_set(&err, error_code(imds->absent), "%s", error_text(imds->absent));
                fail(imds, r, &err);
                return;
        }

        r = imds->token && now() < imds->token_ends ? ask_text(imds, &err) : ask_token(imds, &err);
        if (r < 0)
                fail(imds, r, &err);
}

static int on_wake(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        step(userdata);
        return 0;
}

/* True: it is tried again, after a pause. */
static bool try_again(Imds *imds) {
        if (++imds->n_tried >= TRIES)
                return false;
        wake_after(imds, backoff_next(&imds->pause, backoff_chance()));
        return true;
}

static bool is_failure(int r, const HttpReply *reply) {
        return r < 0 ? r != -EFBIG : reply->status == 429 || reply->status >= 500;
}

/* ---- the token ---- */

static void end_absent(Imds *imds, Error **err) {
        imds->absent = error_free(imds->absent);
        (void) error_set(&imds->absent, error_code(*err), "%s", error_text(*err));
        imds->absent_ends = now() + ABSENT_USEC;
        fail(imds, error_code(*err), err);
}

/* No token, whatever was tried: silence alone may be the hop limit. */
static void on_no_token(Imds *imds, int r, const HttpReply *reply, const Error *why) {
        _cleanup_(error_freep) Error *err = NULL;

        if (r == 0) {
                fail(imds, say_status("ask for a token", reply->status, &err), &err);
                return;
        }
        if (r == -ETIMEDOUT &&
            send_request(imds, ASKING_PROBE, "GET", "/latest/meta-data/", NULL, NULL) >= 0)
                return;
        (void) say_absent(imds, why, &err);
        end_absent(imds, &err);
}

static void on_probe(Imds *imds, int r, const HttpReply *reply, const Error *why) {
        _cleanup_(error_freep) Error *err = NULL;

        if (r < 0)
                (void) say_absent(imds, why, &err);
        else
                (void) say_hop_limit(reply->status, &err);
        end_absent(imds, &err);
}

static bool is_token(const char *text, size_t size) {
        if (size == 0 || size > TOKEN_MAX_BYTES)
                return false;
        for (size_t i = 0; i < size; i++)
                if (text[i] <= ' ' || text[i] > '~')
                        return false;
        return true;
}

static void on_token(Imds *imds, int r, const HttpReply *reply, const Error *why) {
        _cleanup_(error_freep) Error *err = NULL;

        if (is_failure(r, reply)) {
                if (!try_again(imds))
                        on_no_token(imds, r, reply, why);
                return;
        }
        if (r == 0 && reply->status == 403) {
                fail(imds, say_refused("ask for a token", &err), &err);
                return;
        }
        if (r == 0 && reply->status != 200) {
                fail(imds, say_status("ask for a token", reply->status, &err), &err);
                return;
        }
        if (r < 0 || !is_token(reply->body.data, reply->body.size)) {
                r = error_set(&err, -EBADMSG, "ask for a token: what answers at %s gave none",
                              imds->base);
                fail(imds, r, &err);
                return;
        }

        imds->token = strndup(reply->body.data, reply->body.size);
        imds->token_ends = now() + TOKEN_USEC - TOKEN_EARLY;
        imds->n_tried = 0;
        explicit_bzero(reply->body.data, reply->body.size);
        if (imds->token) {
                step(imds);
                return;
        }
        fail(imds, error_set(&err, -ENOMEM, "instance metadata: out of memory"), &err);
}

/* ---- the text ---- */

static void on_status(Imds *imds, unsigned status) {
        _cleanup_(error_freep) Error *err = NULL;
        ImdsCall *call = imds->calls;

        switch (status) {
        case 404:
                finish(imds, IMDS_ABSENT, NULL, 0, NULL);
                return;
        case 401:
                forget_token(imds);
                if (!call->renewed) {
                        call->renewed = true;
                        step(imds);
                        return;
                }
                (void) error_set(&err, -EACCES,
                                 "%s: the instance metadata service answered 401 to a token that "
                                 "it had just given",
                                 call->path);
                break;
        case 403:
                (void) say_refused(call->path, &err);
                break;
        default:
                (void) say_status(call->path, status, &err);
        }
        fail(imds, error_code(err), &err);
}

static void on_text(Imds *imds, int r, HttpReply *reply, const Error *why) {
        _cleanup_(error_freep) Error *err = NULL;

        if (is_failure(r, reply) && try_again(imds))
                return;
        if (r < 0) {
                (void) error_set(&err, r, "%s: ask the instance metadata service: %s",
                                 imds->calls->path, error_text(why));
                fail(imds, r, &err);
        } else if (reply->status != 200)
                on_status(imds, reply->status);
        else
                finish(imds, 0, buf_str(&reply->body), reply->body.size, NULL);
}

static void on_reply(void *userdata, int r, HttpReply *reply, Error *err) {
        Imds *imds = userdata;

        imds->transfer = NULL;
        switch (imds->asking) {
        case ASKING_TOKEN:
                on_token(imds, r, reply, err);
                break;
        case ASKING_PROBE:
                on_probe(imds, r, reply, err);
                break;
        case ASKING_TEXT:
        default:
                on_text(imds, r, reply, err);
        }
        /* A text may be a secret, and what held it is about to be freed. */
        if (reply && reply->body.data)
                explicit_bzero(reply->body.data, reply->body.allocated);
}

/* ---- life ---- */

/* "http://host[:port]", perhaps with a slash behind it. */
static int set_base(Imds *imds, const char *endpoint, Error **reterr) {
        const char *host = endpoint + strlen("http://");
        size_t size;

        if (!str_has_prefix(endpoint, "http://") || *host == 0)
                return error_set(
                        reterr, -EINVAL,
                        "AWS_EC2_METADATA_SERVICE_ENDPOINT: '%s' is not http://HOST[:PORT]",
                        endpoint);
        size = strcspn(host, "/?#@ \\");
        if (host[size] != 0 && !str_equal(host + size, "/"))
                return error_set(reterr, -EINVAL,
                                 "AWS_EC2_METADATA_SERVICE_ENDPOINT: '%s' has more than http://"
                                 "HOST[:PORT]",
                                 endpoint);
        imds->base = strndup(endpoint, strlen("http://") + size);
        return imds->base ? 0 : error_set(reterr, -ENOMEM, "instance metadata: out of memory");
}

int imds_new(sd_event *loop, HttpClient *http, const char *endpoint, bool disabled, Imds **ret,
             Error **reterr) {
        _cleanup_(imds_freep) Imds *imds = calloc(1, sizeof(Imds));
        int r;

        assert(loop && http && ret);
        if (!imds)
                return error_set(reterr, -ENOMEM, "instance metadata: out of memory");
        imds->loop = sd_event_ref(loop);
        imds->http = http;
        imds->disabled = disabled;
        imds->request_usec = REQUEST_USEC;
        imds->pause = (Backoff){ .base_usec = MSEC(200), .max_usec = SEC(1) };

        r = set_base(imds, endpoint ?: IMDS_ENDPOINT, reterr);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(loop, &imds->wake, CLOCK_MONOTONIC, 0, 1, on_wake, imds);
        if (r >= 0)
                r = sd_event_source_set_enabled(imds->wake, SD_EVENT_OFF);
        if (r < 0)
                return error_set(reterr, r, "instance metadata: a timer: %s", strerror(-r));
        (void) sd_event_source_set_description(imds->wake, "imds");

        *ret = TAKE_PTR(imds);
        return 0;
}

Imds *imds_free(Imds *imds) {
        if (!imds)
                return NULL;
        (void) http_cancel(imds->transfer);
        while (imds->calls) {
                ImdsCall *call = imds->calls;

                imds->calls = call->next;
                (void) call_free(call);
        }
        (void) sd_event_source_disable_unref(imds->wake);
        (void) sd_event_unref(imds->loop);
        (void) error_free(imds->absent);
        forget_token(imds);
        free(imds->base);
        free(imds);
        return NULL;
}

int imds_get(Imds *imds, const char *path, ImdsDone done, void *userdata, ImdsCall **ret) {
        ImdsCall *call, **at;

        assert(imds && done && str_has_prefix(path, "/latest/"));
        call = calloc(1, sizeof(ImdsCall));
        if (!call)
                return -ENOMEM;
        *call = (ImdsCall){
                .imds = imds, .path = strdup(path), .done = done, .userdata = userdata
        };
        if (!call->path) {
                (void) call_free(call);
                return -ENOMEM;
        }

        for (at = &imds->calls; *at; at = &(*at)->next)
                ;
        *at = call;
        if (call == imds->calls)
                wake_after(imds, 0);
        if (ret)
                *ret = call;
        return 0;
}

ImdsCall *imds_cancel(ImdsCall *call) {
        ImdsCall **at;
        Imds *imds;

        if (!call)
                return NULL;
        imds = call->imds;
        for (at = &imds->calls; *at != call; at = &(*at)->next)
                ;
        if (call == imds->calls) {
                imds->transfer = http_cancel(imds->transfer);
                imds->n_tried = 0;
                wake_after(imds, 0);
        }
        *at = call->next;
        return call_free(call);
}
