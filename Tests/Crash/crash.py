#!/usr/bin/env python3
"""Kills one side of a scripted session at each of its stores to memory, one after the other: the other side must see
the end, and go on with others; no control block, memory or descriptor may be lost.

The victim runs under build/crash/libskein-preload.so, in which each store may be the last (SKEIN_CRASH_AT). The client,
the server and a child that shares the server's end take turns as the victim.
"""

import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
SESSION = CHECKOUT / "build/crash/session"
CRASHING = CHECKOUT / "build/crash/libskein-preload.so"
PRELOAD = CHECKOUT / "build/lib/libskein-preload.so"
WATCHDOG = 60.0
# Idle pools that a process keeps, and what may just be on its way out.
POOLS = 40
# A server keeps the memory of that many clients that are gone, to hand their like on.
KEPT = 2


class Program:
    """A side of sessions, under one of the two libraries."""

    def __init__(self, folder, *words, library=PRELOAD, at=None):
        environment = os.environ | {"SKEIN_DIR": str(folder), "LD_PRELOAD": str(library)}
        if at is not None:
            environment["SKEIN_CRASH_AT"] = str(at)
        self.process = subprocess.Popen([SESSION, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=environment)
        self.buffer = b""

    def line(self):
        """Its next line; None when it has ended. A hang is an error."""
        end = time.monotonic() + WATCHDOG
        while b"\n" not in self.buffer:
            if not select.select([self.process.stdout], [], [], max(end - time.monotonic(), 0))[0]:
                raise AssertionError("the survivor waits")
            got = os.read(self.process.stdout.fileno(), 4096)
            if not got:
                return None
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def ask(self, text):
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()

    def wait(self):
        status = self.process.wait(WATCHDOG)
        self.process.stdin.close()
        self.process.stdout.close()
        return status

    def end(self):
        self.process.kill()
        self.wait()

    def holds(self):
        """Descriptors, and pools of connections that are mapped."""
        maps = pathlib.Path(f"/proc/{self.process.pid}/maps").read_text()
        return len(os.listdir(f"/proc/{self.process.pid}/fd")), maps.count("/memfd:skein (deleted)")


class Trial:
    def __init__(self, folder):
        self.folder = folder

    def good_session(self, client, server, port, tag):
        """A survivor still serves others; what it says of the dead comes before."""
        client.ask(f"{port} {tag}")
        assert client.line() == f"{tag} whole", "the next session is not whole for the client"
        while (line := server.line()) != f"{tag} whole":
            assert line is not None, "the server has ended"
            assert not line.startswith(tag), f"the next session is not whole for the server: {line}"

    def clients(self):
        """The victim is the client."""
        server = Program(self.folder, "serve")
        friend = Program(self.folder, "call")
        port = server.line().split()[1]
        self.good_session(friend, server, port, "begin---")
        before = server.holds()
        for number in itertools.count(1):
            victim = Program(self.folder, "call", library=CRASHING, at=number)
            # The second one gets the slot of the first.
            victim.ask(f"{port} v{number:07}\n{port} w{number:07}")
            victim.process.stdin.close()
            status = victim.process.wait(WATCHDOG)
            assert status in (0, -9), f"store {number}: the client ended with {status}"
            self.good_session(friend, server, port, f"g{number:07}")
            if status == 0:
                break
        self.check_holdings(server, before)
        self.check_list(number, ["listener"])
        friend.end()
        server.end()
        return number

    def servers(self):
        """The victim is the server."""
        client = Program(self.folder, "call")
        before = None
        for number in itertools.count(1):
            victim = Program(self.folder, "serve", "once", library=CRASHING, at=number)
            ready = victim.line()
            if ready is not None:
                client.ask(f"{ready.split()[1]} v{number:07}")
                said = client.line()
                assert said and said.startswith(f"v{number:07} "), f"store {number}: the client says {said}"
            status = victim.wait()
            assert status in (0, -9), f"store {number}: the server ended with {status}"
            before = before or client.holds()
            if status == 0:
                assert said.endswith(" whole"), "nobody was killed, and yet the session is not whole"
                break
        # A client keeps the descriptor of each pool.
        descriptors, _ = client.holds()
        assert descriptors <= before[0] + POOLS, f"{before[0]} descriptors at first, {descriptors} at the end"
        self.check_holdings(client, (descriptors, 0))
        self.check_list(number // 2, [])
        client.end()
        return number

    def children(self):
        """The victim is a child that shares the server's end."""
        server = Program(self.folder, "serve", library=CRASHING)
        client = Program(self.folder, "call")
        port = server.line().split()[1]
        self.good_session(client, server, port, "begin---")
        before = server.holds()
        for number in itertools.count(1):
            tag = f"c{number:07}"
            client.ask(f"{port} {tag}")
            seen, told = client.line(), server.line()
            assert seen and told, f"store {number}: a survivor has ended"
            self.good_session(client, server, port, f"g{number:07}")
            if told == f"{tag} whole":
                assert seen == told, "nobody was killed, and yet the session is not whole"
                break
        self.check_holdings(server, before)
        self.check_list(number, ["listener"])
        client.end()
        server.end()
        return number

    def check_holdings(self, program, before):
        descriptors, pools = program.holds()
        assert descriptors <= before[0] + KEPT, f"{before[0]} descriptors at first, {descriptors} at the end"
        assert pools <= POOLS, f"{pools} pools are mapped"

    def check_list(self, connections, expected):
        """What `skein ls` shows: no more sockets than those, and that many connections or more over memory."""
        listed = json.loads(subprocess.run([CHECKOUT / "build/bin/skein", "ls", "--json"], capture_output=True, check=True,
                                           env=os.environ | {"SKEIN_DIR": str(self.folder)}).stdout)
        roles = sorted(one["role"] for one in listed["sockets"])
        assert roles == expected, f"control blocks are left: {roles}"
        counted = listed["totals"]["memory_connections"]
        assert counted >= connections, f"{counted} connections went over memory"


def main():
    subprocess.run(["make", "--no-print-directory", "--silent", "build/crash/libskein-preload.so"], cwd=CHECKOUT, check=True)
    subprocess.run(["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", SESSION, HERE / "session.c"], check=True)
    passed = failed = 0
    for victim in ("clients", "servers", "children"):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="skein-crash-"))
        try:
            number = getattr(Trial(folder), victim)()
            # Fewer would mean that the library has no points to crash at.
            assert number > 50, f"a session has only {number} stores"
            passed += 1
            print(f"ok - {victim} killed at each of the {number - 1} stores of a session harm nobody else", flush=True)
        except AssertionError as error:
            failed += 1
            print(f"not ok - {victim} killed at each of their stores: {error}", flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
