"""What becomes of clients that have connected when a process leaves the listener, or leaves it to TCP."""

import os
import select
import socket
import subprocess

from cases import WATCHDOG, case, echoes, expect, in_memory
from hellos import SlowClient
from ports import as_nobody, root_only


def takes_and_leaves(listener, leave):
    """A child finds the client's connection, whose hello has not come, and then leaves the listener."""
    child = os.fork()
    if child == 0:
        try:
            listener.accept()
            os._exit(1)
        except BlockingIOError:
            leave(listener)
            os._exit(0)
    expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0, "accept with nobody's hello")


def served_by_another(leave):
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    client = SlowClient(listener, 40000)
    client.connect()
    takes_and_leaves(listener, leave)
    client.say_hello()
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    expect(len(waiting.poll(WATCHDOG * 1000)), 1, "clients")
    server, peer = listener.accept()
    expect(peer, ("127.0.0.1", 40000))
    expect(server.get_inheritable(), False)
    expect(server.getblocking(), True)


@case("a client whose hello comes after a worker has closed the listener is served by another worker")
def closed():
    served_by_another(lambda listener: listener.close())


@case("a client whose hello comes after a worker has become another program is served by another worker")
def executed():
    def leave(listener):
        listener.set_inheritable(True)
        os.execv("/bin/true", ["true"])
    served_by_another(leave)


@case("another user's word that he puts a client back is not taken")
def foreign_forwarder():
    root_only()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    for forwards in (as_nobody, lambda body: body()):
        client, forwarder = SlowClient(listener, 40000), SlowClient(listener, 40001)
        client.end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.end, passed = client.end
        client.say_hello()

        def forward():
            forwarder.connect()
            forwarder.forward(passed)
            return "sent"

        expect(forwards(forward), "sent")
        try:
            taken = listener.accept()[1][1]
        except BlockingIOError:
            taken = None
        expect(taken, None if forwards is as_nobody else 40000)


@case("clients in a listener's queue are served when it goes to a program that has no header")
def queued():
    for waits in (False, True):
        listener = socket.create_server(("127.0.0.1", 0))
        clients = [socket.create_connection(listener.getsockname(), timeout=WATCHDOG) for _ in range(3)]
        subprocess.run(["/bin/true"], pass_fds=[listener.fileno()], env={}, check=True)
        later = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
        expect([in_memory(client) for client in clients + [later]], [True, True, True, False], "over memory")
        listener.settimeout(WATCHDOG if waits else None)
        for client in clients + [later]:
            server, peer = listener.accept()
            expect(peer, client.getsockname())
            echoes(client, server)
