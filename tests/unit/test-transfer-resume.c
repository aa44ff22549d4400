/* Fetches that go on where an earlier one was cut, and what they do where that is not possible. */

#include "fetch-fixture.h"

/* ---- going on ---- */

/* Runs until the third range hangs, and cancels. */
static void interrupt(Fixture *x) {
        FakeFault faults[] = { { FAKE_HANG, .nth = 3 }, { FAKE_HANG, .nth = 4 } };

        set_faults(x, faults, ELEMENTS(faults));
        begin(x, NULL);
        while (x->s3.n_now != 2 || x->s3.n_requests < 4)
                assert_true(sd_event_run(x->s3.loop, UINT64_MAX) > 0);
        x->transfer = transfer_cancel(x->transfer);
        set_faults(x, NULL, 0);
        assert_int_equal(x->n_done, 0);
        assert_null(x->s3.calls);
}

static void test_resumed(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        interrupt(&x);
        run(&x, NULL);
        assert_whole(&x);
        assert_true(x.s3.n_asked < BIG - 5 * MIB);
        assert_string_equal(x.s3.seen_match[0], FAKE_ETAG);
        assert_int_equal(x.told, BIG);

        /* All is there: it is asked whether it still is that. */
        run(&x, FAKE_ETAG);
        assert_whole(&x);
        assert_int_equal(x.s3.n_requests, 1);
        assert_int_equal(x.s3.n_asked, 1);
}

/* What came of a range that was under way counts, when it was cancelled. */
static void test_resumed_within_range(void **state) {
        FakeFault faults[] = {
                { FAKE_CUT, .nth = 2, .n = 3 * MIB },
                { FAKE_HANG, .nth = 5 },
        };
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, faults, ELEMENTS(faults));
        begin(&x, NULL);
        while (x.s3.n_now != 1 || x.s3.n_requests < 5)
                assert_true(sd_event_run(x.s3.loop, UINT64_MAX) > 0);
        x.transfer = transfer_cancel(x.transfer);
        set_faults(&x, NULL, 0);
        run(&x, NULL);
        assert_whole(&x);
        assert_true(x.s3.n_asked <= 5 * MIB);
}

static void test_replaced_between_runs(void **state) {
        (void) state;
        for (int ignores = 0; ignores < 2; ignores++) {
                _fixture_ x;

                set_up(&x, BIG);
                interrupt(&x);
                fake_set_object(&x.s3, 9 * MIB, FAKE_NEW, 9);
                x.s3.ignores_match = ignores;
                run(&x, NULL);
                assert_whole(&x);
                assert_int_equal(x.size, 9 * MIB);
        }
}

static void test_replaced_and_pinned(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        interrupt(&x);
        fake_set_object(&x.s3, BIG, FAKE_NEW, 9);
        run(&x, FAKE_ETAG);
        assert_int_equal(x.r, STORE_REFUSED);
        /* Pinned to the new one: the map of the old one is none. */
        run(&x, FAKE_NEW);
        assert_whole(&x);
        assert_int_equal(x.s3.n_asked, BIG);
}

static void test_shrunk_between_runs(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        interrupt(&x);
        fake_set_object(&x.s3, 0, FAKE_NEW, 9);
        x.s3.ignores_match = true;
        run(&x, NULL);
        assert_whole(&x);
}

static void test_damaged_map(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        run(&x, NULL);
        assert_int_equal(pwrite(x.map_fd, "X", 1, 9), 1);
        run(&x, NULL);
        assert_whole(&x);
        assert_int_equal(x.s3.n_asked, BIG);

        /* One record: only its range. */
        assert_int_equal(pwrite(x.map_fd, "X", 1, MAP_HEAD_BYTES + MAP_RECORD_BYTES), 1);
        run(&x, NULL);
        assert_whole(&x);
        assert_int_equal(x.s3.n_asked, 8 * MIB);
        assert_int_equal(x.s3.first_offset, 8 * MIB);
}

/* A file that lost its end in a power cut, and one that something else was written behind. */
static void test_file_of_another_length(void **state) {
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        run(&x, NULL);
        assert_int_equal(ftruncate(x.fd, (off_t) (10 * MIB)), 0);
        run(&x, NULL);
        assert_whole(&x);
        assert_int_equal(x.s3.n_asked, BIG - 10 * MIB);

        assert_int_equal(pwrite(x.fd, "more", 4, (off_t) BIG), 4);
        run(&x, NULL);
        assert_whole(&x);
}

/* ---- the map while it goes ---- */

static void test_look(void **state) {
        FakeFault faults[] = { { FAKE_HANG, .nth = 2 }, { FAKE_HANG, .nth = 3 } };
        _fixture_ x;
        Fetch *f;
        Map map;

        (void) state;
        set_up(&x, BIG);
        set_faults(&x, faults, ELEMENTS(faults));
        begin(&x, NULL);
        while (x.s3.n_requests < 4 || x.s3.n_now != 2)
                assert_true(sd_event_run(x.s3.loop, UINT64_MAX) > 0);
        f = fetch_of(x.transfer);
        assert_int_equal(map_load(x.map_fd, &map), 0);
        assert_int_equal(map.got[0], MIB);
        on_slot_bytes(&f->slots[0], 12345);
        fetch_look(x.transfer);
        assert_int_equal(map_load(x.map_fd, &map), 0);
        assert_int_equal(map.got[0], MIB + 12345);
        /* A range that is whole does not wait for that. */
        on_slot_bytes(&f->slots[0], 7 * MIB - 12345);
        assert_int_equal(map_load(x.map_fd, &map), 0);
        assert_int_equal(map.got[0], 8 * MIB);
        /* It begins anew: what was noted is taken back. */
        on_slot_restart(&f->slots[0]);
        fetch_look(x.transfer);
        assert_int_equal(map_load(x.map_fd, &map), 0);
        assert_int_equal(map.got[0], MIB);
}

/* A map that cannot be written costs only the going on. */
static void test_map_read_only(void **state) {
        char path[64];
        _fixture_ x;

        (void) state;
        set_up(&x, BIG);
        run(&x, NULL);
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", x.map_fd);
        closep(&x.fd);
        x.fd = file_memfd("again", "", 0);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        closep(&x.map_fd);
        x.map_fd = fd;
        run(&x, NULL);
        assert_int_equal(x.r, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_resumed),
                cmocka_unit_test(test_resumed_within_range),
                cmocka_unit_test(test_replaced_between_runs),
                cmocka_unit_test(test_replaced_and_pinned),
                cmocka_unit_test(test_shrunk_between_runs),
                cmocka_unit_test(test_damaged_map),
                cmocka_unit_test(test_file_of_another_length),
                cmocka_unit_test(test_look),
                cmocka_unit_test(test_map_read_only),
        };

        return cmocka_run_group_tests_name("transfer-resume", tests, NULL, NULL);
}
