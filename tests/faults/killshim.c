/*
 * A library for LD_PRELOAD that ends the program, or fails a call, at its n-th call that changes
 * something.
 *
 * TENDRIL_FAULT="PROGRAM MODE AT COUNT FILE":
 *   PROGRAM  name of the program that is meant (as in /proc/PID/comm); in any other one the library
 * does nothing MODE     kill: SIGKILL instead of call AT; fail: calls AT .. AT+COUNT-1 answer an
 * errno that fits the call, and are not made; open: the same, and what counts are the calls that
 * open something for reading; with a "+" behind it calls of the children count too (a helper's
 * workers), else only those of the process that began FILE     holds the counter, shared by all
 * runs of the program, and the name of the call at which it happened
 *
 * Both variables leave the environment at once, so that nothing that the program starts is touched.
 * Calls on descriptors 0 to 2, and writes to anything but files, are not counted in mode fail.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct Shared {
        _Atomic uint64_t n;   /* calls so far */
        _Atomic uint64_t hit; /* how often it happened */
        char name[240];       /* the call at which it happened first */
} Shared;

static struct {
        Shared *shared;
        uint64_t at, count;
        bool fail, open, children;
        pid_t pid;
} shim;

static long raw(long number, long a, long b, long c, long d, long e, long f) {
        static long (*next)(long, ...);

        if (!next)
                next = (long (*)(long, ...)) dlsym(RTLD_NEXT, "syscall");
        return next(number, a, b, c, d, e, f);
}

static void __attribute__((constructor)) begin(void) {
        const char *text = getenv("TENDRIL_FAULT");
        char program[64], mode[16], path[256], self[64] = "";
        unsigned long long at, count;
        int fd;

        if (!text)
                return;
        if (sscanf(text, "%63s %15s %llu %llu %255s", program, mode, &at, &count, path) != 5)
                abort();
        unsetenv("TENDRIL_FAULT");
        unsetenv("LD_PRELOAD");
        fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
        if (fd >= 0) {
                char target[4096];
                ssize_t n = readlink("/proc/self/exe", target, sizeof(target) - 1);

                close(fd);
                if (n > 0) {
                        target[n] = 0;
                        snprintf(self, sizeof(self), "%s", strrchr(target, '/') + 1);
                }
        }
        if (strcmp(self, program) != 0)
                return;
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return;
        shim.shared = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        if (shim.shared == MAP_FAILED)
                abort();
        shim.open = strncmp(mode, "open", 4) == 0;
        shim.fail = shim.open || strncmp(mode, "fail", 4) == 0;
        shim.children = strchr(mode, '+') != NULL;
        shim.at = at;
        shim.count = count;
        shim.pid = getpid();
}

/* True: the call is not to be made (mode fail). */
static bool strikes_any(const char *call, int fd, const char *name) {
        char target[160] = "", link[64];
        uint64_t n;

        if (!shim.shared || (!shim.children && getpid() != shim.pid))
                return false;
        n = atomic_fetch_add(&shim.shared->n, 1) + 1;
        if (n < shim.at || n >= shim.at + shim.count)
                return false;
        if (atomic_fetch_add(&shim.shared->hit, 1) == 0) {
                if (fd >= 0) {
                        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
                        ssize_t k = readlink(link, target, sizeof(target) - 1);
                        target[k > 0 ? k : 0] = 0;
                }
                snprintf(shim.shared->name, sizeof(shim.shared->name), "%s(%.140s %.70s)", call,
                         target, name ? name : "");
        }
        if (shim.fail)
                return true;
        (void) kill(getpid(), SIGKILL);
        _exit(137);
}

static bool strikes(const char *call, int fd, const char *name) {
        return !shim.open && strikes_any(call, fd, name);
}

static bool is_file(int fd) {
        struct stat st;

        return fd > 2 && fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

/* A log line is nothing, and a wake-up between a loop's own descriptors neither. */
static bool counts_write(int fd) {
        struct stat st;

        if (!shim.shared || fd <= 2)
                return false;
        if (shim.fail)
                return is_file(fd);
        return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode));
}

#define NEXT(name)                                                                                 \
        static __typeof__(&name) next;                                                             \
        if (!next)                                                                                 \
        next = (__typeof__(&name)) dlsym(RTLD_NEXT, #name)

#define FAILED(code) return (errno = (code), -1)

ssize_t write(int fd, const void *data, size_t size) {
        NEXT(write);
        if (counts_write(fd) && strikes("write", fd, NULL))
                FAILED(ENOSPC);
        return next(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
        NEXT(pwrite);
        if (counts_write(fd) && strikes("pwrite", fd, NULL))
                FAILED(ENOSPC);
        return next(fd, data, size, offset);
}

ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t size, unsigned flags) {
        NEXT(copy_file_range);
        if (strikes("copy_file_range", out, NULL))
                FAILED(ENOSPC);
        return next(in, in_at, out, out_at, size, flags);
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
        NEXT(fallocate);
        if (strikes("fallocate", fd, NULL))
                FAILED(ENOSPC);
        return next(fd, mode, offset, size);
}

int ftruncate(int fd, off_t size) {
        NEXT(ftruncate);
        if (strikes("ftruncate", fd, NULL))
                FAILED(EIO);
        return next(fd, size);
}

/* A killed program's data is in the kernel with or without it: only a failing one is a point. */
int fsync(int fd) {
        NEXT(fsync);
        if (shim.fail && strikes("fsync", fd, NULL))
                FAILED(EIO);
        return next(fd);
}

int fdatasync(int fd) {
        NEXT(fdatasync);
        if (shim.fail && strikes("fdatasync", fd, NULL))
                FAILED(EIO);
        return next(fd);
}

int syncfs(int fd) {
        NEXT(syncfs);
        if (shim.fail && strikes("syncfs", fd, NULL))
                FAILED(EIO);
        return next(fd);
}

static bool open_strikes(int dir_fd, const char *path, int flags) {
        bool changes = flags & (O_CREAT | O_TRUNC);

        if (!shim.shared || changes == shim.open)
                return false;
        return strikes_any(changes ? "openat O_CREAT" : "openat", dir_fd, path);
}

int openat(int dir_fd, const char *path, int flags, ...) {
        NEXT(openat);
        va_list ap;
        mode_t mode;

        va_start(ap, flags);
        mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
        va_end(ap);
        if (open_strikes(dir_fd, path, flags))
                FAILED(flags & O_CREAT ? ENOSPC : EMFILE);
        return next(dir_fd, path, flags, mode);
}

int __openat_2(int dir_fd, const char *path, int flags);
int __openat_2(int dir_fd, const char *path, int flags) {
        NEXT(__openat_2);
        if (open_strikes(dir_fd, path, flags))
                FAILED(EMFILE);
        return next(dir_fd, path, flags);
}

int open(const char *path, int flags, ...) {
        NEXT(open);
        va_list ap;
        mode_t mode;

        va_start(ap, flags);
        mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
        va_end(ap);
        if (open_strikes(-1, path, flags))
                FAILED(flags & O_CREAT ? ENOSPC : EMFILE);
        return next(path, flags, mode);
}

int mkdir(const char *path, mode_t mode) {
        NEXT(mkdir);
        if (strikes("mkdir", -1, path))
                FAILED(ENOSPC);
        return next(path, mode);
}

int mkdirat(int dir_fd, const char *path, mode_t mode) {
        NEXT(mkdirat);
        if (strikes("mkdirat", dir_fd, path))
                FAILED(ENOSPC);
        return next(dir_fd, path, mode);
}

int rename(const char *from, const char *to) {
        NEXT(rename);
        if (strikes("rename", -1, to))
                FAILED(EIO);
        return next(from, to);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
        NEXT(renameat);
        if (strikes("renameat", to_fd, to))
                FAILED(EIO);
        return next(from_fd, from, to_fd, to);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) {
        NEXT(renameat2);
        if (strikes("renameat2", to_fd, to))
                FAILED(EIO);
        return next(from_fd, from, to_fd, to, flags);
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) {
        NEXT(linkat);
        if (strikes("linkat", to_fd, to))
                FAILED(ENOSPC);
        return next(from_fd, from, to_fd, to, flags);
}

int symlink(const char *target, const char *path) {
        NEXT(symlink);
        if (strikes("symlink", -1, path))
                FAILED(ENOSPC);
        return next(target, path);
}

int symlinkat(const char *target, int dir_fd, const char *path) {
        NEXT(symlinkat);
        if (strikes("symlinkat", dir_fd, path))
                FAILED(ENOSPC);
        return next(target, dir_fd, path);
}

int unlink(const char *path) {
        NEXT(unlink);
        if (strikes("unlink", -1, path))
                FAILED(EIO);
        return next(path);
}

int unlinkat(int dir_fd, const char *path, int flags) {
        NEXT(unlinkat);
        if (strikes("unlinkat", dir_fd, path))
                FAILED(EIO);
        return next(dir_fd, path, flags);
}

int rmdir(const char *path) {
        NEXT(rmdir);
        if (strikes("rmdir", -1, path))
                FAILED(EIO);
        return next(path);
}

int fchmod(int fd, mode_t mode) {
        NEXT(fchmod);
        if (strikes("fchmod", fd, NULL))
                FAILED(EIO);
        return next(fd, mode);
}

int fchown(int fd, uid_t uid, gid_t gid) {
        NEXT(fchown);
        if (strikes("fchown", fd, NULL))
                FAILED(EIO);
        return next(fd, uid, gid);
}

int fchownat(int dir_fd, const char *path, uid_t uid, gid_t gid, int flags) {
        NEXT(fchownat);
        if (strikes("fchownat", dir_fd, path))
                FAILED(EIO);
        return next(dir_fd, path, uid, gid, flags);
}

int mount(const char *source, const char *target, const char *type, unsigned long flags,
          const void *data) {
        NEXT(mount);
        if (strikes("mount", -1, target))
                FAILED(EIO);
        return next(source, target, type, flags, data);
}

int umount2(const char *target, int flags) {
        NEXT(umount2);
        if (strikes("umount2", -1, target))
                FAILED(EIO);
        return next(target, flags);
}

int kill(pid_t pid, int signal) {
        if (signal != SIGKILL && strikes("kill", -1, NULL))
                FAILED(EPERM);
        return (int) raw(SYS_kill, pid, signal, 0, 0, 0, 0);
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
        NEXT(send);
        if (!shim.fail && strikes("send", fd, NULL))
                FAILED(EPIPE);
        return next(fd, data, size, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
        NEXT(sendmsg);
        if (!shim.fail && strikes("sendmsg", fd, NULL))
                FAILED(EPIPE);
        return next(fd, message, flags);
}

/* What has no function of its own in the C library, or is called by number on purpose. */
long syscall(long number, ...) {
        va_list ap;
        long a[6];

        va_start(ap, number);
        for (int i = 0; i < 6; i++)
                a[i] = va_arg(ap, long);
        va_end(ap);
        if (number == SYS_clone && strikes("clone", -1, NULL))
                FAILED(EAGAIN);
        if (number == SYS_pidfd_send_signal && a[1] != SIGKILL &&
            strikes("pidfd_send_signal", -1, NULL))
                FAILED(EPERM);
        if (number == SYS_move_mount && strikes("move_mount", -1, NULL))
                FAILED(EIO);
        if (number == SYS_openat2 && (((const struct open_how *) a[2])->flags & O_CREAT) &&
            strikes("openat2 O_CREAT", (int) a[0], (const char *) a[1]))
                FAILED(ENOSPC);
        return raw(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
