#pragma once

/*
 * Calls between main and a helper over one SOCK_SEQPACKET pair: one JSON object a packet, at most
 * LIMIT_PACKET_BYTES,
 *
 *     {"id": 7, "method": "bundle.verify", "parameters": {...}}            + fds
 *     {"id": 7, "answer": {...}}                                           + fds
 *     {"id": 7, "error": {"code": "ENOSPC", "text": "..."}}
 *
 * Descriptors travel in the same packet. A body that may not fit in a packet travels as a memfd.
 * Parameters and answers are described by JsonTables. Only about four packets with descriptors
 * queue in the kernel: a full queue is ordinary, packets wait here (at most LIMIT_CALLS).
 *
 * The caller's side (CallPeer) runs on the loop. If the helper dies, every call under way ends with
 * -ECONNRESET: what it had done is unknown, as after a lost reply. The helper's side is either a
 * loop (call_serve) or, for one-shot helpers, call_receive() and call_answer(), which block.
 */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/json.h"
#include "base/time.h"

#define CALL_MAX_FDS 4

typedef struct CallPeer CallPeer;

/* What came back; never NULL, also on failure. Borrowed during the callback. fds that the callback
 * wants to keep it sets to -EBADF. */
typedef struct CallReply {
        const Json *answer; /* NULL on failure; decode with json_decode_value() */
        int fds[CALL_MAX_FDS];
        size_t n_fds;
} CallReply;

/* r: 0, or negative errno (the helper's own code, -ECONNRESET: it died, -ETIMEDOUT, -EBADMSG: it
 * sent what is no answer, which ends the connection); err in words, beginning with the method. May
 * free the peer. */
typedef void (*CallDone)(void *userdata, int r, CallReply *reply, Error *err);

/* fd is consumed, on failure too. on_closed: the other side is gone (after all calls were ended);
 * may free the peer. */
int call_peer_new(sd_event *loop, int fd, void (*on_closed)(void *userdata), void *userdata,
                  CallPeer **ret);

/* Sends a call; done() comes exactly once, from the loop, unless cancelled. table may be NULL (no
 * parameters). fds are duplicated by sending; the caller keeps its own. Returns the id (> 0) or
 * negative errno: -E2BIG does not fit, -ENOBUFS too many calls, -ECONNRESET: the other side is
 * gone. timeout_usec 0: none. */
int call_send(CallPeer *peer, const char *method, const JsonTable *table, const void *parameters,
              const int *fds, size_t n_fds, usec_t timeout_usec, CallDone done, void *userdata);

/* done() will not come any more for this id; a late answer is dropped. Unknown ids are ignored. */
void call_cancel(CallPeer *peer, int id);

/* Cancels all, closes. done() is not called. Takes NULL. */
CallPeer *call_peer_free(CallPeer *peer);
DEFINE_CLEANUP(CallPeer, call_peer_free);

/* ---- the helper's side ---- */

typedef struct CallRequest {
        uint64_t id;
        char *method;
        Json *parameters; /* never NULL; {} where there were none */
        int fds[CALL_MAX_FDS];
        size_t n_fds;
} CallRequest;

/* Blocks for one request. 0; -ENODATA at the end of the connection; -EBADMSG. Ownership: ret is the
 * caller's, also its fds: call_request_done(). */
int call_receive(int fd, CallRequest *ret);
void call_request_done(CallRequest *request);

/* Answers. On a blocking socket they block. fds stay the caller's. -EMSGSIZE: does not fit in a
 * packet. */
int call_answer(int fd, uint64_t id, const JsonTable *table, const void *answer, const int *fds,
                size_t n_fds);
int call_fail(int fd, uint64_t id, int code, const char *text);

/* The loop's way: each request goes to on_request, which may take what it holds (copy the struct
 * and zero it; what is left is closed and freed when it returns), and answers now or later with
 * call_answer()/call_fail() on call_server_fd(). At the end of the connection the loop exits with
 * 0. fd is consumed. */
typedef struct CallServer CallServer;
int call_server_new(sd_event *loop, int fd,
                    void (*on_request)(void *userdata, CallRequest *request), void *userdata,
                    CallServer **ret);
int call_server_fd(const CallServer *server);
CallServer *call_server_free(CallServer *server);
DEFINE_CLEANUP(CallServer, call_server_free);
