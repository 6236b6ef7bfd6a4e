"""Ports below 1024: who may use one is served under it, and nobody else can say that it is his."""

import ctypes
import os
import socket

from cases import WATCHDOG, case, expect, in_memory, not_here
from hellos import SlowClient

NOBODY = 65534
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def root_only():
    if os.geteuid() != 0:
        not_here("needs root, to take a low port and become another user")


def bound_low(kind=socket.SOCK_STREAM):
    for port in range(1023, 600, -1):
        end = socket.socket(socket.AF_INET, kind)
        try:
            end.bind(("127.0.0.1", port))
            return end
        except OSError:
            end.close()
    not_here("no port below 1024 is free")


def as_nobody(body, first=None):
    """Runs it in a child of another user, with what `first` returned as root there. Returns what it returned, a text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            arguments = [first()] if first else []
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            text = body(*arguments)
        except Exception as error:
            text = repr(error)
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    os.waitpid(child, 0)
    return text


@case("a client with a port below 1024 that isn't root any more is served, over memory")
def low_port():
    root_only()
    listener = socket.create_server(("127.0.0.1", 0))

    def fetch(client):
        client.settimeout(WATCHDOG)
        client.connect(listener.getsockname())
        return client.recv(9).decode() + (" over memory" if in_memory(client) else " over TCP")

    listener.settimeout(WATCHDOG)
    reader = os.fork()
    if reader == 0:
        end, peer = listener.accept()
        end.sendall(b"hello" if peer[1] < 1024 else b"wrong")
        os._exit(0)
    expect(as_nobody(fetch, first=bound_low), "hello over memory")
    os.waitpid(reader, 0)


def told(listener, port, make_proof):
    """Whom the listener takes a client for that says, in a hello of its own making, that it has the port; None where
    it refuses. `make_proof` returns the socket that is to prove it, or None; it is called when the client has connected."""
    client = SlowClient(listener, port)

    def send():
        client.connect()
        client.say_hello(make_proof())
        return "sent"

    expect(as_nobody(send), "sent")
    try:
        return listener.accept()[1]
    except BlockingIOError:
        return None


def quiet_listener():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


@case("a client that says it has a port below 1024 is refused, unless a TCP socket bound to it comes along")
def forged_port():
    root_only()
    listener = quiet_listener()
    true = bound_low()
    port = true.getsockname()[1]
    other, datagrams, high = bound_low(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
    datagrams.bind(("127.0.0.1", port))
    high.bind(("127.0.0.1", 0))
    expect(told(listener, port, lambda: true), ("127.0.0.1", port))
    for proof in (None, other, datagrams, high):
        expect(told(listener, port, lambda: proof), None, proof)


@case("a port below 1024 that a client bound in a network of its own is no proof")
def foreign_port():
    root_only()
    listener = quiet_listener()

    def proof():
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        end = socket.socket()
        end.bind(("0.0.0.0", 1023))
        return end

    try:
        expect(told(listener, 1023, proof), None)
    except AssertionError as error:
        if "PermissionError" in str(error):
            not_here("a user may make no namespaces here")
        raise
