#pragma once

/* Running one phase of hooks as a step of a deploy: used by prepare (prebuild, predeploy) and gate
 * (postdeploy). */

#include "deploy/stage.h"

/* 0: under way, ends the step; STEP_DONE: behind it already (after a reboot). staging: cwd is the
 * staging folder, else `current`. */
int phase_run(Deploy *d, const char *phase, char *const *names, bool staging, Error **reterr);

/* One command of the Buildfile, in staging. 0: under way. */
int phase_command(Deploy *d, const PlanProcess *process, HookRun **ret, Error **reterr,
                  void (*on_done)(void *userdata, int r, const char *last, Error *err));

/* A hook asked for a reboot, and this is still the boot in which it did. */
bool phase_awaits_boot(const AttemptState *attempt);
