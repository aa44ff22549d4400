#pragma once

/*
 * Stream sockets with a name in the file system, and who is at the other end of one.
 *
 * The path may be of any length: it is reached through a descriptor of its folder, so that the 107
 * bytes of sun_path bind nobody (its last part has room for 80). A socket appears under its name
 * with its final owner and mode and already listening: nobody ever meets a half-made one. What is
 * there from a process that died is replaced; a socket that somebody still answers is not.
 *
 * Sources: unix(7), SO_PEERCRED and SO_PEERGROUPS in socket(7).
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* The other end, as it was when it connected (the kernel's word, not its own). */
typedef struct UnixPeer {
        pid_t pid; /* may have ended since, and its number have a new owner */
        uid_t uid;
        gid_t gid; /* primary group */
} UnixPeer;

/* Makes a listening socket at path; its folder must exist. gid (gid_t) -1: the group of this
 * process. *ret_fd is the caller's, non-blocking. -EADDRINUSE: somebody listens there; -EEXIST:
 * something there that is no socket. */
int unixsock_listen(const char *path, mode_t mode, gid_t gid, int *ret_fd, Error **reterr);

/* Removes the name of a socket that unixsock_listen() made. Not being there is fine. */
int unixsock_remove(const char *path);

/* The next client: a non-blocking descriptor, the caller's. -EAGAIN: none is waiting (clients that
 * left again count as none). */
int unixsock_accept(int listen_fd);

/* Connects, waiting at most some seconds for a busy server. *ret_fd is the caller's, blocking.
 * -ENOENT: no such socket; -ECONNREFUSED: nobody listens; -EACCES: not allowed. */
int unixsock_connect(const char *path, int *ret_fd, Error **reterr);

/* Who connected (or, on the client's side, who listens). Negative errno. */
int unixsock_peer(int fd, UnixPeer *ret);

/* True when gid is the other end's primary group or one of its supplementary groups. */
bool unixsock_peer_in_group(int fd, gid_t gid);
