#include "net/xml.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/buf.h"
#include "base/macro.h"

#define XML "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
#define NS  " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

static int read_error(const char *text, XmlError *ret, Error **reterr) {
        return xml_read_error(text, strlen(text), ret, reterr);
}

static int read_list(const char *text, XmlList *ret, Error **reterr) {
        return xml_read_list(text, strlen(text), ret, reterr);
}

/* ---- errors ---- */

static void test_error_of_s3(void **state) {
        XmlError e = { 0 };

        (void) state;
        assert_int_equal(
                read_error(XML "<Error><Code>PermanentRedirect</Code>"
                               "<Message>The bucket &amp; its &lt;endpoint&gt;</Message>"
                               "<Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint><Bucket>b</Bucket>"
                               "<Region>eu-west-1</Region><RequestId>4442587FB7D0A2F9</RequestId>"
                               "<Code>Second</Code></Error>",
                           &e, NULL),
                0);
        assert_string_equal(e.code, "PermanentRedirect");
        assert_string_equal(e.message, "The bucket & its <endpoint>");
        assert_string_equal(e.endpoint, "b.s3.eu-west-1.amazonaws.com");
        assert_string_equal(e.bucket, "b");
        assert_string_equal(e.region, "eu-west-1");
        xml_error_done(&e);
        assert_null(e.code);
}

static void test_error_of_others(void **state) {
        XmlError e = { 0 };

        (void) state;
        assert_int_equal(
                read_error("<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"
                           "<Error><Type>Sender</Type><Code>ExpiredTokenException</Code>"
                           "<Message>Token expired</Message></Error></ErrorResponse>",
                           &e, NULL),
                0);
        assert_string_equal(e.code, "ExpiredTokenException");
        assert_string_equal(e.message, "Token expired");
        assert_null(e.region);
        xml_error_done(&e);

        assert_int_equal(read_error("<Response><Errors><Error><Code>AuthFailure</Code></Error>"
                                    "</Errors></Response>",
                                    &e, NULL),
                         0);
        assert_string_equal(e.code, "AuthFailure");
        assert_null(e.message);
        xml_error_done(&e);

        /* RGW's, with a bucket's name. */
        assert_int_equal(read_error("<Error><Code>NoSuchBucket</Code><BucketName>x</BucketName>"
                                    "<HostId>default</HostId></Error>",
                                    &e, NULL),
                         0);
        assert_string_equal(e.bucket, "x");
        xml_error_done(&e);
}

static void test_what_is_no_error_document(void **state) {
        static const char *const bad[] = {
                "",
                "x",
                "<html><body><h1>503</h1></body></html>",
                "<Error><Code>Cut</Code>",
                "<Error><Message>no code</Message></Error>",
                "<Error/>",
                "<Error><Code>a</Code></Error><Error/>",
                "<Error><Code>a</Code></Wrong>",
                "<Error><Code>&undeclared;</Code></Error>",
                "<Error><Code>\xff</Code></Error>",
                "{\"__type\":\"AccessDenied\"}",
                "<!DOCTYPE Error [<!ENTITY a \"b\">]><Error><Code>&a;</Code></Error>",
                "<!DOCTYPE Error SYSTEM \"file:///etc/passwd\"><Error><Code>a</Code></Error>",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                _cleanup_(error_freep) Error *err = NULL;
                XmlError e = { 0 };

                if (read_error(bad[i], &e, &err) != -EBADMSG)
                        fail_msg("taken: %s", bad[i]);
                assert_non_null(err);
                assert_null(e.code);
                assert_null(e.message);
        }
}

/* A billion laughs, and a mile of depth. */
static void test_bombs(void **state) {
        _cleanup_(error_freep) Error *err = NULL, *deep_err = NULL, *long_err = NULL;
        _cleanup_(buf_done) Buf deep = BUF_INIT(1 << 20), long_name = BUF_INIT(1 << 20);
        XmlError e = { 0 };

        (void) state;
        assert_int_equal(read_error("<!DOCTYPE x [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\">]>"
                                    "<Error><Code>&b;</Code></Error>",
                                    &e, &err),
                         -EBADMSG);
        assert_non_null(strstr(error_text(err), "document type"));

        assert_int_equal(buf_append_str(&deep, "<Error><Code>x</Code>"), 0);
        for (unsigned i = 0; i < 10000; i++)
                assert_int_equal(buf_append_str(&deep, "<a>"), 0);
        assert_int_equal(read_error(buf_str(&deep), &e, &deep_err), -EBADMSG);
        assert_non_null(strstr(error_text(deep_err), "too deep"));

        assert_int_equal(buf_append_str(&long_name, "<Error><"), 0);
        for (unsigned i = 0; i < 10000; i++)
                assert_int_equal(buf_append_str(&long_name, "name"), 0);
        assert_int_equal(buf_append_str(&long_name, "/></Error>"), 0);
        assert_int_equal(read_error(buf_str(&long_name), &e, &long_err), -EBADMSG);
        assert_non_null(strstr(error_text(long_err), "too long"));
}

static void test_too_many_bytes(void **state) {
        size_t size = LIMIT_XML_LIST_BYTES + 1;
        _cleanup_free_ char *text = calloc(1, size + 1);
        _cleanup_(error_freep) Error *err = NULL;
        XmlList list = { 0 };

        (void) state;
        memset(text, 'x', size);
        assert_int_equal(xml_read_list(text, size, &list, &err), -EBADMSG);
        assert_non_null(strstr(error_text(err), "more than"));
}

/* What is too long to be kept counts as not there. */
static void test_long_texts(void **state) {
        _cleanup_(buf_done) Buf text = BUF_INIT(1 << 20);
        XmlError e = { 0 };

        (void) state;
        assert_int_equal(buf_append_str(&text, "<Error><Code>x</Code><Message>"), 0);
        for (unsigned i = 0; i < 20000; i++)
                assert_int_equal(buf_append_str(&text, "word "), 0);
        assert_int_equal(buf_append_str(&text, "</Message><Region>r</Region></Error>"), 0);
        assert_int_equal(read_error(buf_str(&text), &e, NULL), 0);
        assert_null(e.message);
        assert_string_equal(e.region, "r");
        xml_error_done(&e);
}

static void test_is_error(void **state) {
        static const char error[] = "\n\n" XML "<Error><Code>InternalError</Code></Error>";

        (void) state;
        /* White space keeps a connection open while the server works. */
        assert_true(xml_is_error(error, strlen(error)));
        assert_true(xml_is_error(error + 2, strlen(error) - 2));
        assert_true(xml_is_error("<Error>", 7));
        assert_false(xml_is_error("<CompleteMultipartUploadResult><Error/>", 39));
        assert_false(xml_is_error("", 0));
        assert_false(xml_is_error("<Err", 4));
        assert_false(xml_is_error("<!DOCTYPE Error><Error>", 23));
}

/* ---- lists ---- */

static void test_list(void **state) {
        XmlList list = { 0 };

        (void) state;
        assert_int_equal(
                read_list(XML "<ListBucketResult" NS "><Name>b</Name><Prefix>a</Prefix>"
                              "<NextContinuationToken>1/a+b=</NextContinuationToken>"
                              "<KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys>"
                              "<IsTruncated>true</IsTruncated>"
                              "<Contents><Key>a/&#228; b+c%20</Key><LastModified>2026-01-01T00:00:"
                              "00.000Z</LastModified><ETag>&quot;0123&quot;</ETag><Size>17</Size>"
                              "<Owner><ID>x</ID><Key>not this</Key></Owner></Contents>"
                              "<Contents><ETag>bare</ETag><Key>b</Key><Size>18446744073709551615"
                              "</Size></Contents>"
                              "<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes>"
                              "</ListBucketResult>",
                          &list, NULL),
                0);
        assert_int_equal(list.n_entries, 2);
        assert_true(list.truncated);
        assert_string_equal(list.next_token, "1/a+b=");
        assert_string_equal(list.entries[0].key, "a/\xc3\xa4 b+c%20");
        assert_string_equal(list.entries[0].etag, "0123");
        assert_int_equal(list.entries[0].size, 17);
        assert_string_equal(list.entries[1].key, "b");
        assert_string_equal(list.entries[1].etag, "bare");
        assert_true(list.entries[1].size == UINT64_MAX);
        xml_list_done(&list);
        assert_null(list.entries);
}

static void test_encoded_list(void **state) {
        XmlList list = { 0 };

        (void) state;
        assert_int_equal(read_list("<ListBucketResult><Contents><Key>a%2Fb+c%2bd%01</Key><Size>0"
                                   "</Size></Contents><EncodingType>url</EncodingType>"
                                   "<IsTruncated>false</IsTruncated></ListBucketResult>",
                                   &list, NULL),
                         0);
        assert_string_equal(list.entries[0].key, "a/b c+d\x01");
        assert_string_equal(list.entries[0].etag, "");
        assert_false(list.truncated);
        assert_null(list.next_token);
        xml_list_done(&list);

        assert_int_equal(read_list("<ListBucketResult/>", &list, NULL), 0);
        assert_int_equal(list.n_entries, 0);
        xml_list_done(&list);
}

static void test_what_is_no_list(void **state) {
        static const char *const bad[] = {
                "",
                "<Error><Code>x</Code></Error>",
                "<ListBucketResult>",
                "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
                "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents>"
                "</ListBucketResult>",
                "<ListBucketResult><Contents><Key>a</Key><Size>1 2</Size></Contents>"
                "</ListBucketResult>",
                "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>%4</Key>"
                "</Contents></ListBucketResult>",
                "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>a%00b</Key>"
                "</Contents></ListBucketResult>",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                _cleanup_(error_freep) Error *err = NULL;
                XmlList list = { 0 };

                if (read_list(bad[i], &list, &err) != -EBADMSG)
                        fail_msg("taken: %s", bad[i]);
                assert_non_null(err);
                assert_null(list.entries);
        }
}

static int list_of(unsigned n, XmlList *ret) {
        _cleanup_(buf_done) Buf text = BUF_INIT(1 << 20);

        assert_int_equal(buf_append_str(&text, "<ListBucketResult>"), 0);
        for (unsigned i = 0; i < n; i++)
                assert_int_equal(buf_printf(&text, "<Contents><Key>%05u</Key></Contents>", i), 0);
        assert_int_equal(buf_append_str(&text, "</ListBucketResult>"), 0);
        return read_list(buf_str(&text), ret, NULL);
}

static void test_long_lists(void **state) {
        XmlList list = { 0 };

        (void) state;
        assert_int_equal(list_of(LIMIT_LIST_KEYS, &list), 0);
        assert_int_equal(list.n_entries, LIMIT_LIST_KEYS);
        assert_string_equal(list.entries[999].key, "00999");
        xml_list_done(&list);
        assert_int_equal(list_of(LIMIT_LIST_KEYS + 1, &list), -EBADMSG);
}

/* ---- values ---- */

static void test_values(void **state) {
        static const char text[] =
                "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
                "<SecretAccessKey>s/+=</SecretAccessKey><AccessKeyId>ASIA</AccessKeyId>"
                "</Credentials></AssumeRoleWithWebIdentityResult><Empty/>"
                "<AccessKeyId>second</AccessKeyId></AssumeRoleWithWebIdentityResponse>";
        static const char *const names[] = { "AccessKeyId", "SecretAccessKey", "SessionToken",
                                             "Empty" };
        char *values[ELEMENTS(names)];

        (void) state;
        assert_int_equal(xml_read_values(text, strlen(text), names, ELEMENTS(names), values, NULL),
                         0);
        assert_string_equal(values[0], "ASIA");
        assert_string_equal(values[1], "s/+=");
        assert_null(values[2]);
        assert_string_equal(values[3], "");
        for (size_t i = 0; i < ELEMENTS(names); i++)
                free(values[i]);

        values[0] = values[1] = (char *) (uintptr_t) "not read";
        assert_int_equal(xml_read_values(text, strlen(text) - 1, names, 2, values, NULL), -EBADMSG);
        assert_null(values[0]);
        assert_null(values[1]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_error_of_s3),
                cmocka_unit_test(test_error_of_others),
                cmocka_unit_test(test_what_is_no_error_document),
                cmocka_unit_test(test_bombs),
                cmocka_unit_test(test_too_many_bytes),
                cmocka_unit_test(test_long_texts),
                cmocka_unit_test(test_is_error),
                cmocka_unit_test(test_list),
                cmocka_unit_test(test_encoded_list),
                cmocka_unit_test(test_what_is_no_list),
                cmocka_unit_test(test_long_lists),
                cmocka_unit_test(test_values),
        };

        return cmocka_run_group_tests_name("xml", tests, NULL, NULL);
}
