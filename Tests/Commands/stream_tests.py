"""`skein listen` and `skein connect`: standard input and output over a connection."""

import os
import random
import select
import socket
import subprocess
import threading

from harness import SKEIN, one_line, skein, test
from running import KILL, Running, host, until


def pair(folder):
    """A listener and what is connected to it."""
    server = Running(folder, "listen", ":0", ready="stderr")
    return server, Running(folder, "connect", server.address)


@test("listen and connect: what goes in at one end comes out at the other, both ways")
def _(folder):
    server, client = pair(folder)
    with server, client:
        client.process.stdin.write(b"from the client\n")
        client.process.stdin.close()
        assert server.process.stdout.read() == b"from the client\n"  # to its end, with the other way still open
        server.process.stdin.write(b"an answer to all of it\n")
        server.process.stdin.close()
        assert client.process.stdout.read() == b"an answer to all of it\n"
        assert server.process.wait(60) == 0 and client.process.wait(60) == 0
        assert server.process.stderr.read() == client.process.stderr.read() == b""


@test("listen and connect: 20 MB of any bytes each way at once")
def _(folder):
    dice = random.Random(1)
    forth, back = dice.randbytes(20_000_000), dice.randbytes(20_000_001)
    server, client = pair(folder)
    with server, client:
        results = {}
        reader = threading.Thread(target=lambda: results.update(server=server.finish(0, back)))
        reader.start()
        out, err = client.finish(0, forth)
        reader.join(60)
        assert out == back and results["server"][0] == forth and err == ""


@test("listen and connect: an empty input is an end, and both end")
def _(folder):
    server, client = pair(folder)
    with server, client:
        server.end_input()
        assert client.finish(0, b"") == (b"", "") and server.finish() == (b"", "")


@test("listen: a second client is refused once there is one")
def _(folder):
    server, client = pair(folder)
    with server, client:
        client.process.stdin.write(b"x")
        client.process.stdin.flush()
        assert os.read(server.process.stdout.fileno(), 1) == b"x"
        one_line(skein("connect", server.address, expect=2, **host(folder))[1], "nobody listens")


@test("connect: a killed peer with everything read is an end, and input it can't take is named")
def _(folder):
    server, client = pair(folder)
    with server, client:
        server.process.stdin.write(b"last words")
        server.process.stdin.flush()
        assert os.read(client.process.stdout.fileno(), 100) == b"last words"
        server.signal(KILL)
        assert client.process.stdout.read() == b""
        # The first write after that may still be taken, as on TCP.
        while client.process.poll() is None:
            swallow(client.process.stdin, b"x" * 65536)
        assert client.process.wait(60) == 3
        assert "takes no more of standard input" in client.process.stderr.read().decode()


@test("connect: a peer that is killed with bytes unread is named")
def _(folder):
    server, client = pair(folder)
    with server, client:
        # Full pipes on its way out: the server can't have read all of this.
        writer = threading.Thread(target=lambda: swallow(client.process.stdin, b"x" * 4_000_000))
        writer.start()
        until(lambda: readable(server), "bytes arrive")
        server.signal(KILL)
        assert client.process.wait(60) == 3
        writer.join(60)
        assert "peer" in client.process.stderr.read().decode()


@test("connect: a connection that is reset before anything was said is told as that, once")
def _(folder):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Running(folder, "relay", "stp::0", f"tcp:{nobody.getsockname()[1]}", ready="stdout") as relay:
            one_line(skein("connect", relay.address.removeprefix("stp:"), expect=3, **host(folder))[1], "the peer has reset the connection")


def swallow(stream, content):
    try:
        stream.write(content)
        stream.flush()
    except BrokenPipeError:
        pass


def readable(running):
    return bool(select.select([running.process.stdout], [], [], 0)[0])


@test("connect: nobody there, port 0, another host and another group are explained")
def _(folder):
    for address, words in ((":7999", ["nobody listens", "start the server"]), (":0", ["port 0"]),
                           ("elsewhere:7000", ["SKEIN_HOST"]), ("foreign/:7000", ["SKEIN_GROUP"])):
        one_line(skein("connect", address, expect=2, **host(folder))[1], f"can't connect to {address}", *words)


@test("connect: localhost is this host")
def _(folder):
    with Running(folder, "listen", "localhost:0", ready="stderr") as server:
        with Running(folder, "connect", f"localhost:{server.port}") as client:
            server.end_input()
            assert client.finish(0, b"hello")[0] == b"" and server.finish()[0] == b"hello"


@test("listen: a port that STP or TCP has is named")
def _(folder):
    with Running(folder, "listen", ":0", ready="stderr") as server:
        one_line(skein("listen", f":{server.port}", expect=2, **host(folder))[1], f":{server.port}", "taken")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one_line(skein("listen", f":{port}", expect=2, **host(folder))[1], f":{port}", "taken")


@test("listen and connect: what is no address is explained")
def _(_folder):
    for command in ("listen", "connect"):
        for word in ("", "x", ":", ":65536", ":x", "host:", "a/b/c:1", "group/7000", "h" * 32 + ":1", "g" * 16 + "/h:1", ": 7"):
            assert "is no STP address" in skein(command, "--", word, expect=64)[1], word
        assert "Missing" in skein(command, expect=64)[1]


@test("listen: a runtime folder that others could tamper with is refused")
def _(folder):
    environment = host(folder)
    os.chmod(environment["SKEIN_DIR"], 0o777)
    one_line(skein("listen", ":0", expect=2, **environment)[1], "chmod 1777")
    environment["SKEIN_DIR"] = str(folder / "absent" / "deep")
    one_line(skein("connect", ":7000", expect=2, **environment)[1], ": SKEIN_DIR names a folder")


@test("connect: standard streams that are closed, full or unreadable are explained, and never a socket's number")
def _(folder):
    def through(shell, expect, *words):
        with Running(folder, "listen", ":0", ready="stderr") as server:
            server.end_input(b"content")
            command = Running(folder, "connect", server.address, prefix=["sh", "-c", f'exec "$@" {shell}', "sh"])
            with command:
                _, err = command.finish(expect)
                one_line(err, *words)
    through("<&-", 1, "standard input can't be read")
    through("< /", 1, "standard input can't be read", "directory")
    through(">&-", 1, "standard output can't be written")
    through("> /dev/full", 1, "standard output can't be written", "space")


@test("connect: a reader of standard output that leaves ends it, as any command in a pipe")
def _(folder):
    with Running(folder, "listen", ":0", ready="stderr") as server:
        writer = threading.Thread(target=lambda: swallow(server.process.stdin, b"x" * 20_000_000))
        writer.start()
        pipe = f'"$0" connect {server.address} < /dev/null | head -c 5'
        result = subprocess.run(["sh", "-c", pipe, SKEIN], env=host(folder), capture_output=True, timeout=60)
        assert result.stdout == b"xxxxx" and result.stderr == b"", result
        server.process.wait(60)
        writer.join(60)
