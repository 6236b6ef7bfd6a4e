"""`skein relay`: TCP programs that nothing is preloaded into, on one side or on both of an STP connection."""

import contextlib
import os
import random
import resource
import select
import socket
import struct
import subprocess
import threading
import time

from harness import Skip, compile_c, one_line, skein, test
from running import KILL, TERMINATE, Running, host, until

WATCHDOG = 60


def relay(folder, source, target, *options, **more):
    return Running(folder, "relay", *options, source, target, ready="stdout", **more)


@contextlib.contextmanager
def chain(folder, target, *options, **more):
    """TCP clients to a TCP server over STP in between. Yields the port to connect to, and both relays."""
    with relay(folder, "stp::0", f"tcp:{target}", *options, **more) as far:
        with relay(folder, "127.0.0.1:0", f"stp::{far.port}", *options, **more) as near:
            yield int(near.port), near, far


@contextlib.contextmanager
def server(serve, host="127.0.0.1"):
    """A plain TCP server in this process, a thread a connection. Yields its port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, backlog=1024) as listener:
        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection = listener.accept()[0]
                    threading.Thread(target=run, args=[connection], daemon=True).start()

        def run(connection):
            with contextlib.suppress(OSError), connection:
                serve(connection)
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def echo(connection):
    while part := connection.recv(65536):
        connection.sendall(part)


def dial(port):
    connection = socket.create_connection(("127.0.0.1", port), WATCHDOG)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection, count=None):
    """So many bytes, or all to the end."""
    parts, have = [], 0
    while count is None or have < count:
        part = connection.recv(1 << 16 if count is None else min(1 << 16, count - have))
        if not part:
            break
        parts.append(part)
        have += len(part)
    return b"".join(parts)


def ask(port, content):
    """What an echo server says to this."""
    with dial(port) as connection:
        writer = threading.Thread(target=lambda: (connection.sendall(content), connection.shutdown(socket.SHUT_WR)))
        writer.start()
        answer = receive(connection)
        writer.join(WATCHDOG)
        return answer


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# --- who talks to whom

@test("relay: a TCP client reaches an STP server")
def _(folder):
    with Running(folder, "listen", ":0", ready="stderr") as to, relay(folder, "0", to.address) as between:
        assert between.address.startswith("tcp:127.0.0.1:")
        with dial(int(between.port)) as client:
            client.sendall(b"from TCP")
            client.shutdown(socket.SHUT_WR)
            assert to.process.stdout.read() == b"from TCP"
            to.end_input(b"from STP")
            assert receive(client) == b"from STP"
        to.finish()


@test("relay: an STP client reaches a TCP server")
def _(folder):
    with server(echo) as port, relay(folder, "stp::0", f"tcp:{port}") as between:
        assert between.address.startswith("stp:")
        with Running(folder, "connect", between.address[4:]) as client:
            assert client.finish(0, b"there and back")[0] == b"there and back"


@test("relay: static programs at both ends, 8 MB each way at once")
def _(folder):
    content = random.Random(1).randbytes(8_000_000)
    (folder / "in").write_bytes(content)
    source = folder / "static.c"
    source.write_text(STATIC)
    program = compile_c(folder / "static", "-static", "-O2", source=STATIC)
    with subprocess.Popen([program, "server"], stdout=subprocess.PIPE) as far_end:
        port = int(far_end.stdout.readline())
        try:
            with chain(folder, port) as (near, *_):
                with open(folder / "in", "rb") as file:
                    result = subprocess.run([program, "client", str(near)], stdin=file, capture_output=True, timeout=WATCHDOG)
            assert result.returncode == 0 and result.stdout == content, result.stderr
        finally:
            far_end.kill()


STATIC = r"""
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static char bytes[65536];
static struct sockaddr_in any = {.sin_family = AF_INET};
static void put(int to, long count) {
    for (long done = 0, n; done < count; done += n) if ((n = write(to, bytes + done, count - done)) <= 0) exit(3);
}
/* Echoes one connection. */
static int server(void) {
    socklen_t length = sizeof any;
    long count;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(listener, (void *)&any, length);
    listen(listener, 5);
    getsockname(listener, (void *)&any, &length);
    printf("%d\n", ntohs(any.sin_port));
    fflush(stdout);
    one = accept(listener, NULL, NULL);
    while ((count = read(one, bytes, sizeof bytes)) > 0) put(one, count);
    return count != 0;
}
/* Standard input there, and what comes back to standard output, at once. */
static int client(int port) {
    long count;
    int one = socket(AF_INET, SOCK_STREAM, 0);
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    any.sin_port = htons(port);
    if (connect(one, (void *)&any, sizeof any)) return 1;
    if (fork() == 0) {
        while ((count = read(0, bytes, sizeof bytes)) > 0) put(one, count);
        return shutdown(one, SHUT_WR);
    }
    while ((count = read(one, bytes, sizeof bytes)) > 0) put(1, count);
    return count != 0;
}
int main(int count, char **words) { return count > 2 ? client(atoi(words[2])) : server(); }
"""


@test("relay: unmodified curl and python's http.server, plain at both ends, and with the server under skein")
def _(folder):
    content = random.Random(1).randbytes(20_000_000)
    (folder / "file").write_bytes(content)
    for prefix in ((), ("run",)):
        start = ["/usr/bin/python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "0", "--directory", str(folder)]
        from harness import SKEIN
        command = [SKEIN, *prefix, *start] if prefix else start
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=host(folder)) as web:
            try:
                port = web.stdout.readline().split(b"port ")[1].split()[0].decode()
                way = relay(folder, "0", f":{port}") if prefix else chain(folder, port)
                with way as there:
                    near = there.port if prefix else there[0]
                    result = subprocess.run(["curl", "-sS", f"http://127.0.0.1:{near}/file"], capture_output=True, timeout=WATCHDOG)
                    assert result.stdout == content, result.stderr
                    posted = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", f"@{folder}/file",
                                             f"http://127.0.0.1:{near}/"], capture_output=True, timeout=WATCHDOG)
                    # The server answers without reading it all; curl may see its answer or the reset.
                    assert posted.stdout in (b"501", b"000"), posted
            finally:
                web.kill()


@test("relay: IPv6, a host's name, and ports that are chosen by the system")
def _(folder):
    try:
        with server(echo, "::1") as port, chain(folder, f"[::1]:{port}") as (near, *_):
            assert ask(near, b"six") == b"six"
        with Running(folder, "listen", ":0", ready="stderr") as to, relay(folder, "[::1]:0", to.address) as between:
            assert between.address.startswith("tcp:[::1]:")
    except OSError as error:
        raise Skip(f"IPv6: {error}") from error
    # localhost may be ::1 first, where nobody listens.
    with server(echo) as port, chain(folder, f"localhost:{port}") as (near, *_):
        assert ask(near, b"name") == b"name"


# --- ends, resets, slow readers

@test("relay: a half-close is passed on, and the other way goes on")
def _(folder):
    heard = []

    def serve(connection):
        heard.append(receive(connection))
        connection.sendall(b"after your end")

    with server(serve) as port, chain(folder, port) as (near, *_):
        with dial(near) as client:
            client.sendall(b"all I have")
            client.shutdown(socket.SHUT_WR)
            assert receive(client) == b"after your end" and heard == [b"all I have"]


@test("relay: a server's end is passed on, and what the client sends still arrives")
def _(folder):
    heard = threading.Event()

    def serve(connection):
        connection.shutdown(socket.SHUT_WR)
        if receive(connection) == b"still here":
            heard.set()

    with server(serve) as port, chain(folder, port) as (near, *_):
        with dial(near) as client:
            assert receive(client) == b""
            client.sendall(b"still here")
        assert heard.wait(WATCHDOG)


@test("relay: a reset is passed on, either way")
def _(folder):
    results = []

    def serve(connection):
        order = receive(connection, 5)
        if order == b"reset":
            return reset(connection)
        connection.sendall(b"ready")
        try:
            results.append(receive(connection))
        except ConnectionResetError:
            results.append("reset")

    with server(serve) as port, chain(folder, port) as (near, *_):
        client = dial(near)
        client.sendall(b"reset")
        try:
            assert receive(client) == b"a reset, not bytes"
        except ConnectionResetError:
            pass
        client.close()
        client = dial(near)
        client.sendall(b"stay!")
        assert receive(client, 5) == b"ready"
        reset(client)
        until(lambda: results == ["reset"], f"the reset arrives: {results}")


@test("relay: a slow reader slows the writer down, in bounded memory, and gets everything in the end")
def _(folder):
    go_on = threading.Event()
    heard = []

    def serve(connection):
        go_on.wait(WATCHDOG)
        heard.append(receive(connection))

    block = random.Random(1).randbytes(1 << 20)
    with server(serve) as port, chain(folder, port) as (near, one, other):
        client = dial(near)
        client.setblocking(False)
        sent = 0
        # Until nothing has moved for half a second.
        while select.select([], [client], [], 0.5)[1]:
            with contextlib.suppress(BlockingIOError):
                sent += client.send(block[sent % len(block):])
            assert sent < 200 << 20, "the relay takes in whatever comes"
        for running in (one, other):
            assert memory(running.process.pid) < 64 << 20
        go_on.set()
        client.setblocking(True)
        client.close()
        until(lambda: heard, "everything arrives")
        assert len(heard[0]) == sent and heard[0] == (block * (sent // len(block) + 1))[:sent]


def memory(pid):
    """Bytes that only this process has."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return 1024 * sum(int(line.split()[1]) for line in file if line.startswith(("Private_Clean", "Private_Dirty")))


# --- many, and those that die

@test("relay: 1,000 connections at once, each with its own bytes")
def _(folder):
    raise_limit()
    with server(echo) as port, chain(folder, port) as (near, *_):
        clients = [dial(near) for _ in range(1000)]
        for number, client in enumerate(clients):
            client.sendall(b"%06d" % number * 500)
        for number, client in enumerate(clients):
            assert receive(client, 3000) == b"%06d" % number * 500
        for client in clients[::2]:
            client.close()
        for number, client in enumerate(clients[1::2]):
            client.sendall(b"again %d" % number)
            assert receive(client, len(b"again %d" % number)) == b"again %d" % number
            client.close()
        assert ask(near, b"one more") == b"one more"


def raise_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 8192:
        raise Skip("needs 'ulimit -Hn' of 8192")
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, hard))


@test("relay: connections that are open and idle use no processor time")
def _(folder):
    with server(echo) as port, chain(folder, port) as (near, *relays):
        clients = [dial(near) for _ in range(50)]
        for client in clients:
            client.sendall(b"x")
            receive(client, 1)
        clients[0].shutdown(socket.SHUT_WR)  # a half-closed one among them, and one whose server has ended
        assert receive(clients[0]) == b""
        time.sleep(0.3)
        before = [processor_seconds(running) for running in relays]
        time.sleep(1)
        used = [processor_seconds(running) - start for running, start in zip(relays, before)]
        assert max(used) < 0.3, f"{used} seconds in one"
        for client in clients:
            client.close()


def processor_seconds(running):
    with open(f"/proc/{running.process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@test("relay: a killed STP server is an end for its TCP client, a killed STP client one for its TCP server")
def _(folder):
    with Running(folder, "listen", ":0", ready="stderr") as to, relay(folder, "0", to.address) as between:
        with dial(int(between.port)) as client:
            client.sendall(b"x")
            assert os.read(to.process.stdout.fileno(), 1) == b"x"
            to.signal(KILL)
            assert receive(client) == b""
    heard = []

    def serve(connection):
        connection.sendall(b"hello")
        heard.append(receive(connection))

    with server(serve) as port, relay(folder, "stp::0", f"tcp:{port}") as between:
        with Running(folder, "connect", between.address[4:]) as client:
            assert os.read(client.process.stdout.fileno(), 5) == b"hello"
            client.signal(KILL)
            until(lambda: heard == [b""], f"the end arrives: {heard}")


@test("relay: a killed relay is an end or a reset at both ends")
def _(folder):
    heard = []

    def serve(connection):
        try:
            heard.append(receive(connection))
        except ConnectionResetError:
            heard.append(b"")

    for victim in (1, 2):
        with server(serve) as port, chain(folder, port) as running:
            with dial(running[0]) as client:
                client.sendall(b"x")
                until(lambda: connections(port) > 0, "it is through")
                running[victim].signal(KILL)
                with contextlib.suppress(ConnectionResetError):
                    assert receive(client) == b""
                until(lambda: len(heard) == victim, "the server sees it")


def connections(port):
    """Established ones of a TCP server's port."""
    with open("/proc/net/tcp") as file:
        return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in file)


@test("relay: SIGTERM ends it at once with 0, whatever is open")
def _(folder):
    with server(echo) as port, chain(folder, port) as (near, *relays), dial(near) as client:
        client.sendall(b"x")
        receive(client, 1)
        for running in relays:
            running.signal(TERMINATE)
            running.finish(0)


# --- what is short or wrong

@test("relay: a target that refuses is a reset for the client, said once; once it is there, clients reach it")
def _(folder):
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    with relay(folder, "0", f":{port}") as between:
        for _ in range(3):
            try:
                with dial(int(between.port)) as client:
                    assert receive(client) == b"a reset, not bytes"
            except ConnectionResetError:
                pass
        assert "was refused: nobody listens" in between.line()
        with Running(folder, "listen", f":{port}", ready="stderr") as to, dial(int(between.port)) as client:
            client.sendall(b"now")
            client.shutdown(socket.SHUT_WR)
            assert to.finish(0, b"yes")[0] == b"now" and receive(client) == b"yes"
        between.signal(TERMINATE)
        assert between.finish(0)[1] == "", "it was said more than once"


@test("relay: at the limit of descriptors it says so, serves whom it has, and goes on when some have gone")
def _(folder):
    limit = ["sh", "-c", 'ulimit -n 40 && exec "$@"', "sh"]
    with server(echo) as port, relay(folder, "stp::0", f"tcp:{port}") as far:
        with relay(folder, "0", f"stp::{far.port}", prefix=limit) as near:
            clients = [dial(int(near.port)) for _ in range(60)]
            for number, client in enumerate(clients):
                client.sendall(b"%03d" % number)
            assert "new clients wait until a connection has ended" in near.line()
            served = set()
            for _ in range(len(clients)):
                waiting = [client for client in clients if client not in served]
                ready = select.select(waiting, [], [], WATCHDOG)[0]
                assert ready, f"after {len(served)} nobody is served any more"
                client = ready[0]
                assert receive(client, 3) == b"%03d" % clients.index(client)
                served.add(client)
                client.close()
            assert len(served) == 60


@test("relay: --verbose says when connections begin and end")
def _(folder):
    with Running(folder, "listen", ":0", ready="stderr") as to, relay(folder, "0", to.address, "--verbose") as between:
        with dial(int(between.port)) as client:
            assert "connection 1 from tcp:127.0.0.1:" in between.line()
            client.sendall(b"12345")
            client.shutdown(socket.SHUT_WR)
            to.finish(0, b"123")
            assert receive(client) == b"123"
        line = between.line()
        assert line == "skein: connection 1 ended after 5 bytes there and 3 back", line


@test("relay: sides that are the same, and what is no address, are explained")
def _(folder):
    for words in (["tcp:1", "tcp:2"], ["stp:1", "stp:2"], ["tcp:1", "2", "3"], ["stp:1", "2"], ["1"], []):
        skein("relay", *words, expect=64)
    assert "one side is TCP" in skein("relay", "tcp:1", "tcp:2", expect=64)[1]
    for word in ("", "x", "65536", "127.0.0.1:", "::1:80", "[::1]", "[::1:80", "1:2:3", "127.0.0.1:-1", "host:+1"):
        assert "is no TCP address" in skein("relay", "--", f"tcp:{word}", "7", expect=64)[1], word
    assert "is no STP address" in skein("relay", "1", "group/7", expect=64)[1]


@test("relay: a port that is taken and a host that nobody knows are explained")
def _(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one_line(skein("relay", str(port), ":1", expect=2, **host(folder))[1], str(port), "choose another")
        one_line(skein("relay", f"stp::{port}", "tcp:1", expect=2, **host(folder))[1], str(port), "taken")
    # STP and TCP have one space of ports.
    with Running(folder, "listen", ":0", ready="stderr") as to:
        one_line(skein("relay", to.port, to.address, expect=2, **host(folder))[1], "choose another")
    one_line(skein("relay", "no-such-host.invalid:1", ":1", expect=2, **host(folder))[1], "no-such-host.invalid", "unknown")
    one_line(skein("relay", "192.0.2.1:7", ":1", expect=2, **host(folder))[1], "can't listen on 192.0.2.1:7")
