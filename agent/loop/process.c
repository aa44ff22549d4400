#include "loop/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/str.h"

/* proc(5): the longest line has 52 numbers and a name of at most 64 bytes. */
#define STAT_BYTES 4096

#define START_TIME_FIELD 22

static int read_stat(int dir_fd, const char *folder, Buf *ret) {
        char path[300];

        (void) snprintf(path, sizeof(path), "%s/stat", folder);
        return file_read_at(dir_fd, path, ret);
}

int process_start_time(pid_t pid, uint64_t *ret) {
        _cleanup_(buf_done) Buf text = BUF_INIT(STAT_BYTES);
        char folder[32], *at, *rest = NULL, *field = NULL;
        int r;

        (void) snprintf(folder, sizeof(folder), "/proc/%d", (int) pid);
        r = read_stat(AT_FDCWD, folder, &text);
        if (r < 0)
                return r == -ENOENT ? -ESRCH : r;

        /* Field 2 is the program's name in parentheses and may hold blanks and parentheses itself.
         */
        at = strrchr(text.data ?: "", ')');
        if (!at)
                return -ESRCH;

        for (unsigned i = 2; i < START_TIME_FIELD; i++) {
                field = strtok_r(i == 2 ? at + 1 : NULL, " \n", &rest);
                if (!field)
                        return -EBADMSG;
        }
        return str_to_u64(field, ret) < 0 ? -EBADMSG : 0;
}

bool process_group_has_others(pid_t group) {
        const struct dirent *entry;
        bool found = false;
        DIR *dir;

        dir = opendir("/proc");
        if (!dir)
                return false;

        while (!found && (entry = readdir(dir)) != NULL) {
                _cleanup_(buf_done) Buf text = BUF_INIT(STAT_BYTES);
                const char *at;
                uint64_t pid;
                int pgrp;
                char state;

                if (str_to_u64(entry->d_name, &pid) < 0 || (pid_t) pid == group ||
                    read_stat(dirfd(dir), entry->d_name, &text) < 0)
                        continue;
                at = strrchr(buf_str(&text), ')');
                found = at && sscanf(at, ") %c %*d %d", &state, &pgrp) == 2 && pgrp == group &&
                        state != 'Z' && state != 'X';
        }

        (void) closedir(dir);
        return found;
}

int process_boot_id(char ret[37]) {
        _cleanup_(buf_done) Buf text = BUF_INIT(64);
        int r;

        r = file_read_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &text);
        if (r < 0)
                return r;
        if (text.size < 36)
                return -EBADMSG;

        memcpy(ret, text.data, 36);
        ret[36] = 0;
        return 0;
}
