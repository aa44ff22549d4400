"""A tendril-net that means harm with the bundle that it fetches: it keeps the file open, writes late, gives other bytes. None of it is
ever served, and nothing of it is left behind."""

import os
import subprocess

import pytest

from host import alive
from world import BUILD, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
LAUNCHER = """#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
        setenv("LD_PRELOAD", "%s", 1);
        execv("%s", argv);
        return argc ? 1 : 2;
}
"""


def plant(host, evil):
    """A folder of programs in which tendril-net is the planted one."""
    folder, marks = os.path.join(host.dir, "libexec"), os.path.join(host.dir, "marks")
    os.makedirs(folder)
    os.makedirs(marks)
    os.chmod(marks, 0o777)
    for name in ("tendril-bundle", "tendril-tree"):
        os.symlink(os.path.join(BUILD, name), os.path.join(folder, name))
    mark, library, source = os.path.join(marks, "pid"), os.path.join(folder, "evil.so"), os.path.join(folder, "launcher.c")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, os.path.join(HERE, "planted", "net.c"), "-DEVIL=%d" % evil, '-DMARK="%s"' % mark], check=True)
    with open(source, "w") as f:
        f.write(LAUNCHER % (library, os.path.join(BUILD, "tendril-net")))
    subprocess.run(["gcc", "-o", os.path.join(folder, "tendril-net"), source], check=True)
    return folder, mark


@pytest.mark.parametrize("evil", [1, 2, 3], ids=["child-writes-late", "other-bytes", "keeps-it-open"])
def test_what_tendril_net_does_to_a_bundle(make_host, moto_bucket, evil):
    host = make_host(moto_bucket)
    host.web("v1")
    folder, mark = plant(host, evil)
    host.start(args=("--libexec", folder))
    host.assign("v1")
    record = host.wait_ended(1, 60)
    with open(mark) as f:
        pid = int(f.readline() or 0)
    assert pid, "the planted library did nothing"
    if evil == 3:  # the bytes were right: once it is dead, the bundle is as good as any
        assert record["outcome"] == "done" and host.version() == "v1"
    else:
        assert record["outcome"] in ("failed", "retry") and record["stage"] == "verify", record
        assert "not what was published" in record["error"] or "writing" in record["error"], record["error"]
        assert host.version() is None
    if evil != 2:
        wait_for("whoever kept the file is gone", lambda: not alive(pid), 20)
    host.stop()
    assert host.fsck()[0] == 0
