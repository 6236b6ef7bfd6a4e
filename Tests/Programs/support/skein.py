"""The `skein` command as the tests see it: a prefix for programs, and its counters."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

CHECKOUT = pathlib.Path(__file__).resolve().parents[3]


class Skein:
    """Skein with a runtime folder of its own, or with its defaults where that is None. `binary` None stands
    for plain TCP."""

    def __init__(self, binary, folder):
        self.binary = binary
        self.environment = {}
        if binary and folder:
            folder.mkdir()
            folder.chmod(0o1777)  # several users meet here; the umask must not narrow it
            self.environment["SKEIN_DIR"] = str(folder)

    @property
    def prefix(self):
        return [str(self.binary), "run", "--"] if self.binary else []

    @property
    def preload(self):
        return self.binary.parent.parent / "lib" / "libskein-preload.so"

    def status(self):
        """What `skein ls --json` prints."""
        result = subprocess.run([self.binary, "ls", "--json"], capture_output=True, text=True, timeout=20,
                                env=os.environ | self.environment)
        if result.returncode != 0:
            raise AssertionError(f"skein ls --json ended with {result.returncode}: {result.stderr.strip()}")
        return json.loads(result.stdout)

    def totals(self):
        return self.status()["totals"]


def find(public_folder):
    """The built command, from SKEIN_BIN or the checkout.

    A checkout below a closed home directory is out of reach for www-data: then a copy is used.
    """
    binary = pathlib.Path(os.environ.get("SKEIN_BIN") or CHECKOUT / "build/bin/skein").absolute()
    if not os.access(binary, os.X_OK):
        sys.exit(f"{binary} is missing: build it first, name another by SKEIN_BIN, or use --plain")
    if all(parent.stat().st_mode & 0o001 for parent in binary.parents):
        return binary
    for part in ("bin", "lib"):
        shutil.copytree(binary.parent.parent / part, public_folder / part)
    return public_folder / "bin" / binary.name
