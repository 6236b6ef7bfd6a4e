"""redis-server with redis-benchmark and redis-cli."""

import os
import time

from support.trial import test

REQUESTS = 40000


def serve(t, *options):
    return t.server(["redis-server", "--bind", "127.0.0.1", "--port", t.port, "--save", "", "--appendonly", "no",
                     "--dir", t.folder, "--daemonize", "no", *options])


def cli(t, *words, stdin=os.devnull):
    return t.client(["redis-cli", "-p", t.port, *words], stdin=stdin)


def benchmark(t, *options):
    """SET and GET; the server's own count must agree. A request is at least 30 bytes."""
    serve(t)
    printed = t.client(["redis-benchmark", "-p", t.port, "-n", REQUESTS, "-t", "set,get", "--csv", *options]).decode()
    assert '"SET"' in printed and '"GET"' in printed, f"redis-benchmark printed {printed[-200:]}"
    check_calls(t, "set", "get")


def check_calls(t, *commands, requests=REQUESTS):
    """The server has counted that many of each command."""
    calls = {name: value["calls"] for name, value in information(t, "commandstats").items()}
    for command in commands:
        counted = int(calls[f"cmdstat_{command}"])
        assert counted == requests, f"the server counts {counted} of {requests} {command}"
    t.moved(len(commands) * requests * 30)


def information(t, section):
    """What redis' info says: {name: value}, a value of several parts being a dictionary too."""
    lines = [line.split(":", 1) for line in cli(t, "info", section).decode().splitlines() if ":" in line]
    return {name: dict(part.split("=") for part in value.split(",")) if "=" in value else value
            for name, value in lines}


@test("redis serves redis-benchmark on 50 connections", needs=["redis-server", "redis-benchmark"])
def fifty_connections(t):
    benchmark(t, "-c", 50)


@test("redis serves redis-benchmark on one connection", needs=["redis-server", "redis-benchmark"])
def one_connection(t):
    benchmark(t, "-c", 1)


@test("redis serves redis-benchmark, 16 requests at a time", needs=["redis-server", "redis-benchmark"])
def pipeline(t):
    benchmark(t, "-c", 50, "-P", 16)


@test("redis serves redis-benchmark with two threads", needs=["redis-server", "redis-benchmark"])
def threads(t):
    benchmark(t, "-c", 50, "--threads", 2)


@test("redis keeps and returns values of 1 MiB", needs=["redis-server", "redis-cli"])
def large_values(t):
    serve(t)
    for number in range(8):
        value = t.folder / f"value-{number}"
        value.write_bytes(os.urandom(1 << 20))
        assert cli(t, "-x", "set", f"key-{number}", stdin=value) == b"OK\n"
    for number in range(8):
        value = (t.folder / f"value-{number}").read_bytes()
        assert cli(t, "get", f"key-{number}") == value + b"\n", f"value {number} came back changed"
        t.moved(2 * len(value))


SAVED_REQUESTS = 150000


@test("redis saves in the background, time and again, while redis-benchmark writes in two threads",
      needs=["redis-server", "redis-benchmark", "redis-cli", "redis-check-rdb"])
def background_save(t):
    # Slowed down, so that the child that saves, and holds all connections, lives while there is traffic.
    serve(t, "--rdb-key-save-delay", 50)
    benchmark = t.start_client(["redis-benchmark", "-p", t.port, "-n", SAVED_REQUESTS, "-r", 10000, "-t", "set,get",
                                "-c", 50, "--threads", 2, "--csv"])
    saves = 0
    while benchmark.poll() is None:
        answer = cli(t, "bgsave")
        assert answer == b"Background saving started\n", f"redis answered {answer}"
        while (state := information(t, "persistence"))["rdb_bgsave_in_progress"] == "1":
            time.sleep(0.05)
        saves += 1
    t.finish(benchmark)
    assert state["rdb_last_bgsave_status"] == "ok" and int(state["rdb_saves"]) == saves, \
        f"{saves} saves were asked for: {state}"
    t.prepare(["redis-check-rdb", t.folder / "dump.rdb"])
    check_calls(t, "set", "get", requests=SAVED_REQUESTS)
