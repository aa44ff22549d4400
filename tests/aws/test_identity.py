"""Which host this is, and of which environment: told by the configuration, an instance tag or user data; a clone is a new host."""

import os
import signal

import pytest

from world import bundle, server_text, wait_for

TAG = "tendril:environment"


def on_ec2(make_host, bucket, imds, **kw):
    """Identity and credentials by IMDS alone."""
    imds.give(bucket.server.key_id, bucket.server.secret)
    host = make_host(bucket, interval=0.02, consecutive=1, drain_timeout=1,
                     agent_environment={"AWS_EC2_METADATA_DISABLED": None, "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, **imds.environment}, **kw)
    host.web("v1")
    return host


def assigned(host, *environments):
    """Each of these environments wants v1."""
    for e in environments:
        host.environment = e
        host.assign("v1")


@pytest.mark.parametrize("configured, tag, user_data, expected", [
    ("conf", "tag", "data", "conf"), (None, "tag", "data", "tag"), (None, None, "data", "data"), (None, "tag", None, "tag"), ("conf", None, None, "conf")],
    ids=["all", "tag-and-data", "data", "tag", "configured"])
def test_environment_by_precedence(make_host, moto_bucket, imds, configured, tag, user_data, expected):
    imds.tags = {TAG: tag, "Name": "web 1"} if tag else None
    imds.user_data = ("#cloud-config\n# tendril.environment: %s\npackages: [tendril]\n" % user_data).encode() if user_data else None
    host = on_ec2(make_host, moto_bucket, imds, leave_out=("host",) if configured else ("host", "environment"))
    if configured:
        host.environment = configured
        host.configure()
    assigned(host, "conf", "tag", "data")
    host.start()
    host.wait_served("v1")
    status = host.status()
    assert (status["environment"], status["host"]) == (expected, "i-0123456789abcdef0")
    wait_for("it reports below its instance's id", lambda: moto_bucket.get("environments/%s/hosts/i-0123456789abcdef0.json" % expected))


def test_no_environment_is_told(make_host, moto_bucket, imds):
    host = on_ec2(make_host, moto_bucket, imds, leave_out=("host", "environment"))
    host.start()
    text = host.wait_told("environment")
    assert TAG in text or "tendril.yaml" in text, text


def test_values_that_are_no_labels_are_dropped(make_host, moto_bucket, imds):
    imds.tags = {TAG: "../../etc"}
    imds.user_data = b"tendril.environment: data\n"
    host = on_ec2(make_host, moto_bucket, imds, leave_out=("host", "environment"))
    assigned(host, "data")
    host.start()
    host.wait_served("v1")
    assert host.status()["environment"] == "data"


def boot_as(host, imds, instance):
    """The disk comes up on another machine: nothing of what ran runs there."""
    host.stop()
    for pid in host.pids():
        os.kill(pid, signal.SIGKILL)
    wait_for("nothing runs", lambda: host.version() is None)
    imds.identity["instanceId"] = instance
    host.start()


def test_a_clone_is_a_new_host(make_host, moto_bucket, imds):
    """State made on another instance is set aside with a sentence: its hold, its records, its lease are not this host's."""
    host = on_ec2(make_host, moto_bucket, imds, leave_out=("host",))
    host.start()
    host.deploy("v1")
    path = bundle(os.path.join(host.dir, "hand.zip"), {"Procfile": "web: exec python3 server.py\n", "server.py": server_text("hand")})
    host.tendril("deploy", "--bundle", path, "--version", "hand", "--wait")
    assert host.status()["hold"]
    boot_as(host, imds, "i-0fedcba9876543210")
    host.wait_served("v1", 60)
    status = host.status()
    assert status["host"] == "i-0fedcba9876543210" and not status["hold"]
    assert any("i-0123456789abcdef0" in w and "set aside" in w for w in status["warnings"]), status["warnings"]
    assert os.listdir(host.path("var/lib/tendril/aside"))
    assert [d["label"] for d in host.history()] == ["v1"], "the records of the other host are not this one's"
    assert host.fsck()[0] == 0
    assert {n.split("/")[-1] for n in moto_bucket.names("environments/test/hosts/")} >= {"i-0fedcba9876543210.json"}


def test_the_same_instance_keeps_its_state(make_host, moto_bucket, imds):
    host = on_ec2(make_host, moto_bucket, imds, leave_out=("host",))
    host.start()
    host.deploy("v1")
    boot_as(host, imds, "i-0123456789abcdef0")
    wait_for("v1 is served again", lambda: host.version() == "v1", 30)
    assert not os.path.exists(host.path("var/lib/tendril/aside"))
    assert len(host.history()) >= 1


def test_a_clone_without_imds_at_its_start(make_host, moto_bucket, imds):
    """`imds`: nothing is asked of the store before it is known who this is, and what runs goes on."""
    host = on_ec2(make_host, moto_bucket, imds, leave_out=("host",), more=["identity: {source: imds}"])
    host.start()
    host.deploy("v1")
    host.kill()
    imds.down()
    host.start()
    assert host.version() == "v1"
    host.wait_silent("instance")
    imds.up()
    host.wait_answers(60)


def test_a_clone_that_learns_it_late(make_host, moto_bucket, imds):
    """`auto`, and the service answers only when the agent runs by the host's name already: from then on nothing is asked of the store in
    another's name; a restart sets the state aside."""
    host = on_ec2(make_host, moto_bucket, imds, leave_out=("host",))
    host.start()
    host.deploy("v1")
    host.kill()
    imds.down()
    imds.identity["instanceId"] = "i-0fedcba9876543210"
    host.start()
    assert host.version() == "v1"
    imds.up()
    host.wait_silent("another instance", seconds=60)
    host.web("v2")
    host.assign("v2")
    host.wait_silent("another instance")
    assert host.version() == "v1" and host.status()["desired"]["label"] == "v1"
    boot_as(host, imds, "i-0fedcba9876543210")
    host.wait_served("v2", 60)
    assert host.status()["host"] == "i-0fedcba9876543210"


def test_another_tag(make_host, moto_bucket, imds):
    imds.tags = {TAG: "wrong", "stage": "blue"}
    host = on_ec2(make_host, moto_bucket, imds, leave_out=("host", "environment"), more=["identity: {tag: stage}"])
    assigned(host, "blue")
    host.start()
    host.wait_served("v1")
    assert host.status()["environment"] == "blue"


def test_imds_is_asked_little(make_host, moto_bucket, imds):
    """One connection at a time, a token each: the service is throttled, and shares its packets with DNS."""
    host = on_ec2(make_host, moto_bucket, imds, leave_out=("host",))
    host.start()
    host.deploy("v1")
    assert imds.most_at_once == 1 and len(imds.paths("PUT")) <= 3
    assert len(imds.paths()) <= 30, imds.paths()
