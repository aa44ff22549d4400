#pragma once

/*
 * What an assignment changes in the settings of an environment. Pure: from the settings as they are
 * and the words of the command line to the settings as they will be, and the differences between
 * the two for people to read.
 *
 * Settings are JsonArrays of SettingDocument, kept in the order of namespace and option, so that
 * two equal sets are equal texts.
 */

#include <stdio.h>

#include "base/error.h"
#include "base/json.h"

/* --set ns:option=value, --unset ns:option, --reset */
typedef struct SettingsChange {
        char *const *set; /* NULL-terminated or NULL */
        char *const *unset;
        bool reset; /* begin with none */
} SettingsChange;

/* Settings after the change; ret must be empty, and is the caller's. A namespace may hold colons
 * ("aws:autoscaling:asg"), an option none and no '=', a value anything. -EINVAL: words that are not
 * of that form, or --unset of a setting that is not there; -E2BIG over LIMIT_SETTINGS; -EFBIG a
 * value over its limit. */
int change_settings(const JsonArray *before, const SettingsChange *change, JsonArray *ret,
                    Error **reterr);

/* Each setting that is not the same in both, in order. before or after is NULL where there was or
 * will be none. */
typedef void (*ChangeVisit)(void *userdata, const char *ns, const char *option, const char *before,
                            const char *after);
size_t change_visit(const JsonArray *before, const JsonArray *after, ChangeVisit visit,
                    void *userdata);

/* The value as people may see it: "***" for one whose name says that it is secret, shortened where
 * it is long. NULL stays NULL. The caller frees. */
char *change_shown(const char *option, const char *value);
