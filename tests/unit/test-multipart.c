#include "net/multipart.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_list(void **state) {
        char first[] = "a<b>&\"c", second[] = "plain", *etags[] = { first, second };
        _cleanup_(buf_done) Buf text = BUF_INIT(4096), small = BUF_INIT(100);

        (void) state;
        assert_int_equal(multipart_list(etags, 2, &text), 0);
        assert_string_equal(
                buf_str(&text),
                "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                "<Part><PartNumber>1</PartNumber><ETag>&quot;a&lt;b&gt;&amp;&quot;c&quot;</ETag>"
                "</Part><Part><PartNumber>2</PartNumber><ETag>&quot;plain&quot;</ETag></Part>"
                "</CompleteMultipartUpload>");
        assert_int_equal(multipart_list(etags, 2, &small), -EFBIG);
}

/* "printf a | openssl md5 -binary" and so on, those put together, and again. */
static void test_etag(void **state) {
        char a[] = "0cc175b9c0f1b6a831c399e269772661", b[] = "92eb5ffee6ae2fec3ad71c777531578f";
        char *etags[] = { a, b };
        _cleanup_free_ char *etag = multipart_etag(etags, 2);

        (void) state;
        assert_string_equal(etag, "96e024ba2074fe77e8e965ba43a704be-2");
        b[31] = 'G';
        assert_null(multipart_etag(etags, 2));
        b[31] = 'F';
        assert_null(multipart_etag(etags, 2));
        b[31] = 0;
        assert_null(multipart_etag(etags, 2));
}

static void test_md5(void **state) {
        char hex[MULTIPART_MD5_SIZE] = "x";

        (void) state;
        assert_true(multipart_md5("XUFAKrxLKna5cZ2REBfFkg==", hex));
        assert_string_equal(hex, "5d41402abc4b2a76b9719d911017c592");
        assert_false(multipart_md5("", hex));
        assert_string_equal(hex, "");
        assert_false(multipart_md5("XUFAKrxLKna5cZ2REBfF", hex));
        assert_false(multipart_md5("no base64", hex));
}

static void test_is_old(void **state) {
        const usec_t day = SEC(24 * 3600);
        usec_t now;

        (void) state;
        assert_int_equal(time_parse("2025-11-24T16:00:00Z", &now), 0);
        assert_true(multipart_is_old("2025-11-23T15:59:59.000Z", now, day));
        assert_false(multipart_is_old("2025-11-23T16:00:00.000Z", now, day));
        assert_true(multipart_is_old("2025-11-23T15:59:59Z", now, day));
        assert_false(multipart_is_old("2026-11-23T15:59:59Z", now, day));
        assert_false(multipart_is_old("2025-11-23T15:59", now, day));
        assert_false(multipart_is_old("yesterday, all day long", now, day));
        assert_false(multipart_is_old("", now, day));
        assert_false(multipart_is_old(NULL, now, day));
        assert_false(multipart_is_old("2025-11-23T15:59:59.000Z", 0, day));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_list),
                cmocka_unit_test(test_etag),
                cmocka_unit_test(test_md5),
                cmocka_unit_test(test_is_old),
        };

        return cmocka_run_group_tests_name("multipart", tests, NULL, NULL);
}
