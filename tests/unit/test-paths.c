#include "host/paths.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void real_paths(void **state) {
        static const char *const roots[] = { NULL, "/", "//" };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(roots); i++) {
                _cleanup_(paths_done) Paths paths = { 0 };

                assert_int_equal(paths_init(roots[i], &paths, NULL), 0);
                assert_string_equal(paths.root, "");
                assert_string_equal(paths.config, "/etc/tendril/tendril.yaml");
                assert_string_equal(paths.config_dir, "/etc/tendril/tendril.d");
                assert_string_equal(paths.host_hooks, "/etc/tendril/hooks");
                assert_string_equal(paths.vendor_hooks, "/usr/lib/tendril/hooks");
                assert_string_equal(paths.state, "/var/lib/tendril");
                assert_string_equal(paths.versions, "/var/lib/tendril/versions");
                assert_string_equal(paths.slot, "/var/lib/tendril/slot");
                assert_string_equal(paths.app, "/var/app");
                assert_string_equal(paths.current, "/var/app/current");
                assert_string_equal(paths.staging, "/var/app/staging");
                assert_string_equal(paths.run, "/run/tendril");
                assert_string_equal(paths.socket, "/run/tendril/control.sock");
                assert_string_equal(paths.log, "/var/log/tendril");
        }
}

/* No path is left out of the root. */
static void all_are_below_the_root(void **state) {
        _cleanup_(paths_done) Paths paths = { 0 };
        char *const *member = (char *const *) &paths;
        size_t i;

        (void) state;
        assert_int_equal(paths_init("//srv///x//", &paths, NULL), 0);
        assert_string_equal(paths.root, "/srv/x");
        assert_string_equal(paths.socket, "/srv/x/run/tendril/control.sock");
        for (i = 0; i < sizeof(Paths) / sizeof(char *); i++) {
                assert_non_null(member[i]);
                assert_int_equal(strncmp(member[i], "/srv/x", 6), 0);
                assert_true(member[i][strlen(member[i]) - 1] != '/');
        }
}

static void relative_roots_are_refused(void **state) {
        _cleanup_(error_freep) Error *err = NULL;
        Paths paths = { 0 };

        (void) state;
        assert_int_equal(paths_init("srv/x", &paths, &err), -EINVAL);
        assert_string_equal(error_text(err),
                            "root folder \"srv/x\" is not absolute; give it with a leading /");
        assert_int_equal(paths_init("", &paths, NULL), -EINVAL);
        assert_null(paths.root);
        paths_done(&paths);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(real_paths),
                cmocka_unit_test(all_are_below_the_root),
                cmocka_unit_test(relative_roots_are_refused),
        };

        return cmocka_run_group_tests_name("paths", tests, NULL, NULL);
}
