"""The machine's own rules, in /etc/skein: what they forbid nobody allows. In mount namespaces: the machine's
own /etc is not touched."""

import os
import pathlib
import random
import shutil
import subprocess

from carrier import PYTHON, SERVER, CLIENT, environment
from harness import SKEIN, WATCHDOG_SECONDS, Skip, test

# What programs read in /etc on their way.
NEEDED = ["passwd", "group", "hosts", "nsswitch.conf", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives"]


class Machine:
    """A machine whose /etc/skein/skein.conf is this text."""

    def __init__(self, folder, text, mode=0o644):
        self.folder, self.etc = folder, folder / "etc"
        shutil.rmtree(self.etc, ignore_errors=True)
        self.file = self.etc / "skein/skein.conf"
        self.file.parent.mkdir(parents=True)
        subprocess.run(["cp", "-a", *(path for name in NEEDED if (path := pathlib.Path("/etc", name)).exists()), self.etc], check=True)
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.file.chmod(mode)
        self.run("true")

    def command(self, *words):
        rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        inside = 'mount --bind "$0" /etc && exec "$@"'
        return ["unshare", "--mount", *rights, "sh", "-c", inside, self.etc, *words]

    def run(self, *words, expect=0, **variables):
        result = subprocess.run(self.command(*words), capture_output=True, timeout=WATCHDOG_SECONDS,
                                env=environment(self.folder, **variables), text=True)
        if result.returncode and words == ("true",):
            raise Skip(f"no mount namespace: {result.stderr.strip()}")
        assert result.returncode == expect, f"{words} ended with {result.returncode}, not {expect}: {result}"
        return result.stdout, result.stderr

    def shown(self, *options, **variables):
        out, err = self.run(SKEIN, "run", *options, "--check", PYTHON, **variables)
        assert err == "", err
        return [line.split("  # ")[0] for line in out.splitlines()[1:]]

    def carrier(self, host="127.0.0.1", bound=None, server_run=(), client_run=(), dialled=None, **variables):
        """What carries the bytes between a server and a client of this machine."""
        with subprocess.Popen(self.command(SKEIN, "run", *server_run, "--", PYTHON, "-c", SERVER, bound or host, "0"),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              env=environment(self.folder, **variables)) as server:
            port = server.stdout.readline().decode().strip()
            options = [word.replace("PORT", port) for word in client_run]
            out, _ = self.run(SKEIN, "run", *options, "--", PYTHON, "-c", CLIENT, dialled or host, port, **variables)
            server.stdin.close()
            server.wait(WATCHDOG_SECONDS)
        return out.strip()


def own(folder, text):
    """The user's own file, beside the machine's; what names it."""
    path = folder / "config/skein/skein.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    return {"XDG_CONFIG_HOME": str(folder / "config")}


@test("what the machine's file forbids no file, variable or option allows")
def _(folder):
    home = own(folder, "only = any\nnot = none\noff = no\nstrict = no\n")
    lifted = {"SKEIN_ONLY": "any", "SKEIN_NOT": "none", "SKEIN_OFF": "no", "SKEIN_STRICT": "no"}
    options = ["--only", "any", "--not", "none"]
    for rule in ("not = any", "not = 127.0.0.0/8", "not = 1-65535", "only = 1-1023", "only = none", "only = 10.0.0.0/8,::1", "off = yes"):
        machine = Machine(folder, rule + "\n")
        for ways in ({}, home, lifted, home | lifted):
            assert machine.carrier(server_run=options, client_run=options, **ways) == "tcp", (rule, ways)
    machine = Machine(folder, "strict = yes\n")
    plain = "errno 113"
    for ways in ({}, home, lifted):
        assert machine.carrier(server_run=["--not", "any"], client_run=[], **ways) == plain, ways


@test("a user may narrow what the machine allows, and what it merely sets first can be changed")
def _(folder):
    machine = Machine(folder, "only = 127.0.0.0/8\nnot = 22\nspin = off\nstrict = no\noff = no\n")
    assert machine.shown() == ["only = 127.0.0.0/8", "not = 22", "strict = no", "off = no", "spin = off"]
    assert machine.carrier() == "memory"
    assert machine.carrier(client_run=["--not", "PORT"]) == "tcp" and machine.carrier(client_run=["--only", "22"]) == "tcp"
    assert machine.carrier(**own(folder, "off = yes\n")) == "tcp" and machine.carrier(SKEIN_OFF="1") == "tcp"
    narrowed = machine.shown("--only", "80", "--strict", "--spin", "fixed", **own(folder, "not = 443\nspin = adaptive\n"))
    assert narrowed == ["only = 127.0.0.0/8", "not = 22", "off = no", "only = 80", "not = 443", "strict = yes", "spin = fixed"]


@test("run --check shows what holds: what the machine forbids no other line takes back")
def _(folder):
    lifted = {"SKEIN_ONLY": "any", "SKEIN_NOT": "none", "SKEIN_OFF": "no", "SKEIN_STRICT": "no"}
    rules = ["only = 8000-8999", "not = 8400", "strict = yes", "off = yes"]
    assert Machine(folder, "\n".join(rules) + "\n").shown(**lifted) == rules
    assert Machine(folder, "strict = no\n").shown(**lifted) == ["only = any", "not = none", "strict = no", "off = no"]


@test("an address that the machine rules out is TCP, while the others of the same listener are in memory")
def _(folder):
    for rule in ("not = 127.0.0.2", "only = 127.0.0.1"):
        machine = Machine(folder, rule + "\n")
        for strict in ([], ["--strict"]):
            def dial(address):
                return machine.carrier(bound="0.0.0.0", dialled=address, server_run=strict, client_run=strict)
            assert dial("127.0.0.1") == "memory" and dial("127.0.0.2") == "tcp", (rule, strict)
        assert machine.carrier("127.0.0.2") == "tcp"


@test("the machine's sections are for the programs of their name, and final too")
def _(folder):
    name = os.path.basename(os.path.realpath(PYTHON))
    machine = Machine(folder, f"off = yes\n[program {name}]\noff = no\n")
    assert machine.carrier() == "memory"
    assert "switched off by /etc/skein/skein.conf" in machine.run(SKEIN, "run", "true")[1]
    machine = Machine(folder, f"[program {name}]\nnot = any\n")
    assert machine.carrier(**own(folder, f"[program {name}]\nnot = none\n")) == "tcp"


def why(machine, client_run=()):
    """What `skein why` says of a server's listener, and of its one connection."""
    client = CLIENT.replace("connection.sendall", "print(connection.fileno(), flush=True); sys.stdin.read(); connection.sendall")
    with subprocess.Popen(machine.command(SKEIN, "run", "--", PYTHON, "-c", SERVER, "127.0.0.1", "0"), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env=environment(machine.folder)) as server:
        port = server.stdout.readline().decode().strip()
        with subprocess.Popen(machine.command(SKEIN, "run", *client_run, "--", PYTHON, "-c", client, "127.0.0.1", port),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(machine.folder)) as process:
            process.stdout.readline()
            # Seen from outside of the namespace: the rules are those of the process's own /etc.
            outside = subprocess.run([SKEIN, "why", str(process.pid)], capture_output=True, text=True, env=environment(machine.folder))
            process.stdin.close()
            process.wait(WATCHDOG_SECONDS)
        listener = subprocess.run([SKEIN, "why", str(server.pid)], capture_output=True, text=True, env=environment(machine.folder))
        server.stdin.close()
        server.wait(WATCHDOG_SECONDS)
    return listener.stdout, outside.stdout


@test("why names the file whose rule it was, also of a process with another /etc")
def _(folder):
    if os.geteuid() != 0:
        raise Skip("needs root: from outside of a user namespace its root's file is a user's")
    for rule, words in (("not = any", "the rule 'not' of /etc/skein/skein.conf excludes 127.0.0.1:"),
                        ("only = 1", "the rule 'only' of /etc/skein/skein.conf leaves out 127.0.0.1:"),
                        ("[program py*]\noff = yes", "it is switched off by /etc/skein/skein.conf [program]")):
        for said in why(Machine(folder, rule)):
            assert words in said, (rule, said)


@test("a machine's file that others may have written is ignored, and it is said")
def _(folder):
    machine = Machine(folder, "not = any\n")

    def ignored(*words):
        err = machine.run(SKEIN, "run", "true")[1]
        assert err.startswith("skein: /etc/skein/skein.conf ") and err.count("\n") == 1, err
        assert all(word in err for word in ("ignored", *words)), err
        assert machine.carrier() == "memory"
    for mode in (0o664, 0o646):
        machine.file.chmod(mode)
        ignored("chmod go-w")
    machine.file.rename(machine.file.with_name("real"))
    machine.file.symlink_to("real")
    ignored("symbolic link")
    machine.file.unlink()
    machine.file.mkdir()
    ignored("no plain file")
    machine.file.rmdir()
    os.mkfifo(machine.file)
    ignored("no plain file")
    if os.geteuid() != 0:
        raise Skip("another owner: needs root")
    machine = Machine(folder, "not = any\n")
    os.chown(machine.file, 65534, 65534)
    ignored("chown root")


@test("a machine's file of root that can't be read leaves everything on TCP, since nobody knows what it forbids")
def _(folder):
    dice = random.Random(2)
    for content, message in ((b"#" * 65537, "larger than 64 KiB"), (b"spin = off\n\0", ":2 is no text"), (dice.randbytes(50000), "is no text")):
        machine = Machine(folder, content)
        err = machine.run(SKEIN, "run", "true", expect=125)[1]
        assert err.startswith("skein: /etc/skein/skein.conf") and message in err, err
        preload = str(SKEIN.parents[1] / "lib/libskein-preload.so")
        with subprocess.Popen([PYTHON, "-c", SERVER, "127.0.0.1", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env=environment(folder, LD_PRELOAD=preload)) as server:
            port = server.stdout.readline().decode().strip()
            assert machine.run(PYTHON, "-c", CLIENT, "127.0.0.1", port, LD_PRELOAD=preload)[0] == "tcp\n", message
            server.stdin.close()
            server.wait(WATCHDOG_SECONDS)
    # One that only root may read is for its users the same.
    if os.geteuid() != 0 or not all(parent.stat().st_mode & 1 for parent in SKEIN.parents):
        raise Skip("unreadable by the user: needs root, and a command in an open folder")
    machine = Machine(folder, "not = any\n", mode=0o600)
    err = machine.run("setpriv", "--reuid", "65534", "--clear-groups", SKEIN, "run", "true", expect=125)[1]
    assert "skein.conf can't be read; look at its permissions" in err, err


@test("a mistake in the machine's file is named, and the header goes by the rest")
def _(folder):
    machine = Machine(folder, "not = 22, x, 127.0.0.0/8\nfoo\n")
    err = machine.run(SKEIN, "run", "true", expect=125)[1]
    assert "skein: /etc/skein/skein.conf:1: 'x' is no port" in err and "skein: /etc/skein/skein.conf:2: 'foo' is no setting" in err, err
    preload = str(SKEIN.parents[1] / "lib/libskein-preload.so")
    log = folder / "log"
    machine.run("true", LD_PRELOAD=preload, SKEIN_LOG=str(log))
    assert "skein.conf:1: 'x' is no port" in log.read_text(), log.read_text()


@test("a program's start costs one attempt to open each file, and one to read each that is there")
def _(folder):
    if not shutil.which("strace"):
        raise Skip("needs strace")
    preload = str(SKEIN.parents[1] / "lib/libskein-preload.so")
    home = own(folder, "not = 22\n[program x]\nnot = 23\n")

    def calls(machine, **variables):
        _, err = machine.run("strace", "-f", "-e", "trace=openat,read", "-E", f"LD_PRELOAD={preload}", "/bin/true", **variables)
        lines = [line for line in err.splitlines() if "skein.conf" in line]
        return lines, err.count("not = 22")
    machine = Machine(folder, "not = 22\n")
    lines, reads = calls(machine, **home)
    assert len(lines) == 2 and reads == 2, lines
    machine.file.unlink()
    shutil.rmtree(folder / "config")
    lines, reads = calls(machine, **home)
    assert len(lines) == 2 and all("ENOENT" in line for line in lines) and reads == 0, lines
