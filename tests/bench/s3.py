#!/usr/bin/env python3
"""Figures of the S3 store: how fast an object of 512 MB comes, beside curl and the aws CLI, and what memory that takes.

usage: s3.py BUILD [NAME]

Starts a Ceph RGW on loopback (tests/aws/rgw) and puts the object there by tendril's own multipart upload. Then five rounds; in each, every
side fetches it once into a new file: fetch.c, which is tendril-net's transfer; curl with eight ranges in parallel, which go to eight files; the aws CLI as
it is by default, and with one connection. For the last two figures a forwarder (delay.c) holds each request back for 30 ms. Of fetch_awscli
the digest of the file is part of our time; the others compare transfers alone. Writing to the disk is outside of the time on all sides, by a sync before each; files are
removed after each.

One line a figure: NAME, value, unit, ratio, against what. The medians of all sides go to stderr.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
RGW = os.path.join(TOP, "tests", "aws", "rgw")
AWS = os.path.join(TOP, "build", "venv", "bin", "aws")
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
BYTES = int(os.environ.get("BENCH_BYTES", str(512 * 1024 * 1024)))
DELAY_MSEC = 30
RANGES = 8
LIBRARIES = ("-lcurl", "-lcrypto", "-lexpat", "-ljansson", "-lsystemd")

# figure: our side, the other side, the ratio that is to be reached, whether the digest is part of our time
FIGURES = {
    "fetch_curl": ("tendril", "curl", 0.9, False),
    "fetch_awscli": ("tendril", "awscli", 2.2, True),
    "fetch_awscli_30ms": ("tendril_30ms", "awscli_30ms", 1.5, False),
    "fetch_awscli_single": ("tendril_30ms", "awscli_single", 4.0, False),
    "fetch_peak_kb": ("tendril", None, 1.0, False),
}
PEAK_LIMIT_KB = 16 * 1024
WORDS = {
    "curl": f"curl, {RANGES} ranges in parallel, without a digest on either side",
    "awscli": "aws s3 cp, which verifies nothing here; ours with its digest",
    "awscli_30ms": f"aws s3 cp, {DELAY_MSEC} ms added to each request, without a digest on either side",
    "awscli_single": f"aws s3 cp with one connection, {DELAY_MSEC} ms added to each request, without a digest on either side",
}


def compile_c(source, to, *more):
    compiler = os.environ.get("CC", "cc")
    flags = ["-O2", "-g", "-pthread", "-D_GNU_SOURCE", "-I" + os.path.join(TOP, "include"), "-I" + os.path.join(TOP, "agent")]
    subprocess.run([compiler, *flags, "-Wl,--gc-sections", "-o", to, os.path.join(HERE, source), *more], check=True)


def free_port():
    """With its neighbour free too, which the gateway's monitor takes."""
    import socket
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            try:
                two.bind(("127.0.0.1", one.getsockname()[1] + 1))
            except (OSError, OverflowError):
                continue
            return one.getsockname()[1]


class Bench:
    def __init__(self, build, folder):
        self.folder, self.n = folder, 0
        self.fetch_program, delay = os.path.join(folder, "fetch"), os.path.join(folder, "delay")
        compile_c("fetch.c", self.fetch_program, os.path.join(build, "libtendril.a"), *LIBRARIES)
        compile_c("delay.c", delay)
        self.environment = dict(os.environ, AWS_ACCESS_KEY_ID="AKIDEXAMPLE", AWS_SECRET_ACCESS_KEY="SECRETEXAMPLE", AWS_REGION="us-east-1",
                                AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true", BENCH_BUCKET="bench",
                                AWS_CONFIG_FILE=os.path.join(folder, "none"), AWS_SHARED_CREDENTIALS_FILE=os.path.join(folder, "none"))
        self.single = os.path.join(folder, "single")
        with open(self.single, "w", encoding="ascii") as file:
            file.write("[default]\ns3 =\n  max_concurrent_requests = 1\n")
        port = free_port()
        self.near = subprocess.run([RGW, "up", os.path.join(folder, "rgw"), str(port)], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        self.forwarder = subprocess.Popen([delay, str(port), str(DELAY_MSEC)], stdout=subprocess.PIPE, text=True)
        self.far = f"http://127.0.0.1:{self.forwarder.stdout.readline().strip()}"
        self.make_object()

    def close(self):
        if hasattr(self, "forwarder"):
            self.forwarder.kill()
            self.forwarder.wait()
        subprocess.run([RGW, "down", os.path.join(self.folder, "rgw")], check=True)

    def make_object(self):
        path = os.path.join(self.folder, "source")
        with open(path, "wb") as file:
            for left in range(BYTES, 0, -(1 << 20)):
                file.write(os.urandom(min(left, 1 << 20)))
        self.aws(self.near, "s3api", "create-bucket", "--bucket", "bench")
        self.sha256 = self.fetch(self.near, "put", "big", path)[3]
        self.url = self.aws(self.near, "s3", "presign", "s3://bench/big").strip()
        os.unlink(path)

    def aws(self, endpoint, *words, **environment):
        done = subprocess.run([AWS, "--endpoint-url", endpoint, *words], check=True, stdout=subprocess.PIPE, text=True,
                              env=dict(self.environment, **environment))
        return done.stdout

    def fetch(self, endpoint, *words):
        done = subprocess.run([self.fetch_program, *words], check=True, stdout=subprocess.PIPE, text=True,
                              env=dict(self.environment, BENCH_ENDPOINT=endpoint))
        took, digest, peak, sha256 = done.stdout.split()
        return float(took), float(digest), int(peak), sha256

    # Each side: seconds, of it those of a digest, kilobytes.

    def from_tendril(self, endpoint, to):
        begin = time.monotonic()
        _, digest, peak, sha256 = self.fetch(endpoint, "get", "big", to, to + ".map")
        took = time.monotonic() - begin
        if sha256 != self.sha256:
            sys.exit("what was fetched is not what was put")
        return took, digest, peak

    def from_aws(self, endpoint, to, **environment):
        begin = time.monotonic()
        self.aws(endpoint, "s3", "cp", "s3://bench/big", to, **environment)
        return time.monotonic() - begin, 0, 0

    def tendril(self, to):
        return self.from_tendril(self.near, to)

    def tendril_30ms(self, to):
        return self.from_tendril(self.far, to)

    def awscli(self, to):
        return self.from_aws(self.near, to)

    def awscli_30ms(self, to):
        return self.from_aws(self.far, to)

    def awscli_single(self, to):
        return self.from_aws(self.far, to, AWS_CONFIG_FILE=self.single)

    def curl(self, to):
        each, words = (BYTES + RANGES - 1) // RANGES, ["curl", "--no-progress-meter", "--fail", "--parallel", "--parallel-max", str(RANGES)]
        for i in range(RANGES):
            words += ["--next"] if i else []
            words += ["--no-progress-meter", "--fail", "--range", f"{i * each}-{min((i + 1) * each, BYTES) - 1}", "--output", f"{to}.{i}", self.url]
        begin = time.monotonic()
        subprocess.run(words, check=True)
        took = time.monotonic() - begin
        if sum(os.path.getsize(f"{to}.{i}") for i in range(RANGES)) != BYTES:
            sys.exit("curl did not fetch all of it")
        return took, 0, 0

    def round(self, number, sides, results):
        # Each side is first in its turn.
        for i in range(len(sides)):
            side = sides[(number + i) % len(sides)]
            to = os.path.join(self.folder, "got")
            os.mkdir(to)
            os.sync()
            results[side].append(getattr(self, side)(os.path.join(to, "big")))
            shutil.rmtree(to)


def median(results, side, column):
    return statistics.median(row[column] for row in results[side])


def report(name, results):
    ours, other, goal, verified = FIGURES[name]
    if name == "fetch_peak_kb":
        peak = max(row[2] for row in results[ours])
        print(f"{name}\t{peak}\tkB\t{PEAK_LIMIT_KB / max(peak, 1):.2f}\t{PEAK_LIMIT_KB} kB more than idle (at least {goal})", flush=True)
        return
    seconds = statistics.median(row[0] - (0 if verified else row[1]) for row in results[ours])
    print(f"{name}\t{seconds:.2f}\ts\t{median(results, other, 0) / seconds:.2f}\t{WORDS[other]} (at least {goal})", flush=True)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    wanted = sys.argv[2:] or list(FIGURES)
    sides = list(dict.fromkeys(side for name in wanted for side in FIGURES[name][:2] if side))
    results = {side: [] for side in sides}
    folder = tempfile.mkdtemp(prefix="s3-", dir=os.environ.get("BENCH_DIR", sys.argv[1]))
    bench = Bench.__new__(Bench)
    try:
        bench.__init__(sys.argv[1], folder)
        for number in range(ROUNDS):
            bench.round(number, sides, results)
    finally:
        bench.close()
        shutil.rmtree(folder)

    for side in sides:
        print(f"# {side}: median {median(results, side, 0):.2f} s of", " ".join(f"{row[0]:.2f}" for row in results[side]), file=sys.stderr)
    for name in wanted:
        report(name, results)


if __name__ == "__main__":
    main()
