#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "store/key.h"

static void test_valid(void **state) {
        static const char *const good[] = {
                "a",        "store.json",   "applications/shop/versions/1.0/bundle",
                "a/...",    "a/.b",         "a/.tmp",
                "a/x.lock", "\xc3\xa4/b c",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(good); i++)
                assert_true(key_is_valid(good[i]));
}

static void test_invalid(void **state) {
        static const char *const bad[] = {
                "",        "/",       "/a",     "a/",    "a//b",  ".",          "..",
                "a/.",     "a/..",    "a/../b", "./a",   ".tmp-", "a/.tmp-x/b", ".lock",
                "a/.lock", ".lock/x", "a\tb",   "a\x7f", "\x80",  "a\xc0\xaf",
        };

        (void) state;
        assert_false(key_is_valid(NULL));
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_false(key_is_valid(bad[i]));
}

static void test_length(void **state) {
        char key[LIMIT_KEY_NAME_BYTES + 2];

        (void) state;
        memset(key, 'k', sizeof(key));
        key[LIMIT_KEY_NAME_BYTES] = '\0';
        assert_true(key_is_valid(key));
        key[LIMIT_KEY_NAME_BYTES] = 'k';
        key[LIMIT_KEY_NAME_BYTES + 1] = '\0';
        assert_false(key_is_valid(key));
}

static void check(char *key, const char *expected) {
        _cleanup_free_ char *owned = key;

        assert_non_null(owned);
        assert_string_equal(owned, expected);
}

static void test_names(void **state) {
        (void) state;
        check(key_store_id(), "store.json");
        check(key_version("shop", "1.2"), "applications/shop/versions/1.2/version.json");
        check(key_bundle("shop", "1.2"), "applications/shop/versions/1.2/bundle");
        check(key_versions("shop"), "applications/shop/versions/");
        check(key_environments(), "environments/");
        check(key_desired("prod"), "environments/prod/desired.json");
        check(key_head("prod"), "environments/prod/rollout.json");
        check(key_lane("prod", "g1", 7), "environments/prod/g/g1/lane/7.json");
        check(key_result("prod", "g1", "i-1"), "environments/prod/g/g1/host/i-1.json");
        check(key_host("prod", "i-1"), "environments/prod/hosts/i-1.json");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_valid),
                cmocka_unit_test(test_invalid),
                cmocka_unit_test(test_length),
                cmocka_unit_test(test_names),
        };

        return cmocka_run_group_tests_name("key", tests, NULL, NULL);
}
