"""What `skein export` takes and refuses, and devices that fail."""

import os
import pathlib
import signal
import socket

import nbd
from durability_tests import Loop
from harness import Skip, one_line, skein, test
from running import INTERRUPT, TERMINATE, Running, needs_root
from server import SIZE, Scratch, image, server, sparse

# --- what it finds


def exported(running):
    with running.client() as client:
        return [data[4:4 + int.from_bytes(data[:4])].decode() for kind, data in client.option(nbd.LIST) if kind == nbd.SERVER]


@test("export: of a folder or a pattern all files, by their names; what can't be served is left out and named")
def _(folder):
    place = folder / "odd [place]*"
    place.mkdir()
    for name in ("b.img", "a.img", "c.raw"):
        image(place, name=name)
    (place / "folder.img").mkdir()
    (place / ".hidden.img").write_bytes(b"x")
    os.mkfifo(place / "fifo.img")
    (place / "gone.img").symlink_to("nowhere")
    (place / "link.img").symlink_to("c.raw")
    for text, names in ((place, ["a.img", "b.img", "c.raw", "link.img"]), (f"{place}/", ["a.img", "b.img", "c.raw", "link.img"]),
                        (f"{folder}/odd*/?.img", ["a.img", "b.img"]), (f"{folder}/odd*/[bc]*", ["b.img", "c.raw"])):
        with server(folder, text) as running:
            assert exported(running) == names, text
            with running.client() as client:
                assert client.go("b.img").read(0, 100) == (place / "b.img").read_bytes()[:100]
        assert running.errors == "", text
    with server(folder, place / "b.img", place) as running:
        assert exported(running) == ["b.img", "a.img", "c.raw", "link.img"]
    assert "left out: two devices have the name 'b.img'" in running.errors
    (folder / "*.img").write_bytes(b"0123")
    with server(folder, folder / "*.img") as running:
        assert exported(running) == ["*.img"], "a file of that very name is meant"
    (folder / "empty").mkdir()
    for text, says in ((f"{folder}/none*", "no file and no block device"), (folder / "empty", "no file and no block device"),
                       (f"all={place}", "one name to all")):
        one_line(skein("export", str(text), expect=1)[1], says)


@test("export: block devices that a folder names twice are served once")
def _(folder):
    place = folder / "by-id"
    place.mkdir()
    with Loop(image(folder)) as device:
        for name in ("first", "second"):
            (place / name).symlink_to(device)
        with server(folder, place) as running, running.client() as client:
            assert exported(running) == ["first"]
            assert client.go("first").read(0, 100) == (folder / "disk.img").read_bytes()[:100]
        assert running.errors == ""


# --- what it says


@test("export: a line 'ready URI' for each way in, with the port that it got")
def _(folder):
    path = image(folder)
    with Running(folder, "export", path, "--listen", "nbd://127.0.0.1:0", "--listen", "nbd://[::1]:0", "--listen",
                 f"nbd+unix:///?socket={folder}/s", ready="stdout") as running:
        uris = [running.address] + [running.line("stdout").split()[1] for _ in range(2)]
        assert uris[0].startswith("nbd://127.0.0.1:") and uris[1].startswith("nbd://[::1]:")
        for uri in uris:
            with nbd.Client(uri) as client:
                assert client.go("disk.img").read(0, SIZE) == path.read_bytes()
        running.signal(TERMINATE)
        assert running.finish(0)[1] == ""
    assert not (folder / "s").exists(), "the socket goes with the server"


@test("export: --verbose tells the order of initialisation: devices, ways in, descriptors, then clients")
def _(folder):
    with server(folder, f"disk={image(folder)}", options=["--verbose"]) as running:
        with running.client() as client:
            client.go("disk")
    lines = [line.split(":")[1].strip() for line in running.errors.splitlines()]
    assert lines[:3] == ["local transport", "remote transport", "connection manager"], lines
    assert "began" in running.errors
    assert lines[-1] == "stopped"


@test("export: SIGTERM and SIGINT answer what has come, then end with 0")
def _(folder):
    for number in (TERMINATE, INTERRUPT):
        with server(folder, f"disk={image(folder)}") as running, running.client() as client:
            client.go("disk")
            client.request(nbd.WRITE, 0, 512, payload=b"z" * 512)
            assert client.error() == 0
            running.signal(number)
            assert client.is_closed()
            running.finish(0)
        assert (folder / "disk.img").read_bytes()[:512] == b"z" * 512


@test("export: names come from the path or are given; two of one name are refused")
def _(folder):
    path = image(folder)
    with server(folder, path, f"other={path}") as running:
        for name in ("disk.img", "other", ""):
            with running.client() as client:
                assert client.go(name).size == SIZE
    _, err = skein("export", str(path), str(path), "--listen", f"nbd+unix:///?socket={folder}/s", expect=1)
    one_line(err, "disk.img", "name")


@test("export: memory:SIZE is a device of zeroes that is gone with the server")
def _(folder):
    with server(folder, "scratch=memory:16M") as running, running.client() as client:
        client.structured().allocation("scratch").go("scratch")
        assert client.size == 16 << 20
        assert client.status(0, 16 << 20) == [(16 << 20, 3)]
        assert client.write(5 << 20, b"x" * 5000) == 0
        assert client.read((5 << 20) - 1, 5002) == b"\0" + b"x" * 5000 + b"\0"
        assert client.do(nbd.TRIM, 5 << 20, 1 << 20) == 0
        assert client.status(0, 16 << 20) == [(16 << 20, 3)]


@test("export: --size makes a file that is missing and leaves others alone")
def _(folder):
    old = image(folder)
    with server(folder, f"old={old}", f"new={folder}/new.img", options=["--size", "3M"]) as running:
        for name, size in (("old", SIZE), ("new", 3 << 20)):
            with running.client() as client:
                assert client.go(name).size == size
    assert (folder / "new.img").stat().st_size == 3 << 20


@test("export: devices made of others: one behind the other, in stripes, mirrored, overlaid, read-only")
def _(folder):
    one, two = image(folder, 256 << 10, name="one"), image(folder, 256 << 10, content=b"2" * (256 << 10), name="two")
    first, second = one.read_bytes(), two.read_bytes()
    devices = [f"row=concat:{one},{two}", f"stripes=stripe:{one},{two}", f"view=read-only:{one}", f"over=overlay:{one}",
               f"twins=mirror:{one},{one}"]
    with server(folder, *devices) as running:
        clients = {name: running.client().structured().go(name) for name in ("row", "stripes", "view", "over", "twins")}
        assert clients["row"].read(0, 512 << 10) == first + second
        assert clients["stripes"].read(0, 128 << 10) == first[:65536] + second[:65536]
        assert clients["over"].write(1000, b"changed") == 0 and clients["over"].read(998, 11) == first[998:1000] + b"changed" + first[1007:1009]
        assert clients["view"].transmission & 2 and clients["view"].write(0, b"x") == nbd.EPERM
        assert one.read_bytes() == first
        assert clients["twins"].write(5, b"both", nbd.FUA) == 0 and one.read_bytes()[5:9] == b"both"
        for client in clients.values():
            client.close()
    _, err = skein("export", f"mirror:{one}", "--listen", f"nbd+unix:///?socket={folder}/s", expect=1)
    one_line(err, "two devices", "mirror:A,B")


@test("export: STP clients come by memory to nbd+stp://, here through a relay, and many requests cross at once")
def _(folder):
    path = image(folder)
    with Running(folder, "export", f"disk={path}", "--listen", "nbd+stp://:0", ready="stdout") as running:
        port = running.port
        with Running(folder, "relay", "127.0.0.1:0", f"stp::{port}", ready="stdout") as relay:
            clients = [nbd.Client(f"nbd://127.0.0.1:{relay.port}").structured().go("disk") for _ in range(3)]
            for number, client in enumerate(clients):
                assert client.read(0, SIZE) == path.read_bytes()
                assert client.write(number * 1000, bytes([number]) * 1000) == 0 and client.ping()
            assert clients[0].read(0, 3000) == b"".join(bytes([number]) * 1000 for number in range(3))
            running.signal(TERMINATE)
            assert all(client.is_closed() for client in clients)
            running.finish(0)


# --- what it refuses


@test("export: a device that is missing, an empty folder, no device or not allowed is named, with what to do")
def _(folder):
    os.mkfifo(folder / "fifo")
    for device, word in ((folder / "nothing", "missing"), (folder, "no file and no block device"), (f"read-only:{folder}", "neither"), ("/dev/null", "neither"),
                         (folder / "fifo", "neither"), ("memory:many", "memory:64M")):
        _, err = skein("export", str(device), "--listen", f"nbd+unix:///?socket={folder}/s", expect=1)
        one_line(err, word)
    assert not (folder / "s").exists()


@test("export: addresses that can't be had are named, with status 2; ones that make no sense with 1")
def _(folder):
    path = str(image(folder))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        _, err = skein("export", path, "--listen", f"nbd://127.0.0.1:{taken.getsockname()[1]}", expect=2)
        one_line(err, "taken")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "taken"))
        listener.listen()
        _, err = skein("export", path, "--listen", f"nbd+unix:///?socket={folder}/taken", expect=2)
        one_line(err, "taken")
    _, err = skein("export", path, "--listen", f"nbd+unix:///?socket={folder}/no/folder", expect=2)
    one_line(err, "No such file")
    for uri in ("http://x", "nbd+stp://nowhere", "nbd+unix:///", "nbd://host:port", "nbd://h/with/name", "nbd://[::1", "nbd+unix:///?socket="):
        one_line(skein("export", path, "--listen", uri, expect=1)[1], "write it as" if "http" not in uri else "begins with")


@test("export: a socket file that nobody listens on is replaced")
def _(folder):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        assert client.go("disk")


@test("export: wrong usage ends with 64")
def _(folder):
    path = str(image(folder))
    for words in ((), (path, "--workers", "0"), (path, "--max-connections", "0"), (path, "--handshake-timeout", "0"),
                  (path, "--unknown")):
        skein("export", *words, expect=64)
    out, _ = skein("export", "--help")
    assert "skein export" in out


# --- devices that fail


@test("device: a file that becomes shorter fails its own requests with EIO, and others go on")
def _(folder):
    with Scratch(prefix="skein-export-", dir="/dev/shm") as memory:
        for place in (folder, memory):
            path = image(pathlib.Path(place), name="shrinking")
            for style in ("simple", "structured"):
                os.truncate(path, SIZE)
                with server(folder, f"disk={path}") as running, running.client() as client:
                    if style == "structured":
                        client.structured()
                    client.go("disk")
                    os.truncate(path, 4096)
                    assert client.do(nbd.READ, 8192, 4096) == nbd.EIO
                    assert client.do(nbd.READ, 8192, 512 << 10) == nbd.EIO
                    assert len(client.read(0, 4096)) == 4096
                    assert client.ping()


@test("device: a full file system is ENOSPC for that request alone")
def _(folder):
    needs_root("to mount a small file system")
    small = folder / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=1M none {small}"):
        raise Skip("no file system can be mounted here")
    try:
        with server(folder, f"disk={sparse(small, 8 << 20)}") as running, running.client() as client:
            client.structured().go("disk")
            assert client.write(0, b"x" * (512 << 10)) == 0
            assert client.write(0, b"y" * (4 << 20)) == nbd.ENOSPC
            assert client.do(nbd.WRITE_ZEROES, 0, 8 << 20, nbd.NO_HOLE) == nbd.ENOSPC
            assert client.do(nbd.TRIM, 0, 8 << 20) == 0
            assert client.write(0, b"z" * 4096) == 0 and client.read(0, 4096) == b"z" * 4096
    finally:
        os.system(f"umount {small}")


@test("device: kill -9 of the server loses nothing that was flushed or written with FUA")
def _(folder):
    path = sparse(folder, SIZE)
    with Running(folder, "export", f"disk={path}", "--listen", f"nbd+unix:///?socket={folder}/s", ready="stdout") as running:
        one, two = (nbd.Client(running.address).go("disk") for _ in range(2))
        assert one.write(0, b"a" * 4096) == 0 and two.do(nbd.FLUSH) == 0
        assert two.write(4096, b"b" * 4096, nbd.FUA) == 0
        running.signal(signal.SIGKILL)
        assert one.is_closed() and two.is_closed()
    assert path.read_bytes()[:8192] == b"a" * 4096 + b"b" * 4096
