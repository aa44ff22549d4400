#pragma once

/*
 * The log of a service: a file that the processes append to by themselves, so that it goes on
 * without the agent. Private to agent/service.
 */

#include <stdint.h>

/* NAME.log for appending, made if missing (0640). The descriptor, or a negative errno. */
int applog_open(int dir_fd, const char *name);

/*
 * Where NAME.log is larger than max_bytes: its last max_bytes become NAME.log.1 and it begins anew.
 * Whoever writes goes on writing. Where the file system can take a range out of a file, whole
 * blocks move and not a byte is lost or doubled, though the line at the seam is cut; elsewhere what
 * is written in the moment of truncation is lost. 0, negative errno.
 */
int applog_rotate(int dir_fd, const char *name, uint64_t max_bytes);
