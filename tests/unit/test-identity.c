#include "host/identity.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/utsname.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/str.h"
#include "folder.h"

static void the_configured_id_counts(void **state) {
        char id[] = "i-0123";
        Config config = { .host = id };
        _cleanup_free_ char *host = NULL;

        (void) state;
        assert_int_equal(identity_host(&config, NULL, &host, NULL), 0);
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
                assert_int_equal(identity_host(&config, NULL, &host, NULL), 0);
                assert_string_equal(host, system.nodename);
        } else {
                assert_int_equal(identity_host(&config, NULL, &host, NULL), -EINVAL);
        }
}

static void what_is_no_label_is_refused(void **state) {
        char id[] = "a/b\033[m";
        Config config = { .host = id };
        _cleanup_(error_freep) Error *err = NULL;
        char *host = NULL;

        (void) state;
        assert_int_equal(identity_host(&config, NULL, &host, &err), -EINVAL);
        assert_null(host);
        assert_string_equal(
                error_text(err),
                "this host's name, \"a/b?[m\", cannot be its id (1 to 100 of A-Z a-z 0-9 "
                ". _ -, beginning with a letter or a digit); set `host` in tendril.yaml");
}

static void the_instance_counts_before_the_name(void **state) {
        char id[] = "web-1";
        Config config = { 0 };
        _cleanup_free_ char *host = NULL, *configured = NULL;

        (void) state;
        assert_int_equal(identity_host(&config, "i-0abc", &host, NULL), 0);
        assert_string_equal(host, "i-0abc");
        config.host = id;
        assert_int_equal(identity_host(&config, "i-0abc", &configured, NULL), 0);
        assert_string_equal(configured, "web-1");
}

static void when_it_is_asked(void **state) {
        char s3[] = "s3://bucket/x", file[] = "file:///srv", name[] = "x";
        Config config = { .store = { .url = s3 } };

        (void) state;
        assert_true(identity_is_asked(&config));
        config.host = config.environment = name;
        assert_true(identity_is_asked(&config));
        config.identity.source = IDENTITY_NAME;
        assert_false(identity_is_asked(&config));
        config.identity.source = IDENTITY_IMDS;
        config.store.url = file;
        assert_false(identity_is_asked(&config));
}

static void plant(const Folder *folder, const char *path, const char *name) {
        _cleanup_close_ int fd = file_mkdirs_at(folder->fd, path, 0700);

        assert_int_equal(file_write_at(fd, name, "x", 1, 0600, 0), 0);
}

static void a_state_of_nobody_is_taken(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_free_ char *other = NULL, *owner = NULL;

        (void) state;
        plant(&folder, ".", "state.json");
        assert_int_equal(identity_settle(folder.fd, "i-1", &other, NULL), 0);
        assert_null(other);
        assert_int_equal(identity_read(folder.fd, &owner), 0);
        assert_string_equal(owner, "i-1");
        assert_int_equal(identity_settle(folder.fd, "i-1", &other, NULL), 0);
        assert_true(file_exists_at(folder.fd, "state.json"));
        assert_false(file_exists_at(folder.fd, IDENTITY_ASIDE));
}

static void a_clone_begins_anew(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(strv_freep) char **asides = NULL;
        _cleanup_close_ int aside_fd = -EBADF, one_fd = -EBADF;

        (void) state;
        plant(&folder, ".", "state.json");
        plant(&folder, "deploys", "one");
        plant(&folder, "bundles", "digest");
        for (int i = 1; i <= 3; i++) {
                _cleanup_free_ char *other = NULL, *owner = NULL, *me = str_format("i-%d", i);

                assert_int_equal(identity_settle(folder.fd, me, &other, NULL),
                                 i == 1 ? 0 : IDENTITY_SET_ASIDE);
                assert_int_equal(identity_read(folder.fd, &owner), 0);
                assert_string_equal(owner, me);
                if (i == 2)
                        assert_string_equal(other, "i-1");
        }
        assert_false(file_exists_at(folder.fd, "state.json"));
        assert_false(file_exists_at(folder.fd, "deploys"));
        assert_true(file_exists_at(folder.fd, "bundles/digest"));
        aside_fd = file_open_dir_at(folder.fd, IDENTITY_ASIDE);
        assert_int_equal(file_list_at(aside_fd, 8, &asides), 0);
        assert_int_equal(strv_count(asides), 2);
        one_fd = file_open_dir_at(aside_fd,
                                  str_has_prefix(asides[0], "i-1-") ? asides[0] : asides[1]);
        assert_true(file_exists_at(one_fd, "state.json"));
        assert_true(file_exists_at(one_fd, "deploys/one"));
}

static void a_damaged_name_is_none(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_free_ char *owner = NULL, *other = NULL;

        (void) state;
        plant(&folder, ".", IDENTITY_FILE);
        assert_int_equal(identity_read(folder.fd, &owner), 0);
        assert_null(owner);
        assert_int_equal(identity_settle(folder.fd, "i-1", &other, NULL), 0);
        assert_int_equal(identity_read(folder.fd, &owner), 0);
        assert_string_equal(owner, "i-1");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_configured_id_counts),
                cmocka_unit_test(else_the_name_of_the_host),
                cmocka_unit_test(what_is_no_label_is_refused),
                cmocka_unit_test(the_instance_counts_before_the_name),
                cmocka_unit_test(when_it_is_asked),
                cmocka_unit_test(a_state_of_nobody_is_taken),
                cmocka_unit_test(a_clone_begins_anew),
                cmocka_unit_test(a_damaged_name_is_none),
        };

        return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
