#include "loop/call.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "packet.h"

#define MAX_METHOD_BYTES 64
#define MAX_ERRNO        133

/* Of a sentence that a helper answers: its rows in a table have this maximum too. */
#define MAX_TEXT_BYTES 2048

static const JsonField packet_fields[] = {
        { .name = "id",
          .kind = JSON_KIND_U64,
          .flags = JSON_REQUIRED,
          .offset = offsetof(Packet, id),
          .min = 1,
          .max = INT64_MAX },
        { .name = "method",
          .kind = JSON_KIND_STRING,
          .offset = offsetof(Packet, method),
          .min = 1,
          .max = MAX_METHOD_BYTES },
        { .name = "parameters", .kind = JSON_KIND_ANY, .offset = offsetof(Packet, parameters) },
        { .name = "answer", .kind = JSON_KIND_ANY, .offset = offsetof(Packet, answer) },
        { .name = "error", .kind = JSON_KIND_ANY, .offset = offsetof(Packet, error) },
        { 0 },
};
static const JsonTable packet_table = { packet_fields, sizeof(Packet) };

static const JsonField packet_error_fields[] = {
        { .name = "code",
          .kind = JSON_KIND_STRING,
          .flags = JSON_REQUIRED,
          .offset = offsetof(PacketError, code),
          .max = 32 },
        { .name = "text",
          .kind = JSON_KIND_STRING,
          .offset = offsetof(PacketError, text),
          .max = LIMIT_STRING_BYTES },
        { 0 },
};
const JsonTable packet_error_table = { packet_error_fields, sizeof(PacketError) };

int packet_error_number(const char *name) {
        for (int i = 1; i <= MAX_ERRNO; i++) {
                const char *known = strerrorname_np(i);

                if (known && str_equal(known, name))
                        return -i;
        }
        return -EIO;
}

int packet_write(uint64_t id, const char *method, const char *key, const JsonTable *table,
                 const void *object, Buf *ret) {
        int r;

        /* Methods are words of this program, which need no escaping. */
        r = buf_printf(ret, "{\"id\":%" PRIu64 "%s%s%s,\"%s\":", id, method ? ",\"method\":\"" : "",
                       method ?: "", method ? "\"" : "", key);
        if (r >= 0)
                r = table ? json_encode(table, object, ret) : buf_append_str(ret, "{}");
        if (r >= 0)
                r = buf_append_str(ret, "}");
        return r == -EFBIG ? -E2BIG : r;
}

void packet_close_fds(int *fds, size_t *n_fds) {
        for (size_t i = 0; i < *n_fds; i++) {
                closep(&fds[i]);
                fds[i] = -EBADF;
        }
        *n_fds = 0;
}

/* ---- sending ---- */

int packet_send(int fd, const Buf *packet, const int *fds, size_t n_fds, int flags) {
        union {
                struct cmsghdr header;
                char room[CMSG_SPACE(CALL_MAX_FDS * sizeof(int))];
        } control = { 0 };
        struct iovec data = { .iov_base = packet->data, .iov_len = packet->size };
        struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
        ssize_t n;

        assert(n_fds <= CALL_MAX_FDS);
        if (n_fds > 0) {
                control.header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                                                   .cmsg_type = SCM_RIGHTS,
                                                   .cmsg_len = CMSG_LEN(n_fds * sizeof(int)) };
                memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
                message.msg_control = &control;
                message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        }

        do
                n = sendmsg(fd, &message, flags | MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : 0;
}

/* ---- receiving ---- */

/* Keeps what fits; what does not is closed, and the packet is refused by its flag. */
static void collect_fds(struct msghdr *message, Packet *to) {
        struct cmsghdr *c;

        for (c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
                size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (to->n_fds < CALL_MAX_FDS)
                                to->fds[to->n_fds++] = fd;
                        else {
                                closep(&fd);
                                message->msg_flags |= MSG_CTRUNC;
                        }
                }
        }
}

static int receive(int fd, int flags, Buf *text, Packet *to, Error **reterr) {
        union {
                struct cmsghdr header;
                char room[CMSG_SPACE(CALL_MAX_FDS * sizeof(int))];
        } control;
        struct iovec data = { .iov_len = LIMIT_PACKET_BYTES };
        struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
        ssize_t n;

        data.iov_base = buf_reserve(text, LIMIT_PACKET_BYTES);
        if (!data.iov_base)
                return -ENOMEM;

        do {
                message.msg_control = &control;
                message.msg_controllen = sizeof(control);
                n = recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC);
                /* ECONNRESET: the other side left without reading all; what it had sent is still to
                 * be read. */
        } while (n < 0 && (errno == EINTR || errno == ECONNRESET));
        if (n < 0)
                return -errno;

        collect_fds(&message, to);
        if (n == 0)
                return -ENODATA;
        if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
                return error_set(reterr, -EBADMSG,
                                 "a packet of more than %d bytes or %d descriptors",
                                 LIMIT_PACKET_BYTES, CALL_MAX_FDS);
        buf_commit(text, (size_t) n);
        return 0;
}

int packet_receive(int fd, int flags, Packet *ret, Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_PACKET_BYTES);
        Packet packet = { 0 }, decoded = { 0 };
        int r;

        r = receive(fd, flags, &text, &packet, reterr);
        if (r >= 0)
                r = json_decode(text.data, text.size, &packet_table, JSON_LENIENT, &decoded,
                                reterr);
        if (r < 0) {
                packet_close_fds(packet.fds, &packet.n_fds);
                return r == -ERANGE ? -EBADMSG : r;
        }

        memcpy(decoded.fds, packet.fds, sizeof(packet.fds));
        decoded.n_fds = packet.n_fds;
        *ret = decoded;
        return 0;
}

void packet_done(Packet *packet) {
        packet_close_fds(packet->fds, &packet->n_fds);
        json_table_done(&packet_table, packet);
}

int packet_take_request(Packet *packet, CallRequest *ret) {
        int r;

        if (!packet->method)
                return -EBADMSG;
        if (!packet->parameters) {
                r = json_parse("{}", 2, &packet->parameters, NULL);
                if (r < 0)
                        return r;
        }

        *ret = (CallRequest){ .id = packet->id,
                              .method = TAKE_PTR(packet->method),
                              .parameters = TAKE_PTR(packet->parameters),
                              .n_fds = packet->n_fds };
        memcpy(ret->fds, packet->fds, sizeof(packet->fds));
        packet->n_fds = 0;
        return 0;
}

/* ---- the helper's side ---- */

int call_receive(int fd, CallRequest *ret) {
        _cleanup_(packet_done) Packet packet = { 0 };
        int r;

        r = packet_receive(fd, 0, &packet, NULL);
        if (r < 0)
                return r;
        return packet_take_request(&packet, ret);
}

void call_request_done(CallRequest *request) {
        packet_close_fds(request->fds, &request->n_fds);
        free(request->method);
        (void) json_free(request->parameters);
        *request = (CallRequest){ 0 };
}

int call_answer(int fd, uint64_t id, const JsonTable *table, const void *answer, const int *fds,
                size_t n_fds) {
        _cleanup_(buf_done) Buf packet = BUF_INIT(LIMIT_PACKET_BYTES);
        int r;

        r = packet_write(id, NULL, "answer", table, answer, &packet);
        if (r < 0)
                return r == -E2BIG ? -EMSGSIZE : r;
        return packet_send(fd, &packet, fds, n_fds, 0);
}

int call_fail(int fd, uint64_t id, int code, const char *text) {
        _cleanup_(buf_done) Buf packet = BUF_INIT(LIMIT_PACKET_BYTES);
        _cleanup_free_ char *printable = NULL, *name = NULL;
        PacketError error;
        int r;

        assert(code < 0);
        /* Words may quote what somebody else wrote, and then hold anything. */
        printable = str_printable(text ?: "", MIN(strlen(text ?: ""), (size_t) MAX_TEXT_BYTES));
        name = strdup(strerrorname_np(-code) ?: "EIO");
        if (!printable || !name)
                return -ENOMEM;

        error = (PacketError){ .code = name, .text = printable };
        r = packet_write(id, NULL, "error", &packet_error_table, &error, &packet);
        if (r < 0)
                return r == -E2BIG ? -EMSGSIZE : r;
        return packet_send(fd, &packet, NULL, 0, 0);
}
