#include "net/endpoint.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macro.h"

static void test_locations(void **state) {
        static const struct {
                const char *url, *bucket, *prefix;
        } rows[] = {
                { "s3://my-bucket", "my-bucket", "" },
                { "s3://my-bucket/", "my-bucket", "" },
                { "s3://my-bucket/a", "my-bucket", "a" },
                { "s3://my-bucket//a/b c/\xc3\xa4//", "my-bucket", "a/b c/\xc3\xa4" },
                { "s3://a.b-3/...", "a.b-3", "..." },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                S3Location at = { 0 };

                assert_int_equal(s3_location_parse(rows[i].url, &at, NULL), 0);
                assert_string_equal(at.bucket, rows[i].bucket);
                assert_string_equal(at.prefix, rows[i].prefix);
                s3_location_done(&at);
                assert_null(at.bucket);
        }
}

static void test_what_is_no_location(void **state) {
        static const char *const bad[] = {
                "",
                "s3:/bucket",
                "file:///bucket",
                "s3://",
                "s3:///a",
                "s3://ab",
                "s3://Bucket",
                "s3://buck_et",
                "s3://-bucket",
                "s3://bucket-",
                "s3://buc..ket",
                "s3://127.0.0.1",
                "s3://xn--bucket",
                "s3://bucket/a//b",
                "s3://bucket/a/../b",
                "s3://bucket/.",
                "s3://bucket/a\nb",
                "s3://bucket/\xff",
                "s3://bucket:80/a",
                "s3://user@bucket/a",
                "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/x",
                "s3://a123456789b123456789c123456789d123456789e123456789f123456789g123",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                _cleanup_(error_freep) Error *err = NULL;
                S3Location at = { 0 };

                if (s3_location_parse(bad[i], &at, &err) != -EINVAL)
                        fail_msg("\"%s\" is taken", bad[i]);
                assert_non_null(err);
                assert_null(at.bucket);
        }
}

static void test_regions(void **state) {
        static const char *const good[] = { "eu-west-1",      "us-gov-east-1", "ap-southeast-10",
                                            "us-isob-east-1", "cn-north-1",    "eusc-de-east-1" };
        static const char *const bad[] = { "",           "eu",         "eu-west",      "eu-west-",
                                           "EU-west-1",  "eu_west-1",  "eu-west-1a",   "eu--west-1",
                                           "-eu-west-1", "e-west-1",   "eu-west-1/x",  "eu-1",
                                           "eu.west-1",  "eu-west-1 ", "eu-west-1.com" };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(good); i++)
                assert_true(endpoint_is_region(good[i]));
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                if (endpoint_is_region(bad[i]))
                        fail_msg("\"%s\" is taken", bad[i]);
        assert_false(endpoint_is_region(NULL));
        assert_string_equal(endpoint_domain("cn-north-1"), "amazonaws.com.cn");
        assert_string_equal(endpoint_domain("us-gov-west-1"), "amazonaws.com");
        assert_string_equal(endpoint_domain("us-iso-east-1"), "c2s.ic.gov");
        assert_string_equal(endpoint_domain("us-isob-east-1"), "sc2s.sgov.gov");
        assert_string_equal(endpoint_domain("xy-unheard-9"), "amazonaws.com");
}

typedef struct Row {
        EndpointSpec spec;
        const char *name; /* bucket or service */
        const char *base, *host, *path;
} Row;

static void check(const Row *row, int (*make)(const EndpointSpec *spec, const char *name,
                                              Endpoint *ret, Error **reterr)) {
        _cleanup_(error_freep) Error *err = NULL;
        Endpoint e = { 0 };

        if (make(&row->spec, row->name, &e, &err) != 0)
                fail_msg("%s: %s", row->base, error_text(err));
        assert_string_equal(e.base, row->base);
        assert_string_equal(e.host, row->host);
        assert_string_equal(e.path, row->path);
        assert_string_equal(e.region, row->spec.region);
        endpoint_done(&e);
}

static void test_s3(void **state) {
        /* clang-format off */
        static const Row rows[] = {
                { { .region = "eu-west-1" }, "buck",
                  "https://buck.s3.eu-west-1.amazonaws.com", "buck.s3.eu-west-1.amazonaws.com", "" },
                { { .region = "eu-west-1", .path_style = true }, "buck",
                  "https://s3.eu-west-1.amazonaws.com", "s3.eu-west-1.amazonaws.com", "/buck" },
                { { .region = "eu-west-1" }, "b.u.ck",
                  "https://s3.eu-west-1.amazonaws.com", "s3.eu-west-1.amazonaws.com", "/b.u.ck" },
                { { .region = "us-east-1", .dualstack = true }, "buck",
                  "https://buck.s3.dualstack.us-east-1.amazonaws.com", "buck.s3.dualstack.us-east-1.amazonaws.com", "" },
                { { .region = "us-gov-west-1", .fips = true }, "buck",
                  "https://buck.s3-fips.us-gov-west-1.amazonaws.com", "buck.s3-fips.us-gov-west-1.amazonaws.com", "" },
                { { .region = "us-east-1", .fips = true, .dualstack = true }, "buck",
                  "https://buck.s3-fips.dualstack.us-east-1.amazonaws.com", "buck.s3-fips.dualstack.us-east-1.amazonaws.com", "" },
                { { .region = "cn-north-1" }, "buck",
                  "https://buck.s3.cn-north-1.amazonaws.com.cn", "buck.s3.cn-north-1.amazonaws.com.cn", "" },
                { { .region = "xy-new-1", .domain = "amazonaws.xy" }, "buck",
                  "https://buck.s3.xy-new-1.amazonaws.xy", "buck.s3.xy-new-1.amazonaws.xy", "" },
                { { .region = "us-east-1", .endpoint = "http://127.0.0.1:7480" }, "buck",
                  "http://127.0.0.1:7480", "127.0.0.1:7480", "/buck" },
                { { .region = "default", .endpoint = "https://S3.example.org:443/" }, "buck",
                  "https://s3.example.org", "s3.example.org", "/buck" },
                { { .region = "default", .endpoint = "http://s3.example.org:443", .virtual_host = true }, "buck",
                  "http://buck.s3.example.org:443", "buck.s3.example.org:443", "" },
                { { .region = "default", .endpoint = "https://s3.example.org", .virtual_host = true }, "bu.ck",
                  "https://s3.example.org", "s3.example.org", "/bu.ck" },
                { { .region = "default", .endpoint = "http://[::1]:80", .virtual_host = true }, "buck",
                  "http://[::1]", "[::1]", "/buck" },
                { { .region = "eu-west-1", .endpoint = "https://bucket.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com" }, "buck",
                  "https://bucket.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com",
                  "bucket.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com", "/buck" },
        };
        /* clang-format on */

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                check(&rows[i], endpoint_s3);
}

static void test_services(void **state) {
        /* clang-format off */
        static const Row rows[] = {
                { { .region = "eu-west-1" }, "sts", "https://sts.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com", "" },
                { { .region = "us-west-2", .fips = true }, "sts", "https://sts-fips.us-west-2.amazonaws.com", "sts-fips.us-west-2.amazonaws.com", "" },
                { { .region = "eu-west-1", .dualstack = true }, "logs", "https://logs.eu-west-1.api.aws", "logs.eu-west-1.api.aws", "" },
                { { .region = "cn-north-1" }, "sts", "https://sts.cn-north-1.amazonaws.com.cn", "sts.cn-north-1.amazonaws.com.cn", "" },
                { { .region = "us-east-1", .endpoint = "http://127.0.0.1:5000" }, "sts", "http://127.0.0.1:5000", "127.0.0.1:5000", "" },
        };
        /* clang-format on */

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                check(&rows[i], endpoint_service);
}

static void test_refusals(void **state) {
        static const struct {
                EndpointSpec spec;
                const char *words;
        } rows[] = {
                { { .region = NULL }, "set `region`" },
                { { .region = "default" }, "no region" },
                { { .region = "a/b", .endpoint = "http://h" }, "no region" },
                { { .region = "eu-west-1", .path_style = true, .virtual_host = true }, "exclude" },
                { { .region = "eu-west-1", .endpoint = "http://h", .fips = true }, "`fips`" },
                { { .region = "eu-west-1", .endpoint = "http://h", .dualstack = true },
                  "`dualstack`" },
                { { .region = "cn-north-1", .fips = true }, "no FIPS" },
                { { .region = "eu-west-1", .endpoint = "h" }, "no endpoint" },
                { { .region = "eu-west-1", .endpoint = "ftp://h" }, "no endpoint" },
                { { .region = "eu-west-1", .endpoint = "http://" }, "no endpoint" },
                { { .region = "eu-west-1", .endpoint = "http://h/path" }, "no endpoint" },
                { { .region = "eu-west-1", .endpoint = "http://h?q" }, "no endpoint" },
                { { .region = "eu-west-1", .endpoint = "http://h:0" }, "no endpoint" },
                { { .region = "eu-west-1", .endpoint = "http://h:99999" }, "no endpoint" },
                { { .region = "eu-west-1", .endpoint = "http://h:" }, "no endpoint" },
                { { .region = "eu-west-1", .endpoint = "http://[::g]" }, "no endpoint" },
                { { .region = "eu-west-1", .endpoint = "http://[::1" }, "no endpoint" },
                { { .region = "eu-west-1", .endpoint = "http://h h" }, "no endpoint" },
                { { .region = "eu-west-1", .endpoint = "http://user:secret@h" }, "no endpoint" },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(error_freep) Error *err = NULL;
                Endpoint e = { 0 };

                if (endpoint_s3(&rows[i].spec, "buck", &e, &err) != -EINVAL)
                        fail_msg("row %zu is taken: %s", i, e.base ?: "");
                if (!strstr(error_text(err), rows[i].words))
                        fail_msg("row %zu: %s", i, error_text(err));
                assert_null(strstr(error_text(err), "secret"));
                assert_null(e.base);
        }
        {
                const EndpointSpec spec = { .region = "us-iso-east-1", .dualstack = true };
                Endpoint e = { 0 };

                assert_int_equal(endpoint_service(&spec, "sts", &e, NULL), -EINVAL);
                assert_int_equal(endpoint_s3(&spec, "Bad_Bucket", &e, NULL), -EINVAL);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_locations), cmocka_unit_test(test_what_is_no_location),
                cmocka_unit_test(test_regions),   cmocka_unit_test(test_s3),
                cmocka_unit_test(test_services),  cmocka_unit_test(test_refusals),
        };

        return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
