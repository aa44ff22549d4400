/*
 * The suite of the store against a server of S3 that somebody else started, below a new prefix for
 * each case. Nothing is tidied: buckets of tests go as a whole.
 *
 *      TENDRIL_TEST_S3_SERVER    moto, rgw or s3
 *      TENDRIL_TEST_S3_ENDPOINT  "http://127.0.0.1:7480"; s3 needs none
 *      TENDRIL_TEST_S3_BUCKET    that is there, and may be written
 *      AWS_ACCESS_KEY_ID, ...    as the credentials' chain has them; AWS_REGION
 */

#include "../unit/store-suite.h"

#include "loop/http.h"
#include "net/credentials.h"
#include "net/imds.h"
#include "net/s3.h"

#define EXIT_SKIPPED 77

/* What the store of one case stands on; it goes after the store. */
typedef struct Place {
        const char *endpoint, *bucket, *region;
        char run[48]; /* of this run of the program */
        unsigned n_cases;
        HttpClient *http;
        Imds *imds;
        CredentialChain *chain;
} Place;

static void place_clear(Place *p) {
        p->chain = credentials_free(p->chain);
        p->imds = imds_free(p->imds);
        p->http = http_client_free(p->http);
}

static int place_reset(void *userdata) {
        Place *p = userdata;

        place_clear(p);
        p->n_cases++;
        return 0;
}

static int make_chain(Place *p, sd_event *loop) {
        CredentialSpec spec = { .loop = loop, .environment = environ };
        int r;

        r = http_client_new(loop, &p->http, NULL);
        if (r < 0)
                return r;
        r = imds_new(loop, p->http, NULL, true, &p->imds, NULL);
        if (r < 0)
                return r;
        spec.http = p->http;
        spec.imds = p->imds;
        return credentials_new(&spec, &p->chain, NULL);
}

static int place_connect(void *userdata, sd_event *loop, Store **ret) {
        Place *p = userdata;
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_(s3_freep) S3 *s3 = NULL;
        char url[256];
        S3Spec spec = {
                .loop = loop,
                .url = url,
                .endpoint = { .region = p->region, .endpoint = p->endpoint },
        };
        int r;

        (void) snprintf(url, sizeof(url), "s3://%s/%s/%u", p->bucket, p->run, p->n_cases);
        r = make_chain(p, loop);
        if (r < 0)
                return r;
        spec.http = p->http;
        spec.chain = p->chain;
        r = s3_new(&spec, &s3, &err);
        if (r == 0)
                r = store_s3_new(s3, ret, &err);
        if (r < 0) {
                print_message("# %s\n", error_text(err));
                return r;
        }
        (void) TAKE_PTR(s3);
        return 0;
}

static SuiteServer server_named(const char *name) {
        if (str_equal(name, "moto"))
                return SERVER_MOTO;
        if (str_equal(name, "rgw"))
                return SERVER_RGW;
        return str_equal(name, "s3") ? SERVER_S3 : 0;
}

static int skipped(const char *words) {
        (void) printf("skipped: %s\n", words);
        return EXIT_SKIPPED;
}

int main(void) {
        static Place place;
        const char *server = getenv("TENDRIL_TEST_S3_SERVER");
        Suite suite = { "s3-store-suite", 0, place_reset, place_connect, &place };
        _cleanup_free_ char *run = str_random_hex(8);
        sigset_t mask;
        int failed;

        place.endpoint = getenv("TENDRIL_TEST_S3_ENDPOINT");
        place.bucket = getenv("TENDRIL_TEST_S3_BUCKET");
        place.region = getenv("AWS_REGION") ?: "us-east-1";
        suite.server = server ? server_named(server) : 0;
        if (!server || !place.bucket || !getenv("AWS_ACCESS_KEY_ID"))
                return skipped(
                        "TENDRIL_TEST_S3_SERVER, TENDRIL_TEST_S3_BUCKET and AWS_ACCESS_KEY_ID "
                        "say where there is a bucket");
        if (suite.server == 0 || (suite.server != SERVER_S3 && !place.endpoint))
                return skipped("TENDRIL_TEST_S3_SERVER is moto, rgw or s3, and the first two need "
                               "TENDRIL_TEST_S3_ENDPOINT");
        (void) snprintf(place.run, sizeof(place.run), "suite-%s", run ?: "0");
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGPIPE);
        (void) sigprocmask(SIG_BLOCK, &mask, NULL);
        failed = store_suite_run(&suite);
        place_clear(&place);
        return failed;
}
