#include "net/transfer.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/backoff.h"
#include "base/digest.h"
#include "base/str.h"
#include "net/multipart.h"
#include "net/s3header.h"
#include "net/transferbase.h"

/* A multipart upload has at most 10,000 parts, of 5 MiB at least. */
#define PART_BYTES_MIN (UINT64_C(8) * 1024 * 1024)
#define PARTS_MOST     9000

/* Of its digests at a time: other work of the loop waits for so much. */
#define HASH_BLOCK_BYTES   ((size_t) 256 * 1024)
#define HASH_BLOCKS_A_TURN 4

/* The server puts the parts together meanwhile, which takes S3 minutes at most. */
#define COMPLETE_STALL_USEC SEC(120)
#define COMPLETE_TOTAL_USEC SEC(600)
#define COMPLETE_BYTES_MAX  ((size_t) 4 * 1024 * 1024)

/* Unfinished uploads of the same key: how old one must be, and how many are looked at. */
#define OLD_USEC   SEC(24 * 3600)
#define LOOKS_MOST 16

typedef struct Upload Upload;

/* One part under way, or being hashed; the whole file where it is sent by one PUT. */
typedef struct Part {
        Upload *upload;
        S3Call *call;
        size_t number; /* from 1 on; 0: none */
        HttpFile file;
        uint64_t went;
} Part;

struct Upload {
        Transfer base;
        uint64_t size, part_bytes;
        size_t n_parts, n_begun, n_done;
        uint64_t n_sent; /* of parts that are done */
        char *id;        /* of the multipart upload, while there is one to abort */
        char **etags;
        Part parts[TRANSFER_PARALLEL];

        Part *hashing;
        uint64_t n_hashed;
        Digest *sha256, *md5;
        sd_event_source *hasher;
        char *block;

        S3Call *call; /* of the steps that are one request */
        unsigned n_looks;
        char *marker; /* the upload that was looked at last */
        sd_event_source *timer;
        RetryState retry;
        RetryQuota quota;
        int r; /* how it ends, once it is aborted or read back */
        Error *err;
        char whole_md5[MULTIPART_MD5_SIZE]; /* where it is sent by one PUT; "": not known */
};

static Upload *upload_of(Transfer *t) {
        return (Upload *) t;
}

static bool is_single(const Upload *u) {
        return u->size <= TRANSFER_SINGLE_BYTES;
}

static bool upload_count(Transfer *t, uint64_t *ret_done, uint64_t *ret_size) {
        const Upload *u = upload_of(t);
        uint64_t n = u->n_sent;

        for (size_t i = 0; i < TRANSFER_PARALLEL; i++)
                if (u->parts[i].call)
                        n += MIN(u->parts[i].went, u->parts[i].file.bytes);
        *ret_done = n;
        *ret_size = u->size;
        return true;
}

static void stop_hashing(Upload *u) {
        u->hashing = NULL;
        u->sha256 = digest_free(u->sha256);
        u->md5 = digest_free(u->md5);
}

static void drop_parts(Upload *u) {
        stop_hashing(u);
        (void) sd_event_source_set_enabled(u->hasher, SD_EVENT_OFF);
        for (size_t i = 0; i < TRANSFER_PARALLEL; i++)
                u->parts[i].call = s3_cancel(u->parts[i].call);
}

/* ---- aborting ---- */

static void on_aborted_alone(_unused_ void *userdata, _unused_ int r, _unused_ const S3Answer *a,
                             _unused_ Error *err) {
}

static int send_abort(Upload *u, const char *id, S3Done done, void *userdata, S3Call **ret) {
        _cleanup_free_ char *query = str_format("uploadId=%s", id);
        char *queries[] = { query, NULL };
        S3Request request = {
                .method = "DELETE",
                .key = u->base.key,
                .query = queries,
                .max_bytes = LIMIT_XML_ERROR_BYTES,
                .on_done = done,
                .userdata = userdata,
        };

        return query ? s3_send(u->base.s3, &request, ret, NULL) : -ENOMEM;
}

/* Nobody waits for what is aborted here: it goes on as long as the process lives. */
static void upload_stop(Transfer *t) {
        Upload *u = upload_of(t);

        drop_parts(u);
        u->call = s3_cancel(u->call);
        if (u->id)
                (void) send_abort(u, u->id, on_aborted_alone, NULL, NULL);
        u->timer = sd_event_source_disable_unref(u->timer);
        u->hasher = sd_event_source_disable_unref(u->hasher);
        for (size_t i = 0; u->etags && i < u->n_parts; i++)
                free(u->etags[i]);
        free(TAKE_PTR(u->etags));
        u->err = error_free(u->err);
        free(TAKE_PTR(u->id));
        free(TAKE_PTR(u->marker));
        free(TAKE_PTR(u->block));
}

static const TransferKind upload_kind = { .count = upload_count, .stop = upload_stop };

static void upload_end(Upload *u, int r, const char *etag, Error *err) {
        free(TAKE_PTR(u->id));
        transfer_end(&u->base, r, etag, u->size, err);
}

static void on_aborted(void *userdata, _unused_ int r, _unused_ const S3Answer *answer,
                       _unused_ Error *err) {
        Upload *u = userdata;

        u->call = NULL;
        upload_end(u, u->r, NULL, TAKE_PTR(u->err));
}

/* What has been sent is of no use to anyone: it is aborted first, as far as the server lets us. */
static void upload_give_up(Upload *u, int r, Error *err) {
        u->r = r;
        u->err = err;
        drop_parts(u);
        if (!u->id || send_abort(u, u->id, on_aborted, u, &u->call) < 0)
                upload_end(u, r, NULL, TAKE_PTR(u->err));
}

static void upload_fail(Upload *u, int r, Error *err) {
        (void) error_wrap(&err, r, "upload %s", u->base.key);
        upload_give_up(u, r, err);
}

/* err is that of a call, which is borrowed. */
static void upload_fail_as(Upload *u, int r, const Error *err) {
        Error *own = NULL;

        (void) error_set(&own, r, "%s", error_text(err));
        upload_fail(u, r, own);
}

/* An answer that none of the steps of a multipart upload can have. */
static void upload_unexpected(Upload *u, int r) {
        Error *own = NULL;

        if (r == S3_ABSENT)
                r = error_set(&own, -EAGAIN,
                              "the server does not know this upload any more: upload again");
        else
                r = error_set(&own, -EAGAIN, "something else changed it meanwhile: upload again");
        upload_fail(u, r, own);
}

/* ---- reading back ---- */

/* NULL: not known. */
static char *expected_etag(const Upload *u) {
        if (!is_single(u))
                return multipart_etag(u->etags, u->n_parts);
        return u->whole_md5[0] ? strdup(u->whole_md5) : NULL;
}

static void on_read_back(void *userdata, int r, const S3Answer *answer, _unused_ Error *err) {
        Upload *u = userdata;
        _cleanup_free_ char *expected = expected_etag(u);

        u->call = NULL;
        if (r == 0 && expected && str_equal(answer->etag, expected))
                upload_end(u, 0, expected, NULL);
        else
                upload_give_up(u, u->r, TAKE_PTR(u->err));
}

static int send_head(Upload *u, S3Done done, Error **reterr) {
        S3Request request = {
                .method = "HEAD",
                .key = u->base.key,
                .max_bytes = LIMIT_XML_ERROR_BYTES,
                .on_done = done,
                .userdata = u,
        };

        return s3_send(u->base.s3, &request, &u->call, reterr);
}

/* The last request was sent, and its answer did not come: what stands there now tells whether it
 * was done. */
static void upload_lost(Upload *u, int r, const Error *err) {
        u->r = error_set(&u->err, r, "upload %s: %s", u->base.key, error_text(err));
        if (send_head(u, on_read_back, NULL) < 0)
                upload_give_up(u, r, TAKE_PTR(u->err));
}

/* ---- completing ---- */

static bool is_conditional(const Upload *u) {
        return u->base.spec.if_absent || u->base.if_match;
}

static void on_completed(void *userdata, int r, const S3Answer *answer, Error *err);

static int send_complete(Upload *u, Error **reterr) {
        _cleanup_free_ char *query = str_format("uploadId=%s", u->id);
        _cleanup_(buf_done) Buf text = BUF_INIT(COMPLETE_BYTES_MAX);
        char *queries[] = { query, NULL };
        char type[] = "Content-Type: application/xml", *headers[] = { type, NULL };
        S3Request request = {
                .method = "POST",
                .key = u->base.key,
                .query = queries,
                .headers = headers,
                .if_absent = u->base.spec.if_absent,
                .etag = u->base.if_match,
                .once = is_conditional(u),
                .max_bytes = LIMIT_XML_ERROR_BYTES,
                .stall_usec = COMPLETE_STALL_USEC,
                .total_usec = COMPLETE_TOTAL_USEC,
                .on_done = on_completed,
                .userdata = u,
        };
        int r;

        r = query ? multipart_list(u->etags, u->n_parts, &text) : -ENOMEM;
        if (r < 0)
                return error_set(reterr, r, "complete: %s", strerror(-r));
        request.body = buf_str(&text);
        request.body_bytes = text.size;
        return s3_send(u->base.s3, &request, &u->call, reterr);
}

static int on_complete_again(_unused_ sd_event_source *s, _unused_ uint64_t now, void *userdata) {
        Upload *u = userdata;
        Error *err = NULL;
        int r;

        u->timer = sd_event_source_disable_unref(u->timer);
        r = send_complete(u, &err);
        if (r < 0)
                upload_fail(u, r, err);
        return 0;
}

/* The server had said 200 already when it found out that it could not. */
static void completed_with_error(Upload *u, const HttpReply *reply) {
        XmlError error = { 0 };
        const char *code;
        Error *own = NULL;
        usec_t delay;
        int r;

        (void) xml_read_error(reply->body.data, reply->body.size, &error, NULL);
        code = error.code ?: "no code";
        if (str_equal(code, "PreconditionFailed") ||
            str_equal(code, "ConditionalRequestConflict")) {
                upload_give_up(u, STORE_REFUSED, NULL);
                xml_error_done(&error);
                return;
        }

        r = error_set(&own, -EREMOTEIO, "the server could not put the parts together: %s (%s)",
                      error.message ?: "no words", code);
        /* It may have been put together all the same: then a second time would be refused by it. */
        if (is_conditional(u)) {
                upload_lost(u, r, own);
                (void) error_free(own);
                xml_error_done(&error);
                return;
        }
        if (retry_decide(&u->retry, &u->quota, retry_classify(0, 400, error.code, 0),
                         backoff_chance(), &delay) &&
            sd_event_add_time_relative(s3_loop(u->base.s3), &u->timer, CLOCK_MONOTONIC, delay, 0,
                                       on_complete_again, u) >= 0)
                own = error_free(own);
        else
                upload_fail(u, r, own);
        xml_error_done(&error);
}

static void on_etag(void *userdata, int r, const S3Answer *answer, Error *err) {
        Upload *u = userdata;
        Error *own = NULL;

        u->call = NULL;
        if (r == 0 && !str_is_empty(answer->etag)) {
                upload_end(u, 0, answer->etag, NULL);
                return;
        }
        r = error_set(&own, r < 0 ? r : -EBADMSG, "it was completed, but its ETag is not known: %s",
                      r < 0 ? error_text(err) : "the server does not tell it");
        upload_fail(u, r, own);
}

static void completed(Upload *u, const S3Answer *answer) {
        static const char *const names[] = { "ETag" };
        _cleanup_free_ char *text = NULL, *etag = NULL;
        const Buf *body = &answer->reply->body;
        Error *own = NULL;
        int r;

        if (xml_is_error(buf_str(body), body->size)) {
                completed_with_error(u, answer->reply);
                return;
        }
        /* Now there is nothing left to abort. */
        free(TAKE_PTR(u->id));
        if (xml_read_values(buf_str(body), body->size, names, 1, &text, NULL) == 0 && text &&
            s3_etag_parse(text, &etag) == 0) {
                upload_end(u, 0, etag, NULL);
                return;
        }
        /* Ceph RGW 16 completes an upload without telling the ETag. */
        r = send_head(u, on_etag, &own);
        if (r < 0)
                upload_fail(u, r, own);
}

/* No answer, or that of something between us and the server. */
static bool is_lost(int r, const S3Answer *answer) {
        return r < 0 && (!answer->reply || answer->reply->status >= 500);
}

/* An upload that is not known any more may be one that was completed, and whose answer was lost. */
static void upload_unknown(Upload *u) {
        _cleanup_(error_freep) Error *own = NULL;

        (void) error_set(&own, -EAGAIN,
                         "the server does not know this upload any more: upload again");
        upload_lost(u, -EAGAIN, own);
}

static void on_completed(void *userdata, int r, const S3Answer *answer, Error *err) {
        Upload *u = userdata;

        u->call = NULL;
        if (r == 0)
                completed(u, answer);
        else if (is_lost(r, answer))
                upload_lost(u, r, err);
        else if (r < 0)
                upload_fail_as(u, r, err);
        else if (r == S3_REFUSED)
                upload_give_up(u, STORE_REFUSED, NULL);
        else
                upload_unknown(u);
}

/* ---- parts ---- */

static void upload_go_on(Upload *u);

static void single_done(Upload *u, int r, const S3Answer *answer, const Error *err) {
        Error *own = NULL;

        if (r == 0 && !str_is_empty(answer->etag))
                upload_end(u, 0, answer->etag, NULL);
        else if (r == 0) {
                r = error_set(&own, -EBADMSG, "the server took it, but gives it no ETag");
                upload_fail(u, r, own);
        } else if ((r == S3_REFUSED && is_conditional(u)) || (r == S3_ABSENT && u->base.if_match))
                upload_end(u, STORE_REFUSED, NULL, NULL);
        else if (is_lost(r, answer))
                upload_lost(u, r, err);
        else if (r < 0)
                upload_fail_as(u, r, err);
        else
                upload_unexpected(u, r);
}

static void part_done(Part *part, const S3Answer *answer) {
        Upload *u = part->upload;
        char **at = &u->etags[part->number - 1];
        Error *own = NULL;
        int r;

        if (str_is_empty(answer->etag)) {
                r = error_set(&own, -EBADMSG, "the server gives part %zu no ETag", part->number);
                upload_fail(u, r, own);
                return;
        }
        *at = strdup(answer->etag);
        if (!*at) {
                upload_fail(u, -ENOMEM, NULL);
                return;
        }
        u->n_done++;
        u->n_sent += part->file.bytes;
        part->number = 0;
        upload_go_on(u);
}

static void on_part_done(void *userdata, int r, const S3Answer *answer, Error *err) {
        Part *part = userdata;

        part->call = NULL;
        if (is_single(part->upload))
                single_done(part->upload, r, answer, err);
        else if (r == 0)
                part_done(part, answer);
        else if (r < 0)
                upload_fail_as(part->upload, r, err);
        else
                upload_unexpected(part->upload, r);
}

static void on_part_bytes(void *userdata, uint64_t n_bytes) {
        Part *part = userdata;

        part->went += n_bytes;
}

static void on_part_again(void *userdata) {
        Part *part = userdata;

        part->went = 0;
}

/* The digests of its bytes are there. Both are sent: the signature covers one, and servers that do
 * not look at that one look at the other. A libcrypto that may have no MD5 (FIPS) sends one. */
static int part_send(Part *part, const char *sha256, const char *md5, Error **reterr) {
        const Upload *u = part->upload;
        _cleanup_free_ char *sum = str_format("Content-MD5: %s", md5);
        _cleanup_free_ char *number = str_format("partNumber=%zu", part->number);
        _cleanup_free_ char *id = str_format("uploadId=%s", u->id ?: "");
        char type[] = "Content-Type: application/octet-stream";
        char *queries[] = { number, id, NULL };
        char *headers[] = { type, *md5 ? sum : NULL, NULL };
        bool single = is_single(u);
        S3Request request = {
                .method = "PUT",
                .key = u->base.key,
                .query = single ? NULL : queries,
                .headers = headers,
                .if_absent = single && u->base.spec.if_absent,
                .etag = single ? u->base.if_match : NULL,
                .once = single && is_conditional(u),
                .body_file = &part->file,
                .payload = sha256,
                .max_bytes = LIMIT_XML_ERROR_BYTES,
                .stall_usec = TRANSFER_STALL_USEC,
                .total_usec = TRANSFER_TOTAL_USEC,
                .on_bytes = on_part_bytes,
                .on_again = on_part_again,
                .on_done = on_part_done,
                .userdata = part,
        };

        if (!sum || !number || !id)
                return error_set(reterr, -ENOMEM, "out of memory");
        part->went = 0;
        return s3_send(u->base.s3, &request, &part->call, reterr);
}

static int hashed(Upload *u, Error **reterr) {
        char sha256[DIGEST_SHA256_HEX_SIZE];
        char md5[DIGEST_MD5_BASE64_SIZE] = "";
        Part *part = u->hashing;

        digest_final_hex(u->sha256, sha256);
        if (u->md5)
                digest_final_md5(u->md5, md5);
        (void) multipart_md5(md5, u->whole_md5);
        stop_hashing(u);
        if (!sha256[0])
                return error_set(reterr, -EIO, "compute the digest of part %zu", part->number);
        return part_send(part, sha256, md5, reterr);
}

static int hash_block(Upload *u, Error **reterr) {
        const HttpFile *file = &u->hashing->file;
        size_t want = (size_t) MIN(file->bytes - u->n_hashed, (uint64_t) HASH_BLOCK_BYTES);
        ssize_t n;

        do
                n = pread(file->fd, u->block, want, (off_t) (file->offset + u->n_hashed));
        while (n < 0 && errno == EINTR);
        if (n <= 0)
                return error_set(reterr, n < 0 ? -errno : -ENODATA, "read the file: %s",
                                 n < 0 ? strerror(errno) : "it is shorter than it was");
        digest_update(u->sha256, u->block, (size_t) n);
        if (u->md5)
                digest_update(u->md5, u->block, (size_t) n);
        u->n_hashed += (uint64_t) n;
        return 0;
}

static int on_hash(_unused_ sd_event_source *s, void *userdata) {
        Upload *u = userdata;
        Error *err = NULL;
        int r = 0;

        for (int i = 0; i < HASH_BLOCKS_A_TURN && r >= 0; i++)
                if (u->n_hashed < u->hashing->file.bytes)
                        r = hash_block(u, &err);
        if (r >= 0 && u->n_hashed < u->hashing->file.bytes)
                return 0;
        (void) sd_event_source_set_enabled(u->hasher, SD_EVENT_OFF);
        if (r >= 0)
                r = hashed(u, &err);
        if (r < 0)
                upload_fail(u, r, err);
        else
                upload_go_on(u);
        return 0;
}

static int hash_begin(Upload *u, Part *part) {
        uint64_t offset = u->n_begun * u->part_bytes;

        part->number = ++u->n_begun;
        part->file = (HttpFile){ u->base.spec.fd, offset, MIN(u->part_bytes, u->size - offset) };
        u->hashing = part;
        u->n_hashed = 0;
        u->sha256 = digest_new();
        u->md5 = digest_new_md5();
        u->block = u->block ?: calloc(1, HASH_BLOCK_BYTES);
        if (!u->sha256 || !u->block)
                return -ENOMEM;
        return sd_event_source_set_enabled(u->hasher, SD_EVENT_ON);
}

static Part *idle_part(Upload *u) {
        for (size_t i = 0; i < TRANSFER_PARALLEL; i++)
                if (u->parts[i].number == 0)
                        return &u->parts[i];
        return NULL;
}

/* One part is hashed while others are sent. */
static void upload_go_on(Upload *u) {
        Part *part = idle_part(u);
        Error *err = NULL;
        int r = 0;

        if (u->n_done == u->n_parts)
                r = send_complete(u, &err);
        else if (part && !u->hashing && u->n_begun < u->n_parts)
                r = hash_begin(u, part);
        if (r < 0)
                upload_fail(u, r, err);
}

/* ---- the beginning of a multipart upload ---- */

static void created(Upload *u, const S3Answer *answer) {
        static const char *const names[] = { "UploadId" };
        const Buf *body = &answer->reply->body;
        Error *own = NULL;
        int r;

        r = xml_read_values(buf_str(body), body->size, names, 1, &u->id, &own);
        if (r >= 0 && str_is_empty(u->id)) {
                free(TAKE_PTR(u->id));
                r = error_set(&own, -EBADMSG, "the server began an upload without naming it");
        }
        if (r < 0)
                upload_fail(u, r, own);
        else
                upload_go_on(u);
}

static void on_created(void *userdata, int r, const S3Answer *answer, Error *err) {
        Upload *u = userdata;

        u->call = NULL;
        if (r == 0)
                created(u, answer);
        else if (r < 0)
                upload_fail_as(u, r, err);
        else
                upload_unexpected(u, r);
}

static int send_create(Upload *u, Error **reterr) {
        char query[] = "uploads=", *queries[] = { query, NULL };
        char type[] = "Content-Type: application/octet-stream", *headers[] = { type, NULL };
        S3Request request = {
                .method = "POST",
                .key = u->base.key,
                .query = queries,
                .headers = headers,
                .body = "",
                .max_bytes = LIMIT_XML_ERROR_BYTES,
                .on_done = on_created,
                .userdata = u,
        };

        return s3_send(u->base.s3, &request, &u->call, reterr);
}

static void upload_create(Upload *u) {
        Error *err = NULL;
        int r;

        r = send_create(u, &err);
        if (r < 0)
                upload_fail(u, r, err);
}

/* ---- what killed runs left ---- */

static void look_for_old(Upload *u);

static void on_old_aborted(void *userdata, _unused_ int r, _unused_ const S3Answer *answer,
                           _unused_ Error *err) {
        Upload *u = userdata;

        u->call = NULL;
        look_for_old(u);
}

/* False: there is none, or none of this key, or it cannot be read: there is nothing to clean. */
static bool listed(Upload *u, const S3Answer *answer) {
        static const char *const names[] = { "Key", "UploadId", "Initiated" };
        _cleanup_free_ char *key = NULL, *id = NULL, *initiated = NULL, *wanted = NULL;
        const Buf *body = &answer->reply->body;
        const char *prefix = s3_prefix(u->base.s3);
        char *values[ELEMENTS(names)] = { NULL };
        int r;

        r = xml_read_values(buf_str(body), body->size, names, ELEMENTS(names), values, NULL);
        if (r < 0)
                return false;
        key = values[0];
        id = values[1];
        initiated = values[2];
        wanted = str_format("%s%s%s", prefix, *prefix ? "/" : "", u->base.key);
        if (!wanted || !str_equal(key, wanted) || str_is_empty(id) || str_equal(id, u->marker))
                return false;

        free(u->marker);
        u->marker = strdup(id);
        if (!multipart_is_old(initiated, answer->date_usec, OLD_USEC))
                look_for_old(u);
        else if (send_abort(u, id, on_old_aborted, u, &u->call) < 0)
                return false;
        return true;
}

/* Whether it could be looked at or not, the upload goes on: a bucket's rule for unfinished uploads
 * cleans as well. */
static void on_listed(void *userdata, int r, const S3Answer *answer, _unused_ Error *err) {
        Upload *u = userdata;

        u->call = NULL;
        if (r != 0 || !listed(u, answer))
                upload_create(u);
}

/* One at a time: each answer has a single upload, whatever the server's order is. */
static int send_look(Upload *u) {
        const char *prefix = s3_prefix(u->base.s3);
        _cleanup_free_ char *full = str_format("%s%s%s", prefix, *prefix ? "/" : "", u->base.key);
        _cleanup_free_ char *wanted = str_format("prefix=%s", full ?: "");
        _cleanup_free_ char *key = str_format("key-marker=%s", full ?: "");
        _cleanup_free_ char *id = str_format("upload-id-marker=%s", u->marker ?: "");
        char uploads[] = "uploads=", most[] = "max-uploads=1";
        char *queries[] = { uploads, most, wanted, u->marker ? key : NULL, id, NULL };
        S3Request request = {
                .method = "GET",
                .query = queries,
                .max_bytes = LIMIT_XML_LIST_BYTES,
                .on_done = on_listed,
                .userdata = u,
        };

        if (!full || !wanted || !key || !id)
                return -ENOMEM;
        return s3_send(u->base.s3, &request, &u->call, NULL);
}

static void look_for_old(Upload *u) {
        if (u->n_looks++ >= LOOKS_MOST || send_look(u) < 0)
                upload_create(u);
}

/* ---- the beginning ---- */

static int measure(Upload *u, Error **reterr) {
        struct stat st;

        if (fstat(u->base.spec.fd, &st) < 0)
                return error_set(reterr, -errno, "look at the file: %s", strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(reterr, -EINVAL, "not a regular file");
        u->size = (uint64_t) st.st_size;
        u->part_bytes = MAX(PART_BYTES_MIN, u->size / PARTS_MOST + 1);
        if (is_single(u))
                u->part_bytes = MAX(u->size, UINT64_C(1));
        u->n_parts = (size_t) MAX((u->size + u->part_bytes - 1) / u->part_bytes, UINT64_C(1));
        u->etags = calloc(u->n_parts + 1, sizeof(char *));
        return u->etags ? 0 : error_set(reterr, -ENOMEM, "out of memory");
}

static int upload_begin(Upload *u, Error **reterr) {
        int r;

        r = measure(u, reterr);
        if (r < 0)
                return r;
        r = sd_event_add_defer(s3_loop(u->base.s3), &u->hasher, on_hash, u);
        if (r >= 0)
                r = sd_event_source_set_enabled(u->hasher, SD_EVENT_OFF);
        if (r >= 0)
                r = is_single(u) ? hash_begin(u, &u->parts[0]) : send_look(u);
        return r;
}

int transfer_upload(S3 *s3, const TransferSpec *spec, Transfer **ret, Error **reterr) {
        _cleanup_(transfer_freep) Transfer *t = NULL;
        Upload *u = calloc(1, sizeof(Upload));
        int r;

        if (!u)
                return error_set(reterr, -ENOMEM, "upload %s: out of memory", spec->key);
        t = &u->base;
        u->quota.tokens = RETRY_TOKENS;
        for (size_t i = 0; i < TRANSFER_PARALLEL; i++)
                u->parts[i].upload = u;
        r = transfer_init(t, &upload_kind, s3, spec);
        if (r >= 0)
                r = upload_begin(u, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "upload %s", spec->key);
        *ret = TAKE_PTR(t);
        return 0;
}
