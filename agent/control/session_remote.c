#include <errno.h>
#include <string.h>

#include "agent/contract.h"
#include "base/str.h"
#include "host/config.h"
#include "loop/helper.h"
#include "session.h"
#include "store/remote.h"

/* Files that credentials may stand in: only the caller's own user may be able to read them. */
static bool reads_own_files(char *const *environment) {
        static const char *const names[] = { "AWS_PROFILE=", "AWS_SHARED_CREDENTIALS_FILE=",
                                             "AWS_CONFIG_FILE=", "AWS_WEB_IDENTITY_TOKEN_FILE=",
                                             "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=" };
        _cleanup_free_ char *path = NULL;

        for (char *const *v = environment; v && *v; v++) {
                for (size_t i = 0; i < ELEMENTS(names); i++)
                        if (str_has_prefix(*v, names[i]))
                                return true;
                if (!str_has_prefix(*v, "HOME="))
                        continue;
                path = str_format("%s/.aws", *v + strlen("HOME="));
                if (!path || access(path, F_OK) == 0)
                        return true;
        }
        return false;
}

/* The command's own tendril-net. Root's runs as another user, unless it would then not find root's
 * credentials. */
static int start_link(Session *s, Error **reterr) {
        LinkSpec spec = {
                .name = "tendril-net",
                .instance = "command",
                .flags = CHILD_NO_NEW_PRIVS | CHILD_PDEATHSIG,
                .greeting = WIRE_OPEN,
                .greeting_table = &wire_open_table,
                .greeting_parameters = &s->open,
        };
        int r;

        r = helper_open("tendril-net", NULL, &s->net_fd, reterr);
        if (r < 0)
                return r;
        spec.program_fd = s->net_fd;
        r = reads_own_files(s->open.environment) ? 0 : helper_user("tendril-net", 0, &spec.user);
        if (r < 0)
                return error_set(reterr, r, "find a user for tendril-net: %s", strerror(-r));
        r = link_new(s->loop, &spec, &s->link);
        return r < 0 ? error_set(reterr, r, "start tendril-net: %s", strerror(-r)) : 0;
}

int session_open_remote(Session *s, const Config *config, const char *url, Error **reterr) {
        int r;

        s->net_fd = -EBADF;
        r = wire_open_fill(&s->open, config, url, environ);
        if (r < 0)
                return error_set(reterr, r, "open the store: %s", strerror(-r));
        r = start_link(s, reterr);
        return r < 0 ? r : store_remote_new(s->loop, s->link, url, &s->store, reterr);
}

void session_close_remote(Session *s) {
        if (!s->open.url)
                return;
        s->link = link_free(s->link);
        closep(&s->net_fd);
        s->net_fd = -EBADF;
        wire_open_done(&s->open);
}
