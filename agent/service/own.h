#pragma once

/*
 * The supervisor's own structures, shared by own.c (the life of a service) and ownask.c (what
 * belongs to it, and what may be asked of it). Private to agent/service.
 */

#include <signal.h>

#include "agent/limits.h"
#include "base/backoff.h"
#include "loop/child.h"
#include "service/service.h"

/* Two slots full of processes, and those of an attempt that is undone. */
#define SERVICES_MAX (LIMIT_PROCESSES * 4)
#define PIDS_MAX     4096

typedef struct Service Service;

struct Service {
        Services *services;
        Service *next;

        Slot slot;
        char *name, *command, *app_dir;
        char **env;
        uid_t uid;
        gid_t gid;
        bool view;
        usec_t stop_usec;

        ServiceState state;
        pid_t pid;     /* of its first process while that lives */
        pid_t session; /* its number also afterwards: of what it left behind */
        uint64_t start_time;
        int pidfd;
        int cgroup_fd;
        Child *child;           /* started here */
        sd_event_source *watch; /* else: taken on */
        sd_event_source *timer; /* WAITING: the next start. STOPPING: the next look. */
        sd_event_source *tell;  /* the event of the present state, from the loop */

        usec_t since_usec; /* BOOTTIME */
        usec_t kill_usec;  /* MONOTONIC: when patience ends; 0: no end is under way */
        bool killed, adopted;
        bool unbegun; /* taken on before it was seen to run its program */
        unsigned n_restarts;
        Backoff backoff;
        char last_exit[96];

        void (*done)(void *userdata); /* hidden: it is only here to be ended */
        void *done_userdata;
};

struct Services {
        sd_event *loop;
        char *instance;
        int log_fd;
        int tree_fd; /* borrowed */
        uint64_t log_bytes;
        const Clock *clock; /* borrowed; NULL: the real ones */
        int (*on_records)(void *userdata);
        void (*on_event)(void *userdata, const ServiceStatus *status);
        void *userdata;
        Service *first; /* in order of start */
};

/* It is only here to be ended, and is not seen from outside. */
static inline bool service_is_hidden(const Service *s) {
        return s->done != NULL;
}

static inline bool service_has_cgroup(const Service *s) {
        return s->cgroup_fd >= 0;
}

/* NULL: none that is seen. */
Service *services_lookup(const Services *services, Slot slot, const char *name);

void service_status(const Service *s, ServiceStatus *ret);

/* All its processes: of its cgroup, else of its session. */
size_t service_pids(const Service *s, pid_t *ret, size_t max);
bool service_is_empty(const Service *s);
void service_signal_first(const Service *s, int signal);
void service_signal_all(const Service *s, int signal);
