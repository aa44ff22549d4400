#include "service/listener.h"

#include <arpa/inet.h>
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/str.h"

/* Sockets that are looked at: more listeners than this on one machine are not a web server's. */
#define SOCKETS_MAX 16384

/* How a connection to 127.0.0.1 would find a listener: the higher is taken first. */
typedef enum Reach {
        REACH_NOT,
        REACH_DUAL,  /* ::, taking IPv4 too */
        REACH_ANY,   /* 0.0.0.0 */
        REACH_EXACT, /* 127.0.0.1 */
} Reach;

typedef struct Socket {
        uint64_t inode;
        uint16_t port;
        Reach reach;
        bool is_ours;
} Socket;

/* What a dump collects. */
typedef struct Dump {
        Socket *sockets; /* NULL: only counted */
        size_t n;
        uint16_t port; /* 0: all */
} Dump;

static Reach reach_of_v4(uint32_t address) {
        if (address == 0)
                return REACH_ANY;
        return address == htonl(INADDR_LOOPBACK) ? REACH_EXACT : REACH_NOT;
}

static Reach reach_of(int family, const uint32_t address[4], bool v6_only) {
        static const uint32_t zero[4];

        if (family == AF_INET)
                return reach_of_v4(address[0]);
        if (memcmp(address, zero, sizeof(zero)) == 0)
                return v6_only ? REACH_NOT : REACH_DUAL;
        bool is_mapped = address[0] == 0 && address[1] == 0 && address[2] == htonl(0xffff);
        return is_mapped ? reach_of_v4(address[3]) : REACH_NOT;
}

static int dump_add(Dump *dump, const Socket *socket) {
        if (dump->port != 0 && socket->port != dump->port)
                return 0;
        if (dump->sockets) {
                if (dump->n >= SOCKETS_MAX)
                        return -E2BIG;
                dump->sockets[dump->n] = *socket;
        }
        dump->n++;
        return 0;
}

/* -------- sock_diag(7) -------- */

static int diag_one(struct nlmsghdr *header, Dump *dump) {
        const struct inet_diag_msg *m = NLMSG_DATA(header);
        struct rtattr *attr = (void *) ((uint8_t *) NLMSG_DATA(header) + sizeof(*m));
        size_t left = header->nlmsg_len - NLMSG_LENGTH(sizeof(*m));
        bool v6_only = false;

        for (; RTA_OK(attr, left); attr = RTA_NEXT(attr, left))
                if (attr->rta_type == INET_DIAG_SKV6ONLY && RTA_PAYLOAD(attr) >= 1)
                        v6_only = *(const uint8_t *) RTA_DATA(attr) != 0;

        return dump_add(dump, &(Socket){
                                      .inode = m->idiag_inode,
                                      .port = ntohs(m->id.idiag_sport),
                                      .reach = reach_of(m->idiag_family, m->id.idiag_src, v6_only),
                              });
}

/* One packet of the answer. 1: it was the last. */
static int diag_packet(void *data, size_t size, Dump *dump) {
        struct nlmsghdr *header = data;
        int r;

        for (; NLMSG_OK(header, size); header = NLMSG_NEXT(header, size)) {
                if (header->nlmsg_type == NLMSG_DONE)
                        return 1;
                if (header->nlmsg_type == NLMSG_ERROR) {
                        const struct nlmsgerr *e = NLMSG_DATA(header);
                        return header->nlmsg_len >= NLMSG_LENGTH(sizeof(*e)) && e->error < 0
                                       ? e->error
                                       : -EIO;
                }
                if (header->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
                        return -EBADMSG;
                r = diag_one(header, dump);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int diag_dump(int family, unsigned state, Dump *dump) {
        struct {
                struct nlmsghdr header;
                struct inet_diag_req_v2 request;
        } ask = {
                .header = { .nlmsg_len = sizeof(ask),
                            .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                            .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
                .request = { .sdiag_family = (uint8_t) family,
                             .sdiag_protocol = IPPROTO_TCP,
                             .idiag_states = 1U << state },
        };
        _cleanup_close_ int fd = -EBADF;
        _Alignas(struct nlmsghdr) uint8_t answer[32768];
        int r = 0;

        fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
        if (fd < 0 || send(fd, &ask, sizeof(ask), 0) < 0)
                return -errno;
        while (r == 0) {
                ssize_t n = recv(fd, answer, sizeof(answer), 0);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        return -EIO;
                if (n > 0)
                        r = diag_packet(answer, (size_t) n, dump);
        }
        return r < 0 ? r : 0;
}

/* -------- /proc/net/tcp, where the kernel has no sock_diag -------- */

/* Four words as the kernel prints them: each in the byte order of the machine, as they lie in
 * memory. */
static bool text_address(const char *hex, int family, uint32_t ret[4]) {
        memset(ret, 0, 4 * sizeof(*ret));
        for (unsigned i = 0; i < (family == AF_INET ? 1U : 4U); i++)
                if (sscanf(hex + 8 * i, "%8x", &ret[i]) != 1)
                        return false;
        return true;
}

static int text_dump(int family, unsigned state, Dump *dump) {
        _cleanup_free_ char *line = NULL;
        size_t size = 0;
        int r = 0;

        FILE *f = fopen(family == AF_INET ? "/proc/net/tcp" : "/proc/net/tcp6", "re");
        if (!f)
                return errno == ENOENT && family == AF_INET6 ? 0 : -errno;
        while (r >= 0 && getline(&line, &size, f) >= 0) {
                char local[33];
                unsigned port, at;
                unsigned long long inode;
                uint32_t address[4];

                if (sscanf(line,
                           " %*u: %32[0-9A-F]:%x %*[0-9A-F:] %x %*[0-9A-F:] %*[0-9A-F:] %*x %*u "
                           "%*u %llu",
                           local, &port, &at, &inode) != 4 ||
                    at != state || !text_address(local, family, address))
                        continue;
                r = dump_add(dump, &(Socket){ .inode = inode,
                                              .port = (uint16_t) port,
                                              .reach = reach_of(family, address, false) });
        }
        (void) fclose(f);
        return r;
}

static int dump_all(unsigned state, Dump *dump) {
        static const int families[] = { AF_INET, AF_INET6 };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTS(families); i++) {
                size_t before = dump->n;

                r = diag_dump(families[i], state, dump);
                if (r < 0 && r != -E2BIG) {
                        dump->n = before;
                        r = text_dump(families[i], state, dump);
                }
        }
        return r;
}

/* -------- whose they are -------- */

static int by_inode(const void *a, const void *b) {
        uint64_t x = ((const Socket *) a)->inode, y = ((const Socket *) b)->inode;

        return x < y ? -1 : x > y;
}

/* Marks the sockets that this process holds. A process that is gone, or that we may not look into,
 * holds none. */
static void mark_process(pid_t pid, Dump *dump) {
        char path[32], target[64];
        unsigned long long inode;

        (void) snprintf(path, sizeof(path), "/proc/%d/fd", pid);
        DIR *dir = opendir(path);
        if (!dir)
                return;
        for (const struct dirent *e = readdir(dir); e; e = readdir(dir)) {
                ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);
                if (n < 0)
                        continue;
                target[n] = '\0';
                if (sscanf(target, "socket:[%llu]", &inode) != 1)
                        continue;
                Socket *found = bsearch(&(Socket){ .inode = inode }, dump->sockets, dump->n,
                                        sizeof(Socket), by_inode);
                if (found)
                        found->is_ours = true;
        }
        (void) closedir(dir);
}

static int listeners(uint16_t port, const pid_t *pids, size_t n_pids, Dump *ret) {
        int r;

        *ret = (Dump){ .port = port, .sockets = calloc(SOCKETS_MAX, sizeof(Socket)) };
        if (!ret->sockets)
                return -ENOMEM;
        r = dump_all(TCP_LISTEN, ret);
        if (r < 0)
                return r;
        qsort(ret->sockets, ret->n, sizeof(Socket), by_inode);
        for (size_t i = 0; i < n_pids && ret->n > 0; i++)
                mark_process(pids[i], ret);
        return 0;
}

static void dump_done(Dump *dump) {
        free(dump->sockets);
}

int listener_check(uint16_t port, const pid_t *pids, size_t n_pids) {
        _cleanup_(dump_done) Dump dump = { 0 };
        Reach best = REACH_NOT;
        int r;

        assert(port != 0);

        r = listeners(port, pids, n_pids, &dump);
        if (r < 0)
                return r;
        for (size_t i = 0; i < dump.n; i++)
                best = MAX(best, dump.sockets[i].reach);
        if (best == REACH_NOT)
                return LISTENER_NONE;
        /* Several may share a port (SO_REUSEPORT); any of those that are equally near may answer.
         */
        for (size_t i = 0; i < dump.n; i++)
                if (dump.sockets[i].reach == best && !dump.sockets[i].is_ours)
                        return LISTENER_OTHER;
        return 0;
}

static int by_port(const void *a, const void *b) {
        return *(const uint16_t *) a - *(const uint16_t *) b;
}

int listener_ports(const pid_t *pids, size_t n_pids, uint16_t *ret, size_t max) {
        _cleanup_(dump_done) Dump dump = { 0 };
        _cleanup_free_ uint16_t *ports = NULL;
        size_t n = 0, n_out = 0;
        int r;

        r = listeners(0, pids, n_pids, &dump);
        if (r < 0)
                return r;
        ports = calloc(dump.n + 1, sizeof(*ports));
        if (!ports)
                return -ENOMEM;
        for (size_t i = 0; i < dump.n; i++)
                if (dump.sockets[i].is_ours)
                        ports[n++] = dump.sockets[i].port;
        qsort(ports, n, sizeof(*ports), by_port);
        for (size_t i = 0; i < n && n_out < max; i++)
                if (i == 0 || ports[i] != ports[i - 1])
                        ret[n_out++] = ports[i];
        return (int) n_out;
}

int listener_connections(uint16_t port) {
        Dump dump = { .port = port };
        int r;

        assert(port != 0);

        r = dump_all(TCP_ESTABLISHED, &dump);
        return r < 0 ? r : (int) MIN(dump.n, (size_t) INT32_MAX);
}
