/*
 * Loaded into tendril-net by test_planted.py: the same program, which means harm with the files
 * that it is given. EVIL 1: a child of it keeps the bundle's descriptor and writes to it every
 * millisecond. 2: a byte is not what came from the server. 3: it keeps a writable mapping, and the
 * descriptor, and says nothing.
 */

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MARK_FD 200

/* Opened before the program confines itself. */
__attribute__((constructor)) static void open_mark(void) {
        int fd = open(MARK, O_WRONLY | O_CREAT | O_APPEND, 0666);

        if (fd >= 0) {
                (void) dup2(fd, MARK_FD);
                close(fd);
        }
}

static void mark(int pid) {
        char text[32];

        (void) !write(MARK_FD, text, (size_t) snprintf(text, sizeof(text), "%d\n", pid));
}

static void write_for_ever(int fd) {
        const struct timespec pause = { 0, 1000000 };

        for (;;) {
                (void) syscall(SYS_pwrite64, fd, "late", (size_t) 4, (off_t) 0);
                nanosleep(&pause, NULL);
        }
}

static void do_harm(int fd) {
        static int done;
        pid_t pid;

        if (done++)
                return;
#if EVIL == 1
        pid = fork();
        if (pid == 0)
                write_for_ever(fcntl(fd, F_DUPFD, 100));
        mark(pid);
#else
        pid = getpid();
        (void) write_for_ever;
        mark(pid);
        (void) fcntl(fd, F_DUPFD, 100);
        (void) mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0);
#endif
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
        char copy[16];
        ssize_t n;

        /* The map of the ranges and the progress are small, the bundle is not. */
        if (size > 500 && EVIL == 2) {
                memcpy(copy, data, sizeof(copy));
                copy[7] ^= 1;
                n = syscall(SYS_pwrite64, fd, data, size, offset);
                (void) syscall(SYS_pwrite64, fd, copy, sizeof(copy), offset);
                mark(getpid());
                return n;
        }
        n = syscall(SYS_pwrite64, fd, data, size, offset);
        if (size > 500 && EVIL != 2)
                do_harm(fd);
        return n;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) {
        return pwrite(fd, data, size, offset);
}
