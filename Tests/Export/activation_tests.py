"""Sockets that a service manager passes, and what it is told."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys

import nbd
from harness import SKEIN, Skip, one_line, test
from managing import end_restarted, listed, tell
from running import TERMINATE, Running, host, until
from server import SIZE, image

# Takes the place of the service manager: descriptors from 3 on, and the variables that say so.
STARTER = """
import fcntl, os, sys
names, told = sys.argv[1], sys.argv[3]
kept = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[2].split(",")]
for index, number in enumerate(kept):
    os.dup2(number, 3 + index, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": names, "NOTIFY_SOCKET": told}
for number in kept:
    os.close(number)
os.execv(sys.argv[4], sys.argv[4:])
"""


@contextlib.contextmanager
def listening(folder):
    """A TCP socket, a Unix socket and one for the management channel; and where the service manager is told things."""
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        unix, channel = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
        for listener, name in ((unix, "clients"), (channel, "channel")):
            listener.bind(str(folder / name))
            listener.listen()
        told = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        told.bind(str(folder / "told"))
        told.settimeout(60)
        yield tcp, unix, channel, told


def started(folder, names, sockets, *words):
    numbers = [listener.fileno() for listener in sockets]
    starter = [sys.executable, "-c", STARTER, names, ",".join(map(str, numbers)), str(folder / "told")]
    return Running(folder, *words, prefix=starter, pass_fds=numbers)


def main_process(told):
    words = dict(line.split("=") for line in told.recv(4096).decode().splitlines())
    assert words["READY"] == "1"
    return int(words["MAINPID"])


@test("activation: sockets that were passed serve clients, one of them the commands; systemd is told, also after a restart")
def _(folder):
    path = image(folder)
    with listening(folder) as (tcp, unix, channel, told):
        with started(folder, "clients:manage:more", (tcp, channel, unix), "export", f"disk={path}") as running:
            port = tcp.getsockname()[1]
            assert running.line("stdout") == f"ready nbd://127.0.0.1:{port}"
            assert running.line("stdout") == f"ready nbd+unix:///?socket={folder}/clients"
            assert main_process(told) == running.process.pid
            with nbd.Client(f"nbd://127.0.0.1:{port}") as one, nbd.Client(f"nbd+unix:///?socket={folder}/clients") as two:
                assert one.go("disk").size == two.go("disk").size == SIZE
                tell(folder, "restart", "--manage", folder / "channel")
                running.process.wait(30)
                new = main_process(told)
                assert new != running.process.pid and os.path.exists(f"/proc/{new}")
                assert one.ping() and two.ping()
                with nbd.Client(f"nbd+unix:///?socket={folder}/clients") as three:
                    assert three.go("disk").ping()
                assert end_restarted(folder) == [new] and one.is_closed()
            # They are the service manager's, which goes on to listen.
            assert (folder / "clients").exists() and (folder / "channel").exists()


@test("activation: sockets for another process are left alone, and one that doesn't listen is refused")
def _(folder):
    path = image(folder)
    with listening(folder) as (tcp, unix, channel, told):
        with started(folder, "told", (told,), "export", f"disk={path}") as running:
            one_line(running.finish(1)[1], "no socket that listens")
        words = ["env", "LISTEN_PID=1", "LISTEN_FDS=1"]
        with Running(folder, "export", f"disk={path}", "--listen", "nbd://127.0.0.1:0", prefix=words, ready="stdout") as running:
            assert list(listed(folder)) == ["disk"]
            running.signal(TERMINATE)
            running.finish()


@test("activation: systemd-socket-activate starts the server for its first client")
def _(folder):
    if not shutil.which("systemd-socket-activate"):
        raise Skip("systemd-socket-activate isn't installed")
    place = folder / "socket"
    words = ["systemd-socket-activate", f"--listen={place}", "--fdname=clients", f"--setenv=SKEIN_DIR={host(folder)['SKEIN_DIR']}",
             SKEIN, "export", f"disk={image(folder)}"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(place.exists, "systemd listens")
        with nbd.Client(f"nbd+unix:///?socket={place}") as client:
            assert client.go("disk").read(0, SIZE) == (folder / "disk.img").read_bytes()
    finally:
        process.kill()
        process.wait()
