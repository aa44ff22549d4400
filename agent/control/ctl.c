#include "control/ctl.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/str.h"

/* What the agent's loop may be away for. */
#define ANSWER_USEC SEC(30)

/* How often an agent that is not there yet is looked for. */
#define CONNECT_AGAIN_MSEC 100

#define CELLS_MAX 10000

/* clang-format off */
const CtlVerb ctl_verbs[] = {
        { "status",   "How this host is: version, deploy, processes, store", ctl_run_status },
        { "health",   "Whether the application answers well",                ctl_run_health },
        { "explain",  "Why the host is as it is; or its credentials",        ctl_run_explain },
        { "history",  "What was deployed here, and how it went",             ctl_run_history },
        { "logs",     "The log of a deploy, with the output of its hooks",   ctl_run_logs },
        { "deploy",   "Deploy a bundle by hand, try again, or end a hold",   ctl_run_deploy },
        { "rollback", "Go back to the previous version",                     ctl_run_rollback },
        { "restart",  "Restart the application's processes",                 ctl_run_restart },
        { "wait",     "Wait for a deploy, or for the host to be well",       ctl_run_wait },
        { "config",   "Show or check tendril.yaml",                          ctl_run_config },
        { "fsck",     "Check the state on disk, and mend it",                ctl_run_fsck },
        { "reload",   "Have the agent read its configuration again",         ctl_run_reload },
        { "version",  "Versions of this command and of the agent",           ctl_run_version },
        { NULL, NULL, NULL },
};
/* clang-format on */

static int exit_code_of(int r) {
        switch (-r) {
        case EPERM:
        case EACCES:
                return EXIT_CODE_REFUSED;
        case EBUSY:
                return EXIT_CODE_CONFLICT;
        case ENOENT:
        case ENOTDIR:
        case ECONNREFUSED:
        case ECONNRESET:
        case ETIMEDOUT:
                return EXIT_CODE_UNREACHABLE;
        default:
                return EXIT_CODE_FAILED;
        }
}

int ctl_fail(const char *verb, int r, const Error *err) {
        const char *text = err ? error_text(err) : strerror(-r);
        _cleanup_free_ char *printable = str_printable(text, strlen(text));

        (void) fflush(stdout);
        (void) fprintf(stderr, "tendril %s: %s\n", verb, printable ?: "no memory");
        return exit_code_of(r);
}

/* The root folder as an absolute path; the caller frees. NULL: as errno says. */
static char *resolve_root(void) {
        const char *root = getenv(ARGS_ENV_ROOT);

        if (str_is_empty(root) || root[0] == '/')
                return strdup(str_is_empty(root) ? "/" : root);
        return realpath(root, NULL);
}

int ctl_init(Ctl *ctl, const char *verb, bool json) {
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_free_ char *root = resolve_root();
        const char *socket = getenv(ARGS_ENV_SOCKET), *no_color = getenv("NO_COLOR");
        int r;

        assert(ctl);
        assert(verb);

        if (!root)
                return args_usage(verb, "--root %s: %s", getenv(ARGS_ENV_ROOT), strerror(errno));
        *ctl = (Ctl){ .verb = verb, .json = json, .terminal = isatty(fileno(stdout)) == 1 };
        ctl->color = ctl->terminal && str_is_empty(no_color);
        r = paths_init(root, &ctl->paths, &err);
        if (r < 0)
                return ctl_fail(verb, r, err);
        ctl->socket = strdup(str_is_empty(socket) ? ctl->paths.socket : socket);
        return ctl->socket ? 0 : ctl_fail(verb, -ENOMEM, NULL);
}

void ctl_done(Ctl *ctl) {
        ctl->client = control_client_free(ctl->client);
        paths_done(&ctl->paths);
        free(ctl->socket);
        ctl->socket = NULL;
}

int ctl_connect(Ctl *ctl) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        if (ctl->client)
                return 0;
        r = control_client_new(ctl->socket, &ctl->client, &err);
        return r < 0 ? ctl_fail(ctl->verb, r, err) : 0;
}

int ctl_connect_within(Ctl *ctl, usec_t *left_usec) {
        usec_t now = clock_read(NULL, CLOCK_BOOTTIME), end = now + *left_usec;
        int r = 0;

        while (!ctl->client) {
                _cleanup_(error_freep) Error *err = NULL;

                r = control_client_new(ctl->socket, &ctl->client, &err);
                now = clock_read(NULL, CLOCK_BOOTTIME);
                if (r >= 0 || (r != -ENOENT && r != -ECONNREFUSED) || now >= end)
                        return r < 0 ? ctl_fail(ctl->verb, r, err) : 0;
                (void) poll(NULL, 0, CONNECT_AGAIN_MSEC);
        }
        *left_usec = end > now ? end - now : 1;
        return 0;
}

int ctl_call(Ctl *ctl, const char *method, const JsonTable *ask_table, const void *ask,
             const JsonTable *reply_table, void *reply, usec_t timeout_usec) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = ctl_connect(ctl);
        if (r != 0)
                return r;
        r = control_client_call(ctl->client, method, ask_table, ask, reply_table, reply,
                                timeout_usec > 0 ? timeout_usec : ANSWER_USEC, &err);
        return r < 0 ? ctl_fail(ctl->verb, r, err) : 0;
}

int ctl_print_json(const Ctl *ctl, const JsonTable *table, const void *object) {
        _cleanup_(buf_done) Buf text = BUF_INIT(2 * LIMIT_REPLY_BYTES);
        int r;

        r = json_encode(table, object, &text);
        if (r < 0)
                return ctl_fail(ctl->verb, r, NULL);
        (void) printf("%s\n", buf_str(&text));
        (void) fflush(stdout);
        return EXIT_CODE_OK;
}

void ctl_print_text(const char *text) {
        while (text && *text) {
                size_t n = strcspn(text, "\n\t");
                _cleanup_free_ char *printable = str_printable(text, n);

                (void) fputs(printable ?: "", stdout);
                text += n;
                if (*text)
                        (void) putchar(*text++);
        }
}

const char *ctl_color(const Ctl *ctl, CtlColor color) {
        static const char *const escapes[] = {
                [CTL_PLAIN] = "\033[0m", [CTL_GOOD] = "\033[32m", [CTL_BAD] = "\033[31m",
                [CTL_WARN] = "\033[33m", [CTL_DIM] = "\033[2m",   [CTL_BOLD] = "\033[1m",
        };

        return ctl->color ? escapes[color] : "";
}

int ctl_table_add(char ***cells, ...) {
        va_list ap;
        int r = 0;

        va_start(ap, cells);
        for (;;) {
                const char *cell = va_arg(ap, const char *);

                if (cell == CTL_END || r < 0)
                        break;
                r = strv_add(cells, CELLS_MAX, str_is_empty(cell) ? "-" : cell);
        }
        va_end(ap);
        return r;
}

/* Characters of a UTF-8 text. */
static int text_width(const char *text) {
        int n = 0;

        for (; *text; text++)
                n += ((unsigned char) *text & 0xc0) != 0x80;
        return n;
}

static int column_width(const char *head, char *const *cells, size_t n_columns, size_t column) {
        int width = text_width(head);

        for (size_t i = column, n = strv_count(cells); i < n; i += n_columns)
                width = MAX(width, text_width(cells[i]));
        return width;
}

/* The last column is not padded. */
static void print_cell(const char *text, int width, bool last) {
        (void) fputs(text, stdout);
        if (last)
                (void) putchar('\n');
        else
                (void) printf("%*s", width - text_width(text) + 2, "");
}

void ctl_print_table(const Ctl *ctl, const char *const *heads, size_t n_columns,
                     char *const *cells) {
        size_t n = strv_count(cells);
        int widths[16];

        assert(n_columns > 0 && n_columns <= ELEMENTS(widths));

        if (n == 0)
                return;
        for (size_t i = 0; i < n_columns; i++)
                widths[i] = column_width(heads[i], cells, n_columns, i);

        (void) fputs(ctl_color(ctl, CTL_DIM), stdout);
        for (size_t i = 0; i < n_columns; i++)
                print_cell(heads[i], widths[i], i + 1 == n_columns);
        (void) fputs(ctl_color(ctl, CTL_PLAIN), stdout);
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *printable = str_printable(cells[i], strlen(cells[i]));

                print_cell(printable ?: "?", widths[i % n_columns], i % n_columns + 1 == n_columns);
        }
}
