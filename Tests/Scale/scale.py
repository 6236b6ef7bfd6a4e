#!/usr/bin/env python3
"""Many connections at the same time, and very many one after the other: all work, and nothing grows.

Usage: Tests/Scale/scale.py [--many 10000] [--short 100000] [--forked 5000]
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
PROGRAM = CHECKOUT / "build/tests/scale"
PRELOAD = CHECKOUT / "build/lib/libskein-preload.so"
SKEIN = CHECKOUT / "build/bin/skein"


class Process:
    running = []

    def __init__(self, folder, *words):
        Process.running.append(self)
        self.process = subprocess.Popen([PROGRAM, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=os.environ | {"SKEIN_DIR": str(folder), "LD_PRELOAD": str(PRELOAD)})

    def expect(self, word):
        line = self.process.stdout.readline().split()
        assert line and line[0] == word, f"'{word}' was to come from {self.process.args[1:]}, and {line} came"
        return line[1:]

    def ask(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def resident(self):
        """KiB of memory that it has in use, shared with others or not."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS")))

    def holds(self):
        """Descriptors and mappings."""
        folder = pathlib.Path(f"/proc/{self.process.pid}")
        return len(os.listdir(folder / "fd")), len((folder / "maps").read_text().splitlines())

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        Process.running.remove(self)


def memory_connections(folder):
    listed = subprocess.run([SKEIN, "ls", "--json"], capture_output=True, check=True,
                            env=os.environ | {"SKEIN_DIR": str(folder)}).stdout
    return json.loads(listed)["totals"]["memory_connections"]


def many(folder, count):
    """KiB a connection, of both ends together, before and after a message on each."""
    server = Process(folder, "serve")
    port = server.expect("ready")[0]
    client = Process(folder, "many", port, 10)
    client.expect("connected")
    client.end()
    before = server.resident()
    client = Process(folder, "many", port, count)
    client.expect("connected")
    client.ask()
    client.expect("exchanged")
    after = server.resident()
    client.ask()
    client.expect("exchanged")
    descriptors, mappings = server.holds()
    client.end()
    deadline = time.monotonic() + 60
    while server.holds()[0] > 20:
        assert time.monotonic() < deadline, f"{server.holds()[0]} descriptors are left"
        time.sleep(0.05)
    # A client that is killed takes its own count with it.
    assert memory_connections(folder) >= count, "not all connections went over memory"
    # The slots are in both processes' count; what they share is counted once, on the server's side.
    each = (after - before) / count
    assert each <= 64, f"{each:.1f} KiB a connection with small messages"
    again = Process(folder, "many", port, count)
    again.expect("connected")
    again.ask()
    again.expect("exchanged")
    # A client that finds the queue full leaves places unused for a while, and so needs a few pools more.
    assert server.holds()[0] <= descriptors + 16, f"{descriptors} descriptors at first, {server.holds()[0]} the next time"
    again.end()
    server.end()
    return f"{count} connections of one server work, and take {each:.1f} KiB each with small messages"


def short(folder, count, role):
    server = Process(folder, role)
    client = Process(folder, "short", server.expect("ready")[0], count)
    client.expect("begun")
    before = [(process.resident(), *process.holds()) for process in (server, client)]
    client.ask()
    client.expect("done")
    after = [(process.resident(), *process.holds()) for process in (server, client)]
    assert memory_connections(folder) >= count, "not all connections went over memory"
    for process in (client, server):
        process.end()
    for name, first, last in zip(("server", "client"), before, after):
        grown = [now - then for then, now in zip(first, last)]
        # Where children hold the connections no slot is used twice, so pools fill up, and go.
        limit = 1024 if role == "serve" else 8192
        assert grown[0] <= limit and grown[1] <= 8 and grown[2] <= 80, \
            f"the {name} has grown by {grown[0]} KiB, {grown[1]} descriptors, {grown[2]} mappings"
    how = ", a child for each" if role == "fork" else ""
    return f"{count} short connections{how}: nothing has grown (KiB, descriptors, mappings: {before} {after})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--many", type=int, default=10000)
    parser.add_argument("--short", type=int, default=100000)
    parser.add_argument("--forked", type=int, default=5000)
    options = parser.parse_args()
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", PROGRAM, HERE / "scale.c"], check=True)
    wanted = options.many + 1000
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < wanted and os.geteuid() != 0:
        options.many = resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2
    passed = failed = 0
    for test in (lambda folder: many(folder, options.many), lambda folder: short(folder, options.short, "serve"),
                 lambda folder: short(folder, options.forked, "fork")):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="skein-scale-"))
        try:
            print(f"ok - {test(folder)}", flush=True)
            passed += 1
        except AssertionError as error:
            print(f"not ok - {error}", flush=True)
            failed += 1
        finally:
            for process in list(Process.running):
                process.end()
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
