/* The shared files of AWS's tools, and command lines that stand in them. */

#include "net/profile.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/str.h"

static const char file[] = "\xef\xbb\xbf# a comment = one\n"
                           "; another [one\n"
                           "\n"
                           "[default]\n"
                           "aws_access_key_id = AKIADEFAULT\r\n"
                           "aws_secret_access_key=secret/default+=  # not part of it\n"
                           "region = eu-west-1\n"
                           "s3 =\n"
                           "  max_concurrent_requests = 10\n"
                           "  aws_session_token = NESTED\n"
                           "\t[not a section\n"
                           "[ ci ]  ; words\n"
                           "aws_access_key_id=OLD\n"
                           "aws_access_key_id=AKIACI\n"
                           "aws_secret_access_key=s2\n"
                           "aws_session_token=t==\n"
                           "unknown=x\n"
                           "[proc]\n"
                           "credential_process = /opt/bin/tool --a \"b c\" # d\n"
                           "[sso]\n"
                           "sso_session = work\n"
                           "sso_account_id = 1\n"
                           "[role]\n"
                           "role_arn = arn:aws:iam::1:role/x\n"
                           "source_profile = default\n"
                           "[empty]\n"
                           "aws_access_key_id =\n"
                           "[profile ci]\n"
                           "aws_access_key_id=OFCONFIG";

static Profile read_ok(const char *name, bool is_config) {
        Profile p = { 0 };

        assert_int_equal(profile_read(file, strlen(file), name, is_config, &p, NULL), 0);
        return p;
}

static void test_profiles(void **state) {
        Profile p;

        (void) state;
        p = read_ok("default", false);
        assert_true(p.found);
        assert_string_equal(p.access_key_id, "AKIADEFAULT");
        assert_string_equal(p.secret, "secret/default+=");
        assert_null(p.token);
        assert_null(p.process);
        assert_null(p.foreign);
        profile_done(&p);

        p = read_ok("ci", false);
        assert_string_equal(p.access_key_id, "AKIACI");
        assert_string_equal(p.secret, "s2");
        assert_string_equal(p.token, "t==");
        profile_done(&p);

        p = read_ok("proc", false);
        assert_string_equal(p.process, "/opt/bin/tool --a \"b c\" # d");
        profile_done(&p);

        p = read_ok("sso", false);
        assert_string_equal(p.foreign, "sso_session");
        profile_done(&p);
        p = read_ok("role", false);
        assert_string_equal(p.foreign, "role_arn");
        profile_done(&p);

        p = read_ok("empty", false);
        assert_true(p.found);
        assert_null(p.access_key_id);
        profile_done(&p);
        p = read_ok("other", false);
        assert_false(p.found);
        profile_done(&p);
}

/* In the config file all but the default have the word before their name. */
static void test_config(void **state) {
        Profile p;

        (void) state;
        p = read_ok("ci", true);
        assert_string_equal(p.access_key_id, "OFCONFIG");
        assert_null(p.secret);
        profile_done(&p);
        p = read_ok("default", true);
        assert_string_equal(p.access_key_id, "AKIADEFAULT");
        profile_done(&p);
        p = read_ok("proc", true);
        assert_false(p.found);
        profile_done(&p);
}

/* The words name the line, and never what stands there. */
/* As Python's reader, and so every AWS tool in it: only what stands further in than the setting
 * above belongs to that. */
static void test_indented(void **state) {
        static const char text[] = "[default]\n"
                                   "  aws_access_key_id = AKIAINDENTED\n"
                                   "  aws_secret_access_key = s\n"
                                   "    aws_session_token = NESTED\n"
                                   "  s3 =\n"
                                   "      aws_session_token = NESTED\n"
                                   "  [other]\n"
                                   "aws_access_key_id = OTHER\n";
        Profile p = { 0 };

        (void) state;
        assert_int_equal(profile_read(text, strlen(text), "default", false, &p, NULL), 0);
        assert_string_equal(p.access_key_id, "AKIAINDENTED");
        assert_string_equal(p.secret, "s");
        assert_null(p.token);
        profile_done(&p);
}

static void test_malformed(void **state) {
        static const struct {
                const char *text;
                const char *words;
        } cases[] = {
                { "[default]\nSECRETTEXT\n", "line 2 " },
                { "\n\n[SECRETTEXT\n", "line 3 " },
                { "= SECRETTEXT\n", "line 1 " },
        };
        static const char with_nul[] = "[default]\0\n";
        Profile p = { 0 };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_(error_freep) Error *err = NULL;

                assert_int_equal(profile_read(cases[i].text, strlen(cases[i].text), "default",
                                              false, &p, &err),
                                 -EBADMSG);
                assert_true(str_has_prefix(error_text(err), cases[i].words));
                assert_null(strstr(error_text(err), "SECRET"));
                assert_false(p.found);
        }
        assert_int_equal(profile_read(with_nul, sizeof(with_nul) - 1, "default", false, &p, NULL),
                         -EBADMSG);
        assert_int_equal(profile_read("", 0, "default", false, &p, NULL), 0);
        assert_false(p.found);
}

/* The words, joined by '|'. */
static void check_words(const char *text, const char *expected) {
        _cleanup_(strv_freep) char **words = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_(buf_done) Buf joined = BUF_INIT(4096);
        int r;

        r = profile_split(text, &words, &err);
        if (!expected) {
                assert_int_equal(r, -EINVAL);
                assert_true(str_has_prefix(error_text(err), "credential_process: "));
                assert_null(strstr(error_text(err), "SECRET"));
                return;
        }
        assert_int_equal(r, 0);
        for (char **w = words; *w; w++)
                assert_int_equal(buf_printf(&joined, "%s%s", w == words ? "" : "|", *w), 0);
        assert_string_equal(buf_str(&joined), expected);
}

static void test_words(void **state) {
        char many[200];

        (void) state;
        check_words("a", "a");
        check_words("  a\tb  c ", "a|b|c");
        check_words("/opt/my\\ tool --x", "/opt/my tool|--x");
        check_words("'a b' \"c d\"", "a b|c d");
        check_words("a'b'\"c\"d", "abcd");
        check_words("'it''s' '\\'", "its|\\");
        check_words("\"a\\\"b\\\\c\\d\" \\\"", "a\"b\\c\\d|\"");
        check_words("a '' \"\" b", "a|||b");
        check_words("$HOME `x` $(y) a;b a&&b *", "$HOME|`x`|$(y)|a;b|a&&b|*");
        check_words("a\\", "a\\");
        check_words("a #b", "a|#b");
        check_words("", NULL);
        check_words("   ", NULL);
        check_words("''", NULL);
        check_words("a 'SECRET", NULL);
        check_words("a \"SECRET\\\"", NULL);

        memset(many, 0, sizeof(many));
        for (int i = 0; i < PROFILE_WORDS; i++)
                many[2 * i] = 'a', many[2 * i + 1] = ' ';
        {
                _cleanup_(strv_freep) char **words = NULL;

                assert_int_equal(profile_split(many, &words, NULL), 0);
                assert_int_equal(strv_count(words), PROFILE_WORDS);
        }
        many[2 * PROFILE_WORDS] = 'a';
        check_words(many, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_profiles), cmocka_unit_test(test_config),
                cmocka_unit_test(test_indented), cmocka_unit_test(test_malformed),
                cmocka_unit_test(test_words),
        };

        return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
