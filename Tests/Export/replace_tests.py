"""A server whose place another one takes, while its clients go on."""

import contextlib
import os
import pathlib
import random
import socket
import struct
import threading

import nbd
from certificates import Authority
from harness import one_line, test
from managing import end_restarted, listed, tell
from running import TERMINATE, Running, until
from server import SIZE, Scratch, image, secure_server, server
from tls_tests import secured


def successor(folder, *devices, options=(), **more):
    """A server with the same words in the place of the one that runs."""
    return server(folder, *devices, options=(*options, "--replace"), **more)


@contextlib.contextmanager
def replaced(folder, *devices, prepare, new_devices=None, **more):
    """What `prepare` makes with the first server, and the second one, which has taken its place."""
    with server(folder, *devices, **more) as old:
        made = prepare(old)
        with successor(folder, *(new_devices or devices), listen=old.uri, options=more.get("options", ())) as new:
            old.process.wait(30)
            assert old.process.returncode == 0
            yield made, new


class Traffic(threading.Thread):
    """A client that writes and reads its own part, many requests at once, until it is told to end."""

    def __init__(self, running, number, style, name="disk", size=64 << 10):
        super().__init__()
        self.client = running.client()
        if style != "simple":
            getattr(self.client, style)()
        self.client.go(name)
        self.number, self.size, self.rounds, self.failure = number, size, 0, None
        self.isOver = threading.Event()

    def run(self):
        source = random.Random(self.number)
        start = self.number * self.size
        content = bytearray(self.client.read(start, self.size))
        try:
            while not self.isOver.is_set():
                offset = source.randrange(self.size - 9000)
                data = source.randbytes(source.randrange(1, 9000))
                assert self.client.write(start + offset, data) == 0
                content[offset:offset + len(data)] = data
                assert self.client.read(start, self.size) == content
                self.rounds += 1
        except Exception as error:
            self.failure = error

    def end(self):
        self.isOver.set()
        self.join(60)
        assert self.failure is None, repr(self.failure)
        self.client.close()


@test("replace: clients of every style write and read while the server is replaced five times, and lose nothing")
def _(folder):
    path = image(folder)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(server(folder, f"disk={path}"))
        clients = [Traffic(running, number, ("simple", "structured", "extended")[number % 3]) for number in range(6)]
        for client in clients:
            client.start()
        for _ in range(5):
            before = [client.rounds for client in clients]
            new = stack.enter_context(successor(folder, f"disk={path}"))
            running.process.wait(30)
            assert running.process.returncode == 0
            running = new
            until(lambda: all(client.rounds > count or client.failure for client, count in zip(clients, before)), "progress")
        for client in clients:
            client.end()
        assert listed(folder)["disk"]["bytes"] == SIZE


@test("replace: a request, a payload and an option that have come in part are completed with the new server")
def _(folder):
    path = image(folder)

    def prepare(running):
        clients = [running.client().go("disk") for _ in range(4)] + [running.client()]
        header = struct.pack(">IHHQQI", nbd.REQUEST, 0, nbd.WRITE, 1, 4096, 600 << 10)
        clients[0].put(header[:11])
        clients[1].put(header.replace(struct.pack(">Q", 4096), struct.pack(">Q", 200 << 10)) + b"w" * 50000)
        clients[2].put(struct.pack(">IHHQQI", nbd.REQUEST, nbd.FUA, nbd.WRITE, 1, 900 << 10, 100 << 10) + b"d" * 50000)
        clients[3].put(struct.pack(">IHHQQI", nbd.REQUEST, 0, nbd.WRITE, 1, SIZE, 100 << 10) + b"e" * 50000)
        clients[4].structured().allocation("disk")
        clients[4].put(struct.pack(">QII", nbd.OPTION, nbd.GO, 10) + nbd.go_body("disk")[:7])
        until(lambda: listed(folder, "stats")["disk"]["requests"] == 3, "the requests are taken up")
        return clients, header

    with replaced(folder, f"disk={path}", prepare=prepare) as ((clients, header), new):
        for client in clients:
            client.cookie = 1
        clients[1].put(b"w" * ((600 << 10) - 50000))
        assert clients[1].error() == 0 and clients[1].read(200 << 10, 600 << 10) == b"w" * (600 << 10)
        clients[0].put(header[11:] + b"v" * (600 << 10))
        assert clients[0].error() == 0 and clients[0].read(4096, 600 << 10) == b"v" * (600 << 10)
        clients[2].put(b"d" * ((100 << 10) - 50000))
        assert clients[2].error() == 0 and path.read_bytes()[900 << 10:1000 << 10] == b"d" * (100 << 10)
        clients[3].put(b"e" * ((100 << 10) - 50000))
        assert clients[3].error() == nbd.ENOSPC and clients[3].ping()
        clients[4].put(nbd.go_body("disk")[7:])
        assert clients[4].replies(nbd.GO)[-1][0] == nbd.ACK
        assert clients[4].status(0, SIZE)[0][0] == SIZE


@test("replace: replies that a client hasn't taken reach it whole, and in order, from disk and from memory")
def _(folder):
    content = random.Random(3).randbytes(24 << 20)
    path = image(folder, content=content)
    with Scratch(prefix="skein-export-", dir="/dev/shm") as memory:
        there = image(pathlib.Path(memory), content=content)
        devices = [f"disk={path}", f"memory={there}"]

        def prepare(running):
            clients = [(running.client(), name, style) for name in ("disk", "memory") for style in ("simple", "extended")]
            for client, name, style in clients:
                if style != "simple":
                    client.extended()
                client.go(name)
                # Behind the others there is one that must wait for its turn.
                client.wanted = [(client.request(nbd.READ, number * 4 << 20, 4 << 20), number) for number in range(6)]
            return clients

        with replaced(folder, *devices, prepare=prepare) as (clients, new):
            for client, _, style in clients:
                missing = dict(client.wanted)
                while missing:
                    if style == "simple":
                        magic, error, cookie = struct.unpack(">IIQ", client.take(16))
                        assert magic == nbd.SIMPLE and error == 0
                        data = client.take(4 << 20)
                    else:
                        chunks = client.chunks()
                        cookie = chunks[0].cookie
                        data = nbd.assemble(chunks, missing[cookie] * 4 << 20, 4 << 20)
                    number = missing.pop(cookie)
                    assert data == content[number * 4 << 20:(number + 1) * 4 << 20]
                assert client.ping()


def lent(running, folder, count=40, size=512 << 10):
    """A client of a device in memory that has asked for so many short reads at once, and taken none."""
    client = running.client().go("memory")
    client.put(b"".join(struct.pack(">IHHQQI", nbd.REQUEST, 0, nbd.READ, number, number * 1000, size) for number in range(count)))
    until(lambda: listed(folder, "stats")["memory"]["requests"] == count, "the requests are answered")
    return client


@test("replace: what memory has lent and a client hasn't taken reaches it whole")
def _(folder):
    content = random.Random(5).randbytes(1 << 20)
    with Scratch(prefix="skein-export-", dir="/dev/shm") as memory:
        there = image(pathlib.Path(memory), content=content)
        with replaced(folder, f"memory={there}", prepare=lambda running: lent(running, folder)) as (client, new):
            for number in range(40):
                assert struct.unpack(">IIQ", client.take(16)) == (nbd.SIMPLE, 0, number)
                assert client.take(512 << 10) == content[number * 1000:number * 1000 + (512 << 10)]
            assert client.ping()


@test("replace: memory that became shorter while it was lent costs the client that was to get it, and nobody else")
def _(folder):
    with Scratch(prefix="skein-export-", dir="/dev/shm") as memory:
        there = image(pathlib.Path(memory), size=1 << 20)

        def prepare(running):
            clients = lent(running, folder), running.client().go("disk")
            os.truncate(there, 0)
            return clients

        with replaced(folder, f"memory={there}", f"disk={image(folder)}", prepare=prepare) as ((client, other), new):
            assert client.is_closed() and other.ping()


@test("replace: memory, overlays, caches, mirrors and devices that were added keep what only the server knows")
def _(folder):
    path = image(folder)
    small = image(folder, SIZE // 2, name="small")
    devices = ["memory=memory:1M", f"overlay=overlay:{path}", f"volatile=volatile:{small}", "joined=concat:memory:8K,memory:8K"]
    names = [word.split("=")[0] for word in devices]
    before = small.read_bytes()

    def prepare(running):
        tell(folder, "add", "new=memory:64K")
        tell(folder, "resize", "memory", "2M")
        clients = [running.client().structured().allocation(name).go(name) for name in [*names, "new"]]
        for number, client in enumerate(clients):
            assert client.write(5000, bytes([65 + number]) * 5000) == 0
        return clients

    with replaced(folder, *devices, prepare=prepare) as (clients, new):
        assert list(listed(folder)) == [*names, "new"] and listed(folder)["memory"]["bytes"] == 2 << 20
        for number, (name, client) in enumerate(zip([*names, "new"], clients)):
            with new.client() as other:
                assert client.read(5000, 5000) == other.go(name).read(5000, 5000) == bytes([65 + number]) * 5000
        assert clients[1].read(0, 5000) == path.read_bytes()[:5000] == image(folder, name="same").read_bytes()[:5000]
        assert small.read_bytes() == before, "what was not flushed is still in the cache"
        assert clients[2].ping() and small.read_bytes()[5000:10000] == b"C" * 5000


@test("replace: a part of a mirror that has failed stays out of it")
def _(folder):
    good, bad = image(folder, name="good"), image(folder, name="bad")

    def prepare(running):
        client = running.client().go("disk")
        os.truncate(bad, 0)
        assert client.read(0, SIZE) == good.read_bytes()
        if "failed" not in listed(folder)["disk"]["device"]:
            assert client.read(0, SIZE) == good.read_bytes()
        return client

    devices = [f"disk=mirror:{bad},{good}"]
    with replaced(folder, *devices, prepare=prepare) as (client, new):
        os.truncate(bad, SIZE)
        assert f"file {bad} (failed)" in listed(folder)["disk"]["device"]
        assert client.read(0, SIZE) == good.read_bytes()


@test("replace: clients by TLS are served to their end by the old server, or as long as --drain-timeout says")
def _(folder):
    authority = Authority(folder)
    context = authority.context()
    for seconds in ("60", "1"):
        words = ["--tls", "offered", "--drain-timeout", seconds]
        with secure_server(folder, options=words, authority=authority) as old:
            plain = old.client().go("disk")
            client = secured(old.client(), context).go("disk")
            options = ["--tls-certificates", authority.folder, *words]
            with successor(folder, f"disk={folder / 'disk.img'}", options=options) as new:
                if seconds == "60":
                    for _ in range(3):
                        assert client.write(0, b"old" * 100) == 0 and plain.read(0, 300) == b"old" * 100
                    assert old.process.poll() is None
                    client.close()
                else:
                    assert client.is_closed()
                    assert "sent off" in old.line()
                assert old.process.wait(30) == 0
                with new.client() as later:
                    assert secured(later, context).go("disk").read(0, 300) == plain.read(0, 300)
                assert plain.ping()
                plain.close()


@test("replace: whatever keeps the new server from starting leaves the old one and its clients as they were")
def _(folder):
    path = image(folder)
    authority = Authority(folder)
    tls = ["--tls-certificates", authority.folder, "--tls", "offered"]
    with secure_server(folder, f"disk={path}", f"twice=mirror:{image(folder, name='a')},{image(folder, name='b')}",
                       options=["--tls", "offered"], authority=authority) as old:
        client = old.client().go("disk")
        there = ["--listen", old.uri, "--replace"]
        for words, said in (
                ([f"disk={folder}/a", *there], "has another device as 'disk'"),
                ([f"disk={path}", "--read-only", *there], "has another device as 'disk'"),
                ([f"disk={path}", f"more={folder}/nothing", *there], "missing"),
                ([f"disk={path}", "--allow", "none=anyone", *there], "none of the exports"),
                ([f"disk={path}", *there, "--tls-certificates", f"{folder}/nothing"], "can't be read"),
                ([f"disk={path}", *there, "--listen", f"nbd+unix:///?socket={folder}/no/folder"], "No such file")):
            _, err = tell(folder, *words, expect=2 if "No such" in said else 1)
            assert said in err, err
            assert client.ping()
        assert old.process.poll() is None
        with old.client() as other, secured(old.client(), authority.context()) as third:
            assert other.go("disk").ping()
            third.go("twice")
            _, err = tell(folder, f"disk={path}", *there, *tls, expect=1)
            one_line(err, "only one process can have this kind of device")
            assert client.ping() and third.ping() and other.ping()
        tell(folder, "add", "later=memory:4K")


@test("replace: who comes through memory can't be handed over, and a server of another version isn't understood")
def _(folder):
    with Running(folder, "export", "memory:1M", "--listen", "nbd+stp://:0", ready="stdout") as old:
        one_line(tell(folder, "memory:1M", "--listen", "nbd://127.0.0.1:0", "--replace", expect=1)[1], "stop the server and start it")
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(str(folder / "runtime" / "export.sock"))
            channel.sendall(b"hand-over\0000\0")
            assert b"another version" in channel.recv(4096)
        assert old.process.poll() is None


@test("replace: without a server that runs it starts as ever; the new one has other listeners and a second one takes over again")
def _(folder):
    path = image(folder)
    with successor(folder, f"disk={path}") as first:
        client = first.client().go("disk")
        with successor(folder, f"disk={path}", listen="nbd://127.0.0.1:0") as second:
            assert first.process.wait(30) == 0 and not (folder / "socket").exists()
            with successor(folder, f"disk={path}", listen="nbd://127.0.0.1:0") as third:
                assert second.process.wait(30) == 0 and third.uri == second.uri
                with third.client() as other:
                    assert other.go("disk").ping() and client.ping()
                client.put(struct.pack(">IHHQQI", nbd.REQUEST, 0, nbd.DISC, 9, 0, 0))
                assert client.is_closed()
                tell(folder, "remove", "disk")


@test("restart: the server starts itself anew, and goes on where that fails")
def _(folder):
    path = image(folder)
    configuration = folder / "configuration"
    configuration.write_text(f"device disk={path}\n")
    with server(folder, options=["--config", configuration, "--workers", "2"]) as running:
        clients = [running.client().go("disk") for _ in range(50)]
        first = running.process.pid
        configuration.write_text(f"device disk={path}\ndevice more={folder}/nothing\n")
        one_line(tell(folder, "restart", expect=1)[1], "the new server has ended")
        # One line is the new server's, one the old one's.
        assert "missing" in running.line() + running.line()
        assert all(client.ping() for client in clients)
        configuration.write_text(f"device disk={path}\ndevice more=memory:1M\n")
        for _ in range(3):
            tell(folder, "restart")
            assert running.line("stdout").startswith("ready nbd+unix:")
        running.process.wait(30)
        assert all(client.ping() for client in clients)
        assert list(listed(folder)) == ["disk", "more"] and listed(folder)["disk"]["clients"] == 50
        assert first not in end_restarted(folder)
        assert all(client.is_closed() for client in clients)
