#pragma once

/*
 * The processes of one session, from /proc: what belongs to a service where there are no cgroups. A
 * process that made a session of its own is not found. Private to agent/service.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Pids whose session is this one and who are not dead yet (zombies); at most max are written, the
 * number there are is returned. */
size_t session_pids(pid_t session, pid_t *ret, size_t max);

/* Its first process lives. A number is not given away while it is that of a session with processes
 * in it; so a session that was led by a process that is known to be dead, and is led now, is
 * another's. */
bool session_is_led(pid_t session);

/* The signal to all of them. How many there were. */
size_t session_signal(pid_t session, int signal);

/* Sum of the peaks of resident memory (VmHWM) of these processes, in bytes. */
uint64_t session_peak(const pid_t *pids, size_t n_pids);
