"""Clients that mean harm, or die: what became vulnerabilities of other servers, and what must not end this one."""

import contextlib
import os
import random
import resource
import socket
import struct

import nbd
from harness import Skip, test
from running import TERMINATE, until
from server import SIZE, image, server, sparse


def works(running):
    with running.client() as client:
        return client.go("disk").ping()


def raise_limit(wanted):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Skip(f"needs 'ulimit -Hn' of {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def resident(running):
    with open(f"/proc/{running.process.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def descriptors(running):
    return len(os.listdir(f"/proc/{running.process.pid}/fd"))


@test("hostile: unfinished handshakes by the thousand end at their deadline and harm nobody (as CVE-2024-7409)")
def _(folder):
    raise_limit(4096)
    with server(folder, f"disk={image(folder)}", options=["--handshake-timeout", "2"]) as running:
        assert works(running)
        before = descriptors(running)
        held = [nbd.dial(running.uri) for _ in range(1500)]
        held[0].sendall(b"\0\0")
        assert works(running)
        assert held[0].recv(18)[:8] == b"NBDMAGIC"
        until(lambda: descriptors(running) <= before + 1, "unfinished handshakes are ended")
        assert works(running)
        for connection in held:
            connection.close()


@test("hostile: a client that stays keeps the server from nothing when it stops (as CVE-2024-7409)")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running:
        idle, half = running.client().go("disk"), running.client()
        running.signal(TERMINATE)
        assert idle.is_closed() and half.is_closed()
        running.process.wait(nbd.WATCHDOG)


@test("hostile: a client that takes no replies doesn't keep the server from ending")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        client.go("disk")
        with contextlib.suppress(TimeoutError):
            client.socket.settimeout(0.2)
            for _ in range(100):
                client.request(nbd.READ, 0, SIZE)
        assert works(running)


@test("hostile: clients that die in the middle of anything harm nobody, 1,000 times, and nothing leaks")
def _(folder):
    source = random.Random(11)
    with server(folder, f"disk={image(folder)}", options=["--workers", "2"]) as running:
        die(running, source, 200)
        assert works(running)
        memory, open_files = resident(running), descriptors(running)
        die(running, source, 1000)
        until(lambda: descriptors(running) <= open_files, "descriptors are given back")
        until(lambda: resident(running) - memory < 24 << 20, "memory is given back")
        assert works(running)


def die(running, source, count):
    """Clients that end at a random place of their conversation."""
    body = nbd.go_body("disk")
    talk = struct.pack(">IQII", 3, nbd.OPTION, nbd.GO, len(body)) + body
    for cookie in range(10):
        talk += struct.pack(">IHHQQI", nbd.REQUEST, 0, nbd.READ, cookie, 0, SIZE)
        talk += struct.pack(">IHHQQI", nbd.REQUEST, 0, nbd.WRITE, cookie, 0, 4096) + bytes(4096)
    for number in range(count):
        with nbd.dial(running.uri) as connection:
            connection.sendall(talk[:source.randrange(len(talk))])
            if number % 3 == 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@test("hostile: noise at any place of a conversation ends that connection alone")
def _(folder):
    source = random.Random(23)
    with server(folder, f"disk={image(folder)}") as running, running.client() as witness:
        witness.go("disk")
        for number in range(300):
            with contextlib.suppress(nbd.Closed, ConnectionError, AssertionError), running.client() as client:
                if number % 3:
                    getattr(client, ("structured", "extended")[number % 2])().allocation("disk")
                if number % 2:
                    client.go("disk")
                client.socket.settimeout(0.02)
                with contextlib.suppress(TimeoutError):
                    client.put(source.randbytes(source.randrange(1, 3000)))
                    client.take(1)
            if number % 50 == 0:
                assert witness.ping()
        assert witness.ping() and works(running)


@test("hostile: names and lengths that overflowed elsewhere (as CVE-2017-15118, CVE-2022-26495, CVE-2022-26496)")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running:
        for kind in (nbd.INFO, nbd.GO, nbd.LIST_META_CONTEXT, nbd.SET_META_CONTEXT):
            for length in (0, 4095, 4096, 4097, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF):
                with running.client() as client:
                    client.structured()
                    data = struct.pack(">I", length) + b"x" * 8192
                    assert client.final(kind, data) >> 31, "an error"
                    assert client.go("disk").ping()
        for length in (0x7FFFFFFF, 0xFFFFFFFF):
            with running.client() as client:
                client.put(struct.pack(">QII", nbd.OPTION, nbd.GO, length))
                assert client.is_closed()
        assert works(running)


@test("hostile: block status at the edges of 32 and 64 bits (as CVE-2025-47711, CVE-2025-47712)")
def _(folder):
    size = 16 << 30
    with server(folder, f"disk={sparse(folder, size)}") as running:
        for style in ("structured", "extended"):
            with running.client() as client:
                getattr(client, style)().allocation("disk").go("disk")
                for offset, length in ((0, 0xFFFFFFFF), (1, 0xFFFFFFFE), (size - 0xFFFFFFFF, 0xFFFFFFFF), (size - 1, 1)):
                    assert client.status(offset, length) == [(length, 3)]
                if style == "extended":
                    assert client.status(0, size) == [(size, 3)]
                    assert client.do(nbd.BLOCK_STATUS, 1, (1 << 64) - 1) == nbd.EINVAL
                assert client.do(nbd.BLOCK_STATUS, size - 0xFFFFFFFE, 0xFFFFFFFF) == nbd.EINVAL


@test("hostile: requests before GO are no options (as CVE-2019-14850, CVE-2019-14851)")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running:
        before = (folder / "disk.img").read_bytes()
        with running.client() as client:
            client.request(nbd.WRITE, 0, 512, payload=b"\xee" * 512)
            assert client.is_closed()
        with running.client() as client:
            client.put(struct.pack(">QII", nbd.OPTION, nbd.INFO, 10) + nbd.go_body("disk"))
            client.replies(nbd.INFO)
            client.request(nbd.WRITE, 0, 512, payload=b"\xee" * 512)
            assert client.is_closed()
        assert (folder / "disk.img").read_bytes() == before


@test("limits: more clients than there may be are sent away, and let in when others have gone")
def _(folder):
    with server(folder, f"disk={image(folder)}", options=["--max-connections", "3"]) as running:
        clients = [running.client().go("disk") for _ in range(3)]
        with nbd.dial(running.uri) as refused:
            assert refused.recv(100) == b""
        assert all(client.ping() for client in clients)
        clients.pop().close()

        def let_in():
            with contextlib.suppress(nbd.Closed):
                return works(running)
        until(let_in, "there is room again")
        for client in clients:
            client.close()
    assert running.errors.count("which is the limit") >= 1


@test("limits: 1,000 idle connections take no thread and little memory each")
def _(folder):
    raise_limit(4096)
    with server(folder, f"disk={image(folder)}", options=["--workers", "2"]) as running:
        works(running)
        memory = resident(running)
        clients = [running.client().structured().go("disk") for _ in range(1000)]
        for client in clients:
            client.write(0, b"x" * 4096)
            client.read(0, 65536)
        threads = len(os.listdir(f"/proc/{running.process.pid}/task"))
        assert threads < 100, f"{threads} threads"
        each = (resident(running) - memory) / 1000
        assert each <= 64 << 10, f"{each} bytes each"
        for client in clients:
            client.close()
