"""Streams between two hosts that share nothing but a medium."""

import errno
import json
import os
import struct
import subprocess
import sys
import threading
import time

from agents import ACCEPT, CONNECT, DATA, END, HEADER, LISTEN, REFUSED, RESET, exchange, stream
from harness import Skip, skein, test
from running import host

# The two agents that all of these share, with a number for each test's port.
shared = {}


def agents():
    shared["port"] = shared.get("port", 100) + 1
    return shared["a"], shared["b"], shared["port"]


@test("medium show: agents are alive, each in a place of its own")
def _(_):
    medium = shared["medium"]
    shown = json.loads(skein("medium", "show", medium.path, "--json", "--key", medium.key)[0])
    found = {host["name"]: host for host in shown["hosts"]}
    assert sorted(found) == ["a", "b"] and {host["state"] for host in found.values()} == {"alive"}, shown
    assert sorted(host["slot"] for host in found.values()) == [0, 1], shown
    text = skein("medium", "show", medium.path, "--key", medium.key)[0]
    assert text.count("alive") == 2, text


@test("bytes go both ways")
def _(_):
    with stream(*agents()) as (client, server):
        client.send(b"ping")
        assert server.receive(4) == b"ping"
        server.send(b"pong!")
        assert client.receive(5) == b"pong!"


@test("either end of the group opens streams")
def _(_):
    a, b, port = agents()
    with a.listening(port), b.connecting(f"a:{port}") as client:
        server, name = a.accept(port)
        with server:
            assert name == "b"
            client.ready()
            client.send(b"x")
            assert server.receive(1) == b"x"


@test("each direction is ended by itself; what was sent before is read first")
def _(_):
    with stream(*agents()) as (client, server):
        client.send(b"last words")
        client.put(END)
        assert server.receive(10) == b"last words"
        server.ended()
        server.send(b"answer")
        server.put(END)
        assert client.receive(6) == b"answer"
        client.ended()


@test("what is sent before the stream is accepted comes, too")
def _(_):
    a, b, port = agents()
    with b.listening(port), a.connecting(f"b:{port}") as client:
        client.send(b"early")
        client.put(END)
        server, _ = b.accept(port)
        with server:
            client.ready()
            assert server.receive(5) == b"early"
            server.ended()


@test("a reset comes with its error number, in either direction")
def _(_):
    for first in (0, 1):
        with stream(*agents()) as ends:
            ends[first].put(RESET, struct.pack("<I", errno.ETIMEDOUT))
            assert ends[1 - first].error(RESET) == errno.ETIMEDOUT


@test("a program that closes with something unread resets the stream; one that has read all ends it")
def _(_):
    with stream(*agents()) as (client, server):
        client.send(b"never read")
        assert server.exactly(HEADER.size)
        server.close()
        assert client.error(RESET) == errno.ECONNRESET
    with stream(*agents()) as (client, server):
        client.send(b"bye")
        assert server.receive(3) == b"bye"
        client.close()
        server.ended()


@test("a program that is killed ends its streams as one that closes does")
def _(_):
    a, b, port = agents()
    with b.listening(port):
        with a.connecting(f"b:{port}") as client:
            server, _ = b.accept(port)
            client.ready()
            client.send(b"x" * 1000)
            # Another process has the connection, and is its last holder.
            holder = subprocess.Popen(["sleep", "600"], stdin=client.socket)
        with server:
            assert server.receive(1000) == b"x" * 1000
            holder.kill()
            holder.wait()
            server.ended()


@test("what can't be connected is refused with its reason, and so is a port that is taken")
def _(_):
    a, b, port = agents()
    for address, error in ((f"b:{port}", errno.ECONNREFUSED), (f"nobody:{port}", errno.EHOSTUNREACH),
                           (f"a:{port}", errno.EHOSTUNREACH), ("b", errno.EINVAL), ("b:0", errno.EINVAL),
                           ("b:65536", errno.EINVAL)):
        with a.connecting(address) as client:
            assert client.error(REFUSED) == error, address
    with b.listening(port), b.program() as second:
        second.put(LISTEN, struct.pack("<H", port))
        assert second.error(REFUSED) == errno.EADDRINUSE
    with b.accepting(port) as acceptor:
        assert acceptor.error(REFUSED) == errno.EINVAL


@test("when a listener goes, who waits on either side is told, and the port is free again")
def _(_):
    a, b, port = agents()
    with b.listening(port):
        waiting = b.accepting(port)
        with a.connecting(f"b:{port}") as first, waiting:
            first.ready()
            waiting.ready()
            second = a.connecting(f"b:{port}")
            time.sleep(0.2)
    with second:
        assert second.error(REFUSED) == errno.ECONNREFUSED
    with b.listening(port), b.accepting(port) as acceptor:
        pass
    with b.listening(port):
        with b.accepting(port) as acceptor:
            pass
        with a.connecting(f"b:{port}") as client, b.accepting(port) as server:
            client.ready()
            server.ready()


@test("a large stream comes as it was sent, both ways at once")
def _(_):
    a, b, port = agents()
    with stream(a, b, port) as (client, server):
        exchange(client, server, 64 << 20)


@test("a slow reader holds up its own stream alone; pings beside a bulk stream go on")
def _(_):
    a, b, port = agents()
    with stream(a, b, port) as (bulk, reader), stream(*agents()) as (ping, pong):
        stop = threading.Event()
        sent = []

        def flood():
            while not stop.is_set():
                bulk.send(b"b" * 65536)
                sent.append(65536)
            bulk.put(END)

        flooder = threading.Thread(target=flood)
        flooder.start()
        # Nobody reads it: it stands still once its credit is used up, and what waits is in sockets and queues.
        while True:
            before = len(sent)
            time.sleep(0.3)
            if before and len(sent) == before:
                break
        assert sum(sent) < 8 << 20, sum(sent)
        for number in range(20):
            ping.send(bytes([number]))
            assert pong.receive(1) == bytes([number])
            pong.send(bytes([number]))
            assert ping.receive(1) == bytes([number])
        counted = []

        def drain():
            while True:
                kind, body = reader.frame()
                if kind == END:
                    return
                counted.append(len(body))

        drainer = threading.Thread(target=drain)
        drainer.start()
        for number in range(20):
            ping.send(b"p" * 64)
            assert pong.receive(64) == b"p" * 64
            pong.send(b"q" * 64)
            assert ping.receive(64) == b"q" * 64
        stop.set()
        flooder.join()
        drainer.join()
        assert sum(counted) == sum(sent), (sum(counted), sum(sent))


@test("a thousand streams at once, each with its own bytes")
def _(_):
    a, b, port = agents()
    count = 1000
    with b.listening(port):
        clients = [a.connecting(f"b:{port}") for _ in range(count)]
        servers = [b.accept(port)[0] for _ in range(count)]
        for number, client in enumerate(clients):
            client.ready()
            client.send(struct.pack("<I", number) * 8)
        order = []
        for server in servers:
            data = server.receive(32)
            order.append(struct.unpack_from("<I", data)[0])
            assert data == data[:4] * 8
            server.send(data)
            server.put(END)
        assert sorted(order) == list(range(count))
        for number, client in enumerate(clients):
            assert client.receive(32) == struct.pack("<I", number) * 8
            client.ended()
            client.close()
        for server in servers:
            server.ended()
            server.close()


@test("a program that doesn't keep to the protocol is sent away, and nobody else notices")
def _(_):
    a, b, port = agents()
    with stream(a, b, port) as (client, server):
        for words in (b"\xff" * 8, HEADER.pack(CONNECT, 1 << 20), HEADER.pack(DATA, 4) + b"data", HEADER.pack(END, 0),
                      HEADER.pack(ACCEPT, 3) + b"abc", HEADER.pack(CONNECT, 2) + b"\xff\xfe"):
            with a.program() as hostile:
                hostile.socket.sendall(words)
                assert hostile.error(REFUSED) in (errno.EPROTO, errno.EINVAL), words
        with a.program() as silent:
            silent.socket.sendall(b"\x01")
        with stream(*agents()) as (bad, peer):
            bad.socket.sendall(b"\xff" * 8)
            assert bad.error(RESET) == errno.EPROTO
            assert peer.error(RESET) == errno.ECONNRESET
        client.send(b"still here")
        assert server.receive(10) == b"still here"


@test("other users' programs are sent away")
def _(_):
    if os.geteuid() != 0:
        raise Skip("takes another user")
    a, _, _ = agents()
    path = host(a.folder)["SKEIN_DIR"] + "/agent.sock"
    assert os.stat(path).st_mode & 0o777 == 0o600
    os.chmod(path, 0o666)
    # The user is changed in the program: the interpreter may lie where others can't reach it.
    script = f"""
import os, socket
os.setgid(65534)
os.setuid(65534)
stranger = socket.socket(socket.AF_UNIX)
stranger.connect({path!r})
print(stranger.recv(1))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    os.chmod(path, 0o600)
    assert result.stdout == "b''\n", result
