/* What a confined process can still do, and what not. Each case is a child, as confinement cannot
 * be undone. */

#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "archives.h"
#include "base/digest.h"
#include "base/file.h"
#include "bundle/bundle.h"
#include "folder.h"

/* Answers of a child: 0 as it should be, else the line at which it is not. */
#define CHECK(condition)                                                                           \
        do {                                                                                       \
                if (!(condition))                                                                  \
                        return __LINE__ % 250 + 1;                                                 \
        } while (0)

typedef int (*Body)(int folder_fd);

static bool has_landlock(const char *lost) {
        return !lost || !strstr(lost, "Landlock");
}

static bool has_seccomp(const char *lost) {
        return !lost || !strstr(lost, "seccomp");
}

/* Runs in a child; its exit status, or 256 + the signal that killed it. */
static int run(Body body) {
        _cleanup_(folder_done) Folder folder = folder_new();
        struct rlimit no_core = { 0 };
        int status;
        pid_t pid;

        pid = fork();
        if (pid == 0) {
                (void) setrlimit(RLIMIT_CORE, &no_core);
                _exit(body(folder.fd));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int confine(int write_fd, int read_fd, bool threads, const char **ret_lost) {
        Confinement how = { .write_fd = write_fd, .read_fd = read_fd, .threads = threads };

        return bundle_confine(&how, ret_lost, NULL);
}

/* errno is that of the try. */
static bool can_open(int dir_fd, const char *path, int flags) {
        int fd = openat(dir_fd, path, flags, 0644);

        if (fd < 0)
                return false;
        (void) close(fd);
        return true;
}

static bool can_make_socket(int domain) {
        int fd = socket(domain, SOCK_STREAM, 0);

        if (fd < 0)
                return false;
        (void) close(fd);
        return true;
}

static int body_write(int folder_fd) {
        const char *lost;
        int fd;

        CHECK(mkdirat(folder_fd, "below", 0755) == 0);
        CHECK(confine(folder_fd, -EBADF, true, &lost) == 0);
        fd = openat(folder_fd, "below/new", O_WRONLY | O_CREAT | O_EXCL, 0644);
        CHECK(fd >= 0 && write(fd, "x", 1) == 1 && ftruncate(fd, 100) == 0);
        CHECK(mkdirat(folder_fd, "more", 0755) == 0);
        CHECK(symlinkat("new", folder_fd, "below/link") == 0);
        if (!has_landlock(lost))
                return 0;
        CHECK(!can_open(AT_FDCWD, "/etc/passwd", O_RDONLY));
        CHECK(!can_open(AT_FDCWD, "/tmp/tendril-confine-new", O_WRONLY | O_CREAT));
        CHECK(!can_open(folder_fd, "../tendril-confine-new", O_WRONLY | O_CREAT));
        return 0;
}

static int body_read(int folder_fd) {
        const char *lost;

        CHECK(file_write_at(folder_fd, "Procfile", "web: x\n", 7, 0644, 0) == 0);
        CHECK(confine(-EBADF, folder_fd, false, &lost) == 0);
        CHECK(can_open(folder_fd, "Procfile", O_RDONLY));
        if (!has_landlock(lost))
                return 0;
        CHECK(!can_open(folder_fd, "Procfile", O_WRONLY) && errno == EACCES);
        CHECK(!can_open(folder_fd, "new", O_WRONLY | O_CREAT));
        CHECK(!can_open(AT_FDCWD, "/etc/passwd", O_RDONLY));
        return 0;
}

static int body_nowhere(int folder_fd) {
        const char *lost;
        int fd;

        CHECK(file_write_at(folder_fd, "bundle", "x", 1, 0644, 0) == 0);
        fd = openat(folder_fd, "bundle", O_RDONLY);
        CHECK(confine(-EBADF, -EBADF, false, &lost) == 0);
        CHECK(read(fd, (char[1]){ 0 }, 1) == 1);
        CHECK(!has_landlock(lost) || !can_open(folder_fd, "bundle", O_RDONLY));
        return 0;
}

static int body_no_sockets(int folder_fd) {
        const char *lost;

        CHECK(confine(folder_fd, -EBADF, true, &lost) == 0);
        if (!has_seccomp(lost))
                return 0;
        CHECK(!can_make_socket(AF_INET) && errno == EPERM);
        CHECK(!can_make_socket(AF_UNIX) && errno == EPERM);
        CHECK(kill(getppid(), 0) == -1 && errno == EPERM);
        CHECK(unlinkat(folder_fd, "x", 0) == -1 && errno == EPERM);
        CHECK(fork() == -1 && errno == EPERM);
        return 0;
}

static void *thread_run(void *userdata) {
        *(int *) userdata = 1;
        return NULL;
}

static int body_threads(int folder_fd) {
        pthread_t thread;
        const char *lost;
        int ran = 0;

        CHECK(confine(folder_fd, -EBADF, true, &lost) == 0);
        CHECK(pthread_create(&thread, NULL, thread_run, &ran) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(ran);
        return 0;
}

static int body_no_threads(int folder_fd) {
        pthread_t thread;
        const char *lost;
        int ran = 0;

        (void) folder_fd;
        CHECK(confine(-EBADF, -EBADF, false, &lost) == 0);
        CHECK(!has_seccomp(lost) || pthread_create(&thread, NULL, thread_run, &ran) != 0);
        return 0;
}

static int body_exec(int folder_fd) {
        const char *lost;

        CHECK(confine(folder_fd, -EBADF, true, &lost) == 0);
        if (!has_seccomp(lost))
                return 77;
        (void) execl("/bin/true", "true", NULL);
        return 1;
}

static int body_ptrace(int folder_fd) {
        const char *lost;

        CHECK(confine(folder_fd, -EBADF, true, &lost) == 0);
        if (!has_seccomp(lost))
                return 77;
        (void) ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        return 1;
}

static int body_limits(int folder_fd) {
        const char *lost;
        void *volatile memory; /* else clang takes the call away, and its failure with it */
        int n = 0, fd;

        CHECK(confine(folder_fd, -EBADF, false, &lost) == 0);
        while (fcntl(folder_fd, F_DUPFD_CLOEXEC, 3) >= 0)
                n++;
        CHECK(n < 64 && errno == EMFILE);
        (void) close(10);
        memory = calloc(1, UINT64_C(1) << 32);
        CHECK(!memory);
        fd = memfd_create("x", MFD_CLOEXEC);
        CHECK(fd >= 0 && ftruncate(fd, INT64_C(1) << 40) == -1 && errno == EFBIG);
        return 0;
}

/* The whole work inside: names that are not ASCII, each decoder, threads. */
static int body_unpack(int folder_fd) {
        const int filters[] = { ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_BZIP2, ARCHIVE_FILTER_XZ,
                                ARCHIVE_FILTER_ZSTD, ARCHIVE_FILTER_NONE };
        int fds[ELEMENTS(filters)], dirs[ELEMENTS(filters)];
        const char *lost;

        for (size_t i = 0; i < ELEMENTS(filters); i++) {
                _cleanup_(buf_done) Buf archive = BUF_INIT(1 << 22);
                bool zip = filters[i] == ARCHIVE_FILTER_NONE;
                struct archive *writer =
                        tar_begin(&archive, filters[i], zip ? ARCHIVE_FORMAT_ZIP : 0);
                char name[32];

                for (int n = 0; n < 200; n++) {
                        (void) snprintf(name, sizeof(name), "th\xc3\xa9/%d", n);
                        tar_add(writer, &(TarSpec){ .name = name, .data = "content" });
                }
                if (!zip)
                        tar_add(writer, &(TarSpec){ .name = "hard", .hardlink = "th\xc3\xa9/0" });
                tar_end(writer);
                fds[i] = file_memfd("archive", archive.data, archive.size);
                (void) snprintf(name, sizeof(name), "%zu", i);
                dirs[i] = file_mkdirs_at(folder_fd, name, 0755);
        }

        CHECK(confine(folder_fd, -EBADF, true, &lost) == 0);
        for (size_t i = 0; i < ELEMENTS(filters); i++) {
                _cleanup_(error_freep) Error *error = NULL;
                TaskUnpack how = { .threads = 4 };
                TaskUnpacked done = { 0 };
                _cleanup_(buf_done) Buf text = BUF_INIT(100);

                if (bundle_unpack(fds[i], dirs[i], &how, &done, &error) < 0) {
                        print_error("%s\n", error_text(error));
                        return 1;
                }
                CHECK(file_read_at(dirs[i], "th\xc3\xa9/199", &text) == 0 && text.size == 7);
                json_table_done(&task_unpacked_table, &done);
        }
        return 0;
}

static int body_sign(int folder_fd) {
        _cleanup_(buf_done) Buf private_pem = BUF_INIT(4096), public_pem = BUF_INIT(4096),
                                envelope = BUF_INIT(4096);
        TaskSign how = { .type = (char[]){ "t" }, .key_id = (char[]){ "k" } };
        const char *lost;

        (void) folder_fd;
        CHECK(confine(-EBADF, -EBADF, false, &lost) == 0);
        CHECK(digest_keygen(&private_pem, &public_pem, NULL) == 0);
        how.private_pem = private_pem.data;
        CHECK(bundle_sign("{}", 2, NULL, 0, &how, &envelope, NULL) == 0);
        CHECK(file_memfd("envelope", envelope.data, envelope.size) >= 0);
        return 0;
}

static int body_told(int folder_fd) {
        const char *lost = "nothing was said";

        CHECK(confine(folder_fd, -EBADF, true, &lost) == 0);
        CHECK(!lost || strcmp(lost, "nothing was said") != 0);
        return lost && strstr(lost, "sanitizer") ? 77 : 0;
}

static void test_bodies(void **state) {
        const struct {
                const char *name;
                Body body;
                int expected;
        } rows[] = {
                { "write", body_write, 0 },
                { "read", body_read, 0 },
                { "nowhere", body_nowhere, 0 },
                { "no sockets", body_no_sockets, 0 },
                { "threads", body_threads, 0 },
                { "no threads", body_no_threads, 0 },
                { "exec", body_exec, 256 + SIGSYS },
                { "ptrace", body_ptrace, 256 + SIGSYS },
                { "limits", body_limits, 0 },
                { "unpack", body_unpack, 0 },
                { "sign", body_sign, 0 },
        };

        (void) state;
        if (run(body_told) == 77)
                skip(); /* a sanitizer is built in: nothing is confined */
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                int r = run(rows[i].body);

                if (r != rows[i].expected && r != 77)
                        fail_msg("%s: %d, expected %d", rows[i].name, r, rows[i].expected);
        }
}

static void test_told(void **state) {
        int r = run(body_told);

        (void) state;
        assert_true(r == 0 || r == 77);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_told),
                cmocka_unit_test(test_bodies),
        };

        (void) setlocale(LC_CTYPE, "C.UTF-8");
        (void) setenv("TZ", "UTC0", 1);
        return cmocka_run_group_tests_name("confine", tests, NULL, NULL);
}
