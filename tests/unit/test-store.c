#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/str.h"
#include "store/backend.h"

/* What the planted store does with the next put. */
typedef enum PlantedPut {
        PLANTED_HONEST,
        PLANTED_LOST_AFTER,  /* written, and the reply lost */
        PLANTED_OWN_REFUSED, /* written, the reply lost, and the repetition below us refused */
        PLANTED_LOST_BEFORE, /* not written, and the reply lost */
        PLANTED_LOST_ONCE,   /* the same the first time */
        PLANTED_OTHER_FIRST, /* somebody else's was written first, and ours refused */
        PLANTED_OTHER_LOST,  /* somebody else's was written first, and the reply lost */
        PLANTED_DENIED,      /* not allowed */
        PLANTED_BLIND,       /* conditions are ignored */
        PLANTED_STUBBORN,    /* a right ETag is refused */
} PlantedPut;

/* One document in memory, whatever its key. */
typedef struct Planted {
        sd_event *loop;
        PlantedPut put;
        int get_fails; /* negative errno that reads end with */
        char text[256];
        unsigned version; /* 0: there is none */
        unsigned n_puts, n_gets, n_deletes;
        bool freed;
        bool local;
} Planted;

/* A call until the loop ends it. */
typedef struct PlantedCall {
        Planted *planted;
        StoreCall *call;
        const StoreRequest *request;
        int (*work)(struct PlantedCall *c, StoreReply *reply, Error **reterr);
        sd_event_source *source;
        char etag[32];
} PlantedCall;

static void planted_call_free(PlantedCall *c) {
        (void) sd_event_source_disable_unref(c->source);
        free(c);
}

static int planted_on_defer(_unused_ sd_event_source *source, void *userdata) {
        PlantedCall *c = userdata;
        StoreReply reply = { .age_usec = USEC_INFINITY };
        Error *err = NULL;
        int r = c->work(c, &reply, &err);

        store_call_end(c->call, r, &reply, err);
        planted_call_free(c);
        return 0;
}

static int planted_start(void *self, StoreCall *call, const StoreRequest *request,
                         int (*work)(PlantedCall *c, StoreReply *reply, Error **reterr)) {
        PlantedCall *c = calloc(1, sizeof(PlantedCall));

        c->planted = self;
        c->call = call;
        c->request = request;
        c->work = work;
        store_call_set_data(call, c);
        return sd_event_add_defer(c->planted->loop, &c->source, planted_on_defer, c) < 0 ? -ENOMEM
                                                                                         : 0;
}

static void planted_write(Planted *p, const void *text, size_t size) {
        (void) snprintf(p->text, sizeof(p->text), "%.*s", (int) size, (const char *) text);
        p->version++;
}

static bool planted_holds(const PlantedCall *c) {
        const Planted *p = c->planted;
        char etag[32];

        (void) snprintf(etag, sizeof(etag), "v%u", p->version);
        if (c->request->condition == STORE_IF_ABSENT)
                return p->version == 0;
        if (c->request->condition == STORE_IF_MATCHES)
                return p->version > 0 && p->put != PLANTED_STUBBORN &&
                       str_equal(etag, c->request->etag);
        return true;
}

static int planted_put_work(PlantedCall *c, StoreReply *reply, Error **reterr) {
        Planted *p = c->planted;
        PlantedPut how = p->put;

        if (how == PLANTED_DENIED)
                return error_set(reterr, -EACCES, "403 AccessDenied");
        if (how == PLANTED_LOST_BEFORE || (how == PLANTED_LOST_ONCE && p->n_puts == 1))
                return error_set(reterr, -ECONNRESET, "no reply");
        if (how == PLANTED_OTHER_FIRST || how == PLANTED_OTHER_LOST)
                planted_write(p, "other's", 7);
        if (how != PLANTED_BLIND && !planted_holds(c))
                return how == PLANTED_OTHER_LOST ? error_set(reterr, -ETIMEDOUT, "no reply")
                                                 : STORE_REFUSED;
        planted_write(p, c->request->body, c->request->body_size);
        if (how == PLANTED_LOST_AFTER)
                return error_set(reterr, -ETIMEDOUT, "no reply");
        if (how == PLANTED_OWN_REFUSED)
                return STORE_REFUSED;
        (void) snprintf(c->etag, sizeof(c->etag), "v%u", p->version);
        reply->etag = c->etag;
        return 0;
}

static int planted_get_work(PlantedCall *c, StoreReply *reply, Error **reterr) {
        Planted *p = c->planted;

        if (p->get_fails < 0)
                return error_set(reterr, p->get_fails, "the read failed too");
        if (p->version == 0)
                return STORE_ABSENT;
        (void) snprintf(c->etag, sizeof(c->etag), "v%u", p->version);
        reply->etag = c->etag;
        reply->body = p->text;
        reply->body_size = strlen(p->text);
        return 0;
}

static int planted_delete_work(PlantedCall *c, _unused_ StoreReply *reply,
                               _unused_ Error **reterr) {
        c->planted->version = 0;
        return 0;
}

static int planted_get(void *self, StoreCall *call, const StoreRequest *request) {
        ((Planted *) self)->n_gets++;
        return planted_start(self, call, request, planted_get_work);
}

static int planted_put(void *self, StoreCall *call, const StoreRequest *request) {
        ((Planted *) self)->n_puts++;
        return planted_start(self, call, request, planted_put_work);
}

static int planted_delete(void *self, StoreCall *call, const StoreRequest *request) {
        ((Planted *) self)->n_deletes++;
        return planted_start(self, call, request, planted_delete_work);
}

static int planted_refuse_to_start(_unused_ void *self, _unused_ StoreCall *call,
                                   _unused_ const StoreRequest *request) {
        return -ENOBUFS;
}

static void planted_cancel(_unused_ void *self, StoreCall *call) {
        planted_call_free(store_call_data(call));
}

static void *planted_free(void *self) {
        ((Planted *) self)->freed = true;
        return NULL;
}

static const StoreBackend planted_backend = {
        .get = planted_get,
        .put = planted_put,
        .list = planted_refuse_to_start,
        .delete = planted_delete,
        .fetch = planted_refuse_to_start,
        .cancel = planted_cancel,
        .free = planted_free,
        .is_local = false,
};

static const StoreBackend local_backend = {
        .get = planted_get,
        .put = planted_put,
        .list = planted_refuse_to_start,
        .delete = planted_delete,
        .fetch = planted_refuse_to_start,
        .cancel = planted_cancel,
        .free = planted_free,
        .is_local = true,
};

/* ---- a test: store, planted things, and what came back ---- */

typedef struct Bench {
        Planted planted;
        Store *store;
        unsigned n_done;
        int r;
        char etag[64];
        char body[256];
        char words[512];
} Bench;

static void bench_on_done(void *userdata, int r, const StoreReply *reply, Error *err) {
        Bench *b = userdata;

        b->n_done++;
        b->r = r;
        assert_non_null(reply);
        (void) snprintf(b->etag, sizeof(b->etag), "%s", reply->etag ? reply->etag : "");
        (void) snprintf(b->body, sizeof(b->body), "%.*s", (int) reply->body_size,
                        reply->body ? reply->body : "");
        (void) snprintf(b->words, sizeof(b->words), "%s", err ? error_text(err) : "");
        assert_true((r < 0) == (err != NULL));
}

static void bench_init(Bench *b, PlantedPut how, bool local) {
        *b = (Bench){ .planted = { .put = how, .local = local } };
        assert_true(sd_event_new(&b->planted.loop) >= 0);
        assert_int_equal(store_new(local ? &local_backend : &planted_backend, &b->planted,
                                   "planted://x", &b->store),
                         0);
}

static void bench_done(Bench *b) {
        b->store = store_free(b->store);
        assert_true(b->planted.freed);
        (void) sd_event_unref(b->planted.loop);
}

static void bench_wait(Bench *b) {
        while (b->n_done == 0)
                assert_true(sd_event_run(b->planted.loop, SEC(10)) > 0);
}

/* Writes {"nonce":"mine"} over nothing, or over a first version. */
static void put_document(Bench *b, bool over) {
        static const char text[] = "{\"nonce\":\"mine\"}";

        if (over)
                planted_write(&b->planted, "first", 5);
        assert_int_equal(store_put_document(b->store, "d", text, strlen(text), "mine",
                                            over ? STORE_IF_MATCHES : STORE_IF_ABSENT,
                                            over ? "v1" : NULL, bench_on_done, b, NULL),
                         0);
        bench_wait(b);
}

/* Each way in which a write may end, over nothing and over a first version, and what the caller
 * sees. */
typedef struct UnknownRow {
        PlantedPut how;
        bool over;
        int get_fails;
        int expected;
        const char *etag, *body, *words;
        unsigned n_gets, n_puts;
} UnknownRow;

/* clang-format off */
static const UnknownRow unknown_rows[] = {
        { PLANTED_HONEST,      false, 0,          0,             "v1", "",        "",       0, 1 },
        { PLANTED_HONEST,      true,  0,          0,             "v2", "",        "",       0, 1 },
        { PLANTED_LOST_AFTER,  false, 0,          0,             "v1", "",        "",       1, 1 },
        { PLANTED_LOST_AFTER,  true,  0,          0,             "v2", "",        "",       1, 1 },
        { PLANTED_OWN_REFUSED, false, 0,          0,             "v1", "",        "",       1, 1 },
        { PLANTED_OWN_REFUSED, true,  0,          0,             "v2", "",        "",       1, 1 },
        /* What has not arrived is written again, three times in all. */
        { PLANTED_LOST_ONCE,   false, 0,          0,             "v1", "",        "",       1, 2 },
        { PLANTED_LOST_ONCE,   true,  0,          0,             "v2", "",        "",       1, 2 },
        { PLANTED_LOST_BEFORE, false, 0,          -ECONNRESET,   "",   "",        "no reply", 3, 3 },
        { PLANTED_LOST_BEFORE, true,  0,          -ECONNRESET,   "",   "",        "no reply", 3, 3 },
        { PLANTED_OTHER_FIRST, false, 0,          STORE_REFUSED, "v1", "other's", "",       1, 1 },
        { PLANTED_OTHER_FIRST, true,  0,          STORE_REFUSED, "v2", "other's", "",       1, 1 },
        { PLANTED_OTHER_LOST,  true,  0,          STORE_REFUSED, "v2", "other's", "",       1, 1 },
        /* Nothing is known: the sentence is that of the write, or of the read where the write had none. */
        { PLANTED_LOST_AFTER,  true,  -EIO,       -ETIMEDOUT,    "",   "",        "no reply", 1, 1 },
        { PLANTED_OTHER_FIRST, true,  -EIO,       -EIO,          "",   "",        "the read failed too", 1, 1 },
        /* What cannot have been written is not read back. */
        { PLANTED_DENIED,      true,  0,          -EACCES,       "",   "",        "AccessDenied", 0, 1 },
};
/* clang-format on */

static void test_unknown_outcomes(void **state) {
        (void) state;
        for (size_t i = 0; i < ELEMENTS(unknown_rows); i++) {
                const UnknownRow *row = &unknown_rows[i];
                Bench b;

                bench_init(&b, row->how, false);
                b.planted.get_fails = row->get_fails;
                put_document(&b, row->over);
                print_message("# row %zu: %d\n", i, b.r);
                assert_int_equal(b.r, row->expected);
                assert_string_equal(b.etag, row->etag);
                assert_string_equal(b.body, row->body);
                assert_non_null(strstr(b.words, row->words));
                assert_int_equal(b.planted.n_gets, row->n_gets);
                assert_int_equal(b.planted.n_puts, row->n_puts);
                assert_int_equal(b.n_done, 1);
                bench_done(&b);
        }
}

/* A local store loses no replies: its time-out is that of the lock, before anything was written. */
static void test_local_time_out_is_not_unknown(void **state) {
        Bench b;

        (void) state;
        bench_init(&b, PLANTED_LOST_AFTER, true);
        put_document(&b, false);
        assert_int_equal(b.r, -ETIMEDOUT);
        assert_int_equal(b.planted.n_gets, 0);
        bench_done(&b);
}

static void test_cancel_at_each_step(void **state) {
        static const char text[] = "{\"nonce\":\"mine\"}";

        (void) state;
        for (unsigned steps = 0; steps < 2; steps++) {
                StoreCall *call = NULL;
                Bench b;

                bench_init(&b, PLANTED_OWN_REFUSED, false);
                assert_int_equal(store_put_document(b.store, "d", text, strlen(text), "mine",
                                                    STORE_IF_ABSENT, NULL, bench_on_done, &b,
                                                    &call),
                                 0);
                for (unsigned i = 0; i < steps; i++)
                        assert_true(sd_event_run(b.planted.loop, SEC(1)) > 0);
                assert_null(store_cancel(call));
                assert_int_equal(sd_event_run(b.planted.loop, 0), 0);
                assert_int_equal(b.n_done, 0);
                bench_done(&b);
        }
}

static void self_test(PlantedPut how, int expected, const char *words) {
        Bench b;

        bench_init(&b, how, false);
        assert_int_equal(store_self_test(b.store, bench_on_done, &b, NULL), 0);
        bench_wait(&b);
        assert_int_equal(b.r, expected);
        if (!strstr(b.words, words))
                fail_msg("\"%s\" does not say \"%s\"", b.words, words);
        assert_int_equal(b.planted.n_deletes, 1);
        bench_done(&b);
}

static void test_self_test(void **state) {
        (void) state;
        self_test(PLANTED_HONEST, 0, "");
        self_test(PLANTED_BLIND, -EOPNOTSUPP, "twice");
        self_test(PLANTED_STUBBORN, -EOPNOTSUPP, "right ETag");
        self_test(PLANTED_DENIED, -EACCES, "AccessDenied");
}

static void test_call_that_does_not_start(void **state) {
        const StoreFetch fetch = { .fd = 1, .map_fd = -EBADF };
        StoreCall *call = NULL;
        Bench b;

        (void) state;
        bench_init(&b, PLANTED_HONEST, false);
        assert_int_equal(store_list(b.store, "", NULL, bench_on_done, &b, &call), -ENOBUFS);
        assert_int_equal(store_fetch(b.store, "a", &fetch, bench_on_done, &b, &call), -ENOBUFS);
        assert_null(call);
        assert_int_equal(b.n_done, 0);
        bench_done(&b);
}

static void test_bad_arguments(void **state) {
        StoreBody body = { .body = "x", .size = 1, .fd = -1 }, none = { .fd = -1 };
        char etag[200];
        Bench b;

        (void) state;
        bench_init(&b, PLANTED_HONEST, false);
        memset(etag, 'e', sizeof(etag));
        etag[sizeof(etag) - 1] = '\0';
        assert_int_equal(
                store_put(b.store, "a", &body, STORE_IF_MATCHES, etag, bench_on_done, &b, NULL),
                -EINVAL);
        assert_int_equal(store_get(b.store, "a", etag, bench_on_done, &b, NULL), -EINVAL);
        assert_int_equal(store_delete(b.store, "a", etag, bench_on_done, &b, NULL), -EINVAL);
        assert_int_equal(
                store_put(b.store, "a", &none, STORE_ALWAYS, NULL, bench_on_done, &b, NULL),
                -EINVAL);
        assert_int_equal(store_put_document(b.store, "a", "{}", 2, "", STORE_ALWAYS, NULL,
                                            bench_on_done, &b, NULL),
                         -EINVAL);
        assert_int_equal(b.planted.n_puts + b.planted.n_gets + b.planted.n_deletes, 0);
        bench_done(&b);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_unknown_outcomes),
                cmocka_unit_test(test_local_time_out_is_not_unknown),
                cmocka_unit_test(test_cancel_at_each_step),
                cmocka_unit_test(test_self_test),
                cmocka_unit_test(test_call_that_does_not_start),
                cmocka_unit_test(test_bad_arguments),
        };

        return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
