"""The world of the S3 tests: two servers (moto, Ceph RGW), buckets, hosts whose store is in one, a laptop that publishes.

tests/aws/run starts the servers once and names them in TENDRIL_TEST_MOTO and TENDRIL_TEST_RGW (endpoints); where these are not
set, the fixtures of conftest.py start what a test asks for. Each test has buckets of its own.
"""

import base64
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys

import boto3
import botocore.config
import botocore.exceptions

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "tests", "system"))

from host import BUILD, Host, bundle, free_ports, server_text, wait_for  # noqa: E402, F401

REGION = "eu-west-1"

# Nothing of the machine that the tests run on reaches the programs.
NO_AWS = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": REGION}


def machine_environment():
    return {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TENDRIL_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"))
            or k == "TENDRIL_BUILD"}


def keys_environment(key_id, secret, token=None):
    return {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret, **({"AWS_SESSION_TOKEN": token} if token else {})}


@dataclasses.dataclass
class Server:
    """One of the two. checks: it looks at signatures, clocks and digests of bodies."""

    name: str
    endpoint: str
    key_id: str = "AKIDEXAMPLE"
    secret: str = "SECRETEXAMPLE"

    @property
    def checks(self):
        return self.name == "rgw"

    @property
    def environment(self):
        return {**NO_AWS, **keys_environment(self.key_id, self.secret)}

    def client(self, service="s3", key_id=None, secret=None, endpoint=None):
        return boto3.client(service, endpoint_url=endpoint or self.endpoint, region_name=REGION, aws_access_key_id=key_id or self.key_id,
                            aws_secret_access_key=secret or self.secret,
                            config=botocore.config.Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1},
                                                          request_checksum_calculation="when_required", response_checksum_validation="when_required"))

    @functools.cached_property
    def s3(self):
        return self.client()

    def bucket(self):
        """An empty one with a name of its own."""
        return Bucket(self, "t-" + secrets.token_hex(6))


class Bucket:
    """A bucket, and the documents of a store below `prefix` in it, as the tests read and write them behind the agent's back."""

    def __init__(self, server, name, prefix="shop"):
        self.server, self.name, self.prefix = server, name, prefix
        server.s3.create_bucket(Bucket=name, **({} if server.checks else {"CreateBucketConfiguration": {"LocationConstraint": REGION}}))

    @property
    def url(self):
        return "s3://%s/%s" % (self.name, self.prefix)

    def key(self, name):
        return "%s/%s" % (self.prefix, name) if self.prefix else name

    def get(self, name):
        """The bytes, or None where there is no such key."""
        try:
            return self.server.s3.get_object(Bucket=self.name, Key=self.key(name))["Body"].read()
        except self.server.s3.exceptions.NoSuchKey:
            return None

    def put(self, name, body):
        self.server.s3.put_object(Bucket=self.name, Key=self.key(name), Body=body)

    def delete(self, name):
        self.server.s3.delete_object(Bucket=self.name, Key=self.key(name))

    def json(self, name):
        body = self.get(name)
        return None if body is None else json.loads(body)

    def payload(self, name):
        """Of a signed document."""
        return json.loads(base64.b64decode(self.json(name)["payload"]))

    def names(self, below=""):
        pages = self.server.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self.key(below))
        return [o["Key"][len(self.key("")):] for page in pages for o in page.get("Contents", [])]

    def uploads(self):
        """Multipart uploads that were begun and neither completed nor aborted."""
        return self.server.s3.list_multipart_uploads(Bucket=self.name).get("Uploads", [])

    @contextlib.contextmanager
    def lost(self, *names):
        """These documents are not there meanwhile."""
        kept = {n: self.get(n) for n in names}
        for n in names:
            self.delete(n)
        try:
            yield
        finally:
            for n, body in kept.items():
                self.put(n, body)


def openssl_keys(folder):
    """Key pairs for publishing and assigning, made by openssl: the lines that trust them, and the options that sign with them."""
    os.makedirs(folder, exist_ok=True)
    lines = ["trusted_keys:"]
    for purpose in ("publish", "assign"):
        private, public = (os.path.join(folder, purpose + end) for end in (".pem", ".pub"))
        subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519", "-out", private], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
        lines.append("  - {id: %s-1, purpose: %s, file: %s}" % (purpose, purpose, public))
    return lines


# Verbs that need no agent: said from a laptop, which reaches the server by a straight way.
ON_THE_STORE = ("init", "publish", "assign", "versions", "sign", "rollout", "pause", "resume", "abort")


class S3Host(Host):
    """A host whose store is a bucket.

    endpoint: what the agent is told, by default the server itself; a test's proxy else.
    environment_of_agent: more of the agent's environment (credentials by default; {} takes nothing away, None values do).
    """

    def __init__(self, bucket, endpoint=None, agent_environment=None, signed=False, region=REGION, store_extra="", init=True, **settings):
        self.bucket, self.server = bucket, bucket.server
        self.agent_environment = agent_environment or {}
        self.signed = signed
        extra = ', region: %s, endpoint: "%s"%s%s' % (region, endpoint or bucket.server.endpoint, "" if signed else ", unsigned: true", store_extra)
        settings.setdefault("poll", 0.2)
        super().__init__(store=bucket.url, store_extra=extra, **settings)
        if signed:
            self.keys = os.path.join(self.dir, "keys")
            self.configure(more=self.settings.get("more", []) + openssl_keys(self.keys))
        if init and bucket.get("store.json") is None:
            self.tendril("init", "--store", self.store)

    def configure(self, **settings):
        """leave_out: names of lines that tendril.yaml does not have."""
        super().configure(**settings)
        leave_out = tuple(n + ":" for n in self.settings.get("leave_out", ()))
        with open(self.path("etc/tendril/tendril.yaml")) as f:
            kept = [line for line in f if not (leave_out and line.startswith(leave_out))]
        with open(self.path("etc/tendril/tendril.yaml"), "w") as f:
            f.writelines(kept)
        self.configure_laptop()

    def configure_laptop(self):
        """Says whose signatures count; where the store answers its environment says."""
        folder = os.path.join(self.dir, "laptop", "etc", "tendril")
        os.makedirs(folder, exist_ok=True)
        more = self.settings.get("more", [])
        keys = [line for line in more if line.startswith(("trusted_keys", "  - {id:"))]
        with open(os.path.join(folder, "tendril.yaml"), "w") as f:
            f.write("\n".join(["store: {url: \"%s\", unsigned: %s}" % (self.store, "false" if keys else "true"), *keys]) + "\n")

    def with_defaults(self, more):
        e = {**self.server.environment, **more}
        return {k: v for k, v in e.items() if v is not None}

    def start(self, env=None, **kw):
        return super().start(env=self.with_defaults({**self.agent_environment, **(env or {})}), **kw)

    def environment_of(self, laptop, more=None):
        """Of the command: beside the agent, or on a laptop."""
        e = {**machine_environment(), "NO_COLOR": "1", "HOME": self.dir, "TENDRIL_ROOT": os.path.join(self.dir, "laptop") if laptop else self.root}
        return {**e, **self.with_defaults({"AWS_ENDPOINT_URL_S3": self.server.endpoint, **(more or {})})}

    def tendril(self, *args, check=True, timeout=60, env=None):
        full = [os.path.join(BUILD, "tendril"), *args]
        e = self.environment_of(args[0] in ON_THE_STORE, env)
        r = subprocess.run(full, capture_output=True, text=True, timeout=timeout, env=e)
        if check and r.returncode != 0:
            raise AssertionError("tendril %s: exit %d\n%s%s\n--- agent\n%s" % (" ".join(args), r.returncode, r.stdout, r.stderr, self.log()[-3000:]))
        return r

    def signing(self, purpose):
        return ("--key", os.path.join(self.keys, purpose + ".pem"), "--key-id", purpose + "-1") if self.signed else ()

    def publish(self, label, files, app="shop", args=()):
        return super().publish(label, files, app, (*args, *self.signing("publish")))

    def assign(self, label, app="shop", args=()):
        super().assign(label, app, (*args, *self.signing("assign")))

    # ---- what people are told ----

    def silence(self):
        """The sentence of status about the store, "" while it answers."""
        s = self.status()
        return "" if s["store_ok"] else s["store_error"] or ""

    def wait_silent(self, *words, seconds=30):
        """Until status says that the store does not answer, with these words. Returns the sentence."""
        def told():
            text = self.silence()
            return text if text and all(w.lower() in text.lower() for w in words) else None
        try:
            return wait_for("the store's silence is told", told, seconds)
        except AssertionError:
            raise AssertionError("status does not say %s: %r\n%s" % (words, self.silence(), self.explain())) from None

    def wait_answers(self, seconds=40):
        wait_for("the store answers again", lambda: self.status()["store_ok"], seconds)

    def wait_told(self, *words, seconds=30):
        """Until `tendril explain` says these words."""
        def told():
            text = self.explain()
            return text if all(w.lower() in text.lower() for w in words) else None
        try:
            return wait_for("explain says it", told, seconds)
        except AssertionError:
            raise AssertionError("explain does not say %s:\n%s" % (words, self.explain())) from None


def noise_bundle(path, size, seed=1):
    """A small web application with so many bytes of noise beside it. The same seed makes the same bytes."""
    block = hashlib.sha256(str(seed).encode()).digest()
    noise = hashlib.shake_256(block).digest(size)
    return bundle(path, {"Procfile": "web: exec python3 server.py\n", "server.py": server_text("big%d" % seed), "noise": noise})


def script(name, *args):
    """tests/aws/moto and tests/aws/rgw."""
    r = subprocess.run([os.path.join(HERE, name), *map(str, args)], capture_output=True, text=True, timeout=120)
    if r.returncode != 0:
        raise AssertionError("tests/aws/%s %s: exit %d\n%s" % (name, " ".join(map(str, args)), r.returncode, r.stderr))
    return r.stdout.strip()


def two_ports():
    """A free port whose successor is free too."""
    while True:
        port = free_ports(1)[0]
        with contextlib.suppress(OSError):
            with socket.socket() as s:
                s.bind(("127.0.0.1", port + 1))
            return port


class Started:
    """Servers that were started here, and are ended with close()."""

    def __init__(self, folder):
        self.folder, self.names = folder, []

    def up(self, name, env=None, as_name=None):
        folder = os.path.join(self.folder, as_name or name)
        self.names.append((name, folder))
        kept = dict(os.environ)
        os.environ.update(env or {})
        try:
            return Server(name, script(name, "up", folder, two_ports()))
        finally:
            os.environ.clear()
            os.environ.update(kept)

    def close(self):
        for name, folder in self.names:
            script(name, "down", folder)
            shutil.rmtree(folder, ignore_errors=True)


def has_rgw():
    return shutil.which("radosgw") and shutil.which("ceph-mon") and os.geteuid() == 0
