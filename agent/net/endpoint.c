#include "net/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"

#define BUCKET_MIN_BYTES 3
#define BUCKET_MAX_BYTES 63
#define REGION_MAX_BYTES 63
#define HOST_MAX_BYTES   253

/* What follows a prefix of a region's name. dualstack NULL: there is none. */
typedef struct Partition {
        const char *prefix;
        const char *domain;
        const char *dualstack; /* of services other than S3 */
        bool has_fips;
} Partition;

/* clang-format off */
static const Partition partitions[] = {
        { "cn-",      "amazonaws.com.cn",  "api.amazonwebservices.com.cn", false },
        { "us-gov-",  "amazonaws.com",     "api.aws",                      true  },
        { "us-isob-", "sc2s.sgov.gov",     NULL,                           true  },
        { "us-isof-", "csp.hci.ic.gov",    NULL,                           true  },
        { "us-iso-",  "c2s.ic.gov",        NULL,                           true  },
        { "eu-isoe-", "cloud.adc-e.uk",    NULL,                           true  },
        { "eusc-",    "amazonaws.eu",      "api.amazonwebservices.eu",     true  },
        { "",         "amazonaws.com",     "api.aws",                      true  },
};
/* clang-format on */

static const Partition *partition_of(const char *region) {
        size_t i = 0;

        while (!str_has_prefix(region, partitions[i].prefix))
                i++;
        return &partitions[i];
}

const char *endpoint_domain(const char *region) {
        return partition_of(region)->domain;
}

static bool is_lower(char c) {
        return c >= 'a' && c <= 'z';
}

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

bool endpoint_is_region(const char *text) {
        unsigned n_words = 0;
        size_t n;

        if (!text || strlen(text) > REGION_MAX_BYTES)
                return false;
        while (is_lower(*text)) {
                for (n = 0; is_lower(text[n]); n++)
                        ;
                if (text[n] != '-' || (n_words == 0 && n < 2))
                        return false;
                text += n + 1;
                n_words++;
        }
        for (n = 0; is_digit(text[n]); n++)
                ;
        return n_words >= 2 && n > 0 && text[n] == '\0';
}

/* Other servers name their regions as they like: "default", "garage". */
static bool is_any_region(const char *text) {
        size_t n = 0;

        while (is_lower(text[n]) || is_digit(text[n]) || text[n] == '-')
                n++;
        return n > 0 && n <= REGION_MAX_BYTES && text[n] == '\0';
}

/* ---- s3://bucket/prefix ---- */

static bool is_address(const char *text) {
        struct in_addr address;

        return inet_pton(AF_INET, text, &address) == 1;
}

static bool bucket_is_valid(const char *text) {
        size_t size = strlen(text);

        if (size < BUCKET_MIN_BYTES || size > BUCKET_MAX_BYTES || is_address(text))
                return false;
        for (size_t i = 0; i < size; i++) {
                bool at_end = i == 0 || i == size - 1;

                if (is_lower(text[i]) || is_digit(text[i]))
                        continue;
                if (at_end || (text[i] != '-' && text[i] != '.'))
                        return false;
                if (text[i] == '.' && text[i + 1] == '.')
                        return false;
        }
        return !str_has_prefix(text, "xn--");
}

static int bucket_check(const char *text, Error **reterr) {
        if (bucket_is_valid(text))
                return 0;
        return error_set(reterr, -EINVAL,
                         "\"%s\" is no bucket's name: 3 to 63 lower-case letters, digits, dots and "
                         "hyphens",
                         text);
}

/* As keys are: no empty component, none that a path would make something else of. */
static bool prefix_is_valid(const char *text) {
        size_t size = strlen(text);

        if (size > LIMIT_KEY_NAME_BYTES / 2 || !str_is_utf8(text, size, true))
                return false;
        while (size > 0) {
                size_t n = strcspn(text, "/");

                if (n == 0 || (n == 1 && text[0] == '.') || (n == 2 && memcmp(text, "..", 2) == 0))
                        return false;
                if (text[n] == '\0')
                        return true;
                text += n + 1;
        }
        return true;
}

static int location_split(const char *rest, S3Location *ret) {
        size_t n = strcspn(rest, "/");
        const char *prefix = rest + n, *end = rest + strlen(rest);

        while (*prefix == '/')
                prefix++;
        while (end > prefix && end[-1] == '/')
                end--;
        ret->bucket = strndup(rest, n);
        ret->prefix = strndup(prefix, (size_t) (end - prefix));
        return ret->bucket && ret->prefix ? 0 : -ENOMEM;
}

static int location_check(const char *url, const S3Location *location, Error **reterr) {
        int r;

        if (str_has_prefix(location->bucket, "arn:"))
                return error_set(reterr, -EINVAL,
                                 "access points are not known here: give the bucket's name, or the "
                                 "access point's alias");
        r = bucket_check(location->bucket, reterr);
        if (r < 0)
                return r;
        if (!prefix_is_valid(location->prefix))
                return error_set(reterr, -EINVAL,
                                 "what follows the bucket in \"%s\" is no prefix: words separated "
                                 "by single slashes",
                                 url);
        return 0;
}

void s3_location_done(S3Location *location) {
        free(location->bucket);
        free(location->prefix);
        *location = (S3Location){ 0 };
}

int s3_location_parse(const char *url, S3Location *ret, Error **reterr) {
        static const char scheme[] = "s3://";
        S3Location location = { 0 };
        int r;

        if (!str_has_prefix(url, scheme))
                return error_set(reterr, -EINVAL, "\"%s\" is not s3://bucket/prefix", url);
        r = location_split(url + strlen(scheme), &location);
        if (r == 0)
                r = location_check(url, &location, reterr);
        if (r < 0) {
                s3_location_done(&location);
                return r;
        }
        *ret = location;
        return 0;
}

/* ---- an endpoint that was given ---- */

/* "https://host:port" in parts. */
typedef struct Origin {
        char *scheme; /* "https" */
        char *name;   /* host without port; [::1] with its brackets */
        char *host;   /* as a client sends it: with the port unless it is the scheme's */
        bool is_address;
} Origin;

static void origin_done(Origin *origin) {
        free(origin->scheme);
        free(origin->name);
        free(origin->host);
        *origin = (Origin){ 0 };
}

/* How long the name is that text begins with; 0: none. */
static size_t name_length(const char *text) {
        char address[INET6_ADDRSTRLEN] = "";
        struct in6_addr in6;
        size_t n;

        if (text[0] != '[') {
                n = strspn(text,
                           "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.");
                return n > HOST_MAX_BYTES || text[0] == '-' || text[0] == '.' ? 0 : n;
        }
        n = strcspn(text, "]");
        if (text[n] != ']' || n - 1 >= sizeof(address))
                return 0;
        memcpy(address, text + 1, n - 1);
        return inet_pton(AF_INET6, address, &in6) == 1 ? n + 1 : 0;
}

/* "" or ":443"; a slash may follow. */
static bool port_parse(const char *text, uint64_t *ret) {
        _cleanup_free_ char *digits = NULL;
        size_t n = strcspn(text, "/");

        *ret = 0;
        if (text[n] == '/' && text[n + 1] != '\0')
                return false;
        if (n == 0)
                return true;
        if (text[0] != ':')
                return false;
        digits = strndup(text + 1, n - 1);
        return digits && str_to_u64(digits, ret) == 0 && *ret > 0 && *ret <= UINT16_MAX;
}

static int origin_parse(const char *url, Origin *ret) {
        bool is_https = str_has_prefix(url, "https://");
        const char *rest;
        uint64_t port;
        size_t n;

        if (!is_https && !str_has_prefix(url, "http://"))
                return -EINVAL;
        rest = url + (is_https ? strlen("https://") : strlen("http://"));
        n = name_length(rest);
        if (n == 0 || !port_parse(rest + n, &port))
                return -EINVAL;

        ret->scheme = strdup(is_https ? "https" : "http");
        ret->name = strndup(rest, n);
        if (!ret->scheme || !ret->name)
                return -ENOMEM;
        for (char *c = ret->name; *c; c++) /* as it is signed */
                if (*c >= 'A' && *c <= 'Z')
                        *c = (char) (*c | 0x20);
        ret->is_address = rest[0] == '[' || is_address(ret->name);
        if (port == 0 || port == (is_https ? 443U : 80U))
                ret->host = strdup(ret->name);
        else
                ret->host = str_format("%s:%u", ret->name, (unsigned) port);
        return ret->host ? 0 : -ENOMEM;
}

static int origin_read(const char *url, Origin *ret, Error **reterr) {
        int r;

        r = origin_parse(url, ret);
        if (r < 0)
                origin_done(ret);
        if (r == -EINVAL)
                return error_set(reterr, r,
                                 "\"%s\" is no endpoint: http or https, ://, and a host, with a "
                                 "port or not, and nothing else",
                                 strchr(url, '@') ? "(a URL with \"@\")" : url);
        return r;
}

/* ---- what requests are made of ---- */

void endpoint_done(Endpoint *endpoint) {
        free(endpoint->base);
        free(endpoint->host);
        free(endpoint->path);
        free(endpoint->region);
        *endpoint = (Endpoint){ 0 };
}

/* host is consumed. */
static int endpoint_fill(const char *scheme, char *host, const char *bucket_in_path,
                         const char *region, Endpoint *ret) {
        Endpoint endpoint = { .host = host };

        if (host) {
                endpoint.base = str_format("%s://%s", scheme, host);
                endpoint.path = bucket_in_path ? str_format("/%s", bucket_in_path) : strdup("");
                endpoint.region = strdup(region);
        }
        if (!endpoint.base || !endpoint.path || !endpoint.region) {
                endpoint_done(&endpoint);
                return -ENOMEM;
        }
        *ret = endpoint;
        return 0;
}

static int region_check(const EndpointSpec *spec, Error **reterr) {
        if (str_is_empty(spec->region))
                return error_set(reterr, -EINVAL, "no region is known: set `region`");
        if (endpoint_is_region(spec->region) || (spec->endpoint && is_any_region(spec->region)))
                return 0;
        return error_set(reterr, -EINVAL, "\"%s\" is no region: they look like eu-west-1",
                         spec->region);
}

static int options_check(const EndpointSpec *spec, Error **reterr) {
        if (spec->path_style && spec->virtual_host)
                return error_set(reterr, -EINVAL,
                                 "`path_style` and `virtual_host` exclude each other");
        if (spec->endpoint && (spec->dualstack || spec->fips))
                return error_set(reterr, -EINVAL,
                                 "`%s` chooses one of AWS's own endpoints and excludes `endpoint`",
                                 spec->dualstack ? "dualstack" : "fips");
        if (!spec->endpoint && spec->fips && !partition_of(spec->region)->has_fips)
                return error_set(reterr, -EINVAL, "there are no FIPS endpoints in %s",
                                 spec->region);
        return 0;
}

static int spec_check(const EndpointSpec *spec, Error **reterr) {
        int r;

        r = region_check(spec, reterr);
        return r < 0 ? r : options_check(spec, reterr);
}

static const char *domain_of(const EndpointSpec *spec) {
        return str_is_empty(spec->domain) ? endpoint_domain(spec->region) : spec->domain;
}

static int s3_at_given(const EndpointSpec *spec, const char *bucket, Endpoint *ret,
                       Error **reterr) {
        Origin origin = { 0 };
        bool in_path;
        int r;

        r = origin_read(spec->endpoint, &origin, reterr);
        if (r < 0)
                return r;
        in_path = !spec->virtual_host || origin.is_address || strchr(bucket, '.');
        r = endpoint_fill(origin.scheme,
                          in_path ? strdup(origin.host) : str_format("%s.%s", bucket, origin.host),
                          in_path ? bucket : NULL, spec->region, ret);
        origin_done(&origin);
        return r;
}

static int s3_at_aws(const EndpointSpec *spec, const char *bucket, Endpoint *ret) {
        bool in_path = spec->path_style || strchr(bucket, '.');

        return endpoint_fill("https",
                             str_format("%s%ss3%s%s.%s.%s", in_path ? "" : bucket,
                                        in_path ? "" : ".", spec->fips ? "-fips" : "",
                                        spec->dualstack ? ".dualstack" : "", spec->region,
                                        domain_of(spec)),
                             in_path ? bucket : NULL, spec->region, ret);
}

int endpoint_s3(const EndpointSpec *spec, const char *bucket, Endpoint *ret, Error **reterr) {
        int r;

        r = bucket_check(bucket, reterr);
        if (r < 0)
                return r;
        r = spec_check(spec, reterr);
        if (r < 0)
                return r;
        return spec->endpoint ? s3_at_given(spec, bucket, ret, reterr)
                              : s3_at_aws(spec, bucket, ret);
}

static int service_at_given(const EndpointSpec *spec, Endpoint *ret, Error **reterr) {
        Origin origin = { 0 };
        int r;

        r = origin_read(spec->endpoint, &origin, reterr);
        if (r < 0)
                return r;
        r = endpoint_fill(origin.scheme, strdup(origin.host), NULL, spec->region, ret);
        origin_done(&origin);
        return r;
}

int endpoint_service(const EndpointSpec *spec, const char *service, Endpoint *ret, Error **reterr) {
        const Partition *partition;
        int r;

        r = spec_check(spec, reterr);
        if (r < 0)
                return r;
        if (spec->endpoint)
                return service_at_given(spec, ret, reterr);
        partition = partition_of(spec->region);
        if (spec->dualstack && !partition->dualstack)
                return error_set(reterr, -EINVAL, "there are no dual-stack endpoints in %s",
                                 spec->region);
        return endpoint_fill("https",
                             str_format("%s%s.%s.%s", service, spec->fips ? "-fips" : "",
                                        spec->region,
                                        spec->dualstack ? partition->dualstack : domain_of(spec)),
                             NULL, spec->region, ret);
}
