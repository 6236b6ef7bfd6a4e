#!/usr/bin/env python3
"""CPython 3.11's own socket tests, without and with `skein run`: what passes without must pass with.

cpython.py [--plain] [--stall SECONDS] [--limit SECONDS] [MODULE ...]
"""

import argparse
import pathlib
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True
from support import namespace, regrtest, skein  # noqa: E402
from support.processes import Processes, take_charge  # noqa: E402
from support.report import Report  # noqa: E402

MODULES = ["test_select", "test_poll", "test_epoll", "test_selectors", "test_socket", "test_socketserver",
           "test_asyncio", "test_ftplib", "test_httplib", "test_ssl", "test_asyncore",
           "test_multiprocessing_fork"]
EXCEPTIONS = pathlib.Path(__file__).with_name("cpython-exceptions.txt")


def main():
    options = parse()
    namespace.enter()
    take_charge()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="skein-cpython-", dir="/var/tmp"))
    report = Report()
    try:
        under = skein.Skein(None if options.plain else skein.find(folder), folder / "runtime")
        for module in options.modules:
            compare(report, module, under, folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report.finish()


def compare(report, module, under, folder, options):
    limits = (options.stall, options.limit)
    plain = run(module, [], folder / f"{module}-plain", {}, limits)
    # A test that hangs on this machine's TCP needs no second wait.
    hanging = [name for name, ending in plain.items() if ending == "hang"]
    with_skein = run(module, under.prefix, folder / f"{module}-skein", under.environment, limits, hanging)
    expected = [name for name, ending in plain.items() if ending in regrtest.PASSES]
    if not expected:
        report.skip(module, "nothing of it passes without Skein (Tests/Programs/install.sh installs it)")
        return
    same = judge(report, expected, with_skein)
    report.passed += same
    print(f"ok - {module}: {same} of {len(expected)} tests pass without and with Skein "
          f"({len(plain) - len(expected)} do not pass without)", flush=True)
    if hanging:
        print(f"   hang without Skein on this machine: {' '.join(hanging)}")
    if under.binary:
        left = under.status()["sockets"]
        sentence = f"{module} leaves no socket behind"
        report.not_ok(sentence, left[0]) if left else report.ok(sentence)


def judge(report, expected, with_skein):
    """Reports what differs. Returns how many tests pass here too."""
    exceptions = read_exceptions()
    same = 0
    for name in expected:
        ending = with_skein.get(name, "missing")
        if ending in regrtest.PASSES:
            same += 1
            if name in exceptions:
                print(f"   {name} passes: its line in {EXCEPTIONS.name} can go")
        elif name in exceptions:
            report.skip(name, exceptions[name])
        else:
            report.not_ok(name, f"{ending} under skein run")
    return same


def run(module, prefix, folder, environment, limits, ignored=()):
    folder.mkdir()
    return regrtest.run(module, prefix, Processes(folder), environment, *limits, ignored)


def read_exceptions():
    """{test id: reason}; a line holds both with a tab between."""
    lines = [line for line in EXCEPTIONS.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("\t", 1) for line in lines)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", action="store_true", help="both runs without Skein: the comparison itself on trial")
    parser.add_argument("--stall", type=int, default=60, metavar="SECONDS", help="a test silent for so long hangs")
    parser.add_argument("--limit", type=int, default=600, metavar="SECONDS", help="the most that a module may take")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"default: {' '.join(MODULES)}")
    options = parser.parse_args()
    options.modules = options.modules or MODULES
    return options


if __name__ == "__main__":
    sys.exit(main())
