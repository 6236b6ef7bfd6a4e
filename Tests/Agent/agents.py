"""Agents for the tests, a medium for them, and a program's end of the control socket."""

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import pathlib
import random
import socket
import struct
import subprocess
import tempfile

from harness import WATCHDOG_SECONDS, skein
from running import Running, host

CONNECT, LISTEN, ACCEPT, READY, REFUSED, DATA, END, RESET = range(1, 9)
HEADER = struct.Struct("<B3xI")
LARGEST = 1 << 16
# The I/O timeout of media whose hosts are to be found dead, in milliseconds: no stall of a busy machine is four times that.
TIMEOUT = 800


class Medium:
    """A medium in memory, unless another folder is named, where no other program's writes hold up its own.

    Its rings are small, since containers have little of such memory; so they are used again and again.
    """

    def __init__(self, folder, timeout=f"{TIMEOUT}ms", size="5M", on="/dev/shm", isPlain=False):
        self.scratch = tempfile.TemporaryDirectory(prefix="skein-agent-", dir=on)
        self.path = pathlib.Path(self.scratch.name) / "medium"
        self.key = folder / "key"
        self.isPlain = isPlain
        skein("medium", "create", self.path, "--hosts", "2", "--size", size, "--group", "lab", "--io-timeout", timeout,
              *(["--plaintext"] if isPlain else ["--key", self.key]))

    def words(self, name):
        return ["agent", "--host", name, "--medium", self.path, *([] if self.isPlain else ["--key", self.key])]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.scratch.cleanup()


class Agent(Running):
    """`skein agent` of one host, whose runtime folder is its own."""

    def __init__(self, folder, medium, name, *words, prefix=(), isIsolated=False, **options):
        self.folder = folder / name
        # A network namespace without interfaces, where the test may make one.
        self.isIsolated = isIsolated and mayIsolate()
        self.network = None
        if self.isIsolated:
            prefix = ["unshare", "--net", *prefix]
        self.folder.mkdir(exist_ok=True)
        self.name = name
        self.log = ""
        super().__init__(self.folder, *medium.words(name), *words, prefix=prefix, **options)

    def inside(self):
        """What begins a command line that is to run in its network, as long as the test has it open."""
        if not self.isIsolated:
            return []
        if self.network is None:
            self.network = os.open(f"/proc/{self.process.pid}/ns/net", os.O_RDONLY)
        return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.network}"]

    def ready(self):
        """Waits for its line."""
        line = self.line("stdout")
        assert line.startswith(f"ready lab/{self.name} "), f"{line!r}: {self.finish(None)}"
        self.number = int(line.split()[2])

    def says(self, *words):
        """Waits for a line of its log with these words."""
        while True:
            line = self.line()
            assert line.startswith("skein: "), f"it ended before it said {words}: {self.log}"
            self.log += f"{line}\n"
            if all(word in line for word in words):
                return line

    def program(self):
        return Program(self.folder)

    def connecting(self, address):
        """A connection that waits for the other host's program."""
        program = self.program()
        program.put(CONNECT, address.encode())
        return program

    @contextlib.contextmanager
    def listening(self, port):
        with self.program() as listener:
            listener.put(LISTEN, struct.pack("<H", port))
            listener.ready()
            yield listener

    def accepting(self, port):
        """A connection that waits for a stream."""
        program = self.program()
        program.put(ACCEPT, struct.pack("<H", port))
        return program

    def accept(self, port):
        """The next stream to the port, and the name of the host that it comes from."""
        program = self.accepting(port)
        return program, program.ready().decode()


class Program:
    """A connection to the control socket."""

    def __init__(self, folder):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(WATCHDOG_SECONDS)
        self.socket.connect(host(folder)["SKEIN_DIR"] + "/agent.sock")

    def put(self, kind, body=b""):
        self.socket.sendall(HEADER.pack(kind, len(body)) + body)

    def send(self, data):
        for start in range(0, len(data), LARGEST):
            self.put(DATA, data[start:start + LARGEST])

    def exactly(self, size):
        data = bytearray()
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError(f"the agent has closed after {bytes(data)!r}")
            data += piece
        return bytes(data)

    def frame(self):
        kind, length = HEADER.unpack(self.exactly(HEADER.size))
        return kind, self.exactly(length)

    def ready(self):
        kind, body = self.frame()
        assert kind == READY, (kind, body)
        return body

    def error(self, expected):
        """The frame of this kind that comes next: its error number."""
        kind, body = self.frame()
        assert kind == expected, (kind, body)
        return struct.unpack("<I", body)[0]

    def receive(self, size):
        """So many bytes of the stream."""
        data = bytearray()
        while len(data) < size:
            kind, body = self.frame()
            assert kind == DATA, (kind, body)
            data += body
        assert len(data) == size, f"{len(data)} bytes came, not {size}"
        return bytes(data)

    def ended(self):
        kind, body = self.frame()
        assert kind == END, (kind, body)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@functools.cache
def mayIsolate():
    return subprocess.run(["unshare", "--net", "nsenter", "--net", "--target", str(os.getpid()), "true"],
                          capture_output=True).returncode == 0


@contextlib.contextmanager
def pair(folder, *words, isIsolated=False, **options):
    """A medium and two agents on it, a and b, that know each other. The words are for a alone."""
    with (Medium(folder, **options) as medium, Agent(folder, medium, "a", *words, isIsolated=isIsolated) as a,
          Agent(folder, medium, "b", isIsolated=isIsolated) as b):
        for one, other in ((a, "b"), (b, "a")):
            one.ready()
            one.says(f"host '{other}'", "is there")
        yield medium, a, b


@contextlib.contextmanager
def stream(a, b, port):
    """Both ends of one stream."""
    with b.listening(port), a.connecting(f"b:{port}") as client:
        server, name = b.accept(port)
        with server:
            assert name == "a"
            client.ready()
            yield client, server


def exchange(one, other, size):
    """Moves so many random bytes both ways at once, up to the end, and compares them."""
    sums = [[hashlib.blake2b(), hashlib.blake2b()] for _ in range(2)]

    def send(program, sum):
        block = random.Random(size).randbytes(1 << 20)
        for number in range(size >> 20):
            piece = block[number % 1000:] + block[:number % 1000]
            sum.update(piece)
            program.send(piece)
        program.put(END)

    def receive(program, sum):
        while (frame := program.frame())[0] == DATA:
            sum.update(frame[1])
        assert frame == (END, b""), frame

    work = ((send, one, sums[0][0]), (receive, other, sums[0][1]), (send, other, sums[1][0]), (receive, one, sums[1][1]))
    with concurrent.futures.ThreadPoolExecutor(len(work)) as threads:
        for future in [threads.submit(*words) for words in work]:
            future.result()
    for sent, came in sums:
        assert sent.digest() == came.digest()
