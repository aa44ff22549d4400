#pragma once

/*
 * A bucket for tests: the requests of agent/net/s3call.c against a scripted server, with a chain of
 * credentials, a clock and a chance that the test sets. Included in place of net/s3call.h, by one
 * file of a program.
 */

#include "loop.h"
#include "script-server.h"

#include "base/digest.h"
#include "net/credentials.h"

/* The module is compiled here, with these in place of the real ones. */
uint32_t world_chance(void);
int world_credentials_get(CredentialChain *chain, CredentialDone done, void *userdata,
                          CredentialWait **ret);
CredentialWait *world_credentials_cancel(CredentialWait *wait);
void world_credentials_refused(CredentialChain *chain);
void world_credentials_set_skew(CredentialChain *chain, int64_t skew_usec);

#define backoff_chance       world_chance
#define credentials_get      world_credentials_get
#define credentials_cancel   world_credentials_cancel
#define credentials_refused  world_credentials_refused
#define credentials_set_skew world_credentials_set_skew
#include "net/s3call.c"
#include "net/s3state.c"
#undef backoff_chance
#undef credentials_get
#undef credentials_cancel
#undef credentials_refused
#undef credentials_set_skew

#define WORLD_NOW_USEC SEC(UINT64_C(1767225600)) /* 2026-01-01T00:00:00Z, a Thursday */
#define WORLD_DATE     "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"

struct CredentialChain {
        sd_event *loop;
        int r; /* what each get ends with */
        unsigned n_get, n_refused;
        int64_t skew_usec;
};

struct CredentialWait {
        CredentialChain *chain;
        CredentialDone done;
        void *userdata;
        sd_event_source *source;
};

CredentialWait *world_credentials_cancel(CredentialWait *wait) {
        if (!wait)
                return NULL;
        (void) sd_event_source_disable_unref(wait->source);
        free(wait);
        return NULL;
}

static int world_on_credentials(_unused_ sd_event_source *s, void *userdata) {
        static char id[] = "AKIDEXAMPLE", secret[] = "very secret";
        const Credentials credentials = { id, secret, NULL, USEC_INFINITY };
        CredentialWait *wait = userdata;
        CredentialDone done = wait->done;
        _cleanup_(error_freep) Error *err = NULL;
        void *of = wait->userdata;
        int r = wait->chain->r;

        (void) world_credentials_cancel(wait);
        if (r < 0)
                (void) error_set(&err, r, "no source has credentials");
        done(of, r, r < 0 ? NULL : &credentials, err);
        return 0;
}

int world_credentials_get(CredentialChain *chain, CredentialDone done, void *userdata,
                          CredentialWait **ret) {
        CredentialWait *wait = calloc(1, sizeof(CredentialWait));

        assert_non_null(wait);
        *wait = (CredentialWait){ chain, done, userdata, NULL };
        chain->n_get++;
        assert_true(sd_event_add_defer(chain->loop, &wait->source, world_on_credentials, wait) >=
                    0);
        *ret = wait;
        return 0;
}

void world_credentials_refused(CredentialChain *chain) {
        chain->n_refused++;
}

void world_credentials_set_skew(CredentialChain *chain, int64_t skew_usec) {
        chain->skew_usec = skew_usec;
}

/* Retries come at once. */
uint32_t world_chance(void) {
        return 0;
}

/* ---- the world ---- */

typedef struct S3World {
        sd_event *loop;
        HttpClient *http;
        CredentialChain chain;
        usec_t now_usec; /* REALTIME of this host */
        Clock clock;
        ScriptServer *server;
        S3 *s3;
} S3World;

static usec_t world_now(void *userdata, clockid_t which) {
        const S3World *w = userdata;

        return which == CLOCK_REALTIME ? w->now_usec : clock_read(NULL, which);
}

static void world_init(S3World *w, const char *url) {
        S3Spec spec = {
                .http = NULL,
                .chain = &w->chain,
                .clock = &w->clock,
                .url = url,
                .endpoint = { .region = "us-east-1" },
        };

        *w = (S3World){ .now_usec = WORLD_NOW_USEC };
        w->clock = (Clock){ world_now, w };
        w->loop = w->chain.loop = loop_new();
        assert_int_equal(http_client_new(w->loop, &w->http, NULL), 0);
        w->server = script_server_new(NULL, 0);
        spec.loop = w->loop;
        spec.http = w->http;
        spec.endpoint.endpoint = script_server_url(w->server);
        assert_int_equal(s3_new(&spec, &w->s3, NULL), 0);
}

#define WORLD_SCRIPT(w, ...)                                                                       \
        do {                                                                                       \
                static const ScriptAnswer _script[] = { __VA_ARGS__ };                             \
                script_server_set((w)->server, _script, ELEMENTS(_script));                        \
        } while (0)

static void world_done(S3World *w) {
        w->s3 = s3_free(w->s3);
        w->http = http_client_free(w->http);
        w->server = script_server_free(w->server);
        w->loop = sd_event_unref(w->loop);
}

/* The value of a header of the i-th request, up to its line's end. */
static const char *world_header(const S3World *w, size_t i, const char *name, char ret[1024]) {
        const char *request = script_server_request(w->server, i), *at;
        _cleanup_free_ char *find = str_format("\r\n%s: ", name);

        ret[0] = '\0';
        at = strcasestr(request, find);
        if (at) {
                at += strlen(find);
                (void) snprintf(ret, 1024, "%.*s", (int) strcspn(at, "\r"), at);
        }
        return ret;
}
