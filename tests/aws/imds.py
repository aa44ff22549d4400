"""The instance metadata service of the tests, version 2 only: what it answers can be changed while it runs, and it remembers who asked.

    with Imds() as imds:
        imds.give(server, seconds=900)           # credentials of the role, that end in so long
        Host(env=imds.environment)
"""

import contextlib
import dataclasses
import datetime
import http.server
import json
import secrets
import threading
import time

TTL_MAX = 21600


@dataclasses.dataclass
class Asked:
    method: str
    path: str
    status: int
    connection: int


def rfc3339(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.imds = self.server.imds
        self.imds.enter(self)

    def finish(self):
        with contextlib.suppress(OSError):
            super().finish()
        self.imds.leave(self)

    def handle(self):
        with contextlib.suppress(OSError):
            super().handle()

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answered(self.token)

    def do_GET(self):
        self.answered(self.document)

    def answered(self, how):
        imds = self.imds
        time.sleep(imds.delay)
        if imds.off:
            return self.say(403, b"")
        if imds.broken:
            return self.say(imds.broken, b"")
        return how()

    def token(self):
        ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.imds.hop_limit:
            self.imds.hang(self)
            self.close_connection = True
        elif self.path != "/latest/api/token":
            self.say(404, b"")
        elif self.headers.get("X-Forwarded-For"):
            self.say(403, b"")
        elif not ttl.isdigit() or not 1 <= int(ttl) <= TTL_MAX:
            self.say(400, b"")
        else:
            self.say(200, self.imds.new_token(int(ttl)).encode(), ("X-aws-ec2-metadata-token-ttl-seconds", ttl))

    def document(self):
        if self.path == "/container/credentials" and self.imds.container:
            good = self.headers.get("Authorization") == self.imds.container
            return self.say(200 if good else 403, json.dumps(self.imds.credentials).encode() if good else b"{}")
        if not self.imds.token_is_good(self.headers.get("X-aws-ec2-metadata-token")):
            return self.say(401, b"")
        body = self.imds.document(self.path)
        return self.say(404, b"<html>404</html>") if body is None else self.say(200, body)

    def say(self, status, body, *headers):
        self.imds.note(self, status)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        pass


class Imds:
    def __init__(self, instance="i-0123456789abcdef0", region="eu-west-1", role="tendril-role"):
        self.role, self.credentials, self.tags, self.user_data = role, None, None, None
        self.partition, self.domain, self.region = "aws", "amazonaws.com", region
        self.identity = {"accountId": "123456789012", "architecture": "x86_64", "availabilityZone": region + "a", "imageId": "ami-0fedcba9876543210",
                         "instanceId": instance, "instanceType": "t3.small", "pendingTime": "2026-01-01T00:00:00Z",
                         "privateIp": "10.0.0.7", "region": region, "version": "2017-09-30"}
        self.container = None  # what Authorization must be for /container/credentials, as of ECS
        self.off = False  # 403 to all, as where it is switched off
        self.broken = 0  # this status to all
        self.hop_limit = False  # answers to PUT do not come through; GET says 401
        self.delay = 0
        self.tokens, self.asked, self.connections = {}, [], {}
        self.n_connections = self.most_at_once = 0
        self.lock = threading.Lock()
        self.port, self.server = 0, None
        self.up()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.down()

    @property
    def endpoint(self):
        return "http://127.0.0.1:%d" % self.port

    @property
    def environment(self):
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.endpoint}

    # ---- what tests say

    def up(self):
        self.server = Server(("127.0.0.1", self.port), Handler)
        self.server.imds = self
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def down(self):
        """Nobody listens any more, and what is open is closed; up() again at the same port."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        with self.lock:
            open_ones = list(self.connections.values())
        for handler in open_ones:
            with contextlib.suppress(OSError):
                handler.connection.shutdown(2)

    def give(self, key_id, secret, seconds=6 * 3600, token="token-of-the-role", code="Success"):
        """What the role's credentials are from now on; negative seconds: they have ended."""
        self.credentials = {"Code": code, "LastUpdated": rfc3339(time.time()), "Type": "AWS-HMAC", "AccessKeyId": key_id,
                            "SecretAccessKey": secret, "Token": token, "Expiration": rfc3339(time.time() + seconds)}

    def forget_tokens(self):
        with self.lock:
            self.tokens.clear()

    def paths(self, method="GET"):
        with self.lock:
            return [a.path for a in self.asked if a.method == method]

    # ---- what the handlers ask

    def enter(self, handler):
        with self.lock:
            self.n_connections += 1
            handler.n = self.n_connections
            self.connections[handler.n] = handler
            self.most_at_once = max(self.most_at_once, len(self.connections))

    def leave(self, handler):
        with self.lock:
            self.connections.pop(handler.n, None)

    def note(self, handler, status):
        with self.lock:
            self.asked.append(Asked(handler.command, handler.path, status, handler.n))

    def hang(self, handler):
        """Until the other side has had enough."""
        self.note(handler, 0)
        with contextlib.suppress(OSError):
            handler.connection.settimeout(60)
            handler.connection.recv(1)

    def new_token(self, ttl):
        token = secrets.token_urlsafe(40)
        with self.lock:
            self.tokens[token] = time.monotonic() + ttl
        return token

    def token_is_good(self, token):
        with self.lock:
            return self.tokens.get(token, 0) > time.monotonic()

    def document(self, path):
        if not path.startswith("/latest/"):
            return None
        part = path[len("/latest/"):]
        text = self.documents().get(part)
        if text is None and part.startswith("meta-data/tags/instance/") and self.tags is not None:
            text = self.tags.get(part[len("meta-data/tags/instance/"):])
        return text.encode() if isinstance(text, str) else text

    def documents(self):
        role, region = self.role, self.region
        d = {
            "dynamic/instance-identity/document": json.dumps(self.identity, indent=2),
            "meta-data/instance-id": self.identity["instanceId"],
            "meta-data/ami-id": self.identity["imageId"],
            "meta-data/placement/region": region,
            "meta-data/placement/availability-zone": region + "a",
            "meta-data/services/partition": self.partition,
            "meta-data/services/domain": self.domain,
            "user-data": self.user_data,
        }
        if role:
            d["meta-data/iam/security-credentials/"] = role
            d["meta-data/iam/security-credentials/" + role] = json.dumps(self.credentials) if self.credentials else None
        if self.tags is not None:
            d["meta-data/tags/instance"] = d["meta-data/tags/instance/"] = "\n".join(self.tags)
        return d
