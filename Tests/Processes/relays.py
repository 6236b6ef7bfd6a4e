"""Relays where the system gives them little: behind filters, and without descriptors."""

import array
import errno
import os
import pathlib
import resource
import socket
import subprocess
import sys
import time

from cases import WATCHDOG, case, exactly, expect, pair
from filters import KILL, NUMBERS, REFUSE, deny
from inheriting import WITHOUT, ends, in_child, put_on_standard_numbers, rest
from passing import relays

MISSING = 0x00050000 | errno.ENOSYS
CLONES = [name for name in ("clone", "clone3", "fork", "vfork") if name in NUMBERS]
FORBIDDEN = [CLONES] + [[name] for name in ("setsid", "chdir", "close_range", "epoll_create1", "epoll_ctl")]


def pass_on(channel, *connections):
    numbers = array.array("i", [connection.fileno() for connection in connections])
    channel.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])


def behind_each(body, forbidden):
    """`body` behind each filter, in a child of its own: it gets the connection, and a channel to the parent."""
    for answer in (KILL, REFUSE):
        for calls in forbidden:
            client, server = pair()
            ours, theirs = socket.socketpair()

            def start():
                deny(answer, *calls)
                body(client, server, theirs)

            child = in_child(start)
            server.close()
            theirs.close()
            yield client, ours, child, (answer, calls)
            client.close()
            ours.close()


@case("a program is executed on a connection behind a filter that forbids what starting a relay takes")
def filtered_exec():
    def start(client, server, channel):
        put_on_standard_numbers(client, server)
        os.execv("/bin/cat", ["cat"])

    for client, _, child, what in behind_each(start, FORBIDDEN):
        client.sendall(b"to cat")
        client.shutdown(socket.SHUT_WR)
        expect(rest(client), b"to cat", what)
        ends(child)


@case("a connection is passed on behind such a filter")
def filtered_pass():
    def start(client, server, channel):
        client.close()
        pass_on(channel, server)

    for client, channel, child, what in behind_each(start, FORBIDDEN + [["prlimit64"]]):
        ends(child)
        control = channel.recvmsg(1, 100)[1]
        server = socket.socket(fileno=array.array("i", control[0][2])[0])
        client.sendall(b"there")
        expect(exactly(server, 5), b"there", what)
        server.sendall(b"back")
        server.close()
        expect(rest(client), b"back", what)


@case("a child of a process behind such a filter executes a program on the connection, through its parent's relay")
def filtered_parent():
    client, server = pair()

    def start():
        client.close()
        deny(KILL, "setsid")
        expect(subprocess.run(["cat"], stdin=server, stdout=server, timeout=WATCHDOG).returncode, 0)

    child = in_child(start)
    server.close()
    client.sendall(b"to cat")
    client.shutdown(socket.SHUT_WR)
    expect(rest(client), b"to cat")
    ends(child)


@case("where close_range has been missing from the start, a relay keeps none of its maker's descriptors")
def no_close_range():
    for answer in (MISSING, REFUSE):
        ran = subprocess.run([sys.executable, str(pathlib.Path(__file__).with_name("processes.py")), "intended"],
                             preexec_fn=lambda: deny(answer, "close_range"), capture_output=True, timeout=WATCHDOG)
        expect(ran.returncode, 0, ran.stderr.decode())


HOLD = """
import array, socket, sys
channel = socket.socket(fileno=0)
held = array.array('i')
while len(held) < int(sys.argv[1]):
    for _, _, data in channel.recvmsg(1, 100)[1]:
        held.frombytes(data)
print('held', flush=True)
channel.recv(1)
"""


def ticks(process):
    """Processor time, in hundredths of a second as a rule."""
    return sum(int(word) for word in pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[11:13])


@case("a relay that has as many ends as it may hold waits for room without using the processor")
def full():
    count = 40
    pairs = [pair() for _ in range(count)]
    ours, theirs = socket.socketpair()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(count)], stdin=theirs, stdout=subprocess.PIPE, env=WITHOUT)
    theirs.close()
    reader, writer = os.pipe()

    def start():
        for client, _ in pairs:
            client.close()
        os.close(writer)
        # An end takes three of the relay's.
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        for _, server in pairs:
            pass_on(ours, server)
            server.close()
        os.read(reader, 1)

    child = in_child(start)
    os.close(reader)
    for _, server in pairs:
        server.close()
    expect(holder.stdout.readline(), b"held\n")
    relay, = relays()
    before = ticks(relay)
    time.sleep(0.5)
    expect(ticks(relay) - before < 15, True, "ticks in half a second")
    os.close(writer)
    # Those that go make room for those that wait.
    holder.kill()
    holder.wait()
    for client, _ in pairs:
        expect(client.recv(1), b"")
    ends(child)


@case("where no descriptor is free, passing a connection on says EMFILE, and the connection goes on")
def no_descriptor():
    client, server = pair()
    ours, theirs = socket.socketpair()

    def start():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        filling = []
        try:
            while True:
                filling.append(os.dup(0))
        except OSError as error:
            expect(error.errno, errno.EMFILE)
        try:
            pass_on(ours, server)
            raise AssertionError("it was passed on")
        except OSError as error:
            expect(error.errno, errno.EMFILE)
        server.sendall(exactly(server, 4).upper())
        for number in filling:
            os.close(number)
        pass_on(ours, server)

    client.sendall(b"ping")
    child = in_child(start)
    server.close()
    expect(exactly(client, 4), b"PING")
    ends(child)
    theirs.recvmsg(1, 100)
    client.close()
