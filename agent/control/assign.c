#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/str.h"
#include "control/change.h"
#include "control/ctl.h"
#include "control/storecmd.h"
#include "session.h"
#include "store/key.h"

/* Tries to move the head: another publisher or a host moves it at the same moment, more of them
 * hardly ever. */
#define HEAD_TRIES 5

typedef struct Assign {
        Session session;
        SessionOptions options;
        const char *environment, *application, *label;
        char **set, **unset;
        bool reset, dry_run, yes;
        bool has_before; /* there is an assignment already */
        DesiredDocument before;
        char *before_etag;
        bool has_head;
        HeadDocument head;
        DesiredDocument after;
} Assign;

static void assign_done(Assign *a) {
        session_done(&a->session);
        session_options_done(&a->options);
        a->set = strv_free(a->set);
        a->unset = strv_free(a->unset);
        json_table_done(&desired_document_table, &a->before);
        json_table_done(&desired_document_table, &a->after);
        json_table_done(&head_document_table, &a->head);
        free(a->before_etag);
}

/* ---- what is told ---- */

typedef struct AssignSetting {
        char *ns, *option, *before, *after;
} AssignSetting;

typedef struct AssignResult {
        char *environment, *application;
        char *from, *to;
        uint64_t revision;
        bool written;
        JsonArray settings; /* AssignSetting: those that change; secret values as "***" */
} AssignResult;

/* clang-format off */
static const JsonField setting_fields[] = {
        { .name = "namespace", .kind = JSON_KIND_STRING, .offset = offsetof(AssignSetting, ns) },
        { .name = "option", .kind = JSON_KIND_STRING, .offset = offsetof(AssignSetting, option) },
        { .name = "before", .kind = JSON_KIND_STRING, .offset = offsetof(AssignSetting, before) },
        { .name = "after", .kind = JSON_KIND_STRING, .offset = offsetof(AssignSetting, after) },
        {},
};
static const JsonTable setting_table = { setting_fields, sizeof(AssignSetting) };

static const JsonField result_fields[] = {
        { .name = "environment", .kind = JSON_KIND_STRING, .offset = offsetof(AssignResult, environment) },
        { .name = "application", .kind = JSON_KIND_STRING, .offset = offsetof(AssignResult, application) },
        { .name = "from", .kind = JSON_KIND_STRING, .offset = offsetof(AssignResult, from) },
        { .name = "to", .kind = JSON_KIND_STRING, .offset = offsetof(AssignResult, to) },
        { .name = "revision", .kind = JSON_KIND_U64, .offset = offsetof(AssignResult, revision) },
        { .name = "written", .kind = JSON_KIND_BOOL, .offset = offsetof(AssignResult, written) },
        { .name = "settings", .kind = JSON_KIND_ARRAY, .offset = offsetof(AssignResult, settings), .max = 2 * LIMIT_SETTINGS, .table = &setting_table },
        {},
};
static const JsonTable result_table = { result_fields, sizeof(AssignResult) };
/* clang-format on */

static void collect_setting(void *userdata, const char *ns, const char *option, const char *before,
                            const char *after) {
        AssignSetting *setting = json_array_add(userdata, &setting_table, 2 * LIMIT_SETTINGS);

        if (!setting)
                return;
        setting->ns = strdup(ns);
        setting->option = strdup(option);
        setting->before = change_shown(option, before);
        setting->after = change_shown(option, after);
}

static int tell_json(const Assign *a, bool written) {
        AssignResult result = { .revision = a->after.revision, .written = written };
        int r;

        result.environment = strdup(a->environment);
        result.application = strdup(a->after.application);
        result.from = a->has_before ? strdup(a->before.target.label) : NULL;
        result.to = strdup(a->after.target.label);
        (void) change_visit(&a->before.settings, &a->after.settings, collect_setting,
                            &result.settings);
        r = ctl_print_json(&(Ctl){ .verb = "assign" }, &result_table, &result);
        json_table_done(&result_table, &result);
        return r;
}

static void print_setting(_unused_ void *userdata, const char *ns, const char *option,
                          const char *before, const char *after) {
        _cleanup_free_ char *was = change_shown(option, before), *is = change_shown(option, after);

        ctl_print_text("  setting   ");
        ctl_print_text(ns);
        ctl_print_text(":");
        ctl_print_text(option);
        (void) printf("  %s%s%s -> %s%s%s\n", was ? "\"" : "", was ?: "none", was ? "\"" : "",
                      is ? "\"" : "", is ?: "none", is ? "\"" : "");
}

static void print_changes(const Assign *a) {
        const DesiredDocument *b = &a->before, *n = &a->after;
        size_t changed;

        (void) printf("Environment %s of %s:\n", n->environment, n->application);
        if (a->has_before && str_equal(b->target.label, n->target.label))
                (void) printf("  version   %s (as before)\n", n->target.label);
        else
                (void) printf("  version   %s -> %s%s\n", a->has_before ? b->target.label : "none",
                              n->target.label,
                              str_equal(b->target.sha256, n->target.sha256)
                                      ? " (of the same content)"
                                      : "");
        changed = change_visit(&b->settings, &n->settings, print_setting, NULL);
        if (changed == 0)
                (void) printf("  settings  %zu (as before)\n", n->settings.n);
        if (a->has_before)
                (void) printf("  revision  %" PRIu64 " -> %" PRIu64 "\n", b->revision, n->revision);
        else
                (void) printf("  revision  %" PRIu64 "\n", n->revision);
        if (n->base.label)
                (void) printf("  base      %s, to go back to\n", n->base.label);
        (void) fflush(stdout);
}

/* ---- what is there ---- */

static int read_before(Assign *a) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = session_read_desired(&a->session, a->environment, &a->before, &a->before_etag, &err);
        if (r < 0)
                return session_broken(&a->session, r, err, "read what environment %s wants now",
                                      a->environment);
        a->has_before = r == 0;
        r = session_read_head(&a->session, a->environment, &a->head, NULL, &err);
        if (r < 0)
                return session_broken(&a->session, r, err, "read the head of environment %s",
                                      a->environment);
        a->has_head = r == 0;
        if (!a->application)
                a->application = a->before.application;
        if (!a->label)
                a->label = a->before.target.label;
        if (a->has_before && a->application && !str_equal(a->application, a->before.application))
                return session_fail(&a->session, EXIT_CODE_REFUSED, NULL,
                                    "environment %s is of application %s, not of %s; another "
                                    "application needs another "
                                    "environment",
                                    a->environment, a->before.application, a->application);
        r = session_check_label(&a->session, "--app", a->application);
        return r != 0 ? r : session_check_label(&a->session, "--version", a->label);
}

static int take_ref(VersionRef *ret, const char *label, const char *sha256) {
        if (!label)
                return 0;
        ret->label = strdup(label);
        ret->sha256 = strdup(sha256);
        return ret->label && ret->sha256 ? 0 : -ENOMEM;
}

static int read_target(Assign *a) {
        _cleanup_(error_freep) Error *err = NULL;
        VersionDocument version = { 0 };
        int r;

        r = session_read_version(&a->session, a->application, a->label, &version, NULL, &err);
        if (r == STORE_ABSENT)
                return session_fail(&a->session, EXIT_CODE_FAILED, NULL,
                                    "there is no version %s of %s; `tendril versions --app %s` "
                                    "lists those that were "
                                    "published",
                                    a->label, a->application, a->application);
        if (r < 0)
                return session_broken(&a->session, r, err, "read version %s of %s", a->label,
                                      a->application);
        r = take_ref(&a->after.target, version.label, version.bundle.sha256);
        json_table_done(&version_document_table, &version);
        return r < 0 ? session_broken(&a->session, r, NULL, "assign") : 0;
}

/* ---- what will be ---- */

/* What to go back to: what was wanted before, unless the environment has already gone back from
 * that. */
static const VersionRef *base_of(const Assign *a) {
        if (a->has_head && a->head.revision == a->before.revision && a->head.follow == HEAD_BASE &&
            a->before.base.label)
                return &a->before.base;
        return &a->before.target;
}

static int make_after(Assign *a) {
        const SettingsChange change = { .set = a->set, .unset = a->unset, .reset = a->reset };
        const VersionRef *base = base_of(a);
        _cleanup_(error_freep) Error *err = NULL;
        DesiredDocument *n = &a->after;
        int r;

        r = session_read_store_id(&a->session, &n->store, &err);
        if (r < 0)
                return r == -ENOENT
                               ? session_fail(&a->session, EXIT_CODE_UNREACHABLE, err, "%s", "")
                               : session_broken(&a->session, r, err, "read the store");
        n->format = FORMAT_DOCUMENT;
        n->environment = strdup(a->environment);
        n->application = strdup(a->application);
        n->nonce = document_nonce();
        n->created = calloc(1, TIME_RFC3339_SIZE);
        /* Hosts refuse a revision below one that they have seen, also after somebody removed the
         * document. */
        n->revision = MAX(a->before.revision, a->head.revision) + 1;
        if (!n->environment || !n->application || !n->nonce || !n->created ||
            take_ref(&n->base, base->label, base->sha256) < 0)
                return session_broken(&a->session, -ENOMEM, NULL, "assign");
        session_now(n->created);
        r = change_settings(&a->before.settings, &change, &n->settings, &err);
        if (r == -EINVAL || r == -E2BIG || r == -EFBIG)
                return session_fail(&a->session, EXIT_CODE_USAGE, err, "%s", "");
        return r < 0 ? session_broken(&a->session, r, err, "assign") : 0;
}

/* ---- writing ---- */

static int tell_conflict(Assign *a) {
        DesiredDocument now = { 0 };
        int r;

        r = session_read_desired(&a->session, a->environment, &now, NULL, NULL);
        if (r == 0)
                r = session_fail(&a->session, EXIT_CODE_CONFLICT, NULL,
                                 "somebody else assigned version %s (revision %" PRIu64
                                 ") to %s at %s, after this "
                                 "command had read it; nothing was written; look at it and repeat",
                                 now.target.label, now.revision, a->environment,
                                 now.created ?: "?");
        else
                r = session_fail(&a->session, EXIT_CODE_CONFLICT, NULL,
                                 "somebody else changed what %s wants, after this command had read "
                                 "it; nothing was "
                                 "written; look at it and repeat",
                                 a->environment);
        json_table_done(&desired_document_table, &now);
        return r;
}

static int write_desired(Assign *a) {
        _cleanup_(buf_done) Buf payload = BUF_INIT(LIMIT_DOCUMENT_BYTES),
                                envelope = BUF_INIT(2 * LIMIT_DOCUMENT_BYTES);
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_free_ char *key = key_desired(a->environment);
        int r;

        r = key ? json_encode(&desired_document_table, &a->after, &payload) : -ENOMEM;
        if (r == -EFBIG)
                return session_fail(&a->session, EXIT_CODE_FAILED, NULL,
                                    "the settings of %s are longer than %d bytes together; use "
                                    "fewer or shorter ones",
                                    a->environment, LIMIT_DOCUMENT_BYTES);
        if (r == 0)
                r = session_sign(&a->session, &a->options, DOCUMENT_TYPE_DESIRED, &payload, NULL,
                                 false, &envelope, &err);
        /* In an envelope the payload is base64: the whole text is what tells ours from another's.
         */
        if (r == 0)
                r = session_put(&a->session, key, &envelope, NULL,
                                a->has_before ? STORE_IF_MATCHES : STORE_IF_ABSENT, a->before_etag,
                                NULL, &err);
        if (r == STORE_REFUSED)
                return tell_conflict(a);
        return r < 0 ? session_broken(&a->session, r, err, "assign version %s to %s", a->label,
                                      a->environment)
                     : 0;
}

static int fill_head(HeadDocument *ret, uint64_t revision, uint64_t hosts) {
        uint32_t random = 0;

        if (getrandom(&random, sizeof(random), 0) < 0)
                return -errno;
        ret->format = FORMAT_DOCUMENT;
        ret->revision = revision;
        ret->nonce = document_nonce();
        ret->generation = calloc(1, 32);
        ret->status = HEAD_RUN;
        ret->follow = HEAD_TARGET;
        ret->lanes = 1;
        ret->hosts = hosts;
        if (!ret->nonce || !ret->generation)
                return -ENOMEM;
        time_make_id(clock_read(NULL, CLOCK_REALTIME), random, ret->generation);
        return 0;
}

/* One try. 0: the head names this revision or a later one; STORE_REFUSED: look again. */
static int move_head_once(Assign *a, const char *key, Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        _cleanup_free_ char *etag = NULL;
        HeadDocument now = { 0 }, next = { 0 };
        bool is_absent, is_there;
        int r;

        r = session_read_head(&a->session, a->environment, &now, &etag, reterr);
        if (r < 0)
                return r;
        is_absent = r == STORE_ABSENT;
        is_there = !is_absent && now.revision >= a->after.revision;
        r = is_there ? 0 : fill_head(&next, a->after.revision, now.hosts);
        if (r == 0 && !is_there)
                r = json_encode(&head_document_table, &next, &text);
        if (r == 0 && !is_there)
                r = session_put(&a->session, key, &text, next.nonce,
                                is_absent ? STORE_IF_ABSENT : STORE_IF_MATCHES, etag, NULL, reterr);
        json_table_done(&head_document_table, &now);
        json_table_done(&head_document_table, &next);
        return r;
}

static int move_head(Assign *a) {
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_free_ char *key = key_head(a->environment);
        int r = key ? STORE_REFUSED : -ENOMEM;

        for (unsigned i = 0; i < HEAD_TRIES && r == STORE_REFUSED; i++)
                r = move_head_once(a, key, &err);
        if (r == 0)
                return 0;
        if (r == STORE_REFUSED)
                (void) error_set(&err, -EBUSY, "others change it all the time");
        return session_broken(
                &a->session, r < 0 ? r : -EBUSY, err,
                "revision %" PRIu64
                " of %s is assigned, but the head that hosts poll could not be moved "
                "to it (hosts will find it within 5 minutes; assigning again moves it at once)",
                a->after.revision, a->environment);
}

/* Asks a person; a program has decided already. */
static int confirm(const Assign *a) {
        char answer[16];

        if (a->yes || a->options.json || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
                return 0;
        (void) printf("Assign this? [y/N] ");
        (void) fflush(stdout);
        if (fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
                return 0;
        return session_fail(&a->session, EXIT_CODE_FAILED, NULL, "nothing was written");
}

static int prepare(Assign *a) {
        int r;

        r = session_start(&a->session, "assign", &a->options);
        if (r == 0)
                r = session_check_label(&a->session, "--env", a->environment);
        if (r == 0 && a->application)
                r = session_check_label(&a->session, "--app", a->application);
        if (r == 0 && a->label)
                r = session_check_label(&a->session, "--version", a->label);
        if (r == 0)
                r = session_open(&a->session, &a->options);
        if (r == 0)
                r = read_before(a);
        if (r == 0)
                r = read_target(a);
        return r != 0 ? r : make_after(a);
}

static int run(Assign *a) {
        int r;

        r = prepare(a);
        if (r != 0)
                return r;
        if (!a->options.json)
                print_changes(a);
        if (a->dry_run) {
                if (a->options.json)
                        return tell_json(a, false);
                (void) printf("Nothing was written (--dry-run).\n");
                return EXIT_CODE_OK;
        }
        r = confirm(a);
        if (r == 0)
                session_note_unsigned(&a->session, &a->options);
        if (r == 0)
                r = write_desired(a);
        if (r == 0)
                r = move_head(a);
        if (r != 0)
                return r;
        if (a->options.json)
                return tell_json(a, true);
        (void) printf("Assigned; hosts follow within their poll interval.\n");
        return EXIT_CODE_OK;
}

int storecmd_assign(int argc, char **argv) {
        _cleanup_(assign_done) Assign a = { 0 };
        const ArgOption options[] = {
                SESSION_OPTION_STORE(&a.options),
                { "env", ARG_TEXT, &a.environment, "E", "The environment" },
                { "version", ARG_TEXT, &a.label, "V",
                  "The version that it shall run (default: the one that it has)" },
                { "app", ARG_TEXT, &a.application, "A",
                  "Its application (needed for the first assignment only)" },
                { "set", ARG_LIST, &a.set, "NS:OPTION=VALUE", "Change a setting (again for more)" },
                { "unset", ARG_LIST, &a.unset, "NS:OPTION", "Remove a setting (again for more)" },
                { "reset", ARG_FLAG, &a.reset, NULL,
                  "Begin with no settings instead of those that it has" },
                { "dry-run", ARG_FLAG, &a.dry_run, NULL,
                  "Show what would change and write nothing" },
                { "yes", ARG_FLAG, &a.yes, NULL, "Do not ask on a terminal" },
                SESSION_OPTION_KEY(&a.options),
                SESSION_OPTION_KEY_ID(&a.options),
                SESSION_OPTION_TRUSTED(&a.options),
                SESSION_OPTION_JSON(&a.options),
                SESSION_OPTION_END,
        };
        const ArgCommand command = {
                .name = "assign",
                .help = "Says which version an environment wants, and with which settings; shows "
                        "what changes. Hosts\n"
                        "take it at their next poll. Assigning the same again is a new try of what "
                        "failed.\n"
                        "Exit 4: somebody else assigned meanwhile, and nothing was written.\n",
                .options = options,
        };
        char **words;
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r > 0 ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        return run(&a);
}
