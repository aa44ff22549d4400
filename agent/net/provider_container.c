/* The endpoint that ECS and EKS (pod identity) give to a container. */

#include "net/provider.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

#define RELATIVE_BASE "http://169.254.170.2"

#define CONNECT_USEC SEC(2)
#define TOTAL_USEC   SEC(2)

/* The file's, read each time: what wrote it writes a new one. NULL: none is wanted. */
static int authorization(const ProviderTry *t, char **ret, Error **reterr) {
        const char *file = provider_env(t, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
                   *given = provider_env(t, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
        _cleanup_secret_ char *token = NULL;
        _cleanup_secret_buf_ Buf line = BUF_INIT(PROVIDER_BYTES);
        int r = 0;

        if (file)
                r = provider_read_token(file, &token, reterr);
        else if (given && strpbrk(given, "\r\n"))
                r = error_set(reterr, -EINVAL,
                              "AWS_CONTAINER_AUTHORIZATION_TOKEN has a line break");
        else if (given) {
                token = strdup(given);
                r = token ? 0 : -ENOMEM;
        }
        if (r < 0 || !token)
                return r;

        /* Not by printf, which leaves copies behind. */
        if (!buf_reserve(&line, line.max_bytes))
                return -ENOMEM;
        r = buf_append_str(&line, "Authorization: ");
        if (r >= 0)
                r = buf_append_str(&line, token);
        if (r < 0)
                return r;
        *ret = buf_steal(&line);
        return *ret ? 0 : -ENOMEM;
}

int provider_container_url(const ProviderTry *t, char **ret) {
        const char *relative = provider_env(t, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
                   *full = provider_env(t, "AWS_CONTAINER_CREDENTIALS_FULL_URI");

        if (relative)
                *ret = str_format(RELATIVE_BASE "%s%s", relative[0] == '/' ? "" : "/", relative);
        else
                *ret = strdup(full);
        return *ret ? 0 : -ENOMEM;
}

static int container_send(ProviderTry *t, Error **reterr) {
        _cleanup_free_ char *url = NULL, *host = NULL;
        _cleanup_secret_ char *header = NULL;
        char *headers[] = { NULL, NULL };
        HttpRequest request = { .method = "GET",
                                .headers = headers,
                                .direct = true,
                                .connect_usec = CONNECT_USEC,
                                .total_usec = TOTAL_USEC,
                                .max_bytes = PROVIDER_BYTES,
                                .on_done = provider_on_reply,
                                .userdata = t };
        int r;

        r = provider_container_url(t, &url);
        if (r < 0)
                return r;
        r = provider_check_url(url, &host, &request.loopback_only, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
        r = authorization(t, &header, reterr);
        if (r < 0)
                return r;

        headers[0] = header;
        request.url = url;
        request.only_host = host;
        return http_send(t->spec->http, &request, &t->transfer, reterr);
}

static int container_take(ProviderTry *t, const HttpReply *reply, Error **reterr) {
        int r;

        if (reply->status != 200)
                return error_set(reterr,
                                 reply->status == 401 || reply->status == 403 ? -EACCES : -EBADMSG,
                                 "it answered %u%s", reply->status,
                                 reply->status == 401 || reply->status == 403
                                         ? ": the authorization token is not accepted"
                                         : "");
        r = provider_read_json(buf_str(&reply->body), reply->body.size, &t->found, reterr);
        if (r >= 0)
                r = provider_name(t, "container");
        return r < 0 ? r : provider_say(t, PROVIDER_HAS, "has answered");
}

static int container_begin(ProviderTry *t, Error **reterr) {
        if (!provider_env(t, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") &&
            !provider_env(t, "AWS_CONTAINER_CREDENTIALS_FULL_URI"))
                return provider_say(t, PROVIDER_NONE,
                                    "neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor "
                                    "AWS_CONTAINER_CREDENTIALS_FULL_URI is set");
        t->send = container_send;
        t->take = container_take;
        return provider_request(t, reterr);
}

const Provider provider_container = { "container", container_begin };
