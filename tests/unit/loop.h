#pragma once

/*
 * What tests of waiting things share: a loop that ends by itself, with words, instead of hanging.
 */

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/time.h"

#define LOOP_GUARD_USEC SEC(30)

static inline int loop_on_guard(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) usec;
        (void) userdata;
        return sd_event_exit(sd_event_source_get_event(s), -ETIMEDOUT);
}

/* Group set-up: as every main() here does. */
static inline int loop_block_signals(void **state) {
        sigset_t mask;

        (void) state;
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        (void) sigaddset(&mask, SIGPIPE);
        return sigprocmask(SIG_BLOCK, &mask, NULL);
}

static inline sd_event *loop_new(void) {
        sd_event *loop = NULL;

        assert_true(sd_event_new(&loop) >= 0);
        assert_true(sd_event_add_time_relative(loop, NULL, CLOCK_MONOTONIC, LOOP_GUARD_USEC, 0,
                                               loop_on_guard, NULL) >= 0);
        return loop;
}

/* Runs until *n reaches at least want. */
static inline void loop_until(sd_event *loop, const int *n, int want) {
        while (*n < want) {
                assert_true(sd_event_run(loop, UINT64_MAX) >= 0);
                if (sd_event_get_state(loop) == SD_EVENT_FINISHED)
                        fail_msg("waited %d s in vain: %d of %d", (int) (LOOP_GUARD_USEC / SEC(1)),
                                 *n, want);
        }
}

/* Runs until a process has ended; false: it lives on. */
static inline bool pid_is_gone(pid_t pid) {
        char path[64], state = 'X';
        FILE *f;

        (void) snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
        f = fopen(path, "re");
        if (!f)
                return true;
        if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
                state = 'X';
        (void) fclose(f);
        return state == 'X' || state == 'Z';
}

/* Waits (bounded) until it has: what was killed needs a moment. */
static inline bool pid_goes(pid_t pid) {
        for (int i = 0; i < 5000; i++) {
                if (pid_is_gone(pid))
                        return true;
                (void) usleep(1000);
        }
        return false;
}
