#include "net/s3.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "net/s3call.h"
#include "net/transfer.h"
#include "store/backend.h"
#include "store/key.h"

/* Pages in a row that hold no key of ours, before a list is given up. */
#define EMPTY_PAGES 100

/* An answer that is not looked at. */
#define IGNORED_BYTES LIMIT_XML_ERROR_BYTES

/* One of the five calls while it is under way. */
typedef struct S3Op {
        S3 *s3;
        StoreCall *call;
        const StoreRequest *request; /* valid as long as the call */
        S3Call *sent;                /* at most one of these two is there */
        Transfer *transfer;
        char *start_after; /* list: where the next page begins, in the bucket; NULL: as asked */
        unsigned n_pages;
        bool is_bare; /* the write was repeated so */
} S3Op;

/* ---- life of an operation ---- */

static S3Op *op_free(S3Op *op) {
        if (!op)
                return NULL;
        op->sent = s3_cancel(op->sent);
        op->transfer = transfer_cancel(op->transfer);
        free(op->start_after);
        free(op);
        return NULL;
}
DEFINE_CLEANUP(S3Op, op_free);

static void op_end(S3Op *op, int r, const StoreReply *reply, Error *err) {
        StoreCall *call = op->call;

        (void) op_free(op);
        store_call_end(call, r, reply, err);
}

/* words NULL: those of r. */
static void op_fail(S3Op *op, int r, const char *words) {
        Error *err = NULL;

        (void) error_set(&err, r, "%s/%s: %s", s3_url(op->s3), op->request->key,
                         words ?: strerror(-r));
        op_end(op, r, NULL, err);
}

/* What ended an inner call. */
static void op_hand_on(S3Op *op, int r, const Error *inner) {
        Error *err = NULL;

        if (inner)
                (void) error_set(&err, r, "%s", error_text(inner));
        op_end(op, r, NULL, err);
}

typedef int (*OpStart)(S3Op *op);

static int op_begin(S3 *s3, StoreCall *call, const StoreRequest *request, OpStart start) {
        _cleanup_(op_freep) S3Op *op = calloc(1, sizeof(S3Op));
        int r;

        if (!op)
                return -ENOMEM;
        op->s3 = s3;
        op->call = call;
        op->request = request;
        r = start(op);
        if (r < 0)
                return r;
        store_call_set_data(call, TAKE_PTR(op));
        return 0;
}

/* The next request of one that has begun: its failure is the operation's. */
static void op_go_on(S3Op *op, OpStart start) {
        int r;

        r = start(op);
        if (r < 0)
                op_fail(op, r, NULL);
}

static int op_send(S3Op *op, S3Request *request, S3Done on_done) {
        request->on_done = on_done;
        request->userdata = op;
        return s3_send(op->s3, request, &op->sent, NULL);
}

static StoreReply reply_of(const S3Answer *answer) {
        return (StoreReply){
                .etag = answer->etag,
                .age_usec = USEC_INFINITY,
                .date_usec = answer->date_usec,
        };
}

/* ---- get ---- */

/* Both by the server's clock, and of one answer. */
static usec_t age_of(const S3Answer *answer) {
        if (answer->date_usec == 0 || answer->modified_usec == 0)
                return USEC_INFINITY;
        return answer->date_usec > answer->modified_usec ? answer->date_usec - answer->modified_usec
                                                         : 0;
}

static void get_read(S3Op *op, const S3Answer *answer) {
        StoreReply reply = reply_of(answer);

        reply.age_usec = age_of(answer);
        if (answer->reply->status == 304) {
                /* Ceph leaves it out. */
                reply.etag = op->request->etag;
                op_end(op, STORE_UNCHANGED, &reply, NULL);
                return;
        }
        if (!reply.etag) {
                op_fail(op, -EBADMSG, "the server answered without an ETag");
                return;
        }
        reply.body = buf_str(&answer->reply->body);
        reply.body_size = answer->reply->body.size;
        op_end(op, 0, &reply, NULL);
}

static void get_on_done(void *userdata, int r, const S3Answer *answer, Error *err) {
        S3Op *op = userdata;
        StoreReply reply = reply_of(answer);

        op->sent = NULL;
        if (r == 0)
                get_read(op, answer);
        else if (r == S3_ABSENT)
                op_end(op, STORE_ABSENT, &reply, NULL);
        else if (r == S3_REFUSED)
                op_fail(op, -EBADMSG, "the server refused a read for a condition that it had not");
        else if (r == -EFBIG)
                op_fail(op, r, "it is larger than any document: it is fetched to a file, not read");
        else
                op_hand_on(op, r, err);
}

static int get_start(S3Op *op) {
        _cleanup_free_ char *header = NULL;
        char *headers[] = { NULL, NULL };
        S3Request request = {
                .method = "GET",
                .key = op->request->key,
                .headers = headers,
                .max_bytes = LIMIT_DOCUMENT_BYTES,
        };

        if (op->request->etag) {
                header = str_format("If-None-Match: \"%s\"", op->request->etag);
                if (!header)
                        return -ENOMEM;
                headers[0] = header;
        }
        return op_send(op, &request, get_on_done);
}

static int backend_get(void *self, StoreCall *call, const StoreRequest *request) {
        return op_begin(self, call, request, get_start);
}

/* ---- writes by ETag: which form of it does the server want ---- */

static void write_on_done(void *userdata, int r, const S3Answer *answer, Error *err);

static int write_start(S3Op *op) {
        const StoreRequest *q = op->request;
        char *headers[] = { NULL, NULL };
        S3Request request = {
                .method = q->body ? "PUT" : "DELETE",
                .key = q->key,
                .headers = headers,
                .etag = q->etag,
                .bare_etag = op->is_bare,
                .if_absent = q->condition == STORE_IF_ABSENT,
                .body = q->body,
                .body_bytes = q->body_size,
                .max_bytes = IGNORED_BYTES,
                .once = q->condition != STORE_ALWAYS,
        };
        char json[] = "Content-Type: application/json";
        char bytes[] = "Content-Type: application/octet-stream";

        if (q->body)
                headers[0] = str_has_suffix(q->key, ".json") ? json : bytes;
        return op_send(op, &request, write_on_done);
}

static void write_end(S3Op *op, int r, const S3Answer *answer) {
        StoreReply reply = reply_of(answer);

        if (r == S3_REFUSED && op->request->condition == STORE_ALWAYS) {
                op_fail(op, -EAGAIN, "another write of it was under way: try again");
                return;
        }
        if (r == 0 && op->request->body && !reply.etag) {
                op_fail(op, -EBADMSG, "the server wrote it and answered without an ETag");
                return;
        }
        if (r != 0)
                reply.etag = NULL;
        op_end(op, r == 0 ? 0 : STORE_REFUSED, &reply, NULL);
}

/* What stands there: if it is what the write was refused for, the form was wrong. */
static void head_on_done(void *userdata, int r, const S3Answer *answer, Error *err) {
        S3Op *op = userdata;

        op->sent = NULL;
        if (r < 0)
                op_hand_on(op, r, err);
        else if (r == 0 && str_equal(answer->etag, op->request->etag)) {
                op->is_bare = true;
                op_go_on(op, write_start);
        } else
                write_end(op, S3_REFUSED, answer);
}

static int head_start(S3Op *op) {
        S3Request request = { .method = "HEAD", .key = op->request->key };

        return op_send(op, &request, head_on_done);
}

static void write_on_done(void *userdata, int r, const S3Answer *answer, Error *err) {
        S3Op *op = userdata;
        const StoreRequest *q = op->request;

        op->sent = NULL;
        if (r == S3_REFUSED && q->etag && !op->is_bare && s3_etag_is_unknown(op->s3))
                op_go_on(op, head_start);
        else if (r == S3_ABSENT && !q->body)
                op_end(op, STORE_ABSENT, NULL, NULL);
        else if (r == S3_ABSENT && !q->etag)
                op_fail(op, -EINVAL, "the server answered a write with \"not found\"");
        else if (r >= 0)
                write_end(op, r, answer);
        else
                op_hand_on(op, r, err);
}

/* ---- transfers ---- */

static void op_on_progress(void *userdata, uint64_t n_bytes, uint64_t size) {
        const S3Op *op = userdata;

        op->request->progress(op->request->userdata, n_bytes, size);
}

static void transfer_on_done(void *userdata, int r, const char *etag, uint64_t size, Error *err) {
        StoreReply reply = { .age_usec = USEC_INFINITY, .etag = etag, .size = size };
        S3Op *op = userdata;

        op->transfer = NULL;
        if (r < 0)
                op_hand_on(op, r, err);
        else
                op_end(op, r, &reply, NULL);
}

static TransferSpec transfer_spec(S3Op *op) {
        return (TransferSpec){
                .key = op->request->key,
                .fd = op->request->fd,
                .map_fd = -EBADF,
                .progress = op->request->progress ? op_on_progress : NULL,
                .done = transfer_on_done,
                .userdata = op,
        };
}

static int fetch_start(S3Op *op) {
        TransferSpec spec = transfer_spec(op);

        spec.map_fd = op->request->map_fd;
        spec.if_match = op->request->etag;
        return transfer_fetch(op->s3, &spec, &op->transfer, NULL);
}

static int backend_fetch(void *self, StoreCall *call, const StoreRequest *request) {
        return op_begin(self, call, request, fetch_start);
}

static int upload_start(S3Op *op) {
        TransferSpec spec = transfer_spec(op);

        spec.if_match = op->request->condition == STORE_IF_MATCHES ? op->request->etag : NULL;
        spec.if_absent = op->request->condition == STORE_IF_ABSENT;
        return transfer_upload(op->s3, &spec, &op->transfer, NULL);
}

static int backend_put(void *self, StoreCall *call, const StoreRequest *request) {
        return op_begin(self, call, request, request->body ? write_start : upload_start);
}

static int backend_delete(void *self, StoreCall *call, const StoreRequest *request) {
        return op_begin(self, call, request, write_start);
}

/* ---- list ---- */

/*
 * Pages go on behind the last key, never by continuation token: a token would have to be kept for
 * as long as a caller thinks, and some servers forget theirs. encoding-type=url, because a key that
 * XML cannot hold would else make every list that it is on unreadable.
 */

/* The part of a key of the bucket that is a key of the store; NULL: it is not one (a "folder" that
 * a console made, a name that nobody here would write). */
static char *key_in_store(const S3 *s3, char *key) {
        const char *prefix = s3_prefix(s3);
        size_t size = strlen(prefix);

        if (size > 0) {
                if (!str_has_prefix(key, prefix) || key[size] != '/')
                        return NULL;
                key += size + 1;
        }
        return key_is_valid(key) ? key : NULL;
}

static bool is_in_order(const XmlList *list) {
        for (size_t i = 1; i < list->n_entries; i++) {
                const char *before = list->entries[i - 1].key, *key = list->entries[i].key;

                assert(before && key);
                if (strcmp(before, key) >= 0)
                        return false;
        }
        return true;
}

static int list_start(S3Op *op);

/* Nothing of ours on this page: the next one begins behind its last key. */
static void list_skip_page(S3Op *op, const XmlList *list) {
        const char *last;

        if (list->n_entries == 0 || ++op->n_pages >= EMPTY_PAGES) {
                op_fail(op, -EBADMSG, "the server's list goes on and on without a document");
                return;
        }
        last = list->entries[list->n_entries - 1].key;
        assert(last);
        free(op->start_after);
        op->start_after = strdup(last);
        if (!op->start_after)
                op_fail(op, -ENOMEM, NULL);
        else
                op_go_on(op, list_start);
}

static void list_tell(S3Op *op, const XmlList *list, const S3Answer *answer) {
        _cleanup_free_ StoreEntry *entries = calloc(list->n_entries + 1, sizeof(StoreEntry));
        StoreReply reply = reply_of(answer);

        if (!entries) {
                op_fail(op, -ENOMEM, NULL);
                return;
        }
        for (size_t i = 0; i < list->n_entries; i++) {
                StoreEntry entry = list->entries[i];

                entry.key = key_in_store(op->s3, entry.key);
                if (entry.key)
                        entries[reply.n_entries++] = entry;
        }
        if (reply.n_entries == 0 && list->truncated) {
                list_skip_page(op, list);
                return;
        }
        reply.etag = NULL;
        reply.entries = entries;
        reply.more = list->truncated;
        op_end(op, 0, &reply, NULL);
}

static void list_on_done(void *userdata, int r, const S3Answer *answer, Error *err) {
        _cleanup_(xml_list_done) XmlList list = { 0 };
        _cleanup_(error_freep) Error *own = NULL;
        S3Op *op = userdata;
        const Buf *body;

        op->sent = NULL;
        if (r > 0) {
                op_fail(op, -ENOENT, "there is no such bucket: check the store's URL");
                return;
        }
        if (r < 0) {
                op_hand_on(op, r, err);
                return;
        }
        body = &answer->reply->body;
        r = xml_read_list(buf_str(body), body->size, &list, &own);
        if (r < 0)
                op_fail(op, r, error_text(own));
        else if (!is_in_order(&list))
                op_fail(op, -EBADMSG, "the server's list is not in the order of its keys");
        else
                list_tell(op, &list, answer);
}

/* "name=prefix/key" of the query. */
static char *query_key(const S3 *s3, const char *name, const char *key) {
        const char *prefix = s3_prefix(s3);

        return str_format("%s=%s%s%s", name, prefix, prefix[0] ? "/" : "", key);
}

static int list_start(S3Op *op) {
        _cleanup_free_ char *prefix = query_key(op->s3, "prefix", op->request->key), *after = NULL;
        char type[] = "list-type=2", encoding[] = "encoding-type=url", most[] = "max-keys=1000";
        char *query[] = { type, encoding, most, prefix, NULL, NULL };
        S3Request request = {
                .method = "GET",
                .query = query,
                .max_bytes = LIMIT_XML_LIST_BYTES,
        };

        _Static_assert(LIMIT_LIST_KEYS == 1000, "one page is one answer");
        if (op->start_after)
                after = str_format("start-after=%s", op->start_after);
        else if (!str_is_empty(op->request->start_after))
                after = query_key(op->s3, "start-after", op->request->start_after);
        if (!prefix || ((op->start_after || !str_is_empty(op->request->start_after)) && !after))
                return -ENOMEM;
        query[4] = after;
        return op_send(op, &request, list_on_done);
}

static int backend_list(void *self, StoreCall *call, const StoreRequest *request) {
        return op_begin(self, call, request, list_start);
}

/* ---- the store ---- */

static void backend_cancel(_unused_ void *self, StoreCall *call) {
        (void) op_free(store_call_data(call));
}

static void *backend_free(void *self) {
        return s3_free(self);
}

static const StoreBackend s3_backend = {
        .get = backend_get,
        .put = backend_put,
        .list = backend_list,
        .delete = backend_delete,
        .fetch = backend_fetch,
        .cancel = backend_cancel,
        .free = backend_free,
};

int store_s3_new(S3 *s3, Store **ret, Error **reterr) {
        int r;

        r = store_new(&s3_backend, s3, s3_url(s3), ret);
        return r < 0 ? error_wrap(reterr, r, "store %s", s3_url(s3)) : 0;
}
