#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "store/wire.h"

static const char *variable(char *const *environment, const char *name) {
        size_t n = strlen(name);

        for (char *const *v = environment; v && *v; v++)
                if (strncmp(*v, name, n) == 0 && (*v)[n] == '=' && (*v)[n + 1])
                        return *v + n + 1;
        return NULL;
}

static int copy(const char *text, char **ret) {
        if (!text)
                return 0;
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

int wire_open_fill(WireOpen *ret, const Config *config, const char *url, char *const *environment) {
        const ConfigStore nothing = { 0 };
        const ConfigStore *store =
                config && str_equal(config->store.url, url) ? &config->store : &nothing;
        const char *endpoint = store->endpoint ?: variable(environment, "AWS_ENDPOINT_URL_S3");
        int r;

        ret->path_style = store->path_style;
        ret->virtual_host = store->virtual_host;
        ret->dualstack = store->dualstack;
        ret->fips = store->fips;
        r = copy(url, &ret->url);
        if (r == 0)
                r = copy(store->region, &ret->region);
        if (r == 0)
                r = copy(endpoint ?: variable(environment, "AWS_ENDPOINT_URL"), &ret->endpoint);
        if (r == 0)
                r = copy(store->ca_file, &ret->ca_file);
        if (r == 0 && config)
                r = copy(config->identity.tag, &ret->identity_tag);
        return r == 0 ? wire_open_take_environment(ret, environment) : r;
}

static bool list_equal(char *const *a, char *const *b) {
        size_t n = strv_count(a);

        if (n != strv_count(b))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!str_equal(a[i], b[i]))
                        return false;
        return true;
}

bool wire_open_equal(const WireOpen *a, const WireOpen *b) {
        return str_equal(a->url, b->url) && str_equal(a->region, b->region) &&
               str_equal(a->endpoint, b->endpoint) && str_equal(a->ca_file, b->ca_file) &&
               str_equal(a->identity_tag, b->identity_tag) && a->path_style == b->path_style &&
               a->virtual_host == b->virtual_host && a->dualstack == b->dualstack &&
               a->fips == b->fips && list_equal(a->environment, b->environment);
}
