#!/usr/bin/env python3
"""Kills either end of a connection, or a child that shares it, at random moments: the peer must see the
end at once, and nothing may be left behind.

Usage: Tests/Kill/kill.py [--rounds 200] [--seed N]

The work of a round runs in this same file under `skein run` (`--role`): a server that forks a child which
shares the accepted connection, and a client; both move data without pause. The victim is one of the
server, the child and the client. Seeing the end is an event that is waited for, under a watchdog of ten
seconds; nothing here asserts a speed.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SKEIN = os.environ.get("SKEIN_BIN", str(CHECKOUT / "build" / "bin" / "skein"))
WATCHDOG = 10.0


def exchange(connection):
    """Writes and reads without pause until the other end is gone; the way it ended."""
    connection.settimeout(WATCHDOG)
    piece = b"x" * 3000
    try:
        while True:
            connection.sendall(piece)
            if not connection.recv(65536):
                return "end"
    except (ConnectionResetError, BrokenPipeError):
        return "end"
    except TimeoutError:
        return "watchdog"


def serve():
    listener = socket.create_server(("127.0.0.1", 0))
    print("ready", listener.getsockname()[1], flush=True)
    connection, _ = listener.accept()
    child = os.fork()
    if child == 0:
        listener.close()
        print("child", os.getpid(), flush=True)
        print("child saw", exchange(connection), flush=True)
        os._exit(0)
    print("server saw", exchange(connection), flush=True)
    connection.close()
    os.waitpid(child, 0)
    os._exit(0)


def call(port):
    connection = socket.create_connection(("127.0.0.1", port))
    print("connected", flush=True)
    print("client saw", exchange(connection), flush=True)
    os._exit(0)


def start(*arguments, environment):
    return subprocess.Popen(
        [SKEIN, "run", "--", sys.executable, __file__, *arguments],
        stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)


def one_round(generator, environment):
    """None when all went well, or what did not."""
    server = start("--role", "server", environment=environment)
    port = int(server.stdout.readline().split()[1])
    client = start("--role", "client", "--port", str(port), environment=environment)
    client.stdout.readline()
    child = None
    while child is None:
        line = server.stdout.readline()
        if not line:
            return "the server ended before it had forked"
        if line.startswith("child "):
            child = int(line.split()[1])
    time.sleep(generator.random() * 0.02)
    victim = generator.choice(["client", "server and child", "child", "server"])
    try:
        if victim == "client":
            client.kill()
        elif victim == "server and child":
            server.kill()
            os.kill(child, signal.SIGKILL)
        elif victim == "child":
            os.kill(child, signal.SIGKILL)
        else:
            server.kill()
        # The survivor of two that share the end keeps the connection up: then the client goes next.
        if victim in ("child", "server"):
            time.sleep(generator.random() * 0.02)
            client.kill()
        for process in (client, server):
            try:
                output, _ = process.communicate(timeout=WATCHDOG)
            except subprocess.TimeoutExpired:
                return f"after the {victim} was killed, {'client' if process is client else 'server'} still waits"
            if "watchdog" in output:
                return f"after the {victim} was killed: {output.strip()}"
    finally:
        for process in (client, server):
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--role")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    if options.role == "server":
        return serve()
    if options.role == "client":
        return call(options.port)
    folder = tempfile.mkdtemp(prefix="skein-kill-")
    os.chmod(folder, 0o1777)
    environment = dict(os.environ, SKEIN_DIR=folder)
    generator = random.Random(options.seed)
    failures = []
    for number in range(options.rounds):
        problem = one_round(generator, environment)
        if problem:
            failures.append(problem)
            print(f"not ok - round {number} of seed {options.seed}: {problem}", flush=True)
    listing = json.loads(subprocess.run(
        [SKEIN, "ls", "--json"], env=environment, capture_output=True, text=True, check=True).stdout)
    left = len(listing["sockets"])
    memory = listing["totals"]["memory_connections"]
    checks = [
        (not failures, f"the peer saw the end in each of {options.rounds} rounds"),
        (left == 0, f"no control block is left ({left} are)"),
        (memory >= options.rounds, f"the connections went through memory ({memory} ends did)"),
    ]
    for good, sentence in checks:
        print(f"{'ok' if good else 'not ok'} - {sentence}")
    shutil.rmtree(folder, ignore_errors=True)
    failed = sum(not good for good, _ in checks)
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
