#!/usr/bin/env python3
"""The core under threads of one process, with the thread sanitizer and with the address sanitizer.

Usage: Tests/Stress/stress.py [--seeds 2] [--seed N]
"""

import argparse
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
CORE = sorted((CHECKOUT / "Sources/SkeinCore").glob("*.swift"))
SYSTEM = CHECKOUT / "Sources/CSystem"
OPTIONS = {
    "thread": {"TSAN_OPTIONS": f"suppressions={HERE / 'suppressions.txt'} exitcode=66"},
    "address": {"ASAN_OPTIONS": "detect_leaks=0"},
}


def build(sanitizer):
    """The program; what is linked must be of the same kind as the rest."""
    folder = CHECKOUT / "build/stress" / sanitizer
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "stress"
    sources = [*CORE, *sorted(HERE.glob("*.swift")), SYSTEM / "thread.c", SYSTEM / "include/system.h"]
    if made.exists() and all(made.stat().st_mtime > source.stat().st_mtime for source in sources):
        return made
    # Exclusivity is not checked in the libraries either, which have no runtime that could.
    swiftc = ["swiftc", "-O", "-g", f"-sanitize={sanitizer}", "-enforce-exclusivity=unchecked", "-swift-version", "6",
              "-package-name", "skein", "-Xcc", "-D_GNU_SOURCE", "-I", SYSTEM / "include", "-I", folder, "-wmo"]
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-O2", "-c", SYSTEM / "thread.c", "-o", folder / "thread.o"], check=True)
    subprocess.run([*swiftc, "-parse-as-library", "-enable-testing", "-module-name", "SkeinCore", "-emit-module",
                    "-emit-module-path", folder / "SkeinCore.swiftmodule", "-c", *CORE, "-o", folder / "core.o"], check=True)
    result = subprocess.run([*swiftc, "-module-name", "Stress", *sorted(HERE.glob("*.swift")), folder / "core.o",
                             folder / "thread.o", "-o", made], stderr=subprocess.PIPE, text=True, cwd=folder)
    if result.returncode != 0:
        # The linker has a word for each of the sanitizer's symbols.
        sys.exit("\n".join(line for line in result.stderr.splitlines() if "Cannot export local symbol" not in line))
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    passed = failed = 0
    for sanitizer, settings in OPTIONS.items():
        program = build(sanitizer)
        for seed in range(options.seed, options.seed + options.seeds):
            found = subprocess.run([program, str(seed)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   errors="replace", env=os.environ | settings | {"SWIFT_BACKTRACE": "enable=no"})
            sentences = [line for line in found.stdout.splitlines() if line.startswith("ok - ")]
            for line in sentences:
                print(f"{line} ({sanitizer} sanitizer, seed {seed})")
            passed += len(sentences)
            if found.returncode != 0:
                failed += 1
                print(f"not ok - seed {seed} with the {sanitizer} sanitizer ended with {found.returncode}: {found.stdout[:6000]}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
