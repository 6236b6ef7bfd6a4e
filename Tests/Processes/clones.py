"""Processes that a server makes past fork, one for each connection, which it closes itself at once."""

import ctypes
import errno
import os
import signal
import socket
import subprocess
import tempfile

from cases import WATCHDOG, built, case, expect

libc = ctypes.CDLL(None, use_errno=True)
SYS_CLONE = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
SYS_CLONE3 = 435
CLIENTS = 6
PIECE = 40000  # more than the small ring holds


def by_system_call(child):
    pid = libc.syscall(ctypes.c_long(SYS_CLONE), ctypes.c_long(signal.SIGCHLD), *[ctypes.c_long(0)] * 4)
    return pid if pid != 0 else child()


def by_clone3(child):
    arguments = (ctypes.c_uint64 * 8)(0, 0, 0, 0, signal.SIGCHLD)
    pid = libc.syscall(ctypes.c_long(SYS_CLONE3), ctypes.byref(arguments), ctypes.c_long(ctypes.sizeof(arguments)))
    return pid if pid != 0 else child()


def by_clone(child):
    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(lambda _: child())
    size = 1 << 20
    stack = ctypes.create_string_buffer(size)
    top = (ctypes.addressof(stack) + size) & ~15
    return libc.clone(function, ctypes.c_void_p(top), signal.SIGCHLD, None)


def exactly(client, count):
    data = b""
    while len(data) < count and (piece := client.recv(count - len(data))):
        data += piece
    return data


def serve(make):
    """A server whose children each answer on one connection, in two pieces with a question between them."""
    listener = socket.create_server(("127.0.0.1", 0))
    clients = []
    for index in range(CLIENTS):
        clients.append(socket.create_connection(listener.getsockname(), WATCHDOG))
        end, _ = listener.accept()
        piece = bytes([index]) * PIECE

        def child():
            try:
                end.sendall(piece)
                question = end.recv(1)
                end.sendall(piece)
                os._exit(0 if question == b"?" else 2)
            finally:
                os._exit(1)

        expect(make(child) > 0, True, os.strerror(ctypes.get_errno()))
        end.close()
    for index, client in enumerate(clients):
        piece = bytes([index]) * PIECE
        expect(exactly(client, PIECE) == piece, True, f"client {index}")
        client.sendall(b"?")
        expect(exactly(client, PIECE) == piece, True, f"client {index}, after its question")
        expect(client.recv(1), b"")
    for _ in clients:
        expect(os.wait()[1], 0)


@case("children made by a system call of clone hold their connections as those of fork do")
def system_call():
    serve(by_system_call)


@case("children made by clone3 hold their connections as those of fork do")
def clone3():
    serve(by_clone3)


@case("children made by the C library's clone, on a stack of their own, hold their connections as those of fork do")
def clone_function():
    serve(by_clone)


@case("a clone that the system refuses leaves the connections as they were")
def refused():
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname(), WATCHDOG)
    end, _ = listener.accept()
    both_roots = 0x200 | 0x20000  # CLONE_FS with CLONE_NEWNS
    expect(libc.syscall(ctypes.c_long(SYS_CLONE), ctypes.c_long(both_roots | signal.SIGCHLD), *[ctypes.c_long(0)] * 4), -1)
    expect(ctypes.get_errno(), errno.EINVAL)
    end.sendall(b"last")
    end.close()
    expect(exactly(client, 4), b"last")
    expect(client.recv(1), b"")


@case("a child of vfork has its parent's memory while that has no socket, and spoils nothing of ours there")
def lent_memory():
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run([built(folder, "vfork")], capture_output=True, text=True, timeout=WATCHDOG)
    expect((ran.returncode, ran.stdout, ran.stderr), (0, "lent kept lent in memory\n", ""))
