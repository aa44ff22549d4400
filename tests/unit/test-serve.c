/* The store's calls, asked over a channel within one process; the whole of it is passed by
 * test-remote.c. */

#include "store/serve.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/file.h"
#include "base/str.h"
#include "folder.h"
#include "loop.h"
#include "store/file.h"
#include "store/wire.h"

typedef struct Fixture {
        sd_event *loop;
        Folder folder;
        Store *store;
        CallPeer *peer;
        CallServer *calls;
        StoreServer *served;
} Fixture;

typedef struct Outcome {
        int n_done, r;
        WireAnswer answer;
        char body[256];
        int seals;
        size_t n_fds;
        char words[512];
} Outcome;

static void on_request(void *userdata, CallRequest *request) {
        _cleanup_(error_freep) Error *err = NULL;
        Fixture *f = userdata;
        int r;

        assert_true(store_server_knows(request->method) || str_equal(request->method, "nonsense"));
        r = store_server_begin(f->served, request, &err);
        if (r < 0)
                (void) call_fail(call_server_fd(f->calls), request->id, r, error_text(err));
}

static void setup_pair(Fixture *f) {
        _cleanup_free_ char *url = NULL;
        int fds[2];

        *f = (Fixture){ .loop = loop_new(), .folder = folder_new() };
        url = str_format("file://%s", f->folder.path);
        assert_int_equal(store_file_new(f->loop, url, NULL, &f->store, NULL), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
                         0);
        assert_int_equal(call_peer_new(f->loop, fds[0], NULL, NULL, &f->peer), 0);
        assert_int_equal(call_server_new(f->loop, fds[1], on_request, f, &f->calls), 0);
        assert_int_equal(store_server_new(call_server_fd(f->calls), f->store, &f->served), 0);
}

static void teardown_pair(Fixture *f) {
        f->peer = call_peer_free(f->peer);
        f->served = store_server_free(f->served);
        f->store = store_free(f->store);
        f->calls = call_server_free(f->calls);
        f->loop = sd_event_unref(f->loop);
        folder_done(&f->folder);
}

static void on_done(void *userdata, int r, CallReply *reply, Error *err) {
        Outcome *o = userdata;
        ssize_t n;

        o->n_done++;
        o->r = r;
        o->n_fds = reply->n_fds;
        (void) snprintf(o->words, sizeof(o->words), "%s", err ? error_text(err) : "");
        if (r >= 0)
                (void) json_decode_value(reply->answer, &wire_answer_table, JSON_LENIENT,
                                         &o->answer, NULL);
        if (reply->n_fds > 0) {
                n = pread(reply->fds[0], o->body, sizeof(o->body) - 1, 0);
                o->body[MAX(n, 0)] = 0;
                o->seals = fcntl(reply->fds[0], F_GET_SEALS);
        }
}

static void ask(Fixture *f, const char *method, const WireAsk *ask, const int *fds, size_t n_fds,
                Outcome *o) {
        json_table_done(&wire_answer_table, &o->answer);
        *o = (Outcome){ 0 };
        assert_true(call_send(f->peer, method, &wire_ask_table, ask, fds, n_fds, SEC(20), on_done,
                              o) > 0);
        loop_until(f->loop, &o->n_done, 1);
}

static void test_calls(_unused_ void **state) {
        char key[] = "a/b", prefix[] = "a/";
        int body = file_memfd("body", "hello", 5), out = memfd_create("out", MFD_CLOEXEC),
            progress = file_memfd("progress", "", 0), files[2] = { out, progress };
        WireProgress seen = { 0 };
        Outcome o = { 0 };
        Fixture f;

        setup_pair(&f);
        ask(&f, WIRE_GET, &(WireAsk){ .key = key }, NULL, 0, &o);
        assert_int_equal(o.answer.answer, STORE_ABSENT);
        assert_int_equal(o.n_fds, 0);

        ask(&f, WIRE_PUT, &(WireAsk){ .key = key, .condition = STORE_IF_ABSENT }, &body, 1, &o);
        assert_int_equal(o.r, 0);
        assert_int_equal(o.answer.answer, 0);
        assert_non_null(o.answer.etag);
        ask(&f, WIRE_PUT, &(WireAsk){ .key = key, .condition = STORE_IF_ABSENT }, &body, 1, &o);
        assert_int_equal(o.answer.answer, STORE_REFUSED);

        ask(&f, WIRE_GET, &(WireAsk){ .key = key }, NULL, 0, &o);
        assert_string_equal(o.body, "hello");
        assert_int_equal(o.seals, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
        assert_true(o.answer.has_age);

        ask(&f, WIRE_LIST, &(WireAsk){ .key = prefix }, NULL, 0, &o);
        assert_non_null(strstr(o.body, "\"key\":\"a/b\""));
        ask(&f, WIRE_LIST, &(WireAsk){ .key = prefix, .start_after = key }, NULL, 0, &o);
        assert_string_equal(o.body, "{\"entries\":[]}");

        ask(&f, WIRE_FETCH, &(WireAsk){ .key = key, .has_progress = true }, files, 2, &o);
        assert_int_equal(o.answer.size, 5);
        assert_int_equal(pread(progress, &seen, sizeof(seen), 0), sizeof(seen));
        assert_int_equal(seen.n_bytes, 5);
        assert_int_equal(seen.size, 5);

        ask(&f, WIRE_DELETE, &(WireAsk){ .key = key }, NULL, 0, &o);
        assert_int_equal(o.answer.answer, 0);
        ask(&f, WIRE_DELETE, &(WireAsk){ .key = key }, NULL, 0, &o);
        assert_int_equal(o.answer.answer, STORE_ABSENT);
        json_table_done(&wire_answer_table, &o.answer);
        teardown_pair(&f);
        (void) close(body);
        (void) close(out);
        (void) close(progress);
}

static void test_refused(_unused_ void **state) {
        char key[] = "a/b", bad[] = "a/../b";
        int fd = memfd_create("x", MFD_CLOEXEC), fds[3] = { fd, fd, fd };
        Outcome o = { 0 };
        Fixture f;

        setup_pair(&f);
        ask(&f, WIRE_GET, &(WireAsk){ .key = bad }, NULL, 0, &o);
        assert_int_equal(o.r, -EINVAL);
        assert_non_null(strstr(o.words, "a/../b"));
        /* Descriptors are as many as belong to the question. */
        ask(&f, WIRE_GET, &(WireAsk){ .key = key }, &fd, 1, &o);
        assert_int_equal(o.r, -EINVAL);
        ask(&f, WIRE_GET, &(WireAsk){ .key = key, .has_progress = true }, &fd, 1, &o);
        assert_int_equal(o.r, -EINVAL);
        ask(&f, WIRE_PUT, &(WireAsk){ .key = key }, NULL, 0, &o);
        assert_int_equal(o.r, -EINVAL);
        ask(&f, WIRE_FETCH, &(WireAsk){ .key = key, .has_map = true }, fds, 3, &o);
        assert_int_equal(o.r, -EINVAL);
        assert_non_null(strstr(o.words, "descriptors"));
        ask(&f, "nonsense", &(WireAsk){ .key = key }, NULL, 0, &o);
        assert_int_equal(o.r, -EOPNOTSUPP);
        teardown_pair(&f);
        (void) close(fd);
}

/* A call is dropped by its number, others go on; and what is under way at the end is dropped. */
static void test_cancel(_unused_ void **state) {
        char key[] = "big";
        const WireAsk put = { .key = key, .number = 7 };
        const WireCancel other = { .number = 8 }, this = { .number = 7 };
        int fd = memfd_create("x", MFD_CLOEXEC);
        Outcome dropped = { 0 }, told = { 0 }, o = { 0 };
        Fixture f;

        assert_int_equal(ftruncate(fd, 400 << 20), 0);
        setup_pair(&f);
        assert_true(call_send(f.peer, WIRE_PUT, &wire_ask_table, &put, &fd, 1, 0, on_done,
                              &dropped) > 0);
        assert_true(call_send(f.peer, WIRE_CANCEL, &wire_cancel_table, &other, NULL, 0, 0, on_done,
                              &told) > 0);
        assert_true(call_send(f.peer, WIRE_CANCEL, &wire_cancel_table, &this, NULL, 0, 0, on_done,
                              &told) > 0);
        loop_until(f.loop, &told.n_done, 2);
        assert_int_equal(told.r, 0);
        ask(&f, WIRE_GET, &(WireAsk){ .key = key }, NULL, 0, &o);
        assert_int_equal(o.answer.answer, STORE_ABSENT);
        assert_int_equal(dropped.n_done, 0);

        assert_true(call_send(f.peer, WIRE_PUT, &wire_ask_table, &put, &fd, 1, 0, on_done,
                              &dropped) > 0);
        for (int i = 0; i < 4; i++)
                (void) sd_event_run(f.loop, 0);
        teardown_pair(&f);
        assert_int_equal(dropped.n_done, 0);
        (void) close(fd);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_calls),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_cancel),
        };

        return cmocka_run_group_tests_name("serve", tests, NULL, NULL);
}
