"""What the files of cases share: each case is a function, run in a process of its own under `skein run`."""

import os
import pathlib
import socket
import struct
import subprocess
import sys

WATCHDOG = 30
NOT_HERE = 77  # how a case ends that can't run on this machine
CASES = {}


def case(sentence):
    def register(function):
        if function.__name__ in CASES:
            raise AssertionError(f"two cases are named {function.__name__}")
        CASES[function.__name__] = (sentence, function)
        return function
    return register


def expect(got, wanted, what=""):
    if got != wanted:
        raise AssertionError(f"expected {wanted!r}, got {got!r} {what}")


def in_memory(connection):
    """Whether the descriptor is a Unix socket to the kernel, and so no TCP connection."""
    inode = str(os.fstat(connection.fileno()).st_ino)
    return any(inode in line.split() for line in pathlib.Path("/proc/net/unix").read_text().splitlines())


def pair():
    """Both ends of a connection over memory, in this process."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    listener.close()
    expect(in_memory(client), True, "over memory")
    for end in (client, server):
        limit_waits(end)
    return client, server


def limit_waits(connection):
    """By the kernel's options: Python's own time limit would make the descriptor non-blocking for its heirs too."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", WATCHDOG, 0))


def exactly(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data


def not_here(reason):
    """Ends the case: it can't run on this machine."""
    print(reason)
    sys.exit(NOT_HERE)


def built(folder, name):
    """The program that the file of C of that name is, in the folder."""
    program = f"{folder}/{name}"
    source = pathlib.Path(__file__).with_name(f"{name}.c")
    subprocess.run(["gcc", "-pthread", "-o", program, str(source)], check=True, stderr=subprocess.DEVNULL)
    return program


def connect(listener):
    client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
    server, _ = listener.accept()
    limit_waits(server)
    return client, server


def echoes(client, server):
    client.sendall(b"there")
    expect(exactly(server, 5), b"there")
    server.sendall(b"back")
    expect(exactly(client, 4), b"back")
