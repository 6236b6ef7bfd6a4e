"""What a program that is executed finds: the connection's settings, and what was put over its number past the hooks."""

import array
import ctypes
import os
import pty
import socket
import struct
import subprocess
import sys
import tempfile

from cases import WATCHDOG, case, expect, pair

libc = ctypes.CDLL(None, use_errno=True)
DUP3 = 292 if os.uname().machine == "x86_64" else 24
WITHOUT = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def in_child(body):
    """Runs in a child, which ends with it. Its status is 0 where nothing was raised."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return child


def ends(child):
    expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


def put_on_standard_numbers(client, server):
    for number in range(3):
        os.dup2(server.fileno(), number)
    client.close()
    server.close()


def rest(client):
    data = b""
    while piece := client.recv(4096):
        data += piece
    return data


@case("execveat starts a program on the connection, by a path, a folder's descriptor, or the file's own")
def execute_at():
    def execute(folder, path, flags):
        arguments = (ctypes.c_char_p * 4)(b"sh", b"-c", b"read word && echo $word from $word", None)
        environment = (ctypes.c_char_p * 1)(None)
        libc.execveat(folder, path, arguments, environment, flags)

    ways = [lambda: execute(-100, b"/bin/sh", 0), lambda: execute(os.open("/bin", os.O_RDONLY), b"sh", 0),
            lambda: execute(os.open("/bin/sh", os.O_RDONLY), b"", 0x1000)]
    for way in ways:
        client, server = pair()

        def start():
            put_on_standard_numbers(client, server)
            way()
            raise AssertionError("no program was started")

        child = in_child(start)
        server.close()
        client.sendall(b"here\n")
        expect(rest(client), b"here from here\n")
        ends(child)


SAY_FLAG = "import os; print(os.get_blocking(0))"
TAKE = """
import array, os, socket
channel = socket.socket(fileno=0)
_, control, _, _ = channel.recvmsg(1, 100)
print(os.get_blocking(array.array('i', control[0][2])[0]))
"""


@case("O_NONBLOCK is as the program left it after exec, posix_spawn and SCM_RIGHTS, with the header and without")
def non_blocking():
    for blocking in (False, True):
        for environment in (os.environ, WITHOUT):
            client, server = pair()
            server.setblocking(blocking)
            ran = subprocess.run([sys.executable, "-c", SAY_FLAG], stdin=server, env=environment, capture_output=True,
                                 text=True, timeout=WATCHDOG)
            expect(ran.stdout, f"{blocking}\n", "after exec" + ran.stderr)
            reader, writer = os.pipe()
            child = os.posix_spawn(sys.executable, [sys.executable, "-c", SAY_FLAG], environment, file_actions=[
                (os.POSIX_SPAWN_DUP2, server.fileno(), 0), (os.POSIX_SPAWN_DUP2, writer, 1)])
            os.close(writer)
            with os.fdopen(reader) as output:
                expect(output.read(), f"{blocking}\n", "after posix_spawn")
            ends(child)
            ours, theirs = socket.socketpair()
            taker = subprocess.Popen([sys.executable, "-c", TAKE], stdin=theirs, env=environment, stdout=subprocess.PIPE)
            ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [server.fileno()]))])
            expect(taker.communicate(timeout=WATCHDOG)[0].decode(), f"{blocking}\n", "when passed")


SAY_ERROR = """
import os
try:
    print(os.read(0, 1))
except BlockingIOError:
    print('in vain')
"""


@case("SO_RCVTIMEO and SO_SNDTIMEO hold in a program that is executed")
def timeouts():
    for environment in (os.environ, WITHOUT):
        client, server = pair()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 7, 0))
        text = SAY_ERROR + "import socket; print(socket.socket(fileno=0).getsockopt(1, 21, 16)[0])"
        ran = subprocess.run([sys.executable, "-c", text], stdin=server, env=environment, capture_output=True,
                             text=True, timeout=WATCHDOG)
        expect(ran.stdout, "in vain\n7\n", ran.stderr)
        client.close()


SAY_OPTIONS = """
import struct
from socket import *
stream = socket(fileno=0)
print([stream.getsockopt(*option) for option in (
    (IPPROTO_TCP, TCP_NODELAY), (IPPROTO_TCP, TCP_KEEPIDLE), (IPPROTO_TCP, TCP_KEEPCNT), (SOL_SOCKET, SO_KEEPALIVE),
    (SOL_SOCKET, SO_OOBINLINE))], struct.unpack("ii", stream.getsockopt(SOL_SOCKET, SO_LINGER, 8)))
stream.setsockopt(IPPROTO_TCP, TCP_NODELAY, 0)
stream.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, 33)
try:
    stream.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, 1000)
except OSError as error:
    print(error.strerror)
print(stream.getsockopt(IPPROTO_TCP, TCP_NODELAY), stream.getsockopt(IPPROTO_TCP, TCP_KEEPINTVL))
"""


@case("socket options read back in a program that is executed, and what it sets its parent finds")
def options():
    client, server = pair()
    for level, name, value in ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77),
                               (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.SOL_SOCKET, socket.SO_OOBINLINE, 1),
                               (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))):
        server.setsockopt(level, name, value)
    ran = subprocess.run([sys.executable, "-c", SAY_OPTIONS], stdin=server, capture_output=True, text=True,
                         timeout=WATCHDOG)
    expect(ran.stdout, "[1, 77, 9, 1, 1] (1, 5)\nInvalid argument\n0 33\n", ran.stderr)
    expect(server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 0)
    expect(server.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 33)
    client.close()


@case("a pipe that was put over the connection's number past the hooks is what an executed program gets")
def replaced():
    client, server = pair()
    reader, writer = os.pipe()

    def start():
        put_on_standard_numbers(client, server)
        for number in range(3):
            expect(libc.syscall(DUP3, writer, number, 0), number)
        os.execv("/bin/echo", ["echo", "to the pipe"])

    child = in_child(start)
    server.close()
    os.close(writer)
    expect(os.read(reader, 99), b"to the pipe\n")
    expect(client.recv(99), b"")
    ends(child)


@case("a shell that login_tty gave a terminal talks to that, not to the connection on 0 to 2")
def login_terminal():
    client, server = pair()
    master, terminal = pty.openpty()

    def start():
        put_on_standard_numbers(client, server)
        expect(libc.login_tty(terminal), 0)
        os.write(1, b"before ")
        os.execv("/bin/sh", ["sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo after"])

    child = in_child(start)
    server.close()
    got = b""
    while not got.endswith(b"after\r\n"):
        got += os.read(master, 99)
    expect(got, b"before after\r\n")
    expect(client.recv(99), b"")
    os.close(terminal)
    ends(child)


@case("forkpty gives its child a terminal, and its parent keeps the connection on 0 to 2")
def fork_terminal():
    client, server = pair()

    def start():
        put_on_standard_numbers(client, server)
        child, terminal = pty.fork()
        if child == 0:
            os.write(1, b"before ")
            os.execv("/bin/sh", ["sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo after"])
        got = b""
        while not got.endswith(b"after\r\n"):
            got += os.read(terminal, 99)
        os.write(1, b"from the terminal: " + got)
        ends(child)

    child = in_child(start)
    server.close()
    expect(rest(client), b"from the terminal: before after\r\n")
    ends(child)


@case("after daemon() has put /dev/null over 0 to 2, nothing more goes to the connection there")
def daemon_on_null():
    client, server = pair()
    reader, writer = os.pipe()

    def start():
        put_on_standard_numbers(client, server)
        expect(libc.daemon(1, 0), 0)
        libc.puts(b"stray")
        libc.fflush(None)
        expect(os.write(1, b"stray"), 5)
        os.write(writer, b"end" + os.read(0, 10))

    child = in_child(start)
    server.close()
    os.close(writer)
    expect(rest(client), b"")
    expect(os.read(reader, 99), b"end")
    ends(child)


SAY_TYPE = r"""
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef GO
__asm__(".section .note.go.buildid, \"a\", %note\n.long 4, 4, 4\n.asciz \"Go\"\n.byte 0\n.long 0\n.previous");
#endif
int main(void) {
    char word[6];
    int type = 0;
    socklen_t length = sizeof type;
    if (read(0, word, sizeof word) != sizeof word) return 1;
    if (syscall(SYS_getsockopt, 0, SOL_SOCKET, SO_TYPE, &type, &length) != 0) return 2;
    word[5] = type == SOCK_SEQPACKET ? 'm' : type == SOCK_STREAM ? 's' : '?';
    return write(1, word, sizeof word) != sizeof word;
}
"""


@case("a program whose note says that it is Go's stays with the relay's stream; another takes the end")
def go():
    with tempfile.TemporaryDirectory() as folder:
        for defines, answer in (("-UGO", b"therem"), ("-DGO", b"theres")):
            program = f"{folder}/{answer.decode()}"
            subprocess.run(["gcc", defines, "-x", "c", "-", "-o", program], input=SAY_TYPE, text=True, check=True)
            client, server = pair()
            child = subprocess.Popen([program], stdin=server, stdout=server)
            server.close()
            client.sendall(b"there?")
            expect(rest(client), answer)
            expect(child.wait(WATCHDOG), 0)
