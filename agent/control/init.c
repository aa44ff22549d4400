#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "control/ctl.h"
#include "control/policy.h"
#include "control/storecmd.h"
#include "session.h"
#include "store/key.h"

#define N_KEYS 2

typedef struct InitKey {
        char *id;
        char *purpose;
        char *private_file;
        char *public_file;
        char *pem;
} InitKey;

typedef struct InitPolicy {
        char *name;
        char *file;
        Json *document;
} InitPolicy;

/* What was made, as it is told. */
typedef struct InitResult {
        char *store;
        char *id; /* NULL: nobody asked */
        char *endpoint;
        bool created;
        JsonArray keys;     /* InitKey */
        JsonArray policies; /* InitPolicy */
} InitResult;

typedef struct Init {
        Session session;
        SessionOptions options;
        const char *keys, *policies, *partition, *kms_key, *account;
        char **environments;
        bool dry_run;
        S3Location location; /* of a store in S3 */
        PolicySpec spec;
        InitResult result;
} Init;

/* clang-format off */
static const JsonField key_fields[] = {
        { .name = "id", .kind = JSON_KIND_STRING, .offset = offsetof(InitKey, id) },
        { .name = "purpose", .kind = JSON_KIND_STRING, .offset = offsetof(InitKey, purpose) },
        { .name = "private_file", .kind = JSON_KIND_STRING, .offset = offsetof(InitKey, private_file) },
        { .name = "public_file", .kind = JSON_KIND_STRING, .offset = offsetof(InitKey, public_file) },
        { .name = "pem", .kind = JSON_KIND_STRING, .offset = offsetof(InitKey, pem) },
        {},
};
static const JsonTable key_table = { key_fields, sizeof(InitKey) };

static const JsonField policy_fields[] = {
        { .name = "name", .kind = JSON_KIND_STRING, .offset = offsetof(InitPolicy, name) },
        { .name = "file", .kind = JSON_KIND_STRING, .offset = offsetof(InitPolicy, file) },
        { .name = "document", .kind = JSON_KIND_ANY, .offset = offsetof(InitPolicy, document) },
        {},
};
static const JsonTable policy_table = { policy_fields, sizeof(InitPolicy) };

static const JsonField result_fields[] = {
        { .name = "store", .kind = JSON_KIND_STRING, .offset = offsetof(InitResult, store) },
        { .name = "id", .kind = JSON_KIND_STRING, .offset = offsetof(InitResult, id) },
        { .name = "endpoint", .kind = JSON_KIND_STRING, .flags = JSON_OMIT_EMPTY, .offset = offsetof(InitResult, endpoint) },
        { .name = "created", .kind = JSON_KIND_BOOL, .offset = offsetof(InitResult, created) },
        { .name = "keys", .kind = JSON_KIND_ARRAY, .offset = offsetof(InitResult, keys), .max = N_KEYS, .table = &key_table },
        { .name = "policies", .kind = JSON_KIND_ARRAY, .flags = JSON_OMIT_EMPTY, .offset = offsetof(InitResult, policies), .max = _POLICY_KIND_MAX, .table = &policy_table },
        {},
};
static const JsonTable result_table = { result_fields, sizeof(InitResult) };
/* clang-format on */

static void init_done(Init *i) {
        session_done(&i->session);
        session_options_done(&i->options);
        i->environments = strv_free(i->environments);
        s3_location_done(&i->location);
        json_table_done(&result_table, &i->result);
}

/* ---- the store ---- */

static int make_folder(const Session *s, const char *url) {
        const char *path = url + strlen("file://");
        int fd;

        if (!str_has_prefix(url, "file:///"))
                return session_fail(s, EXIT_CODE_USAGE, NULL,
                                    "--store %.200s: neither file:///path (three slashes, an "
                                    "absolute path) nor s3://bucket/prefix",
                                    url);
        /* Settings may hold passwords: who else may read is for its owner to say. */
        fd = file_mkdirs_at(AT_FDCWD, path, 0700);
        if (fd < 0)
                return session_broken(s, fd, NULL, "make the folder %s", path);
        (void) close(fd);
        return 0;
}

static int write_id(Session *s, InitResult *ret, Error **reterr) {
        _cleanup_free_ char *key = key_store_id(), *created = calloc(1, TIME_RFC3339_SIZE);
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        StoreDocument store = { .format = FORMAT_DOCUMENT, .created = created };
        int r;

        ret->id = str_random_hex(8);
        store.id = ret->id;
        if (!key || !created || !ret->id)
                return -ENOMEM;
        session_now(created);
        r = json_encode(&store_document_table, &store, &text);
        if (r < 0)
                return r;
        r = session_put(s, key, &text, NULL, STORE_IF_ABSENT, NULL, NULL, reterr);
        if (r == STORE_REFUSED)
                return error_set(reterr, -EAGAIN,
                                 "somebody else made it at the same moment; repeat to see its id");
        ret->created = r == 0;
        return r;
}

/* Is there a store already? Then ret has its id. */
static int look_for_store(Session *s, InitResult *ret) {
        _cleanup_(session_document_done) SessionDocument there = { 0 };
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_free_ char *key = key_store_id();
        int r;

        ret->store = strdup(store_url(s->store));
        if (!key || !ret->store)
                return session_broken(s, -ENOMEM, NULL, "make the store");
        r = session_get(s, key, &there, &err);
        if (r == 0)
                r = session_read_store_id(s, &ret->id, &err);
        return r < 0 ? session_broken(s, r, err, "make the store") : 0;
}

static int make_store(Session *s, InitResult *ret) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = session_self_test(s, &err);
        if (r == 0)
                r = write_id(s, ret, &err);
        return r < 0 ? session_broken(s, r, err, "make the store") : 0;
}

/* ---- keys ---- */

static int write_key(int dir_fd, const char *name, const char *pem, mode_t mode, Error **reterr) {
        int r = file_write_at(dir_fd, name, pem, strlen(pem), mode, FILE_SYNC);

        return r < 0 ? error_set(reterr, r, "write the key %s: %s", name, strerror(-r)) : 0;
}

static int make_key(Session *s, int dir_fd, const char *dir, const char *purpose, InitKey *ret,
                    Error **reterr) {
        _cleanup_free_ char *random = str_random_hex(4), *private_name = NULL, *public_name = NULL;
        TaskKeys pair = { 0 };
        SessionTask task = { .method = TASK_KEYGEN,
                             .answer_table = &task_keys_table,
                             .answer = &pair };
        int r;

        if (!random)
                return -ENOMEM;
        r = session_task(s, &task, reterr);
        if (r < 0)
                return r;
        ret->id = str_format("%s-%s", purpose, random);
        ret->purpose = strdup(purpose);
        private_name = str_format("%s-%s.key", purpose, random);
        public_name = str_format("%s-%s.pub", purpose, random);
        r = private_name && public_name
                    ? write_key(dir_fd, private_name, pair.private_pem, 0600, reterr)
                    : -ENOMEM;
        if (r == 0)
                r = write_key(dir_fd, public_name, pair.public_pem, 0644, reterr);
        if (r == 0) {
                ret->private_file = str_format("%s/%s", dir, private_name);
                ret->public_file = str_format("%s/%s", dir, public_name);
                ret->pem = TAKE_PTR(pair.public_pem);
        }
        explicit_bzero(pair.private_pem, strlen(pair.private_pem));
        json_table_done(&task_keys_table, &pair);
        return r;
}

static int make_keys(Session *s, const char *dir, InitResult *ret) {
        static const char *const purposes[N_KEYS] = { "publish", "assign" };
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_close_ int dir_fd = file_mkdirs_at(AT_FDCWD, dir, 0700);

        if (dir_fd < 0)
                return session_broken(s, dir_fd, NULL, "make the folder %s", dir);
        for (size_t i = 0; i < N_KEYS; i++) {
                InitKey *key = json_array_add(&ret->keys, &key_table, N_KEYS);
                int r;

                r = key ? make_key(s, dir_fd, dir, purposes[i], key, &err) : -ENOMEM;
                if (r < 0)
                        return session_broken(s, r, err, "make keys in %s", dir);
        }
        return 0;
}

/* ---- policies ---- */

static const char *region(void) {
        const char *name = getenv("AWS_REGION");

        return str_is_empty(name) ? getenv("AWS_DEFAULT_REGION") : name;
}

/* What is wrong with the options is told before anything is done. */
static int read_location(Init *i, const char *url) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = s3_location_parse(url, &i->location, &err);
        if (r >= 0) {
                i->spec = (PolicySpec){ .location = &i->location,
                                        .partition = i->partition ?: policy_partition(region()),
                                        .environments = i->environments,
                                        .kms_key = i->kms_key,
                                        .account = i->account };
                r = policy_check(&i->spec, &err);
        }
        if (r >= 0 && i->dry_run) {
                i->result.store = strdup(url);
                r = i->result.store ? 0 : -ENOMEM;
        }
        if (r == -EINVAL)
                return session_fail(&i->session, EXIT_CODE_USAGE, err, "%s", "");
        return r < 0 ? session_broken(&i->session, r, err, "read the options") : 0;
}

static int write_policy(const Init *i, int dir_fd, const InitPolicy *policy, const Buf *text) {
        _cleanup_free_ char *name = str_format("%s.json", policy->name);
        int r;

        r = name ? file_write_at(dir_fd, name, text->data, text->size, 0644, FILE_REPLACE)
                 : -ENOMEM;
        return r < 0 ? session_broken(&i->session, r, NULL, "write %s", policy->file) : 0;
}

static int make_policy(Init *i, int dir_fd, PolicyKind kind) {
        InitPolicy *policy = json_array_add(&i->result.policies, &policy_table, _POLICY_KIND_MAX);
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        int r = -ENOMEM;

        if (policy) {
                policy->name = strdup(policy_name(kind));
                policy->file = str_format("%s%s%s.json", i->policies ?: "", i->policies ? "/" : "",
                                          policy_name(kind));
                r = policy->name && policy->file ? policy_print(&i->spec, kind, &text) : -ENOMEM;
        }
        if (r >= 0)
                r = json_parse(buf_str(&text), text.size, &policy->document, NULL);
        if (r == -EFBIG)
                return session_fail(&i->session, EXIT_CODE_FAILED, NULL,
                                    "the %s is longer than AWS takes: use a shorter prefix, or "
                                    "--env for fewer environments",
                                    policy_name(kind));
        if (r < 0)
                return session_broken(&i->session, r, NULL, "make the %s", policy_name(kind));
        return i->policies ? write_policy(i, dir_fd, policy, &text) : 0;
}

static int make_policies(Init *i) {
        _cleanup_close_ int dir_fd = -EBADF;
        int r = 0;

        if (i->policies) {
                dir_fd = file_mkdirs_at(AT_FDCWD, i->policies, 0755);
                if (dir_fd < 0)
                        return session_broken(&i->session, dir_fd, NULL, "make the folder %s",
                                              i->policies);
        }
        for (int kind = 0; kind < _POLICY_KIND_MAX && r == 0; kind++)
                if (policy_applies(&i->spec, (PolicyKind) kind))
                        r = make_policy(i, dir_fd, (PolicyKind) kind);
        return r;
}

/* ---- words ---- */

static void print_pem(const char *pem) {
        while (*pem) {
                size_t n = strcspn(pem, "\n");

                (void) printf("      %.*s\n", (int) n, pem);
                pem += n + (pem[n] == '\n');
        }
}

static void print_result(const InitResult *result) {
        const InitKey *keys = result->keys.items;

        if (result->created)
                (void) printf("The store %s is made; its id is %s.\n", result->store, result->id);
        else
                (void) printf(
                        "The store %s exists already; its id is %s. Nothing was changed there.\n",
                        result->store, result->id);
        for (size_t i = 0; i < result->keys.n; i++)
                (void) printf(
                        "Key to %s with: %s (private; keep it where you %s, and nowhere else)\n",
                        keys[i].purpose, keys[i].private_file, keys[i].purpose);
        (void) printf("\nFor " PATH_CONFIG " of each host:\n\nstore:\n  url: %s\n  id: \"%s\"\n",
                      result->store, result->id);
        if (result->endpoint)
                (void) printf("  endpoint: %s\n", result->endpoint);
        if (result->keys.n > 0)
                (void) printf("trusted_keys:\n");
        for (size_t i = 0; i < result->keys.n; i++) {
                (void) printf("  - id: %s\n    purpose: %s\n    pem: |\n", keys[i].id,
                              keys[i].purpose);
                print_pem(keys[i].pem);
        }
}

static void print_policy(const Init *i, PolicyKind kind, const InitPolicy *policy) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        int r;

        r = policy_explain(&i->spec, kind, policy->file, &text);
        if (r >= 0 && !i->policies)
                r = buf_append_str(&text, "\n");
        if (r >= 0 && !i->policies)
                r = json_print(policy->document, true, &text);
        (void) printf("\n%s%s", r >= 0 ? buf_str(&text) : "no memory", i->policies ? "" : "\n");
}

static void print_policies(const Init *i) {
        const InitPolicy *policy = i->result.policies.items;
        const char *prefix = i->location.prefix;

        (void) printf("%sWhat IAM and the bucket should say%s:\n", i->result.id ? "\n" : "",
                      i->policies ? "" : " (--policies DIR writes a file of each)");
        for (int kind = 0; kind < _POLICY_KIND_MAX; kind++)
                if (policy_applies(&i->spec, (PolicyKind) kind))
                        print_policy(i, (PolicyKind) kind, policy++);
        (void) printf("\nUntested outside of AWS, because no other server evaluates them: the "
                      "conditions on s3:if-none-match,\ns3:if-match, s3:ObjectCreationOperation, "
                      "s3:prefix%s.\nWith all of it in place this must be refused (403):\n"
                      "  aws s3api put-object --bucket %s --key "
                      "%s%sapplications/try/versions/try/bundle\n",
                      i->kms_key ? ", kms:ViaService" : "", i->location.bucket, prefix,
                      prefix[0] ? "/" : "");
}

/* ---- the order ---- */

/* The store last: what fails before it can be repeated. */
static int make_new(Init *i) {
        int r = i->keys ? make_keys(&i->session, i->keys, &i->result) : 0;

        return r == 0 ? make_store(&i->session, &i->result) : r;
}

static int open_store(Init *i, const char *url) {
        Session *s = &i->session;
        int r;

        r = i->location.bucket ? 0 : make_folder(s, url);
        if (r == 0)
                r = session_open(s, &i->options);
        if (r != 0)
                return r;
        if (s->open.endpoint) {
                i->result.endpoint = strdup(s->open.endpoint);
                if (!i->result.endpoint)
                        return session_broken(s, -ENOMEM, NULL, "make the store");
        }
        r = look_for_store(s, &i->result);
        return r == 0 && !i->result.id ? make_new(i) : r;
}

static int print_all(const Init *i) {
        if (i->options.json)
                return ctl_print_json(&(Ctl){ .verb = "init" }, &result_table, &i->result);
        if (i->result.id)
                print_result(&i->result);
        if (i->result.policies.n > 0)
                print_policies(i);
        if (i->keys && i->result.id && !i->result.created)
                (void) printf("\nNo keys were made: they belong to a new store. For another key of "
                              "an old one:\n"
                              "  openssl genpkey -algorithm ED25519 -out NEW.key; openssl pkey -in "
                              "NEW.key -pubout\n");
        return EXIT_CODE_OK;
}

static bool asks_for_policies(const Init *i) {
        return i->policies || i->environments || i->kms_key || i->account || i->partition ||
               i->dry_run;
}

static int run(Init *i) {
        const char *url = i->options.store ?: getenv(STORECMD_ENV_STORE);
        bool is_s3 = url && str_has_prefix(url, "s3://");
        int r;

        r = session_start(&i->session, "init", &i->options);
        if (r != 0)
                return r;
        if (!url)
                return session_fail(&i->session, EXIT_CODE_USAGE, NULL,
                                    "say where: --store file:///path or s3://bucket/prefix");
        if (!is_s3 && asks_for_policies(i))
                return session_fail(&i->session, EXIT_CODE_USAGE, NULL,
                                    "--policies, --env, --kms-key, --account, --partition and "
                                    "--dry-run are for a store in S3");
        r = is_s3 ? read_location(i, url) : 0;
        if (r == 0 && !i->dry_run)
                r = open_store(i, url);
        if (r == 0 && is_s3)
                r = make_policies(i);
        return r == 0 ? print_all(i) : r;
}

int storecmd_init(int argc, char **argv) {
        _cleanup_(init_done) Init i = { 0 };
        const ArgOption options[] = {
                SESSION_OPTION_STORE(&i.options),
                { "keys", ARG_TEXT, &i.keys, "DIR",
                  "Also make a key to publish and one to assign with" },
                { "policies", ARG_TEXT, &i.policies, "DIR",
                  "S3: write the policies there, a file each, instead of showing them" },
                { "env", ARG_LIST, &i.environments, "E",
                  "S3: policies for this environment only (again for more)" },
                { "kms-key", ARG_TEXT, &i.kms_key, "ARN",
                  "S3: the key that the bucket's objects are encrypted with" },
                { "account", ARG_TEXT, &i.account, "ID",
                  "S3: hosts of this other account use the store too" },
                { "partition", ARG_TEXT, &i.partition, "P",
                  "S3: aws, aws-cn, aws-us-gov (default: that of AWS_REGION)" },
                { "dry-run", ARG_FLAG, &i.dry_run, NULL,
                  "S3: ask nothing of the store, only make the policies" },
                SESSION_OPTION_JSON(&i.options),
                SESSION_OPTION_END,
        };
        const ArgCommand command = {
                .name = "init",
                .help = "Makes a store in a folder, or in a bucket that is there, and prints the "
                        "lines for tendril.yaml. An\n"
                        "existing store is left as it is. With --keys also two Ed25519 key pairs: "
                        "hosts that know the public\n"
                        "halves act on nothing that was not signed with the private ones. For S3 "
                        "also the policies of IAM and\n"
                        "of the bucket, and the commands that apply them; it applies none "
                        "itself.\n",
                .options = options,
        };
        char **words;
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r > 0 ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        return run(&i);
}
