#include "control/client.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/limits.h"
#include "base/str.h"
#include "loop/unixsock.h"
#include "message.h"

#define READ_BYTES 65536

/* For the agent to take the connection and the call; its loop never blocks for longer. */
#define SEND_USEC SEC(30)

struct ControlClient {
        char *path;
        int fd; /* -EBADF: not connected (a call with "more" was broken off) */
        Buf in;
};

static int explain_connect(const char *path, int r, Error **reterr) {
        if (r == -ENOENT)
                return error_set(reterr, r,
                                 "no agent at %s; is tendrild started? (systemctl status tendrild)",
                                 path);
        if (r == -ECONNREFUSED)
                return error_set(reterr, r,
                                 "nobody listens at %s; the agent has ended (systemctl status "
                                 "tendrild)",
                                 path);
        if (r == -EACCES || r == -EPERM)
                return error_set(reterr, -EACCES,
                                 "the socket %s may not be used by this user; try it as root",
                                 path);
        return error_set(reterr, r, "connect to %s: %s", path, strerror(-r));
}

static int client_connect(ControlClient *client, Error **reterr) {
        int r;

        if (client->fd >= 0)
                return 0;
        r = unixsock_connect(client->path, &client->fd, NULL);
        if (r < 0) {
                client->fd = -EBADF;
                return explain_connect(client->path, r, reterr);
        }
        buf_clear(&client->in);
        return 0;
}

static void client_disconnect(ControlClient *client) {
        if (client->fd >= 0)
                (void) close(client->fd);
        client->fd = -EBADF;
}

int control_client_new(const char *path, ControlClient **ret, Error **reterr) {
        _cleanup_(control_client_freep) ControlClient *client = NULL;
        int r;

        assert(path);
        assert(ret);

        client = calloc(1, sizeof(ControlClient));
        if (!client)
                return error_set(reterr, -ENOMEM, "no memory");
        client->fd = -EBADF;
        buf_init(&client->in, LIMIT_REPLY_BYTES + READ_BYTES);
        client->path = strdup(path);
        if (!client->path)
                return error_set(reterr, -ENOMEM, "no memory");

        r = client_connect(client, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(client);
        return 0;
}

ControlClient *control_client_free(ControlClient *client) {
        if (!client)
                return NULL;
        client_disconnect(client);
        buf_done(&client->in);
        free(client->path);
        free(client);
        return NULL;
}

/* Waits until the socket is ready or the time has come. deadline USEC_INFINITY: for ever. */
static int wait_for(int fd, short events, usec_t deadline) {
        for (;;) {
                struct pollfd p = { .fd = fd, .events = events };
                usec_t now = clock_read(NULL, CLOCK_MONOTONIC);
                int timeout_ms = -1, n;

                if (deadline != USEC_INFINITY) {
                        if (now >= deadline)
                                return -ETIMEDOUT;
                        timeout_ms = (int) MIN((deadline - now) / 1000 + 1, UINT64_C(3600000));
                }
                n = poll(&p, 1, timeout_ms);
                if (n > 0)
                        return 0;
                if (n < 0 && errno != EINTR)
                        return -errno;
        }
}

/* -EPIPE where the agent has closed: it may have left an answer. */
static int client_send(ControlClient *client, const Buf *out) {
        usec_t deadline = clock_read(NULL, CLOCK_MONOTONIC) + SEND_USEC;
        size_t sent = 0;
        int r;

        while (sent < out->size) {
                ssize_t n = send(client->fd, out->data + sent, out->size - sent,
                                 MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n >= 0) {
                        sent += (size_t) n;
                        continue;
                }
                if (errno == EINTR)
                        continue;
                if (errno != EAGAIN)
                        return -errno;
                r = wait_for(client->fd, POLLOUT, deadline);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Reads until a whole message stands at the beginning of the buffer; its size without the NUL. */
static int client_receive(ControlClient *client, usec_t deadline, size_t *ret_size) {
        int r;

        for (;;) {
                const char *end =
                        client->in.size > 0 ? memchr(client->in.data, '\0', client->in.size) : NULL;
                ssize_t n;
                char *to;

                if (end) {
                        *ret_size = (size_t) (end - client->in.data);
                        return 0;
                }
                to = buf_reserve(&client->in, READ_BYTES);
                if (!to)
                        return -EFBIG;
                r = wait_for(client->fd, POLLIN, deadline);
                if (r < 0)
                        return r;
                n = recv(client->fd, to, READ_BYTES, MSG_DONTWAIT);
                if (n == 0)
                        return -ECONNRESET;
                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return -errno;
                if (n > 0)
                        buf_commit(&client->in, (size_t) n);
        }
}

/* What an error reply means here, with its words. */
static int explain_reply(const ReplyMessage *message, Error **reterr) {
        _cleanup_(error_freep) Error *ignored = NULL;
        ErrorParameters p = { 0 };
        const char *what;
        int code = -EREMOTEIO;

        if (message->parameters)
                (void) json_decode_value(message->parameters, &error_parameters_table, JSON_LENIENT,
                                         &p, &ignored);
        if (str_equal(message->error, CONTROL_ERROR_REFUSED))
                code = -EPERM;
        else if (str_equal(message->error, CONTROL_ERROR_BUSY))
                code = -EBUSY;

        what = p.parameter ?: p.method ?: p.interface;
        if (p.text)
                (void) error_set(reterr, code, "%s", p.text);
        else
                (void) error_set(reterr, code, "the agent answered %s%s%s%s", message->error,
                                 what ? " (" : "", what ?: "", what ? ")" : "");
        json_table_done(&error_parameters_table, &p);
        return code;
}

static int explain_transport(int r, Error **reterr) {
        if (r == -ETIMEDOUT)
                return error_set(reterr, r, "the agent did not answer in time");
        if (r == -ECONNRESET || r == -EPIPE)
                return error_set(
                        reterr, -ECONNRESET,
                        "the agent closed the connection; whether it did what was asked is "
                        "not known");
        if (r == -EFBIG)
                return error_set(reterr, -EBADMSG, "the agent's answer is too large");
        return error_set(reterr, r, "ask the agent: %s", strerror(-r));
}

/* Takes one reply off the connection and decodes it; *ret_continues: more will come. */
static int client_take_reply(ControlClient *client, const JsonTable *table, usec_t deadline,
                             void *ret, bool *ret_continues, Error **reterr) {
        _cleanup_(reply_message_done) ReplyMessage message = { 0 };
        size_t size = 0;
        int r;

        r = client_receive(client, deadline, &size);
        if (r < 0)
                return explain_transport(r, reterr);
        r = reply_message_parse(client->in.data, size, &message, reterr);
        buf_consume(&client->in, size + 1);
        if (r < 0)
                return error_wrap(reterr, r, "the agent's answer");
        if (message.error)
                return explain_reply(&message, reterr);

        *ret_continues = message.continues;
        if (!table)
                return 0;
        if (!message.parameters)
                return error_set(reterr, -EBADMSG, "the agent's answer is empty");
        r = json_decode_value(message.parameters, table, JSON_LENIENT, ret, reterr);
        return r < 0 ? error_wrap(reterr, r, "the agent's answer") : 0;
}

static int client_ask(ControlClient *client, const char *method, const JsonTable *table,
                      const void *ask, bool more, Error **reterr) {
        _cleanup_(buf_done) Buf out = BUF_INIT(LIMIT_REQUEST_BYTES);
        int r;

        r = client_connect(client, reterr);
        if (r < 0)
                return r;
        r = call_message_print(method, table, ask, more, &out);
        if (r < 0)
                return error_set(reterr, r, "the question to the agent: %s", strerror(-r));
        r = client_send(client, &out);
        if (r < 0 && r != -EPIPE && r != -ECONNRESET)
                return explain_transport(r, reterr);
        return 0;
}

/* A connection on which something went wrong, or that has replies to come, is not used again. */
static bool is_broken(int r) {
        return r < 0 && r != -EPERM && r != -EBUSY && r != -EREMOTEIO;
}

int control_client_call(ControlClient *client, const char *method, const JsonTable *ask_table,
                        const void *ask, const JsonTable *reply_table, void *ret,
                        usec_t timeout_usec, Error **reterr) {
        usec_t now = clock_read(NULL, CLOCK_MONOTONIC);
        bool continues = false;
        int r;

        assert(client);
        assert(method);

        r = client_ask(client, method, ask_table, ask, false, reterr);
        if (r >= 0)
                r = client_take_reply(client, reply_table,
                                      timeout_usec < USEC_INFINITY - now ? now + timeout_usec
                                                                         : USEC_INFINITY,
                                      ret, &continues, reterr);
        if (is_broken(r) || continues)
                client_disconnect(client);
        return r;
}

int control_client_more(ControlClient *client, const char *method, const JsonTable *ask_table,
                        const void *ask, const JsonTable *reply_table,
                        int (*on_reply)(void *userdata, void *reply), void *userdata,
                        Error **reterr) {
        bool continues = true;
        int r;

        assert(client);
        assert(method);
        assert(reply_table);
        assert(on_reply);

        r = client_ask(client, method, ask_table, ask, true, reterr);
        while (r == 0 && continues) {
                _cleanup_free_ void *reply = calloc(1, reply_table->size);

                if (!reply) {
                        r = error_set(reterr, -ENOMEM, "no memory");
                        break;
                }
                r = client_take_reply(client, reply_table, USEC_INFINITY, reply, &continues,
                                      reterr);
                if (r == 0) {
                        r = on_reply(userdata, reply);
                        json_table_done(reply_table, reply);
                }
        }
        if (continues || r < 0)
                client_disconnect(client);
        return r;
}
