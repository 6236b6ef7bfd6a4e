#!/usr/bin/env python3
"""What a new program inherits, what cancelled threads leave, and what goes past the hooks.

Each case runs in a process of its own under `skein run`: this file with the name of the case.
"""

import ctypes
import errno
import os
import pathlib
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
from cases import CASES, NOT_HERE, WATCHDOG, case, expect, in_memory  # noqa: E402
import addresses_limit  # noqa: E402,F401
import clones  # noqa: E402,F401
import ports  # noqa: E402,F401
import shells  # noqa: E402,F401

HERE = pathlib.Path(__file__).resolve()
SKEIN = HERE.parents[2] / "build/bin/skein"
# --- both ends of a connection over memory, in this process

def pair():
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    listener.close()
    expect(in_memory(client), True, "over memory")
    for end in (client, server):
        end.settimeout(WATCHDOG)
    return client, server


def exactly(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data


# --- connections through exec and posix_spawn

@case("a helper that got the connection by accident costs its parent no byte")
def accident():
    client, server = pair()
    os.set_inheritable(server.fileno(), True)
    helper = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        for number in range(300):
            message = b"%08d" % number * 4
            client.sendall(message)
            expect(exactly(server, len(message)), message)
            if number % 100 == 0:
                time.sleep(0.05)
        client.sendall(b"last")
        expect(exactly(server, 4), b"last")
        client.shutdown(socket.SHUT_WR)
        expect(server.recv(1), b"")
    finally:
        helper.kill()
        helper.wait()


@case("a program that is executed on the connection reads and writes it")
def intended():
    client, server = pair()
    program = subprocess.Popen(["cat"], stdin=server, stdout=server)
    server.close()
    data = os.urandom(2_000_000)
    threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR))).start()
    expect(exactly(client, len(data)) == data, True, "what came back differs")
    expect(client.recv(1), b"", "after cat ended")
    expect(program.wait(WATCHDOG), 0)


SHOW = """
import socket, sys
stream = socket.socket(fileno=0)
stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
print(stream.getpeername(), stream.getsockname(), stream.family == socket.AF_INET, stream.proto)
"""


@case("a program that is executed on the connection sees a TCP connection with its addresses")
def addresses():
    client, server = pair()
    shown = subprocess.run([sys.executable, "-c", SHOW], stdin=server, capture_output=True, text=True, timeout=WATCHDOG)
    expect(shown.stdout.strip(), f"{server.getpeername()} {server.getsockname()} True {socket.IPPROTO_TCP}", shown.stderr)


@case("what a program leaves unread its parent reads on")
def rest():
    client, server = pair()
    client.sendall(b"a" * 4096 + b"b" * 4096)
    first = subprocess.run(["head", "-c", "4096"], stdin=server, stdout=subprocess.PIPE, timeout=WATCHDOG)
    expect(first.stdout, b"a" * 4096)
    client.sendall(b"c" * 10)
    got = exactly(server, 10)
    # head reads ahead as far as it likes, on TCP too; but never past what it was lent.
    expect(set(got) <= set(b"abc") and len(got) == 10, True, got)


@case("posix_spawn gives the child the connection as its standard input and output")
def spawned():
    client, server = pair()
    actions = [(os.POSIX_SPAWN_DUP2, server.fileno(), 0), (os.POSIX_SPAWN_DUP2, server.fileno(), 1)]
    child = os.posix_spawnp("cat", ["cat"], os.environ, file_actions=actions)
    server.close()
    client.sendall(b"through cat")
    expect(exactly(client, 11), b"through cat")
    client.shutdown(socket.SHUT_WR)
    expect(client.recv(1), b"", "after cat ended")
    expect(os.waitpid(child, 0)[1], 0)


@case("posix_spawn runs the program's own actions in their order")
def actions():
    client, server = pair()
    os.set_inheritable(server.fileno(), True)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/out"
        list_of = [(os.POSIX_SPAWN_OPEN, 1, path, os.O_WRONLY | os.O_CREAT, 0o600),
                   (os.POSIX_SPAWN_DUP2, 1, 2), (os.POSIX_SPAWN_CLOSE, 0)]
        child = os.posix_spawn("/bin/sh", ["sh", "-c", "echo out; echo err >&2; read line || echo closed"],
                               os.environ, file_actions=list_of)
        os.waitpid(child, 0)
        text = pathlib.Path(path).read_text()
    expect(text.startswith("out\nerr\n") and text.endswith("closed\n"), True, text)
    client.sendall(b"still")
    expect(exactly(server, 5), b"still")


@case("a posix_spawn that fails leaves the connection as it was")
def spawn_fails():
    client, server = pair()
    os.set_inheritable(server.fileno(), True)
    client.sendall(b"before")
    try:
        os.posix_spawn("/nonexistent", ["x"], os.environ)
        raise AssertionError("it did not fail")
    except FileNotFoundError:
        pass
    expect(exactly(server, 6), b"before")
    server.sendall(b"after")
    expect(exactly(client, 5), b"after")


@case("an exec that fails leaves the connection as it was")
def exec_fails():
    client, server = pair()
    os.set_inheritable(server.fileno(), True)
    client.sendall(b"before")
    try:
        os.execv("/nonexistent", ["x"])
    except FileNotFoundError:
        pass
    expect(exactly(server, 6), b"before")
    server.sendall(b"after")
    expect(exactly(client, 5), b"after")


# --- forks inside the C library

@case("daemon() counts as a fork: the connection lives on in the daemon")
def daemonised():
    client, server = pair()
    child = os.fork()
    if child == 0:
        client.close()
        if ctypes.CDLL(None).daemon(1, 1) != 0:
            os._exit(1)
        server.sendall(exactly(server, 4).upper())
        os._exit(0)
    server.close()
    os.waitpid(child, 0)
    client.sendall(b"ping")
    expect(exactly(client, 4), b"PING")
    expect(client.recv(1), b"")


@case("forkpty() counts as a fork: both hold the connection")
def forkpty():
    client, server = pair()
    child, terminal = pty.fork()
    if child == 0:
        server.sendall(b"child")
        os._exit(0)
    expect(exactly(client, 5), b"child")
    os.waitpid(child, 0)
    server.sendall(b"parent")
    expect(exactly(client, 6), b"parent")
    os.close(terminal)


# --- listeners

SERVE = """
import os, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
listener.settimeout(None)
print('ready', os.get_blocking(listener.fileno()), flush=True)
for _ in range(2):
    connection, _ = listener.accept()
    connection.sendall(b'from the heir')
    connection.close()
"""


@case("a program that inherits a listener serves its clients, over memory, while its parent never accepts")
def heir():
    listener = socket.create_server(("127.0.0.1", 0))
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(listener.fileno())], pass_fds=[listener.fileno()],
                              stdout=subprocess.PIPE, text=True)
    expect(server.stdout.readline(), "ready True\n")
    for _ in range(2):
        client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
        expect(in_memory(client), True, "over memory")
        client.settimeout(WATCHDOG)
        expect(exactly(client, 13), b"from the heir")
    expect(server.wait(WATCHDOG), 0)


@case("the parent goes on accepting once its heir has ended")
def heir_ends():
    listener = socket.create_server(("127.0.0.1", 0))
    subprocess.run(["true"], pass_fds=[listener.fileno()], check=True)
    client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
    server, _ = listener.accept()
    expect(in_memory(client), True, "over memory")
    server.sendall(b"x")
    expect(client.recv(1), b"x")


STATIC = r"""
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int count, char **arguments) {
    int connection = accept(atoi(arguments[1]), 0, 0);
    return connection < 0 || write(connection, "static", 6) != 6;
}
"""


@case("a static program that inherits a listener serves clients over TCP; then the parent does")
def static_heir():
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "serve.c")
        source.write_text(STATIC)
        subprocess.run(["gcc", "-static", "-o", f"{folder}/serve", str(source)], check=True)
        listener = socket.create_server(("127.0.0.1", 0))
        server = subprocess.Popen([f"{folder}/serve", str(listener.fileno())], pass_fds=[listener.fileno()])
        client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
        expect(exactly(client, 6), b"static")
        expect(server.wait(WATCHDOG), 0)
    client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
    connection, _ = listener.accept()
    connection.sendall(b"parent")
    expect(exactly(client, 6), b"parent")


# --- threads

@case("a thread that is blocked in any call can be cancelled, and the connection works on")
def cancelled():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["gcc", "-pthread", "-o", f"{folder}/cancel", str(HERE.parent / "cancel.c")], check=True,
                       stderr=subprocess.DEVNULL)
        result = subprocess.run([f"{folder}/cancel"], capture_output=True, text=True, timeout=WATCHDOG)
    expect((result.returncode, result.stdout), (0, ""))


# --- past the hooks

SYSCALL = ctypes.CDLL(None, use_errno=True).syscall
READ, WRITE = (0, 1) if os.uname().machine == "x86_64" else (63, 64)


@case("bytes written by a raw system call reset the connection: they are never silently lost")
def raw_write():
    client, server = pair()
    expect(SYSCALL(WRITE, client.fileno(), b"past the hooks", 14), 14)
    try:
        got = server.recv(100)
        raise AssertionError(f"expected ECONNRESET, got {got!r}")
    except ConnectionResetError:
        pass


def resets(connection, data=b""):
    """Reads that data and then ECONNRESET, not the end."""
    expect(exactly(connection, len(data)), data)
    try:
        got = connection.recv(100)
    except ConnectionResetError:
        return
    raise AssertionError(f"expected ECONNRESET, got {got!r}")


@case("what was written past the hooks resets the connection behind bytes of the stream, before its end")
def raw_write_before_the_end():
    for end in (lambda client: client.shutdown(socket.SHUT_WR), lambda client: client.close()):
        client, server = pair()
        expect(SYSCALL(WRITE, client.fileno(), b"past", 4), 4)
        client.sendall(b"stream")
        end(client)
        resets(server, b"stream")


@case("what was written past the hooks resets a connection that never blocks, and one that is polled")
def raw_write_without_blocking():
    client, server = pair()
    expect(SYSCALL(WRITE, client.fileno(), b"past", 4), 4)
    server.setblocking(False)
    deadline = time.monotonic() + WATCHDOG
    while time.monotonic() < deadline:
        try:
            expect(server.recv(100), b"")
        except BlockingIOError:
            continue
        except ConnectionResetError:
            break
    else:
        raise AssertionError("expected ECONNRESET")
    client, server = pair()
    expect(SYSCALL(WRITE, client.fileno(), b"past", 4), 4)
    events = select.poll()
    events.register(server, select.POLLIN)
    expect(events.poll(WATCHDOG * 1000)[0][1] & select.POLLERR, select.POLLERR)
    resets(server)


@case("who closes without having read what was written past the hooks resets the connection")
def raw_write_and_close():
    client, server = pair()
    expect(SYSCALL(WRITE, client.fileno(), b"past", 4), 4)
    server.close()
    resets(client)


@case("asynchronous requests on a connection are refused, and cost it nothing")
def asynchronous():
    client, server = pair()
    library = ctypes.CDLL(None, use_errno=True)
    # A struct aiocb: the descriptor first, the rest is not looked at.
    request = (ctypes.c_int * 256)(client.fileno())
    listed = (ctypes.c_void_p * 1)(ctypes.addressof(request))
    for result in (lambda: library.aio_read(request), lambda: library.aio_write64(request),
                   lambda: library.lio_listio(1, listed, 1, None)):
        expect((result(), ctypes.get_errno()), (-1, errno.ENOSYS))
    client.sendall(b"stream")
    expect(exactly(server, 6), b"stream")


@case("select passes over a number behind the process's table of descriptors")
def select_behind_the_table():
    client, server = pair()
    client.sendall(b"x")
    # The kernel leaves the bit of such a number as it was.
    expect(select.select([server, 1023], [], [], WATCHDOG)[0], [server, 1023])
    server.recv(1)
    expect(select.select([server, 1023], [], [], 0.01)[0], [1023])


TALK = """
exec 3<>/dev/tcp/127.0.0.1/$1
printf 'question\\n' >&3
read -r answer <&3
echo "$answer"
"""


@case("bash talks through its /dev/tcp: its own printf goes by standard output")
def shell():
    listener = socket.create_server(("127.0.0.1", 0))
    program = subprocess.Popen(["bash", "-c", TALK, "bash", str(listener.getsockname()[1])], stdout=subprocess.PIPE)
    server, _ = listener.accept()
    expect(in_memory(server), True, "the connection goes over TCP")
    server.settimeout(WATCHDOG)
    expect(exactly(server, 9), b"question\n")
    server.sendall(b"answer\n")
    expect(program.communicate(timeout=WATCHDOG)[0], b"answer\n")


@case("a raw read never gives a byte that is not the stream's, and takes none of it")
def raw_read():
    client, server = pair()
    buffer = ctypes.create_string_buffer(100)
    server.setblocking(False)
    result = SYSCALL(READ, server.fileno(), buffer, 100)
    expect(result in (-1, 0), True, result)
    client.sendall(b"stream")
    server.setblocking(True)
    expect(buffer.raw, bytes(100))
    expect(exactly(server, 6), b"stream")


# --- running them

def main():
    if len(sys.argv) > 1:
        CASES[sys.argv[1]][1]()
        return 0
    passed = failed = skipped = 0
    for name, (sentence, _) in CASES.items():
        process = subprocess.Popen([str(SKEIN), "run", "--", sys.executable, str(HERE), name],
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            output, _ = process.communicate(timeout=WATCHDOG * 2)
            problem = None if process.returncode == 0 else output.decode(errors="replace").strip()[-2000:]
        except subprocess.TimeoutExpired:
            problem = "hangs"
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if process.returncode == NOT_HERE:
            skipped += 1
            print(f"skip - {sentence}: {problem}", flush=True)
        elif problem is None:
            passed += 1
            print(f"ok - {sentence}", flush=True)
        else:
            failed += 1
            print(f"not ok - {sentence}: {problem}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
