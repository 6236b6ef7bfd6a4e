"""Cases of processes.py: connections that are passed by SCM_RIGHTS. A program under Skein gets the connection
itself, another one the relay's stream."""

import json
import os
import pathlib
import resource
import signal
import socket
import struct
import subprocess
import sys
import time

from cases import WATCHDOG, case, exactly, expect, in_memory, pair, not_here

SKEIN = pathlib.Path(__file__).resolve().parents[2] / "build/bin/skein"
# Names a case in the environment of its processes, its relays among them.
CASE = "SKEIN_TEST_CASE"

# A worker: takes connections from its standard input; for each it prints what it is, then echoes what comes.
# With 'hold' it holds all of them until its input ends.
WORKER = r"""
import os, socket, sys
channel = socket.socket(fileno=0)
held = []
while True:
    message, numbers, _, _ = socket.recv_fds(channel, 100, 253)
    if not message:
        break
    for number in numbers:
        kind = os.readlink(f"/proc/self/fd/{number}")
        connection = socket.socket(fileno=number)
        connection.setblocking(True)
        # A relay's stream is a stream; the connection itself is packets.
        with open("/proc/net/unix") as table:
            types = [line.split()[4] for line in table if line.split()[6] == kind[8:-1]]
        print("packets" if types == ["0005"] else "stream", connection.getpeername()[1], flush=True)
        if message == b"hold":
            held.append(connection)
            continue
        if message == b"close":
            connection.close()
            continue
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)
"""


class Worker:
    """A process that connections are passed to."""

    def __init__(self, under_skein=True, **options):
        ours, theirs = socket.socketpair()
        self.channel = ours
        ours.settimeout(WATCHDOG)
        environment = dict(os.environ)
        if not under_skein:
            environment.pop("LD_PRELOAD", None)
        self.process = subprocess.Popen([sys.executable, "-c", WORKER], stdin=theirs, stdout=subprocess.PIPE,
                                        text=True, env=environment, **options)
        theirs.close()

    def give(self, *connections, word=b"echo"):
        socket.send_fds(self.channel, [word], [connection.fileno() for connection in connections])

    def kind(self):
        """What the next connection is to the worker, and the peer's port."""
        kind, port = self.process.stdout.readline().split()
        return kind, int(port)

    def end(self):
        self.channel.close()
        return self.process.wait(WATCHDOG)


def relays():
    """Process numbers of this case's relays."""
    found = []
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
            environment = status.with_name("environ").read_bytes()
        except OSError:
            continue
        if text.startswith("Name:\tskein-relay\n") and f"{CASE}={os.environ[CASE]}\0".encode() in environment:
            found.append(int(status.parent.name))
    return found


def connections(count):
    """Pairs of ends from one listener."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        for _ in range(count):
            client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
            server, _ = listener.accept()
            yield client, server


def wait_until(condition, what):
    deadline = time.monotonic() + WATCHDOG
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {WATCHDOG} s")
        time.sleep(0.02)


def shared_memory_sockets(process):
    """Connections on shared memory that `skein ls` shows of a process."""
    listing = subprocess.run([str(SKEIN), "ls", "--json"], capture_output=True, text=True, timeout=WATCHDOG)
    return [entry for entry in json.loads(listing.stdout)["sockets"]
            if entry["pid"] == process and entry["state"] == "established" and entry["carrier"] == "memory"]


def limit_descriptors(count):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def echo(client, data=b"over and over"):
    client.sendall(data)
    expect(exactly(client, len(data)) == data, True, "what came back differs")


@case("a connection that is passed to a program under Skein is that program's, in memory, and no relay has it")
def passed():
    client, server = pair()
    worker = Worker()
    port = server.getpeername()[1]
    worker.give(server)
    server.close()
    expect(worker.kind(), ("packets", port))
    echo(client)
    shown = shared_memory_sockets(worker.process.pid)
    expect(len(shown), 1, shown)
    for relay in relays():
        wait_until(lambda: not shared_memory_sockets(relay), "the relay lets go")
    client.shutdown(socket.SHUT_WR)
    expect(client.recv(1), b"", "after the worker's end")
    expect(worker.end(), 0)


@case("a connection that is passed to a program without the header goes on through one relay")
def passed_to_stranger():
    client, server = pair()
    worker = Worker(under_skein=False)
    client.sendall(b"before")
    worker.give(server)
    server.close()
    expect(worker.process.stdout.readline().split()[0], "stream")
    expect(exactly(client, 6), b"before")
    echo(client, os.urandom(1_000_000)[:100_000])
    expect(len(relays()), 1)
    client.shutdown(socket.SHUT_WR)
    expect(client.recv(1), b"", "after the worker's end")
    expect(worker.end(), 0)


@case("what lies unread when a connection is passed is read by who receives it, once")
def passed_with_bytes():
    client, server = pair()
    data = os.urandom(12_000)
    client.sendall(data)
    expect(exactly(server, 1000), data[:1000])
    worker = Worker()
    worker.give(server)
    server.close()
    expect(worker.kind()[0], "packets")
    expect(exactly(client, 11_000) == data[1000:], True, "what came back differs")
    echo(client)
    client.shutdown(socket.SHUT_WR)
    expect(client.recv(1), b"", "after the worker's end")
    expect(worker.end(), 0)


@case("bytes that the relay has lent to the stream before it is received are not lost")
def passed_late():
    client, server = pair()
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"x"], [server.fileno()])
    server.close()
    client.sendall(b"lent")
    time.sleep(0.2)
    _, numbers, _, _ = socket.recv_fds(theirs, 10, 1)
    with socket.socket(fileno=numbers[0]) as received:
        received.settimeout(WATCHDOG)
        expect(exactly(received, 4), b"lent")
        received.sendall(b"answer")
        expect(exactly(client, 6), b"answer")
    expect(client.recv(1), b"")


@case("a connection that is seen in a message and received later is one, and each byte is read once")
def peeked():
    client, server = pair()
    ours, theirs = socket.socketpair()
    client.sendall(b"hello world")
    socket.send_fds(ours, [b"x"], [server.fileno()])
    server.close()

    def take(flags=0):
        _, [(_, _, number)], _, _ = theirs.recvmsg(10, socket.CMSG_SPACE(4), flags)
        received = socket.socket(fileno=int.from_bytes(number, sys.byteorder))
        received.settimeout(WATCHDOG)
        return received

    with take(socket.MSG_PEEK) as first:
        expect(exactly(first, 3), b"hel")
        time.sleep(0.2)  # the relay lends the rest to the stream that is still in the message
        expect(exactly(first, 3), b"lo ")
        client.sendall(b", more")
        with take() as second:
            expect(exactly(second, 2), b"wo")
            expect(exactly(first, 2), b"rl")
            expect(exactly(second, 7), b"d, more")
            for end in (first, second):
                client.sendall(b"there")
                expect(exactly(end, 5), b"there")
                end.sendall(b"back")
                expect(exactly(client, 4), b"back")
            first.close()
            client.sendall(b"last")
            expect(exactly(second, 4), b"last")
    expect(client.recv(1), b"")


@case("who passes a connection and keeps it shares it with who received it")
def both_keep_it():
    client, server = pair()
    worker = Worker()
    worker.give(server)
    expect(worker.kind()[0], "packets")
    for number in range(50):
        echo(client, b"%d of many" % number)
        server.sendall(b"from its parent")
        expect(exactly(client, 15), b"from its parent")
    server.close()
    echo(client)
    client.shutdown(socket.SHUT_WR)
    expect(client.recv(1), b"")
    expect(worker.end(), 0)


@case("a thousand connections are passed through one relay, and none is left at the end")
def thousand():
    child = os.fork()
    if child == 0:
        pass_thousand()
        os._exit(0)
    expect(os.waitpid(child, 0)[1], 0)
    wait_until(lambda: not relays(), "the relay ends")


def pass_thousand():
    worker = Worker()
    held = []
    for client, server in connections(1000):
        # More than a short connection moves: those are left to TCP.
        server.sendall(bytes(5000))
        worker.give(server, word=b"hold")
        server.close()
        expect(worker.kind(), ("packets", client.getsockname()[1]))
        held.append(client)
        # Few enough at a time for the worker's descriptors.
        if len(held) == 200:
            expect(len(relays()), 1)
            expect(worker.end(), 0)
            worker = Worker()
            held.clear()


@case("a connection that is passed and comes back seven hundred times leaves those beside it alone")
def there_and_back():
    (client, travels), (other, beside) = connections(2)
    here, there = socket.socketpair()
    beside.sendall(b"before")
    expect(exactly(other, 6), b"before")
    for _ in range(700):
        socket.send_fds(here, [b"x"], [travels.fileno()])
        travels.close()
        travels = socket.socket(fileno=socket.recv_fds(there, 1, 1)[1][0])
        travels.sendall(b"x")
        expect(exactly(client, 1), b"x")
    # New ones would take the memory of what was wrongly thought to be over.
    new = list(connections(20))
    for a, b in [(client, travels), (other, beside), *new]:
        a.sendall(b"there")
        expect(exactly(b, 5), b"there")
        b.sendall(b"back")
        expect(exactly(a, 4), b"back")


@case("many connections pass in one message")
def many_in_one_message():
    pairs = list(connections(100))
    worker = Worker()
    worker.give(*(server for _, server in pairs), word=b"hold")
    for client, server in pairs:
        expect(worker.kind(), ("packets", client.getsockname()[1]))
        server.close()
    expect(len(relays()), 1)
    expect(worker.end(), 0)
    for client, _ in pairs:
        expect(client.recv(1), b"", "after the worker's end")


@case("a relay that was killed is replaced, and only the connections that it had end")
def relay_killed():
    client, server = pair()
    stranger = Worker(under_skein=False)
    stranger.give(server)
    server.close()
    stranger.process.stdout.readline()
    echo(client)
    [relay] = relays()
    os.kill(relay, signal.SIGKILL)
    try:
        client.recv(1)
        raise AssertionError("no reset")
    except ConnectionResetError:
        pass
    other, server = pair()
    worker = Worker()
    worker.give(server)
    server.close()
    expect(worker.kind()[0], "packets")
    echo(other)
    expect(relay in relays(), False)


@case("a worker that has no descriptor left for the connection itself keeps the stream")
def worker_at_its_limit():
    worker = Worker(preexec_fn=limit_descriptors(72))
    clients = []
    kinds = set()
    for client, server in connections(72):
        worker.give(server, word=b"hold")
        server.close()
        kind, port = worker.kind()
        expect(port, client.getsockname()[1])
        kinds.add(kind)
        clients.append(client)
        if kind == "stream":
            break
    expect("stream" in kinds and "packets" in kinds, True, kinds)
    expect(worker.end(), 0)


@case("a relay with a tight limit of descriptors serves some, and the others when there is room")
def relay_at_its_limit():
    resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
    worker = Worker(under_skein=False)
    clients = []
    for client, server in connections(30):
        worker.give(server)
        server.close()
        clients.append(client)
    # The worker serves one after the other.
    for client in clients:
        echo(client)
        client.close()
    expect(len(relays()), 1)
    expect(worker.end(), 0)


@case("a process of another user that receives a stream is not given the connection itself")
def other_user():
    if os.getuid() != 0:
        not_here("only root may become another user")
    client, server = pair()
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        for end in (client, server):
            end.close()
        os.setuid(65534)
        _, numbers, _, _ = socket.recv_fds(theirs, 10, 1)
        received = socket.socket(fileno=numbers[0])
        received.settimeout(WATCHDOG)
        kind = received.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        is_stream = not shared_memory_sockets(os.getpid()) and kind == socket.SOCK_STREAM
        received.sendall(exactly(received, 4).upper())
        os._exit(0 if is_stream else 1)
    socket.send_fds(ours, [b"x"], [server.fileno()])
    server.close()
    client.sendall(b"ping")
    expect(exactly(client, 4), b"PING")
    expect(os.waitpid(child, 0)[1], 0)
    expect(client.recv(1), b"")


@case("a relay gives nothing to who shows no stream of its own")
def strangers_visit():
    client, server = pair()
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"x"], [server.fileno()])
    names = [line.split()[7] for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]
             if "@skein/" in line and "/relay/" in line]
    # For the end itself, to read an option, to set one, for something unheard of; and an option of an absurd length.
    requests = [b"SKSR" + struct.pack("=II4xiiiI128x", 1, wish, socket.IPPROTO_TCP, socket.TCP_NODELAY, 0, length)
                for wish, length in ((0, 0), (1, 4), (2, 4), (9, 4), (1, 1 << 30))]
    other, _ = socket.socketpair()
    for name in names:
        for numbers in ([], [other.fileno()], [other.fileno()] * 3):
            for message in (b"junk", *requests, requests[0] * 4):
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as visitor:
                    visitor.settimeout(WATCHDOG)
                    try:
                        visitor.connect("\0" + name[1:])
                    except ConnectionRefusedError:
                        continue  # another case's, which has ended
                    socket.send_fds(visitor, [message], numbers)
                    try:
                        expect(visitor.recv(1000), b"")
                    except ConnectionResetError:
                        pass
    _, numbers, _, _ = socket.recv_fds(theirs, 10, 1)
    server.close()
    with socket.socket(fileno=numbers[0]) as received:
        received.settimeout(WATCHDOG)
        client.sendall(b"still")
        expect(exactly(received, 5), b"still")


@case("a listener whose connections are passed on and are short is left to TCP, and no client notices")
def short_connections():
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    worker = Worker()
    over = []
    for _ in range(200):
        client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
        server, _ = listener.accept()
        over.append(not in_memory(client))
        worker.give(server, word=b"close")
        server.close()
        worker.kind() if not over[-1] else worker.process.stdout.readline()
        expect(client.recv(1), b"")
        client.close()
    expect((over[0], over[-1]), (False, True))
    why = subprocess.run([str(SKEIN), "why", str(os.getpid())], capture_output=True, text=True, timeout=WATCHDOG)
    expect("short connections" in why.stdout, True, why.stdout)
