#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/str.h"
#include "control/change.h"
#include "store/document.h"

#define S(text)    ((char[]){ text })
#define WORDS(...) ((char *[]){ __VA_ARGS__, NULL })

static void settings_done(JsonArray *settings) {
        SettingDocument *s = settings->items;

        for (size_t i = 0; i < settings->n; i++)
                json_table_done(&setting_document_table, &s[i]);
        free(settings->items);
        *settings = (JsonArray){ 0 };
}

/* "ns:option=value ns:option=value" */
static char *text_of(const JsonArray *settings) {
        const SettingDocument *s = settings->items;
        _cleanup_(buf_done) Buf text = BUF_INIT(1 << 20);

        for (size_t i = 0; i < settings->n; i++)
                assert_int_equal(buf_printf(&text, "%s%s:%s=%s", i ? " " : "", s[i].ns, s[i].option,
                                            s[i].value),
                                 0);
        return strdup(buf_str(&text));
}

static void assert_settings(const JsonArray *settings, const char *expected) {
        _cleanup_free_ char *text = text_of(settings);

        assert_string_equal(text, expected);
}

static int apply(const JsonArray *before, const SettingsChange *change, JsonArray *ret,
                 char words[256]) {
        _cleanup_(error_freep) Error *err = NULL;
        int r = change_settings(before, change, ret, &err);

        assert_true((r < 0) == (err != NULL));
        (void) snprintf(words, 256, "%s", err ? error_text(err) : "");
        return r;
}

static void test_set_unset_reset(void **state) {
        JsonArray none = { 0 }, first = { 0 }, second = { 0 }, third = { 0 };
        char words[256];

        (void) state;
        assert_int_equal(apply(&none,
                               &(SettingsChange){ .set = WORDS(S("b:y:O=2"), S("a:x=1=1"),
                                                               S("b:y:N="), S("a:x=3")) },
                               &first, words),
                         0);
        /* In order of namespace and option; the last word on a setting counts. */
        assert_settings(&first, "a:x=3 b:y:N= b:y:O=2");
        assert_int_equal(
                apply(&first,
                      &(SettingsChange){ .set = WORDS(S("c:z=4")), .unset = WORDS(S("b:y:N")) },
                      &second, words),
                0);
        assert_settings(&second, "a:x=3 b:y:O=2 c:z=4");
        assert_settings(&first, "a:x=3 b:y:N= b:y:O=2");
        assert_int_equal(apply(&second,
                               &(SettingsChange){ .set = WORDS(S("d:w=5")), .reset = true }, &third,
                               words),
                         0);
        assert_settings(&third, "d:w=5");
        settings_done(&first);
        settings_done(&second);
        settings_done(&third);
}

static void refused(SettingsChange change, int expected, const char *say) {
        JsonArray before = { 0 }, after = { 0 };
        char words[256];

        assert_int_equal(
                apply(&before, &(SettingsChange){ .set = WORDS(S("a:x=1")) }, &before, words), 0);
        assert_int_equal(apply(&before, &change, &after, words), expected);
        if (!strstr(words, say))
                fail_msg("\"%s\" does not say \"%s\"", words, say);
        assert_int_equal(after.n, 0);
        settings_done(&before);
}

static void test_refused(void **state) {
        _cleanup_free_ char *long_value = str_format("a:b=%0*d", LIMIT_SETTING_VALUE_BYTES + 1, 0);

        (void) state;
        assert_non_null(long_value);
        refused((SettingsChange){ .set = WORDS(S("a:x")) }, -EINVAL, "namespace:option=value");
        refused((SettingsChange){ .set = WORDS(S("x=1")) }, -EINVAL, "namespace:option=value");
        refused((SettingsChange){ .set = WORDS(S(":x=1")) }, -EINVAL, "namespace:option=value");
        refused((SettingsChange){ .set = WORDS(S("a:=1")) }, -EINVAL, "namespace:option=value");
        refused((SettingsChange){ .set = WORDS(S("=1")) }, -EINVAL, "namespace:option=value");
        refused((SettingsChange){ .set = WORDS(S("a\n:x=1")) }, -EINVAL, "namespace:option=value");
        refused((SettingsChange){ .set = WORDS(S("a:x=\xff")) }, -EINVAL, "UTF-8");
        refused((SettingsChange){ .set = WORDS(long_value) }, -EFBIG, "longer");
        refused((SettingsChange){ .unset = WORDS(S("a:y")) }, -EINVAL, "no such setting");
        refused((SettingsChange){ .unset = WORDS(S("y")) }, -EINVAL, "namespace:option");
        refused((SettingsChange){ .unset = WORDS(S("a:x")), .reset = true }, -EINVAL,
                "no such setting");
}

static void test_too_many(void **state) {
        _cleanup_(strv_freep) char **set = NULL;
        JsonArray none = { 0 }, after = { 0 };
        char words[256];

        (void) state;
        for (unsigned i = 0; i < LIMIT_SETTINGS + 1; i++) {
                _cleanup_free_ char *text = str_format("n:o%u=1", i);

                assert_int_equal(strv_add(&set, LIMIT_SETTINGS + 1, text), 0);
        }
        assert_int_equal(apply(&none, &(SettingsChange){ .set = set }, &after, words), -E2BIG);
        assert_non_null(strstr(words, "at most"));
}

static void note(void *userdata, const char *ns, const char *option, const char *before,
                 const char *after) {
        Buf *text = userdata;

        assert_int_equal(buf_printf(text, "[%s:%s %s>%s]", ns, option, before ? before : "-",
                                    after ? after : "-"),
                         0);
}

static void test_differences(void **state) {
        JsonArray none = { 0 }, a = { 0 }, b = { 0 };
        _cleanup_(buf_done) Buf text = BUF_INIT(4096);
        char words[256];

        (void) state;
        assert_int_equal(apply(&none,
                               &(SettingsChange){
                                       .set = WORDS(S("n:gone=1"), S("n:same=2"), S("n:other=3")) },
                               &a, words),
                         0);
        assert_int_equal(
                apply(&none,
                      &(SettingsChange){ .set = WORDS(S("n:same=2"), S("n:other=4"), S("n:new=")) },
                      &b, words),
                0);
        assert_int_equal(change_visit(&a, &b, note, &text), 3);
        assert_string_equal(buf_str(&text), "[n:gone 1>-][n:other 3>4][n:new ->]");
        assert_int_equal(change_visit(&a, &a, note, &text), 0);
        settings_done(&a);
        settings_done(&b);
}

static void shown(const char *option, const char *value, const char *expected) {
        _cleanup_free_ char *text = change_shown(option, value);

        assert_string_equal(text, expected);
}

static void test_shown(void **state) {
        char value[101];

        (void) state;
        shown("DB_PASSWORD", "hunter2", "***");
        shown("PORT", "8080", "8080");
        shown("PORT", "a\033[31mb", "a?[31mb");
        memset(value, 'v', 100);
        value[100] = '\0';
        {
                _cleanup_free_ char *text = change_shown("O", value);

                assert_int_equal(strlen(text), 83);
        }
        assert_null(change_shown("O", NULL));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_set_unset_reset), cmocka_unit_test(test_refused),
                cmocka_unit_test(test_too_many),        cmocka_unit_test(test_differences),
                cmocka_unit_test(test_shown),
        };

        return cmocka_run_group_tests_name("change", tests, NULL, NULL);
}
