#!/bin/bash
# BUCKET=B PREFIX=P KEY=assign.pem KEY_ID=ID assign.sh ENVIRONMENT APPLICATION LABEL
set -euo pipefail; key=$(realpath "$KEY"); d=$(mktemp -d); trap 'rm -r "$d"' EXIT; cd "$d"
type=application/vnd.tendril.desired+json at=environments/$1 nonce=$(openssl rand -hex 16)
get() { etag=$(aws s3api get-object --bucket "$BUCKET" --key "$PREFIX/$1" --query ETag --output text "$2") || echo '{}' >"$2"; }
put() { aws s3api put-object --bucket "$BUCKET" --key "$PREFIX/$at/$1" --body "$1" "--if-${2:-none-match=*}"; }
get store.json store; get "applications/$2/versions/$3/version.json" version; get "$at/rollout.json" head; head=${etag:+match=$etag}; get "$at/desired.json" was
jq -jcn --arg env "$1" --arg nonce "$nonce" --slurpfile store store --slurpfile version version --slurpfile was was --slurpfile head head '
        def payload: .[0].payload // "e30=" | @base64d | fromjson; ($version | payload) as $v | ($was | payload) as $w |
        {format: 1, store: ($store[0].id // error("there is no store")), environment: $env, application: $v.application, revision: ([$w.revision, $head[0].revision] | max + 1), nonce: $nonce,
         target: {label: ($v.label // error("there is no such version")), sha256: $v.bundle.sha256}, base: ($w.target // {}), settings: ($w.settings // [])}' >payload
(printf 'DSSEv1 %d %s %d ' ${#type} $type "$(stat -c %s payload)" && cat payload) >signed && openssl pkeyutl -sign -rawin -inkey "$key" -in signed -out signature
jq -cn --arg type $type --rawfile payload payload --arg id "$KEY_ID" --arg sig "$(base64 -w 0 signature)" '{payloadType: $type, payload: ($payload | @base64), signatures: [{keyid: $id, sig: $sig}]}' >desired.json
jq -c '{format: 1, revision, nonce, generation: .nonce, status: "run", follow: "target", lanes: 1}' payload >rollout.json
put desired.json "${etag:+match=$etag}" && put rollout.json "$head"
