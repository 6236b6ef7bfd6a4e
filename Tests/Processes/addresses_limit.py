"""Programs with little room for addresses (RLIMIT_AS): connections share it, and are TCP where there is none."""

import mmap
import os
import pathlib
import resource
import socket

from cases import WATCHDOG, case, expect, in_memory

def leave(megabytes):
    """Limits this process to so much more than it has."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = pages * mmap.PAGESIZE + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def start(listener, count):
    """A process that makes so many connections once it is told to, each kept to the end. Returns how to tell it."""
    reader, writer = os.pipe()
    if os.fork() != 0:
        os.close(reader)
        return writer
    try:
        os.close(writer)
        address = listener.getsockname()
        listener.close()
        os.read(reader, 1)
        ends = []
        for _ in range(count):
            ends.append(socket.create_connection(address, WATCHDOG))
            ends[-1].sendall(b"question")
            if ends[-1].recv(9) != b"answer":
                os._exit(2)
        for end in ends:
            if end.recv(1) != b"":
                os._exit(3)
        os._exit(0)
    finally:
        os._exit(1)


def answer(listener, count):
    """Serves so many clients at once. Returns for each whether it was in memory."""
    ends = []
    for _ in range(count):
        ends.append(listener.accept()[0])
        ends[-1].settimeout(WATCHDOG)
        expect(ends[-1].recv(9), b"question")
        ends[-1].sendall(b"answer")
    kinds = [in_memory(end) for end in ends]
    for end in ends:
        end.close()
    expect(os.wait()[1], 0)
    return kinds


def server():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(WATCHDOG)
    return listener


@case("a server with 40 MB of addresses to spare serves twenty processes, one after the other, over memory")
def one_after_the_other():
    listener = server()
    clients = [start(listener, 1) for _ in range(20)]
    leave(40)
    for client in clients:
        os.write(client, b"g")
        expect(answer(listener, 1), [True])


@case("a process that makes sixty connections at once is served over memory by a server that can't map all it has")
def at_once():
    listener = server()
    client = start(listener, 60)
    leave(150)  # the client makes 4, 16 and 64 places at a time, 178 MB in all
    os.write(client, b"g")
    expect(answer(listener, 60), [True] * 60)


@case("a server without room for another connection serves one more over memory, and all later ones over TCP")
def no_room():
    listener = server()
    first, others = start(listener, 1), start(listener, 3)
    leave(2)
    os.write(first, b"g")
    expect(answer(listener, 1), [True])
    os.write(others, b"g")
    expect(answer(listener, 3), [False] * 3)
    late = server()
    client = start(late, 1)
    os.write(client, b"g")
    expect(answer(late, 1), [False], "a listener made later")


@case("a client without room uses TCP, and one with a little makes a smaller pool")
def small_client():
    listener = server()
    for megabytes, kind in ((1, False), (8, True)):
        child = os.fork()
        if child == 0:
            client = socket.socket()
            client.settimeout(WATCHDOG)
            try:
                leave(megabytes)
                client.connect(listener.getsockname())
                client.sendall(b"question")
                os._exit(0 if client.recv(9) == b"answer" and in_memory(client) == kind else 2)
            finally:
                os._exit(1)
        expect(answer(listener, 1), [kind], f"{megabytes} MB")
