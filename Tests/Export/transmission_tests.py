"""Requests and their replies: every command, flag and error, in every style."""

import os
import random
import struct
import threading
import time

import nbd
from harness import Skip, test
from nbd import EINVAL, ENOSPC, EPERM
from server import SIZE, Scratch, image, server, sparse, transmitting

STYLES = ("simple", "structured", "extended")


def in_each_style(sentence, **options):
    """A test of a client in transmission, once for each style, on the file system of the scratch folder."""
    def register(function):
        for style in STYLES:
            @test(f"{style}: {sentence}")
            def _(folder, style=style):
                with transmitting(folder, style, **options) as client:
                    function(client, folder)
        return function
    return register


def content(folder):
    return (folder / "disk.img").read_bytes()


# --- reading and writing


@in_each_style("what was written is read, at any offset and length")
def _(client, folder):
    expected = bytearray(content(folder))
    source = random.Random(3)
    for _ in range(40):
        length = source.choice([1, 3, 511, 512, 4096, 70_001, 300_000])
        offset = source.randrange(SIZE - length)
        data = source.randbytes(length)
        assert client.write(offset, data) == 0
        expected[offset:offset + length] = data
        start = max(0, offset - 10)
        assert client.read(start, min(length + 20, SIZE - start)) == expected[start:start + length + 20]
    assert client.read(0, SIZE) == expected == content(folder)


@in_each_style("many requests at once are all answered, each with its own content")
def _(client, folder):
    expected = content(folder)
    ranges = [(number * 3001 % (SIZE - 9000), 1 + number * 29 % 9000) for number in range(300)]
    asked = {client.cookie + 1 + index: pair for index, pair in enumerate(ranges)}
    sender = threading.Thread(target=lambda: [client.request(nbd.READ, *pair) for pair in ranges])
    sender.start()
    while asked:
        if client.style == nbd.SIMPLE:
            magic, error, cookie = struct.unpack(">IIQ", client.take(16))
            offset, length = asked.pop(cookie)
            data = client.take(length)
            assert (magic, error) == (nbd.SIMPLE, 0)
        else:
            chunks = client.chunks()
            offset, length = asked.pop(chunks[0].cookie)
            data = nbd.assemble(chunks, offset, length)
        assert data == expected[offset:offset + length]
    sender.join()


@in_each_style("a request may come in any pieces")
def _(client, folder):
    data = random.Random(5).randbytes(5000)
    wire = capture(client, lambda: client.request(nbd.WRITE, 77, len(data), payload=data))
    sender = threading.Thread(target=lambda: [client.socket.send(wire[at:at + 61]) for at in range(0, len(wire), 61)])
    sender.start()
    assert client.error() == 0
    sender.join()
    assert client.read(77, 5000) == data


def capture(client, action):
    """What an action would send."""
    kept = bytearray()
    client.put = kept.extend
    action()
    del client.put
    return bytes(kept)


@in_each_style("a client that doesn't read for a while gets everything later")
def _(client, folder):
    expected = content(folder)
    count = 40
    sender = threading.Thread(target=lambda: [client.request(nbd.READ, 0, SIZE) for _ in range(count)])
    sender.start()
    sender.join(2)
    for _ in range(count):
        if client.style == nbd.SIMPLE:
            client.take(16)
            assert client.take(SIZE) == expected
        else:
            assert nbd.assemble(client.chunks(), 0, SIZE) == expected
    sender.join()


@in_each_style("a length of 0 is no mistake, but for BLOCK_STATUS")
def _(client, folder):
    assert client.read(0, 0) == b"" and client.read(SIZE, 0) == b""
    for command in (nbd.WRITE, nbd.TRIM, nbd.CACHE, nbd.WRITE_ZEROES):
        flags = nbd.PAYLOAD_LEN if client.style == nbd.EXTENDED and command == nbd.WRITE else 0
        assert client.do(command, 0, 0, flags) == 0, command
    if client.style != nbd.SIMPLE:
        assert client.do(nbd.BLOCK_STATUS, 0, 0) == EINVAL
    assert client.ping()


# --- other commands


@in_each_style("FLUSH and FUA are taken wherever they make sense")
def _(client, folder):
    assert client.transmission & 1 << 2 and client.transmission & 1 << 3
    assert client.do(nbd.FLUSH) == 0 and client.do(nbd.FLUSH, flags=nbd.FUA) == 0
    assert client.do(nbd.FLUSH, 0, 512) == EINVAL and client.do(nbd.FLUSH, 512) == EINVAL
    assert client.write(0, b"durable", nbd.FUA) == 0
    assert client.read(0, 7, nbd.FUA) == b"durable"
    assert client.do(nbd.TRIM, 0, 4096, nbd.FUA) == 0
    assert client.do(nbd.WRITE_ZEROES, 0, 4096, nbd.FUA) == 0
    assert client.do(nbd.CACHE, 0, 4096, nbd.FUA) == 0
    assert client.read(0, 4096) == bytes(4096)


@in_each_style("WRITE_ZEROES reads back as zeroes, and NO_HOLE leaves no hole")
def _(client, folder):
    expected = bytearray(content(folder))
    for offset, length, flags in ((4096, 8192, 0), (100, 1, 0), (5000, 99_999, nbd.NO_HOLE), (SIZE - 7, 7, nbd.FAST_ZERO),
                                  (300_000, 70_000, nbd.NO_HOLE | nbd.FAST_ZERO)):
        error = client.do(nbd.WRITE_ZEROES, offset, length, flags)
        assert error == 0 or error == nbd.ENOTSUP and flags & nbd.FAST_ZERO, error
        if not error:
            expected[offset:offset + length] = bytes(length)
        assert client.read(0, SIZE) == expected
    if client.style != nbd.SIMPLE:
        assert all(not flags & 1 for _, flags in client.status(8192, 65536))


@in_each_style("TRIM changes nothing around it")
def _(client, folder):
    before = content(folder)
    assert client.do(nbd.TRIM, 10_000, 100_000) == 0
    after = client.read(0, SIZE)
    assert after[:10_000] == before[:10_000] and after[110_000:] == before[110_000:]


@in_each_style("RESIZE changes the size for all, in both directions")
def _(client, folder):
    assert client.transmission & 1 << 9
    assert client.do(nbd.RESIZE, SIZE + 4096) == 0
    assert (folder / "disk.img").stat().st_size == SIZE + 4096
    assert client.read(SIZE, 4096) == bytes(4096)
    assert client.do(nbd.RESIZE, 512) == 0
    assert client.do(nbd.CACHE, 0, 1024) == EINVAL
    assert client.do(nbd.RESIZE, SIZE, 1) == EINVAL


# --- errors


@in_each_style("ranges beyond the end have the error of their command, without overflow")
def _(client, folder):
    ends = [(SIZE, 1), (SIZE - 1, 2), (1 << 63, 512), ((1 << 64) - 1, 1), ((1 << 64) - 512, 1024)]
    for offset, length in ends:
        assert client.do(nbd.READ, offset, length) == EINVAL, (offset, length)
        assert client.do(nbd.TRIM, offset, length) == EINVAL
        assert client.do(nbd.CACHE, offset, length) == EINVAL
        assert client.do(nbd.WRITE_ZEROES, offset, length) == ENOSPC
        assert client.write(offset, bytes(length)) == ENOSPC
        if client.style != nbd.SIMPLE:
            assert client.do(nbd.BLOCK_STATUS, offset, length) == EINVAL
    assert client.ping()


@in_each_style("unknown commands and flags are EINVAL, and the payload is read over")
def _(client, folder):
    for command in (9, 77, 0xFFFF):
        assert client.do(command, 0, 512) == EINVAL
    for command in (nbd.READ, nbd.FLUSH, nbd.TRIM, nbd.CACHE, nbd.WRITE_ZEROES):
        assert client.do(command, 0, 0, 1 << 15) == EINVAL
    assert client.do(nbd.WRITE, 0, 5000, 1 << 14, b"x" * 5000) == EINVAL
    for command, flag in ((nbd.TRIM, nbd.NO_HOLE), (nbd.READ, nbd.FAST_ZERO), (nbd.FLUSH, nbd.DF), (nbd.CACHE, nbd.REQ_ONE)):
        assert client.do(command, 0, 0, flag) == EINVAL
    if client.style == nbd.SIMPLE:
        assert client.do(nbd.READ, 0, 512, nbd.DF) == EINVAL
    assert client.ping()


@in_each_style("a read of more than 32 MiB is an error, one of a client that goes on is served")
def _(client, folder):
    assert client.do(nbd.READ, 0, (32 << 20) + 1) == EINVAL
    if client.style != nbd.SIMPLE:
        assert client.do(nbd.READ, 0, (32 << 20) + 1, nbd.DF) == nbd.EOVERFLOW
    assert client.ping()


@in_each_style("a payload of more than 32 MiB and a wrong magic end the connection")
def _(client, folder):
    if client.style == nbd.EXTENDED:
        client.request(nbd.WRITE, 0, 1 << 40, nbd.PAYLOAD_LEN)
    else:
        client.request(nbd.WRITE, 0, (32 << 20) + 1)
    assert client.is_closed()


@in_each_style("something that is no request ends the connection")
def _(client, folder):
    client.request(nbd.READ, 0, 512, magic=nbd.EXTENDED_REQUEST if client.style != nbd.EXTENDED else nbd.REQUEST)
    assert client.is_closed()


@in_each_style("a read-only export refuses to change with EPERM", options=["--read-only"])
def _(client, folder):
    assert client.transmission & 2 and not client.transmission & 1 << 6
    before = content(folder)
    assert client.write(0, b"x" * 1000) == EPERM
    assert client.do(nbd.TRIM, 0, 512) == EPERM and client.do(nbd.WRITE_ZEROES, 0, 512) == EPERM
    assert client.do(nbd.RESIZE, 0) == EINVAL
    assert client.do(nbd.CACHE, 0, 512) == 0 and client.ping()
    assert client.read(0, SIZE) == before == content(folder)


@in_each_style("DISC is answered by closing, after what came before")
def _(client, folder):
    cookies = [client.request(nbd.READ, 0, 512) for _ in range(10)]
    client.request(nbd.DISC)
    client.request(nbd.READ, 0, 512)
    for cookie in cookies:
        if client.style == nbd.SIMPLE:
            assert struct.unpack(">IIQ", client.take(16))[1:] == (0, cookie)
            client.take(512)
        else:
            assert client.chunks()[0].cookie == cookie
    assert client.is_closed()


# --- structured replies


@test("structured: a sparse read has its holes as such, and a multiple of 512 in each chunk")
def _(folder):
    size = 8 << 20
    path = sparse(folder, size, (1 << 20, 65536), (3 << 20, 1 << 20), (size - 4096, 4096))
    for style in ("structured", "extended"):
        with transmitting(folder, style, device=path) as client:
            client.request(nbd.READ, 0, size)
            chunks = client.chunks()
            assert nbd.assemble(chunks, 0, size) == path.read_bytes()
            assert all(struct.unpack(">Q", chunk.data[:8])[0] % 512 == 0 for chunk in chunks if chunk.kind != nbd.NONE)
            client.request(nbd.READ, 4 << 20, 2 << 20)
            assert [chunk.kind for chunk in client.chunks()] == [nbd.HOLE], "all of it is a hole"


@test("structured: on tmpfs each hole of a read is one chunk")
def _(folder):
    with Scratch(prefix="skein-export-", dir="/dev/shm") as scratch:
        path = sparse(scratch, 4 << 20, (1 << 20, 65536), (2 << 20, 4096))
        with transmitting(folder, "structured", device=path) as client:
            client.request(nbd.READ, 0, 4 << 20)
            chunks = client.chunks()
            assert [chunk.kind for chunk in chunks] == [nbd.HOLE, nbd.DATA] * 2 + [nbd.HOLE]
            assert nbd.assemble(chunks, 0, 4 << 20) == path.read_bytes()


@test("structured: on disk a read tells the holes between its data, and the data in one chunk each")
def _(folder):
    for style in ("structured", "extended"):
        path = sparse(folder, 4 << 20, (1 << 20, 65536), (2 << 20, 1 << 20))
        with transmitting(folder, style, device=path) as client:
            if client.status(0, 4 << 20) == [(4 << 20, 0)]:
                raise Skip("this file system doesn't tell holes")
            for offset, length, kinds in [(0, 4 << 20, [nbd.DATA] * 2 + [nbd.HOLE] * 3), (1 << 20, 2 << 20, [nbd.DATA] * 2 + [nbd.HOLE]),
                                          ((1 << 20) + 100, 80000, [nbd.DATA, nbd.HOLE])]:
                client.request(nbd.READ, offset, length)
                chunks = client.chunks()
                assert sorted(chunk.kind for chunk in chunks[:-1]) == kinds, [chunk.kind for chunk in chunks]
                assert chunks[-1].kind == nbd.NONE, chunks[-1]
                assert nbd.assemble(chunks, offset, length) == path.read_bytes()[offset:offset + length]
            # Several at once, none of which is taken before all are sent.
            for _ in range(40):
                client.request(nbd.READ, 0, 4 << 20)
            left = {number: 4 << 20 for number in range(client.cookie - 39, client.cookie + 1)}
            while left:
                chunk = client.chunk()
                if chunk.kind != nbd.NONE:
                    left[chunk.cookie] -= len(chunk.data) - 8 if chunk.kind == nbd.DATA else struct.unpack(">I", chunk.data[8:])[0]
                if chunk.flags & nbd.DONE:
                    assert left.pop(chunk.cookie) == 0


@test("structured: a file on tmpfs that becomes shorter while a long read is sent: zeroes fill the chunk, an error ends it")
def _(folder):
    size = 8 << 20
    with Scratch(prefix="skein-export-", dir="/dev/shm") as scratch:
        for style in ("structured", "extended"):
            path = image(scratch, size)
            with transmitting(folder, style, device=path) as client:
                client.request(nbd.READ, 0, size)
                client.take(40 if style == "extended" else 28)
                assert client.take(4096) == random.Random(7).randbytes(4096)
                os.truncate(path, 0)  # most of it has not been sent
                assert client.take(size - 4096).endswith(bytes(1 << 20))
                assert client.error() == nbd.EIO
                assert client.do(nbd.CACHE) == 0, "the connection goes on"
                client.request(nbd.READ, 0, size)
                assert client.error() == nbd.EIO


@test("simple: a file on tmpfs that becomes shorter: an error before the reply has begun, the end of the connection after")
def _(folder):
    size = 8 << 20
    with Scratch(prefix="skein-export-", dir="/dev/shm") as scratch:
        path = image(scratch, size)
        with transmitting(folder, "simple", device=path) as client:
            client.request(nbd.READ, 0, size)
            client.take(16)
            os.truncate(path, size // 2)
            assert client.is_closed()
        with transmitting(folder, "simple", device=image(scratch, size)) as client:
            os.truncate(path, size // 2)
            client.request(nbd.READ, 0, size)
            assert client.error() == nbd.EIO
            assert client.read(0, 1 << 20) == random.Random(7).randbytes(1 << 20)


@test("memory: to read holes gives them no memory, in no style and by no length")
def _(folder):
    with Scratch(prefix="skein-export-", dir="/dev/shm") as scratch:
        path = sparse(scratch, 8 << 20, (1 << 20, 65536))
        stored = os.stat(path).st_blocks
        expected = bytes(1 << 20) + b"\xa5" * 65536 + bytes(4 << 20)
        for style in STYLES:
            with transmitting(folder, style, device=path) as client:
                for offset, length in ((0, 4096), (0, 70_000), (0, 4 << 20), ((1 << 20) - 10, 20), (1 << 20, 65536)):
                    assert client.read(offset, length) == expected[offset:offset + length]
        assert os.stat(path).st_blocks == stored


@test("memory: a client that takes its replies late gets them whole")
def _(folder):
    size = 8 << 20
    expected = random.Random(7).randbytes(size)
    with Scratch(prefix="skein-export-", dir="/dev/shm") as scratch:
        path = image(scratch, size)
        for style in STYLES:
            with transmitting(folder, style, device=path) as client:
                ranges = [(number * 100_003, 1 + number * 15_000) for number in range(64)]
                asked = {client.cookie + 1 + index: pair for index, pair in enumerate(ranges)}
                for pair in ranges:
                    client.request(nbd.READ, *pair)
                time.sleep(0.05)  # the socket doesn't take all meanwhile
                while asked:
                    if client.style == nbd.SIMPLE:
                        _, error, cookie = struct.unpack(">IIQ", client.take(16))
                        offset, length = asked.pop(cookie)
                        data = client.take(length)
                    else:
                        chunks = client.chunks()
                        offset, length = asked.pop(chunks[0].cookie)
                        data = nbd.assemble(chunks, offset, length)
                    assert data == expected[offset:offset + length]


@test("structured: with DF the content is one chunk")
def _(folder):
    with Scratch(prefix="skein-export-", dir="/dev/shm") as scratch:
        for path in (sparse(scratch, 4 << 20, (1 << 20, 65536)), sparse(folder, 4 << 20, (1 << 20, 65536))):
            for style in ("structured", "extended"):
                with transmitting(folder, style, device=path) as client:
                    for offset, length in ((0, 512), (1 << 20, 65536), (0, 4 << 20)):
                        client.request(nbd.READ, offset, length, nbd.DF)
                        chunks = client.chunks()
                        kinds = [chunk.kind for chunk in chunks if chunk.kind != nbd.NONE]
                        assert kinds == [nbd.DATA], kinds
                        assert nbd.assemble(chunks, offset, length) == path.read_bytes()[offset:offset + length]


@test("structured: an error has a text")
def _(folder):
    for style in ("structured", "extended"):
        with transmitting(folder, style) as client:
            client.request(nbd.READ, SIZE, 512)
            chunk, = client.chunks()
            assert chunk.kind == nbd.ERROR and b"end of the export" in chunk.data[6:]


@test("extended: replies echo the offset; lengths go beyond 32 bits; WRITE needs PAYLOAD_LEN")
def _(folder):
    size = 6 << 30
    path = sparse(folder, size, (0, 4096), (5 << 30, 4096))
    with transmitting(folder, "extended", device=path) as client:
        client.request(nbd.READ, 512, 1024)
        assert {chunk.offset for chunk in client.chunks()} == {512}
        assert client.status(0, size) == [(4096, 0), ((5 << 30) - 4096, 3), (4096, 0), ((1 << 30) - 4096, 3)]
        assert client.do(nbd.WRITE_ZEROES, 0, size) == 0
        assert client.status(0, size) == [(size, 3)]
        assert client.do(nbd.TRIM, 0, size) == 0 and client.do(nbd.CACHE, 0, size) == 0
        client.request(nbd.WRITE, 0, 512)
        assert client.error() == EINVAL
        assert client.do(nbd.READ, 0, 12, nbd.PAYLOAD_LEN, b"x" * 12) == EINVAL
        assert client.ping()


# --- block status


@test("block status: extents are those of the file, clipped to the request, neighbours merged")
def _(folder):
    path = sparse(folder, 1 << 20, (65536, 65536), (262144, 4096), (266240, 4096))
    for style in ("structured", "extended"):
        with transmitting(folder, style, device=path) as client:
            assert client.status(0, 1 << 20) == [(65536, 3), (65536, 0), (131072, 3), (8192, 0), (778240, 3)]
            assert client.status(65536 + 512, 1024) == [(1024, 0)]
            assert client.status(0, 65537) == [(65536, 3), (1, 0)]
            assert client.status((1 << 20) - 1, 1) == [(1, 3)]
            assert client.status(0, 1 << 20, nbd.REQ_ONE) == [(65536, 3)]
            assert client.status(60000, 10000, nbd.REQ_ONE) == [(5536, 3)]


@test("block status: many extents are bounded, at least one comes, and asking on reaches the end")
def _(folder):
    count = 6000
    path = sparse(folder, count * 8192, *((number * 8192, 4096) for number in range(count)))
    with transmitting(folder, "structured", device=path) as client:
        position, seen = 0, 0
        while position < count * 8192:
            extents = client.status(position, count * 8192 - position)
            assert 1 <= len(extents) <= 1 << 20 and all(length for length, _ in extents)
            position += sum(length for length, _ in extents)
            seen += len(extents)
        assert position == count * 8192 and seen == 2 * count


@test("block status: the 32 bits of compact lengths hold the longest request")
def _(folder):
    size = (4 << 30) + (1 << 20)
    with transmitting(folder, "structured", device=sparse(folder, size)) as client:
        assert client.status(0, 0xFFFFFFFF) == [(0xFFFFFFFF, 3)]
        assert client.status(512, 0xFFFFFFFF) == [(0xFFFFFFFF, 3)]
        assert client.status(size - 1, 1) == [(1, 3)]
        assert client.do(nbd.BLOCK_STATUS, size - 1, 2) == EINVAL


@test("block status: a payload chooses contexts; other ids and lengths are EINVAL, and consumed")
def _(folder):
    with transmitting(folder, "extended") as client:
        def payload(length, *ids):
            return struct.pack(f">Q{len(ids)}I", length, *ids)

        good = payload(4096, client.context)
        assert client.transmission & 1 << 12
        assert client.status(0, len(good), nbd.PAYLOAD_LEN, good) == [(4096, 0)]
        for wrong in (payload(4096, 99), payload(4096, client.context, client.context), payload(4096), b"x" * 7,
                      payload(SIZE + 1, client.context), payload(0, client.context), b"x" * 100_000):
            assert client.do(nbd.BLOCK_STATUS, 0, len(wrong), nbd.PAYLOAD_LEN, wrong) == EINVAL, wrong[:20]
        assert client.ping()


# --- several connections


@test("several connections: what one has flushed all read, and MULTI_CONN says so")
def _(folder):
    with server(folder, f"disk={image(folder)}", options=["--workers", "2"]) as running:
        clients = [running.client().go("disk") for _ in range(4)]
        assert all(client.transmission & 1 << 8 for client in clients)
        for number, client in enumerate(clients):
            assert client.write(number * 512, bytes([number]) * 512) == 0
        assert clients[3].do(nbd.FLUSH) == 0
        expected = b"".join(bytes([number]) * 512 for number in range(4))
        assert all(client.read(0, 2048) == expected for client in clients)
        for client in clients:
            client.close()


@test("several connections: a resize by one is seen by all")
def _(folder):
    with server(folder, f"disk={image(folder)}", options=["--workers", "2"]) as running:
        with running.client() as one, running.client() as two:
            one.go("disk")
            two.go("disk")
            assert two.do(nbd.CACHE, SIZE, 512) == EINVAL
            assert one.do(nbd.RESIZE, 2 * SIZE) == 0
            assert two.do(nbd.CACHE, SIZE, 512) == 0
            assert two.read(SIZE, 512) == bytes(512)
