#include "control/change.h"

#include <errno.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "host/config.h"
#include "store/document.h"

/* More of a value than this is not looked at by anybody in a list of changes. */
#define SHOWN_BYTES 80

static SettingDocument *items(const JsonArray *array) {
        return array->items;
}

/* The namespace may hold colons, the option behind the last one none. size: up to a '=' or the end.
 */
static int split_name(const char *text, size_t size, char **ret_ns, char **ret_option) {
        _cleanup_free_ char *ns = NULL, *option = NULL;
        const char *colon = memrchr(text, ':', size);
        size_t n;

        if (!colon)
                return -EINVAL;
        n = (size_t) (colon - text);
        if (n == 0 || n + 1 == size || !str_is_utf8(text, size, true))
                return -EINVAL;
        ns = strndup(text, n);
        option = strndup(colon + 1, size - n - 1);
        if (!ns || !option)
                return -ENOMEM;
        *ret_ns = TAKE_PTR(ns);
        *ret_option = TAKE_PTR(option);
        return 0;
}

static int compare_names(const SettingDocument *s, const char *ns, const char *option) {
        int r = strcmp(s->ns, ns);

        return r != 0 ? r : strcmp(s->option, option);
}

static int compare_settings(const void *a, const void *b) {
        const SettingDocument *y = b;

        return compare_names(a, y->ns, y->option);
}

static SettingDocument *find(const JsonArray *array, const char *ns, const char *option) {
        for (size_t i = 0; i < array->n; i++)
                if (compare_names(&items(array)[i], ns, option) == 0)
                        return &items(array)[i];
        return NULL;
}

static int put(JsonArray *array, const char *ns, const char *option, const char *value) {
        SettingDocument *s = find(array, ns, option);

        if (!s) {
                if (array->n >= LIMIT_SETTINGS)
                        return -E2BIG;
                s = json_array_add(array, &setting_document_table, LIMIT_SETTINGS);
                if (!s)
                        return -ENOMEM;
                s->ns = strdup(ns);
                s->option = strdup(option);
        }
        free(s->value);
        s->value = strdup(value);
        return s->ns && s->option && s->value ? 0 : -ENOMEM;
}

static int set_one(JsonArray *array, const char *text, Error **reterr) {
        _cleanup_free_ char *ns = NULL, *option = NULL;
        const char *equal = strchr(text, '=');
        int r;

        if (!equal || split_name(text, (size_t) (equal - text), &ns, &option) < 0)
                return error_set(reterr, -EINVAL,
                                 "--set %.200s: not of the form namespace:option=value", text);
        if (strlen(equal + 1) > LIMIT_SETTING_VALUE_BYTES)
                return error_set(reterr, -EFBIG, "--set %s:%s: the value is longer than %d bytes",
                                 ns, option, LIMIT_SETTING_VALUE_BYTES);
        if (!str_is_utf8(equal + 1, strlen(equal + 1), false))
                return error_set(reterr, -EINVAL, "--set %s:%s: the value is not UTF-8", ns,
                                 option);
        r = put(array, ns, option, equal + 1);
        if (r == -E2BIG)
                return error_set(reterr, r, "--set %s:%s: an environment has at most %d settings",
                                 ns, option, LIMIT_SETTINGS);
        return r < 0 ? error_set(reterr, r, "--set %s:%s: %s", ns, option, strerror(-r)) : 0;
}

static int unset_one(JsonArray *array, const char *text, Error **reterr) {
        _cleanup_free_ char *ns = NULL, *option = NULL;
        SettingDocument *s, last;

        if (split_name(text, strlen(text), &ns, &option) < 0)
                return error_set(reterr, -EINVAL,
                                 "--unset %.200s: not of the form namespace:option", text);
        s = find(array, ns, option);
        if (!s)
                return error_set(reterr, -EINVAL, "--unset %s:%s: there is no such setting", ns,
                                 option);
        free(s->ns);
        free(s->option);
        free(s->value);
        last = items(array)[--array->n];
        if (s != &items(array)[array->n])
                *s = last;
        return 0;
}

static int copy_all(const JsonArray *from, JsonArray *ret) {
        int r;

        for (size_t i = 0; i < from->n; i++) {
                const SettingDocument *s = &items(from)[i];

                r = put(ret, s->ns, s->option, s->value);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int apply(const JsonArray *before, const SettingsChange *change, JsonArray *ret,
                 Error **reterr) {
        int r;

        if (!change->reset) {
                r = copy_all(before, ret);
                if (r < 0)
                        return error_set(reterr, r, "copy the settings: %s", strerror(-r));
        }
        for (char *const *text = change->unset; text && *text; text++) {
                r = unset_one(ret, *text, reterr);
                if (r < 0)
                        return r;
        }
        for (char *const *text = change->set; text && *text; text++) {
                r = set_one(ret, *text, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void clear(JsonArray *array) {
        for (size_t i = 0; i < array->n; i++)
                json_table_done(&setting_document_table, &items(array)[i]);
        free(array->items);
        *array = (JsonArray){ 0 };
}

int change_settings(const JsonArray *before, const SettingsChange *change, JsonArray *ret,
                    Error **reterr) {
        int r;

        r = apply(before, change, ret, reterr);
        if (r < 0) {
                clear(ret);
                return r;
        }
        if (ret->n > 1)
                qsort(ret->items, ret->n, sizeof(SettingDocument), compare_settings);
        return 0;
}

size_t change_visit(const JsonArray *before, const JsonArray *after, ChangeVisit visit,
                    void *userdata) {
        size_t n = 0;

        for (size_t i = 0; i < before->n; i++) {
                const SettingDocument *s = &items(before)[i], *then = find(after, s->ns, s->option);

                if (then && str_equal(then->value, s->value))
                        continue;
                visit(userdata, s->ns, s->option, s->value, then ? then->value : NULL);
                n++;
        }
        for (size_t i = 0; i < after->n; i++) {
                const SettingDocument *s = &items(after)[i];

                if (find(before, s->ns, s->option))
                        continue;
                visit(userdata, s->ns, s->option, NULL, s->value);
                n++;
        }
        return n;
}

char *change_shown(const char *option, const char *value) {
        _cleanup_free_ char *printable = NULL;
        size_t size;

        if (!value)
                return NULL;
        if (config_name_is_secret(option))
                return strdup("***");
        size = strlen(value);
        printable = str_printable(value, MIN(size, (size_t) SHOWN_BYTES));
        return printable ? str_format("%s%s", printable, size > SHOWN_BYTES ? "..." : "") : NULL;
}
