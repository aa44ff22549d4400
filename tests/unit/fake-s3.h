#pragma once

/*
 * A server in place of net/s3call.h: one object in memory, uploads in parts, and a script of what
 * goes wrong. What it was asked is counted and looked at. The test's own loop answers, never from
 * within s3_send().
 */

#include <assert.h>
#include <inttypes.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/str.h"
#include "loop.h"
#include "net/s3call.h"

typedef enum FakeHow {
        FAKE_CUT,       /* n bytes come (or go), then the connection is lost */
        FAKE_LOST,      /* all is done, but the answer is lost */
        FAKE_ERROR,     /* s3_send() gives up with r */
        FAKE_STATUS,    /* the answer has status n, with code */
        FAKE_CODE,      /* status 200, with an error document of this code */
        FAKE_REFUSED,   /* S3_REFUSED */
        FAKE_ABSENT,    /* S3_ABSENT */
        FAKE_SHORT,     /* 206 with only n bytes */
        FAKE_ELSEWHERE, /* 206, Content-Range is off by n */
        FAKE_LATE,      /* the same, told after all others have ended */
        FAKE_WHOLE,     /* 200: knows no ranges */
        FAKE_NO_ETAG,
        FAKE_NO_RANGE, /* 206 without Content-Range */
        FAKE_CHANGE,   /* the object is another one from here on */
        FAKE_AGAIN,    /* n bytes come, s3_send() begins by itself again, and succeeds */
        FAKE_HANG,     /* never ends */
} FakeHow;

typedef struct FakeFault {
        FakeHow how;
        const char *method; /* NULL: any */
        const char *query;  /* its query begins with that; NULL: any */
        int nth;            /* of those that fit; 0: each */
        uint64_t n;
        int r;
        const char *code;
        int n_seen; /* the fake's */
} FakeFault;

typedef struct FakeUpload {
        char *id;
        const char *initiated;
        bool gone;
} FakeUpload;

#define FAKE_PARTS   128
#define FAKE_ETAG    "11112222333344445555666677778888"
#define FAKE_NEW     "aaaabbbbccccddddeeeeffff00001111"
#define FAKE_KEY     "applications/a/versions/1/bundle"
#define FAKE_UPLOADS 8

struct S3 {
        sd_event *loop;
        uint8_t *object; /* NULL: absent */
        uint64_t size;
        const char *etag;
        const char *head_etag; /* of HEAD; NULL: FAKE_NEW "-3" */
        bool ignores_match;
        FakeFault *faults;
        size_t n_faults;

        S3Call *calls;
        int n_requests, n_now, n_most, n_parts_sent, n_aborted, n_lists;
        uint64_t n_asked; /* bytes of all ranges */
        uint64_t first_offset;
        uint64_t last_offset;
        const char *seen_match[4];

        FakeUpload uploads[FAKE_UPLOADS];
        size_t n_uploads;
        uint64_t part_sizes[FAKE_PARTS];
        bool completed, seen_if_absent;
        char last_payload[65];
        char *complete_body;
};

struct S3Call {
        S3 *s3;
        S3Call *next;
        sd_event_source *source;
        S3Request request;
        HttpFile file, body_file;
        char *query, *range, *md5, *etag, *payload;
        Buf body;
};

sd_event *s3_loop(S3 *s3) {
        return s3->loop;
}

const char *s3_url(const S3 *s3) {
        (void) s3;
        return "s3://bucket/store";
}

const char *s3_prefix(const S3 *s3) {
        (void) s3;
        return "store";
}

static uint8_t fake_byte(uint64_t at, uint8_t seed) {
        return (uint8_t) (at * 2654435761u >> 13) ^ (uint8_t) (at >> 20) ^ seed;
}

static void fake_set_object(S3 *s3, uint64_t size, const char *etag, uint8_t seed) {
        free(s3->object);
        s3->object = calloc(1, size + 1);
        assert(s3->object);
        for (uint64_t i = 0; i < size; i++)
                s3->object[i] = fake_byte(i, seed);
        s3->size = size;
        s3->etag = etag;
}

S3Call *s3_cancel(S3Call *c) {
        S3Call **at;

        if (!c)
                return NULL;
        for (at = &c->s3->calls; *at && *at != c; at = &(*at)->next)
                ;
        assert(*at == c);
        *at = c->next;
        c->s3->n_now--;
        (void) sd_event_source_disable_unref(c->source);
        free(c->query);
        free(c->range);
        free(c->md5);
        free(c->etag);
        free(c->payload);
        buf_done(&c->body);
        free(c);
        return NULL;
}

static void fake_done(S3 *s3) {
        while (s3->calls)
                (void) s3_cancel(s3->calls);
        for (size_t i = 0; i < s3->n_uploads; i++)
                free(s3->uploads[i].id);
        free(s3->complete_body);
        free(s3->object);
        (void) sd_event_unref(s3->loop);
        *s3 = (S3){ 0 };
}

/* ---- answering ---- */

typedef struct FakeAnswer {
        unsigned status;
        const char *etag, *code, *body;
        char range[96];
        uint64_t n_file;
} FakeAnswer;

static void fake_end(S3Call *c, int r, const FakeAnswer *a) {
        char *headers[] = { a && a->range[0] ? strdup(a->range) : NULL, NULL };
        HttpReply reply = { .status = a ? a->status : 0, .headers = headers };
        char code[64] = "";
        XmlError error = { .code = code };
        S3Answer answer = { .etag = a ? a->etag : NULL,
                            .date_usec = UINT64_C(1764000000) * SEC(1) };
        _cleanup_(error_freep) Error *err = NULL;
        S3Request request = c->request;

        buf_init(&reply.body, 1 << 20);
        if (a) {
                answer.reply = &reply;
                reply.n_file = a->n_file;
                if (a->body)
                        assert(buf_append_str(&reply.body, a->body) == 0);
        }
        if (a && a->code) {
                (void) snprintf(code, sizeof(code), "%s", a->code);
                answer.error = &error;
        }
        if (r < 0)
                (void) error_set(&err, r, "the fake says no");
        (void) s3_cancel(c);
        request.on_done(request.userdata, r, &answer, err);
        buf_done(&reply.body);
        free(headers[0]);
}

static void fake_give(S3Call *c, uint64_t from, uint64_t n) {
        for (uint64_t i = 0; i < n;) {
                uint64_t piece = MIN(n - i, (uint64_t) 300000);

                assert(pwrite(c->file.fd, c->s3->object + from + i, piece,
                              (off_t) (c->file.offset + i)) == (ssize_t) piece);
                i += piece;
                c->request.on_bytes(c->request.userdata, piece);
        }
}

static FakeFault *fake_fault(const S3Call *c) {
        FakeFault *found = NULL;

        for (size_t i = 0; i < c->s3->n_faults; i++) {
                FakeFault *f = &c->s3->faults[i];

                if (f->method && !str_equal(f->method, c->request.method))
                        continue;
                if (f->query && !str_has_prefix(c->query, f->query))
                        continue;
                f->n_seen++;
                if (!found && (f->nth == 0 || f->n_seen == f->nth))
                        found = f;
        }
        return found;
}

static void fake_whole(S3Call *c) {
        FakeAnswer a = { .status = 200, .etag = c->s3->etag, .n_file = c->s3->size };

        if (c->s3->size > c->file.bytes) {
                fake_end(c, -EFBIG, NULL);
                return;
        }
        fake_give(c, 0, c->s3->size);
        fake_end(c, 0, &a);
}

static int fake_late(sd_event_source *source, uint64_t usec, void *userdata) {
        S3Call *c = userdata;
        FakeAnswer a = { .status = 206, .etag = c->s3->etag, .n_file = c->file.bytes };

        (void) source;
        (void) usec;
        (void) snprintf(a.range, sizeof(a.range),
                        "content-range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, c->file.offset + 1,
                        c->file.offset + c->file.bytes, c->s3->size);
        fake_end(c, 0, &a);
        return 0;
}

static void fake_get(S3Call *c, const FakeFault *fault) {
        S3 *s3 = c->s3;
        FakeAnswer a = { .status = 206, .etag = s3->etag };
        uint64_t begin = c->file.offset, n = c->file.bytes;

        if (str_equal(c->request.method, "HEAD")) {
                a.etag = fault && fault->how == FAKE_NO_ETAG ? NULL : FAKE_NEW "-3";
                if (s3->head_etag)
                        a.etag = s3->head_etag;
                fake_end(c, 0, &a);
                return;
        }
        if (!s3->object || (c->etag && !s3->ignores_match && !str_equal(c->etag, s3->etag))) {
                fake_end(c, s3->object ? S3_REFUSED : S3_ABSENT, &a);
                return;
        }
        if (!c->range || (fault && fault->how == FAKE_WHOLE)) {
                fake_whole(c);
                return;
        }
        if (begin >= s3->size) {
                a.status = 416;
                fake_end(c, -ERANGE, &a);
                return;
        }
        n = MIN(n, s3->size - begin);
        if (fault && fault->how == FAKE_SHORT)
                n = MIN(n, fault->n);
        if (fault && fault->how == FAKE_AGAIN) {
                fake_give(c, begin, MIN(n, fault->n));
                c->request.on_again(c->request.userdata);
        }
        if (fault && fault->how == FAKE_CUT) {
                fake_give(c, begin, MIN(n, fault->n));
                fake_end(c, -ECONNRESET, NULL);
                return;
        }
        fake_give(c, begin, n);
        a.n_file = n;
        if (fault && fault->how == FAKE_LATE) {
                c->source = sd_event_source_disable_unref(c->source);
                assert(sd_event_add_time_relative(s3->loop, &c->source, CLOCK_MONOTONIC, MSEC(100),
                                                  1, fake_late, c) >= 0);
                return;
        }
        if (fault && fault->how == FAKE_ELSEWHERE)
                begin += fault->n;
        if (fault && fault->how == FAKE_NO_ETAG)
                a.etag = NULL;
        if (!fault || fault->how != FAKE_NO_RANGE)
                (void) snprintf(a.range, sizeof(a.range),
                                "content-range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, begin,
                                begin + n - 1, s3->size);
        fake_end(c, 0, &a);
}

/* ---- uploads ---- */

/* What a server computes of what has come. */
static void fake_take(S3Call *c, char ret_etag[33]) {
        char sha[DIGEST_SHA256_HEX_SIZE];
        uint8_t *data = calloc(1, c->body_file.bytes + 1);

        assert(data);
        assert(pread(c->body_file.fd, data, c->body_file.bytes, (off_t) c->body_file.offset) ==
               (ssize_t) c->body_file.bytes);
        digest_bytes(data, c->body_file.bytes, sha);
        assert(str_equal(sha, c->payload));
        assert(c->md5 && strlen(c->md5) == strlen("Content-MD5: ") + 24);
        (void) snprintf(ret_etag, 33, "%.32s", sha);
        free(data);
}

static void fake_put(S3Call *c, const FakeFault *fault) {
        S3 *s3 = c->s3;
        char etag[33];
        FakeAnswer a = { .status = 200, .etag = etag };
        unsigned part = 0;

        if (fault && fault->how == FAKE_CUT) {
                c->request.on_bytes(c->request.userdata, fault->n);
                fake_end(c, -ECONNRESET, NULL);
                return;
        }
        if (fault && fault->how == FAKE_AGAIN) {
                c->request.on_bytes(c->request.userdata, fault->n);
                c->request.on_again(c->request.userdata);
        }
        fake_take(c, etag);
        c->request.on_bytes(c->request.userdata, c->body_file.bytes);
        if (c->query[0]) {
                assert(sscanf(c->query, "partNumber=%u&uploadId=", &part) == 1);
                assert(part >= 1 && part < FAKE_PARTS);
                assert(str_has_suffix(c->query, "&uploadId=new/upload+1"));
                s3->part_sizes[part] = c->body_file.bytes;
                s3->n_parts_sent++;
        } else {
                s3->completed = true;
                s3->seen_if_absent = c->request.if_absent;
                s3->size = c->body_file.bytes;
        }
        if (fault && fault->how == FAKE_NO_ETAG)
                a.etag = NULL;
        fake_end(c, 0, &a);
}

static void fake_post(S3Call *c, const FakeFault *fault) {
        static const char created[] = "<?xml version=\"1.0\"?><InitiateMultipartUploadResult>"
                                      "<Bucket>bucket</Bucket><UploadId>new/upload+1</UploadId>"
                                      "</InitiateMultipartUploadResult>";
        static const char done[] = "<?xml version=\"1.0\"?><CompleteMultipartUploadResult>"
                                   "<ETag>&quot;" FAKE_NEW "-3&quot;</ETag>"
                                   "</CompleteMultipartUploadResult>";
        char error[200];
        FakeAnswer a = { .status = 200, .body = created };

        if (fault && fault->how == FAKE_CODE) {
                (void) snprintf(error, sizeof(error),
                                "<?xml version=\"1.0\"?>\n<Error><Code>%s</Code>"
                                "<Message>words of the server</Message></Error>",
                                fault->code);
                a.body = error;
        } else if (!str_equal(c->query, "uploads=")) {
                assert(str_equal(c->query, "uploadId=new/upload+1"));
                c->s3->completed = true;
                c->s3->seen_if_absent = c->request.if_absent;
                free(c->s3->complete_body);
                c->s3->complete_body = strndup(buf_str(&c->body), c->body.size);
                a.body = fault && fault->how == FAKE_NO_ETAG
                                 ? "<Completed><ETag></ETag></Completed>"
                                 : done;
        }
        fake_end(c, 0, &a);
}

static void fake_delete(S3Call *c) {
        FakeAnswer a = { .status = 204 };
        S3 *s3 = c->s3;

        s3->n_aborted++;
        for (size_t i = 0; i < s3->n_uploads; i++)
                if (str_equal(c->query + strlen("uploadId="), s3->uploads[i].id))
                        s3->uploads[i].gone = true;
        fake_end(c, 0, &a);
}

/* One upload behind the marker, as max-uploads=1 asks for. */
static void fake_list(S3Call *c) {
        FakeAnswer a = { .status = 200 };
        char body[500] = "<?xml version=\"1.0\"?><ListMultipartUploadsResult>"
                         "<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>";
        const char *marker = strstr(c->query, "upload-id-marker=");

        c->s3->n_lists++;
        marker = marker ? marker + strlen("upload-id-marker=") : "";
        for (size_t i = 0; i < c->s3->n_uploads; i++) {
                const FakeUpload *u = &c->s3->uploads[i];

                if (u->gone || strncmp(u->id, marker, strlen(u->id)) <= 0)
                        continue;
                (void) snprintf(body, sizeof(body),
                                "<ListMultipartUploadsResult><Upload><Key>store/%s</Key>"
                                "<UploadId>%s</UploadId><Initiated>%s</Initiated></Upload>"
                                "</ListMultipartUploadsResult>",
                                FAKE_KEY, u->id, u->initiated);
                break;
        }
        a.body = body;
        fake_end(c, 0, &a);
}

/* ---- the dispatch ---- */

static bool fake_fails(S3Call *c, FakeFault *fault) {
        FakeAnswer a = { .status = 0 };

        switch (fault->how) {
        case FAKE_ERROR:
                fake_end(c, fault->r, NULL);
                return true;
        case FAKE_LOST:
                fake_end(c, -ECONNRESET, NULL);
                return true;
        case FAKE_STATUS:
                a.status = (unsigned) fault->n;
                a.code = fault->code;
                fake_end(c, -EAGAIN, &a);
                return true;
        case FAKE_REFUSED:
                fake_end(c, S3_REFUSED, &a);
                return true;
        case FAKE_ABSENT:
                fake_end(c, S3_ABSENT, &a);
                return true;
        case FAKE_HANG:
                return true;
        case FAKE_CHANGE:
                if (!str_equal(c->s3->etag, FAKE_NEW))
                        fake_set_object(c->s3, c->s3->size, FAKE_NEW, 77);
                return false;
        case FAKE_CUT:
        case FAKE_CODE:
        case FAKE_SHORT:
        case FAKE_ELSEWHERE:
        case FAKE_LATE:
        case FAKE_WHOLE:
        case FAKE_NO_ETAG:
        case FAKE_NO_RANGE:
        case FAKE_AGAIN:
        default:
                return false;
        }
}

static int fake_answer(sd_event_source *source, void *userdata) {
        S3Call *c = userdata;
        FakeFault *fault = fake_fault(c);

        (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        if (fault && fake_fails(c, fault))
                return 0;
        if (str_equal(c->request.method, "PUT"))
                fake_put(c, fault);
        else if (str_equal(c->request.method, "POST"))
                fake_post(c, fault);
        else if (str_equal(c->request.method, "DELETE"))
                fake_delete(c);
        else if (str_has_prefix(c->query, "uploads="))
                fake_list(c);
        else
                fake_get(c, fault);
        return 0;
}

static char *fake_join(char *const *list) {
        Buf text = BUF_INIT(4096);

        for (char *const *one = list; one && *one; one++)
                assert(buf_printf(&text, "%s%s", one == list ? "" : "&", *one) == 0);
        return buf_steal(&text);
}

static char *fake_header(char *const *list, const char *name) {
        for (; list && *list; list++)
                if (str_has_prefix(*list, name))
                        return strdup(*list);
        return NULL;
}

static void fake_count(S3Call *c) {
        S3 *s3 = c->s3;
        char expected[96];

        s3->n_now++;
        s3->n_most = MAX(s3->n_most, s3->n_now);
        if (s3->n_requests < 4)
                s3->seen_match[s3->n_requests] = c->etag ? s3->etag : NULL;
        s3->n_requests++;
        if (!c->range)
                return;
        (void) snprintf(expected, sizeof(expected), "Range: bytes=%" PRIu64 "-%" PRIu64,
                        c->file.offset, c->file.offset + c->file.bytes - 1);
        assert_string_equal(c->range, expected);
        if (s3->n_asked == 0)
                s3->first_offset = c->file.offset;
        s3->last_offset = c->file.offset;
        s3->n_asked += c->file.bytes;
}

int s3_send(S3 *s3, const S3Request *request, S3Call **ret, Error **reterr) {
        S3Call *c = calloc(1, sizeof(S3Call));

        (void) reterr;
        assert(c);
        c->s3 = s3;
        c->request = *request;
        c->query = fake_join(request->query);
        c->range = fake_header(request->headers, "Range: ");
        c->md5 = fake_header(request->headers, "Content-MD5: ");
        c->etag = request->etag ? strdup(request->etag) : NULL;
        c->payload = request->payload ? strdup(request->payload) : NULL;
        buf_init(&c->body, 1 << 20);
        if (request->body)
                assert(buf_append(&c->body, request->body, request->body_bytes) == 0);
        if (request->answer_file)
                c->file = *request->answer_file;
        if (request->body_file)
                c->body_file = *request->body_file;
        c->next = s3->calls;
        s3->calls = c;
        fake_count(c);
        assert(sd_event_add_defer(s3->loop, &c->source, fake_answer, c) >= 0);
        if (ret)
                *ret = c;
        return 0;
}
