#include <assert.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "agent/limits.h"
#include "base/landlock.h"
#include "bundle/bundle.h"

#if defined(__x86_64__)
#define AUDIT_ARCH_HERE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define AUDIT_ARCH_HERE AUDIT_ARCH_AARCH64
#else
#error "the filter of system calls is written for x86_64 and aarch64"
#endif

/* The largest decoder is zstd's and xz's: 128 MiB; two hundred thousand entries are 60 MiB; eight
 * stacks are 64 MiB. */
#define MEMORY_BYTES (UINT64_C(768) << 20)
/* Addresses without memory: libraries, and what libc reserves for the heap of each thread. */
#define ADDRESS_BYTES (UINT64_C(1) << 30)

/* ---- limits ---- */

static int set_limits(const Confinement *how, Error **reterr) {
        const struct {
                int which;
                uint64_t value;
        } rows[] = {
                { RLIMIT_NOFILE, 64 }, /* two for each thread, four from the call, and some */
                { RLIMIT_FSIZE, how->write_fd >= 0 ? LIMIT_ARCHIVE_TOTAL_BYTES : LIMIT_PLAN_BYTES },
                { RLIMIT_CORE, 0 },    /* a private key may be in memory */
                { RLIMIT_MEMLOCK, 0 }, /* no use for it */
#if !SANITIZED
                { RLIMIT_DATA, MEMORY_BYTES },
                { RLIMIT_AS,
                  MEMORY_BYTES + ADDRESS_BYTES + LIMIT_BUNDLE_BYTES }, /* the bundle is mapped */
#endif
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                struct rlimit limit;

                /* Never above what the caller has set. */
                if (getrlimit(rows[i].which, &limit) < 0)
                        return error_set(reterr, -errno, "read a limit: %s", strerror(errno));
                limit.rlim_max = MIN((rlim_t) rows[i].value, limit.rlim_max);
                limit.rlim_cur = limit.rlim_max;
                if (setrlimit(rows[i].which, &limit) < 0)
                        return error_set(reterr, -errno, "set a limit: %s", strerror(errno));
        }
        return 0;
}

/* ---- Landlock ---- */

/* What the folder that is unpacked into is for. */
#define FS_WRITE                                                                                   \
        (LANDLOCK_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | /* files are made and filled */           \
         LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_SYM | \
         LANDLOCK_ACCESS_FS_REFER | /* hard links between its own folders */                       \
         LANDLOCK_TRUNCATE /* a file that ends in a hole */)

/* 1: the kernel has none. */
static int set_landlock(const Confinement *how, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = landlock_begin(false, &fd, reterr);
        if (r != 0)
                return r;
        if (how->write_fd >= 0)
                r = landlock_allow(fd, how->write_fd, FS_WRITE, reterr);
        if (r >= 0 && how->read_fd >= 0)
                r = landlock_allow(fd, how->read_fd, LANDLOCK_READ, reterr);
        return r < 0 ? r : landlock_enforce(fd, reterr);
}

/* ---- seccomp ---- */

/* clang-format off */
static const uint16_t allowed[] = {
        /* descriptors that it was given and files that it makes */
        SYS_read, SYS_pread64, SYS_write, SYS_pwrite64, SYS_lseek, SYS_close,
        SYS_writev,                    /* libc's last words before it aborts */
        SYS_fstat, SYS_newfstatat,     /* how large the bundle is; what stands in a folder (plan) */
        SYS_openat, SYS_openat2,       /* below the folder, Landlock says which */
        SYS_mkdirat, SYS_symlinkat, SYS_linkat,
        SYS_utimensat,                 /* times are the archive's */
        SYS_ftruncate,                 /* a file that ends in a hole; the size of an answer in memory */
        SYS_fcntl,                     /* duplicates, seals of an answer in memory */
        SYS_getdents64,                /* plan lists folders */
        SYS_fstatfs,                   /* free space before the first byte */
        SYS_syncfs,                    /* before the answer */
        SYS_umask,                     /* modes as they are meant */
        SYS_memfd_create,              /* answers larger than a packet */
        SYS_sendmsg,                   /* the answer */
        SYS_ppoll,                     /* if the caller is slow to take it */
#ifdef SYS_poll
        SYS_poll,
#endif
        /* memory */
        SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise,
        /* threads, once they run */
        SYS_futex, SYS_sched_yield, SYS_sched_getaffinity, SYS_set_robust_list, SYS_rseq, SYS_membarrier,
        SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_rt_sigreturn,
        SYS_gettid, SYS_getpid, SYS_tgkill, /* abort(); signals to others are Landlock's and the user's matter */
        SYS_exit, SYS_exit_group,
        SYS_prlimit64,                 /* libc asks for the size of a stack */
        /* time and chance */
        SYS_clock_gettime, SYS_getrandom,
};

/* Whoever asks for these has been taken over. */
static const uint16_t deadly[] = {
        SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_bpf,
        SYS_init_module, SYS_finit_module, SYS_kexec_load, SYS_mount, SYS_setns, SYS_unshare, SYS_keyctl,
        SYS_io_uring_setup, SYS_userfaultfd, SYS_open_by_handle_at, SYS_pidfd_getfd,
};
/* clang-format on */

/* Each of both lists takes two instructions; the frame around them, some more. */
#define FILTER_MAX (2 * (ELEMENTS(allowed) + ELEMENTS(deadly)) + 24)

typedef struct Filter {
        struct sock_filter code[FILTER_MAX];
        unsigned short n;
} Filter;

static void add(Filter *filter, struct sock_filter instruction) {
        assert(filter->n < FILTER_MAX);
        filter->code[filter->n++] = instruction;
}

/* If the loaded value is (for a mask: has a bit of) k, answer so; else go on. */
static void add_answer(Filter *filter, unsigned short jump, uint32_t k, uint32_t answer) {
        add(filter, (struct sock_filter) BPF_JUMP(BPF_JMP | jump | BPF_K, k, 0, 1));
        add(filter, (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, answer));
}

static void add_load(Filter *filter, size_t offset) {
        add(filter, (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t) offset));
}

static void build_filter(Filter *filter, bool threads) {
        /* Numbers mean nothing without their architecture. */
        add_load(filter, offsetof(struct seccomp_data, arch));
        add(filter,
            (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_HERE, 1, 0));
        add(filter, (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));

        add_load(filter, offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
        /* x32 shares the architecture and has numbers of its own. */
        add_answer(filter, BPF_JGE, 0x40000000, SECCOMP_RET_KILL_PROCESS);
#endif
        for (size_t i = 0; i < ELEMENTS(deadly); i++)
                add_answer(filter, BPF_JEQ, deadly[i], SECCOMP_RET_KILL_PROCESS);
        for (size_t i = 0; i < ELEMENTS(allowed); i++)
                add_answer(filter, BPF_JEQ, allowed[i], SECCOMP_RET_ALLOW);

        /* Its flags are in memory, which a filter cannot read: libc then uses the old one. */
        add_answer(filter, BPF_JEQ, SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
        if (threads) {
                /* clone: a thread, not a process. */
                add(filter,
                    (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3));
                add_load(filter, offsetof(struct seccomp_data, args[0]));
                add_answer(filter, BPF_JSET, CLONE_THREAD, SECCOMP_RET_ALLOW);
        }
        add(filter, (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
}

/* 1: the kernel has none. */
static int set_seccomp(const Confinement *how, Error **reterr) {
        Filter filter = { .n = 0 };
        struct sock_fprog program;

        build_filter(&filter, how->threads);
        program = (struct sock_fprog){ .len = filter.n, .filter = filter.code };
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0)
                return 0;
        if (errno == ENOSYS || errno == EINVAL)
                return 1;
        return error_set(reterr, -errno, "seccomp: %s", strerror(errno));
}

int bundle_confine(const Confinement *how, const char **ret_lost, Error **reterr) {
        int landlock, seccomp, r;

        assert(how && ret_lost);

        *ret_lost = NULL;
        r = set_limits(how, reterr);
        if (r < 0)
                return r;
        /* A file that grows over its limit is an error with words, not a death. */
        (void) signal(SIGXFSZ, SIG_IGN);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return error_set(reterr, -errno, "no new privileges: %s", strerror(errno));
        if (SANITIZED) {
                *ret_lost = "a sanitizer is built in: neither Landlock nor seccomp";
                return 0;
        }

        landlock = set_landlock(how, reterr);
        if (landlock < 0)
                return landlock;
        seccomp = set_seccomp(how, reterr);
        if (seccomp < 0)
                return seccomp;
        if (landlock > 0 || seccomp > 0)
                *ret_lost = seccomp == 0    ? "the kernel has no Landlock"
                            : landlock == 0 ? "the kernel has no seccomp filters"
                                            : "the kernel has neither Landlock nor seccomp filters";
        return 0;
}
