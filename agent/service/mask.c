#include "mask.h"

#include <errno.h>
#include <string.h>

#include "agent/limits.h"
#include "base/buf.h"
#include "base/str.h"

#define SECRET_MIN_BYTES 4
#define MASKED           "***"

/* Lines of secrets: a key of many lines counts as many. */
#define SECRETS_MAX (LIMIT_SETTINGS * 32)

struct Mask {
        char **secrets; /* longest first, so that one within another does not leave the rest */
        bool begins[256];
};

Mask *mask_free(Mask *mask) {
        if (!mask)
                return NULL;
        mask->secrets = strv_free(mask->secrets);
        free(mask);
        return NULL;
}
DEFINE_CLEANUP(Mask, mask_free);

static int longer_first(const void *a, const void *b) {
        size_t x = strlen(*(char *const *) a), y = strlen(*(char *const *) b);

        return x > y ? -1 : x < y;
}

static int add_value(Mask *mask, const char *value, size_t *n) {
        _cleanup_free_ char *copy = strdup(value);
        char *save = NULL;
        int r = copy ? 0 : -ENOMEM;

        for (char *part = copy ? strtok_r(copy, "\r\n", &save) : NULL; r >= 0 && part;
             part = strtok_r(NULL, "\r\n", &save)) {
                if (strlen(part) < SECRET_MIN_BYTES)
                        continue;
                mask->begins[(unsigned char) part[0]] = true;
                r = strv_add(&mask->secrets, SECRETS_MAX, part);
                (*n)++;
        }
        return r;
}

Mask *mask_new(char *const *values) {
        _cleanup_(mask_freep) Mask *mask = calloc(1, sizeof(*mask));
        size_t n = 0;

        if (!mask)
                return NULL;
        for (; values && *values; values++)
                if (add_value(mask, *values, &n) < 0)
                        return NULL;
        if (n > 0)
                qsort(mask->secrets, n, sizeof(char *), longer_first);
        return TAKE_PTR(mask);
}

/* Bytes of the secret that stands here; where the line was cut, also one that only begins here. */
static size_t secret_at(const Mask *mask, const char *at, size_t left, bool is_cut) {
        if (!mask->begins[(unsigned char) *at])
                return 0;
        for (char *const *s = mask->secrets; *s; s++) {
                size_t n = strlen(*s);

                if (n <= left ? memcmp(at, *s, n) == 0 : is_cut && memcmp(at, *s, left) == 0)
                        return MIN(n, left);
        }
        return 0;
}

char *mask_line(const Mask *mask, const char *line, bool is_cut) {
        _cleanup_(buf_done) Buf out = BUF_INIT(LIMIT_LINE_BYTES * 2);
        size_t left = strlen(line);
        int r = 0;

        while (r >= 0 && left > 0) {
                size_t n = secret_at(mask, line, left, is_cut);

                r = n > 0 ? buf_append_str(&out, MASKED) : buf_append(&out, line, 1);
                n = MAX(n, (size_t) 1);
                line += n;
                left -= n;
        }
        return r < 0 ? NULL : str_printable(buf_str(&out), out.size);
}
