#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "control/ctl.h"
#include "control/storecmd.h"
#include "session.h"
#include "store/key.h"

/* A bundle larger than this takes long enough to say what goes on. */
#define TELL_BYTES (16U * 1024 * 1024)

typedef struct Publish {
        Session session;
        SessionOptions options;
        const char *file, *application, *label;
        bool check;
        bool replace;
        int fd;
        struct stat st;
        VersionDocument version; /* what will be written */
        char *bundle_etag;       /* of what an upload that died has left */
} Publish;

/* What is told at the end. */
typedef struct PublishResult {
        char *application, *label, *sha256;
        uint64_t size;
        bool already;
} PublishResult;

/* clang-format off */
static const JsonField result_fields[] = {
        { .name = "application", .kind = JSON_KIND_STRING, .offset = offsetof(PublishResult, application) },
        { .name = "version", .kind = JSON_KIND_STRING, .offset = offsetof(PublishResult, label) },
        { .name = "sha256", .kind = JSON_KIND_STRING, .offset = offsetof(PublishResult, sha256) },
        { .name = "size", .kind = JSON_KIND_U64, .offset = offsetof(PublishResult, size) },
        { .name = "already_published", .kind = JSON_KIND_BOOL, .offset = offsetof(PublishResult, already) },
        {},
};
static const JsonTable result_table = { result_fields, sizeof(PublishResult) };
/* clang-format on */

static void publish_done(Publish *p) {
        session_done(&p->session);
        session_options_done(&p->options);
        json_table_done(&version_document_table, &p->version);
        closep(&p->fd);
        free(p->bundle_etag);
}

/* ---- the file ---- */

static int open_bundle(Publish *p) {
        const Session *s = &p->session;

        p->fd = open(p->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (p->fd < 0)
                return session_broken(s, -errno, NULL, "open the bundle %s", p->file);
        if (fstat(p->fd, &p->st) < 0)
                return session_broken(s, -errno, NULL, "look at the bundle %s", p->file);
        if (!S_ISREG(p->st.st_mode))
                return session_fail(s, EXIT_CODE_USAGE, NULL,
                                    "the bundle %s is not a file; pack the folder as zip or tar.gz",
                                    p->file);
        if (p->st.st_size == 0)
                return session_fail(s, EXIT_CODE_FAILED, NULL, "the bundle %s is empty", p->file);
        if ((uint64_t) p->st.st_size > LIMIT_BUNDLE_BYTES)
                return session_fail(s, EXIT_CODE_FAILED, NULL,
                                    "the bundle %s has %" PRIu64
                                    " bytes, and a bundle has at most %" PRIu64,
                                    p->file, (uint64_t) p->st.st_size, LIMIT_BUNDLE_BYTES);
        return 0;
}

static bool is_unchanged(const Publish *p) {
        struct stat now;

        return fstat(p->fd, &now) == 0 && now.st_size == p->st.st_size &&
               now.st_mtim.tv_sec == p->st.st_mtim.tv_sec &&
               now.st_mtim.tv_nsec == p->st.st_mtim.tv_nsec;
}

static int digest_bundle(Publish *p) {
        _cleanup_(error_freep) Error *err = NULL;
        VersionDocument *v = &p->version;
        TaskVerified verified = { 0 };
        int r;

        if (p->st.st_size > (off_t) TELL_BYTES)
                session_progress(&p->session, "reading %s", p->file);
        r = session_verify(&p->session, p->fd, &verified, &err);
        session_progress(&p->session, NULL);
        if (r < 0)
                return session_broken(&p->session, r, err, "read the bundle %s", p->file);
        v->format = FORMAT_DOCUMENT;
        v->application = strdup(p->application);
        v->label = strdup(p->label);
        v->bundle.key = key_bundle(p->application, p->label);
        v->bundle.size = verified.size;
        v->bundle.sha256 = TAKE_PTR(verified.sha256);
        v->created = calloc(1, TIME_RFC3339_SIZE);
        json_table_done(&task_verified_table, &verified);
        if (!v->application || !v->label || !v->bundle.key || !v->created)
                return session_broken(&p->session, -ENOMEM, NULL, "publish");
        session_now(v->created);
        return 0;
}

/* ---- --check: what a host would do with it ---- */

static const char *temp_folder(void) {
        const char *path = getenv("TMPDIR");

        return str_is_empty(path) ? "/var/tmp" : path;
}

static int remove_entry(const char *path, _unused_ const struct stat *st, _unused_ int type,
                        _unused_ struct FTW *ftw) {
        return remove(path);
}

/* The helper may be another user than we: the folder is for it alone, and what it made is root's to
 * remove. */
static int check_in(Publish *p, int dir_fd, Error **reterr) {
        _cleanup_(buf_done) Buf plan = BUF_INIT(LIMIT_PLAN_BYTES);
        TaskUnpack ask = { 0 };
        TaskPlan ask_plan = { 0 };
        TaskUnpacked unpacked = { 0 };
        SessionTask unpack = {
                .method = TASK_UNPACK,
                .ask_table = &task_unpack_table,
                .ask = &ask,
                .fds = (int[]){ p->fd, dir_fd },
                .n_fds = 2,
                .answer_table = &task_unpacked_table,
                .answer = &unpacked,
        };
        SessionTask read_plan = {
                .method = TASK_PLAN,
                .ask_table = &task_plan_table,
                .ask = &ask_plan,
                .fds = &dir_fd,
                .n_fds = 1,
                .body = &plan,
        };
        int r;

        r = session_task(&p->session, &unpack, reterr);
        json_table_done(&task_unpacked_table, &unpacked);
        if (r < 0)
                return r;
        return session_task(&p->session, &read_plan, reterr);
}

static int check_bundle(Publish *p) {
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int dir_fd = -EBADF;
        int r;

        path = str_format("%s/tendril-check.XXXXXX", temp_folder());
        if (!path || !mkdtemp(path))
                return session_broken(&p->session, path ? -errno : -ENOMEM, NULL,
                                      "make a folder to check the bundle in");
        dir_fd = file_open_dir_at(AT_FDCWD, path);
        r = dir_fd;
        if (r >= 0)
                r = session_own_for_helper(dir_fd);
        if (r >= 0) {
                session_progress(&p->session, "checking %s", p->file);
                r = check_in(p, dir_fd, &err);
                session_progress(&p->session, NULL);
        }
        (void) nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        return r < 0 ? session_broken(&p->session, r, err,
                                      "the bundle %s would be refused by a host", p->file)
                     : 0;
}

/* ---- what is there already ---- */

static int tell(const Publish *p, bool already) {
        const VersionDocument *v = &p->version;
        PublishResult result = {
                .application = v->application,
                .label = v->label,
                .sha256 = v->bundle.sha256,
                .size = v->bundle.size,
                .already = already,
        };

        if (p->options.json)
                return ctl_print_json(&(Ctl){ .verb = "publish" }, &result_table, &result);
        (void) printf("Version %s of %s is %s: %" PRIu64 " bytes, sha256 %s.\n", v->label,
                      v->application, already ? "already published" : "published", v->bundle.size,
                      v->bundle.sha256);
        return EXIT_CODE_OK;
}

static int refuse_other_content(const Publish *p, const VersionDocument *there) {
        return session_fail(&p->session, EXIT_CODE_REFUSED, NULL,
                            "version %s of %s exists with other content (sha256 %.12s of %s, this "
                            "file has %.12s): a "
                            "published version never changes; choose another label",
                            p->label, p->application, there->bundle.sha256,
                            there->created ?: "an unknown time", p->version.bundle.sha256);
}

/* 0: the label is free; *ret_code: what the command ends with where it is not. */
static int look_for_version(Publish *p, bool *ret_free, int *ret_code) {
        _cleanup_(error_freep) Error *err = NULL;
        VersionDocument there = { 0 };
        int r;

        r = session_read_version(&p->session, p->application, p->label, &there, NULL, &err);
        *ret_free = r == STORE_ABSENT;
        if (r < 0)
                *ret_code = session_broken(&p->session, r, err,
                                           "read what is published as version %s of %s", p->label,
                                           p->application);
        else if (r == 0 && str_equal(there.bundle.sha256, p->version.bundle.sha256))
                *ret_code = tell(p, true);
        else if (r == 0)
                *ret_code = refuse_other_content(p, &there);
        json_table_done(&version_document_table, &there);
        return r < 0 ? r : 0;
}

/* An upload that died has left a bundle without its version.json: is it the same one? */
static int look_for_leftover(Publish *p, bool *ret_same) {
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_close_ int fd = open(temp_folder(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
        TaskVerified verified = { 0 };
        int r;

        *ret_same = false;
        r = fd < 0 ? -errno
                   : session_fetch(&p->session, p->version.bundle.key, fd, &p->bundle_etag, &err);
        if (r == 0)
                r = session_verify(&p->session, fd, &verified, &err);
        if (r == 0)
                *ret_same = str_equal(verified.sha256, p->version.bundle.sha256);
        json_table_done(&task_verified_table, &verified);
        return r < 0 ? session_broken(&p->session, r, err, "read what an earlier upload has left")
                     : 0;
}

/* ---- writing ---- */

static int refuse_leftover(const Publish *p) {
        return session_fail(
                &p->session, EXIT_CODE_REFUSED, NULL,
                "under version %s of %s lies another file, of an upload that died or is under way; "
                "publish "
                "the same file again, or repeat with --replace if nobody else publishes it now",
                p->label, p->application);
}

static int upload(Publish *p, StoreCondition condition, Error **reterr) {
        return session_put_file(&p->session, p->version.bundle.key, p->fd, condition,
                                p->bundle_etag, reterr);
}

static int put_bundle(Publish *p) {
        _cleanup_(error_freep) Error *err = NULL;
        bool same;
        int r;

        r = upload(p, STORE_IF_ABSENT, &err);
        if (r == STORE_REFUSED) {
                r = look_for_leftover(p, &same);
                if (r != 0 || same)
                        return r;
                if (!p->replace)
                        return refuse_leftover(p);
                r = p->bundle_etag ? upload(p, STORE_IF_MATCHES, &err) : STORE_REFUSED;
        }
        if (r == STORE_REFUSED)
                return session_fail(&p->session, EXIT_CODE_CONFLICT, NULL,
                                    "somebody else uploads version %s of %s at this moment; repeat "
                                    "when they are done",
                                    p->label, p->application);
        if (r < 0)
                return session_broken(&p->session, r, err, "upload %s", p->file);
        if (!is_unchanged(p))
                return session_fail(&p->session, EXIT_CODE_FAILED, NULL,
                                    "the bundle %s changed while it was uploaded; nothing is "
                                    "published; repeat with "
                                    "--replace when it is complete",
                                    p->file);
        return 0;
}

static int put_version(Publish *p, bool *ret_refused) {
        _cleanup_(buf_done) Buf payload = BUF_INIT(LIMIT_DOCUMENT_BYTES),
                                envelope = BUF_INIT(2 * LIMIT_DOCUMENT_BYTES);
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_free_ char *key = key_version(p->application, p->label);
        int r;

        r = key ? json_encode(&version_document_table, &p->version, &payload) : -ENOMEM;
        if (r == 0)
                r = session_sign(&p->session, &p->options, DOCUMENT_TYPE_VERSION, &payload, NULL,
                                 false, &envelope, &err);
        if (r == 0)
                r = session_put(&p->session, key, &envelope, NULL, STORE_IF_ABSENT, NULL, NULL,
                                &err);
        *ret_refused = r == STORE_REFUSED;
        return r < 0 ? session_broken(&p->session, r, err, "publish version %s of %s", p->label,
                                      p->application)
                     : 0;
}

static int write_all(Publish *p) {
        bool refused, is_free;
        int r, code = EXIT_CODE_CONFLICT;

        session_note_unsigned(&p->session, &p->options);
        r = put_bundle(p);
        if (r != 0)
                return r;
        r = put_version(p, &refused);
        if (r != 0)
                return r;
        if (!refused)
                return tell(p, false);
        /* Somebody was faster: with the same file it is all the same. */
        r = look_for_version(p, &is_free, &code);
        if (r == 0 && is_free)
                return session_fail(&p->session, EXIT_CODE_CONFLICT, NULL,
                                    "version %s of %s was removed at this moment; repeat", p->label,
                                    p->application);
        return code;
}

static int run(Publish *p) {
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_free_ char *id = NULL;
        bool is_free;
        int r, code = EXIT_CODE_FAILED;

        r = session_start(&p->session, "publish", &p->options);
        if (r == 0)
                r = session_check_label(&p->session, "--app", p->application);
        if (r == 0)
                r = session_check_label(&p->session, "--version", p->label);
        if (r == 0)
                r = open_bundle(p);
        if (r == 0)
                r = session_open(&p->session, &p->options);
        if (r != 0)
                return r;
        r = session_read_store_id(&p->session, &id, &err);
        if (r < 0)
                return r == -ENOENT
                               ? session_fail(&p->session, EXIT_CODE_UNREACHABLE, err, "%s", "")
                               : session_broken(&p->session, r, err, "read the store");
        r = digest_bundle(p);
        if (r != 0)
                return r;
        r = look_for_version(p, &is_free, &code);
        if (r < 0 || !is_free)
                return code;
        r = p->check ? check_bundle(p) : 0;
        return r != 0 ? r : write_all(p);
}

int storecmd_publish(int argc, char **argv) {
        _cleanup_(publish_done) Publish p = { .fd = -EBADF };
        const ArgOption options[] = {
                SESSION_OPTION_STORE(&p.options),
                { "app", ARG_TEXT, &p.application, "A", "The application" },
                { "version", ARG_TEXT, &p.label, "V",
                  "The label of this version; published once and for ever" },
                { "check", ARG_FLAG, &p.check, NULL,
                  "First unpack it as a host would, and refuse what that refuses" },
                { "replace", ARG_FLAG, &p.replace, NULL,
                  "Replace another file that an upload that died has left" },
                SESSION_OPTION_KEY(&p.options),
                SESSION_OPTION_KEY_ID(&p.options),
                SESSION_OPTION_TRUSTED(&p.options),
                SESSION_OPTION_JSON(&p.options),
                SESSION_OPTION_END,
        };
        const ArgCommand command = {
                .name = "publish",
                .words = "BUNDLE",
                .help = "Puts a bundle (zip, war, jar, tar, tar.gz, tar.zst) into the store as a "
                        "version of an\n"
                        "application. Publishing the same file again is not an error, and "
                        "completes what an upload\n"
                        "that died has left. Exit 3: the label exists with other content.\n",
                .options = options,
                .min_words = 1,
                .max_words = 1,
        };
        char **words;
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r > 0 ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        p.file = words[0];
        return run(&p);
}
