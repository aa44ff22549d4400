/* What the sources of credentials answer, and what they may be asked by. */

#include "net/provider.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/str.h"
#include "folder.h"

static void test_times(void **state) {
        static const struct {
                const char *text, *utc;
        } cases[] = {
                { "2026-08-01T12:00:00Z", "2026-08-01T12:00:00Z" },
                { "2026-08-01T12:00:00z", "2026-08-01T12:00:00Z" },
                { "2026-08-01T12:00:00", "2026-08-01T12:00:00Z" },
                { "2026-08-01T12:00:00.123456Z", "2026-08-01T12:00:00Z" },
                { "2026-08-01T12:00:00+00:00", "2026-08-01T12:00:00Z" },
                { "2026-08-01T12:00:00+02:30", "2026-08-01T09:30:00Z" },
                { "2026-08-01T12:00:00.5-0800", "2026-08-01T20:00:00Z" },
                { "2026-12-31T23:30:00-01:00", "2027-01-01T00:30:00Z" },
                { "2026-08-01T12:00:00+2:30", NULL },
                { "2026-08-01T12:00:00+02:3x", NULL },
                { "2026-08-01T12:00:00+02:300", NULL },
                { "2026-08-01T12:00:00+24:00", NULL },
                { "2026-08-01T12:00:00+02", NULL },
                { "2026-08-01T12:00:00.Z", NULL },
                { "2026-08-01T12:00:00 Z", NULL },
                { "2026-08-01T12:00:00ZZ", NULL },
                { "2026-08-01 12:00:00Z", NULL },
                { "2026-08-01T12:00Z", NULL },
                { "1970-01-01T00:00:00+01:00", NULL },
                { "1800000000", NULL },
                { "", NULL },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                char text[TIME_RFC3339_SIZE] = "";
                usec_t usec = 0;
                int r = provider_read_time(cases[i].text, &usec);

                if (r == 0)
                        time_format(usec, text);
                if (!str_equal(text, cases[i].utc ?: ""))
                        fail_msg("%s: %d %s, not %s", cases[i].text, r, text,
                                 cases[i].utc ?: "refused");
        }
}

static int read_json(const char *text, Credentials *ret, Error **reterr) {
        return provider_read_json(text, strlen(text), ret, reterr);
}

static void test_json(void **state) {
        Credentials c = { 0 };
        usec_t usec;

        (void) state;
        assert_int_equal(time_parse("2026-08-01T12:00:00Z", &usec), 0);
        assert_int_equal(read_json("{\"Code\": \"Success\", \"LastUpdated\": \"x\", \"Type\": "
                                   "\"AWS-HMAC\", \"AccessKeyId\": \"ASIA1\", "
                                   "\"SecretAccessKey\": \"s\", \"Token\": \"t/+=\", "
                                   "\"Expiration\": \"2026-08-01T12:00:00Z\"}",
                                   &c, NULL),
                         0);
        assert_string_equal(c.access_key_id, "ASIA1");
        assert_string_equal(c.secret, "s");
        assert_string_equal(c.token, "t/+=");
        assert_true(c.ends_usec == usec);
        credentials_done(&c);
        assert_null(c.secret);

        assert_int_equal(read_json("{\"Version\": 1, \"AccessKeyId\": \"A\", \"SecretAccessKey\": "
                                   "\"s\", \"SessionToken\": \"session\"}",
                                   &c, NULL),
                         0);
        assert_string_equal(c.token, "session");
        assert_true(c.ends_usec == USEC_INFINITY);
        credentials_done(&c);

        /* Both of them, or one that is empty. */
        assert_int_equal(read_json("{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"s\", "
                                   "\"Token\": \"one\", \"SessionToken\": \"two\", "
                                   "\"Expiration\": \"\"}",
                                   &c, NULL),
                         0);
        assert_string_equal(c.token, "two");
        credentials_done(&c);
        assert_int_equal(read_json("{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"s\", "
                                   "\"Token\": \"\", \"Expiration\": null}",
                                   &c, NULL),
                         0);
        assert_null(c.token);
        credentials_done(&c);
}

/* What is wrong is said, and nothing of what stood there. */
static void test_json_refused(void **state) {
        static const struct {
                const char *text;
                int r;
                const char *words;
        } cases[] = {
                { "", -EBADMSG, "not the JSON" },
                { "SECRET", -EBADMSG, "not the JSON" },
                { "{\"SecretAccessKey\": \"SECRET\"", -EBADMSG, "not the JSON" },
                { "{\"SecretAccessKey\": \"SECRET", -EBADMSG, "not the JSON" },
                { "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": [\"SECRET\"]}", -EBADMSG,
                  "SecretAccessKey" },
                { "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"SECRET\\u0000\"}", -EBADMSG,
                  "JSON" },
                { "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"SECRET X\"}", -EBADMSG,
                  "blanks" },
                { "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"SECRET\\r\\nHost: x\"}",
                  -EBADMSG, "blanks" },
                { "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"SECRET\", \"Token\": "
                  "\"SECRET\\n\"}",
                  -EBADMSG, "blanks" },
                { "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"\"}", -EBADMSG,
                  "no secret access key" },
                { "{\"SecretAccessKey\": \"SECRET\"}", -EBADMSG, "no access key id" },
                { "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"SECRET\", \"Expiration\": "
                  "\"SECRET\"}",
                  -EBADMSG, "Expiration" },
                { "{\"Version\": 2, \"AccessKeyId\": \"A\", \"SecretAccessKey\": \"SECRET\"}",
                  -EBADMSG, "Version is 2" },
                { "{\"Code\": \"AssumeRoleUnauthorizedAccess\", \"Message\": \"SECRET\"}", -EAGAIN,
                  "trust policy" },
                { "{\"Code\": \"Failed\"}", -EAGAIN, "it says Failed" },
                { "{\"Code\": \"SECRET words\"}", -EAGAIN, "no code" },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_(error_freep) Error *err = NULL;
                Credentials c = { 0 };
                int r = read_json(cases[i].text, &c, &err);

                if (r != cases[i].r || !strstr(error_text(err), cases[i].words) ||
                    strstr(error_text(err), "SECRET"))
                        fail_msg("%s: %d %s", cases[i].text, r, error_text(err));
                assert_null(c.access_key_id);
                assert_null(c.secret);
        }
}

static void test_urls(void **state) {
        static const struct {
                const char *url, *host; /* NULL: refused */
                bool loopback;
        } cases[] = {
                { "http://169.254.170.2/v2/credentials/x", "169.254.170.2", false },
                { "http://169.254.170.23/v1/credentials", "169.254.170.23", false },
                { "http://[fd00:ec2::23]/v1/credentials", "[fd00:ec2::23]", false },
                { "http://[FD00:EC2:0::23]:80/v1", "[FD00:EC2:0::23]", false },
                { "http://127.0.0.1:8080/x", "127.0.0.1", true },
                { "http://127.9.9.9/x", "127.9.9.9", true },
                { "http://[::1]:1/x", "[::1]", true },
                { "http://localhost/x?a@b", "localhost", true },
                { "HTTP://LocalHost", "LocalHost", true },
                { "https://credentials.example:444/x", "credentials.example", false },
                { "https://127.0.0.1/x", "127.0.0.1", false },
                { "http://example.com/", NULL, false },
                { "http://169.254.169.254/", NULL, false },
                { "http://10.0.0.1/", NULL, false },
                { "http://127.0.0.1.example.com/", NULL, false },
                { "http://127.0.0.1@example.com/", NULL, false },
                { "http://localhost:80@example.com/", NULL, false },
                { "http://localhost\\@example.com/", NULL, false },
                { "http://localhost\\.example.com/", NULL, false },
                { "http://localhost%2eexample.com/", NULL, false },
                { "http://localhost .example.com/", NULL, false },
                { "http://[::1].example.com/", NULL, false },
                { "http://[::1", NULL, false },
                { "http://[]/", NULL, false },
                { "http://localhost:99999/", NULL, false },
                { "http://localhost:x/", NULL, false },
                { "http://localhost.example.com/", NULL, false },
                { "http://2130706433/", NULL, false },
                { "http://127.1/", NULL, false },
                { "http:///x", NULL, false },
                { "https:///x", NULL, false },
                { "file:///etc/passwd", NULL, false },
                { "ftp://127.0.0.1/", NULL, false },
                { "", NULL, false },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_(error_freep) Error *err = NULL;
                _cleanup_free_ char *host = NULL;
                bool loopback = false;
                int r = provider_check_url(cases[i].url, &host, &loopback, &err);

                if (r != (cases[i].host ? 0 : -EPERM) || !str_equal(host, cases[i].host) ||
                    (r == 0 && loopback != cases[i].loopback))
                        fail_msg("%s: %d %s %d %s", cases[i].url, r, host ?: "no host", loopback,
                                 error_text(err));
        }
}

static void test_tokens(void **state) {
        static const struct {
                const char *text, *token;
                const char *words;
        } cases[] = {
                { "token", "token", NULL },
                { "token\n", "token", NULL },
                { "Bearer abc\r\n", "Bearer abc", NULL },
                { "SECRET\nX: y", NULL, "more than one line" },
                { "SECRET\x7f", NULL, "more than one line" },
                { "\n", NULL, "is empty" },
                { "", NULL, "is empty" },
        };
        Folder folder = folder_new();
        _cleanup_free_ char *path = str_format("%s/token", folder.path),
                            *link = str_format("%s/link", folder.path);

        (void) state;
        assert_int_equal(symlink("token", link), 0);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_(error_freep) Error *err = NULL;
                _cleanup_secret_ char *token = NULL;
                FILE *f = fopen(path, "we");
                int r;

                assert_non_null(f);
                assert_true(fputs(cases[i].text, f) >= 0);
                assert_int_equal(fclose(f), 0);
                r = provider_read_token(link, &token, &err);
                assert_int_equal(r, cases[i].token ? 0 : -EBADMSG);
                if (r == 0)
                        assert_string_equal(token, cases[i].token);
                else {
                        assert_non_null(strstr(error_text(err), cases[i].words));
                        assert_null(strstr(error_text(err), "SECRET"));
                }
        }
        {
                _cleanup_(error_freep) Error *err = NULL, *other = NULL;
                _cleanup_secret_ char *token = NULL;

                assert_int_equal(unlink(path), 0);
                assert_int_equal(provider_read_token(link, &token, &err), -ENOENT);
                assert_non_null(strstr(error_text(err), link));
                assert_int_equal(mkfifo(path, 0600), 0);
                assert_int_equal(provider_read_token(path, &token, &other), -EINVAL);
        }
        folder_done(&folder);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_times),        cmocka_unit_test(test_json),
                cmocka_unit_test(test_json_refused), cmocka_unit_test(test_urls),
                cmocka_unit_test(test_tokens),
        };

        return cmocka_run_group_tests_name("provider_read", tests, NULL, NULL);
}
