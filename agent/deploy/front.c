#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/crc.h"
#include "base/file.h"
#include "base/str.h"
#include "deploy/stage.h"
#include "loop/log.h"

/*
 * The proxy before the application. Its text changes only with what it is made from. A bundle's own
 * texts are copied, unread, to proxy/NAME/, where NAME says what they are: the same texts in the
 * next version give the same names, and so no reload.
 */

#define CONF_FILE  "nginx.conf"
#define PROXY_NAME "proxy"

static int copy_text(int from_fd, const char *path, int to_fd, const char *name, uint32_t *crc,
                     Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_CONFIG_BYTES);
        int r;

        r = file_read_at(from_fd, path, &text);
        if (r >= 0 && to_fd >= 0)
                r = file_write_at(to_fd, name, text.data ? text.data : "", text.size, 0644,
                                  FILE_REPLACE | FILE_SYNC);
        if (r < 0)
                return error_set(reterr, r, "copy %s of the bundle for the proxy: %s", path,
                                 strerror(-r));
        *crc = crc32c(*crc, path, strlen(path) + 1);
        *crc = crc32c(*crc, buf_str(&text), text.size);
        return 0;
}

static const char *base_name(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

/* to_fd < 0: only the checksum. */
static int copy_all(Deploy *d, int to_fd, uint32_t *ret_crc, Error **reterr) {
        _cleanup_close_ int control = version_open(d->p, &d->p->state->attempt.target, "control");
        char **lists[] = { d->plan.proxy_http, d->plan.proxy_server };
        const char *const subs[] = { "http", "server" };
        int r = 0;

        if (control < 0)
                return error_set(reterr, control, "open control/ of the new version: %s",
                                 strerror(-control));
        *ret_crc = 0;
        for (size_t i = 0; i < ELEMENTS(lists) && r >= 0; i++) {
                _cleanup_close_ int sub = to_fd < 0 ? -EBADF : file_mkdirs_at(to_fd, subs[i], 0755);

                if (to_fd >= 0 && sub < 0)
                        return error_set(reterr, sub, "make proxy/%s: %s", subs[i], strerror(-sub));
                for (char **f = lists[i]; f && *f && r >= 0; f++)
                        r = copy_text(control, *f, sub, base_name(*f), ret_crc, reterr);
        }
        return r;
}

static int keep_includes(Deploy *d, Error **reterr) {
        AttemptState *a = &d->p->state->attempt;
        _cleanup_close_ int fd = -EBADF;
        uint32_t crc;
        int r;

        free(a->target.proxy);
        a->target.proxy = NULL;
        if (strv_count(d->plan.proxy_http) + strv_count(d->plan.proxy_server) == 0)
                return 0;
        r = copy_all(d, -EBADF, &crc, reterr);
        if (r < 0)
                return r;
        a->target.proxy = str_format("include-%08x", crc);
        if (!a->target.proxy)
                return error_set(reterr, -ENOMEM, "proxy: out of memory");
        fd = file_mkdirs_at(d->p->proxy_fd, a->target.proxy, 0755);
        if (fd < 0)
                return error_set(reterr, fd, "make proxy/%s: %s", a->target.proxy, strerror(-fd));
        return copy_all(d, fd, &crc, reterr);
}

/* The user of nginx's workers: as configured, else the one its package made. */
static const char *workers_user(const Config *config) {
        static const char *const usual[] = { "nginx", "www-data", "nobody" };

        if (geteuid() != 0)
                return NULL;
        if (config->proxy.user)
                return config->proxy.user;
        for (size_t i = 0; i < ELEMENTS(usual); i++)
                if (getpwnam(usual[i]))
                        return usual[i];
        return NULL;
}

static int list_includes(Pipeline *p, const VersionState *v, const char *sub, char ***ret,
                         Error **reterr) {
        _cleanup_(strv_freep) char **paths = NULL;
        Plan plan = { 0 };
        char **names;
        int r;

        if (!v->proxy)
                return 0;
        r = version_plan(p, v, &plan, reterr);
        if (r < 0)
                return r;
        names = str_equal(sub, "http") ? plan.proxy_http : plan.proxy_server;
        for (char **f = names; f && *f && r >= 0; f++) {
                _cleanup_free_ char *path = NULL;

                path = str_format("%s/proxy/%s/%s/%s", p->spec.paths->state, v->proxy, sub,
                                  base_name(*f));
                r = path ? strv_add(&paths, LIMIT_HOOKS, path) : -ENOMEM;
        }
        json_table_done(&plan_table, &plan);
        if (r < 0)
                return error_set(reterr, r, "the proxy's includes: %s", strerror(-r));
        *ret = TAKE_PTR(paths);
        return 0;
}

static uint16_t port_of(Pipeline *p, const VersionState *v, Slot slot) {
        const VersionState *in[] = { v, &p->state->current };

        for (size_t i = 0; i < ELEMENTS(in); i++)
                if (in[i]->label && slot_from_name(in[i]->slot) == slot && in[i]->port > 0)
                        return (uint16_t) in[i]->port;
        return (uint16_t) (slot == SLOT_A ? p->config->app.slot_port_a
                                          : p->config->app.slot_port_b);
}

int front_render(Pipeline *p, const VersionState *v, bool fixed_port, char **ret, Error **reterr) {
        _cleanup_(strv_freep) char **http = NULL, **server = NULL;
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_CONFIG_BYTES);
        ProxyConfig c = {
                .port = (uint16_t) p->config->proxy.port,
                .fixed_port = (uint16_t) (fixed_port ? p->config->app.port : 0),
                .slot_port_a = port_of(p, v, SLOT_A),
                .slot_port_b = port_of(p, v, SLOT_B),
                .slot_dir = p->spec.paths->slot,
                .run_dir = p->spec.paths->run,
                .log_dir = p->spec.paths->log,
                .user = workers_user(p->config),
                .max_body_bytes = p->config->proxy.max_body_bytes,
        };
        int r;

        r = list_includes(p, v, "http", &http, reterr);
        if (r >= 0)
                r = list_includes(p, v, "server", &server, reterr);
        if (r < 0)
                return r;
        c.http_includes = (const char *const *) http;
        c.server_includes = (const char *const *) server;
        r = proxy_render(&c, &text, reterr);
        if (r < 0)
                return r;
        *ret = buf_steal(&text);
        return *ret ? 0 : error_set(reterr, -ENOMEM, "proxy: out of memory");
}

static bool is_installed(Pipeline *p, const char *text) {
        _cleanup_(buf_done) Buf now = BUF_INIT(LIMIT_CONFIG_BYTES);

        return file_read_at(p->proxy_fd, CONF_FILE, &now) == 0 && str_equal(buf_str(&now), text);
}

int front_stage(Deploy *d, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        int r;

        if (d->plan.proxy_main)
                deploy_event(d,
                             "%s is not used: a whole nginx.conf of a bundle is not supported yet",
                             d->plan.proxy_main);
        r = keep_includes(d, reterr);
        if (r >= 0)
                r = front_render(d->p, &d->p->state->attempt.target, d->p->state->fixed_port, &text,
                                 reterr);
        if (r < 0)
                return r;
        free(d->proxy_text);
        d->proxy_text = is_installed(d->p, text) ? NULL : TAKE_PTR(text);
        return 0;
}

static int start_proxy(Pipeline *p, bool adopt, Error **reterr) {
        static const char *const env_text[] = { "PATH=" ENVIRONMENT_PATH,
                                                "LANG=" ENVIRONMENT_LANG };
        _cleanup_(strv_freep) char **env = NULL;
        _cleanup_free_ char *command = NULL, *conf = NULL;
        const ServiceRecord *records = p->state->services.items;
        ServiceSpec spec = { .slot = SLOT_NONE, .name = PROXY_NAME, .stop_usec = SEC(10) };
        bool adopted;
        int r = 0;

        conf = str_format("%s/proxy/" CONF_FILE, p->spec.paths->state);
        command = conf ? proxy_command(p->config->proxy.program, conf, p->spec.paths->run) : NULL;
        for (size_t i = 0; i < ELEMENTS(env_text) && r >= 0; i++)
                r = strv_add(&env, 8, env_text[i]);
        if (!command || r < 0)
                return error_set(reterr, -ENOMEM, "start the proxy: out of memory");
        spec.command = command;
        spec.env = env;
        spec.uid = geteuid();
        spec.gid = getegid();
        for (size_t i = 0; adopt && i < p->state->services.n; i++)
                if (str_equal(records[i].name, PROXY_NAME) && str_is_empty(records[i].slot))
                        return services_adopt(p->services, &spec, &records[i], &adopted, reterr);
        return services_start(p->services, &spec, reterr);
}

int front_use(Pipeline *p, const VersionState *v, bool fixed_port, bool *ret_changed,
              Error **reterr) {
        _cleanup_free_ char *text = NULL;
        ServiceStatus s;
        int r;

        *ret_changed = false;
        if (p->config->proxy.kind == PROXY_NONE)
                return 0;
        r = front_render(p, v, fixed_port, &text, reterr);
        if (r < 0)
                return r;
        if (!is_installed(p, text)) {
                r = file_write_at(p->proxy_fd, CONF_FILE, text, strlen(text), 0644,
                                  FILE_REPLACE | FILE_SYNC | FILE_KEEP_PREVIOUS);
                if (r < 0)
                        return error_set(reterr, r, "write the proxy's configuration: %s",
                                         strerror(-r));
                *ret_changed = true;
        }
        if (!services_find(p->services, SLOT_NONE, PROXY_NAME, &s))
                return start_proxy(p, false, reterr);
        if (*ret_changed)
                (void) services_signal(p->services, SLOT_NONE, PROXY_NAME, SIGHUP);
        return 0;
}

int front_adopt(Pipeline *p, Error **reterr) {
        if (p->config->proxy.kind == PROXY_NONE || !file_exists_at(p->proxy_fd, CONF_FILE))
                return 0;
        return start_proxy(p, true, reterr);
}
