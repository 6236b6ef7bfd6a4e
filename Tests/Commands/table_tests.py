"""The socket table and the totals of real programs: what is recorded, who takes it back, and what no damage can do."""

import contextlib
import fcntl
import json
import os
import socket
import subprocess

from harness import Skip, compile_c, one_line, skein, test
from programs import LISTEN, Remote
from tables import OWN, TOTALS


def shared(folder):
    folder.chmod(0o1777)
    return folder


def ls(folder, warnings=0):
    out, err = skein("ls", "--json", SKEIN_DIR=folder)
    assert err.count("\n") == warnings, f"{warnings} warnings expected: {err!r}"
    return json.loads(out)


def connections(folder, **wanted):
    """Those that `skein ls` shows and that are so."""
    return [one for one in ls(folder)["sockets"] if all(one[name] == value for name, value in (wanted | {"peer": one["peer"]}).items())
            and one["peer"] is not None]


@contextlib.contextmanager
def pair(folder, **environment):
    """A server and a client with a connection over memory."""
    with Remote(shared(folder), **environment) as server, Remote(folder, **environment) as client:
        port = server.do(LISTEN)
        client.connect(port)
        server.accept()
        server.works_with(client)
        yield server, client, port


def root_only():
    if os.geteuid() != 0:
        raise Skip("needs root")


def counted(folder):
    """Connections in the file of our user's totals."""
    return int.from_bytes((folder / OWN / TOTALS).read_bytes()[32:40], "little")


@contextlib.contextmanager
def mounted(folder, options):
    """A tmpfs in the folder's place."""
    root_only()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode:
        raise Skip("mounting is not permitted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


# What is recorded

@test("bytes, waiting data and state of a connection are seen from both ends while it runs")
def _(folder):
    with pair(folder) as (server, client, port):
        client.do("connection.sendall(bytes(5000))")
        server.do("result = connection.recv(1000)")
        sent, = connections(folder, role="client")
        received, = connections(folder, role="server")
        assert (sent["bytes_out"], sent["waiting_out"], sent["bytes_in"], sent["waiting_in"]) == (5005, 4000, 5, 0), sent
        assert (received["bytes_in"], received["waiting_in"], received["waiting_out"]) == (1005, 4000, 0), received
        assert sent["peer"] == received["local"] == f"127.0.0.1:{port}" and sent["local"] == received["peer"]
        client.do("connection.shutdown(socket.SHUT_WR)")
        assert {one["role"]: one["state"] for one in connections(folder)} == {"client": "fin_wait", "server": "close_wait"}
        client.do("connection.close()")
        assert [(one["role"], one["state"]) for one in connections(folder)] == [("server", "close_wait")]


FALL_BACKS = {
    "the listener is plain": ("connection.connect(peer)", {}, "does not run under skein"),
    "a rule excludes the port": ("connection.connect(peer)", {"SKEIN_ONLY": "1"}, "a rule excludes it"),
    "the socket was duplicated": ("copy = connection.dup(); connection.connect(peer)", {}, "duplicated"),
    "the socket is bound elsewhere": ("connection.bind(('127.0.0.2', 0)); connection.connect(peer)", {}, "bound to another address"),
    "connect doesn't wait": ("connection.setblocking(False); connection.connect_ex(peer); connection.connect_ex(peer)", {},
                             "does not run under skein"),
}


def add_fall_back(name, code, environment, words):
    @test(f"where {name}, the reason is recorded and told as long as the socket lives")
    def _(folder):
        with Remote(shared(folder), **environment) as client:
            plain = "the listener is plain" in name or "doesn't wait" in name
            server = socket.create_server(("127.0.0.1", 0)) if plain or environment else None
            with server or Remote(folder) as listener:
                port = server.getsockname()[1] if server else listener.do(LISTEN)
                fd = client.do(f"connection = socket.socket(); peer = ('127.0.0.1', {port}); {code}; result = connection.fileno()")
                found, = connections(folder, role="client")
                assert found["fd"] == fd and found["carrier"] == "tcp" and words in found["reason"], found
                assert found["peer"] == f"127.0.0.1:{port}", found
                assert "is on TCP, because" in skein("why", f"{client.pid}:{fd}", SKEIN_DIR=folder)[0]
            # The other end is gone; the reason is not.
            found, = connections(folder, role="client")
            assert words in found["reason"], found
            told = skein("why", f"{client.pid}:{fd}", SKEIN_DIR=folder)[0]
            assert words in told or "rule" in told, told
            counts = ls(folder)["fall_backs"]
            assert [one["connections"] for one in counts if words in one["reason"]] == [1], counts
            client.do("connection.close()" + ("; copy.close()" if "copy" in code else ""))
            assert connections(folder) == []


for fall_back in FALL_BACKS.items():
    add_fall_back(fall_back[0], *fall_back[1])


@test("a listener that a rule keeps to TCP says so, and so do its connections")
def _(folder):
    with Remote(shared(folder), SKEIN_ONLY="1") as server:
        port = server.do(LISTEN)
        with socket.create_connection(("127.0.0.1", port)):
            fd = server.accept()
            assert {one["role"]: one["reason"] for one in ls(folder)["sockets"]} == dict.fromkeys(
                ("listener", "server"), "a rule excludes it (--only, --not)")
            told = skein("why", str(server.pid), SKEIN_DIR=folder)[0]
            assert f"listens for TCP alone, because the rule 'only'" in told and f"{fd}: 127.0.0.1:{port} to 127.0.0.1:" in told, told


@test("a connect over TCP that failed leaves the socket free to go over memory")
def _(folder):
    with Remote(shared(folder)) as server, Remote(folder) as client:
        port = server.do("keeper = socket.socket(); keeper.setsockopt(1, 2, 1); keeper.bind(('127.0.0.1', 0)); "
                         "result = keeper.getsockname()[1]")
        client.do(f"connection = socket.socket(); connection.setblocking(False); connection.connect_ex(('127.0.0.1', {port}))")
        assert client.do("import select; select.select([], [connection], [], 20); result = connection.getsockopt(1, 4)") == 111
        server.do("listener = keeper; listener.listen()")
        client.do(f"connection.setblocking(True); connection.connect(('127.0.0.1', {port}))")
        assert [one["carrier"] for one in connections(folder, role="client")] == ["memory"]


@test("a record follows its socket from descriptor to descriptor")
def _(folder):
    with pair(folder) as (server, client, port), socket.create_connection(("127.0.0.1", port)) as plain:
        server.accept("carried")
        for name in ("connection", "carried"):
            moved = server.do(f"number = os.dup({name}.fileno()); {name}.close(); result = number")
            assert moved in [one["fd"] for one in connections(folder, role="server")], name
        assert len(connections(folder, role="server")) == 2
        told = skein("why", str(server.pid), SKEIN_DIR=folder)[0]
        assert "on shared memory, peer" in told and "is on TCP, because of the peer, process" in told, told


# Whose the records are

@test("a forked child has records of its own, and nothing of its parent's table")
def _(folder):
    with pair(folder) as (server, client, port):
        server.do("""
ours, theirs = socket.socketpair()
child = os.fork()
if child == 0:
    theirs.close()
    connection.sendall(b"from the child")
    ours.recv(1)
    os._exit(0)
ours.close()""")
        assert client.do("result = connection.recv(99)") == b"from the child"
        child = server.do("result = child")
        found = {one["pid"]: one for one in connections(folder, role="server")}
        assert found.keys() == {server.pid, child} and found[child]["bytes_out"] == 14 and found[server.pid]["bytes_out"] == 5, found
        assert len([one for one in ls(folder)["sockets"] if one["role"] == "listener"]) == 2
        inodes = [{line.split()[4] for line in open(f"/proc/{pid}/maps") if "memfd:skein-sockets" in line} for pid in (server.pid, child)]
        assert len(inodes[0]) == len(inodes[1]) == 1 and inodes[0] != inodes[1], inodes
        server.do("theirs.close(); os.waitpid(child, 0)")


@test("a forked child is shown with its connection, and what that moves is counted, however soon its parent closes it")
def _(folder):
    with Remote(shared(folder)) as program:
        port = program.do(LISTEN)
        before = ls(folder)["totals"]["memory_bytes_out"]
        program.do(f"""
ours, theirs = socket.socketpair()
children, clients = [], []
for _ in range(20):
    clients.append(socket.create_connection(('127.0.0.1', {port})))
    end = listener.accept()[0]
    children.append(os.fork())
    if children[-1] == 0:
        end.sendall(bytes(1000))
        theirs.send(b'r')
        theirs.recv(1)
        os._exit(0)
    end.close()
for _ in children: ours.recv(1)""")
        children = program.do("result = children")
        shown = {one["pid"] for one in connections(folder, role="server")}
        assert shown == set(children), (children, shown)
        program.do("ours.send(bytes(20)); [os.waitpid(child, 0) for child in children]")
        assert ls(folder)["totals"]["memory_bytes_out"] - before == 20000, ls(folder)["totals"]


@test("a process that becomes another user keeps nothing of the first one's to write")
def _(folder):
    root_only()
    with pair(folder) as (server, client, port):
        before = counted(folder)
        server.do("os.setgid(65534); os.setuid(65534)")
        assert not [line for line in open(f"/proc/{server.pid}/maps") if str(folder) in line]
        links = [os.readlink(f"/proc/{server.pid}/fd/{number}") for number in os.listdir(f"/proc/{server.pid}/fd")]
        assert not [link for link in links if str(folder) in link], links
        client.connect(port, "second")
        server.accept("second")
        assert server.pid in {one["pid"] for one in connections(folder)}
        after = (folder / "65534" / TOTALS).stat()
        assert after.st_uid == 65534 and after.st_size == 256
        # The client, which is still root, has counted one more; the server has not.
        assert counted(folder) == before + 1


@test("killed at any moment, a process leaves no record, and what it had counted counts")
def _(folder):
    with Remote(shared(folder)) as server:
        port = server.do(LISTEN)
        with Remote(folder) as client:
            client.connect(port)
            server.accept()
            client.process.kill()
            client.process.wait()
        assert [one["role"] for one in ls(folder)["sockets"]] == ["listener", "server"]
        server.process.kill()
        server.process.wait()
        left = ls(folder)
    assert left["sockets"] == [] and left["totals"]["memory_connections"] == 2, left


@test("a process that ends by exit, by _exit or by exec leaves exact totals")
def _(folder):
    with Remote(shared(folder)) as server:
        port = server.do(LISTEN)
        endings = ("", "os._exit(0)", "os.execv('/bin/true', ['true'])")
        for ending in endings:
            with Remote(folder) as client:
                client.do("many = []")
                for _ in range(40):
                    client.do(f"many.append(socket.create_connection(('127.0.0.1', {port})))")
                    server.accept()
                if ending != endings[2]:
                    client.do("many[-1].sendall(bytes(777))")
                if ending:
                    client.process.stdin.write(repr(ending) + "\n")
        totals = ls(folder)["totals"]
    assert totals["memory_connections"] == 2 * 3 * 40 and totals["memory_bytes_out"] == 2 * 777, totals


@test("processes that count at the same time lose nothing")
def _(folder):
    with Remote(shared(folder)) as program:
        program.do("""
children = []
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        listener = socket.create_server(('127.0.0.1', 0))
        for _ in range(30):
            one = socket.create_connection(listener.getsockname())
            listener.accept()[0].close()
        os._exit(0)
    children.append(pid)
[os.waitpid(pid, 0) for pid in children]""")
        assert counted(folder) == 20 * 30 * 2, counted(folder)


@test("who holds the totals' lock, stopped or not, holds up nobody")
def _(folder):
    with pair(folder) as (server, client, port):
        before = counted(folder)
        with open(folder / OWN / TOTALS, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            client.connect(port, "second")
            server.accept("second")
            client.do("second.close()")
            assert counted(folder) == before and ls(folder)["totals"]["memory_connections"] == 4
        client.connect(port, "second")
        server.accept("second")
        assert counted(folder) == ls(folder)["totals"]["memory_connections"] == 6


# Damage

@test("nobody can cut a table short under a running program")
def _(folder):
    with pair(folder) as (server, client, _):
        for one in (server, client):
            path = f"/proc/{one.pid}/fd/{one.descriptor('skein-sockets')}"
            try:
                os.truncate(path, 0)
                raise AssertionError("the table was cut short")
            except PermissionError:
                pass
        server.works_with(client)


@test("a table filled with noise harms no connection, and ls says which it is")
def _(folder):
    with pair(folder) as (server, client, port):
        with open(f"/proc/{server.pid}/fd/{server.descriptor('skein-sockets')}", "r+b", buffering=0) as memory:
            memory.write(os.urandom(16384))
        server.works_with(client)
        client.connect(port, "second")
        server.accept("second")
        server.do("connection.close(); second.close()")
        out, err = skein("ls", "--json", SKEIN_DIR=folder)
        one_line(err, f"process {server.pid}", "damaged")
        assert {one["pid"] for one in json.loads(out)["sockets"]} == {client.pid}


DAMAGES = {
    "cut short": lambda path: os.truncate(path, 100),
    "emptied": lambda path: os.truncate(path, 0),
    "filled with noise": lambda path: path.write_bytes(os.urandom(4096)),
    "removed": lambda path: path.unlink(),
    "replaced by a folder": lambda path: (path.unlink(), path.mkdir()),
    "replaced by a FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
    "replaced by a link": lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
}


def add_damage(name, damage):
    @test(f"totals {name} while programs run harm nothing, and are begun anew where that is possible")
    def _(folder):
        with pair(folder) as (server, client, port):
            path = folder / OWN / TOTALS
            damage(path)
            server.works_with(client)
            client.connect(port, "second")
            server.accept("second")
            server.do("second.close()")
            client.do("second.close()")
            server.works_with(client)
            if name.startswith("replaced"):
                assert f"{path} " in skein("ls", SKEIN_DIR=folder)[1]
            else:
                # One of each process' connections was counted before.
                assert 2 <= ls(folder)["totals"]["memory_connections"] <= 3


for damage_name, damage_function in DAMAGES.items():
    add_damage(damage_name, damage_function)


@test("a runtime folder on a read-only file system keeps no connection from memory, and ls says what is missing")
def _(folder):
    with mounted(folder, "ro,mode=1777"):
        with Remote(folder) as server, Remote(folder) as client:
            client.connect(server.do(LISTEN))
            server.accept()
            server.works_with(client)
            out, err = skein("ls", "--json", SKEIN_DIR=folder)
            assert [one["carrier"] for one in json.loads(out)["sockets"]] == ["memory"] * 3
            one_line(err, "and 1 others", "Read-only file system", "writable")
            # The totals are those of the processes, as long as they live.
            assert json.loads(out)["totals"]["memory_connections"] == 2


@test("a full one doesn't either, and the totals come back with the room")
def _(folder):
    with mounted(folder, "size=64k,mode=1777"):
        with open(folder / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        with Remote(folder) as server, Remote(folder) as client:
            port = server.do(LISTEN)
            client.connect(port)
            server.accept()
            server.works_with(client)
            out, err = skein("ls", "--json", SKEIN_DIR=folder)
            assert len(json.loads(out)["sockets"]) == 3
            one_line(err, "No space left on device", "free about 4 KiB")
            (folder / "filler").unlink()
            for number in range(9):
                client.connect(port, "second")
                server.accept("second")
            assert ls(folder)["totals"]["memory_connections"] == 20
        assert ls(folder)["totals"]["memory_connections"] == 20


@test("another user's folder in the place of one's own is not written to, and ls names it")
def _(folder):
    root_only()
    (shared(folder) / "0").mkdir()
    os.chown(folder / "0", 65534, 65534)
    with Remote(folder) as server, Remote(folder) as client:
        client.connect(server.do(LISTEN))
        server.accept()
        server.works_with(client)
        out, err = skein("ls", "--json", SKEIN_DIR=folder)
        assert len(json.loads(out)["sockets"]) == 3 and not any((folder / "0").iterdir())
        assert "Operation not permitted" in err and "must belong" in err, err


# Programs that allow little

@test("a program that filters its system calls ends as it means to")
def _(folder):
    program = compile_c(folder / "confined", source=r"""
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int count, char **words) {
    struct sockaddr_in address = {AF_INET, htons(atoi(words[1])), {htonl(INADDR_LOOPBACK)}, {0}};
    int fd = socket(AF_INET, SOCK_STREAM, 0), other = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (void *)&address, sizeof address) || connect(other, (void *)&address, sizeof address)) return 1;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 1, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog code = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &code)) return 2;
    if (write(fd, "works", 5) != 5) return 3;
    close(other);
    exit(count == 2 ? 7 : 8);
}""")
    with Remote(shared(folder)) as server:
        port = server.do(LISTEN)
        skein("run", str(program), str(port), expect=7, SKEIN_DIR=folder)
        assert server.do("connection = listener.accept()[0]; result = connection.recv(9)") == b"works"
        assert ls(folder)["totals"]["memory_connections"] == 3


@test("a limit of the size of files ends no program")
def _(folder):
    with Remote(shared(folder)) as server:
        port = server.do(LISTEN)
        for size in (0, 4096, 1 << 20):
            with Remote(folder, wrapper=["prlimit", f"--fsize={size}"]) as client:
                # Python ignores the signal that others end by.
                client.do("import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)")
                client.connect(port)
                server.accept()
                server.works_with(client)
            assert client.process.returncode == 0


@test("few descriptors end no program, and a table comes when there is room")
def _(folder):
    with Remote(shared(folder)) as server:
        port = server.do(LISTEN)
        # The least with which Skein keeps anything.
        with Remote(folder, wrapper=["prlimit", "--nofile=64"]) as client:
            client.do("connection = socket.socket()")
            client.do("taken = []\ntry:\n    while True: taken.append(os.dup(0))\nexcept OSError: pass")
            client.do(f"connection.connect(('127.0.0.1', {port}))")
            server.accept()
            server.works_with(client)
            assert client.descriptor("skein-sockets") is None
            client.do("[os.close(number) for number in taken]")
            client.connect(port, "second")
            server.accept("second")
            assert [one["carrier"] for one in connections(folder, role="client")] == ["memory"]


@test("a program in a root of its own is still shown")
def _(folder):
    root_only()
    with pair(folder) as (server, client, port):
        (folder / "root").mkdir()
        server.do(f"os.chroot({str(folder / 'root')!r})")
        client.connect(port, "second")
        server.accept("second")
        server.do("second.close()")
        server.works_with(client)
        out, err = skein("ls", "--json", SKEIN_DIR=folder)
        assert server.pid in {one["pid"] for one in json.loads(out)["sockets"]}
        one_line(err, f"process {server.pid}", "No such file")
        assert json.loads(out)["totals"]["memory_connections"] == 4


@test("a program that closes everything past the hooks runs on, unseen, and its files are not touched")
def _(folder):
    with pair(folder) as (server, client, port):
        hidden = client.descriptor("skein-sockets")
        kept = client.do(f"""
import ctypes
call = ctypes.CDLL(None).syscall
call(3, {hidden})
file = os.open({str(folder / "file")!r}, os.O_RDWR | os.O_CREAT)
os.write(file, b"content")
call(33, file, {hidden})
result = os.fstat({hidden}).st_size""")
        assert kept == 7
        many = 400
        client.do("many = []")
        for _ in range(many):
            client.do(f"many.append(socket.create_connection(('127.0.0.1', {port})))")
            server.accept("last")
        client.works_with(server)
        client.do("[one.close() for one in many]")
        assert (folder / "file").read_bytes() == b"content"
        assert client.pid not in {one["pid"] for one in ls(folder)["sockets"]}
