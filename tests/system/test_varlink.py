"""The control socket as other programs see it: the `varlink` package from PyPI reads the description, asks, and is refused in its own words."""

import json
import os
import socket

import pytest
import varlink

INTERFACE = "io.tendril.Agent"


@pytest.fixture
def client(agent):
    """The client reads the description from the agent itself and checks each parameter and reply against it."""
    with varlink.Client("unix:" + str(agent.socket)) as c:
        yield c


@pytest.fixture
def opened(client):
    with client.open(INTERFACE) as connection:
        yield connection


def raw(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(20)
    # As long a path as the test's folder has: by a descriptor of the folder, as sun_path is short.
    fd = os.open(os.path.dirname(str(path)), os.O_PATH)
    try:
        s.connect("/proc/self/fd/%d/%s" % (fd, os.path.basename(str(path))))
    finally:
        os.close(fd)
    return s


def receive(s):
    data = b""
    while not data.endswith(b"\0"):
        part = s.recv(1)
        if not part:
            return None
        data += part
    return json.loads(data[:-1])


def test_introspection(client):
    with client.open("org.varlink.service") as service:
        info = service.GetInfo()
        assert info["product"] == "tendrild" and info["version"]
        assert set(info["interfaces"]) == {"org.varlink.service", INTERFACE}
        with pytest.raises(varlink.VarlinkError) as e:
            service.GetInterfaceDescription("org.example.none")
        assert e.value.error() == "org.varlink.service.InterfaceNotFound"
    assert set(client.get_interfaces()) == {"org.varlink.service", INTERFACE}
    members = client.get_interface(INTERFACE).members
    methods = {m for m in members if type(members[m]).__name__ == "_Method"}
    assert methods == {"Status", "Monitor", "Health", "Explain", "History", "Logs", "Deploy", "Rollback", "Restart",
                       "Reload", "Store", "Wait"}


def test_reading(opened, agent):
    status = opened.Status()
    assert status["agent"] and status["host"] == agent.name and status["hold"] is False
    assert isinstance(status.get("processes"), list)
    assert opened.Explain()["sentences"]
    store = opened.Store()
    assert store["url"] == status["store"] and store["remote"] is False
    assert opened.Health()["healthy"] is False
    assert opened.History()["deploys"] == []
    assert opened.History(5)["deploys"] == []
    assert opened.Reload()["text"]


def test_a_deploy(opened, agent):
    """Every reply with something in it fits its description."""
    agent.web("v1")
    agent.deploy("v1")
    status = opened.Status()
    assert status["current"]["label"] == "v1" and status["processes"][0]["name"] == "web"
    assert opened.Health()["healthy"] is True
    record = opened.History(limit=1)["deploys"][0]
    assert record["label"] == "v1" and record["outcome"] == "done" and record["stages"]
    assert opened.Wait(deploy=record["id"], timeout=20.0)["result"] == "done"
    assert opened.Wait(healthy=True, timeout=20.0)["result"] == "healthy"
    logs = opened.Logs(deploy=record["id"])
    assert logs["deploy"] == record["id"] and logs["offset"] == len(logs["text"].encode())
    assert opened.Restart(process="web")["text"]


def test_monitor(opened):
    for status in opened.Monitor(_more=True):
        assert status["host"]
        break


def test_errors(opened):
    with pytest.raises(varlink.VarlinkError) as e:
        opened.Rollback()
    assert e.value.error().startswith(INTERFACE + ".") and e.value.parameters()["text"]
    with pytest.raises(varlink.VarlinkError) as e:
        opened.Wait(timeout=1.0)
    assert e.value.error() == "org.varlink.service.InvalidParameter"
    with pytest.raises(varlink.VarlinkError) as e:
        opened.Monitor()
    assert e.value.error() == "org.varlink.service.ExpectedMore"


@pytest.mark.parametrize("method,error", [
    ("org.example.Nothing.At", "org.varlink.service.InterfaceNotFound"),
    (INTERFACE + ".Nothing", "org.varlink.service.MethodNotFound"),
])
def test_unknown_names(agent, method, error):
    with raw(agent.socket) as s:
        s.sendall(json.dumps({"method": method}).encode() + b"\0")
        assert receive(s)["error"] == error


def test_many_calls_in_one_write(agent):
    with raw(agent.socket) as s:
        call = json.dumps({"method": INTERFACE + ".Explain"}).encode() + b"\0"
        s.sendall(call * 100)
        for _ in range(100):
            assert receive(s)["parameters"]["sentences"]


def test_rubbish_ends_only_its_connection(agent):
    with raw(agent.socket) as good, raw(agent.socket) as bad:
        bad.sendall(b"GET / HTTP/1.1\r\n\r\n\0")
        assert receive(bad) is None
        good.sendall(json.dumps({"method": INTERFACE + ".Status"}).encode() + b"\0")
        assert receive(good)["parameters"]["host"]


def test_a_stranger_is_refused(agent):
    """A user of no group of ours: told so, and nothing else."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    read, write = os.pipe()
    s = raw(agent.socket)
    s.close()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(61007)
            os.setuid(61007)
            with raw(agent.socket) as stranger:
                try:
                    stranger.sendall(json.dumps({"method": INTERFACE + ".Status"}).encode() + b"\0")
                except BrokenPipeError:
                    pass
                os.write(write, json.dumps(receive(stranger)).encode())
                code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as f:
        reply = f.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, "the stranger could not connect at all"
    assert json.loads(reply)["error"] == INTERFACE + ".Refused"
