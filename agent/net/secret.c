#include "net/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "net/credentials.h"

char *secret_free(char *secret) {
        if (secret)
                explicit_bzero(secret, strlen(secret));
        free(secret);
        return NULL;
}

void secret_buf_done(Buf *buf) {
        if (buf->data)
                explicit_bzero(buf->data, buf->allocated);
        buf_done(buf);
}

char **secret_strv_free(char **list) {
        for (char **s = list; s && *s; s++)
                *s = secret_free(*s);
        free(list);
        return NULL;
}

void credentials_done(Credentials *credentials) {
        (void) secret_free(credentials->access_key_id);
        (void) secret_free(credentials->secret);
        (void) secret_free(credentials->token);
        *credentials = (Credentials){ 0 };
}

int secret_read_file(const char *path, Buf *ret) {
        _cleanup_close_ int fd = -EBADF;
        size_t done = 0;
        struct stat st;
        ssize_t n = -1;
        char *to;

        /* A FIFO in the place of the file must not hold us. */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        if ((uint64_t) st.st_size > ret->max_bytes)
                return -EFBIG;
        to = buf_reserve(ret, (size_t) st.st_size);
        if (!to)
                return -ENOMEM;

        /* Only what was there by then, so that the buffer need not grow and leave a copy. */
        while (n != 0 && done < (size_t) st.st_size) {
                n = read(fd, to + done, (size_t) st.st_size - done);
                if (n < 0 && errno != EINTR)
                        return -errno;
                done += n > 0 ? (size_t) n : 0;
        }
        buf_commit(ret, done);
        return 0;
}
