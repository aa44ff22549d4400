#pragma once

/*
 * Several texts laid over each other into one value, key by key, with the place where each value
 * was written. Maps merge; everything else (lists too) is replaced by what comes later. A key
 * without a value says nothing, except among the free names of a JSON_KIND_MAP, where it is an
 * empty text.
 *
 * Each text must be right by itself: a wrong value is an error even where a later text would
 * replace it.
 *
 * Life: merge_new() → texts in order of growing weight → merge_decode(), merge_sources() →
 * merge_free().
 */

#include "base/json.h"

typedef struct Merge Merge;

/* The table says what is allowed; it must outlive this. NULL: no memory. */
Merge *merge_new(const JsonTable *table);

/* YAML. name: of the file, for words and sources ("NAME:LINE"); with NULL these are the defaults
 * ("default"). Negative errno with words. */
int merge_yaml(Merge *merge, const char *text, size_t size, const char *name, Error **reterr);

/* From an environment ("NAME=value", NULL-terminated): for each single value of the table the
 * variable PREFIX plus its path in capitals, with underscores for dots. An empty variable says
 * nothing. Wrong values are found by merge_decode(). */
int merge_environment(Merge *merge, char *const *env, const char *prefix, Error **reterr);

/* Value → struct, strictly; errors begin with the place: "NAME:LINE: key: ...". *ret must be all
 * zero. */
int merge_decode(const Merge *merge, void *ret, Error **reterr);

/* Fills *ret (all zero before): path ("trusted_keys[0].id") → "NAME:LINE", "NAME" or "default".
 * -ENOMEM. */
int merge_sources(const Merge *merge, JsonMap *ret);

Merge *merge_free(Merge *merge);
DEFINE_CLEANUP(Merge, merge_free);
