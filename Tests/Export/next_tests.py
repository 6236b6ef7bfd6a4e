"""Clients of Debian 13, newer than this machine's: libnbd with extended headers, and qemu. They run in a folder."""

import functools
import json
import os
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Package"))
from harness import CHECKOUT, test  # noqa: E402
from server import SIZE, image, server, sparse  # noqa: E402
from system import bare_system  # noqa: E402

HUGE = 8 << 40


@functools.cache
def debian():
    """One for all tests: its tools, which reach the servers by Unix sockets in its own folders."""
    (CHECKOUT / "build/test").mkdir(parents=True, exist_ok=True)
    return bare_system(["libnbd-bin", "python3-libnbd", "qemu-utils"], "trixie")


def place(folder):
    """A folder that both sides see: here, and its path in there."""
    inner = pathlib.Path("srv") / folder.name
    (debian().root / inner).mkdir()
    return debian().root / inner, f"/{inner}"


def uri(inner, name="disk"):
    return f"nbd+unix:///{name}?socket={inner}/socket"


def shell(inner, script, name="disk"):
    prologue = f"import nbd\nh = nbd.NBD()\nh.add_meta_context('base:allocation')\nh.connect_uri({uri(inner, name)!r})\n"
    return debian().run("/usr/bin/python3", "-c", prologue + script)


@test("next: nbdinfo says that extended headers were agreed upon")
def _(folder):
    folder, inner = place(folder)
    with server(folder, f"disk={image(folder)}"):
        assert "using extended packets" in debian().run("nbdinfo", uri(inner))
        info = json.loads(debian().run("nbdinfo", "--json", uri(inner)))
        assert info["extended"] and info["exports"][0]["export-size"] == SIZE
        assert info["exports"][0]["can_block_status_payload"]


@test("next: block status, zeroes and trim have lengths of 64 bits")
def _(folder):
    folder, inner = place(folder)
    with server(folder, f"disk={sparse(folder, HUGE, (HUGE - 65536, 65536))}"):
        shell(inner, f"""
assert h.get_extended_headers_negotiated()
seen = []
h.block_status_64({HUGE}, 0, lambda context, offset, extents, error: seen.append((context, offset, extents)))
assert seen == [("base:allocation", 0, [({HUGE - 65536}, 3), (65536, 0)])], seen
h.zero({HUGE - 4096}, 0)
assert h.pread(65536, {HUGE - 65536}) == bytes(61440) + b"\\xa5" * 4096
h.trim({HUGE}, 0)
""")
        mapped = json.loads(debian().run("nbdinfo", "--map", "--json", uri(inner)))
        assert sum(extent["length"] for extent in mapped) == HUGE, mapped


@test("next: block status of chosen contexts, and a read of 32 MiB with holes")
def _(folder):
    folder, inner = place(folder)
    with server(folder, f"disk={sparse(folder, 64 << 20, (16 << 20, 65536))}"):
        shell(inner, f"""
seen = []
h.block_status_filter({64 << 20}, 0, ["base:allocation"], lambda context, offset, extents, error: seen.extend(extents))
assert seen == [({16 << 20}, 3), (65536, 0), ({(48 << 20) - 65536}, 3)], seen
assert h.pread({32 << 20}, 0) == bytes({16 << 20}) + b"\\xa5" * 65536 + bytes({(16 << 20) - 65536})
""")


@test("next: nbdcopy both ways, and qemu-img's convert and compare")
def _(folder):
    folder, inner = place(folder)
    source = random.Random(17).randbytes(24 << 20) + bytes(8 << 20)
    (folder / "source.img").write_bytes(source)
    (folder / "target.img").write_bytes(b"")
    os.truncate(folder / "target.img", len(source))
    with server(folder, f"disk={folder / 'target.img'}", f"memory=memory:{len(source)}"):
        for name in ("disk", "memory"):
            debian().run("nbdcopy", f"{inner}/source.img", uri(inner, name))
            debian().run("nbdcopy", uri(inner, name), f"{inner}/back.img")
            assert (folder / "back.img").read_bytes() == source
            debian().run("qemu-img", "compare", "-f", "raw", "-F", "raw", f"{inner}/source.img", uri(inner, name))
        debian().run("nbdcopy", uri(inner, "disk"), uri(inner, "memory"))
        debian().run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri(inner, "memory"), f"{inner}/copy.qcow2")
        debian().run("qemu-img", "compare", f"{inner}/copy.qcow2", uri(inner, "disk"))
