/* A token of another identity provider (EKS service accounts, CI), exchanged with STS. */

#include "net/provider.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "net/endpoint.h"
#include "net/sign.h"
#include "net/xml.h"

#define DEFAULT_REGION  "us-east-1"
#define DEFAULT_SESSION "tendril"

#define CONNECT_USEC   SEC(5)
#define TOTAL_USEC     SEC(10)
#define FORM_MAX_BYTES ((size_t) 64 * 1024)

/* What a person can do about it. */
static const struct {
        const char *code, *words;
} hints[] = {
        { "AccessDenied", "the role's trust policy does not allow this token" },
        { "ExpiredTokenException",
          "whatever writes the file of the token has stopped to renew it" },
        { "InvalidIdentityToken", "the provider of the token is not one that the account trusts" },
        { "IDPCommunicationError", "STS could not reach the provider of the token" },
        { "ValidationError", "AWS_ROLE_ARN or AWS_ROLE_SESSION_NAME is malformed" },
};

int provider_sts_url(const ProviderTry *t, char **ret, Error **reterr) {
        const char *given = provider_env(t, "AWS_ENDPOINT_URL_STS");
        EndpointSpec spec = { .region = t->spec->region
                                                ?: provider_env(t, "AWS_REGION")
                                                        ?: provider_env(t, "AWS_DEFAULT_REGION")
                                                                ?: DEFAULT_REGION };
        Endpoint endpoint = { 0 };
        int r;

        if (given) {
                size_t size = strlen(given);

                for (; size > 0 && given[size - 1] == '/'; size--)
                        ;
                *ret = str_format("%.*s/", (int) size, given);
                return *ret ? 0 : -ENOMEM;
        }
        r = endpoint_service(&spec, "sts", &endpoint, reterr);
        if (r < 0)
                return r;
        *ret = str_format("%s/", endpoint.base);
        endpoint_done(&endpoint);
        return *ret ? 0 : -ENOMEM;
}

static int add_field(Buf *form, const char *name, const char *value) {
        int r;

        r = buf_printf(form, "&%s=", name);
        return r < 0 ? r : sign_encode(value, false, form);
}

/* The token goes into the body: a URL would stand in logs. */
static int web_form(const ProviderTry *t, Buf *form, Error **reterr) {
        const char *path = provider_env(t, "AWS_WEB_IDENTITY_TOKEN_FILE");
        _cleanup_secret_ char *token = NULL;
        int r;

        r = provider_read_token(path, &token, reterr);
        if (r < 0)
                return r;
        if (!buf_reserve(form, form->max_bytes))
                return -ENOMEM;
        r = buf_append_str(form, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15");
        if (r >= 0)
                r = add_field(form, "RoleArn", provider_env(t, "AWS_ROLE_ARN"));
        if (r >= 0)
                r = add_field(form, "RoleSessionName",
                              provider_env(t, "AWS_ROLE_SESSION_NAME") ?: DEFAULT_SESSION);
        if (r >= 0)
                r = add_field(form, "WebIdentityToken", token);
        return r;
}

static int web_send(ProviderTry *t, Error **reterr) {
        char type[] = "Content-Type: application/x-www-form-urlencoded";
        char accept[] = "Accept: application/xml";
        char *headers[] = { type, accept, NULL };
        _cleanup_secret_buf_ Buf form = BUF_INIT(FORM_MAX_BYTES);
        _cleanup_free_ char *url = NULL;
        HttpRequest request = { .method = "POST",
                                .headers = headers,
                                .connect_usec = CONNECT_USEC,
                                .total_usec = TOTAL_USEC,
                                .max_bytes = PROVIDER_BYTES,
                                .on_done = provider_on_reply,
                                .userdata = t };
        int r;

        r = provider_sts_url(t, &url, reterr);
        if (r < 0)
                return r;
        r = web_form(t, &form, reterr);
        if (r < 0)
                return r;
        request.url = url;
        request.body = form.data;
        request.body_bytes = form.size;
        return http_send(t->spec->http, &request, &t->transfer, reterr);
}

/* The service's message may repeat the token, so only its code is told. */
static int say_refused(const HttpReply *reply, Error **reterr) {
        XmlError e = { 0 };
        const char *words = NULL;
        int r;

        if (xml_read_error(buf_str(&reply->body), reply->body.size, &e, NULL) < 0 || !e.code ||
            !str_is_label(e.code)) {
                r = error_set(reterr, -EACCES, "STS answered %u", reply->status);
                xml_error_done(&e);
                return r;
        }
        for (size_t i = 0; i < ELEMENTS(hints); i++)
                if (str_equal(hints[i].code, e.code))
                        words = hints[i].words;
        r = error_set(reterr, -EACCES, "STS answered %u %s%s%s", reply->status, e.code,
                      words ? ": " : "", words ?: "");
        xml_error_done(&e);
        return r;
}

static int read_answer(const HttpReply *reply, Credentials *ret, Error **reterr) {
        static const char *const names[] = { "AccessKeyId", "SecretAccessKey", "SessionToken",
                                             "Expiration" };
        char *values[ELEMENTS(names)] = { NULL };
        int r;

        r = xml_read_values(buf_str(&reply->body), reply->body.size, names, ELEMENTS(names), values,
                            NULL);
        if (r < 0)
                return error_set(reterr, r, "STS answered %u, and not XML", reply->status);
        *ret = (Credentials){ .access_key_id = values[0],
                              .secret = values[1],
                              .token = values[2],
                              .ends_usec = USEC_INFINITY };
        r = provider_check(ret, reterr);
        if (r >= 0 && (!values[3] || provider_read_time(values[3], &ret->ends_usec) < 0))
                r = error_set(reterr, -EBADMSG, "STS says no time when they end");
        free(values[3]);
        return r;
}

static int web_take(ProviderTry *t, const HttpReply *reply, Error **reterr) {
        int r;

        if (reply->status != 200)
                return say_refused(reply, reterr);
        r = read_answer(reply, &t->found, reterr);
        if (r >= 0)
                r = provider_name(t, "web identity");
        return r < 0 ? r
                     : provider_say(t, PROVIDER_HAS, "is %s by STS",
                                    provider_env(t, "AWS_ROLE_ARN"));
}

static int web_begin(ProviderTry *t, Error **reterr) {
        const char *file = provider_env(t, "AWS_WEB_IDENTITY_TOKEN_FILE");

        if (!file)
                return provider_say(t, PROVIDER_NONE, "AWS_WEB_IDENTITY_TOKEN_FILE is not set");
        if (!provider_env(t, "AWS_ROLE_ARN"))
                return error_set(reterr, -EINVAL,
                                 "AWS_WEB_IDENTITY_TOKEN_FILE is set, and AWS_ROLE_ARN is not");
        t->send = web_send;
        t->take = web_take;
        return provider_request(t, reterr);
}

const Provider provider_web = { "web identity", web_begin };
