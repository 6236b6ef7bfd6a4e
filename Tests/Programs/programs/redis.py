"""redis-server with redis-benchmark and redis-cli."""

import os

from support.trial import test

REQUESTS = 40000


def serve(t):
    return t.server(["redis-server", "--bind", "127.0.0.1", "--port", t.port, "--save", "", "--appendonly", "no",
                     "--dir", t.folder, "--daemonize", "no"])


def cli(t, *words, stdin=os.devnull):
    return t.client(["redis-cli", "-p", t.port, *words], stdin=stdin)


def benchmark(t, *options):
    """SET and GET; the server's own count must agree. A request is at least 30 bytes."""
    serve(t)
    printed = t.client(["redis-benchmark", "-p", t.port, "-n", REQUESTS, "-t", "set,get", "--csv", *options]).decode()
    assert '"SET"' in printed and '"GET"' in printed, f"redis-benchmark printed {printed[-200:]}"
    statistics = cli(t, "info", "commandstats").decode()
    calls = {line.split(":")[0]: int(line.split("calls=")[1].split(",")[0])
             for line in statistics.splitlines() if "calls=" in line}
    for name in ("cmdstat_set", "cmdstat_get"):
        assert calls[name] == REQUESTS, f"the server counts {calls[name]} of {REQUESTS} {name}"
    t.moved(2 * REQUESTS * 30)


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
