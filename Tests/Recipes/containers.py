"""Containers made by hand: namespaces and a root folder of their own, as a container engine makes them."""

import contextlib
import os
import pathlib
import subprocess

from carrier import CLIENT, PYTHON, SERVER
from harness import CHECKOUT, WATCHDOG_SECONDS, Skip

SCRIPT = pathlib.Path(__file__).with_name("container.sh")
LIBRARIES = CHECKOUT / "build"
PRELOAD = "/opt/skein/lib/libskein-preload.so"


class Container:
    """A container by what it shares with the host: the network, the process numbers, folders."""

    def __init__(self, folder, name, network="host", processes="own", runtime=None, rules=None):
        self.root = folder / name
        self.root.mkdir()
        self.rules, self.runtime = rules or "-", runtime or "-"
        self.network, self.processes = network, processes

    def command(self, *words, preload=True, **variables):
        own = [f"--{name}" for name, shared in (("net", self.network), ("pid", self.processes)) if shared == "own"]
        # A network of its own has a loopback device that is down.
        start = ["sh", "-c", 'ip link set lo up && exec "$@"', "-"] if self.network == "own" else []
        settings = {"PATH": "/usr/bin"} | ({"LD_PRELOAD": PRELOAD} if preload else {}) | variables
        return ["unshare", "--mount", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child", *own, *start, SCRIPT, self.root, self.runtime,
                self.rules, LIBRARIES, self.processes, "/usr/bin/env", "-i", *(f"{key}={value}" for key, value in settings.items()), *words]

    def run(self, *words, **options):
        result = subprocess.run(self.command(*words, **options), capture_output=True, text=True, timeout=WATCHDOG_SECONDS)
        return result.stdout.strip() or result.stderr.strip()

    def carrier(self, port, **options):
        """What carries the connection of a client in here: memory, tcp, or how it failed."""
        return self.run(PYTHON, "-c", CLIENT, "127.0.0.1", str(port), **options)

    @contextlib.contextmanager
    def server(self, port=0, **options):
        """An echo server in here; its port."""
        with subprocess.Popen(self.command(PYTHON, "-c", SERVER, "127.0.0.1", str(port), **options), stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as process:
            try:
                line = process.stdout.readline()
                assert line, "the server did not start"
                yield int(line)
            finally:
                process.stdin.close()
                process.wait(WATCHDOG_SECONDS)


def need_containers(folder):
    """Skips the test where the system doesn't allow what containers are made of."""
    trial = Container(folder, "trial", network="own")
    result = subprocess.run(trial.command("true", preload=False), capture_output=True, text=True, timeout=WATCHDOG_SECONDS)
    if result.returncode:
        raise Skip(f"no containers here: {result.stderr.strip() or os.strerror(1)}")
