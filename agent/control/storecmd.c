#include "control/storecmd.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

/* clang-format off */
const StoreCommand store_commands[] = {
        { "init",     "--store URL [--keys DIR] [--policies DIR]",
          "Make a store, keys, and the policies of a bucket",    storecmd_init },
        { "publish",  "BUNDLE --app A --version V [--check] [--key FILE --key-id ID]",
          "Put a bundle into the store as a version",            storecmd_publish },
        { "assign",   "--env E --version V [--set NS:OPTION=VALUE]... [--dry-run]",
          "Say which version an environment wants",              storecmd_assign },
        { "versions", "--app A [--prune --keep N | --older-than SPAN]",
          "List the versions of an application, or remove old ones", storecmd_versions },
        { "sign",     "FILE --type version|desired --key FILE --key-id ID",
          "Sign a document, or one in the store again",          storecmd_sign },
        { NULL, NULL, NULL, NULL },
};
/* clang-format on */

int storecmd_split_version(const char *text, char **ret_application, char **ret_label) {
        _cleanup_free_ char *application = NULL, *label = NULL;
        const char *slash = strchr(text, '/');

        if (!slash)
                return -EINVAL;
        application = strndup(text, (size_t) (slash - text));
        label = strdup(slash + 1);
        if (!application || !label)
                return -ENOMEM;
        if (!str_is_label(application) || !str_is_label(label))
                return -EINVAL;
        *ret_application = TAKE_PTR(application);
        *ret_label = TAKE_PTR(label);
        return 0;
}
