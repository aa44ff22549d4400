"""The store's silence, lies and races: nothing of it stops what runs, and a condition has one winner."""

import json
import os
import shutil
import subprocess
import threading

import pytest

from host import BUILD, Load, server_text, wait_for


def folder(host):
    return host.store[len("file://"):]


def test_store_that_goes_away_stops_nothing(agent):
    agent.web("v1")
    agent.web("v2")
    agent.deploy("v1")
    with Load(agent, clients=2) as load:
        environments = os.path.join(folder(agent), "environments")
        os.rename(environments, environments + ".away")
        wait_for("it is told", lambda: not agent.status()["store_ok"])
        os.rename(environments + ".away", environments)
        wait_for("it answers again", lambda: agent.status()["store_ok"], 30)
        os.rename(folder(agent), folder(agent) + ".away")
        agent.kill()
        agent.start()
        assert not agent.status()["store_ok"]
        assert "goes on running" in agent.explain()
        assert agent.version() == "v1"
        os.rename(folder(agent) + ".away", folder(agent))
        wait_for("it answers again", lambda: agent.status()["store_ok"], 30)
        agent.deploy("v2")
    assert load.failures == []


def test_torn_documents_are_told_and_nothing_changes(agent):
    agent.web("v1")
    agent.deploy("v1")
    for name in ("rollout.json", "desired.json"):
        path = os.path.join(folder(agent), "environments/test", name)
        with open(path, "rb") as f:
            good = f.read()
        for bad in (b"", b"{", good[: len(good) // 2], b"\0" * len(good), b"[]", b'{"format": 99}'):
            with open(path + ".x", "wb") as f:
                f.write(bad)
            os.rename(path + ".x", path)
            before = agent.log().count("\n")
            wait_for("another look at it", lambda: agent.status() and agent.log().count("\n") >= before)
            assert agent.version() == "v1"
        with open(path + ".x", "wb") as f:
            f.write(good)
        os.rename(path + ".x", path)
    agent.web("v2")
    agent.deploy("v2")


def test_every_byte_of_desired_flipped(make_host):
    """Whatever a flipped byte makes of an unsigned document, no version is served that the store does not have under its digest."""
    h = make_host(proxy="none", interval=0.02, consecutive=1)
    h.start()
    h.web("v1")
    h.deploy("v1")
    path = os.path.join(folder(h), "environments/test/desired.json")
    with open(path, "rb") as f:
        good = f.read()
    h.stop()
    state = h.path("var/lib/tendril/state.json")
    with open(state, "rb") as f:
        good_state = f.read()
    served = h.get(port=h.slot_a)[1]
    for i in range(0, len(good), max(1, len(good) // 40)):
        with open(path, "wb") as f:
            f.write(good[:i] + bytes([good[i] ^ 1]) + good[i + 1:])
        with open(state, "wb") as f:
            f.write(good_state)
        h.start()
        wait_for("it has looked", lambda: (lambda s: s["store_ok"] and not s["deploy"]["id"])(h.status()), 10)
        assert h.status()["current"]["label"] == "v1"
        assert h.get(port=h.slot_a)[1] == served
        h.stop()


def test_many_publishers_one_winner(host):
    """Each of eight processes publishes other content under the same label: one is published, seven are refused."""
    from host import bundle
    paths = [bundle(os.path.join(host.dir, "b%d.zip" % i), {"Procfile": "web: exec sleep %d\n" % (100 + i)}) for i in range(8)]
    for round_ in range(5):
        running = [subprocess.Popen([os.path.join(BUILD, "tendril"), "publish", p, "--app", "shop", "--version", "r%d" % round_,
                                     "--store", host.store], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for p in paths]
        codes = [p.wait(60) for p in running]
        for p in running:
            p.stdout.close()
            p.stderr.close()
        assert sorted(codes) == [0] + [3] * 7, codes


def test_many_assigners_each_revision_once(host):
    for v in ("v1", "v2"):
        host.web(v)
    wins, codes = [0], []

    def assign(i):
        r = host.tendril("assign", "--env", "test", "--app", "shop", "--version", "v%d" % (1 + i % 2), check=False)
        codes.append(r.returncode)

    threads = [threading.Thread(target=assign, args=(i,)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert set(codes) <= {0, 4}
    wins = codes.count(0)
    host.tendril("assign", "--env", "test", "--app", "shop", "--version", "v1")
    host.start()
    host.wait_served("v1")
    assert host.status()["desired"]["revision"] == wins + 1


def test_two_agents_take_turns(make_host):
    """Two hosts of one environment on one store: their deploys never overlap."""
    one = make_host(interval=0.3)
    two = make_host(store=one.store, name="h2", interval=0.3)
    one.web("v1")
    one.web("v2")
    one.assign("v1")
    one.start()
    two.start()
    one.wait_served("v1", 60)
    two.wait_served("v1", 60)
    one.assign("v2")
    seen = []

    def done():
        busy = [h.name for h in (one, two) if h.status()["deploy"]["stage"] not in (None, "desired", "lease")]
        if busy and (not seen or seen[-1] != busy):
            seen.append(busy)
        return all((lambda s: s["current"]["label"] == "v2" and not s["deploy"]["id"])(h.status()) for h in (one, two))

    wait_for("both serve v2", done, 120, 0.005)
    assert all(len(b) == 1 for b in seen), seen
    assert {b[0] for b in seen} == {"h1", "h2"}


@pytest.mark.parametrize("harm", ["torn", "other"])
def test_a_kept_bundle_that_a_power_cut_has_torn_is_fetched_anew(agent, harm):
    """What is in bundles/ was verified once and is not synced: the digest is looked at each time, and is then nobody's fault."""
    agent.web("v1")
    agent.web("v2")
    agent.deploy("v1")
    kept = agent.path("var/lib/tendril/bundles", agent.state()["current"]["sha256"])
    agent.deploy("v2")
    with open(kept, "r+b") as f:
        f.truncate(os.path.getsize(kept) // 2) if harm == "torn" else f.write(b"x")
    agent.assign("v1")
    agent.wait_served("v1", 60)
    outcomes = [(d["outcome"], d["error"] or "") for d in agent.history()]
    assert outcomes[0][0] == "done" and outcomes[1][0] == "retry" and "fetched anew" in outcomes[1][1], outcomes
    assert not agent.state()["quarantine"]


def test_bundle_by_hand_holds_the_host(agent):
    agent.web("v1")
    agent.web("v2")
    agent.deploy("v1")
    from host import bundle
    path = bundle(os.path.join(agent.dir, "hand.zip"), {"Procfile": "web: exec python3 server.py\n", "server.py": server_text("hand")})
    agent.tendril("deploy", "--bundle", path, "--version", "hand", "--wait")
    assert agent.version() == "hand"
    agent.assign("v2")
    wait_for("the assignment is seen", lambda: agent.status()["desired"]["label"] == "v2")
    assert agent.status()["hold"] and agent.version() == "hand"
    agent.tendril("deploy", "--resume")
    agent.wait_served("v2")


def test_settings_reach_the_application(agent):
    agent.web("v1", get='if self.path == "/greeting": return self.answer(200, "version " + os.environ.get("GREETING", "none"))')
    agent.deploy("v1")
    agent.assign("v1", args=("--set", "aws:elasticbeanstalk:application:environment:GREETING=hello $HOME \"x\""))
    wait_for("revision 2 is served", lambda: (lambda s: s["current"]["revision"] == 2 and not s["deploy"]["id"])(agent.status()), 40)
    assert agent.get("/greeting")[1] == 'version hello $HOME "x"'
    assert agent.history()[0]["kind"] == "settings"


def test_retention(agent):
    agent.configure(more=["retention: {versions: 1}"], drain_timeout=1, interval=0.02, consecutive=1)
    agent.tendril("reload")
    for i in range(5):
        agent.web("v%d" % i)
    for i in range(5):
        agent.deploy("v%d" % i)
    versions = agent.path("var/lib/tendril/versions")
    wait_for("old ones are gone", lambda: len(os.listdir(versions)) == 3)
    assert len(os.listdir(agent.path("var/lib/tendril/bundles"))) == 2
    agent.tendril("rollback", "--wait")
    assert agent.version() == "v3"


def test_rollback_needs_no_store(agent):
    agent.web("v1")
    agent.web("v2")
    agent.deploy("v1")
    agent.deploy("v2")
    shutil.rmtree(folder(agent))
    agent.tendril("rollback", "--wait", timeout=60)
    assert agent.version() == "v1"
    assert json.loads(agent.tendril("status", "--json").stdout)["current"]["label"] == "v1"


def test_full_disk_is_told_and_passes(host):
    """No room for the bundle: said with what is missing, nothing changes, and the deploy goes on by itself when there is room."""
    state = host.path("var/lib/tendril")
    os.makedirs(state)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=0711", "tmpfs", state], check=True)
    host.web("v1")
    host.publish("v2", {"Procfile": "web: exec python3 server.py\n", "server.py": server_text("v2"), "noise": os.urandom(20_000_000)})
    host.start()
    host.deploy("v1")
    host.assign("v2")
    record = host.wait_ended(2)
    assert record["outcome"] == "retry" and record["stage"] == "fetch"
    assert "free at least" in record["error"]
    assert host.version() == "v1"
    subprocess.run(["mount", "-o", "remount,size=200m", state], check=True)
    host.wait_served("v2", 60)
    assert host.fsck()[0] == 0
