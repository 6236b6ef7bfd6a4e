"""Devices that are another NBD server's exports."""

import contextlib
import os
import random

import nbd
from harness import Skip, one_line, skein, test
from managing import listed, tell
from replace_tests import successor
from running import KILL, Running, host, needs_root, until
from server import SIZE, image, server, sparse


@contextlib.contextmanager
def beneath(folder, *devices, options=()):
    """A server whose exports others have as their devices."""
    place = folder / "beneath"
    place.mkdir(exist_ok=True)
    listen = f"nbd+unix:///?socket={place}/socket"
    with Running(place, "export", *devices, "--listen", listen, *options, ready="stdout") as running:
        running.client = lambda: nbd.Client(listen)
        yield running


def uri(folder, name="disk"):
    return f"nbd+unix:///{name}?socket={folder}/beneath/socket"


@test("remote: reads, writes, zeroes, trims, hints and block status reach the other server, and come back as they are there")
def _(folder):
    path = sparse(folder, 8 << 20, (1 << 20, 1 << 20), name="there")
    with beneath(folder, f"disk={path}"), server(folder, f"disk={uri(folder)}") as running:
        for style in ("simple", "structured", "extended"):
            with running.client() as client:
                if style != "simple":
                    getattr(client, style)().allocation("disk")
                client.go("disk")
                assert client.size == 8 << 20 and client.transmission & 1 << 5 and client.transmission & 1 << 11
                data = random.Random(style).randbytes(300001)
                assert client.write(5000, data) == 0 and client.read(5000, len(data)) == data
                assert path.read_bytes()[5000:5000 + len(data)] == data
                assert client.do(nbd.CACHE, 0, 1 << 20) == 0 and client.do(nbd.FLUSH) == 0
                assert client.do(nbd.WRITE_ZEROES, 0, 1 << 20, nbd.FUA) == 0 and path.read_bytes()[:1 << 20] == bytes(1 << 20)
                assert client.do(nbd.WRITE_ZEROES, 1 << 20, 4096, nbd.FAST_ZERO) == 0
                assert client.do(nbd.TRIM, 2 << 20, 1 << 20) == 0
                if style != "simple":
                    assert client.status(0, 4 << 20) == [(1 << 20 | 4096, 3), ((1 << 20) - 4096, 0), (2 << 20, 3)]
                    assert client.status(0, 4 << 20, nbd.REQ_ONE) == [(1 << 20 | 4096, 3)]
                wanted = {client.request(nbd.READ, number << 14, 1 << 14): number for number in range(60)}
                for _ in range(len(wanted) if style != "simple" else 0):
                    chunks = client.chunks()
                    number = wanted.pop(chunks[0].cookie)
                    assert nbd.assemble(chunks, number << 14, 1 << 14) == path.read_bytes()[number << 14:number + 1 << 14]


@test("remote: a flush and FUA reach the permanent storage of the other server")
def _(folder):
    path = image(folder)
    with beneath(folder, f"disk=volatile:{path}"), server(folder, f"disk={uri(folder)}") as running, running.client() as client:
        client.go("disk")
        assert client.write(0, b"1" * 5000) == 0 and path.read_bytes()[:5000] != b"1" * 5000
        assert client.do(nbd.FLUSH) == 0 and path.read_bytes()[:5000] == b"1" * 5000
        assert client.write(8192, b"2" * 5000, nbd.FUA) == 0 and path.read_bytes()[8192:13192] == b"2" * 5000


@test("remote: errors of the other server are its clients' errors")
def _(folder):
    needs_root("to mount a small file system")
    small = folder / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=1M none {small}"):
        raise Skip("no file system can be mounted here")
    try:
        path = sparse(small, 8 << 20)
        with beneath(folder, f"disk={path}"), server(folder, f"disk={uri(folder)}") as running, running.client() as client:
            client.structured().go("disk")
            assert client.write(0, b"x" * (512 << 10)) == 0
            assert client.write(0, b"y" * (4 << 20)) == nbd.ENOSPC
            os.truncate(path, 4096)
            assert client.do(nbd.READ, 8192, 4096) == nbd.EIO and client.read(0, 4096)
    finally:
        os.system(f"umount {small}")


@test("remote: a server that isn't there, an export that it hasn't, and one that can only be read are named at the start")
def _(folder):
    runtime = host(folder)["SKEIN_DIR"]
    there = ["--listen", f"nbd+unix:///?socket={folder}/s"]

    def refused(device, word):
        one_line(skein("export", device, *there, expect=1, SKEIN_DIR=runtime)[1], word)

    refused("nbd:somewhere", "nbd://HOST/NAME")
    refused(uri(folder), "can't be had")
    with beneath(folder, f"disk=read-only:{image(folder)}"):
        refused(uri(folder, "nothing"), "no export named")
        refused(uri(folder), "--read-only serves it")
        with server(folder, f"disk=nbd:{uri(folder)}", options=["--read-only"]) as running, running.client() as client:
            client.go("disk")
            assert client.read(0, SIZE) == (folder / "disk.img").read_bytes() and client.do(nbd.TRIM, 0, 4096) == nbd.EPERM
        with server(folder, f"disk=overlay:{uri(folder)}") as running, running.client() as client:
            assert client.go("disk").write(0, b"new") == 0 and client.read(0, 4)[:3] == b"new"


def is_there(folder):
    return "no connection" not in listed(folder)["disk"]["device"]


@test("remote: while the other server is away requests fail with EIO at once, and go on when it is back; a flush tells of what got lost")
def _(folder):
    path = image(folder)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(beneath(folder, f"disk=volatile:{path}"))
        running = stack.enter_context(server(folder, f"disk={uri(folder)}"))
        client = stack.enter_context(running.client()).structured().go("disk")
        assert client.write(0, b"kept") == 0 and client.do(nbd.FLUSH) == 0 and client.write(4, b"lost") == 0
        first.signal(KILL)
        first.process.wait()
        until(lambda: client.do(nbd.READ, 0, 512) == nbd.EIO, "the connection is lost")
        assert client.write(0, b"none") == nbd.EIO and not is_there(folder)
        stack.enter_context(beneath(folder, f"disk=volatile:{path}"))
        until(lambda: is_there(folder), "the connection is back")
        assert client.read(0, 4) == b"kept" and client.read(4, 4) == image(folder, name="same").read_bytes()[4:8]
        assert client.do(nbd.FLUSH) == nbd.EIO
        assert client.write(4, b"anew") == 0 and client.do(nbd.FLUSH) == 0 and client.read(0, 8) == b"keptanew"


@test("remote: one that comes back with another size isn't taken for the same")
def _(folder):
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(beneath(folder, "disk=memory:1M"))
        stack.enter_context(server(folder, f"disk={uri(folder)}"))
        first.signal(KILL)
        first.process.wait()
        stack.enter_context(beneath(folder, "disk=memory:2M"))
        until(lambda: "another export" in listed(folder)["disk"]["device"], "the other size is seen")


@test("remote: a mirror goes on when the other server dies, and has its content again after it is back, under load")
def _(folder):
    near, far = image(folder, name="near"), image(folder, name="far")
    for order in ([str(near), uri(folder)], [uri(folder), str(near)]):
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(beneath(folder, f"disk={far}"))
            running = stack.enter_context(server(folder, f"disk=mirror:{','.join(order)}"))
            client = stack.enter_context(running.client()).structured().go("disk")
            assert client.write(0, b"both") == 0 and far.read_bytes()[:4] == near.read_bytes()[:4] == b"both"
            first.signal(KILL)
            first.process.wait()
            assert client.write(0, b"near") == 0 and client.read(0, 4) == b"near" and client.ping()
            until(lambda: "(lost)" in listed(folder)["disk"]["device"], "the mirror notices")
            far.write_bytes(bytes(SIZE))
            stack.enter_context(beneath(folder, f"disk={far}"))
            source = random.Random(5)
            while "(lost)" in (told := listed(folder)["disk"]["device"]) or "(rebuilding)" in told:
                assert client.write(source.randrange(SIZE - 3000), source.randbytes(3000)) == 0
            assert told.count("(working)") == 2 and client.ping()
            assert far.read_bytes() == near.read_bytes()


@test("remote: a server with a device of another one's is replaced, also while that one is away")
def _(folder):
    near, far = image(folder, name="near"), image(folder, name="far")
    devices = [f"disk={uri(folder)}", f"pair=mirror:{near},{uri(folder)}"]
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(beneath(folder, f"disk={far}"))
        running = stack.enter_context(server(folder, *devices))
        client, other = (stack.enter_context(running.client()).structured().go(name) for name in ("disk", "pair"))
        assert client.write(0, b"one") == 0 and other.write(0, b"two") == 0
        second = stack.enter_context(successor(folder, *devices))
        assert running.process.wait(30) == 0 and client.read(0, 3) == b"two" == other.read(0, 3)
        first.signal(KILL)
        first.process.wait()
        assert other.write(0, b"ten") == 0
        until(lambda: client.do(nbd.READ, 0, 512) == nbd.EIO, "the connection is lost")
        stack.enter_context(successor(folder, *devices))
        assert second.process.wait(30) == 0 and client.do(nbd.READ, 0, 512) == nbd.EIO and other.read(0, 3) == b"ten"
        stack.enter_context(beneath(folder, f"disk={far}"))
        until(lambda: listed(folder)["pair"]["device"].count("(working)") == 2, "the mirror is complete")
        assert far.read_bytes()[:3] == b"ten" and client.read(0, 3) == b"ten"
        tell(folder, "remove", "pair")
