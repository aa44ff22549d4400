"""The store commands of `tendril` (init, publish, assign, versions, sign) against a store in a folder.

The programs are those of TENDRIL_BUILD, by default build/release of this tree.
"""

import base64
import json
import os
import pathlib
import signal
import subprocess
import zipfile

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("TENDRIL_BUILD", REPOSITORY / "build" / "release")).resolve()
TENDRIL = BUILD / "tendril"

OK, FAILED, USAGE, REFUSED, CONFLICT, UNREACHABLE = 0, 1, 2, 3, 4, 5

pytestmark = pytest.mark.skipif(not TENDRIL.exists(), reason=f"{TENDRIL} is not built")


class Shop:
    """A store in a folder of its own, and the command to use it."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "store"
        self.url = f"file://{self.root}"

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith("TENDRIL_")}
        return env | {"TENDRIL_STORE": self.url, "TENDRIL_ROOT": str(self.folder / "root"), "LC_ALL": "C.UTF-8",
                      "TMPDIR": str(self.folder)}

    def start(self, *words):
        return subprocess.Popen([TENDRIL, *map(str, words)], env=self.environment(), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder)

    def run(self, *words, code=OK):
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"{words}: exit {process.returncode}\n{out}\n{err}"
        if code == OK:
            return out
        assert err.startswith(f"tendril {words[0]}: ") and err.count("\n") == 1, err
        return err

    def json(self, *words):
        return json.loads(self.run(*words, "--json"))

    def bundle(self, name="app.zip", content="hello"):
        path = self.folder / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("Procfile", (2026, 1, 1, 0, 0, 0)), "web: ./run\n")
            archive.writestr(zipfile.ZipInfo("run", (2026, 1, 1, 0, 0, 0)), content)
        return path

    def publish(self, label, *words, content=None, code=OK):
        path = self.bundle(f"{label}.zip", content or f"version {label}")
        return self.run("publish", path, "--app", "shop", "--version", label, *words, code=code)

    def path(self, key):
        return self.root / key

    def payload(self, key):
        return json.loads(base64.b64decode(json.loads(self.path(key).read_text())["payload"]))

    def desired(self, environment="prod"):
        return self.payload(f"environments/{environment}/desired.json")

    def head(self, environment="prod"):
        return json.loads(self.path(f"environments/{environment}/rollout.json").read_text())


@pytest.fixture
def empty(tmp_path):
    return Shop(tmp_path)


@pytest.fixture
def shop(empty):
    empty.run("init", "--store", empty.url)
    return empty


class Keys:
    """Key pairs made by init: id and files of each purpose."""

    def __init__(self, made):
        for key in made["keys"]:
            setattr(self, key["purpose"], key)

    def sign(self, purpose):
        key = getattr(self, purpose)
        return ["--key", key["private_file"], "--key-id", key["id"]]

    def trust(self, purpose):
        key = getattr(self, purpose)
        return ["--trusted-key", f"{key['id']}={key['public_file']}"]


@pytest.fixture
def signed(empty):
    made = empty.json("init", "--store", empty.url, "--keys", empty.folder / "keys")
    return empty, Keys(made)


def openssl_pair(folder, name):
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519", "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return private, public


# ---- init


def test_init_makes_a_store_once(empty):
    out = empty.run("init", "--store", empty.url)
    document = json.loads(empty.path("store.json").read_text())
    assert document["format"] == 1 and len(document["id"]) == 16
    assert document["id"] in out and empty.url in out
    assert empty.root.stat().st_mode & 0o777 == 0o700
    before = empty.path("store.json").read_bytes()
    again = empty.run("init", "--store", empty.url)
    assert "exists already" in again and document["id"] in again
    assert empty.path("store.json").read_bytes() == before
    assert not list(empty.root.glob("selftest*"))


def test_init_makes_keys(empty):
    keys = empty.folder / "deep" / "keys"
    out = empty.run("init", "--store", empty.url, "--keys", keys)
    names = sorted(p.name.split("-")[0] + p.suffix for p in keys.iterdir())
    assert names == ["assign.key", "assign.pub", "publish.key", "publish.pub"]
    for path in keys.glob("*.key"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----")
        assert path.read_text() not in out
    assert out.count("-----BEGIN PUBLIC KEY-----") == 2 and "trusted_keys:" in out
    empty.run("init", "--store", empty.url, "--keys", keys)
    assert len(list(keys.iterdir())) == 4


def test_init_many_at_once_agree(empty):
    processes = [empty.start("init", "--store", empty.url, "--json") for _ in range(8)]
    results = [(p.communicate(timeout=60)[0], p.returncode) for p in processes]
    made = [json.loads(out) for out, code in results if code == OK]
    assert len([m for m in made if m["created"]]) == 1
    assert {m["id"] for m in made} == {json.loads(empty.path("store.json").read_text())["id"]}


# ---- publish


def test_publish_and_again(shop):
    bundle = shop.bundle()
    out = shop.json("publish", bundle, "--app", "shop", "--version", "1.0")
    assert out["already_published"] is False and out["size"] == bundle.stat().st_size
    version = shop.payload("applications/shop/versions/1.0/version.json")
    assert version["label"] == "1.0" and version["application"] == "shop"
    assert version["bundle"] == {"key": "applications/shop/versions/1.0/bundle", "size": out["size"],
                                 "sha256": out["sha256"]}
    assert shop.path(version["bundle"]["key"]).read_bytes() == bundle.read_bytes()
    assert json.loads(shop.path("applications/shop/versions/1.0/version.json").read_text())["signatures"] == []
    assert "already published" in shop.run("publish", bundle, "--app", "shop", "--version", "1.0")


def test_publish_never_changes_a_version(shop):
    shop.publish("1.0", content="one")
    before = shop.path("applications/shop/versions/1.0/bundle").read_bytes()
    err = shop.publish("1.0", content="two", code=REFUSED)
    assert "other content" in err
    shop.publish("1.0", "--replace", content="two", code=REFUSED)
    assert shop.path("applications/shop/versions/1.0/bundle").read_bytes() == before


def test_publish_completes_an_upload_that_died(shop):
    shop.publish("1.0", content="one")
    shop.path("applications/shop/versions/1.0/version.json").unlink()
    shop.publish("1.0", content="one")
    assert shop.path("applications/shop/versions/1.0/version.json").exists()


def test_publish_over_the_upload_of_another_file(shop):
    shop.publish("1.0", content="one")
    shop.path("applications/shop/versions/1.0/version.json").unlink()
    assert "--replace" in shop.publish("1.0", content="two", code=REFUSED)
    shop.publish("1.0", "--replace", content="two")
    with zipfile.ZipFile(shop.path("applications/shop/versions/1.0/bundle")) as archive:
        assert archive.read("run") == b"two"


def test_publish_killed_at_any_moment(shop):
    bundle = shop.folder / "large.zip"
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("data", os.urandom(1 << 20) * 24)
    for turn in range(8):
        process = shop.start("publish", bundle, "--app", "shop", "--version", "1.0")
        try:
            process.wait(timeout=0.01 * turn)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
    shop.run("publish", bundle, "--app", "shop", "--version", "1.0")
    assert shop.path("applications/shop/versions/1.0/bundle").read_bytes() == bundle.read_bytes()
    assert list(shop.path(".tmp-writes").iterdir()) == []


def test_publish_many_at_once_one_wins(shop):
    bundles = [shop.bundle(f"{i}.zip", f"content {i}") for i in range(6)]
    processes = [shop.start("publish", b, "--app", "shop", "--version", "1.0") for b in bundles]
    codes = []
    for process in processes:
        process.communicate(timeout=60)
        codes.append(process.returncode)
    assert codes.count(OK) == 1 and set(codes) <= {OK, REFUSED, CONFLICT}
    winner = bundles[codes.index(OK)]
    assert shop.path("applications/shop/versions/1.0/bundle").read_bytes() == winner.read_bytes()


def test_publish_the_same_at_once_all_succeed(shop):
    bundle = shop.bundle()
    processes = [shop.start("publish", bundle, "--app", "shop", "--version", "1.0") for _ in range(6)]
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == OK, err


def test_publish_refusals(shop):
    (shop.folder / "empty.zip").touch()
    words = ["--app", "shop", "--version", "1.0"]
    assert "empty" in shop.run("publish", "empty.zip", *words, code=FAILED)
    assert "not a file" in shop.run("publish", shop.folder, *words, code=USAGE)
    assert "No such file" in shop.run("publish", "absent.zip", *words, code=FAILED)
    bundle = shop.bundle()
    assert "label" in shop.run("publish", bundle, "--app", "../shop", "--version", "1.0", code=USAGE)
    assert "label" in shop.run("publish", bundle, "--app", "shop", "--version", "a/b", code=USAGE)
    assert not shop.path("applications").exists()


def test_publish_without_a_store(empty):
    bundle = empty.bundle()
    words = ["publish", bundle, "--app", "shop", "--version", "1.0"]
    assert "tendril init" in empty.run(*words, code=UNREACHABLE)
    empty.root.mkdir()
    assert "tendril init" in empty.run(*words, code=UNREACHABLE)


def test_publish_check_refuses_what_a_host_would(shop):
    bad = shop.folder / "bad.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("../outside", "x")
    words = ["--app", "shop", "--version", "1.0"]
    assert "outside" in shop.run("publish", bad, *words, "--check", code=FAILED)
    assert not shop.path("applications").exists()
    shop.run("publish", shop.bundle(), *words, "--check")
    assert not list(shop.folder.glob("tendril-check*"))


# ---- assign


def test_assign_first_and_next(shop):
    shop.publish("1.0")
    shop.publish("1.1")
    out = shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0", "--set", "my:ns:A=1=2")
    assert "none -> 1.0" in out and "my:ns:A" in out
    first = shop.desired()
    assert first["store"] == json.loads(shop.path("store.json").read_text())["id"]
    assert (first["environment"], first["application"], first["revision"]) == ("prod", "shop", 1)
    assert first["target"]["label"] == "1.0" and not (first["base"] or {}).get("label")
    assert first["settings"] == [{"namespace": "my:ns", "option": "A", "value": "1=2"}]
    head = shop.head()
    assert (head["revision"], head["status"], head["follow"], head["lanes"]) == (1, "run", "target", 1)

    out = shop.run("assign", "--env", "prod", "--version", "1.1", "--set", "my:ns:B=x")
    assert "1.0 -> 1.1" in out and "1 -> 2" in out
    second = shop.desired()
    assert second["base"] == first["target"] and second["revision"] == 2
    assert [s["option"] for s in second["settings"]] == ["A", "B"]
    assert second["nonce"] != first["nonce"]
    assert shop.head()["revision"] == 2 and shop.head()["generation"] != head["generation"]

    shop.run("assign", "--env", "prod", "--unset", "my:ns:A")
    assert shop.desired()["target"]["label"] == "1.1"
    assert [s["option"] for s in shop.desired()["settings"]] == ["B"]
    shop.run("assign", "--env", "prod", "--reset", "--set", "my:ns:C=3")
    assert [s["option"] for s in shop.desired()["settings"]] == ["C"]


def test_assign_goes_back_to_what_runs(shop):
    for label in "1.0", "1.1", "1.2":
        shop.publish(label)
    shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0")
    shop.run("assign", "--env", "prod", "--version", "1.1")
    head = shop.head() | {"follow": "base", "status": "aborted"}
    shop.path("environments/prod/rollout.json").write_text(json.dumps(head))
    shop.run("assign", "--env", "prod", "--version", "1.2")
    assert shop.desired()["base"]["label"] == "1.0"


def test_assign_dry_run_writes_nothing(shop):
    shop.publish("1.0")
    out = shop.json("assign", "--env", "prod", "--app", "shop", "--version", "1.0", "--set", "n:o=v", "--dry-run")
    assert out["written"] is False and out["to"] == "1.0" and out["from"] is None
    assert out["settings"] == [{"namespace": "n", "option": "o", "before": None, "after": "v"}]
    assert not shop.path("environments").exists()


def test_assign_shows_no_secrets(shop):
    shop.publish("1.0")
    out = shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0", "--set", "n:DB_PASSWORD=hunter2")
    assert "hunter2" not in out and "DB_PASSWORD" in out
    assert shop.desired()["settings"][0]["value"] == "hunter2"


def test_assign_refusals(shop):
    shop.publish("1.0")
    assert "no version 9" in shop.run("assign", "--env", "prod", "--app", "shop", "--version", "9", code=FAILED)
    assert "--app is missing" in shop.run("assign", "--env", "prod", "--version", "1.0", code=USAGE)
    assert "form" in shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0", "--set", "x", code=USAGE)
    assert not shop.path("environments").exists()
    shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0")
    assert "of application shop" in shop.run("assign", "--env", "prod", "--app", "other", "--version", "1.0",
                                             code=REFUSED)


def test_assign_refuses_a_displaced_version(shop):
    shop.publish("1.0")
    source, target = (shop.path(f"applications/shop/versions/{v}/version.json") for v in ("1.0", "2.0"))
    target.parent.mkdir()
    target.write_bytes(source.read_bytes())
    assert "wrong place" in shop.run("assign", "--env", "prod", "--app", "shop", "--version", "2.0", code=REFUSED)


def test_assign_many_at_once(shop):
    for label in "1.0", "1.1":
        shop.publish(label)
    shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0")
    for _ in range(3):
        before = shop.desired()["revision"]
        processes = [shop.start("assign", "--env", "prod", "--version", "1.1") for _ in range(6)]
        results = [(p.communicate(timeout=60)[1], p.returncode) for p in processes]
        codes = [code for _, code in results]
        assert set(codes) <= {OK, CONFLICT} and codes.count(OK) >= 1, results
        assert shop.desired()["revision"] == before + codes.count(OK)
        assert shop.head()["revision"] == shop.desired()["revision"]
        assert all("repeat" in err for err, code in results if code == CONFLICT)


def test_assign_moves_the_head_that_a_dead_publisher_left_behind(shop):
    shop.publish("1.0")
    shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0")
    shop.path("environments/prod/rollout.json").unlink()
    shop.run("assign", "--env", "prod")
    assert shop.head()["revision"] == shop.desired()["revision"] == 2


def test_assign_never_reuses_a_revision(shop):
    shop.publish("1.0")
    for _ in range(3):
        shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0")
    shop.path("environments/prod/desired.json").unlink()
    shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0")
    assert shop.desired()["revision"] == 4


def test_assign_killed_at_any_moment(shop):
    shop.publish("1.0")
    shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0")
    for turn in range(12):
        process = shop.start("assign", "--env", "prod", "--set", f"n:turn={turn}")
        try:
            process.wait(timeout=0.004 * turn)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        assert 0 <= shop.desired()["revision"] - shop.head()["revision"] <= turn + 1
    shop.run("assign", "--env", "prod")
    assert shop.head()["revision"] == shop.desired()["revision"]


@pytest.mark.parametrize("key", ["environments/prod/desired.json", "environments/prod/rollout.json",
                                 "applications/shop/versions/1.0/version.json", "store.json"])
def test_torn_documents_are_told(shop, key):
    shop.publish("1.0")
    shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0")
    whole = shop.path(key).read_bytes()
    for torn in b"", whole[: len(whole) // 2], whole.replace(b"{", b"[", 1), b"\0" * 100:
        shop.path(key).write_bytes(torn)
        assert key.rsplit("/", 1)[-1] in shop.run("assign", "--env", "prod", "--version", "1.0", code=FAILED)
        assert shop.path(key).read_bytes() == torn


def test_newer_format_is_told(shop):
    shop.publish("1.0")
    shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0")
    shop.path("environments/prod/rollout.json").write_text(json.dumps(shop.head() | {"format": 2}))
    assert "upgrade" in shop.run("assign", "--env", "prod", code=FAILED)


# ---- versions


def test_versions_tells_who_uses_them(shop):
    assert "No version" in shop.run("versions", "--app", "shop")
    for label in "1.0", "1.1", "1.2":
        shop.publish(label)
    shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0")
    shop.run("assign", "--env", "prod", "--version", "1.1")
    shop.run("assign", "--env", "prod-eu", "--app", "shop", "--version", "1.1")
    rows = {r["version"]: r for r in shop.json("versions", "--app", "shop")["versions"]}
    assert rows["1.0"]["used"] == "prod (base)"
    assert sorted(rows["1.1"]["used"].split(", ")) == ["prod", "prod-eu"]
    assert rows["1.2"]["used"] is None
    table = shop.run("versions", "--app", "shop")
    assert rows["1.2"]["sha256"][:12] in table and rows["1.2"]["sha256"] not in table


def dated(shop, label, created):
    path = shop.path(f"applications/shop/versions/{label}/version.json")
    envelope = json.loads(path.read_text())
    payload = json.loads(base64.b64decode(envelope["payload"])) | {"created": created}
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    path.write_text(json.dumps(envelope))


def test_versions_prune(shop):
    for n in range(1, 7):
        shop.publish(f"{n}.0")
        dated(shop, f"{n}.0", f"2020-01-0{n}T00:00:00Z")
    shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0")
    shop.run("assign", "--env", "prod", "--version", "2.0")
    labels = lambda: sorted(p.name for p in shop.path("applications/shop/versions").iterdir())
    out = shop.run("versions", "--app", "shop", "--prune", "--keep", "2", "--dry-run")
    assert "would remove 3.0" in out and "would remove 4.0" in out and "1.0 " not in out
    assert len(labels()) == 6
    shop.run("versions", "--app", "shop", "--prune", "--keep", "2")
    assert labels() == ["1.0", "2.0", "5.0", "6.0"]
    dated(shop, "6.0", "2999-01-01T00:00:00Z")
    shop.run("versions", "--app", "shop", "--prune", "--older-than", "30d")
    assert labels() == ["1.0", "2.0", "6.0"]
    assert "without" not in shop.run("versions", "--app", "shop")


def test_versions_prune_needs_to_know_all_environments(shop):
    shop.publish("1.0")
    shop.publish("2.0")
    shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0")
    shop.path("environments/prod/desired.json").write_text("{")
    err = shop.run("versions", "--app", "shop", "--prune", "--keep", "0", code=REFUSED)
    assert "prod" in err
    assert len(list(shop.path("applications/shop/versions").iterdir())) == 2


# ---- signatures


def test_signed_from_end_to_end(signed):
    shop, keys = signed
    shop.publish("1.0", *keys.sign("publish"))
    assign = ["assign", "--env", "prod", "--app", "shop", "--version", "1.0"]
    shop.run(*assign, *keys.sign("assign"), *keys.trust("publish"))
    signatures = json.loads(shop.path("environments/prod/desired.json").read_text())["signatures"]
    assert [s["keyid"] for s in signatures] == [keys.assign["id"]]
    shop.run(*assign, *keys.sign("assign"), *keys.trust("publish"), *keys.trust("assign"))


def test_unsigned_and_altered_are_refused(signed):
    shop, keys = signed
    shop.publish("1.0")
    shop.publish("2.0", *keys.sign("publish"))
    assign = ["assign", "--env", "prod", "--app", "shop", *keys.trust("publish")]
    shop.run(*assign, "--version", "1.0", code=REFUSED)
    path = shop.path("applications/shop/versions/2.0/version.json")
    envelope = json.loads(path.read_text())
    payload = base64.b64decode(envelope["payload"]).replace(b'"size":', b'"size":1')
    path.write_text(json.dumps(envelope | {"payload": base64.b64encode(payload).decode()}))
    assert "altered" in shop.run(*assign, "--version", "2.0", code=REFUSED)
    assert not shop.path("environments").exists()


def test_wrong_key_is_refused(signed):
    shop, keys = signed
    _, other = openssl_pair(shop.folder, "other")
    shop.publish("1.0", *keys.sign("publish"))
    words = ["assign", "--env", "prod", "--app", "shop", "--version", "1.0", "--trusted-key"]
    shop.run(*words, f"other={other}", code=REFUSED)
    shop.run(*words, f"{keys.publish['id']}={other}", code=REFUSED)


def test_a_key_file_that_is_none(signed):
    shop, keys = signed
    (shop.folder / "rubbish").write_text("rubbish")
    shop.publish("1.0", "--key", "rubbish", "--key-id", "k", code=FAILED)
    shop.publish("1.0", "--key", "absent", "--key-id", "k", code=FAILED)
    shop.publish("1.0", "--key", "rubbish", code=USAGE)
    assert not shop.path("applications/shop/versions/1.0/version.json").exists()
    shop.publish("1.0", *keys.sign("publish"))


def test_keys_are_changed_without_a_gap(signed):
    shop, keys = signed
    private, public = openssl_pair(shop.folder, "new")
    new = ["--key", private, "--key-id", "new"]
    shop.publish("1.0", *keys.sign("publish"))
    words = ["assign", "--env", "prod", "--app", "shop", "--version", "1.0"]
    shop.run(*words, *keys.sign("assign"))
    version, desired = "applications/shop/versions/1.0/version.json", "environments/prod/desired.json"
    ids = lambda key: [s["keyid"] for s in json.loads(shop.path(key).read_text())["signatures"]]
    before = shop.payload(desired)

    shop.run("sign", "--store-version", "shop/1.0", *new)
    shop.run("sign", "--store-desired", "prod", *new)
    assert ids(version) == [keys.publish["id"], "new"] and ids(desired) == [keys.assign["id"], "new"]
    assert shop.payload(desired) == before
    # Both the hosts that know the old key and those that know the new one act on it.
    shop.run(*words, "--dry-run", *keys.trust("publish"), *keys.trust("assign"))
    shop.run(*words, "--dry-run", "--trusted-key", f"new={public}")

    shop.run("sign", "--store-version", "shop/1.0", *new, "--replace")
    assert ids(version) == ["new"]
    shop.run(*words, "--dry-run", *keys.trust("publish"), *keys.trust("assign"), code=REFUSED)


def test_sign_files(signed):
    shop, keys = signed
    shop.publish("1.0")
    envelope = shop.path("applications/shop/versions/1.0/version.json")
    payload = shop.folder / "payload.json"
    payload.write_bytes(base64.b64decode(json.loads(envelope.read_text())["payload"]))
    made = json.loads(shop.run("sign", payload, "--type", "version", *keys.sign("publish")))
    assert made["payload"] == json.loads(envelope.read_text())["payload"] and len(made["signatures"]) == 1
    out = shop.folder / "out.json"
    shop.run("sign", envelope, "--type", "version", *keys.sign("publish"), "--output", out)
    assert json.loads(out.read_text()) == made
    assert "vnd.tendril.version" in shop.run("sign", envelope, "--type", "desired", *keys.sign("publish"), code=FAILED)
    assert "store" in shop.run("sign", payload, "--type", "desired", *keys.sign("publish"), code=FAILED)
    shop.run("sign", "--store-version", "shop/9", *keys.sign("publish"), code=FAILED)
    shop.run("sign", "--store-desired", "prod", *keys.sign("publish"), code=FAILED)


def configured(shop, text):
    """Runs with a tendril.yaml and without TENDRIL_STORE."""
    folder = shop.folder / "root" / "etc" / "tendril"
    folder.mkdir(parents=True)
    (folder / "tendril.yaml").write_text(text)
    environment = shop.environment()
    del environment["TENDRIL_STORE"]
    shop.environment = lambda: environment


def test_the_configuration_names_store_and_keys(signed):
    shop, keys = signed
    made = shop.json("init", "--store", shop.url)
    shop.publish("1.0")
    shop.publish("2.0", *keys.sign("publish"))
    configured(shop, f"""
store:
  url: {shop.url}
  id: "{made['id']}"
trusted_keys:
  - id: {keys.publish['id']}
    purpose: publish
    file: {keys.publish['public_file']}
  - id: {keys.assign['id']}
    purpose: assign
    file: {keys.assign['public_file']}
""")
    words = ["assign", "--env", "prod", "--app", "shop", *keys.sign("assign"), "--version"]
    shop.run(*words, "1.0", code=REFUSED)
    shop.run(*words, "2.0")
    shop.run(*words, "2.0")
    # A key that may publish may not assign.
    shop.run("sign", "--store-desired", "prod", *keys.sign("publish"), "--replace")
    assert "purpose" in shop.run(*words, "2.0", code=REFUSED)


def test_another_store_than_the_configured_one(shop):
    shop.publish("1.0")
    configured(shop, f"store:\n  url: {shop.url}\n  id: ffffffffffffffff\n")
    assert "store.id" in shop.run("assign", "--env", "prod", "--app", "shop", "--version", "1.0", code=REFUSED)
    assert not shop.path("environments").exists()


def test_no_store_at_all(empty):
    configured(empty, "{}")
    assert "TENDRIL_STORE" in empty.run("versions", "--app", "shop", code=USAGE)


# ---- all


@pytest.mark.parametrize("verb", ["init", "publish", "assign", "versions", "sign"])
def test_help_suffices(empty, verb):
    out = empty.run(verb, "--help")
    assert out.startswith("Usage: tendril " + verb) and "--store" in out
