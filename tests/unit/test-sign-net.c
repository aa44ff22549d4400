#include "net/sign.c"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The requests of AWS's own documents and test suite, and more; every signature was computed by
 * botocore too. */
#define KEY_ID    "AKIAIOSFODNN7EXAMPLE"
#define SECRET    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define TOKEN     "t/o+k="
#define HOST      "examplebucket.s3.amazonaws.com"
#define TIME      SEC(1369353600) /* 2013-05-24 */
#define SIGNATURE "Signature="

static char key_id[] = KEY_ID, secret[] = SECRET, token[] = TOKEN;
static const Credentials plain = { key_id, secret, NULL, USEC_INFINITY };
static const Credentials session = { key_id, secret, token, USEC_INFINITY };

static SignRequest request_of(const char *service, const Credentials *credentials) {
        return (SignRequest){
                .method = "GET",
                .host = HOST,
                .path = "/",
                .payload = SIGN_EMPTY_PAYLOAD,
                .region = "us-east-1",
                .service = service,
                .credentials = credentials,
                .now_usec = TIME,
        };
}

static void assert_signed(Signer *signer, const SignRequest *request, const char *names,
                          const char *signature) {
        _cleanup_(strv_freep) char **headers = NULL;
        _cleanup_free_ char *expected = NULL;
        _cleanup_(error_freep) Error *err = NULL;

        expected = str_format("Authorization: AWS4-HMAC-SHA256 "
                              "Credential=" KEY_ID "/20130524/%s/%s/aws4_request, "
                              "SignedHeaders=%s, Signature=%s",
                              request->region, request->service, names, signature);
        if (sign_headers(signer, request, &headers, &err) < 0)
                fail_msg("%s", error_text(err));
        assert_string_equal(headers[strv_count(headers) - 1], expected);
}

static void assert_refused(const SignRequest *request, int r, const char *words) {
        _cleanup_(signer_freep) Signer *signer = signer_new();
        _cleanup_(strv_freep) char **headers = NULL;
        _cleanup_(error_freep) Error *err = NULL, *query_err = NULL;
        _cleanup_(buf_done) Buf query = BUF_INIT(4096);

        assert_int_equal(sign_headers(signer, request, &headers, &err), r);
        assert_null(headers);
        assert_non_null(strstr(error_text(err), words));
        assert_null(strstr(error_text(err), SECRET));
        assert_null(strstr(error_text(err), TOKEN));
        assert_int_equal(sign_query(signer, request, SEC(60), &query, &query_err), r);
        assert_string_equal(buf_str(&query), "");
        assert_string_equal(error_text(query_err), error_text(err));
}

/* ---- what is encoded and sorted ---- */

static void assert_encoded(const char *text, bool keep_slash, const char *expected) {
        _cleanup_(buf_done) Buf buf = BUF_INIT(1024);

        assert_int_equal(sign_encode(text, keep_slash, &buf), 0);
        assert_string_equal(buf_str(&buf), expected);
}

static void test_encode(void **state) {
        char all[256] = "";
        _cleanup_(buf_done) Buf buf = BUF_INIT(1024);

        (void) state;
        assert_encoded("", true, "");
        assert_encoded("a b/+%/~-_.", true, "a%20b/%2B%25/~-_.");
        assert_encoded("a b/+", false, "a%20b%2F%2B");
        assert_encoded("\xc3\xa9\x01\x7f*'()!", true, "%C3%A9%01%7F%2A%27%28%29%21");

        for (int i = 1; i < 256; i++)
                all[i - 1] = (char) i;
        assert_int_equal(sign_encode(all, false, &buf), 0);
        assert_int_equal(buf.size, 66 + 3 * (255 - 66));
}

static void test_encode_within_the_maximum(void **state) {
        _cleanup_(buf_done) Buf buf = BUF_INIT(4);

        (void) state;
        assert_int_equal(sign_encode("ab ", false, &buf), -EFBIG);
        assert_int_equal(sign_encode("abcde", false, &buf), -EFBIG);
}

static void test_query_is_sorted_by_name_then_value(void **state) {
        char *query[] = { (char[]){ "b=" },       (char[]){ "a-b=1" },  (char[]){ "a=2" },
                          (char[]){ "uploads" },  (char[]){ "a=1%2B" }, (char[]){ "a=" },
                          (char[]){ "A=%C3%A9" }, (char[]){ "ab=0" },   NULL };
        _cleanup_(buf_done) Buf buf = BUF_INIT(1024);
        char *none[] = { NULL };

        (void) state;
        assert_int_equal(sign_join_query(query, &buf), 0);
        assert_string_equal(buf_str(&buf), "A=%C3%A9&a=&a=1%2B&a=2&a-b=1&ab=0&b=&uploads=");
        assert_string_equal(query[0], "b=");

        buf_clear(&buf);
        assert_int_equal(sign_join_query(none, &buf), 0);
        assert_int_equal(sign_join_query(NULL, &buf), 0);
        assert_string_equal(buf_str(&buf), "");
}

static void test_paths_of_other_services(void **state) {
        static const char *const paths[][2] = {
                { "/", "/" },
                { "//", "/" },
                { "/.", "/" },
                { "/./", "/" },
                { "/..", "/" },
                { "/a", "/a" },
                { "/a/", "/a/" },
                { "//a//b//", "/a/b/" },
                { "/a/../..", "/" },
                { "/a/./b/../c", "/a/c" },
                { "/a/..", "/" },
                { "/a/../", "/" },
                { "/a/b/..", "/a" },
                { "/...", "/..." },
                { "/.a/..b", "/.a/..b" },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(paths); i++) {
                _cleanup_(buf_done) Buf buf = BUF_INIT(1024);

                assert_int_equal(normalise(paths[i][0], &buf), 0);
                assert_string_equal(buf_str(&buf), paths[i][1]);
        }
}

/* ---- signatures ---- */

static void test_known_requests(void **state) {
        _cleanup_(signer_freep) Signer *signer = signer_new();
        char *lifecycle[] = { (char[]){ "lifecycle" }, NULL },
             *list[] = { (char[]){ "prefix=J" }, (char[]){ "max-keys=2" }, NULL };
        char *range[] = { (char[]){ "Range: bytes=0-9" }, NULL };
        SignRequest request = request_of("s3", &plain);

        (void) state;
        request.query = lifecycle;
        assert_signed(signer, &request, "host;x-amz-content-sha256;x-amz-date",
                      "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
        request.query = list;
        assert_signed(signer, &request, "host;x-amz-content-sha256;x-amz-date",
                      "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
        request.query = NULL;
        request.path = "/test.txt";
        request.headers = range;
        assert_signed(signer, &request, "host;range;x-amz-content-sha256;x-amz-date",
                      "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

/* Blanks, names with a common prefix, one twice, a key that is not what it looks like. */
static void test_odd_request(void **state) {
        _cleanup_(signer_freep) Signer *signer = signer_new();
        char *query[] = { (char[]){ "b=" }, (char[]){ "a-b=1" }, (char[]){ "a=2" },
                          (char[]){ "a=1%2B" }, NULL };
        char *headers[] = { (char[]){ "X-Amz-Meta-B:   a   b\tc " }, (char[]){ "x-amz-meta-a: 1" },
                            (char[]){ "X-AMZ-META-B: d" }, NULL };
        SignRequest request = request_of("s3", &session);

        (void) state;
        request.path = "/a%20b/..//%C3%A9%2B%25";
        request.query = query;
        request.headers = headers;
        assert_signed(signer, &request,
                      "host;x-amz-content-sha256;x-amz-date;x-amz-meta-a;x-amz-meta-b;"
                      "x-amz-security-token",
                      "5c55e9f32bb79d9eeed647b8a61e3c3ec97c6f089b6959c4186c856e8569bd13");
}

static void test_other_services(void **state) {
        _cleanup_(signer_freep) Signer *signer = signer_new();
        SignRequest request = request_of("sts", &plain);

        (void) state;
        request.host = "sts.amazonaws.com";
        request.path = "/a//b/./../c%20d/";
        assert_signed(signer, &request, "host;x-amz-date",
                      "2a389a0fed7ddfac7d14a0baf1d146c32a42406229098a885e35d5bd8b057afc");
}

static void test_what_is_appended(void **state) {
        static const char *const expected[] = {
                "Range: bytes=0-9",
                "x-amz-date: 20130524T000000Z",
                "x-amz-content-sha256: " SIGN_EMPTY_PAYLOAD,
                "x-amz-security-token: " TOKEN,
        };
        _cleanup_(signer_freep) Signer *signer = signer_new();
        _cleanup_(strv_freep) char **headers = NULL;
        SignRequest request = request_of("s3", &session);
        char none[] = "";
        Credentials empty = { key_id, secret, none, USEC_INFINITY };

        /* The request's own list is the one that grows. */
        (void) state;
        assert_int_equal(strv_add(&headers, 9, expected[0]), 0);
        request.headers = headers;
        assert_int_equal(sign_headers(signer, &request, &headers, NULL), 0);
        assert_int_equal(strv_count(headers), 5);
        for (size_t i = 0; i < ELEMENTS(expected); i++)
                assert_string_equal(headers[i], expected[i]);
        assert_true(str_has_prefix(headers[4], "Authorization: AWS4-HMAC-SHA256 "));

        /* A header without a value would be signed and never sent. */
        headers = strv_free(headers);
        request = request_of("sts", &empty);
        assert_int_equal(sign_headers(signer, &request, &headers, NULL), 0);
        assert_int_equal(strv_count(headers), 2);
        assert_null(strstr(headers[1], "security-token"));
}

static void test_presigned(void **state) {
        _cleanup_(signer_freep) Signer *signer = signer_new();
        _cleanup_(buf_done) Buf buf = BUF_INIT(4096);
        char *query[] = { (char[]){ "Action=GetCallerIdentity" }, NULL };
        SignRequest request = request_of("s3", &plain);

        /* What body S3 will see is not known, whatever the request says. */
        (void) state;
        request.path = "/test.txt";
        assert_int_equal(sign_query(signer, &request, SEC(86400), &buf, NULL), 0);
        assert_string_equal(
                buf_str(&buf),
                "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" KEY_ID
                "%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z"
                "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature="
                "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");

        request = request_of("sts", &session);
        request.host = "sts.amazonaws.com";
        request.query = query;
        buf_clear(&buf);
        assert_int_equal(sign_query(signer, &request, SEC(60), &buf, NULL), 0);
        assert_string_equal(
                buf_str(&buf),
                "Action=GetCallerIdentity&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" KEY_ID
                "%2F20130524%2Fus-east-1%2Fsts%2Faws4_request&X-Amz-Date=20130524T000000Z"
                "&X-Amz-Expires=60&X-Amz-Security-Token=t%2Fo%2Bk%3D&X-Amz-SignedHeaders=host"
                "&X-Amz-Signature="
                "9cfeb87eb543302f48e3d42561d5537e1976ee99b6604c28ffd20388b2f48e58");
}

/* ---- the key that is kept ---- */

static char *signature_of(Signer *signer, const SignRequest *request) {
        _cleanup_(strv_freep) char **headers = NULL;

        assert_int_equal(sign_headers(signer, request, &headers, NULL), 0);
        return strdup(strstr(headers[strv_count(headers) - 1], SIGNATURE));
}

/* A kept key that was spoiled shows in the signature; one that is derived anew does not. */
static bool is_kept(Signer *signer, const SignRequest *request) {
        _cleanup_(signer_freep) Signer *fresh = signer_new();
        _cleanup_free_ char *right = signature_of(fresh, request), *got = NULL;

        signer->key[0] ^= 1;
        got = signature_of(signer, request);
        if (str_equal(got, right))
                return false;
        signer->key[0] ^= 1;
        return true;
}

static void test_key_is_derived_once_a_day(void **state) {
        _cleanup_(signer_freep) Signer *signer = signer_new();
        char other_secret[] = SECRET "X", same_secret[] = SECRET;
        Credentials other = { key_id, other_secret, NULL, USEC_INFINITY },
                    same = { key_id, same_secret, token, USEC_INFINITY };
        SignRequest request = request_of("s3", &plain);

        (void) state;
        assert_false(is_kept(signer, &request));
        assert_true(is_kept(signer, &request));
        request.now_usec += SEC(86399);
        request.path = "/other";
        request.credentials = &same;
        assert_true(is_kept(signer, &request));

        request.now_usec += SEC(1);
        assert_false(is_kept(signer, &request));
        request.region = "eu-west-1";
        assert_false(is_kept(signer, &request));
        request.service = "sts";
        assert_false(is_kept(signer, &request));
        request.credentials = &other;
        assert_false(is_kept(signer, &request));
        assert_true(is_kept(signer, &request));
        assert_null(signer_free(NULL));
}

/* ---- nothing that held a secret is freed as it is ---- */

#ifdef __SANITIZE_ADDRESS__
#define CAN_WATCH 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CAN_WATCH 0
#endif
#endif
#ifndef CAN_WATCH
#define CAN_WATCH 1
#endif

static volatile unsigned n_dirty; /* blocks that were freed with a secret in them */
static volatile bool watching;

#if CAN_WATCH
void __libc_free(void *memory);
void free(void *memory) {
        size_t size = memory ? malloc_usable_size(memory) : 0;

        if (watching && size > 0 && memmem(memory, size, "HIDDEN", 6))
                n_dirty++;
        /* What the tests themselves leave behind must not be found in the next owner's. */
        if (size > 0)
                explicit_bzero(memory, size);
        __libc_free(memory);
}
#endif

static void test_secrets_are_wiped(void **state) {
        char hidden[] = "HIDDEN1", other[] = "HIDDEN2", hidden_token[] = "t/HIDDEN/HIDDEN";
        Credentials credentials[] = { { key_id, hidden, hidden_token, USEC_INFINITY },
                                      { key_id, other, hidden_token, USEC_INFINITY } };
        char **headers[ELEMENTS(credentials)] = { NULL };
        _cleanup_(signer_freep) Signer *signer = NULL;
        _cleanup_(buf_done) Buf buf = BUF_INIT(4096);
        void *volatile block = NULL; /* else there would be none */

        (void) state;
        if (!CAN_WATCH)
                skip(); /* the sanitizer's own free() */
        signer = signer_new();
        watching = true;
        for (size_t i = 0; i < ELEMENTS(credentials); i++) {
                SignRequest request = request_of("s3", &credentials[i]);

                (void) sign_headers(signer, &request, &headers[i], NULL);
                (void) sign_query(signer, &request, SEC(60), &buf, NULL);
        }
        signer = signer_free(signer);
        watching = false;
        assert_int_equal(n_dirty, 0);
        for (size_t i = 0; i < ELEMENTS(headers); i++)
                headers[i] = strv_free(headers[i]);

        /* The watch itself sees something. */
        block = strdup("HIDDEN");
        watching = true;
        free(block);
        watching = false;
        assert_int_equal(n_dirty, 1);
}

/* ---- refusals ---- */

static void test_headers_that_cannot_be_sent(void **state) {
        static const char *const lines[] = {
                "X: a\r\nY: b", "X: a\nb", "X: \x01", "X: a\x7f", "X:",     "X:  \t", "X",
                "X;",           ": a",     "X : a",   "X\n: a",   "\tX: a", "",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(lines); i++) {
                _cleanup_free_ char *line = strdup(lines[i]);
                char *headers[] = { line, NULL };
                SignRequest request = request_of("s3", &session);

                request.headers = headers;
                assert_refused(&request, -EINVAL, "sign: a header is not of the form");
        }
}

static void test_headers_that_are_not_to_be_signed(void **state) {
        static const char *const names[] = { "Host",         "x-amz-date", "X-Amz-Security-Token",
                                             "User-Agent",   "ACCEPT",     "Content-Length",
                                             "expect",       "Connection", "x-amz-content-sha256",
                                             "Authorization" };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_free_ char *line = str_format("%s: " TOKEN, names[i]);
                char *headers[] = { line, NULL };
                SignRequest request = request_of("s3", &session);

                request.headers = headers;
                assert_refused(&request, -EINVAL, "is not to be signed by callers");
        }
}

static void test_too_many_headers(void **state) {
        _cleanup_(strv_freep) char **headers = NULL;
        SignRequest request = request_of("s3", &session);

        (void) state;
        for (int i = 0; i <= HEADERS_MAX; i++) {
                _cleanup_free_ char *line = str_format("x-%d: 1", i);

                assert_int_equal(strv_add(&headers, HEADERS_MAX + 1, line), 0);
        }
        request.headers = headers;
        assert_refused(&request, -E2BIG, "sign: x-64: ");
}

static void test_requests_that_are_none(void **state) {
        static const char *const paths[] = { "",     "a",    "/a b",      "/a?b",
                                             "/a#b", "/a\n", "/\xc3\xa9", "/\x7f" };
        SignRequest request;

        (void) state;
        for (size_t i = 0; i < ELEMENTS(paths); i++) {
                request = request_of("s3", &session);
                request.path = paths[i];
                assert_refused(&request, -EINVAL, "sign: a path ");
        }
        request = request_of("s3", &session);
        request.host = "h\r\nX: y";
        assert_refused(&request, -EINVAL, "sign: the host's name");
        request.host = "";
        assert_refused(&request, -EINVAL, "sign: the host's name");
}

/* "a/b" and "c" would be what "a" and "b/c" are. */
static void test_names_of_regions_and_services(void **state) {
        static const char *const names[] = { "", "a/b", "eu west", "r,", "r\nX: y", "é" };
        SignRequest request;

        (void) state;
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                request = request_of("s3", &session);
                request.region = names[i];
                assert_refused(&request, -EINVAL, "is not the name of a region or service");
                request = request_of(names[i], &session);
                assert_refused(&request, -EINVAL, "is not the name of a region or service");
        }
}

/* The longest names there are fit. */
static void test_long_names(void **state) {
        _cleanup_(signer_freep) Signer *signer = signer_new();
        _cleanup_(strv_freep) char **headers = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        char name[101] = "";
        SignRequest request = request_of(name, &plain);

        (void) state;
        memset(name, 'r', sizeof(name) - 1);
        request.region = name;
        if (sign_headers(signer, &request, &headers, &err) < 0 || !headers)
                fail_msg("%s", error_text(err));
        else
                assert_non_null(strstr(headers[1], "r/aws4_request, "));
}

static void test_presigned_validity(void **state) {
        static const usec_t bad[] = { 0, SEC(1) - 1, SIGN_PRESIGN_MAX_USEC + 1, USEC_INFINITY };
        _cleanup_(signer_freep) Signer *signer = signer_new();
        _cleanup_(buf_done) Buf buf = BUF_INIT(4096);
        SignRequest request = request_of("s3", &plain);

        (void) state;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                _cleanup_(error_freep) Error *err = NULL;

                assert_int_equal(sign_query(signer, &request, bad[i], &buf, &err), -EINVAL);
                assert_non_null(strstr(error_text(err), "1 s to 7 days"));
        }
        assert_string_equal(buf_str(&buf), "");
        assert_int_equal(sign_query(signer, &request, SEC(1), &buf, NULL), 0);
        assert_int_equal(sign_query(signer, &request, SIGN_PRESIGN_MAX_USEC, &buf, NULL), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_encode),
                cmocka_unit_test(test_encode_within_the_maximum),
                cmocka_unit_test(test_query_is_sorted_by_name_then_value),
                cmocka_unit_test(test_paths_of_other_services),
                cmocka_unit_test(test_known_requests),
                cmocka_unit_test(test_odd_request),
                cmocka_unit_test(test_other_services),
                cmocka_unit_test(test_what_is_appended),
                cmocka_unit_test(test_presigned),
                cmocka_unit_test(test_key_is_derived_once_a_day),
                cmocka_unit_test(test_secrets_are_wiped),
                cmocka_unit_test(test_headers_that_cannot_be_sent),
                cmocka_unit_test(test_headers_that_are_not_to_be_signed),
                cmocka_unit_test(test_too_many_headers),
                cmocka_unit_test(test_requests_that_are_none),
                cmocka_unit_test(test_names_of_regions_and_services),
                cmocka_unit_test(test_long_names),
                cmocka_unit_test(test_presigned_validity),
        };

        return cmocka_run_group_tests_name("sign-net", tests, NULL, NULL);
}
