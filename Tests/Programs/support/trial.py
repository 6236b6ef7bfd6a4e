"""One test in one pairing: a server and clients, the bytes they moved, and what they left."""

import contextlib
import dataclasses
import hashlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess

from . import namespace
from .processes import Processes, tail, wait_until_listening
from .skein import Skein

WATCHDOG_SECONDS = 60
PYTHON = "/usr/bin/python3"  # Debian's own: the first python3 in PATH may be a shell script that starts another


class Skip(Exception):
    """The test can't run here."""


@dataclasses.dataclass(frozen=True)
class Pairing:
    name: str
    server_under_skein: bool
    client_under_skein: bool

    @property
    def both(self):
        return self.server_under_skein and self.client_under_skein


PAIRINGS = [
    Pairing("both under skein", True, True),
    Pairing("server under skein, plain client", True, False),
    Pairing("plain server, client under skein", False, True),
]
PLAIN = [Pairing("plain TCP", False, False)]

TESTS = []


def test(sentence, needs=()):
    """Registers a function of a Trial as a test; `needs` names the programs it can't do without."""
    def register(function):
        TESTS.append((sentence, tuple(needs), function))
        return function
    return register


def with_defaults(function):
    """The test gets Skein's default runtime folders instead of one of its own."""
    function.with_defaults = True
    return function


def find_program(name):
    """Its path, also where sbin is not in PATH."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        raise Skip(f"{name} is not installed (Tests/Programs/install.sh)")
    return path


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Trial:
    """What a test function works with."""

    ports = itertools.count(15000)  # the namespace is ours: all are free, and below the ephemeral ones

    def __init__(self, pairing, binary, folder, documents, with_defaults=False):
        self.pairing = pairing
        self.folder = folder
        self.documents = documents
        folder.mkdir()
        self.skein = Skein(binary, None if with_defaults else folder / "runtime")
        self.processes = Processes(folder)
        self.wrapper = []  # words before each program, such as taskset's
        self.environment = {}
        self.payload_bytes = 0
        self.uploaded_bytes = 0  # of those
        self.server_is_shut_in = False  # it can't reach the runtime folder to count: what its clients count is proof
        self.port = self.free_port()

    def free_port(self):
        return next(Trial.ports)

    def server(self, argv, address=None, user=None):
        """Starts a server and waits until it listens on our port, or on another address."""
        process = self._start(argv, self.pairing.server_under_skein, user)
        wait_until_listening(address or self.port, process)
        return process

    def backend(self, argv, port):
        """Starts a server that our server is a client of: it stands on the clients' side of the pairing."""
        process = self._start(argv, self.pairing.client_under_skein, None)
        wait_until_listening(port, process)
        return process

    def prepare(self, argv, user=None):
        """Runs a program that makes files and talks to nobody, to its end. Never under Skein."""
        return self.finish(self._start(argv, False, user))

    def start_client(self, argv, user=None, stdin=os.devnull):
        """Starts a client that reads the file `stdin`, or a pipe where it is subprocess.PIPE."""
        if stdin == subprocess.PIPE:
            return self._start(argv, self.pairing.client_under_skein, user, stdin)
        with open(stdin, "rb") as source:
            return self._start(argv, self.pairing.client_under_skein, user, source)

    def client(self, argv, user=None, stdin=os.devnull):
        """Runs a client to its end, which must be a good one. Returns what it printed."""
        return self.finish(self.start_client(argv, user, stdin))

    def finish(self, process):
        """Waits for a client. Returns its standard output."""
        if process.wait() != 0:
            raise AssertionError(f"{process.args[-1]}: the client ended with {process.returncode}: {tail(process.err)}")
        return process.out.read_bytes()

    def moved(self, size, up=False):
        """The test has seen so many bytes arrive; at the end they must be found in Skein's counters. `up` says that a
        client sent them."""
        self.payload_bytes += size
        if up:
            self.uploaded_bytes += size

    def arrived(self, path, original, up=False):
        """Both files hold the same, byte for byte; counts them as moved."""
        assert path.stat().st_size == original.stat().st_size, \
            f"{path.stat().st_size} of {original.stat().st_size} bytes arrived"
        assert sha256(path) == sha256(original), f"{path.name} differs from {original.name}"
        self.moved(original.stat().st_size, up)

    def _start(self, argv, under_skein, user, stdin=subprocess.DEVNULL):
        identity = []
        if user:
            if not namespace.has_several_users():
                raise Skip("needs root to become another user")
            identity = ["setpriv", "--reuid", user, "--regid", str(group_of(user)), "--clear-groups"]
        prefix = self.skein.prefix if under_skein else []
        return self.processes.start([*identity, *self.wrapper, *prefix, *argv],
                                    self.skein.environment | self.environment, stdin)

    def run(self, function):
        """The test, its end, and the checks that every test shares. Raises AssertionError or Skip."""
        before = self.skein.totals() if self.skein.binary else None
        failure = None
        try:
            with watchdog(WATCHDOG_SECONDS):
                function(self)
                # A server that is ended by a signal with connections open takes what they moved with it.
                alive = self.skein.totals() if self.skein.binary else None
        except AssertionError as error:
            failure = error
        finally:
            complaints = self.processes.stop_all()
        if failure:
            raise failure
        assert not complaints, "; ".join(complaints)
        if before:
            self._check_counters(before, alive, self.skein.status())

    def _check_counters(self, before, alive, status):
        assert not status["sockets"], f"skein ls still shows {len(status['sockets'])} sockets: {status['sockets'][0]}"
        if not self.pairing.both:
            return
        grown = {name: max(alive[name], status["totals"][name]) - before[name] for name in before}
        expected = {"memory_bytes_in": self.payload_bytes, "memory_bytes_out": self.payload_bytes}
        if self.server_is_shut_in:
            expected["memory_bytes_in"] -= self.uploaded_bytes
            expected["memory_bytes_out"] = self.uploaded_bytes
        for name, size in expected.items():
            assert grown[name] >= size, f"{name} grew by {grown[name]} where {size} bytes were moved: {grown}"
        assert grown["memory_connections"] > 0, f"no connection was on shared memory: {grown}"
        assert grown["tcp_connections"] == 0, f"connections fell back to TCP: {status['fall_backs']}"


def group_of(user):
    try:
        return pwd.getpwnam(user).pw_gid
    except KeyError:
        raise Skip(f"there is no user {user}") from None


@contextlib.contextmanager
def watchdog(seconds):
    def bark(*_):
        raise AssertionError(f"not done after {seconds} s")
    previous = signal.signal(signal.SIGALRM, bark)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
