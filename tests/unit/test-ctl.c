#include "ctl-run.h"

static void test_help(_unused_ void **state) {
        for (const CtlVerb *v = ctl_verbs; v->name; v++) {
                _cleanup_free_ char *line = str_format("%s --help", v->name);
                _cleanup_free_ char *usage = str_format("Usage: tendril %s ", v->name);

                assert_run(line, EXIT_CODE_OK, usage);
        }
}

static void test_nobody(_unused_ void **state) {
        static const char *const verbs[] = { "status",
                                             "status --watch",
                                             "health",
                                             "explain",
                                             "history",
                                             "logs",
                                             "deploy --retry",
                                             "rollback",
                                             "restart",
                                             "reload",
                                             "wait --healthy --timeout 50ms" };

        assert_int_equal(setenv(ARGS_ENV_ROOT, "/tmp/no-such-root", true), 0);
        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                assert_run(verbs[i], EXIT_CODE_UNREACHABLE,
                           "no agent at /tmp/no-such-root/run/tendril/control.sock");
        assert_run("version --json", EXIT_CODE_OK, "\"tendrild\":null}\n");
        assert_int_equal(unsetenv(ARGS_ENV_ROOT), 0);
        assert_run("status --root no/such/folder", EXIT_CODE_USAGE,
                   "--root no/such/folder: No such file");
        assert_int_equal(unsetenv(ARGS_ENV_ROOT), 0);
}

static int print_table(_unused_ int argc, _unused_ char **argv) {
        static const char *const heads[] = { "NAME", "N" };
        _cleanup_(strv_freep) char **cells = NULL;
        const Ctl ctl = { 0 };

        assert_int_equal(ctl_table_add(&cells, "a", "1", "\xc3\xa9t\xc3\xa9-long", NULL, "b\033",
                                       "", CTL_END),
                         0);
        ctl_print_table(&ctl, heads, 2, cells);
        ctl_print_table(&ctl, heads, 2, NULL);
        ctl_print_text("x\033[31m\n\ty\r");
        ctl_print_text(NULL);
        return 0;
}

/* Columns are counted in characters, what a terminal could obey is not printed, and an empty cell
 * is a dash. */
static void test_table(_unused_ void **state) {
        _cleanup_free_ char *text = NULL;
        FILE *old = stdout;
        size_t size;

        stdout = open_memstream(&text, &size);
        (void) print_table(0, NULL);
        (void) fclose(stdout);
        stdout = old;
        assert_string_equal(
                text,
                "NAME      N\na         1\n\xc3\xa9t\xc3\xa9-long  -\nb?        -\nx?[31m\n\ty?");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_help),
                cmocka_unit_test(test_nobody),
                cmocka_unit_test(test_table),
        };

        return cmocka_run_group_tests_name("ctl", tests, NULL, NULL);
}
