#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"

/*
 * The digest of a file. Of a large one a second thread reads the next chunk while this one hashes,
 * since copying out of the page cache costs a sixth of the time that hashing does. Chunks begin on
 * a page boundary: the kernel copies whole pages faster.
 */

#define CHUNK_BYTES ((size_t) 512 * 1024)
#define PAGE_BYTES  4096

/* Below this a thread is not worth its start. */
#define THREAD_FROM_BYTES ((off_t) 8 * 1024 * 1024)

typedef struct Chunk {
        char *data;
        ssize_t n; /* bytes; 0: the end; negative errno */
        bool is_full;
} Chunk;

/* Two chunks, filled by the one thread and emptied by the other, in turn. */
typedef struct Ahead {
        int fd;
        uint64_t offset; /* the reader's */
        Chunk chunks[2];
        pthread_mutex_t lock;
        pthread_cond_t changed;
} Ahead;

static ssize_t read_chunk(int fd, char *data, uint64_t offset) {
        ssize_t n;

        do
                n = pread(fd, data, CHUNK_BYTES, (off_t) offset);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

static void wait_until(Ahead *a, const Chunk *chunk, bool is_full) {
        (void) pthread_mutex_lock(&a->lock);
        while (chunk->is_full != is_full)
                (void) pthread_cond_wait(&a->changed, &a->lock);
        (void) pthread_mutex_unlock(&a->lock);
}

static void hand_over(Ahead *a, Chunk *chunk, bool is_full) {
        (void) pthread_mutex_lock(&a->lock);
        chunk->is_full = is_full;
        (void) pthread_cond_signal(&a->changed);
        (void) pthread_mutex_unlock(&a->lock);
}

/* Ends with the file, or the first error; both are handed over. */
static void *read_all(void *userdata) {
        Ahead *a = userdata;
        ssize_t n;

        for (size_t i = 0;; i ^= 1) {
                Chunk *chunk = &a->chunks[i];

                wait_until(a, chunk, false);
                n = chunk->n = read_chunk(a->fd, chunk->data, a->offset);
                a->offset += n > 0 ? (uint64_t) n : 0;
                hand_over(a, chunk, true);
                if (n <= 0)
                        return NULL;
        }
}

static ssize_t hash_all(Ahead *a, Digest *digest, uint64_t *ret_size) {
        ssize_t n;

        for (size_t i = 0;; i ^= 1) {
                Chunk *chunk = &a->chunks[i];

                wait_until(a, chunk, true);
                n = chunk->n;
                if (n <= 0)
                        return n;
                digest_update(digest, chunk->data, (size_t) n);
                *ret_size += (uint64_t) n;
                hand_over(a, chunk, false);
        }
}

static ssize_t hash_with_thread(int fd, Digest *digest, char *memory, uint64_t *ret_size) {
        Ahead a = { .fd = fd,
                    .chunks = { { .data = memory }, { .data = memory + CHUNK_BYTES } },
                    .lock = PTHREAD_MUTEX_INITIALIZER,
                    .changed = PTHREAD_COND_INITIALIZER };
        pthread_t reader;
        ssize_t r;

        if (pthread_create(&reader, NULL, read_all, &a) != 0)
                return -EAGAIN;
        r = hash_all(&a, digest, ret_size);
        (void) pthread_join(reader, NULL);
        return r;
}

static ssize_t hash_alone(int fd, Digest *digest, char *memory, uint64_t *ret_size) {
        ssize_t n;

        while ((n = read_chunk(fd, memory, *ret_size)) > 0) {
                digest_update(digest, memory, (size_t) n);
                *ret_size += (uint64_t) n;
        }
        return n;
}

int digest_fd(int fd, char ret[DIGEST_SHA256_HEX_SIZE], uint64_t *ret_size) {
        _cleanup_(digest_freep) Digest *digest = digest_new();
        _cleanup_free_ char *memory = NULL;
        uint64_t size = 0;
        struct stat st;
        ssize_t r = -EAGAIN;

        if (!digest || posix_memalign((void **) &memory, PAGE_BYTES, 2 * CHUNK_BYTES) != 0)
                return -ENOMEM;

        (void) posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        if (fstat(fd, &st) == 0 && st.st_size >= THREAD_FROM_BYTES)
                r = hash_with_thread(fd, digest, memory, &size);
        if (r == -EAGAIN) /* small, or no thread was to be had */
                r = hash_alone(fd, digest, memory, &size);
        if (r < 0)
                return (int) r;

        digest_final_hex(digest, ret);
        if (!*ret)
                return -EIO;
        *ret_size = size;
        return 0;
}
