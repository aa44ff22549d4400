/*
 * The limit of verifying and unpacking a zip: its SHA-256, and then as many processes as there are
 * processors, which only inflate and write. No check of names, sizes or checksums, no times; the
 * folders are there before. Prints the seconds. usage: limit ZIP FOLDER
 */

#include <err.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#define PROCESSES_MAX 64
#define FILE_COST     16384

typedef struct Item {
        const uint8_t *data;
        size_t bytes_in, bytes_out;
        unsigned method, owner;
        char name[256];
} Item;

static unsigned u16(const uint8_t *p) {
        return (unsigned) (p[0] | p[1] << 8);
}

static uint32_t u32(const uint8_t *p) {
        return u16(p) | (uint32_t) u16(p + 2) << 16;
}

static const uint8_t *map(const char *path, size_t *ret_size) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat st;
        void *data;

        if (fd < 0 || fstat(fd, &st) < 0)
                err(1, "%s", path);
        data = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
                err(1, "%s", path);
        *ret_size = (size_t) st.st_size;
        return data;
}

/* The bench made the archive: it is believed. */
static Item *read_items(const uint8_t *data, size_t size, size_t *ret_n) {
        const uint8_t *end = data + size - 22, *p = data + u32(end + 16);
        Item *items = calloc(u16(end + 10), sizeof(*items));
        size_t n = 0;

        if (!items)
                err(1, "memory");
        for (; n < u16(end + 10); n++) {
                const uint8_t *local = data + u32(p + 42);
                Item *item = &items[n];

                item->method = u16(p + 10);
                item->bytes_in = u32(p + 20);
                item->bytes_out = u32(p + 24);
                item->data = local + 30 + u16(local + 26) + u16(local + 28);
                if (u16(p + 28) >= sizeof(item->name))
                        errx(1, "a name is too long");
                memcpy(item->name, p + 46, u16(p + 28));
                p += 46 + u16(p + 28) + u16(p + 30) + u16(p + 32);
        }
        *ret_n = n;
        return items;
}

static size_t cost(const Item *item) {
        return FILE_COST + item->bytes_out + (item->method ? 2 * item->bytes_in : 0);
}

static int compare(const void *a, const void *b) {
        size_t x = cost(*(Item *const *) a), y = cost(*(Item *const *) b);

        return (x < y) - (x > y);
}

static void share_out(Item *items, size_t n, unsigned processes) {
        Item **sorted = calloc(n, sizeof(*sorted));
        size_t load[PROCESSES_MAX] = { 0 };

        if (!sorted)
                err(1, "memory");
        for (size_t i = 0; i < n; i++)
                sorted[i] = &items[i];
        qsort(sorted, n, sizeof(*sorted), compare);
        for (size_t i = 0; i < n; i++) {
                unsigned least = 0;

                for (unsigned k = 1; k < processes; k++)
                        if (load[k] < load[least])
                                least = k;
                sorted[i]->owner = least;
                load[least] += cost(sorted[i]);
        }
        free(sorted);
}

static void make_folders(int dir_fd, const Item *items, size_t n) {
        for (size_t i = 0; i < n; i++) {
                char path[256];

                memcpy(path, items[i].name, sizeof(path));
                for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
                        *slash = '\0';
                        (void) mkdirat(dir_fd, path, 0755);
                        *slash = '/';
                }
        }
}

static void write_out(int fd, const uint8_t *data, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, data, size);

                if (n < 0)
                        err(1, "write");
                data += n;
                size -= (size_t) n;
        }
}

static void extract(int dir_fd, const Item *item, uint8_t *buffer, size_t buffer_size) {
        z_stream stream = { 0 };
        int fd = openat(dir_fd, item->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644),
            r = Z_OK;

        if (fd < 0)
                err(1, "%s", item->name);
        if (item->method == 0)
                write_out(fd, item->data, item->bytes_out);
        else {
                stream.next_in = (Bytef *) (uintptr_t) item->data;
                stream.avail_in = (uInt) item->bytes_in;
                if (inflateInit2(&stream, -15) != Z_OK)
                        errx(1, "inflateInit2");
                while (r == Z_OK) {
                        stream.next_out = buffer;
                        stream.avail_out = (uInt) buffer_size;
                        r = inflate(&stream, Z_NO_FLUSH);
                        write_out(fd, buffer, buffer_size - stream.avail_out);
                }
                if (r != Z_STREAM_END)
                        errx(1, "%s: inflate: %d", item->name, r);
                (void) inflateEnd(&stream);
        }
        (void) close(fd);
}

static double now(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
        static uint8_t buffer[256 * 1024];
        uint8_t digest[EVP_MAX_MD_SIZE];
        unsigned processes;
        size_t size, n;
        cpu_set_t cpus;
        double begin;
        Item *items;
        int dir_fd;

        if (argc != 3)
                errx(2, "usage: limit ZIP FOLDER");
        if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
                err(1, "sched_getaffinity");
        processes = (unsigned) CPU_COUNT(&cpus) < PROCESSES_MAX ? (unsigned) CPU_COUNT(&cpus)
                                                                : PROCESSES_MAX;
        dir_fd = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                err(1, "%s", argv[2]);
        const uint8_t *data = map(argv[1], &size);
        items = read_items(data, size, &n);
        share_out(items, n, processes);
        make_folders(dir_fd, items, n);

        begin = now();
        if (EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL) != 1)
                errx(1, "digest");
        for (unsigned k = 0; k < processes; k++) {
                pid_t pid = fork();

                if (pid < 0)
                        err(1, "fork");
                if (pid > 0)
                        continue;
                for (size_t i = 0; i < n; i++)
                        if (items[i].owner == k && items[i].name[strlen(items[i].name) - 1] != '/')
                                extract(dir_fd, &items[i], buffer, sizeof(buffer));
                _exit(0);
        }
        for (int status; wait(&status) > 0;)
                if (status != 0)
                        errx(1, "a process failed");
        (void) printf("%.6f\n", now() - begin);
        free(items);
        return 0;
}
