/* main() of the programs fault-*: see countdown.h. The last line is "N allocations, N system calls,
 * N bad". With a name and a number
 * ("state-save alloc:3") only that point is run. */

#include "countdown.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

typedef enum Kind {
        KIND_ALLOC,
        KIND_CALL,
        _KIND_MAX,
} Kind;

static const char *const kinds[] = { "alloc", "call" };

static struct {
        const Case *at;
        Kind kind;
        unsigned n;             /* the one that fails */
        _Atomic unsigned count; /* so far in this run */
        _Atomic bool armed;
        pid_t pid;
        char hit[32]; /* its name */
        unsigned n_points[_KIND_MAX], n_bad;
} test;

void countdown_bad(const char *format, ...) {
        va_list ap;

        test.n_bad++;
        printf("bad: %s %s:%u (%s): ", test.at->name, kinds[test.kind], test.n, test.hit);
        va_start(ap, format);
        vprintf(format, ap);
        va_end(ap);
        printf("\n");
        fflush(stdout);
}

bool countdown_is_jansson(void) {
        return strcmp(test.hit, "jansson") == 0;
}

void countdown_pause(void) {
        test.armed = false;
}

void countdown_resume(void) {
        test.armed = true;
}

static bool strikes(Kind kind, const char *name) {
        if (!test.armed || test.kind != kind || atomic_fetch_add(&test.count, 1) + 1 != test.n)
                return false;
        if (getpid() != test.pid) /* a child before its exec */
                return false;
        (void) snprintf(test.hit, sizeof(test.hit), "%s", name);
        return true;
}

/* ---- allocations ---- */

#define WRAP_ALLOC(type, name, parameters, arguments)                                              \
        type __real_##name parameters;                                                             \
        type __wrap_##name parameters;                                                             \
        type __wrap_##name parameters {                                                            \
                if (strikes(KIND_ALLOC, #name)) {                                                  \
                        errno = ENOMEM;                                                            \
                        return NULL;                                                               \
                }                                                                                  \
                return __real_##name arguments;                                                    \
        }

WRAP_ALLOC(void *, malloc, (size_t size), (size))
WRAP_ALLOC(void *, calloc, (size_t n, size_t size), (n, size))
WRAP_ALLOC(void *, realloc, (void *p, size_t size), (p, size))
WRAP_ALLOC(char *, strdup, (const char *text), (text))
WRAP_ALLOC(char *, strndup, (const char *text, size_t size), (text, size))

int __real_vasprintf(char **ret, const char *format, va_list ap);
int __wrap_vasprintf(char **ret, const char *format, va_list ap);
int __wrap_vasprintf(char **ret, const char *format, va_list ap) {
        return strikes(KIND_ALLOC, "vasprintf") ? -1 : __real_vasprintf(ret, format, ap);
}

/* jansson may take a token for which it had no memory for a wrong one. */
static void *jansson_malloc(size_t size) {
        return strikes(KIND_ALLOC, "jansson") ? NULL : __real_malloc(size);
}

/* ---- system calls ---- */

#define WRAP_CALL(type, name, code, parameters, arguments)                                         \
        type __real_##name parameters;                                                             \
        type __wrap_##name parameters;                                                             \
        type __wrap_##name parameters {                                                            \
                if (strikes(KIND_CALL, #name)) {                                                   \
                        errno = (code);                                                            \
                        return -1;                                                                 \
                }                                                                                  \
                return __real_##name arguments;                                                    \
        }

WRAP_CALL(ssize_t, write, ENOSPC, (int fd, const void *data, size_t size), (fd, data, size))
WRAP_CALL(ssize_t, pwrite, ENOSPC, (int fd, const void *data, size_t size, off_t at),
          (fd, data, size, at))
WRAP_CALL(ssize_t, pread, EIO, (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
WRAP_CALL(int, fsync, EIO, (int fd), (fd))
WRAP_CALL(int, fdatasync, EIO, (int fd), (fd))
WRAP_CALL(int, syncfs, EIO, (int fd), (fd))
WRAP_CALL(int, ftruncate, ENOSPC, (int fd, off_t size), (fd, size))
WRAP_CALL(int, fallocate, ENOSPC, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size))
WRAP_CALL(int, fchmod, EIO, (int fd, mode_t mode), (fd, mode))
WRAP_CALL(int, renameat, EIO, (int a, const char *from, int b, const char *to), (a, from, b, to))
WRAP_CALL(int, renameat2, EIO, (int a, const char *from, int b, const char *to, unsigned flags),
          (a, from, b, to, flags))
WRAP_CALL(int, linkat, ENOSPC, (int a, const char *from, int b, const char *to, int flags),
          (a, from, b, to, flags))
WRAP_CALL(int, symlinkat, ENOSPC, (const char *to, int fd, const char *name), (to, fd, name))
WRAP_CALL(int, unlinkat, EIO, (int fd, const char *name, int flags), (fd, name, flags))
WRAP_CALL(int, mkdirat, ENOSPC, (int fd, const char *name, mode_t mode), (fd, name, mode))
WRAP_CALL(int, memfd_create, EMFILE, (const char *name, unsigned flags), (name, flags))
WRAP_CALL(int, pipe2, EMFILE, (int fds[2], int flags), (fds, flags))
WRAP_CALL(int, socketpair, EMFILE, (int domain, int type, int protocol, int fds[2]),
          (domain, type, protocol, fds))
WRAP_CALL(ssize_t, copy_file_range, EIO,
          (int in, off_t *in_at, int out, off_t *out_at, size_t size, unsigned flags),
          (in, in_at, out, out_at, size, flags))

int __real_openat(int fd, const char *name, int flags, ...);
int __wrap_openat(int fd, const char *name, int flags, ...);
int __wrap_openat(int fd, const char *name, int flags, ...) {
        va_list ap;
        mode_t mode;

        va_start(ap, flags);
        mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
        va_end(ap);
        if (strikes(KIND_CALL, "openat")) {
                errno = flags & O_CREAT ? ENOSPC : EMFILE;
                return -1;
        }
        return __real_openat(fd, name, flags, mode);
}

int __real_open(const char *name, int flags, ...);
int __wrap_open(const char *name, int flags, ...);
int __wrap_open(const char *name, int flags, ...) {
        va_list ap;
        mode_t mode;

        va_start(ap, flags);
        mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
        va_end(ap);
        if (strikes(KIND_CALL, "open")) {
                errno = flags & O_CREAT ? ENOSPC : EMFILE;
                return -1;
        }
        return __real_open(name, flags, mode);
}

/* ---- the countdown ---- */

static bool leaks(void) {
#if defined(__SANITIZE_ADDRESS__)
        return __lsan_do_recoverable_leak_check() != 0;
#else
        return false;
#endif
}

static unsigned n_fds(void) {
        unsigned n = 0;

        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

/* True: the n-th call came. */
static bool run_once(const Case *c) {
        Error *err = NULL;
        unsigned fds;
        int r;

        if (c->begin)
                c->begin();
        fds = n_fds();
        test.hit[0] = 0;
        test.count = 0;
        test.armed = true;
        r = c->run(&err);
        test.armed = false;

        if (!test.hit[0]) {
                if (r < 0)
                        countdown_bad("fails without a fault: %s",
                                      err ? error_text(err) : strerror(-r));
        } else if (r < 0) {
                if (test.kind == KIND_ALLOC && r != -ENOMEM && !(c->flags & CASE_ANY_CODE) &&
                    !(r == -EBADMSG && countdown_is_jansson()))
                        countdown_bad("%s instead of 'no memory'", strerror(-r));
                if (test.kind == KIND_CALL && !err && !(c->flags & CASE_NO_WORDS))
                        countdown_bad("%s without words", strerror(-r));
        }
        error_free(err);
        if (c->end)
                c->end(r);
        if (c->begin == NULL && n_fds() != fds)
                countdown_bad("a descriptor is left open");
        return test.hit[0];
}

static void run_kind(const Case *c, Kind kind, unsigned first, unsigned last) {
        test.kind = kind;
        for (test.n = first; test.n <= last; test.n++) {
                if (!run_once(c)) {
                        if (leaks())
                                countdown_bad("a leak in one of the last 25 points");
                        return;
                }
                test.n_points[kind]++;
                if (test.n % 25 == 0 && leaks())
                        countdown_bad("a leak in one of the last 25 points");
        }
        countdown_bad("does not come to its end in %u runs", last);
}

int main(int argc, char *argv[]) {
        sigset_t mask;
        unsigned only = 0;
        Kind kind = KIND_ALLOC;

        if (argc > 2) {
                kind = strncmp(argv[2], "call:", 5) == 0 ? KIND_CALL : KIND_ALLOC;
                only = (unsigned) strtoul(strchr(argv[2], ':') + 1, NULL, 10);
        }
        (void) setlocale(LC_ALL, "C.UTF-8"); /* as in tendril-bundle */
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        (void) sigaddset(&mask, SIGPIPE);
        (void) sigprocmask(SIG_BLOCK, &mask, NULL);
        json_set_alloc_funcs(jansson_malloc, free);
        test.pid = getpid();

        for (const Case *c = cases; c->name; c++) {
                if (argc > 1 && strcmp(argv[1], c->name) != 0)
                        continue;
                test.at = c;
                if (only > 0) {
                        test.kind = kind;
                        test.n = only;
                        (void) run_once(c);
                        if (leaks())
                                countdown_bad("a leak");
                        continue;
                }
                run_kind(c, KIND_ALLOC, 1, 5000);
                if (!(c->flags & CASE_NO_CALLS))
                        run_kind(c, KIND_CALL, 1, 1000);
        }
        printf("%u allocations, %u system calls, %u bad\n", test.n_points[KIND_ALLOC],
               test.n_points[KIND_CALL], test.n_bad);
        return test.n_bad > 0;
}
