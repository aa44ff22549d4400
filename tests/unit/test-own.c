/* The supervisor with real processes. tendril-tree is this very file, executed again under its
 * name. Each test runs twice: with cgroups (where there are any) and without. */

#include <stdbool.h>

#include "base/error.h"

static int test_cgroup_make(const char *instance, const char *name, int *ret_fd, Error **reterr);
#define cgroup_make test_cgroup_make
#include "../../agent/service/own.c"
#undef cgroup_make

int cgroup_make(const char *instance, const char *name, int *ret_fd, Error **reterr);
int tree_program(int argc, char **argv);
#define main tree_program
#include "../../agent/programs/tree.c"
#undef main

#include <poll.h>
#include <sys/stat.h>

#include "folder.h"
#include "loop.h"

static bool without_cgroups;

static int test_cgroup_make(const char *instance, const char *name, int *ret_fd, Error **reterr) {
        return without_cgroups ? CGROUP_NONE : cgroup_make(instance, name, ret_fd, reterr);
}

#define MAX_EVENTS 256

typedef struct Event {
        ServiceState state;
        char name[32];
        pid_t pid;
        unsigned n_restarts;
        bool adopted;
        char last_exit[96];
} Event;

typedef struct Fixture {
        sd_event *loop;
        Folder folder;
        int tree_fd;
        char instance[32];
        Services *services;
        usec_t boot_usec; /* of the fake clock */
        Clock clock;

        Event events[MAX_EVENTS];
        int n_events, n_up, n_waiting, n_stopped, n_done;
        int n_records;
        int refuse;       /* what on_records() answers */
        bool saw_waiting; /* each process was still tendril-tree when it was written down */
        bool die;         /* this process ends when it should write down */
} Fixture;

static usec_t fake_now(void *userdata, clockid_t which) {
        (void) which;
        return ((Fixture *) userdata)->boot_usec;
}

static void on_event(void *userdata, const ServiceStatus *status) {
        Fixture *f = userdata;
        Event *e = &f->events[f->n_events++ % MAX_EVENTS];

        *e = (Event){ .state = status->state,
                      .pid = status->pid,
                      .n_restarts = status->n_restarts,
                      .adopted = status->adopted };
        (void) snprintf(e->name, sizeof(e->name), "%s", status->name);
        (void) snprintf(e->last_exit, sizeof(e->last_exit), "%s", status->last_exit);
        f->n_up += status->state == SERVICE_UP;
        f->n_waiting += status->state == SERVICE_WAITING;
        f->n_stopped += status->state == SERVICE_STOPPED;
}

static void on_end_done(void *userdata) {
        ((Fixture *) userdata)->n_done++;
}

/* What its command line begins with. */
static bool pid_is_tree(pid_t pid) {
        _cleanup_(buf_done) Buf text = BUF_INIT(65536);
        char path[64];

        (void) snprintf(path, sizeof(path), "/proc/%d/cmdline", (int) pid);
        return file_read_at(AT_FDCWD, path, &text) >= 0 &&
               str_equal(buf_str(&text), "tendril-tree");
}

static int on_records(void *userdata) {
        Fixture *f = userdata;
        JsonArray records = { 0 };
        ServiceStatus s;

        f->n_records++;
        if (f->die)
                _exit(9);
        assert_int_equal(services_records(f->services, &records), 0);
        for (size_t i = 0; i < records.n; i++) {
                const ServiceRecord *r = (const ServiceRecord *) records.items + i;
                if (services_find(f->services, slot_from_name(r->slot), r->name, &s) &&
                    s.state == SERVICE_WAITING)
                        f->saw_waiting = pid_is_tree((pid_t) r->pid);
        }
        for (size_t i = 0; i < records.n; i++)
                json_table_done(&service_record_table, (ServiceRecord *) records.items + i);
        free(records.items);
        return f->refuse;
}

static void new_services(Fixture *f) {
        assert_int_equal(services_new(f->loop,
                                      &(ServicesConfig){ .instance = f->instance,
                                                         .log_dir = f->folder.path,
                                                         .tree_fd = f->tree_fd,
                                                         .log_bytes = 4096,
                                                         .clock = &f->clock,
                                                         .on_records = on_records,
                                                         .on_event = on_event,
                                                         .userdata = f },
                                      &f->services, NULL),
                         0);
}

static int setup(void **state) {
        static unsigned n;
        Fixture *f = calloc(1, sizeof(*f));

        f->loop = loop_new();
        f->folder = folder_new();
        f->tree_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
        f->boot_usec = SEC(1000);
        f->clock = (Clock){ fake_now, f };
        (void) snprintf(f->instance, sizeof(f->instance), "test-own-%d-%u", (int) getpid(), n++);
        new_services(f);
        *state = f;
        return 0;
}

static int setup_with(void **state) {
        without_cgroups = false;
        return setup(state);
}

static int setup_without(void **state) {
        without_cgroups = true;
        return setup(state);
}

static void stop_all(Fixture *f) {
        ServiceStatus s;
        int n = 0;

        for (size_t i = 0; services_get(f->services, i, &s); i++, n++)
                (void) services_stop(f->services, s.slot, s.name);
        loop_until(f->loop, &f->n_stopped, f->n_stopped + n);
}

static int teardown(void **state) {
        Fixture *f = *state;

        stop_all(f);
        f->services = services_free(f->services);
        f->loop = sd_event_unref(f->loop);
        /* A process is in its group for a moment after it has closed its files. */
        for (unsigned i = 0; cgroup_remove(f->instance, "") < 0; i++) {
                assert_true(i < 5000);
                (void) usleep(1000);
        }
        folder_done(&f->folder);
        (void) close(f->tree_fd);
        free(f);
        return 0;
}

static char *const env[] = { (char *) (uintptr_t) "PATH=/usr/bin:/bin",
                             (char *) (uintptr_t) "WORD=of-the-environment", NULL };

static ServiceSpec spec_of(const char *name, const char *command) {
        return (ServiceSpec){ .slot = SLOT_A,
                              .name = name,
                              .command = command,
                              .env = env,
                              .uid = geteuid(),
                              .gid = getegid(),
                              .stop_usec = MSEC(500) };
}

static void start(Fixture *f, const ServiceSpec *spec) {
        _cleanup_(error_freep) Error *err = NULL;

        if (services_start(f->services, spec, &err) < 0)
                fail_msg("%s", error_text(err));
}

static ServiceStatus find(const Fixture *f, const char *name) {
        ServiceStatus s = { 0 };

        assert_true(services_find(f->services, SLOT_A, name, &s));
        return s;
}

static const Event *last_event(const Fixture *f) {
        assert_true(f->n_events > 0);
        return &f->events[(f->n_events - 1) % MAX_EVENTS];
}

static char *log_of(const Fixture *f, const char *file) {
        Buf text = BUF_INIT(65536);

        (void) file_read_at(f->folder.fd, file, &text);
        return buf_steal(&text);
}

/* Runs the loop until the log has these words. */
static void until_log(Fixture *f, const char *file, const char *words) {
        for (unsigned i = 0; i < 3000; i++) {
                _cleanup_free_ char *text = log_of(f, file);
                if (strstr(text, words))
                        return;
                assert_true(sd_event_run(f->loop, 10000) >= 0);
        }
        fail_msg("'%s' never came to %s", words, file);
}

static void test_starts_and_stops(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "echo \"$WORD\"; pwd; exec sleep 1000");

        spec.app_dir = "/usr";
        start(f, &spec);
        assert_int_equal(services_start(f->services, &spec, NULL), -EEXIST);
        assert_int_equal(f->n_events, 0); /* not from within the call */
        loop_until(f->loop, &f->n_up, 1);
        assert_true(f->n_records > 0 && f->saw_waiting);
        assert_int_equal(services_count(f->services, SLOT_A), 1);
        assert_int_equal(services_count(f->services, SLOT_B), 0);
        ServiceStatus s = find(f, "web");
        assert_true(s.pid > 1 && s.state == SERVICE_UP && !s.adopted && s.n_restarts == 0);
        until_log(f, "web.log", "of-the-environment\n/usr\n");
        /* In the moment of its exec it has no memory to speak of. */
        for (unsigned i = 0; services_peak(f->services, SLOT_A) <= 100000; i++) {
                assert_true(i < 5000);
                (void) usleep(1000);
        }

        assert_int_equal(services_stop(f->services, SLOT_B, "web"), -ENOENT);
        assert_int_equal(services_stop(f->services, SLOT_A, "web"), 0);
        assert_int_equal(services_stop(f->services, SLOT_A, "web"), 0);
        pid_t pid = s.pid;
        loop_until(f->loop, &f->n_stopped, 1);
        assert_true(pid_is_gone(pid));
        assert_string_equal(last_event(f)->last_exit, "signal 15 (Terminated)");
        assert_int_equal(services_count(f->services, SLOT_A), 0);
}

static void test_starts_again_with_backoff(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "exit 3");
        usec_t before = clock_read(NULL, CLOCK_MONOTONIC);

        start(f, &spec);
        loop_until(f->loop, &f->n_waiting, 3);
        assert_int_equal(last_event(f)->n_restarts, 3);
        assert_string_equal(last_event(f)->last_exit, "exit 3");
        /* Two waits lie behind it: at least half of 0.1 s and of 0.2 s. */
        assert_true(clock_read(NULL, CLOCK_MONOTONIC) - before >= MSEC(150));
        assert_int_equal(services_stop(f->services, SLOT_A, "web"), 0);
        loop_until(f->loop, &f->n_stopped, 1);
        assert_int_equal(services_count(f->services, SLOT_A), 0);
}

static void test_calm_resets_backoff(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "exec sleep 1000");

        start(f, &spec);
        loop_until(f->loop, &f->n_up, 1);
        Service *s = services_lookup(f->services, SLOT_A, "web");
        for (int i = 0; i < 4; i++) {
                s->backoff.n = 20; /* would be 30 s */
                f->boot_usec += SEC(11);
                assert_int_equal(services_signal(f->services, SLOT_A, "web", SIGKILL), 0);
                loop_until(f->loop, &f->n_up, i + 2);
                s->backoff.n = 0;
        }
        assert_int_equal(find(f, "web").n_restarts, 4);
}

static void test_not_written_down_not_begun(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "echo begun; exec sleep 1000");

        f->refuse = -ENOSPC;
        start(f, &spec);
        loop_until(f->loop, &f->n_waiting, 2);
        assert_non_null(strstr(last_event(f)->last_exit, "write it down: No space left"));
        _cleanup_free_ char *text = log_of(f, "web.log");
        assert_string_equal(text, "");
        f->refuse = 0;
        loop_until(f->loop, &f->n_up, 1);
        until_log(f, "web.log", "begun");
}

/* Main dies between the start of the process and its being known: it must not live on unknown. */
static void test_main_dies_before_it_was_written_down(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "echo begun; exec sleep 1000");
        int status, pair[2];
        char byte;

        assert_return_code(pipe(pair), errno); /* inherited, so it ends when all have ended */
        pid_t pid = fork();
        if (pid == 0) {
                (void) close(pair[0]);
                sd_event *loop = NULL;
                (void) sd_event_new(&loop);
                f->loop = loop;
                new_services(f);
                f->die = true;
                start(f, &spec);
                (void) sd_event_loop(loop);
                _exit(1);
        }
        (void) close(pair[1]);
        (void) waitpid(pid, &status, 0);
        assert_int_equal(WEXITSTATUS(status), 9);
        assert_int_equal(read(pair[0], &byte, 1), 0);
        (void) close(pair[0]);
        _cleanup_free_ char *text = log_of(f, "web.log");
        assert_string_equal(text, "");
}

static void test_ignores_term(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "trap '' TERM; echo ready; while :; do sleep 1000; done");

        spec.stop_usec = MSEC(100);
        start(f, &spec);
        until_log(f, "web.log", "ready");
        usec_t before = clock_read(NULL, CLOCK_MONOTONIC);
        assert_int_equal(services_stop(f->services, SLOT_A, "web"), 0);
        loop_until(f->loop, &f->n_stopped, 1);
        usec_t took = clock_read(NULL, CLOCK_MONOTONIC) - before;
        assert_true(took >= MSEC(90) && took < SEC(8));
        assert_string_equal(last_event(f)->last_exit, "signal 9 (Killed)");
}

/* One child takes a moment to end well; the stop is over when all are gone. */
static void test_stop_waits_for_children(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "(trap 'sleep 0.1; echo drained; exit' TERM; echo ready; "
                                          "sleep 1000 & wait) & trap 'exit 0' TERM; wait");

        spec.stop_usec = SEC(20);
        start(f, &spec);
        until_log(f, "web.log", "ready");
        assert_true(services_pids(f->services, SLOT_A, NULL, NULL, 0) >= 3);
        assert_int_equal(services_stop(f->services, SLOT_A, "web"), 0);
        loop_until(f->loop, &f->n_stopped, 1);
        until_log(f, "web.log", "drained");
}

static void test_children_do_not_outlive_a_crash(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "sleep 1001 & echo ready; wait");
        pid_t pids[16], old[16];

        start(f, &spec);
        until_log(f, "web.log", "ready");
        size_t n = services_pids(f->services, SLOT_A, "web", old, 16);
        assert_int_equal(n, 2);
        assert_int_equal(services_signal(f->services, SLOT_A, "web", SIGKILL), 0);
        loop_until(f->loop, &f->n_up, 2);
        assert_true(pid_goes(old[0]) && pid_goes(old[1]));
        n = services_pids(f->services, SLOT_A, "web", pids, 16);
        for (size_t i = 0; i < n; i++)
                assert_true(pids[i] != old[0] && pids[i] != old[1]);
}

/* The records of all that run; to be freed by forget_records(). */
static ServiceRecord *take_record(const Fixture *f, JsonArray *records) {
        assert_int_equal(services_records(f->services, records), 0);
        assert_int_equal(records->n, 1);
        return records->items;
}

static void forget_records(JsonArray *records) {
        for (size_t i = 0; i < records->n; i++)
                json_table_done(&service_record_table, (ServiceRecord *) records->items + i);
        free(records->items);
}

static void test_adopts(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "sleep 1000 & echo ready; wait");
        _cleanup_(forget_records) JsonArray records = { 0 };
        bool adopted = false;

        start(f, &spec);
        until_log(f, "web.log", "ready");
        const ServiceRecord *record = take_record(f, &records);
        pid_t pid = (pid_t) record->pid;
        f->services = services_free(f->services);
        assert_false(pid_is_gone(pid));

        new_services(f);
        assert_int_equal(services_adopt(f->services, &spec, record, &adopted, NULL), 0);
        assert_true(adopted);
        loop_until(f->loop, &f->n_up, 2);
        assert_true(last_event(f)->adopted && last_event(f)->pid == pid);
        assert_int_equal(services_pids(f->services, SLOT_A, "web", NULL, 0), 2);

        assert_return_code(kill(pid, SIGKILL), errno);
        loop_until(f->loop, &f->n_up, 3);
        assert_int_equal(last_event(f)->n_restarts, 1);
        assert_false(last_event(f)->adopted);
        assert_string_equal(last_event(f)->last_exit, "signal 9 (Killed)");
}

/* Another process has the number by now, or the machine was started again. */
static void test_does_not_adopt_another(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "exec sleep 1000");
        ServiceRecord record = { .slot = (char *) (uintptr_t) "a",
                                 .name = (char *) (uintptr_t) "web" };
        char boot_id[37];
        bool adopted = true;

        assert_int_equal(process_boot_id(boot_id), 0);
        record.boot_id = boot_id;
        record.pid = (uint64_t) getpid();
        assert_int_equal(process_start_time(getpid(), &record.start_time), 0);
        record.start_time++;
        assert_int_equal(services_adopt(f->services, &spec, &record, &adopted, NULL), 0);
        assert_false(adopted);
        loop_until(f->loop, &f->n_up, 1);
        stop_all(f);

        record.start_time--;
        boot_id[0] = boot_id[0] == '0' ? '1' : '0';
        assert_int_equal(services_adopt(f->services, &spec, &record, &adopted, NULL), 0);
        assert_false(adopted);
        loop_until(f->loop, &f->n_up, 2);
}

/* The first process died while nobody looked; its child holds the port. */
static void test_leftovers_of_a_dead_one_go_first(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "sleep 1002 & echo ready; wait");
        _cleanup_(forget_records) JsonArray records = { 0 };
        pid_t pids[4];
        bool adopted = true;

        start(f, &spec);
        until_log(f, "web.log", "ready");
        const ServiceRecord *record = take_record(f, &records);
        assert_int_equal(services_pids(f->services, SLOT_A, "web", pids, 4), 2);
        pid_t child = pids[0] == (pid_t) record->pid ? pids[1] : pids[0];
        f->services = services_free(f->services);
        assert_return_code(kill((pid_t) record->pid, SIGKILL), errno);
        assert_int_equal(waitpid((pid_t) record->pid, NULL, 0), (pid_t) record->pid);
        assert_false(pid_is_gone(child));

        new_services(f);
        assert_int_equal(services_adopt(f->services, &spec, record, &adopted, NULL), 0);
        assert_false(adopted);
        loop_until(f->loop, &f->n_up, 2);
        assert_true(pid_is_gone(child));
}

static void test_ends_a_record(void **state) {
        Fixture *f = *state;
        ServiceSpec spec =
                spec_of("web", "trap '' TERM; sleep 1003 & echo ready; wait; sleep 1004");
        _cleanup_(forget_records) JsonArray records = { 0 };
        pid_t pids[4];

        start(f, &spec);
        until_log(f, "web.log", "ready");
        const ServiceRecord *record = take_record(f, &records);
        assert_int_equal(services_end_record(f->services, record, SEC(1), on_end_done, f), -EEXIST);
        assert_int_equal(services_pids(f->services, SLOT_A, "web", pids, 4), 2);
        f->services = services_free(f->services);

        new_services(f);
        assert_int_equal(services_end_record(f->services, record, MSEC(100), on_end_done, f), 0);
        assert_int_equal(services_count(f->services, SLOT_A), 0); /* not one of ours */
        /* A new one of that name waits for its end. */
        ServiceSpec next = spec_of("web", "exec sleep 1000");
        start(f, &next);
        loop_until(f->loop, &f->n_up, 2);
        assert_int_equal(f->n_done, 1);
        assert_true(pid_is_gone(pids[0]) && pid_is_gone(pids[1]));
        stop_all(f);

        assert_int_equal(services_end_record(f->services, record, SEC(5), on_end_done, f), 0);
        loop_until(f->loop, &f->n_done, 2);
}

static void test_signal(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of(
                "web", "trap 'echo asked' HUP; echo ready; while :; do sleep 1000 & wait; done");

        start(f, &spec);
        until_log(f, "web.log", "ready");
        assert_int_equal(services_signal(f->services, SLOT_A, "web", SIGHUP), 0);
        until_log(f, "web.log", "asked");
        assert_int_equal(services_signal(f->services, SLOT_B, "web", SIGHUP), -ENOENT);
}

static void test_order_and_slots(void **state) {
        Fixture *f = *state;
        ServiceStatus s;

        for (int i = 0; i < 3; i++) {
                ServiceSpec spec = spec_of(i == 1 ? "other" : "web", "exec sleep 1000");
                spec.slot = i == 2 ? SLOT_B : SLOT_A;
                start(f, &spec);
        }
        loop_until(f->loop, &f->n_up, 3);
        assert_true(services_get(f->services, 1, &s));
        assert_string_equal(s.name, "other");
        assert_false(services_get(f->services, 3, &s));
        assert_int_equal(services_count(f->services, SLOT_A), 2);
        assert_int_equal(services_pids(f->services, SLOT_B, NULL, NULL, 0), 1);
        assert_int_equal(services_stop(f->services, SLOT_A, "web"), 0);
        loop_until(f->loop, &f->n_stopped, 1);
        assert_true(services_find(f->services, SLOT_B, "web", &s));
        assert_int_equal(s.state, SERVICE_UP);
}

static void test_rotates(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "i=0; while [ $i -lt 2000 ]; do echo line $i; "
                                          "i=$((i+1)); done; echo end; exec sleep 1000");
        struct stat st;

        start(f, &spec);
        until_log(f, "web.log", "end");
        services_rotate(f->services);
        assert_return_code(fstatat(f->folder.fd, "web.log", &st, 0), errno);
        assert_true(st.st_size <= 4096);
        assert_return_code(fstatat(f->folder.fd, "web.log.1", &st, 0), errno);
        assert_true(st.st_size > 0 && st.st_size <= 3 * 4096);
}

static bool can_view(void) {
        int status;
        pid_t pid = fork();

        if (pid == 0)
                _exit(treeview_probe());
        (void) waitpid(pid, &status, 0);
        return geteuid() == 0 && status == 0;
}

/* Two slots at once: each sees its own at the same path, as a user who cannot enter the folder
 * above. */
static void test_views(void **state) {
        Fixture *f = *state;
        char app[2][64];

        if (!can_view())
                skip();
        assert_return_code(fchmod(f->folder.fd, 0700), errno);
        for (int i = 0; i < 2; i++) {
                (void) snprintf(app[i], sizeof(app[i]), "%s/%d", f->folder.path, i);
                assert_return_code(mkdir(app[i], 0755), errno);
                int fd = open(app[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_int_equal(file_write_at(fd, "version", i ? "two" : "one", 3, 0644, 0), 0);
                (void) close(fd);
                ServiceSpec spec = spec_of(
                        i ? "second" : "first",
                        "echo `id -u` `cat /var/app/current/version` `pwd` end; exec sleep 1000");
                spec.app_dir = app[i];
                spec.slot = i ? SLOT_B : SLOT_A;
                spec.view = true;
                spec.uid = spec.gid = 65001;
                start(f, &spec);
        }
        until_log(f, "first.log", "65001 one /var/app/current end");
        until_log(f, "second.log", "65001 two /var/app/current end");
}

static void test_program_is_missing(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "exec sleep 1000");

        f->services = services_free(f->services);
        (void) close(f->tree_fd);
        assert_int_equal(file_write_at(f->folder.fd, "program", "", 0, 0644, 0), 0);
        f->tree_fd = openat(f->folder.fd, "program", O_PATH | O_CLOEXEC);
        new_services(f);
        start(f, &spec);
        loop_until(f->loop, &f->n_waiting, 1);
        assert_non_null(strstr(last_event(f)->last_exit, "Permission denied"));
        assert_int_equal(f->n_up, 0);
}

static void stop_on_event(void *userdata, const ServiceStatus *status) {
        Fixture *f = userdata;

        on_event(userdata, status);
        if (status->state == SERVICE_UP)
                assert_int_equal(services_stop(f->services, status->slot, status->name), 0);
        if (status->state == SERVICE_STOPPED && f->n_stopped < 3) {
                ServiceSpec spec = spec_of("web", "exec sleep 1000");
                start(f, &spec);
        }
        if (status->state == SERVICE_STOPPED && f->n_stopped == 3)
                f->services = services_free(f->services);
}

/* Whoever is told may do anything. */
static void test_calls_from_an_event(void **state) {
        Fixture *f = *state;
        ServiceSpec spec = spec_of("web", "exec sleep 1000");

        f->services->on_event = stop_on_event;
        start(f, &spec);
        loop_until(f->loop, &f->n_stopped, 3);
        assert_null(f->services);
        new_services(f);
}

#define BOTH(test)                                                                                 \
        { #test, test, setup_with, teardown, NULL }, {                                             \
#test "_without_cgroups", test, setup_without, teardown, NULL                      \
        }

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                BOTH(test_starts_and_stops),
                BOTH(test_starts_again_with_backoff),
                BOTH(test_calm_resets_backoff),
                BOTH(test_not_written_down_not_begun),
                BOTH(test_main_dies_before_it_was_written_down),
                BOTH(test_ignores_term),
                BOTH(test_stop_waits_for_children),
                BOTH(test_children_do_not_outlive_a_crash),
                BOTH(test_adopts),
                BOTH(test_does_not_adopt_another),
                BOTH(test_leftovers_of_a_dead_one_go_first),
                BOTH(test_ends_a_record),
                BOTH(test_signal),
                BOTH(test_order_and_slots),
                BOTH(test_rotates),
                BOTH(test_views),
                BOTH(test_program_is_missing),
                BOTH(test_calls_from_an_event),
        };

        if (str_equal(argv[0], "tendril-tree"))
                return tree_program(argc, argv);
        return cmocka_run_group_tests_name("own", tests, loop_block_signals, NULL);
}
