#include "../../agent/service/listener.c"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

/* A listener on a port of the kernel's choice (port 0) or a given one; negative errno. */
static int listen_v4(const char *address, uint16_t *port, bool share) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(*port) };
        socklen_t size = sizeof(a);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

        assert_int_equal(inet_pton(AF_INET, address, &a.sin_addr), 1);
        if (share)
                (void) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
        assert_return_code(bind(fd, (struct sockaddr *) &a, sizeof(a)), errno);
        assert_return_code(listen(fd, 8), errno);
        assert_return_code(getsockname(fd, (struct sockaddr *) &a, &size), errno);
        *port = ntohs(a.sin_port);
        return fd;
}

/* -1: no IPv6 here. */
static int listen_v6(const char *address, uint16_t *port, int v6_only) {
        struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(*port) };
        socklen_t size = sizeof(a);
        int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(inet_pton(AF_INET6, address, &a.sin6_addr), 1);
        if (fd < 0 ||
            setsockopt(fd, IPPROTO_IPV6, 26 /* IPV6_V6ONLY */, &v6_only, sizeof(v6_only)) < 0 ||
            bind(fd, (struct sockaddr *) &a, sizeof(a)) < 0)
                return -1;
        assert_return_code(listen(fd, 8), errno);
        assert_return_code(getsockname(fd, (struct sockaddr *) &a, &size), errno);
        *port = ntohs(a.sin6_port);
        return fd;
}

/* A process without these sockets. */
static pid_t stranger(void) {
        pid_t pid = fork();

        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) syscall(SYS_close_range, 3U, ~0U, 0U);
                (void) pause();
                _exit(0);
        }
        return pid;
}

/* Until the stranger has dropped what it was born with. */
static void wait_for_stranger(pid_t pid) {
        uint16_t ports[64];

        for (unsigned i = 0; i < 100000 && listener_ports(&pid, 1, ports, 64) > 0; i++)
                (void) sched_yield();
}

static void expect(uint16_t port, pid_t pid, int answer) {
        assert_int_equal(listener_check(port, &pid, 1), answer);
}

static void test_whose(void **state) {
        uint16_t port = 0;
        pid_t self = getpid();

        (void) state;
        int fd = listen_v4("127.0.0.1", &port, false);
        pid_t other = stranger();
        wait_for_stranger(other);
        expect(port, self, 0);
        expect(port, other, LISTENER_OTHER);
        expect(port, 999999999, LISTENER_OTHER);
        assert_int_equal(listener_check(port, NULL, 0), LISTENER_OTHER);
        assert_int_equal(listener_check(port, (pid_t[]){ other, self }, 2), 0);
        (void) close(fd);
        expect(port, self, LISTENER_NONE);
        (void) kill(other, SIGKILL);
        (void) waitpid(other, NULL, 0);
}

static void test_addresses(void **state) {
        uint16_t port = 0;
        pid_t self = getpid();
        int fd;

        (void) state;
        fd = listen_v4("0.0.0.0", &port, false);
        expect(port, self, 0);
        (void) close(fd);
        port = 0;
        fd = listen_v4("127.0.0.2", &port, false); /* not reached by 127.0.0.1 */
        expect(port, self, LISTENER_NONE);
        (void) close(fd);
        port = 0;
        fd = listen_v6("::", &port, 0);
        if (fd < 0)
                skip();
        expect(port, self, 0);
        (void) close(fd);
        port = 0;
        fd = listen_v6("::", &port, 1);
        expect(port, self, LISTENER_NONE);
        (void) close(fd);
        port = 0;
        fd = listen_v6("::1", &port, 0);
        expect(port, self, LISTENER_NONE);
        (void) close(fd);
        port = 0;
        fd = listen_v6("::ffff:127.0.0.1", &port, 0);
        expect(port, self, 0);
        (void) close(fd);
}

/* Another one is nearer, or as near. */
static void test_shadowed(void **state) {
        uint16_t port = 0;
        int pair[2], byte = 0;

        (void) state;
        int mine = listen_v4("127.0.0.1", &port, true);
        assert_return_code(pipe2(pair, O_CLOEXEC), errno);
        pid_t other = fork();
        if (other == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) close(mine);
                (void) listen_v4("127.0.0.1", &port, true);
                (void) !write(pair[1], "", 1);
                (void) pause();
                _exit(0);
        }
        assert_int_equal(read(pair[0], &byte, 1), 1);
        expect(port, getpid(), LISTENER_OTHER);
        expect(port, other, LISTENER_OTHER);
        assert_int_equal(listener_check(port, (pid_t[]){ other, getpid() }, 2), 0);
        (void) close(mine);
        mine = listen_v4("0.0.0.0", &port, true);
        expect(port, getpid(), LISTENER_OTHER);
        expect(port, other, 0);
        (void) kill(other, SIGKILL);
        (void) waitpid(other, NULL, 0);
        expect(port, getpid(), 0);
        (void) close(mine);
        (void) close(pair[0]);
        (void) close(pair[1]);
}

static void test_ports(void **state) {
        uint16_t ports[3] = { 0 }, found[8];
        pid_t self = getpid();
        int fds[3];

        (void) state;
        for (size_t i = 0; i < 3; i++)
                fds[i] = listen_v4(i == 1 ? "0.0.0.0" : "127.0.0.1", &ports[i], true);
        int again = listen_v4("127.0.0.1", &ports[0], true);
        qsort(ports, 3, sizeof(*ports), by_port);
        assert_int_equal(listener_ports(&self, 1, found, 8), 3);
        assert_memory_equal(found, ports, sizeof(ports));
        assert_int_equal(listener_ports(&self, 1, found, 2), 2);
        assert_int_equal(listener_ports(NULL, 0, found, 8), 0);
        for (size_t i = 0; i < 3; i++)
                (void) close(fds[i]);
        (void) close(again);
}

static void test_connections(void **state) {
        uint16_t port = 0;
        int clients[5], servers[5];

        (void) state;
        int fd = listen_v4("127.0.0.1", &port, false);
        struct sockaddr_in a = { .sin_family = AF_INET,
                                 .sin_port = htons(port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        assert_int_equal(listener_connections(port), 0);
        for (int i = 0; i < 5; i++) {
                clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                assert_return_code(connect(clients[i], (struct sockaddr *) &a, sizeof(a)), errno);
                servers[i] = accept(fd, NULL, NULL);
                assert_int_equal(listener_connections(port), i + 1);
        }
        for (int i = 0; i < 5; i++) {
                (void) close(servers[i]);
                (void) close(clients[i]);
        }
        assert_int_equal(listener_connections(port), 0);
        (void) close(fd);
}

/* Both sources say the same. */
static void test_without_sock_diag(void **state) {
        uint16_t port = 0;
        Dump diag = { 0 }, text = { 0 };

        (void) state;
        int fd = listen_v4("127.0.0.1", &port, false);
        diag = (Dump){ .port = port, .sockets = calloc(SOCKETS_MAX, sizeof(Socket)) };
        text = (Dump){ .port = port, .sockets = calloc(SOCKETS_MAX, sizeof(Socket)) };
        if (diag_dump(AF_INET, TCP_LISTEN, &diag) == 0)
                assert_int_equal(diag.n, 1);
        assert_int_equal(text_dump(AF_INET, TCP_LISTEN, &text), 0);
        assert_int_equal(text.n, 1);
        assert_int_equal(text.sockets[0].reach, REACH_EXACT);
        if (diag.n == 1)
                assert_int_equal(text.sockets[0].inode, diag.sockets[0].inode);
        dump_done(&diag);
        dump_done(&text);
        (void) close(fd);

        port = 0;
        fd = listen_v6("::", &port, 0);
        if (fd < 0)
                skip();
        text = (Dump){ .port = port, .sockets = calloc(SOCKETS_MAX, sizeof(Socket)) };
        assert_int_equal(text_dump(AF_INET6, TCP_LISTEN, &text), 0);
        assert_int_equal(text.n, 1);
        assert_int_equal(text.sockets[0].reach, REACH_DUAL);
        dump_done(&text);
        (void) close(fd);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_whose),       cmocka_unit_test(test_addresses),
                cmocka_unit_test(test_shadowed),    cmocka_unit_test(test_ports),
                cmocka_unit_test(test_connections), cmocka_unit_test(test_without_sock_diag),
        };

        return cmocka_run_group_tests_name("listener", tests, NULL, NULL);
}
