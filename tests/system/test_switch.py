"""The switch: no request lost, each process sees its own version, and what cannot overlap does not."""

import os
import socket
import subprocess
import threading
import time

from host import Load, alive, server_text, wait_for


def test_second_version_without_a_failed_request(agent):
    agent.web("v1")
    agent.web("v2")
    agent.deploy("v1")
    with Load(agent) as load:
        agent.deploy("v2")
        wait_for("clients see v2", lambda: "v2" in load.versions)
    assert load.failures == []
    assert load.versions == {"v1", "v2"}
    assert agent.history()[0]["overlap"] == "web"


def test_rollback_by_itself_without_a_failed_request(agent):
    agent.web("v1")
    # Good for its first answer, and bad for its health check from then on; clients are answered all the time.
    agent.configure(path="/health")
    agent.tendril("reload")
    agent.web("v2", extra="n = [0]", get='n[0] += self.path == "/health"\n        if self.path == "/health" and n[0] > 1: return self.answer(500, "ill")')
    agent.deploy("v1")
    with Load(agent) as load:
        agent.assign("v2")
        record = agent.wait_ended(2)
    assert record["outcome"] == "rolled-back"
    assert "/health answers 500" in record["error"]
    assert load.failures == []
    assert agent.version() == "v1"
    assert agent.status()["current"]["label"] == "v1"
    assert agent.fsck()[0] == 0
    assert "/health answers 500" in agent.explain()


def test_rollback_is_within_a_second_of_the_verdict(agent):
    agent.web("v1")
    agent.web("v2", extra="n = [0]", get='n[0] += 1\n        if n[0] > 1: return self.answer(500, "ill")')
    agent.deploy("v1")
    agent.assign("v2")
    agent.wait_ended(2)
    log = agent.log().splitlines()
    assert any("turned back" in line for line in log), agent.log()
    record = agent.history()[0]
    took = {s["name"]: s["took_ms"] for s in record["stages"]}
    assert took["rollback"] < 1000 + 3000  # the whole way back; the turn itself is its first step
    assert agent.version() == "v1"


def test_absolute_path_sees_its_own_version(agent):
    procfile = "web: exec python3 /var/app/current/server.py\n"
    agent.web("v1", procfile=procfile)
    agent.web("v2", procfile=procfile)
    agent.deploy("v1")
    agent.deploy("v2")
    assert agent.version() == "v2"
    assert "cwd /var/app/current" in agent.get()[1]


def test_literal_port_stops_then_starts(agent):
    agent.web("v1", port=agent.fixed, procfile="web: exec python3 server.py --port %d\n" % agent.fixed)
    agent.web("v2", port=agent.fixed, procfile="web: exec python3 server.py --port %d\n" % agent.fixed)
    agent.deploy("v1")
    assert agent.version() == "v1"
    agent.deploy("v2")
    record = agent.history()[0]
    assert record["overlap"] == "none"
    assert str(agent.fixed) in record["overlap_why"]
    assert record["gap_ms"] > 0
    assert agent.version() == "v2"


def test_hidden_literal_port_after_a_version_without(agent):
    """Nothing tells that v2 insists on the usual port, which the proxy answers: its first start finds it taken."""
    agent.web("v1")
    agent.web("v2", port=agent.fixed)
    agent.web("v3")
    agent.deploy("v1")
    assert agent.get(port=agent.fixed)[1].split()[1] == "v1"
    agent.deploy("v2")
    assert agent.version() == "v2"
    assert "gives up port %d" % agent.fixed in agent.log()
    agent.deploy("v3")
    assert agent.version() == "v3"
    assert agent.get(port=agent.fixed)[1].split()[1] == "v3"


def test_second_process_never_runs_twice(agent):
    worker = ("import os, sys, time\n"
              "path = '/tmp/only-one-%d'\n"
              "try: fd = os.open(path, os.O_CREAT | os.O_EXCL)\n"
              "except FileExistsError:\n"
              "    open(path + '.twice', 'w').close(); sys.exit(1)\n"
              "import signal\n"
              "def end(*a): os.unlink(path); os._exit(0)\n"
              "signal.signal(signal.SIGTERM, end)\n"
              "while True: signal.pause()\n") % agent.port
    files = {"worker.py": worker}
    procfile = "web: exec python3 server.py\nworker: exec python3 worker.py\n"
    mark = "/tmp/only-one-%d" % agent.port
    try:
        for v in ("v1", "v2", "v3"):
            agent.web(v, procfile=procfile, files=files)
        for v in ("v1", "v2", "v3"):
            agent.deploy(v)
            wait_for("the worker runs", lambda: os.path.exists(mark))
        assert not os.path.exists(mark + ".twice")
        assert agent.history()[0]["overlap"] == "web"
    finally:
        for m in (mark, mark + ".twice"):
            if os.path.exists(m):
                os.unlink(m)


def test_open_file_cache_of_a_bundle_does_not_delay_the_turn(agent):
    conf = {".platform/nginx/conf.d/cache.conf": "open_file_cache max=100 inactive=60s;\nopen_file_cache_valid 60s;\nopen_file_cache_errors on;\n"}
    agent.web("v1", files=conf)
    agent.web("v2", files=conf)
    agent.deploy("v1")
    for _ in range(20):
        assert agent.version() == "v1"
    agent.assign("v2")
    wait_for("the switch", lambda: "switched: version v2" in agent.log())
    assert agent.version() == "v2"
    agent.wait_served("v2")
    assert agent.log().count("the proxy's configuration has changed") == 1


def test_broken_proxy_text_fails_before_anything_changes(agent):
    agent.web("v1")
    agent.web("v2", files={".platform/nginx/conf.d/bad.conf": "this is no directive;\n"})
    agent.deploy("v1")
    agent.assign("v2")
    record = agent.wait_ended(2)
    assert record["outcome"] == "failed" and record["stage"] == "prepare"
    assert "this" in record["error"] and "directive" in record["error"]
    assert agent.version() == "v1"


def test_version_that_ignores_term_is_killed(agent):
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)"
    agent.web("v1", extra=stubborn)
    agent.web("v2")
    agent.configure(stop_timeout=1)
    agent.tendril("reload")
    agent.deploy("v1")
    pid = int(agent.get()[1].split()[5])
    agent.deploy("v2")
    assert not alive(pid)


def test_slow_request_ends_where_it_began(agent):
    agent.web("v1", extra="import time", get='self.path == "/slow" and time.sleep(2)')
    agent.web("v2")
    agent.deploy("v1")
    got = []
    t = threading.Thread(target=lambda: got.append(agent.get("/slow", timeout=20)))
    t.start()
    wait_for("the request is under way", lambda: agent.version() == "v1")
    agent.deploy("v2")
    t.join(20)
    assert got and got[0][0] == 200 and got[0][1].split()[1] == "v1"


def test_posts_across_the_switch(agent):
    agent.web("v1")
    agent.web("v2")
    agent.deploy("v1")
    with Load(agent, clients=3, method="POST", body=b"x" * 200_000) as load:
        agent.deploy("v2")
        wait_for("clients see v2", lambda: "v2" in load.versions)
    assert load.failures == []


def test_web_socket_stays_with_its_version(agent):
    """An upgraded connection lives on with the old version until its time to drain is over."""
    upgrade = ('if self.path == "/ws":\n'
               '            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: echo\\r\\nConnection: Upgrade\\r\\n\\r\\n"); self.wfile.flush()\n'
               '            while True:\n'
               '                data = self.connection.recv(100)\n'
               '                if not data: return\n'
               '                self.connection.sendall(VERSION.encode() + b":" + data)')
    agent.configure(drain_timeout=10)
    agent.tendril("reload")
    agent.web("v1", get=upgrade)
    agent.web("v2", get=upgrade)
    agent.deploy("v1")
    s = socket.create_connection(("127.0.0.1", agent.port), timeout=10)
    s.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
    assert b"101" in s.recv(1000)
    s.sendall(b"one")
    assert s.recv(100) == b"v1:one"
    agent.assign("v2")
    wait_for("clients see v2", lambda: agent.version() == "v2")
    s.sendall(b"two")
    assert s.recv(100) == b"v1:two"
    assert agent.status()["deploy"]["stage"] in ("gate", "release")
    s.close()
    agent.wait_served("v2")


def test_served_means_that_the_proxy_answers(make_host):
    """An nginx that takes its time to start: nobody is told that a version is served before clients can connect."""
    h = make_host()
    slow = os.path.join(h.dir, "slow-nginx")
    with open(slow, "w") as f:
        f.write('#!/bin/sh\ncase " $* " in *" -t "*) ;; *) sleep 2 ;; esac\nexec /usr/sbin/nginx "$@"\n')
    os.chmod(slow, 0o755)
    h.configure(proxy_extra=", program: " + slow)
    h.start()
    h.web("v1")
    h.assign("v1")
    h.tendril("wait", "--healthy", "--timeout", "30")
    assert h.get()[0] == 200


def test_overlap_none_is_obeyed_and_told(agent):
    agent.configure(overlap="none")
    agent.tendril("reload")
    agent.web("v1")
    agent.web("v2")
    agent.deploy("v1")
    agent.deploy("v2")
    record = agent.history()[0]
    assert record["overlap"] == "none" and record["gap_ms"] > 0
    assert agent.version() == "v2"


def test_answers_of_another_listener_do_not_count(agent):
    """Somebody else sits on the new slot's port and answers well: the version is not kept for that."""
    agent.configure(start_timeout=3)
    agent.tendril("reload")
    agent.web("v1")
    agent.deploy("v1")
    agent.publish("v2", {"Procfile": "web: exec sleep 1000\n"})
    other = subprocess.Popen(["python3", "-c", server_text("other", port=agent.slot_b)])
    try:
        wait_for("the other listens", lambda: agent.get(port=agent.slot_b)[0] == 200 if _open(agent.slot_b) else False)
        agent.assign("v2")
        record = agent.wait_ended(2)
        assert record["outcome"] == "failed"
        assert "another process listens" in record["error"]
        assert agent.version() == "v1"
    finally:
        other.kill()
        other.wait()


def _open(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def test_fifty_deploys_in_a_row_under_load(agent):
    agent.configure(interval=0.05, drain_timeout=2)
    agent.tendril("reload")
    for v in ("v1", "v2"):
        agent.web(v)
    agent.deploy("v1")
    began = time.monotonic()
    with Load(agent, clients=2) as load:
        for i in range(50):
            agent.assign("v2" if i % 2 == 0 else "v1")
            revision = i + 2
            wait_for("revision %d is served" % revision,
                     lambda: (lambda s: s["current"]["revision"] == revision and not s["deploy"]["id"])(agent.status()), 60)
    assert load.failures == []
    print("50 deploys in %.0f s, %d requests, 0 failed" % (time.monotonic() - began, load.n))
