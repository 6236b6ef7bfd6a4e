"""Names that another user took: a client goes to the owner of the port, or to nobody."""

import contextlib
import ctypes
import errno
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

from cases import WATCHDOG, case, expect, in_memory, not_here
from hellos import SKEIN, SO_COOKIE
from inheriting import WITHOUT
from ports import NOBODY, root_only

LIBRARY = pathlib.Path(SKEIN).parents[1] / "lib/libskein.so"
VERSION = subprocess.run([SKEIN, "version"], stdout=subprocess.PIPE, check=True, text=True).stdout.split()[-1]


def stp_name(port, folder=os.environ.get("SKEIN_DIR", "/run/skein")):
    status = os.stat(folder)
    return f"\0skein/{VERSION}/stp/{status.st_dev:x}:{status.st_ino:x}/{port}"


def tcp_name(cookie):
    return f"\0skein/{VERSION}/tcp/{int(cookie):x}"


@contextlib.contextmanager
def squatter(name):
    """Another user listens by that name."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(name)
            listener.listen()
            os.write(writer, b"ready")
            signal.pause()
    os.close(writer)
    try:
        expect(os.read(reader, 5), b"ready")
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def plain_listener(family, host):
    """A listener of TCP's alone, made without the header. Says its cookie and its port."""
    make = "import socket, sys; listener = socket.create_server((sys.argv[1], 0), family=int(sys.argv[2])); " \
           f"cookie = int.from_bytes(listener.getsockopt(socket.SOL_SOCKET, {SO_COOKIE}, 8), sys.byteorder); " \
           "print(cookie, listener.getsockname()[1], flush=True); sys.stdin.read()"
    return subprocess.Popen([sys.executable, "-c", make, host, str(int(family))], env=WITHOUT, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@case("a port of TCP is no other user's STP port, on whichever loopback address its listener is")
def stp_squatter():
    root_only()
    server = plain_listener(socket.AF_INET6, "::1")
    port = int(server.stdout.readline().split()[1])
    with squatter(stp_name(port)):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=WATCHDOG)
            expect("connected", "refused")
        except ConnectionRefusedError:
            pass
        server.kill()
        server.wait(WATCHDOG)
        # It was there, and answers for the port once that is nobody's. What was found is believed for 0.2 seconds.
        time.sleep(0.3)
        with socket.create_connection(("127.0.0.1", port), timeout=WATCHDOG) as client:
            expect(in_memory(client), True)


# What STPconnect says to a port: 0, or the errno.
STP_CLIENT = """
import ctypes, struct, sys
library = ctypes.CDLL(sys.argv[1], use_errno=True)
client = library.STPsocket(0x5354, 1, 0)
queued = ctypes.c_int(1)
library.STPsetopt(client, 3, ctypes.byref(queued), 4)  # STP_CONNECT
address = struct.pack("=H16s32sH", 0x5354, b"", b"", int(sys.argv[2]))
print(0 if library.STPconnect(client, address, len(address)) == 0 else ctypes.get_errno())
"""


def unknown_to_all():
    """From here on this process sees one number for all users, itself included."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000) != 0:  # CLONE_NEWUSER
        raise OSError(ctypes.get_errno(), "unshare")


def stp_connect(port, folder):
    client = subprocess.run([sys.executable, "-c", STP_CLIENT, LIBRARY, str(port)], env=WITHOUT | {"SKEIN_DIR": folder},
                            preexec_fn=unknown_to_all, text=True, capture_output=True, timeout=WATCHDOG)
    expect(client.stderr, "")
    return int(client.stdout)


@case("where all users have one number, that number is no proof of who owns a port")
def one_number():
    root_only()
    server = plain_listener(socket.AF_INET, "127.0.0.1")
    cookie, port = server.stdout.readline().split()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with squatter(tcp_name(cookie)):
                expect(stp_connect(port, folder), errno.ECONNREFUSED, "by the name of TCP's listener")
            with squatter(stp_name(port, folder)):
                expect(stp_connect(port, folder), errno.ECONNREFUSED, "by the name of the STP port")
        except subprocess.SubprocessError as error:
            not_here(f"no user namespaces: {error}")
        finally:
            server.kill()
            server.wait(WATCHDOG)
        with squatter(stp_name(port, folder)):
            expect(stp_connect(port, folder), 0, "once the port is nobody's")
