"""What a program that is executed finds: the connection's settings, and what was put over its number past the hooks."""

import ctypes
import os
import socket

from cases import case, expect, pair

libc = ctypes.CDLL(None, use_errno=True)
DUP3 = 292 if os.uname().machine == "x86_64" else 24


def blocking_pair():
    client, server = pair()
    server.settimeout(None)
    return client, server


def in_child(body):
    """Runs in a child, which ends with it. Its status is 0 where nothing was raised."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return child


def ends(child):
    expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


def put_on_standard_numbers(client, server):
    for number in range(3):
        os.dup2(server.fileno(), number)
    client.close()
    server.close()


def rest(client):
    data = b""
    while piece := client.recv(4096):
        data += piece
    return data


@case("execveat starts a program on the connection, by a path, a folder's descriptor, or the file's own")
def execute_at():
    def execute(folder, path, flags):
        arguments = (ctypes.c_char_p * 4)(b"sh", b"-c", b"read word && echo $word from $word", None)
        environment = (ctypes.c_char_p * 1)(None)
        libc.execveat(folder, path, arguments, environment, flags)

    ways = [lambda: execute(-100, b"/bin/sh", 0), lambda: execute(os.open("/bin", os.O_RDONLY), b"sh", 0),
            lambda: execute(os.open("/bin/sh", os.O_RDONLY), b"", 0x1000)]
    for way in ways:
        client, server = blocking_pair()

        def start():
            put_on_standard_numbers(client, server)
            way()
            raise AssertionError("no program was started")

        child = in_child(start)
        server.close()
        client.sendall(b"here\n")
        expect(rest(client), b"here from here\n")
        ends(child)
