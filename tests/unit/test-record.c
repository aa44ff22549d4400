#include "deploy/record.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"

typedef struct Fixture {
        char path[64];
        int fd;
} Fixture;

static int setup(void **ret) {
        Fixture *f = calloc(1, sizeof(Fixture));

        assert_non_null(f);
        (void) snprintf(f->path, sizeof(f->path), "/tmp/test-record-XXXXXX");
        assert_non_null(mkdtemp(f->path));
        f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->fd >= 0);
        *ret = f;
        return 0;
}

static void empty(int fd, const char *suffix) {
        for (int i = 0; i < 200; i++) {
                char name[64];

                (void) snprintf(name, sizeof(name), "20260801T1200%02dZ-%08x%s", i % 60,
                                (unsigned) i, suffix);
                (void) unlinkat(fd, name, 0);
        }
}

static int teardown(void **state) {
        Fixture *f = *state;
        int deploys = openat(f->fd, "deploys", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        empty(f->fd, ".json");
        if (deploys >= 0)
                empty(deploys, ".log");
        closep(&deploys);
        (void) unlinkat(f->fd, "deploys", AT_REMOVEDIR);
        (void) unlinkat(f->fd, "broken.json", 0);
        assert_int_equal(unlinkat(AT_FDCWD, f->path, AT_REMOVEDIR), 0);
        closep(&f->fd);
        free(f);
        return 0;
}

static void fill(DeployRecord *r, int i) {
        memset(r, 0, sizeof(*r));
        r->format = 1;
        r->id = str_format("20260801T1200%02dZ-%08x", i % 60, (unsigned) i);
        r->label = strdup("v1");
        r->outcome = OUTCOME_ROLLED_BACK;
        r->error = strdup("gate: not 3 good checks in a row within 10 s");
}

static void test_round_trip(void **state) {
        Fixture *f = *state;
        DeployRecord a, b = { 0 };

        fill(&a, 1);
        record_event(&a, SEC(1700000000), "%s %d", "switched", 3);
        assert_int_equal(record_write(f->fd, &a, NULL), 0);
        assert_int_equal(record_read(f->fd, a.id, &b, NULL), 0);
        assert_string_equal(b.error, a.error);
        assert_int_equal(b.outcome, OUTCOME_ROLLED_BACK);
        assert_int_equal(b.events.n, 1);
        assert_string_equal(((EventRecord *) b.events.items)[0].text, "switched 3");
        assert_string_equal(((EventRecord *) b.events.items)[0].time, "2023-11-14T22:13:20Z");
        json_table_done(&deploy_record_table, &a);
        json_table_done(&deploy_record_table, &b);
}

static void test_bounded(void **state) {
        Fixture *f = *state;
        _cleanup_(strv_freep) char **ids = NULL;

        for (int i = 0; i < 59; i++) {
                DeployRecord r;

                fill(&r, i);
                assert_int_equal(record_write(f->fd, &r, NULL), 0);
                json_table_done(&deploy_record_table, &r);
        }
        assert_int_equal(record_list(f->fd, &ids), 0);
        assert_int_equal(strv_count(ids), LIMIT_RECORDS);
        assert_string_equal(ids[0], "20260801T120058Z-0000003a");
        assert_string_equal(ids[LIMIT_RECORDS - 1], "20260801T120009Z-00000009");
}

static void test_events_are_bounded(void **state _unused_) {
        DeployRecord r = { 0 };

        for (int i = 0; i < 500; i++)
                record_event(&r, 0, "event %d", i);
        assert_int_equal(r.events.n, 200);
        json_table_done(&deploy_record_table, &r);
}

static void test_read_refuses(void **state) {
        Fixture *f = *state;
        _cleanup_(error_freep) Error *a = NULL, *b = NULL, *c = NULL;
        DeployRecord r = { 0 };

        assert_int_equal(record_read(f->fd, "../x", &r, &a), -EINVAL);
        assert_int_equal(record_read(f->fd, "20260801T120000Z-00000000", &r, &b), -ENOENT);
        assert_non_null(strstr(error_text(b), "tendril history"));
        assert_int_equal(file_write_at(f->fd, "broken.json", "{", 1, 0600, 0), 0);
        assert_int_equal(record_read(f->fd, "broken", &r, &c), -EBADMSG);
        assert_null(r.id);
}

static void test_log(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *line = NULL;
        struct stat st;
        int fd;

        fd = record_log_open(f->path, "20260801T120000Z-00000000");
        assert_true(fd >= 0);
        record_log_line(fd, SEC(1700000000), "fetch", "begun");
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size, strlen("2023-11-14T22:13:20Z fetch: begun\n"));
        assert_int_equal(st.st_mode & 07777, 0600);

        line = calloc(1, 4001);
        assert_non_null(line);
        memset(line, 'x', 4000);
        for (int i = 0; i < 2000; i++)
                record_log_line(fd, 0, "hook", line);
        assert_int_equal(fstat(fd, &st), 0);
        assert_true(st.st_size < LIMIT_DEPLOY_LOG_BYTES + 8192);
        assert_true(st.st_size > LIMIT_DEPLOY_LOG_BYTES - 8192);
        record_log_line(-EBADF, 0, "hook", "no log at all is no error");
        closep(&fd);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bounded, setup, teardown),
                cmocka_unit_test(test_events_are_bounded),
                cmocka_unit_test_setup_teardown(test_read_refuses, setup, teardown),
                cmocka_unit_test_setup_teardown(test_log, setup, teardown),
        };

        return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
