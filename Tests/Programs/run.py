#!/usr/bin/env python3
"""Real programs, unmodified, on Skein: each test with both ends under `skein run`, and with either alone.

run.py [--plain] [--filter TEXT] [--list] [--keep]
"""

import argparse
import pathlib
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True
from programs import documents  # noqa: E402
from support import namespace, skein  # noqa: E402
from support.processes import take_charge  # noqa: E402
from support.report import Report  # noqa: E402
from support.trial import PAIRINGS, PLAIN, TESTS, Skip, Trial, find_program  # noqa: E402
from programs import (ftp, haproxy, iperf, java, memcached, nginx, node, postgres, python_http, redis,  # noqa: E402,F401
                      socat, ssh, telnet, users)


def main():
    options = parse()
    chosen = [(f"{sentence}, {pairing.name}", needs, function, pairing)
              for sentence, needs, function in TESTS
              for pairing in (PLAIN if options.plain else PAIRINGS)
              if options.filter.lower() in f"{function.__module__} {sentence}, {pairing.name}".lower()]
    if options.list:
        print("\n".join(sentence for sentence, *_ in chosen))
        return 0
    if not chosen:
        sys.exit(f"no test matches '{options.filter}'; --list shows them")
    namespace.enter()
    take_charge()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="skein-programs-", dir="/var/tmp"))
    folder.chmod(0o755)  # servers run as other users
    report = Report()
    try:
        binary = None if options.plain else skein.find(folder)
        texts = documents.make(folder / "documents")
        for number, (sentence, needs, function, pairing) in enumerate(chosen):
            attempt(report, sentence, needs, function,
                    Trial(pairing, binary, folder / f"{number}-{function.__name__}", texts,
                          getattr(function, "with_defaults", False)))
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return report.finish()


def attempt(report, sentence, needs, function, trial):
    try:
        for name in needs:
            find_program(name)
        trial.run(function)
    except Skip as reason:
        report.skip(sentence, reason)
    except Exception as error:  # one broken test must not end the others
        report.not_ok(sentence, error if isinstance(error, AssertionError) else repr(error))
    else:
        report.ok(sentence)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", action="store_true", help="without Skein: the tests themselves on trial")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only tests whose sentence or module has TEXT")
    parser.add_argument("--list", action="store_true", help="print the sentences and end")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all output of the programs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
