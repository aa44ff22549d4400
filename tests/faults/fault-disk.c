/* Countdown over what reads and writes the disk, on a real loop where there is one: after each
 * failure stands there what stood there before, or what was to stand there, whole. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "bundle/bundle.h"
#include "countdown.h"
#include "deploy/fsck.h"
#include "deploy/record.h"
#include "deploy/state.h"
#include "folder.h"
#include "host/config.h"
#include "loop/child.h"
#include "store/file.h"

#define SHA "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID  "20260101T000000Z-0000000"

typedef struct World {
        Folder folder;
        bool folder_made;
        sd_event *loop;
        Store *store;
        State *state;
        DeployRecord record;
        Paths paths;
} World;

static World *world(void) {
        static World w;

        return &w;
}

static int step(const char *what, int r) {
        if (r < 0)
                countdown_bad("the test itself: %s: %s", what, strerror(-r));
        return r;
}

static void world_end(_unused_ int r) {
        World *w = world();

        w->store = store_free(w->store);
        w->loop = sd_event_unref(w->loop);
        w->state = state_free(w->state);
        json_table_done(&deploy_record_table, &w->record);
        paths_done(&w->paths);
        if (w->folder_made)
                folder_done(&w->folder);
        w->folder_made = false;
}

static void world_begin(void) {
        World *w = world();

        *w = (World){ .folder = folder_new(), .folder_made = true };
}

static void put(const char *name, const char *text) {
        step(name, file_write_at(world()->folder.fd, name, text, strlen(text), 0600, FILE_REPLACE));
}

/* What stands in a file is one of two texts (NULL: it is not there). */
static void check_one_of(const char *name, const char *one, const char *other) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        int r = file_read_at(world()->folder.fd, name, &text);
        const char *found = r == -ENOENT ? NULL : buf_str(&text);

        if (r < 0 && r != -ENOENT)
                countdown_bad("%s cannot be read: %s", name, strerror(-r));
        else if (!str_equal(found, one) && !str_equal(found, other))
                countdown_bad("%s is neither old nor new: '%.60s'", name,
                              found ? found : "(absent)");
}

/* ---- files ---- */

static void file_begin(void) {
        world_begin();
        put("x", "old");
}

static int run_file_replace(_unused_ Error **reterr) {
        return file_write_at(world()->folder.fd, "x", "new text", 8, 0600,
                             FILE_REPLACE | FILE_SYNC | FILE_KEEP_PREVIOUS);
}

static void file_end(int r) {
        check_one_of("x", r < 0 ? "old" : "new text", "new text");
        check_one_of("x.previous", "old", r < 0 ? NULL : "old");
        world_end(r);
}

static int run_file_absent(_unused_ Error **reterr) {
        return file_write_at(world()->folder.fd, "y", "new", 3, 0600, FILE_SYNC);
}

static void file_absent_end(int r) {
        check_one_of("y", "new", r < 0 ? NULL : "new");
        world_end(r);
}

static int run_mkdirs(_unused_ Error **reterr) {
        _cleanup_close_ int fd = file_mkdirs_at(world()->folder.fd, "a/b/c", 0711);

        return MIN(fd, 0);
}

/* ---- state and records ---- */

static State *state_of(uint64_t revision) {
        State *s = state_new();

        if (s) {
                s->revision = revision;
                s->host = strdup("h1");
                s->current.label = strdup("v1");
                s->current.sha256 = strdup(SHA);
                s->current.folder = strdup("aaaaaaaaaaaaaaaa-1");
                s->current.slot = strdup("a");
                (void) json_map_set(&s->current.properties, 8, "A", "b");
                (void) quarantine_add(s, 3, "v0", SHA, "why", SEC(1700000000));
        }
        return s;
}

static void state_begin(void) {
        _cleanup_(state_freep) State *old = NULL;

        world_begin();
        old = state_of(5);
        step("save", state_save(world()->folder.fd, old, NULL));
        step("save", state_save(world()->folder.fd, old, NULL));
        world()->state = state_of(6);
}

static int run_state_save(Error **reterr) {
        return state_save(world()->folder.fd, world()->state, reterr);
}

static void state_end(int r) {
        _cleanup_(state_freep) State *s = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        int k;

        k = state_load(world()->folder.fd, &s, &err);
        if (k != 0)
                countdown_bad("the state is not whole: %s", err ? error_text(err) : "it is gone");
        else if (k == 0 && s->revision != 6 && (r >= 0 || s->revision != 5))
                countdown_bad("the state is neither old nor new");
        world_end(r);
}

static int run_state_load(Error **reterr) {
        _cleanup_(state_freep) State *s = NULL;
        int r;

        r = state_load(world()->folder.fd, &s, reterr);
        if (r == STATE_NONE)
                countdown_bad("a state that is there was taken for none");
        return MIN(r, 0);
}

static void record_begin(void) {
        DeployRecord *record = &world()->record;

        world_begin();
        record->format = 1;
        record->id = strdup(ID "0");
        record->label = strdup("v1");
        record->started = strdup("2026-01-01T00:00:00Z");
        record_event(record, SEC(1700000000), "something");
        step("write", record_write(world()->folder.fd, record, NULL));
        record->revision = 7;
}

static int run_record_write(Error **reterr) {
        record_event(&world()->record, SEC(1700000000), "more of %d", 1);
        return record_write(world()->folder.fd, &world()->record, reterr);
}

static void record_end(int r) {
        DeployRecord got = { 0 };
        _cleanup_(error_freep) Error *err = NULL;

        if (record_read(world()->folder.fd, ID "0", &got, &err) < 0)
                countdown_bad("the record is not whole: %s", error_text(err));
        else if (got.revision != 7 && (r >= 0 || got.revision != 0))
                countdown_bad("the record is neither old nor new");
        json_table_done(&deploy_record_table, &got);
        world_end(r);
}

static int run_record_read(Error **reterr) {
        _cleanup_(strv_freep) char **ids = NULL;
        DeployRecord got = { 0 };
        int r;

        r = record_read(world()->folder.fd, ID "0", &got, reterr);
        json_table_done(&deploy_record_table, &got);
        if (r < 0)
                return r;
        r = record_list(world()->folder.fd, &ids);
        return r < 0 ? error_set(reterr, r, "list") : 0;
}

/* ---- configuration ---- */

static void config_begin(void) {
        _cleanup_close_ int fd = -EBADF;

        world_begin();
        fd = file_mkdirs_at(world()->folder.fd, "etc/tendril/tendril.d", 0755);
        put("etc/tendril/tendril.yaml", "environment: test\ngate: {path: /x}\n");
        put("etc/tendril/tendril.d/10-a.yaml", "gate: {path: /y}\n");
        step("paths", paths_init(world()->folder.path, &world()->paths, NULL));
}

static int run_config_load(Error **reterr) {
        _cleanup_(config_freep) Config *config = NULL;
        char one[] = "TENDRIL_GATE_CONSECUTIVE=2", *env[] = { one, NULL };
        int r;

        r = config_load(&world()->paths, env, &config, reterr);
        if (r >= 0 && (!str_equal(config->gate.path, "/y") || config->gate.consecutive != 2))
                countdown_bad("half a configuration");
        return r;
}

/* ---- the store ---- */

typedef struct Answer {
        bool done;
        int r;
        char etag[160];
        size_t n;
        bool words;
} Answer;

static void on_answer(void *userdata, int r, const StoreReply *reply, Error *err) {
        Answer *a = userdata;

        a->done = true;
        a->r = r;
        a->words = err != NULL;
        if (reply && reply->etag)
                (void) snprintf(a->etag, sizeof(a->etag), "%s", reply->etag);
        a->n = reply ? reply->n_entries : 0;
}

static int await(Answer *a, int started, Error **reterr) {
        if (started < 0)
                return error_set(reterr, started, "not begun");
        while (!a->done)
                if (sd_event_run(world()->loop, SEC(15)) <= 0) {
                        countdown_bad("the store does not answer");
                        return error_set(reterr, -ETIMEDOUT, "no answer");
                }
        if (a->r < 0 && a->words)
                (void) error_set(reterr, a->r, "with words");
        return a->r;
}

static int put_one(const char *key, const char *text, StoreCondition condition, const char *etag,
                   Answer *a, Error **reterr) {
        StoreBody body = { .body = text, .size = strlen(text), .fd = -EBADF };

        *a = (Answer){ 0 };
        return await(a, store_put(world()->store, key, &body, condition, etag, on_answer, a, NULL),
                     reterr);
}

static Answer *first(void) {
        static Answer a;

        return &a;
}

static void store_begin(void) {
        char url[128];
        World *w = world();

        world_begin();
        (void) snprintf(url, sizeof(url), "file://%.*s", (int) sizeof(w->folder.path),
                        w->folder.path);
        step("loop", sd_event_new(&w->loop));
        step("store", store_file_new(w->loop, url, NULL, &w->store, NULL));
        step("put", put_one("a/b.json", "old", STORE_ALWAYS, NULL, first(), NULL));
}

static int run_store_new(Error **reterr) {
        _cleanup_(store_freep) Store *store = NULL;
        char url[128];

        (void) snprintf(url, sizeof(url), "file://%.*s", (int) sizeof(world()->folder.path),
                        world()->folder.path);
        return store_file_new(world()->loop, url, NULL, &store, reterr);
}

static int run_store_put(Error **reterr) {
        Answer a;

        return put_one("a/b.json", "new", STORE_IF_MATCHES, first()->etag, &a, reterr);
}

static void store_put_end(int r) {
        check_one_of("a/b.json", r < 0 ? "old" : "new", "new");
        world_end(r);
}

static int run_store_create(Error **reterr) {
        Answer a;

        return put_one("c/d/e.json", "new", STORE_IF_ABSENT, NULL, &a, reterr);
}

static void store_create_end(int r) {
        check_one_of("c/d/e.json", r < 0 ? NULL : "new", "new");
        world_end(r);
}

static int run_store_document(Error **reterr) {
        static const char text[] = "{\"nonce\":\"00112233445566778899aabbccddeeff\"}";
        Answer a = { 0 };
        int r;

        r = await(&a,
                  store_put_document(world()->store, "a/b.json", text, sizeof(text) - 1,
                                     "00112233445566778899aabbccddeeff", STORE_IF_MATCHES,
                                     first()->etag, on_answer, &a, NULL),
                  reterr);
        return r;
}

/* Refused: it failed, and reading back has shown that it was not written. */
static void store_document_end(int r) {
        static const char text[] = "{\"nonce\":\"00112233445566778899aabbccddeeff\"}";

        check_one_of("a/b.json", r != 0 ? "old" : text, r > 0 ? "old" : text);
        world_end(r);
}

static int run_store_get(Error **reterr) {
        Answer a = { 0 };
        int r;

        r = await(&a, store_get(world()->store, "a/b.json", NULL, on_answer, &a, NULL), reterr);
        if (r > 0)
                countdown_bad("a document that is there was answered with %d", r);
        return r;
}

static int run_store_list(Error **reterr) {
        Answer a = { 0 };
        int r;

        r = await(&a, store_list(world()->store, "a/", NULL, on_answer, &a, NULL), reterr);
        if (r >= 0 && a.n != 1)
                countdown_bad("a list without what is there");
        return r;
}

static int run_store_delete(Error **reterr) {
        Answer a = { 0 };

        return await(&a, store_delete(world()->store, "a/b.json", NULL, on_answer, &a, NULL),
                     reterr);
}

static void store_delete_end(int r) {
        check_one_of("a/b.json", r < 0 ? "old" : NULL, NULL);
        world_end(r);
}

static int run_store_fetch(Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        Answer a = { 0 };
        int r;

        countdown_pause();
        fd = openat(world()->folder.fd, "fetched", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        countdown_resume();
        r = await(&a,
                  store_fetch(world()->store, "a/b.json",
                              &(StoreFetch){ .fd = fd, .map_fd = -EBADF }, on_answer, &a, NULL),
                  reterr);
        if (r > 0)
                countdown_bad("an object that is there was answered with %d", r);
        return r;
}

static void store_fetch_end(int r) {
        if (r >= 0)
                check_one_of("fetched", "old", "old");
        world_end(r);
}

static int run_store_put_fd(Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        StoreBody body = { 0 };
        Answer a = { 0 };

        countdown_pause();
        put("body", "a large body");
        fd = openat(world()->folder.fd, "body", O_RDONLY | O_CLOEXEC);
        countdown_resume();
        body.fd = fd;
        body.size = 12;
        return await(&a,
                     store_put(world()->store, "f/bundle", &body, STORE_IF_ABSENT, NULL, on_answer,
                               &a, NULL),
                     reterr);
}

static void store_put_fd_end(int r) {
        check_one_of("f/bundle", r < 0 ? NULL : "a large body", "a large body");
        world_end(r);
}

/* ---- children ---- */

static void child_begin(void) {
        world_begin();
        step("loop", sd_event_new(&world()->loop));
}

typedef struct Ended {
        bool is;
        int code;
        unsigned lines;
} Ended;

static void on_line(_unused_ Child *child, _unused_ const char *line, void *userdata) {
        ((Ended *) userdata)->lines++;
}

static void on_exit_of(_unused_ Child *child, const ChildExit *how, void *userdata) {
        Ended *e = userdata;

        e->is = true;
        e->code = how->code;
}

static int run_child(Error **reterr) {
        _cleanup_(child_freep) Child *child = NULL;
        char sh[] = "sh", c[] = "-c", script[] = "echo x; exit 3", path[] = "PATH=/bin:/usr/bin";
        char *argv[] = { sh, c, script, NULL }, *env[] = { path, NULL };
        Ended ended = { 0 };
        int r;

        r = child_spawn(world()->loop,
                        &(ChildSpec){ .name = "x",
                                      .argv = argv,
                                      .env = env,
                                      .timeout_usec = SEC(10),
                                      .on_line = on_line,
                                      .on_exit = on_exit_of,
                                      .userdata = &ended },
                        &child, reterr);
        if (r < 0)
                return r;
        while (!ended.is)
                if (sd_event_run(world()->loop, SEC(15)) <= 0) {
                        countdown_bad("the end of a child does not come");
                        return 0;
                }
        if (ended.code != 3)
                countdown_bad("a child ended with %d", ended.code);
        return 0;
}

/* ---- bundles ---- */

static void bundle_begin(void) {
        _cleanup_close_ int fd = -EBADF;

        world_begin();
        fd = file_mkdirs_at(world()->folder.fd, "tree", 0700);
        put("tree/Procfile", "web: ./run\nworker: ./work\n");
        put("tree/Buildfile", "deps: make\n");
        fd = (closep(&fd),
              file_mkdirs_at(world()->folder.fd, "tree/.platform/hooks/prebuild", 0700));
        put("tree/.platform/hooks/prebuild/10-a", "#!/bin/sh\n");
}

static int run_plan(Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        Plan plan = { 0 };
        int r;

        countdown_pause();
        fd = file_open_dir_at(world()->folder.fd, "tree");
        countdown_resume();
        r = bundle_plan(fd, &(TaskPlan){ 0 }, &plan, reterr);
        if (r >= 0 && plan.processes.n != 2)
                countdown_bad("half a plan");
        json_table_done(&plan_table, &plan);
        return r;
}

static int run_verify(Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        TaskVerified got = { 0 };
        int r;

        countdown_pause();
        fd = openat(world()->folder.fd, "tree/Procfile", O_RDONLY | O_CLOEXEC);
        countdown_resume();
        r = bundle_verify(fd, &(TaskVerify){ 0 }, &got, reterr);
        json_table_done(&task_verified_table, &got);
        return r;
}

static void unpack_begin(void) {
        _cleanup_close_ int fd = -EBADF;

        world_begin();
        fd = file_mkdirs_at(world()->folder.fd, "tree", 0700);
}

static int run_unpack(Error **reterr) {
        _cleanup_close_ int fd = -EBADF, tree = -EBADF;
        TaskUnpacked got = { 0 };
        int r;

        countdown_pause();
        fd = open("tests/corpus/unpack/good-zip", O_RDONLY | O_CLOEXEC);
        tree = file_open_dir_at(world()->folder.fd, "tree");
        countdown_resume();
        r = bundle_unpack(fd, tree, &(TaskUnpack){ .threads = 1 }, &got, reterr);
        if (r >= 0 && got.entries == 0)
                countdown_bad("nothing was unpacked");
        json_table_done(&task_unpacked_table, &got);
        return r;
}

/* ---- fsck ---- */

static void fsck_begin(void) {
        _cleanup_(state_freep) State *s = NULL;
        _cleanup_close_ int fd = -EBADF;

        world_begin();
        step("paths", paths_init(world()->folder.path, &world()->paths, NULL));
        fd = file_mkdirs_at(world()->folder.fd, "var/lib/tendril", 0711);
        s = state_new();
        step("save", state_save(fd, s, NULL));
}

static void on_finding(_unused_ void *userdata, _unused_ const FsckFinding *finding) {
}

static int run_fsck(Error **reterr) {
        return MIN(fsck_run(&world()->paths, false, on_finding, NULL, reterr), 0);
}

/* clang-format off */
const Case cases[] = {
        { "file-replace",   file_begin,   run_file_replace,   file_end,           CASE_NO_WORDS },
        { "file-absent",    file_begin,   run_file_absent,    file_absent_end,    CASE_NO_WORDS },
        { "mkdirs",         file_begin,   run_mkdirs,         world_end,          CASE_NO_WORDS },
        { "state-save",     state_begin,  run_state_save,     state_end,          0 },
        { "state-load",     state_begin,  run_state_load,     world_end,          0 },
        { "record-write",   record_begin, run_record_write,   record_end,         0 },
        { "record-read",    record_begin, run_record_read,    world_end,          0 },
        { "config-load",    config_begin, run_config_load,    world_end,          0 },
        { "store-new",      store_begin,  run_store_new,      world_end,          0 },
        { "store-put",      store_begin,  run_store_put,      store_put_end,      0 },
        { "store-create",   store_begin,  run_store_create,   store_create_end,   0 },
        { "store-document", store_begin,  run_store_document, store_document_end, 0 },
        { "store-get",      store_begin,  run_store_get,      world_end,          0 },
        { "store-list",     store_begin,  run_store_list,     world_end,          0 },
        { "store-delete",   store_begin,  run_store_delete,   store_delete_end,   0 },
        { "store-fetch",    store_begin,  run_store_fetch,    store_fetch_end,    0 },
        { "store-put-fd",   store_begin,  run_store_put_fd,   store_put_fd_end,   0 },
        { "child",          child_begin,  run_child,          world_end,          0 },
        { "plan",           bundle_begin, run_plan,           world_end,          0 },
        { "verify",         bundle_begin, run_verify,         world_end,          0 },
        { "unpack",         unpack_begin, run_unpack,         world_end,          0 },
        { "fsck",           fsck_begin,   run_fsck,           world_end,          0 },
        { 0 },
};
/* clang-format on */
