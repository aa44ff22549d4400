#include "net/check.h"

#include <errno.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/str.h"
#include "loop/http.h"

#define CHECKS_MAX 32

typedef struct Check {
        Checks *checks; /* NULL: free */
        HttpTransfer *transfer;
        uint64_t id;
} Check;

struct Checks {
        int answer_fd;
        HttpClient *http;
        Check all[CHECKS_MAX];
};

/* clang-format off */
static const JsonField check_fields[] = {
        { .name = "port", .kind = JSON_KIND_U64, .flags = JSON_REQUIRED, .offset = offsetof(NetCheck, port), .min = 1, .max = 65535 },
        { .name = "path", .kind = JSON_KIND_STRING, .flags = JSON_REQUIRED, .offset = offsetof(NetCheck, path), .min = 1, .max = 2048 },
        JSON_ROW_MAX("host", JSON_KIND_STRING, 0, NetCheck, host, 255),
        JSON_ROW("timeout", JSON_KIND_SPAN, 0, NetCheck, timeout_usec),
        JSON_END,
};
const JsonTable net_check_table = { check_fields, sizeof(NetCheck) };

static const JsonField checked_fields[] = {
        JSON_ROW("status", JSON_KIND_U64, JSON_REQUIRED, NetChecked, status),
        JSON_ROW("took", JSON_KIND_SPAN, 0, NetChecked, took_usec),
        JSON_END,
};
const JsonTable net_checked_table = { checked_fields, sizeof(NetChecked) };
/* clang-format on */

static void on_done(void *userdata, int r, HttpReply *reply, Error *err) {
        Check *c = userdata;
        int fd = c->checks->answer_fd;

        if (r < 0)
                (void) call_fail(fd, c->id, r, error_text(err));
        else {
                const NetChecked answer = { .status = reply->status,
                                            .took_usec = reply->took_usec };

                (void) call_answer(fd, c->id, &net_checked_table, &answer, NULL, 0);
        }
        memset(c, 0, sizeof(*c));
}

static int send_check(Check *c, const NetCheck *p, Error **reterr) {
        _cleanup_free_ char *url = NULL, *host = NULL;
        char user_agent[] = "User-Agent: tendril/" TENDRIL_VERSION " (health check)";
        char *headers[] = { user_agent, NULL, NULL };
        HttpRequest request = { .method = "GET",
                                .only_host = "127.0.0.1",
                                .headers = headers,
                                .loopback_only = true,
                                .connect_usec = p->timeout_usec,
                                .total_usec = p->timeout_usec,
                                .max_bytes = LIMIT_CHECK_BODY_BYTES,
                                .on_done = on_done,
                                .userdata = c };

        if (p->path[0] != '/')
                return error_set(reterr, -EINVAL,
                                 "the path of a check begins with '/', and '%s' does not", p->path);
        url = str_format("http://127.0.0.1:%u%s", (unsigned) p->port, p->path);
        host = p->host ? str_format("Host: %s", p->host) : NULL;
        if (!url || (p->host && !host))
                return error_set(reterr, -ENOMEM, "check: out of memory");
        headers[1] = host;
        request.url = url;
        return http_send(c->checks->http, &request, &c->transfer, reterr);
}

static Check *find_free(Checks *checks) {
        for (size_t i = 0; i < CHECKS_MAX; i++)
                if (!checks->all[i].checks)
                        return &checks->all[i];
        return NULL;
}

int checks_begin(Checks *checks, const CallRequest *request, Error **reterr) {
        NetCheck p = { 0 };
        Check *c = find_free(checks);
        int r;

        if (!c)
                return error_set(reterr, -EBUSY, "%d checks are under way", CHECKS_MAX);
        r = json_decode_value(request->parameters, &net_check_table, JSON_LENIENT, &p, reterr);
        if (r < 0)
                return r;
        c->checks = checks;
        c->id = request->id;
        r = send_check(c, &p, reterr);
        if (r < 0)
                memset(c, 0, sizeof(*c));
        json_table_done(&net_check_table, &p);
        return r;
}

int checks_new(int answer_fd, HttpClient *http, Checks **ret) {
        Checks *checks = calloc(1, sizeof(Checks));

        if (!checks)
                return -ENOMEM;
        checks->answer_fd = answer_fd;
        checks->http = http;
        *ret = checks;
        return 0;
}

Checks *checks_free(Checks *checks) {
        if (!checks)
                return NULL;
        for (size_t i = 0; i < CHECKS_MAX; i++)
                checks->all[i].transfer = http_cancel(checks->all[i].transfer);
        free(checks);
        return NULL;
}
