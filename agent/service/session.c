#include "session.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/str.h"

#define SIGNAL_MAX 4096

/* state and session of a process (proc(5), fields 3 and 6 of stat, behind the name, which may have
 * blanks and brackets). */
static bool read_stat(pid_t pid, char *ret_state, pid_t *ret_session) {
        _cleanup_(buf_done) Buf text = BUF_INIT(4096);
        char path[64];
        int session;

        (void) snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        if (file_read_at(AT_FDCWD, path, &text) < 0)
                return false;
        const char *behind = strrchr(buf_str(&text), ')');
        if (!behind || sscanf(behind, ") %c %*d %*d %d", ret_state, &session) != 2)
                return false;
        *ret_session = (pid_t) session;
        return true;
}

size_t session_pids(pid_t session, pid_t *ret, size_t max) {
        size_t n = 0;

        DIR *proc = opendir("/proc");
        if (!proc)
                return 0;
        for (const struct dirent *e = readdir(proc); e; e = readdir(proc)) {
                uint64_t pid;
                pid_t of;
                char state;

                if (str_to_u64(e->d_name, &pid) < 0 || pid > INT32_MAX ||
                    !read_stat((pid_t) pid, &state, &of) || of != session || state == 'Z' ||
                    state == 'X')
                        continue;
                if (n < max)
                        ret[n] = (pid_t) pid;
                n++;
        }
        (void) closedir(proc);
        return n;
}

bool session_is_led(pid_t session) {
        pid_t of;
        char state;

        return read_stat(session, &state, &of) && of == session && state != 'Z' && state != 'X';
}

size_t session_signal(pid_t session, int signal) {
        _cleanup_free_ pid_t *pids = calloc(SIGNAL_MAX, sizeof(*pids));
        size_t n = pids ? session_pids(session, pids, SIGNAL_MAX) : 0;

        for (size_t i = 0; i < MIN(n, (size_t) SIGNAL_MAX); i++)
                if (pids[i] > 1)
                        (void) kill(pids[i], signal);
        return n;
}

static uint64_t read_peak(pid_t pid) {
        _cleanup_(buf_done) Buf text = BUF_INIT(16384);
        unsigned long long kib;
        char path[64];

        (void) snprintf(path, sizeof(path), "/proc/%d/status", pid);
        if (file_read_at(AT_FDCWD, path, &text) < 0)
                return 0;
        const char *line = strstr(buf_str(&text), "\nVmHWM:");
        return line && sscanf(line, "\nVmHWM: %llu", &kib) == 1 ? kib * 1024 : 0;
}

uint64_t session_peak(const pid_t *pids, size_t n_pids) {
        uint64_t sum = 0;

        for (size_t i = 0; i < n_pids; i++)
                sum += read_peak(pids[i]);
        return sum;
}
