"""Signed documents: with keys configured, what is unsigned, altered, replayed or displaced is refused with words, and what runs goes on."""

import base64
import json
import os
import shutil
import subprocess

from host import wait_for

PUBLISH, ASSIGN = "publish", "assign"


def keys(host):
    """A key pair each for publishing and assigning, made by openssl, and the lines that trust them."""
    folder = os.path.join(host.dir, "keys")
    os.makedirs(folder, exist_ok=True)
    lines = ["trusted_keys:"]
    for purpose in (PUBLISH, ASSIGN):
        private, public = (os.path.join(folder, purpose + end) for end in (".pem", ".pub"))
        subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519", "-out", private], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
        lines.append("  - {id: %s-1, purpose: %s, file: %s}" % (purpose, purpose, public))
    return folder, lines


def signed(folder, purpose):
    return ("--key", os.path.join(folder, purpose + ".pem"), "--key-id", purpose + "-1")


def store_path(host, *parts):
    return os.path.join(host.store[len("file://"):], *parts)


def envelope_of(path):
    with open(path) as f:
        return json.load(f)


def put(path, envelope):
    with open(path + ".new", "w") as f:
        json.dump(envelope, f)
    os.rename(path + ".new", path)


def trusting(make_host):
    h = make_host()
    folder, lines = keys(h)
    h.configure(more=lines)
    h.start()
    return h, folder


def refused(host, *words):
    def told():
        text = host.explain()
        return "refused" in text and all(w in text for w in words) and text
    return wait_for("it is refused with the words %s" % (words,), told)


def test_signed_all_the_way(make_host):
    h, folder = trusting(make_host)
    from host import bundle, server_text
    path = bundle(os.path.join(h.dir, "v1.zip"), {"Procfile": "web: exec python3 server.py\n", "server.py": server_text("v1")})
    h.tendril("publish", path, "--app", "shop", "--version", "v1", *signed(folder, PUBLISH))
    h.tendril("assign", "--env", "test", "--app", "shop", "--version", "v1", *signed(folder, ASSIGN))
    h.wait_served("v1")


def deployed(make_host):
    from host import bundle, server_text
    h, folder = trusting(make_host)
    for v in ("v1", "v2"):
        path = bundle(os.path.join(h.dir, v + ".zip"), {"Procfile": "web: exec python3 server.py\n", "server.py": server_text(v)})
        h.tendril("publish", path, "--app", "shop", "--version", v, *signed(folder, PUBLISH))
    h.tendril("assign", "--env", "test", "--app", "shop", "--version", "v1", *signed(folder, ASSIGN))
    h.wait_served("v1")
    return h, folder


def touch_head(host):
    """Whoever displaces a desired document makes hosts look at it."""
    path = store_path(host, "environments/test/rollout.json")
    head = envelope_of(path)
    head["revision"] += 1
    head["nonce"] = "f" * 32
    put(path, head)


def test_unsigned_assignment(make_host):
    h, folder = deployed(make_host)
    h.tendril("assign", "--env", "test", "--app", "shop", "--version", "v2", check=False)
    path = store_path(h, "environments/test/desired.json")
    envelope = envelope_of(path)
    envelope["signatures"] = []
    put(path, envelope)
    touch_head(h)
    refused(h, "sign")
    assert h.version() == "v1"


def test_altered_assignment(make_host):
    h, folder = deployed(make_host)
    h.tendril("assign", "--env", "test", "--app", "shop", "--version", "v2", *signed(folder, ASSIGN), "--dry-run")
    path = store_path(h, "environments/test/desired.json")
    envelope = envelope_of(path)
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["revision"] += 1
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    put(path, envelope)
    touch_head(h)
    refused(h, "sign")
    assert h.version() == "v1"


def test_wrong_purpose(make_host):
    h, folder = deployed(make_host)
    h.tendril("assign", "--env", "test", "--app", "shop", "--version", "v2",
              "--key", os.path.join(folder, PUBLISH + ".pem"), "--key-id", PUBLISH + "-1")
    refused(h, "purpose")
    assert h.version() == "v1"


def test_replayed_assignment(make_host):
    h, folder = deployed(make_host)
    path = store_path(h, "environments/test/desired.json")
    shutil.copy(path, path + ".old")
    h.tendril("assign", "--env", "test", "--app", "shop", "--version", "v2", *signed(folder, ASSIGN))
    h.wait_served("v2")
    os.rename(path + ".old", path)
    touch_head(h)
    refused(h, "revision 1", "2")
    assert h.version() == "v2"


def test_assignment_of_another_environment(make_host):
    h, folder = deployed(make_host)
    h.tendril("assign", "--env", "other", "--app", "shop", "--version", "v2", *signed(folder, ASSIGN))
    shutil.copy(store_path(h, "environments/other/desired.json"), store_path(h, "environments/test/desired.json"))
    touch_head(h)
    refused(h, "environment other")
    assert h.version() == "v1"


def test_assignment_of_another_store(make_host):
    h, folder = deployed(make_host)
    h.stop()
    with open(store_path(h, "store.json")) as f:
        mine = json.load(f)["id"]
    h.configure(store_extra=", id: \"%s\"" % ("0" * 16 if mine != "0" * 16 else "1" * 16))
    h.start()
    touch_head(h)
    refused(h, "store " + mine)
    assert h.version() == "v1"


def test_version_replaced_after_the_assignment(make_host):
    """The version document and bundle are exchanged for others, well signed: the assignment names another digest."""
    from host import bundle, server_text
    h, folder = deployed(make_host)
    h.kill()
    h.tendril("assign", "--env", "test", "--app", "shop", "--version", "v2", *signed(folder, ASSIGN))
    shutil.rmtree(store_path(h, "applications/shop/versions/v2"))
    path = bundle(os.path.join(h.dir, "evil.zip"), {"Procfile": "web: exec python3 server.py\n", "server.py": server_text("evil")})
    h.tendril("publish", path, "--app", "shop", "--version", "v2", *signed(folder, PUBLISH))
    h.start()
    refused(h, "replaced after the assignment")
    assert h.version() == "v1"


def test_bundle_exchanged(make_host):
    h, folder = deployed(make_host)
    h.tendril("assign", "--env", "test", "--app", "shop", "--version", "v1", *signed(folder, ASSIGN), check=False)
    h.kill()
    h.tendril("assign", "--env", "test", "--app", "shop", "--version", "v2", *signed(folder, ASSIGN))
    path = store_path(h, "applications/shop/versions/v2/bundle")
    size = os.path.getsize(path)
    with open(path + ".new", "wb") as f:
        f.write(b"X" * size)
    os.rename(path + ".new", path)
    h.start()
    record = wait_for("the deploy has failed", lambda: (lambda r: r if r["label"] == "v2" and r["outcome"] != "running" else None)(h.history()[0]))
    assert record["stage"] == "verify" and record["outcome"] == "failed"
    assert "SHA-256" in record["error"]
    assert h.version() == "v1"


def test_rotation(make_host):
    """Add a key, sign again, remove the old one: hosts follow without a gap."""
    h, folder = deployed(make_host)
    new = os.path.join(folder, "assign-2.pem")
    public = os.path.join(folder, "assign-2.pub")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519", "-out", new], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", new, "-pubout", "-out", public], check=True, capture_output=True)
    more = h.settings["more"]
    h.configure(more=more + ["  - {id: assign-2, purpose: assign, file: %s}" % public])
    h.tendril("reload")
    h.tendril("sign", "--store-desired", "test", "--key", new, "--key-id", "assign-2")
    h.configure(more=[l for l in more if "id: assign-1" not in l] + ["  - {id: assign-2, purpose: assign, file: %s}" % public])
    h.tendril("reload")
    h.tendril("assign", "--env", "test", "--app", "shop", "--version", "v2", "--key", new, "--key-id", "assign-2")
    h.wait_served("v2")


def test_key_that_has_ended(make_host):
    h, folder = deployed(make_host)
    more = [l.replace("purpose: assign,", "purpose: assign, ends: \"2020-01-01T00:00:00Z\",") for l in h.settings["more"]]
    h.configure(more=more)
    h.tendril("reload")
    h.tendril("assign", "--env", "test", "--app", "shop", "--version", "v2", *signed(folder, ASSIGN))
    refused(h, "ended")
    assert h.version() == "v1"
