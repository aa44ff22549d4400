/* Bodies and answers that are bytes of a file; what is repeated, and what is not. */

#include "loop/httptransfer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

#include "http-server.h"

/* ---- a clock that jumps, for libcurl and the loop alike ---- */

static atomic_llong skew_seconds;

int clock_gettime(clockid_t id, struct timespec *ts) {
        int r = (int) syscall(SYS_clock_gettime, id, ts);

        if (r == 0 && id != CLOCK_REALTIME)
                ts->tv_sec += (time_t) atomic_load(&skew_seconds);
        return r;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *to, struct itimerspec *old) {
        struct itimerspec real = *to;
        time_t skew = (time_t) atomic_load(&skew_seconds);

        if (flags & TFD_TIMER_ABSTIME && real.it_value.tv_sec > skew)
                real.it_value.tv_sec -= skew;
        return (int) syscall(SYS_timerfd_settime, fd, flags, &real, old);
}

/* ---- files ---- */

#define FILE_MAX (OBJECT_BYTES + 1000)

static int new_file(void) {
        int fd = memfd_create("answer", MFD_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

static uint64_t file_bytes(int fd) {
        struct stat st;

        assert_int_equal(fstat(fd, &st), 0);
        return (uint64_t) st.st_size;
}

/* Bytes of the object, from there on; elsewhere nothing. */
static void assert_object(int fd, uint64_t at, uint64_t from, uint64_t bytes) {
        _cleanup_free_ char *data = calloc(1, bytes + 1);

        assert_non_null(data);
        assert_int_equal(pread(fd, data, bytes, (off_t) at), bytes);
        for (uint64_t i = 0; i < bytes; i++)
                if (data[i] != object_byte(from + i))
                        fail_msg("byte %llu of %llu is wrong", (unsigned long long) i,
                                 (unsigned long long) bytes);
}

static void assert_zeros(int fd, uint64_t at, uint64_t bytes) {
        char byte;

        for (uint64_t i = 0; i < bytes; i++) {
                assert_int_equal(pread(fd, &byte, 1, (off_t) (at + i)), 1);
                assert_int_equal(byte, 0);
        }
}

/* A file with the object in it, behind as many bytes of something else. */
static int object_file(uint64_t behind) {
        _cleanup_free_ char *data = calloc(1, OBJECT_BYTES);
        int fd = new_file();

        assert_non_null(data);
        for (uint64_t i = 0; i < OBJECT_BYTES; i++)
                data[i] = object_byte(i);
        assert_int_equal(pwrite(fd, data, OBJECT_BYTES, (off_t) behind), OBJECT_BYTES);
        return fd;
}

/* A range of the object into a file. */
static Answers fetch(sd_event *loop, HttpClient *client, const Server *s, const char *path,
                     uint64_t from, HttpFile file) {
        char range[128];
        char *const headers[] = { range, NULL };

        (void) snprintf(range, sizeof(range), "Range: bytes=%llu-%llu", (unsigned long long) from,
                        (unsigned long long) (from + file.bytes - 1));
        return get(loop, client, s, path,
                   (HttpRequest){ .headers = headers, .answer_file = &file });
}

static Answers send_file(sd_event *loop, HttpClient *client, const Server *s, HttpRequest request,
                         const char *path, HttpFile file) {
        char offset[64];
        char *const headers[] = { offset, NULL };

        (void) snprintf(offset, sizeof(offset), "X-Offset: %llu", (unsigned long long) file.offset);
        request.headers = headers;
        request.body_file = &file;
        request.method = request.method ?: "PUT";
        return get(loop, client, s, path, request);
}

/* ---- answers ---- */

static void test_answer_file(void **state) {
        static const struct {
                uint64_t from, bytes, at;
        } rows[] = {
                { 0, OBJECT_BYTES, 0 },      { 0, 1, 0 },
                { 1000, 262144, 262144 },    { 5, 262145, 777 },
                { OBJECT_BYTES - 7, 7, 12 }, { 262143, 2 * 262144 + 2, 262143 },
        };
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        const Server *s = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_close_ int fd = new_file();
                HttpFile file = { fd, rows[i].at, rows[i].bytes };
                Answers a;

                a = fetch(loop, client, s, "/object", rows[i].from, file);
                assert_int_equal(a.last_r, 0);
                assert_int_equal(a.status, 206);
                assert_int_equal(a.body_bytes, 0);
                assert_int_equal(a.n_file, rows[i].bytes);
                assert_int_equal(a.n_told, rows[i].bytes);
                assert_int_equal(file_bytes(fd), rows[i].at + rows[i].bytes);
                assert_object(fd, rows[i].at, rows[i].from, rows[i].bytes);
                assert_zeros(fd, 0, MIN(rows[i].at, 1000));
        }
}

/* What is no part of the object does not come near the file. */
static void test_other_answers(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        _cleanup_close_ int fd = new_file();
        HttpFile file = { fd, 0, 500 };
        Answers a;

        a = fetch(loop, client, *state, "/404", 0, file);
        assert_int_equal(a.last_r, 0);
        assert_int_equal(a.status, 404);
        assert_string_equal(a.body, "absent");
        a = fetch(loop, client, *state, "/304", 0, file);
        assert_int_equal(a.last_r, 0);
        assert_int_equal(a.status, 304);
        a = get(loop, client, *state, "/x",
                (HttpRequest){ .method = "HEAD", .answer_file = &file });
        assert_int_equal(a.last_r, 0);
        assert_int_equal(a.n_file, 0);
        assert_int_equal(file_bytes(fd), 0);

        /* An answer of 200 is one as well, an interim head before it or not. */
        file.bytes = 5;
        a = get(loop, client, *state, "/interim", (HttpRequest){ .answer_file = &file });
        assert_int_equal(a.last_r, 0);
        assert_int_equal(a.n_file, 2);
        assert_int_equal(file_bytes(fd), 2);
}

static void test_answer_too_large(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        _cleanup_close_ int fd = new_file();
        HttpFile file = { fd, 100, 600000 };
        Answers a;

        /* It says so: not one byte of the wrong place is written. */
        a = fetch(loop, client, *state, "/object-deaf", 1000000, file);
        assert_int_equal(a.last_r, -EFBIG);
        assert_non_null(strstr(a.text, "larger"));
        assert_int_equal(a.n_told, 0);
        assert_int_equal(file_bytes(fd), 0);

        /* It does not say so: never beyond the place. */
        a = fetch(loop, client, *state, "/object-deaf-chunked", 1000000, file);
        assert_int_equal(a.last_r, -EFBIG);
        assert_true(a.n_told <= 600000);
        assert_true(file_bytes(fd) <= 600100);

        file.bytes = OBJECT_BYTES;
        a = get(loop, client, *state, "/object-chunked", (HttpRequest){ .answer_file = &file });
        assert_int_equal(a.last_r, 0);
        assert_int_equal(a.n_file, OBJECT_BYTES);
        assert_object(fd, 100, 0, OBJECT_BYTES);
        file.bytes--;
        a = get(loop, client, *state, "/object-chunked", (HttpRequest){ .answer_file = &file });
        assert_int_equal(a.last_r, -EFBIG);
        file.bytes = 0;
        a = get(loop, client, *state, "/ok", (HttpRequest){ .answer_file = &file });
        assert_int_equal(a.last_r, -EFBIG);
}

/* Cut again and again, and continued from what on_bytes() told. */
static void test_cut_and_continued(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        _cleanup_close_ int fd = new_file();
        HttpFile file = { fd, 50, OBJECT_BYTES };
        uint64_t done = 0;
        int n_tries = 0;
        Answers a;

        while (done < OBJECT_BYTES) {
                file.offset = 50 + done;
                file.bytes = OBJECT_BYTES - done;
                a = fetch(loop, client, *state, file.bytes > 1000 ? "/object-cut" : "/object", done,
                          file);
                assert_int_equal(a.last_r, file.bytes > 1000 ? -EBADMSG : 0);
                assert_int_equal(a.n_told, file.bytes > 1000 ? file.bytes / 2 : file.bytes);
                done += a.n_told;
                n_tries++;
        }
        assert_true(n_tries > 5);
        assert_int_equal(done, OBJECT_BYTES);
        assert_object(fd, 50, 0, OBJECT_BYTES);
        assert_int_equal(file_bytes(fd), OBJECT_BYTES + 50);
}

static void test_stalled_answer(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        _cleanup_close_ int fd = new_file();
        HttpFile file = { fd, 0, OBJECT_BYTES };
        Answers a;

        a = get(loop, client, *state, "/object-hang",
                (HttpRequest){ .answer_file = &file, .total_usec = MSEC(300) });
        assert_int_equal(a.last_r, -ETIMEDOUT);
        assert_true(a.n_told > 0 && a.n_told <= OBJECT_BYTES / 2);
        assert_int_equal(file_bytes(fd), a.n_told);
        assert_object(fd, 0, 0, a.n_told);

        /* The same by its stall, which is ours. */
        file.offset = FILE_MAX;
        a = get(loop, client, *state, "/object-hang",
                (HttpRequest){ .answer_file = &file, .stall_usec = MSEC(500) });
        assert_int_equal(a.last_r, -ETIMEDOUT);
        assert_non_null(strstr(a.text, "nothing came"));
        assert_int_equal(a.n_told, OBJECT_BYTES / 2);
        assert_object(fd, FILE_MAX, 0, a.n_told);
}

static void test_file_that_fails(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        _cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
        _cleanup_close_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        Answers a;

        a = fetch(loop, client, *state, "/object", 0, (HttpFile){ full, 0, OBJECT_BYTES });
        assert_int_equal(a.last_r, -ENOSPC);
        assert_string_equal(a.text, "write the answer to its file: No space left on device");
        assert_int_equal(a.n_told, 0);
        a = fetch(loop, client, *state, "/object", 0, (HttpFile){ null, 0, 3 });
        assert_int_equal(a.last_r, -EBADF);

        a = send_file(loop, client, *state, (HttpRequest){ 0 }, "/sink", (HttpFile){ full, 0, 3 });
        assert_int_equal(a.last_r, -EBADF);
        assert_non_null(strstr(a.text, "read the file that is sent: "));
        a = send_file(loop, client, *state, (HttpRequest){ 0 }, "/sink", (HttpFile){ null, 0, 3 });
        assert_int_equal(a.last_r, -ENODATA);
        assert_string_equal(a.text,
                            "read the file that is sent: it is shorter than it was said to be");
}

/* ---- bodies ---- */

static void test_body_file(void **state) {
        static const struct {
                const char *method;
                uint64_t offset, bytes;
                const char *answer;
        } rows[] = {
                { "PUT", 0, OBJECT_BYTES, "PUT 3145851 right" },
                { "PUT", 12345, 2000000, "PUT 2000000 right" },
                { "POST", 7, 1, "POST 1 right" },
                { "PUT", 7, 0, "PUT 0 right" },
        };
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        _cleanup_close_ int fd = object_file(0);
        Answers a;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                a = send_file(loop, client, *state, (HttpRequest){ .method = rows[i].method },
                              "/sink", (HttpFile){ fd, rows[i].offset, rows[i].bytes });
                assert_int_equal(a.last_r, 0);
                assert_int_equal(a.status, 200);
                assert_string_equal(a.body, rows[i].answer);
                assert_int_equal(a.n_told, rows[i].bytes);
                assert_int_equal(a.n_file, 0);
        }

        a = send_file(loop, client, *state, (HttpRequest){ 0 }, "/x", (HttpFile){ fd, 3, 9 });
        assert_true(str_has_prefix(a.body, "PUT /x HTTP/1.1\r\n"));
        assert_non_null(strstr(a.body, "\r\nContent-Length: 9\r\n"));
        assert_null(strcasestr(a.body, "\r\nExpect"));
        assert_null(strcasestr(a.body, "\r\nTransfer-Encoding"));
        assert_null(strcasestr(a.body, "\r\nContent-Type"));

        /* It is refused before it was sent. */
        a = send_file(loop, client, *state, (HttpRequest){ 0 }, "/early",
                      (HttpFile){ fd, 0, OBJECT_BYTES });
        assert_int_equal(a.last_r, 0);
        assert_int_equal(a.status, 403);
        assert_string_equal(a.body, "denied");
}

static void test_impossible_files(void **state) {
        static const struct {
                HttpFile body, answer;
                const char *memory;
        } rows[] = {
                { { -1, 0, 1 }, { 0, 0, 1 }, NULL },
                { { 0, 0, 1 }, { -EBADF, 0, 1 }, NULL },
                { { 0, (uint64_t) INT64_MAX + 1, 0 }, { 0, 0, 1 }, NULL },
                { { 0, 0, 1 }, { 0, 10, INT64_MAX - 9 }, NULL },
                { { 0, 0, UINT64_MAX }, { 0, 0, 1 }, NULL },
                { { 0, 0, 1 }, { 0, 0, 1 }, "body" },
        };
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);

        (void) state;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                HttpRequest request = { .method = "PUT",
                                        .url = "http://127.0.0.1/",
                                        .body = rows[i].memory,
                                        .body_file = &rows[i].body,
                                        .answer_file = &rows[i].answer,
                                        .on_done = on_done };

                assert_int_equal(http_send(client, &request, NULL, NULL), -EINVAL);
        }
}

/* ---- connections ---- */

/* On a kept connection the server reads a write whole and closes without an answer: did it happen?
 * libcurl sends it again by itself. */
static int n_came(sd_event *loop, HttpClient *client, Server *s, HttpRequest request, bool file) {
        _cleanup_close_ int fd = object_file(0);
        int before = atomic_load(&s->n_once), accepted = atomic_load(&s->n_accepted);
        Answers a;

        assert_int_equal(get(loop, client, s, "/ok", (HttpRequest){ 0 }).last_r, 0);
        accepted = atomic_load(&s->n_accepted);
        if (file)
                a = send_file(loop, client, s, request, "/once", (HttpFile){ fd, 0, 100000 });
        else
                a = get(loop, client, s, "/once", request);
        assert_int_equal(a.last_r, -ECONNRESET);

        /* What was kept before is kept on, unless it was used for this. */
        if (request.fresh) {
                assert_int_equal(get(loop, client, s, "/ok", (HttpRequest){ 0 }).last_r, 0);
                assert_int_equal(atomic_load(&s->n_accepted), accepted + 1);
        }
        return atomic_load(&s->n_once) - before;
}

static void test_sent_once(void **state) {
        HttpRequest request = { .method = "PUT", .body = "{}", .body_bytes = 2 }, from_file = { 0 };
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        int n;

        /* The danger; should a later libcurl not repeat it, so much the better. */
        n = n_came(loop, client, *state, request, false);
        print_message("libcurl %s sends it %d times\n", curl_version_info(CURLVERSION_NOW)->version,
                      n);
        assert_in_range(n, 1, 2);
        assert_in_range(n_came(loop, client, *state, from_file, true), 1, 2);

        request.fresh = from_file.fresh = true;
        assert_int_equal(n_came(loop, client, *state, request, false), 1);
        assert_int_equal(n_came(loop, client, *state, from_file, true), 1);
}

/* A fresh one is not kept for others either. */
static void test_fresh(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        Server *s = *state;
        int before = atomic_load(&s->n_accepted);

        for (int i = 0; i < 3; i++)
                assert_int_equal(get(loop, client, s, "/ok", (HttpRequest){ .fresh = true }).last_r,
                                 0);
        assert_int_equal(get(loop, client, s, "/ok", (HttpRequest){ 0 }).last_r, 0);
        assert_int_equal(get(loop, client, s, "/ok", (HttpRequest){ 0 }).last_r, 0);
        assert_int_equal(atomic_load(&s->n_accepted), before + 4);
}

/* On a loop without the guard of 30 s, which would see the clock jump too. */
static int n_connections_after(Server *s, long long seconds) {
        _cleanup_(sd_event_unrefp) sd_event *loop = NULL;
        _cleanup_(http_client_freep) HttpClient *client = NULL;
        int before = atomic_load(&s->n_accepted);

        assert_true(sd_event_new(&loop) >= 0);
        client = client_new(loop);
        assert_int_equal(get(loop, client, s, "/ok", (HttpRequest){ 0 }).last_r, 0);
        atomic_fetch_add(&skew_seconds, seconds);
        assert_int_equal(get(loop, client, s, "/ok", (HttpRequest){ 0 }).last_r, 0);
        return atomic_load(&s->n_accepted) - before;
}

static void test_kept_for_a_while(void **state) {
        assert_int_equal(n_connections_after(*state, 0), 1);
        assert_int_equal(n_connections_after(*state, 40), 1);
        assert_int_equal(n_connections_after(*state, 58), 2);
}

/* Twenty at once leave at most sixteen behind. */
static void test_connections_are_bounded(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        Server *s = *state;
        Answers a = { 0 };

        for (int i = 0; i < 24; i++)
                send_one(client, s->port, "/ok", (HttpRequest){ 0 }, &a, NULL);
        loop_until(loop, &a.n_done, 24);
        assert_int_equal(a.n_ok, 24);
        for (int i = 0; i < 5000 && atomic_load(&s->n_open) > 16; i++) {
                (void) sd_event_run(loop, 1000);
        }
        assert_in_range(atomic_load(&s->n_open), 1, 16);
}

/* Eight ranges at once, into one file. */
static void test_parallel_ranges(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *loop = loop_new();
        _cleanup_(http_client_freep) HttpClient *client = client_new(loop);
        _cleanup_close_ int fd = new_file();
        const Server *s = *state;
        uint64_t part = OBJECT_BYTES / 8;
        Answers a = { 0 };

        for (uint64_t i = 0; i < 8; i++) {
                HttpFile file = { fd, i * part, i == 7 ? OBJECT_BYTES - 7 * part : part };
                char range[128];
                char *const headers[] = { range, NULL };

                (void) snprintf(range, sizeof(range), "Range: bytes=%llu-%llu",
                                (unsigned long long) file.offset,
                                (unsigned long long) (file.offset + file.bytes - 1));
                send_one(client, s->port, "/object",
                         (HttpRequest){ .headers = headers, .answer_file = &file }, &a, NULL);
        }
        loop_until(loop, &a.n_done, 8);
        assert_int_equal(a.n_ok, 8);
        assert_int_equal(a.n_told, OBJECT_BYTES);
        assert_object(fd, 0, 0, OBJECT_BYTES);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_answer_file),
                cmocka_unit_test(test_other_answers),
                cmocka_unit_test(test_answer_too_large),
                cmocka_unit_test(test_cut_and_continued),
                cmocka_unit_test(test_stalled_answer),
                cmocka_unit_test(test_file_that_fails),
                cmocka_unit_test(test_body_file),
                cmocka_unit_test(test_impossible_files),
                cmocka_unit_test(test_sent_once),
                cmocka_unit_test(test_fresh),
                cmocka_unit_test(test_kept_for_a_while),
                cmocka_unit_test(test_connections_are_bounded),
                cmocka_unit_test(test_parallel_ranges),
        };

        return cmocka_run_group_tests_name("httptransfer", tests, server_begin, server_end);
}
