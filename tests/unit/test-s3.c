#include "s3-world.h"

#include "net/transfer.h"

static int world_transfer_fetch(S3 *s3, const TransferSpec *spec, Transfer **ret, Error **reterr);
static int world_transfer_upload(S3 *s3, const TransferSpec *spec, Transfer **ret, Error **reterr);
static Transfer *world_transfer_cancel(Transfer *transfer);

#define transfer_fetch  world_transfer_fetch
#define transfer_upload world_transfer_upload
#define transfer_cancel world_transfer_cancel
#include "net/s3.c"
#undef transfer_fetch
#undef transfer_upload
#undef transfer_cancel

#define ERROR(code) "<Error><Code>" code "</Code></Error>"

/* ---- transfers that only say what they were asked ---- */

struct Transfer {
        TransferSpec spec;
        bool is_upload;
        sd_event_source *source;
};

/* The transfers of a test are counted here: there is one world at a time. */
static Transfer last_transfer;
static unsigned n_cancelled;
static int transfer_r;

static Transfer *world_transfer_cancel(Transfer *transfer) {
        if (!transfer)
                return NULL;
        n_cancelled++;
        (void) sd_event_source_disable_unref(transfer->source);
        free(transfer);
        return NULL;
}

static int transfer_on_defer(_unused_ sd_event_source *s, void *userdata) {
        Transfer *t = userdata;
        TransferSpec spec = t->spec;
        _cleanup_(error_freep) Error *err = NULL;

        if (spec.progress)
                spec.progress(spec.userdata, 10, 10);
        (void) sd_event_source_disable_unref(t->source);
        free(t);
        if (transfer_r < 0)
                (void) error_set(&err, transfer_r, "the transfer's words");
        spec.done(spec.userdata, transfer_r, transfer_r == 0 ? "etag-1" : NULL, 10, err);
        return 0;
}

static int transfer_start(S3 *s3, const TransferSpec *spec, bool is_upload, Transfer **ret) {
        Transfer *t = calloc(1, sizeof(Transfer));

        assert_non_null(t);
        t->spec = *spec;
        t->is_upload = is_upload;
        assert_true(sd_event_add_defer(s3_loop(s3), &t->source, transfer_on_defer, t) >= 0);
        last_transfer = *t;
        *ret = t;
        return 0;
}

static int world_transfer_fetch(S3 *s3, const TransferSpec *spec, Transfer **ret,
                                _unused_ Error **reterr) {
        return transfer_start(s3, spec, false, ret);
}

static int world_transfer_upload(S3 *s3, const TransferSpec *spec, Transfer **ret,
                                 _unused_ Error **reterr) {
        return transfer_start(s3, spec, true, ret);
}

/* ---- calls, waited for ---- */

typedef struct Ended {
        int n_done;
        int r;
        bool has_etag;
        char etag[160], body[256], words[1024];
        usec_t age_usec, date_usec;
        uint64_t size;
        char keys[16][32];
        size_t n_keys;
        bool more;
        uint64_t n_progress;
} Ended;

static void on_stored(void *userdata, int r, const StoreReply *reply, Error *err) {
        Ended *e = userdata;

        e->n_done++;
        e->r = r;
        e->has_etag = reply->etag;
        (void) snprintf(e->etag, sizeof(e->etag), "%s", reply->etag ?: "");
        (void) snprintf(e->body, sizeof(e->body), "%s", reply->body ?: "");
        (void) snprintf(e->words, sizeof(e->words), "%s", err ? error_text(err) : "");
        e->age_usec = reply->age_usec;
        e->date_usec = reply->date_usec;
        e->size = reply->size;
        e->more = reply->more;
        for (size_t i = 0; i < reply->n_entries; i++, e->n_keys++)
                (void) snprintf(e->keys[i % 16], sizeof(e->keys[0]), "%s", reply->entries[i].key);
        assert_true(r >= 0 || err);
}

static void on_stored_progress(void *userdata, uint64_t n_bytes, uint64_t size) {
        ((Ended *) userdata)->n_progress = n_bytes;
        assert_int_equal(size, 10);
}

typedef struct StoreWorld {
        S3World w;
        Store *store;
        StoreCall *call;
} StoreWorld;

static void store_world_init(StoreWorld *sw, const char *url) {
        *sw = (StoreWorld){ 0 };
        world_init(&sw->w, url);
        assert_int_equal(store_s3_new(sw->w.s3, &sw->store, NULL), 0);
}

static void store_world_done(StoreWorld *sw) {
        sw->store = store_free(sw->store);
        sw->w.s3 = NULL; /* the store's */
        world_done(&sw->w);
}

static int wait_for(StoreWorld *sw, int r, Ended *e) {
        assert_int_equal(r, 0);
        assert_int_equal(e->n_done, 0);
        loop_until(sw->w.loop, &e->n_done, 1);
        return e->r;
}

static int get(StoreWorld *sw, const char *key, const char *etag, Ended *e) {
        *e = (Ended){ 0 };
        return wait_for(sw, store_get(sw->store, key, etag, on_stored, e, &sw->call), e);
}

static int put(StoreWorld *sw, StoreCondition condition, const char *etag, Ended *e) {
        const StoreBody body = { .body = "{}", .size = 2, .fd = -EBADF };

        *e = (Ended){ 0 };
        return wait_for(
                sw,
                store_put(sw->store, "a/k.json", &body, condition, etag, on_stored, e, &sw->call),
                e);
}

static int list(StoreWorld *sw, const char *prefix, const char *start_after, Ended *e) {
        *e = (Ended){ 0 };
        return wait_for(sw, store_list(sw->store, prefix, start_after, on_stored, e, &sw->call), e);
}

static int delete (StoreWorld *sw, const char *etag, Ended *e) {
        *e = (Ended){ 0 };
        return wait_for(sw, store_delete(sw->store, "a/k.json", etag, on_stored, e, &sw->call), e);
}

static void assert_words(const Ended *e, const char *words) {
        if (!strstr(e->words, words))
                fail_msg("\"%s\" is not in \"%s\"", words, e->words);
}

/* ---- get ---- */

static void test_get(_unused_ void **state) {
        char header[1024];
        StoreWorld sw;
        Ended e;

        store_world_init(&sw, "s3://my-bucket/pre/fix");
        assert_string_equal(store_url(sw.store), "s3://my-bucket/pre/fix");
        assert_false(store_is_local(sw.store));
        WORLD_SCRIPT(&sw.w,
                     { .path = "/my-bucket/pre/fix/a",
                       .times = 1,
                       .headers = WORLD_DATE "ETag: \"e1\"\r\n"
                                             "Last-Modified: Wed, 31 Dec 2025 23:59:50 GMT\r\n",
                       .body = "hello" },
                     { .path = "/my-bucket/pre/fix/a",
                       .status = 304,
                       .times = 1,
                       .headers = WORLD_DATE "ETag: \"e1\"\r\n"
                                             "Last-Modified: Thu, 01 Jan 2026 00:00:01 GMT\r\n" },
                     { .path = "/my-bucket/pre/fix/a", .status = 304, .headers = WORLD_DATE });
        assert_int_equal(get(&sw, "a", NULL, &e), 0);
        assert_string_equal(e.body, "hello");
        assert_string_equal(e.etag, "e1");
        assert_true(e.age_usec == SEC(10));
        assert_true(e.date_usec == WORLD_NOW_USEC);
        assert_string_equal(world_header(&sw.w, 0, "If-None-Match", header), "");

        assert_int_equal(get(&sw, "a", "e1", &e), STORE_UNCHANGED);
        assert_string_equal(world_header(&sw.w, 1, "If-None-Match", header), "\"e1\"");
        assert_string_equal(e.etag, "e1");
        assert_true(e.age_usec == 0);
        /* Ceph says nothing but 304. */
        assert_int_equal(get(&sw, "a", "e1", &e), STORE_UNCHANGED);
        assert_string_equal(e.etag, "e1");
        assert_true(e.age_usec == USEC_INFINITY);
        assert_int_equal(get(&sw, "b", "e1", &e), STORE_ABSENT);
        store_world_done(&sw);
}

static void test_get_of_what_is_no_document(_unused_ void **state) {
        _cleanup_free_ char *large = calloc(1, LIMIT_DOCUMENT_BYTES + 2);
        ScriptAnswer answer = { .headers = "ETag: \"e\"\r\n", .body = large };
        StoreWorld sw;
        Ended e;

        memset(large, 'x', LIMIT_DOCUMENT_BYTES + 1);
        store_world_init(&sw, "s3://my-bucket");
        script_server_set(sw.w.server, &answer, 1);
        assert_int_equal(get(&sw, "k", NULL, &e), -EFBIG);
        assert_words(&e, "s3://my-bucket/k: it is larger than any document");

        WORLD_SCRIPT(&sw.w, { .times = 1, .body = "x" }, { .times = 1, .status = 412 },
                     { .times = 1, .status = 404, .body = ERROR("NoSuchBucket") },
                     { .status = 403, .body = ERROR("AccessDenied") });
        assert_int_equal(get(&sw, "k", NULL, &e), -EBADMSG);
        assert_words(&e, "without an ETag");
        assert_int_equal(get(&sw, "k", NULL, &e), -EBADMSG);
        assert_int_equal(get(&sw, "k", NULL, &e), -ENOENT);
        assert_words(&e, "there is no bucket my-bucket");
        assert_int_equal(get(&sw, "k", NULL, &e), -EACCES);
        assert_words(&e, "s3:ListBucket");
        store_world_done(&sw);
}

/* ---- put ---- */

static void test_put(_unused_ void **state) {
        char header[1024];
        StoreWorld sw;
        Ended e;

        store_world_init(&sw, "s3://my-bucket");
        WORLD_SCRIPT(&sw.w,
                     { .method = "PUT",
                       .path = "/my-bucket/a/k.json",
                       .times = 1,
                       .needs = "\r\n\r\n{}",
                       .headers = WORLD_DATE "ETag: \"e1\"\r\n" },
                     { .times = 1, .status = 412 }, { .times = 1, .status = 409 },
                     { .times = 1, .status = 409 }, { .times = 1, .status = 404 },
                     { .times = 1, .status = 200 });
        assert_int_equal(put(&sw, STORE_IF_ABSENT, NULL, &e), 0);
        assert_string_equal(e.etag, "e1");
        assert_true(e.date_usec == WORLD_NOW_USEC);
        assert_string_equal(world_header(&sw.w, 0, "If-None-Match", header), "*");
        assert_string_equal(world_header(&sw.w, 0, "If-Match", header), "");
        assert_string_equal(world_header(&sw.w, 0, "Content-Type", header), "application/json");
        assert_int_equal(put(&sw, STORE_IF_ABSENT, NULL, &e), STORE_REFUSED);
        assert_int_equal(put(&sw, STORE_IF_ABSENT, NULL, &e), STORE_REFUSED);
        assert_false(e.has_etag);
        /* What had no condition cannot be refused for it. */
        assert_int_equal(put(&sw, STORE_ALWAYS, NULL, &e), -EAGAIN);
        assert_string_equal(world_header(&sw.w, 3, "If-None-Match", header), "");
        assert_int_equal(put(&sw, STORE_ALWAYS, NULL, &e), -EINVAL);
        assert_int_equal(put(&sw, STORE_ALWAYS, NULL, &e), -EBADMSG);
        assert_words(&e, "without an ETag");
        assert_int_equal(script_server_n_requests(sw.w.server), 6);
        store_world_done(&sw);
}

/* S3: quoted, and the first success shows it. */
static void test_quoted_etags(_unused_ void **state) {
        char header[1024];
        StoreWorld sw;
        Ended e;

        store_world_init(&sw, "s3://my-bucket");
        WORLD_SCRIPT(&sw.w, { .needs = "If-Match: \"e1\"", .headers = "ETag: \"e2\"\r\n" },
                     { .method = "HEAD", .headers = "ETag: \"e1\"\r\n" }, { .status = 412 });
        assert_int_equal(put(&sw, STORE_IF_MATCHES, "e1", &e), 0);
        assert_string_equal(e.etag, "e2");
        assert_int_equal(put(&sw, STORE_IF_MATCHES, "other", &e), STORE_REFUSED);
        /* Nothing had to be looked at. */
        assert_int_equal(script_server_n_of(sw.w.server, "HEAD"), 0);
        assert_string_equal(world_header(&sw.w, 1, "If-Match", header), "\"other\"");
        store_world_done(&sw);
}

/* Ceph: bare, found out once. */
static void test_bare_etags(_unused_ void **state) {
        StoreWorld sw;
        Ended e;

        store_world_init(&sw, "s3://my-bucket");
        WORLD_SCRIPT(
                &sw.w, { .method = "HEAD", .headers = "ETag: \"e1\"\r\n" },
                { .method = "PUT", .needs = "If-Match: \"", .status = 412 },
                { .method = "PUT", .needs = "If-Match: e1\r\n", .headers = "ETag: \"e2\"\r\n" },
                { .method = "PUT", .status = 412 });
        assert_int_equal(put(&sw, STORE_IF_MATCHES, "e0", &e), STORE_REFUSED);
        assert_int_equal(script_server_n_requests(sw.w.server), 2);
        assert_true(s3_etag_is_unknown(sw.w.s3));
        assert_int_equal(put(&sw, STORE_IF_MATCHES, "e1", &e), 0);
        assert_string_equal(e.etag, "e2");
        assert_int_equal(script_server_n_requests(sw.w.server), 5);
        assert_int_equal(put(&sw, STORE_IF_MATCHES, "e1", &e), 0);
        assert_int_equal(put(&sw, STORE_IF_MATCHES, "e0", &e), STORE_REFUSED);
        assert_int_equal(script_server_n_requests(sw.w.server), 7);
        assert_int_equal(script_server_n_of(sw.w.server, "HEAD"), 2);
        store_world_done(&sw);
}

/* The write was refused as quoted, and in between somebody else's came. */
static void test_bare_etags_in_a_race(_unused_ void **state) {
        StoreWorld sw;
        Ended e;

        store_world_init(&sw, "s3://my-bucket");
        WORLD_SCRIPT(&sw.w, { .method = "HEAD", .headers = "ETag: \"e1\"\r\n", .times = 1 },
                     { .method = "HEAD", .status = 404, .times = 1 },
                     { .method = "HEAD", .status = 403 }, { .method = "PUT", .status = 412 });
        assert_int_equal(put(&sw, STORE_IF_MATCHES, "e1", &e), STORE_REFUSED);
        assert_true(s3_etag_is_unknown(sw.w.s3));
        assert_int_equal(script_server_n_requests(sw.w.server), 3);
        assert_int_equal(put(&sw, STORE_IF_MATCHES, "e1", &e), STORE_REFUSED);
        assert_int_equal(put(&sw, STORE_IF_MATCHES, "e1", &e), -EACCES);
        store_world_done(&sw);
}

static void test_put_of_what_is_gone(_unused_ void **state) {
        StoreWorld sw;
        Ended e;

        store_world_init(&sw, "s3://my-bucket");
        WORLD_SCRIPT(&sw.w, { .status = 404, .body = ERROR("NoSuchKey") });
        assert_int_equal(put(&sw, STORE_IF_MATCHES, "e1", &e), STORE_REFUSED);
        assert_int_equal(script_server_n_requests(sw.w.server), 1);
        store_world_done(&sw);
}

/* ---- unknown outcomes ---- */

static int put_document(StoreWorld *sw, Ended *e) {
        *e = (Ended){ 0 };
        return wait_for(sw,
                        store_put_document(sw->store, "d", "{\"nonce\":\"n1\"}", 14, "n1",
                                           STORE_IF_ABSENT, NULL, on_stored, e, &sw->call),
                        e);
}

static void test_lost_replies_are_read_back(_unused_ void **state) {
        static const ScriptAnswer losses[] = {
                { .method = "PUT", .how = SCRIPT_CLOSE },
                { .method = "PUT", .how = SCRIPT_RESET },
                { .method = "PUT", .status = 500, .body = ERROR("UnknownError") },
                { .method = "PUT", .status = 412 },
                { .method = "PUT", .how = SCRIPT_CUT, .body = "12", .cut_bytes = 1 },
        };
        StoreWorld sw;
        Ended e;

        store_world_init(&sw, "s3://my-bucket");
        for (size_t i = 0; i < ELEMENTS(losses); i++) {
                ScriptAnswer ours[] = { losses[i],
                                        { .method = "GET",
                                          .headers = "ETag: \"e1\"\r\n",
                                          .body = "{\"nonce\":\"n1\"}" } };
                ScriptAnswer others[] = { losses[i],
                                          { .method = "GET",
                                            .headers = "ETag: \"e9\"\r\n",
                                            .body = "{\"nonce\":\"n9\"}" } };

                script_server_set(sw.w.server, ours, ELEMENTS(ours));
                assert_int_equal(put_document(&sw, &e), 0);
                assert_string_equal(e.etag, "e1");
                script_server_set(sw.w.server, others, ELEMENTS(others));
                assert_int_equal(put_document(&sw, &e), STORE_REFUSED);
                assert_string_equal(e.etag, "e9");
                /* Each was written once and read once. */
                assert_int_equal(script_server_n_requests(sw.w.server), 4 * (i + 1));
        }
        store_world_done(&sw);
}

/* ---- delete ---- */

static void test_delete(_unused_ void **state) {
        char header[1024];
        StoreWorld sw;
        Ended e;

        store_world_init(&sw, "s3://my-bucket");
        WORLD_SCRIPT(
                &sw.w,
                { .method = "DELETE", .path = "/my-bucket/a/k.json", .times = 2, .status = 204 },
                { .times = 1, .status = 412 }, { .status = 404, .body = ERROR("NoSuchKey") });
        assert_int_equal(delete (&sw, NULL, &e), 0);
        assert_string_equal(world_header(&sw.w, 0, "If-Match", header), "");
        assert_int_equal(delete (&sw, "e1", &e), 0);
        assert_string_equal(world_header(&sw.w, 1, "If-Match", header), "\"e1\"");
        assert_int_equal(delete (&sw, "e1", &e), STORE_REFUSED);
        assert_int_equal(delete (&sw, "e1", &e), STORE_ABSENT);
        store_world_done(&sw);
}

/* ---- list ---- */

#define LIST(truncated, contents)                                                                  \
        "<ListBucketResult><IsTruncated>" truncated "</IsTruncated>"                               \
        "<EncodingType>url</EncodingType>" contents "</ListBucketResult>"
#define KEY(key) "<Contents><Key>" key "</Key><ETag>\"e\"</ETag><Size>3</Size></Contents>"

static void test_list(_unused_ void **state) {
        StoreWorld sw;
        Ended e;

        store_world_init(&sw, "s3://my-bucket/p q");
        WORLD_SCRIPT(
                &sw.w,
                { .path = "/my-bucket/"
                          "?encoding-type=url&list-type=2&max-keys=1000&prefix=p%20q%2Fa%2F",
                  .headers = WORLD_DATE,
                  .body = LIST("true",
                               KEY("p+q%2Fa%2F") KEY("p+q%2Fa%2F1") KEY("p+q%2Fa%2F2%2B")) },
                { .path = "/my-bucket/?encoding-type=url&list-type=2&max-keys=1000&prefix=p%20q%2F"
                          "&start-after=p%20q%2Fa%2F2%2B",
                  .body = LIST("false", "") });
        assert_int_equal(list(&sw, "a/", NULL, &e), 0);
        /* The "folder" is nobody's document. */
        assert_int_equal(e.n_keys, 2);
        assert_string_equal(e.keys[0], "a/1");
        assert_string_equal(e.keys[1], "a/2+");
        assert_true(e.more);
        assert_true(e.date_usec == WORLD_NOW_USEC);
        assert_int_equal(list(&sw, "", "a/2+", &e), 0);
        assert_int_equal(e.n_keys, 0);
        assert_false(e.more);
        assert_int_equal(script_server_n_unknown(sw.w.server), 0);
        store_world_done(&sw);
}

static void test_pages_of_others(_unused_ void **state) {
        StoreWorld sw;
        Ended e;

        store_world_init(&sw, "s3://my-bucket");
        WORLD_SCRIPT(&sw.w,
                     { .lacks = "start-after", .body = LIST("true", KEY("%0Aa") KEY("%2F")) },
                     { .needs = "start-after=%2F HTTP", .body = LIST("false", KEY("b")) });
        assert_int_equal(list(&sw, "", NULL, &e), 0);
        assert_int_equal(e.n_keys, 1);
        assert_string_equal(e.keys[0], "b");
        assert_int_equal(script_server_n_requests(sw.w.server), 2);

        /* One that never ends. */
        WORLD_SCRIPT(&sw.w, { .body = LIST("true", KEY("%2F")) });
        assert_int_equal(list(&sw, "", NULL, &e), -EBADMSG);
        assert_words(&e, "goes on and on");
        WORLD_SCRIPT(&sw.w, { .body = LIST("true", "") });
        assert_int_equal(list(&sw, "", NULL, &e), -EBADMSG);
        store_world_done(&sw);
}

static void test_lists_that_are_none(_unused_ void **state) {
        StoreWorld sw;
        Ended e;

        store_world_init(&sw, "s3://my-bucket/pre");
        WORLD_SCRIPT(&sw.w, { .times = 1, .body = "<html></html>" },
                     { .times = 1, .body = LIST("false", KEY("pre%2Fb") KEY("pre%2Fa")) },
                     { .times = 1, .body = LIST("false", KEY("other%2Fb") KEY("pre-%2Fa")) },
                     { .times = 1, .status = 403, .body = ERROR("AccessDenied") },
                     { .status = 404 });
        assert_int_equal(list(&sw, "", NULL, &e), -EBADMSG);
        assert_words(&e, "no list of a bucket");
        assert_int_equal(list(&sw, "", NULL, &e), -EBADMSG);
        assert_words(&e, "order of its keys");
        assert_int_equal(list(&sw, "", NULL, &e), 0);
        assert_int_equal(e.n_keys, 0);
        assert_int_equal(list(&sw, "", NULL, &e), -EACCES);
        assert_words(&e, "s3:ListBucket on my-bucket");
        assert_int_equal(list(&sw, "", NULL, &e), -ENOENT);
        store_world_done(&sw);
}

/* ---- transfers ---- */

static void test_transfers(_unused_ void **state) {
        const StoreFetch fetch = {
                .if_match = "e", .fd = 0, .map_fd = 1, .progress = on_stored_progress
        };
        StoreBody body = { .fd = 0, .progress = on_stored_progress };
        StoreWorld sw;
        Ended e = { 0 };

        store_world_init(&sw, "s3://my-bucket");
        transfer_r = 0;
        wait_for(&sw, store_fetch(sw.store, "big", &fetch, on_stored, &e, &sw.call), &e);
        assert_int_equal(e.r, 0);
        assert_string_equal(e.etag, "etag-1");
        assert_int_equal(e.size, 10);
        assert_int_equal(e.n_progress, 10);
        assert_false(last_transfer.is_upload);
        assert_true(last_transfer.spec.fd >= 0 && last_transfer.spec.map_fd >= 0);

        e = (Ended){ 0 };
        transfer_r = -ECONNRESET;
        body.progress = NULL;
        wait_for(&sw,
                 store_put(sw.store, "big", &body, STORE_IF_ABSENT, NULL, on_stored, &e, &sw.call),
                 &e);
        assert_int_equal(e.r, -ECONNRESET);
        assert_words(&e, "the transfer's words");
        assert_true(last_transfer.is_upload && last_transfer.spec.if_absent);
        assert_null(last_transfer.spec.progress);

        e = (Ended){ 0 };
        transfer_r = STORE_REFUSED;
        wait_for(&sw,
                 store_put(sw.store, "big", &body, STORE_ALWAYS, NULL, on_stored, &e, &sw.call),
                 &e);
        assert_int_equal(e.r, STORE_REFUSED);
        assert_false(last_transfer.spec.if_absent);

        e = (Ended){ 0 };
        transfer_r = 0;
        wait_for(&sw,
                 store_put(sw.store, "big", &body, STORE_IF_MATCHES, "e", on_stored, &e, &sw.call),
                 &e);
        assert_int_equal(e.r, 0);
        assert_false(last_transfer.spec.if_absent);

        e = (Ended){ 0 };
        n_cancelled = 0;
        assert_int_equal(store_fetch(sw.store, "big", &fetch, on_stored, &e, &sw.call), 0);
        assert_null(store_cancel(sw.call));
        assert_int_equal(n_cancelled, 1);
        assert_int_equal(store_fetch(sw.store, "big", &fetch, on_stored, &e, &sw.call), 0);
        store_world_done(&sw);
        assert_int_equal(n_cancelled, 2);
        assert_int_equal(e.n_done, 0);
}

static void test_cancel(_unused_ void **state) {
        StoreWorld sw;
        Ended e = { 0 };

        store_world_init(&sw, "s3://my-bucket");
        WORLD_SCRIPT(&sw.w, { .how = SCRIPT_HANG });
        assert_int_equal(store_get(sw.store, "k", NULL, on_stored, &e, &sw.call), 0);
        while (script_server_n_requests(sw.w.server) == 0)
                (void) sd_event_run(sw.w.loop, MSEC(1));
        assert_null(store_cancel(sw.call));
        assert_int_equal(store_list(sw.store, "", NULL, on_stored, &e, &sw.call), 0);
        store_world_done(&sw);
        assert_int_equal(e.n_done, 0);
}

/* ---- what is refused before it is sent ---- */

static void on_nothing(_unused_ void *userdata, _unused_ int r, _unused_ const S3Answer *answer,
                       _unused_ Error *err) {
        fail_msg("a call ended that was never begun");
}

static void test_keys_that_are_too_long(_unused_ void **state) {
        char key[1025];
        const S3Request request = { .method = "GET", .key = key, .on_done = on_nothing };
        _cleanup_(error_freep) Error *err = NULL;
        S3World w;

        memset(key, 'k', sizeof(key));
        key[1021] = '\0';
        world_init(&w, "s3://my-bucket/pre");
        assert_int_equal(s3_send(w.s3, &request, NULL, &err), -ENAMETOOLONG);
        assert_non_null(strstr(error_text(err), "s3://my-bucket/pre"));
        assert_null(w.s3->calls);
        world_done(&w);
}

static void test_specs_that_are_refused(_unused_ void **state) {
        _cleanup_(error_freep) Error *err = NULL, *region_err = NULL;
        S3Spec spec = { .url = "s3://B" };
        S3 *s3 = NULL;

        assert_int_equal(s3_new(&spec, &s3, &err), -EINVAL);
        assert_non_null(strstr(error_text(err), "store s3://B"));
        spec.url = "s3://bucket";
        assert_int_equal(s3_new(&spec, &s3, &region_err), -EINVAL);
        assert_non_null(strstr(error_text(region_err), "region"));
        assert_null(s3_free(NULL));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_get),
                cmocka_unit_test(test_get_of_what_is_no_document),
                cmocka_unit_test(test_put),
                cmocka_unit_test(test_quoted_etags),
                cmocka_unit_test(test_bare_etags),
                cmocka_unit_test(test_bare_etags_in_a_race),
                cmocka_unit_test(test_put_of_what_is_gone),
                cmocka_unit_test(test_lost_replies_are_read_back),
                cmocka_unit_test(test_delete),
                cmocka_unit_test(test_list),
                cmocka_unit_test(test_pages_of_others),
                cmocka_unit_test(test_lists_that_are_none),
                cmocka_unit_test(test_transfers),
                cmocka_unit_test(test_cancel),
                cmocka_unit_test(test_keys_that_are_too_long),
                cmocka_unit_test(test_specs_that_are_refused),
        };

        return cmocka_run_group_tests_name("s3", tests, loop_block_signals, NULL);
}
