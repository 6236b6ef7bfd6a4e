"""What a program may have: descriptors, memory, a root folder."""

import errno
import os
import pathlib
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from cases import WATCHDOG, case, connect, echoes, exactly, expect, in_memory, not_here, pair
from past_hooks import SYSCALL, WRITE


def limit_descriptors(soft):
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def used():
    """The numbers that are open."""
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")}


@case("a program with a tight limit of descriptors can use all of them; its connections are TCP")
def tight():
    before = used()
    limit_descriptors(32)
    listener = socket.create_server(("127.0.0.1", 0))
    client, server = connect(listener)
    expect(in_memory(client), False, "over memory")
    opened = {listener.fileno(), client.fileno(), server.fileno()}
    try:
        while True:
            opened.add(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        expect(error.errno, errno.EMFILE)
    expect(opened | before, set(range(32)) | before)
    echoes(client, server)


@case("where a lowered limit leaves no number for what Skein keeps, connections go on, and new ones are TCP")
def lowered():
    before = used()
    limit_descriptors(64)
    listener = socket.create_server(("127.0.0.1", 0))
    client, server = connect(listener)
    expect(in_memory(client), True, "over memory")
    hidden = used() - before - {listener.fileno(), client.fileno(), server.fileno()}
    expect(len(hidden) > 2, True, hidden)
    limit_descriptors(63)
    for number in hidden:
        os.dup2(0, number)
        os.close(number)
    echoes(client, server)
    for _ in range(2):
        late = connect(listener)
        expect(in_memory(late[0]), False, "over memory")
        echoes(*late)
    echoes(client, server)


@case("a program that allows itself no more descriptors reaches its peer also by direct system calls")
def no_more():
    client, server = pair()
    child = os.fork()
    if child == 0:
        client.close()
        limit_descriptors(1)
        number = server.fileno()
        written = SYSCALL(WRITE, number, b"there", 5)
        os._exit(0 if written == 5 and os.read(number, 4) == b"back" else 1)
    server.close()
    expect(exactly(client, 5), b"there")
    client.sendall(b"back")
    expect(client.recv(1), b"")
    expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


@case("threads that wait on a connection miss nothing when another lowers the limit of descriptors")
def waits_on():
    client, server = pair()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reader, 1)
        client.sendall(b"there")
        os._exit(0)
    found = []
    waiting = select.poll()
    waiting.register(server, select.POLLIN)
    worker = threading.Thread(target=lambda: found.extend(waiting.poll(WATCHDOG * 1000)))
    worker.start()
    time.sleep(0.3)
    limit_descriptors(40)
    os.write(writer, b"x")
    worker.join()
    expect(found, [(server.fileno(), select.POLLIN)])
    expect(exactly(server, 5), b"there")
    os.waitpid(child, 0)


@case("more than a thousand connections work under epoll and poll, their numbers far above 1024")
def many():
    count = 1500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * count + 200:
        not_here(f"no more than {hard} descriptors")
    limit_descriptors(2 * count + 200)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    pairs = [connect(listener) for _ in range(count)]
    expect(max(server.fileno() for _, server in pairs) > 2 * count, True)
    expect(all(in_memory(pairs[index][0]) for index in (0, 1000, count - 1)), True, "over memory")
    for kind in (select.epoll, select.poll):
        waiter = kind()
        for _, server in pairs:
            waiter.register(server, select.EPOLLIN if kind is select.epoll else select.POLLIN)
        chosen = {pairs[index][1].fileno(): pairs[index] for index in range(0, count, 50)}
        for client, _ in chosen.values():
            client.sendall(b"there")
        found = {}
        while len(found) < len(chosen):
            found.update(waiter.poll(WATCHDOG if kind is select.epoll else WATCHDOG * 1000))
            expect(set(found) <= set(chosen), True, found)
        for client, server in chosen.values():
            expect(exactly(server, 5), b"there")
            server.sendall(b"back")
            expect(exactly(client, 4), b"back")
        expect(waiter.poll(0), [])


ECHO = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0), backlog=128)
print(listener.getsockname()[1], flush=True)
held = []
for line in sys.stdin:
    if line == "accept\\n":
        held.append(listener.accept()[0])
    else:
        for connection in held:
            connection.sendall(connection.recv(100))
    print(flush=True)
"""


def resident(*processes):
    """KiB that the processes have in memory together; what they share counts once."""
    total = 0
    for process in processes:
        for line in pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


@case("a connection takes at most 40 KiB before data flows, and 64 while requests are small, of both ends together")
def memory():
    count = 500
    with subprocess.Popen([sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        def do(what):
            server.stdin.write(f"{what}\n")
            server.stdin.flush()

        address = "127.0.0.1", int(server.stdout.readline())
        clients = []

        def connect_more(number):
            for _ in range(number):
                clients.append(socket.create_connection(address, timeout=WATCHDOG))
                do("accept")
                server.stdout.readline()
        connect_more(1)
        expect(in_memory(clients[0]), True, "over memory")
        before = resident(os.getpid(), server.pid)
        connect_more(count)
        idle = (resident(os.getpid(), server.pid) - before) / count
        # More than the small rings hold, in small pieces.
        for _ in range(200):
            for client in clients:
                client.sendall(bytes(100))
            do("echo")
            for client in clients:
                exactly(client, 100)
            server.stdout.readline()
        small = (resident(os.getpid(), server.pid) - before) / count
        print(f"{idle:.1f} KiB idle, {small:.1f} KiB with small requests")
        expect(0 < idle <= 40 and 0 < small <= 64, True, f"{idle} and {small} KiB")
        server.stdin.close()


def echo_in_child(connection):
    while data := connection.recv(65536):
        connection.sendall(data)
    os._exit(0)


def forking_server(listener, serve):
    while True:
        connection, _ = listener.accept()
        child = os.fork()
        if child == 0:
            serve(connection)
        connection.close()
        os.waitpid(child, 0)


def execute_cat(environment):
    def serve(connection):
        os.dup2(connection.fileno(), 0)
        os.dup2(connection.fileno(), 1)
        os.execve("/bin/cat", ["cat"], environment)
    return serve


def pool_size():
    """Bytes in this process's pools."""
    sizes = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("/memfd:skein "):
                status = os.stat(f"/proc/self/fd/{number}")
                sizes[status.st_ino] = status.st_blocks * 512
        except FileNotFoundError:
            pass
    return sum(sizes.values())


@case("connections of a server that starts a process for each leave no memory behind when they are over")
def forked_memory():
    without = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    for serve in (echo_in_child, execute_cat(os.environ), execute_cat(without)):
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        server = os.fork()
        if server == 0:
            forking_server(listener, serve)
        listener.close()
        data = bytes(range(250)) * 1200
        try:
            for _ in range(20):
                with socket.create_connection(address, timeout=WATCHDOG) as client:
                    expect(in_memory(client), True, "over memory")
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
                    expect(exactly(client, len(data)) == data, True, "what came back differs")
                    expect(client.recv(1), b"")
            # A relay lets what it has released rest for a moment.
            end = time.monotonic() + WATCHDOG
            while pool_size() > 20 * len(data) // 3 and time.monotonic() < end:
                time.sleep(0.01)
            expect(pool_size() <= 20 * len(data) // 3, True, f"{pool_size()} bytes")
        finally:
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)


@case("a program in a chroot without anything in it has its connections over memory")
def chrooted():
    if os.geteuid() != 0:
        not_here("chroot is root's")
    # Python loads what it needs for this when it first does it.
    echoes(*connect(socket.create_server(("127.0.0.1", 0))))
    with tempfile.TemporaryDirectory() as folder:
        outside = os.open("/", os.O_RDONLY)
        os.chroot(folder)
        os.chdir("/")
        client, server = connect(socket.create_server(("127.0.0.1", 0)))
        echoes(client, server)
        os.fchdir(outside)
        os.chroot(".")
    expect(in_memory(client), True, "over memory")
