"""Socket tables and totals as the tests forge them, by the layout of Sources/SkeinCore (ControlBlock, Table, Totals)."""

import contextlib
import os
import socket
import struct
import subprocess

from harness import skein
from programs import PYTHON

MAGIC, VERSION, HEADER, RECORD = 0x544E4B53, 2, 4096, 256
TOTALS_MAGIC, TOTALS = 0x534E4B53, "totals-1"
LAYOUT = int(skein("version")[0].split()[-1])
FREE, UNCONNECTED, LISTENING, CONNECTED = 0, 1, 2, 3
NONE, CLIENT, SERVER = 0, 1, 2
MEMORY, TCP = 1, 2
NOT_UNDER_SKEIN, BY_RULE = 3, 8
OWN = str(os.geteuid())


def four(text):
    return bytes(map(int, text.split(".")))


def checksum(total, words):
    """As the library sums 64-bit words."""
    for word in words:
        total = (total ^ word) * 0x9E3779B97F4A7C15 % 2**64
        total ^= total >> 32
    return total % 2**32 | 1


def record(descriptor, role=CLIENT, state=CONNECTED, carrier=MEMORY, reason=0, local=(four("127.0.0.1"), 40001),
           peer=(four("127.0.0.1"), 6379), incoming=0, outgoing=0, bells=0, spins=0, program=b"prog", family=None, sealed=True):
    image = bytearray(RECORD)
    family = family if family is not None else 2 if len(local[0]) == 4 else 10
    struct.pack_into("<QIIIIIIII", image, 8, 0, os.getpid(), state, role, descriptor, carrier, reason, family, local[1])
    image[48:48 + len(local[0])] = local[0]
    image[64:64 + len(peer[0])] = peer[0]
    struct.pack_into("<I", image, 80, peer[1])
    image[104:104 + len(program)] = program
    struct.pack_into("<QQQQQ", image, 128, incoming, outgoing, 0, bells, spins)
    if sealed:
        struct.pack_into("<I", image, 0, checksum(0x534B45494E21, struct.unpack_from("<14Q", image, 8)))
    return bytes(image)


def counters(memory=0, tcp=0, incoming=0, outgoing=0, **reasons):
    """`r3=7`: seven connections for reason 3."""
    return struct.pack("<28Q", memory, tcp, incoming, outgoing, *(reasons.get(f"r{number}", 0) for number in range(24)))


def table(*records, folder=None, owner=None, version=VERSION, magic=MAGIC, totals=counters(), error=0):
    """A process's socket table. `folder`: the runtime folder that it says it has."""
    head = bytearray(HEADER)
    struct.pack_into("<IIIIII", head, 0, magic, version, RECORD, LAYOUT, owner or os.getpid(), error)
    if folder:
        status = os.stat(folder)
        struct.pack_into("<QQ", head, 32, status.st_dev, status.st_ino)
    head[128:128 + len(totals)] = totals
    return bytes(head) + b"".join(records)


@contextlib.contextmanager
def held(image):
    """The image as a table of this very process."""
    memory = os.memfd_create("skein-sockets")
    os.write(memory, image)
    try:
        yield memory
    finally:
        os.close(memory)


@contextlib.contextmanager
def held_elsewhere(image, folder):
    """The image as a table of another process, whose environment names the runtime folder. Yields that process."""
    holder = ("import os, signal, sys\nos.write(os.memfd_create('skein-sockets'), sys.stdin.buffer.read())\n"
              "print('holds it', flush=True)\nsignal.pause()")
    with subprocess.Popen([PYTHON, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          env=os.environ | {"SKEIN_DIR": str(folder)}) as process:
        process.stdin.write(image)
        process.stdin.close()
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def sockets(count):
    """Descriptors that are sockets, for records to name."""
    held_sockets = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    try:
        yield [one.fileno() for one in held_sockets]
    finally:
        for one in held_sockets:
            one.close()


def totals(image=counters(), magic=TOTALS_MAGIC):
    """A user's file of totals."""
    body = struct.pack("<I", magic) + bytes(24) + image
    words = struct.unpack("<31Q", (body + bytes(252))[4:252])
    return struct.pack("<I", checksum(magic, words)) + body


def place(folder, image, user=OWN):
    """A runtime folder with these totals of a user."""
    folder.chmod(0o1777)
    home = folder / user
    home.mkdir(exist_ok=True)
    (home / TOTALS).write_bytes(image)
    for path in (home, home / TOTALS):
        os.chown(path, int(user), -1) if user != OWN else None
    return folder
