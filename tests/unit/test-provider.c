/* The sources of credentials other than the instance's role, each as it answers and as it fails. */

#include "credentials-world.h"

#include <sys/stat.h>

/* ---- the container's endpoint ---- */

#define CONTAINER(token, id)                                                                       \
        {                                                                                          \
                .method = "GET", .path = "/creds?a=b",                                             \
                .needs = "\r\nAuthorization: " token "\r\n",                                       \
                .body = JSON_OF(id, "2026-08-01T18:00:00Z")                                        \
        }

static void test_container(_unused_ void **state) {
        static const ScriptAnswer script[] = {
                { .path = "/creds?a=b", .status = 500, .times = 1 },
                { .path = "/creds?a=b", .how = SCRIPT_CLOSE, .times = 1 },
                CONTAINER("bearerHIDDEN1", "0001"),
                CONTAINER("bearerHIDDEN2", "0002"),
                { .path = "/creds?a=b", .status = 401 },
                { .path = "/busy", .status = 503 },
        };
        _cleanup_(world_done) World w;
        Answer a;

        world_begin(&w, script, ELEMENTS(script), NULL);
        set_env(&w, "AWS_CONTAINER_CREDENTIALS_FULL_URI", script_server_url(w.server),
                "/creds?a=b");
        set_env(&w, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", w.folder.path, "/token");
        write_file(&w, "token", "bearerHIDDEN1\n", 0600);
        a = get(&w);
        assert_string_equal(a.secret, "HIDDEN0001");
        assert_int_equal(script_server_n_of(w.server, "GET /creds"), 3);

        /* The file's token is another by now. */
        write_file(&w, "token", "bearerHIDDEN2", 0600);
        credentials_refused(w.chain);
        assert_string_equal(get(&w).secret, "HIDDEN0002");

        write_file(&w, "token", "bearerHIDDEN3", 0600);
        chain_begin(&w);
        a = get(&w);
        assert_int_equal(a.r, -EACCES);
        assert_string_equal(a.error, "credentials from container: it answered 401: the "
                                     "authorization token is not accepted");

        write_file(&w, "token", "HIDDEN\r\nX-Other: header", 0600);
        chain_begin(&w);
        assert_int_equal(get(&w).r, -EBADMSG);
        assert_int_equal(unlinkat(w.folder.fd, "token", 0), 0);
        chain_begin(&w);
        a = get(&w);
        assert_int_equal(a.r, -ENOENT);
        assert_non_null(strstr(a.error, "/token: No such file"));

        env_clear(&w);
        set_env(&w, "AWS_CONTAINER_CREDENTIALS_FULL_URI", script_server_url(w.server), "/busy");
        chain_begin(&w);
        a = get(&w);
        assert_int_equal(a.r, -EAGAIN);
        assert_non_null(strstr(a.error, "it answered 503 (tried 3 times)"));
        assert_int_equal(script_server_n_of(w.server, "GET /busy"), 3);
}

static void test_container_by_variable(_unused_ void **state) {
        static const ScriptAnswer script[] = { CONTAINER("BasicHIDDEN", "0001") };
        _cleanup_(world_done) World w;
        _cleanup_(status_done) CredentialStatus s = { 0 };

        world_begin(&w, script, ELEMENTS(script), NULL);
        set_env(&w, "AWS_CONTAINER_CREDENTIALS_FULL_URI", script_server_url(w.server),
                "/creds?a=b");
        set_env(&w, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "BasicHIDDEN", "");
        assert_string_equal(get(&w).secret, "HIDDEN0001");
        s = status_of(&w);
        assert_string_equal(s.source, "container");

        env_clear(&w);
        set_env(&w, "AWS_CONTAINER_CREDENTIALS_FULL_URI", script_server_url(w.server),
                "/creds?a=b");
        set_env(&w, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "HIDDEN\nX: y", "");
        chain_begin(&w);
        assert_int_equal(get(&w).r, -EINVAL);
}

/* Nothing is sent to a host that whoever wrote the variable likes; and IMDS is not asked instead.
 */
static void test_container_elsewhere(_unused_ void **state) {
        static const ScriptAnswer script[] = { IMDS_TOKEN, ROLE_LIST,
                                               ROLE("0001", "2026-08-01T18:00:00Z") };
        _cleanup_(world_done) World w;
        Answer a;

        world_begin(&w, script, ELEMENTS(script), NULL);
        set_env(&w, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/x", "");
        a = get(&w);
        assert_int_equal(a.r, -EPERM);
        assert_non_null(strstr(a.error, "not of example.com"));
        assert_int_equal(script_server_n_requests(w.server), 0);

        env_clear(&w);
        set_env(&w, "AWS_CONTAINER_CREDENTIALS_FULL_URI", script_server_url(w.server), "@x/");
        chain_begin(&w);
        assert_int_equal(get(&w).r, -EPERM);
        assert_int_equal(script_server_n_requests(w.server), 0);
}

static void test_relative_container(_unused_ void **state) {
        static const struct {
                const char *relative, *url;
        } cases[] = {
                { "/v2/credentials/1-2", "http://169.254.170.2/v2/credentials/1-2" },
                { "v2", "http://169.254.170.2/v2" },
                { "@example.com/", "http://169.254.170.2/@example.com/" },
                { ".example.com/", "http://169.254.170.2/.example.com/" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *variable =
                                            str_format("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=%s",
                                                       cases[i].relative),
                                    *url = NULL;
                char *environment[] = { variable, NULL };
                ProviderSpec spec = { .environment = environment };
                ProviderTry attempt = { .spec = &spec };

                assert_int_equal(provider_container_url(&attempt, &url), 0);
                assert_string_equal(url, cases[i].url);
        }
}

/* ---- web identity ---- */

#define STS_ANSWER(id)                                                                             \
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"  \
        "<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAEXAMPLE" id                \
        "</AccessKeyId><SecretAccessKey>HIDDEN" id                                                 \
        "</SecretAccessKey><SessionToken>tokenHIDDEN" id                                           \
        "</SessionToken><Expiration>2026-08-01T13:00:00Z</Expiration></Credentials>"               \
        "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
#define STS_ERROR(code)                                                                            \
        "<ErrorResponse><Error><Type>Sender</Type><Code>" code                                     \
        "</Code><Message>the token HIDDEN is bad</Message></Error></ErrorResponse>"
#define FORM "Action=AssumeRoleWithWebIdentity&Version=2011-06-15"

static void test_web_identity(_unused_ void **state) {
        static const ScriptAnswer script[] = {
                { .path = "/", .status = 503, .times = 1 },
                { .method = "POST",
                  .path = "/",
                  .needs = "\r\n\r\n" FORM "&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx"
                           "&RoleSessionName=tendril&WebIdentityToken=jwt.HIDDEN1",
                  .body = STS_ANSWER("0001") },
                { .method = "POST",
                  .path = "/",
                  .needs = "&RoleSessionName=me&WebIdentityToken=jwt.HIDDEN2",
                  .body = STS_ANSWER("0002") },
                { .path = "/", .status = 404 },
        };
        _cleanup_(world_done) World w;
        _cleanup_(status_done) CredentialStatus s = { 0 };
        Answer a;

        world_begin(&w, script, ELEMENTS(script), NULL);
        set_env(&w, "AWS_ENDPOINT_URL_STS", script_server_url(w.server), "/");
        set_env(&w, "AWS_ROLE_ARN", "arn:aws:iam::1:role/x", "");
        set_env(&w, "AWS_WEB_IDENTITY_TOKEN_FILE", w.folder.path, "/jwt");
        write_file(&w, "jwt", "jwt.HIDDEN1", 0600);
        a = get(&w);
        assert_int_equal(a.r, 0);
        assert_string_equal(a.secret, "HIDDEN0001");
        assert_string_equal(a.token, "tokenHIDDEN0001");
        assert_true(a.ends_usec == w.realtime + MIN_OF(60));
        s = status_of(&w);
        assert_string_equal(s.source, "web identity");
        assert_string_equal(s.tried[1], "web identity: is arn:aws:iam::1:role/x by STS");
        assert_non_null(strstr(script_server_request(w.server, 1),
                               "\r\nContent-Type: application/x-www-form-urlencoded\r\n"));
        assert_null(strcasestr(script_server_request(w.server, 1), "\r\nAuthorization"));

        write_file(&w, "jwt", "jwt.HIDDEN2\n", 0600);
        set_env(&w, "AWS_ROLE_SESSION_NAME", "me", "");
        chain_begin(&w);
        assert_string_equal(get(&w).secret, "HIDDEN0002");
}

static void test_web_identity_failures(_unused_ void **state) {
        static const struct {
                ScriptAnswer answer;
                int r;
                const char *words;
        } cases[] = {
                { { .status = 400, .body = STS_ERROR("ExpiredTokenException") },
                  -EACCES,
                  "STS answered 400 ExpiredTokenException: whatever writes" },
                { { .status = 403, .body = STS_ERROR("AccessDenied") },
                  -EACCES,
                  "trust policy does not allow" },
                { { .status = 400, .body = STS_ERROR("Something") },
                  -EACCES,
                  "STS answered 400 Something" },
                { { .status = 400, .body = STS_ERROR("HIDDEN code") },
                  -EACCES,
                  "STS answered 400" },
                { { .status = 400, .body = "HIDDEN" }, -EACCES, "STS answered 400" },
                { { .body = "<a><b>HIDDEN" }, -EBADMSG, "not XML" },
                { { .body = "<a><AccessKeyId>A</AccessKeyId></a>" },
                  -EBADMSG,
                  "no secret access key" },
                { { .body = "<a><AccessKeyId>A</AccessKeyId><SecretAccessKey>HIDDEN"
                            "</SecretAccessKey><SessionToken>HIDDEN</SessionToken></a>" },
                  -EBADMSG,
                  "no time" },
        };
        _cleanup_(world_done) World w;
        Answer a;

        world_begin(&w, NULL, 0, NULL);
        set_env(&w, "AWS_ENDPOINT_URL_STS", script_server_url(w.server), "");
        set_env(&w, "AWS_WEB_IDENTITY_TOKEN_FILE", w.folder.path, "/jwt");
        a = get(&w);
        assert_int_equal(a.r, -EINVAL);
        assert_non_null(strstr(a.error, "AWS_ROLE_ARN is not"));

        set_env(&w, "AWS_ROLE_ARN", "arn:aws:iam::1:role/x", "");
        chain_begin(&w);
        a = get(&w);
        assert_int_equal(a.r, -ENOENT);

        write_file(&w, "jwt", "jwt.HIDDEN", 0600);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                script_server_set(w.server, &cases[i].answer, 1);
                chain_begin(&w);
                a = get(&w);
                if (a.r != cases[i].r || !strstr(a.error, cases[i].words))
                        fail_msg("%zu: %d %s", i, a.r, a.error);
        }
}

/* Where STS is, unless it is said. */
static void test_sts_endpoint(_unused_ void **state) {
        static const struct {
                const char *region, *variable, *url;
        } cases[] = {
                { NULL, "AWS_REGION=", "https://sts.us-east-1.amazonaws.com/" },
                { NULL, "AWS_REGION=eu-west-1", "https://sts.eu-west-1.amazonaws.com/" },
                { NULL, "AWS_DEFAULT_REGION=eu-west-3", "https://sts.eu-west-3.amazonaws.com/" },
                { "cn-north-1", "AWS_REGION=eu-west-1",
                  "https://sts.cn-north-1.amazonaws.com.cn/" },
                { "us-east-2", "AWS_ENDPOINT_URL_STS=http://127.0.0.1:5//", "http://127.0.0.1:5/" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *variable = strdup(cases[i].variable), *url = NULL;
                char *environment[] = { variable, NULL };
                ProviderSpec spec = { .environment = environment, .region = cases[i].region };
                ProviderTry attempt = { .spec = &spec };

                assert_int_equal(provider_sts_url(&attempt, &url, NULL), 0);
                assert_string_equal(url, cases[i].url);
        }
}

/* ---- the shared files ---- */

static void test_shared_files(_unused_ void **state) {
        static const ScriptAnswer script[] = { IMDS_TOKEN, ROLE_LIST,
                                               ROLE("0001", "2026-08-01T18:00:00Z") };
        _cleanup_(world_done) World w;
        _cleanup_(status_done) CredentialStatus s = { 0 };
        Answer a;

        world_begin(&w, script, ELEMENTS(script), NULL);
        set_env(&w, "HOME", w.folder.path, "");
        assert_string_equal(get(&w).secret, "HIDDEN0001"); /* no such files */

        assert_int_equal(mkdirat(w.folder.fd, ".aws", 0700), 0);
        write_file(&w, ".aws/credentials",
                   "[default]\naws_access_key_id = AKIAEXAMPLE1111\naws_secret_access_key = "
                   "HIDDEN1\n[half]\naws_access_key_id = AKIA\n[sso]\nsso_session = s\n",
                   0600);
        write_file(&w, ".aws/config",
                   "[profile ci]\naws_access_key_id = AKIA2\naws_secret_access_key = HIDDEN2\n"
                   "aws_session_token = tokenHIDDEN2\n[profile bare]\nregion = eu-west-1\n",
                   0600);
        chain_begin(&w);
        assert_string_equal(get(&w).secret, "HIDDEN1");
        s = status_of(&w);
        assert_string_equal(s.source, "profile default");
        assert_string_equal(s.key_id, "****1111");

        set_env(&w, "AWS_PROFILE", "ci", "");
        chain_begin(&w);
        a = get(&w);
        assert_string_equal(a.secret, "HIDDEN2");
        assert_string_equal(a.token, "tokenHIDDEN2");
        assert_int_equal(script_server_n_of(w.server, "PUT"), 1);
}

static void test_shared_files_failures(_unused_ void **state) {
        static const struct {
                const char *profile;
                int r;
                const char *words;
        } cases[] = {
                { "half", -EBADMSG, "profile half of " },
                { "sso", -EOPNOTSUPP, "has sso_session, which is not supported" },
                { "sso", -EOPNOTSUPP, "export-credentials --profile sso" },
                { "bare", -ENOENT, "neither keys nor credential_process" },
                { "gone", -ENOENT, "stands in neither file" },
                { "quote", -EINVAL, "a quote is not closed" },
                { "noprogram", -ENOENT, "/not/there" },
        };
        _cleanup_(world_done) World w;
        Answer a;

        world_begin(&w, NULL, 0, NULL);
        write_file(&w, "credentials",
                   "[half]\naws_secret_access_key = HIDDEN\n[sso]\nsso_session = s\n[bare]\n"
                   "region = x\n[quote]\ncredential_process = tool 'HIDDEN\n[noprogram]\n"
                   "credential_process = /not/there HIDDEN\n",
                   0600);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                env_clear(&w);
                set_env(&w, "AWS_SHARED_CREDENTIALS_FILE", w.folder.path, "/credentials");
                set_env(&w, "AWS_PROFILE", cases[i].profile, "");
                chain_begin(&w);
                a = get(&w);
                if (a.r != cases[i].r || !strstr(a.error, cases[i].words))
                        fail_msg("%s: %d %s", cases[i].profile, a.r, a.error);
        }

        /* A file that is named must be there, and be one. */
        env_clear(&w);
        set_env(&w, "AWS_SHARED_CREDENTIALS_FILE", w.folder.path, "/gone");
        chain_begin(&w);
        assert_int_equal(get(&w).r, -ENOENT);
        env_clear(&w);
        set_env(&w, "AWS_CONFIG_FILE", w.folder.path, "");
        chain_begin(&w);
        assert_int_equal(get(&w).r, -EINVAL);
        write_file(&w, "broken", "[default]\nHIDDEN\n", 0600);
        env_clear(&w);
        set_env(&w, "AWS_CONFIG_FILE", w.folder.path, "/broken");
        chain_begin(&w);
        a = get(&w);
        assert_int_equal(a.r, -EBADMSG);
        assert_non_null(strstr(a.error, "/broken: line 2"));
        assert_int_equal(script_server_n_requests(w.server), 0);
}

/* ---- credential_process ---- */

#define SAYS(id, ends)                                                                             \
        "echo '{\"Version\": 1, \"AccessKeyId\": \"ASIAEXAMPLE" id                                 \
        "\", \"SecretAccessKey\": \"HIDDEN" id "\",'\n"                                            \
        "echo ' \"SessionToken\": \"tokenHIDDEN" id "\", \"Expiration\": \"" ends "\"}'\n"

static void test_process(_unused_ void **state) {
        _cleanup_(world_done) World w;
        _cleanup_(status_done) CredentialStatus s = { 0 };
        Answer a;

        world_begin(&w, NULL, 0, NULL);
        set_process(&w, "#!/bin/sh\n"
                        "echo 'DeprecationWarning: {old}' >&2\n"
                        "[ \"$#\" = 2 ] && [ \"$1\" = 'a b' ] && [ \"$2\" = c ] || exit 3\n"
                        "[ -n \"$HOME\" ] && [ \"$PATH\" = /usr/bin:/bin ] || exit 4\n"
                        "[ -z \"$AWS_SESSION_TOKEN$AWS_SECRET_ACCESS_KEY\" ] || exit 5\n"
                        "[ -f \"$AWS_CONFIG_FILE$AWS_SHARED_CREDENTIALS_FILE\" ] || exit 6\n" SAYS(
                                "0007", "2026-08-01T15:00:00+02:00"));
        a = get(&w);
        assert_string_equal(a.error, "");
        assert_string_equal(a.secret, "HIDDEN0007");
        assert_string_equal(a.token, "tokenHIDDEN0007");
        assert_true(a.ends_usec == w.realtime + MIN_OF(60));
        s = status_of(&w);
        assert_string_equal(s.source, "credential_process");
}

static void test_process_failures(_unused_ void **state) {
        static const struct {
                const char *script;
                int r;
                const char *words;
        } cases[] = {
                { "#!/bin/sh\necho HIDDEN; exit 7\n", -EIO, "my tool: exit 7" },
                { "#!/bin/sh\necho HIDDEN\n", -EBADMSG, "my tool said no JSON" },
                { "#!/bin/sh\n", -EBADMSG, "said no JSON" },
                { "#!/bin/sh\necho '{\"Version\": 1, \"SecretAccessKey\": \"HIDDEN\"'\necho '}'\n",
                  -EBADMSG, "no access key id" },
                { "#!/bin/sh\necho '{\"Version\": 2, \"AccessKeyId\": \"A\", "
                  "\"SecretAccessKey\": \"HIDDEN\"}'\n",
                  -EBADMSG, "Version is 2" },
                { "#!/bin/sh\nexec cat /dev/zero\n", -EFBIG, "more than 65536 bytes" },
                { "#!/bin/sh\nkill -9 $$\n", -EIO, "signal 9" },
        };
        _cleanup_(world_done) World w;
        Answer a;

        world_begin(&w, NULL, 0, NULL);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                set_process(&w, cases[i].script);
                a = get(&w);
                if (a.r != cases[i].r || !strstr(a.error, cases[i].words))
                        fail_msg("%zu: %d %s", i, a.r, a.error);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_container),
                cmocka_unit_test(test_container_by_variable),
                cmocka_unit_test(test_container_elsewhere),
                cmocka_unit_test(test_relative_container),
                cmocka_unit_test(test_web_identity),
                cmocka_unit_test(test_web_identity_failures),
                cmocka_unit_test(test_sts_endpoint),
                cmocka_unit_test(test_shared_files),
                cmocka_unit_test(test_shared_files_failures),
                cmocka_unit_test(test_process),
                cmocka_unit_test(test_process_failures),
        };

        return cmocka_run_group_tests_name("provider", tests, loop_block_signals, NULL);
}
