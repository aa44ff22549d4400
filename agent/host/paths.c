#include "host/paths.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "agent/contract.h"
#include "base/str.h"

/* clang-format off */
static const struct {
        size_t offset;
        const char *text;
} members[] = {
        { offsetof(Paths, root),         "" },
        { offsetof(Paths, config),       PATH_CONFIG },
        { offsetof(Paths, config_dir),   PATH_CONFIG_DIR },
        { offsetof(Paths, host_hooks),   PATH_HOST_HOOKS },
        { offsetof(Paths, vendor_hooks), PATH_VENDOR_HOOKS },
        { offsetof(Paths, state),        PATH_STATE },
        { offsetof(Paths, versions),     PATH_STATE "/versions" },
        { offsetof(Paths, slot),         PATH_STATE "/slot" },
        { offsetof(Paths, app),          PATH_APP },
        { offsetof(Paths, current),      PATH_APP "/current" },
        { offsetof(Paths, staging),      PATH_APP "/staging" },
        { offsetof(Paths, run),          PATH_RUN },
        { offsetof(Paths, socket),       PATH_RUN "/" NAME_CONTROL_SOCKET },
        { offsetof(Paths, log),          PATH_LOG },
};
/* clang-format on */

static char **member_at(Paths *paths, size_t i) {
        return (char **) (void *) ((char *) paths + members[i].offset);
}

/* Without doubled and closing slashes: texts made of it are compared and shown. */
static char *clean_root(const char *root) {
        char *clean, *to;

        clean = calloc(1, strlen(root) + 1);
        if (!clean)
                return NULL;

        for (to = clean; *root; root++)
                if (*root != '/' || (root[1] != '/' && root[1] != '\0'))
                        *to++ = *root;
        return clean;
}

int paths_init(const char *root, Paths *ret, Error **reterr) {
        _cleanup_(paths_done) Paths paths = { 0 };
        _cleanup_free_ char *clean = NULL;
        size_t i;

        if (root && root[0] != '/')
                return error_set(reterr, -EINVAL,
                                 "root folder \"%s\" is not absolute; give it with a leading /",
                                 root);

        clean = clean_root(root ?: "");
        for (i = 0; clean && i < ELEMENTS(members); i++) {
                *member_at(&paths, i) = str_format("%s%s", clean, members[i].text);
                if (!*member_at(&paths, i))
                        break;
        }
        if (i < ELEMENTS(members))
                return error_set(reterr, -ENOMEM, "paths: out of memory");

        *ret = paths;
        paths = (Paths){ 0 };
        return 0;
}

void paths_done(Paths *paths) {
        size_t i;

        for (i = 0; i < ELEMENTS(members); i++) {
                free(*member_at(paths, i));
                *member_at(paths, i) = NULL;
        }
}
