#pragma once

/*
 * Who listens on a TCP port of this machine, and how many connections it has: from the kernel's own
 * tables (sock_diag(7), and the descriptors of processes in /proc). Used so that an answer counts
 * only if it comes from the new slot's own processes, to find a port that an application insists
 * on, and to see when an old version is drained.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef enum ListenerAnswer {
        LISTENER_NONE = 1, /* nobody listens there */
        LISTENER_OTHER,    /* somebody else does */
} ListenerAnswer;

/* 0: one of pids listens on the port (any local address that 127.0.0.1 reaches); answers; negative
 * errno. */
int listener_check(uint16_t port, const pid_t *pids, size_t n_pids);

/* TCP ports on which these processes listen, ascending, into ret (at most max); how many, or
 * negative errno. */
int listener_ports(const pid_t *pids, size_t n_pids, uint16_t *ret, size_t max);

/* Established connections whose local port is this one. Negative errno. */
int listener_connections(uint16_t port);
