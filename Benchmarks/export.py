#!/usr/bin/env python3
"""`skein export` beside nbdkit, qemu-nbd and nbd-server, under fio's load on the same file, in interleaved rounds.

export.py [--rounds N] [--seconds N] [--smoke] [--filter TEXT] [--output docs/BENCHMARKS.md]
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Tests" / "Programs"))
from support import namespace  # noqa: E402

import table  # noqa: E402
from export_servers import CHECKOUT, SERVERS, SKEIN, Serving  # noqa: E402

MARKS = ("<!-- figures of Benchmarks/export.py: begin -->", "<!-- figures of Benchmarks/export.py: end -->")
IMAGE = 256 << 20
PEERS = [name for name in SERVERS if name != "skein"]
# Skein's server and fio both under `skein run`, so that TCP goes through memory.
MEMORY = "skein run"
PROGRAMS = ("fio", "nbdkit", "qemu-nbd", "nbd-server")
CALL_PATH = CHECKOUT / "build/tests/callpath"
CARRIERS = {"unix": "Unix", "tcp": "TCP", "tls": "TLS"}
PORTS = itertools.count(12000)  # the namespace is ours: all are free


@dataclasses.dataclass
class Row:
    """One load: fio's words for it, and where."""
    pattern: str
    depth: int
    carrier: str  # unix, tcp or tls
    jobs: int = 1
    medium: str = "tmpfs"  # or disk, with its file in the page cache, or cold
    target: float | None = None  # what the ratio to the best peer is to be

    @property
    def block(self):
        return "4k" if self.pattern.startswith("rand") else "1M"

    @property
    def is_write(self):
        return self.pattern.endswith("write")

    @property
    def title(self):
        what = {"randread": "4 KiB random read", "randwrite": "4 KiB random write",
                "read": "1 MiB sequential read", "write": "1 MiB sequential write"}[self.pattern]
        many = f"{self.jobs} connections at depth" if self.jobs > 1 else "depth"
        medium = {"tmpfs": "", "disk": ", disk file in the page cache", "cold": ", disk file not in the page cache"}
        return f"{what}, {many} {self.depth}, {CARRIERS[self.carrier]}{medium[self.medium]}"


@dataclasses.dataclass
class Figure:
    rate: float  # requests a second
    p99: float  # microseconds
    processor: float  # of the server, microseconds a request
    spread: float | None = None  # the fastest connection to the slowest


ROWS = [
    *[Row("randread", depth, carrier, target=1.15) for carrier in ("unix", "tcp") for depth in (1, 32)],
    *[Row("randwrite", 32, carrier, target=1.0) for carrier in ("unix", "tcp")],
    *[Row(pattern, 4, carrier, target=1.05) for carrier in ("unix", "tcp") for pattern in ("read", "write")],
    *[Row("randread", 32, carrier, jobs=4, target=1.2) for carrier in ("unix", "tcp")],
    Row("randread", 32, "tls"),
    Row("read", 4, "tls"),
    Row("randread", 1, "unix", medium="disk"),
    Row("randread", 32, "unix", medium="disk"),
    Row("randwrite", 32, "unix", medium="disk"),
    Row("read", 4, "unix", medium="disk"),
    Row("randread", 1, "unix", medium="cold"),
    Row("randread", 32, "unix", medium="cold"),
]


def smallest_set():
    """One row of each kind."""
    return list({(row.pattern, row.medium, row.jobs, row.carrier == "tls"): row for row in ROWS}.values())


class Session:
    """What all measurements share: the files, and how long each takes."""

    def __init__(self, options, disk, memory):
        self.seconds = 0.1 if options.smoke else options.seconds
        self.folder = disk
        self.images = {"tmpfs": memory / "disk.img", "disk": disk / "disk.img"}
        self.images["cold"] = self.images["disk"]
        block = os.urandom(1 << 20)
        for path in set(self.images.values()):
            with open(path, "wb") as file:
                for _ in range((32 << 20 if options.smoke else IMAGE) >> 20):
                    file.write(block)
                os.fsync(file.fileno())

    def measure(self, row, name):
        image = self.images[row.medium]
        with open(image, "rb") as file:
            if row.medium == "cold":
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            elif row.medium == "disk":
                while file.read(1 << 20):
                    pass
        prefix = [str(SKEIN), "run", "--"] if name == MEMORY else []
        with tempfile.TemporaryDirectory(prefix="serving-", dir=self.folder) as folder:
            server = "skein" if name == MEMORY else name
            with Serving(server, image, pathlib.Path(folder), row.carrier, next(PORTS), prefix) as serving:
                before = serving.processor_seconds()
                jobs = self.load(row, serving, prefix)
                used = serving.processor_seconds() - before
        sides = [job["write" if row.is_write else "read"] for job in jobs]
        rates = [side["iops"] for side in sides]
        done = sum(side["total_ios"] for side in sides)
        return Figure(
            rate=sum(rates), p99=statistics.median(side["clat_ns"]["percentile"]["99.000000"] / 1000 for side in sides),
            processor=used * 1e6 / done, spread=max(rates) / min(rates) if len(rates) > 1 else None)

    def load(self, row, serving, prefix):
        """Runs fio; what it tells of each connection."""
        command = [*prefix, "fio", "--name=load", "--ioengine=nbd", f"--uri={serving.client_uri}", f"--rw={row.pattern}",
                   f"--bs={row.block}", f"--iodepth={row.depth}", f"--numjobs={row.jobs}", "--time_based", "--thread",
                   f"--runtime={round(self.seconds * 1000)}ms", "--randrepeat=0", "--norandommap", "--output-format=json"]
        environment = os.environ | {"SKEIN_DIR": str(serving.folder), "HOME": str(serving.folder)}
        result = subprocess.run(command, capture_output=True, text=True, timeout=60 + 10 * self.seconds, env=environment,
                                cwd=serving.folder)
        if result.returncode != 0:
            raise RuntimeError(f"fio ended with {result.returncode}: {(result.stdout + result.stderr)[-500:]}")
        return json.loads(result.stdout[result.stdout.index("{"):])["jobs"]


def servers_of(row):
    # nbd-server refuses the certificate that the others serve with.
    servers = [name for name in SERVERS if row.carrier != "tls" or name != "nbd-server"]
    return [*servers, *([MEMORY] if row.carrier == "tcp" else [])]


def call_path(options):
    """The direct call path beside layers, without sockets: lines of a table."""
    amount = ["2000", "1"] if options.smoke else []
    said = subprocess.run([CALL_PATH, *amount], capture_output=True, text=True, timeout=300, check=True)
    lines = ["", "| the call path alone: processor time, microseconds a request | direct | by layers | by layers and another thread |",
             "|---|--:|--:|--:|"]
    for figures in map(json.loads, said.stdout.splitlines()):
        cells = [table.number(figures[name]) for name in ("direct", "layered", "threaded")]
        lines.append(f"| {figures['request']} | {' | '.join(cells)} |")
    return lines


def run(options, chosen, session):
    """Figures by row title and server, and how many measurements failed."""
    figures, failures = {}, 0
    for round_ in range(1, options.rounds + 1):
        for row in chosen:
            for name in servers_of(row):
                try:
                    figure = session.measure(row, name)
                except Exception as error:  # the other rows are still worth having
                    failures += 1
                    print(f"failed: {row.title}, {name}: {error!r}", file=sys.stderr, flush=True)
                    continue
                print(f"round {round_}: {row.title}, {name}: {table.number(figure.rate)}/s, "
                      f"{table.number(figure.processor)} us", file=sys.stderr, flush=True)
                figures.setdefault((row.title, name), []).append(figure)
    return figures, failures


# --- the tables

def render(rows, figures, rounds):
    rates = medians(figures, lambda figure: figure.rate)
    lines = [f"{table.machine(rounds).split('; ratios')[0]}.", "",
             f"| requests a second | {' | '.join(SERVERS)} | to the best of the others | target |",
             f"|---|{'--:|' * (len(SERVERS) + 2)}"]
    for row in rows:
        values = [rates.get((row.title, name)) for name in SERVERS]
        best = max((value for value in values[1:] if value), default=None)
        ratio = f"{values[0] / best:.2f}" if values[0] and best else ""
        cells = [*map(table.number, values), ratio, f"{row.target:.2f}" if row.target else ""]
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    lines += small("99th percentile, microseconds", rows, medians(figures, lambda figure: figure.p99))
    lines += small("processor time of the server, microseconds a request", rows, medians(figures, lambda figure: figure.processor))
    lines += small("the fastest connection to the slowest", [row for row in rows if row.jobs > 1],
                   medians(figures, lambda figure: figure.spread), format_="{:.2f}".format)
    through = [row for row in rows if row.carrier == "tcp"]
    if through:
        lines += ["", "| skein and fio both under `skein run`, so that TCP goes through memory | requests a second | to skein over TCP |",
                  "|---|--:|--:|"]
    for row in through:
        tcp, memory = (rates.get((row.title, name)) for name in ("skein", MEMORY))
        ratio = f"{memory / tcp:.2f}" if tcp and memory else ""
        lines.append(f"| {row.title} | {table.number(memory)} | {ratio} |")
    return "\n".join(lines)


def small(title, rows, values, format_=table.number):
    lines = ["", f"| {title} | {' | '.join(SERVERS)} |", f"|---|{'--:|' * len(SERVERS)}"]
    for row in rows:
        cells = [values.get((row.title, name)) for name in SERVERS]
        lines.append(f"| {row.title} | {' | '.join('' if cell is None else format_(cell) for cell in cells)} |")
    return lines if rows else []


def medians(figures, value):
    return {key: statistics.median(map(value, found)) for key, found in figures.items() if value(found[0]) is not None}


def main():
    options = parse()
    chosen = [row for row in (smallest_set() if options.smoke else ROWS) if options.filter.lower() in row.title.lower()]
    if not chosen:
        sys.exit(f"no row matches '{options.filter}'")
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        sys.exit(f"not installed: {' '.join(missing)} (Tests/Programs/install.sh)")
    # Before the network is gone; the second time there is nothing to do.
    subprocess.run(["make", "--no-print-directory", "-C", CHECKOUT, "build/tests/callpath"], check=True)
    namespace.enter()
    with tempfile.TemporaryDirectory(prefix="skein-bench-", dir="/var/tmp") as disk, \
            tempfile.TemporaryDirectory(prefix="skein-bench-", dir="/dev/shm") as memory:
        figures, failures = run(options, chosen, Session(options, pathlib.Path(disk), pathlib.Path(memory)))
    text = "\n".join([render(chosen, figures, options.rounds), *call_path(options)])
    print(text)
    if options.output:
        table.put_into(options.output, text, MARKS)
    total = len(chosen)
    complete = sum(all((row.title, name) in figures for name in servers_of(row)) for row in chosen)
    print(f"{complete} passed, {total - complete} failed")
    return 1 if failures else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--seconds", type=float, default=1.5, metavar="N", help="of each measurement")
    parser.add_argument("--smoke", action="store_true", help="one short round: do the measurements work at all?")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only rows whose title has TEXT")
    parser.add_argument("--output", metavar="FILE", help="put the tables into this document, between their marks")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("there is at least one round, of some time")
    if options.smoke:
        options.rounds = 1
    return options


if __name__ == "__main__":
    sys.exit(main())
