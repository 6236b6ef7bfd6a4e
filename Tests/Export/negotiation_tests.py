"""What client and server say before transmission: every option, its errors, and what is closed."""

import struct

import nbd
from harness import test
from nbd import ACK, ERR, Closed, context_body, go_body, text
from server import SIZE, image, server

# --- flags


@test("negotiation: a client flag that isn't offered ends the connection")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running:
        for flags in (4, 1 << 31, 7):
            with running.client(flags=flags) as client:
                assert client.is_closed()
        with running.client() as client:
            assert client.go("disk").size == SIZE


@test("negotiation: EXPORT_NAME enters transmission, with 124 zero bytes unless NO_ZEROES")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running:
        for flags, zeroes in ((1, 124), (3, 0), (0, 124)):
            with running.client(flags=flags) as client:
                client.put(struct.pack(">QII", nbd.OPTION, nbd.EXPORT_NAME, 4) + b"disk")
                size, transmission = struct.unpack(">QH", client.take(10))
                assert client.take(zeroes) == bytes(zeroes)
                assert size == SIZE and transmission & 1
                assert not transmission & 1 << 7, "DF needs structured replies"
                assert client.ping()


@test("negotiation: EXPORT_NAME of an unknown export closes, also after extended headers")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running:
        for name, extended in ((b"nothing", False), (b"disk", True), (b"\xff\xfe", False), (b"x" * 4097, False)):
            with running.client() as client:
                if extended:
                    client.extended()
                client.put(struct.pack(">QII", nbd.OPTION, nbd.EXPORT_NAME, len(name)) + name)
                assert client.is_closed()


# --- options


@test("negotiation: the empty name is the first export")
def _(folder):
    first, second = image(folder, 512, name="a"), image(folder, 1024, name="b")
    with server(folder, f"one={first}", f"two={second}") as running, running.client() as client:
        assert client.go("").size == 512


@test("negotiation: unknown options are ERR_UNSUP after their data")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        for kind, data in ((0, b""), (nbd.PEEK_EXPORT, b""), (99, b"data of it"), (1 << 31, b"x" * 60000)):
            assert client.final(kind, data) == ERR["UNSUP"], kind
        assert client.final(99, b"x" * 100_000) == ERR["UNSUP"]
        assert client.go("disk")


@test("negotiation: ABORT is acknowledged and closes")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running:
        for data in (b"", b"any data"):
            with running.client() as client:
                assert client.final(nbd.ABORT, data) == ACK
                assert client.is_closed()


@test("negotiation: LIST names every export; with data it is ERR_INVALID")
def _(folder):
    one, two = image(folder, name="a"), image(folder, name="b")
    with server(folder, f"one={one}", two) as running, running.client() as client:
        replies = client.option(nbd.LIST)
        assert [kind for kind, _ in replies] == [nbd.SERVER, nbd.SERVER, ACK]
        names = [data[4:4 + struct.unpack(">I", data[:4])[0]] for _, data in replies[:2]]
        assert names == [b"one", b"b"]
        assert client.final(nbd.LIST, b"x") == ERR["INVALID"]
        assert client.go("one")


@test("negotiation: INFO and GO of one name answer the same, and what was asked for")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        body = go_body("disk", nbd.INFO_NAME, nbd.INFO_DESCRIPTION, nbd.INFO_BLOCK_SIZE, 77)
        said = client.option(nbd.INFO, body)
        infos = {struct.unpack(">H", data[:2])[0]: data[2:] for kind, data in said if kind == nbd.REP_INFO}
        assert infos[nbd.INFO_NAME] == b"disk"
        assert b"disk.img" in infos[nbd.INFO_DESCRIPTION]
        least, preferred, most = struct.unpack(">III", infos[nbd.INFO_BLOCK_SIZE])
        assert least == 1 and preferred >= 512 and preferred & preferred - 1 == 0 and most >= 32 << 20
        assert len(infos[nbd.INFO_EXPORT]) == 10 and set(infos) == {0, 1, 2, 3}
        assert client.option(nbd.GO, body) == said
        assert client.ping()


@test("negotiation: after the error of GO haggling goes on")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        assert client.final(nbd.GO, go_body("nothing")) == ERR["UNKNOWN"]
        assert client.final(nbd.INFO, go_body("nothing")) == ERR["UNKNOWN"]
        assert client.go("disk").size == SIZE


@test("negotiation: lengths inside INFO and GO that don't fit are ERR_INVALID")
def _(folder):
    wrong = [b"", b"\0" * 5, struct.pack(">I", 5) + b"disk" + b"\0\0", struct.pack(">I", 0xFFFFFFFF) + b"\0\0",
             text("disk") + b"\0\1", text("disk") + b"\0\0\0\0", text("disk") + struct.pack(">HH", 2, 0),
             text(b"di\0k") + b"\0\0", text(b"\xff\xff") + b"\0\0"]
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        for kind in (nbd.INFO, nbd.GO):
            for data in wrong:
                assert client.final(kind, data) == ERR["INVALID"], (kind, data)
        assert client.go("disk")


@test("negotiation: a name of 4,096 bytes is taken, a longer one is ERR_TOO_BIG")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        assert client.final(nbd.GO, go_body("x" * 4096)) == ERR["UNKNOWN"]
        assert client.final(nbd.GO, go_body("x" * 4097)) == ERR["TOO_BIG"]
        assert client.final(nbd.GO, go_body("x" * 65000)) == ERR["TOO_BIG"]
        assert client.final(nbd.GO, go_body("x" * 100_000)) == ERR["TOO_BIG"]
        assert client.go("disk")


@test("negotiation: without a certificate STARTTLS is ERR_POLICY")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        assert client.final(nbd.STARTTLS) == ERR["POLICY"]
        assert client.final(nbd.STARTTLS, b"x") == ERR["INVALID"]
        assert client.go("disk")


# --- styles and contexts


@test("negotiation: structured replies and extended headers exclude data, and a second time where it makes a difference")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running:
        with running.client() as client:
            assert client.final(nbd.STRUCTURED_REPLY, b"x") == ERR["INVALID"]
            assert client.final(nbd.STRUCTURED_REPLY) == ACK
            assert client.final(nbd.EXTENDED_HEADERS, b"x") == ERR["INVALID"]
            client.extended()
            assert client.final(nbd.EXTENDED_HEADERS) == ERR["INVALID"]
            assert client.final(nbd.STRUCTURED_REPLY) == ERR["EXT_HEADER_REQD"]
            assert client.go("disk").ping()


@test("negotiation: contexts need structured replies or extended headers first")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        for kind in (nbd.LIST_META_CONTEXT, nbd.SET_META_CONTEXT):
            assert client.final(kind, context_body("disk", "base:allocation")) == ERR["INVALID"]
        assert client.structured().allocation("disk").go("disk").status(0, SIZE)


@test("negotiation: LIST_META_CONTEXT lists all without a query, and by wildcard; other namespaces are ignored")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        client.structured()
        for queries, count in (((), 1), (("base:",), 1), (("base:allocation",), 1), (("qemu:", "x-own:all", "base"), 0),
                               (("base:other",), 0), (("base:", "base:allocation"), 1)):
            replies = client.option(nbd.LIST_META_CONTEXT, context_body("disk", *queries))
            assert [kind for kind, _ in replies] == [nbd.REP_META_CONTEXT] * count + [ACK], (queries, replies)
            assert all(data[:4] == bytes(4) and data[4:] == b"base:allocation" for _, data in replies[:-1])
        assert client.final(nbd.LIST_META_CONTEXT, context_body("nothing")) == ERR["UNKNOWN"]


@test("negotiation: SET_META_CONTEXT without a query or with a wildcard selects nothing")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running:
        for queries in ((), ("base:",), ("qemu:dirty",)):
            with running.client() as client:
                replies = client.structured().option(nbd.SET_META_CONTEXT, context_body("disk", *queries))
                assert [kind for kind, _ in replies] == [ACK]
                client.go("disk")
                assert client.do(nbd.BLOCK_STATUS, 0, 512) == nbd.EINVAL


@test("negotiation: SET_META_CONTEXT replaces what was set, also when it fails, and holds for its own export alone")
def _(folder):
    one, two = image(folder, name="a"), image(folder, name="b")
    with server(folder, f"one={one}", f"two={two}") as running:
        for last, name in ((context_body("one"), "one"), (context_body("nothing", "base:allocation"), "one"),
                           (context_body("two", "base:allocation"), "one")):
            with running.client() as client:
                client.structured().allocation("one")
                client.option(nbd.SET_META_CONTEXT, last)
                client.go(name)
                assert client.do(nbd.BLOCK_STATUS, 0, 512) == nbd.EINVAL
        with running.client() as client:
            assert client.structured().allocation("two").allocation("one").go("one").status(0, 512)


@test("negotiation: lengths inside the context options that don't fit are ERR_INVALID")
def _(folder):
    wrong = [b"", bytes(7), struct.pack(">I", 0xFFFFFFFC) + bytes(4), text("disk") + struct.pack(">I", 1),
             text("disk") + struct.pack(">I", 0xFFFFFFFF), text("disk") + struct.pack(">II", 1, 0xFFFFFFFF),
             text("disk") + struct.pack(">II", 1, 20) + b"base:allocation", context_body("disk", "base:allocation") + b"x"]
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        client.structured()
        for kind in (nbd.LIST_META_CONTEXT, nbd.SET_META_CONTEXT):
            for data in wrong:
                assert client.final(kind, data) == ERR["INVALID"], (kind, data)
        assert client.final(nbd.LIST_META_CONTEXT, context_body("disk", "x" * 4097)) == ERR["TOO_BIG"]
        assert client.allocation("disk").go("disk")


@test("negotiation: options may come in any pieces, and many at once")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running:
        with running.client() as client:
            option = struct.pack(">QII", nbd.OPTION, nbd.LIST, 0)
            client.put(option * 500)
            for _ in range(500):
                assert client.replies(nbd.LIST)[-1][0] == ACK
        with running.client() as client:
            body = go_body("disk")
            for byte in struct.pack(">QII", nbd.OPTION, nbd.GO, len(body)) + body:
                client.put(bytes([byte]))
            assert client.replies(nbd.GO)[-1][0] == ACK
            assert client.ping()


@test("negotiation: what is no option, or never ends, is closed")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running:
        with running.client() as client:
            client.put(b"GET / HTTP/1.1\r\n\r\n")
            assert client.is_closed()
        with running.client() as client:
            try:
                for _ in range(2000):
                    client.final(99)
                raise AssertionError("2,000 options were taken")
            except (Closed, ConnectionError):
                pass
        with running.client() as client:
            client.put(struct.pack(">QII", nbd.OPTION, 99, 0xFFFFFFFF))
            assert client.is_closed()
