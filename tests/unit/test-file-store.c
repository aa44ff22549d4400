#include "store-suite.h"

#include <dirent.h>
#include <ftw.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "store/file.h"

/* Where the suite's store is: a folder of its own, emptied by making another one. */
typedef struct Place {
        char root[64];
        char url[160];
        unsigned n;
        usec_t now_usec; /* the fake clock */
} Place;

static usec_t place_now(void *userdata, _unused_ clockid_t which) {
        return ((const Place *) userdata)->now_usec;
}

static int place_reset(void *userdata) {
        Place *p = userdata;
        char path[128];

        (void) snprintf(path, sizeof(path), "%s/%u", p->root, p->n++);
        (void) snprintf(p->url, sizeof(p->url), "file://%s", path);
        return mkdir(path, 0700) < 0 ? -errno : 0;
}

static int place_connect(void *userdata, sd_event *loop, Store **ret) {
        Place *p = userdata;

        return store_file_new(loop, p->url, NULL, ret, NULL);
}

static const char *place_path(const Place *p) {
        return p->url + strlen("file://");
}

static int remove_entry(const char *path, _unused_ const struct stat *st, _unused_ int type,
                        _unused_ struct FTW *ftw) {
        return remove(path);
}

/* ---- what only files have; the state is a Place ---- */

static void world_init(World *w, Place *p, const Clock *clock) {
        assert_int_equal(place_reset(p), 0);
        *w = (World){ 0 };
        assert_true(sd_event_new(&w->loop) >= 0);
        assert_int_equal(store_file_new(w->loop, p->url, clock, &w->store, NULL), 0);
}

static void world_done(World *w) {
        w->store = store_free(w->store);
        w->loop = sd_event_unref(w->loop);
}

static void test_urls(void **state) {
        static const char *const bad[] = { "",     "file:",       "file://",  "file://host/x",
                                           "/tmp", "s3://bucket", "file:/tmp" };
        Place *p = *state;
        Store *store = NULL;

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                _cleanup_(error_freep) Error *err = NULL;

                assert_int_equal(store_file_new(NULL, bad[i], NULL, &store, &err), -EINVAL);
                assert_non_null(strstr(error_text(err), "file:///path"));
        }
        {
                _cleanup_(error_freep) Error *err = NULL;
                char url[128];

                (void) snprintf(url, sizeof(url), "file://%s/absent", p->root);
                assert_int_equal(store_file_new(NULL, url, NULL, &store, &err), -ENOENT);
                assert_non_null(strstr(error_text(err), "tendril init"));
        }
}

static void test_url_and_locality(void **state) {
        Place *p = *state;
        World w;

        world_init(&w, p, NULL);
        assert_string_equal(store_url(w.store), p->url);
        assert_true(store_is_local(w.store));
        world_done(&w);
}

static void test_ages(void **state) {
        Place *p = *state;
        Clock clock = { place_now, p };
        Outcome o = { 0 };
        World w;

        p->now_usec = SEC(1000);
        world_init(&w, p, &clock);
        suite_put(&w, "a", "one", STORE_ALWAYS, NULL, &o);
        assert_int_equal(o.age_usec, 0);
        p->now_usec += SEC(7);
        suite_get(&w, "a", NULL, &o);
        assert_int_equal(o.age_usec, SEC(7));
        p->now_usec += SEC(3);
        {
                char etag[160];

                memcpy(etag, o.etag, sizeof(etag));
                assert_int_equal(suite_get(&w, "a", etag, &o), STORE_UNCHANGED);
        }
        assert_int_equal(o.age_usec, SEC(10));
        suite_put(&w, "a", "two", STORE_ALWAYS, NULL, &o);
        p->now_usec += SEC(1);
        suite_get(&w, "a", NULL, &o);
        assert_int_equal(o.age_usec, SEC(1));
        /* A process that never saw it knows nothing of its past. */
        w.store = store_free(w.store);
        assert_int_equal(store_file_new(w.loop, p->url, &clock, &w.store, NULL), 0);
        suite_get(&w, "a", NULL, &o);
        assert_int_equal(o.age_usec, 0);
        outcome_clear(&o);
        world_done(&w);
}

/* More documents than ages are kept of: the ones read last keep theirs. */
static void test_ages_are_bounded(void **state) {
        Place *p = *state;
        Clock clock = { place_now, p };
        Outcome o = { 0 };
        char key[32];
        World w;

        p->now_usec = SEC(1000);
        world_init(&w, p, &clock);
        for (unsigned i = 0; i < 300; i++) {
                (void) snprintf(key, sizeof(key), "k/%u", i);
                suite_put(&w, key, "x", STORE_ALWAYS, NULL, &o);
                p->now_usec += SEC(1);
        }
        suite_get(&w, "k/299", NULL, &o);
        assert_int_equal(o.age_usec, SEC(1));
        suite_get(&w, "k/0", NULL, &o);
        assert_int_equal(o.age_usec, 0);
        outcome_clear(&o);
        world_done(&w);
}

/* Another process that holds the lock until release is closed. */
static pid_t hold_lock(const Place *p, int *ret_release) {
        int ready[2], release[2];
        char path[192], byte;
        pid_t pid;

        (void) snprintf(path, sizeof(path), "%s/.lock", place_path(p));
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        assert_int_equal(pipe2(release, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);

                close(release[1]);
                if (fd < 0 || flock(fd, LOCK_EX) < 0 || write(ready[1], "x", 1) != 1)
                        _exit(1);
                (void) !read(release[0], &byte, 1);
                _exit(0);
        }
        close(ready[1]);
        close(release[0]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        *ret_release = release[1];
        return pid;
}

static void test_lock_is_tried_again(void **state) {
        Place *p = *state;
        StoreBody body = { .body = "x", .size = 1, .fd = -1 };
        Outcome o = { 0 }, other = { 0 };
        int release, status;
        World w;
        pid_t pid;

        world_init(&w, p, NULL);
        pid = hold_lock(p, &release);
        assert_int_equal(
                store_put(w.store, "a", &body, STORE_IF_ABSENT, NULL, outcome_on_done, &o, NULL),
                0);
        for (unsigned i = 0; i < 5; i++)
                assert_true(sd_event_run(w.loop, SEC(1)) > 0);
        assert_int_equal(o.n_done, 0);
        /* Reading needs no lock. */
        assert_int_equal(suite_get(&w, "a", NULL, &other), STORE_ABSENT);
        close(release);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        while (o.n_done == 0)
                assert_true(sd_event_run(w.loop, SEC(10)) > 0);
        assert_int_equal(o.r, 0);
        outcome_clear(&o);
        world_done(&w);
}

static void test_lock_times_out(void **state) {
        Place *p = *state;
        Clock clock = { place_now, p };
        StoreBody body = { .body = "x", .size = 1, .fd = -1 };
        Outcome put = { 0 }, gone = { 0 };
        int release, status;
        World w;
        pid_t pid;

        p->now_usec = SEC(1);
        world_init(&w, p, &clock);
        suite_put(&w, "b", "x", STORE_ALWAYS, NULL, &put);
        outcome_clear(&put);
        pid = hold_lock(p, &release);
        assert_int_equal(
                store_put(w.store, "a", &body, STORE_ALWAYS, NULL, outcome_on_done, &put, NULL), 0);
        assert_int_equal(store_delete(w.store, "b", NULL, outcome_on_done, &gone, NULL), 0);
        for (unsigned i = 0; i < 4; i++)
                (void) sd_event_run(w.loop, SEC(1));
        assert_int_equal(put.n_done, 0);
        p->now_usec += SEC(11);
        while (put.n_done == 0 || gone.n_done == 0)
                assert_true(sd_event_run(w.loop, SEC(10)) > 0);
        assert_int_equal(put.r, -ETIMEDOUT);
        assert_int_equal(gone.r, -ETIMEDOUT);
        assert_non_null(strstr(put.words, ".lock"));
        close(release);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(suite_get(&w, "a", NULL, &put), STORE_ABSENT);
        outcome_clear(&put);
        world_done(&w);
}

/* A lock file that was removed and made again by others excludes only who holds the new one. */
static void test_lock_removed_meanwhile(void **state) {
        Place *p = *state;
        char path[192];
        Outcome o = { 0 };
        int release, status;
        World w;
        pid_t pid;

        world_init(&w, p, NULL);
        pid = hold_lock(p, &release);
        (void) snprintf(path, sizeof(path), "%s/.lock", place_path(p));
        assert_int_equal(unlink(path), 0);
        assert_int_equal(suite_put(&w, "a", "x", STORE_IF_ABSENT, NULL, &o), 0);
        close(release);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        outcome_clear(&o);
        world_done(&w);
}

static unsigned count_temporaries(const Place *p) {
        char path[192];
        unsigned n = 0;
        const struct dirent *entry;
        DIR *dir;

        (void) snprintf(path, sizeof(path), "%s/.tmp-writes", place_path(p));
        dir = opendir(path);
        if (!dir)
                return 0;
        for (entry = readdir(dir); entry; entry = readdir(dir))
                n += entry->d_name[0] != '.';
        closedir(dir);
        return n;
}

static void die_on_progress(_unused_ void *userdata, _unused_ uint64_t n_bytes,
                            _unused_ uint64_t size) {
        raise(SIGKILL);
}

/* A writer that is killed in the middle of a large body. */
static void crash_while_writing(const Place *p) {
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                StoreBody body = { .fd = suite_pattern(20 * 1024 * 1024, 1),
                                   .progress = die_on_progress };
                Outcome o = { 0 };
                sd_event *loop;
                Store *store;

                if (sd_event_new(&loop) < 0 ||
                    store_file_new(loop, p->url, NULL, &store, NULL) < 0 ||
                    store_put(store, "big", &body, STORE_ALWAYS, NULL, outcome_on_done, &o, NULL) <
                            0)
                        _exit(1);
                while (sd_event_run(loop, SEC(10)) > 0)
                        ;
                _exit(2);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
}

static void test_leftovers_are_swept(void **state) {
        Place *p = *state;
        StoreBody body = { .fd = suite_pattern(20 * 1024 * 1024, 2) };
        Watched t = { 0 };
        Store *other = NULL;
        Outcome o = { 0 };
        World w;

        world_init(&w, p, NULL);
        crash_while_writing(p);
        assert_int_equal(count_temporaries(p), 1);
        /* One of ours is being written: it stays. */
        body.progress = watched_on_progress;
        assert_int_equal(
                store_put(w.store, "mine", &body, STORE_ALWAYS, NULL, watched_on_done, &t, &t.call),
                0);
        while (t.n_progress == 0)
                assert_true(sd_event_run(w.loop, SEC(10)) > 0);
        assert_int_equal(count_temporaries(p), 2);
        assert_int_equal(store_file_new(w.loop, p->url, NULL, &other, NULL), 0);
        assert_int_equal(count_temporaries(p), 1);
        while (t.o.n_done == 0)
                assert_true(sd_event_run(w.loop, SEC(10)) > 0);
        assert_int_equal(t.o.r, 0);
        assert_int_equal(count_temporaries(p), 0);
        assert_int_equal(suite_get(&w, "big", NULL, &o), STORE_ABSENT);
        other = store_free(other);
        close(body.fd);
        outcome_clear(&o);
        outcome_clear(&t.o);
        world_done(&w);
}

static void test_cancel_leaves_nothing(void **state) {
        Place *p = *state;
        StoreBody body = { .fd = suite_pattern(20 * 1024 * 1024, 3),
                           .progress = watched_on_progress };
        Watched t = { .cancel = true };
        World w;

        world_init(&w, p, NULL);
        assert_int_equal(
                store_put(w.store, "big", &body, STORE_ALWAYS, NULL, watched_on_done, &t, &t.call),
                0);
        while (t.n_progress == 0)
                assert_true(sd_event_run(w.loop, SEC(10)) > 0);
        assert_int_equal(count_temporaries(p), 0);
        close(body.fd);
        world_done(&w);
}

/* What somebody else put among the documents is neither read nor followed nor listed. */
static void test_strange_files(void **state) {
        Place *p = *state;
        char path[192];
        Outcome o = { 0 };
        World w;

        world_init(&w, p, NULL);
        suite_put(&w, "real/a", "x", STORE_ALWAYS, NULL, &o);
        (void) snprintf(path, sizeof(path), "%s/link", place_path(p));
        assert_int_equal(symlink("/etc", path), 0);
        (void) snprintf(path, sizeof(path), "%s/real/passwd", place_path(p));
        assert_int_equal(symlink("/etc/passwd", path), 0);
        (void) snprintf(path, sizeof(path), "%s/real/fifo", place_path(p));
        assert_int_equal(mkfifo(path, 0600), 0);

        assert_int_equal(suite_get(&w, "link/passwd", NULL, &o), STORE_ABSENT);
        assert_int_equal(suite_get(&w, "real/passwd", NULL, &o), STORE_ABSENT);
        assert_int_equal(suite_get(&w, "real/fifo", NULL, &o), STORE_ABSENT);
        assert_true(suite_put(&w, "link/x", "x", STORE_ALWAYS, NULL, &o) < 0);
        assert_true(suite_put(&w, "real/a/b", "x", STORE_ALWAYS, NULL, &o) < 0);
        assert_non_null(strstr(o.words, "real/a/b"));
        assert_true(suite_put(&w, "real", "x", STORE_ALWAYS, NULL, &o) < 0);
        assert_int_equal(suite_list(&w, "", NULL, &o), 0);
        assert_int_equal(o.n_keys, 1);
        assert_string_equal(o.keys[0], "real/a");
        outcome_clear(&o);
        world_done(&w);
}

/* An editor that changes the file in place is seen too. */
static void test_edited_in_place(void **state) {
        Place *p = *state;
        char path[192], etag[160];
        Outcome o = { 0 };
        World w;
        int fd;

        world_init(&w, p, NULL);
        suite_put(&w, "a", "one", STORE_ALWAYS, NULL, &o);
        memcpy(etag, o.etag, sizeof(etag));
        (void) snprintf(path, sizeof(path), "%s/a", place_path(p));
        fd = open(path, O_WRONLY);
        assert_int_equal(pwrite(fd, "two", 3, 0), 3);
        close(fd);
        assert_int_equal(suite_get(&w, "a", etag, &o), 0);
        assert_string_equal(o.body, "two");
        assert_int_equal(suite_put(&w, "a", "x", STORE_IF_MATCHES, etag, &o), STORE_REFUSED);
        outcome_clear(&o);
        world_done(&w);
}

static void test_empty_folders_go(void **state) {
        Place *p = *state;
        char path[192];
        Outcome o = { 0 };
        World w;

        world_init(&w, p, NULL);
        suite_put(&w, "a/b/c/d", "x", STORE_ALWAYS, NULL, &o);
        suite_put(&w, "a/e", "x", STORE_ALWAYS, NULL, &o);
        assert_int_equal(suite_delete(&w, "a/b/c/d", NULL, &o), 0);
        (void) snprintf(path, sizeof(path), "%s/a/b", place_path(p));
        assert_int_equal(access(path, F_OK), -1);
        (void) snprintf(path, sizeof(path), "%s/a/e", place_path(p));
        assert_int_equal(access(path, F_OK), 0);
        outcome_clear(&o);
        world_done(&w);
}

/* As another user, who may read but not write. */
static void test_no_right_to_write(void **state) {
        Place *p = *state;
        Outcome o = { 0 };
        World w;

        if (geteuid() == 0) {
                skip();
                return;
        }
        world_init(&w, p, NULL);
        suite_put(&w, "a", "x", STORE_ALWAYS, NULL, &o);
        assert_int_equal(chmod(place_path(p), 0500), 0);
        assert_int_equal(suite_put(&w, "b/c", "x", STORE_ALWAYS, NULL, &o), -EACCES);
        assert_non_null(strstr(o.words, "owner"));
        assert_int_equal(suite_get(&w, "a", NULL, &o), 0);
        assert_int_equal(chmod(place_path(p), 0700), 0);
        outcome_clear(&o);
        world_done(&w);
}

int main(void) {
        static Place place;
#define ON_PLACE(test) cmocka_unit_test_prestate(test, &place)
        const struct CMUnitTest tests[] = {
                ON_PLACE(test_urls),
                ON_PLACE(test_url_and_locality),
                ON_PLACE(test_ages),
                ON_PLACE(test_ages_are_bounded),
                ON_PLACE(test_lock_is_tried_again),
                ON_PLACE(test_lock_times_out),
                ON_PLACE(test_lock_removed_meanwhile),
                ON_PLACE(test_leftovers_are_swept),
                ON_PLACE(test_cancel_leaves_nothing),
                ON_PLACE(test_strange_files),
                ON_PLACE(test_edited_in_place),
                ON_PLACE(test_empty_folders_go),
                ON_PLACE(test_no_right_to_write),
        };
        /* The suite where syncing costs nothing, if there is such a place; what is of files alone
         * on a disk. */
        static Place suite_place = { .root = "/dev/shm/test-file-store.XXXXXX" };
        Suite suite = { "file-store-suite", SERVER_FILE, place_reset, place_connect, &suite_place };
        int failed;

        (void) snprintf(place.root, sizeof(place.root), "/tmp/test-file-store.XXXXXX");
        if (!mkdtemp(place.root))
                return 1;
        if (!mkdtemp(suite_place.root))
                (void) snprintf(suite_place.root, sizeof(suite_place.root), "%.40s/suite",
                                place.root);
        (void) mkdir(suite_place.root, 0700);
        failed = store_suite_run(&suite);
        failed += cmocka_run_group_tests_name("file-store", tests, NULL, NULL);
        (void) nftw(suite_place.root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        (void) nftw(place.root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        return failed;
}
