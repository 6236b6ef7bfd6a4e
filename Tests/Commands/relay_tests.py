"""`skein relay`: TCP programs that nothing is preloaded into, on one side or on both of an STP connection."""

import contextlib
import random
import select
import socket
import subprocess
import threading

from harness import SKEIN, Skip, compile_c, test
from plain import WATCHDOG, ask, chain, dial, echo, receive, relay, reset, server
from running import Running, host, until

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
