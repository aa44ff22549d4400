#!/usr/bin/env python3
"""Figures of a host that has nothing to do and whose store is a bucket (Ceph RGW, plain http): poll_bytes, idle_s3_pss_kb.

A line each: NAME <tab> value <tab> unit <tab> ratio <tab> against what. The ratio is of the limit to the value: 1 or more is within.
"""

import os
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "aws")]
from figure import line, pss_kb  # noqa: E402
from proxy import Proxy  # noqa: E402
from world import S3Host, Started, wait_for  # noqa: E402



def sockets(host):
    """The network sockets of the host's tendril-net."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as f:
                if int(f.read().rsplit(")", 1)[1].split()[1]) != host.agent.pid:
                    continue
            with open("/proc/%s/net/tcp" % pid) as f:
                tcp = {l.split()[9] for l in f.readlines()[1:] if l.split()[3] == "01"}
            for fd in os.listdir("/proc/%s/fd" % pid):
                inode = os.readlink("/proc/%s/fd/%s" % (pid, fd))
                if inode.startswith("socket:[") and inode[8:-1] in tcp:
                    found.add(inode)
        except (OSError, IndexError):
            continue
    return found


def poll_bytes(server):
    with Proxy(server.endpoint) as proxy:
        h = S3Host(server.bucket(), endpoint=proxy.endpoint, poll=0.5)
        try:
            h.web("v1")
            h.start()
            h.deploy("v1")
            wait_for("only polls are left", lambda: [s.request.path.rsplit("/", 1)[1] for s in proxy.seen[-6:]] == ["rollout.json"] * 6, 60)
            last = proxy.seen[-1].request
            return len(last.bytes()), proxy.seen[-1].status
        finally:
            h.close()


def idle(server):
    """PSS of all of the agent's processes; and whether tendril-net keeps its connection from one poll to the next."""
    h = S3Host(server.bucket(), poll=1)
    try:
        h.web("v1")
        h.start()
        h.deploy("v1")
        before = sockets(h)
        time.sleep(5)
        return pss_kb(h), bool(before & sockets(h))
    finally:
        h.close()


def main():
    wanted = sys.argv[1:] or ["poll_bytes", "idle_s3_pss_kb"]
    with tempfile.TemporaryDirectory() as d:
        started = Started(d)
        try:
            server = started.up("rgw")
            if "poll_bytes" in wanted:
                n, status = poll_bytes(server)
                line("poll_bytes", n, "bytes", 600 / n, "at most 600 bytes sent a poll, without a role's token (the answer: %d)" % status)
            if "idle_s3_pss_kb" in wanted:
                pss, kept = idle(server)
                line("idle_s3_pss_kb", pss, "kB", 10000 / pss, "at most 10 MB over http (the connection is %skept between polls)" % ("" if kept else "NOT "))
        finally:
            started.close()


main()
