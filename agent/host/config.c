#include "host/config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/merge.h"
#include "base/str.h"

#define VARIABLE_PREFIX "TENDRIL_"

#define PEM_PUBLIC  "-----BEGIN PUBLIC KEY-----"
#define PEM_PRIVATE "PRIVATE KEY-----"

/* JSON numbers of others are exact up to here. */
#define MAX_REVISION ((UINT64_C(1) << 53) - 1)
#define MAX_BYTES    (UINT64_C(1) << 50)
#define MAX_PORT     65535

const char *const overlap_names[] = { "web", "all", "none", NULL };

static const char *const proxy_kind_names[] = { "nginx", "none", NULL };
static const char *const identity_names[] = { "auto", "imds", "name", NULL };
static const char *const purpose_names[] = { "publish", "assign", NULL };

/* clang-format off */
#define ROW(type, key, what, at, ...) \
        { .name = key, .kind = JSON_KIND_##what, .offset = offsetof(type, at), __VA_ARGS__ }
#define TEXT(type, key, at, most)          ROW(type, key, STRING, at, .min = 1, .max = (most))
#define NUMBER(type, key, at, least, most) ROW(type, key, U64, at, .min = (least), .max = (most))
#define SPAN(type, key, at, least, most)   ROW(type, key, SPAN, at, .min = (least), .max = (most))
#define PORT(type, key, at)                NUMBER(type, key, at, 1, MAX_PORT)
#define END                                    { .name = NULL }

static const JsonField store_fields[] = {
        TEXT(ConfigStore, "url", url, 1024),
        TEXT(ConfigStore, "region", region, 64),
        TEXT(ConfigStore, "endpoint", endpoint, 255),
        TEXT(ConfigStore, "ca_file", ca_file, LIMIT_STRING_BYTES),
        ROW(ConfigStore, "path_style", BOOL, path_style),
        ROW(ConfigStore, "virtual_host", BOOL, virtual_host),
        ROW(ConfigStore, "dualstack", BOOL, dualstack),
        ROW(ConfigStore, "fips", BOOL, fips),
        ROW(ConfigStore, "id", LABEL, id),
        ROW(ConfigStore, "unsigned", BOOL, unsigned_ok),
        END
};
static const JsonTable store_table = { store_fields, sizeof(ConfigStore) };

static const JsonField identity_fields[] = {
        ROW(ConfigIdentity, "source", ENUM, source, .names = identity_names),
        TEXT(ConfigIdentity, "tag", tag, 128),
        END
};
static const JsonTable identity_table = { identity_fields, sizeof(ConfigIdentity) };

static const JsonField key_fields[] = {
        ROW(ConfigKey, "id", LABEL, id, .flags = JSON_REQUIRED),
        ROW(ConfigKey, "purpose", ENUM, purpose, .flags = JSON_REQUIRED, .names = purpose_names),
        TEXT(ConfigKey, "pem", pem, LIMIT_KEY_BYTES),
        TEXT(ConfigKey, "file", file, LIMIT_STRING_BYTES),
        TEXT(ConfigKey, "ends", ends, 64),
        END
};
static const JsonTable key_table = { key_fields, sizeof(ConfigKey) };

static const JsonField app_fields[] = {
        TEXT(ConfigApp, "user", user, 64),
        PORT(ConfigApp, "port", port),
        PORT(ConfigApp, "slot_a_port", slot_port_a),
        PORT(ConfigApp, "slot_b_port", slot_port_b),
        ROW(ConfigApp, "overlap", ENUM, overlap, .names = overlap_names),
        SPAN(ConfigApp, "start_timeout", start_usec, MSEC(100), SEC(3600)),
        SPAN(ConfigApp, "stop_timeout", stop_usec, MSEC(10), SEC(3600)),
        SPAN(ConfigApp, "drain_timeout", drain_usec, 0, SEC(3600)),
        NUMBER(ConfigApp, "log_bytes", log_bytes, 4096, MAX_BYTES),
        ROW(ConfigApp, "environment", MAP, environment,
            .flags = JSON_SECRET, .max = LIMIT_SETTINGS),
        END
};
static const JsonTable app_table = { app_fields, sizeof(ConfigApp) };

static const JsonField gate_fields[] = {
        TEXT(ConfigGate, "path", path, 1024),
        TEXT(ConfigGate, "status", status, 256),
        NUMBER(ConfigGate, "consecutive", consecutive, 1, 100),
        SPAN(ConfigGate, "interval", interval_usec, MSEC(10), SEC(600)),
        SPAN(ConfigGate, "check_timeout", check_usec, MSEC(10), SEC(600)),
        SPAN(ConfigGate, "timeout", timeout_usec, MSEC(100), SEC(86400)),
        END
};
static const JsonTable gate_table = { gate_fields, sizeof(ConfigGate) };

static const JsonField proxy_fields[] = {
        ROW(ConfigProxy, "kind", ENUM, kind, .names = proxy_kind_names),
        PORT(ConfigProxy, "port", port),
        TEXT(ConfigProxy, "program", program, LIMIT_STRING_BYTES),
        TEXT(ConfigProxy, "user", user, 64),
        NUMBER(ConfigProxy, "max_body_bytes", max_body_bytes, 0, MAX_BYTES),
        END
};
static const JsonTable proxy_table = { proxy_fields, sizeof(ConfigProxy) };

static const JsonField hooks_fields[] = {
        SPAN(ConfigHooks, "timeout", timeout_usec, MSEC(100), SEC(86400)),
        SPAN(ConfigHooks, "kill", kill_usec, MSEC(10), SEC(600)),
        SPAN(ConfigHooks, "retry", retry_usec, MSEC(100), SEC(86400)),
        END
};
static const JsonTable hooks_table = { hooks_fields, sizeof(ConfigHooks) };

static const JsonField retention_fields[] = {
        NUMBER(ConfigRetention, "versions", versions, 1, 1000),
        NUMBER(ConfigRetention, "bytes", bytes, 0, MAX_BYTES),
        END
};
static const JsonTable retention_table = { retention_fields, sizeof(ConfigRetention) };

static const JsonField config_fields[] = {
        ROW(Config, "environment", LABEL, environment),
        ROW(Config, "host", LABEL, host),
        ROW(Config, "instance", LABEL, instance),
        ROW(Config, "identity", OBJECT, identity, .table = &identity_table),
        ROW(Config, "store", OBJECT, store, .table = &store_table),
        ROW(Config, "trusted_keys", ARRAY, trusted_keys, .max = LIMIT_KEYS, .table = &key_table),
        NUMBER(Config, "min_revision", min_revision, 0, MAX_REVISION),
        SPAN(Config, "poll", poll_usec, MSEC(100), SEC(600)),
        ROW(Config, "application", OBJECT, app, .table = &app_table),
        ROW(Config, "gate", OBJECT, gate, .table = &gate_table),
        ROW(Config, "proxy", OBJECT, proxy, .table = &proxy_table),
        ROW(Config, "hooks", OBJECT, hooks, .table = &hooks_table),
        ROW(Config, "retention", OBJECT, retention, .table = &retention_table),
        END
};
const JsonTable config_table = { config_fields, sizeof(Config) };

/* The slots listen above the ports that the kernel hands out to clients (32768 to 60999). */
static const char defaults[] =
        "instance: main\n"
        "poll: 5s\n"
        "identity:\n"
        "  tag: tendril:environment\n"
        "application:\n"
        "  user: webapp\n"
        "  port: 5000\n"
        "  slot_a_port: 61001\n"
        "  slot_b_port: 61002\n"
        "  overlap: web\n"
        "  start_timeout: 60s\n"
        "  stop_timeout: 20s\n"
        "  drain_timeout: 30s\n"
        "  log_bytes: 10485760\n"
        "gate:\n"
        "  path: /\n"
        "  status: 200-399\n"
        "  consecutive: 3\n"
        "  interval: 1s\n"
        "  check_timeout: 5s\n"
        "  timeout: 300s\n"
        "proxy:\n"
        "  kind: nginx\n"
        "  port: 80\n"
        "  program: /usr/sbin/nginx\n"
        "hooks:\n"
        "  timeout: 600s\n"
        "  kill: 10s\n"
        "  retry: 60s\n"
        "retention:\n"
        "  versions: 3\n";
/* clang-format on */

/* ---- small questions ---- */

bool config_name_is_secret(const char *name) {
        static const char *const marks[] = { "PASSWORD", "SECRET", "TOKEN", "KEY", "CREDENTIAL" };
        size_t i;

        for (i = 0; i < ELEMENTS(marks); i++)
                if (strcasestr(name, marks[i]))
                        return true;
        return false;
}

bool config_name_is_valid(const char *name) {
        static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
        size_t n = strspn(name, letters);

        return n > 0 && name[n + strspn(name + n, "0123456789"
                                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                  "abcdefghijklmnopqrstuvwxyz_")] == '\0';
}

/* A status of three digits at *text, which is moved behind it; 0: there is none. */
static unsigned take_status(const char **text) {
        unsigned n = 0;
        size_t i;

        for (i = 0; i < 3; i++) {
                if ((*text)[i] < '0' || (*text)[i] > '9')
                        return 0;
                n = 10 * n + (unsigned) ((*text)[i] - '0');
        }
        *text += 3;
        return n >= 100 && n <= 599 ? n : 0;
}

/* One "200" or "200-399" at the front of a list; returns what is behind it, NULL: it is none. */
static const char *take_range(const char *text, unsigned *ret_first, unsigned *ret_last) {
        *ret_first = *ret_last = take_status(&text);
        if (*ret_first > 0 && *text == '-') {
                text++;
                *ret_last = take_status(&text);
        }
        return *ret_first > 0 && *ret_last >= *ret_first ? text : NULL;
}

bool config_status_valid(const char *ranges) {
        unsigned first, last;

        for (;;) {
                ranges = take_range(ranges, &first, &last);
                if (!ranges)
                        return false;
                if (!*ranges)
                        return true;
                if (*ranges++ != ',')
                        return false;
        }
}

bool config_status_matches(const char *ranges, unsigned status) {
        unsigned first, last;

        for (;;) {
                ranges = take_range(ranges, &first, &last);
                if (!ranges)
                        return false;
                if (status >= first && status <= last)
                        return true;
                if (*ranges++ != ',')
                        return false;
        }
}

const char *config_source(const Config *config, const char *path) {
        return json_map_get(&config->sources, path) ?: "default";
}

int config_set_environment(Config *config, const char *environment, const char *source) {
        char *copy = strdup(environment);

        if (!copy)
                return -ENOMEM;
        free(config->environment);
        config->environment = copy;
        return json_map_set(&config->sources, SIZE_MAX, "environment", source) < 0 ? -ENOMEM : 0;
}

/* ---- what no table can say ---- */

static int _printf_(5, 6) refuse(const Config *config, Error **reterr, int code, const char *path,
                                 const char *format, ...) {
        _cleanup_free_ char *words = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&words, format, ap) < 0)
                words = NULL;
        va_end(ap);
        return error_set(reterr, code, "%s: %s: %s", config_source(config, path), path,
                         words ?: "not accepted");
}

static int refuse_text(const Config *config, Error **reterr, const char *path, const char *value,
                       const char *words) {
        _cleanup_free_ char *printable = str_printable(value, strnlen(value, 128));

        return refuse(config, reterr, -EBADMSG, path, "\"%s\" %s", printable ?: "?", words);
}

/* Of two that do not fit together the one to name: what somebody wrote is what to change. */
static const char *written(const Config *config, const char *path, const char *other) {
        return str_equal(config_source(config, path), "default") ? other : path;
}

typedef struct PortAt {
        const char *path;
        uint64_t port;
} PortAt;

static int refuse_port(const Config *config, Error **reterr, const PortAt *a, const PortAt *b) {
        const char *path = written(config, b->path, a->path);
        const char *other = path == a->path ? b->path : a->path;

        return refuse(config, reterr, -EBADMSG, path,
                      "%llu is %s too (%s); each needs a port of its own",
                      (unsigned long long) a->port, other, config_source(config, other));
}

static int check_ports(const Config *config, Error **reterr) {
        const PortAt ports[] = {
                { "proxy.port", config->proxy.port },
                { "application.port", config->app.port },
                { "application.slot_a_port", config->app.slot_port_a },
                { "application.slot_b_port", config->app.slot_port_b },
        };
        size_t i, k;

        for (i = config->proxy.kind == PROXY_NONE ? 1 : 0; i < ELEMENTS(ports); i++)
                for (k = i + 1; k < ELEMENTS(ports); k++)
                        if (ports[i].port == ports[k].port)
                                return refuse_port(config, reterr, &ports[i], &ports[k]);
        return 0;
}

static bool is_request_path(const char *text) {
        const char *p;

        for (p = text; *p; p++)
                if (*p <= ' ' || *p > '~')
                        return false;
        return *text == '/';
}

static int check_gate(const Config *config, Error **reterr) {
        const ConfigGate *gate = &config->gate;

        if (!is_request_path(gate->path))
                return refuse_text(config, reterr, "gate.path", gate->path,
                                   "is not a path of a request; allowed: printable ASCII without "
                                   "blanks, beginning with /");
        if (!config_status_valid(gate->status))
                return refuse_text(config, reterr, "gate.status", gate->status,
                                   "is not a list of HTTP status codes; allowed: codes from 100 "
                                   "to 599 and ranges, as in 200-399,404");
        if (gate->check_usec > gate->timeout_usec)
                return refuse(config, reterr, -EBADMSG,
                              written(config, "gate.check_timeout", "gate.timeout"),
                              "one check (gate.check_timeout) may take longer than the whole gate "
                              "(gate.timeout)");
        if ((gate->consecutive - 1) * gate->interval_usec > gate->timeout_usec)
                return refuse(config, reterr, -EBADMSG,
                              written(config, "gate.timeout",
                                      written(config, "gate.consecutive", "gate.interval")),
                              "%llu good checks (gate.consecutive), one each gate.interval, do not "
                              "fit into gate.timeout",
                              (unsigned long long) gate->consecutive);
        return 0;
}

static bool is_store_url(const char *url) {
        const char *prefix = str_has_prefix(url, "s3://") ? "s3://" : "file:///";

        return str_has_prefix(url, prefix) && url[strlen(prefix)];
}

static int check_store(const Config *config, Error **reterr) {
        const ConfigStore *store = &config->store;

        if (store->url && !is_store_url(store->url))
                return refuse_text(config, reterr, "store.url", store->url,
                                   "is not a store; allowed: file:///FOLDER, s3://BUCKET/PREFIX");
        if (store->endpoint && !str_has_prefix(store->endpoint, "https://") &&
            !str_has_prefix(store->endpoint, "http://"))
                return refuse_text(config, reterr, "store.endpoint", store->endpoint,
                                   "is not where a server answers; allowed: https://HOST[:PORT]");
        if (store->ca_file && store->ca_file[0] != '/')
                return refuse_text(config, reterr, "store.ca_file", store->ca_file,
                                   "is not an absolute path");
        return 0;
}

static int check_texts(const Config *config, Error **reterr) {
        int r = check_store(config, reterr);

        if (r < 0)
                return r;
        if (config->proxy.program[0] != '/')
                return refuse_text(config, reterr, "proxy.program", config->proxy.program,
                                   "is not an absolute path");
        return 0;
}

static int check_names(const Config *config, Error **reterr) {
        _cleanup_free_ char *path = NULL, *name = NULL;
        const JsonMap *map = &config->app.environment;
        size_t i;

        for (i = 0; i < map->n; i++) {
                if (config_name_is_valid(map->pairs[i].name))
                        continue;
                path = str_format("application.environment.%s", map->pairs[i].name);
                name = str_printable(map->pairs[i].name, strnlen(map->pairs[i].name, 128));
                return error_set(reterr, -EBADMSG,
                                 "%s: application.environment: \"%s\" is not a name for an "
                                 "environment property; allowed: A-Z a-z 0-9 _, not beginning "
                                 "with a digit",
                                 config_source(config, path ?: ""), name ?: "?");
        }
        return 0;
}

/* ---- keys ---- */

/* Links are followed: the folders above are root's. */
static int read_path(int dir_fd, const char *path, Buf *ret) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        return file_read_fd(fd, ret);
}

static const char *read_words(int r) {
        return r == -EFBIG ? "is too large" : r == -EINVAL ? "is not a regular file" : strerror(-r);
}

static int read_key(Config *config, ConfigKey *key, const char *path, const char *pem_path,
                    Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_KEY_BYTES);
        _cleanup_free_ char *printable = str_printable(key->file, strnlen(key->file, 256));
        int r;

        if (key->file[0] != '/')
                return refuse(config, reterr, -EBADMSG, path, "\"%s\" is not an absolute path",
                              printable ?: "?");

        r = read_path(AT_FDCWD, key->file, &text);
        if (r == -ENOMEM)
                return error_set(reterr, r, "read %s: out of memory", printable ?: "?");
        if (r < 0)
                return refuse(config, reterr, r, path, "%s: %s", printable ?: "?", read_words(r));
        if (!str_is_utf8(buf_str(&text), text.size, false))
                return refuse(config, reterr, -EBADMSG, path, "%s is not a text", printable ?: "?");

        key->pem = buf_steal(&text);
        if (!key->pem || json_map_set(&config->sources, SIZE_MAX, pem_path, key->file) < 0)
                return error_set(reterr, -ENOMEM, "read %s: out of memory", key->file);
        return 0;
}

static int check_key_text(const Config *config, const ConfigKey *key, const char *path,
                          Error **reterr) {
        if (strstr(key->pem, PEM_PRIVATE))
                return refuse(config, reterr, -EBADMSG, path,
                              "this is a private key, which belongs to the publisher alone; the "
                              "public one is wanted (openssl pkey -pubout)");
        if (!strstr(key->pem, PEM_PUBLIC))
                return refuse(config, reterr, -EBADMSG, path,
                              "not a public key in PEM (it begins with " PEM_PUBLIC ")");
        return 0;
}

static int check_key(Config *config, size_t i, ConfigKey *keys, Error **reterr) {
        _cleanup_free_ char *at = NULL, *id_at = NULL, *pem_at = NULL, *file_at = NULL,
                            *ends_at = NULL;
        ConfigKey *key = keys + i;
        usec_t ends;
        size_t k;
        int r;

        at = str_format("trusted_keys[%zu]", i);
        id_at = str_format("trusted_keys[%zu].id", i);
        pem_at = str_format("trusted_keys[%zu].pem", i);
        file_at = str_format("trusted_keys[%zu].file", i);
        ends_at = str_format("trusted_keys[%zu].ends", i);
        if (!at || !id_at || !pem_at || !file_at || !ends_at)
                return error_set(reterr, -ENOMEM, "trusted_keys: out of memory");

        for (k = 0; k < i; k++)
                if (str_equal(keys[k].id, key->id))
                        return refuse(config, reterr, -EBADMSG, id_at,
                                      "trusted_keys[%zu] is \"%s\" too; each key needs its own id",
                                      k, key->id);
        if (!key->pem == !key->file)
                return refuse(config, reterr, -EBADMSG, at,
                              "exactly one of pem and file is wanted, not %s",
                              key->pem ? "both" : "none");
        if (key->ends && time_parse(key->ends, &ends) < 0)
                return refuse_text(config, reterr, ends_at, key->ends,
                                   "is not a time; allowed: as in 2027-01-31T00:00:00Z (UTC)");

        r = key->file ? read_key(config, key, file_at, pem_at, reterr) : 0;
        return r < 0 ? r : check_key_text(config, key, key->file ? file_at : pem_at, reterr);
}

static int check_keys(Config *config, Error **reterr) {
        ConfigKey *keys = config->trusted_keys.items;
        size_t i;
        int r = 0;

        for (i = 0; r >= 0 && i < config->trusted_keys.n; i++)
                r = check_key(config, i, keys, reterr);
        return r;
}

/* ---- loading ---- */

static int merge_begin(Merge **ret, Error **reterr) {
        *ret = merge_new(&config_table);
        if (!*ret)
                return error_set(reterr, -ENOMEM, "configuration: out of memory");
        return merge_yaml(*ret, defaults, strlen(defaults), NULL, reterr);
}

static int merge_end(const Merge *merge, Config **ret, Error **reterr) {
        _cleanup_(config_freep) Config *config = calloc(1, sizeof(Config));
        int r;

        r = config ? merge_decode(merge, config, reterr)
                   : error_set(reterr, -ENOMEM, "configuration: out of memory");
        if (r < 0)
                return r;

        r = merge_sources(merge, &config->sources);
        if (r < 0)
                return error_set(reterr, r, "configuration: out of memory");

        r = check_texts(config, reterr);
        if (r >= 0)
                r = check_ports(config, reterr);
        if (r >= 0)
                r = check_gate(config, reterr);
        if (r >= 0)
                r = check_names(config, reterr);
        if (r >= 0)
                r = check_keys(config, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(config);
        return 0;
}

/* name: absolute, for words. A file that is not there is an empty one. */
static int merge_file(Merge *merge, int dir_fd, const char *file, const char *name,
                      Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_CONFIG_BYTES);
        int r;

        r = read_path(dir_fd, file, &text);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return error_set(reterr, r, "%s: %s", name, read_words(r));
        return merge_yaml(merge, buf_str(&text), text.size, name, reterr);
}

static int is_dropin(const struct dirent *entry) {
        return entry->d_name[0] != '.' && str_has_suffix(entry->d_name, ".yaml");
}

static int compare_bytes(const struct dirent **a, const struct dirent **b) {
        return strcmp((*a)->d_name, (*b)->d_name);
}

static int merge_names(Merge *merge, int dir_fd, const char *dir, struct dirent **entries, int n,
                       Error **reterr) {
        int i, r = 0;

        if (n > LIMIT_CONFIG_DROPINS)
                return error_set(reterr, -E2BIG, "%s: %d files are more than %d; merge some", dir,
                                 n, LIMIT_CONFIG_DROPINS);
        for (i = 0; r >= 0 && i < n; i++) {
                _cleanup_free_ char *name = str_format("%s/%s", dir, entries[i]->d_name);

                r = name ? merge_file(merge, dir_fd, entries[i]->d_name, name, reterr)
                         : error_set(reterr, -ENOMEM, "%s: out of memory", dir);
        }
        return r;
}

static int merge_dropins(Merge *merge, const char *dir, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        struct dirent **entries = NULL;
        int i, n, r;

        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
                return 0;
        n = fd < 0 ? -1 : scandirat(fd, ".", &entries, is_dropin, compare_bytes);
        if (n < 0)
                return error_set(reterr, -errno, "%s: %s", dir, strerror(errno));

        r = merge_names(merge, fd, dir, entries, n, reterr);
        for (i = 0; i < n; i++)
                free(entries[i]);
        free(entries);
        return r;
}

int config_load(const Paths *paths, char *const *env, Config **ret, Error **reterr) {
        _cleanup_(merge_freep) Merge *merge = NULL;
        int r;

        r = merge_begin(&merge, reterr);
        if (r >= 0)
                r = merge_file(merge, AT_FDCWD, paths->config, paths->config, reterr);
        if (r >= 0)
                r = merge_dropins(merge, paths->config_dir, reterr);
        if (r >= 0)
                r = merge_environment(merge, env, VARIABLE_PREFIX, reterr);
        return r < 0 ? r : merge_end(merge, ret, reterr);
}

int config_parse(const char *text, size_t size, const char *name, Config **ret, Error **reterr) {
        _cleanup_(merge_freep) Merge *merge = NULL;
        int r;

        r = merge_begin(&merge, reterr);
        if (r >= 0)
                r = merge_yaml(merge, text, size, name, reterr);
        return r < 0 ? r : merge_end(merge, ret, reterr);
}

Config *config_free(Config *config) {
        if (!config)
                return NULL;

        json_map_done(&config->sources);
        json_table_done(&config_table, config);
        free(config);
        return NULL;
}

/* ---- showing ---- */

typedef struct Visit {
        const Config *config;
        ConfigVisit visit;
        void *userdata;
} Visit;

static int visit_value(const Visit *v, const char *path, const char *value) {
        return v->visit(v->userdata, path, value, config_source(v->config, path));
}

/* As it may be written again. */
static void span_text(usec_t usec, char *ret, size_t size) {
        bool whole = usec % SEC(1) == 0;

        (void) snprintf(ret, size, "%llu%s",
                        (unsigned long long) (whole ? usec / SEC(1) : usec / MSEC(1)),
                        whole ? "s" : "ms");
}

/* A key on one line: what stands between its BEGIN and its END. The caller frees. */
static char *pem_line(const char *pem) {
        const char *p = strstr(pem, PEM_PUBLIC);
        char *line, *to;

        line = strdup(p ? p + strlen(PEM_PUBLIC) : pem);
        for (to = line, p = line; p && *p && *p != '-'; p++)
                if (*p > ' ')
                        *to++ = *p;
        if (line)
                *to = '\0';
        return line;
}

static int visit_text(const Visit *v, const char *path, const char *value) {
        _cleanup_free_ char *shown = NULL;

        if (!value)
                return visit_value(v, path, "");
        shown = strstr(value, "-----BEGIN ") ? pem_line(value)
                                             : str_printable(value, strlen(value));
        return shown ? visit_value(v, path, shown) : -ENOMEM;
}

static int visit_table(const Visit *v, const char *prefix, const JsonTable *table,
                       const void *object);

static int visit_map(const Visit *v, const char *path, const JsonMap *map) {
        size_t i;
        int r;

        if (map->n == 0)
                return visit_value(v, path, "");
        for (i = 0, r = 0; r >= 0 && i < map->n; i++) {
                _cleanup_free_ char *below = str_format("%s.%s", path, map->pairs[i].name);

                if (!below)
                        return -ENOMEM;
                r = config_name_is_secret(map->pairs[i].name)
                            ? visit_value(v, below, "***")
                            : visit_text(v, below, map->pairs[i].value);
        }
        return r;
}

static int visit_array(const Visit *v, const char *path, const JsonArray *array,
                       const JsonTable *table) {
        size_t i;
        int r;

        if (array->n == 0)
                return visit_value(v, path, "");
        for (i = 0, r = 0; r >= 0 && i < array->n; i++) {
                _cleanup_free_ char *below = str_format("%s[%zu]", path, i);

                r = below ? visit_table(v, below, table,
                                        (const char *) array->items + i * table->size)
                          : -ENOMEM;
        }
        return r;
}

static int visit_member(const Visit *v, const char *path, const JsonField *field,
                        const void *member) {
        char text[32];

        switch (field->kind) {
        case JSON_KIND_STRING:
        case JSON_KIND_LABEL:
        case JSON_KIND_SHA256:
                return visit_text(v, path, *(char *const *) member);
        case JSON_KIND_BOOL:
                return visit_value(v, path, *(const bool *) member ? "true" : "false");
        case JSON_KIND_ENUM:
                return visit_value(v, path, field->names[*(const int *) member]);
        case JSON_KIND_U64:
                (void) snprintf(text, sizeof(text), "%llu",
                                (unsigned long long) *(const uint64_t *) member);
                return visit_value(v, path, text);
        case JSON_KIND_SPAN:
                span_text(*(const usec_t *) member, text, sizeof(text));
                return visit_value(v, path, text);
        case JSON_KIND_MAP:
                return visit_map(v, path, member);
        case JSON_KIND_OBJECT:
                return visit_table(v, path, field->table, member);
        case JSON_KIND_ARRAY:
                return visit_array(v, path, member, field->table);
        case JSON_KIND_STRV:
        case JSON_KIND_ANY:
        default:
                return 0; /* no such row here */
        }
}

static int visit_table(const Visit *v, const char *prefix, const JsonTable *table,
                       const void *object) {
        const JsonField *field;
        int r = 0;

        for (field = table->fields; r >= 0 && field->name; field++) {
                _cleanup_free_ char *path =
                        str_format("%s%s%s", prefix, *prefix ? "." : "", field->name);

                r = path ? visit_member(v, path, field, (const char *) object + field->offset)
                         : -ENOMEM;
        }
        return r < 0 ? r : 0;
}

int config_visit(const Config *config, ConfigVisit visit, void *userdata) {
        Visit v = { config, visit, userdata };

        return visit_table(&v, "", &config_table, config);
}
