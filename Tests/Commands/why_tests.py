"""`skein why`: what it says of real sockets, and of what isn't there."""

import json
import os
import socket
import subprocess
import time

from harness import SKEIN, WATCHDOG_SECONDS, Skip, one_line, skein, test
from programs import CLIENT, PYTHON, SERVER, program


def pair(folder, server_run=(), client_run=(), **environment):
    """What `why` says of a server's and a client's connection."""
    folder.chmod(0o1777)
    directory = {"SKEIN_DIR": str(folder)}
    with program(SERVER, run=server_run, **directory) as (server, port):
        options = [word.replace("PORT", str(port)) for word in client_run] if client_run is not None else None
        with program(CLIENT, port, run=options, **directory, **environment) as (client, descriptor):
            return (accepted(folder, server), skein("why", f"{client}:{descriptor}", SKEIN_DIR=folder)[0],
                    server, client, port)


def accepted(folder, server):
    """What `why` says of a server once it has a connection beside its listener: a client is connected before that."""
    end = time.monotonic() + WATCHDOG_SECONDS
    while True:
        says = skein("why", str(server), SKEIN_DIR=folder)[0]
        if says.count("\n") > 1 or time.monotonic() > end:
            return says


@test("a process that doesn't exist, and what is no process, are explained")
def _(_folder):
    one_line(skein("why", "99999999", expect=1)[1], "no process 99999999")
    for word in ("x", "0", "12:", "12:x", ":3", "1:2:3", "-1", "9999999999"):
        assert "PID" in skein("why", "--", word, expect=64)[1] or "pid" in word, word


@test("a descriptor that isn't open, or no socket, is explained")
def _(_folder):
    me = os.getpid()
    one_line(skein("why", f"{me}:54321", expect=1)[1], "no descriptor 54321")
    with open("/dev/null") as null:
        assert "no socket (/dev/null)" in skein("why", f"{me}:{null.fileno()}")[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert "no TCP socket (UDP)" in skein("why", f"{me}:{datagrams.fileno()}")[0]


REFUSED = """import socket, sys
connection = socket.socket()
connection.setblocking(False)
connection.connect_ex(("127.0.0.1", int(sys.argv[1])))
print(connection.fileno(), flush=True)
sys.stdin.read()"""


@test("a connection that was refused is named by the address that was dialled")
def _(folder):
    folder.chmod(0o1777)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with program(REFUSED, port, SKEIN_DIR=str(folder)) as (client, descriptor):
            out, _ = skein("why", f"{client}:{descriptor}", SKEIN_DIR=folder)
    assert f"to 127.0.0.1:{port}" in out and "[" not in out, out


@test("--json gives scripts each socket with its carrier and the same sentence")
def _(folder):
    folder.chmod(0o1777)
    directory = {"SKEIN_DIR": str(folder)}
    with program(SERVER, **directory) as (server, port), program(CLIENT, port, **directory) as (client, descriptor):
        accepted(folder, server)
        told = json.loads(skein("why", "--json", str(server), SKEIN_DIR=folder)[0])
        assert told["pid"] == server and told["program"] == "python3", told
        assert [socket["carrier"] for socket in told["sockets"]] == ["memory", "memory"], told
        text = skein("why", f"{client}:{descriptor}", SKEIN_DIR=folder)[0]
        only, = json.loads(skein("why", "--json", f"{client}:{descriptor}", SKEIN_DIR=folder)[0])["sockets"]
        assert only["carrier"] == "memory" and f"{only['fd']}: {only['explanation']}\n" == text, only
    me = os.getpid()
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.socket() as unused, open("/dev/null") as null:
        carriers = [json.loads(skein("why", "--json", f"{me}:{file.fileno()}")[0])["sockets"][0]["carrier"]
                    for file in (plain, unused, null)]
    assert carriers == ["tcp", None, None], carriers
    with subprocess.Popen(["sleep", "60"]) as process:
        assert json.loads(skein("why", "--json", str(process.pid))[0])["sockets"] == []
        process.kill()


@test("a process without TCP sockets says so")
def _(_folder):
    with subprocess.Popen(["sleep", "60"]) as process:
        assert "(sleep) has no TCP sockets" in skein("why", str(process.pid))[0]
        process.kill()


@test("another user's process is explained")
def _(_folder):
    if os.geteuid() != 0:
        one_line(skein("why", "1", expect=1)[1], "as root")
        return
    if not all(parent.stat().st_mode & 1 for parent in SKEIN.parents):
        raise Skip("the command lies below a closed folder")
    result = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", SKEIN, "why", str(os.getpid())],
                            capture_output=True, text=True)
    assert result.returncode == 1
    one_line(result.stderr, "as root")


@test("both ends under skein are on shared memory, each with the other as peer")
def _(folder):
    server_says, client_says, server, client, port = pair(folder)
    assert f"127.0.0.1:{port} listens: clients" in server_says, server_says
    assert f"is on shared memory, peer 127.0.0.1:" in server_says and f"process {client} (python3)" in server_says, server_says
    assert f"is on shared memory, peer 127.0.0.1:{port}, process {server} (python3)" in client_says, client_says


@test("a plain end is named as the reason, seen from either end")
def _(folder):
    server_says, client_says, server, client, _ = pair(folder, client_run=None)
    assert f"process {client} (python3): it does not run under skein" in server_says, server_says
    assert "is on TCP, because it does not run under skein; start it with 'skein run python3'" in client_says, client_says


@test("a connection that a program was handed is said to go through a relay")
def _(folder):
    folder.chmod(0o1777)
    hand = """import socket, subprocess, sys
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
child = subprocess.Popen(["sleep", "60"], stdin=server)
print(child.pid, flush=True)
sys.stdin.read()
child.kill()"""
    with program(hand, SKEIN_DIR=str(folder)) as (_, child):
        for words in (str(child), f"{child}:0"):
            says = skein("why", words, SKEIN_DIR=folder)[0]
            assert says.startswith("0: leads to a relay") and "nothing to do" in says, says


@test("a plain listener is named as the reason")
def _(folder):
    server_says, client_says, server, _, _ = pair(folder, server_run=None)
    assert "listens for TCP alone, because it does not run under skein" in server_says, server_says
    assert f"process {server} (python3): it does not run under skein" in client_says, client_says


@test("a rule is named as the reason, seen from either end")
def _(folder):
    for number, (rule, words) in enumerate(
            ((["--not", "PORT"], "the rule 'not' of --not (SKEIN_NOT) excludes 127.0.0.1:"),
             (["--only", "9"], "the rule 'only' of --only (SKEIN_ONLY) leaves out 127.0.0.1:"))):
        place = folder / str(number)
        place.mkdir()
        server_says, client_says, *_ = pair(place, client_run=rule)
        assert words in client_says, client_says
        assert words in server_says, server_says
    (folder / "off").mkdir()
    assert "SKEIN_OFF" in pair(folder / "off", SKEIN_OFF="1")[1]


@test("a socket not connected yet says that nothing is decided")
def _(_folder):
    with socket.socket() as unused:
        assert "is not connected; it will be on TCP" in skein("why", f"{os.getpid()}:{unused.fileno()}")[0]


@test("under --strict nothing falls back: a plain server can't be reached, a plain client is closed")
def _(folder):
    folder.chmod(0o1777)
    directory = {"SKEIN_DIR": str(folder)}
    call = ("import socket, sys\ntry:\n    with socket.create_connection(('127.0.0.1', int(sys.argv[1])), 10) as c: print(repr(c.recv(1)))\n"
            "except OSError as error: print(error.errno)")
    with program(SERVER, run=None, **directory) as (_, port):
        assert skein("run", "--strict", "--", PYTHON, "-c", call, str(port), **directory)[0] == "113\n"
    with program(SERVER, run=["--strict"], **directory) as (_, port):
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            assert plain.recv(1) == b"", "a plain client was served"
