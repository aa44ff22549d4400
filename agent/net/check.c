#include "net/check.h"

#include <errno.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/str.h"
#include "loop/http.h"

#define CHECKS_MAX 32

typedef struct Check {
        struct NetServer *server; /* NULL: free */
        HttpTransfer *transfer;
        uint64_t id;
} Check;

struct NetServer {
        CallServer *calls;
        HttpClient *http;
        Check checks[CHECKS_MAX];
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
        int fd = call_server_fd(c->server->calls);

        if (r < 0)
                (void) call_fail(fd, c->id, r, error_text(err));
        else {
                const NetChecked answer = { .status = reply->status,
                                            .took_usec = reply->took_usec };

                (void) call_answer(fd, c->id, &net_checked_table, &answer, NULL, 0);
        }
        memset(c, 0, sizeof(*c));
}

static int send_check(NetServer *s, Check *c, const NetCheck *p, Error **reterr) {
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
        return http_send(s->http, &request, &c->transfer, reterr);
}

static Check *free_check(NetServer *s) {
        for (size_t i = 0; i < CHECKS_MAX; i++)
                if (!s->checks[i].server)
                        return &s->checks[i];
        return NULL;
}

static int begin_check(NetServer *s, const CallRequest *request, Error **reterr) {
        NetCheck p = { 0 };
        Check *c = free_check(s);
        int r;

        if (!c)
                return error_set(reterr, -EBUSY, "%d checks are under way", CHECKS_MAX);
        r = json_decode_value(request->parameters, &net_check_table, JSON_LENIENT, &p, reterr);
        if (r < 0)
                return r;
        c->server = s;
        c->id = request->id;
        r = send_check(s, c, &p, reterr);
        if (r < 0)
                memset(c, 0, sizeof(*c));
        json_table_done(&net_check_table, &p);
        return r;
}

static void on_request(void *userdata, CallRequest *request) {
        NetServer *s = userdata;
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        if (str_equal(request->method, NET_CHECK))
                r = begin_check(s, request, &err);
        else
                r = error_set(&err, -EOPNOTSUPP, "tendril-net does not know '%s'", request->method);
        if (r < 0)
                (void) call_fail(call_server_fd(s->calls), request->id, r, error_text(err));
        call_request_done(request);
}

int net_server_new(sd_event *loop, int fd, NetServer **ret, Error **reterr) {
        _cleanup_(net_server_freep) NetServer *s = calloc(1, sizeof(NetServer));
        int r;

        if (!s) {
                closep(&fd);
                return error_set(reterr, -ENOMEM, "start: out of memory");
        }
        r = call_server_new(loop, fd, on_request, s, &s->calls);
        if (r < 0)
                return error_set(reterr, r, "serve calls: %s", strerror(-r));
        r = http_client_new(loop, &s->http, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

NetServer *net_server_free(NetServer *s) {
        if (!s)
                return NULL;
        s->http = http_client_free(s->http);
        s->calls = call_server_free(s->calls);
        free(s);
        return NULL;
}
