#include "deploy/fsck.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "deploy/record.h"
#include "deploy/state.h"
#include "settings/plan.h"

#define FOLDERS_MAX 4096

/* One run: what it looks at, and how many findings are left. */
typedef struct Fsck {
        const Paths *paths;
        bool repair;
        FsckTell tell;
        void *userdata;
        int state_fd;
        State *state;
        int n_left;
} Fsck;

/* mended: what repair does was done (or would be, without repair: false). */
static void find(Fsck *f, const char *mend, bool mended, const char *format, ...) _printf_(4, 5);

static void find(Fsck *f, const char *mend, bool mended, const char *format, ...) {
        char what[1024];
        FsckFinding finding = { .what = what, .mend = mend, .mended = mended };
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(what, sizeof(what), format, ap);
        va_end(ap);
        f->tell(f->userdata, &finding);
        f->n_left += !mended;
}

/* ---- state.json ---- */

static int check_state(Fsck *f, Error **reterr) {
        static const char mend[] = "the predecessor takes its place";
        _cleanup_(error_freep) Error *err = NULL, *write = NULL;
        bool mended = false;
        int r;

        r = state_load(f->state_fd, &f->state, &err);
        if (r == STATE_NONE)
                return STATE_NONE;
        if (r == STATE_PREVIOUS) {
                if (f->repair)
                        mended = state_save(f->state_fd, f->state, &write) == 0;
                find(f, mend, mended, "%s", error_text(err));
                return 0;
        }
        if (r == -EBADMSG) {
                find(f, NULL, false,
                     "%s; the agent would begin from nothing and deploy what is assigned",
                     error_text(err));
                return STATE_NONE;
        }
        return r < 0 ? error_take(reterr, &err) : 0;
}

/* ---- versions ---- */

static void check_mode(Fsck *f, int fd, const char *name, mode_t most) {
        static const char mend[] = "its mode and owner are put right";
        struct stat st;
        bool mended = false;

        if (fstat(fd, &st) < 0 || (st.st_uid == geteuid() && (st.st_mode & 07777 & ~most) == 0))
                return;
        if (f->repair)
                mended = fchmod(fd, most) == 0 && fchown(fd, geteuid(), getegid()) == 0;
        find(f, mend, mended,
             "%s is owned by %u with mode %04o; others could reach what only the agent may", name,
             st.st_uid, (unsigned) (st.st_mode & 07777));
}

static void check_plan(Fsck *f, int version_fd, const VersionState *v) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_PLAN_BYTES);
        _cleanup_(error_freep) Error *err = NULL;
        Plan plan = { 0 };
        int r;

        r = file_read_at(version_fd, "plan.json", &text);
        if (r >= 0)
                r = json_decode(buf_str(&text), text.size, &plan_table, JSON_LENIENT, &plan, &err);
        json_table_done(&plan_table, &plan);
        if (r < 0)
                find(f, NULL, false, "versions/%s/plan.json of version %s cannot be read: %s",
                     v->folder, v->label, err ? error_text(err) : strerror(-r));
}

static void check_version(Fsck *f, const VersionState *v, const char *role) {
        _cleanup_close_ int versions = -EBADF, fd = -EBADF;
        static const char *const subs[] = { "app", "control" };

        if (!v->label)
                return;
        versions = file_open_dir_at(f->state_fd, "versions");
        fd = v->folder && versions >= 0 ? file_open_dir_at(versions, v->folder) : -EBADF;
        if (fd < 0) {
                find(f, NULL, false,
                     "the folder of the %s version %s (versions/%s) is missing: deploy it again",
                     role, v->label, v->folder ? v->folder : "-");
                return;
        }
        for (size_t i = 0; i < ELEMENTS(subs); i++) {
                _cleanup_close_ int sub = file_open_dir_at(fd, subs[i]);

                if (sub < 0)
                        find(f, NULL, false, "versions/%s/%s of the %s version %s is missing",
                             v->folder, subs[i], role, v->label);
                else if (i == 1)
                        check_mode(f, sub, "control/ of a version", 0700);
        }
        check_plan(f, fd, v);
}

/* ---- what is served ---- */

static const VersionState *served(const State *s) {
        return s->attempt.turned && !s->attempt.answered && !s->attempt.failed ? &s->attempt.target
                                                                               : &s->current;
}

static void check_slot(Fsck *f) {
        static const char mend[] = "the slot file is turned to it";
        _cleanup_close_ int fd = file_open_dir_at(f->state_fd, "slot");
        const VersionState *v = served(f->state);
        bool mended = false;

        if (fd < 0 || !v->label || slot_from_name(v->slot) == SLOT_NONE ||
            slot_read(fd) == slot_from_name(v->slot))
                return;
        /* While an attempt is in the middle of its switch both are right: the resume repeats it. */
        if (f->state->attempt.id && f->state->attempt.turned)
                return;
        if (f->repair)
                mended = slot_turn(fd, slot_from_name(v->slot)) == 0;
        find(f, mend, mended, "the slot file serves slot %s, and version %s is in slot %s",
             slot_name(slot_read(fd)), v->label, v->slot);
}

static void check_current(Fsck *f) {
        const VersionState *v = served(f->state);
        _cleanup_free_ char *path = NULL;
        struct stat have, want;

        if (!v->label || !v->folder || f->state->attempt.id)
                return;
        path = str_format("%s/%s/app", f->paths->versions, v->folder);
        if (!path || stat(path, &want) < 0)
                return;
        if (stat(f->paths->current, &have) < 0 || have.st_dev != want.st_dev ||
            have.st_ino != want.st_ino)
                find(f, NULL, false,
                     "%s does not show version %s: the agent puts it in place when it starts",
                     f->paths->current, v->label);
}

/* ---- what nobody names ---- */

/* Versions that nobody names are the agent's own business: finished ones are kept on purpose,
 * others are removed at its next start or deploy. */
static void check_strays(Fsck *f) {
        _cleanup_close_ int versions = file_open_dir_at(f->state_fd, "versions"),
                            incoming = file_open_dir_at(f->state_fd, "incoming");
        _cleanup_(strv_freep) char **names = NULL, **parts = NULL;

        if (versions >= 0)
                (void) file_list_at(versions, FOLDERS_MAX, &names);
        for (char **n = names; n && *n; n++) {
                _cleanup_close_ int fd = file_open_dir_at(versions, *n);

                if (fd < 0)
                        find(f, NULL, false, "versions/%s is no folder: it is not the agent's", *n);
        }
        if (incoming >= 0)
                (void) file_list_at(incoming, FOLDERS_MAX, &parts);
        for (char **n = parts; n && *n; n++) {
                if (str_has_suffix(*n, ".part") || str_has_suffix(*n, ".map"))
                        continue; /* goes on where it was cut off, or is removed by the agent */
                find(f, "it is removed", f->repair && file_remove_at(incoming, *n, true) == 0,
                     "incoming/%s is nothing of the agent's", *n);
        }
}

static void check_temporaries(Fsck *f) {
        static const char *const folders[] = { ".",        "slot",     "deploys", "proxy",
                                               "versions", "incoming", "bundles" };

        for (size_t i = 0; i < ELEMENTS(folders); i++) {
                _cleanup_close_ int fd = file_open_dir_at(f->state_fd, folders[i]);
                _cleanup_(strv_freep) char **names = NULL;
                size_t n = 0;

                if (fd < 0 || file_list_at(fd, FOLDERS_MAX, &names) < 0)
                        continue;
                for (char **e = names; e && *e; e++)
                        n += str_has_prefix(*e, ".tmp-");
                if (n > 0)
                        find(f, "they are removed", f->repair && file_sweep_at(fd) >= 0,
                             "%s/%s has %zu temporary files that a crash left", f->paths->state,
                             folders[i], n);
        }
}

static void check_records(Fsck *f) {
        _cleanup_close_ int fd = file_open_dir_at(f->state_fd, "deploys");
        _cleanup_(strv_freep) char **ids = NULL;

        if (fd < 0 || record_list(fd, &ids) < 0)
                return;
        for (char **id = ids; id && *id; id++) {
                _cleanup_(error_freep) Error *err = NULL;
                _cleanup_free_ char *name = str_format("%s.json", *id);
                DeployRecord record = { 0 };
                int r;

                r = record_read(fd, *id, &record, &err);
                json_table_done(&deploy_record_table, &record);
                if (r < 0)
                        find(f, "it is removed",
                             f->repair && name && file_remove_at(fd, name, true) == 0, "%s",
                             error_text(err));
        }
}

static void check_modes(Fsck *f) {
        const struct {
                const char *name;
                mode_t most;
        } folders[] = { { "versions", 0711 /* as where current is a link */ },
                        { "incoming", 0700 },
                        { "bundles", 0700 },
                        { "deploys", 0700 },
                        { "slot", 0755 },
                        { "proxy", 0755 } };

        for (size_t i = 0; i < ELEMENTS(folders); i++) {
                _cleanup_close_ int fd = file_open_dir_at(f->state_fd, folders[i].name);

                if (fd >= 0)
                        check_mode(f, fd, folders[i].name, folders[i].most);
        }
}

/* Mending under a running agent would pull the ground away from it. */
static int lock_out_agent(const Fsck *f, int *ret_fd, Error **reterr) {
        _cleanup_close_ int run = file_open_dir_at(AT_FDCWD, f->paths->run);
        int fd = run < 0 ? -1 : openat(run, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);

        *ret_fd = -EBADF;
        if (fd < 0)
                return 0; /* no agent ever ran here */
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                closep(&fd);
                return error_set(reterr, -EBUSY, "the agent runs: stop it before `fsck --repair`");
        }
        *ret_fd = fd;
        return 0;
}

int fsck_run(const Paths *paths, bool repair, FsckTell tell, void *userdata, Error **reterr) {
        Fsck f = { .paths = paths,
                   .repair = repair,
                   .tell = tell,
                   .userdata = userdata,
                   .state_fd = -EBADF };
        _cleanup_close_ int state_fd = -EBADF, lock_fd = -EBADF;
        int r;

        state_fd = f.state_fd = file_open_dir_at(AT_FDCWD, paths->state);
        if (state_fd == -ENOENT)
                return 0; /* a host on which nothing ever ran */
        if (state_fd < 0)
                return error_set(reterr, state_fd, "open %s: %s", paths->state,
                                 strerror(-state_fd));
        if (repair) {
                r = lock_out_agent(&f, &lock_fd, reterr);
                if (r < 0)
                        return r;
        }
        r = check_state(&f, reterr);
        if (r < 0)
                return r;
        if (f.state) {
                check_version(&f, &f.state->current, "current");
                check_version(&f, &f.state->previous, "previous");
                check_slot(&f);
                check_current(&f);
                check_strays(&f);
        }
        check_modes(&f);
        check_records(&f);
        check_temporaries(&f);
        f.state = state_free(f.state);
        return f.n_left;
}
