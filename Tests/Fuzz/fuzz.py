#!/usr/bin/env python3
"""libFuzzer, with the address sanitizer, on everything that reads what a stranger wrote.

Usage: Tests/Fuzz/fuzz.py [--seconds 12] [TARGET ...]

--seconds is for each target. A target begins with the inputs in corpus/TARGET, among them those that once made it
fail, and with what is made here. An input that makes it fail is kept in build/fuzz/TARGET/ and named; to look at it:
build/fuzz/TARGET.fuzz FILE. What was new to a target stays in build/fuzz/TARGET/corpus for the next run.
"""

import argparse
import concurrent.futures
import os
import pathlib
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
SOURCES = CHECKOUT / "Sources"
BUILT = CHECKOUT / "build/fuzz"
LISTS = [SOURCES / "skein" / name for name in
         ("List/Table.swift", "List/SocketRecord.swift", "List/Sums.swift", "List/Slot.swift", "System/Bytes.swift",
          "System/File.swift")]
# Target: the sources beside its own.
TARGETS = {
    "Conduit": [],
    "Hello": [],
    "Medium": [],
    "Options": [],
    "Requests": [],
    "Rules": [],
    "Table": LISTS,
    "Totals": LISTS,
    "Transfer": [CHECKOUT / "Tests/Transfer/Ends.swift"],
}
# Target: the module that it is about, where that isn't the core.
MODULES = {"Conduit": "SkeinConduit", "Medium": "SkeinMedium", "Options": "SkeinNBD", "Requests": "SkeinNBD",
           "Transfer": "SkeinTransfer"}
# Exclusivity is not checked in the libraries either, which have no runtime that could.
SWIFTC = ["swiftc", "-O", "-sanitize=fuzzer,address", "-enforce-exclusivity=unchecked", "-parse-as-library", "-swift-version", "6", "-package-name", "skein",
          "-Xcc", "-D_GNU_SOURCE", "-I", SOURCES / "CSystem/include", "-I", SOURCES / "CXXHash", "-I", BUILT]


def newer(made, sources):
    return made.exists() and all(made.stat().st_mtime > source.stat().st_mtime for source in sources)


def module(name, sources):
    """The object of a module of the project, made anew where a source has changed."""
    made = BUILT / f"{name}.o"
    if not newer(made, sources):
        subprocess.run([*SWIFTC, "-wmo", "-enable-testing", "-module-name", name, "-emit-module", "-emit-module-path",
                        BUILT / f"{name}.swiftmodule", "-c", *sources, "-o", made], check=True)
    return made


def build(target):
    made = BUILT / f"{target}.fuzz"
    core = MODULES.get(target, "SkeinCore")
    objects = [module(core, sorted((SOURCES / core).glob("*.swift"))), BUILT / "thread.o"]
    sources = [HERE / "Input.swift", HERE / f"{target}Target.swift", *TARGETS[target]]
    if not newer(made, [*sources, *objects]):
        result = subprocess.run([*SWIFTC, "-wmo", "-module-name", target, *sources, *objects, "-lxxhash", "-o", made],
                                stderr=subprocess.PIPE, text=True)
        # The linker has a word for each of the sanitizer's symbols.
        if result.returncode != 0:
            sys.exit("\n".join(line for line in result.stderr.splitlines() if "Cannot export local symbol" not in line))


def seeds(target):
    """Inputs that reach what noise doesn't."""
    address = struct.pack("<HHIQQI", 2, 80, 0, 0x0100007F, 0, 0)
    client = struct.pack("<HHIQQI", 2, 40000, 0, 0x0100007F, 0, 0)
    hello = struct.pack("<IIiI", 0x4E494B53, 1, 0, 1) + address + bytes(4) + client
    afar = hello.replace(struct.pack("<Q", 0x0100007F), struct.pack("<Q", 0x020012C6))
    number = struct.pack("<Q", 5000)
    message = lambda kind, body: b"SK\x01" + bytes([kind]) + struct.pack("<I", len(body)) + body
    option = lambda kind, body: b"IHAVEOPT" + struct.pack(">II", kind, len(body)) + body
    named = struct.pack(">I", 4) + b"disk"
    haggling = option(8, b"") + option(3, b"") + option(10, named + struct.pack(">II", 1, 15) + b"base:allocation")
    requests = b"".join(struct.pack(">IHHQQI", 0x25609513, 0, command, 1, 4096, 4096) for command in (0, 5, 6, 7, 4))
    extended = struct.pack(">IHHQQQ", 0x21E41C71, 32, 1, 1, 4096, 4096)
    bounds = b"\xff\xff" + bytes(6) + b"\xff" * 8
    # A block as it comes, then frames by their choices: open, data, end, credit; between them calls of programs.
    block = struct.pack("<BBHIIIQQ", 1, 9, 0, 0, 8, 0, 0, 1 << 20) + struct.pack("<BBHIIIQI", 1, 1, 0, 2, 4, 0, 1, 7)
    chosen = b"\3\1\2\0\0" + bytes(4) + b"\2\0\0" + b"\3\4\2\0\xf8" + b"\x14\xff\0" + b"\3\6\2\0\0" + b"\0\xff"
    made = {
        "Conduit": [b"\1" + bytes([len(block)]) + block, chosen, b"\3\1\2\0\0" + bytes(4) + b"\4\0\0" + b"\x06\0\0"],
        "Options": [b"\0\0\0\0\3" + haggling + option(7, named + struct.pack(">HHH", 2, 1, 3)), b"\1\0\0\0\1" + option(5, b"") +
                    option(11, b"") + option(6, named + bytes(2)), b"\2\0\0\0\3" + option(1, b"disk")],
        "Requests": [b"\4" + bounds + b"\x10" + requests, b"\5" + bounds + b"\x10" + requests, b"\6" + bounds + b"\x10" + extended],
        "Hello": [b"\0" + hello, b"\0" + hello + (b"\0" + number + b"\x00\xff") * 8 + (b"\x06" + number + b"\x08\0") * 2,
                  b"\x10" + hello + b"\x02" + number + b"\x04\xff", b"\x40" + afar, b"\x10" + afar],
        "Medium": [b"\0\0" + bytes(40), b"\0\1" + bytes(120 + 24), b"\0\2" + bytes(216),
                   b"\1" + bytes(3000), b"\1" + bytes(60) + b"\3\0\1" * 300],
        "Rules": [b"\0only = 80, 8000-8010, [::1]:80, 10.0.0.0/8\n[program redis*]\nspin = off # no\n\n", b"\x03none",
                  b"\x01any, 1.2.3.4:70000, ::ffff:1.2.3.4", b"\x05yes",
                  b"\xffskein group 1\ngroup lab\nrange 198.18.0.0/15 fd53:6b65:696e::/48\nnumber 0\nhost 0 a\nhost 1 b\n"],
        "Table": [b"\1" + bytes(4096) + struct.pack("<QQIIIIIIIII", 0, 0, 1, 3, 1, 4, 1, 0, 2, 80, 0) + bytes(1000),
                  bytes(9000)],
        "Totals": [bytes(28), bytes(28 + 256)],
        "Transfer": [b"\0" + message(1, b"\xa4\x01" + struct.pack("<Q", 3) + b"file") + message(3, bytes(8)),
                     b"\1" + message(2, bytes(24)) + message(6, b"")],
    }
    return made[target]


def run(target, seconds):
    """None, or what went wrong."""
    folder = BUILT / target
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    kept = HERE / "corpus" / target
    # What the core allocates for good is no leak.
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0", "SWIFT_BACKTRACE": "enable=no", "FUZZ_FOLDER": str(folder)}
    found = subprocess.run(
        [BUILT / f"{target}.fuzz", f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1",
         f"-artifact_prefix={folder}/", corpus, *([kept] if kept.exists() else [])],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment,
        timeout=seconds + 120)
    words = [line.split()[1] for line in found.stdout.splitlines() if line.startswith("stat::number_of_executed_units")]
    runs = int(words[0]) if words else 0
    if found.returncode != 0 or runs == 0:
        return runs, found.stdout[-3000:]
    return runs, None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=" ".join(TARGETS))
    options = parser.parse_args()
    BUILT.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-O2", "-c", SOURCES / "CSystem/thread.c", "-o", BUILT / "thread.o"], check=True)
    failed = 0
    chosen = options.targets or list(TARGETS)
    underway = []
    # One target runs while the next is built.
    with concurrent.futures.ThreadPoolExecutor(1) as runner:
        for target in chosen:
            build(target)
            underway.append((target, runner.submit(run, target, options.seconds)))
    for target, ending in underway:
        runs, problem = ending.result()
        failed += problem is not None
        print(f"{'not ok' if problem else 'ok'} - {target} takes whatever comes ({runs} inputs)" +
              (f": {problem}" if problem else ""), flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
