/*
 * tendril-net: the network, without power. Descriptor 3 is the channel to main; it lives until that
 * closes.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <systemd/sd-event.h>

#include "base/macro.h"
#include "net/check.h"

#define CHANNEL_FD 3

/* What it never needs: new privileges, core dumps (they would hold credentials), many files. */
static void confine(void) {
        const struct rlimit none = { 0, 0 }, files = { 256, 256 };

        (void) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        (void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        (void) setrlimit(RLIMIT_CORE, &none);
        (void) setrlimit(RLIMIT_NOFILE, &files);
}

static int run(void) {
        _cleanup_(net_server_freep) NetServer *server = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_(sd_event_unrefp) sd_event *loop = NULL;
        int r;

        (void) signal(SIGPIPE, SIG_IGN);
        confine();
        r = sd_event_new(&loop);
        if (r >= 0)
                r = net_server_new(loop, CHANNEL_FD, &server, &err);
        if (r < 0) {
                fprintf(stderr, "tendril-net: %s\n", error_text(err));
                return EXIT_FAILURE;
        }
        return sd_event_loop(loop) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(void) {
        return run();
}
