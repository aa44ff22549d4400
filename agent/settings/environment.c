#include "settings/environment.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/str.h"
#include "store/document.h"

#define NS_APPLICATION "aws:elasticbeanstalk:application"
#define NS_PROCESS     "aws:elasticbeanstalk:environment:process:default"
#define NS_COMMAND     "aws:elasticbeanstalk:command"

#define WARNINGS_MAX   64
#define PATH_MAX_BYTES 1024

/* Properties, the four of every process, and what a deploy adds. */
#define VARIABLES_MAX (LIMIT_SETTINGS + 64)

typedef struct Making {
        Effective *effective;
        char *application_path; /* "Application Healthcheck URL" */
} Making;

/* What is known of one option. take is given the value; it returns -EINVAL where it is not allowed.
 */
typedef struct Option {
        const char *ns;
        const char *name;
        int (*take)(Making *m, const char *value); /* NULL: kept, others act on it */
        const char *allowed;
} Option;

static const SettingDocument *setting_at(const JsonArray *settings, size_t i) {
        return (const SettingDocument *) settings->items + i;
}

static int replace_text(char **member, const char *text) {
        char *copy = strdup(text);

        if (!copy)
                return -ENOMEM;
        free(*member);
        *member = copy;
        return 0;
}

/* ---- single options ---- */

/* What may stand in the first line of a request. */
static bool is_request_path(const char *text) {
        const char *p;

        if (*text != '/' || strlen(text) > PATH_MAX_BYTES)
                return false;
        for (p = text; *p; p++)
                if (*p <= ' ' || *p > '~')
                        return false;
        return true;
}

static int take_path(Making *m, const char *value) {
        if (!*value)
                return 0;
        return is_request_path(value) ? replace_text(&m->effective->gate_path, value) : -EINVAL;
}

/* "/path", or "HTTP:80/path" as of a classic load balancer; "TCP:80" has no path: the configured
 * one stays. */
static int take_application_url(Making *m, const char *value) {
        static const char *const schemes[] = { "HTTP:", "HTTPS:", "TCP:", "SSL:", NULL };
        const char *const *scheme;
        size_t digits;

        if (!*value)
                return 0;
        if (is_request_path(value))
                return replace_text(&m->application_path, value);

        for (scheme = schemes; *scheme; scheme++)
                if (strncasecmp(value, *scheme, strlen(*scheme)) == 0)
                        break;
        if (!*scheme)
                return -EINVAL;

        value += strlen(*scheme);
        digits = strspn(value, "0123456789");
        value += digits;
        if (digits == 0 || digits > 5)
                return -EINVAL;
        if (!*value)
                return 0;
        return is_request_path(value) ? replace_text(&m->application_path, value) : -EINVAL;
}

static int take_status(Making *m, const char *value) {
        if (!*value)
                return 0;
        return config_status_valid(value) ? replace_text(&m->effective->gate_status, value)
                                          : -EINVAL;
}

static int take_overlap(Making *m, const char *value) {
        int i;

        for (i = 0; i < _OVERLAP_MAX; i++)
                if (str_equal(value, overlap_names[i])) {
                        m->effective->overlap = i;
                        return 0;
                }
        return -EINVAL;
}

static int take_gate_timeout(Making *m, const char *value) {
        usec_t usec;

        if (time_parse_span(value, &usec) < 0 || usec < SEC(1) || usec > SEC(86400))
                return -EINVAL;
        m->effective->gate_timeout_usec = usec;
        return 0;
}

static int take_gate_consecutive(Making *m, const char *value) {
        uint64_t n;

        if (str_to_u64(value, &n) < 0 || n < 1 || n > 100)
                return -EINVAL;
        m->effective->gate_consecutive = n;
        return 0;
}

static int take_command_timeout(Making *m, const char *value) {
        uint64_t n;

        if (str_to_u64(value, &n) < 0 || n < 1 || n > 3600)
                return -EINVAL;
        m->effective->command_usec = SEC(n);
        return 0;
}

/* clang-format off */
static const Option options[] = {
        { NS_APPLICATION, "Application Healthcheck URL", take_application_url,
          "a path (\"/health\"), or one with protocol and port (\"HTTP:80/health\")" },
        { NS_PROCESS, "HealthCheckPath", take_path, "a path that begins with \"/\"" },
        { NS_PROCESS, "MatcherHTTPCode", take_status,
          "HTTP status codes (\"200\", \"200,302\", \"200-399\")" },
        { NS_PROCESS, "DeregistrationDelay",        NULL, NULL },
        { NS_PROCESS, "HealthCheckInterval",        NULL, NULL },
        { NS_PROCESS, "HealthCheckTimeout",         NULL, NULL },
        { NS_PROCESS, "HealthyThresholdCount",      NULL, NULL },
        { NS_PROCESS, "UnhealthyThresholdCount",    NULL, NULL },
        { NS_PROCESS, "Port",                       NULL, NULL },
        { NS_PROCESS, "Protocol",                   NULL, NULL },
        { NS_PROCESS, "StickinessEnabled",          NULL, NULL },
        { NS_PROCESS, "StickinessLBCookieDuration", NULL, NULL },
        { NS_PROCESS, "StickinessType",             NULL, NULL },
        { NS_COMMAND, "Timeout", take_command_timeout, "seconds from 1 to 3600" },
        { NS_COMMAND, "DeploymentPolicy",            NULL, NULL },
        { NS_COMMAND, "BatchSizeType",               NULL, NULL },
        { NS_COMMAND, "BatchSize",                   NULL, NULL },
        { NS_COMMAND, "IgnoreHealthCheck",           NULL, NULL },
        { NS_COMMAND, "HealthCheckSuccessThreshold", NULL, NULL },
        { SETTINGS_NS_DEPLOY, "Overlap", take_overlap, "web, all, none" },
        { SETTINGS_NS_DEPLOY, "GateTimeout", take_gate_timeout, "1s to 1d" },
        { SETTINGS_NS_DEPLOY, "GateConsecutive", take_gate_consecutive, "1 to 100" },
};
/* clang-format on */

static const Option *find_option(const char *ns, const char *name, bool *ret_known_ns) {
        size_t i;

        *ret_known_ns = false;
        for (i = 0; i < ELEMENTS(options); i++) {
                if (!str_equal(options[i].ns, ns))
                        continue;
                *ret_known_ns = true;
                if (str_equal(options[i].name, name))
                        return &options[i];
        }
        return NULL;
}

/* Text from outside for a sentence. NULL: no memory. */
static char *shown(const char *text) {
        return str_printable(text, strnlen(text, 128));
}

static int refuse_value(const char *ns, const char *option, const char *value, const char *allowed,
                        Error **reterr) {
        _cleanup_free_ char *v = shown(value);

        return error_set(reterr, -EINVAL, "setting %s %s: \"%s\" is not allowed; allowed: %s", ns,
                         option, v ?: "?", allowed);
}

static int warn_unknown(const SettingDocument *setting, char ***warnings) {
        _cleanup_free_ char *name = shown(setting->option), *text = NULL;
        int r;

        text = str_format("setting %s \"%s\" is not known here and not acted on", setting->ns,
                          name ?: "?");
        if (!text)
                return -ENOMEM;
        r = strv_add(warnings, WARNINGS_MAX, text);
        return r == -E2BIG ? 0 : r;
}

static int take_setting(Making *m, const SettingDocument *setting, Error **reterr) {
        const Option *option;
        bool known_ns;
        int r = 0;

        option = find_option(setting->ns, setting->option, &known_ns);
        if (option && option->take)
                r = option->take(m, setting->value);
        else if (known_ns && !option)
                r = warn_unknown(setting, &m->effective->warnings);

        if (r == -EINVAL)
                return refuse_value(setting->ns, setting->option, setting->value, option->allowed,
                                    reterr);
        return r < 0 ? error_set(reterr, r, "settings: out of memory") : r;
}

/* ---- all together ---- */

/* The value of a property without building all of them; NULL: there is none. */
static const char *find_property(const Config *config, const JsonArray *settings, const char *name,
                                 const char **ret_where) {
        size_t i;

        *ret_where = SETTINGS_NS_PROPERTIES;
        for (i = settings->n; i > 0; i--)
                if (str_equal(setting_at(settings, i - 1)->ns, SETTINGS_NS_PROPERTIES) &&
                    str_equal(setting_at(settings, i - 1)->option, name))
                        return setting_at(settings, i - 1)->value;

        *ret_where = "application.environment";
        return json_map_get(&config->app.environment, name);
}

static int take_user_port(const Config *config, const JsonArray *settings, Effective *ret,
                          Error **reterr) {
        const char *value, *where;
        uint64_t port;

        value = find_property(config, settings, HOOK_ENV_PORT, &where);
        if (str_is_empty(value))
                return 0;
        if (str_to_u64(value, &port) < 0 || port < 1 || port > 65535)
                return refuse_value(where, HOOK_ENV_PORT, value, "a port from 1 to 65535", reterr);

        ret->insisted_port = port;
        return 0;
}

static void take_config(const Config *config, Effective *ret) {
        *ret = (Effective){
                .gate_consecutive = config->gate.consecutive,
                .gate_interval_usec = config->gate.interval_usec,
                .gate_check_usec = config->gate.check_usec,
                .gate_timeout_usec = config->gate.timeout_usec,
                .overlap = config->app.overlap,
                .command_usec = config->hooks.timeout_usec,
        };
}

/* What no setting said. */
static int take_rest(const Config *config, Making *m) {
        Effective *e = m->effective;
        int r = 0;

        if (!e->gate_path)
                r = replace_text(&e->gate_path, m->application_path ?: config->gate.path ?: "/");
        if (r >= 0 && !e->gate_status)
                r = replace_text(&e->gate_status, config->gate.status ?: "200-399");
        return r;
}

int effective_make(const Config *config, const JsonArray *settings, Effective *ret,
                   Error **reterr) {
        _cleanup_(effective_done) Effective made = { 0 };
        _cleanup_free_ char *path = NULL;
        Making m = { .effective = &made };
        size_t i;
        int r;

        assert(config);
        assert(settings);

        take_config(config, &made);
        for (i = 0, r = 0; r >= 0 && i < settings->n; i++)
                r = take_setting(&m, setting_at(settings, i), reterr);
        path = m.application_path;
        if (r >= 0)
                r = take_user_port(config, settings, &made, reterr);
        if (r < 0)
                return r;
        if (take_rest(config, &m) < 0)
                return error_set(reterr, -ENOMEM, "settings: out of memory");

        *ret = made;
        made = (Effective){ 0 };
        return 0;
}

void effective_done(Effective *effective) {
        free(effective->gate_path);
        free(effective->gate_status);
        (void) strv_free(effective->warnings);
        *effective = (Effective){ 0 };
}

/* ---- properties ---- */

static int add_property(JsonMap *map, const char *where, const char *name, const char *value,
                        Error **reterr) {
        _cleanup_free_ char *printable = NULL;
        int r;

        if (!config_name_is_valid(name)) {
                printable = shown(name);
                return error_set(reterr, -EINVAL,
                                 "setting %s \"%s\": not a name for an environment property; "
                                 "allowed: A-Z a-z 0-9 _, not beginning with a digit",
                                 where, printable ?: "?");
        }

        r = json_map_set(map, LIMIT_SETTINGS, name, value);
        if (r == -E2BIG)
                return error_set(reterr, r, "more than %d environment properties", LIMIT_SETTINGS);
        return r < 0 ? error_set(reterr, r, "environment properties: out of memory") : 0;
}

int environment_properties(const Config *config, const JsonArray *settings, JsonMap *ret,
                           Error **reterr) {
        _cleanup_(json_map_done) JsonMap map = { 0 };
        const JsonMap *own = &config->app.environment;
        const SettingDocument *setting;
        size_t i;
        int r = 0;

        for (i = 0; r >= 0 && i < own->n; i++)
                r = add_property(&map, "application.environment", own->pairs[i].name,
                                 own->pairs[i].value, reterr);

        for (i = 0; r >= 0 && i < settings->n; i++) {
                setting = setting_at(settings, i);
                if (str_equal(setting->ns, SETTINGS_NS_PROPERTIES))
                        r = add_property(&map, setting->ns, setting->option, setting->value,
                                         reterr);
        }
        if (r < 0)
                return r;

        *ret = map;
        map = (JsonMap){ 0 };
        return 0;
}

/* ---- the environment of a process ---- */

static int add_defaults(JsonMap *map, const EnvironmentSpec *spec) {
        _cleanup_free_ char *port = NULL;
        int r;

        r = json_map_set(map, VARIABLES_MAX, HOOK_ENV_PATH, spec->path ?: ENVIRONMENT_PATH);
        if (r >= 0)
                r = json_map_set(map, VARIABLES_MAX, "LANG", ENVIRONMENT_LANG);
        if (r >= 0 && spec->home)
                r = json_map_set(map, VARIABLES_MAX, HOOK_ENV_HOME, spec->home);
        if (r < 0 || spec->port == 0)
                return r;

        port = str_format("%llu", (unsigned long long) spec->port);
        return port ? json_map_set(map, VARIABLES_MAX, HOOK_ENV_PORT, port) : -ENOMEM;
}

static int add_extra(JsonMap *map, const char *variable) {
        const char *equals = strchr(variable, '=');
        _cleanup_free_ char *name = NULL;

        if (!equals)
                return -EINVAL;
        name = strndup(variable, (size_t) (equals - variable));
        return name ? json_map_set(map, VARIABLES_MAX, name, equals + 1) : -ENOMEM;
}

static char **map_to_strv(const JsonMap *map) {
        _cleanup_(strv_freep) char **list = NULL;
        size_t i;

        list = calloc(map->n + 1, sizeof(char *));
        if (!list)
                return NULL;

        for (i = 0; i < map->n; i++) {
                list[i] = str_format("%s=%s", map->pairs[i].name, map->pairs[i].value);
                if (!list[i])
                        return NULL;
        }
        return TAKE_PTR(list);
}

char **environment_build(const EnvironmentSpec *spec) {
        _cleanup_(json_map_done) JsonMap map = { 0 };
        const JsonMap *properties = spec->properties;
        char *const *extra;
        size_t i;
        int r;

        r = add_defaults(&map, spec);
        for (i = 0; r >= 0 && properties && i < properties->n; i++)
                r = json_map_set(&map, VARIABLES_MAX, properties->pairs[i].name,
                                 properties->pairs[i].value);
        for (extra = spec->extra; r >= 0 && extra && *extra; extra++)
                r = add_extra(&map, *extra);
        return r < 0 ? NULL : map_to_strv(&map);
}

/* ---- secrets ---- */

static int compare_longest_first(const void *a, const void *b) {
        size_t n = strlen(*(char *const *) a), k = strlen(*(char *const *) b);

        return n < k ? 1 : n > k ? -1 : 0;
}

char **environment_secrets(const JsonMap *properties) {
        _cleanup_(strv_freep) char **list = NULL;
        const JsonPair *pair;
        size_t i, n = 0;

        list = calloc((properties ? properties->n : 0) + 1, sizeof(char *));
        if (!list)
                return NULL;

        for (i = 0; properties && i < properties->n; i++) {
                pair = &properties->pairs[i];
                if (!config_name_is_secret(pair->name) ||
                    strlen(pair->value) < ENVIRONMENT_SECRET_BYTES ||
                    strv_contains(list, pair->value))
                        continue;
                list[n] = strdup(pair->value);
                if (!list[n++])
                        return NULL;
        }
        qsort(list, n, sizeof(char *), compare_longest_first);
        return TAKE_PTR(list);
}
