#!/usr/bin/env python3
"""How fast a bundle becomes a folder, beside bsdtar, unzip, and what the machine could do at most.

usage: extract.py BUILD [NAME]

Makes a zip of 200 MB and 5,000 entries as a war has them: many small classes that compress well, some jars that do not. Then seven
rounds; in each, every side unpacks it once into a folder of its own. Tendril's side is two runs of the real tendril-bundle over its call channel,
verify and unpack, as a deploy has them; the limit's side is limit.c: one SHA-256 pass, and then as many bare processes as cores that only
inflate and write. Nothing is deleted before the end: ext4 does not give out the inodes of the last minute again, and searches for others, ever longer.
sync is outside of the time on all sides; tendril-bundle's own syncfs is made to do nothing.

One line a figure: NAME, value, unit, ratio, against what. The medians of all sides go to stderr.
"""

import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
TOTAL_BYTES, ENTRIES, JARS = 200_000_000, 5000, 70
CALL_FD = 3

NO_SYNC = "int syncfs(int fd); int syncfs(int fd) { (void) fd; return 0; }\n"

# figure: against what, the ratio that is to be reached
FIGURES = {
    "extract_bsdtar": ("bsdtar", 1.5),
    "extract_unzip": ("unzip", 2.5),
    "extract_limit": ("limit", 0.9),
}


def class_like(rng, words, size):
    """Bytes that compress about as a class file does: names from a common stock, and some that are only its own."""
    out = bytearray(b"\xca\xfe\xba\xbe\0\0\0\x37")
    while len(out) < size:
        out += b"\1\0" + bytes([rng.randint(4, 40)]) + rng.choice(words) + b"()V"
        if rng.random() < 0.5:
            out += rng.randbytes(8)
    return bytes(out[:size])


def make_zip(path):
    rng = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [("java/lang/" + "".join(rng.choice(letters) for _ in range(rng.randint(4, 12)))).encode() for _ in range(3000)]
    small = [max(300, min(int(rng.lognormvariate(8.9, 0.9)), 200_000)) for _ in range(ENTRIES - JARS)]
    large = (TOTAL_BYTES - sum(small)) // JARS
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for i in range(JARS):
            archive.writestr(f"WEB-INF/lib/library-{i}-1.{i}.jar", rng.randbytes(large + rng.randint(-large // 2, large // 2)))
        for i, size in enumerate(small):
            archive.writestr(f"WEB-INF/classes/com/acme/app/module{i // 25}/sub{i % 3}/Class{i}.class", class_like(rng, words, size))


def ask(program, environment, method, fds):
    """One run of tendril-bundle: a request with descriptors, its answer."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            child = subprocess.Popen([program], env=environment, close_fds=False,
                                     preexec_fn=lambda: os.dup2(theirs.fileno(), CALL_FD))
        socket.send_fds(ours, [json.dumps({"id": 1, "method": method, "parameters": {}}).encode()], fds)
        answer = json.loads(ours.recv(65536))
        child.wait()
    if "answer" not in answer:
        sys.exit(f"tendril-bundle {method}: {answer}")
    return answer["answer"]


def compile_c(source, to, *flags):
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-D_GNU_SOURCE", "-o", to, source, *flags], check=True)


class Bench:
    def __init__(self, build, folder):
        self.folder, self.program = folder, os.path.join(build, "tendril-bundle")
        self.zip = os.path.join(folder, "war.zip")
        self.limit_program = os.path.join(folder, "limit")
        no_sync = os.path.join(folder, "no-sync")
        with open(no_sync + ".c", "w", encoding="ascii") as file:
            file.write(NO_SYNC)
        compile_c(no_sync + ".c", no_sync + ".so", "-shared", "-fPIC")
        compile_c(os.path.join(HERE, "limit.c"), self.limit_program, "-lz", "-lcrypto")
        self.environment = dict(os.environ, LD_PRELOAD=no_sync + ".so")
        make_zip(self.zip)

    def tendril(self, to):
        begin = time.monotonic()
        bundle, folder = os.open(self.zip, os.O_RDONLY), os.open(to, os.O_RDONLY | os.O_DIRECTORY)
        ask(self.program, self.environment, "verify", [bundle])
        ask(self.program, self.environment, "unpack", [bundle, folder])
        os.close(bundle)
        os.close(folder)
        return time.monotonic() - begin

    def bsdtar(self, to):
        begin = time.monotonic()
        subprocess.run(["bsdtar", "-xf", self.zip, "-C", to], check=True)
        return time.monotonic() - begin

    def unzip(self, to):
        begin = time.monotonic()
        subprocess.run(["unzip", "-q", self.zip, "-d", to], check=True)
        return time.monotonic() - begin

    def limit(self, to):
        return float(subprocess.run([self.limit_program, self.zip, to], check=True, stdout=subprocess.PIPE).stdout)

    def round(self, number, sides, times):
        # Each side is first in its turn: what is first pays for the memory that the last one freed.
        for i in range(len(sides)):
            side = sides[(number + i) % len(sides)]
            to = os.path.join(self.folder, f"{side}-{number}")
            os.mkdir(to)
            os.sync()
            times[side].append(getattr(self, side)(to))


def same_trees(a, b):
    return subprocess.run(["diff", "-r", "-q", a, b], check=False).returncode == 0


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    wanted = sys.argv[2:] or list(FIGURES)
    sides = ["tendril"] + [FIGURES[name][0] for name in wanted]
    times = {side: [] for side in sides}
    folder = tempfile.mkdtemp(prefix="extract-", dir=os.environ.get("BENCH_DIR", sys.argv[1]))
    try:
        bench = Bench(sys.argv[1], folder)
        for number in range(ROUNDS):
            bench.round(number, sides, times)
        if not same_trees(*[os.path.join(folder, f"{side}-0") for side in sides[:2]]):
            sys.exit("the sides did not unpack the same")
    finally:
        shutil.rmtree(folder)

    for side in sides:
        print(f"# {side}: median {statistics.median(times[side]) * 1000:.0f} ms of",
              " ".join(f"{t * 1000:.0f}" for t in times[side]), file=sys.stderr)
    ours = statistics.median(times["tendril"])
    for name in wanted:
        side, goal = FIGURES[name]
        ratio = statistics.median(times[side]) / ours
        words = f"{side} (at least {goal})" if side != "limit" else \
            f"{os.cpu_count()} bare processes behind one SHA-256 pass (at least {goal})"
        print(f"{name}\t{ours * 1000:.0f}\tms\t{ratio:.2f}\t{words}")


if __name__ == "__main__":
    main()
