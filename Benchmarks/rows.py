"""What is measured: a row of the table each, over each carrier that the programs can use."""

import dataclasses
import json
import os
import re
import shutil
import statistics
import subprocess
import time
import typing

from programs import nginx, postgres, python_http
from support.trial import PYTHON, find_program

CARRIERS = ("tcp", "skein", "unix")


@dataclasses.dataclass
class Figure:
    value: float
    p50: float | None = None  # microseconds
    p99: float | None = None
    p999: float | None = None  # where the program tells
    requests: int | None = None  # that were made, for the processor time of each
    cpu: float | None = None  # microseconds of both ends for a request, set by the stage
    per_second: float | None = None  # sets how many requests the next round makes


@dataclasses.dataclass
class Row:
    title: str
    unit: str
    measure: typing.Callable  # of a Stage; returns a Figure
    carriers: tuple = CARRIERS
    lower_is_better: bool = False
    connects: bool = True  # whether Skein's counters must show its connections
    once: bool = False  # counted, not timed: more rounds add nothing
    environment: dict = dataclasses.field(default_factory=dict)
    pinned: bool = False
    busy_loops: int = 0


# redis

def redis_address(stage):
    return ["-s", stage.path] if stage.carrier == "unix" else ["-h", "127.0.0.1", "-p", stage.port]


def redis_serve(stage):
    over_path = stage.carrier == "unix"
    listens = ["--port", 0, "--unixsocket", stage.path] if over_path else ["--port", stage.port]
    return stage.server(["redis-server", "--bind", "127.0.0.1", *listens, "--save", "", "--appendonly", "no", "--maxclients", 10200,
                         "--dir", stage.folder], address=stage.path if over_path else None)


def redis_benchmark(stage, count, *options):
    printed = stage.client(["redis-benchmark", *redis_address(stage), "-n", count, "-t", "get", "--csv", *options])
    names, values = [line.replace('"', "").split(",") for line in printed.decode().strip().splitlines()[-2:]]
    found = dict(zip(names, values))
    rate = float(found["rps"])
    return Figure(rate, float(found["p50_latency_ms"]) * 1000, float(found["p99_latency_ms"]) * 1000, requests=count,
                  per_second=rate)


def redis_get(*options):
    def measure(stage):
        redis_serve(stage)
        return redis_benchmark(stage, stage.count(5000), *options)
    return measure


def redis_system_calls(stage):
    count = 20000
    server = redis_serve(stage)
    counts = stage.folder / "strace"
    strace = stage.processes.start(["strace", "-c", "-f", "-o", counts, "-p", server.pid])
    while b"attached" not in strace.err.read_bytes():
        assert strace.poll() is None, f"strace: {strace.err.read_text()}"
        time.sleep(0.02)
    redis_benchmark(stage, count, "-c", 50)
    strace.send_signal(2)
    strace.wait()
    total = re.search(r"^100\.00 .*?(\d+)(?:\s+\d+)? total$", counts.read_text(), re.MULTILINE)
    return Figure(int(total[1]) / count)


IDLE = """
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, 20000), max(hard, 20000)))
unix, place, count = sys.argv[1] == "unix", sys.argv[2], int(sys.argv[3])
def connection():
    made = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    made.connect(place if unix else ("127.0.0.1", int(place)))
    made.sendall(b"PING\\r\\n")
    made.recv(100)
    return made
held = [connection() for _ in range(count)]
print("ready", flush=True)
sys.stdin.read()
"""


def redis_beside_idle(idle):
    def measure(stage):
        stage.wrapper = ["prlimit", "--nofile=20000"]
        redis_serve(stage)
        place = stage.path if stage.carrier == "unix" else stage.port
        held = stage.start_client([PYTHON, "-c", IDLE, stage.carrier, place, idle], stdin=subprocess.PIPE)
        while b"ready" not in held.out.read_bytes():
            assert held.poll() is None, f"the idle connections: {held.err.read_text()}"
            time.sleep(0.05)
        figure = redis_benchmark(stage, stage.count(5000), "-c", 50)
        held.stdin.close()
        held.wait()
        return figure
    return measure


# PostgreSQL

def pgbench(stage):
    folder = stage.folder / "sockets"
    folder.mkdir()
    shutil.chown(folder, postgres.USER)
    data = stage.folder / "data"
    data.mkdir(mode=0o700)
    shutil.chown(data, postgres.USER)
    stage.prepare([postgres.find("initdb"), "--pgdata", data, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"],
                  user=postgres.USER)
    stage.server([postgres.find("postgres"), "-D", data, "-p", stage.port, "-c", "listen_addresses=127.0.0.1",
                  "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"], user=postgres.USER)
    place = ["-h", folder if stage.carrier == "unix" else "127.0.0.1", "-p", stage.port, "-U", postgres.USER]
    stage.client([postgres.find("pgbench"), *place, "--initialize", "--quiet", "postgres"])
    text = stage.client([postgres.find("pgbench"), *place, "--select-only", "--no-vacuum", "--client", 8, "--jobs", 2,
                         "--time", stage.whole_seconds, "postgres"]).decode()
    rate = float(re.search(r"tps = ([\d.]+)", text)[1])
    return Figure(rate, requests=int(re.search(r"actually processed: (\d+)", text)[1]))


# web servers

def nginx_wrk(stage):
    nginx.serve(stage)
    text = stage.client([*nginx.wrk(stage, stage.whole_seconds), "--latency"]).decode()
    in_microseconds = {"us": 1, "ms": 1000, "s": 1000000}
    p50, p99 = (float(number) * in_microseconds[unit]
                for number, unit in re.findall(r"^\s+(?:50|99)%\s+([\d.]+)(us|ms|s)$", text, re.MULTILINE))
    return Figure(float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]), p50, p99,
                  requests=int(re.search(r"(\d+) requests in", text)[1]))


def nginx_ab(stage):
    nginx.serve(stage)
    count = stage.count(2000)
    text = nginx.run_ab(stage, count)
    rate = float(re.search(r"Requests per second:\s+([\d.]+)", text)[1])
    p50, p99 = (float(re.search(rf"^\s+{share}%\s+(\d+)", text, re.MULTILINE)[1]) * 1000 for share in (50, 99))
    return Figure(rate, p50, p99, requests=count, per_second=rate)


def python_to_curl(stage):
    python_http.serve(stage)
    speed = stage.client(["curl", "-sS", "--fail", "-o", "/dev/null", "-w", "%{speed_download}",
                          f"http://127.0.0.1:{stage.port}/{stage.huge.name}"])
    stage.moved(stage.huge.stat().st_size)
    return Figure(float(speed) / 1e9)


# streams and round trips

def iperf(stage):
    stage.server(["iperf3", "--server", "--one-off", "--bind", "127.0.0.1", "--port", stage.port])
    result = json.loads(stage.client(["iperf3", "--client", "127.0.0.1", "--port", stage.port,
                                      "--time", stage.whole_seconds, "--json"]))
    return Figure(result["end"]["sum_received"]["bits_per_second"] / 8e9)


def pingpong(mode):
    def measure(stage):
        address = stage.path if stage.carrier == "unix" else stage.port
        stage.server([stage.pingpong, "server", address], address=address)
        count = stage.count(2000)
        printed = stage.client([stage.pingpong, mode, address, count])
        median, p99, p999, mean = (float(word) / 1000 for word in printed.split())
        return Figure(median, median, p99, p999, requests=count, per_second=1e6 / mean)
    return measure


# start time

STARTS = 200


def preload(stage):
    if stage.carrier != "skein":
        return {}
    # The loader goes on without a library that it can't find: its start time would be called ours.
    assert stage.skein.preload.exists(), f"{stage.skein.preload} is missing"
    return {"LD_PRELOAD": str(stage.skein.preload)}


def start_of_true(stage):
    """What a program that uses no socket takes to start and end."""
    times = sorted(start(stage, ["/bin/true"], preload(stage)) for _ in range(STARTS))
    return Figure(times[STARTS // 2], times[STARTS // 2], times[STARTS * 99 // 100])


def added_by_preload(stage):
    return added(stage, ["/bin/true"], preload(stage))


def added_by_command(stage):
    """With the command as well, which looks at the program before it starts it."""
    return added(stage, [*stage.skein.prefix, "/bin/true"], {})


def added(stage, argv, environment):
    """The median difference to a plain start right before: other load slows both alike."""
    return Figure(statistics.median(start(stage, argv, environment) - start(stage, ["/bin/true"], {})
                                    for _ in range(STARTS)))


def start(stage, argv, environment):
    """Microseconds to the end of the program."""
    begin = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, os.environ | stage.skein.environment | environment)
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"{argv} ended with status {status}"
    return (time.perf_counter() - begin) * 1e6


TCP_ONLY = ("tcp", "skein")

ROWS = [
    Row("redis GET, 50 connections", "requests/s", redis_get("-c", 50)),
    Row("redis GET, 50 connections, pipeline 16", "requests/s", redis_get("-c", 50, "-P", 16)),
    Row("redis GET, 1 connection", "requests/s", redis_get("-c", 1)),
    Row("redis GET, 1 connection, spinning off", "requests/s", redis_get("-c", 1), environment={"SKEIN_SPIN": "off"}),
    Row("redis GET, 50 connections, both ends on one CPU", "requests/s", redis_get("-c", 50), pinned=True),
    Row("redis GET, 50 connections, beside two busy loops", "requests/s", redis_get("-c", 50), busy_loops=2),
    Row("redis GET, 50 connections, beside 1,000 idle ones", "requests/s", redis_beside_idle(1000)),
    Row("redis GET, 50 connections, beside 10,000 idle ones", "requests/s", redis_beside_idle(10000)),
    Row("redis GET, 50 connections: the server's system calls", "calls/request", redis_system_calls,
        lower_is_better=True, once=True),
    Row("nginx and wrk, 50 connections, 612 B", "requests/s", nginx_wrk, TCP_ONLY),
    Row("nginx and ab, a new connection each", "requests/s", nginx_ab, TCP_ONLY),
    Row("python's http.server to curl, one file", "GB/s", python_to_curl, TCP_ONLY),
    Row("PostgreSQL, pgbench select-only, 8 clients", "queries/s", pgbench),
    Row("iperf3, one stream", "GB/s", iperf, TCP_ONLY),
    Row("64 B ping-pong in C, blocking", "µs", pingpong("ping"), lower_is_better=True),
    Row("64 B ping-pong in C, both ends on one CPU", "µs", pingpong("ping"), lower_is_better=True, pinned=True),
    Row("connect, one request, close, in C", "µs", pingpong("connect"), lower_is_better=True),
    Row("start of /bin/true, without and with the preload", "µs", start_of_true, TCP_ONLY,
        lower_is_better=True, connects=False),
    Row("start of /bin/true: added by the preload", "µs", added_by_preload, ("skein",), connects=False),
    Row("start of /bin/true: added by `skein run`", "µs", added_by_command, ("skein",), connects=False),
]

PROGRAMS = ("redis-server", "redis-benchmark", "nginx", "wrk", "ab", "curl", "iperf3", "strace", "taskset", "prlimit", "cc")


def missing_programs():
    """What has to be installed first."""
    missing = []
    for name in PROGRAMS:
        try:
            find_program(name)
        except Exception as reason:
            missing.append(str(reason))
    return missing
