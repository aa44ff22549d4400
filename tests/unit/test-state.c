#include "deploy/state.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

typedef struct Fixture {
        char path[64];
        int fd;
} Fixture;

static int setup(void **ret) {
        Fixture *f = calloc(1, sizeof(Fixture));

        assert_non_null(f);
        (void) snprintf(f->path, sizeof(f->path), "/tmp/test-state-XXXXXX");
        assert_non_null(mkdtemp(f->path));
        f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->fd >= 0);
        *ret = f;
        return 0;
}

static int teardown(void **state) {
        static const char *const names[] = { "state.json", "state.json.previous" };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(names); i++)
                (void) unlinkat(f->fd, names[i], 0);
        assert_int_equal(unlinkat(AT_FDCWD, f->path, AT_REMOVEDIR), 0);
        closep(&f->fd);
        free(f);
        return 0;
}

static State *example(uint64_t revision) {
        State *s = state_new();

        assert_non_null(s);
        s->host = strdup("i-0abc");
        s->revision = revision;
        s->current.label = strdup("v41");
        s->current.sha256 = strdup(DIGEST);
        s->current.folder = strdup("0123456789abcdef-7");
        s->current.slot = strdup("b");
        s->current.port = 5102;
        assert_int_equal(json_map_set(&s->current.properties, 8, "GREETING", "hallo \"du\"\n"), 0);
        assert_int_equal(quarantine_add(s, 3, "v40", DIGEST, "gate: never good", SEC(1700000000)),
                         0);
        return s;
}

static void test_fresh(void **state) {
        Fixture *f = *state;
        _cleanup_(state_freep) State *s = NULL;

        assert_int_equal(state_load(f->fd, &s, NULL), STATE_NONE);
        assert_int_equal(s->format, FORMAT_STATE);
        assert_null(s->current.label);
        assert_int_equal(s->desired.revision, 0);
}

static void test_round_trip(void **state) {
        Fixture *f = *state;
        _cleanup_(state_freep) State *a = example(5), *b = NULL;
        _cleanup_(error_freep) Error *err = NULL;

        assert_int_equal(state_save(f->fd, a, &err), 0);
        assert_int_equal(state_load(f->fd, &b, &err), 0);
        assert_string_equal(b->current.label, "v41");
        assert_int_equal(b->current.port, 5102);
        assert_string_equal(json_map_get(&b->current.properties, "GREETING"), "hallo \"du\"\n");
        assert_null(b->previous.label);
        assert_null(b->attempt.id);
        assert_non_null(quarantine_find(b, 3, DIGEST));
        assert_null(quarantine_find(b, 4, DIGEST));
}

static void test_predecessor_is_taken(void **state) {
        Fixture *f = *state;
        _cleanup_(state_freep) State *a = example(5), *b = example(6), *c = NULL;
        _cleanup_(error_freep) Error *err = NULL;

        assert_int_equal(state_save(f->fd, a, NULL), 0);
        assert_int_equal(state_save(f->fd, b, NULL), 0);
        assert_int_equal(file_write_at(f->fd, "state.json", "{\"torn", 6, 0600, FILE_REPLACE), 0);
        assert_int_equal(state_load(f->fd, &c, &err), STATE_PREVIOUS);
        assert_int_equal(c->revision, 5);
        assert_non_null(strstr(error_text(err), "state.json"));
}

static void test_both_damaged(void **state) {
        Fixture *f = *state;
        _cleanup_(state_freep) State *s = NULL;
        _cleanup_(error_freep) Error *err = NULL;

        assert_int_equal(file_write_at(f->fd, "state.json", "x", 1, 0600, FILE_REPLACE), 0);
        assert_int_equal(file_write_at(f->fd, "state.json.previous", "y", 1, 0600, FILE_REPLACE),
                         0);
        assert_int_equal(state_load(f->fd, &s, &err), -EBADMSG);
        assert_null(s);
}

static void test_newer_format_is_not_guessed_at(void **state) {
        Fixture *f = *state;
        _cleanup_(state_freep) State *a = example(5), *b = NULL;
        _cleanup_(error_freep) Error *err = NULL;

        a->format = FORMAT_STATE + 1;
        assert_int_equal(state_save(f->fd, a, NULL), 0);
        assert_int_equal(state_load(f->fd, &b, &err), -EPROTONOSUPPORT);
        assert_non_null(strstr(error_text(err), "newer"));
}

/* Each byte of the file flipped in three ways, and the file cut at each length: an error, or a
 * state that says the same. */
static void test_every_byte(void **state) {
        Fixture *f = *state;
        _cleanup_(state_freep) State *a = example(5);
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_STATE_BYTES);
        static const unsigned char flips[] = { 0x01, 0x20, 0x80 };
        size_t n_same = 0, n_refused = 0;

        assert_int_equal(state_save(f->fd, a, NULL), 0);
        assert_int_equal(file_read_at(f->fd, "state.json", &text), 0);
        for (size_t i = 0; i < text.size; i++)
                for (size_t k = 0; k < ELEMENTS(flips); k++) {
                        _cleanup_(state_freep) State *b = NULL;
                        _cleanup_(error_freep) Error *err = NULL;
                        char was = text.data[i];
                        int r;

                        text.data[i] = (char) (was ^ flips[k]);
                        r = state_parse("state.json", text.data, text.size, &b, &err);
                        text.data[i] = was;
                        if (r < 0) {
                                assert_null(b);
                                n_refused++;
                                continue;
                        }
                        assert_int_equal(b->revision, 5);
                        assert_string_equal(b->current.sha256, DIGEST);
                        n_same++;
                }
        for (size_t n = 0; n + 2 < text.size; n++) {
                _cleanup_(state_freep) State *b = NULL;

                assert_true(state_parse("state.json", text.data, n, &b, NULL) < 0);
        }
        assert_true(n_refused > 100);
        /* White space behind the text, and nothing else, may change unnoticed. */
        assert_true(n_same < 4);
}

static void test_quarantine(void **state _unused_) {
        _cleanup_(state_freep) State *s = state_new();

        assert_non_null(s);
        for (uint64_t i = 1; i <= LIMIT_QUARANTINE + 5; i++)
                assert_int_equal(quarantine_add(s, i, "v", DIGEST, "why", 0), 0);
        assert_int_equal(s->quarantine.n, LIMIT_QUARANTINE);
        assert_null(quarantine_find(s, 5, DIGEST));
        assert_non_null(quarantine_find(s, 6, DIGEST));
        assert_int_equal(quarantine_add(s, 6, "v", DIGEST, "again", 0), 0);
        assert_int_equal(s->quarantine.n, LIMIT_QUARANTINE);
        assert_string_equal(quarantine_find(s, 6, DIGEST)->why, "again");
        quarantine_lift(s, 6, DIGEST);
        assert_null(quarantine_find(s, 6, DIGEST));
}

static void test_versions_move(void **state _unused_) {
        _cleanup_(state_freep) State *s = example(1);
        VersionState copy = { 0 };

        assert_int_equal(version_state_copy(&copy, &s->current), 0);
        assert_string_equal(copy.label, "v41");
        version_state_move(&s->previous, &s->current);
        assert_null(s->current.label);
        assert_string_equal(s->previous.label, "v41");
        version_state_move(&s->previous, &s->previous);
        assert_string_equal(s->previous.label, "v41");
        json_table_done(&version_state_table, &copy);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_fresh, setup, teardown),
                cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
                cmocka_unit_test_setup_teardown(test_predecessor_is_taken, setup, teardown),
                cmocka_unit_test_setup_teardown(test_both_damaged, setup, teardown),
                cmocka_unit_test_setup_teardown(test_newer_format_is_not_guessed_at, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_every_byte, setup, teardown),
                cmocka_unit_test(test_quarantine),
                cmocka_unit_test(test_versions_move),
        };

        return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
