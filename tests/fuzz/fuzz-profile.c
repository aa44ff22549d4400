/*
 * The shared files of AWS's tools and the command lines in them: what is read has no line break and
 * no blank where keys have none, words quoted again are the same words, and no text of a file
 * stands in an error.
 */

#include "net/profile.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
        if (!holds)
                abort();
}

static void check_key(const char *key) {
        must(!key || (key[0] != 0 && key[strcspn(key, " \t\n")] == 0));
}

/* Each word in single quotes: split again it is the same list. */
static void check_words(const char *text) {
        _cleanup_(strv_freep) char **words = NULL, **again = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_(buf_done) Buf line = BUF_INIT(8 * PROFILE_BYTES);

        if (profile_split(text, &words, &err) < 0) {
                must(str_has_prefix(error_text(err), "credential_process: "));
                return;
        }
        for (char **w = words; *w; w++) {
                must(buf_append_str(&line, " '") == 0);
                for (const char *c = *w; *c; c++)
                        must((*c == '\'' ? buf_append_str(&line, "'\\''")
                                         : buf_append(&line, c, 1)) == 0);
                must(buf_append_str(&line, "'") == 0);
        }
        must(profile_split(buf_str(&line), &again, NULL) == 0);
        must(strv_count(words) == strv_count(again));
        for (size_t i = 0; words[i]; i++)
                must(str_equal(words[i], again[i]));
}

static void read_one(const char *text, size_t size, const char *name, bool is_config) {
        _cleanup_(profile_done) Profile p = { 0 };
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = profile_read(text, size, name, is_config, &p, &err);
        if (r < 0) {
                must(r == -EBADMSG && !p.found && !p.process && !p.secret);
                must(strlen(error_text(err)) < 80);
                return;
        }
        must(p.found || (!p.access_key_id && !p.secret && !p.token && !p.process && !p.foreign));
        check_key(p.access_key_id);
        check_key(p.secret);
        check_key(p.token);
        if (p.process) {
                must(!strchr(p.process, '\n'));
                check_words(p.process);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = calloc(1, size + 1);

        if (!text)
                return 0;
        if (size > 0)
                memcpy(text, data, size);
        read_one(text, size, "default", false);
        read_one(text, size, "ci", true);
        check_words(text);
        return 0;
}
