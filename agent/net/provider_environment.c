#include "net/provider.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

static int environment_begin(ProviderTry *t, Error **reterr) {
        const char *key_id = provider_env(t, "AWS_ACCESS_KEY_ID"),
                   *secret = provider_env(t, "AWS_SECRET_ACCESS_KEY"),
                   *token = provider_env(t, "AWS_SESSION_TOKEN");
        int r;

        if (!key_id && !secret)
                return provider_say(t, PROVIDER_NONE, "AWS_ACCESS_KEY_ID is not set");
        if (!key_id || !secret)
                return error_set(reterr, -EINVAL, "%s is set, and %s is not",
                                 key_id ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
                                 key_id ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");

        t->found = (Credentials){ .access_key_id = strdup(key_id),
                                  .secret = strdup(secret),
                                  .token = token ? strdup(token) : NULL,
                                  .ends_usec = USEC_INFINITY };
        if (!t->found.access_key_id || !t->found.secret || (token && !t->found.token))
                return error_set(reterr, -ENOMEM, "out of memory");
        r = provider_check(&t->found, reterr);
        if (r < 0)
                return r;
        r = provider_name(t, "environment");
        return r < 0 ? r : provider_say(t, PROVIDER_HAS, "has AWS_ACCESS_KEY_ID");
}

const Provider provider_environment = { "environment", environment_begin };
