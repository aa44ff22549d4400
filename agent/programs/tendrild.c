/*
 * tendrild: main. Reads top to bottom as the life of the process: arguments, loop, signals, agent,
 * ready, loop, end.
 */

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "agent/agent.h"
#include "agent/contract.h"
#include "loop/log.h"

extern char **environ;

static const char *arg_root;
static const char *arg_libexec;

static const char usage[] =
        "usage: tendrild [--root DIR] [--libexec DIR]\n"
        "\n"
        "The agent of a host: brings it to the version that its environment wants. Stays in the "
        "foreground.\n"
        "\n"
        "  --root DIR     everything below DIR instead of / (configuration, state, socket)\n"
        "  --libexec DIR  look for the helper programs there first\n"
        "  --version      print the version\n"
        "  --help         this text; more in tendrild(8)\n";

/* -1: go on; else the exit code. */
static int parse(int argc, char **argv) {
        static const struct option options[] = { { "root", required_argument, NULL, 'r' },
                                                 { "libexec", required_argument, NULL, 'l' },
                                                 { "version", no_argument, NULL, 'v' },
                                                 { "help", no_argument, NULL, 'h' },
                                                 { NULL, 0, NULL, 0 } };
        int c;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {
                case 'r':
                        arg_root = optarg;
                        break;
                case 'l':
                        arg_libexec = optarg;
                        break;
                case 'v':
                        puts("tendrild " TENDRIL_VERSION);
                        return EXIT_CODE_OK;
                case 'h':
                        fputs(usage, stdout);
                        return EXIT_CODE_OK;
                default:
                        fputs(usage, stderr);
                        return EXIT_CODE_USAGE;
                }
        if (optind < argc) {
                fprintf(stderr, "tendrild: '%s' is one argument too many\n%s", argv[optind], usage);
                return EXIT_CODE_USAGE;
        }
        return -1;
}

static int on_signal(sd_event_source *source _unused_, const struct signalfd_siginfo *info,
                     void *userdata) {
        Agent *agent = userdata;
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_free_ char *text = NULL;

        if (info->ssi_signo == SIGHUP)
                (void) agent_reload(agent, &text, &err); /* it has said what it did */
        else
                agent_stop(agent);
        return 0;
}

static int block_signals(void) {
        sigset_t set;

        (void) signal(SIGPIPE, SIG_IGN);
        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        (void) sigaddset(&set, SIGTERM);
        (void) sigaddset(&set, SIGINT);
        (void) sigaddset(&set, SIGHUP);
        (void) sigaddset(&set, SIGIO);
        return sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -errno : 0;
}

static int run(void) {
        const AgentOptions options = { .root = arg_root, .libexec = arg_libexec, .env = environ };
        static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
        _cleanup_(sd_event_unrefp) sd_event *loop = NULL;
        _cleanup_(agent_freep) Agent *agent = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = block_signals();
        if (r >= 0)
                r = sd_event_default(&loop);
        if (r >= 0)
                r = sd_event_set_watchdog(loop, true);
        if (r >= 0)
                r = agent_new(loop, &options, &agent, &err);
        for (size_t i = 0; i < ELEMENTS(signals) && r >= 0; i++)
                r = sd_event_add_signal(loop, NULL, signals[i], on_signal, agent);
        if (r < 0) {
                log_error("%s", err ? error_text(err) : strerror(-r));
                return EXIT_CODE_FAILED;
        }
        (void) sd_notify(0, "READY=1");
        log_info("tendrild %s is ready", TENDRIL_VERSION);
        r = sd_event_loop(loop);
        log_info("tendrild ends; the application goes on");
        return r < 0 ? EXIT_CODE_FAILED : EXIT_CODE_OK;
}

int main(int argc, char **argv) {
        int r = parse(argc, argv);

        return r >= 0 ? r : run();
}
