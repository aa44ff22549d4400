#include "net/identity.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/str.h"

#define USER_DATA_BYTES 16384 /* what EC2 takes at most; more is another service's */
#define USER_DATA_KEY   "tendril.environment:"
#define TAG_PATH        "/latest/meta-data/tags/instance/"
#define TAG_MAX_BYTES   128

struct IdentityCall {
        Imds *imds;
        ImdsCall *call;
        char *tag_path; /* NULL: no tag is asked for */
        size_t n_asked; /* of steps[] */
        NetIdentity identity;
        IdentityDone done;
        void *userdata;
};

/* clang-format off */
static const JsonField identity_fields[] = {
        JSON_ROW("instance",              JSON_KIND_LABEL, JSON_OMIT_EMPTY, NetIdentity, instance),
        JSON_ROW("account",               JSON_KIND_LABEL, JSON_OMIT_EMPTY, NetIdentity, account),
        JSON_ROW("image",                 JSON_KIND_LABEL, JSON_OMIT_EMPTY, NetIdentity, image),
        JSON_ROW("region",                JSON_KIND_LABEL, JSON_OMIT_EMPTY, NetIdentity, region),
        JSON_ROW("zone",                  JSON_KIND_LABEL, JSON_OMIT_EMPTY, NetIdentity, zone),
        JSON_ROW("partition",             JSON_KIND_LABEL, JSON_OMIT_EMPTY, NetIdentity, partition),
        JSON_ROW("domain",                JSON_KIND_LABEL, JSON_OMIT_EMPTY, NetIdentity, domain),
        JSON_ROW("environment",           JSON_KIND_LABEL, JSON_OMIT_EMPTY, NetIdentity, environment),
        JSON_ROW("user_data_environment", JSON_KIND_LABEL, JSON_OMIT_EMPTY, NetIdentity, user_data_environment),
        JSON_END,
};
const JsonTable net_identity_table = { identity_fields, sizeof(NetIdentity) };

/* The service's own names. */
static const JsonField document_fields[] = {
        JSON_ROW("instanceId",       JSON_KIND_STRING, 0, NetIdentity, instance),
        JSON_ROW("accountId",        JSON_KIND_STRING, 0, NetIdentity, account),
        JSON_ROW("imageId",          JSON_KIND_STRING, 0, NetIdentity, image),
        JSON_ROW("region",           JSON_KIND_STRING, 0, NetIdentity, region),
        JSON_ROW("availabilityZone", JSON_KIND_STRING, 0, NetIdentity, zone),
        JSON_END,
};
static const JsonTable document_table = { document_fields, sizeof(NetIdentity) };
/* clang-format on */

/* ---- reading ---- */

/* What is no label could not be used anywhere. */
static void drop_odd(NetIdentity *identity) {
        for (const JsonField *f = identity_fields; f->name; f++) {
                char **value = (char **) (void *) ((char *) identity + f->offset);

                if (*value && !str_is_label(*value)) {
                        free(*value);
                        *value = NULL;
                }
        }
}

int identity_read_document(const char *text, size_t size, NetIdentity *ret, Error **reterr) {
        int r;

        r = json_decode(text, size, &document_table, JSON_LENIENT, ret, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "the instance identity document");
        drop_odd(ret);
        return 0;
}

/* The label in a text without the blanks and line breaks around it, or NULL. */
static char *dup_label(const char *text, size_t size) {
        _cleanup_free_ char *value = NULL;

        for (; size > 0 && strchr(" \t\r\n", *text) && *text; text++, size--)
                ;
        for (; size > 0 && strchr(" \t\r\n", text[size - 1]) && text[size - 1]; size--)
                ;
        if (memchr(text, 0, size))
                return NULL;
        value = strndup(text, size);
        return value && str_is_label(value) ? TAKE_PTR(value) : NULL;
}

char *identity_read_user_data(const char *text, size_t size) {
        const char *end = text + MIN(size, (size_t) USER_DATA_BYTES);

        while (text < end) {
                const char *next = memchr(text, '\n', (size_t) (end - text));
                const char *stop = next ?: end, *at = text;

                for (; at < stop && (*at == ' ' || *at == '\t' || *at == '#'); at++)
                        ;
                if ((size_t) (stop - at) > strlen(USER_DATA_KEY) &&
                    memcmp(at, USER_DATA_KEY, strlen(USER_DATA_KEY)) == 0) {
                        at += strlen(USER_DATA_KEY);
                        char *value = dup_label(at, (size_t) (stop - at));

                        if (value)
                                return value;
                }
                text = next ? next + 1 : end;
        }
        return NULL;
}

/* ---- asking: one path after the other ---- */

typedef struct Step {
        const char *path; /* NULL: the tag's */
        size_t offset;    /* of the member; asked for only where that is not known by now */
        int (*take)(NetIdentity *identity, char **member, const char *text, size_t size,
                    Error **reterr);
} Step;

static int take_document(NetIdentity *identity, _unused_ char **member, const char *text,
                         size_t size, Error **reterr) {
        return identity_read_document(text, size, identity, reterr);
}

static int take_label(_unused_ NetIdentity *identity, char **member, const char *text, size_t size,
                      _unused_ Error **reterr) {
        *member = dup_label(text, size);
        return 0;
}

static int take_user_data(_unused_ NetIdentity *identity, char **member, const char *text,
                          size_t size, _unused_ Error **reterr) {
        *member = identity_read_user_data(text, size);
        return 0;
}

/* clang-format off */
#define META "/latest/meta-data/"
static const Step steps[] = {
        { "/latest/dynamic/instance-identity/document", offsetof(NetIdentity, instance),              take_document },
        { META "instance-id",                           offsetof(NetIdentity, instance),              take_label },
        { META "placement/region",                      offsetof(NetIdentity, region),                take_label },
        { META "placement/availability-zone",           offsetof(NetIdentity, zone),                  take_label },
        { META "services/partition",                    offsetof(NetIdentity, partition),             take_label },
        { META "services/domain",                       offsetof(NetIdentity, domain),                take_label },
        { NULL,                                         offsetof(NetIdentity, environment),           take_label },
        { "/latest/user-data",                          offsetof(NetIdentity, user_data_environment), take_user_data },
};
/* clang-format on */

static char **step_member(IdentityCall *c, const Step *step) {
        return (char **) (void *) ((char *) &c->identity + step->offset);
}

static IdentityCall *call_free(IdentityCall *c) {
        if (!c)
                return NULL;
        (void) imds_cancel(c->call);
        json_table_done(&net_identity_table, &c->identity);
        free(c->tag_path);
        free(c);
        return NULL;
}
DEFINE_CLEANUP(IdentityCall, call_free);

static void finish(IdentityCall *c, int r, Error *err) {
        c->call = NULL;
        c->done(c->userdata, r, r < 0 ? NULL : &c->identity, err);
        (void) call_free(c);
}

static void ask_next(IdentityCall *c);

static void on_text(void *userdata, int r, const char *text, size_t size, Error *err) {
        _cleanup_(error_freep) Error *own = NULL;
        IdentityCall *c = userdata;
        const Step *step = &steps[c->n_asked];

        c->call = NULL;
        if (r < 0) {
                finish(c, r, err);
                return;
        }
        if (r == 0) {
                r = step->take(&c->identity, step_member(c, step), text, size, &own);
                if (r < 0) {
                        finish(c, r, own);
                        return;
                }
        }
        c->n_asked++;
        ask_next(c);
}

static void ask_next(IdentityCall *c) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        for (; c->n_asked < ELEMENTS(steps); c->n_asked++) {
                const Step *step = &steps[c->n_asked];
                const char *path = step->path ?: c->tag_path;

                if (!path || *step_member(c, step))
                        continue;
                r = imds_get(c->imds, path, on_text, c, &c->call);
                if (r < 0) {
                        (void) error_set(&err, r, "%s: %s", path, strerror(-r));
                        finish(c, r, err);
                }
                return;
        }
        finish(c, 0, NULL);
}

/* What the service offers as the last part of a path: a key with blanks or '/' is not there. */
static bool is_tag(const char *tag) {
        return strlen(tag) <= TAG_MAX_BYTES && !str_equal(tag, ".") && !str_equal(tag, "..") &&
               tag[0] != 0 &&
               tag[strspn(tag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "+-=.,_:@")] == 0;
}

int imds_identity(Imds *imds, const char *tag, IdentityDone done, void *userdata,
                  IdentityCall **ret) {
        _cleanup_(call_freep) IdentityCall *c = calloc(1, sizeof(IdentityCall));
        int r;

        assert(imds && done);
        if (!c)
                return -ENOMEM;
        *c = (IdentityCall){ .imds = imds, .done = done, .userdata = userdata };
        if (tag && !is_tag(tag))
                return -EINVAL;
        if (tag) {
                c->tag_path = str_format(TAG_PATH "%s", tag);
                if (!c->tag_path)
                        return -ENOMEM;
        }

        r = imds_get(imds, steps[0].path, on_text, c, &c->call);
        if (r < 0)
                return r;
        if (ret)
                *ret = c;
        TAKE_PTR(c);
        return 0;
}

IdentityCall *imds_identity_cancel(IdentityCall *call) {
        return call_free(call);
}
