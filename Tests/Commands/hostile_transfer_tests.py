"""`skein send` and `skein receive` with peers that mean harm, or are no skein at all."""

import os
import random
import shutil
import struct

from harness import one_line, skein, test
from running import Running, host
from transfers import SUFFIX, make, names, place, receiver, xxh128

def message(kind, body=b"", version=1, length=None):
    return b"SK" + struct.pack("<BBI", version, kind, len(body) if length is None else length) + body


def offer(name, size, mode=0o644):
    return message(1, struct.pack("<HQ", mode, size) + name)


def digest(content):
    return bytes.fromhex(xxh128(content))


BEGIN = message(3, struct.pack("<Q", 0))


def say(folder, address, content):
    """Sends these bytes to a receiver, and returns what it answers."""
    with Running(folder, "connect", address) as client:
        return client.finish(None, content)[0]


@test("receive: names that lead out of the folder, hide or do harm are refused, and nothing is made")
def _(folder):
    for name in (b"../evil", b"/tmp/evil", b"a/b", b"..", b".", b".bashrc", b"", b"nul\0", b"line\nfeed", b"\x1b[2J", b"\xff",
                 b"x" * 245, b"x" * 255):
        with receiver(folder) as to:
            answer = say(folder, to.address, offer(name, 4))
            one_line(to.finish(1)[1], "-o FILE")
            assert answer[3] == 7 and answer[8] == 2, answer
    assert names(place(folder)) == [] and not (folder / "evil").exists() and not os.path.exists("/tmp/evil")


@test("receive: set-user-id never arrives")
def _(folder):
    with receiver(folder) as to:
        say(folder, to.address, offer(b"x", 1, 0o7777) + BEGIN + message(4, b"y" + digest(b"y"))
            + message(5, struct.pack("<Q", 1) + digest(b"y")))
        to.finish()
    assert (place(folder) / "x").stat().st_mode & 0o7000 == 0


@test("receive: a size that the disk can't hold is refused, and one that none can is no offer")
def _(folder):
    with receiver(folder) as to:
        say(folder, to.address, offer(b"x", 1 << 62))
        one_line(to.finish(1)[1], "make room")
    with receiver(folder) as to:
        answer = say(folder, to.address, offer(b"x", 1 << 63))
        assert answer[3] == 7 and "has no place" in to.line()
    assert names(place(folder)) == []


@test("receive: more than was offered, chunks of absurd sizes and wrong checksums are refused; none of it is stored")
def _(folder):
    good = message(4, b"good" + digest(b"good"))
    cases = ((good + message(4, b"x" + digest(b"goodx")), 1), (good + message(4, length=0xFFFFFFFF), 1), (message(4, length=16), 1),
             (message(4, b"evil" + digest(b"good")), 4), (good + message(5, struct.pack("<Q", 4) + digest(b"evil")), 4),
             (good + message(5, struct.pack("<Q", 3) + digest(b"good")), 1), (good + message(1), 1), (good + b"noise" * 9, 1))
    for content, code in cases:
        with receiver(folder) as to:
            say(folder, to.address, offer(b"x", 4) + BEGIN + content)
            to.finish(code)
        left = place(folder) / f"x{SUFFIX}"
        assert names(place(folder)) in ([], [left.name])
        assert not left.exists() or left.read_bytes() == b"good"
        shutil.rmtree(place(folder))


@test("receive: strangers, other versions and mutes don't keep it from its sender")
def _(folder):
    content = make(folder / "x", 1000)
    with receiver(folder) as to:
        assert say(folder, to.address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[3] == 7
        stranger = to.line()
        assert "speak as 'skein send'" in stranger and "process " in stranger, stranger
        say(folder, to.address, message(1, version=9))
        assert "version 9" in to.line()
        for word in (b"", b"hello\n"):
            say(folder, to.address, word)
            assert "went before it had offered a file" in to.line()
        with Running(folder, "connect", to.address) as mute:
            line = to.line()
            assert "offers no file" in line and f"process {mute.process.pid} (skein)" in line, line
            mute.end_input()
        skein("send", str(folder / "x"), to.address, **host(folder))
        to.finish()
    assert (place(folder) / "x").read_bytes() == content


def answered(folder, reply, expect):
    """Sends a file to a 'receiver' that says just this. Returns what it got and what the sender says."""
    make(folder / "x", 100)
    with Running(folder, "listen", ":0", ready="stderr") as to, Running(folder, "send", folder / "x", to.address) as sender:
        to.end_input(reply)
        err = sender.finish(expect)[1]
        return to.finish(None)[0], err


@test("send: whatever a receiver claims to have, the sender reads its own file alone")
def _(folder):
    content = random.Random(1).randbytes(100)
    for claimed in (1, 101, 1 << 40, 1 << 63, (1 << 64) - 1):
        got, err = answered(folder, message(2, struct.pack("<Q", claimed) + digest(b"a guess")) + message(6), 0)
        begin = got.index(BEGIN)
        assert got[begin + len(BEGIN) + 8:][:100] == content, claimed
    got, _ = answered(folder, message(2, struct.pack("<Q", 60) + digest(content[:60])) + message(6), 0)
    assert content[60:] in got and content[:60] not in got


@test("send: receivers that are none, of another version, or talk nonsense are named")
def _(folder):
    one_line(answered(folder, b"HTTP/1.1 400 Bad Request\r\n\r\n", 1)[1], "speak as 'skein send'")
    one_line(answered(folder, message(2, version=2), 1)[1], "version 2")
    one_line(answered(folder, message(6), 1)[1], "no place")
    one_line(answered(folder, b"", 3)[1], "receiver is gone")
    one_line(answered(folder, message(7, b"\x04\x1b[2J\x07boo"), 1)[1], "?[2J?boo")
    one_line(answered(folder, message(7, b"\x03"), 4)[1])
    one_line(answered(folder, message(7, b"\x01"), 5)[1])
