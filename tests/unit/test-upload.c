#include "base/backoff.h"

/* Retries wait for no time at all here. */
#define backoff_chance() 0

#include "net/upload.c"

#include <fcntl.h>

#include "base/file.h"
#include "fake-s3.h"

#define MIB UINT64_C(1048576)
#define BIG (20 * MIB + 123) /* three parts */

typedef struct Fixture {
        S3 s3;
        int fd;
        Transfer *transfer;
        int n_done, r, n_progress;
        uint64_t size, told, most_told, cancel_at;
        char etag[64], words[400];
        bool if_absent;
} Fixture;

static void on_done(void *userdata, int r, const char *etag, uint64_t size, Error *err) {
        Fixture *x = userdata;

        x->transfer = NULL;
        x->n_done++;
        x->r = r;
        x->size = size;
        (void) snprintf(x->etag, sizeof(x->etag), "%s", etag ?: "");
        (void) snprintf(x->words, sizeof(x->words), "%s", r < 0 ? error_text(err) : "");
        assert_true((r < 0) == (err != NULL));
}

static void on_progress(void *userdata, uint64_t n_bytes, uint64_t size) {
        Fixture *x = userdata;

        x->n_progress++;
        x->told = n_bytes;
        assert_true(n_bytes <= size);
        if (x->cancel_at && n_bytes >= x->cancel_at)
                x->transfer = transfer_cancel(x->transfer);
}

static void set_up(Fixture *x, uint64_t size) {
        *x = (Fixture){ .fd = file_memfd("object", "", 0) };
        x->s3.loop = loop_new();
        fake_set_object(&x->s3, size, FAKE_ETAG, 1);
        assert_int_equal(pwrite(x->fd, x->s3.object, size, 0), size);
}

static void tear_down(Fixture *x) {
        x->transfer = transfer_cancel(x->transfer);
        fake_done(&x->s3);
        closep(&x->fd);
}
#define _fixture_ _cleanup_(tear_down) Fixture

static void begin(Fixture *x) {
        TransferSpec spec = { .key = FAKE_KEY,
                              .fd = x->fd,
                              .map_fd = -EBADF,
                              .if_absent = x->if_absent,
                              .progress = on_progress,
                              .done = on_done,
                              .userdata = x };
        Error *err = NULL;

        x->n_done = 0;
        assert_int_equal(transfer_upload(&x->s3, &spec, &x->transfer, &err), 0);
        assert_int_equal(x->n_done, 0);
}

static void run(Fixture *x) {
        begin(x);
        loop_until(x->s3.loop, &x->n_done, 1);
        assert_null(x->s3.calls);
}

static void set_faults(Fixture *x, FakeFault *faults, size_t n) {
        x->s3.faults = faults;
        x->s3.n_faults = n;
}

static void assert_words(const Fixture *x, int r, const char *words) {
        assert_int_equal(x->r, r);
        if (!strstr(x->words, words))
                fail_msg("\"%s\" is not in \"%s\"", words, x->words);
        assert_true(str_has_prefix(x->words, "upload " FAKE_KEY ": "));
}

static void test_single(void **state) {
        static const uint64_t sizes[] = { 0, 1, 300000, TRANSFER_SINGLE_BYTES };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                _fixture_ x;

                set_up(&x, sizes[i]);
                x.if_absent = i % 2;
                run(&x);
                assert_int_equal(x.r, 0);
                assert_int_equal(x.size, sizes[i]);
                assert_int_equal(strlen(x.etag), 32);
                assert_int_equal(x.s3.n_requests, 1);
                assert_int_equal(x.s3.seen_if_absent, x.if_absent);
                assert_int_equal(x.told, sizes[i]);
        }
}

static void test_single_refused(void **state) {
        FakeFault faults[] = { { .how = FAKE_REFUSED } };
        _fixture_ x;

        (void) state;
        set_up(&x, 5);
        x.if_absent = true;
        set_faults(&x, faults, 1);
        run(&x);
        assert_int_equal(x.r, STORE_REFUSED);
        assert_int_equal(x.s3.n_aborted, 0);
}

/* Without a condition nobody may be told that one did not hold. */
static void test_single_refused_without_condition(void **state) {
        FakeFault faults[] = { { .how = FAKE_REFUSED } };
        _fixture_ x;

        (void) state;
        set_up(&x, 5);
        set_faults(&x, faults, 1);
        run(&x);
        assert_words(&x, -EAGAIN, "something else changed it");
}

/* The MD5 of "hello", and of nothing known. */
#define HELLO_MD5 "5d41402abc4b2a76b9719d911017c592"
#define OTHER_MD5 "00000000000000000000000000000000"

/* What was lost is looked for: only what is ours counts. */
static void test_single_read_back(void **state) {
        FakeFault faults[] = { { .how = FAKE_LOST, .method = "PUT" } };

        (void) state;
        for (int i = 0; i < 2; i++) {
                _fixture_ x;

                set_up(&x, 5);
                x.if_absent = true;
                assert_int_equal(pwrite(x.fd, "hello", 5, 0), 5);
                x.s3.head_etag = i == 0 ? HELLO_MD5 : OTHER_MD5;
                set_faults(&x, faults, 1);
                run(&x);
                if (i == 0) {
                        assert_int_equal(x.r, 0);
                        assert_string_equal(x.etag, HELLO_MD5);
                } else
                        assert_words(&x, -ECONNRESET, "the fake says no");
        }
}

/* What the object's ETag is when all parts of the fixture are in it; the caller frees. */
static char *etag_of_parts(const Fixture *x) {
        char *etags[4] = { NULL }, *expected;
        char sha[DIGEST_SHA256_HEX_SIZE];

        for (size_t i = 0; i < 3; i++) {
                digest_bytes(x->s3.object + i * 8 * MIB, MIN(8 * MIB, BIG - i * 8 * MIB), sha);
                etags[i] = strndup(sha, 32);
        }
        expected = multipart_etag(etags, 3);
        for (size_t i = 0; i < 3; i++)
                free(etags[i]);
        return expected;
}

/* The last answer did not come, or says nothing of what became of it: the object does. */
static void test_parts_read_back(void **state) {
        static const FakeFault cases[] = {
                { .how = FAKE_LOST, .method = "POST", .query = "uploadId" },
                { .how = FAKE_ABSENT, .method = "POST", .query = "uploadId" },
                { .how = FAKE_STATUS, .method = "POST", .query = "uploadId", .n = 502 },
                { .how = FAKE_CODE,
                  .method = "POST",
                  .query = "uploadId",
                  .code = "InternalError" },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                FakeFault fault = cases[i];
                _cleanup_free_ char *expected = NULL;
                _fixture_ x;

                set_up(&x, BIG);
                x.if_absent = i > 0;
                expected = etag_of_parts(&x);
                x.s3.head_etag = expected;
                set_faults(&x, &fault, 1);
                run(&x);
                assert_int_equal(x.r, 0);
                assert_string_equal(x.etag, expected);
                assert_int_equal(x.s3.n_aborted, 0);
        }
}

/* Nothing can be looked at: whether it is there is not known. */
static void test_single_lost(void **state) {
        FakeFault faults[] = { { .how = FAKE_LOST } };
        _fixture_ x;

        (void) state;
        set_up(&x, 5);
        x.if_absent = true;
        set_faults(&x, faults, 1);
        run(&x);
        assert_words(&x, -ECONNRESET, "the fake says no");
}

static void test_parts(void **state) {
        (void) state;
        for (int absent = 0; absent < 2; absent++) {
                _fixture_ x;

                set_up(&x, BIG);
                x.if_absent = absent;
                run(&x);
                assert_int_equal(x.r, 0);
                assert_int_equal(x.size, BIG);
                assert_string_equal(x.etag, FAKE_NEW "-3");
                assert_int_equal(x.s3.n_parts_sent, 3);
                assert_int_equal(x.s3.part_sizes[1], 8 * MIB);
                assert_int_equal(x.s3.part_sizes[2], 8 * MIB);
                assert_int_equal(x.s3.part_sizes[3], 4 * MIB + 123);
                assert_int_equal(x.s3.seen_if_absent, absent);
                assert_int_equal(x.told, BIG);
                assert_int_equal(x.s3.n_aborted, 0);
        }
}

/* Where completing does not tell it, the object is asked. */
static void test_etag_untold(void **state) {
        FakeFault faults[] = {
                { .how = FAKE_NO_ETAG, .method = "POST", .query = "uploadId" },
                { .how = FAKE_NO_ETAG, .method = "HEAD" },
        };

        (void) state;
        for (size_t n = 1; n <= ELEMENTS(faults); n++) {
                _fixture_ x;

                set_up(&x, BIG);
                set_faults(&x, faults, n);
                run(&x);
                assert_int_equal(x.s3.n_aborted, 0);
                if (n == 1)
                        assert_string_equal(x.etag, FAKE_NEW "-3");
                else
                        assert_words(&x, -EBADMSG, "it was completed, but its ETag is not known");
        }
}

static void test_in_parallel(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, 100 * MIB);
        run(&x);
        assert_int_equal(x.r, 0);
        assert_int_equal(x.s3.n_parts_sent, 13);
        assert_true(x.s3.n_most <= TRANSFER_PARALLEL);
}

static void test_part_sizes(void **state) {
        _fixture_ x;
        Upload u = { 0 };

        (void) state;
        set_up(&x, 0);
        u.base.spec.fd = x.fd;
        for (uint64_t size = 17 * MIB; size < UINT64_C(5) << 40; size *= 3) {
                if (ftruncate(x.fd, (off_t) size) < 0)
                        break;
                assert_int_equal(measure(&u, NULL), 0);
                assert_true(u.n_parts <= 10000);
                assert_true(u.part_bytes >= PART_BYTES_MIN);
                assert_true(u.n_parts * u.part_bytes >= size);
                assert_true((u.n_parts - 1) * u.part_bytes < size);
                free(u.etags);
        }
}

/* ---- failures: what was begun is aborted ---- */

static void test_failures_abort(void **state) {
        static const struct {
                FakeFault fault;
                int r;
                const char *words;
                int n_aborted;
        } cases[] = {
                { { .how = FAKE_STATUS, .method = "PUT", .nth = 2, .n = 403 },
                  -EAGAIN,
                  "the fake says no",
                  1 },
                { { .how = FAKE_CUT, .method = "PUT", .nth = 3, .n = MIB },
                  -ECONNRESET,
                  "the fake says no",
                  1 },
                { { .how = FAKE_ABSENT, .method = "PUT", .nth = 1 },
                  -EAGAIN,
                  "does not know this upload",
                  1 },
                { { .how = FAKE_REFUSED, .method = "PUT", .nth = 1 },
                  -EAGAIN,
                  "something else changed it",
                  1 },
                { { .how = FAKE_NO_ETAG, .method = "PUT", .nth = 2 },
                  -EBADMSG,
                  "gives part 2 no ETag",
                  1 },
                { { .how = FAKE_STATUS, .method = "POST", .query = "uploads=", .n = 403 },
                  -EAGAIN,
                  "the fake says no",
                  0 },
                { { .how = FAKE_ABSENT, .method = "POST", .query = "uploads=" },
                  -EAGAIN,
                  "does not know",
                  0 },
                { { .how = FAKE_CODE, .method = "POST", .query = "uploads=", .code = "Oops" },
                  -EBADMSG,
                  "without naming",
                  0 },
                { { .how = FAKE_LOST, .method = "POST", .query = "uploadId" },
                  -ECONNRESET,
                  "the fake says no",
                  1 },
                { { .how = FAKE_ABSENT, .method = "POST", .query = "uploadId" },
                  -EAGAIN,
                  "does not know this upload",
                  1 },
                { { .how = FAKE_CODE,
                    .method = "POST",
                    .query = "uploadId",
                    .code = "InternalError" },
                  -EREMOTEIO,
                  "could not put the parts together: words of the server (InternalError)",
                  1 },
                { { .how = FAKE_CODE,
                    .method = "POST",
                    .query = "uploadId",
                    .code = "InvalidPart" },
                  -EREMOTEIO,
                  "words of the server (InvalidPart)",
                  1 },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                FakeFault fault = cases[i].fault;
                _fixture_ x;

                set_up(&x, BIG);
                set_faults(&x, &fault, 1);
                run(&x);
                assert_words(&x, cases[i].r, cases[i].words);
                assert_int_equal(x.s3.n_aborted, cases[i].n_aborted);
                assert_int_equal(x.s3.completed, false);
        }
}

/* Somebody else was first. */
static void test_refused_at_the_end(void **state) {
        static const FakeFault cases[] = {
                { .how = FAKE_REFUSED, .method = "POST", .query = "uploadId" },
                { .how = FAKE_CODE,
                  .method = "POST",
                  .query = "uploadId",
                  .code = "PreconditionFailed" },
                { .how = FAKE_CODE,
                  .method = "POST",
                  .query = "uploadId",
                  .code = "ConditionalRequestConflict" },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                FakeFault fault = cases[i];
                _fixture_ x;

                set_up(&x, BIG);
                x.if_absent = true;
                set_faults(&x, &fault, 1);
                run(&x);
                assert_int_equal(x.r, STORE_REFUSED);
                assert_int_equal(x.s3.n_aborted, 1);
        }
}

static void test_error_within_200_once(void **state) {
        FakeFault faults[] = { { .how = FAKE_CODE,
                                 .method = "POST",
                                 .query = "uploadId",
                                 .nth = 1,
                                 .code = "InternalError" } };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, faults, 1);
        run(&x);
        assert_int_equal(x.r, 0);
        assert_int_equal(x.s3.n_aborted, 0);
}

/* A failing abort changes nothing of what is told. */
static void test_abort_fails(void **state) {
        FakeFault faults[] = {
                { .how = FAKE_STATUS, .method = "PUT", .nth = 2, .n = 403 },
                { .how = FAKE_LOST, .method = "DELETE" },
        };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, faults, 2);
        run(&x);
        assert_words(&x, -EAGAIN, "the fake says no");
}

static void test_file_shrinks(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        begin(&x);
        assert_int_equal(ftruncate(x.fd, (off_t) (9 * MIB)), 0);
        loop_until(x.s3.loop, &x.n_done, 1);
        assert_words(&x, -ENODATA, "read the file: it is shorter than it was");
        assert_int_equal(x.s3.n_aborted, 1);
}

static void test_not_a_file(void **state) {
        TransferSpec spec = { .key = FAKE_KEY, .map_fd = -EBADF, .done = on_done };
        Transfer *transfer = NULL;
        Error *err = NULL;
        _fixture_ x;

        (void) state;
        set_up(&x, 1);
        spec.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_int_equal(transfer_upload(&x.s3, &spec, &transfer, &err), -EINVAL);
        assert_string_equal(error_text(err), "upload " FAKE_KEY ": not a regular file");
        err = error_free(err);
        (void) close(spec.fd);
        assert_int_equal(transfer_upload(&x.s3, &spec, &transfer, &err), -EBADF);
        err = error_free(err);
}

/* ---- what killed runs left ---- */

static void add_upload(Fixture *x, const char *id, const char *initiated) {
        x->s3.uploads[x->s3.n_uploads++] = (FakeUpload){ .id = strdup(id), .initiated = initiated };
}

/* The fake's clock stands at 2025-11-24T16:00:00Z. */
static void test_old_uploads(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        add_upload(&x, "a-young", "2025-11-24T14:00:00.000Z");
        add_upload(&x, "b-old", "2025-11-23T15:00:00.000Z");
        add_upload(&x, "c-almost", "2025-11-23T17:00:00.000Z");
        add_upload(&x, "d-old", "2010-11-23T15:00:00.000Z");
        add_upload(&x, "e-strange", "yesterday");
        add_upload(&x, "f-old", "2024-01-01T00:00:00Z");
        run(&x);
        assert_int_equal(x.r, 0);
        assert_int_equal(x.s3.n_aborted, 3);
        assert_int_equal(x.s3.n_lists, 7);
        for (size_t i = 0; i < x.s3.n_uploads; i++)
                assert_int_equal(x.s3.uploads[i].gone, strstr(x.s3.uploads[i].id, "-old") != NULL);
}

/* Who may not list uploads may upload all the same. */
static void test_old_uploads_forbidden(void **state) {
        FakeFault faults[] = { { .how = FAKE_STATUS, .method = "GET", .n = 403 } };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, faults, 1);
        run(&x);
        assert_int_equal(x.r, 0);
}

/* A server that always shows the same one. */
static void test_old_upload_stays(void **state) {
        FakeFault faults[] = { { .how = FAKE_STATUS, .method = "DELETE", .n = 403 } };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        add_upload(&x, "b-old", "2025-11-23T15:00:00.000Z");
        set_faults(&x, faults, 1);
        run(&x);
        assert_int_equal(x.r, 0);
        assert_int_equal(x.s3.n_lists, 2);
}

/* ---- cancel and progress ---- */

static void test_cancel_at_any_time(void **state) {
        (void) state;
        for (int n = 0; n < 60; n += 3) {
                _fixture_ x;
                bool had_id;

                set_up(&x, BIG);
                begin(&x);
                for (int i = 0; i < n && x.transfer; i++)
                        assert_true(sd_event_run(x.s3.loop, UINT64_MAX) > 0);
                if (!x.transfer)
                        continue;
                had_id = upload_of(x.transfer)->id;
                x.transfer = transfer_cancel(x.transfer);
                while (x.s3.calls)
                        assert_true(sd_event_run(x.s3.loop, UINT64_MAX) > 0);
                assert_int_equal(x.s3.n_aborted, had_id);
                assert_int_equal(x.n_done, 0);
        }
}

static void test_cancel_in_progress(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, 5);
        x.cancel_at = 5;
        begin(&x);
        while (x.transfer)
                assert_true(sd_event_run(x.s3.loop, UINT64_MAX) > 0);
        assert_int_equal(x.n_done, 0);
        assert_int_equal(x.s3.n_aborted, 0);
}

/* A part that s3_send() begins again is not counted twice. */
static void test_count(void **state) {
        FakeFault faults[] = { { .how = FAKE_AGAIN, .method = "PUT", .n = 7 * MIB } };
        uint64_t done, size;
        Upload u = { .size = 100, .n_sent = 10 };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, faults, 1);
        run(&x);
        assert_int_equal(x.r, 0);

        u.parts[0] = (Part){ .call = calloc(1, 1), .file = { .bytes = 50 }, .went = 60 };
        u.parts[1] = (Part){ .file = { .bytes = 50 }, .went = 20 };
        assert_true(upload_count(&u.base, &done, &size));
        assert_int_equal(done, 60);
        assert_int_equal(size, 100);
        on_part_bytes(&u.parts[1], 5);
        assert_int_equal(u.parts[1].went, 25);
        on_part_again(&u.parts[1]);
        assert_int_equal(u.parts[1].went, 0);
        free(u.parts[0].call);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_single),
                cmocka_unit_test(test_single_refused),
                cmocka_unit_test(test_single_refused_without_condition),
                cmocka_unit_test(test_single_lost),
                cmocka_unit_test(test_single_read_back),
                cmocka_unit_test(test_parts_read_back),
                cmocka_unit_test(test_parts),
                cmocka_unit_test(test_etag_untold),
                cmocka_unit_test(test_in_parallel),
                cmocka_unit_test(test_part_sizes),
                cmocka_unit_test(test_failures_abort),
                cmocka_unit_test(test_refused_at_the_end),
                cmocka_unit_test(test_error_within_200_once),
                cmocka_unit_test(test_abort_fails),
                cmocka_unit_test(test_file_shrinks),
                cmocka_unit_test(test_not_a_file),
                cmocka_unit_test(test_old_uploads),
                cmocka_unit_test(test_old_uploads_forbidden),
                cmocka_unit_test(test_old_upload_stays),
                cmocka_unit_test(test_cancel_at_any_time),
                cmocka_unit_test(test_cancel_in_progress),
                cmocka_unit_test(test_count),
        };

        return cmocka_run_group_tests_name("upload", tests, NULL, NULL);
}
