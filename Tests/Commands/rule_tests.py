"""Rules by port, address and program, as options, variables and in the user's file."""

import os
import random
import shutil
import subprocess

from carrier import PYTHON, carrier, environment, preloaded, server
from harness import SKEIN, WATCHDOG_SECONDS, Skip, one_line, skein, test

NAME = os.path.basename(os.path.realpath(PYTHON))


def config(folder, text, name="skein.conf"):
    """Makes the folder's own user configuration; what names it."""
    home = folder / "config"
    (home / "skein").mkdir(parents=True, exist_ok=True)
    path = home / "skein" / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o644)
    return path, {"XDG_CONFIG_HOME": str(home)}


def shown(*options, program=PYTHON, **variables):
    """The settings that `--check` prints, without where they stand."""
    out, err = skein("run", *options, "--check", program, **variables)
    title, *lines = out.splitlines()
    assert title.startswith("# ") and err == "", out + err
    return [line.split("  # ")[0] for line in lines]


@test("terms of every form are taken, and shown as they were understood")
def _(_folder):
    cases = {"80": "80", "8000-8010": "8000-8010", "any": "any", "none": "none", "127.0.0.1": "127.0.0.1",
             "10.0.0.0/8": "10.0.0.0/8", "10.0.0.5:80": "10.0.0.5:80", "10.0.0.0/8:80-90": "10.0.0.0/8:80-90",
             "::": "::", "::1": "::1", "1::": "1::", "[::1]": "::1", "[::1]:80": "[::1]:80", "fe80::/10": "fe80::/10",
             "[fe80::/10]:80": "[fe80::/10]:80", "1:2:3:4:5:6:7:8": "1:2:3:4:5:6:7:8", "2001:DB8::A": "2001:db8::a",
             "::ffff:10.0.0.1": "10.0.0.1", "::ffff:10.0.0.0/104": "10.0.0.0/8", "64:ff9b::1.2.3.4": "64:ff9b::102:304",
             "80, 443 ,::1": "80, 443, ::1", "1-65535": "1-65535", "0.0.0.0/0": "0.0.0.0/0"}
    for given, understood in cases.items():
        assert shown("--only", given) == [f"only = {understood}"], (given, shown("--only", given))


@test("what is no term is refused with the word and what to write")
def _(_folder):
    cases = {"http": "'http' is no port", "80,http": "'http' is no port", "": "'' is no port", "80,": "'' is no port",
             "0": "from 1 to 65535", "65536": "from 1 to 65535", "99999999999": "'99999999999' is no port", "80-": "is no port",
             "-80": "is no port", "90-80": "ends before it begins", "10.0.0": "is no IPv4", "10.0.0.256": "is no IPv4",
             "10.0.0.01": "is no IPv4", "10.0.0.1.2": "is no IPv4", "localhost.": "names are not looked up", "10.0.0.1/33": "prefix",
             "10.0.0.1/": "prefix", "::1/129": "prefix", "1::2::3": "is no IPv4 or IPv6", ":::": "is no IPv4 or IPv6",
             "1:2:3:4:5:6:7": "is no IPv4 or IPv6", "1:2:3:4:5:6:7:8:9": "is no IPv4 or IPv6", "12345::": "is no IPv4 or IPv6",
             "fe80::1%lo": "is no IPv4 or IPv6", "::1.2.3": "is no IPv4 or IPv6", "[::1": "is no port", "[::1]80": "is no port",
             "[127.0.0.1]:80": "is no IPv4 or IPv6", "127.0.0.1:": "is no port", "none,80": "a list by itself"}
    for text, message in cases.items():
        for option in ("--only", "--not"):
            words = [f"{option}={text}"] if text.startswith("-") else [option, text]
            assert message in skein("run", *words, "true", expect=64)[1], f"{text}: {message!r} is missing"


@test("a list may have a thousand terms, and the last counts")
def _(folder):
    many = ",".join(str(number) for number in range(1, 1000))
    with server(environment(folder)) as port:
        assert carrier(environment(folder), port, run=["--not", f"{many},{port}"]) == "tcp"
        assert carrier(environment(folder), port, run=["--not", many]) == "memory"
        assert carrier(environment(folder), port, run=["--only", f"{many},{port}"]) == "memory"


@test("a client's rule is about the address that it dials")
def _(folder):
    with server(environment(folder), "0.0.0.0") as port:
        def dial(option, rule, host="127.0.0.1"):
            return carrier(environment(folder), port, host, run=[option, rule])
        assert dial("--not", "127.0.0.2") == "memory" and dial("--not", "127.0.0.2", "127.0.0.2") == "tcp"
        assert dial("--not", "127.0.0.2/31") == "memory" and dial("--not", "127.0.0.2/31", "127.0.0.3") == "tcp"
        assert dial("--not", f"127.0.0.1:{port}") == "tcp" and dial("--not", f"127.0.0.1:{port + 1}") == "memory"
        assert dial("--not", f"{port - 1}-{port + 1}") == "tcp" and dial("--not", f"::/0") == "memory"
        assert dial("--only", "127.0.0.0/8") == "memory" and dial("--only", "127.0.0.1", "127.0.0.2") == "tcp"
        assert dial("--only", f"10.0.0.0/8,127.0.0.1:{port}") == "memory" and dial("--only", "10.0.0.0/8,::1") == "tcp"
        assert dial("--only", "any") == "memory" and dial("--only", "none") == "tcp" and dial("--not", "any") == "tcp"
        assert dial("--not", "127.0.0.1", "::ffff:127.0.0.1") == "tcp", "an IPv4 address in IPv6 form is one of IPv4"


@test("rules know IPv6")
def _(folder):
    if not os.path.exists("/proc/net/if_inet6"):
        raise Skip("no IPv6 here")
    with server(environment(folder), "::1") as port:
        for rule, carried in (("::1", "tcp"), (f"[::1]:{port}", "tcp"), ("::/64", "tcp"), (f"[::/127]:{port}", "tcp"),
                              ("::2", "memory"), (f"[::1]:{port + 1}", "memory"), ("0.0.0.0/0", "memory"), ("::/128", "memory")):
            assert carrier(environment(folder), port, "::1", run=["--not", rule]) == carried, rule


@test("a listener that a rule excludes has no hidden listener")
def _(folder):
    for number, (host, rule, carried) in enumerate((
            ("127.0.0.1", ["--not", "127.0.0.1"], "tcp"), ("127.0.0.1", ["--not", "127.0.0.2"], "memory"),
            ("127.0.0.1", ["--only", "127.0.0.1"], "memory"), ("127.0.0.1", ["--only", "1-1023"], "tcp"),
            ("0.0.0.0", ["--not", "127.0.0.2"], "tcp"), ("0.0.0.0", ["--only", "127.0.0.1"], "tcp"),
            ("0.0.0.0", ["--only", "0.0.0.0/0"], "memory"), ("0.0.0.0", ["--not", "::1"], "memory"),
            ("0.0.0.0", ["--only", "1024-65535"], "memory"))):
        with server(environment(folder), host, run=rule) as port:
            assert carrier(environment(folder), port) == carried, (host, rule)


@test("under --strict a client goes to TCP where a rule sends it, and is served there")
def _(folder):
    with server(environment(folder), run=["--strict"]) as port:
        refused = carrier(environment(folder), port, run=["--not", str(port)])
        assert refused in ("closed", "errno 104"), "the server can't know the client's own rule"
        assert carrier(environment(folder), port) == "memory"
    with server(environment(folder), run=["--strict", "--not", "any"]) as port:
        assert carrier(environment(folder), port, run=["--strict", "--not", str(port)]) == "tcp"
        assert carrier(environment(folder), port, run=["--strict"]) == "errno 113"


# What begins otherwise than by connect on a socket of TCP: what came back, or the errno.
OTHER_CONNECTS = """import socket, sys
address = ("127.0.0.1", int(sys.argv[1]))
def sent(client): client.sendto(b"hello", socket.MSG_FASTOPEN, address)
def sent_as_message(client): client.sendmsg([b"hello"], [], socket.MSG_FASTOPEN, address)
def connected(client):
    client.connect(address)
    client.sendall(b"hello")
for protocol, begin in (socket.IPPROTO_TCP, sent), (socket.IPPROTO_TCP, sent_as_message), (262, connected), (262, sent):
    try:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        begin(client)
        print(client.recv(5).decode())
    except OSError as error: print(error.errno)"""


@test("--strict holds for what is sent with MSG_FASTOPEN and for MPTCP, as for connect")
def _(folder):
    def told(*command):
        return subprocess.run([*command, PYTHON, "-c", OTHER_CONNECTS, str(port)], capture_output=True, text=True,
                              timeout=WATCHDOG_SECONDS, env=environment(folder)).stdout.split()
    with server(environment(folder), run=None) as port:
        plain = told()
        assert plain[:2] == ["hello", "hello"], plain
        assert told(SKEIN, "run", "--") == plain
        assert told(SKEIN, "run", "--strict", "--not", str(port), "--") == plain
        # A kernel without MPTCP says so at once.
        assert told(SKEIN, "run", "--strict", "--") == ["113" if word == "hello" else word for word in plain]


@test("variables are as the options, and those that are wrong end skein run with 125")
def _(_folder):
    assert shown(SKEIN_ONLY="80", SKEIN_NOT="443", SKEIN_STRICT="1", SKEIN_OFF="no", SKEIN_SPIN="fixed") == [
        "only = 80", "not = 443", "strict = yes", "off = no", "spin = fixed"]
    assert shown("--only", "81", SKEIN_ONLY="80") == ["only = 81"] and shown(SKEIN_ONLY="", SKEIN_STRICT="") == []
    for key, value, message in (("ONLY", "80,http", "'http' is no port"), ("NOT", "1-0", "from 1 to 65535"), ("STRICT", "often", "yes or no"),
                                ("OFF", "\x1b[2J", "'?[2J'"), ("SPIN", "wild", "off, adaptive or fixed")):
        err = skein("run", "true", expect=125, **{f"SKEIN_{key}": value})[1]
        assert err.startswith(f"skein: SKEIN_{key}: '") and message in err and err.count("\n") == 2, err


@test("the header notes what it can't read in SKEIN_LOG, and goes by the rest")
def _(folder):
    path, home = config(folder, "not = 1x, 2\nnonsense\n")
    log = folder / "log"
    with server(environment(folder)) as port:
        variables = preloaded(folder, SKEIN_LOG=str(log), SKEIN_ONLY=f"http,{port}", SKEIN_SPIN="wild", **home)
        assert carrier(variables, port, run=None) == "memory"
        assert carrier(variables | {"SKEIN_NOT": f"x,{port}"}, port, run=None) == "tcp"
    lines = log.read_text().splitlines()
    for start in (f"skein: {path}:1: '1x' is no port", f"skein: {path}:2: 'nonsense' is no setting",
                  "skein: SKEIN_ONLY: 'http' is no port", "skein: SKEIN_SPIN: 'wild' is no way to wait", "skein: SKEIN_NOT: 'x' is"):
        assert any(line.startswith(start) for line in lines), (start, lines)


@test("the user's file holds where nothing nearer is set, key by key")
def _(folder):
    path, home = config(folder, "# mine\n\n  only=80 , 443 # web\nnot = 22\nnot\t=\t23\nstrict = yes\nspin = off\n")
    assert shown(**home) == ["only = 80, 443", "not = 22, 23", "strict = yes", "spin = off"]
    assert shown("--only", "8080", SKEIN_STRICT="no", **home) == ["only = 8080", "not = 22, 23", "strict = no", "spin = off"]
    assert shown(SKEIN_NOT="none", SKEIN_SPIN="fixed", **home)[1:] == ["not = none", "strict = yes", "spin = fixed"]
    out = skein("run", "--only", "1", "--check", PYTHON, **home)[0]
    assert "only = 1  # --only (SKEIN_ONLY)\n" in out and f"not = 22, 23  # {path}\n" in out, out


@test("the user's file is found by XDG_CONFIG_HOME, else HOME; a relative one, and none, are no file")
def _(folder):
    config(folder, "not = 22\n")
    (folder / "config").rename(folder / ".config")
    found = ["not = 22"]
    assert shown(HOME=str(folder), XDG_CONFIG_HOME=None) == found and shown(XDG_CONFIG_HOME=f"{folder}/.config") == found
    assert shown(HOME=str(folder), XDG_CONFIG_HOME="") == found
    assert shown(HOME=str(folder), XDG_CONFIG_HOME=str(folder / "none")) == []
    os.chdir(folder)
    assert shown(HOME="/", XDG_CONFIG_HOME=".config") == [] and shown(HOME=".", XDG_CONFIG_HOME=None) == []
    assert shown(HOME=None, XDG_CONFIG_HOME=None) == [] and shown(HOME="/x" * 4000, XDG_CONFIG_HOME=None) == []


@test("a section is for the programs of its name; its keys take the place of the general ones")
def _(folder):
    _, home = config(folder, f"""not = 1
strict = yes
[program {NAME}]
not = 2
[program other]
not = 3
off = yes
[ program   {NAME[:-2]}* ]
not = 4
strict = no
""")
    assert shown(**home) == ["not = 2, 4", "strict = no"]
    assert shown(program="ls", **home) == ["not = 1", "strict = yes"]
    script = folder / "script"
    script.write_text(f"#!/usr/bin/env -S {PYTHON} -I\n")
    script.chmod(0o755)
    assert shown(program=str(script), **home) == ["not = 2, 4", "strict = no"], "a script goes by its interpreter"
    other = folder / "other"
    other.symlink_to(PYTHON)
    assert shown(program=str(other), **home) == ["not = 2, 4", "strict = no"], "a link goes by what it leads to"


@test("the header goes by the sections as skein run does")
def _(folder):
    with server(environment(folder)) as port:
        for number, (section, carried) in enumerate(((NAME, "tcp"), ("other", "memory"), ("py*", "tcp"), ("*", "tcp"), (f"{NAME}x", "memory"),
                                                     (NAME[:-1], "memory"), ("x*", "memory"))):
            _, home = config(folder, f"[program {section}]\nnot = {port}\n")
            assert carrier(environment(folder, **home), port) == carried, section
            assert (f"not = {port}" in shown(**home)) == (carried == "tcp"), section
        _, home = config(folder, f"[program copy]\nnot = {port}\n")
        copy = folder / "copy"
        copy.symlink_to(PYTHON)
        assert carrier(environment(folder, **home), port, program=str(copy)) == "memory", "the executable is the name"


@test("off in a file switches off, says so, and is refused under --strict")
def _(folder):
    path, home = config(folder, f"[program {NAME}]\noff = yes\n")
    with server(environment(folder)) as port:
        assert carrier(environment(folder, **home), port) == "tcp"
        assert carrier(environment(folder, SKEIN_OFF="no", **home), port) == "memory"
    one_line(skein("run", PYTHON, "-c", "", **home)[1], f"switched off by {path} [program]", "plain TCP")
    one_line(skein("run", "--strict", PYTHON, expect=125, **home)[1], "switched off", "--strict")
    show = ["sh", "-c", "echo $LD_PRELOAD"]
    assert "libskein-preload.so" in skein("run", *show, SKEIN_OFF="yes")[0], "what it starts may have other rules"


@test("a listener that a program inherits is TCP's alone where its rules say so")
def _(folder):
    inherit = """import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
listener.set_inheritable(True)
os.execve(sys.argv[1], ["copy", "-c", sys.argv[2], str(listener.fileno())], os.environ | {"PYTHONHOME": sys.base_prefix})"""
    accept = """import socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
connection = listener.accept()[0]
while data := connection.recv(4096): connection.sendall(data)"""
    copy = folder / "copy"
    shutil.copy(os.path.realpath(PYTHON), copy)
    for rule, carried in (("off = yes", "tcp"), ("not = any", "tcp"), ("spin = off", "memory")):
        _, home = config(folder, f"[program copy]\n{rule}\n")
        with subprocess.Popen([PYTHON, "-c", inherit, copy, accept], stdout=subprocess.PIPE, env=preloaded(folder, **home)) as process:
            port = int(process.stdout.readline())
            assert carrier(environment(folder), port) == carried, rule
            assert process.wait(WATCHDOG_SECONDS) == 0, rule


@test("strict in a file refuses programs out of reach")
def _(folder):
    path, home = config(folder, "strict = yes\n")
    program = folder / "program"
    program.write_bytes(b"\x7fELF\x01" + bytes(100))
    program.chmod(0o755)
    one_line(skein("run", str(program), expect=125, **home)[1], "32-bit", f"because of {path}")


@test("each mistake in a file is named with its line and what to do, and nothing is started")
def _(folder):
    mistakes = {"onyl = 80": "'onyl' is no key; there are only, not", "only 80": "'only 80' is no setting; write KEY = VALUE",
                "only =": "'only' has no value", "only = 80, x": "'x' is no port", "strict = 2": "'2' is no answer; write yes or no",
                "spin = 5": "'5' is no way to wait", "[program]": "'[program]' is no section", "[program x": "'[program x' is no section",
                "[group x]": "'[group x]' is no section", "= 5": "'' is no key", "]": "']' is no setting", "[]": "'[]' is no section",
                "only = \u00e9": "'??' is no port", "only = none, 1": "'none' is a list by itself"}
    for mistake, message in mistakes.items():
        path, home = config(folder, f"# one\nspin = off\n[program none]\n{mistake}")
        err = skein("run", "sh", "-c", "echo started", expect=125, **home)[1]
        assert err.startswith(f"skein: {path}:4: {message}") and err.count("\n") == 2, (mistake, err)
        assert "nothing is started" in err
    path, home = config(folder, "x\n" * 50)
    err = skein("run", "true", expect=125, **home)[1]
    assert err.count("\n") == 12 and f"{path}:10: " in err and "and 40 more mistakes" in err, err


@test("line ends of any system, none at the end, and blanks anywhere are no mistakes")
def _(folder):
    for text in ("not = 22", "not = 22\r\n", "\n\nnot = 22\n", "\tnot=22 \t#\r\n", "#\r\n#not = 23\nnot = 22 #not = 23", "not = 22\n \n\t\n#",
                 "[program none]\r\n[program *]\r\nnot = 22\r\n"):
        assert shown(**config(folder, text)[1]) == ["not = 22"], text
    assert shown(**config(folder, "")[1]) == []


def ignored(folder, home, *words):
    """`skein run` says why and goes on without the file; the header does the same."""
    out, err = skein("run", "sh", "-c", "echo started", **home)
    assert out == "started\n"
    one_line(err, str(folder), "ignored", *words)
    log = folder / "log"
    subprocess.run([PYTHON, "-c", ""], env=preloaded(folder, SKEIN_LOG=str(log), **home), check=True)
    one_line(log.read_text(), "ignored", *words)


@test("a file that another user may have written is ignored, and it is said")
def _(folder):
    path, home = config(folder, "not = 22\n")
    for mode in (0o664, 0o646, 0o622):
        path.chmod(mode)
        ignored(folder, home, "chmod go-w")
        (folder / "log").unlink()
    path.chmod(0o600)
    assert shown(**home) == ["not = 22"]
    if os.geteuid() != 0:
        raise Skip("another owner: needs root")
    os.chown(path, 65534, 65534)
    ignored(folder, home, "another user")


@test("a symbolic link, a folder, a FIFO and a device in the place of the file are ignored, without waiting")
def _(folder):
    path, home = config(folder, "not = 22\n", "real")
    path = path.with_name("skein.conf")
    for make, words in ((lambda: path.symlink_to("real"), "symbolic link"), (lambda: path.symlink_to("/dev/zero"), "symbolic link"),
                        (path.mkdir, "no plain file"), (lambda: os.mkfifo(path), "no plain file")):
        make()
        ignored(folder, home, words)
        (folder / "log").unlink()
        path.rmdir() if path.is_dir() else path.unlink()


@test("a file that is huge, or no text, is a mistake, and the header does without it")
def _(folder):
    dice = random.Random(1)
    with server(environment(folder)) as port:
        rule = f"not = {port}\n".encode()
        for content, message in ((rule + b"#" * 65536, "larger than 64 KiB"), (rule + b"\n\0\n", ":3 is no text"), (rule + b"\x1b", ":2 is no text"),
                                 (rule + dice.randbytes(60000), " is no text")):
            path, home = config(folder, content)
            err = skein("run", "true", expect=125, **home)[1]
            assert err.startswith(f"skein: {path}") and message in err, err
            assert carrier(preloaded(folder, **home), port, run=None) == "memory"
        assert shown(**config(folder, rule + b"#" * (65536 - len(rule)))[1]) == [rule.decode().strip()]


@test("three hundred files of noise are read without a crash, by the command as by the header")
def _(folder):
    dice = random.Random(7)
    words = [b"only", b"not", b"strict", b"=", b",", b"[", b"]", b"program", b"*", b"::", b":", b".", b"/", b"-", b"1", b"65535", b"127.0.0.1",
             b"fe80", b"none", b"any", b"yes", b" ", b"\t", b"\n", b"\r", b"#", b"\xff", bytes([dice.randrange(256)])]
    for number in range(300):
        _, home = config(folder, b"".join(dice.choices(words, k=dice.randrange(200))))
        assert subprocess.run(["/bin/true"], env=preloaded(folder, **home)).returncode == 0
        if number % 10 == 0:
            result = subprocess.run([SKEIN, "run", "true"], env=environment(folder, **home), capture_output=True)
            assert result.returncode in (0, 125) and (result.stderr == b"") == (result.returncode == 0), result
