"""A small NBD client of our own: it says what it is told to say, right or wrong, and takes replies apart."""

import dataclasses
import socket
import struct
import urllib.parse

WATCHDOG = 60
HANDSHAKE, OPTION, OPTION_REPLY = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
REQUEST, SIMPLE, STRUCTURED = 0x25609513, 0x67446698, 0x668E33EF
EXTENDED_REQUEST, EXTENDED = 0x21E41C71, 0x6E8A278C

EXPORT_NAME, ABORT, LIST, PEEK_EXPORT, STARTTLS, INFO, GO = range(1, 8)
STRUCTURED_REPLY, LIST_META_CONTEXT, SET_META_CONTEXT, EXTENDED_HEADERS = range(8, 12)
ACK, SERVER, REP_INFO, REP_META_CONTEXT = range(1, 5)
ERR = {name: 0x80000001 + number for number, name in enumerate(
    "UNSUP POLICY INVALID PLATFORM TLS_REQD UNKNOWN SHUTDOWN BLOCK_SIZE_REQD TOO_BIG EXT_HEADER_REQD".split())}
INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = range(4)
READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, RESIZE = range(9)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << bit for bit in range(6))
EPERM, EIO, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 22, 28, 75, 95, 108
NONE, DATA, HOLE, STATUS, STATUS_EXT, ERROR = 0, 1, 2, 5, 6, 0x8001
DONE = 1


def text(value):
    """A string with its length before it."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(data)) + data


def go_body(name, *wanted):
    return text(name) + struct.pack(f">H{len(wanted)}H", len(wanted), *wanted)


def context_body(name, *queries):
    return text(name) + struct.pack(">I", len(queries)) + b"".join(map(text, queries))


@dataclasses.dataclass
class Chunk:
    kind: int
    flags: int
    cookie: int
    data: bytes
    offset: int = 0


class Closed(Exception):
    """The server closed the connection."""


class Client:
    def __init__(self, uri, flags=3):
        self.socket = dial(uri)
        self.style = SIMPLE
        self.cookie = 0
        self.flags = flags
        greeting = struct.unpack(">QQH", self.take(18))
        assert greeting == (HANDSHAKE, OPTION, 3), greeting
        if flags is not None:
            self.put(struct.pack(">I", flags))

    # --- bytes

    def put(self, data):
        self.socket.sendall(data)

    def take(self, count):
        data = b""
        while len(data) < count:
            try:
                part = self.socket.recv(min(count - len(data), 1 << 20))
            except ConnectionError as error:
                raise Closed(str(error)) from None
            if not part:
                raise Closed(f"after {len(data)} of {count} bytes")
            data += part
        return data

    def is_closed(self):
        """Waits for the server to close; what it says before is dropped."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        return True

    # --- options

    def option(self, kind, data=b"", length=None):
        """Sends an option. Its replies up to the final one, as pairs of type and data."""
        self.put(struct.pack(">QII", OPTION, kind, len(data) if length is None else length) + data)
        return self.replies(kind)

    def replies(self, kind):
        replies = []
        while True:
            magic, echoed, reply, length = struct.unpack(">QIII", self.take(20))
            assert magic == OPTION_REPLY and echoed == kind, (hex(magic), echoed, kind)
            replies.append((reply, self.take(length)))
            if reply == ACK or reply & 1 << 31:
                return replies

    def final(self, kind, data=b""):
        return self.option(kind, data)[-1][0]

    def structured(self):
        assert self.final(STRUCTURED_REPLY) == ACK
        self.style = STRUCTURED
        return self

    def extended(self):
        assert self.final(EXTENDED_HEADERS) == ACK
        self.style = EXTENDED
        return self

    def allocation(self, name=""):
        replies = self.option(SET_META_CONTEXT, context_body(name, "base:allocation"))
        assert [kind for kind, _ in replies] == [REP_META_CONTEXT, ACK], replies
        self.context = struct.unpack(">I", replies[0][1][:4])[0]
        return self

    def go(self, name=""):
        replies = self.option(GO, go_body(name))
        assert replies[-1][0] == ACK, replies
        self.size, self.transmission = struct.unpack(">xxQH", replies[0][1])
        return self

    # --- requests

    def request(self, command, offset=0, length=0, flags=0, payload=b"", magic=None):
        """Sends a request and returns its cookie."""
        self.cookie += 1
        if self.style == EXTENDED:
            if payload and command == WRITE:
                flags |= PAYLOAD_LEN
            header = struct.pack(">IHHQQQ", magic or EXTENDED_REQUEST, flags, command, self.cookie, offset, length)
        else:
            header = struct.pack(">IHHQQI", magic or REQUEST, flags, command, self.cookie, offset, length)
        self.put(header + payload)
        return self.cookie

    def chunk(self):
        if self.style == EXTENDED:
            magic, flags, kind, cookie, offset, length = struct.unpack(">IHHQQQ", self.take(32))
            assert magic == EXTENDED, hex(magic)
            return Chunk(kind, flags, cookie, self.take(length), offset)
        magic, flags, kind, cookie, length = struct.unpack(">IHHQI", self.take(20))
        assert magic == STRUCTURED, hex(magic)
        return Chunk(kind, flags, cookie, self.take(length))

    def chunks(self):
        """All chunks of a reply."""
        found = [self.chunk()]
        while not found[-1].flags & DONE:
            found.append(self.chunk())
        assert len({chunk.cookie for chunk in found}) == 1, found
        return found

    def error(self):
        """The error of a reply without content, 0 for none."""
        if self.style == SIMPLE:
            magic, error, cookie = struct.unpack(">IIQ", self.take(16))
            assert magic == SIMPLE and cookie == self.cookie, (hex(magic), cookie)
            return error
        chunk = self.chunks()[-1]
        assert chunk.cookie == self.cookie
        if chunk.kind == ERROR:
            error, length = struct.unpack(">IH", chunk.data[:6])
            assert len(chunk.data) == 6 + length, chunk
            chunk.data[6:].decode()
            return error
        assert chunk.kind == NONE and not chunk.data, chunk
        return 0

    def do(self, command, offset=0, length=0, flags=0, payload=b""):
        """A request without content in its reply; its error."""
        self.request(command, offset, length, flags, payload)
        return self.error()

    def write(self, offset, data, flags=0):
        return self.do(WRITE, offset, len(data), flags, data)

    def read(self, offset, length, flags=0):
        """The content; every byte of it must come exactly once."""
        self.request(READ, offset, length, flags)
        if self.style == SIMPLE:
            error = self.error()
            assert error == 0, error
            return self.take(length)
        return assemble(self.chunks(), offset, length)

    def status(self, offset, length, flags=0, payload=b""):
        """The extents, as pairs of length and flags."""
        self.request(BLOCK_STATUS, offset, length, flags, payload)
        chunks = self.chunks()
        assert len(chunks) == 1, chunks
        data = chunks[0].data
        if self.style == EXTENDED:
            assert chunks[0].kind == STATUS_EXT, chunks
            context, count = struct.unpack(">II", data[:8])
            extents = list(struct.iter_unpack(">QQ", data[8:]))
            assert count == len(extents)
        else:
            assert chunks[0].kind == STATUS, chunks
            context = struct.unpack(">I", data[:4])[0]
            extents = list(struct.iter_unpack(">II", data[4:]))
        assert context == self.context
        return extents

    def ping(self):
        """The connection still works."""
        assert self.do(FLUSH) == 0
        return True

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def assemble(chunks, offset, length):
    """What the chunks of a read make up."""
    content, covered = bytearray(length), 0
    for chunk in chunks:
        if chunk.kind == NONE:
            continue
        assert chunk.kind in (DATA, HOLE), chunk
        start = struct.unpack(">Q", chunk.data[:8])[0] - offset
        size = len(chunk.data) - 8 if chunk.kind == DATA else struct.unpack(">I", chunk.data[8:])[0]
        assert size > 0 and 0 <= start <= length - size, chunk
        if chunk.kind == DATA:
            content[start:start + size] = chunk.data[8:]
        covered += size
    assert covered == length, (covered, length)
    return bytes(content)


def dial(uri):
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme.endswith("+unix"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(WATCHDOG)
        connection.connect(urllib.parse.parse_qs(parts.query)["socket"][0])
        return connection
    return socket.create_connection((parts.hostname, parts.port or 10809), WATCHDOG)
