#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "bundle/bundle.h"

static void processes_done(JsonArray *array) {
        PlanProcess *processes = array->items;

        for (size_t i = 0; i < array->n; i++)
                json_table_done(&plan_process_table, &processes[i]);
        free(array->items);
}

/* "name=command|name=command" of what it is read as. */
static void check_read(const char *text, const char *expected) {
        _cleanup_(processes_done) JsonArray array = { 0 };
        _cleanup_(buf_done) Buf found = BUF_INIT(65536);
        _cleanup_(error_freep) Error *error = NULL;
        const PlanProcess *processes;
        int r;

        r = procfile_parse(text, strlen(text), "Procfile", &array, &error);
        if (r != 0)
                fail_msg("%s: %d: %s", text, r, error_text(error));
        processes = array.items;
        for (size_t i = 0; i < array.n; i++)
                assert_int_equal(buf_printf(&found, "%s%s=%s", i > 0 ? "|" : "", processes[i].name,
                                            processes[i].command),
                                 0);
        assert_string_equal(buf_str(&found), expected);
}

static void check_refused(const char *text, size_t size, const char *words) {
        _cleanup_(processes_done) JsonArray array = { 0 };
        _cleanup_(error_freep) Error *error = NULL;

        assert_int_equal(procfile_parse(text, size, "Procfile", &array, &error), -EBADMSG);
        if (!strstr(error_text(error), words))
                fail_msg("\"%s\" is not in: %s", words, error_text(error));
}

static void test_read(void **state) {
        (void) state;

        check_read("", "");
        check_read("\n\n# only a comment\n   \n", "");
        check_read("web: java -jar app.jar", "web=java -jar app.jar");
        check_read("web: a\nworker_2: b c\ncron-x:d\n", "web=a|worker_2=b c|cron-x=d");
        check_read("web: a\r\nworker: b  \t \r\n", "web=a|worker=b");
        check_read("\xef\xbb\xbfweb: a\n", "web=a");
        check_read("web:   echo \"a: b\" # not a comment\n", "web=echo \"a: b\" # not a comment");
        check_read("web:\ttab\there\n", "web=tab\there");
        check_read("web: caf\xc3\xa9\n", "web=caf\xc3\xa9");
        check_read("web: $(x) && y > z\n", "web=$(x) && y > z");
}

static void test_refused(void **state) {
        static const char nul[] = "web: a\0b\n";

        (void) state;
        check_refused("web java\n", 9, "Procfile:1: expected a \":\"");
        check_refused("web: a\n\n: b\n", 12, "Procfile:3: expected \"name: command\"");
        check_refused("web: a\n worker: b\n", 18, "Procfile:2:");
        check_refused("web: a\nw b: c\n", 14, "Procfile:2:");
        check_refused("we.b: a\n", 8, "Procfile:1:");
        check_refused("web:\n", 5, "Procfile:1: there is no command");
        check_refused("web:   \n", 8, "Procfile:1: there is no command");
        check_refused("web: a\nweb: b\n", 14, "Procfile:2: a second entry \"web\"");
        check_refused(nul, sizeof(nul) - 1, "Procfile");
        check_refused("web: a\033[2J\n", 11, "Procfile:1: a control character");
        check_refused("web: \xff\n", 7, "UTF-8");
}

static void test_limits(void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(1 << 20);

        (void) state;
        for (int i = 0; i < LIMIT_PROCESSES; i++)
                assert_int_equal(buf_printf(&text, "p%d: x\n", i), 0);
        {
                _cleanup_(processes_done) JsonArray array = { 0 };

                assert_int_equal(
                        procfile_parse(buf_str(&text), text.size, "Procfile", &array, NULL), 0);
                assert_int_equal(array.n, LIMIT_PROCESSES);
        }
        assert_int_equal(buf_append_str(&text, "more: x\n"), 0);
        check_refused(buf_str(&text), text.size, "Procfile:33: more than 32 entries");

        buf_clear(&text);
        assert_int_equal(buf_append_str(&text, "web: "), 0);
        for (int i = 0; i <= LIMIT_COMMAND_BYTES; i++)
                assert_int_equal(buf_append(&text, "x", 1), 0);
        check_refused(buf_str(&text), text.size, "8192");
        {
                _cleanup_(processes_done) JsonArray array = { 0 };

                assert_int_equal(
                        procfile_parse(buf_str(&text), text.size - 1, "Procfile", &array, NULL), 0);
        }

        buf_clear(&text);
        for (int i = 0; i < 65; i++)
                assert_int_equal(buf_append(&text, "n", 1), 0);
        assert_int_equal(buf_append_str(&text, ": x"), 0);
        check_refused(buf_str(&text), text.size, "64 bytes");

        buf_clear(&text);
        while (text.size <= LIMIT_PROCFILE_BYTES)
                assert_int_equal(buf_append_str(&text, "# comment\n"), 0);
        check_refused(buf_str(&text), text.size, "longer than");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_read),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_limits),
        };

        return cmocka_run_group_tests_name("procfile", tests, NULL, NULL);
}
