"""What the figures share."""

import os

BUILD = os.environ["TENDRIL_BUILD"]


def line(name, value, unit, ratio, against):
    print("%s\t%s\t%s\t%.2f\t%s" % (name, value, unit, ratio, against), flush=True)


def pss_kb(host):
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.path.dirname(os.readlink("/proc/%s/exe" % pid)) != BUILD:
                continue
            with open("/proc/%s/cmdline" % pid) as f:
                main = f.read()
            with open("/proc/%s/smaps_rollup" % pid) as f:
                pss = next(int(l.split()[1]) for l in f if l.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
        if host.root in main or "tendril-" in main:
            total += pss
    return total
