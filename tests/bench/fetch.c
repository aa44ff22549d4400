/*
 * One transfer as tendril-net does it, and then the digest that another program would compute.
 *
 *      fetch get KEY FILE MAP    FILE and MAP are made, or gone on with
 *      fetch put KEY FILE
 *
 * From the environment: BENCH_ENDPOINT, BENCH_BUCKET, and credentials as the chain has them. Prints
 * seconds of the transfer, seconds of the digest, kilobytes that the transfer took at its peak over
 * what was in use before it, and the digest.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/limits.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/str.h"
#include "net/s3.h"
#include "net/transfer.h"

typedef struct Bench {
        sd_event *loop;
        HttpClient *http;
        Imds *imds;
        CredentialChain *chain;
        S3 *s3;
        int r;
        char *words;
} Bench;

static void bench_done(Bench *b) {
        (void) s3_free(b->s3);
        (void) credentials_free(b->chain);
        (void) imds_free(b->imds);
        (void) http_client_free(b->http);
        (void) sd_event_unref(b->loop);
        free(b->words);
}

static int bench_make(Bench *b, Error **reterr) {
        _cleanup_free_ char *url = str_format("s3://%s", getenv("BENCH_BUCKET") ?: "bench");
        CredentialSpec credentials = { .environment = environ };
        S3Spec spec = {
                .url = url,
                .endpoint = { .region = "us-east-1", .endpoint = getenv("BENCH_ENDPOINT") },
        };
        int r;

        r = sd_event_default(&b->loop);
        if (r >= 0)
                r = http_client_new(b->loop, &b->http, reterr);
        if (r >= 0)
                r = imds_new(b->loop, b->http, NULL, true, &b->imds, reterr);
        credentials.loop = spec.loop = b->loop;
        credentials.http = spec.http = b->http;
        credentials.imds = b->imds;
        if (r >= 0)
                r = credentials_new(&credentials, &b->chain, reterr);
        spec.chain = b->chain;
        return r >= 0 ? s3_new(&spec, &b->s3, reterr) : r;
}

/* "VmRSS:" or "VmHWM:" in kB. */
static long memory(const char *name) {
        _cleanup_(buf_done) Buf text = BUF_INIT(16 * 1024);
        char part[4096];
        const char *at;
        long kb = 0;
        FILE *f = fopen("/proc/self/status", "re");

        while (f && fgets(part, sizeof(part), f))
                (void) buf_append_str(&text, part);
        if (f)
                (void) fclose(f);
        at = strstr(buf_str(&text), name);
        return at && sscanf(at + strlen(name), "%ld", &kb) == 1 ? kb : 0;
}

static void forget_peak(void) {
        int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);

        if (fd >= 0)
                (void) file_write_all(fd, "5", 1);
        closep(&fd);
}

static void on_done(void *userdata, int r, const char *etag, uint64_t size, Error *err) {
        Bench *b = userdata;

        (void) etag;
        (void) size;
        b->r = r;
        b->words = strdup(r < 0 ? error_text(err) : r > 0 ? "absent or refused" : "");
        (void) sd_event_exit(b->loop, 0);
}

static double seconds(usec_t begin) {
        return (double) (clock_read(NULL, CLOCK_MONOTONIC) - begin) / 1e6;
}

static int run(Bench *b, bool get, TransferSpec *spec, Error **reterr) {
        char sha256[DIGEST_SHA256_HEX_SIZE];
        Transfer *transfer = NULL;
        uint64_t size = 0;
        double took, digested;
        long idle, peak;
        usec_t begin;
        int r;

        spec->done = on_done;
        spec->userdata = b;
        forget_peak();
        idle = memory("VmRSS:");
        begin = clock_read(NULL, CLOCK_MONOTONIC);
        r = get ? transfer_fetch(b->s3, spec, &transfer, reterr)
                : transfer_upload(b->s3, spec, &transfer, reterr);
        if (r < 0)
                return r;
        (void) sd_event_loop(b->loop);
        took = seconds(begin);
        peak = memory("VmHWM:");
        if (b->r != 0)
                return error_set(reterr, b->r < 0 ? b->r : -EIO, "%s", b->words);

        begin = clock_read(NULL, CLOCK_MONOTONIC);
        r = digest_fd(spec->fd, sha256, &size);
        digested = seconds(begin);
        (void) printf("%.4f %.4f %ld %s\n", took, digested, peak - idle, sha256);
        return r;
}

int main(int argc, char **argv) {
        _cleanup_(bench_done) Bench b = { 0 };
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_close_ int fd = -EBADF, map_fd = -EBADF;
        bool get = argc == 5 && str_equal(argv[1], "get");
        TransferSpec spec = { 0 };
        int r;

        if (!get && !(argc == 4 && str_equal(argv[1], "put"))) {
                (void) fprintf(stderr, "usage: fetch get KEY FILE MAP | fetch put KEY FILE\n");
                return 2;
        }
        (void) signal(SIGPIPE, SIG_IGN);
        fd = open(argv[3], get ? O_RDWR | O_CREAT | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0600);
        if (get)
                map_fd = open(argv[4], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        spec = (TransferSpec){ .key = argv[2], .fd = fd, .map_fd = map_fd };
        r = bench_make(&b, &err);
        if (r >= 0)
                r = run(&b, get, &spec, &err);
        if (r < 0)
                (void) fprintf(stderr, "%s\n", err ? error_text(err) : strerror(-r));
        return r < 0 ? 1 : 0;
}
