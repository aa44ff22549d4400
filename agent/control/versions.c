#include "versions.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/str.h"
#include "control/ctl.h"
#include "control/storecmd.h"
#include "store/key.h"

#define VERSION_FILE "/version.json"
#define USED_BYTES   65536

/* clang-format off */
static const JsonField row_fields[] = {
        { .name = "version", .kind = JSON_KIND_STRING, .offset = offsetof(VersionRow, label) },
        { .name = "sha256", .kind = JSON_KIND_STRING, .offset = offsetof(VersionRow, sha256) },
        { .name = "size", .kind = JSON_KIND_U64, .offset = offsetof(VersionRow, size) },
        { .name = "created", .kind = JSON_KIND_STRING, .offset = offsetof(VersionRow, created) },
        { .name = "used", .kind = JSON_KIND_STRING, .offset = offsetof(VersionRow, used) },
        { .name = "error", .kind = JSON_KIND_STRING, .flags = JSON_OMIT_EMPTY, .offset = offsetof(VersionRow, error) },
        {},
};
static const JsonTable row_table = { row_fields, sizeof(VersionRow) };

static const JsonField rows_fields[] = {
        { .name = "versions", .kind = JSON_KIND_ARRAY, .offset = offsetof(VersionRows, rows), .max = VERSIONS_MAX, .table = &row_table },
        {},
};
const JsonTable version_rows_table = { rows_fields, sizeof(VersionRows) };
/* clang-format on */

typedef struct Versions {
        Session session;
        SessionOptions options;
        const char *application;
        bool prune, dry_run;
        uint64_t keep;
        usec_t older_usec;
} Versions;

static void versions_done(Versions *v) {
        session_done(&v->session);
        session_options_done(&v->options);
}

void version_rows_done(VersionRows *rows) {
        VersionRow *row = rows->rows.items;

        for (size_t i = 0; i < rows->rows.n; i++)
                free(row[i].etag);
        json_table_done(&version_rows_table, rows);
}

/* ---- reading ---- */

static int read_row(Session *s, const char *application, const char *label, VersionRow *ret) {
        _cleanup_(error_freep) Error *err = NULL;
        VersionDocument version = { 0 };
        int r;

        ret->label = strdup(label);
        if (!ret->label)
                return -ENOMEM;
        r = session_read_version(s, application, label, &version, &ret->etag, &err);
        if (r == -ENOMEM)
                return r;
        if (r != 0) {
                ret->error = strdup(r == STORE_ABSENT ? "removed meanwhile" : error_text(err));
                return ret->error ? 0 : -ENOMEM;
        }
        ret->sha256 = TAKE_PTR(version.bundle.sha256);
        ret->size = version.bundle.size;
        ret->created = TAKE_PTR(version.created);
        json_table_done(&version_document_table, &version);
        return 0;
}

/* "applications/shop/versions/1.0/version.json" → "1.0"; NULL for other names. */
static char *label_of(const char *prefix, const char *key) {
        const char *name = key + strlen(prefix);
        size_t n = strcspn(name, "/");
        char *label;

        if (!str_equal(name + n, VERSION_FILE))
                return NULL;
        label = strndup(name, n);
        if (label && !str_is_label(label)) {
                free(label);
                return NULL;
        }
        return label;
}

static int read_page(Session *s, const char *application, const char *prefix,
                     const SessionPage *page, VersionRows *ret) {
        int r;

        for (char **key = page->keys; key && *key; key++) {
                _cleanup_free_ char *label = label_of(prefix, *key);
                VersionRow *row;

                if (!label)
                        continue;
                row = json_array_add(&ret->rows, &row_table, VERSIONS_MAX);
                if (!row)
                        return -E2BIG;
                session_progress(s, "reading version %zu", ret->rows.n);
                r = read_row(s, application, label, row);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_rows(Session *s, const char *application, VersionRows *ret, Error **reterr) {
        _cleanup_free_ char *prefix = key_versions(application), *after = NULL;
        bool more = true;
        int r;

        if (!prefix)
                return -ENOMEM;
        while (more) {
                _cleanup_(session_page_done) SessionPage page = { 0 };
                size_t n;

                r = session_list(s, prefix, after, &page, reterr);
                if (r < 0)
                        return r;
                r = read_page(s, application, prefix, &page, ret);
                if (r < 0)
                        return error_set(reterr, r, "read the versions: %s", strerror(-r));
                n = strv_count(page.keys);
                more = page.more && n > 0;
                if (more) {
                        free(after);
                        after = strdup(page.keys[n - 1]);
                        if (!after)
                                return -ENOMEM;
                }
        }
        return 0;
}

/* ---- who names them ---- */

static int add_use(VersionRow *row, const char *environment, const char *what) {
        _cleanup_free_ char *used = NULL;

        if (row->used && strlen(row->used) > USED_BYTES)
                return 0;
        used = str_format("%s%s%s%s", row->used ?: "", row->used ? ", " : "", environment, what);
        if (!used)
                return -ENOMEM;
        free(row->used);
        row->used = TAKE_PTR(used);
        return 0;
}

/* Hosts fetch by label: another label with the same content is not needed by anybody. */
static bool is_named(const VersionRow *row, const VersionRef *ref) {
        return ref->label && str_equal(row->label, ref->label);
}

static int mark_used(VersionRows *rows, const char *environment, const DesiredDocument *desired) {
        VersionRow *row = rows->rows.items;
        int r = 0;

        for (size_t i = 0; r == 0 && i < rows->rows.n; i++) {
                if (is_named(&row[i], &desired->target))
                        r = add_use(&row[i], environment, "");
                else if (is_named(&row[i], &desired->base))
                        r = add_use(&row[i], environment, " (base)");
        }
        return r;
}

static int mark_environment(Session *s, const char *application, const char *environment,
                            VersionRows *rows, Error **reterr) {
        DesiredDocument desired = { 0 };
        int r;

        r = session_read_desired(s, environment, &desired, NULL, reterr);
        if (r == 0 && str_equal(desired.application, application))
                r = mark_used(rows, environment, &desired);
        json_table_done(&desired_document_table, &desired);
        return r < 0 ? r : 0;
}

static int mark_environments(Session *s, const char *application, bool strict, VersionRows *rows) {
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        r = session_environments(s, &names, &err);
        if (r < 0)
                return session_broken(s, r, err, "list the environments");
        for (char **name = names; name && *name; name++) {
                _cleanup_(error_freep) Error *why = NULL;

                r = mark_environment(s, application, *name, rows, &why);
                if (r < 0 && strict)
                        return session_fail(s, EXIT_CODE_REFUSED, why,
                                            "nothing is removed, because it cannot be told what "
                                            "environment %s needs",
                                            *name);
                if (r < 0)
                        (void) session_fail(s, 0, why, "environment %s is left out", *name);
        }
        return 0;
}

/* Newest first; those without a time at the end. */
static int compare_rows(const void *a, const void *b) {
        const VersionRow *x = a, *y = b;
        int r = strcmp(y->created ?: "", x->created ?: "");

        return r != 0 ? r : strcmp(y->label, x->label);
}

int version_rows_read(Session *s, const char *application, bool strict, VersionRows *ret) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = read_rows(s, application, ret, &err);
        if (r < 0)
                return session_broken(s, r, err, "list the versions of %s", application);
        session_progress(s, NULL);
        r = mark_environments(s, application, strict, ret);
        if (r != 0)
                return r;
        if (ret->rows.n > 1)
                qsort(ret->rows.items, ret->rows.n, sizeof(VersionRow), compare_rows);
        return 0;
}

/* ---- removing ---- */

size_t version_rows_choose(const VersionRows *rows, uint64_t keep, usec_t before,
                           const VersionRow **ret) {
        const VersionRow *row = rows->rows.items;
        size_t n = 0;

        for (size_t i = 0; i < rows->rows.n; i++) {
                usec_t created;
                bool old;

                if (row[i].used || row[i].error)
                        continue;
                old = before > 0 && row[i].created && time_parse(row[i].created, &created) == 0 &&
                      created < before;
                if (i >= keep || old)
                        ret[n++] = &row[i];
        }
        return n;
}

/* The document first: what is left without it is an upload that died, and never a version without
 * its bundle. */
static int remove_version(Versions *v, const VersionRow *row) {
        _cleanup_free_ char *version = key_version(v->application, row->label),
                            *bundle = key_bundle(v->application, row->label);
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = version && bundle ? session_delete(&v->session, version, row->etag, &err) : -ENOMEM;
        if (r == 0)
                r = session_delete(&v->session, bundle, NULL, &err);
        if (r < 0)
                return session_broken(&v->session, r, err, "remove version %s of %s", row->label,
                                      v->application);
        return 0;
}

static int prune(Versions *v, const VersionRows *rows) {
        _cleanup_free_ const VersionRow **chosen = calloc(rows->rows.n + 1, sizeof(VersionRow *));
        usec_t now = clock_read(NULL, CLOCK_REALTIME);
        uint64_t bytes = 0;
        size_t n;

        if (!chosen)
                return session_broken(&v->session, -ENOMEM, NULL, "prune");
        n = version_rows_choose(rows, v->keep, v->older_usec ? now - MIN(now, v->older_usec) : 0,
                                chosen);
        for (size_t i = 0; i < n; i++) {
                int r = v->dry_run ? 0 : remove_version(v, chosen[i]);

                if (r != 0)
                        return r;
                bytes += chosen[i]->size;
                (void) printf("%s %s (%" PRIu64 " bytes, of %s)\n",
                              v->dry_run ? "would remove" : "removed", chosen[i]->label,
                              chosen[i]->size, chosen[i]->created ?: "an unknown time");
        }
        (void) printf("%s %zu of %zu versions of %s, %" PRIu64 " bytes.\n",
                      v->dry_run ? "Would remove" : "Removed", n, rows->rows.n, v->application,
                      bytes);
        return EXIT_CODE_OK;
}

/* ---- the command ---- */

static int print_rows(const Versions *v, const VersionRows *rows) {
        static const char *const heads[] = { "VERSION", "SIZE", "SHA256", "CREATED", "USED BY" };
        const VersionRow *row = rows->rows.items;
        _cleanup_(strv_freep) char **cells = NULL;
        int r = 0;

        for (size_t i = 0; r == 0 && i < rows->rows.n; i++) {
                _cleanup_free_ char *size = str_format("%" PRIu64, row[i].size),
                                    *digest = row[i].sha256 ? strndup(row[i].sha256, 12) : NULL;

                r = ctl_table_add(&cells, row[i].label, row[i].error ? NULL : size, digest,
                                  row[i].created, row[i].error ?: row[i].used, CTL_END);
        }
        if (r < 0)
                return session_broken(&v->session, r, NULL, "print the table");
        if (rows->rows.n == 0)
                (void) printf("No version of %s is published.\n", v->application);
        else
                ctl_print_table(&(Ctl){ .verb = "versions" }, heads, ELEMENTS(heads), cells);
        return EXIT_CODE_OK;
}

static int run(Versions *v) {
        _cleanup_(version_rows_done) VersionRows rows = { 0 };
        int r;

        r = session_start(&v->session, "versions", &v->options);
        if (r == 0)
                r = session_check_label(&v->session, "--app", v->application);
        if (r != 0)
                return r;
        if (v->prune != (v->keep != UINT64_MAX || v->older_usec > 0))
                return session_fail(
                        &v->session, EXIT_CODE_USAGE, NULL,
                        "--prune needs --keep N or --older-than SPAN, and they need it");
        r = session_open(&v->session, &v->options);
        if (r == 0)
                r = version_rows_read(&v->session, v->application, v->prune, &rows);
        if (r != 0)
                return r;
        if (v->prune)
                return prune(v, &rows);
        if (v->options.json)
                return ctl_print_json(&(Ctl){ .verb = "versions" }, &version_rows_table, &rows);
        return print_rows(v, &rows);
}

int storecmd_versions(int argc, char **argv) {
        _cleanup_(versions_done) Versions v = { .keep = UINT64_MAX };
        const ArgOption options[] = {
                SESSION_OPTION_STORE(&v.options),
                { "app", ARG_TEXT, &v.application, "A", "The application" },
                { "prune", ARG_FLAG, &v.prune, NULL,
                  "Remove versions that no environment runs or may go back to" },
                { "keep", ARG_COUNT, &v.keep, "N", "With --prune: but for the N newest" },
                { "older-than", ARG_SPAN, &v.older_usec, "SPAN",
                  "With --prune: those published longer ago, as 30d" },
                { "dry-run", ARG_FLAG, &v.dry_run, NULL, "With --prune: only say which" },
                SESSION_OPTION_TRUSTED(&v.options),
                SESSION_OPTION_JSON(&v.options),
                SESSION_OPTION_END,
        };
        const ArgCommand command = {
                .name = "versions",
                .help = "Lists the published versions of an application, newest first, and which "
                        "environments are\n"
                        "assigned to them or may go back to them (base). With --prune removes old "
                        "ones, never one\n"
                        "that an environment names.\n",
                .options = options,
        };
        char **words;
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r > 0 ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        return run(&v);
}
