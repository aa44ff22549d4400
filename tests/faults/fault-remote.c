/* Countdown over a remote store, whose helper answers as it should: every call ends once, with what
 * was answered or with a failure. The link is a fake that answers from the loop. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "base/file.h"
#include "base/str.h"
#include "countdown.h"
#include "store/remote.h"
#include "store/wire.h"

typedef struct World {
        sd_event *loop;
        Store *store;
        sd_event_source *answer;
        const char *text; /* of the answer */
        const char *file; /* what comes with it, or NULL */
        CallDone done;
        void *userdata;
        int fd; /* what is fetched into, or put */
        unsigned n_done;
        int r;
        Error *err;
} World;

static World *world(void) {
        static World w;

        return &w;
}

/* ---- the link ---- */

static int on_answer(_unused_ sd_event_source *source, _unused_ void *userdata) {
        World *w = world();
        CallReply reply = { 0 };
        Json *value = NULL;

        countdown_pause();
        (void) json_parse(w->text, strlen(w->text), &value, NULL);
        reply.answer = value;
        if (w->file)
                reply.fds[reply.n_fds++] = file_memfd("file", w->file, strlen(w->file));
        countdown_resume();
        w->done(w->userdata, 0, &reply, NULL);
        countdown_pause();
        (void) json_free(value);
        if (w->file)
                closep(&reply.fds[0]);
        countdown_resume();
        return 0;
}

int link_call(_unused_ Link *link, _unused_ const char *method, const JsonTable *table,
              const void *parameters, _unused_ const int *fds, _unused_ size_t n_fds,
              _unused_ usec_t timeout_usec, CallDone done, void *userdata, LinkCall **ret) {
        _cleanup_(buf_done) Buf text = BUF_INIT(65536);
        World *w = world();
        int r;

        r = json_encode(table, parameters, &text);
        if (r < 0)
                return r;
        w->done = done;
        w->userdata = userdata;
        countdown_pause();
        r = sd_event_add_defer(w->loop, &w->answer, on_answer, NULL);
        countdown_resume();
        if (ret)
                *ret = (LinkCall *) (void *) w;
        return r < 0 ? r : 0;
}

LinkCall *link_cancel(LinkCall *call) {
        World *w = world();

        if (call)
                w->answer = sd_event_source_disable_unref(w->answer);
        return NULL;
}

void link_restart(_unused_ Link *link) {
}

/* ---- the cases ---- */

static void begin(void) {
        World *w = world();

        *w = (World){ .fd = file_memfd("x", "hello", 5) };
        if (w->fd < 0 || sd_event_new(&w->loop) < 0)
                countdown_bad("the test itself: no loop");
}

static void end(_unused_ int r) {
        World *w = world();

        w->answer = sd_event_source_disable_unref(w->answer);
        w->store = store_free(w->store);
        w->loop = sd_event_unref(w->loop);
        w->err = error_free(w->err);
        closep(&w->fd);
}

static void on_done(_unused_ void *userdata, int r, const StoreReply *reply, Error *err) {
        World *w = world();

        w->n_done++;
        w->r = r;
        if (r == 0 && w->file && !reply->body && reply->n_entries != 2)
                countdown_bad("half an answer");
        countdown_pause();
        if (err)
                (void) error_set(&w->err, r, "%s", error_text(err));
        countdown_resume();
}

static void on_progress(_unused_ void *userdata, _unused_ uint64_t n_bytes,
                        _unused_ uint64_t size) {
}

static int finish(int r, Error **reterr) {
        World *w = world();

        if (r < 0)
                return error_set(reterr, r, "begin");
        for (unsigned i = 0; i < 100 && w->n_done == 0; i++)
                (void) sd_event_run(w->loop, SEC(1));
        if (w->n_done != 1)
                countdown_bad("it ended %u times", w->n_done);
        if (w->r < 0)
                *reterr = TAKE_PTR(w->err);
        return MIN(w->r, 0);
}

static int open_store(const char *text, const char *file, Error **reterr) {
        World *w = world();

        w->text = text;
        w->file = file;
        return store_remote_new(w->loop, NULL, "s3://bucket/prefix", &w->store, reterr);
}

static int run_get(Error **reterr) {
        int r = open_store("{\"answer\":0,\"etag\":\"e\"}", "a document", reterr);

        return r < 0 ? r
                     : finish(store_get(world()->store, "a/b", "old", on_done, NULL, NULL), reterr);
}

static int run_put(Error **reterr) {
        const StoreBody body = { .body = "x", .size = 1, .fd = -1 };
        int r = open_store("{\"answer\":3}", NULL, reterr);

        return r < 0 ? r
                     : finish(store_put(world()->store, "a/b", &body, STORE_IF_MATCHES, "e",
                                        on_done, NULL, NULL),
                              reterr);
}

static int run_list(Error **reterr) {
        int r = open_store("{\"answer\":0}",
                           "{\"entries\":[{\"key\":\"a/1\",\"etag\":\"e\",\"size\":1},"
                           "{\"key\":\"a/2\",\"etag\":\"f\",\"size\":2}]}",
                           reterr);

        return r < 0 ? r
                     : finish(store_list(world()->store, "a/", "a/0", on_done, NULL, NULL), reterr);
}

static int run_fetch(Error **reterr) {
        World *w = world();
        const StoreFetch fetch = { .fd = w->fd, .map_fd = w->fd, .progress = on_progress };
        int r = open_store("{\"answer\":0,\"etag\":\"e\",\"size\":5}", NULL, reterr);

        return r < 0 ? r
                     : finish(store_fetch(w->store, "a/b", &fetch, on_done, NULL, NULL), reterr);
}

static int run_cancel(Error **reterr) {
        World *w = world();
        const StoreFetch fetch = { .fd = w->fd, .map_fd = -EBADF, .progress = on_progress };
        StoreCall *call = NULL;
        int r = open_store("{\"answer\":0,\"etag\":\"e\",\"size\":5}", NULL, reterr);

        if (r >= 0)
                r = store_fetch(w->store, "a/b", &fetch, on_done, NULL, &call);
        if (r < 0)
                return *reterr ? r : error_set(reterr, r, "begin");
        (void) store_cancel(call);
        if (w->n_done != 0)
                countdown_bad("it ended though it was cancelled");
        return 0;
}

static int run_open(Error **reterr) {
        char one[] = "AWS_REGION=eu-west-1", two[] = "AWS_PROFILE=x",
             three[] = "AWS_ENDPOINT_URL=http://x";
        char *const variables[] = { one, two, three, NULL };
        WireOpen open = { 0 };
        int r = wire_open_fill(&open, NULL, "s3://bucket", variables);

        wire_open_done(&open);
        return r < 0 ? error_set(reterr, r, "fill") : 0;
}

/* clang-format off */
const Case cases[] = {
        { "remote-get",    begin, run_get,    end, 0 },
        { "remote-put",    begin, run_put,    end, 0 },
        { "remote-list",   begin, run_list,   end, 0 },
        { "remote-fetch",  begin, run_fetch,  end, 0 },
        { "remote-cancel", begin, run_cancel, end, 0 },
        { "wire-open",     begin, run_open,   end, CASE_NO_CALLS },
        { 0 },
};
/* clang-format on */
