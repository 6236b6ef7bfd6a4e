#!/usr/bin/env python3
"""Unmodified programs over TCP loopback, Skein and Unix sockets, in interleaved rounds.

bench.py [--rounds N] [--smoke] [--plain] [--filter TEXT] [--output docs/BENCHMARKS.md]
"""

import argparse
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Tests" / "Programs"))
from programs import documents  # noqa: E402
from support import namespace, skein  # noqa: E402
from support.processes import take_charge  # noqa: E402
from support.trial import PAIRINGS, PLAIN, Trial  # noqa: E402

import rows  # noqa: E402
import table  # noqa: E402
from processor_time import seconds_of_running  # noqa: E402


class Stage(Trial):
    """One measurement: a Trial with a carrier. Its checks hold here too, so no fall-back is timed as Skein."""

    requests = {}  # (row title, carrier): what fills the time, learnt in the round before

    def __init__(self, row, carrier, session, number):
        pairing = PAIRINGS[0] if carrier == "skein" else PLAIN[0]
        binary = session.binary if carrier == "skein" else None
        super().__init__(pairing, binary, session.folder / f"{number}-{carrier}", session.documents)
        self.row, self.carrier, self.seconds = row, carrier, session.seconds
        self.path = self.folder / "socket"
        self.huge, self.pingpong = session.huge, session.pingpong
        self.environment = row.environment
        self.wrapper = ["taskset", "-c", "0"] if row.pinned else []

    @property
    def whole_seconds(self):
        return max(1, round(self.seconds))

    def count(self, at_first):
        return Stage.requests.get((self.row.title, self.carrier), at_first)

    def measure(self):
        found = []

        def function(stage):
            for _ in range(stage.row.busy_loops):
                stage.processes.start(["/bin/sh", "-c", "while :; do :; done"])
            before = seconds_of_ended()
            figure = stage.row.measure(stage)
            if figure.requests and not stage.row.busy_loops:
                used = seconds_of_ended() - before + sum(seconds_of_running(one.pid) for one in stage.processes.started)
                figure.cpu = used * 1e6 / figure.requests
            found.append(figure)

        if self.row.connects:
            self.run(function)
        else:
            function(self)
        figure = found[0]
        if figure.per_second:
            Stage.requests[self.row.title, self.carrier] = max(1000, int(figure.per_second * self.seconds))
        return figure


def seconds_of_ended():
    """Processor time of all processes that have ended here so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Session:
    """What all measurements share."""

    def __init__(self, options, folder, memory_folder):
        self.folder = folder
        self.binary = None if options.plain else skein.find(folder)
        self.seconds = 0.2 if options.smoke else 1.5
        self.documents = documents.make(folder / "documents")
        self.huge = self.documents.folder / "huge.bin"
        stored = memory_folder / "huge.bin"
        block = os.urandom(1 << 20)
        with open(stored, "wb") as file:
            for _ in range(64 if options.smoke else 1024):
                file.write(block)
        self.huge.symlink_to(stored)
        self.pingpong = folder / "pingpong"
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", self.pingpong, HERE / "pingpong.c"], check=True)


def main():
    options = parse()
    chosen = [row for row in rows.ROWS if options.filter.lower() in row.title.lower()]
    if not chosen:
        sys.exit(f"no row matches '{options.filter}'")
    if missing := rows.missing_programs():
        sys.exit("\n".join(missing))
    namespace.enter()
    take_charge()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="skein-bench-", dir="/var/tmp"))
    memory_folder = pathlib.Path(tempfile.mkdtemp(prefix="skein-bench-", dir=roomy_folder()))
    try:
        for each in (folder, memory_folder):
            each.chmod(0o755)
        figures, failures = run(options, chosen, Session(options, folder, memory_folder))
    finally:
        for each in (folder, memory_folder):
            shutil.rmtree(each, ignore_errors=True)
    text = table.render(chosen, figures, options.rounds)
    print(text)
    if options.output:
        table.put_into(options.output, text)
    return 1 if failures else 0


def run(options, chosen, session):
    """The first round of a full run only learns how many requests fill the time, and is not counted."""
    figures, failures, number = {}, 0, 0
    for round_ in range(1 if options.smoke else 0, options.rounds + 1):
        for row in chosen:
            if row.once and round_ != 1:
                continue
            for carrier in row.carriers:
                if carrier == "skein" and options.plain:
                    continue
                number += 1
                try:
                    figure = Stage(row, carrier, session, number).measure()
                except Exception as error:  # the other rows are still worth having
                    failures += 1
                    print(f"failed: {row.title}, {carrier}: {error!r}", file=sys.stderr, flush=True)
                    continue
                print(f"round {round_}: {row.title}, {carrier}: {table.number(figure.value)} {row.unit}",
                      file=sys.stderr, flush=True)
                if round_:
                    figures.setdefault((row.title, carrier), []).append(figure)
    return figures, failures


def roomy_folder():
    """Memory for the file of 1 GiB, so that no disk is measured; a disk where memory is short."""
    try:
        return "/dev/shm" if shutil.disk_usage("/dev/shm").free > 3 << 30 else "/var/tmp"
    except OSError:
        return "/var/tmp"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--smoke", action="store_true", help="one short round: do the measurements work at all?")
    parser.add_argument("--plain", action="store_true", help="without Skein: TCP and Unix sockets alone")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only rows whose title has TEXT")
    parser.add_argument("--output", metavar="FILE", help="put the tables into this document, between their marks")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.smoke:
        options.rounds = 1
    return options


if __name__ == "__main__":
    sys.exit(main())
