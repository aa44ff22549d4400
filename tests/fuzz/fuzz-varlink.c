/*
 * Bytes of a client to a real control server, in one write and again byte by byte: every answer is
 * a reply, both times the same ones, and the server goes on. And the same bytes as an answer to the
 * client's side.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../../agent/control/peer.h"
#include "agent/limits.h"
#include "base/str.h"
#include "loop/unixsock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* More is written by no client in one go: the socket's buffer must hold it while nobody reads. */
#define INPUT_MAX (80 * 1024)

/* Turns of the loop after which a server that has not closed is taken for one that never will. */
#define TURNS_MAX 1000000

static void must(bool holds) {
        if (!holds)
                abort();
}

/* ---- an agent that says yes ---- */

static int on_status(_unused_ void *userdata, ControlStatus *ret) {
        ret->host = strdup("h");
        return 0;
}

static int on_call(_unused_ void *userdata, ControlCall *call) {
        (void) control_reply(call, &control_status_table, &(ControlStatus){ .hold = true }, false);
        return CONTROL_LATER;
}

static int on_explain(_unused_ void *userdata, ControlExplain *ret) {
        return strv_add(&ret->sentences, 1, "so");
}

static int on_history(_unused_ void *userdata, const ControlHistoryAsk *ask,
                      _unused_ bool with_output, _unused_ ControlHistory *ret, Error **reterr) {
        return ask->limit > 7 ? error_set(reterr, -EIO, "no") : 0;
}

static int on_logs(_unused_ void *userdata, const ControlLogsAsk *ask, ControlLogs *ret,
                   _unused_ Error **reterr) {
        must(!ask->deploy || str_is_label(ask->deploy));
        ret->offset = ask->offset;
        return 0;
}

static int on_deploy(_unused_ void *userdata, const ControlDeployAsk *ask, ControlStarted *ret,
                     _unused_ Error **reterr) {
        must(!ask->bundle || ask->bundle[0] == '/');
        must(!ask->version || str_is_label(ask->version));
        must((ask->bundle ? 1 : 0) + ask->retry + ask->resume == 1);
        ret->text = strdup(ask->bundle ?: "yes");
        return 0;
}

static int on_rollback(_unused_ void *userdata, _unused_ ControlStarted *ret, Error **reterr) {
        return error_set(reterr, -EBUSY, "no");
}

static int on_restart(_unused_ void *userdata, const ControlRestartAsk *ask, ControlText *ret,
                      _unused_ Error **reterr) {
        ret->text = ask->process ? strdup(ask->process) : NULL;
        return 0;
}

static int on_reload(_unused_ void *userdata, _unused_ ControlText *ret, _unused_ Error **reterr) {
        return -EPERM;
}

static int on_wait(_unused_ void *userdata, const ControlWaitAsk *ask, ControlCall *call) {
        must(ask->timeout_usec > 0);
        control_fail(call, CONTROL_ERROR_FAILED, ask->deploy ?: "healthy");
        return CONTROL_LATER;
}

static void on_gone(_unused_ void *userdata, _unused_ ControlCall *call) {
}

/* ---- */

typedef struct Fixture {
        char dir[32];
        char *path;
        sd_event *loop;
        ControlServer *server;
} Fixture;

static void fixture_done(Fixture *f) {
        control_server_free(f->server);
        sd_event_unref(f->loop);
        free(f->path);
        (void) rmdir(f->dir);
}

static void fixture_init(Fixture *f) {
        const ControlOps ops = {
                .status = on_status,
                .health = on_call,
                .explain = on_explain,
                .store = on_call,
                .history = on_history,
                .logs = on_logs,
                .deploy = on_deploy,
                .rollback = on_rollback,
                .restart = on_restart,
                .reload = on_reload,
                .wait = on_wait,
                .monitor = on_call,
                .on_gone = on_gone,
        };

        *f = (Fixture){ .dir = "/tmp/fuzz-varlink-XXXXXX" };
        must(mkdtemp(f->dir) != NULL);
        f->path = str_format("%s/s", f->dir);
        must(f->path && sd_event_new(&f->loop) >= 0);
        must(control_server_new(f->loop, f->path, &ops, &f->server, NULL) == 0);
}

static void turn(Fixture *f) {
        while (sd_event_run(f->loop, 0) > 0)
                ;
}

/* Reads what is there. False: the server has closed. */
static bool drain(int fd, Buf *ret) {
        for (;;) {
                char *to = buf_reserve(ret, 65536);
                ssize_t n;

                must(to != NULL);
                n = recv(fd, to, 65536, MSG_DONTWAIT);
                if (n > 0)
                        buf_commit(ret, (size_t) n);
                else
                        return n < 0 && errno == EAGAIN;
        }
}

static void check_replies(const Buf *replies) {
        for (size_t at = 0; at < replies->size;) {
                const char *end = memchr(replies->data + at, '\0', replies->size - at);
                ReplyMessage message = { 0 };

                must(end != NULL);
                must(reply_message_parse(replies->data + at, (size_t) (end - replies->data) - at,
                                         &message, NULL) == 0);
                must(message.error || message.parameters);
                reply_message_done(&message);
                at = (size_t) (end - replies->data) + 1;
        }
}

static void converse(Fixture *f, const uint8_t *data, size_t size, size_t step, Buf *ret) {
        int fd = -1, turns = 0;

        must(unixsock_connect(f->path, &fd, NULL) == 0);
        turn(f);
        for (size_t at = 0; at < size; at += step) {
                if (send(fd, data + at, MIN(step, size - at), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                        break;
                if (step < size)
                        turn(f);
        }
        must(shutdown(fd, SHUT_WR) == 0 || errno == ENOTCONN);
        do
                turn(f);
        while (drain(fd, ret) && turns++ < TURNS_MAX);
        must(turns < TURNS_MAX);
        (void) close(fd);
        turn(f);
        must(control_server_n_clients(f->server) == 0);
        check_replies(ret);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(buf_done) Buf whole = BUF_INIT(64 << 20), split = BUF_INIT(64 << 20);
        ReplyMessage reply = { 0 };
        Fixture f;

        if (size > INPUT_MAX)
                return 0;

        fixture_init(&f);
        converse(&f, data, size, size + 1, &whole);
        if (size < 2048) {
                converse(&f, data, size, 1, &split);
                must(whole.size == split.size &&
                     (whole.size == 0 || memcmp(whole.data, split.data, whole.size) == 0));
        }
        fixture_done(&f);

        if (reply_message_parse((const char *) data, size, &reply, NULL) == 0)
                reply_message_done(&reply);
        return 0;
}
