#include "agent/helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "bundle/task.h"
#include "loop/cgroup.h"
#include "loop/helper.h"
#include "loop/link.h"
#include "loop/log.h"
#include "net/check.h"
#include "store/remote.h"
#include "store/wire.h"

/* The longest task: a bundle of the largest size on a slow disk. */
#define BUNDLE_LIFE_USEC SEC(3600)

/* tendril-net is ended when nothing was asked of it for so long. */
#define NET_IDLE_USEC SEC(20)

struct Helpers {
        sd_event *loop;
        const Config *config;
        bool local;
        int bundle_fd, net_fd, tree_fd; /* programs */
        HelperUser bundle_user, net_user;
        char *const *env;
        Link *net;
        WireOpen open; /* its greeting */
        char **warnings;
};

/* What the answer of a task brings. */
typedef enum TaskBrings {
        BRINGS_NOTHING,
        BRINGS_DIGEST,
        BRINGS_TEXT, /* by descriptor */
} TaskBrings;

struct HelperTask {
        Helpers *helpers;
        TaskBrings brings;
        Helper *helper; /* of a bundle task; NULL: a call to net */
        LinkCall *call; /* to net */
        bool answered;
        int r;
        Error *err;
        HelperResult result;
        Buf text;
        char *sha256;
        HelperDone done;
        void *userdata;
};

static HelperTask *task_free(HelperTask *t) {
        if (!t)
                return NULL;
        t->helper = helper_free(t->helper);
        (void) error_free(t->err);
        buf_done(&t->text);
        free(t->sha256);
        free(t);
        return NULL;
}

static HelperTask *task_new(Helpers *h, HelperDone done, void *userdata) {
        HelperTask *t = calloc(1, sizeof(HelperTask));

        if (!t)
                return NULL;
        t->helpers = h;
        t->done = done;
        t->userdata = userdata;
        buf_init(&t->text, LIMIT_PLAN_BYTES);
        return t;
}

static void task_end(HelperTask *t) {
        Error *err = TAKE_PTR(t->err);

        t->result.text = buf_str(&t->text);
        t->result.text_size = t->text.size;
        t->result.sha256 = t->sha256;
        t->done(t->userdata, t->r, &t->result, err);
        (void) error_free(err);
        (void) task_free(t);
}

static HelperTask *task_cancel(HelperTask *t) {
        if (!t)
                return NULL;
        t->call = link_cancel(t->call);
        return task_free(t);
}

/* ---- tendril-bundle: one run a task ---- */

static void on_bundle_end(Helper *helper, const ChildExit *how, void *userdata) {
        HelperTask *t = userdata;
        LogFields fields = { .message_id = LOG_ID_HELPER_FAILED };
        char text[96];

        if (!t->answered) {
                child_exit_text(how, text);
                t->r = error_set(&t->err, -ECONNRESET,
                                 "tendril-bundle ended before it answered (%s) %s", text,
                                 helper_output(helper));
                log_fields(LOG_ERR, &fields, "%s", error_text(t->err));
        }
        task_end(t);
}

static int take_text(HelperTask *t, CallReply *reply) {
        return reply->n_fds < 1 ? -EBADMSG : file_read_fd(reply->fds[0], &t->text);
}

static int take_verified(HelperTask *t, CallReply *reply) {
        TaskVerified v = { 0 };
        int r;

        r = json_decode_value(reply->answer, &task_verified_table, JSON_LENIENT, &v, NULL);
        if (r < 0)
                return r;
        t->sha256 = TAKE_PTR(v.sha256);
        t->result.size = v.size;
        json_table_done(&task_verified_table, &v);
        return t->sha256 ? 0 : -EBADMSG;
}

/* The answer is kept until the helper has ended. */
static void on_bundle_answer(void *userdata, int r, CallReply *reply, Error *err) {
        HelperTask *t = userdata;

        if (r == -ECONNRESET)
                return; /* on_bundle_end() says what happened */
        t->answered = true;
        t->r = r;
        if (r < 0)
                (void) error_set(&t->err, r, "%s", error_text(err));
        else if (t->brings == BRINGS_DIGEST)
                t->r = take_verified(t, reply);
        else if (t->brings == BRINGS_TEXT)
                t->r = take_text(t, reply);
        if (t->r < 0 && !t->err)
                (void) error_set(&t->err, t->r, "tendril-bundle answered what cannot be: %s",
                                 strerror(-t->r));
        helper_close(t->helper);
}

typedef struct BundleCall {
        const char *method;
        const JsonTable *table;
        const void *parameters;
        const int *fds;
        size_t n_fds;
        TaskBrings brings;
} BundleCall;

static int run_bundle(Helpers *h, const BundleCall *call, HelperDone done, void *userdata,
                      HelperTask **ret) {
        HelperSpec spec = { .name = "tendril-bundle",
                            .program_fd = h->bundle_fd,
                            .user = h->bundle_user,
                            .instance = h->config->instance,
                            .flags = CHILD_PDEATHSIG | CHILD_NEW_NET,
                            .timeout_usec = BUNDLE_LIFE_USEC,
                            .on_end = on_bundle_end };
        HelperTask *t = task_new(h, done, userdata);
        int r;

        if (!t)
                return -ENOMEM;
        spec.userdata = t;
        t->brings = call->brings;
        r = helper_start(h->loop, &spec, &t->helper, &t->err);
        if (r >= 0)
                r = call_send(helper_peer(t->helper), call->method, call->table, call->parameters,
                              call->fds, call->n_fds, BUNDLE_LIFE_USEC, on_bundle_answer, t);
        if (r < 0) {
                log_error("ask tendril-bundle: %s", t->err ? error_text(t->err) : strerror(-r));
                (void) task_free(t);
                return r;
        }
        *ret = t;
        return 0;
}

static int ask_verify(void *userdata, int fd, const char *sha256, uint64_t size, HelperDone done,
                      void *done_userdata, HelperTask **ret) {
        TaskVerify p = { .sha256 = sha256 ? strdup(sha256) : NULL, .size = size };
        const BundleCall call = { TASK_VERIFY, &task_verify_table, &p, &fd, 1, BRINGS_DIGEST };
        int r;

        r = sha256 && !p.sha256 ? -ENOMEM : run_bundle(userdata, &call, done, done_userdata, ret);
        free(p.sha256);
        return r;
}

static int add_key(TaskOpen *p, const ConfigKey *key) {
        static const char *const purposes[] = { "publish", "assign" };
        TaskKey *k = json_array_add(&p->keys, &task_key_table, LIMIT_KEYS);

        if (!k)
                return -ENOMEM;
        k->id = strdup(key->id);
        k->purpose = strdup(purposes[key->purpose != 0]);
        k->ends = key->ends ? strdup(key->ends) : NULL;
        k->pem = strdup(key->pem);
        return k->id && k->purpose && k->pem && (!key->ends || k->ends) ? 0 : -ENOMEM;
}

static int fill_open(Helpers *h, const char *type, const char *purpose, usec_t store_date,
                     TaskOpen *p) {
        const ConfigKey *keys = h->config->trusted_keys.items;
        char now[TIME_RFC3339_SIZE];
        int r = 0;

        time_format(store_date > 0 ? store_date : clock_read(NULL, CLOCK_REALTIME), now);
        p->type = strdup(type);
        p->purpose = strdup(purpose);
        p->now = strdup(now);
        p->unsigned_allowed = h->local || h->config->store.unsigned_ok;
        if (!p->type || !p->purpose || !p->now)
                return -ENOMEM;
        for (size_t i = 0; i < h->config->trusted_keys.n && r >= 0; i++)
                r = add_key(p, &keys[i]);
        return r;
}

static int ask_open(void *userdata, const char *envelope, size_t size, const char *type,
                    const char *purpose, usec_t store_date, HelperDone done, void *done_userdata,
                    HelperTask **ret) {
        _cleanup_close_ int fd = file_memfd("envelope", envelope, size);
        TaskOpen p = { 0 };
        int r;

        r = fd < 0 ? fd : fill_open(userdata, type, purpose, store_date, &p);
        if (r >= 0) {
                const BundleCall call = { TASK_OPEN, &task_open_table, &p, &fd, 1, BRINGS_TEXT };

                r = run_bundle(userdata, &call, done, done_userdata, ret);
        }
        json_table_done(&task_open_table, &p);
        return r;
}

static int ask_unpack(void *userdata, int fd, int dir_fd, HelperDone done, void *done_userdata,
                      HelperTask **ret) {
        const TaskUnpack p = { 0 };
        const int fds[] = { fd, dir_fd };
        const BundleCall call = { TASK_UNPACK, &task_unpack_table, &p, fds, 2, BRINGS_NOTHING };

        return run_bundle(userdata, &call, done, done_userdata, ret);
}

static int ask_plan(void *userdata, int dir_fd, HelperDone done, void *done_userdata,
                    HelperTask **ret) {
        const TaskPlan p = { 0 };
        const BundleCall call = { TASK_PLAN, &task_plan_table, &p, &dir_fd, 1, BRINGS_TEXT };

        return run_bundle(userdata, &call, done, done_userdata, ret);
}

/* ---- tendril-net: one process while it is needed, which is always with a store in S3 ---- */

static void on_checked(void *userdata, int r, CallReply *reply, Error *err) {
        HelperTask *t = userdata;
        NetChecked c = { 0 };

        t->call = NULL;
        t->r = r;
        if (r >= 0)
                t->r = json_decode_value(reply->answer, &net_checked_table, JSON_LENIENT, &c,
                                         &t->err);
        else
                (void) error_set(&t->err, r, "%s", error_text(err));
        t->result.status = (unsigned) c.status;
        t->result.took_usec = c.took_usec;
        task_end(t);
}

static int ask_check(void *userdata, uint16_t port, const char *path, usec_t timeout,
                     HelperDone done, void *done_userdata, HelperTask **ret) {
        Helpers *h = userdata;
        HelperTask *t = task_new(h, done, done_userdata);
        NetCheck p = { .port = port, .timeout_usec = timeout };
        int r;

        p.path = strdup(path);
        r = t && p.path ? link_call(h->net, NET_CHECK, &net_check_table, &p, NULL, 0,
                                    timeout + SEC(2), on_checked, t, &t->call)
                        : -ENOMEM;
        free(p.path);
        if (r < 0) {
                (void) task_free(t);
                return r;
        }
        *ret = t;
        return 0;
}

/* Which store it is told of, at its start; nothing where none is remote. */
static int greet(Helpers *h, const Config *config) {
        WireOpen open = { 0 };
        bool remote = config->store.url && store_url_is_remote(config->store.url);
        int r;

        r = remote ? wire_open_fill(&open, config, config->store.url, h->env) : 0;
        if (r < 0) {
                wire_open_done(&open);
                return r;
        }
        if (wire_open_equal(&open, &h->open)) {
                wire_open_done(&open);
                return 0;
        }
        wire_open_done(&h->open);
        h->open = open;
        link_regreet(h->net, remote ? WIRE_OPEN : NULL, &wire_open_table, &h->open);
        link_set_idle(h->net, remote ? 0 : NET_IDLE_USEC);
        return 0;
}

static int net_new(Helpers *h) {
        const LinkSpec spec = { .name = "tendril-net",
                                .program_fd = h->net_fd,
                                .user = h->net_user,
                                .instance = h->config->instance,
                                .flags = CHILD_PDEATHSIG,
                                .idle_usec = NET_IDLE_USEC };

        return link_new(h->loop, &spec, &h->net);
}

Link *helpers_net(Helpers *h) {
        return h->net;
}

/* ---- life ---- */

static int warn(Helpers *h, const char *text) {
        LogFields fields = { .message_id = LOG_ID_CONFINEMENT_LOST };

        log_fields(LOG_WARNING, &fields, "%s", text);
        return strv_add(&h->warnings, 16, text);
}

int helpers_warn(Helpers *h, const char *text) {
        log_warning("%s", text);
        return strv_add(&h->warnings, 16, text);
}

static int tell_lost(Helpers *h) {
        _cleanup_close_ int fd = -EBADF;
        int r = 0;

        if (geteuid() != 0)
                r = warn(h, "this agent does not run as root: helpers, hooks and the application "
                            "run as the same user, without views of their own");
        if (r >= 0 && cgroup_make(h->config->instance, "", &fd, NULL) != 0)
                r = warn(h, "there is no cgroup2 here that may be used: processes are ended by "
                            "their groups");
        return r;
}

int helpers_new(sd_event *loop, const Config *config, char *const *env, const char *libexec,
                Helpers **ret, Error **reterr) {
        _cleanup_(helpers_freep) Helpers *h = calloc(1, sizeof(Helpers));
        int r;

        if (!h)
                return error_set(reterr, -ENOMEM, "start: out of memory");
        h->loop = loop;
        h->config = config;
        h->env = env;
        h->bundle_fd = h->net_fd = h->tree_fd = -EBADF;
        r = helper_open("tendril-bundle", libexec, &h->bundle_fd, reterr);
        if (r >= 0)
                r = helper_open("tendril-net", libexec, &h->net_fd, reterr);
        if (r >= 0)
                r = helper_open("tendril-tree", libexec, &h->tree_fd, reterr);
        if (r < 0)
                return r;
        r = helper_user("tendril-bundle", 0, &h->bundle_user);
        if (r >= 0)
                r = helper_user("tendril-net", 1, &h->net_user);
        if (r >= 0)
                r = net_new(h);
        if (r >= 0)
                r = tell_lost(h);
        if (r < 0)
                return error_set(reterr, r, "find users for the helpers: %s", strerror(-r));
        *ret = TAKE_PTR(h);
        return 0;
}

int helpers_set_config(Helpers *h, const Config *config) {
        h->config = config;
        h->local = !config->store.url || !store_url_is_remote(config->store.url);
        return greet(h, config);
}

DeployHelpers helpers_deploy(Helpers *h) {
        return (DeployHelpers){ .verify = ask_verify,
                                .open = ask_open,
                                .unpack = ask_unpack,
                                .plan = ask_plan,
                                .check = ask_check,
                                .cancel = task_cancel,
                                .bundle_uid = h->bundle_user.uid,
                                .bundle_gid = h->bundle_user.gid,
                                .userdata = h };
}

int helpers_tree_fd(const Helpers *h) {
        return h->tree_fd;
}

char *const *helpers_warnings(const Helpers *h) {
        return h->warnings;
}

Helpers *helpers_free(Helpers *h) {
        if (!h)
                return NULL;
        h->net = link_free(h->net);
        wire_open_done(&h->open);
        closep(&h->bundle_fd);
        closep(&h->net_fd);
        closep(&h->tree_fd);
        h->warnings = strv_free(h->warnings);
        free(h);
        return NULL;
}
