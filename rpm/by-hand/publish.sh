#!/bin/bash
# BUCKET=B PREFIX=P KEY=publish.pem KEY_ID=ID publish.sh BUNDLE APPLICATION LABEL
set -euo pipefail
type=application/vnd.tendril.version+json at=applications/$2/versions/$3 d=$(mktemp -d)
trap 'rm -r "$d"' EXIT
put() { aws s3api put-object --bucket "$BUCKET" --key "$PREFIX/$at/$1" --body "$2" --if-none-match '*'; }
sha256=$(openssl dgst -sha256 -r "$1")
jq -jcn --arg app "$2" --arg v "$3" --arg key "$at/bundle" --argjson size "$(stat -Lc %s "$1")" --arg sha256 "${sha256%% *}" '
        {format: 1, application: $app, label: $v, bundle: {key: $key, size: $size, sha256: $sha256}, created: (now | todate)}' >"$d/payload"
(printf 'DSSEv1 %d %s %d ' ${#type} $type "$(stat -c %s "$d/payload")" && cat "$d/payload") >"$d/signed" # DSSE's encoding
openssl pkeyutl -sign -rawin -inkey "$KEY" -in "$d/signed" -out "$d/signature"
jq -cn --arg type $type --rawfile payload "$d/payload" --arg id "$KEY_ID" --arg sig "$(base64 -w 0 "$d/signature")" '
        {payloadType: $type, payload: ($payload | @base64), signatures: [{keyid: $id, sig: $sig}]}' >"$d/envelope"
put bundle "$1" && put version.json "$d/envelope"
