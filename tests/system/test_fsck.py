"""`tendril fsck`: says what is wrong on disk, mends with --repair, and never under a running agent."""

import os
import shutil

import pytest

from host import wait_for

DAMAGED = 8


@pytest.fixture
def stopped(agent):
    agent.web("v1")
    agent.web("v2")
    agent.deploy("v1")
    agent.deploy("v2")
    agent.stop()
    assert agent.fsck() == (0, "The state on disk is good.\n")
    return agent


def state_path(host, *parts):
    return host.path("var/lib/tendril", *parts)


def found(host, word):
    code, text = host.fsck()
    assert code == DAMAGED, text
    assert word in text, text


def repaired(host):
    r = host.tendril("fsck", "--repair", check=False)
    assert host.fsck()[0] == 0, r.stdout + r.stderr


def test_torn_state_has_a_predecessor(stopped):
    with open(state_path(stopped, "state.json"), "r+b") as f:
        f.truncate(100)
    found(stopped, "state.json")
    repaired(stopped)
    stopped.start()
    stopped.wait_served("v2")


def test_slot_file(stopped):
    slot = state_path(stopped, "slot", "b")
    if os.path.exists(slot):
        os.unlink(slot)
    else:
        open(slot, "w").close()
    found(stopped, "slot")
    repaired(stopped)
    assert stopped.version() == "v2"


def test_temporaries_and_strays(stopped):
    open(state_path(stopped, "proxy", ".tmp-nginx.conf.0123abcd"), "w").close()
    open(state_path(stopped, "incoming", "junk"), "w").close()
    found(stopped, "junk")
    found(stopped, "temporary")
    repaired(stopped)


def test_mode(stopped):
    os.chmod(state_path(stopped, "versions"), 0o755)
    found(stopped, "versions")
    repaired(stopped)
    assert os.stat(state_path(stopped, "versions")).st_mode & 0o777 == 0o711


def test_broken_record(stopped):
    deploys = state_path(stopped, "deploys")
    name = sorted(os.listdir(deploys))[0]
    with open(os.path.join(deploys, name), "w") as f:
        f.write("{")
    found(stopped, name.split(".")[0])
    repaired(stopped)


def test_missing_version_needs_a_person(stopped):
    folder = stopped.state()["previous"]["folder"]
    shutil.rmtree(state_path(stopped, "versions", folder))
    found(stopped, folder)
    assert stopped.tendril("fsck", "--repair", check=False).returncode == DAMAGED


def test_not_under_a_running_agent(agent):
    r = agent.tendril("fsck", "--repair", check=False)
    assert r.returncode != 0 and "the agent runs" in r.stderr


def test_both_states_damaged_starts_from_nothing_and_leaves_what_runs(stopped):
    for name in ("state.json", "state.json.previous"):
        with open(state_path(stopped, name), "w") as f:
            f.write("rubbish")
    assert stopped.version() == "v2"
    stopped.start()
    assert stopped.version() == "v2" or wait_for("it is served again", lambda: stopped.version() == "v2", 30)
    assert os.path.exists(state_path(stopped, "state.json.damaged"))
    assert "beginning from nothing" in stopped.log()
