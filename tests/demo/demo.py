"""The narrated demo: one host brings itself to the assigned version, under load, and back when a version is broken."""

import ctypes
import os
import shutil
import signal
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
from host import BUILD, Host, Load, bundle, wait_for  # noqa: E402

APP = os.path.join(HERE, "..", "app")
PR_SET_CHILD_SUBREAPER = 36


def say(text=""):
    print(text, flush=True)


def step(number, text):
    say("\n\033[1m%d. %s\033[0m" % (number, text) if sys.stdout.isatty() else "\n%d. %s" % (number, text))


def show(host, *args):
    """A command as a person types it, and what it says."""
    say("   $ tendril " + " ".join(args))
    for line in host.tendril(*args).stdout.rstrip().splitlines():
        say("     " + line)


def files_of(version, fails=False):
    files = {"VERSION": version + "\n"}
    if fails:
        files["fails"] = ""
    for folder, _, names in os.walk(APP):
        for name in names:
            path = os.path.join(folder, name)
            if not name.endswith(".pyc"):
                with open(path, "rb") as f:
                    files[os.path.relpath(path, APP)] = f.read()
    if os.geteuid() != 0:
        # Without a view of its own a process finds its version below DIR alone, as its working folder.
        files["Procfile"] = files["Procfile"].replace(b"/var/app/current/", b"")
    return files


def publish(host, version, **kw):
    path = bundle(os.path.join(host.dir, "shop-%s.zip" % version), files_of(version, **kw))
    show(host, "publish", path, "--app", "shop", "--version", "v" + version)
    show(host, "assign", "--env", "test", "--app", "shop", "--version", "v" + version)


def one(host):
    step(1, "A store is a folder. A host is told its environment and its store in tendril.yaml.")
    say("     store  %s" % host.store)
    say("     host   %s (everything of it stands below %s)" % (host.name, host.root))
    step(2, "Version 1 of a small web application is published and assigned; the agent starts and brings it here.")
    publish(host, "1")
    host.start()
    show(host, "wait", "--healthy", "--timeout", "50")
    say("   $ curl http://localhost:%d/     (nginx, in front of it)" % host.port)
    say("     " + host.get()[1].strip())


def lost_nothing(host, load):
    """Whether no request failed. An ordinary user has no view for each version: one at a time, with a gap, which the record tells."""
    record = host.history()[0]
    if record["overlap"] == "none":
        say("     one version at a time (%s): nobody answered for %d ms" % (record["overlap_why"], record["gap_ms"]))
        return os.geteuid() != 0
    for failure in load.failures[:5]:
        say("     failed: " + failure)
    return not load.failures


def two(host):
    step(3, "Version 2 is assigned while clients ask without a pause.")
    with Load(host, clients=4) as load:
        publish(host, "2")
        host.wait_served("v2")
        wait_for("clients see version 2", lambda: "2" in load.versions)
    say("     %d requests, %d failed; versions seen: %s" % (load.n, len(load.failures), ", ".join(sorted(load.versions))))
    return lost_nothing(host, load)


def turned_back_ms(host, deploy):
    """From the verdict of the gate to the slot turned back, by the deploy's own stages."""
    took = {s["name"]: s["took_ms"] for s in deploy["stages"]}
    return took["rollback"]


def three(host):
    step(4, "Version 3 is broken: well at first, then its health check fails. The gate notices, and the host goes back by itself.")
    with Load(host, clients=4) as load:
        publish(host, "3", fails=True)
        record = host.wait_ended(3)
    ms = turned_back_ms(host, record)
    say("     %s: back on version %s %d ms after the verdict; %d requests meanwhile, %d failed"
        % (record["outcome"], host.version(), ms, load.n, len(load.failures)))
    good = lost_nothing(host, load)
    show(host, "explain")
    return good and record["outcome"] == "rolled-back" and host.version() == "2" and ms < 1000


def around(host):
    step(5, "To look around by hand (KEEP=1 make demo leaves it running until you press Enter):")
    command = "%s --root %s" % (os.path.join(BUILD, "tendril"), host.root)
    for verb in ("status", "status --watch", "history", "logs", "explain", "config show", "fsck", "rollback --wait", "deploy --retry --help"):
        say("     %s %s" % (command, verb))


def tell_why(host):
    try:
        show(host, "explain")
    except Exception as error:
        say("     (%s)" % error)


def children(states=""):
    """Pids of this process's children, of those in one of these states ("Z"), or of all."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % entry) as f:
                state, parent = f.read().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and (not states or state in states):
                yield int(entry)
        except (OSError, ValueError):
            pass


def reap(pids):
    for pid in pids:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass


def end_all(host):
    """The host, and what outlived it and its cgroup (an ordinary user has none): children of this process by then."""
    closed = threading.Event()

    def reap_until_closed():
        while not closed.wait(0.05):
            reap(children("Z"))

    thread = threading.Thread(target=reap_until_closed)
    thread.start()
    try:
        host.close()
    finally:
        closed.set()
        thread.join()
        for _ in range(100):
            left = list(children())
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            reap(left)


def main():
    began = time.monotonic()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    host = Host(path="/health", interval=0.2, consecutive=3, gate_timeout=3, check_timeout=1, drain_timeout=3, poll=0.5)
    good = False
    try:
        one(host)
        good = two(host)
        good = three(host) and good
        around(host)
        if os.environ.get("KEEP"):
            input("\n   Press Enter to end it all. ")
    except KeyboardInterrupt:
        say("\n   Interrupted.")
    except Exception as error:  # told in words below, with what the agent has to say
        say("\n   It went wrong: %s" % error)
        tell_why(host)
    finally:
        end_all(host)
    left = os.path.exists(host.dir)
    say("\n%s in %.0f s; everything was ended, and %s." % ("The demo went well" if good else "THE DEMO FAILED", time.monotonic() - began,
                                                       "LEFT BEHIND: " + host.dir if left else "nothing is left"))
    sys.exit(0 if good and not left else 1)


if __name__ == "__main__":
    if not shutil.which("nginx") and not os.path.exists("/usr/sbin/nginx"):
        sys.exit("the demo needs nginx: `make deps` installs it")
    main()
