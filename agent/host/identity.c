#include "host/identity.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/str.h"

int identity_host(const Config *config, char **ret, Error **reterr) {
        _cleanup_free_ char *printable = NULL;
        struct utsname system;
        const char *id = config->host;
        char *copy;

        if (!id) {
                if (uname(&system) < 0)
                        return error_set(reterr, -errno, "read this host's name: %s",
                                         strerror(errno));
                id = system.nodename;
        }
        if (!str_is_label(id)) {
                printable = str_printable(id, strlen(id));
                return error_set(reterr, -EINVAL,
                                 "this host's name, \"%s\", cannot be its id (1 to 100 of A-Z a-z "
                                 "0-9 . _ -, beginning with a letter or a digit); set `host` in "
                                 "tendril.yaml",
                                 printable ?: "?");
        }

        copy = strdup(id);
        if (!copy)
                return error_set(reterr, -ENOMEM, "this host's id: out of memory");
        *ret = copy;
        return 0;
}
