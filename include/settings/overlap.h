#pragma once

/*
 * May the old and the new version run beside each other for a moment? A pure decision, and the
 * words for it. What is wanted is narrowed, never widened: all → web → none. A wrong "yes" is
 * costly (two of what must be one), a wrong "no" costs a gap of a moment; so doubtful marks count.
 *
 * Marks of the proxied process (two of it run with "web") lead to none; marks of the others, which
 * "web" stops before their successors start, lead from all to web.
 */

#include <stdbool.h>
#include <stdint.h>

#include "host/config.h"
#include "settings/plan.h"

typedef struct OverlapInput {
        int wanted;                /* Overlap */
        bool runs;                 /* a version runs now */
        const Plan *plan;          /* of the new version; its first process is the proxied one */
        const JsonMap *properties; /* environment properties of the new version */
        uint64_t user_port;        /* a PORT among them; 0: none */
        uint64_t fixed_port;       /* the application's usual port */
        bool insisted; /* this application was seen to listen where it wants, not where PORT says */
        bool view;     /* each slot can have its own /var/app/current */
        uint64_t available_bytes; /* memory; 0: unknown */
        uint64_t peak_bytes;      /* of the version that runs; 0: unknown */
} OverlapInput;

typedef struct OverlapDecision {
        int mode;      /* Overlap */
        uint64_t port; /* on which the proxied process of the new version insists, also where
                          nothing runs; 0: none is known */
        char why[256]; /* one sentence */
} OverlapDecision;

void overlap_decide(const OverlapInput *input, OverlapDecision *ret);

/* The port that a command line insists on (`--port 8080`, `-p 8080`, `PORT=8080`, `0.0.0.0:8080`,
 * `:8080`, `server.port=8080`), or 0. "$PORT" in its place is not one. A bare number, or an address
 * that could as well be somebody else's, counts only if it is fixed_port. */
uint64_t overlap_scan_command(const char *command, uint64_t fixed_port);

/* What in a command line says that it must not run twice ("celery beat", "cron", "SQLite"), or
 * NULL. Static text. */
const char *overlap_single_instance(const char *command);
