#!/usr/bin/env python3
"""The contract suite 'a stream socket' on one of its faces; prints only what did not pass.

contract.py [--face FACE] [--short] [--filter TEXT]

    preload  the system's calls under libskein-preload.so (where none is named)
    tcp      the same without it: the suite itself on trial
    stp      the calls of skein.h
    swift    module Skein
    linked   the system's calls on TCP sockets in a program that links libskein.so: plain TCP

On preload, stp and swift a case listed in Tests/Contract/exceptions.txt may fail; one that passes all the
same is named, so that its line can go. The run fails as a whole if nothing went through shared memory.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
EXCEPTIONS = CHECKOUT / "Tests" / "Contract" / "exceptions.txt"
SKEIN = CHECKOUT / "build/bin/skein"
ON_MEMORY = ["preload", "stp", "swift"]
# The other half of the cases is the same with the other family or in another process.
SHORT = [", in this process)", ", seen from the client)", ", the child accepts)", "(IPv4)", "(STP)"]


def main():
    options = parse()
    exceptions = read_exceptions() if options.face in ON_MEMORY else {}
    command, environment = suite(options.face)
    if options.short:
        for sentence in exceptions:
            command += ["--leave-out", sentence]
    passed = failed = skipped = 0
    met = set()
    for text in [options.filter] if options.filter else SHORT if options.short else [""]:
        process = subprocess.Popen([*command, "--filter", text], stdout=subprocess.PIPE, env=environment, text=True)
        for line in process.stdout:
            verdict, _, sentence = line.rstrip("\n").partition(" - ")
            if verdict == "ok":
                passed += 1
                if re.split(r" \((?:IPv|STP)", sentence)[0] in exceptions:
                    print(f"   passes, its line in {EXCEPTIONS.name} can go: {sentence}")
            elif verdict == "skip":
                skipped += 1
                print(line, end="", flush=True)
            elif verdict == "not ok":
                known = next((each for each in exceptions if sentence.startswith((each + ": ", each + " ("))), None)
                if known is None:
                    failed += 1
                    print(line, end="", flush=True)
                else:
                    skipped += 1
                    met.add(known)
        # 1 stands for failed cases, which are counted.
        if process.wait() not in (0, 1):
            failed += 1
            print(f"not ok - the suite runs to its end: it ended with {process.returncode}")
    for sentence in sorted(met):
        print(f"exception - {sentence}: {exceptions[sentence]}")
    if SKEIN.exists() and options.face in ON_MEMORY:
        totals = json.loads(subprocess.run([SKEIN, "ls", "--json"], capture_output=True, text=True).stdout)["totals"]
        print(f"connections: {totals['memory_connections']} on shared memory, {totals['tcp_connections']} over TCP")
        if totals["memory_connections"] == 0:
            failed += 1
            print("not ok - the suite's connections go through shared memory: none did")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def suite(face):
    """The command that runs the suite on a face, and its environment."""
    if face in ("tcp", "preload"):
        command = [str(CHECKOUT / "build/bin/contract")]
        if face == "tcp":
            return command, os.environ
        if SKEIN.exists():
            return [str(SKEIN), "run", "--", *command], os.environ
        return command, os.environ | {"LD_PRELOAD": str(CHECKOUT / "build/lib/libskein-preload.so")}
    name = "tcp" if face == "linked" else face
    return [str(CHECKOUT / "build/bin/contract-stp"), "--face", name], os.environ


def read_exceptions():
    """{sentence: reason}; a line holds both with a tab between."""
    if not EXCEPTIONS.exists():
        return {}
    lines = [line for line in EXCEPTIONS.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("\t", 1) for line in lines)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--face", default="preload", choices=["preload", "tcp", "stp", "swift", "linked"],
                        help="what reaches the socket")
    parser.add_argument("--short", action="store_true", help="half of the cases, without the listed exceptions")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only cases whose sentence has TEXT")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
