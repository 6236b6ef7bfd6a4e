"""Connections that a program hands on to others, many at once, while its other threads go on with them."""

import ctypes
import fcntl
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from cases import WATCHDOG, built, case, exactly, expect, pair
from inheriting import WITHOUT
from passing import relays
from relays import ticks


@case("of eighty connections that a started program holds too, none is reset when its starter closes them")
def held_by_helper():
    def start():
        return os.posix_spawn("/bin/sleep", ["sleep", "60"], WITHOUT)

    def end(helper):
        os.kill(helper, signal.SIGKILL)
        os.waitpid(helper, 0)

    client, server = pair()
    server.set_inheritable(True)
    end(start())
    client.close()
    server.close()
    relay, = relays()
    connections = [pair() for _ in range(80)]
    for _, server in connections:
        server.set_inheritable(True)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # It finds all of them at once, and the word that the program is there.
    os.kill(relay, signal.SIGSTOP)
    helper = start()
    os.kill(relay, signal.SIGCONT)
    waiting = select.poll()
    for client, server in connections:
        server.sendall(b"hello")
        expect(exactly(client, 5), b"hello")
        waiting.register(client, select.POLLIN)
    # A hand-over later it has taken in all of the first one.
    end(start())
    for _, server in connections:
        server.close()
    expect(waiting.poll(300), [])
    before = ticks(relay)
    time.sleep(0.3)
    expect(ticks(relay) - before < 10, True, "ticks in three tenths of a second without work")
    end(helper)
    for client, _ in connections:
        try:
            expect(client.recv(1), b"")
        except ConnectionResetError:
            pass


def busy(how):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "no-program"
        file.write_text("neither a script nor anything that could be loaded")
        file.chmod(0o755)
        result = subprocess.run([built(folder, "busy"), how, str(file), "0.6"], capture_output=True, text=True,
                                timeout=WATCHDOG)
    expect((result.returncode, result.stderr), (0, ""))


@case("a server whose threads call system, one beside the other, goes on with its connections in the other threads")
def busy_system():
    busy("s")


@case("one whose threads call posix_spawn does too")
def busy_spawn():
    busy("p")


@case("an exec that fails in one thread takes nothing from the connections of the others")
def busy_exec():
    busy("e")


EXECUTED = """
import ctypes, os, signal, socket, sys
for number in sys.argv[3:]:
    stream = socket.socket(fileno=int(number))
    stream.sendall(stream.recv(5)[::-1])
death = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(death))
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
if [str(os.getpid()), str(death.value), *blocked] != [*sys.argv[1:3], signal.SIGUSR2]:
    sys.exit(f"{os.getpid()}, {death}, {blocked}")
"""


@case("a thread executes a program on the connections: all there is of the process is the program's then")
def executed_by_thread():
    for environment in (dict(os.environ), WITHOUT):
        listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        child = os.fork()
        if child == 0:
            connections = [listener.accept()[0] for _ in range(20)]
            numbers = [str(connection.fileno()) for connection in connections]
            for connection in connections:
                connection.set_inheritable(True)
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, a thread's own
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
            threading.Thread(target=signal.pause, daemon=True).start()
            os.execve(sys.executable, [sys.executable, "-c", EXECUTED, str(os.getpid()), str(int(signal.SIGTERM)), *numbers],
                      environment)
        clients = [socket.create_connection(listener.getsockname(), WATCHDOG) for _ in range(20)]
        for number, client in enumerate(clients):
            client.sendall(b"%05d" % number)
        for number, client in enumerate(clients):
            expect(exactly(client, 5), (b"%05d" % number)[::-1])
            expect(client.recv(1), b"")
        expect(os.waitpid(child, 0)[1], 0)


@case("record locks stay with a process when one of its threads executes a program on a connection, or tries to")
def locked():
    with tempfile.TemporaryFile() as file, tempfile.NamedTemporaryFile() as empty:
        client, server = pair()
        child = os.fork()
        if child == 0:
            os.dup2(server.fileno(), 0)
            os.dup2(server.fileno(), 1)
            os.set_inheritable(file.fileno(), True)
            fcntl.lockf(file, fcntl.LOCK_EX)
            threading.Thread(target=signal.pause, daemon=True).start()
            os.chmod(empty.name, 0o755)
            try:
                os.execv(empty.name, ["no program"])
            except OSError:
                os.write(1, os.read(0, 5))
                os.execv("/bin/cat", ["cat"])
            finally:
                os._exit(1)
        server.close()
        for message in (b"tries", b"there"):
            client.sendall(message)
            expect(exactly(client, 5), message)
            expect(is_locked(file), True)
        client.shutdown(socket.SHUT_WR)
        expect(client.recv(1), b"")
        expect(os.waitpid(child, 0)[1], 0)
        expect(is_locked(file), False)


def is_locked(file):
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.lockf(file, fcntl.LOCK_UN)
    return False
