/*
 * A tendril-bundle that means harm, for tests: looks at its request without taking it, keeps what
 * came with it in a child that outlives it, and lets the real program do the work. The child then
 * does what EVIL says to the folder that was to be unpacked into, again and again.
 *
 * Compiled by the test with -DREAL="path of the real program" -DEVIL=1..3 -DMARK="file that it
 * writes its pid to".
 */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int folder_of_request(void) {
        char text[65536], control[CMSG_SPACE(4 * sizeof(int))];
        struct iovec iov = { text, sizeof(text) };
        struct msghdr m = { .msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control,
                            .msg_controllen = sizeof(control) };
        struct cmsghdr *c;
        int fds[4], found = -1;

        if (recvmsg(3, &m, MSG_PEEK) <= 0)
                return -1;
        c = CMSG_FIRSTHDR(&m);
        if (!c || c->cmsg_type != SCM_RIGHTS)
                return -1;
        memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
        for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
                struct stat st;

                if (fstat(fds[i], &st) == 0 && S_ISDIR(st.st_mode))
                        found = fds[i];
        }
        return found;
}

static void evil(int dir, int n) {
        char name[32];
        int fd;

#if EVIL == 1 /* goes on writing */
        (void) snprintf(name, sizeof(name), "late-%d", n % 100);
        fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (fd >= 0)
                (void) (write(fd, "late", 4) + close(fd));
#elif EVIL == 2 /* root's own text becomes a link to what only root may read */
        (void) n;
        (void) name;
        fd = renameat(dir, ".platform", dir, "was");
        (void) symlinkat(SECRET, dir, ".platform");
        fd = renameat(dir, "Procfile", dir, "Procfile.was");
        (void) symlinkat(SECRET "/secret", dir, "Procfile");
        (void) fd;
#else           /* a file of another becomes one of the tree's by a link that chown would follow */
        (void) n;
        (void) name;
        fd = symlinkat(SECRET "/secret", dir, "owned");
        (void) fd;
        (void) unlinkat(dir, "server.py.lnk", 0);
        (void) symlinkat(SECRET, dir, "server.py.lnk");
#endif
}

int main(int argc, char **argv) {
        int dir = folder_of_request();

        (void) argc;
        if (dir >= 0 && fork() == 0) {
                FILE *mark;

                (void) setsid();
                (void) signal(SIGTERM, SIG_IGN);
                mark = fopen(MARK, "w");
                if (mark)
                        (void) (fprintf(mark, "%d\n", getpid()) + fclose(mark));
                for (int n = 0; n < 30000; n++) {
                        evil(dir, n);
                        (void) usleep(1000);
                }
                _exit(0);
        }
        (void) execv(REAL, argv);
        return 1;
}
