"""A tendril-bundle that means harm: what it made is used only after it can change nothing any more, and root follows none of its links."""

import os
import stat
import subprocess
import time

import pytest

from host import BUILD, alive

HERE = os.path.dirname(os.path.abspath(__file__))


def plant(host, evil):
    """A folder of programs in which tendril-bundle is the planted one."""
    folder = os.path.join(host.dir, "libexec")
    os.makedirs(folder)
    for name in ("tendril-net", "tendril-tree"):
        os.symlink(os.path.join(BUILD, name), os.path.join(folder, name))
    secret = os.path.join(host.dir, "secret-folder")
    os.makedirs(os.path.join(secret, "hooks", "prebuild"), mode=0o700)
    with open(os.path.join(secret, "secret"), "w") as f:
        f.write("root's own secret\n")
    os.chmod(os.path.join(secret, "secret"), 0o600)
    with open(os.path.join(secret, "hooks", "prebuild", "10-never"), "w") as f:
        f.write("#!/bin/sh\ntouch %s/ran\n" % host.dir)
    os.chmod(os.path.join(secret, "hooks", "prebuild", "10-never"), 0o755)
    os.chmod(secret, 0o700)
    marks = os.path.join(host.dir, "marks")
    os.makedirs(marks, mode=0o777)
    os.chmod(marks, 0o777)
    subprocess.run(["gcc", "-O1", "-o", os.path.join(folder, "tendril-bundle"), os.path.join(HERE, "planted.c"), "-DEVIL=%d" % evil,
                    '-DREAL="%s"' % os.path.join(BUILD, "tendril-bundle"), '-DMARK="%s/pid"' % marks, '-DSECRET="%s"' % secret],
                   check=True)
    return folder, secret, os.path.join(marks, "pid")


def run(make_host, evil):
    h = make_host(hook_timeout=5)
    folder, secret, mark = plant(h, evil)
    h.web("v1", files={".platform/hooks/prebuild/10-ok": "#!/bin/sh\nexit 0\n"})
    h.start(args=("--libexec", folder))
    h.assign("v1")
    record = h.wait_ended(1, 60)
    h.stop()
    with open(mark) as f:
        pid = int(f.read() or 0)
    assert pid == 0 or not alive(pid), "the planted child outlived the unpacking"
    return h, secret, record


@pytest.mark.parametrize("evil", [1, 2, 3])
def test_planted_bundle(make_host, evil):
    h, secret, record = run(make_host, evil)
    state = h.state()
    folder = (state["current"] or {}).get("folder")
    # Root's secret was neither read, nor given away, nor run.
    st = os.stat(os.path.join(secret, "secret"))
    assert st.st_uid == 0 and stat.S_IMODE(st.st_mode) == 0o600
    assert os.stat(secret).st_uid == 0
    assert not os.path.exists(os.path.join(h.dir, "ran"))
    versions = h.path("var/lib/tendril/versions")
    for where, _, names in os.walk(versions):
        for name in names:
            path = os.path.join(where, name)
            if "/control" in where and not os.path.islink(path):
                with open(path, errors="replace") as f:
                    assert "root's own secret" not in f.read()
    # Whatever it made until then: nothing changes afterwards.
    if folder:
        app = os.path.join(versions, folder, "app")

        def snapshot():
            return sorted((n, os.lstat(os.path.join(app, n)).st_mtime_ns) for n in os.listdir(app))

        before = snapshot()
        time.sleep(0.3)  # the planted child wrote every millisecond
        assert snapshot() == before
    assert h.fsck() == (0, "The state on disk is good.\n")
