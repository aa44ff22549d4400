#pragma once

/*
 * What may be asked of `tendril-net` about the application: one HTTP request, its status and how
 * long it took.
 *
 * method "check": NetCheck → NetChecked. An answer of any status is success (the caller decides
 * what is good); no answer within the time, a refused connection, a torn answer are failures with
 * words (-ECONNREFUSED, -ETIMEDOUT, -EBADMSG). Only loopback addresses are asked; redirects are not
 * followed; the body is read to its end (bounded) and dropped.
 */

#include "base/json.h"
#include "base/time.h"
#include "loop/call.h"
#include "loop/http.h"

#define NET_CHECK "check"

typedef struct NetCheck {
        uint64_t port;       /* 1..65535 on 127.0.0.1 */
        char *path;          /* begins with '/' */
        char *host;          /* Host header, or NULL */
        usec_t timeout_usec; /* whole request */
} NetCheck;

typedef struct NetChecked {
        uint64_t status; /* 100..599 */
        usec_t took_usec;
} NetChecked;

extern const JsonTable net_check_table, net_checked_table;

/* Answers checks, for net/server.c. At most 32 are under way (-EBUSY). */
typedef struct Checks Checks;
int checks_new(int answer_fd, HttpClient *http, Checks **ret); /* both borrowed */

/* 0: it will be answered. Negative: it is not, and the caller answers with that. */
int checks_begin(Checks *checks, const CallRequest *request, Error **reterr);
Checks *checks_free(Checks *checks); /* what is under way is not answered */
DEFINE_CLEANUP(Checks, checks_free);
