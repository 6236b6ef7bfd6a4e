"""What becomes of agents, and of the streams over them, when something fails."""

import concurrent.futures
import contextlib
import errno
import resource
import signal
import struct
import sys
import threading
import traceback

from agents import DATA, END, REFUSED, RESET, TIMEOUT, Agent, Medium, exchange, pair, stream
from harness import Skip, one_line, test
from running import KILL, TERMINATE, needs_root

# Where the rings of a medium for two hosts begin (docs/MEDIUM.md).
DATA_UNIT = 512 + 2 + 4 + 2 * 144

# Tests that mostly wait: they run beside the others, each in a thread of its own.
waiting = []


def meanwhile(sentence):
    def register(function):
        outcome = {}

        def run(folder):
            try:
                function(folder)
            except BaseException as error:  # told where the test has its place
                outcome["error"] = error
                traceback.print_exc(file=sys.stdout)

        def join(_):
            outcome["thread"].join()
            if error := outcome.get("error"):
                raise error

        test(sentence)(join)
        waiting.append((join, run, outcome))
    return register


def begin(folder, chosen):
    """Starts those of the chosen tests that run beside the others."""
    for number, (join, run, outcome) in enumerate(waiting):
        if join in chosen:
            scratch = folder / f"meanwhile-{number}"
            scratch.mkdir()
            outcome["thread"] = threading.Thread(target=run, args=(scratch,))
            outcome["thread"].start()


def flooding(program):
    """Writes to a stream until it can't any more."""
    def flood():
        with contextlib.suppress(OSError):
            while True:
                program.send(b"x" * 65536)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    return thread


@meanwhile("an agent is killed under load: its peer's streams end with ECONNRESET; a restart joins at once where the lock proves the end")
def _(folder):
    with pair(folder) as (medium, a, b):
        number = b.number
        for place in (folder, folder / "elsewhere"):
            place.mkdir(exist_ok=True)
            with stream(a, b, 7) as (client, server):
                flood = flooding(server)
                assert client.frame()[0] == DATA
                b.signal(KILL)
                b.finish(-KILL)
                b = Agent(place, medium, "b")
                if place != folder:
                    b.says(f"is watched for {9 * TIMEOUT} ms first")
                while (frame := client.frame())[0] != RESET:
                    pass
                assert struct.unpack("<I", frame[1])[0] == errno.ECONNRESET, frame
                flood.join()
            a.says("host 'b'", "is gone")
            b.ready()
            b.says(f"is host {number}, start")
            assert ("is watched" in b.log) == (place != folder), b.log
            a.says("host 'b'", "is there")
            b.says("host 'a'", "is there")
        b.signal(TERMINATE)
        b.finish()


@meanwhile("an agent that was stopped for too long finds itself fenced, ends its streams and joins as a new incarnation")
def _(folder):
    with pair(folder) as (medium, a, b):
        with stream(a, b, 7) as (client, server), b.listening(8):
            client.send(b"before")
            assert server.receive(6) == b"before"
            b.signal(signal.SIGSTOP)
            assert client.error(RESET) == errno.ECONNRESET
            a.says("host 'b'", "is gone")
            server.send(b"never taken")
            b.signal(signal.SIGCONT)
            b.says("joins anew")
            assert server.error(RESET) == errno.ECONNRESET
            b.says(f"is host {b.number}, start 2")
            a.says("host 'b'", "is there")
            # Who listened listens still.
            with a.connecting("b:8") as again, b.accepting(8) as accepted:
                accepted.ready()
                again.ready()
                again.send(b"after")
                assert accepted.receive(5) == b"after"


@meanwhile("a stream loses nothing while writes fail; a host that can write no more ends its streams, and joins again when it can")
def _(folder):
    with pair(folder) as (medium, a, b):
        with stream(a, b, 7) as (client, server):
            limits = resource.prlimit(b.process.pid, resource.RLIMIT_FSIZE)
            # Its lease and rows can be written, its rings can't: streams wait, and lose nothing.
            with concurrent.futures.ThreadPoolExecutor() as threads, b.listening(8), a.connecting("b:8") as one:
                other, _ = b.accept(8)
                one.ready()
                resource.prlimit(b.process.pid, resource.RLIMIT_FSIZE, (DATA_UNIT * 4096, limits[1]))
                moving = threads.submit(exchange, one, other, 8 << 20)
                b.says("writing unit", "File too large", "tried again")
                resource.prlimit(b.process.pid, resource.RLIMIT_FSIZE, limits)
                moving.result()
                b.says("works again")
            resource.prlimit(b.process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
            b.says("writing unit", "File too large", "tried again")
            b.says(f"could not be written and read for {4 * TIMEOUT} ms", "joins anew")
            assert server.error(RESET) == errno.ECONNRESET
            assert client.error(RESET) == errno.ECONNRESET
            with b.connecting("a:9") as early:
                assert early.error(REFUSED) in (errno.ENETDOWN, errno.EHOSTUNREACH)
            resource.prlimit(b.process.pid, resource.RLIMIT_FSIZE, limits)
            b.says("works again")
            b.says(f"is host {b.number}, start 2")
            a.says("host 'b'", "is there")


@meanwhile("SIGTERM gives the place back: other hosts know at once, and the next agent waits for nothing")
def _(folder):
    with pair(folder) as (medium, a, b):
        with stream(a, b, 7) as (client, server):
            b.signal(TERMINATE)
            assert client.error(RESET) == errno.ECONNRESET
            a.says("host 'b'", "is gone")
            assert "dead" not in b.finish()[1]
        assert not (b.folder / "runtime" / "agent.sock").exists()
        # From another folder, which knows of no lock.
        (folder / "elsewhere").mkdir()
        with Agent(folder / "elsewhere", medium, "b") as b:
            b.ready()
            b.says(f"is host {b.number}, start 2")
            assert "is watched" not in b.log, b.log
            b.signal(signal.SIGINT)
            b.finish()


@meanwhile("a name that lives is not given twice, and where all places are taken there is none")
def _(folder):
    with pair(folder) as (medium, a, b):
        for name, words in (("a", "'a' is alive"), ("c", "all 2 places")):
            (folder / "elsewhere").mkdir(exist_ok=True)
            with Agent(folder / "elsewhere", medium, name) as second:
                err = second.finish(2)[1]
                one_line(err.splitlines(keepends=True)[-1], words, str(medium.path))
        with Agent(folder, medium, "a") as third:
            one_line(third.finish(1)[1], "runs here already", "SKEIN_DIR")
        # Those who live have noticed nothing.
        with stream(a, b, 7) as (client, server):
            client.put(END)
            server.ended()


@meanwhile("threads do the work of io_uring where there is none; a medium on a disk, without encryption")
def _(folder):
    with pair(folder, "--threads", "--verbose", isPlain=True, on=folder, timeout="2s") as (medium, a, b):
        with stream(a, b, 7) as (client, server):
            exchange(client, server, 8 << 20)
        assert "by threads" in a.log, a.log


@test("an agent that can't begin says why in one line: no medium, a wrong key, a name that is none")
def _(folder):
    def refused(*parts, name="a"):
        with Agent(folder, medium, name) as agent:
            one_line(agent.finish(1)[1], *parts)

    (folder / "other").mkdir()
    with Medium(folder) as medium, Medium(folder / "other") as other:
        refused("no name of a host", name="a:b")
        key, medium.key = medium.key, folder / "none"
        refused("there is no key")
        medium.key = other.key
        refused("is not that of", "skein key import lab")
        medium.key = key
    refused("there is no", "skein medium create")


@test("a medium that can only be read is refused")
def _(folder):
    needs_root("to mount")
    with Medium(folder) as medium:
        mounted = f"mount --bind {medium.path} {medium.path} && mount -o remount,bind,ro {medium.path} && exec \"$@\""
        with Agent(folder, medium, "a", prefix=["unshare", "-m", "sh", "-c", mounted, "sh"]) as agent:
            err = agent.finish(None)[1]
        if "unshare" in err or "mount" in err:
            raise Skip(err.strip())
        one_line(err, "read-only", "must be written")
