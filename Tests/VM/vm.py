#!/usr/bin/env python3
"""`skein export` and the Linux kernel's own client, which runs in a virtual machine without hardware's help."""

import hashlib
import json
import os
import pathlib
import random
import select
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Commands"))
import harness  # noqa: E402
from harness import test  # noqa: E402
from running import KILL, Running  # noqa: E402

import machine  # noqa: E402

LIMIT_SECONDS = 240
MEBIBYTE = 1 << 20
SIZE = 128 * MEBIBYTE


class Machine:
    """The virtual machine, until the block ends."""

    def __init__(self, folder, port):
        self.process = subprocess.Popen(list(map(str, machine.command(folder, port))), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.console = b""
        self.deadline = time.monotonic() + LIMIT_SECONDS

    def __enter__(self):
        return self

    def wait_for(self, word):
        """Waits until the guest has said it; returns the rest of the line."""
        start = b"guest: " + word.encode()
        while not (found := [line for line in self.console.split(b"\n")[:-1] if start in line]):
            assert b"guest: ended" not in self.console, f"the guest ended before '{word}':\n{self.tail()}"
            left = self.deadline - time.monotonic()
            assert left > 0 and select.select([self.process.stdout], [], [], left)[0], f"no '{word}':\n{self.tail()}"
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, f"the machine ended before '{word}':\n{self.tail()}"
            self.console += more
        return found[0].split(start)[1].decode().strip()

    def tail(self):
        return self.console[-2000:].decode(errors="replace")

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def ask(folder, command):
    """What the server says of itself."""
    return json.loads(harness.skein("export", command, "--json", "--manage", folder / "manage")[0])


@test("the kernel's client: by two connections it reads, discards, flushes; ext4 is made, written, mounted again, clean")
def _(folder):
    plain, cached = folder / "plain.img", folder / "cached.img"
    content = random.Random(11).randbytes(SIZE)
    plain.write_bytes(content)
    cached.write_bytes(b"")
    os.truncate(cached, SIZE)
    # What is not flushed never comes to the second disk's file.
    with Running(folder, "export", f"plain={plain}", f"cached=volatile:{cached}", "--listen", "nbd://127.0.0.1:0",
                 "--manage", folder / "manage", ready="stdout") as running:
        with Machine(folder, running.port) as guest:
            assert guest.wait_for("connections") == "4", guest.tail()
            assert len(ask(folder, "clients")) == 4, ask(folder, "clients")
            assert guest.wait_for("checksum") == hashlib.sha256(content[:64 * MEBIBYTE]).hexdigest()
            assert int(guest.wait_for("discards")) > 0
            guest.wait_for("discarded")
            with open(plain, "rb") as file:
                assert os.lseek(file.fileno(), 64 * MEBIBYTE, os.SEEK_HOLE) == 64 * MEBIBYTE
                assert os.lseek(file.fileno(), 64 * MEBIBYTE, os.SEEK_DATA) == 80 * MEBIBYTE
            guest.wait_for("flushed")
            assert plain.read_bytes()[96 * MEBIBYTE:100 * MEBIBYTE] == b"z" * (4 * MEBIBYTE)
            for word in ("remounted", "clean", "synced"):
                guest.wait_for(word)
            # Power fails at the server, with the file system mounted.
            running.signal(KILL)
            running.finish(-KILL)
    recover = subprocess.run(["e2fsck", "-fp", cached], capture_output=True, text=True)
    assert recover.returncode in (0, 1), recover.stdout + recover.stderr
    check = subprocess.run(["e2fsck", "-fn", cached], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr
    last = subprocess.run(["debugfs", "-R", "cat /last", cached], capture_output=True, text=True)
    assert last.stdout == "written last\n", last.stdout + last.stderr


if __name__ == "__main__":
    os.environ["PATH"] = machine.SEARCH
    with tempfile.TemporaryDirectory(prefix="skein-vm-") as scratch:
        sys.exit(harness.run_all(pathlib.Path(scratch)))
