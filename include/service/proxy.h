#pragma once

/*
 * nginx in front of the application. The configuration is text made from a ProxyConfig by a pure
 * function; it changes only when what it is made from changes, never by a switch: which slot is
 * served is looked up for each request (service/slot.h), because a reload cuts kept-alive
 * connections (measured: facts of the README's switch section).
 *
 * A bundle's own texts come from root's copy (control/): conf.d/X.conf into http{},
 * conf.d/elasticbeanstalk/X.conf into server{}, as in Elastic Beanstalk. `open_file_cache off`
 * stands in every server that looks up the slot, else a cache of the bundle's would delay the turn.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/time.h"
#include "service/slot.h"

typedef struct ProxyConfig {
        uint16_t port;        /* that people ask: 80 */
        uint16_t fixed_port;  /* the application's usual one (5000), answered by the proxy; 0: given
                                 up */
        uint16_t slot_port_a; /* where the version in each slot listens */
        uint16_t slot_port_b;
        const char *slot_dir;             /* absolute */
        const char *run_dir;              /* pid file, temporary folders, error log at start */
        const char *log_dir;              /* access.log, error.log */
        const char *user;                 /* of the workers, or NULL: no user line (unprivileged) */
        const char *const *http_includes; /* absolute paths, NULL-terminated, or NULL */
        const char *const *server_includes; /* absolute paths, NULL-terminated, or NULL */
        uint64_t max_body_bytes;            /* client_max_body_size; 0: nginx's default */
} ProxyConfig;

/* The text of nginx.conf, appended. Values never break out of their place: -EINVAL where a path has
 * characters that nginx cannot quote. */
int proxy_render(const ProxyConfig *config, Buf *ret, Error **reterr);

/* `nginx -t -c PATH`; r: 0, or -EINVAL with nginx's own sentence. program: absolute path. */
typedef struct ProxyTest ProxyTest;
typedef void (*ProxyTested)(void *userdata, int r, Error *err);
int proxy_test(sd_event *loop, const char *program, const char *conf_path, const char *run_dir,
               ProxyTested done, void *userdata, ProxyTest **ret, Error **reterr);
ProxyTest *proxy_test_cancel(ProxyTest *test);

/* The command line that runs nginx in the foreground with this configuration, for services_start().
 * The caller frees. */
char *proxy_command(const char *program, const char *conf_path, const char *run_dir);
