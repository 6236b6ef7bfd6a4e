"""The files that the servers hand out: one of 64 MiB and twenty small ones, of random bytes."""

import dataclasses
import os
import pathlib

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Documents:
    folder: pathlib.Path
    big: pathlib.Path  # 64 MiB
    middle: pathlib.Path  # 16 MiB
    small: list  # of odd sizes, 0 bytes to 70,000, around the page and ring sizes


def make(folder):
    folder.mkdir()
    sizes = [0, 1, 611, 612, 4095, 4096, 4097, 8191, 16383, 16384, 16385, 32767, 65535, 65536, 65537, 70000]
    documents = Documents(folder, folder / "big.bin", folder / "middle.bin",
                          [folder / f"small-{size}.bin" for size in sizes])
    documents.big.write_bytes(os.urandom(64 * MIB))
    documents.middle.write_bytes(os.urandom(16 * MIB))
    for path, size in zip(documents.small, sizes):
        path.write_bytes(os.urandom(size))
    return documents
