"""`skein bench`: it measures, and leaves nothing behind."""

import json
import os

from harness import SKEIN, skein, test
from running import KILL, Running, host, until


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


@test("bench: every kind has its figures and its ratio to TCP")
def _(folder):
    result = json.loads(skein("bench", "--rounds", "1", "--json", **host(folder))[0])
    assert result["rounds"] == 1 and [kind["kind"] for kind in result["kinds"]] == ["tcp", "unix", "stp"]
    for kind in result["kinds"]:
        assert 0 < kind["round_trip_median_ns"] <= kind["round_trip_p99_ns"] and kind["stream_bytes_per_second"] > 0
    tcp, _, stp = result["kinds"]
    assert tcp["round_trip_ratio"] == tcp["stream_ratio"] == 1
    # One round: the ratio of medians is that of the figures.
    assert abs(stp["round_trip_ratio"] - tcp["round_trip_median_ns"] / stp["round_trip_median_ns"]) < 0.01


@test("bench: the table for people has a line for each kind")
def _(folder):
    lines = skein("bench", "--rounds", "1", **host(folder))[0].splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == ["TCP loopback", "Unix socket", "STP"] and lines[0].count("x TCP") == 2


@test("bench: when one of its two processes is killed, the other ends")
def _(folder):
    with Running(folder, "bench", "--rounds", "100") as bench:
        until(lambda: children(bench.process.pid), "the second process starts")
        second = children(bench.process.pid)[0]
        bench.signal(KILL)
        bench.process.wait(60)
        until(lambda: not os.path.exists(f"/proc/{second}") or "Z (" in open(f"/proc/{second}/status").read(), "it is gone")
    with Running(folder, "bench", "--rounds", "100") as bench:
        until(lambda: children(bench.process.pid), "the second process starts")
        second = children(bench.process.pid)[0]
        until(lambda: len(os.listdir(f"/proc/{second}/task")) == 4, "it serves three connections")
        os.kill(second, KILL)
        assert "second process" in bench.finish(1)[1]


@test("bench: a number of rounds that makes no sense, 'skein run' around it, and a folder that can't be used, are explained")
def _(folder):
    for number in ("0", "101", "-1", "x"):
        skein("bench", f"--rounds={number}", expect=64)
    assert "without it" in skein("run", str(SKEIN), "bench", expect=1, **host(folder))[1]
    environment = host(folder)
    os.chmod(environment["SKEIN_DIR"], 0o777)
    assert "chmod 1777" in skein("bench", "--rounds", "1", expect=1, **environment)[1]
