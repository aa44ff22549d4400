#pragma once

/*
 * What tendril-net cannot do though somebody should take it over: gain privileges, be looked into,
 * leave its memory in a core file, write or run anything by a path, or read what its work does not
 * need. What it is handed by descriptor it can read and write; it can connect to anywhere.
 *
 * Both are for ever, for this process and its children.
 */

#include "base/error.h"
#include "store/wire.h"

/* At the start of the process. */
void net_confine_process(void);

typedef enum NetConfineAnswer {
        NET_CONFINE_NONE = 1, /* the kernel has no Landlock, or a sanitizer is built in */
        NET_CONFINE_PROGRAM,  /* a program of the user's may have to be run: see confine.c */
} NetConfineAnswer;

/* Before the first request is answered, and before there are threads; open: what was opened, or
 * NULL where no store was. 0, NetConfineAnswer, negative with words. */
int net_confine_files(const WireOpen *open, Error **reterr);
