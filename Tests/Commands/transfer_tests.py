"""`skein send` and `skein receive` between honest ends, also interrupted ones and on a terminal."""

import os
import pty
import random
import threading
import time

from harness import one_line, skein, test
from running import INTERRUPT, KILL, TERMINATE, Running, host, needs_root, until
from transfers import LARGE, SUFFIX, make, names, place, receiver, sparse, transfer, xxh128

# --- honest ends

@test("send: a file arrives with its name, content and permissions, and both ends say its checksum")
def _(folder):
    content = make(folder / "file.bin", 5_000_123)
    (folder / "file.bin").chmod(0o750)
    sent, got = transfer(folder, folder / "file.bin")
    arrived = place(folder) / "file.bin"
    assert arrived.read_bytes() == content and arrived.stat().st_mode & 0o777 == 0o750
    assert sent["xxh128"] == got["xxh128"] == xxh128(content)
    assert (sent["name"], sent["bytes"], sent["resumed_from"]) == ("file.bin", 5_000_123, 0) and got["name"] == str(arrived)
    assert names(place(folder)) == ["file.bin"]


@test("send: without --json a line says what was sent, and nothing else is said")
def _(folder):
    content = make(folder / "a file", 1000)
    with receiver(folder) as to:
        out, err = skein("send", str(folder / "a file"), to.address, **host(folder))
        got, said = to.finish()
    assert out == f"sent a file: 1000 bytes, xxh128 {xxh128(content)}\n" and err == said == ""
    assert got.decode() == f"received {place(folder)}/a file: 1000 bytes, xxh128 {xxh128(content)}\n"


@test("send: an empty file is a file")
def _(folder):
    make(folder / "empty", 0)
    sent, _ = transfer(folder, folder / "empty")
    assert sent["bytes"] == 0 and (place(folder) / "empty").stat().st_size == 0 and names(place(folder)) == ["empty"]


@test("receive: -o names the file, the folder, or standard output; the current folder is the default")
def _(folder):
    content = make(folder / "x", 30_000)
    transfer(folder, folder / "x", "-o", folder / "other")
    assert (folder / "other").read_bytes() == content
    assert transfer(folder, folder / "x", "-o", "-")[1] == content
    with receiver(folder, "--json", cwd=place(folder)) as to:
        skein("send", str(folder / "x"), to.address, **host(folder))
        to.finish()
    assert (place(folder) / "x").read_bytes() == content


@test("send: standard input of any length is sent under a name that is given, or to one that is")
def _(folder):
    content = random.Random(2).randbytes(3_000_000)
    for options, given, target in ((["-o", place(folder)], ["--name", "given"], place(folder) / "given"),
                                   (["-o", folder / "mine"], [], folder / "mine")):
        with receiver(folder, *options) as to, Running(folder, "send", *given, "-", to.address) as sender:
            sender.finish(0, content)
            to.finish()
        assert target.read_bytes() == content


@test("send: --name is offered in place of the file's own, which may be too long here")
def _(folder):
    content = make(folder / ("x" * 250), 10)
    refused, said = transfer(folder, folder / ("x" * 250), expect=1)
    one_line(refused, "-o FILE")
    one_line(said, "-o FILE")
    transfer(folder, folder / ("x" * 250), send=["--name", "short"])
    assert (place(folder) / "short").read_bytes() == content


# --- resuming

@test("send: what is there from an earlier try is not sent again, unless it differs or is too long")
def _(folder):
    content = make(folder / "x", 2_000_000)
    part = place(folder) / f"x{SUFFIX}"
    for left, resumed in ((content[:700_001], 700_001), (content, 2_000_000), (b"", 0), (content[:9] + b"other", 0),
                          (content + b"more", 0)):
        part.write_bytes(left)
        sent, got = transfer(folder, folder / "x")
        assert sent["resumed_from"] == got["resumed_from"] == resumed, (sent, got)
        assert sent["xxh128"] == xxh128(content) and (place(folder) / "x").read_bytes() == content
        assert names(place(folder)) == ["x"]
        (place(folder) / "x").unlink()


def interrupted(folder, by, whom):
    """Stops a transfer in the middle. Returns what both ends say, and what is left."""
    sparse(folder / "large")
    part = place(folder) / f"large{SUFFIX}"
    with receiver(folder) as to, Running(folder, "send", folder / "large", to.address) as sender:
        until(lambda: part.exists() and part.stat().st_size > 0, "some of it arrives")
        (to if whom == "receiver" else sender).signal(by)
        outputs = [running.process.communicate(timeout=60)[1].decode() for running in (sender, to)]
        codes = sender.process.returncode, to.process.returncode
    assert names(place(folder)) == [part.name] and 0 < part.stat().st_size < LARGE
    # The rest needn't be gigabytes.
    size = part.stat().st_size
    sparse(folder / "large", size + 1_000_000)
    sent, _ = transfer(folder, folder / "large")
    assert sent["resumed_from"] == size and sent["bytes"] == size + 1_000_000
    (place(folder) / "large").unlink()
    return codes, outputs


@test("send: interrupted, it says how to go on, the receiver keeps what has come, and the next try goes on")
def _(folder):
    for number in (INTERRUPT, TERMINATE):
        codes, (sender, said) = interrupted(folder, number, "sender")
        assert codes == (-number, 3), codes
        one_line(sender, "interrupted", "run both commands again")
        one_line(said, "sender is gone", "bytes are kept in", "only the rest")


@test("receive: interrupted or killed, the sender says how to go on, and the next try goes on")
def _(folder):
    codes, (sender, said) = interrupted(folder, INTERRUPT, "receiver")
    assert codes == (3, -INTERRUPT), codes
    one_line(sender, "receiver is gone", "only the rest is sent")
    one_line(said, "interrupted", "run both commands again")
    codes, (sender, said) = interrupted(folder, KILL, "receiver")
    assert codes == (3, -KILL) and said == ""
    one_line(sender, "receiver is gone")


@test("send: standard input can't be resumed, and both ends say so")
def _(folder):
    with receiver(folder) as to, Running(folder, "send", "--name", "x", "-", to.address) as sender:
        sender.process.stdin.write(b"x" * 1_000_000)
        sender.process.stdin.flush()
        part = place(folder) / f"x{SUFFIX}"
        until(lambda: part.exists() and part.stat().st_size > 0, "some of it arrives")
        sender.signal(INTERRUPT)
        sender.process.wait(60)  # before its input ends
        err = sender.process.communicate()[1].decode()
        one_line(err, "can't be sent from the middle")
        said = to.finish(3)[1]
        one_line(said, "run both commands again")
        assert "only the rest" not in said


@test("send: a file that becomes shorter in the meantime is no file that arrives")
def _(folder):
    path = sparse(folder / "large")
    part = place(folder) / f"large{SUFFIX}"
    with receiver(folder) as to, Running(folder, "send", path, to.address) as sender:
        until(lambda: part.exists() and part.stat().st_size > 0, "some of it arrives")
        os.truncate(path, 1)
        one_line(sender.finish(1)[1], "became shorter")
        one_line(to.finish(1)[1], "became shorter")
    assert names(place(folder)) == [part.name]


# --- what is there already

@test("receive: a target that exists stays as it is without --force, whoever named it")
def _(folder):
    content = make(folder / "x", 1000)
    mine = place(folder) / "x"
    mine.write_bytes(b"mine")
    for err in transfer(folder, folder / "x", expect=5):
        one_line(err, "exists", "--force")
    one_line(skein("receive", "-o", str(mine), ":0", expect=5, **host(folder))[1], "exists", "--force")
    assert mine.read_bytes() == b"mine" and names(place(folder)) == ["x"]
    transfer(folder, folder / "x", "-o", mine, "--force")
    assert mine.read_bytes() == content
    mine.unlink()
    mine.symlink_to("nowhere")
    transfer(folder, folder / "x", expect=5)
    assert mine.is_symlink()


@test("receive: --force replaces files alone: a device, a FIFO or a link stays, whoever named it")
def _(folder):
    make(folder / "x", 1000)
    target = place(folder) / "x"
    for put in (lambda: os.mkfifo(target), lambda: target.symlink_to("/dev/null"), lambda: target.symlink_to("nowhere")):
        put()
        before = target.lstat()
        for err in transfer(folder, folder / "x", "-o", place(folder), "--force", expect=5):
            one_line(err, "no ordinary file", "-o -")
        one_line(skein("receive", "--force", "-o", str(target), ":0", expect=5, **host(folder))[1], "no ordinary file")
        assert target.lstat().st_ino == before.st_ino and target.lstat().st_mode == before.st_mode
        target.unlink()
    assert names(place(folder)) == []


@test("receive: a FIFO that comes to be while the file arrives stays, with --force too")
def _(folder):
    fifo = place(folder) / "x"
    with receiver(folder, "--force", "-o", place(folder)) as to, Running(folder, "send", "--name", "x", "-", to.address) as sender:
        sender.process.stdin.write(b"theirs")
        sender.process.stdin.flush()
        until(lambda: (place(folder) / f"x{SUFFIX}").exists(), "it begins to arrive")
        os.mkfifo(fifo)
        one_line(sender.finish(5, b"")[1], "no ordinary file")
        one_line(to.finish(5)[1], "no ordinary file")
    assert fifo.is_fifo()


@test("receive: a target that comes to be while the file arrives stays as it is")
def _(folder):
    mine = place(folder) / "x"
    with receiver(folder) as to, Running(folder, "send", "--name", "x", "-", to.address) as sender:
        sender.process.stdin.write(b"theirs")
        sender.process.stdin.flush()
        until(lambda: (place(folder) / f"x{SUFFIX}").exists(), "it begins to arrive")
        mine.write_bytes(b"mine")
        one_line(sender.finish(5, b"")[1], "--force")
        one_line(to.finish(5)[1], "--force")
    assert mine.read_bytes() == b"mine"


@test("receive: what lies in the place of the file in progress and isn't its own is left alone")
def _(folder):
    make(folder / "x", 1000)
    victim = folder / "victim"
    victim.write_bytes(b"precious")
    part = place(folder) / f"x{SUFFIX}"
    for put in (lambda: part.symlink_to(victim), lambda: os.link(victim, part), lambda: os.mkfifo(part), part.mkdir):
        put()
        for err in transfer(folder, folder / "x", expect=1):
            one_line(err, part.name)
        assert victim.read_bytes() == b"precious" and names(place(folder)) == [part.name]
        part.rmdir() if part.is_dir() and not part.is_symlink() else part.unlink()


@test("receive: a file in progress of another user is left alone")
def _(folder):
    needs_root("to make a file of another user")
    make(folder / "x", 1000)
    part = place(folder) / f"x{SUFFIX}"
    part.write_bytes(b"bait")
    os.chown(part, 65534, 65534)
    transfer(folder, folder / "x", expect=1)
    assert part.read_bytes() == b"bait"


@test("receive: two can't write one file")
def _(folder):
    make(folder / "x", 1000)
    with receiver(folder) as first, Running(folder, "send", "--name", "x", "-", first.address) as slow:
        slow.process.stdin.write(b"slow")
        slow.process.stdin.flush()
        until(lambda: (place(folder) / f"x{SUFFIX}").exists(), "it begins to arrive")
        for err in transfer(folder, folder / "x", expect=1):
            one_line(err, "another 'skein receive'")
        slow.finish(0, b" and steady")
        first.finish()
    assert (place(folder) / "x").read_bytes() == b"slow and steady"


# --- bad arguments

@test("send: a file that is missing, a folder or a pipe is explained before anything is connected")
def _(folder):
    os.mkfifo(folder / "pipe")
    for path, words in ((folder / "none", ["No such file"]), (folder, ["a folder", "tar c"]), (folder / "pipe", ["skein send - ADDRESS <"])):
        one_line(skein("send", str(path), ":7", expect=1, **host(folder))[1], *words)
    make(folder / "x", 1)
    one_line(skein("send", str(folder / "x"), ":7998", expect=2, **host(folder))[1], "nobody listens")
    assert "255 bytes" in skein("send", "--name", "x" * 256, str(folder / "x"), ":7", expect=64)[1]
    assert "is no STP address" in skein("send", str(folder / "x"), "x", expect=64)[1]
    assert "Missing" in skein("send", expect=64)[1]


@test("receive: targets that can't be are explained before anybody connects")
def _(folder):
    one_line(skein("receive", ":0", "-o", f"{folder}/none/", expect=1, **host(folder))[1], "make it first")
    one_line(skein("receive", ":0", "-o", f"{folder}/none/x", expect=1, **host(folder))[1], "No such file")
    one_line(skein("receive", ":0", "-o", "", expect=1, **host(folder))[1], "make it first")
    assert "--json" in skein("receive", ":0", "-o", "-", "--json", expect=64)[1]
    assert "is no STP address" in skein("receive", "x", expect=64)[1]
    with receiver(folder) as first:
        one_line(skein("receive", first.address, expect=2, **host(folder))[1], "taken")


@test("receive: standard output that is full ends it at both ends")
def _(folder):
    make(folder / "x", 100_000)
    with open("/dev/full", "wb") as full, receiver(folder, "-o", "-", stdout=full) as to:
        one_line(skein("send", str(folder / "x"), to.address, expect=1, **host(folder))[1], "space")
        one_line(to.finish(1)[1], "standard output", "space")


# --- a terminal

@test("send: progress is shown on a terminal, and only there")
def _(folder):
    terminal, inner = pty.openpty()
    shown = []
    reader = threading.Thread(target=lambda: read_all(terminal, shown))
    with receiver(folder) as to, Running(folder, "send", "--name", "x", "-", to.address, stderr=inner) as sender:
        os.close(inner)
        reader.start()
        for _ in range(3):
            sender.process.stdin.write(b"x" * 300_000)
            sender.process.stdin.flush()
            time.sleep(0.3)
        sender.finish(0, b"")
        assert to.finish()[1] == ""
    reader.join(60)
    os.close(terminal)
    text = b"".join(shown).decode()
    assert "K  " in text and "/s" in text and text.endswith("\r\x1b[K"), text


def read_all(terminal, shown):
    try:
        while part := os.read(terminal, 4096):
            shown.append(part)
    except OSError:  # the last one has closed the terminal
        pass
