#!/usr/bin/env python3
"""A peer that writes anything into the memory it shares, at any time: its victim must come to no harm.

Usage: Tests/Hostile/hostile.py [--seconds 60] [--seed N]

First the cases that were found (cases.c), then rounds by seed: a victim under the preload library, built with and
without the address sanitizer, as server and as client, and an attacker that now and then is killed. The seed of a
round that fails is printed; `--seed N --seconds 1` is that round again.
"""

import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
PRELOAD = CHECKOUT / "build/lib/libskein-preload.so"
BUILT = CHECKOUT / "build/tests/hostile"
ROUND = 5.0  # seconds
WATCHDOG = 120

PROGRAMS = {
    "cases": ("cases.c", "peer.c"),
    "attacker": ("attacker.c", "malice.c", "peer.c"),
    "victim": ("victim.c", "peer.c"),
    "victim-asan": ("victim.c", "peer.c"),
}
SANITIZED = ["-O1", "-g", "-fsanitize=address", "-static-libasan"]
# The preload library comes before everything; what the library keeps for good is no leak.
ASAN_OPTIONS = "verify_asan_link_order=0:detect_leaks=0:abort_on_error=1"


def build():
    BUILT.mkdir(parents=True, exist_ok=True)
    for name, sources in PROGRAMS.items():
        how = SANITIZED if name.endswith("-asan") else ["-O2"]
        subprocess.run(["gcc", "-std=gnu11", *how, "-Wall", "-Wextra", "-pthread", "-o", BUILT / name,
                        *(HERE / source for source in sources)], check=True)


class Round:
    """One victim and one attacker after the other."""

    def __init__(self, seed, folder):
        self.seed, self.dice, self.folder = seed, random.Random(seed), folder
        self.name = self.dice.choice(["victim", "victim-asan"])
        self.serves = self.dice.random() < 0.6
        self.connections = 0
        self.environment = os.environ | {"SKEIN_DIR": str(folder), "ASAN_OPTIONS": ASAN_OPTIONS}

    def __str__(self):
        return f"seed {self.seed}: {self.name} as {'server' if self.serves else 'client'}"

    def run(self):
        """None, or what went wrong."""
        end = time.monotonic() + ROUND
        if self.serves:
            victim = self.start_victim("server")
            words = victim.stdout.readline().split()
            if len(words) != 3:
                return self.end_of(victim)
            problem = self.attack(["client", words[2], words[1]], end)
        else:
            attacker = self.start_attacker(["server"], ROUND)
            victim = self.start_victim("client", attacker.stdout.readline().split()[1])
            if self.dice.random() < 0.5:
                time.sleep(self.dice.random() * ROUND)
                attacker.kill()
            problem = self.judge(attacker)
        return problem or self.end_of(victim)

    def attack(self, words, end):
        while time.monotonic() < end:
            attacker = self.start_attacker(words, max(end - time.monotonic(), 0.2))
            if self.dice.random() < 0.5:
                time.sleep(self.dice.random() * ROUND / 2)
                attacker.kill()
            if problem := self.judge(attacker):
                return problem
        return None

    def start_victim(self, *words):
        return subprocess.Popen([BUILT / self.name, *words, str(self.seed), str(ROUND)], text=True,
                                env=self.environment | {"LD_PRELOAD": str(PRELOAD)},
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def start_attacker(self, words, seconds):
        return subprocess.Popen([BUILT / "attacker", *words, str(self.dice.randrange(1 << 60)), f"{seconds:.2f}"],
                                text=True, stdout=subprocess.PIPE, env=self.environment)

    def judge(self, attacker):
        output, _ = attacker.communicate(timeout=WATCHDOG)
        self.connections += sum(int(line.split()[0]) for line in output.splitlines() if line.endswith(" connections"))
        return None if attacker.returncode in (0, -9) else output.strip() or f"the attacker ended with {attacker.returncode}"

    def end_of(self, victim):
        try:
            output, _ = victim.communicate(timeout=WATCHDOG)
        except subprocess.TimeoutExpired:
            victim.kill()
            victim.communicate()
            return "the victim hangs"
        return None if victim.returncode == 0 else f"the victim ended with {victim.returncode}: {output.strip()[-3000:]}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, help="of the first round; by the clock where none is given")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int(time.time())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="skein-hostile-"))
    build()
    cases = subprocess.run([BUILT / "cases"], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=900, env=os.environ | {"SKEIN_DIR": str(folder), "LD_PRELOAD": str(PRELOAD)})
    found = cases.stdout.rstrip().splitlines()
    print("\n".join(found[:-1]))
    passed, failed = (int(word) for word in found[-1].replace(",", "").split()[::2])
    problems, rounds, connections = [], 0, 0
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        one = Round(seed + rounds, folder)
        if problem := one.run():
            problems.append(problem)
            print(f"not ok - {one}: {problem}", flush=True)
        connections += one.connections
        rounds += 1
    shutil.rmtree(folder, ignore_errors=True)
    last = f"seeds {seed} to {seed + rounds - 1}"
    checks = [(not problems, f"{rounds} rounds of attack did no harm ({last})"),
              # One that is killed tells no number.
              (connections > 0 or rounds < 4, f"the attackers had {connections} connections and more")]
    for good, sentence in checks:
        print(f"{'ok' if good else 'not ok'} - {sentence}")
        passed, failed = passed + good, failed + (not good)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
