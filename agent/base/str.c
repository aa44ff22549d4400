#include "base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define LABEL_MAX_BYTES 100

bool str_equal(const char *a, const char *b) {
        if (!a || !b)
                return a == b;
        return strcmp(a, b) == 0;
}

bool str_is_empty(const char *text) {
        return !text || !*text;
}

bool str_has_prefix(const char *text, const char *prefix) {
        return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool str_has_suffix(const char *text, const char *suffix) {
        size_t n = strlen(text), k = strlen(suffix);

        return n >= k && memcmp(text + n - k, suffix, k) == 0;
}

/* Not isalnum(): that depends on the locale. */
static bool is_alnum(char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool str_is_label(const char *text) {
        size_t i;

        if (!text || !is_alnum(text[0]))
                return false;

        for (i = 1; text[i]; i++)
                if (i >= LABEL_MAX_BYTES || !(is_alnum(text[i]) || strchr("._-", text[i])))
                        return false;
        return true;
}

bool str_is_sha256(const char *text) {
        return text && strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

/* Bytes of the UTF-8 character at the front, and what it is; 0: not valid there. */
static size_t utf8_next(const unsigned char *p, size_t size, uint32_t *ret) {
        static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
        uint32_t c;
        size_t n, i;

        if (p[0] < 0x80) {
                *ret = p[0];
                return 1;
        }
        if (p[0] < 0xc2 || p[0] > 0xf4)
                return 0;

        n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
        if (n > size)
                return 0;

        c = p[0] & (0x7fU >> n);
        for (i = 1; i < n; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (p[i] & 0x3fU);
        }
        if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return 0;

        *ret = c;
        return n;
}

static bool is_control(uint32_t c) {
        return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

bool str_is_utf8(const char *text, size_t size, bool no_control) {
        const unsigned char *p = (const unsigned char *) text;
        uint32_t c;
        size_t n;

        for (; size > 0; p += n, size -= n) {
                n = utf8_next(p, size, &c);
                if (n == 0 || c == 0 || (no_control && is_control(c)))
                        return false;
        }
        return true;
}

char *str_printable(const char *text, size_t size) {
        const unsigned char *p = (const unsigned char *) text;
        char *s, *q;
        uint32_t c;
        size_t n;

        s = calloc(1, size + 1);
        if (!s)
                return NULL;

        for (q = s; size > 0; p += MAX(n, (size_t) 1), size -= MAX(n, (size_t) 1)) {
                n = utf8_next(p, size, &c);
                if (n == 0 || is_control(c)) {
                        *q++ = '?';
                } else {
                        memcpy(q, p, n);
                        q += n;
                }
        }
        return s;
}

char *str_format(const char *format, ...) {
        char *s = NULL;
        va_list ap;
        int n;

        va_start(ap, format);
        n = vasprintf(&s, format, ap);
        va_end(ap);
        return n < 0 ? NULL : s;
}

int str_to_u64(const char *text, uint64_t *ret) {
        uint64_t n = 0;
        const char *p;
        bool too_large = false;

        if (str_is_empty(text))
                return -EINVAL;

        /* Reads on after an overflow, so that rubbish at the end is still -EINVAL. */
        for (p = text; *p; p++) {
                if (*p < '0' || *p > '9')
                        return -EINVAL;
                if (__builtin_mul_overflow(n, 10U, &n) ||
                    __builtin_add_overflow(n, (uint64_t) (*p - '0'), &n))
                        too_large = true;
        }
        if (too_large)
                return -ERANGE;

        *ret = n;
        return 0;
}

char *str_random_hex(size_t n_bytes) {
        static const char digits[] = "0123456789abcdef";
        unsigned char chunk[32];
        size_t i, n, done;
        char *s;

        s = calloc(2, n_bytes + 1);
        if (!s)
                return NULL;

        /* Reads of up to 256 bytes are neither short nor interrupted (getrandom(2)). */
        for (done = 0; done < n_bytes; done += n) {
                n = MIN(n_bytes - done, sizeof(chunk));
                if (getrandom(chunk, n, 0) != (ssize_t) n) {
                        free(s);
                        return NULL;
                }
                for (i = 0; i < n; i++) {
                        s[2 * (done + i)] = digits[chunk[i] >> 4];
                        s[2 * (done + i) + 1] = digits[chunk[i] & 15];
                }
        }
        return s;
}

size_t strv_count(char *const *list) {
        size_t n = 0;

        while (list && list[n])
                n++;
        return n;
}

bool strv_contains(char *const *list, const char *text) {
        for (; list && *list; list++)
                if (str_equal(*list, text))
                        return true;
        return false;
}

int strv_add(char ***list, size_t max, const char *text) {
        size_t n = strv_count(*list);
        char **grown;

        if (n >= max)
                return -E2BIG;

        grown = realloc(*list, (n + 2) * sizeof(char *));
        if (!grown)
                return -ENOMEM;

        *list = grown;
        grown[n + 1] = NULL;
        grown[n] = strdup(text);
        return grown[n] ? 0 : -ENOMEM;
}

char **strv_copy(char *const *list) {
        _cleanup_(strv_freep) char **copy = NULL;
        size_t i;

        if (!list)
                return NULL;

        copy = calloc(strv_count(list) + 1, sizeof(char *));
        if (!copy)
                return NULL;

        for (i = 0; list[i]; i++) {
                copy[i] = strdup(list[i]);
                if (!copy[i])
                        return NULL;
        }
        return TAKE_PTR(copy);
}

char **strv_free(char **list) {
        size_t i;

        for (i = 0; list && list[i]; i++)
                free(list[i]);
        free(list);
        return NULL;
}
