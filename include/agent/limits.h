#pragma once

/*
 * Every maximum, each with its reason. Nothing that comes from outside grows without one of these.
 */

/* A packet between main and a helper: SOCK_SEQPACKET takes it in one piece with default buffers;
 * larger bodies go by fd. */
#define LIMIT_PACKET_BYTES (64 * 1024)

/* Any document of the store (desired, version, head, lane, host): settings of the largest known
 * environment are 40 kB. */
#define LIMIT_DOCUMENT_BYTES (256 * 1024)

/* A plan made of a bundle's Procfile, hooks, cron, .ebextensions. */
#define LIMIT_PLAN_BYTES (1024 * 1024)

/* state.json: the desired document, three versions with their properties, quarantine; and one
 * record of a deploy with its hooks. */
#define LIMIT_STATE_BYTES  (1024 * 1024)
#define LIMIT_RECORD_BYTES (512 * 1024)

/* tendril.yaml and each drop-in, and how many drop-ins. */
#define LIMIT_CONFIG_BYTES   (256 * 1024)
#define LIMIT_CONFIG_DROPINS 64

/* One string of a document where its row says nothing else. */
#define LIMIT_STRING_BYTES 4096

/* Levels of nesting: what a person can follow; deeper input is an attack on a recursive reader. */
#define LIMIT_YAML_DEPTH 32
#define LIMIT_JSON_DEPTH 32

/* Values that aliases of one YAML document may expand to ("billion laughs"). */
#define LIMIT_YAML_VALUES 100000

/* Option settings and environment properties of one environment. */
#define LIMIT_SETTINGS            2048
#define LIMIT_SETTING_VALUE_BYTES (64 * 1024)

/* Elastic Beanstalk's own maximum is 512 MB; twice that leaves room and still fits a small volume.
 */
#define LIMIT_BUNDLE_BYTES (UINT64_C(1) << 30)

/* What a bundle may hold: entries as in the largest node_modules seen times two; total and ratio
 * stop zip bombs. */
#define LIMIT_ARCHIVE_ENTRIES     200000
#define LIMIT_ARCHIVE_TOTAL_BYTES (UINT64_C(8) << 30)
#define LIMIT_ARCHIVE_RATIO       200 /* counted once more than 64 MiB are out */
#define LIMIT_ARCHIVE_NAME_BYTES  1024
#define LIMIT_ARCHIVE_DEPTH       64

/* Procfile: lines, and processes of one application. */
#define LIMIT_PROCFILE_BYTES (64 * 1024)
#define LIMIT_PROCESSES      32
#define LIMIT_COMMAND_BYTES  8192

/* Hooks of one phase (host's and version's together), and what is kept of the output of one. */
#define LIMIT_HOOKS           256
#define LIMIT_HOOK_TAIL_LINES 64
#define LIMIT_LINE_BYTES      4096
#define LIMIT_HOOK_RETRIES    10 /* exits with 75, "try again later", before it is a failure */

/* Trusted keys in the configuration, signatures of one envelope. */
#define LIMIT_KEYS       32
#define LIMIT_SIGNATURES 16
#define LIMIT_KEY_BYTES  4096

/* Control socket: clients at once, bytes of one request and of one reply, how long a silent client
 * is kept. */
#define LIMIT_CLIENTS             64
#define LIMIT_CLIENTS_PER_UID     32
#define LIMIT_REQUEST_BYTES       (64 * 1024)
#define LIMIT_REPLY_BYTES         (4 * 1024 * 1024)
#define LIMIT_CLIENT_BUFFER_BYTES (8 * 1024 * 1024)
#define LIMIT_CLIENT_IDLE_USEC    (UINT64_C(600) * 1000000)
#define LIMIT_CLIENT_STALL_USEC   (UINT64_C(10) * 1000000)

/* Kept on the host: records and logs of deploys, quarantined versions. */
#define LIMIT_RECORDS          50
#define LIMIT_DEPLOY_LOG_BYTES (4 * 1024 * 1024)
#define LIMIT_QUARANTINE       64

/* An answer of the application to a health check: only its status counts. */
#define LIMIT_CHECK_BODY_BYTES (1024 * 1024)

/* Calls under way to one helper: more is a bug of the caller. */
#define LIMIT_CALLS 256

/* One page of a list of the store, as S3's. */
#define LIMIT_LIST_KEYS      1000
#define LIMIT_KEY_NAME_BYTES 1024

/* Answers of AWS: a page of 1,000 keys of 1,024 bytes each, escaped, and an error document. */
#define LIMIT_XML_LIST_BYTES  (4 * 1024 * 1024)
#define LIMIT_XML_ERROR_BYTES (64 * 1024)
#define LIMIT_XML_DEPTH       16

/* Requests to the store under way at once, beside the ranges of a transfer. */
#define LIMIT_S3_CALLS 64
