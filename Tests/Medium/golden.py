#!/usr/bin/env python3
"""Blocks of a medium written from docs/MEDIUM.md, without any of the Swift code.

golden.py write FOLDER     makes NAME.python for each vector; the Swift tests compare them with their own
golden.py compare FOLDER PART   compares those of a part (medium, seal) with the NAME.swift of the Swift tests
"""

import pathlib
import struct
import sys

import cipher

UNIT = 4096
GROUP_KEY = bytes(range(32))
MEDIUM = bytes(range(0x10, 0x20))
WRITER = bytes(range(0x20, 0x30))
READER = bytes(range(0x30, 0x40))
NOBODY = bytes(16)
# The two hosts of which one sends a batch to the other.
SENDER = bytes(range(1, 17))
TAKER = bytes(range(2, 18))
LABELS = {b"SKLS": b"skein lease", b"SKRW": b"skein row", b"SKTB": b"skein table", b"SKDT": b"skein conduit"}


def key_for(magic, writer, reader):
    return cipher.hkdf(GROUP_KEY, MEDIUM, LABELS[magic] + writer + reader, 32)


def header_and_cover(magic, place, writer, count, length, flags, medium, reader):
    header = magic + struct.pack("<HHQ", 1, 0, place) + writer + struct.pack("<QII", count, length, flags)
    return header, header + medium + reader


def checksum(cover, body):
    return struct.pack("<QQ", cipher.xxh64(body, cipher.xxh64(cover)), 0)


def block(magic, place, writer, count, body, reader=NOBODY, medium=MEDIUM, sealed=False):
    header, cover = header_and_cover(magic, place, writer, count, len(body), int(sealed), medium, reader)
    if sealed:
        body, proof = cipher.gcm(key_for(magic, writer, reader), struct.pack("<IQ", 0, count), body, cover)
    else:
        proof = checksum(cover, body)
    whole = header + proof + body
    return whole + bytes(-len(whole) % UNIT)


def geometry(hosts, ring, table):
    """Four regions, each start and units a host; and the units in all."""
    leases = 512
    rows = leases + hosts
    tables = rows + hosts * hosts
    data = tables + hosts * table
    return [(leases, 1), (rows, hosts), (tables, table), (data, 2 * (hosts - 1) * ring)], \
        data + hosts * 2 * (hosts - 1) * ring


def superblock(place, sealed):
    regions, units = geometry(3, 64, 2)
    check = cipher.hkdf(GROUP_KEY, MEDIUM, b"skein check" + NOBODY + NOBODY, 16) if sealed else bytes(16)
    body = MEDIUM + b"accounts".ljust(32, b"\0") + struct.pack("<II", 3, int(sealed)) + check
    body += struct.pack("<IIQ", 1500, 64, units) + b"".join(struct.pack("<QQ", *region) for region in regions)
    body += struct.pack("<II", 1, 0) + MEDIUM.ljust(48, b"\0") + struct.pack("<Q", 1_700_000_000)
    return block(b"SKSB", place, NOBODY, 7, body, medium=NOBODY)


def lease():
    name = "höst".encode()
    body = struct.pack("<BBHIQ", 2, len(name), 2, 0, 5) + bytes(range(0x40, 0x60)) + struct.pack("<Q", 123456789)
    body += name.ljust(64, b"\0") + struct.pack("<Q", 0) + READER + struct.pack("<Q", 2) + NOBODY
    return body


def row():
    return struct.pack("<QIIQQQ", 4711, 64, 0, 1 << 40, 99, 98)


def table():
    record = struct.pack("<QQIIIIIIII", 0x1111, 0x2222, 3, 2, 1, 7, 3, 9, 0x5354, 80) + bytes(range(0x60, 0x80))
    record += struct.pack("<IIQQ", 443, 12, 13, 14) + b"postgres".ljust(16, b"\0") + struct.pack("<Q", 0x3333)
    assert len(record) == 128
    return bytes(128 * 30) + record


def data():
    return struct.pack("<Q", 17) + bytes(at * 7 % 251 for at in range(5000))


def batch():
    """What a host has for another at first: two blocks in one write, of two units and of one."""
    return [struct.pack("<Q", 0) + bytes(at * 7 % 251 for at in range(5000)), struct.pack("<Q", 0) + bytes([1, 2, 3])]


def bell():
    """The row that goes with it, where two hosts have rings of 64 units: the sender's second half, being generation 1."""
    (_, _, _, (data, _)), _ = geometry(2, 64, 1)
    return struct.pack("<QIIQQQ", data + 64, 64, 0, 3, 0, 0)


def vectors():
    made = {"superblock": superblock(0, False), "superblock-copy": superblock(256, True)}
    bodies = batch()
    made["batch"] = block(b"SKDT", 0, SENDER, 1, bodies[0], TAKER) + block(b"SKDT", 2, SENDER, 2, bodies[1], TAKER)
    (_, (rows, units), _, _), _ = geometry(2, 64, 1)
    made["bell"] = block(b"SKRW", rows + units, SENDER, 1, bell(), TAKER)
    for sealed in (False, True):
        end = "-sealed" if sealed else ""
        made["lease" + end] = block(b"SKLS", 513, WRITER, 3, lease(), sealed=sealed)
        made["row" + end] = block(b"SKRW", 516, WRITER, 4, row(), READER, sealed=sealed)
        made["table" + end] = block(b"SKTB", 525, WRITER, 5, table(), sealed=sealed)
        made["data" + end] = block(b"SKDT", 1 << 33, WRITER, 6, data(), READER, sealed=sealed)
    return made


def take_apart(name, whole):
    """Reads blocks as a second implementation would; what doesn't fit is an exception."""
    bodies = []
    while whole:
        body = take_one(whole, TAKER if name in ("batch", "bell") else READER)
        bodies.append(body)
        whole = whole[-(-(64 + len(body)) // UNIT) * UNIT:]
    if name.startswith("superblock"):
        assert bodies[0][:16] == MEDIUM and bodies[0][16:24] == b"accounts"
    else:
        single = {"lease": lease, "row": row, "table": table, "data": data, "bell": bell}
        kind = name.split("-")[0]
        assert bodies == (batch() if kind == "batch" else [single[kind]()]), "the body is what it is to be"


def take_one(whole, reader):
    """The body of the first block."""
    magic, flags = whole[:4], struct.unpack_from("<I", whole, 44)[0]
    major, minor, place = struct.unpack_from("<HHQ", whole, 4)
    count, length = struct.unpack_from("<QI", whole, 32)
    reader = reader if magic in (b"SKRW", b"SKDT") else NOBODY
    medium = NOBODY if magic == b"SKSB" else MEDIUM
    _, cover = header_and_cover(magic, place, whole[16:32], count, length, flags, medium, reader)
    body = whole[64:64 + length]
    if flags & 1:
        # In counter mode sealing twice opens.
        key = key_for(magic, whole[16:32], reader)
        body, _ = cipher.gcm(key, struct.pack("<IQ", 0, count), body, cover)
        _, proof = cipher.gcm(key, struct.pack("<IQ", 0, count), body, cover)
    else:
        proof = checksum(cover, body)
    assert proof == whole[48:64], "the proof fits"
    assert (major, minor) == (1, 0), "the version is 1.0"
    return body


def compare(folder, part):
    failed = 0
    for name, wanted in vectors().items():
        if (part == "seal") != (name.endswith("-sealed") or name == "superblock-copy"):
            continue
        try:
            written = (folder / f"{name}.swift").read_bytes()
            take_apart(name, written)
            assert written == wanted, "both write the same bytes"
            print(f"ok - Python reads the {name} that Swift wrote, byte for byte its own")
        except (OSError, AssertionError, struct.error) as error:
            failed += 1
            print(f"not ok - Python reads the {name} that Swift wrote: {error}")
    return 1 if failed else 0


def main():
    cipher.self_test()
    folder = pathlib.Path(sys.argv[2])
    if sys.argv[1] == "compare":
        return compare(folder, sys.argv[3])
    for name, content in vectors().items():
        (folder / f"{name}.python").write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
