#pragma once

/*
 * Slots: the two places, a and b, in which a version can run, so that an old and a new one run
 * beside each other.
 *
 * The slot that is served is one fact on disk: the file "b" in the slot folder
 * (/var/lib/tendril/slot/, 0755), which the proxy looks up for each request: there: b; not there:
 * a. slot_turn() is the switch, one create or unlink, durable when it returns.
 *
 * Each process of the application sees its own version at /var/app/current for its whole life: a
 * mount namespace in which /var/app is a tmpfs with that version (and its other folders) bound into
 * it (`tendril-tree view`). Without the right to do so the processes start in the version's own
 * folder, and absolute paths below /var/app are the application's risk; told once.
 */

#include "base/error.h"

typedef enum Slot {
        SLOT_NONE = 0, /* not in a slot: the proxy */
        SLOT_A = 'a',
        SLOT_B = 'b',
} Slot;

Slot slot_other(Slot slot);
const char *slot_name(Slot slot);      /* "a", "b", "" */
Slot slot_from_name(const char *name); /* SLOT_NONE for anything else */

Slot slot_read(int slot_dir_fd);
int slot_turn(int slot_dir_fd,
              Slot slot); /* 0, negative errno; turning to what is so already is fine */
