"""A program and those that it starts use one connection in turn, each when the other has ended or says so."""

import ctypes
import errno
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from cases import WATCHDOG, case, exactly, expect, not_here, pair
from inheriting import WITHOUT, in_child, rest
from passing import relays, shared_memory_sockets, wait_until

BOTH = (None, WITHOUT)  # environments: with the header and without it
ROUNDS = 25


def run(*arguments, environment=None, **options):
    return subprocess.run(arguments, env=environment, timeout=WATCHDOG, check=True, **options)


def reading(client):
    """Reads to the end in a thread of its own. Returns what gives the bytes."""
    pieces = []
    reader = threading.Thread(target=lambda: pieces.append(rest(client)))
    reader.start()

    def result():
        reader.join(WATCHDOG)
        client.close()
        return pieces[0] if pieces else "nothing: the reader still waits, or failed"
    return result


@case("a program and those that it starts and waits for write by turns, and the order is that of their writes")
def turns_writes():
    for environment in BOTH:
        for _ in range(ROUNDS):
            client, server = pair()
            result = reading(client)
            with server:
                server.sendall(b"1 ")
                run("printf", "2 ", stdout=server, environment=environment)
                server.sendall(b"3 ")
                run("printf", "4 ", stdout=server, environment=environment)
                server.sendall(b"5")
            expect(result(), b"1 2 3 4 5", environment is None)


@case("what a program has written is not lost when who started it shuts the connection down, be the reader slow")
def turns_shutdown():
    for environment in BOTH:
        for how in (socket.SHUT_WR, socket.SHUT_RDWR):
            for count in (10, 3_000_000):
                client, server = pair()
                read = threading.Timer(0.1, lambda: None)
                read.start()
                pieces = []
                reader = threading.Thread(target=lambda: (read.join(), pieces.append(rest(client))))
                reader.start()
                run("head", "-c", str(count), "/dev/zero", stdout=server, environment=environment)
                server.shutdown(how)
                server.close()
                reader.join(WATCHDOG)
                expect([len(piece) for piece in pieces], [count], (environment is None, how))
                client.close()


@case("what a program has written reaches the peer though who started it is killed at once")
def turns_killed():
    for environment in BOTH:
        for _ in range(ROUNDS):
            client, server = pair()
            child = os.fork()
            if child == 0:
                client.close()
                run("printf", "written", stdout=server, environment=environment)
                os.kill(os.getpid(), signal.SIGKILL)
            server.close()
            expect(rest(client), b"written", environment is None)
            client.close()
            os.waitpid(child, 0)


@case("what a program has read to the end of what there was, who started it doesn't read again")
def turns_reads():
    for environment in BOTH:
        for _ in range(ROUNDS):
            client, server = pair()
            client.sendall(b"first")
            read = run("head", "-c", "5", stdin=server, stdout=subprocess.PIPE, environment=environment).stdout
            client.sendall(b"second")
            expect((read, server.recv(100)), (b"first", b"second"), environment is None)
            client.close()
            server.close()


@case("a program under Skein reads a line, and who started it reads all that follows")
def turns_line_by_line():
    for _ in range(ROUNDS):
        client, server = pair()
        client.sendall(b"a line\n" + bytes(5000))
        client.shutdown(socket.SHUT_WR)
        read = run("sh", "-c", "read line; echo $line", stdin=server, stdout=subprocess.PIPE).stdout
        expect((read, len(rest(server))), (b"a line\n", 5000))
        client.close()
        server.close()


@case("a shell started by a program prints by its own means and by programs, in one order, through system too")
def turns_shell():
    for _ in range(ROUNDS):
        client, server = pair()
        result = reading(client)
        with server:
            os.set_inheritable(server.fileno(), True)
            run("sh", "-c", "printf 1; /usr/bin/printf 2; printf 3; exec /usr/bin/printf 4", stdout=server)
            os.system(f"printf 5 >&{server.fileno()}; /usr/bin/printf 6 >&{server.fileno()}")
            server.sendall(b"7")
        expect(result(), b"1234567")


@case("a worker without the header writes to a connection that it was passed, then who passed it does")
def turns_passed():
    code = """if True:
        import os, socket
        channel = socket.socket(fileno=0)
        while numbers := socket.recv_fds(channel, 9, 1)[1]:
            os.write(numbers[0], b'worker ')
            os.close(numbers[0])
            channel.send(b'x')"""
    ours, theirs = socket.socketpair()
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, env=WITHOUT)
    theirs.close()
    for _ in range(ROUNDS):
        client, server = pair()
        socket.send_fds(ours, [b"m"], [server.fileno()])
        expect(ours.recv(1), b"x")
        server.sendall(b"giver")
        server.close()
        expect(rest(client), b"worker giver")
        client.close()
    ours.close()
    expect(worker.wait(WATCHDOG), 0)


# --- how it is done

@case("a program that uses the connection it was started with has it in memory, and no relay has it any more")
def turns_no_relay():
    client, server = pair()
    server.settimeout(None)
    program = subprocess.Popen(["cat"], stdin=server, stdout=server)
    server.close()
    for number in range(3):
        client.sendall(b"%d" % number)
        expect(exactly(client, 1), b"%d" % number)
    wait_until(lambda: not any(shared_memory_sockets(relay) for relay in relays()), "the relays let go")
    expect(len(shared_memory_sockets(program.pid)), 1, "of the program")
    client.shutdown(socket.SHUT_WR)
    expect((rest(client), program.wait(WATCHDOG)), (b"", 0))


@case("a helper under Skein that has the connection by accident costs no relay, and its parent no byte")
def turns_accident():
    client, server = pair()
    os.set_inheritable(server.fileno(), True)
    helper = subprocess.Popen(["sleep", "60"], close_fds=False)
    wait_until(lambda: not any(shared_memory_sockets(relay) for relay in relays()), "the relays let go")
    for number in range(1000):
        client.sendall(b"%08d" % number)
        expect(exactly(server, 8), b"%08d" % number)
    server.close()
    helper.kill()
    helper.wait()
    expect(rest(client), b"")


@case("forked children of a program take what it was started with, each for itself")
def turns_forked():
    code = """if True:
        import os
        for number in range(20):
            if os.fork() == 0:
                os.write(1, b'%03d\\n' % number)
                os._exit(0)
            os.wait()
        os.write(1, b'end\\n')"""
    client, server = pair()
    result = reading(client)
    with server:
        run(sys.executable, "-c", code, stdout=server)
        server.sendall(b"parent\n")
    expect(result(), b"".join(b"%03d\n" % number for number in range(20)) + b"end\nparent\n")


@case("two threads that use it first at the same moment both find the connection")
def turns_threads():
    code = """if True:
        import os, threading
        gate = threading.Barrier(8)
        def write():
            gate.wait()
            os.write(1, b'x' * 1000)
        all = [threading.Thread(target=write) for _ in range(8)]
        [thread.start() for thread in all]
        [thread.join() for thread in all]"""
    for _ in range(ROUNDS):
        client, server = pair()
        result = reading(client)
        with server:
            run(sys.executable, "-c", code, stdout=server)
            server.sendall(b"y")
        expect(result(), b"x" * 8000 + b"y")


@case("a relay that is stopped holds up who uses the connection beside it once, for a second")
def turns_stopped():
    client, server = pair()
    os.set_inheritable(server.fileno(), True)
    helper = subprocess.Popen(["sleep", "60"], close_fds=False, env=WITHOUT)
    wait_until(relays, "the relay is there")
    holding = [relay for relay in relays() if shared_memory_sockets(relay)]
    expect(len(holding), 1)
    os.kill(holding[0], signal.SIGSTOP)
    start = time.monotonic()
    for number in range(100):
        server.sendall(b"%08d" % number)
        expect(exactly(client, 8), b"%08d" % number)
    expect(time.monotonic() - start < WATCHDOG, True, "a second for all of them")
    os.kill(holding[0], signal.SIGCONT)
    helper.kill()
    helper.wait()


@case("a relay that is killed holds nobody up who uses the connection beside it")
def turns_relay_killed():
    client, server = pair()
    os.set_inheritable(server.fileno(), True)
    helper = subprocess.Popen(["sleep", "60"], close_fds=False, env=WITHOUT)
    wait_until(lambda: any(shared_memory_sockets(relay) for relay in relays()), "the relay is there")
    for relay in relays():
        if shared_memory_sockets(relay):
            os.kill(relay, signal.SIGKILL)
    for number in range(100):
        server.sendall(b"%08d" % number)
        expect(exactly(client, 8), b"%08d" % number)
    helper.kill()
    helper.wait()


@case("a program that keeps its environment from those that it starts has them on the relay's stream, in order")
def turns_other_environment():
    for _ in range(ROUNDS):
        client, server = pair()
        result = reading(client)

        def body():
            client.close()
            os.dup2(server.fileno(), 1)
            os.execvpe("sh", ["sh", "-c", "printf 1; env -i /usr/bin/printf 2; printf 3"], os.environ)
        os.waitpid(in_child(body), 0)
        server.sendall(b"4")
        server.close()
        expect(result(), b"1234")


# --- several who hold one end

@case("programs without the header write one after the other, each by a relay of its own, and the order is theirs")
def turns_of_relays():
    for _ in range(ROUNDS):
        client, server = pair()
        script = "printf 1; env -i /usr/bin/printf 2; env -i /usr/bin/printf 3; env -i /usr/bin/printf 4; printf 5"
        result = reading(client)
        with server:
            run("sh", "-c", script, stdout=server, environment=WITHOUT)
            server.sendall(b"6")
        expect(result(), b"123456")


@case("a sleeping reader hears of bytes and of the end while a program without the header holds the connection too")
def turns_sleeper():
    for _ in range(ROUNDS):
        client, server = pair()
        os.set_inheritable(server.fileno(), True)
        result = reading(server)
        helper = subprocess.Popen(["sleep", "60"], close_fds=False, env=WITHOUT)
        client.sendall(b"a")
        client.sendall(b"b")
        client.shutdown(socket.SHUT_WR)
        try:
            expect(result(), b"ab")
        finally:
            helper.kill()
            helper.wait()
        client.close()


@case("O_NONBLOCK that a started program sets first of all is the connection's")
def turns_nonblocking():
    code = """if True:
        import fcntl, os
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_NONBLOCK)
        try:
            os.read(0, 1)
        except BlockingIOError:
            print('EAGAIN', bool(fcntl.fcntl(0, fcntl.F_GETFL) & os.O_NONBLOCK))"""
    client, server = pair()
    server.settimeout(None)
    expect(run(sys.executable, "-c", code, stdin=server, stdout=subprocess.PIPE).stdout, b"EAGAIN True\n")
    client.close()


def is_reset(client):
    try:
        return client.recv(1) == "never"
    except ConnectionResetError:
        return True


def without_time(server):
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@case("SO_LINGER of no time resets the connection once children that shared it have gone, in whatever way")
def turns_linger():
    for ends in (lambda: None, lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os.execlp("true", "true")):
        client, server = pair()
        os.waitpid(in_child(ends), 0)
        without_time(server)
        server.close()
        expect(is_reset(client), True)


@case("SO_LINGER of no time resets the connection when its last holders end, are killed or close at once")
def turns_linger_last():
    def wait_and(end, server, moment):
        while time.monotonic() < moment:
            pass
        end(server)
    for end in (lambda _: None, lambda _: os.kill(os.getpid(), signal.SIGKILL), socket.socket.close):
        for _ in range(5):
            client, server = pair()
            without_time(server)
            moment = time.monotonic() + 0.01
            def share():
                client.close()
                wait_and(end, server, moment)
            children = [in_child(share) for _ in range(2)]
            server.close()
            expect(is_reset(client), True)
            for child in children:
                os.waitpid(child, 0)


@case("a program in a root without the header's library starts without a word of the loader")
def turns_chroot():
    if os.geteuid() != 0:
        not_here("chroot is root's")
    with tempfile.TemporaryDirectory() as folder:
        # The loader and what it loads, at the same places.
        program = "/bin/true"
        needed = subprocess.run(["ldd", program], capture_output=True, text=True, env=WITHOUT).stdout
        for file in [program] + [word for word in needed.split() if word.startswith("/") and "skein" not in word]:
            target = pathlib.Path(folder + file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        result = run("chroot", folder, program, capture_output=True)
        expect(result.stderr, b"")


def takes_turns(client, server, rounds):
    """A program without the header and this one write in turn."""
    result = reading(client)
    with server:
        for index in range(rounds):
            run("printf", f"{2 * index} ", stdout=server, environment=WITHOUT)
            server.sendall(b"%d " % (2 * index + 1))
    expect(result(), b"".join(b"%d " % index for index in range(2 * rounds)))


# --- handlers

@case("accept goes on after a handler with SA_RESTART and ends with EINTR after another, also when they change")
def turns_restart():
    both = (signal.SIGUSR1, signal.SIGUSR2)
    for number in both:
        signal.signal(number, lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for ending in reversed(both):
            for number in both:
                signal.siginterrupt(number, number == ending)
            for number in both:
                accept_interrupted(listener, number, number == ending)


def accept_interrupted(listener, number, ends):
    """Waits in accept for a client, and before it for a signal, which ends the call or doesn't."""
    libc = ctypes.CDLL(None, use_errno=True)
    def send():
        time.sleep(0.3)
        os.kill(os.getppid(), number)
        time.sleep(0.3)
        socket.create_connection(listener.getsockname()).close()
    child = in_child(send)
    accepted = libc.accept(listener.fileno(), None, None)
    error = ctypes.get_errno()
    expect((accepted, error) == (-1, errno.EINTR) if ends else accepted >= 0, True, (number, accepted, error))
    os.waitpid(child, 0)
    if accepted < 0:
        accepted = libc.accept(listener.fileno(), None, None)
    os.close(accepted)
