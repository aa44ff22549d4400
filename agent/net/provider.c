#include "net/provider.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- a try ---- */

ProviderTry *provider_try_new(const ProviderSpec *spec, ProviderDone done, void *userdata) {
        ProviderTry *t = calloc(1, sizeof(ProviderTry));

        if (!t)
                return NULL;
        *t = (ProviderTry){ .spec = spec,
                            .done = done,
                            .userdata = userdata,
                            .output_fd = -EBADF,
                            .text = BUF_INIT(PROVIDER_BYTES) };
        return t;
}

ProviderTry *provider_try_free(ProviderTry *t) {
        if (!t)
                return NULL;
        (void) http_cancel(t->transfer);
        (void) imds_cancel(t->imds_call);
        (void) child_free(t->child);
        (void) sd_event_source_disable_unref(t->timer);
        (void) sd_event_source_disable_unref(t->output);
        closep(&t->output_fd);
        secret_buf_done(&t->text);
        credentials_done(&t->found);
        free(t->source);
        free(t->words);
        free(t->name);
        free(t);
        return NULL;
}

const char *provider_env(const ProviderTry *attempt, const char *name) {
        size_t size = strlen(name);

        for (char **e = attempt->spec->environment; e && *e; e++)
                if (strncmp(*e, name, size) == 0 && (*e)[size] == '=')
                        return (*e)[size + 1] ? *e + size + 1 : NULL;
        return NULL;
}

static int _printf_(2, 0) replace(char **text, const char *format, va_list ap) {
        char *fresh;

        if (vasprintf(&fresh, format, ap) < 0)
                return -ENOMEM;
        free(*text);
        *text = fresh;
        return 0;
}

int provider_say(ProviderTry *attempt, int answer, const char *format, ...) {
        va_list ap;
        int r;

        va_start(ap, format);
        r = replace(&attempt->words, format, ap);
        va_end(ap);
        return r < 0 ? r : answer;
}

int provider_name(ProviderTry *attempt, const char *format, ...) {
        va_list ap;
        int r;

        va_start(ap, format);
        r = replace(&attempt->source, format, ap);
        va_end(ap);
        return r;
}

/* ---- requests ---- */

static int on_again(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        _cleanup_(error_freep) Error *err = NULL;
        ProviderTry *t = userdata;
        int r;

        t->timer = sd_event_source_disable_unref(t->timer);
        r = t->send(t, &err);
        if (r < 0)
                t->done(t, r, err);
        return 0;
}

int provider_request(ProviderTry *attempt, Error **reterr) {
        assert(attempt->send && attempt->take);
        return attempt->send(attempt, reterr);
}

void provider_on_reply(void *userdata, int r, HttpReply *reply, Error *err) {
        _cleanup_(error_freep) Error *own = NULL;
        ProviderTry *t = userdata;
        bool failed = r < 0 || reply->status == 429 || reply->status >= 500;

        t->transfer = NULL;
        if (failed && ++t->n_tried < PROVIDER_TRIES &&
            sd_event_add_time_relative(t->spec->loop, &t->timer, CLOCK_MONOTONIC,
                                       t->spec->retry_usec, 1, on_again, t) >= 0)
                return;

        if (r < 0)
                (void) error_set(&own, r, "%s (tried %u times)", error_text(err), t->n_tried);
        else if (failed)
                r = error_set(&own, -EAGAIN, "it answered %u (tried %u times)", reply->status,
                              t->n_tried);
        else
                r = t->take(t, reply, &own);
        if (reply && reply->body.data)
                explicit_bzero(reply->body.data, reply->body.allocated);
        t->done(t, r, own);
}
