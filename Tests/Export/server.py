"""Servers for the tests: `skein export` in the background, and files for it."""

import contextlib
import os
import pathlib
import random
import tempfile

import nbd
from certificates import Authority
from running import TERMINATE, Running

SIZE = 1 << 20


@contextlib.contextmanager
def server(folder, *devices, unix=True, listen=None, options=(), prefix=()):
    """A server, until the block ends. `uri` is where it listens; what it says on standard error is in `errors` then."""
    listen = listen or (f"nbd+unix:///?socket={folder}/socket" if unix else "nbd://127.0.0.1:0")
    with Running(folder, "export", *devices, "--listen", listen, *options, ready="stdout", prefix=prefix) as running:
        running.uri = running.address
        running.client = lambda **more: nbd.Client(running.uri, **more)
        yield running
        if running.process.poll() is None:
            running.signal(TERMINATE)
        running.errors = running.finish()[1]


@contextlib.contextmanager
def secure_server(folder, *devices, options=(), authority=None, **more):
    """A server with a certificate."""
    authority = authority or Authority(folder)
    words = ["--tls-certificates", authority.folder, *options]
    with server(folder, *devices or [f"disk={image(folder)}"], options=words, **more) as running:
        running.authority = authority
        yield running


@contextlib.contextmanager
def transmitting(folder, style="structured", device=None, **more):
    """A client of one export, ready for requests."""
    with server(folder, f"disk={device or image(folder)}", **more) as running, running.client() as client:
        if style != "simple":
            getattr(client, style)().allocation("disk")
        yield client.go("disk")


def image(folder, size=SIZE, content=None, name="disk.img"):
    """A file of random bytes, the same each time."""
    path = folder / name
    path.write_bytes(random.Random(7).randbytes(size) if content is None else content)
    return path


def sparse(folder, size, *extents, name="disk.img"):
    """A file with data at these ranges alone."""
    path = folder / name
    with open(path, "wb") as file:
        os.ftruncate(file.fileno(), size)
        for offset, count in extents:
            os.pwrite(file.fileno(), b"\xa5" * count, offset)
    return path


class Scratch(tempfile.TemporaryDirectory):
    """A folder of one test's own elsewhere, as on tmpfs."""

    def __enter__(self):
        return pathlib.Path(super().__enter__())
