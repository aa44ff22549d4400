#include "net/profile.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "net/secret.h"

static const char blanks[] = " \t";

void profile_done(Profile *profile) {
        (void) secret_free(profile->access_key_id);
        (void) secret_free(profile->secret);
        (void) secret_free(profile->token);
        (void) secret_free(profile->process);
        free(profile->foreign);
        *profile = (Profile){ 0 };
}

/* Part of a text. */
typedef struct Piece {
        const char *begin;
        size_t size;
} Piece;

static Piece trim(const char *begin, size_t size) {
        for (; size > 0 && strchr(" \t\r", *begin); begin++, size--)
                ;
        for (; size > 0 && strchr(" \t\r", begin[size - 1]); size--)
                ;
        return (Piece){ begin, size };
}

static bool piece_is(Piece piece, const char *text) {
        return strlen(text) == piece.size && memcmp(piece.begin, text, piece.size) == 0;
}

/* Keys and tokens have no blanks: what stands behind one is a comment. */
static Piece first_word(Piece piece) {
        size_t n = 0;

        for (; n < piece.size && !strchr(blanks, piece.begin[n]); n++)
                ;
        return (Piece){ piece.begin, n };
}

/* "[profile name] # comment" → is it the one? -EBADMSG: not closed. */
static int is_section(Piece line, const char *name, bool is_config) {
        const char *end = memchr(line.begin, ']', line.size);
        size_t n = strlen("profile");
        Piece inner;

        if (!end)
                return -EBADMSG;
        inner = trim(line.begin + 1, (size_t) (end - line.begin) - 1);
        if (is_config && inner.size > n && memcmp(inner.begin, "profile", n) == 0 &&
            strchr(blanks, inner.begin[n]))
                return piece_is(trim(inner.begin + n, inner.size - n), name);
        if (is_config && !str_equal(name, "default"))
                return 0;
        return piece_is(inner, name);
}

static int set(char **to, Piece value) {
        (void) secret_free(*to);
        *to = value.size > 0 ? strndup(value.begin, value.size) : NULL;
        return value.size > 0 && !*to ? -ENOMEM : 0;
}

/* A setting of the profile. */
static int take(Profile *profile, Piece name, Piece value) {
        static const char *const foreign[] = { "role_arn", "sso_session", "sso_start_url",
                                               "login_session", "web_identity_token_file" };

        if (piece_is(name, "aws_access_key_id"))
                return set(&profile->access_key_id, first_word(value));
        if (piece_is(name, "aws_secret_access_key"))
                return set(&profile->secret, first_word(value));
        if (piece_is(name, "aws_session_token"))
                return set(&profile->token, first_word(value));
        if (piece_is(name, "credential_process"))
                return set(&profile->process, value);
        for (size_t i = 0; i < ELEMENTS(foreign); i++)
                if (piece_is(name, foreign[i]))
                        return set(&profile->foreign, name);
        return 0;
}

static int read_line(Profile *profile, Piece line, const char *name, bool is_config, bool *inside) {
        const char *equals;
        Piece setting;
        int r;

        if (line.begin[0] == '[') {
                r = is_section(line, name, is_config);
                if (r < 0)
                        return r;
                *inside = r > 0;
                profile->found = profile->found || *inside;
                return 0;
        }
        equals = memchr(line.begin, '=', line.size);
        if (!equals)
                return -EBADMSG;
        setting = trim(line.begin, (size_t) (equals - line.begin));
        if (setting.size == 0)
                return -EBADMSG;
        if (!*inside)
                return 0;
        equals++;
        return take(profile, setting, trim(equals, line.size - (size_t) (equals - line.begin)));
}

int profile_read(const char *text, size_t size, const char *name, bool is_config, Profile *ret,
                 Error **reterr) {
        _cleanup_(profile_done) Profile profile = { 0 };
        const char *end = text + size;
        unsigned n_line = 0;
        bool inside = false, is_below = false; /* a setting stands above, `level` blanks in */
        size_t level = 0;
        int r = 0;

        if (memchr(text, 0, size))
                return error_set(reterr, -EBADMSG, "a NUL in it: not a text");
        if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
                text += 3;

        for (const char *next; text < end && r >= 0; text = next) {
                const char *stop = memchr(text, '\n', (size_t) (end - text)) ?: end;
                Piece line = trim(text, (size_t) (stop - text));
                size_t indent = (size_t) (line.begin - text);

                n_line++;
                next = stop < end ? stop + 1 : end;
                if (line.size == 0 || strchr("#;", line.begin[0]))
                        continue;
                if (is_below && indent > level)
                        continue; /* belongs to the setting above */
                level = indent;
                is_below = line.begin[0] != '[';
                r = read_line(&profile, line, name, is_config, &inside);
        }
        if (r == -EBADMSG)
                return error_set(reterr, r, "line %u is neither a [section] nor NAME = VALUE",
                                 n_line);
        if (r < 0)
                return error_set(reterr, r, "out of memory");
        *ret = profile;
        profile = (Profile){ 0 };
        return 0;
}

/* ---- words of a command ---- */

typedef enum Quote { QUOTE_NONE, QUOTE_SINGLE, QUOTE_DOUBLE } Quote;

/* One character of a command line, or what an escape stands for, into the word. Returns where the
 * next begins. */
static const char *add_char(const char *at, Quote *quote, Buf *word, int *r) {
        if ((*quote == QUOTE_SINGLE && *at == '\'') || (*quote == QUOTE_DOUBLE && *at == '"'))
                *quote = QUOTE_NONE;
        else if (*quote == QUOTE_NONE && *at == '\'')
                *quote = QUOTE_SINGLE;
        else if (*quote == QUOTE_NONE && *at == '"')
                *quote = QUOTE_DOUBLE;
        else if (*at == '\\' && at[1] != 0 &&
                 (*quote == QUOTE_NONE || (*quote == QUOTE_DOUBLE && strchr("\"\\$`", at[1])))) {
                *r = buf_append(word, at + 1, 1);
                return at + 2;
        } else
                *r = buf_append(word, at, 1);
        return at + 1;
}

int profile_split(const char *text, char ***ret, Error **reterr) {
        _cleanup_(strv_freep) char **words = NULL;
        Quote quote = QUOTE_NONE;
        const char *at = text;
        int r = 0;

        for (;;) {
                _cleanup_secret_buf_ Buf word = BUF_INIT(PROFILE_BYTES);

                at += strspn(at, blanks);
                if (*at == 0)
                        break;
                while (r >= 0 && *at != 0 && (quote != QUOTE_NONE || !strchr(blanks, *at)))
                        at = add_char(at, &quote, &word, &r);
                if (r >= 0)
                        r = strv_add(&words, PROFILE_WORDS, buf_str(&word));
                if (r < 0)
                        return error_set(reterr, r == -ENOMEM ? r : -EINVAL,
                                         "credential_process: %s",
                                         r == -ENOMEM ? "out of memory" : "more than 64 words");
        }
        if (quote != QUOTE_NONE)
                return error_set(reterr, -EINVAL, "credential_process: a quote is not closed");
        if (!words || words[0][0] == 0)
                return error_set(reterr, -EINVAL, "credential_process: names no program");
        *ret = TAKE_PTR(words);
        return 0;
}
