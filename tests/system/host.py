"""One host under test: a root folder of its own, the real programs, free ports, and the words to drive them.

Nothing here sleeps to synchronise: wait_for() asks again until it is so or a deadline is over.
"""

import contextlib
import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import zipfile

BUILD = os.environ.get("TENDRIL_BUILD") or os.path.join(os.path.dirname(__file__), "..", "..", "build", "release")
BUILD = os.path.abspath(BUILD)

SERVER = """\
import http.server, os, sys, threading
VERSION = {version!r}
{extra}
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one packet
    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        {get}
        self.answer(200, "version %s port %s pid %d cwd %s" % (VERSION, PORT, os.getpid(), os.getcwd()))
    def do_POST(self):
        n = int(self.headers.get("Content-Length", "0"))
        got = len(self.rfile.read(n))
        self.answer(200, "version %s got %d" % (VERSION, got))
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True
PORT = {port}
Server(("127.0.0.1", PORT), Handler).serve_forever()
"""


def free_ports(n):
    socks = [socket.socket() for _ in range(n)]
    for s in socks:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in socks]
    for s in socks:
        s.close()
    return ports


def wait_for(what, question, seconds=20.0, every=0.02):
    """The first true answer of question(); fails with words when there is none in time."""
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError("not within %s s: %s" % (seconds, what))
        time.sleep(every)


def alive(pid):
    """There is such a process, and it is not a dead one that nobody has asked for yet."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def app_user():
    for name in ("webapp", "nobody"):
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise AssertionError("neither a user webapp nor nobody")


def server_text(version, get="pass", extra="", port='int(os.environ["PORT"])'):
    return SERVER.format(version=version, get=get, extra=extra, port=port)


def bundle(path, files):
    """A zip of {name: text or bytes}; names of hooks are made executable, as `zip` would keep them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            info.external_attr = (0o100755 if "hooks/" in name else 0o100644) << 16
            z.writestr(info, content)
    return path


class Host:
    def __init__(self, store=None, name="h1", environment="test", **settings):
        self.dir = tempfile.mkdtemp(prefix="tendril-test-")
        os.chmod(self.dir, 0o711)
        self.root = os.path.join(self.dir, "root")
        self.log_path = os.path.join(self.dir, "agent.log")
        self.name = name
        self.environment = environment
        self.store = store or "file://" + os.path.join(self.dir, "store")
        self.port, self.fixed, self.slot_a, self.slot_b = free_ports(4)
        self.agent = None
        self.settings = settings
        os.makedirs(os.path.join(self.root, "etc/tendril"))
        if store is None:
            self.tendril("init", "--store", self.store)
        self.configure()

    # ---- configuration ----

    def configure(self, **settings):
        self.settings.update(settings)
        s = self.settings
        lines = [
            "environment: %s" % self.environment,
            "host: %s" % self.name,
            "instance: t%d" % self.port,
            "store: {url: \"%s\"%s}" % (self.store, s.get("store_extra", "")),
            "poll: %s" % s.get("poll", 0.2),
            "application:",
            "  user: %s" % app_user(),
            "  port: %d" % self.fixed,
            "  slot_a_port: %d" % self.slot_a,
            "  slot_b_port: %d" % self.slot_b,
            "  overlap: %s" % s.get("overlap", "web"),
            "  start_timeout: %s" % s.get("start_timeout", 15),
            "  stop_timeout: %s" % s.get("stop_timeout", 3),
            "  drain_timeout: %s" % s.get("drain_timeout", 5),
            "gate: {path: \"%s\", consecutive: %s, interval: %s, timeout: %s, check_timeout: %s}"
            % (s.get("path", "/"), s.get("consecutive", 2), s.get("interval", 0.1), s.get("gate_timeout", 5), s.get("check_timeout", 2)),
            "proxy: {kind: %s, port: %d%s}" % (s.get("proxy", "nginx"), self.port, s.get("proxy_extra", "")),
            "hooks: {timeout: %s, kill: 1, retry: %s}" % (s.get("hook_timeout", 20), s.get("hook_retry", 1)),
        ] + s.get("more", [])
        with open(self.path("etc/tendril/tendril.yaml"), "w") as f:
            f.write("\n".join(lines) + "\n")

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    # ---- the command ----

    def tendril(self, *args, check=True, timeout=60, env=None):
        full = [os.path.join(BUILD, "tendril"), *args]
        e = dict(os.environ, TENDRIL_ROOT=self.root, TENDRIL_STORE=self.store, NO_COLOR="1", **(env or {}))
        r = subprocess.run(full, capture_output=True, text=True, timeout=timeout, env=e)
        if check and r.returncode != 0:
            raise AssertionError("tendril %s: exit %d\n%s%s\n--- agent\n%s" % (" ".join(args), r.returncode, r.stdout, r.stderr, self.log()[-3000:]))
        return r

    def json(self, *args, **kw):
        return json.loads(self.tendril(*args, "--json", **kw).stdout)

    def status(self):
        """What is not there (null) reads as empty."""
        s = self.json("status")
        for name in ("current", "previous", "desired", "deploy"):
            s[name] = s[name] or {"label": None, "revision": None, "id": None, "stage": None}
        return s

    def explain(self):
        return self.tendril("explain").stdout

    def history(self):
        return self.json("history")["deploys"]

    # ---- versions ----

    def publish(self, label, files, app="shop", args=()):
        path = bundle(os.path.join(self.dir, label + ".zip"), files)
        self.tendril("publish", path, "--app", app, "--version", label, *args)
        return path

    def web(self, label, get="pass", extra="", port='int(os.environ["PORT"])', procfile="web: exec python3 server.py\n", files=None):
        """Publishes a small web application."""
        all_files = {"Procfile": procfile, "server.py": server_text(label, get, extra, port)}
        all_files.update(files or {})
        return self.publish(label, all_files)

    def assign(self, label, app="shop", args=()):
        self.tendril("assign", "--env", self.environment, "--app", app, "--version", label, *args)

    def deploy(self, label, seconds=40):
        """Assigns and waits until it is served."""
        self.assign(label)
        self.wait_served(label, seconds)

    def wait_served(self, label, seconds=40):
        wait_for("%s is served\n%s" % (label, "(agent log in the report)"),
                 lambda: (lambda s: s["current"]["label"] == label and not s["deploy"]["id"])(self.status()), seconds)

    def wait_ended(self, n=1, seconds=60):
        """Until the newest record is ended and there are n of them."""
        def ended():
            h = self.history()
            return h if len(h) >= n and h[0]["outcome"] != "running" else None
        return wait_for("deploy has ended", ended, seconds)[0]

    # ---- the agent ----

    def start(self, env=None, wrapper=(), wait=True, programs=None, args=()):
        self.log_file = open(self.log_path, "ab")
        e = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **(env or {})}
        self.agent = subprocess.Popen([*wrapper, os.path.join(programs or BUILD, "tendrild"), "--root", self.root, *args],
                                      stdout=self.log_file, stderr=self.log_file, stdin=subprocess.DEVNULL, env=e)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def up():
            if self.agent.poll() is not None:
                raise AssertionError("the agent ended: %s\n%s" % (self.agent.returncode, self.log()[-3000:]))
            return self.tendril("status", check=False).returncode == 0
        wait_for("the agent answers", up)

    def stop(self, how=signal.SIGTERM):
        if self.agent:
            with contextlib.suppress(ProcessLookupError):
                self.agent.send_signal(how)
            self.agent.wait(timeout=40)
            self.agent = None
            self.log_file.close()

    def kill(self):
        self.stop(signal.SIGKILL)

    def log(self):
        with contextlib.suppress(FileNotFoundError), open(self.log_path, errors="replace") as f:
            return f.read()
        return ""

    @property
    def socket(self):
        return self.path("run/tendril/control.sock")

    # ---- what clients see ----

    def get(self, path="/", port=None, timeout=5):
        c = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout)
        try:
            c.request("GET", path)
            r = c.getresponse()
            return r.status, r.read().decode(errors="replace")
        finally:
            c.close()

    def version(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, text = self.get()
            if status == 200:
                return text.split()[1]
        return None

    # ---- what is on disk and running ----

    def fsck(self):
        r = self.tendril("fsck", check=False)
        return r.returncode, r.stdout + r.stderr

    def state(self):
        with open(self.path("var/lib/tendril/state.json")) as f:
            return json.load(f)["state"]

    def pids(self):
        """Processes whose root of existence is this host: by the cgroup's name, and by the records of the state."""
        found = set()
        for base in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            for folder, _, files in os.walk(os.path.join(base, "tendril-t%d" % self.port)):
                with contextlib.suppress(OSError), open(os.path.join(folder, "cgroup.procs")) as f:
                    found.update(int(p) for p in f.read().split())
        with contextlib.suppress(OSError, ValueError, KeyError):
            for r in self.state()["services"]:
                with contextlib.suppress(OSError), open("/proc/%d/stat" % r["pid"]) as f:
                    if int(f.read().rsplit(")", 1)[1].split()[19]) == r["start_time"]:
                        found.add(r["pid"])
        for pid in list(found):  # workers of a proxy that has no cgroup
            with contextlib.suppress(OSError), open("/proc/%d/task/%d/children" % (pid, pid)) as f:
                found.update(int(p) for p in f.read().split())
        return found

    def close(self):
        self.stop(signal.SIGKILL)
        def gone():
            pids = self.pids()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids
        wait_for("all processes of the host are gone", gone, 10)
        with open("/proc/self/mounts") as f:
            mounts = [line.split()[1] for line in f if self.dir in line]
        for m in reversed(mounts):
            subprocess.run(["umount", "-l", m], check=False)
        for base in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            top = os.path.join(base, "tendril-t%d" % self.port)
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        shutil.rmtree(self.dir, ignore_errors=True)


class Load:
    """Clients with kept-alive connections that ask as fast as they are answered; every failure is kept in words."""

    def __init__(self, host, clients=4, path="/", method="GET", body=None, port=None):
        self.host, self.path, self.method, self.body = host, path, method, body
        self.port = port or host.port
        self.n, self.failures, self.versions = 0, [], set()
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]

    def run(self):
        c = None
        while not self.ended.is_set():
            try:
                if c is None:
                    c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                c.request(self.method, self.path, body=self.body)
                r = c.getresponse()
                text = r.read().decode(errors="replace")
                with self.lock:
                    self.n += 1
                    if r.status != 200:
                        self.failures.append("%d %s" % (r.status, text[:80]))
                    else:
                        self.versions.add(text.split()[1])
            except (OSError, http.client.HTTPException) as e:
                with self.lock:
                    self.n += 1
                    self.failures.append(repr(e))
                c = None

    def __enter__(self):
        for t in self.threads:
            t.start()
        wait_for("the load has begun", lambda: self.n > 20)
        return self

    def __exit__(self, *exc):
        self.ended.set()
        for t in self.threads:
            t.join(30)
        return False
