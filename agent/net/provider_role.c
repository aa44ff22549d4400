/* The instance's role, from the instance metadata service. */

#include "net/provider.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

#define ROLE_PATH      "/latest/meta-data/iam/security-credentials/"
#define ROLE_MAX_BYTES 64

static void end(ProviderTry *t, int r, Error *err) {
        t->imds_call = NULL;
        t->done(t, r, err);
}

static void on_credentials(void *userdata, int r, const char *text, size_t size, Error *err) {
        _cleanup_(error_freep) Error *own = NULL;
        ProviderTry *t = userdata;

        if (r < 0) {
                end(t, r, err);
                return;
        }
        r = r == IMDS_ABSENT
                    ? error_set(&own, -EAGAIN, "the role was named a moment ago, and is gone")
                    : provider_read_json(text, size, &t->found, &own);
        if (r >= 0)
                r = provider_name(t, "instance role %s", t->name);
        if (r >= 0)
                r = provider_say(t, PROVIDER_HAS, "has the role %s", t->name);
        else
                (void) error_wrap(&own, r, "role %s", t->name);
        end(t, r, own);
}

/* [A-Za-z0-9+=,.@_-]{1,64}, as IAM has it: it becomes part of a path. */
static bool is_role(const char *name) {
        size_t size = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                   "+=,.@_-");

        return size > 0 && size <= ROLE_MAX_BYTES && name[size] == 0 && !str_equal(name, ".") &&
               !str_equal(name, "..");
}

/* A list of one name. */
static int take_role(ProviderTry *t, const char *text, Error **reterr) {
        _cleanup_free_ char *path = NULL;

        t->name = strndup(text, strcspn(text, "\r\n"));
        if (!t->name)
                return -ENOMEM;
        if (!is_role(t->name))
                return error_set(reterr, -EBADMSG,
                                 "the instance metadata service names a role that cannot be one");
        path = str_format(ROLE_PATH "%s", t->name);
        if (!path)
                return -ENOMEM;
        return imds_get(t->spec->imds, path, on_credentials, t, &t->imds_call);
}

static void on_role(void *userdata, int r, const char *text, _unused_ size_t size, Error *err) {
        _cleanup_(error_freep) Error *own = NULL;
        ProviderTry *t = userdata;

        t->imds_call = NULL;
        if (r == -EOPNOTSUPP || r == -EHOSTUNREACH)
                r = provider_say(t, PROVIDER_NONE, "%s", error_text(err));
        else if (r < 0)
                (void) error_set(&own, r, "%s", error_text(err));
        else if (r == IMDS_ABSENT || str_is_empty(text))
                r = provider_say(t, PROVIDER_NONE,
                                 "this instance has no role (no instance profile is attached)");
        else
                r = take_role(t, text, &own);
        if (r != 0)
                end(t, r, own);
}

static int role_begin(ProviderTry *t, _unused_ Error **reterr) {
        return imds_get(t->spec->imds, ROLE_PATH, on_role, t, &t->imds_call);
}

const Provider provider_role = { "instance role", role_begin };
