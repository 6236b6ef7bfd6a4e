#!/usr/bin/env python3
"""`skein agent`: two hosts that share nothing but a medium, and what becomes of them when something fails."""

import argparse
import os
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Commands"))
import harness  # noqa: E402
import agents  # noqa: E402
import filament_tests  # noqa: E402
import socket_tests  # noqa: E402,F401
import fault_tests  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filter", default="", metavar="TEXT", help="only tests whose sentence has TEXT")
    options = parser.parse_args()
    harness.TESTS[:] = [entry for entry in harness.TESTS if options.filter in entry[0]]
    with tempfile.TemporaryDirectory(prefix="skein-agent-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        fault_tests.begin(folder, [function for _, function in harness.TESTS])
        with agents.pair(folder, timeout="2s", size="16M", isIsolated=True) as (medium, a, b):
            filament_tests.shared.update(medium=medium, a=a, b=b)
            return harness.run_all(folder)


if __name__ == "__main__":
    sys.exit(main())
