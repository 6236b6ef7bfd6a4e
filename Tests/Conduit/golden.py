#!/usr/bin/env python3
"""A conversation of two ends written from docs/CONDUIT.md, without any of the Swift code.

golden.py write FOLDER     makes NAME.python for each block; the Swift tests compare them with their own
golden.py compare FOLDER   compares them with the NAME.swift of the Swift tests
"""

import pathlib
import struct
import sys

OPEN, ACCEPTED, REFUSED, DATA, URGENT, END, RESET, CREDIT, CONDUIT_CREDIT = range(1, 10)
LAST = 1
WINDOW = 16 * 1024
POOL = struct.pack("<Q", 16 * 1024 * 1024)
BULK = bytes(at * 7 % 251 for at in range(WINDOW))


def block(first, *frames):
    """Frames of type, filament, body and perhaps flags, the first with this sequence number."""
    whole = b""
    for sequence, (kind, filament, body, *flags) in enumerate(frames, first):
        whole += struct.pack("<BBHIIIQ", 1, kind, sum(flags), filament, len(body), 0, sequence) + body
    return whole


def credit(consumed, limit):
    return struct.pack("<QQ", consumed, limit)


def vectors():
    """Each block in the order of the conversation; the near end is the even one."""
    address = struct.pack("<I", 3) + b"db:5432"
    error = struct.pack("<I", 111)
    return {
        # Filament 2 is opened, written to and half closed.
        "near-opens": block(0, (CONDUIT_CREDIT, 0, POOL), (OPEN, 2, address), (DATA, 2, b"hello"), (END, 2, b"")),
        # It is accepted, read, answered and closed.
        "far-answers": block(0, (CONDUIT_CREDIT, 0, POOL), (ACCEPTED, 2, b""),
                             (CREDIT, 2, credit(5, 5 + WINDOW), LAST), (DATA, 2, b"hi!"), (END, 2, b"")),
        "near-finishes": block(4, (CREDIT, 2, credit(3, 3 + WINDOW), LAST)),
        # Filament 1 is offered by the far end and refused; the refusal is answered.
        "far-opens": block(5, (OPEN, 1, address), (DATA, 1, BULK)),
        "near-refuses": block(5, (REFUSED, 1, error)),
        "far-resets": block(7, (RESET, 1, error)),
        # Filament 2 again: an urgent byte, a whole window, a part of which is read, a reset and its answer.
        "near-again": block(6, (OPEN, 2, address), (URGENT, 2, struct.pack("<Q", WINDOW)), (DATA, 2, BULK)),
        "far-reads": block(8, (ACCEPTED, 2, b""), (CREDIT, 2, credit(5000, 5000 + WINDOW))),
        "near-resets": block(9, (RESET, 2, error)),
        "far-agrees": block(10, (RESET, 2, error)),
    }


def take_apart(whole):
    """Reads a block as a second implementation would; what doesn't fit is an exception."""
    frames = []
    while whole:
        version, kind, flags, filament, length, zero, sequence = struct.unpack_from("<BBHIIIQ", whole)
        assert (version, zero) == (1, 0), "the header is one of this version"
        assert kind in range(OPEN, CONDUIT_CREDIT + 1) and flags & ~(LAST if kind == CREDIT else 0) == 0, "it is allowed"
        assert len(whole) >= 24 + length, "the frame is whole"
        frames.append((kind, filament, whole[24:24 + length], flags))
        whole = whole[24 + length:]
    return sequence - len(frames) + 1, frames


def main():
    folder = pathlib.Path(sys.argv[2])
    if sys.argv[1] == "write":
        for name, content in vectors().items():
            (folder / f"{name}.python").write_bytes(content)
        return 0
    failed = 0
    for name, wanted in vectors().items():
        try:
            written = (folder / f"{name}.swift").read_bytes()
            first, frames = take_apart(written)
            assert block(first, *frames) == wanted, "both write the same bytes"
            print(f"ok - Python reads the block {name} that Swift wrote, frame for frame its own")
        except (OSError, AssertionError, struct.error) as error:
            failed += 1
            print(f"not ok - Python reads the block {name} that Swift wrote: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
