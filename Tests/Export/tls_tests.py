"""TLS: what is refused without it, what is forgotten with it, who is refused by it, and that everything works through it."""

import contextlib
import os
import random
import shutil
import ssl
import struct
import warnings

import nbd
from certificates import CLIENT, EXPIRED, Authority, copy_of
from harness import test
from hostile_tests import descriptors, resident
from running import Running, until
from server import SIZE, Scratch, image, secure_server, server, sparse

STYLES = ("simple", "structured", "extended")


def secured(client, context):
    """The client after STARTTLS and the handshake."""
    assert client.final(nbd.STARTTLS) == nbd.ACK
    client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
    client.style = nbd.SIMPLE
    return client


def is_refused(client, context):
    """Whether the handshake, or with TLS 1.3 the first answer after it, fails."""
    try:
        secured(client, context).final(nbd.LIST)
    except (ssl.SSLError, ConnectionError, nbd.Closed):
        return True
    return False


@test("tls: where it is required, every option but STARTTLS and ABORT says so, and EXPORT_NAME ends the connection")
def _(folder):
    with secure_server(folder) as running:
        assert running.uri.startswith("nbds+unix:"), running.uri
        with running.client() as client:
            bodies = {nbd.LIST: b"", nbd.INFO: nbd.go_body("disk"), nbd.GO: nbd.go_body("disk"), nbd.STRUCTURED_REPLY: b"",
                      nbd.EXTENDED_HEADERS: b"", nbd.LIST_META_CONTEXT: nbd.context_body("disk"),
                      nbd.SET_META_CONTEXT: nbd.context_body("disk"), nbd.PEEK_EXPORT: b""}
            for option, body in bodies.items():
                assert client.final(option, body) == nbd.ERR["TLS_REQD"], option
            assert client.final(nbd.ABORT) == nbd.ACK
        with running.client() as client:
            client.put(struct.pack(">QII", nbd.OPTION, nbd.EXPORT_NAME, 4) + b"disk")
            assert client.is_closed()
        with running.client() as client:
            secured(client, running.authority.context()).go("disk")
            assert client.read(0, 4096) == random.Random(7).randbytes(4096)


@test("tls: where it is offered, clients may do without; STARTTLS has no data, and comes once")
def _(folder):
    with secure_server(folder, options=["--tls", "offered"]) as running:
        with running.client() as client:
            assert client.go("disk").read(0, 10) == random.Random(7).randbytes(SIZE)[:10]
        with running.client() as client:
            assert client.final(nbd.STARTTLS, b"x") == nbd.ERR["INVALID"]
            secured(client, running.authority.context())
            assert client.final(nbd.STARTTLS) == nbd.ERR["INVALID"]
            assert client.go("disk").read(0, 10) == random.Random(7).randbytes(SIZE)[:10]


@test("tls: without a certificate STARTTLS is refused, and the negotiation goes on")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        assert client.final(nbd.STARTTLS) == nbd.ERR["POLICY"]
        assert client.go("disk").ping()


@test("tls: what was negotiated in the clear is forgotten")
def _(folder):
    with secure_server(folder, options=["--tls", "offered"]) as running:
        for style in ("structured", "extended"):
            with running.client() as client:
                getattr(client, style)().allocation("disk")
                secured(client, running.authority.context())
                assert client.final(nbd.SET_META_CONTEXT, nbd.context_body("disk", "base:allocation")) == nbd.ERR["INVALID"]
                client.go("disk")
                assert not client.transmission & 1 << 7, "no DF without structured replies"
                assert client.read(0, 4096) == random.Random(7).randbytes(4096)
                assert client.do(nbd.BLOCK_STATUS, 0, 4096) == nbd.EINVAL


@test("tls: bytes that somebody puts behind STARTTLS in the clear end the connection, unread (CVE-2021-3716)")
def _(folder):
    with secure_server(folder, options=["--tls", "offered"]) as running:
        start = struct.pack(">QII", nbd.OPTION, nbd.STARTTLS, 0)
        for injected in (struct.pack(">QII", nbd.OPTION, nbd.STRUCTURED_REPLY, 0), b"x", bytes(5000),
                         struct.pack(">QII", nbd.OPTION, nbd.GO, 10) + nbd.go_body("disk")):
            with running.client() as client:
                client.put(start + injected)
                got = b""
                with contextlib.suppress(nbd.Closed):
                    while True:
                        got += client.take(1)
                assert got in (b"", struct.pack(">QIII", nbd.OPTION_REPLY, nbd.STARTTLS, nbd.ACK, 0)), got
        with running.client() as client:
            secured(client, running.authority.context()).go("disk").ping()


@test("tls: every command in every style, on disk and on tmpfs, with replies that a client takes late")
def _(folder):
    size = 8 << 20
    authority = Authority(folder)
    with Scratch(prefix="skein-export-", dir="/dev/shm") as memory:
        devices = [f"disk={sparse(folder, size, (1 << 20, 3 << 20))}", f"memory={sparse(memory, size, (1 << 20, 3 << 20))}"]
        content = sparse(folder, size, (1 << 20, 3 << 20), name="model").read_bytes()
        with secure_server(folder, *devices, authority=authority, unix=False) as running:
            assert running.uri.startswith("nbds://127.0.0.1"), running.uri
            for style in STYLES:
                for name in ("disk", "memory"):
                    with running.client() as client:
                        secured(client, authority.context())
                        if style != "simple":
                            getattr(client, style)().allocation(name)
                        client.go(name)
                        assert client.read(0, size) == content
                        data = random.Random(3).randbytes(3 << 20)
                        assert client.write(100, data, nbd.FUA) == 0
                        assert client.read(0, (3 << 20) + 200)[100:-100] == data
                        take_late(client, style, data)
                        assert client.do(nbd.WRITE_ZEROES, 0, 4 << 20) == 0
                        assert client.write(1 << 20, b"\xa5" * (3 << 20)) == 0
                        assert client.ping() and client.read(0, size) == content
                        client.request(nbd.DISC)
                        assert client.socket.recv(1) == b"", "TLS is closed, then TCP"


def take_late(client, style, data):
    """Eight replies, in whatever order they come, none of which is taken before all were asked for."""
    cookies = {client.request(nbd.READ, 100, len(data)) for _ in range(8)}
    while cookies and style == "simple":
        cookies.remove(struct.unpack(">IIQ", client.take(16))[2])
        assert client.take(len(data)) == data
    chunks = {}
    while cookies:
        while not (chunk := client.chunk()).flags & nbd.DONE:
            chunks.setdefault(chunk.cookie, []).append(chunk)
        chunks.setdefault(chunk.cookie, []).append(chunk)
        cookies.remove(chunk.cookie)
        assert nbd.assemble(chunks[chunk.cookie], 100, len(data)) == data


@test("tls: a client without a certificate, with a stranger's, or with a withdrawn one is refused where they are asked for")
def _(folder):
    authority, stranger = Authority(folder), Authority(folder, "stranger")
    good, withdrawn = authority.sign("alice", CLIENT), authority.sign("mallory", CLIENT)
    authority.withdraw(withdrawn[0])
    with secure_server(folder, options=["--tls-verify-peer"], authority=authority) as running:
        for certificate in (None, stranger.sign("alice", CLIENT), withdrawn):
            with running.client() as client:
                assert is_refused(client, authority.context(certificate)), certificate
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with running.client() as client:
                assert secured(client, authority.context(good, version)).go("disk").ping()


@test("tls: versions before 1.2 are refused, and so is something that is no TLS")
def _(folder):
    with secure_server(folder) as running, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with running.client() as client:
                assert is_refused(client, running.authority.context(version=version)), version
        with running.client() as client:
            assert client.final(nbd.STARTTLS) == nbd.ACK
            client.put(random.Random(5).randbytes(10000))
            assert client.is_closed()
        with running.client() as client:
            assert secured(client, running.authority.context(version=ssl.TLSVersion.TLSv1_2)).go("disk").ping()


@test("tls: clients that never end the handshake, or end it by dying, leave nothing")
def _(folder):
    with secure_server(folder, options=["--handshake-timeout", "3", "--workers", "1"]) as running:
        with running.client() as client:
            assert secured(client, running.authority.context()).go("disk").ping()
        until(lambda: descriptors(running) <= 20, "the first client has gone")
        memory, files = resident(running), descriptors(running)
        for number in range(200):
            with running.client() as client:
                assert client.final(nbd.STARTTLS) == nbd.ACK
                client.put(b"\x16\x03\x01\x02\x00\x01"[:number % 7])
        with contextlib.ExitStack() as held:
            silent = [held.enter_context(running.client()) for _ in range(20)]
            for client in silent:
                assert client.final(nbd.STARTTLS) == nbd.ACK
            assert all(client.is_closed() for client in silent)
        until(lambda: descriptors(running) <= files, "descriptors are given back")
        until(lambda: resident(running) - memory < 8 << 20, "memory is given back")


@test("tls: credentials that can't be used are named, and so is what is missing beside them")
def _(folder):
    authority, other = Authority(folder), Authority(folder, "other")
    expired = copy_of(authority, folder)
    for path in authority.sign("expired", EXPIRED):
        shutil.copy(path, expired / path.name.replace("expired", "server"))
    mismatched = folder / "mismatched"
    shutil.copytree(authority.folder, mismatched)
    shutil.copy(other.folder / "server-key.pem", mismatched)
    alone = folder / "alone"
    shutil.copytree(authority.folder, alone)
    os.remove(alone / "ca-cert.pem")
    listen = ["--listen", f"nbd+unix:///?socket={folder}/socket"]
    for words, says in [
            (["--tls-certificates", folder / "nowhere"], "server-cert.pem can't be read"),
            (["--tls-certificates", expired], "has expired: replace it"),
            (["--tls-certificates", mismatched], "server-key.pem"),
            (["--tls-certificates", alone, "--tls-verify-peer"], "ca-cert.pem can't be read"),
            (["--tls-psk", folder / "nowhere"], "nowhere can't be read"),
            (["--tls", "required"], "takes --tls-certificates or --tls-psk"),
            (["--tls-verify-peer", "--tls-psk", folder / "nowhere"], "takes --tls-certificates"),
            (["--tls-verify-peer", "--tls", "offered", "--tls-certificates", alone], "in vain")]:
        with Running(folder, "export", "memory:1M", *listen, *words) as running:
            assert says in running.finish(None)[1], words
            assert running.process.returncode != 0, words
