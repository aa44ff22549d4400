/*
 * The suite of the stores, over a link to a process that serves a folder: this very program,
 * started again under another name. And the same process as a liar: what it answers does no harm.
 */

#include "store-suite.h"

#include <ftw.h>
#include <poll.h>
#include <sys/stat.h>

#include "../../agent/loop/packet.h"
#include "base/file.h"
#include "loop.h"
#include "loop/cgroup.h"
#include "store/file.h"
#include "store/remote.h"
#include "store/serve.h"
#include "store/wire.h"

#define HELPER_NAME "tendril-remote"
#define INSTANCE    "test-remote"

/* A transfer of more than this is made slow, turn by turn of the loop, so that it can be met in the
 * middle. */
#define SLOW_BYTES (10 * 1024 * 1024)
#define SLOW_TURNS 14
#define SLOW_MSEC  15

/* ---- lies ---- */

typedef enum LieFile {
        LIE_NOTHING,
        LIE_MEMORY,
        LIE_TWO,
        LIE_PIPE,
        LIE_FOLDER,
        LIE_PATH,
        LIE_PROC,
        LIE_WRITE_ONLY,
        LIE_HUGE,
} LieFile;

typedef struct Lie {
        const char *method; /* the others it does not answer */
        const char *answer;
        LieFile file;
        const char *text;
        const char *words; /* in the sentence of whoever was lied to */
} Lie;

#define OK      "{\"answer\":0,\"etag\":\"e\"}"
#define LIST_OK "{\"answer\":0}"
#define X32     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

/* clang-format off */
static const Lie lies[] = {
        { WIRE_GET, OK, LIE_NOTHING, NULL, "descriptors" },
        { WIRE_GET, OK, LIE_TWO, "x", "descriptors" },
        { WIRE_GET, OK, LIE_PIPE, NULL, "no memory file" },
        { WIRE_GET, OK, LIE_FOLDER, NULL, "no memory file" },
        { WIRE_GET, OK, LIE_PATH, NULL, "no memory file" },
        { WIRE_GET, OK, LIE_PROC, NULL, "no memory file" },
        { WIRE_GET, OK, LIE_WRITE_ONLY, NULL, "cannot be read" },
        { WIRE_GET, OK, LIE_HUGE, NULL, "more bytes" },
        { WIRE_GET, "{\"answer\":0}", LIE_MEMORY, "x", "no ETag" },
        { WIRE_GET, "{\"answer\":0,\"etag\":\"\"}", LIE_MEMORY, "x", "ETag that is none" },
        { WIRE_GET, "{\"answer\":0,\"etag\":\"a\\u0007\"}", LIE_MEMORY, "x", "ETag that is none" },
        { WIRE_GET, "{\"answer\":0,\"etag\":\"" X32 X32 X32 X32 "x\"}", LIE_MEMORY, "x", "etag" },
        { WIRE_GET, "{\"answer\":2,\"date_usec\":9000000000000000000}", LIE_NOTHING, NULL, "date_usec" },
        { WIRE_GET, "{\"answer\":2,\"has_age\":true,\"age_usec\":9000000000000000000}", LIE_NOTHING, NULL, "age_usec" },
        { WIRE_GET, "{\"answer\":1,\"etag\":\"e\"}", LIE_NOTHING, NULL, "does not belong" },
        { WIRE_GET, "{\"answer\":2}", LIE_MEMORY, "x", "descriptors" },
        { WIRE_GET, "{\"answer\":3}", LIE_NOTHING, NULL, "does not belong" },
        { WIRE_GET, "{\"answer\":4}", LIE_NOTHING, NULL, "answer" },
        { WIRE_GET, "{\"answer\":-1}", LIE_NOTHING, NULL, "answer" },
        { WIRE_GET, "{\"answer\":true}", LIE_NOTHING, NULL, "answer" },
        { WIRE_GET, "{}", LIE_NOTHING, NULL, "answer" },
        { WIRE_GET, "[]", LIE_NOTHING, NULL, "" },
        { WIRE_PUT, "{\"answer\":0}", LIE_NOTHING, NULL, "no ETag" },
        { WIRE_PUT, OK, LIE_MEMORY, "x", "descriptors" },
        { WIRE_PUT, "{\"answer\":1,\"etag\":\"e\"}", LIE_NOTHING, NULL, "does not belong" },
        { WIRE_PUT, "{\"answer\":2}", LIE_NOTHING, NULL, "does not belong" },
        { WIRE_DELETE, "{\"answer\":1}", LIE_NOTHING, NULL, "does not belong" },
        { WIRE_DELETE, "{\"answer\":0}", LIE_PIPE, NULL, "descriptors" },
        { WIRE_FETCH, "{\"answer\":1,\"etag\":\"e\"}", LIE_NOTHING, NULL, "does not belong" },
        { WIRE_FETCH, "{\"answer\":0,\"size\":5}", LIE_NOTHING, NULL, "no ETag" },
        { WIRE_LIST, LIST_OK, LIE_NOTHING, NULL, "descriptors" },
        { WIRE_LIST, "{\"answer\":2}", LIE_NOTHING, NULL, "does not belong" },
        { WIRE_LIST, LIST_OK, LIE_HUGE, NULL, "more bytes" },
        { WIRE_LIST, LIST_OK, LIE_MEMORY, "", "" },
        { WIRE_LIST, LIST_OK, LIE_MEMORY, "{\"entries\":[{\"key\":\"a/1\",\"etag\":\"e\"},{\"key\":\"a/1\",\"etag\":\"e\"}]}", "not in order" },
        { WIRE_LIST, LIST_OK, LIE_MEMORY, "{\"entries\":[{\"key\":\"a/2\",\"etag\":\"e\"},{\"key\":\"a/1\",\"etag\":\"e\"}]}", "not in order" },
        { WIRE_LIST, LIST_OK, LIE_MEMORY, "{\"entries\":[{\"key\":\"a/0\",\"etag\":\"e\"}]}", "not in order" },
        { WIRE_LIST, LIST_OK, LIE_MEMORY, "{\"entries\":[{\"key\":\"b/1\",\"etag\":\"e\"}]}", "not asked for" },
        { WIRE_LIST, LIST_OK, LIE_MEMORY, "{\"entries\":[{\"key\":\"a/../x\",\"etag\":\"e\"}]}", "no keys" },
        { WIRE_LIST, LIST_OK, LIE_MEMORY, "{\"entries\":[{\"key\":\"a/1\\n\",\"etag\":\"e\"}]}", "no keys" },
        { WIRE_LIST, LIST_OK, LIE_MEMORY, "{\"entries\":[{\"key\":\"a/1\",\"etag\":\"\"}]}", "etag" },
        { WIRE_LIST, LIST_OK, LIE_MEMORY, "{\"entries\":[{\"key\":\"a/1\",\"etag\":\"\\u001b\"}]}", "no keys" },
        { WIRE_LIST, LIST_OK, LIE_MEMORY, "{\"entries\":[{\"key\":\"a/1\"}]}", "etag" },
        { WIRE_LIST, "{\"answer\":0,\"more\":true}", LIE_MEMORY, "{\"entries\":[]}", "empty page" },
};
/* clang-format on */

static int lie_file(const Lie *lie, int fds[2]) {
        int size = lie->text ? (int) strlen(lie->text) : 0;
        char path[64];

        switch (lie->file) {
        case LIE_TWO:
                fds[1] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                fds[0] = file_memfd("lie", lie->text, (size_t) size);
                return 2;
        case LIE_MEMORY:
                fds[0] = file_memfd("lie", lie->text, (size_t) size);
                return 1;
        case LIE_PIPE:
                return pipe2(fds, O_CLOEXEC) < 0 ? 0 : 1;
        case LIE_FOLDER:
                fds[0] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                return 1;
        case LIE_PATH:
                fds[0] = open("/proc/self/exe", O_PATH | O_CLOEXEC);
                return 1;
        case LIE_PROC:
                fds[0] = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
                return 1;
        case LIE_WRITE_ONLY:
                fds[1] = file_memfd("lie", "x", 1);
                (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[1]);
                fds[0] = open(path, O_WRONLY | O_CLOEXEC);
                return 1;
        case LIE_HUGE:
                fds[0] = memfd_create("lie", MFD_CLOEXEC);
                return ftruncate(fds[0], (off_t) 1 << 40) < 0 ? 0 : 1;
        case LIE_NOTHING:
        default:
                return 0;
        }
}

/* ---- the helper ---- */

typedef struct Server {
        sd_event *loop;
        CallServer *calls;
        Store *store;
        StoreServer *served;
        const Lie *lie;
        char *die; /* a file that is there once it has died under a put */
        unsigned slow_turns;
} Server;

static void tell_lie(Server *s, const CallRequest *request) {
        _cleanup_(buf_done) Buf text = BUF_INIT(65536);
        int fds[2] = { -1, -1 }, n;

        if (!str_equal(request->method, s->lie->method))
                return;
        /* A progress that goes beyond the end, in a file that ends too early. */
        if (request->n_fds > 1) {
                const WireProgress wrong = { .n_bytes = UINT64_MAX, .size = 10 };

                (void) !pwrite(request->fds[1], &wrong, sizeof(wrong), 0);
                (void) poll(NULL, 0, SLOW_MSEC);
                (void) !ftruncate(request->fds[1], 3);
        }
        n = lie_file(s->lie, fds);
        (void) buf_printf(&text, "{\"id\":%" PRIu64 ",\"answer\":%s}", request->id, s->lie->answer);
        (void) packet_send(3, &text, fds, (size_t) n, 0);
        closep(&fds[0]);
        closep(&fds[1]);
}

static void on_put_to_die(_unused_ void *userdata, _unused_ int r, _unused_ const StoreReply *reply,
                          _unused_ Error *err) {
        _exit(9);
}

/* The write takes effect, its answer is lost. */
static bool dies(const Server *s, const CallRequest *request) {
        WireAsk ask = { 0 };
        StoreBody body = { .fd = request->n_fds > 0 ? request->fds[0] : -1 };
        int fd;

        if (!s->die || !str_equal(request->method, WIRE_PUT))
                return false;
        fd = open(s->die, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (fd < 0)
                return false;
        (void) close(fd);
        (void) json_decode_value(request->parameters, &wire_ask_table, JSON_LENIENT, &ask, NULL);
        if (store_put(s->store, ask.key, &body, (StoreCondition) ask.condition, ask.etag,
                      on_put_to_die, NULL, NULL) < 0)
                _exit(10);
        json_table_done(&wire_ask_table, &ask);
        return true;
}

static int open_store(Server *s, const CallRequest *request) {
        WireOpen ask = { 0 };
        uint64_t which;
        int r;

        r = json_decode_value(request->parameters, &wire_open_table, JSON_STRICT, &ask, NULL);
        if (r >= 0 && str_has_prefix(ask.url, "lie:") && str_to_u64(ask.url + 4, &which) >= 0)
                s->lie = &lies[which];
        else if (r >= 0)
                r = store_file_new(s->loop, ask.url, NULL, &s->store, NULL);
        if (r >= 0 && s->store)
                r = store_server_new(call_server_fd(s->calls), s->store, &s->served);
        if (r >= 0 && ask.identity_tag)
                s->die = strdup(ask.identity_tag);
        wire_open_done(&ask);
        return r < 0 ? r : call_answer(3, request->id, NULL, NULL, NULL, 0);
}

static void on_request(void *userdata, CallRequest *request) {
        _cleanup_(error_freep) Error *err = NULL;
        Server *s = userdata;
        struct stat st;
        int r = 0;

        if (str_equal(request->method, WIRE_OPEN))
                r = open_store(s, request);
        else if (s->lie)
                tell_lie(s, request);
        else if (!dies(s, request)) {
                if (request->n_fds > 0 &&
                    (str_equal(request->method, WIRE_FETCH) ||
                     (fstat(request->fds[0], &st) == 0 && st.st_size > SLOW_BYTES)))
                        s->slow_turns = SLOW_TURNS;
                r = store_server_begin(s->served, request, &err);
        }
        if (r < 0)
                (void) call_fail(3, request->id, r, err ? error_text(err) : strerror(-r));
}

static int on_turn(_unused_ sd_event_source *source, void *userdata) {
        Server *s = userdata;

        if (s->slow_turns > 0) {
                s->slow_turns--;
                (void) poll(NULL, 0, SLOW_MSEC);
        }
        return 0;
}

static int helper_main(void) {
        Server s = { 0 };
        int r;

        r = sd_event_new(&s.loop);
        if (r >= 0)
                r = call_server_new(s.loop, 3, on_request, &s, &s.calls);
        if (r >= 0)
                r = sd_event_add_post(s.loop, NULL, on_turn, &s);
        if (r >= 0)
                r = sd_event_loop(s.loop);
        s.served = store_server_free(s.served);
        s.store = store_free(s.store);
        s.calls = call_server_free(s.calls);
        s.loop = sd_event_unref(s.loop);
        free(s.die);
        return r < 0 ? 1 : 0;
}

/* ---- reaching it ---- */

/* Links end with the process, or when the place is made anew: a store has no end that we hear of.
 */
typedef struct Place {
        char root[64];
        char url[160];
        unsigned n;
        int program_fd;
        WireOpen open;
        Link *links[8];
        size_t n_links;
} Place;

static void place_clear(Place *p) {
        for (size_t i = 0; i < p->n_links; i++)
                p->links[i] = link_free(p->links[i]);
        p->n_links = 0;
        wire_open_done(&p->open);
}

static int place_reset(void *userdata) {
        Place *p = userdata;
        char path[128];

        place_clear(p);
        (void) snprintf(path, sizeof(path), "%s/%u", p->root, p->n++);
        (void) snprintf(p->url, sizeof(p->url), "file://%s", path);
        p->open.url = strdup(p->url);
        return mkdir(path, 0700) < 0 ? -errno : 0;
}

static int place_connect(void *userdata, sd_event *loop, Store **ret) {
        Place *p = userdata;
        const LinkSpec spec = { .name = HELPER_NAME,
                                .program_fd = p->program_fd,
                                .instance = INSTANCE,
                                .flags = CHILD_PDEATHSIG,
                                .greeting = WIRE_OPEN,
                                .greeting_table = &wire_open_table,
                                .greeting_parameters = &p->open };
        Link *link = NULL;
        int r;

        assert_true(p->n_links < ELEMENTS(p->links));
        r = link_new(loop, &spec, &link);
        if (r < 0)
                return r;
        p->links[p->n_links++] = link;
        return store_remote_new(loop, link, "s3://bucket/prefix", ret, NULL);
}

static int remove_entry(const char *path, _unused_ const struct stat *st, _unused_ int type,
                        _unused_ struct FTW *ftw) {
        return remove(path);
}

/* ---- what only a store in another process has; the state is a Place ---- */

static void world_init(World *w, Place *p) {
        *w = (World){ .loop = loop_new() };
        assert_int_equal(place_reset(p), 0);
        assert_int_equal(place_connect(p, w->loop, &w->store), 0);
}

static void world_done(World *w, Place *p) {
        w->store = store_free(w->store);
        place_clear(p);
        w->loop = sd_event_unref(w->loop);
}

static void test_urls(_unused_ void **state) {
        assert_true(store_url_is_remote("s3://bucket"));
        assert_true(store_url_is_remote("s3://bucket/a/b"));
        assert_false(store_url_is_remote("file:///x"));
        assert_false(store_url_is_remote("s3:/bucket"));
        assert_false(store_url_is_remote(""));
}

static void test_it_is_remote(void **state) {
        World w;

        world_init(&w, *state);
        assert_false(store_is_local(w.store));
        assert_string_equal(store_url(w.store), "s3://bucket/prefix");
        world_done(&w, *state);
}

static void lied_on_progress(_unused_ void *userdata, uint64_t n_bytes, uint64_t size) {
        assert_true(n_bytes <= size);
}

static void ask_liar(World *w, const char *method, Outcome *o) {
        _cleanup_close_ int fd = memfd_create("x", MFD_CLOEXEC);
        const StoreFetch fetch = { .fd = fd, .map_fd = -EBADF, .progress = lied_on_progress };

        if (str_equal(method, WIRE_GET))
                suite_get(w, "a/1", NULL, o);
        else if (str_equal(method, WIRE_PUT))
                suite_put(w, "a/1", "x", STORE_ALWAYS, NULL, o);
        else if (str_equal(method, WIRE_DELETE))
                suite_delete(w, "a/1", NULL, o);
        else if (str_equal(method, WIRE_LIST))
                suite_list(w, "a/", "a/0", o);
        else {
                outcome_clear(o);
                assert_int_equal(store_fetch(w->store, "a/1", &fetch, outcome_on_done, o, NULL), 0);
                world_wait(w, o);
        }
}

static void test_lies(void **state) {
        Place *p = *state;
        Outcome o = { 0 };
        World w;

        for (unsigned i = 0; i < ELEMENTS(lies); i++) {
                world_init(&w, p);
                free(p->open.url);
                p->open.url = str_format("lie:%u", i);
                ask_liar(&w, lies[i].method, &o);
                if (o.r != -EBADMSG || !strstr(o.words, lies[i].words) ||
                    !strstr(o.words, "tendril-net answered what cannot be") ||
                    !strstr(o.words, "in s3://bucket/prefix: "))
                        fail_msg("lie %u (%s): %d '%s'", i, lies[i].answer, o.r, o.words);
                assert_null(o.body);
                assert_int_equal(o.n_keys, 0);
                world_done(&w, p);
        }
        outcome_clear(&o);
}

static void test_too_many_entries(void **state) {
        StoreEntry *entries = calloc(LIMIT_LIST_KEYS + 1, sizeof(StoreEntry));
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_XML_LIST_BYTES);
        WireList list = { .entries = { .items = entries, .n = LIMIT_LIST_KEYS + 1 } }, back = { 0 };

        (void) state;
        assert_non_null(entries);
        for (unsigned i = 0; i <= LIMIT_LIST_KEYS; i++) {
                entries[i].key = str_format("a/%04u", i);
                entries[i].etag = strdup("e");
        }
        assert_int_equal(json_encode(&wire_list_table, &list, &text), 0);
        assert_true(json_decode(text.data, text.size, &wire_list_table, JSON_LENIENT, &back, NULL) <
                    0);
        json_table_done(&wire_list_table, &list);
}

/* Words say what was done with which key, once, whoever they are from. */
static void test_words(void **state) {
        _cleanup_close_ int in = suite_pattern(1024 * 1024, 3);
        Outcome o = { 0 };
        World w;

        world_init(&w, *state);
        suite_put_fd(&w, "a/big", in, STORE_ALWAYS, &o);
        assert_int_equal(suite_get(&w, "a/big", NULL, &o), -EFBIG);
        assert_true(str_has_prefix(o.words, "read a/big in s3://bucket/prefix: read"));
        world_done(&w, *state);

        world_init(&w, *state);
        free(((Place *) *state)->open.url);
        ((Place *) *state)->open.url = strdup("file:///nowhere/at/all");
        assert_int_equal(suite_get(&w, "a/b", NULL, &o), -ENOENT);
        assert_true(str_has_prefix(o.words, "read a/b in s3://bucket/prefix: "));
        outcome_clear(&o);
        world_done(&w, *state);
}

/* Its answer was lost with the process: whether it was written is read back. */
static void test_death_under_a_write(void **state) {
        Place *p = *state;
        Outcome o = { 0 };
        char died[96];
        World w;

        world_init(&w, p);
        (void) snprintf(died, sizeof(died), "%s/died-%u", p->root, p->n);
        p->open.identity_tag = strdup(died);
        assert_int_equal(store_put_document(w.store, "d", "{\"nonce\":\"n1\"}", 14, "n1",
                                            STORE_IF_ABSENT, NULL, outcome_on_done, &o, NULL),
                         0);
        world_wait(&w, &o);
        assert_int_equal(o.r, 0);
        assert_int_equal(access(died, F_OK), 0);
        assert_true(o.etag[0] != 0);
        assert_int_equal(suite_get(&w, "d", NULL, &o), 0);
        assert_string_equal(o.body, "{\"nonce\":\"n1\"}");

        /* The plain call ends with the loss. */
        assert_int_equal(unlink(died), 0);
        assert_int_equal(suite_put(&w, "e", "x", STORE_ALWAYS, NULL, &o), -ECONNRESET);
        assert_non_null(strstr(o.words, "write e in s3://bucket/prefix: " HELPER_NAME
                                        " ended before it answered (exit 9)"));
        assert_int_equal(suite_get(&w, "e", NULL, &o), 0);
        outcome_clear(&o);
        world_done(&w, p);
}

static void count_progress(void *userdata, _unused_ uint64_t n_bytes, _unused_ uint64_t size) {
        (*(unsigned *) userdata)++;
}

typedef struct Fetching {
        unsigned n_progress;
        Outcome o;
} Fetching;

static void fetching_on_done(void *userdata, int r, const StoreReply *reply, Error *err) {
        outcome_on_done(&((Fetching *) userdata)->o, r, reply, err);
}

/* Begins a fetch and waits until it is in the middle. */
static StoreCall *begin_fetch(World *w, int fd, Fetching *f) {
        const StoreFetch fetch = { .fd = fd, .map_fd = -EBADF, .progress = count_progress };
        StoreCall *call = NULL;

        *f = (Fetching){ 0 };
        assert_int_equal(store_fetch(w->store, "big", &fetch, fetching_on_done, f, &call), 0);
        while (f->n_progress == 0 && f->o.n_done == 0)
                assert_true(sd_event_run(w->loop, SEC(30)) > 0);
        assert_int_equal(f->o.n_done, 0);
        return call;
}

/* What was given up nobody writes any more. */
static void test_disown(void **state) {
        const size_t size = 40 * 1024 * 1024;
        _cleanup_close_ int in = suite_pattern(size, 3), out = memfd_create("out", MFD_CLOEXEC);
        struct stat before, after;
        Fetching f;
        Outcome o = { 0 };
        World w;

        world_init(&w, *state);
        store_disown(w.store);
        assert_int_equal(suite_put_fd(&w, "big", in, STORE_ALWAYS, &o), 0);
        (void) begin_fetch(&w, out, &f);
        store_disown(w.store);
        assert_int_equal(f.o.n_done, 0);
        assert_int_equal(fstat(out, &before), 0);
        assert_true((size_t) before.st_size < size);
        world_wait(&w, &f.o);
        assert_int_equal(f.o.r, -ECONNRESET);
        assert_int_equal(suite_get(&w, "other", NULL, &o), STORE_ABSENT);
        assert_int_equal(fstat(out, &after), 0);
        assert_int_equal(after.st_size, before.st_size);
        outcome_clear(&o);
        world_done(&w, *state);
}

/* The same file can be handed out again at once. */
static void test_cancelled_fetch_lets_go(void **state) {
        const size_t size = 40 * 1024 * 1024;
        _cleanup_close_ int in = suite_pattern(size, 3), other = suite_pattern(1000, 4),
                            out = memfd_create("out", MFD_CLOEXEC);
        Fetching f;
        Outcome o = { 0 };
        World w;

        world_init(&w, *state);
        assert_int_equal(suite_put_fd(&w, "big", in, STORE_ALWAYS, &o), 0);
        assert_int_equal(suite_put_fd(&w, "small", other, STORE_ALWAYS, &o), 0);
        assert_null(store_cancel(begin_fetch(&w, out, &f)));
        /* An answer behind it shows that it has been told. */
        assert_int_equal(suite_get(&w, "other", NULL, &o), STORE_ABSENT);
        assert_int_equal(ftruncate(out, 0), 0);
        assert_int_equal(suite_fetch(&w, "small", NULL, out, -EBADF, &o), 0);
        assert_same_content(other, out, 1000);
        assert_int_equal(f.o.n_done, 0);
        outcome_clear(&o);
        world_done(&w, *state);
}

/* More than are answered at once end with words, or are answered; none is lost. */
static void test_many_at_once(void **state) {
        Outcome many[LIMIT_S3_CALLS + 40] = { 0 };
        unsigned n_busy = 0;
        World w;

        world_init(&w, *state);
        for (unsigned i = 0; i < ELEMENTS(many); i++)
                assert_int_equal(store_get(w.store, "a", NULL, outcome_on_done, &many[i], NULL), 0);
        for (unsigned i = 0; i < ELEMENTS(many); i++) {
                while (many[i].n_done == 0)
                        assert_true(sd_event_run(w.loop, SEC(30)) > 0);
                n_busy += many[i].r == -EBUSY;
                assert_true(many[i].r == STORE_ABSENT || many[i].r == -EBUSY);
                if (many[i].r == -EBUSY)
                        assert_non_null(strstr(many[i].words, "are under way"));
        }
        assert_true(n_busy <= 40);
        world_done(&w, *state);
}

int main(int argc, char **argv) {
        static Place place = { .root = "/dev/shm/test-remote.XXXXXX" };
#define ON_PLACE(test) cmocka_unit_test_prestate(test, &place)
        const struct CMUnitTest tests[] = {
                ON_PLACE(test_urls),         ON_PLACE(test_it_is_remote),
                ON_PLACE(test_lies),         ON_PLACE(test_too_many_entries),
                ON_PLACE(test_words),        ON_PLACE(test_death_under_a_write),
                ON_PLACE(test_disown),       ON_PLACE(test_cancelled_fetch_lets_go),
                ON_PLACE(test_many_at_once),
        };
        const Suite suite = { "remote-suite", SERVER_FILE, place_reset, place_connect, &place };
        int failed;

        if (argc == 1 && str_equal(argv[0], HELPER_NAME))
                return helper_main();
        (void) loop_block_signals(NULL);
        place.program_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
        if (!mkdtemp(place.root)) {
                (void) snprintf(place.root, sizeof(place.root), "/tmp/test-remote.XXXXXX");
                if (!mkdtemp(place.root))
                        return 1;
        }
        failed = store_suite_run(&suite);
        failed += cmocka_run_group_tests_name("remote", tests, NULL, NULL);
        place_clear(&place);
        closep(&place.program_fd);
        (void) cgroup_remove(INSTANCE, NULL);
        (void) nftw(place.root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        return failed;
}
