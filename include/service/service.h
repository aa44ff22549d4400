#pragma once

/*
 * Services: the processes of the application (and the proxy), started, watched, restarted, stopped,
 * adopted. One interface, two implementations: tendril's own supervisor (service/own.c) and, later,
 * systemd's.
 *
 * A service is named by (slot, name). It runs until it is stopped: when its process ends by itself
 * it is started again with backoff (0.1 s doubling to 30 s; back to the first after 10 s up), each
 * time counted and told. Services outlive this process: they are not killed when it ends, and what
 * was running is taken on again by services_adopt() with the record that services_records() gave
 * (pid, start time, boot id), which the owner must have on disk: on_records is called BEFORE a
 * started process may run its program (it waits for a byte from us), and whenever records changed;
 * if the owner answers negative, the process is ended.
 *
 * Stopping: TERM to all of it (cgroup, else process group), after stop_usec KILL. A service that is
 * stopped is forgotten with the event SERVICE_STOPPED.
 *
 * Output goes, appended, to LOGDIR/NAME.log, which services_rotate() keeps below log_bytes (one
 * older part, NAME.log.1). No line is lost by rotation where the file system can collapse ranges;
 * elsewhere those of the moment of truncation.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/json.h"
#include "base/time.h"
#include "service/slot.h"

typedef struct Services Services;

typedef struct ServiceSpec {
        Slot slot;
        const char *name;    /* "web", ...; with SLOT_NONE "proxy" */
        const char *command; /* for /bin/sh -c */
        char *const *env;    /* whole environment */
        const char *app_dir; /* of the version, absolute: its current; NULL: no view */
        uid_t uid;
        gid_t gid;
        bool view;        /* wants a mount namespace; without: starts in app_dir */
        usec_t stop_usec; /* between TERM and KILL */
} ServiceSpec;

typedef enum ServiceState {
        SERVICE_UP,      /* its process runs */
        SERVICE_WAITING, /* ended by itself; waits for its next start */
        SERVICE_STOPPING,
        SERVICE_STOPPED, /* only in the last event */
        _SERVICE_STATE_MAX,
} ServiceState;

/* Borrowed; valid until the loop goes on. */
typedef struct ServiceStatus {
        Slot slot;
        const char *name;
        ServiceState state;
        pid_t pid;           /* 0 unless up or stopping */
        unsigned n_restarts; /* ends by itself since it was started here */
        usec_t since_usec;   /* BOOTTIME: of this state */
        bool adopted;
        const char *last_exit; /* "exit 3", "signal 9 (Killed)", "" */
} ServiceStatus;

/* What must survive this process. Described by service_record_table, in an array of the owner's
 * state. */
typedef struct ServiceRecord {
        char *slot;
        char *name;
        uint64_t pid;
        uint64_t start_time; /* process_start_time() */
        char *boot_id;
} ServiceRecord;
extern const JsonTable service_record_table;

typedef struct ServicesConfig {
        const char *instance; /* cgroup base */
        const char *log_dir;  /* made if missing */
        int tree_fd;          /* program tendril-tree; borrowed */
        uint64_t log_bytes;
        const Clock *clock;
        /* Records changed; must be durable before it returns 0. */
        int (*on_records)(void *userdata);
        /* A service changed its state. May call any function of this interface. */
        void (*on_event)(void *userdata, const ServiceStatus *status);
        void *userdata;
} ServicesConfig;

int services_new(sd_event *loop, const ServicesConfig *config, Services **ret, Error **reterr);

/* Begins to start it; everything is copied. -EEXIST: there is one of that slot and name. Up is told
 * by an event. */
int services_start(Services *services, const ServiceSpec *spec, Error **reterr);

/* Takes on what a record names if it still runs (same pid, start time and boot), else starts it.
 * *ret_adopted says which. */
int services_adopt(Services *services, const ServiceSpec *spec, const ServiceRecord *record,
                   bool *ret_adopted, Error **reterr);

/* Ends what a record names and is still running, without taking it on (left-over of an attempt that
 * is undone). Waits at most stop_usec on the loop; done() tells. */
int services_end_record(Services *services, const ServiceRecord *record, usec_t stop_usec,
                        void (*done)(void *userdata), void *userdata);

/* Begins to stop; the event SERVICE_STOPPED tells the end. Unknown: -ENOENT. */
int services_stop(Services *services, Slot slot, const char *name);

/* How many there are in a slot, in any state. */
size_t services_count(const Services *services, Slot slot);

/* The i-th of all, in order of start; false behind the last. services_find(): ret may be NULL. */
bool services_get(const Services *services, size_t i, ServiceStatus *ret);
bool services_find(const Services *services, Slot slot, const char *name, ServiceStatus *ret);

/* Pids of all processes of a slot (name NULL) or service, children included; at most max are
 * written, the number there are is returned. */
size_t services_pids(const Services *services, Slot slot, const char *name, pid_t *ret, size_t max);

/* A signal to the first process of a service (the proxy's reload). */
int services_signal(Services *services, Slot slot, const char *name, int signal);

/* Appends ServiceRecord items of all that run. */
int services_records(const Services *services, JsonArray *ret);

/* Peak of memory of a slot's processes in bytes (cgroup memory.peak, else sum of VmHWM); 0:
 * unknown. */
uint64_t services_peak(const Services *services, Slot slot);

/* Keeps the logs below their maximum. To be called from time to time. */
void services_rotate(Services *services);

/* Forgets all; the processes go on. Takes NULL. */
Services *services_free(Services *services);
DEFINE_CLEANUP(Services, services_free);
