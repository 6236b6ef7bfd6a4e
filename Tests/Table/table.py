#!/usr/bin/env python3
"""The socket table at length: ten thousand sockets, processes killed at any moment, an older library beside this one.

Usage: Tests/Table/table.py [--rounds 200] [--seed N]
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Commands"))
import harness  # noqa: E402
from harness import CHECKOUT, SKEIN, Skip, compile_c, skein, test  # noqa: E402
from programs import LISTEN, Remote  # noqa: E402

OPTIONS = None
MANY = 5000


def shared(folder):
    folder.chmod(0o1777)
    return folder


def ls(folder):
    out, err = skein("ls", "--json", SKEIN_DIR=folder)
    assert err == "", err
    return json.loads(out)


# Size

@test(f"{2 * MANY} sockets of one process are all shown, and their records used again")
def _(folder):
    with Remote(shared(folder), wrapper=["prlimit", f"--nofile={2 * MANY + 1000}"]) as program:
        if program.do("import resource; result = resource.getrlimit(resource.RLIMIT_NOFILE)[0]") < 2 * MANY + 1000:
            raise Skip("the limit of descriptors can't be raised")
        port = program.do(LISTEN)
        table = f"/proc/{program.pid}/fd/{program.descriptor('skein-sockets')}"
        sizes = []
        for _ in range(2):
            program.do(f"""
ends = []
for _ in range({MANY}):
    ends.append(socket.create_connection(('127.0.0.1', {port})))
    ends.append(listener.accept()[0])
for end in ends: end.sendall(b'x')""")
            sockets = ls(folder)["sockets"]
            assert len(sockets) == 2 * MANY + 1, len(sockets)
            assert len({one["fd"] for one in sockets}) == 2 * MANY + 1
            assert {(one["carrier"], one["bytes_out"], one["waiting_in"]) for one in sockets} == {("memory", 1, 1), ("memory", 0, 0)}
            sizes.append(os.stat(table).st_size)
            program.do("[end.close() for end in ends]")
            assert len(ls(folder)["sockets"]) == 1
        assert sizes[0] == sizes[1] < 4 * 256 * 2 * MANY, sizes


@test("ten thousand sockets of a hundred processes are all shown, each with its process")
def _(folder):
    with Remote(shared(folder)) as program:
        pids = program.do("""
pids, pipes = [], []
for _ in range(100):
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        listener = socket.create_server(('127.0.0.1', 0))
        ends = []
        for _ in range(50):
            ends.append(socket.create_connection(listener.getsockname()))
            ends.append(listener.accept()[0])
        theirs.send(b'r')
        theirs.recv(1)
        os._exit(0)
    theirs.close()
    ours.recv(1)
    pids.append(pid)
    pipes.append(ours)
result = pids""")
        sockets = ls(folder)["sockets"]
        counts = {pid: sum(one["pid"] == pid for one in sockets) for pid in pids}
        assert set(counts.values()) == {101} and len(counts) == 100 and len(sockets) == 10100, (len(sockets), counts)
        program.do("[one.send(b'q') for one in pipes]; [os.waitpid(pid, 0) for pid in pids]")
        totals = ls(folder)
        assert totals["sockets"] == [] and totals["totals"]["memory_connections"] == 10000, totals


# Death

CHURN = r"""
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
/* Listens, connects to itself, forks and closes without pause; tells when it has begun. */
int main(void) {
    struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, length) || listen(listener, 8) || getsockname(listener, (void *)&address, &length)) return 1;
    for (unsigned round = 0;; round++) {
        int ends[64];
        for (int index = 0; index < 64; index += 2) {
            ends[index] = socket(AF_INET, SOCK_STREAM, 0);
            if (connect(ends[index], (void *)&address, length)) return 2;
            ends[index + 1] = accept(listener, NULL, NULL);
            if (write(ends[index], "x", 1) != 1) return 3;
        }
        if (round % 4 == 0 && fork() == 0) _exit(0);
        for (int index = 0; index < 64; index++) close(ends[index]);
        if (round == 0 && write(1, "r", 1) != 1) return 4;
    }
}"""


@test("killed at random moments, processes leave no record, no lock and no damage")
def _(folder):
    churn = compile_c(folder / "churn", "-O2", source=CHURN)
    dice = random.Random(OPTIONS.seed)
    environment = os.environ | {"SKEIN_DIR": str(shared(folder))}
    connections = 0
    for number in range(OPTIONS.rounds):
        victims = [subprocess.Popen([SKEIN, "run", churn], stdout=subprocess.PIPE, env=environment, start_new_session=True)
                   for _ in range(3)]
        try:
            for victim in victims:
                # Half of them are killed before they have begun.
                if dice.random() < 0.5:
                    assert victim.stdout.read(1) == b"r"
            time.sleep(dice.random() * 0.02)
        finally:
            for victim in victims:
                os.killpg(victim.pid, signal.SIGKILL)
                victim.wait()
                victim.stdout.close()
        if number % 20 == 19 or number == OPTIONS.rounds - 1:
            left = ls(folder)
            # The victims' own children die with them, but nobody here can wait for those.
            deadline = time.monotonic() + 10
            while left["sockets"] and time.monotonic() < deadline:
                time.sleep(0.05)
                left = ls(folder)
            assert left["sockets"] == [], f"seed {OPTIONS.seed}, round {number}: {left['sockets'][0]}"
            assert left["totals"]["memory_connections"] > connections, f"seed {OPTIONS.seed}, round {number}: nothing was counted"
            connections = left["totals"]["memory_connections"]
    assert sorted(path.name for path in folder.rglob("*")) == sorted(["churn", str(os.geteuid()), "totals-1"])


# Versions

def built_otherwise(folder, file, constant):
    """The preload library of these sources with another version of one thing."""
    copy = folder / "sources"
    for part in ("Makefile", "Sources", "scripts"):
        place = CHECKOUT / part
        (shutil.copytree if place.is_dir() else shutil.copy)(place, copy / part) if (copy.mkdir(exist_ok=True) or True) else None
    source = copy / "Sources/SkeinCore" / file
    text = source.read_text()
    assert text.count(constant) == 1, f"{file} has not one {constant!r}"
    source.write_text(text.replace(constant, constant + "9"))
    library = "build/lib/libskein-preload.so"
    subprocess.run(["make", "-C", copy, library], check=True, capture_output=True, timeout=600)
    return copy / library


def carriers(folder, *programs):
    """What `skein ls` says each program's newest connection goes over."""
    found = {}
    for one in ls(folder)["sockets"]:
        if one["peer"]:
            found[one["pid"]] = one["carrier"]
    return [found[program.pid] for program in programs]


@test("an older library works beside the new one: each over memory with its own kind, over TCP with the other")
def _(folder):
    older = built_otherwise(shared(folder), "Layout.swift", "static let version: UInt32 = 1")
    kinds = {"new": None, "older": str(older)}
    for server_kind in kinds:
        for client_kind in kinds:
            with Remote(folder, preload=kinds[server_kind]) as server, Remote(folder, preload=kinds[client_kind]) as client:
                client.connect(server.do(LISTEN))
                server.accept()
                server.works_with(client)
                expected = "memory" if server_kind == client_kind else "tcp"
                assert carriers(folder, server, client) == [expected] * 2, (server_kind, client_kind)
                if expected == "tcp":
                    for one in (server, client):
                        told = skein("why", str(one.pid), SKEIN_DIR=folder)[0]
                        assert "is on TCP, because the other end has another version of Skein" in told, told
    # All at once: a connection of one kind outlives what those of the other do.
    with Remote(folder) as new, Remote(folder, preload=str(older)) as old:
        ports = [one.do(LISTEN) for one in (new, old)]
        for one in (new, old):
            for port, name in zip(ports, ("first", "second")):
                one.connect(port, name)
        for one in (new, old):
            for name in ("third", "fourth"):
                one.accept(name)
        seen = ls(folder)["sockets"]
        assert sorted(one["carrier"] for one in seen if one["peer"]) == ["memory"] * 4 + ["tcp"] * 4, seen


@test("a table of another version is named by ls, and its totals count")
def _(folder):
    other = built_otherwise(shared(folder), "Table.swift", "static let version: UInt32 = 2")
    with Remote(folder) as server, Remote(folder, preload=str(other)) as client:
        client.connect(server.do(LISTEN))
        server.accept()
        server.works_with(client)
        out, err = skein("ls", "--json", SKEIN_DIR=folder)
        harness.one_line(err, f"process {client.pid}", "version 29", "reads version 2")
        assert {(one["pid"], one["carrier"]) for one in json.loads(out)["sockets"]} == {(server.pid, "memory")}
        assert json.loads(out)["totals"]["memory_connections"] == 2


def main():
    global OPTIONS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    OPTIONS = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skein-table-") as folder:
        os.chmod(folder, 0o755)
        return harness.run_all(pathlib.Path(folder))


if __name__ == "__main__":
    sys.exit(main())
