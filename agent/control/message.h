#pragma once

/*
 * Varlink's envelopes, shared by the server and the client: what stands around the parameters of a
 * call and of a reply. A message on the wire is one of these as JSON and a NUL byte (the source of
 * the rules is varlink.org; systemd's server refuses the same things).
 *
 * Life: all zero → *_parse() → *_done().
 */

#include "control/proto.h"

#define VARLINK_SERVICE                   "org.varlink.service"
#define VARLINK_ERROR_INTERFACE_NOT_FOUND VARLINK_SERVICE ".InterfaceNotFound"
#define VARLINK_ERROR_METHOD_NOT_FOUND    VARLINK_SERVICE ".MethodNotFound"
#define VARLINK_ERROR_NOT_IMPLEMENTED     VARLINK_SERVICE ".MethodNotImplemented"
#define VARLINK_ERROR_INVALID_PARAMETER   VARLINK_SERVICE ".InvalidParameter"
#define VARLINK_ERROR_EXPECTED_MORE       VARLINK_SERVICE ".ExpectedMore"

typedef struct CallMessage {
        char *method;     /* with its interface */
        Json *parameters; /* NULL: none */
        bool oneway;      /* no reply is wanted */
        bool more;        /* several replies are welcome */
        bool upgrade;
} CallMessage;
extern const JsonTable call_message_table;

typedef struct ReplyMessage {
        char *error;      /* NULL: it went well */
        Json *parameters; /* NULL: none */
        bool continues;
} ReplyMessage;
extern const JsonTable reply_message_table;

/* The parameters of the errors that carry one word or sentence; only one member is given. */
typedef struct ErrorParameters {
        const char *text;
        const char *parameter;
        const char *method;
        const char *interface;
} ErrorParameters;
extern const JsonTable error_parameters_table;

typedef struct ServiceInfo {
        char *vendor;
        char *product;
        char *version;
        char *url;
        char **interfaces;
} ServiceInfo;

typedef struct ServiceInterface {
        char *interface;
} ServiceInterface;

typedef struct ServiceDescription {
        char *description;
} ServiceDescription;
extern const JsonTable service_info_table, service_interface_table, service_description_table;

/* org.varlink.service in Varlink's own language. */
extern const char service_description[];

/* -EBADMSG for whatever is not a call: the connection is not worth keeping. */
int call_message_parse(const char *text, size_t size, CallMessage *ret, Error **reterr);
void call_message_done(CallMessage *message);

int reply_message_parse(const char *text, size_t size, ReplyMessage *ret, Error **reterr);
void reply_message_done(ReplyMessage *message);

/* Parameters, JSON_STRICT. NULL and null are {}. -EBADMSG with *ret_parameter the name of what is
 * wrong ("parameters" where it is none of them in particular); the caller frees it. */
int parameters_decode(const Json *parameters, const JsonTable *table, void *ret,
                      char **ret_parameter);

/* A message with its NUL, appended. table NULL: no parameters. On failure the buffer is as it was.
 */
int call_message_print(const char *method, const JsonTable *table, const void *ask, bool more,
                       Buf *ret);
int reply_message_print(const JsonTable *table, const void *reply, bool continues, Buf *ret);
int error_message_print(const char *error, const ErrorParameters *parameters, Buf *ret);
