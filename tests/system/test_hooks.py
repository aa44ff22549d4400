"""Hooks: order, environment, exit codes, time-outs, what they leave behind, and what is kept of their output."""

import json
import os
import signal

from host import alive, wait_for


def hook(text):
    return "#!/bin/sh\n" + text


def host_hook(host, phase, name, text):
    folder = host.path("etc/tendril/hooks", phase)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.write(hook(text))
    os.chmod(path, 0o755)


def test_order_and_context(agent):
    out = os.path.join(agent.dir, "out")
    say = 'echo "$TENDRIL_PHASE $TENDRIL_HOOK $(pwd)" >> %s\n' % out
    host_hook(agent, "prebuild", "50-host", say)
    agent.web("v1", files={
        ".platform/hooks/prebuild/20-b": hook(say),
        ".platform/hooks/prebuild/10-a": hook(say + 'env > %s.env\ncp "$TENDRIL_CONTEXT" %s.json\n' % (out, out)),
        ".platform/hooks/predeploy/10-c": hook(say),
        ".platform/hooks/postdeploy/10-d": hook(say),
        "Buildfile": "make: echo built > built.txt\n",
    })
    agent.deploy("v1")
    with open(out) as f:
        lines = f.read().split("\n")
    staging = "/var/app/staging"
    assert [l.split()[0] for l in lines if l] == ["prebuild"] * 3 + ["predeploy", "postdeploy"]
    assert "50-host" in lines[0] and "10-a" in lines[1] and "20-b" in lines[2]
    assert lines[1].endswith(staging) and lines[3].endswith(staging) and lines[4].endswith("/var/app/current")
    with open(out + ".env") as f:
        env = dict(l.rstrip("\n").split("=", 1) for l in f if "=" in l)
    assert env["EB_IS_COMMAND_LEADER"] == "true" and env["TENDRIL_VERSION"] == "v1" and env["HOME"] and env["PATH"]
    assert "LD_PRELOAD" not in env
    with open(out + ".json") as f:
        assert json.load(f)["version"] == "v1"
    served = os.path.realpath(agent.path("var/app/current"))
    assert os.path.exists(os.path.join(served, "built.txt"))


def test_failure_names_the_hook_and_keeps_its_output(agent):
    agent.web("v1")
    agent.web("v2", files={".platform/hooks/predeploy/30-bad": hook("echo the database is away\nexit 3\n")})
    agent.deploy("v1")
    agent.assign("v2")
    record = agent.wait_ended(2)
    assert record["outcome"] == "failed" and record["stage"] == "prepare"
    assert "30-bad" in record["error"] and "exit 3" in record["error"]
    bad = [h for h in record["hooks"] if h["name"] == "30-bad"][0]
    assert "the database is away" in bad["tail"]
    assert "the database is away" in agent.tendril("logs", record["id"]).stdout
    assert agent.version() == "v1"
    # Not tried again on its own.
    assert agent.status()["quarantine"][0]["label"] == "v2"


def test_retry_later(agent):
    mark = os.path.join(agent.dir, "ready")
    agent.web("v1", files={".platform/hooks/prebuild/10-wait": hook("[ -e %s ] || exit 75\n" % mark)})
    agent.assign("v1")
    record = agent.wait_ended(1)
    assert record["outcome"] == "retry" and "try again" in record["error"]
    open(mark, "w").close()
    agent.wait_served("v1", 60)


def test_time_out_ends_all_of_it(agent):
    agent.configure(hook_timeout=1)
    agent.tendril("reload")
    pid_file = os.path.join(agent.dir, "pid")
    agent.web("v1")
    agent.web("v2", files={".platform/hooks/prebuild/10-hang": hook("trap '' TERM\necho $$ > %s\nsleep 1000 &\nwait\nsleep 1000\n" % pid_file)})
    agent.deploy("v1")
    agent.assign("v2")
    record = agent.wait_ended(2)
    assert "10-hang" in record["error"] and "time out" in record["error"]
    with open(pid_file) as f:
        pid = int(f.read())
    wait_for("the hook is gone", lambda: not alive(pid), 10)
    assert agent.version() == "v1"


def test_daemon_of_a_version_is_kept_and_told_that_of_the_host_is_ended(agent):
    pids = os.path.join(agent.dir, "pids")
    daemon = "setsid sleep 1000 >/dev/null 2>&1 & echo $! >> %s\n" % pids
    held = "sleep 1000 & echo $! >> %s\n" % pids  # holds the output open
    host_hook(agent, "prebuild", "10-host", daemon)
    agent.web("v1", files={".platform/hooks/prebuild/20-version": hook(held)})
    agent.deploy("v1")
    with open(pids) as f:
        host_pid, version_pid = map(int, f.read().split())
    try:
        record = agent.history()[0]
        by_name = {h["name"]: h for h in record["hooks"]}
        assert by_name["20-version"]["survivors"] is True
        assert os.path.exists("/proc/%d" % version_pid)
        if os.path.exists("/sys/fs/cgroup/unified") or os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            wait_for("the host hook's daemon is ended", lambda: not alive(host_pid), 10)
    finally:
        for p in (host_pid, version_pid):
            if os.path.exists("/proc/%d" % p):
                os.kill(p, signal.SIGKILL)


def test_messages_and_secrets(agent):
    agent.web("v1", files={".platform/hooks/prebuild/10-say": hook(
        'echo "tendril: migrating 3 tables"\necho "password is $DB_PASSWORD"\n')})
    agent.assign("v1", args=("--set", "aws:elasticbeanstalk:application:environment:DB_PASSWORD=hunter2secret"))
    agent.wait_served("v1")
    record = agent.history()[0]
    assert any("migrating 3 tables" in e["text"] for e in record["events"])
    assert "hunter2secret" not in json.dumps(record)
    assert any("password is ***" in line for line in record["hooks"][0]["tail"])
    assert "hunter2secret" not in agent.log()


def test_postdeploy_failure_rolls_back(agent):
    agent.web("v1")
    agent.web("v2", files={".platform/hooks/postdeploy/10-no": hook("exit 1\n")})
    agent.deploy("v1")
    agent.assign("v2")
    record = agent.wait_ended(2)
    assert record["outcome"] == "rolled-back" and record["stage"] == "gate"
    assert agent.version() == "v1"
    assert agent.fsck()[0] == 0


def test_reboot_and_resume_behind_the_hook(agent):
    out = os.path.join(agent.dir, "out")
    agent.web("v1", files={
        ".platform/hooks/prebuild/10-before": hook("echo before >> %s\n" % out),
        ".platform/hooks/prebuild/20-reboot": hook("echo reboot >> %s\nexit 194\n" % out),
        ".platform/hooks/prebuild/30-after": hook("echo after >> %s\n" % out),
    })
    agent.assign("v1")
    wait_for("it waits for the reboot", lambda: "reboot" in agent.status()["waiting"])
    agent.kill()
    # The same boot: the hook's wish is not fulfilled, so the deploy goes on waiting.
    agent.start()
    wait_for("it waits again", lambda: "reboot" in agent.status()["waiting"])
    agent.kill()
    with open(out) as f:
        assert f.read().split() == ["before", "reboot"]
    # Another boot, as a container has it: another PID 1.
    agent.start(wrapper=("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"))
    agent.wait_served("v1")
    with open(out) as f:
        assert f.read().split() == ["before", "reboot", "after"]
