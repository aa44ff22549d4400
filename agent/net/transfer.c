#include "net/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/backoff.h"
#include "base/str.h"
#include "net/map.h"
#include "net/transferbase.h"

/* ---- what every transfer is ---- */

/* Progress is for people and for deadlines of callers; the map is written every fifth time. */
#define TICK_USEC      MSEC(200)
#define TICKS_OF_LOOKS 5

/* False: whoever was told has cancelled it. */
static bool tell(Transfer *t, uint64_t n, uint64_t size) {
        bool gone = false;

        if (!t->spec.progress || n == t->n_told)
                return true;
        t->n_told = n;
        t->gone = &gone;
        t->spec.progress(t->spec.userdata, n, size);
        if (!gone)
                t->gone = NULL;
        return !gone;
}

static int on_tick(sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        Transfer *t = userdata;
        uint64_t n, size;

        if (t->kind->look && ++t->n_looks % TICKS_OF_LOOKS == 0)
                t->kind->look(t);
        (void) sd_event_source_set_time_relative(source, TICK_USEC);
        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        if (t->kind->count(t, &n, &size))
                (void) tell(t, n, size);
        return 0;
}

int transfer_init(Transfer *t, const TransferKind *kind, S3 *s3, const TransferSpec *spec) {
        t->kind = kind;
        t->s3 = s3;
        t->spec = *spec;
        t->key = strdup(spec->key);
        t->if_match = spec->if_match ? strdup(spec->if_match) : NULL;
        if (!t->key || (spec->if_match && !t->if_match))
                return -ENOMEM;
        t->spec.key = t->key;
        t->spec.if_match = t->if_match;
        return sd_event_add_time_relative(s3_loop(s3), &t->timer, CLOCK_MONOTONIC, TICK_USEC, 0,
                                          on_tick, t);
}

Transfer *transfer_free(Transfer *t) {
        if (!t)
                return NULL;

        if (t->gone)
                *t->gone = true;
        if (t->kind)
                t->kind->stop(t);
        t->timer = sd_event_source_disable_unref(t->timer);
        free(t->key);
        free(t->if_match);
        free(t);
        return NULL;
}

Transfer *transfer_cancel(Transfer *transfer) {
        return transfer_free(transfer);
}

void transfer_end(Transfer *t, int r, const char *etag, uint64_t size, Error *err) {
        _cleanup_(error_freep) Error *own = err;
        char copy[MAP_ETAG_BYTES + 1] = "";
        TransferDone done = t->spec.done;
        void *userdata = t->spec.userdata;

        if (r == 0 && !tell(t, size, size))
                return;
        (void) snprintf(copy, sizeof(copy), "%s", etag ?: "");
        (void) transfer_free(t);
        done(userdata, r, r == 0 ? copy : NULL, r == 0 ? size : 0, own);
}

int transfer_parse_range(const char *text, uint64_t *ret_begin, uint64_t *ret_end,
                         uint64_t *ret_total) {
        static const char unit[] = "bytes ";
        _cleanup_free_ char *copy = NULL;
        uint64_t begin, end, total;
        char *dash, *slash;

        if (!text || !str_has_prefix(text, unit))
                return -EINVAL;
        copy = strdup(text + strlen(unit));
        if (!copy)
                return -ENOMEM;
        dash = strchr(copy, '-');
        slash = dash ? strchr(dash, '/') : NULL;
        if (!slash)
                return -EINVAL;
        *dash = *slash = 0;
        if (str_to_u64(copy, &begin) < 0 || str_to_u64(dash + 1, &end) < 0 ||
            str_to_u64(slash + 1, &total) < 0 || begin > end || end >= total)
                return -EINVAL;

        *ret_begin = begin;
        *ret_end = end;
        *ret_total = total;
        return 0;
}

/* ---- fetch ---- */

/* The first request of a run: it shows ETag and size, and brings small objects whole. Only then
 * are ranges asked for in parallel. */
#define FIRST_BYTES (UINT64_C(1) * 1024 * 1024)

/* So much in one try is progress: the tries before it count no more. */
#define PROGRESS_BYTES (UINT64_C(256) * 1024)

typedef struct Fetch Fetch;

/* One request under way, or waiting to be tried again. */
typedef struct Slot {
        Fetch *fetch;
        S3Call *call;
        sd_event_source *timer;
        HttpFile file; /* what is asked for, in one range or several that follow each other */
        uint64_t came; /* in this try */
        RetryState retry;
} Slot;

struct Fetch {
        Transfer base;
        Map map;
        uint32_t stored[MAP_RANGES_MAX]; /* what the map file says */
        bool confirmed;                  /* an answer of this run was of map's object */
        bool no_range;                   /* ask for the object as a whole: it is empty */
        RetryQuota quota;
        Slot slots[TRANSFER_PARALLEL];
};

static Fetch *fetch_of(Transfer *t) {
        return (Fetch *) t;
}

static bool slot_is_idle(const Slot *slot) {
        return !slot->call && !slot->timer;
}

static bool has_map(const Fetch *f) {
        return f->base.spec.map_fd >= 0;
}

/* So much of what was asked for is there: it is said of each range of it. */
static void note(Fetch *f, const Slot *slot, uint64_t came) {
        uint64_t end = slot->file.offset + slot->file.bytes, upto = slot->file.offset + came;

        for (size_t i = slot->file.offset / TRANSFER_RANGE_BYTES;
             i < f->map.n_ranges && i * TRANSFER_RANGE_BYTES < end; i++) {
                uint64_t begin = i * TRANSFER_RANGE_BYTES;
                uint64_t reached = MAX(begin, MAX(upto, slot->file.offset)) - begin;

                f->map.got[i] = (uint32_t) MIN(reached, (uint64_t) map_range_bytes(&f->map, i));
        }
}

/* What came of ranges that are still under way. An answer is known to be of the right place only
 * at its end; until then it is believed, because this server has shown that it knows ranges, and
 * a digest stands behind all of it. */
static void note_slots(Fetch *f) {
        for (size_t i = 0; i < TRANSFER_PARALLEL; i++)
                if (f->confirmed && f->slots[i].call)
                        note(f, &f->slots[i], f->slots[i].came);
}

/* A map that cannot be written says less than there is, which costs time and nothing else. */
static void save(Fetch *f) {
        for (size_t i = 0; has_map(f) && i < f->map.n_ranges; i++)
                if (f->stored[i] != f->map.got[i] &&
                    map_store_range(f->base.spec.map_fd, &f->map, i) == 0)
                        f->stored[i] = f->map.got[i];
}

static void fetch_look(Transfer *t) {
        note_slots(fetch_of(t));
        save(fetch_of(t));
}

static bool fetch_count(Transfer *t, uint64_t *ret_done, uint64_t *ret_size) {
        Fetch *f = fetch_of(t);

        note_slots(f);
        *ret_done = map_have(&f->map);
        *ret_size = f->map.size;
        return f->confirmed;
}

static void slot_clear(Slot *slot) {
        slot->call = s3_cancel(slot->call);
        slot->timer = sd_event_source_disable_unref(slot->timer);
        slot->retry = (RetryState){ 0 };
}

static void fetch_stop(Transfer *t) {
        Fetch *f = fetch_of(t);

        fetch_look(t);
        for (size_t i = 0; i < TRANSFER_PARALLEL; i++)
                slot_clear(&f->slots[i]);
}

static const TransferKind fetch_kind = { fetch_count, fetch_look, fetch_stop };

static void fetch_end(Fetch *f, int r, Error *err) {
        transfer_end(&f->base, r, f->map.etag, f->map.size, err);
}

/* The disk's own words say neither how much is wanted nor by whom. */
static Error *no_space(const Fetch *f, int r) {
        uint64_t left = f->map.size - map_have(&f->map);
        Error *err = NULL;

        (void) error_set(&err, r,
                         "%s: %llu of its %llu bytes are still to come: make room for them",
                         strerror(-r), (unsigned long long) left, (unsigned long long) f->map.size);
        return err;
}

static void fetch_fail(Fetch *f, int r, Error *err) {
        if (f->confirmed && (r == -ENOSPC || r == -EDQUOT)) {
                (void) error_free(err);
                err = no_space(f, r);
        }
        (void) error_wrap(&err, r, "fetch %s", f->base.key);
        fetch_end(f, r, err);
}

/* ---- asking ---- */

static void on_slot_done(void *userdata, int r, const S3Answer *answer, Error *err);

/* A range that became whole is noted at once. */
static void on_slot_bytes(void *userdata, uint64_t n_bytes) {
        Slot *slot = userdata;
        uint64_t before = slot->file.offset + slot->came;

        slot->came += n_bytes;
        if (slot->fetch->confirmed &&
            before / TRANSFER_RANGE_BYTES != (before + n_bytes) / TRANSFER_RANGE_BYTES) {
                note(slot->fetch, slot, slot->came);
                save(slot->fetch);
        }
}

static void on_slot_restart(void *userdata) {
        Slot *slot = userdata;

        slot->came = 0;
}

/* Each try is one request: what has come of it need not come again with the next. */
static int slot_send(Slot *slot, Error **reterr) {
        Fetch *f = slot->fetch;
        _cleanup_free_ char *range =
                str_format("Range: bytes=%llu-%llu", (unsigned long long) slot->file.offset,
                           (unsigned long long) (slot->file.offset + slot->file.bytes - 1));
        char *headers[] = { f->no_range ? NULL : range, NULL };
        S3Request request = {
                .method = "GET",
                .key = f->base.key,
                .headers = headers,
                .etag = f->map.etag[0] ? f->map.etag : f->base.if_match,
                .answer_file = &slot->file,
                .once = true,
                .max_bytes = LIMIT_XML_ERROR_BYTES,
                .stall_usec = TRANSFER_STALL_USEC,
                .total_usec = TRANSFER_TOTAL_USEC,
                .on_bytes = on_slot_bytes,
                .on_again = on_slot_restart,
                .on_done = on_slot_done,
                .userdata = slot,
        };

        slot->came = 0;
        if (!range)
                return error_set(reterr, -ENOMEM, "out of memory");
        return s3_send(f->base.s3, &request, &slot->call, reterr);
}

static int slot_ask(Slot *slot, uint64_t offset, uint64_t bytes, Error **reterr) {
        slot->file = (HttpFile){ .fd = slot->fetch->base.spec.fd, offset, bytes };
        return slot_send(slot, reterr);
}

static uint64_t range_left(const Map *map, size_t range) {
        return map_range_bytes(map, range) - map->got[range];
}

static int ask_first(Fetch *f, Error **reterr) {
        const Map *map = &f->map;

        f->confirmed = false;
        if (!map->etag[0])
                return slot_ask(&f->slots[0], 0, FIRST_BYTES, reterr);
        for (size_t i = 0; i < map->n_ranges; i++)
                if (range_left(map, i) > 0)
                        return slot_ask(&f->slots[0], i * TRANSFER_RANGE_BYTES + map->got[i],
                                        MIN(range_left(map, i), FIRST_BYTES), reterr);
        /* All is there: whether it still is that object. */
        return slot_ask(&f->slots[0], map->size - 1, 1, reterr);
}

static bool range_is_asked(const Fetch *f, size_t range) {
        uint64_t begin = range * TRANSFER_RANGE_BYTES, end = begin + TRANSFER_RANGE_BYTES;

        for (size_t i = 0; i < TRANSFER_PARALLEL; i++) {
                const HttpFile *file = &f->slots[i].file;

                if (!slot_is_idle(&f->slots[i]) && file->offset < end &&
                    begin < file->offset + file->bytes)
                        return true;
        }
        return false;
}

/* The fewer bytes are left, the smaller are the pieces: few requests, and all slots end together.
 */
static uint64_t piece_bytes(const Fetch *f) {
        uint64_t left = 0;

        for (size_t i = 0; i < f->map.n_ranges; i++)
                if (!range_is_asked(f, i))
                        left += range_left(&f->map, i);
        left = left / (2 * TRANSFER_PARALLEL) + TRANSFER_RANGE_BYTES - 1;
        return MAX(left - left % TRANSFER_RANGE_BYTES, TRANSFER_RANGE_BYTES);
}

/* What is missing and not asked for: the rest of a range, and whole ones behind it. False: none. */
static bool next_piece(const Fetch *f, uint64_t *ret_offset, uint64_t *ret_bytes) {
        const Map *map = &f->map;
        uint64_t most = piece_bytes(f), bytes;
        size_t i = 0;

        while (i < map->n_ranges && (range_left(map, i) == 0 || range_is_asked(f, i)))
                i++;
        if (i == map->n_ranges)
                return false;
        *ret_offset = i * TRANSFER_RANGE_BYTES + map->got[i];
        bytes = range_left(map, i++);
        while (i < map->n_ranges && bytes + range_left(map, i) <= most && map->got[i] == 0 &&
               !range_is_asked(f, i))
                bytes += range_left(map, i++);
        *ret_bytes = bytes;
        return true;
}

static int finish(Fetch *f, Error **reterr) {
        struct stat st;

        /* Nothing of something else may stand behind it. */
        if (fstat(f->base.spec.fd, &st) < 0 ||
            ((uint64_t) st.st_size > f->map.size &&
             ftruncate(f->base.spec.fd, (off_t) f->map.size) < 0))
                return error_set(reterr, -errno, "truncate the file: %s", strerror(errno));
        return 0;
}

/* What a range has brought is only believed until its answer was looked at as a whole. */
static bool is_asking(const Fetch *f) {
        for (size_t i = 0; i < TRANSFER_PARALLEL; i++)
                if (!slot_is_idle(&f->slots[i]))
                        return true;
        return false;
}

static void fetch_go_on(Fetch *f) {
        uint64_t offset, bytes;
        Error *err = NULL;
        int r = 0;

        for (size_t i = 0; i < TRANSFER_PARALLEL && r >= 0; i++)
                if (slot_is_idle(&f->slots[i]) && next_piece(f, &offset, &bytes))
                        r = slot_ask(&f->slots[i], offset, bytes, &err);
        if (r >= 0 && (!map_is_whole(&f->map) || is_asking(f)))
                return;
        if (r >= 0)
                r = finish(f, &err);
        if (r < 0)
                fetch_fail(f, r, err);
        else
                fetch_end(f, 0, NULL);
}

/* ---- beginning anew ---- */

/* The map first: it may not speak of bytes that are not there. */
static int forget(Fetch *f, Error **reterr) {
        f->map = (Map){ 0 };
        memset(f->stored, 0, sizeof(f->stored));
        f->no_range = false;
        if (has_map(f) && ftruncate(f->base.spec.map_fd, 0) < 0)
                return error_set(reterr, -errno, "truncate the map: %s", strerror(errno));
        if (ftruncate(f->base.spec.fd, 0) < 0)
                return error_set(reterr, -errno, "truncate the file: %s", strerror(errno));
        return 0;
}

/* It is not the object (any more) that the map or the caller speaks of. */
static void fetch_replaced(Fetch *f) {
        Error *err = NULL;
        int r;

        if (f->confirmed || !f->map.etag[0] || f->base.if_match) {
                fetch_end(f, STORE_REFUSED, NULL);
                return;
        }
        r = forget(f, &err);
        if (r >= 0)
                r = ask_first(f, &err);
        if (r < 0)
                fetch_fail(f, r, err);
}

/* ---- answers ---- */

/* What an answer says that it is. */
typedef struct Piece {
        uint64_t begin, bytes, total;
} Piece;

static int read_piece(const S3Answer *answer, Piece *ret, Error **reterr) {
        const HttpReply *reply = answer->reply;
        const char *text = http_reply_header(reply, "Content-Range");
        uint64_t begin, end, total;

        if (str_is_empty(answer->etag) || strlen(answer->etag) > MAP_ETAG_BYTES)
                return error_set(reterr, -EBADMSG, "the server gives the object no ETag");
        if (reply->status == 200) {
                *ret = (Piece){ .bytes = reply->n_file, .total = reply->n_file };
                return 0;
        }
        if (reply->status != 206)
                return error_set(reterr, -EBADMSG, "the server answered with status %u",
                                 reply->status);
        if (transfer_parse_range(text, &begin, &end, &total) < 0)
                return error_set(reterr, -EBADMSG, "the server gave bytes without saying which");
        *ret = (Piece){ begin, end - begin + 1, total };
        return 0;
}

/* Less than was asked for is good, elsewhere or more is not. */
static int check_piece(const Slot *slot, const Piece *piece, uint64_t came, Error **reterr) {
        if (piece->begin != slot->file.offset || piece->bytes > slot->file.bytes ||
            piece->bytes != came)
                return error_set(reterr, -EBADMSG,
                                 "the server gave bytes from %llu on (%llu said, %llu sent), where "
                                 "%llu from %llu on were asked for",
                                 (unsigned long long) piece->begin,
                                 (unsigned long long) piece->bytes, (unsigned long long) came,
                                 (unsigned long long) slot->file.bytes,
                                 (unsigned long long) slot->file.offset);
        return 0;
}

/* All of it at once: a disk that is too full says so now, not after most of it has come. The length
 * stays what was written. Where a file system cannot do that, writing will tell. */
static int take_room(const Fetch *f) {
        int fd = f->base.spec.fd, r = 0;

        if (f->map.size > 0 && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t) f->map.size) < 0)
                r = -errno;
        if (r != -ENOSPC && r != -EDQUOT)
                return 0;
        (void) !ftruncate(fd, 0); /* gives back what it got */
        return r;
}

/* The first answer of a run. */
static int confirm(Fetch *f, const char *etag, uint64_t size, Error **reterr) {
        int r;

        f->confirmed = true;
        if (f->map.etag[0])
                return 0;
        r = map_begin(etag, size, &f->map);
        if (r == -EFBIG)
                return error_set(reterr, r, "it has %llu bytes, more than the maximum of %llu",
                                 (unsigned long long) size,
                                 (unsigned long long) LIMIT_BUNDLE_BYTES);
        if (r < 0)
                return error_set(reterr, -EBADMSG, "the server's ETag is none");
        r = take_room(f);
        if (r < 0)
                return r;
        if (has_map(f))
                (void) map_store(f->base.spec.map_fd, &f->map);
        return 0;
}

/* Bytes that did not come as they were asked for are not there, though an earlier look may have
 * believed so. */
static void slot_disbelieve(const Slot *slot) {
        if (slot->fetch->confirmed)
                note(slot->fetch, slot, 0);
}

static void slot_fail(Slot *slot, int r, Error *err) {
        slot_disbelieve(slot);
        fetch_fail(slot->fetch, r, err);
}

static void slot_got(Slot *slot, const S3Answer *answer) {
        Fetch *f = slot->fetch;
        Error *err = NULL;
        Piece piece = { 0 };
        int r;

        r = read_piece(answer, &piece, &err);
        if (r >= 0 && f->map.etag[0] &&
            (!str_equal(answer->etag, f->map.etag) || piece.total != f->map.size)) {
                slot_disbelieve(slot);
                fetch_replaced(f);
                return;
        }
        if (r >= 0)
                r = check_piece(slot, &piece, answer->reply->n_file, &err);
        if (r >= 0 && !f->confirmed)
                r = confirm(f, answer->etag, piece.total, &err);
        if (r < 0) {
                slot_fail(slot, r, err);
                return;
        }

        note(f, slot, piece.bytes);
        save(f);
        retry_succeeded(&slot->retry, &f->quota);
        slot->retry = (RetryState){ 0 };
        fetch_go_on(f);
}

static int on_slot_again(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        Slot *slot = userdata;
        Error *err = NULL;
        int r;

        slot->timer = sd_event_source_disable_unref(slot->timer);
        r = slot_send(slot, &err);
        if (r < 0)
                fetch_fail(slot->fetch, r, err);
        return 0;
}

/* What has come stays, where it is known to be of this object; the next try asks for the rest. */
static bool slot_keep(Slot *slot) {
        Fetch *f = slot->fetch;
        bool is_progress = slot->came >= PROGRESS_BYTES;

        if (!f->confirmed)
                return false;
        note(f, slot, slot->came);
        save(f);
        slot->came = MIN(slot->came, slot->file.bytes);
        slot->file.offset += slot->came;
        slot->file.bytes -= slot->came;
        slot->came = 0;
        return is_progress;
}

static void slot_again(Slot *slot, RetryClass why, Error *err) {
        Fetch *f = slot->fetch;
        usec_t delay;
        int r;

        if (slot->file.bytes == 0) { /* it was cut behind its last byte */
                (void) error_free(err);
                retry_succeeded(&slot->retry, &f->quota);
                slot->retry = (RetryState){ 0 };
                fetch_go_on(f);
                return;
        }
        if (!retry_decide(&slot->retry, &f->quota, why, backoff_chance(), &delay)) {
                fetch_fail(f, error_code(err), err);
                return;
        }
        r = sd_event_add_time_relative(s3_loop(f->base.s3), &slot->timer, CLOCK_MONOTONIC, delay, 0,
                                       on_slot_again, slot);
        if (r < 0)
                fetch_fail(f, r, err);
        else
                (void) error_free(err);
}

/* No range of an empty object can be given. */
static void slot_out_of_range(Slot *slot) {
        Fetch *f = slot->fetch;
        Error *err = NULL;
        int r;

        if (f->map.etag[0]) {
                fetch_replaced(f);
                return;
        }
        f->no_range = true;
        r = slot_send(slot, &err);
        if (r < 0)
                fetch_fail(f, r, err);
}

/* More than was asked for: the server does not know ranges, or is none of ours. */
static void slot_too_much(Slot *slot) {
        Error *err = NULL;

        (void) error_set(
                &err, -EBADMSG,
                "the server gave more than the %llu bytes that were asked for from %llu on",
                (unsigned long long) slot->file.bytes, (unsigned long long) slot->file.offset);
        slot_fail(slot, -EBADMSG, err);
}

static void slot_lost(Slot *slot, int r, const S3Answer *answer, const Error *err) {
        const HttpReply *reply = answer->reply;
        Error *own = NULL;
        RetryClass why;
        bool is_progress;

        if (r == -EFBIG) {
                slot_too_much(slot);
                return;
        }
        if (reply && reply->status == 416 && !slot->fetch->no_range) {
                slot_out_of_range(slot);
                return;
        }
        why = reply ? retry_classify(0, reply->status, answer->error ? answer->error->code : NULL,
                                     0)
                    : retry_classify(r, 0, NULL, 0);
        (void) error_set(&own, r, "%s", error_text(err));
        is_progress = slot_keep(slot);
        if (is_progress)
                slot->retry = (RetryState){ .n_spent = slot->retry.n_spent };
        slot_again(slot, why, own);
}

static void on_slot_done(void *userdata, int r, const S3Answer *answer, Error *err) {
        Slot *slot = userdata;

        slot->call = NULL;
        if (r == 0)
                slot_got(slot, answer);
        else if (r < 0)
                slot_lost(slot, r, answer, err);
        else if (r == S3_ABSENT)
                fetch_end(slot->fetch, STORE_ABSENT, NULL);
        else
                fetch_replaced(slot->fetch);
}

/* ---- the beginning ---- */

/* What an earlier run left, if it is of the object that is wanted. */
static bool take_map(Fetch *f) {
        const TransferSpec *spec = &f->base.spec;
        struct stat st;

        if (!has_map(f) || map_load(spec->map_fd, &f->map) < 0 || fstat(spec->fd, &st) < 0)
                return false;
        memcpy(f->stored, f->map.got, sizeof(f->stored));
        map_clip(&f->map, (uint64_t) st.st_size);
        return f->map.size > 0 && (!spec->if_match || str_equal(spec->if_match, f->map.etag));
}

int transfer_fetch(S3 *s3, const TransferSpec *spec, Transfer **ret, Error **reterr) {
        _cleanup_(transfer_freep) Transfer *t = NULL;
        Fetch *f = calloc(1, sizeof(Fetch));
        int r;

        if (!f)
                return error_set(reterr, -ENOMEM, "fetch %s: out of memory", spec->key);
        t = &f->base;
        f->quota.tokens = RETRY_TOKENS;
        for (size_t i = 0; i < TRANSFER_PARALLEL; i++)
                f->slots[i].fetch = f;
        r = transfer_init(t, &fetch_kind, s3, spec);
        if (r < 0)
                return error_wrap(reterr, r, "fetch %s", spec->key);

        r = take_map(f) ? 0 : forget(f, reterr);
        if (r >= 0)
                r = ask_first(f, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "fetch %s", spec->key);
        *ret = TAKE_PTR(t);
        return 0;
}
