#pragma once

/*
 * The packets of loop/call.h, as both sides see them.
 */

#include <stdbool.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/json.h"
#include "loop/call.h"

typedef struct Packet {
        uint64_t id;
        char *method; /* a request's; NULL: an answer */
        Json *parameters;
        Json *answer;
        Json *error; /* PacketError */
        int fds[CALL_MAX_FDS];
        size_t n_fds;
} Packet;

typedef struct PacketError {
        char *code; /* "ENOSPC" */
        char *text;
} PacketError;
extern const JsonTable packet_error_table;

/* Appends {"id": id, KEY: object, ...}: method NULL for answers. table NULL: {}. -E2BIG: does not
 * fit. */
int packet_write(uint64_t id, const char *method, const char *key, const JsonTable *table,
                 const void *object, Buf *ret);

/* One packet with its descriptors; flags as for sendmsg(). -EAGAIN, -EPIPE, ... */
int packet_send(int fd, const Buf *packet, const int *fds, size_t n_fds, int flags);

/* The next one; flags as for recvmsg(). -EAGAIN; -ENODATA: the other side has gone; -EBADMSG: not a
 * packet. */
int packet_receive(int fd, int flags, Packet *ret, Error **reterr);
void packet_done(Packet *packet);

/* Takes a received request apart. -EBADMSG: it is an answer. */
int packet_take_request(Packet *packet, CallRequest *ret);

/* Negative errno for a name, -EIO for one that nobody knows. */
int packet_error_number(const char *name);

void packet_close_fds(int *fds, size_t *n_fds);
