#include "service/slot.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/str.h"

#define SLOT_FILE "b"

Slot slot_other(Slot slot) {
        if (slot == SLOT_NONE)
                return SLOT_NONE;
        return slot == SLOT_A ? SLOT_B : SLOT_A;
}

const char *slot_name(Slot slot) {
        if (slot == SLOT_A)
                return "a";
        return slot == SLOT_B ? "b" : "";
}

Slot slot_from_name(const char *name) {
        if (str_equal(name, "a"))
                return SLOT_A;
        return str_equal(name, "b") ? SLOT_B : SLOT_NONE;
}

Slot slot_read(int slot_dir_fd) {
        /* As the proxy sees it: only what can be looked up counts. */
        return faccessat(slot_dir_fd, SLOT_FILE, F_OK, AT_EACCESS) == 0 ? SLOT_B : SLOT_A;
}

static int make_file(int slot_dir_fd) {
        _cleanup_close_ int fd = -EBADF;

        fd = openat(slot_dir_fd, SLOT_FILE, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
        return fd < 0 ? -errno : 0;
}

int slot_turn(int slot_dir_fd, Slot slot) {
        int r = 0;

        assert(slot_dir_fd >= 0);

        if (slot == SLOT_NONE)
                return -EINVAL;
        if (slot == SLOT_B)
                r = make_file(slot_dir_fd);
        else if (unlinkat(slot_dir_fd, SLOT_FILE, 0) < 0 && errno != ENOENT)
                r = -errno;
        if (r < 0)
                return r;
        return fsync(slot_dir_fd) < 0 ? -errno : 0;
}
