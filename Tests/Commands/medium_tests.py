"""`skein medium` and `skein key`: the disk that hosts share, and its key."""

import json
import os
import shutil
import subprocess

from harness import SKEIN, Skip, one_line, skein, test

UNIT = 4096
COPY = 256 * UNIT
LEASES = 512 * UNIT


def create(folder, *options, expect=0, path="medium", key="key"):
    return skein("medium", "create", folder / path, *options, expect=expect, SKEIN_KEY_FILE=folder / key)


def medium(folder, *words, expect=0, key="key"):
    return skein("medium", *words, folder / "medium", expect=expect, SKEIN_KEY_FILE=folder / key)


def overwrite(folder, offset, data):
    with open(folder / "medium", "r+b") as file:
        file.seek(offset)
        file.write(data)


def content(folder, offset, size):
    with open(folder / "medium", "rb") as file:
        file.seek(offset)
        return file.read(size)


SMALL = ("--hosts", "2", "--size", "8M")


@test("a medium is made in a new file of the size that its hosts need, with a key that only its owner can read")
def made(folder):
    out, _ = create(folder, "--hosts", "2", "--group", "lab")
    assert "of group 'lab'" in out and "9000 ms of silence" in out and "skein key import lab" in out, out
    size = (folder / "medium").stat().st_size
    assert size == (512 + 2 + 4 + 2 * 144 + 2 * 2 * 1024) * UNIT, size
    assert (folder / "key").stat().st_mode & 0o777 == 0o600
    shown = json.loads(medium(folder, "show", "--json")[0])
    assert (shown["group"], shown["slots"], shown["sealed"], shown["bytes"], shown["hosts"]) == ("lab", 2, True, size, [])
    assert "AES-256-GCM" in medium(folder, "show")[0]


@test("a medium fits the size that is asked for, and times are read as milliseconds or seconds")
def sizes(folder):
    create(folder, "--hosts", "3", "--size", "16M", "--io-timeout", "250ms")
    shown = json.loads(medium(folder, "show", "--json")[0])
    assert shown["bytes"] <= 16 << 20 and shown["deadMilliseconds"] == 2250, shown
    create(folder, "--hosts", "3", "--size", "16M", "--io-timeout", "2.5s", "--force")
    assert json.loads(medium(folder, "show", "--json")[0])["timeoutMilliseconds"] == 2500


@test("what holds something is left as it is, a medium too, and is written over with --force")
def occupied(folder):
    (folder / "medium").write_bytes(b"\0" * 100 + b"mine" + b"\0" * (8 << 20))
    before = (folder / "medium").read_bytes()
    one_line(create(folder, *SMALL, expect=1)[1], "holds something", "--force")
    assert (folder / "medium").read_bytes() == before and not (folder / "key").exists()
    create(folder, *SMALL, "--force")
    made = (folder / "medium").read_bytes()
    one_line(create(folder, *SMALL, expect=1)[1], "holds a medium", "--force")
    assert (folder / "medium").read_bytes() == made
    # At the end of a device too: backup partition tables lie there.
    (folder / "medium").write_bytes(b"\0" * (8 << 20) + b"mine")
    one_line(create(folder, "--hosts", "2", expect=1)[1], "holds something")


@test("bad sizes, hosts, times, groups and places are refused in one line, and nothing is left behind")
def refused(folder):
    for options, words in (
            (("--hosts", "1"), "2 to 64 hosts"), (("--hosts", "65"), "2 to 64 hosts"),
            (("--size", "1M"), "fewer hosts"), (("--size", "many"), "no size"), (("--io-timeout", "soon"), "no time"),
            (("--io-timeout", "1ms"), "10 to 600,000"), (("--group", "x" * 33), "1 to 32 bytes"), (("--group", "a/b"), "no stroke"),
            (("--plaintext", "--key", folder / "k"), "--plaintext")):
        one_line(create(folder, *options, expect=1)[1], words)
        assert not (folder / "medium").exists() and not (folder / "key").exists(), options
    (folder / "folder").mkdir()
    one_line(create(folder, path="folder", expect=1)[1], "no file and no block device")
    one_line(medium(folder, "show", expect=1)[1], "skein medium create")
    (folder / "medium").write_bytes(b"\0" * (4 << 20))
    one_line(medium(folder, "show", expect=1)[1], "no medium")
    (folder / "medium").write_bytes(b"")
    one_line(medium(folder, "show", expect=1)[1], "no medium")


@test("a mistyped command is named, with the one that was meant")
def mistyped(folder):
    assert "Did you mean 'create'?" in skein("medium", "creat", folder / "medium", expect=64)[1]
    assert "Did you mean 'show'?" in skein("key", "shw", "default", expect=64)[1]


@test("a full file system is named with what a medium needs, and the file goes again")
def full(folder):
    if os.geteuid() != 0:
        raise Skip("mounting is root's")
    script = f"mount -t tmpfs -o size=4M none {folder} && exec {SKEIN} medium create {folder}/medium --hosts 2 --key {folder}/key"
    result = subprocess.run(["unshare", "-m", "sh", "-c", script + f"; ls {folder}"], capture_output=True, text=True)
    if "unshare" in result.stderr or "mount" in result.stderr:
        raise Skip(result.stderr.strip())
    assert result.returncode == 1, result
    one_line(result.stderr, "No space left", "--size")


@test("a damaged copy of the superblock is told, and written anew with --repair; two are too many")
def superblocks(folder):
    create(folder, *SMALL)
    for place in (0, COPY):
        good = content(folder, place, UNIT)
        overwrite(folder, place + 70, b"\xff")
        out, _ = medium(folder, "check", expect=4)
        assert "--repair" in out, out
        assert not json.loads(medium(folder, "show", "--json")[0])["whole"]
        out, _ = medium(folder, "check", "--repair", expect=1)
        assert "written anew" in out, out
        assert "0 problems" in medium(folder, "check")[0]
        assert content(folder, place, UNIT) != good  # its count is higher
    overwrite(folder, 70, b"\xff")
    overwrite(folder, COPY + 70, b"\xff")
    one_line(medium(folder, "show", expect=1)[1], "both copies")
    one_line(medium(folder, "check", "--repair", expect=1)[1], "both copies")


@test("a newer format is refused by its number, and a medium that was cut off by its size")
def formats(folder):
    create(folder, *SMALL)
    for place in (0, COPY):
        overwrite(folder, place + 4, b"\x02")
    one_line(medium(folder, "show", expect=1)[1], "format 2", "format 1")
    create(folder, *SMALL, "--force")
    os.truncate(folder / "medium", 4 << 20)
    one_line(medium(folder, "show", expect=1)[1], "cut off")


@test("damage to leases and the table is found, unit by unit")
def damage(folder):
    create(folder, *SMALL)
    assert "0 problems" in medium(folder, "check")[0]
    overwrite(folder, LEASES, b"noise")
    overwrite(folder, (512 + 2 + 4) * UNIT, b"noise")
    out, _ = medium(folder, "check", expect=4)
    assert "lease unit 512 of host 0 is damaged" in out and "table unit 518 of host 0 is damaged" in out, out
    assert "2 problems" in out, out


@test("without the key a medium shows what it is and no more; a wrong key is told as such")
def keys(folder):
    create(folder, *SMALL)
    out, _ = medium(folder, "show", key="none")
    assert "the group's key is not here" in out, out
    one_line(medium(folder, "check", key="none", expect=1)[1], "key of group 'default' is not here")
    create(folder, *SMALL, path="other", key="other-key")
    one_line(medium(folder, "show", key="other-key", expect=1)[1], "is not that of")
    create(folder, *SMALL, "--force", "--plaintext")
    assert "none: checksums alone" in medium(folder, "show", key="none")[0]
    assert "0 problems" in medium(folder, "check", key="none")[0]


@test("a key goes to another host as a text, whose slips are noticed, and never over another key")
def texts(folder):
    create(folder, *SMALL)
    text = skein("key", "show", "default", SKEIN_KEY_FILE=folder / "key")[0].strip()
    assert len(text.replace("-", "")) == 56, text

    def bring(text, path="there", expect=0):
        return skein("key", "import", "default", text, expect=expect, SKEIN_KEY_FILE=folder / path)

    bring(text)
    shutil.copy(folder / "there", folder / "key")
    assert "0 problems" in medium(folder, "check")[0]
    assert "already" in bring(text)[0]
    bring(text.upper().replace("-", " ").replace("0", "o").replace("1", "l"), path="typed")
    assert (folder / "typed").read_text() == (folder / "there").read_text()
    changed = text[:-1] + ("0" if text[-1] != "0" else "1")
    swapped = next(text[:place] + text[place + 1] + text[place] + text[place + 2:] for place in range(len(text) - 1)
                   if "-" not in text[place:place + 2] and text[place] != text[place + 1])
    for slip in (changed, swapped):
        one_line(bring(slip, path="slip", expect=1)[1], "mistyped")
    one_line(bring(text[:-5], path="slip", expect=1)[1], "56 characters")
    one_line(bring(text[:-1] + "!", path="slip", expect=1)[1], "no character of a key")
    assert not (folder / "slip").exists()
    create(folder, *SMALL, path="second", key="second-key")
    other = skein("key", "show", "default", SKEIN_KEY_FILE=folder / "second-key")[0].strip()
    one_line(bring(other, expect=1)[1], "a key already")
    one_line(skein("key", "show", "default", expect=1, SKEIN_KEY_FILE=folder / "missing")[1], "skein key import")
    os.chmod(folder / "there", 0o644)
    one_line(skein("key", "show", "default", expect=1, SKEIN_KEY_FILE=folder / "there")[1], "chmod 600")


@test("a block device becomes a medium; one that is in use is refused")
def devices(folder):
    if os.geteuid() != 0:
        raise Skip("block devices are root's")
    (folder / "image").write_bytes(b"\0" * (8 << 20))
    attached = subprocess.run(["losetup", "--find", "--show", folder / "image"], capture_output=True, text=True)
    if attached.returncode != 0:
        raise Skip(f"no loop device: {attached.stderr.strip()}")
    device = attached.stdout.strip()
    try:
        skein("medium", "create", device, "--hosts", "2", SKEIN_KEY_FILE=folder / "key")
        shown = json.loads(skein("medium", "show", device, "--json", SKEIN_KEY_FILE=folder / "key")[0])
        assert shown["slots"] == 2 and shown["bytes"] <= 8 << 20, shown
        one_line(skein("medium", "create", device, "--size", "1G", "--force", expect=1, SKEIN_KEY_FILE=folder / "key")[1],
                 "8388608 bytes")
        holder = os.open(device, os.O_RDWR | os.O_EXCL)
        try:
            one_line(skein("medium", "create", device, "--force", expect=1, SKEIN_KEY_FILE=folder / "key")[1], "in use")
        finally:
            os.close(holder)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
