#include "s3-world.h"

#include <fcntl.h>
#include <sys/mman.h>

#define ERROR(code) "<Error><Code>" code "</Code><Message>the words of it</Message></Error>"

/* What a call ended with, copied. */
typedef struct Ended {
        S3World *w;
        int n_done;
        int r;
        unsigned status;
        char code[64], etag[160], body[256], words[1024];
        usec_t date_usec, modified_usec;
        uint64_t n_bytes;
        unsigned n_again;
        bool free_all; /* from done() */
} Ended;

static void on_done(void *userdata, int r, const S3Answer *answer, Error *err) {
        Ended *e = userdata;

        e->n_done++;
        e->r = r;
        if (answer->reply) {
                e->status = answer->reply->status;
                (void) snprintf(e->body, sizeof(e->body), "%s", buf_str(&answer->reply->body));
        }
        if (answer->error)
                (void) snprintf(e->code, sizeof(e->code), "%s", answer->error->code);
        if (answer->etag)
                (void) snprintf(e->etag, sizeof(e->etag), "%s", answer->etag);
        e->date_usec = answer->date_usec;
        e->modified_usec = answer->modified_usec;
        if (err)
                (void) snprintf(e->words, sizeof(e->words), "%s", error_text(err));
        assert_true(r >= 0 || err);
        if (e->free_all)
                e->w->s3 = s3_free(e->w->s3);
}

static void on_bytes(void *userdata, uint64_t n_bytes) {
        ((Ended *) userdata)->n_bytes += n_bytes;
}

static void on_again(void *userdata) {
        ((Ended *) userdata)->n_again++;
        ((Ended *) userdata)->n_bytes = 0;
}

static S3Call *send_it(S3World *w, S3Request request, Ended *e) {
        S3Call *call = NULL;

        *e = (Ended){ .w = w, .free_all = e->free_all };
        request.method = request.method ?: "GET";
        request.on_done = on_done;
        request.on_again = on_again;
        request.userdata = e;
        assert_int_equal(s3_send(w->s3, &request, &call, NULL), 0);
        assert_int_equal(e->n_done, 0);
        return call;
}

static int ask(S3World *w, S3Request request, Ended *e) {
        (void) send_it(w, request, e);
        loop_until(w->loop, &e->n_done, 1);
        return e->r;
}

#define GET(w, e) ask(w, (S3Request){ .key = "k", .max_bytes = 1000 }, e)
#define PUT(w, e)                                                                                  \
        ask(w,                                                                                     \
            (S3Request){ .method = "PUT",                                                          \
                         .key = "k",                                                               \
                         .body = "text",                                                           \
                         .body_bytes = 4,                                                          \
                         .max_bytes = 1000 },                                                      \
            e)
#define ONCE(w, e)                                                                                 \
        ask(w,                                                                                     \
            (S3Request){ .method = "PUT",                                                          \
                         .key = "k",                                                               \
                         .body = "text",                                                           \
                         .body_bytes = 4,                                                          \
                         .if_absent = true,                                                        \
                         .once = true,                                                             \
                         .max_bytes = 1000 },                                                      \
            e)

static void assert_words(const Ended *e, const char *words) {
        if (!strstr(e->words, words))
                fail_msg("\"%s\" is not in \"%s\"", words, e->words);
        assert_null(strstr(e->words, "very secret"));
}

/* ---- what is sent, what comes back ---- */

static void test_a_request_and_its_answer(_unused_ void **state) {
        char header[1024];
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket/a/pre fix");
        WORLD_SCRIPT(&w, { .path = "/my-bucket/a/pre%20fix/k%2B/"
                                   "%C3%A4..?list-type=2&prefix=a%2Fb%3D%2B&uploads=",
                           .headers = WORLD_DATE
                           "ETag: \"abc-1\"\r\nLast-Modified: Wed, 31 Dec 2025 23:59:00 GMT\r\n",
                           .body = "hello" });
        {
                char type[] = "list-type=2", prefix[] = "prefix=a/b=+", uploads[] = "uploads";
                char *query[] = { uploads, prefix, type, NULL };
                char extra[] = "x-amz-meta-a: b";
                char *headers[] = { extra, NULL };

                assert_int_equal(ask(&w,
                                     (S3Request){ .key = "k+/\xc3\xa4..",
                                                  .query = query,
                                                  .headers = headers,
                                                  .etag = "old",
                                                  .max_bytes = 5 },
                                     &e),
                                 0);
        }
        assert_int_equal(e.status, 200);
        assert_string_equal(e.body, "hello");
        assert_string_equal(e.etag, "abc-1");
        assert_true(e.date_usec == WORLD_NOW_USEC);
        assert_true(e.modified_usec == WORLD_NOW_USEC - SEC(60));
        assert_string_equal(world_header(&w, 0, "If-Match", header), "\"old\"");
        assert_string_equal(world_header(&w, 0, "x-amz-meta-a", header), "b");
        assert_string_equal(world_header(&w, 0, "x-amz-date", header), "20260101T000000Z");
        assert_string_equal(world_header(&w, 0, "x-amz-content-sha256", header),
                            SIGN_EMPTY_PAYLOAD);
        assert_non_null(strstr(world_header(&w, 0, "Authorization", header),
                               "/20260101/us-east-1/s3/aws4_request"));
        assert_non_null(strstr(header, "if-match"));
        world_done(&w);
}

static void test_a_body_is_hashed(_unused_ void **state) {
        char header[1024], digest[DIGEST_SHA256_HEX_SIZE];
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .method = "PUT", .path = "/my-bucket/k", .needs = "\r\n\r\ntext" });
        assert_int_equal(ONCE(&w, &e), 0);
        digest_bytes("text", 4, digest);
        assert_string_equal(world_header(&w, 0, "x-amz-content-sha256", header), digest);
        assert_string_equal(world_header(&w, 0, "If-None-Match", header), "*");
        assert_string_equal(world_header(&w, 0, "Content-Length", header), "4");
        world_done(&w);
}

static void test_an_empty_body(_unused_ void **state) {
        char header[1024];
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .method = "PUT" });
        assert_int_equal(ask(&w, (S3Request){ .method = "PUT", .key = "k", .body = "" }, &e), 0);
        assert_string_equal(world_header(&w, 0, "Content-Length", header), "0");
        world_done(&w);
}

static void test_files(_unused_ void **state) {
        _cleanup_close_ int fd = memfd_create("file", MFD_CLOEXEC);
        HttpFile part = { .fd = fd, .offset = 3, .bytes = 4 };
        char header[1024], digest[DIGEST_SHA256_HEX_SIZE], text[16] = "";
        Ended e = { 0 };
        S3World w;

        assert_int_equal(pwrite(fd, "abcdefghij", 10, 0), 10);
        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .method = "PUT", .needs = "\r\n\r\ndefg", .lacks = "defgh" },
                     { .method = "GET", .status = 206, .body = "1234" });
        assert_int_equal(
                ask(&w,
                    (S3Request){
                            .method = "PUT", .key = "k", .body_file = &part, .on_bytes = on_bytes },
                    &e),
                0);
        assert_int_equal(e.n_bytes, 4);
        digest_bytes("defg", 4, digest);
        assert_string_equal(world_header(&w, 0, "x-amz-content-sha256", header), digest);

        assert_int_equal(
                ask(&w, (S3Request){ .key = "k", .answer_file = &part, .on_bytes = on_bytes }, &e),
                0);
        assert_int_equal(e.n_bytes, 4);
        assert_int_equal(pread(fd, text, 10, 0), 10);
        assert_string_equal(text, "abc1234hij");

        /* The caller knows the digest. */
        assert_int_equal(ask(&w,
                             (S3Request){ .method = "PUT",
                                          .key = "k",
                                          .body_file = &part,
                                          .payload = SIGN_UNSIGNED_PAYLOAD },
                             &e),
                         S3_ABSENT);
        assert_string_equal(world_header(&w, 2, "x-amz-content-sha256", header),
                            SIGN_UNSIGNED_PAYLOAD);
        world_done(&w);
}

static void test_answers(_unused_ void **state) {
        static const struct {
                unsigned status;
                const char *body;
                int r;
        } rows[] = {
                { 200, "", 0 },
                { 204, NULL, 0 },
                { 304, NULL, 0 },
                { 404, ERROR("NoSuchKey"), S3_ABSENT },
                { 404, "", S3_ABSENT },
                { 404, ERROR("NoSuchUpload"), S3_ABSENT },
                { 404, ERROR("NoSuchBucket"), -ENOENT },
                { 409, ERROR("ConditionalRequestConflict"), S3_REFUSED },
                { 412, ERROR("PreconditionFailed"), S3_REFUSED },
                { 400, ERROR("InvalidRequest"), -EINVAL },
                { 403, ERROR("AccessDenied"), -EACCES },
                { 403, ERROR("QuotaExceeded"), -EDQUOT },
                { 416, ERROR("InvalidRange"), -ERANGE },
                { 501, ERROR("NotImplemented"), -EOPNOTSUPP },
        };
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                ScriptAnswer answer = { .status = rows[i].status, .body = rows[i].body };

                script_server_set(w.server, &answer, 1);
                if (GET(&w, &e) != rows[i].r)
                        fail_msg("%u %s: %d", rows[i].status, rows[i].body ?: "", e.r);
        }
        assert_int_equal(script_server_n_requests(w.server), ELEMENTS(rows));
        world_done(&w);
}

static void test_too_large_answers(_unused_ void **state) {
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .body = "123456" });
        assert_int_equal(ask(&w, (S3Request){ .key = "k", .max_bytes = 5 }, &e), -EFBIG);
        assert_words(&e, "GET s3://my-bucket/k");
        /* What a write answered at too great a length may be written. */
        assert_int_equal(ask(&w,
                             (S3Request){ .method = "PUT",
                                          .key = "k",
                                          .body = "x",
                                          .body_bytes = 1,
                                          .once = true },
                             &e),
                         -EBADMSG);
        world_done(&w);
}

/* ---- trying again ---- */

static void test_a_storm_passes(_unused_ void **state) {
        Ended e = { 0 };
        S3Status status = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .times = 1, .status = 503, .body = ERROR("SlowDown") },
                     { .times = 1, .status = 502 }, { .body = "x" });
        assert_int_equal(GET(&w, &e), 0);
        assert_int_equal(e.n_again, 2);
        assert_int_equal(s3_status(w.s3, &status), 0);
        assert_int_equal(status.n_requests, 3);
        assert_int_equal(status.n_retries, 2);
        assert_int_equal(status.n_throttled, 1);
        assert_null(status.error);
        json_table_done(&s3_status_table, &status);
        assert_int_equal(w.s3->quota.tokens, RETRY_TOKENS);
        world_done(&w);
}

static void test_a_storm_does_not_pass(_unused_ void **state) {
        Ended e = { 0 };
        S3Status status = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .status = 503, .body = ERROR("SlowDown") });
        assert_int_equal(GET(&w, &e), -EAGAIN);
        assert_words(&e, "GET s3://my-bucket/k: 503 SlowDown (the words of it)");
        assert_words(&e, "tried 3 times");
        WORLD_SCRIPT(&w, { .status = 500, .body = "<html>" });
        assert_int_equal(PUT(&w, &e), -EREMOTEIO);
        assert_words(&e, "500 without an error document");
        assert_int_equal(script_server_n_requests(w.server), 6);
        assert_int_equal(s3_status(w.s3, &status), 0);
        assert_non_null(strstr(status.error, "PUT s3://my-bucket/k"));
        assert_string_equal(status.failed, "2026-01-01T00:00:00Z");
        assert_null(status.clock);
        json_table_done(&s3_status_table, &status);
        world_done(&w);
}

static void test_nobody_listens(_unused_ void **state) {
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        free(w.s3->endpoint.base);
        w.s3->endpoint.base = strdup("http://127.0.0.1:1");
        /* Nothing left this host: also what must be sent once is tried again. */
        assert_int_equal(ONCE(&w, &e), -ECONNREFUSED);
        assert_int_equal(e.n_again, 2);
        assert_words(&e, "PUT s3://my-bucket/k");
        world_done(&w);
}

/* Where a write may have been done, it is not done again. */
static void test_once(_unused_ void **state) {
        static const ScriptAnswer ambiguous[] = {
                { .status = 500, .body = ERROR("InternalError") },
                { .status = 502 },
                { .status = 503, .body = "<html>a proxy's</html>" },
                { .status = 504 },
                { .how = SCRIPT_CLOSE },
                { .how = SCRIPT_RESET },
                { .how = SCRIPT_CUT, .body = "123456", .cut_bytes = 3 },
                { .how = SCRIPT_RAW, .body = "rubbish\r\n\r\n" },
        };
        static const ScriptAnswer harmless[] = {
                { .times = 1, .status = 503, .body = ERROR("SlowDown") },
                { .times = 1, .status = 400, .body = ERROR("RequestTimeout") },
                { .times = 1, .status = 400, .body = ERROR("ExpiredToken") },
        };
        Ended e = { 0 };
        size_t n = 0;
        S3World w;

        world_init(&w, "s3://my-bucket");
        for (size_t i = 0; i < ELEMENTS(ambiguous); i++) {
                script_server_set(w.server, &ambiguous[i], 1);
                if (ONCE(&w, &e) >= 0)
                        fail_msg("row %zu: %d", i, e.r);
                /* store_put_document() reads back after these. */
                assert_true(e.r == -EREMOTEIO || e.r == -EAGAIN || e.r == -ECONNRESET ||
                            e.r == -EBADMSG);
                assert_int_equal(script_server_n_requests(w.server), ++n);
                assert_int_equal(script_server_n_connections(w.server), n);
        }
        for (size_t i = 0; i < ELEMENTS(harmless); i++) {
                const ScriptAnswer script[] = { harmless[i], { .status = 200 } };

                script_server_set(w.server, script, ELEMENTS(script));
                assert_int_equal(ONCE(&w, &e), 0);
                n += 2;
                assert_int_equal(script_server_n_requests(w.server), n);
        }
        world_done(&w);
}

static void test_cut_answers_are_asked_for_again(_unused_ void **state) {
        static const char cut[] = "123456";
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .times = 1, .how = SCRIPT_CUT, .body = cut, .cut_bytes = 3 },
                     { .times = 1, .how = SCRIPT_RESET }, { .body = "123456" });
        assert_int_equal(GET(&w, &e), 0);
        assert_string_equal(e.body, "123456");
        world_done(&w);
}

static void test_a_server_that_is_silent(_unused_ void **state) {
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .how = SCRIPT_HANG });
        assert_int_equal(
                ask(&w,
                    (S3Request){
                            .method = "PUT", .key = "k", .once = true, .total_usec = MSEC(100) },
                    &e),
                -ETIMEDOUT);
        assert_int_equal(script_server_n_requests(w.server), 1);
        world_done(&w);
}

/* ---- clocks ---- */

#define SKEWED_DATE "Date: Thu, 01 Jan 2026 00:20:00 GMT\r\n"

static void test_a_clock_that_is_behind(_unused_ void **state) {
        char header[1024];
        S3Status status = { 0 };
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w,
                     { .lacks = "x-amz-date: 20260101T0020",
                       .status = 403,
                       .headers = SKEWED_DATE,
                       .body = ERROR("RequestTimeTooSkewed") },
                     { .headers = SKEWED_DATE });
        assert_int_equal(ONCE(&w, &e), 0);
        assert_int_equal(script_server_n_requests(w.server), 2);
        assert_true(w.chain.skew_usec == (int64_t) SEC(1200));
        /* The next one is right at once. */
        assert_int_equal(GET(&w, &e), 0);
        assert_int_equal(script_server_n_requests(w.server), 3);
        assert_string_equal(world_header(&w, 2, "x-amz-date", header), "20260101T002000Z");
        assert_int_equal(s3_status(w.s3, &status), 0);
        assert_true(status.skew_usec == (int64_t) SEC(1200));
        assert_string_equal(status.clock, "this host's clock is 20 min behind the server's");
        json_table_done(&s3_status_table, &status);

        /* It is set right: nothing is corrected any more. */
        w.now_usec += SEC(1200);
        WORLD_SCRIPT(&w, { .headers = SKEWED_DATE });
        assert_int_equal(GET(&w, &e), 0);
        assert_int_equal(GET(&w, &e), 0);
        assert_string_equal(world_header(&w, 4, "x-amz-date", header), "20260101T002000Z");
        assert_true(w.chain.skew_usec == 0);
        world_done(&w);
}

static void test_a_clock_that_is_ahead(_unused_ void **state) {
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        w.now_usec += SEC(1000) + MSEC(500);
        WORLD_SCRIPT(
                &w,
                { .status = 403,
                  .headers = WORLD_DATE,
                  .body = ERROR("SignatureDoesNotMatch"),
                  .lacks = "20260101T000000Z" },
                { .headers = WORLD_DATE, .times = 1 },
                { .status = 403, .headers = WORLD_DATE, .body = ERROR("RequestTimeTooSkewed") });
        assert_int_equal(GET(&w, &e), 0);
        /* A server that never is content. */
        assert_int_equal(GET(&w, &e), -EACCES);
        assert_words(&e, "this host's clock is 16 min 40 s ahead of the server's");
        assert_int_equal(script_server_n_requests(w.server), 4);
        world_done(&w);
}

static void test_a_small_difference_is_nothing(_unused_ void **state) {
        char header[1024];
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        w.now_usec += SEC(200) + MSEC(999);
        WORLD_SCRIPT(&w, { .headers = WORLD_DATE });
        assert_int_equal(GET(&w, &e), 0);
        assert_int_equal(GET(&w, &e), 0);
        assert_string_equal(world_header(&w, 1, "x-amz-date", header), "20260101T000320Z");
        assert_true(w.chain.skew_usec == -(int64_t) SEC(200));
        w.now_usec = WORLD_NOW_USEC + MSEC(900);
        assert_int_equal(GET(&w, &e), 0);
        assert_true(w.chain.skew_usec == 0);
        world_done(&w);
}

/* ---- credentials ---- */

static void test_credentials_that_ended(_unused_ void **state) {
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .times = 1, .status = 400, .body = ERROR("ExpiredToken") },
                     { .times = 1 }, { .status = 403, .body = ERROR("InvalidAccessKeyId") });
        assert_int_equal(GET(&w, &e), 0);
        assert_int_equal(w.chain.n_refused, 1);
        assert_int_equal(w.chain.n_get, 2);
        assert_int_equal(GET(&w, &e), -EACCES);
        assert_words(&e, "tendril explain credentials");
        assert_int_equal(script_server_n_requests(w.server), 4);
        assert_int_equal(w.chain.n_refused, 2);
        world_done(&w);
}

static void test_no_credentials(_unused_ void **state) {
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        w.chain.r = -ENOKEY;
        assert_int_equal(GET(&w, &e), -ENOKEY);
        assert_words(&e, "GET s3://my-bucket/k: no source has credentials");
        assert_int_equal(script_server_n_requests(w.server), 0);
        world_done(&w);
}

/* ---- regions ---- */

static void test_another_region(_unused_ void **state) {
        static const ScriptAnswer ways[] = {
                { .status = 301, .headers = "x-amz-bucket-region: eu-west-1\r\n" },
                { .status = 307,
                  .body = "<Error><Code>TemporaryRedirect</Code><Endpoint>my-bucket.s3.eu-west-1."
                          "amazonaws.com</Endpoint></Error>" },
                { .status = 301,
                  .body = "<Error><Code>PermanentRedirect</Code><Endpoint>my-bucket.s3-eu-west-1."
                          "amazonaws.com</Endpoint></Error>" },
                { .status = 400,
                  .body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1"
                          "</Region></Error>" },
                { .status = 400, .headers = "x-amz-bucket-region: eu-west-1\r\n" },
        };

        for (size_t i = 0; i < ELEMENTS(ways); i++) {
                ScriptAnswer script[] = { ways[i], { .status = 200 } };
                S3Status status = { 0 };
                Ended e = { 0 };
                S3World w;

                script[0].lacks = "/eu-west-1/s3/aws4_request";
                world_init(&w, "s3://my-bucket");
                script_server_set(w.server, script, ELEMENTS(script));
                if (ONCE(&w, &e) != 0)
                        fail_msg("way %zu: %s", i, e.words);
                assert_int_equal(script_server_n_requests(w.server), 2);
                /* It is remembered. */
                assert_int_equal(GET(&w, &e), 0);
                assert_int_equal(script_server_n_requests(w.server), 3);
                assert_int_equal(s3_status(w.s3, &status), 0);
                assert_string_equal(status.region, "eu-west-1");
                json_table_done(&s3_status_table, &status);
                world_done(&w);
        }
}

static void test_redirects_that_are_not_followed(_unused_ void **state) {
        static const ScriptAnswer ways[] = {
                { .status = 301, .headers = "Location: http://127.0.0.1:1/evil\r\n" },
                { .status = 307, .headers = "x-amz-bucket-region: evil.example.org/\r\n" },
                { .status = 301, .headers = "x-amz-bucket-region: cn-north-1\r\n" },
                { .status = 301, .headers = "x-amz-bucket-region: us-east-1\r\n" },
                { .status = 301,
                  .body = "<Error><Code>PermanentRedirect</Code><Endpoint>evil.example.org"
                          "</Endpoint></Error>" },
        };
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        for (size_t i = 0; i < ELEMENTS(ways); i++) {
                script_server_set(w.server, &ways[i], 1);
                if (GET(&w, &e) != -EINVAL)
                        fail_msg("way %zu: %d", i, e.r);
                assert_words(&e, "set `region");
                assert_int_equal(script_server_n_requests(w.server), i + 1);
        }
        world_done(&w);
}

/* One that goes round in a circle. */
static void test_regions_are_followed_once(_unused_ void **state) {
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w,
                     { .needs = "/us-east-1/",
                       .status = 301,
                       .headers = "x-amz-bucket-region: eu-west-1\r\n" },
                     { .status = 301, .headers = "x-amz-bucket-region: us-east-1\r\n" });
        assert_int_equal(GET(&w, &e), -EINVAL);
        assert_int_equal(script_server_n_requests(w.server), 2);
        assert_words(&e, "the bucket is in us-east-1 and not in eu-west-1");
        world_done(&w);
}

/* ---- words ---- */

static void test_words_for_what_is_denied(_unused_ void **state) {
        static const struct {
                const char *method, *key, *etag, *words;
        } rows[] = {
                { "GET", "k", NULL, "s3:GetObject on it" },
                { "GET", "k", NULL, "without s3:ListBucket on my-bucket what is missing" },
                { "HEAD", "k", NULL, "s3:GetObject" },
                { "GET", NULL, NULL, "s3:ListBucket on my-bucket for this prefix" },
                { "PUT", "k", NULL, "s3:PutObject on it, or" },
                { "PUT", "k", "e", "s3:PutObject on it, and s3:GetObject for the condition" },
                { "DELETE", "k", NULL, "s3:DeleteObject" },
        };
        Ended e = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket/pre");
        WORLD_SCRIPT(&w, { .status = 403, .body = ERROR("AccessDenied") });
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_int_equal(ask(&w,
                                     (S3Request){ .method = rows[i].method,
                                                  .key = rows[i].key,
                                                  .etag = rows[i].etag },
                                     &e),
                                 -EACCES);
                assert_words(&e, rows[i].words);
                assert_words(&e, "s3://my-bucket/pre");
        }
        WORLD_SCRIPT(
                &w, { .status = 403, .body = ERROR("SignatureDoesNotMatch"), .times = 1 },
                { .status = 404, .body = ERROR("NoSuchBucket"), .times = 1 },
                { .status = 418, .body = "<html>\x1b[31m</html>", .times = 1 },
                { .status = 403, .body = "<Error><Code>a\x1b[31mb</Code></Error>", .times = 1 },
                { .status = 403, .body = "<Error><Code>C&#x9b;</Code></Error>", .times = 1 });
        assert_int_equal(GET(&w, &e), -EACCES);
        assert_words(&e, "secret of the credentials");
        assert_int_equal(GET(&w, &e), -ENOENT);
        assert_words(&e, "there is no bucket my-bucket");
        assert_int_equal(GET(&w, &e), -EINVAL);
        assert_words(&e, "is that an S3 server");
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(GET(&w, &e), -EACCES);
                assert_null(strchr(e.words, 0x1b));
                assert_null(strstr(e.words, "\xc2\x9b"));
        }
        world_done(&w);
}

/* ---- forms of ETags ---- */

static void test_forms_of_etags(_unused_ void **state) {
        const S3Request put = { .method = "PUT", .key = "k", .etag = "e" };
        S3Request bare = put;
        char header[1024];
        Ended e = { 0 };
        S3World w;

        bare.bare_etag = true;
        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .times = 1, .status = 412 }, { .status = 200 });
        assert_int_equal(ask(&w, put, &e), S3_REFUSED);
        assert_true(s3_etag_is_unknown(w.s3));
        assert_string_equal(world_header(&w, 0, "If-Match", header), "\"e\"");
        /* A read shows nothing. */
        assert_int_equal(ask(&w, (S3Request){ .key = "k", .etag = "e" }, &e), 0);
        assert_true(s3_etag_is_unknown(w.s3));
        assert_int_equal(ask(&w, bare, &e), 0);
        assert_string_equal(world_header(&w, 2, "If-Match", header), "e");
        assert_false(s3_etag_is_unknown(w.s3));
        assert_int_equal(ask(&w, put, &e), 0);
        assert_string_equal(world_header(&w, 3, "If-Match", header), "e");
        assert_int_equal(ask(&w, (S3Request){ .key = "k", .etag = "e" }, &e), 0);
        assert_string_equal(world_header(&w, 4, "If-Match", header), "\"e\"");
        world_done(&w);
}

/* ---- lives ---- */

static void test_cancel(_unused_ void **state) {
        const S3Request request = { .key = "k" };
        Ended first = { 0 }, second = { 0 }, third = { 0 }, probe = { 0 };
        S3Call *calls[3];
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .path = "/my-bucket/probe", .body = "x" }, { .how = SCRIPT_HANG });
        /* Before its credentials, under way, and waiting to be tried again. */
        calls[0] = send_it(&w, request, &first);
        assert_null(s3_cancel(calls[0]));
        calls[1] = send_it(&w, request, &second);
        while (script_server_n_requests(w.server) == 0)
                (void) sd_event_run(w.loop, MSEC(1));
        assert_null(s3_cancel(calls[1]));
        calls[2] = send_it(&w, request, &third);
        while (!calls[2]->transfer)
                (void) sd_event_run(w.loop, MSEC(1));
        calls[2]->transfer = http_cancel(calls[2]->transfer);
        (void) sd_event_source_set_time_relative(calls[2]->timer, 0);
        (void) sd_event_source_set_enabled(calls[2]->timer, SD_EVENT_ONESHOT);
        assert_null(s3_cancel(calls[2]));
        assert_null(s3_cancel(NULL));
        assert_int_equal(ask(&w, (S3Request){ .key = "probe", .max_bytes = 1 }, &probe), 0);
        assert_int_equal(first.n_done + second.n_done + third.n_done, 0);
        assert_int_equal(w.s3->n_running, 0);
        world_done(&w);
}

static void test_free_with_calls_under_way(_unused_ void **state) {
        Ended e[3] = { { 0 } };
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .how = SCRIPT_HANG });
        for (size_t i = 0; i < ELEMENTS(e); i++)
                (void) send_it(&w, (S3Request){ .key = "k" }, &e[i]);
        while (script_server_n_requests(w.server) == 0)
                (void) sd_event_run(w.loop, MSEC(1));
        w.s3 = s3_free(w.s3);
        while (sd_event_run(w.loop, 0) > 0)
                ;
        assert_int_equal(e[0].n_done + e[1].n_done + e[2].n_done, 0);
        world_done(&w);
}

static void test_free_from_done(_unused_ void **state) {
        Ended e = { .free_all = true }, other = { 0 };
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .path = "/my-bucket/k", .status = 200 }, { .how = SCRIPT_HANG });
        (void) send_it(&w, (S3Request){ .key = "other" }, &other);
        assert_int_equal(GET(&w, &e), 0);
        assert_null(w.s3);
        assert_int_equal(other.n_done, 0);
        world_done(&w);
}

/* More than may be under way wait for their turn, in order. */
static void test_turns(_unused_ void **state) {
        enum { N = LIMIT_S3_CALLS + 20 };
        static Ended e[N];
        S3Call *calls[N];
        unsigned n_waiting = 0;
        int n_done = 0;
        S3World w;

        world_init(&w, "s3://my-bucket");
        WORLD_SCRIPT(&w, { .status = 200 });
        memset(e, 0, sizeof(e));
        for (size_t i = 0; i < N; i++)
                calls[i] = send_it(&w, (S3Request){ .key = "k" }, &e[i]);
        for (size_t i = 0; i < N; i++)
                n_waiting += !calls[i]->is_running;
        assert_int_equal(n_waiting, 20);
        assert_int_equal(w.s3->n_running, LIMIT_S3_CALLS);
        /* One that gives up its turn, and one that gives up waiting. */
        assert_null(s3_cancel(calls[0]));
        assert_null(s3_cancel(calls[N - 1]));
        assert_int_equal(w.s3->n_running, LIMIT_S3_CALLS);
        assert_true(calls[LIMIT_S3_CALLS]->is_running);
        while (n_done < N - 2) {
                assert_true(sd_event_run(w.loop, UINT64_MAX) >= 0);
                assert_int_not_equal(sd_event_get_state(w.loop), SD_EVENT_FINISHED);
                n_done = 0;
                for (size_t i = 0; i < N; i++)
                        n_done += e[i].n_done;
                assert_true(w.s3->n_running <= LIMIT_S3_CALLS);
        }
        assert_int_equal(e[0].n_done + e[N - 1].n_done, 0);
        assert_int_equal(w.s3->n_running, 0);
        assert_null(w.s3->calls);
        world_done(&w);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_request_and_its_answer),
                cmocka_unit_test(test_a_body_is_hashed),
                cmocka_unit_test(test_an_empty_body),
                cmocka_unit_test(test_files),
                cmocka_unit_test(test_answers),
                cmocka_unit_test(test_too_large_answers),
                cmocka_unit_test(test_a_storm_passes),
                cmocka_unit_test(test_a_storm_does_not_pass),
                cmocka_unit_test(test_nobody_listens),
                cmocka_unit_test(test_once),
                cmocka_unit_test(test_cut_answers_are_asked_for_again),
                cmocka_unit_test(test_a_server_that_is_silent),
                cmocka_unit_test(test_a_clock_that_is_behind),
                cmocka_unit_test(test_a_clock_that_is_ahead),
                cmocka_unit_test(test_a_small_difference_is_nothing),
                cmocka_unit_test(test_credentials_that_ended),
                cmocka_unit_test(test_no_credentials),
                cmocka_unit_test(test_another_region),
                cmocka_unit_test(test_redirects_that_are_not_followed),
                cmocka_unit_test(test_regions_are_followed_once),
                cmocka_unit_test(test_words_for_what_is_denied),
                cmocka_unit_test(test_forms_of_etags),
                cmocka_unit_test(test_cancel),
                cmocka_unit_test(test_free_with_calls_under_way),
                cmocka_unit_test(test_free_from_done),
                cmocka_unit_test(test_turns),
        };

        return cmocka_run_group_tests_name("s3call", tests, loop_block_signals, NULL);
}
