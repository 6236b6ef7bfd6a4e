"""A server and clients in Python over loopback that tell what carries their bytes."""

import contextlib
import os
import subprocess

from harness import CHECKOUT, SKEIN, WATCHDOG_SECONDS

PYTHON = "/usr/bin/python3"
PRELOAD = CHECKOUT / "build/lib/libskein-preload.so"
# Listens at an address, prints its port, and echoes until its standard input ends.
SERVER = """import socket, sys, threading
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)
print(listener.getsockname()[1], flush=True)
def serve(connection):
    while data := connection.recv(4096): connection.sendall(data)
def accept():
    while True: threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
sys.stdin.read()"""
# Asks the kernel, which shows a connection in memory as a Unix socket.
CLIENT = """import os, socket, sys
try:
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
    connection.sendall(b"x" * 100)
    got = connection.recv(100, socket.MSG_WAITALL)
except OSError as error: sys.exit(print(f"errno {error.errno}"))
if len(got) < 100: sys.exit(print("closed"))
number = os.readlink(f"/proc/self/fd/{connection.fileno()}")[8:-1]
for name in "tcp", "tcp6", "unix":
    if any(number in line.split() for line in open(f"/proc/net/{name}")): print("memory" if name == "unix" else "tcp")"""


def preloaded(folder, **variables):
    """An environment under the header that `skein run` has not checked."""
    return environment(folder) | {"LD_PRELOAD": str(PRELOAD)} | variables


def environment(folder, **variables):
    """Without any rule; sockets are listed below the folder."""
    folder.chmod(0o1777)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SKEIN_")}
    return clean | {"SKEIN_DIR": str(folder)} | variables


@contextlib.contextmanager
def server(variables, host="127.0.0.1", run=(), port=0):
    """A server under `skein run` with these options; its port. `run` None: as the environment has it."""
    prefix = [] if run is None else [SKEIN, "run", *run, "--"]
    with subprocess.Popen([*prefix, PYTHON, "-c", SERVER, host, str(port)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env=variables) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(WATCHDOG_SECONDS)


def carrier(variables, port, host="127.0.0.1", run=(), program=PYTHON):
    """What carries a client's connection: memory, tcp, or how it failed."""
    prefix = [] if run is None else [SKEIN, "run", *run, "--"]
    result = subprocess.run([*prefix, program, "-c", CLIENT, host, str(port)], capture_output=True, text=True,
                            timeout=WATCHDOG_SECONDS, env=variables)
    return result.stdout.strip() or result.stderr.strip()
