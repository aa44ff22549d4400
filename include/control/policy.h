#pragma once

/*
 * What a bucket that is a store should allow: texts for IAM and S3, made from where the store is.
 * Pure.
 *
 * One table (agent/control/policy.c) says who may do what with which key; the keys are those of
 * store/key.h. Hosts may take their turn and say how they are, and can neither choose what runs nor
 * remove what others rely on; publishers choose; the bucket itself refuses what would undo
 * coordination, whoever asks.
 *
 * Sources: docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html,
 * .../list_amazons3.html of the service authorization reference, IAM user guide "Policy variables"
 * and "Testing multiple principals", S3 user guide "Lifecycle configuration elements".
 */

#include "base/buf.h"
#include "base/error.h"
#include "net/endpoint.h"

typedef enum PolicyKind {
        POLICY_AGENT,      /* of the role of the hosts */
        POLICY_PUBLISHER,  /* of the role that publishes and assigns, and of `tendril init` */
        POLICY_BUCKET,     /* of the bucket */
        POLICY_LIFECYCLE,  /* what S3 removes by itself */
        POLICY_ENCRYPTION, /* with kms_key: the bucket's default */
        POLICY_KEY,        /* with kms_key and account: a statement for the key's policy */
        _POLICY_KIND_MAX,
} PolicyKind;

#define POLICY_ENVIRONMENTS_MAX 8

typedef struct PolicySpec {
        const S3Location *location;
        const char *partition;     /* "aws", "aws-cn", "aws-us-gov", ... */
        char *const *environments; /* the only ones that the roles are for; NULL or empty: all */
        const char *kms_key;       /* ARN of a key, or NULL */
        const char *account;       /* hosts of this other account too; 12 digits, or NULL */
} PolicySpec;

/* -EINVAL with words: what IAM would refuse, or take for something else. */
int policy_check(const PolicySpec *spec, Error **reterr);

/* False: this spec has no such text. */
bool policy_applies(const PolicySpec *spec, PolicyKind kind);

/* "agent-role", "bucket-policy", ... */
const char *policy_name(PolicyKind kind);

/* The JSON that AWS takes, indented, with a newline behind it. -EFBIG: longer than AWS takes. */
int policy_print(const PolicySpec *spec, PolicyKind kind, Buf *ret);

/* For the person: what it is for, what it cannot do, and the command that applies it; whole lines.
 * path: of the file that holds it. */
int policy_explain(const PolicySpec *spec, PolicyKind kind, const char *path, Buf *ret);

/* "aws-cn" of "cn-north-1"; "aws" of what is not known, and of NULL. */
const char *policy_partition(const char *region);
