"""Programs that are started with a listener."""

import os
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from cases import WATCHDOG, case, exactly, expect, in_memory, not_here, pair

SERVE = """
import os, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
listener.settimeout(None)
print('ready', os.get_blocking(listener.fileno()), flush=True)
for _ in range(2):
    connection, _ = listener.accept()
    connection.sendall(b'from the heir')
    connection.close()
"""


@case("a program that inherits a listener serves its clients, over memory, while its parent never accepts")
def heir():
    listener = socket.create_server(("127.0.0.1", 0))
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(listener.fileno())], pass_fds=[listener.fileno()],
                              stdout=subprocess.PIPE, text=True)
    expect(server.stdout.readline(), "ready True\n")
    for _ in range(2):
        client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
        expect(in_memory(client), True, "over memory")
        client.settimeout(WATCHDOG)
        expect(exactly(client, 13), b"from the heir")
    expect(server.wait(WATCHDOG), 0)


@case("the parent goes on accepting once its heir has ended")
def heir_ends():
    listener = socket.create_server(("127.0.0.1", 0))
    subprocess.run(["true"], pass_fds=[listener.fileno()], check=True)
    client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
    server, _ = listener.accept()
    expect(in_memory(client), True, "over memory")
    server.sendall(b"x")
    expect(client.recv(1), b"x")


ACCEPT = r"""
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    int connection = accept(0, 0, 0);
    return connection < 0 || write(connection, "accepted", 8) != 8;
}
"""


def compiled(folder, *options):
    program = f"{folder}/accept"
    subprocess.run(["gcc", *options, "-x", "c", "-", "-o", program], input=ACCEPT, text=True, check=True)
    return program


def serves_over_tcp(program, **options):
    """It gets a listener, which its parent goes on with when it has ended."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = subprocess.Popen([program], stdin=listener, **options)
    client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
    expect(exactly(client, 8), b"accepted")
    expect(server.wait(WATCHDOG), 0)
    client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
    connection, _ = listener.accept()
    connection.sendall(b"parent")
    expect(exactly(client, 6), b"parent")


@case("a static program that inherits a listener serves clients over TCP; then the parent does")
def static_heir():
    with tempfile.TemporaryDirectory() as folder:
        serves_over_tcp(compiled(folder, "-static"))


@case("so does a script whose interpreter is static, or a script of such a one")
def script_heir():
    with tempfile.TemporaryDirectory() as folder:
        interpreter = compiled(folder, "-static")
        for name in ("first", "second"):
            script = Path(folder, name)
            script.write_text(f"#! {interpreter} of the kernel's\n")
            script.chmod(0o755)
            serves_over_tcp(script)
            interpreter = script


@case("so does a program with capabilities of its own, which an ordinary user starts")
def capable_heir():
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(folder)
        # Effective and permitted: CAP_NET_BIND_SERVICE.
        try:
            os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
        except OSError:
            not_here("no file gets capabilities")
        os.chmod(folder, 0o755)
        serves_over_tcp(program, user=65534, group=65534, extra_groups=[])


# Says for each of its numbers whether it is what it should be: a listener, or a connection in memory.
SHOW = """
import os, socket, sys
from pathlib import Path
for number in map(int, sys.argv[1:]):
    if socket.socket(fileno=os.dup(number)).getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        connection, _ = socket.socket(fileno=number).accept()
    else:
        connection = socket.socket(fileno=number)
        connection.recv(1, socket.MSG_PEEK)
    inode = str(os.fstat(connection.fileno()).st_ino)
    kinds = [row.split()[4] for row in Path("/proc/net/unix").read_text().splitlines() if inode in row.split()]
    connection.sendall(b"%d %s," % (number, b"in memory" if kinds == ["0005"] else b"elsewhere"))
"""


def spawned(descriptor, moves, numbers):
    actions = [tuple(descriptor if part == "it" else part for part in action) for action in moves]
    words = [sys.executable, "-c", SHOW, *map(str, numbers)]
    return os.posix_spawn(sys.executable, words, os.environ, file_actions=actions)


MOVES = [
    ([(os.POSIX_SPAWN_DUP2, "it", 50), (os.POSIX_SPAWN_DUP2, 50, 9), (os.POSIX_SPAWN_CLOSE, 50)], [9]),
    ([(os.POSIX_SPAWN_DUP2, "it", 50), (os.POSIX_SPAWN_DUP2, "it", 9)], [9, 50]),
]


@case("a listener that posix_spawn's actions move twice, or copy twice, is the child's, in memory")
def spawned_heir():
    for moves, numbers in MOVES:
        listener = socket.create_server(("127.0.0.1", 0))
        child = spawned(listener.fileno(), moves, numbers)
        for number in numbers:
            client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
            answer = b"%d in memory," % number
            expect(exactly(client, len(answer)), answer)
        expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


@case("a connection that posix_spawn's actions move twice, or copy twice, is the child's, in memory")
def spawned_connection():
    for moves, numbers in MOVES:
        client, server = pair()
        child = spawned(server.fileno(), moves, numbers)
        server.close()
        client.sendall(b"x")
        answer = b"".join(b"%d in memory," % number for number in numbers)
        expect(exactly(client, len(answer)), answer)
        expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


@case("a child whose actions close a listener gets nothing of it")
def closed_heir():
    before = set(os.listdir("/proc/self/fd"))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.set_inheritable(True)
    reader, writer = os.pipe()
    actions = [(os.POSIX_SPAWN_CLOSE, listener.fileno()), (os.POSIX_SPAWN_DUP2, writer, 1)]
    child = os.posix_spawn("/bin/ls", ["ls", "-l", "/proc/self/fd"], os.environ, file_actions=actions)
    os.close(writer)
    links = os.read(reader, 1 << 16).decode()
    expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
    names = [os.readlink(f"/proc/self/fd/{number}") for number in set(os.listdir("/proc/self/fd")) - before
             if os.path.exists(f"/proc/self/fd/{number}")]
    sockets = [name for name in names if name.startswith("socket:")]
    expect(len(sockets) > 1, True, sockets)
    expect([name for name in sockets if name in links], [])
