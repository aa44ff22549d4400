#include "control/policy.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"

/* What AWS takes: inline policies of a role 10,240 characters, a bucket's 20 KiB. */
#define ROLE_BYTES   10240
#define BUCKET_BYTES 20480

#define STATEMENTS_MAX 24
#define LIST_MAX       64
#define MAP_MAX        4

/* How long S3 keeps what was replaced. */
#define SCRATCH_DAYS    1
#define COORDINATE_DAYS 7
#define UPLOAD_DAYS     2
#define PRUNED_DAYS     30

#define BIT(kind) (1U << (kind))

typedef enum RowCondition {
        ROW_ALWAYS,
        ROW_PREFIX,        /* lists only below the row's prefixes */
        ROW_PLAIN_HTTP,    /* not by TLS */
        ROW_UNCONDITIONAL, /* neither If-None-Match nor If-Match, of a request that makes an object
                            */
        ROW_NOT_NEW,       /* no If-None-Match */
        ROW_OTHER_KEY,     /* names another key than the bucket's */
        ROW_VIA_S3,        /* the key only for what S3 does with it */
} RowCondition;

/* One statement. Keys are below the store's prefix; "%" stands for each environment of the spec,
 * "." for the bucket, "#" for the KMS key. */
typedef struct Row {
        unsigned kinds;
        const char *sid;
        bool deny;
        RowCondition condition;
        const char *actions[4];
        const char *resources[8];
        const char *prefixes[5];
} Row;

/* clang-format off */
#define AGENT     BIT(POLICY_AGENT)
#define PUBLISHER BIT(POLICY_PUBLISHER)
#define BUCKET    BIT(POLICY_BUCKET)
#define KEY       BIT(POLICY_KEY)

#define VERSIONS "applications/*/versions/*"

static const Row rows[] = {
        { AGENT, "Read", false, ROW_ALWAYS, { "s3:GetObject" },
          { "applications/*", "environments/%/*", "store.json", "selftest/*" }, { NULL } },
        { AGENT, "TellMissingFromForbidden", false, ROW_PREFIX, { "s3:ListBucket" }, { "." },
          { "applications/*", "environments/%/*", "store.json", "selftest/*" } },
        { AGENT, "TakeTurnsAndReport", false, ROW_ALWAYS, { "s3:PutObject" },
          { "environments/%/rollout.json", "environments/%/g/*", "environments/%/hosts/*",
            "environments/%/logs/*", "selftest/*" }, { NULL } },
        { AGENT, "TidySelfTest", false, ROW_ALWAYS, { "s3:DeleteObject" }, { "selftest/*" }, { NULL } },
        { AGENT, "NeverChoose", true, ROW_ALWAYS, { "s3:PutObject*", "s3:DeleteObject*" },
          { "applications/*", "environments/*/desired.json", "store.json" }, { NULL } },
        { AGENT, "NeverRemove", true, ROW_ALWAYS, { "s3:DeleteObject*" }, { "environments/*" }, { NULL } },

        { PUBLISHER, "Read", false, ROW_ALWAYS, { "s3:GetObject" },
          { "applications/*", "environments/*/desired.json", "environments/*/rollout.json", "store.json",
            "selftest/*" }, { NULL } },
        { PUBLISHER, "TellMissingFromForbidden", false, ROW_PREFIX, { "s3:ListBucket" }, { "." },
          { "applications/*", "environments/*", "store.json", "selftest/*" } },
        { PUBLISHER, "PublishAndAssign", false, ROW_ALWAYS, { "s3:PutObject" },
          { VERSIONS, "environments/%/desired.json", "environments/%/rollout.json", "store.json",
            "selftest/*" }, { NULL } },
        { PUBLISHER, "UploadInParts", false, ROW_ALWAYS,
          { "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts" }, { VERSIONS }, { NULL } },
        { PUBLISHER, "FindUnfinishedUploads", false, ROW_ALWAYS, { "s3:ListBucketMultipartUploads" },
          { "." }, { NULL } },
        { PUBLISHER, "PruneVersions", false, ROW_ALWAYS, { "s3:DeleteObject" },
          { VERSIONS, "selftest/*" }, { NULL } },

        { AGENT | PUBLISHER | KEY, "UseTheKey", false, ROW_VIA_S3,
          { "kms:Decrypt", "kms:GenerateDataKey" }, { "#" }, { NULL } },

        { BUCKET, "TlsOnly", true, ROW_PLAIN_HTTP, { "s3:*" }, { ".", "*" }, { NULL } },
        { BUCKET, "ConditionalWritesOnly", true, ROW_UNCONDITIONAL, { "s3:PutObject" },
          { VERSIONS, "environments/*/desired.json", "environments/*/rollout.json",
            "environments/*/g/*/lane/*" }, { NULL } },
        { BUCKET, "StoreIdOnce", true, ROW_NOT_NEW, { "s3:PutObject" }, { "store.json" }, { NULL } },
        { BUCKET, "NoOtherKey", true, ROW_OTHER_KEY, { "s3:PutObject" }, { "*" }, { NULL } },
};
/* clang-format on */

/* ---- the documents, as structs ---- */

typedef struct Like {
        char **prefixes;
} Like;

typedef struct Condition {
        JsonMap null, boolean, equals, differs;
        Like like;
} Condition;

typedef struct Statement {
        char *sid;
        char *effect;
        JsonMap principal;
        char **actions;
        char **resources;
        Condition condition;
} Statement;

typedef struct Policy {
        char *version;
        JsonArray statements; /* Statement */
} Policy;

typedef struct Days {
        uint64_t current, noncurrent, initiation;
} Days;

typedef struct Filter {
        char *prefix;
} Filter;

typedef struct Rule {
        char *id;
        char *status;
        Filter filter;
        Days current, noncurrent, upload;
} Rule;

typedef struct Lifecycle {
        JsonArray rules; /* Rule */
} Lifecycle;

/* clang-format off */
#define OPTIONAL JSON_OMIT_EMPTY

static const JsonField like_fields[] = {
        JSON_ROW_MAX("s3:prefix", JSON_KIND_STRV, OPTIONAL, Like, prefixes, LIST_MAX),
        JSON_END
};
static const JsonTable like_table = { like_fields, sizeof(Like) };

static const JsonField condition_fields[] = {
        JSON_ROW_MAX("Null", JSON_KIND_MAP, OPTIONAL, Condition, null, MAP_MAX),
        JSON_ROW_MAX("Bool", JSON_KIND_MAP, OPTIONAL, Condition, boolean, MAP_MAX),
        JSON_ROW_MAX("StringEquals", JSON_KIND_MAP, OPTIONAL, Condition, equals, MAP_MAX),
        JSON_ROW_MAX("StringNotEquals", JSON_KIND_MAP, OPTIONAL, Condition, differs, MAP_MAX),
        JSON_ROW_TABLE("StringLike", JSON_KIND_OBJECT, OPTIONAL, Condition, like, 0, &like_table),
        JSON_END
};
static const JsonTable condition_table = { condition_fields, sizeof(Condition) };

static const JsonField statement_fields[] = {
        JSON_ROW("Sid", JSON_KIND_STRING, 0, Statement, sid),
        JSON_ROW("Effect", JSON_KIND_STRING, 0, Statement, effect),
        JSON_ROW_MAX("Principal", JSON_KIND_MAP, OPTIONAL, Statement, principal, MAP_MAX),
        JSON_ROW_MAX("Action", JSON_KIND_STRV, 0, Statement, actions, LIST_MAX),
        JSON_ROW_MAX("Resource", JSON_KIND_STRV, 0, Statement, resources, LIST_MAX),
        JSON_ROW_TABLE("Condition", JSON_KIND_OBJECT, OPTIONAL, Statement, condition, 0, &condition_table),
        JSON_END
};
static const JsonTable statement_table = { statement_fields, sizeof(Statement) };

static const JsonField policy_fields[] = {
        JSON_ROW("Version", JSON_KIND_STRING, 0, Policy, version),
        JSON_ROW_TABLE("Statement", JSON_KIND_ARRAY, 0, Policy, statements, STATEMENTS_MAX, &statement_table),
        JSON_END
};
static const JsonTable policy_table = { policy_fields, sizeof(Policy) };

static const JsonField days_fields[] = {
        JSON_ROW("Days", JSON_KIND_U64, OPTIONAL, Days, current),
        JSON_ROW("NoncurrentDays", JSON_KIND_U64, OPTIONAL, Days, noncurrent),
        JSON_ROW("DaysAfterInitiation", JSON_KIND_U64, OPTIONAL, Days, initiation),
        JSON_END
};
static const JsonTable days_table = { days_fields, sizeof(Days) };

static const JsonField filter_fields[] = {
        JSON_ROW("Prefix", JSON_KIND_STRING, 0, Filter, prefix),
        JSON_END
};
static const JsonTable filter_table = { filter_fields, sizeof(Filter) };

static const JsonField rule_fields[] = {
        JSON_ROW("ID", JSON_KIND_STRING, 0, Rule, id),
        JSON_ROW("Status", JSON_KIND_STRING, 0, Rule, status),
        JSON_ROW_TABLE("Filter", JSON_KIND_OBJECT, 0, Rule, filter, 0, &filter_table),
        JSON_ROW_TABLE("Expiration", JSON_KIND_OBJECT, OPTIONAL, Rule, current, 0, &days_table),
        JSON_ROW_TABLE("NoncurrentVersionExpiration", JSON_KIND_OBJECT, OPTIONAL, Rule, noncurrent, 0, &days_table),
        JSON_ROW_TABLE("AbortIncompleteMultipartUpload", JSON_KIND_OBJECT, OPTIONAL, Rule, upload, 0, &days_table),
        JSON_END
};
static const JsonTable rule_table = { rule_fields, sizeof(Rule) };

static const JsonField lifecycle_fields[] = {
        JSON_ROW_TABLE("Rules", JSON_KIND_ARRAY, 0, Lifecycle, rules, STATEMENTS_MAX, &rule_table),
        JSON_END
};
static const JsonTable lifecycle_table = { lifecycle_fields, sizeof(Lifecycle) };
/* clang-format on */

/* ---- which partition, which account, which key ---- */

const char *policy_partition(const char *region) {
        static const char *const partitions[][2] = {
                { "cn-", "aws-cn" },         { "us-gov-", "aws-us-gov" },
                { "us-iso-", "aws-iso" },    { "us-isob-", "aws-iso-b" },
                { "us-isof-", "aws-iso-f" }, { "eu-isoe-", "aws-iso-e" },
                { "eusc-", "aws-eusc" },
        };

        for (size_t i = 0; region && i < ELEMENTS(partitions); i++)
                if (str_has_prefix(region, partitions[i][0]))
                        return partitions[i][1];
        return "aws";
}

static bool is_of(const char *text, size_t size, const char *allowed) {
        return size > 0 && strspn(text, allowed) >= size;
}

static bool is_account(const char *text, size_t size) {
        return size == 12 && is_of(text, size, "0123456789");
}

/* The i-th part of an ARN, which ends at ':' or at the end. NULL: there is none. */
static const char *arn_part(const char *arn, unsigned i, size_t *ret_size) {
        *ret_size = 0;
        for (; i > 0; i--) {
                arn = strchr(arn, ':');
                if (!arn)
                        return NULL;
                arn++;
        }
        *ret_size = strcspn(arn, ":");
        return arn;
}

/* "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-..."; the alias of a key does not do: IAM looks
 * at the key itself. */
static bool is_key(const PolicySpec *spec) {
        _cleanup_free_ char *head = str_format("arn:%s:kms:", spec->partition);
        const char *region, *account, *key;
        size_t region_size, account_size, key_size;

        if (!head || !str_has_prefix(spec->kms_key, head))
                return false;
        region = arn_part(spec->kms_key, 3, &region_size);
        account = arn_part(spec->kms_key, 4, &account_size);
        key = arn_part(spec->kms_key, 5, &key_size);
        return key && is_of(region, region_size, "abcdefghijklmnopqrstuvwxyz0123456789-") &&
               is_account(account, account_size) && str_has_prefix(key, "key/") &&
               is_of(key + 4, strlen(key + 4), "abcdefghijklmnopqrstuvwxyz0123456789-");
}

int policy_check(const PolicySpec *spec, Error **reterr) {
        const char *partition = spec->partition;

        if (!str_has_prefix(partition, "aws") || strlen(partition) > 32 ||
            !is_of(partition, strlen(partition), "abcdefghijklmnopqrstuvwxyz-"))
                return error_set(reterr, -EINVAL,
                                 "\"%.64s\" is not a partition of AWS; it is aws, aws-cn, "
                                 "aws-us-gov or the like",
                                 partition);
        if (spec->account && !is_account(spec->account, strlen(spec->account)))
                return error_set(reterr, -EINVAL, "\"%.64s\" is not an account: 12 digits",
                                 spec->account);
        if (spec->kms_key && !is_key(spec))
                return error_set(reterr, -EINVAL,
                                 "\"%.200s\" is not a key: its ARN is wanted, "
                                 "arn:%s:kms:REGION:ACCOUNT:key/ID (not an alias: policies do not "
                                 "follow it)",
                                 spec->kms_key, partition);
        if (strv_count(spec->environments) > POLICY_ENVIRONMENTS_MAX)
                return error_set(reterr, -EINVAL,
                                 "more than %d environments do not fit into one policy; make one "
                                 "role for all of them, or more roles",
                                 POLICY_ENVIRONMENTS_MAX);
        for (char *const *e = spec->environments; e && *e; e++)
                if (!str_is_label(*e))
                        return error_set(reterr, -EINVAL,
                                         "\"%.120s\" is not an environment: a label is wanted", *e);
        return 0;
}

/* ---- resources ---- */

/* IAM takes these for patterns and variables, also where they are part of a name. */
static int append_literal(Buf *to, const char *text) {
        int r = 0;

        for (; *text && r >= 0; text++)
                r = strchr("*?$", *text) ? buf_printf(to, "${%c}", *text) : buf_append(to, text, 1);
        return r;
}

/* The key pattern below the store's prefix, for one environment (NULL: it names none). */
static int append_pattern(Buf *to, const PolicySpec *spec, const char *pattern,
                          const char *environment) {
        const char *prefix = spec->location->prefix, *mark = strchr(pattern, '%');
        int r;

        r = append_literal(to, prefix);
        if (r >= 0 && prefix[0])
                r = buf_append_str(to, "/");
        if (r >= 0 && !mark)
                return buf_append_str(to, pattern);
        if (r >= 0)
                r = buf_append(to, pattern, (size_t) (mark - pattern));
        if (r >= 0)
                r = buf_append_str(to, environment);
        return r < 0 ? r : buf_append_str(to, mark + 1);
}

static int add_pattern(char ***list, const PolicySpec *spec, const char *head, const char *pattern,
                       const char *environment) {
        _cleanup_(buf_done) Buf text = BUF_INIT(4096);
        int r;

        r = buf_append_str(&text, head);
        if (r >= 0)
                r = append_pattern(&text, spec, pattern, environment);
        return r < 0 ? r : strv_add(list, LIST_MAX, buf_str(&text));
}

/* A pattern once, or for each environment. head: what stands before the key. */
static int add_patterns(char ***list, const PolicySpec *spec, const char *head,
                        const char *pattern) {
        char *const *e = spec->environments;
        int r = 0;

        if (!strchr(pattern, '%') || !e || !*e)
                return add_pattern(list, spec, head, pattern, "*");
        for (; *e && r >= 0; e++)
                r = add_pattern(list, spec, head, pattern, *e);
        return r;
}

static int add_resources(Statement *s, const PolicySpec *spec, const Row *row) {
        _cleanup_free_ char *bucket =
                str_format("arn:%s:s3:::%s", spec->partition, spec->location->bucket);
        _cleanup_free_ char *head = bucket ? str_format("%s/", bucket) : NULL;
        int r = head ? 0 : -ENOMEM;

        for (const char *const *p = row->resources; *p && r >= 0; p++) {
                if (str_equal(*p, "."))
                        r = strv_add(&s->resources, LIST_MAX, bucket);
                else if (str_equal(*p, "#"))
                        r = strv_add(&s->resources, LIST_MAX, spec->kms_key);
                else
                        r = add_patterns(&s->resources, spec, head, *p);
        }
        return r;
}

/* ---- conditions ---- */

/* "s3.eu-west-1.amazonaws.com": S3 there uses the key on behalf of the caller. */
static int add_via_s3(Condition *c, const PolicySpec *spec) {
        _cleanup_free_ char *region = NULL, *service = NULL;
        const char *at;
        size_t size;

        at = arn_part(spec->kms_key, 3, &size);
        region = at ? strndup(at, size) : NULL;
        service = region ? str_format("s3.%s.%s", region, endpoint_domain(region)) : NULL;
        return service ? json_map_set(&c->equals, MAP_MAX, "kms:ViaService", service) : -ENOMEM;
}

/* S3 asks for no condition of the requests that begin an upload in parts or send a part: they make
 * no object yet. */
static int add_unconditional(Condition *c, bool by_match_too) {
        int r;

        r = json_map_set(&c->null, MAP_MAX, "s3:if-none-match", "true");
        if (r >= 0 && by_match_too)
                r = json_map_set(&c->null, MAP_MAX, "s3:if-match", "true");
        return r < 0 ? r : json_map_set(&c->boolean, MAP_MAX, "s3:ObjectCreationOperation", "true");
}

/* A request that names no key is encrypted with the bucket's. */
static int add_other_key(Condition *c, const PolicySpec *spec) {
        static const char name[] = "s3:x-amz-server-side-encryption-aws-kms-key-id";
        int r;

        r = json_map_set(&c->null, MAP_MAX, name, "false");
        return r < 0 ? r : json_map_set(&c->differs, MAP_MAX, name, spec->kms_key);
}

static int add_condition(Condition *c, const PolicySpec *spec, const Row *row) {
        int r = 0;

        switch (row->condition) {
        case ROW_ALWAYS:
                return 0;
        case ROW_PREFIX:
                for (const char *const *p = row->prefixes; *p && r >= 0; p++)
                        r = add_patterns(&c->like.prefixes, spec, "", *p);
                return r;
        case ROW_PLAIN_HTTP:
                return json_map_set(&c->boolean, MAP_MAX, "aws:SecureTransport", "false");
        case ROW_UNCONDITIONAL:
                return add_unconditional(c, true);
        case ROW_NOT_NEW:
                return add_unconditional(c, false);
        case ROW_OTHER_KEY:
                return add_other_key(c, spec);
        case ROW_VIA_S3:
                return add_via_s3(c, spec);
        default:
                return -EINVAL;
        }
}

/* ---- policies ---- */

/* who: NULL for a role's policy, where the role is who is meant. */
static int fill_statement(Statement *s, const PolicySpec *spec, const Row *row, const char *who) {
        int r;

        s->sid = str_format("%s%s", who && !row->deny ? "Account" : "", row->sid);
        s->effect = strdup(row->deny ? "Deny" : "Allow");
        r = s->sid && s->effect ? 0 : -ENOMEM;
        if (r >= 0 && who)
                r = json_map_set(&s->principal, MAP_MAX, "AWS", who);
        for (const char *const *a = row->actions; *a && r >= 0; a++)
                r = strv_add(&s->actions, LIST_MAX, *a);
        if (r >= 0)
                r = add_resources(s, spec, row);
        return r < 0 ? r : add_condition(&s->condition, spec, row);
}

static int add_statement(Policy *p, const PolicySpec *spec, const Row *row, const char *who) {
        Statement *s = json_array_add(&p->statements, &statement_table, STATEMENTS_MAX);

        return s ? fill_statement(s, spec, row, who) : -ENOMEM;
}

static bool needs_key(const Row *row) {
        return row->condition == ROW_OTHER_KEY || row->condition == ROW_VIA_S3;
}

static char *account_principal(const PolicySpec *spec) {
        return str_format("arn:%s:iam::%s:root", spec->partition, spec->account);
}

static int add_rows(Policy *p, const PolicySpec *spec, PolicyKind kind, const char *who) {
        int r = 0;

        for (size_t i = 0; i < ELEMENTS(rows) && r >= 0; i++)
                if ((rows[i].kinds & BIT(kind)) && (spec->kms_key || !needs_key(&rows[i])))
                        r = add_statement(p, spec, &rows[i], who);
        return r;
}

/* Roles of another account need the bucket's word as well: what agents may, for that account to
 * hand on to its roles. */
static int add_account(Policy *p, const PolicySpec *spec) {
        _cleanup_free_ char *who = account_principal(spec);
        int r = who ? 0 : -ENOMEM;

        for (size_t i = 0; i < ELEMENTS(rows) && r >= 0; i++)
                if ((rows[i].kinds & AGENT) && !rows[i].deny && !needs_key(&rows[i]))
                        r = add_statement(p, spec, &rows[i], who);
        return r;
}

static int make_policy(Policy *p, const PolicySpec *spec, PolicyKind kind) {
        int r;

        p->version = strdup("2012-10-17");
        r = p->version ? add_rows(p, spec, kind, kind == POLICY_BUCKET ? "*" : NULL) : -ENOMEM;
        if (r >= 0 && kind == POLICY_BUCKET && spec->account)
                r = add_account(p, spec);
        return r;
}

/* Compact → indented. */
static int print_pretty(const Buf *text, Buf *ret) {
        _cleanup_(json_freep) Json *value = NULL;
        int r;

        r = json_parse(buf_str(text), text->size, &value, NULL);
        if (r >= 0)
                r = json_print(value, true, ret);
        return r < 0 ? r : buf_append_str(ret, "\n");
}

static int print_object(const JsonTable *table, const void *object, size_t max_bytes, Buf *ret) {
        _cleanup_(buf_done) Buf text = BUF_INIT(max_bytes);
        int r;

        r = json_encode(table, object, &text);
        return r < 0 ? r : print_pretty(&text, ret);
}

static int print_policy(const PolicySpec *spec, PolicyKind kind, Buf *ret) {
        Policy p = { 0 };
        int r;

        r = make_policy(&p, spec, kind);
        if (r >= 0)
                r = print_object(&policy_table, &p,
                                 kind == POLICY_BUCKET ? BUCKET_BYTES : ROLE_BYTES, ret);
        json_table_done(&policy_table, &p);
        return r;
}

/* One statement: to be added to the others of the key's policy, which is never replaced. In a key's
 * policy "*" is the key. */
static int print_key_statement(const PolicySpec *spec, Buf *ret) {
        _cleanup_free_ char *who = account_principal(spec);
        Statement s = { 0 };
        int r = -ENOMEM;

        for (size_t i = 0; i < ELEMENTS(rows) && who; i++)
                if (rows[i].kinds & KEY)
                        r = fill_statement(&s, spec, &rows[i], who);
        s.resources = strv_free(s.resources);
        if (r >= 0)
                r = strv_add(&s.resources, LIST_MAX, "*");
        if (r >= 0)
                r = print_object(&statement_table, &s, BUCKET_BYTES, ret);
        json_table_done(&statement_table, &s);
        return r;
}

/* ---- lifecycle ---- */

static Rule *add_rule(Lifecycle *l, const PolicySpec *spec, const char *id, const char *key) {
        const char *prefix = spec->location->prefix;
        Rule *rule = json_array_add(&l->rules, &rule_table, STATEMENTS_MAX);

        if (!rule)
                return NULL;
        rule->id = str_format("tendril %s", id);
        rule->status = strdup("Enabled");
        rule->filter.prefix = str_format("%s%s%s", prefix, prefix[0] ? "/" : "", key);
        return rule->id && rule->status && rule->filter.prefix ? rule : NULL;
}

static int add_old_versions(Lifecycle *l, const PolicySpec *spec, const char *environment,
                            const char *folder) {
        _cleanup_free_ char *id =
                str_format("%s%s%s", environment, *environment ? " " : "", folder);
        _cleanup_free_ char *key = *environment
                                           ? str_format("environments/%s/%s/", environment, folder)
                                           : str_format("%s/", folder);
        Rule *rule = id && key ? add_rule(l, spec, id, key) : NULL;

        if (!rule)
                return -ENOMEM;
        rule->noncurrent.noncurrent = COORDINATE_DAYS;
        return 0;
}

/* A filter is a plain prefix: the environment stands before "g/" and "hosts/", so that without its
 * name only all of "environments/" can be meant. */
static int make_lifecycle(Lifecycle *l, const PolicySpec *spec) {
        char *const *e = spec->environments;
        Rule *uploads =
                add_rule(l, spec, "unfinished uploads and pruned versions", "applications/");
        Rule *scratch;
        int r = 0;

        if (!uploads)
                return -ENOMEM;
        uploads->upload.initiation = UPLOAD_DAYS;
        uploads->noncurrent.noncurrent = PRUNED_DAYS; /* else `versions --prune` frees nothing */
        scratch = add_rule(l, spec, "selftest", "selftest/");
        if (!scratch)
                return -ENOMEM;
        scratch->current.current = SCRATCH_DAYS;
        scratch->noncurrent.noncurrent = SCRATCH_DAYS;
        if (!e || !*e)
                return add_old_versions(l, spec, "", "environments");
        for (; *e && r >= 0; e++) {
                r = add_old_versions(l, spec, *e, "g");
                if (r >= 0)
                        r = add_old_versions(l, spec, *e, "hosts");
        }
        return r;
}

static int print_lifecycle(const PolicySpec *spec, Buf *ret) {
        Lifecycle l = { 0 };
        int r;

        r = make_lifecycle(&l, spec);
        if (r >= 0)
                r = print_object(&lifecycle_table, &l, BUCKET_BYTES, ret);
        json_table_done(&lifecycle_table, &l);
        return r;
}

/* A bucket key saves a request to KMS per object. */
static int print_encryption(const PolicySpec *spec, Buf *ret) {
        _cleanup_(buf_done) Buf text = BUF_INIT(2048);
        int r;

        r = buf_printf(&text,
                       "{\"Rules\":[{\"ApplyServerSideEncryptionByDefault\":{\"SSEAlgorithm\":"
                       "\"aws:kms\",\"KMSMasterKeyID\":\"%s\"},\"BucketKeyEnabled\":true}]}",
                       spec->kms_key);
        return r < 0 ? r : print_pretty(&text, ret);
}

int policy_print(const PolicySpec *spec, PolicyKind kind, Buf *ret) {
        assert(policy_applies(spec, kind));

        switch (kind) {
        case POLICY_AGENT:
        case POLICY_PUBLISHER:
        case POLICY_BUCKET:
                return print_policy(spec, kind, ret);
        case POLICY_LIFECYCLE:
                return print_lifecycle(spec, ret);
        case POLICY_ENCRYPTION:
                return print_encryption(spec, ret);
        case POLICY_KEY:
                return print_key_statement(spec, ret);
        case _POLICY_KIND_MAX:
        default:
                return -EINVAL;
        }
}

bool policy_applies(const PolicySpec *spec, PolicyKind kind) {
        if (kind == POLICY_ENCRYPTION)
                return spec->kms_key;
        return kind != POLICY_KEY || (spec->kms_key && spec->account);
}
