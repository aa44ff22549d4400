#include "base/landlock.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FS_IOCTL_DEV    (UINT64_C(1) << 15) /* from version 5 */
#define NET_BIND_TCP    UINT64_C(1)         /* from version 4, */
#define NET_CONNECT_TCP UINT64_C(2)         /* too */
#define SCOPES          UINT64_C(3)         /* abstract sockets and signals, from version 6 */

/* As struct landlock_ruleset_attr of the newest headers. */
typedef struct Ruleset {
        uint64_t fs;
        uint64_t net;
        uint64_t scoped;
} Ruleset;

static long version_here(void) {
        return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

/* Rights on files that this version knows. */
static uint64_t fs_rights(long version) {
        uint64_t rights = LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1;

        if (version >= 2)
                rights |= LANDLOCK_ACCESS_FS_REFER;
        if (version >= 3)
                rights |= LANDLOCK_TRUNCATE;
        return version >= 5 ? rights | FS_IOCTL_DEV : rights;
}

int landlock_begin(bool may_connect, int *ret_fd, Error **reterr) {
        long version = version_here();
        Ruleset ruleset = { 0 };
        int fd;

        if (version < 1)
                return LANDLOCK_NONE;
        ruleset.fs = fs_rights(version);
        if (version >= 4)
                ruleset.net = NET_BIND_TCP | (may_connect ? 0 : NET_CONNECT_TCP);
        if (version >= 6)
                ruleset.scoped = SCOPES;
        fd = (int) syscall(SYS_landlock_create_ruleset, &ruleset,
                           version >= 6   ? sizeof(ruleset)
                           : version >= 4 ? offsetof(Ruleset, scoped)
                                          : offsetof(Ruleset, net),
                           0);
        if (fd < 0)
                return error_set(reterr, -errno, "Landlock: %s", strerror(errno));
        *ret_fd = fd;
        return 0;
}

int landlock_allow(int ruleset_fd, int fd, uint64_t rights, Error **reterr) {
        struct landlock_path_beneath_attr rule = { .allowed_access =
                                                           rights & fs_rights(version_here()),
                                                   .parent_fd = fd };

        if (syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
                return error_set(reterr, -errno, "Landlock: allow: %s", strerror(errno));
        return 0;
}

int landlock_enforce(int ruleset_fd, Error **reterr) {
        if (syscall(SYS_landlock_restrict_self, ruleset_fd, 0) < 0)
                return error_set(reterr, -errno, "Landlock: %s", strerror(errno));
        return 0;
}
