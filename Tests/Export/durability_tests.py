"""What survives a server that is killed: everything that was flushed, or written with FUA, on whatever connection."""

import os
import random
import struct
import subprocess
import threading
import time

import nbd
from harness import Skip, test
from running import KILL, needs_root
from server import image, server

BLOCK = 4096
BLOCKS = 512


def stamp(block, version):
    return struct.pack(">QQ", block, version) * (BLOCK // 16)


class Writer(threading.Thread):
    """Writes numbered versions of its own blocks, and notes what the server has said of them."""

    def __init__(self, running, number, many):
        super().__init__()
        self.client = running.client().structured()
        self.client.go("disk")
        self.blocks = range(number, BLOCKS, many)
        self.source = random.Random(number)
        self.written = dict.fromkeys(self.blocks, 0)  # the newest that may be there
        self.answered = dict.fromkeys(self.blocks, 0)
        self.durable = dict.fromkeys(self.blocks, 0)
        self.rounds = 0

    def run(self):
        version = 0
        try:
            while True:
                version += 1
                block = self.source.choice(self.blocks)
                kind = self.source.randrange(10)
                if kind == 0:
                    covered = dict(self.answered)
                    assert self.client.do(nbd.FLUSH) == 0
                    self.durable.update(covered)
                else:
                    self.written[block] = version
                    assert self.client.write(block * BLOCK, stamp(block, version), nbd.FUA if kind == 1 else 0) == 0
                    self.answered[block] = version
                    if kind == 1:
                        self.durable[block] = version
                self.rounds += 1
        except (nbd.Closed, OSError):
            pass  # the server was killed


def killed(folder, kind):
    """Four connections write until the server is killed. The writers, and the content of the file then."""
    path = image(folder, content=b"".join(stamp(block, 0) for block in range(BLOCKS)))
    with server(folder, f"disk={kind}{path}", options=["--workers", "2"]) as running:
        writers = [Writer(running, number, 4) for number in range(4)]
        for writer in writers:
            writer.start()
        while min(writer.rounds for writer in writers) < 100:
            assert all(writer.is_alive() for writer in writers), "a writer ended by itself"
            time.sleep(0.01)
        running.signal(KILL)
        for writer in writers:
            writer.join(60)
            writer.client.close()
        running.process.wait()
        running.finish = lambda: (b"", "")
    return writers, path.read_bytes()


def versions(content):
    found = {}
    for block in range(BLOCKS):
        data = content[block * BLOCK:(block + 1) * BLOCK]
        number, version = struct.unpack(">QQ", data[:16])
        assert number == block and data == stamp(block, version), f"block {block} is torn"
        found[block] = version
    return found


def check(writers, found):
    for writer in writers:
        for block in writer.blocks:
            least, most = writer.durable[block], writer.written[block]
            assert least <= found[block] <= most, f"block {block} has version {found[block]}, not {least} to {most}"


@test("durability: a server that is killed under four connections has lost nothing that it answered")
def _(folder):
    writers, content = killed(folder, "")
    found = versions(content)
    check(writers, found)
    assert all(found[block] >= writer.answered[block] for writer in writers for block in writer.blocks)


@test("durability: a power cut with a volatile cache spares all that was flushed or written with FUA")
def _(folder):
    writers, content = killed(folder, "volatile:")
    check(writers, versions(content))


@test("durability: a flush on one connection covers what another one has written")
def _(folder):
    path = image(folder)
    with server(folder, f"disk=volatile:{path}") as running:
        with running.client() as first, running.client() as second:
            first.structured().go("disk")
            second.structured().go("disk")
            assert first.write(8192, b"1" * 5000) == 0
            assert path.read_bytes()[8192:13192] != b"1" * 5000, "what was not flushed would be lost"
            assert second.do(nbd.FLUSH) == 0
            assert path.read_bytes()[8192:13192] == b"1" * 5000
            assert first.do(nbd.WRITE_ZEROES, 8192, 100, nbd.FUA) == 0
            assert path.read_bytes()[8192:8292] == bytes(100)


# --- block devices


class Loop:
    """A block device from a file, where the machine has one to give."""

    def __init__(self, path, *options):
        needs_root("for a block device")
        result = subprocess.run(["losetup", "--find", "--show", *options, str(path)], capture_output=True, text=True,
                                env=os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
        if result.returncode != 0:
            raise Skip(f"no block device is to be had: {result.stderr.strip()}")
        self.path = result.stdout.strip()

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        subprocess.run(["losetup", "--detach", self.path], check=True,
                       env=os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})


@test("block device: it is served, written, zeroed, given back, and only one server writes it")
def _(folder):
    path = image(folder)
    before = path.read_bytes()
    with Loop(path) as device, server(folder, f"disk={device}") as running, running.client() as client:
        client.structured().allocation("disk").go("disk")
        assert client.size == len(before)
        assert not client.transmission & 1 << 9, "its size doesn't change"
        assert client.read(0, len(before)) == before
        assert client.write(5000, b"new" * 1000, nbd.FUA) == 0
        assert client.do(nbd.WRITE_ZEROES, 20001, 30000) == 0
        assert client.do(nbd.WRITE_ZEROES, 60001, 30000, nbd.NO_HOLE) == 0
        assert client.do(nbd.TRIM, 200001, 30000) == 0
        assert client.status(0, len(before)) == [(len(before), 0)]
        assert client.do(nbd.FLUSH) == 0
        expected = bytearray(before)
        expected[5000:8000] = b"new" * 1000
        expected[20001:50001] = expected[60001:90001] = bytes(30000)
        for content in (client.read(0, len(before)), path.read_bytes()):
            assert content[:200001] == expected[:200001] and content[230001:] == expected[230001:]
        second = folder / "second"
        second.mkdir()
        with running.__class__(second, "export", device, "--listen", "nbd://127.0.0.1:0") as other:
            assert "in use" in other.finish(1)[1]
        with server(second, device, options=["--read-only"]) as reading, reading.client() as reader:
            reader.structured().go()
            assert reader.read(5000, 3000) == b"new" * 1000


@test("block device: one that is read-only is refused for writing, and served for reading")
def _(folder):
    path = image(folder)
    with Loop(path, "--read-only") as device:
        with server(folder, f"disk=read-only:{device}") as running, running.client() as client:
            client.structured().go("disk")
            assert client.read(0, 4096) == path.read_bytes()[:4096]
            assert client.do(nbd.WRITE, 0, 4, 0, b"1234") == nbd.EPERM
