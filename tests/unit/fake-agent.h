#pragma once

/*
 * An agent that knows nothing, behind a real control server, in a process of its own; and a client
 * that speaks bytes. For tests of the server, the client and the verbs. Restart and Reload are the
 * tests' hand on it, Explain tells what they want to know of it.
 *
 *   1. start(&setup, bounds or NULL)
 *   2. raw_connect(), raw_call(), assert_reply()...
 *   3. stop(&setup): the process must have lived through it all without a leak
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "../../agent/control/peer.h"
#include "agent/limits.h"
#include "base/str.h"
#include "loop/unixsock.h"

#define READER_GID 61001

/* ---- an agent in a process of its own, that knows nothing ---- */

typedef struct Fake {
        sd_event *loop;
        ControlServer *server;
        ControlCall *waiting[8];
        size_t n_waiting;
        ControlCall *monitor;
        unsigned n_gone;
        unsigned n_reloads;
        unsigned n_slices; /* waits for the deploy d2: the third one finds it ended */
} Fake;

static int fake_status(void *userdata, ControlStatus *ret) {
        const Fake *fake = userdata;
        ControlProcess *p;

        ret->agent = strdup("0.1.0");
        ret->host = strdup("h1");
        ret->current.label = strdup("v1");
        ret->current.revision = 7;
        ret->store_ok = true;
        ret->health = strdup("ok");
        if (fake->n_slices > 0) {
                ret->deploy.id = strdup("d2");
                ret->deploy.stage = strdup("fetch");
                ret->deploy.percent = 40;
        }
        p = json_array_add(&ret->processes, &(const JsonTable){ NULL, sizeof(ControlProcess) }, 4);
        p->name = strdup("web");
        p->pid = 42;
        return strv_add(&ret->warnings, 4, "unsigned: true");
}

static int fake_health(_unused_ void *userdata, ControlCall *call) {
        (void) control_reply(
                call, &control_health_table,
                &(ControlHealth){ .healthy = true, .health = (char[]){ "ok" }, .status = 200 },
                false);
        return CONTROL_LATER;
}

/* What the tests want to know of this process. */
static int fake_explain(void *userdata, ControlExplain *ret) {
        Fake *fake = userdata;
        _cleanup_free_ char *text =
                str_format("gone %u, waiting %zu, clients %u, reloads %u, monitor %d", fake->n_gone,
                           fake->n_waiting, control_server_n_clients(fake->server), fake->n_reloads,
                           fake->monitor != NULL);

        return strv_add(&ret->sentences, 4, text);
}

/* How the store is reached: another way after each Reload. */
static int fake_store(void *userdata, ControlCall *call) {
        static char url[] = "s3://bucket/p", role[] = "instance role shop", key[] = "****ABCD",
                    ends[] = "2099-01-01T00:00:00Z", past[] = "2020-01-01T00:00:00Z",
                    endpoint[] = "https://bucket.s3.eu-west-1.amazonaws.com", bare[] = "bare",
                    unknown[] = "unknown", region[] = "eu-west-1", folder[] = "file:///srv/store",
                    clock[] = "this host's clock is 20 min ahead of the server's",
                    error[] = "IMDS: \033no answer", environment[] = "environment: not set",
                    imds[] = "IMDS: no answer";
        char *tried[] = { environment, imds, NULL };
        const ControlStore stores[] = {
                { .url = url,
                  .remote = true,
                  .credentials = { .source = role,
                                   .key_id = key,
                                   .ends = ends,
                                   .refreshed = past,
                                   .tried = tried },
                  .store = { .endpoint = endpoint,
                             .region = region,
                             .etag_form = bare,
                             .clock = clock,
                             .n_requests = 7,
                             .n_retries = 2,
                             .n_throttled = 1 } },
                { .url = folder },
                { .url = url,
                  .remote = true,
                  .credentials = { .error = error, .failed = past, .tried = tried },
                  .store = { .etag_form = unknown, .error = error, .failed = past } },
                { .url = url,
                  .remote = true,
                  .credentials = { .source = role, .key_id = key, .ends = past, .error = error } },
                { .remote = false },
        };
        const Fake *fake = userdata;

        if (fake->n_reloads >= ELEMENTS(stores))
                control_fail(call, CONTROL_ERROR_FAILED, "tendril-net does not start");
        else
                (void) control_reply(call, &control_store_table, &stores[fake->n_reloads], false);
        return CONTROL_LATER;
}

static int fake_history(_unused_ void *userdata, const ControlHistoryAsk *ask, bool with_output,
                        ControlHistory *ret, Error **reterr) {
        DeployRecord *record;
        HookRecord *hook;

        if (ask->limit == 99)
                return error_set(reterr, -EIO, "read the records: \033[31mboom");
        record = json_array_add(&ret->deploys, &deploy_record_table, 4);
        record->format = 1;
        record->id = strdup("d1");
        record->label = strdup(with_output ? "with" : "without");
        hook = json_array_add(&record->hooks, &hook_record_table, 4);
        hook->phase = strdup("prebuild");
        hook->name = strdup("10-x");
        hook->origin = strdup("host");
        hook->started = strdup("2026-01-01T00:00:00Z");
        hook->result = strdup("ok");
        /* On purpose also where it must not be seen: the server itself takes it away. */
        return strv_add(&hook->tail, 4, "password=hunter2");
}

static int fake_logs(_unused_ void *userdata, const ControlLogsAsk *ask, ControlLogs *ret,
                     _unused_ Error **reterr) {
        if (str_equal(ask->deploy, "huge")) {
                ret->text = calloc(1, LIMIT_REPLY_BYTES + 1);
                memset(ret->text, 'x', LIMIT_REPLY_BYTES);
                return 0;
        }
        ret->offset = ask->offset;
        ret->more = str_equal(ask->deploy, "d2") && ask->offset == 0;
        if (str_equal(ask->deploy, "d2") && ask->offset > 0)
                return 0;
        ret->text = strdup("line\n");
        ret->offset = ask->offset + 5;
        return 0;
}

static int fake_deploy(_unused_ void *userdata, const ControlDeployAsk *ask, ControlStarted *ret,
                       Error **reterr) {
        if (str_equal(ask->bundle, "/busy"))
                return error_set(reterr, -EBUSY, "another deploy is under way");
        if (str_equal(ask->bundle, "/refuse"))
                return error_set(reterr, -EINVAL, "no such label");
        if (str_equal(ask->bundle, "/silent"))
                return -ENOSPC;
        ret->deploy = strdup("d2");
        ret->text = strdup(ask->version ?: ask->retry ? "retry" : "resume");
        return 0;
}

static int fake_rollback(_unused_ void *userdata, ControlStarted *ret, _unused_ Error **reterr) {
        ret->text = strdup("there is no previous version");
        return 0;
}

static void send_status(Fake *fake, bool more) {
        ControlStatus status = { 0 };

        assert_int_equal(fake_status(fake, &status), 0);
        (void) control_reply(fake->monitor, &control_status_table, &status, more);
        json_table_done(&control_status_table, &status);
        if (!more)
                fake->monitor = NULL;
}

/* Restart is the tests' hand on this process. */
static int fake_restart(void *userdata, const ControlRestartAsk *ask, ControlText *ret,
                        _unused_ Error **reterr) {
        Fake *fake = userdata;

        ret->text = strdup("done");
        if (str_equal(ask->process, "change") && fake->monitor)
                send_status(fake, true);
        if (str_equal(ask->process, "end") && fake->monitor)
                send_status(fake, false);
        for (int i = 0; i < 20000 && str_equal(ask->process, "flood") && fake->monitor; i++)
                send_status(fake, true);
        return 0;
}

/* Reload answers all who wait. */
static int fake_reload(void *userdata, ControlText *ret, _unused_ Error **reterr) {
        Fake *fake = userdata;

        fake->n_reloads++;
        for (size_t i = 0; i < fake->n_waiting; i++)
                (void) control_reply(fake->waiting[i], &control_wait_table,
                                     &(ControlWait){ .result = (char[]){ "done" } }, false);
        fake->n_waiting = 0;
        ret->text = strdup("reloaded");
        return 0;
}

static int fake_wait(void *userdata, const ControlWaitAsk *ask, ControlCall *call) {
        Fake *fake = userdata;

        if (str_equal(ask->deploy, "now"))
                (void) control_reply(call, &control_wait_table,
                                     &(ControlWait){ .result = (char[]){ "failed" } }, false);
        else if (str_equal(ask->deploy, "d2"))
                (void) control_reply(
                        call, &control_wait_table,
                        fake->n_slices++ < 2
                                ? &(ControlWait){ .result = (char[]){ "timeout" } }
                                : &(ControlWait){ .result = (char[]){ "rolled-back" },
                                                  .text = (char[]){ "the gate failed" } },
                        false);
        else if (ask->healthy)
                (void) control_reply(call, &control_wait_table,
                                     &(ControlWait){ .result = (char[]){ "healthy" },
                                                     .text = (char[]){ "v1 is well" } },
                                     false);
        else if (str_equal(ask->deploy, "none"))
                control_fail(call, CONTROL_ERROR_FAILED, "no deploy none");
        else
                fake->waiting[fake->n_waiting++] = call;
        return CONTROL_LATER;
}

static int fake_monitor(void *userdata, ControlCall *call) {
        Fake *fake = userdata;

        fake->monitor = call;
        send_status(fake, true);
        return CONTROL_LATER;
}

static void fake_on_gone(void *userdata, ControlCall *call) {
        Fake *fake = userdata;

        fake->n_gone++;
        if (fake->monitor == call)
                fake->monitor = NULL;
        for (size_t i = 0; i < fake->n_waiting; i++)
                if (fake->waiting[i] == call)
                        fake->waiting[i] = fake->waiting[--fake->n_waiting];
}

static int on_end(sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents,
                  _unused_ void *userdata) {
        return sd_event_exit(sd_event_source_get_event(s), 0);
}

/* ---- the fixture ---- */

typedef struct Setup {
        char dir[64];
        char *path;
        pid_t agent;
        int end_fd;
        void (*bounds)(ControlBounds *bounds);
} Setup;

static void run_agent(const Setup *setup, int ready_fd, int end_fd) {
        Fake fake = { 0 };
        const ControlOps ops = {
                .status = fake_status,
                .health = fake_health,
                .explain = fake_explain,
                .store = fake_store,
                .history = fake_history,
                .logs = fake_logs,
                .deploy = fake_deploy,
                .rollback = fake_rollback,
                .restart = fake_restart,
                .reload = fake_reload,
                .wait = fake_wait,
                .monitor = fake_monitor,
                .on_gone = fake_on_gone,
                .userdata = &fake,
        };
        ControlBounds *bounds;
        int r;

        if (sd_event_new(&fake.loop) < 0 ||
            control_server_new(fake.loop, setup->path, &ops, &fake.server, NULL) < 0)
                exit(1);
        bounds = control_server_bounds(fake.server);
        bounds->reader_gid = READER_GID;
        if (setup->bounds)
                setup->bounds(bounds);
        if (sd_event_add_io(fake.loop, NULL, end_fd, POLLIN, on_end, NULL) < 0 ||
            write(ready_fd, "x", 1) != 1)
                exit(1);
        (void) close(ready_fd);
        r = sd_event_loop(fake.loop);
        control_server_free(fake.server);
        sd_event_unref(fake.loop);
        exit(r == 0 ? 0 : 1);
}

static inline void start(Setup *setup, void (*bounds)(ControlBounds *)) {
        int ready[2], end[2];
        char c;

        *setup = (Setup){ .dir = "/tmp/test-server-XXXXXX", .bounds = bounds };
        assert_non_null(mkdtemp(setup->dir));
        assert_int_equal(chmod(setup->dir, 0755), 0);
        setup->path = str_format("%s/control.sock", setup->dir);
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        assert_int_equal(pipe2(end, O_CLOEXEC), 0);

        setup->agent = fork();
        assert_true(setup->agent >= 0);
        if (setup->agent == 0) {
                (void) close(ready[0]);
                (void) close(end[1]);
                run_agent(setup, ready[1], end[0]);
        }
        (void) close(ready[1]);
        (void) close(end[0]);
        assert_int_equal(read(ready[0], &c, 1), 1);
        (void) close(ready[0]);
        setup->end_fd = end[1];
}

/* The agent must have lived through it all, and leave nothing. */
static inline void stop(Setup *setup) {
        int status = -1;

        (void) close(setup->end_fd);
        assert_int_equal(waitpid(setup->agent, &status, 0), setup->agent);
        assert_int_equal(status, 0);
        assert_int_equal(access(setup->path, F_OK), -1);
        assert_int_equal(rmdir(setup->dir), 0);
        free(setup->path);
}

static inline int raw_connect(const Setup *setup) {
        int fd = -1;

        assert_int_equal(unixsock_connect(setup->path, &fd, NULL), 0);
        return fd;
}

static inline void raw_send(int fd, const char *data, size_t size) {
        assert_int_equal(send(fd, data, size, MSG_NOSIGNAL), size);
}

/* Sends a text with its NUL. */
static inline void raw_call(int fd, const char *text) {
        raw_send(fd, text, strlen(text) + 1);
}

/* One message; "" at the end of the connection. */
static inline const char *raw_receive(int fd, Buf *buf) {
        buf_clear(buf);
        for (;;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                char c;
                ssize_t n;

                assert_int_equal(poll(&p, 1, 10000), 1);
                n = recv(fd, &c, 1, 0);
                if (n <= 0 || c == '\0')
                        return buf_str(buf);
                assert_int_equal(buf_append(buf, &c, 1), 0);
        }
}

#define assert_reply(fd, expected)                                                                 \
        do {                                                                                       \
                _cleanup_(buf_done) Buf _buf = BUF_INIT(LIMIT_REPLY_BYTES);                        \
                assert_string_equal(raw_receive(fd, &_buf), expected);                             \
        } while (false)

#define assert_reply_has(fd, expected)                                                             \
        do {                                                                                       \
                _cleanup_(buf_done) Buf _buf = BUF_INIT(LIMIT_REPLY_BYTES);                        \
                if (!strstr(raw_receive(fd, &_buf), expected))                                     \
                        fail_msg("no \"%s\" in: %s", expected, buf_str(&_buf));                    \
        } while (false)

#define assert_end(fd) assert_reply(fd, "")

#define CALL(method) "{\"method\":\"io.tendril.Agent." method "\"}"
#define CALL_WITH(method, text)                                                                    \
        "{\"method\":\"io.tendril.Agent." method "\",\"parameters\":" text "}"
#define CALL_MORE(method)   "{\"method\":\"io.tendril.Agent." method "\",\"more\":true}"
#define CALL_ONEWAY(method) "{\"method\":\"io.tendril.Agent." method "\",\"oneway\":true}"
#define HEALTH_REPLY                                                                               \
        "{\"parameters\":{\"healthy\":true,\"health\":\"ok\",\"cause\":null,\"status\":200,"       \
        "\"took_ms\":0}}"

/* Until Explain says it: what the other process does is not ours to know the time of. */
static inline void await(int fd, const char *words) {
        for (int i = 0; i < 10000; i++) {
                _cleanup_(buf_done) Buf buf = BUF_INIT(LIMIT_REPLY_BYTES);

                raw_call(fd, CALL("Explain"));
                if (strstr(raw_receive(fd, &buf), words))
                        return;
        }
        fail_msg("never: %s", words);
}
