#include "net/retry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "base/str.h"

/* What a try costs that failed, and what a success without one gives back. */
#define COST_FAILURE 5
#define COST_TIMEOUT 10
#define GAIN_SUCCESS 1

#define DELAY_MAX_SEC 20

/* Clocks that are further apart than this may be why a signature was refused. */
#define SKEW_USEC ((int64_t) SEC(240))

static const char *const throttle_codes[] = {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "SlowDown",
        "EC2ThrottledException",
        "PriorRequestNotComplete",
        "TransactionInProgressException",
        NULL,
};

static const char *const transient_codes[] = {
        "RequestTimeout",
        "RequestTimeoutException",
        "InternalError",
        NULL,
};

/* Always the clock; and those that are the clock where it is off. */
static const char *const skew_codes[] = { "RequestTimeTooSkewed", "RequestExpired", NULL };
static const char *const perhaps_skew_codes[] = {
        "SignatureDoesNotMatch", "InvalidSignatureException", "AuthFailure", "AccessDenied", NULL,
};

static const char *const credential_codes[] = {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidToken",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
        NULL,
};

static const char *const region_codes[] = {
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "TemporaryRedirect",
        NULL,
};

static bool is_one_of(const char *code, const char *const *codes) {
        if (!code)
                return false;
        for (; *codes; codes++)
                if (str_equal(code, *codes))
                        return true;
        return false;
}

static RetryClass classify_loss(int r) {
        switch (r) {
        case -ETIMEDOUT:
        case -ECONNREFUSED:
        case -EHOSTUNREACH:
                return RETRY_TIMEOUT;
        case -ECONNRESET:
        case -EBADMSG:
        case -EIO:
                return RETRY_TRANSIENT;
        default:
                return RETRY_NEVER;
        }
}

/* A HEAD has no code: where the clocks differ much, that is the first thing to try. */
static bool is_skew(unsigned status, const char *code, int64_t skew_usec) {
        if (is_one_of(code, skew_codes))
                return true;
        if (skew_usec <= SKEW_USEC && skew_usec >= -SKEW_USEC)
                return false;
        return is_one_of(code, perhaps_skew_codes) || (status == 403 && !code);
}

static RetryClass classify_status(unsigned status) {
        switch (status) {
        case 301:
        case 307:
                return RETRY_REGION;
        case 429:
        case 503:
                return RETRY_THROTTLE;
        case 500:
        case 502:
        case 504:
                return RETRY_TRANSIENT;
        default:
                return RETRY_NEVER;
        }
}

RetryClass retry_classify(int r, unsigned status, const char *code, int64_t skew_usec) {
        if (r < 0)
                return classify_loss(r);
        if (status < 300)
                return RETRY_NEVER;
        if (is_skew(status, code, skew_usec))
                return RETRY_SKEW;
        if (is_one_of(code, credential_codes))
                return RETRY_CREDENTIALS;
        if (is_one_of(code, region_codes))
                return RETRY_REGION;
        if (is_one_of(code, throttle_codes))
                return RETRY_THROTTLE;
        if (is_one_of(code, transient_codes))
                return RETRY_TRANSIENT;
        return classify_status(status);
}

static bool first_time(bool *done) {
        bool first = !*done;

        *done = true;
        return first;
}

/* rand(0,1) × min(2^i, 20) s */
static usec_t delay_of(unsigned i, uint32_t random) {
        uint64_t most = i < 5 ? UINT64_C(1) << i : DELAY_MAX_SEC;

        return SEC(MIN(most, (uint64_t) DELAY_MAX_SEC)) * random >> 32;
}

static bool spend(RetryState *state, RetryQuota *quota, unsigned cost) {
        if (quota->tokens < cost)
                return false;
        quota->tokens -= cost;
        state->n_spent += cost;
        return true;
}

bool retry_decide(RetryState *state, RetryQuota *quota, RetryClass why, uint32_t random,
                  usec_t *ret_delay_usec) {
        *ret_delay_usec = 0;
        switch (why) {
        case RETRY_SKEW:
                return first_time(&state->skew_done);
        case RETRY_CREDENTIALS:
                return first_time(&state->credentials_done);
        case RETRY_REGION:
                return first_time(&state->region_done);
        case RETRY_TRANSIENT:
        case RETRY_TIMEOUT:
        case RETRY_THROTTLE:
                break;
        case RETRY_NEVER:
        case _RETRY_CLASS_MAX:
        default:
                return false;
        }

        if (++state->n_tried >= RETRY_ATTEMPTS)
                return false;
        if (!spend(state, quota, why == RETRY_TIMEOUT ? COST_TIMEOUT : COST_FAILURE))
                return false;
        *ret_delay_usec = delay_of(state->n_tried - 1, random);
        return true;
}

void retry_succeeded(RetryState *state, RetryQuota *quota) {
        quota->tokens += MAX(state->n_spent, (unsigned) GAIN_SUCCESS);
        quota->tokens = MIN(quota->tokens, (unsigned) RETRY_TOKENS);
        state->n_spent = 0;
}
