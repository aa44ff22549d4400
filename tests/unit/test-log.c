/* Lines on stderr, read back from a file in its place; and datagrams to a journal of our own. */

#include "loop/log.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/str.h"
#include "loop.h"

typedef struct Capture {
        int saved_fd, fd;
} Capture;

static void capture_begin(Capture *c) {
        c->saved_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
        c->fd = file_memfd("stderr", "", 0);
        assert_true(c->saved_fd >= 0 && c->fd >= 0);
        assert_true(dup2(c->fd, STDERR_FILENO) >= 0);
}

static char *capture_end(Capture *c) {
        Buf text = BUF_INIT(1 << 20);

        assert_true(dup2(c->saved_fd, STDERR_FILENO) >= 0);
        (void) close(c->saved_fd);
        assert_true(file_read_fd(c->fd, &text) >= 0);
        (void) close(c->fd);
        return buf_steal(&text);
}

static void test_levels(void **state) {
        static const struct {
                const char *level;
                int lowest;
        } rows[] = {
                { NULL, LOG_INFO },   { "", LOG_INFO },         { "debug", LOG_DEBUG },
                { "info", LOG_INFO }, { "notice", LOG_NOTICE }, { "warning", LOG_WARNING },
                { "err", LOG_ERR },   { "rubbish", LOG_INFO },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                if (rows[i].level)
                        assert_int_equal(setenv("TENDRIL_LOG_LEVEL", rows[i].level, 1), 0);
                else
                        assert_int_equal(unsetenv("TENDRIL_LOG_LEVEL"), 0);
                for (int p = LOG_ERR; p <= LOG_DEBUG; p++)
                        assert_int_equal(log_is_on(p), p <= rows[i].lowest);
        }
        assert_int_equal(unsetenv("TENDRIL_LOG_LEVEL"), 0);
}

static void test_stderr(void **state) {
        const LogFields fields = { .deploy_id = "20260801T120000Z-00000000",
                                   .stage = "gate",
                                   .version = "v42",
                                   .message_id = LOG_ID_SWITCHED };
        _cleanup_free_ char *text = NULL;
        Capture c;

        (void) state;
        capture_begin(&c);
        log_info("one %d", 1);
        log_warning("two");
        log_error("three");
        log_debug("not shown");
        log_fields(LOG_NOTICE, &fields, "four");
        log_fields(LOG_NOTICE, &(LogFields){ .hook = "10-x" }, "five");
        text = capture_end(&c);
        assert_string_equal(text, "test-log: one 1\n"
                                  "test-log: warning: two\n"
                                  "test-log: error: three\n"
                                  "test-log: four (gate, v42)\n"
                                  "test-log: five (10-x)\n");
}

/* What comes from outside cannot make lines, nor speak to a terminal; errno is left alone. */
static void test_hostile_text(void **state) {
        _cleanup_free_ char *text = NULL, *big = calloc(1, 20000);
        Capture c;

        (void) state;
        memset(big, 'x', 19999);
        capture_begin(&c);
        errno = ENOTTY;
        log_info("a\nb\x1b[31m\r%s", "\xff");
        log_fields(LOG_INFO, &(LogFields){ .version = "v\n1" }, "c");
        log_info("%s", big);
        assert_int_equal(errno, ENOTTY);
        text = capture_end(&c);
        assert_true(str_has_prefix(text, "test-log: a?b?[31m??\ntest-log: c (v?1)\ntest-log: xxx"));
        assert_true(strlen(text) < LOG_MESSAGE_BYTES + 100);
        assert_true(str_has_suffix(text, "x\n"));
}

/* stderr is said to be the journal, but none is there: the line is not lost. */
static void test_no_journal(void **state) {
        _cleanup_free_ char *text = NULL;
        char stream[64];
        struct stat st;
        Capture c;

        (void) state;
        if (access("/run/systemd/journal/socket", F_OK) >= 0) {
                print_message("a journal runs here: skipped\n");
                skip();
        }
        capture_begin(&c);
        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        (void) snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t) st.st_dev,
                        (uintmax_t) st.st_ino);
        assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
        log_info("said");
        assert_int_equal(setenv("JOURNAL_STREAM", "1:1", 1), 0);
        log_info("and said");
        assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
        text = capture_end(&c);
        /* libsystemd takes a journal that is not there for success: only the second line must be
         * here. */
        assert_true(str_has_suffix(text, "test-log: and said\n"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_levels),
                cmocka_unit_test(test_stderr),
                cmocka_unit_test(test_hostile_text),
                cmocka_unit_test(test_no_journal),
        };

        return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
