#include "host/identity.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/utsname.h>

#include <cmocka.h>

#include "base/str.h"

static void the_configured_id_counts(void **state) {
        char id[] = "i-0123";
        Config config = { .host = id };
        _cleanup_free_ char *host = NULL;

        (void) state;
        assert_int_equal(identity_host(&config, &host, NULL), 0);
        assert_string_equal(host, "i-0123");
        assert_ptr_not_equal(host, id);
}

static void else_the_name_of_the_host(void **state) {
        Config config = { 0 };
        _cleanup_free_ char *host = NULL;
        struct utsname system;

        (void) state;
        assert_int_equal(uname(&system), 0);
        if (str_is_label(system.nodename)) {
                assert_int_equal(identity_host(&config, &host, NULL), 0);
                assert_string_equal(host, system.nodename);
        } else {
                assert_int_equal(identity_host(&config, &host, NULL), -EINVAL);
        }
}

static void what_is_no_label_is_refused(void **state) {
        char id[] = "a/b\033[m";
        Config config = { .host = id };
        _cleanup_(error_freep) Error *err = NULL;
        char *host = NULL;

        (void) state;
        assert_int_equal(identity_host(&config, &host, &err), -EINVAL);
        assert_null(host);
        assert_string_equal(
                error_text(err),
                "this host's name, \"a/b?[m\", cannot be its id (1 to 100 of A-Z a-z 0-9 "
                ". _ -, beginning with a letter or a digit); set `host` in tendril.yaml");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_configured_id_counts),
                cmocka_unit_test(else_the_name_of_the_host),
                cmocka_unit_test(what_is_no_label_is_refused),
        };

        return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
