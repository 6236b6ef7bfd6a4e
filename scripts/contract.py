#!/usr/bin/env python3
"""The contract suite 'a stream socket' under the preload library; prints only what did not pass.

contract.py [--tcp] [--short] [--filter TEXT]

A case listed in Tests/Contract/exceptions-preload.txt may fail; one that passes all the same is named,
so that its line can go. The run fails as a whole if nothing went through shared memory.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
EXCEPTIONS = CHECKOUT / "Tests" / "Contract" / "exceptions-preload.txt"
# The other half of the cases is the same over IPv6 or in another process.
SHORT = ["IPv4, in this process", "IPv4, seen from the client", "IPv6, the child", "(IPv4)"]


def main():
    options = parse()
    exceptions = {} if options.tcp else read_exceptions()
    command = [str(CHECKOUT / "build/bin/contract")]
    environment = dict(os.environ)
    skein = CHECKOUT / "build/bin/skein"
    if options.tcp:
        pass
    elif skein.exists():
        command = [str(skein), "run", "--", *command]
    else:
        environment["LD_PRELOAD"] = str(CHECKOUT / "build/lib/libskein-preload.so")
    passed = failed = skipped = 0
    met = set()
    for text in [options.filter] if options.filter else SHORT if options.short else [""]:
        process = subprocess.Popen([*command, "--filter", text], stdout=subprocess.PIPE, env=environment, text=True)
        for line in process.stdout:
            verdict, _, sentence = line.rstrip("\n").partition(" - ")
            if verdict == "ok":
                passed += 1
                if sentence.partition(" (IPv")[0] in exceptions:
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
    if skein.exists() and not options.tcp:
        totals = json.loads(subprocess.run([skein, "ls", "--json"], capture_output=True, text=True).stdout)["totals"]
        print(f"connections: {totals['memory_connections']} on shared memory, {totals['tcp_connections']} over TCP")
        if totals["memory_connections"] == 0:
            failed += 1
            print("not ok - the suite's connections go through shared memory: none did")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def read_exceptions():
    """{sentence: reason}; a line holds both with a tab between."""
    if not EXCEPTIONS.exists():
        return {}
    lines = [line for line in EXCEPTIONS.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("\t", 1) for line in lines)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tcp", action="store_true", help="without the preload library: the suite itself on trial")
    parser.add_argument("--short", action="store_true", help="half of the cases")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only cases whose sentence has TEXT")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
