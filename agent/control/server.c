#include "control/server.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "agent/limits.h"
#include "base/str.h"
#include "loop/log.h"
#include "loop/unixsock.h"
#include "peer.h"

/* Bytes that are read at once. */
#define READ_BYTES 8192

/* Calls of one client that are carried out before others get their turn. */
#define CALLS_IN_A_ROW 16

/* A buffer that grew beyond this is given back when it is empty. */
#define KEEP_BYTES (64 * 1024)

/* Connections taken in a second: far more than people and scripts make, and little work. It also
 * bounds what a lack of descriptors costs. */
#define CONNECTIONS_PER_SECOND 500

/* The names of all members of a large group. */
#define GROUP_BYTES (256 * 1024)

/* What a connection is waiting for; each has its own time limit. */
typedef enum Waits {
        WAITS_IDLE,    /* for a call */
        WAITS_MESSAGE, /* for the rest of a call */
        WAITS_AGENT,   /* for the agent's answer: as long as it takes */
        WAITS_READER,  /* for the client to read */
} Waits;

typedef struct ControlClientConnection Connection;

struct ControlClientConnection {
        ControlServer *server;
        Connection *next;
        int fd;
        uid_t uid;
        ControlRights rights;
        Buf in;
        Buf out;
        ControlCall *call; /* the one under way: the next is carried out when it is over */
        sd_event_source *io;
        sd_event_source *timer;
        sd_event_source *pump; /* goes on outside of the agent's calls */
        Waits waits;
        bool eof;    /* it sends nothing more, and may still read */
        bool gone;   /* it does not read either */
        bool broken; /* it is let go as soon as that is safe */
};

struct ControlServer {
        sd_event *loop;
        sd_event_source *io;
        int fd;
        char *path;
        ControlOps ops;
        ControlBounds bounds;
        Connection *connections;
        unsigned n_connections;
};

static void connection_run(Connection *c);

ControlBounds *control_server_bounds(ControlServer *server) {
        return &server->bounds;
}

unsigned control_server_n_clients(const ControlServer *server) {
        return server->n_connections;
}

static void connection_unlink(Connection *c) {
        Connection **at = &c->server->connections;

        for (; *at; at = &(*at)->next)
                if (*at == c) {
                        *at = c->next;
                        c->server->n_connections--;
                        return;
                }
}

static Connection *connection_free(Connection *c) {
        if (!c)
                return NULL;

        connection_unlink(c);
        sd_event_source_disable_unref(c->io);
        sd_event_source_disable_unref(c->timer);
        sd_event_source_disable_unref(c->pump);
        if (c->fd >= 0)
                (void) close(c->fd);
        buf_done(&c->in);
        buf_done(&c->out);
        free(c->call);
        free(c);
        return NULL;
}
DEFINE_CLEANUP(Connection, connection_free);

/* The client left, or is made to leave: the agent is told of what it still worked on. */
static void connection_drop(Connection *c) {
        ControlCall *call = c->call;

        if (call && c->server->ops.on_gone)
                c->server->ops.on_gone(c->server->ops.userdata, call);
        connection_free(c);
}

/* Has the connection looked at from the loop. */
static void connection_pump(Connection *c) {
        (void) sd_event_source_set_enabled(c->pump, SD_EVENT_ONESHOT);
}

/* ---- answers ---- */

/* The call is over; what the client sent meanwhile gets its turn from the loop. */
static void call_end(ControlCall *call) {
        Connection *c = call->connection;

        assert(c->call == call);

        c->call = NULL;
        free(call);
        connection_pump(c);
}

static void print_failure(Connection *c, const char *error, const char *text) {
        if (error_message_print(error, &(ErrorParameters){ .text = text }, &c->out) < 0)
                c->broken = true;
}

/* A message that was printed from `before` on: too large a one is taken back. */
static int check_size(Connection *c, size_t before) {
        if (c->out.size - before <= c->server->bounds.reply_bytes)
                return 0;
        c->out.size = before;
        c->out.data[before] = '\0';
        return -EFBIG;
}

int control_reply(ControlCall *call, const JsonTable *table, const void *reply, bool more) {
        Connection *c;
        size_t before;
        int r = 0;

        assert(call);

        c = call->connection;
        before = c->out.size;
        if (!call->oneway && !c->broken) {
                r = reply_message_print(table, reply, more, &c->out);
                if (r >= 0)
                        r = check_size(c, before);
                if (r < 0 && more)
                        c->broken = true; /* it would never know what it missed */
                else if (r < 0)
                        print_failure(c, CONTROL_ERROR_FAILED,
                                      r == -EFBIG ? "the answer is too large; ask for less"
                                                  : "the answer could not be written");
        }

        if (more)
                connection_pump(c);
        else
                call_end(call);
        return r;
}

void control_error(ControlCall *call, const char *error, const ErrorParameters *parameters) {
        Connection *c = call->connection;

        if (!call->oneway && !c->broken && error_message_print(error, parameters, &c->out) < 0)
                c->broken = true;
        call_end(call);
}

void control_fail(ControlCall *call, const char *error, const char *text) {
        _cleanup_free_ char *printable = NULL;

        assert(call);
        assert(error);

        printable = str_printable(text ?: "", strlen(text ?: ""));
        control_error(call, error, &(ErrorParameters){ .text = printable });
}

/* ---- a connection's life ---- */

static Waits connection_waits(const Connection *c) {
        if (c->out.size > 0)
                return WAITS_READER;
        if (c->call)
                return WAITS_AGENT;
        return c->in.size > 0 ? WAITS_MESSAGE : WAITS_IDLE;
}

/* Sets what is waited for, and until when. A part of a message does not gain time by each of its
 * bytes. */
static int connection_arm(Connection *c, bool progress) {
        const ControlBounds *bounds = &c->server->bounds;
        Waits waits = connection_waits(c);
        usec_t limit = waits == WAITS_IDLE ? bounds->idle_usec : bounds->stall_usec;
        uint32_t events = 0;
        int r;

        if (waits == WAITS_READER)
                events = EPOLLOUT;
        else if (waits != WAITS_AGENT && !c->eof)
                events = EPOLLIN;
        r = sd_event_source_set_io_events(c->io, events);
        if (r < 0)
                return r;

        if (waits == WAITS_AGENT) {
                c->waits = waits;
                return sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
        }
        if (waits == c->waits && !progress)
                return 0;

        c->waits = waits;
        r = sd_event_source_set_time_relative(c->timer, limit);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

/* Writes what it can. 0, or negative when the client does not take it any more. */
static int connection_flush(Connection *c, bool *progress) {
        while (c->out.size > 0) {
                ssize_t n = send(c->fd, c->out.data, c->out.size, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                buf_consume(&c->out, (size_t) n);
                *progress = true;
        }
        if (c->out.allocated > KEEP_BYTES) {
                buf_done(&c->out);
                buf_init(&c->out, c->server->bounds.buffer_bytes);
        }
        return 0;
}

static void connection_read(Connection *c) {
        size_t room = c->server->bounds.request_bytes - c->in.size;
        char *to;
        ssize_t n;

        room = MIN(room, (size_t) READ_BYTES);
        to = room > 0 ? buf_reserve(&c->in, room) : NULL;
        if (!to) {
                c->broken = true;
                return;
        }

        n = recv(c->fd, to, room, MSG_DONTWAIT);
        if (n > 0)
                buf_commit(&c->in, (size_t) n);
        else if (n == 0)
                c->eof = true;
        else if (errno != EAGAIN && errno != EINTR)
                c->broken = true;
}

static void connection_call(Connection *c, const CallMessage *message) {
        c->call = calloc(1, sizeof(ControlCall));
        if (!c->call) {
                c->broken = true;
                return;
        }
        *c->call =
                (ControlCall){ .connection = c, .oneway = message->oneway, .more = message->more };
        method_run(&c->server->ops, c->rights, c->call, message);
}

/* Carries the next call out. False: there is none yet, or never will be. */
static bool connection_next(Connection *c) {
        _cleanup_(call_message_done) CallMessage message = { 0 };
        _cleanup_(error_freep) Error *err = NULL;
        const char *end;
        int r;

        end = c->in.size > 0 ? memchr(c->in.data, '\0', c->in.size) : NULL;
        if (!end) {
                c->broken |= c->in.size >= c->server->bounds.request_bytes;
                return false;
        }

        r = call_message_parse(c->in.data, (size_t) (end - c->in.data), &message, &err);
        buf_consume(&c->in, (size_t) (end - c->in.data) + 1);
        if (r < 0) {
                log_debug("control: a client of uid %u sent what is no call: %s", (unsigned) c->uid,
                          error_text(err));
                c->broken = true;
                return false;
        }
        connection_call(c, &message);
        return !c->broken;
}

/* True where nothing more will come of this connection. */
static bool connection_is_over(const Connection *c) {
        if (c->broken)
                return true;
        if (c->call)
                return c->gone;
        return c->out.size == 0 && (c->eof || c->gone) &&
               (c->in.size == 0 || !memchr(c->in.data, '\0', c->in.size));
}

/* One look at the connection: write, carry out what is whole, wait for the next thing. May free it.
 */
static void connection_run(Connection *c) {
        bool progress = false;

        for (int i = 0; i < CALLS_IN_A_ROW && !c->broken; i++) {
                if (connection_flush(c, &progress) < 0)
                        c->broken = true;
                if (c->broken || c->call || c->out.size > 0 || !connection_next(c))
                        break;
                progress = true;
        }
        if (!c->broken && connection_flush(c, &progress) < 0)
                c->broken = true;

        if (connection_is_over(c) || connection_arm(c, progress) < 0) {
                connection_drop(c);
                return;
        }
        if (!c->call && c->out.size == 0 && c->in.size > 0 && memchr(c->in.data, '\0', c->in.size))
                connection_pump(c);
}

static int connection_on_io(_unused_ sd_event_source *s, _unused_ int fd, uint32_t revents,
                            void *userdata) {
        Connection *c = userdata;

        if (revents & EPOLLIN)
                connection_read(c);
        /* Only when both directions are closed, and what was sent before is read: who has shut down
         * its writing side still waits for answers, and who called with "oneway" need not. */
        if ((revents & EPOLLERR) || ((revents & EPOLLHUP) && (c->eof || !(revents & EPOLLIN))))
                c->gone = true;
        connection_run(c);
        return 0;
}

static int connection_on_pump(_unused_ sd_event_source *s, void *userdata) {
        connection_run(userdata);
        return 0;
}

static int connection_on_time(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        Connection *c = userdata;

        log_debug("control: a client of uid %u was silent for too long", (unsigned) c->uid);
        connection_drop(c);
        return 0;
}

static int connection_add_sources(Connection *c) {
        sd_event *loop = c->server->loop;
        int r;

        r = sd_event_add_io(loop, &c->io, c->fd, EPOLLIN, connection_on_io, c);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(loop, &c->timer, CLOCK_MONOTONIC,
                                       c->server->bounds.idle_usec, 0, connection_on_time, c);
        if (r < 0)
                return r;
        r = sd_event_add_defer(loop, &c->pump, connection_on_pump, c);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(c->pump, SD_EVENT_OFF);
        if (r < 0)
                return r;

        (void) sd_event_source_set_description(c->io, "control client");
        (void) sd_event_source_set_description(c->timer, "control client time");
        (void) sd_event_source_set_description(c->pump, "control client pump");
        return 0;
}

/* ---- who may connect ---- */

static ControlRights rights_of(const ControlServer *server, int fd, const UnixPeer *peer) {
        if (peer->uid == 0 || peer->uid == server->bounds.own_uid)
                return CONTROL_RIGHTS_CHANGE;
        if (server->bounds.reader_gid != (gid_t) -1 &&
            unixsock_peer_in_group(fd, server->bounds.reader_gid))
                return CONTROL_RIGHTS_READ;
        return CONTROL_RIGHTS_NONE;
}

/* NULL, or why there is no room. Readers cannot take the places that are kept for those who may
 * change. */
static const char *no_room_for(const ControlServer *server, uid_t uid, ControlRights rights) {
        unsigned n_of_uid = 0, n_readers = 0;

        for (const Connection *c = server->connections; c; c = c->next) {
                n_of_uid += c->uid == uid;
                n_readers += c->rights != CONTROL_RIGHTS_CHANGE;
        }

        if (n_of_uid >= server->bounds.n_clients_per_uid)
                return "too many connections of this user; close some, or try again later";
        if (server->n_connections >= server->bounds.n_clients)
                return "too many connections; try again later";
        if (rights != CONTROL_RIGHTS_CHANGE &&
            n_readers + server->bounds.n_clients_per_uid >= server->bounds.n_clients)
                return "too many connections of readers; try again later";
        return NULL;
}

/* Answers the call that is about to come, without keeping the connection. */
static void refuse(int fd, const char *error, const char *text) {
        _cleanup_(buf_done) Buf out = BUF_INIT(LIMIT_STRING_BYTES);
        char rest[READ_BYTES];

        if (error_message_print(error, &(ErrorParameters){ .text = text }, &out) >= 0)
                (void) send(fd, out.data, out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void) recv(fd, rest, sizeof(rest), MSG_DONTWAIT);
}

/* fd is consumed. */
static int connection_new(ControlServer *server, int fd, uid_t uid, ControlRights rights) {
        _cleanup_(connection_freep) Connection *c = NULL;
        int r;

        c = calloc(1, sizeof(Connection));
        if (!c) {
                (void) close(fd);
                return -ENOMEM;
        }
        *c = (Connection){ .server = server, .fd = fd, .uid = uid, .rights = rights };
        buf_init(&c->in, server->bounds.request_bytes);
        buf_init(&c->out, server->bounds.buffer_bytes);
        r = connection_add_sources(c);
        if (r < 0)
                return r;

        c->next = server->connections;
        server->connections = TAKE_PTR(c);
        server->n_connections++;
        return 0;
}

static int server_on_io(_unused_ sd_event_source *s, int listen_fd, _unused_ uint32_t revents,
                        void *userdata) {
        ControlServer *server = userdata;
        UnixPeer peer;
        _cleanup_close_ int fd = -EBADF;
        ControlRights rights;
        const char *full;
        int r;

        fd = unixsock_accept(listen_fd);
        if (fd < 0)
                return 0;
        r = unixsock_peer(fd, &peer);
        if (r < 0)
                return 0;

        rights = rights_of(server, fd, &peer);
        if (rights == CONTROL_RIGHTS_NONE) {
                refuse(fd, CONTROL_ERROR_REFUSED,
                       "only root, the agent's own user and group " GROUP_CONTROL " may ask");
                return 0;
        }
        full = no_room_for(server, peer.uid, rights);
        if (full) {
                refuse(fd, CONTROL_ERROR_BUSY, full);
                return 0;
        }

        r = connection_new(server, TAKE_FD(fd), peer.uid, rights);
        if (r < 0)
                log_warning("control: a client could not be served: %s", strerror(-r));
        return 0;
}

/* ---- the server ---- */

static int server_listen(ControlServer *server, Error **reterr) {
        int r;

        r = unixsock_listen(server->path, 0666, (gid_t) -1, &server->fd, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "control socket");

        r = sd_event_add_io(server->loop, &server->io, server->fd, EPOLLIN, server_on_io, server);
        if (r >= 0)
                r = sd_event_source_set_ratelimit(server->io, SEC(1), CONNECTIONS_PER_SECOND);
        if (r < 0)
                return error_set(reterr, r, "control socket %s: watch it: %s", server->path,
                                 strerror(-r));
        (void) sd_event_source_set_description(server->io, "control socket");
        return 0;
}

/* (gid_t) -1: there is none, or it has more members than fit. */
static gid_t reader_group(void) {
        _cleanup_free_ char *names = calloc(1, GROUP_BYTES);
        struct group group, *found = NULL;

        if (!names || getgrnam_r(GROUP_CONTROL, &group, names, GROUP_BYTES, &found) != 0 || !found)
                return (gid_t) -1;
        return group.gr_gid;
}

static ControlBounds default_bounds(void) {
        return (ControlBounds){
                .n_clients = LIMIT_CLIENTS,
                .n_clients_per_uid = LIMIT_CLIENTS_PER_UID,
                .request_bytes = LIMIT_REQUEST_BYTES,
                .reply_bytes = LIMIT_REPLY_BYTES,
                .buffer_bytes = LIMIT_CLIENT_BUFFER_BYTES,
                .idle_usec = LIMIT_CLIENT_IDLE_USEC,
                .stall_usec = LIMIT_CLIENT_STALL_USEC,
                .own_uid = geteuid(),
                .reader_gid = reader_group(),
        };
}

int control_server_new(sd_event *loop, const char *path, const ControlOps *ops, ControlServer **ret,
                       Error **reterr) {
        _cleanup_(control_server_freep) ControlServer *server = NULL;
        int r;

        assert(loop);
        assert(path);
        assert(ops);
        assert(ret);

        server = calloc(1, sizeof(ControlServer));
        if (!server)
                return error_set(reterr, -ENOMEM, "no memory");
        server->fd = -EBADF;
        server->loop = sd_event_ref(loop);
        server->ops = *ops;
        server->bounds = default_bounds();
        server->path = strdup(path);
        if (!server->path)
                return error_set(reterr, -ENOMEM, "no memory");

        r = server_listen(server, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(server);
        return 0;
}

ControlServer *control_server_free(ControlServer *server) {
        if (!server)
                return NULL;

        for (Connection *c = server->connections, *next; c; c = next) {
                next = c->next;
                connection_free(c);
        }
        sd_event_source_disable_unref(server->io);
        if (server->fd >= 0) {
                (void) close(server->fd);
                (void) unixsock_remove(server->path);
        }
        sd_event_unref(server->loop);
        free(server->path);
        free(server);
        return NULL;
}
