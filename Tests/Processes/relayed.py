"""Connections that go on through a relay: the program behind it finds what it would find on TCP."""

import ctypes
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading

from cases import NOT_HERE, WATCHDOG, case, exactly, expect, not_here, pair
from passing import relays, shared_memory_sockets, wait_until


def environments():
    """With the header and without it."""
    without = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return dict(os.environ), without


def execute(code, connection, environment, **options):
    """Runs Python code with the connection as its standard input; `stream` is that as a socket."""
    connection.settimeout(None)  # O_NONBLOCK goes along
    begin = "import select, signal, socket, time\nstream = socket.socket(fileno=0)\n"
    program = subprocess.Popen([sys.executable, "-c", begin + code], stdin=connection, env=environment,
                               stdout=subprocess.PIPE, text=True, **options)
    connection.close()
    return program


def output(program):
    text, _ = program.communicate(timeout=WATCHDOG)
    return text.strip()


# --- a shell's connection

BY_TURNS = """
exec 6<>/dev/tcp/127.0.0.1/$0
for round in {1..40}; do
    echo $round >&6
    /bin/echo x$round >&6
    read -t 20 one <&6
    read -t 20 other <&6
    [ "$one $other" = "re:$round re:x$round" ] || echo "round $round: '$one' '$other'"
done
"""


@case("what a shell and the programs that it starts write by turns arrives, and the shell reads every answer")
def by_turns():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        shell = subprocess.Popen(["bash", "-c", BY_TURNS, str(listener.getsockname()[1])], stdout=subprocess.PIPE,
                                 text=True)
        server, _ = listener.accept()
    server.settimeout(WATCHDOG)
    lines = []
    with server, server.makefile("rb") as stream:
        for line in stream:
            server.sendall(b"re:" + line)
            lines.append(line)
    expect(output(shell), "")
    expect(lines, [b"%s%d\n" % (who, round) for round in range(1, 41) for who in (b"", b"x")])


# --- urgent data

def needs_urgent_data():
    one, other = socket.socketpair()
    with one, other:
        try:
            one.send(b"x", socket.MSG_OOB)
        except OSError:
            not_here("this kernel has no urgent data on Unix sockets")


RECEIVE_URGENT = """
poll = select.poll()
poll.register(stream, select.POLLPRI)
poll.poll(30000)
urgent, rest = stream.recv(1, socket.MSG_OOB), b''
while data := stream.recv(10):
    rest += data
print(urgent, rest)
"""


@case("an urgent byte reaches the program that is executed on the connection, out of band and once")
def urgent_in():
    needs_urgent_data()
    for environment in environments():
        for before in (True, False):
            client, server = pair()

            def send():
                client.sendall(b"ab")
                client.send(b"cd", socket.MSG_OOB)
                client.sendall(b"ef")
                client.shutdown(socket.SHUT_WR)

            if before:
                send()
            program = execute(RECEIVE_URGENT, server, environment)
            if not before:
                send()
            expect(output(program), "b'd' b'abcef'")


READ_TO_MARK = """
before, rest = stream.recv(6), b''
while data := stream.recv(10):
    rest += data
print(before, rest)
"""


@case("a program that is executed on the connection reads an urgent byte inline, and up to it first")
def urgent_inline():
    needs_urgent_data()
    for environment in environments():
        client, server = pair()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        client.sendall(b"ab")
        client.send(b"cd", socket.MSG_OOB)
        client.sendall(b"ef")
        client.shutdown(socket.SHUT_WR)
        expect(output(execute(READ_TO_MARK, server, environment)), "b'abc' b'def'")


@case("an urgent byte amid much data costs the program that reads it no byte, and gives it none twice")
def urgent_in_bulk():
    needs_urgent_data()
    before, behind = os.urandom(100_000), os.urandom(100_000)
    for environment in environments():
        client, server = pair()
        server.settimeout(None)
        program = subprocess.Popen(["cat"], stdin=server, stdout=subprocess.PIPE, env=environment)
        server.close()

        def send():
            client.sendall(before)
            client.send(b"\xf2", socket.MSG_OOB)
            client.sendall(behind)
            client.shutdown(socket.SHUT_WR)

        threading.Thread(target=send).start()
        copy, _ = program.communicate(timeout=WATCHDOG)
        expect((len(copy), copy == before + behind), (200_000, True), "what cat read")


@case("an urgent byte of the program that is executed on the connection is urgent to its peer")
def urgent_out():
    needs_urgent_data()
    code = "stream.send(b'ab'); stream.send(b'cd', socket.MSG_OOB); stream.send(b'ef'); stream.recv(1)"
    for environment in environments():
        client, server = pair()
        program = execute(code, server, environment)
        poll = select.poll()
        poll.register(client, select.POLLPRI)
        expect([event & select.POLLPRI for _, event in poll.poll(WATCHDOG * 1000)], [select.POLLPRI])
        expect(client.recv(1, socket.MSG_OOB), b"d")
        expect(exactly(client, 5), b"abcef")
        client.close()
        output(program)


# --- ends

@case("a program that is executed on a connection shut for sending can't send either")
def shut_before():
    code = """
try:
    print(stream.send(b'x'))
except BrokenPipeError:
    print('refused')
print(stream.recv(5))
"""
    for environment in environments():
        client, server = pair()
        server.shutdown(socket.SHUT_WR)
        program = execute(code, server, environment)
        expect(client.recv(1), b"")
        client.sendall(b"hello")
        expect(output(program), "refused\nb'hello'")


WRITE_TO_CLOSED = """
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
stream.recv(1)
results = [stream.send(b'x')]
ends = select.poll()
ends.register(stream, 0)
ends.poll(10000)
for _ in range(2):
    try:
        results.append(stream.send(b'x'))
    except OSError as error:
        results.append(error.errno)
print(results)
"""


@case("of what is written through a relay to a peer that is gone the first is taken, the rest is refused")
def closed_peer():
    for environment in environments():
        client, server = pair()
        program = execute(WRITE_TO_CLOSED, server, environment)
        client.close()
        expect(output(program), f"[1, {errno.EPIPE}, {errno.EPIPE}]")


READ_AFTER_REFUSAL = """
import os
os.read(%d, 1)
results = [stream.send(b'x')]
deadline = time.monotonic() + 10
while results[-1] == 1 and time.monotonic() < deadline:
    try:
        results.append(stream.send(b'x'))
    except BrokenPipeError:
        results.append('refused')
count = 0
while data := stream.recv(65536):
    count += len(data)
print(results[-1], count)
"""


@case("a program whose peer is gone reads what had come all the same, whatever it writes meanwhile")
def read_after_refusal():
    for environment in environments():
        client, server = pair()
        client.sendall(bytes(20_000))
        word, go = os.pipe()
        program = execute(READ_AFTER_REFUSAL % word, server, environment, pass_fds=[word])
        client.close()
        os.write(go, b"x")
        expect(output(program), "refused 20000")


def read_to_end(connection):
    """All that comes, and whether a reset ended it."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        return data, True
    return data, False


@case("a relay that is killed resets its connection")
def killed():
    client, server = pair()
    program = execute("stream.send(b'before'); stream.recv(1)", server, environments()[1])
    expect(exactly(client, 6), b"before")
    [relay] = relays()
    os.kill(relay, signal.SIGKILL)
    expect(read_to_end(client), (b"", True))
    output(program)


@case("a relay that has let go of a connection doesn't reset it by its death")
def killed_later():
    client, server = pair()
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"x"], [server.fileno()])
    server.close()
    with socket.socket(fileno=socket.recv_fds(theirs, 10, 1)[1][0]) as received:
        [relay] = relays()
        wait_until(lambda: not shared_memory_sockets(relay), "the relay lets go")
        os.kill(relay, signal.SIGKILL)
        received.sendall(b"after")
    expect(read_to_end(client), (b"after", False))


@case("bytes that die with a container's first program and its relay end in a reset, never in an end of file")
def first_process():
    libc = ctypes.CDLL(None, use_errno=True)
    for environment in environments():
        client, server = pair()
        child = os.fork()
        if child == 0:
            if libc.unshare(0x20000000) != 0:  # CLONE_NEWPID
                os._exit(NOT_HERE)
            first = os.fork()
            if first == 0:
                client.close()
                server.settimeout(None)
                os.dup2(server.fileno(), 1)
                os.execvpe("head", ["head", "-c", "300000", "/dev/zero"], environment)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
        server.close()
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == NOT_HERE:
            not_here("a namespace of process numbers can't be made")
        data, reset = read_to_end(client)
        expect(reset or len(data) == 300_000, True, f"{len(data)} bytes and a clean end")
