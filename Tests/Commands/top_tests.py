"""`skein top`: rates of forged tables, and a terminal that it takes and gives back."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import termios
import time

from harness import SKEIN, WATCHDOG_SECONDS, skein, test
from running import until
from table_tests import connections, pair
from tables import HEADER, LISTENING, NONE, NOT_UNDER_SKEIN, RECORD, TCP, counters, held, record, sockets, table

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
HOME = b"\x1b[H"


class Terminal:
    """`skein top` on a terminal of its own, in a session of its own."""

    def __init__(self, folder, *words, size=(30, 160), **environment):
        self.words, self.output = words, b""
        # The terminal as it is before; both names of it, so that it outlives the command.
        self.master, self.slave = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            for number in range(3):
                os.dup2(self.slave, number)
            os.closerange(3, self.master + 64)
            variables = {key: value for key, value in os.environ.items() if not key.startswith("SKEIN_")}
            os.execve(SKEIN, [SKEIN, "top", *words], variables | {"SKEIN_DIR": str(folder), "TERM": "xterm"} | environment)

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        while select.select([self.master], [], [], 0)[0]:
            self.output += os.read(self.master, 65536)

    def frame(self):
        """The lines of the last whole frame."""
        self.read()
        whole = self.output.rpartition(b"\x1b[J")[0].rpartition(HOME)[2].decode()
        return [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in re.split("\r+\n", whole)]

    def shows(self, condition, what):
        until(lambda: condition(self.frame()), f"{what}; it shows {self.frame()}")

    def press(self, keys):
        os.write(self.master, keys)

    def end(self):
        """How it ended, once it has; its last output is read."""
        deadline = time.monotonic() + WATCHDOG_SECONDS
        while True:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                self.read()
                return status
            assert time.monotonic() < deadline, f"it didn't end; it showed {self.frame()}"
            time.sleep(0.005)

    def is_as_before(self):
        """The first screen is back, with a cursor and broken lines, and keys are taken as they were."""
        assert self.output.count(ENTER) == self.output.count(LEAVE) > 0, self.output
        after = self.output.rpartition(LEAVE)[0][-20:]
        assert b"\x1b[?25h" in after and b"\x1b[?7h" in after and self.output.endswith(LEAVE), self.output[-60:]
        assert termios.tcgetattr(self.slave) == self.before

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)
        os.close(self.slave)


@contextlib.contextmanager
def busy(folder):
    """A table of three sockets whose counters can be moved: yields a function of the socket's place and its counters."""
    folder.chmod(0o1777)
    with sockets(3) as numbers:
        image = table(record(numbers[0], program=b"alpha"), record(numbers[1], program=b"omega"),
                      record(numbers[2], NONE, LISTENING, program=b"listens"), folder=folder, totals=counters(1, 2, r3=2))
        with held(image) as memory:
            def move(place, incoming=0, outgoing=0, bells=0, spins=0):
                words = struct.pack("<QQQQQ", incoming, outgoing, 0, bells, spins)
                os.pwrite(memory, words, HEADER + place * RECORD + 128)
            yield move


def programs(frame):
    """The names in the table, from the top."""
    head = next(index for index, line in enumerate(frame) if "PROGRAM" in line)
    return [line.split()[1] for line in frame[head + 1:]]


@test("top: what was counted before is no rate, and JSON has the fields of ls with rates")
def _(folder):
    with busy(folder) as move:
        move(0, 10_000, 20_000, 30, 40)
        result = json.loads(skein("top", "--json", "--interval", "0.1", SKEIN_DIR=folder)[0])
        listed = json.loads(skein("ls", "--json", SKEIN_DIR=folder)[0])
    assert result["seconds"] >= 0.1
    rates = ("bytes_in_per_second", "bytes_out_per_second", "bells_per_second", "spins_per_second")
    for one in result["sockets"]:
        assert [one.pop(rate) for rate in rates] == [0, 0, 0, 0], one
    assert {key: result[key] for key in listed} == listed and listed["sockets"][0]["bells"] == 30


@test("top: elsewhere than on a terminal it prints one interval: totals, the table, reasons of fall-backs")
def _(folder):
    with busy(folder):
        for words in (["--interval", "0.1"], ["--interval", "0.1", "--once", "--sort", "name"]):
            out, err = skein("top", *words, SKEIN_DIR=folder)
            lines = out.splitlines()
            assert lines[0] == "3 sockets: 2 connected over memory, 0 over TCP, 1 listening" and err == "", out + err
            assert lines[1].startswith("a second: 0 in, 0 out, 0 bells, 0 spins, 0 new over memory") and "\x1b" not in out
            assert lines[2].startswith("over TCP so far: 2 because the listener does not run under skein")
            assert lines[3].split() == ["PID", "PROGRAM", "IN/s", "OUT/s", "UNREAD", "UNSENT", "BELLS/s", "SPINS/s", "STATE",
                                        "LOCAL", "PEER", "CARRIER"]
        assert programs(lines) == ["alpha", "listens", "omega"]


@test("top: a dumb terminal and one without a name get plain text")
def _(folder):
    folder.chmod(0o1777)
    for kind in ("dumb", ""):
        with Terminal(folder, "--interval", "0.1", TERM=kind) as terminal:
            assert terminal.end() == 0
            assert b"0 sockets" in terminal.output and b"\x1b" not in terminal.output


@test("top: on a terminal rates come, keys sort, and q gives the terminal back")
def _(folder):
    with busy(folder) as move, Terminal(folder, "--interval", "0.1") as terminal:
        terminal.shows(lambda frame: any("a second" in line for line in frame), "a second look")
        assert programs(terminal.frame()) == ["alpha", "omega", "listens"]
        done = 0

        def omega_leads(frame):
            nonlocal done
            done += 1 << 20
            move(1, outgoing=done, spins=done)
            move(0, bells=done)
            return programs(frame)[0] == "omega" and re.search(r"omega +0 +[0-9.]+[MG]", "\n".join(frame))
        terminal.shows(omega_leads, "omega with its rate")
        for key, names in (b"n", ["alpha", "listens", "omega"]), (b"r", ["omega", "listens", "alpha"]):
            terminal.press(key)
            terminal.shows(lambda frame: programs(frame) == names, f"{names} after the key {key}")
        terminal.press(b"rp")
        terminal.shows(lambda frame: "by pid" in frame[0] and "reversed" not in frame[0], "the order in the first line")
        terminal.press(b"\x1b[Axq")
        assert terminal.end() == 0
        terminal.is_as_before()


@test("top: no line is longer than the terminal is wide, nor the table than it is high, whatever its size")
def _(folder):
    with sockets(40) as numbers:
        rows = [record(number, carrier=TCP, reason=NOT_UNDER_SKEIN) for number in numbers]
        with held(table(*rows, folder=folder)), Terminal(folder, "--interval", "0.1") as terminal:
            folder.chmod(0o1777)
            for size in (10, 40), (3, 60), (1, 1), (24, 300), (60, 80):
                terminal.resize(*size)

                def fills(frame, size=size):
                    longest = max(map(len, frame))
                    is_whole = longest < 300 and frame[-1].endswith("(start it with 'skein run')")
                    return len(frame) == min(size[0], 45) and (longest == size[1] or is_whole)
                terminal.shows(fills, f"lines that fill {size}")
            terminal.press(b"q")
            assert terminal.end() == 0


@test("top: a signal ends it by that signal, after the terminal is given back")
def _(folder):
    folder.chmod(0o1777)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        with Terminal(folder) as terminal:
            terminal.shows(lambda frame: "skein top" in frame[0], "the first frame")
            terminal.press(b"\x03") if number == signal.SIGINT else os.kill(terminal.pid, number)
            status = terminal.end()
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == number, status
            terminal.is_as_before()


@test("top: stopped it leaves the terminal, and takes it again when it goes on")
def _(folder):
    folder.chmod(0o1777)
    with Terminal(folder, "--interval", "0.1") as terminal:
        terminal.shows(lambda frame: "skein top" in frame[0], "the first frame")
        os.kill(terminal.pid, signal.SIGSTOP)
        os.waitpid(terminal.pid, os.WUNTRACED)
        terminal.read()
        seen = len(terminal.output)
        os.kill(terminal.pid, signal.SIGCONT)
        until(lambda: (terminal.read(), ENTER in terminal.output[seen:])[1], "it takes the terminal again")
        terminal.press(b"q")
        assert terminal.end() == 0
        assert termios.tcgetattr(terminal.slave) == terminal.before


@test("top: it ends when its terminal is gone")
def _(folder):
    folder.chmod(0o1777)
    terminal = Terminal(folder, "--interval", "0.1")
    terminal.shows(lambda frame: "skein top" in frame[0], "the first frame")
    os.close(terminal.slave)
    os.close(terminal.master)
    deadline = time.monotonic() + WATCHDOG_SECONDS
    while os.waitpid(terminal.pid, os.WNOHANG) == (0, 0):
        assert time.monotonic() < deadline, "it goes on without a terminal"
        time.sleep(0.005)


@test("top: an interval or a sort key that makes no sense is explained")
def _(folder):
    for words in (["--interval", "0"], ["--interval", "nan"], ["--interval", "4000"], ["--sort", "x"]):
        skein("top", *words, expect=64)


ECHO = """import threading
def echo():
    while data := connection.recv(1): connection.sendall(data)
threading.Thread(target=echo, daemon=True).start()"""
TALK = "for _ in range(200): connection.sendall(b'x'); connection.recv(1)"


@test("bells and spins are counted: without spinning sleepers get bells, with it waits end by looking")
def _(folder):
    for policy, counted, other in ("off", "bells", "spins"), ("fixed", "spins", None):
        home = folder / policy
        home.mkdir()
        with pair(home, SKEIN_SPIN=policy) as (server, client, _):
            server.do(ECHO)

            def talks():
                client.do(TALK)
                ends = connections(home)
                assert len(ends) == 2 and all(other is None or end[other] == 0 for end in ends), ends
                return all(end[counted] > 0 for end in ends)
            until(talks, f"{counted} at both ends with spinning {policy}")
