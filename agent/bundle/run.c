#include <errno.h>
#include <string.h>

#include "agent/limits.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/str.h"
#include "bundle/bundle.h"
#include "loop/call.h"

/* Any parameters, any answer. */
typedef union Parameters {
        TaskVerify verify;
        TaskOpen open;
        TaskSign sign;
        TaskUnpack unpack;
        TaskPlan plan;
} Parameters;

typedef union Answer {
        TaskVerified verified;
        TaskOpened opened;
        TaskKeys keys;
        TaskUnpacked unpacked;
} Answer;

/* body: what travels as a descriptor of its own, where the answer has one. */
typedef int (*Run)(const CallRequest *request, const Parameters *with, Answer *ret, Buf *body,
                   Error **reterr);

static int run_verify(const CallRequest *request, const Parameters *with, Answer *ret,
                      Buf *body _unused_, Error **reterr) {
        return bundle_verify(request->fds[0], &with->verify, &ret->verified, reterr);
}

static int read_all(int fd, Buf *ret, Error **reterr) {
        int r = file_read_fd(fd, ret);

        return r < 0 ? error_set(reterr, r, "read what was handed over: %s", strerror(-r)) : 0;
}

static int run_open(const CallRequest *request, const Parameters *with, Answer *ret, Buf *body,
                    Error **reterr) {
        _cleanup_(buf_done) Buf envelope = BUF_INIT(2 * LIMIT_DOCUMENT_BYTES);
        int r = read_all(request->fds[0], &envelope, reterr);

        return r < 0 ? r
                     : bundle_open(buf_str(&envelope), envelope.size, &with->open, body,
                                   &ret->opened, reterr);
}

static int run_sign(const CallRequest *request, const Parameters *with, Answer *ret _unused_,
                    Buf *body, Error **reterr) {
        _cleanup_(buf_done) Buf payload = BUF_INIT(LIMIT_DOCUMENT_BYTES),
                                previous = BUF_INIT(2 * LIMIT_DOCUMENT_BYTES);
        int r = read_all(request->fds[0], &payload, reterr);

        if (r >= 0 && request->n_fds > 1)
                r = read_all(request->fds[1], &previous, reterr);
        return r < 0 ? r
                     : bundle_sign(buf_str(&payload), payload.size,
                                   request->n_fds > 1 ? buf_str(&previous) : NULL, previous.size,
                                   &with->sign, body, reterr);
}

static int run_keygen(const CallRequest *request _unused_, const Parameters *with _unused_,
                      Answer *ret, Buf *body _unused_, Error **reterr) {
        _cleanup_(buf_done) Buf private_pem = BUF_INIT(LIMIT_KEY_BYTES),
                                public_pem = BUF_INIT(LIMIT_KEY_BYTES);
        int r = digest_keygen(&private_pem, &public_pem, reterr);

        ret->keys = (TaskKeys){ .private_pem = buf_steal(&private_pem),
                                .public_pem = buf_steal(&public_pem) };
        return r;
}

static int run_unpack(const CallRequest *request, const Parameters *with, Answer *ret,
                      Buf *body _unused_, Error **reterr) {
        return bundle_unpack(request->fds[0], request->fds[1], &with->unpack, &ret->unpacked,
                             reterr);
}

static int run_plan(const CallRequest *request, const Parameters *with, Answer *ret _unused_,
                    Buf *body, Error **reterr) {
        Plan plan = { 0 };
        int r;

        r = bundle_plan(request->fds[0], &with->plan, &plan, reterr);
        if (r < 0)
                return r;
        r = json_encode(&plan_table, &plan, body);
        json_table_done(&plan_table, &plan);
        return r < 0 ? error_set(reterr, r, "the plan is larger than %d bytes", LIMIT_PLAN_BYTES)
                     : 0;
}

struct BundleTask {
        const char *method;
        size_t min_fds;
        const JsonTable *parameters, *answer; /* NULL: none */
        const char *body;                     /* name of a body that the answer has */
        int write_at, read_at;                /* which descriptors are folders; -1: none */
        Run run;
};

/* clang-format off */
static const BundleTask tasks[] = {
        { TASK_VERIFY, 1, &task_verify_table, &task_verified_table, NULL,       -1, -1, run_verify },
        { TASK_OPEN,   1, &task_open_table,   &task_opened_table,   "payload",  -1, -1, run_open },
        { TASK_SIGN,   1, &task_sign_table,   NULL,                 "envelope", -1, -1, run_sign },
        { TASK_KEYGEN, 0, NULL,               &task_keys_table,     NULL,       -1, -1, run_keygen },
        { TASK_UNPACK, 2, &task_unpack_table, &task_unpacked_table, NULL,        1, -1, run_unpack },
        { TASK_PLAN,   1, &task_plan_table,   NULL,                 "plan",     -1,  0, run_plan },
};
/* clang-format on */

const BundleTask *bundle_task_find(const CallRequest *request, Error **reterr) {
        for (size_t i = 0; i < ELEMENTS(tasks); i++) {
                if (!str_equal(tasks[i].method, request->method))
                        continue;
                if (request->n_fds >= tasks[i].min_fds)
                        return &tasks[i];
                error_set(reterr, -EINVAL, "%s needs %zu descriptors, %zu came", tasks[i].method,
                          tasks[i].min_fds, request->n_fds);
                return NULL;
        }
        error_set(reterr, -EOPNOTSUPP, "tendril-bundle knows no task of this name");
        return NULL;
}

Confinement bundle_task_confinement(const BundleTask *task, const CallRequest *request) {
        return (Confinement){
                .write_fd = task->write_at >= 0 ? request->fds[task->write_at] : -EBADF,
                .read_fd = task->read_at >= 0 ? request->fds[task->read_at] : -EBADF,
                .threads = task->write_at >= 0,
        };
}

int bundle_task_run(const BundleTask *task, const CallRequest *request, int call_fd,
                    Error **reterr) {
        _cleanup_(buf_done) Buf body = BUF_INIT(LIMIT_PLAN_BYTES);
        _cleanup_close_ int fd = -EBADF;
        Parameters parameters = { 0 };
        Answer answer = { 0 };
        int r;

        if (task->parameters) {
                r = json_decode_value(request->parameters, task->parameters, JSON_STRICT,
                                      &parameters, reterr);
                if (r < 0)
                        return error_wrap(reterr, r, "%s: parameters", task->method);
        }
        r = task->run(request, &parameters, &answer, &body, reterr);
        if (r >= 0 && task->body) {
                fd = file_memfd(task->body, buf_str(&body), body.size);
                if (fd < 0)
                        r = error_set(reterr, fd, "make room for the answer: %s", strerror(-fd));
        }
        if (r >= 0)
                r = call_answer(call_fd, request->id, task->answer, &answer, &fd, fd >= 0 ? 1 : 0);

        if (task->parameters)
                json_table_done(task->parameters, &parameters);
        if (task->answer)
                json_table_done(task->answer, &answer);
        return r;
}
