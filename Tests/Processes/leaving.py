"""What becomes of clients that have connected when a process leaves the listener, or leaves it to TCP."""

import os
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from cases import NOT_HERE, WATCHDOG, built, case, connect, echoes, exactly, expect, in_memory, not_here
from hellos import SlowClient


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


@case("who says that he puts a client back, but does not hold the listener, is not believed")
def foreign_forwarder():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    other = socket.create_server(("127.0.0.1", 0))
    for proof in (None, other, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)):
        client, forwarder = SlowClient(listener, 40000), SlowClient(listener, 40001)
        client.end, passed = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.say_hello()
        forwarder.connect()
        forwarder.forward(passed, proof)
        try:
            taken = listener.accept()[1]
        except BlockingIOError:
            taken = None
        expect(taken, None)


@case("a client that says nothing is turned away in the end, and those behind it wait no longer than a moment")
def silent():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(WATCHDOG)
    strangers = [SlowClient(listener, 40000) for _ in range(20)]
    for stranger in strangers:
        stranger.connect()
    for _ in range(20):
        connect(listener)
    listener.setblocking(False)
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    end = time.monotonic() + WATCHDOG
    while waiting.poll(100):
        try:
            listener.accept()
            raise AssertionError("a stranger was accepted")
        except (BlockingIOError, ConnectionAbortedError):
            assert time.monotonic() < end, "the strangers are still there"
    for stranger in strangers:
        try:
            stranger.say_hello()
            raise AssertionError("a stranger's hello was taken")
        except BrokenPipeError:
            pass


@case("a worker that is busy keeps no client from the others, however late its hello")
def busy():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    client = SlowClient(listener, 40000)
    client.connect()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            listener.accept()
        except BlockingIOError:
            os.write(writer, b"x")
        signal.pause()
    expect(os.read(reader, 1), b"x")
    client.say_hello()
    expect(len(select.select([listener], [], [], WATCHDOG)[0]), 1)
    expect(listener.accept()[1], ("127.0.0.1", 40000))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@case("a child of a forking server keeps no other client's connection open")
def forked():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    client = SlowClient(listener, 40000)
    client.connect()
    try:
        listener.accept()
        raise AssertionError("accepted without a hello")
    except BlockingIOError:
        pass
    child = os.fork()
    if child == 0:
        signal.pause()
    client.say_hello()
    select.select([listener], [], [], WATCHDOG)
    listener.accept()[0].close()
    ends = select.poll()
    ends.register(client.end, 0)
    expect(bool(ends.poll(WATCHDOG * 1000)), True)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@case("many threads that accept from one listener lose no client, and close no other's descriptor")
def threads():
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    late = [SlowClient(listener, 40000 + number) for number in range(100)]
    served = []

    def serve():
        while True:
            server, peer = listener.accept()
            served.append(peer)
            server.sendall(b"yes")

    workers = [threading.Thread(target=serve, daemon=True) for _ in range(4)]
    for worker in workers:
        worker.start()
    for number, client in enumerate(late):
        client.connect()
        for _ in range(5):
            other = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
            expect(exactly(other, 3), b"yes")
        client.say_hello()
    end = time.monotonic() + WATCHDOG
    while len(served) < 600 and time.monotonic() < end:
        time.sleep(0.01)
    expect(len(served), 600, "clients served")


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


@case("a client in a listener's queue is accepted, whichever queue had the last ones, when the listener is left to TCP")
def waiting_client():
    for passes in (False, True):
        listener = socket.create_server(("127.0.0.1", 0))
        # After some clients over memory the kernel's queue is asked first.
        for _ in range(7):
            connect(listener)
        client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
        if passes:
            ends = socket.socketpair()
            socket.send_fds(ends[0], [b"x"], [listener.fileno()])
        else:
            subprocess.run(["/bin/true"], pass_fds=[listener.fileno()], env={}, check=True)
        server, _ = listener.accept()
        expect(in_memory(server), True, "over memory")
        echoes(client, server)


@case("a listener that was left to TCP stays so for all, also for a program under Skein that has it later")
def stays_left():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        passed = socket.socket(fileno=socket.recv_fds(theirs, 1, 1)[1][0])
        theirs.recv(1)
        connection, _ = passed.accept()
        connection.sendall(b"child")
        signal.pause()
    listener = socket.create_server(("127.0.0.1", 0))
    socket.send_fds(ours, [b"x"], [listener.fileno()])

    def served():
        clients = []
        late = threading.Timer(0.1, lambda: clients.append(socket.create_connection(listener.getsockname())))
        late.start()
        server, _ = listener.accept()
        late.join()
        echoes(clients[0], server)

    try:
        served()
        ours.send(b"x")
        client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
        expect(exactly(client, 5), b"child")
        expect(in_memory(client), False, "over memory")
        served()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@case("a listener blocks or not as its last setting says, also when another holder goes on with it without the header")
def left():
    for blocking in (False, True):
        listener = socket.create_server(("127.0.0.1", 0))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(reader, 1)
            os.set_inheritable(listener.fileno(), True)
            os.execve("/bin/sleep", ["sleep", str(WATCHDOG)], {})
        try:
            listener.setblocking(blocking)
            os.write(writer, b"x")
            while Path(f"/proc/{child}/comm").read_text() != "sleep\n":
                time.sleep(0.01)
            if not blocking:
                try:
                    raise AssertionError(listener.accept())
                except BlockingIOError:
                    pass
            clients = []
            connecting = threading.Timer(0.1, lambda: clients.append(socket.create_connection(listener.getsockname())))
            connecting.start()
            server = None
            while not server:
                try:
                    server, _ = listener.accept()
                except BlockingIOError:
                    expect(blocking, False)
                    select.select([listener], [], [], WATCHDOG)
            connecting.join()
            expect(in_memory(server), False, "over memory")
            echoes(clients[0], server)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@case("who waits in a listener's queue is reset when it is shut down, and SHUT_WR means nothing to a listener")
def shut():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.shutdown(socket.SHUT_WR)
    echoes(*connect(listener))
    clients = [socket.create_connection(listener.getsockname(), timeout=WATCHDOG) for _ in range(3)]
    listener.shutdown(socket.SHUT_RDWR)
    for client in clients:
        try:
            raise AssertionError(f"read {client.recv(1)!r}")
        except ConnectionResetError:
            pass


@case("a blocking accept waits, though another thread's poll named a client that is gone")
def others_wait():
    listener = socket.create_server(("127.0.0.1", 0))
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    first = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
    poller = threading.Thread(target=waiting.poll, args=(WATCHDOG * 1000,))
    poller.start()
    poller.join()
    child = os.fork()
    if child == 0:
        listener.accept()[0].sendall(b"yes")
        os._exit(0)
    expect(exactly(first, 3), b"yes")
    os.waitpid(child, 0)
    accepted = []
    worker = threading.Thread(target=lambda: accepted.append(listener.accept()[1]))
    worker.start()
    time.sleep(0.2)
    second = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
    worker.join(WATCHDOG)
    expect(accepted, [second.getsockname()])


@case("a signal handler that writes to a pipe while its thread accepts is not held up")
def handler():
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    reader, writer = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGALRM, lambda *_: None)
    threading.Thread(target=time.sleep, args=(WATCHDOG,), daemon=True).start()
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for _ in range(2000):
            socket.create_connection(listener.getsockname(), timeout=WATCHDOG).close()
        os._exit(0)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    listener.settimeout(WATCHDOG)
    for _ in range(2000):
        listener.accept()[0].close()
    signal.setitimer(signal.ITIMER_REAL, 0)
    expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


@case("a worker that a signal handler ends after any call of its accept leaves the client to another worker")
def ended():
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run([built(folder, "ending")], capture_output=True, text=True, timeout=WATCHDOG)
    if ran.returncode == NOT_HERE:
        not_here("no process may be traced")
    expect((ran.returncode, ran.stdout, ran.stderr), (0, "served\n", ""))
