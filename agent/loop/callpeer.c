#include "loop/call.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "packet.h"

#define TIMER_ACCURACY_USEC MSEC(5)

/* Packets taken at once, before others on the loop have their turn. */
#define PACKETS_PER_EVENT 16

typedef struct Call Call;

/* One call under way. Until it was sent it keeps its packet. */
struct Call {
        CallPeer *peer;
        Call *next;
        int id;
        char *method;
        Buf packet;
        int fds[CALL_MAX_FDS];
        size_t n_fds;
        bool sent;
        usec_t timeout_usec;
        sd_event_source *timer;
        CallDone done;
        void *userdata;
};

struct CallPeer {
        sd_event *loop;
        int fd; /* -EBADF: the other side is gone */
        sd_event_source *source;
        Call *calls; /* in the order in which they were made */
        size_t n_calls;
        int last_id;
        void (*on_closed)(void *userdata);
        void *userdata;

        unsigned n_busy; /* callbacks under way: the memory lives until they return */
        bool freed;
};

static void peer_leave(CallPeer *p) {
        p->n_busy--;
        if (p->freed && p->n_busy == 0)
                free(p);
}

static void peer_close(CallPeer *p) {
        p->source = sd_event_source_disable_unref(p->source);
        closep(&p->fd);
        p->fd = -EBADF;
}

static Call *call_free(Call *call) {
        if (!call)
                return NULL;

        call->timer = sd_event_source_disable_unref(call->timer);
        packet_close_fds(call->fds, &call->n_fds);
        buf_done(&call->packet);
        free(call->method);
        free(call);
        return NULL;
}
DEFINE_CLEANUP(Call, call_free);

/* Takes a call out of the list; NULL: there is none of that id. */
static Call *take_call(CallPeer *p, uint64_t id) {
        for (Call **at = &p->calls; *at; at = &(*at)->next)
                if ((uint64_t) (*at)->id == id) {
                        Call *call = *at;

                        *at = call->next;
                        p->n_calls--;
                        return call;
                }
        return NULL;
}

/* The caller has taken it out of the list, and holds the peer. */
static void end_call(Call *call, int r, CallReply *reply, Error *err) {
        CallDone done = call->done;
        void *userdata = call->userdata;

        (void) call_free(call);
        done(userdata, r, reply, err);
}

static void end_call_failed(Call *call, int r, const char *words) {
        _cleanup_(error_freep) Error *err = NULL;
        CallReply none = { 0 };

        (void) error_set(&err, r, "%s: %s", call->method, words);
        end_call(call, r, &none, err);
}

/* The other side is gone, or not to be trusted: what it did of the calls under way is unknown. */
static void peer_lost(CallPeer *p, int r, const char *words) {
        peer_close(p);
        while (!p->freed && p->calls) {
                Call *call = p->calls;

                (void) take_call(p, (uint64_t) call->id);
                end_call_failed(call, r, words);
        }
        if (!p->freed && p->on_closed)
                p->on_closed(p->userdata);
}

/* ---- sending ---- */

/* Sends what waits, until the socket is full. Where the other side is gone, reading tells. */
static void flush(CallPeer *p) {
        Call *next;
        int r;

        for (Call *call = p->calls; call && !p->freed && p->fd >= 0; call = next) {
                next = call->next;
                if (call->sent)
                        continue;

                r = packet_send(p->fd, &call->packet, call->fds, call->n_fds, MSG_DONTWAIT);
                if (r == -EAGAIN)
                        return;
                if (r < 0 && r != -EPIPE && r != -ECONNRESET) {
                        (void) take_call(p, (uint64_t) call->id);
                        end_call_failed(call, r, strerror(-r));
                        /* Its callback may have cancelled others. */
                        next = p->freed ? NULL : p->calls;
                        continue;
                }

                call->sent = true;
                buf_done(&call->packet);
                packet_close_fds(call->fds, &call->n_fds);
        }
        if (!p->freed && p->source)
                (void) sd_event_source_set_io_events(p->source, EPOLLIN);
}

static int on_timeout(_unused_ sd_event_source *s, _unused_ usec_t now, void *userdata) {
        Call *call = userdata;
        CallPeer *p = call->peer;
        char span[32], words[64];

        p->n_busy++;
        time_format_span(call->timeout_usec, span);
        (void) snprintf(words, sizeof(words), "no answer within %s", span);
        (void) take_call(p, (uint64_t) call->id);
        end_call_failed(call, -ETIMEDOUT, words);
        peer_leave(p);
        return 0;
}

static int next_id(CallPeer *p) {
        bool used;

        do {
                p->last_id = p->last_id == INT_MAX ? 1 : p->last_id + 1;
                used = false;
                for (const Call *call = p->calls; call; call = call->next)
                        used = used || call->id == p->last_id;
        } while (used);
        return p->last_id;
}

static int dup_fds(Call *call, const int *fds, size_t n_fds) {
        for (size_t i = 0; i < n_fds; i++) {
                call->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
                if (call->fds[i] < 0)
                        return -errno;
                call->n_fds++;
        }
        return 0;
}

int call_send(CallPeer *p, const char *method, const JsonTable *table, const void *parameters,
              const int *fds, size_t n_fds, usec_t timeout_usec, CallDone done, void *userdata) {
        _cleanup_(call_freep) Call *call = NULL;
        Call **at = &p->calls;
        int r;

        assert(done);
        if (n_fds > CALL_MAX_FDS)
                return -EINVAL;
        if (p->fd < 0)
                return -ECONNRESET;
        if (p->n_calls >= LIMIT_CALLS)
                return -ENOBUFS;

        call = calloc(1, sizeof(Call));
        if (!call)
                return -ENOMEM;
        *call = (Call){ .peer = p,
                        .id = next_id(p),
                        .method = strdup(method),
                        .packet = BUF_INIT(LIMIT_PACKET_BYTES),
                        .timeout_usec = timeout_usec,
                        .done = done,
                        .userdata = userdata };
        if (!call->method)
                return -ENOMEM;

        r = packet_write((uint64_t) call->id, method, "parameters", table, parameters,
                         &call->packet);
        if (r >= 0)
                r = dup_fds(call, fds, n_fds);
        if (r >= 0 && timeout_usec > 0 && timeout_usec < USEC_INFINITY)
                r = sd_event_add_time_relative(p->loop, &call->timer, CLOCK_MONOTONIC, timeout_usec,
                                               TIMER_ACCURACY_USEC, on_timeout, call);
        /* It goes from the loop, so that done() cannot come before this returns. */
        if (r >= 0)
                r = sd_event_source_set_io_events(p->source, EPOLLIN | EPOLLOUT);
        if (r < 0)
                return r;

        while (*at)
                at = &(*at)->next;
        p->n_calls++;
        *at = TAKE_PTR(call);
        return (*at)->id;
}

void call_cancel(CallPeer *p, int id) {
        (void) call_free(take_call(p, id > 0 ? (uint64_t) id : 0));
}

/* ---- receiving ---- */

static void end_call_error(Call *call, const Json *value) {
        PacketError said = { 0 };

        if (json_decode_value(value, &packet_error_table, JSON_LENIENT, &said, NULL) < 0)
                end_call_failed(call, -EBADMSG, "it failed, and its error cannot be read");
        else
                end_call_failed(call, packet_error_number(said.code),
                                str_is_empty(said.text) ? said.code : said.text);
        json_table_done(&packet_error_table, &said);
}

/* A late answer, of a call that was cancelled or timed out, is nobody's. */
static void take_answer(CallPeer *p, Packet *packet) {
        Call *call = take_call(p, packet->id);
        CallReply reply = { .answer = packet->answer, .n_fds = packet->n_fds };

        if (!call)
                return;
        if (!packet->answer) {
                end_call_error(call, packet->error);
                return;
        }

        memcpy(reply.fds, packet->fds, sizeof(packet->fds));
        packet->n_fds = 0;
        end_call(call, 0, &reply, NULL);
        packet_close_fds(reply.fds, &reply.n_fds);
}

/* 0: one was taken; -EAGAIN: none is there; else the other side is lost. */
static int receive_one(CallPeer *p) {
        _cleanup_(packet_done) Packet packet = { 0 };
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = packet_receive(p->fd, MSG_DONTWAIT, &packet, &err);
        if (r == -EAGAIN)
                return r;
        if (r == -ENODATA) {
                peer_lost(p, -ECONNRESET, "the other process has ended before it answered");
                return r;
        }
        if (r >= 0 && !packet.answer == !packet.error)
                r = error_set(&err, -EBADMSG, "neither an answer nor an error");
        if (r < 0) {
                (void) error_wrap(&err, r, "the other process sent what is no answer");
                peer_lost(p, r, error_text(err));
                return r;
        }

        take_answer(p, &packet);
        return 0;
}

static int on_io(_unused_ sd_event_source *s, _unused_ int fd, uint32_t events, void *userdata) {
        CallPeer *p = userdata;

        p->n_busy++;
        if (events & EPOLLOUT)
                flush(p);
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                for (unsigned i = 0; i < PACKETS_PER_EVENT; i++)
                        if (p->freed || p->fd < 0 || receive_one(p) < 0)
                                break;
        peer_leave(p);
        return 0;
}

int call_peer_new(sd_event *loop, int fd, void (*on_closed)(void *userdata), void *userdata,
                  CallPeer **ret) {
        _cleanup_close_ int own_fd = fd;
        _cleanup_(call_peer_freep) CallPeer *p = NULL;
        int r;

        p = calloc(1, sizeof(CallPeer));
        if (!p)
                return -ENOMEM;
        *p = (CallPeer){ .loop = sd_event_ref(loop),
                         .fd = TAKE_FD(own_fd),
                         .on_closed = on_closed,
                         .userdata = userdata };

        r = sd_event_add_io(loop, &p->source, p->fd, EPOLLIN, on_io, p);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}

CallPeer *call_peer_free(CallPeer *p) {
        if (!p)
                return NULL;

        peer_close(p);
        while (p->calls)
                (void) call_free(take_call(p, (uint64_t) p->calls->id));
        p->loop = sd_event_unref(p->loop);

        p->freed = true;
        if (p->n_busy == 0)
                free(p);
        return NULL;
}
