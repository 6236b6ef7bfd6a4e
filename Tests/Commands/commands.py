#!/usr/bin/env python3
"""The command `skein`: what it says of bad input, of hostile tables and peers, and of programs out of reach."""

import os
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True
import harness  # noqa: E402

if not os.access(harness.SKEIN, os.X_OK):
    sys.exit(f"{harness.SKEIN} is missing: build it first, or name another by SKEIN_BIN")

# They ask the command for its version as they are read.
import bench_tests  # noqa: E402,F401
import hostile_transfer_tests  # noqa: E402,F401
import ls_tests  # noqa: E402,F401
import medium_tests  # noqa: E402,F401
import relay_fault_tests  # noqa: E402,F401
import relay_tests  # noqa: E402,F401
import rule_file_tests  # noqa: E402,F401
import rule_tests  # noqa: E402,F401
import run_tests  # noqa: E402,F401
import stream_tests  # noqa: E402,F401
import table_tests  # noqa: E402,F401
import top_tests  # noqa: E402,F401
import transfer_tests  # noqa: E402,F401
import why_tests  # noqa: E402,F401


def main():
    with tempfile.TemporaryDirectory(prefix="skein-commands-") as folder:
        os.chmod(folder, 0o755)
        os.environ["XDG_CONFIG_HOME"] = folder  # where no rules of the tester's own are
        return harness.run_all(pathlib.Path(folder))


if __name__ == "__main__":
    sys.exit(main())
