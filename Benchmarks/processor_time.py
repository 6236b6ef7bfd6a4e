"""Processor time of programs that still run."""

import os
import pathlib


def seconds_of_running(leader):
    """Processor time of the processes of a session that still run, with their children that have ended."""
    ticks = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(words[3]) == leader:
            ticks += sum(map(int, words[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def seconds_of_process(number):
    """Processor time of the threads of a process, to the nanosecond."""
    threads = pathlib.Path(f"/proc/{number}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
