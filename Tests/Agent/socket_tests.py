"""Unmodified programs of two hosts that share nothing but a medium, in network namespaces without an interface."""

import contextlib
import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys

from agents import Agent, pair
from fault_tests import meanwhile
from filament_tests import shared
from harness import SKEIN, WATCHDOG_SECONDS, Skip, test
from running import KILL, TERMINATE, Running, host, until

# Sends back what comes, and ends when the client has: on a port of its own, whatever it is bound to.
ECHO = """
import socket, sys
isSix = ":" in sys.argv[1]
server = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if isSix else socket.AF_INET, dualstack_ipv6=isSix)
print("ready", server.getsockname()[1], flush=True)
while True:
    connection, client = server.accept()
    print(client[0].removeprefix("::ffff:"), client[1], connection.getsockname()[0].removeprefix("::ffff:"), flush=True)
    with connection:
        try:
            while data := connection.recv(1 << 16):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            print("ended", flush=True)
        except OSError as error:
            print("failed", error.errno, flush=True)
"""

# What a client needs to tell what came of it. Its words follow.
CLIENT = """
import errno, select, socket, sys, threading
def name(error): return errno.errorcode.get(error, str(error))
def connect(address, port, blocks=True):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = socket.socket(family)
    one.setblocking(blocks)
    return one, name(one.connect_ex((address, int(port))))
"""


class Member:
    """A host of the group, where programs run."""

    def __init__(self, agent):
        self.agent = agent
        # Now: it outlives the agent.
        self.inside = agent.inside()
        self.four = f"198.18.0.{agent.number + 1}"
        self.six = f"fd53:6b65:696e::{agent.number + 1:x}"

    def words(self, *words, log="/dev/null"):
        """The command line of a program under Skein in the agent's network."""
        return [*self.inside, SKEIN, "run", "--log", log, "--", *map(str, words)]

    def run(self, *words, expect=0, log="/dev/null", **options):
        result = subprocess.run(self.words(*words, log=log), env=host(self.agent.folder), capture_output=True, text=True,
                                timeout=WATCHDOG_SECONDS, **options)
        assert expect is None or result.returncode == expect, f"{words}: {result}"
        return result.stdout

    def client(self, script, *words, **options):
        return self.run(sys.executable, "-c", CLIENT + script, *words, **options)

    @contextlib.contextmanager
    def serving(self, *words, **options):
        """A server, once its first line has come. The line's last number is its port."""
        with subprocess.Popen(self.words(*words), env=host(self.agent.folder), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, **options) as server:
            try:
                line = server.stdout.readline()
                ports = [word for word in line.replace("(", " ").split() if word.isdigit()]
                assert ports, line + server.stdout.read()
                server.port = ports[-1]
                yield server
            finally:
                server.kill()

    def echo(self, address="0.0.0.0"):
        return self.serving(sys.executable, "-c", ECHO, address)


def members():
    return Member(shared["a"]), Member(shared["b"])


@test("curl fetches a file from python's http.server of the other host, by addresses and by names")
def _(folder):
    a, b = members()
    (folder / "www").mkdir()
    content = random.Random(1).randbytes(8 << 20)
    (folder / "www" / "file").write_bytes(content)
    with b.serving(sys.executable, "-u", "-m", "http.server", "0", cwd=folder / "www") as server:
        for name in (b.four, f"[{b.six}]", "b.lab.skein", "B.Lab.Skein.", "b"):
            a.run("curl", "-sS", "--noproxy", "*", "-o", folder / "copy", f"http://{name}:{server.port}/file")
            copy = (folder / "copy").read_bytes()
            assert hashlib.blake2b(copy).digest() == hashlib.blake2b(content).digest(), name
            (folder / "copy").unlink()


@test("names mean hosts that live; others are for the system to know")
def _(folder):
    a, b = members()
    out = a.client("""
for host in sys.argv[1:]:
    try: print(*sorted({entry[4][0] for entry in socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)}))
    except socket.gaierror as error: print(error.errno == socket.EAI_NONAME)
print(*{entry[4][:2] for entry in socket.getaddrinfo("b", 7, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)})
print(socket.gethostbyname_ex("b.lab.skein")[2])
print(socket.getaddrinfo("b", 7, flags=socket.AI_CANONNAME)[0][3])
""", "b.lab.skein", "a.lab.skein", "nobody.lab.skein", "127.0.0.1", b.four).splitlines()
    assert out == [f"{b.four} {b.six}", f"{a.four} {a.six}", "True", "127.0.0.1", b.four,
                   f"('{b.four}', 7)", str([b.four]), "b"], out


@test("bytes go both ways, each direction is ended by itself, and both ends see the group's addresses")
def _(folder):
    a, b = members()
    for server, client in ((a, b), (b, a)):
        for family, bound in (("four", "0.0.0.0"), ("four", "::"), ("six", "::")):
            with server.echo(bound) as echo:
                address = getattr(server, family)
                out = client.client("""
one, result = connect(*sys.argv[1:])
assert result == "0", result
assert one.getpeername()[:2] == (sys.argv[1], int(sys.argv[2])), one.getpeername()
print(*one.getsockname()[:2])
data = bytes(range(256)) * 4096 * 4
def send():
    one.sendall(data)
    one.shutdown(socket.SHUT_WR)
thread = threading.Thread(target=send)
thread.start()
got = b""
while piece := one.recv(1 << 20): got += piece
thread.join()
assert got == data, len(got)
""", address, echo.port).split()
                assert out[0] == getattr(client, family), out
                seen = echo.stdout.readline().split()
                assert seen == [client.four, out[1], server.four], (seen, out)
                assert echo.stdout.readline() == "ended\n"


@test("connects that don't block, and epoll: nothing is writable before the other host has answered")
def _(folder):
    a, b = members()
    with b.echo() as echo:
        a.client("""
poller = select.epoll()
ends = {}
for number in range(50):
    one, result = connect(*sys.argv[1:], blocks=False)
    assert result == "EINPROGRESS", result
    poller.register(one, select.EPOLLIN | select.EPOLLOUT | (select.EPOLLET if number % 2 else 0))
    ends[one.fileno()] = one
waiting = set(ends)
while waiting:
    for number, events in poller.poll():
        one = ends[number]
        if number not in waiting: continue
        assert events == select.EPOLLOUT, events
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert one.connect_ex(one.getpeername()) in (0, errno.EISCONN)
        one.setblocking(True)
        waiting.remove(number)
        poller.unregister(number)
for one in ends.values():
    one.sendall(b"x")
    one.shutdown(socket.SHUT_WR)
    assert one.recv(2) == b"x"
    assert one.recv(2) == b""
    one.close()
""", b.four, echo.port)


@test("what can't be connected says why, at once or to who polls; the socket can be connected again")
def _(folder):
    a, b = members()
    script = """
four, six, own, port = sys.argv[1:]
for target, number, expected in ((four, 9, "ECONNREFUSED"), (six, 9, "ECONNREFUSED"), ("198.18.0.99", port, "EHOSTUNREACH"),
                                 ("198.18.0.0", port, "EHOSTUNREACH"), ("198.19.255.255", port, "EHOSTUNREACH"),
                                 ("fd53:6b65:696e:1::1", port, "EHOSTUNREACH")):
    one, result = connect(target, number)
    assert result == expected, (target, result)
    assert one.connect_ex((six if ":" in target else four, int(port))) == 0
    one.close()
    one, result = connect(target, number, blocks=False)
    assert result == "EINPROGRESS", (target, result)
    select.select([], [one], [])
    assert name(one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) == expected
    assert name(one.connect_ex((six if ":" in target else four, int(port)))) == "EINPROGRESS"
    select.select([], [one], [])
    assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
assert connect(own, 9)[1] == "ECONNREFUSED"
"""
    with b.echo("::") as echo:
        a.client(script, b.four, b.six, a.four, echo.port)


@test("a server on loopback alone is not reachable; the own address is a local one")
def _(folder):
    a, b = members()
    with b.echo("127.0.0.1") as near, b.echo() as far:
        assert a.client("print(connect(*sys.argv[1:])[1])", b.four, near.port) == "ECONNREFUSED\n"
        assert b.client("print(connect(*sys.argv[1:])[1])", b.four, near.port) == "ECONNREFUSED\n"
        assert b.client("print(connect(*sys.argv[1:])[1])", b.four, far.port) == "0\n"
        seen = far.stdout.readline().split()
        assert [seen[0], seen[2]] == [b.four, b.four], seen


@test("STP sockets of two hosts: by the names of group and host, from and to programs of TCP as well")
def _(folder):
    a, b = members()

    for address in ("lab/b", "b"):
        with Running(b.agent.folder, "listen", ":0", ready="stderr", prefix=b.inside) as listener:
            with Running(a.agent.folder, "connect", f"{address}:{listener.port}", prefix=a.inside) as client:
                client.end_input(b"there")
                listener.end_input(b"and back")
                assert client.finish()[0] == b"and back"
                assert listener.finish()[0] == b"there"
    with Running(b.agent.folder, "listen", ":0", ready="stderr", prefix=b.inside) as listener:
        listener.end_input(b"for TCP")
        assert a.client("""
one, result = connect(*sys.argv[1:])
one.shutdown(socket.SHUT_WR)
print(result, one.recv(100))
""", b.four, listener.port) == "0 b'for TCP'\n"
        listener.finish()
    with b.echo() as echo, Running(a.agent.folder, "connect", f"lab/b:{echo.port}", prefix=a.inside) as client:
        assert client.finish(input=b"to TCP")[0] == b"to TCP"
    for address, words in (("lab/b:9", "obody listens"), ("lab/nobody:9", "no agent"), ("other/b:9", "no agent")):
        with Running(a.agent.folder, "connect", address, prefix=a.inside) as client:
            said = client.finish(None, b"")[1]
            assert words in said, (address, said)


@test("redis and its client, on different hosts")
def _(folder):
    if not shutil.which("redis-server"):
        raise Skip("takes redis")
    a, b = members()
    # Under Skein a port that is free in the namespace, or by chance.
    port = 20_000 + os.getpid() % 10_000
    with b.serving("redis-server", "--port", port, "--bind", "0.0.0.0", "--save", "", "--protected-mode", "no",
                   "--dir", folder):
        ping = ["redis-cli", "-h", "b.lab.skein", "-p", port]
        until(lambda: a.run(*ping, "ping", expect=None) == "PONG\n", "an answer")
        lines = "".join(f"SET key{number} {'v' * number}\n" for number in range(1, 1001))
        assert "errors: 0, replies: 1000" in a.run(*ping, "--pipe", input=lines)
        assert a.run(*ping, "strlen", "key1000") == "1000\n"
        assert f"addr={a.four}:" in a.run(*ping, "client", "list")


# Sends and never stops, or receives and never stops; says what ended it.
FLOOD = """
one, result = connect(*sys.argv[1:])
print(result, flush=True)
try:
    while True: one.sendall(bytes(1 << 16))
except OSError as error: print(name(error.errno))
"""
DRAIN = """
one, result = connect(*sys.argv[1:])
ends = []
def send():
    try:
        while True: one.sendall(bytes(1 << 16))
    except OSError as error: ends.append(name(error.errno))
thread = threading.Thread(target=send)
thread.start()
print(result, len(one.recv(100)), flush=True)
try:
    while one.recv(1 << 16): pass
except OSError as error: ends.append(name(error.errno))
thread.join()
# One of the two hears of the reset.
print("ECONNRESET" in ends or ends)
"""


@contextlib.contextmanager
def started(member, script, *words):
    """A client that has connected, and what it says then."""
    with subprocess.Popen(member.words(sys.executable, "-c", CLIENT + script, *words), env=host(member.agent.folder),
                          stdout=subprocess.PIPE, text=True) as client:
        try:
            yield client, client.stdout.readline()
        finally:
            client.kill()


@test("a server that is killed ends its clients' connections, with a reset where it left something unread")
def _(folder):
    a, b = members()
    with b.echo() as echo, started(a, FLOOD, b.four, echo.port) as (client, said):
        assert said == "0\n" and echo.stdout.readline()
        echo.kill()
        assert client.communicate()[0] in ("ECONNRESET\n", "EPIPE\n")


@test("a client that is killed ends its connection at the server")
def _(folder):
    a, b = members()
    with b.echo() as echo, started(a, "one, result = connect(*sys.argv[1:]); print(result, flush=True); one.recv(1)",
                                   b.four, echo.port) as (client, said):
        assert said == "0\n" and echo.stdout.readline()
        client.kill()
        assert echo.stdout.readline() == "ended\n"


@meanwhile("an agent is killed under a transfer: both ends hear of it, and no connect waits; with the next one all works again")
def _(folder):
    with pair(folder, isIsolated=True) as (medium, a, b):
        here, there = Member(a), Member(b)
        with there.echo() as echo, started(here, DRAIN, there.four, echo.port) as (client, said):
            assert said == "0 100\n" and echo.stdout.readline()
            b.signal(KILL)
            b.finish(-KILL)
            assert echo.stdout.readline() in (f"failed {errno.ECONNRESET}\n", f"failed {errno.EPIPE}\n")
            assert client.communicate()[0] == "True\n"
        a.says("host 'b'", "is gone")
        assert here.client("print(connect(*sys.argv[1:])[1])", there.four, 9) == "EHOSTUNREACH\n"
        assert " b\n" not in (a.folder / "runtime" / "group").read_text()
        # What the dead agent has left says where it was.
        log = folder / "log"
        assert there.client("print(connect(*sys.argv[1:])[1])", here.four, 9, log=log) == "ENETUNREACH\n"
        assert "can't be connected" in log.read_text() and "skein agent" in log.read_text(), log.read_text()
        with Agent(folder, medium, "b", isIsolated=True) as b:
            b.ready()
            b.says("host 'a'", "is there")
            there = Member(b)
            with there.echo() as echo:
                assert here.client("print(connect(*sys.argv[1:])[1])", "b.lab.skein", echo.port) == "0\n"
            b.signal(TERMINATE)
            b.finish()
        assert not (b.folder / "runtime" / "group").exists()


@test("what nobody who may be the agent has written is not believed, nor who has its name")
def _(folder):
    lookup = """
try: print(socket.getaddrinfo("far.lab.skein", 7)[0][4][0])
except OSError: print("nobody")
print(connect("198.18.0.7", 7)[1])
"""
    environment = host(folder)
    listing = folder / "runtime" / "group"

    def outcome():
        words = [*shared["a"].inside(), SKEIN, "run", "--", sys.executable, "-c", CLIENT + lookup]
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=WATCHDOG_SECONDS).stdout

    whole = "skein group 1\ngroup lab\nrange 198.18.0.0/15 fd53:6b65:696e::/48\nnumber 0\nhost 0 a\nhost 6 far\n"
    listing.write_text(whole)
    assert outcome() == "198.18.0.7\nENETUNREACH\n", outcome()
    for text in ("skein group 1\n", whole[:-1], whole.replace("1\n", "2\n", 1), whole.replace("/15", "/16"),
                 whole.replace("number 0\n", "number 65534\n"), whole + "x" * 9000,
                 whole.replace("number 0\n", "number 99999999999999999999\n")):
        listing.write_text(text)
        assert outcome().startswith("nobody\n"), text
    listing.unlink()
    os.mkfifo(listing)
    assert outcome().startswith("nobody\n")
    listing.unlink()
    listing.symlink_to(folder / "elsewhere")
    (folder / "elsewhere").write_text(whole)
    assert outcome().startswith("nobody\n")
    listing.unlink()
    listing.write_text(whole)
    if os.geteuid() != 0:
        return
    os.chown(listing, 65534, 65534)
    assert outcome().startswith("nobody\n")
    os.chown(listing, 0, 0)
    # Another user's process has the agent's name.
    place = os.stat(folder / "runtime")
    squat = f"""
import os, socket
os.setuid(65534)
squatter = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
squatter.bind(b"\\0skein/1/agent/{place.st_dev:x}:{place.st_ino:x}")
squatter.listen()
print("ready", flush=True)
print(squatter.accept()[0].recv(100))
"""
    with subprocess.Popen([*shared["a"].inside(), sys.executable, "-c", squat], stdout=subprocess.PIPE, text=True) as squatter:
        assert squatter.stdout.readline() == "ready\n"
        assert outcome() == "198.18.0.7\nENETUNREACH\n"
        assert squatter.communicate()[0] == "b''\n"
