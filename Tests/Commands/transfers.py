"""What the tests of `skein send` and `skein receive` share: files, receivers, whole transfers."""

import ctypes
import ctypes.util
import json
import os
import random

from harness import skein
from running import Running, host

SUFFIX = ".skein-part"
LARGE = 4 << 30  # of a sparse file: long enough to be interrupted


def xxh128(content):
    """What libxxhash itself says, by another way than the command's."""
    class Hash(ctypes.Structure):
        _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]
    library = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")
    library.XXH3_128bits.restype = Hash
    library.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    result = library.XXH3_128bits(content, len(content))
    return f"{result.high:016x}{result.low:016x}"


def make(path, size, seed=1):
    content = random.Random(seed).randbytes(size)
    path.write_bytes(content)
    return content


def sparse(path, size=LARGE):
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def place(folder):
    target = folder / "target"
    target.mkdir(exist_ok=True)
    return target


def receiver(folder, *options, **more):
    """One that is ready, by default for the folder 'target'."""
    options = options or ("-o", place(folder))
    return Running(folder, "receive", ":0", *options, ready="stderr" if "-" in options else "stdout", **more)


def transfer(folder, path, *options, expect=0, send=()):
    """A whole transfer, with JSON from both ends where it ends well."""
    asked = [] if "-" in options else ["--json"]
    with receiver(folder, *(options or ("-o", place(folder))), *asked) as to:
        out, err = skein("send", *send, "--json", str(path), to.address, expect=expect, **host(folder))
        got, said = to.finish(expect)
        if expect:
            return err, said
        return json.loads(out), json.loads(got) if asked else got


def names(folder):
    return sorted(os.listdir(folder))
