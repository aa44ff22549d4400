#include "loop/unixsock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/str.h"

/* Clients that may wait to be accepted; the loop takes them within milliseconds. */
#define BACKLOG 64

#define CONNECT_SECONDS 5
#define MAX_GROUPS      65536 /* NGROUPS_MAX of the kernel */

/* A path taken apart: a descriptor of its folder, and the name in it. */
typedef struct Place {
        int dir_fd;
        const char *name;
} Place;

static void place_done(Place *place) {
        closep(&place->dir_fd);
}

static int place_open(const char *path, Place *ret) {
        _cleanup_free_ char *parent = NULL;
        const char *slash = strrchr(path, '/');
        const char *name = slash ? slash + 1 : path;
        int fd;

        if (!*name || str_equal(name, ".") || str_equal(name, ".."))
                return -EINVAL;

        parent = slash ? strndup(path, (size_t) (slash - path) + 1) : strdup(".");
        if (!parent)
                return -ENOMEM;

        fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        *ret = (Place){ .dir_fd = fd, .name = name };
        return 0;
}

/* The kernel follows the link in /proc to the folder itself, however long its path is. */
static int place_address(const Place *place, const char *name, struct sockaddr_un *ret) {
        int n;

        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        n = snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", place->dir_fd,
                     name);
        return n < (int) sizeof(ret->sun_path) ? 0 : -ENAMETOOLONG;
}

static int place_connect(const Place *place, int fd) {
        struct sockaddr_un address;
        int r;

        r = place_address(place, place->name, &address);
        if (r < 0)
                return r;
        if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        return 0;
}

/* What stands under the name may be replaced only if it is a socket that nobody answers. */
static int check_free(const Place *place) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        int r;

        if (fstatat(place->dir_fd, place->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISSOCK(st.st_mode))
                return -EEXIST;

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;

        r = place_connect(place, fd);
        /* EAGAIN: so many clients wait there that there must be a server. */
        if (r == 0 || r == -EAGAIN)
                return -EADDRINUSE;
        return r == -ECONNREFUSED || r == -ENOENT ? 0 : r;
}

/* Bound under a temporary name; the caller renames or removes it. */
static int bind_temporary(const Place *place, int fd, const char *name, mode_t mode, gid_t gid) {
        struct sockaddr_un address;
        int r;

        r = place_address(place, name, &address);
        if (r < 0)
                return r;
        if (bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        if (gid != (gid_t) -1 &&
            fchownat(place->dir_fd, name, (uid_t) -1, gid, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if (fchmodat(place->dir_fd, name, mode, 0) < 0)
                return -errno;
        if (listen(fd, BACKLOG) < 0)
                return -errno;
        if (renameat(place->dir_fd, name, place->dir_fd, place->name) < 0)
                return -errno;
        return 0;
}

static int listen_in(const Place *place, mode_t mode, gid_t gid, int *ret_fd) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *digits = NULL;
        char name[32];
        int r;

        r = check_free(place);
        if (r < 0)
                return r;

        digits = str_random_hex(8);
        if (!digits)
                return -ENOMEM;
        (void) snprintf(name, sizeof(name), ".tmp-%s", digits);

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;

        r = bind_temporary(place, fd, name, mode, gid);
        if (r < 0) {
                (void) unlinkat(place->dir_fd, name, 0);
                return r;
        }

        *ret_fd = TAKE_FD(fd);
        return 0;
}

int unixsock_listen(const char *path, mode_t mode, gid_t gid, int *ret_fd, Error **reterr) {
        _cleanup_(place_done) Place place = { .dir_fd = -EBADF, .name = "" };
        int r;

        r = place_open(path, &place);
        if (r < 0)
                return error_wrap(reterr, r, "listen at %s: open its folder", path);

        r = listen_in(&place, mode, gid, ret_fd);
        if (r == -EADDRINUSE)
                return error_set(reterr, r,
                                 "listen at %s: another process answers there; end it first", path);
        if (r == -EEXIST)
                return error_set(reterr, r, "listen at %s: what is there is no socket; remove it",
                                 path);
        if (r < 0)
                return error_wrap(reterr, r, "listen at %s", path);
        return 0;
}

int unixsock_remove(const char *path) {
        _cleanup_(place_done) Place place = { .dir_fd = -EBADF, .name = "" };
        int r;

        r = place_open(path, &place);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        if (unlinkat(place.dir_fd, place.name, 0) < 0 && errno != ENOENT)
                return -errno;
        return 0;
}

int unixsock_accept(int listen_fd) {
        int fd;

        do
                fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        while (fd < 0 && errno == EINTR);
        if (fd >= 0)
                return fd;
        return errno == ECONNABORTED ? -EAGAIN : -errno;
}

int unixsock_connect(const char *path, int *ret_fd, Error **reterr) {
        _cleanup_(place_done) Place place = { .dir_fd = -EBADF, .name = "" };
        _cleanup_close_ int fd = -EBADF;
        struct timeval wait = { .tv_sec = CONNECT_SECONDS }, forever = { 0 };
        int r;

        r = place_open(path, &place);
        if (r < 0)
                return error_wrap(reterr, r, "connect to %s", path);

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return error_wrap(reterr, -errno, "connect to %s", path);

        /* connect() waits by the time for sending where the server's queue is full. */
        (void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
        r = place_connect(&place, fd);
        if (r < 0)
                return error_wrap(reterr, r, "connect to %s", path);
        (void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof(forever));

        *ret_fd = TAKE_FD(fd);
        return 0;
}

int unixsock_peer(int fd, UnixPeer *ret) {
        struct ucred cred;
        socklen_t size = sizeof(cred);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
                return -errno;

        *ret = (UnixPeer){ .pid = cred.pid, .uid = cred.uid, .gid = cred.gid };
        return 0;
}

bool unixsock_peer_in_group(int fd, gid_t gid) {
        _cleanup_free_ gid_t *groups = NULL;
        socklen_t size = 64 * sizeof(gid_t);
        UnixPeer peer = { 0 };

        if (unixsock_peer(fd, &peer) < 0)
                return false;
        if (peer.gid == gid)
                return true;

        /* ERANGE tells the size that is needed; the list of a connection never changes. */
        for (unsigned i = 0; i < 2; i++) {
                free(TAKE_PTR(groups));
                groups = calloc(1, size);
                if (!groups)
                        return false;
                if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) >= 0)
                        break;
                if (errno != ERANGE || size > MAX_GROUPS * sizeof(gid_t) || i == 1)
                        return false;
        }

        for (size_t i = 0; i < size / sizeof(gid_t); i++)
                if (groups[i] == gid)
                        return true;
        return false;
}
