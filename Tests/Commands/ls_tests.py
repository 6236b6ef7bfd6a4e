"""`skein ls`: true tables and totals, and ones that somebody damaged."""

import json
import os
import random
import socket
import struct
import subprocess

from harness import SKEIN, WATCHDOG_SECONDS, Skip, one_line, skein, test
from tables import (BY_RULE, CLIENT, FREE, HEADER, LISTENING, MAGIC, NONE, NOT_UNDER_SKEIN, OWN, RECORD, SERVER, TCP, TOTALS,
                    TOTALS_MAGIC, UNCONNECTED, VERSION, counters, four, held, held_elsewhere, place, record, sockets, table, totals)

EMPTY = {"sockets": [], "totals": {"memory_connections": 0, "tcp_connections": 0, "memory_bytes_in": 0, "memory_bytes_out": 0},
         "fall_backs": []}
FIELDS = {"state": "established", "carrier": "memory", "reason": None, "bytes_in": 0, "bytes_out": 0, "waiting_in": None,
          "waiting_out": None, "bells": 0, "spins": 0}
IDLE = {"waiting_in": 0, "waiting_out": 0}


def ls(folder, warnings=0):
    folder.chmod(0o1777) if folder.is_dir() and folder.stat().st_mode & 0o777 == 0o755 else None
    out, err = skein("ls", "--json", SKEIN_DIR=folder)
    assert err.count("\n") == warnings, f"{warnings} warnings expected: {err!r}"
    return json.loads(out), err


@test("an empty runtime folder gives an empty list, and a hint for people")
def _(folder):
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
    place(open_folder, totals(counters(memory=1))).chmod(0o777)
    result, err = ls(open_folder, warnings=1)
    assert result == EMPTY
    one_line(err, "tampered", "chmod 1777")


@test("a runtime folder of another user, or on a full or read-only file system, is named")
def _(folder):
    if os.geteuid() != 0:
        raise Skip("only root can make such folders")
    foreign = folder / "foreign"
    foreign.mkdir()
    os.chown(foreign, 12345, 12345)
    one_line(ls(foreign, warnings=1)[1], "belongs to user 12345", "chown")
    for name, options, words in (("full", "size=4k,mode=1777", ("full", "free")), ("read-only", "ro,mode=1777", ("read-only", "writable"))):
        (folder / name).mkdir()
        # In a mount namespace, which goes with the command.
        inside = 'mount -t tmpfs -o "$0" tmpfs "$1" || exit 99; { cat /dev/zero >"$1/filler"; } 2>/dev/null; SKEIN_DIR="$1" exec "$2" ls'
        result = subprocess.run(["unshare", "--mount", "sh", "-c", inside, options, folder / name, SKEIN], capture_output=True,
                                timeout=WATCHDOG_SECONDS, text=True)
        if result.returncode == 99:
            raise Skip(result.stderr.strip())
        assert result.returncode == 0, result
        one_line(result.stderr.splitlines(keepends=True)[0], name, *words)


@test("a process's sockets are shown with every field")
def _(folder):
    me = os.getpid()
    with sockets(3) as (web, redis, late):
        image = table(
            record(redis, SERVER, local=(four("127.0.0.1"), 6379), peer=(four("127.0.0.1"), 40001), incoming=11, outgoing=22,
                   bells=33, spins=44, program=b"redis"),
            record(web, NONE, LISTENING, local=(bytes(15) + b"\1", 80), peer=(bytes(16), 0), program=b"web"),
            record(late, NONE, LISTENING, carrier=TCP, reason=BY_RULE, local=(four("0.0.0.0"), 81)),
            folder=folder, totals=counters(3, 4, 100, 200, r3=3, r8=1))
        with held(image):
            assert ls(folder)[0] == {
                "sockets": [
                    FIELDS | IDLE | {"pid": me, "program": "web", "fd": web, "role": "listener", "state": "listening",
                                     "local": "[::1]:80", "peer": None},
                    FIELDS | {"pid": me, "program": "redis", "fd": redis, "role": "server", "local": "127.0.0.1:6379",
                              "peer": "127.0.0.1:40001", "bytes_in": 11, "bytes_out": 22, "bells": 33, "spins": 44},
                    # No TCP socket of the kernel's is behind it.
                    FIELDS | {"pid": me, "program": "prog", "fd": late, "role": "listener", "state": "closed",
                              "local": "0.0.0.0:81", "peer": None, "carrier": "tcp",
                              "reason": "a rule excludes it (--only, --not)", "bytes_in": None, "bytes_out": None, "bells": None,
                              "spins": None}],
                "totals": {"memory_connections": 3, "tcp_connections": 4, "memory_bytes_in": 111, "memory_bytes_out": 222},
                "fall_backs": [{"reason": "the listener does not run under skein (start it with 'skein run')", "connections": 3},
                               {"reason": "a rule excludes it (--only, --not)", "connections": 1}]}


@test("of a TCP socket the kernel tells state, addresses, bytes and waiting data")
def _(folder):
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        with server:
            client.sendall(bytes(70))
            server.recv(30)
            image = table(record(client.fileno(), carrier=TCP, reason=NOT_UNDER_SKEIN, local=(bytes(4), 0), peer=(bytes(4), 0)),
                          record(server.fileno(), SERVER, carrier=TCP, reason=17, family=0),
                          record(listener.fileno(), NONE, LISTENING, carrier=TCP, reason=BY_RULE), folder=folder)
            with held(image):
                listening, sending, receiving = sorted(ls(folder)[0]["sockets"], key=lambda one: one["role"] != "listener")
                client.shutdown(socket.SHUT_WR)
                states = {one["role"]: one["state"] for one in ls(folder)[0]["sockets"]}
            names = [f"127.0.0.1:{end.getsockname()[1]}" for end in (client, server)]
    assert listening["state"] == "listening" and listening["local"] == names[1] and listening["peer"] is None
    assert [sending["local"], sending["peer"]] == names and [receiving["local"], receiving["peer"]] == names[::-1]
    assert (sending["bytes_out"], receiving["bytes_in"], receiving["waiting_in"]) == (70, 70, 40), (sending, receiving)
    assert receiving["reason"].startswith("the client came over TCP")
    assert states == {"listener": "listening", "client": "fin_wait", "server": "close_wait"}, states


@test("STP sockets are shown by their port, also before they are connected")
def _(folder):
    stp = 0x5354
    with sockets(2) as (fresh, served):
        with held(table(record(fresh, NONE, UNCONNECTED, local=(bytes(4), 0), family=stp),
                        record(served, SERVER, local=(bytes(4), 7), peer=(bytes(4), 40000), family=stp), folder=folder)):
            found = ls(folder)[0]["sockets"]
    assert [(one["role"], one["state"], one["local"], one["peer"]) for one in found] == [
        ("unconnected", "unconnected", "stp:0", None), ("server", "established", "stp:7", "stp:40000")]


@test("the table for people has fitted columns, readable sizes, and reasons behind it")
def _(folder):
    me = os.getpid()
    with sockets(3) as (first, second, third), held(table(
            record(first, incoming=1536, outgoing=1023), record(second, NONE, LISTENING, incoming=10 << 30),
            record(third, carrier=TCP, reason=NOT_UNDER_SKEIN), folder=folder, totals=counters(tcp=12, r3=12))):
        ls(folder)
        out, err = skein("ls", SKEIN_DIR=folder)
    lines = out.splitlines()
    assert lines[0].split() == ["PID", "PROGRAM", "FD", "ROLE", "STATE", "LOCAL", "PEER", "IN", "OUT", "UNREAD", "UNSENT", "CARRIER"]
    assert lines[1].split() == [str(me), "prog", str(first), "client", "established", "127.0.0.1:40001", "127.0.0.1:6379",
                                "1.5K", "1023", "-", "-", "memory"]
    assert lines[2].split()[6:] == ["-", "10G", "0", "0", "0", "memory"]
    assert lines[3].endswith("tcp: the listener does not run under skein (start it with 'skein run')")
    assert len({line.index(word) for line, word in zip(lines, ("CARRIER", "memory", "memory", "tcp:"))}) == 1
    one_line(err, "12 because the listener does not run under skein")


@test("a free record is not shown, nor one whose descriptor is closed")
def _(folder):
    with sockets(2) as (first, second):
        with held(table(record(first, state=FREE), record(999), record(second), folder=folder)):
            assert [one["fd"] for one in ls(folder)[0]["sockets"]] == [second]


@test("two runtime folders are two hosts; processes without one are the machine's own")
def _(folder):
    for name in ("one", "two"):
        (folder / name).mkdir()
    with sockets(2) as (first, second):
        def seen(where):
            return [one["fd"] for one in json.loads(skein("ls", "--json", SKEIN_DIR=where)[0])["sockets"] if one["pid"] == os.getpid()]
        with held(table(record(first), folder=folder / "one")), held(table(record(second))):
            assert ls(folder / "one")[0]["sockets"][0]["fd"] == first and ls(folder / "two")[0] == EMPTY
            assert seen(None) == [second]


@test("a process that inherited a table without knowing shows it only while its owner doesn't")
def _(folder):
    with sockets(1) as (fd,):
        for owner, shown in ((os.getpid(), os.getpid()), (None, "child"), (2**22 + 1, "either")):
            ours, theirs = os.pipe()
            with held(table(record(fd), folder=folder, owner=owner)) as memory:
                child = os.fork()
                if child == 0:
                    os.close(theirs)
                    os.read(ours, 1)
                    os._exit(0)
                if shown == "child":
                    os.pwrite(memory, child.to_bytes(4, "little"), 16)
                found = [one["pid"] for one in ls(folder)[0]["sockets"]]
            os.close(theirs)
            os.waitpid(child, 0)
            os.close(ours)
            assert len(found) == 1 and (shown == "either" or found[0] == (child if shown == "child" else shown)), (shown, found)


@test("another user is shown its own sockets alone, and told nothing of others'")
def _(folder):
    if OWN != "0":
        raise Skip("needs root to become another user")
    if not all(parent.stat().st_mode & 1 for parent in SKEIN.parents):
        raise Skip("the command lies below a closed folder")
    place(folder, totals(counters(5)))
    with sockets(1) as (fd,), held(table(record(fd), folder=folder, totals=counters(7))):
        result = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", SKEIN, "ls", "--json"], capture_output=True, text=True,
                                env=os.environ | {"SKEIN_DIR": str(folder)})
    assert result.stderr == "" and result.returncode == 0, result.stderr
    # The file of totals is for all to read, the table is not.
    assert json.loads(result.stdout) == EMPTY | {"totals": EMPTY["totals"] | {"memory_connections": 5}}, result.stdout


@test("totals are those of the files, of the tables and of what is open")
def _(folder):
    place(folder, totals(counters(1, 2, 3, 4, r8=5)))
    expected = {"totals": {"memory_connections": 11, "tcp_connections": 22, "memory_bytes_in": 133, "memory_bytes_out": 144},
                "fall_backs": [{"reason": "a rule excludes it (--only, --not)", "connections": 15}]}
    with sockets(2) as (fd, other):
        with held(table(record(fd, incoming=100, outgoing=100), record(other, carrier=TCP, incoming=7), folder=folder,
                        totals=counters(10, 20, 30, 40, r8=10))):
            found = ls(folder)[0]
            assert {name: found[name] for name in expected} == expected
    if OWN == "0":
        place(folder, totals(counters(1000)), user="65534")
        assert ls(folder)[0]["totals"]["memory_connections"] == 1001


@test("totals that another than their user could have written are refused")
def _(folder):
    place(folder, totals(counters(5)))
    (folder / OWN).chmod(0o777)
    result, err = ls(folder, warnings=1)
    assert result == EMPTY
    one_line(err, "is not used")


BROKEN_TOTALS = {
    "cut short": totals(counters(7))[:100],
    "of noise": random.Random(2).randbytes(256),
    "of zeros": bytes(256),
    "with another magic": totals(counters(7), magic=TOTALS_MAGIC + 1),
    "with one bit changed": totals(counters(7))[:32] + b"\6" + totals(counters(7))[33:],
}


def add_broken_totals(name, image):
    @test(f"totals {name} are named in one line, and others still count")
    def _(folder):
        place(folder, image)
        result, err = ls(folder, warnings=1)
        assert result == EMPTY
        one_line(err, f"{folder}/{OWN}/{TOTALS}", "damaged")
        if OWN == "0":
            place(folder, totals(counters(9)), user="65534")
            assert ls(folder, warnings=1)[0]["totals"]["memory_connections"] == 9


for broken_name, broken_image in BROKEN_TOTALS.items():
    add_broken_totals(broken_name, broken_image)


@test("a FIFO, a link or a folder in the totals' place is named and never waited for")
def _(folder):
    place(folder, b"")
    assert ls(folder)[0] == EMPTY
    path = folder / OWN / TOTALS
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)):
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        result, err = ls(folder, warnings=1)
        assert result == EMPTY
        one_line(err, str(path))


BROKEN_TABLES = {
    "that is empty": (b"", "damaged socket table"),
    "cut in the header": (table()[:100], "damaged socket table"),
    "of noise": (random.Random(2).randbytes(20000), "damaged socket table"),
    "of zeros": (bytes(9000), "damaged socket table"),
    "with another magic": (table(magic=MAGIC + 1), "damaged socket table"),
    "of another version": (table(version=VERSION + 1), f"version {VERSION + 1}"),
}


def add_broken_table(name, image, words):
    @test(f"a table {name} is named in one line, and others are still shown")
    def _(folder):
        shared = folder / "shared"
        shared.mkdir()
        with sockets(1) as (fd,), held_elsewhere(image, shared) as other, held(table(record(fd), folder=shared)):
            result, err = ls(shared, warnings=1)
            one_line(err, f"process {other}", words)
            assert [one["fd"] for one in result["sockets"]] == [fd]
            # To another host it is none of its business, nor to another process.
            ls(folder)
            assert "damaged" not in skein("why", str(os.getpid()))[1]
            assert words in skein("why", str(other))[1]


for broken_name, (broken_image, broken_words) in BROKEN_TABLES.items():
    add_broken_table(broken_name, broken_image, broken_words)


@test("a table that ends in the middle of a record shows the others")
def _(folder):
    with sockets(2) as (first, second), held(table(record(first), record(second)[:100], folder=folder)):
        assert [one["fd"] for one in ls(folder)[0]["sockets"]] == [first]


@test("records that make no sense are counted out, and the rest is shown")
def _(folder):
    with sockets(2) as (fd, good):
        bad = [record(fd, role=9), record(fd, NONE), record(fd, state=9), record(fd, carrier=3), record(fd, family=77),
               record(2**32 - 1), record(fd, local=(four("1.2.3.4"), 70000)), record(fd, peer=(four("1.2.3.4"), 70000)),
               record(fd)[:50] + b"!" + record(fd)[51:]]
        changing = record(fd, sealed=False)
        with held(table(*bad, changing, record(good), folder=folder)):
            result, err = ls(folder, warnings=1)
            assert [one["fd"] for one in result["sockets"]] == [good]
            one_line(err, f"{len(bad)} damaged records")


@test("a table with nothing but records in the middle of a change holds up nobody")
def _(folder):
    with sockets(1) as (fd,), held(table(*[record(fd, sealed=False)] * 20000, record(fd), folder=folder)):
        # Each of them could be looked at for 20 ms: the harness's watchdog is shorter than all of them together.
        assert [one["fd"] for one in ls(folder, warnings=1)[0]["sockets"]] == [fd]


@test("a reason that only another version knows is shown as a number")
def _(folder):
    with sockets(1) as (fd,), held(table(record(fd, carrier=TCP, reason=23), folder=folder, totals=counters(r23=1))):
        assert ls(folder)[0]["sockets"][0]["reason"] == "reason 23 of another version"


@test("processes that can't write their totals are named once, with what to do")
def _(folder):
    with held(table(folder=folder, error=28)), held(table(folder=folder, error=28)), held(table(folder=folder, error=30)):
        err = ls(folder, warnings=2)[1]
        assert "and 1 others" in err and "No space left" in err and "free about" in err and "writable" in err, err


@test("a hostile name reaches neither the terminal nor breaks JSON")
def _(folder):
    name = b'\x1b[2J"\\\xff\n\xc2\x9b'
    with sockets(1) as (fd,), held(table(record(fd, program=name), folder=folder)):
        assert ls(folder)[0]["sockets"][0]["program"] == '\x1b[2J"\\\ufffd\n\x9b'
        out = skein("ls", SKEIN_DIR=folder)[0]
        assert "\x1b" not in out and "\x9b" not in out and len(out.splitlines()) == 2, out


@test("counters near the end of their range don't stop the sum")
def _(folder):
    top = 2**64 - 1
    place(folder, totals(counters(top, top, top, top, r8=top)))
    with sockets(1) as (fd,), held(table(record(fd, incoming=top, outgoing=top), folder=folder, totals=counters(top, top, top, top))):
        result = ls(folder)[0]
        assert result["sockets"][0]["bytes_in"] == top and result["totals"]["tcp_connections"] == top - 1
        assert "16E" in skein("ls", SKEIN_DIR=folder)[0]


@test("a table of a terabyte of holes is read in bounded time")
def _(folder):
    with sockets(1) as (fd,), held(table(record(fd), folder=folder)) as memory:
        os.truncate(memory, 1 << 40)
        assert [one["fd"] for one in ls(folder)[0]["sockets"]] == [fd]


@test("three hundred damaged tables and totals are read without a crash")
def _(folder):
    dice = random.Random(3)
    place(folder, totals())
    with sockets(8) as numbers:
        good = [record(number, 1 + index % 2, LISTENING if index % 3 else 3) for index, number in enumerate(numbers)]
        for round_number in range(300):
            image = bytearray(table(*good, folder=folder))
            for _ in range(dice.randint(1, 40)):
                # Sealed again half of the time: sums that are right get further.
                spot = dice.choice([dice.randrange(64), HEADER + dice.randrange(8 * RECORD)])
                image[spot] = dice.choice([0, 1, 255, dice.randrange(256)])
            if round_number % 2:
                for start in range(HEADER, len(image), RECORD):
                    fields = struct.unpack_from("<QIIIIIIII", image, start + 8)
                    image[start:start + RECORD] = record(
                        fields[4], fields[3], fields[2], fields[5], fields[6], (bytes(image[start + 48:start + 52]), fields[8]),
                        family=fields[7])
            if round_number % 3 == 0:
                del image[dice.randrange(len(image)):]
            with held(bytes(image)):
                for words in (["ls"], ["ls", "--json"]):
                    out, _ = skein(*words, SKEIN_DIR=folder)
            json.loads(out)
            (folder / OWN / TOTALS).write_bytes(dice.randbytes(dice.randrange(300)))
