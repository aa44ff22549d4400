#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "base/str.h"
#include "control/ctl.h"
#include "deploy/fsck.h"
#include "host/config.h"

extern char **environ;

#define VALUES_MAX   4096
#define FINDINGS_MAX 4096

/* ---- config ---- */

typedef struct ValueRow {
        char *name;
        char *value;
        char *source;
} ValueRow;

typedef struct ValueRows {
        JsonArray values;
} ValueRows;

/* clang-format off */
static const JsonField value_fields[] = {
        { .name = "name",   .kind = JSON_KIND_STRING, .offset = offsetof(ValueRow, name) },
        { .name = "value",  .kind = JSON_KIND_STRING, .offset = offsetof(ValueRow, value) },
        { .name = "source", .kind = JSON_KIND_STRING, .offset = offsetof(ValueRow, source) },
        { 0 },
};
static const JsonTable value_table = { value_fields, sizeof(ValueRow) };

static const JsonField values_fields[] = {
        { .name = "values", .kind = JSON_KIND_ARRAY, .offset = offsetof(ValueRows, values), .max = VALUES_MAX, .table = &value_table },
        { 0 },
};
static const JsonTable values_table = { values_fields, sizeof(ValueRows) };
/* clang-format on */

static int on_value(void *userdata, const char *path, const char *value, const char *source) {
        ValueRow *row = json_array_add(userdata, &value_table, VALUES_MAX);

        if (!row)
                return -ENOMEM;
        row->name = strdup(path);
        row->value = strdup(value ?: "");
        row->source = strdup(source ?: "");
        return row->name && row->value && row->source ? 0 : -ENOMEM;
}

static int print_values(const Ctl *ctl, const ValueRows *rows) {
        static const char *const heads[] = { "KEY", "VALUE", "FROM" };
        _cleanup_(strv_freep) char **cells = NULL;
        const ValueRow *row = rows->values.items;

        if (ctl->json)
                return ctl_print_json(ctl, &values_table, rows);
        for (size_t i = 0; i < rows->values.n; i++)
                if (ctl_table_add(&cells, row[i].name, row[i].value, row[i].source, CTL_END) < 0)
                        return ctl_fail(ctl->verb, -ENOMEM, NULL);
        ctl_print_table(ctl, heads, ELEMENTS(heads), cells);
        return EXIT_CODE_OK;
}

static int show_config(Ctl *ctl) {
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        ValueRows rows = { 0 };
        int r;

        r = config_load(&ctl->paths, environ, &config, &err);
        if (r < 0)
                return ctl_fail(ctl->verb, r, err);
        r = config_visit(config, on_value, &rows.values);
        r = r < 0 ? ctl_fail(ctl->verb, r, NULL) : print_values(ctl, &rows);
        json_table_done(&values_table, &rows);
        return r;
}

/* One file instead of the host's own, without drop-ins and environment. */
static int load_file(Ctl *ctl, const char *file, Config **ret, Error **reterr) {
        char *path = realpath(file, NULL);

        if (!path)
                return error_set(reterr, -errno, "%s: %s", file, strerror(errno));
        free(ctl->paths.config);
        ctl->paths.config = path;
        free(ctl->paths.config_dir);
        ctl->paths.config_dir = strdup("/proc/self/no-drop-ins");
        if (!ctl->paths.config_dir)
                return error_set(reterr, -ENOMEM, "no memory");
        return config_load(&ctl->paths, NULL, ret, reterr);
}

static int check_config(Ctl *ctl, const char *file) {
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = file ? load_file(ctl, file, &config, &err)
                 : config_load(&ctl->paths, environ, &config, &err);
        if (r < 0) {
                (void) ctl_fail(ctl->verb, r, err);
                return EXIT_CODE_FAILED;
        }
        if (ctl->json)
                (void) printf("{\"ok\":true}\n");
        else
                (void) printf("%s is good.\n", file ?: ctl->paths.config);
        return EXIT_CODE_OK;
}

int ctl_run_config(int argc, char **argv) {
        _cleanup_(ctl_done) Ctl ctl = { 0 };
        bool json = false, check;
        char **words;
        const ArgOption options[] = {
                { "json", ARG_FLAG, &json, NULL, "One JSON object" },
                { 0 },
        };
        const ArgCommand command = {
                .name = argv[0],
                .words = "[show | check [FILE]]",
                .help = "show: every value of tendril.yaml, its drop-ins and the environment, and "
                        "where it\n"
                        "came from. Secrets are shown as ***.\n"
                        "check: whether the configuration (or that one file) is good; what is "
                        "wrong is told\n"
                        "with file, line and key, and the exit code is 1. The agent need not "
                        "run.\n",
                .options = options,
                .max_words = 2,
        };
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r == ARGS_HELP ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        check = str_equal(words[0], "check");
        if (words[0] && !check && !str_equal(words[0], "show"))
                return args_usage(argv[0], "\"%.100s\" is neither show nor check", words[0]);
        if (words[0] && words[1] && !check)
                return args_usage(argv[0], "unexpected argument \"%.100s\"", words[1]);
        r = ctl_init(&ctl, argv[0], json);
        if (r != 0)
                return r;
        return check ? check_config(&ctl, words[1]) : show_config(&ctl);
}

/* ---- fsck ---- */

typedef struct FindingRow {
        char *what;
        char *mend;
        bool mended;
} FindingRow;

typedef struct FindingRows {
        JsonArray findings;
        uint64_t left; /* not mended */
} FindingRows;

/* clang-format off */
static const JsonField finding_fields[] = {
        { .name = "what",   .kind = JSON_KIND_STRING, .offset = offsetof(FindingRow, what) },
        { .name = "mend",   .kind = JSON_KIND_STRING, .offset = offsetof(FindingRow, mend) },
        { .name = "mended", .kind = JSON_KIND_BOOL,   .offset = offsetof(FindingRow, mended) },
        { 0 },
};
static const JsonTable finding_table = { finding_fields, sizeof(FindingRow) };

static const JsonField findings_fields[] = {
        { .name = "findings", .kind = JSON_KIND_ARRAY, .offset = offsetof(FindingRows, findings), .max = FINDINGS_MAX, .table = &finding_table },
        { .name = "left",     .kind = JSON_KIND_U64,   .offset = offsetof(FindingRows, left) },
        { 0 },
};
static const JsonTable findings_table = { findings_fields, sizeof(FindingRows) };
/* clang-format on */

static void on_finding(void *userdata, const FsckFinding *finding) {
        FindingRow *row = json_array_add(userdata, &finding_table, FINDINGS_MAX);

        if (!row)
                return;
        row->what = strdup(finding->what);
        row->mend = finding->mend ? strdup(finding->mend) : NULL;
        row->mended = finding->mended;
}

static void print_findings(const Ctl *ctl, const FindingRows *rows, bool repair) {
        const FindingRow *f = rows->findings.items;

        for (size_t i = 0; i < rows->findings.n; i++) {
                (void) fputs(ctl_color(ctl, f[i].mended ? CTL_WARN : CTL_BAD), stdout);
                ctl_print_text(f[i].what);
                (void) printf("%s\n  %s: ", ctl_color(ctl, CTL_PLAIN),
                              f[i].mended ? "mended"
                              : f[i].mend ? "--repair would"
                                          : "to do");
                ctl_print_text(f[i].mend ?: "this needs a person; see tendrild(8), FILES");
                (void) putchar('\n');
        }
        if (rows->findings.n == 0)
                (void) printf("The state on disk is good.\n");
        else if (rows->left > 0)
                (void) printf("%llu of %zu findings %s.\n", (unsigned long long) rows->left,
                              rows->findings.n,
                              repair ? "could not be mended" : "are to be mended");
}

/* A running agent would write what is being mended. */
static int refuse_while_running(const Ctl *ctl) {
        _cleanup_(control_client_freep) ControlClient *client = NULL;

        if (control_client_new(ctl->socket, &client, NULL) < 0)
                return 0;
        (void) fprintf(
                stderr,
                "tendril %s: the agent runs; end it before --repair (systemctl stop tendrild)\n",
                ctl->verb);
        return EXIT_CODE_REFUSED;
}

static int check_state(Ctl *ctl, bool repair) {
        _cleanup_(error_freep) Error *err = NULL;
        FindingRows rows = { 0 };
        int r;

        r = fsck_run(&ctl->paths, repair, on_finding, &rows.findings, &err);
        if (r < 0) {
                json_table_done(&findings_table, &rows);
                return ctl_fail(ctl->verb, r, err);
        }

        rows.left = (uint64_t) r;
        if (ctl->json)
                (void) ctl_print_json(ctl, &findings_table, &rows);
        else
                print_findings(ctl, &rows, repair);
        json_table_done(&findings_table, &rows);
        return r > 0 ? EXIT_CODE_DAMAGED : EXIT_CODE_OK;
}

int ctl_run_fsck(int argc, char **argv) {
        _cleanup_(ctl_done) Ctl ctl = { 0 };
        bool json = false, repair = false;
        char **words;
        const ArgOption options[] = {
                { "repair", ARG_FLAG, &repair, NULL,
                  "Mend what can be mended; the agent must not run" },
                { "json", ARG_FLAG, &json, NULL, "One JSON object" },
                { 0 },
        };
        const ArgCommand command = {
                .name = argv[0],
                .help = "Checks all that the agent relies on in /var/lib/tendril and beside it, "
                        "and says\n"
                        "what it would mend. Nothing is changed without --repair. Exit code 0 when "
                        "all is\n"
                        "good, 8 when something is wrong (and was not mended).\n",
                .options = options,
        };
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r == ARGS_HELP ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        r = ctl_init(&ctl, argv[0], json);
        if (r == 0 && repair)
                r = refuse_while_running(&ctl);
        return r != 0 ? r : check_state(&ctl, repair);
}

/* ---- version ---- */

typedef struct VersionRow {
        char *tendril;
        char *tendrild; /* NULL: it does not answer */
} VersionRow;

/* clang-format off */
static const JsonField version_fields[] = {
        { .name = "tendril",  .kind = JSON_KIND_STRING, .offset = offsetof(VersionRow, tendril) },
        { .name = "tendrild", .kind = JSON_KIND_STRING, .offset = offsetof(VersionRow, tendrild) },
        { 0 },
};
static const JsonTable version_table = { version_fields, sizeof(VersionRow) };
/* clang-format on */

int ctl_run_version(int argc, char **argv) {
        _cleanup_(ctl_done) Ctl ctl = { 0 };
        ControlStatus status = { 0 };
        bool json = false;
        char **words;
        const ArgOption options[] = {
                { "json", ARG_FLAG, &json, NULL, "One JSON object" },
                { 0 },
        };
        const ArgCommand command = {
                .name = argv[0],
                .help = "Versions of this command and, where it answers, of the agent.\n",
                .options = options,
        };
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r == ARGS_HELP ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        r = ctl_init(&ctl, argv[0], json);
        if (r != 0)
                return r;

        /* That there is no agent, or that it does not answer this user, is no failure here. */
        if (control_client_new(ctl.socket, &ctl.client, NULL) == 0)
                (void) control_client_call(ctl.client, "Status", NULL, NULL, &control_status_table,
                                           &status, SEC(5), NULL);
        if (json)
                r = ctl_print_json(&ctl, &version_table,
                                   &(VersionRow){ (char[]){ TENDRIL_VERSION }, status.agent });
        else
                (void) printf("tendril %s\ntendrild %s\n", TENDRIL_VERSION,
                              status.agent ?: "does not answer");
        json_table_done(&control_status_table, &status);
        return r;
}
