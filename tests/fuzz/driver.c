/*
 * Feeds a fuzz target the files that it is given, each once: for builds without libFuzzer, which
 * has the same command line. Files are copied to memory of exactly their size, so that a sanitizer
 * sees a read beyond the end.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macro.h"

#define FILE_BYTES_MAX (64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_all(int fd, uint8_t *data, size_t size) {
        size_t at = 0;

        while (at < size) {
                ssize_t n = read(fd, data + at, size - at);

                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -EIO;
                at += (size_t) n;
        }
        return 0;
}

static int run_file(const char *path) {
        _cleanup_free_ uint8_t *data = NULL;
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat st;
        int r;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX)
                return -EINVAL;
        data = calloc(1, st.st_size > 0 ? (size_t) st.st_size : 1);
        if (!data)
                return -ENOMEM;
        r = read_all(fd, data, (size_t) st.st_size);
        if (r == 0)
                (void) LLVMFuzzerTestOneInput(data, (size_t) st.st_size);
        return r;
}

int main(int argc, char **argv) {
        for (int i = 1; i < argc; i++) {
                int r = run_file(argv[i]);

                if (r < 0) {
                        (void) fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
                        return 1;
                }
        }
        return 0;
}
