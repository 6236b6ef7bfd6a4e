"""`skein attach` and `skein detach`: exports as disks of this machine."""

import contextlib
import os
import pathlib
import shutil
import subprocess

from harness import SKEIN, Skip, one_line, skein, test
from running import host, needs_root
from server import image
from server import server as plain_server

TOOLS = "/usr/sbin:/sbin"


def needs(*names):
    for name in names:
        if not shutil.which(name, path=f"{os.environ['PATH']}:{TOOLS}"):
            raise Skip(f"{name} isn't installed: Tests/Programs/install.sh")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise Skip("there is no /dev/fuse")
    # The kernel's client would make block devices instead.
    if os.path.exists("/sys/block/nbd0"):
        raise Skip("the kernel has nbd")


def command(folder, *words, expect=0):
    return skein(*map(str, words), expect=expect, SKEIN_DIR=host(folder)["SKEIN_DIR"])


@contextlib.contextmanager
def server(folder, *devices):
    """A server whose disks are gone when the block ends, also where that went wrong."""
    with plain_server(folder, *devices) as running:
        try:
            yield running
        finally:
            places = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
            for place in reversed([place for place in places if place.startswith(f"{folder}/")]):
                os.system(f"umount --lazy '{place}'")


def left(folder):
    return [entry.name for entry in (folder / "runtime").iterdir() if "attach" in entry.name]


@test("foreign: attach shows an export as a file by nbdfuse, for reading too, and detach takes it away when all is written")
def _(folder):
    needs("nbdfuse")
    needs_root("to mount without fusermount3")
    path = image(folder)
    with server(folder, f"disk={path}") as running:
        uri = f"nbd+unix:///disk?socket={folder}/socket"
        disk = pathlib.Path(command(folder, "attach", uri)[0].strip())
        view = pathlib.Path(command(folder, "attach", "--read-only", uri)[0].strip())
        assert disk.read_bytes() == view.read_bytes() == path.read_bytes() and disk != view
        with open(disk, "r+b") as file:
            file.write(b"written")
        command(folder, "detach", disk)
        assert path.read_bytes()[:7] == b"written" and not disk.exists() and view.exists()
        command(folder, "detach", view)
        assert left(folder) == []


@test("foreign: attach mounts the file system of an export, and what is written to it is there after detach; e2fsck finds nothing")
def _(folder):
    needs("nbdfuse", "mkfs.ext4", "e2fsck")
    needs_root("to mount a file system")
    path, place = image(folder, content=bytes(16 << 20)), folder / "mounted"
    place.mkdir()
    tools = os.environ | {"PATH": f"{os.environ['PATH']}:{TOOLS}"}
    subprocess.run(["mkfs.ext4", "-q", path], check=True, env=tools)
    with server(folder, f"disk={path}") as running:
        uri = f"nbd+unix:///disk?socket={folder}/socket"
        result = subprocess.run([SKEIN, "attach", uri, place], capture_output=True, text=True, env=host(folder), timeout=60)
        if "loop" in result.stderr:
            raise Skip(f"no loop device is to be had: {result.stderr.strip()}")
        assert result.returncode == 0, result.stderr
        (place / "file").write_bytes(b"content" * 100000)
        command(folder, "detach", place)
        assert list(place.iterdir()) == [] and left(folder) == []
        disk = command(folder, "attach", "--read-only", uri, place)[0].strip()
        assert (place / "file").read_bytes() == b"content" * 100000
        command(folder, "detach", disk)
    subprocess.run(["e2fsck", "-fn", path], check=True, env=tools, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@test("foreign: attach says what is wrong with an address, a mountpoint or a server, and leaves nothing behind")
def _(folder):
    needs("nbdfuse")
    needs_root("to mount without fusermount3")
    with server(folder, f"disk={image(folder)}") as running:
        uri = f"nbd+unix:///disk?socket={folder}/socket"
        one_line(command(folder, "attach", "http://x", expect=64)[1], "nbd://HOST/NAME")
        one_line(command(folder, "attach", uri, folder / "nowhere", expect=1)[1], "make it first")
        one_line(command(folder, "attach", uri.replace("disk", "none"), expect=2)[1], "can't be attached")
        one_line(command(folder, "attach", f"nbd+unix:///?socket={folder}/nobody", expect=2)[1], "can't be attached")
        # Noise is no file system.
        one_line(command(folder, "attach", uri, folder, expect=1)[1], "can't be mounted")
        one_line(command(folder, "detach", folder, expect=1)[1], "nothing that 'skein attach' has made")
        one_line(command(folder, "detach", "/proc", expect=1)[1], "nothing that 'skein attach' has made")
        assert left(folder) == []


@test("foreign: attach with the kernel's client takes the first free device and tells nbd-client where to go")
def _(folder):
    needs_root("for folders in place of the kernel's")
    tools = folder / "tools"
    tools.mkdir()
    (tools / "nbd-client").write_text(f'#!/bin/sh\necho "$@" >>{folder}/said\n[ "$2" != 1 ] || {{ echo no such export; exit 1; }}\n')
    (tools / "nbd-client").chmod(0o755)
    script = f"""
mount -t tmpfs none /sys/block && mkdir -p /sys/block/nbd0 /sys/block/nbd1 /sys/block/nbd10 && echo 1 >/sys/block/nbd0/pid || exit 99
PATH={tools}:$PATH
{SKEIN} attach nbd://server/a%20name && {SKEIN} attach --read-only nbd://[::1]:7/ &&
{SKEIN} attach 'nbd+unix:///disk?socket=/run/s' && {SKEIN} detach /dev/nbd1; {SKEIN} attach nbd://server:1/x
"""
    result = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, env=host(folder), timeout=60)
    if result.returncode == 99:
        raise Skip(f"no mount of our own: {result.stderr.strip()}")
    assert result.stdout.split() == ["/dev/nbd1"] * 3, result
    assert result.returncode == 2 and "no such export" in result.stderr
    assert (folder / "said").read_text().splitlines() == [
        "server 10809 /dev/nbd1 -N a name", "::1 7 /dev/nbd1 -N  -readonly", "-unix /run/s /dev/nbd1 -N disk", "-d /dev/nbd1",
        "server 1 /dev/nbd1 -N x"]
