/* A request, from its packet to the answer's packet, in one process and so without confinement
 * (test-confine.c). */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/str.h"
#include "bundle/bundle.h"
#include "folder.h"
#include "loop/call.h"

typedef struct Fixture {
        int ours, theirs;
} Fixture;

static int fixture_new(void **state) {
        Fixture *f = calloc(1, sizeof(*f));
        int fds[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
                return -1;
        f->ours = fds[0];
        f->theirs = fds[1];
        *state = f;
        return 0;
}

static int fixture_free(void **state) {
        Fixture *f = *state;

        (void) close(f->ours);
        (void) close(f->theirs);
        free(f);
        return 0;
}

static void request_of(CallRequest *ret, const char *method, const char *parameters, int fd,
                       size_t n_fds) {
        *ret = (CallRequest){ .id = 7, .method = strdup(method), .n_fds = n_fds };
        for (size_t i = 0; i < n_fds; i++)
                ret->fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        assert_int_equal(json_parse(parameters, strlen(parameters), &ret->parameters, NULL), 0);
}

/* Runs it and checks the packet of the answer; the descriptor that came with it, or -EBADF. */
static int answer_of(const Fixture *f, const CallRequest *request, const char *expected) {
        char packet[65536] = "", control[CMSG_SPACE(sizeof(int))];
        struct iovec iov = { packet, sizeof(packet) - 1 };
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control,
                              .msg_controllen = sizeof(control) };
        _cleanup_(error_freep) Error *error = NULL;
        const BundleTask *task;
        struct cmsghdr *header;
        int fd = -EBADF, r;

        task = bundle_task_find(request, &error);
        assert_non_null(task);
        r = bundle_task_run(task, request, f->theirs, &error);
        if (r != 0)
                fail_msg("%d: %s", r, error_text(error));
        assert_true(recvmsg(f->ours, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) > 0);
        if (!strstr(packet, expected))
                fail_msg("\"%s\" is not in: %s", expected, packet);
        header = CMSG_FIRSTHDR(&msg);
        if (header)
                memcpy(&fd, CMSG_DATA(header), sizeof(fd));
        return fd;
}

static void check_body(int fd, const char *expected) {
        _cleanup_(buf_done) Buf text = BUF_INIT(65536);

        assert_int_equal(file_read_fd(fd, &text), 0);
        if (!strstr(buf_str(&text), expected))
                fail_msg("\"%s\" is not in: %s", expected, buf_str(&text));
        (void) close(fd);
}

static void test_verify(void **state) {
        _cleanup_(call_request_done) CallRequest request = { 0 };
        _cleanup_close_ int fd = file_memfd("bundle", "abc", 3);

        request_of(&request, "verify", "{}", fd, 1);
        assert_int_equal(answer_of(*state, &request, "\"sha256\":\"ba7816bf8f01cfea"), -EBADF);
}

static void test_keygen(void **state) {
        _cleanup_(call_request_done) CallRequest request = { 0 };

        request_of(&request, "keygen", "{}", -1, 0);
        assert_int_equal(answer_of(*state, &request, "-----BEGIN PRIVATE KEY-----"), -EBADF);
}

static void test_sign_and_open(void **state) {
        _cleanup_(call_request_done) CallRequest sign = { 0 }, open = { 0 };
        _cleanup_close_ int payload = file_memfd("payload", "{\"a\":1}", 7), envelope = -EBADF;

        request_of(&sign, "sign", "{\"type\":\"t\"}", payload, 1);
        envelope = answer_of(*state, &sign, "\"answer\":{}");
        assert_true(envelope >= 0);
        request_of(&open, "open",
                   "{\"type\":\"t\",\"purpose\":\"p\",\"now\":\"2026-08-01T12:00:00Z\",\"unsigned_"
                   "allowed\":true}",
                   envelope, 1);
        check_body(answer_of(*state, &open, "\"answer\":{}"), "{\"a\":1}");
}

static void test_plan(void **state) {
        _cleanup_(call_request_done) CallRequest request = { 0 };
        _cleanup_(folder_done) Folder folder = folder_new();

        assert_int_equal(file_write_at(folder.fd, "Procfile", "web: x\n", 7, 0644, 0), 0);
        request_of(&request, "plan", "{}", folder.fd, 1);
        check_body(answer_of(*state, &request, "\"answer\":{}"), "\"name\":\"web\"");
}

static void test_refused(void **state) {
        const struct {
                const char *method, *parameters;
                size_t n_fds;
                int code;
                const char *words;
        } rows[] = {
                { "reboot", "{}", 1, -EOPNOTSUPP, "no task" },
                { "verify", "{}", 0, -EINVAL, "needs 1 descriptors" },
                { "unpack", "{}", 1, -EINVAL, "needs 2 descriptors" },
                { "verify", "{\"sha256\":\"x\"}", 1, -EBADMSG, "verify: parameters: sha256" },
                { "verify", "{\"shasum\":\"x\"}", 1, -EBADMSG, "shasum" },
                { "open", "{}", 1, -EBADMSG, "open: parameters" },
                { "unpack", "{}", 2, -ENOTDIR, "Not a directory" },
                { "plan", "{}", 1, -ENOTDIR, "" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_close_ int fd = file_memfd("bundle", "abcdefgh", 8);
                _cleanup_(call_request_done) CallRequest request = { 0 };
                _cleanup_(error_freep) Error *error = NULL;
                const BundleTask *task;
                int r;

                request_of(&request, rows[i].method, rows[i].parameters, fd, rows[i].n_fds);
                task = bundle_task_find(&request, &error);
                r = task ? bundle_task_run(task, &request, ((Fixture *) *state)->theirs, &error)
                         : error_code(error);
                if (r != rows[i].code || !strstr(error_text(error), rows[i].words))
                        fail_msg("%s %s: %d: %s", rows[i].method, rows[i].parameters, r,
                                 error_text(error));
        }
}

/* Only unpack may write, and only it has threads; plan may read. */
static void test_confinement(void **state) {
        const struct {
                const char *method;
                bool writes, reads;
        } rows[] = {
                { "verify", false, false }, { "open", false, false },  { "sign", false, false },
                { "keygen", false, false }, { "unpack", true, false }, { "plan", false, true },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_close_ int fd = file_memfd("bundle", "abc", 3);
                _cleanup_(call_request_done) CallRequest request = { 0 };
                Confinement confinement;

                request_of(&request, rows[i].method, "{}", fd, 2);
                confinement = bundle_task_confinement(bundle_task_find(&request, NULL), &request);
                assert_int_equal(confinement.write_fd, rows[i].writes ? request.fds[1] : -EBADF);
                assert_int_equal(confinement.read_fd, rows[i].reads ? request.fds[0] : -EBADF);
                assert_int_equal(confinement.threads, rows[i].writes);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_verify, fixture_new, fixture_free),
                cmocka_unit_test_setup_teardown(test_keygen, fixture_new, fixture_free),
                cmocka_unit_test_setup_teardown(test_sign_and_open, fixture_new, fixture_free),
                cmocka_unit_test_setup_teardown(test_plan, fixture_new, fixture_free),
                cmocka_unit_test_setup_teardown(test_refused, fixture_new, fixture_free),
                cmocka_unit_test(test_confinement),
        };

        return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}
