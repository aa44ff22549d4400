#include "peer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"

/* Long enough for any deploy; who wants another says so. */
#define WAIT_DEFAULT_USEC SEC(600)

typedef enum MethodFlags {
        METHOD_CHANGES = 1 << 0, /* needs CONTROL_RIGHTS_CHANGE */
        METHOD_MORE = 1 << 1,    /* must be called with "more" */
} MethodFlags;

/* What a method sees of its call. */
typedef struct MethodCall {
        const ControlOps *ops;
        ControlRights rights;
        ControlCall *call;
        void *ask;
        void *reply;
        const char *bad_parameter; /* set with -EBADMSG */
} MethodCall;

typedef struct Method {
        const char *name;
        unsigned flags;
        const JsonTable *ask;
        const JsonTable *reply;
        int (*run)(MethodCall *m, Error **reterr);
} Method;

static int run_get_info(MethodCall *m, Error **reterr) {
        ServiceInfo *info = m->reply;
        int r;

        info->vendor = strdup("tendril");
        info->product = strdup("tendrild");
        info->version = strdup(TENDRIL_VERSION);
        info->url = strdup("https://varlink.org/" CONTROL_INTERFACE);
        r = strv_add(&info->interfaces, 2, VARLINK_SERVICE);
        if (r >= 0)
                r = strv_add(&info->interfaces, 2, CONTROL_INTERFACE);
        if (r < 0 || !info->vendor || !info->product || !info->version || !info->url)
                return error_set(reterr, -ENOMEM, "no memory");
        return 0;
}

static int run_get_description(MethodCall *m, Error **reterr) {
        const ServiceInterface *ask = m->ask;
        ServiceDescription *reply = m->reply;
        const char *text;

        if (str_equal(ask->interface, CONTROL_INTERFACE))
                text = control_description;
        else if (str_equal(ask->interface, VARLINK_SERVICE))
                text = service_description;
        else {
                control_error(m->call, VARLINK_ERROR_INTERFACE_NOT_FOUND,
                              &(ErrorParameters){ .interface = ask->interface });
                return CONTROL_LATER;
        }

        reply->description = strdup(text);
        return reply->description ? 0 : error_set(reterr, -ENOMEM, "no memory");
}

static int run_status(MethodCall *m, _unused_ Error **reterr) {
        return m->ops->status(m->ops->userdata, m->reply);
}

static int run_health(MethodCall *m, _unused_ Error **reterr) {
        return m->ops->health(m->ops->userdata, m->call);
}

static int run_explain(MethodCall *m, _unused_ Error **reterr) {
        return m->ops->explain(m->ops->userdata, m->reply);
}

static int run_store(MethodCall *m, _unused_ Error **reterr) {
        return m->ops->store(m->ops->userdata, m->call);
}

/* Here once more, whatever the agent gave: readers see no output. */
static void hide_output(ControlHistory *history) {
        DeployRecord *deploys = history->deploys.items;

        for (size_t i = 0; i < history->deploys.n; i++) {
                HookRecord *hooks = deploys[i].hooks.items;

                for (size_t j = 0; j < deploys[i].hooks.n; j++)
                        hooks[j].tail = strv_free(hooks[j].tail);
        }
}

static int run_history(MethodCall *m, Error **reterr) {
        bool with_output = m->rights == CONTROL_RIGHTS_CHANGE;
        int r;

        r = m->ops->history(m->ops->userdata, m->ask, with_output, m->reply, reterr);
        if (r == 0 && !with_output)
                hide_output(m->reply);
        return r;
}

static int run_logs(MethodCall *m, Error **reterr) {
        return m->ops->logs(m->ops->userdata, m->ask, m->reply, reterr);
}

static int bad_parameter(MethodCall *m, const char *name) {
        m->bad_parameter = name;
        return -EBADMSG;
}

static int run_deploy(MethodCall *m, Error **reterr) {
        const ControlDeployAsk *ask = m->ask;

        if ((ask->bundle ? 1 : 0) + ask->retry + ask->resume != 1)
                return bad_parameter(m, "parameters");
        if (ask->bundle && ask->bundle[0] != '/')
                return bad_parameter(m, "bundle");
        if (ask->version && !ask->bundle)
                return bad_parameter(m, "version");
        return m->ops->deploy(m->ops->userdata, ask, m->reply, reterr);
}

static int run_rollback(MethodCall *m, Error **reterr) {
        return m->ops->rollback(m->ops->userdata, m->reply, reterr);
}

static int run_restart(MethodCall *m, Error **reterr) {
        return m->ops->restart(m->ops->userdata, m->ask, m->reply, reterr);
}

static int run_reload(MethodCall *m, Error **reterr) {
        return m->ops->reload(m->ops->userdata, m->reply, reterr);
}

static int run_wait(MethodCall *m, _unused_ Error **reterr) {
        ControlWaitAsk *ask = m->ask;

        if ((ask->deploy ? 1 : 0) + ask->healthy != 1)
                return bad_parameter(m, "parameters");
        if (ask->timeout_usec == 0)
                ask->timeout_usec = WAIT_DEFAULT_USEC;
        return m->ops->wait(m->ops->userdata, ask, m->call);
}

static int run_monitor(MethodCall *m, _unused_ Error **reterr) {
        return m->ops->monitor(m->ops->userdata, m->call);
}

/* clang-format off */
static const Method service_methods[] = {
        { "GetInfo",                 0, NULL,                     &service_info_table,        run_get_info },
        { "GetInterfaceDescription", 0, &service_interface_table, &service_description_table, run_get_description },
};

static const Method control_methods[] = {
        { "Status",   0,              NULL,                       &control_status_table,  run_status },
        { "Monitor",  METHOD_MORE,    NULL,                       NULL,                   run_monitor },
        { "Health",   0,              NULL,                       NULL,                  run_health },
        { "Explain",  0,              NULL,                       &control_explain_table, run_explain },
        { "Store",    0,              NULL,                       NULL,                   run_store },
        { "History",  0,              &control_history_ask_table, &control_history_table, run_history },
        { "Wait",     0,              &control_wait_ask_table,    NULL,                   run_wait },
        { "Logs",     METHOD_CHANGES, &control_logs_ask_table,    &control_logs_table,    run_logs },
        { "Deploy",   METHOD_CHANGES, &control_deploy_ask_table,  &control_started_table, run_deploy },
        { "Rollback", METHOD_CHANGES, NULL,                       &control_started_table, run_rollback },
        { "Restart",  METHOD_CHANGES, &control_restart_ask_table, &control_text_table,    run_restart },
        { "Reload",   METHOD_CHANGES, NULL,                       &control_text_table,    run_reload },
};
/* clang-format on */

static const Method *find_method(const Method *methods, size_t n, const char *name) {
        for (size_t i = 0; i < n; i++)
                if (str_equal(methods[i].name, name))
                        return &methods[i];
        return NULL;
}

/* The method of a full name. NULL: none, and the call was answered so. */
static const Method *resolve(ControlCall *call, const char *full_name) {
        const char *dot = strrchr(full_name, '.');
        _cleanup_free_ char *interface = NULL;
        const Method *method = NULL;

        interface = dot ? strndup(full_name, (size_t) (dot - full_name)) : strdup(full_name);
        if (!interface) {
                control_fail(call, CONTROL_ERROR_FAILED, "no memory");
                return NULL;
        }

        if (str_equal(interface, CONTROL_INTERFACE))
                method = find_method(control_methods, ELEMENTS(control_methods), dot + 1);
        else if (str_equal(interface, VARLINK_SERVICE))
                method = find_method(service_methods, ELEMENTS(service_methods), dot + 1);
        else {
                control_error(call, VARLINK_ERROR_INTERFACE_NOT_FOUND,
                              &(ErrorParameters){ .interface = interface });
                return NULL;
        }

        if (!method)
                control_error(call, VARLINK_ERROR_METHOD_NOT_FOUND,
                              &(ErrorParameters){ .method = full_name });
        return method;
}

/* True: it may go on; false: the call was answered. */
static bool check_call(const Method *method, ControlRights rights, ControlCall *call,
                       const CallMessage *message) {
        char text[200];

        if (message->upgrade) {
                control_error(call, VARLINK_ERROR_NOT_IMPLEMENTED,
                              &(ErrorParameters){ .method = message->method });
                return false;
        }
        if ((method->flags & METHOD_CHANGES) && rights != CONTROL_RIGHTS_CHANGE) {
                (void) snprintf(text, sizeof(text),
                                "%s is for root and the agent's own user only; group %s may ask "
                                "how the host is",
                                method->name, GROUP_CONTROL);
                control_fail(call, CONTROL_ERROR_REFUSED, text);
                return false;
        }
        if ((method->flags & METHOD_MORE) && !call->more) {
                control_error(call, VARLINK_ERROR_EXPECTED_MORE, NULL);
                return false;
        }
        return true;
}

static void answer_failure(ControlCall *call, int r, const Error *err) {
        const char *text = err ? error_text(err) : strerror(-r);

        switch (-r) {
        case EPERM:
        case EINVAL:
                control_fail(call, CONTROL_ERROR_REFUSED, text);
                return;
        case EBUSY:
                control_fail(call, CONTROL_ERROR_BUSY, text);
                return;
        default:
                control_fail(call, CONTROL_ERROR_FAILED, text);
                return;
        }
}

static void answer_bad_parameter(ControlCall *call, const char *name) {
        control_error(call, VARLINK_ERROR_INVALID_PARAMETER,
                      &(ErrorParameters){ .parameter = name });
}

/* Runs it and answers, unless it left that for later. */
static void run_method(const Method *method, MethodCall *m) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = method->run(m, &err);
        if (r == CONTROL_LATER)
                return;
        if (r < 0 && m->bad_parameter)
                answer_bad_parameter(m->call, m->bad_parameter);
        else if (r < 0)
                answer_failure(m->call, r, err);
        else
                (void) control_reply(m->call, method->reply, m->reply, false);
}

void method_run(const ControlOps *ops, ControlRights rights, ControlCall *call,
                const CallMessage *message) {
        _cleanup_free_ char *parameter = NULL;
        _cleanup_free_ void *ask = NULL, *reply = NULL;
        const Method *method;
        int r;

        assert(ops);
        assert(call);
        assert(message);

        method = resolve(call, message->method);
        if (!method || !check_call(method, rights, call, message))
                return;

        ask = calloc(1, method->ask ? method->ask->size : 1);
        reply = calloc(1, method->reply ? method->reply->size : 1);
        if (!ask || !reply) {
                control_fail(call, CONTROL_ERROR_FAILED, "no memory");
                return;
        }

        r = parameters_decode(message->parameters, method->ask, ask, &parameter);
        if (r == -EBADMSG)
                answer_bad_parameter(call, parameter);
        else if (r < 0)
                answer_failure(call, r, NULL);
        else
                run_method(method, &(MethodCall){ .ops = ops,
                                                  .rights = rights,
                                                  .call = call,
                                                  .ask = ask,
                                                  .reply = reply });

        if (method->ask)
                json_table_done(method->ask, ask);
        if (method->reply)
                json_table_done(method->reply, reply);
}
