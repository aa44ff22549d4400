#include "net/s3words.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macro.h"
#include "base/time.h"

typedef struct Row {
        unsigned status;
        const char *code; /* NULL: no error document */
        int r;
        const char *words;
} Row;

static void check(const Row *row, const S3Failure *given) {
        XmlError error = { .code = (char *) (uintptr_t) row->code };
        S3Failure failure = *given;
        _cleanup_(error_freep) Error *err = NULL;

        failure.status = row->status;
        failure.error = row->code ? &error : NULL;
        if (s3_explain(&failure, &err) != row->r)
                fail_msg("%u %s: %d", row->status, row->code ?: "", error_code(err));
        if (!strstr(error_text(err), row->words))
                fail_msg("\"%s\" is not in \"%s\"", row->words, error_text(err));
}

static void test_rows(void **state) {
        static const Row rows[] = {
                { 404, "NoSuchBucket", -ENOENT, "404 NoSuchBucket: there is no bucket buck there" },
                { 403, "RequestTimeTooSkewed", -EACCES, "20 min behind the server's" },
                { 400, "ExpiredToken", -EACCES, "have ended" },
                { 400, "InvalidToken", -EACCES, "does not know these credentials" },
                { 403, "InvalidAccessKeyId", -EACCES, "tendril explain credentials" },
                { 403, "SignatureDoesNotMatch", -EACCES, "secret" },
                { 403, "AccessDenied", -EACCES, "s3:GetObject" },
                { 403, "AllAccessDisabled", -EACCES, "403 AllAccessDisabled" },
                { 403, NULL, -EACCES, "403 without an error document" },
                { 400, "AuthorizationHeaderMalformed", -EINVAL, "set `region: eu-west-1`" },
                { 301, NULL, -EINVAL, "the bucket is in eu-west-1 and not in us-east-1" },
                { 400, NULL, -EINVAL, "set `region: eu-west-1`" },
                { 400, "EntityTooLarge", -EFBIG, "400 EntityTooLarge" },
                { 400, "Odd", -EINVAL, "400 Odd" },
                { 401, NULL, -EACCES, "tendril explain credentials" },
                { 407, NULL, -EACCES, "nothing in between" },
                { 416, "InvalidRange", -ERANGE, "416" },
                { 418, NULL, -EINVAL, "is that an S3 server" },
                { 429, NULL, -EAGAIN, "tried 3 times" },
                { 500, "InternalError", -EREMOTEIO, "in trouble; tried 3 times" },
                { 501, "NotImplemented", -EOPNOTSUPP, "does not have" },
                { 503, "SlowDown", -EAGAIN, "fewer requests" },
                { 599, NULL, -EREMOTEIO, "in trouble" },
        };
        static const S3Failure given = {
                .method = "GET",
                .bucket = "buck",
                .region = "us-east-1",
                .answered_region = "eu-west-1",
                .skew_usec = (int64_t) SEC(1200),
                .n_tried = 3,
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                check(&rows[i], &given);
}

static void test_regions_that_are_not_named(void **state) {
        static const S3Failure given = { .method = "GET", .bucket = "b", .region = "us-east-1" };
        static const Row redirect = { 301, "PermanentRedirect", -EINVAL,
                                      "not in us-east-1: set `region` to where it is" };
        static const Row bad_request = { 400, NULL, -EINVAL, "is that an S3 server" };

        (void) state;
        check(&redirect, &given);
        check(&bad_request, &given);
}

/* What the server says is shown, and can neither flood a log nor steer a terminal. */
static void test_what_the_server_says(void **state) {
        static const S3Failure given = {
                .status = 400, .method = "GET", .bucket = "b", .region = "us-east-1"
        };
        _cleanup_(error_freep) Error *err = NULL;
        char message[1000], code[] = "Co\x1b[31mde";
        XmlError error = { .code = code, .message = message };
        S3Failure failure = given;

        (void) state;
        memset(message, 'x', sizeof(message) - 1);
        message[sizeof(message) - 1] = '\0';
        failure.error = &error;
        assert_int_equal(s3_explain(&failure, &err), -EINVAL);
        assert_non_null(strstr(error_text(err), "400 Co?[31mde (xxx"));
        assert_true(strlen(error_text(err)) < 400);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rows),
                cmocka_unit_test(test_regions_that_are_not_named),
                cmocka_unit_test(test_what_the_server_says),
        };

        return cmocka_run_group_tests_name("s3words", tests, NULL, NULL);
}
