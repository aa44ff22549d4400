#include "own.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "applog.h"
#include "base/file.h"
#include "base/str.h"
#include "loop/cgroup.h"
#include "service/tree.h"

#define RESTART_FIRST_USEC MSEC(100)
#define RESTART_MAX_USEC   SEC(30)
#define RESTART_CALM_USEC  SEC(10) /* up for so long: the next restart is the first again */

/* While something ends that cannot be watched (what a service left behind), it is looked at so
 * often, and given up after so long. */
#define LOOK_USEC    MSEC(20)
#define LOOK_GIVE_UP SEC(10)

/* -------- one service -------- */

static void service_forget_process(Service *s) {
        s->child = child_free(s->child);
        s->watch = sd_event_source_disable_unref(s->watch);
        closep(&s->pidfd);
        s->pidfd = -EBADF;
        s->pid = 0;
}

static Service *service_free(Service *s) {
        if (!s)
                return NULL;
        service_forget_process(s);
        s->timer = sd_event_source_disable_unref(s->timer);
        s->tell = sd_event_source_disable_unref(s->tell);
        closep(&s->cgroup_fd);
        free(s->name);
        free(s->command);
        free(s->app_dir);
        s->env = strv_free(s->env);
        free(s);
        return NULL;
}
DEFINE_CLEANUP(Service, service_free);

static void service_enter(Service *s, ServiceState state) {
        s->state = state;
        s->since_usec = clock_read(s->services->clock, CLOCK_BOOTTIME);
        (void) sd_event_source_set_enabled(s->tell, SD_EVENT_ONESHOT);
}

static void service_arm(Service *s, usec_t usec) {
        (void) sd_event_source_set_time_relative(s->timer, usec);
        (void) sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
}

static usec_t loop_now(const Service *s) {
        uint64_t now = 0;

        (void) sd_event_now(s->services->loop, CLOCK_MONOTONIC, &now);
        return now;
}

/* "a-web", "proxy". */
static char *cgroup_name(const Service *s) {
        return s->slot == SLOT_NONE ? strdup(s->name)
                                    : str_format("%s-%s", slot_name(s->slot), s->name);
}

static void services_unlink(Services *services, const Service *s) {
        for (Service **p = &services->first; *p; p = &(*p)->next)
                if (*p == s) {
                        *p = s->next;
                        return;
                }
}

static void services_append(Services *services, Service *s) {
        Service **p = &services->first;

        while (*p)
                p = &(*p)->next;
        *p = s;
}

/* Forgotten, but for what is told. */
static void service_leave(Service *s) {
        _cleanup_free_ char *name = cgroup_name(s);

        services_unlink(s->services, s);
        if (service_has_cgroup(s) && name)
                (void) cgroup_remove(s->services->instance, name);
}

/* The event of the present state. Whoever is told may do anything, so nothing is touched
 * afterwards. */
static int service_on_tell(sd_event_source *source, void *userdata) {
        Service *s = userdata;
        Services *services = s->services;
        ServiceStatus status;

        (void) source;
        service_status(s, &status);
        if (s->state != SERVICE_STOPPED) {
                if (!service_is_hidden(s) && services->on_event)
                        services->on_event(services->userdata, &status);
                return 0;
        }

        service_leave(s);
        if (service_is_hidden(s))
                s->done(s->done_userdata);
        else if (services->on_event)
                services->on_event(services->userdata, &status);
        (void) service_free(s);
        return 0;
}

static void records_changed(const Service *s) {
        const Services *services = s->services;

        if (services->on_records && !service_is_hidden(s))
                (void) services->on_records(services->userdata);
}

/* -------- ends by itself, and starts again -------- */

/* It ended, or could not be started. */
static void service_wait(Service *s) {
        usec_t now = clock_read(s->services->clock, CLOCK_BOOTTIME);
        uint32_t chance = 0;

        if (s->state == SERVICE_UP && now - s->since_usec >= RESTART_CALM_USEC)
                backoff_reset(&s->backoff);
        if (getrandom(&chance, sizeof(chance), GRND_NONBLOCK) < 0)
                chance = (uint32_t) now;
        /* One that was never let begin has not failed. */
        if (s->unbegun && now - s->since_usec < SEC(1))
                service_arm(s, 0);
        else {
                s->n_restarts++;
                service_arm(s, backoff_next(&s->backoff, chance));
        }
        s->unbegun = s->adopted = false;
        s->kill_usec = 0;
        service_enter(s, SERVICE_WAITING);
}

static void service_stopped(Service *s) {
        (void) sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
        records_changed(s);
        service_enter(s, SERVICE_STOPPED);
}

/* While it stops: KILL when patience is at its end, over when nothing is left. */
static void service_look(Service *s) {
        usec_t now = loop_now(s);

        if (service_is_empty(s) || (s->killed && now >= s->kill_usec + LOOK_GIVE_UP)) {
                service_stopped(s);
                return;
        }
        if (now >= s->kill_usec) {
                service_signal_all(s, SIGKILL);
                s->killed = true;
        }
        /* The first process is watched; what it leaves behind is not. */
        service_arm(s, s->pid > 0 && !s->killed ? s->kill_usec - now : LOOK_USEC);
}

static void service_ended(Service *s, const char *how) {
        (void) snprintf(s->last_exit, sizeof(s->last_exit), "%s", how);
        /* Its children would hold its ports, and be lost to us. */
        if (s->state != SERVICE_STOPPING)
                service_signal_all(s, SIGKILL);
        service_forget_process(s);
        if (s->state == SERVICE_STOPPING) {
                service_look(s);
                return;
        }
        service_wait(s);
        records_changed(s);
}

static void service_on_exit(Child *child, const ChildExit *how, void *userdata) {
        const Service *s = userdata;
        char text[96];

        (void) child;
        child_exit_text(how, text);
        if (s->view && how->code == TREE_EXIT_NO_VIEW && how->took_usec < SEC(1))
                (void) snprintf(text, sizeof(text),
                                "exit %d (perhaps no mount namespace can be had)",
                                TREE_EXIT_NO_VIEW);
        service_ended(userdata, text);
}

/* One that was taken on. Only its parent may ask how it ended; that is us where this process was
 * executed anew. */
static int service_on_pidfd(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        siginfo_t info = { 0 };
        char text[96] = "ended";

        (void) source;
        (void) events;
        if (waitid(P_PIDFD, (id_t) fd, &info, WEXITED | WNOHANG) == 0 && info.si_pid > 0)
                child_exit_text(
                        &(ChildExit){ .code = info.si_code == CLD_EXITED ? info.si_status : -1,
                                      .signal = info.si_code == CLD_EXITED ? 0 : info.si_status },
                        text);
        service_ended(userdata, text);
        return 0;
}

/* -------- starting -------- */

static int add_user(const Service *s, char ***argv) {
        _cleanup_free_ char *user =
                str_format("--user=%u:%u", (unsigned) s->uid, (unsigned) s->gid);

        if (geteuid() != 0 && s->uid == geteuid())
                return 0;
        return user ? strv_add(argv, 16, user) : -ENOMEM;
}

static int make_argv(const Service *s, char ***ret) {
        _cleanup_(strv_freep) char **argv = NULL;
        _cleanup_free_ char *current = str_format("--current=%s", s->app_dir ?: "");
        const char *const tail[] = { "--wait=3", "--", "/bin/sh", "-c", s->command };
        int r;

        if (!current)
                return -ENOMEM;
        r = strv_add(&argv, 16, "tendril-tree");
        if (r >= 0)
                r = strv_add(&argv, 16, "view");
        if (r >= 0 && (!s->view || !s->app_dir))
                r = strv_add(&argv, 16, "--plain");
        if (r >= 0 && s->app_dir)
                r = strv_add(&argv, 16, current);
        if (r >= 0)
                r = add_user(s, &argv);
        for (size_t i = 0; r >= 0 && i < ELEMENTS(tail); i++)
                r = strv_add(&argv, 16, tail[i]);
        if (r >= 0)
                *ret = TAKE_PTR(argv);
        return r;
}

/* Anew for each start: an empty group may have been cleaned away, and a process that was taken on
 * may have been in none. */
static int service_enter_cgroup(Service *s, Error **reterr) {
        _cleanup_free_ char *name = cgroup_name(s);
        int r;

        if (!name)
                return -ENOMEM;
        closep(&s->cgroup_fd);
        s->cgroup_fd = -EBADF;
        r = cgroup_make(s->services->instance, name, &s->cgroup_fd, reterr);
        return r < 0 ? r : 0;
}

/* Its program waits for a byte on wait_fd. */
static int service_spawn(Service *s, int wait_fd, Error **reterr) {
        _cleanup_(strv_freep) char **argv = NULL;
        _cleanup_close_ int log_fd = -EBADF;
        int r;

        r = make_argv(s, &argv);
        if (r < 0)
                return error_set(reterr, r, "%s", strerror(-r));
        r = service_enter_cgroup(s, reterr);
        if (r < 0)
                return r;
        log_fd = applog_open(s->services->log_fd, s->name);
        if (log_fd < 0)
                return error_set(reterr, log_fd, "open its log: %s", strerror(-log_fd));
        r = child_spawn(s->services->loop,
                        &(ChildSpec){ .name = s->name,
                                      .program_fd = s->services->tree_fd,
                                      .argv = argv,
                                      .env = s->env,
                                      .output_fd = log_fd,
                                      .pass_fds = &wait_fd,
                                      .n_pass_fds = 1,
                                      .cgroup_fd = service_has_cgroup(s) ? s->cgroup_fd : 0,
                                      .flags = CHILD_DETACHED | CHILD_KEEP_SURVIVORS,
                                      .on_exit = service_on_exit,
                                      .userdata = s },
                        &s->child, reterr);
        if (r < 0)
                return r;
        s->session = s->pid = child_pid(s->child);
        s->pidfd = (int) syscall(SYS_pidfd_open, s->pid, 0);
        r = s->pidfd < 0 ? -errno : process_start_time(s->pid, &s->start_time);
        return r < 0 ? error_set(reterr, r, "look at it: %s", strerror(-r)) : 0;
}

/* Known first, on disk, then allowed to begin. Where the owner refuses, the pair is closed and the
 * program ends. */
static int service_begin(Service *s, Error **reterr) {
        _cleanup_close_ int ours = -EBADF, its = -EBADF;
        Services *services = s->services;
        int pair[2], r;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return error_set(reterr, -errno, "make a pair: %s", strerror(errno));
        ours = pair[0];
        its = pair[1];
        r = service_spawn(s, its, reterr);
        if (r < 0)
                return r;
        r = services->on_records ? services->on_records(services->userdata) : 0;
        if (r < 0)
                return error_set(reterr, r, "write it down: %s", strerror(-r));
        if (send(ours, "", 1, MSG_NOSIGNAL) != 1)
                return error_set(reterr, -errno, "let it begin: %s", strerror(errno));
        return 0;
}

static bool is_being_ended(const Service *s) {
        for (const Service *o = s->services->first; o; o = o->next)
                if (service_is_hidden(o) && o->slot == s->slot && str_equal(o->name, s->name))
                        return true;
        return false;
}

/* What an earlier run left behind (workers of a process that was killed) would be in the way. True:
 * not yet. */
static bool must_wait(Service *s) {
        usec_t now = loop_now(s);

        if (is_being_ended(s)) {
                service_arm(s, LOOK_USEC);
                return true;
        }
        if (service_is_empty(s))
                return false;
        if (s->kill_usec == 0)
                s->kill_usec = now + LOOK_GIVE_UP;
        if (now >= s->kill_usec)
                return false;
        service_signal_all(s, SIGKILL);
        service_arm(s, LOOK_USEC);
        return true;
}

static void service_launch(Service *s) {
        _cleanup_(error_freep) Error *err = NULL;

        if (must_wait(s))
                return;
        s->kill_usec = 0;
        if (service_begin(s, &err) >= 0) {
                service_enter(s, SERVICE_UP);
                return;
        }
        /* What was started has not begun, and ends at the closed pair. */
        (void) snprintf(s->last_exit, sizeof(s->last_exit), "%s", error_text(err));
        if (s->pid > 0 && kill(s->pid, SIGKILL) == 0)
                (void) waitpid(s->pid, NULL, 0);
        service_forget_process(s);
        service_wait(s);
        records_changed(s);
}

static int service_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Service *s = userdata;

        (void) source;
        (void) usec;
        if (s->state == SERVICE_WAITING)
                service_launch(s);
        else if (s->state == SERVICE_STOPPING)
                service_look(s);
        return 0;
}

static int service_new(Services *services, Slot slot, const char *name, Service **ret,
                       Error **reterr) {
        _cleanup_(service_freep) Service *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        *s = (Service){
                .services = services,
                .slot = slot,
                .name = strdup(name),
                .state = SERVICE_WAITING,
                .pidfd = -EBADF,
                .cgroup_fd = -EBADF,
                .backoff = { .base_usec = RESTART_FIRST_USEC, .max_usec = RESTART_MAX_USEC },
        };
        if (!s->name)
                return -ENOMEM;
        r = sd_event_add_time(services->loop, &s->timer, CLOCK_MONOTONIC, 0, MSEC(1),
                              service_on_timer, s);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_defer(services->loop, &s->tell, service_on_tell, s);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->tell, SD_EVENT_OFF);
        if (r >= 0)
                r = service_enter_cgroup(s, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "service %s", name);
        *ret = TAKE_PTR(s);
        return 0;
}

/* A service that is known, waits, and has no time set. */
static int services_add(Services *services, const ServiceSpec *spec, Service **ret,
                        Error **reterr) {
        _cleanup_(service_freep) Service *s = NULL;
        size_t n = 0;
        int r;

        if (services_lookup(services, spec->slot, spec->name))
                return error_set(reterr, -EEXIST, "service %s: there is one in slot '%s'",
                                 spec->name, slot_name(spec->slot));
        for (const Service *o = services->first; o; o = o->next)
                n++;
        if (n >= SERVICES_MAX)
                return error_set(reterr, -E2BIG, "service %s: there are %zu already", spec->name,
                                 n);

        r = service_new(services, spec->slot, spec->name, &s, reterr);
        if (r < 0)
                return r;
        s->command = strdup(spec->command);
        s->app_dir = spec->app_dir ? strdup(spec->app_dir) : NULL;
        s->env = strv_copy(spec->env);
        if (!s->command || (spec->app_dir && !s->app_dir) || (spec->env && !s->env))
                return -ENOMEM;
        s->uid = spec->uid;
        s->gid = spec->gid;
        s->view = spec->view;
        s->stop_usec = spec->stop_usec;
        s->since_usec = clock_read(services->clock, CLOCK_BOOTTIME);
        *ret = s;
        services_append(services, TAKE_PTR(s));
        return 0;
}

int services_start(Services *services, const ServiceSpec *spec, Error **reterr) {
        Service *s;
        int r;

        assert(services && spec && spec->name && spec->command);

        r = services_add(services, spec, &s, reterr);
        if (r < 0)
                return r;
        service_arm(s, 0);
        return 0;
}

/* -------- what ran before this process -------- */

/* Still tendril-tree: it was not let begin, and ends at the closed pair, or begins this very
 * moment. */
static bool has_begun(pid_t pid) {
        char path[32], exe[PATH_MAX];
        const char *name;
        ssize_t n;

        (void) snprintf(path, sizeof(path), "/proc/%d/exe", (int) pid);
        n = readlink(path, exe, sizeof(exe) - 1);
        if (n < 0)
                return errno != ENOENT; /* ENOENT: it is ending, or a zombie */
        exe[n] = 0;
        name = strrchr(exe, '/');
        return !name || !str_has_prefix(name + 1, "tendril-tree");
}

/* Takes hold of what the record names: 1; 0: it does not run any more; negative: that cannot be
 * known now. The pid is looked at again behind the descriptor: from then on it cannot become
 * another's. */
static int service_attach(Service *s, const ServiceRecord *record) {
        char boot_id[37];
        uint64_t start_time = 0;
        pid_t pid = (pid_t) record->pid;
        int r;

        if (record->pid <= 1 || record->pid > INT32_MAX)
                return 0;
        r = process_boot_id(boot_id);
        if (r < 0 || !str_equal(boot_id, record->boot_id))
                return MIN(r, 0);
        s->session = pid;
        s->pidfd = (int) syscall(SYS_pidfd_open, pid, 0);
        r = s->pidfd < 0 ? -errno : process_start_time(pid, &start_time);
        if (r >= 0 && start_time != record->start_time)
                r = -ESRCH;
        if (r >= 0)
                r = sd_event_add_io(s->services->loop, &s->watch, s->pidfd, EPOLLIN,
                                    service_on_pidfd, s);
        if (r < 0) {
                service_forget_process(s);
                return r == -ESRCH || r == -EINVAL ? 0 : r; /* EINVAL: a thread has that number */
        }
        s->pid = pid;
        s->start_time = start_time;
        return 1;
}

/* A process that was started where there were no cgroups, or in another one, is not ended by ours.
 */
static void check_cgroup(Service *s) {
        _cleanup_free_ pid_t *pids = calloc(PIDS_MAX, sizeof(*pids));
        int n = pids && service_has_cgroup(s) ? cgroup_pids(s->cgroup_fd, pids, PIDS_MAX) : 0;

        for (int i = 0; i < MIN(n, PIDS_MAX); i++)
                if (pids[i] == s->pid)
                        return;
        closep(&s->cgroup_fd);
        s->cgroup_fd = -EBADF;
}

int services_adopt(Services *services, const ServiceSpec *spec, const ServiceRecord *record,
                   bool *ret_adopted, Error **reterr) {
        Service *s;
        int r;

        assert(services && spec && record);

        r = services_add(services, spec, &s, reterr);
        if (r < 0)
                return r;
        r = service_attach(s, record);
        if (r < 0) {
                services_unlink(services, s);
                (void) service_free(s);
                return error_set(reterr, r, "service %s: look at process %llu: %s", spec->name,
                                 (unsigned long long) record->pid, strerror(-r));
        }
        s->adopted = r > 0;
        s->unbegun = s->adopted && !has_begun(s->pid);
        if (s->adopted) {
                check_cgroup(s);
                service_enter(s, SERVICE_UP);
        } else
                service_arm(s, 0);
        if (ret_adopted)
                *ret_adopted = s->adopted;
        return 0;
}

int services_end_record(Services *services, const ServiceRecord *record, usec_t stop_usec,
                        void (*done)(void *userdata), void *userdata) {
        Slot slot = slot_from_name(record->slot);
        Service *s = NULL;
        int r;

        assert(services && done);

        if (services_lookup(services, slot, record->name))
                return -EEXIST;
        r = service_new(services, slot, record->name, &s, NULL);
        if (r < 0)
                return r;
        s->done = done;
        s->done_userdata = userdata;
        s->stop_usec = stop_usec;
        if (service_attach(s, record) > 0)
                check_cgroup(s);
        services_append(services, s);
        s->kill_usec = loop_now(s) + stop_usec;
        service_signal_all(s, SIGTERM);
        service_enter(s, SERVICE_STOPPING);
        service_arm(s, 0);
        return 0;
}

/* -------- asked of a service -------- */

int services_stop(Services *services, Slot slot, const char *name) {
        Service *s = services_lookup(services, slot, name);

        if (!s || s->state == SERVICE_STOPPED)
                return -ENOENT;
        if (s->state == SERVICE_STOPPING)
                return 0;
        s->kill_usec = loop_now(s) + s->stop_usec;
        service_signal_all(s, SIGTERM);
        service_enter(s, SERVICE_STOPPING);
        service_arm(s, s->pid > 0 ? s->stop_usec : 0);
        return 0;
}

int services_signal(Services *services, Slot slot, const char *name, int signal) {
        const Service *s = services_lookup(services, slot, name);

        if (!s || s->pid == 0)
                return -ENOENT;
        service_signal_first(s, signal);
        return 0;
}

/* -------- all of them -------- */

int services_new(sd_event *loop, const ServicesConfig *config, Services **ret, Error **reterr) {
        _cleanup_(services_freep) Services *services = calloc(1, sizeof(*services));

        assert(loop && config && config->instance && config->log_dir);

        if (!services)
                return -ENOMEM;
        *services = (Services){
                .loop = sd_event_ref(loop),
                .instance = strdup(config->instance),
                .log_fd = file_mkdirs_at(AT_FDCWD, config->log_dir, 0755),
                .tree_fd = config->tree_fd,
                .log_bytes = config->log_bytes,
                .clock = config->clock,
                .on_records = config->on_records,
                .on_event = config->on_event,
                .userdata = config->userdata,
        };
        if (!services->instance)
                return -ENOMEM;
        if (services->log_fd < 0)
                return error_set(reterr, services->log_fd, "folder of logs %s: %s", config->log_dir,
                                 strerror(-services->log_fd));
        *ret = TAKE_PTR(services);
        return 0;
}

Services *services_free(Services *services) {
        if (!services)
                return NULL;
        while (services->first) {
                Service *s = services->first;
                services->first = s->next;
                (void) service_free(s);
        }
        closep(&services->log_fd);
        (void) sd_event_unref(services->loop);
        free(services->instance);
        free(services);
        return NULL;
}
