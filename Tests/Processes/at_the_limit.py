"""A server at its limit of descriptors: clients wait in the queue, and none is lost."""

import errno
import os
import resource
import select
import socket
import threading
import time

from cases import WATCHDOG, case, echoes, exactly, expect, limit_waits
from hellos import SlowClient


def limit_descriptors(soft):
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def leave_free(count):
    """Takes all numbers but so many. Returns those taken."""
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        expect(error.errno, errno.EMFILE)
    for _ in range(count):
        os.close(taken.pop())
    return taken


def listen(backlog=None):
    limit_descriptors(100)
    listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    listener.setblocking(False)
    return listener


def wait_for(listener):
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    expect(len(waiting.poll(WATCHDOG * 1000)), 1, "clients")


@case("a server serves a client with the last number that is free")
def last_number():
    listener = listen()
    client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
    leave_free(1)
    server, _ = listener.accept()
    limit_waits(server)
    echoes(client, server)


@case("a client that had to be put back is served with the last number that is free")
def put_back():
    listener = listen()
    client = SlowClient(listener, 40000)
    client.connect()
    for free in (2, 1):
        taken = leave_free(free)
        try:
            listener.accept()
            raise AssertionError("accepted without a hello")
        except BlockingIOError:
            pass
        for number in taken:
            os.close(number)
    client.say_hello()
    leave_free(1)
    wait_for(listener)
    expect(listener.accept()[1], ("127.0.0.1", 40000))


@case("a server whose limit was lowered to a few descriptors loses no client")
def few():
    listener = listen()
    client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
    limit_descriptors(40)
    taken = leave_free(1)
    while True:
        wait_for(listener)
        try:
            server, _ = listener.accept()
            break
        except OSError as error:
            expect(error.errno, errno.EMFILE)
            os.close(taken.pop())
    limit_waits(server)
    echoes(client, server)
    expect(os.open("/dev/null", os.O_RDONLY) < 40, True, "what was used for the client is free again")


@case("clients that wait while a server's limit is lowered below all its numbers are served once it is raised")
def lowered_meanwhile():
    listener = listen()
    clients = [socket.create_connection(listener.getsockname(), timeout=WATCHDOG) for _ in range(6)]
    for client in clients:
        client.sendall(b"there")
    servers = []
    for limit, free, least in ((3, 0, 0), (20, 6, 1), (100, 6, 6)):
        limit_descriptors(limit)
        taken = leave_free(free)
        while len(servers) < len(clients):
            wait_for(listener)
            try:
                servers.append(listener.accept())
            except OSError as error:
                expect(error.errno, errno.EMFILE)
                break
        expect(least <= len(servers) <= free, True, f"{len(servers)} served with a limit of {limit}")
        for number in taken:
            os.close(number)
    expect([peer for _, peer in servers], [client.getsockname() for client in clients])
    for client, (server, _) in zip(clients, servers):
        limit_waits(server)
        expect(exactly(server, 5), b"there")
        echoes(client, server)


def client_of_many(address, rounds):
    """Makes twenty connections at a time. Ends with the number of those that were lost."""
    lost = 0
    for _ in range(rounds):
        clients = [socket.create_connection(address, timeout=WATCHDOG) for _ in range(20)]
        for client in clients:
            client.sendall(b"question")
        for client in clients:
            try:
                lost += client.recv(8) != b"question"
            except ConnectionResetError:
                lost += 1
            client.close()
    os._exit(min(lost, 255))


@case("threads that accept at the limit, beside others that open files, lose no client")
def crowded():
    listener = listen(512)
    listener.setblocking(True)
    children = []
    for _ in range(6):
        children.append(os.fork())
        if children[-1] == 0:
            limit_descriptors(1000)
            client_of_many(listener.getsockname(), 20)
    limit_descriptors(70)
    leave_free(16)

    def serve():
        while True:
            try:
                server, _ = listener.accept()
            except OSError as error:
                expect(error.errno, errno.EMFILE)
                time.sleep(0.0003)
                continue
            time.sleep(0.002)
            server.sendall(exactly(server, 8))
            server.close()

    def open_files():
        while True:
            try:
                os.close(os.open("/dev/null", os.O_RDONLY))
            except OSError as error:
                expect(error.errno, errno.EMFILE)

    for work in [serve] * 12 + [open_files] * 2:
        threading.Thread(target=work, daemon=True).start()
    expect([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], [0] * 6, "connections lost")
    os._exit(0)
