"""Devices that are exports of servers nobody here wrote: nbdkit, qemu-nbd, nbd-server."""

import contextlib
import os
import random
import shutil
import signal
import subprocess

from foreign_tests import FIO, run, uri
from harness import Skip, test
from running import until
from server import image, server

SIZE = 8 << 20


@contextlib.contextmanager
def other(socket, *words):
    """Another program's server, until the block ends."""
    if not shutil.which(words[0]):
        raise Skip(f"{words[0]} isn't installed: Tests/Programs/install.sh")
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: socket.exists() or process.poll() is not None, f"{words[0]} listens")
        assert process.poll() is None, process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def exercise(folder, device):
    """Ranges of any kind, compared with a model, by a client of ours; then fio."""
    source = random.Random(11)
    with server(folder, f"disk={device}") as running:
        with running.client() as client:
            client.structured().allocation("disk").go("disk")
            model = bytearray(client.read(0, SIZE))
            for number in range(300):
                count = source.choice((1, 100, 511, 512, 4096, 5000, 70000))
                offset = source.randrange(SIZE - count)
                data = source.randbytes(count) if number % 4 else bytes(count)
                if number % 4:
                    assert client.write(offset, data, number % 3 == 0) == 0
                else:
                    assert client.do(6, offset, count) == 0
                model[offset:offset + count] = data
                start = max(0, offset - 3000)
                assert client.read(start, count + 3000) == model[start:start + count + 3000]
            assert sum(length for length, _ in client.status(777, SIZE - 1000)) <= SIZE - 1000
            assert client.ping() and client.read(0, SIZE) == model
        run("fio", "--name=job", "--rw=randwrite", "--size=8M", *FIO, f"--uri={uri(running)}", cwd=folder)


@test("foreign: an export of nbdkit is a device, with blocks of any size and with those of 4096 bytes that it insists on")
def _(folder):
    socket = folder / "nbdkit"
    for words in ((), ("--filter=blocksize-policy", "blocksize-minimum=4096", "blocksize-preferred=4096",
                       "blocksize-maximum=65536", "blocksize-error-policy=error")):
        filters, settings = words[:1], words[1:]
        with other(socket, "nbdkit", "-f", "-U", socket, *filters, "memory", SIZE, *settings):
            exercise(folder, f"nbd+unix:///?socket={socket}")
        socket.unlink(missing_ok=True)


@test("foreign: an export of qemu-nbd is a device, from a qcow2 image, and its holes are told")
def _(folder):
    socket = folder / "qemu"
    run("qemu-img", "create", "-f", "qcow2", folder / "image", str(SIZE))
    with other(socket, "qemu-nbd", "-k", socket, "-e", "4", "-t", "-f", "qcow2", "-x", "image", folder / "image"):
        device = f"nbd+unix:///image?socket={socket}"
        with server(folder, f"disk={device}") as running, running.client() as client:
            assert client.structured().allocation("disk").go("disk").status(0, SIZE) == [(SIZE, 3)]
        exercise(folder, device)


@test("foreign: an export of nbd-server, which knows little of the protocol, is a device")
def _(folder):
    path, socket = image(folder, SIZE, name="content"), folder / "simple"
    settings = folder / "settings"
    settings.write_text(f"[generic]\nunixsock = {socket}\n[simple]\nexportname = {path}\n")
    # Told to stay in the foreground it would serve one client at a time: it leaves a daemon with a process for each.
    run("nbd-server", "-C", settings, "-p", folder / "daemon")
    until(lambda: (folder / "daemon").exists() and (folder / "daemon").read_text().strip(), "the daemon says who it is")
    try:
        until(socket.exists, "it listens")
        exercise(folder, f"nbd+unix:///simple?socket={socket}")
    finally:
        os.kill(int((folder / "daemon").read_text()), signal.SIGTERM)
