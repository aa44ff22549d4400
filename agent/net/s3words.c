#include "net/s3words.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"

#define SHOWN_BYTES 300

/* What the server itself said. */
static char *quote_server(const S3Failure *f) {
        _cleanup_free_ char *code = NULL, *message = NULL;
        const XmlError *e = f->error;

        if (!e)
                return str_format("%u without an error document", f->status);
        code = str_printable(e->code, strnlen(e->code, SHOWN_BYTES));
        if (str_is_empty(e->message))
                return str_format("%u %s", f->status, code ?: "");
        message = str_printable(e->message, strnlen(e->message, SHOWN_BYTES));
        return str_format("%u %s (%s)", f->status, code ?: "", message ?: "");
}

/* ---- what to do about it ---- */

typedef char *(*Advise)(const S3Failure *f);

static char *advise_denied(const S3Failure *f) {
        const char *also = "or the bucket is another account's, or its policy, a KMS key or a "
                           "boundary denies it";

        if (f->on_bucket)
                return str_format("the credentials need s3:ListBucket on %s for this prefix, %s",
                                  f->bucket, also);
        if (str_equal(f->method, "PUT") || str_equal(f->method, "POST"))
                return str_format("the credentials need s3:PutObject on it%s, %s",
                                  f->is_conditional ? ", and s3:GetObject for the condition" : "",
                                  also);
        if (str_equal(f->method, "DELETE"))
                return str_format("the credentials need s3:DeleteObject on it, %s", also);
        return str_format("the credentials need s3:GetObject on it, %s; without s3:ListBucket on "
                          "%s what is missing is answered so as well",
                          also, f->bucket);
}

static char *advise_bucket(const S3Failure *f) {
        return str_format("there is no bucket %s there: check its name, and the endpoint",
                          f->bucket);
}

static char *advise_region(const S3Failure *f) {
        if (str_is_empty(f->answered_region) || str_equal(f->answered_region, f->region))
                return str_format("the bucket is not in %s: set `region` to where it is",
                                  f->region);
        return str_format("the bucket is in %s and not in %s: set `region: %s`", f->answered_region,
                          f->region, f->answered_region);
}

static char *advise_clock(const S3Failure *f) {
        bool behind = f->skew_usec > 0;
        char span[32];

        time_format_span((usec_t) (behind ? f->skew_usec : -f->skew_usec), span);
        return str_format("this host's clock is %s %s the server's: check chrony or ntp", span,
                          behind ? "behind" : "ahead of");
}

static char *advise_token(_unused_ const S3Failure *f) {
        return str_format("the credentials have ended, and new ones were refused too: see `tendril "
                          "explain credentials`");
}

static char *advise_key_id(_unused_ const S3Failure *f) {
        return str_format("the server does not know these credentials: see `tendril explain "
                          "credentials`");
}

static char *advise_signature(_unused_ const S3Failure *f) {
        return str_format("the secret of the credentials is not that of their key id, or a proxy "
                          "changes requests on their way");
}

static char *advise_throttle(const S3Failure *f) {
        return str_format("the server asks for fewer requests; tried %u times", f->n_tried);
}

static char *advise_trouble(const S3Failure *f) {
        return str_format("the server is in trouble; tried %u times", f->n_tried);
}

static char *advise_conditions(_unused_ const S3Failure *f) {
        return str_format("the server does not have what was asked of it");
}

static char *advise_nothing(_unused_ const S3Failure *f) {
        return NULL;
}

static char *advise_other_server(_unused_ const S3Failure *f) {
        return str_format("is that an S3 server, and nothing in between that answers for it?");
}

/* ---- which of them ---- */

/* The first that fits. code NULL: any; status 0: any. */
typedef struct Row {
        unsigned status;
        const char *code;
        int r;
        Advise advise;
} Row;

/* clang-format off */
static const Row rows[] = {
        { 0,   "NoSuchBucket",                       -ENOENT,     advise_bucket },
        { 0,   "RequestTimeTooSkewed",               -EACCES,     advise_clock },
        { 0,   "RequestExpired",                     -EACCES,     advise_clock },
        { 0,   "ExpiredToken",                       -EACCES,     advise_token },
        { 0,   "ExpiredTokenException",              -EACCES,     advise_token },
        { 0,   "TokenRefreshRequired",               -EACCES,     advise_token },
        { 0,   "InvalidToken",                       -EACCES,     advise_key_id },
        { 0,   "InvalidAccessKeyId",                 -EACCES,     advise_key_id },
        { 0,   "SignatureDoesNotMatch",              -EACCES,     advise_signature },
        { 0,   "AuthorizationHeaderMalformed",       -EINVAL,     advise_region },
        { 0,   "IllegalLocationConstraintException", -EINVAL,     advise_region },
        { 0,   "QuotaExceeded",                      -EDQUOT,     advise_nothing },
        { 0,   "EntityTooLarge",                     -EFBIG,      advise_nothing },
        { 0,   "KeyTooLongError",                    -EINVAL,     advise_nothing },
        { 301, NULL,                                 -EINVAL,     advise_region },
        { 307, NULL,                                 -EINVAL,     advise_region },
        { 401, NULL,                                 -EACCES,     advise_key_id },
        { 403, NULL,                                 -EACCES,     advise_denied },
        { 407, NULL,                                 -EACCES,     advise_other_server },
        { 416, NULL,                                 -ERANGE,     advise_nothing },
        { 429, NULL,                                 -EAGAIN,     advise_throttle },
        { 500, NULL,                                 -EREMOTEIO,  advise_trouble },
        { 501, NULL,                                 -EOPNOTSUPP, advise_conditions },
        { 502, NULL,                                 -EREMOTEIO,  advise_trouble },
        { 503, NULL,                                 -EAGAIN,     advise_throttle },
        { 504, NULL,                                 -EREMOTEIO,  advise_trouble },
};
/* clang-format on */

static Row find_row(const S3Failure *f) {
        const char *code = f->error ? f->error->code : NULL;
        size_t i;

        for (i = 0; i < ELEMENTS(rows); i++)
                if ((rows[i].status == 0 || rows[i].status == f->status) &&
                    (!rows[i].code || str_equal(rows[i].code, code)))
                        return rows[i];
        if (f->status >= 500)
                return (Row){ .r = -EREMOTEIO, .advise = advise_trouble };
        return (Row){ .r = -EINVAL, .advise = f->error ? advise_nothing : advise_other_server };
}

/* A HEAD has no error document; a 400 with another region's name in its head is about that. */
static bool is_of_region(const S3Failure *f) {
        return f->status == 400 && !f->error && f->answered_region &&
               !str_equal(f->answered_region, f->region);
}

int s3_explain(const S3Failure *f, Error **reterr) {
        _cleanup_free_ char *said = quote_server(f), *advice = NULL;
        Row row = find_row(f);

        if (is_of_region(f))
                row.advise = advise_region;
        advice = row.advise(f);
        return error_set(reterr, row.r, "%s%s%s", said ?: "failed", advice ? ": " : "",
                         advice ?: "");
}
