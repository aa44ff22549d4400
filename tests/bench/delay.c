/*
 * A server that is further away: takes connections on a free port of loopback, which it prints, and
 * hands them on to 127.0.0.1:PORT. What a client says it holds back for so many milliseconds, which
 * is once for each GET; what the server says passes at once, without being copied.
 *
 *      delay PORT MILLISECONDS
 */

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIPE_BYTES (1024 * 1024)

typedef struct Pair {
        int client, server, msec;
        uint16_t port;
} Pair;

static struct sockaddr_in loopback(uint16_t port) {
        return (struct sockaddr_in){ .sin_family = AF_INET,
                                     .sin_port = htons(port),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static void *answers(void *userdata) {
        const Pair *pair = userdata;
        int ends[2];
        ssize_t n;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return NULL;
        (void) fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
        while ((n = splice(pair->server, NULL, ends[1], NULL, PIPE_BYTES, SPLICE_F_MOVE)) > 0)
                while (n > 0) {
                        ssize_t m = splice(ends[0], NULL, pair->client, NULL, (size_t) n,
                                           SPLICE_F_MOVE);

                        if (m <= 0)
                                break;
                        n -= m;
                }
        (void) shutdown(pair->client, SHUT_RDWR);
        (void) shutdown(pair->server, SHUT_RDWR);
        (void) close(ends[0]);
        (void) close(ends[1]);
        return NULL;
}

static void requests(const Pair *pair) {
        char text[16 * 1024];
        ssize_t n;

        while ((n = read(pair->client, text, sizeof(text))) > 0) {
                (void) poll(NULL, 0, pair->msec);
                if (write(pair->server, text, (size_t) n) != n)
                        break;
        }
        (void) shutdown(pair->client, SHUT_RDWR);
        (void) shutdown(pair->server, SHUT_RDWR);
}

static void *serve(void *userdata) {
        Pair *pair = userdata;
        struct sockaddr_in to = loopback(pair->port);
        pthread_t thread;
        int on = 1;

        pair->server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        (void) setsockopt(pair->server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void) setsockopt(pair->client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (connect(pair->server, (struct sockaddr *) &to, sizeof(to)) == 0 &&
            pthread_create(&thread, NULL, answers, pair) == 0) {
                requests(pair);
                (void) pthread_join(thread, NULL);
        }
        (void) close(pair->server);
        (void) close(pair->client);
        free(pair);
        return NULL;
}

int main(int argc, char **argv) {
        struct sockaddr_in at = loopback(0);
        socklen_t size = sizeof(at);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), msec;
        uint16_t port;

        if (argc != 3 || sscanf(argv[1], "%hu", &port) != 1 || sscanf(argv[2], "%d", &msec) != 1 ||
            bind(fd, (struct sockaddr *) &at, size) < 0 || listen(fd, 64) < 0 ||
            getsockname(fd, (struct sockaddr *) &at, &size) < 0)
                return 1;
        (void) signal(SIGPIPE, SIG_IGN);
        (void) printf("%d\n", ntohs(at.sin_port));
        (void) fflush(stdout);
        for (;;) {
                Pair *pair = calloc(1, sizeof(Pair));
                pthread_t thread;

                if (!pair)
                        return 1;
                pair->port = port;
                pair->msec = msec;
                pair->client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
                if (pair->client < 0 || pthread_create(&thread, NULL, serve, pair) != 0)
                        return 1;
                (void) pthread_detach(thread);
        }
}
