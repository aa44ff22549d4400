#include "net/credentials.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/backoff.h"
#include "base/str.h"
#include "net/provider.h"
#include "net/refresh.h"

#define RETRY_USEC  SEC(1)
#define TRIED_MAX   16
#define WORDS_BYTES 8192

/* The chain, in its order. */
static const Provider *const providers[] = {
        &provider_environment, &provider_web,  &provider_profile,
        &provider_container,   &provider_role, NULL,
};

struct CredentialWait {
        CredentialChain *chain;
        CredentialWait *next;
        CredentialDone done;
        void *userdata;
        bool ready; /* it need not wait any longer */
};

struct CredentialChain {
        ProviderSpec spec;
        char *region;
        const Clock *clock;
        int64_t skew_usec; /* server minus own clock */

        Credentials current;
        char *source;
        usec_t refreshed_usec; /* REALTIME, for people */
        Refresh refresh;

        ProviderTry *attempt; /* what is asked now, of providers[n_asked] */
        size_t n_asked;
        char **asking_tried, **tried; /* of the run under way, and of the last one */

        Error *failure; /* of the last run; NULL: it found some */
        Error *last_failure;
        usec_t failed_usec; /* REALTIME, for people */

        CredentialWait *waits;
        sd_event_source *deliver;
};

/* clang-format off */
static const JsonField status_fields[] = {
        JSON_ROW("source",    JSON_KIND_STRING, 0, CredentialStatus, source),
        JSON_ROW("key_id",    JSON_KIND_STRING, 0, CredentialStatus, key_id),
        JSON_ROW("ends",      JSON_KIND_STRING, 0, CredentialStatus, ends),
        JSON_ROW("refreshed", JSON_KIND_STRING, 0, CredentialStatus, refreshed),
        JSON_ROW_MAX("error", JSON_KIND_STRING, 0, CredentialStatus, error, WORDS_BYTES),
        JSON_ROW("failed",    JSON_KIND_STRING, 0, CredentialStatus, failed),
        JSON_ROW_MAX("tried", JSON_KIND_STRV,   0, CredentialStatus, tried, TRIED_MAX),
        JSON_END,
};
const JsonTable credential_status_table = { status_fields, sizeof(CredentialStatus) };
/* clang-format on */

static usec_t own_now(const CredentialChain *chain) {
        return clock_read(chain->clock, CLOCK_REALTIME);
}

static usec_t server_now(const CredentialChain *chain) {
        return own_now(chain) + (usec_t) chain->skew_usec;
}

static usec_t boot_now(const CredentialChain *chain) {
        return clock_read(chain->clock, CLOCK_BOOTTIME);
}

/* ---- one run through the sources ---- */

static void deliver_soon(CredentialChain *chain) {
        (void) sd_event_source_set_enabled(chain->deliver, SD_EVENT_ONESHOT);
}

static void end_run(CredentialChain *chain) {
        (void) strv_free(chain->tried);
        chain->tried = TAKE_PTR(chain->asking_tried);
        for (CredentialWait *w = chain->waits; w; w = w->next)
                w->ready = true;
        deliver_soon(chain);
}

static void run_failed(CredentialChain *chain, Error **err) {
        (void) error_free(chain->failure);
        (void) error_free(chain->last_failure);
        chain->last_failure = NULL;
        chain->failure = TAKE_PTR(*err);
        (void) error_set(&chain->last_failure, error_code(chain->failure), "%s",
                         error_text(chain->failure));
        chain->failed_usec = own_now(chain);
        refresh_failed(&chain->refresh, boot_now(chain), backoff_chance());
        end_run(chain);
}

static void run_succeeded(CredentialChain *chain, ProviderTry *attempt) {
        credentials_done(&chain->current);
        chain->current = attempt->found;
        attempt->found = (Credentials){ 0 };
        free(chain->source);
        chain->source = TAKE_PTR(attempt->source);
        chain->refreshed_usec = own_now(chain);
        chain->failure = error_free(chain->failure);
        refresh_obtained(&chain->refresh, chain->current.ends_usec, server_now(chain),
                         boot_now(chain), backoff_chance());
        end_run(chain);
}

/* No source is configured. */
static void run_found_none(CredentialChain *chain) {
        _cleanup_(buf_done) Buf words = BUF_INIT(WORDS_BYTES);
        _cleanup_(error_freep) Error *err = NULL;

        for (char **s = chain->asking_tried; s && *s; s++)
                if (buf_printf(&words, "%s%s", words.size > 0 ? "; " : "", *s) < 0)
                        break;
        (void) error_set(&err, -ENOKEY,
                         "there are no credentials for AWS (%s). Attach an instance profile, or "
                         "give them by one of the others",
                         buf_str(&words));
        run_failed(chain, &err);
}

static void note_tried(CredentialChain *chain, const char *words) {
        _cleanup_free_ char *line =
                str_format("%s: %s", providers[chain->n_asked]->name, words ?: "out of memory");

        if (line)
                (void) strv_add(&chain->asking_tried, TRIED_MAX, line);
}

/* What one source's end means. True: the next is to be asked. */
static bool take_end(CredentialChain *chain, ProviderTry *attempt, int r, Error **err) {
        if (r < 0) {
                if (!*err)
                        (void) error_set(err, r, "%s", strerror(-r));
                note_tried(chain, error_text(*err));
                (void) error_wrap(err, r, "credentials from %s", providers[chain->n_asked]->name);
                run_failed(chain, err);
                return false;
        }
        assert(attempt);
        note_tried(chain, attempt->words);
        if (r == PROVIDER_HAS) {
                run_succeeded(chain, attempt);
                return false;
        }
        chain->n_asked++;
        return true;
}

static bool try_ended(CredentialChain *chain, int r, Error **err) {
        bool more = take_end(chain, chain->attempt, r, err);

        chain->attempt = provider_try_free(chain->attempt);
        return more;
}

static void ask_sources(CredentialChain *chain);

static void on_try_done(ProviderTry *attempt, int r, Error *err) {
        _cleanup_(error_freep) Error *own = NULL;
        CredentialChain *chain = attempt->userdata;

        if (r < 0)
                (void) error_set(&own, r, "%s", err ? error_text(err) : strerror(-r));
        if (try_ended(chain, r, &own))
                ask_sources(chain);
}

static void ask_sources(CredentialChain *chain) {
        while (providers[chain->n_asked]) {
                _cleanup_(error_freep) Error *err = NULL;
                int r;

                chain->attempt = provider_try_new(&chain->spec, on_try_done, chain);
                r = chain->attempt ? providers[chain->n_asked]->begin(chain->attempt, &err)
                                   : -ENOMEM;
                if (r == 0 || !try_ended(chain, r, &err))
                        return;
        }
        run_found_none(chain);
}

static void begin_run(CredentialChain *chain) {
        if (chain->attempt)
                return;
        refresh_began(&chain->refresh, boot_now(chain));
        chain->n_asked = 0;
        ask_sources(chain);
}

/* ---- callers ---- */

static void answer(const CredentialChain *chain, CredentialDone done, void *userdata) {
        _cleanup_(error_freep) Error *err = NULL;
        char ends[TIME_RFC3339_SIZE];

        if (refresh_is_usable(&chain->refresh, server_now(chain))) {
                done(userdata, 0, &chain->current, NULL);
                return;
        }
        if (chain->refresh.have) {
                time_format(chain->refresh.ends_usec, ends);
                (void) error_set(&err, chain->failure ? error_code(chain->failure) : -EKEYEXPIRED,
                                 "the credentials from %s ended at %s, and there are no new ones: "
                                 "%s",
                                 chain->source, ends,
                                 chain->failure ? error_text(chain->failure) : "not asked again");
        } else
                (void) error_set(&err, chain->failure ? error_code(chain->failure) : -ENOKEY, "%s",
                                 chain->failure ? error_text(chain->failure)
                                                : "there are no credentials for AWS");
        done(userdata, error_code(err), NULL, err);
}

/* One caller at a time, since each may cancel others or free the chain. */
static int on_deliver(_unused_ sd_event_source *s, void *userdata) {
        CredentialChain *chain = userdata;
        CredentialWait **at = &chain->waits, *wait, *more;
        CredentialDone done;
        void *callers;

        while (*at && !(*at)->ready)
                at = &(*at)->next;
        wait = *at;
        if (!wait)
                return 0;
        *at = wait->next;
        for (more = *at; more && !more->ready; more = more->next)
                ;
        if (more)
                deliver_soon(chain);

        done = wait->done;
        callers = wait->userdata;
        free(wait);
        answer(chain, done, callers);
        return 0;
}

int credentials_get(CredentialChain *chain, CredentialDone done, void *userdata,
                    CredentialWait **ret) {
        RefreshAnswer what;
        CredentialWait *wait, **at;

        assert(chain && done);
        wait = calloc(1, sizeof(CredentialWait));
        if (!wait)
                return -ENOMEM;
        what = refresh_decide(&chain->refresh, server_now(chain), boot_now(chain));
        *wait = (CredentialWait){
                .chain = chain, .done = done, .userdata = userdata, .ready = what != REFRESH_WAIT
        };
        for (at = &chain->waits; *at; at = &(*at)->next)
                ;
        *at = wait;

        if (what != REFRESH_KEEP)
                begin_run(chain);
        if (wait->ready)
                deliver_soon(chain);
        if (ret)
                *ret = wait;
        return 0;
}

CredentialWait *credentials_cancel(CredentialWait *wait) {
        CredentialWait **at;

        if (!wait)
                return NULL;
        for (at = &wait->chain->waits; *at != wait; at = &(*at)->next)
                ;
        *at = wait->next;
        free(wait);
        return NULL;
}

void credentials_refused(CredentialChain *chain) {
        if (chain->refresh.have)
                chain->refresh.refused = true;
}

void credentials_set_skew(CredentialChain *chain, int64_t skew_usec) {
        chain->skew_usec = skew_usec;
}

/* ---- what is told of it ---- */

static int set_time(char **to, usec_t usec) {
        char text[TIME_RFC3339_SIZE];

        time_format(usec, text);
        *to = strdup(text);
        return *to ? 0 : -ENOMEM;
}

static int set_text(char **to, const char *text) {
        *to = strdup(text);
        return *to ? 0 : -ENOMEM;
}

static int set_key_id(char **to, const char *key_id) {
        size_t size = strlen(key_id);

        *to = str_format("****%s", size >= 12 ? key_id + size - 4 : "");
        return *to ? 0 : -ENOMEM;
}

int credentials_status(const CredentialChain *chain, CredentialStatus *ret) {
        CredentialStatus s = { 0 };
        int r = 0;

        if (chain->refresh.have) {
                r = set_text(&s.source, chain->source);
                if (r >= 0)
                        r = set_key_id(&s.key_id, chain->current.access_key_id);
                if (r >= 0)
                        r = set_time(&s.refreshed, chain->refreshed_usec);
                if (r >= 0 && chain->refresh.ends_usec != USEC_INFINITY)
                        r = set_time(&s.ends, chain->refresh.ends_usec);
        }
        if (r >= 0 && chain->last_failure)
                r = set_text(&s.error, error_text(chain->last_failure));
        if (r >= 0 && chain->last_failure)
                r = set_time(&s.failed, chain->failed_usec);
        if (r >= 0 && chain->tried) {
                s.tried = strv_copy(chain->tried);
                r = s.tried ? 0 : -ENOMEM;
        }
        if (r < 0) {
                json_table_done(&credential_status_table, &s);
                return r;
        }
        *ret = s;
        return 0;
}

/* ---- life ---- */

/* All else that stands in an environment is nobody's business here. */
static bool is_wanted(const char *variable) {
        static const char *const names[] = {
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
                "AWS_SESSION_TOKEN",
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                "AWS_ROLE_ARN",
                "AWS_ROLE_SESSION_NAME",
                "AWS_ENDPOINT_URL_STS",
                "AWS_REGION",
                "AWS_DEFAULT_REGION",
                "AWS_PROFILE",
                "AWS_SHARED_CREDENTIALS_FILE",
                "AWS_CONFIG_FILE",
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                "HOME",
                "PATH",
        };
        size_t size = strcspn(variable, "=");

        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (strlen(names[i]) == size && strncmp(names[i], variable, size) == 0)
                        return variable[size] == '=';
        return false;
}

static int copy_environment(CredentialChain *chain, char *const *environment) {
        int r = 0;

        for (; r >= 0 && environment && *environment; environment++)
                if (is_wanted(*environment))
                        r = strv_add(&chain->spec.environment, 64, *environment);
        return r;
}

int credentials_new(const CredentialSpec *spec, CredentialChain **ret, Error **reterr) {
        _cleanup_(credentials_freep) CredentialChain *chain = calloc(1, sizeof(CredentialChain));
        int r;

        assert(spec->loop && spec->http && spec->imds);
        if (!chain)
                return error_set(reterr, -ENOMEM, "credentials: out of memory");
        chain->clock = spec->clock;
        chain->spec = (ProviderSpec){ .loop = sd_event_ref(spec->loop),
                                      .http = spec->http,
                                      .imds = spec->imds,
                                      .retry_usec = RETRY_USEC };
        chain->region = spec->region ? strdup(spec->region) : NULL;
        chain->spec.region = chain->region;
        r = spec->region && !chain->region ? -ENOMEM : copy_environment(chain, spec->environment);
        if (r < 0)
                return error_set(reterr, r, "credentials: the environment: %s", strerror(-r));

        r = sd_event_add_defer(spec->loop, &chain->deliver, on_deliver, chain);
        if (r >= 0)
                r = sd_event_source_set_enabled(chain->deliver, SD_EVENT_OFF);
        if (r < 0)
                return error_set(reterr, r, "credentials: the loop: %s", strerror(-r));
        (void) sd_event_source_set_description(chain->deliver, "credentials");
        *ret = TAKE_PTR(chain);
        return 0;
}

CredentialChain *credentials_free(CredentialChain *chain) {
        if (!chain)
                return NULL;
        (void) provider_try_free(chain->attempt);
        while (chain->waits) {
                CredentialWait *wait = chain->waits;

                chain->waits = wait->next;
                free(wait);
        }
        (void) sd_event_source_disable_unref(chain->deliver);
        (void) sd_event_unref(chain->spec.loop);
        credentials_done(&chain->current);
        (void) secret_strv_free(chain->spec.environment);
        (void) error_free(chain->failure);
        (void) error_free(chain->last_failure);
        (void) strv_free(chain->asking_tried);
        (void) strv_free(chain->tried);
        free(chain->source);
        free(chain->region);
        free(chain);
        return NULL;
}
