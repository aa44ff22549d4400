"""The main job on both servers: from an empty bucket to a version that is served, and all that people do with a store."""

import json
import os
import subprocess

import pytest

from world import BUILD, bundle, noise_bundle, server_text, wait_for

OK, FAILED, USAGE, REFUSED, CONFLICT, UNREACHABLE = 0, 1, 2, 3, 4, 5


def test_from_an_empty_bucket_to_served(make_host, bucket):
    host = make_host(bucket).start()
    host.web("v1")
    host.web("v2")
    host.deploy("v1")
    assert host.version() == "v1"
    host.deploy("v2")
    assert host.version() == "v2"
    status = host.status()
    assert status["store"] == bucket.url and status["store_ok"] and status["previous"]["label"] == "v1"
    assert [d["outcome"] for d in host.history()] == ["done", "done"]
    assert host.fsck()[0] == 0
    report = wait_for("the host reports", lambda: bucket.json("environments/test/hosts/h1.json"))
    assert report["host"] == "h1"
    host.tendril("rollback", "--wait")
    assert host.version() == "v1"


def test_signed_documents_bind(make_host, bucket):
    host = make_host(bucket, signed=True).start()
    host.web("v1")
    host.deploy("v1")
    evil = make_host(bucket)
    evil.web("evil")
    evil.assign("evil")
    host.wait_told("refused", "sign")
    assert host.version() == "v1"


def test_without_keys_nothing_is_deployed(make_host, moto_bucket):
    """On s3:// nothing unsigned is acted on unless the configuration says so; what to write there is told."""
    host = make_host(moto_bucket)
    host.configure(store_extra=host.settings["store_extra"].replace(", unsigned: true", ""))
    host.start()
    host.web("v1")
    host.assign("v1")
    assert "unsigned" in host.wait_told("trusted_keys")
    assert not host.status()["current"]["label"]
    host.configure(store_extra=host.settings["store_extra"] + ", unsigned: true")
    host.tendril("reload")
    host.wait_served("v1")
    assert any("unsigned" in w for w in host.status()["warnings"])


def test_init_is_made_once_and_leaves_nothing_else(make_host, bucket):
    host = make_host(bucket, init=False)
    first = host.json("init", "--store", bucket.url)
    again = host.json("init", "--store", bucket.url)
    assert first["created"] and not again["created"] and first["id"] == again["id"] == bucket.json("store.json")["id"]
    assert bucket.names() == ["store.json"]


def test_publish_is_idempotent_and_refuses_other_content(make_host, bucket):
    host = make_host(bucket)
    path = noise_bundle(os.path.join(host.dir, "a.zip"), 100_000)
    other = noise_bundle(os.path.join(host.dir, "b.zip"), 100_000, seed=2)
    words = ("publish", path, "--app", "shop", "--version", "1.0")
    assert host.json(*words)["already_published"] is False
    assert host.json(*words)["already_published"] is True
    r = host.tendril("publish", other, "--app", "shop", "--version", "1.0", check=False)
    assert r.returncode == REFUSED and "other content" in r.stderr
    with open(path, "rb") as f:
        assert bucket.get("applications/shop/versions/1.0/bundle") == f.read()


def test_large_bundle_goes_in_parts_and_comes_in_ranges(make_host, bucket):
    host = make_host(bucket).start()
    path = noise_bundle(os.path.join(host.dir, "big.zip"), 40_000_000)
    host.tendril("publish", path, "--app", "shop", "--version", "big")
    assert bucket.uploads() == []
    with open(path, "rb") as f:
        assert bucket.get("applications/shop/versions/big/bundle") == f.read()
    host.deploy("big")
    assert host.version() == "big1"
    assert host.tendril("publish", path, "--app", "shop", "--version", "big").returncode == 0


def test_many_publishers_one_winner(make_host, bucket):
    """Each of six processes publishes other content under the same label: one is published, five are refused."""
    host = make_host(bucket)
    paths = [noise_bundle(os.path.join(host.dir, "b%d.zip" % i), 1000, seed=i) for i in range(6)]
    running = [subprocess.Popen([os.path.join(BUILD, "tendril"), "publish", p, "--app", "shop", "--version", "v1"], env=host.environment_of(laptop=True),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE) for p in paths]
    told = [p.communicate(timeout=60)[1].decode() for p in running]
    assert sorted(p.returncode for p in running) == [OK] + [REFUSED] * 5, told
    won = [p.returncode for p in running].index(OK)
    with open(paths[won], "rb") as f:
        assert bucket.get("applications/shop/versions/v1/bundle") == f.read()


def test_many_assigners_each_revision_once(make_host, rgw_bucket):
    host = make_host(rgw_bucket)
    host.web("v1")
    running = [subprocess.Popen([os.path.join(BUILD, "tendril"), "assign", "--env", "test", "--version", "v1", "--app", "shop"],
                                env=host.environment_of(laptop=True), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
    told = [p.communicate(timeout=60)[1].decode() for p in running]
    codes = [p.returncode for p in running]
    assert set(codes) <= {OK, CONFLICT} and OK in codes, told
    assert rgw_bucket.payload("environments/test/desired.json")["revision"] == codes.count(OK)


def test_versions_are_listed_and_pruned(make_host, bucket):
    host = make_host(bucket)
    for i in range(4):
        host.web("v%d" % i)
    host.assign("v0")
    rows = host.json("versions", "--app", "shop")["versions"]
    assert {row["version"] for row in rows} == {"v0", "v1", "v2", "v3"}
    host.tendril("versions", "--app", "shop", "--prune", "--keep", "1")
    left = {name.split("/")[3] for name in bucket.names("applications/")}
    assert "v0" in left and len(left) == 2, "what an environment wants is never pruned"


def test_more_keys_than_one_page(make_host, rgw_bucket):
    """1,000 keys come on a page: a listing goes on behind it."""
    host = make_host(rgw_bucket)
    host.web("v1")
    for i in range(1050):
        rgw_bucket.put("applications/shop/versions/v1/more-%04d" % i, b"")
    host.web("z-last")
    assert {"v1", "z-last"} <= {row["version"] for row in host.json("versions", "--app", "shop")["versions"]}


def test_wait_ends_with_the_deploy(make_host, moto_bucket):
    host = make_host(moto_bucket).start()
    host.web("v1")
    host.assign("v1")
    host.tendril("wait", "--healthy", timeout=60)
    assert host.version() == "v1"


def test_two_hosts_take_turns(make_host, rgw_bucket):
    one = make_host(rgw_bucket, interval=0.3)
    two = make_host(rgw_bucket, name="h2", interval=0.3)
    one.web("v1")
    one.web("v2")
    one.assign("v1")
    one.start()
    two.start()
    one.wait_served("v1", 60)
    two.wait_served("v1", 60)
    one.assign("v2")
    seen = []

    def done():
        busy = [h.name for h in (one, two) if h.status()["deploy"]["stage"] not in (None, "desired", "lease")]
        if busy and (not seen or seen[-1] != busy):
            seen.append(busy)
        return all((lambda s: s["current"]["label"] == "v2" and not s["deploy"]["id"])(h.status()) for h in (one, two))

    wait_for("both serve v2", done, 120, 0.005)
    assert all(len(b) == 1 for b in seen) and {b[0] for b in seen} == {"h1", "h2"}, seen


def test_an_unknown_bucket_is_told(make_host, server):
    host = make_host(server.bucket())
    r = host.tendril("init", "--store", "s3://no-such-bucket-here/x", check=False)
    assert r.returncode in (FAILED, UNREACHABLE) and "no-such-bucket-here" in r.stderr and r.stderr.count("\n") == 1


def test_wrong_keys_are_told_without_the_secret(make_host, rgw_bucket):
    host = make_host(rgw_bucket)
    r = host.tendril("versions", "--app", "shop", check=False, env={"AWS_SECRET_ACCESS_KEY": "NOTTHESECRETATALL"})
    assert r.returncode != OK and "NOTTHESECRETATALL" not in r.stdout + r.stderr
    assert "SignatureDoesNotMatch" in r.stderr
    r = host.tendril("versions", "--app", "shop", check=False, env={"AWS_ACCESS_KEY_ID": "AKIDNOBODY"})
    assert r.returncode != OK and "InvalidAccessKeyId" in r.stderr


def test_secrets_are_nowhere(make_host, bucket):
    """Not in the log, not in what the socket says, not in the environment or arguments of any process that the agent starts."""
    host = make_host(bucket, agent_environment={"AWS_SESSION_TOKEN": None})
    host.start()
    host.publish("v1", {"Procfile": "web: exec python3 server.py\n", "server.py": server_text("v1"),
                        ".platform/hooks/predeploy/01-look": "#!/bin/sh\nenv >look.txt\n"})
    host.deploy("v1")
    secret = host.server.secret
    processes = {host.agent.pid} | host.pids() | children(host.agent.pid)
    for pid in processes - {host.agent.pid}:
        for name in ("environ", "cmdline"):
            try:
                with open("/proc/%d/%s" % (pid, name), "rb") as f:
                    assert secret.encode() not in f.read(), (pid, name)
            except FileNotFoundError:
                pass
    told = host.log() + host.explain() + json.dumps(host.status()) + host.tendril("history", "--json").stdout + host.tendril("config").stdout
    told += host.tendril("explain", "credentials").stdout
    assert secret not in told
    found = subprocess.run(["grep", "-rIl", secret, host.path("var"), host.path("run")], capture_output=True, text=True).stdout
    assert found == ""


def children(pid):
    found = set()
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/children" % (pid, task)) as f:
            for child in map(int, f.read().split()):
                found |= {child} | children(child)
    return found


def test_credentials_are_explained(make_host, moto_bucket):
    host = make_host(moto_bucket).start()
    text = host.tendril("explain", "credentials").stdout
    assert "environment" in text and "****" in text
    assert host.server.key_id not in text


@pytest.mark.parametrize("label", ["1.0", "a_b-c.d", "x" * 100])
def test_labels(make_host, moto_bucket, label):
    host = make_host(moto_bucket)
    host.web(label)
    assert moto_bucket.payload("applications/shop/versions/%s/version.json" % label)["label"] == label


@pytest.mark.parametrize("prefix", ["", "a/b/c", "with space", "plus+percent%", "ünï"])
def test_prefixes(make_host, server, prefix):
    """Whatever may stand in a key: it is signed, sent and listed right."""
    b = server.bucket()
    b.prefix = prefix
    host = make_host(b, init=False)
    host.tendril("init", "--store", host.store)
    path = bundle(os.path.join(host.dir, "v.zip"), {"Procfile": "web: exec sleep 9\n"})
    host.tendril("publish", path, "--app", "shop", "--version", "v1")
    assert [row["version"] for row in host.json("versions", "--app", "shop")["versions"]] == ["v1"]
    keys = [o["Key"] for o in server.s3.list_objects_v2(Bucket=b.name)["Contents"]]
    assert (prefix + "/" if prefix else "") + "store.json" in keys


@pytest.mark.parametrize("size", [1000, 20_000_000], ids=["at-once", "in-parts"])
def test_replace_what_an_upload_that_died_has_left(make_host, moto_bucket, size):
    """Not on RGW: it refuses the quoted ETag of the condition until a document was written with one."""
    host = make_host(moto_bucket)
    moto_bucket.put("applications/shop/versions/v1/bundle", b"something else")
    path = noise_bundle(os.path.join(host.dir, "v1.zip"), size)
    words = ("publish", path, "--app", "shop", "--version", "v1")
    r = host.tendril(*words, check=False)
    assert r.returncode != 0 and "--replace" in r.stderr
    assert moto_bucket.get("applications/shop/versions/v1/bundle") == b"something else"
    host.tendril(*words, "--replace")
    with open(path, "rb") as f:
        assert moto_bucket.get("applications/shop/versions/v1/bundle") == f.read()
    assert moto_bucket.payload("applications/shop/versions/v1/version.json")["label"] == "v1"
