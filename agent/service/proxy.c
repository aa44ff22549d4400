#include "service/proxy.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "loop/child.h"

#define TEST_TIMEOUT_USEC SEC(20)

/* Elastic Beanstalk's name for the file that replaces the location of the application. */
#define APPLICATION_CONF "00_application.conf"

/* nginx reads text in double quotes to the next quote, with backslashes, and expands variables and
 * (in include) patterns. */
static bool path_is_plain(const char *path) {
        if (!path || path[0] != '/')
                return false;
        for (const char *p = path; *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f || strchr("\"\\$*?[", *p))
                        return false;
        return true;
}

/* "USER" or "USER GROUP"; without a group nginx takes the one of the user's name. */
static bool user_is_plain(const char *user) {
        static const char plain[] =
                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
        size_t n = strspn(user, plain);

        if (n == 0 || user[0] == '-')
                return false;
        if (user[n] == '\0')
                return true;
        user += n + 1;
        return user[-1] == ' ' && user[0] != '\0' && user[strspn(user, plain)] == '\0';
}

static int check_path(const char *what, const char *path, Error **reterr) {
        if (path_is_plain(path))
                return 0;
        return error_set(reterr, -EINVAL,
                         "proxy: %s '%s': must be an absolute path without control characters and "
                         "\" \\ $ * ? [",
                         what, path ?: "");
}

static int check_list(const char *what, const char *const *list, Error **reterr) {
        int r = 0;

        for (size_t i = 0; r >= 0 && list && list[i]; i++)
                r = check_path(what, list[i], reterr);
        return r;
}

static int check_config(const ProxyConfig *config, Error **reterr) {
        int r;

        r = check_path("slot folder", config->slot_dir, reterr);
        if (r >= 0)
                r = check_path("run folder", config->run_dir, reterr);
        if (r >= 0)
                r = check_path("log folder", config->log_dir, reterr);
        if (r >= 0)
                r = check_list("include", config->http_includes, reterr);
        if (r >= 0)
                r = check_list("include", config->server_includes, reterr);
        if (r < 0)
                return r;
        if (config->user && !user_is_plain(config->user))
                return error_set(reterr, -EINVAL, "proxy: '%s' is no name of a user", config->user);
        if (config->port == 0 || config->slot_port_a == 0 || config->slot_port_b == 0)
                return error_set(reterr, -EINVAL, "proxy: a port is missing");
        return 0;
}

/* What makes the process: not reached by a bundle's text. */
static int render_main(const ProxyConfig *config, Buf *ret) {
        int r = buf_append_str(ret, "# Made by tendril when its configuration or the bundle "
                                    "changes; changes by hand are lost.\n");

        if (r >= 0 && config->user)
                r = buf_printf(ret, "user %s;\nworker_rlimit_nofile 65536;\n", config->user);
        if (r >= 0)
                r = buf_printf(ret,
                               "worker_processes auto;\n"
                               "pid \"%s/nginx.pid\";\n"
                               "error_log \"%s/error.log\" warn;\n\n"
                               "events {\n"
                               "    worker_connections %u;\n"
                               "}\n\n",
                               config->run_dir, config->log_dir, config->user ? 4096U : 1024U);
        return r;
}

/* Names and formats as a bundle written for Elastic Beanstalk expects them (its log format "main",
 * $connection_upgrade). Of the other directives of http{} none is set here that a bundle may set:
 * nginx refuses a second one. */
static int render_http(const ProxyConfig *config, Buf *ret) {
        static const char *const temporary[] = { "client_body", "proxy", "fastcgi", "uwsgi",
                                                 "scgi" };
        int r;

        r = buf_append_str(
                ret,
                "http {\n"
                "    include /etc/nginx/mime.type[s];\n"
                "    default_type application/octet-stream;\n"
                "    log_format main '$remote_addr - $remote_user [$time_local] \"$request\" '\n"
                "                    '$status $body_bytes_sent \"$http_referer\" '\n"
                "                    '\"$http_user_agent\" \"$http_x_forwarded_for\"';\n");
        for (size_t i = 0; r >= 0 && i < ELEMENTS(temporary); i++)
                r = buf_printf(ret, "    %s_temp_path \"%s/%s\";\n", temporary[i], config->run_dir,
                               temporary[i]);
        if (r < 0)
                return r;
        return buf_append_str(ret, "\n"
                                   "    map $http_upgrade $connection_upgrade {\n"
                                   "        default \"upgrade\";\n"
                                   "        \"\" \"\";\n"
                                   "    }\n"
                                   "    # A load balancer in front says what people came with.\n"
                                   "    map $http_x_forwarded_proto $tendril_proto {\n"
                                   "        default $http_x_forwarded_proto;\n"
                                   "        \"\" $scheme;\n"
                                   "    }\n");
}

/* Two seconds: an old version counts as drained when no connection to it is left. */
static int render_upstream(char slot, uint16_t port, Buf *ret) {
        return buf_printf(ret,
                          "\n"
                          "    upstream slot_%c {\n"
                          "        server 127.0.0.1:%u;\n"
                          "        keepalive 64;\n"
                          "        keepalive_timeout 2s;\n"
                          "    }\n",
                          slot, port);
}

static int render_includes(const char *const *list, const char *indent, Buf *ret) {
        int r = 0;

        for (size_t i = 0; r >= 0 && list && list[i]; i++)
                r = buf_printf(ret, "%s%sinclude \"%s\";\n", i == 0 ? "\n" : "", indent, list[i]);
        return r;
}

/* The look-up stands in the location and not in the server, so that a bundle's own open_file_cache
 * there is no second one. What was sent already and is not idempotent is never sent twice (nginx's
 * own rule); a kept-alive connection that the application closed is. */
static int render_location(const ProxyConfig *config, const char *headers, Buf *ret) {
        return buf_printf(ret,
                          "\n"
                          "        location / {\n"
                          "            open_file_cache off;\n"
                          "            set $tendril_slot slot_a;\n"
                          "            if (-e \"%s/b\") {\n"
                          "                set $tendril_slot slot_b;\n"
                          "            }\n"
                          "            proxy_pass http://$tendril_slot;\n"
                          "            proxy_http_version 1.1;\n"
                          "            proxy_next_upstream error;\n"
                          "            proxy_set_header Upgrade $http_upgrade;\n"
                          "            proxy_set_header Connection $connection_upgrade;\n"
                          "%s",
                          config->slot_dir, headers);
}

static bool replaces_application(const char *const *includes) {
        for (size_t i = 0; includes && includes[i]; i++)
                if (str_has_suffix(includes[i], "/" APPLICATION_CONF))
                        return true;
        return false;
}

static int render_server(const ProxyConfig *config, Buf *ret) {
        int r;

        r = buf_printf(ret,
                       "\n"
                       "    server {\n"
                       "        listen %u default_server;\n"
                       "        server_name _;\n"
                       "        access_log \"%s/access.log\" main;\n",
                       config->port, config->log_dir);
        if (r >= 0)
                r = render_includes(config->server_includes, "        ", ret);
        if (r >= 0 && !replaces_application(config->server_includes)) {
                r = render_location(
                        config,
                        "            proxy_set_header Host $host;\n"
                        "            proxy_set_header X-Real-IP $remote_addr;\n"
                        "            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n"
                        "            proxy_set_header X-Forwarded-Proto $tendril_proto;\n",
                        ret);
                if (r >= 0 && config->max_body_bytes > 0)
                        r = buf_printf(ret, "            client_max_body_size %llu;\n",
                                       (unsigned long long) config->max_body_bytes);
                if (r >= 0)
                        r = buf_append_str(ret, "        }\n");
        }
        return r < 0 ? r : buf_append_str(ret, "    }\n");
}

/* The application's usual port: asked by locations of the bundle (who came from the server above,
 * whose headers go on as they are) and by programs on this host. */
static int render_fixed(const ProxyConfig *config, Buf *ret) {
        int r;

        if (config->fixed_port == 0 || config->fixed_port == config->port)
                return 0;
        r = buf_printf(ret,
                       "\n"
                       "    server {\n"
                       "        listen 127.0.0.1:%u;\n"
                       "        server_name _;\n"
                       "        access_log off;\n"
                       "        client_max_body_size 0;\n",
                       config->fixed_port);
        if (r >= 0)
                r = render_location(config, "            proxy_set_header Host $http_host;\n", ret);
        return r < 0 ? r : buf_append_str(ret, "        }\n    }\n");
}

int proxy_render(const ProxyConfig *config, Buf *ret, Error **reterr) {
        int r;

        assert(config);
        assert(ret);

        r = check_config(config, reterr);
        if (r < 0)
                return r;
        r = render_main(config, ret);
        if (r >= 0)
                r = render_http(config, ret);
        if (r >= 0)
                r = render_upstream('a', config->slot_port_a, ret);
        if (r >= 0)
                r = render_upstream('b', config->slot_port_b, ret);
        if (r >= 0)
                r = render_includes(config->http_includes, "    ", ret);
        if (r >= 0)
                r = render_server(config, ret);
        if (r >= 0)
                r = render_fixed(config, ret);
        if (r >= 0)
                r = buf_append_str(ret, "}\n");
        return r < 0 ? error_set(reterr, r, "proxy: %s", strerror(-r)) : 0;
}

/* -------- nginx -t -------- */

struct ProxyTest {
        Child *child;
        char *sentence; /* nginx's own: its first [emerg] line, else its last line */
        bool is_emerg;
        ProxyTested done;
        void *userdata;
};

ProxyTest *proxy_test_cancel(ProxyTest *test) {
        if (!test)
                return NULL;
        test->child = child_free(test->child);
        free(test->sentence);
        free(test);
        return NULL;
}
DEFINE_CLEANUP(ProxyTest, proxy_test_cancel);

static void test_on_line(Child *child, const char *line, void *userdata) {
        ProxyTest *test = userdata;
        const char *emerg = strstr(line, "[emerg] ");

        (void) child;
        if (test->is_emerg)
                return;
        char *kept = emerg ? strdup(emerg + strlen("[emerg] ")) : str_printable(line, strlen(line));
        if (!kept)
                return;
        free(test->sentence);
        test->sentence = kept;
        test->is_emerg = emerg;
}

static void test_on_exit(Child *child, const ChildExit *how, void *userdata) {
        _cleanup_(proxy_test_cancelp) ProxyTest *test = userdata;
        _cleanup_(error_freep) Error *err = NULL;
        char text[96];
        int r = 0;

        (void) child;
        child_exit_text(how, text);
        if (how->timed_out)
                r = error_set(&err, -ETIMEDOUT,
                              "the test of the proxy's configuration did not end: %s", text);
        else if (how->code != 0)
                r = error_set(&err, -EINVAL, "nginx refuses the configuration: %s",
                              test->sentence ?: text);
        test->done(test->userdata, r, err);
}

int proxy_test(sd_event *loop, const char *program, const char *conf_path, const char *run_dir,
               ProxyTested done, void *userdata, ProxyTest **ret, Error **reterr) {
        _cleanup_(proxy_test_cancelp) ProxyTest *test = calloc(1, sizeof(*test));
        _cleanup_free_ char *log = str_format("%s/test.log", run_dir);
        int r;

        assert(done);
        assert(ret);

        if (!test || !log)
                return -ENOMEM;
        test->done = done;
        test->userdata = userdata;

        const char *const argv[] = {
                program, "-t", "-c", conf_path, "-p", run_dir, "-e", log, NULL
        };
        char **copy = strv_copy((char *const *) (uintptr_t) argv);
        if (!copy)
                return -ENOMEM;
        r = child_spawn(loop,
                        &(ChildSpec){ .name = "nginx -t",
                                      .argv = copy,
                                      .timeout_usec = TEST_TIMEOUT_USEC,
                                      .on_line = test_on_line,
                                      .on_exit = test_on_exit,
                                      .userdata = test },
                        &test->child, reterr);
        (void) strv_free(copy);
        if (r < 0)
                return error_wrap(reterr, r, "test the proxy's configuration");
        *ret = TAKE_PTR(test);
        return 0;
}

/* -------- the command line -------- */

/* For sh: in single quotes, with '\'' for one. */
static int append_quoted(Buf *buf, const char *text) {
        int r = buf_append(buf, "'", 1);

        for (; r >= 0 && *text; text++)
                r = *text == '\'' ? buf_append_str(buf, "'\\''") : buf_append(buf, text, 1);
        return r < 0 ? r : buf_append(buf, "'", 1);
}

char *proxy_command(const char *program, const char *conf_path, const char *run_dir) {
        _cleanup_(buf_done) Buf command = BUF_INIT(LIMIT_COMMAND_BYTES);
        _cleanup_free_ char *log = str_format("%s/start.log", run_dir);
        const char *const parts[] = { program, "-c", conf_path, "-p",         run_dir,
                                      "-e",    log,  "-g",      "daemon off;" };
        int r = log ? buf_append_str(&command, "exec") : -ENOMEM;

        for (size_t i = 0; r >= 0 && i < ELEMENTS(parts); i++) {
                r = buf_append(&command, " ", 1);
                if (r >= 0)
                        r = append_quoted(&command, parts[i]);
        }
        return r < 0 ? NULL : buf_steal(&command);
}
