#!/usr/bin/env python3
"""Two agents on one medium: a stream, round trips and rest, beside what fio does with the same disk, in interleaved rounds.

disk.py [--rounds N] [--seconds N] [--on FOLDER] [--smoke] [--output docs/BENCHMARKS.md]
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
for tests in ("Commands", "Agent"):
    sys.path.insert(0, str(HERE.parent / "Tests" / tests))
import agents  # noqa: E402

import processor_time  # noqa: E402
import table  # noqa: E402

MARKS = ("<!-- figures of Benchmarks/disk.py: begin -->", "<!-- figures of Benchmarks/disk.py: end -->")
SIZE = "64M"  # of the medium, and of fio's file
SEALS = {"plaintext": True, "sealed": False}


class Session:
    """Where the measurements are done, and how long each takes."""

    def __init__(self, options, folder, disk):
        self.folder, self.disk = folder, disk
        self.seconds = 0.2 if options.smoke else options.seconds
        self.round_trips = 100 if options.smoke else 2000
        # The scheduler's share of a core is small, and so is what is measured of it.
        self.rest = 0.5 if options.smoke else max(10, options.seconds)
        self.streams = folder / "streams"
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-pthread", "-o", self.streams, HERE / "streams.c"], check=True)

    def fio(self):
        """What the disk does without agents: bytes a second through it, microseconds of a write and a read of a unit."""
        # As with a stream, as much is read as is written.
        batch = ["--bs=1M", "--ioengine=io_uring", "--iodepth=4", "--flow_id=1", "--flow=1"]
        unit = ["--bs=4k", "--ioengine=psync"]
        both = self.run_fio(["--name=write", "--rw=write", "--sync=dsync", *batch, "--name=read", "--rw=read", *batch])
        write = self.run_fio(["--name=write", "--rw=randwrite", "--sync=dsync", *unit])[0]["write"]
        read = self.run_fio(["--name=read", "--rw=randread", *unit])[0]["read"]
        return {"stream": min(both[0]["write"]["bw_bytes"], both[1]["read"]["bw_bytes"]) / 1e6,
                "round trip": sum(side["clat_ns"]["percentile"]["50.000000"] for side in (write, read)) / 1000}

    def run_fio(self, jobs):
        shared = [f"--filename={self.disk / 'fio'}", f"--size={SIZE}", "--direct=1", "--time_based",
                  f"--runtime={round(self.seconds * 1000)}ms", "--output-format=json"]
        result = subprocess.run(["fio", *shared, *jobs], capture_output=True, text=True, timeout=60 + 10 * self.seconds)
        if result.returncode != 0:
            raise RuntimeError(f"fio ended with {result.returncode}: {(result.stdout + result.stderr)[-500:]}")
        return json.loads(result.stdout[result.stdout.index("{"):])["jobs"]

    def agents(self, is_plain):
        """The same of two agents that have just met."""
        with tempfile.TemporaryDirectory(prefix="hosts-", dir=self.folder) as hosts, \
                agents.pair(pathlib.Path(hosts), on=self.disk, isPlain=is_plain, size=SIZE, timeout="1s") as (_, *pair):
            found = {}
            # The first lap of a ring writes where the file system has nothing yet.
            self.stream(pair, "bulk", 0.5)
            before = processor_seconds(pair)
            size, nanoseconds = self.stream(pair, "bulk", self.seconds)
            found["stream"] = size * 1000 / nanoseconds
            found["processor"] = (processor_seconds(pair) - before) * 1e9 / size
            found["round trip"], found["99th"] = (time / 1000 for time in self.stream(pair, "ping", self.round_trips))
            time.sleep(min(1, self.rest))
            before, start = processor_seconds(pair), time.monotonic()
            time.sleep(self.rest)
            found["rest"] = (processor_seconds(pair) - before) / len(pair) / (time.monotonic() - start) * 100
            return found

    def stream(self, pair, what, amount):
        sockets = [agent.folder / "runtime" / "agent.sock" for agent in pair]
        said = subprocess.run([self.streams, what, *sockets, str(amount)], capture_output=True, text=True,
                              timeout=60 + 10 * self.seconds)
        if said.returncode != 0:
            raise RuntimeError(f"streams {what} ended with {said.returncode}: {said.stderr}")
        return [int(word) for word in said.stdout.split()]


def processor_seconds(pair):
    return sum(processor_time.seconds_of_process(agent.process.pid) for agent in pair)


def measure(options, session):
    """A list of each kind's figures, one a round."""
    figures = {"fio": [], **{seal: [] for seal in SEALS}}
    for number in range(1, options.rounds + 1):
        figures["fio"].append(session.fio())
        for seal, is_plain in SEALS.items():
            figures[seal].append(session.agents(is_plain))
        for kind, found in figures.items():
            said = ", ".join(f"{name} {table.number(value)}" for name, value in found[-1].items())
            print(f"round {number}: {kind}: {said}", file=sys.stderr, flush=True)
    return figures


# --- the table

def render(figures, rounds):
    lines = [f"{table.machine(rounds).split('; ratios')[0]}.", "",
             "| measured | unit | plaintext | sealed | fio | plaintext to fio | sealed to fio | target |",
             "|---|---|--:|--:|--:|--:|--:|--:|"]
    for title, unit, name, target in (
            ("one stream", "MB/s", "stream", "0.50 or more"),
            ("round trip of 64 B, median", "µs", "round trip", "4 or less"),
            ("round trip of 64 B, 99th percentile", "µs", "99th", ""),
            ("one stream: processor time of both agents", "s/GB", "processor", ""),
            ("an agent at rest: processor time", "% of a core", "rest", "less than 1")):
        values = [median(figures[kind], name) for kind in (*SEALS, "fio")]
        ratios = [f"{value / values[-1]:.2f}" if values[-1] else "" for value in values[:-1]]
        lines.append(f"| {title} | {unit} | {' | '.join([*map(table.number, values), *ratios])} | {target} |")
    return "\n".join(lines)


def median(found, name):
    return statistics.median(figure[name] for figure in found) if name in found[0] else None


def main():
    options = parse()
    if not shutil.which("fio"):
        sys.exit("fio is not installed (Tests/Programs/install.sh)")
    with tempfile.TemporaryDirectory(prefix="skein-bench-") as folder, \
            tempfile.TemporaryDirectory(prefix="skein-bench-", dir=options.on) as disk:
        text = render(measure(options, Session(options, pathlib.Path(folder), pathlib.Path(disk))), options.rounds)
    print(text)
    if options.output:
        table.put_into(options.output, text, MARKS)
    print("5 passed, 0 failed")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--seconds", type=float, default=3, metavar="N", help="of each measurement")
    parser.add_argument("--on", default="/var/tmp", metavar="FOLDER", help="on the disk that is measured (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="one short round: do the measurements work at all?")
    parser.add_argument("--output", metavar="FILE", help="put the table into this document, between its marks")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("there is at least one round, of some time")
    if options.smoke:
        options.rounds = 1
    return options


if __name__ == "__main__":
    main()
