#pragma once

/*
 * What the tests of credentials share: a chain, a scripted service that is IMDS and all others, a
 * clock that the tests turn, a folder, and what a caller got. Every secret here holds the word
 * HIDDEN, which may stand in no error and no status: seen to by on_credentials() and get().
 */

#include "../../agent/net/credentials.c" /* its time between tries is shortened */

#include "folder.h"
#include "loop.h"
#include "script-server.h"

#define NOW_TEXT  "2026-08-01T12:00:00Z"
#define MIN_OF(n) SEC(60 * (n))

typedef struct Answer {
        int n_done, r;
        char key_id[64], secret[64], token[64], error[2048];
        usec_t ends_usec;
        CredentialChain **free_chain; /* ... from within done() */
        CredentialWait *cancel;
} Answer;

static inline void on_credentials(void *userdata, int r, const Credentials *c, Error *err) {
        Answer *a = userdata;

        a->n_done++;
        a->r = r;
        assert_true((r == 0) == (c != NULL));
        assert_true((r < 0) == (err != NULL));
        if (c) {
                (void) snprintf(a->key_id, sizeof(a->key_id), "%s", c->access_key_id);
                (void) snprintf(a->secret, sizeof(a->secret), "%s", c->secret);
                (void) snprintf(a->token, sizeof(a->token), "%s", c->token ?: "none");
                a->ends_usec = c->ends_usec;
        } else {
                (void) snprintf(a->error, sizeof(a->error), "%s", error_text(err));
                assert_null(strstr(a->error, "HIDDEN"));
                assert_int_equal(error_code(err), r);
        }
        if (a->free_chain)
                *a->free_chain = credentials_free(*a->free_chain);
        if (a->cancel)
                a->cancel = credentials_cancel(a->cancel);
}

typedef struct World {
        sd_event *loop;
        HttpClient *http;
        ScriptServer *server;
        Imds *imds;
        Folder folder;
        char *environment[16]; /* owned */
        size_t n_environment;
        usec_t realtime, boottime;
        Clock clock;
        CredentialChain *chain;
} World;

static inline usec_t fake_now(void *userdata, clockid_t which) {
        const World *w = userdata;

        return which == CLOCK_REALTIME ? w->realtime : w->boottime;
}

static inline void pass(World *w, usec_t usec) {
        w->realtime += usec;
        w->boottime += usec;
}

/* imds_url NULL: the scripted server is the instance metadata service, too. */
static inline void world_begin(World *w, const ScriptAnswer *script, size_t n,
                               const char *imds_url) {
        *w = (World){ .loop = loop_new(),
                      .server = script_server_new(script, n),
                      .folder = folder_new(),
                      .boottime = SEC(5000),
                      .clock = { fake_now, w } };
        assert_int_equal(time_parse(NOW_TEXT, &w->realtime), 0);
        assert_int_equal(http_client_new(w->loop, &w->http, NULL), 0);
        assert_int_equal(imds_new(w->loop, w->http, imds_url ?: script_server_url(w->server), false,
                                  &w->imds, NULL),
                         0);
}

static inline void world_done(World *w) {
        w->chain = credentials_free(w->chain);
        w->imds = imds_free(w->imds);
        w->http = http_client_free(w->http);
        w->server = script_server_free(w->server);
        w->loop = sd_event_unref(w->loop);
        folder_done(&w->folder);
        for (size_t i = 0; i < w->n_environment; i++)
                (void) secret_free(w->environment[i]);
}

/* "%s" is the folder, or the server's URL. */
static inline void set_env(World *w, const char *name, const char *before, const char *after) {
        char *text = str_format("%s=%s%s", name, before, after);

        assert_non_null(text);
        assert_true(w->n_environment + 1 < ELEMENTS(w->environment));
        w->environment[w->n_environment++] = text;
}

static inline void chain_begin(World *w) {
        _cleanup_(error_freep) Error *err = NULL;
        CredentialSpec spec = { .loop = w->loop,
                                .http = w->http,
                                .imds = w->imds,
                                .clock = &w->clock,
                                .environment = w->environment };

        w->chain = credentials_free(w->chain);
        assert_int_equal(credentials_new(&spec, &w->chain, &err), 0);
        w->chain->spec.retry_usec = MSEC(2);
}

static inline void env_clear(World *w) {
        for (size_t i = 0; i < w->n_environment; i++)
                (void) secret_free(w->environment[i]);
        memset(w->environment, 0, sizeof(w->environment));
        w->n_environment = 0;
}

/* No text of the status holds a secret; the caller is done with it by status_done(). */
static inline CredentialStatus status_of(const World *w) {
        _cleanup_(buf_done) Buf text = BUF_INIT(65536);
        CredentialStatus s = { 0 };

        assert_int_equal(credentials_status(w->chain, &s), 0);
        assert_int_equal(json_encode(&credential_status_table, &s, &text), 0);
        assert_null(strstr(text.data, "HIDDEN"));
        return s;
}

static inline void status_done(CredentialStatus *s) {
        json_table_done(&credential_status_table, s);
}

static inline Answer get(World *w) {
        _cleanup_(status_done) CredentialStatus s = { 0 };
        Answer a = { 0 };

        if (!w->chain)
                chain_begin(w);
        assert_int_equal(credentials_get(w->chain, on_credentials, &a, NULL), 0);
        assert_int_equal(a.n_done, 0);
        loop_until(w->loop, &a.n_done, 1);
        s = status_of(w);
        return a;
}

static inline void settle(World *w) {
        while (w->chain->attempt)
                assert_true(sd_event_run(w->loop, MSEC(10)) >= 0);
}

static inline void write_file(World *w, const char *name, const char *text, mode_t mode) {
        int fd = openat(w->folder.fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        assert_int_equal(fchmod(fd, mode), 0);
        assert_int_equal(close(fd), 0);
}

/* ---- the instance's role ---- */

#define IMDS_TOKEN                                                                                 \
        { .method = "PUT", .path = "/latest/api/token", .body = "IMDSTOKEN" }
#define ROLES "/latest/meta-data/iam/security-credentials/"
#define ROLE_LIST                                                                                  \
        { .path = ROLES, .needs = "IMDSTOKEN", .body = "web-role\n" }
#define JSON_OF(id, ends)                                                                          \
        "{\"Code\": \"Success\", \"AccessKeyId\": \"ASIAEXAMPLE" id                                \
        "\", \"SecretAccessKey\": \"HIDDEN" id "\", \"Token\": \"tokenHIDDEN" id                   \
        "\", \"Expiration\": \"" ends "\"}"
#define ROLE(id, ends)                                                                             \
        { .path = ROLES "web-role", .needs = "IMDSTOKEN", .body = JSON_OF(id, ends) }

/* ---- credential_process ---- */

/* A profile whose program is this script, called with two words. */
static inline void set_process(World *w, const char *script) {
        _cleanup_free_ char *text = str_format(
                "[default]\ncredential_process = '%s/my tool' \"a b\" c\n", w->folder.path);

        write_file(w, "my tool", script, 0700);
        write_file(w, "config", text, 0600);
        env_clear(w);
        set_env(w, "AWS_CONFIG_FILE", w->folder.path, "/config");
        set_env(w, "HOME", w->folder.path, "");
        set_env(w, "PATH", "/usr/bin:/bin", "");
        set_env(w, "AWS_SESSION_TOKEN", "HIDDENOFPARENT", "");
        chain_begin(w);
}
