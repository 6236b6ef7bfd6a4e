#!/usr/bin/env python3
"""Runs the stages of the tests, one after the other, and prints a table of them at the end.

test.py [--short | --programs] [STAGE ...]

A stage that fails doesn't stop the later ones; the exit status is 1 if anything failed. The whole output
of each stage is printed, and kept in build/test/.
"""

import argparse
import dataclasses
import os
import pathlib
import re
import signal
import shutil
import subprocess
import sys
import tempfile
import time

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
LOGS = CHECKOUT / "build" / "test"
COUNT = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.MULTILINE)


def libraries():
    """Those that the sources here are to make."""
    made = {"libskein-preload.so": "SkeinPreload", "libskein.so": "SkeinLibrary"}
    return [f"build/lib/{name}" for name, module in made.items() if (CHECKOUT / "Sources" / module).exists()]


@dataclasses.dataclass
class Stage:
    name: str
    command: list
    limit: int  # seconds, against hanging
    needs: str = ""  # a file of the checkout; without it the stage is left out
    groups: tuple = ("test",)


STAGES = [
    Stage("lint", ["make", "--no-print-directory", "lint"], 300),
    Stage("build", ["make", "--no-print-directory", "--keep-going", "build"], 1200, groups=("test", "check")),
    Stage("symbols", ["scripts/symbols.sh", *libraries()], 60),
    Stage("contract-tcp", ["scripts/contract.py", "--face", "tcp"], 600),
    Stage("contract-preload", ["scripts/contract.py"], 900),
    Stage("contract-stp", ["scripts/contract.py", "--face", "stp"], 900),
    Stage("contract-swift", ["scripts/contract.py", "--face", "swift"], 900),
    Stage("contract-linked", ["scripts/contract.py", "--face", "linked"], 600),
    Stage("contract-short", ["scripts/contract.py", "--short"], 200, groups=("check",)),
    Stage("stp-short", ["scripts/contract.py", "--face", "stp", "--short"], 200, groups=("check",)),
    Stage("swift-short", ["scripts/contract.py", "--face", "swift", "--short"], 200, groups=("check",)),
    Stage("commands", ["python3", "Tests/Commands/commands.py"], 600, "Tests/Commands/commands.py", ("test", "check")),
    Stage("transfer", ["Tests/Transfer/run.sh"], 300, groups=("test", "check")),
    Stage("stp", ["Tests/Library/run.sh"], 600, "Tests/Library/run.sh"),
    Stage("swift", ["Tests/Swift/run.sh"], 300, groups=("test", "check")),
    Stage("processes", ["python3", "Tests/Processes/processes.py"], 600, "Tests/Processes/processes.py", ("test", "check")),
    Stage("hostile", ["python3", "Tests/Hostile/hostile.py"], 600),
    Stage("fuzz", ["python3", "Tests/Fuzz/fuzz.py", "--seconds", "8"], 900),
    Stage("stress", ["python3", "Tests/Stress/stress.py"], 900),
    Stage("crash", ["python3", "Tests/Crash/crash.py"], 900),
    Stage("scale", ["python3", "Tests/Scale/scale.py"], 600),
    Stage("kill", ["Tests/Kill/run.sh"], 600, "Tests/Kill/run.sh"),
    Stage("table", ["python3", "Tests/Table/table.py"], 900, "Tests/Table/table.py"),
    Stage("medium", ["Tests/Medium/run.sh"], 600, groups=("test", "check")),
    Stage("conduit", ["Tests/Conduit/run.sh"], 600, groups=("test", "check")),
    Stage("conduit-simulator", ["Tests/ConduitSimulator/run.sh"], 600),
    Stage("conduit-short", ["Tests/ConduitSimulator/run.sh", "--short"], 600, groups=("check",)),
    Stage("simulator", ["Tests/Simulator/run.sh"], 900),
    Stage("simulator-short", ["Tests/Simulator/run.sh", "--short"], 300, groups=("check",)),
    Stage("seal", ["Tests/Medium/run.sh", "seal"], 1200),
    Stage("device", ["Tests/Device/run.sh"], 300, groups=("test", "check")),
    Stage("agent", ["python3", "Tests/Agent/agent.py"], 300),
    Stage("export", ["python3", "Tests/Export/export.py"], 300, groups=("test", "check")),
    Stage("recipes", ["python3", "Tests/Recipes/recipes.py"], 300, "Tests/Recipes/recipes.py"),
    Stage("demo", ["Tests/demo/demo.sh"], 120),
    Stage("install", ["scripts/install-test.sh"], 120),
    Stage("models", ["Tests/Models/check.sh"], 900),
    Stage("programs", ["python3", "Tests/Programs/run.py"], 1800, groups=("programs",)),
    Stage("export-foreign", ["python3", "Tests/Export/export.py", "--foreign"], 600, groups=("programs",)),
    Stage("export-next", ["python3", "Tests/Export/export.py", "--next"], 1200, groups=()),
    Stage("vm", ["python3", "Tests/VM/vm.py"], 600, groups=()),
    Stage("cpython", ["python3", "Tests/Programs/cpython.py"], 3600, groups=("programs",)),
    Stage("package", ["python3", "Tests/Package/package.py"], 900, groups=("programs",)),
    Stage("benchmarks", ["python3", "Benchmarks/bench.py", "--smoke"], 900, groups=("programs",)),
    Stage("disk-bench", ["python3", "Benchmarks/disk.py", "--smoke"], 300, groups=("programs",)),
    Stage("export-bench", ["python3", "Benchmarks/export.py", "--smoke"], 600, groups=("programs",)),
]


@dataclasses.dataclass
class Result:
    name: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    note: str = ""


def main():
    options = parse()
    # A shell's background job begins with SIGINT ignored, and so would the programs to which tests send one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(CHECKOUT)
    LOGS.mkdir(parents=True, exist_ok=True)
    group = "programs" if options.programs else "check" if options.short else "test"
    chosen = [stage for stage in STAGES
              if (stage.name in options.stages if options.stages else group in stage.groups)]
    if unknown := set(options.stages) - {stage.name for stage in STAGES}:
        sys.exit(f"no stage '{unknown.pop()}': {' '.join(stage.name for stage in STAGES)}")
    results = [run(stage) for stage in chosen]
    return print_table(results)


def run(stage):
    if stage.needs and not pathlib.Path(stage.needs).exists():
        return Result(stage.name, 0, 0, 0, 0, f"left out: there is no {stage.needs} yet")
    print(f"--- {stage.name}", flush=True)
    log = LOGS / f"{stage.name}.log"
    start = time.monotonic()
    ending = run_logged(stage, log)
    seconds = time.monotonic() - start
    return judge(stage, ending, log.read_text(errors="replace"), seconds)


def run_logged(stage, log):
    """Runs the command in a session of its own, shows what it prints. Returns its exit status, or None."""
    # A runtime folder of our own: the tests neither see nor touch the machine's.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="skein-test-"))
    environment = os.environ | {"SKEIN_DIR": str(folder)}
    environment.pop("MAKEFLAGS", None)  # an outer make's job server is not for ours
    shown = 0
    try:
        with open(log, "wb") as output:
            try:
                process = subprocess.Popen(stage.command, stdout=output, stderr=subprocess.STDOUT,
                                           stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
            except OSError as error:
                output.write(f"{stage.command[0]}: {error.strerror}\n".encode())
                return 127
            deadline = time.monotonic() + stage.limit
            try:
                while process.poll() is None and time.monotonic() < deadline:
                    shown = show(log, shown)
                    time.sleep(0.05)
                return process.poll()
            finally:
                # What a stage leaves behind, or what hangs, ends with it.
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
    finally:
        show(log, shown)
        shutil.rmtree(folder, ignore_errors=True)


def show(log, shown):
    with open(log, "rb") as file:
        file.seek(shown)
        new = file.read()
    sys.stdout.buffer.write(new)
    sys.stdout.buffer.flush()
    return shown + len(new)


def judge(stage, ending, text, seconds):
    """The counts of a stage: its own last line, else its `ok` and `not ok` lines, else how it ended."""
    counts = COUNT.findall(text)
    if counts:
        passed, failed, skipped = (int(number or 0) for number in counts[-1])
    else:
        verdicts = [line.split(" - ", 1)[0] for line in text.splitlines() if " - " in line]
        passed, failed, skipped = (verdicts.count(word) for word in ("ok", "not ok", "skip"))
    note = ""
    if ending is None:
        note = f"not done after {stage.limit} s"
    elif ending != 0:
        note = f"ended with {ending}"
    if note and not failed:
        failed = 1
    if not note and passed + failed + skipped == 0:
        passed = 1
    return Result(stage.name, passed, failed, skipped, seconds, note)


def print_table(results):
    print(f"\n{'stage':<18} {'seconds':>8} {'passed':>7} {'failed':>7} {'skipped':>8}")
    for result in results:
        print(f"{result.name:<18} {result.seconds:>8.1f} {result.passed:>7} {result.failed:>7} "
              f"{result.skipped:>8}  {result.note}".rstrip())
    passed = sum(result.passed for result in results)
    failed = sum(result.failed for result in results)
    print(f"{'all':<18} {sum(result.seconds for result in results):>8.1f}\n")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--short", action="store_true", help="what make check runs")
    which.add_argument("--programs", action="store_true", help="what make test-programs runs")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="only these")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
