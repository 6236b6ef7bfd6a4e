"""What tests say to a server that runs."""

import contextlib
import json
import os
import pathlib

from harness import skein
from running import TERMINATE, host, until


def tell(folder, *words, expect=0):
    return skein("export", *map(str, words), expect=expect, SKEIN_DIR=host(folder)["SKEIN_DIR"])


def listed(folder, what="ls"):
    return {entry["name"]: entry for entry in json.loads(tell(folder, what, "--json")[0])}


def end_restarted(folder):
    """Ends the server that `restart` has left; the processes that were found."""
    def found():
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                if b"\0--replace\0" in words and str(folder).encode() in words:
                    yield int(entry.name)
    processes = list(found())
    assert processes, "no server runs"
    for process in processes:
        os.kill(process, TERMINATE)
    until(lambda: not list(found()), "the last server ends")
    return processes
