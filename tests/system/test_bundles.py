"""Each form of a bundle is served: zip, war, jar, tar and its compressions; and an agent without root."""

import os
import shutil
import subprocess
import zipfile

import pytest

from host import BUILD, bundle, server_text, wait_for

FILES = {"Procfile": "web: exec ./start\n", "start": "#!/bin/sh\nexec python3 lib/server.py\n"}


def folder_of(host, version):
    folder = os.path.join(host.dir, "tree-" + version)
    os.makedirs(os.path.join(folder, "lib"))
    for name, text in dict(FILES, **{"lib/server.py": server_text(version)}).items():
        with open(os.path.join(folder, name), "w") as f:
            f.write(text)
    os.chmod(os.path.join(folder, "start"), 0o755)
    os.symlink("lib/server.py", os.path.join(folder, "link.py"))
    return folder


@pytest.mark.parametrize("form", ["zip", "war", "tar", "tar.gz", "tar.xz", "tar.zst", "tar.bz2"])
def test_form(agent, form):
    folder = folder_of(agent, "v1")
    path = os.path.join(agent.dir, "app." + form)
    if form in ("zip", "war"):
        subprocess.run(["zip", "-qry", path, "."], cwd=folder, check=True)
    else:
        subprocess.run(["tar", "-caf", path, "."], cwd=folder, check=True)
    agent.tendril("publish", path, "--app", "shop", "--version", "v1")
    agent.deploy("v1")
    assert agent.version() == "v1"
    app = os.path.join(agent.path("var/lib/tendril/versions"), agent.state()["current"]["folder"], "app")
    assert os.access(os.path.join(app, "start"), os.X_OK)
    assert os.readlink(os.path.join(app, "link.py")) == "lib/server.py"


def test_one_executable_jar(agent):
    """A jar stays whole, as application.jar; here a `java` of the test's own runs it."""
    path = os.path.join(agent.dir, "app.jar")
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\nMain-Class: Main\n")
        z.writestr("Main.class", "no class")
    java = os.path.join(agent.dir, "bin")
    os.makedirs(java)
    with open(os.path.join(java, "java"), "w") as f:
        f.write("#!/bin/sh\n[ \"$1\" = -jar ] && [ -f \"$2\" ] || exit 9\nexec python3 - <<'END'\n" + server_text("jar") + "END\n")
    os.chmod(os.path.join(java, "java"), 0o755)
    agent.tendril("publish", path, "--app", "shop", "--version", "v1")
    agent.assign("v1", args=("--set", "aws:elasticbeanstalk:application:environment:PATH=%s:/usr/bin:/bin" % java))
    agent.wait_served("v1")
    assert agent.version() == "jar"


def test_not_an_archive(agent):
    path = os.path.join(agent.dir, "x.zip")
    with open(path, "w") as f:
        f.write("this is no archive at all\n")
    agent.tendril("publish", path, "--app", "shop", "--version", "v1")
    agent.assign("v1")
    record = agent.wait_ended(1)
    assert record["outcome"] == "failed" and record["stage"] == "extract"
    assert record["error"]


def test_two_hundred_deploys_leave_no_memory(make_host):
    h = make_host(proxy="none", interval=0.02, consecutive=1, poll=0.1, drain_timeout=1)
    for v in ("v1", "v2"):
        h.publish(v, {"Procfile": "web: exec python3 -I -S server.py\n", "server.py": QUICK % v})
    # Without malloc's per-thread cache, which keeps what was freed and would look like growth.
    h.start(env={"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"})

    def rss():
        with open("/proc/%d/smaps_rollup" % h.agent.pid) as f:
            return next(int(l.split()[1]) for l in f if l.startswith("Private_Dirty"))

    def fds():
        return len(os.listdir("/proc/%d/fd" % h.agent.pid))

    seen = {}
    for i in range(1, 201):
        h.assign("v1" if i % 2 else "v2")
        wait_for("deploy %d" % i, lambda: (lambda s: s["current"]["revision"] == i and not s["deploy"]["id"])(h.status()), 60)
        if i in (5, 100):
            seen[i] = (rss(), fds())
    # Until 100 what is bounded fills up: the last 50 records, the file store's ages, malloc's free lists (804 kB after 5, 840 after 100 and after 200). From there on
    # nothing may grow. At rest: a folder that is being removed holds descriptors.
    wait_for("no more is held than before: %s" % (seen,), lambda: rss() <= min(seen[100][0] + 12, seen[5][0] + 48) and fds() <= seen[5][1], 30)
    print("private dirty kB and descriptors after 5: %s, after 100: %s, after 200: %s" % (seen[5], seen[100], (rss(), fds())))


QUICK = """import os, socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(os.environ["PORT"]))); s.listen(64)
while True:
    c, _ = s.accept(); c.recv(4096)
    c.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: 10\\r\\n\\r\\nversion %s"); c.close()
"""


def test_root_that_may_not_mount(make_host):
    """As in a container: `current` is a link, and the application reaches its files by it all the same."""
    h = make_host()
    current = h.path("var/app/current")
    for v in ("v1", "v2"):
        h.publish(v, {"Procfile": "web: exec python3 -I %s/server.py\n" % current, "server.py": server_text(v)})
    h.start(wrapper=("setpriv", "--bounding-set=-sys_admin"))
    for v in ("v1", "v2"):
        h.assign(v)
        h.wait_served(v)
        assert os.path.islink(current)
    versions = h.path("var/lib/tendril/versions")
    assert os.stat(versions).st_mode & 0o777 == 0o711
    for folder in os.listdir(versions):
        assert os.stat(os.path.join(versions, folder, "control")).st_mode & 0o077 == 0


def test_agent_without_root(make_host, tmp_path_factory):
    """An unprivileged agent: no views, no users, told once; the path of a version is the same."""
    h = make_host(overlap="web")
    subprocess.run(["chown", "-R", "nobody", h.dir], check=True)
    programs = os.path.join(h.dir, "programs")
    os.makedirs(programs)
    for name in ("tendrild", "tendril", "tendril-net", "tendril-bundle", "tendril-tree"):
        shutil.copy(os.path.join(BUILD, name), programs)
    for v in ("v1", "v2"):
        h.web(v)
    subprocess.run(["chown", "-R", "nobody", h.dir], check=True)
    h.start(wrapper=("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"), programs=programs)
    h.assign("v1")
    subprocess.run(["chown", "-R", "nobody", h.store[len("file://"):]], check=True)
    h.wait_served("v1")
    h.assign("v2")
    subprocess.run(["chown", "-R", "nobody", h.store[len("file://"):]], check=True)
    h.wait_served("v2")
    assert h.version() == "v2"
    assert h.status()["warnings"]
