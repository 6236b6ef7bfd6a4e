#!/usr/bin/env python3
"""What a new program inherits or is passed, and what cancelled threads leave; beside it, cases of other files.

Each case runs in a process of its own under `skein run`: this file with the name of the case.
"""

import ctypes
import os
import pathlib
import platform
import pty
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
from cases import CASES, NOT_HERE, WATCHDOG, built, case, exactly, expect, not_here, pair  # noqa: E402
import addresses_limit  # noqa: E402,F401
import at_the_limit  # noqa: E402,F401
import clones  # noqa: E402,F401
import passing  # noqa: E402
import past_hooks  # noqa: E402,F401
import filters  # noqa: E402,F401
import handing_on  # noqa: E402,F401
import heirs  # noqa: E402,F401
import inheriting  # noqa: E402
import leaving  # noqa: E402,F401
import limits  # noqa: E402,F401
import networks  # noqa: E402,F401
import ports  # noqa: E402,F401
import relays  # noqa: E402,F401
import relayed  # noqa: E402,F401
import shells  # noqa: E402,F401
import squatters  # noqa: E402,F401
import turns  # noqa: E402,F401

HERE = pathlib.Path(__file__).resolve()
SKEIN = HERE.parents[2] / "build/bin/skein"


# --- connections through exec and posix_spawn

@case("a helper that got the connection by accident costs its parent no byte")
def accident():
    client, server = pair()
    os.set_inheritable(server.fileno(), True)
    helper = subprocess.Popen(["sleep", "30"], close_fds=False, env=inheriting.WITHOUT)
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
    for environment in (None, inheriting.WITHOUT):
        client, server = pair()
        program = subprocess.Popen(["cat"], stdin=server, stdout=server, env=environment)
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


# --- threads

@case("a thread that is blocked in any call can be cancelled, and the connection works on")
def cancelled():
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run([built(folder, "cancel")], capture_output=True, text=True, timeout=WATCHDOG)
    expect((result.returncode, result.stdout), (0, ""))


@case("a signal handler that leaves a call by longjmp, or reads or writes in its midst, harms nobody, wherever it comes")
def jumped():
    if platform.machine() != "x86_64":
        not_here("no trap at each instruction")
    with tempfile.TemporaryDirectory() as folder:
        program = built(folder, "jump")
        for call, step, least in (("a", 263, 1000), ("c", 263, 1000), ("w", 7, 300), ("r", 7, 300), ("e", 61, 300),
                                  ("W", 3, 300), ("R", 3, 300)):
            result = subprocess.run([program, call, str(step)], capture_output=True, text=True, timeout=WATCHDOG)
            expect(result.returncode, 0, result.stdout)
            expect(int(result.stdout.split()[0]) > least, True, "it came in between")


@case("a signal handler that writes in the midst of its thread's own write waits for a peer that knows of the bytes")
def interrupted_midst():
    with tempfile.TemporaryDirectory() as folder:
        program = built(folder, "midst")
        for way in "write", "poll":
            result = subprocess.run([program, way], capture_output=True, text=True, timeout=WATCHDOG)
            expect((result.returncode, result.stdout), (0, "300\n"), way)


@case("threads that duplicate and close the numbers of one connection at the same time lose none of its events")
def renumbered():
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run([built(folder, "numbers")], capture_output=True, text=True, timeout=WATCHDOG)
    expect((result.returncode, result.stdout), (0, "18000\n"), result.stderr)


@case("two holders of one connection that have the same number, each in a pid namespace of its own, lose no byte")
def numbered_alike():
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run([built(folder, "namespaces")], capture_output=True, text=True, timeout=WATCHDOG)
    if result.returncode == NOT_HERE:
        not_here("no pid namespace can be made")
    expect((result.returncode, result.stdout), (0, "0 0\n"))


def spoilt(call):
    """How many of twenty connections go wrong."""
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run([built(folder, "stale"), call, "20"], capture_output=True, text=True, timeout=WATCHDOG)
    if result.returncode == NOT_HERE:
        not_here("nobody may be traced")
    expect(result.returncode, 0, result.stderr)
    return int(result.stdout)


def is_spared(call):
    # On a machine that is busy enough, some of those who wait give up.
    return any(spoilt(call) <= 10 for _ in range(3))


@case("a thread that reads from a stale number at the moment of an accept takes nothing of the client's")
def stale_read():
    expect(is_spared("accept"), True)


@case("a thread that writes to a stale number at the moment of a connect puts nothing into the connection")
def stale_write():
    expect(is_spared("connect"), True)


@case("a thread that uses a socket while another connects it finds it connected once the server has the client")
def connected_meanwhile():
    listener = socket.create_server(("127.0.0.1", 0))
    clients = queue.SimpleQueue()
    done = threading.Semaphore(0)

    def connect():
        while client := clients.get():
            client.connect(listener.getsockname())
            done.release()

    worker = threading.Thread(target=connect, daemon=True)
    worker.start()
    for _ in range(4000):
        with socket.socket() as client:
            clients.put(client)
            listener.accept()[0].close()
            try:
                expect(client.recv(1), b"")
            finally:
                done.acquire()
    clients.put(None)
    worker.join()


# --- running them

def main():
    if len(sys.argv) > 1:
        CASES[sys.argv[1]][1]()
        return 0
    passed = failed = skipped = 0
    for name, (sentence, _) in CASES.items():
        environment = os.environ | {passing.CASE: f"{os.getpid()}-{name}"}
        process = subprocess.Popen([str(SKEIN), "run", "--", sys.executable, str(HERE), name], env=environment,
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
