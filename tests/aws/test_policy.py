"""The policies that `tendril init` makes: the whole flow passes with them, with nothing granted that nobody uses.

moto checks signatures and the policies of users by `bucket/key`, and knows neither conditions nor policy variables; these are
looked at by the evaluator below, against the requests that were really sent. What neither shows is said in UNTESTED.
"""

import dataclasses
import fnmatch
import json
import os
import re
import urllib.parse
import urllib.request

import botocore.exceptions
import pytest

from world import Server, noise_bundle, wait_for

# No stand-in looks at these; AWS does.
UNTESTED = ("bucket policy: conditions on s3:if-none-match, s3:if-match, s3:ObjectCreationOperation", "kms:ViaService", "roles of another account",
            "lifecycle rules")

# Granted, and used by nothing in this flow: logs, an upload that is gone on with, a head whose publisher died, the store's id.
GRANTED_FOR_MORE = (r"environments/.*/logs/", r"ListMultipartUploadParts", r"PutObject on .*/rollout\.json", r"GetObject on .*/store\.json")


class Policy:
    """A document of IAM: enough of its rules to say whether a request passes."""

    def __init__(self, document):
        self.statements = document["Statement"]
        self.used = set()

    def allows(self, action, resource, prefix=None):
        granted = False
        for i, s in enumerate(self.statements):
            if not any(matches(a, action) for a in listed(s["Action"])):
                continue
            hits = [r for r in listed(s["Resource"]) if matches(r, resource)]
            wanted = s.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
            if not hits or (wanted is not None and not any(matches(p, prefix or "") for p in listed(wanted))):
                continue
            if s["Effect"] == "Deny":
                return False
            granted = True
            self.used.update((i, a, r) for a in listed(s["Action"]) if matches(a, action) for r in hits)
        return granted

    def unused(self):
        return ["%s on %s" % (a, r) for i, s in enumerate(self.statements) if s["Effect"] == "Allow" and not listed(s["Action"])[0].startswith("kms:")
                for a in listed(s["Action"]) for r in listed(s["Resource"]) if (i, a, r) not in self.used]

    def for_moto(self):
        """Without what it does not know."""
        kept = [{k: v for k, v in s.items() if k != "Condition"} for s in self.statements if s["Effect"] == "Allow" or "Condition" not in s]
        return json.dumps({"Version": "2012-10-17", "Statement": kept})


def listed(value):
    return value if isinstance(value, list) else [value]


def matches(pattern, text):
    literal = {"${*}": "[*]", "${?}": "[?]", "${$}": "$"}
    pattern = re.sub(r"\$\{[*?$]\}|\[", lambda m: literal.get(m.group(), "[[]"), pattern)
    return fnmatch.fnmatchcase(text, pattern)


def action_of(request, bucket):
    """What S3 asks IAM about a request: action, resource, prefix of a listing."""
    url = urllib.parse.urlsplit(request.path)
    query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    key = urllib.parse.unquote(url.path)[len("/" + bucket):].lstrip("/")
    arn = "arn:aws:s3:::" + bucket
    if not key:
        return ("s3:ListBucketMultipartUploads" if "uploads" in query else "s3:ListBucket", arn, query.get("prefix", ""))
    if request.method == "DELETE":
        return ("s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject", arn + "/" + key, None)
    if request.method == "GET" and "uploadId" in query:
        return ("s3:ListMultipartUploadParts", arn + "/" + key, None)
    return ("s3:GetObject" if request.method in ("GET", "HEAD") else "s3:PutObject", arn + "/" + key, None)


@dataclasses.dataclass
class Guarded:
    """A moto of its own with authentication on, and a user each for hosts and publishers, with the policies that were made."""

    server: Server
    bucket: object
    host: object
    policies: dict
    users: dict

    def as_user(self, name):
        key_id, secret = self.users[name]
        return {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret}

    def client(self, name):
        return self.server.client("s3", *self.users[name])


def made_policies(host, words=()):
    """{"agent-role": {...}, ...}: the files that `tendril init` makes."""
    folder = os.path.join(host.dir, "policies")
    host.tendril("init", "--store", host.store, "--policies", folder, "--dry-run", *words)
    made = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name)) as f:
            made[name.rsplit(".", 1)[0]] = json.load(f)
    return made


def authentication(server, calls):
    """calls: so many pass unchecked; "inf": all."""
    request = urllib.request.Request(server.endpoint + "/moto-api/reset-auth", data=str(calls).encode(), headers={"Content-Type": "text/plain"})
    urllib.request.urlopen(request, timeout=10).close()


@pytest.fixture
def guarded(request, started, make_host, make_proxy):
    server = started.up("moto", as_name="moto-guarded")
    bucket = server.bucket()
    proxy = make_proxy(server)
    host = make_host(bucket, endpoint=proxy.endpoint, signed=True, init=False, interval=0.02, consecutive=1, drain_timeout=1)
    host.proxy = proxy
    policies = made_policies(host, getattr(request, "param", ()))
    iam, users = server.client("iam"), {}
    for name, policy in (("agent", "agent-role"), ("publisher", "publisher-role")):
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName=policy, PolicyDocument=Policy(policies[policy]).for_moto())
        key = iam.create_access_key(UserName=name)["AccessKey"]
        users[name] = (key["AccessKeyId"], key["SecretAccessKey"])
    authentication(server, 0)
    yield Guarded(server, bucket, host, policies, users)
    authentication(server, "inf")


def play(g):
    """All that people and hosts do, each with its own keys."""
    by = {**g.as_user("publisher"), "AWS_ENDPOINT_URL_S3": g.host.proxy.endpoint}

    def tendril(*words):
        return g.host.tendril(*words, env=by)

    tendril("init", "--store", g.bucket.url)
    for i, size in enumerate((1000, 20_000_000, 2000), 1):
        tendril("publish", noise_bundle(os.path.join(g.host.dir, "v%d.zip" % i), size, seed=i), "--app", "shop", "--version", "v%d" % i, *g.host.signing("publish"))
    refused = g.host.proxy.fault(method="PUT", path="partNumber=2", times=None, status=403, code="AccessDenied")
    big = noise_bundle(os.path.join(g.host.dir, "v4.zip"), 20_000_000, seed=4)
    assert g.host.tendril("publish", big, "--app", "shop", "--version", "v4", env=by, check=False).returncode != 0
    g.host.proxy.clear(refused)
    tendril("assign", "--env", "test", "--app", "shop", "--version", "v1", *g.host.signing("assign"))
    g.host.agent_environment.update(g.as_user("agent"))
    g.host.start()
    g.host.wait_served("v1")
    tendril("assign", "--env", "test", "--app", "shop", "--version", "v2", *g.host.signing("assign"))
    g.host.wait_served("v2")
    wait_for("the host reports", lambda: g.host.proxy.requests("PUT", "/hosts/h1.json"))
    tendril("versions", "--app", "shop", "--prune", "--keep", "0")


def who(request, g):
    key_id = re.search(r"Credential=([^/]+)/", request.get("Authorization") or "").group(1)
    return next((name for name, (k, _) in g.users.items() if k == key_id), None)


@pytest.mark.parametrize("guarded", [(), ("--env", "test")], ids=["all-environments", "one"], indirect=True)
def test_the_flow_passes_with_the_policies_and_uses_all_of_them(guarded):
    g = guarded
    g.host.proxy.seen.clear()
    play(g)
    policies = {"agent": Policy(g.policies["agent-role"]), "publisher": Policy(g.policies["publisher-role"])}
    refused = []
    for seen in g.host.proxy.requests():
        asked = action_of(seen.request, g.bucket.name)
        user = who(seen.request, g)
        if not policies[user].allows(*asked):
            refused.append((user, *asked))
        if seen.request.get("If-Match") and not policies[user].allows("s3:GetObject", asked[1]):
            refused.append((user, "s3:GetObject", "for If-Match", asked[1]))
        if seen.status == 404:  # without it the answer is 403
            bucket, _, key = asked[1].partition("/")
            if not policies[user].allows("s3:ListBucket", bucket, key):
                refused.append((user, "s3:ListBucket", "for 404", key))
    assert not refused, "requests that the printed policies do not allow"
    assert 403 not in [s.status for s in g.host.proxy.requests() if not s.fault]
    for user, policy in policies.items():
        left = [u for u in policy.unused() if not any(re.search(later, u) for later in GRANTED_FOR_MORE)]
        assert not left, "%s is granted what nothing used: %s" % (user, left)


def test_a_host_can_neither_choose_nor_remove(guarded):
    g = guarded
    play(g)
    agent = Policy(g.policies["agent-role"])
    s3 = g.client("agent")
    arn = "arn:aws:s3:::%s/%s" % (g.bucket.name, g.bucket.prefix)
    generation = json.loads(s3.get_object(Bucket=g.bucket.name, Key=g.bucket.key("environments/test/rollout.json"))["Body"].read())["generation"]
    for name in ("applications/shop/versions/v9/version.json", "applications/shop/versions/v2/bundle", "environments/test/desired.json",
                 "environments/other/desired.json", "store.json"):
        with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
            s3.put_object(Bucket=g.bucket.name, Key=g.bucket.key(name), Body=b"x")
        assert not agent.allows("s3:PutObject", "%s/%s" % (arn, name))
    for name in ("environments/test/g/%s/lane/0.json" % generation, "environments/test/rollout.json", "applications/shop/versions/v2/bundle"):
        with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
            s3.delete_object(Bucket=g.bucket.name, Key=g.bucket.key(name))
        assert not agent.allows("s3:DeleteObject", "%s/%s" % (arn, name))
    for prefix in ("", "other/", "applications"):
        assert not agent.allows("s3:ListBucket", "arn:aws:s3:::" + g.bucket.name, prefix)
    assert not agent.allows("s3:GetObject", "arn:aws:s3:::%s/elsewhere" % g.bucket.name)


def test_a_role_that_may_not_is_told_which_permission(guarded):
    """A host whose role lacks what it needs says which permission, and what it runs goes on."""
    g = guarded
    play(g)
    authentication(g.server, "inf")
    iam = g.server.client("iam")
    iam.delete_user_policy(UserName="agent", PolicyName="agent-role")
    authentication(g.server, 0)
    text = g.host.wait_silent("AccessDenied")
    assert "s3:GetObject" in text or "s3:ListBucket" in text, text
    assert g.host.version() == "big2"


def test_what_no_stand_in_shows_is_named(guarded):
    bucket_policy = json.dumps(guarded.policies["bucket-policy"])
    for words in ("s3:if-none-match", "s3:if-match", "s3:ObjectCreationOperation"):
        assert words in bucket_policy and any(words in u for u in UNTESTED)
