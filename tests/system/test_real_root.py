"""The agent without --root, as on a real host: its paths are the system's own, `current` and `staging` are bind mounts at /var/app.

The machine is left alone: the agent runs in namespaces of its own, in which a host's folders lie over the system's.
"""

import os

from host import BUILD, wait_for

# Each folder of the host's root over the system's; those that the system lacks are made on a tmpfs, which is this namespace's own.
ENTER = r"""
set -eu
mount --make-rprivate /
for d in etc/tendril var/lib/tendril var/app run/tendril var/log/tendril; do
        mkdir -p "$ROOT/$d"
        if [ ! -d "/$d" ]; then
                parent=/$(dirname "$d")
                mkdir -p "$ROOT/over/$parent"
                mount -t tmpfs tmpfs "$ROOT/over/$parent"
                mkdir "$ROOT/over/$parent/upper" "$ROOT/over/$parent/work"
                mount -t overlay overlay -o "lowerdir=$parent,upperdir=$ROOT/over/$parent/upper,workdir=$ROOT/over/$parent/work" "$parent"
                mkdir -p "/$d"
        fi
        mount --bind "$ROOT/$d" "/$d"
done
exec "$TENDRILD"
"""


def test_paths_of_a_real_host(make_host):
    h = make_host()
    out = os.path.join(h.dir, "out")
    say = '#!/bin/sh\necho "$TENDRIL_PHASE $(pwd) $(cat /var/app/%s/which)" >> ' + out + "\n"
    for v in ("v1", "v2"):
        h.web(v, procfile="web: exec python3 /var/app/current/server.py\n", files={
            "which": v + "\n",
            ".platform/hooks/prebuild/10-a": say % "staging",
            ".platform/hooks/postdeploy/10-b": say % "current",
        })
    # The agent is PID 1 of its own namespace, so that "the mounts of PID 1" are this namespace's too.
    h.start(wrapper=("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "env", "ROOT=" + h.root,
                     "TENDRILD=" + os.path.join(BUILD, "tendrild"), "bash", "-c", ENTER, "enter"))
    h.deploy("v1")
    assert h.version() == "v1"
    assert "cwd /var/app/current" in h.get()[1]
    h.deploy("v2")
    assert h.version() == "v2"
    with open(out) as f:
        assert f.read().splitlines() == [
            "prebuild /var/app/staging v1", "postdeploy /var/app/current v1",
            "prebuild /var/app/staging v2", "postdeploy /var/app/current v2"]
    # One mount, never a stack of them.
    pid = int(next(p for p in os.listdir("/proc") if p.isdigit() and exe(p) == os.path.join(BUILD, "tendrild") and inner(p)))
    with open("/proc/%d/mounts" % pid) as f:
        mounts = [line.split()[1] for line in f]
    assert mounts.count("/var/app/current") == 1
    assert mounts.count("/var/app/staging") == 0
    h.tendril("rollback", "--wait")
    assert h.version() == "v1"
    wait_for("the agent rests", lambda: h.status()["deploy"]["id"] is None)


def exe(pid):
    try:
        return os.readlink("/proc/%s/exe" % pid)
    except OSError:
        return None


def inner(pid):
    """In a mount namespace of its own."""
    return os.readlink("/proc/%s/ns/mnt" % pid) != os.readlink("/proc/self/ns/mnt")
