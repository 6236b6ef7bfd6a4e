"""Clients that nobody here wrote: libnbd, qemu, fio."""

import json
import os
import pathlib
import shutil
import signal
import subprocess

from certificates import CLIENT, Authority
from harness import SKEIN, Skip, test
from running import host, until
from server import SIZE, Scratch, image, secure_server, server, sparse

LIMIT = 120
PYTHON = "/usr/bin/python3"  # Debian's own, which has libnbd


def run(*words, expect=0, **options):
    """A program to its end; its output."""
    if not shutil.which(str(words[0])):
        raise Skip(f"{words[0]} isn't installed: Tests/Programs/install.sh")
    result = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            timeout=LIMIT, text=True, **options)
    assert result.returncode == expect, f"{words} ended with {result.returncode}: {result.stdout[-2000:]}"
    return result.stdout


def uri(running, name="disk"):
    return running.uri.replace("nbd+unix:///", f"nbd+unix:///{name}") if "unix" in running.uri else f"{running.uri}/{name}"


def shell(running, script, name="disk"):
    """A script of libnbd's, with `h` connected and able to all that it knows."""
    prologue = f"""
import nbd
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.connect_uri({uri(running, name)!r})
def fails(code, call, *words, **named):
    try:
        call(*words, **named)
    except nbd.Error as error:
        assert error.errno == code, (error.errno, error)
    else:
        raise AssertionError("it didn't fail")
"""
    return run(PYTHON, "-c", prologue + script)


# --- libnbd


@test("foreign: nbdinfo tells what the server offers, of one and of all")
def _(folder):
    with server(folder, f"disk={image(folder)}", "other=memory:1M") as running:
        info = json.loads(run("nbdinfo", "--json", uri(running)))
        assert info["protocol"] == "newstyle-fixed" and info["structured"]
        export = info["exports"][0]
        assert export["export-size"] == SIZE and export["contexts"] == ["base:allocation"]
        for ability in "can_cache can_df can_fast_zero can_flush can_fua can_multi_conn can_trim can_zero".split():
            assert export[ability], ability
        assert not export["is_read_only"] and not export["is_rotational"]
        names = [each["export-name"] for each in json.loads(run("nbdinfo", "--list", "--json", running.uri))["exports"]]
        assert names == ["disk", "other"]


@test("foreign: nbdcopy there and back, on disk and on tmpfs, over Unix and TCP, by several connections")
def _(folder):
    with Scratch(prefix="skein-export-", dir="/dev/shm") as memory:
        source = image(folder, 24 << 20, name="source")
        for place in (folder, memory):
            path = sparse(pathlib.Path(place), 24 << 20, name="target")
            for unix in (True, False):
                with server(folder, f"disk={path}", unix=unix) as running:
                    run("nbdcopy", "--flush", "--connections=4", source, uri(running))
                    run("nbdcopy", "--connections=4", uri(running), folder / "back")
                assert (folder / "back").read_bytes() == source.read_bytes() == path.read_bytes()


@test("foreign: nbdcopy and nbdinfo --map see the holes of a sparse file")
def _(folder):
    path = sparse(folder, 32 << 20, (1 << 20, 1 << 20), (8 << 20, 65536))
    with server(folder, f"disk={path}") as running:
        extents = [(entry["offset"], entry["length"], entry["type"])
                   for entry in json.loads(run("nbdinfo", "--map", "--json", uri(running)))]
        assert extents == [(0, 1 << 20, 3), (1 << 20, 1 << 20, 0), (2 << 20, 6 << 20, 3), (8 << 20, 65536, 0),
                           ((8 << 20) + 65536, (24 << 20) - 65536, 3)], extents
        run("nbdcopy", uri(running), folder / "back")
    assert (folder / "back").read_bytes() == path.read_bytes()


@test("foreign: libnbd walks every command with its flags and errors")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running:
        shell(running, f"""
size = {SIZE}
h.set_strict_mode(0)
assert h.get_size() == size and h.can_multi_conn() and h.get_structured_replies_negotiated()
h.pwrite(b"x" * 70000, 5, nbd.CMD_FLAG_FUA)
assert h.pread(70000, 5) == b"x" * 70000
h.flush()
h.trim(4096, 0)
h.cache(4096, 0)
h.zero(8192, 4096, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(8192, 4096, nbd.CMD_FLAG_DF) == bytes(8192)
parts = []
h.pread_structured(size, 0, lambda data, offset, status, error: parts.append((offset, len(data))))
assert sum(length for _, length in parts) == size
extents = []
h.block_status(size, 0, lambda context, offset, entries, error: extents.extend(entries))
assert sum(extents[::2]) == size
h.block_status(size, 0, lambda context, offset, entries, error: extents.append(len(entries)), nbd.CMD_FLAG_REQ_ONE)
assert extents[-1] == 2
fails("EINVAL", h.pread, 512, size)
fails("ENOSPC", h.pwrite, b"x" * 512, size)
fails("EINVAL", h.trim, 512, size)
fails("ENOSPC", h.zero, 512, size)
fails("EINVAL", h.cache, 512, size)
fails("EINVAL", h.pread, 512, 0, 1 << 9)
assert h.pread(4096, 4096) == bytes(4096)
h.shutdown()
""")


@test("foreign: libnbd negotiates option by option, in opt mode")
def _(folder):
    with server(folder, f"disk={image(folder)}", "other=memory:4M") as running:
        path = running.uri.split("socket=")[1]
        run(PYTHON, "-c", f"""
import nbd
h = nbd.NBD()
h.set_opt_mode(True)
h.connect_unix({path!r})
names = []
assert h.opt_list(lambda name, description: names.append(name)) == 2
assert names == ["disk", "other"]
h.set_export_name("nothing")
try:
    h.opt_go()
    raise SystemExit("an export that isn't there")
except nbd.Error as error:
    assert error.errno == "ENOENT", error
h.set_export_name("other")
h.add_meta_context("base:allocation")
found = []
assert h.opt_list_meta_context(lambda name: found.append(name)) == 1 and found == ["base:allocation"]
h.opt_info()
assert h.get_size() == 4 << 20 and h.get_block_size(nbd.SIZE_MAXIMUM) >= 32 << 20
h.opt_go()
assert h.pread(512, 0) == bytes(512)
h.shutdown()
h = nbd.NBD()
h.set_opt_mode(True)
h.connect_unix({path!r})
h.opt_abort()
""")


@test("foreign: under skein run, nbdcopy and the server of a TCP address meet in memory")
def _(folder):
    source, target = image(folder, 8 << 20, name="source"), sparse(folder, 8 << 20, name="target")
    environment = host(folder)
    server = subprocess.Popen([SKEIN, "run", SKEIN, "export", f"disk={target}", "--listen", "nbd://127.0.0.1:0"],
                              stdout=subprocess.PIPE, text=True, env=environment)
    try:
        address = server.stdout.readline().split()[1]
        run(SKEIN, "run", "nbdcopy", "--flush", source, f"{address}/disk", env=environment)
        run(SKEIN, "run", "nbdcopy", f"{address}/disk", folder / "back", env=environment)
    finally:
        server.terminate()
        assert server.wait(LIMIT) == 0
    assert (folder / "back").read_bytes() == source.read_bytes() == target.read_bytes()
    totals = json.loads(run(SKEIN, "ls", "--json", env=environment))["totals"]
    assert totals["memory_bytes_in"] >= 16 << 20, totals


# --- qemu


@test("foreign: qemu-img converts, compares, measures and maps")
def _(folder):
    path = sparse(folder, 16 << 20, (1 << 20, 2 << 20))
    with server(folder, f"disk={path}", "copy=memory:16M") as running:
        one, two = uri(running), uri(running, "copy")
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", one, two)
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", one, two)
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", one, folder / "copy.qcow2")
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", one, folder / "copy.qcow2")
        found = json.loads(run("qemu-img", "map", "--output=json", "-f", "raw", one))
        assert [(entry["start"], entry["data"]) for entry in found] == [(0, False), (1 << 20, True), (3 << 20, False)], found
        run("qemu-io", "-f", "raw", "-c", "write -P 7 0 4k", two)
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", one, two, expect=1)


@test("foreign: qemu-io's patterns, with discards, zeroes and flushes between")
def _(folder):
    with server(folder, f"disk={image(folder, 8 << 20)}") as running:
        commands = ["write -P 1 0 1M", "write -P 2 512k 64k", "read -P 1 0 512k", "read -P 2 512k 64k", "read -P 1 576k 448k",
                    "write -z 100k 8k", "read -P 0 100k 8k", "write -z -u 1M 1M", "read -P 0 1M 1M", "write -f -P 3 4M 4k",
                    "read -P 3 4M 4k", "aio_write -P 4 5M 1M", "aio_write -P 5 6M 1M", "aio_flush", "flush", "read -P 4 5M 1M",
                    "read -P 5 6M 1M", "discard 5M 1M", "read -P 5 6M 1M"]
        out = run("qemu-io", "-f", "raw", "-t", "none", *[word for command in commands for word in ("-c", command)], uri(running))
        assert "failed" not in out and "error" not in out.lower(), out


# --- fio


FIO = ["--ioengine=nbd", "--bs=4k-64k", "--iodepth=32", "--verify=crc32c", "--verify_fatal=1", "--randrepeat=0", "--minimal"]


@test("foreign: fio with verify at depth 32 over 4 connections, on disk and on tmpfs")
def _(folder):
    with Scratch(prefix="skein-export-", dir="/dev/shm") as memory:
        for place in (folder, memory):
            path = sparse(pathlib.Path(place), 64 << 20)
            with server(folder, f"disk={path}", options=["--workers", "2"]) as running:
                jobs = [word for number in range(4) for word in
                        (f"--name=job{number}", f"--offset={number * 16}M", "--size=16M", "--rw=randwrite", *FIO,
                         f"--uri={uri(running)}")]
                run("fio", "--thread", *jobs, cwd=folder)


@test("foreign: fio clients killed in the middle leave the others and the server as they were")
def _(folder):
    path = sparse(folder, 64 << 20)
    with server(folder, f"disk={path}", options=["--workers", "2"]) as running:
        victim = subprocess.Popen(["fio", "--name=victim", "--rw=randrw", "--size=32M", "--time_based", "--runtime=60",
                                   *FIO[:3], f"--uri={uri(running)}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
                                  start_new_session=True)
        try:
            until(lambda: path.stat().st_blocks > 0, "the victim writes")
            survivor = subprocess.Popen(["fio", "--name=survivor", "--rw=randwrite", "--offset=32M", "--size=32M",
                                         *FIO, f"--uri={uri(running)}"], stdout=subprocess.PIPE, text=True, cwd=folder)
        finally:
            os.killpg(victim.pid, signal.SIGKILL)
            victim.wait()
        out, _ = survivor.communicate(timeout=LIMIT)
        assert survivor.returncode == 0, out
        with running.client() as client:
            assert client.go("disk").ping()


# --- TLS


@test("foreign: libnbd and qemu by TLS with certificates of both sides; without one they are refused")
def _(folder):
    authority = Authority(folder)
    authority.sign("client", CLIENT)
    copied = folder / "copied.img"
    with secure_server(folder, options=["--tls-verify-peer"], authority=authority, unix=False) as running:
        there = running.uri.replace("127.0.0.1", "localhost") + "/disk"
        secure = f"{there}?tls-certificates={authority.folder}"
        assert '"TLS": true' in run("nbdinfo", "--json", secure)
        run("nbdcopy", secure, copied)
        assert copied.read_bytes() == (folder / "disk.img").read_bytes()
        run("nbdinfo", there.replace("nbds:", "nbd:"), expect=1)
        stranger = Authority(folder, "stranger")
        stranger.sign("client", CLIENT)
        (stranger.folder / "ca-cert.pem").write_bytes(authority.certificate.read_bytes())
        run("nbdinfo", f"{there}?tls-certificates={stranger.folder}", expect=1)
        credentials = f"tls-creds-x509,id=tls,dir={authority.folder},endpoint=client"
        image_options = f"driver=nbd,host=localhost,port={running.port},export=disk,tls-creds=tls"
        run("qemu-img", "compare", "--object", credentials, "--image-opts", image_options,
            f"driver=raw,file.filename={copied}")


@test("foreign: libnbd and qemu by TLS with a key that both sides have; another key is refused")
def _(folder):
    keys = folder / "keys.psk"
    keys.write_text(f"alice:{'5a' * 32}\nbob:{'a5' * 32}\n")
    wrong = folder / "wrong.psk"
    wrong.write_text(f"alice:{'00' * 32}\n")
    copied = folder / "copied.img"
    with server(folder, f"disk={image(folder)}", "bobs=memory:1M", unix=False,
                options=["--tls-psk", keys, "--allow", "bobs=key:bob"]) as running:
        there = running.uri.replace("127.0.0.1", "alice@localhost") + "/disk"
        run("nbdcopy", f"{there}?tls-psk-file={keys}", copied)
        assert copied.read_bytes() == (folder / "disk.img").read_bytes()
        run("nbdinfo", f"{there}?tls-psk-file={wrong}", expect=1)
        bobs = running.uri + f"/bobs?tls-psk-file={keys}"
        run("nbdinfo", bobs.replace("127.0.0.1", "alice@localhost"), expect=1)
        run("nbdinfo", bobs.replace("127.0.0.1", "bob@localhost"))
        for_qemu = folder / "qemu"
        for_qemu.mkdir()
        (for_qemu / "keys.psk").write_bytes(keys.read_bytes())
        credentials = f"tls-creds-psk,id=tls,dir={for_qemu},endpoint=client,username=bob"
        run("qemu-img", "compare", "--object", credentials, "--image-opts",
            f"driver=nbd,host=localhost,port={running.port},export=disk,tls-creds=tls", f"driver=raw,file.filename={copied}")
