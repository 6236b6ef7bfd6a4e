"""An inetd that starts its servers with the connection as descriptors 0, 1 and 2: telnetd, and cat."""

import hashlib
import subprocess
import time

from support import namespace
from support.trial import Skip, find_program, test

from . import socat


def inetd(t, program, *arguments):
    if not namespace.has_several_users():
        raise Skip("inetd takes its servers' identity from its configuration")
    configuration = t.folder / "inetd.conf"
    configuration.write_text(f"127.0.0.1:{t.port} stream tcp nowait root {program} {' '.join(arguments)}\n")
    (t.folder / "inetd.d").mkdir()
    # --debug keeps it in the foreground.
    return t.server([find_program("inetutils-inetd"), "--debug", f"--pidfile={t.folder}/inetd.pid",
                     configuration, t.folder / "inetd.d"])


@test("telnet talks to a shell behind telnetd under inetd", needs=["inetutils-inetd", "telnetd", "telnet"])
def shell(t):
    inetd(t, find_program("telnetd"), "telnetd", "-h", "-E", "/bin/sh")
    client = t.start_client(["telnet", "-E", "-K", "127.0.0.1", t.port], stdin=subprocess.PIPE)
    # The terminal echoes what is typed: a result must not be found in its own command.
    type_line(client, "echo read''y; seq 1 20000; echo do''ne")
    # telnetd drops what its terminal still holds when the shell ends: read all of it first.
    while b"done" not in (lines := output_lines(client)):
        assert client.poll() is None, f"telnet ended after {lines[-5:]}"
        time.sleep(0.05)
    assert b"ready" in lines, f"the shell answered {lines[:5]}"
    type_line(client, "exit")
    client.wait()  # the connection ends with the shell; telnet's own end code says nothing
    client.stdin.close()
    numbers = b"\n".join(lines[lines.index(b"ready") + 1:lines.index(b"done")]) + b"\n"
    expected = b"".join(b"%d\n" % number for number in range(1, 20001))
    assert hashlib.sha256(numbers).digest() == hashlib.sha256(expected).digest(), "the shell's output is changed"
    t.moved(len(expected))


def type_line(client, command):
    client.stdin.write(command.encode() + b"\n")
    client.stdin.flush()


def output_lines(client):
    """What the terminal shows, without the shell's prompt."""
    return [line.lstrip(b"\0# ") for line in client.out.read_bytes().replace(b"\r", b"").split(b"\n")]


@test("a cat under inetd, across exec, echoes 16 MiB", needs=["inetutils-inetd", "socat"])
def cat(t):
    inetd(t, "/bin/cat", "cat")
    socat.send_and_read_back(t)
