#pragma once

/*
 * Reading what the instance metadata service says of the host. Pure. Private to identity.c and to
 * those who try it.
 */

#include "net/imds.h"

/* The identity document; *ret must be empty, and is on failure. Values that are no labels are
 * dropped. -EBADMSG in words. */
int identity_read_document(const char *text, size_t size, NetIdentity *ret, Error **reterr);

/* What a line "tendril.environment: NAME" of the user data names, or NULL. The caller frees it. */
char *identity_read_user_data(const char *text, size_t size);
