"""iperf3, two seconds each."""

import json

from support.trial import test


def run(t, *options):
    server = t.server(["iperf3", "--server", "--one-off", "--bind", "127.0.0.1", "--port", t.port])
    printed = t.client(["iperf3", "--client", "127.0.0.1", "--port", t.port, "--time", 2, "--json", *options])
    assert server.wait() == 0, f"the server ended with {server.returncode}"
    sums = [value for name, value in json.loads(printed)["end"].items() if name.startswith("sum_received")]
    for total in sums:
        assert total["bytes"] > 1 << 20, f"only {total['bytes']} bytes in two seconds"
        t.moved(total["bytes"])
    return sums


@test("iperf3 sends one stream", needs=["iperf3"])
def forward(t):
    assert len(run(t)) == 1


@test("iperf3 receives one stream", needs=["iperf3"])
def reverse(t):
    assert len(run(t, "--reverse")) == 1


@test("iperf3 sends and receives at once", needs=["iperf3"])
def both_ways(t):
    assert len(run(t, "--bidir")) == 2


@test("iperf3 sends four streams", needs=["iperf3"])
def four_streams(t):
    run(t, "--parallel", 4)
