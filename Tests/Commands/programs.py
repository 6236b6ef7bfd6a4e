"""Small Python programs, under `skein run` or not, for the tests to look at."""

import contextlib
import os
import subprocess

from harness import SKEIN

PYTHON = "/usr/bin/python3"
# Listens, prints its port, and holds what it accepts until its standard input ends.
SERVER = """import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
held = []
def accept():
    while True: held.append(listener.accept())
threading.Thread(target=accept, daemon=True).start()
sys.stdin.read()"""
CLIENT = """import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(connection.fileno(), flush=True)
sys.stdin.read()"""


@contextlib.contextmanager
def program(text, *words, run=(), **environment):
    """A Python program, under `skein run` where `run` isn't None. Yields the process and the number it prints."""
    prefix = [] if run is None else [SKEIN, "run", *run, "--"]
    with subprocess.Popen([*prefix, PYTHON, "-c", text, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          env=os.environ | environment) as process:
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(20)


INTERPRETER = """import os, socket, sys
names = {"os": os, "socket": socket, "sys": sys}
for line in sys.stdin:
    try:
        exec(eval(line), names)
        answer = names.pop("result", None)
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print(repr(answer), flush=True)
"""
LISTEN = "listener = socket.create_server(('127.0.0.1', 0)); result = listener.getsockname()[1]"


class Remote:
    """A Python program that does what it is told, under `skein run` or with another library preloaded."""

    def __init__(self, folder, *options, preload=None, wrapper=(), **environment):
        prefix = [SKEIN, "run", *options, "--"] if preload is None else []
        environment = os.environ | {"SKEIN_DIR": str(folder)} | environment | ({"LD_PRELOAD": preload} if preload else {})
        self.process = subprocess.Popen([*wrapper, *map(str, prefix), PYTHON, "-c", INTERPRETER], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=environment)
        self.pid = self.do("result = os.getpid()")

    def do(self, code):
        """Executes statements there; the value that they give to `result`."""
        self.process.stdin.write(repr(code) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the program ended at {code!r}"
        return eval(line)

    def connect(self, port, name="connection"):
        return self.do(f"{name} = socket.create_connection(('127.0.0.1', {port})); result = {name}.fileno()")

    def accept(self, name="connection"):
        return self.do(f"{name} = listener.accept()[0]; result = {name}.fileno()")

    def works_with(self, other):
        """Bytes go both ways between the `connection` here and there."""
        for one, two in ((self, other), (other, self)):
            one.do("connection.sendall(b'works')")
            assert two.do("result = connection.recv(9)") == b"works"

    def descriptor(self, kind):
        """The number of a hidden descriptor: `skein` for a pool, `skein-sockets` for the table. None where there is none."""
        for number in os.listdir(f"/proc/{self.pid}/fd"):
            if os.readlink(f"/proc/{self.pid}/fd/{number}") == f"/memfd:{kind} (deleted)":
                return int(number)
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        return_code = self.process.wait(20)
        if _ == (None, None, None):
            assert return_code in (0, -9), f"the program ended with {return_code}"
