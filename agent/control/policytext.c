#include "control/policy.h"

/* What is told of each text. The command: its words, the bucket where it is asked for, the option
 * that takes the file. */
typedef struct PolicyWords {
        const char *name;
        const char *head;
        const char *text; /* whole lines */
        const char *command;
        bool with_bucket;
        const char *file; /* NULL: the command takes none */
} PolicyWords;

/* clang-format off */
static const PolicyWords words[_POLICY_KIND_MAX] = {
        [POLICY_AGENT] = {
                "agent-role", "For the role of the hosts",
                "It reads the store, writes the head, lanes, outcomes, host documents and logs, and can neither choose\n"
                "what runs (Deny on applications/, desired.json, store.json) nor remove what others wait for.\n"
                "ListBucket is there because S3 answers 403 instead of 404 for a key that is missing to whoever may\n"
                "not list it: a host could not tell \"nothing is assigned\" from \"not allowed\".\n"
                "One host can write another's host document: the only policy variable that knows the instance,\n"
                "${aws:userid}, is ROLE-ID:INSTANCE-ID as a whole, the key holds the instance's id alone, and a\n"
                "policy cannot cut a variable. Nothing is chosen by these documents. Hosts that shall not write each\n"
                "other's get a role for each environment (--env).\n"
                "Do not give a role this policy and the publisher's: the Deny wins.\n",
                "aws iam put-role-policy --role-name HOSTS --policy-name tendril-agent", false, "--policy-document" },
        [POLICY_PUBLISHER] = {
                "publisher-role", "For the role that publishes and assigns (CI, an operator)",
                "It may put versions and say which one an environment runs; hosts with trusted_keys follow only what\n"
                "is signed besides. DeleteObject is for `tendril versions --prune` and the self-test.\n"
                "ListBucketMultipartUploads knows no prefix: it shows the names of unfinished uploads of the whole\n"
                "bucket.\n",
                "aws iam put-role-policy --role-name PUBLISHERS --policy-name tendril-publisher", false, "--policy-document" },
        [POLICY_BUCKET] = {
                "bucket-policy", "For the bucket",
                "Whoever asks: TLS only, and no document that hosts coordinate by, and no version, is written without\n"
                "If-None-Match or If-Match. Requests that make no object yet (the parts of an upload) are exempt by\n"
                "s3:ObjectCreationOperation. Copying a version within the bucket is refused by that as well.\n"
                "The command REPLACES the bucket's policy: add the statements to those that are there.\n",
                "aws s3api put-bucket-policy --bucket", true, "--policy" },
        [POLICY_LIFECYCLE] = {
                "lifecycle", "For the bucket: what S3 removes by itself",
                "Unfinished uploads after 2 days, left-overs of self-tests after a day, and, where the bucket keeps\n"
                "old versions of objects, those of lanes, outcomes and host documents after 7 days, and what\n"
                "`versions --prune` removed after 30.\n"
                "A rule's filter is a plain prefix without wildcards, and the environment's name stands before g/ and\n"
                "hosts/: without --env the rule is for all of environments/, old assignments (desired.json) with it.\n"
                "With --env NAME it is exact, and has to be made again for each new environment.\n"
                "The command REPLACES the bucket's rules: add these to those that are there.\n",
                "aws s3api put-bucket-lifecycle-configuration --bucket", true, "--lifecycle-configuration" },
        [POLICY_ENCRYPTION] = {
                "encryption", "For the bucket: the key that objects are encrypted with by default",
                "tendril names no key in its requests: the bucket's default counts, and the bucket policy refuses a\n"
                "request that names another.\n",
                "aws s3api put-bucket-encryption --bucket", true, "--server-side-encryption-configuration" },
        [POLICY_KEY] = {
                "key-statement", "For the key: a statement to ADD to its policy",
                "Roles of the other account need the key's word as well. Replacing a key's policy by this alone would\n"
                "lock its owner out: read it, add the statement, write it.\n",
                "aws kms get-key-policy --policy-name default --output text --key-id KEY", false, NULL },
};
/* clang-format on */

const char *policy_name(PolicyKind kind) {
        return words[kind].name;
}

static int append_command(Buf *to, const PolicySpec *spec, PolicyKind kind, const char *path) {
        const PolicyWords *w = &words[kind];
        int r;

        r = buf_printf(to, "  %s", w->command);
        if (r >= 0 && w->with_bucket)
                r = buf_printf(to, " %s", spec->location->bucket);
        if (r >= 0 && w->file)
                r = buf_printf(to, " %s file://%s", w->file, path);
        return r < 0 ? r : buf_append_str(to, "\n");
}

int policy_explain(const PolicySpec *spec, PolicyKind kind, const char *path, Buf *ret) {
        const PolicyWords *w = &words[kind];
        int r;

        r = buf_printf(ret, "%s: %s\n%s", w->head, path, w->text);
        if (r >= 0 && kind == POLICY_BUCKET && spec->account)
                r = buf_printf(ret,
                               "Account %s may hand on to its roles what hosts may. The bucket's "
                               "object ownership has to be\n\"bucket owner enforced\", as it is in "
                               "new buckets: else what they write is theirs alone.\n",
                               spec->account);
        return r < 0 ? r : append_command(ret, spec, kind, path);
}
