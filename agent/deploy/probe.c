#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "deploy/stage.h"
#include "service/listener.h"

/*
 * Asking a version whether it is well: its processes up, somebody listening where it should, that
 * somebody one of its own processes, and the answer good. An answer from anybody else never counts.
 */

#define PIDS_MAX  4096
#define PORTS_MAX 32

/* A process that listens elsewhere than PORT said is taken at its word after this long; at its
 * usual port at once. */
#define ELSEWHERE_USEC SEC(5)

/* Ends by themselves before the first good answer after which it is given up. */
#define RESTARTS_MAX 3

int probe_effective(Deploy *d, Error **reterr) {
        int r;

        if (d->has_effective)
                return 0;
        r = launch_effective(d->p, &d->effective, reterr);
        if (r < 0)
                return r;
        d->has_effective = true;
        for (char **w = d->effective.warnings; w && *w; w++)
                deploy_event(d, "%s", *w);
        return 0;
}

static void not_yet(Deploy *d, char *words) {
        free(d->last_check);
        d->last_check = words;
}

static void on_answer(void *userdata, int r, const HelperResult *result, Error *err) {
        Deploy *d = userdata;
        Pipeline *p = d->p;

        d->task = NULL;
        if (r < 0) {
                p->last_status = 0;
                not_yet(d, str_format("%s", error_text(err)));
                d->probe_done(d, 1, NULL);
                return;
        }
        p->last_status = result->status;
        p->last_took_usec = result->took_usec;
        if (config_status_matches(d->effective.gate_status, result->status)) {
                d->probe_done(d, 0, NULL);
                return;
        }
        not_yet(d, str_format("GET %s answers %u, and %s is wanted", d->effective.gate_path,
                              result->status, d->effective.gate_status));
        d->probe_done(d, 1, NULL);
}

static bool services_are_up(Deploy *d, Slot slot, Error **reterr) {
        ServiceStatus s;

        for (size_t i = 0; services_get(d->p->services, i, &s); i++) {
                if (s.slot != slot)
                        continue;
                if (s.n_restarts >= RESTARTS_MAX) {
                        (void) error_set(
                                reterr, -EREMOTEIO,
                                "%s ended %u times by itself (%s); its output is in %s/%s.log",
                                s.name, s.n_restarts, s.last_exit, d->p->spec.paths->log, s.name);
                        return false;
                }
                if (s.state != SERVICE_UP) {
                        not_yet(d, str_format("%s is not up (%s)", s.name, s.last_exit));
                        return false;
                }
        }
        return true;
}

/* An application that does not listen where PORT says. Its usual port is known and believed at
 * once; another one after a while. */
static uint16_t port_elsewhere(Deploy *d, const pid_t *pids, size_t n) {
        uint16_t ports[PORTS_MAX];
        usec_t now = pipeline_now(d->p);
        int n_ports = listener_ports(pids, n, ports, PORTS_MAX);

        if (n_ports <= 0) {
                d->elsewhere_usec = 0;
                return 0;
        }
        for (int i = 0; i < MIN(n_ports, PORTS_MAX); i++)
                if (ports[i] == d->p->config->app.port)
                        return ports[i];
        if (d->elsewhere_usec == 0)
                d->elsewhere_usec = now;
        return n_ports == 1 && now - d->elsewhere_usec > ELSEWHERE_USEC ? ports[0] : 0;
}

/* 0: ask it; 1: not yet; negative: broken. */
static int find_listener(Deploy *d, const VersionState *v, uint16_t *port) {
        AttemptState *a = &d->p->state->attempt;
        static const char *const names[] = { "", "nobody listens", "another process listens" };
        pid_t pids[PIDS_MAX];
        size_t n;
        int r;

        n = services_pids(d->p->services, slot_from_name(v->slot), NULL, pids, PIDS_MAX);
        r = listener_check(*port, pids, MIN(n, PIDS_MAX));
        if (r == LISTENER_NONE && v == &a->target && !a->target.insists) {
                uint16_t found = port_elsewhere(d, pids, MIN(n, PIDS_MAX));

                if (found > 0) {
                        deploy_event(d,
                                     "%s listens on port %u and not on %u, where PORT told it to",
                                     v->label, found, *port);
                        a->target.port = *port = found;
                        a->target.insists = true;
                        return 0;
                }
        }
        if (r > 0)
                not_yet(d, str_format("%s on port %u", names[r], *port));
        return r;
}

static int on_later(sd_event_source *source _unused_, void *userdata) {
        Deploy *d = userdata;

        d->copy = sd_event_source_disable_unref(d->copy);
        d->probe_done(d, 1, NULL);
        return 0;
}

int probe_ask(Deploy *d, const VersionState *v, ProbeDone done, Error **reterr) {
        const DeployHelpers *h = &d->p->spec.helpers;
        uint16_t port = (uint16_t) v->port;
        Error *err = NULL;
        int r;

        r = probe_effective(d, reterr);
        if (r < 0)
                return r;
        d->probe_done = done;
        if (!services_are_up(d, slot_from_name(v->slot), &err)) {
                if (err)
                        return error_take(reterr, &err);
                r = 1;
        } else
                r = find_listener(d, v, &port);
        if (r < 0)
                return error_set(reterr, r, "look for the listener on port %u: %s", port,
                                 strerror(-r));
        if (r > 0) {
                r = sd_event_add_defer(d->p->spec.loop, &d->copy, on_later, d);
                return r < 0 ? error_set(reterr, r, "check: %s", strerror(-r)) : 0;
        }
        r = h->check(h->userdata, port, d->effective.gate_path, d->effective.gate_check_usec,
                     on_answer, d, &d->task);
        return r < 0 ? error_set(reterr, r, "start tendril-net: %s", strerror(-r)) : 0;
}
