#pragma once

/*
 * The shared files of AWS's tools, ~/.aws/credentials and ~/.aws/config: one profile of them. Pure.
 *
 * Source: AWS SDKs and Tools reference guide, "Format of the shared config and credentials files".
 */

#include <stdbool.h>

#include "base/error.h"

#define PROFILE_BYTES ((size_t) 256 * 1024) /* of a file */
#define PROFILE_WORDS 64                    /* of a credential_process */

/* What a profile says; strings are the struct's, NULL where it says nothing. */
typedef struct Profile {
        bool found;
        char *access_key_id;
        char *secret;
        char *token;
        char *process; /* credential_process, as it stands there */
        char *foreign; /* the name of a setting that would need another way than these */
} Profile;

void profile_done(Profile *profile); /* wipes */

/*
 * The profile of that name in the text of a file. In the config file sections are called
 * [profile NAME] and [default], in the credentials file [NAME]. Of settings that stand there twice
 * the last counts. Lines that begin with a blank belong to the setting before them and are skipped.
 * *ret must be empty, and is on failure. -EBADMSG in words that name the line, never its text.
 */
int profile_read(const char *text, size_t size, const char *name, bool is_config, Profile *ret,
                 Error **reterr);

/* The words of a command line as a POSIX shell splits them, quotes and backslashes included,
 * without anything else that a shell does. *ret: a list for strv_free(). -EINVAL in words: a quote
 * that is not closed, no word at all, too many. */
int profile_split(const char *text, char ***ret, Error **reterr);
