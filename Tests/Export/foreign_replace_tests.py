"""Servers that are replaced ten times under fio and nbdcopy."""

import contextlib
import subprocess

from foreign_tests import FIO, LIMIT, run, uri
from harness import test
from managing import end_restarted, tell
from server import image, server, sparse

RESTARTS = 10


@contextlib.contextmanager
def background(*words, **options):
    """A program that must still run when the block ends, and end well afterwards."""
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               **options)
    try:
        yield process
        out, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, out[-2000:]
    finally:
        process.kill()
        process.wait()


@test("foreign: fio with verify on 4 connections, over Unix and TCP, goes on across ten restarts without an error")
def _(folder):
    for unix in (True, False):
        path = sparse(folder, 64 << 20)
        with server(folder, f"disk={path}", "memory=memory:64M", options=["--workers", "2"], unix=unix) as running:
            jobs = [word for number in range(4) for word in
                    (f"--name=job{number}", f"--offset={number * 16}M", "--size=16M", "--rw=randwrite", "--time_based",
                     "--runtime=4", *FIO, f"--uri={uri(running, ('disk', 'memory')[number % 2])}")]
            run("fio", "--version")
            with background("fio", "--thread", *jobs, cwd=folder) as fio:
                for _ in range(RESTARTS):
                    tell(folder, "restart")
                    assert fio.poll() is None, fio.communicate()
            running.process.wait(LIMIT)
            end_restarted(folder)


@test("foreign: nbdcopy goes on across ten restarts, and the copy is right")
def _(folder):
    source, path = image(folder, 48 << 20, name="source"), sparse(folder, 48 << 20, name="target")
    run("nbdcopy", "--version")
    with server(folder, f"disk={path}", options=["--workers", "2"]) as running:
        restarts = 0
        while restarts < RESTARTS:
            for words in ([source, uri(running)], [uri(running), folder / "back"]):
                with background("nbdcopy", "--flush", "--connections=4", *words) as copy:
                    while copy.poll() is None and restarts < RESTARTS:
                        tell(folder, "restart")
                        restarts += 1
            assert (folder / "back").read_bytes() == source.read_bytes() == path.read_bytes()
        running.process.wait(LIMIT)
        end_restarted(folder)
