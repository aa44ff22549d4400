#!/usr/bin/env python3
"""Figures of one host on the file store: notice_to_served, own_work_ms, idle_pss_kb, programs_kb.

A line each: NAME <tab> value <tab> unit <tab> ratio <tab> against what. The ratio is of the limit to the value: 1 or more is within.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "system"), HERE]
from figure import line, pss_kb  # noqa: E402
from host import BUILD, Host, wait_for  # noqa: E402

POLL = 1.0
SERVER = """import os, socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(os.environ["PORT"]))); s.listen(64)
while True:
    c, _ = s.accept(); c.recv(4096)
    b = b"version %s"
    c.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %%d\\r\\n\\r\\n" %% len(b) + b); c.close()
"""
PROGRAMS = ("tendrild", "tendril", "tendril-net", "tendril-bundle", "tendril-tree")


def application_start():
    """Seconds from exec to the first answer of the application alone; median of 7."""
    times = []
    with tempfile.NamedTemporaryFile("w", suffix=".py") as f:
        f.write(SERVER % "x")
        f.flush()
        for _ in range(7):
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                port = s.getsockname()[1]
            began = time.monotonic()
            p = subprocess.Popen(["python3", "-I", "-S", f.name], env={"PORT": str(port), "PATH": os.environ["PATH"]})
            wait_for("it listens", lambda: not socket.socket().connect_ex(("127.0.0.1", port)), 10, 0.002)
            times.append(time.monotonic() - began)
            p.kill()
            p.wait()
    return statistics.median(times)


def served(start):
    """From the end of `assign` to the new version served through the proxy, 10 MB bundle, no hooks; median of 7."""
    h = Host(poll=POLL, interval=0.1, consecutive=1, drain_timeout=1)
    times, own = [], []
    try:
        noise = os.urandom(10_000_000)
        for v in ("v1", "v2"):
            h.publish(v, {"Procfile": "web: exec python3 -I -S server.py\n", "server.py": SERVER % v, "data.bin": noise + v.encode()})
        h.start()
        h.deploy("v1")
        for i in range(7):
            v = "v2" if i % 2 == 0 else "v1"
            h.assign(v)
            began = time.monotonic()
            wait_for("%s is served" % v, lambda: h.version() == v, 30, 0.005)
            times.append(time.monotonic() - began)
            h.wait_served(v)
            took = {s["name"]: s["took_ms"] for s in h.history()[0]["stages"]}
            own.append(sum(took[s] for s in ("lease", "fetch", "verify", "extract", "prepare", "switch")) - start * 1000)
    finally:
        h.close()
    return statistics.median(times), statistics.median(own)


def idle():
    """PSS of all of the agent's processes when there is nothing to do, the helpers that a gate needed gone again."""
    h = Host(poll=5)
    try:
        h.web("v1")
        h.start()
        h.deploy("v1")
        wait_for("tendril-net has ended", lambda: subprocess.run(["pgrep", "-P", str(h.agent.pid), "tendril-net"], capture_output=True).returncode != 0, 60, 0.5)
        return pss_kb(h)
    finally:
        h.close()


def programs():
    total = 0
    with tempfile.TemporaryDirectory() as d:
        for p in PROGRAMS:
            out = os.path.join(d, p)
            subprocess.run(["strip", "-o", out, os.path.join(BUILD, p)], check=True)
            total += os.path.getsize(out)
    return total / 1000


def main():
    wanted = sys.argv[1:] or ["notice_to_served", "own_work_ms", "idle_pss_kb", "programs_kb"]
    if {"notice_to_served", "own_work_ms"} & set(wanted):
        start = application_start()
        seconds, own = served(start)
        limit = 1.5 * (POLL + start)
        if "notice_to_served" in wanted:
            line("notice_to_served", "%.2f" % seconds, "s", limit / seconds, "1.5 x (poll %.1f s + application start %.2f s)" % (POLL, start))
        if "own_work_ms" in wanted:
            line("own_work_ms", "%.0f" % own, "ms", 300 / max(own, 1), "300 ms, 10 MB bundle, application start taken off")
    if "idle_pss_kb" in wanted:
        kb = idle()
        line("idle_pss_kb", kb, "kB", 4096 / kb, "4 MB, all processes")
    if "programs_kb" in wanted:
        kb = programs()
        line("programs_kb", "%.0f" % kb, "kB", 900 / kb, "900 kB, all programs stripped")


if __name__ == "__main__":
    main()
