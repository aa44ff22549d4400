#include "control/args.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>

#include "agent/contract.h"
#include "base/str.h"
#include "base/time.h"

/* Longer names are not compared: nobody means one of ours by them. */
#define NAME_MAX_BYTES 31

#define LIST_MAX 4096

#define COMMON_OPTIONS 3

/* What one run of the parser knows. */
typedef struct Parser {
        const ArgCommand *command;
        char **argv;
        int argc;
        int i; /* the argument being read */
        bool help;
} Parser;

static size_t count_options(const ArgCommand *command) {
        size_t n = 0;

        for (; command->options && command->options[n].name; n++)
                ;
        return n;
}

static unsigned least(unsigned a, unsigned b, unsigned c) {
        return MIN(MIN(a, b), c);
}

/* Edits (insert, delete, replace, swap of neighbours) between two names. */
static unsigned distance(const char *a, const char *b) {
        size_t n = strlen(a), m = strlen(b);
        unsigned d[NAME_MAX_BYTES + 1][NAME_MAX_BYTES + 1];

        if (n > NAME_MAX_BYTES || m > NAME_MAX_BYTES)
                return UINT_MAX;

        for (size_t i = 0; i <= n; i++)
                d[i][0] = (unsigned) i;
        for (size_t j = 0; j <= m; j++)
                d[0][j] = (unsigned) j;

        for (size_t i = 1; i <= n; i++)
                for (size_t j = 1; j <= m; j++) {
                        d[i][j] = least(d[i - 1][j] + 1, d[i][j - 1] + 1,
                                        d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                d[i][j] = MIN(d[i][j], d[i - 2][j - 2] + 1);
                }

        return d[n][m];
}

const char *args_nearest(const char *word, const char *const *names, size_t n) {
        const char *nearest = NULL;
        unsigned best = 0;

        assert(word);

        for (size_t i = 0; i < n; i++) {
                unsigned d = distance(word, names[i]);

                /* A third of the letters may be wrong, and a beginning of three or more counts as
                 * near. */
                if (strlen(word) >= 3 && str_has_prefix(names[i], word))
                        d = 1;
                else if (d > MAX(1U, (unsigned) strlen(names[i]) / 3))
                        continue;
                if (!nearest || d < best) {
                        nearest = names[i];
                        best = d;
                }
        }
        return nearest;
}

int args_usage(const char *verb, const char *format, ...) {
        va_list ap;

        (void) fprintf(stderr, "tendril%s%s: ", verb ? " " : "", verb ?: "");
        va_start(ap, format);
        (void) vfprintf(stderr, format, ap);
        va_end(ap);
        (void) fprintf(stderr, " (see tendril%s%s --help)\n", verb ? " " : "", verb ?: "");
        return EXIT_CODE_USAGE;
}

static void print_option(FILE *to, const char *name, const char *value, const char *help) {
        char left[64];

        (void) snprintf(left, sizeof(left), "--%s%s%s", name, value ? " " : "", value ?: "");
        (void) fprintf(to, "  %-22s  %s\n", left, help);
}

void args_print_help(const ArgCommand *command, FILE *to) {
        assert(command);

        (void) fprintf(to, "Usage: tendril %s%s[OPTIONS]%s%s\n\n%s\nOptions:\n",
                       command->name ?: "", command->name ? " " : "", command->words ? " " : "",
                       command->words ?: "", command->help);
        for (size_t i = 0; i < count_options(command); i++)
                print_option(to, command->options[i].name, command->options[i].value,
                             command->options[i].help);
        print_option(to, "root", "DIR", "All paths are below this folder (or " ARGS_ENV_ROOT ")");
        print_option(to, "socket", "PATH", "Socket of the agent (or " ARGS_ENV_SOCKET ")");
        print_option(to, "help", NULL, "Print this text");
}

static int refuse_option(const Parser *p, const char *text, size_t size) {
        const char *names[64] = { "help", "root", "socket" };
        size_t n = COMMON_OPTIONS;
        _cleanup_free_ char *name = strndup(text, size);
        const char *nearest = NULL;

        for (size_t i = 0; i < count_options(p->command) && n < ELEMENTS(names); i++)
                names[n++] = p->command->options[i].name;
        if (name)
                nearest = args_nearest(name, names, n);

        if (nearest)
                (void) args_usage(p->command->name, "unknown option --%s; did you mean --%s?", name,
                                  nearest);
        else
                (void) args_usage(p->command->name, "unknown option --%.*s", (int) MIN(size, 100U),
                                  text);
        return -EINVAL;
}

static int set_environment(const Parser *p, const char *name, const char *value) {
        if (setenv(name, value, true) == 0)
                return 0;
        (void) args_usage(p->command->name, "%s: %s", name, strerror(errno));
        return -EINVAL;
}

static int set_number(const Parser *p, const ArgOption *option, const char *value) {
        bool is_span = option->kind == ARG_SPAN;
        int r;

        r = is_span ? time_parse_span(value, option->at) : str_to_u64(value, option->at);
        if (r < 0)
                (void) args_usage(p->command->name, "--%s: \"%s\" is not %s", option->name, value,
                                  is_span ? "a span of time such as 30s, 5m or 2h" : "a number");
        return r < 0 ? -EINVAL : 0;
}

static int set_value(const Parser *p, const ArgOption *option, const char *value) {
        switch (option->kind) {
        case ARG_FLAG:
                *(bool *) option->at = true;
                return 0;
        case ARG_TEXT:
                *(const char **) option->at = value;
                return 0;
        case ARG_SPAN:
        case ARG_COUNT:
                return set_number(p, option, value);
        case ARG_LIST:
                if (strv_add(option->at, LIST_MAX, value) == 0)
                        return 0;
                (void) args_usage(p->command->name, "--%s: it was given too often", option->name);
                return -EINVAL;
        }
        return -EINVAL;
}

/* The value of the option that is being read: what follows '=', else the next argument. */
static int take_value(Parser *p, const char *name, const char *equal, const char **ret) {
        if (equal) {
                *ret = equal + 1;
                return 0;
        }
        if (p->i + 1 >= p->argc) {
                (void) args_usage(p->command->name, "--%s needs a value", name);
                return -EINVAL;
        }
        *ret = p->argv[++p->i];
        return 0;
}

static bool is_name(const char *text, size_t size, const char *name) {
        return strlen(name) == size && memcmp(text, name, size) == 0;
}

static int read_own_option(Parser *p, const ArgOption *option, const char *equal) {
        const char *value = NULL;
        int r;

        if (option->kind == ARG_FLAG && equal) {
                (void) args_usage(p->command->name, "--%s takes no value", option->name);
                return -EINVAL;
        }
        if (option->kind != ARG_FLAG) {
                r = take_value(p, option->name, equal, &value);
                if (r < 0)
                        return r;
        }
        return set_value(p, option, value);
}

static int read_common_option(Parser *p, const char *text, size_t size, const char *equal) {
        const char *value = NULL;
        bool is_root = is_name(text, size, "root");
        int r;

        if (!is_root && !is_name(text, size, "socket"))
                return refuse_option(p, text, size);

        r = take_value(p, is_root ? "root" : "socket", equal, &value);
        if (r < 0)
                return r;
        return set_environment(p, is_root ? ARGS_ENV_ROOT : ARGS_ENV_SOCKET, value);
}

/* One argument that begins with "--" (or is -h). */
static int read_option(Parser *p) {
        const char *text = p->argv[p->i], *equal;
        size_t size;

        if (str_equal(text, "-h") || str_equal(text, "--help")) {
                p->help = true;
                return 0;
        }
        if (text[1] != '-') {
                (void) args_usage(p->command->name, "unknown option %.100s", text);
                return -EINVAL;
        }

        text += 2;
        equal = strchr(text, '=');
        size = equal ? (size_t) (equal - text) : strlen(text);

        for (size_t i = 0; i < count_options(p->command); i++)
                if (is_name(text, size, p->command->options[i].name))
                        return read_own_option(p, &p->command->options[i], equal);
        return read_common_option(p, text, size, equal);
}

static int check_words(const ArgCommand *command, size_t n, char *const *words) {
        if (n > command->max_words) {
                (void) args_usage(command->name, "unexpected argument \"%.100s\"",
                                  words[command->max_words]);
                return -EINVAL;
        }
        if (n < command->min_words) {
                (void) args_usage(command->name, "something is missing: %s", command->words);
                return -EINVAL;
        }
        return 0;
}

static bool is_option(const char *text) {
        return text[0] == '-' && text[1] != '\0';
}

int args_parse(const ArgCommand *command, int argc, char **argv, char ***ret_words) {
        Parser p = { .command = command, .argv = argv, .argc = argc, .i = 1 };
        bool only_words = false;
        int n_words = 0, r;

        assert(command);
        assert(argc > 0 && argv);
        assert(ret_words);

        for (; p.i < argc; p.i++) {
                if (only_words || !is_option(argv[p.i])) {
                        argv[1 + n_words++] = argv[p.i];
                        continue;
                }
                if (str_equal(argv[p.i], "--")) {
                        only_words = true;
                        continue;
                }
                r = read_option(&p);
                if (r < 0)
                        return r;
        }
        argv[1 + n_words] = NULL;

        if (p.help) {
                args_print_help(command, stdout);
                return ARGS_HELP;
        }
        r = check_words(command, (size_t) n_words, argv + 1);
        if (r < 0)
                return r;

        *ret_words = argv + 1;
        return 0;
}

int args_parse_leading(const ArgCommand *command, int argc, char **argv, int *ret_n) {
        Parser p = { .command = command, .argv = argv, .argc = argc, .i = 1 };
        int r;

        assert(command);
        assert(ret_n);

        for (; p.i < argc && is_option(argv[p.i]); p.i++) {
                if (str_equal(argv[p.i], "--")) {
                        p.i++;
                        break;
                }
                r = read_option(&p);
                if (r < 0)
                        return r;
        }

        *ret_n = MIN(p.i, argc);
        return p.help ? ARGS_HELP : 0;
}
