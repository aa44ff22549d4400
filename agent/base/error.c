#include "base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct Error {
        int code;
        char *text; /* NULL where memory was short: error_text() falls back to the code */
};

static int _printf_(3, 0) error_vset(Error **reterr, int code, const char *format, va_list ap) {
        Error *e;

        e = calloc(1, sizeof(Error));
        if (!e)
                return code;

        e->code = code;
        if (vasprintf(&e->text, format, ap) < 0)
                e->text = NULL;
        *reterr = e;
        return code;
}

int error_set(Error **reterr, int code, const char *format, ...) {
        va_list ap;

        assert(code < 0);
        if (!reterr)
                return code;

        assert(!*reterr);
        va_start(ap, format);
        (void) error_vset(reterr, code, format, ap);
        va_end(ap);
        return code;
}

int error_wrap(Error **reterr, int code, const char *format, ...) {
        _cleanup_free_ char *words = NULL;
        char *text;
        va_list ap;
        int n;

        assert(code < 0);
        if (!reterr)
                return code;

        va_start(ap, format);
        n = vasprintf(&words, format, ap);
        va_end(ap);
        if (n < 0)
                words = NULL;

        if (!*reterr)
                return error_set(reterr, code, "%s%s%s", words ?: "", words ? ": " : "",
                                 strerror(-code));

        (*reterr)->code = code;
        /* The inner sentence is worth more than the outer words: short of memory it stays as it is.
         */
        if (!words || asprintf(&text, "%s: %s", words, error_text(*reterr)) < 0)
                return code;

        free((*reterr)->text);
        (*reterr)->text = text;
        return code;
}

int error_take(Error **reterr, Error **from) {
        Error *e = TAKE_PTR(*from);
        int code = error_code(e);

        if (!reterr) {
                error_free(e);
                return code;
        }

        assert(!*reterr);
        *reterr = e;
        return code;
}

const char *error_text(const Error *error) {
        if (!error)
                return "unknown error";
        return error->text ?: strerror(-error->code);
}

int error_code(const Error *error) {
        return error ? error->code : 0;
}

Error *error_free(Error *error) {
        if (!error)
                return NULL;

        free(error->text);
        free(error);
        return NULL;
}
