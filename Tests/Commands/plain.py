"""Plain TCP servers and clients in this process, and relays between them."""

import contextlib
import socket
import struct
import threading

from running import Running

WATCHDOG = 60


def relay(folder, source, target, *options, **more):
    return Running(folder, "relay", *options, source, target, ready="stdout", **more)


@contextlib.contextmanager
def chain(folder, target, *options, **more):
    """TCP clients to a TCP server over STP in between. Yields the port to connect to, and both relays."""
    with relay(folder, "stp::0", f"tcp:{target}", *options, **more) as far:
        with relay(folder, "127.0.0.1:0", f"stp::{far.port}", *options, **more) as near:
            yield int(near.port), near, far


@contextlib.contextmanager
def server(serve, host="127.0.0.1"):
    """A plain TCP server in this process, a thread a connection. Yields its port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, backlog=1024) as listener:
        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    threading.Thread(target=run, args=[connection], daemon=True).start()

        def run(connection):
            with contextlib.suppress(OSError), connection:
                serve(connection)
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def echo(connection):
    while part := connection.recv(65536):
        connection.sendall(part)


def dial(port):
    connection = socket.create_connection(("127.0.0.1", port), WATCHDOG)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection, count=None):
    """So many bytes, or all to the end."""
    parts, have = [], 0
    while count is None or have < count:
        part = connection.recv(1 << 16 if count is None else min(1 << 16, count - have))
        if not part:
            break
        parts.append(part)
        have += len(part)
    return b"".join(parts)


def ask(port, content):
    """What an echo server says to this."""
    with dial(port) as connection:
        writer = threading.Thread(target=lambda: (connection.sendall(content), connection.shutdown(socket.SHUT_WR)))
        writer.start()
        answer = receive(connection)
        writer.join(WATCHDOG)
        return answer


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
