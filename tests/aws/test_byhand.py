"""What pipelines write that have no tendril: openssl and the AWS CLI, by the two scripts in rpm/by-hand/."""

import os
import subprocess
import sys

import pytest

from world import REGION, TOP, bundle, machine_environment, server_text

FOLDER = os.path.join(TOP, "rpm", "by-hand")
LINES = 15


class Pipeline:
    """A machine with bash, openssl, jq and the AWS CLI."""

    def __init__(self, host):
        self.host = host
        self.environment = {**machine_environment(), **host.server.environment, "AWS_ENDPOINT_URL_S3": host.server.endpoint,
                            "AWS_DEFAULT_REGION": REGION, "AWS_CONFIG_FILE": "/dev/null", "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
                            "PATH": os.path.dirname(sys.executable) + ":" + os.environ["PATH"], "TMPDIR": host.dir,
                            "BUCKET": host.bucket.name, "PREFIX": host.bucket.prefix}

    def run(self, name, *words, purpose, check=True):
        e = {**self.environment, "KEY": os.path.join(self.host.keys, purpose + ".pem"), "KEY_ID": purpose + "-1"}
        r = subprocess.run(["bash", os.path.join(FOLDER, name), *words], env=e, cwd=self.host.dir, capture_output=True, text=True, timeout=120)
        assert not check or r.returncode == 0, r.stdout + r.stderr
        return r

    def publish(self, label, check=True, content=None):
        path = bundle(os.path.join(self.host.dir, label + ".zip"), {"Procfile": "web: exec python3 server.py\n", "server.py": server_text(content or label)})
        return self.run("publish.sh", path, "shop", label, purpose="publish", check=check)

    def assign(self, label, check=True):
        return self.run("assign.sh", "test", "shop", label, purpose="assign", check=check)


@pytest.mark.parametrize("name", ["publish.sh", "assign.sh"])
def test_the_scripts_are_short(name):
    with open(os.path.join(FOLDER, name)) as f:
        assert len(f.readlines()) <= LINES


def test_an_agent_deploys_what_was_written_by_hand(make_host, bucket):
    host = make_host(bucket, signed=True)
    by_hand = Pipeline(host)
    by_hand.publish("v1")
    by_hand.assign("v1")
    assert bucket.payload("environments/test/desired.json")["revision"] == bucket.json("environments/test/rollout.json")["revision"] == 1
    host.start()
    host.wait_served("v1")
    assert host.version() == "v1"
    by_hand.publish("v2")
    if bucket.server.checks:  # this server wants ETags without quotes: what the AWS CLI passes on it refuses
        host.assign("v2")
    else:
        by_hand.assign("v2")
    host.wait_served("v2")
    desired = bucket.payload("environments/test/desired.json")
    assert (desired["revision"], desired["base"]["label"]) == (2, "v1")
    assert {row["version"] for row in host.json("versions", "--app", "shop")["versions"]} == {"v1", "v2"}


def test_what_is_there_is_not_overwritten(make_host, bucket):
    host = make_host(bucket, signed=True)
    by_hand = Pipeline(host)
    by_hand.publish("v1")
    kept = bucket.get("applications/shop/versions/v1/bundle")
    r = by_hand.publish("v1", check=False, content="other")
    assert r.returncode != 0 and (bucket.server.checks or "PreconditionFailed" in r.stderr)  # the CLI cannot read that server's errors
    assert bucket.get("applications/shop/versions/v1/bundle") == kept


def test_a_version_that_is_not_there_is_not_assigned(make_host, moto_bucket):
    host = make_host(moto_bucket, signed=True)
    r = Pipeline(host).assign("none", check=False)
    assert r.returncode != 0 and "there is no such version" in r.stderr
    assert moto_bucket.names("environments/") == []
