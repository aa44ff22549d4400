#pragma once

/*
 * cgroup v2 folders of our own, so that a process and all that it ever starts can be counted and
 * ended as one. Below the mount of type cgroup2 (also a "unified" one beside v1), in this process's
 * own group, named after the instance.
 *
 * Where there is no writable cgroup2, cgroup_make() answers CGROUP_NONE and everyone falls back to
 * process groups; that is told once by the agent.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

typedef enum CgroupAnswer {
        CGROUP_NONE = 1, /* there is no cgroup2 here in which we may make groups */
} CgroupAnswer;

/* Makes (or opens) the group "tendril-<instance>/NAME"; name "" or NULL is the agent's own base
 * "tendril-<instance>" itself. Name: letters, digits,
 * '.', '-', '_', not beginning with '.'. *ret_fd is its folder, the caller's. 0, CGROUP_NONE,
 * negative errno. */
int cgroup_make(const char *instance, const char *name, int *ret_fd, Error **reterr);

/* Number of processes in it (all levels); negative errno. */
int cgroup_count(int cgroup_fd);

/* Pids in it into ret (at most max); the number there are, or negative errno. */
int cgroup_pids(int cgroup_fd, pid_t *ret, size_t max);

/* SIGKILL to all (cgroup.kill, else one by one until empty). 0, negative errno. Does not wait. */
int cgroup_kill(int cgroup_fd);

/* signal to all that are there now. */
int cgroup_signal(int cgroup_fd, int signal);

/* True when empty, from cgroup.events. */
bool cgroup_is_empty(int cgroup_fd);

/* Removes an empty group and the empty ones in it. -EBUSY while there are processes. Not being
 * there is fine. */
int cgroup_remove(const char *instance, const char *name);
