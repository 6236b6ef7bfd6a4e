"""Containers that share what the recipe says meet in memory; those that must not meet don't."""

import json
import subprocess

from carrier import carrier, environment, server
from containers import Container, need_containers
from harness import CHECKOUT, SKEIN, Skip, test


@test("a container in the host's network meets the host's programs, each way")
def _(folder):
    need_containers(folder)
    container = Container(folder, "one")
    with container.server() as port:
        assert carrier(environment(folder), port) == "memory"
        assert carrier(environment(folder), port, run=None) == "tcp", "a client without Skein is served too"
    with server(environment(folder)) as port:
        assert container.carrier(port) == "memory"
        assert container.carrier(port, preload=False) == "tcp"


@test("two containers in one network meet, whatever else they don't share")
def _(folder):
    need_containers(folder)
    with Container(folder, "one").server() as port:
        assert Container(folder, "two").carrier(port) == "memory"


@test("with the runtime folder shared, the host lists the containers' sockets, by its own process numbers")
def _(folder):
    need_containers(folder)
    runtime = folder / "run"
    runtime.mkdir()
    runtime.chmod(0o1777)
    for processes in ("own", "host"):
        container = Container(folder, processes, processes=processes, runtime=runtime)
        with container.server() as port:
            result = subprocess.run([SKEIN, "ls", "--json"], capture_output=True, text=True, env=environment(folder, SKEIN_DIR=str(runtime)))
            listed, = json.loads(result.stdout)["sockets"]
            assert listed["local"] == f"127.0.0.1:{port}", listed
            numbers = next(line for line in open(f"/proc/{listed['pid']}/status") if line.startswith("NSpid:")).split()[1:]
            assert len(numbers) == (2 if processes == "own" else 1), numbers


@test("the machine's rules hold in a container that has them, and at any other end")
def _(folder):
    need_containers(folder)
    rules = folder / "rules"
    rules.mkdir()
    (rules / "skein.conf").write_text("not = 127.0.0.0/8\n")
    ruled, free = Container(folder, "ruled", rules=rules), Container(folder, "free")
    with free.server() as port:
        assert free.run("true") == "" and ruled.carrier(port, SKEIN_NOT="none") == "tcp" and carrier(environment(folder), port) == "memory"
    with ruled.server(SKEIN_NOT="none") as port:
        assert carrier(environment(folder), port) == "tcp", "the client has no such rule"


@test("containers with networks of their own don't meet, with the same folder and the same user")
def _(folder):
    need_containers(folder)
    runtime = folder / "run"
    runtime.mkdir()
    runtime.chmod(0o1777)
    one, other = (Container(folder, name, network="own", runtime=runtime) for name in ("one", "other"))
    with one.server(port=8000):
        # Nothing of it is in the other's network: neither the port nor the name of the hidden listener.
        assert other.carrier(8000) == "errno 111"
        assert carrier(environment(folder), 8000) == "errno 111"
        names = "print([line.split()[-1] for line in open('/proc/net/unix') if '@skein' in line])"
        assert other.run("python3", "-c", names) == "[]"
        within = ("import socket\nlistener = socket.create_server(('127.0.0.1', 8000))\n"
                  "client = socket.create_connection(('127.0.0.1', 8000))\nprint(listener.accept()[1][0])")
        assert other.run("python3", "-c", within) == "127.0.0.1", "the port is free here"


@test("a name that is known is of no use in another network")
def _(folder):
    need_containers(folder)
    with server(environment(folder)) as port:
        assert carrier(environment(folder), port) == "memory"
        names = [line.split()[-1] for line in open("/proc/net/unix") if "@skein/" in line and line.split()[3] == "00010000"]
        assert names, "the listener has a hidden one"
        call = ("import socket, sys\ncaller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
                "print(caller.connect_ex('\\0' + sys.argv[1]))")
        near, far = Container(folder, "near"), Container(folder, "far", network="own")
        for name in names:
            assert near.run("python3", "-c", call, name[1:], preload=False) == "0"
            assert far.run("python3", "-c", call, name[1:], preload=False) == "111"


@test("in one network, switching Skein off in one container keeps the two on TCP")
def _(folder):
    need_containers(folder)
    one, other = Container(folder, "one"), Container(folder, "other")
    with one.server() as port:
        assert other.carrier(port, SKEIN_OFF="1") == "tcp" and other.carrier(port) == "memory"
    with one.server(SKEIN_OFF="1") as port:
        assert other.carrier(port) == "tcp"
    rules = folder / "rules"
    rules.mkdir()
    (rules / "skein.conf").write_text("off = yes\n")
    with Container(folder, "off", rules=rules).server() as port:
        assert other.carrier(port) == "tcp"


@test("STP sockets meet where the runtime folder is shared too")
def _(folder):
    need_containers(folder)
    (CHECKOUT / "build/tests").mkdir(exist_ok=True)
    for name in ("server", "client"):
        built = subprocess.run(["cc", f"-I{CHECKOUT}/include", CHECKOUT / f"Tests/Library/{name}.c", "-o", CHECKOUT / f"build/tests/recipe-{name}",
                                f"-L{CHECKOUT}/build/lib", "-lskein", "-Wl,-rpath,/opt/skein/lib"], capture_output=True, text=True)
        if built.returncode:
            raise Skip(f"its programs can't be built: {built.stderr.splitlines()[-1]}")
    runtime = folder / "run"
    runtime.mkdir()
    runtime.chmod(0o1777)
    one, other, apart = (Container(folder, name, runtime=shared) for name, shared in (("one", runtime), ("other", runtime), ("apart", None)))
    with subprocess.Popen(one.command("/opt/skein/tests/recipe-server", "/dev/null", preload=False), stdout=subprocess.PIPE) as process:
        port = process.stdout.readline().decode().split()[1]
        call = ["sh", "-c", '"$@" 2>/dev/null; echo $?', "-", "/opt/skein/tests/recipe-client", port, "/etc/passwd"]
        assert apart.run(*call, preload=False) != "0"
        assert other.run(*call, preload=False) == "0"
        assert process.wait(60) == 0
