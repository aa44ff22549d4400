#include "control/policy.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/str.h"
#include "store/key.h"

#define BUCKET_NAME "shop-store"
#define OWN         "111122223333"
#define OTHER       "444455556666"
#define THE_KEY     "arn:aws:kms:eu-west-1:" OWN ":key/1234abcd-12ab-34cd-56ef-1234567890ab"

/* ---- a small IAM ---- */

typedef struct Context {
        const char *key, *value;
} Context;

typedef struct Request {
        const char *account; /* whose role asks */
        const char *action;
        const char *resource;
        Context context[5];
} Request;

typedef enum Verdict {
        NOTHING_SAID,
        ALLOWED,
        DENIED,
} Verdict;

/* '*' and '?', and "${*}" for the character itself. */
static bool matches(const char *pattern, const char *text) {
        for (; *pattern; pattern++) {
                bool is_literal = strlen(pattern) >= 4 && pattern[0] == '$' && pattern[1] == '{' &&
                                  pattern[3] == '}';

                if (*pattern == '*') {
                        for (;; text++) {
                                if (matches(pattern + 1, text))
                                        return true;
                                if (!*text)
                                        return false;
                        }
                }
                if (!*text ||
                    (is_literal ? pattern[2] != *text : *pattern != '?' && *pattern != *text))
                        return false;
                pattern += is_literal ? 3 : 0;
                text++;
        }
        return !*text;
}

static bool matches_one(const json_t *patterns, const char *text) {
        const json_t *pattern;
        size_t i;

        json_array_foreach(patterns, i,
                           pattern) if (matches(json_string_value(pattern), text)) return true;
        return false;
}

static const char *lookup(const Request *q, const char *key) {
        for (size_t i = 0; i < ELEMENTS(q->context) && q->context[i].key; i++)
                if (str_equal(q->context[i].key, key))
                        return q->context[i].value;
        return NULL;
}

static bool operator_holds(const Request *q, const char *operator, const char * key,
                           const json_t *value) {
        const char *actual = lookup(q, key), *wanted = json_string_value(value);

        if (str_equal(operator, "Null"))
                return str_equal(wanted, "true") == !actual;
        if (str_equal(operator, "Bool") || str_equal(operator, "StringEquals"))
                return actual && str_equal(actual, wanted);
        if (str_equal(operator, "StringNotEquals"))
                return !actual || !str_equal(actual, wanted);
        if (str_equal(operator, "StringLike"))
                return actual && matches_one(value, actual);
        fail_msg("operator %s", operator);
        return false;
}

static bool conditions_hold(const Request *q, json_t *conditions) {
        const char *operator, * key;
        json_t *keys, *value;

        json_object_foreach(conditions, operator, keys) json_object_foreach(
                keys, key, value) if (!operator_holds(q, operator, key, value)) return false;
        return true;
}

static bool principal_is(const Request *q, const json_t *principal) {
        const char *who = json_string_value(json_object_get(principal, "AWS"));
        _cleanup_free_ char *part = str_format(":%s:", q->account);

        return !who || str_equal(who, "*") || strstr(who, part);
}

static Verdict ask(const json_t *policy, const Request *q) {
        Verdict verdict = NOTHING_SAID;
        json_t *s;
        size_t i;

        json_array_foreach(json_object_get(policy, "Statement"), i, s) {
                if (!principal_is(q, json_object_get(s, "Principal")) ||
                    !matches_one(json_object_get(s, "Action"), q->action) ||
                    !matches_one(json_object_get(s, "Resource"), q->resource) ||
                    !conditions_hold(q, json_object_get(s, "Condition")))
                        continue;
                if (str_equal(json_string_value(json_object_get(s, "Effect")), "Deny"))
                        return DENIED;
                verdict = ALLOWED;
        }
        return verdict;
}

/* ---- the fixture ---- */

static char bucket_name[] = BUCKET_NAME, prefix_name[] = "p/q", no_prefix[] = "";
static const S3Location with_prefix = { bucket_name, prefix_name };
static const S3Location without_prefix = { bucket_name, no_prefix };

static json_t *print(const PolicySpec *spec, PolicyKind kind) {
        _cleanup_(buf_done) Buf text = BUF_INIT(65536);
        json_error_t e;
        json_t *value;

        assert_int_equal(policy_check(spec, NULL), 0);
        assert_true(policy_applies(spec, kind));
        assert_int_equal(policy_print(spec, kind, &text), 0);
        value = json_loads(buf_str(&text), JSON_REJECT_DUPLICATES, &e);
        if (!value)
                fail_msg("%s in: %s", e.text, buf_str(&text));
        assert_int_equal(text.data[text.size - 1], '\n');
        return value;
}

/* The role's and the bucket's words together, as S3 takes them. */
typedef struct World {
        json_t *role, *bucket;
} World;

static World world_of(const PolicySpec *spec, PolicyKind kind) {
        return (World){ print(spec, kind), print(spec, POLICY_BUCKET) };
}

static void world_done(World *world) {
        json_decref(world->role);
        json_decref(world->bucket);
}

static bool may_ask(const World *w, const Request *q) {
        Verdict role = ask(w->role, q), bucket = ask(w->bucket, q);

        if (role == DENIED || bucket == DENIED)
                return false;
        return str_equal(q->account, OWN) ? role == ALLOWED || bucket == ALLOWED
                                          : role == ALLOWED && bucket == ALLOWED;
}

#define IF_ABSENT                                                                                  \
        { "s3:if-none-match", "*" }
#define IF_MATCH                                                                                   \
        { "s3:if-match", "\"e\"" }
#define MAKES                                                                                      \
        { "s3:ObjectCreationOperation", "true" }
#define A_PART                                                                                     \
        { "s3:ObjectCreationOperation", "false" }
#define BY_TLS                                                                                     \
        { "aws:SecureTransport", "true" }

/* By an own role, over TLS. key: what the functions of store/key.h give; freed. */
static bool may(const World *w, const char *prefix, const char *action, char *key, Context first,
                Context second) {
        _cleanup_free_ char *own = key;
        _cleanup_free_ char *resource =
                str_format("arn:aws:s3:::" BUCKET_NAME "/%s%s%s", prefix, *prefix ? "/" : "", own);

        return may_ask(w, &(Request){ OWN, action, resource, { BY_TLS, first, second } });
}

#define GET(w, key)    may(w, "p/q", "s3:GetObject", key, (Context){ 0 }, (Context){ 0 })
#define PUT(w, key)    may(w, "p/q", "s3:PutObject", key, (Context) MAKES, (Context){ 0 })
#define CREATE(w, key) may(w, "p/q", "s3:PutObject", key, (Context) MAKES, (Context) IF_ABSENT)
#define CHANGE(w, key) may(w, "p/q", "s3:PutObject", key, (Context) MAKES, (Context) IF_MATCH)
#define PART(w, key)   may(w, "p/q", "s3:PutObject", key, (Context) A_PART, (Context){ 0 })
#define REMOVE(w, key) may(w, "p/q", "s3:DeleteObject", key, (Context){ 0 }, (Context){ 0 })
#define KEY(text)      strdup(text)

static bool may_list(const World *w, const char *prefix) {
        return may_ask(w, &(Request){ OWN,
                                      "s3:ListBucket",
                                      "arn:aws:s3:::" BUCKET_NAME,
                                      { BY_TLS, { prefix ? "s3:prefix" : NULL, prefix } } });
}

/* ---- hosts ---- */

static const PolicySpec plain = { .location = &with_prefix, .partition = "aws" };

static void test_hosts_may(_unused_ void **state) {
        World w = world_of(&plain, POLICY_AGENT);

        assert_true(GET(&w, key_store_id()));
        assert_true(GET(&w, key_head("prod")));
        assert_true(GET(&w, key_desired("prod")));
        assert_true(GET(&w, key_version("shop", "v1")));
        assert_true(GET(&w, key_bundle("shop", "v1")));
        assert_true(GET(&w, key_lane("prod", "g1", 3)));
        assert_true(CHANGE(&w, key_head("prod")));
        assert_true(CREATE(&w, key_head("prod")));
        assert_true(CREATE(&w, key_lane("prod", "g1", 3)));
        assert_true(CHANGE(&w, key_lane("prod", "g1", 3)));
        assert_true(PUT(&w, key_result("prod", "g1", "i-0abc")));
        assert_true(PUT(&w, key_host("prod", "i-0abc")));
        assert_true(PUT(&w, KEY("environments/prod/logs/tail/i-0abc/x.gz")));
        assert_true(CREATE(&w, KEY("selftest/abc.json")));
        assert_true(CHANGE(&w, KEY("selftest/abc.json")));
        assert_true(GET(&w, KEY("selftest/abc.json")));
        assert_true(REMOVE(&w, KEY("selftest/abc.json")));
        /* S3 takes the key of a missing object for the prefix when it chooses between 404 and 403.
         */
        assert_true(may_list(&w, "p/q/store.json"));
        assert_true(may_list(&w, "p/q/environments/prod/rollout.json"));
        assert_true(may_list(&w, "p/q/environments/prod/g/g1/lane/0.json"));
        assert_true(may_list(&w, "p/q/applications/shop/versions/v1/version.json"));
        assert_true(may_list(&w, "p/q/selftest/abc.json"));
        world_done(&w);
}

static void assert_chooses_nothing(const World *w) {
        assert_false(CREATE(w, key_version("shop", "v9")));
        assert_false(CHANGE(w, key_version("shop", "v1")));
        assert_false(CREATE(w, key_bundle("shop", "v9")));
        assert_false(PART(w, key_bundle("shop", "v9")));
        assert_false(CHANGE(w, key_desired("prod")));
        assert_false(CREATE(w, key_desired("new")));
        assert_false(CREATE(w, key_store_id()));
        assert_false(REMOVE(w, key_store_id()));
        assert_false(REMOVE(w, key_bundle("shop", "v1")));
        assert_false(REMOVE(w, key_version("shop", "v1")));
        assert_false(REMOVE(w, key_desired("prod")));
        assert_false(REMOVE(w, key_head("prod")));
        assert_false(REMOVE(w, key_lane("prod", "g1", 0)));
        assert_false(REMOVE(w, key_result("prod", "g1", "i-0abc")));
        assert_false(REMOVE(w, key_host("prod", "i-0abc")));
}

static void test_hosts_may_not(_unused_ void **state) {
        World w = world_of(&plain, POLICY_AGENT);

        assert_chooses_nothing(&w);
        assert_false(PUT(&w, key_head("prod")));
        assert_false(PUT(&w, key_lane("prod", "g1", 3)));
        assert_false(PUT(&w, KEY("other.json")));
        assert_false(
                may(&w, "p", "s3:GetObject", key_head("prod"), (Context){ 0 }, (Context){ 0 }));
        assert_false(may(&w, "", "s3:GetObject", KEY("secret"), (Context){ 0 }, (Context){ 0 }));
        assert_false(
                may(&w, "p/qq", "s3:GetObject", key_head("prod"), (Context){ 0 }, (Context){ 0 }));
        assert_false(may_list(&w, NULL));
        assert_false(may_list(&w, ""));
        assert_false(may_list(&w, "p/"));
        assert_false(may_list(&w, "p/q"));
        assert_false(may_list(&w, "other/"));
        assert_false(may_ask(&w, &(Request){ OWN,
                                             "s3:ListBucketMultipartUploads",
                                             "arn:aws:s3:::" BUCKET_NAME,
                                             { BY_TLS } }));
        assert_false(may_ask(
                &w,
                &(Request){ OWN, "s3:PutBucketPolicy", "arn:aws:s3:::" BUCKET_NAME, { BY_TLS } }));
        assert_false(may_ask(&w, &(Request){ OWN, "kms:Decrypt", THE_KEY, { { NULL, NULL } } }));
        world_done(&w);
}

/* A broader policy on the same role does not make a host a publisher. */
static void test_hosts_may_not_whatever_else_they_have(_unused_ void **state) {
        World w = world_of(&plain, POLICY_AGENT);
        json_t *all = json_pack("{s:s, s:[s], s:[s]}", "Effect", "Allow", "Action", "s3:*",
                                "Resource", "*");

        assert_int_equal(json_array_append_new(json_object_get(w.role, "Statement"), all), 0);
        assert_true(GET(&w, KEY("anything")));
        assert_chooses_nothing(&w);
        world_done(&w);
}

static void test_hosts_of_one_environment(_unused_ void **state) {
        char *environments[] = { (char[]){ "prod" }, (char[]){ "canary" }, NULL };
        PolicySpec spec = plain;
        World w;

        spec.environments = environments;
        w = world_of(&spec, POLICY_AGENT);
        assert_true(CHANGE(&w, key_head("prod")));
        assert_true(PUT(&w, key_host("canary", "i-0abc")));
        assert_true(GET(&w, key_desired("prod")));
        assert_true(GET(&w, key_bundle("shop", "v1")));
        assert_false(GET(&w, key_desired("test")));
        assert_false(CHANGE(&w, key_head("test")));
        assert_false(CHANGE(&w, key_head("prod2")));
        assert_false(PUT(&w, key_host("test", "i-0abc")));
        assert_true(may_list(&w, "p/q/environments/prod/rollout.json"));
        assert_false(may_list(&w, "p/q/environments/test/rollout.json"));
        assert_false(may_list(&w, "p/q/environments/"));
        assert_chooses_nothing(&w);
        world_done(&w);
}

/* ---- publishers ---- */

static void test_publishers(_unused_ void **state) {
        World w = world_of(&plain, POLICY_PUBLISHER);

        assert_true(CREATE(&w, key_store_id()));
        assert_false(CHANGE(&w, key_store_id()));
        assert_false(PUT(&w, key_store_id()));
        assert_true(GET(&w, key_version("shop", "v1")));
        assert_true(CREATE(&w, key_version("shop", "v1")));
        assert_true(CHANGE(&w, key_version("shop", "v1")));
        assert_false(PUT(&w, key_version("shop", "v1")));
        assert_true(CREATE(&w, key_bundle("shop", "v1")));
        assert_true(PART(&w, key_bundle("shop", "v1")));
        assert_false(PUT(&w, key_bundle("shop", "v1")));
        assert_true(may(&w, "p/q", "s3:AbortMultipartUpload", key_bundle("shop", "v1"),
                        (Context){ 0 }, (Context){ 0 }));
        assert_true(may(&w, "p/q", "s3:ListMultipartUploadParts", key_bundle("shop", "v1"),
                        (Context){ 0 }, (Context){ 0 }));
        assert_true(may_ask(&w, &(Request){ OWN,
                                            "s3:ListBucketMultipartUploads",
                                            "arn:aws:s3:::" BUCKET_NAME,
                                            { BY_TLS } }));
        assert_true(CREATE(&w, key_desired("prod")));
        assert_true(CHANGE(&w, key_desired("prod")));
        assert_false(PUT(&w, key_desired("prod")));
        assert_true(CHANGE(&w, key_head("prod")));
        assert_true(REMOVE(&w, key_version("shop", "v1")));
        assert_true(REMOVE(&w, key_bundle("shop", "v1")));
        assert_true(may_list(&w, "p/q/applications/shop/versions/"));
        assert_true(may_list(&w, "p/q/environments/"));

        assert_false(CREATE(&w, key_lane("prod", "g1", 0)));
        assert_false(PUT(&w, key_host("prod", "i-0abc")));
        assert_false(GET(&w, key_host("prod", "i-0abc")));
        assert_false(REMOVE(&w, key_desired("prod")));
        assert_false(REMOVE(&w, key_head("prod")));
        assert_false(REMOVE(&w, key_store_id()));
        world_done(&w);
}

static void test_publishers_of_one_environment(_unused_ void **state) {
        char *environments[] = { (char[]){ "prod" }, NULL };
        PolicySpec spec = plain;
        World w;

        spec.environments = environments;
        w = world_of(&spec, POLICY_PUBLISHER);
        assert_true(CHANGE(&w, key_desired("prod")));
        assert_false(CHANGE(&w, key_desired("test")));
        assert_false(CHANGE(&w, key_head("test")));
        /* Which versions others run has to be known before any is pruned. */
        assert_true(GET(&w, key_desired("test")));
        assert_true(may_list(&w, "p/q/environments/"));
        world_done(&w);
}

/* ---- the bucket ---- */

static void test_bucket_wants_tls(_unused_ void **state) {
        World w = world_of(&plain, POLICY_AGENT);
        Request q = { OWN,
                      "s3:GetObject",
                      "arn:aws:s3:::" BUCKET_NAME "/p/q/store.json",
                      { { "aws:SecureTransport", "false" } } };

        assert_int_equal(ask(w.role, &q), ALLOWED);
        assert_false(may_ask(&w, &q));
        q.resource = "arn:aws:s3:::" BUCKET_NAME;
        q.action = "s3:ListBucket";
        assert_int_equal(ask(w.bucket, &q), DENIED);
        /* Somebody else's prefix of the same bucket is theirs. */
        q.resource = "arn:aws:s3:::" BUCKET_NAME "/other/x";
        q.action = "s3:GetObject";
        assert_int_equal(ask(w.bucket, &q), NOTHING_SAID);
        world_done(&w);
}

static void test_key(_unused_ void **state) {
        PolicySpec spec = plain;
        World w;
        Request q = { OWN,
                      "kms:GenerateDataKey",
                      THE_KEY,
                      { { "kms:ViaService", "s3.eu-west-1.amazonaws.com" } } };

        spec.kms_key = THE_KEY;
        w = world_of(&spec, POLICY_AGENT);
        assert_int_equal(ask(w.role, &q), ALLOWED);
        q.context[0].value = "ebs.eu-west-1.amazonaws.com";
        assert_int_equal(ask(w.role, &q), NOTHING_SAID);
        q.context[0].key = NULL;
        assert_int_equal(ask(w.role, &q), NOTHING_SAID);
        assert_true(PUT(&w, key_host("prod", "i-0abc")));
        assert_true(may(&w, "p/q", "s3:PutObject", key_host("prod", "i-0abc"), (Context) MAKES,
                        (Context){ "s3:x-amz-server-side-encryption-aws-kms-key-id", THE_KEY }));
        assert_false(may(&w, "p/q", "s3:PutObject", key_host("prod", "i-0abc"), (Context) MAKES,
                         (Context){ "s3:x-amz-server-side-encryption-aws-kms-key-id", "other" }));
        world_done(&w);
}

static void test_encryption(_unused_ void **state) {
        PolicySpec spec = plain;
        json_t *value, *rule, *by;

        assert_false(policy_applies(&spec, POLICY_ENCRYPTION));
        spec.kms_key = THE_KEY;
        assert_false(policy_applies(&spec, POLICY_KEY));
        value = print(&spec, POLICY_ENCRYPTION);
        rule = json_array_get(json_object_get(value, "Rules"), 0);
        by = json_object_get(rule, "ApplyServerSideEncryptionByDefault");
        assert_string_equal(json_string_value(json_object_get(by, "KMSMasterKeyID")), THE_KEY);
        json_decref(value);

        spec.account = OTHER;
        value = print(&spec, POLICY_KEY);
        assert_string_equal(json_string_value(json_object_get(value, "Effect")), "Allow");
        assert_string_equal(
                json_string_value(json_object_get(json_object_get(value, "Principal"), "AWS")),
                "arn:aws:iam::" OTHER ":root");
        assert_string_equal(
                json_string_value(json_array_get(json_object_get(value, "Resource"), 0)), "*");
        json_decref(value);
}

/* Another account's hosts may what hosts may, and its publishers nothing. */
static void test_other_account(_unused_ void **state) {
        static const char head[] =
                "arn:aws:s3:::" BUCKET_NAME "/p/q/environments/prod/rollout.json";
        static const char desired[] =
                "arn:aws:s3:::" BUCKET_NAME "/p/q/environments/prod/desired.json";
        Request q = { OTHER, "s3:PutObject", head, { BY_TLS, MAKES, IF_MATCH } };
        PolicySpec spec = plain;
        World w = world_of(&spec, POLICY_AGENT), p;

        assert_false(may_ask(&w, &q));
        world_done(&w);
        spec.account = OTHER;
        w = world_of(&spec, POLICY_AGENT);
        p = world_of(&spec, POLICY_PUBLISHER);
        assert_true(may_ask(&w, &q));
        assert_true(may_ask(&p, &q));
        q.resource = desired;
        assert_false(may_ask(&w, &q));
        assert_false(may_ask(&p, &q));
        q.account = OWN;
        assert_true(may_ask(&p, &q));
        q.account = "999999999999";
        q.resource = head;
        assert_false(may_ask(&w, &q));
        world_done(&w);
        world_done(&p);
}

/* ---- names ---- */

static void test_partition(_unused_ void **state) {
        static const char *const rows[][2] = {
                { "eu-west-1", "aws" },
                { "cn-north-1", "aws-cn" },
                { "us-gov-west-1", "aws-us-gov" },
                { "us-iso-east-1", "aws-iso" },
                { "us-isob-east-1", "aws-iso-b" },
                { "eusc-de-east-1", "aws-eusc" },
                { "", "aws" },
                { NULL, "aws" },
        };
        PolicySpec spec = plain;
        json_t *policy;

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_string_equal(policy_partition(rows[i][0]), rows[i][1]);

        spec.partition = "aws-cn";
        policy = print(&spec, POLICY_AGENT);
        assert_int_equal(ask(policy, &(Request){ OWN,
                                                 "s3:GetObject",
                                                 "arn:aws-cn:s3:::" BUCKET_NAME "/p/q/store.json",
                                                 { BY_TLS } }),
                         ALLOWED);
        json_decref(policy);
        spec.kms_key = "arn:aws-cn:kms:cn-north-1:" OWN ":key/1";
        policy = print(&spec, POLICY_AGENT);
        assert_int_equal(ask(policy, &(Request){ OWN,
                                                 "kms:Decrypt",
                                                 spec.kms_key,
                                                 { { "kms:ViaService",
                                                     "s3.cn-north-1.amazonaws.com.cn" } } }),
                         ALLOWED);
        json_decref(policy);
}

static void test_no_prefix(_unused_ void **state) {
        PolicySpec spec = { .location = &without_prefix, .partition = "aws" };
        World w = world_of(&spec, POLICY_AGENT);

        assert_true(may(&w, "", "s3:GetObject", key_head("prod"), (Context){ 0 }, (Context){ 0 }));
        assert_false(
                may(&w, "", "s3:GetObject", KEY("backup/db.dump"), (Context){ 0 }, (Context){ 0 }));
        assert_false(may(&w, "", "s3:PutObject", key_desired("prod"), (Context) MAKES,
                         (Context) IF_MATCH));
        assert_true(may_list(&w, "environments/prod/rollout.json"));
        assert_false(may_list(&w, ""));
        world_done(&w);
}

/* What IAM reads as a pattern is a name here. */
static void test_odd_prefix(_unused_ void **state) {
        char odd[] = "a*b?c$d\"\\e";
        S3Location location = { bucket_name, odd };
        PolicySpec spec = { .location = &location, .partition = "aws" };
        World w = world_of(&spec, POLICY_AGENT);
        json_t *lifecycle = print(&spec, POLICY_LIFECYCLE);
        json_t *filter;

        assert_true(may(&w, odd, "s3:GetObject", key_head("e"), (Context){ 0 }, (Context){ 0 }));
        assert_false(may(&w, "aXXb?c$d\"\\e", "s3:GetObject", key_head("e"), (Context){ 0 },
                         (Context){ 0 }));
        assert_false(may(&w, "a*bXc$d\"\\e", "s3:GetObject", key_head("e"), (Context){ 0 },
                         (Context){ 0 }));
        filter = json_object_get(json_array_get(json_object_get(lifecycle, "Rules"), 0), "Filter");
        assert_string_equal(json_string_value(json_object_get(filter, "Prefix")),
                            "a*b?c$d\"\\e/applications/");
        json_decref(lifecycle);
        world_done(&w);
}

/* ---- what is removed by itself ---- */

static const json_t *rule_of(const json_t *lifecycle, const char *prefix) {
        const json_t *rules = json_object_get(lifecycle, "Rules"), *rule;
        size_t i;

        json_array_foreach(rules, i, rule) {
                const json_t *filter = json_object_get(rule, "Filter");

                assert_string_equal(json_string_value(json_object_get(rule, "Status")), "Enabled");
                if (str_equal(json_string_value(json_object_get(filter, "Prefix")), prefix))
                        return rule;
        }
        return NULL;
}

static int days(const json_t *rule, const char *action, const char *name) {
        return (int) json_integer_value(json_object_get(json_object_get(rule, action), name));
}

static void test_lifecycle(_unused_ void **state) {
        char *environments[] = { (char[]){ "prod" }, (char[]){ "test" }, NULL };
        PolicySpec spec = plain;
        json_t *lifecycle = print(&spec, POLICY_LIFECYCLE);
        const json_t *rule = rule_of(lifecycle, "p/q/applications/");

        assert_int_equal(days(rule, "AbortIncompleteMultipartUpload", "DaysAfterInitiation"), 2);
        assert_null(json_object_get(rule, "Expiration"));
        rule = rule_of(lifecycle, "p/q/environments/");
        assert_int_equal(days(rule, "NoncurrentVersionExpiration", "NoncurrentDays"), 7);
        assert_null(json_object_get(rule, "Expiration"));
        rule = rule_of(lifecycle, "p/q/selftest/");
        assert_int_equal(days(rule, "Expiration", "Days"), 1);
        json_decref(lifecycle);

        /* Known names make it exact: old assignments stay. */
        spec.environments = environments;
        lifecycle = print(&spec, POLICY_LIFECYCLE);
        assert_null(rule_of(lifecycle, "p/q/environments/"));
        assert_non_null(rule_of(lifecycle, "p/q/environments/prod/g/"));
        assert_non_null(rule_of(lifecycle, "p/q/environments/prod/hosts/"));
        assert_non_null(rule_of(lifecycle, "p/q/environments/test/hosts/"));
        assert_int_equal(json_array_size(json_object_get(lifecycle, "Rules")), 6);
        json_decref(lifecycle);
}

/* ---- what is refused ---- */

static void assert_refused(PolicySpec spec, const char *words) {
        _cleanup_(error_freep) Error *err = NULL;

        assert_int_equal(policy_check(&spec, &err), -EINVAL);
        if (!strstr(error_text(err), words))
                fail_msg("no \"%s\" in: %s", words, error_text(err));
}

static void test_check(_unused_ void **state) {
        static const char *const keys[] = {
                "",
                "alias/shop",
                "1234abcd-12ab-34cd-56ef-1234567890ab",
                "arn:aws:kms:eu-west-1:" OWN ":alias/shop",
                "arn:aws-cn:kms:eu-west-1:" OWN ":key/1",
                "arn:aws:kms:eu-west-1:1111:key/1",
                "arn:aws:kms::" OWN ":key/1",
                "arn:aws:kms:eu-west-1:" OWN ":key/",
                "arn:aws:kms:eu-west-1:" OWN ":key/1*",
                "arn:aws:kms:eu-west-1:" OWN,
                "arn:aws:kms:eu-west-1:" OWN ":key/1:2",
        };
        static const char *const accounts[] = { "", "1234", "11112222333x", "1111222233334", "*" };
        static const char *const partitions[] = { "", "gcp", "aws cn", "aws:", "aws\"" };
        char *bad[] = { (char[]){ "prod" }, (char[]){ "a/b" }, NULL }, name[] = "e";
        char *many[POLICY_ENVIRONMENTS_MAX + 2] = { NULL };
        PolicySpec spec;

        for (size_t i = 0; i < ELEMENTS(keys); i++) {
                spec = plain;
                spec.kms_key = keys[i];
                assert_refused(spec, "is not a key");
        }
        for (size_t i = 0; i < ELEMENTS(accounts); i++) {
                spec = plain;
                spec.account = accounts[i];
                assert_refused(spec, "12 digits");
        }
        for (size_t i = 0; i < ELEMENTS(partitions); i++) {
                spec = plain;
                spec.partition = partitions[i];
                assert_refused(spec, "not a partition");
        }
        spec = plain;
        spec.environments = bad;
        assert_refused(spec, "\"a/b\" is not an environment");
        for (size_t i = 0; i <= POLICY_ENVIRONMENTS_MAX; i++)
                many[i] = name;
        spec.environments = many;
        assert_refused(spec, "more than 8");
}

/* A role takes 10,240 characters, without what is between them; a bucket 20 KiB. */
static void test_sizes(_unused_ void **state) {
        char long_name[] = "an-environment-with-a-rather-long-name",
             long_prefix[] = "a/prefix/of/some/length";
        char *many[POLICY_ENVIRONMENTS_MAX + 1] = { NULL };
        S3Location location = { bucket_name, long_prefix };
        PolicySpec spec = { .location = &location,
                            .partition = "aws-us-gov",
                            .environments = many,
                            .kms_key = "arn:aws-us-gov:kms:us-gov-west-1:" OWN ":key/1234abcd-12ab",
                            .account = OTHER };

        for (size_t i = 0; i < POLICY_ENVIRONMENTS_MAX; i++)
                many[i] = long_name;
        for (int kind = 0; kind < _POLICY_KIND_MAX; kind++)
                json_decref(print(&spec, (PolicyKind) kind));
}

static void test_too_long(_unused_ void **state) {
        char longest[1001];
        S3Location location = { bucket_name, longest };
        PolicySpec spec = { .location = &location, .partition = "aws" };
        _cleanup_(buf_done) Buf text = BUF_INIT(1024 * 1024);

        memset(longest, 'x', 1000);
        longest[1000] = '\0';
        assert_int_equal(policy_print(&spec, POLICY_AGENT, &text), -EFBIG);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_hosts_may),
                cmocka_unit_test(test_hosts_may_not),
                cmocka_unit_test(test_hosts_may_not_whatever_else_they_have),
                cmocka_unit_test(test_hosts_of_one_environment),
                cmocka_unit_test(test_publishers),
                cmocka_unit_test(test_publishers_of_one_environment),
                cmocka_unit_test(test_bucket_wants_tls),
                cmocka_unit_test(test_key),
                cmocka_unit_test(test_encryption),
                cmocka_unit_test(test_other_account),
                cmocka_unit_test(test_partition),
                cmocka_unit_test(test_no_prefix),
                cmocka_unit_test(test_odd_prefix),
                cmocka_unit_test(test_lifecycle),
                cmocka_unit_test(test_check),
                cmocka_unit_test(test_sizes),
                cmocka_unit_test(test_too_long),
        };

        return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
