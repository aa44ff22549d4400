"""The store's silence, refusals and lies: what runs goes on running, also over a restart, and status says what is wrong since when."""

import json
import os
import re
import signal

import pytest

from world import wait_for

from host import Load

HEAD, DESIRED = "environments/test/rollout.json", "environments/test/desired.json"
RFC3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


@pytest.fixture
def scene(scene):
    return scene.served()


def since(host):
    s = host.status()
    assert not s["store_ok"] and RFC3339.match(s["store_since"]), s
    return s["store_since"]


def told_for_people(host, *words):
    """What `tendril status` and `tendril explain` print, not only what programs get."""
    text = host.tendril("status").stdout
    assert "does not answer since" in text and all(w in text for w in words), text
    assert "goes on running" in host.explain()


def back(s):
    """The store answers as it should: all goes on by itself."""
    s.host.wait_answers()
    s.host.assign("v2")
    s.host.wait_served("v2", 60)


def test_outage(scene):
    s = scene
    with Load(s.host, clients=2) as load:
        s.proxy.down()
        s.host.wait_silent("127.0.0.1", str(s.proxy.port))
        first = since(s.host)
        told_for_people(s.host, first)
        n = s.host.log().count("the store:")
        wait_for("it is tried again", lambda: s.host.log() and s.host.status()["store_since"] == first)
        assert s.host.log().count("the store:") - n <= 3, "the same failure is not logged at each poll"
        s.proxy.up()
        back(s)
    assert load.failures == []
    assert "the store answers again" in s.host.log()


def test_agent_restart_with_the_store_down(scene):
    s = scene
    s.proxy.down()
    with Load(s.host, clients=2) as load:
        s.host.kill()
        s.host.start()
        s.host.wait_silent()
        since(s.host)
        assert s.host.status()["current"]["label"] == "v1" and s.host.version() == "v1"
        s.host.tendril("health")
    assert load.failures == []
    s.proxy.up()
    back(s)


def test_boot_with_the_store_down(scene):
    """Nothing runs any more, as after a reboot: the current version is started before the store is asked."""
    s = scene
    s.host.stop()
    for pid in s.host.pids():
        os.kill(pid, signal.SIGKILL)
    wait_for("nothing is served", lambda: s.host.version() is None)
    s.proxy.down()
    s.host.start()
    wait_for("v1 is served without the store", lambda: s.host.version() == "v1", 30)
    s.host.wait_silent()
    s.proxy.up()
    back(s)


@pytest.mark.parametrize("status, code", [(403, "AccessDenied"), (403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch"), (404, "NoSuchBucket"),
                                          (500, "InternalError"), (503, "ServiceUnavailable")])
def test_refusals(scene, status, code):
    """The code of the store is told; for 403 the permission that is likely missing too."""
    s = scene
    s.proxy.fault(times=None, status=status, code=code)
    text = s.host.wait_silent(code, seconds=60)
    if code == "AccessDenied":
        assert "s3:" in text, "which permission? %s" % text
    told_for_people(s.host, since(s.host), code)
    assert s.host.version() == "v1"
    s.proxy.clear()
    back(s)


@pytest.mark.parametrize("names", [(HEAD,), (DESIRED,), (HEAD, DESIRED)], ids=["head", "desired", "both"])
def test_documents_deleted(scene, names):
    s = scene
    with s.bucket.lost(*names):
        if HEAD in names:
            s.host.wait_silent("head")
            told_for_people(s.host, since(s.host))
        s.host.kill()
        s.host.start()
        assert s.host.version() == "v1" and s.host.status()["current"]["label"] == "v1"
    back(s)


def test_the_whole_bucket_deleted(scene):
    s = scene
    names = s.bucket.names()
    with s.bucket.lost(*names):
        s.host.wait_silent()
        assert s.host.version() == "v1"
        s.host.tendril("health")
    back(s)


@pytest.mark.parametrize("name", [HEAD, DESIRED], ids=["head", "desired"])
@pytest.mark.parametrize("bad", [b"", b"{", b"\0" * 300, b"[]", b'{"format": 99}', b"x" * 300_000, b"[" * 5000, "half"],
                         ids=["empty", "brace", "nuls", "array", "newer", "large", "deep", "half"])
def test_documents_malformed(scene, name, bad):
    s = scene
    good = s.bucket.get(name)
    s.bucket.put(name, good[: len(good) // 2] if bad == "half" else bad)
    if name == DESIRED:
        head = json.loads(s.bucket.get(HEAD))
        s.bucket.put(HEAD, json.dumps({**head, "revision": head["revision"] + 1, "nonce": "f" * 32}).encode())
    told = wait_for("it is told", lambda: (lambda x: (not x["store_ok"] and x["store_error"]) or "")(s.host.status()) or
                    ("refused" in s.host.explain() and s.host.explain()), 10)
    assert name.split("/")[-1] in told or "assignment" in told or "desired" in told, told
    assert s.host.version() == "v1"
    s.host.kill()
    s.host.start()
    assert s.host.version() == "v1" and s.host.status()["current"]["label"] == "v1"
    s.bucket.put(name, good)
    if name == DESIRED:
        s.bucket.put(HEAD, json.dumps({**head, "nonce": "e" * 32}).encode())
    back(s)


def test_nothing_there_yet(make_host, server):
    """A host that boots before anybody assigned anything: it says so, and takes the first assignment."""
    host = make_host(server.bucket()).start()
    assert "assign" in host.explain().lower()
    assert host.status()["current"]["label"] is None
    host.web("v1")
    host.deploy("v1")


def test_no_network_at_the_first_start(make_host, make_proxy, moto_bucket):
    proxy = make_proxy(moto_bucket.server)
    host = make_host(moto_bucket, endpoint=proxy.endpoint)
    host.web("v1")
    host.assign("v1")
    proxy.down()
    host.start()
    host.wait_silent()
    proxy.up()
    host.wait_served("v1", 60)


def test_rollback_needs_no_store(scene):
    s = scene
    s.host.deploy("v2")
    s.proxy.down()
    s.host.tendril("rollback", "--wait", timeout=60)
    assert s.host.version() == "v1"
    s.proxy.up()
