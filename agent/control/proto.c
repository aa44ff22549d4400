#include "control/proto.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"
#include "message.h"

/* A sentence may hold another's, and a name or two. */
#define SENTENCE_BYTES (4 * LIMIT_STRING_BYTES)

/* Warnings of one agent, sentences of one explanation. */
#define SENTENCES_MAX 256

/* One reply of Logs. */
#define LOG_TEXT_BYTES (UINT64_C(1024) * 1024)

/* A wait that is longer is a script that hangs. */
#define WAIT_MAX_USEC (SEC(3600) * 24)

/* A row of a table whose key is the name of the member. */
#define F(type, kind_, member, ...)                                                                \
        {                                                                                          \
                .name = #member, .kind = JSON_KIND_##kind_, .offset = offsetof(type, member),      \
                __VA_ARGS__                                                                        \
        }

/* clang-format off */
static const JsonField version_fields[] = {
        F(ControlVersion, STRING, label),
        F(ControlVersion, STRING, sha256),
        F(ControlVersion, U64, revision),
        F(ControlVersion, STRING, slot),
        F(ControlVersion, STRING, since),
        { 0 },
};
static const JsonTable version_table = { version_fields, sizeof(ControlVersion) };

static const JsonField process_fields[] = {
        F(ControlProcess, STRING, name),
        F(ControlProcess, STRING, slot),
        F(ControlProcess, STRING, state),
        F(ControlProcess, U64, pid),
        F(ControlProcess, U64, restarts),
        F(ControlProcess, STRING, last_exit),
        { 0 },
};
static const JsonTable process_table = { process_fields, sizeof(ControlProcess) };

static const JsonField quarantine_fields[] = {
        F(ControlQuarantine, U64, revision),
        F(ControlQuarantine, STRING, label),
        F(ControlQuarantine, STRING, sha256),
        F(ControlQuarantine, STRING, why, .max = SENTENCE_BYTES),
        F(ControlQuarantine, STRING, since),
        { 0 },
};
static const JsonTable quarantine_table = { quarantine_fields, sizeof(ControlQuarantine) };

static const JsonField deploy_fields[] = {
        F(ControlDeploy, STRING, id),
        F(ControlDeploy, STRING, kind),
        F(ControlDeploy, STRING, label),
        F(ControlDeploy, STRING, stage),
        F(ControlDeploy, STRING, since),
        F(ControlDeploy, U64, percent, .max = 100),
        { 0 },
};
static const JsonTable deploy_table = { deploy_fields, sizeof(ControlDeploy) };

static const JsonField status_fields[] = {
        F(ControlStatus, STRING, agent),
        F(ControlStatus, STRING, host),
        F(ControlStatus, STRING, environment),
        F(ControlStatus, STRING, application),
        F(ControlStatus, OBJECT, desired, .table = &version_table),
        F(ControlStatus, OBJECT, current, .table = &version_table),
        F(ControlStatus, OBJECT, previous, .table = &version_table),
        F(ControlStatus, OBJECT, deploy, .table = &deploy_table),
        F(ControlStatus, BOOL, hold),
        F(ControlStatus, STRING, health),
        F(ControlStatus, STRING, cause, .max = SENTENCE_BYTES),
        F(ControlStatus, STRING, store),
        F(ControlStatus, BOOL, store_ok),
        F(ControlStatus, STRING, store_error, .max = SENTENCE_BYTES),
        F(ControlStatus, STRING, store_since),
        F(ControlStatus, STRING, waiting, .max = SENTENCE_BYTES),
        F(ControlStatus, ARRAY, processes, .max = 4 * LIMIT_PROCESSES, .table = &process_table),
        F(ControlStatus, ARRAY, quarantine, .max = LIMIT_QUARANTINE, .table = &quarantine_table),
        F(ControlStatus, STRV, warnings, .max = SENTENCES_MAX),
        { 0 },
};
const JsonTable control_status_table = { status_fields, sizeof(ControlStatus) };

static const JsonField health_fields[] = {
        F(ControlHealth, BOOL, healthy),
        F(ControlHealth, STRING, health),
        F(ControlHealth, STRING, cause, .max = SENTENCE_BYTES),
        F(ControlHealth, U64, status),
        F(ControlHealth, U64, took_ms),
        { 0 },
};
const JsonTable control_health_table = { health_fields, sizeof(ControlHealth) };

static const JsonField explain_fields[] = {
        F(ControlExplain, STRV, sentences, .max = SENTENCES_MAX),
        { 0 },
};
const JsonTable control_explain_table = { explain_fields, sizeof(ControlExplain) };

static const JsonField store_fields[] = {
        F(ControlStore, STRING, url),
        F(ControlStore, BOOL, remote),
        F(ControlStore, OBJECT, credentials, .table = &credential_status_table),
        F(ControlStore, OBJECT, store, .table = &s3_status_table),
        { 0 },
};
const JsonTable control_store_table = { store_fields, sizeof(ControlStore) };

static const JsonField history_ask_fields[] = {
        F(ControlHistoryAsk, U64, limit, .flags = JSON_OMIT_EMPTY),
        { 0 },
};
const JsonTable control_history_ask_table = { history_ask_fields, sizeof(ControlHistoryAsk) };

static const JsonField history_fields[] = {
        F(ControlHistory, ARRAY, deploys, .max = 2 * LIMIT_RECORDS, .table = &deploy_record_table),
        { 0 },
};
const JsonTable control_history_table = { history_fields, sizeof(ControlHistory) };

static const JsonField deploy_ask_fields[] = {
        F(ControlDeployAsk, STRING, bundle, .flags = JSON_OMIT_EMPTY, .min = 1),
        F(ControlDeployAsk, LABEL, version, .flags = JSON_OMIT_EMPTY),
        F(ControlDeployAsk, BOOL, retry, .flags = JSON_OMIT_EMPTY),
        F(ControlDeployAsk, BOOL, resume, .flags = JSON_OMIT_EMPTY),
        { 0 },
};
const JsonTable control_deploy_ask_table = { deploy_ask_fields, sizeof(ControlDeployAsk) };

static const JsonField started_fields[] = {
        F(ControlStarted, STRING, deploy),
        F(ControlStarted, STRING, text, .max = SENTENCE_BYTES),
        { 0 },
};
const JsonTable control_started_table = { started_fields, sizeof(ControlStarted) };

static const JsonField restart_ask_fields[] = {
        F(ControlRestartAsk, STRING, process, .flags = JSON_OMIT_EMPTY, .min = 1, .max = 100),
        { 0 },
};
const JsonTable control_restart_ask_table = { restart_ask_fields, sizeof(ControlRestartAsk) };

static const JsonField text_fields[] = {
        F(ControlText, STRING, text, .max = SENTENCE_BYTES),
        { 0 },
};
const JsonTable control_text_table = { text_fields, sizeof(ControlText) };

static const JsonField wait_ask_fields[] = {
        F(ControlWaitAsk, LABEL, deploy, .flags = JSON_OMIT_EMPTY),
        F(ControlWaitAsk, BOOL, healthy, .flags = JSON_OMIT_EMPTY),
        { .name = "timeout", .kind = JSON_KIND_SPAN, .flags = JSON_OMIT_EMPTY, .offset = offsetof(ControlWaitAsk, timeout_usec), .max = WAIT_MAX_USEC },
        { 0 },
};
const JsonTable control_wait_ask_table = { wait_ask_fields, sizeof(ControlWaitAsk) };

static const JsonField wait_fields[] = {
        F(ControlWait, STRING, result),
        F(ControlWait, STRING, text, .max = SENTENCE_BYTES),
        { 0 },
};
const JsonTable control_wait_table = { wait_fields, sizeof(ControlWait) };

static const JsonField logs_ask_fields[] = {
        F(ControlLogsAsk, LABEL, deploy, .flags = JSON_OMIT_EMPTY),
        F(ControlLogsAsk, U64, offset, .flags = JSON_OMIT_EMPTY),
        { 0 },
};
const JsonTable control_logs_ask_table = { logs_ask_fields, sizeof(ControlLogsAsk) };

static const JsonField logs_fields[] = {
        F(ControlLogs, STRING, deploy),
        F(ControlLogs, STRING, text, .max = LOG_TEXT_BYTES),
        F(ControlLogs, U64, offset),
        F(ControlLogs, BOOL, more),
        { 0 },
};
const JsonTable control_logs_table = { logs_fields, sizeof(ControlLogs) };

static const JsonField call_message_fields[] = {
        F(CallMessage, STRING, method, .flags = JSON_REQUIRED, .min = 1, .max = 255),
        F(CallMessage, ANY, parameters, .flags = JSON_OMIT_EMPTY),
        F(CallMessage, BOOL, oneway, .flags = JSON_OMIT_EMPTY),
        F(CallMessage, BOOL, more, .flags = JSON_OMIT_EMPTY),
        F(CallMessage, BOOL, upgrade, .flags = JSON_OMIT_EMPTY),
        { 0 },
};
const JsonTable call_message_table = { call_message_fields, sizeof(CallMessage) };

static const JsonField reply_message_fields[] = {
        F(ReplyMessage, STRING, error, .flags = JSON_OMIT_EMPTY, .min = 1, .max = 255),
        F(ReplyMessage, ANY, parameters, .flags = JSON_OMIT_EMPTY),
        F(ReplyMessage, BOOL, continues, .flags = JSON_OMIT_EMPTY),
        { 0 },
};
const JsonTable reply_message_table = { reply_message_fields, sizeof(ReplyMessage) };

static const JsonField error_parameters_fields[] = {
        F(ErrorParameters, STRING, text, .flags = JSON_OMIT_EMPTY, .max = SENTENCE_BYTES),
        F(ErrorParameters, STRING, parameter, .flags = JSON_OMIT_EMPTY),
        F(ErrorParameters, STRING, method, .flags = JSON_OMIT_EMPTY),
        F(ErrorParameters, STRING, interface, .flags = JSON_OMIT_EMPTY),
        { 0 },
};
const JsonTable error_parameters_table = { error_parameters_fields, sizeof(ErrorParameters) };

static const JsonField service_info_fields[] = {
        F(ServiceInfo, STRING, vendor),
        F(ServiceInfo, STRING, product),
        F(ServiceInfo, STRING, version),
        F(ServiceInfo, STRING, url),
        F(ServiceInfo, STRV, interfaces, .max = 16),
        { 0 },
};
const JsonTable service_info_table = { service_info_fields, sizeof(ServiceInfo) };

static const JsonField service_interface_fields[] = {
        F(ServiceInterface, STRING, interface, .flags = JSON_REQUIRED, .min = 1, .max = 255),
        { 0 },
};
const JsonTable service_interface_table = { service_interface_fields, sizeof(ServiceInterface) };

static const JsonField service_description_fields[] = {
        F(ServiceDescription, STRING, description, .max = LIMIT_REQUEST_BYTES),
        { 0 },
};
const JsonTable service_description_table = { service_description_fields, sizeof(ServiceDescription) };
/* clang-format on */

const char service_description[] =
        "# What every varlink service answers.\n"
        "interface org.varlink.service\n\n"
        "# Who answers, and which interfaces it has.\n"
        "method GetInfo() -> (vendor: string, product: string, version: string, url: string, "
        "interfaces: []string)\n\n"
        "# The description of one interface.\n"
        "method GetInterfaceDescription(interface: string) -> (description: string)\n\n"
        "error InterfaceNotFound (interface: string)\n"
        "error MethodNotFound (method: string)\n"
        "error MethodNotImplemented (method: string)\n"
        "error InvalidParameter (parameter: string)\n"
        "# The method answers several times: call it with \"more\".\n"
        "error ExpectedMore ()\n";

const char control_description[] =
        "# The tendril agent of this host. Reading is for root, the agent's own user and group\n"
        "# tendril; what changes something, and Logs, is for root and the agent's own user.\n"
        "# Times are RFC 3339 in UTC, sha256 is 64 hexadecimal digits.\n"
        "interface " CONTROL_INTERFACE "\n\n"
        "# A version, null where there is none.\n"
        "type Version (label: ?string, sha256: ?string, revision: int, slot: ?string, "
        "since: ?string)\n\n"
        "# state is one of up, waiting, stopping.\n"
        "type Process (name: ?string, slot: ?string, state: ?string, pid: int, restarts: int, "
        "last_exit: ?string)\n\n"
        "# What failed here and is not tried again by itself.\n"
        "type Quarantine (revision: int, label: ?string, sha256: ?string, why: ?string, "
        "since: ?string)\n\n"
        "# The deploy under way, null where there is none. percent is of the fetch.\n"
        "type Deploy (id: ?string, kind: ?string, label: ?string, stage: ?string, since: ?string, "
        "percent: int)\n\n"
        "# health is one of ok, failing, unknown, nothing deployed; cause and waiting are "
        "sentences.\n"
        "type State (agent: ?string, host: ?string, environment: ?string, application: ?string,\n"
        "  desired: ?Version, current: ?Version, previous: ?Version, deploy: ?Deploy, hold: bool,\n"
        "  health: ?string, cause: ?string, store: ?string, store_ok: bool, store_error: ?string,\n"
        "  store_since: ?string, waiting: ?string, processes: []Process, quarantine: "
        "[]Quarantine,\n"
        "  warnings: ?[]string)\n\n"
        "# Where the credentials come from; error is the last failure, tried a sentence for each "
        "source.\n"
        "type Credentials (source: ?string, key_id: ?string, ends: ?string, refreshed: ?string,\n"
        "  error: ?string, failed: ?string, tried: ?[]string)\n\n"
        "# How the bucket is asked. etag_form is one of quoted, bare, unknown; clock says how far "
        "this\n"
        "# host's is off, null where it is not.\n"
        "type Bucket (endpoint: ?string, region: ?string, etag_form: ?string, clock: ?string,\n"
        "  n_requests: int, n_retries: int, n_throttled: int, error: ?string, failed: ?string)\n\n"
        "type Stage (name: string, took_ms: int)\n\n"
        "type Event (time: string, text: string)\n\n"
        "# tail is empty for readers who may not see the output of hooks.\n"
        "type Hook (phase: ?string, name: ?string, origin: ?string, started: ?string, took_ms: "
        "int,\n"
        "  result: ?string, messages: ?[]string, tail: ?[]string, survivors: bool)\n\n"
        "# kind: assigned, rollback, bundle, settings. outcome: running, done, failed, "
        "rolled-back, retry.\n"
        "type Record (format: int, id: string, kind: string, application: ?string, label: "
        "?string,\n"
        "  sha256: ?string, revision: int, previous: ?string, started: ?string, ended: ?string,\n"
        "  took_ms: int, outcome: string, stage: ?string, error: ?string, overlap: ?string,\n"
        "  overlap_why: ?string, gap_ms: int, stages: []Stage, hooks: []Hook, events: []Event)\n\n"
        "# How the host is.\n"
        "method Status() -> (agent: ?string, host: ?string, environment: ?string, application: "
        "?string,\n"
        "  desired: ?Version, current: ?Version, previous: ?Version, deploy: ?Deploy, hold: bool,\n"
        "  health: ?string, cause: ?string, store: ?string, store_ok: bool, store_error: ?string,\n"
        "  store_since: ?string, waiting: ?string, processes: []Process, quarantine: "
        "[]Quarantine,\n"
        "  warnings: ?[]string)\n\n"
        "# The same now and after each change; call it with \"more\".\n"
        "method Monitor() -> (agent: ?string, host: ?string, environment: ?string, application: "
        "?string,\n"
        "  desired: ?Version, current: ?Version, previous: ?Version, deploy: ?Deploy, hold: bool,\n"
        "  health: ?string, cause: ?string, store: ?string, store_ok: bool, store_error: ?string,\n"
        "  store_since: ?string, waiting: ?string, processes: []Process, quarantine: "
        "[]Quarantine,\n"
        "  warnings: ?[]string)\n\n"
        "# Whether the application answers well; status is the one of HTTP, 0 without an answer.\n"
        "method Health() -> (healthy: bool, health: ?string, cause: ?string, status: int, "
        "took_ms: int)\n\n"
        "# Why the host is as it is, in sentences.\n"
        "method Explain() -> (sentences: ?[]string)\n\n"
        "# How the store is reached, and with which credentials; no secrets.\n"
        "method Store() -> (url: ?string, remote: bool, credentials: ?Credentials, store: "
        "?Bucket)\n\n"
        "# Deploys, newest first; no limit or 0 means all that are kept.\n"
        "method History(limit: ?int) -> (deploys: []Record)\n\n"
        "# The log of a deploy from a byte on; without an id that of the newest.\n"
        "method Logs(deploy: ?string, offset: ?int) -> (deploy: ?string, text: ?string, offset: "
        "int, more: bool)\n\n"
        "# A bundle by its absolute path (holds the host on it), or retry, or resume.\n"
        "method Deploy(bundle: ?string, version: ?string, retry: ?bool, resume: ?bool) -> "
        "(deploy: ?string, text: ?string)\n\n"
        "# Back to the previous version; the present one is quarantined.\n"
        "method Rollback() -> (deploy: ?string, text: ?string)\n\n"
        "# Processes of the application; without a name all of them.\n"
        "method Restart(process: ?string) -> (text: ?string)\n\n"
        "# Reads the configuration again; one that is wrong is refused whole.\n"
        "method Reload() -> (text: ?string)\n\n"
        "# Answers when the deploy has ended, or when what is desired runs and is well, or after\n"
        "# timeout seconds. result: done, failed, rolled-back, retry, healthy, timeout.\n"
        "method Wait(deploy: ?string, healthy: ?bool, timeout: ?float) -> (result: ?string, text: "
        "?string)\n\n"
        "# It was tried and did not work.\n"
        "error Failed (text: string)\n"
        "# The caller may not, or what is asked cannot be.\n"
        "error Refused (text: string)\n"
        "# Something else is under way.\n"
        "error Busy (text: string)\n";

int call_message_parse(const char *text, size_t size, CallMessage *ret, Error **reterr) {
        int r;

        assert(ret);

        r = json_decode(text, size, &call_message_table, JSON_STRICT, ret, reterr);
        if (r < 0)
                return r;
        if (ret->more && ret->oneway) {
                call_message_done(ret);
                return error_set(reterr, -EBADMSG, "a call cannot be both \"more\" and \"oneway\"");
        }
        return 0;
}

void call_message_done(CallMessage *message) {
        json_table_done(&call_message_table, message);
}

int reply_message_parse(const char *text, size_t size, ReplyMessage *ret, Error **reterr) {
        assert(ret);

        return json_decode(text, size, &reply_message_table, JSON_LENIENT, ret, reterr);
}

void reply_message_done(ReplyMessage *message) {
        json_table_done(&reply_message_table, message);
}

/* The words of the decoder begin with the path of what is wrong. */
static char *parameter_of(const Error *err) {
        const char *text = error_text(err);
        size_t n = strcspn(text, ":");

        if (text[n] != ':' || n == 0 || n > 100 || strcspn(text, " ") < n)
                return strdup("parameters");
        return strndup(text, n);
}

int parameters_decode(const Json *parameters, const JsonTable *table, void *ret,
                      char **ret_parameter) {
        static const JsonField none_fields[] = { { 0 } };
        static const JsonTable none_table = { none_fields, 1 };
        _cleanup_(error_freep) Error *err = NULL;
        char unused = 0;
        int r;

        assert(ret_parameter);

        if (!table) {
                table = &none_table;
                ret = &unused;
        }
        r = parameters ? json_decode_value(parameters, table, JSON_STRICT, ret, &err)
                       : json_decode("{}", 2, table, JSON_STRICT, ret, &err);
        if (r >= 0 || r == -ENOMEM)
                return MIN(r, 0);

        *ret_parameter = parameter_of(err);
        return *ret_parameter ? -EBADMSG : -ENOMEM;
}

/* What a message is made of. The names are ours: nothing in them is to be escaped. */
typedef struct Envelope {
        const char *key;  /* "method", "error", or NULL */
        const char *name; /* its value */
        const JsonTable *table;
        const void *parameters;
        const char *flag; /* "more", "continues", or NULL */
} Envelope;

static int print_parts(const Envelope *e, Buf *ret) {
        const char *comma = "";
        int r;

        r = buf_append_str(ret, "{");
        if (r >= 0 && e->key) {
                r = buf_printf(ret, "\"%s\":\"%s\"", e->key, e->name);
                comma = ",";
        }
        if (r >= 0 && e->table) {
                r = buf_printf(ret, "%s\"parameters\":", comma);
                if (r >= 0)
                        r = json_encode(e->table, e->parameters, ret);
                comma = ",";
        }
        if (r >= 0 && e->flag)
                r = buf_printf(ret, "%s\"%s\":true", comma, e->flag);
        if (r >= 0)
                r = buf_append(ret, "}", 2);
        return r;
}

static int print_message(const Envelope *e, Buf *ret) {
        size_t before = ret->size;
        int r;

        r = print_parts(e, ret);
        if (r < 0 && ret->data) {
                ret->size = before;
                ret->data[before] = '\0';
        }
        return MIN(r, 0);
}

int call_message_print(const char *method, const JsonTable *table, const void *ask, bool more,
                       Buf *ret) {
        _cleanup_free_ char *name = NULL;

        assert(method);
        assert(ret);

        name = str_format("%s.%s", CONTROL_INTERFACE, method);
        if (!name)
                return -ENOMEM;
        return print_message(&(Envelope){ .key = "method",
                                          .name = name,
                                          .table = table,
                                          .parameters = ask,
                                          .flag = more ? "more" : NULL },
                             ret);
}

int reply_message_print(const JsonTable *table, const void *reply, bool continues, Buf *ret) {
        assert(ret);

        return print_message(&(Envelope){ .table = table,
                                          .parameters = reply,
                                          .flag = continues ? "continues" : NULL },
                             ret);
}

int error_message_print(const char *error, const ErrorParameters *parameters, Buf *ret) {
        assert(error);
        assert(ret);

        return print_message(&(Envelope){ .key = "error",
                                          .name = error,
                                          .table = parameters ? &error_parameters_table : NULL,
                                          .parameters = parameters },
                             ret);
}
