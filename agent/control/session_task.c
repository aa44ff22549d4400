#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "loop/helper.h"
#include "session.h"

/* A gigabyte is hashed in a few seconds and unpacked in less than a minute; a machine may be slow.
 */
#define TASK_TIMEOUT_USEC SEC(600)

/* Payloads, plans, envelopes. */
#define BODY_BYTES LIMIT_PLAN_BYTES

typedef struct TaskWait {
        const SessionTask *task;
        bool is_answered;
        bool has_ended;
        int r;
        Error *err;
} TaskWait;

static int take_answer(const SessionTask *task, CallReply *reply, Error **reterr) {
        int r;

        if (task->answer_table) {
                r = json_decode_value(reply->answer, task->answer_table, JSON_LENIENT, task->answer,
                                      reterr);
                if (r < 0)
                        return r;
        }
        if (!task->body)
                return 0;
        if (reply->n_fds == 0)
                return error_set(reterr, -EBADMSG, "its answer lacks what was asked for");
        r = file_read_fd(reply->fds[0], task->body);
        return r < 0 ? error_set(reterr, r, "read its answer: %s", strerror(-r)) : 0;
}

static void task_on_done(void *userdata, int r, CallReply *reply, Error *err) {
        TaskWait *w = userdata;

        w->is_answered = true;
        if (r == 0)
                r = take_answer(w->task, reply, &w->err);
        else
                (void) error_set(&w->err, r, "%s", err ? error_text(err) : strerror(-r));
        w->r = r;
}

static void task_on_end(_unused_ Helper *helper, _unused_ const ChildExit *how, void *userdata) {
        ((TaskWait *) userdata)->has_ended = true;
}

static int start_helper(Session *s, TaskWait *w, Helper **ret, Error **reterr) {
        _cleanup_close_ int program_fd = -EBADF;
        HelperSpec spec = {
                .name = "tendril-bundle",
                .instance = "command",
                .flags = CHILD_NEW_NET | CHILD_NO_NEW_PRIVS | CHILD_PDEATHSIG,
                .timeout_usec = TASK_TIMEOUT_USEC,
                .on_end = task_on_end,
                .userdata = w,
        };
        int r;

        r = helper_open("tendril-bundle", NULL, &program_fd, reterr);
        if (r < 0)
                return r;
        spec.program_fd = program_fd;
        r = helper_user("tendril-bundle", 0, &spec.user);
        if (r < 0)
                return error_set(reterr, r, "find a user for tendril-bundle: %s", strerror(-r));
        return helper_start(s->loop, &spec, ret, reterr);
}

/* Until the answer is there and, with it, the end of the helper: only then nobody can change any
 * more what it made. */
static int run_until(Session *s, const TaskWait *w, const bool *flag, Error **reterr) {
        while (!*flag && !(flag == &w->is_answered && w->has_ended)) {
                int r = sd_event_run(s->loop, UINT64_MAX);

                if (r < 0)
                        return error_set(reterr, r, "wait for tendril-bundle: %s", strerror(-r));
        }
        return 0;
}

int session_task(Session *s, const SessionTask *task, Error **reterr) {
        _cleanup_(helper_freep) Helper *helper = NULL;
        TaskWait w = { .task = task, .r = -ECONNRESET };
        int r;

        r = start_helper(s, &w, &helper, reterr);
        if (r < 0)
                return r;
        r = call_send(helper_peer(helper), task->method, task->ask_table, task->ask, task->fds,
                      task->n_fds, TASK_TIMEOUT_USEC, task_on_done, &w);
        if (r < 0)
                return error_set(reterr, r, "ask tendril-bundle: %s", strerror(-r));
        r = run_until(s, &w, &w.is_answered, reterr);
        if (r < 0)
                return r;
        helper_close(helper);
        r = run_until(s, &w, &w.has_ended, reterr);
        if (r < 0 || w.r >= 0) {
                (void) error_free(w.err);
                return r < 0 ? r : w.r;
        }
        if (!w.err || w.r == -ECONNRESET) {
                (void) error_free(w.err);
                return error_set(reterr, w.r, "tendril-bundle ended without an answer%s%s",
                                 str_is_empty(helper_output(helper)) ? "" : ": ",
                                 helper_output(helper));
        }
        return error_take(reterr, &w.err);
}

/* ---- the tasks ---- */

int session_own_for_helper(int dir_fd) {
        HelperUser user;
        int r;

        r = helper_user("tendril-bundle", 0, &user);
        if (r < 0 || user.uid == 0)
                return r;
        return fchown(dir_fd, user.uid, user.gid) < 0 ? -errno : 0;
}

int session_verify(Session *s, int fd, TaskVerified *ret, Error **reterr) {
        TaskVerify ask = { 0 };
        SessionTask task = {
                .method = TASK_VERIFY,
                .ask_table = &task_verify_table,
                .ask = &ask,
                .fds = &fd,
                .n_fds = 1,
                .answer_table = &task_verified_table,
                .answer = ret,
        };

        return session_task(s, &task, reterr);
}

static int run_open(Session *s, TaskOpen *ask, const Buf *envelope, Buf *ret_payload,
                    TaskOpened *ret, Error **reterr) {
        _cleanup_close_ int fd = file_memfd("envelope", buf_str(envelope), envelope->size);
        char now[TIME_RFC3339_SIZE];
        SessionTask task = {
                .method = TASK_OPEN,
                .ask_table = &task_open_table,
                .ask = ask,
                .fds = &fd,
                .n_fds = 1,
                .answer_table = &task_opened_table,
                .answer = ret,
                .body = ret_payload,
        };
        int r;

        if (fd < 0)
                return error_set(reterr, fd, "hand over the envelope: %s", strerror(-fd));
        session_now(now);
        ask->now = now;
        r = session_task(s, &task, reterr);
        ask->now = NULL;
        return r;
}

/* The names of a document's type and of the purpose that its key must have. */
static const char *purpose_of(const char *type) {
        return str_equal(type, DOCUMENT_TYPE_DESIRED) ? "assign" : "publish";
}

int session_open_payload(Session *s, const Buf *envelope, const char *type, Buf *ret,
                         Error **reterr) {
        _cleanup_free_ char *type_copy = strdup(type), *purpose = strdup(purpose_of(type));
        TaskOpen ask = { .type = type_copy, .purpose = purpose, .unsigned_allowed = true };
        TaskOpened opened = { 0 };
        int r;

        if (!type_copy || !purpose)
                return -ENOMEM;
        r = run_open(s, &ask, envelope, ret, &opened, reterr);
        json_table_done(&task_opened_table, &opened);
        return r;
}

/* The trusted keys as they are asked for: what the command line names is trusted for whatever is
 * read with it. The copy borrows all but itself. NULL: no memory. */
static TaskKey *keys_for(const Session *s, char *purpose) {
        TaskKey *keys = calloc(s->keys.n + 1, sizeof(TaskKey));

        for (size_t i = 0; keys && i < s->keys.n; i++) {
                keys[i] = ((const TaskKey *) s->keys.items)[i];
                if (str_is_empty(keys[i].purpose))
                        keys[i].purpose = purpose;
        }
        return keys;
}

int session_open_envelope(Session *s, const char *name, const Buf *envelope, const char *type,
                          const JsonTable *table, void *ret, char **ret_key_id, Error **reterr) {
        _cleanup_(buf_done) Buf payload = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        _cleanup_free_ char *type_copy = strdup(type), *purpose = strdup(purpose_of(type));
        _cleanup_free_ TaskKey *keys = keys_for(s, purpose);
        TaskOpen ask = { .type = type_copy,
                         .purpose = purpose,
                         .keys = { .items = keys, .n = s->keys.n },
                         .unsigned_allowed = s->unsigned_ok };
        TaskOpened opened = { 0 };
        int r;

        if (!type_copy || !purpose || !keys)
                return -ENOMEM;
        r = run_open(s, &ask, envelope, &payload, &opened, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "%s", name);
        if (ret_key_id)
                *ret_key_id = TAKE_PTR(opened.key_id);
        json_table_done(&task_opened_table, &opened);
        return document_decode(name, buf_str(&payload), payload.size, table, ret, reterr);
}

static int read_private_key(const char *path, Buf *ret, Error **reterr) {
        int r = file_read_at(AT_FDCWD, path, ret);

        return r < 0 ? error_set(reterr, r, "read the key %s: %s", path, strerror(-r)) : 0;
}

int session_sign(Session *s, const SessionOptions *options, const char *type, const Buf *payload,
                 const Buf *previous, bool replace, Buf *ret, Error **reterr) {
        _cleanup_(buf_done) Buf pem = BUF_INIT(LIMIT_KEY_BYTES);
        _cleanup_free_ char *type_copy = strdup(type), *key_id = NULL;
        _cleanup_close_ int payload_fd = -EBADF, previous_fd = -EBADF;
        TaskSign ask = { .type = type_copy, .replace = replace };
        SessionTask task = {
                .method = TASK_SIGN, .ask_table = &task_sign_table, .ask = &ask, .body = ret
        };
        int fds[2], r;

        if (options->key_file) {
                r = read_private_key(options->key_file, &pem, reterr);
                if (r < 0)
                        return r;
                key_id = strdup(options->key_id);
                ask.key_id = key_id;
                ask.private_pem = pem.data;
        }
        payload_fd = file_memfd("payload", buf_str(payload), payload->size);
        if (previous)
                previous_fd = file_memfd("envelope", buf_str(previous), previous->size);
        if (payload_fd < 0 || (previous && previous_fd < 0) || !type_copy ||
            (options->key_id && !key_id))
                return error_set(reterr, -ENOMEM, "hand over what is to be signed");
        fds[0] = payload_fd;
        fds[1] = previous_fd;
        task.fds = fds;
        task.n_fds = previous ? 2 : 1;
        r = session_task(s, &task, reterr);
        explicit_bzero(pem.data ? pem.data : (char[1]){ 0 }, pem.data ? pem.allocated : 1);
        return r < 0 ? error_wrap(reterr, r, "sign") : 0;
}
