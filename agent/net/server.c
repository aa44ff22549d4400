#include "net/server.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "loop/call.h"
#include "loop/http.h"
#include "net/check.h"
#include "net/credentials.h"
#include "net/imds.h"
#include "net/s3.h"
#include "store/serve.h"

/* Of identity and status, at once: each has one asker. */
#define MAX_ASKS 16

/* Where an endpoint is given, most servers behind it take any region, and this one at least. */
#define FALLBACK_REGION "us-east-1"

/* A request that waits for the region. */
typedef struct Waiting {
        struct Waiting *next;
        CallRequest request;
} Waiting;

/* A question to the metadata service or the chain, that is answered later. */
typedef struct Ask {
        NetServer *server;
        struct Ask *next;
        uint64_t id;
        IdentityCall *identity;
        CredentialWait *credentials;
} Ask;

struct NetServer {
        sd_event *loop;
        NetConfine confine;
        bool confined;
        CallServer *calls;
        HttpClient *http;
        Checks *checks;

        bool opened;
        WireOpen open;
        Imds *imds;
        CredentialChain *chain;
        S3 *s3; /* the store's, once there is one */
        Store *store;
        StoreServer *served;

        char *region; /* NULL: not known yet */
        char *domain; /* of its partition, from IMDS */
        IdentityCall *region_call;
        Error *region_error; /* why there is no store, the last time it was tried */
        bool region_failed;  /* just now: those that waited for it are told */
        Waiting *waiting;    /* in the order in which they came */

        Ask *asks;
        size_t n_asks;
};

static int answer_fd(const NetServer *s) {
        return call_server_fd(s->calls);
}

static void fail_request(const NetServer *s, uint64_t id, int r, const Error *err) {
        (void) call_fail(answer_fd(s), id, r, err ? error_text(err) : strerror(-r));
}

/* ---- what was opened ---- */

static const char *variable(const WireOpen *open, const char *name) {
        size_t n = strlen(name);

        for (char *const *v = open->environment; v && *v; v++)
                if (strncmp(*v, name, n) == 0 && (*v)[n] == '=')
                        return *v + n + 1;
        return NULL;
}

/* "http_proxy" in capitals is not looked at: where the environment comes from a request (CGI), it
 * is a header of that. */
static int set_proxies(NetServer *s, const WireOpen *open) {
        const char *all = variable(open, "all_proxy") ?: variable(open, "ALL_PROXY");
        const char *https = variable(open, "https_proxy") ?: variable(open, "HTTPS_PROXY");
        const char *no = variable(open, "no_proxy") ?: variable(open, "NO_PROXY");
        const HttpProxy proxy = {
                .http = variable(open, "http_proxy") ?: all,
                .https = https ?: all,
                .no_proxy = no,
        };

        return http_client_set_proxy(s->http, &proxy);
}

static int set_certificates(NetServer *s, const WireOpen *open, Error **reterr) {
        const char *env = variable(open, "AWS_CA_BUNDLE") ?: variable(open, "SSL_CERT_FILE");
        const char *path = open->ca_file ?: env;
        int fd;

        if (!path)
                return 0;
        /* libcurl says no more than that there is something wrong with it. */
        fd = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return error_set(reterr, -errno,
                                 "read the certificates %s: %s; the user of tendril-net must be "
                                 "able to",
                                 path, strerror(errno));
        closep(&fd);
        return http_client_set_ca_file(s->http, path);
}

static bool is_true(const char *text) {
        return text && strcasecmp(text, "true") == 0;
}

static int make_chain(NetServer *s, Error **reterr) {
        const WireOpen *open = &s->open;
        CredentialSpec spec = {
                .loop = s->loop,
                .http = s->http,
                .environment = open->environment,
                .region = s->region,
        };
        int r;

        r = imds_new(s->loop, s->http, variable(open, "AWS_EC2_METADATA_SERVICE_ENDPOINT"),
                     is_true(variable(open, "AWS_EC2_METADATA_DISABLED")), &s->imds, reterr);
        if (r < 0)
                return r;
        spec.imds = s->imds;
        return credentials_new(&spec, &s->chain, reterr);
}

/* With the region known. */
static int make_store(NetServer *s, Error **reterr) {
        const S3Spec spec = {
                .loop = s->loop,
                .http = s->http,
                .chain = s->chain,
                .url = s->open.url,
                .endpoint = { .region = s->region,
                              .endpoint = s->open.endpoint,
                              .domain = s->domain,
                              .path_style = s->open.path_style,
                              .virtual_host = s->open.virtual_host,
                              .dualstack = s->open.dualstack,
                              .fips = s->open.fips },
        };
        int r;

        r = s3_new(&spec, &s->s3, reterr);
        if (r < 0)
                return r;
        r = store_s3_new(s->s3, &s->store, reterr);
        if (r < 0) {
                s->s3 = s3_free(s->s3);
                return r;
        }
        r = store_server_new(answer_fd(s), s->store, &s->served);
        if (r < 0) {
                s->store = store_free(s->store);
                s->s3 = NULL;
                return error_set(reterr, r, "open the store: %s", strerror(-r));
        }
        return 0;
}

static void close_store(NetServer *s) {
        s->region_call = imds_identity_cancel(s->region_call);
        s->served = store_server_free(s->served);
        s->store = store_free(s->store);
        s->s3 = NULL;
        s->chain = credentials_free(s->chain);
        s->imds = imds_free(s->imds);
        free(TAKE_PTR(s->region));
        free(TAKE_PTR(s->domain));
        wire_open_done(&s->open);
        s->opened = false;
}

static int check_url(const char *url, Error **reterr) {
        S3Location location = { 0 };
        int r = s3_location_parse(url, &location, reterr);

        s3_location_done(&location);
        return r;
}

static int open_all(NetServer *s, Error **reterr) {
        const WireOpen *open = &s->open;
        const char *region = open->region
                                     ?: variable(open, "AWS_REGION")
                                                ?: variable(open, "AWS_DEFAULT_REGION");
        int r;

        r = check_url(open->url, reterr);
        if (r < 0)
                return r;
        s->region = region ? strdup(region) : NULL;
        if (region && !s->region)
                return error_set(reterr, -ENOMEM, "open the store: out of memory");
        r = set_proxies(s, open);
        if (r >= 0)
                r = set_certificates(s, open, reterr);
        if (r >= 0)
                r = make_chain(s, reterr);
        if (r >= 0 && s->region)
                r = make_store(s, reterr);
        return r;
}

static int confine(NetServer *s, const WireOpen *open, Error **reterr) {
        int r;

        if (s->confined || !s->confine)
                return 0;
        s->confined = true;
        r = s->confine(open, reterr);
        if (r < 0) {
                (void) sd_event_exit(s->loop, r);
                return error_wrap(reterr, r, "confine tendril-net");
        }
        return 0;
}

static int on_open(NetServer *s, CallRequest *request, Error **reterr) {
        int r;

        if (s->opened)
                return error_set(reterr, -EALREADY,
                                 "a store is open: another one means another process");
        r = json_decode_value(request->parameters, &wire_open_table, JSON_STRICT, &s->open, reterr);
        if (r >= 0)
                r = confine(s, &s->open, reterr);
        if (r >= 0)
                r = open_all(s, reterr);
        if (r < 0) {
                close_store(s);
                return r;
        }
        s->opened = true;
        return call_answer(answer_fd(s), request->id, NULL, NULL, NULL, 0);
}

/* ---- the region ---- */

static void dispatch(NetServer *s, CallRequest *request);

static Waiting *waiting_free(Waiting *w) {
        if (!w)
                return NULL;
        call_request_done(&w->request);
        free(w);
        return NULL;
}

/* Those that waited go on in their order: with a store, or with the reason why there is none. */
static void go_on(NetServer *s) {
        Waiting *all = TAKE_PTR(s->waiting);

        while (all) {
                Waiting *next = all->next;

                dispatch(s, &all->request);
                (void) waiting_free(all);
                all = next;
        }
}

static int take_region(NetServer *s, int r, const NetIdentity *identity, const Error *err,
                       Error **reterr) {
        const char *region = r >= 0 ? identity->region : NULL;
        const char *why = r < 0 ? error_text(err) : "the metadata service does not name it";

        if (!region && !s->open.endpoint)
                return error_set(reterr, r < 0 ? r : -ENOENT,
                                 "which region is %s in? Set `region` of the store, or AWS_REGION; "
                                 "the instance was asked: %s",
                                 s->open.url, why);
        s->region = strdup(region ?: FALLBACK_REGION);
        if (region && identity->domain)
                s->domain = strdup(identity->domain);
        if (!s->region || (region && identity->domain && !s->domain))
                return error_set(reterr, -ENOMEM, "open the store: out of memory");
        return make_store(s, reterr);
}

static void on_region(void *userdata, int r, const NetIdentity *identity, Error *err) {
        NetServer *s = userdata;

        s->region_call = NULL;
        s->region_error = error_free(s->region_error);
        r = take_region(s, r, identity, err, &s->region_error);
        if (r < 0) {
                free(TAKE_PTR(s->region));
                free(TAKE_PTR(s->domain));
        }
        /* Who comes later asks again. */
        s->region_failed = r < 0;
        go_on(s);
        s->region_failed = false;
}

static int wait_for_region(NetServer *s, CallRequest *request, Error **reterr) {
        Waiting *w = NULL, **at = &s->waiting;
        size_t n = 0;
        int r;

        for (; *at; at = &(*at)->next)
                n++;
        if (n >= LIMIT_S3_CALLS)
                return error_set(reterr, -EBUSY, "%d calls wait until the region is known",
                                 LIMIT_S3_CALLS);
        if (!s->region_call) {
                r = imds_identity(s->imds, NULL, on_region, s, &s->region_call);
                if (r < 0)
                        return error_set(reterr, r, "ask for the region: %s", strerror(-r));
        }
        w = calloc(1, sizeof(Waiting));
        if (!w)
                return error_set(reterr, -ENOMEM, "out of memory");
        w->request = *request;
        *request = (CallRequest){ 0 };
        *at = w;
        return 0;
}

static int need_open(const NetServer *s, const char *method, Error **reterr) {
        return s->opened ? 0
                         : error_set(reterr, -ENOTCONN, "%s: no store is open: %s comes first",
                                     method, WIRE_OPEN);
}

/* ---- the store's calls ---- */

static int on_store(NetServer *s, CallRequest *request, Error **reterr) {
        int r = need_open(s, request->method, reterr);

        if (r < 0)
                return r;
        if (s->served)
                return store_server_begin(s->served, request, reterr);
        if (s->region_failed)
                return error_set(reterr, error_code(s->region_error) ?: -ENOMEM, "%s",
                                 error_text(s->region_error));
        return wait_for_region(s, request, reterr);
}

/* ---- identity and status ---- */

static Ask *ask_free(Ask *ask) {
        Ask **at = &ask->server->asks;

        while (*at != ask)
                at = &(*at)->next;
        *at = ask->next;
        ask->server->n_asks--;
        ask->identity = imds_identity_cancel(ask->identity);
        ask->credentials = credentials_cancel(ask->credentials);
        free(ask);
        return NULL;
}
DEFINE_CLEANUP(Ask, ask_free);

static int ask_new(NetServer *s, uint64_t id, Ask **ret, Error **reterr) {
        Ask *ask;

        if (s->n_asks >= MAX_ASKS)
                return error_set(reterr, -EBUSY, "%d questions are under way", MAX_ASKS);
        ask = calloc(1, sizeof(Ask));
        if (!ask)
                return error_set(reterr, -ENOMEM, "out of memory");
        ask->server = s;
        ask->id = id;
        ask->next = s->asks;
        s->asks = ask;
        s->n_asks++;
        *ret = ask;
        return 0;
}

static void on_identity_known(void *userdata, int r, const NetIdentity *identity, Error *err) {
        Ask *ask = userdata;
        NetServer *s = ask->server;

        ask->identity = NULL;
        if (r >= 0)
                r = call_answer(answer_fd(s), ask->id, &net_identity_table, identity, NULL, 0);
        if (r < 0)
                fail_request(s, ask->id, r, err);
        (void) ask_free(ask);
}

static int on_identity(NetServer *s, CallRequest *request, Error **reterr) {
        _cleanup_(ask_freep) Ask *ask = NULL;
        int r;

        r = need_open(s, request->method, reterr);
        if (r >= 0)
                r = ask_new(s, request->id, &ask, reterr);
        if (r < 0)
                return r;
        r = imds_identity(s->imds, s->open.identity_tag, on_identity_known, ask, &ask->identity);
        if (r < 0)
                return error_set(reterr, r, "ask the metadata service, and for the tag '%s': %s",
                                 s->open.identity_tag ?: "", strerror(-r));
        (void) TAKE_PTR(ask);
        return 0;
}

typedef struct Status {
        CredentialStatus credentials;
        S3Status store;
} Status;

/* clang-format off */
static const JsonField status_fields[] = {
        JSON_ROW_TABLE("credentials", JSON_KIND_OBJECT, 0, Status, credentials, 0, &credential_status_table),
        JSON_ROW_TABLE("store", JSON_KIND_OBJECT, 0, Status, store, 0, &s3_status_table),
        JSON_END,
};
static const JsonTable status_table = { status_fields, sizeof(Status) };
/* clang-format on */

static int fill_status(const NetServer *s, Status *ret) {
        int r;

        r = credentials_status(s->chain, &ret->credentials);
        if (r >= 0 && s->s3)
                return s3_status(s->s3, &ret->store);
        if (r >= 0 && s->region_error) {
                ret->store.error = strdup(error_text(s->region_error));
                return ret->store.error ? 0 : -ENOMEM;
        }
        return r;
}

static int answer_status(const NetServer *s, uint64_t id) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        _cleanup_close_ int fd = -EBADF;
        Status status = { 0 };
        int r;

        r = fill_status(s, &status);
        if (r >= 0)
                r = json_encode(&status_table, &status, &text);
        json_table_done(&status_table, &status);
        if (r < 0)
                return r;
        fd = file_memfd("status", text.data, text.size);
        if (fd < 0)
                return fd;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
                return -errno;
        return call_answer(answer_fd(s), id, NULL, NULL, &fd, 1);
}

/* What the chain tried is in its status, whether it found any or not. */
static void on_status_credentials(void *userdata, _unused_ int r,
                                  _unused_ const Credentials *credentials, _unused_ Error *err) {
        Ask *ask = userdata;
        int answered;

        ask->credentials = NULL;
        answered = answer_status(ask->server, ask->id);
        if (answered < 0)
                fail_request(ask->server, ask->id, answered, NULL);
        (void) ask_free(ask);
}

/* Tells of the region too: it waits for that as a call of the store does, but not in vain. */
static int on_status(NetServer *s, CallRequest *request, Error **reterr) {
        _cleanup_(ask_freep) Ask *ask = NULL;
        int r;

        r = need_open(s, request->method, reterr);
        if (r < 0)
                return r;
        if (!s->served && !s->region_failed)
                return wait_for_region(s, request, reterr);
        r = ask_new(s, request->id, &ask, reterr);
        if (r < 0)
                return r;
        r = credentials_get(s->chain, on_status_credentials, ask, &ask->credentials);
        if (r < 0)
                return error_set(reterr, r, "ask for credentials: %s", strerror(-r));
        (void) TAKE_PTR(ask);
        return 0;
}

/* ---- requests ---- */

static int on_check(NetServer *s, CallRequest *request, Error **reterr) {
        return checks_begin(s->checks, request, reterr);
}

typedef struct Method {
        const char *name;
        int (*begin)(NetServer *s, CallRequest *request, Error **reterr);
} Method;

static const Method methods[] = {
        { NET_CHECK, on_check },
        { WIRE_OPEN, on_open },
        { NET_IDENTITY, on_identity },
        { WIRE_STATUS, on_status },
};

static int begin(NetServer *s, CallRequest *request, Error **reterr) {
        for (size_t i = 0; i < ELEMENTS(methods); i++)
                if (str_equal(request->method, methods[i].name))
                        return methods[i].begin(s, request, reterr);
        if (store_server_knows(request->method))
                return on_store(s, request, reterr);
        return error_set(reterr, -EOPNOTSUPP, "tendril-net does not know '%s'", request->method);
}

static void dispatch(NetServer *s, CallRequest *request) {
        _cleanup_(error_freep) Error *err = NULL;
        uint64_t id = request->id;
        int r = 0;

        if (!str_equal(request->method, WIRE_OPEN))
                r = confine(s, NULL, &err);
        if (r >= 0)
                r = begin(s, request, &err);
        if (r < 0)
                fail_request(s, id, r, err);
}

static void on_request(void *userdata, CallRequest *request) {
        dispatch(userdata, request);
}

/* ---- life ---- */

int net_server_new(sd_event *loop, int fd, NetConfine hook, NetServer **ret, Error **reterr) {
        _cleanup_(net_server_freep) NetServer *s = calloc(1, sizeof(NetServer));
        int r;

        if (!s) {
                closep(&fd);
                return error_set(reterr, -ENOMEM, "start: out of memory");
        }
        s->loop = sd_event_ref(loop);
        s->confine = hook;
        r = call_server_new(loop, fd, on_request, s, &s->calls);
        if (r < 0)
                return error_set(reterr, r, "serve calls: %s", strerror(-r));
        r = http_client_new(loop, &s->http, reterr);
        if (r < 0)
                return r;
        r = checks_new(answer_fd(s), s->http, &s->checks);
        if (r < 0)
                return error_set(reterr, r, "serve checks: %s", strerror(-r));
        *ret = TAKE_PTR(s);
        return 0;
}

NetServer *net_server_free(NetServer *s) {
        if (!s)
                return NULL;
        while (s->asks)
                (void) ask_free(s->asks);
        while (s->waiting) {
                Waiting *w = s->waiting;

                s->waiting = w->next;
                (void) waiting_free(w);
        }
        close_store(s);
        (void) error_free(s->region_error);
        s->checks = checks_free(s->checks);
        s->http = http_client_free(s->http);
        s->calls = call_server_free(s->calls);
        s->loop = sd_event_unref(s->loop);
        free(s);
        return NULL;
}
