"""`skein ls`: true tables, and ones that somebody damaged."""

import json
import os
import random
import struct
import subprocess

from harness import Skip, one_line, skein, test

MAGIC, HEADER, RECORD = 0x544E4B53, 4096, 256
VERSION = int(skein("version")[0].split()[-1])
EMPTY = {"sockets": [], "totals": {"memory_connections": 0, "tcp_connections": 0, "memory_bytes_in": 0, "memory_bytes_out": 0}}
CLIENT, SERVER, LISTENER = 1, 2, 3
OWN = str(os.geteuid())


def four(text):
    return bytes(map(int, text.split(".")))


def record(owner, role=CLIENT, descriptor=5, local=(four("127.0.0.1"), 40001), peer=(four("127.0.0.1"), 6379), incoming=0,
           outgoing=0, program=b"prog", family=None):
    image = bytearray(RECORD)
    family = family if family is not None else 2 if len(local[0]) == 4 else 10
    struct.pack_into("<II8xI8xI", image, 0, owner, role, descriptor, family)
    image[32:32 + len(local[0])] = local[0]
    image[48:48 + len(peer[0])] = peer[0]
    struct.pack_into("<IIIIQQ", image, 64, local[1], peer[1], 0, 0, incoming, outgoing)
    image[128:128 + len(program)] = program
    return bytes(image)


def table(*records, version=VERSION, totals=(0, 0, 0, 0), count=None, magic=MAGIC, size=RECORD):
    head = bytearray(HEADER)
    struct.pack_into("<IIII", head, 0, magic, version, size, len(records) + 1 if count is None else count)
    struct.pack_into("<QQQQ", head, 64, *totals)
    return bytes(head) + b"".join(records) + bytes(RECORD)


def place(folder, image, user=OWN):
    """A runtime folder with this table of a user."""
    folder.chmod(0o1777)
    home = folder / user
    home.mkdir(exist_ok=True)
    (home / "sockets").write_bytes(image)
    for path in (home, home / "sockets"):
        os.chown(path, int(user), -1) if user != OWN else None
    return folder


def ls(folder, warnings=0):
    out, err = skein("ls", "--json", SKEIN_DIR=folder)
    assert err.count("\n") == warnings, f"{warnings} warnings expected: {err!r}"
    return json.loads(out), err


@test("an empty runtime folder gives an empty list, and a hint for people")
def _(folder):
    folder.chmod(0o1777)
    assert ls(folder)[0] == EMPTY
    out, err = skein("ls", SKEIN_DIR=folder)
    assert out == ""
    one_line(err, "skein run")


@test("a runtime folder that is missing, a file, or open to tampering is named")
def _(folder):
    result, err = ls(folder / "none", warnings=1)
    assert result == EMPTY
    one_line(err, "none", "1777")
    (folder / "file").touch()
    one_line(ls(folder / "file", warnings=1)[1], "not a folder")
    open_folder = folder / "open"
    open_folder.mkdir()
    place(open_folder, table(record(os.getpid()))).chmod(0o777)
    result, err = ls(open_folder, warnings=1)
    assert result == EMPTY
    one_line(err, "tampered", "chmod 1777")


@test("a living process's records are shown, with every field")
def _(folder):
    me = os.getpid()
    place(folder, table(record(me, SERVER, 7, (four("127.0.0.1"), 6379), (four("127.0.0.1"), 40001), 11, 22, b"redis"),
                        record(me, LISTENER, 3, (bytes(15) + b"\1", 80), (bytes(16), 0), program=b"web"),
                        totals=(3, 4, 100, 200)))
    assert ls(folder)[0] == {
        "sockets": [
            {"pid": me, "program": "web", "fd": 3, "role": "listener", "state": "listening", "local": "[::1]:80",
             "peer": None, "carrier": "memory", "reason": None, "bytes_in": 0, "bytes_out": 0},
            {"pid": me, "program": "redis", "fd": 7, "role": "server", "state": "established", "local": "127.0.0.1:6379",
             "peer": "127.0.0.1:40001", "carrier": "memory", "reason": None, "bytes_in": 11, "bytes_out": 22}],
        "totals": {"memory_connections": 3, "tcp_connections": 4, "memory_bytes_in": 111, "memory_bytes_out": 222}}


@test("STP sockets are shown by their port, also before they are connected")
def _(folder):
    me, stp = os.getpid(), 0x5354
    place(folder, table(record(me, 4, 3, (bytes(4), 0), (bytes(4), 0), family=stp),
                        record(me, SERVER, 4, (bytes(4), 7), (bytes(4), 40000), family=stp)))
    sockets = ls(folder)[0]["sockets"]
    assert [(socket["role"], socket["state"], socket["local"], socket["peer"]) for socket in sockets] == [
        ("unconnected", "unconnected", "stp:0", None), ("server", "established", "stp:7", "stp:40000")]


@test("the table for people has fitted columns and readable sizes")
def _(folder):
    me = os.getpid()
    place(folder, table(record(me, incoming=1536, outgoing=1023), record(me, LISTENER, 12, incoming=10 << 30)))
    lines = skein("ls", SKEIN_DIR=folder)[0].splitlines()
    assert lines[0].split() == ["PID", "PROGRAM", "FD", "ROLE", "LOCAL", "PEER", "IN", "OUT"]
    assert lines[1].split() == [str(me), "prog", "5", "client", "127.0.0.1:40001", "127.0.0.1:6379", "1.5K", "1023"]
    assert lines[2].split()[5:] == ["-", "10G", "0"]
    assert len(set(map(len, lines))) == 1


@test("a dead owner's bytes count but its socket isn't shown, and neither is one not filled in")
def _(folder):
    with subprocess.Popen(["true"]) as process:
        process.wait()
    place(folder, table(record(process.pid, incoming=5, outgoing=6), record(os.getpid(), role=0), totals=(1, 0, 10, 20)))
    result = ls(folder)[0]
    assert result["sockets"] == [] and result["totals"]["memory_bytes_in"] == 15 and result["totals"]["memory_bytes_out"] == 26


@test("a zombie's socket isn't shown")
def _(folder):
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    place(folder, table(record(zombie.pid)))
    assert ls(folder)[0]["sockets"] == []
    zombie.wait()


@test("a number that went to another user's process isn't shown")
def _(folder):
    if os.geteuid() != 0:
        raise Skip("needs root to make another user's table")
    place(folder, table(record(os.getpid())), user="65534")
    assert ls(folder)[0]["sockets"] == []


@test("a table that another than its user could have written is refused")
def _(folder):
    place(folder, table(record(os.getpid())))
    (folder / OWN).chmod(0o777)
    result, err = ls(folder, warnings=1)
    assert result == EMPTY
    one_line(err, "is not used")


BROKEN = {
    "empty": (b"", "truncated"),
    "cut in the header": (table()[:100], "truncated"),
    "cut in a record": (table(record(os.getpid()))[:HEADER + 100], "truncated"),
    "of noise": (random.Random(2).randbytes(20000), "is no socket table"),
    "of zeros": (bytes(9000), "is no socket table"),
    "with another magic": (table(magic=MAGIC + 1), "is no socket table"),
    "of another version": (table(version=VERSION + 1), f"layout {VERSION + 1}"),
    "with another record size": (table(size=128), "damaged header"),
    "with no records": (table(count=0), "damaged header"),
    "with four billion records": (table(count=2**32 - 1), "damaged header"),
    "with more records than bytes": (table(count=5000), "truncated"),
}


def add_broken(name, image, words):
    @test(f"a table {name} is named in one line, and others are still shown")
    def _(folder):
        place(folder, image)
        one_line(ls(folder, warnings=1)[1], f"{folder}/{OWN}/sockets", words)
        if os.geteuid() == 0:
            place(folder, table(record(os.getpid()), totals=(0, 0, 1, 1)))
            place(folder, image, user="65534")
            result, err = ls(folder, warnings=1)
            one_line(err, f"{folder}/65534/sockets", words)
            assert len(result["sockets"]) == 1 and result["totals"]["memory_bytes_in"] == 1


for broken_name, (broken_image, broken_words) in BROKEN.items():
    add_broken(broken_name, broken_image, broken_words)


@test("a FIFO, a link or a folder in a table's place is named and never waited for")
def _(folder):
    place(folder, table())
    path = folder / OWN / "sockets"
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)):
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        result, err = ls(folder, warnings=1)
        assert result == EMPTY
        one_line(err, str(path))


@test("records that make no sense are counted out, and the rest is shown")
def _(folder):
    me = os.getpid()
    place(folder, table(record(me, role=9), record(me, family=77), record(2**32 - 1), record(me, descriptor=2**32 - 1),
                        record(me, local=(four("1.2.3.4"), 70000)), record(me, peer=(four("1.2.3.4"), 70000)), record(me)))
    result, err = ls(folder, warnings=1)
    assert len(result["sockets"]) == 1
    one_line(err, "6 damaged records")


@test("a hostile name reaches neither the terminal nor breaks JSON")
def _(folder):
    name = b'\x1b[2J"\\\xff\n\xc2\x9b'
    place(folder, table(record(os.getpid(), program=name)))
    out = skein("ls", SKEIN_DIR=folder)[0]
    assert "\x1b" not in out and "\x9b" not in out and len(out.splitlines()) == 2, out
    assert ls(folder)[0]["sockets"][0]["program"] == '\x1b[2J"\\\ufffd\n\x9b'


@test("counters near the end of their range don't stop the sum")
def _(folder):
    top = 2**64 - 1
    place(folder, table(record(os.getpid(), incoming=top, outgoing=top), totals=(top, top, top, top)))
    result = ls(folder)[0]
    assert result["sockets"][0]["bytes_in"] == top and result["totals"]["tcp_connections"] == top
    assert skein("ls", SKEIN_DIR=folder)[0].split()[-1] == "16E"


@test("three hundred damaged tables are read without a crash")
def _(folder):
    dice = random.Random(3)
    image = table(*[record(os.getpid(), 1 + number % 3, number) for number in range(8)])
    for number in range(300):
        bad = bytearray(image)
        for _ in range(dice.randint(1, 40)):
            bad[dice.choice([dice.randrange(16), HEADER + dice.randrange(8 * RECORD)])] = dice.choice([0, 1, 255, dice.randrange(256)])
        if number % 3 == 0:
            del bad[dice.randrange(len(bad)):]
        place(folder, bytes(bad))
        for words in (["ls"], ["ls", "--json"]):
            out, _ = skein(*words, SKEIN_DIR=folder)
        json.loads(out)
