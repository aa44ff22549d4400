#pragma once

/* A fetch from the fake of fake-s3.h into memory files, with its end and its progress. */

#include "base/backoff.h"

/* Retries wait for no time at all here. */
#define backoff_chance() 0

/* A disk that is full, where a test wants one. */
#include <errno.h>
#include <fcntl.h>

static int disk_errno;

static inline int disk_fallocate(int fd, int mode, off_t offset, off_t size) {
        errno = disk_errno;
        return disk_errno ? -1 : (fallocate) (fd, mode, offset, size);
}
#define fallocate(fd, mode, offset, size) disk_fallocate(fd, mode, offset, size)

#include "net/transfer.c"

#include "base/file.h"
#include "fake-s3.h"

#define MIB UINT64_C(1048576)
#define BIG (20 * MIB + 123)

typedef struct Fixture {
        S3 s3;
        int fd, map_fd;
        Transfer *transfer;
        int n_done, r, n_progress;
        uint64_t size, told, cancel_at;
        char etag[64], words[400];
} Fixture;

static inline void on_done(void *userdata, int r, const char *etag, uint64_t size, Error *err) {
        Fixture *x = userdata;

        x->transfer = NULL;
        x->n_done++;
        x->r = r;
        x->size = size;
        (void) snprintf(x->etag, sizeof(x->etag), "%s", etag ?: "");
        (void) snprintf(x->words, sizeof(x->words), "%s", r < 0 ? error_text(err) : "");
        assert_true((r < 0) == (err != NULL));
}

static inline void on_progress(void *userdata, uint64_t n_bytes, uint64_t size) {
        Fixture *x = userdata;

        x->n_progress++;
        x->told = n_bytes;
        assert_true(n_bytes <= size);
        if (x->cancel_at && n_bytes >= x->cancel_at)
                x->transfer = transfer_cancel(x->transfer);
}

static inline void set_up(Fixture *x, uint64_t size) {
        *x = (Fixture){ .fd = file_memfd("object", "", 0), .map_fd = file_memfd("map", "", 0) };
        x->s3.loop = loop_new();
        fake_set_object(&x->s3, size, FAKE_ETAG, 1);
}

static inline void tear_down(Fixture *x) {
        x->transfer = transfer_cancel(x->transfer);
        assert_null(x->s3.calls);
        fake_done(&x->s3);
        closep(&x->fd);
        closep(&x->map_fd);
}
#define _fixture_ _cleanup_(tear_down) Fixture

static inline void begin(Fixture *x, const char *if_match) {
        TransferSpec spec = { .key = FAKE_KEY,
                              .fd = x->fd,
                              .map_fd = x->map_fd,
                              .if_match = if_match,
                              .progress = on_progress,
                              .done = on_done,
                              .userdata = x };
        Error *err = NULL;

        assert_int_equal(transfer_fetch(&x->s3, &spec, &x->transfer, &err), 0);
        assert_int_equal(x->n_done, 0);
}

static inline void run(Fixture *x, const char *if_match) {
        x->n_done = 0;
        x->s3.n_requests = 0;
        x->s3.n_asked = 0;
        begin(x, if_match);
        loop_until(x->s3.loop, &x->n_done, 1);
        assert_null(x->s3.calls);
}

static inline void assert_whole(const Fixture *x) {
        uint8_t *data = calloc(1, x->s3.size + 2);
        ssize_t n = pread(x->fd, data, x->s3.size + 1, 0);
        Map map;

        if (x->r < 0)
                fail_msg("%s", x->words);
        assert_int_equal(x->r, 0);
        assert_int_equal(n, x->s3.size);
        assert_int_equal(x->size, x->s3.size);
        assert_string_equal(x->etag, x->s3.etag);
        assert_int_equal(memcmp(data, x->s3.object, x->s3.size), 0);
        free(data);
        if (x->map_fd < 0)
                return;
        assert_int_equal(map_load(x->map_fd, &map), 0);
        assert_string_equal(map.etag, x->s3.etag);
        assert_true(map_is_whole(&map));
}

static inline void assert_words(const Fixture *x, int r, const char *words) {
        assert_int_equal(x->r, r);
        if (!strstr(x->words, words))
                fail_msg("\"%s\" is not in \"%s\"", words, x->words);
        assert_true(str_has_prefix(x->words, "fetch " FAKE_KEY ": "));
}

static inline void set_faults(Fixture *x, FakeFault *faults, size_t n) {
        x->s3.faults = faults;
        x->s3.n_faults = n;
}
