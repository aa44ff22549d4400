#include "fetch-fixture.h"

/* ---- Content-Range ---- */

static void test_parse_range(void **state) {
        static const char *const bad[] = {
                "",
                "bytes",
                "bytes ",
                "bytes 0-1",
                "bytes 0-1/",
                "bytes 0-1/*",
                "bytes */5",
                "bytes 1-0/5",
                "bytes 0-5/5",
                "bytes -1-2/5",
                "bytes 0-1/5 ",
                "bytes 0--1/5",
                "Bytes 0-1/5",
                "bytes 0-1/99999999999999999999",
                "bytes 0/1-5",
                "bytes  0-1/5",
                "bytes 0x0-1/5",
                "bytes +0-1/5",
        };
        uint64_t begin_at, end, total;

        (void) state;
        assert_int_equal(transfer_parse_range("bytes 3-9/10", &begin_at, &end, &total), 0);
        assert_int_equal(begin_at, 3);
        assert_int_equal(end, 9);
        assert_int_equal(total, 10);
        assert_int_equal(transfer_parse_range("bytes 0-0/1", &begin_at, &end, &total), 0);
        assert_int_equal(transfer_parse_range(NULL, &begin_at, &end, &total), -EINVAL);
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(transfer_parse_range(bad[i], &begin_at, &end, &total), -EINVAL);
}

/* ---- as it should be ---- */

static void test_sizes(void **state) {
        static const uint64_t sizes[] = { 1,           4711,    MIB - 1,     MIB,      MIB + 1,
                                          8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 16 * MIB, BIG };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                _fixture_ x;

                set_up(&x, sizes[i]);
                run(&x, NULL);
                assert_whole(&x);
                assert_int_equal(x.told, sizes[i]);
                /* No byte was asked for twice. */
                assert_int_equal(x.s3.n_asked, MAX(sizes[i], MIB));
                assert_null(x.s3.seen_match[0]);
                if (sizes[i] > MIB)
                        assert_string_equal(x.s3.seen_match[1], FAKE_ETAG);
        }
}

static void test_parallel(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, 100 * MIB);
        run(&x, FAKE_ETAG);
        assert_whole(&x);
        assert_int_equal(x.s3.n_most, TRANSFER_PARALLEL);
        assert_int_equal(x.s3.n_requests, 14);
        assert_string_equal(x.s3.seen_match[0], FAKE_ETAG);
}

/* Where much is left a request is for several ranges, and the last ones are for one each. */
static void test_pieces(void **state) {
        Fetch f = { .confirmed = true };
        uint64_t offset, bytes, at = 0, smallest = UINT64_MAX, largest = 0;
        int n = 0;

        (void) state;
        assert_int_equal(map_begin("e", 512 * MIB + 5, &f.map), 0);
        for (; next_piece(&f, &offset, &bytes); n++) {
                assert_int_equal(offset, at);
                assert_true(bytes > 0);
                at += bytes;
                largest = MAX(largest, bytes);
                smallest = MIN(smallest, bytes);
                f.slots[n % TRANSFER_PARALLEL].file = (HttpFile){ -1, offset, bytes };
                note(&f, &f.slots[n % TRANSFER_PARALLEL], bytes);
        }
        assert_int_equal(at, 512 * MIB + 5);
        assert_true(map_is_whole(&f.map));
        assert_int_equal(largest, 32 * MIB);
        assert_true(smallest <= 8 * MIB);
        assert_true(n < 40);

        /* A piece ends before what is there, and before what another one has asked for. */
        memset(f.map.got, 0, sizeof(f.map.got));
        f.map.got[0] = 100;
        f.map.got[3] = 1;
        assert_true(next_piece(&f, &offset, &bytes));
        assert_int_equal(offset, 100);
        assert_int_equal(bytes, 24 * MIB - 100);
        f.map.got[3] = 0;
        f.slots[1] = (Slot){ .call = (S3Call *) &f, .file = { -1, 17 * MIB, 10 * MIB } };
        assert_true(next_piece(&f, &offset, &bytes));
        assert_int_equal(bytes, 16 * MIB - 100);

        /* In the middle of a piece. */
        f.slots[0].file = (HttpFile){ -1, 100, 16 * MIB - 100 };
        note(&f, &f.slots[0], 9 * MIB);
        assert_int_equal(f.map.got[0], 8 * MIB);
        assert_int_equal(f.map.got[1], MIB + 100);
        note(&f, &f.slots[0], 10);
        assert_int_equal(f.map.got[0], 110);
        assert_int_equal(f.map.got[1], 0);
        note(&f, &f.slots[0], 16 * MIB - 100);
        assert_int_equal(f.map.got[1], 8 * MIB);
        assert_int_equal(f.map.got[2], 0);
}

static void test_large(void **state) {
        FakeFault cut[] = { { FAKE_CUT, .nth = 3, .n = 9 * MIB + 1 } };
        _fixture_ x;

        (void) state;
        set_up(&x, 200 * MIB);
        set_faults(&x, cut, 1);
        run(&x, NULL);
        assert_whole(&x);
        assert_int_equal(x.s3.n_asked, 200 * MIB + 16 * MIB - (9 * MIB + 1));
}

static void test_empty(void **state) {
        FakeFault whole[] = { { .how = FAKE_WHOLE } };

        (void) state;
        for (int i = 0; i < 2; i++) {
                _fixture_ x;

                set_up(&x, 0);
                if (i == 1)
                        set_faults(&x, whole, 1);
                assert_int_equal(pwrite(x.fd, "old", 3, 0), 3);
                run(&x, NULL);
                assert_whole(&x);
                assert_int_equal(x.s3.n_requests, i == 0 ? 2 : 1);
                run(&x, NULL);
                assert_whole(&x);
        }
}

static void test_absent(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, 5);
        free(TAKE_PTR(x.s3.object));
        run(&x, NULL);
        assert_int_equal(x.r, STORE_ABSENT);
        assert_string_equal(x.etag, "");
}

static void test_refused(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, 5);
        run(&x, FAKE_NEW);
        assert_int_equal(x.r, STORE_REFUSED);
        assert_int_equal(x.s3.n_requests, 1);
}

static void test_without_map(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        closep(&x.map_fd);
        x.map_fd = -EBADF;
        assert_int_equal(pwrite(x.fd, "old", 3, (off_t) BIG + 7), 3);
        run(&x, NULL);
        assert_whole(&x);
        run(&x, NULL);
        assert_whole(&x);
        assert_int_equal(x.s3.n_asked, BIG);
}

static void test_too_large(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, 2 * MIB);
        x.s3.size = LIMIT_BUNDLE_BYTES + 1;
        run(&x, NULL);
        assert_words(&x, -EFBIG, "it has 1073741825 bytes, more than the maximum of 1073741824");
}

/* ---- cuts ---- */

/* The rest is asked for, and nothing else. */
static void test_cut_is_continued(void **state) {
        FakeFault cut[] = { { FAKE_CUT, .nth = 3, .n = 5 * MIB + 17 } };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, cut, 1);
        run(&x, NULL);
        assert_whole(&x);
        assert_int_equal(x.s3.n_asked, BIG + 8 * MIB - (5 * MIB + 17));
}

/* Of an object whose ETag nobody knows yet, what has come is nothing. */
static void test_first_cut(void **state) {
        FakeFault cut[] = { { FAKE_CUT, .nth = 1, .n = 300000 } };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, cut, 1);
        run(&x, NULL);
        assert_whole(&x);
        assert_int_equal(x.s3.n_asked, BIG + MIB);
}

static void test_cut_behind_the_end(void **state) {
        FakeFault cut[] = { { FAKE_CUT, .nth = 2, .n = 8 * MIB } };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, cut, 1);
        run(&x, NULL);
        assert_whole(&x);
        assert_int_equal(x.s3.n_asked, BIG);
}

static void test_cut_always(void **state) {
        FakeFault progress[] = { { FAKE_CUT, .n = 2 * MIB } };
        FakeFault none[] = { { FAKE_CUT, .n = 1000 } };

        (void) state;
        for (int i = 0; i < 2; i++) {
                _fixture_ x;

                /* The first, which is cut as well, must come whole once. */
                set_up(&x, BIG);
                run(&x, NULL);
                assert_int_equal(ftruncate(x.fd, (off_t) (2 * MIB)), 0);
                set_faults(&x, i == 0 ? progress : none, 1);
                x.s3.faults[0].nth = 0;
                run(&x, NULL);
                /* Not even the first: it is cut before anything is known. */
                assert_words(&x, -ECONNRESET, "the fake says no");
                assert_int_equal(x.s3.n_requests, RETRY_ATTEMPTS);
        }
}

/* Each range is cut again and again, but each time more of it is there. */
static void test_cut_with_progress(void **state) {
        FakeFault cuts[40];
        size_t n = 0;
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        for (int i = 2; i <= 12; i++)
                cuts[n++] = (FakeFault){ FAKE_CUT, .nth = i, .n = 2 * MIB };
        set_faults(&x, cuts, n);
        run(&x, NULL);
        assert_whole(&x);
        assert_int_equal(x.s3.n_requests, 12);
}

/* Where s3_send() begins again by itself, what came before is not counted twice. */
static void test_again_within(void **state) {
        FakeFault again[] = { { FAKE_AGAIN, .n = 3 * MIB } };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, again, 1);
        run(&x, NULL);
        assert_whole(&x);
}

/* ---- failures with words ---- */

static void test_storm(void **state) {
        FakeFault once[] = { { FAKE_STATUS, .nth = 2, .n = 503, .code = "SlowDown" } };
        FakeFault always[] = { { FAKE_STATUS, .n = 503, .code = "SlowDown" } };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, once, 1);
        run(&x, NULL);
        assert_whole(&x);

        assert_int_equal(ftruncate(x.map_fd, 0), 0);
        set_faults(&x, always, 1);
        run(&x, NULL);
        assert_words(&x, -EAGAIN, "the fake says no");
        assert_int_equal(x.s3.n_requests, RETRY_ATTEMPTS);
}

static void test_forbidden(void **state) {
        FakeFault faults[] = { { FAKE_STATUS, .n = 403, .code = "AccessDenied" } };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, faults, 1);
        run(&x, NULL);
        assert_words(&x, -EAGAIN, "the fake says no");
        assert_int_equal(x.s3.n_requests, 1);
}

static void test_no_space(void **state) {
        FakeFault faults[] = { { FAKE_ERROR, .nth = 3, .r = -ENOSPC } };
        FakeFault first[] = { { FAKE_ERROR, .r = -ENOSPC } };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, faults, 1);
        run(&x, NULL);
        assert_words(&x, -ENOSPC, "No space left on device: ");
        assert_words(&x, -ENOSPC, " of its 20971643 bytes are still to come: make room for them");

        assert_int_equal(ftruncate(x.map_fd, 0), 0);
        set_faults(&x, first, 1);
        run(&x, NULL);
        assert_words(&x, -ENOSPC, "the fake says no");
}

/* Before all of it comes in vain. */
static void test_no_room(void **state) {
        struct stat st;

        (void) state;
        for (int i = 0; i < 2; i++) {
                _fixture_ x;

                set_up(&x, BIG);
                disk_errno = i == 0 ? ENOSPC : EOPNOTSUPP;
                run(&x, NULL);
                disk_errno = 0;
                assert_int_equal(x.s3.n_requests, i == 0 ? 1 : 4);
                assert_int_equal(fstat(x.map_fd, &st), 0);
                if (i == 0)
                        assert_int_equal(st.st_size, 0);
                else
                        assert_whole(&x);
                if (i == 0)
                        assert_words(&x, -ENOSPC, "20971643 of its 20971643 bytes are still to");
                run(&x, NULL);
                assert_whole(&x);
        }
}

/* What a server may not answer. Nothing of it is taken for a part of the object. */
static void test_wrong_answers(void **state) {
        static const struct {
                FakeFault fault;
                const char *words;
        } cases[] = {
                { { FAKE_ELSEWHERE, .nth = 1, .n = 1 }, "the server gave bytes from 1 on" },
                { { FAKE_ELSEWHERE, .nth = 3, .n = 1 }, "the server gave bytes from " },
                { { FAKE_LATE, .nth = 3 }, "the server gave bytes from " },
                { { FAKE_NO_RANGE, .nth = 1 }, "bytes without saying which" },
                { { FAKE_NO_RANGE, .nth = 2 }, "bytes without saying which" },
                { { FAKE_NO_ETAG, .nth = 1 }, "no ETag" },
                { { FAKE_NO_ETAG, .nth = 3 }, "no ETag" },
                { { FAKE_WHOLE, .nth = 1 }, "more than the 1048576 bytes that were asked for" },
                { { FAKE_WHOLE, .nth = 3 }, "more than the 8388608 bytes that were asked for" },
                { { FAKE_ERROR, .nth = 2, .r = -EFBIG }, "more than the" },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                FakeFault fault = cases[i].fault;
                _fixture_ x;

                set_up(&x, BIG);
                set_faults(&x, &fault, 1);
                run(&x, NULL);
                assert_words(&x, -EBADMSG, cases[i].words);
                set_faults(&x, NULL, 0);
                run(&x, NULL);
                assert_whole(&x);
        }
}

/* A server that knows no ranges is good for what fits into the first one. */
static void test_no_ranges(void **state) {
        FakeFault faults[] = { { .how = FAKE_WHOLE } };
        _fixture_ x;

        (void) state;
        set_up(&x, 777777);
        set_faults(&x, faults, 1);
        run(&x, NULL);
        assert_whole(&x);
        assert_int_equal(x.s3.n_requests, 1);
}

static void test_short_answers(void **state) {
        FakeFault faults[] = { { FAKE_SHORT, .n = 3 * MIB - 1 } };
        FakeFault first[] = { { FAKE_SHORT, .n = 10, .nth = 1 } };

        (void) state;
        for (int i = 0; i < 2; i++) {
                _fixture_ x;

                set_up(&x, BIG);
                set_faults(&x, i == 0 ? faults : first, 1);
                run(&x, NULL);
                assert_whole(&x);
        }
}

/* ---- another object ---- */

static void test_replaced_between_ranges(void **state) {
        (void) state;
        for (int ignores = 0; ignores < 2; ignores++) {
                FakeFault faults[] = { { FAKE_CHANGE, .nth = 3 } };
                _fixture_ x;

                set_up(&x, BIG);
                x.s3.ignores_match = ignores;
                set_faults(&x, faults, 1);
                run(&x, NULL);
                assert_int_equal(x.r, STORE_REFUSED);
                assert_int_equal(x.s3.n_now, 0);

                /* The same two files serve for the new one. */
                set_faults(&x, NULL, 0);
                run(&x, NULL);
                assert_whole(&x);
                assert_string_equal(x.etag, FAKE_NEW);
        }
}

static void test_deleted_between_ranges(void **state) {
        FakeFault faults[] = { { FAKE_ABSENT, .nth = 4 } };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, faults, 1);
        run(&x, NULL);
        assert_int_equal(x.r, STORE_ABSENT);
}

/* ---- cancel and progress ---- */

static void test_cancel_in_progress(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        x.cancel_at = BIG;
        begin(&x, NULL);
        while (x.transfer)
                assert_true(sd_event_run(x.s3.loop, UINT64_MAX) > 0);
        assert_int_equal(x.n_done, 0);
        assert_int_equal(x.n_progress, 1);

        x.cancel_at = 1;
        FakeFault faults[] = { { FAKE_HANG, .nth = 3 } };
        assert_int_equal(ftruncate(x.map_fd, 0), 0);
        set_faults(&x, faults, 1);
        begin(&x, NULL);
        while (x.transfer)
                assert_true(sd_event_run(x.s3.loop, UINT64_MAX) > 0);
        assert_int_equal(x.n_done, 0);
}

static void test_cancel_at_any_time(void **state) {
        (void) state;
        for (int n = 0; n < 12; n++) {
                FakeFault faults[] = { { FAKE_CUT, .nth = 3, .n = 1000 } };
                _fixture_ x;

                set_up(&x, BIG);
                set_faults(&x, faults, 1);
                begin(&x, NULL);
                for (int i = 0; i < n && x.transfer; i++)
                        assert_true(sd_event_run(x.s3.loop, UINT64_MAX) > 0);
                x.transfer = transfer_cancel(x.transfer);
                assert_null(x.s3.calls);
                set_faults(&x, NULL, 0);
                run(&x, NULL);
                assert_whole(&x);
        }
        assert_null(transfer_cancel(NULL));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_parse_range),
                cmocka_unit_test(test_sizes),
                cmocka_unit_test(test_parallel),
                cmocka_unit_test(test_pieces),
                cmocka_unit_test(test_large),
                cmocka_unit_test(test_empty),
                cmocka_unit_test(test_absent),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_without_map),
                cmocka_unit_test(test_too_large),
                cmocka_unit_test(test_cut_is_continued),
                cmocka_unit_test(test_first_cut),
                cmocka_unit_test(test_cut_behind_the_end),
                cmocka_unit_test(test_cut_always),
                cmocka_unit_test(test_cut_with_progress),
                cmocka_unit_test(test_again_within),
                cmocka_unit_test(test_storm),
                cmocka_unit_test(test_forbidden),
                cmocka_unit_test(test_no_space),
                cmocka_unit_test(test_no_room),
                cmocka_unit_test(test_wrong_answers),
                cmocka_unit_test(test_no_ranges),
                cmocka_unit_test(test_short_answers),
                cmocka_unit_test(test_replaced_between_ranges),
                cmocka_unit_test(test_deleted_between_ranges),
                cmocka_unit_test(test_cancel_in_progress),
                cmocka_unit_test(test_cancel_at_any_time),
        };

        return cmocka_run_group_tests_name("transfer", tests, NULL, NULL);
}
