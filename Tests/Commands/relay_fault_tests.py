"""`skein relay`: many connections at once, partners that die, limits, and bad input."""

import contextlib
import os
import resource
import select
import socket
import time

from harness import Skip, one_line, skein, test
from plain import WATCHDOG, ask, chain, dial, echo, receive, relay, server
from running import KILL, TERMINATE, Running, host, until

# --- many, and those that die

@test("relay: 1,000 connections at once, each with its own bytes")
def _(folder):
    raise_limit()
    with server(echo) as port, chain(folder, port) as (near, *relays):
        clients = [dial(near) for _ in range(1000)]
        for number, client in enumerate(clients):
            client.sendall(b"%06d" % number * 500)
        for number, client in enumerate(clients):
            assert receive(client, 3000) == b"%06d" % number * 500
        for client in clients[::2]:
            client.close()
        for number, client in enumerate(clients[1::2]):
            client.sendall(b"again %d" % number)
            assert receive(client, len(b"again %d" % number)) == b"again %d" % number
            client.close()
        assert ask(near, b"one more") == b"one more"
        for running in relays:
            until(lambda: len(os.listdir(f"/proc/{running.process.pid}/fd")) < 100, "descriptors are given back")


def raise_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 8192:
        raise Skip("needs 'ulimit -Hn' of 8192")
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, hard))


@test("relay: connections that are open and idle use no processor time")
def _(folder):
    with server(echo) as port, chain(folder, port) as (near, *relays):
        clients = [dial(near) for _ in range(50)]
        for client in clients:
            client.sendall(b"x")
            receive(client, 1)
        clients[0].shutdown(socket.SHUT_WR)  # a half-closed one among them, and one whose server has ended
        assert receive(clients[0]) == b""
        time.sleep(0.3)
        before = [processor_seconds(running) for running in relays]
        time.sleep(1)
        used = [processor_seconds(running) - start for running, start in zip(relays, before)]
        assert max(used) < 0.3, f"{used} seconds in one"
        for client in clients:
            client.close()


def processor_seconds(running):
    with open(f"/proc/{running.process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@test("relay: a killed STP server is an end for its TCP client, a killed STP client one for its TCP server")
def _(folder):
    with Running(folder, "listen", ":0", ready="stderr") as to, relay(folder, "0", to.address) as between:
        with dial(int(between.port)) as client:
            client.sendall(b"x")
            assert os.read(to.process.stdout.fileno(), 1) == b"x"
            to.signal(KILL)
            assert receive(client) == b""
    heard = []

    def serve(connection):
        connection.sendall(b"hello")
        heard.append(receive(connection))

    with server(serve) as port, relay(folder, "stp::0", f"tcp:{port}") as between:
        with Running(folder, "connect", between.address[4:]) as client:
            assert os.read(client.process.stdout.fileno(), 5) == b"hello"
            client.signal(KILL)
            until(lambda: heard == [b""], f"the end arrives: {heard}")


@test("relay: a killed relay is an end or a reset at both ends")
def _(folder):
    heard = []

    def serve(connection):
        try:
            heard.append(receive(connection))
        except ConnectionResetError:
            heard.append(b"")

    for victim in (1, 2):
        with server(serve) as port, chain(folder, port) as running:
            with dial(running[0]) as client:
                client.sendall(b"x")
                until(lambda: connections(port) > 0, "it is through")
                running[victim].signal(KILL)
                with contextlib.suppress(ConnectionResetError):
                    assert receive(client) == b""
                until(lambda: len(heard) == victim, "the server sees it")


def connections(port):
    """Established ones of a TCP server's port."""
    with open("/proc/net/tcp") as file:
        return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in file)


@test("relay: SIGTERM ends it at once with 0, whatever is open")
def _(folder):
    with server(echo) as port, chain(folder, port) as (near, *relays), dial(near) as client:
        client.sendall(b"x")
        receive(client, 1)
        for running in relays:
            running.signal(TERMINATE)
            running.finish(0)


# --- what is short or wrong

@test("relay: a target that refuses is a reset for the client, said once; once it is there, clients reach it")
def _(folder):
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    with relay(folder, "0", f":{port}") as between:
        for _ in range(3):
            try:
                with dial(int(between.port)) as client:
                    assert receive(client) == b"a reset, not bytes"
            except ConnectionResetError:
                pass
        assert "was refused: nobody listens" in between.line()
        with Running(folder, "listen", f":{port}", ready="stderr") as to, dial(int(between.port)) as client:
            client.sendall(b"now")
            client.shutdown(socket.SHUT_WR)
            assert to.finish(0, b"yes")[0] == b"now" and receive(client) == b"yes"
        between.signal(TERMINATE)
        assert between.finish(0)[1] == "", "it was said more than once"


@test("relay: at the limit of descriptors it says so, serves whom it has, and goes on when some have gone")
def _(folder):
    limit = ["sh", "-c", 'ulimit -n 80 && exec "$@"', "sh"]
    with server(echo) as port, relay(folder, "stp::0", f"tcp:{port}") as far:
        with relay(folder, "0", f"stp::{far.port}", prefix=limit) as near:
            clients = [dial(int(near.port)) for _ in range(60)]
            for number, client in enumerate(clients):
                client.sendall(b"%03d" % number)
            assert "new clients wait until a connection has ended" in near.line()
            served = set()
            for _ in range(len(clients)):
                waiting = [client for client in clients if client not in served]
                ready = select.select(waiting, [], [], WATCHDOG)[0]
                assert ready, f"after {len(served)} nobody is served any more"
                client = ready[0]
                assert receive(client, 3) == b"%03d" % clients.index(client)
                served.add(client)
                client.close()
            assert len(served) == 60


@test("relay: --verbose says when connections begin and end")
def _(folder):
    with Running(folder, "listen", ":0", ready="stderr") as to, relay(folder, "0", to.address, "--verbose") as between:
        with dial(int(between.port)) as client:
            assert "connection 1 from tcp:127.0.0.1:" in between.line()
            client.sendall(b"12345")
            client.shutdown(socket.SHUT_WR)
            to.finish(0, b"123")
            assert receive(client) == b"123"
        line = between.line()
        assert line == "skein: connection 1 ended after 5 bytes there and 3 back", line


@test("relay: sides that are the same, and what is no address, are explained")
def _(folder):
    for words in (["tcp:1", "tcp:2"], ["stp:1", "stp:2"], ["tcp:1", "2", "3"], ["stp:1", "2"], ["1"], []):
        skein("relay", *words, expect=64)
    err = skein("relay", "tcp:1", "tcp:2", expect=64)[1]
    assert "one side is TCP" in err and "Usage: skein relay" in err, err
    for words in (("1", ":0"), ("stp::1", "tcp:127.0.0.1:0")):
        assert "nobody can be reached at port 0" in skein("relay", *words, expect=64)[1], words
    for word in ("", "x", "65536", "127.0.0.1:", "::1:80", "[::1]", "[::1:80", "1:2:3", "127.0.0.1:-1", "host:+1"):
        assert "is no TCP address" in skein("relay", "--", f"tcp:{word}", "7", expect=64)[1], word
    assert "is no STP address" in skein("relay", "1", "group/7", expect=64)[1]


@test("relay: a port that is taken and a host that nobody knows are explained")
def _(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one_line(skein("relay", str(port), ":1", expect=2, **host(folder))[1], str(port), "choose another")
        one_line(skein("relay", f"stp::{port}", "tcp:1", expect=2, **host(folder))[1], str(port), "taken")
    # STP and TCP have one space of ports.
    with Running(folder, "listen", ":0", ready="stderr") as to:
        one_line(skein("relay", to.port, to.address, expect=2, **host(folder))[1], "choose another")
    one_line(skein("relay", "no-such-host.invalid:1", ":1", expect=2, **host(folder))[1], "no-such-host.invalid", "unknown")
    one_line(skein("relay", "192.0.2.1:7", ":1", expect=2, **host(folder))[1], "can't listen on 192.0.2.1:7", "give one that has")
