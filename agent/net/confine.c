#include "net/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/landlock.h"
#include "base/str.h"

/* For each of LIMIT_S3_CALLS: a socket, what wakes its resolver, and up to three descriptors that
 * it was handed, each of them twice; the checks; and what is always there. */
#define FILES_MAX (LIMIT_S3_CALLS * 10 + 256)

static void set_limit(int which, uint64_t value) {
        struct rlimit limit;

        /* Never above what the caller has set. */
        if (getrlimit((__rlimit_resource_t) which, &limit) < 0)
                return;
        limit.rlim_max = MIN((rlim_t) value, limit.rlim_max);
        limit.rlim_cur = limit.rlim_max;
        (void) setrlimit((__rlimit_resource_t) which, &limit);
}

void net_confine_process(void) {
        (void) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        /* Credentials are in its memory: nobody of the same user looks into it. */
        (void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        set_limit(RLIMIT_CORE, 0);
        set_limit(RLIMIT_NOFILE, FILES_MAX);
        /* What it is handed to fill is at most a bundle. A write beyond that is an error with
         * words, not a death. */
        (void) signal(SIGXFSZ, SIG_IGN);
        set_limit(RLIMIT_FSIZE, LIMIT_BUNDLE_BYTES);
}

/* ---- Landlock ---- */

/* To be read, with all below it. Folders rather than files: most of these are replaced by a rename,
 * and a rule is about what stood there. What is not there needs none. */
static const char *const readable[] = {
        "/etc",                 /* resolv.conf, nsswitch.conf, hosts, certificates, openssl.cnf */
        "/usr",                 /* modules of nss and of OpenSSL, certificates */
        "/lib",                 /* the same, */
        "/lib64",               /* where they are no links to it */
        "/run/systemd/resolve", /* where resolv.conf is a link to */
        "/run/resolvconf",
        "/run/NetworkManager",
        "/var/lib/ca-certificates", /* as openSUSE has it */
        "/var/lib/sss",             /* nss_sss */
        "/proc/self",
        "/proc/sys",               /* fips_enabled; what libc asks about memory */
        "/sys/devices/system/cpu", /* how many there are: libc, for its heaps */
        "/dev/urandom",
};

static int allow_reading(int ruleset_fd, const char *path, Error **reterr) {
        _cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return 0;
        return landlock_allow(ruleset_fd, fd,
                              S_ISDIR(st.st_mode) ? LANDLOCK_READ : LANDLOCK_ACCESS_FS_READ_FILE,
                              reterr);
}

/* The folder of a file. */
static int allow_folder_of(int ruleset_fd, const char *path, Error **reterr) {
        _cleanup_free_ char *folder = NULL;
        const char *slash = strrchr(path, '/');

        if (path[0] != '/')
                return 0;
        folder = strndup(path, slash == path ? 1 : (size_t) (slash - path));
        return folder ? allow_reading(ruleset_fd, folder, reterr) : -ENOMEM;
}

/* A file that is configured: where it stands, and where it is a link to (tokens of Kubernetes are
 * turned by a link). */
static int allow_file(int ruleset_fd, const char *path, Error **reterr) {
        char real[PATH_MAX];
        int r;

        if (str_is_empty(path))
                return 0;
        r = allow_folder_of(ruleset_fd, path, reterr);
        if (r < 0 || !realpath(path, real))
                return r;
        return allow_folder_of(ruleset_fd, real, reterr);
}

static const char *variable(const WireOpen *open, const char *name) {
        size_t n = strlen(name);

        for (char *const *v = open->environment; v && *v; v++)
                if (strncmp(*v, name, n) == 0 && (*v)[n] == '=')
                        return *v + n + 1;
        return NULL;
}

/* Files that the settings and the environment name, and that are no program's. */
static int allow_configured(int ruleset_fd, const WireOpen *open, Error **reterr) {
        static const char *const names[] = { "AWS_CA_BUNDLE", "SSL_CERT_FILE",
                                             "AWS_WEB_IDENTITY_TOKEN_FILE",
                                             "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" };
        int r;

        r = allow_file(ruleset_fd, open->ca_file, reterr);
        for (size_t i = 0; i < ELEMENTS(names) && r >= 0; i++)
                r = allow_file(ruleset_fd, variable(open, names[i]), reterr);
        return r;
}

/*
 * A profile may name a credential_process: a program of the user's, which reads, writes (its cache)
 * and runs nobody knows what, and inherits every rule of ours. Where there may be one, files are
 * guarded by the user that this process runs as, and by nothing else. On a host that has its
 * credentials from the instance, a container or the environment there is none.
 */
static bool may_run_a_program(const WireOpen *open) {
        static const char *const names[] = { "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE",
                                             "AWS_CONFIG_FILE" };
        const char *home = variable(open, "HOME");
        _cleanup_free_ char *folder = NULL;

        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (variable(open, names[i]))
                        return true;
        folder = home ? str_format("%s/.aws", home) : NULL;
        return folder && access(folder, F_OK) == 0;
}

/* Servers, proxies and the metadata service have any port. */
static int restrict_files(const WireOpen *open, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = landlock_begin(true, &fd, reterr);
        if (r != 0)
                return r < 0 ? r : NET_CONFINE_NONE;
        for (size_t i = 0; i < ELEMENTS(readable) && r >= 0; i++)
                r = allow_reading(fd, readable[i], reterr);
        if (r >= 0 && open)
                r = allow_configured(fd, open, reterr);
        if (r < 0)
                return r;
        /* Landlock asks for it. */
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return error_set(reterr, -errno, "no new privileges: %s", strerror(errno));
        return landlock_enforce(fd, reterr);
}

int net_confine_files(const WireOpen *open, Error **reterr) {
        if (open && may_run_a_program(open))
                return NET_CONFINE_PROGRAM;
        return SANITIZED ? NET_CONFINE_NONE : restrict_files(open, reterr);
}
