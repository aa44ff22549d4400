/* Each case confines a process of its own, which then tries. */

#include "net/confine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "folder.h"
#include "loop.h"

/* What the child says: the line where it went wrong, or 0. */
#define MUST(holds)                                                                                \
        do {                                                                                       \
                if (!(holds))                                                                      \
                        return __LINE__ - FIRST_LINE;                                              \
        } while (0)

#define CANNOT     250 /* there is no Landlock here */
#define FIRST_LINE __LINE__

static int in_child(int (*run)(const Folder *folder), const Folder *folder) {
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                _exit(run(folder));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void assert_child(int (*run)(const Folder *folder)) {
        Folder folder = folder_new();
        int code;

        assert_int_equal(file_write_at(folder.fd, "token", "t", 1, 0600, 0), 0);
        assert_int_equal(mkdirat(folder.fd, "..data", 0700), 0);
        assert_int_equal(file_write_at(folder.fd, "..data/jwt", "j", 1, 0600, 0), 0);
        assert_int_equal(mkdirat(folder.fd, "sub", 0700), 0);
        assert_int_equal(symlinkat("../..data/jwt", folder.fd, "sub/jwt"), 0);
        code = in_child(run, &folder);
        folder_done(&folder);
        if (code == CANNOT) {
                print_message("there is no Landlock here, or a sanitizer\n");
                skip();
        }
        if (code != 0)
                fail_msg("line %d", code + FIRST_LINE);
}

static int can_read(const char *path) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        char byte;

        return fd >= 0 && read(fd, &byte, 1) >= 0;
}

static char *below(const Folder *folder, const char *name) {
        char *path = str_format("%s/%s", folder->path, name);

        if (!path)
                abort();
        return path;
}

/* Opened with one variable; 0, or what the child ends with. */
static int confine_with(const char *variable) {
        WireOpen open = { .url = strdup("s3://b") };
        int r;

        (void) strv_add(&open.environment, 1, variable);
        r = net_confine_files(&open, NULL);
        wire_open_done(&open);
        return r;
}

static int try_process(_unused_ const Folder *folder) {
        struct rlimit limit;

        net_confine_process();
        MUST(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
        MUST(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
        MUST(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
        MUST(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max <= 1024 &&
             limit.rlim_cur >= 512);
        MUST(getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_max == LIMIT_BUNDLE_BYTES);
        return 0;
}

static void test_process(_unused_ void **state) {
        assert_child(try_process);
}

static int try_files(const Folder *folder) {
        _cleanup_free_ char *token = below(folder, "token"), *made = below(folder, "made");
        _cleanup_close_ int given = open(token, O_RDWR | O_CLOEXEC);
        struct addrinfo *found = NULL;
        int r, memory;

        MUST(can_read(token));
        r = net_confine_files(NULL, NULL);
        if (r == NET_CONFINE_NONE)
                return CANNOT;
        MUST(r == 0);
        MUST(!can_read(token));
        MUST(open(made, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) < 0 && errno == EACCES);
        MUST(unlink(token) < 0 && errno == EACCES);
        MUST(open("/dev/null", O_WRONLY | O_CLOEXEC) < 0 && errno == EACCES);
        MUST(execl("/bin/true", "true", NULL) < 0 && errno == EACCES);
        MUST(kill(getppid(), 0) == 0 || errno == EPERM);
        /* What it was given. */
        MUST(pwrite(given, "w", 1, 0) == 1 && ftruncate(given, 100) == 0);
        memory = memfd_create("m", MFD_CLOEXEC);
        MUST(memory >= 0 && write(memory, "x", 1) == 1);
        /* What it needs. */
        MUST(can_read("/etc/passwd") && can_read("/etc/hosts"));
        MUST(getaddrinfo("localhost", "80", NULL, &found) == 0);
        freeaddrinfo(found);
        return 0;
}

static void test_files(_unused_ void **state) {
        assert_child(try_files);
}

/* It connects, and does not listen. */
static int try_network(_unused_ const Folder *folder) {
        struct sockaddr_in at = { .sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(at);
        int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
            client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

        MUST(bind(server, (struct sockaddr *) &at, size) == 0 && listen(server, 1) == 0);
        MUST(getsockname(server, (struct sockaddr *) &at, &size) == 0);
        r = net_confine_files(NULL, NULL);
        if (r == NET_CONFINE_NONE)
                return CANNOT;
        MUST(connect(client, (struct sockaddr *) &at, size) == 0);
        return 0;
}

static void test_network(_unused_ void **state) {
        assert_child(try_network);
}

/* A token is read where it stands, and where its link leads to, also when it is turned. */
static int try_token(const Folder *folder) {
        _cleanup_free_ char *jwt = below(folder, "sub/jwt"), *token = below(folder, "token"),
                            *variable = str_format("AWS_WEB_IDENTITY_TOKEN_FILE=%s", jwt);
        int r = confine_with(variable);

        if (r == NET_CONFINE_NONE)
                return CANNOT;
        MUST(r == 0);
        MUST(can_read(jwt));
        MUST(!can_read(token));
        return 0;
}

static void test_token(_unused_ void **state) {
        assert_child(try_token);
}

static int try_certificates(const Folder *folder) {
        _cleanup_free_ char *file = below(folder, "token");
        WireOpen open = { .ca_file = file };
        int r = net_confine_files(&open, NULL);

        if (r == NET_CONFINE_NONE)
                return CANNOT;
        MUST(r == 0);
        MUST(can_read(file));
        MUST(open.ca_file && access("/bin/true", X_OK) == 0);
        MUST(execl("/bin/true", "true", NULL) < 0 && errno == EACCES);
        return 0;
}

static void test_certificates(_unused_ void **state) {
        assert_child(try_certificates);
}

/* Where a profile may name a program, that program can do what its user can. */
static int try_profile(const Folder *folder) {
        _cleanup_free_ char *token = below(folder, "token"), *aws = below(folder, ".aws"),
                            *home = str_format("HOME=%s", folder->path);

        MUST(confine_with("AWS_PROFILE=x") == NET_CONFINE_PROGRAM);
        MUST(confine_with("AWS_CONFIG_FILE=/x") == NET_CONFINE_PROGRAM);
        MUST(mkdir(aws, 0700) == 0);
        MUST(confine_with(home) == NET_CONFINE_PROGRAM);
        MUST(can_read(token));
        MUST(unlink(token) == 0);
        MUST(rmdir(aws) == 0);
        if (confine_with(home) == NET_CONFINE_NONE)
                return CANNOT;
        MUST(mkdir(aws, 0700) < 0);
        return 0;
}

static void test_profile(_unused_ void **state) {
        assert_child(try_profile);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_process),      cmocka_unit_test(test_files),
                cmocka_unit_test(test_network),      cmocka_unit_test(test_token),
                cmocka_unit_test(test_certificates), cmocka_unit_test(test_profile),
        };

        return cmocka_run_group_tests_name("confine-net", tests, NULL, NULL);
}
