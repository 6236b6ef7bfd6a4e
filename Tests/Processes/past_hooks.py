"""What goes past the hooks, and what would if it had none: raw system calls, aio, stdio's own writes."""

import ctypes
import errno
import os
import select
import socket
import tempfile
import subprocess
import time

from cases import WATCHDOG, case, exactly, expect, in_memory, pair

SYSCALL = ctypes.CDLL(None, use_errno=True).syscall
READ, WRITE = (0, 1) if os.uname().machine == "x86_64" else (63, 64)


def resets(connection, data=b""):
    """Reads that data and then ECONNRESET, not the end."""
    expect(exactly(connection, len(data)), data)
    try:
        got = connection.recv(100)
    except ConnectionResetError:
        return
    raise AssertionError(f"expected ECONNRESET, got {got!r}")


@case("bytes written by a raw system call reset the connection: they are never silently lost")
def raw_write():
    client, server = pair()
    expect(SYSCALL(WRITE, client.fileno(), b"past the hooks", 14), 14)
    resets(server)


@case("what was written past the hooks resets the connection behind bytes of the stream, before its end")
def raw_write_before_the_end():
    for end in (lambda client: client.shutdown(socket.SHUT_WR), lambda client: client.close()):
        client, server = pair()
        expect(SYSCALL(WRITE, client.fileno(), b"past", 4), 4)
        client.sendall(b"stream")
        end(client)
        resets(server, b"stream")


@case("what was written past the hooks resets a connection that never blocks, and one that is polled")
def raw_write_without_blocking():
    client, server = pair()
    expect(SYSCALL(WRITE, client.fileno(), b"past", 4), 4)
    server.setblocking(False)
    deadline = time.monotonic() + WATCHDOG
    while time.monotonic() < deadline:
        try:
            expect(server.recv(100), b"")
        except BlockingIOError:
            continue
        except ConnectionResetError:
            break
    else:
        raise AssertionError("expected ECONNRESET")
    client, server = pair()
    expect(SYSCALL(WRITE, client.fileno(), b"past", 4), 4)
    events = select.poll()
    events.register(server, select.POLLIN)
    expect(events.poll(WATCHDOG * 1000)[0][1] & select.POLLERR, select.POLLERR)
    resets(server)


@case("who closes without having read what was written past the hooks resets the connection")
def raw_write_and_close():
    client, server = pair()
    expect(SYSCALL(WRITE, client.fileno(), b"past", 4), 4)
    server.close()
    resets(client)


@case("asynchronous requests on a connection are refused, and cost it nothing")
def asynchronous():
    client, server = pair()
    library = ctypes.CDLL(None, use_errno=True)
    # A struct aiocb: the descriptor first, the rest is not looked at.
    request = (ctypes.c_int * 256)(client.fileno())
    listed = (ctypes.c_void_p * 1)(ctypes.addressof(request))
    for result in (lambda: library.aio_read(request), lambda: library.aio_write64(request),
                   lambda: library.lio_listio(1, listed, 1, None)):
        expect((result(), ctypes.get_errno()), (-1, errno.ENOSYS))
    client.sendall(b"stream")
    expect(exactly(server, 6), b"stream")


@case("select passes over a number behind the process's table of descriptors")
def select_behind_the_table():
    client, server = pair()
    client.sendall(b"x")
    # The kernel leaves the bit of such a number as it was.
    expect(select.select([server, 1023], [], [], WATCHDOG)[0], [server, 1023])
    server.recv(1)
    expect(select.select([server, 1023], [], [], 0.01)[0], [1023])


TALK = """
exec 3<>/dev/tcp/127.0.0.1/$1
printf 'question\\n' >&3
read -r answer <&3
echo "$answer"
"""


@case("bash talks through its /dev/tcp: its own printf goes by standard output")
def shell():
    listener = socket.create_server(("127.0.0.1", 0))
    program = subprocess.Popen(["bash", "-c", TALK, "bash", str(listener.getsockname()[1])], stdout=subprocess.PIPE)
    server, _ = listener.accept()
    expect(in_memory(server), True, "over memory")
    server.settimeout(WATCHDOG)
    expect(exactly(server, 9), b"question\n")
    server.sendall(b"answer\n")
    expect(program.communicate(timeout=WATCHDOG)[0], b"answer\n")


@case("a raw read never gives a byte that is not the stream's, and takes none of it")
def raw_read():
    client, server = pair()
    buffer = ctypes.create_string_buffer(100)
    server.setblocking(False)
    result = SYSCALL(READ, server.fileno(), buffer, 100)
    expect(result in (-1, 0), True, result)
    client.sendall(b"stream")
    server.setblocking(True)
    expect(buffer.raw, bytes(100))
    expect(exactly(server, 6), b"stream")


@case("freopen of stdin, stdout and stderr works where a connection stood on their numbers")
def reopened():
    library = ctypes.CDLL(None)
    library.freopen.restype = ctypes.c_void_p
    library.freopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
    for number, name in ((2, "stderr"), (1, "stdout")):
        client, server = pair()
        kept = os.dup(number)
        os.dup2(server.fileno(), number)
        server.close()
        stream = ctypes.c_void_p.in_dll(library, name)
        library.fputs(b"to the client", stream)
        with tempfile.NamedTemporaryFile() as file:
            expect(library.freopen(file.name.encode(), b"w", stream), stream.value)
            library.fputs(b"to the file", stream)
            library.fflush(stream)
            os.dup2(kept, number)
            expect(file.read(), b"to the file")
        expect(client.recv(100), b"to the client")
        expect(client.recv(100), b"")
