#pragma once

/*
 * Names of the store's documents, and which name is a key at all: 1 to LIMIT_KEY_NAME_BYTES bytes
 * of clean UTF-8, components separated by single '/', none of them empty, "." or "..", none
 * beginning with ".tmp-" or ".lock" (the file store's own).
 */

#include <stdbool.h>

#include "base/macro.h"

bool key_is_valid(const char *key);

/* Each returns a new string that the caller frees, or NULL: no memory. Arguments are labels
 * (str_is_label). */
char *key_store_id(void); /* store.json */
char *key_version(const char *application,
                  const char *label); /* applications/A/versions/V/version.json */
char *key_bundle(const char *application, const char *label); /* applications/A/versions/V/bundle */
char *key_versions(const char *application); /* prefix of all versions of an application */
char *key_environments(void);                /* prefix of all environments */
char *key_desired(const char *environment);
char *key_head(const char *environment);
char *key_lane(const char *environment, const char *generation, unsigned lane);
char *key_result(const char *environment, const char *generation, const char *host);
char *key_host(const char *environment, const char *host);
