"""system() and popen(): the shell gets the connections that it inherits, and is otherwise as the C library's."""

import ctypes
import os
import signal
import socket
import sys

from cases import WATCHDOG, case, expect

libc = ctypes.CDLL(None, use_errno=True)
libc.popen.restype = libc.fdopen.restype = ctypes.c_void_p
libc.pclose.argtypes = libc.fileno.argtypes = libc.fclose.argtypes = [ctypes.c_void_p]
PYTHON = sys.executable


def inherited():
    """Both ends of a connection; the server's is left open for programs."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname(), WATCHDOG)
    server, _ = listener.accept()
    listener.close()
    server.set_inheritable(True)
    return client, server


def program(server, text):
    """A shell's command that runs Python with the connection as `s`."""
    return f"""{PYTHON} -c 'import socket; s = socket.socket(fileno={server.fileno()}); {text}'""".encode()


def opened(command, mode):
    file = libc.popen(command, mode)
    expect(bool(file), True, os.strerror(ctypes.get_errno()))
    return file


@case("a program started by system reads and writes the connection that it inherits")
def system_inherits():
    client, server = inherited()
    client.sendall(b"question")
    expect(libc.system(program(server, 's.sendall(b"answer to " + s.recv(99))')), 0)
    expect(client.recv(99), b"answer to question")
    server.sendall(b"and ours")
    expect(client.recv(99), b"and ours")


@case("a program started by popen does too, and its output is read until its end")
def popen_inherits():
    client, server = inherited()
    client.sendall(b"question")
    file = opened(program(server, 's.sendall(b"answer"); print(s.recv(99).decode())'), b"r")
    with os.fdopen(os.dup(libc.fileno(file))) as output:
        expect(output.read(), "question\n")
    expect(libc.pclose(file), 0)
    expect(client.recv(99), b"answer")


@case("popen writes to a program's input, which ends when it is closed though another one is open")
def popen_writes():
    client, server = inherited()
    first, second = (opened(f"cat >&2; exit {code}".encode(), b"w") for code in (3, 4))
    os.write(libc.fileno(first), b"x")
    expect(os.waitstatus_to_exitcode(libc.pclose(first)), 3)
    expect(os.waitstatus_to_exitcode(libc.pclose(second)), 4)
    expect(libc.popen(b"true", b"rw"), None)
    expect(ctypes.get_errno(), 22)


@case("each of many popen streams to programs ends when it is closed, with the connection or without it")
def popen_many():
    client, server = inherited()
    files = [opened(b"cat >&2; exit 3", b"w") for _ in range(70)]
    server.close()
    files += [opened(b"cat >&2; exit 3", b"w") for _ in range(2)]
    for file in files:
        expect(os.waitstatus_to_exitcode(libc.pclose(file)), 3)


@case("system gives the status, 127 for what isn't there, and leaves signals as they were")
def system_status():
    client, server = inherited()
    expect(os.waitstatus_to_exitcode(libc.system(b"exit 5")), 5)
    expect(os.waitstatus_to_exitcode(libc.system(b"kill -9 $$")), -9)
    expect(os.waitstatus_to_exitcode(libc.system(b"/nowhere/nothing 2>/dev/null")), 127)
    expect(libc.system(None) != 0, True)
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append("interrupt"))
    # The shell has the default action, and its parent ignores the signal.
    expect(os.waitstatus_to_exitcode(libc.system(b"kill -INT $PPID; kill -INT $$")), -signal.SIGINT)
    expect(seen, [])
    os.kill(os.getpid(), signal.SIGINT)
    expect(seen, ["interrupt"])
    expect(signal.pthread_sigmask(signal.SIG_BLOCK, []), set())


@case("a program started by system accepts from a listener that it inherits, and waits for its client")
def system_listens():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.set_inheritable(True)
    child = os.fork()
    if child == 0:
        try:
            client = socket.create_connection(listener.getsockname(), WATCHDOG)
            os._exit(0 if client.recv(9) == b"hello" else 2)
        finally:
            os._exit(1)
    expect(libc.system(program(listener, 's.accept()[0].sendall(b"hello")')), 0)
    expect(os.waitpid(child, 0)[1], 0)
