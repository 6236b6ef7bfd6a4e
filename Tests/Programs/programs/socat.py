"""socat at both ends: fork, exec, half-close, and programs with the connection as descriptors 0 and 1."""

from support.trial import sha256, test


def listen(t, *options):
    return ",".join([f"TCP4-LISTEN:{t.port}", "bind=127.0.0.1", "reuseaddr", *options])


def connect(t):
    return f"TCP4:127.0.0.1:{t.port}"


def send_and_read_back(t):
    """-t: when the file has been sent socat closes its outgoing half and goes on reading."""
    client = t.start_client(["socat", "-t", 30, "-", connect(t)], stdin=t.documents.middle)
    t.finish(client)
    t.arrived(client.out, t.documents.middle)


@test("socat echoes 16 MiB through a cat that it forks", needs=["socat"])
def echo(t):
    t.server(["socat", listen(t, "fork"), "EXEC:cat"])
    for _ in range(3):
        send_and_read_back(t)


@test("socat echoes 16 MiB through a cat that has the connection as descriptors 0 and 1", needs=["socat"])
def echo_across_exec(t):
    t.server(["socat", listen(t, "fork"), "EXEC:cat,nofork"])
    for _ in range(3):
        send_and_read_back(t)


@test("socat's connection is read by the stdio of sha256sum across exec", needs=["socat"])
def digest_across_exec(t):
    t.server(["socat", listen(t, "fork"), "EXEC:sha256sum,nofork"])
    printed = t.client(["socat", "-t", 30, "-", connect(t)], stdin=t.documents.middle)
    assert printed.split()[:1] == [sha256(t.documents.middle).encode()], f"the digest differs: {printed[:80]}"
    t.moved(t.documents.middle.stat().st_size)


@test("socat sends a file of 16 MiB to the client", needs=["socat"])
def to_client(t):
    server = t.server(["socat", "-u", f"OPEN:{t.documents.middle},rdonly", listen(t)])
    copy = t.folder / "copy"
    t.client(["socat", "-u", connect(t), f"CREATE:{copy}"])
    assert server.wait() == 0, f"the server ended with {server.returncode}"
    t.arrived(copy, t.documents.middle)


@test("socat sends a file of 16 MiB to the server", needs=["socat"])
def to_server(t):
    copy = t.folder / "copy"
    server = t.server(["socat", "-u", listen(t), f"CREATE:{copy}"])
    t.client(["socat", "-u", f"OPEN:{t.documents.middle},rdonly", connect(t)])
    assert server.wait() == 0, f"the server ended with {server.returncode}"
    t.arrived(copy, t.documents.middle)
