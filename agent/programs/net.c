/*
 * tendril-net: the network, without power. Descriptor 3 is the channel to main; it lives until that
 * closes.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "net/confine.h"
#include "net/server.h"

#define CHANNEL_FD 3

/* Nobody would read a SIGPIPE; a credential_process is waited for by the loop. */
static void prepare_signals(void) {
        sigset_t mask;

        (void) signal(SIGPIPE, SIG_IGN);
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &mask, NULL);
}

static int run(void) {
        _cleanup_(net_server_freep) NetServer *server = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_(sd_event_unrefp) sd_event *loop = NULL;
        int r;

        prepare_signals();
        net_confine_process();
        r = sd_event_new(&loop);
        if (r >= 0)
                r = net_server_new(loop, CHANNEL_FD, net_confine_files, &server, &err);
        if (r < 0) {
                fprintf(stderr, "tendril-net: %s\n", err ? error_text(err) : strerror(-r));
                return EXIT_FAILURE;
        }
        return sd_event_loop(loop) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(void) {
        return run();
}
