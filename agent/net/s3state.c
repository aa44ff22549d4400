#include "net/s3state.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

/* Signatures follow the server's clock from here on; both accept more, S3 15 minutes. */
#define SKEW_USEC ((int64_t) SEC(240))

/* Worth a word in `status`: more than a Date, a network and a busy host are off by. */
#define CLOCK_WORDS_USEC ((int64_t) SEC(5))

/* ---- strings ---- */

int s3_dup_string(const char *text, const char **ret) {
        if (!text)
                return 0;
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

void s3_free_const(const void *p) {
        union {
                const void *in;
                void *out;
        } both = { .in = p };

        free(both.out);
}

/* ---- the server's clock ---- */

/* To the second, which is all that a Date has: half a second more is its middle. */
int64_t s3_clock_difference(usec_t server_usec, usec_t own_usec) {
        int64_t usec = (int64_t) (server_usec - own_usec) + (int64_t) MSEC(500);

        return usec / (int64_t) SEC(1) * (int64_t) SEC(1);
}

static bool is_far(int64_t skew_usec) {
        return skew_usec > SKEW_USEC || skew_usec < -SKEW_USEC;
}

void s3_note_clock(S3 *s3, usec_t date_usec) {
        int64_t skew_usec;

        if (date_usec == 0)
                return;
        skew_usec = s3_clock_difference(date_usec, clock_read(s3->clock, CLOCK_REALTIME));
        s3->applied_usec = is_far(skew_usec) ? skew_usec : 0;
        if (skew_usec != s3->skew_usec)
                credentials_set_skew(s3->chain, skew_usec);
        s3->skew_usec = skew_usec;
}

/* ---- the bucket's region ---- */

char *s3_region_of_host(const char *host) {
        char *found = NULL;

        while (host && *host) {
                size_t n = strcspn(host, ".");
                const char *label = str_has_prefix(host, "s3-") ? host + 3 : host;
                char *copy = strndup(label, (size_t) (host + n - label));

                if (copy && endpoint_is_region(copy)) {
                        free(found);
                        found = TAKE_PTR(copy);
                }
                free(copy);
                host += n + (host[n] == '.');
        }
        return found;
}

bool s3_move_to(S3 *s3, const char *region) {
        EndpointSpec spec = s3->spec;
        Endpoint endpoint = { 0 };
        char *copy;

        if (!endpoint_is_region(region) ||
            !str_equal(endpoint_domain(region), endpoint_domain(s3->endpoint.region)))
                return false;
        spec.region = region;
        copy = strdup(region);
        if (!copy || endpoint_s3(&spec, s3->at.bucket, &endpoint, NULL) < 0) {
                free(copy);
                return false;
        }
        endpoint_done(&s3->endpoint);
        s3->endpoint = endpoint;
        s3_free_const(s3->spec.region);
        s3->spec.region = copy;
        return true;
}

/* ---- for status ---- */

void s3_note_failure(S3 *s3, const Error *err) {
        char *words = strdup(error_text(err));

        if (!words)
                return;
        free(s3->error);
        s3->error = words;
        s3->failed_usec = clock_read(s3->clock, CLOCK_REALTIME);
}

/* ---- the store's own ---- */

bool s3_etag_is_unknown(const S3 *s3) {
        return s3->etag_form == ETAG_UNKNOWN;
}

sd_event *s3_loop(S3 *s3) {
        return s3->loop;
}

const char *s3_url(const S3 *s3) {
        return s3->url;
}

const char *s3_prefix(const S3 *s3) {
        return s3->at.prefix;
}

static int copy_spec(const S3Spec *spec, S3 *s3) {
        int r;

        s3->spec = spec->endpoint;
        s3->spec.region = s3->spec.endpoint = s3->spec.domain = NULL;
        r = s3_dup_string(spec->endpoint.region, &s3->spec.region);
        if (r == 0)
                r = s3_dup_string(spec->endpoint.endpoint, &s3->spec.endpoint);
        if (r == 0)
                r = s3_dup_string(spec->endpoint.domain, &s3->spec.domain);
        if (r < 0)
                return r;
        s3->url = str_format("s3://%s%s%s", s3->at.bucket, s3->at.prefix[0] ? "/" : "",
                             s3->at.prefix);
        s3->signer = signer_new();
        return s3->url && s3->signer ? 0 : -ENOMEM;
}

int s3_new(const S3Spec *spec, S3 **ret, Error **reterr) {
        _cleanup_(s3_freep) S3 *s3 = calloc(1, sizeof(S3));
        int r;

        if (!s3)
                return -ENOMEM;
        s3->loop = sd_event_ref(spec->loop);
        s3->http = spec->http;
        s3->chain = spec->chain;
        s3->clock = spec->clock;
        s3->quota.tokens = RETRY_TOKENS;
        r = s3_location_parse(spec->url, &s3->at, reterr);
        if (r == 0)
                r = copy_spec(spec, s3);
        if (r == 0)
                r = endpoint_s3(&s3->spec, s3->at.bucket, &s3->endpoint, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "store %s", spec->url);
        *ret = TAKE_PTR(s3);
        return 0;
}

S3 *s3_free(S3 *s3) {
        if (!s3)
                return NULL;
        while (s3->calls)
                (void) s3_cancel(s3->calls);
        s3_location_done(&s3->at);
        endpoint_done(&s3->endpoint);
        s3_free_const(s3->spec.region);
        s3_free_const(s3->spec.endpoint);
        s3_free_const(s3->spec.domain);
        s3->signer = signer_free(s3->signer);
        s3->loop = sd_event_unref(s3->loop);
        free(s3->url);
        free(s3->error);
        free(s3);
        return NULL;
}

/* ---- what it tells ---- */

/* clang-format off */
static const JsonField s3_status_fields[] = {
        JSON_ROW("endpoint",    JSON_KIND_STRING, 0, S3Status, endpoint),
        JSON_ROW("region",      JSON_KIND_STRING, 0, S3Status, region),
        JSON_ROW("etag_form",   JSON_KIND_STRING, 0, S3Status, etag_form),
        JSON_ROW("clock",       JSON_KIND_STRING, JSON_OMIT_EMPTY, S3Status, clock),
        JSON_ROW("n_requests",  JSON_KIND_U64,    0, S3Status, n_requests),
        JSON_ROW("n_retries",   JSON_KIND_U64,    0, S3Status, n_retries),
        JSON_ROW("n_throttled", JSON_KIND_U64,    0, S3Status, n_throttled),
        JSON_ROW("error",       JSON_KIND_STRING, JSON_OMIT_EMPTY, S3Status, error),
        JSON_ROW("failed",      JSON_KIND_STRING, JSON_OMIT_EMPTY, S3Status, failed),
        JSON_END
};
/* clang-format on */
const JsonTable s3_status_table = { s3_status_fields, sizeof(S3Status) };

static char *clock_words(int64_t skew_usec) {
        char span[32];

        time_format_span((usec_t) (skew_usec > 0 ? skew_usec : -skew_usec), span);
        return str_format("this host's clock is %s %s the server's", span,
                          skew_usec > 0 ? "behind" : "ahead of");
}

static int fill_status(const S3 *s3, S3Status *ret) {
        static const char *const forms[] = {
                [ETAG_UNKNOWN] = "unknown",
                [ETAG_QUOTED] = "quoted",
                [ETAG_BARE] = "bare",
        };
        char when[TIME_RFC3339_SIZE];

        ret->endpoint = str_format("%s%s", s3->endpoint.base, s3->endpoint.path);
        ret->region = strdup(s3->endpoint.region);
        ret->etag_form = strdup(forms[s3->etag_form]);
        if (!ret->endpoint || !ret->region || !ret->etag_form)
                return -ENOMEM;
        ret->skew_usec = s3->skew_usec;
        if (s3->skew_usec >= CLOCK_WORDS_USEC || s3->skew_usec <= -CLOCK_WORDS_USEC) {
                ret->clock = clock_words(s3->skew_usec);
                if (!ret->clock)
                        return -ENOMEM;
        }
        ret->n_requests = s3->n_requests;
        ret->n_retries = s3->n_retries;
        ret->n_throttled = s3->n_throttled;
        if (!s3->error)
                return 0;
        time_format(s3->failed_usec, when);
        ret->error = strdup(s3->error);
        ret->failed = strdup(when);
        return ret->error && ret->failed ? 0 : -ENOMEM;
}

int s3_status(const S3 *s3, S3Status *ret) {
        S3Status status = { 0 };
        int r;

        r = fill_status(s3, &status);
        if (r < 0) {
                json_table_done(&s3_status_table, &status);
                return r;
        }
        *ret = status;
        return 0;
}
