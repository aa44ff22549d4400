#pragma once

/*
 * The cases that every implementation of the store passes, whatever stands behind it. A test
 * program includes this file once, fills a Suite that says how to reach an empty store, and calls
 * store_suite_run().
 *
 * Each case names in the column `servers` on which of them it is true; on the others it does not
 * run, and that is said. A case that is true nowhere does not exist.
 *
 *   file   files below a folder
 *   s3     AWS
 *   moto   its stand-in in Python: conditions, but compared without a lock
 *   rgw    Ceph: bare ETags in conditions
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/str.h"
#include "store/store.h"

typedef enum SuiteServer {
        SERVER_FILE = 1 << 0,
        SERVER_S3 = 1 << 1,
        SERVER_MOTO = 1 << 2,
        SERVER_RGW = 1 << 3,
} SuiteServer;

#define SERVERS_REMOTE (SERVER_S3 | SERVER_MOTO | SERVER_RGW)
#define SERVERS_ALL    (SERVER_FILE | SERVERS_REMOTE)

/* How the cases reach the store. */
typedef struct Suite {
        const char *name;
        SuiteServer server;
        int (*reset)(void *userdata); /* an empty store (or prefix), before each case */
        int (*connect)(void *userdata, sd_event *loop,
                       Store **ret); /* to it; also in forked processes */
        void *userdata;
} Suite;

/* One case while it runs. */
typedef struct World {
        const Suite *suite;
        sd_event *loop;
        Store *store;
} World;

/* What a call ended with, copied. */
typedef struct Outcome {
        unsigned n_done;
        int r;
        char etag[160];
        char *body;
        size_t body_size;
        usec_t age_usec;
        uint64_t size;
        char **keys;
        char **etags;
        uint64_t *sizes;
        size_t n_keys;
        bool more;
        char words[512];
} Outcome;

static void outcome_clear(Outcome *o) {
        free(o->body);
        for (size_t i = 0; i < o->n_keys; i++) {
                free(o->keys[i]);
                free(o->etags[i]);
        }
        free(o->keys);
        free(o->etags);
        free(o->sizes);
        *o = (Outcome){ 0 };
}

static void outcome_on_done(void *userdata, int r, const StoreReply *reply, Error *err) {
        Outcome *o = userdata;

        o->n_done++;
        o->r = r;
        if (reply->etag)
                (void) snprintf(o->etag, sizeof(o->etag), "%s", reply->etag);
        if (reply->body) {
                o->body = calloc(1, reply->body_size + 1);
                assert_non_null(o->body);
                memcpy(o->body, reply->body, reply->body_size);
                o->body_size = reply->body_size;
        }
        o->age_usec = reply->age_usec;
        o->size = reply->size;
        o->more = reply->more;
        o->n_keys = reply->n_entries;
        if (o->n_keys > 0) {
                o->keys = calloc(o->n_keys, sizeof(char *));
                o->etags = calloc(o->n_keys, sizeof(char *));
                o->sizes = calloc(o->n_keys, sizeof(uint64_t));
                for (size_t i = 0; i < o->n_keys; i++) {
                        o->keys[i] = strdup(reply->entries[i].key);
                        o->etags[i] = strdup(reply->entries[i].etag);
                        o->sizes[i] = reply->entries[i].size;
                }
        }
        if (err)
                (void) snprintf(o->words, sizeof(o->words), "%s", error_text(err));
}

static void world_wait(World *w, const Outcome *o) {
        assert_int_equal(o->n_done, 0); /* never from within the call */
        while (o->n_done == 0)
                assert_true(sd_event_run(w->loop, SEC(30)) > 0);
}

/* ---- calls, waited for ---- */

static int suite_get(World *w, const char *key, const char *if_none_match, Outcome *o) {
        outcome_clear(o);
        assert_int_equal(store_get(w->store, key, if_none_match, outcome_on_done, o, NULL), 0);
        world_wait(w, o);
        return o->r;
}

static int suite_put(World *w, const char *key, const char *text, StoreCondition condition,
                     const char *etag, Outcome *o) {
        StoreBody body = { .body = text, .size = strlen(text), .fd = -1 };

        outcome_clear(o);
        assert_int_equal(store_put(w->store, key, &body, condition, etag, outcome_on_done, o, NULL),
                         0);
        world_wait(w, o);
        return o->r;
}

static int suite_put_fd(World *w, const char *key, int fd, StoreCondition condition, Outcome *o) {
        StoreBody body = { .fd = fd };

        outcome_clear(o);
        assert_int_equal(store_put(w->store, key, &body, condition, NULL, outcome_on_done, o, NULL),
                         0);
        world_wait(w, o);
        return o->r;
}

static int suite_list(World *w, const char *prefix, const char *start_after, Outcome *o) {
        outcome_clear(o);
        assert_int_equal(store_list(w->store, prefix, start_after, outcome_on_done, o, NULL), 0);
        world_wait(w, o);
        return o->r;
}

static int suite_delete(World *w, const char *key, const char *etag, Outcome *o) {
        outcome_clear(o);
        assert_int_equal(store_delete(w->store, key, etag, outcome_on_done, o, NULL), 0);
        world_wait(w, o);
        return o->r;
}

static int suite_fetch(World *w, const char *key, const char *if_match, int fd, int map_fd,
                       Outcome *o) {
        const StoreFetch fetch = { .if_match = if_match, .fd = fd, .map_fd = map_fd };

        outcome_clear(o);
        assert_int_equal(store_fetch(w->store, key, &fetch, outcome_on_done, o, NULL), 0);
        world_wait(w, o);
        return o->r;
}

/* A memory file of n bytes that differ from place to place. */
static int suite_pattern(size_t n, unsigned seed) {
        int fd = memfd_create("pattern", MFD_CLOEXEC);
        char block[4096];

        assert_true(fd >= 0);
        for (size_t at = 0; at < n; at += sizeof(block)) {
                for (size_t i = 0; i < sizeof(block); i++)
                        block[i] = (char) ((at / 4096 * 31 + i * 7 + seed) & 0xff);
                assert_int_equal(pwrite(fd, block, MIN(sizeof(block), n - at), (off_t) at),
                                 MIN(sizeof(block), n - at));
        }
        return fd;
}

static void assert_same_content(int a, int b, size_t size) {
        char *x = calloc(1, size + 1), *y = calloc(1, size + 1);

        assert_int_equal(pread(a, x, size + 1, 0), size);
        assert_int_equal(pread(b, y, size + 1, 0), size);
        assert_memory_equal(x, y, size);
        free(x);
        free(y);
}

/* ---- get ---- */

static void case_get_absent(World *w) {
        Outcome o = { 0 };

        assert_int_equal(suite_get(w, "a/b.json", NULL, &o), STORE_ABSENT);
        assert_null(o.body);
        assert_int_equal(suite_get(w, "a/b.json", "anything", &o), STORE_ABSENT);
        outcome_clear(&o);
}

static void case_get_returns_what_was_put(World *w) {
        Outcome o = { 0 };
        char etag[160];

        assert_int_equal(suite_put(w, "a/b.json", "{\"x\":1}", STORE_ALWAYS, NULL, &o), 0);
        assert_true(o.etag[0] != '\0' && strlen(o.etag) <= 128);
        memcpy(etag, o.etag, sizeof(etag));
        assert_int_equal(suite_get(w, "a/b.json", NULL, &o), 0);
        assert_string_equal(o.body, "{\"x\":1}");
        assert_int_equal(o.body_size, 7);
        assert_string_equal(o.etag, etag);
        outcome_clear(&o);
}

static void case_get_unchanged(World *w) {
        Outcome o = { 0 };
        char etag[160];

        suite_put(w, "a", "one", STORE_ALWAYS, NULL, &o);
        memcpy(etag, o.etag, sizeof(etag));
        assert_int_equal(suite_get(w, "a", etag, &o), STORE_UNCHANGED);
        assert_null(o.body);
        suite_put(w, "a", "two", STORE_ALWAYS, NULL, &o);
        assert_string_not_equal(o.etag, etag);
        assert_int_equal(suite_get(w, "a", etag, &o), 0);
        assert_string_equal(o.body, "two");
        outcome_clear(&o);
}

static void case_get_of_a_folder(World *w) {
        Outcome o = { 0 };

        suite_put(w, "a/b/c", "x", STORE_ALWAYS, NULL, &o);
        assert_int_equal(suite_get(w, "a/b", NULL, &o), STORE_ABSENT);
        assert_int_equal(suite_get(w, "a/b/c/d", NULL, &o), STORE_ABSENT);
        outcome_clear(&o);
}

static void case_empty_and_binary_bodies(World *w) {
        static const char binary[] = "a\0b\xff\n";
        StoreBody body = { .body = binary, .size = sizeof(binary) - 1, .fd = -1 };
        Outcome o = { 0 };

        assert_int_equal(suite_put(w, "empty", "", STORE_ALWAYS, NULL, &o), 0);
        assert_int_equal(suite_get(w, "empty", NULL, &o), 0);
        assert_int_equal(o.body_size, 0);
        outcome_clear(&o);
        assert_int_equal(
                store_put(w->store, "binary", &body, STORE_ALWAYS, NULL, outcome_on_done, &o, NULL),
                0);
        world_wait(w, &o);
        assert_int_equal(suite_get(w, "binary", NULL, &o), 0);
        assert_int_equal(o.body_size, sizeof(binary) - 1);
        assert_memory_equal(o.body, binary, sizeof(binary) - 1);
        outcome_clear(&o);
}

static void case_largest_body_in_memory(World *w) {
        _cleanup_free_ char *text = calloc(1, LIMIT_DOCUMENT_BYTES + 2);
        StoreBody body = { .body = text, .size = LIMIT_DOCUMENT_BYTES + 1, .fd = -1 };
        Outcome o = { 0 };

        memset(text, 'x', LIMIT_DOCUMENT_BYTES + 1);
        assert_int_equal(
                store_put(w->store, "a", &body, STORE_ALWAYS, NULL, outcome_on_done, &o, NULL),
                -EFBIG);
        text[LIMIT_DOCUMENT_BYTES] = '\0';
        assert_int_equal(suite_put(w, "a", text, STORE_ALWAYS, NULL, &o), 0);
        assert_int_equal(suite_get(w, "a", NULL, &o), 0);
        assert_int_equal(o.body_size, LIMIT_DOCUMENT_BYTES);
        outcome_clear(&o);
}

/* ---- put ---- */

static void case_put_if_absent(World *w) {
        Outcome o = { 0 };

        assert_int_equal(suite_put(w, "a", "one", STORE_IF_ABSENT, NULL, &o), 0);
        assert_int_equal(suite_put(w, "a", "two", STORE_IF_ABSENT, NULL, &o), STORE_REFUSED);
        assert_int_equal(suite_get(w, "a", NULL, &o), 0);
        assert_string_equal(o.body, "one");
        outcome_clear(&o);
}

static void case_put_if_matches(World *w) {
        Outcome o = { 0 };
        char first[160], second[160];

        suite_put(w, "a", "one", STORE_IF_ABSENT, NULL, &o);
        memcpy(first, o.etag, sizeof(first));
        assert_int_equal(suite_put(w, "a", "two", STORE_IF_MATCHES, first, &o), 0);
        memcpy(second, o.etag, sizeof(second));
        assert_string_not_equal(first, second);
        assert_int_equal(suite_put(w, "a", "three", STORE_IF_MATCHES, first, &o), STORE_REFUSED);
        assert_int_equal(suite_get(w, "a", NULL, &o), 0);
        assert_string_equal(o.body, "two");
        assert_string_equal(o.etag, second);
        outcome_clear(&o);
}

static void case_put_if_matches_of_an_absent_one(World *w) {
        Outcome o = { 0 };
        char etag[160];

        suite_put(w, "other", "one", STORE_ALWAYS, NULL, &o);
        memcpy(etag, o.etag, sizeof(etag));
        assert_int_equal(suite_put(w, "a", "one", STORE_IF_MATCHES, etag, &o), STORE_REFUSED);
        assert_int_equal(suite_get(w, "a", NULL, &o), STORE_ABSENT);
        outcome_clear(&o);
}

static void case_put_if_absent_after_delete(World *w) {
        Outcome o = { 0 };

        suite_put(w, "a/b/c", "one", STORE_IF_ABSENT, NULL, &o);
        assert_int_equal(suite_delete(w, "a/b/c", NULL, &o), 0);
        assert_int_equal(suite_put(w, "a/b/c", "two", STORE_IF_ABSENT, NULL, &o), 0);
        outcome_clear(&o);
}

/* Contents A, B, A: equal ETags are allowed for equal content, which is why documents carry a
 * nonce. */
static void aba(World *w, char first[160], int expected) {
        Outcome o = { 0 };

        suite_put(w, "a", "A", STORE_ALWAYS, NULL, &o);
        memcpy(first, o.etag, 160);
        suite_put(w, "a", "B", STORE_ALWAYS, NULL, &o);
        suite_put(w, "a", "A", STORE_ALWAYS, NULL, &o);
        assert_int_equal(suite_put(w, "a", "C", STORE_IF_MATCHES, first, &o), expected);
        outcome_clear(&o);
}

static void case_aba_is_seen(World *w) {
        char first[160];

        aba(w, first, STORE_REFUSED);
}

static void case_aba_is_not_seen(World *w) {
        char first[160];

        aba(w, first, 0);
}

/* What both agree on: a nonce makes the third content another one. */
static void case_aba_with_nonces(World *w) {
        Outcome o = { 0 };
        char first[160];

        suite_put(w, "a", "{\"v\":\"A\",\"nonce\":\"1\"}", STORE_ALWAYS, NULL, &o);
        memcpy(first, o.etag, sizeof(first));
        suite_put(w, "a", "{\"v\":\"B\",\"nonce\":\"2\"}", STORE_ALWAYS, NULL, &o);
        suite_put(w, "a", "{\"v\":\"A\",\"nonce\":\"3\"}", STORE_ALWAYS, NULL, &o);
        assert_int_equal(suite_put(w, "a", "C", STORE_IF_MATCHES, first, &o), STORE_REFUSED);
        outcome_clear(&o);
}

static void case_put_from_descriptor(World *w) {
        const size_t size = 9 * 1024 * 1024 + 123;
        _cleanup_close_ int in = suite_pattern(size, 1), out = memfd_create("out", MFD_CLOEXEC);
        Outcome o = { 0 };
        char etag[160];

        /* From its beginning, wherever it stands. */
        assert_int_equal(lseek(in, 1000, SEEK_SET), 1000);
        assert_int_equal(suite_put_fd(w, "big/bundle", in, STORE_IF_ABSENT, &o), 0);
        memcpy(etag, o.etag, sizeof(etag));
        assert_int_equal(suite_fetch(w, "big/bundle", NULL, out, -EBADF, &o), 0);
        assert_int_equal(o.size, size);
        assert_string_equal(o.etag, etag);
        assert_same_content(in, out, size);
        assert_int_equal(suite_put_fd(w, "big/bundle", in, STORE_IF_ABSENT, &o), STORE_REFUSED);
        /* A document this large is never read into memory. */
        assert_int_equal(suite_get(w, "big/bundle", NULL, &o), -EFBIG);
        assert_non_null(strstr(o.words, "big/bundle"));
        outcome_clear(&o);
}

static void case_put_descriptor_is_duplicated(World *w) {
        int in = suite_pattern(5 * 1024 * 1024, 2);
        StoreBody body = { .fd = in };
        _cleanup_close_ int out = memfd_create("out", MFD_CLOEXEC),
                            again = suite_pattern(5 * 1024 * 1024, 2);
        Outcome o = { 0 };

        assert_int_equal(
                store_put(w->store, "big", &body, STORE_ALWAYS, NULL, outcome_on_done, &o, NULL),
                0);
        close(in);
        world_wait(w, &o);
        assert_int_equal(o.r, 0);
        assert_int_equal(suite_fetch(w, "big", NULL, out, -EBADF, &o), 0);
        assert_same_content(again, out, 5 * 1024 * 1024);
        outcome_clear(&o);
}

/* ---- list ---- */

static void put_all(World *w, const char *const *keys) {
        Outcome o = { 0 };

        for (; *keys; keys++)
                assert_int_equal(suite_put(w, *keys, *keys, STORE_ALWAYS, NULL, &o), 0);
        outcome_clear(&o);
}

static void assert_list(World *w, const char *prefix, const char *start_after,
                        const char *const *expected) {
        Outcome o = { 0 };
        size_t n = 0;

        assert_int_equal(suite_list(w, prefix, start_after, &o), 0);
        for (; expected[n]; n++) {
                assert_true(n < o.n_keys);
                assert_string_equal(o.keys[n], expected[n]);
                assert_int_equal(o.sizes[n], strlen(expected[n]));
        }
        assert_int_equal(o.n_keys, n);
        assert_false(o.more);
        outcome_clear(&o);
}

/* '-' and '.' sort before '/', '0' behind it: a folder is not where its bare name would be. */
static const char *const list_keys[] = { "a-b", "a.b", "a/x",  "a/y/z", "a0",
                                         "ab",  "b/1", "b/10", "b/2",   NULL };

static void case_list_order(World *w) {
        put_all(w, list_keys);
        assert_list(w, "", NULL, list_keys);
        assert_list(w, "c", NULL, (const char *const[]){ NULL });
}

static void case_list_prefix(World *w) {
        put_all(w, list_keys);
        assert_list(w, "a/", NULL, (const char *const[]){ "a/x", "a/y/z", NULL });
        assert_list(w, "a", NULL,
                    (const char *const[]){ "a-b", "a.b", "a/x", "a/y/z", "a0", "ab", NULL });
        assert_list(w, "b/1", NULL, (const char *const[]){ "b/1", "b/10", NULL });
        assert_list(w, "a/y/z", NULL, (const char *const[]){ "a/y/z", NULL });
        assert_list(w, "a/y/z/", NULL, (const char *const[]){ NULL });
        assert_list(w, "a/z", NULL, (const char *const[]){ NULL });
}

static void case_list_start_after(World *w) {
        put_all(w, list_keys);
        assert_list(w, "", "a/x",
                    (const char *const[]){ "a/y/z", "a0", "ab", "b/1", "b/10", "b/2", NULL });
        assert_list(w, "", "a/y",
                    (const char *const[]){ "a/y/z", "a0", "ab", "b/1", "b/10", "b/2", NULL });
        assert_list(w, "", "a/zzz",
                    (const char *const[]){ "a0", "ab", "b/1", "b/10", "b/2", NULL });
        assert_list(w, "b/", "b/1", (const char *const[]){ "b/10", "b/2", NULL });
        assert_list(w, "b/", "a", (const char *const[]){ "b/1", "b/10", "b/2", NULL });
        assert_list(w, "a", "b", (const char *const[]){ NULL });
        assert_list(w, "", "b/2", (const char *const[]){ NULL });
}

static void case_list_etags(World *w) {
        Outcome o = { 0 };
        char etag[160];

        suite_put(w, "a", "one", STORE_ALWAYS, NULL, &o);
        memcpy(etag, o.etag, sizeof(etag));
        assert_int_equal(suite_list(w, "a", NULL, &o), 0);
        assert_int_equal(o.n_keys, 1);
        assert_string_equal(o.etags[0], etag);
        outcome_clear(&o);
}

/* Exactly one page, then one more. */
static void case_list_pages(World *w) {
        Outcome o = { 0 };
        char key[64], last[64] = "";

        for (unsigned i = 0; i < LIMIT_LIST_KEYS; i++) {
                (void) snprintf(key, sizeof(key), "p/%05u", i);
                assert_int_equal(suite_put(w, key, "x", STORE_ALWAYS, NULL, &o), 0);
        }
        assert_int_equal(suite_list(w, "p/", NULL, &o), 0);
        assert_int_equal(o.n_keys, LIMIT_LIST_KEYS);
        assert_false(o.more);

        assert_int_equal(suite_put(w, "p/99999", "x", STORE_ALWAYS, NULL, &o), 0);
        assert_int_equal(suite_list(w, "p/", NULL, &o), 0);
        assert_int_equal(o.n_keys, LIMIT_LIST_KEYS);
        assert_true(o.more);
        for (size_t i = 0; i < o.n_keys; i++) {
                assert_true(strcmp(o.keys[i], last) > 0);
                (void) snprintf(last, sizeof(last), "%s", o.keys[i]);
        }
        assert_int_equal(suite_list(w, "p/", last, &o), 0);
        assert_int_equal(o.n_keys, 1);
        assert_string_equal(o.keys[0], "p/99999");
        assert_false(o.more);
        outcome_clear(&o);
}

/* ---- delete ---- */

static void case_delete(World *w) {
        Outcome o = { 0 };

        suite_put(w, "a/b", "one", STORE_ALWAYS, NULL, &o);
        suite_put(w, "a/c", "two", STORE_ALWAYS, NULL, &o);
        assert_int_equal(suite_delete(w, "a/b", NULL, &o), 0);
        assert_int_equal(suite_get(w, "a/b", NULL, &o), STORE_ABSENT);
        assert_int_equal(suite_get(w, "a/c", NULL, &o), 0);
        outcome_clear(&o);
}

static void case_delete_with_etag(World *w) {
        Outcome o = { 0 };
        char first[160];

        suite_put(w, "a", "one", STORE_ALWAYS, NULL, &o);
        memcpy(first, o.etag, sizeof(first));
        suite_put(w, "a", "two", STORE_ALWAYS, NULL, &o);
        assert_int_equal(suite_delete(w, "a", first, &o), STORE_REFUSED);
        assert_int_equal(suite_get(w, "a", NULL, &o), 0);
        memcpy(first, o.etag, sizeof(first));
        assert_int_equal(suite_delete(w, "a", first, &o), 0);
        assert_int_equal(suite_get(w, "a", NULL, &o), STORE_ABSENT);
        outcome_clear(&o);
}

static void case_delete_tells_absence(World *w) {
        Outcome o = { 0 };

        assert_int_equal(suite_delete(w, "a/b/c", NULL, &o), STORE_ABSENT);
        assert_int_equal(suite_delete(w, "a/b/c", "etag", &o), STORE_ABSENT);
        suite_put(w, "a/b/c", "x", STORE_ALWAYS, NULL, &o);
        assert_int_equal(suite_delete(w, "a/b", NULL, &o), STORE_ABSENT);
        assert_int_equal(suite_get(w, "a/b/c", NULL, &o), 0);
        outcome_clear(&o);
}

/* ---- fetch ---- */

static void case_fetch_goes_on(World *w) {
        const size_t size = 6 * 1024 * 1024;
        _cleanup_close_ int in = suite_pattern(size, 3), out = suite_pattern(3000000, 3),
                            map = memfd_create("map", MFD_CLOEXEC);
        Outcome o = { 0 };
        char etag[160];

        suite_put_fd(w, "big", in, STORE_ALWAYS, &o);
        memcpy(etag, o.etag, sizeof(etag));
        assert_int_equal(suite_fetch(w, "big", etag, out, map, &o), 0);
        assert_int_equal(o.size, size);
        assert_same_content(in, out, size);
        /* All of it is there already. */
        assert_int_equal(suite_fetch(w, "big", etag, out, map, &o), 0);
        assert_int_equal(o.size, size);
        assert_same_content(in, out, size);
        outcome_clear(&o);
}

/* A map that somebody tore, or of another object, harms nothing. */
static void case_fetch_with_a_wrong_map(World *w) {
        const size_t size = 6 * 1024 * 1024;
        _cleanup_close_ int in = suite_pattern(size, 3), out = memfd_create("out", MFD_CLOEXEC),
                            map = suite_pattern(1000, 9);
        Outcome o = { 0 };

        suite_put_fd(w, "big", in, STORE_ALWAYS, &o);
        assert_int_equal(suite_fetch(w, "big", NULL, out, map, &o), 0);
        assert_same_content(in, out, size);
        outcome_clear(&o);
}

static void case_fetch_longer_than_the_object(World *w) {
        _cleanup_close_ int in = suite_pattern(1000, 3), out = suite_pattern(1001, 3);
        Outcome o = { 0 };

        suite_put_fd(w, "big", in, STORE_ALWAYS, &o);
        assert_int_equal(suite_fetch(w, "big", NULL, out, -EBADF, &o), -ERANGE);
        outcome_clear(&o);
}

static void case_fetch_if_match(World *w) {
        _cleanup_close_ int in = suite_pattern(100000, 4), other = suite_pattern(100000, 5),
                            out = memfd_create("out", MFD_CLOEXEC);
        Outcome o = { 0 };
        char etag[160];

        suite_put_fd(w, "big", in, STORE_ALWAYS, &o);
        memcpy(etag, o.etag, sizeof(etag));
        suite_put_fd(w, "big", other, STORE_ALWAYS, &o);
        assert_int_equal(suite_fetch(w, "big", etag, out, -EBADF, &o), STORE_REFUSED);
        assert_int_equal(lseek(out, 0, SEEK_END), 0);
        assert_int_equal(suite_fetch(w, "absent", NULL, out, -EBADF, &o), STORE_ABSENT);
        outcome_clear(&o);
}

static void case_fetch_of_nothing(World *w) {
        _cleanup_close_ int out = memfd_create("out", MFD_CLOEXEC);
        Outcome o = { 0 };

        suite_put(w, "empty", "", STORE_ALWAYS, NULL, &o);
        assert_int_equal(suite_fetch(w, "empty", NULL, out, -EBADF, &o), 0);
        assert_int_equal(o.size, 0);
        outcome_clear(&o);
}

/* A call that cancels itself from its progress, or only counts. */
typedef struct Watched {
        Outcome o;
        StoreCall *call;
        unsigned n_progress;
        bool cancel;
        uint64_t last;
} Watched;

static void watched_on_done(void *userdata, int r, const StoreReply *reply, Error *err) {
        Watched *t = userdata;

        t->call = NULL;
        outcome_on_done(&t->o, r, reply, err);
}

static void watched_on_progress(void *userdata, uint64_t n_bytes, uint64_t size) {
        Watched *t = userdata;

        t->n_progress++;
        assert_true(n_bytes > t->last && n_bytes <= size);
        t->last = n_bytes;
        if (t->cancel)
                t->call = store_cancel(t->call);
}

static void case_fetch_progress(World *w) {
        const size_t size = 20 * 1024 * 1024;
        _cleanup_close_ int in = suite_pattern(size, 6), out = memfd_create("out", MFD_CLOEXEC);
        const StoreFetch fetch = { .fd = out, .map_fd = -EBADF, .progress = watched_on_progress };
        Watched t = { 0 };

        suite_put_fd(w, "big", in, STORE_ALWAYS, &t.o);
        outcome_clear(&t.o);
        assert_int_equal(store_fetch(w->store, "big", &fetch, watched_on_done, &t, &t.call), 0);
        world_wait(w, &t.o);
        assert_int_equal(t.o.r, 0);
        assert_true(t.n_progress >= 1);
        assert_int_equal(t.last, size);
        outcome_clear(&t.o);
}

/* ---- cancelling ---- */

static void case_cancel_at_once(World *w) {
        StoreBody body = { .body = "x", .size = 1, .fd = -1 };
        Outcome o = { 0 }, probe = { 0 };
        StoreCall *call = NULL;

        assert_int_equal(store_get(w->store, "a", NULL, outcome_on_done, &o, &call), 0);
        assert_null(store_cancel(call));
        assert_int_equal(store_list(w->store, "", NULL, outcome_on_done, &o, &call), 0);
        assert_null(store_cancel(call));
        assert_int_equal(
                store_put(w->store, "a", &body, STORE_ALWAYS, NULL, outcome_on_done, &o, &call), 0);
        assert_null(store_cancel(call));
        assert_null(store_cancel(NULL));
        suite_get(w, "other", NULL, &probe);
        assert_int_equal(o.n_done, 0);
}

static void case_cancel_in_the_middle(World *w) {
        const size_t size = 40 * 1024 * 1024;
        _cleanup_close_ int in = suite_pattern(size, 7), out = memfd_create("out", MFD_CLOEXEC);
        const StoreFetch fetch = { .fd = out, .map_fd = -EBADF, .progress = watched_on_progress };
        StoreBody body = { .fd = in, .progress = watched_on_progress };
        Watched t = { .cancel = true };
        Outcome o = { 0 };

        assert_int_equal(
                store_put(w->store, "big", &body, STORE_ALWAYS, NULL, watched_on_done, &t, &t.call),
                0);
        while (t.n_progress == 0)
                assert_true(sd_event_run(w->loop, SEC(30)) > 0);
        assert_int_equal(suite_get(w, "big", NULL, &o), STORE_ABSENT);
        assert_int_equal(suite_put_fd(w, "big", in, STORE_ALWAYS, &o), 0);
        t = (Watched){ .cancel = true };
        assert_int_equal(store_fetch(w->store, "big", &fetch, watched_on_done, &t, &t.call), 0);
        while (t.n_progress == 0)
                assert_true(sd_event_run(w->loop, SEC(30)) > 0);
        suite_get(w, "other", NULL, &o);
        assert_int_equal(t.o.n_done, 0);
        assert_true(t.n_progress == 1);
        outcome_clear(&o);
}

static void case_free_with_calls_under_way(World *w) {
        const size_t size = 40 * 1024 * 1024;
        _cleanup_close_ int in = suite_pattern(size, 8);
        StoreBody body = { .fd = in };
        Outcome o = { 0 };

        assert_int_equal(
                store_put(w->store, "big", &body, STORE_ALWAYS, NULL, outcome_on_done, &o, NULL),
                0);
        assert_int_equal(store_get(w->store, "a", NULL, outcome_on_done, &o, NULL), 0);
        assert_int_equal(store_put_document(w->store, "d", "nonce", 5, "nonce", STORE_IF_ABSENT,
                                            NULL, outcome_on_done, &o, NULL),
                         0);
        assert_int_equal(store_self_test(w->store, outcome_on_done, &o, NULL), 0);
        for (unsigned i = 0; i < 3; i++)
                (void) sd_event_run(w->loop, 0);
        w->store = store_free(w->store);
        while (sd_event_run(w->loop, 0) > 0)
                ;
        assert_true(o.n_done < 4);
        outcome_clear(&o);
}

static void free_on_done(void *userdata, _unused_ int r, _unused_ const StoreReply *reply,
                         _unused_ Error *err) {
        World *w = userdata;

        w->store = store_free(w->store);
}

static void case_free_from_done(World *w) {
        assert_int_equal(store_put_document(w->store, "d", "nonce", 5, "nonce", STORE_IF_ABSENT,
                                            NULL, free_on_done, w, NULL),
                         0);
        while (w->store)
                assert_true(sd_event_run(w->loop, SEC(30)) > 0);
}

/* ---- names ---- */

static void case_keys_refused(World *w) {
        static const char *const bad[] = { "",        "/a",    "a/",           "a//b",
                                           "a/./b",   "..",    "a/../b",       ".tmp-x",
                                           "a/.tmp-", ".lock", "a/.lock.json", "a\nb",
                                           "\xff",    "\xc3(" };
        StoreBody body = { .body = "x", .size = 1, .fd = -1 };
        Outcome o = { 0 };

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                assert_int_equal(store_get(w->store, bad[i], NULL, outcome_on_done, &o, NULL),
                                 -EINVAL);
                assert_int_equal(store_put(w->store, bad[i], &body, STORE_ALWAYS, NULL,
                                           outcome_on_done, &o, NULL),
                                 -EINVAL);
                assert_int_equal(store_delete(w->store, bad[i], NULL, outcome_on_done, &o, NULL),
                                 -EINVAL);
                assert_int_equal(store_fetch(w->store, bad[i],
                                             &(StoreFetch){ .fd = 1, .map_fd = -EBADF },
                                             outcome_on_done, &o, NULL),
                                 -EINVAL);
        }
        assert_int_equal(
                store_put(w->store, "a", &body, STORE_IF_MATCHES, NULL, outcome_on_done, &o, NULL),
                -EINVAL);
        assert_int_equal(
                store_put(w->store, "a", &body, STORE_IF_MATCHES, "", outcome_on_done, &o, NULL),
                -EINVAL);
        assert_int_equal(store_list(w->store, "a//", NULL, outcome_on_done, &o, NULL), -EINVAL);
        assert_int_equal(store_list(w->store, "/", NULL, outcome_on_done, &o, NULL), -EINVAL);
        assert_int_equal(o.n_done, 0);
}

static void case_unusual_keys(World *w) {
        static const char *const keys[] = { "a b/c+d%20&=?#.json", "\xc3\xa4/\xe2\x82\xac",
                                            "~/'\"\\", "...", NULL };
        Outcome o = { 0 };

        for (size_t i = 0; keys[i]; i++) {
                assert_int_equal(suite_put(w, keys[i], keys[i], STORE_IF_ABSENT, NULL, &o), 0);
                assert_int_equal(suite_get(w, keys[i], NULL, &o), 0);
                assert_string_equal(o.body, keys[i]);
        }
        assert_int_equal(suite_list(w, "", NULL, &o), 0);
        assert_int_equal(o.n_keys, 4);
        outcome_clear(&o);
}

/* ---- documents ---- */

static void case_put_document(World *w) {
        Outcome o = { 0 };
        char etag[160];

        assert_int_equal(store_put_document(w->store, "d", "{\"nonce\":\"n1\"}", 14, "n1",
                                            STORE_IF_ABSENT, NULL, outcome_on_done, &o, NULL),
                         0);
        world_wait(w, &o);
        assert_int_equal(o.r, 0);
        memcpy(etag, o.etag, sizeof(etag));
        /* Somebody else's stands there: it comes back with the refusal. */
        outcome_clear(&o);
        assert_int_equal(store_put_document(w->store, "d", "{\"nonce\":\"n2\"}", 14, "n2",
                                            STORE_IF_ABSENT, NULL, outcome_on_done, &o, NULL),
                         0);
        world_wait(w, &o);
        assert_int_equal(o.r, STORE_REFUSED);
        assert_string_equal(o.body, "{\"nonce\":\"n1\"}");
        assert_string_equal(o.etag, etag);
        outcome_clear(&o);
        assert_int_equal(store_put_document(w->store, "d", "{\"nonce\":\"n3\"}", 14, "n3",
                                            STORE_IF_MATCHES, etag, outcome_on_done, &o, NULL),
                         0);
        world_wait(w, &o);
        assert_int_equal(o.r, 0);
        outcome_clear(&o);
        assert_int_equal(store_put_document(w->store, "d", "{}", 2, "n4", STORE_ALWAYS, NULL,
                                            outcome_on_done, &o, NULL),
                         -EINVAL);
}

static void case_self_test(World *w) {
        Outcome o = { 0 };

        assert_int_equal(store_self_test(w->store, outcome_on_done, &o, NULL), 0);
        world_wait(w, &o);
        assert_int_equal(o.r, 0);
        assert_int_equal(suite_list(w, "", NULL, &o), 0);
        assert_int_equal(o.n_keys, 0);
        outcome_clear(&o);
}

/* ---- many processes ---- */

enum { N_WRITERS = 8, N_ROUNDS = 10, N_INCREMENTS = 10 };

/* Runs work in N_WRITERS processes that begin together; returns the sum of what they returned
 * (below 100 each). */
static unsigned in_processes(const World *w, int (*work)(World *w, unsigned n)) {
        pid_t pids[N_WRITERS];
        unsigned sum = 0;
        int gate[2];

        assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
        for (unsigned i = 0; i < N_WRITERS; i++) {
                pids[i] = fork();
                assert_true(pids[i] >= 0);
                if (pids[i] == 0) {
                        World own = { .suite = w->suite };
                        char byte;

                        close(gate[1]);
                        if (sd_event_new(&own.loop) < 0 ||
                            w->suite->connect(w->suite->userdata, own.loop, &own.store) < 0)
                                _exit(200);
                        (void) !read(gate[0], &byte, 1);
                        _exit(work(&own, i));
                }
        }
        close(gate[0]);
        close(gate[1]);
        for (unsigned i = 0; i < N_WRITERS; i++) {
                int status;

                assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
                assert_true(WIFEXITED(status));
                assert_true(WEXITSTATUS(status) < 100);
                sum += (unsigned) WEXITSTATUS(status);
        }
        return sum;
}

static int work_create(World *w, unsigned n) {
        char text[64];
        Outcome o = { 0 };

        (void) snprintf(text, sizeof(text), "writer %u", n);
        return suite_put(w, "race", text, STORE_IF_ABSENT, NULL, &o) == 0;
}

static void case_many_create_one_wins(World *w) {
        Outcome o = { 0 };

        for (unsigned i = 0; i < N_ROUNDS; i++) {
                assert_int_equal(in_processes(w, work_create), 1);
                assert_int_equal(suite_delete(w, "race", NULL, &o), 0);
        }
        outcome_clear(&o);
}

/* Each takes the ETag before the gate opens: done here by reading a document that says it. */
static int work_match(World *w, unsigned n) {
        Outcome seen = { 0 }, o = { 0 };
        char text[64];

        if (suite_get(w, "etag", NULL, &seen) != 0)
                return 201;
        /* What no round before has written: an ETag of the content would be the same again. */
        (void) snprintf(text, sizeof(text), "writer %u, process %d", n, (int) getpid());
        return suite_put(w, "race", text, STORE_IF_MATCHES, seen.body, &o) == 0;
}

static void case_many_match_one_wins(World *w) {
        Outcome o = { 0 };

        assert_int_equal(suite_put(w, "race", "start", STORE_ALWAYS, NULL, &o), 0);
        for (unsigned i = 0; i < N_ROUNDS; i++) {
                char etag[160];

                suite_get(w, "race", NULL, &o);
                memcpy(etag, o.etag, sizeof(etag));
                suite_put(w, "etag", etag, STORE_ALWAYS, NULL, &o);
                assert_int_equal(in_processes(w, work_match), 1);
        }
        outcome_clear(&o);
}

static int work_increment(World *w, _unused_ unsigned n) {
        Outcome o = { 0 };

        for (unsigned done = 0; done < N_INCREMENTS;) {
                char text[64], etag[160];
                uint64_t value;

                if (suite_get(w, "counter", NULL, &o) != 0 || str_to_u64(o.body, &value) < 0)
                        return 202;
                memcpy(etag, o.etag, sizeof(etag));
                (void) snprintf(text, sizeof(text), "%" PRIu64, value + 1);
                if (suite_put(w, "counter", text, STORE_IF_MATCHES, etag, &o) == 0)
                        done++;
                else if (o.r < 0)
                        return 203;
        }
        return 0;
}

static void case_many_increment(World *w) {
        Outcome o = { 0 };

        assert_int_equal(suite_put(w, "counter", "0", STORE_ALWAYS, NULL, &o), 0);
        assert_int_equal(in_processes(w, work_increment), 0);
        assert_int_equal(suite_get(w, "counter", NULL, &o), 0);
        assert_string_equal(o.body, "80");
        outcome_clear(&o);
}

/* Conditional and unconditional writes of one document: an unconditional one is never lost in
 * between. */
static int work_mixed(World *w, unsigned n) {
        Outcome o = { 0 };

        for (unsigned i = 0; i < N_INCREMENTS; i++) {
                char key[64];

                (void) snprintf(key, sizeof(key), "mixed/%u/%u", n % 2, i % 3);
                if (n % 4 < 2 ? suite_put(w, key, "x", STORE_ALWAYS, NULL, &o) < 0
                              : suite_delete(w, key, NULL, &o) < 0)
                        return 204;
        }
        return 0;
}

static void case_many_write_and_delete(World *w) {
        assert_int_equal(in_processes(w, work_mixed), 0);
}

/* ---- the table ---- */

typedef struct SuiteCase {
        const char *name;
        void (*run)(World *w);
        unsigned servers;
} SuiteCase;

/* clang-format off */
#define CASE(name, servers) { #name, case_##name, servers }
static const SuiteCase suite_cases[] = {
        CASE(get_absent,                    SERVERS_ALL),
        CASE(get_returns_what_was_put,      SERVERS_ALL),
        CASE(get_unchanged,                 SERVERS_ALL),
        CASE(get_of_a_folder,               SERVERS_ALL),
        CASE(empty_and_binary_bodies,       SERVERS_ALL),
        CASE(largest_body_in_memory,        SERVERS_ALL),
        CASE(put_if_absent,                 SERVERS_ALL),
        CASE(put_if_matches,                SERVERS_ALL),
        CASE(put_if_matches_of_an_absent_one, SERVERS_ALL),
        CASE(put_if_absent_after_delete,    SERVERS_ALL),
        CASE(aba_is_seen,                   SERVER_FILE),    /* the inode and the time are in its ETag */
        CASE(aba_is_not_seen,               SERVERS_REMOTE), /* an MD5 of the content */
        CASE(aba_with_nonces,               SERVERS_ALL),
        CASE(put_from_descriptor,           SERVERS_ALL),
        CASE(put_descriptor_is_duplicated,  SERVERS_ALL),
        CASE(list_order,                    SERVERS_ALL),
        CASE(list_prefix,                   SERVERS_ALL),
        CASE(list_start_after,              SERVERS_ALL),
        CASE(list_etags,                    SERVERS_ALL),
        CASE(list_pages,                    SERVERS_ALL),
        CASE(delete,                        SERVERS_ALL),
        CASE(delete_with_etag,              SERVER_FILE | SERVER_S3 | SERVER_MOTO), /* rgw ignores the condition */
        CASE(delete_tells_absence,          SERVER_FILE),    /* S3 answers 204 for what was never there */
        CASE(fetch_goes_on,                 SERVERS_ALL),
        CASE(fetch_with_a_wrong_map,        SERVERS_ALL),
        CASE(fetch_longer_than_the_object,  SERVER_FILE), /* the others have a map, and begin anew */
        CASE(fetch_if_match,                SERVERS_ALL),
        CASE(fetch_of_nothing,              SERVERS_ALL),
        CASE(fetch_progress,                SERVERS_ALL),
        CASE(cancel_at_once,                SERVERS_ALL),
        CASE(cancel_in_the_middle,          SERVERS_ALL),
        CASE(free_with_calls_under_way,     SERVERS_ALL),
        CASE(free_from_done,                SERVERS_ALL),
        CASE(keys_refused,                  SERVERS_ALL),
        CASE(unusual_keys,                  SERVERS_ALL),
        CASE(put_document,                  SERVERS_ALL),
        CASE(self_test,                     SERVERS_ALL),
        CASE(many_create_one_wins,          SERVERS_ALL & ~SERVER_MOTO), /* looks, then writes: two at once both win */
        CASE(many_match_one_wins,           SERVERS_ALL & ~SERVER_MOTO),
        CASE(many_increment,                SERVER_FILE | SERVER_S3), /* rgw answers losers of a race with 500 too */
        CASE(many_write_and_delete,         SERVERS_ALL),
};
/* clang-format on */

/* What cmocka keeps for a case: set up becomes the World. */
typedef struct SuiteRun {
        const Suite *suite;
        const SuiteCase *which;
        World world;
} SuiteRun;

static int suite_setup(void **state) {
        SuiteRun *run = *state;

        run->world = (World){ .suite = run->suite };
        assert_int_equal(run->suite->reset(run->suite->userdata), 0);
        assert_true(sd_event_new(&run->world.loop) >= 0);
        assert_int_equal(
                run->suite->connect(run->suite->userdata, run->world.loop, &run->world.store), 0);
        return 0;
}

static int suite_teardown(void **state) {
        SuiteRun *run = *state;

        run->world.store = store_free(run->world.store);
        run->world.loop = sd_event_unref(run->world.loop);
        return 0;
}

static void suite_test(void **state) {
        SuiteRun *run = *state;

        run->which->run(&run->world);
}

/* Runs what is true on the suite's server; the number of failures. */
static int store_suite_run(const Suite *suite) {
        struct CMUnitTest tests[ELEMENTS(suite_cases)];
        SuiteRun runs[ELEMENTS(suite_cases)];
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTS(suite_cases); i++) {
                if (!(suite_cases[i].servers & suite->server)) {
                        print_message("# %s: not true on %s\n", suite_cases[i].name, suite->name);
                        continue;
                }
                runs[n] = (SuiteRun){ .suite = suite, .which = &suite_cases[i] };
                tests[n] = (struct CMUnitTest){ suite_cases[i].name, suite_test, suite_setup,
                                                suite_teardown, &runs[n] };
                n++;
        }
        return _cmocka_run_group_tests(suite->name, tests, n, NULL, NULL);
}
