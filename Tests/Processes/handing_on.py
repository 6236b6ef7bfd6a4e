"""Many connections that a program hands on at once, again and again, while its other threads go on."""

import socket
import subprocess
import time

from cases import WATCHDOG, case, exactly, expect
from inheriting import WITHOUT
from passing import relays
from relays import ticks


def exchange(connections, word):
    for number, (client, _) in enumerate(connections):
        client.sendall(b"%s%05d" % (word, number))
    for number, (_, server) in enumerate(connections):
        expect(exactly(server, 6), b"%s%05d" % (word, number))
        server.sendall(b"%05d" % number)
    for number, (client, _) in enumerate(connections):
        expect(exactly(client, 5), b"%05d" % number)


@case("programs that are started beside many open connections leave them, and those that come later, as they are")
def spawned_beside():
    listener = socket.create_server(("127.0.0.1", 0), backlog=200)

    def connected(count):
        ends = []
        for _ in range(count):
            client = socket.create_connection(listener.getsockname(), WATCHDOG)
            server, _ = listener.accept()
            server.settimeout(WATCHDOG)
            server.set_inheritable(True)
            ends.append((client, server))
        return ends

    connections = connected(80)
    for _ in range(4):
        helper = subprocess.Popen(["sleep", "60"], close_fds=False, env=WITHOUT)
        exchange(connections, b"a")
        left, connections = connections[:40], connections[40:]
        for _, server in left:
            server.close()
        connections += connected(40)
        exchange(connections, b"b")
        for client, _ in left:
            client.close()
        # What the relay held for it goes with it.
        helper.kill()
        helper.wait()
        exchange(connections, b"c")
    relay, = relays()
    before = ticks(relay)
    time.sleep(0.3)
    expect(ticks(relay) - before < 10, True, "ticks in three tenths of a second without work")
