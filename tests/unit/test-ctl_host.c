#include "ctl-run.h"

#include "base/file.h"

static void test_config(_unused_ void **state) {
        char file[] = "/tmp/test-ctl-XXXXXX.yaml";
        _cleanup_free_ char *check = NULL;
        int fd = mkstemps(file, 5);

        assert_true(fd >= 0);
        check = str_format("config check %s", file);
        assert_int_equal(setenv(ARGS_ENV_ROOT, "/tmp/no-such-root", true), 0);
        assert_run("config", EXIT_CODE_OK, "gate.path");
        assert_run("config show --json", EXIT_CODE_OK, "{\"values\":[{\"name\":\"");
        assert_run("config check", EXIT_CODE_OK, "is good.\n");
        assert_run("config shwo", EXIT_CODE_USAGE, "neither show nor check");
        assert_run("config show x", EXIT_CODE_USAGE, "unexpected argument \"x\"");
        assert_run("config check /no/such/file", EXIT_CODE_FAILED, "/no/such/file: No such file");
        assert_run(check, EXIT_CODE_OK, "is good.\n");
        assert_int_equal(write(fd, "gate:\n  pth: /\n", 15), 15);
        assert_run(check, EXIT_CODE_FAILED, "yaml:2: ");
        (void) close(fd);
        (void) unlink(file);
        assert_int_equal(unsetenv(ARGS_ENV_ROOT), 0);
}

static void test_fsck(_unused_ void **state) {
        char root[] = "/tmp/test-ctl_host-XXXXXX";
        _cleanup_free_ char *file = NULL;
        int fd;

        assert_non_null(mkdtemp(root));
        assert_int_equal(setenv(ARGS_ENV_ROOT, root, true), 0);
        assert_run("fsck", EXIT_CODE_OK, "The state on disk is good.\n");
        assert_run("fsck --repair", EXIT_CODE_OK, "The state on disk is good.\n");
        assert_run("fsck --json", EXIT_CODE_OK, "{\"findings\":[],\"left\":0}\n");

        file = str_format("%s/var/lib/tendril", root);
        fd = file_mkdirs_at(AT_FDCWD, file, 0711);
        assert_true(fd >= 0);
        assert_int_equal(file_write_at(fd, "state.json", "{", 1, 0600, 0), 0);
        assert_run("fsck", EXIT_CODE_DAMAGED, "state.json");
        assert_run("fsck", EXIT_CODE_DAMAGED, "to do: this needs a person; see tendrild(8)");
        assert_run("fsck --json", EXIT_CODE_DAMAGED, "\"mend\":null,\"mended\":false}");
        assert_run("fsck --repair", EXIT_CODE_DAMAGED, "could not be mended");

        assert_int_equal(unlinkat(fd, "state.json", 0), 0);
        (void) close(fd);
        for (char *slash = strrchr(file, '/'); strlen(file) >= strlen(root);
             slash = strrchr(file, '/')) {
                assert_int_equal(rmdir(file), 0);
                *slash = '\0';
        }
        assert_int_equal(unsetenv(ARGS_ENV_ROOT), 0);
}

/* A running agent would write what is being mended. */
static void test_fsck_while_running(_unused_ void **state) {
        Setup s;

        agent_start(&s);
        assert_run("fsck --repair", EXIT_CODE_REFUSED, "the agent runs; end it before --repair");
        assert_run("version", EXIT_CODE_OK, "tendril " TENDRIL_VERSION "\ntendrild 0.1.0\n");
        agent_stop(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_config),
                cmocka_unit_test(test_fsck),
                cmocka_unit_test(test_fsck_while_running),
        };

        return cmocka_run_group_tests_name("ctl_host", tests, NULL, NULL);
}
