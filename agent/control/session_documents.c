#include <errno.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "session.h"
#include "store/key.h"

/* Environments of one store: each is a request or more when all are looked at. */
#define MAX_ENVIRONMENTS 10000

int session_read_version(Session *s, const char *application, const char *label,
                         VersionDocument *ret, char **ret_etag, Error **reterr) {
        _cleanup_(session_document_done) SessionDocument document = { 0 };
        _cleanup_free_ char *key = key_version(application, label);
        int r;

        if (!key)
                return -ENOMEM;
        r = session_get(s, key, &document, reterr);
        if (r != 0)
                return r;
        r = session_open_envelope(s, key, &document.body, DOCUMENT_TYPE_VERSION,
                                  &version_document_table, ret, NULL, reterr);
        if (r < 0)
                return r;
        if (!str_equal(ret->application, application) || !str_equal(ret->label, label)) {
                r = error_set(reterr, -EKEYREJECTED,
                              "%s: it speaks of version %s of %s: it was put in the wrong place",
                              key, ret->label, ret->application);
                json_table_done(&version_document_table, ret);
                return r;
        }
        if (ret_etag)
                *ret_etag = TAKE_PTR(document.etag);
        return 0;
}

int session_read_desired(Session *s, const char *environment, DesiredDocument *ret, char **ret_etag,
                         Error **reterr) {
        _cleanup_(session_document_done) SessionDocument document = { 0 };
        _cleanup_free_ char *key = key_desired(environment);
        int r;

        if (!key)
                return -ENOMEM;
        r = session_get(s, key, &document, reterr);
        if (r != 0)
                return r;
        r = session_open_envelope(s, key, &document.body, DOCUMENT_TYPE_DESIRED,
                                  &desired_document_table, ret, NULL, reterr);
        if (r < 0)
                return r;
        if (!str_equal(ret->environment, environment)) {
                r = error_set(reterr, -EKEYREJECTED,
                              "%s: it speaks of environment %s: it was put in the wrong place", key,
                              ret->environment);
                json_table_done(&desired_document_table, ret);
                return r;
        }
        if (ret_etag)
                *ret_etag = TAKE_PTR(document.etag);
        return 0;
}

int session_read_head(Session *s, const char *environment, HeadDocument *ret, char **ret_etag,
                      Error **reterr) {
        _cleanup_(session_document_done) SessionDocument document = { 0 };
        _cleanup_free_ char *key = key_head(environment);
        int r;

        if (!key)
                return -ENOMEM;
        r = session_get(s, key, &document, reterr);
        if (r != 0)
                return r;
        r = document_decode(key, buf_str(&document.body), document.body.size, &head_document_table,
                            ret, reterr);
        if (r < 0)
                return r;
        if (ret_etag)
                *ret_etag = TAKE_PTR(document.etag);
        return 0;
}

int session_read_store_id(Session *s, char **ret, Error **reterr) {
        _cleanup_(session_document_done) SessionDocument document = { 0 };
        _cleanup_free_ char *key = key_store_id();
        StoreDocument store = { 0 };
        int r;

        if (!key)
                return -ENOMEM;
        r = session_get(s, key, &document, reterr);
        if (r == STORE_ABSENT)
                return error_set(reterr, -ENOENT,
                                 "%s is no store yet: `tendril init --store %s` makes it one",
                                 store_url(s->store), store_url(s->store));
        if (r < 0)
                return r;
        r = document_decode(key, buf_str(&document.body), document.body.size, &store_document_table,
                            &store, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(store.id);
        json_table_done(&store_document_table, &store);
        if (!s->store_id || str_equal(s->store_id, *ret))
                return 0;
        r = error_set(reterr, -EKEYREJECTED,
                      "%s is the store %s, and the configuration says store.id %s",
                      store_url(s->store), *ret, s->store_id);
        free(*ret);
        *ret = NULL;
        return r;
}

/* "environments/prod/x/y" → "prod" */
static char *environment_of(const char *prefix, const char *key) {
        const char *name = key + strlen(prefix);

        return strndup(name, strcspn(name, "/"));
}

int session_environments(Session *s, char ***ret, Error **reterr) {
        _cleanup_(strv_freep) char **names = NULL;
        _cleanup_free_ char *prefix = key_environments(), *after = NULL;
        int r;

        if (!prefix)
                return -ENOMEM;
        for (;;) {
                _cleanup_(session_page_done) SessionPage page = { 0 };
                _cleanup_free_ char *name = NULL;

                r = session_list(s, prefix, after, &page, reterr);
                if (r < 0)
                        return r;
                if (strv_count(page.keys) == 0)
                        break;
                name = environment_of(prefix, page.keys[0]);
                if (!name)
                        return -ENOMEM;
                if (str_is_label(name)) {
                        r = strv_add(&names, MAX_ENVIRONMENTS, name);
                        if (r < 0)
                                return error_set(reterr, r, "list the environments: %s",
                                                 strerror(-r));
                }
                /* '0' is the byte behind '/': what comes next is of another environment, whatever
                 * this one holds. */
                free(after);
                after = str_format("%s%s0", prefix, name);
                if (!after)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(names);
        return 0;
}
