"""Faults at points of the real programs: a scenario is run again and again, and each time the n-th call that changes something is the
one at which the program is killed, or which fails. After each: what is served still answers, and an agent without a fault ends where it shall.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import mmap
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))

import host as host_module  # noqa: E402
from host import BUILD, Host, bundle, server_text  # noqa: E402

FAST = {"poll": 0.1, "interval": 0.02, "consecutive": 1, "drain_timeout": 0.2, "start_timeout": 5, "gate_timeout": 2, "check_timeout": 1, "stop_timeout": 2}
WHOLE = 'if open("which").read() != VERSION: return self.answer(500, "version %s reads another one\'s file" % VERSION)'


class Ports:
    """Below those that the kernel gives to clients, which could be in an application's way."""

    def __init__(self):
        self.lock, self.next = threading.Lock(), 20000 + os.getpid() % 8000

    def __call__(self, n):
        found = []
        with self.lock:
            while len(found) < n:
                self.next = self.next + 1 if self.next < 31000 else 20000
                with socket.socket() as s, contextlib.suppress(OSError):
                    s.bind(("127.0.0.1", self.next))
                    found.append(self.next)
        return found


host_module.free_ports = Ports()


class Bad(Exception):
    """A point at which something was not as it shall be."""


def wait(what, question, seconds=20.0, every=0.01):
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Bad("not within %g s: %s" % (seconds, what))
        time.sleep(every)


class Shim:
    """The library's side of one run: its variables, and what it counted."""

    def __init__(self, program, mode, at, count=1):
        fd, self.path = tempfile.mkstemp(prefix="tendril-fault-")
        os.fchmod(fd, 0o666)
        os.ftruncate(fd, 4096)
        self.map = mmap.mmap(fd, 4096)
        os.close(fd)
        self.env = {"LD_PRELOAD": os.path.join(BUILD, "tests", "faults", "killshim.so"),
                    "TENDRIL_FAULT": "%s %s %d %d %s" % (program, mode, at, count, self.path)}

    def n(self):
        return struct.unpack_from("Q", self.map, 0)[0]

    def hit(self):
        return struct.unpack_from("Q", self.map, 8)[0]

    def name(self):
        return self.map[16:256].split(b"\0", 1)[0].decode(errors="replace")

    def close(self):
        os.unlink(self.path)
        self.map.close()


def state_of(host):
    """The state as it is on disk; it is replaced whole, so that it can be read at any moment."""
    with open(host.path("var/lib/tendril/state.json")) as f:
        return json.load(f)["state"]


def label_at_rest(host):
    """The label that is served while no deploy is under way, else None."""
    try:
        s = state_of(host)
    except FileNotFoundError:
        return None
    if (s.get("attempt") or {}).get("id"):
        return None
    return (s.get("current") or {}).get("label")


def answer(host):
    """The version that answers at the proxy: exactly one whole answer, at once."""
    try:
        status, text = host.get(timeout=3)
    except (OSError, http.client.HTTPException) as e:
        raise Bad("the proxy does not answer: %r" % e)
    if status != 200:
        raise Bad("the proxy answers %d: %s" % (status, text[:120]))
    return text.split()[1]


def processes(host):
    """Of the application: {pid: port}; masters of the proxy; helpers of the agent."""
    servers, proxies, helpers = {}, [], []
    ports = {b"PORT=%d" % host.slot_a: host.slot_a, b"PORT=%d" % host.slot_b: host.slot_b}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                line = f.read()
            if not line:
                continue
            if b"nginx: master" in line and host.root.encode() in line:
                proxies.append(int(pid))
            if b"server.py" in line:
                with open("/proc/%s/environ" % pid, "rb") as f:
                    for entry in f.read().split(b"\0"):
                        if entry in ports:
                            servers[int(pid)] = ports[entry]
            elif b"tendril-tree" in line or b"tendril-bundle" in line:
                if host.root.encode() in line:
                    helpers.append(int(pid))
    return servers, proxies, helpers


def check_at_rest(host, label):
    """Everything is as after a deploy that nothing disturbed."""
    s = host.status()
    if s["deploy"]["id"] or s["current"]["label"] != label:
        raise Bad("status shows %s, deploy %s" % (s["current"]["label"], s["deploy"]["id"]))
    if answer(host) != label:
        raise Bad("the proxy answers with %s instead of %s" % (answer(host), label))
    current = state_of(host)["current"]

    def alone():
        servers, proxies, _ = processes(host)
        return list(servers.values()) == [current["port"]] and len(proxies) == 1
    try:
        wait("only the served version runs", alone, 5)
    except Bad as e:
        raise Bad("%s: served is port %s; running are %s, proxies %s" % (e, current["port"], *processes(host)[:2]))
    end = time.monotonic() + 3
    while True:
        code, words = host.fsck()
        if code == 0:
            break
        if time.monotonic() > end:
            raise Bad("fsck: " + words.strip())
        time.sleep(0.02)
    with open("/proc/self/mounts") as f:
        mounts = [line.split()[1] for line in f if host.root in line]
    for name in ("current", "staging"):
        n = sum(m.endswith("/var/app/" + name) for m in mounts)
        if n > 1:
            raise Bad("%d mounts lie on one another at %s" % (n, name))
    n = len(os.listdir(host.path("var/lib/tendril/versions")))
    if n > 8:
        raise Bad("versions/ grows: %d folders" % n)


HOSTS = []  # all that were made; close() may be called again


class Scenario:
    """What is done at each point. prepare() once a host; arm() begins with the fault, settled() when the faulted run is over; then the
    check without an agent, and finish(): what an agent without a fault makes of it."""

    program, settings, mode = "tendrild", {}, "kill"
    kind = "kill points"
    seconds, step = 20, 1

    def first(self):
        """The first point that no other scenario has: what comes before is done without a fault."""
        return 1

    def after_run(self, host, shim):
        """The agent, where it is part of the fault, is ended."""
        if host.agent and host.agent.poll() is not None:
            host.agent = None
            host.log_file.close()
        elif host.agent and self.program == "tendrild":
            host.stop()

    def host(self):
        h = Host(**{**FAST, **self.settings})
        HOSTS.append(h)
        try:
            self.prepare(h)
        except BaseException:
            h.close()
            raise
        return h

    def web(self, host, label, **kw):
        host.web(label, get=kw.pop("get", WHOLE), files={"which": label}, **kw)

    def start(self, host, shim):
        host.start(env=shim.env, wait=False)

    def quiet(self, host, shim, over):
        """Until the agent is dead, or over() is true and nothing is counted any more."""
        last, since = -1, time.monotonic()

        def ended():
            nonlocal last, since
            if host.agent.poll() is not None:
                return True
            if shim.n() != last or not over():
                last, since = shim.n(), time.monotonic()
            return time.monotonic() - since > 0.12
        wait("the run with the fault ends", ended, self.seconds)


class Deploy(Scenario):
    """The other version is assigned; the agent starts, sees it and deploys it, the two side by side."""

    name = "deploy"

    def prepare(self, host):
        for label in ("v1", "v2"):
            self.web(host, label)
        host.start()
        host.deploy("v1")
        host.stop()
        self.served = "v1"

    def run(self, host, shim):
        self.target = "v2" if self.served == "v1" else "v1"
        host.assign(self.target)
        self.start(host, shim)
        self.quiet(host, shim, lambda: label_at_rest(host) == self.target)

    def between(self, host):
        if answer(host) not in (self.served, self.target):
            raise Bad("served is %s" % answer(host))

    def finish(self, host):
        host.start()
        wait("%s is served" % self.target, lambda: label_at_rest(host) == self.target)
        check_at_rest(host, self.target)
        host.stop()
        self.served = self.target


class Rollback(Deploy):
    """A version that answers well once and then never: it fails its gate, and the agent goes back by itself."""

    name = "rollback-by-itself"
    settings = {"path": "/health", "gate_timeout": 0.2, "check_timeout": 0.2, "start_timeout": 1}
    ILL = 'n[0] += self.path == "/health"\n        if self.path == "/health" and n[0] > 1: return self.answer(500, "ill")'

    def prepare(self, host):
        for label in ("bad1", "bad2"):
            self.web(host, label, get=self.ILL, extra="n = [0]")
        self.web(host, "v1")
        host.start()
        host.deploy("v1")
        host.stop()
        self.served, self.target = "v1", "bad2"

    def first(self):
        """Where the state says that the slot is turned, and a little before it."""
        host = self.host()
        shim = Shim(self.program, self.mode, 1 << 40)
        try:
            host.assign("bad1")
            self.start(host, shim)

            def turned():
                with contextlib.suppress(OSError):
                    return (state_of(host).get("attempt") or {}).get("turned")
            wait("the slot is turned", turned, every=0.001)
            return max(1, shim.n() - 20)
        finally:
            host.close()
            shim.close()

    def revision_failed(self, host):
        return label_at_rest(host) == "v1" and any(q["label"] == self.target and q["revision"] == self.revision
                                                   for q in state_of(host)["quarantine"])

    def run(self, host, shim):
        self.target = "bad2" if self.target == "bad1" else "bad1"
        host.assign(self.target)
        self.revision = desired_revision(host)
        self.start(host, shim)
        self.quiet(host, shim, lambda: self.revision_failed(host))

    def finish(self, host):
        host.start()
        wait("%s is quarantined and v1 is served" % self.target, lambda: self.revision_failed(host))
        check_at_rest(host, "v1")
        host.stop()


def desired_revision(host):
    """Of the assignment in the store, whose payload is not secret."""
    folder = host.store[len("file://"):]
    with open(os.path.join(folder, "environments", host.environment, "desired.json")) as f:
        return json.loads(base64.b64decode(json.load(f)["payload"]))["revision"]


class RollbackCommand(Scenario):
    """`tendril rollback`: asked of an agent that rests; what it has not taken on is asked again."""

    name = "rollback-command"

    def prepare(self, host):
        for label in ("v1", "v2"):
            self.web(host, label)
        host.start()
        host.deploy("v1")
        host.deploy("v2")
        host.stop()
        self.served, self.other = "v2", "v1"

    def first(self):
        host = self.host()
        shim = Shim(self.program, self.mode, 1 << 40)
        try:
            self.start(host, shim)
            host.wait_ready()
            return shim.n()
        finally:
            host.close()
            shim.close()

    def run(self, host, shim):
        self.start(host, shim)
        r = wait("the agent answers or is dead", lambda: host.agent.poll() is not None or
                 host.tendril("status", check=False).returncode == 0)
        self.taken = False
        if r and host.agent.poll() is None:
            self.taken = host.tendril("rollback", check=False).returncode == 0
        self.quiet(host, shim, lambda: not self.taken or label_at_rest(host) == self.other)

    def between(self, host):
        if answer(host) not in (self.served, self.other):
            raise Bad("served is %s" % answer(host))

    def finish(self, host):
        host.start()
        label = wait("no deploy is under way", lambda: label_at_rest(host))
        if label == self.served:
            if self.taken:
                raise Bad("the command was answered, and %s is still served" % label)
            host.tendril("rollback")
        wait("%s is served" % self.other, lambda: label_at_rest(host) == self.other)
        check_at_rest(host, self.other)
        host.stop()
        self.served, self.other = self.other, self.served


class Assign(Scenario):
    """`tendril assign` is killed beside an agent that polls."""

    name, program = "assign", "tendril"

    def prepare(self, host):
        for label in ("v1", "v2"):
            self.web(host, label)
        host.start()
        host.deploy("v1")
        self.served = "v1"

    def run(self, host, shim):
        self.target = "v2" if self.served == "v1" else "v1"
        host.tendril("assign", "--env", host.environment, "--app", "shop", "--version", self.target, check=False, env=shim.env)

    def between(self, host):
        if answer(host) not in (self.served, self.target):
            raise Bad("served is %s" % answer(host))

    def finish(self, host):
        check_store(host)
        host.assign(self.target)
        revision = desired_revision(host)  # the second one, of the same version, is deployed too
        wait("revision %d is served" % revision, lambda: label_at_rest(host) == self.target and
             state_of(host)["current"]["revision"] == revision)
        check_at_rest(host, self.target)
        self.served = self.target


class Publish(Scenario):
    """`tendril publish` is killed; said again it succeeds, and what it published can be deployed."""

    name, program = "publish", "tendril"

    def prepare(self, host):
        self.n = 0
        self.web(host, "v1")
        host.start()
        host.deploy("v1")

    def run(self, host, shim):
        self.n += 1
        self.label = "p%d" % self.n
        self.path = os.path.join(host.dir, self.label + ".zip")
        bundle(self.path, {"Procfile": "web: exec python3 server.py\n", "server.py": server_text(self.label, WHOLE), "which": self.label})
        host.tendril("publish", self.path, "--app", "shop", "--version", self.label, check=False, env=shim.env)

    def between(self, host):
        check_store(host)

    def finish(self, host):
        host.tendril("publish", self.path, "--app", "shop", "--version", self.label)
        check_store(host)
        host.assign(self.label)
        wait("%s is served" % self.label, lambda: label_at_rest(host) == self.label)
        check_at_rest(host, self.label)
        host.tendril("versions", "--app", "shop")


class Helper(Deploy):
    """A helper dies at its n-th call, in whichever of its runs; main lives, and tries again or says what happened."""

    def prepare(self, host):
        super().prepare(host)
        self.programs = os.path.join(host.dir, "programs")
        os.makedirs(os.path.join(self.programs, "real"))
        os.chmod(self.programs, 0o755)
        for name in os.listdir(BUILD):
            if name.startswith("tendril") and os.access(os.path.join(BUILD, name), os.X_OK):
                shutil.copy(os.path.join(BUILD, name), os.path.join(self.programs, "real" if name == self.program else "", name))
        shutil.copy(os.path.join(BUILD, "tests", "faults", "wrapper"), os.path.join(self.programs, self.program))
        shutil.copy(os.path.join(BUILD, "tests", "faults", "killshim.so"), self.programs)

    def quarantined(self, host):
        return any(q["revision"] == self.revision for q in state_of(host)["quarantine"])

    def run(self, host, shim):
        self.target = "v2" if self.served == "v1" else "v1"
        host.assign(self.target)
        self.revision = desired_revision(host)
        shim.env["LD_PRELOAD"] = os.path.join(self.programs, "killshim.so")
        with open(os.path.join(self.programs, "fault.env"), "w") as f:
            f.writelines("%s=%s\n" % pair for pair in shim.env.items())
        host.start(programs=self.programs, wait=False)
        wait("the deploy has ended", lambda: host.agent.poll() is not None or label_at_rest(host) == self.target or
             (label_at_rest(host) and self.quarantined(host)), 30)
        if host.agent.poll() is not None:
            raise Bad("main ended with its helper: %s" % host.agent.returncode)
        if label_at_rest(host) != self.target and "error" not in host.history()[0]:
            raise Bad("the deploy failed without words")

    def after_run(self, host, shim):
        host.stop()

    def finish(self, host):
        host.start()
        if self.quarantined(host):
            host.tendril("deploy", "--retry")
        wait("%s is served" % self.target, lambda: label_at_rest(host) == self.target)
        check_at_rest(host, self.target)
        host.stop()
        self.served = self.target


class TreeHelper(Helper):
    name, program, mode, step = "tendril-tree", "tendril-tree", "kill+", 7


class BundleHelper(Helper):
    name, program, mode, step = "tendril-bundle", "tendril-bundle", "kill+", 5


class Failing(Deploy):
    """A call of main fails, once. It lives on (or, while it starts, ends with words); the deploy goes on, is tried again, or fails with
    words, and then is done by `deploy --retry`."""

    name, mode, kind, step = "failing-call", "fail", "system calls", 7

    def quarantined(self, host):
        return any(q["revision"] == self.revision for q in state_of(host)["quarantine"])

    def run(self, host, shim):
        self.target = "v2" if self.served == "v1" else "v1"
        host.assign(self.target)
        self.revision = desired_revision(host)
        begin = len(host.log())
        self.start(host, shim)
        wait("the deploy has ended", lambda: host.agent.poll() is not None or label_at_rest(host) == self.target or
             (label_at_rest(host) and self.quarantined(host)) or "is not on disk" in host.log()[begin:], 30)
        code = host.agent.poll()
        if code is not None and (code <= 0 or "error" not in host.log()[begin:]):
            raise Bad("the agent ended with %s, without words" % code)
        if code is None:
            host.wait_ready()
            host.tendril("history", check=False)  # which may be what fails
            record = host.history()[0]
            if "is not on disk" in host.log()[begin:]:
                host.stop()  # the end of the deploy: told, and looked at again after a restart
            elif label_at_rest(host) != self.target and not record.get("error"):
                raise Bad("the deploy ended as '%s' without words" % record["outcome"])

    def after_run(self, host, shim):
        if host.agent and host.agent.poll() is not None:
            host.agent = None
            host.log_file.close()

    def finish(self, host):
        if not host.agent:
            host.start()
        if label_at_rest(host) != self.target and self.quarantined(host):
            host.tendril("deploy", "--retry")
        wait("%s is served" % self.target, lambda: label_at_rest(host) == self.target)
        check_at_rest(host, self.target)
        host.stop()
        self.served = self.target


class FailingOpen(Failing):
    name, mode, step = "failing-open", "open", 31


SCENARIOS = (Deploy, Rollback, RollbackCommand, Assign, Publish, TreeHelper, BundleHelper, Failing, FailingOpen)


def check_store(host):
    """Each document is whole; a version that is there has its whole bundle."""
    top = host.store[len("file://"):]
    for folder, _, files in os.walk(top):
        for name in files:
            path = os.path.join(folder, name)
            if not name.endswith(".json") or name.startswith("."):
                continue
            with open(path, "rb") as f:
                text = f.read()
            try:
                document = json.loads(text)
                if "payload" in document:
                    document = json.loads(base64.b64decode(document["payload"]))
            except ValueError as e:
                raise Bad("half a document: %s: %s" % (path, e))
            if name != "version.json":
                continue
            with open(os.path.join(folder, "bundle"), "rb") as f:
                digest = hashlib.sha256(f.read()).hexdigest()
            if digest != document["bundle"]["sha256"]:
                raise Bad("version %s has another bundle" % document["label"])


class Report:
    """Counts and bad points, from all threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.n, self.by_name, self.bad = {}, {}, []

    def point(self, kind, n=1, name=None):
        with self.lock:
            self.n[kind] = self.n.get(kind, 0) + n
            self.by_name[name] = self.by_name.get(name, 0) + n

    def add_bad(self, what, words, log=""):
        with self.lock:
            self.bad.append(what)
            print("bad: %s: %s" % (what, words), flush=True)
            if log:
                print("    " + "\n    ".join(log.splitlines()[-int(os.environ.get("FAULTS_LINES", "30")):]), flush=True)


def one_point(scenario, host, n, report):
    """True: there was a point n."""
    shim = Shim(scenario.program, scenario.mode, n)
    begin = len(host.log())
    hit = True
    try:
        scenario.run(host, shim)
        hit = shim.hit() > 0
        scenario.after_run(host, shim)
        scenario.between(host)
        scenario.finish(host)
        if hit:
            report.point(scenario.kind, name=scenario.name)
        return hit
    except (Bad, AssertionError, OSError, subprocess.TimeoutExpired) as e:
        report.point(scenario.kind, name=scenario.name)
        report.add_bad("%s:%d at %s" % (scenario.name, n, shim.name()), str(e)[:600], host.log()[begin:])
        raise
    finally:
        shim.close()


class Numbers:
    """Of the points of one scenario, for all threads: each once, until a run has ended without the fault."""

    def __init__(self, make, step, only=None):
        self.make, self.step, self.only = make, step, only
        self.lock = threading.Lock()
        self.over = False
        self.next = self.last = None
        self.began = None

    def take(self):
        with self.lock:
            if self.next is None:
                self.began = time.monotonic()
                self.next = self.only or self.make().first()
            if self.over:
                return None
            n, self.next = self.next, self.next + self.step
            self.over = self.only is not None
            self.last = n
            return n


def points(numbers, report):
    """One thread's part of a scenario: its own host, and numbers until there are none."""
    scenario, host = numbers.make(), None
    try:
        while True:
            n = numbers.take()
            if n is None:
                return
            host = host or scenario.host()
            try:
                if not one_point(scenario, host, n, report):
                    numbers.over = True
            except (Bad, AssertionError, OSError, subprocess.TimeoutExpired):
                host.close()
                host = None
    except BaseException as e:
        numbers.over = True
        report.add_bad(scenario.name, "cannot be run: %r" % e, host.log() if host else "")
    finally:
        if host:
            host.close()
