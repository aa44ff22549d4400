#include "control/args.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/contract.h"
#include "base/str.h"
#include "base/time.h"

typedef struct Values {
        bool flag;
        const char *text;
        usec_t span;
        uint64_t count;
        char **list;
} Values;

/* Splits a line at its blanks, parses it, and gives the words joined by '|'. */
static int parse(const char *line, Values *v, char *ret_words, size_t size) {
        const ArgOption options[] = {
                { "flag", ARG_FLAG, &v->flag, NULL, "A flag" },
                { "text", ARG_TEXT, &v->text, "TEXT", "A text" },
                { "span", ARG_SPAN, &v->span, "SPAN", "A span" },
                { "count", ARG_COUNT, &v->count, "N", "A number" },
                { "set", ARG_LIST, &v->list, "X", "A list" },
                { 0 },
        };
        const ArgCommand command = { "verb", "[A [B]]", "Help.\n", options, 0, 2 };
        static char copy[512];
        char *argv[32] = { (char[]){ "verb" } }, **words = NULL, *save = NULL;
        int argc = 1, r;

        (void) snprintf(copy, sizeof(copy), "%s", line);
        for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
                argv[argc++] = w;

        r = args_parse(&command, argc, argv, &words);
        ret_words[0] = '\0';
        for (size_t n = 0; r == 0 && *words; words++)
                n += (size_t) snprintf(ret_words + n, size - n, "%s|", *words);
        return r;
}

/* What a function says on stderr or stdout. */
static char *capture(FILE **stream, int (*run)(const char *line), const char *line, int *ret) {
        char *text = NULL;
        size_t size;
        FILE *old = *stream;

        *stream = open_memstream(&text, &size);
        assert_non_null(*stream);
        *ret = run(line);
        (void) fclose(*stream);
        *stream = old;
        return text;
}

static int parse_only(const char *line) {
        Values v = { 0 };
        char words[256];
        int r = parse(line, &v, words, sizeof(words));

        strv_free(v.list);
        return r;
}

static void assert_refused(const char *line, const char *expected) {
        _cleanup_free_ char *text = NULL;
        int r;

        text = capture(&stderr, parse_only, line, &r);
        assert_int_equal(r, -EINVAL);
        if (!strstr(text, expected))
                fail_msg("%s: no \"%s\" in: %s", line, expected, text);
        assert_string_equal(text + strlen(text) - 1, "\n");
        assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void test_values(_unused_ void **state) {
        Values v = { 0 };
        char words[256];

        assert_int_equal(parse("one --flag --text a=b --span=1.5s two --count 7 --set x --set=y=z",
                               &v, words, sizeof(words)),
                         0);
        assert_string_equal(words, "one|two|");
        assert_true(v.flag);
        assert_string_equal(v.text, "a=b");
        assert_int_equal(v.span, 1500000);
        assert_int_equal(v.count, 7);
        assert_int_equal(strv_count(v.list), 2);
        assert_string_equal(v.list[1], "y=z");
        strv_free(v.list);
}

static void test_words(_unused_ void **state) {
        Values v = { 0 };
        char words[256];

        assert_int_equal(parse("", &v, words, sizeof(words)), 0);
        assert_string_equal(words, "");
        assert_int_equal(parse("-", &v, words, sizeof(words)), 0);
        assert_string_equal(words, "-|");
        assert_int_equal(parse("-- --flag -x", &v, words, sizeof(words)), 0);
        assert_string_equal(words, "--flag|-x|");
        assert_false(v.flag);
        assert_int_equal(parse("--text --flag", &v, words, sizeof(words)), 0);
        assert_string_equal(v.text, "--flag");
        assert_int_equal(parse("--text=", &v, words, sizeof(words)), 0);
        assert_string_equal(v.text, "");
}

static void test_refused(_unused_ void **state) {
        assert_refused("--falg",
                       "unknown option --falg; did you mean --flag? (see tendril verb --help)");
        assert_refused("--tex", "did you mean --text?");
        assert_refused("--hepl", "did you mean --help?");
        assert_refused("--zzzzzz", "unknown option --zzzzzz (see");
        assert_refused("-x", "unknown option -x");
        assert_refused("--flag=1", "--flag takes no value");
        assert_refused("--text", "--text needs a value");
        assert_refused("--span soon", "\"soon\" is not a span of time");
        assert_refused("--count -1", "\"-1\" is not a number");
        assert_refused("--count 18446744073709551616", "is not a number");
        assert_refused("a b c", "unexpected argument \"c\"");
}

static int parse_missing(_unused_ const char *line) {
        const ArgCommand command = { "verb", "BUNDLE", "Help.\n", NULL, 1, 1 };
        char *argv[] = { (char[]){ "verb" }, NULL }, **words;

        return args_parse(&command, 1, argv, &words);
}

static void test_missing(_unused_ void **state) {
        _cleanup_free_ char *text = NULL;
        int r;

        text = capture(&stderr, parse_missing, NULL, &r);
        assert_int_equal(r, -EINVAL);
        assert_non_null(strstr(text, "something is missing: BUNDLE"));
}

static void test_help(_unused_ void **state) {
        static const char *const lines[] = { "--help", "-h", "a --flag --help", "a b c --help" };

        for (size_t i = 0; i < ELEMENTS(lines); i++) {
                _cleanup_free_ char *text = NULL;
                int r;

                text = capture(&stdout, parse_only, lines[i], &r);
                assert_int_equal(r, ARGS_HELP);
                assert_non_null(strstr(
                        text, "Usage: tendril verb [OPTIONS] [A [B]]\n\nHelp.\n\nOptions:\n"));
                assert_non_null(strstr(text, "  --span SPAN             A span\n"));
                assert_non_null(strstr(text, "--root DIR"));
        }
}

static void test_environment(_unused_ void **state) {
        assert_int_equal(unsetenv(ARGS_ENV_ROOT), 0);
        assert_int_equal(parse_only("--root /r --socket=/s"), 0);
        assert_string_equal(getenv(ARGS_ENV_ROOT), "/r");
        assert_string_equal(getenv(ARGS_ENV_SOCKET), "/s");
        assert_int_equal(unsetenv(ARGS_ENV_ROOT), 0);
        assert_int_equal(unsetenv(ARGS_ENV_SOCKET), 0);
}

static void test_leading(_unused_ void **state) {
        bool flag = false;
        const ArgOption options[] = { { "flag", ARG_FLAG, &flag, NULL, "A flag" }, { 0 } };
        const ArgCommand command = { NULL, "VERB", "Help.\n", options, 0, 0 };
        char *argv[] = { (char[]){ "tendril" },
                         (char[]){ "--flag" },
                         (char[]){ "--root" },
                         (char[]){ "/x" },
                         (char[]){ "verb" },
                         (char[]){ "--other" },
                         NULL };
        int n = 0;

        assert_int_equal(args_parse_leading(&command, 6, argv, &n), 0);
        assert_int_equal(n, 4);
        assert_true(flag);
        assert_string_equal(getenv(ARGS_ENV_ROOT), "/x");
        assert_int_equal(unsetenv(ARGS_ENV_ROOT), 0);
        assert_int_equal(args_parse_leading(&command, 1, argv, &n), 0);
        assert_int_equal(n, 1);
}

static void test_nearest(_unused_ void **state) {
        static const char *const names[] = { "status", "deploy",  "health",
                                             "logs",   "history", "explain" };
        static const char *const pairs[][2] = {
                { "statsu", "status" },
                { "stat", "status" },
                { "dpeloy", "deploy" },
                { "deploi", "deploy" },
                { "log", "logs" },
                { "hist", "history" },
                { "healht", "health" },
                { "xyz", NULL },
                { "s", NULL },
                { "", NULL },
                { "explains", "explain" },
                { "averyveryveryverylongwordindeedthatnobodymeans", NULL },
        };

        for (size_t i = 0; i < ELEMENTS(pairs); i++) {
                const char *nearest = args_nearest(pairs[i][0], names, ELEMENTS(names));

                if (!str_equal(nearest, pairs[i][1]))
                        fail_msg("%s: %s, not %s", pairs[i][0], nearest ?: "none",
                                 pairs[i][1] ?: "none");
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_values),  cmocka_unit_test(test_words),
                cmocka_unit_test(test_refused), cmocka_unit_test(test_missing),
                cmocka_unit_test(test_help),    cmocka_unit_test(test_environment),
                cmocka_unit_test(test_leading), cmocka_unit_test(test_nearest),
        };

        return cmocka_run_group_tests_name("args", tests, NULL, NULL);
}
