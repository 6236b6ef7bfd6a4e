#!/usr/bin/env python3
"""`skein export`, by a client of our own that can say wrong things, and with --foreign by clients nobody here wrote."""

import argparse
import os
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Commands"))
import harness  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--foreign", action="store_true", help="with libnbd, qemu and fio, which must be installed")
    parser.add_argument("--next", action="store_true", help="with those of Debian 13, in a folder that debootstrap makes")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only tests whose sentence has TEXT")
    options = parser.parse_args()
    if options.foreign:
        import attach_tests  # noqa: F401
        import foreign_remote_tests  # noqa: F401
        import foreign_replace_tests  # noqa: F401
        import foreign_tests  # noqa: F401
    elif options.next:
        import next_tests  # noqa: F401
    else:
        import access_tests  # noqa: F401
        import activation_tests  # noqa: F401
        import allocation_tests  # noqa: F401
        import command_tests  # noqa: F401
        import configuration_tests  # noqa: F401
        import durability_tests  # noqa: F401
        import hostile_tests  # noqa: F401
        import manage_tests  # noqa: F401
        import negotiation_tests  # noqa: F401
        import remote_tests  # noqa: F401
        import replace_tests  # noqa: F401
        import tls_tests  # noqa: F401
        import transmission_tests  # noqa: F401
    harness.TESTS[:] = [entry for entry in harness.TESTS if options.filter in entry[0]]
    with tempfile.TemporaryDirectory(prefix="skein-export-") as folder:
        os.chmod(folder, 0o755)
        return harness.run_all(pathlib.Path(folder))


if __name__ == "__main__":
    sys.exit(main())
