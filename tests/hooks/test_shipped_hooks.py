"""Each shipped hook: what it would run (MOCK=echo), what it decides, and that it keeps to the protocol of hooks/README.md."""

import glob
import os
import re
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOOKS = sorted(glob.glob(os.path.join(ROOT, "hooks", "*", "*.sh")))
DISK_SPACE = os.path.join(ROOT, "hooks/prebuild/10-disk-space.sh")


def run(hook, path=None, **env):
    whole = {"PATH": os.environ["PATH"] if path is None else "%s:%s" % (path, os.environ["PATH"]), "HOME": "/root"}
    whole.update({k: str(v) for k, v in env.items()})
    return subprocess.run([hook], env=whole, capture_output=True, text=True, timeout=30)


def fake_df(folder, mb="50000", inodes="900000"):
    """A df that says so of every folder."""
    text = """#!/bin/sh
echo "$*" >> "%s/asked"
echo "Filesystem Blocks Used Available Capacity Mounted on"
case $* in *-i*) echo "/dev/x 9 9 %s 9%% /" ;; *) echo "/dev/x 9 9 %s 9%% /" ;; esac
""" % (folder, inodes, mb)
    path = os.path.join(str(folder), "df")
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, 0o755)
    return str(folder)


@pytest.mark.parametrize("hook", HOOKS, ids=os.path.basename)
def test_form(hook):
    assert os.access(hook, os.X_OK)
    assert os.path.basename(os.path.dirname(hook)) in ("prebuild", "predeploy", "postdeploy")
    assert re.fullmatch(r"[0-9]{2}-[a-z-]+\.sh", os.path.basename(hook))
    with open(hook) as f:
        text = f.read()
    assert text.startswith("#!/bin/sh\n") and "\nset -eu\n" in text and "MOCK" in text


@pytest.mark.parametrize("hook", HOOKS, ids=os.path.basename)
def test_mock_runs_nothing(hook, tmp_path):
    """With MOCK=echo no other program is needed: nothing on the PATH but what the shell itself has."""
    result = subprocess.run(["/bin/sh", hook], env={"PATH": str(tmp_path), "MOCK": "echo"}, capture_output=True, text=True,
                            timeout=30)
    assert result.returncode == 0, result.stderr
    assert result.stdout + result.stderr


def test_disk_space_mock(tmp_path):
    result = run(DISK_SPACE, MOCK="echo", TENDRIL_APP_DIR=tmp_path)
    assert result.returncode == 0
    wanted = []
    for folder in ("/", str(tmp_path), "/tmp"):
        wanted += ["df -P -m %s" % folder, "df -P -i %s" % folder]
    assert result.stderr.splitlines() == wanted


def test_disk_space_enough(tmp_path):
    result = run(DISK_SPACE, fake_df(tmp_path), TENDRIL_APP_DIR=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    with open(tmp_path / "asked") as f:
        assert len(f.read().splitlines()) == 6


@pytest.mark.parametrize("mb,limit,code", [("255", None, 75), ("256", None, 0), ("0", None, 75), ("0", 0, 0), ("999", 1000, 75),
                                           ("-", None, 0), ("", None, 0)])
def test_disk_space_megabytes(tmp_path, mb, limit, code):
    env = {} if limit is None else {"DISK_SPACE_MIN_MB": limit}
    result = run(DISK_SPACE, fake_df(tmp_path, mb=mb), **env)
    assert result.returncode == code
    if code:
        assert result.stdout.startswith("tendril: only %s MB are free on the file system of /" % mb)


@pytest.mark.parametrize("inodes,code", [("9999", 75), ("10000", 0), ("0", 0), ("-", 0)])
def test_disk_space_inodes(tmp_path, inodes, code):
    result = run(DISK_SPACE, fake_df(tmp_path, inodes=inodes))
    assert result.returncode == code
    if code:
        assert "inodes are free" in result.stdout


@pytest.mark.parametrize("name", ["DISK_SPACE_MIN_MB", "DISK_SPACE_MIN_INODES"])
def test_disk_space_wrong_setting(tmp_path, name):
    result = run(DISK_SPACE, fake_df(tmp_path), **{name: "lots"})
    assert result.returncode == 1
    assert result.stdout.startswith("tendril: ") and '"lots"' in result.stdout


def test_disk_space_real():
    """On this very machine, with the real df: whatever it decides, it does so by the protocol."""
    assert run(DISK_SPACE, DISK_SPACE_MIN_MB=0, DISK_SPACE_MIN_INODES=0).returncode == 0
    assert run(DISK_SPACE, DISK_SPACE_MIN_MB=10 ** 9).returncode == 75
